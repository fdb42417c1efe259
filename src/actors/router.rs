//! The router: takes every event in the order of the log, finds who wants it, and hands it over.
//!
//! Receives `Told` (journal). Sends `Deliver` to subscriptions through their slots, and tells
//! the journal how many deliveries of each event nothing but memory holds.
//!
//! It holds no events: what the journal could not hand over (it was too far ahead, or this is a
//! start) is read from the store. Definitions change at their seq, in live routing and in recovery
//! alike, because changes and events come as one stream.

use std::{collections::VecDeque, panic::AssertUnwindSafe, rc::Rc, sync::Arc, time::Duration};

use actix::prelude::*;
use metrics::{Counter, Gauge};
use tracing::{error, warn};

use super::{
    core::{Core, Slot},
    journal::{Committed, Request, Told},
    subscription::Deliver,
    supervisor::{self, Crashed},
};
use crate::{
    domain::{Event, Seq, SubscriptionId, event::is_reserved},
    store::journal::SubscriptionChange,
};

/// What a start knows of events above the watermark.
#[derive(Default)]
pub(crate) struct Recovery {
    /// Changes that take effect above the watermark, ascending.
    pub(crate) changes: VecDeque<SubscriptionChange>,
    /// Last event of the log at the start.
    pub(crate) upto: Seq,
    /// Unsettled deliveries up to `upto` run alone: the process died three times in a row. Their
    /// subscriptions read them from the log and mark them.
    pub(crate) suspects: bool,
}

pub(crate) struct RouterActor {
    core: Rc<Core>,
    supervisor: Recipient<Crashed>,
    recovery: Recovery,
    /// Last event of the log, as far as the journal said.
    upto: Seq,
    reading: bool,
    /// Changes that wait for the router to reach their seq.
    changes: VecDeque<SubscriptionChange>,
    /// Kept between events for its memory alone.
    matches: Vec<SubscriptionId>,
    unmatched: Counter,
    backlog: Gauge,
}

impl RouterActor {
    pub(crate) fn new(
        core: Rc<Core>,
        supervisor: Recipient<Crashed>,
        mut recovery: Recovery,
    ) -> Self {
        Self {
            core,
            supervisor,
            upto: recovery.upto,
            changes: std::mem::take(&mut recovery.changes),
            recovery,
            reading: false,
            matches: Vec::new(),
            unmatched: metrics::counter!("tripline_events_unmatched_total"),
            backlog: metrics::gauge!("tripline_backlog_events"),
        }
    }

    /// Matches one event and hands it to everybody who takes it and is live.
    fn route(&mut self, event: &Arc<Event>) {
        self.apply_changes_up_to(event.seq);
        let mut matches = std::mem::take(&mut self.matches);
        matches.clear();
        self.core.matches(event, &mut matches);
        // An alert that nobody takes any more is no loss of the application's.
        if matches.is_empty() && !is_reserved(&event.envelope.event_type) {
            self.unmatched.increment(1);
            self.core.unmatched.borrow_mut().add(&event.envelope.event_type);
        }
        let fanout = u32::try_from(matches.len()).unwrap_or(u32::MAX);
        let mut open = 0;
        let recovering = event.seq <= self.recovery.upto;
        for &subscription in &matches {
            let Some(slot) = self.core.slot(subscription) else { continue };
            if recovering && slot.settled_before.borrow().contains(&event.seq) {
                continue;
            }
            if self.hand_over(&slot, event, fanout) && !slot.covered.get() {
                open += 1;
            }
        }
        self.matches = matches;
        self.core.routed.set(event.seq);
        if event.seq == self.recovery.upto {
            self.end_recovery();
        }
        self.core.journal.submit(Request::Routed { seq: event.seq, open });
    }

    /// What was settled before the start is routed; those that are behind still pass over it.
    fn end_recovery(&self) {
        for slot in self.core.slots.borrow().values().filter(|slot| slot.live.get()) {
            slot.settled_before.take();
        }
    }

    /// True if the delivery is in hand now; otherwise the subscription's cursor or a row holds it.
    fn hand_over(&self, slot: &Rc<Slot>, event: &Arc<Event>, fanout: u32) -> bool {
        let core = &self.core;
        if slot.live.get() {
            let is_suspect = self.recovery.suspects && event.seq <= self.recovery.upto;
            let room = !is_suspect
                && slot.in_hand() < core.config.limits.mailbox
                && !core.memory_is_full();
            if room && slot.window.borrow_mut().push(event.seq) {
                core.watch(slot);
                if let Some(handle) = slot.handle.borrow().as_ref() {
                    // A restarting actor finds the delivery in the window and reads it again.
                    handle.deliver(Deliver { event: Arc::clone(event), fanout });
                }
                return true;
            }
            // Behind from here: what is in hand goes on, the rest is read from the log.
            slot.live.set(false);
            if let Some(handle) = slot.handle.borrow().as_ref() {
                handle.fell_behind(event.seq);
            }
        }
        if !slot.covered.get() {
            core.cover(slot, event.seq);
        }
        slot.unread.set(slot.unread.get() + 1);
        false
    }

