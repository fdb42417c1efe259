//! Power loss: the store's files cut back to what was ever synced (`power.c` keeps count).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::Server;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// A sync puts on disk what was written before it.
    Honest,
    /// As under `synchronous=OFF`: nothing that was written is ever sure to be on disk.
    IgnoresSync,
}

/// What a disk may do to a store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Nothing more fits on it.
    Full,
    /// Syncs fail.
    SyncFails,
}

pub(crate) struct Power {
    disk: Disk,
    /// The files as of their last sync.
    shadow: PathBuf,
}

impl Power {
    /// Puts the recorder under a server that has not started yet.
    pub(crate) fn attach(server: &mut Server, disk: Disk) -> Self {
        // The kernel reports open files by their true path.
        let home = server.home().canonicalize().unwrap();
        let shadow = home.join("synced");
        fs::create_dir(&shadow).unwrap();
        let library = home.join("power.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/ledger/power.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .status()
            .expect("a C compiler, which linking Rust needs too");
        assert!(built.success());
        server.env("LD_PRELOAD", library.display().to_string());
        server.env("POWER_DATA", home.join("data").display().to_string());
        server.env("POWER_SHADOW", shadow.display().to_string());
        Self { disk, shadow }
    }

    /// From now on, until it is [mended](Self::mend).
    pub(crate) fn fault(&self, fault: Fault) {
        fs::write(self.shadow.join(fault.file()), "").unwrap();
    }

    pub(crate) fn mend(&self, fault: Fault) {
        fs::remove_file(self.shadow.join(fault.file())).unwrap();
    }

    /// All that there is now counts as synced; from here on the disk behaves as it was made.
    pub(super) async fn settle(&self, server: &mut Server) {
        server.stop();
        for file in store_files(&server.data()) {
            fs::copy(&file, self.shadow.join(file.file_name().unwrap())).unwrap();
        }
        if self.disk == Disk::IgnoresSync {
            fs::write(self.shadow.join("ignore-sync"), "").unwrap();
        }
        server.start().await;
    }

    /// What the next start finds, after the process is gone: nothing that was not synced.
    pub(super) fn cut(&self, data: &Path) {
        for file in store_files(data) {
            fs::remove_file(file).unwrap();
        }
        for file in store_files(&self.shadow) {
            fs::copy(&file, data.join(file.file_name().unwrap())).unwrap();
        }
    }
}

impl Fault {
    const fn file(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::SyncFails => "fails",
        }
    }
}

fn store_files(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named =
        |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("tripline.db");
    all.filter(named).collect()
}
