//! What the actors of the core thread share: one thread, so plain cells and no locks.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    sync::Arc,
};

use actix::Recipient;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::watch;

use super::{
    journal::{Cover, Journal, Request},
    programs::Programs,
    reader::Reader,
    scheduler::Release,
    subscription::SubscriptionHandle,
};
use crate::{
    config::Config,
    domain::{
        DataEncoding, DeliveryId, Event, Millis, RunId, ScriptId, Seq, Subscription,
        SubscriptionId,
        breaker::Breaker,
        feed::{Covering, Feed},
        kv::Namespace,
        recent::Recent,
    },
    filter::{Index, Scratch, View},
    host::{Doors, Grants, RunHost},
    sandbox::{RunKey, Sandbox},
    store::Store,
    traces::Thread,
};

/// Composition of the core thread; every actor on it holds an `Rc` of this.
pub(crate) struct Core {
    pub(crate) config: Arc<Config>,
    pub(crate) store: Store,
    pub(crate) journal: Journal,
    pub(crate) sandbox: Sandbox,
    /// What runs are answered from.
    pub(crate) doors: Doors,
    pub(crate) reader: Reader,
    pub(crate) programs: Programs,
    pub(crate) faults: Faults,
    /// Last event that the router matched. What is above it is not yet anybody's.
    pub(crate) routed: Cell<Seq>,
    /// Memory held by deliveries in hand, in bytes; bounded by `limits.in_hand_bytes`.
    pub(crate) in_hand_bytes: Cell<usize>,
    pub(crate) slots: RefCell<FxHashMap<SubscriptionId, Rc<Slot>>>,
    /// Subscriptions that the sweep looks at: something in hand, or a cursor.
    pub(crate) busy: RefCell<Vec<Rc<Slot>>>,
    /// The definitions in force at `routed`.
    pub(crate) index: RefCell<Index<SubscriptionId>>,
    scratch: RefCell<Scratch>,
    /// Active subscriptions that name the runtime's own event types.
    alert_takers: RefCell<FxHashSet<SubscriptionId>>,
    /// Rows that were handed to a subscription, until a commit says what became of them, and how far
    /// they had come ([`DeliveryRow::progress`](crate::store::journal::DeliveryRow::progress)).
    pub(crate) rows_out: RefCell<FxHashMap<DeliveryId, (u32, u32, u32)>>,
    /// Events that nobody took, since the start.
    pub(crate) unmatched: RefCell<Unmatched>,
    runs: Cell<u64>,
    keys: Cell<u64>,
    /// Events whose payloads were erased since the start: copies in memory must not run.
    pub(crate) erased: RefCell<FxHashSet<Seq>>,
    /// No new deliveries start: the server is shutting down.
    pub(crate) draining: Cell<bool>,
    /// A delivery that was alone when the process died runs once more before anything else may:
    /// whoever kills the process from outside then hardly ever meets it twice.
    trial: watch::Sender<bool>,
    /// The scheduler, for subscriptions that run again; set once it is there.
    scheduler: OnceCell<Recipient<Release>>,
}

/// Settled deliveries that one request notes above a cursor.
const NOTED_AT_ONCE: usize = 10_000;

/// Types of unmatched events that are counted by name; those that come later are counted together.
const UNMATCHED_TYPES: usize = 1_000;

/// Events that no subscription took, by type.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unmatched {
    pub(crate) total: u64,
    pub(crate) by_type: FxHashMap<Arc<str>, u64>,
}

impl Unmatched {
    pub(crate) fn add(&mut self, event_type: &Arc<str>) {
        self.total += 1;
        if let Some(count) = self.by_type.get_mut(event_type) {
            *count += 1;
        } else if self.by_type.len() < UNMATCHED_TYPES {
            self.by_type.insert(Arc::clone(event_type), 1);
        }
    }
}

/// Faults that tests plant; all off in production.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Event types whose delivery makes the subscription's actor panic.
    pub panic_on: Vec<String>,
}

