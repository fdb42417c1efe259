//! A subscription at work: its deliveries in hand, their order, retries and outcomes.
//!
//! Receives `Deliver` (router), `Due` (scheduler), `Report` (sandbox), `Changed`, `ScriptChanged`,
//! `Wake`, `Drop` (supervisor). Sends settlements to the journal and `Crashed` to the supervisor.
//!
//! Bound: `limits.mailbox` deliveries in hand, rows included. The router and the scheduler look at
//! the slot before they send; what does not fit stays on disk and the subscription is *behind*: it
//! reads the log from its cursor, through its own filter, until it has caught up.
//!
//! State that must survive a crash of the actor lives in its `Slot`; what else is here is rebuilt
//! from the cursor.

mod compiled;
mod ending;
mod messages;
mod running;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    panic::AssertUnwindSafe,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use futures::future::AbortHandle;
use rustc_hash::FxHashMap;
use tracing::{error, warn};

use self::compiled::Compiled;
pub(crate) use self::messages::{Deliver, Due, SubscriptionHandle};
use super::{
    core::{Core, Slot},
    journal::{Emission, KeyWrites},
    programs::Loaded,
    supervisor::Crashed,
};
use crate::{
    domain::{
        Definition, ErrorKind, Event, Millis, Ordering, RunError, Seq, history::History,
        kv::Namespace, rate::RateWindow,
    },
    filter::View,
    host::{Grants, Mask, RunHost},
    sandbox::{ContextHandle, RunFacts, RunKey},
    store::journal::{DeliveryRow, RowStatus},
    traces::Begun,
};

/// Deliveries that one context may have queued in its lane. Enough to keep a lane busy while the
/// parent is elsewhere; little enough that a slow script does not hoard.
pub(crate) const PIPELINE: usize = 16;

/// One delivery in hand.
struct Delivery {
    event: Arc<Event>,
    /// It waits in a row; `None` for the happy path.
    row: Option<Box<DeliveryRow>>,
    /// Key under strict order; `None` under relaxed.
    key: Option<Rc<str>>,
    fanout: u32,
    due: Instant,
    /// Runs of this attempt that lost what they had read to others, and where.
    conflicts: u32,
    contested: BTreeSet<Namespace>,
}

impl Delivery {
    fn new(
        event: Arc<Event>,
        row: Option<Box<DeliveryRow>>,
        key: Option<Rc<str>>,
        fanout: u32,
    ) -> Self {
        Self {
            event,
            row,
            key,
            fanout,
            due: Instant::now(),
            conflicts: 0,
            contested: BTreeSet::new(),
        }
    }

    fn attempts(&self) -> u32 {
        self.row.as_ref().map_or(0, |row| row.attempts)
    }

    fn replay(&self) -> u32 {
        self.row.as_ref().map_or(0, |row| row.replay)
    }

    /// The version of the script that a replay wants, whatever the subscription's is.
    fn pinned_version(&self) -> Option<u32> {
        self.row.as_ref().and_then(|row| row.pinned_version)
    }

    fn is_alone(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.status == RowStatus::Suspect)
    }
}

/// A delivery that was given to a context.
struct InFlight {
    delivery: Delivery,
    /// Version and rights of its context, and which context that is.
    version: u32,
    grants: Arc<Grants>,
    /// Hides the secrets that the script had when it started.
    mask: Option<Arc<Mask>>,
    lane: u32,
    facts: RunFacts,
    /// How far it might go on its chain of emits.
    emits_within_loop_limits: u32,
    loop_message: Option<Arc<str>>,
    sent: Instant,
    sent_at: Millis,
    /// Made when it asks first.
    host: Option<RunHost>,
    /// Its span, if it is recorded.
    trace: Option<Box<Begun>>,
    /// Ends its open questions with it.
    questions: Vec<OpenQuestion>,
}

/// A question that is being answered; dropping it gives that up.
struct OpenQuestion(AbortHandle);

