//! Erasure: payloads go, and a tombstone stays wherever one was kept.

use std::{path::Path, time::Duration};

use entity::{dead_letters, deliveries, events, recordings, runs};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Statement,
    sea_query::{Expr, SimpleExpr},
};

use super::{Error, LetterStatus, Store, encode, events::IDS};
use crate::domain::{DataEncoding, Event, EventId, Millis, Seq, alert};

/// What stands where an error's message was.
const GONE: &str = "erased";
/// Pages given back to the file system at once.
const VACUUM_PAGES: u32 = 1_024;
/// Tries to empty the write-ahead log while others read: for half a minute.
const TRIES: u32 = 60;
/// How long one try holds the journal up, and how long it has until the next one.
const READERS_LEFT: Duration = Duration::from_millis(50);
const READERS_WAIT: Duration = Duration::from_millis(450);

/// What one slice took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    pub events: u64,
    pub runs: u64,
    pub letters: u64,
}

impl Store {
    /// Events of a subject up to `upto` whose payload is stored, oldest first, at most `limit`.
    pub async fn events_of_subject(
        &self,
        subject: &str,
        upto: Seq,
        limit: u64,
    ) -> Result<Vec<(Seq, EventId)>, Error> {
        let found: Vec<(i64, uuid::Uuid)> = events::Entity::find()
            .select_only()
            .columns([events::Column::Seq, events::Column::Uid])
            .filter(events::Column::Subject.eq(subject))
            .filter(events::Column::Seq.lte(encode::int(upto.0)))
            .order_by_asc(events::Column::Seq)
            .limit(limit)
            .into_tuple()
            .all(self.connection.patient())
            .await?;
        let pair = |(seq, uid)| (Seq(encode::unsigned(seq)), EventId(uid));
        Ok(found.into_iter().map(pair).collect())
    }

    /// Alerts that tell of these events' deaths: they quote the errors.
    pub async fn alerts_on(&self, uids: &[EventId]) -> Result<Vec<Seq>, Error> {
        let found: Vec<i64> = events::Entity::find()
            .select_only()
            .column(events::Column::Seq)
            .filter(events::Column::CauseEvent.is_in(uids.iter().map(|uid| uid.0)))
            .filter(events::Column::Source.eq(alert::SOURCE))
            .into_tuple()
            .all(&self.connection)
            .await?;
        Ok(found.into_iter().map(|seq| Seq(encode::unsigned(seq))).collect())
    }

    /// Erases the payloads of these events, and all that was made of them, in one transaction. `now`: by
    /// the wall clock, for people; `steady`: by the clock of what waits.
    pub async fn erase(&self, seqs: &[Seq], now: Millis, steady: Millis) -> Result<Erased, Error> {
        let numbers: Vec<i64> = seqs.iter().map(|seq| encode::int(seq.0)).collect();
        // Outside the gate, for runs have no index by event: nothing new is kept of erased events.
        let kept: Vec<i64> = runs::Entity::find()
            .select_only()
            .column(runs::Column::Number)
            .filter(runs::Column::Seq.is_in(numbers.iter().copied()))
            .into_tuple()
            .all(self.connection.patient())
            .await?;
        let found = events::Entity::find()
            .filter(events::Column::Seq.is_in(numbers.iter().copied()))
            .filter(events::Column::ErasedAt.is_null())
            .all(&self.connection)
            .await?;
        let write = self.write().await?;
        if write.get_database_backend() == DbBackend::Sqlite {
            // Of this connection, and only while it erases: freed pages are overwritten, too.
            write.execute_unprepared("PRAGMA secure_delete = ON").await?;
        }
        let mut erased = Erased { events: found.len() as u64, ..Erased::default() };
        for model in found {
            erase_event(&*write, model, now).await?;
        }
        for part in kept.chunks(IDS) {
            recordings::Entity::delete_many()
                .filter(recordings::Column::Number.is_in(part.iter().copied()))
                .exec(&*write)
                .await?;
            erased.runs += erase_runs(&*write, part).await?;
        }
        erase_rows(&*write, &numbers, steady).await?;
        erased.letters = erase_letters(&*write, &numbers, now).await?;
        if write.get_database_backend() == DbBackend::Sqlite {
            write.execute_unprepared("PRAGMA secure_delete = FAST").await?;
        }
        write.commit().await?;
        Ok(erased)
    }

