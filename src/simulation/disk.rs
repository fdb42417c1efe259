//! The store of the simulation: what is committed, in memory, and what may go wrong on the way.
//!
//! A commit is all or nothing, as SQLite and PostgreSQL make it; whoever writes it may die or lose
//! the connection before or after. The reads are those of recovery, readers and operators.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    domain::{
        Definition, DeliveryId, Event, LetterId, Millis, ScheduledId, Seq, SubscriptionId,
        block::{self, BlockEntry, Outcome},
    },
    store::journal::{
        Commit, CommitError, DeliveryRow, EventKey, JournalState, JournalStore, KnownEvent,
        LateRange, RowStatus, Scheduled, SubscriptionChange,
    },
};

/// An event type that the store refuses: a row that it cannot take.
pub(super) const POISON: &str = "poison";

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fate {
    #[default]
    Fine,
    /// The process dies before it is written, or after.
    DieBefore,
    DieAfter,
    /// The connection is lost before it is written, or after.
    LoseBefore,
    LoseAfter,
    Full,
}

/// One subscription, and all it ever was.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) paused: bool,
    pub(super) suspended: Option<String>,
    pub(super) cursor: Option<Seq>,
    pub(super) history: Vec<(Seq, Definition)>,
    pub(super) is_changed: bool,
    /// The first event that does not meet it any more.
    pub(super) deleted_from: Option<Seq>,
}

#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) id: LetterId,
    pub(super) is_replaying: bool,
    pub(super) is_replayed: bool,
    pub(super) replays: u32,
    pub(super) row: DeliveryRow,
}

pub(super) struct Block {
    batch: u64,
    top: Seq,
    entries: Vec<BlockEntry>,
}

#[derive(Default)]
pub(super) struct Contents {
    pub(super) epoch: u64,
    pub(super) batch: u64,
    pub(super) seq: Seq,
    pub(super) run: u64,
    pub(super) watermark: Seq,
    pub(super) accepted_at: Millis,
    pub(super) events: BTreeMap<Seq, Arc<Event>>,
    keys: HashMap<[u8; 16], KnownEvent>,
    pub(super) blocks: Vec<Block>,
    late: Vec<(u64, LateRange)>,
    /// Deliveries that ended, for the oracle.
    pub(super) settled: BTreeSet<(Seq, SubscriptionId)>,
    pub(super) rows: BTreeMap<DeliveryId, DeliveryRow>,
    pub(super) subscriptions: BTreeMap<SubscriptionId, Kept>,
    pub(super) scheduled: BTreeMap<ScheduledId, Scheduled>,
    pub(super) letters: BTreeMap<DeliveryId, Letter>,
    /// Of the next commits; those after them are fine.
    pub(super) fates: VecDeque<Fate>,
    /// The process that wrote has died.
    pub(super) is_dead: bool,
}

/// Shared by the writer and everybody who reads.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<Contents>>);

