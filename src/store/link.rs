//! The database as the repositories see it: on PostgreSQL every question has a time limit.
//!
//! A host that dies, or a network that is cut, leaves connections that look alive for a quarter of
//! an hour, or for ever. Whoever waits for one holds up everybody else: an actor that reads, or a
//! transaction that has the gate's turn.

use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    ExecResult, QueryResult, Statement, TransactionOptions, TransactionTrait,
};

/// Longer than any question of a repository takes, also on a large store.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection, a pool of them, or a transaction. Cheap to clone if that is.
#[derive(Clone)]
pub struct Link<C> {
    inner: C,
}

impl<C: ConnectionTrait> Link<C> {
    pub(super) const fn new(inner: C) -> Self {
        Self { inner }
    }

    async fn answered<T>(
        &self,
        question: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DbErr> {
        answered(self.inner.get_database_backend(), question).await
    }
}

/// SQLite answers or fails by itself: its disk is this machine's.
async fn answered<T>(
    backend: DbBackend,
    question: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, DbErr> {
    if backend != DbBackend::Postgres {
        return question.await;
    }
    let silent = || DbErr::ConnectionAcquire(ConnAcquireErr::Timeout);
    tokio::time::timeout(ANSWER_TIMEOUT, question).await.unwrap_or_else(|_| Err(silent()))
}

impl<C> Link<C> {
    /// For work that may take its time, and that no request waits for.
    pub(super) const fn patient(&self) -> &C {
        &self.inner
    }
}

impl Link<DatabaseConnection> {
    pub(super) async fn begin(
        &self,
        options: TransactionOptions,
    ) -> Result<Link<DatabaseTransaction>, DbErr> {
        self.answered(self.inner.begin_with_options(options)).await.map(Link::new)
    }
}

impl Link<DatabaseTransaction> {
    pub(super) async fn commit(self) -> Result<(), DbErr> {
        answered(self.inner.get_database_backend(), self.inner.commit()).await
    }

    pub(super) async fn rollback(self) -> Result<(), DbErr> {
        answered(self.inner.get_database_backend(), self.inner.rollback()).await
    }
}

#[async_trait]
impl<C: ConnectionTrait> ConnectionTrait for Link<C> {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.answered(self.inner.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.answered(self.inner.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.answered(self.inner.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.answered(self.inner.query_all_raw(statement)).await
    }

    fn support_returning(&self) -> bool {
        self.inner.support_returning()
    }
}
