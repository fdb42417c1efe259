//! The journal on SQLite: one connection of its own, prepared statements, WAL, `synchronous=FULL`.

use std::{
    cell::Cell,
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, TransactionBehavior, params};

use super::{
    Commit, CommitError, DeliveryRow, EventKey, JournalState, JournalStore, KnownEvent, Scheduled,
    SubscriptionChange,
    keys::{self, KeyIndex},
    sqlite_keys, statements,
};
use crate::{
    domain::{
        Definition, Event, EventId, Millis, RunLog, Seq, SubscriptionId,
        kv::{self, Stored},
    },
    store::{encode, gate::Gate, owner::OwnerLock},
};

/// WAL pages after which a commit also checkpoints: 40 MiB, so that the file stays bounded and
/// pages that many commits touch (the last leaf of each index) are written back once for all.
const CHECKPOINT_PAGES: i32 = 10_000;
/// WAL pages at which readers have to let the log begin anew: a checkpoint that passes them by cannot
/// while there is always one, and the log would grow for ever.
const RESTART_PAGES: i32 = 2 * CHECKPOINT_PAGES;
/// How long commits may wait for readers then, and how long it is left alone if that was not enough.
const READERS_WAIT_MS: u32 = 250;
const RESTART_AGAIN: Duration = Duration::from_secs(5);

/// Bytes before the frames of the log, and before the page of each.
const LOG_HEAD: u64 = 32;
const FRAME_HEAD: i64 = 24;

/// For locks that others hold; as each connection has it from the start.
const BUSY_TIMEOUT_MS: u32 = 5_000;

thread_local! {
    /// Pages in the WAL after the last commit of this thread's journal; SQLite's hook takes no state.
    static WAL_PAGES: Cell<i32> = const { Cell::new(0) };
}

/// See the module. Opens its connection when it claims the store.
pub struct SqliteJournal {
    path: PathBuf,
    lock: Arc<OwnerLock>,
    gate: Gate,
    connection: Option<Connection>,
    keys: KeyIndex,
    epoch: u64,
    /// When readers were last asked to let the log begin anew.
    restarted: Option<Instant>,
}

impl SqliteJournal {
    pub(in crate::store) fn new(path: &Path, lock: Arc<OwnerLock>, gate: Gate) -> Self {
        Self {
            path: path.to_owned(),
            lock,
            gate,
            connection: None,
            keys: KeyIndex::default(),
            epoch: 0,
            restarted: None,
        }
    }

    fn connection(&self) -> Result<&Connection, CommitError> {
        self.connection.as_ref().ok_or_else(not_open)
    }

    /// After an error of housekeeping: a connection whose transaction hangs is not used again.
    fn lost(&mut self, error: rusqlite::Error) -> CommitError {
        if self.connection.as_ref().is_some_and(|connection| !connection.is_autocommit()) {
            self.connection = None;
        }
        unknown(error)
    }

    /// Writes back what the WAL holds, as far as readers allow.
    fn checkpoint(&self, mode: &str) -> Result<(), CommitError> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        self.connection()?.query_row(&sql, [], |_| Ok(())).map_err(unknown)
    }

    /// The same, after waiting a moment for those who read; if they read on, the rest stays.
    fn checkpoint_after_readers(&self, mode: &str) -> Result<(), CommitError> {
        let patience = |ms: u32| {
            self.connection()?.busy_timeout(Duration::from_millis(ms.into())).map_err(unknown)
        };
        patience(READERS_WAIT_MS)?;
        let done = self.checkpoint(mode);
        patience(BUSY_TIMEOUT_MS)?;
        done
    }

    /// Keeps the WAL bounded, after a commit.
    fn bound_log(&mut self) -> Result<(), CommitError> {
        let pages = WAL_PAGES.get();
        let may_ask = self.restarted.is_none_or(|at| at.elapsed() > RESTART_AGAIN);
        if pages >= RESTART_PAGES && may_ask {
            self.restarted = Some(Instant::now());
            self.checkpoint_after_readers("RESTART")
        } else if pages >= CHECKPOINT_PAGES {
            self.checkpoint("PASSIVE")
        } else {
            Ok(())
        }
    }
}

impl JournalStore for SqliteJournal {
    fn claim(&mut self) -> Result<JournalState, CommitError> {
        let gate = self.gate.clone();
        let _turn = gate.hold();
        let mut connection = open(&self.path)?;
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(unknown)?;
        transaction.execute(statements::CLAIM, []).map_err(unknown)?;
        let state = state(&transaction)?;
        transaction.commit().map_err(unknown)?;
        self.keys = sqlite_keys::load(&connection)?;
        self.connection = Some(connection);
        self.epoch = state.epoch;
        gate.set_epoch(state.epoch);
        Ok(state)
    }

