//! The metrics of DESIGN 11, as Prometheus scrapes them.

use serde_json::json;

use crate::support::{Database, TestRuntime, eventually};

/// Fixed: other people's dashboards and alerts name them.
const NAMES: [&str; 11] = [
    "tripline_events_received_total",
    "tripline_events_processed_total{outcome=",
    "tripline_deliveries_total{subscription=",
    "tripline_queue_depth{subscription=",
    "tripline_dead_letters{subscription=",
    "tripline_delivery_latency_seconds_bucket",
    "tripline_run_duration_seconds_bucket{subscription=",
    "tripline_journal_commit_seconds_bucket",
    "tripline_journal_batch_size_bucket",
    "tripline_actor_restarts_total{actor=",
    "tripline_subscriptions{state=",
];

async fn value(rt: &TestRuntime, series: &str) -> Option<f64> {
    let text = rt.get("/metrics").await;
    let lines = text.as_str().expect("a text").lines();
    let mut found = lines.filter_map(|line| line.strip_prefix(series));
    found.next().and_then(|rest| rest.trim().parse().ok())
}

#[tokio::test]
async fn every_metric_that_is_fixed_is_there_and_right() {
    let rt = TestRuntime::start().await;
    rt.subscription("works")
        .on("job.*")
        .script(
            "const kept = Array(1000).fill({}).map(() => ({})); export default () => kept.length",
        )
        .add()
        .await;
    let fails = "export default () => { throw new Error('no'); }";
    rt.subscription("fails").on("job.*").script(fails).attempts(1, 1).add().await;
    rt.subscription("waits").on("job.*").with("paused", json!(true)).add().await;
    rt.subscription("off").on("job.*").with("is_active", json!(false)).add().await;
    for n in 0..3 {
        rt.publish("job.due", json!({ "n": n })).await;
    }
    rt.delivery("works").await.succeeded();
    rt.delivery("fails").await.dead();
    let restart = format!("/api/v1/actors/{}/restart", rt.id_of("works"));
    rt.post(&restart, &json!({})).await;

    let series = |name: &str, of: &str| format!("{name}{{subscription=\"{}\"}}", rt.id_of(of));
    eventually("three dead letters", async || {
        let found = value(&rt, &series("tripline_dead_letters", "fails")).await;
        if found == Some(3.0) { Ok(()) } else { Err(found) }
    })
    .await;
    assert_eq!(value(&rt, &series("tripline_queue_depth", "waits")).await, Some(3.0));
    assert_eq!(value(&rt, &series("tripline_queue_depth", "works")).await, Some(0.0));
    for (state, count) in [("active", 2.0), ("paused", 1.0), ("suspended", 0.0), ("inactive", 1.0)]
    {
        let name = format!("tripline_subscriptions{{state=\"{state}\"}}");
        assert_eq!(value(&rt, &name).await, Some(count), "{state}");
    }
    assert_eq!(value(&rt, "tripline_events_received_total").await, Some(3.0));
    let ran = series("tripline_run_cpu_seconds_count", "works");
    assert_eq!(value(&rt, &ran).await, Some(3.0));
    let waited = series("tripline_run_wait_seconds_count", "works");
    assert_eq!(value(&rt, &waited).await, Some(3.0));
    assert!(value(&rt, &series("tripline_memory_bytes", "works")).await > Some(0.0));

    let text = rt.get("/metrics").await;
    let text = text.as_str().expect("a text");
    for name in NAMES {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is missing:\n{text}");
    }
    // What is gone takes its series with it.
    rt.delete(&format!("/api/v1/subscriptions/{}?discard=true", rt.id_of("waits"))).await;
    eventually("the series to end", async || {
        let found = value(&rt, &series("tripline_queue_depth", "waits")).await;
        if found.is_none() { Ok(()) } else { Err(found) }
    })
    .await;
}

/// Types come from whoever publishes: a hundred thousand of them must not be a series each, and
/// neither must subscriptions beyond `metrics.subscriptions_max`.
#[tokio::test]
async fn a_hundred_thousand_event_types_make_no_series() {
    let rt = TestRuntime::with(Database::Sqlite, "[metrics]\nsubscriptions_max = 3\n").await;
    for n in 0..6 {
        rt.subscription(&format!("s{n}")).on("flood.*.7.*").add().await;
    }
    publish_types(&rt, 0, 1_000).await;
    settled(&rt, 6).await;
    let before = series(&rt).await;
    for batch in 0..10 {
        publish_types(&rt, 1_000 + batch * 10_000, 10_000).await;
    }
    settled(&rt, 6 * 101).await;
    let after = series(&rt).await;
    assert_eq!(value(&rt, "tripline_events_received_total").await, Some(101_000.0));
    let new: Vec<_> = after.iter().filter(|series| !before.contains(series)).collect();
    assert!(new.len() <= 20, "{} new series: {new:#?}", new.len());
    let named = after.iter().filter(|series| series.starts_with("tripline_queue_depth{"));
    assert_eq!(named.count(), 4, "three subscriptions, and the others");
    assert!(after.iter().all(|series| !series.contains("flood")), "{after:#?}");
    let stats = rt.get("/api/v1/stats").await;
    let types = stats["events"]["unmatched_types"].as_array().map(Vec::len);
    assert!(types.is_some_and(|types| types <= 100), "{types:?}");
}

/// Waits until so many deliveries have succeeded.
async fn settled(rt: &TestRuntime, deliveries: u64) {
    eventually("deliveries that succeeded", async || {
        let stats = rt.get("/api/v1/stats").await;
        if stats["deliveries"]["succeeded"] == deliveries {
            Ok(())
        } else {
            Err(stats["deliveries"].clone())
        }
    })
    .await;
}

async fn publish_types(rt: &TestRuntime, from: u32, count: u32) {
    let event = |n: u32| json!({ "type": format!("flood.t{n}.{}.x", n % 1_000), "data": n });
    let events: Vec<_> = (from..from + count).map(event).collect();
    rt.post("/api/v1/events", &json!(events)).await;
}

/// Names and labels of everything that is scraped.
async fn series(rt: &TestRuntime) -> Vec<String> {
    let text = rt.get("/metrics").await;
    let lines = text.as_str().expect("a text").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned()).collect()
}
