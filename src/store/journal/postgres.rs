//! The journal on PostgreSQL: one connection, and one multi-row UNNEST statement a table.
//!
//! The trait blocks, the driver does not: the connection lives on a single-threaded runtime of its
//! own, which only turns while a call waits for it.

use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection, Row, postgres::PgConnectOptions};
use tokio::runtime::Runtime;

use super::{
    Commit, CommitError, EventKey, JournalState, JournalStore, KnownEvent,
    keys::KeyIndex,
    postgres_keys,
    postgres_rows::{self, classify, unknown},
    statements,
};
use crate::{
    domain::{Millis, Seq},
    store::{encode, gate::Gate},
};

/// How long a claim waits for the sessions of a dead owner: the server ends them once it notices.
const PATIENCE: Duration = Duration::from_secs(10);
/// A server that does not answer for this long is a lost connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The same for all that comes before the first question, [`PATIENCE`] included.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// A commit, or a look-up of its keys, that takes longer is one whose answer never comes: the network
/// may be cut, which the system itself notices after a quarter of an hour.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for reading all filters of the keys.
const LOAD_TIMEOUT: Duration = Duration::from_secs(600);

/// The owner's lock: one per schema of the database.
pub(in crate::store) const TRY_LOCK: &str =
    "SELECT pg_try_advisory_lock(1953655152, hashtext(current_schema()))";

/// See the module. Connects when it claims the store.
pub struct PostgresJournal {
    options: PgConnectOptions,
    gate: Gate,
    runtime: Runtime,
    connection: Option<PgConnection>,
    keys: KeyIndex,
    epoch: u64,
    /// The server's process behind the latest connection, and when that began.
    session: Option<(i32, String)>,
}

impl PostgresJournal {
    pub(in crate::store) fn new(options: PgConnectOptions, gate: Gate) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self {
            options,
            gate,
            runtime,
            connection: None,
            keys: KeyIndex::default(),
            epoch: 0,
            session: None,
        })
    }

    /// Runs `work` on the open connection, which is lost when the outcome is unknown.
    fn with<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection, &mut KeyIndex) -> Result<T, CommitError>,
    ) -> Result<T, CommitError> {
        self.within(ANSWER_TIMEOUT, work)
    }

    fn within<T>(
        &mut self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut PgConnection, &mut KeyIndex) -> Result<T, CommitError>,
    ) -> Result<T, CommitError> {
        let connection = self
            .connection
            .as_mut()
            .ok_or_else(|| CommitError::Unknown("the store is not open".into()))?;
        let result = self.runtime.block_on(async {
            let answered = tokio::time::timeout(limit, work(connection, &mut self.keys));
            let silent = |_| Err(CommitError::Unknown("PostgreSQL does not answer".into()));
            answered.await.unwrap_or_else(silent)
        });
        if matches!(result, Err(CommitError::Unknown(_) | CommitError::Stale { .. })) {
            self.connection = None;
        }
        result
    }

    fn open(&mut self) -> Result<PgConnection, CommitError> {
        let silent = |_| CommitError::Unknown("PostgreSQL does not answer".into());
        let (connection, session) = self.runtime.block_on(async {
            let connecting = PgConnection::connect_with(&self.options);
            let mut connection = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
                .await
                .map_err(silent)?
                .map_err(unknown)?;
            let ready = make_ready(&mut connection, self.session.as_ref());
            let session = tokio::time::timeout(READY_TIMEOUT, ready).await.map_err(silent)??;
            Ok((connection, session))
        })?;
        self.session = Some(session);
        Ok(connection)
    }
}

impl JournalStore for PostgresJournal {
    fn claim(&mut self) -> Result<JournalState, CommitError> {
        let gate = self.gate.clone();
        let _turn = gate.hold();
        self.connection = Some(self.open()?);
        let state = self.within(LOAD_TIMEOUT, async |connection, index| {
            let mut transaction = connection.begin().await.map_err(unknown)?;
            transaction.execute(statements::CLAIM).await.map_err(unknown)?;
            let state = state(&mut transaction).await?;
            transaction.commit().await.map_err(unknown)?;
            *index = postgres_keys::load(connection).await?;
            Ok(state)
        })?;
        self.epoch = state.epoch;
        gate.set_epoch(state.epoch);
        Ok(state)
    }

    fn known(
        &mut self,
        keys: &[EventKey],
        forget: Millis,
    ) -> Result<Vec<Option<KnownEvent>>, CommitError> {
        self.with(async |connection, index| {
            postgres_keys::known(connection, index, keys, forget).await
        })
    }

