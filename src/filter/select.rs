//! Paths to many nodes: wildcards, slices, descendants, `[?…]`, as RFC 9535 defines them.

use std::ops::ControlFlow;

use super::{
    ast::{Expr, Path, Query, Root, Segment, Selector},
    eval::{self, Scope},
    json::{Kind, Node},
    outer,
};

/// True if the path selects anything.
pub(crate) fn exists(path: &Path, scope: Scope<'_, '_>) -> bool {
    match path {
        Path::One(path) if scope.current.is_some() => scope.value(path).is_some(),
        Path::One(path) => {
            scope.view.attribute(path.root).is_some() || scope.view.node(path, None).is_some()
        }
        Path::Many(query) => match (&query.plain, scope.view.skeleton_for(query)) {
            (Some(plain), Some(skeleton)) => plain.count(skeleton) > 0,
            _ => walk(query, scope, &mut |_| ControlFlow::Break(())).is_break(),
        },
    }
}

/// How many nodes the path selects; a node found in several ways counts as often.
pub(crate) fn count(path: &Path, scope: Scope<'_, '_>) -> usize {
    match path {
        Path::One(_) => usize::from(exists(path, scope)),
        Path::Many(query) => match (&query.plain, scope.view.skeleton_for(query)) {
            (Some(plain), Some(skeleton)) => plain.count(skeleton),
            _ => {
                let mut count = 0;
                let _ = walk(query, scope, &mut |_| {
                    count += 1;
                    ControlFlow::Continue(())
                });
                count
            }
        },
    }
}

/// The only node that a query selects; `None` if there are none or several.
pub(crate) fn only<'v>(query: &Query, scope: Scope<'v, '_>) -> Option<Node<'v>> {
    if let (Some(plain), Some(skeleton)) = (&query.plain, scope.view.skeleton_for(query)) {
        return plain.only(skeleton, scope.view.payload()?);
    }
    let mut found = None;
    let several = walk(query, scope, &mut |node| {
        if found.replace(node).is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    if several.is_break() { None } else { found }
}

/// Shows every selected node to `visit` until it breaks.
pub(crate) fn walk<'v>(
    query: &Query,
    scope: Scope<'v, '_>,
    visit: &mut dyn FnMut(Node<'v>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let root = match query.root {
        Root::Current => scope.current,
        _ => scope.view.payload(),
    };
    match root {
        Some(root) => segments(&query.segments, root, scope, visit),
        None => ControlFlow::Continue(()),
    }
}

fn segments<'v>(
    segments_: &[Segment],
    node: Node<'v>,
    scope: Scope<'v, '_>,
    visit: &mut dyn FnMut(Node<'v>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let Some((first, rest)) = segments_.split_first() else { return visit(node) };
    let mut next = |node| segments(rest, node, scope, visit);
    if first.descendant {
        descend(&first.selectors, node, scope, &mut next)
    } else {
        select(&first.selectors, node, scope, &mut next)
    }
}

fn descend<'v>(
    selectors: &[Selector],
    node: Node<'v>,
    scope: Scope<'v, '_>,
    visit: &mut dyn FnMut(Node<'v>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    select(selectors, node, scope, visit)?;
    node.children(&mut |child| descend(selectors, child, scope, visit))
}

fn select<'v>(
    selectors: &[Selector],
    node: Node<'v>,
    scope: Scope<'v, '_>,
    visit: &mut dyn FnMut(Node<'v>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for selector in selectors {
        match selector {
            Selector::Name(name) => {
                node.member(name).map_or(ControlFlow::Continue(()), &mut *visit)?
            }
            Selector::Index(index) => {
                node.element(*index).map_or(ControlFlow::Continue(()), &mut *visit)?;
            }
            Selector::Wildcard => node.children(visit)?,
            Selector::Slice { start, end, step } => {
                slice(node, *start, *end, *step, visit)?;
            }
            Selector::Filter(expr) => filter(expr, node, scope, visit)?,
        }
    }
    ControlFlow::Continue(())
}

fn filter<'v>(
    expr: &Expr,
    node: Node<'v>,
    scope: Scope<'v, '_>,
    visit: &mut dyn FnMut(Node<'v>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    // The outermost `[?…]` has looked up what those within it ask for.
    let found = if scope.current.is_none() { outer::values(expr, scope) } else { Vec::new() };
    node.children(&mut |child| {
        let outer = if scope.current.is_none() { &found[..] } else { scope.outer };
        if eval::holds(expr, Scope { view: scope.view, current: Some(child), outer }) {
            visit(child)
        } else {
            ControlFlow::Continue(())
        }
    })
}

/// RFC 9535, 2.3.4.2.2: bounds from the end when negative, cut to the array, none for step 0.
fn slice<'v>(
    node: Node<'v>,
    start: Option<i64>,
    end: Option<i64>,
    step: i64,
    visit: &mut dyn FnMut(Node<'v>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    if step == 0 || node.kind() != Kind::Array {
        return ControlFlow::Continue(());
    }
    let elements: Vec<Node<'v>> = node.elements().collect();
    let length = i64::try_from(elements.len()).unwrap_or(i64::MAX);
    let from_end = |bound: i64| if bound < 0 { bound + length } else { bound };
    let (mut at, stop) = if step > 0 {
        let lower = from_end(start.unwrap_or(0)).clamp(0, length);
        (lower, end.map_or(length, from_end).clamp(0, length))
    } else {
        let upper = start.map_or(length - 1, from_end).clamp(-1, length - 1);
        (upper, end.map_or(-1, |end| from_end(end).clamp(-1, length - 1)))
    };
    while if step > 0 { at < stop } else { at > stop } {
        if let Some(element) = usize::try_from(at).ok().and_then(|at| elements.get(at)) {
            visit(*element)?;
        }
        at += step;
    }
    ControlFlow::Continue(())
}
