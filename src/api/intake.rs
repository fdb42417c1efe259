//! From a request's body to events: CloudEvents 1.0 in all three HTTP modes, plain JSON, NDJSON.
//!
//! The envelope is parsed once, borrowed from the body; `data` stays the text that was received.
//! What passes here is what every store and every script can hold (`domain::json`). A batch is all
//! or nothing, and an error names the item.
//!
//! A body is a CloudEvent when its content type says so, or when it carries `specversion`; then
//! attributes that CloudEvents does not define are extensions. Otherwise it is plain JSON, and an
//! unknown member is an error: it would be a typo that loses data. A member given twice is an error
//! in both.

use std::{borrow::Cow, fmt, sync::Arc};

use actix_web::http::header::HeaderMap;
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::error::{ApiError, Code};
use crate::{
    actors::journal::Incoming,
    config::Limits,
    domain::{
        DataEncoding, Envelope, Lineage, Millis, NewEvent,
        event::{TYPE_BYTES_MAX, is_reserved},
        json::check_text,
    },
    store::journal::EventKey,
};

/// Source of events whose publisher named none.
const DEFAULT_SOURCE: &str = "/tripline/http";
/// Longest attribute, in bytes.
const ATTRIBUTE_BYTES_MAX: usize = 2_048;
/// Most extension attributes of one event.
const EXTENSIONS_MAX: usize = 64;

/// Payloads from this size on may share the body that they are most of, in bytes.
const SHARED_BYTES_MIN: usize = 64 << 10;

/// Parses a publish. `body` has at most `limits.batch_bytes`.
pub(super) fn parse(
    headers: &HeaderMap,
    body: &Bytes,
    limits: &Limits,
) -> Result<Vec<Incoming>, ApiError> {
    let content_type = header(headers, "content-type")?.unwrap_or("application/json");
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut events = match essence.as_str() {
        _ if headers.contains_key("ce-specversion") => {
            vec![binary(headers, &essence, body, limits)?]
        }
        "application/cloudevents+json" => vec![item(body, body, true, limits)?],
        "application/cloudevents-batch+json" => array(body, true, limits)?,
        "application/json" => match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => array(body, false, limits)?,
            _ => vec![item(body, body, false, limits)?],
        },
        "application/x-ndjson" | "application/ndjson" => lines(body, limits)?,
        _ => {
            let taken = "application/json, application/x-ndjson, application/cloudevents+json, \
                         application/cloudevents-batch+json, or any type with ce-* headers";
            let detail = format!("content type \"{essence}\" is not taken; expected {taken}");
            return Err(ApiError::new(Code::UnsupportedMediaType, detail));
        }
    };
    for (index, event) in events.iter().enumerate() {
        published_type(&event.envelope.event_type)
            .map_err(|error| if events.len() > 1 { error.at_item(index) } else { error })?;
    }
    if let Some(key) = header(headers, "idempotency-key")? {
        if key.is_empty() || key.len() > 255 {
            return Err(ApiError::field("Idempotency-Key", "1 to 255 bytes"));
        }
        let single = events.len() == 1;
        for (index, event) in events.iter_mut().enumerate().filter(|(_, e)| e.envelope.id.is_none())
        {
            let id = if single { key.to_owned() } else { format!("{key}.{index}") };
            event.envelope.id = Some(id.into());
        }
    }
    Ok(events.into_iter().map(|event| Incoming { key: EventKey::of(&event), event }).collect())
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    value
        .to_str()
        .map(|value| Some(value.trim()))
        .map_err(|_| ApiError::field(name, "visible ASCII characters"))
}

fn array(body: &Bytes, cloud_events: bool, limits: &Limits) -> Result<Vec<NewEvent>, ApiError> {
    let items: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| wrong_json(&error))?;
    at_most(items.len(), limits)?;
    items
        .into_iter()
        .enumerate()
        .map(|(index, raw)| {
            item(body, raw.get().as_bytes(), cloud_events, limits)
                .map_err(|error| error.at_item(index))
        })
        .collect()
}

fn lines(body: &Bytes, limits: &Limits) -> Result<Vec<NewEvent>, ApiError> {
    let lines =
        body.split(|&byte| byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace));
    let mut events = Vec::new();
    for (index, line) in lines.enumerate() {
        at_most(index + 1, limits)?;
        events.push(item(body, line, false, limits).map_err(|error| error.at_item(index))?);
    }
    at_most(events.len(), limits)?;
    Ok(events)
}

