//! Backups: a consistent copy of a store in one file that either database restores.
//!
//! A backup is a stream of frames (`format`): a header, the rows of every table as one read
//! transaction saw them, and a last frame with a SHA-256 over all before it. It holds no indexes
//! and nothing of the database's own format, so a store can move from SQLite to PostgreSQL and
//! back. The key of the secrets is not in it: secrets stay sealed.

mod format;
mod load;
mod postgres;
mod sqlite;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[cfg(any(test, fuzzing))]
pub(crate) use self::format::fuzz;
pub(super) use self::load::UNFINISHED;
pub use self::{
    format::{Sink, check, failure, header},
    load::{Loaded, Target},
};
use super::{Store, owner::OwnerLock};
use crate::domain::Millis;

/// Why a backup was not made, or not restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is read is no whole backup: another kind of file, cut off, or changed.
    #[error("this is no whole backup: {0}")]
    Damaged(String),
    /// The server that made it gave up, and said why.
    #[error("the server gave up: {0}")]
    GivenUp(String),
    #[error(
        "the backup was made by version {version}, which this one ({ours}) does not know: {what}"
    )]
    Newer { version: String, ours: &'static str, what: String },
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] super::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// The first frame: what the backup is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Of the frames; see [`format::FORMAT`].
    pub format: u32,
    /// Of the program that made it.
    pub version: String,
    /// The store's own id, drawn when it was created.
    pub store: Uuid,
    /// `sqlite` or `postgres`.
    pub database: String,
    pub created_at: Millis,
    /// Names of the schema's steps, oldest first.
    pub schema: Vec<String>,
    pub marker: Marker,
    /// Rows that are to come, about.
    pub rows: u64,
    /// Secrets in it; each stays sealed with the key that is not in it.
    pub secrets: u64,
}

/// Up to where the backup goes: everything committed up to this batch is in it, and nothing later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    pub seq: u64,
    pub batch: u64,
    pub watermark: u64,
}

/// The last frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// By table.
    pub rows: std::collections::BTreeMap<String, u64>,
    /// Of everything before this frame, in hex.
    pub sha256: String,
}

/// What [`check`] found in a file that is whole.
#[derive(Clone, Debug)]
pub struct Checked {
    pub header: Header,
    pub end: End,
    pub bytes: u64,
}

/// Tables that others refer to: their rows come first, so that no reference dangles meanwhile.
const PARENTS: [&str; 3] = ["scripts", "tokens", "subscriptions"];
/// The table of the schema's steps is in the header.
const STEPS: &str = "seaql_migrations";

/// What the database itself counts of other tables, as their rows are loaded too.
const COUNTED: [&str; 3] = ["letter_counts", "letter_groups", "audit_size"];

/// In the order in which they are written and loaded.
fn sorted(mut tables: Vec<String>) -> Vec<String> {
    tables.retain(|table| table != STEPS && !COUNTED.contains(&table.as_str()));
    let rank = |table: &str| PARENTS.iter().position(|p| *p == table).unwrap_or(PARENTS.len());
    tables.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)));
    tables
}

impl Store {
    /// Writes a backup of the store as it is when this begins; blocks until it is written. Readers
    /// and the journal go on meanwhile; on SQLite the write-ahead log is not emptied until it ends,
    /// so `sink` may say stop when that grows too much.
    pub fn back_up(&self, sink: &mut dyn Sink) -> Result<(Header, End), Error> {
        match (&self.path, &self.postgres) {
            (Some(path), _) => sqlite::write(path, sink),
            (None, Some(options)) => postgres::write(options.clone(), sink),
            (None, None) => {
                Err(Error::Refused("the store is neither SQLite nor PostgreSQL".into()))
            }
        }
    }
}

/// Holds a store that nobody serves, from before the first look to after the last write.
pub(super) enum Lock {
    Sqlite { _held: OwnerLock },
    Postgres(Box<sqlx::PgConnection>),
}
