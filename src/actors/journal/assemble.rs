//! From requests to one commit: numbers, duplicates, blocks. Pure; the writer does the rest.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::request::{
    Accepted, ChangeKind, Committed, Emission, Incoming, KeyWrites, PublishError, Request,
    RowChange, Settlement,
};
use crate::{
    domain::{
        Event, EventId, Millis, NewEvent, ScheduledId, Seq, SubscriptionId,
        block::{self, BlockEntry, Outcome},
        kv::{self, Namespace},
    },
    store::journal::{
        BlockRow, Commit, EventKey, JournalState, KnownEvent, LateRange, Scheduled, SizeMark,
        SizeOf, SubscriptionChange,
    },
};

/// Bytes from one mark to the next: how finely retention by size can tell.
const MARK_EVERY: u64 = 1 << 20;

/// A commit that is ready to be written, and the answers for when it has been.
pub(super) struct Assembled {
    pub(super) commit: Commit,
    /// One per `Publish` request, in order.
    pub(super) answers: Vec<Result<Vec<Accepted>, PublishError>>,
    pub(super) outcomes: Vec<BlockEntry>,
    kv_clock: u64,
}

impl Assembled {
    /// True when there is nothing that needs a transaction.
    pub(super) fn is_empty(&self) -> bool {
        let commit = &self.commit;
        commit.events.is_empty()
            && commit.block.is_none()
            && commit.rows.is_empty()
            && commit.rows_done.is_empty()
            && commit.scheduled.is_empty()
            && commit.scheduled_done.is_empty()
            && commit.cursors.is_empty()
            && commit.changes.is_empty()
            && commit.kv.is_empty()
    }

    pub(super) fn committed(&self) -> Committed {
        let commit = &self.commit;
        Committed {
            upto: commit.seq,
            at: commit.at,
            events: commit.events.clone(),
            changes: commit.changes.clone(),
            rows: commit.rows.clone(),
            rows_done: commit.rows_done.clone(),
            scheduled: commit.scheduled.clone(),
            scheduled_done: commit.scheduled_done.clone(),
            outcomes: self.outcomes.clone(),
            kv_clock: self.kv_clock,
        }
    }
}

/// When a commit is made.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    /// For what people read: when events were accepted.
    pub(super) wall: Millis,
    /// For what waits, and for the next start to go on from.
    pub(super) steady: Millis,
}

impl Now {
    #[cfg(test)]
    pub(crate) fn at(now: Millis) -> Self {
        Self { wall: now, steady: now }
    }

    pub(super) fn read() -> Self {
        Self { wall: Millis::now(), steady: Millis::steady() }
    }
}

/// The keys that must be looked up before [`assemble`], in the order in which it asks for them.
pub(super) fn keys(requests: &[Request]) -> Vec<EventKey> {
    let mut keys = Vec::new();
    for request in requests {
        match request {
            Request::Publish(publish) => keys.extend(publish.items.iter().filter_map(|i| i.key)),
            Request::Settle(settlement) => {
                keys.extend(settlement.emits.iter().filter_map(|emit| emit.key));
            }
            Request::Due(scheduled) => keys.extend(EventKey::of(&scheduled.event)),
            Request::Change(change) => keys.extend(change.alert.as_deref().and_then(EventKey::of)),
            Request::Alert(event) => keys.extend(EventKey::of(event)),
            _ => {}
        }
    }
    keys
}

