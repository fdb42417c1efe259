//! `sdk.kv`: written with the run's outcome or not at all, read as if runs came one after another.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Database, TestRuntime, eventually};

/// Whatever runs at once: each succeeded run counts once, and nobody pays for a conflict with an
/// attempt.
async fn count_from_everywhere(database: Database) {
    if !database.available() {
        return;
    }
    let rt = TestRuntime::with(database, "").await;
    let source = "
        export default async function () {
            const hits = sdk.kv.shared('hits');
            await sdk.kv.increment('own');
            return await hits.increment('all');
        }";
    const SUBSCRIPTIONS: u64 = 6;
    const EVENTS: u64 = 60;
    for n in 0..SUBSCRIPTIONS {
        let name = format!("count-{n}");
        rt.subscription(&name)
            .on("tick")
            .script(source)
            .with("concurrency", json!(3))
            .attempts(1, 1)
            .add()
            .await;
    }
    let events: Vec<Value> = (0..EVENTS).map(|n| json!({ "type": "tick", "data": n })).collect();
    rt.post("/api/v1/events", &Value::Array(events)).await;

    let total = SUBSCRIPTIONS * EVENTS;
    eventually("every run to have counted", async || {
        // Not there before the first commit.
        let all = rt.request(Method::GET, "/api/v1/kv/hits/all", None).await.body;
        if all["value"] == total { Ok(()) } else { Err(all) }
    })
    .await;
    assert_eq!(rt.get("/api/v1/dead-letters/count?status=dead").await["count"], 0);
    for space in rt.get("/api/v1/kv").await["items"].as_array().expect("namespaces") {
        let path = format!("/api/v1/kv/{}", space["namespace"].as_str().expect("a name"));
        let expected = if space["namespace"] == "hits" { total } else { EVENTS };
        let keys = rt.get(&path).await;
        assert_eq!(keys["items"][0]["value"], expected, "{space:#} {keys:#}");
        assert_eq!(space["keys"], 1);
    }
    let results: Vec<u64> = rt
        .all("/api/v1/runs?outcome=succeeded")
        .await
        .iter()
        .filter_map(|run| run["result"].as_u64())
        .collect();
    let distinct: std::collections::BTreeSet<_> = results.iter().collect();
    assert_eq!(
        (results.len() as u64, distinct.len() as u64),
        (total, total),
        "no two saw the same"
    );
}

#[tokio::test]
async fn a_counter_that_many_runs_hammer_ends_exact_on_sqlite() {
    count_from_everywhere(Database::Sqlite).await;
}

#[tokio::test]
async fn a_counter_that_many_runs_hammer_ends_exact_on_postgres() {
    count_from_everywhere(Database::Postgres).await;
}

/// Keys of a failed attempt are as if it had never been; those of a successful one survive a crash.
async fn all_or_nothing(database: Database) {
    if !database.available() {
        return;
    }
    let mut rt = TestRuntime::with(database, "").await;
    let source = "
        export default async function (payload, context) {
            await sdk.kv.increment('attempts');
            await sdk.kv.set(`try/${context.attempt}`, { at: context.attempt }, { ttl: '1h' });
            if (context.attempt < 3) throw new Error('not yet');
            await sdk.kv.set('text', 'ä😀\\n\"');
            await sdk.kv.remove('gone');
            return (await sdk.kv.list({ prefix: 'try/' })).map((item) => item.key);
        }";
    let added = rt.subscription("keep").on("job").script(source).attempts(3, 10).add().await;
    let space = format!("/api/v1/kv/{}", added["script_id"].as_str().expect("an id"));
    put(&rt, &format!("{space}/gone"), json!({ "value": 1 })).await;

    rt.publish("job", json!({})).await;
    rt.delivery("keep").await.succeeded().after(3).returned(&json!(["try/3"]));
    rt.crash().await;

    let keys = rt.get(&space).await["items"].clone();
    let names: Vec<_> = keys.as_array().expect("keys").iter().map(|key| &key["key"]).collect();
    assert_eq!(names, ["attempts", "text", "try/3"]);
    assert_eq!((&keys[0]["value"], &keys[1]["value"]), (&json!(1), &json!("ä😀\n\"")));
    assert_eq!(keys[2]["value"], json!({ "at": 3 }));
    assert!(keys[2]["expires_at"].is_string() && keys[0]["expires_at"].is_null());
    let usage = &rt.get("/api/v1/kv").await["items"][0];
    let bytes = "attempts1".len() + "text\"ä😀\\n\\\"\"".len() + "try/3{\"at\":3}".len();
    assert_eq!((&usage["keys"], &usage["bytes"]), (&json!(3), &json!(bytes)), "{usage:#}");
}

