//! A commit that holds every kind of row there is, over a store that was made ready for it.

use std::sync::Arc;

use tripline::{
    domain::{
        DeliveryId, EventId, LetterId, Millis, ScheduledId, ScriptId, Seq, SubscriptionId,
        block::Outcome,
        kv::{Change, Namespace, Stored},
    },
    store::journal::{
        Commit, LateRange, RowStatus, Scheduled, SizeMark, SizeOf, SubscriptionChange,
    },
};
use uuid::Uuid;

use crate::store::support::{
    Db, Owner, definition, delivery, entry, event, run, script, with_block,
};

/// Is updated, paused and given a cursor.
const EDITED: SubscriptionId = SubscriptionId(Uuid::from_u128(1));
/// Is deleted.
const DELETED: SubscriptionId = SubscriptionId(Uuid::from_u128(2));
/// Is created.
const CREATED: SubscriptionId = SubscriptionId(Uuid::from_u128(3));
/// Delayed emits: one that ends, and one that begins.
const DUE: ScheduledId = ScheduledId(Uuid::from_u128(4));
const DELAYED: ScheduledId = ScheduledId(Uuid::from_u128(5));

/// What the commit refers to and the store named.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Prepared {
    script: ScriptId,
    letter: LetterId,
}

impl Prepared {
    /// Fills the store with what the commit changes, replaces and removes.
    pub(super) fn fill(db: &Db, owner: &mut Owner) -> Self {
        let script = script(db, &owner.store, "everything").id;
        let mut commit = owner.with_events((0..3).map(|_| event("a", None, "{}")));
        commit.changes = vec![create(EDITED, "edited", script), create(DELETED, "deleted", script)];
        let waiting = delivery(&commit.events[0], EDITED, RowStatus::Retrying, 5);
        let pending = delivery(&commit.events[1], EDITED, RowStatus::Pending, 5);
        let dying = delivery(&commit.events[2], EDITED, RowStatus::Dying, 5);
        commit.rows = vec![waiting, pending, dying.clone()];
        commit.scheduled = vec![scheduled(DUE)];
        commit.kv = vec![set("replaced", "1"), set("removed", "1")];
        owner.commit(&commit);
        let letter = db.wait(owner.store.letters().record(&[dying])).unwrap()[0];
        Self { script, letter }
    }

    /// The commit, numbered on from where the store stands.
    pub(super) fn everything(self, owner: &Owner) -> Commit {
        let new = [event("b", Some(&owner.state.batch.to_string()), "{}"), event("b", None, "{}")];
        let mut commit = owner.with_events(new);
        let (first, second) = (Arc::clone(&commit.events[0]), Arc::clone(&commit.events[1]));
        let seq = first.seq.0;
        let watermark = owner.state.watermark.0;
        commit.run += 1;
        let number = commit.run;
        let outcomes = [entry(seq, EDITED, Outcome::Succeeded, Some(number))];
        commit = with_block(commit, &outcomes, watermark);
        commit.late =
            vec![LateRange { subscription: EDITED, min_seq: Seq(seq), max_seq: Seq(seq) }];
        let mut run = run(number, &first, EDITED, self.script);
        run.recording = Some(vec![1, 2, 3]);
        commit.runs = vec![(Arc::new(run), vec![second.uid])];
        commit.rows = vec![delivery(&first, EDITED, RowStatus::Retrying, 9)];
        commit.rows_done = vec![DeliveryId::of(owner_event(1), EDITED)];
        commit.scheduled = vec![scheduled(DELAYED)];
        commit.scheduled_done = vec![DUE];
        commit.cursors = vec![(EDITED, Some(Seq(1)))];
        commit.kv = vec![set("replaced", "22"), set("new", "3"), remove("removed")];
        commit.letters_replayed = vec![self.letter];
        commit.recovered = true;
        commit.marks = vec![SizeMark { of: SizeOf::Events, upto: seq, bytes: seq * 100 }];
        commit.changes = vec![
            create(CREATED, "created", self.script),
            SubscriptionChange::Update {
                id: EDITED,
                name: "edited twice".into(),
                definition: definition(self.script, "b"),
                from: Seq(seq),
                at: Millis(2),
            },
            SubscriptionChange::State { id: EDITED, paused: true, suspended: None, at: Millis(3) },
            SubscriptionChange::Delete { id: DELETED, from: Seq(seq), at: Millis(3) },
        ];
        commit
    }

    /// For another process: see [`Prepared::read`].
    pub(super) fn written(self) -> String {
        format!("{} {}", self.script, self.letter)
    }

    pub(super) fn read(text: &str) -> Self {
        let (script, letter) = text.split_once(' ').unwrap();
        Self { script: script.parse().unwrap(), letter: letter.parse().unwrap() }
    }
}

/// The event that [`Prepared::fill`] stored as number `seq`; its uid is made of that alone.
fn owner_event(seq: u64) -> EventId {
    let accepted_at = Millis(1_790_000_000_000 + i64::try_from(seq).unwrap());
    EventId::numbered(accepted_at, Seq(seq), seq * 7_919)
}

fn create(id: SubscriptionId, name: &str, script: ScriptId) -> SubscriptionChange {
    SubscriptionChange::Create {
        id,
        name: name.into(),
        definition: definition(script, "a"),
        paused: false,
        from: Seq(1),
        cursor: None,
        at: Millis(1),
    }
}

fn scheduled(id: ScheduledId) -> Scheduled {
    let event = event("later", Some("later"), "{}");
    Scheduled { id, due_at: Millis(7), created_at: Millis(1), event }
}

fn set(key: &str, value: &str) -> Change {
    let value = Some(Stored { value: value.into(), expires_at: None });
    Change { value, ..remove(key) }
}

fn remove(key: &str) -> Change {
    Change { namespace: Namespace::shared("all").unwrap(), key: key.into(), value: None }
}