    /// Takes what was freed out of the files: free pages go, and the write-ahead log is emptied.
    /// False when somebody reads the log for so long that it cannot be: it is overwritten later. And on
    /// PostgreSQL, whose own log and free space go their own ways.
    pub async fn sweep(&self) -> Result<bool, Error> {
        let connection = &self.connection;
        if connection.get_database_backend() != DbBackend::Sqlite {
            let tables = "VACUUM events, runs, recordings, deliveries, dead_letters";
            connection.patient().execute_unprepared(tables).await?;
            return Ok(false);
        }
        while self.one("PRAGMA freelist_count").await? > 0 {
            let _turn = self.gate.turn().await;
            let sql = format!("PRAGMA incremental_vacuum({VACUUM_PAGES})");
            connection.execute_unprepared(&sql).await?;
        }
        let Some(path) = &self.path else { return Ok(false) };
        for _ in 0..TRIES {
            let path = path.clone();
            let turn = self.gate.turn().await;
            let emptied = tokio::task::spawn_blocking(move || empty_log(&path)).await;
            drop(turn);
            match emptied {
                Ok(Ok(true)) => return Ok(true),
                // Somebody reads: the journal has its turns meanwhile.
                Ok(Ok(false)) => tokio::time::sleep(READERS_WAIT).await,
                Ok(Err(error)) => return Err(Error::Refused(error.to_string())),
                Err(error) => return Err(Error::Refused(error.to_string())),
            }
        }
        Ok(false)
    }

    async fn one(&self, sql: &str) -> Result<i64, Error> {
        let sql = Statement::from_string(self.connection.get_database_backend(), sql);
        let row = self.connection.query_one_raw(sql).await?;
        row.map_or(Ok(0), |row| Ok(i64::from(row.try_get_by_index::<i32>(0)?)))
    }
}

/// Writes the log back and cuts it to nothing; false while somebody reads it. On a connection of its own:
/// those of the pool wait for readers for seconds, and the journal would wait behind them.
fn empty_log(path: &Path) -> rusqlite::Result<bool> {
    let connection = rusqlite::Connection::open(path)?;
    connection.busy_timeout(READERS_LEFT)?;
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map(|busy: bool| !busy)
}

async fn erase_event(
    write: &impl ConnectionTrait,
    model: events::Model,
    now: Millis,
) -> Result<(), Error> {
    use events::Column;
    let seq = model.seq;
    let mut event = Event::from(model);
    event.data = bytes::Bytes::from_static(b"null");
    (event.envelope.subject, event.envelope.extensions) = (None, None);
    event.envelope.encoding = DataEncoding::Erased(now);
    events::Entity::update_many()
        .col_expr(Column::Data, Expr::val(b"null".to_vec()))
        .col_expr(Column::Subject, no_text())
        .col_expr(Column::Extensions, no_text())
        .col_expr(Column::Encoding, Expr::val(encode::ERASED))
        .col_expr(Column::ErasedAt, Expr::val(now.0))
        .col_expr(Column::Checksum, Expr::val(encode::checksum(&event)))
        .filter(Column::Seq.eq(seq))
        .exec(write)
        .await?;
    Ok(())
}

async fn erase_runs(write: &impl ConnectionTrait, numbers: &[i64]) -> Result<u64, Error> {
    use runs::Column;
    let done = runs::Entity::update_many()
        .col_expr(Column::Result, no_text())
        .col_expr(Column::Logs, no_text())
        .col_expr(Column::Warnings, no_text())
        .col_expr(Column::ErrorStack, no_text())
        .col_expr(Column::ErrorMessage, gone("error_message"))
        .filter(Column::Number.is_in(numbers.iter().copied()))
        .exec(write)
        .await?;
    Ok(done.rows_affected)
}

/// What waits is due at once: whoever hands it over ends it.
async fn erase_rows(write: &impl ConnectionTrait, seqs: &[i64], now: Millis) -> Result<(), Error> {
    use deliveries::Column;
    deliveries::Entity::update_many()
        .col_expr(Column::Data, no_text())
        .col_expr(Column::ErrorStack, no_text())
        .col_expr(Column::ErrorMessage, gone("error_message"))
        .col_expr(Column::NextAt, Expr::val(now.0))
        .filter(Column::Seq.is_in(seqs.iter().copied()))
        .exec(write)
        .await?;
    Ok(())
}

/// A letter under replay ends with its delivery.
async fn erase_letters(
    write: &impl ConnectionTrait,
    seqs: &[i64],
    now: Millis,
) -> Result<u64, Error> {
    use dead_letters::{Column, Entity};
    let done = Entity::update_many()
        .col_expr(Column::Data, no_text())
        .col_expr(Column::ErrorStack, no_text())
        .col_expr(Column::ErrorMessage, Expr::val(GONE))
        .filter(Column::Seq.is_in(seqs.iter().copied()))
        .exec(write)
        .await?;
    Entity::update_many()
        .col_expr(Column::Status, Expr::val(LetterStatus::Discarded.as_str()))
        .col_expr(Column::DiscardedAt, Expr::val(now.0))
        .filter(Column::Seq.is_in(seqs.iter().copied()))
        .filter(Column::Status.eq(LetterStatus::Replaying.as_str()))
        .exec(write)
        .await?;
    Ok(done.rows_affected)
}

fn no_text() -> SimpleExpr {
    Expr::val(Option::<String>::None)
}

/// A tombstone where there was a text, and nothing where there was none.
fn gone(column: &str) -> SimpleExpr {
    Expr::cust(format!("CASE WHEN {column} IS NULL THEN NULL ELSE '{GONE}' END"))
}
