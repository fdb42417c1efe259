//! The journal: the only way into the log.
//!
//! [`Journal`] is the handle: publishers and actors submit requests from any thread. The writer
//! (a thread of its own, `writer.rs`) commits them in groups and tells [`JournalActor`], which
//! passes on what was committed: events and changes to the router, rows to the scheduler, dying
//! deliveries to the dead letters, everything to the live feed.
//!
//! Receives `Told`. Bound: publishes wait in 64 MiB at most (`queue.rs`), outcomes
//! in what the subscriptions have in hand.

mod assemble;
mod queue;
mod request;
mod writer;

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use actix::prelude::*;
use tokio::sync::oneshot;

pub(crate) use self::request::{
    Change, ChangeKind, Committed, Cover, Emission, KeyChanges, KeyWrites, Publish, Request,
    RowChange, Settlement, Told,
};
#[cfg(not(test))]
use self::writer::{Surroundings, Writer};
#[cfg(test)]
pub(crate) use self::{
    assemble::Now,
    writer::{Surroundings, Writer},
};
pub use self::{
    queue::Intake,
    request::{Accepted, Incoming, PublishError, WriteError},
    writer::Position,
};
use self::{queue::Queue, writer::Instruments};
use crate::{
    domain::{NewEvent, ScheduledId, Seq, SubscriptionId, settle::Watermark},
    store::journal::{JournalState, JournalStore},
};

/// How often a publisher that waits looks whether the store fails meanwhile.
const LOOK: Duration = Duration::from_millis(250);
/// A publisher waits no longer than this for a store that neither fails nor answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// The way in. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Journal {
    queue: Arc<Queue>,
    position: Arc<Position>,
    /// `limits.backlog`, in events.
    backlog_max: u64,
    /// Events that running subscriptions have not settled; kept by the router.
    backlog: Arc<std::sync::atomic::AtomicU64>,
    /// Somebody takes alert events; kept by the supervisor.
    alerts: Arc<std::sync::atomic::AtomicBool>,
}

impl Journal {
    /// A journal without its writer yet: requests queue up until [`Journal::start`].
    pub(crate) fn new(backlog_max: u64) -> Self {
        Self {
            queue: Arc::new(Queue::new()),
            position: Arc::new(Position::default()),
            backlog_max,
            backlog: Arc::default(),
            alerts: Arc::default(),
        }
    }

    /// Starts the writer on `store`, which has been claimed in `state`. Keys of deduplication live
    /// for `dedup` at least; `None`: for ever.
    pub(crate) fn start(
        &self,
        store: Box<dyn JournalStore>,
        state: JournalState,
        dedup: Option<std::time::Duration>,
        told: Recipient<Told>,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        self.position.seq.store(state.seq.0, Relaxed);
        self.position.watermark.store(state.watermark.0, Relaxed);
        self.position.batch.store(state.batch, Relaxed);
        let writer = Writer {
            store,
            queue: Arc::clone(&self.queue),
            position: Arc::clone(&self.position),
            watermark: Watermark::at(state.watermark),
            arrivals: std::collections::VecDeque::new(),
            recovering: (state.unclean_stops > 0).then_some(state.seq),
            state,
            dedup,
            alerts: Arc::clone(&self.alerts),
            outage: None,
            outage_told: None,
            surroundings: Surroundings::real(told),
            instruments: Instruments::new(),
        };
        let queue = Arc::clone(&self.queue);
        let run = move || {
            let ended = panic::catch_unwind(AssertUnwindSafe(|| writer.run()));
            if ended.is_err() {
                // Whoever waits is told, and `serve` ends: the next start knows what was written.
                queue.set_intake(Intake::Stopped("the journal's thread panicked".into()));
                queue.stop();
                tracing::error!("the journal's thread panicked");
            }
        };
        std::thread::Builder::new().name("journal".into()).spawn(run)
    }

    /// Accepts events: all of them or none. Returns once they are on disk.
    pub async fn publish(&self, items: Vec<Incoming>) -> Result<Vec<Accepted>, PublishError> {
        let backlog = self.backlog();
        if backlog > self.backlog_max {
            return Err(PublishError::Backlog { backlog, limit: self.backlog_max });
        }
        let weight = items.iter().map(|item| item.event.data.len() + 512).sum();
        let (reply, answer) = oneshot::channel();
        let arrived = std::time::Instant::now();
        let publish = Publish { items, weight, arrived, reply: Some(reply) };
        self.queue.publish(Request::Publish(publish), weight)?;
        self.answered(answer, arrived).await
    }

    /// The writer's answer; or, while a store that fails keeps the writer from giving one, that.
    /// What nobody waits for any more is not written, unless that is under way.
    async fn answered(
        &self,
        mut answer: oneshot::Receiver<Result<Vec<Accepted>, PublishError>>,
        asked: std::time::Instant,
    ) -> Result<Vec<Accepted>, PublishError> {
        loop {
            if let Ok(answer) = tokio::time::timeout(LOOK, &mut answer).await {
                return answer.unwrap_or_else(|_| Err(closed("the journal has stopped")));
            }
            match self.intake() {
                Intake::Open if asked.elapsed() < ANSWER_WITHIN => {}
                Intake::Open => return Err(closed("the store does not answer")),
                Intake::DiskFull => return Err(PublishError::DiskFull),
                Intake::Closed(reason) | Intake::Stopped(reason) => return Err(closed(&reason)),
            }
        }
    }