fn at_most(items: usize, limits: &Limits) -> Result<(), ApiError> {
    if items == 0 {
        return Err(ApiError::new(Code::InvalidRequest, "expected at least one event"));
    }
    if items > limits.batch_events {
        let detail = format!("more than {} events (limits.batch_events)", limits.batch_events);
        return Err(ApiError::new(Code::TooLarge, detail));
    }
    Ok(())
}

fn wrong_json(error: &serde_json::Error) -> ApiError {
    let mut problem = ApiError::new(Code::InvalidJson, error.to_string());
    problem.0.line = u32::try_from(error.line()).ok();
    problem.0.column = u32::try_from(error.column()).ok();
    problem
}

/// One event in structured or plain form; `text` lies within `body`.
fn item(
    body: &Bytes,
    text: &[u8],
    cloud_event: bool,
    limits: &Limits,
) -> Result<NewEvent, ApiError> {
    let wire: Wire<'_> = serde_json::from_slice(text).map_err(|error| wrong_json(&error))?;
    let is_cloud_event = cloud_event || wire.specversion.is_some();
    if is_cloud_event {
        match wire.specversion.as_deref() {
            Some("1.0") => {}
            Some(other) => {
                return Err(ApiError::field("specversion", format!("\"1.0\", found \"{other}\"")));
            }
            None => {
                return Err(ApiError::field(
                    "specversion",
                    "\"1.0\": the content type says CloudEvent",
                ));
            }
        }
        if wire.source.is_none() {
            return Err(ApiError::field("source", "a URI reference: CloudEvents require it"));
        }
        if wire.id.is_none() {
            return Err(ApiError::field("id", "a string: CloudEvents require it"));
        }
    } else if let Some((name, _)) = wire.others.first() {
        return Err(ApiError::field(
            name.to_string(),
            "one of type, data, id, source, subject, time, datacontenttype, dataschema \
             (extensions need specversion: a CloudEvent)",
        ));
    }
    let (data, encoding) = match (wire.data, wire.data_base64) {
        (Some(_), Some(_)) => {
            return Err(ApiError::field("data_base64", "only one of data and data_base64"));
        }
        (Some(raw), None) => (part_of(body, raw.get()), DataEncoding::Json),
        (None, Some(base64)) => (base64_payload(&base64)?, DataEncoding::Base64),
        (None, None) => (Bytes::from_static(b"null"), DataEncoding::Absent),
    };
    check_data(&data, limits)?;
    let envelope = Envelope {
        id: wire.id.map(|id| attribute("id", id)).transpose()?,
        source: wire
            .source
            .map_or_else(|| Ok(DEFAULT_SOURCE.into()), |s| attribute("source", s))?,
        event_type: event_type(wire.event_type)?,
        subject: wire.subject.map(|subject| attribute("subject", subject)).transpose()?,
        time: wire.time.map(time).transpose()?,
        datacontenttype: wire
            .datacontenttype
            .map(|t| attribute("datacontenttype", t))
            .transpose()?,
        dataschema: wire.dataschema.map(|schema| attribute("dataschema", schema)).transpose()?,
        extensions: extensions(wire.others)?,
        encoding,
    };
    Ok(NewEvent { envelope, data, lineage: Lineage::default() })
}

/// One event on its own, plain or structured: for tests of scripts and filters.
pub(super) fn lone(text: &str, limits: &Limits) -> Result<NewEvent, ApiError> {
    let body = Bytes::copy_from_slice(text.as_bytes());
    item(&body, &body, false, limits)
}

/// An event made of a type and a payload.
pub(super) fn payload(name: &str, data: &str, limits: &Limits) -> Result<NewEvent, ApiError> {
    check_data(data.as_bytes(), limits)?;
    let envelope = Envelope {
        id: None,
        source: DEFAULT_SOURCE.into(),
        event_type: event_type(Some(name.into()))?,
        subject: None,
        time: None,
        datacontenttype: None,
        dataschema: None,
        extensions: None,
        encoding: DataEncoding::Json,
    };
    Ok(NewEvent {
        envelope,
        data: Bytes::copy_from_slice(data.as_bytes()),
        lineage: Lineage::default(),
    })
}

