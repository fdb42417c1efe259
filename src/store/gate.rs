//! The write gate: one writer at a time in this process, and only while it owns the store.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, SqliteTransactionMode,
    Statement, TransactionOptions,
};
use tokio::sync::{Mutex, MutexGuard, OwnedMutexGuard};

use super::{Error, link::Link};

/// Passed by every write: the journal's commits and the repositories' transactions.
///
/// SQLite has one writer anyway; waiting here is fair and cheap, waiting there is a poll with a
/// time limit. Cheap to clone.
#[derive(Clone, Default)]
pub struct Gate {
    turn: Arc<Mutex<()>>,
    /// Our owner epoch; 0 until the journal has claimed the store.
    epoch: Arc<AtomicU64>,
}

impl Gate {
    /// Waits for the turn. Blocks the thread, so only the journal's own thread may.
    pub(super) fn hold(&self) -> MutexGuard<'_, ()> {
        self.turn.blocking_lock()
    }

    pub(super) fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Waits for the turn, for what cannot run inside a transaction.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Begins a transaction that may write, once its turn has come.
    ///
    /// # Errors
    /// [`Error::Stale`] when another process owns the store by now.
    pub(super) async fn begin(
        &self,
        connection: &Link<DatabaseConnection>,
    ) -> Result<Write, Error> {
        let turn = self.turn().await;
        // A read that turns into a write would fail if anything was committed in between.
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let transaction = connection.begin(options).await?;
        let write = Write { open: Some((transaction, turn)) };
        let ours = self.epoch.load(Ordering::Acquire);
        if ours != 0 && super::encode::unsigned(write.epoch().await?) != ours {
            return Err(Error::Stale { ours });
        }
        Ok(write)
    }
}

/// A transaction that holds the turn. Dropped without [`Write::commit`], it rolls back, and the
/// turn goes on only then: whoever is next would find the store locked.
pub struct Write {
    /// Taken when it ends.
    open: Option<(Link<DatabaseTransaction>, OwnedMutexGuard<()>)>,
}

impl Write {
    pub async fn commit(mut self) -> Result<(), Error> {
        let (transaction, _turn) = self.open.take().expect("open until it ends");
        Ok(transaction.commit().await?)
    }

    async fn epoch(&self) -> Result<i64, Error> {
        let backend = self.get_database_backend();
        let sql = match backend {
            // Holds a new owner's claim back until this transaction has ended.
            DbBackend::Postgres => "SELECT epoch FROM journal_state WHERE id = 1 FOR SHARE",
            _ => "SELECT epoch FROM journal_state WHERE id = 1",
        };
        let row = self.query_one_raw(Statement::from_string(backend, sql)).await?;
        row.ok_or_else(|| Error::damaged("journal_state row", 1))?
            .try_get_by_index(0)
            .map_err(Error::from)
    }
}

impl std::ops::Deref for Write {
    type Target = Link<DatabaseTransaction>;
    fn deref(&self) -> &Link<DatabaseTransaction> {
        &self.open.as_ref().expect("open until it ends").0
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        let Some((transaction, turn)) = self.open.take() else { return };
        // Outside of a runtime the pool rolls back on its own when the connection is used again.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = transaction.rollback().await {
                    tracing::warn!(%error, "a transaction ended without its rollback");
                }
                drop(turn);
            });
        }
    }
}
