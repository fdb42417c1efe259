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

use std::{
    cell::OnceCell,
    collections::{BTreeSet, HashMap, VecDeque},
    panic::AssertUnwindSafe,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use futures::future::{AbortHandle, Abortable};
use rustc_hash::FxHashMap;
use serde_json::json;
use tracing::{error, info, warn};

use super::{
    core::{Core, Slot},
    journal::{Emission, KeyWrites, Request, RowChange, Settlement},
    programs::{LoadError, Loaded},
    supervisor::Crashed,
};
use crate::{
    config::Record,
    domain::{
        Cause, DataEncoding, Definition, DeliveryId, Envelope, ErrorKind, Event, Lineage, Millis,
        NewEvent, OnDead, Ordering, RunError, RunLog, Seq, Span, block::Outcome, history::History,
        kv::Namespace, rate::RateWindow,
    },
    filter::{Filter, KeyPath, View},
    host::{CommitError, Grants, Mask, Recording, RunHost},
    sandbox::{
        Asked, ContextHandle, ContextOwner, ContextSpec, Emit, Host, IdempotencyKey, KvWrite,
        Report, Run, RunFacts, RunKey, RunLimits, RunReport,
    },
    store::journal::{DeliveryRow, EventKey, RowStatus},
    traces::{Attributes, Begun, Thread},
};

/// Deliveries that one context may have queued in its lane. Enough to keep a lane busy while the
/// parent is elsewhere; little enough that a slow script does not hoard.
pub(crate) const PIPELINE: usize = 16;
/// Above this mean duration of a run nothing is queued ahead: another context may be free sooner.
const PIPELINE_RUN_MAX: Duration = Duration::from_millis(5);
/// Runs of one attempt that may lose what they read to other runs.
const CONFLICTS_MAX: u32 = 5;
/// Requests waiting for the journal above which runs that succeeded silently are sampled.
const SAMPLE_ABOVE: u64 = 20_000;
/// Under that pressure one run of so many is kept.
const SAMPLE_ONE_OF: u64 = 16;

/// The way in; same thread only.
#[derive(Clone)]
pub(crate) struct SubscriptionHandle(Addr<SubscriptionActor>);

impl SubscriptionHandle {
    /// Hands a fresh delivery over. The caller has entered it into the slot's window: when the actor
    /// is gone (it is being restarted), its restart reads it again.
    pub(crate) fn deliver(&self, deliver: Deliver) {
        // `do_send` ignores the mailbox bound: the router has looked at the slot, which counts what
        // is in hand, reports included, and that is the bound (`limits.mailbox`).
        self.0.do_send(deliver);
    }

    /// A message that must not be lost to a full mailbox and comes rarely.
    fn tell<M>(&self, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        SubscriptionActor: Handler<M>,
    {
        // `do_send` ignores the bound: these are few, and bounded by their senders.
        self.0.do_send(message);
    }

    pub(crate) fn due(&self, due: Due) {
        self.tell(due);
    }

    pub(crate) fn changed(&self, from: Seq, definition: Definition) {
        self.tell(Changed { from, definition });
    }

    pub(crate) fn script_changed(&self) {
        self.tell(ScriptChanged);
    }

    /// State changed, memory came free, or it fell behind: look what there is to do.
    pub(crate) fn wake(&self) {
        self.tell(Wake);
    }

    /// Forget what is queued: a cursor covers it.
    pub(crate) fn drop_queue(&self) {
        self.tell(DropQueue);
    }

    pub(crate) fn discard(&self) {
        self.tell(Discard);
    }

    pub(crate) fn stop(&self) {
        self.tell(Stop);
    }

    pub(crate) fn is_gone(&self) -> bool {
        !self.0.connected()
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Deliver {
    pub(crate) event: Arc<Event>,
    /// How many deliveries the event has, this one included.
    pub(crate) fanout: u32,
}

/// A delivery with a row is due: a retry, a replay, a suspect.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Due {
    pub(crate) row: Box<DeliveryRow>,
    /// `None`: the event is gone, which retention does not do.
    pub(crate) event: Arc<Event>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Changed {
    from: Seq,
    definition: Definition,
}

#[derive(Message)]
#[rtype(result = "()")]
struct ScriptChanged;

#[derive(Message)]
#[rtype(result = "()")]
struct Wake;

#[derive(Message)]
#[rtype(result = "()")]
struct DropQueue;

#[derive(Message)]
#[rtype(result = "()")]
struct Discard;

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

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

/// A definition, ready to be matched.
struct Compiled {
    definition: Definition,
    /// Parsed when it is first asked: the router's index has one already, and this one serves only
    /// who reads the log by itself. `None`: what is stored does not parse, and matches nothing.
    filter: OnceCell<Option<Filter>>,
    key: Option<KeyPath>,
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
    /// Strict order: keys with a delivery under way or waiting for a retry, and who waits for them.
    blocked: HashMap<Rc<str>, VecDeque<Delivery>>,
    /// Mean duration of a run, exponentially weighted.
    pace: Duration,
    runs: u64,
    /// What the rate limit counts, and the timer that goes on when it holds a run back.
    rate: RateWindow,
    goes_on: Option<SpawnHandle>,
    /// Why deliveries cannot start: the program does not compile.
    broken: Option<RunError>,
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
            blocked: HashMap::new(),
            pace: Duration::ZERO,
            runs: 0,
            rate: RateWindow::default(),
            goes_on: None,
            broken: None,
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

    // ── running ──────────────────────────────────────────────────────────────────────────────

    /// Ends a delivery whose payload was erased: a person wanted it so, hence discarded. A run that
    /// is under way leaves nothing behind.
    fn end_erased(&mut self, delivery: &Delivery) {
        let row = delivery.row.as_ref().map_or(RowChange::None, |row| RowChange::Done(row.id));
        let none = Effects::default();
        self.settle(delivery, Outcome::Discarded, 0, Duration::ZERO, None, none, row);
        self.let_go(delivery);
        self.free_key(delivery.key.as_ref());
    }

    /// Starts what may start.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        if !self.slot.runs() || self.core.draining.get() || self.queue.is_empty() {
            return;
        }
        let Some(program) = self.program.clone() else {
            self.load(ctx);
            return;
        };
        let now = Millis::now();
        while let Some(delivery) = self.queue.front() {
            if self.core.is_erased(&delivery.event) {
                let delivery = self.queue.pop_front().expect("the front was just seen");
                self.end_erased(&delivery);
                continue;
            }
            if let Some(error) = self.expired(delivery, now) {
                let delivery = self.queue.pop_front().expect("the front was just seen");
                self.fail(delivery, program.version, Duration::ZERO, None, error, None);
                continue;
            }
            let pinned = delivery.row.as_ref().and_then(|row| row.pinned_version);
            let is_alone = delivery.is_alone();
            if self.is_held(now, ctx) {
                return;
            }
            if let Some(version) = pinned.filter(|&version| version != program.version) {
                // A replay with another version: its context is opened when it is loaded.
                let delivery = self.queue.pop_front().expect("the front was just seen");
                self.count_start();
                self.load_pinned(delivery, version, ctx);
                continue;
            }
            let one_is_alone = || self.in_flight.values().any(|flying| flying.delivery.is_alone());
            if !self.in_flight.is_empty() && (is_alone || one_is_alone()) {
                return;
            }
            let Some(lane) = self.free_lane(&program, ctx) else { return };
            let delivery = self.queue.pop_front().expect("the front was just seen");
            self.count_start();
            self.start(delivery, lane, &program, now);
        }
    }

    /// The error of a delivery that waited too long. Whoever replays a letter wants it to run.
    fn expired(&self, delivery: &Delivery, now: Millis) -> Option<RunError> {
        let age = self.definition().limits.expires_after?;
        let waited = now.since(delivery.event.accepted_at);
        if waited <= age.0 || delivery.replay() > 0 {
            return None;
        }
        Some(RunError {
            kind: ErrorKind::Expired,
            message: format!(
                "could not start within limits.expires_after ({age}): its event was accepted {} ago",
                Span(Duration::from_secs(waited.as_secs()))
            ),
            stack: None,
        })
    }

    fn count_start(&mut self) {
        if self.definition().limits.rate_limit.is_some() {
            self.rate.start(Instant::now());
        }
    }

    /// Whether the rate limit holds the next run back; if so, it goes on by itself.
    fn is_held(&mut self, now: Millis, ctx: &mut Context<Self>) -> bool {
        let Some(limit) = self.definition().limits.rate_limit else {
            self.rate.clear();
            self.slot.held_until.set(None);
            return false;
        };
        let wait = self.rate.wait(&limit, Instant::now());
        let until = wait.map(|wait| now.plus(wait));
        if let Some(wait) = wait
            && (self.slot.held_until.get() > until || self.goes_on.is_none())
        {
            let again = ctx.run_later(wait, |actor, ctx| {
                actor.goes_on = None;
                actor.guarded(ctx, None, |actor, ctx| {
                    actor.pump(ctx);
                    actor.read_on(ctx);
                });
            });
            if let Some(later) = self.goes_on.replace(again) {
                ctx.cancel_future(later);
            }
        }
        self.slot.held_until.set(until);
        until.is_some()
    }

    /// The runtime with the least to do, if it may take one more; opens one while there are fewer
    /// than `concurrency`.
    fn free_lane(&mut self, program: &Arc<Loaded>, ctx: &mut Context<Self>) -> Option<u32> {
        let definition = self.definition();
        let deep = definition.ordering == Ordering::Relaxed && self.pace < PIPELINE_RUN_MAX;
        let depth = if deep { PIPELINE } else { 1 };
        let concurrency = definition.concurrency as usize;
        let current = || self.lanes.iter().filter(|lane| lane.version == program.version);
        let best =
            current().min_by_key(|lane| lane.in_flight).map(|lane| (lane.id, lane.in_flight));
        match best {
            Some((id, 0)) => Some(id),
            _ if current().count() < concurrency => Some(self.open_lane(program, ctx)),
            Some((id, in_flight)) if in_flight < depth => Some(id),
            _ => None,
        }
    }

    fn open_lane(&mut self, program: &Loaded, ctx: &mut Context<Self>) -> u32 {
        let handle = self.core.sandbox.open(self.spec(program), ctx.address().recipient());
        self.lanes_opened += 1;
        let id = self.lanes_opened;
        self.lanes.push(Lane { id, handle, version: program.version, in_flight: 0 });
        id
    }

    fn lane(&mut self, id: u32) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.id == id)
    }

    fn limits(&self) -> RunLimits {
        let own = self.definition().limits;
        let defaults = self.core.config.run_limits();
        RunLimits {
            cpu: own.cpu_ms.map_or(defaults.cpu, Duration::from_millis),
            wall: own.wall_ms.map_or(defaults.wall, Duration::from_millis),
            heap_bytes: own
                .memory_bytes
                .and_then(|bytes| usize::try_from(bytes).ok())
                .unwrap_or(defaults.heap_bytes),
            ..defaults
        }
    }

    fn spec(&self, program: &Loaded) -> ContextSpec {
        ContextSpec {
            owner: ContextOwner {
                subscription: self.slot.id,
                subscription_name: Arc::clone(&self.slot.name.borrow()),
                script: program.script,
                script_name: Arc::clone(&program.name),
                script_version: program.version,
            },
            program: Arc::clone(&program.program),
            limits: self.limits(),
        }
    }

    fn start(&mut self, delivery: Delivery, lane: u32, program: &Loaded, now: Millis) {
        let version = program.version;
        let (key, run) = (self.core.next_key(), self.core.next_run(now));
        let policy = &self.definition().retry_policy;
        let row = delivery.row.as_ref();
        let event = &delivery.event;
        let limits = &self.core.config.limits;
        let spread = event.lineage.spread.saturating_mul(u64::from(delivery.fanout.max(1)));
        let within = if event.lineage.hop >= limits.max_hops {
            0
        } else {
            limits.max_spread / spread.max(1)
        };
        let within = u32::try_from(within).unwrap_or(u32::MAX);
        let facts = RunFacts {
            run_id: run,
            attempt: delivery.attempts() + 1,
            max_attempts: policy.max_attempts,
            replayed: delivery.replay() > 0,
            idempotency_key: match row.filter(|row| row.data.is_some()) {
                Some(row) => {
                    let key = format!("{}:{}:{}", row.event, row.subscription, row.replay);
                    IdempotencyKey::Own(key.into())
                }
                None => IdempotencyKey::OfDelivery,
            },
        };
        // The message is needed only near the limit; the common run carries none.
        let loop_message =
            (within < self.core.config.script.emits).then(|| self.loop_message(event).into());
        let request = Run {
            key,
            event: Arc::clone(event),
            data: row.and_then(|row| row.data.clone()).map(Into::into),
            facts: facts.clone(),
            emits_within_loop_limits: within,
            loop_message: Option::clone(&loop_message),
            alone: delivery.is_alone(),
            record: self.core.config.script.record == Record::All,
            tape: None,
        };
        let trace = self.core.doors.tracer.run(&delivery.event).map(Box::new);
        let in_flight = InFlight {
            delivery,
            version,
            grants: Arc::clone(&program.grants),
            mask: program.mask(&self.core.doors.vault),
            lane,
            facts,
            emits_within_loop_limits: within,
            loop_message,
            sent: Instant::now(),
            sent_at: now,
            host: None,
            trace,
            questions: Vec::new(),
        };
        self.in_flight.insert(key, in_flight);
        self.slot.in_flight.set(self.in_flight.len() as u32);
        if let Some(lane) = self.lane(lane) {
            lane.in_flight += 1;
            lane.handle.run(request);
        }
    }

    fn loop_message(&self, event: &Event) -> String {
        let cause = event.lineage.cause.map_or_else(
            || "a published event".to_owned(),
            |cause| format!("event {} through subscription {}", cause.event, cause.subscription),
        );
        let limits = &self.core.config.limits;
        format!(
            "an emit of subscription \"{}\" on {} (hop {}, spread {}), caused by {cause}, would pass \
             limits.max_hops ({}) or limits.max_spread ({})",
            self.slot.name.borrow(),
            event.envelope.event_type,
            event.lineage.hop,
            event.lineage.spread,
            limits.max_hops,
            limits.max_spread,
        )
    }

    fn load(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.loading, true) {
            return;
        }
        let definition = self.definition();
        let (script, version) = (definition.script, definition.script_version);
        let programs = self.core.programs.clone();
        let load = async move { programs.load(script, version).await };
        ctx.spawn(load.into_actor(self).map(|loaded, actor, ctx| {
            actor.guarded(ctx, None, |actor, ctx| {
                actor.loading = false;
                match loaded {
                    Ok(program) => {
                        actor.program = Some(program);
                        actor.broken = None;
                        actor.pump(ctx);
                    }
                    Err(error) => actor.cannot_load(error, ctx),
                }
            });
        }));
    }

    /// A script that does not compile (the API refuses those, a pinned version may be gone) is the
    /// script's failure: every waiting delivery takes an attempt.
    fn cannot_load(&mut self, error: LoadError, ctx: &mut Context<Self>) {
        if let LoadError::Store(error) = error {
            warn!(subscription = %self.slot.id, %error, "the script cannot be read yet");
            ctx.run_later(Duration::from_millis(500), |actor, ctx| actor.pump(ctx));
            return;
        }
        let failure =
            RunError { kind: ErrorKind::Compile, message: error.to_string(), stack: None };
        let version = self.definition().script_version.unwrap_or_default();
        for delivery in std::mem::take(&mut self.queue) {
            self.fail_unrun(delivery, version, failure.clone());
        }
        self.read_on(ctx);
    }

    fn load_pinned(&mut self, delivery: Delivery, version: u32, ctx: &mut Context<Self>) {
        let script = self.definition().script;
        let programs = self.core.programs.clone();
        let load = async move { programs.load(script, Some(version)).await };
        ctx.spawn(load.into_actor(self).map(move |loaded, actor, ctx| {
            actor.guarded(ctx, None, |actor, ctx| match loaded {
                Ok(program) => {
                    let found =
                        actor.lanes.iter().find(|lane| lane.version == version).map(|l| l.id);
                    let lane = found.unwrap_or_else(|| actor.open_lane(&program, ctx));
                    actor.start(delivery, lane, &program, Millis::now());
                }
                Err(error) => {
                    let failure = RunError {
                        kind: ErrorKind::Compile,
                        message: error.to_string(),
                        stack: None,
                    };
                    actor.fail_unrun(delivery, version, failure);
                }
            });
        }));
    }

    // ── ending ───────────────────────────────────────────────────────────────────────────────

    fn report(&mut self, report: Report, ctx: &mut Context<Self>) {
        match report {
            Report::Finished(report) => match self.landed(report.key) {
                // What it answered was made of the payload, and so is what it would leave behind.
                Some(in_flight) if self.core.is_erased(&in_flight.delivery.event) => {
                    self.end_erased(&in_flight.delivery);
                }
                Some(in_flight) => self.finished(in_flight, *report),
                None => {}
            },
            Report::Returned(key) => {
                if let Some(in_flight) = self.landed(key) {
                    self.queue.push_front(in_flight.delivery);
                }
            }
            Report::Crashed(key, error) => {
                if let Some(in_flight) = self.landed(key) {
                    let mut report = RunReport::unfinished(key, error);
                    report.duration = in_flight.sent.elapsed();
                    self.finished(in_flight, report);
                }
            }
            Report::Asked(asked) => {
                self.asked(asked, ctx);
                return;
            }
            Report::Broken(reason) => {
                self.lanes.clear();
                let mut returned: Vec<InFlight> =
                    std::mem::take(&mut self.in_flight).into_values().collect();
                returned.sort_by_key(|in_flight| std::cmp::Reverse(in_flight.delivery.event.seq));
                for in_flight in returned {
                    self.queue.push_front(in_flight.delivery);
                }
                self.crash(ctx, reason);
                return;
            }
        }
        self.pump(ctx);
        self.read_on(ctx);
    }

    /// Has a question answered; the run waits in its lane meanwhile.
    fn asked(&mut self, asked: Asked, ctx: &mut Context<Self>) {
        let Asked { key, call, question } = asked;
        let core = Rc::clone(&self.core);
        let Some(in_flight) = self.in_flight.get_mut(&key) else { return };
        self.slot.tally.borrow_mut().host_calls += 1;
        self.slot.meters().host_calls.increment(1);
        let InFlight { delivery, grants, lane, host, questions, trace, .. } = in_flight;
        let lane = *lane;
        let host = host.get_or_insert_with(|| {
            let thread = Thread::of(&core.doors.tracer, trace.as_deref(), &delivery.event);
            core.host(grants, delivery.contested.clone(), thread)
        });
        let (abort, registration) = AbortHandle::new_pair();
        questions.push(OpenQuestion(abort));
        let answer = Abortable::new(host.answer(question), registration);
        ctx.spawn(answer.into_actor(self).map(move |answer, actor, _| {
            if let (Ok(answer), Some(lane)) = (answer, actor.lane(lane)) {
                lane.handle.answer(key, call, answer);
            }
        }));
    }

    fn landed(&mut self, key: RunKey) -> Option<InFlight> {
        let in_flight = self.in_flight.remove(&key)?;
        self.slot.in_flight.set(self.in_flight.len() as u32);
        let current = self.program.as_ref().map(|program| program.version);
        if let Some(lane) = self.lane(in_flight.lane) {
            lane.in_flight -= 1;
            if lane.in_flight == 0 && Some(lane.version) != current {
                self.lanes.retain(|lane| lane.id != in_flight.lane);
            }
        }
        Some(in_flight)
    }

    fn finished(&mut self, in_flight: InFlight, mut report: RunReport) {
        let recording = self.recording(&in_flight, &mut report);
        let InFlight {
            mut delivery, version, grants, mask, facts, sent, sent_at, host, trace, ..
        } = in_flight;
        let script = grants.script;
        if let Some(mask) = mask {
            mask.report(&mut report);
        }
        let attempt = delivery.attempts() + 1;
        let waited = sent.duration_since(delivery.due) + report.waited;
        self.account(&report, waited);
        let outcome = report.outcome.and_then(|result| {
            let emits = self.emissions(&delivery, report.emits, trace.as_deref())?;
            Ok((result, emits))
        });
        // Last, for what is taken here is as good as committed.
        let outcome = match outcome {
            Ok((result, emits)) => match self.keys(&grants, host, report.kv) {
                Ok(kv) => Ok((result, Effects { emits, kv })),
                Err(CommitError::Conflict { namespace, .. })
                    if delivery.conflicts < CONFLICTS_MAX =>
                {
                    self.slot.tally.borrow_mut().kv_conflicts += 1;
                    self.slot.meters().kv_conflicts.increment(1);
                    delivery.conflicts += 1;
                    delivery.contested.insert(namespace);
                    self.queue.push_front(delivery);
                    return;
                }
                Err(error) => Err(RunError {
                    kind: ErrorKind::Exception,
                    message: format!("sdk.kv: {error}"),
                    stack: None,
                }),
            },
            Err(error) => Err(error),
        };
        let keep = outcome.is_err() || !report.logs.is_empty() || self.keeps_runs();
        let (result, effects, error) = match outcome {
            Ok((result, effects)) => (Some(result), effects, None),
            Err(error) => (None, Effects::default(), Some(error)),
        };
        let kept = keep.then(|| {
            Arc::new(RunLog {
                id: facts.run_id,
                event: delivery.event.uid,
                seq: delivery.event.seq,
                subscription: self.slot.id,
                script,
                script_version: version,
                attempt,
                replay: delivery.replay(),
                error: error.clone(),
                result,
                logs: report.logs,
                warnings: report.warnings,
                started_at: sent_at.plus(report.waited),
                duration: report.duration,
                cpu: report.cpu,
                queued: waited,
                emitted: Vec::new(),
                recording,
            })
        });
        let traced = trace.map(|trace| self.traced(*trace, &delivery, &facts, waited, &effects));
        let ended = traced.as_ref().and_then(|_| error.clone());
        let is_dead = match error {
            None => {
                self.succeed(delivery, version, report.duration, kept, effects);
                false
            }
            Some(error) => {
                self.fail(delivery, version, report.duration, kept, error, report.retry_after)
            }
        };
        if let Some((span, attributes)) = traced {
            self.core.doors.tracer.ran(span, &self.slot.name.borrow(), attributes, ended, is_dead);
        }
    }

    /// What a run's span says of it. What it emitted is recorded here.
    fn traced(
        &self,
        span: Begun,
        delivery: &Delivery,
        facts: &RunFacts,
        waited: Duration,
        effects: &Effects,
    ) -> (Begun, Attributes) {
        let emits = effects.emits.iter().map(|emission| &emission.event);
        self.core.doors.tracer.emitted(&span, emits);
        let event = &delivery.event;
        let attributes = vec![
            ("tripline.run.id", json!(facts.run_id)),
            ("tripline.run.attempt", json!(facts.attempt)),
            ("tripline.run.queued_ms", json!(waited.as_secs_f64() * 1_000.0)),
            ("tripline.subscription.id", json!(self.slot.id)),
            ("tripline.replay", json!(delivery.replay())),
            ("cloudevents.event_id", json!(event.id())),
            ("cloudevents.event_type", json!(*event.envelope.event_type)),
            ("tripline.event.uid", json!(event.uid)),
        ];
        (span, attributes)
    }

    /// What a run needs to run again, if its lane has kept its part and all of it is not too much.
    fn recording(&self, in_flight: &InFlight, report: &mut RunReport) -> Option<Vec<u8>> {
        let tape = report.tape.take()?;
        let room = self.core.config.script.record_room();
        if room == 0 {
            return None;
        }
        let calls = in_flight.host.as_ref().map_or_else(|| Some(Vec::new()), RunHost::calls)?;
        let row = in_flight.delivery.row.as_ref();
        let mut recording = Recording {
            script_name: self.program.as_ref().map_or("", |program| &program.name).to_owned(),
            subscription_name: self.slot.name.borrow().to_string(),
            limits: self.limits(),
            max_attempts: in_flight.facts.max_attempts,
            idempotency_key: match &in_flight.facts.idempotency_key {
                IdempotencyKey::OfDelivery => None,
                IdempotencyKey::Own(key) => Some(key.to_string()),
            },
            emits_within_loop_limits: in_flight.emits_within_loop_limits,
            loop_message: in_flight.loop_message.as_ref().map(ToString::to_string),
            data: row.and_then(|row| row.data.clone()),
            calls,
            emits: report.emits.clone(),
            kv: report.kv.clone(),
            tape,
            modules: self.program.as_ref().map_or_else(Vec::new, |program| program.modules.clone()),
        };
        recording.mask(in_flight.mask.as_deref());
        recording.encode(room)
    }

    /// Takes what a successful run wrote, if what it read still holds.
    fn keys(
        &self,
        grants: &Arc<Grants>,
        host: Option<RunHost>,
        writes: Vec<KvWrite>,
    ) -> Result<KeyWrites, CommitError> {
        let host = match host {
            Some(host) => host,
            None if writes.is_empty() => return Ok(KeyWrites::default()),
            None => self.core.host(grants, BTreeSet::new(), Thread::default()),
        };
        let (clock, changes) = host.commit(writes)?;
        Ok(KeyWrites { clock, changes })
    }

    fn keeps_runs(&mut self) -> bool {
        self.runs += 1;
        let keep =
            self.core.journal.waiting() < SAMPLE_ABOVE || self.runs.is_multiple_of(SAMPLE_ONE_OF);
        if !keep {
            self.slot.tally.borrow_mut().sampled += 1;
        }
        keep
    }

    fn account(&mut self, report: &RunReport, waited: Duration) {
        self.pace = (self.pace * 7 + report.duration) / 8;
        let meters = self.slot.meters();
        meters.duration.record(report.duration.as_secs_f64());
        meters.cpu.record(report.cpu.as_secs_f64());
        meters.waited.record(waited.as_secs_f64());
        let mut tally = self.slot.tally.borrow_mut();
        tally.cpu_us += u64::try_from(report.cpu.as_micros()).unwrap_or(0);
        tally.waited_us += u64::try_from(waited.as_micros()).unwrap_or(0);
        tally.wall_us += u64::try_from(report.duration.as_micros()).unwrap_or(0);
        tally.heap_bytes = report.heap_bytes;
        tally.recent.get_or_insert_default().ran(Millis::now(), report.duration);
    }

    /// What a successful run emits, as events to be.
    fn emissions(
        &self,
        delivery: &Delivery,
        emits: Vec<Emit>,
        trace: Option<&Begun>,
    ) -> Result<Vec<Emission>, RunError> {
        if emits.is_empty() {
            return Ok(Vec::new());
        }
        let event = &delivery.event;
        let id = DeliveryId::of(event.uid, self.slot.id);
        let replay = delivery.replay();
        let spread = event
            .lineage
            .spread
            .saturating_mul(u64::from(delivery.fanout.max(1)))
            .saturating_mul(emits.len() as u64);
        let source: Arc<str> = format!("/tripline/subscriptions/{}", self.slot.id).into();
        let lineage = Lineage {
            cause: Some(Cause { event: event.uid, subscription: self.slot.id }),
            hop: event.lineage.hop + 1,
            spread,
        };
        if lineage.hop > self.core.config.limits.max_hops
            || spread > self.core.config.limits.max_spread
        {
            // The lane refuses these; one that does not is not trusted.
            return Err(RunError {
                kind: ErrorKind::HopLimit,
                message: self.loop_message(event),
                stack: None,
            });
        }
        let thread = Thread::of(&self.core.doors.tracer, trace, event);
        let emission = |(ordinal, emit): (usize, Emit)| {
            let chosen = emit.id.is_some();
            let id = emit.id.unwrap_or_else(|| format!("{id}.{replay}.{ordinal}"));
            let event = NewEvent {
                envelope: Envelope {
                    id: Some(id.into()),
                    source: Arc::clone(&source),
                    event_type: emit.event_type.into(),
                    subject: emit.subject.map(Into::into),
                    time: None,
                    datacontenttype: None,
                    dataschema: None,
                    extensions: thread.child().1.map(|context| context.extend(None)),
                    encoding: DataEncoding::Json,
                },
                data: emit.data.into(),
                lineage: lineage.clone(),
            };
            let key = if chosen { EventKey::of(&event) } else { None };
            let due_at = emit.delay.map(|delay| Millis::steady().plus(delay));
            Emission { event, key, due_at }
        };
        Ok(emits.into_iter().enumerate().map(emission).collect())
    }

    fn succeed(
        &mut self,
        delivery: Delivery,
        version: u32,
        duration: Duration,
        run: Option<Arc<RunLog>>,
        effects: Effects,
    ) {
        self.slot.meters().succeeded.increment(1);
        {
            let mut tally = self.slot.tally.borrow_mut();
            tally.succeeded += 1;
            tally.breaker.succeeded(Millis::steady());
        }
        let row = match &delivery.row {
            Some(row) => RowChange::Done(row.id),
            None => RowChange::None,
        };
        self.settle(&delivery, Outcome::Succeeded, version, duration, run, effects, row);
        self.let_go(&delivery);
        self.free_key(delivery.key.as_ref());
    }

    /// True if it is dead, false if it is tried again.
    fn fail(
        &mut self,
        delivery: Delivery,
        version: u32,
        duration: Duration,
        run: Option<Arc<RunLog>>,
        error: RunError,
        retry_after: Option<Duration>,
    ) -> bool {
        let policy = &self.definition().retry_policy;
        let failed = policy.failed(error.kind, delivery.attempts(), retry_after, rand::random());
        let (dead, now) = (failed.wait.is_none(), Millis::now());
        let old = delivery.row.as_deref();
        let row = DeliveryRow {
            script_version: version,
            ..DeliveryRow::failed(
                old,
                &delivery.event,
                self.slot.id,
                failed,
                error.clone(),
                now,
                Millis::steady(),
            )
        };
        {
            let mut tally = self.slot.tally.borrow_mut();
            tally.last_error = Some(format!("{}: {}", error.kind.as_str(), error.message));
            tally.recent.get_or_insert_default().failed(now);
            if dead {
                self.slot.meters().dead.increment(1);
                tally.dead += 1;
                if error.kind != ErrorKind::Expired {
                    tally.breaker.died(row.first_failed_at.unwrap_or(now).by_steady());
                }
            } else {
                self.slot.meters().failed.increment(1);
                tally.failed += 1;
            }
        }
        let outcome = if dead { Outcome::Dead } else { Outcome::Retrying };
        let row = RowChange::Upsert(Box::new(row));
        self.settle(&delivery, outcome, version, duration, run, Effects::default(), row);
        self.let_go(&delivery);
        if dead {
            self.died(&delivery, &error);
        } else {
            // The scheduler hears of it from the commit. Its key stays blocked until then.
            self.slot.rows_waiting.set(self.slot.rows_waiting.get() + 1);
        }
        dead
    }

    /// Strict order may stop here, and so may a breaker.
    fn died(&mut self, delivery: &Delivery, error: &RunError) {
        let definition = self.definition();
        let strict_stop = delivery.key.is_some() && definition.on_dead == OnDead::Suspend;
        let limit = self.core.config.supervisor.breaker.dead_letters;
        let tripped = self.slot.tally.borrow().breaker.tripped(limit);
        if strict_stop {
            let reason = format!(
                "strict order: the delivery of event {} is dead ({}: {})",
                delivery.event.uid,
                error.kind.as_str(),
                error.message
            );
            self.suspend(reason);
        } else if let Some(in_a_row) = tripped {
            self.suspend(format!(
                "circuit breaker: {in_a_row} dead letters in a row, the last one {}: {}",
                error.kind.as_str(),
                error.message
            ));
        }
        self.free_key(delivery.key.as_ref());
    }

    fn suspend(&mut self, reason: String) {
        super::supervisor::suspend(&self.core, &self.slot, reason);
    }

    /// A delivery that failed before it could run.
    fn fail_unrun(&mut self, delivery: Delivery, version: u32, error: RunError) {
        let now = Millis::now();
        let run = Arc::new(RunLog {
            id: self.core.next_run(now),
            event: delivery.event.uid,
            seq: delivery.event.seq,
            subscription: self.slot.id,
            script: self.definition().script,
            script_version: version,
            attempt: delivery.attempts() + 1,
            replay: delivery.replay(),
            error: Some(error.clone()),
            result: None,
            logs: Vec::new(),
            warnings: Vec::new(),
            started_at: now,
            duration: Duration::ZERO,
            cpu: Duration::ZERO,
            queued: delivery.due.elapsed(),
            emitted: Vec::new(),
            recording: None,
        });
        self.fail(delivery, version, Duration::ZERO, Some(run), error, None);
    }

    #[allow(clippy::too_many_arguments)] // one call per field of the settlement
    fn settle(
        &self,
        delivery: &Delivery,
        outcome: Outcome,
        script_version: u32,
        duration: Duration,
        run: Option<Arc<RunLog>>,
        effects: Effects,
        row: RowChange,
    ) {
        let counted = self.slot.feed.borrow().holds_watermark(delivery.row.is_some());
        self.core.journal.submit(Request::Settle(Box::new(Settlement {
            seq: delivery.event.seq,
            event: delivery.event.uid,
            subscription: self.slot.id,
            outcome,
            script_version,
            attempt: delivery.attempts()
                + u32::from(run.is_some() || outcome == Outcome::Succeeded),
            replay: delivery.replay(),
            duration,
            counted,
            late: !counted,
            run,
            emits: effects.emits,
            kv: effects.kv,
            row,
            letter: delivery.row.as_ref().and_then(|row| row.letter),
        })));
    }

    /// The delivery is not in hand any more.
    fn let_go(&self, delivery: &Delivery) {
        self.core.release(&delivery.event);
        if delivery.row.is_some() {
            self.slot.rows_in_hand.set(self.slot.rows_in_hand.get().saturating_sub(1));
        } else {
            self.slot.feed.borrow_mut().settle(delivery.event.seq);
        }
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

impl Compiled {
    fn of(definition: Definition) -> Self {
        // Both were checked when the definition was saved; a filter that does not compile any more
        // would be a damaged store, and must match nothing rather than everything.
        let key = definition.ordering_key.as_deref().map(KeyPath::parse).transpose();
        Self { filter: OnceCell::new(), key: key.ok().flatten(), definition }
    }

    /// A filter that does not compile any more would be a damaged store, and must match nothing
    /// rather than everything.
    fn filter_takes(&self, text: &str, event: &Event) -> bool {
        let parse = || {
            let parsed = Filter::parse(text);
            if let Err(error) = &parsed {
                error!(%error, text, "a stored filter does not parse; it matches nothing");
            }
            parsed.ok()
        };
        let filter = self.filter.get_or_init(parse);
        filter.as_ref().is_some_and(|filter| filter.matches(&View::new(event)))
    }

    fn matches(&self, event: &Event) -> bool {
        self.definition.is_active
            && self.definition.event_type.matches(&event.envelope.event_type)
            && self.definition.filter.as_deref().is_none_or(|text| self.filter_takes(text, event))
    }
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

impl Handler<Deliver> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, deliver: Deliver, ctx: &mut Context<Self>) {
        let culprit = Arc::clone(&deliver.event);
        self.guarded(ctx, Some(culprit), |actor, ctx| {
            let Deliver { event, fanout } = deliver;
            // A cursor was set while this was on its way: the log has it.
            if !actor.slot.holds(event.seq) {
                return;
            }
            if !actor.core.faults.panic_on.is_empty()
                && actor.core.faults.panic_on.iter().any(|t| **t == *event.envelope.event_type)
            {
                panic!("planted: event type {}", event.envelope.event_type);
            }
            actor.take(event, fanout);
            actor.pump(ctx);
        });
    }
}