/// One event in binary mode: attributes in `ce-*` headers, the body is the data.
fn binary(
    headers: &HeaderMap,
    essence: &str,
    body: &Bytes,
    limits: &Limits,
) -> Result<NewEvent, ApiError> {
    let mut wire = Wire::default();
    let mut others: Vec<(String, String)> = Vec::new();
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix("ce-") else { continue };
        let value = value
            .to_str()
            .map_err(|_| ApiError::field(name.as_str(), "visible ASCII characters"))?;
        let value = percent_decoded(name.as_str(), value)?;
        let slot = match attribute {
            "specversion" => &mut wire.specversion,
            "id" => &mut wire.id,
            "source" => &mut wire.source,
            "type" => &mut wire.event_type,
            "subject" => &mut wire.subject,
            "time" => &mut wire.time,
            "dataschema" => &mut wire.dataschema,
            _ => {
                others.push((attribute.to_owned(), value));
                continue;
            }
        };
        if slot.replace(value.into()).is_some() {
            return Err(ApiError::field(name.as_str(), "the header once"));
        }
    }
    if wire.specversion.as_deref() != Some("1.0") {
        return Err(ApiError::field("ce-specversion", "1.0"));
    }
    let source = wire
        .source
        .ok_or_else(|| ApiError::field("ce-source", "the header: CloudEvents require it"))?;
    let id =
        wire.id.ok_or_else(|| ApiError::field("ce-id", "the header: CloudEvents require it"))?;
    let (data, encoding) = binary_payload(essence, body)?;
    check_data(&data, limits)?;
    let mut extra = Vec::new();
    for (name, value) in &others {
        let json = serde_json::value::to_raw_value(value).map_err(|error| wrong_json(&error))?;
        extra.push((Cow::Borrowed(name.as_str()), json));
    }
    let extra = extra.iter().map(|(name, value)| (name.clone(), &**value)).collect();
    let envelope = Envelope {
        id: Some(attribute("ce-id", id)?),
        source: attribute("ce-source", source)?,
        event_type: event_type(wire.event_type)?,
        subject: wire.subject.map(|subject| attribute("ce-subject", subject)).transpose()?,
        time: wire.time.map(time).transpose()?,
        datacontenttype: (!body.is_empty()).then(|| essence.into()),
        dataschema: wire.dataschema.map(|schema| attribute("ce-dataschema", schema)).transpose()?,
        extensions: extensions(extra)?,
        encoding,
    };
    Ok(NewEvent { envelope, data, lineage: Lineage::default() })
}

/// JSON stays as it is, text becomes a JSON string, anything else base64.
fn binary_payload(essence: &str, body: &Bytes) -> Result<(Bytes, DataEncoding), ApiError> {
    if body.is_empty() {
        return Ok((Bytes::from_static(b"null"), DataEncoding::Absent));
    }
    if essence == "application/json" || essence.ends_with("+json") {
        let raw: &RawValue = serde_json::from_slice(body).map_err(|error| wrong_json(&error))?;
        return Ok((part_of(body, raw.get()), DataEncoding::Json));
    }
    if (essence.starts_with("text/") || essence.ends_with("+xml") || essence == "application/xml")
        && let Ok(text) = std::str::from_utf8(body)
    {
        let json = serde_json::to_vec(text).map_err(|error| wrong_json(&error))?;
        return Ok((json.into(), DataEncoding::Json));
    }
    Ok((quoted(&encode_base64(body)), DataEncoding::Base64))
}

/// A part of the body as a payload of its own: one that pointed into it would keep all of it, and the
/// buffer of 8 KiB or more that it was read into, for as long as the event is in memory.
fn part_of(body: &Bytes, part: &str) -> Bytes {
    let is_most = part.len() >= SHARED_BYTES_MIN && part.len() > body.len() / 2;
    if is_most { body.slice_ref(part.as_bytes()) } else { Bytes::copy_from_slice(part.as_bytes()) }
}

fn base64_payload(text: &str) -> Result<Bytes, ApiError> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|error| ApiError::field("data_base64", format!("base64 ({error})")))?;
    Ok(quoted(text))
}

fn encode_base64(body: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(body)
}

/// Base64 holds nothing that JSON would escape.
fn quoted(base64: &str) -> Bytes {
    format!("\"{base64}\"").into()
}

fn check_data(data: &[u8], limits: &Limits) -> Result<(), ApiError> {
    if data.len() > limits.event_bytes {
        let detail = format!(
            "data has {} bytes, more than {} (limits.event_bytes)",
            data.len(),
            limits.event_bytes
        );
        let mut error = ApiError::new(Code::TooLarge, detail);
        error.0.field = Some("data".into());
        return Err(error);
    }
    check_text(data, limits.json_depth).map_err(ApiError::from)
}

