//! Why a filter did not match: the first clause that failed, and what it saw.

use std::{borrow::Cow, fmt::Write};

use super::{
    ast::{Expr, Operand, Path, Singular},
    eval::{self, Scope},
    print, select,
};

/// Longer values are shown by their beginning.
const VALUE_BYTES_MAX: usize = 1_000;

/// The first clause of a filter that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyNot {
    /// Its canonical text. Of alternatives (`||`), which failed together, all of them.
    pub clause: String,
    /// What it saw, as JSON text; `None` if that was absent. A clause that looks at several places
    /// shows an object with a member for each that is present, such as `{"$.a":1,"$.b":"x"}`.
    pub value: Option<String>,
}

/// The first of the clauses that fails; `None` if all hold.
pub(crate) fn first_failure(clauses: &[Expr], scope: Scope<'_, '_>) -> Option<WhyNot> {
    let expr = clauses.iter().find(|clause| !eval::holds(clause, scope))?;
    let mut seen = Vec::new();
    collect(expr, scope, &mut seen);
    Some(WhyNot { clause: expr.to_string(), value: shown(seen) })
}

/// A place that a clause looked at, and the JSON text it found there.
type Seen = (String, Option<String>);

fn shown(seen: Vec<Seen>) -> Option<String> {
    if let [(_, value)] = &seen[..] {
        return value.clone();
    }
    let mut text = String::new();
    for (place, value) in seen {
        let Some(value) = value else { continue };
        text.push(if text.is_empty() { '{' } else { ',' });
        // Writing into a string cannot fail.
        let _ = print::quote(&mut text, &place);
        let _ = write!(text, ":{value}");
    }
    if text.is_empty() {
        return None;
    }
    text.push('}');
    Some(text)
}

fn collect(expr: &Expr, scope: Scope<'_, '_>, seen: &mut Vec<Seen>) {
    match expr {
        Expr::Or(parts) | Expr::And(parts) => {
            parts.iter().for_each(|part| collect(part, scope, seen));
        }
        Expr::Not(inner) => collect(inner, scope, seen),
        Expr::Compare(comparison) => {
            operand(&comparison.left, scope, seen);
            operand(&comparison.right, scope, seen);
        }
        Expr::In(left, _) | Expr::Matches(left, _) => operand(left, scope, seen),
        Expr::Exists(Path::One(path)) => singular(path, scope, seen),
        Expr::Exists(path @ Path::Many(_)) => {
            let found = select::exists(path, scope).then(|| select::count(path, scope).to_string());
            add(format!("count({path})"), found, seen);
        }
        Expr::Text(_, operands) => {
            operand(&operands.0, scope, seen);
            operand(&operands.1, scope, seen);
        }
    }
}

fn operand(operand_: &Operand, scope: Scope<'_, '_>, seen: &mut Vec<Seen>) {
    match operand_ {
        Operand::Literal(_) => {}
        Operand::Path(path) => singular(path, scope, seen),
        Operand::Length(inner) => operand(inner, scope, seen),
        Operand::Count(path) => {
            let count = select::count(path, scope).to_string();
            add(operand_.to_string(), Some(count), seen);
        }
        Operand::Value(path) => match &**path {
            Path::One(path) => singular(path, scope, seen),
            Path::Many(query) => {
                let node = select::only(query, scope);
                add(operand_.to_string(), node.map(|node| cut(node.text().into())), seen);
            }
        },
    }
}

fn singular(path: &Singular, scope: Scope<'_, '_>, seen: &mut Vec<Seen>) {
    let text: Option<Cow<'_, str>> = match scope.view.attribute(path.root) {
        Some(text) => {
            let mut quoted = String::new();
            let _ = print::quote(&mut quoted, text);
            Some(quoted.into())
        }
        None => scope.view.node(path, scope.current).map(|node| node.text().into()),
    };
    add(path.to_string(), text.map(cut), seen);
}

fn add(place: String, value: Option<String>, seen: &mut Vec<Seen>) {
    if seen.iter().all(|(known, _)| *known != place) {
        seen.push((place, value));
    }
}

/// Keeps a JSON text that is short; of a long one the beginning, as a JSON string.
fn cut(text: Cow<'_, str>) -> String {
    if text.len() <= VALUE_BYTES_MAX {
        return text.into_owned();
    }
    let end = text.floor_char_boundary(VALUE_BYTES_MAX);
    let mut short = String::new();
    let _ = print::quote(&mut short, &format!("{}… ({} bytes)", &text[..end], text.len()));
    short
}
