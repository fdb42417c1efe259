//! `tripline verify`: a whole store passes, and each kind of damage is found and named.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::{Database, TestRuntime, eventually};

/// A server that has handled, retried, buried, kept and delayed things, and was stopped.
async fn busy(database: Database) -> (TestRuntime, Option<String>) {
    let url = database.create().await;
    let mut server = crate::support::Server::new("[script]\nrecord = \"all\"\n", url.as_deref());
    server.start().await;
    let mut rt = TestRuntime::of(server);
    rt.subscription("keeps")
        .on("item")
        .script("export default async (i) => { await sdk.kv.set(`k${i.n}`, i); return i.n; }")
        .add()
        .await;
    rt.subscription("dies")
        .on("item")
        .filter("$.n < 20")
        .script("export default () => { throw new sdk.PermanentError('no'); }")
        .add()
        .await;
    rt.subscription("retries")
        .on("item")
        .filter("$.n < 5")
        .script("export default () => { throw new Error('not yet'); }")
        .attempts(2, 3_600_000)
        .add()
        .await;
    rt.subscription("later")
        .on("item")
        .filter("$.n < 3")
        .script("export default async () => { await sdk.events.emit('x', {}, { delay: '9d' }); }")
        .add()
        .await;
    rt.subscription("paused").on("item").add().await;
    let paused = rt.id_of("paused");
    rt.post(&format!("/api/v1/subscriptions/{paused}/pause"), &json!({})).await;
    for n in 0..10 {
        let items: Value = (0..30)
            .map(|m| json!({ "type": "item", "id": format!("{n}-{m}"), "source": "/tests", "specversion": "1.0", "data": { "n": n * 30 + m, "text": "Grüße" } }))
            .collect();
        rt.post("/api/v1/events", &items).await;
    }
    eventually("everything to be handled", async || {
        let stats = rt.get("/api/v1/stats").await;
        let dead = rt.get("/api/v1/dead-letters/count?status=dead").await["count"].clone();
        let waits = stats["deliveries"]["waiting"].as_u64();
        if dead == 20 && waits == Some(5) && stats["deliveries"]["in_hand"] == 0 {
            Ok(())
        } else {
            Err(stats)
        }
    })
    .await;
    assert_eq!(rt.server.cli(&["verify"]).0, 1, "while the server runs");
    rt.server.stop();
    (rt, url)
}

async fn tamper(rt: &TestRuntime, url: Option<&str>, sql: &str) {
    match url {
        None => {
            let db = rusqlite::Connection::open(rt.server.data().join("tripline.db")).unwrap();
            db.execute_batch(sql).unwrap();
        }
        Some(url) => {
            let mut db = PgConnection::connect(url).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut db).await.unwrap();
        }
    }
}

fn checks(rt: &TestRuntime) -> (i32, Vec<Value>) {
    let (code, said) = rt.server.cli(&["verify", "--json"]);
    let end = said.rfind(']').unwrap_or_else(|| panic!("{said}"));
    (code, serde_json::from_str(&said[..=end]).unwrap_or_else(|error| panic!("{error}: {said}")))
}

fn wrong(checks: &[Value]) -> Vec<String> {
    let findings = |check: &Value| {
        let name = check["name"].as_str().unwrap().to_owned();
        let all = check["findings"].as_array().unwrap().clone();
        all.into_iter().map(move |one| format!("{name}: {}", one.as_str().unwrap()))
    };
    checks.iter().flat_map(findings).collect()
}

