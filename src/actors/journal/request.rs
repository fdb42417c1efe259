//! What the journal is asked to write, and what it answers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    domain::{
        Definition, DeliveryId, ErrorKind, EventId, LetterId, Millis, NewEvent, RunError, RunLog,
        ScheduledId, Seq, SubscriptionId, block::Outcome, kv,
    },
    store::journal::{DeliveryRow, EventKey, RowStatus, Scheduled},
};

/// One thing to write. Requests are written in the order in which they were submitted.
#[derive(Debug)]
pub(crate) enum Request {
    Publish(Publish),
    Settle(Box<Settlement>),
    /// The router matched an event: so many of its deliveries are in memory alone.
    Routed {
        seq: Seq,
        open: u32,
    },
    Cover(Cover),
    /// A subscription's cursor moved on, or is not needed any more.
    Cursor {
        subscription: SubscriptionId,
        to: Option<Seq>,
    },
    Change(Change),
    /// A delayed emit or an alert is due: its event enters the log, its row goes.
    Due(Scheduled),
    /// The journal tells of itself.
    Alert(Box<NewEvent>),
    /// Keys that change without a run: an operator's hand, or those that expired.
    Keys(KeyChanges),
    /// An operator cancels a delayed emit.
    Cancel(ScheduledId, oneshot::Sender<Result<(), WriteError>>),
    /// A row that appears or changes without a run: a suspect's mark, a row set back.
    Row(Box<DeliveryRow>),
    /// Keys of deduplication that are older may go where their event is not stored; answered with
    /// how many went.
    Forget(Millis, oneshot::Sender<Result<u64, WriteError>>),
    /// Much was written past the journal, or removed: the store may put its house in order.
    Tidy,
    /// Answered once everything submitted before it is on disk.
    Barrier(oneshot::Sender<()>),
}

impl Request {
    /// Rough memory it holds, in bytes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Publish(publish) => publish.weight,
            Self::Settle(settlement) => {
                160 + settlement.emits.iter().map(|emit| emit.event.data.len() + 256).sum::<usize>()
                    + settlement.kv.weight()
                    + settlement.run.as_ref().map_or(0, |run| run.weight())
            }
            Self::Keys(keys) => 128 + keys.writes.weight(),
            _ => 128,
        }
    }
}

/// Changes of keys that passed the check for conflicts, in the order of their clocks.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyWrites {
    /// The ledger's clock of these (`host::kv`); 0 for none.
    pub(crate) clock: u64,
    pub(crate) changes: Vec<kv::Change>,
}

impl KeyWrites {
    fn weight(&self) -> usize {
        let value = |change: &kv::Change| change.value.as_ref().map_or(0, |v| v.value.len());
        self.changes.iter().map(|change| change.key.len() + value(change) + 64).sum()
    }
}

#[derive(Debug)]
pub(crate) struct KeyChanges {
    pub(crate) writes: KeyWrites,
    pub(crate) reply: oneshot::Sender<Result<(), WriteError>>,
}

#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) items: Vec<Incoming>,
    pub(crate) weight: usize,
    /// When it came: the clock of `tripline_delivery_latency_seconds` starts here.
    pub(crate) arrived: Instant,
    /// `None` once it was answered: while a store that failed does not open again nobody waits.
    pub(crate) reply: Option<oneshot::Sender<Result<Vec<Accepted>, PublishError>>>,
}

impl Publish {
    /// Answers, unless that was done. A receiver that is gone has hung up: it interests nobody.
    pub(super) fn answer(&mut self, answer: Result<Vec<Accepted>, PublishError>) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(answer);
        }
    }

    /// Whoever published it was told something else meanwhile, or has hung up.
    pub(super) fn is_given_up(&self) -> bool {
        self.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

/// An event that asks to be accepted.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub event: NewEvent,
    /// `None` when the publisher gave no id: then nothing can repeat it.
    pub key: Option<EventKey>,
}

/// What became of one published event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub uid: EventId,
    /// Seen before under the same source and id: not delivered again.
    pub duplicate: bool,
}

/// Why nothing of a publish was accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// `uid` is the event that has the key; `None`: an earlier item of the same publish.
    #[error("item {index}: its source and id belong to another payload")]
    IdReused { index: usize, uid: Option<EventId> },
    /// Nothing was written, as far as anybody can know.
    #[error("the journal does not take events now: {reason}")]
    Closed { reason: String },
    #[error("the disk of the store is full")]
    DiskFull,
    /// More is waiting to be written than the journal holds in memory.
    #[error("the journal is busy")]
    Busy,
    /// Those before it have waited for too long already.
    #[error("more is published than can be written")]
    Overloaded,
    #[error("{backlog} events wait to be handled, and limits.backlog is {limit}")]
    Backlog { backlog: u64, limit: u64 },
    #[error("the store refused the events: {0}")]
    Refused(String),
}

/// Why another write was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error("the store refused it: {0}")]
    Refused(String),
    #[error("the journal is closed: {0}")]
    Closed(String),
}

