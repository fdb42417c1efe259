//! The scheduler: what waits for its time. Retries, replays, suspects, delayed emits.
//!
//! Receives `Told` (journal: rows that were written), `Admit` (replays), `Announce` (alerts),
//! `Release` (a subscription runs again). Sends `Due` to subscriptions and due emits to the journal.
//!
//! State: of each subscription the rows that are due soonest ([`held`]), and the delayed emits that are,
//! about [`HELD_MAX`] each; the others stay in the store and are read when these run low. Everything
//! here is rebuilt from the store at start.

mod held;

use std::{
    collections::{BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use tracing::{error, warn};
use uuid::Uuid;

use self::held::{At, Held};
use super::{
    core::Core,
    journal::{Request, Settlement, Told},
    subscription::Due,
};
use crate::{
    domain::{DeliveryId, ErrorKind, Event, Millis, RunError, ScheduledId, Seq, SubscriptionId},
    store::journal::{DeliveryRow, RowStatus, Scheduled},
};

/// Rows held in memory; about 15 MiB.
const HELD_MAX: usize = 50_000;
/// Rows handed over in one turn: their events are read together.
const TURN_MAX: usize = 256;
/// How soon a row comes back whose subscription has no room.
const NO_ROOM: Duration = Duration::from_millis(100);
/// A trial lasts at most so much longer than a run may.
const TRIAL_GRACE: Duration = Duration::from_secs(2);
/// Subscriptions whose rows are read at the same time.
const READS_MAX: usize = 4;
/// A commit whose connection was lost has ended after so long, one way or the other.
const UNSURE_FOR: Duration = Duration::from_secs(5);
/// How soon a read that failed is tried again.
const READ_AGAIN: Duration = Duration::from_millis(500);
/// Where a read brought nothing that could be held, the next one waits for so many times as long as
/// it took.
const READ_REST: u32 = 10;
/// Longest sleep.
const NAP_MAX: Duration = Duration::from_secs(1);

/// A row that was written outside the journal: a replay.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Admit(pub(crate) Vec<DeliveryRow>);

/// Alerts were written outside the journal: they enter the log as soon as it gets to them.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Announce(pub(crate) Vec<Scheduled>);

/// Payloads of these events were erased: their rows are due now, to be ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Forget(pub(crate) Vec<Seq>);

/// Rows or alerts were written outside the journal, perhaps: the connection was lost at the commit.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Unsure;

/// The subscription runs (again): its rows may be handed over. Or rows of it were written outside the
/// journal, perhaps.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Release(pub(crate) SubscriptionId);

pub(crate) struct SchedulerActor {
    core: Rc<Core>,
    rows: Held,
    emits_due: BTreeSet<(Millis, ScheduledId)>,
    emits: FxHashMap<ScheduledId, Scheduled>,
    /// Rows of whatever subscription have to be read as soon as none is held.
    more_rows: bool,
    /// The store has delayed emits that are not held; none of those is due before this.
    emits_beyond: Option<(Millis, ScheduledId)>,
    /// What is due soonest has to be read, however many are held.
    unsure: bool,
    loading: bool,
    /// Subscriptions whose rows have to be read, however many are held.
    to_read: FxHashSet<SubscriptionId>,
    /// Subscriptions whose rows are being read, or that rest after it (false).
    reading: FxHashMap<SubscriptionId, bool>,
    /// Reads of rows under way, and the rows that ended meanwhile: what is read may be stale.
    loads: usize,
    ended: FxHashSet<DeliveryId>,
    /// Delayed emits that the journal has, and is not done with: the store still shows them. And those
    /// that it was done with while they were read.
    emits_out: FxHashSet<ScheduledId>,
    emits_ended: FxHashSet<ScheduledId>,
    /// A turn is under way: events are being read.
    turning: bool,
    /// The one suspect that is marked and runs, or is about to.
    suspect: Option<DeliveryId>,
    /// That one was handed to its subscription.
    suspect_is_out: bool,
    /// Suspects that wait for it to end.
    suspects: VecDeque<DeliveryRow>,
    /// Their ids.
    suspected: FxHashSet<DeliveryId>,
    suspect_before: Option<Millis>,
    nap: Option<SpawnHandle>,
    nap_until: Millis,
}

impl SchedulerActor {
    /// `accused`: suspects that were alone when the process died.
    /// `suspect_before`: rows that were due by then may have been in hand when the process died for
    /// the third time in a row.
    pub(crate) fn new(
        core: Rc<Core>,
        accused: Vec<DeliveryRow>,
        suspect_before: Option<Millis>,
    ) -> Self {
        Self {
            core,
            rows: Held::new(HELD_MAX),
            emits_due: BTreeSet::new(),
            emits: FxHashMap::default(),
            more_rows: true,
            // As good as none: they are read first of all.
            emits_beyond: Some((Millis(i64::MIN), ScheduledId(Uuid::nil()))),
            unsure: false,
            loading: false,
            to_read: FxHashSet::default(),
            reading: FxHashMap::default(),
            loads: 0,
            ended: FxHashSet::default(),
            emits_out: FxHashSet::default(),
            emits_ended: FxHashSet::default(),
            turning: false,
            suspect: None,
            suspect_is_out: false,
            suspected: accused.iter().map(|row| row.id).collect(),
            suspects: accused.into(),
            suspect_before,
            nap: None,
            nap_until: Millis(0),
        }
    }

    fn is_held(&self, id: DeliveryId) -> bool {
        self.rows.contains(id) || self.suspect == Some(id) || self.suspected.contains(&id)
    }

    fn admit(&mut self, row: DeliveryRow) {
        if self.is_held(row.id) || row.status == RowStatus::Dying {
            return;
        }
        if row.status == RowStatus::Suspect || self.may_have_run_at_the_crash(&row) {
            if self.suspects.len() >= HELD_MAX {
                self.more_rows = true;
                return;
            }
            // Those that were running at a crash before come last: whoever kills the process does so
            // again, and the others must not be hit twice by a kill from outside.
            let at = self.suspects.partition_point(|r| r.crashes_alone <= row.crashes_alone);
            self.suspected.insert(row.id);
            self.suspects.insert(at, row);
            return;
        }
        self.rows.insert(row);
    }

    fn may_have_run_at_the_crash(&self, row: &DeliveryRow) -> bool {
        self.suspect_before.is_some_and(|start| row.next_at <= start)
            && self.core.slot(row.subscription).is_some_and(|slot| slot.takes_row_for_suspect())
    }

    /// Holds the emit if it is due before those that are not held. Whichever are due last make room.
    fn admit_emit(&mut self, scheduled: Scheduled) {
        let at = (scheduled.due_at, scheduled.id);
        if self.emits_beyond.is_some_and(|beyond| at >= beyond) {
            return;
        }
        self.emits_due.insert(at);
        self.emits.insert(scheduled.id, scheduled);
        while self.emits.len() > HELD_MAX {
            let last = *self.emits_due.last().expect("each has its time");
            self.leave_emits(last);
        }
    }

    /// Emits that are due at `at` or later may be in the store and not held; those that are held are let
    /// go.
    fn leave_emits(&mut self, at: (Millis, ScheduledId)) {
        let beyond = self.emits_beyond.map_or(at, |beyond| beyond.min(at));
        self.emits_beyond = Some(beyond);
        for (_, id) in self.emits_due.split_off(&beyond) {
            self.emits.remove(&id);
        }
    }

    fn drop_emit(&mut self, id: ScheduledId) -> Option<Scheduled> {
        let scheduled = self.emits.remove(&id)?;
        self.emits_due.remove(&(scheduled.due_at, id));
        Some(scheduled)
    }

    /// Hands over what is due, then sleeps until the next one is.
    fn turn(&mut self, ctx: &mut Context<Self>) {
        let now = Millis::steady();
        self.emit_due(now);
        self.next_suspect(ctx);
        if !self.turning {
            let due = self.take_due(now);
            if !due.is_empty() {
                self.hand_over(due, ctx);
            }
        }
        self.load_more(ctx);
        self.sleep(now, ctx);
    }

    fn emit_due(&mut self, now: Millis) {
        if self.core.on_trial() {
            return;
        }
        while let Some(&(_, id)) = self.emits_due.first().filter(|(at, _)| *at <= now) {
            if let Some(scheduled) = self.drop_emit(id) {
                self.emits_out.insert(id);
                self.core.journal.submit(Request::Due(scheduled));
            }
        }
    }

    fn take_due(&mut self, now: Millis) -> Vec<DeliveryRow> {
        let mut due = Vec::new();
        if self.core.on_trial() {
            return due;
        }
        let mut taken: FxHashMap<SubscriptionId, usize> = FxHashMap::default();
        while let Some((_, id)) = self.rows.first().filter(|(at, _)| *at <= now) {
            if due.len() == TURN_MAX || self.core.draining.get() {
                break;
            }
            let row = self.rows.get(id).expect("the row was just seen");
            match self.core.slot(row.subscription) {
                // It was deleted: nobody else will ever end this delivery.
                None => {
                    let row = self.rows.remove(id).expect("the row was just seen");
                    self.orphaned(row);
                }
                // It is read again when the subscription runs again: `Release` says so.
                Some(slot) if !slot.runs() => drop(self.rows.remove(id)),
                Some(slot) => {
                    let taken = taken.entry(slot.id).or_default();
                    if slot.in_hand() + *taken >= self.core.config.limits.mailbox {
                        self.rows.put_off(id, now.plus(NO_ROOM));
                    } else {
                        *taken += 1;
                        due.extend(self.rows.remove(id));
                    }
                }
            }
        }
        due
    }

    /// One suspect after the other, each as soon as the one before has ended.
    fn next_suspect(&mut self, ctx: &mut Context<Self>) {
        if let Some(id) = self.suspect {
            // Its subscription was stopped and gave it back: it waits in its row.
            let given_back = self.suspect_is_out && !self.core.rows_out.borrow().contains_key(&id);
            if !given_back {
                return;
            }
            self.suspect = None;
            self.more_rows = true;
        }
        while self.suspect.is_none() && !self.core.draining.get() {
            let Some(row) = self.take_suspect() else { return };
            self.suspected.remove(&row.id);
            match self.core.slot(row.subscription) {
                None => self.orphaned(row),
                Some(slot) if !slot.runs() => self.more_rows = true,
                Some(_) => self.mark(row, ctx),
            }
        }
    }

    /// The next suspect; while the trial lasts, only one that was alone at a crash.
    fn take_suspect(&mut self) -> Option<DeliveryRow> {
        if !self.core.on_trial() {
            return self.suspects.pop_front();
        }
        let accused = self.suspects.pop_back_if(|row| row.crashes_alone > 0);
        if accused.is_none() {
            self.core.end_trial();
        }
        accused.or_else(|| self.suspects.pop_front())
    }

    /// Stores that a suspect is about to run alone; it runs once that is on disk. Twice is enough.
    fn mark(&mut self, row: DeliveryRow, ctx: &mut Context<Self>) {
        if row.crashes_alone >= 2 {
            let error = RunError {
                kind: ErrorKind::HostCrash,
                message: "the process died twice while this delivery ran alone".into(),
                stack: None,
            };
            self.waits_no_more(&row);
            let row = DeliveryRow { status: RowStatus::Dying, error: Some(error), ..row };
            self.core.journal.submit(Request::Row(Box::new(row)));
            return;
        }
        self.suspect = Some(row.id);
        self.suspect_is_out = false;
        if self.core.on_trial() {
            self.limit_trial(row.id, ctx);
        }
        let crashes_alone = row.crashes_alone + 1;
        let row = DeliveryRow { status: RowStatus::Suspect, crashes_alone, ..row };
        self.core.journal.submit(Request::Row(Box::new(row)));
    }

    /// A suspect that never gets to run (its key is taken) must not hold the start up for ever.
    fn limit_trial(&self, id: DeliveryId, ctx: &mut Context<Self>) {
        ctx.run_later(self.core.config.run_limits().wall + TRIAL_GRACE, move |actor, _| {
            if actor.suspect == Some(id) {
                actor.core.end_trial();
            }
        });
    }

    fn waits(&self, row: &DeliveryRow) {
        if let Some(slot) = self.core.slot(row.subscription) {
            slot.rows_waiting.set(slot.rows_waiting.get() + 1);
        }
    }

    /// Its row ends without being handed to the subscription, which counts what waits.
    fn waits_no_more(&self, row: &DeliveryRow) {
        if let Some(slot) = self.core.slot(row.subscription) {
            slot.rows_waiting.set(slot.rows_waiting.get().saturating_sub(1));
        }
    }

    /// Its subscription was deleted: what failed before is a letter, what never ran went with it.
    fn orphaned(&self, row: DeliveryRow) {
        if row.attempts > 0 || row.letter.is_some() {
            self.bury(row, "its subscription was deleted");
        } else {
            self.core.journal.submit(Request::Settle(Box::new(Settlement::discarded(&row))));
        }
    }

    /// A delivery that cannot run any more becomes a letter.
    fn bury(&self, row: DeliveryRow, why: &str) {
        self.waits_no_more(&row);
        let message = match &row.error {
            Some(error) => format!("{why}; last error: {}", error.message),
            None => why.to_owned(),
        };
        let kind = row.error.as_ref().map_or(ErrorKind::Exception, |error| error.kind);
        let stack = row.error.as_ref().and_then(|error| error.stack.clone());
        self.core.journal.submit(Request::Row(Box::new(DeliveryRow {
            status: RowStatus::Dying,
            error: Some(RunError { kind, message, stack }),
            ..row
        })));
    }

    fn hand_over(&mut self, due: Vec<DeliveryRow>, ctx: &mut Context<Self>) {
        self.turning = true;
        // Before their events are read: whatever is read of these rows meanwhile is old.
        let held = due.iter().map(|row| (row.id, row.progress()));
        self.core.rows_out.borrow_mut().extend(held);
        let mut seqs: Vec<Seq> = due.iter().map(|row| row.seq).collect();
        seqs.sort_unstable();
        seqs.dedup();
        let reader = self.core.reader.clone();
        let read = async move { reader.at(&seqs).await };
        ctx.spawn(read.into_actor(self).map(move |events, actor, ctx| {
            actor.turning = false;
            match events {
                Ok(events) => {
                    let events: FxHashMap<Seq, Arc<Event>> =
                        events.into_iter().map(|event| (event.seq, event)).collect();
                    for row in due {
                        actor.send(row, &events);
                    }
                }
                Err(error) => {
                    warn!(%error, "events of due deliveries cannot be read yet");
                    actor.turning = true;
                    ctx.run_later(NO_ROOM, |actor, ctx| actor.hand_over(due, ctx));
                    return;
                }
            }
            actor.turn(ctx);
        }));
    }

    fn send(&mut self, row: DeliveryRow, events: &FxHashMap<Seq, Arc<Event>>) {
        let Some(event) = events.get(&row.seq) else {
            error!(event = %row.event, "a delivery waits for an event that is gone");
            self.core.rows_out.borrow_mut().remove(&row.id);
            self.bury(row, "its event is not stored any more");
            return;
        };
        let slot = self.core.slot(row.subscription).filter(|slot| slot.runs());
        let handle = slot.and_then(|slot| slot.handle.borrow().clone());
        let Some(handle) = handle else {
            self.core.rows_out.borrow_mut().remove(&row.id);
            // It is read again when the subscription runs again: `Release` says so.
            return;
        };
        self.suspect_is_out |= self.suspect == Some(row.id);
        handle.due(Due { row: Box::new(row), event: Arc::clone(event) });
    }

    /// Reads the soonest rows and emits again once few are held.
    fn load_more(&mut self, ctx: &mut Context<Self>) {
        self.read_low(ctx);
        let wanted = (self.more_rows && self.rows.is_empty() && self.suspects.is_empty())
            || self.emits_are_low()
            || self.unsure;
        if !wanted || self.loading {
            return;
        }
        self.loading = true;
        self.more_rows = false;
        // What comes while they are read is held.
        self.emits_beyond = None;
        let unsure = std::mem::take(&mut self.unsure);
        self.loads += 1;
        let (store, began) = (self.core.store.clone(), Instant::now());
        let load = async move {
            let rows = store.deliveries().waiting(None, HELD_MAX as u64).await?;
            let emits = store.scheduled().waiting(None, HELD_MAX as u64).await?;
            Ok::<_, crate::store::Error>((rows, emits))
        };
        ctx.spawn(load.into_actor(self).map(move |loaded, actor, ctx| {
            let emits_ended = std::mem::take(&mut actor.emits_ended);
            let ended = actor.loaded();
            match loaded {
                Ok((rows, emits)) => {
                    actor.rows_loaded(rows, &ended, unsure);
                    actor.emits_loaded(emits, &emits_ended);
                    if actor.emits_are_low() {
                        // The journal has them all: what it leaves is read in a moment.
                        let rest = NO_ROOM.max(began.elapsed() * READ_REST);
                        ctx.run_later(rest, |actor, ctx| {
                            actor.loading = false;
                            actor.turn(ctx);
                        });
                    } else {
                        actor.loading = false;
                    }
                    actor.turn(ctx);
                }
                Err(error) => {
                    warn!(%error, "waiting deliveries cannot be read yet");
                    ctx.run_later(READ_AGAIN, |actor, ctx| {
                        actor.loading = false;
                        actor.unsure = true;
                        actor.turn(ctx);
                    });
                }
            }
        }));
    }

    /// Few delayed emits are held, and more are in the store.
    fn emits_are_low(&self) -> bool {
        self.emits_beyond.is_some() && self.emits.len() <= HELD_MAX / 2
    }

    fn rows_loaded(&mut self, rows: Vec<DeliveryRow>, ended: &FxHashSet<DeliveryId>, unsure: bool) {
        let last = rows.last().filter(|_| rows.len() == HELD_MAX).map(|r| (r.next_at, r.id));
        for row in rows.into_iter().filter(|row| !ended.contains(&row.id)) {
            if unsure && self.is_untold_replay(&row) {
                self.waits(&row);
            }
            self.readmit(row);
        }
        if let Some(last) = last {
            self.leave_all(last);
            // Where all were of those that stand still, the next read would be the same.
            self.more_rows |= !self.rows.is_empty();
        }
    }

    fn emits_loaded(&mut self, emits: Vec<Scheduled>, ended: &FxHashSet<ScheduledId>) {
        let last = emits.last().filter(|_| emits.len() == HELD_MAX).map(|e| (e.due_at, e.id));
        for scheduled in emits {
            let id = scheduled.id;
            let is_known =
                self.emits.contains_key(&id) || self.emits_out.contains(&id) || ended.contains(&id);
            if !is_known {
                self.admit_emit(scheduled);
            }
        }
        if let Some(last) = last {
            self.leave_emits(last);
        }
    }

    /// A replay whose commit was not answered: nobody counted that it waits. Where not all rows of its
    /// subscription are held, it cannot be told from those that were counted.
    fn is_untold_replay(&self, row: &DeliveryRow) -> bool {
        let is_replay = row.letter.is_some() && row.attempts == 0;
        let all_are_held = !self.rows.is_cut(row.subscription)
            && !self.to_read.contains(&row.subscription)
            && !self.reading.contains_key(&row.subscription)
            && self.core.slot(row.subscription).is_some_and(|slot| slot.runs());
        let is_known = self.is_held(row.id) || self.core.rows_out.borrow().contains_key(&row.id);
        is_replay && all_are_held && !is_known
    }

    /// Whoever has rows that wait may have more in the store than are held, due at `at` or later.
    fn leave_all(&mut self, at: At) {
        let slots = self.core.slots.borrow();
        for slot in slots.values().filter(|slot| slot.rows_waiting.get() > 0 && slot.runs()) {
            self.rows.leave(slot.id, at);
        }
    }

    /// Reads on for subscriptions of which few rows are held, and more are in the store.
    fn read_low(&mut self, ctx: &mut Context<Self>) {
        let reads = self.reading.values().filter(|is_read| **is_read).count();
        // `Release` brings those back that stand still.
        let stands_still = |id| self.core.slot(id).is_some_and(|slot| !slot.runs());
        self.to_read.retain(|id| !stands_still(*id));
        let wanted = self.to_read.iter().copied().chain(self.rows.low());
        let next: FxHashSet<SubscriptionId> = wanted
            .filter(|id| !self.reading.contains_key(id) && !stands_still(*id))
            .take(READS_MAX.saturating_sub(reads))
            .collect();
        for subscription in next {
            self.read_of(subscription, ctx);
        }
    }

    fn read_of(&mut self, subscription: SubscriptionId, ctx: &mut Context<Self>) {
        self.to_read.remove(&subscription);
        self.reading.insert(subscription, true);
        self.rows.open(subscription);
        self.loads += 1;
        let in_hand = self.core.slot(subscription).map_or(0, |slot| slot.in_hand());
        // Those in hand are in the store, too, and due before all others.
        let limit = self.rows.share() + in_hand;
        let (store, began) = (self.core.store.clone(), Instant::now());
        let load = async move { store.deliveries().soonest_of(subscription, limit as u64).await };
        ctx.spawn(load.into_actor(self).map(move |rows, actor, ctx| {
            let ended = actor.loaded();
            match rows {
                Ok(rows) => {
                    let last = rows.last().map(|row| (row.next_at, row.id));
                    let last = last.filter(|_| rows.len() == limit);
                    for row in rows.into_iter().filter(|row| !ended.contains(&row.id)) {
                        actor.readmit(row);
                    }
                    if let Some(last) = last {
                        actor.rows.leave(subscription, last);
                    }
                    if last.is_some() && actor.rows.is_low(subscription) {
                        // All are on their way somewhere: what they leave is read in a moment.
                        let rest = NO_ROOM.max(began.elapsed() * READ_REST);
                        actor.rest(subscription, rest, ctx);
                    } else {
                        actor.reading.remove(&subscription);
                    }
                    actor.turn(ctx);
                }
                Err(error) => {
                    warn!(%error, "rows of a subscription cannot be read yet");
                    actor.to_read.insert(subscription);
                    actor.rest(subscription, READ_AGAIN, ctx);
                }
            }
        }));
    }

    /// Reads no rows of the subscription for so long.
    fn rest(&mut self, subscription: SubscriptionId, rest: Duration, ctx: &mut Context<Self>) {
        self.reading.insert(subscription, false);
        ctx.run_later(rest, move |actor, ctx| {
            actor.reading.remove(&subscription);
            actor.turn(ctx);
        });
    }

    /// A read of rows has come back: those that ended before it did.
    fn loaded(&mut self) -> FxHashSet<DeliveryId> {
        self.loads -= 1;
        if self.loads == 0 { std::mem::take(&mut self.ended) } else { self.ended.clone() }
    }

    /// Takes a row that was read from the store: unless it is in hand, or its subscription stands
    /// still and would only send it back.
    fn readmit(&mut self, row: DeliveryRow) {
        let runs = self.core.slot(row.subscription).is_none_or(|slot| slot.runs());
        if runs && !self.core.rows_out.borrow().contains_key(&row.id) {
            self.admit(row);
        }
    }

    fn sleep(&mut self, now: Millis, ctx: &mut Context<Self>) {
        let rows = self.rows.first().map(|(at, _)| at);
        let emits = self.emits_due.first().map(|(at, _)| *at);
        let next = match (rows, emits) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let Some(next) = next.filter(|_| !self.core.draining.get()) else { return };
        if self.nap.is_some() && self.nap_until <= next && self.nap_until > now {
            return;
        }
        if let Some(nap) = self.nap.take() {
            ctx.cancel_future(nap);
        }
        // A turn that is under way comes back by itself; do not spin until then.
        let least = if self.turning { NO_ROOM } else { Duration::from_millis(1) };
        let wait = next.since(now).clamp(least, NAP_MAX);
        self.nap_until = now.plus(wait);
        self.nap = Some(ctx.run_later(wait, |actor, ctx| {
            actor.nap = None;
            actor.turn(ctx);
        }));
    }
}

impl Actor for SchedulerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.turn(ctx);
    }
}

