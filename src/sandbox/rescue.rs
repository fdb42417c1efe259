//! What becomes of runs when a lane is late, silent, crowded or dead.
//!
//! The other half of the pool (`lanes.rs`), under the same promise: no run is lost, none is
//! reported twice. What a lane has not begun can be taken back and moved; what it has begun stays
//! with it, to the end of the one or the other.

use std::time::Instant;

use super::{
    LaneKind, LaneState, Report, RunKey, RunLimits,
    context::{ContextKey, Sink},
    lanes::Lanes,
    page::Ticket,
    watch::SILENT_AFTER,
};
use crate::domain::RunError;

/// Looks in a row at which a lane was crowded and another idle, before a context moves.
const CROWDED_LOOKS: u32 = 3;

/// A culprit whose sentence waits for how its lane ended.
#[must_use]
pub(super) struct Verdict {
    key: RunKey,
    sink: Sink,
}

impl Verdict {
    pub(super) fn speak(self, error: RunError) {
        self.sink.send(Report::Crashed(self.key, error));
    }
}

impl Lanes {
    /// The limits that the watchdog measures a running ticket by.
    pub(super) fn limits_of(&self, slot: usize, running: RunKey) -> RunLimits {
        self.slots[slot]
            .get(Ticket::from_key(running))
            .and_then(|sent| self.contexts.get(&sent.context))
            .map(|context| *context.limits())
            // A script that goes on after its context was closed.
            .unwrap_or_default()
    }

    /// A lane executes one stretch of script for too long: no more work for it, and everything
    /// that it has not begun goes elsewhere.
    pub(super) fn silent(&mut self, slot_number: usize) {
        if self.slots[slot_number].state != LaneState::Up {
            return;
        }
        self.slots[slot_number].state = LaneState::Silent;
        let kind = self.slots[slot_number].kind;
        let elsewhere = self.best(kind).is_some()
            || kind == LaneKind::Fast && self.best(LaneKind::Slow).is_some();
        if !elsewhere {
            return;
        }
        for key in self.contexts_in(slot_number) {
            self.unqueue(key);
            if self.take_back(key) {
                self.settle(key);
            }
        }
    }

    /// A silent lane goes on.
    pub(super) fn recovered(&mut self, slot_number: usize) {
        if self.slots[slot_number].state != LaneState::Silent {
            return;
        }
        self.slots[slot_number].state = LaneState::Up;
        for key in self.contexts_in(slot_number) {
            self.settle(key);
        }
        self.slots[slot_number].wake();
    }

    /// Takes back what stands behind a run that waits for something: its lane is not late, but a
    /// queue that cannot move must not fill the window.
    pub(super) fn unblock(&mut self, slot_number: usize, now: Instant) {
        let slot = &self.slots[slot_number];
        let Some(page) = slot.page.clone() else { return };
        if slot.ahead == 0 {
            return;
        }
        let stuck: Vec<ContextKey> = slot
            .all_in_flight()
            .filter(|sent| {
                now.saturating_duration_since(sent.at) > SILENT_AFTER && page.begun(sent.ticket)
            })
            .map(|sent| sent.context)
            .collect();
        for key in stuck {
            if let Some(context) = self.contexts.get_mut(&key)
                && context.sent.len() > 1
            {
                // Whatever its earlier runs took, this one takes longer.
                context.pace = context.pace.max(SILENT_AFTER);
                self.take_back(key);
                self.settle(key);
            }
        }
    }

    /// Moves a context to an idle lane when its own has had work for several for a while.
    ///
    /// Contexts are placed by number, not by how much they will do: two busy ones may meet.
    pub(super) fn balance(&mut self, slot_number: usize) {
        let slot = &self.slots[slot_number];
        let idle = (0..self.slots.len()).find(|other| {
            let other = &self.slots[*other];
            other.kind == slot.kind
                && other.state == LaneState::Up
                && other.in_flight() == 0
                && other.ready.is_empty()
        });
        let (LaneKind::Fast | LaneKind::Slow, Some(idle)) = (slot.kind, idle) else {
            self.slots[slot_number].crowded = 0;
            return;
        };
        let mut busy: Vec<ContextKey> = slot.all_in_flight().map(|sent| sent.context).collect();
        busy.sort_unstable();
        busy.dedup();
        let slot = &mut self.slots[slot_number];
        slot.crowded = if busy.len() > 1 { slot.crowded + 1 } else { 0 };
        if slot.crowded < CROWDED_LOOKS {
            return;
        }
        slot.crowded = 0;
        for key in busy {
            self.unqueue(key);
            if self.take_back(key) {
                self.leave_place(key);
                self.queue(key, idle);
                return;
            }
            self.settle(key);
        }
    }

    /// The lane in this slot is gone. Its runs that were not begun go to another lane, those that
    /// were are returned, and the culprit waits for its sentence.
    ///
    /// `blame`: whether this end is anybody's fault at all.
    pub(super) fn gone(
        &mut self,
        slot_number: usize,
        reason: &str,
        blame: bool,
    ) -> Option<Verdict> {
        let slot = &mut self.slots[slot_number];
        let page = slot.page.take();
        let running = page.as_ref().and_then(|page| page.snapshot().running).map(RunKey);
        let was_ready = slot.state != LaneState::Starting;
        slot.pid = None;
        slot.cpu_before += std::mem::take(&mut slot.cpu);
        slot.last_crash = Some(reason.to_owned());
        slot.restarts += 1;
        slot.fruitless += 1;
        // A lane that is back in a moment keeps its contexts: the others have their own.
        slot.state = match slot.restart_wait() {
            None => LaneState::Starting,
            Some(_) => LaneState::Down,
        };
        slot.open = 0;
        slot.discard_output();
        let lost = slot.land_all();
        let alone = slot.kind == LaneKind::Quarantine;
        let culprit = running
            .filter(|_| blame)
            .map(Ticket::from_key)
            .filter(|ticket| lost.iter().any(|sent| sent.ticket == *ticket));
        // Nothing else was there: it was this one, begun or not.
        let only = match lost.as_slice() {
            [sent] if blame && alone && was_ready => Some(sent.ticket),
            _ => None,
        };
        let culprit = culprit.or(only);
        let homeless = self.contexts_in(slot_number);
        for key in &homeless {
            self.unqueue(*key);
            if let Some(context) = self.contexts.get_mut(key)
                && context.place.is_some_and(|place| place.slot == slot_number)
            {
                context.place = None;
                context.stale = false;
                context.sent.clear();
            }
        }
        let mut verdict = None;
        // From the youngest on, so that the oldest ends up in front of its context's queue.
        for mut sent in lost.into_iter().rev() {
            let Some(context) = self.contexts.get_mut(&sent.context) else { continue };
            let key = sent.waiting.run.key;
            if culprit == Some(sent.ticket) {
                context.standing.overran();
                verdict = Some(Verdict { key, sink: context.sink.clone() });
            } else if page.as_ref().is_some_and(|page| page.begun(sent.ticket)) {
                context.sink.send(Report::Returned(key));
            } else {
                if culprit.is_none() && blame && was_ready {
                    sent.waiting.deaths += 1;
                }
                context.waiting.push_front(sent.waiting);
            }
        }
        for key in homeless {
            self.settle(key);
        }
        verdict
    }
}
