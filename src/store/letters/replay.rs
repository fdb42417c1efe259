//! Letters leave: replayed, discarded, and restored.

use entity::{
    dead_letters::{Column, Entity, Model},
    deliveries, subscriptions,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, ExprTrait},
};
use uuid::Uuid;

use super::{LetterStatus, Letters};
use crate::{
    domain::{BulkId, DeliveryId, EventId, LetterId, Millis, Seq, SubscriptionId},
    store::{
        Error, Write, bulk, encode,
        journal::{DeliveryRow, RowStatus},
    },
};

impl Letters<'_> {
    /// `dead` becomes `replaying`, and its delivery gets a row with fresh attempts, in one
    /// transaction. `data` replaces the payload from now on, `version` pins the script's version.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the letter, its subscription or its event; [`Error::NotDead`].
    pub async fn start_replay(
        &self,
        id: LetterId,
        data: Option<&str>,
        version: Option<u32>,
    ) -> Result<DeliveryRow, Error> {
        let write = self.0.write().await?;
        let letter = dead(&write, id, LetterStatus::Dead).await?;
        let (seq, subscription) = (letter.seq, letter.subscription);
        if subscriptions::Entity::find_by_id(subscription).one(&*write).await?.is_none() {
            return Err(Error::not_found("subscription", subscription));
        }
        match entity::events::Entity::find_by_id(seq).one(&*write).await? {
            None => return Err(Error::not_found("event", letter.event)),
            Some(event) if event.erased_at.is_some() => {
                return Err(Error::Erased { event: letter.event.to_string() });
            }
            Some(_) => {}
        }
        let mut row = pending(&letter, Millis::steady());
        row.pinned_version = version;
        if let Some(data) = data {
            row.data = Some(data.to_owned());
        }
        let set = Entity::update_many()
            .col_expr(Column::Status, Expr::val(LetterStatus::Replaying.as_str()))
            .col_expr(Column::Data, Expr::val(row.data.clone()))
            .col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
            .filter(Column::Id.eq(id.0));
        set.exec(&*write).await?;
        deliveries::Entity::insert(insert(&row)).exec_without_returning(&*write).await?;
        write.commit().await?;
        Ok(row)
    }

    /// Replays many for a bulk operation, with the script's version of their last attempt if
    /// `pinned_original`. Passes over those that are no longer `dead` or cannot be replayed, for
    /// their subscription is gone; these are not offered to this operation again. All of them count
    /// as taken by it.
    pub async fn start_replays(
        &self,
        ids: &[LetterId],
        pinned_original: bool,
        bulk: BulkId,
    ) -> Result<Vec<DeliveryRow>, Error> {
        let write = self.0.write().await?;
        let now = Millis::steady();
        let letters = Entity::find()
            .filter(Column::Id.is_in(ids.iter().map(|id| id.0)))
            .filter(Column::Status.eq(LetterStatus::Dead.as_str()))
            .all(&*write)
            .await?;
        let alive: Vec<Uuid> = subscriptions::Entity::find()
            .select_only()
            .column(subscriptions::Column::Id)
            .filter(
                subscriptions::Column::Id.is_in(letters.iter().map(|letter| letter.subscription)),
            )
            .into_tuple()
            .all(&*write)
            .await?;
        let erased: Vec<i64> = entity::events::Entity::find()
            .select_only()
            .column(entity::events::Column::Seq)
            .filter(entity::events::Column::Seq.is_in(letters.iter().map(|letter| letter.seq)))
            .filter(entity::events::Column::ErasedAt.is_not_null())
            .into_tuple()
            .all(&*write)
            .await?;
        let (taken, skipped): (Vec<Model>, Vec<Model>) = letters.into_iter().partition(|letter| {
            alive.contains(&letter.subscription) && !erased.contains(&letter.seq)
        });
        let rows: Vec<DeliveryRow> = taken
            .iter()
            .map(|letter| {
                let mut row = pending(letter, now);
                row.bulk = Some(bulk);
                row.pinned_version = pinned_original.then_some(row.script_version);
                row
            })
            .collect();
        if !skipped.is_empty() {
            Entity::update_many()
                .col_expr(Column::SkippedAt, Expr::val(now.0))
                .filter(Column::Id.is_in(skipped.iter().map(|letter| letter.id)))
                .exec(&*write)
                .await?;
        }
        if !rows.is_empty() {
            set_status(&write, taken.iter().map(|letter| letter.id), LetterStatus::Replaying)
                .await?;
            let rows = rows.iter().map(insert);
            deliveries::Entity::insert_many(rows).exec_without_returning(&*write).await?;
        }
        bulk::count(&write, bulk, (taken.len() + skipped.len()) as u64).await?;
        write.commit().await?;
        Ok(rows)
    }

    /// Ends a letter without a run.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotDead`].
    pub async fn discard(&self, id: LetterId) -> Result<(), Error> {
        let write = self.0.write().await?;
        dead(&write, id, LetterStatus::Dead).await?;
        discard(&write, &[id], None).await?;
        write.commit().await
    }

    /// Ends those that are still `dead`.
    pub async fn discard_many(&self, ids: &[LetterId], bulk: BulkId) -> Result<(), Error> {
        let write = self.0.write().await?;
        let discarded = discard(&write, ids, Some(bulk)).await?;
        bulk::count(&write, bulk, discarded).await?;
        write.commit().await
    }

    /// Undoes the discards of those that are still `discarded`. Passes over those whose event is
    /// gone; all of them count as taken by it.
    pub async fn restore_many(&self, ids: &[LetterId], bulk: BulkId) -> Result<(), Error> {
        let write = self.0.write().await?;
        let restored = restore(&write, ids).await?;
        let skipped = Entity::update_many()
            .col_expr(Column::SkippedAt, Expr::val(Millis::steady().0))
            .filter(Column::Id.is_in(ids.iter().map(|id| id.0)))
            .filter(Column::Status.eq(LetterStatus::Discarded.as_str()))
            .exec(&*write)
            .await?;
        bulk::count(&write, bulk, restored + skipped.rows_affected).await?;
        write.commit().await
    }

    /// Undoes a discard.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the letter, or for its event, without which it could never be
    /// replayed; [`Error::NotDead`] for a letter that is not `discarded`.
    pub async fn restore(&self, id: LetterId) -> Result<(), Error> {
        let write = self.0.write().await?;
        let letter = dead(&write, id, LetterStatus::Discarded).await?;
        if restore(&write, &[id]).await? == 0 {
            return Err(Error::not_found("the letter's event", letter.event));
        }
        write.commit().await
    }
}

