//! Everything a store holds, for comparing it with what it held before.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use rusqlite::types::ValueRef;
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// The rows of each table, sorted by their text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dump(BTreeMap<String, Vec<Map<String, Value>>>);

impl Dump {
    pub(crate) fn of_sqlite(file: &Path) -> Self {
        let db = rusqlite::Connection::open(file).unwrap();
        let names =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
        let mut names = db.prepare(names).unwrap();
        let names = names.query_map([], |row| row.get::<_, String>(0)).unwrap();
        Self::sorted(names.map(|name| {
            let name = name.unwrap();
            let rows = rows_of(&db, &name);
            (name, rows)
        }))
    }

    pub(crate) async fn of_postgres(url: &str) -> Self {
        let mut db = PgConnection::connect(url).await.unwrap();
        let names = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()";
        let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&mut db).await.unwrap();
        let mut tables = Vec::new();
        for name in names {
            let sql = AssertSqlSafe(format!("SELECT to_jsonb(t)::text FROM {name} t"));
            let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut db).await.unwrap();
            tables
                .push((name, rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()));
        }
        Self::sorted(tables)
    }

    fn sorted(tables: impl IntoIterator<Item = (String, Vec<Map<String, Value>>)>) -> Self {
        Self(
            tables
                .into_iter()
                .map(|(name, mut rows)| {
                    rows.sort_by_cached_key(|row| Value::Object(row.clone()).to_string());
                    (name, rows)
                })
                .collect(),
        )
    }

    /// Leaves out columns of a table: those that count starts, and are none of the test's business.
    pub(crate) fn without(mut self, table: &str, columns: &[&str]) -> Self {
        for row in self.0.get_mut(table).expect("a table of the store") {
            row.retain(|column, _| !columns.contains(&column.as_str()));
        }
        self
    }

    /// Leaves out a table.
    pub(crate) fn without_table(mut self, table: &str) -> Self {
        self.0.remove(table);
        self
    }

    /// Rows that only one of the two has, by table; none when both are the same.
    pub(crate) fn difference(&self, other: &Self) -> BTreeMap<String, Vec<String>> {
        let names: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let mut difference = BTreeMap::new();
        for name in names {
            let (ours, theirs) = (self.texts(name), other.texts(name));
            let only: Vec<String> = ours
                .difference(&theirs)
                .map(|row| format!("- {row}"))
                .chain(theirs.difference(&ours).map(|row| format!("+ {row}")))
                .collect();
            if !only.is_empty() {
                difference.insert(name.clone(), only);
            }
        }
        difference
    }

    pub(crate) fn rows(&self, table: &str) -> usize {
        self.0.get(table).map_or(0, Vec::len)
    }

    fn texts(&self, table: &str) -> BTreeSet<String> {
        let rows = self.0.get(table).into_iter().flatten();
        rows.map(|row| Value::Object(row.clone()).to_string()).collect()
    }
}

fn rows_of(db: &rusqlite::Connection, table: &str) -> Vec<Map<String, Value>> {
    let mut select = db.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let columns: Vec<String> = select.column_names().into_iter().map(str::to_owned).collect();
    let rows = select.query_map([], |row| {
        let value = |(at, name): (usize, &String)| Ok((name.clone(), json_of(row.get_ref(at)?)));
        columns.iter().enumerate().map(value).collect::<rusqlite::Result<_>>()
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn json_of(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => json!(number),
        ValueRef::Real(number) => json!(number),
        ValueRef::Text(text) => json!(String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => {
            json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
    }
}