    fn known(
        &mut self,
        keys: &[EventKey],
        forget: Millis,
    ) -> Result<Vec<Option<KnownEvent>>, CommitError> {
        sqlite_keys::known(self.connection()?, &self.keys, keys, forget).map_err(unknown)
    }

    fn forget(&mut self, before: Millis) -> Result<u64, CommitError> {
        let gate = self.gate.clone();
        let _turn = gate.hold();
        let connection = self.connection.as_ref().ok_or_else(not_open)?;
        let forgotten = sqlite_keys::forget(connection, &mut self.keys, before);
        forgotten.map_err(|error| self.lost(error))
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), CommitError> {
        super::check_text(commit)?;
        let gate = self.gate.clone();
        let _turn = gate.hold();
        let result = write_and_commit(self.connection()?, self.epoch, commit);
        if matches!(result, Err(CommitError::Unknown(_) | CommitError::Stale { .. })) {
            // What its page cache holds is not to be trusted any more.
            self.connection = None;
        }
        result?;
        self.keys.add(commit);
        if let Some(sealed) = self.keys.seal(encode::int(commit.batch)) {
            // The commit itself stands: its keys are in a block, and sealing is tried again.
            match sqlite_keys::seal(self.connection()?, &sealed) {
                Ok(()) => self.keys.sealed(sealed.segment),
                Err(error) => {
                    tracing::warn!(%error, "keys of deduplication could not be sealed yet");
                    self.keys.not_sealed();
                    self.lost(error);
                }
            }
        }
        // The commit itself stands, whatever becomes of the checkpoint.
        if let Err(error) = self.bound_log() {
            tracing::warn!(%error, "the write-ahead log could not be written back");
        }
        Ok(())
    }

    fn tidy(&mut self) -> Result<(), CommitError> {
        let gate = self.gate.clone();
        let _turn = gate.hold();
        // By the file: others than the journal write to the log, too.
        let bytes = std::fs::metadata(crate::store::wal_path(&self.path)).map_or(0, |f| f.len());
        if bytes > 0 { self.checkpoint_after_readers("TRUNCATE") } else { Ok(()) }
    }

    fn reopen(&mut self) -> Result<JournalState, CommitError> {
        let gate = self.gate.clone();
        let _turn = gate.hold();
        self.connection = None;
        let connection = open(&self.path)?;
        settle_log(&connection, &self.path)?;
        let state = state(&connection)?;
        if state.epoch != self.epoch {
            return Err(CommitError::Stale { ours: self.epoch });
        }
        self.keys = sqlite_keys::load(&connection)?;
        self.connection = Some(connection);
        Ok(state)
    }

    fn release(&mut self) -> Result<(), CommitError> {
        let gate = self.gate.clone();
        let _turn = gate.hold();
        let epoch = encode::int(self.epoch);
        let released = self.connection()?.execute(statements::RELEASE, [epoch]).map_err(unknown)?;
        if released == 0 {
            return Err(CommitError::Stale { ours: self.epoch });
        }
        self.checkpoint("TRUNCATE")?;
        self.connection = None;
        self.lock.give_up();
        Ok(())
    }
}

/// Creates the file if need be, with what can only be chosen then.
pub(in crate::store) fn create(path: &Path) -> Result<(), CommitError> {
    let connection = Connection::open(path).map_err(unknown)?;
    // Both only take effect before the first table and before WAL.
    connection.pragma_update(None, "page_size", 4096).map_err(unknown)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(unknown)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).map_err(unknown)?;
    check_pragma(&connection, "auto_vacuum", "2")
}

/// Opens the file once and looks whether it is what the store needs.
pub(in crate::store) fn check(path: &Path) -> Result<(), CommitError> {
    open(path).map(drop)
}

