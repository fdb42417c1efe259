//! Erasure: a payload is gone wherever it was kept, and what still waited for it ends.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::io::AsyncWriteExt as _;

use crate::support::{Database, Server, TestRuntime, eventually};

const CANARY: &str = "canary-7f3a91";

/// Emits nothing; returns, logs and fails with what it got.
const QUOTES: &str = "export default (p, c) => {
    console.log(p.name, c.subject);
    if (p.fails) throw new Error(`cannot take ${p.name}`);
    return p;
}";

const WAITS: &str = "export default async (p) => {
    await new Promise((wake) => setTimeout(wake, 6000));
    console.log(p.name);
    await sdk.events.emit('copied', p);
    return p;
}";

async fn start(database: Database) -> (TestRuntime, Option<String>) {
    let url = database.create().await;
    let mut server = Server::new("[script]\nrecord = \"all\"\n", url.as_deref());
    server.start().await;
    (TestRuntime::of(server), url)
}

async fn publish(rt: &TestRuntime, event_type: &str, subject: &str, data: Value) -> String {
    let event = json!({ "type": event_type, "subject": subject, "data": data });
    rt.post("/api/v1/events", &event).await["ids"][0].as_str().unwrap().to_owned()
}

/// Where the canary still is.
async fn traces(rt: &mut TestRuntime, url: Option<&str>) -> Vec<String> {
    let mut found = Vec::new();
    match url {
        None => {
            for file in fs::read_dir(rt.server.data()).unwrap() {
                let path = file.unwrap().path();
                if holds(&path) {
                    found.push(path.display().to_string());
                }
            }
        }
        Some(url) => {
            let mut db = PgConnection::connect(url).await.unwrap();
            let tables = "SELECT table_name::text FROM information_schema.tables \
                 WHERE table_schema = current_schema()";
            let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut db).await.unwrap();
            for table in tables {
                // Bytes are shown as hex.
                let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
                let sql = format!(
                    "SELECT COUNT(*) FROM \"{table}\" t WHERE t::text LIKE '%{CANARY}%' OR t::text LIKE '%{hex}%'"
                );
                let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut db).await.unwrap();
                if row.get::<i64, _>(0) > 0 {
                    found.push(table);
                }
            }
        }
    }
    found
}

fn holds(path: &Path) -> bool {
    let bytes = fs::read(path).unwrap_or_default();
    bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes())
}