impl Core {
    #[allow(clippy::too_many_arguments)] // the composition root names each part once
    pub(crate) fn new(
        config: Arc<Config>,
        store: Store,
        journal: Journal,
        sandbox: Sandbox,
        doors: Doors,
        faults: Faults,
        routed: Seq,
        last_run: u64,
        trial: bool,
    ) -> Rc<Self> {
        Rc::new(Self {
            reader: Reader::new(store.clone()),
            programs: Programs::new(store.clone(), Arc::clone(&doors.vault)),
            config,
            store,
            journal,
            sandbox,
            doors,
            faults,
            routed: Cell::new(routed),
            in_hand_bytes: Cell::new(0),
            slots: RefCell::default(),
            busy: RefCell::default(),
            index: RefCell::new(Index::default()),
            scratch: RefCell::default(),
            alert_takers: RefCell::default(),
            rows_out: RefCell::default(),
            unmatched: RefCell::default(),
            runs: Cell::new(last_run),
            keys: Cell::new(0),
            erased: RefCell::default(),
            draining: Cell::new(false),
            trial: watch::Sender::new(trial),
            scheduler: OnceCell::new(),
        })
    }

    pub(crate) fn set_scheduler(&self, scheduler: Recipient<Release>) {
        if self.scheduler.set(scheduler).is_err() {
            unreachable!("there is one scheduler, and it outlives all others");
        }
    }

    /// The subscription runs (again): the scheduler hands its rows over.
    pub(crate) fn release_rows(&self, subscription: SubscriptionId) {
        if let Some(scheduler) = self.scheduler.get() {
            scheduler.do_send(Release(subscription));
        }
    }

    /// Nothing but suspects that were alone at a crash may run.
    pub(crate) fn on_trial(&self) -> bool {
        *self.trial.borrow()
    }

    pub(crate) fn end_trial(&self) {
        self.trial.send_replace(false);
        for slot in self.slots.borrow().values() {
            if let Some(handle) = slot.handle.borrow().as_ref() {
                handle.wake();
            }
        }
    }

    /// Ends with the trial; at once when there is none.
    pub(crate) fn trial_over(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut trial = self.trial.subscribe();
        async move {
            // An error means that the core is gone: whoever waits is going too.
            let _ = trial.wait_for(|on| !on).await;
        }
    }

    /// A run's id is needed before it starts; numbers of runs that a crash cut off are used again,
    /// with another time and salt, and their rows never were.
    pub(crate) fn next_run(&self, now: Millis) -> RunId {
        let number = self.runs.get() + 1;
        self.runs.set(number);
        RunId::numbered(now, number, rand::random())
    }

    /// Answers a run of a script; see [`RunHost::new`].
    pub(crate) fn host(
        &self,
        grants: &Arc<Grants>,
        contested: BTreeSet<Namespace>,
        thread: Thread,
    ) -> RunHost {
        RunHost::new(&self.doors, grants, contested, thread)
    }

    pub(crate) fn next_key(&self) -> RunKey {
        let key = self.keys.get() + 1;
        self.keys.set(key);
        RunKey(key)
    }

    pub(crate) fn slot(&self, id: SubscriptionId) -> Option<Rc<Slot>> {
        self.slots.borrow().get(&id).cloned()
    }

    /// Its payload was erased, whatever this copy still holds.
    pub(crate) fn is_erased(&self, event: &Event) -> bool {
        matches!(event.envelope.encoding, DataEncoding::Erased(_))
            || self.erased.borrow().contains(&event.seq)
    }

    pub(crate) fn hold(&self, event: &Event) {
        self.in_hand_bytes.set(self.in_hand_bytes.get() + event.weight());
    }

    pub(crate) fn release(&self, event: &Event) {
        self.in_hand_bytes.set(self.in_hand_bytes.get().saturating_sub(event.weight()));
    }

    pub(crate) fn memory_is_full(&self) -> bool {
        self.in_hand_bytes.get() > self.config.limits.in_hand_bytes
    }

