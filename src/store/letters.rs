//! Dead letters: what they are, and how they are found. `record` makes them, `replay` ends them.

use entity::dead_letters::{Column, Entity, Model};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, FromQueryResult, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, Select,
    sea_query::{Expr, ExprTrait},
};
use serde::{Deserialize, Serialize};

use super::{BulkAction, Error, Store, encode};
use crate::domain::{
    BulkId, DeliveryId, ErrorKind, EventId, LetterId, Millis, RunError, ScriptId, Seq,
    SubscriptionId, TypePattern,
};

mod record;
mod replay;

pub use self::record::Announcer;

/// See [`Store::letters`].
pub struct Letters<'a>(pub(super) &'a Store);

/// A delivery whose attempts were spent.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    pub id: LetterId,
    pub delivery: DeliveryId,
    pub status: LetterStatus,
    pub subscription: SubscriptionId,
    /// As it was when the letter was written.
    pub subscription_name: String,
    pub script: ScriptId,
    /// Of the last attempt.
    pub script_version: u32,
    pub event: EventId,
    pub seq: Seq,
    pub event_type: String,
    pub error: RunError,
    /// The same for errors that differ in numbers and quoted values only.
    pub fingerprint: String,
    /// Attempts of the last replay, or of the delivery when there was none.
    pub attempts: u32,
    pub first_failed_at: Millis,
    pub died_at: Millis,
    pub replays: u32,
    /// The payload as it was edited for a replay; later replays take it too. `None`: the event's.
    pub data: Option<String>,
    pub discarded_at: Option<Millis>,
    pub revision: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LetterStatus {
    Dead,
    Replaying,
    Replayed,
    Discarded,
}

impl LetterStatus {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Replaying => "replaying",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Dead, Self::Replaying, Self::Replayed, Self::Discarded]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// What a letter must have to be listed, counted or taken by a bulk operation. Empty takes all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LetterFilter {
    pub status: Option<LetterStatus>,
    pub subscription_id: Option<SubscriptionId>,
    pub script_id: Option<ScriptId>,
    /// A type, or a pattern with `*` and `**`.
    pub event_type: Option<String>,
    pub event_id: Option<EventId>,
    pub error_kind: Option<ErrorKind>,
    /// Part of the error's message, in any case.
    pub text: Option<String>,
    pub fingerprint: Option<String>,
    /// The bulk operation that discarded it.
    pub discarded_by: Option<BulkId>,
    /// Died at this time or later, and before that.
    pub from: Option<Millis>,
    pub until: Option<Millis>,
}

/// Letters with the same kind of error.
#[derive(Clone, Debug, PartialEq)]
pub struct LetterGroup {
    pub fingerprint: String,
    pub error_kind: ErrorKind,
    /// The message of one of them.
    pub message: String,
    pub count: u64,
    pub first_died_at: Millis,
    pub last_died_at: Millis,
    /// Scripts that they died of, the most frequent first.
    pub scripts: Vec<ScriptId>,
}

