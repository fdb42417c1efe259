//! The watermark: up to which event everything is settled.

use std::collections::VecDeque;

use super::Seq;

/// Counts, per event above the watermark, the deliveries that nothing but memory holds.
///
/// A delivery stops counting when its outcome is committed, or when a row or a cursor that covers
/// it is. The watermark is the highest seq up to which every event was routed and counts nothing.
#[derive(Clone, Debug)]
pub struct Watermark {
    mark: Seq,
    /// Of the events `mark + 1`, `mark + 2`, …: deliveries open, or `None` while not routed.
    open: VecDeque<Option<u32>>,
}

impl Watermark {
    #[must_use]
    pub fn at(mark: Seq) -> Self {
        Self { mark, open: VecDeque::new() }
    }

    #[must_use]
    pub fn mark(&self) -> Seq {
        self.mark
    }

    /// The event was matched: `open` of its deliveries are in memory alone.
    pub fn routed(&mut self, seq: Seq, open: u32) {
        let Some(index) = self.index(seq) else { return };
        if index >= self.open.len() {
            self.open.resize(index + 1, None);
        }
        self.open[index] = Some(open);
        self.advance();
    }

    /// One delivery of the event is settled or covered.
    pub fn settled(&mut self, seq: Seq) {
        let Some(index) = self.index(seq) else { return };
        if let Some(Some(open)) = self.open.get_mut(index) {
            *open = open.saturating_sub(1);
        }
        if index == 0 {
            self.advance();
        }
    }

    fn index(&self, seq: Seq) -> Option<usize> {
        seq.0.checked_sub(self.mark.0 + 1).and_then(|index| usize::try_from(index).ok())
    }

    fn advance(&mut self) {
        while self.open.front() == Some(&Some(0)) {
            self.open.pop_front();
            self.mark = self.mark.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_nobody_took_is_settled_once_routed() {
        let mut watermark = Watermark::at(Seq(4));
        watermark.routed(Seq(5), 0);
        assert_eq!(watermark.mark(), Seq(5));
    }

    #[test]
    fn a_later_event_waits_for_an_earlier_one() {
        let mut watermark = Watermark::at(Seq(0));
        watermark.routed(Seq(1), 2);
        watermark.routed(Seq(2), 1);
        watermark.settled(Seq(2));
        watermark.settled(Seq(1));
        assert_eq!(watermark.mark(), Seq(0));
        watermark.settled(Seq(1));
        assert_eq!(watermark.mark(), Seq(2));
    }

    #[test]
    fn an_event_not_routed_holds_the_mark() {
        let mut watermark = Watermark::at(Seq(0));
        watermark.routed(Seq(2), 0);
        assert_eq!(watermark.mark(), Seq(0));
        watermark.routed(Seq(1), 0);
        assert_eq!(watermark.mark(), Seq(2));
    }

    #[test]
    fn what_lies_below_the_mark_changes_nothing() {
        let mut watermark = Watermark::at(Seq(9));
        watermark.settled(Seq(3));
        watermark.routed(Seq(3), 7);
        assert_eq!(watermark.mark(), Seq(9));
    }
}
