//! Deliveries that take the process down: they are found, and nobody else pays for them.

use serde_json::json;
use sqlx::{Connection, Row};

use crate::support::{Database, Server, TestRuntime, eventually};

/// Longer than any look at the store takes, shorter than a run may.
const WAITS: &str = "export default () => new Promise((wake) => setTimeout(wake, 8000));";

#[tokio::test]
async fn a_delivery_that_is_alone_at_two_crashes_is_dead_on_sqlite() {
    find_the_culprit(Database::Sqlite).await;
}

#[tokio::test]
async fn a_delivery_that_is_alone_at_two_crashes_is_dead_on_postgres() {
    if Database::Postgres.available() {
        find_the_culprit(Database::Postgres).await;
    }
}

/// Kills stand for the crash: they hit while the culprit runs, and nothing else does.
async fn find_the_culprit(database: Database) {
    let url = database.create().await;
    let mut server = Server::new("", url.as_deref());
    server.start().await;
    let mut rt = TestRuntime::of(server);
    rt.subscription("culprit").on("test.culprit").script(WAITS).add().await;
    rt.subscription("neighbour").on("test.*").add().await;
    let event = rt.publish("test.culprit", json!({})).await;
    assert_eq!(rt.delivery("neighbour").await.status, "succeeded");

    for _ in 0..3 {
        running(&rt).await;
        rt.crash().await;
    }
    // Suspect now: marked before it runs, in the background.
    crashes_alone(&rt, url.as_deref(), 1).await;
    running(&rt).await;
    rt.server.kill();
    // Accused now: it runs before the server takes anything in.
    rt.server.launch();
    crashes_alone(&rt, url.as_deref(), 2).await;
    rt.server.kill();
    rt.server.start().await;

    let letter = rt.dead_letter("culprit").await;
    assert_eq!(letter.0["error_kind"], "host_crash");
    assert_eq!(letter.0["event"]["uid"], event);
    rt.publish("test.other", json!({})).await;
    assert_eq!(rt.delivery("neighbour").await.status, "succeeded");
    assert_eq!(rt.delivery_of(&event, "neighbour").await.runs.len(), 1, "it ran once for all that");
    let waiting = rt.get("/api/v1/stats").await["deliveries"]["waiting"].clone();
    assert_eq!(waiting, 0, "a letter waits for nothing");
}

async fn running(rt: &TestRuntime) {
    eventually("the culprit to run", async || {
        let stats = rt.get("/api/v1/stats").await;
        if stats["deliveries"]["running"] == 1 { Ok(()) } else { Err(stats) }
    })
    .await;
}

/// Waits for the mark in the store: the server may not be up to be asked.
async fn crashes_alone(rt: &TestRuntime, postgres: Option<&str>, count: i64) {
    const MARK: &str = "SELECT CAST(coalesce(max(crashes_alone), 0) AS BIGINT) FROM deliveries";
    eventually("the mark of the culprit", async || {
        let found: i64 = match postgres {
            Some(url) => {
                let mut db = sqlx::PgConnection::connect(url).await.unwrap();
                let row = sqlx::query(MARK).fetch_one(&mut db).await.unwrap();
                row.get(0)
            }
            None => rusqlite::Connection::open(rt.server.data().join("tripline.db"))
                .unwrap()
                .query_row(MARK, [], |row| row.get(0))
                .unwrap(),
        };
        if found == count { Ok(()) } else { Err(found) }
    })
    .await;
}