/// Builds the commit that follows `state`. `known` answers [`keys`], `salt` makes ids unguessable.
pub(super) fn assemble(
    requests: &[Request],
    known: Vec<Option<KnownEvent>>,
    state: &JournalState,
    watermark: Seq,
    now: Now,
    salt: impl FnMut() -> u64,
) -> Assembled {
    let mut builder = Builder {
        commit: Commit {
            batch: state.batch + 1,
            at: now.steady,
            seq: state.seq,
            run: state.run,
            watermark,
            // Time never runs backwards in the log, whatever the clock does.
            accepted_at: state.accepted_at.max(now.wall),
            event_bytes: state.event_bytes,
            run_bytes: state.run_bytes,
            ..Commit::default()
        },
        entries: Vec::new(),
        late: HashMap::new(),
        kv: BTreeMap::new(),
        kv_clock: 0,
        known: known.into_iter(),
        fresh: HashMap::new(),
        bytes_before: (state.event_bytes, state.run_bytes),
        salt,
    };
    let mut answers = Vec::new();
    for request in requests {
        match request {
            Request::Publish(publish) => answers.push(builder.publish(&publish.items)),
            Request::Settle(settlement) => builder.settle(settlement),
            Request::Routed { .. } | Request::Forget(..) | Request::Tidy | Request::Barrier(_) => {}
            Request::Cover(cover) => {
                if cover.from.is_some() {
                    builder.cursor(cover.subscription, cover.from);
                }
                for &seq in &cover.settled {
                    builder.entry(BlockEntry {
                        seq,
                        subscription: cover.subscription,
                        outcome: Outcome::Noted,
                        script_version: 0,
                        attempt: 0,
                        replay: 0,
                        duration_us: 0,
                        run: None,
                    });
                    builder.late(cover.subscription, seq);
                }
            }
            Request::Cursor { subscription, to } => builder.cursor(*subscription, *to),
            Request::Change(change) => {
                builder.change(&change.kind, now.steady);
                if let Some(alert) = change.alert.as_deref() {
                    builder.emit(alert, EventKey::of(alert));
                }
            }
            Request::Alert(event) => _ = builder.emit(event, EventKey::of(event)),
            Request::Due(scheduled) => {
                let key = EventKey::of(&scheduled.event);
                builder.emit(&scheduled.event, key);
                builder.commit.scheduled_done.push(scheduled.id);
            }
            Request::Keys(keys) => builder.keys(&keys.writes),
            Request::Cancel(id, _) => builder.commit.scheduled_done.push(*id),
            Request::Row(row) => builder.commit.rows.push((**row).clone()),
        }
    }
    builder.finish(answers)
}

struct Builder<S> {
    commit: Commit,
    entries: Vec<BlockEntry>,
    late: HashMap<SubscriptionId, (Seq, Seq)>,
    /// The last write of this commit to each key.
    kv: BTreeMap<(Namespace, String), kv::Change>,
    kv_clock: u64,
    known: std::vec::IntoIter<Option<KnownEvent>>,
    /// Keys that this very commit introduces.
    fresh: HashMap<[u8; 16], KnownEvent>,
    /// Of events and of runs.
    bytes_before: (u64, u64),
    salt: S,
}

impl<S: FnMut() -> u64> Builder<S> {
    /// All or nothing: the first item whose key belongs to another payload refuses them all.
    fn publish(&mut self, items: &[Incoming]) -> Result<Vec<Accepted>, PublishError> {
        let seen: Vec<Option<KnownEvent>> =
            items.iter().map(|item| item.key.and_then(|key| self.seen(&key))).collect();
        let mut within: HashMap<[u8; 16], [u8; 16]> = HashMap::new();
        for (index, (item, seen)) in items.iter().zip(&seen).enumerate() {
            let Some(key) = item.key else { continue };
            if let Some(known) = seen {
                if known.digest != key.digest {
                    return Err(PublishError::IdReused { index, uid: Some(known.uid) });
                }
            } else if within.insert(key.key, key.digest).is_some_and(|digest| digest != key.digest)
            {
                return Err(PublishError::IdReused { index, uid: None });
            }
        }
        let mut accepted = Vec::with_capacity(items.len());
        for (item, seen) in items.iter().zip(seen) {
            // An earlier item of this very publish may have introduced the key meanwhile.
            let seen = seen.or_else(|| item.key.and_then(|key| self.fresh.get(&key.key).copied()));
            accepted.push(match seen {
                Some(known) => Accepted { uid: known.uid, duplicate: true },
                None => Accepted { uid: self.accept(&item.event, item.key), duplicate: false },
            });
        }
        Ok(accepted)
    }

    fn seen(&mut self, key: &EventKey) -> Option<KnownEvent> {
        let stored = self.known.next().flatten();
        stored.or_else(|| self.fresh.get(&key.key).copied())
    }

    /// An emit that was seen before is a no-op: the event that has the key stands for it.
    fn emit(&mut self, event: &NewEvent, key: Option<EventKey>) -> EventId {
        match key.and_then(|key| self.seen(&key)) {
            Some(known) => known.uid,
            None => self.accept(event, key),
        }
    }

    fn accept(&mut self, event: &NewEvent, key: Option<EventKey>) -> EventId {
        let seq = self.commit.seq.next();
        self.commit.seq = seq;
        let accepted_at = self.commit.accepted_at;
        let uid = EventId::numbered(accepted_at, seq, (self.salt)());
        if let Some(key) = key {
            self.fresh.insert(key.key, KnownEvent { uid, digest: key.digest });
            self.commit.keys.push((key, self.commit.events.len()));
        }
        let accepted = Event {
            seq,
            uid,
            accepted_at,
            envelope: event.envelope.clone(),
            data: event.data.clone(),
            lineage: event.lineage.clone(),
        };
        self.commit.event_bytes += accepted.weight() as u64;
        self.commit.events.push(Arc::new(accepted));
        uid
    }

