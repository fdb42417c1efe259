//! What requests carry: bodies, queries, preconditions, pages. Wrong input names the field.

use actix_web::{
    HttpRequest,
    error::{JsonPayloadError, PathError, QueryPayloadError},
    http::header,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::error::{ApiError, Code};
use crate::domain::Millis;

/// Most items of a page.
pub(super) const LIMIT_MAX: u64 = 1_000;
/// Items of a page that names no limit.
const LIMIT: u64 = 50;

/// A page of items, newest first unless said otherwise; `next` goes into `cursor`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Page<T> {
    pub items: Vec<T>,
    /// Cursor of the next page; null on the last one.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// One item more than `limit` was asked for: if it came there is a next page.
    pub(super) fn of<R>(
        mut rows: Vec<R>,
        limit: u64,
        cursor: impl Fn(&R) -> String,
        item: impl FnMut(R) -> T,
    ) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(cursor) } else { None };
        Self { items: rows.into_iter().map(item).collect(), next }
    }
}

/// `limit` as it was asked for, checked.
pub(super) fn limit(asked: Option<u64>) -> Result<u64, ApiError> {
    match asked.unwrap_or(LIMIT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        _ => Err(ApiError::field("limit", format!("1 to {LIMIT_MAX}"))),
    }
}

/// A cursor as the previous page gave it.
pub(super) fn cursor<T: std::str::FromStr>(text: Option<&str>) -> Result<Option<T>, ApiError> {
    text.map(|text| {
        text.parse().map_err(|_| ApiError::field("cursor", "the `next` of a previous page"))
    })
    .transpose()
}

/// A time in a query.
pub(super) fn time(field: &'static str, text: Option<&str>) -> Result<Option<Millis>, ApiError> {
    text.map(|text| {
        text.parse()
            .map_err(|_| ApiError::field(field, "an RFC 3339 time such as 2026-01-31T12:00:00Z"))
    })
    .transpose()
}

/// A duration as the API writes it.
pub(super) fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

/// A name that people give: of scripts, subscriptions, tokens.
pub(super) fn name(name: &str) -> Result<(), ApiError> {
    if name.trim().is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
        return Err(ApiError::field("name", "1 to 200 bytes without control characters"));
    }
    Ok(())
}

/// An optional JSON body: nothing, or an object.
pub(super) fn optional_body<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| body_error(&error))
}

/// The revision in `If-Match`; `None` when there is none, or it is `*`.
pub(super) fn if_match(request: &HttpRequest) -> Result<Option<u64>, ApiError> {
    let Some(value) = request.headers().get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let revision = text.trim_start_matches("W/").trim_matches('"').parse();
    revision
        .map(Some)
        .map_err(|_| ApiError::field("If-Match", "the ETag of an earlier answer, or *"))
}

pub(super) fn etag(revision: u64) -> (header::HeaderName, String) {
    (header::ETAG, format!("\"{revision}\""))
}

/// Tells absent from null in a PATCH: `None` keeps, `Some(None)` clears.
pub(super) fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

pub(super) fn json_error(error: &JsonPayloadError) -> ApiError {
    match error {
        JsonPayloadError::Deserialize(error) => body_error(error),
        JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => {
            ApiError::new(Code::TooLarge, error.to_string())
        }
        other => ApiError::new(Code::InvalidRequest, other.to_string()),
    }
}

/// Syntax is a 400; a member that is unknown, missing or of another type a 422 that names it.
fn body_error(error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    let mut problem = if error.is_data() {
        let mut problem = ApiError::new(Code::InvalidField, message.clone());
        // serde's messages quote the member in question first.
        problem.0.field =
            message.split('`').nth(1).filter(|_| message.contains("field")).map(str::to_owned);
        problem.0.expected =
            message.split_once("expected ").map(|(_, expected)| expected.to_owned());
        problem
    } else {
        ApiError::new(Code::InvalidJson, message)
    };
    problem.0.line = u32::try_from(error.line()).ok();
    problem.0.column = u32::try_from(error.column()).ok();
    problem
}

pub(super) fn query_error(error: &QueryPayloadError) -> ApiError {
    let message = error.to_string();
    let mut problem = ApiError::new(Code::InvalidField, message.clone());
    problem.0.field = message.split('`').nth(1).map(str::to_owned);
    problem
}

/// An id that is none names nothing.
pub(super) fn path_error(error: &PathError) -> ApiError {
    ApiError::new(Code::NotFound, format!("the path holds no id of anything: {error}"))
}
