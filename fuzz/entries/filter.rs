//! What the fuzzer calls, and a test on stable Rust too (`src/filter/properties.rs`).
//!
//! Whoever includes this file has the types below in scope.

use super::{DataEncoding, Envelope, Filter, Index, KeyPath, Scratch, TypePattern, View};

/// Any text is a filter whose canonical text is the same filter, or is refused with a place.
pub(crate) fn parse(text: &str) {
    match Filter::parse(text) {
        Ok(filter) => {
            let canonical = filter.to_string();
            let again = Filter::parse(&canonical).expect("canonical text is a filter");
            assert_eq!(again, filter, "{canonical}");
        }
        Err(error) => assert!((1..=text.chars().count() + 1).contains(&error.column), "{error:?}"),
    }
    if let Ok(path) = KeyPath::parse(text) {
        assert_eq!(KeyPath::parse(&path.to_string()).expect("a key path"), path);
    }
}

/// Filters, one a line, on a payload after an empty line: the index agrees with a scan, and what
/// does not match has a reason.
pub(crate) fn matching(text: &str) {
    let (filters, payload) = text.split_once("\n\n").unwrap_or((text, "{}"));
    let envelope = Envelope {
        id: None,
        source: "/fuzz".into(),
        event_type: "a.b".into(),
        subject: None,
        time: None,
        datacontenttype: None,
        dataschema: None,
        extensions: Some(r#"{"a":1}"#.into()),
        encoding: DataEncoding::Json,
    };
    let mut index = Index::new();
    for (key, line) in filters.lines().enumerate() {
        if let Ok(filter) = Filter::parse(line) {
            let view = View::of(&envelope, payload.as_bytes());
            assert_eq!(filter.matches(&view), filter.explain(&view).is_none(), "{filter}");
            index.insert(key, TypePattern::parse("a.*").expect("a pattern"), Some(filter));
        }
    }
    let view = View::of(&envelope, payload.as_bytes());
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    index.matches(&view, &mut Scratch::default(), &mut found);
    index.scan(&view, &mut expected);
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{filters} on {payload}");
}
