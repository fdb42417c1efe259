//! A database of its own for each test, and short ways to say what is in a commit.

use std::{future::Future, path::Path, sync::Arc, thread::JoinHandle, time::Duration};

use crate::support::postgres_url;
use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tripline::{
    domain::{
        Definition, DeliveryId, Envelope, Event, EventId, Kind, Language, Lineage, Millis,
        NewEvent, OnDead, Ordering, RetryPolicy, RunId, RunLog, Script, ScriptId, Seq,
        SubscriptionId, TypePattern,
        block::{self, BlockEntry, Outcome},
    },
    store::{
        NewScript, Store,
        journal::{
            BlockRow, Commit, CommitError, DeliveryRow, EventKey, JournalState, JournalStore,
            RowStatus, SizeMark, SizeOf, SubscriptionChange,
        },
    },
};

/// Runs every named test once on each database. A test is a function of one [`Db`].
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $test() { super::$test($crate::store::support::Db::sqlite()); })*
        }
        mod postgres {
            $(#[test] fn $test() {
                if let Some(db) = $crate::store::support::Db::postgres() { super::$test(db); }
            })*
        }
    };
}
pub(crate) use on_both;

/// An empty database that goes away with the test.
pub(crate) struct Db {
    pub(crate) url: String,
    runtime: Driven,
    /// The folder of the SQLite file.
    _folder: Option<TempDir>,
    /// `(url of the server, schema)` on PostgreSQL.
    schema: Option<(String, String)>,
}

/// A runtime that a thread of its own drives: what is spawned goes on while nobody waits, as in a
/// server.
struct Driven {
    handle: Handle,
    /// Dropped to stop.
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Driven {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _closed_when_dropped = runtime.block_on(stopped);
        });
        Self { handle, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _its_panic_was_printed = thread.join();
        }
    }
}

impl Db {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        Self { url, runtime: Driven::start(), _folder: Some(folder), schema: None }
    }

    /// A schema of its own in the PostgreSQL that tests may fill, if there is one.
    pub(crate) fn postgres() -> Option<Self> {
        let server = postgres_url()?.to_owned();
        let runtime = Driven::start();
        let schema = format!("t_{}", uuid::Uuid::now_v7().simple());
        runtime.handle.block_on(async {
            let mut connection = PgConnection::connect(&server).await.unwrap();
            let sql = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
            connection.execute(sql).await.unwrap();
        });
        let separator = if server.contains('?') { '&' } else { '?' };
        let url = format!("{server}{separator}options=-c%20search_path%3D{schema}");
        Some(Self { url, runtime, _folder: None, schema: Some((server, schema)) })
    }

    /// Another empty database of the same kind.
    pub(crate) fn another(&self) -> Self {
        if self.is_sqlite() { Self::sqlite() } else { Self::postgres().expect("as for this one") }
    }

    /// One that somebody else made, and takes away.
    pub(crate) fn at(url: &str) -> Self {
        Self { url: url.to_owned(), runtime: Driven::start(), _folder: None, schema: None }
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.file().is_some()
    }

    /// Where SQLite has it.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.url.strip_prefix("sqlite://").map(Path::new)
    }

    /// Waits for asynchronous work; the journal's blocking calls stay outside.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.handle.block_on(work)
    }

    pub(crate) fn open(&self) -> Store {
        self.wait(Store::open(&self.url)).unwrap()
    }

    /// Opens the store and claims it.
    pub(crate) fn claim(&self) -> Owner {
        let store = self.open();
        let mut journal = store.journal();
        let state = journal.claim().unwrap();
        Owner { store, journal, state }
    }

    /// Runs a statement behind the store's back.
    pub(crate) fn tamper(&self, sql: &str) {
        match self.file() {
            Some(file) => rusqlite::Connection::open(file).unwrap().execute_batch(sql).unwrap(),
            None => self.wait(async {
                let mut connection = PgConnection::connect(&self.url).await.unwrap();
                connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
            }),
        }
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Some((server, schema)) = &self.schema {
            let dropped = self.runtime.handle.block_on(async {
                let mut connection = PgConnection::connect(server).await?;
                let sql = format!("DROP SCHEMA {schema} CASCADE");
                connection.execute(sqlx::AssertSqlSafe(sql)).await
            });
            if let Err(error) = dropped {
                eprintln!("the schema {schema} stays behind: {error}");
            }
        }
    }
}

/// A store with its journal, and where the journal stands.
pub(crate) struct Owner {
    pub(crate) store: Store,
    pub(crate) journal: Box<dyn JournalStore>,
    pub(crate) state: JournalState,
}

impl Owner {
    /// The next commit, empty.
    pub(crate) fn next(&self) -> Commit {
        Commit {
            batch: self.state.batch + 1,
            at: Millis(1_790_000_000_000),
            seq: self.state.seq,
            run: self.state.run,
            watermark: self.state.watermark,
            accepted_at: self.state.accepted_at,
            event_bytes: self.state.event_bytes,
            run_bytes: self.state.run_bytes,
            ..Commit::default()
        }
    }

    /// The next commit with these events, numbered on.
    pub(crate) fn with_events(&self, events: impl IntoIterator<Item = NewEvent>) -> Commit {
        let mut commit = self.next();
        for new in events {
            commit.seq = commit.seq.next();
            commit.accepted_at = Millis(1_790_000_000_000 + i64::try_from(commit.seq.0).unwrap());
            if let Some(key) = EventKey::of(&new) {
                commit.keys.push((key, commit.events.len()));
            }
            commit.events.push(Arc::new(Event {
                seq: commit.seq,
                uid: EventId::numbered(commit.accepted_at, commit.seq, commit.seq.0 * 7_919),
                accepted_at: commit.accepted_at,
                envelope: new.envelope,
                data: new.data,
                lineage: new.lineage,
            }));
        }
        commit.event_bytes += commit.events.iter().map(|event| event.weight() as u64).sum::<u64>();
        let (upto, bytes) = (commit.seq.0, commit.event_bytes);
        commit.marks.push(SizeMark { of: SizeOf::Events, upto, bytes });
        commit
    }