    /// Runs in lanes.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.borrow().values().map(|slot| slot.in_flight.get() as usize).sum()
    }

    /// Subscriptions that take an event, by the definitions in force now.
    pub(crate) fn matches(&self, event: &Event, matches: &mut Vec<SubscriptionId>) {
        let view = View::new(event);
        self.index.borrow().matches(&view, &mut self.scratch.borrow_mut(), matches);
    }

    /// How many deliveries an event has, by the definitions in force now: the factor of its spread.
    pub(crate) fn fanout(&self, event: &Event) -> u32 {
        let mut matches = Vec::new();
        self.matches(event, &mut matches);
        u32::try_from(matches.len().max(1)).unwrap_or(u32::MAX)
    }

    /// Notes whether a subscription takes alert events; they are published while one does.
    pub(crate) fn takes_alerts(&self, id: SubscriptionId, takes: bool) {
        let mut takers = self.alert_takers.borrow_mut();
        let changed = if takes { takers.insert(id) } else { takers.remove(&id) };
        if changed {
            self.journal.set_alerts(self.config.alerts.events && !takers.is_empty());
        }
    }

    /// Makes sure the sweep looks at the subscription.
    pub(crate) fn watch(&self, slot: &Rc<Slot>) {
        if !slot.watched.replace(true) {
            self.busy.borrow_mut().push(Rc::clone(slot));
        }
    }

    /// The router stops feeding the subscription: from here on the log keeps what it was not given.
    pub(crate) fn stop_feeding(&self, slot: &Rc<Slot>) {
        let covering = slot.feed.borrow_mut().stop(self.routed.get());
        self.cover(slot, covering);
    }

    /// Stores a cursor, after the notes of what is settled above it: a crash in between finds the
    /// old cursor, or none, and those notes do no harm.
    pub(crate) fn cover(&self, slot: &Rc<Slot>, covering: Covering) {
        let Covering { from, counted, mut settled } = covering;
        let cover = |from, counted, settled| {
            let subscription = slot.id;
            self.journal.submit(Request::Cover(Cover { subscription, from, counted, settled }));
        };
        while settled.len() > NOTED_AT_ONCE {
            let rest = settled.split_off(NOTED_AT_ONCE);
            cover(None, Vec::new(), std::mem::replace(&mut settled, rest));
        }
        cover(Some(from), counted, settled);
        self.watch(slot);
    }
}

/// One subscription, as router, supervisor and its own actor share it. It outlives restarts of the
/// actor: what was in hand is known whatever happens to it.
pub(crate) struct Slot {
    pub(crate) id: SubscriptionId,
    pub(crate) name: RefCell<Arc<str>>,
    pub(crate) script: Cell<ScriptId>,
    /// Live or behind, and what is in hand.
    pub(crate) feed: RefCell<Feed>,
    pub(crate) paused: Cell<bool>,
    pub(crate) suspended: RefCell<Option<String>>,
    /// When the supervisor starts it again after a crash.
    pub(crate) restart_at: Cell<Option<Millis>>,
    /// What may have been running when the process died, if that was once too often.
    pub(crate) suspects: Cell<Suspects>,
    /// Deliveries with rows (retries, replays) in hand.
    pub(crate) rows_in_hand: Cell<u32>,
    /// Runs that were given to a lane and have not ended.
    pub(crate) in_flight: Cell<u32>,
    /// When its rate limit lets the next run start, while it holds one back.
    pub(crate) held_until: Cell<Option<Millis>>,
    /// Rows that wait in the store.
    pub(crate) rows_waiting: Cell<u64>,
    /// Events that matched while it was behind and are not read yet, as far as this process knows.
    pub(crate) unread: Cell<u64>,
    pub(crate) watched: Cell<bool>,
    /// Definitions that took effect: a restart that read the store meanwhile reads it again.
    pub(crate) definitions_met: Cell<u64>,
    /// Deleted: it takes nothing new and goes when nothing is in hand.
    pub(crate) retired: Cell<bool>,
    pub(crate) handle: RefCell<Option<SubscriptionHandle>>,
    pub(crate) tally: RefCell<Tally>,
    pub(crate) meters: OnceCell<Meters>,
}

/// Deliveries of a subscription that run alone, for they may have been running when the process
/// died for the third time in a row. Lanes get the oldest first, so these are the oldest, a few at a
/// time: the culprit is among them, or will be once those before it have settled.
#[derive(Clone, Copy, Default)]
pub(crate) struct Suspects {
    /// Last event of the log at the start.
    pub(crate) upto: Seq,
    /// Still to be found in the log, and among the rows that were due.
    pub(crate) of_log: u32,
    pub(crate) of_rows: u32,
}

/// What a subscription did since the process started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) dead: u64,
    /// Runs that succeeded and were not kept.
    pub(crate) sampled: u64,
    pub(crate) cpu_us: u64,
    pub(crate) wall_us: u64,
    /// From the moment runs were due to their start.
    pub(crate) waited_us: u64,
    pub(crate) heap_bytes: u64,
    /// Questions of its runs to the parent.
    pub(crate) host_calls: u64,
    /// Runs that went again because what they had read was changed meanwhile.
    pub(crate) kv_conflicts: u64,
    pub(crate) breaker: Breaker,
    pub(crate) last_error: Option<String>,
    pub(crate) restarts: u32,
    pub(crate) last_crash: Option<(Millis, String)>,
    /// Made by its first run: most of many subscriptions rest.
    pub(crate) recent: Option<Box<Recent>>,
}