async fn one_event(database: Database) {
    if !database.available() {
        return;
    }
    let (mut rt, url) = start(database).await;
    rt.subscription("quotes").on("person").script(QUOTES).attempts(2, 3_600_000).add().await;
    rt.subscription("dies")
        .on("person")
        .filter("$.fails == true")
        .script(QUOTES)
        .attempts(1, 1)
        .add()
        .await;
    rt.subscription("waits").on("person").script(WAITS).add().await;
    let big = "x".repeat(20_000);
    let good =
        publish(&rt, "person", CANARY, json!({ "name": CANARY, "fails": false, "big": big })).await;
    let bad = publish(&rt, "person", CANARY, json!({ "name": CANARY, "fails": true })).await;
    let other =
        publish(&rt, "person", "someone", json!({ "name": "someone", "fails": false })).await;
    rt.delivery_of(&good, "quotes").await.succeeded();
    let letter = rt.dead_letter("dies").await;
    eventually("a retry that waits", async || {
        let event = rt.get(&format!("/api/v1/events/{bad}")).await;
        let waits =
            event["deliveries"].as_array().unwrap().iter().any(|d| d["status"] == "retrying");
        if waits { Ok(()) } else { Err(event) }
    })
    .await;
    let id = letter.id().to_owned();
    // Edited, it dies again: its payload is then kept with the letter, too.
    let edited = json!({ "data": { "name": CANARY, "fails": true, "edited": true } });
    rt.post(&format!("/api/v1/dead-letters/{id}/replay"), &edited).await;
    eventually("the replay to die", async || {
        let letter = rt.get(&format!("/api/v1/dead-letters/{id}")).await;
        if letter["status"] == "dead" && letter["replays"] == 1 { Ok(()) } else { Err(letter) }
    })
    .await;
    assert!(!traces(&mut rt, url.as_deref()).await.is_empty(), "nothing to erase: void");

    for uid in [&good, &bad] {
        let erased = rt.post(&format!("/api/v1/events/{uid}/erase"), &json!({})).await;
        // PostgreSQL keeps a log of its own.
        assert_eq!((&erased["events"], &erased["overwritten"]), (&json!(1), &json!(url.is_none())));
    }
    let again = rt.post(&format!("/api/v1/events/{good}/erase"), &json!({})).await;
    assert_eq!(again["events"], 0);
    let event = rt.get(&format!("/api/v1/events/{good}")).await;
    assert!(event["data"].is_null() && event["subject"].is_null(), "{event:#}");
    assert!(event["erased_at"].is_string(), "{event:#}");
    // What waited for a retry, and what ran meanwhile, ends as discarded.
    for (uid, name) in [(&bad, "quotes"), (&good, "waits"), (&bad, "waits")] {
        assert_eq!(rt.delivery_of(uid, name).await.status, "discarded", "{name}");
    }
    rt.delivery_of(&other, "waits").await.succeeded();
    assert_eq!(rt.all("/api/v1/events?type=copied").await.len(), 1, "of the other one alone");
    let letter = rt.get(&format!("/api/v1/dead-letters/{id}")).await;
    assert_eq!(letter["last_error"], "erased", "{letter:#}");
    assert!(letter["edited_data"].is_null() && letter["stack"].is_null(), "{letter:#}");
    let path = format!("/api/v1/dead-letters/{id}/replay");
    rt.request(Method::POST, &path, Some(&json!({}))).await.refused(409, "erased");
    rt.request(Method::POST, &path, Some(&edited)).await.refused(409, "erased");
    let audit = rt.get("/api/v1/audit").await;
    assert_eq!(audit["items"][2]["action"], "event.erase", "{audit:#}");
    // The other one is untouched.
    let runs = rt.all("/api/v1/runs").await;
    let of_other: Vec<&Value> =
        runs.iter().filter(|run| run["event_id"] == other.as_str()).collect();
    assert!(of_other.iter().any(|run| run["result"]["name"] == "someone"), "{of_other:#?}");
    assert!(!json!(runs).to_string().contains(CANARY));
    rt.get("/api/v1/events").await.to_string().contains(CANARY).then(|| panic!("in the list"));

    assert_eq!(traces(&mut rt, url.as_deref()).await, Vec::<String>::new());
    rt.server.stop();
    assert_eq!(traces(&mut rt, url.as_deref()).await, Vec::<String>::new());
    let (code, said) = rt.server.cli(&["verify"]);
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn an_erased_event_is_gone_everywhere_on_sqlite() {
    one_event(Database::Sqlite).await;
}

#[tokio::test]
async fn an_erased_event_is_gone_everywhere_on_postgres() {
    one_event(Database::Postgres).await;
}

async fn one_subject(database: Database) {
    if !database.available() {
        return;
    }
    let (mut rt, url) = start(database).await;
    rt.subscription("quotes").on("person").script(QUOTES).add().await;
    let later = "export default async (p, c) => {
        await sdk.events.emit('reminder', p, { subject: c.subject, delay: '9d' });
    }";
    rt.subscription("later").on("person").filter("$.n == 1").script(later).add().await;
    rt.subscription("paused").on("person").add().await;
    let paused = rt.id_of("paused");
    rt.post(&format!("/api/v1/subscriptions/{paused}/pause"), &json!({})).await;
    let mut uids = Vec::new();
    for n in 0..450 {
        let subject = if n % 2 == 1 { CANARY } else { "someone" };
        uids.push((publish(&rt, "person", subject, json!({ "name": subject, "n": n })).await, n));
    }
    eventually("everything to be handled", async || {
        let waits = rt.all("/api/v1/scheduled").await.len();
        let stats = rt.get("/api/v1/stats").await;
        if waits == 1 && stats["deliveries"]["in_hand"] == 0 { Ok(()) } else { Err(stats) }
    })
    .await;
    let (code, said) = rt.server.cli(&["events", "erase", "--subject", CANARY, "--yes", "--json"]);
    assert_eq!(code, 0, "{said}");
    let erased: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(erased, json!({ "events": 225, "scheduled": 1, "overwritten": url.is_none() }));
    assert!(rt.all("/api/v1/scheduled").await.is_empty());
    assert!(!rt.get("/api/v1/audit").await.to_string().contains(CANARY));
    assert_eq!(traces(&mut rt, url.as_deref()).await, Vec::<String>::new());
    // Whoever reads them from the log later has nothing to run.
    rt.post(&format!("/api/v1/subscriptions/{paused}/resume"), &json!({})).await;
    for (uid, n) in uids.iter().skip(440) {
        let ended = rt.delivery_of(uid, "paused").await.status;
        assert_eq!(ended, if n % 2 == 1 { "discarded" } else { "succeeded" });
    }
    let (code, said) = rt.server.cli(&["events", "erase"]);
    assert_eq!(code, 2, "{said}");
    let nobody = json!({ "subject": "" });
    let empty = rt.request(Method::POST, "/api/v1/events/erase", Some(&nobody)).await;
    empty.refused(422, "invalid_field");
    rt.crash().await;
    tokio::time::timeout(Duration::from_secs(30), rt.get("/api/v1/stats")).await.unwrap();
    assert_eq!(traces(&mut rt, url.as_deref()).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_erased_subject_is_gone_everywhere_on_sqlite() {
    one_subject(Database::Sqlite).await;
}

#[tokio::test]
async fn an_erased_subject_is_gone_everywhere_on_postgres() {
    one_subject(Database::Postgres).await;
}

/// A backup, say, reads the log for long: erasing waits for it, and holds nobody up meanwhile.
#[tokio::test]
async fn erasing_while_somebody_reads_the_log_holds_no_publisher_up() {
    let (rt, _) = start(Database::Sqlite).await;
    let uid = publish(&rt, "person", CANARY, json!({ "name": CANARY })).await;
    let reader = rusqlite::Connection::open(rt.server.data().join("tripline.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT COUNT(*) FROM events;").unwrap();
    let api = rt.api.clone();
    let path = format!("/api/v1/events/{uid}/erase");
    let erasing =
        tokio::spawn(async move { api.request(Method::POST, &path, Some(&json!({}))).await });
    let began = Instant::now();
    let mut worst = Duration::ZERO;
    while began.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        publish(&rt, "other", "somebody", json!({})).await;
        worst = worst.max(asked.elapsed());
    }
    assert!(worst < Duration::from_secs(1), "a publisher waited {worst:?}");
    assert!(!erasing.is_finished(), "nothing held the log: void");
    reader.execute_batch("COMMIT").unwrap();
    let answer = erasing.await.unwrap();
    assert_eq!((&answer.body["events"], &answer.body["overwritten"]), (&json!(1), &json!(true)));
}

/// Whoever asked may hang up: a proxy gives up after a minute, and a duty is not half done for that.
#[tokio::test]
async fn an_erasure_goes_on_when_whoever_asked_hangs_up() {
    const EVENTS: u64 = 10_000;
    let (rt, _) = start(Database::Sqlite).await;
    let event = |n| json!({ "type": "user.seen", "subject": "user-1", "data": { "n": n } });
    let mut ids = Vec::new();
    for from in (0..EVENTS).step_by(500) {
        let events: Value = (from..from + 500).map(event).collect();
        let taken = rt.post("/api/v1/events", &events).await;
        ids.extend(
            taken["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()),
        );
    }
    let kept = async || {
        let events = rt.all("/api/v1/events?type=user.seen").await;
        events.iter().filter(|event| !event["data"].is_null()).count()
    };
    let body = r#"{"subject":"user-1"}"#;
    let request = format!(
        "POST /api/v1/events/erase HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        rt.server.admin_token(),
        body.len()
    );
    let address = rt.server.url().replace("http://", "");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    eventually("the first slice to be erased", async || {
        for uid in [&ids[0], &ids[ids.len() - 1]] {
            if rt.get(&format!("/api/v1/events/{uid}")).await["data"].is_null() {
                return Ok(());
            }
        }
        Err("all are there")
    })
    .await;
    // Not politely: the connection is reset.
    stream.set_zero_linger().unwrap();
    drop(stream);
    assert!(kept().await > 0, "void: it was over before");
    eventually("everything to be erased", async || match kept().await {
        0 => Ok(()),
        left => Err(left),
    })
    .await;
    eventually("the audit line", async || {
        let audit = rt.get("/api/v1/audit").await;
        if audit["items"][0]["action"] == "event.erase" { Ok(()) } else { Err(audit) }
    })
    .await;
}