    pub(crate) fn try_commit(&mut self, commit: &Commit) -> Result<(), CommitError> {
        self.journal.commit(commit)?;
        self.state.batch = commit.batch;
        self.state.seq = commit.seq;
        self.state.run = commit.run;
        self.state.watermark = commit.watermark;
        self.state.accepted_at = commit.accepted_at;
        self.state.event_bytes = commit.event_bytes;
        self.state.run_bytes = commit.run_bytes;
        Ok(())
    }

    /// Commits runs with the events each emitted.
    pub(crate) fn commit_runs(&mut self, runs: Vec<(RunLog, Vec<EventId>)>) {
        let mut commit = self.next();
        commit.run += runs.len() as u64;
        commit.runs = runs.into_iter().map(|(run, emitted)| (Arc::new(run), emitted)).collect();
        self.commit(&commit);
    }

    #[track_caller]
    pub(crate) fn commit(&mut self, commit: &Commit) {
        self.try_commit(commit).unwrap();
    }
}

pub(crate) fn event(event_type: &str, id: Option<&str>, data: &str) -> NewEvent {
    NewEvent {
        envelope: Envelope {
            id: id.map(Into::into),
            source: "/tests".into(),
            event_type: event_type.into(),
            subject: None,
            time: None,
            datacontenttype: None,
            dataschema: None,
            extensions: None,
            encoding: Default::default(),
        },
        data: data.to_owned().into(),
        lineage: Lineage::default(),
    }
}

pub(crate) fn definition(script: ScriptId, event_type: &str) -> Definition {
    Definition {
        script,
        script_version: None,
        event_type: TypePattern::parse(event_type).unwrap(),
        filter: Some("$.amount > 100".into()),
        is_active: true,
        retry_policy: RetryPolicy::default(),
        concurrency: 1,
        ordering: Ordering::Relaxed,
        ordering_key: None,
        on_dead: OnDead::Suspend,
        limits: Default::default(),
    }
}

/// Creates a subscription from `from` on.
pub(crate) fn create(
    name: &str,
    event_type: &str,
    script: ScriptId,
    from: u64,
) -> (SubscriptionId, SubscriptionChange) {
    let id = SubscriptionId::fresh();
    let change = SubscriptionChange::Create {
        id,
        name: name.into(),
        definition: definition(script, event_type),
        paused: false,
        from: Seq(from),
        cursor: None,
        at: Millis(1),
    };
    (id, change)
}

pub(crate) fn script(db: &Db, store: &Store, name: &str) -> Script {
    let new = NewScript {
        name: name.into(),
        description: None,
        language: Language::Typescript,
        source: "export default () => 1".into(),
        secrets: Vec::new(),
        fetch_allow: Vec::new(),
        kind: Kind::Script,
        imports: Vec::new(),
        note: None,
        by: Some("tests".into()),
    };
    db.wait(store.scripts().create(new)).unwrap()
}

pub(crate) fn delivery(
    event: &Event,
    subscription: SubscriptionId,
    status: RowStatus,
    next_at: i64,
) -> DeliveryRow {
    DeliveryRow {
        id: DeliveryId::of(event.uid, subscription),
        event: event.uid,
        seq: event.seq,
        subscription,
        status,
        attempts: 1,
        next_at: Millis(next_at),
        error: None,
        first_failed_at: Some(Millis(1_790_000_000_000)),
        script_version: 1,
        letter: None,
        replay: 0,
        data: None,
        pinned_version: None,
        crashes_alone: 0,
        bulk: None,
    }
}

pub(crate) fn run(
    number: u64,
    event: &Event,
    subscription: SubscriptionId,
    script: ScriptId,
) -> RunLog {
    RunLog {
        id: RunId::numbered(Millis(1_790_000_000_000), number, 99),
        event: event.uid,
        seq: event.seq,
        subscription,
        script,
        script_version: 2,
        attempt: 1,
        replay: 0,
        error: None,
        result: Some("{\"ok\":true}".into()),
        logs: Vec::new(),
        warnings: Vec::new(),
        started_at: Millis(1_790_000_000_000 + i64::try_from(number).unwrap()),
        duration: Duration::from_micros(412),
        cpu: Duration::from_micros(390),
        queued: Duration::from_micros(33),
        emitted: Vec::new(),
        recording: None,
    }
}

/// A settled attempt.
pub(crate) fn entry(
    seq: u64,
    subscription: SubscriptionId,
    outcome: Outcome,
    run: Option<u64>,
) -> BlockEntry {
    BlockEntry {
        seq: Seq(seq),
        subscription,
        outcome,
        script_version: 1,
        attempt: 1,
        replay: 0,
        duration_us: 400,
        run,
    }
}

/// The commit with these outcomes, and the watermark it leaves.
pub(crate) fn with_block(mut commit: Commit, entries: &[BlockEntry], watermark: u64) -> Commit {
    let count = u32::try_from(entries.len()).unwrap();
    commit.block = Some(BlockRow { count, bytes: block::encode(entries) });
    commit.watermark = Seq(watermark);
    commit
}
