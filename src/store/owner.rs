//! One process per SQLite store: a lock file beside the database.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
    time::{Duration, Instant},
};

use super::Error;

/// How long a start waits for the lock: a killed owner's is gone at once, but its children may
/// hold the descriptor for the moment between fork and exec.
const PATIENCE: Duration = Duration::from_secs(1);

/// Held as long as this process may write. The system frees it when the process dies.
pub(super) struct OwnerLock {
    file: File,
}

impl OwnerLock {
    /// Takes `<database>.lock` and writes our process id into it.
    pub(super) fn take(database: &Path) -> Result<Self, Error> {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        let refused = |error: std::io::Error| {
            Error::Refused(format!("cannot lock {}: {error}", path.display()))
        };
        // Not truncated: it names the owner until we are the owner.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(refused)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => {
                    let mut owner = String::new();
                    let _unreadable_is_unknown = file.read_to_string(&mut owner);
                    return Err(Error::Owned(format!(
                        "{} is in use by process {}: one store has one server",
                        database.display(),
                        if owner.trim().is_empty() { "unknown" } else { owner.trim() },
                    )));
                }
                Err(TryLockError::Error(error)) => return Err(refused(error)),
            }
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(refused)?;
        writeln!(file, "{}", std::process::id()).map_err(refused)?;
        Ok(Self { file })
    }

    pub(super) fn give_up(&self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the store's lock could not be freed; it ends with the process");
        }
    }
}
