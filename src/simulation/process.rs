//! One life of the process: the real writer, and what the actors do around the real state machines.
//!
//! Each method is one step that an actor makes for one message; the world calls them in whatever
//! order its seed says. What is here dies with the process.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    disk::{Connection, Disk},
    script::{self, Script, Verdict},
};
use crate::{
    actors::journal::{
        Accepted, Change, ChangeKind, Committed, Cover, Emission, Incoming, KeyWrites, Now,
        Publish, PublishError, Request, RowChange, Settlement, Surroundings, Told, Writer,
    },
    domain::{
        Cause, DataEncoding, Definition, DeliveryId, Envelope, Event, Lineage, Millis, NewEvent,
        RunError, ScheduledId, Seq, SubscriptionId,
        block::Outcome,
        breaker::Breaker,
        changes::Changes,
        feed::{Covering, Feed, Offer, Sweep},
        history::History,
        recovery::{self, Found},
        restart::{RestartHistory, RestartPolicy, Verdict as Crash},
    },
    filter::{Filter, Index, Scratch, View},
    store::journal::{DeliveryRow, JournalStore as _, RowStatus, Scheduled, SubscriptionChange},
};

/// Deliveries in hand of one subscription: few, so that it falls behind often.
const MAILBOX: usize = 4;
/// Deaths in a row that suspend a subscription.
const BREAKER: u32 = 4;

/// A delivery in hand.
#[derive(Clone)]
struct Hand {
    event: Arc<Event>,
    row: Option<DeliveryRow>,
}

/// A subscription: its slot and its actor.
struct Subscription {
    feed: Feed,
    history: History<Definition>,
    queue: VecDeque<Hand>,
    running: Vec<Hand>,
    paused: bool,
    suspended: Option<String>,
    breaker: Breaker,
    crashes: RestartHistory,
    /// Its actor has crashed and starts again then.
    down_until: Option<Millis>,
    is_deleted: bool,
}

impl Subscription {
    fn runs(&self) -> bool {
        !self.paused && self.suspended.is_none()
    }

    fn in_hand(&self) -> usize {
        let rows = self.queue.iter().chain(&self.running).filter(|hand| hand.row.is_some());
        self.feed.in_hand() + rows.count()
    }
}

/// What a publisher is told.
type Answer = Result<Vec<Accepted>, PublishError>;

/// A publish that waits for its answer.
pub(super) struct Asked {
    pub(super) numbers: Vec<u64>,
    answer: oneshot::Receiver<Answer>,
}

pub(super) struct Process {
    pub(super) disk: Disk,
    clock: Arc<AtomicI64>,
    script: Script,
    writer: Writer,
    pub(super) queue: VecDeque<Request>,
    told: Arc<Mutex<VecDeque<Arc<Committed>>>>,
    asked: Vec<Asked>,
    // The router.
    routed: Seq,
    upto: Seq,
    changes: Changes<SubscriptionChange>,
    index: Index<SubscriptionId>,
    scratch: Scratch,
    // The scheduler.
    rows: BTreeMap<DeliveryId, DeliveryRow>,
    rows_out: BTreeMap<DeliveryId, (u32, u32, u32)>,
    emits: BTreeMap<ScheduledId, Scheduled>,
    // Everybody else.
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    to_go_back: Option<(SubscriptionId, Seq)>,
    /// Backfills whose cursor is not on disk yet.
    going_back: Vec<(SubscriptionId, Seq)>,
}

