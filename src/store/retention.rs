//! Retention: what is old or beyond its room goes, in slices small enough that the journal never waits for long.
//!
//! Keys of deduplication are the journal's own (`journal::keys`), and so is forgetting them.

use std::sync::atomic::{AtomicI64, Ordering};

use entity::{
    audit, audit_size, bulk_operations, dead_letters, events, letter_counts, outcome_blocks,
    outcome_late, recordings, runs, sessions, size_marks, subscriptions,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, Statement, sea_query::Expr,
};

use super::{BulkState, Error, LetterStatus, Store, Write, encode, journal::SizeOf};
use crate::domain::{Millis, Seq};

/// See [`Store::retention`].
pub struct Retention<'a>(pub(super) &'a Store);

/// What may go: what is older, and what is beyond the room that its kind has. `None` keeps for ever.
#[derive(Clone, Debug, Default)]
pub struct RetentionPlan {
    pub events_before: Option<Millis>,
    pub runs_before: Option<Millis>,
    pub letters_before: Option<Millis>,
    pub audit_before: Option<Millis>,
    pub events_bytes: Option<u64>,
    pub runs_bytes: Option<u64>,
    /// Of letters that were replayed or discarded: one that is `dead` never goes for its size.
    pub letters_bytes: Option<u64>,
    pub audit_bytes: Option<u64>,
    /// Events above it are not settled.
    pub watermark: Seq,
}

/// Bytes of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub events: u64,
    /// With their recordings.
    pub runs: u64,
    pub dead_letters: u64,
    pub audit: u64,
}

/// Where the current pass over the events stands: those that letters hold are not looked at again
/// in each slice. Starts over when a pass has found its end.
#[derive(Default)]
pub(super) struct Position(AtomicI64);

/// Pages given back to the file system at once: the journal waits for it.
const VACUUM_PAGES: i64 = 512;
/// Free pages that are left alone, for new rows take them: a share of those in use, within bounds.
const FREE_SHARE: i64 = 16;
const FREE_PAGES_LEAST: i64 = 64;
const FREE_PAGES_MOST: i64 = 2_048;