    fn settle(&mut self, settlement: &Settlement) {
        let emitted: Vec<EventId> =
            settlement.emits.iter().filter_map(|emission| self.emission(emission)).collect();
        if let Some(run) = &settlement.run {
            self.commit.run = self.commit.run.max(run.id.number());
            self.commit.run_bytes += run.weight() as u64;
            self.commit.runs.push((Arc::clone(run), emitted));
        }
        self.keys(&settlement.kv);
        self.entry(BlockEntry {
            seq: settlement.seq,
            subscription: settlement.subscription,
            outcome: settlement.outcome,
            script_version: settlement.script_version,
            attempt: settlement.attempt,
            replay: settlement.replay,
            duration_us: u64::try_from(settlement.duration.as_micros()).unwrap_or(u64::MAX),
            run: settlement.run.as_ref().map(|run| run.id.number()),
        });
        if settlement.late {
            self.late(settlement.subscription, settlement.seq);
        }
        match &settlement.row {
            RowChange::None => {}
            RowChange::Upsert(row) => self.commit.rows.push((**row).clone()),
            RowChange::Done(id) => self.commit.rows_done.push(*id),
        }
        if settlement.outcome == Outcome::Succeeded {
            self.commit.letters_replayed.extend(settlement.letter);
        }
    }

    fn emission(&mut self, emission: &Emission) -> Option<EventId> {
        let Some(due_at) = emission.due_at else {
            return Some(self.emit(&emission.event, emission.key));
        };
        // Its key is looked up again when it is due; here the look-up is only consumed.
        if let Some(key) = emission.key {
            self.seen(&key);
        }
        self.commit.scheduled.push(Scheduled {
            id: ScheduledId::fresh(),
            due_at,
            created_at: self.commit.at,
            event: emission.event.clone(),
        });
        None
    }

    fn keys(&mut self, writes: &KeyWrites) {
        self.kv_clock = self.kv_clock.max(writes.clock);
        for change in &writes.changes {
            self.kv.insert((change.namespace.clone(), change.key.clone()), change.clone());
        }
    }

    fn entry(&mut self, entry: BlockEntry) {
        self.entries.push(entry);
    }

    fn late(&mut self, subscription: SubscriptionId, seq: Seq) {
        let range = self.late.entry(subscription).or_insert((seq, seq));
        *range = (range.0.min(seq), range.1.max(seq));
    }

    fn cursor(&mut self, subscription: SubscriptionId, to: Option<Seq>) {
        self.commit.cursors.push((subscription, to));
    }

    fn change(&mut self, kind: &ChangeKind, at: Millis) {
        let from = self.commit.seq.next();
        self.commit.changes.push(match kind.clone() {
            ChangeKind::Create { id, name, definition, paused, cursor } => {
                SubscriptionChange::Create { id, name, definition, paused, from, cursor, at }
            }
            ChangeKind::Update { id, name, definition } => {
                SubscriptionChange::Update { id, name, definition, from, at }
            }
            ChangeKind::State { id, paused, suspended } => {
                SubscriptionChange::State { id, paused, suspended, at }
            }
            ChangeKind::Delete { id } => SubscriptionChange::Delete { id, from, at },
        });
    }

    fn finish(mut self, answers: Vec<Result<Vec<Accepted>, PublishError>>) -> Assembled {
        if !self.entries.is_empty() {
            self.commit.block = Some(BlockRow {
                count: u32::try_from(self.entries.len()).unwrap_or(u32::MAX),
                bytes: block::encode(&self.entries),
            });
        }
        self.commit.late = self
            .late
            .into_iter()
            .map(|(subscription, (min_seq, max_seq))| LateRange { subscription, min_seq, max_seq })
            .collect();
        self.commit.kv = self.kv.into_values().collect();
        let (commit, before) = (&mut self.commit, self.bytes_before);
        let sums = [
            (SizeOf::Events, commit.seq.0, before.0, commit.event_bytes),
            (SizeOf::Runs, commit.run, before.1, commit.run_bytes),
        ];
        commit.marks = sums
            .into_iter()
            .filter(|(_, _, before, after)| before / MARK_EVERY != after / MARK_EVERY)
            .map(|(of, upto, _, bytes)| SizeMark { of, upto, bytes })
            .collect();
        Assembled { commit: self.commit, answers, outcomes: self.entries, kv_clock: self.kv_clock }
    }
}
