//! Alert events: the runtime's own, told once, taken by name only, and never about themselves.

use std::{collections::BTreeSet, fs, path::Path};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Database, TestRuntime, eventually};

const FAILS: &str = "export default () => { throw new Error('no stock for \"BOX-7\"'); }";
const CREATED: &str = "tripline.dead_letter.created";

/// Both databases; one that is not there is passed over.
async fn on_each(test: impl AsyncFn(Database)) {
    test(Database::Sqlite).await;
    if Database::Postgres.available() {
        test(Database::Postgres).await;
    }
}

/// The data of the alerts of a type, once there are `count`; more fail the test.
async fn alerts(rt: &TestRuntime, event_type: &str, count: usize) -> Vec<Value> {
    let found = rt.events(event_type, count).await;
    found.into_iter().map(|event| event["data"].clone()).collect()
}

#[tokio::test]
async fn a_dead_letter_is_told_once_and_to_those_who_name_it() {
    on_each(async |database| {
        let rt = TestRuntime::with(database, "").await;
        rt.subscription("watch").on("tripline.**").script("export default (p) => p.id").add().await;
        rt.subscription("everything").on("**").add().await;
        rt.subscription("fails").on("job.*").script(FAILS).attempts(2, 1).add().await;
        let died = rt.publish("job.due", json!({})).await;
        let letter = rt.dead_letter("fails").await;

        let event = rt.events(CREATED, 1).await.remove(0);
        assert_eq!((&event["source"], &event["hop"]), (&json!("/tripline"), &json!(1)));
        assert_eq!(event["cause"]["event_id"], died);
        let told = &event["data"];
        for field in [
            "id",
            "subscription_id",
            "subscription_name",
            "script_id",
            "script_version",
            "error_kind",
            "last_error",
            "attempts",
            "replays",
            "died_at",
            "first_failed_at",
        ] {
            assert_eq!(told[field], letter.0[field], "{field}");
        }
        assert_eq!((&told["event_id"], &told["event_type"]), (&json!(died), &json!("job.due")));
        assert_eq!(told["link"], format!("/dead-letters/{}", letter.id()));
        let uid = event["uid"].as_str().expect("a uid").to_owned();
        rt.delivery_of(&uid, "watch").await.succeeded().returned(&json!(letter.id()));

        // Whoever takes everything takes the application's: in routing, and wherever it is asked.
        let shown = rt.get(&format!("/api/v1/events/{uid}")).await;
        assert_eq!(shown["deliveries"].as_array().map(Vec::len), Some(1), "{shown:#}");
        let why = rt.get(&format!("/api/v1/events/{uid}/matches")).await;
        let takers: Vec<_> = why["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|item| item["matches"] == true)
            .collect();
        assert_eq!(takers.len(), 1, "{why:#}");
        let everything = format!("/api/v1/subscriptions/{}", rt.id_of("everything"));
        let back = rt
            .post(
                &format!("{everything}/backfill"),
                &json!({ "from": "2000-01-01T00:00:00Z", "dry_run": true }),
            )
            .await;
        assert_eq!(back["matched"], 0, "{back:#}");
        let test = rt
            .post(&format!("{everything}/backtest"), &json!({ "event_type": "tripline.**" }))
            .await;
        assert_eq!(
            (&test["newly_matched"]["count"], &test["no_longer_matched"]["count"]),
            (&json!(1), &json!(1)),
            "{test:#}"
        );
        assert_eq!(rt.events("**", 1).await[0]["uid"], died);
        let types = rt.get("/api/v1/event-types").await;
        assert_eq!(types["items"], json!(["job.due", CREATED]));

        // Dead again in a replay: the same letter, told again.
        rt.post(&format!("/api/v1/dead-letters/{}/replay", letter.id()), &json!({})).await;
        let told = alerts(&rt, CREATED, 2).await;
        let replays: BTreeSet<_> =
            told.iter().map(|told| told["replays"].as_u64().unwrap()).collect();
        assert_eq!(replays, BTreeSet::from([0, 1]));
        assert!(told.iter().all(|told| told["id"] == letter.id()));
    })
    .await;
}

#[tokio::test]
async fn what_fails_to_handle_alerts_causes_no_more_of_them() {
    let rt = TestRuntime::with(Database::Sqlite, "[supervisor.breaker]\ndead_letters = 2").await;
    rt.subscription("watch").on("tripline.**").script(FAILS).attempts(1, 1).add().await;
    rt.subscription("fails").on("job.*").script(FAILS).attempts(1, 1).add().await;
    rt.publish("job.one", json!({})).await;
    rt.dead_letter("watch").await;
    // Its second dead letter suspends each of them: that is told, once each.
    rt.publish("job.two", json!({})).await;
    let told = alerts(&rt, "tripline.subscription.suspended", 2).await;
    let names: BTreeSet<_> =
        told.iter().map(|told| told["subscription_name"].as_str().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["fails", "watch"]));
    let told = alerts(&rt, CREATED, 2).await;
    assert!(told.iter().all(|told| told["subscription_name"] == "fails"), "{told:#?}");
    assert_eq!(rt.all("/api/v1/events?type=tripline.**").await.len(), 4);
}

