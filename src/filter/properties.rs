//! What holds for every filter and every event: properties on random ones.

use proptest::{collection::vec, prelude::*};
use serde_json_path::JsonPath;

use super::{
    Filter, Index, KeyPath, Scratch, View,
    ast::{Expr, Path, Query},
    eval::Scope,
    json::Document,
    samples, select,
};

use crate::domain::{DataEncoding, Envelope, TypePattern};

/// The entry points of the fuzzer, for want of nightly Rust in every test run.
#[path = "../../fuzz/entries/filter.rs"]
mod fuzz;

/// The words of the language in any order: nearer to filters than random characters.
fn near_filters() -> impl Strategy<Value = String> {
    let words = [
        "$",
        "@",
        ".",
        "..",
        "[",
        "]",
        "(",
        ")",
        "?",
        "*",
        ":",
        ",",
        "!",
        "==",
        "!=",
        "<",
        "<=",
        "&&",
        "||",
        "in",
        "true",
        "null",
        "1",
        "-1",
        "1e9",
        "'a'",
        "\"\\u00e9\"",
        "a",
        "event",
        "type",
        "extensions",
        "length",
        "count",
        "value",
        "match",
        "search",
        "contains",
        " ",
        "=",
        "é",
        "\\",
    ];
    vec(prop::sample::select(words.to_vec()), 0..24).prop_map(|words| words.concat())
}

fn plain_query(text: &str) -> Option<Box<Query>> {
    let filter = Filter::parse(text).ok()?;
    match filter.0.first() {
        Some(Expr::Exists(Path::Many(query))) => Some(query.clone()),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn printing_and_parsing_gives_the_same_filter(text in samples::filters()) {
        let filter = Filter::parse(&text).expect("samples are filters");
        let canonical = filter.to_string();
        prop_assert_eq!(&Filter::parse(&canonical).expect("canonical text is a filter"), &filter);
        prop_assert_eq!(Filter::parse(&canonical).expect("a filter").to_string(), canonical);
    }

    #[test]
    fn a_filter_is_explained_if_and_only_if_it_does_not_match(
        text in samples::filters(),
        payload in samples::payloads(),
    ) {
        let envelope = samples::envelope();
        let view = View::of(&envelope, payload.as_bytes());
        let filter = Filter::parse(&text).expect("samples are filters");
        let why = filter.explain(&view);
        prop_assert_eq!(why.is_none(), filter.matches(&view));
        if let Some(why) = why {
            prop_assert!(!Filter::parse(&why.clause).expect("a clause is a filter").matches(&view));
            let value = why.value.as_deref().unwrap_or("null");
            prop_assert!(Document::parse(value).is_some(), "{} is no JSON", value);
        }
    }

    /// The negation of a filter matches what the filter does not.
    #[test]
    fn negation_is_exact(text in samples::filters(), payload in samples::payloads()) {
        let envelope = samples::envelope();
        let view = View::of(&envelope, payload.as_bytes());
        let negated = format!("!({text})");
        if let (Ok(filter), Ok(negated)) = (Filter::parse(&text), Filter::parse(&negated)) {
            prop_assert_ne!(filter.matches(&view), negated.matches(&view));
        }
    }

    #[test]
    fn no_text_and_no_payload_does_harm(
        text in prop_oneof![near_filters(), ".{0,80}"],
        payload in prop_oneof![samples::payloads(), "[\\[\\]{}\",:0-9a-z\\\\. -]{0,40}"],
    ) {
        let envelope = samples::envelope();
        let view = View::of(&envelope, payload.as_bytes());
        if let Ok(key) = KeyPath::parse(&text) {
            let _ = key.key(&view);
        }
        match Filter::parse(&text) {
            Ok(filter) => {
                let _ = filter.explain(&view);
                let again = Filter::parse(&filter.to_string());
                prop_assert_eq!(again.expect("canonical text is a filter"), filter);
            }
            Err(error) => {
                prop_assert!((1..=text.chars().count() + 1).contains(&error.column));
                prop_assert!(!error.message.contains('\n') && !error.expected.is_empty());
            }
        }
    }

    #[test]
    fn the_fuzz_targets_hold(
        filters in vec(prop_oneof![samples::filters(), near_filters(), ".{0,40}"], 0..6),
        payload in samples::payloads(),
    ) {
        filters.iter().for_each(|text| fuzz::parse(text));
        fuzz::matching(&format!("{}\n\n{payload}", filters.join("\n")));
    }

    /// jsonpath_lib on the paths it gets, our own walk, and an implementation of the RFC.
    #[test]
    fn all_three_walks_select_the_same_nodes(
        segments in vec(samples::plain_segment(), 1..4),
        payload in samples::payloads(),
    ) {
        let text = format!("${}", segments.concat());
        let Some(query) = plain_query(&text) else { return Ok(()) };
        let envelope = samples::envelope();
        let view = View::of(&envelope, payload.as_bytes());
        let scope = Scope::of(&view);
        let mut walked = Vec::new();
        let _ = select::walk(&query, scope, &mut |node| {
            walked.push(node.at());
            std::ops::ControlFlow::Continue(())
        });
        // The crate's tree has no duplicate names and other numbers: compare how many there are.
        // Numbers beyond floats are none of this test's business.
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(&payload) {
            let oracle = JsonPath::parse(&text).expect("the RFC knows it").query(&value).len();
            prop_assert_eq!(walked.len(), oracle, "walk of {} on {}", text, payload);
        }
        prop_assert_eq!(select::count(&Path::Many(query.clone()), scope), walked.len(), "{}", text);
        let only = select::only(&query, scope).map(|node| node.at());
        prop_assert_eq!(only, if walked.len() == 1 { Some(walked[0]) } else { None }, "{}", text);
    }
}
