//! The key-value store's words: whose keys they are, what a key may be, pages of a list.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Millis, ScriptId};

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;

/// Items of a page at most.
pub const PAGE_ITEMS_MAX: u32 = 1_000;

/// Keys and values of a page, in bytes, beyond which it is cut; one item always fits.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// Whose keys: each script has its own, and shared ones have a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    Script(ScriptId),
    Shared(Arc<str>),
}

/// Why a text names no namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a namespace is the id of a script, or a name of 1 to 64 lower-case letters, digits, `-`, `_` and `.` \
     that begins with a letter"
)]
pub struct NoNamespace;

impl Namespace {
    /// A shared namespace.
    pub fn shared(name: &str) -> Result<Self, NoNamespace> {
        let follows = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        let well_formed = name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(follows)
            // An id may begin with a letter: it names the script's own keys.
            && Uuid::parse_str(name).is_err();
        if well_formed { Ok(Self::Shared(name.into())) } else { Err(NoNamespace) }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script(id) => id.fmt(f),
            Self::Shared(name) => f.write_str(name),
        }
    }
}

impl FromStr for Namespace {
    type Err = NoNamespace;

    fn from_str(text: &str) -> Result<Self, NoNamespace> {
        match Uuid::parse_str(text) {
            Ok(id) => Ok(Self::Script(ScriptId(id))),
            Err(_) => Self::shared(text),
        }
    }
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key has 1 to {KEY_BYTES_MAX} bytes without control characters")]
pub struct NoKey;

pub fn check_key(key: &str) -> Result<(), NoKey> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control) {
        return Err(NoKey);
    }
    Ok(())
}

/// A value as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// JSON text.
    pub value: Arc<str>,
    pub expires_at: Option<Millis>,
}

impl Stored {
    #[must_use]
    pub fn lives(&self, now: Millis) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// A key to write: its new value, or `None` to remove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub namespace: Namespace,
    pub key: String,
    pub value: Option<Stored>,
}

/// What a namespace holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub keys: u64,
    /// Of keys and values.
    pub bytes: u64,
}

/// Part of a namespace: keys with a prefix, after a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub prefix: String,
    pub after: Option<String>,
}

impl Span {
    #[must_use]
    pub fn holds(&self, key: &str) -> bool {
        key.starts_with(&self.prefix) && self.after.as_deref().is_none_or(|after| key > after)
    }
}

/// Keys with their values (JSON texts) in the order of their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub items: Vec<(String, String)>,
    /// More follow.
    pub more: bool,
}

impl Page {
    /// The page with changes of its span on top, cut to `limit`. For a page that shall be full
    /// again afterwards, ask for as many more items as there are removals.
    #[must_use]
    pub fn with<'a>(
        self,
        changes: impl Iterator<Item = (&'a str, Option<&'a str>)>,
        limit: usize,
    ) -> Self {
        let horizon = self.items.last().map(|(key, _)| key.clone()).filter(|_| self.more);
        let mut all: BTreeMap<String, String> = self.items.into_iter().collect();
        for (key, value) in changes {
            if horizon.as_deref().is_some_and(|horizon| key > horizon) {
                // Of a later page.
                continue;
            }
            match value {
                Some(value) => all.insert(key.to_owned(), value.to_owned()),
                None => all.remove(key),
            };
        }
        let more = self.more || all.len() > limit;
        Self { items: all.into_iter().take(limit).collect(), more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_a_scripts_keys_and_anything_else_shared_ones() {
        let id = ScriptId::fresh();
        assert_eq!(id.to_string().parse(), Ok(Namespace::Script(id)));
        assert_eq!("rates.eu".parse(), Ok(Namespace::Shared("rates.eu".into())));
        assert_eq!(Namespace::shared("rates").map(|n| n.to_string()), Ok("rates".into()));
        let id_with_a_letter = "a1a20af2-6cd1-7c59-b597-000000000009";
        for wrong in ["", "Rates", "1st", "a b", "a/b", "ä", id_with_a_letter, &"x".repeat(65)] {
            assert_eq!(Namespace::shared(wrong), Err(NoNamespace), "{wrong}");
        }
    }

    #[test]
    fn a_page_shows_changes_of_its_own_span_only() {
        let page = |keys: &[&str], more| Page {
            items: keys.iter().map(|key| ((*key).to_owned(), "0".to_owned())).collect(),
            more,
        };
        let keys = |page: &Page| page.items.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        let changes = [("a", None), ("b", Some("1")), ("z", Some("1"))];
        let whole = page(&["a", "c"], false).with(changes.into_iter(), 10);
        assert_eq!((keys(&whole), whole.more), (vec!["b".into(), "c".into(), "z".into()], false));
        let first = page(&["a", "c"], true).with(changes.into_iter(), 10);
        assert_eq!((keys(&first), first.more), (vec!["b".into(), "c".into()], true));
        let cut = page(&["c"], false).with(changes.into_iter(), 1);
        assert_eq!((keys(&cut), cut.more), (vec!["b".into()], true));
    }
}
