//! A JSON text laid out for looking into: one flat table of where each value stands in the text.
//!
//! Nothing is converted while reading: numbers keep their digits, strings their escapes. A member
//! name that occurs twice counts once, with its last value, as in JavaScript.

use std::{borrow::Cow, cmp::Ordering, ops::ControlFlow};

use rustc_hash::FxHashMap;

use super::number::Decimal;

/// Deeper texts are not read. Intake's own limit is lower; this one guards the stack.
const DEPTH_MAX: usize = 512;

/// Objects with more members than this get a sorted directory, so that a look-up in a hostile
/// object of 100,000 members is no walk through all of them.
const DIRECTORY_FROM: u32 = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    False,
    True,
    Number,
    String,
    Array,
    Object,
}

/// One value, or the name of a member, which directly precedes its value.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where it stands in the text; strings without their quotes.
    start: u32,
    end: u32,
    /// The entry after this value and all within it.
    next: u32,
    kind: Kind,
    /// A string with escapes.
    escaped: bool,
}

/// A JSON text that was read.
#[derive(Debug)]
pub(crate) struct Document<'t> {
    text: &'t str,
    entries: Vec<Entry>,
    /// For large objects: the entries of their member names, sorted by name, each name once.
    directories: FxHashMap<u32, Box<[u32]>>,
}

/// One value of a document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'d> {
    document: &'d Document<'d>,
    at: u32,
}

impl<'t> Document<'t> {
    /// `None` for what is no JSON, is deeper than [`DEPTH_MAX`] or longer than 4 GiB.
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        u32::try_from(text.len()).ok()?;
        let mut document =
            Self { text, entries: Vec::with_capacity(32), directories: FxHashMap::default() };
        Reader { document: &mut document, at: 0 }.document()?;
        Some(document)
    }

    pub(crate) fn root(&self) -> Node<'_> {
        Node { document: self, at: 0 }
    }

    fn slice(&self, at: u32) -> &str {
        let entry = self.entries[at as usize];
        &self.text[entry.start as usize..entry.end as usize]
    }

    fn string(&self, at: u32) -> Cow<'_, str> {
        let raw = self.slice(at);
        if self.entries[at as usize].escaped {
            Cow::Owned(unescape(raw))
        } else {
            Cow::Borrowed(raw)
        }
    }

    fn is_named(&self, key: u32, name: &str) -> bool {
        if self.entries[key as usize].escaped {
            unescape(self.slice(key)) == name
        } else {
            self.slice(key) == name
        }
    }

    /// Builds the directory of the object at `object`.
    fn index(&mut self, object: u32) {
        let mut keys = Vec::new();
        let (mut key, end) = (object + 1, self.entries[object as usize].next);
        while key < end {
            keys.push(key);
            key = self.entries[key as usize + 1].next;
        }
        // Stable, so the last of equal names stays last and is the one that is kept.
        keys.sort_by(|a, b| self.string(*a).cmp(&self.string(*b)));
        let mut last: Vec<u32> = Vec::with_capacity(keys.len());
        for key in keys {
            match last.last_mut() {
                Some(previous) if self.string(*previous) == self.string(key) => *previous = key,
                _ => last.push(key),
            }
        }
        self.directories.insert(object, last.into_boxed_slice());
    }
}

impl<'d> Node<'d> {
    fn entry(self) -> Entry {
        self.document.entries[self.at as usize]
    }

    /// Its place in the document: unique, and later for what stands later in the text.
    pub(crate) fn at(self) -> u32 {
        self.at
    }

    pub(crate) fn kind(self) -> Kind {
        self.entry().kind
    }

