//! How many dead letters are announced one by one, and how many are only counted.
//!
//! A window lasts a minute. Whoever has a clock closes it ([`Budget::close`]); a million letters
//! within it are then at most [`IN_ALL`] events and [`SUMMARIES`] sums.

use std::collections::BTreeMap;

use super::SubscriptionId;

/// Letters of one subscription that are announced within a window. As many as the circuit breaker
/// takes to suspend it, so whatever ends there was told in full.
pub const PER_SUBSCRIPTION: u32 = 20;
/// Letters of all subscriptions that are announced within a window.
pub const IN_ALL: u32 = 200;
/// Subscriptions that get a sum of their own when a window closes; all others share one.
pub const SUMMARIES: usize = 50;

/// What of a window is spent.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    told: u32,
    of: BTreeMap<SubscriptionId, Spent>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    told: u32,
    untold: u64,
}

/// Letters that were not announced: `None` stands for several subscriptions.
pub type Untold = (Option<SubscriptionId>, u64);

impl Budget {
    /// Whether the next letter of this subscription may be announced.
    #[must_use]
    pub fn has_room(&self, subscription: SubscriptionId) -> bool {
        let told = self.of.get(&subscription).map_or(0, |spent| spent.told);
        told < PER_SUBSCRIPTION && self.told < IN_ALL
    }

    /// A letter was announced, or only counted.
    pub fn note(&mut self, subscription: SubscriptionId, told: bool) {
        let spent = self.of.entry(subscription).or_default();
        spent.told += u32::from(told);
        spent.untold += u64::from(!told);
        self.told += u32::from(told);
    }

    /// What was spent elsewhere counts here too.
    pub fn add(&mut self, other: &Self) {
        self.told += other.told;
        for (subscription, more) in &other.of {
            let spent = self.of.entry(*subscription).or_default();
            spent.told += more.told;
            spent.untold += more.untold;
        }
    }

    /// Nothing died in this window.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.of.is_empty()
    }

    /// What was only counted, the largest first; at most [`SUMMARIES`] and one for the others.
    #[must_use]
    pub fn close(&self) -> Vec<Untold> {
        let untold = self.of.iter().filter(|(_, spent)| spent.untold > 0);
        let mut untold: Vec<Untold> = untold.map(|(id, spent)| (Some(*id), spent.untold)).collect();
        untold.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        if untold.len() > SUMMARIES {
            let others = untold.drain(SUMMARIES..).map(|(_, count)| count).sum();
            untold.push((None, others));
        }
        untold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(budget: &mut Budget, id: SubscriptionId) -> bool {
        let takes = budget.has_room(id);
        budget.note(id, takes);
        takes
    }

    #[test]
    fn a_storm_of_one_is_told_in_part_and_counted_in_full() {
        let (mut budget, id) = (Budget::default(), SubscriptionId::fresh());
        let told = (0..1_000_000).filter(|_| takes(&mut budget, id)).count();
        assert_eq!(told, PER_SUBSCRIPTION as usize);
        assert_eq!(budget.close(), [(Some(id), 1_000_000 - u64::from(PER_SUBSCRIPTION))]);
    }

    #[test]
    fn a_storm_of_many_is_bounded_too() {
        let mut budget = Budget::default();
        let ids: Vec<SubscriptionId> = (0..10_000).map(|_| SubscriptionId::fresh()).collect();
        let told = ids.iter().filter(|id| takes(&mut budget, **id)).count();
        let mut sum = Budget::default();
        sum.add(&budget);
        let budget = sum;
        let untold = budget.close();
        assert_eq!((told, untold.len()), (IN_ALL as usize, SUMMARIES + 1));
        assert_eq!(untold.iter().map(|(_, count)| count).sum::<u64>(), 10_000 - told as u64);
        assert_eq!(untold.last().map(|(of, _)| *of), Some(None));
    }

    #[test]
    fn who_dies_seldom_is_told_in_full() {
        let mut budget = Budget::default();
        assert!(budget.is_untouched());
        assert!(takes(&mut budget, SubscriptionId::fresh()));
        assert!(!budget.is_untouched() && budget.close().is_empty());
    }
}
