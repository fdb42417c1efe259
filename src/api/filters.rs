//! Filters: checked before they are saved, on stored events or on given ones.

use actix_web::{
    post,
    web::{Data, Json, ServiceConfig},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{auth::Viewer, error::ApiError, events, extract::Body, openapi::Problems};
use crate::{
    Runtime,
    domain::{Event, EventId, TypePattern},
    filter::{Filter, View, WhyNot},
    runtime::Field,
    store::EventFilter,
};

/// Stored events that a check looks at when it is given none.
const RECENT: u64 = 100;
/// Events that a check may be given.
const EVENTS_MAX: usize = 1_000;

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(check);
}

/// Parses a filter; the problem says the column and what was expected.
pub(super) fn parse(text: &str) -> Result<Filter, ApiError> {
    Filter::parse(text).map_err(|error| Field::from(error).into())
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FilterCheck {
    #[schema(example = "$.amount > 100")]
    pub filter: String,
    /// Type or pattern that the events must have too.
    pub event_type: Option<String>,
    /// Events `{"type","data",…}`, or bare payloads; without it the most recent stored ones.
    #[schema(value_type = Option<Vec<serde_json::Value>>)]
    pub events: Option<Vec<Box<RawValue>>>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct FilterChecked {
    /// The filter as it is stored and shown.
    pub canonical: String,
    pub matched: u64,
    pub checked: u64,
    /// In the order of the events.
    pub results: Vec<FilterResult>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct FilterResult {
    /// Of a stored event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<EventId>,
    pub matches: bool,
    #[schema(required = true)]
    pub why_not: Option<WhyNotOut>,
}

/// The first clause that failed, and what it saw.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct WhyNotOut {
    pub clause: String,
    /// Null where it was absent.
    #[schema(value_type = serde_json::Value, required = true)]
    pub value: Option<Box<RawValue>>,
}

impl WhyNotOut {
    pub(super) fn plain(clause: &str, json: &str) -> Self {
        Self { clause: clause.to_owned(), value: RawValue::from_string(json.to_owned()).ok() }
    }

    pub(super) fn of_type(pattern: &TypePattern, event_type: &str) -> Self {
        let json = serde_json::Value::from(event_type).to_string();
        Self::plain(&format!("event.type is {pattern}"), &json)
    }
}

impl From<WhyNot> for WhyNotOut {
    fn from(why: WhyNot) -> Self {
        // A value that was cut short is no JSON any more: then it is a text.
        let value = why.value.and_then(|text| match RawValue::from_string(text.clone()) {
            Ok(raw) => Some(raw),
            Err(_) => serde_json::value::to_raw_value(&text).ok(),
        });
        Self { clause: why.clause, value }
    }
}

/// Checks a filter: its canonical form, which events match, and why the others do not.
#[utoipa::path(post, path = "/api/v1/filters/check", tag = "filters", operation_id = "check_filter", request_body = FilterCheck, responses((status = 200, body = FilterChecked), Problems))]
#[post("/filters/check")]
async fn check(
    _: Viewer,
    runtime: Data<Runtime>,
    body: Body<FilterCheck>,
) -> Result<Json<FilterChecked>, ApiError> {
    let FilterCheck { filter, event_type, events } = body.into_inner();
    let filter = parse(&filter)?;
    let pattern = event_type
        .as_deref()
        .map(|text| {
            TypePattern::parse(text)
                .map_err(|error| ApiError::field("event_type", error.to_string()))
        })
        .transpose()?;
    let is_stored = events.is_none();
    let events = match events {
        Some(given) => made(&given, pattern.as_ref(), &runtime)?,
        None => {
            let wanted = EventFilter { event_type: pattern.clone(), ..EventFilter::default() };
            runtime.store().events().page(&wanted, None, RECENT).await?
        }
    };
    let result = |event: &Event| {
        let event_type = &event.envelope.event_type;
        let why_not = match &pattern {
            Some(pattern) if !pattern.matches(event_type) => {
                Some(WhyNotOut::of_type(pattern, event_type))
            }
            _ => filter.explain(&View::new(event)).map(WhyNotOut::from),
        };
        let event_id = is_stored.then_some(event.uid);
        FilterResult { event_id, matches: why_not.is_none(), why_not }
    };
    let results: Vec<FilterResult> = events.iter().map(result).collect();
    Ok(Json(FilterChecked {
        canonical: filter.to_string(),
        matched: results.iter().filter(|result| result.matches).count() as u64,
        checked: results.len() as u64,
        results,
    }))
}

fn made(
    given: &[Box<RawValue>],
    pattern: Option<&TypePattern>,
    runtime: &Runtime,
) -> Result<Vec<Event>, ApiError> {
    if given.len() > EVENTS_MAX {
        return Err(ApiError::field("events", format!("at most {EVENTS_MAX} events")));
    }
    // A bare payload has a type that the pattern takes.
    let bare = pattern.map_or("event", TypePattern::as_str).replace("**", "x").replace('*', "x");
    let limits = &runtime.config().limits;
    given
        .iter()
        .enumerate()
        .map(|(index, text)| {
            events::made(text, Some(&bare), limits).map_err(|error| error.at_item(index))
        })
        .collect()
}