impl Retention<'_> {
    /// One slice of at most `limit` rows, in one transaction. Returns how many rows went: 0 when
    /// nothing is left to remove.
    ///
    /// An event stays while a delivery of it waits, a `dead` letter holds it, a subscription has
    /// still to read it, or it is above the watermark.
    pub async fn step(&self, plan: &RetentionPlan, limit: u64) -> Result<u64, Error> {
        let mut removed = self.events(plan, limit).await?;
        for old in [
            self.runs(plan, limit).await?,
            self.letters(plan, limit).await?,
            self.ended_letters(plan, limit).await?,
            self.oldest_audit(plan, limit).await?,
        ] {
            removed += old;
        }
        if removed == 0 {
            removed = self.small_things(plan).await?;
        }
        self.give_back().await?;
        Ok(removed)
    }

    async fn events(&self, plan: &RetentionPlan, limit: u64) -> Result<u64, Error> {
        let bound = self.bound(plan).await?;
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
        retain_from(&write, last + 1).await?;
        write.commit().await?;
        self.0.retained.0.store(last, Ordering::Relaxed);
        Ok(removed)
    }

    /// The first seq that must stay: young enough and within its room, not settled, or not read by
    /// everyone.
    async fn bound(&self, plan: &RetentionPlan) -> Result<Seq, Error> {
        let young = match plan.events_before {
            Some(before) => self.0.events().at_or_after(before).await?,
            None => Seq(0),
        };
        let beyond = self.beyond(SizeOf::Events, plan.events_bytes).await?;
        Ok(young.max(Seq(beyond).next()).min(self.needed(plan.watermark).await?))
    }

    /// The first seq that somebody has still to read or to settle.
    async fn needed(&self, watermark: Seq) -> Result<Seq, Error> {
        let cursor: Option<Option<i64>> = subscriptions::Entity::find()
            .select_only()
            .column_as(subscriptions::Column::Cursor.min(), "cursor")
            .into_tuple()
            .one(&self.0.connection)
            .await?;
        let cursor = cursor.flatten().map_or(u64::MAX, encode::unsigned);
        Ok(watermark.next().min(Seq(cursor)))
    }

    /// The last position that is beyond the room; 0: all is within.
    async fn beyond(&self, of: SizeOf, room: Option<u64>) -> Result<u64, Error> {
        let Some(room) = room else { return Ok(0) };
        let state = self.0.state().await?;
        let ever = match of {
            SizeOf::Events => state.event_bytes,
            SizeOf::Runs => state.run_bytes,
        };
        let Some(over) = ever.checked_sub(room).filter(|over| *over > 0) else { return Ok(0) };
        let mark: Option<i64> = size_marks::Entity::find()
            .select_only()
            .column(size_marks::Column::Upto)
            // Where what has gone was enough, nothing more goes.
            .filter(size_marks::Column::Kind.is_in([of.kind(), of.gone()]))
            .filter(size_marks::Column::Bytes.gte(encode::int(over)))
            .order_by_asc(size_marks::Column::Upto)
            .limit(1)
            .into_tuple()
            .one(&self.0.connection)
            .await?;
        Ok(mark.map_or(0, encode::unsigned))
    }

    /// When the oldest event was accepted that this plan keeps, but for those that letters hold.
    pub async fn kept_since(&self, plan: &RetentionPlan) -> Result<Millis, Error> {
        let bound = self.bound(plan).await?;
        let first = events::Entity::find()
            .select_only()
            .column(events::Column::AcceptedAt)
            .filter(events::Column::Seq.gte(encode::int(bound.0)))
            .order_by_asc(events::Column::Seq)
            .limit(1)
            .into_tuple::<i64>()
            .one(&self.0.connection)
            .await?;
        Ok(first.map_or_else(Millis::now, Millis))
    }

    /// Marks below a position are no longer needed but for the last, which says what has gone.
    async fn forget_marks(&self, of: SizeOf, below: i64) -> Result<(), Error> {
        use size_marks::{ActiveModel, Column, Entity};
        let kinds = [of.kind(), of.gone()];
        let last = Entity::find()
            .filter(Column::Kind.eq(of.kind()))
            .filter(Column::Upto.lt(below))
            .order_by_desc(Column::Upto)
            .one(&self.0.connection)
            .await?;
        let Some(last) = last else { return Ok(()) };
        let write = self.0.write().await?;
        Entity::delete_many()
            .filter(Column::Kind.is_in(kinds))
            .filter(Column::Upto.lte(last.upto))
            .exec(&*write)
            .await?;
        let gone =
            ActiveModel { kind: Set(of.gone()), upto: Set(last.upto), bytes: Set(last.bytes) };
        Entity::insert(gone).exec_without_returning(&*write).await?;
        write.commit().await
    }

    /// Bytes that are kept of each kind, to about a mebibyte, counted as things come and go.
    pub async fn kept(&self) -> Result<Kept, Error> {
        let state = self.0.state().await?;
        let gone = size_marks::Entity::find()
            .filter(size_marks::Column::Kind.is_in([SizeOf::Events.gone(), SizeOf::Runs.gone()]))
            .all(&self.0.connection)
            .await?;
        let left = |of: SizeOf, ever: u64| {
            let found = gone.iter().find(|mark| mark.kind == of.gone());
            ever.saturating_sub(found.map_or(0, |mark| encode::unsigned(mark.bytes)))
        };
        Ok(Kept {
            events: left(SizeOf::Events, state.event_bytes),
            runs: left(SizeOf::Runs, state.run_bytes),
            dead_letters: self.letter_bytes().await?,
            audit: self.audit_kept().await?.1,
        })
    }

    async fn letter_bytes(&self) -> Result<u64, Error> {
        let rows = letter_counts::Entity::find().all(&self.0.connection).await?;
        Ok(rows.into_iter().map(|row| encode::unsigned(row.bytes)).sum())
    }

    /// Lines and bytes.
    async fn audit_kept(&self) -> Result<(u64, u64), Error> {
        let row = audit_size::Entity::find_by_id(1).one(&self.0.connection).await?;
        Ok(row.map_or((0, 0), |row| (encode::unsigned(row.count), encode::unsigned(row.bytes))))
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
            self.forget_marks(SizeOf::Events, encode::int(bound.0)).await?;
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
        retain_from(&write, encode::int(bound.0)).await?;
        write.commit().await?;
        Ok(removed.rows_affected)
    }

    async fn runs(&self, plan: &RetentionPlan, limit: u64) -> Result<u64, Error> {
        let before = plan.runs_before.map_or(i64::MIN, |before| before.0);
        let beyond = encode::int(self.beyond(SizeOf::Runs, plan.runs_bytes).await?);
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
        let may_go = |(number, at): &(i64, i64)| *at < before || *number <= beyond;
        let Some((last, _)) = oldest.into_iter().take_while(may_go).last() else {
            self.forget_marks(SizeOf::Runs, beyond.saturating_add(1)).await?;
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

    /// The oldest that were replayed or discarded, while letters take more than their room.
    async fn ended_letters(&self, plan: &RetentionPlan, limit: u64) -> Result<u64, Error> {
        use dead_letters::{Column, Entity};
        let Some(room) = plan.letters_bytes else { return Ok(0) };
        let rows = letter_counts::Entity::find().all(&self.0.connection).await?;
        let sum = |field: fn(&letter_counts::Model) -> i64| -> u64 {
            rows.iter().map(|row| encode::unsigned(field(row))).sum()
        };
        let (count, bytes) = (sum(|row| row.count), sum(|row| row.bytes));
        let Some(over) = bytes.checked_sub(room).filter(|over| *over > 0) else { return Ok(0) };
        let wanted = over.div_ceil((bytes / count.max(1)).max(1));
        let limit = wanted.min(limit).min(super::events::IDS as u64);
        let mut ended: Vec<(i64, uuid::Uuid)> = Vec::new();
        for status in [LetterStatus::Replayed, LetterStatus::Discarded] {
            let oldest = Entity::find()
                .select_only()
                .columns([Column::DiedAt, Column::Id])
                .filter(Column::Status.eq(status.as_str()))
                .order_by_asc(Column::DiedAt)
                .order_by_asc(Column::Id)
                .limit(limit);
            ended.extend(oldest.into_tuple::<(i64, uuid::Uuid)>().all(&self.0.connection).await?);
        }
        ended.sort_unstable();
        ended.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        if ended.is_empty() {
            return Ok(0);
        }
        let write = self.0.write().await?;
        let removed = Entity::delete_many()
            .filter(Column::Id.is_in(ended.into_iter().map(|(_, id)| id)))
            .filter(
                Column::Status
                    .is_in([LetterStatus::Replayed.as_str(), LetterStatus::Discarded.as_str()]),
            )
            .exec(&*write)
            .await?;
        write.commit().await?;
        Ok(removed.rows_affected)
    }

    /// The oldest lines of the audit trail, while it takes more than its room.
    async fn oldest_audit(&self, plan: &RetentionPlan, limit: u64) -> Result<u64, Error> {
        let Some(room) = plan.audit_bytes else { return Ok(0) };
        let (count, bytes) = self.audit_kept().await?;
        let Some(over) = bytes.checked_sub(room).filter(|over| *over > 0) else { return Ok(0) };
        let wanted = over.div_ceil((bytes / count.max(1)).max(1));
        let oldest: Vec<uuid::Uuid> = audit::Entity::find()
            .select_only()
            .column(audit::Column::Id)
            .order_by_asc(audit::Column::At)
            .order_by_asc(audit::Column::Id)
            .limit(wanted.min(limit).min(super::events::IDS as u64))
            .into_tuple()
            .all(&self.0.connection)
            .await?;
        let write = self.0.write().await?;
        let removed = audit::Entity::delete_many()
            .filter(audit::Column::Id.is_in(oldest))
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
        let young = self.0.events().at_or_after(Millis(i64::MAX)).await?;
        let needed = young.min(self.needed(plan.watermark).await?);
        removed += self.0.subscriptions().prune_definitions(needed).await?;
        Ok(removed)
    }

    /// Hands free pages back to the file system, a few at a time; true while there are more to hand
    /// back. The file shrinks with the next checkpoint. PostgreSQL has its autovacuum.
    pub async fn give_back(&self) -> Result<bool, Error> {
        let connection = &self.0.connection;
        if connection.get_database_backend() != DbBackend::Sqlite {
            return Ok(false);
        }
        let sql = "SELECT freelist_count, page_count FROM pragma_freelist_count, pragma_page_count";
        let row = connection.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
        let row = row.ok_or_else(|| Error::Damaged("no answer to a count of pages".into()))?;
        let (free, pages): (i64, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let spare = free - ((pages - free) / FREE_SHARE).clamp(FREE_PAGES_LEAST, FREE_PAGES_MOST);
        if spare <= 0 {
            return Ok(false);
        }
        let _turn = self.0.gate.turn().await;
        let sql = format!("PRAGMA incremental_vacuum({})", spare.min(VACUUM_PAGES));
        connection.execute_unprepared(&sql).await?;
        Ok(spare > VACUUM_PAGES)
    }
}

/// From this seq on everything is stored; what is verified begins there.
async fn retain_from(write: &Write, seq: i64) -> Result<(), Error> {
    use entity::journal_state::{Column, Entity};
    Entity::update_many()
        .col_expr(Column::Retained, Expr::val(seq))
        .filter(Column::Retained.lt(seq))
        .exec(&**write)
        .await?;
    Ok(())
}

/// Nothing needs the event any more: no delivery waits, no letter may be replayed.
const UNHELD: &str = "NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.seq = events.seq) \
     AND NOT EXISTS (SELECT 1 FROM dead_letters WHERE dead_letters.seq = events.seq \
     AND dead_letters.status IN ('dead', 'replaying'))";
