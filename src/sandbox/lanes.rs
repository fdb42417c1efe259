//! The pool: which context runs in which lane, and what becomes of runs when a lane dies.
//!
//! No I/O here: `lane_actor.rs` carries bytes and kills lanes, this file decides, and `rescue.rs`
//! decides when a lane is late or dead. The promise is
//! the one of [`Report`]: every run that comes in by [`Lanes::run`] goes out in exactly one
//! report. A run is always in exactly one of three places: its context's `waiting`, the books of
//! one slot, or a [`Verdict`] about to be spoken.
//!
//! A context has at most one runtime at a time. It moves to another lane only when none of its
//! runs is begun; runs that were sent and not begun are taken back through the progress page.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{
    ContextSpec, ContextUsage, LaneInfo, LaneKind, LaneState, Report, Run, RunKey, RunReport,
    Walls,
    call::{ANSWERS_BYTES_MAX, Answer, Asked, CallId, OPEN_MAX, Question},
    context::{Context, ContextKey, Place, Sink, Standing, Waiting},
    page::{Page, Ticket},
    protocol::{Asks, ContextId, Reply, RunRequest, ToLane},
    slot::{Sent, Slot},
};
use crate::domain::{ErrorKind, RunError};

/// What of the configuration the pool decides by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) slow_after: Duration,
    /// Runs that may be in flight in a lane beyond the first of each context.
    pub(super) window: usize,
    /// A runtime unused for this long is dropped.
    pub(super) idle_for: Duration,
}

pub(super) struct Lanes {
    rules: Rules,
    pub(super) slots: Vec<Slot>,
    pub(super) contexts: FxHashMap<ContextKey, Context>,
    keys: u64,
    walls: Walls,
    stopped: bool,
}

