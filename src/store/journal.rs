//! The journal's write path: what one group commit holds, and the trait of the stores that take it.
//!
//! A [`Commit`] is flat rows, decided elsewhere (`actors::journal`); a [`JournalStore`] writes it
//! as one transaction and fsyncs. Two implementations: `sqlite` (rusqlite, prepared statements) and
//! `postgres` (sqlx, one multi-row UNNEST statement a table).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sha2::{Digest, Sha256};

pub(in crate::store) use self::keys::find as find_key;
use super::encode;
use crate::domain::{
    BulkId, Definition, DeliveryId, Event, EventId, LetterId, Millis, NewEvent, RunError, RunLog,
    ScheduledId, Seq, SubscriptionId, kv, retry::Failed,
};

mod keys;
pub mod postgres;
mod postgres_keys;
mod postgres_rows;
pub mod sqlite;
mod sqlite_keys;
mod statements;

/// The store's one-row memory of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalState {
    /// Owner epoch; every commit checks that it is still ours.
    pub epoch: u64,
    /// Number of the last commit.
    pub batch: u64,
    /// Seq of the last event.
    pub seq: Seq,
    /// Number of the last run that was counted.
    pub run: u64,
    /// Every delivery of every event up to here is settled or has a row or a cursor of its own.
    pub watermark: Seq,
    /// Acceptance time of the last event.
    pub accepted_at: Millis,
    /// Unclean stops in a row before this start; 0 after a clean stop.
    pub unclean_stops: u32,
    /// Bytes of all events that were ever written, and of all runs.
    pub event_bytes: u64,
    pub run_bytes: u64,
}

/// Identity of a published event for deduplication: a keyed or collision-resistant 128-bit hash of
/// source and id, and a 128-bit digest of type, subject and data to tell a repeat from a misuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventKey {
    pub key: [u8; 16],
    pub digest: [u8; 16],
}

impl EventKey {
    /// The key of an event whose publisher or script chose an id; `None` for the others, which
    /// nothing can repeat.
    #[must_use]
    pub fn of(event: &NewEvent) -> Option<Self> {
        let envelope = &event.envelope;
        let id = envelope.id.as_deref()?;
        let key = Self::key_of(&envelope.source, id);
        let subject = envelope.subject.as_deref().unwrap_or_default();
        let digest = hash(&[envelope.event_type.as_bytes(), subject.as_bytes(), &event.data]);
        Some(Self { key, digest })
    }

    /// The key alone, for looking an event up by what its publisher calls it.
    #[must_use]
    pub fn key_of(source: &str, id: &str) -> [u8; 16] {
        hash(&[source.as_bytes(), id.as_bytes()])
    }
}

/// With lengths before the parts: no two different lists may read the same.
fn hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut short = [0u8; 16];
    short.copy_from_slice(&hasher.finalize()[..16]);
    short
}

/// An event that was seen before under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownEvent {
    pub uid: EventId,
    pub digest: [u8; 16],
}

/// Everything that one commit writes, in one transaction with one fsync.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    pub batch: u64,
    pub at: Millis,
    /// Last seq and last run number after this commit.
    pub seq: Seq,
    pub run: u64,
    pub watermark: Seq,
    pub accepted_at: Millis,
    /// As in [`JournalState`], after this commit.
    pub event_bytes: u64,
    pub run_bytes: u64,
    pub marks: Vec<SizeMark>,
    pub events: Vec<Arc<Event>>,
    /// `(key, index into events)`; events without a publisher's id have none.
    pub keys: Vec<(EventKey, usize)>,
    /// At most one: all attempts that this commit settles.
    pub block: Option<BlockRow>,
    pub late: Vec<LateRange>,
    /// Each with the uids of the events it emitted, which are known only now; its own `emitted`
    /// is empty here.
    pub runs: Vec<(Arc<RunLog>, Vec<EventId>)>,
    pub rows: Vec<DeliveryRow>,
    /// Rows whose delivery is settled: removed.
    pub rows_done: Vec<DeliveryId>,
    pub scheduled: Vec<Scheduled>,
    pub scheduled_done: Vec<ScheduledId>,
    /// Where each of these subscriptions reads from; `None`: live again.
    pub cursors: Vec<(SubscriptionId, Option<Seq>)>,
    pub changes: Vec<SubscriptionChange>,
    /// What was unsettled at the start is settled: the unclean stops before it are forgotten.
    pub recovered: bool,
    /// Letters whose replay succeeded (`replayed`).
    pub letters_replayed: Vec<LetterId>,
    /// Keys of scripts, each at most once.
    pub kv: Vec<kv::Change>,
}

