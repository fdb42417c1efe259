//! A start that cannot be: it says why, and with which folder.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use crate::{
    ledger::power::{Disk, Fault, Power},
    support::Server,
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
