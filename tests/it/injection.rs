//! List filters take any text for a text: they find what contains it, or say which field is wrong.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Database, TestRuntime, eventually};

/// Names that mean something to a database, a pattern, a URL or a terminal.
const NAMES: [&str; 16] = [
    "plain",
    "Plain Two",
    "100%",
    "under_score",
    "under-score",
    "back\\slash",
    "it's",
    "say \"so\"",
    "a; DROP TABLE scripts; --",
    "' OR '1'='1",
    "%' OR 1=1 --",
    "$1 ?1 :name @x",
    "Ünïcødé ÄÖ",
    "İstanbul ß",
    "日本語 🦀",
    "a&b=c#d+e%2f",
];

/// Texts that are searched for beside the names themselves.
const TEXTS: [&str; 16] = [
    "%",
    "_",
    "\\",
    "'",
    "\"",
    ";",
    "--",
    "%25",
    "%%",
    "\\%",
    "a%b",
    "' OR ''='",
    "*",
    "ÄÖ",
    "🦀",
    "PLAIN",
];

/// What no text may be, or what no index likes.
fn hostile() -> Vec<String> {
    let mut values: Vec<String> =
        TEXTS.iter().chain(&NAMES).map(|text| (*text).to_owned()).collect();
    values.extend(
        ["", " ", "\0", "a\0b", "\u{202e}x", "\u{1b}[2J", "null", "-1", "0", "1e400"]
            .map(str::to_owned),
    );
    values.extend(
        ["18446744073709551616", "[]", "{}", "../..", "1; SELECT pg_sleep(9)"].map(str::to_owned),
    );
    values.push("a".repeat(4_000));
    values.push("%_".repeat(2_000));
    values
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn list_filters_cannot_be_escaped_from_on_sqlite() {
    lists_hold(Database::Sqlite).await;
}

#[tokio::test]
async fn list_filters_cannot_be_escaped_from_on_postgresql() {
    if Database::Postgres.available() {
        lists_hold(Database::Postgres).await;
    }
}

async fn lists_hold(database: Database) {
    let rt = TestRuntime::with(database, "").await;
    fill(&rt).await;
    text_searches_find_what_contains_them(&rt).await;
    every_parameter_takes_or_refuses_every_value(&rt).await;
    forged_cursors_are_refused(&rt).await;
    texts_that_no_store_keeps_are_refused(&rt).await;
}

/// PostgreSQL holds no U+0000: wherever one may be sent it is a 422 that names the member.
async fn texts_that_no_store_keeps_are_refused(rt: &TestRuntime) {
    let id = rt.get("/api/v1/scripts").await["items"][0]["id"].clone();
    let script = |member: &str| {
        let mut script = json!({ "name": "nul", "source": "1", "language": "javascript" });
        script[member] = json!("a\0b");
        ("/api/v1/scripts", member.to_owned(), script)
    };
    let subscription = |member: &str, value: &str| {
        let mut subscription = json!({ "name": "nul", "script_id": id, "event_type": "a" });
        subscription[member] = json!(value);
        ("/api/v1/subscriptions", member.to_owned(), subscription)
    };
    let cases = [
        script("name"),
        script("source"),
        script("description"),
        script("note"),
        subscription("name", "a\0b"),
        subscription("event_type", "a\0b"),
        subscription("filter", "$.a == 'a\0b'"),
        subscription("ordering_key", "$.a\0"),
        ("/api/v1/tokens", "name".into(), json!({ "name": "a\0b", "role": "viewer" })),
        ("/api/v1/dead-letters/discard", "text".into(), json!({ "text": "a\0b" })),
        ("/api/v1/dead-letters/replay", "fingerprint".into(), json!({ "fingerprint": "\0" })),
        ("/api/v1/filters/check", "filter".into(), json!({ "filter": "$.a == '\0'" })),
    ];
    for (path, member, body) in cases {
        let problem =
            rt.request(Method::POST, path, Some(&body)).await.refused(422, "invalid_field");
        assert_eq!(problem["field"], member, "{path}");
    }
}

/// A script and a subscription of each name, a letter whose error is the name, and a key.
async fn fill(rt: &TestRuntime) {
    for (index, name) in NAMES.iter().enumerate() {
        let source = format!("export default () => {{ throw new Error({}) }}", json!(name));
        let add = rt.subscription(name).on(&format!("order.n{index}")).script(&source);
        add.attempts(1, 1).add().await;
        rt.publish(&format!("order.n{index}"), json!({ "name": name })).await;
        let path = format!("/api/v1/kv/names/{}", encoded(name));
        rt.request(Method::PUT, &path, Some(&json!({ "value": name }))).await.ok(&path);
    }
    eventually("a letter of each", async || {
        let count = rt.get("/api/v1/dead-letters/count").await["count"].clone();
        if count == NAMES.len() { Ok(()) } else { Err(count) }
    })
    .await;
}

/// As people search: case is ignored for ASCII at least, and nothing else means anything.
async fn text_searches_find_what_contains_them(rt: &TestRuntime) {
    let searches = [
        ("/api/v1/scripts?text=", "name"),
        ("/api/v1/subscriptions?text=", "name"),
        ("/api/v1/dead-letters?text=", "last_error"),
    ];
    for (path, member) in searches {
        for text in TEXTS.iter().chain(&NAMES) {
            let found = rt.get(&format!("{path}{}&limit=1000", encoded(text))).await;
            let found: BTreeSet<&str> = found["items"]
                .as_array()
                .expect("items")
                .iter()
                .map(|item| item[member].as_str().expect("a text"))
                .collect();
            let (least, most) = expected(text);
            assert!(least.is_subset(&found), "{path} {text:?}: {found:?} lacks some of {least:?}");
            assert!(found.is_subset(&most), "{path} {text:?}: {found:?} is more than {most:?}");
        }
    }
    for prefix in TEXTS.iter().chain(&NAMES) {
        let page = rt.get(&format!("/api/v1/kv/names?prefix={}", encoded(prefix))).await;
        let found: BTreeSet<&str> = page["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|key| key["key"].as_str().expect("a key"))
            .collect();
        let expected: BTreeSet<&str> =
            NAMES.iter().copied().filter(|name| name.starts_with(prefix)).collect();
        assert_eq!(found, expected, "keys that begin with {prefix:?}");
    }
}

/// What must be found, and what may be: databases differ in which letters beyond ASCII have a case.
fn expected(text: &str) -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
    let of = |lower: fn(&str) -> String| {
        NAMES.iter().copied().filter(|name| lower(name).contains(&lower(text))).collect()
    };
    (of(str::to_ascii_lowercase), of(str::to_lowercase))
}

/// Every query parameter of every read in the OpenAPI document.
async fn every_parameter_takes_or_refuses_every_value(rt: &TestRuntime) {
    let document = rt.get("/api/openapi.json").await;
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        let operation = &item["get"];
        let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let path = path.replace("{namespace}", "names");
        let names = parameters.iter().filter(|one| one["in"] == "query");
        for name in names.filter_map(|one| one["name"].as_str()) {
            for value in hostile() {
                let asked = format!("{}?{name}={}", path.replace(['{', '}'], ""), encoded(&value));
                let answer = rt.request(Method::GET, &asked, None).await;
                let shown: String = value.chars().take(40).collect();
                let what =
                    format!("{path} {name}={shown:?}: {} {:.300}", answer.status, answer.body);
                tried += 1;
                if answer.status == 404 {
                    continue;
                }
                if answer.status.is_success() {
                    assert!(!value.contains('\0'), "{what}");
                    continue;
                }
                assert_eq!(answer.status, 422, "{what}");
                let field = answer.body["field"].as_str().unwrap_or_default();
                // Ids are unique within their source alone.
                assert!(field == name || (name, field) == ("id", "source"), "{what}");
            }
        }
    }
    assert!(tried > 1_500, "only {tried} were tried");
}

