//! The canonical text of a filter: one spelling for each expression tree.

use std::fmt::{self, Display, Formatter, Write};

use super::ast::{
    Comparison, Expr, Literal, Operand, Path, Query, Root, Segment, Selector, Singular, Step,
};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Or(parts) => joined(f, parts, " || ", |_| false),
            Self::And(parts) => all(f, parts),
            Self::Not(inner) if inner.is_test() => write!(f, "!{inner}"),
            Self::Not(inner) => write!(f, "!({inner})"),
            Self::Compare(comparison) => {
                let Comparison { left, operator, right } = comparison;
                write!(f, "{left} {} {right}", operator.as_str())
            }
            Self::In(operand, list) => {
                write!(f, "{operand} in [")?;
                for (at, literal) in list.iter().enumerate() {
                    write!(f, "{}{literal}", if at == 0 { "" } else { ", " })?;
                }
                f.write_char(']')
            }
            Self::Exists(path) => path.fmt(f),
            Self::Text(test, operands) => {
                write!(f, "{}({}, {})", test.as_str(), operands.0, operands.1)
            }
            Self::Matches(subject, pattern) => {
                let name = if pattern.whole { "match" } else { "search" };
                write!(f, "{name}({subject}, ")?;
                quote(f, &pattern.source)?;
                f.write_char(')')
            }
        }
    }
}

impl Expr {
    /// True for what `!` may precede without parentheses.
    pub(crate) fn is_test(&self) -> bool {
        matches!(self, Self::Exists(_) | Self::Text(..) | Self::Matches(..))
    }
}

/// Conditions that must all hold.
pub(crate) fn all(f: &mut Formatter<'_>, parts: &[Expr]) -> fmt::Result {
    joined(f, parts, " && ", |part| parts.len() > 1 && matches!(part, Expr::Or(_)))
}

fn joined(
    f: &mut Formatter<'_>,
    parts: &[Expr],
    operator: &str,
    in_parentheses: impl Fn(&Expr) -> bool,
) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_str(operator)?;
        }
        if in_parentheses(part) { write!(f, "({part})")? } else { part.fmt(f)? }
    }
    Ok(())
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(literal) => literal.fmt(f),
            Self::Path(path) => path.fmt(f),
            Self::Length(operand) => write!(f, "length({operand})"),
            Self::Count(path) => write!(f, "count({path})"),
            Self::Value(path) => write!(f, "value({path})"),
        }
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::String(text) => quote(f, text),
        }
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(path) => path.fmt(f),
            Self::Many(query) => query.fmt(f),
        }
    }
}

impl Display for Root {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Payload => "$",
            Self::Current => "@",
            Self::EventType => "event.type",
            Self::Source => "event.source",
            Self::Subject => "event.subject",
            Self::Extensions => "event.extensions",
        })
    }
}

impl Display for Singular {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)?;
        for step in &*self.steps {
            match step {
                Step::Name(name) => member(f, name, ".")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)?;
        self.segments.iter().try_for_each(|segment| segment.fmt(f))
    }
}

impl Display for Segment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let [Selector::Name(name)] = &*self.selectors {
            return member(f, name, if self.descendant { ".." } else { "." });
        }
        f.write_str(if self.descendant { "..[" } else { "[" })?;
        for (at, selector) in self.selectors.iter().enumerate() {
            write!(f, "{}{selector}", if at == 0 { "" } else { ", " })?;
        }
        f.write_char(']')
    }
}

impl Display for Selector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => quote(f, name),
            Self::Index(index) => index.fmt(f),
            Self::Wildcard => f.write_char('*'),
            Self::Slice { start, end, step } => {
                let bound = |bound: &Option<i64>| bound.map(|n| n.to_string()).unwrap_or_default();
                write!(f, "{}:{}", bound(start), bound(end))?;
                if *step == 1 { Ok(()) } else { write!(f, ":{step}") }
            }
            Self::Filter(expr) => write!(f, "?{expr}"),
        }
    }
}

/// `.name` where the grammar allows it, else `["na me"]`.
fn member(f: &mut Formatter<'_>, name: &str, dots: &str) -> fmt::Result {
    let mut characters = name.chars();
    let is_shorthand = characters.next().is_some_and(starts_name) && characters.all(continues_name);
    if is_shorthand {
        return write!(f, "{dots}{name}");
    }
    f.write_str(if dots == ".." { "..[" } else { "[" })?;
    quote(f, name)?;
    f.write_char(']')
}

/// RFC 9535 `name-first`.
pub(crate) fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

/// RFC 9535 `name-char`.
pub(crate) fn continues_name(c: char) -> bool {
    starts_name(c) || c.is_ascii_digit()
}

/// A JSON string with no more escapes than needed.
pub(crate) fn quote(f: &mut impl Write, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\0'..='\x1f' => write!(f, "\\u{:04x}", u32::from(c))?,
            _ => f.write_char(c)?,
        }
    }
    f.write_char('"')
}