pub(super) fn attribute(name: &str, value: Cow<'_, str>) -> Result<Arc<str>, ApiError> {
    if value.is_empty() || value.len() > ATTRIBUTE_BYTES_MAX {
        return Err(ApiError::field(name, format!("1 to {ATTRIBUTE_BYTES_MAX} bytes")));
    }
    if value.chars().any(char::is_control) {
        return Err(ApiError::field(name, "no control characters"));
    }
    Ok(value.into())
}

/// A type made from what somebody sent.
pub(super) fn checked_type(value: String) -> Result<Arc<str>, ApiError> {
    let value = event_type(Some(value.into()))?;
    published_type(&value)?;
    Ok(value)
}

/// Nobody but the runtime publishes events of the runtime.
fn published_type(event_type: &str) -> Result<(), ApiError> {
    if is_reserved(event_type) {
        let expected = "a type that does not begin with tripline: those are the runtime's own";
        return Err(ApiError::field("type", expected));
    }
    Ok(())
}

fn event_type(value: Option<Cow<'_, str>>) -> Result<Arc<str>, ApiError> {
    let expected = "a type such as finance.PaymentCreated";
    let value = value.ok_or_else(|| ApiError::field("type", expected))?;
    let value = attribute("type", value)?;
    if value.len() > TYPE_BYTES_MAX || value.contains('*') || value.split('.').any(str::is_empty) {
        let rule =
            format!("{expected}: at most {TYPE_BYTES_MAX} bytes, no *, nothing empty between dots");
        return Err(ApiError::field("type", rule));
    }
    Ok(value)
}

fn time(value: Cow<'_, str>) -> Result<Arc<str>, ApiError> {
    match value.parse::<Millis>() {
        Ok(_) => Ok(value.into()),
        Err(_) => Err(ApiError::field("time", "an RFC 3339 time such as 2026-01-31T12:00:00Z")),
    }
}

