//! What requests carry: bodies, queries, preconditions, pages. Wrong input names the field.

use std::{
    collections::BTreeMap,
    future::{Ready, ready},
    ops::Deref,
    str::FromStr,
};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    error::PathError,
    http::header::{self, HeaderMap},
    web,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::future::LocalBoxFuture;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{
    error::{ApiError, Code},
    methods,
    objects::Objects,
};
use crate::domain::{
    Millis,
    json::{TextError, check_text},
    trace::{TRACEPARENT, TRACESTATE, TraceContext},
};

/// Most items of a page.
pub(super) const LIMIT_MAX: u64 = 1_000;
/// Items of a page that names no limit.
const LIMIT: u64 = 50;
/// Largest body of an operation that is no publish, in bytes.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Bytes of a cursor that bind it to its list.
const SEAL_BYTES: usize = 6;

/// A JSON body of at most `MAX` bytes.
pub(super) struct Body<T, const MAX: usize = BODY_BYTES_MAX>(T);

impl<T, const MAX: usize> Body<T, MAX> {
    pub(super) fn into_inner(self) -> T {
        self.0
    }
}

impl<T: DeserializeOwned + 'static, const MAX: usize> FromRequest for Body<T, MAX> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = json_type(request.headers());
        let bytes = body(request, payload, MAX);
        Box::pin(async move {
            is_json?;
            json(&bytes.await?).map(Self)
        })
    }
}

/// The body, if it has at most `bytes_max` bytes: an announced length is enough to refuse it.
pub(super) fn body(
    request: &HttpRequest,
    payload: &mut Payload,
    bytes_max: usize,
) -> LocalBoxFuture<'static, Result<Bytes, ApiError>> {
    let too_large =
        move || ApiError::new(Code::TooLarge, format!("the body has more than {bytes_max} bytes"));
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    let is_small = announced
        .is_none_or(|length| length.parse().is_ok_and(|length: usize| length <= bytes_max));
    let payload = web::Payload::from_request(request, payload).into_inner();
    Box::pin(async move {
        if !is_small {
            return Err(too_large());
        }
        let payload =
            payload.map_err(|error| ApiError::new(Code::InvalidRequest, error.to_string()))?;
        let bytes = payload.to_bytes_limited(bytes_max).await.map_err(|_| too_large())?;
        bytes.map_err(|error| ApiError::new(Code::InvalidRequest, error.to_string()))
    })
}

/// JSON by its content type, or without one: a form of another site cannot say so.
fn json_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    if essence == "application/json" || essence.ends_with("+json") {
        return Ok(());
    }
    let detail = format!("content type \"{essence}\" is not taken; expected application/json");
    Err(ApiError::new(Code::UnsupportedMediaType, detail))
}

/// The query, each of its fields at most once.
pub(super) struct Query<T>(T);

impl<T> Query<T> {
    pub(super) fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Query<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(query(request.query_string()).map(Self))
    }
}

fn query<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    let pairs = || url::form_urlencoded::parse(text.as_bytes());
    // No text that is kept holds it, and PostgreSQL takes none that does.
    if let Some((name, _)) = pairs().find(|(_, value)| value.contains('\0')) {
        return Err(ApiError::field(name, "a text without U+0000"));
    }
    let fields = serde_urlencoded::Deserializer::new(pairs());
    serde_path_to_error::deserialize(fields).map_err(|error| {
        let path = error.path().to_string();
        invalid(&path, &error.into_inner().to_string())
    })
}

/// A page of items, newest first unless said otherwise; `next` goes into `cursor`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Page<T> {
    pub items: Vec<T>,
    /// Cursor of the next page; null on the last one.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// One item more than `limit` was asked for: if it came there is a next page of `list`.
    pub(super) fn of<R>(
        list: &str,
        mut rows: Vec<R>,
        limit: u64,
        cursor: impl Fn(&R) -> String,
        item: impl FnMut(R) -> T,
    ) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|last| seal(list, &cursor(last)));
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

/// A position in `list` as `next` tells it: a text for any URL, that is good for this list alone.
///
/// It gives no right to anything, so it bears a checksum and not a signature.
pub(super) fn seal(list: &str, position: &str) -> String {
    let mut bytes = checksum(list, position).to_vec();
    bytes.extend_from_slice(position.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position in `list` that the `next` of a previous page tells.
pub(super) fn cursor<T: FromStr>(list: &str, text: Option<&str>) -> Result<Option<T>, ApiError> {
    let open = |text: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (sum, position) = bytes.split_at_checked(SEAL_BYTES)?;
        let position = std::str::from_utf8(position).ok()?;
        (sum == checksum(list, position)).then(|| position.parse().ok())?
    };
    let wrong = || ApiError::field("cursor", "the `next` of a previous page");
    text.map(|text| open(text).ok_or_else(wrong)).transpose()
}

fn checksum(list: &str, position: &str) -> [u8; SEAL_BYTES] {
    let sum = Sha256::digest(format!("cursor\0{list}\0{position}"));
    std::array::from_fn(|at| sum[at])
}

/// A position by time and id.
pub(super) struct At<I>(pub Millis, pub I);

impl<I: FromStr> FromStr for At<I> {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, id) = text.split_once('.').ok_or(())?;
        Ok(Self(Millis(at.parse().map_err(drop)?), id.parse().map_err(drop)?))
    }
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

