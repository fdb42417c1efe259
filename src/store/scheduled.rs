//! Events that wait for their time: delayed emits, which the journal writes, and alerts, which are
//! written here in the transaction of what they announce. The journal takes both into the log.

use entity::scheduled::{ActiveModel, Column, Entity, Model};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::{Error, Store, Write, encode, journal::Scheduled};
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

    /// Writes events that are on their way into the log.
    pub async fn add(&self, events: &[Scheduled]) -> Result<(), Error> {
        let write = self.0.write().await?;
        add(&write, events).await?;
        write.commit().await
    }

    pub async fn find(&self, id: ScheduledId) -> Result<Option<Scheduled>, Error> {
        Ok(Entity::find_by_id(id.0).one(&self.0.connection).await?.map(Scheduled::from))
    }

    pub async fn count(&self) -> Result<u64, Error> {
        Ok(Entity::find().count(&self.0.connection).await?)
    }
}

/// Writes events together with what they announce: whatever happens then, they enter the log once.
pub(super) async fn add(write: &Write, events: &[Scheduled]) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    let rows = events.iter().map(ActiveModel::from);
    Entity::insert_many(rows).exec_without_returning(&**write).await?;
    Ok(())
}

impl From<&Scheduled> for ActiveModel {
    fn from(scheduled: &Scheduled) -> Self {
        let (envelope, lineage) = (&scheduled.event.envelope, &scheduled.event.lineage);
        let text = |text: &Option<std::sync::Arc<str>>| Set(text.as_deref().map(str::to_owned));
        Self {
            id: Set(scheduled.id.0),
            due_at: Set(scheduled.due_at.0),
            created_at: Set(scheduled.created_at.0),
            event_id: text(&envelope.id),
            source: Set(envelope.source.to_string()),
            r#type: Set(envelope.event_type.to_string()),
            subject: text(&envelope.subject),
            time: text(&envelope.time),
            datacontenttype: text(&envelope.datacontenttype),
            dataschema: text(&envelope.dataschema),
            extensions: text(&envelope.extensions),
            encoding: Set(encode::encoding(envelope.encoding)),
            data: Set(scheduled.event.data.to_vec()),
            cause_event: Set(lineage.cause.map(|cause| cause.event.0)),
            cause_subscription: Set(lineage.cause.map(|cause| cause.subscription.0)),
            hop: Set(i64::from(lineage.hop)),
            spread: Set(encode::int(lineage.spread)),
        }
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
                    encoding: encode::encoding_from(model.encoding, None),
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
