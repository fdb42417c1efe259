//! The rows that the scheduler holds: of each subscription those that are due soonest, up to its
//! share of the room. Whatever many wait for one subscription, no other one waits for it.
//!
//! When rows are read or let go, none that is not held is due sooner than those that are. Rows that come
//! later may break that until few are held and the next read mends it: what was let go is then late, by
//! as much as those are due later, and never lost.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use crate::{
    domain::{DeliveryId, Millis, SubscriptionId},
    store::journal::DeliveryRow,
};

/// Share of a subscription beside however many others.
const SHARE_MIN: usize = 8;

type At = (Millis, DeliveryId);

pub(super) struct Held {
    /// By the time when they are looked at again.
    due: BTreeSet<At>,
    rows: FxHashMap<DeliveryId, (DeliveryRow, Millis)>,
    /// Of each subscription, by the time that the row tells.
    shares: FxHashMap<SubscriptionId, BTreeSet<At>>,
    max: usize,
}

impl Held {
    /// Room for about `max` rows.
    pub(super) fn new(max: usize) -> Self {
        Self { due: BTreeSet::new(), rows: FxHashMap::default(), shares: FxHashMap::default(), max }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn contains(&self, id: DeliveryId) -> bool {
        self.rows.contains_key(&id)
    }

    pub(super) fn get(&self, id: DeliveryId) -> Option<&DeliveryRow> {
        self.rows.get(&id).map(|(row, _)| row)
    }

    /// How many rows each subscription may have here.
    pub(super) fn share(&self) -> usize {
        (self.max / self.shares.len().max(1)).max(SHARE_MIN)
    }

    /// So few rows of the subscription are left that more should be read, if there are more.
    pub(super) fn is_low(&self, subscription: SubscriptionId) -> bool {
        self.shares.get(&subscription).map_or(0, BTreeSet::len) <= self.share() / 2
    }

    /// Holds the row. False: others of its subscription were let go for it, or it was itself.
    pub(super) fn insert(&mut self, row: DeliveryRow) -> bool {
        let (subscription, at) = (row.subscription, (row.next_at, row.id));
        self.remove(row.id);
        self.due.insert(at);
        self.shares.entry(subscription).or_default().insert(at);
        self.rows.insert(row.id, (row, at.0));
        let share = self.share();
        let mut all = true;
        while let Some(last) = self.shares.get(&subscription).filter(|of| of.len() > share) {
            let (_, id) = *last.last().expect("more than its share");
            self.remove(id);
            all = false;
        }
        all
    }

    pub(super) fn remove(&mut self, id: DeliveryId) -> Option<DeliveryRow> {
        let (row, looked_at) = self.rows.remove(&id)?;
        self.due.remove(&(looked_at, id));
        if let Some(share) = self.shares.get_mut(&row.subscription) {
            share.remove(&(row.next_at, id));
            if share.is_empty() {
                self.shares.remove(&row.subscription);
            }
        }
        Some(row)
    }

    /// The row that is to be looked at next, and when.
    pub(super) fn first(&self) -> Option<At> {
        self.due.first().copied()
    }

    /// Looks at the row again at another time.
    pub(super) fn put_off(&mut self, id: DeliveryId, until: Millis) {
        if let Some((_, looked_at)) = self.rows.get_mut(&id) {
            self.due.remove(&(*looked_at, id));
            *looked_at = until;
            self.due.insert((until, id));
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &DeliveryRow> {
        self.rows.values().map(|(row, _)| row)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{domain::EventId, store::journal::RowStatus};

    fn row(subscription: SubscriptionId, at: i64) -> DeliveryRow {
        let event = EventId::fresh();
        DeliveryRow {
            id: DeliveryId::of(event, subscription),
            event,
            seq: event.seq(),
            subscription,
            status: RowStatus::Retrying,
            attempts: 1,
            next_at: Millis(at),
            error: None,
            first_failed_at: None,
            script_version: 1,
            letter: None,
            replay: 0,
            data: None,
            pinned_version: None,
            crashes_alone: 0,
            bulk: None,
        }
    }

    #[test]
    fn a_flood_of_one_subscription_leaves_the_others_their_share() {
        let (flood, other) = (SubscriptionId::fresh(), SubscriptionId::fresh());
        let mut held = Held::new(100);
        let all = (0..1_000).map(|at| held.insert(row(flood, at))).filter(|all| *all).count();
        assert_eq!((all, held.len()), (100, 100));
        assert!(held.insert(row(other, 500)), "the other one has room");
        assert!(!held.insert(row(flood, -1)), "the flood has half of it by now");
        assert_eq!(held.len(), 51);
        assert_eq!(held.first().map(|(at, _)| at), Some(Millis(-1)));
    }

    proptest! {
        /// Rows come in any order and go when they are due; what was let go is read again when few are
        /// left. Each subscription's rows come out in the order of their times, and all of them do.
        #[test]
        fn what_is_handed_over_is_the_soonest_of_all_that_wait(
            times in proptest::collection::vec((0..3_usize, 0..1_000_i64), 1..200),
        ) {
            let subscriptions = [(); 3].map(|()| SubscriptionId::fresh());
            let mut store: Vec<DeliveryRow> = Vec::new();
            let mut held = Held::new(12);
            for (of, at) in times {
                let row = row(subscriptions[of], at);
                store.push(row.clone());
                held.insert(row);
            }
            store.sort_by_key(|row| (row.next_at, row.id));
            let mut last = FxHashMap::default();
            while !store.is_empty() {
                for subscription in subscriptions {
                    if held.is_low(subscription) {
                        let of = store.iter().filter(|row| row.subscription == subscription);
                        let read: Vec<_> = of.take(held.share()).cloned().collect();
                        read.into_iter().for_each(|row| _ = held.insert(row));
                    }
                }
                let (at, id) = held.first().expect("something is held while something waits");
                let row = held.remove(id).expect("it was just seen");
                prop_assert_eq!(row.next_at, at);
                let before = last.insert(row.subscription, at);
                prop_assert!(before.is_none_or(|before| before <= at), "out of order");
                store.retain(|one| one.id != id);
            }
            prop_assert!(held.is_empty());
        }
    }
}
