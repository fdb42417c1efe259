//! Many filters at once: which of them match an event, without trying each.
//!
//! Every filter is taken as alternatives, each a list of predicates that must hold
//! ([`predicate`]). An alternative is filed under one of them, the rarest ([`part`]): under a value,
//! a prefix, a range. An event then meets only what is filed under its own values, and each such
//! candidate is verified by the evaluator that evaluates a single filter. So an answer is exact
//! whatever the index does; what the index must never do is miss one.
//!
//! A crowded place is divided again by the next predicate of its alternatives. Changes happen in
//! place, in time that does not depend on how many filters there are: nothing is ever rebuilt.

mod part;
mod paths;
mod predicate;
mod range;
mod shared;

#[cfg(test)]
mod tests;

use std::{collections::hash_map::Entry, hash::Hash};

use rustc_hash::FxHashMap;

use super::{Filter, View};
use crate::domain::TypePattern;
use part::Part;
use paths::{Paths, Values};
use predicate::{Predicate, Test};
use shared::{Patterns, Steps};

/// How often a crowded place is divided again.
const LEVELS: usize = 6;

/// Subscriptions of one router by what they match. `K` names a subscription.
pub struct Index<K> {
    subscriptions: Slab<Subscription<K>>,
    numbers: FxHashMap<K, u32>,
    alternatives: Alternatives,
    patterns: Patterns,
    steps: Steps,
    paths: Paths,
    /// How many alternatives have an equality, prefix or suffix predicate, by its hash.
    popularity: FxHashMap<u64, u32>,
    root: Part,
    residual: usize,
}

struct Subscription<K> {
    key: K,
    /// Number in [`Patterns`].
    pattern: u32,
    filter: Option<Filter>,
}

/// One way in which a subscription can match: all predicates must hold. The first is the rarest;
/// at most [`LEVELS`].
type Alternative = Box<[Predicate]>;

/// Names an alternative: the number of its subscription, its place among the subscription's, and
/// whether it is the only one. So a candidate leads to its subscription without a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AlternativeId(u32);

impl AlternativeId {
    /// One bit for `is_only`, four for the place.
    const NUMBER_SHIFT: u32 = 5;

    fn new(number: u32, place: usize, is_only: bool) -> Self {
        assert!(
            number < 1 << (32 - Self::NUMBER_SHIFT),
            "an index holds 134 million subscriptions"
        );
        let place = u32::try_from(place).unwrap_or(0) & 0xf;
        Self(number << Self::NUMBER_SHIFT | place << 1 | u32::from(is_only))
    }

    fn number(self) -> u32 {
        self.0 >> Self::NUMBER_SHIFT
    }

    fn place(self) -> usize {
        (self.0 >> 1 & 0xf) as usize
    }

