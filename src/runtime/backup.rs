//! A backup on its way out: written to a file without a name, read from it while it grows.
//!
//! The snapshot lasts as long as this machine's disk needs for it, however slowly the client takes
//! what comes: SQLite empties its write-ahead log only afterwards. The file is unlinked as soon as
//! it is open, so that nothing stays behind, whatever ends the process.

use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use futures::stream::{self, Stream};
use tokio::sync::{OwnedMutexGuard, watch};

use super::Runtime;
use crate::store::{
    self,
    backup::{self, Header, Sink},
};

/// Room that a backup leaves on the disk of the data folder.
const ROOM_BYTES: u64 = 64 << 20;
/// The write-ahead log may grow by so much while a backup reads.
const LOG_BYTES_MAX: u64 = 8 << 30;
/// Handed to the client at once.
const PIECE_BYTES: usize = 256 << 10;

/// Why no backup was begun.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("a backup is being made; wait for its end")]
    Busy,
    /// The text names the room that is needed.
    #[error("{0}")]
    NoRoom(String),
    #[error(transparent)]
    Failed(#[from] backup::Error),
}

/// How far the writer is.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// Bytes of whole frames.
    written: u64,
    /// Set at its end; the error is for the client.
    ended: Option<Result<(), String>>,
}

/// A backup that is being made.
pub struct Backup {
    pub header: Header,
    file: Arc<File>,
    progress: watch::Receiver<Progress>,
    /// Stops the writer when nobody reads any more.
    _gone: Hangup,
}

struct Hangup(Arc<AtomicBool>);

impl Drop for Hangup {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Runtime {
    /// Begins a backup; one at a time. On return its header was written.
    pub async fn back_up(&self) -> Result<Backup, BackupError> {
        let turn = Arc::clone(&self.0.backup).try_lock_owned().map_err(|_| BackupError::Busy)?;
        let folder = self.config().data_dir();
        let file = Arc::new(unnamed(&folder).map_err(backup::Error::Io)?);
        let (sender, mut progress) = watch::channel(Progress::default());
        let gone = Hangup(Arc::default());
        let spool = Spool {
            file: Arc::clone(&file),
            folder,
            log: self.store().path().map(log_of),
            progress: sender,
            gone: Arc::clone(&gone.0),
        };
        let store = self.store().clone();
        std::thread::Builder::new()
            .name("backup".into())
            .spawn(move || spool.run(&store, turn))
            .map_err(backup::Error::Io)?;
        let begun = progress.wait_for(|now| now.written > 0 || now.ended.is_some()).await;
        let begun = begun.map(|now| now.clone()).unwrap_or_default();
        if let Some(Err(message)) = begun.ended.filter(|_| begun.written == 0) {
            return Err(BackupError::NoRoom(message));
        }
        let header = backup::header(Written { file: &file, at: 0 })?;
        Ok(Backup { header, file, progress, _gone: gone })
    }
}

impl Backup {
    /// Its bytes, as they are written. A backup that fails ends with a frame that says why.
    pub fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + 'static {
        let state = (self, 0_u64, false);
        stream::try_unfold(state, |(mut backup, sent, over)| async move {
            if over {
                return Ok(None);
            }
            let now = backup.progress.wait_for(|now| now.written > sent || now.ended.is_some());
            let now = now.await.map_err(|_| io::Error::other("the backup's thread ended"))?.clone();
            if now.written > sent {
                let piece = usize::try_from(now.written - sent).unwrap_or(usize::MAX);
                let file = Arc::clone(&backup.file);
                let read = tokio::task::spawn_blocking(move || {
                    let mut piece = vec![0; piece.min(PIECE_BYTES)];
                    file.read_exact_at(&mut piece, sent).map(|()| piece)
                });
                let piece = read.await.map_err(io::Error::other)??;
                let sent = sent + piece.len() as u64;
                return Ok(Some((Bytes::from(piece), (backup, sent, false))));
            }
            Ok(match now.ended {
                Some(Err(message)) => {
                    Some((backup::failure(&message).into(), (backup, sent, true)))
                }
                _ => None,
            })
        })
    }
}

/// The writer's end.
struct Spool {
    file: Arc<File>,
    folder: PathBuf,
    /// SQLite's write-ahead log.
    log: Option<PathBuf>,
    progress: watch::Sender<Progress>,
    gone: Arc<AtomicBool>,
}

impl Spool {
    fn run(mut self, store: &store::Store, _turn: OwnedMutexGuard<()>) {
        let ended = store.back_up(&mut self);
        match &ended {
            Ok((header, _)) => {
                let marker = header.marker;
                tracing::info!(seq = marker.seq, batch = marker.batch, "backup made");
            }
            Err(error) => tracing::warn!(%error, "a backup was given up"),
        }
        let ended = ended.map(drop).map_err(|error| error.to_string());
        self.progress.send_modify(|progress| progress.ended = Some(ended));
    }

    fn check(&self, frame: usize) -> io::Result<()> {
        if self.gone.load(Relaxed) {
            return Err(io::Error::other("whoever asked for it has hung up"));
        }
        let space = rustix::fs::statvfs(&self.folder)?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < ROOM_BYTES + frame as u64 {
            return Err(full(&self.folder, free));
        }
        let log = self.log.as_ref().and_then(|log| log.metadata().ok());
        if log.is_some_and(|log| log.len() > LOG_BYTES_MAX) {
            return Err(io::Error::other(
                "the write-ahead log grew past 8 GiB meanwhile: try again when less is published",
            ));
        }
        Ok(())
    }
}

impl Sink for Spool {
    fn put(&mut self, frame: &[u8]) -> io::Result<()> {
        self.check(frame.len())?;
        (&*self.file).write_all(frame).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => full(&self.folder, 0),
            _ => error,
        })?;
        self.progress.send_modify(|progress| progress.written += frame.len() as u64);
        Ok(())
    }
}

fn full(folder: &Path, free: u64) -> io::Error {
    let text = format!(
        "the disk of {} is full: a backup passes through it and leaves {} MiB free, of which there are {}",
        folder.display(),
        ROOM_BYTES >> 20,
        free >> 20
    );
    io::Error::new(io::ErrorKind::StorageFull, text)
}

/// A file that has no name any more, for its owner alone.
fn unnamed(folder: &Path) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("tripline.db.spool-{}", uuid::Uuid::now_v7().simple()));
    let mut options = File::options();
    options.read(true).write(true).create_new(true).mode(0o600);
    let file = options.open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn log_of(database: &Path) -> PathBuf {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Reads what was written without moving where the writer is.
struct Written<'a> {
    file: &'a File,
    at: u64,
}

impl io::Read for Written<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
