//! One simulated history: publishers, operators, crashes, and the order of everything, all from one
//! seed.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::{
    disk::{Disk, Fate, POISON},
    oracle::Oracle,
    process::{self, Process},
    script::Script,
};
use crate::{
    actors::journal::{ChangeKind, Incoming},
    domain::{
        Definition, Lineage, NewEvent, OnDead, Ordering, RetryPolicy, ScriptId, Seq,
        SubscriptionId, TypePattern,
    },
    store::journal::EventKey,
};

/// Steps before everything may come to rest.
const STEPS: usize = 400;
/// Rounds within which it must.
const ROUNDS: usize = 4_000;

pub(super) struct World {
    chance: StdRng,
    disk: Disk,
    clock: Arc<AtomicI64>,
    script: Script,
    process: Process,
    oracle: Oracle,
    published: u64,
    /// Numbers that were posted and never acknowledged: they are posted again.
    unsure: Vec<u64>,
    subscriptions: u128,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let (disk, clock, script) =
            (Disk::default(), Arc::new(AtomicI64::new(1_000_000)), Script { seed });
        Self {
            chance: StdRng::seed_from_u64(seed),
            process: Process::start(&disk, &clock, script),
            disk,
            clock,
            script,
            oracle: Oracle::default(),
            published: 0,
            unsure: Vec::new(),
            subscriptions: 0,
        }
    }

    /// The whole history; panics when anything does not hold.
    pub(super) fn run(mut self) {
        for _ in 0..2 {
            self.create();
        }
        for _ in 0..STEPS {
            self.step();
        }
        self.come_to_rest();
        self.oracle.check_rest(&self.disk.look(), self.script);
        // Recovery of what is at rest changes nothing.
        for _ in 0..3 {
            self.start_again();
            self.come_to_rest();
        }
        self.oracle.check_rest(&self.disk.look(), self.script);
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.chance.random_range(0..n) == 0
    }

    fn up_to(&mut self, n: usize) -> usize {
        self.chance.random_range(1..=n)
    }

    fn anyone(&mut self) -> Option<SubscriptionId> {
        self.process.ids().choose(&mut self.chance).copied()
    }

    fn step(&mut self) {
        match self.chance.random_range(0..100) {
            0..=17 => self.publish(),
            18..=41 => self.commit(),
            42..=56 => drop(self.hear()),
            57..=60 => drop(self.catch_up()),
            61..=90 => self.work(),
            91..=92 => self.pass_time(),
            93..=97 => self.operate(),
            98 => self.crash_an_actor(),
            _ => self.kill(),
        }
    }

    // ── publishers ───────────────────────────────────────────────────────────────────────────────

    fn publish(&mut self) {
        let mut numbers = Vec::new();
        for _ in 0..self.up_to(3) {
            let again = self.one_in(5).then(|| self.posted_before()).flatten();
            numbers.push(again.unwrap_or_else(|| {
                self.published += 1;
                self.published
            }));
        }
        if self.one_in(40) {
            // Nobody hears of its number again: it is refused, alone.
            let poison = incoming(0, POISON);
            self.process.publish(Vec::new(), vec![Incoming { key: None, ..poison }]);
        }
        let items = numbers.iter().map(|&number| incoming(number, kind(number))).collect();
        self.unsure.extend(&numbers);
        self.process.publish(numbers, items);
    }

    fn posted_before(&mut self) -> Option<u64> {
        let acknowledged: Vec<u64> = self.oracle.acknowledged.keys().copied().collect();
        let from = if self.one_in(2) { &self.unsure } else { &acknowledged };
        from.choose(&mut self.chance).copied()
    }

    /// A commit that fails is followed by one that asks whether the store is well: it may fail, too.
    fn fates(&mut self) -> VecDeque<Fate> {
        let mut fates = VecDeque::new();
        while fates.len() < 3 {
            fates.push_back(
                match self.chance.random_range(0..if fates.is_empty() { 60 } else { 10 }) {
                    0 => Fate::DieBefore,
                    1 => Fate::DieAfter,
                    2 => Fate::LoseBefore,
                    3 => Fate::LoseAfter,
                    4 => Fate::Full,
                    _ => break,
                },
            );
        }
        fates
    }

    fn commit(&mut self) {
        let requests = self.up_to(12);
        if self.process.queue.is_empty() {
            return;
        }
        let fates = self.fates();
        self.disk.look().fates = fates;
        let lives = self.process.commit(requests);
        self.disk.look().fates.clear();
        if !lives {
            assert!(self.disk.look().is_dead, "the journal gave up, and nothing killed it");
            return self.start_again();
        }
        self.note_answers();
        if self.one_in(8) {
            // As each start does; after every commit it would be most of the time that a seed takes.
            self.oracle.check_watermark(&self.disk.look());
        }
    }

    fn note_answers(&mut self) {
        for (numbers, answer) in self.process.answers() {
            let Ok(accepted) = answer else { continue };
            for (number, accepted) in numbers.into_iter().zip(accepted) {
                self.unsure.retain(|other| *other != number);
                let before = self.oracle.acknowledged.insert(number, accepted.uid);
                assert!(before.is_none_or(|uid| uid == accepted.uid), "{number} has two uids");
            }
        }
        let gone_back = self.process.gone_back();
        self.oracle.backfills.extend(gone_back);
    }

    // ── the process ──────────────────────────────────────────────────────────────────────────────

    fn hear(&mut self) -> bool {
        let lost = self.one_in(6);
        self.process.hear(lost)
    }

    fn catch_up(&mut self) -> bool {
        let limit = self.up_to(5);
        self.process.catch_up(limit)
    }

    /// A subscription, the scheduler or the dead letters do something.
    fn work(&mut self) {
        let Some(id) = self.anyone() else { return };
        let (chosen, chance) = (self.up_to(8), self.chance.random());
        match self.chance.random_range(0..20) {
            0..=3 => drop(self.process.read(id, chosen)),
            4..=8 => drop(self.process.begin(id)),
            9..=13 => drop(self.process.end(id, chosen, chance)),
            14..=15 => self.process.sweep(id),
            16 => drop(self.process.turn()),
            17 => drop(self.process.restart(id)),
            18 => drop(self.process.go_back()),
            _ => drop(self.disk.look().record_letters(chosen)),
        }
    }

    fn pass_time(&mut self) {
        let ms = self.chance.random_range(1..2_000);
        self.clock.fetch_add(ms, Relaxed);
    }

    fn crash_an_actor(&mut self) {
        if let Some(id) = self.anyone() {
            self.process.crash(id);
        }
    }

    fn kill(&mut self) {
        if self.one_in(2) {
            self.start_again();
        }
    }

    fn start_again(&mut self) {
        self.oracle.check_watermark(&self.disk.look());
        self.process = Process::start(&self.disk, &self.clock, self.script);
    }

    // ── operators ────────────────────────────────────────────────────────────────────────────────

    fn operate(&mut self) {
        let Some(id) = self.anyone() else { return self.create() };
        match self.chance.random_range(0..12) {
            0 => self.create(),
            1..=3 => {
                let definition = self.definition();
                self.process.change(ChangeKind::Update { id, name: String::new(), definition });
            }
            4..=5 => self.process.change(ChangeKind::State { id, paused: true, suspended: None }),
            6..=8 => self.resume(id),
            9 => self.replay(),
            10 => self.backfill(id),
            _ if self.one_in(4) => self.process.change(ChangeKind::Delete { id }),
            _ => {}
        }
    }

    fn create(&mut self) {
        self.subscriptions += 1;
        let id = SubscriptionId(uuid::Uuid::from_u128(self.subscriptions));
        let (definition, paused) = (self.definition(), self.one_in(5));
        let name = String::new();
        self.process.change(ChangeKind::Create { id, name, definition, paused, cursor: None });
    }

    fn definition(&mut self) -> Definition {
        let pattern = *["a.*", "b.*", "*.made", "**"].choose(&mut self.chance).expect("some");
        let filter = *[None, None, Some("$.k == 1")].choose(&mut self.chance).expect("some");
        Definition {
            script: ScriptId(uuid::Uuid::nil()),
            script_version: None,
            event_type: TypePattern::parse(pattern).expect("a pattern"),
            filter: filter.map(str::to_owned),
            is_active: !self.one_in(12),
            retry_policy: RetryPolicy { max_attempts: 3, ..RetryPolicy::default() },
            concurrency: 1,
            ordering: Ordering::Relaxed,
            ordering_key: None,
            on_dead: OnDead::Continue,
            limits: crate::domain::Limits::default(),
        }
    }

    fn resume(&mut self, id: SubscriptionId) {
        self.process.change(ChangeKind::State { id, paused: false, suspended: None });
        self.process.pardon(id);
    }

    fn replay(&mut self) {
        let letters: Vec<_> = self.disk.look().letters.keys().copied().collect();
        if let Some(&letter) = letters.choose(&mut self.chance) {
            let deleted = {
                let disk = self.disk.look();
                let id = disk.letters[&letter].row.subscription;
                disk.subscriptions[&id].deleted_from.is_some()
            };
            if !deleted {
                self.process.replay(letter);
            }
        }
    }

    fn backfill(&mut self, id: SubscriptionId) {
        let end = self.disk.look().seq.0;
        let never_changed =
            self.disk.look().subscriptions.get(&id).is_some_and(|kept| !kept.is_changed);
        if never_changed && end > 0 {
            let from = Seq(self.chance.random_range(1..=end));
            self.oracle.begun.push((id, from));
            self.process.pin(id, from);
        }
    }

    // ── the end ──────────────────────────────────────────────────────────────────────────────────

    /// No more faults: what is unsure is posted again, everybody is resumed, all work is done.
    fn come_to_rest(&mut self) {
        let mut unsure = std::mem::take(&mut self.unsure);
        unsure.sort_unstable();
        unsure.dedup();
        if !unsure.is_empty() {
            let items = unsure.iter().map(|&number| incoming(number, kind(number))).collect();
            self.unsure.clone_from(&unsure);
            self.process.publish(unsure, items);
        }
        for _ in 0..ROUNDS {
            self.settle_down();
            let dying = self.disk.look().record_letters(100);
            if dying == 0 && self.process.rests() {
                self.process.flush();
                return;
            }
        }
        panic!("it does not come to rest:\n{}", self.process.unsettled());
    }

    fn settle_down(&mut self) {
        self.process.commit(100);
        self.note_answers();
        while self.process.hear(false) {}
        while self.process.catch_up(100) {}
        self.clock.fetch_add(Duration::from_secs(1).as_millis() as i64, Relaxed);
        self.process.turn();
        self.process.go_back();
        for id in self.process.ids() {
            if self.process.stands_still(id) == Some(true) && self.process.queue.is_empty() {
                self.resume(id);
            }
            self.process.restart(id);
            self.process.read(id, 100);
            while self.process.begin(id) {}
            while self.process.end(id, 0, 0.5) {}
            self.process.sweep(id);
        }
    }
}

/// The type that a publisher's event of this number has.
fn kind(number: u64) -> &'static str {
    ["a.made", "b.made", "c.other"][(number % 3) as usize]
}

fn incoming(number: u64, event_type: &str) -> Incoming {
    let event = NewEvent {
        envelope: process::envelope(Some(number.to_string()), event_type),
        data: format!(r#"{{"k":{}}}"#, number / 3 % 2).into(),
        lineage: Lineage::default(),
    };
    Incoming { key: EventKey::of(&event), event }
}