impl Lanes {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            slots: Vec::new(),
            contexts: FxHashMap::default(),
            keys: 0,
            walls: Walls::default(),
            stopped: false,
        }
    }

    /// Adds a slot and says its number. `wake` asks its actor to come by.
    pub(super) fn add_slot(&mut self, name: &str, kind: LaneKind, wake: Box<dyn Fn()>) -> usize {
        self.slots.push(Slot::new(name, kind, wake));
        self.slots.len() - 1
    }

    pub(super) fn slot(&mut self, slot: usize) -> &mut Slot {
        &mut self.slots[slot]
    }

    pub(super) fn idle_for(&self) -> Duration {
        self.rules.idle_for
    }

    // ---- what subscriptions ask ----------------------------------------------------------------

    pub(super) fn open(&mut self, spec: ContextSpec, sink: Sink, standing: Standing) -> ContextKey {
        self.keys += 1;
        let key = ContextKey(self.keys);
        self.contexts.insert(key, Context::new(spec, sink, standing, Instant::now()));
        key
    }

    pub(super) fn run(&mut self, key: ContextKey, run: Run) {
        let Some(context) = self.contexts.get_mut(&key) else { return };
        if self.stopped {
            context.sink.send(Report::Returned(run.key));
            return;
        }
        context.waiting.push_back(Waiting { run, since: Instant::now(), deaths: 0 });
        if context.queued.is_none() {
            self.settle(key);
        }
    }

    /// Another script or other limits, for the runs that start from now on.
    pub(super) fn replace(&mut self, key: ContextKey, spec: ContextSpec) {
        let Some(context) = self.contexts.get_mut(&key) else { return };
        context.spec = spec;
        context.stale = context.place.is_some();
        context.pace_anew();
        if context.standing != Standing::ALWAYS_SLOW {
            context.standing = Standing::NEW;
        }
        self.take_back(key);
        self.settle(key);
    }

    /// Ends the context; what it had not finished is returned.
    pub(super) fn close(&mut self, key: ContextKey) {
        self.give_back(key);
        self.contexts.remove(&key);
    }

    /// Drops the runtime and returns every run.
    fn give_back(&mut self, key: ContextKey) {
        self.leave_place(key);
        self.unqueue(key);
        let Some(context) = self.contexts.get_mut(&key) else { return };
        for waiting in context.waiting.drain(..) {
            context.sink.send(Report::Returned(waiting.run.key));
        }
    }

    pub(super) fn usage(&self, key: ContextKey) -> ContextUsage {
        self.contexts.get(&key).map(|context| context.usage).unwrap_or_default()
    }

    pub(super) fn walls(&self) -> Walls {
        self.walls.clone()
    }

    pub(super) fn info(&self) -> Vec<LaneInfo> {
        self.slots
            .iter()
            .map(|slot| LaneInfo {
                name: slot.name.clone(),
                kind: slot.kind,
                state: slot.state,
                pid: slot.pid,
                contexts: slot.open,
                in_flight: slot.in_flight(),
                queued: slot.ready.len(),
                restarts: slot.restarts,
                last_crash: slot.last_crash.clone(),
                cpu: slot.cpu_before + slot.cpu,
            })
            .collect()
    }

    // ---- where a context's runs go -------------------------------------------------------------

    /// Puts a context that has runs waiting into the queue of the lane where they belong, unless
    /// it must first wait for runs that it has in flight.
    pub(super) fn settle(&mut self, key: ContextKey) {
        let Some(context) = self.contexts.get(&key) else { return };
        if context.queued.is_some() || context.waiting.is_empty() {
            return;
        }
        let wanted = context.wants();
        let target = if let (Some(place), false) = (context.place, context.sent.is_empty()) {
            // Runs in flight pin it: it goes on there, or waits until they end.
            let here = &self.slots[place.slot];
            let stays =
                here.kind == wanted || here.kind == LaneKind::Slow && wanted == LaneKind::Fast;
            let alone = wanted == LaneKind::Quarantine;
            if context.stale || !stays || alone || context.sent.len() >= context.sent_max() {
                return;
            }
            if here.kind != wanted && self.best(wanted).is_some() {
                // Proved: it leaves for a fast lane as soon as it has nothing in flight.
                return;
            }
            place.slot
        } else {
            let target = self.choose(wanted, context.place);
            if context.place.is_some_and(|place| place.slot != target) || context.stale {
                self.leave_place(key);
            }
            target
        };
        self.queue(key, target);
    }

    pub(super) fn queue(&mut self, key: ContextKey, target: usize) {
        let Some(context) = self.contexts.get_mut(&key) else { return };
        context.queued = Some(target);
        let slot = &mut self.slots[target];
        slot.ready.push_back(key);
        slot.wake();
    }

    /// The lane for a context without runs in flight: where it is if that will do, else the one
    /// with the least on it.
    fn choose(&self, wanted: LaneKind, place: Option<Place>) -> usize {
        let here = place.map(|place| place.slot);
        if let Some(here) = here
            && self.slots[here].kind == wanted
            && self.slots[here].state.takes_work()
        {
            return here;
        }
        self.best(wanted)
            // Every lane of its kind is silent or down. Quick scripts may use a slow lane
            // meanwhile; slow ones wait where they are.
            .or_else(|| (wanted == LaneKind::Fast).then(|| self.best(LaneKind::Slow)).flatten())
            .or_else(|| here.filter(|here| self.slots[*here].kind == wanted))
            .or_else(|| self.slots.iter().position(|slot| slot.kind == wanted))
            .unwrap_or(0)
    }

    pub(super) fn best(&self, wanted: LaneKind) -> Option<usize> {
        (0..self.slots.len())
            .filter(|slot| self.slots[*slot].kind == wanted && self.slots[*slot].state.takes_work())
            .min_by_key(|slot| self.slots[*slot].load())
    }

    /// Drops a context's runtime. Runs in flight, which the caller should not have left there,
    /// are returned: the lane will not answer them.
    pub(super) fn leave_place(&mut self, key: ContextKey) {
        let Some(context) = self.contexts.get_mut(&key) else { return };
        context.stale = false;
        let Some(place) = context.place.take() else { return };
        let slot = &mut self.slots[place.slot];
        slot.open -= 1;
        slot.ahead -= context.sent.len().saturating_sub(1);
        for ticket in context.sent.drain(..) {
            if let Some(sent) = slot.land(ticket) {
                context.sink.send(Report::Returned(sent.waiting.run.key));
            }
        }
        // Encoding a number cannot fail; a lane that misses it is only larger than it need be.
        let _ = slot.push(&ToLane::Close(place.id));
        slot.wake();
    }

    /// Takes back the runs that its lane has not begun, to the head of its queue and in order.
    /// True when nothing of it is in flight afterwards.
    pub(super) fn take_back(&mut self, key: ContextKey) -> bool {
        let Some(context) = self.contexts.get_mut(&key) else { return true };
        let Some(place) = context.place else { return true };
        let slot = &mut self.slots[place.slot];
        let Some(page) = slot.page.clone() else { return context.sent.is_empty() };
        slot.ahead -= context.sent.len().saturating_sub(1);
        let mut begun = VecDeque::new();
        // From the youngest on, so that the oldest ends up in front.
        while let Some(ticket) = context.sent.pop_back() {
            if page.recall(ticket) {
                if let Some(sent) = slot.land(ticket) {
                    context.waiting.push_front(sent.waiting);
                }
            } else {
                begun.push_front(ticket);
            }
        }
        context.sent = begun;
        slot.ahead += context.sent.len().saturating_sub(1);
        context.sent.is_empty()
    }

    // ---- what a lane's actor asks and tells -----------------------------------------------------

    /// Encodes what may be sent to a lane now.
    pub(super) fn fill(&mut self, slot_number: usize) {
        // A context that has to wait for the window goes to the back; each gets one look.
        let mut looks = self.slots[slot_number].ready.len();
        while looks > 0 && self.slots[slot_number].state == LaneState::Up {
            let slot = &mut self.slots[slot_number];
            if !slot.has_room() {
                break;
            }
            let Some(key) = slot.ready.pop_front() else { break };
            looks -= 1;
            let Some(context) = self.contexts.get_mut(&key) else { continue };
            context.queued = None;
            let first = context.sent.is_empty();
            let wanted = context.wants();
            let misplaced = context.place.is_some_and(|place| place.slot != slot_number)
                || wanted == LaneKind::Quarantine && slot.kind != LaneKind::Quarantine
                || wanted != LaneKind::Quarantine && slot.kind == LaneKind::Quarantine
                || context.stale;
            if misplaced {
                self.settle(key);
                continue;
            }
            let full = match slot.kind {
                // One run at a time, whoever's it is.
                LaneKind::Quarantine => slot.in_flight() > 0,
                _ => !first && slot.ahead >= self.rules.window,
            };
            if full {
                context.queued = Some(slot_number);
                slot.ready.push_back(key);
                continue;
            }
            let Some(ticket) = slot.ticket() else {
                context.queued = Some(slot_number);
                slot.ready.push_front(key);
                break;
            };
            self.keys += 1;
            if send(context, key, slot, slot_number, ticket, ContextId(self.keys)) {
                looks += 1;
            }
        }
    }

    /// A lane came up in this slot.
    pub(super) fn up(&mut self, slot: usize, walls: Walls) {
        for wall in walls.missing {
            if !self.walls.missing.contains(&wall) {
                self.walls.missing.push(wall);
            }
        }
        self.slots[slot].state = LaneState::Up;
        self.slots[slot].wake();
    }

    /// A run ended in its lane. What was taken back or closed meanwhile is no news.
    pub(super) fn finished(&mut self, slot_number: usize, mut report: Box<RunReport>) {
        let slot = &mut self.slots[slot_number];
        let Some(sent) = slot.land(Ticket::from_key(report.key)) else { return };
        slot.fruitless = 0;
        let key = sent.context;
        let Some(context) = self.contexts.get_mut(&key) else { return };
        if context.sent.len() > 1 {
            slot.ahead -= 1;
        }
        if context.sent.front() == Some(&sent.ticket) {
            context.sent.pop_front();
        } else {
            context.sent.retain(|ticket| *ticket != sent.ticket);
        }
        report.key = sent.waiting.run.key;
        let now = Instant::now();
        report.waited = now.duration_since(sent.waiting.since).saturating_sub(report.duration);
        context.ran(report.duration, report.cpu, report.heap_bytes, self.rules.slow_after);
        context.last_used = now;
        *report = report.checked(&context.spec.limits);
        context.spec.program.locate(&mut report);
        context.sink.send(Report::Finished(report));
        self.settle(key);
        self.recovered(slot_number);
    }

    /// A run asks. An error is what no honest lane would ask: the lane has to go.
    pub(super) fn asked(&mut self, slot_number: usize, asks: Asks) -> Result<(), String> {
        let Asks { context: id, run, call, question } = asks;
        let slot = &mut self.slots[slot_number];
        let page = slot.page.clone();
        let ticket = Ticket::from_key(run);
        // What was taken back or closed meanwhile needs no answer.
        let Some(sent) = slot.get_mut(ticket) else { return Ok(()) };
        let Some(context) = self.contexts.get(&sent.context) else { return Ok(()) };
        let here = context.place.is_some_and(|at| at.slot == slot_number && at.id == id);
        if !here || !page.is_some_and(|page| page.begun(ticket)) {
            return Err("it asked for a run that it does not have".into());
        }
        sent.asked += 1;
        sent.open += 1;
        sent.fetches += u32::from(matches!(question, Question::Fetch(_)));
        let limits = context.limits();
        if sent.asked > limits.calls || sent.fetches > limits.fetches || sent.open > OPEN_MAX {
            return Err("it asked more than a run may".into());
        }
        question.check()?;
        let key = sent.waiting.run.key;
        context.sink.send(Report::Asked(Asked { key, call, question }));
        Ok(())
    }

    /// Sends an answer to the run that asked, if it is still there.
    pub(super) fn answer(&mut self, key: ContextKey, run: RunKey, call: CallId, answer: Answer) {
        let Some(context) = self.contexts.get(&key) else { return };
        let Some(place) = context.place else { return };
        let slot = &mut self.slots[place.slot];
        let of_run =
            |ticket: &&Ticket| slot.get(**ticket).is_some_and(|sent| sent.waiting.run.key == run);
        let Some(&ticket) = context.sent.iter().find(of_run) else { return };
        let Some(sent) = slot.get_mut(ticket) else { return };
        sent.open = sent.open.saturating_sub(1);
        sent.answered_bytes += answer.bytes();
        let answer = if sent.answered_bytes > ANSWERS_BYTES_MAX {
            Answer::Refused(format!("a run may be answered {ANSWERS_BYTES_MAX} bytes in all"))
        } else if !slot.takes_answer(answer.bytes()) {
            Answer::Refused("the lane has too many answers to read; try again".into())
        } else {
            answer
        };
        let reply = Reply { context: place.id, run: ticket.key(), call, answer };
        // An answer is far shorter than a frame may be; a lane that misses one waits for its limit.
        let _ = slot.push(&ToLane::Answer(Box::new(reply)));
        slot.wake();
    }

    /// A runtime cannot be built, by no fault of its script.
    pub(super) fn broken(&mut self, slot: usize, id: ContextId, message: String) {
        let found = self.contexts.iter().find(|(_, context)| {
            context.place.is_some_and(|place| place.slot == slot && place.id == id)
        });
        let Some((&key, _)) = found else { return };
        // Its subscription decides whether and when to try again.
        self.give_back(key);
        self.contexts[&key].sink.send(Report::Broken(message));
    }

    /// Contexts whose runtime is in this slot, or that stand in its queue.
    pub(super) fn contexts_in(&self, slot: usize) -> Vec<ContextKey> {
        let mut keys: Vec<ContextKey> = self
            .contexts
            .iter()
            .filter(|(_, context)| {
                context.queued == Some(slot)
                    || context.place.is_some_and(|place| place.slot == slot)
            })
            .map(|(key, _)| *key)
            .collect();
        keys.sort_unstable();
        keys
    }

    pub(super) fn unqueue(&mut self, key: ContextKey) {
        let Some(context) = self.contexts.get_mut(&key) else { return };
        if let Some(slot) = context.queued.take() {
            self.slots[slot].ready.retain(|queued| *queued != key);
        }
    }

    /// Drops the runtimes in this slot that nobody used for a while.
    pub(super) fn hibernate(&mut self, slot: usize, now: Instant) {
        let idle_for = self.rules.idle_for;
        let idle: Vec<ContextKey> = self
            .contexts
            .iter()
            .filter(|(_, context)| {
                context.place.is_some_and(|place| place.slot == slot)
                    && context.sent.is_empty()
                    && context.waiting.is_empty()
                    && now.saturating_duration_since(context.last_used) >= idle_for
            })
            .map(|(key, _)| *key)
            .collect();
        for key in idle {
            self.leave_place(key);
        }
    }

    /// Returns every run there is and every run to come: the end.
    pub(super) fn stop(&mut self) {
        let mut keys: Vec<ContextKey> = self.contexts.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.give_back(key);
        }
        self.stopped = true;
        for slot in &mut self.slots {
            slot.state = LaneState::Stopped;
            slot.wake();
        }
    }

    /// The page of a lane that was just started in this slot.
    pub(super) fn starting(&mut self, slot: usize, page: Page, pid: Option<u32>) {
        let slot = &mut self.slots[slot];
        slot.state = LaneState::Starting;
        slot.page = Some(page);
        slot.pid = pid;
    }
}