/// What must be said of the store, and what was done to it.
const DAMAGE: [(&str, &str); 17] = [
    (
        "events: event 7: its checksum is another",
        "UPDATE events SET source = '/else' WHERE seq = 7",
    ),
    (
        "events: event 8: its checksum is another",
        "UPDATE events SET subject = 'nobody' WHERE seq = 8",
    ),
    (
        "events: event 9: its checksum is another",
        "UPDATE events SET accepted_at = accepted_at + 1 WHERE seq = 9",
    ),
    ("events: events 11 to 12 are missing", "DELETE FROM events WHERE seq IN (11, 12)"),
    ("events: event 300 is missing", "DELETE FROM events WHERE seq = 300"),
    (
        "outcome blocks: batch",
        "UPDATE outcome_blocks SET count = count + 1 WHERE batch = (SELECT MIN(batch) FROM outcome_blocks)",
    ),
    (
        "deliveries: event",
        // The largest one: a small one may hold nothing but an attempt that was not the last.
        "DELETE FROM outcome_blocks WHERE batch = (SELECT batch FROM outcome_blocks ORDER BY count DESC LIMIT 1)",
    ),
    ("failed once and is not tried again", "DELETE FROM deliveries"),
    ("waiting deliveries have their event: row of event", "UPDATE deliveries SET seq = 100000"),
    (
        "dead letters have their event: letter of event",
        "UPDATE dead_letters SET seq = 100000 WHERE seq = 3",
    ),
    (
        "letters that are replayed have their delivery",
        "UPDATE dead_letters SET status = 'replaying' WHERE seq = 3",
    ),
    (
        "letters have a status: letter of event 3: lost",
        "UPDATE dead_letters SET status = 'lost' WHERE seq = 3",
    ),
    (
        "late ranges have their block: batch 77777",
        "INSERT INTO outcome_late SELECT id, 5, 77777, 5 FROM subscriptions",
    ),
    (
        "recordings have their run: run",
        "DELETE FROM runs WHERE number = (SELECT MIN(number) FROM recordings)",
    ),
    ("keys are counted: ", "UPDATE kv_spaces SET bytes = bytes + 1"),
    (
        "the journal is ahead of all it wrote: watermark",
        "UPDATE journal_state SET watermark = seq + 1",
    ),
    (
        "scripts have their newest version: script keeps",
        "UPDATE scripts SET version = 9 WHERE name = 'keeps'",
    ),
];

async fn damage_is_found(database: Database) {
    if !database.available() {
        return;
    }
    let (rt, url) = busy(database).await;
    let url = url.as_deref();
    let (code, clean) = checks(&rt);
    assert_eq!((code, wrong(&clean)), (0, Vec::new()), "{clean:#?}");
    let looked = |name: &str| {
        clean.iter().find(|check| check["name"] == name).unwrap()["looked"].as_u64().unwrap()
    };
    assert_eq!(looked("events"), 300);
    // keeps, dies, retries, later, and paused, for those they took.
    assert_eq!(looked("deliveries"), 300 + 20 + 5 + 3 + 300);
    let file = rt.server.home().join("whole.backup");
    // A whole store comes back before each damage: restored from a backup, which a test of its own
    // knows to be exact.
    let mut rt = rt;
    rt.server.start().await;
    let path = file.display().to_string();
    assert_eq!(rt.server.cli(&["backup", &path]).0, 0);
    rt.server.stop();
    for (expected, sql) in DAMAGE {
        let (code, said) = rt.server.cli(&["restore", &path, "--force"]);
        assert_eq!(code, 0, "{said}");
        tamper(&rt, url, sql).await;
        let (code, found) = checks(&rt);
        let found = wrong(&found);
        assert_eq!(code, 1, "{sql}");
        assert!(found.iter().any(|one| one.contains(expected)), "{sql}: {found:#?}");
    }
}

#[tokio::test]
async fn each_kind_of_damage_is_found_and_named_on_sqlite() {
    damage_is_found(Database::Sqlite).await;
}

#[tokio::test]
async fn each_kind_of_damage_is_found_and_named_on_postgres() {
    damage_is_found(Database::Postgres).await;
}

#[tokio::test]
async fn without_a_store_there_is_nothing_to_verify() {
    let server = crate::support::Server::new("", None);
    let (code, said) = server.cli(&["verify"]);
    assert_eq!(code, 1);
    assert!(said.contains("there is no store at"), "{said}");
}

