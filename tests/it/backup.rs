//! Backup and restore: what was acknowledged before is there, handled once, and nothing else.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::{Connection, Executor, PgConnection};

use crate::{
    ledger::power::{Disk, Fault, Power},
    support::{Api, Database, Server, TestRuntime, eventually},
};

const EMITS: &str = "export default async (item) => {
    await sdk.events.emit('item.done', { n: item.n });
    return item.n;
}";

/// Publishes batches until it is told to stop; each uid is written down once it is acknowledged.
async fn publish(
    api: Api,
    publisher: usize,
    known: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
) {
    for batch in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let items: Value = (0..20)
            .map(|n| json!({ "type": "item", "data": { "n": batch * 20 + n, "publisher": publisher } }))
            .collect();
        let answer = api.request(Method::POST, "/api/v1/events", Some(&items)).await;
        if answer.status == 202 {
            let ids = answer.body["ids"].as_array().unwrap();
            known.lock().unwrap().extend(ids.iter().map(|id| id.as_str().unwrap().to_owned()));
        }
    }
}

async fn backup_under_load(database: Database) {
    if !database.available() {
        return;
    }
    let mut rt = TestRuntime::with(database, "").await;
    rt.request(Method::PUT, "/api/v1/secrets/api_key", Some(&json!({ "value": "sk_12345678" })))
        .await
        .ok("a secret");
    rt.subscription("emits").on("item").script(EMITS).add().await;
    rt.subscription("waits").on("item").add().await;
    let waits = rt.id_of("waits");
    rt.post(&format!("/api/v1/subscriptions/{waits}/pause"), &json!({})).await;
    rt.subscription("fails")
        .on("item")
        .filter("$.n < 5")
        .script("export default () => { throw new Error('not now'); }")
        .attempts(2, 3_600_000)
        .add()
        .await;

    let (known, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let publishers: Vec<_> = (0..3)
        .map(|n| tokio::spawn(publish(rt.api.clone(), n, Arc::clone(&known), Arc::clone(&stop))))
        .collect();
    eventually("a thousand events", async || {
        let len = known.lock().unwrap().len();
        if len > 1_000 { Ok(()) } else { Err(len) }
    })
    .await;
    let before = known.lock().unwrap().clone();
    let file = rt.server.home().join("store.backup");
    let path = file.display().to_string();
    let made = rt.server.cli_meanwhile(&["backup", &path, "--json"]).await;
    stop.store(true, Ordering::Relaxed);
    for publisher in publishers {
        publisher.await.unwrap();
    }
    assert_eq!(made.0, 0, "{}", made.1);
    let made: Value = serde_json::from_str(&made.1).unwrap();
    let marker = made["marker"]["seq"].as_u64().unwrap();
    assert!(marker >= before.len() as u64, "{made:#}");
    let after = known.lock().unwrap().len();
    assert!(after > before.len(), "nothing was published meanwhile: void");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let audit = rt.get("/api/v1/audit").await;
    assert_eq!(audit["items"][0]["action"], "storage.backup", "{audit:#}");
    let again = rt.server.cli(&["backup", &path]);
    assert_eq!(again.0, 1);
    assert!(again.1.contains("--force replaces it"), "{}", again.1);

    // A server elsewhere, which has nothing yet: not even the key of the secrets.
    let url = database.create().await;
    let mut server = Server::new("", url.as_deref());
    let restored = server.cli(&["restore", &path]);
    assert_eq!(restored.0, 0, "{}", restored.1);
    assert!(restored.1.contains("WARNING: 1 secrets are sealed"), "{}", restored.1);
    fs::copy(rt.server.data().join("secrets.key"), server.data().join("secrets.key")).unwrap();
    let taken = server.cli(&["restore", &path]);
    assert_eq!(taken.0, 1);
    assert!(taken.1.contains("--force replaces it"), "{}", taken.1);
    let forced = server.cli(&["restore", &path, "--force"]);
    assert_eq!(forced.0, 0, "{}", forced.1);
    assert!(forced.1.contains("opens all 1 secrets"), "{}", forced.1);
    fs::copy(rt.server.data().join("admin.token"), server.data().join("admin.token")).unwrap();
    rt.server.kill();
    server.start().await;
    let held = server.cli(&["restore", &path, "--force"]);
    assert_eq!(held.0, 1);
    assert!(held.1.contains("one store has one server"), "{}", held.1);

    let other = TestRuntime::of(server);
    assert_eq!(other.get("/api/v1/secrets").await["items"][0]["readable"], true);
    other.post(&format!("/api/v1/subscriptions/{waits}/resume"), &json!({})).await;
    // A cheap look first, so that the drain is not held up by ours.
    eventually("the backlog to drain", async || {
        let stats = other.get("/api/v1/stats").await;
        let waits = ["/events/backlog", "/deliveries/in_hand"];
        if waits.iter().all(|number| stats.pointer(number) == Some(&json!(0))) {
            Ok(())
        } else {
            Err(stats)
        }
    })
    .await;
    let events = eventually("everything to be handled", async || {
        let events = other.all("/api/v1/events?type=item").await;
        let open = |event: &&Value| {
            event["deliveries"].as_array().unwrap().iter().any(|one| {
                ["pending", "running"].contains(&one["status"].as_str().unwrap_or_default())
            })
        };
        match events.iter().find(open) {
            Some(open) => Err(open.clone()),
            None => Ok(events),
        }
    })
    .await;
    let uids: Vec<&str> = events.iter().map(|event| event["uid"].as_str().unwrap()).collect();
    let unique: BTreeSet<&str> = uids.iter().copied().collect();
    assert_eq!(unique.len(), uids.len(), "an event is there twice");
    let lost: Vec<&String> = before.iter().filter(|uid| !unique.contains(uid.as_str())).collect();
    assert!(lost.is_empty(), "acknowledged before the backup, and not in it: {lost:?}");
    // Each was handled once: a second run would have emitted once more.
    let mut causes: Vec<String> = other
        .all("/api/v1/events?type=item.done&deliveries=false")
        .await
        .iter()
        .map(|event| event["cause"]["event_id"].as_str().unwrap().to_owned())
        .collect();
    causes.sort();
    let mut expected: Vec<String> = uids.iter().map(|uid| (*uid).to_owned()).collect();
    expected.sort();
    assert_eq!(causes, expected);
    let retrying = |event: &&Value| {
        event["deliveries"].as_array().unwrap().iter().any(|one| one["status"] == "retrying")
    };
    assert!(events.iter().filter(retrying).count() >= 5, "retries wait on");
}

#[tokio::test]
async fn a_backup_under_load_restores_on_sqlite() {
    backup_under_load(Database::Sqlite).await;
}

#[tokio::test]
async fn a_backup_under_load_restores_on_postgres() {
    backup_under_load(Database::Postgres).await;
}

/// What may be asked of a store, as one text.
async fn everything(rt: &TestRuntime) -> String {
    let mut all = Vec::new();
    for list in ["events", "runs", "dead-letters", "scripts", "subscriptions", "scheduled"] {
        let mut items = rt.all(&format!("/api/v1/{list}")).await;
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            // Counted since the start of each server.
            item.remove("activity");
        }
        all.push(items);
    }
    all.push(rt.all("/api/v1/kv/counts").await);
    serde_json::to_string_pretty(&all).unwrap()
}

