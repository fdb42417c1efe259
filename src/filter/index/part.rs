//! One level of the index: alternatives filed under one predicate each, by path and value.

use std::collections::hash_map;

use rustc_hash::FxHashMap;

use super::{
    AlternativeId, Alternatives, LEVELS,
    paths::{PathId, Value, Values},
    predicate::{Affix, Family, Test, hash_prefix, hash_suffix},
    range::Ranges,
};
use crate::filter::View;

/// More alternatives than this in one place are divided by their next predicate.
const CROWD: usize = 32;

/// Alternatives that share the predicates of the levels above.
#[derive(Default)]
pub(super) struct Part {
    paths: FxHashMap<PathId, Box<OfPath>>,
    /// Those without another predicate: candidates for every event that comes here.
    always: Vec<AlternativeId>,
}

/// What is filed under the value at one path.
#[derive(Default)]
struct OfPath {
    equal: FxHashMap<u64, Place>,
    prefixes: Affixes,
    suffixes: Affixes,
    numbers: Ranges,
    strings: Ranges,
    exists: Place,
}

/// Prefixes or suffixes: for each length in use, in bytes, the places by hash. A value is cut to
/// each length; short ones are few, and so stay in the cache.
#[derive(Default)]
struct Affixes(Vec<(u32, FxHashMap<u64, Place>)>);

/// Alternatives filed in one place.
#[derive(Default)]
pub(super) enum Place {
    #[default]
    Empty,
    One(AlternativeId),
    Several(Vec<AlternativeId>),
    Divided(Box<Part>),
}

/// What all changes need to know: where alternatives are, and at which level we stand.
#[derive(Clone, Copy)]
pub(super) struct Change<'i> {
    id: AlternativeId,
    level: usize,
    alternatives: &'i Alternatives,
}

impl Part {
    /// Files an alternative under its predicate number `level`.
    pub(super) fn add(&mut self, id: AlternativeId, level: usize, alternatives: &Alternatives) {
        let predicate = alternatives.predicate(id, level);
        match predicate {
            Some(predicate) => {
                let change = Change { id, level, alternatives };
                self.paths.entry(predicate.path).or_default().add(&predicate.test, change);
            }
            None => self.always.push(id),
        }
    }

