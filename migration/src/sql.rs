//! Runs one step's statements on either database.
//!
//! Steps are plain SQL with the few words that differ in braces: `{int}`, `{bytes}`, `{uuid}`,
//! `{real}`, `{bool}`, `{ordered}` (text in the order of its bytes), `{table}` and `{keyed}` (the end of a table, and of one that lives in its
//! primary key). The query builder cannot say STRICT, WITHOUT ROWID or a partial index.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

/// Runs the statements in order. The step's transaction makes them all or nothing.
pub(crate) async fn run(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    let words: [(&str, &str); 8] = match manager.get_database_backend() {
        DbBackend::Postgres => [
            ("{int}", "BIGINT"),
            ("{bytes}", "BYTEA"),
            ("{uuid}", "UUID"),
            ("{real}", "DOUBLE PRECISION"),
            ("{bool}", "BOOLEAN"),
            ("{ordered}", "TEXT COLLATE \"C\""),
            ("{table}", ""),
            ("{keyed}", ""),
        ],
        // INTEGER, not BIGINT: only that makes a primary key the row id itself.
        _ => [
            ("{int}", "INTEGER"),
            ("{bytes}", "BLOB"),
            ("{uuid}", "BLOB"),
            ("{real}", "REAL"),
            ("{bool}", "INTEGER"),
            ("{ordered}", "TEXT"),
            ("{table}", "STRICT"),
            ("{keyed}", "STRICT, WITHOUT ROWID"),
        ],
    };
    let sql = words.iter().fold(sql.to_owned(), |sql, (word, with)| sql.replace(word, with));
    manager.get_connection().execute_unprepared(&sql).await?;
    Ok(())
}

/// A step that is one list of statements, run in one transaction on both databases.
macro_rules! step {
    ($sql:expr) => {
        #[derive(sea_orm_migration::prelude::DeriveMigrationName)]
        pub(crate) struct Migration;

        #[sea_orm_migration::async_trait::async_trait]
        impl sea_orm_migration::MigrationTrait for Migration {
            async fn up(
                &self,
                manager: &sea_orm_migration::SchemaManager,
            ) -> Result<(), sea_orm_migration::DbErr> {
                crate::sql::run(manager, $sql).await
            }

            fn use_transaction(&self) -> Option<bool> {
                Some(true)
            }
        }
    };
}
pub(crate) use step;