    /// The JSON text of the value, as received.
    pub(crate) fn text(self) -> &'d str {
        let entry = self.entry();
        let quote = usize::from(entry.kind == Kind::String);
        &self.document.text[entry.start as usize - quote..entry.end as usize + quote]
    }

    /// The characters of a string; the raw text of anything else.
    pub(crate) fn string(self) -> Cow<'d, str> {
        self.document.string(self.at)
    }

    /// The value of a number.
    pub(crate) fn number(self) -> Decimal {
        Decimal::parse(self.document.slice(self.at))
    }

    /// The node of the same document whose [`Node::at`] is `at`.
    pub(crate) fn at_place(self, at: u32) -> Self {
        Self { at, ..self }
    }

    /// The member of an object called `name`.
    pub(crate) fn member(self, name: &str) -> Option<Self> {
        let entry = self.entry();
        if entry.kind != Kind::Object {
            return None;
        }
        if let Some(directory) = self.directory() {
            let found = directory.binary_search_by(|key| (*self.document.string(*key)).cmp(name));
            return found.ok().map(|place| self.at_place(directory[place] + 1));
        }
        let mut found = None;
        let mut key = self.at + 1;
        while key < entry.next {
            if self.document.is_named(key, name) {
                found = Some(self.at_place(key + 1));
            }
            key = self.document.entries[key as usize + 1].next;
        }
        found
    }

    fn directory(self) -> Option<&'d [u32]> {
        if self.document.directories.is_empty() {
            return None;
        }
        self.document.directories.get(&self.at).map(AsRef::as_ref)
    }

    /// The element of an array at `index`; negative ones count from the end.
    pub(crate) fn element(self, index: i64) -> Option<Self> {
        if self.kind() != Kind::Array {
            return None;
        }
        let index = if index < 0 {
            self.count().checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?
        } else {
            usize::try_from(index).ok()?
        };
        self.elements().nth(index)
    }

    /// The elements of an array; nothing for other values.
    pub(crate) fn elements(self) -> impl Iterator<Item = Self> {
        let entry = self.entry();
        let end = if entry.kind == Kind::Array { entry.next } else { 0 };
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            (at < end).then(|| {
                let element = self.at_place(at);
                at = element.entry().next;
                element
            })
        })
    }

    /// Name and value of every member in the order of the text, shadowed ones too.
    ///
    /// Names come as the node of their string.
    pub(crate) fn members_raw(self) -> impl Iterator<Item = (Self, Self)> {
        let entry = self.entry();
        let end = if entry.kind == Kind::Object { entry.next } else { 0 };
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            (at < end).then(|| {
                let (name, value) = (self.at_place(at), self.at_place(at + 1));
                at = value.entry().next;
                (name, value)
            })
        })
    }

    /// Name and value of every member, each name once.
    pub(crate) fn members(self) -> Vec<(Cow<'d, str>, Self)> {
        if let Some(directory) = self.directory() {
            let named = |key: &u32| (self.document.string(*key), self.at_place(*key + 1));
            return directory.iter().map(named).collect();
        }
        let mut members: Vec<(Cow<'d, str>, Self)> = Vec::new();
        for (name, value) in self.members_raw() {
            let name = name.string();
            match members.iter_mut().find(|(earlier, _)| *earlier == name) {
                Some(earlier) => earlier.1 = value,
                None => members.push((name, value)),
            }
        }
        members
    }

    /// Elements of an array or values of an object's members.
    pub(crate) fn children(
        self,
        visit: &mut dyn FnMut(Self) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self.kind() {
            Kind::Array => self.elements().try_for_each(visit),
            Kind::Object => self.members().into_iter().try_for_each(|(_, value)| visit(value)),
            _ => ControlFlow::Continue(()),
        }
    }

    /// Elements of an array or members of an object; 0 for other values.
    pub(crate) fn count(self) -> usize {
        match self.kind() {
            Kind::Array => self.elements().count(),
            Kind::Object => self.members().len(),
            _ => 0,
        }
    }

    /// Equal as JSON values: members in any order, numbers by value.
    pub(crate) fn equals(self, other: Node<'_>) -> bool {
        match (self.kind(), other.kind()) {
            (Kind::Number, Kind::Number) => self.number() == other.number(),
            (Kind::String, Kind::String) => self.string() == other.string(),
            (Kind::Array, Kind::Array) => {
                let (mut a, mut b) = (self.elements(), other.elements());
                loop {
                    match (a.next(), b.next()) {
                        (None, None) => return true,
                        (Some(x), Some(y)) if x.equals(y) => {}
                        _ => return false,
                    }
                }
            }
            (Kind::Object, Kind::Object) => {
                let (mut a, mut b) = (self.members(), other.members());
                let by_name = |x: &(Cow<str>, Node<'_>), y: &(Cow<str>, Node<'_>)| -> Ordering {
                    x.0.cmp(&y.0)
                };
                if a.len() != b.len() {
                    return false;
                }
                a.sort_by(by_name);
                b.sort_by(by_name);
                a.iter().zip(&b).all(|(x, y)| x.0 == y.0 && x.1.equals(y.1))
            }
            (a, b) => a == b,
        }
    }
}