/// A subscription's series; made when it first runs.
pub(crate) struct Meters {
    pub(crate) succeeded: metrics::Counter,
    pub(crate) failed: metrics::Counter,
    pub(crate) dead: metrics::Counter,
    pub(crate) duration: metrics::Histogram,
    pub(crate) cpu: metrics::Histogram,
    pub(crate) waited: metrics::Histogram,
    pub(crate) host_calls: metrics::Counter,
    pub(crate) kv_conflicts: metrics::Counter,
}

impl Meters {
    fn of(subscription: SubscriptionId) -> Self {
        let label = crate::telemetry::label(subscription);
        let deliveries = |outcome: &'static str| metrics::counter!("tripline_deliveries_total", "subscription" => label.clone(), "outcome" => outcome);
        Self {
            succeeded: deliveries("succeeded"),
            failed: deliveries("retrying"),
            dead: deliveries("dead"),
            host_calls: metrics::counter!("tripline_host_calls_total", "subscription" => label.clone()),
            kv_conflicts: metrics::counter!("tripline_kv_conflicts_total", "subscription" => label.clone()),
            cpu: metrics::histogram!("tripline_run_cpu_seconds", "subscription" => label.clone()),
            waited: metrics::histogram!("tripline_run_wait_seconds", "subscription" => label.clone()),
            duration: metrics::histogram!("tripline_run_duration_seconds", "subscription" => label.clone()),
        }
    }
}

impl Slot {
    pub(crate) fn meters(&self) -> &Meters {
        self.meters.get_or_init(|| Meters::of(self.id))
    }

    pub(crate) fn new(subscription: &Subscription, feed: Feed) -> Rc<Self> {
        Rc::new(Self {
            id: subscription.id,
            name: RefCell::new(subscription.name.as_str().into()),
            script: Cell::new(subscription.definition.script),
            feed: RefCell::new(feed),
            paused: Cell::new(subscription.paused),
            suspended: RefCell::new(subscription.suspended.clone()),
            restart_at: Cell::new(None),
            suspects: Cell::default(),
            rows_in_hand: Cell::new(0),
            in_flight: Cell::new(0),
            held_until: Cell::new(None),
            rows_waiting: Cell::new(0),
            unread: Cell::new(0),
            watched: Cell::new(false),
            definitions_met: Cell::new(0),
            retired: Cell::new(false),
            handle: RefCell::new(None),
            tally: RefCell::default(),
            meters: OnceCell::new(),
        })
    }

    /// The router feeds it.
    pub(crate) fn is_live(&self) -> bool {
        self.feed.borrow().is_live()
    }

    /// See [`Feed::is_covered`].
    pub(crate) fn is_covered(&self) -> bool {
        self.feed.borrow().is_covered()
    }

    /// The delivery of this event is in hand.
    pub(crate) fn holds(&self, seq: Seq) -> bool {
        self.feed.borrow().holds(seq)
    }

    /// Neither paused nor suspended.
    pub(crate) fn runs(&self) -> bool {
        !self.paused.get() && self.suspended.borrow().is_none()
    }

    /// Whether this delivery, read from the log, may be what takes the process down.
    pub(crate) fn takes_for_suspect(&self, seq: Seq) -> bool {
        let mut suspects = self.suspects.get();
        let is_one = seq <= suspects.upto && suspects.of_log > 0;
        suspects.of_log -= u32::from(is_one);
        self.suspects.set(suspects);
        is_one
    }

    /// The same of a delivery with a row that was due at the start.
    pub(crate) fn takes_row_for_suspect(&self) -> bool {
        let mut suspects = self.suspects.get();
        let is_one = suspects.of_rows > 0;
        suspects.of_rows -= u32::from(is_one);
        self.suspects.set(suspects);
        is_one
    }

    /// Deliveries in memory.
    pub(crate) fn in_hand(&self) -> usize {
        self.feed.borrow().in_hand() + self.rows_in_hand.get() as usize
    }

    /// Deliveries not yet settled, wherever they wait; the `queue_depth` of the metrics.
    pub(crate) fn depth(&self) -> u64 {
        self.in_hand() as u64 + self.unread.get() + self.rows_waiting.get()
    }
}

/// Which subscriptions run a script: for changes of the script.
pub(crate) fn slots_of_script(
    slots: &FxHashMap<SubscriptionId, Rc<Slot>>,
    script: ScriptId,
) -> Vec<Rc<Slot>> {
    slots.values().filter(|slot| slot.script.get() == script).cloned().collect()
}
