//! What must hold before a filter can: predicates on single values, which can be looked up.
//!
//! They are necessary conditions only. Whatever has no such form (`!=`, `contains`, paths to many
//! nodes, most negations) is left out here and decided when the candidate is verified; so leaving
//! out is always right, and only makes more candidates.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use super::{
    super::{
        Filter,
        ast::{Comparison, Expr, Literal, Operand, Operator, Path, Root, Singular, TextTest},
        number::Decimal,
    },
    paths::{PathId, Paths},
};
use crate::domain::TypePattern;

/// More alternatives than this are not told apart; the part of the filter they come from is left
/// to verification.
const ALTERNATIVES_MAX: usize = 16;

/// A condition on the value at a path.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Predicate {
    pub(super) path: PathId,
    pub(super) test: Test,
    /// On `event.type`, and made from the subscription's pattern.
    pub(super) of_type: bool,
}

/// Values stand as hashes and ranks: what shares one by chance is told apart when verified.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    Equal(u64),
    In(Box<[u64]>),
    Prefix(Affix),
    Suffix(Affix),
    /// Boxed, for it is the largest by far.
    Range(Box<Range>),
    Exists,
}

/// The beginning or the end of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Affix {
    pub(super) hash: u64,
    /// In bytes, not 0.
    pub(super) length: u32,
}

/// Ranks, both included, `low <= high`. The outermost ranks stand for no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) family: Family,
    pub(super) low: u128,
    pub(super) high: u128,
}

/// Numbers and strings have an order, each their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Number,
    String,
}

impl Predicate {
    /// Hashes of the values it asks for, by which its popularity is counted.
    pub(super) fn hashes(&self) -> impl Iterator<Item = u64> {
        let hashes: &[u64] = match &self.test {
            Test::Equal(hash)
            | Test::Prefix(Affix { hash, .. })
            | Test::Suffix(Affix { hash, .. }) => std::slice::from_ref(hash),
            Test::In(hashes) => hashes,
            _ => &[],
        };
        let salt = u64::from(self.path).rotate_left(40);
        hashes.iter().map(move |hash| hash ^ salt)
    }
}

pub(super) fn hash_null() -> u64 {
    hash(0, ())
}

pub(super) fn hash_bool(value: bool) -> u64 {
    hash(1, value)
}

pub(super) fn hash_number(value: &Decimal) -> u64 {
    hash(2, value)
}

pub(super) fn hash_string(text: &str) -> u64 {
    hash(3, text)
}

pub(super) fn hash_prefix(text: &str) -> u64 {
    hash(4, text)
}

pub(super) fn hash_suffix(text: &str) -> u64 {
    hash(5, text)
}