/// Replaces the escapes of a JSON string. A lone surrogate reads as U+FFFD; intake refuses them.
pub(crate) fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let mut tail = rest[at + 1..].chars();
        match tail.next() {
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let (character, after) = unescape_unicode(tail.as_str());
                text.push(character);
                rest = after;
                continue;
            }
            Some(other) => text.push(other),
            None => {}
        }
        rest = tail.as_str();
    }
    text.push_str(rest);
    text
}

/// Reads what follows `\u`, and the second half of a pair if there is one.
fn unescape_unicode(text: &str) -> (char, &str) {
    let unit = |text: &str| text.get(..4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let Some(first) = unit(text) else { return (char::REPLACEMENT_CHARACTER, text) };
    let rest = &text[4..];
    if (0xd800..0xdc00).contains(&first)
        && let Some(second) = rest.strip_prefix("\\u").and_then(unit)
        && (0xdc00..0xe000).contains(&second)
    {
        let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), &rest[6..]);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), rest)
}

/// Reads a text into a document, without recursion.
struct Reader<'r, 't> {
    document: &'r mut Document<'t>,
    at: usize,
}

impl Reader<'_, '_> {
    fn document(&mut self) -> Option<()> {
        // Open containers, each with the number of its members so far.
        let mut open: Vec<(u32, u32)> = Vec::new();
        loop {
            self.value_start(&mut open)?;
            // A value has ended, or an empty container is about to.
            loop {
                let byte = self.peek();
                let Some((container, members)) = open.last_mut() else {
                    return byte.is_none().then_some(());
                };
                let is_object = self.document.entries[*container as usize].kind == Kind::Object;
                match byte? {
                    b',' => {
                        self.at += 1;
                        *members += 1;
                        if is_object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ => return None,
                }
                self.at += 1;
                let (container, members) = open.pop()?;
                self.close(container, is_object && members >= DIRECTORY_FROM);
            }
        }
    }

    /// Reads a scalar, or the openings of containers up to the first scalar or empty container.
    fn value_start(&mut self, open: &mut Vec<(u32, u32)>) -> Option<()> {
        loop {
            let (kind, end) = match self.peek()? {
                b'{' => (Kind::Object, b'}'),
                b'[' => (Kind::Array, b']'),
                byte => return self.scalar(byte),
            };
            let entry = self.push(kind, self.at, self.at, false);
            if open.len() == DEPTH_MAX {
                return None;
            }
            self.at += 1;
            if self.peek()? == end {
                self.at += 1;
                self.close(entry, false);
                return Some(());
            }
            open.push((entry, 0));
            if kind == Kind::Object {
                self.name()?;
            }
        }
    }

    fn scalar(&mut self, first: u8) -> Option<()> {
        let start = self.at;
        let bytes = self.document.text.as_bytes();
        let kind = match first {
            b'"' => return self.string(),
            b't' if bytes[start..].starts_with(b"true") => Kind::True,
            b'f' if bytes[start..].starts_with(b"false") => Kind::False,
            b'n' if bytes[start..].starts_with(b"null") => Kind::Null,
            b'-' | b'0'..=b'9' => Kind::Number,
            _ => return None,
        };
        let length = match kind {
            Kind::False => 5,
            Kind::Number => bytes[start..]
                .iter()
                .position(|byte| !matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
                .unwrap_or(bytes.len() - start),
            _ => 4,
        };
        self.at += length;
        self.push(kind, start, self.at, false);
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        let start = self.at + 1;
        let bytes = self.document.text.as_bytes();
        let mut escaped = false;
        let mut at = start;
        loop {
            match bytes.get(at)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    at += 2;
                }
                0..=0x1f => return None,
                _ => at += 1,
            }
        }
        self.at = at + 1;
        self.push(Kind::String, start, at, escaped);
        Some(())
    }