/// Encodes the next run of a context, and its runtime before that if it has none. True when the
/// context stands in the queue again because it may send more.
fn send(
    context: &mut Context,
    key: ContextKey,
    slot: &mut Slot,
    slot_number: usize,
    ticket: Ticket,
    fresh: ContextId,
) -> bool {
    let Some(waiting) = context.waiting.pop_front() else {
        slot.cancel(ticket);
        return false;
    };
    let id = context.place.map_or(fresh, |place| place.id);
    let opened = if context.place.is_some() {
        Ok(())
    } else {
        let ContextSpec { owner, program, limits } = &context.spec;
        slot.push(&ToLane::Open(Box::new(program.open(id, *limits, owner))))
    };
    let encoded = opened.and_then(|()| {
        if context.place.is_none() {
            context.place = Some(Place { slot: slot_number, id });
            slot.open += 1;
        }
        let mut request = RunRequest::of(id, &waiting.run);
        request.key = ticket.key();
        slot.push(&ToLane::Run(Box::new(request)))
    });
    if let Err(error) = encoded {
        // Too long for a frame: another attempt would be no shorter.
        slot.cancel(ticket);
        let message = format!("the run cannot be handed to a lane: {error}");
        let error = RunError { kind: ErrorKind::HostCrash, message, stack: None };
        context.sink.send(Report::Crashed(waiting.run.key, error));
    } else {
        if !context.sent.is_empty() {
            slot.ahead += 1;
        }
        context.sent.push_back(ticket);
        slot.launch(Sent {
            ticket,
            context: key,
            waiting,
            at: Instant::now(),
            asked: 0,
            fetches: 0,
            open: 0,
            answered_bytes: 0,
        });
    }
    let more = !context.waiting.is_empty()
        && context.sent.len() < context.sent_max()
        && context.wants() == slot.kind;
    if more {
        context.queued = Some(slot_number);
        slot.ready.push_back(key);
    }
    more
}