impl Drop for OpenQuestion {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a successful run leaves behind.
#[derive(Default)]
struct Effects {
    emits: Vec<Emission>,
    kv: KeyWrites,
}

/// One runtime of this subscription.
struct Lane {
    id: u32,
    handle: ContextHandle,
    version: u32,
    in_flight: usize,
}

pub(crate) struct SubscriptionActor {
    core: Rc<Core>,
    slot: Rc<Slot>,
    supervisor: Recipient<Crashed>,
    /// Earlier ones are kept for what is read from the log.
    definitions: History<Compiled>,
    reading: bool,
    queue: VecDeque<Delivery>,
    in_flight: FxHashMap<RunKey, InFlight>,
    /// At most `concurrency` of the current version, and those of others while they are in use.
    lanes: Vec<Lane>,
    lanes_opened: u32,
    loading: bool,
    program: Option<Arc<Loaded>>,
    /// Of the version that a replay wanted last.
    pinned: Option<Arc<Loaded>>,
    /// Grows when what is loaded must not be used any more.
    program_revision: u64,
    /// Strict order: keys with a delivery under way or waiting for a retry, and who waits for them.
    blocked: HashMap<Rc<str>, VecDeque<Delivery>>,
    /// Mean duration of a run, exponentially weighted.
    pace: Duration,
    runs: u64,
    /// What the rate limit counts, and the timer that goes on when it holds a run back.
    rate: RateWindow,
    goes_on: Option<SpawnHandle>,
}

impl SubscriptionActor {
    /// Starts on the core thread. `definitions` are not empty.
    pub(crate) fn launch(
        core: Rc<Core>,
        slot: Rc<Slot>,
        definitions: Vec<(Seq, Definition)>,
        held: Vec<Arc<Event>>,
        supervisor: Recipient<Crashed>,
    ) -> SubscriptionHandle {
        let compiled = definitions.into_iter().map(|(from, d)| (from, Compiled::of(d)));
        let mut actor = Self {
            definitions: History::new(compiled.collect()).expect("a subscription has a definition"),
            core,
            slot: Rc::clone(&slot),
            supervisor,
            reading: false,
            queue: VecDeque::new(),
            in_flight: FxHashMap::default(),
            lanes: Vec::new(),
            lanes_opened: 0,
            loading: false,
            program: None,
            pinned: None,
            program_revision: 0,
            blocked: HashMap::new(),
            pace: Duration::ZERO,
            runs: 0,
            rate: RateWindow::default(),
            goes_on: None,
        };
        for event in held {
            // A delivery that waits for its retry blocks its key from the start.
            if let Some(key) = actor.key_of(&event) {
                actor.blocked.entry(key).or_default();
            }
        }
        let handle = SubscriptionHandle(actor.start());
        *slot.handle.borrow_mut() = Some(handle.clone());
        handle
    }

    fn definition(&self) -> &Definition {
        &self.definitions.current().definition
    }

    fn forget_definitions(&mut self) {
        self.definitions.forget_before(self.slot.feed.borrow().needs_from());
    }

    fn key_of(&self, event: &Event) -> Option<Rc<str>> {
        let compiled = self.definitions.current();
        if compiled.definition.ordering == Ordering::Relaxed {
            return None;
        }
        // Without a key, and for events that lack it, the order is that of the whole subscription.
        let key = compiled.key.as_ref().and_then(|path| path.key(&View::new(event)));
        Some(key.unwrap_or_default().into())
    }

    // ── taking in ────────────────────────────────────────────────────────────────────────────

    fn take(&mut self, event: Arc<Event>, fanout: u32) {
        self.core.hold(&event);
        let key = self.key_of(&event);
        self.enqueue(Delivery::new(event, None, key, fanout));
    }

    /// Under strict order a delivery waits behind the one that has its key.
    fn enqueue(&mut self, delivery: Delivery) {
        match &delivery.key {
            None => self.queue.push_back(delivery),
            Some(key) => match self.blocked.get_mut(key) {
                Some(waiting) => waiting.push_back(delivery),
                None => {
                    self.blocked.insert(Rc::clone(key), VecDeque::new());
                    self.queue.push_back(delivery);
                }
            },
        }
    }

    /// The key's delivery has succeeded or died: the next one of the key goes on.
    fn free_key(&mut self, key: Option<&Rc<str>>) {
        let Some(key) = key else { return };
        let Some(waiting) = self.blocked.get_mut(key) else { return };
        match waiting.pop_front() {
            Some(next) => self.queue.push_back(next),
            None => {
                self.blocked.remove(key);
            }
        }
    }

    // ── behind ───────────────────────────────────────────────────────────────────────────────

    /// Reads on, if behind, allowed to run, and there is room.
    fn read_on(&mut self, ctx: &mut Context<Self>) {
        let slot = &self.slot;
        let room =
            slot.in_hand() < self.core.config.limits.mailbox / 2 && !self.core.memory_is_full();
        if slot.is_live()
            || self.reading
            || !slot.runs()
            || slot.retired.get()
            || self.core.draining.get()
            || self.core.on_trial()
        {
            return;
        }
        let (read, upto) = (slot.feed.borrow().read(), self.core.routed.get());
        if read >= upto {
            // Beyond it, a start left the router behind this cursor: it has still to get here.
            if slot.feed.borrow_mut().catch_up(upto) {
                self.caught_up();
            }
            return;
        }
        if !room {
            return;
        }
        self.reading = true;
        let (reader, after) = (self.core.reader.clone(), read);
        let read = async move { reader.read(after, upto).await };
        ctx.spawn(read.into_actor(self).map(move |events, actor, ctx| {
            actor.guarded(ctx, None, |actor, ctx| {
                actor.reading = false;
                match events {
                    Ok(events) => actor.feed(events, after, upto),
                    Err(error) => {
                        warn!(subscription = %actor.slot.id, %error, "stored events cannot be read yet");
                        ctx.run_later(Duration::from_millis(500), |actor, ctx| actor.read_on(ctx));
                        return;
                    }
                }
                actor.pump(ctx);
                actor.read_on(ctx);
            });
        }));
    }