    fn apply_changes_up_to(&mut self, seq: Seq) {
        while self.changes.front().is_some_and(|change| change_from(change) <= seq) {
            if let Some(change) = self.changes.pop_front() {
                supervisor::apply(&self.core, &self.supervisor, change);
            }
        }
    }

    /// Changes whose seq is the next one to come take effect at once: a subscription that was just
    /// made is there before its first event.
    fn apply_changes_that_are_due(&mut self) {
        self.apply_changes_up_to(self.core.routed.get().next());
    }

    fn catch_up(&mut self, ctx: &mut Context<Self>) {
        self.apply_changes_that_are_due();
        if self.reading || self.core.routed.get() >= self.upto {
            self.note_backlog();
            return;
        }
        self.reading = true;
        let (reader, after, upto) = (self.core.reader.clone(), self.core.routed.get(), self.upto);
        let read = async move { reader.read(after, upto).await };
        ctx.spawn(read.into_actor(self).map(move |events, actor, ctx| {
            actor.reading = false;
            match events {
                Ok(events) if events.is_empty() => {
                    // Retention does not reach above the watermark, so this is a gap that erasing
                    // left; there is nothing to route in it.
                    for seq in after.0 + 1..=upto.0 {
                        actor.core.journal.submit(Request::Routed { seq: Seq(seq), open: 0 });
                    }
                    actor.core.routed.set(upto);
                }
                Ok(events) => {
                    for event in &events {
                        if event.seq > actor.core.routed.get() {
                            actor.fill_gap(event.seq);
                            actor.route(event);
                        }
                    }
                }
                Err(error) => {
                    warn!(%error, "the router cannot read events yet");
                    ctx.run_later(Duration::from_millis(500), |actor, ctx| actor.catch_up(ctx));
                    return;
                }
            }
            actor.note_backlog();
            actor.catch_up(ctx);
        }));
    }

    fn fill_gap(&mut self, before: Seq) {
        for seq in self.core.routed.get().0 + 1..before.0 {
            self.core.journal.submit(Request::Routed { seq: Seq(seq), open: 0 });
        }
    }

    fn note_backlog(&self) {
        let backlog = supervisor::backlog(&self.core, self.upto);
        self.core.journal.set_backlog(backlog);
        self.backlog.set(backlog as f64);
    }

    fn committed(&mut self, committed: &Committed, ctx: &mut Context<Self>) {
        let bytes: usize = committed.events.iter().map(|event| event.weight()).sum();
        if bytes > 0 {
            self.core.journal.routed_bytes(bytes as u64);
        }
        self.upto = self.upto.max(committed.upto);
        self.changes.extend(committed.changes.iter().cloned());
        self.core.reader.note(&committed.events);
        if self.core.on_trial() {
            return;
        }
        let next = self.core.routed.get().next();
        if !self.reading && committed.events.first().is_some_and(|event| event.seq == next) {
            for event in &committed.events {
                self.route(event);
            }
        }
        self.catch_up(ctx);
    }
}

/// First seq that meets a change.
fn change_from(change: &SubscriptionChange) -> Seq {
    match change {
        SubscriptionChange::Create { from, .. }
        | SubscriptionChange::Update { from, .. }
        | SubscriptionChange::Delete { from, .. } => *from,
        // State is not matching: it takes effect when it is seen.
        SubscriptionChange::State { .. } => Seq::ZERO,
    }
}

impl Actor for RouterActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let over = self.core.trial_over();
        ctx.spawn(over.into_actor(self).map(|(), actor, ctx| actor.catch_up(ctx)));
    }
}

impl Supervised for RouterActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.reading = false;
    }
}

impl Handler<Told> for RouterActor {
    type Result = ();

    fn handle(&mut self, Told(committed): Told, ctx: &mut Context<Self>) {
        let upto = committed.upto;
        let routed = std::panic::catch_unwind(AssertUnwindSafe(|| self.committed(&committed, ctx)));
        if let Err(panic) = routed {
            // The message is lost, its events are not: the router reads them from the store.
            let message = super::subscription::panic_message(&*panic);
            error!(%message, "the router panicked and goes on from the store");
            self.upto = self.upto.max(upto);
            ctx.stop();
        }
    }
}