/// Payloads by seq, as SQLite gives them.
fn payloads(path: &std::path::Path) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
    let db = rusqlite::Connection::open(path)?;
    let mut rows = db.prepare("SELECT seq, data FROM events ORDER BY seq")?;
    rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// One byte changes anywhere: what passes has the right payloads, and nothing panics.
#[tokio::test]
async fn a_changed_byte_never_passes_with_a_wrong_payload() {
    let (rt, _) = busy(Database::Sqlite).await;
    let path = rt.server.data().join("tripline.db");
    let whole = fs::read(&path).unwrap();
    let before = payloads(&path).unwrap();
    let (mut found, flips) = (0, 100);
    for flip in 0..flips {
        let mut bytes = whole.clone();
        // Spread over the file, and never the same place in a page.
        let at = (whole.len() / flips * flip + flip * 37) % whole.len();
        bytes[at] ^= 1 << (flip % 8);
        for log in ["tripline.db-wal", "tripline.db-shm"] {
            let _there_may_be_none = fs::remove_file(rt.server.data().join(log));
        }
        fs::write(&path, &bytes).unwrap();
        let (code, said) = rt.server.cli(&["verify"]);
        assert!([0, 1].contains(&code), "byte {at}: {code} {said}");
        assert!(!said.contains("panicked"), "byte {at}: {said}");
        match code {
            0 => assert_eq!(payloads(&path).unwrap(), before, "byte {at} passed"),
            _ => {
                assert!(said.contains("findings") || said.contains("tripline: "), "{said}");
                found += 1;
            }
        }
    }
    assert!(found > 10, "{found} of {flips} were noticed: void");
}

/// Retention takes events that only ended letters need: those letters stay what they are.
async fn letters_without_event(database: Database) {
    if !database.available() {
        return;
    }
    let (mut rt, url) = busy(database).await;
    rt.server.start().await;
    let letters = rt.all("/api/v1/dead-letters").await;
    let path = |letter: &Value| format!("/api/v1/dead-letters/{}", letter["id"].as_str().unwrap());
    for letter in &letters {
        rt.request(Method::DELETE, &path(letter), None).await;
    }
    rt.server.stop();
    let (gone, kept) = (&letters[0], &letters[1]);
    let uid = gone["event_id"].as_str().unwrap().replace('-', "");
    let uid = if url.is_some() { format!("'{uid}'") } else { format!("X'{uid}'") };
    tamper(&rt, url.as_deref(), &format!("DELETE FROM events WHERE uid = {uid}")).await;
    rt.server.start().await;
    let restore = |letter: &Value| format!("{}/restore", path(letter));
    let refused = rt.request(Method::POST, &restore(gone), Some(&json!({}))).await;
    refused.refused(404, "not_found");
    assert_eq!(rt.post(&restore(kept), &json!({})).await["status"], "dead");
    let bulk = rt.post("/api/v1/dead-letters/restore", &json!({})).await;
    let bulk = format!("/api/v1/bulk/{}", bulk["id"].as_str().unwrap());
    eventually("the operation to end", async || {
        let operation = rt.get(&bulk).await;
        if operation["state"] == "done" { Ok(()) } else { Err(operation) }
    })
    .await;
    let states: Vec<Value> = rt.all("/api/v1/dead-letters").await;
    let discarded: Vec<&Value> =
        states.iter().filter(|one| one["status"] == "discarded").map(|one| &one["id"]).collect();
    assert_eq!(discarded, [&gone["id"]]);
}

#[tokio::test]
async fn a_letter_whose_event_is_gone_is_not_restored_on_sqlite() {
    letters_without_event(Database::Sqlite).await;
}

#[tokio::test]
async fn a_letter_whose_event_is_gone_is_not_restored_on_postgres() {
    letters_without_event(Database::Postgres).await;
}
