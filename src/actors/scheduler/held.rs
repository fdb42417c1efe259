//! The rows that the scheduler holds: of each subscription those that are due soonest, up to its
//! share of the room. Whatever many wait for one subscription, no other one waits for it.
//!
//! Of each subscription all that is held is due before all that is not: [`Held::beyond`] is where the
//! one ends. Rows that come later are held if they are due before it, and stay in the store otherwise.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use crate::{
    domain::{DeliveryId, Millis, SubscriptionId},
    store::journal::DeliveryRow,
};

/// Share of a subscription beside however many others.
const SHARE_MIN: usize = 8;

/// When a row is due; of those due at the same time, the order of the store.
pub(super) type At = (Millis, DeliveryId);

pub(super) struct Held {
    /// By the time when they are looked at again.
    due: BTreeSet<At>,
    rows: FxHashMap<DeliveryId, (DeliveryRow, Millis)>,
    /// Of each subscription, by the time that the row tells.
    shares: FxHashMap<SubscriptionId, BTreeSet<At>>,
    /// Of subscriptions that have rows in the store that are not held: none of those is due before this.
    beyond: FxHashMap<SubscriptionId, At>,
    max: usize,
}

impl Held {
    /// Room for about `max` rows.
    pub(super) fn new(max: usize) -> Self {
        Self {
            due: BTreeSet::new(),
            rows: FxHashMap::default(),
            shares: FxHashMap::default(),
            beyond: FxHashMap::default(),
            max,
        }
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

    /// The subscription has rows in the store that are not held.
    pub(super) fn is_cut(&self, subscription: SubscriptionId) -> bool {
        self.beyond.contains_key(&subscription)
    }

    /// Few of the subscription's rows are left.
    pub(super) fn is_low(&self, subscription: SubscriptionId) -> bool {
        self.shares.get(&subscription).map_or(0, BTreeSet::len) <= self.share() / 2
    }

    /// Subscriptions of which few rows are left here and more are in the store.
    pub(super) fn low(&self) -> impl Iterator<Item = SubscriptionId> {
        self.beyond.keys().copied().filter(|id| self.is_low(*id))
    }

    /// Holds the row if it is due before those of its subscription that are not held. Whichever are due
    /// last make room.
    pub(super) fn insert(&mut self, row: DeliveryRow) {
        let (subscription, at) = (row.subscription, (row.next_at, row.id));
        self.remove(row.id);
        if self.beyond.get(&subscription).is_some_and(|beyond| at >= *beyond) {
            return;
        }
        self.due.insert(at);
        self.shares.entry(subscription).or_default().insert(at);
        self.rows.insert(row.id, (row, at.0));
        let share = self.share();
        while let Some(last) = self.shares.get(&subscription).filter(|of| of.len() > share) {
            let last = *last.last().expect("more than its share");
            self.leave(subscription, last);
        }
    }

    /// Rows of the subscription that are due at `at` or later may be in the store and not held; those
    /// that are held are let go.
    pub(super) fn leave(&mut self, subscription: SubscriptionId, at: At) {
        let beyond = self.beyond.entry(subscription).or_insert(at);
        *beyond = at.min(*beyond);
        let beyond = *beyond;
        let later = self.shares.get_mut(&subscription).map(|of| of.split_off(&beyond));
        for (_, id) in later.into_iter().flatten() {
            let (_, looked_at) = self.rows.remove(&id).expect("it has its place in the share");
            self.due.remove(&(looked_at, id));
        }
        self.close_empty(subscription);
    }

    /// The soonest of the subscription are about to be read: what comes meanwhile is held. What the read
    /// did not see is said with [`Self::leave`].
    pub(super) fn open(&mut self, subscription: SubscriptionId) {
        self.beyond.remove(&subscription);
    }

    pub(super) fn remove(&mut self, id: DeliveryId) -> Option<DeliveryRow> {
        let (row, looked_at) = self.rows.remove(&id)?;
        self.due.remove(&(looked_at, id));
        if let Some(share) = self.shares.get_mut(&row.subscription) {
            share.remove(&(row.next_at, id));
            self.close_empty(row.subscription);
        }
        Some(row)
    }

    fn close_empty(&mut self, subscription: SubscriptionId) {
        if self.shares.get(&subscription).is_some_and(BTreeSet::is_empty) {
            self.shares.remove(&subscription);
        }
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
        for at in 0..1_000 {
            held.insert(row(flood, at));
        }
        assert_eq!(held.len(), 100);
        held.insert(row(other, 500));
        assert_eq!(held.len(), 101, "the other one has room");
        held.insert(row(flood, -1));
        assert_eq!(held.len(), 51, "the flood has half of it by now");
        assert_eq!(held.first().map(|(at, _)| at), Some(Millis(-1)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A row of one of the subscriptions is written, due so long after those that have gone.
        Write(usize, i64),
        /// The soonest that is held goes.
        Go,
        /// A read of one of them begins, or comes back with what there was then.
        Read(usize),
        Answer(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..3_usize, 0..1_000_i64).prop_map(|(of, after)| Step::Write(of, after)),
            4 => Just(Step::Go),
            1 => (0..3_usize).prop_map(Step::Read),
            2 => (0..3_usize).prop_map(Step::Answer),
        ]
    }

    /// The store, what is held of it, and reads under way.
    struct Model {
        subscriptions: [SubscriptionId; 3],
        store: Vec<DeliveryRow>,
        gone: Vec<DeliveryId>,
        held: Held,
        reads: [Option<(Vec<DeliveryRow>, bool)>; 3],
        now: i64,
    }

    impl Model {
        fn write(&mut self, of: usize, after: i64) {
            let row = row(self.subscriptions[of], self.now + after);
            self.store.push(row.clone());
            self.store.sort_by_key(|row| (row.next_at, row.id));
            self.held.insert(row);
        }

        fn read(&mut self, of: usize) {
            if self.reads[of].is_none() {
                self.held.open(self.subscriptions[of]);
                let limit = self.held.share();
                let theirs = self.store.iter().filter(|r| r.subscription == self.subscriptions[of]);
                let rows: Vec<_> = theirs.take(limit).cloned().collect();
                let is_full = rows.len() == limit;
                self.reads[of] = Some((rows, is_full));
            }
        }

        fn answer(&mut self, of: usize) {
            let Some((rows, is_full)) = self.reads[of].take() else { return };
            let last = rows.last().map(|row| (row.next_at, row.id));
            for row in rows.into_iter().filter(|row| !self.gone.contains(&row.id)) {
                self.held.insert(row);
            }
            if let Some(last) = last.filter(|_| is_full) {
                self.held.leave(self.subscriptions[of], last);
            }
        }

        /// Lets the soonest go. False: nothing is held.
        fn go(&mut self) -> Result<bool, TestCaseError> {
            for of in 0..3 {
                let id = self.subscriptions[of];
                if self.held.low().any(|low| low == id) && self.reads[of].is_none() {
                    self.read(of);
                    self.answer(of);
                }
            }
            let Some((at, id)) = self.held.first() else { return Ok(false) };
            let row = self.held.remove(id).expect("it was just seen");
            prop_assert_eq!(row.next_at, at);
            let of = self.subscriptions.iter().position(|id| *id == row.subscription);
            if self.reads[of.expect("one of them")].is_none() {
                let soonest = self.store.iter().find(|one| one.subscription == row.subscription);
                prop_assert_eq!(soonest.map(|one| one.id), Some(id), "another one is due sooner");
            }
            self.now = self.now.max(at.0);
            self.store.retain(|one| one.id != id);
            self.gone.push(id);
            Ok(true)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// Rows come and go and are read in any order: one that goes is the soonest of all that its
        /// subscription has in the store, unless these are being read, and in the end all have gone.
        #[test]
        fn what_is_handed_over_is_the_soonest_of_all_that_wait(
            steps in proptest::collection::vec(step(), 1..300),
        ) {
            let mut model = Model {
                subscriptions: [(); 3].map(|()| SubscriptionId::fresh()),
                store: Vec::new(),
                gone: Vec::new(),
                held: Held::new(12),
                reads: [None, None, None],
                now: 0,
            };
            for step in steps {
                match step {
                    Step::Write(of, after) => model.write(of, after),
                    Step::Read(of) => model.read(of),
                    Step::Answer(of) => model.answer(of),
                    Step::Go => _ = model.go()?,
                }
            }
            (0..3).for_each(|of| model.answer(of));
            while model.go()? {}
            prop_assert!(model.store.is_empty(), "{} were forgotten", model.store.len());
        }
    }
}