#[tokio::test]
async fn keys_are_written_with_the_outcome_or_not_at_all_on_sqlite() {
    all_or_nothing(Database::Sqlite).await;
}

#[tokio::test]
async fn keys_are_written_with_the_outcome_or_not_at_all_on_postgres() {
    all_or_nothing(Database::Postgres).await;
}

async fn put(rt: &TestRuntime, path: &str, body: Value) -> Value {
    rt.request(Method::PUT, path, Some(&body)).await.ok(path)
}

#[tokio::test]
async fn keys_expire_and_their_room_comes_back() {
    let rt = TestRuntime::start().await;
    let read = "export default async () => (await sdk.kv.shared('cache').get('rate')) ?? 'none'";
    rt.subscription("read").on("ask").script(read).add().await;
    put(&rt, "/api/v1/kv/cache/rate", json!({ "value": 1.5, "ttl": "10m" })).await;
    rt.publish("ask", json!({})).await;
    rt.delivery("read").await.returned(&json!(1.5));

    put(&rt, "/api/v1/kv/cache/rate", json!({ "value": 1.5, "ttl": 1 })).await;
    eventually("the key to expire", async || {
        let answer = rt.request(Method::GET, "/api/v1/kv/cache/rate", None).await;
        if answer.status == 404 { Ok(()) } else { Err(answer) }
    })
    .await;
    rt.publish("ask", json!({})).await;
    rt.delivery("read").await.returned(&json!("none"));
    eventually("the expired key to be removed", async || {
        let spaces = rt.get("/api/v1/kv").await;
        if spaces["items"] == json!([]) { Ok(()) } else { Err(spaces) }
    })
    .await;
}