impl Handler<Told> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, Told(committed): Told, ctx: &mut Context<Self>) {
        let idle = committed.rows.is_empty() && committed.scheduled.is_empty();
        {
            let mut out = self.core.rows_out.borrow_mut();
            if self.loads > 0 {
                self.ended.extend(&committed.rows_done);
            }
            for id in &committed.rows_done {
                if self.suspected.remove(id) {
                    self.suspects.retain(|row| row.id != *id);
                }
                out.remove(id);
                self.rows.remove(*id);
                if self.suspect == Some(*id) {
                    self.suspect = None;
                }
            }
            for row in &committed.rows {
                if row.is_news(out.get(&row.id)) {
                    out.remove(&row.id);
                }
            }
        }
        for id in &committed.scheduled_done {
            self.emits_out.remove(id);
            if self.loading {
                self.emits_ended.insert(*id);
            }
            self.drop_emit(*id);
        }
        if idle {
            // The next suspect may run, or the rows that are not held may be read now.
            if !committed.rows_done.is_empty() {
                self.turn(ctx);
            }
            return;
        }
        let mut marked = Vec::new();
        for row in committed.rows.iter().cloned() {
            if self.core.rows_out.borrow().contains_key(&row.id) {
                // It was read from the store before this was heard, and runs already.
                continue;
            }
            if self.suspect == Some(row.id) {
                if row.status == RowStatus::Suspect {
                    marked.push(row);
                    continue;
                }
                self.suspect = None;
            }
            self.admit(row);
        }
        if !marked.is_empty() {
            self.hand_over(marked, ctx);
        }
        for scheduled in committed.scheduled.iter().cloned() {
            self.admit_emit(scheduled);
        }
        self.turn(ctx);
    }
}

