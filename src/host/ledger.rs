//! Which key changed when: optimistic control over the key-value store.
//!
//! All writes of keys are decided here, on one thread, in the order in which the journal will
//! commit them; so whether a run's reads still hold can be said the moment it ends, without asking
//! the store. A write that is not committed yet is already read by the runs after it: the journal
//! writes in order, so whatever is lost in a crash, what was built on it is lost with it.
//!
//! A run that lost takes the *turns* of the namespaces where it did: others that want to read there
//! wait for it, and what would overturn its reads loses instead. Turns are taken before anything is
//! read and in the order of their names, and who has one waits for no other turn: nobody waits in a
//! circle.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry},
};

use tokio::sync::oneshot;

use crate::domain::kv::{Change, Namespace, Span, Stored, Usage};

/// The order of writes. 0 is before all of them.
pub(crate) type Clock = u64;

/// Names a run to the ledger.
pub(super) type Reader = u64;

/// What a namespace may hold, and all of them together: a script can make up as many as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quotas {
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
    pub(crate) bytes_in_all: u64,
    pub(crate) namespaces: usize,
}

/// What a run has read, and when.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) namespace: Namespace,
    pub(super) what: Range,
    pub(super) at: Clock,
}

#[derive(Clone, Debug)]
pub(super) enum Range {
    Key(String),
    Part {
        span: Span,
        /// The last key that was seen; `None`: up to the end.
        upto: Option<String>,
    },
}

impl Range {
    fn holds(&self, key: &str) -> bool {
        match self {
            Self::Key(own) => own == key,
            Self::Part { span, upto } => {
                span.holds(key) && upto.as_deref().is_none_or(|upto| key <= upto)
            }
        }
    }
}

/// Why writes were not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommitError {
    /// Something that was read has changed since.
    #[error("`{key}` in the keys of {namespace} was changed by another run meanwhile")]
    Conflict { namespace: Namespace, key: String },
    #[error(
        "the keys of {namespace} are full: {} keys of {} bytes, and the limits are {} and {}",
        usage.keys, usage.bytes, quotas.keys, quotas.bytes
    )]
    Full { namespace: Namespace, usage: Usage, quotas: Quotas },
    #[error("sdk.kv is full: the limit is {0} in all")]
    AllFull(String),
}

/// A look at the store beside the runs.
#[derive(Debug)]
pub(crate) struct Look {
    reader: Reader,
    at: Clock,
}

pub(crate) struct Ledger {
    quotas: Quotas,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    clock: Clock,
    /// Up to here everything is in the store.
    committed: Clock,
    readers: Reader,
    /// Writes that are not in the store yet, or that a run may have missed.
    recent: BTreeMap<(Namespace, String), Recent>,
    /// The same by their clocks: what was decided first is forgotten first.
    order: BTreeMap<Clock, Vec<(Namespace, String)>>,
    /// When each run that is under way read first, and how many began at each clock.
    since: HashMap<Reader, Clock>,
    begun: BTreeMap<Clock, u32>,
    usage: HashMap<Namespace, Usage>,
    bytes_in_all: u64,
    turns: HashMap<Namespace, Turn>,
}

struct Recent {
    at: Clock,
    /// `None` once it is in the store.
    pending: Option<Option<Stored>>,
}

#[derive(Default)]
struct Turn {
    holder: Option<Reader>,
    /// What the holder has read here: nobody overturns it.
    protected: Vec<Range>,
    queue: VecDeque<Waiting>,
}

struct Waiting {
    reader: Reader,
    wants_it: bool,
    go: oneshot::Sender<()>,
}

impl Ledger {
    pub(crate) fn new(quotas: Quotas, usage: Vec<(Namespace, Usage)>) -> Self {
        let ledger = Self { quotas, state: RefCell::default() };
        ledger.set_usage(usage);
        ledger
    }

    pub(super) fn reader(&self) -> Reader {
        let state = &mut *self.state.borrow_mut();
        state.readers += 1;
        state.readers
    }

    /// Takes a namespace's turn: `None` is "it is yours", else wait for the word.
    pub(super) fn take_turn(
        &self,
        namespace: &Namespace,
        reader: Reader,
    ) -> Option<oneshot::Receiver<()>> {
        let state = &mut *self.state.borrow_mut();
        match state.turns.get_mut(namespace) {
            Some(turn) => Some(turn.wait(reader, true)),
            None => {
                let turn = Turn { holder: Some(reader), ..Turn::default() };
                state.turns.insert(namespace.clone(), turn);
                None
            }
        }
    }

