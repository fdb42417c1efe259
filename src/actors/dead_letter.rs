//! Dead letters: where a delivery rests once its attempts are spent.
//!
//! Receives `Told` (journal: dying rows), `Nudge` (a bulk operation was created), `CloseWindow` (the
//! server stops). Sends `Admit` to the scheduler for replays, and `Announce` for alert events. State:
//! how many letters were announced and only counted within the minute (`domain::storm`), at most one
//! entry a subscription; a crash forgets the count. Dying rows, letters, bulk operations and alerts
//! on their way are rows, so a restart loses nothing and starts where this left off.

use std::{cell::Cell, rc::Rc, time::Duration};

use actix::prelude::*;
use tracing::warn;

use super::{
    core::Core,
    journal::Told,
    scheduler::{Admit, Announce, Unsure},
};
use crate::{
    domain::{BulkId, Millis, ScheduledId, alert, storm::Budget},
    store::{
        Announcer, BulkAction, BulkOperation, BulkState, Error, Position,
        journal::{DeliveryRow, RowStatus, Scheduled},
    },
};

/// Dying rows that become letters in one transaction.
const SLICE: u64 = 256;
/// Letters that a bulk operation takes in one step: small enough to abort soon and to let the
/// journal pass.
const BULK_SLICE: u64 = 100;

/// How long letters are counted together; see `domain::storm`.
const WINDOW: Duration = Duration::from_secs(60);

/// A bulk operation waits.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Nudge;

/// Letters that were only counted are told of now. Answered once that is on disk.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CloseWindow;

/// The ways to the scheduler.
#[derive(Clone)]
pub(crate) struct Scheduling {
    pub(crate) admit: Recipient<Admit>,
    pub(crate) announce: Recipient<Announce>,
    pub(crate) unsure: Recipient<Unsure>,
}

impl Scheduling {
    /// A write failed, and may be there all the same: the scheduler looks.
    fn look(&self, error: &Error) {
        if error.is_outage() {
            self.unsure.do_send(Unsure);
        }
    }
}

pub(crate) struct DeadLetterActor {
    core: Rc<Core>,
    scheduler: Scheduling,
    /// What of this window is spent, and when it began.
    budget: Budget,
    window: Option<Millis>,
    /// A slice is being recorded; what dies meanwhile is found by the next one.
    recording: bool,
    again: bool,
    /// A bulk operation is at work.
    bulk: bool,
    /// How far the search of the one at work has come: what it passed does not match, or was taken.
    passed: Rc<Cell<Option<(BulkId, Position)>>>,
}

impl DeadLetterActor {
    pub(crate) fn new(core: Rc<Core>, scheduler: Scheduling) -> Self {
        Self {
            core,
            scheduler,
            budget: Budget::default(),
            window: None,
            recording: false,
            again: false,
            bulk: false,
            passed: Rc::default(),
        }
    }

    /// Makes letters of all dying rows, a slice at a time.
    fn record(&mut self, ctx: &mut Context<Self>) {
        if self.recording {
            self.again = true;
            return;
        }
        self.recording = true;
        let (core, budget) = (Rc::clone(&self.core), self.budget.clone());
        let record = async move { record(&core, budget).await };
        ctx.spawn(record.into_actor(self).map(|recorded, actor, ctx| {
            actor.recording = false;
            match recorded {
                Ok(Recorded { more, spent, alerts }) => {
                    actor.announced(&spent, alerts, ctx);
                    if std::mem::take(&mut actor.again) || more {
                        actor.record(ctx);
                    }
                }
                Err(error) => {
                    warn!(%error, "dying deliveries wait: letters cannot be written yet");
                    actor.scheduler.look(&error);
                    ctx.run_later(Duration::from_millis(500), |actor, ctx| actor.record(ctx));
                }
            }
        }));
    }

    fn announced(&mut self, spent: &Budget, alerts: Vec<Scheduled>, ctx: &mut Context<Self>) {
        if !alerts.is_empty() {
            // One message per slice.
            self.scheduler.announce.do_send(Announce(alerts));
        }
        // While they were recorded the window may have been closed: what they spent counts anew.
        self.budget.add(spent);
        if self.window.is_none() && !self.budget.is_untouched() {
            self.window = Some(Millis::steady());
            ctx.notify_later(CloseWindow, WINDOW);
        }
    }

    /// Works on the oldest unfinished bulk operation, one slice, then looks again.
    fn work(&mut self, ctx: &mut Context<Self>) {
        if self.bulk || self.core.draining.get() {
            return;
        }
        self.bulk = true;
        let (core, scheduler) = (Rc::clone(&self.core), self.scheduler.clone());
        let passed = Rc::clone(&self.passed);
        let step = async move { step(&core, &scheduler, &passed).await };
        ctx.spawn(step.into_actor(self).map(|step, actor, ctx| {
            actor.bulk = false;
            match step {
                Ok(Some(wait)) => {
                    ctx.run_later(wait, |actor, ctx| actor.work(ctx));
                }
                Ok(None) => {}
                Err(error) => {
                    warn!(%error, "a bulk operation waits for the store");
                    actor.scheduler.look(&error);
                    ctx.run_later(Duration::from_millis(500), |actor, ctx| actor.work(ctx));
                }
            }
        }));
    }
}

/// One slice of dying rows that became letters.
struct Recorded {
    /// There may be more.
    more: bool,
    spent: Budget,
    alerts: Vec<Scheduled>,
}