impl Disk {
    pub(super) fn look(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    pub(super) fn state(&self) -> JournalState {
        JournalState {
            epoch: self.epoch,
            batch: self.batch,
            seq: self.seq,
            run: self.run,
            watermark: self.watermark,
            accepted_at: self.accepted_at,
            unclean_stops: 0,
            event_bytes: 0,
            run_bytes: 0,
        }
    }

    // ── what recovery and readers ask, as the repositories answer it ─────────────────────────────

    pub(super) fn entries(&self) -> impl Iterator<Item = &BlockEntry> {
        self.blocks.iter().flat_map(|block| &block.entries)
    }

    pub(super) fn fresh_after(&self, watermark: Seq) -> Vec<(SubscriptionId, Seq)> {
        let blocks = self.blocks.iter().filter(|block| block.top > watermark);
        let entries = blocks.flat_map(|block| &block.entries).filter(|e| e.seq > watermark);
        let rows = self.rows.values().filter(|row| row.seq > watermark);
        let held = rows.map(|row| (row.subscription, row.seq));
        entries.map(|entry| (entry.subscription, entry.seq)).chain(held).collect()
    }

    pub(super) fn late_of(&self, id: SubscriptionId, from: Seq) -> BTreeSet<Seq> {
        let late = self.late.iter().filter(|(_, l)| l.subscription == id && l.max_seq >= from);
        let batches: BTreeSet<u64> = late.map(|(batch, _)| *batch).collect();
        let blocks = self.blocks.iter().filter(|block| batches.contains(&block.batch));
        let entries = blocks.flat_map(|block| &block.entries);
        entries.filter(|e| e.subscription == id && e.seq >= from).map(|e| e.seq).collect()
    }

    pub(super) fn settled_of(&self, id: SubscriptionId, from: Seq) -> BTreeSet<Seq> {
        let blocks = self.blocks.iter().filter(|block| block.top >= from);
        let entries = blocks.flat_map(|block| &block.entries);
        entries.filter(|e| e.subscription == id && e.seq >= from).map(|e| e.seq).collect()
    }

    pub(super) fn rows_of(&self, id: SubscriptionId) -> Vec<DeliveryRow> {
        self.rows.values().filter(|row| row.subscription == id).cloned().collect()
    }

    /// As `Subscriptions::definitions_of`: complete from `seq` on.
    pub(super) fn definitions_of(&self, id: SubscriptionId, seq: Seq) -> Vec<(Seq, Definition)> {
        let history = &self.subscriptions[&id].history;
        let first = history.partition_point(|(from, _)| *from <= seq).saturating_sub(1);
        history[first..].to_vec()
    }

    pub(super) fn range(&self, after: Seq, upto: Seq, limit: usize) -> Vec<Arc<Event>> {
        let events = self.events.range(after.next()..).take_while(|(seq, _)| **seq <= upto);
        events.take(limit).map(|(_, event)| Arc::clone(event)).collect()
    }

    // ── letters, which SeaORM writes ─────────────────────────────────────────────────────────────

    /// Dying rows become letters, in one transaction.
    pub(super) fn record_letters(&mut self, limit: usize) -> usize {
        let dying = self.rows.values().filter(|row| row.status == RowStatus::Dying);
        let dying: Vec<DeliveryRow> = dying.take(limit).cloned().collect();
        for row in &dying {
            self.rows.remove(&row.id);
            let letter = self.letters.entry(row.id).or_insert_with(|| Letter {
                id: LetterId::fresh(),
                is_replaying: false,
                is_replayed: false,
                replays: 0,
                row: row.clone(),
            });
            letter.is_replaying = false;
            letter.replays = row.replay;
            letter.row = row.clone();
        }
        dying.len()
    }

    /// A letter goes back to its subscription: `None` when it does not rest.
    pub(super) fn start_replay(&mut self, id: DeliveryId, now: Millis) -> Option<DeliveryRow> {
        let letter = self.letters.get_mut(&id)?;
        if letter.is_replaying || letter.is_replayed {
            return None;
        }
        letter.is_replaying = true;
        let row = DeliveryRow {
            status: RowStatus::Pending,
            attempts: 0,
            next_at: now,
            error: None,
            first_failed_at: None,
            letter: Some(letter.id),
            replay: letter.replays + 1,
            ..letter.row.clone()
        };
        self.rows.insert(id, row.clone());
        Some(row)
    }

    // ── committing ───────────────────────────────────────────────────────────────────────────────

    fn check(&self, epoch: u64, commit: &Commit) -> Result<(), CommitError> {
        if self.is_dead || self.epoch != epoch {
            return Err(CommitError::Stale { ours: epoch });
        }
        // A store would refuse it, and for ever: the writer must know where the store stands.
        assert_eq!(commit.batch, self.batch + 1, "the batch does not follow the last");
        if commit.events.iter().any(|event| &*event.envelope.event_type == POISON) {
            return Err(CommitError::Statement("an event that no store takes".into()));
        }
        Ok(())
    }

    fn apply(&mut self, commit: &Commit) {
        self.batch = commit.batch;
        self.seq = commit.seq;
        self.run = commit.run;
        self.watermark = commit.watermark;
        self.accepted_at = commit.accepted_at;
        commit.changes.iter().for_each(|change| self.change(change));
        for event in &commit.events {
            let before = self.events.insert(event.seq, Arc::clone(event));
            assert!(before.is_none(), "seq {} was given twice", event.seq.0);
        }
        for (key, index) in &commit.keys {
            let known = KnownEvent { uid: commit.events[*index].uid, digest: key.digest };
            self.keys.insert(key.key, known);
        }
        if let Some(row) = &commit.block {
            let entries = block::decode(&row.bytes).expect("what was packed can be unpacked");
            let ended = entries.iter().filter(|entry| ends(entry.outcome));
            self.settled.extend(ended.map(|entry| (entry.seq, entry.subscription)));
            self.blocks.push(Block { batch: commit.batch, top: commit.seq, entries });
            self.late.extend(commit.late.iter().map(|late| (commit.batch, *late)));
        }
        self.rows.extend(commit.rows.iter().map(|row| (row.id, row.clone())));
        commit.rows_done.iter().for_each(|id| drop(self.rows.remove(id)));
        self.scheduled.extend(commit.scheduled.iter().map(|emit| (emit.id, emit.clone())));
        commit.scheduled_done.iter().for_each(|id| drop(self.scheduled.remove(id)));
        for (id, cursor) in &commit.cursors {
            if let Some(kept) = self.subscriptions.get_mut(id) {
                kept.cursor = *cursor;
            }
        }
        for letter in self.letters.values_mut() {
            if commit.letters_replayed.contains(&letter.id) {
                (letter.is_replaying, letter.is_replayed) = (false, true);
            }
        }
    }

    fn change(&mut self, change: &SubscriptionChange) {
        match change.clone() {
            SubscriptionChange::Create { id, definition, paused, from, cursor, .. } => {
                let history = vec![(from, definition)];
                let (suspended, is_changed, deleted_from) = (None, false, None);
                let kept = Kept { paused, suspended, cursor, history, is_changed, deleted_from };
                self.subscriptions.insert(id, kept);
            }
            SubscriptionChange::Update { id, definition, from, .. } => {
                let kept = self.subscriptions.get_mut(&id).expect("a subscription to change");
                kept.is_changed = true;
                kept.history.retain(|(other, _)| *other != from);
                kept.history.push((from, definition));
            }
            SubscriptionChange::State { id, paused, suspended, .. } => {
                let kept = self.subscriptions.get_mut(&id).expect("a subscription to change");
                (kept.paused, kept.suspended) = (paused, suspended);
            }
            SubscriptionChange::Delete { id, from, .. } => {
                let kept = self.subscriptions.get_mut(&id).expect("a subscription to delete");
                kept.deleted_from = Some(from);
            }
        }
    }
}

fn ends(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Succeeded | Outcome::Dead | Outcome::Discarded)
}

