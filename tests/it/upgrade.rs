//! Stores of released versions open in this one; those of later ones are left alone; and a start that
//! is killed while it brings a schema up to date leaves the old one or the new one.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use migration::Migrator;
use sea_orm_migration::MigratorTrait;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::support::{Database, Server, TestRuntime, eventually};

/// A fixture grows old: nothing may go for its age.
const KEEP: &str = "[retention]\nevents = \"never\"\nruns = \"never\"\ndead_letters = \"never\"\n\
    audit = \"never\"\n";

/// A folder for each released version; `tests/fixtures/make` makes the next one.
fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders
}

fn unpacked(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).unwrap();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Puts a fixture in the place of a store that has not been opened.
async fn place(fixture: &Path, database: Database) -> Server {
    let url = database.create().await;
    let server = Server::new(KEEP, url.as_deref());
    let data = server.data();
    fs::create_dir_all(&data).unwrap();
    let name = match &url {
        None => {
            fs::write(data.join("tripline.db"), unpacked(&fixture.join("sqlite.db.gz"))).unwrap();
            "sqlite.token"
        }
        Some(url) => {
            let sql = String::from_utf8(unpacked(&fixture.join("postgres.sql.gz"))).unwrap();
            let mut connection = PgConnection::connect(url).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            "postgres.token"
        }
    };
    for (from, to) in [(name, "admin.token"), ("secrets.key", "secrets.key")] {
        fs::copy(fixture.join(from), data.join(to)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(data.join(to), mode).unwrap();
    }
    server
}

async fn every_release_opens(database: Database) {
    if !database.available() {
        return;
    }
    for fixture in fixtures() {
        let mut server = place(&fixture, database).await;
        server.start().await;
        let rt = TestRuntime::of(server);
        let shown = fixture.display();
        for (event_type, count) in [
            ("order.paid", 500),
            ("order.booked", 500),
            ("order.flaky", 60),
            ("order.wrong", 40),
            ("order.later", 20),
            ("order.slow", 30),
        ] {
            let path = format!("/api/v1/events?type={event_type}&deliveries=false");
            assert_eq!(rt.all(&path).await.len(), count, "{event_type} of {shown}");
        }
        assert_eq!(rt.all("/api/v1/dead-letters?status=dead").await.len(), 40, "{shown}");
        assert_eq!(rt.all("/api/v1/scheduled").await.len(), 20, "{shown}");
        assert_eq!(rt.get("/api/v1/secrets").await["items"][0]["readable"], true, "{shown}");
        let subscriptions = rt.all("/api/v1/subscriptions").await;
        let id = |name: &str| {
            let found = subscriptions.iter().find(|one| one["name"] == name);
            found.unwrap_or_else(|| panic!("no {name} in {shown}"))["id"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let resume = format!("/api/v1/subscriptions/{}/resume", id("paused"));
        rt.post(&resume, &json!({})).await;
        // What was in flight, what waited for a retry, and what a paused subscription had before it.
        for (event_type, subscription) in
            [("order.slow", "slow"), ("order.flaky", "retries"), ("order.paid", "paused")]
        {
            let id = id(subscription);
            eventually(&format!("{event_type} of {shown} to be handled"), async || {
                let events = rt.all(&format!("/api/v1/events?type={event_type}&data=false")).await;
                let open: Vec<Value> = events
                    .iter()
                    .flat_map(|event| event["deliveries"].as_array().unwrap().clone())
                    .filter(|one| one["subscription_id"] == id.as_str())
                    .filter(|one| one["status"] != "succeeded")
                    .collect();
                if open.is_empty() { Ok(()) } else { Err((open.len(), open[0].clone())) }
            })
            .await;
        }
        // Once each: a second run of those that were handled would have emitted again.
        let booked = rt.all("/api/v1/events?type=order.booked&deliveries=false").await;
        assert_eq!(booked.len(), 500, "{shown}");
        let letter = rt.all("/api/v1/dead-letters").await[0].clone();
        assert_eq!(letter["event"]["data"]["text"], "Grüße", "{letter:#}");
    }
}

#[tokio::test]
async fn stores_of_every_release_open_on_sqlite() {
    every_release_opens(Database::Sqlite).await;
}

#[tokio::test]
async fn stores_of_every_release_open_on_postgres() {
    every_release_opens(Database::Postgres).await;
}

/// An older program must not touch what a newer one wrote.
#[tokio::test]
async fn a_newer_store_is_refused_and_not_written_to() {
    let mut server = Server::new("", None);
    server.start().await;
    server.stop();
    let path = server.data().join("tripline.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    let step = "INSERT INTO seaql_migrations VALUES ('m29990101_000001_later', 0)";
    db.execute(step, []).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    db.close().unwrap();
    let before = fs::read(&path).unwrap();
    let said = server.refuses_to_start();
    assert!(said.contains("written by a newer version"), "{said}");
    assert!(fs::read(&path).unwrap() == before, "the file was changed");
}

#[tokio::test]
async fn a_newer_store_on_postgres_is_refused() {
    if !Database::Postgres.available() {
        return;
    }
    let url = Database::Postgres.create().await.unwrap();
    let mut server = Server::new("", Some(&url));
    server.start().await;
    server.stop();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let step = "INSERT INTO seaql_migrations VALUES ('m29990101_000001_later', 0)";
    connection.execute(step).await.unwrap();
    let epoch = "SELECT epoch FROM journal_state";
    let before: i64 = sqlx::query_scalar(epoch).fetch_one(&mut connection).await.unwrap();
    let said = server.refuses_to_start();
    assert!(said.contains("written by a newer version"), "{said}");
    let after: i64 = sqlx::query_scalar(epoch).fetch_one(&mut connection).await.unwrap();
    assert_eq!(after, before);
}

/// The first schema that was released: its steps, and how many rows the test puts in it.
const RELEASED_STEPS: u32 = 12;

fn rows() -> u32 {
    std::env::var("TRIPLINE_MIGRATION_ROWS").map_or(150_000, |text| text.parse().expect("a number"))
}

/// A store of the first release with many events, nothing of them handled by anyone.
async fn old_store(url: &str) -> sea_orm::DatabaseConnection {
    let connection = sea_orm::Database::connect(url).await.unwrap();
    Migrator::up(&connection, Some(RELEASED_STEPS)).await.unwrap();
    connection
}

fn events(series: &str) -> String {
    let bytes = if series.contains("generate_series") {
        (
            "decode(md5(n::text), 'hex')::uuid",
            "convert_to('{\"n\":1}', 'UTF8')",
            "gen_random_uuid()",
        )
    } else {
        ("randomblob(16)", "CAST('{\"n\":1}' AS BLOB)", "randomblob(16)")
    };
    let (uid, data, store) = bytes;
    let uid = if uid.contains("md5") { "md5(n::text)::uuid" } else { uid };
    let (count, truth) = (rows(), if uid == "randomblob(16)" { "1" } else { "TRUE" });
    format!(
        "INSERT INTO events (seq, uid, source, type, encoding, data, accepted_at, hop, spread, checksum) \
         SELECT n, {uid}, '/old', 'old', 0, {data}, 1790000000000 + n, 0, 1, 0 FROM {series}; \
         INSERT INTO journal_state VALUES (1, {store}, 0, 1, 1, {count}, 0, {count}, 1790000000000, {truth}, 0);"
    )
}

/// Whether the newest column is there, and whether the newest step says so.
fn halves(columns: bool, step: bool, kill: u32) -> bool {
    assert_eq!(columns, step, "kill {kill} left half a step");
    step
}

/// A server with a store of the first release; the store's path.
async fn old_sqlite() -> (Server, PathBuf) {
    let server = Server::new(KEEP, None);
    fs::create_dir_all(server.data()).unwrap();
    let path = server.data().join("tripline.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;").unwrap();
    drop(db);
    old_store(&format!("sqlite://{}", path.display())).await.close().await.unwrap();
    let series = format!(
        "(WITH RECURSIVE series (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {}) \
         SELECT n FROM series)",
        rows()
    );
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(&events(&series)).unwrap();
    (server, path)
}

/// A server with a database of the first release, and a connection to that.
async fn old_postgres() -> (Server, PgConnection) {
    let url = Database::Postgres.create().await.unwrap();
    let server = Server::new(KEEP, Some(&url));
    fs::create_dir_all(server.data()).unwrap();
    old_store(&url).await.close().await.unwrap();
    let mut db = PgConnection::connect(&url).await.unwrap();
    let sql = events(&format!("generate_series(1, {}) AS series (n)", rows()));
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut db).await.unwrap();
    (server, db)
}

/// A minute for a million events, whatever the start has to do besides.
async fn migrates(mut server: Server) {
    let begun = Instant::now();
    server.start().await;
    let took = begun.elapsed();
    println!("{} events of the first release: open after {took:.1?}", rows());
    assert!(took < Duration::from_mins(1), "{took:?}");
    let steps = Migrator::migrations().len() - RELEASED_STEPS as usize;
    for step in 1..=steps {
        let told = format!("schema step {step} of {steps} is done");
        assert!(server.log().contains(&told), "no {told:?} in {}", server.log());
    }
    let stats = TestRuntime::of(server).get("/api/v1/stats").await;
    assert_eq!(stats["journal"]["seq"], rows(), "{stats:#}");
}

#[tokio::test]
async fn many_events_migrate_within_a_minute_on_sqlite() {
    migrates(old_sqlite().await.0).await;
}

#[tokio::test]
async fn many_events_migrate_within_a_minute_on_postgres() {
    if Database::Postgres.available() {
        migrates(old_postgres().await.0).await;
    }
}

#[tokio::test]
async fn a_kill_during_migration_leaves_the_old_or_the_new_schema_on_sqlite() {
    let (mut server, path) = old_sqlite().await;
    let mut old = 0;
    for kill in 0.. {
        server.launch();
        tokio::time::sleep(Duration::from_millis(u64::from(kill) * 15)).await;
        server.kill();
        let db = rusqlite::Connection::open(&path).unwrap();
        let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(number("SELECT COUNT(*) FROM events"), i64::from(rows()), "kill {kill}");
        let step =
            number("SELECT COUNT(*) FROM seaql_migrations WHERE version LIKE '%000013%'") == 1;
        let columns = number(
            "SELECT COUNT(*) FROM pragma_table_info('events') WHERE name = 'erased_at'",
        ) + number(
            "SELECT COUNT(*) FROM pragma_table_info('journal_state') WHERE name = 'retained'",
        );
        assert!([0, 2].contains(&columns), "kill {kill}");
        if halves(columns == 2, step, kill) {
            break;
        }
        old += 1;
        assert!(kill < 400, "it never ends");
    }
    assert!(old > 0, "no kill came before the end: void");
    server.start().await;
}

#[tokio::test]
async fn a_kill_during_migration_leaves_the_old_or_the_new_schema_on_postgres() {
    if !Database::Postgres.available() {
        return;
    }
    let (mut server, mut db) = old_postgres().await;
    let mut old = 0;
    for kill in 0.. {
        server.launch();
        tokio::time::sleep(Duration::from_millis(u64::from(kill) * 15)).await;
        server.kill();
        let number = async |db: &mut PgConnection, sql: &'static str| -> i64 {
            sqlx::query_scalar(sql).fetch_one(db).await.unwrap()
        };
        // The server may be in the middle of rolling back: asking waits for it.
        let step = "SELECT COUNT(*) FROM seaql_migrations WHERE version LIKE '%000013%'";
        let columns = "SELECT COUNT(*) FROM information_schema.columns WHERE (table_name, column_name) \
             IN (('events', 'erased_at'), ('journal_state', 'retained'))";
        let mut look = db.begin().await.unwrap();
        look.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await.unwrap();
        let (columns, step) = (number(&mut look, columns).await, number(&mut look, step).await);
        look.rollback().await.unwrap();
        assert!([0, 2].contains(&columns), "kill {kill}");
        if halves(columns == 2, step == 1, kill) {
            break;
        }
        old += 1;
        assert!(kill < 400, "it never ends");
    }
    assert!(old > 0, "no kill came before the end: void");
    server.start().await;
}
