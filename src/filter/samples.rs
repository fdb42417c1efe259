//! Random filters and events for tests. Few names and values, so that they meet often.

use proptest::{collection::vec, prelude::*, sample::select};

use crate::domain::{DataEncoding, Envelope};

pub(crate) fn envelope() -> Envelope {
    Envelope {
        id: Some("1".into()),
        source: "/shop".into(),
        event_type: "finance.PaymentCreated".into(),
        subject: Some("order/7".into()),
        time: None,
        datacontenttype: None,
        dataschema: None,
        extensions: Some(r#"{"tenant":"acme","priority":5,"urgent":true}"#.into()),
        encoding: DataEncoding::Json,
    }
}

const NAMES: [&str; 5] = ["a", "b", "c", "é", "a b"];

const SCALARS: [&str; 21] = [
    "0",
    "1",
    "1.0",
    "-0",
    "2",
    "10e-1",
    "-1",
    "1.5",
    "9007199254740992",
    "9007199254740993",
    "1e400",
    "true",
    "false",
    "null",
    r#""""#,
    r#""a""#,
    r#""ab""#,
    r#""abc""#,
    r#""b""#,
    r#""é""#,
    r#""1""#,
];

fn scalars() -> impl Strategy<Value = String> {
    select(&SCALARS[..]).prop_map(str::to_owned)
}

fn step() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(&NAMES[..]).prop_map(|name| format!("[\"{name}\"]")),
        1 => (-3i64..3).prop_map(|index| format!("[{index}]")),
    ]
}

fn singular(root: &'static str) -> impl Strategy<Value = String> {
    vec(step(), 0..3).prop_map(move |steps| format!("{root}{}", steps.concat()))
}

fn attribute() -> impl Strategy<Value = String> {
    let all = [
        "event.type",
        "event.subject",
        "event.source",
        "event.extensions.tenant",
        "event.extensions.x",
    ];
    select(all.to_vec()).prop_map(str::to_owned)
}

/// A segment of a path to many nodes that tests nothing.
pub(crate) fn plain_segment() -> impl Strategy<Value = String> {
    let bound = || prop_oneof![Just(String::new()), (-4i64..4).prop_map(|n| n.to_string())];
    prop_oneof![
        4 => step(),
        2 => Just("[*]".to_owned()),
        1 => select(&NAMES[..]).prop_map(|name| format!("..[\"{name}\"]")),
        1 => Just("..[*]".to_owned()),
        1 => (0i64..3).prop_map(|index| format!("..[{index}]")),
        2 => (bound(), bound()).prop_map(|(start, end)| format!("[{start}:{end}]")),
        1 => (bound(), bound(), -2i64..3).prop_map(|(start, end, step)| format!("[{start}:{end}:{step}]")),
        1 => (0i64..3, select(&NAMES[..])).prop_map(|(index, name)| format!("[{index}, '{name}', -1]")),
    ]
}

fn query(root: &'static str) -> impl Strategy<Value = String> {
    vec(plain_segment(), 1..4)
        .prop_map(move |segments| format!("{root}{}", segments.concat()))
        .prop_filter("costs too much", |path| path.matches("..").count() < 2)
}

fn operand(root: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        8 => singular(root),
        1 => singular("$"),
        4 => scalars(),
        1 => attribute(),
        1 => singular(root).prop_map(|path| format!("length({path})")),
        1 => query(root).prop_map(|path| format!("count({path})")),
        1 => query(root).prop_map(|path| format!("value({path})")),
    ]
}

fn leaf(root: &'static str) -> impl Strategy<Value = String> {
    let operator = select(vec!["==", "==", "!=", "<", "<=", ">", ">="]);
    let text = select(vec!["starts_with", "ends_with", "contains"]);
    let regex = select(vec!["match", "search"]);
    let pattern = select(vec!["a.*", "b|c", ".", "[a-z]+", "é"]);
    prop_oneof![
        6 => (operand(root), operator.clone(), scalars()).prop_map(|(a, o, b)| format!("{a} {o} {b}")),
        2 => (operand(root), operator, operand(root)).prop_map(|(a, o, b)| format!("{a} {o} {b}")),
        2 => (operand(root), vec(scalars(), 1..4)).prop_map(|(a, list)| format!("{a} in [{}]", list.join(", "))),
        2 => singular(root),
        1 => query(root),
        2 => (text, singular(root), operand(root)).prop_map(|(f, a, b)| format!("{f}({a}, {b})")),
        1 => (regex, singular(root), pattern).prop_map(|(f, a, p)| format!("{f}({a}, '{p}')")),
    ]
}

fn condition(root: &'static str) -> BoxedStrategy<String> {
    leaf(root)
        .prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" && "))),
                vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" || "))),
                inner.prop_map(|part| format!("!({part})")),
            ]
        })
        .boxed()
}

/// Filters of every kind that are never refused.
pub(crate) fn filters() -> impl Strategy<Value = String> {
    let tested =
        (singular("$"), condition("@")).prop_map(|(path, test)| format!("{path}[?{test}]"));
    prop_oneof![8 => condition("$"), 1 => tested].prop_filter("is refused for its size", |text| {
        super::Filter::parse(text).map_or_else(
            |error| {
                // Only the limits may refuse what the grammar above makes.
                assert!(error.expected.starts_with("at most"), "{text}: {error}");
                false
            },
            |_| true,
        )
    })
}

/// JSON texts with the names and values of [`filters`], and names that occur twice.
pub(crate) fn payloads() -> impl Strategy<Value = String> {
    scalars().prop_recursive(3, 24, 5, |inner| {
        let name = select(vec!["a", "b", "c", "é", "a b", "\\u0061", "z"]);
        let member = (name, inner.clone()).prop_map(|(name, value)| format!("\"{name}\": {value}"));
        prop_oneof![
            3 => vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(","))),
            1 => vec(inner, 0..4).prop_map(|elements| format!("[{}]", elements.join(" , "))),
        ]
    })
}
