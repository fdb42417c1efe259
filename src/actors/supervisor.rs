//! The supervisor of subscriptions: starts them, restarts them under the policy, or suspends them.
//!
//! Receives `Crashed` (subscriptions), `Call` (handles on other threads), and sweeps ten times a
//! second: a subscription whose oldest delivery does not move takes a cursor, so that one slow run
//! cannot hold the watermark back; a cursor moves on or goes; who waits for memory is woken.
//!
//! The functions here are what router, scheduler and subscriptions share about a slot's life.

use std::{collections::BTreeSet, rc::Rc, sync::Arc, time::Duration};

use actix::prelude::*;
use futures::future::LocalBoxFuture;
use rustc_hash::FxHashMap;
use tracing::{debug, error, info, warn};

use super::{
    core::{Core, Slot},
    journal::Request,
    subscription::SubscriptionActor,
};
use crate::{
    domain::{
        Definition, DeliveryId, Event, Millis, ScriptId, Seq, Subscription, SubscriptionId, alert,
        feed::{Feed, Sweep},
        restart::{RestartHistory, Verdict},
    },
    filter::Filter,
    store::journal::{DeliveryRow, RowStatus, SubscriptionChange},
};

const SWEEP: Duration = Duration::from_millis(100);
/// How often samples of the metrics are folded.
const UPKEEP: Duration = Duration::from_secs(5);

/// A subscription's actor has stopped by a panic, or its sandbox cannot be built.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Crashed {
    pub(crate) subscription: SubscriptionId,
    pub(crate) reason: String,
}

/// What a handle that lives elsewhere wants done on the core thread.
pub(crate) type Work =
    Box<dyn FnOnce(Rc<Core>, Addr<SupervisorActor>) -> LocalBoxFuture<'static, ()> + Send>;

/// Carries it there.
pub(crate) struct Call(pub(crate) Work);

impl Message for Call {
    type Result = ();
}

/// A subscription is started again, by an operator or after its backoff.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Restart(pub(crate) SubscriptionId);

/// The restarts of one subscription within the policy's window; an operator resumed it.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Pardon(pub(crate) SubscriptionId);

/// How often each subscription was restarted within the window.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Vec<(SubscriptionId, u32)>")]
pub(crate) struct Restarts;

pub(crate) struct SupervisorActor {
    pub(crate) core: Rc<Core>,
    pub(crate) histories: FxHashMap<SubscriptionId, RestartHistory>,
    /// Called when `on_exhausted = "escalate"`: the process ends non-zero.
    pub(crate) escalate: Rc<dyn Fn(String)>,
}

// ── the life of a slot ───────────────────────────────────────────────────────────────────────────

/// Starts a subscription's actor. `definitions` are not empty; `held` are the events of rows that
/// wait.
pub(crate) fn launch(
    core: &Rc<Core>,
    supervisor: &Recipient<Crashed>,
    slot: Rc<Slot>,
    definitions: Vec<(Seq, Definition)>,
    held: Vec<Arc<Event>>,
) {
    SubscriptionActor::launch(
        Rc::clone(core),
        Rc::clone(&slot),
        definitions,
        held,
        supervisor.clone(),
    );
    core.slots.borrow_mut().insert(slot.id, Rc::clone(&slot));
    if slot.is_covered() {
        core.watch(&slot);
    }
}

/// Enters a definition into the router's index.
pub(crate) fn index(core: &Core, id: SubscriptionId, definition: &Definition) {
    let mut index = core.index.borrow_mut();
    index.remove(id);
    core.takes_alerts(id, definition.is_active && definition.event_type.is_of_runtime());
    if !definition.is_active {
        return;
    }
    match definition.filter.as_deref().map(Filter::parse).transpose() {
        Ok(filter) => index.insert(id, definition.event_type.clone(), filter),
        Err(error) => {
            error!(subscription = %id, %error, "a stored filter does not parse; it matches nothing")
        }
    }
}