impl Handler<Admit> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, Admit(rows): Admit, ctx: &mut Context<Self>) {
        for row in rows {
            // A read may have brought it already.
            let is_news = row.is_news(self.core.rows_out.borrow().get(&row.id));
            if is_news && !self.is_held(row.id) {
                self.core.rows_out.borrow_mut().remove(&row.id);
                self.waits(&row);
                self.admit(row);
            }
        }
        self.turn(ctx);
    }
}

impl Handler<Announce> for SchedulerActor {
    type Result = ();

    /// They are held whatever else is: they are few (`domain::storm`) and due now. One that a read of
    /// the store brings again finds its id in the log.
    fn handle(&mut self, Announce(alerts): Announce, ctx: &mut Context<Self>) {
        for alert in alerts {
            self.emits_due.insert((alert.due_at, alert.id));
            self.emits.insert(alert.id, alert);
        }
        self.turn(ctx);
    }
}

impl Handler<Forget> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, Forget(seqs): Forget, ctx: &mut Context<Self>) {
        let now = Millis::steady();
        let of_these = self.rows.rows().filter(|row| seqs.contains(&row.seq));
        let ids: Vec<DeliveryId> = of_these.map(|row| row.id).collect();
        for id in ids {
            if let Some(row) = self.rows.remove(id) {
                self.admit(DeliveryRow { data: None, error: None, next_at: now, ..row });
            }
        }
        // In the store others may have become due as well.
        let slots = self.core.slots.borrow().clone();
        let waiting = slots.values().filter(|slot| slot.rows_waiting.get() > 0 && slot.runs());
        self.to_read.extend(waiting.map(|slot| slot.id));
        self.turn(ctx);
    }
}

impl Handler<Release> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, Release(subscription): Release, ctx: &mut Context<Self>) {
        self.to_read.insert(subscription);
        self.turn(ctx);
    }
}

impl Handler<Unsure> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, _: Unsure, ctx: &mut Context<Self>) {
        self.unsure = true;
        self.turn(ctx);
        // The database may be at that commit still.
        ctx.run_later(UNSURE_FOR, |actor, ctx| {
            actor.unsure = true;
            actor.turn(ctx);
        });
    }
}