fn hash(kind: u8, value: impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    value.hash(&mut hasher);
    hasher.write_u8(kind);
    // The hasher's low bits depend on few of its input's; places are found by these bits.
    let hash = hasher.finish();
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The first 16 bytes, in the order of strings: `a <= b` implies `rank(a) <= rank(b)`.
pub(super) fn rank_string(text: &str) -> u128 {
    let mut first = [0; 16];
    let length = text.len().min(16);
    first[..length].copy_from_slice(&text.as_bytes()[..length]);
    u128::from_be_bytes(first)
}

/// The ways in which a subscription can match.
pub(super) struct Ways {
    pub(super) alternatives: Vec<Vec<Predicate>>,
    /// Nothing of the filter could be used.
    pub(super) is_residual: bool,
}

/// Takes a subscription apart. The paths of the predicates are acquired from `paths`, once for
/// each predicate.
pub(super) fn alternatives(
    pattern: &TypePattern,
    filter: Option<&Filter>,
    paths: &mut Paths,
) -> Ways {
    let of_filter = filter.map_or_else(anything, |filter| all_of(&filter.0, false));
    let of_type = type_tests(pattern);
    let is_residual = filter.is_some() && of_filter.iter().any(Vec::is_empty);
    let alternatives = of_filter.into_iter().filter_map(merged).map(|tests| {
        let mut predicate = |path: &Singular, test: Test, of_type| Predicate {
            path: paths.acquire(path),
            test,
            of_type,
        };
        let of_filter: Vec<_> =
            tests.into_iter().map(|(path, test)| predicate(path, test, false)).collect();
        let event_type = Singular { root: Root::EventType, steps: [].into() };
        let of_type = of_type.iter().map(|test| predicate(&event_type, test.clone(), true));
        of_filter.into_iter().chain(of_type.collect::<Vec<_>>()).collect()
    });
    Ways { alternatives: alternatives.collect(), is_residual }
}

/// What an exact type or the outer segments of a pattern ask of the type.
fn type_tests(pattern: &TypePattern) -> Vec<Test> {
    let text = pattern.as_str();
    if pattern.is_exact() {
        return vec![Test::Equal(hash_string(text))];
    }
    // `a.**` takes `a` itself too, `a.*` only what goes on after the dot.
    let many = |wild: &str| wild.trim_matches('.').split('.').next() == Some("**");
    let mut tests = Vec::new();
    let first = text.find('*').unwrap_or(0);
    let prefix =
        if many(&text[first..]) { text[..first].trim_end_matches('.') } else { &text[..first] };
    if !prefix.is_empty() {
        tests.push(Test::Prefix(Affix { hash: hash_prefix(prefix), length: narrow(prefix) }));
    }
    let after = text.rfind('*').map_or(text.len(), |last| last + 1);
    let suffix = if text[..after].ends_with("**") {
        text[after..].trim_start_matches('.')
    } else {
        &text[after..]
    };
    if !suffix.is_empty() {
        tests.push(Test::Suffix(Affix { hash: hash_suffix(suffix), length: narrow(suffix) }));
    }
    tests
}

fn narrow(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

/// Tests that must hold together.
type All<'f> = Vec<(&'f Singular, Test)>;

/// One alternative that asks for nothing.
fn anything<'f>() -> Vec<All<'f>> {
    vec![Vec::new()]
}

/// Alternatives, one of which must hold for `expr`, or for its negation, to hold.
fn any_of(expr: &Expr, negated: bool) -> Vec<All<'_>> {
    match (expr, negated) {
        (Expr::Not(inner), _) => any_of(inner, !negated),
        (Expr::And(parts), false) | (Expr::Or(parts), true) => all_of(parts, negated),
        (Expr::Or(parts), false) | (Expr::And(parts), true) => {
            let mut union = Vec::new();
            for part in parts {
                union.extend(any_of(part, negated));
            }
            // An alternative without tests is met by every event, and so makes the others idle.
            if union.len() > ALTERNATIVES_MAX || union.iter().any(Vec::is_empty) {
                return anything();
            }
            union
        }
        (leaf, negated) => vec![tests(leaf, negated).into_iter().collect()],
    }
}

fn all_of(parts: &[Expr], negated: bool) -> Vec<All<'_>> {
    let mut product = anything();
    for part in parts {
        let factor = any_of(part, negated);
        if product.len() * factor.len() > ALTERNATIVES_MAX {
            continue;
        }
        let combined = product
            .iter()
            .flat_map(|left| factor.iter().map(move |right| [&left[..], &right[..]].concat()));
        product = combined.collect();
    }
    product
}

/// The test that a comparison or a function implies. Negated leaves have none, but for `!=`: to
/// say that `$.a > 5` is false says nothing of the value, which may be a string or absent.
fn tests(leaf: &Expr, negated: bool) -> Option<(&Singular, Test)> {
    match leaf {
        Expr::Compare(comparison) => of_comparison(comparison, negated),
        _ if negated => None,
        Expr::In(Operand::Path(path), list) => {
            let mut hashes: Vec<u64> = list.iter().map(hash_literal).collect();
            // The same value twice must be filed once, to be removed once.
            hashes.sort_unstable();
            hashes.dedup();
            Some((path, Test::In(hashes.into())))
        }
        Expr::Exists(Path::One(path)) => Some((path, Test::Exists)),
        Expr::Text(test, operands) => of_text(*test, &operands.0, &operands.1),
        Expr::Matches(Operand::Path(path), _) => Some((path, Test::Exists)),
        _ => None,
    }
}

