//! The key of a strictly ordered subscription: one value of the event, as text.

use std::fmt;

use super::{
    Error,
    ast::Singular,
    json::{Kind, Node},
    parser, print,
    view::View,
};

/// A path to the value that deliveries are ordered by: `$.customer.id` or `event.subject`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPath(Singular);

impl KeyPath {
    /// Takes a path that can select one value only: names and indexes from `$`, or `event.…`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parser::singular(text).map(Self)
    }

    /// The value as canonical JSON text: equal values have equal keys, `1` and `1.0` too, and
    /// `"1"` another. `None` if the event has no such value.
    #[must_use]
    pub fn key(&self, view: &View<'_>) -> Option<String> {
        let mut key = String::new();
        match view.attribute(self.0.root) {
            // Writing into a string cannot fail.
            Some(text) => _ = print::quote(&mut key, text),
            None => canonical(view.node(&self.0, None)?, &mut key),
        }
        Some(key)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn canonical(node: Node<'_>, text: &mut String) {
    match node.kind() {
        Kind::Number => text.push_str(&node.number().to_string()),
        Kind::String => _ = print::quote(text, &node.string()),
        Kind::Null | Kind::False | Kind::True => text.push_str(node.text()),
        Kind::Array => {
            text.push('[');
            for (at, element) in node.elements().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                canonical(element, text);
            }
            text.push(']');
        }
        Kind::Object => {
            let mut members = node.members();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            text.push('{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                let _ = print::quote(text, &name);
                text.push(':');
                canonical(value, text);
            }
            text.push('}');
        }
    }
}