    fn is_only(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The alternatives of all subscriptions, by their numbers. Matching does not look here.
#[derive(Default)]
struct Alternatives(Vec<Box<[Alternative]>>);

impl Alternatives {
    fn put(&mut self, number: u32, alternatives: Vec<Alternative>) {
        let at = number as usize;
        if self.0.len() <= at {
            self.0.resize_with(at + 1, Box::default);
        }
        self.0[at] = alternatives.into();
    }

    fn take(&mut self, number: u32) -> Box<[Alternative]> {
        std::mem::take(&mut self.0[number as usize])
    }

    fn ids(&self, number: u32) -> impl Iterator<Item = AlternativeId> + use<> {
        let count = self.0[number as usize].len();
        (0..count).map(move |place| AlternativeId::new(number, place, count == 1))
    }

    /// The predicate that files the alternative at a level; `None` if it has no more.
    fn predicate(&self, id: AlternativeId, level: usize) -> Option<&Predicate> {
        self.0.get(id.number() as usize)?.get(id.place())?.get(level)
    }
}

/// What matching works with, kept from event to event to save its allocation. Belongs to one
/// index: a scratch that has met another index answers wrongly.
#[derive(Default)]
pub struct Scratch {
    values: Values,
    /// By number of the subscription: the round in which it was verified last.
    verified: Vec<u32>,
    /// By number of the pattern: the round in which it was tried last, and whether it matched.
    types: Vec<(u32, bool)>,
    round: u32,
    candidates: Vec<AlternativeId>,
}

impl<K: Copy + Eq + Hash> Default for Index<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy + Eq + Hash> Index<K> {
    #[must_use]
    pub fn new() -> Self {
        Self {
            subscriptions: Slab::default(),
            numbers: FxHashMap::default(),
            alternatives: Alternatives::default(),
            patterns: Patterns::default(),
            steps: Steps::default(),
            paths: Paths::default(),
            popularity: FxHashMap::default(),
            root: Part::default(),
            residual: 0,
        }
    }

    /// How many subscriptions it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    #[must_use]
    pub fn contains(&self, key: K) -> bool {
        self.numbers.contains_key(&key)
    }

    /// How many subscriptions have a filter of which nothing could be indexed: it is evaluated for
    /// every event of a matching type. The cost of an event grows with this number.
    #[must_use]
    pub fn residual(&self) -> usize {
        self.residual
    }

    /// Adds a subscription, or gives the one called `key` another definition. `filter` `None`
    /// takes every event of the type.
    pub fn insert(&mut self, key: K, pattern: TypePattern, mut filter: Option<Filter>) {
        self.remove(key);
        if let Some(filter) = &mut filter {
            self.steps.share(filter);
        }
        let ways = predicate::alternatives(&pattern, filter.as_ref(), &mut self.paths);
        self.residual += usize::from(ways.is_residual);
        let pattern = self.patterns.acquire(pattern);
        let number = self.subscriptions.put(Subscription { key, pattern, filter });
        let alternatives =
            ways.alternatives.into_iter().map(|predicates| self.ranked(predicates)).collect();
        self.alternatives.put(number, alternatives);
        for id in self.alternatives.ids(number) {
            self.root.add(id, 0, &self.alternatives);
        }
        self.numbers.insert(key, number);
    }

    /// Puts the predicates of an alternative in order, counts them, and gives back what is too many.
    fn ranked(&mut self, mut predicates: Vec<Predicate>) -> Alternative {
        predicates.sort_by_key(|predicate| self.score(predicate));
        for spare in predicates.drain(LEVELS.min(predicates.len())..) {
            self.paths.release(spare.path);
        }
        for hash in predicates.iter().flat_map(Predicate::hashes) {
            *self.popularity.entry(hash).or_default() += 1;
        }
        predicates.into()
    }

    /// Removes the subscription called `key`; false if there is none.
    pub fn remove(&mut self, key: K) -> bool {
        let Some(number) = self.numbers.remove(&key) else { return false };
        let Some(subscription) = self.subscriptions.take(number) else { return false };
        for id in self.alternatives.ids(number) {
            self.root.remove(id, 0, &self.alternatives);
        }
        let alternatives = self.alternatives.take(number);
        let is_residual = subscription.filter.is_some()
            && !alternatives.is_empty()
            && alternatives.iter().flatten().all(|predicate| predicate.of_type);
        self.residual -= usize::from(is_residual);
        alternatives.iter().flatten().for_each(|predicate| self.forget(predicate));
        self.patterns.release(subscription.pattern);
        true
    }

    fn forget(&mut self, predicate: &Predicate) {
        for hash in predicate.hashes() {
            if let Entry::Occupied(mut count) = self.popularity.entry(hash) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        self.paths.release(predicate.path);
    }

    /// Appends the subscriptions that match, each once, in no particular order.
    pub fn matches(&self, view: &View<'_>, scratch: &mut Scratch, matched: &mut Vec<K>) {
        scratch.begin(self.subscriptions.slots(), self.patterns.slots());
        scratch.values.read(&self.paths, view);
        scratch.candidates.clear();
        self.root.collect(&scratch.values, view, &mut scratch.candidates);
        if scratch.candidates.len() > 1 {
            view.remember();
        }
        for id in &scratch.candidates {
            let number = id.number();
            // Another alternative of the subscription may have been here before.
            if !id.is_only() {
                let round = &mut scratch.verified[number as usize];
                if std::mem::replace(round, scratch.round) == scratch.round {
                    continue;
                }
            }
            let Some(subscription) = self.subscriptions.get(number) else { continue };
            let of_type = &mut scratch.types[subscription.pattern as usize];
            if of_type.0 != scratch.round {
                let matches = self.patterns.matches(subscription.pattern, view.event_type());
                *of_type = (scratch.round, matches);
            }
            if of_type.1 && subscription.takes(view) {
                matched.push(subscription.key);
            }
        }
        view.forget();
    }

    /// What [`Index::matches`] must find, by trying every subscription: the oracle of its tests.
    pub fn scan(&self, view: &View<'_>, matched: &mut Vec<K>) {
        let taking = self.subscriptions.iter().filter(|subscription| {
            self.patterns.matches(subscription.pattern, view.event_type())
                && subscription.takes(view)
        });
        matched.extend(taking.map(|subscription| subscription.key));
    }

    /// Orders the predicates of an alternative: what few others share and events seldom meet is
    /// first. Only speed hangs on it.
    fn score(&self, predicate: &Predicate) -> u64 {
        let shared: u64 = predicate
            .hashes()
            .map(|hash| self.popularity.get(&hash).copied().unwrap_or(0))
            .map(u64::from)
            .sum();
        let kind = match &predicate.test {
            Test::Equal(_) => 0,
            Test::In(values) => values.len() as u64,
            Test::Prefix(_) | Test::Suffix(_) => 8,
            // Beyond any count: an equality that many share is divided by the range later.
            Test::Range(range) if range.low > u128::MIN && range.high < u128::MAX => 1 << 40,
            Test::Range(_) => 1 << 41,
            Test::Exists => 1 << 42,
        };
        // Types are shared as a rule, and by those that come next.
        kind + shared + if predicate.of_type { 16 } else { 0 }
    }
}

impl<K> Subscription<K> {
    /// Of an event whose type matches.
    fn takes(&self, view: &View<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(view))
    }
}

impl Scratch {
    fn begin(&mut self, subscriptions: usize, patterns: usize) {
        if self.verified.len() < subscriptions {
            self.verified.resize(subscriptions, 0);
        }
        if self.types.len() < patterns {
            self.types.resize(patterns, (0, false));
        }
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.verified.fill(0);
            self.types.fill((0, false));
            self.round = 1;
        }
    }
}

/// Values by number; numbers are given again after a removal.
struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn put(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self.slots[number as usize] = Some(value);
            return number;
        }
        let number =
            u32::try_from(self.slots.len()).expect("fewer than 2^32 subscriptions fit in memory");
        self.slots.push(Some(value));
        number
    }

    fn get(&self, number: u32) -> Option<&T> {
        self.slots[number as usize].as_ref()
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.slots[number as usize].as_mut()
    }

    fn take(&mut self, number: u32) -> Option<T> {
        let value = self.slots[number as usize].take();
        if value.is_some() {
            self.free.push(number);
        }
        value
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }
}