    /// Reads `"name":`.
    fn name(&mut self) -> Option<()> {
        if self.peek()? != b'"' {
            return None;
        }
        self.string()?;
        if self.peek()? != b':' {
            return None;
        }
        self.at += 1;
        Some(())
    }

    /// Skips white space and shows the next byte.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.document.text.as_bytes();
        loop {
            match *bytes.get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize, escaped: bool) -> u32 {
        let entries = &mut self.document.entries;
        let at = narrow(entries.len());
        entries.push(Entry { start: narrow(start), end: narrow(end), next: at + 1, kind, escaped });
        at
    }

    fn close(&mut self, container: u32, with_directory: bool) {
        let next = narrow(self.document.entries.len());
        let entry = &mut self.document.entries[container as usize];
        entry.end = narrow(self.at);
        entry.next = next;
        if with_directory {
            self.document.index(container);
        }
    }
}

/// Positions fit: the text's length was checked, and it has no more values than bytes.
fn narrow(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str, find: impl Fn(Node<'_>) -> Option<Node<'_>>) -> Option<String> {
        let document = Document::parse(json).expect("JSON");
        find(document.root()).map(|node| node.text().to_owned())
    }

    #[test]
    fn values_keep_their_text() {
        let json = r#" { "a" : [1, -2.50e3, "x\"y", {"b": null}], "c": true } "#;
        assert_eq!(text(json, |n| n.member("a")?.element(1)).as_deref(), Some("-2.50e3"));
        assert_eq!(text(json, |n| n.member("a")?.element(-1)).as_deref(), Some(r#"{"b": null}"#));
        assert_eq!(text(json, |n| n.member("a")?.element(2)).as_deref(), Some(r#""x\"y""#));
        assert_eq!(text(json, |n| n.member("a")?.element(4)), None);
        assert_eq!(text(json, |n| n.member("a")?.element(-5)), None);
        assert_eq!(text(json, |n| n.member("c")).as_deref(), Some("true"));
        assert_eq!(text(json, |n| n.member("d")), None);
        assert_eq!(text("[]", |n| Some(n)).as_deref(), Some("[]"));
    }

    #[test]
    fn the_last_of_equal_names_counts_in_small_and_large_objects() {
        for padding in [0, 100] {
            let filler: String = (0..padding).map(|i| format!(r#""k{i}":{i},"#)).collect();
            let json = format!(r#"{{"a":1,{filler}"\u0061":2}}"#);
            assert_eq!(text(&json, |n| n.member("a")).as_deref(), Some("2"));
            assert_eq!(Document::parse(&json).expect("JSON").root().count(), padding + 1);
        }
    }

    #[test]
    fn escapes_are_replaced() {
        assert_eq!(unescape(r#"a\n\u00e9\ud83d\ude00\/\\"#), "a\né😀/\\");
        assert_eq!(unescape(r"\ud83d!"), "\u{fffd}!");
        assert_eq!(unescape(r"\u12"), "\u{fffd}12");
    }

    #[test]
    fn wrong_or_deep_texts_are_not_read() {
        for wrong in
            ["", "{", "[1,]", "{\"a\"}", "{1:2}", "tru", "1 2", "[1}", "\"a", "{,}", "\u{feff}1"]
        {
            assert!(Document::parse(wrong).is_none(), "{wrong}");
        }
        assert!(Document::parse(&"[".repeat(100_000)).is_none());
    }

    #[test]
    fn equality_ignores_the_order_of_members() {
        let equal = |a: &str, b: &str| {
            let (a, b) = (Document::parse(a).expect("JSON"), Document::parse(b).expect("JSON"));
            a.root().equals(b.root())
        };
        assert!(equal(r#"{"a":1,"b":[1.0]}"#, r#"{"b":[1],"a":1e0}"#));
        assert!(!equal(r#"{"a":1}"#, r#"{"a":1,"b":2}"#));
        assert!(!equal("[1]", "[1,2]"));
        assert!(!equal("\"1\"", "1"));
    }
}
