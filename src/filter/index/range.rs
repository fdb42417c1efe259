//! Alternatives filed under a range of ranks: which of them hold a point.
//!
//! One-sided ranges are sorted by their bound, so a point finds its own as one run. Two-sided ones
//! are sorted by their lower bound among those of like width: what holds a point then begins at
//! most one width before it. Seldom does such a run have a range that ends before the point, and
//! never one for each of a popular pair of bounds, for equal ranges are one place.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{
    AlternativeId,
    part::{Change, Place},
    paths::Values,
    predicate::Range,
};
use crate::filter::View;

#[derive(Default)]
pub(super) struct Ranges {
    /// Lower bounds: met by what is not below.
    from: BTreeMap<u128, Place>,
    up_to: BTreeMap<u128, Place>,
    between: Vec<Class>,
}

/// Two-sided ranges whose width is at least `2^octave` and less than twice that.
struct Class {
    octave: u32,
    /// No range is wider, begins before, or ends after these. Removals leave them as they are.
    widest: u128,
    lowest: u128,
    highest: u128,
    /// By both bounds.
    ranges: BTreeMap<(u128, u128), Place>,
}

impl Class {
    fn of(octave: u32) -> Self {
        Self { octave, widest: 0, lowest: u128::MAX, highest: u128::MIN, ranges: BTreeMap::new() }
    }
}

fn octave(low: u128, high: u128) -> u32 {
    (high - low).checked_ilog2().unwrap_or(0)
}

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.from.is_empty() && self.up_to.is_empty() && self.between.is_empty()
    }

    pub(super) fn add(&mut self, range: &Range, change: Change<'_>) {
        match (range.low, range.high) {
            (low, u128::MAX) => self.from.entry(low).or_default().add(change),
            (u128::MIN, high) => self.up_to.entry(high).or_default().add(change),
            (low, high) => {
                let class = self.class(octave(low, high));
                class.widest = class.widest.max(high - low);
                class.lowest = class.lowest.min(low);
                class.highest = class.highest.max(high);
                class.ranges.entry((low, high)).or_default().add(change);
            }
        }
    }

    fn class(&mut self, octave: u32) -> &mut Class {
        let known = self.between.iter().position(|class| class.octave == octave);
        let at = known.unwrap_or_else(|| {
            self.between.push(Class::of(octave));
            self.between.len() - 1
        });
        &mut self.between[at]
    }

    pub(super) fn remove(&mut self, range: &Range, change: Change<'_>) {
        match (range.low, range.high) {
            (low, u128::MAX) => remove_at(&mut self.from, low, change),
            (u128::MIN, high) => remove_at(&mut self.up_to, high, change),
            (low, high) => {
                remove_at(&mut self.class(octave(low, high)).ranges, (low, high), change);
                self.between.retain(|class| !class.ranges.is_empty());
            }
        }
    }

    pub(super) fn collect(
        &self,
        point: u128,
        values: &Values,
        view: &View<'_>,
        found: &mut Vec<AlternativeId>,
    ) {
        for (_, place) in self.from.range(..=point) {
            place.collect(values, view, found);
        }
        for (_, place) in self.up_to.range(point..) {
            place.collect(values, view, found);
        }
        // Ranks grow with a number's magnitude, so ranges of other magnitudes are of other classes.
        let near = |class: &&Class| class.lowest <= point && point <= class.highest;
        for class in self.between.iter().filter(near) {
            let first = (point.saturating_sub(class.widest), 0);
            for ((_, high), place) in class.ranges.range(first..=(point, u128::MAX)) {
                if *high >= point {
                    place.collect(values, view, found);
                }
            }
        }
    }
}

fn remove_at<B: Ord>(places: &mut BTreeMap<B, Place>, bound: B, change: Change<'_>) {
    let Entry::Occupied(mut entry) = places.entry(bound) else { return };
    entry.get_mut().remove(change);
    if entry.get().is_empty() {
        entry.remove();
    }
}