/// The letter, if its status is the expected one.
async fn dead(write: &Write, id: LetterId, expected: LetterStatus) -> Result<Model, Error> {
    let letter = Entity::find_by_id(id.0).one(&**write).await?;
    let letter = letter.ok_or_else(|| Error::not_found("dead letter", id))?;
    match LetterStatus::parse(&letter.status) {
        Some(status) if status == expected => Ok(letter),
        Some(status) => Err(Error::NotDead { status: status.as_str() }),
        None => Err(Error::damaged("letter", id)),
    }
}

async fn set_status(
    write: &Write,
    ids: impl Iterator<Item = Uuid>,
    status: LetterStatus,
) -> Result<(), Error> {
    Entity::update_many()
        .col_expr(Column::Status, Expr::val(status.as_str()))
        .col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
        .filter(Column::Id.is_in(ids))
        .exec(&**write)
        .await?;
    Ok(())
}

/// How many it was.
async fn restore(write: &Write, ids: &[LetterId]) -> Result<u64, Error> {
    let done = Entity::update_many()
        .col_expr(Column::Status, Expr::val(LetterStatus::Dead.as_str()))
        .col_expr(Column::DiscardedAt, Expr::val(Option::<i64>::None))
        .col_expr(Column::DiscardedBy, Expr::val(Option::<Uuid>::None))
        .col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
        .filter(Column::Id.is_in(ids.iter().map(|id| id.0)))
        .filter(Column::Status.eq(LetterStatus::Discarded.as_str()))
        // Retention takes events that only ended letters need.
        .filter(Expr::cust("EXISTS (SELECT 1 FROM events WHERE events.seq = dead_letters.seq)"))
        .exec(&**write)
        .await?;
    Ok(done.rows_affected)
}

/// How many it was.
async fn discard(write: &Write, ids: &[LetterId], bulk: Option<BulkId>) -> Result<u64, Error> {
    let done = Entity::update_many()
        .col_expr(Column::Status, Expr::val(LetterStatus::Discarded.as_str()))
        .col_expr(Column::DiscardedAt, Expr::val(Millis::steady().0))
        .col_expr(Column::DiscardedBy, Expr::val(bulk.map(|bulk| bulk.0)))
        .col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
        .filter(Column::Id.is_in(ids.iter().map(|id| id.0)))
        .filter(Column::Status.eq(LetterStatus::Dead.as_str()))
        .exec(&**write)
        .await?;
    Ok(done.rows_affected)
}

/// The row of the letter's next replay: due at once, with all attempts before it.
fn pending(letter: &Model, now: Millis) -> DeliveryRow {
    DeliveryRow {
        id: DeliveryId(letter.delivery),
        event: EventId(letter.event),
        seq: Seq(encode::unsigned(letter.seq)),
        subscription: SubscriptionId(letter.subscription),
        status: RowStatus::Pending,
        attempts: 0,
        next_at: now,
        error: None,
        first_failed_at: None,
        script_version: encode::small(letter.script_version),
        letter: Some(LetterId(letter.id)),
        replay: encode::small(letter.replays) + 1,
        data: letter.data.clone(),
        pinned_version: None,
        crashes_alone: 0,
        bulk: None,
    }
}

fn insert(row: &DeliveryRow) -> deliveries::ActiveModel {
    deliveries::ActiveModel {
        id: Set(row.id.0),
        event: Set(row.event.0),
        seq: Set(encode::int(row.seq.0)),
        subscription: Set(row.subscription.0),
        status: Set(row.status.as_str().into()),
        attempts: Set(i64::from(row.attempts)),
        next_at: Set(row.next_at.0),
        error_kind: Set(None),
        error_message: Set(None),
        error_stack: Set(None),
        first_failed_at: Set(row.first_failed_at.map(|at| at.0)),
        script_version: Set(i64::from(row.script_version)),
        letter: Set(row.letter.map(|letter| letter.0)),
        replay: Set(i64::from(row.replay)),
        data: Set(row.data.clone()),
        pinned_version: Set(row.pinned_version.map(i64::from)),
        crashes_alone: Set(i64::from(row.crashes_alone)),
        bulk: Set(row.bulk.map(|bulk| bulk.0)),
    }
}
