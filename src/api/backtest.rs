//! Backtests: a changed filter or event type over stored events.

use actix_web::{
    post,
    web::{Data, Json, Path, ServiceConfig},
};
use serde::{Deserialize, Serialize};

use super::{
    auth::Viewer,
    error::ApiError,
    extract::{self, Body},
    filters::{self, WhyNotOut},
    openapi::Problems,
};
use crate::{
    Runtime,
    domain::{Event, EventId, Millis, SubscriptionId, TypePattern},
    filter::View,
    runtime::{BACKTEST_EVENTS_MAX, Backtest, Changed, Criteria, Difference},
};

/// Events that are looked at when the request does not say.
const LAST: u64 = 1_000;

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(backtest);
}

/// The subscription as it would be; what is left out stays as it is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BacktestIn {
    /// Null takes the filter away.
    #[serde(default, deserialize_with = "extract::present")]
    #[schema(value_type = Option<String>, example = "$.amount > 100")]
    pub filter: Option<Option<String>>,
    #[schema(example = "finance.*")]
    pub event_type: Option<String>,
    /// How many of the newest stored events to look at.
    #[schema(minimum = 1, maximum = 100_000, default = 1000)]
    pub last: Option<u64>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct BacktestOut {
    /// The changed filter in canonical form.
    #[schema(required = true)]
    pub filter: Option<String>,
    pub event_type: String,
    /// Events looked at, the newest first; fewer than `last` when no more are stored.
    pub checked: u64,
    pub newly_matched: DifferenceOut,
    pub no_longer_matched: DifferenceOut,
    pub unchanged: UnchangedOut,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct DifferenceOut {
    pub count: u64,
    /// The newest of them, at most 20.
    pub examples: Vec<ExampleOut>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ExampleOut {
    pub event_id: EventId,
    #[serde(rename = "type")]
    pub event_type: String,
    pub accepted_at: Millis,
    /// Why the other side does not take it: the present definition for events that are newly
    /// matched, the changed one for those that no longer are.
    #[schema(required = true)]
    pub why_not: Option<WhyNotOut>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct UnchangedOut {
    pub matched: u64,
    pub unmatched: u64,
}

/// Runs a changed filter or event type over the newest stored events and shows what would change.
/// Nothing is saved and nothing runs.
#[utoipa::path(post, path = "/api/v1/subscriptions/{id}/backtest", tag = "subscriptions", operation_id = "backtest_subscription", params(("id" = SubscriptionId, Path)), request_body = BacktestIn, responses((status = 200, body = BacktestOut), Problems))]
#[post("/subscriptions/{id}/backtest")]
async fn backtest(
    _: Viewer,
    runtime: Data<Runtime>,
    id: Path<SubscriptionId>,
    body: Body<BacktestIn>,
) -> Result<Json<BacktestOut>, ApiError> {
    let BacktestIn { filter, event_type, last } = body.into_inner();
    let last = last.unwrap_or(LAST);
    if !(1..=BACKTEST_EVENTS_MAX).contains(&last) {
        return Err(ApiError::field("last", format!("1 to {BACKTEST_EVENTS_MAX}")));
    }
    let pattern = |text: &String| {
        TypePattern::parse(text).map_err(|e| ApiError::field("event_type", e.to_string()))
    };
    let parse = |text: &Option<String>| text.as_deref().map(filters::parse).transpose();
    let changed = Changed {
        event_type: event_type.as_ref().map(pattern).transpose()?,
        filter: filter.as_ref().map(parse).transpose()?,
    };
    let found = runtime.subscriptions().backtest(*id, changed, last).await?;
    Ok(Json(BacktestOut::from(&found)))
}

impl From<&Backtest> for BacktestOut {
    fn from(found: &Backtest) -> Self {
        Self {
            filter: found.after.filter.as_ref().map(ToString::to_string),
            event_type: found.after.event_type.to_string(),
            checked: found.checked,
            newly_matched: difference(&found.newly_matched, &found.before),
            no_longer_matched: difference(&found.no_longer_matched, &found.after),
            unchanged: UnchangedOut {
                matched: found.still_matched,
                unmatched: found.still_unmatched,
            },
        }
    }
}

fn difference(difference: &Difference, refusing: &Criteria) -> DifferenceOut {
    let example = |event: &Event| ExampleOut {
        event_id: event.uid,
        event_type: event.envelope.event_type.to_string(),
        accepted_at: event.accepted_at,
        why_not: why_not(refusing, event),
    };
    DifferenceOut {
        count: difference.count,
        examples: difference.examples.iter().map(example).collect(),
    }
}

fn why_not(criteria: &Criteria, event: &Event) -> Option<WhyNotOut> {
    let event_type = &event.envelope.event_type;
    if !criteria.event_type.matches(event_type) {
        return Some(WhyNotOut::of_type(&criteria.event_type, event_type));
    }
    let why_not = criteria.filter.as_ref()?.explain(&View::new(event))?;
    Some(WhyNotOut::from(why_not))
}
