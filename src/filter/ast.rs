//! What a filter says: its expression tree, in one normal form per meaning-preserving spelling.
//!
//! The parser flattens nested `&&` and `||` and drops needless parentheses, so that printing a
//! tree and parsing the text again gives the same tree.

use std::sync::Arc;

use super::{number::Decimal, plain::Plain, text::Text};

/// A condition: true or false for an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    /// Two or more, none of them an `Or`.
    Or(Box<[Expr]>),
    /// Two or more, none of them an `And`.
    And(Box<[Expr]>),
    /// Anything but a `Not`.
    Not(Box<Expr>),
    Compare(Comparison),
    /// Equal to one of the literals; the list is never empty.
    In(Operand, Box<[Literal]>),
    /// The path selects something.
    Exists(Path),
    /// `starts_with`, `ends_with`, `contains`.
    Text(TextTest, Box<(Operand, Operand)>),
    /// `match`, `search`.
    Matches(Operand, Box<Pattern>),
}

impl Expr {
    /// Shows the paths to one value outside of `[?…]`.
    pub(crate) fn each_path(&mut self, visit: &mut impl FnMut(&mut Singular)) {
        match self {
            Self::Or(parts) | Self::And(parts) => {
                parts.iter_mut().for_each(|part| part.each_path(visit));
            }
            Self::Not(inner) => inner.each_path(visit),
            Self::Compare(comparison) => {
                comparison.left.each_path(visit);
                comparison.right.each_path(visit);
            }
            Self::In(operand, _) | Self::Matches(operand, _) => operand.each_path(visit),
            Self::Exists(Path::One(path)) => visit(path),
            Self::Exists(Path::Many(_)) => {}
            Self::Text(_, operands) => {
                operands.0.each_path(visit);
                operands.1.each_path(visit);
            }
        }
    }
}

impl Operand {
    fn each_path(&mut self, visit: &mut impl FnMut(&mut Singular)) {
        match self {
            Self::Path(path) => visit(path),
            Self::Length(inner) => inner.each_path(visit),
            Self::Literal(_) | Self::Count(_) | Self::Value(_) => {}
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) left: Operand,
    pub(crate) operator: Operator,
    pub(crate) right: Operand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// The operator that says the same with the sides exchanged.
    pub(crate) const fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

impl TextTest {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::StartsWith => "starts_with",
            Self::EndsWith => "ends_with",
            Self::Contains => "contains",
        }
    }
}

/// A regular expression, compiled when the filter was parsed.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) source: Box<str>,
    /// `match`: the whole text; else `search`: any part of it.
    pub(crate) whole: bool,
    pub(crate) regex: regex::Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.whole == other.whole
    }
}

/// Something with one value, or none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Literal(Literal),
    Path(Singular),
    Length(Box<Operand>),
    Count(Box<Path>),
    /// The value of the only node that a path selects.
    Value(Box<Path>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Number(Decimal),
    String(Text),
}

/// A path to any number of nodes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Path {
    One(Singular),
    Many(Box<Query>),
}

/// A path to at most one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Singular {
    pub(crate) root: Root,
    /// Shared by all filters of an index that have this path.
    pub(crate) steps: Arc<[Step]>,
}

/// Where a path starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Root {
    /// `$`, the payload.
    Payload,
    /// `@`, the node under test in `[?…]`.
    Current,
    EventType,
    Source,
    Subject,
    /// Always with one step, the attribute's name.
    Extensions,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Name(Box<str>),
    Index(i64),
}

/// A path that may select many nodes. Starts at the payload or the current node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    pub(crate) root: Root,
    pub(crate) segments: Box<[Segment]>,
    /// Set where jsonpath_lib answers as RFC 9535 does.
    pub(crate) plain: Option<Plain>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Segment {
    /// `..`: of the node and all within it, not of the node alone.
    pub(crate) descendant: bool,
    /// One or more.
    pub(crate) selectors: Box<[Selector]>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Selector {
    Name(Box<str>),
    Index(i64),
    Wildcard,
    Slice { start: Option<i64>, end: Option<i64>, step: i64 },
    Filter(Box<Expr>),
}