/// The alert descends from what died, so a loop through other events ends where chains of emits do.
#[tokio::test]
async fn a_loop_through_alerts_ends_at_max_hops() {
    let rt = TestRuntime::with(Database::Sqlite, "[limits]\nmax_hops = 5").await;
    let again = "export default () => sdk.events.emit('job.again', {})";
    rt.subscription("watch").on(CREATED).script(again).attempts(1, 1).add().await;
    rt.subscription("fails").on("job.*").script(FAILS).attempts(1, 1).add().await;
    rt.publish("job.due", json!({})).await;
    rt.dead_letter("watch").await.because("hop_limit");
    assert_eq!(alerts(&rt, CREATED, 3).await.len(), 3);
}

#[tokio::test]
async fn a_storm_is_told_in_part_and_counted_in_full() {
    let mut rt =
        TestRuntime::with(Database::Sqlite, "[supervisor.breaker]\ndead_letters = 0").await;
    rt.subscription("watch").on("tripline.**").add().await;
    rt.subscription("fails").on("job.*").script(FAILS).attempts(1, 1).add().await;
    let jobs: Vec<Value> =
        (0..300).map(|n| json!({ "type": "job.due", "data": { "n": n } })).collect();
    rt.post("/api/v1/events", &json!(jobs)).await;
    eventually("300 dead letters", async || {
        let dead = rt.all("/api/v1/dead-letters").await.len();
        if dead == 300 { Ok(()) } else { Err(dead) }
    })
    .await;
    assert_eq!(alerts(&rt, CREATED, 20).await.len(), 20);
    // The minute ends early when the server stops.
    assert!(rt.server.stop().success());
    rt.server.start().await;
    let sum = alerts(&rt, "tripline.dead_letter.suppressed", 1).await.remove(0);
    assert_eq!(
        (&sum["count"], &sum["subscription_name"]),
        (&json!(280), &json!("fails")),
        "{sum:#}"
    );
    assert_eq!(alerts(&rt, CREATED, 20).await.len(), 20);
}