impl Handler<Due> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, due: Due, ctx: &mut Context<Self>) {
        self.guarded(ctx, None, |actor, ctx| {
            let Due { row, event } = due;
            actor.core.hold(&event);
            let key = actor.key_of(&event);
            let fanout = actor.core.fanout(&event);
            let slot = &actor.slot;
            slot.rows_in_hand.set(slot.rows_in_hand.get() + 1);
            slot.rows_waiting.set(slot.rows_waiting.get().saturating_sub(1));
            let holds_its_key = row.attempts > 0 || row.status == RowStatus::Suspect;
            let delivery = Delivery::new(event, Some(row), key, fanout);
            match &delivery.key {
                // A retry or suspect never let go of its key; a replay queues up like anybody else.
                Some(key) if holds_its_key => {
                    actor.blocked.entry(Rc::clone(key)).or_default();
                    actor.queue.push_back(delivery);
                }
                _ => actor.enqueue(delivery),
            }
            actor.pump(ctx);
        });
    }
}

impl Handler<Report> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, report: Report, ctx: &mut Context<Self>) {
        self.guarded(ctx, None, |actor, ctx| actor.report(report, ctx));
    }
}

impl Handler<Changed> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, changed: Changed, ctx: &mut Context<Self>) {
        self.guarded(ctx, None, |actor, ctx| {
            let Changed { from, definition } = changed;
            let before = actor.definition();
            let other_script = before.script != definition.script
                || before.script_version != definition.script_version
                || before.limits != definition.limits;
            actor.definitions.insert(from, Compiled::of(definition));
            actor.forget_definitions();
            if other_script {
                actor.retire_program();
            }
            actor.pump(ctx);
            actor.read_on(ctx);
        });
    }
}

