//! Restoring: a backup becomes a store, whole or not at all.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use migration::Migrator;
use sea_orm::{DatabaseConnection, SqlxPostgresConnector, SqlxSqliteConnector};
use sea_orm_migration::MigratorTrait;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    End, Error, Header, Lock, OwnerLock, STEPS,
    format::{Part, Reader},
    postgres, sqlite,
};
use crate::store::{Error as StoreError, SealedSecret, journal, storage::TABLES};

/// The restored store was not stopped by anyone, and whoever had the other one has not this one.
pub(super) const HAND_OVER: &str =
    "UPDATE journal_state SET epoch = epoch + 1, clean = TRUE, unclean_stops = 0 WHERE id = 1";

/// On PostgreSQL: there while a restore is under way, so that half a store is never served.
pub(in crate::store) const UNFINISHED: &str = "restore_unfinished";

/// Where a backup is to become a store: locked, and looked at.
pub struct Target {
    place: Place,
    lock: Lock,
    /// Something is there already.
    pub is_taken: bool,
}

enum Place {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
}

/// A backup that became a store.
#[derive(Debug)]
pub struct Loaded {
    pub header: Header,
    pub end: End,
    /// As the store has them, for who looks whether they can be opened.
    pub secrets: Vec<SealedSecret>,
}

impl Target {
    /// Takes the owner's lock of the place that `url` names.
    ///
    /// # Errors
    /// [`StoreError::Owned`] when a server has it.
    pub async fn at(url: &str) -> Result<Self, Error> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder)?;
            }
            let lock = Lock::Sqlite { _held: OwnerLock::take(&path)? };
            let is_taken = path.metadata().is_ok_and(|file| file.len() > 0);
            return Ok(Self { place: Place::Sqlite(path), lock, is_taken });
        }
        let options: PgConnectOptions = url.parse().map_err(postgres::failed)?;
        let options = options.application_name("tripline restore").disable_statement_logging();
        let mut connection =
            PgConnection::connect_with(&options).await.map_err(postgres::failed)?;
        journal::postgres::lock(&mut connection)
            .await
            .map_err(|error| StoreError::Owned(error.to_string()))?;
        let tables = postgres::tables(&mut connection).await?;
        // What an earlier restore left unfinished is nobody's store.
        let is_taken = tables.iter().any(|table| table == "journal_state")
            && !tables.iter().any(|table| table == UNFINISHED);
        let lock = Lock::Postgres(Box::new(connection));
        Ok(Self { place: Place::Postgres(Box::new(options)), lock, is_taken })
    }

    /// Makes the backup the store of this place, in the place of what may be there. `seen` hears of
    /// the rows.
    ///
    /// On SQLite the file takes its name when it is whole and on disk. On PostgreSQL tables are
    /// filled in one transaction, and a store whose restore did not end is refused by servers.
    pub async fn load(self, backup: impl Read, seen: impl FnMut(u64)) -> Result<Loaded, Error> {
        let (reader, header) = Reader::begin(backup)?;
        let steps = known_steps(&header)?;
        match (self.place, self.lock) {
            (Place::Sqlite(path), lock) => {
                let loaded = load_sqlite(&path, reader, header, steps, seen).await;
                drop(lock);
                loaded
            }
            (Place::Postgres(options), Lock::Postgres(mut connection)) => {
                load_postgres(*options, &mut connection, reader, header, steps, seen).await
            }
            (Place::Postgres(_), Lock::Sqlite { .. }) => {
                Err(Error::Refused("the lock is of another store".into()))
            }
        }
    }
}

/// How many of our schema steps the backup has; they must be our first ones.
fn known_steps(header: &Header) -> Result<u32, Error> {
    let ours: Vec<String> =
        Migrator::migrations().iter().map(|step| step.name().to_owned()).collect();
    if let Some(unknown) = header.schema.iter().find(|step| !ours.contains(step)) {
        return Err(Error::Newer {
            version: header.version.clone(),
            ours: env!("CARGO_PKG_VERSION"),
            what: format!("schema step `{unknown}`"),
        });
    }
    if !ours.starts_with(&header.schema) {
        return Err(Error::Damaged("its schema steps are not in order".into()));
    }
    u32::try_from(header.schema.len()).map_err(|_| Error::Damaged("too many schema steps".into()))
}

