//! Backups of PostgreSQL: one REPEATABLE READ transaction out, COPY in.

use futures::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, Column as _, Connection, Executor as _, PgConnection, Row, TypeInfo as _,
    ValueRef as _,
    postgres::{PgConnectOptions, PgRow},
};
use uuid::Uuid;

use super::{
    End, Error, Header, Marker, STEPS, Sink,
    format::{FORMAT, Unpacker, Value, Writer},
    sorted,
};
use crate::{domain::Millis, store::encode};

pub(super) fn write(
    options: PgConnectOptions,
    sink: &mut dyn Sink,
) -> Result<(Header, End), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = PgConnection::connect_with(&options).await.map_err(failed)?;
        connection
            .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await
            .map_err(failed)?;
        // The first read is where the snapshot is taken.
        let header = header(&mut connection).await?;
        let mut writer = Writer::begin(sink, &header)?;
        for table in sorted(tables(&mut connection).await?) {
            rows(&mut connection, &table, &mut writer).await?;
        }
        Ok((header, writer.end()?))
    })
}

async fn header(connection: &mut PgConnection) -> Result<Header, Error> {
    let sql = "SELECT store, seq, batch, watermark FROM journal_state WHERE id = 1";
    let state = sqlx::query(sql).fetch_one(&mut *connection).await.map_err(failed)?;
    let number = |index: usize| state.try_get::<i64, _>(index).map(encode::unsigned);
    let marker = Marker {
        seq: number(1).map_err(failed)?,
        batch: number(2).map_err(failed)?,
        watermark: number(3).map_err(failed)?,
    };
    let steps = format!("SELECT version FROM {STEPS} ORDER BY version");
    let large = "SELECT (SELECT COALESCE(MAX(seq) - MIN(seq), 0) FROM events) \
         + (SELECT COALESCE(MAX(number) - MIN(number), 0) FROM runs)";
    Ok(Header {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        store: state.try_get::<Uuid, _>(0).map_err(failed)?,
        database: "postgres".into(),
        created_at: Millis::now(),
        schema: names(connection, &steps).await?,
        marker,
        rows: count(connection, large).await?,
        secrets: count(connection, "SELECT COUNT(*) FROM secrets").await?,
    })
}

async fn rows(
    connection: &mut PgConnection,
    table: &str,
    writer: &mut Writer<'_>,
) -> Result<(), Error> {
    let columns = columns(connection, table).await?;
    writer.table(table, &columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>())?;
    let sql = format!("SELECT {} FROM \"{table}\"", quoted(columns.iter().map(|(name, _)| name)));
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        for index in 0..columns.len() {
            column(&row, index, writer).map_err(failed)?;
        }
        writer.row()?;
    }
    Ok(())
}

fn column(row: &PgRow, index: usize, writer: &mut Writer<'_>) -> Result<(), sqlx::Error> {
    if row.try_get_raw(index)?.is_null() {
        writer.null();
        return Ok(());
    }
    match row.column(index).type_info().name() {
        "INT8" => writer.int(row.try_get(index)?),
        // As SQLite has it.
        "BOOL" => writer.int(i64::from(row.try_get::<bool, _>(index)?)),
        "FLOAT8" => writer.real(row.try_get(index)?),
        "UUID" => writer.bytes(row.try_get::<Uuid, _>(index)?.as_bytes()),
        "BYTEA" => writer.bytes(row.try_get(index)?),
        _ => writer.text(row.try_get::<&str, _>(index)?.as_bytes()),
    }
    Ok(())
}

/// Fills the tables of a store that nobody serves, in one transaction.
pub(super) struct Filler<'a> {
    connection: &'a mut PgConnection,
    tables: Vec<String>,
}

impl<'a> Filler<'a> {
    pub(super) async fn begin(connection: &'a mut PgConnection) -> Result<Self, Error> {
        connection.execute("BEGIN").await.map_err(failed)?;
        Ok(Self { connection, tables: Vec::new() })
    }