impl SubscriptionActor {
    /// The next delivery loads the program anew; contexts with runs in them go when those end.
    fn retire_program(&mut self) {
        self.program = None;
        // Versions name contexts: one that must not be used any more gets a number nobody has.
        for lane in &mut self.lanes {
            lane.version = u32::MAX;
        }
        self.lanes.retain(|lane| lane.in_flight > 0);
    }
}

impl Handler<ScriptChanged> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, _: ScriptChanged, ctx: &mut Context<Self>) {
        self.guarded(ctx, None, |actor, ctx| {
            if actor.definition().script_version.is_none() {
                actor.retire_program();
                actor.pump(ctx);
            }
        });
    }
}

impl Handler<Wake> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Context<Self>) {
        self.guarded(ctx, None, |actor, ctx| {
            actor.pump(ctx);
            actor.read_on(ctx);
        });
    }
}

impl Handler<DropQueue> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, _: DropQueue, ctx: &mut Context<Self>) {
        self.guarded(ctx, None, |actor, ctx| {
            actor.drop_waiting();
            if actor.slot.runs() {
                // A backfill: its rows were dropped with all else, and nobody will resume it.
                actor.core.release_rows(actor.slot.id);
            }
            actor.pump(ctx);
            actor.read_on(ctx);
        });
    }
}

impl Handler<Discard> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, _: Discard, ctx: &mut Context<Self>) {
        self.guarded(ctx, None, |actor, ctx| {
            let blocked = std::mem::take(&mut actor.blocked);
            let flying = std::mem::take(&mut actor.in_flight);
            let all: Vec<Delivery> = std::mem::take(&mut actor.queue)
                .into_iter()
                .chain(blocked.into_values().flatten())
                .chain(flying.into_values().map(|in_flight| in_flight.delivery))
                .collect();
            info!(subscription = %actor.slot.id, deliveries = all.len(), "deliveries discarded");
            for delivery in all {
                let row =
                    delivery.row.as_ref().map_or(RowChange::None, |row| RowChange::Done(row.id));
                actor.settle(
                    &delivery,
                    Outcome::Discarded,
                    0,
                    Duration::ZERO,
                    None,
                    Effects::default(),
                    row,
                );
                actor.let_go(&delivery);
            }
            actor.lanes.clear();
            ctx.stop();
        });
    }
}

impl Handler<Stop> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
