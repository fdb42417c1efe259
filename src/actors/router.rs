//! The router: takes every event in the order of the log, finds who wants it, and hands it over.
//!
//! Receives `Told` (journal). Sends `Deliver` to subscriptions through their slots, and tells
//! the journal how many deliveries of each event nothing but memory holds.
//!
//! It holds no events: what the journal could not hand over (it was too far ahead, or this is a
//! start) is read from the store. Definitions change at their seq, in live routing and in recovery
//! alike, because changes and events come as one stream.

use std::{panic::AssertUnwindSafe, rc::Rc, sync::Arc, time::Duration};

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
    domain::{Event, Seq, SubscriptionId, changes::Changes, event::is_reserved, feed::Offer},
    store::journal::SubscriptionChange,
};

/// What a start knows of events above the watermark.
#[derive(Default)]
pub(crate) struct Recovery {
    /// Changes that take effect above the watermark, ascending.
    pub(crate) changes: Changes<SubscriptionChange>,
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
    changes: Changes<SubscriptionChange>,
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
        for &subscription in &matches {
            let Some(slot) = self.core.slot(subscription) else { continue };
            open += u32::from(self.hand_over(&slot, event, fanout));
        }
        self.matches = matches;
        self.core.routed.set(event.seq);
        self.core.journal.submit(Request::Routed { seq: event.seq, open });
    }

    /// True if the delivery holds the watermark: nothing but memory has it. Otherwise a cursor or a
    /// row does, or it is settled.
    fn hand_over(&self, slot: &Rc<Slot>, event: &Arc<Event>, fanout: u32) -> bool {
        let core = &self.core;
        let is_suspect = self.recovery.suspects && event.seq <= self.recovery.upto;
        let has_room =
            !is_suspect && slot.in_hand() < core.config.limits.mailbox && !core.memory_is_full();
        let offer = slot.feed.borrow_mut().offer(event.seq, has_room);
        let handle = slot.handle.borrow();
        match offer {
            Offer::Done => false,
            Offer::Taken { holds_watermark } => {
                core.watch(slot);
                if let Some(handle) = handle.as_ref() {
                    // A restarting actor reads it again: what is in hand is known to the slot.
                    handle.deliver(Deliver { event: Arc::clone(event), fanout });
                }
                holds_watermark
            }
            Offer::Behind { fell, cover } => {
                if let Some(covering) = cover {
                    core.cover(slot, covering);
                }
                if fell && let Some(handle) = handle.as_ref() {
                    handle.wake();
                }
                slot.unread.set(slot.unread.get() + 1);
                false
            }
        }
    }

    fn apply_changes_up_to(&mut self, seq: Seq) {
        while let Some(change) = self.changes.due(seq) {
            supervisor::apply(&self.core, &self.supervisor, change);
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
        for change in &committed.changes {
            self.changes.push(change.from(), change.clone());
        }
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
