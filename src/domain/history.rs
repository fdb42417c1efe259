//! What was in force when: the definitions of one subscription, each from its seq on.

use super::Seq;

/// Values ascending by the seq from which each is in force; never empty.
#[derive(Clone, Debug)]
pub struct History<T>(Vec<(Seq, T)>);

impl<T> History<T> {
    /// `None` without a value.
    #[must_use]
    pub fn new(mut values: Vec<(Seq, T)>) -> Option<Self> {
        values.sort_by_key(|(from, _)| *from);
        (!values.is_empty()).then_some(Self(values))
    }

    /// In force now.
    #[must_use]
    pub fn current(&self) -> &T {
        &self.0.last().expect("a history is never empty").1
    }

    /// In force at an event. Before the first value that one counts: only a backfill looks there.
    #[must_use]
    pub fn at(&self, seq: Seq) -> &T {
        let after = self.0.partition_point(|(from, _)| *from <= seq);
        &self.0[after.saturating_sub(1)].1
    }

    /// A value is in force from `from` on. One that is known already (a start reads all of them, and
    /// the router comes by each) is put in its own place.
    pub fn insert(&mut self, from: Seq, value: T) {
        let at = self.0.partition_point(|(other, _)| *other < from);
        let end = at + usize::from(self.0.get(at).is_some_and(|(other, _)| *other == from));
        self.0.splice(at..end, [(from, value)]);
    }

    /// Nobody will ask about events before `seq`; `None`: about none but those to come.
    pub fn forget_before(&mut self, seq: Option<Seq>) {
        let last = self.0.len() - 1;
        let first = seq
            .map_or(last, |seq| self.0.partition_point(|(from, _)| *from <= seq).saturating_sub(1));
        self.0.drain(..first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_meets_what_was_in_force_when_it_came() {
        let mut history = History::new(vec![(Seq(5), 'a')]).expect("a value");
        history.insert(Seq(8), 'b');
        history.insert(Seq(5), 'a');
        let met: Vec<char> = [1, 5, 7, 8, 9].map(|seq| *history.at(Seq(seq))).into();
        assert_eq!(met, ['a', 'a', 'a', 'b', 'b']);
        history.forget_before(Some(Seq(7)));
        assert_eq!(*history.at(Seq(7)), 'a');
        history.forget_before(Some(Seq(8)));
        assert_eq!(*history.at(Seq(7)), 'b', "what is forgotten is not asked for");
        history.insert(Seq(12), 'c');
        history.forget_before(None);
        assert_eq!((*history.current(), *history.at(Seq(9))), ('c', 'c'));
    }
}