fn of_text<'f>(test: TextTest, whole: &'f Operand, part: &Operand) -> Option<(&'f Singular, Test)> {
    let Operand::Path(path) = whole else { return None };
    let test = match (test, part) {
        (TextTest::StartsWith, Operand::Literal(Literal::String(text))) if !text.is_empty() => {
            Test::Prefix(Affix { hash: hash_prefix(text), length: narrow(text) })
        }
        (TextTest::EndsWith, Operand::Literal(Literal::String(text))) if !text.is_empty() => {
            Test::Suffix(Affix { hash: hash_suffix(text), length: narrow(text) })
        }
        _ => Test::Exists,
    };
    Some((path, test))
}

fn of_comparison(comparison: &Comparison, negated: bool) -> Option<(&Singular, Test)> {
    let Comparison { left, operator, right } = comparison;
    let (path, operator, literal) = match (left, right) {
        (Operand::Path(path), Operand::Literal(literal)) => (path, *operator, literal),
        (Operand::Literal(literal), Operand::Path(path)) => (path, operator.mirrored(), literal),
        // Neither can be absent, for what is absent has no order.
        (Operand::Path(path), Operand::Path(_)) if !negated => {
            let ordered = matches!(operator, Operator::Less | Operator::Greater);
            return ordered.then_some((path, Test::Exists));
        }
        _ => return None,
    };
    let operator = match (operator, negated) {
        (operator, false) => operator,
        (Operator::NotEqual, true) => Operator::Equal,
        _ => return None,
    };
    let ranked = match literal {
        Literal::Number(number) => Some((Family::Number, number.rank())),
        Literal::String(text) => Some((Family::String, rank_string(text))),
        Literal::Null | Literal::Bool(_) => None,
    };
    let range = |family, low, high| Test::Range(Box::new(Range { family, low, high }));
    let test = match (operator, ranked) {
        (Operator::Equal, _) => Test::Equal(hash_literal(literal)),
        (Operator::Greater | Operator::GreaterOrEqual, Some((family, rank))) => {
            range(family, rank, u128::MAX)
        }
        (Operator::Less | Operator::LessOrEqual, Some((family, rank))) => {
            range(family, u128::MIN, rank)
        }
        // Without an order, `<=` and `>=` are `==`.
        (Operator::LessOrEqual | Operator::GreaterOrEqual, None) => {
            Test::Equal(hash_literal(literal))
        }
        (Operator::NotEqual | Operator::Less | Operator::Greater, _) => return None,
    };
    Some((path, test))
}

fn hash_literal(literal: &Literal) -> u64 {
    match literal {
        Literal::Null => hash_null(),
        Literal::Bool(value) => hash_bool(*value),
        Literal::Number(number) => hash_number(number),
        Literal::String(text) => hash_string(text),
    }
}

/// Makes one range of the bounds on a path; `None` if no value can pass both.
fn merged(tests: All<'_>) -> Option<All<'_>> {
    let mut merged: All<'_> = Vec::with_capacity(tests.len());
    for (path, test) in tests {
        let Test::Range(range) = &test else {
            if !merged.contains(&(path, test.clone())) {
                merged.push((path, test));
            }
            continue;
        };
        let earlier = merged.iter_mut().find_map(|(other, test)| match test {
            Test::Range(earlier) if *other == path && earlier.family == range.family => {
                Some(earlier)
            }
            _ => None,
        });
        match earlier {
            Some(earlier) => {
                earlier.low = earlier.low.max(range.low);
                earlier.high = earlier.high.min(range.high);
                if earlier.low > earlier.high {
                    return None;
                }
            }
            None => merged.push((path, test)),
        }
    }
    Some(merged)
}
