//! What a kill left in the store: read from the tables, since nobody is up to be asked.

use std::path::Path;

use sqlx::{Connection, PgConnection, Row};

/// Work that the next start has to take up.
#[derive(Debug)]
pub(super) struct LeftBehind {
    /// Events above the watermark.
    pub(super) unsettled: i64,
    /// Deliveries that wait for another attempt.
    pub(super) retrying: i64,
}

const STATE: &str = "SELECT seq - watermark FROM journal_state";
const RETRYING: &str = "SELECT count(*) FROM deliveries WHERE status = 'retrying'";

pub(super) async fn left_behind(data: &Path, postgres: Option<&str>) -> LeftBehind {
    let Some(url) = postgres else {
        let db = open(data);
        let number = |query: &str| db.query_row(query, [], |row| row.get(0)).unwrap();
        return LeftBehind { unsettled: number(STATE), retrying: number(RETRYING) };
    };
    let mut db = PgConnection::connect(url).await.unwrap();
    let state = sqlx::query(STATE).fetch_one(&mut db).await.unwrap();
    let retrying = sqlx::query(RETRYING).fetch_one(&mut db).await.unwrap();
    LeftBehind { unsettled: state.get(0), retrying: retrying.get(0) }
}

pub(super) fn check_integrity(data: &Path) {
    let answer: String =
        open(data).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(answer, "ok");
}

fn open(data: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(data.join("tripline.db")).unwrap()
}