/// The journal's connection to a [`Disk`].
pub(super) struct Connection {
    pub(super) disk: Disk,
    pub(super) epoch: u64,
}

impl JournalStore for Connection {
    fn claim(&mut self) -> Result<JournalState, CommitError> {
        let mut disk = self.disk.look();
        disk.epoch += 1;
        disk.is_dead = false;
        self.epoch = disk.epoch;
        Ok(disk.state())
    }

    fn known(
        &mut self,
        keys: &[EventKey],
        _: Millis,
    ) -> Result<Vec<Option<KnownEvent>>, CommitError> {
        let disk = self.disk.look();
        Ok(keys.iter().map(|key| disk.keys.get(&key.key).copied()).collect())
    }

    fn forget(&mut self, _: Millis) -> Result<u64, CommitError> {
        Ok(0)
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), CommitError> {
        let mut disk = self.disk.look();
        disk.check(self.epoch, commit)?;
        let fate = disk.fates.pop_front().unwrap_or_default();
        if matches!(fate, Fate::Fine | Fate::DieAfter | Fate::LoseAfter) {
            disk.apply(commit);
        }
        disk.is_dead = matches!(fate, Fate::DieBefore | Fate::DieAfter);
        match fate {
            Fate::Fine => Ok(()),
            Fate::DieBefore | Fate::DieAfter => Err(CommitError::Stale { ours: self.epoch }),
            Fate::LoseBefore | Fate::LoseAfter => Err(CommitError::Unknown("lost".into())),
            Fate::Full => Err(CommitError::Full),
        }
    }

    fn reopen(&mut self) -> Result<JournalState, CommitError> {
        Ok(self.disk.look().state())
    }

    fn release(&mut self) -> Result<(), CommitError> {
        Ok(())
    }
}
