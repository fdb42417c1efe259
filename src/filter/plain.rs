//! Plain multi-node paths (`$.items[*].sku`, `$..price`), answered by `jsonpath_lib`.
//!
//! That crate reads many paths differently from RFC 9535 and panics or hangs on some. So it gets
//! only paths that we parsed and print here again, in the forms in which its answer was read in
//! its source and proven by tests to be the RFC's. [`Plain::of`] says `None` to all others, and
//! [`super::select`] walks them.

use serde_json::Value;

use super::{
    ast::{Segment, Selector},
    json::{Kind, Node},
};

/// A path that `jsonpath_lib` has compiled.
#[derive(Clone, Debug)]
pub(crate) struct Plain {
    text: String,
    compiled: jsonpath_lib::Compiled,
}

impl PartialEq for Plain {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// The payload in the form that `jsonpath_lib` walks: its containers, with the number of the node
/// in place of every scalar. So nothing is rounded, and a result leads back to the node.
#[derive(Debug)]
pub(crate) struct Skeleton(Value);

impl Skeleton {
    pub(crate) fn of(root: Node<'_>) -> Self {
        Self(skeleton(root))
    }
}

fn skeleton(node: Node<'_>) -> Value {
    match node.kind() {
        Kind::Array => node.elements().map(skeleton).collect(),
        Kind::Object => Value::Object(
            node.members()
                .into_iter()
                .map(|(name, value)| (name.into_owned(), skeleton(value)))
                .collect(),
        ),
        _ => Value::from(node.at()),
    }
}

impl Plain {
    /// `None` where the crate's answer could differ from RFC 9535's.
    pub(crate) fn of(segments: &[Segment]) -> Option<Self> {
        let mut text = String::from("$");
        let mut descents = 0;
        for segment in segments {
            let [selector] = &*segment.selectors else { return None };
            descents += usize::from(segment.descendant);
            text.push_str(&if segment.descendant {
                descendant(selector)?
            } else {
                child(selector)?
            });
        }
        // Two `..` let it collect a node once per pair of ancestors before it answers at all.
        if descents > 1 {
            return None;
        }
        let compiled = jsonpath_lib::Compiled::compile(&text).ok()?;
        Some(Self { text, compiled })
    }

    /// How many nodes the path selects.
    pub(crate) fn count(&self, skeleton: &Skeleton) -> usize {
        self.compiled.select(&skeleton.0).map_or(0, |found| found.len())
    }

    /// The only node that the path selects; `None` if there are none or several. `root` is what
    /// the skeleton was made of.
    pub(crate) fn only<'d>(&self, skeleton: &Skeleton, root: Node<'d>) -> Option<Node<'d>> {
        let found = self.compiled.select(&skeleton.0).ok()?;
        let [only] = found[..] else { return None };
        locate(root, &skeleton.0, only)
    }
}

/// The node that `target`, a part of `value`, was made from.
fn locate<'d>(node: Node<'d>, value: &Value, target: &Value) -> Option<Node<'d>> {
    if std::ptr::eq(value, target) {
        return Some(node);
    }
    match value {
        Value::Array(values) => {
            node.elements().zip(values).find_map(|(node, value)| locate(node, value, target))
        }
        Value::Object(values) => node
            .members()
            .into_iter()
            .find_map(|(name, node)| locate(node, values.get(name.as_ref())?, target)),
        _ => None,
    }
}

/// Indexes become slices: `[0]` on an object would look into the arrays among its members, and
/// `[-9]` on a short array would be its first element.
fn child(selector: &Selector) -> Option<String> {
    match selector {
        Selector::Name(name) => quoted(name).map(|name| format!("[{name}]")),
        Selector::Wildcard => Some("[*]".to_owned()),
        Selector::Index(-1) => Some("[-1:]".to_owned()),
        Selector::Index(index) => Some(format!("[{index}:{}]", index + 1)),
        // A step of zero panics there, a negative one is refused.
        Selector::Slice { start, end, step } if *step > 0 => {
            let bound = |bound: &Option<i64>| bound.map(|n| n.to_string()).unwrap_or_default();
            Some(match (bound(start), bound(end), step) {
                (start, end, 1) if !(start.is_empty() && end.is_empty()) => {
                    format!("[{start}:{end}]")
                }
                (start, end, step) => format!("[{start}:{end}:{step}]"),
            })
        }
        Selector::Slice { .. } | Selector::Filter(_) => None,
    }
}

/// After `..` the crate knows names, `*` and indexes from the start; a slice loses the descent.
fn descendant(selector: &Selector) -> Option<String> {
    match selector {
        Selector::Name(name) => quoted(name).map(|name| format!("..[{name}]")),
        Selector::Wildcard => Some("..[*]".to_owned()),
        Selector::Index(index) if *index >= 0 => Some(format!("..[{index}]")),
        _ => None,
    }
}

/// The crate reads names raw up to the closing quote, but for one backslash before a quote. So
/// names with a backslash, with both quotes, or without a character have no safe form.
fn quoted(name: &str) -> Option<String> {
    if name.is_empty() || name.contains('\\') {
        return None;
    }
    match (name.contains('\''), name.contains('"')) {
        (false, _) => Some(format!("'{name}'")),
        (true, false) => Some(format!("\"{name}\"")),
        (true, true) => None,
    }
}