    fn forget(&mut self, before: Millis) -> Result<u64, CommitError> {
        let gate = self.gate.clone();
        let _turn = gate.hold();
        self.with(async |connection, index| postgres_keys::forget(connection, index, before).await)
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), CommitError> {
        super::check_text(commit)?;
        let gate = self.gate.clone();
        let _turn = gate.hold();
        let epoch = self.epoch;
        self.with(async |connection, index| {
            let mut transaction = connection.begin().await.map_err(unknown)?;
            match write(&mut transaction, epoch, commit).await {
                Ok(()) => transaction.commit().await.map_err(unknown)?,
                Err(cause) => {
                    return Err(match transaction.rollback().await {
                        Ok(()) => cause,
                        Err(error) => CommitError::Unknown(format!("{cause}; and then {error}")),
                    });
                }
            }
            index.add(commit);
            Ok(())
        })?;
        let Some(sealed) = self.keys.seal(encode::int(commit.batch)) else { return Ok(()) };
        // The commit itself stands: its keys are in a block, and sealing is tried again.
        match self.with(async |connection, _| postgres_keys::seal(connection, &sealed).await) {
            Ok(()) => self.keys.sealed(sealed.segment),
            Err(error) => {
                tracing::warn!(%error, "keys of deduplication could not be sealed yet");
                self.keys.not_sealed();
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<JournalState, CommitError> {
        let gate = self.gate.clone();
        let _turn = gate.hold();
        self.connection = None;
        self.connection = Some(self.open()?);
        let epoch = self.epoch;
        self.within(LOAD_TIMEOUT, async |connection, index| {
            let state = state(connection).await?;
            if state.epoch != epoch {
                return Err(CommitError::Stale { ours: epoch });
            }
            *index = postgres_keys::load(connection).await?;
            Ok(state)
        })
    }

    fn release(&mut self) -> Result<(), CommitError> {
        let gate = self.gate.clone();
        let _turn = gate.hold();
        let epoch = self.epoch;
        self.with(async |connection, _| {
            let released = sqlx::query(statements::RELEASE)
                .bind(encode::int(epoch))
                .execute(connection)
                .await
                .map_err(unknown)?;
            match released.rows_affected() {
                0 => Err(CommitError::Stale { ours: epoch }),
                _ => Ok(()),
            }
        })?;
        if let Some(connection) = self.connection.take() {
            // Ends the session, and with it the lock, before this returns.
            self.runtime.block_on(connection.close()).map_err(unknown)?;
        }
        Ok(())
    }
}

/// Makes a new connection the owner's; `old` is the session of the one before, which may look alive
/// to the server although we gave it up. Answers its own session.
async fn make_ready(
    connection: &mut PgConnection,
    old: Option<&(i32, String)>,
) -> Result<(i32, String), CommitError> {
    // Of a client that is gone without a word the server learns within half a minute, not hours.
    const PROBE: &str = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; \
         SET tcp_keepalives_count = 3";
    const OWN: &str = "SELECT pid, backend_start::text FROM pg_stat_activity \
         WHERE pid = pg_backend_pid()";
    const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE pid = $1 AND backend_start::text = $2";
    check_durability(connection).await?;
    sqlx::raw_sql(PROBE).execute(&mut *connection).await.map_err(unknown)?;
    if let Some((pid, began)) = old {
        sqlx::query(END).bind(pid).bind(began).execute(&mut *connection).await.map_err(unknown)?;
    }
    lock(connection).await?;
    sqlx::query_as(OWN).fetch_one(connection).await.map_err(unknown)
}

/// Refuses a server that acknowledges before its disk has it.
///
/// `local` waits for our server's disk and not for its replicas', which is all we promise.
pub(in crate::store) async fn check_durability(
    connection: &mut PgConnection,
) -> Result<(), CommitError> {
    for name in ["synchronous_commit", "fsync", "full_page_writes"] {
        let value: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(name)
            .fetch_one(&mut *connection)
            .await
            .map_err(unknown)?;
        if value == "off" {
            return Err(CommitError::Unknown(format!(
                "PostgreSQL's {name} is off: what it acknowledges may be lost"
            )));
        }
    }
    Ok(())
}

/// Takes the owner's lock, which lives as long as the session.
pub(in crate::store) async fn lock(connection: &mut PgConnection) -> Result<(), CommitError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let locked: bool =
            sqlx::query_scalar(TRY_LOCK).fetch_one(&mut *connection).await.map_err(unknown)?;
        if locked {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(CommitError::Unknown(
                "the database is in use by another process: one store has one server".into(),
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn state(connection: &mut PgConnection) -> Result<JournalState, CommitError> {
    let row = sqlx::query(statements::STATE).fetch_one(connection).await.map_err(unknown)?;
    let number = |index: usize| row.try_get::<i64, _>(index).map_err(unknown);
    Ok(JournalState {
        epoch: encode::unsigned(number(0)?),
        batch: encode::unsigned(number(1)?),
        seq: Seq(encode::unsigned(number(2)?)),
        run: encode::unsigned(number(3)?),
        watermark: Seq(encode::unsigned(number(4)?)),
        accepted_at: Millis(number(5)?),
        unclean_stops: encode::small(number(6)?),
        event_bytes: encode::unsigned(number(7)?),
        run_bytes: encode::unsigned(number(8)?),
    })
}

async fn write(
    connection: &mut PgConnection,
    epoch: u64,
    commit: &Commit,
) -> Result<(), CommitError> {
    let moved = sqlx::query(statements::ADVANCE)
        .bind(encode::int(commit.batch))
        .bind(encode::int(commit.seq.0))
        .bind(encode::int(commit.run))
        .bind(encode::int(commit.watermark.0))
        .bind(commit.accepted_at.0)
        .bind(commit.recovered)
        .bind(encode::int(commit.event_bytes))
        .bind(encode::int(commit.run_bytes))
        .bind(encode::int(epoch))
        .execute(&mut *connection)
        .await
        .map_err(|error| classify(&error))?;
    if moved.rows_affected() != 1 {
        return Err(super::out_of_step(&state(connection).await?, epoch, commit));
    }
    postgres_rows::write(connection, commit).await
}