impl Process {
    /// A start: claims the store and finds out what was unsettled, as `runtime::start` does.
    pub(super) fn start(disk: &Disk, clock: &Arc<AtomicI64>, script: Script) -> Self {
        let told: Arc<Mutex<VecDeque<Arc<Committed>>>> = Arc::default();
        let mut connection = Connection { disk: disk.clone(), epoch: 0 };
        let state = connection.claim().expect("nobody else has the store");
        let (heard, now, salt) =
            (Arc::clone(&told), Arc::clone(clock), AtomicU64::new(state.epoch));
        let surroundings = Surroundings {
            told: Box::new(move |Told(committed)| lock(&heard).push_back(committed)),
            now: Box::new(move || Now::at(Millis(now.load(Relaxed)))),
            salt: Box::new(move || salt.fetch_add(1 << 32, Relaxed)),
            pause: Box::new(|_| ()),
        };
        let mut process = Self {
            disk: disk.clone(),
            clock: Arc::clone(clock),
            script,
            writer: Writer::new(Box::new(connection), state.clone(), surroundings),
            queue: VecDeque::new(),
            told,
            asked: Vec::new(),
            routed: state.watermark,
            upto: state.seq,
            changes: Changes::default(),
            index: Index::default(),
            scratch: Scratch::default(),
            rows: BTreeMap::new(),
            rows_out: BTreeMap::new(),
            emits: disk.look().scheduled.clone(),
            subscriptions: BTreeMap::new(),
            to_go_back: None,
            going_back: Vec::new(),
        };
        process.place_all(state.watermark);
        let waiting = disk.look().rows.clone();
        waiting.into_values().for_each(|row| process.admit(row));
        process
    }

    fn place_all(&mut self, watermark: Seq) {
        let disk = self.disk.look();
        let mut settled: BTreeMap<SubscriptionId, BTreeSet<Seq>> = BTreeMap::new();
        for (id, seq) in disk.fresh_after(watermark) {
            settled.entry(id).or_default().insert(seq);
        }
        let mut to_come = Vec::new();
        let mut covers = Vec::new();
        for (&id, kept) in disk.subscriptions.iter().filter(|(_, k)| k.deleted_from.is_none()) {
            let mut done = settled.remove(&id).unwrap_or_default();
            if let Some(cursor) = kept.cursor {
                done.extend(disk.late_of(id, cursor));
                done.extend(disk.rows_of(id).iter().map(|row| row.seq));
            }
            let from = recovery::reads_from(kept.cursor, watermark);
            let history = disk.definitions_of(id, from);
            let runs = !kept.paused && kept.suspended.is_none();
            let found = Found { runs, cursor: kept.cursor, done, history };
            let placed = recovery::place(found, watermark);
            to_come.extend(placed.to_come.into_iter().map(|(from, definition)| {
                let at = Millis(0);
                SubscriptionChange::Update { id, name: String::new(), definition, from, at }
            }));
            if let Some(definition) = &placed.indexed {
                index(&mut self.index, id, definition);
            }
            covers.extend(placed.cover.map(|covering| (id, covering)));
            let history = History::new(placed.history).expect("a definition");
            let (paused, suspended) = (kept.paused, kept.suspended.clone());
            let subscription = Subscription::new(placed.feed, history, paused, suspended);
            self.subscriptions.insert(id, subscription);
        }
        drop(disk);
        to_come.sort_by_key(SubscriptionChange::from);
        to_come.into_iter().for_each(|change| self.changes.push(change.from(), change));
        covers.into_iter().for_each(|(id, covering)| self.cover(id, covering));
    }

    pub(super) fn now(&self) -> Millis {
        Millis(self.clock.load(Relaxed))
    }

    pub(super) fn ids(&self) -> Vec<SubscriptionId> {
        self.subscriptions.iter().filter(|(_, s)| !s.is_deleted).map(|(&id, _)| id).collect()
    }

    // ── publishers and the writer ────────────────────────────────────────────────────────────────

    pub(super) fn publish(&mut self, numbers: Vec<u64>, items: Vec<Incoming>) {
        let (reply, answer) = oneshot::channel();
        let publish = Publish { items, weight: 0, arrived: Instant::now(), reply: Some(reply) };
        self.queue.push_back(Request::Publish(publish));
        self.asked.push(Asked { numbers, answer });
    }

    /// Commits the first requests of the queue. False: the process has died.
    pub(super) fn commit(&mut self, requests: usize) -> bool {
        // The writer sleeps when nothing waits.
        if self.queue.is_empty() {
            return true;
        }
        let batch = self.queue.drain(..requests.min(self.queue.len())).collect();
        let written = self.writer.write(batch);
        if self.disk.look().is_dead {
            return false;
        }
        written.expect("the store is ours, and it comes back");
        true
    }

