//! Spans as OTLP over HTTP carries them in JSON. Pure.
//!
//! Written out here: what is needed of the encoding is a page, the OpenTelemetry crates would bring
//! gRPC's types, a second client and global state.
//!
//! Source: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>; ids are hexadecimal
//! and times are texts there.

use serde_json::{Value, json};

use super::Span;

/// The body of one request to `/v1/traces`.
pub(super) fn body(service: &str, instance: &str, spans: &[Span]) -> Value {
    let spans: Vec<Value> = spans.iter().map(span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": [
            attribute("service.name", &json!(service)),
            attribute("service.version", &json!(env!("CARGO_PKG_VERSION"))),
            attribute("service.instance.id", &json!(instance)),
        ] },
        "scopeSpans": [{
            "scope": { "name": "tripline", "version": env!("CARGO_PKG_VERSION") },
            "spans": spans,
        }],
    }] })
}

fn span(span: &Span) -> Value {
    let attributes: Vec<Value> =
        span.attributes.iter().map(|(name, value)| attribute(name, value)).collect();
    let mut body = json!({
        "traceId": format!("{:032x}", span.context.trace),
        "spanId": format!("{:016x}", span.context.span),
        "flags": u8::from(span.context.is_sampled),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": span.start.to_string(),
        "endTimeUnixNano": span.end.max(span.start).to_string(),
        "attributes": attributes,
        "status": match &span.error {
            Some(message) => json!({ "code": 2, "message": message }),
            None => json!({}),
        },
    });
    if let Some(parent) = span.parent {
        body["parentSpanId"] = json!(format!("{parent:016x}"));
    }
    if let Some(state) = &span.context.state {
        body["traceState"] = json!(**state);
    }
    body
}

fn attribute(name: &str, value: &Value) -> Value {
    let value = match value {
        Value::Bool(flag) => json!({ "boolValue": flag }),
        Value::Number(number) if number.is_f64() => json!({ "doubleValue": number }),
        // 64-bit numbers are texts in protobuf's JSON.
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        Value::String(text) => json!({ "stringValue": text }),
        other => json!({ "stringValue": other.to_string() }),
    };
    json!({ "key": name, "value": value })
}
