//! Opening a store: which database, its durability checked, its schema brought up to date.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use migration::Migrator;
use sea_orm::{
    ActiveValue::Set,
    DatabaseConnection, EntityTrait, SqlxPostgresConnector, SqlxSqliteConnector,
    sqlx::{
        self, ConnectOptions, Connection, PgConnection, Row,
        postgres::{PgConnectOptions, PgPoolOptions},
        sqlite::{
            SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions,
            SqliteSynchronous,
        },
    },
};
use sea_orm_migration::MigratorTrait;
use uuid::Uuid;

use super::{
    Error, Gate, SQLITE_PRAGMAS, Store,
    backup::UNFINISHED,
    journal::{JournalStore, postgres, sqlite},
    link::Link,
    owner::OwnerLock,
};
use crate::domain::Millis;

/// Readers at once on SQLite. Writers pass the gate, so one of them is never idle in a queue.
const SQLITE_CONNECTIONS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 8;
/// How long a request waits for a PostgreSQL that is away, or for one of its connections.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// A long schema step says so often that it goes on.
const TOLD_EVERY: Duration = Duration::from_secs(5);

impl Store {
    /// Opens `sqlite://path/to.db` (created if need be, its folder too) or `postgres://…`.
    ///
    /// On SQLite this takes the owner's lock; on PostgreSQL the journal does when it claims.
    ///
    /// # Errors
    /// [`Error::Owned`] when another process has the store, [`Error::Refused`] when it would not
    /// be durable, when its schema is newer than this program, or when the URL names neither.
    pub async fn open(url: &str) -> Result<Self, Error> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            open_sqlite(Path::new(path)).await
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            open_postgres(url).await
        } else {
            let scheme = url.split("://").next().unwrap_or_default();
            Err(Error::Refused(format!(
                "storage.url: expected sqlite://path or postgres://…, found `{scheme}://`"
            )))
        }
    }
}

async fn open_sqlite(path: &Path) -> Result<Store, Error> {
    if path.as_os_str().is_empty() || path.to_string_lossy().starts_with(":memory:") {
        return Err(Error::Refused("storage.url: expected a path after sqlite://".into()));
    }
    let refused = |what: &str, error: &dyn std::fmt::Display| {
        Error::Refused(format!("{what} {}: {error}", path.display()))
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|error| refused("cannot create the folder of", &error))?;
    }
    let lock = Arc::new(OwnerLock::take(path)?);
    if !path.exists() || path.metadata().is_ok_and(|file| file.len() == 0) {
        sqlite::create(path).map_err(|error| refused("cannot create", &error))?;
    }
    // The pool would try again until its time is up, and then not say why.
    sqlite::check(path).map_err(|error| refused("cannot open", &error))?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        // Much that is written past the journal must not pile up until its next commit.
        .pragma("wal_autocheckpoint", "10000")
        .pragma("temp_store", "MEMORY")
        // What is deleted is overwritten wherever its page is written anyway.
        .pragma("secure_delete", "FAST")
        .disable_statement_logging();
    let pool = SqlitePoolOptions::new()
        .max_connections(SQLITE_CONNECTIONS)
        .min_connections(1)
        .acquire_timeout(Duration::from_secs(30))
        .after_connect(|connection, _| Box::pin(check_pragmas(connection)))
        // A COMMIT that fails leaves it in doubt whether a transaction is open, and the driver takes it
        // that one is: the next write would be a savepoint in it, and a rollback to that one would keep
        // the log locked for ever.
        .after_release(|connection, _| {
            let is_open = connection.is_in_transaction();
            Box::pin(async move { Ok(!is_open) })
        })
        .connect_with(options)
        .await
        .map_err(|error| refused("cannot open", &error))?;
    let mut connection = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool);
    count_statements(&mut connection);
    prepare(&connection).await?;
    let gate = Gate::default();
    let journal = sqlite::SqliteJournal::new(path, lock, gate.clone());
    Ok(Store::new(connection, gate, Some(Box::new(journal)), Some(path.to_owned()), None))
}

/// Refuses a connection that would lose what it acknowledged.
async fn check_pragmas(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for (name, expected) in SQLITE_PRAGMAS {
        let sql = sqlx::AssertSqlSafe(format!("PRAGMA {name}"));
        let row = sqlx::query(sql).fetch_one(&mut *connection).await?;
        let found = match row.try_get_unchecked::<i64, _>(0) {
            Ok(number) if name != "journal_mode" => number.to_string(),
            _ => row.try_get_unchecked::<String, _>(0)?,
        };
        if !found.eq_ignore_ascii_case(expected) {
            return Err(sqlx::Error::Configuration(
                format!("SQLite's {name} is {found}, not {expected}").into(),
            ));
        }
    }
    Ok(())
}