/// "When the log had come to `upto`, so many bytes had ever been written." Retention by size goes by
/// these: what lies between two marks has the difference of their sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeMark {
    pub of: SizeOf,
    /// Seq or run number.
    pub upto: u64,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeOf {
    Events,
    Runs,
}

impl SizeOf {
    /// Of the table's rows.
    pub(in crate::store) const fn kind(self) -> i64 {
        match self {
            Self::Events => 0,
            Self::Runs => 1,
        }
    }

    /// Of the row that says up to where they were removed.
    pub(in crate::store) const fn gone(self) -> i64 {
        self.kind() + 2
    }
}

/// One packed block of outcomes; see `domain::block` for the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRow {
    pub count: u32,
    pub bytes: Vec<u8>,
}

/// "Batch `batch` (this commit) holds late outcomes of this subscription between these seqs."
///
/// An outcome is late when its delivery had a row or its subscription a cursor; the look-up of an
/// event's fresh outcomes ends where the watermark passed it, so late ones are found through these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateRange {
    pub subscription: SubscriptionId,
    pub min_seq: Seq,
    pub max_seq: Seq,
}

/// A delivery that waits, and so has a row of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryRow {
    pub id: DeliveryId,
    pub event: EventId,
    pub seq: Seq,
    pub subscription: SubscriptionId,
    pub status: RowStatus,
    /// Attempts that were spent (of this replay).
    pub attempts: u32,
    /// When it is due; meaningful for `Retrying`.
    pub next_at: Millis,
    pub error: Option<RunError>,
    pub first_failed_at: Option<Millis>,
    /// Script version of the last attempt, for the letter.
    pub script_version: u32,
    /// The letter that is being replayed, and which replay it is.
    pub letter: Option<LetterId>,
    pub replay: u32,
    /// Edited payload of the replay (JSON text).
    pub data: Option<String>,
    /// Version the replay asked for; `None`: current.
    pub pinned_version: Option<u32>,
    /// Times it was in hand when the process died, while it ran alone.
    pub crashes_alone: u32,
    /// The bulk operation that replayed it.
    pub bulk: Option<BulkId>,
}

impl DeliveryRow {
    /// How far the delivery has come: grows with each time it is written, unless it is dying.
    #[must_use]
    pub fn progress(&self) -> (u32, u32, u32) {
        (self.replay, self.attempts, self.crashes_alone)
    }

    /// Whether this row, of a commit that is heard of only now, tells anything about a delivery that
    /// was handed over at `held`: it may have been read from the store before.
    #[must_use]
    pub fn is_news(&self, held: Option<&(u32, u32, u32)>) -> bool {
        self.status == RowStatus::Dying || held.is_none_or(|held| self.progress() > *held)
    }

