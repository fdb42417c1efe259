//! Storage: repositories that speak domain, and the journal's write path.
//!
//! The only code that names `entity` or writes SQL. Reads and the control plane go through SeaORM;
//! the journal's own commits go through [`journal::JournalStore`], one prepared connection. All
//! writes of the process pass one [`Gate`], so that nobody fights the journal.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use sea_orm::{ConnectionTrait, DatabaseConnection, EntityTrait, Statement};
use sqlx::postgres::PgConnectOptions;

pub mod backup;
pub mod journal;

mod access;
mod bulk;
mod definition;
mod deliveries;
mod encode;
mod erase;
mod error;
mod events;
mod gate;
mod hooks;
mod kv;
mod letters;
mod link;
mod open;
mod outcomes;
mod owner;
mod private;
mod recordings;
mod retention;
mod runs;
mod scheduled;
mod scripts;
mod secrets;
mod storage;
mod subscriptions;
mod verify;

pub(crate) use self::runs::as_stored;
pub use self::{
    access::{Audit, Sessions, Tokens},
    bulk::{Bulk, BulkAction, BulkOperation, BulkState},
    deliveries::Deliveries,
    erase::Erased,
    error::Error,
    events::{EventFilter, Events},
    gate::{Gate, Write},
    hooks::Hooks,
    kv::{Kv, KvItem},
    letters::{
        Announcer, DeadLetter, LetterCount, LetterFilter, LetterGroup, LetterPage, LetterStatus,
        Letters, Position,
    },
    outcomes::Outcomes,
    private::{create_private, replace_private},
    recordings::Recordings,
    retention::{Kept, Retention, RetentionPlan},
    runs::{RunFilter, Runs},
    scheduled::ScheduledEmits,
    scripts::{NewScript, ScriptPatch, Scripts},
    secrets::{SealedSecret, Secrets},
    storage::{Storage, TableSize},
    subscriptions::{DefinitionAt, SubscriptionFilter, Subscriptions},
    verify::Inspected,
};
use crate::domain::{Millis, Seq, TypePattern};
use journal::{JournalState, JournalStore};
pub(in crate::store) use storage::wal_path;

/// What every SQLite connection must answer, or the start is refused: WAL, `synchronous=FULL`
/// (2), incremental auto-vacuum (2), foreign keys.
const SQLITE_PRAGMAS: [(&str, &str); 4] =
    [("journal_mode", "wal"), ("synchronous", "2"), ("auto_vacuum", "2"), ("foreign_keys", "1")];

/// An open store. Cheap to clone; each area is a repository of its own.
#[derive(Clone)]
pub struct Store {
    connection: link::Link<DatabaseConnection>,
    gate: Gate,
    journal: Arc<Mutex<Option<Box<dyn JournalStore>>>>,
    /// Of the SQLite file.
    path: Option<PathBuf>,
    /// Of PostgreSQL.
    postgres: Option<PgConnectOptions>,
    retained: Arc<retention::Position>,
}

impl Store {
    /// The journal's connection, not claimed yet. There is one: whoever asks first has it.
    ///
    /// # Panics
    /// When it was taken before.
    #[must_use]
    pub fn journal(&self) -> Box<dyn JournalStore> {
        let mut journal = self.journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        journal.take().expect("a store has one journal, and it was taken already")
    }

    pub fn subscriptions(&self) -> Subscriptions<'_> {
        Subscriptions(self)
    }

    pub fn scripts(&self) -> Scripts<'_> {
        Scripts(self)
    }

    pub fn events(&self) -> Events<'_> {
        Events(self)
    }

    pub fn outcomes(&self) -> Outcomes<'_> {
        Outcomes(self)
    }

    pub fn deliveries(&self) -> Deliveries<'_> {
        Deliveries(self)
    }

    pub fn scheduled(&self) -> ScheduledEmits<'_> {
        ScheduledEmits(self)
    }

    pub fn runs(&self) -> Runs<'_> {
        Runs(self)
    }

    pub fn recordings(&self) -> Recordings<'_> {
        Recordings(self)
    }

    pub fn letters(&self) -> Letters<'_> {
        Letters(self)
    }

    pub fn bulk(&self) -> Bulk<'_> {
        Bulk(self)
    }

    pub fn hooks(&self) -> Hooks<'_> {
        Hooks(self)
    }

    pub fn secrets(&self) -> Secrets<'_> {
        Secrets(self)
    }

    pub fn kv(&self) -> Kv<'_> {
        Kv(self)
    }

    pub fn retention(&self) -> Retention<'_> {
        Retention(self)
    }

    /// Where the journal stood at its last commit.
    pub async fn state(&self) -> Result<JournalState, Error> {
        let row = entity::journal_state::Entity::find_by_id(1).one(&self.connection).await?;
        let row = row.ok_or_else(|| Error::damaged("journal_state row", 1))?;
        Ok(JournalState {
            epoch: encode::unsigned(row.epoch),
            batch: encode::unsigned(row.batch),
            seq: Seq(encode::unsigned(row.seq)),
            run: encode::unsigned(row.run),
            watermark: Seq(encode::unsigned(row.watermark)),
            accepted_at: Millis(row.accepted_at),
            unclean_stops: encode::small(row.unclean_stops),
            event_bytes: encode::unsigned(row.event_bytes),
            run_bytes: encode::unsigned(row.run_bytes),
        })
    }

    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The SQLite file; `None` on PostgreSQL.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Begins a transaction that may write; see [`Gate::begin`].
    async fn write(&self) -> Result<Write, Error> {
        self.gate.begin(&self.connection).await
    }

    /// The distinct values of an indexed column of event types that the pattern takes, in order;
    /// without one all.
    ///
    /// Hops from value to value along the index, so its cost follows the number of types. Patterns
    /// are matched here, for neither database knows what a segment is.
    async fn types_like(
        &self,
        pattern: Option<&TypePattern>,
        table: &'static str,
        column: &'static str,
    ) -> Result<Vec<String>, Error> {
        let sql = format!(
            "WITH RECURSIVE types (name) AS (SELECT MIN({column}) FROM {table} UNION ALL \
             SELECT (SELECT MIN({column}) FROM {table} WHERE {column} > types.name) FROM types \
             WHERE types.name IS NOT NULL) SELECT name FROM types WHERE name IS NOT NULL"
        );
        let statement = Statement::from_string(self.connection.get_database_backend(), sql);
        let rows = self.connection.query_all_raw(statement).await?;
        let names = rows.iter().map(|row| row.try_get_by_index::<String>(0));
        let mut names = names.collect::<Result<Vec<_>, _>>()?;
        names.retain(|name| pattern.is_none_or(|pattern| pattern.matches(name)));
        Ok(names)
    }
}
