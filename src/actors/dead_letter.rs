//! Dead letters: where a delivery rests once its attempts are spent.
//!
//! Receives `Told` (journal: dying rows), `Nudge` (a bulk operation was created). Sends `Admit`
//! to the scheduler for replays. State: none that matters. Dying rows, letters and bulk operations
//! are rows, so a restart loses nothing and starts where this left off.

use std::{rc::Rc, time::Duration};

use actix::prelude::*;
use tracing::warn;

use super::{core::Core, journal::Told, scheduler::Admit};
use crate::{
    domain::Millis,
    store::{BulkAction, BulkOperation, BulkState, journal::RowStatus},
};

/// Dying rows that become letters in one transaction.
const SLICE: u64 = 256;
/// Letters that a bulk operation takes in one step: small enough to abort soon and to let the
/// journal pass.
const BULK_SLICE: u64 = 100;

/// A bulk operation waits.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Nudge;

pub(crate) struct DeadLetterActor {
    core: Rc<Core>,
    scheduler: Recipient<Admit>,
    /// A slice is being recorded; what dies meanwhile is found by the next one.
    recording: bool,
    again: bool,
    /// A bulk operation is at work.
    bulk: bool,
}

impl DeadLetterActor {
    pub(crate) fn new(core: Rc<Core>, scheduler: Recipient<Admit>) -> Self {
        Self { core, scheduler, recording: false, again: false, bulk: false }
    }

    /// Makes letters of all dying rows, a slice at a time.
    fn record(&mut self, ctx: &mut Context<Self>) {
        if self.recording {
            self.again = true;
            return;
        }
        self.recording = true;
        let store = self.core.store.clone();
        let record = async move {
            let dying = store.deliveries().dying(SLICE).await?;
            if !dying.is_empty() {
                store.letters().record(&dying).await?;
            }
            Ok::<_, crate::store::Error>(dying.len() as u64 == SLICE)
        };
        ctx.spawn(record.into_actor(self).map(|recorded, actor, ctx| {
            actor.recording = false;
            match recorded {
                Ok(more) => {
                    if std::mem::take(&mut actor.again) || more {
                        actor.record(ctx);
                    }
                }
                Err(error) => {
                    warn!(%error, "dying deliveries wait: letters cannot be written yet");
                    ctx.run_later(Duration::from_millis(500), |actor, ctx| actor.record(ctx));
                }
            }
        }));
    }

    /// Works on the oldest unfinished bulk operation, one slice, then looks again.
    fn work(&mut self, ctx: &mut Context<Self>) {
        if self.bulk || self.core.draining.get() {
            return;
        }
        self.bulk = true;
        let (core, scheduler) = (Rc::clone(&self.core), self.scheduler.clone());
        let step = async move { step(&core, &scheduler).await };
        ctx.spawn(step.into_actor(self).map(|step, actor, ctx| {
            actor.bulk = false;
            match step {
                Ok(Some(wait)) => {
                    ctx.run_later(wait, |actor, ctx| actor.work(ctx));
                }
                Ok(None) => {}
                Err(error) => {
                    warn!(%error, "a bulk operation waits for the store");
                    ctx.run_later(Duration::from_millis(500), |actor, ctx| actor.work(ctx));
                }
            }
        }));
    }
}

/// One slice of one operation. `Some`: look again after that long; `None`: nothing is left to do.
async fn step(
    core: &Core,
    scheduler: &Recipient<Admit>,
) -> Result<Option<Duration>, crate::store::Error> {
    let Some(operation) = core.store.bulk().unfinished().await?.into_iter().next() else {
        return Ok(None);
    };
    let started = std::time::Instant::now();
    let slice = operation.rate.map_or(BULK_SLICE, |rate| u64::from(rate).clamp(1, BULK_SLICE));
    let done = slice_of(core, scheduler, &operation, slice).await?;
    if done == 0 {
        core.store.bulk().finish(operation.id, BulkState::Done, Millis::now()).await?;
        return Ok(Some(Duration::ZERO));
    }
    core.store.bulk().progress(operation.id, done).await?;
    let pace = operation.rate.map_or(Duration::ZERO, |rate| {
        Duration::from_secs_f64(done as f64 / f64::from(rate.max(1)))
    });
    Ok(Some(pace.saturating_sub(started.elapsed())))
}

/// How many letters were taken. Letters that died after the operation began are not among them, so
/// none is taken twice.
async fn slice_of(
    core: &Core,
    scheduler: &Recipient<Admit>,
    operation: &BulkOperation,
    limit: u64,
) -> Result<u64, crate::store::Error> {
    let letters = core.store.letters();
    let ids =
        letters.matching(operation.action, &operation.filter, operation.created_at, limit).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    match operation.action {
        BulkAction::Replay { pinned_original } => {
            let rows = letters.start_replays(&ids, pinned_original, operation.id).await?;
            // One message per slice.
            scheduler.do_send(Admit(rows));
        }
        BulkAction::Discard => letters.discard_many(&ids, operation.id).await?,
        BulkAction::Restore => letters.restore_many(&ids).await?,
    }
    Ok(ids.len() as u64)
}

impl Actor for DeadLetterActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.record(ctx);
        self.work(ctx);
    }
}

impl Handler<Told> for DeadLetterActor {
    type Result = ();

    fn handle(&mut self, Told(committed): Told, ctx: &mut Context<Self>) {
        if committed.rows.iter().any(|row| row.status == RowStatus::Dying) {
            self.record(ctx);
        }
    }
}

impl Handler<Nudge> for DeadLetterActor {
    type Result = ();

    fn handle(&mut self, _: Nudge, ctx: &mut Context<Self>) {
        self.work(ctx);
    }
}
