//! The paths that predicates ask about, and the values that one event has at them.
//!
//! Paths form a tree of names and indexes. The event's values are found by walking the payload
//! beside that tree, so the cost is that of the payload, however many paths there are.

use std::borrow::Cow;

use rustc_hash::FxHashMap;

use super::{
    super::{
        View,
        ast::{Root, Singular, Step},
        json::{Kind, Node},
    },
    predicate::{Family, hash_bool, hash_null, hash_number, hash_string, rank_string},
};

/// Number of a path in use. Given again once nothing uses it.
pub(super) type PathId = u32;

/// Where the branches of the tree start, by root of the path.
const ROOTS: [Root; 5] =
    [Root::Payload, Root::Extensions, Root::EventType, Root::Source, Root::Subject];

/// All paths in use, each with the number of its users.
pub(super) struct Paths {
    branches: Vec<Branch>,
    free: Vec<u32>,
}

/// A path, or the beginning of one. Its number is its place in the list, and the path's too.
#[derive(Default)]
struct Branch {
    parent: u32,
    users: u32,
    names: FxHashMap<Box<str>, u32>,
    indexes: Vec<(i64, u32)>,
}

impl Default for Paths {
    fn default() -> Self {
        Self { branches: ROOTS.iter().map(|_| Branch::default()).collect(), free: Vec::new() }
    }
}

impl Branch {
    fn is_unused(&self) -> bool {
        self.users == 0 && self.names.is_empty() && self.indexes.is_empty()
    }

    fn is_leaf(&self) -> bool {
        self.names.is_empty() && self.indexes.is_empty()
    }
}

impl Paths {
    /// The number of a path, which is kept for this user until [`Paths::release`].
    pub(super) fn acquire(&mut self, path: &Singular) -> PathId {
        let root = ROOTS.iter().position(|root| *root == path.root).unwrap_or(0);
        let mut at = u32::try_from(root).unwrap_or(0);
        for step in &*path.steps {
            at = self.child(at, step).unwrap_or_else(|| self.grow(at, step));
        }
        self.branches[at as usize].users += 1;
        at
    }

    fn child(&self, at: u32, step: &Step) -> Option<u32> {
        let branch = &self.branches[at as usize];
        match step {
            Step::Name(name) => branch.names.get(name).copied(),
            Step::Index(index) => {
                branch.indexes.iter().find(|(other, _)| other == index).map(|(_, child)| *child)
            }
        }
    }

    fn grow(&mut self, at: u32, step: &Step) -> u32 {
        let branch = Branch { parent: at, ..Branch::default() };
        let child = match self.free.pop() {
            Some(free) => {
                self.branches[free as usize] = branch;
                free
            }
            None => {
                self.branches.push(branch);
                u32::try_from(self.branches.len() - 1).expect("fewer than 2^32 paths fit in memory")
            }
        };
        let parent = &mut self.branches[at as usize];
        match step {
            Step::Name(name) => _ = parent.names.insert(name.clone(), child),
            Step::Index(index) => parent.indexes.push((*index, child)),
        }
        child
    }

    /// Gives a path back; one that nobody uses any more is forgotten.
    pub(super) fn release(&mut self, path: PathId) {
        self.branches[path as usize].users -= 1;
        let mut at = path;
        while at as usize >= ROOTS.len() && self.branches[at as usize].is_unused() {
            let parent = self.branches[at as usize].parent;
            let branch = &mut self.branches[parent as usize];
            branch.names.retain(|_, child| *child != at);
            branch.indexes.retain(|(_, child)| *child != at);
            self.free.push(at);
            at = parent;
        }
    }
}

/// The value of an event at one path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    /// As of the literal that equals it; 0 for arrays and objects, which equal no literal.
    pub(super) hash: u64,
    /// For what has an order.
    pub(super) rank: Option<(Family, u128)>,
    source: Source,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Attribute(Root),
    Payload(u32),
    Extension(u32),
}

/// The values of one event at all paths in use.
#[derive(Default)]
pub(super) struct Values {
    /// By path. Valid if the round is this one.
    values: Vec<(u32, Option<Value>)>,
    present: Vec<PathId>,
    round: u32,
}