    /// Asks to read in a namespace: `None` is "go on", else wait for the word.
    pub(super) fn enter(
        &self,
        namespace: &Namespace,
        reader: Reader,
    ) -> Option<oneshot::Receiver<()>> {
        let state = &mut *self.state.borrow_mut();
        let holds_one = state.turns.values().any(|turn| turn.holder == Some(reader));
        let turn = state.turns.get_mut(namespace).filter(|_| !holds_one)?;
        Some(turn.wait(reader, false))
    }

    /// A run reads now: when that is, and what is not in the store yet.
    pub(super) fn read(
        &self,
        namespace: &Namespace,
        what: &Range,
        reader: Reader,
    ) -> (Clock, Vec<(String, Option<Stored>)>) {
        let state = &mut *self.state.borrow_mut();
        state.begin(reader);
        if let Some(turn) = state.turns.get_mut(namespace)
            && turn.holder == Some(reader)
        {
            turn.protected.push(what.clone());
        }
        let pending = state
            .in_range(namespace, what)
            .filter_map(|(key, recent)| Some((key.clone(), recent.pending.clone()?)))
            .collect();
        (state.clock, pending)
    }

    /// Takes the writes of a run whose reads still hold; they are the journal's to commit, in the
    /// order of the clock that is answered. 0: there was nothing to write.
    pub(super) fn commit(
        &self,
        reader: Option<Reader>,
        reads: &[Read],
        changes: &[Change],
    ) -> Result<Clock, CommitError> {
        let state = &mut *self.state.borrow_mut();
        state.check_reads(reads)?;
        if !reads.is_empty() {
            state.check_turns(reader, changes)?;
        }
        state.stage(changes, self.quotas)
    }

    /// Takes the writes of somebody who has read nothing: an operator.
    pub(crate) fn overwrite(&self, changes: &[Change]) -> Result<Clock, CommitError> {
        self.state.borrow_mut().stage(changes, self.quotas)
    }

    /// Notes that somebody is about to look at the store; end it with [`Ledger::unchanged`].
    pub(crate) fn look(&self) -> Look {
        let state = &mut *self.state.borrow_mut();
        state.readers += 1;
        let reader = state.readers;
        state.begin(reader);
        Look { reader, at: state.clock }
    }

    /// Those of the keys that nobody has written since the look began.
    pub(crate) fn unchanged(
        &self,
        look: Look,
        mut keys: Vec<(Namespace, String)>,
    ) -> Vec<(Namespace, String)> {
        keys.retain(|key| {
            let state = self.state.borrow();
            state
                .recent
                .get(key)
                .is_none_or(|recent| recent.at <= look.at && recent.pending.is_none())
        });
        self.leave(look.reader);
        keys
    }

    /// Everything up to `clock` is in the store.
    pub(crate) fn committed(&self, clock: Clock) {
        let state = &mut *self.state.borrow_mut();
        let fresh = state.committed + 1..=clock.max(state.committed);
        for (at, keys) in state.order.range(fresh) {
            for key in keys {
                if let Some(recent) = state.recent.get_mut(key).filter(|recent| recent.at == *at) {
                    recent.pending = None;
                }
            }
        }
        state.committed = state.committed.max(clock);
        state.forget();
    }

    /// What the namespaces hold, as the store says.
    pub(crate) fn set_usage(&self, usage: Vec<(Namespace, Usage)>) {
        let state = &mut *self.state.borrow_mut();
        state.bytes_in_all = usage.iter().map(|(_, usage)| usage.bytes).sum();
        state.usage = usage.into_iter().collect();
    }

    /// The run has ended: nobody need remember what it could have missed.
    pub(super) fn leave(&self, reader: Reader) {
        let state = &mut *self.state.borrow_mut();
        state.end(reader);
        state.turns.retain(|_, turn| {
            turn.queue.retain(|waiting| waiting.reader != reader);
            if turn.holder == Some(reader) {
                turn.pass_on();
            }
            turn.holder.is_some()
        });
    }
}

impl Turn {
    fn wait(&mut self, reader: Reader, wants_it: bool) -> oneshot::Receiver<()> {
        let (go, word) = oneshot::channel();
        self.queue.push_back(Waiting { reader, wants_it, go });
        word
    }