    /// A clean stop stores the watermark.
    pub(super) fn flush(&mut self) {
        self.writer.flush_mark().expect("the store is ours");
    }

    /// Publishes that were answered since: their numbers, and what was said.
    pub(super) fn answers(&mut self) -> Vec<(Vec<u64>, Answer)> {
        let mut answered = Vec::new();
        self.asked.retain_mut(|asked| match asked.answer.try_recv() {
            Ok(answer) => {
                answered.push((std::mem::take(&mut asked.numbers), answer));
                false
            }
            Err(_) => true,
        });
        answered
    }

    /// Backfills whose cursor is on disk by now.
    pub(super) fn gone_back(&mut self) -> Vec<(SubscriptionId, Seq)> {
        if self.queue.is_empty() { std::mem::take(&mut self.going_back) } else { Vec::new() }
    }

    // ── the router ───────────────────────────────────────────────────────────────────────────────

    /// Takes one commit's news; `lost`: its events were too many to be handed over.
    pub(super) fn hear(&mut self, lost: bool) -> bool {
        let Some(committed) = lock(&self.told).pop_front() else { return false };
        self.schedule(&committed);
        self.upto = self.upto.max(committed.upto);
        for change in &committed.changes {
            self.changes.push(change.from(), change.clone());
        }
        let next = self.routed.next();
        if !lost && committed.events.first().is_some_and(|event| event.seq == next) {
            committed.events.iter().for_each(|event| self.route(event));
        }
        self.apply_changes(self.routed.next());
        true
    }

    /// Reads some events that it has not seen.
    pub(super) fn catch_up(&mut self, limit: usize) -> bool {
        let events = self.disk.look().range(self.routed, self.upto, limit);
        events.iter().for_each(|event| self.route(event));
        self.apply_changes(self.routed.next());
        !events.is_empty()
    }

    fn route(&mut self, event: &Arc<Event>) {
        self.apply_changes(event.seq);
        let mut matches = Vec::new();
        self.index.matches(&View::new(event), &mut self.scratch, &mut matches);
        let mut open = 0;
        for id in matches {
            let Some(subscription) = self.subscriptions.get_mut(&id) else { continue };
            let has_room = subscription.in_hand() < MAILBOX;
            match subscription.feed.offer(event.seq, has_room) {
                Offer::Done => {}
                Offer::Taken { holds_watermark } => {
                    open += u32::from(holds_watermark);
                    if subscription.down_until.is_none() {
                        let hand = Hand { event: Arc::clone(event), row: None };
                        subscription.queue.push_back(hand);
                    }
                }
                Offer::Behind { cover, .. } => {
                    if let Some(covering) = cover {
                        self.cover(id, covering);
                    }
                }
            }
        }
        self.routed = event.seq;
        self.queue.push_back(Request::Routed { seq: event.seq, open });
    }

    fn apply_changes(&mut self, seq: Seq) {
        while let Some(change) = self.changes.due(seq) {
            self.apply(change);
        }
    }

    fn apply(&mut self, change: SubscriptionChange) {
        let id = change.id();
        match change {
            SubscriptionChange::Create { definition, paused, from, cursor, .. } => {
                index(&mut self.index, id, &definition);
                let feed = Feed::new(from, cursor, BTreeSet::new(), !paused);
                let history = History::new(vec![(from, definition)]).expect("a definition");
                let mut subscription = Subscription::new(feed, history, paused, None);
                let cover = paused.then(|| subscription.feed.stop(from.prev()));
                self.subscriptions.insert(id, subscription);
                if let Some(covering) = cover {
                    self.cover(id, covering);
                }
            }
            SubscriptionChange::Update { definition, from, .. } => {
                index(&mut self.index, id, &definition);
                if let Some(subscription) = self.subscriptions.get_mut(&id) {
                    subscription.history.insert(from, definition);
                    subscription.history.forget_before(subscription.feed.needs_from());
                }
            }
            SubscriptionChange::State { paused, suspended, .. } => {
                let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
                let ran = subscription.runs();
                (subscription.paused, subscription.suspended) = (paused, suspended);
                if subscription.runs() {
                    self.release(id);
                } else if ran {
                    self.hold_back(id);
                }
            }
            SubscriptionChange::Delete { .. } => {
                self.index.remove(id);
                let Some(mut subscription) = self.subscriptions.remove(&id) else { return };
                // What is in hand is discarded with it; the oracle asks nothing of it any more.
                let covering = subscription.feed.stop(self.routed);
                self.cover(id, covering);
                for hand in subscription.queue.into_iter().chain(subscription.running) {
                    self.rows_out.remove(&DeliveryId::of(hand.event.uid, id));
                }
            }
        }
    }