/// A store moves from one database to the other, and back.
#[tokio::test]
async fn a_backup_moves_a_store_between_databases() {
    if !Database::Postgres.available() {
        return;
    }
    let mut rt = TestRuntime::start().await;
    rt.subscription("counts")
        .on("text")
        .script("export default async (t) => { console.log(t.text); return t; }")
        .add()
        .await;
    rt.subscription("dies")
        .on("text")
        .script("export default (t) => { throw new sdk.PermanentError(t.text); }")
        .add()
        .await;
    for text in ["Grüße\n\t\\N", "\\x00", "zero \u{7f} \u{1f600}", ""] {
        rt.publish("text", json!({ "text": text, "n": [1.5, -0.0, 1e300] })).await;
        rt.delivery("counts").await.succeeded();
        rt.delivery("dies").await.dead();
    }
    // The last one may still be on its way from dying row to letter.
    eventually("all letters", async || match rt.all("/api/v1/dead-letters").await.len() {
        4 => Ok(()),
        other => Err(other),
    })
    .await;
    let before = everything(&rt).await;
    let mut file = rt.server.home().join("first.backup").display().to_string();
    for (step, database) in [Database::Postgres, Database::Sqlite].into_iter().enumerate() {
        let made = rt.server.cli(&["backup", &file]);
        assert_eq!(made.0, 0, "{}", made.1);
        let url = database.create().await;
        let mut server = Server::new("", url.as_deref());
        let restored = server.cli(&["restore", &file]);
        assert_eq!(restored.0, 0, "{}", restored.1);
        for kept in ["admin.token", "secrets.key"] {
            fs::copy(rt.server.data().join(kept), server.data().join(kept)).unwrap();
        }
        server.start().await;
        let next = TestRuntime::of(server);
        file = next.server.home().join(format!("{step}.backup")).display().to_string();
        assert_eq!(everything(&next).await, before, "{database:?}");
        rt = next;
    }
}

#[tokio::test]
async fn a_damaged_backup_restores_nothing() {
    let rt = TestRuntime::start().await;
    rt.subscription("all").add().await;
    rt.publish("item", json!({ "text": "x".repeat(5_000) })).await;
    rt.delivery("all").await.succeeded();
    let file = rt.server.home().join("good.backup");
    assert_eq!(rt.server.cli(&["backup", &file.display().to_string()]).0, 0);
    let good = fs::read(&file).unwrap();
    let server = Server::new("", None);
    let path = server.home().join("bad.backup");
    let refused = |bytes: &[u8], why: &str| {
        fs::write(&path, bytes).unwrap();
        let (code, text) = server.cli(&["restore", &path.display().to_string()]);
        assert_eq!(code, 1, "{why}: {text}");
        assert!(text.contains("no whole backup"), "{why}: {text}");
        assert!(!server.data().join("tripline.db").exists(), "{why}");
    };
    refused(b"something else altogether", "another file");
    for part in [0, 10, 40, 99] {
        refused(&good[..good.len() * part / 100], "cut off");
    }
    for at in (3..good.len()).step_by(good.len() / 12) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        // What names a newer format is told apart, and refused too.
        fs::write(&path, &bad).unwrap();
        let (code, text) = server.cli(&["restore", &path.display().to_string()]);
        assert_eq!(code, 1, "byte {at}: {text}");
        assert!(!server.data().join("tripline.db").exists(), "byte {at}");
    }
    let (code, text) = server.cli(&["restore", "/no/such/file"]);
    assert_eq!(code, 1, "{text}");
}

