//! Runs that were kept.

use std::time::Duration;

use entity::runs::{Column, Entity, Model};
use sea_orm::{
    ColumnTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::Expr,
};

use super::{Error, Store, encode};
use crate::domain::{
    ErrorKind, EventId, Millis, RunError, RunId, RunLog, ScriptId, Seq, SubscriptionId,
};

/// See [`Store::runs`].
pub struct Runs<'a>(pub(super) &'a Store);

/// What a run must have to be listed. Empty takes all.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    pub subscription: Option<SubscriptionId>,
    pub script: Option<ScriptId>,
    pub event: Option<EventId>,
    pub failed: Option<bool>,
    pub error_kind: Option<ErrorKind>,
    /// Started at this time or later, and before that.
    pub from: Option<Millis>,
    pub until: Option<Millis>,
}

impl RunFilter {
    /// An index leads to those that match, and to hardly any other.
    fn is_indexed(&self) -> bool {
        let by_owner = self.subscription.is_some() || self.script.is_some();
        let by_outcome = match self.failed {
            None => true,
            Some(failed) => failed && !by_owner,
        };
        self.event.is_some()
            || by_outcome
                && self.error_kind.is_none()
                && self.from.is_none()
                && self.until.is_none()
    }
}

/// Runs that one look reads where no index leads to those that match.
const WINDOW: u64 = 50_000;

impl Runs<'_> {
    pub async fn find(&self, id: RunId) -> Result<Option<RunLog>, Error> {
        let model = Entity::find_by_id(encode::int(id.number())).one(&self.0.connection).await?;
        // The id only claims its number.
        model.filter(|model| model.id == id.0).map(RunLog::try_from).transpose()
    }

    /// Those that were kept, by number.
    pub async fn by_numbers(&self, numbers: &[u64]) -> Result<Vec<RunLog>, Error> {
        let mut runs = Vec::with_capacity(numbers.len());
        for part in numbers.chunks(super::events::IDS) {
            let part = part.iter().map(|number| encode::int(*number));
            let query =
                Entity::find().filter(Column::Number.is_in(part)).order_by_asc(Column::Number);
            for model in query.all(&self.0.connection).await? {
                runs.push(RunLog::try_from(model)?);
            }
        }
        runs.sort_by_key(|run| run.id.number());
        Ok(runs)
    }

    /// As [`Runs::page`], with where to go on, if there may be more. What no index serves is looked
    /// for among a bounded number of runs: then there may be fewer, or none, and still more.
    pub async fn search(
        &self,
        filter: &RunFilter,
        before: Option<u64>,
        limit: u64,
    ) -> Result<(Vec<RunLog>, Option<u64>), Error> {
        let first = self.end(Order::Asc).await?;
        let upper = match before {
            Some(before) => before,
            None => self.end(Order::Desc).await? + 1,
        };
        let lower =
            if filter.is_indexed() { first } else { upper.saturating_sub(WINDOW).max(first) };
        let runs = self.between(filter, before, lower, limit).await?;
        let rest = match runs.last() {
            Some(last) if runs.len() as u64 == limit => Some(last.id.number()),
            _ => (lower > first).then_some(lower),
        };
        Ok((runs, rest))
    }

    /// Number of the oldest run that is kept, or of the newest; 0 when there is none.
    async fn end(&self, order: Order) -> Result<u64, Error> {
        let number = Entity::find()
            .select_only()
            .column(Column::Number)
            .order_by(Column::Number, order)
            .limit(1)
            .into_tuple::<i64>()
            .one(&self.0.connection)
            .await?;
        Ok(number.map_or(0, encode::unsigned))
    }

    /// Newest first, before the run of this number, at most `limit`.
    pub async fn page(
        &self,
        filter: &RunFilter,
        before: Option<u64>,
        limit: u64,
    ) -> Result<Vec<RunLog>, Error> {
        self.between(filter, before, 0, limit).await
    }

    async fn between(
        &self,
        filter: &RunFilter,
        before: Option<u64>,
        lower: u64,
        limit: u64,
    ) -> Result<Vec<RunLog>, Error> {
        let mut query = Entity::find().order_by_desc(Column::Number).limit(limit);
        if lower > 0 {
            query = query.filter(Column::Number.gte(encode::int(lower)));
        }
        if let Some(before) = before {
            query = query.filter(Column::Number.lt(encode::int(before)));
        }
        if let Some(event) = filter.event {
            // The outcomes of an event name its runs: no index of runs by event is kept.
            let outcomes = self.0.outcomes().of_event(event.seq()).await?;
            let numbers = outcomes.into_iter().filter_map(|entry| entry.run).map(encode::int);
            query = query.filter(Column::Number.is_in(numbers)).filter(Column::Event.eq(event.0));
        }
        if let Some(subscription) = filter.subscription {
            query = query.filter(Column::Subscription.eq(subscription.0));
        }
        if let Some(script) = filter.script {
            // By way of the subscriptions that use the script or did, whose runs are indexed.
            use entity::subscription_definitions as definitions;
            let users = definitions::Entity::find()
                .select_only()
                .column(definitions::Column::Subscription)
                .filter(definitions::Column::Script.eq(script.0))
                .into_query();
            query = query
                .filter(Column::Subscription.in_subquery(users))
                .filter(Column::Script.eq(script.0));
        }
        match filter.failed {
            // The literal lets the database use the index of failed runs.
            Some(true) => query = query.filter(Expr::cust("failed = TRUE")),
            Some(false) => query = query.filter(Expr::cust("failed = FALSE")),
            None => {}
        }
        if let Some(kind) = filter.error_kind {
            query = query
                .filter(Expr::cust("failed = TRUE"))
                .filter(Column::ErrorKind.eq(kind.as_str()));
        }
        if let Some(from) = filter.from {
            query = query.filter(Column::StartedAt.gte(from.0));
        }
        if let Some(until) = filter.until {
            query = query.filter(Column::StartedAt.lt(until.0));
        }
        let models = query.all(&self.0.connection).await?;
        models.into_iter().map(RunLog::try_from).collect()
    }
}