    /// Changes a subscription; returns the first seq that meets the new state of things.
    pub(crate) async fn change(&self, kind: ChangeKind) -> Result<Seq, WriteError> {
        self.change_and_tell(kind, None).await
    }

    /// The same; `alert` enters the log in the same commit.
    pub(crate) async fn change_and_tell(
        &self,
        kind: ChangeKind,
        alert: Option<NewEvent>,
    ) -> Result<Seq, WriteError> {
        let (reply, answer) = oneshot::channel();
        let alert = alert.map(Box::new);
        self.submit(Request::Change(Change { kind, alert, reply }));
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Writes keys without a run.
    pub(crate) async fn keys(&self, writes: KeyWrites) -> Result<(), WriteError> {
        let (reply, answer) = oneshot::channel();
        self.submit(Request::Keys(KeyChanges { writes, reply }));
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Forgets some keys of deduplication of events that were accepted before `before` and are not
    /// stored any more; returns how many, 0 when nothing was found this time.
    pub(crate) async fn forget(&self, before: crate::domain::Millis) -> Result<u64, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.submit(Request::Forget(before, reply));
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Has the store put its house in order soon: much was removed.
    pub(crate) fn tidy(&self) {
        self.submit(Request::Tidy);
    }

    /// Cancels a delayed emit that is still waiting.
    pub(crate) async fn cancel(&self, id: ScheduledId) -> Result<(), WriteError> {
        let (reply, answer) = oneshot::channel();
        self.submit(Request::Cancel(id, reply));
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Returns once everything that was submitted before is on disk; false if the journal stopped.
    pub(crate) async fn barrier(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.submit(Request::Barrier(reply));
        answer.await.is_ok()
    }

    /// Suspends a subscription without waiting for the commit: for actors. `alert` enters the log in
    /// the same commit.
    pub(crate) fn suspend(
        &self,
        id: SubscriptionId,
        paused: bool,
        reason: String,
        alert: Option<NewEvent>,
    ) {
        let (reply, _) = oneshot::channel();
        let kind = ChangeKind::State { id, paused, suspended: Some(reason) };
        let alert = alert.map(Box::new);
        self.submit(Request::Change(Change { kind, alert, reply }));
    }

    /// Queues a request. Once the journal has stopped it is dropped: the store still has what
    /// the next start needs to do it again.
    pub(crate) fn submit(&self, request: Request) {
        self.queue.submit(request);
    }

    #[must_use]
    pub fn intake(&self) -> Intake {
        self.queue.intake()
    }

    /// Requests that wait for the writer.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.queue.waiting.load(Relaxed)
    }

    /// Seq of the last event.
    #[must_use]
    pub fn seq(&self) -> Seq {
        Seq(self.position.seq.load(Relaxed))
    }

    /// Up to which event everything is settled or has a row or cursor of its own.
    #[must_use]
    pub fn watermark(&self) -> Seq {
        Seq(self.position.watermark.load(Relaxed))
    }

    /// Commits since the start, and the microseconds they took.
    #[must_use]
    pub fn commits(&self) -> (u64, u64) {
        (self.position.commits.load(Relaxed), self.position.commit_us.load(Relaxed))
    }

    /// Events that running subscriptions have not settled yet.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.backlog.load(Relaxed)
    }

    /// Whether the runtime publishes events of its own now: an active subscription names them.
    pub(crate) fn alerts(&self) -> bool {
        self.alerts.load(Relaxed)
    }

    pub(crate) fn set_alerts(&self, wanted: bool) {
        self.alerts.store(wanted, Relaxed);
    }

    pub(crate) fn set_backlog(&self, events: u64) {
        self.backlog.store(events, Relaxed);
    }

    /// The router has taken events of so many bytes out of its mailbox.
    pub(crate) fn routed_bytes(&self, bytes: u64) {
        self.position.handed_bytes.fetch_sub(bytes, Relaxed);
    }

    /// Takes no more publishes, writes what is queued, and lets the store go.
    pub(crate) fn stop(&self) {
        self.queue.stop();
    }
}

fn closed(reason: &str) -> PublishError {
    PublishError::Closed { reason: reason.into() }
}

fn stopped() -> WriteError {
    WriteError::Closed("the server is shutting down".into())
}

/// Passes on what was committed.
pub(crate) struct JournalActor {
    pub(crate) listeners: Vec<Recipient<Told>>,
}

impl Actor for JournalActor {
    type Context = Context<Self>;
}

impl Handler<Told> for JournalActor {
    type Result = ();

    fn handle(&mut self, told: Told, _: &mut Context<Self>) {
        for listener in &self.listeners {
            // All listeners live on this thread and take one message per commit; the commits
            // themselves are bounded by `ROUTER_BYTES_MAX`.
            listener.do_send(told.clone());
        }
    }
}