/// A change takes effect: the router has reached its seq.
pub(crate) fn apply(core: &Rc<Core>, supervisor: &Recipient<Crashed>, change: SubscriptionChange) {
    match change {
        SubscriptionChange::Create { id, name, definition, paused, from, cursor, at } => {
            index(core, id, &definition);
            let subscription = Subscription {
                id,
                name,
                definition: definition.clone(),
                from_seq: from,
                paused,
                suspended: None,
                cursor,
                created_at: at,
                updated_at: at,
                revision: 1,
            };
            let feed = Feed::new(from, cursor, BTreeSet::new(), !paused);
            let slot = Slot::new(&subscription, feed);
            if paused && cursor.is_none() {
                let covering = slot.feed.borrow_mut().stop(from.prev());
                core.cover(&slot, covering);
            }
            launch(core, supervisor, slot, vec![(from, definition)], Vec::new());
        }
        SubscriptionChange::Update { id, name, definition, from, .. } => {
            index(core, id, &definition);
            if let Some(slot) = core.slot(id) {
                *slot.name.borrow_mut() = name.into();
                slot.script.set(definition.script);
                slot.definitions_met.set(slot.definitions_met.get() + 1);
                if let Some(handle) = slot.handle.borrow().as_ref() {
                    handle.changed(from, definition);
                }
            }
        }
        SubscriptionChange::State { id, paused, suspended, .. } => {
            let Some(slot) = core.slot(id) else { return };
            let ran = slot.runs();
            slot.paused.set(paused);
            *slot.suspended.borrow_mut() = suspended;
            if slot.runs() {
                if let Some(handle) = slot.handle.borrow().as_ref() {
                    handle.wake();
                }
                core.release_rows(id);
            } else if ran {
                hold_back(core, &slot);
            }
        }
        SubscriptionChange::Delete { id, .. } => {
            core.index.borrow_mut().remove(id);
            core.takes_alerts(id, false);
            if let Some(slot) = core.slot(id) {
                slot.retired.set(true);
                core.stop_feeding(&slot);
            }
        }
    }
}

/// The subscription stops starting deliveries: the log keeps what it has not started.
fn hold_back(core: &Rc<Core>, slot: &Rc<Slot>) {
    core.stop_feeding(slot);
    if let Some(handle) = slot.handle.borrow().as_ref() {
        handle.drop_queue();
    }
}

/// Suspends a subscription: nothing is lost, an operator resumes it.
pub(crate) fn suspend(core: &Rc<Core>, slot: &Rc<Slot>, reason: String) {
    if slot.suspended.borrow().is_some() {
        return;
    }
    warn!(subscription = %slot.id, %reason, "subscription suspended");
    *slot.suspended.borrow_mut() = Some(reason.clone());
    let alert =
        core.journal.alerts().then(|| alert::suspended(slot.id, &slot.name.borrow(), &reason));
    core.journal.suspend(slot.id, slot.paused.get(), reason, alert);
    hold_back(core, slot);
}

/// Stores the mark of a delivery that may be what takes the process down; it runs alone once the
/// mark is on disk.
pub(crate) fn suspect(core: &Rc<Core>, slot: &Rc<Slot>, event: &Event) {
    debug!(subscription = %slot.id, event = %event.uid, "a delivery is suspect and will run alone");
    slot.rows_waiting.set(slot.rows_waiting.get() + 1);
    core.journal.submit(Request::Row(Box::new(DeliveryRow {
        id: DeliveryId::of(event.uid, slot.id),
        event: event.uid,
        seq: event.seq,
        subscription: slot.id,
        status: RowStatus::Suspect,
        attempts: 0,
        next_at: Millis::steady(),
        error: None,
        first_failed_at: None,
        script_version: 0,
        letter: None,
        replay: 0,
        data: None,
        pinned_version: None,
        crashes_alone: 0,
        bulk: None,
    })));
}

/// Events that running subscriptions have not settled: what `limits.backlog` bounds.
pub(crate) fn backlog(core: &Core, upto: Seq) -> u64 {
    let unrouted = upto.0.saturating_sub(core.routed.get().0);
    let behind = core
        .busy
        .borrow()
        .iter()
        .filter(|slot| slot.is_covered() && slot.runs())
        .map(|slot| slot.unread.get())
        .max()
        .unwrap_or(0);
    unrouted.max(behind)
}

// ── sweeping ─────────────────────────────────────────────────────────────────────────────────────