#[tokio::test]
async fn suspending_and_resuming_are_told() {
    on_each(async |database| {
        let rt = TestRuntime::with(database, "[supervisor.breaker]\ndead_letters = 2").await;
        rt.subscription("watch").on("tripline.subscription.*").add().await;
        rt.subscription("fails").on("job.*").script(FAILS).attempts(1, 1).add().await;
        for n in 0..2 {
            rt.publish("job.due", json!({ "n": n })).await;
        }
        let told = alerts(&rt, "tripline.subscription.suspended", 1).await.remove(0);
        assert_eq!(told["subscription_id"], rt.id_of("fails"));
        assert!(
            told["reason"].as_str().unwrap().starts_with("circuit breaker: 2 dead letters"),
            "{told}"
        );

        let path = format!("/api/v1/subscriptions/{}", rt.id_of("fails"));
        rt.post(&format!("{path}/pause"), &json!({})).await;
        let resume = format!("{path}/resume");
        let (none, body) = (json!({}), json!({}));
        tokio::join!(rt.post(&resume, &none), rt.post(&resume, &body));
        let resumed = alerts(&rt, "tripline.subscription.resumed", 1).await.remove(0);
        assert_eq!(resumed["suspended_for"], told["reason"]);
        // One that only was paused is no news.
        rt.post(&format!("{path}/pause"), &json!({})).await;
        rt.post(&resume, &json!({})).await;
        assert_eq!(rt.all("/api/v1/events?type=tripline.subscription.**").await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn the_end_of_a_bulk_operation_is_told() {
    on_each(async |database| {
        let rt = TestRuntime::with(database, "").await;
        rt.subscription("watch").on("tripline.bulk.*").add().await;
        rt.subscription("fails").on("job.*").script(FAILS).attempts(1, 1).add().await;
        for n in 0..3 {
            rt.publish("job.due", json!({ "n": n })).await;
            rt.delivery("fails").await.dead();
        }
        eventually("three letters", async || {
            let dead = rt.all("/api/v1/dead-letters").await.len();
            if dead == 3 { Ok(()) } else { Err(dead) }
        })
        .await;
        let bulk = rt.post("/api/v1/dead-letters/discard", &json!({})).await;
        let told = alerts(&rt, "tripline.bulk.finished", 1).await.remove(0);
        assert_eq!((&told["id"], &told["action"]), (&bulk["id"], &json!("discard")));
        assert_eq!((&told["total"], &told["done"]), (&json!(3), &json!(3)));
    })
    .await;
}

/// Kills at any moment: each letter is told exactly once, and each alert handled.
#[tokio::test]
async fn no_crash_loses_or_doubles_an_alert() {
    on_each(async |database| {
        let mut rt = TestRuntime::with(database, "[supervisor.breaker]\ndead_letters = 0").await;
        rt.subscription("watch").on(CREATED).add().await;
        rt.subscription("fails").on("job.*").script(FAILS).attempts(1, 1).add().await;
        for round in 0..4 {
            for n in 0..4 {
                rt.publish("job.due", json!({ "round": round, "n": n })).await;
            }
            // Before, amid and after the letters, as the dice fall.
            tokio::time::sleep(std::time::Duration::from_millis(rand::random_range(0..60))).await;
            rt.crash().await;
        }
        let letters = eventually("16 dead letters", async || {
            let dead = rt.all("/api/v1/dead-letters").await;
            if dead.len() == 16 { Ok(dead) } else { Err(dead.len()) }
        })
        .await;
        let told = rt.events(CREATED, 16).await;
        let ids = |all: &[Value]| -> BTreeSet<String> {
            all.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
        };
        let data: Vec<Value> = told.iter().map(|event| event["data"].clone()).collect();
        assert_eq!(ids(&data), ids(&letters));
        for event in told {
            rt.delivery_of(event["uid"].as_str().unwrap(), "watch").await.succeeded();
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_else_publishes_types_of_the_runtime() {
    let rt = TestRuntime::start().await;
    rt.subscription("watch").on("tripline.**").add().await;
    let publish = async |body: Value| rt.request(Method::POST, "/api/v1/events", Some(&body)).await;
    let event = json!({ "type": CREATED, "data": {} });
    let problem = publish(event.clone()).await.refused(422, "invalid_field");
    assert_eq!(problem["field"], "type");
    let batch = json!([{ "type": "a", "data": {} }, event]);
    let problem = publish(batch).await.refused(422, "invalid_field");
    assert!(problem["detail"].as_str().unwrap().contains("tripline"), "{problem}");
    publish(json!({ "type": "tripline", "data": {} })).await.refused(422, "invalid_field");
    publish(json!({ "type": "tripline2.mine", "data": {} })).await.ok("a type of one's own");

    let emits = "export default () => sdk.events.emit('tripline.disk.full', {})";
    rt.subscription("emits").on("test.*").script(emits).attempts(1, 1).add().await;
    rt.publish("test.emit", json!({})).await;
    rt.dead_letter("emits").await.because("emit_rejected").saying("tripline");

    let secret = json!({ "value": "hush-hush-hush" });
    rt.request(Method::PUT, "/api/v1/secrets/key", Some(&secret)).await.ok("a secret");
    let hook = json!({ "name": "tripline", "preset": "hmac", "secrets": ["key"] });
    let refused = rt.request(Method::POST, "/api/v1/hooks", Some(&hook)).await;
    assert_eq!(refused.refused(422, "invalid_field")["field"], "event_type");

    // Trying a handler on one is no publishing.
    let test = json!({ "source": "export default (p, c) => c.type", "language": "javascript", "event": event });
    let tried = rt.post("/api/v1/scripts/test", &test).await;
    assert_eq!(tried["result"], CREATED, "{tried:#}");
    assert!(
        rt.all("/api/v1/events?type=tripline.**").await.iter().all(|one| one["type"] == CREATED)
    );
}

#[tokio::test]
async fn nothing_is_published_that_nobody_takes() {
    for (config, pattern) in [("", "job.**"), ("[alerts]\nevents = false", "tripline.**")] {
        let rt = TestRuntime::with(Database::Sqlite, config).await;
        rt.subscription("watch").on(pattern).add().await;
        rt.subscription("fails").on("job.*").script(FAILS).attempts(1, 1).add().await;
        rt.publish("job.due", json!({})).await;
        rt.dead_letter("fails").await;
        rt.publish("job.other", json!({})).await;
        rt.delivery("fails").await.dead();
        assert_eq!(rt.all("/api/v1/events").await.len(), 2, "{config:?} {pattern}");
    }
}

/// The example as it stands, but for the address of the dashboard's host.
#[tokio::test]
async fn the_example_tells_a_chat() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let said = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !String::from_utf8_lossy(&request).contains("no stock") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0, "the request ended");
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
        stream.write_all(answer).await.unwrap();
        String::from_utf8_lossy(&request).into_owned()
    });
    let rt = TestRuntime::with(Database::Sqlite, "[fetch]\nsubnets = [\"127.0.0.1/32\"]").await;
    let secret = json!({ "value": format!("http://{address}/hooks/hush") });
    rt.request(Method::PUT, "/api/v1/secrets/chat_webhook", Some(&secret)).await.ok("a secret");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/alerts/notify.ts");
    let script = json!({
        "name": "notify", "language": "typescript", "source": fs::read_to_string(example).unwrap(),
        "fetch_allow": [address.to_string()], "secrets": ["chat_webhook"],
    });
    let script = rt.post("/api/v1/scripts", &script).await["id"].as_str().unwrap().to_owned();
    rt.subscription("notify").on("tripline.**").using(&script).add().await;
    rt.subscription("fails").on("job.*").script(FAILS).attempts(1, 1).add().await;
    rt.publish("job.due", json!({})).await;
    let letter = rt.dead_letter("fails").await;
    let said = said.await.unwrap();
    assert!(said.starts_with("POST /hooks/hush "), "{said}");
    assert!(said.contains("fails: job.due is dead. exception: no stock"), "{said}");
    assert!(said.contains(&format!("/dead-letters/{}", letter.id())), "{said}");
}