/// An optional JSON body: nothing, null, or an object.
pub(super) fn optional_body<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: &[u8],
) -> Result<T, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    json_type(headers)?;
    Ok(json::<Option<T>>(body)?.unwrap_or_default())
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

/// Syntax is a 400; a member that is unknown, missing or of another type a 422 that names it.
fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(Objects(&mut reader))
        .map_err(|error| (error.path().to_string(), error.into_inner()));
    let value = read
        .and_then(|value| reader.end().map(|()| value).map_err(|error| (String::new(), error)))
        .map_err(|(path, error)| unread(&path, &error))?;
    match check_text(body, usize::MAX) {
        Ok(()) => Ok(value),
        Err(error) => Err(unkept(body, &error)),
    }
}

/// A text that PostgreSQL cannot keep is refused on every store, with the member that holds it.
fn unkept(body: &[u8], error: &TextError) -> ApiError {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).unwrap_or_default();
    let is_bad = |value: &RawValue| check_text(value.get().as_bytes(), usize::MAX).is_err();
    let found = members.into_iter().find(|(_, value)| is_bad(value));
    let mut problem = ApiError::field(
        found.map_or_else(|| "body".to_owned(), |(name, _)| name),
        "texts without U+0000 and without half surrogate pairs",
    );
    problem.0.detail = format!("{}: {error}", problem.0.field.as_deref().unwrap_or_default());
    problem
}

fn unread(path: &str, error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    let mut problem = match error.is_data() {
        true => invalid(path, &message),
        false => ApiError::new(Code::InvalidJson, message),
    };
    problem.0.line = u32::try_from(error.line()).ok();
    problem.0.column = u32::try_from(error.column()).ok();
    problem
}

/// A member at `path`, or within it, that serde has a `message` about.
fn invalid(path: &str, message: &str) -> ApiError {
    let mut problem = ApiError::new(Code::InvalidField, message);
    let path = Some(path).filter(|path| !path.is_empty() && *path != ".");
    // Of what is unknown, missing or double serde quotes the name, and leaves it out of the path.
    let quoted = message.split('`').nth(1).filter(|_| message.contains("field"));
    problem.0.field = match (path, quoted) {
        (Some(path), Some(name)) if path.rsplit('.').next() != Some(name) => {
            Some(format!("{path}.{name}"))
        }
        (path, name) => path.or(name).map(str::to_owned),
    };
    // Where it stands has fields of its own.
    let told = message.rsplit_once(" at line ").map_or(message, |(told, _)| told);
    problem.0.expected = told.split_once("expected ").map(|(_, expected)| expected.to_owned());
    problem
}

/// An id that is none names nothing; but a path that takes other methods, such as `scripts/test`, may
/// look like one.
pub(super) fn path_error(error: &PathError, request: &HttpRequest) -> ApiError {
    let path = request.path();
    let refused = methods::refuse(request, path.find("/api/").map_or("", |at| &path[at..]));
    refused.err().unwrap_or_else(|| {
        ApiError::new(Code::NotFound, format!("the path holds no id of anything: {error}"))
    })
}

/// The trace that a request is part of; headers that are no context are as good as none.
pub(super) fn trace_context(request: &HttpRequest) -> Option<TraceContext> {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    TraceContext::parse(text(TRACEPARENT)?, text(TRACESTATE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Fields {
        n: Option<u32>,
        inner: Option<Box<Fields>>,
    }

    #[track_caller]
    fn field<T>(read: Result<T, ApiError>) -> String {
        let problem = read.err().expect("a refusal");
        problem.0.field.unwrap_or_else(|| panic!("{} names no field", problem.0.detail))
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        assert_eq!(field(json::<Fields>(br#"{"inner":{"n":-1}}"#)), "inner.n");
        assert_eq!(field(json::<Fields>(br#"{"inner":{"m":1}}"#)), "inner.m");
        assert_eq!(field(json::<Fields>(br#"{"m":1}"#)), "m");
        assert_eq!(field(query::<Fields>("n=x")), "n");
        assert_eq!(field(query::<Fields>("n=1&n=2")), "n");
        assert_eq!(field(query::<Fields>("m=1")), "m");
        assert_eq!(field(query::<Fields>("n=1%00")), "n");
        assert_eq!(query::<Fields>("n=1").ok(), Some(Fields { n: Some(1), inner: None }));
    }

    #[test]
    fn an_array_is_not_the_members_in_their_order() {
        let problem = json::<Fields>(b" [1, null]").expect_err("a refusal");
        assert_eq!(problem.0.status, 422);
    }

    #[test]
    fn syntax_is_no_field_and_what_follows_the_body_is_wrong() {
        for text in [&b"{"[..], b"", b"{} x", b"\xff"] {
            let problem = json::<Fields>(text).expect_err("a refusal");
            assert_eq!((problem.0.status, problem.0.field), (400, None));
        }
    }

    #[test]
    fn a_cursor_is_good_for_its_list_alone() {
        let sealed = seal("runs", "12");
        assert_eq!(cursor::<u64>("runs", Some(&sealed)).ok(), Some(Some(12)));
        for (list, text) in
            [("events", &*sealed), ("runs", "12"), ("runs", &sealed[1..]), ("runs", "")]
        {
            assert_eq!(field(cursor::<u64>(list, Some(text))), "cursor");
        }
    }
}