fn open(path: &Path) -> Result<Connection, CommitError> {
    let connection = Connection::open(path).map_err(unknown)?;
    connection.set_prepared_statement_cache_capacity(64);
    for (name, value) in [
        // The pool may be in the middle of a rollback that nobody awaited.
        ("busy_timeout", "5000"),
        ("synchronous", "FULL"),
        ("foreign_keys", "ON"),
        ("temp_store", "MEMORY"),
        // What is deleted is overwritten wherever its page is written anyway.
        ("secure_delete", "FAST"),
        // In KiB when negative: the last leaves of every index, and rows that come back soon.
        ("cache_size", "-32768"),
        ("wal_autocheckpoint", "0"),
        // The file is cut back to this when the log begins anew.
        ("journal_size_limit", "41943040"),
    ] {
        connection
            .pragma_update_and_check(None, name, value, |_| Ok(()))
            .optional()
            .map_err(unknown)?;
    }
    for (name, expected) in super::super::SQLITE_PRAGMAS {
        check_pragma(&connection, name, expected)?;
    }
    // After `wal_autocheckpoint`, which is a hook too.
    connection.wal_hook(Some(|_, pages| {
        WAL_PAGES.set(pages);
        Ok(())
    }));
    Ok(connection)
}

/// Moves all of the write-ahead log into the database, and empties it. After a sync that failed nobody
/// knows what of the log is on disk, though the cache shows it whole: what this writes and syncs anew
/// may be trusted.
fn settle_log(connection: &Connection, path: &Path) -> Result<(), CommitError> {
    let wait = |ms| connection.busy_timeout(Duration::from_millis(u64::from(ms))).map_err(unknown);
    wait(READERS_WAIT_MS)?;
    let busy: bool = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(unknown)?;
    wait(BUSY_TIMEOUT_MS)?;
    // Somebody reads from it, perhaps for long: a backup.
    if busy { rewrite_log(connection, path) } else { Ok(()) }
}

/// Writes the log over itself, under its readers: each byte stays what it is, and is synced anew, for the
/// commit that failed may have torn the page in which the one before ends. What follows that, and might
/// be taken for a commit after a crash, is cut off.
fn rewrite_log(connection: &Connection, path: &Path) -> Result<(), CommitError> {
    let number = |pragma: &str, column| {
        connection.query_row(pragma, [], |row| row.get::<_, i64>(column)).map_err(unknown)
    };
    let page = number("PRAGMA page_size", 0)?;
    // Those that count. We have the turn to write: there will be no more.
    let frames = number("PRAGMA wal_checkpoint(NOOP)", 1)?;
    let length = LOG_HEAD + encode::unsigned(frames * (FRAME_HEAD + page));
    connection.execute_batch("BEGIN IMMEDIATE").map_err(unknown)?;
    let rewritten = rewrite(&crate::store::wal_path(path), length);
    connection.execute_batch("ROLLBACK").map_err(unknown)?;
    rewritten.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => CommitError::Full,
        _ => CommitError::Unknown(format!("the write-ahead log could not be rewritten: {error}")),
    })
}

fn rewrite(path: &Path, length: u64) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut bytes = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let part = bytes.len().min(usize::try_from(length - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut bytes[..part], at)?;
        file.write_all_at(&bytes[..part], at)?;
        at += part as u64;
    }
    file.set_len(length)?;
    file.sync_all()
}

fn check_pragma(connection: &Connection, name: &str, expected: &str) -> Result<(), CommitError> {
    let found: String = connection
        .pragma_query_value(None, name, |row| {
            row.get_ref(0).map(|value| match value {
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                other => other.as_str().unwrap_or("?").to_owned(),
            })
        })
        .map_err(unknown)?;
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(CommitError::Unknown(format!("SQLite's {name} is {found}, not {expected}")))
}

fn state(connection: &Connection) -> Result<JournalState, CommitError> {
    connection
        .query_row(statements::STATE, [], |row| {
            Ok(JournalState {
                epoch: encode::unsigned(row.get(0)?),
                batch: encode::unsigned(row.get(1)?),
                seq: Seq(encode::unsigned(row.get(2)?)),
                run: encode::unsigned(row.get(3)?),
                watermark: Seq(encode::unsigned(row.get(4)?)),
                accepted_at: Millis(row.get(5)?),
                unclean_stops: encode::small(row.get(6)?),
                event_bytes: encode::unsigned(row.get(7)?),
                run_bytes: encode::unsigned(row.get(8)?),
            })
        })
        .map_err(unknown)
}

fn write_and_commit(
    connection: &Connection,
    epoch: u64,
    commit: &Commit,
) -> Result<(), CommitError> {
    let written = Rows { connection, at: commit.at }.write(epoch, commit);
    let failed_at_commit = match written {
        Ok(()) => match connection.prepare_cached("COMMIT").and_then(|mut sql| sql.execute([])) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        },
        Err(error) => return Err(roll_back(connection, error)),
    };
    // Only a full disk says for certain that the commit record was not written.
    Err(match classify(&failed_at_commit) {
        CommitError::Full => roll_back(connection, CommitError::Full),
        _ => unknown(failed_at_commit),
    })
}

