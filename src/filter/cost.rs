//! What a filter may cost: a bound on the steps that one event can make it take.

use super::ast::{Expr, Operand, Path, Segment, Selector};

/// Steps of a filter, in units of one look-up. A multi-node path multiplies: what it visits is
/// paid for by every element of the payload.
pub(crate) fn of(expr: &Expr) -> u64 {
    match expr {
        Expr::Or(parts) | Expr::And(parts) => parts.iter().map(of).fold(0, u64::saturating_add),
        Expr::Not(inner) => of(inner),
        Expr::Compare(comparison) => {
            operand(&comparison.left).saturating_add(operand(&comparison.right))
        }
        Expr::In(left, list) => operand(left).saturating_add(list.len() as u64),
        Expr::Exists(target) => path(target),
        Expr::Text(_, operands) => operand(&operands.0).saturating_add(operand(&operands.1)),
        Expr::Matches(subject, _) => operand(subject).saturating_add(2),
    }
}

fn operand(operand_: &Operand) -> u64 {
    match operand_ {
        Operand::Literal(_) => 0,
        Operand::Path(_) => 1,
        Operand::Length(inner) => operand(inner).saturating_add(1),
        Operand::Count(target) | Operand::Value(target) => path(target),
    }
}

fn path(path: &Path) -> u64 {
    match path {
        Path::One(_) => 1,
        Path::Many(query) => query.segments.iter().map(segment).fold(1, u64::saturating_mul),
    }
}

fn segment(segment: &Segment) -> u64 {
    let each = segment.selectors.iter().map(|selector| match selector {
        Selector::Name(_) | Selector::Index(_) => 1,
        Selector::Wildcard | Selector::Slice { .. } => 2,
        Selector::Filter(expr) => of(expr).saturating_add(2),
    });
    let all = each.fold(0, u64::saturating_add);
    if segment.descendant { all.saturating_mul(16) } else { all }
}