async fn load_sqlite(
    path: &Path,
    mut reader: Reader<impl Read>,
    header: Header,
    steps: u32,
    mut seen: impl FnMut(u64),
) -> Result<Loaded, Error> {
    let fresh = beside(path, ".restoring");
    for old in ["", "-wal", "-shm", "-journal"] {
        remove(&beside(&fresh, old))?;
    }
    journal::sqlite::create(&fresh).map_err(|error| Error::Refused(error.to_string()))?;
    let schema = sqlite_schema(&fresh).await?;
    Migrator::up(&schema, Some(steps)).await.map_err(StoreError::from)?;
    schema.close().await.map_err(StoreError::from)?;
    let filler = sqlite::Filler::open(&fresh)?;
    let (mut table, mut rows) = (None, 0);
    let end = loop {
        match reader.next()? {
            Part::Table(next) => {
                check_columns(&next.table, &next.columns, &filler.columns(&next.table)?)?;
                filler.clear(&next.table)?;
                table = Some(next);
            }
            Part::Rows(packed) => {
                let table = table.as_ref().ok_or_else(no_table)?;
                rows += filler.rows(&table.table, &table.columns, &packed)?;
                seen(rows);
            }
            Part::End(end) => break end,
        }
    };
    filler.finish()?;
    let secrets = sqlite_secrets(&fresh).await?;
    replace(&fresh, path)?;
    Ok(Loaded { header, end, secrets })
}

async fn sqlite_schema(path: &Path) -> Result<DatabaseConnection, Error> {
    use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
    let options = SqliteConnectOptions::new().filename(path).disable_statement_logging();
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
    let pool = pool.map_err(|error| Error::Refused(format!("SQLite: {error}")))?;
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

async fn sqlite_secrets(path: &Path) -> Result<Vec<SealedSecret>, Error> {
    let connection = sqlite_schema(path).await?;
    let secrets = sealed(&connection).await?;
    connection.close().await.map_err(StoreError::from)?;
    Ok(secrets)
}

async fn sealed(connection: &DatabaseConnection) -> Result<Vec<SealedSecret>, Error> {
    use sea_orm::EntityTrait as _;
    let rows = entity::secrets::Entity::find().all(connection).await.map_err(StoreError::from)?;
    Ok(rows.into_iter().map(SealedSecret::from).collect())
}

/// The restored file takes the store's name. What was there goes first, its log before it: a log
/// that outlived its database would be played into the next one.
fn replace(fresh: &Path, path: &Path) -> Result<(), Error> {
    std::fs::File::open(fresh)?.sync_all()?;
    for log in ["-wal", "-shm"] {
        remove(&beside(fresh, log))?;
        remove(&beside(path, log))?;
    }
    std::fs::rename(fresh, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok(std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?)
}

async fn load_postgres(
    options: PgConnectOptions,
    connection: &mut PgConnection,
    mut reader: Reader<impl Read>,
    header: Header,
    steps: u32,
    mut seen: impl FnMut(u64),
) -> Result<Loaded, Error> {
    clear(connection).await?;
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await;
    let schema = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.map_err(postgres::failed)?);
    Migrator::up(&schema, Some(steps)).await.map_err(StoreError::from)?;
    let mut filler = postgres::Filler::begin(connection).await?;
    let (mut table, mut rows) = (None, 0);
    let end = loop {
        match reader.next()? {
            Part::Table(next) => {
                let there = filler.columns(&next.table).await?;
                let names: Vec<String> = there.iter().map(|(name, _)| name.clone()).collect();
                check_columns(&next.table, &next.columns, &names)?;
                filler.clear(&next.table).await?;
                let typed = |name: &String| {
                    let found = there.iter().find(|(there, _)| there == name);
                    found.cloned().ok_or_else(no_table)
                };
                let columns = next.columns.iter().map(typed).collect::<Result<Vec<_>, _>>()?;
                table = Some((next.table, columns));
            }
            Part::Rows(packed) => {
                let (table, columns) = table.as_ref().ok_or_else(no_table)?;
                rows += filler.rows(table, columns, &packed).await?;
                seen(rows);
            }
            Part::End(end) => break end,
        }
    };
    filler.finish("DROP TABLE restore_unfinished").await?;
    let secrets = sealed(&schema).await?;
    schema.close().await.map_err(StoreError::from)?;
    Ok(Loaded { header, end, secrets })
}

/// Drops what is there, and says that what comes is not whole yet.
async fn clear(connection: &mut PgConnection) -> Result<(), Error> {
    connection.execute("BEGIN").await.map_err(postgres::failed)?;
    // By name: what else is in the schema is not ours to drop.
    for table in TABLES.iter().chain([&UNFINISHED]) {
        let sql = format!("DROP TABLE IF EXISTS \"{table}\" CASCADE");
        connection.execute(AssertSqlSafe(sql)).await.map_err(postgres::failed)?;
    }
    let mark = format!("CREATE TABLE {UNFINISHED} (id BIGINT); COMMIT");
    connection.execute(AssertSqlSafe(mark)).await.map_err(postgres::failed)?;
    Ok(())
}

/// What a backup names becomes part of statements: it is ours, or the backup is refused.
fn check_columns(table: &str, wanted: &[String], there: &[String]) -> Result<(), Error> {
    if there.is_empty() || table == STEPS || !TABLES.contains(&table) {
        return Err(Error::Damaged(format!("there is no table {table}")));
    }
    match wanted.iter().find(|column| !there.contains(column)) {
        Some(column) => Err(Error::Damaged(format!("there is no column {table}.{column}"))),
        None => Ok(()),
    }
}

fn no_table() -> Error {
    Error::Damaged("rows of no table".into())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