    /// The row of a delivery after a failed attempt: it waits for the next one, or is dying. `old`:
    /// the row it had; `now`: by the wall clock, for people; `steady`: by the clock of what waits.
    #[must_use]
    pub fn failed(
        old: Option<&Self>,
        event: &Event,
        subscription: SubscriptionId,
        failed: Failed,
        error: RunError,
        now: Millis,
        steady: Millis,
    ) -> Self {
        Self {
            id: DeliveryId::of(event.uid, subscription),
            event: event.uid,
            seq: event.seq,
            subscription,
            status: if failed.wait.is_some() { RowStatus::Retrying } else { RowStatus::Dying },
            attempts: failed.attempts,
            next_at: failed.wait.map_or(now, |wait| steady.plus(wait)),
            first_failed_at: old.and_then(|row| row.first_failed_at).or(Some(now)),
            script_version: 0,
            letter: old.and_then(|row| row.letter),
            replay: old.map_or(0, |row| row.replay),
            data: old.and_then(|row| row.data.clone()),
            pinned_version: old.and_then(|row| row.pinned_version),
            // It came through an attempt: nothing speaks against it any more.
            crashes_alone: 0,
            bulk: old.and_then(|row| row.bulk),
            error: Some(error),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowStatus {
    /// In hand for over 200 ms, or replayed and not yet run: due at once after a restart.
    Pending,
    /// Waits for `next_at`.
    Retrying,
    /// Attempts spent: `DeadLetterActor` makes it a letter.
    Dying,
    /// Runs alone with this mark stored before (see DESIGN, crashes).
    Suspect,
}

/// A delayed emit, or an alert on its way into the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduled {
    pub id: ScheduledId,
    pub due_at: Millis,
    pub created_at: Millis,
    pub event: NewEvent,
}

impl Scheduled {
    /// An event that enters the log as soon as the journal gets to it.
    #[must_use]
    pub fn at_once(id: ScheduledId, event: NewEvent, now: Millis) -> Self {
        Self { id, due_at: now, created_at: now, event }
    }
}

/// A change of a subscription; takes effect after the events that precede it in the journal.
#[derive(Clone, Debug)]
pub enum SubscriptionChange {
    Create {
        id: SubscriptionId,
        name: String,
        definition: Definition,
        paused: bool,
        from: Seq,
        cursor: Option<Seq>,
        at: Millis,
    },
    /// New revision; `name`, `definition` and state as they are afterwards.
    Update { id: SubscriptionId, name: String, definition: Definition, from: Seq, at: Millis },
    /// Pause, resume, suspend: state alone.
    State { id: SubscriptionId, paused: bool, suspended: Option<String>, at: Millis },
    /// The subscription and its definitions go; rows that wait are settled by their own requests.
    Delete { id: SubscriptionId, from: Seq, at: Millis },
}

impl SubscriptionChange {
    /// First seq that meets the change.
    #[must_use]
    pub fn from(&self) -> Seq {
        match self {
            Self::Create { from, .. } | Self::Update { from, .. } | Self::Delete { from, .. } => {
                *from
            }
            // State is not matching: it takes effect when it is seen.
            Self::State { .. } => Seq::ZERO,
        }
    }

    /// The subscription that changes.
    #[must_use]
    pub fn id(&self) -> SubscriptionId {
        match self {
            Self::Create { id, .. }
            | Self::Update { id, .. }
            | Self::State { id, .. }
            | Self::Delete { id, .. } => *id,
        }
    }
}

/// Why a commit did not happen, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A statement was refused and the transaction rolled back: nothing was written. The batch is
    /// split until the offender stands alone.
    #[error("the store refused a row: {0}")]
    Statement(String),
    /// No room; rolled back, nothing was written.
    #[error("the disk of the store is full")]
    Full,
    /// Another process owns the store now. This one must stop.
    #[error("another process has taken the store over (epoch {ours} is not the current one)")]
    Stale { ours: u64 },
    /// COMMIT, fsync or the connection failed: whether it was written is unknown until
    /// [`JournalStore::reopen`] says which batch is the last.
    #[error("the store failed: {0}")]
    Unknown(String),
}

/// One connection that writes commits. Blocking; lives on the journal's thread.
pub trait JournalStore: Send {
    /// Becomes the owner: takes the lock, raises the epoch, notes an unclean stop.
    fn claim(&mut self) -> Result<JournalState, CommitError>;
    /// Looks keys up, in order. Those of events that were accepted before `forget` count only while
    /// the event is stored.
    fn known(
        &mut self,
        keys: &[EventKey],
        forget: Millis,
    ) -> Result<Vec<Option<KnownEvent>>, CommitError>;
    /// Removes some of the keys of events that were accepted before `before` and are not stored;
    /// returns how many. 0: nothing was found this time.
    fn forget(&mut self, before: Millis) -> Result<u64, CommitError>;
    /// One transaction, one fsync. Checks the epoch and that `commit.batch` follows the last.
    fn commit(&mut self, commit: &Commit) -> Result<(), CommitError>;
    /// Housekeeping that would cost the next commit its time; called when nothing waits.
    fn tidy(&mut self) -> Result<(), CommitError> {
        Ok(())
    }
    /// Drops the connection, opens a new one, and says where the store stands.
    fn reopen(&mut self) -> Result<JournalState, CommitError>;
    /// Marks a clean stop and gives the ownership up.
    fn release(&mut self) -> Result<(), CommitError>;
}

/// The JSON columns of a definition.
struct DefinitionText {
    retry_policy: String,
    limits: String,
    whole: String,
}

impl DefinitionText {
    fn of(definition: &Definition) -> Self {
        Self {
            retry_policy: encode::json(&definition.retry_policy),
            limits: encode::json(&definition.limits),
            whole: super::definition::to_json(definition),
        }
    }
}

/// Refuses what the door should have refused: NUL in a text, which PostgreSQL cannot store.
///
/// Both databases keep this rule, so that one of them cannot take what the other would not.
fn check_text(commit: &Commit) -> Result<(), CommitError> {
    let events = commit.events.iter().map(|event| &event.envelope);
    let scheduled = commit.scheduled.iter().map(|emit| &emit.event.envelope);
    for envelope in events.chain(scheduled) {
        let texts = [
            envelope.id.as_deref(),
            Some(&*envelope.source),
            Some(&*envelope.event_type),
            envelope.subject.as_deref(),
            envelope.time.as_deref(),
            envelope.datacontenttype.as_deref(),
            envelope.dataschema.as_deref(),
            envelope.extensions.as_deref(),
        ];
        if texts.into_iter().flatten().any(|text| text.contains('\0')) {
            let event_type = &envelope.event_type;
            return Err(CommitError::Statement(format!(
                "an event of type `{event_type}` holds NUL"
            )));
        }
    }
    Ok(())
}

/// Why the journal's row did not move: another owner, or a batch that does not follow the last.
fn out_of_step(found: &JournalState, epoch: u64, commit: &Commit) -> CommitError {
    if found.epoch != epoch {
        return CommitError::Stale { ours: epoch };
    }
    CommitError::Unknown(format!("batch {} does not follow batch {}", commit.batch, found.batch))
}

/// How what a namespace holds changes, by its name.
type Growth = BTreeMap<String, Grown>;

#[derive(Clone, Copy, Debug, Default)]
struct Grown {
    keys: i64,
    bytes: i64,
}

/// Adds up what a commit does to the namespaces; `before` has the bytes of the keys that there are.
fn growth(changes: &[kv::Change], before: &HashMap<(String, String), i64>) -> Growth {
    let mut growth = Growth::new();
    for change in changes {
        let grown = growth.entry(change.namespace.to_string()).or_default();
        let at = (change.namespace.to_string(), change.key.clone());
        if let Some(bytes) = before.get(&at) {
            grown.keys -= 1;
            grown.bytes -= bytes;
        }
        if let Some(stored) = &change.value {
            grown.keys += 1;
            grown.bytes += i64::try_from(change.key.len() + stored.value.len()).unwrap_or(i64::MAX);
        }
    }
    growth
}

fn must_exist(id: SubscriptionId, changed: u64) -> Result<(), CommitError> {
    match changed {
        0 => Err(CommitError::Statement(format!("subscription {id} does not exist"))),
        _ => Ok(()),
    }
}
