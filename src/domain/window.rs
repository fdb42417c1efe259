//! The window: which fresh deliveries a subscription has in hand.

use std::collections::VecDeque;

use super::Seq;

/// Deliveries of one subscription from the oldest unsettled one on, in the order of their events.
///
/// Retries and replays are not in it: they have rows of their own.
#[derive(Clone, Debug, Default)]
pub struct Window {
    slots: VecDeque<(Seq, bool)>,
    open: usize,
}

impl Window {
    /// Takes a delivery in. One that is in hand, or was settled above the oldest in hand, is
    /// refused. Events come in order but for those that are read again after a cursor was set.
    pub fn push(&mut self, seq: Seq) -> bool {
        if self.slots.back().is_none_or(|&(last, _)| last < seq) {
            self.slots.push_back((seq, false));
        } else {
            let Err(index) = self.slots.binary_search_by_key(&seq, |&(seq, _)| seq) else {
                return false;
            };
            self.slots.insert(index, (seq, false));
        }
        self.open += 1;
        true
    }

    /// Marks a delivery as settled, or as held by a row from now on. False if it was not open.
    pub fn settle(&mut self, seq: Seq) -> bool {
        let Ok(index) = self.slots.binary_search_by_key(&seq, |&(seq, _)| seq) else {
            return false;
        };
        if std::mem::replace(&mut self.slots[index].1, true) {
            return false;
        }
        self.open -= 1;
        while self.slots.front().is_some_and(|&(_, settled)| settled) {
            self.slots.pop_front();
        }
        true
    }

    /// Number of deliveries in hand.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// The oldest delivery in hand.
    #[must_use]
    pub fn oldest(&self) -> Option<Seq> {
        self.slots.front().map(|&(seq, _)| seq)
    }

    #[must_use]
    pub fn contains(&self, seq: Seq) -> bool {
        self.slots
            .binary_search_by_key(&seq, |&(seq, _)| seq)
            .is_ok_and(|index| !self.slots[index].1)
    }

    /// What is in hand, oldest first.
    pub fn open(&self) -> impl Iterator<Item = Seq> + '_ {
        self.slots.iter().filter(|(_, settled)| !settled).map(|&(seq, _)| seq)
    }

    /// What was settled out of order: above the oldest in hand.
    pub fn settled_ahead(&self) -> impl Iterator<Item = Seq> + '_ {
        self.slots.iter().filter(|(_, settled)| *settled).map(|&(seq, _)| seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_moves_on_when_it_is_settled() {
        let mut window = Window::default();
        for seq in [3, 5, 9] {
            assert!(window.push(Seq(seq)));
        }
        assert!(!window.push(Seq(9)), "a delivery is in hand once");
        assert!(window.push(Seq(4)), "read again, out of order");
        assert!(window.settle(Seq(4)));
        assert!(window.settle(Seq(5)));
        assert!(!window.settle(Seq(5)));
        assert_eq!(window.oldest(), Some(Seq(3)));
        assert_eq!(window.settled_ahead().collect::<Vec<_>>(), [Seq(4), Seq(5)]);
        assert_eq!(window.open().collect::<Vec<_>>(), [Seq(3), Seq(9)]);
        assert!(window.settle(Seq(3)));
        assert_eq!(window.oldest(), Some(Seq(9)));
        assert_eq!(window.len(), 1);
        assert!(window.settle(Seq(9)));
        assert!(window.is_empty());
    }
}
