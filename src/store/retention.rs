//! Retention: what is old goes, in slices small enough that the journal never waits for long.
//!
//! Keys of deduplication are the journal's own (`journal::keys`), and so is forgetting them.

use std::sync::atomic::{AtomicI64, Ordering};

use entity::{
    audit, bulk_operations, dead_letters, events, outcome_blocks, outcome_late, recordings, runs,
    sessions, subscriptions,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Statement, sea_query::Expr,
};

use super::{BulkState, Error, LetterStatus, Store, encode};
use crate::domain::{Millis, Seq};

/// See [`Store::retention`].
pub struct Retention<'a>(pub(super) &'a Store);

/// What is old enough to go. `None` keeps for ever.
#[derive(Clone, Debug, Default)]
pub struct RetentionPlan {
    pub events_before: Option<Millis>,
    pub runs_before: Option<Millis>,
    pub letters_before: Option<Millis>,
    pub audit_before: Option<Millis>,
    /// Events above it are not settled.
    pub watermark: Seq,
}

/// Where the current pass over the events stands: those that letters hold are not looked at again
/// in each slice. Starts over when a pass has found its end.
#[derive(Default)]
pub(super) struct Position(AtomicI64);

/// Pages given back to the file system at once.
const VACUUM_PAGES: u32 = 256;
/// Free pages that are left alone: new rows take them.
const FREE_PAGES_KEPT: i64 = 2_048;

