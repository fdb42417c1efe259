//! What a start makes of a subscription that it finds in the store.

use std::collections::BTreeSet;

use super::{
    Seq,
    feed::{Covering, Feed},
};

/// A subscription as the store has it.
#[derive(Clone, Debug)]
pub struct Found<D> {
    /// Neither paused nor suspended.
    pub runs: bool,
    pub cursor: Option<Seq>,
    /// Settled or held by rows: above the watermark, and above the cursor.
    pub done: BTreeSet<Seq>,
    /// Definitions ascending by the seq from which each is in force, not empty, complete from
    /// [`reads_from`] on.
    pub history: Vec<(Seq, D)>,
}

/// How it starts.
#[derive(Clone, Debug)]
pub struct Placed<D> {
    pub feed: Feed,
    /// To be stored: it was stopped by the crash between its state and its cursor.
    pub cover: Option<Covering>,
    /// In force at the first event that is routed again; `None`: it is created later.
    pub indexed: Option<D>,
    /// What its reader knows already.
    pub history: Vec<(Seq, D)>,
    /// Definitions that the router meets on its way.
    pub to_come: Vec<(Seq, D)>,
}

/// The first event that a subscription may look at again after a start.
#[must_use]
pub fn reads_from(cursor: Option<Seq>, watermark: Seq) -> Seq {
    let unsettled = watermark.next();
    cursor.map_or(unsettled, |cursor| cursor.min(unsettled))
}

/// Events above `watermark` will be routed again.
pub fn place<D: Clone>(found: Found<D>, watermark: Seq) -> Placed<D> {
    let Found { runs, cursor, done, mut history } = found;
    let mut feed = Feed::new(history[0].0, cursor, done, runs);
    let cover = (!runs && cursor.is_none()).then(|| feed.stop(watermark));
    let met = history.partition_point(|(from, _)| *from <= watermark.next());
    let to_come = history[met..].to_vec();
    let indexed = met.checked_sub(1).map(|last| history[last].1.clone());
    history.truncate(met.max(1));
    Placed { feed, cover, indexed, history, to_come }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(cursor: Option<u64>, runs: bool, history: &[(u64, char)]) -> Found<char> {
        let history = history.iter().map(|&(from, name)| (Seq(from), name)).collect();
        Found { runs, cursor: cursor.map(Seq), done: BTreeSet::new(), history }
    }

    #[test]
    fn definitions_above_the_watermark_are_met_on_the_way() {
        let placed = place(found(None, true, &[(1, 'a'), (8, 'b'), (9, 'c')]), Seq(7));
        assert_eq!(placed.indexed, Some('b'));
        assert_eq!(placed.to_come, [(Seq(9), 'c')]);
        assert_eq!(placed.history.len(), 2);
        assert!(placed.feed.is_live());
    }

    #[test]
    fn one_that_was_created_above_the_watermark_is_not_there_yet() {
        let placed = place(found(None, true, &[(9, 'a')]), Seq(3));
        assert_eq!((placed.indexed, placed.to_come.len(), placed.history.len()), (None, 1, 1));
    }

    #[test]
    fn one_that_stands_still_has_a_cursor() {
        let placed = place(found(None, false, &[(1, 'a')]), Seq(3));
        assert_eq!(placed.cover.map(|covering| covering.from), Some(Seq(4)));
        assert!(place(found(Some(2), false, &[(1, 'a')]), Seq(3)).cover.is_none());
        let young = place(found(None, false, &[(9, 'a')]), Seq(3));
        assert_eq!(young.cover.map(|covering| covering.from), Some(Seq(9)));
    }
}
