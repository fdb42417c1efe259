//! Why and why not: backtests, events that nobody took, and near misses.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Database, TestRuntime, eventually};

#[tokio::test]
async fn a_backtest_equals_brute_force_on_sqlite() {
    backtest_equals_brute_force(Database::Sqlite).await;
}

#[tokio::test]
async fn a_backtest_equals_brute_force_on_postgres() {
    if Database::Postgres.available() {
        backtest_equals_brute_force(Database::Postgres).await;
    }
}

async fn backtest_equals_brute_force(database: Database) {
    let rt = TestRuntime::with(database, "").await;
    rt.subscription("big").on("pay.*").filter("$.amount > 500").add().await;
    let payload = |n: u64| (["pay.in", "pay.out", "other"][n as usize % 3], n * 7919 % 1000);
    let events: Vec<Value> = (0..700)
        .map(|n| json!({ "type": payload(n).0, "data": { "amount": payload(n).1 } }))
        .collect();
    let ids = rt.post("/api/v1/events", &json!(events)).await["ids"].clone();
    let path = format!("/api/v1/subscriptions/{}/backtest", rt.id_of("big"));

    let changed = json!({ "filter": "$.amount >= 250 && $.amount <= 750", "event_type": "pay.in" });
    for last in [1, 333, 700, 1_000] {
        let mut body = changed.clone();
        body["last"] = last.into();
        let answer = rt.post(&path, &body).await;
        let (mut newly, mut lost, mut both, mut neither) = (Vec::new(), Vec::new(), 0, 0);
        for n in (0..700).rev().take(last as usize) {
            let (event_type, amount) = payload(n);
            let before = event_type.starts_with("pay.") && amount > 500;
            let after = event_type == "pay.in" && (250..=750).contains(&amount);
            match (before, after) {
                (false, true) => newly.push(ids[n as usize].clone()),
                (true, false) => lost.push(ids[n as usize].clone()),
                (true, true) => both += 1,
                (false, false) => neither += 1,
            }
        }
        let shown = |kind: &str| -> Vec<Value> {
            let examples = answer[kind]["examples"].as_array().unwrap();
            assert!(examples.iter().all(|one| one["why_not"]["clause"].is_string()), "{answer}");
            examples.iter().map(|one| one["event_id"].clone()).collect()
        };
        assert_eq!(answer["newly_matched"]["count"], newly.len(), "of {last}");
        assert_eq!(answer["no_longer_matched"]["count"], lost.len(), "of {last}");
        assert_eq!(answer["unchanged"], json!({ "matched": both, "unmatched": neither }));
        assert_eq!(answer["checked"], last.min(700));
        newly.truncate(20);
        lost.truncate(20);
        assert_eq!((shown("newly_matched"), shown("no_longer_matched")), (newly, lost));
    }

    // Without a change there is no difference; without a filter the type alone counts.
    let same = rt.post(&path, &json!({})).await;
    assert_eq!(same["newly_matched"]["count"], 0);
    assert_eq!(same["no_longer_matched"]["count"], 0);
    let all = rt.post(&path, &json!({ "filter": null })).await;
    assert_eq!(all["no_longer_matched"]["count"], 0);
    assert_eq!(all["filter"], Value::Null);
    let wrong = rt.request(Method::POST, &path, Some(&json!({ "filter": "$.a = 1" }))).await;
    assert_eq!(wrong.refused(422, "filter_invalid")["column"], 5);
    let wrong = rt.request(Method::POST, &path, Some(&json!({ "last": 0 }))).await;
    assert_eq!(wrong.refused(422, "invalid_field")["field"], "last");
}

#[tokio::test]
async fn events_that_nobody_took_are_counted_and_listed_on_sqlite() {
    nobody_took(Database::Sqlite).await;
}

#[tokio::test]
async fn events_that_nobody_took_are_counted_and_listed_on_postgres() {
    if Database::Postgres.available() {
        nobody_took(Database::Postgres).await;
    }
}

async fn nobody_took(database: Database) {
    let rt = TestRuntime::with(database, "").await;
    rt.subscription("vip").on("order.placed").filter("$.vip == true").add().await;
    let taken = rt.publish("order.placed", json!({ "vip": true })).await;
    let refused = rt.publish("order.placed", json!({ "vip": false })).await;
    let mistyped = rt.publish("order.Placed", json!({ "vip": true })).await;
    let stranger = rt.publish("user.gone", json!({})).await;
    rt.delivery_of(&taken, "vip").await;

    let stats = eventually("three unmatched events", async || {
        let stats = rt.get("/api/v1/stats").await;
        if stats["events"]["unmatched"] == 3 { Ok(stats) } else { Err(stats) }
    })
    .await;
    let types = ["order.Placed", "order.placed", "user.gone"];
    let expected: Vec<Value> = types.iter().map(|t| json!({ "type": t, "count": 1 })).collect();
    assert_eq!(stats["events"]["unmatched_types"], json!(expected));
    let listed = rt.all("/api/v1/events?unmatched=true").await;
    let listed: Vec<&str> = listed.iter().map(|event| event["uid"].as_str().unwrap()).collect();
    assert_eq!(listed, [&*stranger, &*mistyped, &*refused]);

    let why = async |event: &str| rt.get(&format!("/api/v1/events/{event}/matches")).await;
    assert_eq!(why(&taken).await["items"][0]["matches"], true);
    let clause = &why(&refused).await["items"][0]["why_not"];
    assert_eq!(clause, &json!({ "clause": "$.vip == true", "value": false }));
    // Nearly the right type: upper and lower case.
    let clause = &why(&mistyped).await["items"][0]["why_not"];
    assert_eq!(clause, &json!({ "clause": "event.type is order.placed", "value": "order.Placed" }));
    assert_eq!(why(&stranger).await["items"], json!([]));
}