    /// Takes out what a schema step has put in. Triggers must not count rows that are counted already.
    pub(super) async fn clear(&mut self, table: &str) -> Result<(), Error> {
        let sql = format!("ALTER TABLE \"{table}\" DISABLE TRIGGER USER; DELETE FROM \"{table}\"");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *self.connection).await.map_err(failed)?;
        self.tables.push(table.to_owned());
        Ok(())
    }

    /// Names and types.
    pub(super) async fn columns(&mut self, table: &str) -> Result<Vec<(String, String)>, Error> {
        columns(self.connection, table).await
    }

    /// `columns` with their types, in the order of the values.
    pub(super) async fn rows(
        &mut self,
        table: &str,
        columns: &[(String, String)],
        packed: &[u8],
    ) -> Result<u64, Error> {
        let names = quoted(columns.iter().map(|(name, _)| name));
        let sql = format!("COPY \"{table}\" ({names}) FROM STDIN");
        let mut rows = Unpacker::of(packed, columns.len())?;
        let mut text = Vec::with_capacity(packed.len() * 2);
        let mut count = 0;
        while let Some(row) = rows.row()? {
            for (index, (value, (_, kind))) in row.iter().zip(columns).enumerate() {
                if index > 0 {
                    text.push(b'\t');
                }
                copied(value, kind, &mut text);
            }
            text.push(b'\n');
            count += 1;
        }
        let mut copy = self.connection.copy_in_raw(&sql).await.map_err(failed)?;
        copy.send(text).await.map_err(failed)?;
        copy.finish().await.map_err(failed)?;
        Ok(count)
    }

    pub(super) async fn finish(self, more: &'static str) -> Result<(), Error> {
        self.connection.execute(super::load::HAND_OVER).await.map_err(failed)?;
        for table in &self.tables {
            let sql = format!("ALTER TABLE \"{table}\" ENABLE TRIGGER USER");
            self.connection.execute(AssertSqlSafe(sql)).await.map_err(failed)?;
        }
        self.connection.execute(more).await.map_err(failed)?;
        self.connection.execute("COMMIT").await.map_err(failed)?;
        Ok(())
    }
}

/// A value as COPY's text format has it.
fn copied(value: &Value, kind: &str, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"\\N"),
        Value::Int(value) if kind == "boolean" => out.push(if *value == 0 { b'f' } else { b't' }),
        Value::Int(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Real(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Bytes(value) => {
            if kind == "bytea" {
                out.extend_from_slice(b"\\\\x");
            }
            for byte in value {
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        Value::Text(value) => {
            for &byte in value.as_bytes() {
                match byte {
                    b'\\' => out.extend_from_slice(b"\\\\"),
                    b'\n' => out.extend_from_slice(b"\\n"),
                    b'\r' => out.extend_from_slice(b"\\r"),
                    b'\t' => out.extend_from_slice(b"\\t"),
                    other => out.push(other),
                }
            }
        }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

pub(super) async fn tables(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
    let sql = "SELECT table_name::text FROM information_schema.tables \
         WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'";
    names(connection, sql).await
}

async fn columns(
    connection: &mut PgConnection,
    table: &str,
) -> Result<Vec<(String, String)>, Error> {
    let sql = "SELECT column_name::text, data_type::text FROM information_schema.columns \
         WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position";
    let rows = sqlx::query(sql).bind(table).fetch_all(connection).await.map_err(failed)?;
    let pair = |row: PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.into_iter().map(pair).collect::<Result<_, _>>().map_err(failed)
}

async fn names(connection: &mut PgConnection, sql: &str) -> Result<Vec<String>, Error> {
    let sql = AssertSqlSafe(sql.to_owned());
    sqlx::query_scalar(sql).fetch_all(connection).await.map_err(failed)
}

async fn count(connection: &mut PgConnection, sql: &'static str) -> Result<u64, Error> {
    let count: i64 = sqlx::query_scalar(sql).fetch_one(connection).await.map_err(failed)?;
    Ok(encode::unsigned(count))
}

fn quoted<'a>(columns: impl Iterator<Item = &'a String>) -> String {
    columns.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

pub(super) fn failed(error: sqlx::Error) -> Error {
    Error::Refused(format!("PostgreSQL: {error}"))
}