async fn record(core: &Core, budget: Budget) -> Result<Recorded, Error> {
    let dying: Vec<DeliveryRow> = core.store.deliveries().dying(SLICE).await?;
    let more = dying.len() as u64 == SLICE;
    let (spent, max_hops) = (Budget::default(), core.config.limits.max_hops);
    let mut announcer = Announcer { budget, spent, max_hops };
    let letters = core.store.letters();
    let alerts = if dying.is_empty() {
        Vec::new()
    } else if core.journal.alerts() {
        letters.record_and_announce(&dying, &mut announcer).await?
    } else {
        letters.record(&dying).await?;
        Vec::new()
    };
    Ok(Recorded { more, spent: announcer.spent, alerts })
}

/// The letters that were only counted since `from`, as events.
async fn sums(core: &Core, budget: &Budget, from: Millis) -> Result<Vec<Scheduled>, Error> {
    let (untold, now) = (budget.close(), Millis::steady());
    let ids: Vec<_> = untold.iter().filter_map(|(id, _)| *id).collect();
    let names = core.store.subscriptions().names(&ids).await?;
    let sum = |(of, count): (Option<_>, u64)| {
        let id = ScheduledId::fresh();
        let name = of.and_then(|id| names.get(&id)).map_or("", String::as_str);
        let event = alert::suppressed(id, of.map(|id| (id, name)), count, from, now);
        Scheduled::at_once(id, event, now)
    };
    let sums: Vec<Scheduled> = untold.into_iter().map(sum).collect();
    if !sums.is_empty() {
        core.store.scheduled().add(&sums).await?;
    }
    Ok(sums)
}

/// One slice of one operation. `Some`: look again after that long; `None`: nothing is left to do.
async fn step(
    core: &Core,
    scheduler: &Scheduling,
    passed: &Cell<Option<(BulkId, Position)>>,
) -> Result<Option<Duration>, Error> {
    let Some(operation) = core.store.bulk().unfinished().await?.into_iter().next() else {
        return Ok(None);
    };
    let started = std::time::Instant::now();
    let slice = operation.rate.map_or(BULK_SLICE, |rate| u64::from(rate).clamp(1, BULK_SLICE));
    let after = passed.get().filter(|(id, _)| *id == operation.id).map(|(_, at)| at);
    let (done, next) = slice_of(core, scheduler, &operation, after, slice).await?;
    passed.set(next.map(|at| (operation.id, at)));
    if done == 0 && next.is_some() {
        return Ok(Some(Duration::ZERO));
    }
    if done == 0 {
        finish(core, scheduler, &operation).await?;
        return Ok(Some(Duration::ZERO));
    }
    let pace = operation.rate.map_or(Duration::ZERO, |rate| {
        Duration::from_secs_f64(done as f64 / f64::from(rate.max(1)))
    });
    Ok(Some(pace.saturating_sub(started.elapsed())))
}

async fn finish(core: &Core, scheduler: &Scheduling, done: &BulkOperation) -> Result<(), Error> {
    let (now, id) = (Millis::steady(), ScheduledId::fresh());
    let alert = core.journal.alerts().then(|| {
        let action = done.action.as_str();
        let event =
            alert::bulk_finished(done.id, action, done.total, done.done, done.created_at, now);
        Scheduled::at_once(id, event, now)
    });
    let bulk = core.store.bulk();
    if bulk.finish(done.id, BulkState::Done, now, alert.as_ref()).await?
        && let Some(alert) = alert
    {
        // One message per operation.
        scheduler.announce.do_send(Announce(vec![alert]));
    }
    Ok(())
}

/// How many letters were taken, and from where the next slice looks. Letters that died after the
/// operation began are not among them, so none is taken twice.
async fn slice_of(
    core: &Core,
    scheduler: &Scheduling,
    operation: &BulkOperation,
    after: Option<Position>,
    limit: u64,
) -> Result<(u64, Option<Position>), Error> {
    let letters = core.store.letters();
    let BulkOperation { action, filter, created_at, .. } = operation;
    let (ids, next) = letters.matching(*action, filter, *created_at, after, limit).await?;
    if ids.is_empty() {
        return Ok((0, next));
    }
    match operation.action {
        BulkAction::Replay { pinned_original } => {
            let rows = letters.start_replays(&ids, pinned_original, operation.id).await?;
            // One message per slice.
            scheduler.admit.do_send(Admit(rows));
        }
        BulkAction::Discard => letters.discard_many(&ids, operation.id).await?,
        BulkAction::Restore => letters.restore_many(&ids, operation.id).await?,
    }
    Ok((ids.len() as u64, next))
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

impl Handler<CloseWindow> for DeadLetterActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: CloseWindow, _: &mut Context<Self>) -> Self::Result {
        let (core, spent) = (Rc::clone(&self.core), std::mem::take(&mut self.budget));
        let Some(from) = self.window.take() else { return Box::pin(actix::fut::ready(())) };
        let close = async move { (sums(&core, &spent, from).await, spent) };
        Box::pin(close.into_actor(self).map(move |(sums, spent), actor, ctx| match sums {
            Ok(sums) if sums.is_empty() => {}
            // One message per window.
            Ok(sums) => actor.scheduler.announce.do_send(Announce(sums)),
            Err(error) => {
                warn!(%error, "the sum of dead letters cannot be written yet");
                actor.scheduler.look(&error);
                actor.budget.add(&spent);
                actor.window = Some(from);
                ctx.notify_later(CloseWindow, Duration::from_millis(500));
            }
        }))
    }
}

impl Handler<Nudge> for DeadLetterActor {
    type Result = ();

    fn handle(&mut self, _: Nudge, ctx: &mut Context<Self>) {
        self.work(ctx);
    }
}
