//! How one subscription is fed: live by the router, or behind, from the log at a cursor.
//!
//! The decisions of routing, reading and recovery as one state machine without clock, actor or disk.
//! Router, supervisor and the subscription's own actor move it and carry out what it answers; the
//! simulation moves it too. A delivery is *in hand* from [`Feed::offer`] or [`Feed::take`] until
//! [`Feed::settle`]. While there is no cursor, each one in hand holds the watermark; with a cursor
//! none does, and after a crash the log is read again from there.

use std::collections::BTreeSet;

use super::{Seq, window::Window};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    is_live: bool,
    /// Events before it are none of its business, although a start may route them again: it was
    /// created here, or a backfill went back here.
    first: Seq,
    /// The router knows it from here on.
    created: Seq,
    /// As last submitted. `None`: a crash needs no reading, the watermark covers what is in hand.
    cursor: Option<Seq>,
    /// First event it has not been given, while it is behind.
    next_unread: Seq,
    window: Window,
    /// At the cursor or above it, and settled or held by a row: passed over when read or routed
    /// again.
    done: BTreeSet<Seq>,
    oldest_at_sweep: Option<Seq>,
    /// The cursor stays: a backfill is looking at what lies below it.
    is_pinned: bool,
}

/// What became of an event that the router offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It was settled, or has a row, since before the start.
    Done,
    /// In hand. `holds_watermark`: nothing but memory has it.
    Taken { holds_watermark: bool },
    /// It will be read from the log. `fell`: it was live until now.
    Behind { fell: bool, cover: Option<Covering> },
}

/// A cursor to be stored, and what it means for what is in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covering {
    pub from: Seq,
    /// In hand, and they held the watermark until now.
    pub counted: Vec<Seq>,
    /// Settled at `from` or above without a trace that a reader from `from` would find.
    pub settled: Vec<Seq>,
}

/// What a sweep wants stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sweep {
    Cover(Covering),
    /// The cursor moves on; `None`: it is not needed any more.
    Cursor(Option<Seq>),
}

impl Feed {
    /// As a start finds it, or as it is created. `done`: what is settled or has a row, above the
    /// watermark and above the cursor; `first`: the first event that its definition met. One that
    /// does not run needs a cursor: see [`Feed::stop`].
    #[must_use]
    pub fn new(first: Seq, cursor: Option<Seq>, done: BTreeSet<Seq>, runs: bool) -> Self {
        Self {
            is_live: runs && cursor.is_none(),
            first: cursor.map_or(first, |cursor| cursor.min(first)),
            created: first,
            cursor,
            next_unread: cursor.unwrap_or_default(),
            done,
            ..Self::default()
        }
    }

    /// The router feeds it.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// It has a cursor: nothing of it holds the watermark, all its outcomes are late.
    #[must_use]
    pub fn is_covered(&self) -> bool {
        self.cursor.is_some()
    }

    /// Nothing but memory has a delivery in hand, unless it has a row.
    #[must_use]
    pub fn holds_watermark(&self, has_row: bool) -> bool {
        !has_row && self.cursor.is_none()
    }

    #[must_use]
    pub fn cursor(&self) -> Option<Seq> {
        self.cursor
    }

    /// First event it has not been given, if it is behind.
    #[must_use]
    pub fn behind_from(&self) -> Option<Seq> {
        (!self.is_live).then_some(self.next_unread)
    }

