//! Erasing payloads for good: in memory first, so that nothing is made of them any more, then stored.

use super::{Runtime, Stopped};
use crate::{
    actors::{journal::WriteError, scheduler::Forget},
    domain::{EventId, Millis, ScheduledId, Seq},
    store,
};

/// Events erased in one transaction.
const SLICE: u64 = 200;

/// What was erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erasure {
    pub events: u64,
    /// Delayed emits that were cancelled.
    pub scheduled: u64,
    /// The store's files do not hold them any more either; false while somebody reads the
    /// write-ahead log.
    pub overwritten: bool,
}

/// Why not everything was erased; what was is.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Runtime {
    /// Erases the payload of one event and what was made of it. An event that was erased before is
    /// left as it is.
    pub async fn erase(&self, seq: Seq, uid: EventId) -> Result<Erasure, EraseError> {
        let events = self.erase_slice(&[(seq, uid)]).await?;
        let overwritten = self.store().sweep().await?;
        Ok(Erasure { events, scheduled: 0, overwritten })
    }

    /// Erases everything about a subject: events that were accepted so far, and delayed emits.
    pub async fn erase_subject(&self, subject: &str) -> Result<Erasure, EraseError> {
        let mut erasure = Erasure::default();
        for id in self.emits_about(subject).await? {
            self.journal().cancel(id).await?;
            erasure.scheduled += 1;
        }
        let upto = self.journal().seq();
        loop {
            let slice = self.store().events_of_subject(subject, upto, SLICE).await?;
            if slice.is_empty() {
                break;
            }
            erasure.events += self.erase_slice(&slice).await?;
        }
        erasure.overwritten = self.store().sweep().await?;
        Ok(erasure)
    }

    /// Answers how many of the events were not erased before.
    async fn erase_slice(&self, slice: &[(Seq, EventId)]) -> Result<u64, EraseError> {
        let uids: Vec<EventId> = slice.iter().map(|(_, uid)| *uid).collect();
        let mut seqs: Vec<Seq> = slice.iter().map(|(seq, _)| *seq).collect();
        self.forget(seqs.clone()).await?;
        // What was settled before that is on disk now, and erased there.
        if !self.journal().barrier().await {
            return Err(Stopped.into());
        }
        let erased = self.store().erase(&seqs, Millis::now(), Millis::steady()).await?;
        self.0.addresses.scheduler.do_send(Forget(seqs.clone()));
        // Letters that were being written meanwhile, and the alerts that tell of them.
        let alerts = self.store().alerts_on(&uids).await?;
        self.forget(alerts.clone()).await?;
        seqs.extend(alerts);
        self.journal().barrier().await;
        self.store().erase(&seqs, Millis::now(), Millis::steady()).await?;
        Ok(erased.events)
    }

    /// Copies in memory are not run any more, and what runs on one leaves nothing behind.
    async fn forget(&self, seqs: Vec<Seq>) -> Result<(), Stopped> {
        let forget = move |core: std::rc::Rc<crate::actors::core::Core>, _| {
            core.erased.borrow_mut().extend(seqs);
            core.reader.forget();
            for slot in core.slots.borrow().values() {
                // It may quote a payload.
                slot.tally.borrow_mut().last_error = None;
            }
            for slot in core.busy.borrow().iter() {
                if let Some(handle) = slot.handle.borrow().as_ref() {
                    handle.wake();
                }
            }
            Box::pin(std::future::ready(())) as futures::future::LocalBoxFuture<'static, ()>
        };
        self.0.core.call(forget).await
    }

    async fn emits_about(&self, subject: &str) -> Result<Vec<ScheduledId>, EraseError> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.store().scheduled().waiting(after, 1_000).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = Some((last.due_at, last.id));
            let about = |event: &crate::domain::NewEvent| {
                event.envelope.subject.as_deref() == Some(subject)
            };
            found.extend(page.iter().filter(|emit| about(&emit.event)).map(|emit| emit.id));
        }
    }
}
