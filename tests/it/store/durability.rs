//! What the store refuses to run without.

use std::collections::BTreeSet;

use tripline::store::{Error, Store};

use super::support::{Db, event};

#[test]
fn a_store_without_incremental_vacuum_is_refused() {
    let db = Db::sqlite();
    // Made by something else: auto_vacuum can only be chosen when the file is created.
    db.tamper(
        "PRAGMA auto_vacuum = NONE; PRAGMA journal_mode = WAL; CREATE TABLE other (id INTEGER);",
    );
    let Err(Error::Refused(message)) = db.wait(Store::open(&db.url)) else {
        panic!("a store that never gives room back was opened");
    };
    assert!(message.contains("auto_vacuum is 0, not 2"), "{message}");
}

#[test]
fn an_unknown_scheme_is_refused_by_name() {
    let db = Db::sqlite();
    let Err(Error::Refused(message)) = db.wait(Store::open("mysql://localhost/x")) else {
        panic!("opened");
    };
    assert!(message.contains("mysql://"), "{message}");
}

#[test]
fn the_folder_of_a_new_store_is_created() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/tripline.db");
    let db = Db::sqlite();
    let store = db.wait(Store::open(&format!("sqlite://{}", path.display()))).unwrap();
    assert_eq!(store.path(), Some(path.as_path()));
    assert!(path.exists());
}

#[test]
fn sqlite_tells_that_it_syncs_every_commit() {
    let db = Db::sqlite();
    let mut owner = db.claim();
    let commit = owner.with_events([event("a", None, "{}")]);
    owner.commit(&commit);
    let storage = db.wait(owner.store.storage()).unwrap();
    assert_eq!((storage.kind, storage.synchronous.as_str()), ("sqlite", "full"));
    let events = storage.tables.iter().find(|table| table.name == "events").unwrap();
    assert_eq!(events.rows, 1);
    assert!(events.bytes.is_some_and(|bytes| bytes >= 4096), "{events:?}");
    assert!(storage.wal_bytes.is_some_and(|bytes| bytes > 0));
}

/// The write-ahead log starts over again and again, however much is written.
#[test]
fn the_write_ahead_log_stays_bounded() {
    let db = Db::sqlite();
    let mut owner = db.claim();
    let payload = format!("\"{}\"", "x".repeat(100_000));
    for _ in 0..12 {
        let commit = owner.with_events((0..100).map(|_| event("big", None, &payload)));
        owner.commit(&commit);
    }
    let storage = db.wait(owner.store.storage()).unwrap();
    assert!(storage.bytes > 100_000_000, "{}", storage.bytes);
    assert!(storage.wal_bytes.unwrap() < 64 << 20, "{:?}", storage.wal_bytes);
}

#[test]
fn postgres_that_acknowledges_before_its_disk_is_refused() {
    let Some(mut db) = Db::postgres() else { return };
    db.url.push_str("%20-c%20synchronous_commit%3Doff");
    let Err(Error::Refused(message)) = db.wait(Store::open(&db.url)) else {
        panic!("a store that may lose what it acknowledged was opened");
    };
    assert!(message.contains("synchronous_commit is off"), "{message}");
}

/// What is not in the list would be missing in sizes, and in the way of a restore.
#[test]
fn every_table_is_in_the_list_of_tables() {
    let db = Db::sqlite();
    let store = db.open();
    let listed = db.wait(store.storage()).unwrap().tables.into_iter().map(|table| table.name);
    let path = db.url.strip_prefix("sqlite://").unwrap();
    let connection = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
    let mut statement = connection.prepare(sql).unwrap();
    let there = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let (listed, there): (BTreeSet<String>, BTreeSet<String>) =
        (listed.collect(), there.map(Result::unwrap).collect());
    assert_eq!(listed, there);
}