impl Letters<'_> {
    pub async fn find(&self, id: LetterId) -> Result<Option<DeadLetter>, Error> {
        let model = Entity::find_by_id(id.0).one(&self.0.connection).await?;
        model.map(DeadLetter::try_from).transpose()
    }

    /// Those that died last first, before the given one, at most `limit`.
    pub async fn page(
        &self,
        filter: &LetterFilter,
        before: Option<(Millis, LetterId)>,
        limit: u64,
    ) -> Result<Vec<DeadLetter>, Error> {
        let mut query = self
            .matches(filter)
            .await?
            .order_by_desc(Column::DiedAt)
            .order_by_desc(Column::Id)
            .limit(limit);
        if let Some((at, id)) = before {
            query = query.filter(
                Condition::any()
                    .add(Column::DiedAt.lt(at.0))
                    .add(Condition::all().add(Column::DiedAt.eq(at.0)).add(Column::Id.lt(id.0))),
            );
        }
        let models = query.all(&self.0.connection).await?;
        models.into_iter().map(DeadLetter::try_from).collect()
    }

    pub async fn count(&self, filter: &LetterFilter) -> Result<u64, Error> {
        Ok(self.matches(filter).await?.count(&self.0.connection).await?)
    }

    /// Letters of each kind of error, the most frequent first, at most `limit` kinds. The counts
    /// are of all that match.
    pub async fn groups(
        &self,
        filter: &LetterFilter,
        limit: u64,
    ) -> Result<Vec<LetterGroup>, Error> {
        #[derive(FromQueryResult)]
        struct Row {
            fingerprint: String,
            error_kind: String,
            message: String,
            count: i64,
            first: i64,
            last: i64,
        }
        let rows = self
            .matches(filter)
            .await?
            .select_only()
            .column(Column::Fingerprint)
            .column(Column::ErrorKind)
            .column_as(Column::ErrorMessage.max(), "message")
            .column_as(Column::Id.count(), "count")
            .column_as(Column::DiedAt.min(), "first")
            .column_as(Column::DiedAt.max(), "last")
            .group_by(Column::Fingerprint)
            .group_by(Column::ErrorKind)
            .order_by_desc(Expr::cust("count(*)"))
            .order_by_asc(Column::Fingerprint)
            .limit(limit)
            .into_model::<Row>()
            .all(&self.0.connection)
            .await?;
        let fingerprints = rows.iter().map(|row| row.fingerprint.clone());
        let scripts: Vec<(String, uuid::Uuid)> = self
            .matches(filter)
            .await?
            .select_only()
            .columns([Column::Fingerprint, Column::Script])
            .filter(Column::Fingerprint.is_in(fingerprints))
            .group_by(Column::Fingerprint)
            .group_by(Column::Script)
            .order_by_desc(Expr::cust("count(*)"))
            .order_by_asc(Column::Script)
            .into_tuple()
            .all(&self.0.connection)
            .await?;
        rows.into_iter()
            .map(|row| {
                let kind = ErrorKind::parse(&row.error_kind);
                let its = scripts.iter().filter(|(fingerprint, _)| *fingerprint == row.fingerprint);
                Ok(LetterGroup {
                    scripts: its.map(|(_, script)| ScriptId(*script)).collect(),
                    error_kind: kind
                        .ok_or_else(|| Error::damaged("letter group", &row.fingerprint))?,
                    fingerprint: row.fingerprint,
                    message: row.message,
                    count: encode::unsigned(row.count),
                    first_died_at: Millis(row.first),
                    last_died_at: Millis(row.last),
                })
            })
            .collect()
    }

    /// Those that a bulk operation begun at `before` may still take, at most `limit`.
    pub async fn matching(
        &self,
        action: BulkAction,
        filter: &LetterFilter,
        before: Millis,
        limit: u64,
    ) -> Result<Vec<LetterId>, Error> {
        let ids = self
            .bulk_matches(action, filter, before)
            .await?
            .select_only()
            .column(Column::Id)
            .order_by_asc(Column::DiedAt)
            .order_by_asc(Column::Id)
            .limit(limit)
            .into_tuple::<uuid::Uuid>()
            .all(&self.0.connection)
            .await?;
        Ok(ids.into_iter().map(LetterId).collect())
    }

    /// How many [`Letters::matching`] would take without a limit.
    pub async fn count_matching(
        &self,
        action: BulkAction,
        filter: &LetterFilter,
        before: Millis,
    ) -> Result<u64, Error> {
        Ok(self.bulk_matches(action, filter, before).await?.count(&self.0.connection).await?)
    }

    /// The letters of these events, by event and subscription.
    pub async fn of_events(
        &self,
        events: &[EventId],
    ) -> Result<Vec<(EventId, SubscriptionId, LetterStatus)>, Error> {
        let models = Entity::find()
            .filter(Column::Seq.is_in(events.iter().map(|event| encode::int(event.seq().0))))
            .filter(Column::Event.is_in(events.iter().map(|event| event.0)))
            .all(&self.0.connection)
            .await?;
        let triple = |model: Model| {
            let status = LetterStatus::parse(&model.status);
            let status = status.ok_or_else(|| Error::damaged("letter", model.id))?;
            Ok((EventId(model.event), SubscriptionId(model.subscription), status))
        };
        models.into_iter().map(triple).collect()
    }

    /// Letters with status `dead`, per subscription; those without any are left out.
    pub async fn dead_counts(&self) -> Result<Vec<(SubscriptionId, u64)>, Error> {
        let counts: Vec<(uuid::Uuid, i64)> = Entity::find()
            .select_only()
            .column(Column::Subscription)
            .column_as(Column::Id.count(), "count")
            .filter(Column::Status.eq(LetterStatus::Dead.as_str()))
            .group_by(Column::Subscription)
            .into_tuple()
            .all(&self.0.connection)
            .await?;
        let pair = |(id, count)| (SubscriptionId(id), encode::unsigned(count));
        Ok(counts.into_iter().map(pair).collect())
    }

    /// What became dead or discarded after the operation began is left to the next one.
    async fn bulk_matches(
        &self,
        action: BulkAction,
        filter: &LetterFilter,
        before: Millis,
    ) -> Result<Select<Entity>, Error> {
        let (status, since) = match action {
            BulkAction::Replay { .. } | BulkAction::Discard => (LetterStatus::Dead, Column::DiedAt),
            BulkAction::Restore => (LetterStatus::Discarded, Column::DiscardedAt),
        };
        if filter.status.is_some_and(|wanted| wanted != status) {
            return Ok(Entity::find().filter(Expr::val(1).eq(0)));
        }
        let not_passed_over =
            Condition::any().add(Column::SkippedAt.is_null()).add(Column::SkippedAt.lt(before.0));
        let filter = LetterFilter { status: Some(status), ..filter.clone() };
        Ok(self.matches(&filter).await?.filter(since.lt(before.0)).filter(not_passed_over))
    }

    async fn matches(&self, filter: &LetterFilter) -> Result<Select<Entity>, Error> {
        let mut query = Entity::find();
        if let Some(status) = filter.status {
            query = query.filter(Column::Status.eq(status.as_str()));
        }
        if let Some(subscription) = filter.subscription_id {
            query = query.filter(Column::Subscription.eq(subscription.0));
        }
        if let Some(script) = filter.script_id {
            query = query.filter(Column::Script.eq(script.0));
        }
        if let Some(event_type) = &filter.event_type {
            query = match TypePattern::parse(event_type) {
                Ok(pattern) if !pattern.is_exact() => {
                    let types =
                        self.0.types_like(Some(&pattern), "dead_letters", "event_type").await?;
                    query.filter(Column::EventType.is_in(types))
                }
                // What is no pattern matches nothing, as an exact type would not.
                _ => query.filter(Column::EventType.eq(event_type)),
            };
        }
        if let Some(event) = filter.event_id {
            query = query
                .filter(Column::Seq.eq(encode::int(event.seq().0)))
                .filter(Column::Event.eq(event.0));
        }
        if let Some(kind) = filter.error_kind {
            query = query.filter(Column::ErrorKind.eq(kind.as_str()));
        }
        if let Some(text) = &filter.text {
            query = query.filter(encode::contains("error_message", text));
        }
        if let Some(fingerprint) = &filter.fingerprint {
            query = query.filter(Column::Fingerprint.eq(fingerprint));
        }
        if let Some(bulk) = filter.discarded_by {
            query = query.filter(Column::DiscardedBy.eq(bulk.0));
        }
        if let Some(from) = filter.from {
            query = query.filter(Column::DiedAt.gte(from.0));
        }
        if let Some(until) = filter.until {
            query = query.filter(Column::DiedAt.lt(until.0));
        }
        Ok(query)
    }
}

impl TryFrom<Model> for DeadLetter {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        let damaged = || Error::damaged("letter", model.id);
        Ok(Self {
            id: LetterId(model.id),
            delivery: DeliveryId(model.delivery),
            status: LetterStatus::parse(&model.status).ok_or_else(damaged)?,
            subscription: SubscriptionId(model.subscription),
            subscription_name: model.subscription_name,
            script: ScriptId(model.script),
            script_version: encode::small(model.script_version),
            event: EventId(model.event),
            seq: Seq(encode::unsigned(model.seq)),
            event_type: model.event_type,
            error: RunError {
                kind: ErrorKind::parse(&model.error_kind).ok_or_else(damaged)?,
                message: model.error_message,
                stack: model.error_stack,
            },
            fingerprint: model.fingerprint,
            attempts: encode::small(model.attempts),
            first_failed_at: Millis(model.first_failed_at),
            died_at: Millis(model.died_at),
            replays: encode::small(model.replays),
            data: model.data,
            discarded_at: model.discarded_at.map(Millis),
            revision: encode::unsigned(model.revision),
        })
    }
}