impl SupervisorActor {
    fn sweep(&mut self) {
        let core = Rc::clone(&self.core);
        let mut busy = std::mem::take(&mut *core.busy.borrow_mut());
        busy.retain(|slot| self.sweep_one(slot));
        if !busy.iter().any(|slot| slot.runs() && !slot.is_live()) {
            core.reader.forget();
        }
        core.busy.borrow_mut().append(&mut busy);
    }

    /// False when there is nothing to look after any more.
    fn sweep_one(&self, slot: &Rc<Slot>) -> bool {
        let core = &self.core;
        let swept = slot.feed.borrow_mut().sweep(core.routed.get(), slot.runs());
        match swept {
            None => {}
            Some(Sweep::Cover(covering)) => core.cover(slot, covering),
            Some(Sweep::Cursor(to)) => {
                core.journal.submit(Request::Cursor { subscription: slot.id, to });
            }
        }
        let limit = core.config.limits.subscription_backlog;
        if slot.unread.get() > limit && slot.suspended.borrow().is_none() {
            suspend(
                core,
                slot,
                format!("more than {limit} events wait (limits.subscription_backlog)"),
            );
        }
        let is_gone = slot.handle.borrow().as_ref().is_none_or(|handle| handle.is_gone());
        if slot.retired.get() && (slot.in_hand() == 0 || is_gone) {
            if let Some(handle) = slot.handle.borrow_mut().take() {
                handle.stop();
            }
            core.slots.borrow_mut().remove(&slot.id);
            crate::telemetry::subscription_ended(slot.id);
            return false;
        }
        if !slot.is_live()
            && slot.runs()
            && let Some(handle) = slot.handle.borrow().as_ref()
        {
            handle.wake();
        }
        let needed = slot.is_covered() || slot.in_hand() > 0 || slot.retired.get();
        slot.watched.set(needed);
        needed
    }

    // ── crashes ──────────────────────────────────────────────────────────────────────────────────

    fn crashed(&mut self, crashed: &Crashed, ctx: &mut Context<Self>) {
        let Some(slot) = self.core.slot(crashed.subscription) else { return };
        let now = Millis::steady();
        {
            let mut tally = slot.tally.borrow_mut();
            tally.restarts += 1;
            tally.last_crash = Some((now, crashed.reason.clone()));
        }
        crate::telemetry::actor_restarted("subscription");
        // What it had in hand is in its window: the cursor covers it until it runs again.
        self.core.stop_feeding(&slot);
        let supervisor = &self.core.config.supervisor;
        let policy = supervisor.restart_policy();
        let history = self.histories.entry(slot.id).or_default();
        match history.crashed(&policy, now, rand::random()) {
            Verdict::RestartAfter(wait) => {
                info!(subscription = %slot.id, reason = %crashed.reason, ?wait, "restarting a subscription");
                for slot in self.restarted_with(&slot) {
                    let id = slot.id;
                    slot.restart_at.set(Some(now.plus(wait)));
                    ctx.notify_later(Restart(id), wait);
                }
            }
            Verdict::Exhausted => {
                let reason = format!(
                    "{} restarts within {:?} are spent; last crash: {}",
                    policy.max_restarts, policy.window, crashed.reason
                );
                if supervisor.escalates() {
                    (self.escalate)(format!("subscription {}: {reason}", slot.id));
                } else {
                    suspend(&self.core, &slot, reason);
                    ctx.notify(Restart(slot.id));
                }
            }
        }
    }

    /// Under `one_for_all` the siblings of the same script start anew too.
    fn restarted_with(&self, slot: &Rc<Slot>) -> Vec<Rc<Slot>> {
        if !self.core.config.supervisor.is_one_for_all() {
            return vec![Rc::clone(slot)];
        }
        let siblings = super::core::slots_of_script(&self.core.slots.borrow(), slot.script.get());
        for sibling in siblings.iter().filter(|sibling| sibling.id != slot.id) {
            self.stop(sibling);
        }
        siblings
    }

    fn stop(&self, slot: &Rc<Slot>) {
        self.core.stop_feeding(slot);
        if let Some(handle) = slot.handle.borrow().as_ref() {
            handle.stop();
        }
    }