/// The backup with its first table called something else, and all checksums right.
fn forged(good: &[u8], table: &str) -> Vec<u8> {
    let mut out = good[..16].to_vec();
    let mut rest = &good[16..];
    let mut renamed = false;
    while let Some((head, frame)) = rest.split_at_checked(9) {
        let length = u32::from_le_bytes(head[1..5].try_into().unwrap()) as usize;
        let (payload, next) = frame.split_at(length);
        rest = next;
        let mut payload = payload.to_vec();
        if head[0] == b'T' && !renamed {
            let mut json: Value = serde_json::from_slice(&payload).unwrap();
            json["table"] = table.into();
            payload = json.to_string().into();
            renamed = true;
        }
        if head[0] == b'E' {
            let mut json: Value = serde_json::from_slice(&payload).unwrap();
            let counts = json["rows"].as_object_mut().unwrap();
            let count = counts.remove("scripts").expect("the first table of a backup");
            counts.insert(table.into(), count);
            let hash = Sha256::digest(&out);
            json["sha256"] = hash.iter().map(|b| format!("{b:02x}")).collect::<String>().into();
            payload = json.to_string().into();
        }
        out.push(head[0]);
        out.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
        out.extend(crc32fast::hash(&payload).to_le_bytes());
        out.extend(payload);
    }
    out
}

/// What a backup calls its tables becomes part of statements.
async fn names_of_tables(database: Database) {
    let rt = TestRuntime::start().await;
    rt.subscription("all").add().await;
    let file = rt.server.home().join("good.backup");
    assert_eq!(rt.server.cli(&["backup", &file.display().to_string()]).0, 0);
    let good = fs::read(&file).unwrap();
    let url = match database {
        Database::Sqlite => None,
        Database::Postgres => Some(Database::Postgres.create().await.unwrap()),
    };
    let server = Server::new("", url.as_deref());
    for table in
        ["seaql_migrations", "sqlite_schema", "pg_class", "x\"; DROP TABLE events; --", "'"]
    {
        fs::write(&file, forged(&good, table)).unwrap();
        let (code, text) = server.cli(&["restore", &file.display().to_string()]);
        let named = format!("there is no table {table}");
        assert!(code == 1 && text.contains(&named), "{table}: {text}");
        assert!(!server.data().join("tripline.db").exists(), "{table}");
    }
    // The name is what was refused, and nothing else of the forgery.
    fs::write(&file, forged(&good, "scripts")).unwrap();
    let (code, text) = server.cli(&["restore", &file.display().to_string()]);
    assert_eq!(code, 0, "{text}");
}

#[tokio::test]
async fn a_backup_names_no_tables_but_ours_on_sqlite() {
    names_of_tables(Database::Sqlite).await;
}

#[tokio::test]
async fn a_backup_names_no_tables_but_ours_on_postgres() {
    if Database::Postgres.available() {
        names_of_tables(Database::Postgres).await;
    }
}

#[tokio::test]
async fn a_full_disk_makes_no_backup_and_says_so() {
    let mut server = Server::new("", None);
    let power = Power::attach(&mut server, Disk::Honest);
    server.start().await;
    let rt = TestRuntime::of(server);
    power.fault(Fault::Full);
    rt.request(Method::POST, "/api/v1/storage/backup", None).await.refused(507, "disk_full");
    let file = rt.server.home().join("none.backup");
    let (code, text) = rt.server.cli(&["backup", &file.display().to_string()]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("the disk of") && text.contains("is full"), "{text}");
    assert!(!file.exists() && !file.with_extension("backup.partial").exists());
    power.mend(Fault::Full);
    let left = fs::read_dir(rt.server.data())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("spool"));
    assert_eq!(left.count(), 0);
}

/// A restore into PostgreSQL that was killed leaves no store that a server would take for whole.
#[tokio::test]
async fn a_half_restored_database_is_not_served() {
    if !Database::Postgres.available() {
        return;
    }
    let url = Database::Postgres.create().await.unwrap();
    let mut server = Server::new("", Some(&url));
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection.execute("CREATE TABLE restore_unfinished (id BIGINT)").await.unwrap();
    let said = server.refuses_to_start();
    assert!(said.contains("run `tripline restore` again"), "{said}");

    let rt = TestRuntime::start().await;
    let file = rt.server.home().join("store.backup").display().to_string();
    assert_eq!(rt.server.cli(&["backup", &file]).0, 0);
    let restored = server.cli(&["restore", &file]);
    assert_eq!(restored.0, 0, "{}", restored.1);
    server.start().await;
}