/// An attempt that ended, with all that commits together with it.
#[derive(Clone, Debug)]
pub(crate) struct Settlement {
    pub(crate) seq: Seq,
    pub(crate) subscription: SubscriptionId,
    pub(crate) outcome: Outcome,
    pub(crate) script_version: u32,
    pub(crate) attempt: u32,
    pub(crate) replay: u32,
    pub(crate) duration: Duration,
    /// The watermark waited for it: neither a row nor a cursor covered it.
    pub(crate) counted: bool,
    /// A row or a cursor covered it, so its outcome is found through a late range.
    pub(crate) late: bool,
    /// `None`: not kept (sampled, or nothing ran).
    pub(crate) run: Option<Arc<RunLog>>,
    pub(crate) emits: Vec<Emission>,
    pub(crate) kv: KeyWrites,
    pub(crate) row: RowChange,
    pub(crate) event: EventId,
    /// The letter that was replayed.
    pub(crate) letter: Option<LetterId>,
}

impl Settlement {
    /// A person ended a delivery that waits in a row.
    pub(crate) fn discarded(row: &DeliveryRow) -> Self {
        Self {
            seq: row.seq,
            event: row.event,
            subscription: row.subscription,
            outcome: Outcome::Discarded,
            script_version: row.script_version,
            attempt: 0,
            replay: row.replay,
            duration: Duration::ZERO,
            counted: false,
            late: true,
            run: None,
            emits: Vec::new(),
            kv: KeyWrites::default(),
            row: RowChange::Done(row.id),
            letter: None,
        }
    }

    /// What is written instead of a settlement that the store refuses: the delivery dies with the
    /// reason. `None` when this is such a substitute already.
    pub(super) fn unstorable(&self, reason: &str) -> Option<Self> {
        if self.run.is_none() && self.emits.is_empty() && self.kv.changes.is_empty() {
            return None;
        }
        let now = Millis::now();
        let row = DeliveryRow {
            id: DeliveryId::of(self.event, self.subscription),
            event: self.event,
            seq: self.seq,
            subscription: self.subscription,
            status: RowStatus::Dying,
            attempts: self.attempt,
            next_at: now,
            error: Some(RunError {
                kind: ErrorKind::Exception,
                message: format!("what the run left behind cannot be stored: {reason}"),
                stack: None,
            }),
            first_failed_at: Some(now),
            script_version: self.script_version,
            letter: self.letter,
            replay: self.replay,
            data: None,
            pinned_version: None,
            crashes_alone: 0,
            bulk: None,
        };
        Some(Self {
            outcome: Outcome::Dead,
            run: None,
            emits: Vec::new(),
            kv: KeyWrites { clock: self.kv.clock, changes: Vec::new() },
            row: RowChange::Upsert(Box::new(row)),
            ..self.clone()
        })
    }
}

/// What happens to the delivery's row.
#[derive(Clone, Debug)]
pub(crate) enum RowChange {
    /// It has none and needs none.
    None,
    Upsert(Box<DeliveryRow>),
    Done(DeliveryId),
}

/// An event that a successful run emits.
#[derive(Clone, Debug)]
pub(crate) struct Emission {
    pub(crate) event: NewEvent,
    /// Only for an id that the script chose; the ids we make cannot repeat.
    pub(crate) key: Option<EventKey>,
    /// Kept as a `scheduled` row until then, by the steady clock.
    pub(crate) due_at: Option<Millis>,
}

/// A subscription takes a cursor: whatever of it is in hand need not hold the watermark any more.
#[derive(Clone, Debug)]
pub(crate) struct Cover {
    pub(crate) subscription: SubscriptionId,
    /// `None`: the cursor stays, for this only notes.
    pub(crate) from: Option<Seq>,
    /// In hand and counted until now.
    pub(crate) counted: Vec<Seq>,
    /// Settled above the cursor: noted again, so that recovery from there skips them.
    pub(crate) settled: Vec<Seq>,
}

/// A change of a subscription, with its answer.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) kind: ChangeKind,
    /// Announces it: enters the log in the same commit.
    pub(crate) alert: Option<Box<NewEvent>>,
    pub(crate) reply: oneshot::Sender<Result<Seq, WriteError>>,
}

#[derive(Clone, Debug)]
pub(crate) enum ChangeKind {
    Create {
        id: SubscriptionId,
        name: String,
        definition: Definition,
        paused: bool,
        /// A backfill: starts behind from this seq.
        cursor: Option<Seq>,
    },
    Update {
        id: SubscriptionId,
        name: String,
        definition: Definition,
    },
    State {
        id: SubscriptionId,
        paused: bool,
        suspended: Option<String>,
    },
    Delete {
        id: SubscriptionId,
    },
}

/// What the writer tells the [`super::JournalActor`] after each commit, and that one all others.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Told(pub(crate) Arc<Committed>);

/// What a commit wrote, for those who act on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Committed {
    /// Last seq of the log now.
    pub(crate) upto: Seq,
    pub(crate) at: Millis,
    /// All new events; empty although there are some when the router was too far behind to be
    /// handed more (it reads them from the store).
    pub(crate) events: Vec<Arc<crate::domain::Event>>,
    pub(crate) changes: Vec<crate::store::journal::SubscriptionChange>,
    /// Rows that were written: retries, dying deliveries, suspects.
    pub(crate) rows: Vec<DeliveryRow>,
    /// Deliveries whose row is gone.
    pub(crate) rows_done: Vec<DeliveryId>,
    pub(crate) scheduled: Vec<Scheduled>,
    /// Delayed emits that were emitted or cancelled.
    pub(crate) scheduled_done: Vec<ScheduledId>,
    pub(crate) outcomes: Vec<crate::domain::block::BlockEntry>,
    /// The latest clock of the keys that were written; 0 for none.
    pub(crate) kv_clock: u64,
}