/// Extension attributes as the text of one JSON object, in the order of their names.
fn extensions(mut others: Vec<(Cow<'_, str>, &RawValue)>) -> Result<Option<Arc<str>>, ApiError> {
    if others.is_empty() {
        return Ok(None);
    }
    if others.len() > EXTENSIONS_MAX {
        return Err(ApiError::field(
            "extensions",
            format!("at most {EXTENSIONS_MAX} extension attributes"),
        ));
    }
    others.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut text = String::from("{");
    for (index, (name, value)) in others.iter().enumerate() {
        let named =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !named || name.len() > 64 {
            return Err(ApiError::field(
                name.to_string(),
                "an attribute name of lower-case letters and digits, as CloudEvents ask for",
            ));
        }
        let value = value.get();
        if value.starts_with(['{', '[']) || value.len() > ATTRIBUTE_BYTES_MAX {
            return Err(ApiError::field(
                name.to_string(),
                format!("a string, a number or a boolean of at most {ATTRIBUTE_BYTES_MAX} bytes"),
            ));
        }
        check_text(value.as_bytes(), 1)
            .map_err(|error| ApiError::field(name.to_string(), format!("text without {error}")))?;
        if index > 0 {
            text.push(',');
        }
        text.push('"');
        text.push_str(name);
        text.push_str("\":");
        text.push_str(value);
    }
    text.push('}');
    Ok(Some(text.into()))
}

fn percent_decoded(name: &str, value: &str) -> Result<String, ApiError> {
    if !value.contains('%') {
        return Ok(value.to_owned());
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.ok_or_else(|| ApiError::field(name, "two hexadecimal digits after %"))?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| ApiError::field(name, "UTF-8 after percent-decoding"))
}

/// An event as JSON carries it, borrowed from the body.
#[derive(Default)]
struct Wire<'a> {
    specversion: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    event_type: Option<Cow<'a, str>>,
    subject: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
    datacontenttype: Option<Cow<'a, str>>,
    dataschema: Option<Cow<'a, str>>,
    data: Option<&'a RawValue>,
    data_base64: Option<Cow<'a, str>>,
    others: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// A string borrowed where it holds no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Wire<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Wire<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event: an object with \"type\" and \"data\"")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wire<'de>, A::Error> {
                let mut wire = Wire::default();
                while let Some(Text(name)) = map.next_key()? {
                    let twice =
                        || A::Error::custom(format_args!("member \"{name}\" appears twice"));
                    let slot = match name.as_ref() {
                        "type" => &mut wire.event_type,
                        "id" => &mut wire.id,
                        "source" => &mut wire.source,
                        "specversion" => &mut wire.specversion,
                        "subject" => &mut wire.subject,
                        "time" => &mut wire.time,
                        "datacontenttype" => &mut wire.datacontenttype,
                        "dataschema" => &mut wire.dataschema,
                        "data_base64" => &mut wire.data_base64,
                        "data" => {
                            if wire.data.replace(map.next_value()?).is_some() {
                                return Err(twice());
                            }
                            continue;
                        }
                        _ => {
                            if wire.others.iter().any(|(other, _)| *other == name) {
                                return Err(twice());
                            }
                            let value = map.next_value()?;
                            wire.others.push((name, value));
                            continue;
                        }
                    };
                    let value: Option<Text<'de>> = map.next_value().map_err(|error| {
                        A::Error::custom(format_args!("member \"{name}\": {error}"))
                    })?;
                    if let Some(Text(value)) = value
                        && slot.replace(value).is_some()
                    {
                        return Err(twice());
                    }
                }
                Ok(wire)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn parse_with(headers: &[(&str, &str)], body: &str) -> Result<Vec<Incoming>, ApiError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            map.insert(name, HeaderValue::from_str(value).expect("a value"));
        }
        parse(&map, &Bytes::copy_from_slice(body.as_bytes()), &Limits::default())
    }

    #[track_caller]
    fn one(headers: &[(&str, &str)], body: &str) -> NewEvent {
        let mut events = parse_with(headers, body).expect("an event");
        assert_eq!(events.len(), 1);
        events.remove(0).event
    }

    #[track_caller]
    fn refused(headers: &[(&str, &str)], body: &str, code: &str, field: Option<&str>) {
        let error = parse_with(headers, body).expect_err("a refusal");
        assert_eq!((error.0.code.as_str(), error.0.field.as_deref()), (code, field), "{error}");
    }

    #[test]
    fn a_small_payload_does_not_keep_the_body_that_it_came_with() {
        let large = "x".repeat(SHARED_BYTES_MIN);
        let body = format!(r#"[{{"type":"a","data":1}},{{"type":"b","data":"{large}"}}]"#);
        let body = Bytes::copy_from_slice(body.as_bytes());
        let within = |data: &Bytes| body.as_ptr_range().contains(&data.as_ptr());
        let events = parse(&HeaderMap::new(), &body, &Limits::default()).expect("two events");
        let shares: Vec<bool> = events.iter().map(|one| within(&one.event.data)).collect();
        assert_eq!(shares, [false, true]);
    }

    const STRUCTURED: [(&str, &str); 1] =
        [("content-type", "application/cloudevents+json; charset=utf-8")];

    #[test]
    fn plain_json_needs_a_type_and_keeps_the_payload_to_the_byte() {
        let event = one(
            &[],
            r#" {"type":"a.b", "data": {"n": 1.10e400 , "big":12345678901234567890123} } "#,
        );
        assert_eq!(&*event.envelope.event_type, "a.b");
        assert_eq!(&event.data[..], br#"{"n": 1.10e400 , "big":12345678901234567890123}"#);
        assert_eq!(event.envelope.id, None);
        refused(&[], r#"{"data":1}"#, "invalid_field", Some("type"));
        refused(&[], r#"{"type":"a.*"}"#, "invalid_field", Some("type"));
        refused(&[], r#"{"type":"a","payload":1}"#, "invalid_field", Some("payload"));
        refused(&[], r#"{"type":"a","type":"b"}"#, "invalid_json", None);
        refused(&[], "nonsense", "invalid_json", None);
    }

    #[test]
    fn structured_cloud_events_carry_extensions() {
        let body = r#"{"specversion":"1.0","id":"1","source":"/s","type":"a","time":"2026-01-31T12:00:00Z",
                       "traceparent":"00-ab","tries":3,"data":[1]}"#;
        for headers in [&STRUCTURED[..], &[]] {
            let event = one(headers, body);
            assert_eq!(
                event.envelope.extensions.as_deref(),
                Some(r#"{"traceparent":"00-ab","tries":3}"#)
            );
            assert_eq!(event.envelope.id.as_deref(), Some("1"));
        }
        refused(
            &STRUCTURED,
            r#"{"id":"1","source":"/s","type":"a"}"#,
            "invalid_field",
            Some("specversion"),
        );
        refused(
            &STRUCTURED,
            r#"{"specversion":"0.3","id":"1","source":"/","type":"a"}"#,
            "invalid_field",
            Some("specversion"),
        );
        refused(
            &STRUCTURED,
            r#"{"specversion":"1.0","id":"1","source":"/","type":"a","X-y":1}"#,
            "invalid_field",
            Some("X-y"),
        );
        refused(
            &STRUCTURED,
            r#"{"specversion":"1.0","id":"1","source":"/","type":"a","x":{}}"#,
            "invalid_field",
            Some("x"),
        );
        refused(
            &STRUCTURED,
            r#"{"specversion":"1.0","id":"1","source":"/","type":"a","time":"noon"}"#,
            "invalid_field",
            Some("time"),
        );
    }

    #[test]
    fn binary_mode_takes_attributes_from_headers() {
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", "7"),
            ("ce-source", "/caf%C3%A9"),
            ("ce-type", "a.b"),
            ("ce-region", "eu"),
            ("content-type", "application/json"),
        ];
        let event = one(&headers, r#"{"x": 1}"#);
        assert_eq!(&*event.envelope.source, "/café");
        assert_eq!(event.envelope.extensions.as_deref(), Some(r#"{"region":"eu"}"#));
        assert_eq!(&event.data[..], br#"{"x": 1}"#);

        let mut text = headers;
        text[5].1 = "text/plain";
        assert_eq!(&one(&text, "say \"hi\"").data[..], br#""say \"hi\"""#);
        text[5].1 = "image/png";
        let event = one(&text, "raw");
        assert_eq!(
            (&event.data[..], event.envelope.encoding),
            (&br#""cmF3""#[..], DataEncoding::Base64)
        );
        assert_eq!(one(&text, "").envelope.encoding, DataEncoding::Absent);
        refused(&headers[..1], "{}", "invalid_field", Some("ce-source"));
    }

    #[test]
    fn batches_name_the_item_that_is_wrong() {
        let events =
            parse_with(&[], r#"[{"type":"a","data":1},{"type":"b","data":2}]"#).expect("events");
        assert_eq!(events.len(), 2);
        let error = parse_with(&[], r#"[{"type":"a"},{"typ":"b"}]"#).expect_err("a refusal");
        assert_eq!(error.0.index, Some(1));
        let ndjson = [("content-type", "application/x-ndjson")];
        let events = parse_with(&ndjson, "{\"type\":\"a\"}\n\n{\"type\":\"b\"}\n").expect("events");
        assert_eq!(events.len(), 2);
        assert_eq!(
            parse_with(&ndjson, "{\"type\":\"a\"}\nx\n").expect_err("a refusal").0.index,
            Some(1)
        );
        refused(&[], "[]", "invalid_request", None);
        let batch = [("content-type", "application/cloudevents-batch+json")];
        assert_eq!(
            parse_with(&batch, r#"[{"type":"a"}]"#).expect_err("a refusal").0.index,
            Some(0)
        );
    }

    #[test]
    fn what_a_store_cannot_hold_is_refused_at_the_door() {
        refused(&[], r#"{"type":"a","data":"\u0000"}"#, "invalid_field", Some("data"));
        refused(&[], r#"{"type":"a","data":"\ud800"}"#, "invalid_field", Some("data"));
        let deep = format!(r#"{{"type":"a","data":{}1{}}}"#, "[".repeat(65), "]".repeat(65));
        refused(&[], &deep, "invalid_field", Some("data"));
        let large = format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(1 << 20));
        refused(&[], &large, "too_large", Some("data"));
        refused(&[("content-type", "text/html")], "<p>", "unsupported_media_type", None);
    }

    #[test]
    fn an_idempotency_key_stands_in_for_ids() {
        let key = [("idempotency-key", "k")];
        assert_eq!(one(&key, r#"{"type":"a"}"#).envelope.id.as_deref(), Some("k"));
        assert_eq!(one(&key, r#"{"type":"a","id":"mine"}"#).envelope.id.as_deref(), Some("mine"));
        let events = parse_with(&key, r#"[{"type":"a"},{"type":"a"}]"#).expect("events");
        assert_eq!(events[1].event.envelope.id.as_deref(), Some("k.1"));
        assert!(events[0].key.is_some() && events[0].key != events[1].key);
    }
}
