//! A start that cannot be: it says why, and with which folder. And a stop in the middle of everything.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};

use crate::{
    ledger::power::{Disk, Fault, Power},
    support::{Database, Server, TestRuntime, eventually},
};

#[tokio::test]
async fn a_start_on_a_full_disk_says_so() {
    let mut server = Server::new("", None);
    let power = Power::attach(&mut server, Disk::Honest);
    // At the first write, and wherever else a start writes; without a store, and with one.
    for nth in [1, 3, 20, 1, 3] {
        power.fault_at(Fault::Full, nth, u64::MAX);
        server.launch();
        let status = server.ended().await;
        let log = server.log();
        assert_eq!(status.code(), Some(1), "{log}");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.starts_with("tripline: cannot start"), "{log}");
        assert!(last.contains("No space left on device") || last.contains("is full"), "{log}");
        if nth == 20 {
            power.mend(Fault::Full);
            server.start().await;
            server.stop();
        }
    }
}

#[test]
fn a_start_in_a_folder_that_takes_no_files_says_so() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("data");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();

    let ended = serve_as_nobody(home.path());
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("tripline: cannot start"), "{said}");
    assert!(last.contains(&*folder.to_string_lossy()), "the folder is named: {said}");
    assert!(last.contains("Permission denied"), "{said}");
}

/// Serves from `home`, as somebody whom permissions bind: they do not bind root.
fn serve_as_nobody(home: &Path) -> Output {
    let binary = home.join("tripline");
    fs::copy(env!("CARGO_BIN_EXE_tripline"), &binary).unwrap();
    let is_root = home.join("data").join("probe");
    let mut command = if fs::write(&is_root, "").is_ok() {
        fs::remove_file(&is_root).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
        command
    } else {
        Command::new(&binary)
    };
    command
        .arg("serve")
        .current_dir(home)
        .env("TRIPLINE_SERVER__LISTEN", "127.0.0.1:0")
        .env("TRIPLINE_STORAGE__DATA", home.join("data"))
        .output()
        .unwrap()
}

/// Whoever stops a server whose reads hang is told that it stopped, and nothing of its insides.
#[tokio::test]
async fn a_stop_amid_reads_is_quiet() {
    if !Database::Postgres.available() {
        return;
    }
    let url = Database::Postgres.create().await;
    let mut server = Server::new("", url.as_deref());
    server.start().await;
    let mut rt = TestRuntime::of(server);
    rt.subscription("halts").on("job").add().await;
    let path = format!("/api/v1/subscriptions/{}", rt.id_of("halts"));
    rt.post(&format!("{path}/pause"), &json!({})).await;
    let mut db = PgConnection::connect(&url.expect("a database")).await.unwrap();
    let mut lock = db.begin().await.unwrap();
    lock.execute("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // What waits for it is read now.
    rt.post(&format!("{path}/resume"), &json!({})).await;
    let waits = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND database = \
         (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually("a read that hangs", async || {
        match sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut *lock).await.unwrap() {
            0 => Err(()),
            _ => Ok(()),
        }
    })
    .await;
    assert!(rt.server.stop().success(), "{}", rt.server.log());
    let log = rt.server.log();
    assert!(!log.contains("panicked"), "{log}");
}
