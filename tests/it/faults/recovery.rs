//! A start changes nothing that is not its own: ten in a row, each killed, and the store holds what
//! it held. Then everything comes as it was promised.

use std::time::Duration;

use rand::RngExt as _;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::{Database, Dump, Server, TestRuntime, eventually};

const STARTS: usize = 10;
const BACKLOG: usize = 30;
const RETRIES: usize = 5;
/// Retries and delayed emits wait longer than the test lasts.
const HOUR_MS: u64 = 3_600_000;

/// Fails once, then tells.
const SECOND: &str = "
    export default async function (payload, context) {
        if (context.attempt === 1) throw new Error('the first attempt fails');
        await sdk.events.emit('test.second', payload);
    }";
/// The same in strict order: the events behind the first wait for it.
const STRICT: &str = "
    export default async function (payload, context) {
        if (payload.n === 0 && context.attempt === 1) throw new Error('the first attempt fails');
        await sdk.events.emit('test.in-order', payload);
    }";
const LATER: &str = "
    export default async function (payload) {
        await sdk.events.emit('test.later', payload, { delay: '1h' });
        await sdk.kv.increment('count');
    }";
const DIES: &str = "export default () => { throw new Error('it dies') }";

#[tokio::test]
async fn ten_starts_in_a_row_change_nothing_on_sqlite() {
    start_and_kill(Database::Sqlite).await;
}

#[tokio::test]
async fn ten_starts_in_a_row_change_nothing_on_postgres() {
    if Database::Postgres.available() {
        start_and_kill(Database::Postgres).await;
    }
}

async fn start_and_kill(database: Database) {
    let url = database.create().await;
    let mut server = Server::new("", url.as_deref());
    server.start().await;
    let mut rt = TestRuntime::of(server);
    fill(&rt).await;
    rt.server.kill();
    let before = dump(&rt, url.as_deref()).await;

    for start in 0..STARTS {
        if start % 3 == 2 {
            // Before it is ready, as far as it may have come.
            rt.server.launch();
            let moment = Duration::from_millis(rand::rng().random_range(1..200));
            tokio::time::sleep(moment).await;
        } else {
            rt.server.start().await;
        }
        rt.server.kill();
        let difference = before.difference(&dump(&rt, url.as_deref()).await);
        assert!(difference.is_empty(), "start {start}: {difference:#?}");
    }

    an_hour_passes(&rt, url.as_deref()).await;
    rt.server.start().await;
    all_is_as_promised(&rt).await;
}

/// A backlog behind a pause, retries, a key that is blocked, delayed emits and letters.
async fn fill(rt: &TestRuntime) {
    let paused = rt.subscription("paused").on("test.paused").add().await;
    rt.subscription("second").on("test.retry").script(SECOND).attempts(3, HOUR_MS).add().await;
    let strict = rt.subscription("strict").on("test.strict").script(STRICT);
    strict.attempts(3, HOUR_MS).with("ordering", json!("strict")).add().await;
    rt.subscription("later").on("test.delays").script(LATER).add().await;
    rt.subscription("dies").on("test.dies").script(DIES).attempts(1, 10).add().await;
    let pause = format!("/api/v1/subscriptions/{}/pause", paused["id"].as_str().unwrap());
    rt.request(reqwest::Method::POST, &pause, None).await.ok(&pause);
    for (event_type, count) in [
        ("test.paused", BACKLOG),
        ("test.retry", RETRIES),
        ("test.strict", RETRIES),
        ("test.delays", RETRIES),
        ("test.dies", RETRIES),
        ("test.nobody", RETRIES),
    ] {
        let batch: Value =
            (0..count).map(|n| json!({ "type": event_type, "data": { "n": n } })).collect();
        rt.post("/api/v1/events", &batch).await;
    }
    eventually("everything to wait", async || {
        let scheduled = rt.all("/api/v1/scheduled").await.len();
        let letters = rt.all("/api/v1/dead-letters").await.len();
        let stats = rt.get("/api/v1/stats").await;
        let waiting = &stats["deliveries"]["waiting"];
        let waits = scheduled == RETRIES && letters == RETRIES && *waiting == RETRIES + 1;
        if waits { Ok(()) } else { Err((scheduled, letters, stats)) }
    })
    .await;
    settle(rt).await;
}

/// Waits until the server has nothing left to write.
async fn settle(rt: &TestRuntime) {
    let mut last = Value::Null;
    let mut same = 0;
    eventually("the journal to rest", async || {
        let commits = rt.get("/api/v1/stats").await["journal"]["commits"].clone();
        same = if commits == last { same + 1 } else { 0 };
        last = commits;
        if same > 60 { Ok(()) } else { Err(last.clone()) }
    })
    .await;
}

/// All that is stored, without what counts the starts themselves, and without how far a
/// subscription has read, which moves within what is settled: all of that shows in the end.
async fn dump(rt: &TestRuntime, postgres: Option<&str>) -> Dump {
    let dump = match postgres {
        Some(url) => Dump::of_postgres(url).await,
        None => Dump::of_sqlite(&rt.server.data().join("tripline.db")),
    };
    dump.without("journal_state", &STARTS_COUNT).without("subscriptions", &["cursor"])
}

const STARTS_COUNT: [&str; 6] =
    ["epoch", "batch", "clean", "unclean_stops", "watermark", "accepted_at"];

/// Whatever waits for its time is due.
async fn an_hour_passes(rt: &TestRuntime, postgres: Option<&str>) {
    const DUE: &str = "UPDATE deliveries SET next_at = 0; UPDATE scheduled SET due_at = 0";
    match postgres {
        Some(url) => {
            let mut db = PgConnection::connect(url).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(DUE.to_owned())).execute(&mut db).await.unwrap();
        }
        None => rusqlite::Connection::open(rt.server.data().join("tripline.db"))
            .unwrap()
            .execute_batch(DUE)
            .unwrap(),
    }
}

async fn all_is_as_promised(rt: &TestRuntime) {
    let resume = format!("/api/v1/subscriptions/{}/resume", rt.id_of("paused"));
    rt.request(reqwest::Method::POST, &resume, None).await.ok(&resume);
    for event_type in ["test.later", "test.second", "test.in-order"] {
        let events = rt.events(event_type, RETRIES).await;
        let mut numbers: Vec<u64> =
            events.iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect();
        if event_type == "test.in-order" {
            numbers.reverse(); // the list has the newest first
            assert!(numbers.is_sorted(), "strict order: {numbers:?}");
        }
        numbers.sort_unstable();
        assert!(numbers.iter().eq(&(0..RETRIES as u64).collect::<Vec<_>>()), "{numbers:?}");
    }
    for event in rt.events("test.paused", BACKLOG).await {
        let uid = event["uid"].as_str().unwrap();
        let delivery = rt.delivery_of(uid, "paused").await.succeeded();
        assert_eq!(delivery.runs.len(), 1);
    }
    for event in rt.events("test.retry", RETRIES).await {
        rt.delivery_of(event["uid"].as_str().unwrap(), "second").await.succeeded().after(2);
    }
    let letters = rt.all("/api/v1/dead-letters").await;
    assert_eq!(letters.len(), RETRIES, "{letters:#?}");
    assert!(letters.iter().all(|letter| letter["error_kind"] == "exception"), "{letters:#?}");
    let script = rt.get(&format!("/api/v1/subscriptions/{}", rt.id_of("later"))).await;
    let count = format!("/api/v1/kv/{}/count", script["script_id"].as_str().unwrap());
    assert_eq!(rt.get(&count).await["value"], RETRIES);
}