impl Values {
    pub(super) fn get(&self, path: PathId) -> Option<&Value> {
        let (round, value) = self.values.get(path as usize)?;
        if *round == self.round { value.as_ref() } else { None }
    }

    /// Paths at which the event has a value, each once.
    pub(super) fn present(&self) -> &[PathId] {
        &self.present
    }

    /// The characters of a string value.
    pub(super) fn text<'v>(&self, value: &Value, view: &'v View<'_>) -> Cow<'v, str> {
        match value.source {
            Source::Attribute(root) => view.attribute(root).unwrap_or_default().into(),
            Source::Payload(at) => {
                view.payload().map(|root| root.at_place(at).string()).unwrap_or_default()
            }
            Source::Extension(at) => {
                view.extensions().map(|root| root.at_place(at).string()).unwrap_or_default()
            }
        }
    }

    /// Reads the event. A payload at which no path looks is not even opened.
    pub(super) fn read(&mut self, paths: &Paths, view: &View<'_>) {
        self.present.clear();
        self.values.resize(paths.branches.len(), (0, None));
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.values.fill((0, None));
            self.round = 1;
        }
        for (at, root) in (0u32..).zip(ROOTS) {
            let branch = &paths.branches[at as usize];
            if branch.is_unused() {
                continue;
            }
            match root {
                Root::Payload => {
                    if let Some(node) = view.payload() {
                        self.walk(paths, at, node, Source::Payload);
                    }
                }
                Root::Extensions => {
                    if let Some(node) = view.extensions() {
                        self.walk(paths, at, node, Source::Extension);
                    }
                }
                _ => {
                    if let Some(text) = view.attribute(root) {
                        let rank = Some((Family::String, rank_string(text)));
                        self.put(
                            at,
                            Value {
                                hash: hash_string(text),
                                rank,
                                source: Source::Attribute(root),
                            },
                        );
                    }
                }
            }
        }
    }

    fn put(&mut self, path: PathId, value: Value) {
        self.values[path as usize] = (self.round, Some(value));
        self.present.push(path);
    }

    fn walk(&mut self, paths: &Paths, at: u32, node: Node<'_>, source: fn(u32) -> Source) {
        let branch = &paths.branches[at as usize];
        if self.values[at as usize].0 == self.round {
            // The same name again: only the last one counts, with all below it.
            self.forget(paths, at);
        }
        if branch.users > 0 {
            self.put(at, value_of(node, source(node.at())));
        } else {
            self.values[at as usize] = (self.round, None);
        }
        if branch.is_leaf() {
            return;
        }
        match node.kind() {
            Kind::Object => {
                for (name, value) in node.members_raw() {
                    if let Some(child) = branch.names.get(name.string().as_ref()) {
                        self.walk(paths, *child, value, source);
                    }
                }
            }
            Kind::Array => {
                for (index, child) in &branch.indexes {
                    if let Some(element) = node.element(*index) {
                        self.walk(paths, *child, element, source);
                    }
                }
            }
            _ => {}
        }
    }

    fn forget(&mut self, paths: &Paths, at: u32) {
        if std::mem::replace(&mut self.values[at as usize], (self.round, None)).1.is_some() {
            self.present.retain(|path| *path != at);
        }
        let branch = &paths.branches[at as usize];
        for child in branch.names.values().chain(branch.indexes.iter().map(|(_, child)| child)) {
            self.forget(paths, *child);
        }
    }
}

fn value_of(node: Node<'_>, source: Source) -> Value {
    let (hash, rank) = match node.kind() {
        Kind::Null => (hash_null(), None),
        Kind::False => (hash_bool(false), None),
        Kind::True => (hash_bool(true), None),
        Kind::Number => {
            let number = node.number();
            (hash_number(&number), Some((Family::Number, number.rank())))
        }
        Kind::String => {
            let text = node.string();
            (hash_string(&text), Some((Family::String, rank_string(&text))))
        }
        Kind::Array | Kind::Object => (0, None),
    };
    Value { hash, rank, source }
}
