//! Power loss: the store's files cut back to what was ever synced (`power.c` keeps count).

use std::{
    fs,
    os::unix::fs::FileExt,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Memory shared with the recorder; see [`Word`].
    control: fs::File,
}

/// Words of the control, as `power.c` numbers them.
#[derive(Clone, Copy)]
enum Word {
    Syncs = 0,
    Writes = 1,
    SyncFrom = 2,
    SyncTo = 3,
    WriteFrom = 4,
    WriteTo = 5,
    Calls = 6,
    Last = 7,
    Failed = 8,
    Delay = 9,
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
        let mut control = fs::File::options();
        let control = control.read(true).write(true).create_new(true);
        let control = control.open(shadow.join("control")).unwrap();
        control.set_len(4096).unwrap();
        Self { disk, shadow, control }
    }

    /// From now on, until it is [mended](Self::mend).
    pub(crate) fn fault(&self, fault: Fault) {
        self.fault_at(fault, 1, u64::MAX);
    }

    /// The `nth` call from now on fails, and those after it: so many in all.
    pub(crate) fn fault_at(&self, fault: Fault, nth: u64, times: u64) {
        let (calls, from, to) = fault.words();
        let first = self.word(calls) + nth;
        self.set(from, first);
        self.set(to, first.saturating_add(times));
    }

    pub(crate) fn mend(&self, fault: Fault) {
        let (_, _, to) = fault.words();
        self.set(to, 0);
    }

    /// From now on each sync takes so much longer.
    pub(crate) fn delay_syncs(&self, milliseconds: u64) {
        self.set(Word::Delay, milliseconds);
    }

    /// Calls that failed so far.
    pub(crate) fn failed(&self) -> u64 {
        self.word(Word::Failed)
    }

    /// Instead of the `nth` write or sync from now on, the process dies.
    pub(crate) fn die_at(&self, nth: u64) {
        self.set(Word::Last, self.word(Word::Calls) + nth);
    }

    fn word(&self, word: Word) -> u64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, word as u64 * 8).unwrap();
        u64::from_ne_bytes(bytes)
    }

    fn set(&self, word: Word, value: u64) {
        self.control.write_all_at(&value.to_ne_bytes(), word as u64 * 8).unwrap();
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
    pub(crate) fn cut(&self, data: &Path) {
        for file in store_files(data) {
            fs::remove_file(file).unwrap();
        }
        for file in store_files(&self.shadow) {
            fs::copy(&file, data.join(file.file_name().unwrap())).unwrap();
        }
    }
}

impl Fault {
    /// Calls that it may hit, and the first and the end of those that fail.
    const fn words(self) -> (Word, Word, Word) {
        match self {
            Self::Full => (Word::Writes, Word::WriteFrom, Word::WriteTo),
            Self::SyncFails => (Word::Syncs, Word::SyncFrom, Word::SyncTo),
        }
    }
}

fn store_files(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named =
        |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("tripline.db");
    all.filter(named).collect()
}