    fn cover(&mut self, subscription: SubscriptionId, covering: Covering) {
        let Covering { from, counted, settled } = covering;
        let cover = Cover { subscription, from: Some(from), counted, settled };
        self.queue.push_back(Request::Cover(cover));
    }

    fn hold_back(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let covering = subscription.feed.stop(self.routed);
        self.cover(id, covering);
        self.drop_queue(id);
    }

    /// What has not started is read again, or its row comes again.
    fn drop_queue(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        for hand in subscription.queue.drain(..).filter(|hand| hand.row.is_some()) {
            self.rows_out.remove(&DeliveryId::of(hand.event.uid, id));
        }
        let running = subscription.running.iter().filter(|hand| hand.row.is_none());
        let mut running: Vec<Seq> = running.map(|hand| hand.event.seq).collect();
        running.sort_unstable();
        subscription.feed.rewind(running);
    }

    // ── subscriptions ────────────────────────────────────────────────────────────────────────────

    /// Reads on, if it is behind.
    pub(super) fn read(&mut self, id: SubscriptionId, limit: usize) -> bool {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return false };
        let is_idle = !subscription.runs() || subscription.down_until.is_some();
        if subscription.feed.is_live() || is_idle {
            return false;
        }
        let read = subscription.feed.read();
        if read >= self.routed {
            let is_live = subscription.feed.catch_up(self.routed);
            if is_live {
                subscription.history.forget_before(subscription.feed.needs_from());
            }
            return is_live;
        }
        let events = self.disk.look().range(read, self.routed, limit);
        if events.is_empty() {
            subscription.feed.pass(self.routed);
        }
        for event in events {
            if subscription.in_hand() >= MAILBOX {
                return false;
            }
            if subscription.feed.pass(event.seq)
                && takes(subscription.history.at(event.seq), &event)
                && subscription.feed.take(event.seq)
            {
                subscription.queue.push_back(Hand { event, row: None });
            }
        }
        true
    }

    pub(super) fn begin(&mut self, id: SubscriptionId) -> bool {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return false };
        if !subscription.runs() || subscription.running.len() >= 3 {
            return false;
        }
        let begun = subscription.queue.pop_front();
        subscription.running.extend(begun.clone());
        begun.is_some()
    }

    /// A run ends. `chosen`: which one.
    pub(super) fn end(&mut self, id: SubscriptionId, chosen: usize, chance: f64) -> bool {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return false };
        if subscription.running.is_empty() {
            return false;
        }
        let chosen = chosen % subscription.running.len();
        let hand = subscription.running.remove(chosen);
        let row = hand.row.as_ref();
        let (spent, replay) = row.map_or((0, 0), |row| (row.attempts, row.replay));
        match self.script.run(&hand.event, id, spent, replay) {
            Verdict::Succeeds { emits } => self.succeed(id, &hand, emits),
            Verdict::Fails(kind) => self.fail(id, &hand, script::error(kind), chance),
        }
        true
    }

    fn succeed(&mut self, id: SubscriptionId, hand: &Hand, emits: u32) {
        let now = self.now();
        let row = match &hand.row {
            Some(row) => RowChange::Done(row.id),
            None => RowChange::None,
        };
        let emits = (0..emits).map(|ordinal| emission(&hand.event, id, ordinal, now)).collect();
        self.settle(id, hand, Outcome::Succeeded, emits, row);
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.breaker.succeeded(now);
        }
    }

    fn fail(&mut self, id: SubscriptionId, hand: &Hand, error: RunError, chance: f64) {
        let now = self.now();
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let old = hand.row.as_ref();
        let policy = &subscription.history.current().retry_policy;
        let failed = policy.failed(error.kind, old.map_or(0, |row| row.attempts), None, chance);
        let row = DeliveryRow::failed(old, &hand.event, id, failed, error, now, now);
        let is_dead = failed.wait.is_none();
        let mut tripped = None;
        if is_dead {
            subscription.breaker.died(row.first_failed_at.unwrap_or(now));
            tripped = subscription.breaker.tripped(BREAKER);
        }
        let outcome = if is_dead { Outcome::Dead } else { Outcome::Retrying };
        self.settle(id, hand, outcome, Vec::new(), RowChange::Upsert(Box::new(row)));
        if tripped.is_some() {
            self.suspend(id);
        }
    }

    fn settle(
        &mut self,
        id: SubscriptionId,
        hand: &Hand,
        outcome: Outcome,
        emits: Vec<Emission>,
        row: RowChange,
    ) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let counted = subscription.feed.holds_watermark(hand.row.is_some());
        let old = hand.row.as_ref();
        self.queue.push_back(Request::Settle(Box::new(Settlement {
            seq: hand.event.seq,
            event: hand.event.uid,
            subscription: id,
            outcome,
            script_version: 1,
            attempt: old.map_or(0, |row| row.attempts) + 1,
            replay: old.map_or(0, |row| row.replay),
            duration: Duration::ZERO,
            counted,
            late: !counted,
            run: None,
            emits,
            kv: KeyWrites::default(),
            row,
            letter: old.and_then(|row| row.letter),
        })));
        if hand.row.is_none() {
            subscription.feed.settle(hand.event.seq);
        }
    }

    fn suspend(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        if subscription.suspended.is_some() {
            return;
        }
        subscription.suspended = Some("breaker".into());
        let kind = ChangeKind::State {
            id,
            paused: subscription.paused,
            suspended: subscription.suspended.clone(),
        };
        self.change(kind);
        self.hold_back(id);
    }

    // ── supervision ──────────────────────────────────────────────────────────────────────────────

    pub(super) fn sweep(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let runs = subscription.runs();
        match subscription.feed.sweep(self.routed, runs) {
            None => {}
            Some(Sweep::Cover(covering)) => self.cover(id, covering),
            Some(Sweep::Cursor(to)) => {
                self.queue.push_back(Request::Cursor { subscription: id, to });
            }
        }
    }

    /// The subscription's actor panics: what it had in hand is forgotten.
    pub(super) fn crash(&mut self, id: SubscriptionId) {
        let now = self.now();
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        if subscription.down_until.is_some() {
            return;
        }
        let hands = subscription.queue.drain(..).chain(subscription.running.drain(..));
        for hand in hands.filter(|hand| hand.row.is_some()) {
            self.rows_out.remove(&DeliveryId::of(hand.event.uid, id));
        }
        let covering = subscription.feed.stop(self.routed);
        let verdict = subscription.crashes.crashed(&policy(), now, 0.5);
        subscription.down_until = Some(match verdict {
            Crash::RestartAfter(wait) => now.plus(wait),
            Crash::Exhausted => now,
        });
        self.cover(id, covering);
        if verdict == Crash::Exhausted {
            self.suspend(id);
        }
    }

    /// Builds it again from what is stored, once all that was asked of the journal is on disk.
    pub(super) fn restart(&mut self, id: SubscriptionId) -> bool {
        let now = self.now();
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return false };
        if subscription.down_until.is_none_or(|until| until > now) || !self.queue.is_empty() {
            return false;
        }
        let disk = self.disk.look();
        let cursor = subscription.feed.cursor().expect("what is down has a cursor");
        let rows = disk.rows_of(id).into_iter().map(|row| row.seq);
        subscription.feed.restart(disk.late_of(id, cursor).into_iter().chain(rows));
        let history = disk.definitions_of(id, cursor);
        drop(disk);
        subscription.history = History::new(history).expect("a definition");
        subscription.down_until = None;
        self.release(id);
        true
    }

    // ── the scheduler ────────────────────────────────────────────────────────────────────────────

    fn admit(&mut self, row: DeliveryRow) {
        if row.status != RowStatus::Dying && !self.rows_out.contains_key(&row.id) {
            self.rows.insert(row.id, row);
        }
    }

    fn schedule(&mut self, committed: &Committed) {
        for id in &committed.rows_done {
            self.rows_out.remove(id);
            self.rows.remove(id);
        }
        for row in &committed.rows {
            if row.is_news(self.rows_out.get(&row.id)) {
                self.rows_out.remove(&row.id);
            }
            self.admit(row.clone());
        }
        for id in &committed.scheduled_done {
            self.emits.remove(id);
        }
        self.emits.extend(committed.scheduled.iter().map(|emit| (emit.id, emit.clone())));
    }

    /// The subscription runs again: its rows are read from the store.
    fn release(&mut self, id: SubscriptionId) {
        let rows = self.disk.look().rows_of(id);
        rows.into_iter().for_each(|row| self.admit(row));
    }

    /// Hands over what is due.
    pub(super) fn turn(&mut self) -> bool {
        let now = self.now();
        let due: Vec<DeliveryId> =
            self.rows.values().filter(|row| row.next_at <= now).map(|row| row.id).collect();
        let mut moved = false;
        for id in due {
            let subscription = self.subscriptions.get_mut(&self.rows[&id].subscription);
            let Some(subscription) = subscription.filter(|s| s.runs() && s.down_until.is_none())
            else {
                // It is read again when the subscription runs again.
                self.rows.remove(&id);
                continue;
            };
            if subscription.in_hand() >= MAILBOX {
                continue;
            }
            let row = self.rows.remove(&id).expect("the row was just seen");
            self.rows_out.insert(id, row.progress());
            let event = Arc::clone(&self.disk.look().events[&row.seq]);
            subscription.queue.push_back(Hand { event, row: Some(row) });
            moved = true;
        }
        let due = self.emits.extract_if(.., |_, emit| emit.due_at <= now);
        let due: Vec<Scheduled> = due.map(|(_, emit)| emit).collect();
        moved |= !due.is_empty();
        self.queue.extend(due.into_iter().map(Request::Due));
        moved
    }

    // ── operators ────────────────────────────────────────────────────────────────────────────────

    pub(super) fn change(&mut self, kind: ChangeKind) {
        let (reply, _) = oneshot::channel();
        self.queue.push_back(Request::Change(Change { kind, alert: None, reply }));
    }

    /// The state as the core knows it: paused, suspended.
    pub(super) fn stands_still(&self, id: SubscriptionId) -> Option<bool> {
        self.subscriptions.get(&id).map(|subscription| !subscription.runs())
    }

    pub(super) fn pardon(&mut self, id: SubscriptionId) {
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.breaker.pardon();
            subscription.crashes.pardon();
        }
    }

    pub(super) fn replay(&mut self, letter: DeliveryId) {
        let now = self.now();
        let row = self.disk.look().start_replay(letter, now);
        if let Some(row) = row {
            self.admit(row);
        }
    }

    /// A backfill begins: see `Feed::pin`.
    pub(super) fn pin(&mut self, id: SubscriptionId, from: Seq) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        if self.to_go_back.is_some() || subscription.down_until.is_some() {
            return;
        }
        self.to_go_back = Some((id, from));
        if let Some(covering) = subscription.feed.pin(self.routed) {
            self.cover(id, covering);
        }
    }

    /// It goes on, once all that was asked of the journal before is on disk.
    pub(super) fn go_back(&mut self) -> bool {
        let Some((id, from)) = self.to_go_back else { return false };
        if !self.queue.is_empty() {
            return false;
        }
        self.to_go_back = None;
        let settled = self.disk.look().settled_of(id, from);
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return false };
        let covering = subscription.feed.go_back(from, settled);
        self.cover(id, covering);
        self.drop_queue(id);
        self.release(id);
        self.going_back.push((id, from));
        true
    }

    /// What still moves or waits; for a simulation that does not come to rest.
    pub(super) fn unsettled(&self) -> String {
        let of = |(id, s): (&SubscriptionId, &Subscription)| {
            format!(
                "{id}: {:?} queue {} running {} down {:?} runs {}",
                s.feed,
                s.queue.len(),
                s.running.len(),
                s.down_until,
                s.runs()
            )
        };
        let subscriptions: Vec<String> = self.subscriptions.iter().map(of).collect();
        format!(
            "routed {} of {}, {} requests, rows {:?}, out {:?}\n{}",
            self.routed.0,
            self.upto.0,
            self.queue.len(),
            self.rows,
            self.rows_out,
            subscriptions.join("\n")
        )
    }

    /// Nothing is on its way anywhere.
    pub(super) fn rests(&self) -> bool {
        let is_idle = |s: &Subscription| {
            s.feed.is_live()
                && !s.feed.is_covered()
                && s.queue.is_empty()
                && s.running.is_empty()
                && s.down_until.is_none()
        };
        self.queue.is_empty()
            && lock(&self.told).is_empty()
            && self.routed == self.upto
            && self.rows.is_empty()
            && self.emits.is_empty()
            && self.to_go_back.is_none()
            && self.subscriptions.values().all(is_idle)
    }
}

