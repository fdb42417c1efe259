//! Why the store did not do what it was asked.

use sea_orm::{DbErr, RuntimeErr, SqlErr};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} {id} does not exist")]
    NotFound { what: &'static str, id: String },
    /// A name that must be unique is taken.
    #[error("the name `{name}` is taken")]
    NameTaken { name: String },
    /// Something else still refers to it.
    #[error("the script is in use by {subscriptions} subscriptions")]
    InUse { subscriptions: u64 },
    /// A dead letter in a state that does not allow this.
    #[error("the letter is {status}")]
    NotDead { status: &'static str },
    /// It was changed since it was read: `If-Match` fails.
    #[error("revision {expected} was expected, and it is {current} by now")]
    Outdated { expected: u64, current: u64 },
    /// The payload is gone on purpose.
    #[error("the payload of event {event} was erased")]
    Erased { event: String },
    #[error("the disk of the store is full")]
    Full,
    #[error("another process has taken the store over (epoch {ours} is not the current one)")]
    Stale { ours: u64 },
    /// A second process on one store.
    #[error("{0}")]
    Owned(String),
    /// The store cannot be opened as it must be: not durable, newer schema, bad URL.
    #[error("{0}")]
    Refused(String),
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The database is away, or gave no connection in time. It may be asked again soon.
    #[error("the database does not answer: {0}")]
    Away(DbErr),
    #[error("the store failed: {0}")]
    Database(DbErr),
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        let text = error.to_string();
        // SQLITE_FULL, and PostgreSQL's 53100 `disk_full`.
        if text.contains("database or disk is full") || text.contains("No space left on device") {
            return Self::Full;
        }
        if is_away(&error) { Self::Away(error) } else { Self::Database(error) }
    }
}

/// No connection, one that broke, or a PostgreSQL that starts, stops or ends sessions (class 57P).
fn is_away(error: &DbErr) -> bool {
    use sea_orm::sqlx::Error as Driver;
    match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => true,
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            match &**error {
                Driver::Io(_) | Driver::PoolTimedOut | Driver::WorkerCrashed => true,
                Driver::Database(said) => said.code().is_some_and(|code| code.starts_with("57P")),
                _ => false,
            }
        }
        _ => false,
    }
}

impl Error {
    /// The store as a whole cannot do it now; nothing is wrong with what it was asked.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Full | Self::Away(_) | Self::Database(_))
    }

    pub(super) fn not_found(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    pub(super) fn damaged(what: &str, id: impl std::fmt::Display) -> Self {
        Self::Damaged(format!("{what} {id} cannot be read"))
    }

    /// Turns a violated unique constraint into "this name is taken".
    pub(super) fn or_taken(error: DbErr, name: &str) -> Self {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_)) => Self::NameTaken { name: name.to_owned() },
            _ => error.into(),
        }
    }
}