#[tokio::test]
async fn a_full_namespace_refuses_runs_and_operators_alike() {
    let config = "[limits]\nkv_namespace_keys = 2\nkv_namespace_bytes = 100";
    let rt = TestRuntime::with(Database::Sqlite, config).await;
    let source = "export default async (job) => sdk.kv.shared('small').set(job.key, job.value)";
    rt.subscription("fill").on("job").script(source).attempts(1, 1).add().await;
    let run = async |key: &str, value: &str| {
        rt.publish("job", json!({ "key": key, "value": value })).await;
        rt.delivery("fill").await
    };
    run("a", "1").await.succeeded();
    run("b", &"x".repeat(200)).await.dead();
    rt.dead_letter("fill").await.because("exception").saying("are full");
    run("b", "1").await.succeeded();
    rt.request(Method::PUT, "/api/v1/kv/small/c", Some(&json!({ "value": 1 })))
        .await
        .refused(409, "conflict");
    rt.delete("/api/v1/kv/small/a").await;
    eventually("the room to come back", async || {
        let answer =
            rt.request(Method::PUT, "/api/v1/kv/small/c", Some(&json!({ "value": 1 }))).await;
        if answer.status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
}

/// A run that read a key before an operator changed it must not build on the old value.
#[tokio::test]
async fn a_run_whose_key_was_changed_meanwhile_goes_again_uncounted() {
    let rt = TestRuntime::start().await;
    let source = "
        export default async function () {
            const gate = sdk.kv.shared('gate');
            const seen = await gate.get('value');
            if (seen === 1) {
                await sdk.events.emit('seen.one', {});
                for (let n = 0; n < 200 && (await gate.list()).length < 2; n++) await new Promise((done) => setTimeout(done, 25));
            }
            await sdk.kv.set('seen', seen);
            return seen;
        }";
    rt.subscription("look").on("go").script(source).attempts(1, 1).add().await;
    put(&rt, "/api/v1/kv/gate/value", json!({ "value": 1 })).await;
    rt.publish("go", json!({})).await;
    eventually("the run to have begun", async || {
        let found = rt.get(&format!("/api/v1/subscriptions/{}", rt.id_of("look"))).await;
        if found["activity"]["host_calls"].as_u64() > Some(0) { Ok(()) } else { Err(found) }
    })
    .await;
    put(&rt, "/api/v1/kv/gate/value", json!({ "value": 2 })).await;
    put(&rt, "/api/v1/kv/gate/zzz", json!({ "value": 0 })).await;
    rt.delivery("look").await.succeeded().after(1).returned(&json!(2));
    rt.events("seen.one", 0).await;
    let found = rt.get(&format!("/api/v1/subscriptions/{}", rt.id_of("look"))).await;
    assert!(found["activity"]["kv_conflicts"].as_u64() > Some(0), "{found:#}");
}

#[tokio::test]
async fn a_test_run_shows_its_writes_and_keeps_none() {
    let rt = TestRuntime::start().await;
    put(&rt, "/api/v1/kv/shared/n", json!({ "value": 41 })).await;
    let source = "
        export default async () => {
            await sdk.kv.set('own', [1], { ttl: 5000 });
            await sdk.kv.shared('shared').remove('old');
            return await sdk.kv.shared('shared').increment('n');
        }";
    let out = rt.post("/api/v1/scripts/test", &json!({ "source": source })).await;
    assert_eq!(out["result"], 42, "{out:#}");
    let write = |namespace: Value, key: &str, value: Value, removed: bool, ttl: Value| json!({ "namespace": namespace, "key": key, "value": value, "removed": removed, "ttl_ms": ttl });
    let expected = json!([
        write(Value::Null, "own", json!([1]), false, json!(5_000.0)),
        write(json!("shared"), "n", json!(42), false, Value::Null),
        write(json!("shared"), "old", Value::Null, true, Value::Null),
    ]);
    assert_eq!(out["kv"], expected);
    assert_eq!(rt.get("/api/v1/kv/shared/n").await["value"], 41);
    assert_eq!(rt.get("/api/v1/kv").await["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn keys_are_listed_in_pages_and_wrong_ones_refused() {
    let rt = TestRuntime::start().await;
    for key in ["a/1", "a/2", "a/Z", "a/é", "b"] {
        let path = format!("/api/v1/kv/list/{}", key.replace('é', "%C3%A9").replace('/', "%2F"));
        put(&rt, &path, json!({ "value": key })).await;
    }
    let page = rt.get("/api/v1/kv/list?prefix=a%2F&limit=2").await;
    assert_eq!(page["items"][1]["key"], "a/2");
    let next = page["next"].as_str().expect("a cursor");
    let rest = rt.get(&format!("/api/v1/kv/list?prefix=a%2F&cursor={next}")).await;
    let keys: Vec<_> = rest["items"].as_array().expect("keys").iter().map(|k| &k["key"]).collect();
    assert_eq!((keys, &rest["next"]), (vec![&json!("a/Z"), &json!("a/é")], &Value::Null));
    let refused = async |path: &str, body: Value| {
        rt.request(Method::PUT, path, Some(&body)).await.refused(422, "invalid_field")["field"]
            .clone()
    };
    assert_eq!(refused("/api/v1/kv/Not%20one/k", json!({ "value": 1 })).await, "namespace");
    assert_eq!(refused("/api/v1/kv/list/a%00", json!({ "value": 1 })).await, "key");
    assert_eq!(refused("/api/v1/kv/list/a", json!({ "value": "\u{0}" })).await, "value");
    assert_eq!(refused("/api/v1/kv/list/a", json!({ "value": 1, "ttl": "soon" })).await, "ttl");
    let deep = format!("{}{}", "[".repeat(110), "]".repeat(110));
    let deep: Value = serde_json::from_str(&deep).expect("JSON");
    assert_eq!(refused("/api/v1/kv/list/a", json!({ "value": deep })).await, "value");
    rt.request(Method::GET, "/api/v1/kv/list/none", None).await.refused(404, "not_found");
}