impl Subscription {
    fn new(
        feed: Feed,
        history: History<Definition>,
        paused: bool,
        suspended: Option<String>,
    ) -> Self {
        Self {
            feed,
            history,
            queue: VecDeque::new(),
            running: Vec::new(),
            paused,
            suspended,
            breaker: Breaker::default(),
            crashes: RestartHistory::default(),
            down_until: None,
            is_deleted: false,
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn policy() -> RestartPolicy {
    RestartPolicy {
        max_restarts: 3,
        window: Duration::from_secs(10),
        backoff_initial: Duration::from_millis(100),
        backoff_max: Duration::from_secs(1),
        backoff_factor: 2.0,
        backoff_jitter: 0.0,
    }
}

fn index(index: &mut Index<SubscriptionId>, id: SubscriptionId, definition: &Definition) {
    index.remove(id);
    if definition.is_active {
        let filter = definition.filter.as_deref().map(Filter::parse).transpose();
        index.insert(id, definition.event_type.clone(), filter.expect("a filter"));
    }
}

/// Whether an event meets a definition.
pub(super) fn takes(definition: &Definition, event: &Event) -> bool {
    let passes = |text: &str| Filter::parse(text).expect("a filter").matches(&View::new(event));
    definition.is_active
        && definition.event_type.matches(&event.envelope.event_type)
        && definition.filter.as_deref().is_none_or(passes)
}

fn emission(event: &Event, by: SubscriptionId, ordinal: u32, now: Millis) -> Emission {
    let id = format!("{}.{ordinal}", DeliveryId::of(event.uid, by));
    let lineage = Lineage {
        cause: Some(Cause { event: event.uid, subscription: by }),
        hop: event.lineage.hop + 1,
        spread: 1,
    };
    // One in four is delayed.
    let is_late = event.seq.0.is_multiple_of(4);
    let due_at = is_late.then(|| now.plus(Duration::from_millis(500)));
    let event_type = if ordinal == 0 { "a.emitted" } else { "b.emitted" };
    let event =
        NewEvent { envelope: envelope(Some(id), event_type), data: event.data.clone(), lineage };
    Emission { event, key: None, due_at }
}

pub(super) fn envelope(id: Option<String>, event_type: &str) -> Envelope {
    Envelope {
        id: id.map(Into::into),
        source: "/simulation".into(),
        event_type: event_type.into(),
        subject: None,
        time: None,
        datacontenttype: None,
        dataschema: None,
        extensions: None,
        encoding: DataEncoding::Json,
    }
}