    /// The next who wants it has it; who only reads goes on before.
    fn pass_on(&mut self) {
        self.holder = None;
        self.protected.clear();
        while let Some(Waiting { reader, wants_it, go }) = self.queue.pop_front() {
            // A run that is gone meanwhile takes nothing.
            if go.send(()).is_ok() && wants_it {
                self.holder = Some(reader);
                return;
            }
        }
    }
}

impl State {
    fn in_range<'a>(
        &'a self,
        namespace: &'a Namespace,
        what: &'a Range,
    ) -> impl Iterator<Item = (&'a String, &'a Recent)> {
        let first = match what {
            Range::Key(key) => key.as_str(),
            Range::Part { span, .. } => {
                span.after.as_deref().unwrap_or_default().max(span.prefix.as_str())
            }
        };
        self.recent
            .range((namespace.clone(), first.to_owned())..)
            .take_while(move |((of, key), _)| {
                of == namespace
                    && match what {
                        Range::Key(own) => own == key,
                        Range::Part { span, .. } => {
                            key.starts_with(&span.prefix) || *key <= span.prefix
                        }
                    }
            })
            .filter(move |((_, key), _)| what.holds(key))
            .map(|((_, key), recent)| (key, recent))
    }

    fn check_reads(&self, reads: &[Read]) -> Result<(), CommitError> {
        for Read { namespace, what, at } in reads {
            if let Some((key, _)) = self.in_range(namespace, what).find(|(_, write)| write.at > *at)
            {
                return Err(CommitError::Conflict {
                    namespace: namespace.clone(),
                    key: key.clone(),
                });
            }
        }
        Ok(())
    }

    fn check_turns(&self, reader: Option<Reader>, changes: &[Change]) -> Result<(), CommitError> {
        for change in changes {
            let overturns = self.turns.get(&change.namespace).is_some_and(|turn| {
                turn.holder != reader && turn.protected.iter().any(|read| read.holds(&change.key))
            });
            if overturns {
                return Err(CommitError::Conflict {
                    namespace: change.namespace.clone(),
                    key: change.key.clone(),
                });
            }
        }
        Ok(())
    }

    /// Counts what is written towards the quotas. The store knows what is replaced and removed:
    /// until it says so ([`Ledger::set_usage`]) this takes too much rather than too little.
    fn grow(&mut self, changes: &[Change], quotas: Quotas) -> Result<(), CommitError> {
        let mut grown: HashMap<&Namespace, Usage> = HashMap::new();
        for change in changes {
            let Some(stored) = &change.value else { continue };
            let at = (change.namespace.clone(), change.key.clone());
            let replaces = self.recent.get(&at).is_some_and(|r| matches!(r.pending, Some(Some(_))));
            let usage = grown
                .entry(&change.namespace)
                .or_insert_with(|| self.usage.get(&change.namespace).copied().unwrap_or_default());
            usage.keys += u64::from(!replaces);
            usage.bytes += (change.key.len() + stored.value.len()) as u64;
        }
        let full =
            grown.iter().find(|(_, usage)| usage.bytes > quotas.bytes || usage.keys > quotas.keys);
        if let Some((namespace, usage)) = full {
            let namespace = (*namespace).clone();
            return Err(CommitError::Full { namespace, usage: *usage, quotas });
        }
        let grown: Vec<_> =
            grown.into_iter().map(|(namespace, usage)| (namespace.clone(), usage)).collect();
        let before = |namespace| self.usage.get(namespace).map_or(0, |usage| usage.bytes);
        let more: u64 =
            grown.iter().map(|(namespace, usage)| usage.bytes - before(namespace)).sum();
        let fresh = grown.iter().filter(|(name, _)| !self.usage.contains_key(name)).count();
        if self.bytes_in_all + more > quotas.bytes_in_all && more > 0 {
            return Err(CommitError::AllFull(format!("{} bytes", quotas.bytes_in_all)));
        }
        if fresh > 0 && self.usage.len() + fresh > quotas.namespaces {
            return Err(CommitError::AllFull(format!("{} namespaces", quotas.namespaces)));
        }
        self.bytes_in_all += more;
        self.usage.extend(grown);
        Ok(())
    }

    /// Enters writes under the next clock.
    fn stage(&mut self, changes: &[Change], quotas: Quotas) -> Result<Clock, CommitError> {
        if changes.is_empty() {
            return Ok(0);
        }
        self.grow(changes, quotas)?;
        self.clock += 1;
        let at = self.clock;
        let mut keys = Vec::with_capacity(changes.len());
        for Change { namespace, key, value } in changes {
            let key = (namespace.clone(), key.clone());
            keys.push(key.clone());
            self.recent.insert(key, Recent { at, pending: Some(value.clone()) });
        }
        self.order.insert(at, keys);
        Ok(at)
    }

    fn begin(&mut self, reader: Reader) {
        let now = self.clock;
        if let Entry::Vacant(entry) = self.since.entry(reader) {
            entry.insert(now);
            *self.begun.entry(now).or_default() += 1;
        }
    }

    fn end(&mut self, reader: Reader) {
        let Some(since) = self.since.remove(&reader) else { return };
        if let Some(count) = self.begun.get_mut(&since) {
            *count -= 1;
            if *count == 0 {
                self.begun.remove(&since);
                self.forget();
            }
        }
    }

    /// Drops what is in the store and older than every read that is under way.
    fn forget(&mut self) {
        let oldest = self.begun.keys().next().copied().unwrap_or(self.clock);
        let upto = oldest.min(self.committed);
        while let Some(entry) = self.order.first_entry().filter(|entry| *entry.key() <= upto) {
            let (at, keys) = entry.remove_entry();
            for key in keys {
                if self.recent.get(&key).is_some_and(|recent| recent.at == at) {
                    self.recent.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTAS: Quotas = Quotas { keys: 10, bytes: 1_000, bytes_in_all: 1_500, namespaces: 3 };

    fn space() -> Namespace {
        Namespace::Shared("s".into())
    }

    fn ledger() -> Ledger {
        Ledger::new(QUOTAS, Vec::new())
    }

    fn set(key: &str, value: &str) -> Change {
        let value = Some(Stored { value: value.into(), expires_at: None });
        Change { namespace: space(), key: key.into(), value }
    }

    fn key(name: &str) -> Range {
        Range::Key(name.into())
    }

    /// A reader that has read.
    fn reads(ledger: &Ledger, what: Range) -> (Reader, Vec<Read>) {
        let reader = ledger.reader();
        let (at, _) = ledger.read(&space(), &what, reader);
        (reader, vec![Read { namespace: space(), what, at }])
    }

    fn conflict(key: &str) -> Result<Clock, CommitError> {
        Err(CommitError::Conflict { namespace: space(), key: key.into() })
    }

    #[test]
    fn of_two_that_read_the_same_key_the_first_to_end_wins() {
        let ledger = ledger();
        let (first, first_reads) = reads(&ledger, key("n"));
        let (second, second_reads) = reads(&ledger, key("n"));
        let (other, other_reads) = reads(&ledger, key("m"));
        assert_eq!(ledger.commit(Some(first), &first_reads, &[set("n", "1")]), Ok(1));
        assert_eq!(ledger.commit(Some(second), &second_reads, &[set("n", "1")]), conflict("n"));
        assert_eq!(ledger.commit(Some(other), &other_reads, &[set("n", "2")]), Ok(2));
        assert_eq!(ledger.commit(Some(second), &second_reads, &[]), conflict("n"));
    }

    #[test]
    fn what_is_not_committed_yet_is_read_already_and_forgotten_once_it_is() {
        let ledger = ledger();
        let (early, early_reads) = reads(&ledger, key("n"));
        ledger.commit(None, &[], &[set("n", "1")]).expect("no conflict");
        let seen = ledger.read(&space(), &key("n"), ledger.reader()).1;
        assert_eq!(seen[0].1.as_ref().map(|stored| &*stored.value), Some("1"));
        ledger.committed(1);
        assert!(ledger.read(&space(), &key("n"), ledger.reader()).1.is_empty(), "the store has it");
        // A run that began before still meets it.
        assert_eq!(ledger.commit(Some(early), &early_reads, &[]), conflict("n"));
        ledger.leave(early);
        for reader in 1..=3 {
            ledger.leave(reader);
        }
        assert!(ledger.state.borrow().recent.is_empty());
    }

    #[test]
    fn a_list_notices_keys_that_appear_in_its_part_only() {
        let ledger = ledger();
        let part = |upto: Option<&str>| Range::Part {
            span: Span { prefix: "a/".into(), after: Some("a/3".into()) },
            upto: upto.map(Into::into),
        };
        let (open, open_reads) = reads(&ledger, part(None));
        let (cut, cut_reads) = reads(&ledger, part(Some("a/5")));
        for outside in ["a", "a/1", "a/3", "b"] {
            ledger.commit(None, &[], &[set(outside, "1")]).expect("no conflict");
        }
        assert_eq!(ledger.commit(Some(open), &open_reads, &[]), Ok(0));
        ledger.commit(None, &[], &[set("a/7", "1")]).expect("no conflict");
        assert_eq!(ledger.commit(Some(cut), &cut_reads, &[]), Ok(0));
        assert_eq!(ledger.commit(Some(open), &open_reads, &[]), conflict("a/7"));
    }

    #[test]
    fn who_lost_takes_the_turn_and_cannot_lose_again() {
        let ledger = ledger();
        let (quick, quick_reads) = reads(&ledger, key("n"));
        let loser = ledger.reader();
        assert!(ledger.take_turn(&space(), loser).is_none(), "the turn is free");
        let (at, _) = ledger.read(&space(), &key("n"), loser);
        let loser_reads = [Read { namespace: space(), what: key("n"), at }];
        // Others wait, and one that read before cannot overturn what the loser has read.
        let (next, reader) = (ledger.reader(), ledger.reader());
        let mut next_word = ledger.take_turn(&space(), next).expect("it waits");
        let mut reader_word = ledger.enter(&space(), reader).expect("it waits");
        assert_eq!(ledger.commit(Some(quick), &quick_reads, &[set("n", "1")]), conflict("n"));
        assert_eq!(ledger.commit(Some(loser), &loser_reads, &[set("n", "1")]), Ok(1));
        ledger.leave(loser);
        assert!(next_word.try_recv().is_ok(), "the next in line");
        assert!(reader_word.try_recv().is_err());
        ledger.leave(next);
        assert!(reader_word.try_recv().is_ok());
        assert!(ledger.state.borrow().turns.is_empty());
    }

    #[test]
    fn who_has_a_turn_reads_elsewhere_without_waiting() {
        let ledger = ledger();
        let other = Namespace::Shared("other".into());
        let (a, b) = (ledger.reader(), ledger.reader());
        assert!(ledger.take_turn(&space(), a).is_none());
        assert!(ledger.take_turn(&other, b).is_none());
        assert!(ledger.enter(&other, a).is_none());
        assert!(ledger.enter(&space(), b).is_none());
        assert!(ledger.enter(&space(), ledger.reader()).is_some());
    }

    #[test]
    fn quotas_bite_and_removals_pass() {
        let ledger = ledger();
        let full = |result| matches!(result, Err(CommitError::Full { .. }));
        assert!(full(ledger.overwrite(&[set("a", &"x".repeat(1_000))])));
        for n in 0..10 {
            ledger.overwrite(&[set(&n.to_string(), "1")]).expect("room");
        }
        ledger.overwrite(&[set("3", "2")]).expect("no new key");
        assert!(full(ledger.overwrite(&[set("more", "1")])));
        let removal = Change { value: None, ..set("3", "") };
        ledger.overwrite(&[removal]).expect("a removal needs no room");
        ledger.set_usage(vec![(space(), Usage { keys: 9, bytes: 20 })]);
        ledger.overwrite(&[set("more", "1")]).expect("room again");
    }

    /// A script that makes up namespaces must not fill the disk, nor the ledger.
    #[test]
    fn all_namespaces_together_are_bounded() {
        let ledger = ledger();
        let write = |name: &str, bytes: usize| {
            let change = Change {
                namespace: Namespace::Shared(name.into()),
                ..set("k", &"x".repeat(bytes))
            };
            ledger.overwrite(&[change])
        };
        let all_full = |result| matches!(result, Err(CommitError::AllFull(_)));
        write("a", 900).expect("room");
        assert!(all_full(write("b", 900)), "more than all may hold");
        write("b", 100).expect("room");
        write("c", 100).expect("room");
        assert!(all_full(write("d", 1)), "one namespace too many");
        write("c", 100).expect("room in one that is there");
        ledger.set_usage(Vec::new());
        write("d", 900).expect("room again");
    }

    #[test]
    fn a_sweep_leaves_what_was_written_meanwhile() {
        let ledger = ledger();
        let look = ledger.look();
        ledger.overwrite(&[set("renewed", "1")]).expect("room");
        ledger.committed(1);
        let found = ["expired", "renewed"].map(|key| (space(), key.to_owned())).to_vec();
        assert_eq!(ledger.unchanged(look, found), [(space(), "expired".to_owned())]);
        assert!(ledger.state.borrow().recent.is_empty());
    }
}