/// A cursor is what a page gave: not a position that somebody made up, nor one of another list.
async fn forged_cursors_are_refused(rt: &TestRuntime) {
    let lists = ["scripts", "subscriptions", "dead-letters", "events", "runs", "audit", "kv/names"];
    let mut cursors = Vec::new();
    for list in lists {
        let page = rt.get(&format!("/api/v1/{list}?limit=2")).await;
        let next = page["next"].as_str().unwrap_or_else(|| panic!("{list} has more than a page"));
        let rest = rt.get(&format!("/api/v1/{list}?limit=2&cursor={next}")).await;
        assert_ne!(rest["items"][0], page["items"][0], "{list}");
        assert!(next.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{next}");
        cursors.push((list, next.to_owned()));
    }
    for list in lists {
        let mut forged: Vec<String> = hostile();
        forged.extend(
            ["1", "5", "plain", "100.01a20e70-0000-7000-8000-000000000000"].map(str::to_owned),
        );
        for (of, cursor) in &cursors {
            let mut changed = cursor.clone().into_bytes();
            changed[0] = if changed[0] == b'A' { b'B' } else { b'A' };
            forged.push(String::from_utf8(changed).expect("a text"));
            forged.push(cursor[..cursor.len() - 1].to_owned());
            if *of != list {
                forged.push(cursor.clone());
            }
        }
        for cursor in forged {
            let path = format!("/api/v1/{list}?cursor={}", encoded(&cursor));
            let problem: Value =
                rt.request(Method::GET, &path, None).await.refused(422, "invalid_field");
            assert_eq!(problem["field"], "cursor", "{list} {cursor}");
        }
    }
}