    /// Deliveries in hand.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.window.len()
    }

    #[must_use]
    pub fn holds(&self, seq: Seq) -> bool {
        self.window.contains(seq)
    }

    /// The first event that it may still look at: definitions in force since then are needed.
    #[must_use]
    pub fn needs_from(&self) -> Option<Seq> {
        self.cursor.into_iter().chain(self.window.oldest()).chain(self.behind_from()).min()
    }

    // ── routing ──────────────────────────────────────────────────────────────────────────────────

    /// The router reached an event that the subscription takes; `has_room`: it may be handed over.
    pub fn offer(&mut self, seq: Seq, has_room: bool) -> Offer {
        if self.done.contains(&seq) {
            return Offer::Done;
        }
        let fell = self.is_live;
        if self.is_live {
            if has_room && self.window.push(seq) {
                return Offer::Taken { holds_watermark: self.cursor.is_none() };
            }
            // What is in hand goes on, the rest is read from the log.
            self.is_live = false;
            self.next_unread = seq;
        }
        let cover = self.cursor.is_none().then(|| self.cover(seq));
        Offer::Behind { fell, cover }
    }

    /// Nobody feeds it from here on: `routed` is the last event that the router matched.
    pub fn stop(&mut self, routed: Seq) -> Covering {
        let next =
            if self.is_live || self.cursor.is_none() { routed.next() } else { self.next_unread };
        self.is_live = false;
        self.cover(next)
    }

    /// A cursor at `next`, the first event it has not been given, or at the oldest one in hand.
    fn cover(&mut self, next: Seq) -> Covering {
        let next = next.max(self.first);
        let mut from = self.window.oldest().map_or(next, |oldest| oldest.min(next));
        let (mut counted, mut settled) = (Vec::new(), Vec::new());
        match self.cursor {
            // What settles under a cursor leaves a late outcome, which a reader finds.
            Some(cursor) if self.is_pinned => from = from.min(cursor),
            Some(_) => {}
            None => {
                counted.extend(self.window.open());
                self.done.extend(self.window.settled_ahead());
                settled.extend(self.done.range(from..));
            }
        }
        self.next_unread = next;
        self.set_cursor(from);
        Covering { from, counted, settled }
    }

    fn set_cursor(&mut self, to: Seq) {
        self.cursor = Some(to);
        self.done = self.done.split_off(&to);
    }

    // ── reading ──────────────────────────────────────────────────────────────────────────────────

    /// The last event that was read, while it is behind.
    #[must_use]
    pub fn read(&self) -> Seq {
        self.next_unread.prev()
    }

    /// Reads past an event of the log. False: nothing is to be done about it, whatever it is.
    pub fn pass(&mut self, seq: Seq) -> bool {
        self.next_unread = seq.next();
        !self.done.contains(&seq) && !self.window.contains(seq)
    }

    /// Takes an event that was read into hand.
    pub fn take(&mut self, seq: Seq) -> bool {
        self.window.push(seq)
    }

    /// Live again, if everything that the router has matched was read, and the router knows it.
    pub fn catch_up(&mut self, routed: Seq) -> bool {
        if self.read() == routed && routed >= self.created.prev() {
            self.is_live = true;
        }
        self.is_live
    }

    /// What is in hand and not `running` is read again from the cursor. Only with a cursor.
    pub fn rewind(&mut self, running: impl IntoIterator<Item = Seq>) {
        self.done.extend(self.window.settled_ahead());
        self.window = Window::default();
        for seq in running {
            self.window.push(seq);
        }
        self.next_unread = self.cursor.unwrap_or(self.next_unread);
    }

    /// Its actor starts anew: what was in hand is read again. `done` as the store tells it.
    pub fn restart(&mut self, done: impl IntoIterator<Item = Seq>) {
        self.rewind([]);
        self.done.extend(done);
        self.is_live = false;
        self.oldest_at_sweep = None;
    }

    // ── settling ─────────────────────────────────────────────────────────────────────────────────

    /// The delivery is settled, or has a row from now on.
    pub fn settle(&mut self, seq: Seq) {
        self.window.settle(seq);
        if self.cursor.is_some() {
            self.done.insert(seq);
        }
    }

    /// Looks after the cursor: one that is stuck takes one, so that a slow run cannot hold the
    /// watermark back; it follows what is settled, and goes when nothing needs it.
    pub fn sweep(&mut self, routed: Seq, runs: bool) -> Option<Sweep> {
        let oldest = self.window.oldest();
        let is_stuck = oldest.is_some() && self.oldest_at_sweep == oldest;
        self.oldest_at_sweep = oldest;
        let Some(cursor) = self.cursor else {
            return is_stuck.then(|| Sweep::Cover(self.cover(routed.next())));
        };
        if self.is_pinned {
            return None;
        }
        if self.is_live && oldest.is_none() {
            self.cursor = None;
            // During recovery the router still comes to those above.
            self.done = self.done.split_off(&routed.next());
            return Some(Sweep::Cursor(None));
        }
        let next = if self.is_live { routed.next() } else { self.next_unread };
        let to = oldest.map_or(next, |oldest| oldest.min(next));
        (to > cursor && runs).then(|| {
            self.set_cursor(to);
            Sweep::Cursor(Some(to))
        })
    }

    // ── going back ───────────────────────────────────────────────────────────────────────────────

    /// A backfill is about to look at what was settled: from here on nothing that settles is
    /// forgotten, and the cursor stays.
    pub fn pin(&mut self, routed: Seq) -> Option<Covering> {
        let cover = self.cursor.is_none().then(|| self.cover(routed.next()));
        self.is_pinned = true;
        cover
    }

    /// The backfill was given up.
    pub fn unpin(&mut self) {
        self.is_pinned = false;
    }

    /// Reads again from `from`, but for what is `settled` according to the store since [`Feed::pin`].
    pub fn go_back(&mut self, from: Seq, settled: impl IntoIterator<Item = Seq>) -> Covering {
        self.is_pinned = false;
        self.is_live = false;
        let from = self.cursor.map_or(from, |cursor| cursor.min(from));
        self.first = self.first.min(from);
        self.done.extend(settled);
        self.set_cursor(from);
        self.next_unread = from;
        Covering { from, counted: Vec::new(), settled: self.done.iter().copied().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seqs(numbers: &[u64]) -> Vec<Seq> {
        numbers.iter().copied().map(Seq).collect()
    }

    fn live_with(numbers: &[u64]) -> Feed {
        let mut feed = Feed::new(Seq(1), None, BTreeSet::new(), true);
        for &seq in numbers {
            assert_eq!(feed.offer(Seq(seq), true), Offer::Taken { holds_watermark: true });
        }
        feed
    }

    #[test]
    fn falling_behind_covers_what_is_in_hand_and_notes_what_was_settled_above_it() {
        let mut feed = live_with(&[3, 5, 7]);
        feed.settle(Seq(5));
        let cover = Covering { from: Seq(3), counted: seqs(&[3, 7]), settled: seqs(&[5]) };
        assert_eq!(feed.offer(Seq(9), false), Offer::Behind { fell: true, cover: Some(cover) });
        assert_eq!(feed.behind_from(), Some(Seq(9)));
        assert_eq!(feed.offer(Seq(11), true), Offer::Behind { fell: false, cover: None });
    }

    #[test]
    fn what_was_settled_is_passed_over_each_time_the_log_is_read() {
        let done = BTreeSet::from([Seq(12)]);
        let mut feed = Feed::new(Seq(1), Some(Seq(10)), done, true);
        for _ in 0..2 {
            let taken = |seq: &u64| feed.pass(Seq(*seq)) && feed.take(Seq(*seq));
            assert_eq!((10..=13).filter(taken).collect::<Vec<_>>(), [10, 11, 13]);
            feed.stop(Seq(13));
            feed.rewind([]);
        }
    }

    #[test]
    fn one_that_stops_before_the_router_reached_its_creation_reads_nothing_older() {
        let mut feed = Feed::new(Seq(104), None, BTreeSet::new(), true);
        assert_eq!(feed.stop(Seq(21)).from, Seq(104));
        assert!(!feed.catch_up(Seq(21)));
        assert!(feed.catch_up(Seq(103)));
        // A backfill reads what the router will not hand over.
        feed.go_back(Seq(20), []);
        feed.pass(Seq(21));
        assert!(!feed.catch_up(Seq(21)));
    }

    #[test]
    fn a_run_under_way_is_not_taken_twice() {
        let mut feed = live_with(&[4, 5]);
        feed.stop(Seq(5));
        feed.rewind([Seq(5)]);
        assert!(feed.pass(Seq(4)));
        assert!(!feed.pass(Seq(5)));
        assert!(feed.holds(Seq(5)));
    }

    #[test]
    fn the_cursor_follows_a_subscription_that_is_never_idle() {
        let mut feed = live_with(&[1]);
        assert_eq!(feed.sweep(Seq(1), true), None);
        assert!(matches!(feed.sweep(Seq(1), true), Some(Sweep::Cover(_))));
        for seq in 2..20 {
            assert_eq!(feed.offer(Seq(seq), true), Offer::Taken { holds_watermark: false });
            feed.settle(Seq(seq - 1));
            assert_eq!(feed.sweep(Seq(seq), true), Some(Sweep::Cursor(Some(Seq(seq)))));
            assert!(feed.done.is_empty());
        }
        feed.settle(Seq(19));
        assert_eq!(feed.sweep(Seq(19), true), Some(Sweep::Cursor(None)));
    }

    #[test]
    fn a_backfill_forgets_nothing_that_settles_while_it_looks() {
        let mut feed = live_with(&[6, 7]);
        assert!(feed.pin(Seq(7)).is_some());
        feed.settle(Seq(6));
        assert_eq!(feed.sweep(Seq(7), true), None);
        // The store said, before 6 was on disk: 2 and 4.
        let cover = feed.go_back(Seq(1), seqs(&[2, 4]));
        assert_eq!(cover.from, Seq(1));
        assert_eq!(cover.settled, seqs(&[2, 4, 6]));
        let fresh: Vec<u64> = (1..=8).filter(|&seq| feed.pass(Seq(seq))).collect();
        assert_eq!(fresh, [1, 3, 5, 8]);
    }
}
