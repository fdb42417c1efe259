//! An event as filters see it: attributes at hand, the payload read when first asked for.

use std::{
    borrow::Cow,
    cell::{Cell, OnceCell, RefCell},
};

use super::{
    ast::{Query, Root, Singular, Step},
    eval::Value,
    json::{Document, Kind, Node},
    number::Decimal,
    plain::Skeleton,
};
use crate::domain::{DataEncoding, Envelope, Event};

/// One event to match. Reads the payload at most once, however many filters look at it, and not
/// at all if none does.
pub struct View<'e> {
    envelope: &'e Envelope,
    data: &'e [u8],
    payload: OnceCell<Option<Document<'e>>>,
    extensions: OnceCell<Option<Document<'e>>>,
    skeleton: OnceCell<Option<Skeleton>>,
    known: RefCell<Vec<Known>>,
    remembers: Cell<bool>,
}

/// A value of the payload that was looked up before.
struct Known {
    /// The address of the path's steps. An index shares equal steps between its filters, and they
    /// stay where they are while it matches.
    steps: usize,
    /// [`Node::at`], if there is a value.
    at: Option<u32>,
    /// Its value if it is a number.
    number: Option<Decimal>,
}

impl<'e> View<'e> {
    #[must_use]
    pub fn new(event: &'e Event) -> Self {
        Self::of(&event.envelope, &event.data)
    }

    /// The view of an event that is not accepted yet. `data` is the payload's JSON text; of a text
    /// that is none, every path is absent.
    #[must_use]
    pub fn of(envelope: &'e Envelope, data: &'e [u8]) -> Self {
        Self {
            envelope,
            data: if envelope.encoding == DataEncoding::Absent { b"null" } else { data },
            payload: OnceCell::new(),
            extensions: OnceCell::new(),
            skeleton: OnceCell::new(),
            known: RefCell::default(),
            remembers: Cell::new(false),
        }
    }

    pub(crate) fn event_type(&self) -> &'e str {
        &self.envelope.event_type
    }

    /// The payload's outermost value.
    pub(crate) fn payload(&self) -> Option<Node<'_>> {
        let read = || std::str::from_utf8(self.data).ok().and_then(Document::parse);
        self.payload.get_or_init(read).as_ref().map(Document::root)
    }

    /// The object of extension attributes.
    pub(crate) fn extensions(&self) -> Option<Node<'_>> {
        let read = || self.envelope.extensions.as_deref().and_then(Document::parse);
        self.extensions.get_or_init(read).as_ref().map(Document::root)
    }

    /// The payload for `jsonpath_lib`, if it can answer the query.
    pub(crate) fn skeleton_for(&self, query: &Query) -> Option<&Skeleton> {
        query.plain.as_ref()?;
        self.skeleton.get_or_init(|| self.payload().map(Skeleton::of)).as_ref()
    }

    /// The text of `event.type`, `event.source` or `event.subject`; `None` for other roots too.
    pub(crate) fn attribute(&self, root: Root) -> Option<&'e str> {
        match root {
            Root::EventType => Some(&self.envelope.event_type),
            Root::Source => Some(&self.envelope.source),
            Root::Subject => self.envelope.subject.as_deref(),
            Root::Payload | Root::Current | Root::Extensions => None,
        }
    }

    /// The node that a path selects. `current` is what `@` stands for.
    pub(crate) fn node<'v>(
        &'v self,
        path: &Singular,
        current: Option<Node<'v>>,
    ) -> Option<Node<'v>> {
        let root = match path.root {
            Root::Payload => self.payload(),
            Root::Current => current,
            Root::Extensions => self.extensions(),
            Root::EventType | Root::Source | Root::Subject => None,
        };
        path.steps.iter().try_fold(root?, |node, step| match step {
            Step::Name(name) => node.member(name),
            Step::Index(index) => node.element(*index),
        })
    }

    /// The value that a path selects.
    pub(crate) fn value<'v>(
        &'v self,
        path: &Singular,
        current: Option<Node<'v>>,
    ) -> Option<Value<'v>> {
        if let Some(text) = self.attribute(path.root) {
            return Some(Value::String(text.into()));
        }
        if self.remembers.get() && path.root == Root::Payload {
            return self.known_value(path);
        }
        self.node(path, current).map(Value::of)
    }

    /// From here to [`View::forget`] values are looked up once for each path. All filters that are
    /// evaluated meanwhile must live until then: their paths are told apart by address.
    pub(crate) fn remember(&self) {
        self.remembers.set(true);
    }

    pub(crate) fn forget(&self) {
        if self.remembers.replace(false) {
            self.known.borrow_mut().clear();
        }
    }

    fn known_value<'v>(&'v self, path: &Singular) -> Option<Value<'v>> {
        let mut known = self.known.borrow_mut();
        let steps = path.steps.as_ptr().addr();
        let place = known.iter().position(|known| known.steps == steps);
        let place = place.unwrap_or_else(|| {
            let node = self.node(path, None);
            let number = node.filter(|node| node.kind() == Kind::Number).map(Node::number);
            known.push(Known { steps, at: node.map(Node::at), number });
            known.len() - 1
        });
        let found = &known[place];
        match &found.number {
            Some(number) => Some(Value::Number(Cow::Owned(number.clone()))),
            None => Some(Value::of(self.payload()?.at_place(found.at?))),
        }
    }
}
