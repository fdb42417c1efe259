//! What many subscriptions have in common, held once: type patterns and the steps of paths.
//!
//! Besides memory this saves time: what all candidates of an event look at stays in the cache.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Slab;
use crate::{
    domain::TypePattern,
    filter::{Filter, ast::Step},
};

/// Type patterns by number.
#[derive(Default)]
pub(super) struct Patterns {
    patterns: Slab<(TypePattern, u32)>,
    numbers: FxHashMap<TypePattern, u32>,
}

impl Patterns {
    /// The number of a pattern, which is kept for this user until [`Patterns::release`].
    pub(super) fn acquire(&mut self, pattern: TypePattern) -> u32 {
        if let Some(number) = self.numbers.get(&pattern) {
            if let Some((_, users)) = self.patterns.get_mut(*number) {
                *users += 1;
            }
            return *number;
        }
        let number = self.patterns.put((pattern.clone(), 1));
        self.numbers.insert(pattern, number);
        number
    }

    pub(super) fn release(&mut self, number: u32) {
        let Some((pattern, users)) = self.patterns.get_mut(number) else { return };
        *users -= 1;
        if *users == 0 {
            self.numbers.remove(pattern);
            self.patterns.take(number);
        }
    }

    /// One more than the highest number.
    pub(super) fn slots(&self) -> usize {
        self.patterns.slots()
    }

    pub(super) fn matches(&self, number: u32, event_type: &str) -> bool {
        self.patterns.get(number).is_some_and(|(pattern, _)| pattern.matches(event_type))
    }
}

/// Steps of paths. Those that no filter has any more are dropped when the set has doubled.
#[derive(Default)]
pub(super) struct Steps {
    known: FxHashSet<Arc<[Step]>>,
    sweep_at: usize,
}

/// Fewer steps than this are never swept.
const SWEEP_MIN: usize = 1_024;

impl Steps {
    /// Makes the paths of a filter the known ones. A filter that others hold too is copied.
    pub(super) fn share(&mut self, filter: &mut Filter) {
        if self.known.len() > self.sweep_at.max(SWEEP_MIN) {
            self.known.retain(|steps| Arc::strong_count(steps) > 1);
            self.sweep_at = self.known.len() * 2;
        }
        for clause in Arc::make_mut(&mut filter.0) {
            clause.each_path(&mut |path| match self.known.get(&path.steps) {
                Some(known) => path.steps = Arc::clone(known),
                None => _ = self.known.insert(Arc::clone(&path.steps)),
            });
        }
    }
}