    fn feed(&mut self, events: Vec<Arc<Event>>, after: Seq, upto: Seq) {
        // What was asked for may be stale: the queue was dropped meanwhile and the cursor set back.
        if self.slot.is_live() || self.slot.feed.borrow().read() != after {
            return;
        }
        if events.is_empty() {
            self.slot.feed.borrow_mut().pass(upto);
        }
        let limit = self.core.config.limits.mailbox;
        for event in events {
            if self.slot.in_hand() >= limit {
                return;
            }
            let is_new = self.slot.feed.borrow_mut().pass(event.seq);
            if !is_new || !self.definitions.at(event.seq).matches(&event) {
                continue;
            }
            self.slot.unread.set(self.slot.unread.get().saturating_sub(1));
            if self.slot.takes_for_suspect(event.seq) && self.suspect(&event) {
                continue;
            }
            if self.slot.feed.borrow_mut().take(event.seq) {
                let fanout = self.core.fanout(&event);
                self.take(event, fanout);
            }
        }
    }

    /// It goes on alone, from a row of its own, once its mark is stored. False under strict order
    /// behind another one of its key: that one was running, not this.
    fn suspect(&mut self, event: &Event) -> bool {
        if let Some(key) = self.key_of(event) {
            if self.blocked.contains_key(&key) {
                return false;
            }
            self.blocked.insert(key, VecDeque::new());
        }
        super::supervisor::suspect(&self.core, &self.slot, event);
        true
    }

    /// Everything that the router has matched was read: from here on it feeds us.
    fn caught_up(&mut self) {
        self.slot.unread.set(0);
        self.forget_definitions();
        self.core.watch(&self.slot);
    }

    /// Drops what has not started: the cursor, or its rows, hold it.
    fn drop_waiting(&mut self) {
        let blocked = std::mem::take(&mut self.blocked);
        let waiting: Vec<Delivery> = std::mem::take(&mut self.queue)
            .into_iter()
            .chain(blocked.into_values().flatten())
            .collect();
        for delivery in waiting {
            self.core.release(&delivery.event);
            if let Some(row) = &delivery.row {
                self.core.rows_out.borrow_mut().remove(&row.id);
                self.slot.rows_in_hand.set(self.slot.rows_in_hand.get().saturating_sub(1));
                self.slot.rows_waiting.set(self.slot.rows_waiting.get() + 1);
            }
        }
        // Those that run now keep their keys, and stay in hand.
        let mut flying: Vec<(Seq, Option<Rc<str>>)> = self
            .in_flight
            .values()
            .filter(|in_flight| in_flight.delivery.row.is_none())
            .map(|in_flight| (in_flight.delivery.event.seq, in_flight.delivery.key.clone()))
            .collect();
        flying.sort();
        self.slot.feed.borrow_mut().rewind(flying.iter().map(|(seq, _)| *seq));
        for key in flying.into_iter().filter_map(|(_, key)| key) {
            self.blocked.entry(key).or_default();
        }
    }

    // ── panics ───────────────────────────────────────────────────────────────────────────────

    /// Runs a handler's body; a panic in it stops this actor, and its supervisor decides.
    fn guarded(
        &mut self,
        ctx: &mut Context<Self>,
        culprit: Option<Arc<Event>>,
        body: impl FnOnce(&mut Self, &mut Context<Self>),
    ) {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| body(self, ctx)));
        if let Err(panic) = result {
            let message = panic_message(&*panic);
            error!(subscription = %self.slot.id, %message, "subscription actor panicked");
            if let Some(event) = culprit {
                // The attempt is the culprit's alone; everything else runs again uncounted.
                let error = RunError {
                    kind: ErrorKind::HostCrash,
                    message: format!("the subscription's actor panicked: {message}"),
                    stack: None,
                };
                let delivery = Delivery::new(event, None, None, 1);
                let version = self.program.as_ref().map_or(0, |program| program.version);
                if self.slot.holds(delivery.event.seq) {
                    self.fail_unrun(delivery, version, error);
                }
            }
            self.crash(ctx, message);
        }
    }

    fn crash(&mut self, ctx: &mut Context<Self>, reason: String) {
        // The supervisor's mailbox takes one message per crash.
        self.supervisor.do_send(Crashed { subscription: self.slot.id, reason });
        ctx.stop();
    }
}

/// The text of a panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

impl Actor for SubscriptionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.read_on(ctx);
    }

    /// What it still had in hand is held by its cursor and its rows, and not by memory any more.
    fn stopped(&mut self, _: &mut Context<Self>) {
        let queued = self.queue.iter().chain(self.blocked.values().flatten());
        let flying = self.in_flight.values().map(|in_flight| &in_flight.delivery);
        for delivery in queued.chain(flying) {
            self.core.release(&delivery.event);
            if let Some(row) = &delivery.row {
                self.core.rows_out.borrow_mut().remove(&row.id);
            }
        }
        self.slot.rows_in_hand.set(0);
        self.slot.in_flight.set(0);
    }
}