impl Retention<'_> {
    /// One slice of at most `limit` rows, in one transaction. Returns how many rows went: 0 when
    /// nothing is left to remove.
    ///
    /// An event stays while a delivery of it waits, a `dead` letter holds it, a subscription has
    /// still to read it, or it is above the watermark.
    pub async fn step(&self, plan: &RetentionPlan, limit: u64) -> Result<u64, Error> {
        let mut removed = self.events(plan, limit).await?;
        for old in [self.runs(plan, limit).await?, self.letters(plan, limit).await?] {
            removed += old;
        }
        if removed == 0 {
            removed = self.small_things(plan).await?;
        }
        self.give_back().await?;
        Ok(removed)
    }

    async fn events(&self, plan: &RetentionPlan, limit: u64) -> Result<u64, Error> {
        let Some(before) = plan.events_before else { return Ok(0) };
        let bound = self.bound(before, plan.watermark).await?;
        let after = self.0.retained.0.load(Ordering::Relaxed);
        // Found outside the gate: what may go now may go in a moment, too, since only events that
        // are settled below the watermark are among them, and the letters are asked again below.
        let old: Vec<i64> = events::Entity::find()
            .select_only()
            .column(events::Column::Seq)
            .filter(events::Column::Seq.gt(after))
            .filter(events::Column::Seq.lt(encode::int(bound.0)))
            .filter(Expr::cust(UNHELD))
            .order_by_asc(events::Column::Seq)
            .limit(limit)
            .into_tuple()
            .all(&self.0.connection)
            .await?;
        let Some(&last) = old.last() else {
            self.0.retained.0.store(0, Ordering::Relaxed);
            return self.blocks(bound, limit).await;
        };
        let write = self.0.write().await?;
        let mut removed = 0;
        for part in old.chunks(super::events::IDS) {
            removed += events::Entity::delete_many()
                .filter(events::Column::Seq.is_in(part.iter().copied()))
                .filter(Expr::cust(UNHELD))
                .exec(&*write)
                .await?
                .rows_affected;
        }
        write.commit().await?;
        self.0.retained.0.store(last, Ordering::Relaxed);
        Ok(removed)
    }

    /// The first seq that must stay: accepted since, not settled, or not read by everyone.
    async fn bound(&self, before: Millis, watermark: Seq) -> Result<Seq, Error> {
        let cursor: Option<Option<i64>> = subscriptions::Entity::find()
            .select_only()
            .column_as(subscriptions::Column::Cursor.min(), "cursor")
            .into_tuple()
            .one(&self.0.connection)
            .await?;
        let cursor = cursor.flatten().map_or(u64::MAX, encode::unsigned);
        let young = self.0.events().at_or_after(before).await?;
        Ok(young.min(watermark.next()).min(Seq(cursor)))
    }

    /// Outcomes of events that are all gone, but for those that a letter holds: the letter tells.
    async fn blocks(&self, bound: Seq, limit: u64) -> Result<u64, Error> {
        let old: Vec<i64> = outcome_blocks::Entity::find()
            .select_only()
            .column(outcome_blocks::Column::Batch)
            .filter(outcome_blocks::Column::TopSeq.lt(encode::int(bound.0)))
            .order_by_asc(outcome_blocks::Column::TopSeq)
            .limit(limit.min(super::events::IDS as u64))
            .into_tuple()
            .all(&self.0.connection)
            .await?;
        if old.is_empty() {
            return Ok(0);
        }
        let write = self.0.write().await?;
        outcome_late::Entity::delete_many()
            .filter(outcome_late::Column::Batch.is_in(old.iter().copied()))
            .exec(&*write)
            .await?;
        let removed = outcome_blocks::Entity::delete_many()
            .filter(outcome_blocks::Column::Batch.is_in(old))
            .exec(&*write)
            .await?;
        write.commit().await?;
        Ok(removed.rows_affected)
    }

    async fn runs(&self, plan: &RetentionPlan, limit: u64) -> Result<u64, Error> {
        let Some(before) = plan.runs_before else { return Ok(0) };
        // Numbers grow with time, but for runs that overlap: the oldest slice, up to the first that
        // is young. Nothing is scanned beyond it.
        let oldest: Vec<(i64, i64)> = runs::Entity::find()
            .select_only()
            .columns([runs::Column::Number, runs::Column::StartedAt])
            .order_by_asc(runs::Column::Number)
            .limit(limit)
            .into_tuple()
            .all(&self.0.connection)
            .await?;
        let Some((last, _)) = oldest.into_iter().take_while(|(_, at)| *at < before.0).last() else {
            return Ok(0);
        };
        let write = self.0.write().await?;
        recordings::Entity::delete_many()
            .filter(recordings::Column::Number.lte(last))
            .exec(&*write)
            .await?;
        let removed = runs::Entity::delete_many()
            .filter(runs::Column::Number.lte(last))
            .exec(&*write)
            .await?;
        write.commit().await?;
        Ok(removed.rows_affected)
    }

    async fn letters(&self, plan: &RetentionPlan, limit: u64) -> Result<u64, Error> {
        use dead_letters::{Column, Entity};
        let Some(before) = plan.letters_before else { return Ok(0) };
        let old: Vec<uuid::Uuid> = Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::DiedAt.lt(before.0))
            .filter(Column::Status.ne(LetterStatus::Replaying.as_str()))
            .order_by_asc(Column::DiedAt)
            .limit(limit.min(super::events::IDS as u64))
            .into_tuple()
            .all(&self.0.connection)
            .await?;
        if old.is_empty() {
            return Ok(0);
        }
        let write = self.0.write().await?;
        let removed = Entity::delete_many()
            .filter(Column::Id.is_in(old))
            .filter(Column::Status.ne(LetterStatus::Replaying.as_str()))
            .exec(&*write)
            .await?;
        write.commit().await?;
        Ok(removed.rows_affected)
    }

    /// What is few: audit, ended operations and sessions, and definitions that were over long ago.
    async fn small_things(&self, plan: &RetentionPlan) -> Result<u64, Error> {
        let mut removed = 0;
        let write = self.0.write().await?;
        if let Some(before) = plan.audit_before {
            let ended = bulk_operations::Column::State.ne(BulkState::Running.as_str());
            removed += audit::Entity::delete_many()
                .filter(audit::Column::At.lt(before.0))
                .exec(&*write)
                .await?
                .rows_affected;
            removed += bulk_operations::Entity::delete_many()
                .filter(bulk_operations::Column::FinishedAt.lt(before.0))
                .filter(ended)
                .exec(&*write)
                .await?
                .rows_affected;
        }
        removed += sessions::Entity::delete_many()
            .filter(sessions::Column::ExpiresAt.lt(Millis::now().0))
            .exec(&*write)
            .await?
            .rows_affected;
        write.commit().await?;
        let needed = self.bound(Millis(i64::MAX), plan.watermark).await?;
        removed += self.0.subscriptions().prune_definitions(needed).await?;
        Ok(removed)
    }

    /// Hands free pages back to the file system, a few at a time. PostgreSQL has its autovacuum.
    async fn give_back(&self) -> Result<(), Error> {
        let connection = &self.0.connection;
        if connection.get_database_backend() != DbBackend::Sqlite {
            return Ok(());
        }
        let sql = Statement::from_string(DbBackend::Sqlite, "PRAGMA freelist_count");
        let free: i64 = match connection.query_one_raw(sql).await? {
            Some(row) => row.try_get_by_index(0)?,
            None => 0,
        };
        if free > FREE_PAGES_KEPT {
            let _turn = self.0.gate.turn().await;
            connection
                .execute_unprepared(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))
                .await?;
        }
        Ok(())
    }
}

/// Nothing needs the event any more: no delivery waits, no letter may be replayed.
const UNHELD: &str = "NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.seq = events.seq) \
     AND NOT EXISTS (SELECT 1 FROM dead_letters WHERE dead_letters.seq = events.seq \
     AND dead_letters.status IN ('dead', 'replaying'))";
