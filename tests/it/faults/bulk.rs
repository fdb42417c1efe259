//! Kills while a bulk operation is at work: each letter is taken once, the count is right, and the
//! next start goes on with it.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt as _;
use serde_json::{Value, json};

use crate::support::{Database, TestRuntime, eventually, until};

const LETTERS: usize = 240;
/// Letters per second, and so in one step: each start takes a step at once, and all the kills are to
/// meet the operation.
const RATE: u64 = 20;
const KILLS: usize = 4;

/// Dies the first time, and says so in an event when it is replayed.
const FIXED: &str = "
    export default async function (payload, context) {
        if (!context.replayed) throw new Error('not yet');
        await sdk.events.emit('test.fixed', payload);
    }";

#[tokio::test]
async fn a_bulk_replay_outlives_kills_on_sqlite() {
    replay(Database::Sqlite).await;
}

#[tokio::test]
async fn a_bulk_replay_outlives_kills_on_postgres() {
    if Database::Postgres.available() {
        replay(Database::Postgres).await;
    }
}

async fn replay(database: Database) {
    let mut rt = with_letters(database).await;
    let operation = operate_under_kills(&mut rt, "replay").await;
    let fixed = rt.events("test.fixed", LETTERS).await;
    let numbers: BTreeSet<u64> =
        fixed.iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers.len(), LETTERS, "each once: {operation}");
    assert_eq!(statuses(&rt).await, BTreeMap::from([("replayed".to_owned(), LETTERS)]));
}

#[tokio::test]
async fn a_bulk_discard_outlives_kills() {
    let mut rt = with_letters(Database::Sqlite).await;
    operate_under_kills(&mut rt, "discard").await;
    assert_eq!(statuses(&rt).await, BTreeMap::from([("discarded".to_owned(), LETTERS)]));
}

async fn operate_under_kills(rt: &mut TestRuntime, action: &str) -> Value {
    let body = json!({ "rate": RATE });
    let operation = rt.post(&format!("/api/v1/dead-letters/{action}"), &body).await;
    assert_eq!(operation["total"], LETTERS);
    let path = format!("/api/v1/bulk/{}", operation["id"].as_str().unwrap());
    let mut met = 0;
    for _ in 0..KILLS {
        let before = rt.get(&path).await["done"].as_u64().unwrap();
        eventually("the operation goes on", async || {
            let now = rt.get(&path).await;
            if now["done"].as_u64().unwrap() > before { Ok(()) } else { Err(now) }
        })
        .await;
        let pause = std::time::Duration::from_millis(rand::rng().random_range(0..200));
        tokio::time::sleep(pause).await;
        met += usize::from(rt.get(&path).await["state"] == "running");
        rt.crash().await;
    }
    assert!(met > 1, "void: the operation was over before the kills");
    let ended = until(crate::support::PATIENCE * 2, async || {
        let now = rt.get(&path).await;
        if now["state"] == "done" { Ok(now) } else { Err(now) }
    })
    .await
    .unwrap();
    assert_eq!((&ended["done"], &ended["total"]), (&json!(LETTERS), &json!(LETTERS)));
    ended
}

async fn statuses(rt: &TestRuntime) -> BTreeMap<String, usize> {
    until(crate::support::PATIENCE, async || {
        let mut found = BTreeMap::new();
        for letter in rt.all("/api/v1/dead-letters").await {
            *found.entry(letter["status"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
        if found.contains_key("replaying") { Err(found) } else { Ok(found) }
    })
    .await
    .unwrap()
}

async fn with_letters(database: Database) -> TestRuntime {
    let rt = TestRuntime::with(database, "[supervisor.breaker]\ndead_letters = 0\n").await;
    rt.subscription("fixed").on("test.dies").script(FIXED).attempts(1, 10).add().await;
    let batch: Value =
        (0..LETTERS).map(|n| json!({ "type": "test.dies", "data": { "n": n } })).collect();
    rt.post("/api/v1/events", &batch).await;
    eventually("all of them to die", async || {
        let letters = rt.all("/api/v1/dead-letters").await.len();
        if letters == LETTERS { Ok(()) } else { Err(letters) }
    })
    .await;
    rt
}

/// What takes a slice of letters and what counts them is one transaction: a failure in between
/// would leave a count that never adds up.
#[tokio::test]
async fn a_slice_that_cannot_be_counted_is_not_taken() {
    let rt = with_letters(Database::Sqlite).await;
    let db = rusqlite::Connection::open(rt.server.data().join("tripline.db")).unwrap();
    db.execute_batch(
        "CREATE TRIGGER planted BEFORE UPDATE OF done ON bulk_operations
         BEGIN SELECT RAISE(ABORT, 'planted'); END",
    )
    .unwrap();
    let operation = rt.post("/api/v1/dead-letters/discard", &json!({})).await;
    eventually("the failure to be met", async || {
        let log = rt.server.log();
        if log.contains("a bulk operation waits for the store") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(statuses(&rt).await, BTreeMap::from([("dead".to_owned(), LETTERS)]));
    db.execute_batch("DROP TRIGGER planted").unwrap();
    let path = format!("/api/v1/bulk/{}", operation["id"].as_str().unwrap());
    let ended = eventually("the end of the operation", async || {
        let now = rt.get(&path).await;
        if now["state"] == "done" { Ok(now) } else { Err(now) }
    })
    .await;
    assert_eq!(ended["done"], LETTERS);
}