    /// Builds the actor again from what is stored, and from the window.
    fn restart(&self, id: SubscriptionId, ctx: &mut Context<Self>) {
        let Some(slot) = self.core.slot(id) else { return };
        slot.restart_at.set(None);
        self.stop(&slot);
        let core = Rc::clone(&self.core);
        let met = slot.definitions_met.get();
        let rebuild = async move {
            // What was settled must be readable before the log is read again.
            core.journal.barrier().await;
            let subscription = core.store.subscriptions().find(id).await?;
            let rows = core.store.deliveries().of_subscription(id).await?;
            let seqs: Vec<Seq> = rows.iter().map(|row| row.seq).collect();
            let held = core.reader.at(&seqs).await?;
            let cursor = slot.feed.borrow().cursor().unwrap_or_default();
            let late = core.store.outcomes().late_of(id, cursor).await?;
            let history = core.store.subscriptions().definitions_of(id, cursor).await?;
            Ok::<_, crate::store::Error>((slot, subscription, history, rows, held, late))
        };
        ctx.spawn(rebuild.into_actor(self).map(move |rebuilt, actor, ctx| match rebuilt {
            // The change went to the actor that is gone.
            Ok((slot, ..)) if slot.definitions_met.get() != met => ctx.notify(Restart(id)),
            Ok((slot, Some(subscription), history, rows, held, late)) => {
                let done = late.iter().map(|entry| entry.seq).chain(rows.iter().map(|row| row.seq));
                slot.feed.borrow_mut().restart(done);
                slot.rows_in_hand.set(0);
                slot.rows_waiting.set(rows.len() as u64);
                let mut definitions: Vec<_> =
                    history.into_iter().map(|at| (at.from, at.definition)).collect();
                if definitions.is_empty() {
                    definitions.push((subscription.from_seq, subscription.definition));
                }
                let crashed = ctx.address().recipient();
                launch(&actor.core, &crashed, Rc::clone(&slot), definitions, held);
                actor.core.watch(&slot);
                // The scheduler hands its rows over again.
                actor.core.release_rows(slot.id);
            }
            Ok(_) => {}
            Err(error) => {
                warn!(subscription = %id, %error, "a subscription cannot be rebuilt yet");
                ctx.notify_later(Restart(id), Duration::from_millis(500));
            }
        }));
    }
}

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(SWEEP, |actor, _| actor.sweep());
        ctx.run_interval(UPKEEP, |_, _| crate::telemetry::upkeep());
    }
}

impl Handler<Crashed> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, crashed: Crashed, ctx: &mut Context<Self>) {
        self.crashed(&crashed, ctx);
    }
}

impl Handler<Restart> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, Restart(id): Restart, ctx: &mut Context<Self>) {
        self.restart(id, ctx);
    }
}

impl Handler<Pardon> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, Pardon(id): Pardon, _: &mut Context<Self>) {
        self.histories.remove(&id);
        if let Some(slot) = self.core.slot(id) {
            slot.tally.borrow_mut().breaker.pardon();
        }
    }
}

impl Handler<Restarts> for SupervisorActor {
    type Result = MessageResult<Restarts>;

    fn handle(&mut self, _: Restarts, _: &mut Context<Self>) -> Self::Result {
        let (policy, now) = (self.core.config.supervisor.restart_policy(), Millis::steady());
        MessageResult(
            self.histories
                .iter_mut()
                .map(|(id, history)| (*id, history.recent(&policy, now)))
                .collect(),
        )
    }
}

impl Handler<Call> for SupervisorActor {
    type Result = ResponseFuture<()>;

    /// `ResponseFuture`: one call that waits for the store does not hold up the next.
    fn handle(&mut self, Call(call): Call, ctx: &mut Context<Self>) -> Self::Result {
        call(Rc::clone(&self.core), ctx.address())
    }
}

/// All subscriptions of a script load it anew.
pub(crate) fn script_changed(core: &Core, script: ScriptId) {
    for slot in super::core::slots_of_script(&core.slots.borrow(), script) {
        if let Some(handle) = slot.handle.borrow().as_ref() {
            handle.script_changed();
        }
    }
}