/// Ends the transaction. An error that leaves it open makes the outcome unknown.
fn roll_back(connection: &Connection, cause: CommitError) -> CommitError {
    // Some errors roll back by themselves.
    if connection.is_autocommit() {
        return cause;
    }
    match connection.execute_batch("ROLLBACK") {
        Ok(()) => cause,
        Err(error) => CommitError::Unknown(format!("{cause}; and the rollback failed: {error}")),
    }
}

/// What a failing statement means. Nothing was written in any case but `Unknown`.
fn classify(error: &rusqlite::Error) -> CommitError {
    match error {
        rusqlite::Error::SqliteFailure(code, _) => match code.code {
            ErrorCode::DiskFull => CommitError::Full,
            ErrorCode::ConstraintViolation
            | ErrorCode::TooBig
            | ErrorCode::TypeMismatch
            | ErrorCode::ParameterOutOfRange => CommitError::Statement(error.to_string()),
            _ => CommitError::Unknown(error.to_string()),
        },
        rusqlite::Error::ToSqlConversionFailure(_) => CommitError::Statement(error.to_string()),
        _ => CommitError::Unknown(error.to_string()),
    }
}

fn not_open() -> CommitError {
    CommitError::Unknown("the store is not open".into())
}

fn unknown(error: rusqlite::Error) -> CommitError {
    match classify(&error) {
        CommitError::Full => CommitError::Full,
        _ => CommitError::Unknown(error.to_string()),
    }
}

/// The rows of one commit, a table at a time.
struct Rows<'a> {
    connection: &'a Connection,
    at: Millis,
}

