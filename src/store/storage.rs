//! How much the store holds, and how it keeps it.

use std::path::{Path, PathBuf};

use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement};

use super::{Error, Store, encode};

/// What the store takes on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// `sqlite` or `postgres`.
    pub kind: &'static str,
    /// When a commit is durable: SQLite's `synchronous`, PostgreSQL's `synchronous_commit`.
    pub synchronous: String,
    pub bytes: u64,
    /// Of the write-ahead log beside the SQLite file.
    pub wal_bytes: Option<u64>,
    pub tables: Vec<TableSize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSize {
    pub name: String,
    /// An estimate for large tables.
    pub rows: u64,
    /// With its indexes. `None` where finding out would read a large file whole.
    pub bytes: Option<u64>,
}

pub(super) const TABLES: [&str; 29] = [
    "events",
    "key_blocks",
    "key_segments",
    "key_pages",
    "outcome_blocks",
    "outcome_late",
    "runs",
    "recordings",
    "deliveries",
    "scheduled",
    "dead_letters",
    "letter_counts",
    "letter_groups",
    "bulk_operations",
    "scripts",
    "script_versions",
    "subscriptions",
    "subscription_definitions",
    "tokens",
    "sessions",
    "audit",
    "audit_size",
    "size_marks",
    "journal_state",
    "kv",
    "kv_spaces",
    "secrets",
    "hooks",
    "seaql_migrations",
];

/// Files up to this size are read whole to tell how much each table takes.
const READ_WHOLE_BYTES: u64 = 64 << 20;
/// Rows that are counted one by one in tables without a number to go by.
const COUNTED_ROWS: u64 = 200_000;

/// The write-ahead log beside the SQLite file.
pub(super) fn wal_path(path: &Path) -> PathBuf {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    wal.into()
}

impl Store {
    /// Size of the write-ahead log's file; `None` on PostgreSQL.
    #[must_use]
    pub fn wal_bytes(&self) -> Option<u64> {
        let path = self.path.as_deref()?;
        Some(std::fs::metadata(wal_path(path)).map_or(0, |file| file.len()))
    }

    /// Room that is left on the disk of the SQLite file; `None` on PostgreSQL, or where the system does
    /// not say.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(self.path.as_deref()?).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// What the store takes on disk, without its log.
    pub async fn bytes(&self) -> Result<u64, Error> {
        match &self.path {
            Some(path) => Ok(std::fs::metadata(path).map_or(0, |file| file.len())),
            None => self.number("SELECT pg_database_size(current_database())").await,
        }
    }

    /// What each table takes. Reads some megabytes at most.
    pub async fn storage(&self) -> Result<Storage, Error> {
        match self.connection.get_database_backend() {
            DbBackend::Postgres => self.postgres_storage().await,
            _ => self.sqlite_storage().await,
        }
    }

    async fn sqlite_storage(&self) -> Result<Storage, Error> {
        let bytes = self
            .number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            .await?;
        let mut tables = Vec::with_capacity(TABLES.len());
        for name in TABLES {
            let rows = match name {
                // Numbered without gaps but for what retention leaves.
                "events" => "SELECT COALESCE(MAX(seq) - MIN(seq) + 1, 0) FROM (SELECT MAX(seq) AS seq FROM events UNION ALL SELECT MIN(seq) FROM events)".into(),
                "runs" => "SELECT COALESCE(MAX(number) - MIN(number) + 1, 0) FROM (SELECT MAX(number) AS number FROM runs UNION ALL SELECT MIN(number) FROM runs)".into(),
                _ => format!("SELECT COUNT(*) FROM (SELECT 1 FROM {name} LIMIT {COUNTED_ROWS})"),
            };
            let size = format!(
                "SELECT COALESCE(SUM(pgsize), 0) FROM dbstat WHERE aggregate = TRUE AND name IN \
                 (SELECT name FROM sqlite_schema WHERE tbl_name = '{name}')"
            );
            tables.push(TableSize {
                name: name.to_owned(),
                rows: self.number(&rows).await?,
                bytes: if bytes <= READ_WHOLE_BYTES {
                    Some(self.number(&size).await?)
                } else {
                    None
                },
            });
        }
        Ok(Storage {
            kind: "sqlite",
            synchronous: self.synchronous().await?,
            bytes,
            wal_bytes: self.wal_bytes(),
            tables,
        })
    }

    /// When a commit is durable: SQLite's `synchronous`, PostgreSQL's `synchronous_commit`.
    pub async fn synchronous(&self) -> Result<String, Error> {
        if self.connection.get_database_backend() == DbBackend::Sqlite {
            let level = self.number("SELECT synchronous FROM pragma_synchronous").await?;
            let names = ["off", "normal", "full", "extra"];
            let name = usize::try_from(level).ok().and_then(|level| names.get(level));
            return Ok(name.map_or_else(|| level.to_string(), |&name| name.to_owned()));
        }
        let level = self.query("SELECT current_setting('synchronous_commit')").await?;
        Ok(level.first().map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or_default())
    }

    async fn postgres_storage(&self) -> Result<Storage, Error> {
        let sql = "SELECT c.relname::text, GREATEST(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid)::bigint \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = current_schema() AND c.relkind = 'r'";
        let found = self.query(sql).await?;
        let mut tables = Vec::with_capacity(TABLES.len());
        for name in TABLES {
            let Some(row) = found.iter().find(|row| {
                row.try_get_by_index::<String>(0).is_ok_and(|relation| relation == name)
            }) else {
                continue;
            };
            tables.push(TableSize {
                name: name.to_owned(),
                rows: encode::unsigned(row.try_get_by_index(1)?),
                bytes: Some(encode::unsigned(row.try_get_by_index(2)?)),
            });
        }
        let synchronous = self.synchronous().await?;
        let bytes = tables.iter().filter_map(|table| table.bytes).sum();
        Ok(Storage { kind: "postgres", synchronous, bytes, wal_bytes: None, tables })
    }

    async fn query(&self, sql: &str) -> Result<Vec<QueryResult>, Error> {
        let statement = Statement::from_string(self.connection.get_database_backend(), sql);
        Ok(self.connection.query_all_raw(statement).await?)
    }

    async fn number(&self, sql: &str) -> Result<u64, Error> {
        let rows = self.query(sql).await?;
        let row = rows.first().ok_or_else(|| Error::Damaged("no answer to a count".into()))?;
        Ok(encode::unsigned(row.try_get_by_index::<i64>(0)?))
    }
}
