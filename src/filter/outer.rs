//! Values from outside of a `[?…]`, looked up once instead of once for every element under test.
//!
//! Without this, `$.a[?@ == $.b[50000]]` would walk `$.b` again for each element of `$.a`.

use super::{
    ast::{Expr, Operand, Path, Root, Selector, Singular},
    eval::{Scope, Value},
};

/// A path that does not start at `@`, by the address of its steps, and its value.
pub(crate) type Outer<'v> = (usize, Option<Value<'v>>);

/// The outer values that an expression in `[?…]` asks for, those of `[?…]` within it included.
pub(crate) fn values<'v>(expr: &Expr, scope: Scope<'v, '_>) -> Vec<Outer<'v>> {
    let mut values = Vec::new();
    of_expr(expr, &mut |path| {
        if path.root != Root::Current {
            values.push((address(path), scope.view.value(path, None)));
        }
    });
    values
}

/// The outer value of a path, borrowed; `None` for a path from `@`.
pub(crate) fn known<'v>(path: &Singular, outer: &'v [Outer<'v>]) -> Option<Option<Value<'v>>> {
    if path.root == Root::Current {
        return None;
    }
    let (_, value) = outer.iter().find(|(steps, _)| *steps == address(path))?;
    Some(value.as_ref().map(Value::borrowed))
}

/// Unique while the filter lives; paths of equal steps may share them, but not from other roots.
fn address(path: &Singular) -> usize {
    path.steps.as_ptr().addr() ^ (path.root as usize)
}

fn of_expr(expr: &Expr, visit: &mut dyn FnMut(&Singular)) {
    match expr {
        Expr::Or(parts) | Expr::And(parts) => parts.iter().for_each(|part| of_expr(part, visit)),
        Expr::Not(inner) => of_expr(inner, visit),
        Expr::Compare(comparison) => {
            of_operand(&comparison.left, visit);
            of_operand(&comparison.right, visit);
        }
        Expr::In(operand, _) | Expr::Matches(operand, _) => of_operand(operand, visit),
        Expr::Exists(path) => of_path(path, visit),
        Expr::Text(_, operands) => {
            of_operand(&operands.0, visit);
            of_operand(&operands.1, visit);
        }
    }
}

fn of_operand(operand: &Operand, visit: &mut dyn FnMut(&Singular)) {
    match operand {
        Operand::Literal(_) => {}
        Operand::Path(path) => visit(path),
        Operand::Length(inner) => of_operand(inner, visit),
        Operand::Count(path) | Operand::Value(path) => of_path(path, visit),
    }
}

fn of_path(path: &Path, visit: &mut dyn FnMut(&Singular)) {
    match path {
        Path::One(path) => visit(path),
        Path::Many(query) => {
            for selector in query.segments.iter().flat_map(|segment| &segment.selectors) {
                if let Selector::Filter(expr) = selector {
                    of_expr(expr, visit);
                }
            }
        }
    }
}
