//! The database refuses a row, or fails at one: what becomes of those who share its commit.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::{Database, Server, TestRuntime, until};

/// Emits what the database will not take.
const EMITS: &str =
    "export default async (payload) => { await sdk.events.emit('test.refused', payload) }";

#[tokio::test]
async fn a_row_that_is_refused_costs_nobody_else_on_sqlite() {
    refuse_one(Database::Sqlite).await;
}

#[tokio::test]
async fn a_row_that_is_refused_costs_nobody_else_on_postgres() {
    if Database::Postgres.available() {
        refuse_one(Database::Postgres).await;
    }
}

async fn refuse_one(database: Database) {
    let (rt, url) = start(database).await;
    rt.subscription("all").on("test.good").add().await;
    rt.subscription("emits").on("test.emits").script(EMITS).add().await;
    plant(&rt, url.as_deref(), "23514").await;
    // All at once, and so in few commits.
    let types = (0..30).map(|n| if n == 17 { "test.refused" } else { "test.good" });
    let posts = types.map(|event_type| {
        let event = json!({ "type": event_type, "data": {} });
        let rt = &rt;
        async move {
            (event_type, rt.request(Method::POST, "/api/v1/events", Some(&event)).await.status)
        }
    });
    for (event_type, status) in futures::future::join_all(posts).await {
        let expected = if event_type == "test.good" { 202 } else { 500 };
        assert_eq!(status, expected, "{event_type}");
    }
    for event in rt.events("test.good", 29).await {
        rt.delivery_of(event["uid"].as_str().unwrap(), "all").await.succeeded();
    }
    // What a run left behind and nobody can store ends as a letter that says so.
    rt.publish("test.emits", json!({})).await;
    rt.dead_letter("emits").await.because("exception").saying("cannot be stored");
    assert!(rt.all("/api/v1/events?type=test.refused").await.is_empty());
}

/// A statement that fails for another reason than its row: nobody knows, so everybody is told to
/// come again, and it heals.
#[tokio::test]
async fn a_database_whose_disk_fails_at_a_row_takes_it_once_later() {
    if !Database::Postgres.available() {
        return;
    }
    let (mut rt, url) = start(Database::Postgres).await;
    rt.subscription("all").on("test.refused").add().await;
    let event = json!({ "specversion": "1.0", "type": "test.refused", "source": "/rows", "id": "1", "data": {} });
    // An I/O error; and a privilege that somebody took away.
    for code in ["58030", "42501"] {
        plant(&rt, url.as_deref(), code).await;
        for _ in 0..3 {
            let told = rt.request(Method::POST, "/api/v1/events", Some(&event)).await;
            told.refused(503, "unavailable");
        }
        let mended = "DROP TRIGGER planted ON events; DROP FUNCTION planted";
        execute(&rt, url.as_deref(), mended).await;
    }
    let healed = until(super::posts::HEALED_WITHIN, async || {
        let told = rt.request(Method::POST, "/api/v1/events", Some(&event)).await;
        if told.status == 202 { Ok(told.body) } else { Err(told) }
    });
    let uid = text(&healed.await.unwrap()["ids"][0]);
    rt.crash().await;
    assert_eq!(rt.events("test.refused", 1).await[0]["uid"], uid);
    rt.delivery_of(&uid, "all").await.succeeded();
}

/// From now on the database answers with `code` to events of the type `test.refused`.
async fn plant(rt: &TestRuntime, postgres: Option<&str>, code: &str) {
    let sql = match postgres {
        None => "CREATE TRIGGER planted BEFORE INSERT ON events WHEN NEW.type = 'test.refused'
            BEGIN SELECT RAISE(ABORT, 'planted'); END"
            .to_owned(),
        Some(_) => format!(
            "CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION 'planted' USING ERRCODE = '{code}'; END $$;
             CREATE TRIGGER planted BEFORE INSERT ON events FOR EACH ROW
             WHEN (NEW.type = 'test.refused') EXECUTE FUNCTION planted()"
        ),
    };
    execute(rt, postgres, &sql).await;
}

async fn execute(rt: &TestRuntime, postgres: Option<&str>, sql: &str) {
    match postgres {
        Some(url) => {
            let mut db = PgConnection::connect(url).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut db).await.unwrap();
        }
        None => {
            let file = rt.server.data().join("tripline.db");
            rusqlite::Connection::open(file).unwrap().execute_batch(sql).unwrap();
        }
    }
}

async fn start(database: Database) -> (TestRuntime, Option<String>) {
    let url = database.create().await;
    let mut server = Server::new("", url.as_deref());
    server.start().await;
    (TestRuntime::of(server), url)
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