async fn open_postgres(url: &str) -> Result<Store, Error> {
    let refused = |error: &dyn std::fmt::Display| {
        Error::Refused(format!("cannot open the database: {error}"))
    };
    let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| refused(&error))?;
    let options = options.application_name("tripline").disable_statement_logging();
    let mut owner = PgConnection::connect_with(&options).await.map_err(|error| refused(&error))?;
    postgres::check_durability(&mut owner).await.map_err(|error| refused(&error))?;
    // Nobody may be at work on a schema that is about to change.
    postgres::lock(&mut owner).await.map_err(|error| Error::Owned(error.to_string()))?;
    let pool = PgPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS)
        .acquire_timeout(ANSWER_TIMEOUT)
        .connect_with(options.clone())
        .await
        .map_err(|error| refused(&error))?;
    refuse_half_a_store(&mut owner).await?;
    let mut connection = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
    count_statements(&mut connection);
    prepare(&connection).await?;
    // The journal takes the lock again when it claims, on the connection that it keeps.
    owner.close().await.map_err(|error| refused(&error))?;
    let gate = Gate::default();
    let journal = postgres::PostgresJournal::new(options.clone(), gate.clone())
        .map_err(|error| refused(&error))?;
    Ok(Store::new(connection, gate, Some(Box::new(journal)), None, Some(options)))
}

/// A restore fills tables that are not a store until it has ended.
async fn refuse_half_a_store(connection: &mut PgConnection) -> Result<(), Error> {
    let unfinished: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(UNFINISHED)
        .fetch_one(connection)
        .await
        .map_err(|error| Error::Refused(format!("cannot open the database: {error}")))?;
    if unfinished {
        return Err(Error::Refused(
            "a restore into this database did not end: run `tripline restore` again".into(),
        ));
    }
    Ok(())
}

/// So that work at rest shows.
fn count_statements(connection: &mut DatabaseConnection) {
    let count = metrics::counter!("tripline_store_statements_total");
    connection.set_metric_callback(move |_| count.increment(1));
}

/// Brings the schema up to date and sees to the journal's row.
async fn prepare(connection: &DatabaseConnection) -> Result<(), Error> {
    let known: Vec<String> =
        Migrator::migrations().iter().map(|step| step.name().to_owned()).collect();
    // Creates the table of steps if need be; must come before `up`, which says the same less well.
    Migrator::install(connection).await?;
    let applied = Migrator::get_migration_models(connection).await?;
    if let Some(newer) = applied.iter().find(|step| !known.contains(&step.version)) {
        return Err(Error::Refused(format!(
            "the store was written by a newer version of this program (schema step `{}` is unknown \
             to {}): upgrade, or restore the backup from before",
            newer.version,
            env!("CARGO_PKG_VERSION"),
        )));
    }
    bring_up(connection, known.len().saturating_sub(applied.len())).await?;
    if entity::journal_state::Entity::find().one(connection).await?.is_none() {
        let row = entity::journal_state::ActiveModel {
            id: Set(1),
            store: Set(Uuid::now_v7()),
            created_at: Set(Millis::now().0),
            epoch: Set(0),
            batch: Set(0),
            seq: Set(0),
            run: Set(0),
            watermark: Set(0),
            accepted_at: Set(0),
            clean: Set(true),
            unclean_stops: Set(0),
            retained: Set(1),
            event_bytes: Set(0),
            run_bytes: Set(0),
        };
        entity::journal_state::Entity::insert(row).exec_without_returning(connection).await?;
    }
    Ok(())
}

/// One schema step after the other, each in a transaction of its own, and each told of.
async fn bring_up(connection: &DatabaseConnection, pending: usize) -> Result<(), Error> {
    for step in 1..=pending {
        let begun = std::time::Instant::now();
        tracing::info!("schema step {step} of {pending} begins");
        let mut working = std::pin::pin!(Migrator::up(connection, Some(1)));
        while tokio::time::timeout(TOLD_EVERY, &mut working)
            .await
            .map_or(Ok(true), |up| up.map(|()| false))?
        {
            tracing::info!(elapsed = ?begun.elapsed(), "schema step {step} of {pending} goes on");
        }
        tracing::info!(took = ?begun.elapsed(), "schema step {step} of {pending} is done");
    }
    Ok(())
}

impl Store {
    pub(super) fn new(
        connection: DatabaseConnection,
        gate: Gate,
        journal: Option<Box<dyn JournalStore>>,
        path: Option<PathBuf>,
        postgres: Option<PgConnectOptions>,
    ) -> Self {
        let journal = Arc::new(Mutex::new(journal));
        let connection = Link::new(connection);
        Self { connection, gate, journal, path, postgres, retained: Arc::default() }
    }
}