/// An outcome as it reads once it was stored.
pub(crate) fn as_stored(outcome: &Result<String, RunError>) -> Result<String, RunError> {
    match outcome {
        Ok(result) => Ok(encode::clean(result).into_owned()),
        Err(error) => Err(RunError {
            kind: error.kind,
            message: encode::clean(&error.message).into_owned(),
            stack: error.stack.as_deref().map(|stack| encode::clean(stack).into_owned()),
        }),
    }
}

impl TryFrom<Model> for RunLog {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        let micros = |value: i64| Duration::from_micros(encode::unsigned(value));
        let error = match (&model.error_kind, model.error_message) {
            (Some(kind), Some(message)) => Some(RunError {
                kind: ErrorKind::parse(kind).ok_or_else(|| Error::damaged("run", model.id))?,
                message,
                stack: model.error_stack,
            }),
            _ => None,
        };
        Ok(Self {
            id: RunId(model.id),
            event: EventId(model.event),
            seq: Seq(encode::unsigned(model.seq)),
            subscription: SubscriptionId(model.subscription),
            script: ScriptId(model.script),
            script_version: encode::small(model.script_version),
            attempt: encode::small(model.attempt),
            replay: encode::small(model.replay),
            error,
            result: model.result,
            logs: encode::list_from(model.logs.as_deref()),
            warnings: encode::list_from(model.warnings.as_deref()),
            started_at: Millis(model.started_at),
            duration: micros(model.duration_us),
            cpu: micros(model.cpu_us),
            queued: micros(model.queued_us),
            emitted: encode::uids_from(model.emitted.as_deref()),
            recording: None,
        })
    }
}
