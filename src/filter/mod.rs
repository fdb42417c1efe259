//! Filters: the language that says which events a subscription takes, and the index that answers
//! for all subscriptions at once.
//!
//! A filter is a logical expression as in RFC 9535 filters with `$` the payload
//! (`docs/filters.md` is its description for users). It is parsed once into an expression tree
//! ([`ast`]), printed back in one canonical form, and evaluated on a [`View`] of an event, which
//! reads the payload in place. [`Index`] finds the filters that can match an event without trying
//! each; both verify with the same evaluator. Pure: no I/O, no clock, no threads.

mod ast;
mod cost;
mod error;
mod eval;
mod explain;
mod index;
mod json;
mod key;
mod lexer;
mod number;
mod outer;
mod parser;
mod pattern;
mod plain;
mod print;
mod select;
mod text;
mod view;

use std::{fmt, str::FromStr, sync::Arc};

pub use error::Error;
pub use explain::WhyNot;
pub use index::{Index, Scratch};
pub use key::KeyPath;
pub use view::View;

use ast::Expr;
use eval::Scope;

/// Longest filter, in bytes of its text.
pub const SOURCE_BYTES_MAX: usize = 1_024;

/// Deepest nesting of parentheses, functions and `[…]` in a filter.
pub const DEPTH_MAX: usize = 32;

/// Highest cost of a filter: comparisons count one, multi-node paths multiply (`docs/filters.md`).
pub const COST_MAX: u64 = 1_024;

/// A filter that was checked. Cheap to clone; matching it cannot fail.
///
/// Holds the clauses that must all hold, one or more, none of them an `And`: one step less to
/// what an index of 100,000 filters has to fetch from memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(Arc<[Expr]>);

impl Filter {
    /// Parses a filter. The error says where and what was expected.
    pub fn parse(source: &str) -> Result<Self, Error> {
        Ok(Self(match parser::filter(source)? {
            Expr::And(clauses) => clauses.into(),
            clause => Arc::new([clause]),
        }))
    }

    #[must_use]
    pub fn matches(&self, view: &View<'_>) -> bool {
        self.0.iter().all(|clause| eval::holds(clause, Scope::of(view)))
    }

    /// The first clause that fails for the event; `None` if the filter matches.
    #[must_use]
    pub fn explain(&self, view: &View<'_>) -> Option<WhyNot> {
        explain::first_failure(&self.0, Scope::of(view))
    }
}

impl FromStr for Filter {
    type Err = Error;
    fn from_str(source: &str) -> Result<Self, Error> {
        Self::parse(source)
    }
}

/// The canonical text: parsing it gives an equal filter.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print::all(f, &self.0)
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
