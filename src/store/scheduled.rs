//! Delayed emits that wait for their time. The journal writes and removes them; this reads.

use entity::scheduled::{Column, Entity, Model};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::{Error, Store, encode, journal::Scheduled};
use crate::domain::{
    Cause, Envelope, EventId, Lineage, Millis, NewEvent, ScheduledId, SubscriptionId,
};

/// See [`Store::scheduled`].
pub struct ScheduledEmits<'a>(pub(super) &'a Store);

impl ScheduledEmits<'_> {
    /// The soonest first, after the given one, at most `limit`.
    pub async fn waiting(
        &self,
        after: Option<(Millis, ScheduledId)>,
        limit: u64,
    ) -> Result<Vec<Scheduled>, Error> {
        let mut query =
            Entity::find().order_by_asc(Column::DueAt).order_by_asc(Column::Id).limit(limit);
        if let Some((at, id)) = after {
            query = query.filter(
                Condition::any()
                    .add(Column::DueAt.gt(at.0))
                    .add(Condition::all().add(Column::DueAt.eq(at.0)).add(Column::Id.gt(id.0))),
            );
        }
        Ok(query.all(&self.0.connection).await?.into_iter().map(Scheduled::from).collect())
    }

    pub async fn find(&self, id: ScheduledId) -> Result<Option<Scheduled>, Error> {
        Ok(Entity::find_by_id(id.0).one(&self.0.connection).await?.map(Scheduled::from))
    }

    pub async fn count(&self) -> Result<u64, Error> {
        Ok(Entity::find().count(&self.0.connection).await?)
    }
}

impl From<Model> for Scheduled {
    fn from(model: Model) -> Self {
        let cause = model.cause_event.zip(model.cause_subscription);
        Self {
            id: ScheduledId(model.id),
            due_at: Millis(model.due_at),
            created_at: Millis(model.created_at),
            event: NewEvent {
                envelope: Envelope {
                    id: model.event_id.map(Into::into),
                    source: model.source.into(),
                    event_type: model.r#type.into(),
                    subject: model.subject.map(Into::into),
                    time: model.time.map(Into::into),
                    datacontenttype: model.datacontenttype.map(Into::into),
                    dataschema: model.dataschema.map(Into::into),
                    extensions: model.extensions.map(Into::into),
                    encoding: encode::encoding_from(model.encoding),
                },
                data: model.data.into(),
                lineage: Lineage {
                    cause: cause.map(|(event, subscription)| Cause {
                        event: EventId(event),
                        subscription: SubscriptionId(subscription),
                    }),
                    hop: encode::small(model.hop),
                    spread: encode::unsigned(model.spread),
                },
            },
        }
    }
}