    /// Undoes [`Part::add`]. The alternative must still be as it was then.
    pub(super) fn remove(&mut self, id: AlternativeId, level: usize, alternatives: &Alternatives) {
        let predicate = alternatives.predicate(id, level);
        match predicate {
            Some(predicate) => {
                let hash_map::Entry::Occupied(mut entry) = self.paths.entry(predicate.path) else {
                    return;
                };
                entry.get_mut().remove(&predicate.test, Change { id, level, alternatives });
                if entry.get().is_empty() {
                    entry.remove();
                }
            }
            None => {
                if let Some(at) = self.always.iter().position(|other| *other == id) {
                    self.always.swap_remove(at);
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.always.is_empty()
    }

    /// Appends what the event's values lead to.
    pub(super) fn collect(&self, values: &Values, view: &View<'_>, found: &mut Vec<AlternativeId>) {
        found.extend_from_slice(&self.always);
        if self.paths.len() <= values.present().len() {
            for (path, filed) in &self.paths {
                if let Some(value) = values.get(*path) {
                    filed.collect(value, values, view, found);
                }
            }
        } else {
            for path in values.present() {
                if let (Some(filed), Some(value)) = (self.paths.get(path), values.get(*path)) {
                    filed.collect(value, values, view, found);
                }
            }
        }
    }
}

impl OfPath {
    fn add(&mut self, test: &Test, change: Change<'_>) {
        match test {
            Test::Equal(hash) => self.equal.entry(*hash).or_default().add(change),
            Test::In(hashes) => {
                for hash in hashes {
                    self.equal.entry(*hash).or_default().add(change);
                }
            }
            Test::Prefix(affix) => self.prefixes.add(*affix, change),
            Test::Suffix(affix) => self.suffixes.add(*affix, change),
            Test::Range(range) => self.ranges(range.family).add(range, change),
            Test::Exists => self.exists.add(change),
        }
    }

    fn remove(&mut self, test: &Test, change: Change<'_>) {
        match test {
            Test::Equal(hash) => remove_hashed(&mut self.equal, *hash, change),
            Test::In(hashes) => {
                for hash in hashes {
                    remove_hashed(&mut self.equal, *hash, change);
                }
            }
            Test::Prefix(affix) => self.prefixes.remove(*affix, change),
            Test::Suffix(affix) => self.suffixes.remove(*affix, change),
            Test::Range(range) => self.ranges(range.family).remove(range, change),
            Test::Exists => self.exists.remove(change),
        }
    }

    fn ranges(&mut self, family: Family) -> &mut Ranges {
        match family {
            Family::Number => &mut self.numbers,
            Family::String => &mut self.strings,
        }
    }

    fn is_empty(&self) -> bool {
        self.equal.is_empty()
            && self.prefixes.is_empty()
            && self.suffixes.is_empty()
            && self.numbers.is_empty()
            && self.strings.is_empty()
            && self.exists.is_empty()
    }

    fn collect(
        &self,
        value: &Value,
        values: &Values,
        view: &View<'_>,
        found: &mut Vec<AlternativeId>,
    ) {
        self.exists.collect(values, view, found);
        if let Some(place) = self.equal.get(&value.hash) {
            place.collect(values, view, found);
        }
        let Some((family, rank)) = value.rank else { return };
        if family == Family::String && !(self.prefixes.is_empty() && self.suffixes.is_empty()) {
            let text = values.text(value, view);
            self.prefixes.collect(
                |length| text.get(..length).map(hash_prefix),
                values,
                view,
                found,
            );
            let end = |length| text.get(text.len().checked_sub(length)?..).map(hash_suffix);
            self.suffixes.collect(end, values, view, found);
        }
        let ranges = if family == Family::Number { &self.numbers } else { &self.strings };
        ranges.collect(rank, values, view, found);
    }
}

/// Removes from the place at `hash`, and the place itself once it is empty.
fn remove_hashed(places: &mut FxHashMap<u64, Place>, hash: u64, change: Change<'_>) {
    let hash_map::Entry::Occupied(mut entry) = places.entry(hash) else { return };
    entry.get_mut().remove(change);
    if entry.get().is_empty() {
        entry.remove();
    }
}

impl Affixes {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, affix: Affix, change: Change<'_>) {
        let known = self.0.iter().position(|(length, _)| *length == affix.length);
        let at = known.unwrap_or_else(|| {
            self.0.push((affix.length, FxHashMap::default()));
            self.0.len() - 1
        });
        self.0[at].1.entry(affix.hash).or_default().add(change);
    }

    fn remove(&mut self, affix: Affix, change: Change<'_>) {
        let Some(at) = self.0.iter().position(|(length, _)| *length == affix.length) else {
            return;
        };
        remove_hashed(&mut self.0[at].1, affix.hash, change);
        if self.0[at].1.is_empty() {
            self.0.swap_remove(at);
        }
    }

    /// `cut` answers the hash of so many bytes; `None` where they would not be whole characters.
    fn collect(
        &self,
        cut: impl Fn(usize) -> Option<u64>,
        values: &Values,
        view: &View<'_>,
        found: &mut Vec<AlternativeId>,
    ) {
        for (length, places) in &self.0 {
            if let Some(place) = cut(*length as usize).and_then(|hash| places.get(&hash)) {
                place.collect(values, view, found);
            }
        }
    }
}

impl Place {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub(super) fn add(&mut self, change: Change<'_>) {
        let next = change.level + 1;
        match self {
            Self::Empty => *self = Self::One(change.id),
            Self::One(first) => *self = Self::Several(vec![*first, change.id]),
            Self::Several(crowd) if crowd.len() >= CROWD && next < LEVELS => {
                let mut part = Box::<Part>::default();
                for id in crowd.iter().chain([&change.id]) {
                    part.add(*id, next, change.alternatives);
                }
                *self = Self::Divided(part);
            }
            Self::Several(ids) => ids.push(change.id),
            Self::Divided(part) => part.add(change.id, next, change.alternatives),
        }
    }

    pub(super) fn remove(&mut self, change: Change<'_>) {
        let is_empty = match self {
            Self::Empty => true,
            Self::One(id) => *id == change.id,
            Self::Several(ids) => {
                if let Some(at) = ids.iter().position(|id| *id == change.id) {
                    ids.swap_remove(at);
                }
                ids.is_empty()
            }
            Self::Divided(part) => {
                part.remove(change.id, change.level + 1, change.alternatives);
                part.is_empty()
            }
        };
        if is_empty {
            *self = Self::Empty;
        }
    }

    pub(super) fn collect(&self, values: &Values, view: &View<'_>, found: &mut Vec<AlternativeId>) {
        match self {
            Self::Empty => {}
            Self::One(id) => found.push(*id),
            Self::Several(ids) => found.extend_from_slice(ids),
            Self::Divided(part) => part.collect(values, view, found),
        }
    }
}