impl Rows<'_> {
    fn write(&self, epoch: u64, commit: &Commit) -> Result<(), CommitError> {
        self.run("BEGIN IMMEDIATE", [])?;
        self.advance(epoch, commit)?;
        for mark in &commit.marks {
            let (upto, bytes) = (encode::int(mark.upto), encode::int(mark.bytes));
            self.run(statements::SIZE_MARK, params![mark.of.kind(), upto, bytes])?;
        }
        for change in &commit.changes {
            self.change(change)?;
        }
        self.events(&commit.events)?;
        if let Some(keys) = keys::block(commit) {
            self.run(statements::KEY_BLOCK, params![encode::int(commit.batch), keys])?;
        }
        self.outcomes(commit)?;
        for (run, emitted) in &commit.runs {
            self.kept_run(run, emitted)?;
            if let Some(recording) = &run.recording {
                self.run(statements::RECORDING, params![encode::int(run.id.number()), recording])?;
            }
        }
        for row in &commit.rows {
            self.delivery(row)?;
        }
        for id in &commit.rows_done {
            self.run("DELETE FROM deliveries WHERE id = ?1", [id.0.as_bytes()])?;
        }
        for emit in &commit.scheduled {
            self.scheduled(emit)?;
        }
        for id in &commit.scheduled_done {
            self.run("DELETE FROM scheduled WHERE id = ?1", [id.0.as_bytes()])?;
        }
        for (id, cursor) in &commit.cursors {
            let cursor = cursor.map(|seq| encode::int(seq.0));
            self.run(statements::CURSOR, params![id.0.as_bytes(), cursor])?;
        }
        self.keys(&commit.kv)?;
        for id in &commit.letters_replayed {
            self.run(statements::LETTER_REPLAYED, [id.0.as_bytes()])?;
        }
        // Last, for a commit may change a subscription and then delete it. Its deliveries are settled
        // by requests of their own.
        for change in &commit.changes {
            if let SubscriptionChange::Delete { id, .. } = change {
                self.delete_subscription(*id)?;
            }
        }
        Ok(())
    }

    fn run(&self, sql: &str, params: impl Params) -> Result<usize, CommitError> {
        let mut statement =
            self.connection.prepare_cached(sql).map_err(|error| classify(&error))?;
        statement.execute(params).map_err(|error| classify(&error))
    }

    fn advance(&self, epoch: u64, commit: &Commit) -> Result<(), CommitError> {
        let moved = self.run(
            statements::ADVANCE,
            params![
                encode::int(commit.batch),
                encode::int(commit.seq.0),
                encode::int(commit.run),
                encode::int(commit.watermark.0),
                commit.accepted_at.0,
                commit.recovered,
                encode::int(commit.event_bytes),
                encode::int(commit.run_bytes),
                encode::int(epoch),
            ],
        )?;
        if moved == 1 {
            return Ok(());
        }
        Err(super::out_of_step(&state(self.connection)?, epoch, commit))
    }

    fn events(&self, events: &[Arc<Event>]) -> Result<(), CommitError> {
        if events.is_empty() {
            return Ok(());
        }
        let mut insert =
            self.connection.prepare_cached(statements::EVENT).map_err(|error| classify(&error))?;
        for event in events {
            let envelope = &event.envelope;
            let row = params![
                encode::int(event.seq.0),
                event.uid.0.as_bytes(),
                envelope.id.as_deref(),
                &*envelope.source,
                &*envelope.event_type,
                envelope.subject.as_deref(),
                envelope.time.as_deref(),
                envelope.datacontenttype.as_deref(),
                envelope.dataschema.as_deref(),
                envelope.extensions.as_deref(),
                encode::encoding(envelope.encoding),
                &*event.data,
                event.accepted_at.0,
                event.lineage.cause.map(|cause| cause.event.0.into_bytes()),
                event.lineage.cause.map(|cause| cause.subscription.0.into_bytes()),
                event.lineage.hop,
                encode::int(event.lineage.spread),
                encode::checksum(event),
            ];
            insert.execute(row).map_err(|error| classify(&error))?;
        }
        Ok(())
    }

    fn outcomes(&self, commit: &Commit) -> Result<(), CommitError> {
        let Some(block) = &commit.block else { return Ok(()) };
        let batch = encode::int(commit.batch);
        self.run(
            statements::BLOCK,
            params![
                batch,
                self.at.0,
                block.count,
                block.bytes,
                encode::int(commit.seq.0),
                encode::int(commit.watermark.0),
            ],
        )?;
        for late in &commit.late {
            self.run(
                statements::LATE,
                params![
                    late.subscription.0.as_bytes(),
                    encode::int(late.max_seq.0),
                    batch,
                    encode::int(late.min_seq.0),
                ],
            )?;
        }
        Ok(())
    }

    fn kept_run(&self, run: &RunLog, emitted: &[EventId]) -> Result<(), CommitError> {
        let error = run.error.as_ref();
        self.run(
            statements::RUN,
            params![
                encode::int(run.id.number()),
                run.id.0.as_bytes(),
                run.event.0.as_bytes(),
                encode::int(run.seq.0),
                run.subscription.0.as_bytes(),
                run.script.0.as_bytes(),
                run.script_version,
                run.attempt,
                run.replay,
                error.is_some(),
                error.map(|error| error.kind.as_str()),
                error.map(|error| encode::clean(&error.message)),
                error.and_then(|error| error.stack.as_deref()).map(encode::clean),
                run.result.as_deref().map(encode::clean),
                encode::list(&run.logs),
                encode::list(&run.warnings),
                run.started_at.0,
                encode::micros(run.duration),
                encode::micros(run.cpu),
                encode::micros(run.queued),
                encode::uids(emitted),
            ],
        )?;
        Ok(())
    }

    fn delivery(&self, row: &DeliveryRow) -> Result<(), CommitError> {
        let error = row.error.as_ref();
        self.run(
            statements::DELIVERY,
            params![
                row.id.0.as_bytes(),
                row.event.0.as_bytes(),
                encode::int(row.seq.0),
                row.subscription.0.as_bytes(),
                row.status.as_str(),
                row.attempts,
                row.next_at.0,
                error.map(|error| error.kind.as_str()),
                error.map(|error| encode::clean(&error.message)),
                error.and_then(|error| error.stack.as_deref()).map(encode::clean),
                row.first_failed_at.map(|at| at.0),
                row.script_version,
                row.letter.map(|letter| letter.0.into_bytes()),
                row.replay,
                row.data.as_deref(),
                row.pinned_version,
                row.crashes_alone,
                row.bulk.map(|bulk| bulk.0.into_bytes()),
            ],
        )?;
        Ok(())
    }

    fn scheduled(&self, emit: &Scheduled) -> Result<(), CommitError> {
        let envelope = &emit.event.envelope;
        let lineage = &emit.event.lineage;
        self.run(
            statements::SCHEDULED,
            params![
                emit.id.0.as_bytes(),
                emit.due_at.0,
                emit.created_at.0,
                envelope.id.as_deref(),
                &*envelope.source,
                &*envelope.event_type,
                envelope.subject.as_deref(),
                envelope.time.as_deref(),
                envelope.datacontenttype.as_deref(),
                envelope.dataschema.as_deref(),
                envelope.extensions.as_deref(),
                encode::encoding(envelope.encoding),
                &*emit.event.data,
                lineage.cause.map(|cause| cause.event.0.into_bytes()),
                lineage.cause.map(|cause| cause.subscription.0.into_bytes()),
                lineage.hop,
                encode::int(lineage.spread),
            ],
        )?;
        Ok(())
    }

    fn keys(&self, changes: &[kv::Change]) -> Result<(), CommitError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut before = HashMap::new();
        for change in changes {
            let at = (change.namespace.to_string(), change.key.clone());
            let mut size = self
                .connection
                .prepare_cached(statements::KV_SIZE)
                .map_err(|error| classify(&error))?;
            let found = size.query_row(params![at.0, at.1], |row| row.get(0)).optional();
            if let Some(bytes) = found.map_err(|error| classify(&error))? {
                before.insert(at, bytes);
            }
        }
        for kv::Change { namespace, key, value } in changes {
            let namespace = namespace.to_string();
            match value {
                Some(Stored { value, expires_at }) => {
                    let until = expires_at.map(|at| at.0);
                    let row = params![namespace, key, &**value, until, self.at.0];
                    self.run(statements::KV_SET, row)?;
                }
                None => {
                    self.run(statements::KV_REMOVE, params![namespace, key])?;
                }
            }
        }
        for (namespace, grown) in super::growth(changes, &before) {
            self.run(statements::KV_SPACE, params![namespace, grown.keys, grown.bytes])?;
        }
        Ok(())
    }

    fn change(&self, change: &SubscriptionChange) -> Result<(), CommitError> {
        match change {
            SubscriptionChange::Create { id, name, definition, paused, from, cursor, at } => {
                let text = super::DefinitionText::of(definition);
                self.run(
                    statements::SUBSCRIPTION_CREATE,
                    params![
                        id.0.as_bytes(),
                        name,
                        definition.script.0.as_bytes(),
                        definition.script_version,
                        definition.event_type.as_str(),
                        definition.filter,
                        definition.is_active,
                        text.retry_policy,
                        definition.concurrency,
                        encode::ordering(definition.ordering),
                        definition.ordering_key,
                        encode::on_dead(definition.on_dead),
                        text.limits,
                        encode::int(from.0),
                        paused,
                        cursor.map(|seq| encode::int(seq.0)),
                        at.0,
                    ],
                )?;
                self.definition(*id, definition, *from, &text)
            }
            SubscriptionChange::Update { id, name, definition, from, at } => {
                let text = super::DefinitionText::of(definition);
                let changed = self.run(
                    statements::SUBSCRIPTION_UPDATE,
                    params![
                        id.0.as_bytes(),
                        name,
                        definition.script.0.as_bytes(),
                        definition.script_version,
                        definition.event_type.as_str(),
                        definition.filter,
                        definition.is_active,
                        text.retry_policy,
                        definition.concurrency,
                        encode::ordering(definition.ordering),
                        definition.ordering_key,
                        encode::on_dead(definition.on_dead),
                        text.limits,
                        encode::int(from.0),
                        at.0,
                    ],
                )?;
                super::must_exist(*id, changed as u64)?;
                self.definition(*id, definition, *from, &text)
            }
            SubscriptionChange::State { id, paused, suspended, at } => {
                let suspended = suspended.as_deref().map(encode::clean);
                let row = params![id.0.as_bytes(), paused, suspended, at.0];
                super::must_exist(*id, self.run(statements::SUBSCRIPTION_STATE, row)? as u64)
            }
            SubscriptionChange::Delete { .. } => Ok(()),
        }
    }

    fn definition(
        &self,
        id: SubscriptionId,
        definition: &Definition,
        from: Seq,
        text: &super::DefinitionText,
    ) -> Result<(), CommitError> {
        let script = definition.script.0.as_bytes();
        let row = params![id.0.as_bytes(), encode::int(from.0), script, text.whole];
        self.run(statements::DEFINITION, row).map(drop)
    }

    fn delete_subscription(&self, id: SubscriptionId) -> Result<(), CommitError> {
        let deleted = self.run("DELETE FROM subscriptions WHERE id = ?1", [id.0.as_bytes()])?;
        super::must_exist(id, deleted as u64)
    }
}
