//! Deliveries that wait, each in a row of its own. The journal writes them; this reads.

use std::collections::HashMap;

use entity::deliveries::{Column, Entity, Model};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    Select,
};

use super::{
    Error, Store, encode,
    journal::{DeliveryRow, RowStatus},
};
use crate::domain::{
    BulkId, DeliveryId, ErrorKind, EventId, LetterId, Millis, RunError, Seq, SubscriptionId,
};

/// See [`Store::deliveries`].
pub struct Deliveries<'a>(pub(super) &'a Store);

impl Deliveries<'_> {
    /// All but the dying, the soonest first, after the given one, at most `limit`.
    pub async fn waiting(
        &self,
        after: Option<(Millis, DeliveryId)>,
        limit: u64,
    ) -> Result<Vec<DeliveryRow>, Error> {
        let mut query = Entity::find()
            .filter(Column::Status.ne(RowStatus::Dying.as_str()))
            .order_by_asc(Column::NextAt)
            .order_by_asc(Column::Id)
            .limit(limit);
        if let Some((at, id)) = after {
            query = query.filter(
                Condition::any()
                    .add(Column::NextAt.gt(at.0))
                    .add(Condition::all().add(Column::NextAt.eq(at.0)).add(Column::Id.gt(id.0))),
            );
        }
        self.rows(query).await
    }

    /// Those of a subscription but for the dying, the soonest first, at most `limit`.
    pub async fn soonest_of(
        &self,
        id: SubscriptionId,
        limit: u64,
    ) -> Result<Vec<DeliveryRow>, Error> {
        let query = Entity::find()
            .filter(Column::Subscription.eq(id.0))
            .filter(Column::Status.ne(RowStatus::Dying.as_str()))
            .order_by_asc(Column::NextAt)
            .order_by_asc(Column::Id)
            .limit(limit);
        self.rows(query).await
    }

    /// Suspects that were alone when the process died.
    pub async fn accused(&self) -> Result<Vec<DeliveryRow>, Error> {
        let accused = Entity::find()
            .filter(Column::Status.eq(RowStatus::Suspect.as_str()))
            .filter(Column::CrashesAlone.gt(0))
            .order_by_asc(Column::CrashesAlone);
        self.rows(accused).await
    }

    /// How many suspects each subscription has.
    pub async fn suspects(&self) -> Result<HashMap<SubscriptionId, u64>, Error> {
        self.count_by_subscription(
            Entity::find().filter(Column::Status.eq(RowStatus::Suspect.as_str())),
        )
        .await
    }

    /// Deliveries whose attempts are spent and that are no letters yet, at most `limit`.
    pub async fn dying(&self, limit: u64) -> Result<Vec<DeliveryRow>, Error> {
        // The literal lets the database use the index of the dying.
        let dying = sea_orm::sea_query::Expr::cust("status = 'dying'");
        self.rows(Entity::find().filter(dying).order_by_asc(Column::Id).limit(limit)).await
    }

    /// In the order of their events.
    pub async fn of_subscription(&self, id: SubscriptionId) -> Result<Vec<DeliveryRow>, Error> {
        let query = Entity::find().filter(Column::Subscription.eq(id.0)).order_by_asc(Column::Seq);
        self.rows(query).await
    }

    pub async fn of_events(&self, seqs: &[Seq]) -> Result<Vec<DeliveryRow>, Error> {
        let seqs = seqs.iter().map(|seq| encode::int(seq.0));
        self.rows(Entity::find().filter(Column::Seq.is_in(seqs))).await
    }

    pub async fn find(&self, id: DeliveryId) -> Result<Option<DeliveryRow>, Error> {
        let model = Entity::find_by_id(id.0).one(&self.0.connection).await?;
        model.map(DeliveryRow::try_from).transpose()
    }

    pub async fn count_of(&self, id: SubscriptionId) -> Result<u64, Error> {
        Ok(Entity::find().filter(Column::Subscription.eq(id.0)).count(&self.0.connection).await?)
    }

    /// Rows that wait, per subscription; those without any are left out.
    pub async fn counts(&self) -> Result<HashMap<SubscriptionId, u64>, Error> {
        let waiting = Entity::find().filter(Column::Status.ne(RowStatus::Dying.as_str()));
        self.count_by_subscription(waiting).await
    }

    async fn count_by_subscription(
        &self,
        rows: Select<Entity>,
    ) -> Result<HashMap<SubscriptionId, u64>, Error> {
        let counts: Vec<(uuid::Uuid, i64)> = rows
            .select_only()
            .column(Column::Subscription)
            .column_as(Column::Id.count(), "count")
            .group_by(Column::Subscription)
            .into_tuple()
            .all(&self.0.connection)
            .await?;
        let pair = |(id, count)| (SubscriptionId(id), encode::unsigned(count));
        Ok(counts.into_iter().map(pair).collect())
    }

    /// Which deliveries of events above the watermark have a row.
    pub async fn since(&self, watermark: Seq) -> Result<Vec<(Seq, SubscriptionId)>, Error> {
        let keys: Vec<(i64, uuid::Uuid)> = Entity::find()
            .select_only()
            .columns([Column::Seq, Column::Subscription])
            .filter(Column::Seq.gt(encode::int(watermark.0)))
            .into_tuple()
            .all(&self.0.connection)
            .await?;
        let pair = |(seq, id)| (Seq(encode::unsigned(seq)), SubscriptionId(id));
        Ok(keys.into_iter().map(pair).collect())
    }

    async fn rows(&self, query: Select<Entity>) -> Result<Vec<DeliveryRow>, Error> {
        let models = query.all(&self.0.connection).await?;
        models.into_iter().map(DeliveryRow::try_from).collect()
    }
}

impl TryFrom<Model> for DeliveryRow {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        let damaged = || Error::damaged("delivery", model.id);
        let error = match (&model.error_kind, &model.error_message) {
            (Some(kind), Some(message)) => Some(RunError {
                kind: ErrorKind::parse(kind).ok_or_else(damaged)?,
                message: message.clone(),
                stack: model.error_stack.clone(),
            }),
            _ => None,
        };
        Ok(Self {
            id: DeliveryId(model.id),
            event: EventId(model.event),
            seq: Seq(encode::unsigned(model.seq)),
            subscription: SubscriptionId(model.subscription),
            status: RowStatus::parse(&model.status).ok_or_else(damaged)?,
            attempts: encode::small(model.attempts),
            next_at: Millis(model.next_at),
            error,
            first_failed_at: model.first_failed_at.map(Millis),
            script_version: encode::small(model.script_version),
            letter: model.letter.map(LetterId),
            replay: encode::small(model.replay),
            data: model.data,
            pinned_version: model.pinned_version.map(encode::small),
            crashes_alone: encode::small(model.crashes_alone),
            bulk: model.bulk.map(BulkId),
        })
    }
}
