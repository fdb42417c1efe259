//! Changes on their way to the router: each takes effect when the router reaches its seq.

use std::collections::VecDeque;

use super::Seq;

/// Ascending by the first seq that meets the change.
#[derive(Clone, Debug)]
pub struct Changes<T>(VecDeque<(Seq, T)>);

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Changes<T> {
    /// `from` is not below that of any change before it: they come in the order of their commits.
    pub fn push(&mut self, from: Seq, change: T) {
        self.0.push_back((from, change));
    }

    /// The next change that the event `seq` meets, if there is one.
    pub fn due(&mut self, seq: Seq) -> Option<T> {
        self.0.pop_front_if(|(from, _)| *from <= seq).map(|(_, change)| change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_meets_the_changes_up_to_its_own_seq() {
        let mut changes = Changes::default();
        for (from, name) in [(0, 'a'), (4, 'b'), (4, 'c'), (6, 'd')] {
            changes.push(Seq(from), name);
        }
        let mut met = |seq| std::iter::from_fn(|| changes.due(Seq(seq))).collect::<String>();
        assert_eq!([met(3), met(4), met(5), met(6)], ["a", "bc", "", "d"]);
    }
}
