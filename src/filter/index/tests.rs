//! The index against its oracle: whatever was added and removed, it finds what a scan finds.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    super::{Filter, View, samples},
    Index, Scratch,
};
use crate::domain::{Envelope, TypePattern};

fn pattern(text: &str) -> TypePattern {
    TypePattern::parse(text).expect("a pattern")
}

fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

struct Fixture {
    index: Index<usize>,
    scratch: Scratch,
}

impl Fixture {
    fn new(subscriptions: &[(&str, &str)]) -> Self {
        let mut index = Index::new();
        for (key, (event_type, text)) in subscriptions.iter().enumerate() {
            index.insert(key, pattern(event_type), (!text.is_empty()).then(|| filter(text)));
        }
        Self { index, scratch: Scratch::default() }
    }

    #[track_caller]
    fn check(&mut self, event_type: &str, payload: &str) -> Vec<usize> {
        let envelope = Envelope { event_type: event_type.into(), ..samples::envelope() };
        let view = View::of(&envelope, payload.as_bytes());
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        self.index.matches(&view, &mut self.scratch, &mut found);
        self.index.scan(&view, &mut expected);
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{event_type} {payload}");
        found
    }

    /// How many candidates the last event had.
    fn candidates(&self) -> usize {
        self.scratch.candidates.len()
    }
}

#[test]
fn types_are_found_exactly_and_by_pattern() {
    let types = ["a.b", "a.*", "a.**", "**", "*", "*.b", "**.b", "a.*.c", "a.**.c", "ab"];
    let subscriptions: Vec<(&str, &str)> = types.iter().map(|text| (*text, "")).collect();
    let mut fixture = Fixture::new(&subscriptions);
    assert_eq!(fixture.check("a.b", "1"), [0, 1, 2, 3, 5, 6]);
    assert_eq!(fixture.check("a", "1"), [2, 3, 4]);
    assert_eq!(fixture.check("ab", "1"), [3, 4, 9]);
    assert_eq!(fixture.check("a.x.c", "1"), [2, 3, 7, 8]);
    assert_eq!(fixture.check("b", "1"), [3, 4, 6]);
    assert_eq!(fixture.check("é", "1"), [3, 4]);
}

#[test]
fn every_kind_of_predicate_is_found() {
    let mut fixture = Fixture::new(&[
        ("t", "$.a == 1"),
        ("t", "$.a in [1, 'x', null, 1.0]"),
        ("t", "starts_with($.s, 'bo') && ends_with($.s, 'x')"),
        ("t", "$.a > 0 && $.a <= 1"),
        ("t", "2 > $.a"),
        ("t", "$.s >= 'bo' && 'bp' > $.s"),
        ("t", "$.deep.b[-1]"),
        ("t", "!($.a != 1)"),
        ("t", "!($.a > 5)"),
        ("t", "$.a == 7 || $.s == 'box'"),
        ("t", "event.subject == 'order/7' && event.extensions.priority == 5"),
        ("t", "$.a == true || $.a == null || $.a == '1'"),
        ("t", "$.a > 3 && $.a < 3"),
        ("t", "$..b"),
        ("t", "$.a <= null"),
        ("t", "starts_with($.s, '')"),
    ]);
    assert_eq!(
        fixture.check("t", r#"{"a":1.0,"s":"box","deep":{"b":[0]}}"#),
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 15]
    );
    assert_eq!(fixture.check("t", r#"{"a":"1"}"#), [8, 10, 11]);
    assert_eq!(fixture.check("t", r#"{"a":null}"#), [1, 8, 10, 11, 14]);
    assert_eq!(fixture.check("t", "[]"), [8, 10]);
    assert!(fixture.check("u", r#"{"a":1}"#).is_empty());
    // The last of equal names counts, with all below it.
    assert_eq!(fixture.check("t", r#"{"a":1,"deep":{"b":[1]},"a":9,"deep":{}}"#), [10]);
    assert_eq!(fixture.index.residual(), 2);
    assert!(fixture.index.remove(8) && !fixture.index.remove(8));
    assert_eq!(fixture.index.residual(), 1);
}

/// What makes matching flat: an event's candidates are about its matches.
#[test]
fn crowded_places_are_divided() {
    let texts: Vec<String> = (0..2_000)
        .map(|i| match i % 4 {
            0 => format!("$.amount > {} && $.currency == 'C{}'", 1_000 + i, i % 20),
            1 => format!("$.amount > {}", 1_000_000 + i),
            2 => format!("$.at >= {} && $.at < {}", i * 10, i * 10 + 40),
            _ => format!("starts_with($.sku, 'S{i}-')"),
        })
        .collect();
    let subscriptions: Vec<(&str, &str)> = texts.iter().map(|text| ("t", text.as_str())).collect();
    let mut fixture = Fixture::new(&subscriptions);
    let found = fixture.check("t", r#"{"amount":1100,"currency":"C0","at":5025,"sku":"S3-1"}"#);
    assert!(found.len() > 3 && fixture.candidates() < found.len() + 20, "{}", fixture.candidates());
    for key in 0..2_000 {
        assert!(fixture.index.remove(key));
    }
    assert!(
        fixture.index.is_empty() && fixture.index.alternatives.0.iter().all(|all| all.is_empty())
    );
    assert!(fixture.index.popularity.is_empty());
    fixture.check("t", r#"{"amount":1100}"#);
    assert_eq!(fixture.candidates(), 0);
}

#[test]
fn many_intervals_of_any_shape_are_found() {
    let texts: Vec<String> = (0..600)
        .map(|i| {
            let low = (i * 7919) % 1_000 - 500;
            format!("$.n >= {low} && $.n <= {}", low + [0, 1, 5, 300][i as usize % 4])
        })
        .collect();
    let subscriptions: Vec<(&str, &str)> = texts.iter().map(|text| ("t", text.as_str())).collect();
    let mut fixture = Fixture::new(&subscriptions);
    for n in (-510..820).step_by(3) {
        let found = fixture.check("t", &format!(r#"{{"n":{n}}}"#));
        assert_eq!(fixture.candidates(), found.len());
    }
    for key in (0..600).filter(|key| key % 3 > 0) {
        fixture.index.remove(key);
    }
    for n in [-500, -3, 0, 1, 499] {
        fixture.check("t", &format!(r#"{{"n":{n}.5}}"#));
    }
}

fn event_types() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "a.b", "a.c", "b.c", "a.b.c"])
}

fn patterns() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "a.b", "a.b", "a.c", "a.*", "*.c", "**", "a.**", "**.c", "*"])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_index_finds_what_a_scan_finds(
        subscriptions in vec((patterns(), option::weighted(0.9, samples::filters())), 1..120),
        removed in vec(any::<prop::sample::Index>(), 0..40),
        changed in vec((any::<prop::sample::Index>(), patterns(), samples::filters()), 0..20),
        events in vec((event_types(), samples::payloads()), 1..20),
    ) {
        let mut fixture = Fixture::new(&[]);
        for (key, (event_type, text)) in subscriptions.iter().enumerate() {
            fixture.index.insert(key, pattern(event_type), text.as_deref().map(filter));
        }
        for (event_type, payload) in &events {
            fixture.check(event_type, payload);
        }
        for key in removed {
            fixture.index.remove(key.index(subscriptions.len()));
        }
        for (key, event_type, text) in changed {
            fixture.index.insert(key.index(subscriptions.len()), pattern(event_type), Some(filter(&text)));
        }
        for (event_type, payload) in &events {
            fixture.check(event_type, payload);
        }
    }
}
