//! What became of an event: its deliveries, from wherever they are recorded.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use serde::Serialize;

use super::Runtime;
use crate::{
    actors::core::{Core, Slot},
    domain::{
        Event, EventId, Millis, Seq, SubscriptionId,
        block::{BlockEntry, Outcome},
    },
    store::{
        self, LetterStatus,
        journal::{DeliveryRow, RowStatus},
    },
};

/// One delivery of an event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeliveryState {
    pub subscription_id: SubscriptionId,
    pub status: DeliveryStatus,
    pub attempts: u32,
    pub next_attempt_at: Option<Millis>,
    /// Script version of the last attempt.
    pub script_version: Option<u32>,
    /// Runs that were kept, oldest first.
    #[serde(skip)]
    pub runs: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    Pending,
    Running,
    Retrying,
    Succeeded,
    Dead,
    Discarded,
}

/// Events that no subscription took, since the start.
#[derive(Debug, Default)]
pub struct UnmatchedEvents {
    pub total: u64,
    /// The commonest types first.
    pub types: Vec<(String, u64)>,
}

impl Runtime {
    /// How many events nobody took since the start, and of which types: the `limit` commonest of the
    /// first 1,000 that were seen.
    pub async fn unmatched(&self, limit: usize) -> UnmatchedEvents {
        let found = self.0.core.call(|core, _| {
            let found = core.unmatched.borrow().clone();
            Box::pin(std::future::ready(found))
        });
        // Without a core nothing was routed.
        let found = found.await.unwrap_or_default();
        let mut types: Vec<(String, u64)> =
            found.by_type.into_iter().map(|(name, count)| (name.to_string(), count)).collect();
        types.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        types.truncate(limit);
        UnmatchedEvents { total: found.total, types }
    }

    /// Deliveries of running subscriptions that could run by now and have not ended; or events that were
    /// not routed yet, where those are more.
    pub async fn backlog(&self) -> u64 {
        let waiting = self.0.core.call(|core, _| {
            let slots = core.slots.borrow();
            let open = |slot: &std::rc::Rc<Slot>| slot.in_hand() as u64 + slot.unread.get();
            let depth = slots.values().filter(|slot| slot.runs()).map(open).sum();
            drop(slots);
            Box::pin(std::future::ready(depth))
        });
        // Without a core nothing is routed.
        let waiting: u64 = waiting.await.unwrap_or_default();
        waiting.max(self.journal().backlog())
    }

    /// All deliveries of an event, by subscription; see [`Runtime::deliveries_of`].
    pub async fn deliveries(&self, event: &Event) -> Result<Vec<DeliveryState>, store::Error> {
        let mut all = self.deliveries_of(std::slice::from_ref(event)).await?;
        Ok(all.pop().unwrap_or_default())
    }

    /// All deliveries of each event, by subscription.
    ///
    /// Settled ones answer from the outcome blocks, waiting ones from their rows, and those in hand
    /// from the subscriptions themselves.
    pub async fn deliveries_of(
        &self,
        events: &[Event],
    ) -> Result<Vec<Vec<DeliveryState>>, store::Error> {
        let seqs: Vec<Seq> = events.iter().map(|event| event.seq).collect();
        let uids: Vec<EventId> = events.iter().map(|event| event.uid).collect();
        // Memory first: what settles while we look is then found in the store.
        let mut states = self.in_hand(events).await;
        let store = self.store();
        for (seq, entries) in store.outcomes().of_events(&seqs).await? {
            let states = states.entry(seq).or_default();
            entries.into_iter().for_each(|entry| note_outcome(states, &entry));
        }
        for row in store.deliveries().of_events(&seqs).await? {
            note_row(states.entry(row.seq).or_default(), &row);
        }
        for (event, subscription, status) in store.letters().of_events(&uids).await? {
            let state = states.get_mut(&event.seq()).and_then(|all| all.get_mut(&subscription));
            if let (Some(state), LetterStatus::Discarded) = (state, status) {
                state.status = DeliveryStatus::Discarded;
            }
        }
        let of = |seq| states.remove(seq).unwrap_or_default().into_values().collect();
        Ok(seqs.iter().map(of).collect())
    }

    /// Subscriptions that have the events in memory or will read them.
    async fn in_hand(&self, events: &[Event]) -> FxHashMap<Seq, States> {
        let events = events.to_vec();
        let found = self.0.core.call(move |core, _| {
            let of = |event: &Event| (event.seq, in_hand_of(&core, event));
            let found: FxHashMap<Seq, States> = events.iter().map(of).collect();
            Box::pin(std::future::ready(found))
        });
        // Without a core nothing is in hand.
        found.await.unwrap_or_default()
    }
}

/// The deliveries of one event.
type States = BTreeMap<SubscriptionId, DeliveryState>;

fn in_hand_of(core: &Core, event: &Event) -> States {
    let mut states = States::new();
    let mut note = |id, status| {
        states.entry(id).or_insert_with(|| DeliveryState::new(id, status));
    };
    // Whatever has something in memory, or a cursor, is watched.
    for slot in core.busy.borrow().iter() {
        if slot.holds(event.seq) {
            let running = slot.in_flight.get() > 0;
            note(slot.id, if running { DeliveryStatus::Running } else { DeliveryStatus::Pending });
        }
    }
    let is_unrouted = event.seq > core.routed.get();
    let is_behind =
        |slot: &Slot| slot.feed.borrow().behind_from().is_some_and(|from| from <= event.seq);
    if !is_unrouted && !core.busy.borrow().iter().any(|slot| is_behind(slot)) {
        return states;
    }
    let mut matches = Vec::new();
    core.matches(event, &mut matches);
    for id in matches {
        if core.slot(id).is_some_and(|slot| is_unrouted || is_behind(&slot)) {
            note(id, DeliveryStatus::Pending);
        }
    }
    states
}

fn note_outcome(states: &mut States, entry: &BlockEntry) {
    let status = match entry.outcome {
        Outcome::Succeeded => DeliveryStatus::Succeeded,
        Outcome::Retrying => DeliveryStatus::Retrying,
        Outcome::Dead => DeliveryStatus::Dead,
        Outcome::Discarded => DeliveryStatus::Discarded,
        Outcome::Noted => return,
    };
    let state = states
        .entry(entry.subscription)
        .or_insert_with(|| DeliveryState::new(entry.subscription, status));
    state.status = status;
    state.attempts = entry.attempt.max(state.attempts);
    if entry.script_version > 0 {
        state.script_version = Some(entry.script_version);
    }
    state.runs.extend(entry.run);
}

fn note_row(states: &mut States, row: &DeliveryRow) {
    let state = states
        .entry(row.subscription)
        .or_insert_with(|| DeliveryState::new(row.subscription, DeliveryStatus::Pending));
    state.attempts = row.attempts;
    (state.status, state.next_attempt_at) = match row.status {
        RowStatus::Pending | RowStatus::Suspect => (DeliveryStatus::Pending, None),
        RowStatus::Retrying => (DeliveryStatus::Retrying, Some(row.next_at)),
        RowStatus::Dying => (DeliveryStatus::Dead, None),
    };
}

impl DeliveryState {
    fn new(subscription_id: SubscriptionId, status: DeliveryStatus) -> Self {
        Self {
            subscription_id,
            status,
            attempts: 0,
            next_attempt_at: None,
            script_version: None,
            runs: Vec::new(),
        }
    }
}
