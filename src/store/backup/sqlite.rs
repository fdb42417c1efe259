//! Backups of SQLite: a read transaction beside the journal, and a file that is loaded whole.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, types::ValueRef};
use uuid::Uuid;

use super::{
    End, Error, Header, Marker, STEPS, Sink,
    format::{FORMAT, Unpacker, Value, Writer},
    sorted,
};
use crate::{domain::Millis, store::encode};

pub(super) fn write(path: &Path, sink: &mut dyn Sink) -> Result<(Header, End), Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(failed)?;
    connection.execute_batch("BEGIN").map_err(failed)?;
    // The first read is where the snapshot is taken.
    let header = header(&connection)?;
    let mut writer = Writer::begin(sink, &header)?;
    for table in sorted(tables(&connection)?) {
        rows(&connection, &table, &mut writer)?;
    }
    Ok((header, writer.end()?))
}

fn header(connection: &Connection) -> Result<Header, Error> {
    let sql = "SELECT store, seq, batch, watermark FROM journal_state WHERE id = 1";
    let (store, marker) = connection
        .query_row(sql, [], |row| {
            let number = |index| row.get(index).map(encode::unsigned);
            let marker = Marker { seq: number(1)?, batch: number(2)?, watermark: number(3)? };
            Ok((row.get::<_, Vec<u8>>(0)?, marker))
        })
        .map_err(failed)?;
    let steps = format!("SELECT version FROM {STEPS} ORDER BY version");
    // Those of the two tables that make a store large, by their numbers.
    let large = "SELECT (SELECT COALESCE(MAX(seq) - MIN(seq), 0) FROM events) \
         + (SELECT COALESCE(MAX(number) - MIN(number), 0) FROM runs)";
    Ok(Header {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        store: Uuid::from_slice(&store).map_err(|_| Error::Damaged("no id of the store".into()))?,
        database: "sqlite".into(),
        created_at: Millis::now(),
        schema: names(connection, &steps)?,
        marker,
        rows: count(connection, large)?,
        secrets: count(connection, "SELECT COUNT(*) FROM secrets")?,
    })
}

fn rows(connection: &Connection, table: &str, writer: &mut Writer<'_>) -> Result<(), Error> {
    let columns = columns(connection, table)?;
    writer.table(table, &columns)?;
    let sql = format!("SELECT {} FROM \"{table}\"", quoted(&columns));
    let mut statement = connection.prepare(&sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        for index in 0..columns.len() {
            match row.get_ref(index).map_err(failed)? {
                ValueRef::Null => writer.null(),
                ValueRef::Integer(value) => writer.int(value),
                ValueRef::Real(value) => writer.real(value),
                ValueRef::Text(value) => writer.text(value),
                ValueRef::Blob(value) => writer.bytes(value),
            }
        }
        writer.row()?;
    }
    Ok(())
}

/// Fills the tables of a store that nobody has opened yet, in one transaction.
pub(super) struct Filler {
    connection: Connection,
    /// What makes the triggers, which must not count rows that are counted already.
    triggers: Vec<String>,
}

impl Filler {
    /// Durability comes at the end, for all of it at once: until then the file has another name.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let connection = Connection::open(path).map_err(failed)?;
        for (name, value) in
            [("journal_mode", "OFF"), ("synchronous", "OFF"), ("foreign_keys", "OFF")]
        {
            connection.pragma_update_and_check(None, name, value, |_| Ok(())).or_else(|error| {
                if error == rusqlite::Error::QueryReturnedNoRows {
                    Ok(())
                } else {
                    Err(failed(error))
                }
            })?;
        }
        connection.execute_batch("BEGIN EXCLUSIVE").map_err(failed)?;
        let of = "FROM sqlite_schema WHERE type = 'trigger' ORDER BY name";
        let triggers = names(&connection, &format!("SELECT sql {of}"))?;
        for name in names(&connection, &format!("SELECT name {of}"))? {
            connection.execute_batch(&format!("DROP TRIGGER \"{name}\"")).map_err(failed)?;
        }
        Ok(Self { connection, triggers })
    }

    /// Takes out what a schema step has put in.
    pub(super) fn clear(&self, table: &str) -> Result<(), Error> {
        self.connection.execute_batch(&format!("DELETE FROM \"{table}\"")).map_err(failed)
    }

    pub(super) fn columns(&self, table: &str) -> Result<Vec<String>, Error> {
        columns(&self.connection, table)
    }

    pub(super) fn rows(
        &self,
        table: &str,
        columns: &[String],
        packed: &[u8],
    ) -> Result<u64, Error> {
        let marks = vec!["?"; columns.len()].join(", ");
        let sql = format!("INSERT INTO \"{table}\" ({}) VALUES ({marks})", quoted(columns));
        let mut insert = self.connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows = Unpacker::of(packed, columns.len())?;
        let mut count = 0;
        while let Some(row) = rows.row()? {
            insert.execute(rusqlite::params_from_iter(row)).map_err(failed)?;
            count += 1;
        }
        Ok(count)
    }

    /// Hands the store to a new owner, and puts the file on disk.
    pub(super) fn finish(self) -> Result<(), Error> {
        let connection = self.connection;
        for trigger in &self.triggers {
            connection.execute_batch(trigger).map_err(failed)?;
        }
        connection.execute_batch(super::load::HAND_OVER).map_err(failed)?;
        let dangling = count(&connection, "SELECT COUNT(*) FROM pragma_foreign_key_check")?;
        if dangling > 0 {
            return Err(Error::Damaged(format!(
                "{dangling} rows refer to rows that are not in it"
            )));
        }
        connection.execute_batch("COMMIT; PRAGMA synchronous = FULL").map_err(failed)?;
        connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
            .map_err(failed)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed)?;
        connection.close().map_err(|(_, error)| failed(error))
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::ToSqlOutput::Borrowed;
        Ok(Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Bytes(value) => ValueRef::Blob(value),
        }))
    }
}

fn tables(connection: &Connection) -> Result<Vec<String>, Error> {
    names(
        connection,
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
}

fn columns(connection: &Connection, table: &str) -> Result<Vec<String>, Error> {
    names(
        connection,
        &format!("SELECT name FROM pragma_table_info('{}')", table.replace('\'', "''")),
    )
}

fn names(connection: &Connection, sql: &str) -> Result<Vec<String>, Error> {
    let mut statement = connection.prepare(sql).map_err(failed)?;
    let names = statement.query_map([], |row| row.get(0)).map_err(failed)?;
    names.collect::<Result<_, _>>().map_err(failed)
}

fn count(connection: &Connection, sql: &str) -> Result<u64, Error> {
    connection.query_row(sql, [], |row| row.get(0)).map(encode::unsigned).map_err(failed)
}

fn quoted(columns: &[String]) -> String {
    columns.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn failed(error: rusqlite::Error) -> Error {
    match error {
        rusqlite::Error::SqliteFailure(code, _) if code.code == rusqlite::ErrorCode::DiskFull => {
            Error::Store(crate::store::Error::Full)
        }
        other => Error::Refused(format!("SQLite: {other}")),
    }
}
