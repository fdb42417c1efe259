//! What changes while deliveries are in hand: definitions, pauses, crashes.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{TestRuntime, eventually};

async fn activity(rt: &TestRuntime, path: &str, what: &str, holds: impl Fn(&Value) -> bool) {
    eventually(what, async || {
        let activity = rt.get(path).await["activity"].clone();
        if holds(&activity) { Ok(()) } else { Err(activity) }
    })
    .await;
}

/// They were in hand when the filter changed, and are read from the log again after the pause: under
/// the filter that they had met.
#[tokio::test]
async fn what_met_the_old_filter_runs_although_there_was_a_pause_since() {
    let rt = TestRuntime::start().await;
    rt.subscription("orders")
        .on("order.*")
        .filter("$.n > 0")
        .with("limits", json!({ "rate_limit": { "runs": 1, "per": "1h" } }))
        .add()
        .await;
    let path = format!("/api/v1/subscriptions/{}", rt.id_of("orders"));
    let mut uids = Vec::new();
    for n in 1..=3 {
        uids.push(rt.publish("order.made", json!({ "n": n })).await);
    }
    activity(&rt, &path, "the first to run", |now| now["succeeded"] == 1).await;

    rt.patch(&path, &json!({ "filter": "$.n > 100" })).await;
    rt.post(&format!("{path}/pause"), &json!({})).await;
    rt.patch(&path, &json!({ "limits": { "rate_limit": null } })).await;
    rt.post(&format!("{path}/resume"), &json!({})).await;

    for uid in &uids {
        rt.delivery_of(uid, "orders").await.succeeded();
    }
    let late = rt.publish("order.made", json!({ "n": 4 })).await;
    assert_eq!(rt.get(&format!("/api/v1/events/{late}")).await["deliveries"], json!([]));
}

/// Some are retries in the store, some are on their way there.
#[tokio::test]
async fn what_is_discarded_with_its_subscription_leaves_no_letter() {
    let mut rt = TestRuntime::start().await;
    let fails = "export default () => { throw new Error('no'); }";
    rt.subscription("gone").on("job.*").script(fails).attempts(9, 60_000).add().await;
    rt.subscription("stays").on("job.*").add().await;
    let path = format!("/api/v1/subscriptions/{}", rt.id_of("gone"));
    let mut uids = Vec::new();
    for n in 0..20 {
        uids.push(rt.publish("job.due", json!({ "n": n })).await);
    }
    activity(&rt, &path, "a retry that waits", |now| now["waiting"].as_u64() > Some(0)).await;
    rt.request(Method::DELETE, &format!("{path}?discard=true"), None).await.ok("the deletion");
    // What was answered is on disk.
    rt.crash().await;

    assert_eq!(rt.all("/api/v1/dead-letters").await, Vec::<Value>::new());
    for uid in &uids {
        rt.delivery_of(uid, "stays").await.succeeded();
        let event = rt.get(&format!("/api/v1/events/{uid}")).await;
        let states = event["deliveries"].as_array().unwrap().iter().map(|one| &one["status"]);
        let states: Vec<&Value> = states.collect();
        assert!(states.contains(&&json!("discarded")), "{event:#}");
    }
}

/// A slow delivery keeps the cursor back, so all that settled above it is read again after a crash
/// and after each pause: and passed over each time.
#[tokio::test]
async fn what_settled_behind_a_slow_delivery_runs_once_across_a_crash_and_a_pause() {
    let mut rt = TestRuntime::start().await;
    let source = "export default async ({ n }) => {
        if (n === 1) await new Promise((done) => setTimeout(done, 3000));
        return n;
    }";
    rt.subscription("jobs").on("job.*").script(source).with("concurrency", json!(2)).add().await;
    let path = format!("/api/v1/subscriptions/{}", rt.id_of("jobs"));
    let slow = rt.publish("job.due", json!({ "n": 1 })).await;
    activity(&rt, &path, "the slow one to run", |now| now["running"] == 1).await;
    // The cursor is set once the delivery did not move for a while: what settles from then on is
    // found by the reader alone.
    eventually("a cursor", async || {
        let seen = rt.publish("job.due", json!({ "n": 2 })).await;
        rt.delivery_of(&seen, "jobs").await.succeeded();
        let stats = rt.get("/api/v1/stats").await;
        let mark = stats["journal"]["watermark"].as_u64();
        if mark >= stats["journal"]["seq"].as_u64().map(|seq| seq - 1) {
            Ok(())
        } else {
            Err(stats)
        }
    })
    .await;
    let seen = rt.publish("job.due", json!({ "n": 3 })).await;
    rt.delivery_of(&seen, "jobs").await.succeeded();

    rt.crash().await;
    activity(&rt, &path, "the slow one to run again", |now| now["running"] == 1).await;
    rt.post(&format!("{path}/pause"), &json!({})).await;
    rt.post(&format!("{path}/resume"), &json!({})).await;
    rt.delivery_of(&slow, "jobs").await.succeeded();
    let after = rt.publish("job.due", json!({ "n": 4 })).await;
    rt.delivery_of(&after, "jobs").await.succeeded();

    for event in rt.all("/api/v1/events?type=job.due").await {
        let uid = event["uid"].as_str().unwrap();
        let runs = rt.all(&format!("/api/v1/runs?event_id={uid}")).await;
        assert_eq!(runs.len(), 1, "{event:#} ran {} times", runs.len());
    }
}
