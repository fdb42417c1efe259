//! Entries of the fuzzer into what the API reads; see `crate::fuzzing`.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

use super::{extract, intake};
use crate::config::Limits;

/// Header lines, an empty line, a body: a publish is events that any store and script can hold, or a
/// refusal that is the publisher's to mend.
pub(crate) fn intake(bytes: &[u8]) {
    let (head, body) = match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => (&[][..], bytes),
    };
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) =
            (name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()))
        {
            headers.append(name, value);
        }
    }
    match intake::parse(&headers, &Bytes::copy_from_slice(body), &Limits::default()) {
        Ok(events) => {
            assert!(!events.is_empty(), "a publish of nothing is refused");
            for event in events.iter().map(|incoming| &incoming.event) {
                let data: Result<serde_json::Value, _> = serde_json::from_slice(&event.data);
                // Numbers beyond floats are JSON, and kept as they are.
                let read = data.is_ok_and(|_| true) || event.data.iter().any(u8::is_ascii_digit);
                assert!(read && !event.data.contains(&0), "{:?}", event.data);
                assert!(
                    !event.envelope.event_type.contains('*') && !event.envelope.source.is_empty()
                );
            }
        }
        Err(error) => assert!((400..500).contains(&error.0.status), "{error:?}"),
    }
}

/// No made-up cursor opens; one that was given does, in its list alone.
pub(crate) fn cursor(text: &str) {
    let open = |list: &str, text: &str| extract::cursor::<String>(list, Some(text)).ok().flatten();
    assert_eq!(open("runs", text), None, "{text:?} is a cursor");
    assert!(extract::cursor::<u64>("runs", Some(text)).is_err());
    let sealed = extract::seal("runs", text);
    assert_eq!(open("runs", &sealed).as_deref(), Some(text));
    assert_eq!(open("events", &sealed), None);
}
