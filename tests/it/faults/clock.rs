//! The wall clock jumps, by libfaketime under the real binary: nothing fires twice, never, early or
//! late for it. The monotonic clock stays as it is, and so do the lanes, which inherit nothing.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tripline::domain::Millis;

use crate::{
    hooks::{deliver, secret, sign},
    support::{Server, TestRuntime, eventually},
};

const WAIT_MS: u64 = 1_500;
/// What waits comes so long after its time at most, on a busy machine.
const LATE: Duration = Duration::from_secs(15);

const RETRIES: &str = "
    export default async function (payload, context) {
        if (context.attempt === 1) throw new Error('the first attempt fails');
        await sdk.events.emit('test.retried', payload);
    }";
const DELAYS: &str = "
    export default async function (payload) {
        await sdk.events.emit('test.later', payload, { delay: 1500 });
        await sdk.kv.set('key', payload.n, { ttl: '10m' });
    }";

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

#[tokio::test]
async fn a_clock_that_jumps_moves_nothing_that_waits() {
    let Some((mut rt, clock)) = start().await else { return };
    let to_2038 = 2_147_483_640 - Millis::now().0 / 1_000;
    // Offsets from the true time, one after the other: forwards, backwards, over the end of 32 bits
    // of seconds, into the night in which the server's time zone leaves summer time, and back.
    let offsets = [HOUR, 0, DAY, 0, -600, -DAY, to_2038, clock.end_of_summer_time(), 0];
    let mut before = 0;
    for (n, offset) in offsets.into_iter().enumerate() {
        let published = clock.waits(&rt, n).await;
        clock.set(offset);
        came_in_time(&rt, n, published, offset - before).await;
        before = offset;
    }
    // Set back while nobody is up: what waits by the store's time must not wait a day longer.
    let published = clock.waits(&rt, offsets.len()).await;
    rt.server.kill();
    clock.set(-DAY);
    rt.server.start().await;
    came_in_time(&rt, offsets.len(), published, -DAY).await;
    // Another start finds nothing that fires again.
    clock.set(DAY);
    rt.crash().await;
    the_log_is_in_order(&rt, offsets.len() + 1).await;
}

/// The retry and the delayed emit of event `n` came, once, when they were due and not before.
async fn came_in_time(rt: &TestRuntime, n: usize, published: Instant, step_s: i64) {
    for event_type in ["test.retried", "test.later"] {
        let came = eventually(&format!("{event_type} after a step of {step_s} s"), async || {
            let all = rt.all(&format!("/api/v1/events?type={event_type}")).await;
            let mine = all.iter().filter(|event| event["data"]["n"] == n).count();
            if mine > 0 { Ok(mine) } else { Err(all.len()) }
        })
        .await;
        assert_eq!(came, 1, "{event_type} after a step of {step_s} s");
        let took = published.elapsed();
        let due = Duration::from_millis(WAIT_MS);
        assert!((due..due + LATE).contains(&took), "{event_type}: {took:?}, a step of {step_s} s");
    }
}

async fn the_log_is_in_order(rt: &TestRuntime, rounds: usize) {
    for event_type in ["test.retried", "test.later", "test.retry", "test.delay"] {
        rt.events(event_type, rounds).await;
    }
    let mut events = rt.all("/api/v1/events").await;
    events.reverse(); // the list has the newest first
    let accepted =
        |event: &Value| -> Millis { event["accepted_at"].as_str().unwrap().parse().unwrap() };
    assert!(events.iter().map(accepted).is_sorted(), "accepted_at never decreases");
    let mut uids: Vec<&str> = events.iter().map(|event| event["uid"].as_str().unwrap()).collect();
    uids.sort_unstable();
    uids.dedup();
    assert_eq!(uids.len(), events.len(), "uids are unique");
    for run in rt.all("/api/v1/runs").await {
        for span in ["duration_ms", "cpu_ms", "queued_ms"] {
            let took = run[span].as_f64().unwrap_or_else(|| panic!("{span}: {run}"));
            assert!((0.0..60_000.0).contains(&took), "{span}: {run}");
        }
    }
}

/// What has to do with the world outside goes by its time: signatures, and the ends of tokens.
#[tokio::test]
async fn signatures_and_tokens_go_by_the_wall_clock() {
    let Some((rt, clock)) = start().await else { return };
    secret(&rt, "stripe", "a secret").await;
    let hook = json!({ "name": "stripe", "preset": "stripe", "secrets": ["stripe"] });
    rt.post("/api/v1/hooks", &hook).await;
    let end = Millis(Millis::now().0 + HOUR * 1_000 / 2);
    let token = json!({ "name": "half an hour", "role": "viewer", "expires_at": end });
    let token = rt.post("/api/v1/tokens", &token).await;
    let viewer = rt.api.with_token(token["secret"].as_str().unwrap());

    for (offset, is_good) in [(0, true), (HOUR, false), (0, true), (-HOUR, true)] {
        clock.set(offset);
        let stats = viewer.request(reqwest::Method::GET, "/api/v1/stats", None).await.status;
        assert_eq!(stats.is_success(), is_good, "the token, {offset} s from the true time");
        for skew in [0, HOUR, -HOUR] {
            let at = Millis::now().0 / 1_000 + offset + skew;
            let body = format!(r#"{{"id":"evt_{offset}_{skew}","type":"charge"}}"#);
            let signature = format!("t={at},v1={}", sign("a secret", &format!("{at}.{body}")));
            let headers = [("stripe-signature", signature.as_str())];
            let (status, answer) = deliver(&rt, "stripe", &headers, &body).await;
            let expected = if skew == 0 { StatusCode::ACCEPTED } else { StatusCode::UNAUTHORIZED };
            assert_eq!(status, expected, "signed {skew} s from the server's time: {answer}");
        }
    }
}

/// A key of ten minutes does not end because the clock leaps.
#[tokio::test]
async fn a_leap_ends_no_key() {
    let Some((rt, clock)) = start().await else { return };
    rt.publish("test.delay", json!({ "n": 1 })).await;
    rt.delivery("delays").await.succeeded();
    clock.set(400 * DAY);
    rt.events("test.later", 1).await;
    let subscription = rt.get(&format!("/api/v1/subscriptions/{}", rt.id_of("delays"))).await;
    let key = format!("/api/v1/kv/{}/key", subscription["script_id"].as_str().unwrap());
    assert_eq!(rt.get(&key).await["value"], 1);
}

/// What waits for ten minutes at most is not too old because the clock leaps, nor because it was set
/// right afterwards.
#[tokio::test]
async fn a_leap_makes_nothing_too_old() {
    let Some((rt, clock)) = start().await else { return };
    rt.subscription("ages")
        .on("test.age")
        .with("limits", json!({ "expires_after": "10m" }))
        .add()
        .await;
    let path = format!("/api/v1/subscriptions/{}", rt.id_of("ages"));
    for (before, after) in [(0, DAY), (0, -DAY), (-DAY, 0), (DAY, 0)] {
        clock.set(before);
        rt.post(&format!("{path}/pause"), &json!({})).await;
        rt.publish("test.age", json!({ "before": before })).await;
        clock.set(after);
        rt.post(&format!("{path}/resume"), &json!({})).await;
        rt.delivery("ages").await.succeeded();
    }
}

/// The clock of a server.
struct Clock(PathBuf);

impl Clock {
    /// Seconds from the true time.
    fn set(&self, offset: i64) {
        // Whoever reads it meanwhile must not find half of it.
        let next = self.0.with_extension("next");
        fs::write(&next, format!("{offset:+}")).unwrap();
        fs::rename(next, &self.0).unwrap();
    }

    /// Publishes what then waits, and answers when.
    async fn waits(&self, rt: &TestRuntime, n: usize) -> Instant {
        let published = Instant::now();
        rt.publish("test.retry", json!({ "n": n })).await;
        rt.publish("test.delay", json!({ "n": n })).await;
        eventually("the retry and the emit to wait", async || {
            let waiting = rt.get("/api/v1/stats").await["deliveries"]["waiting"].clone();
            let scheduled = rt.all("/api/v1/scheduled").await.len();
            if waiting == 1 && scheduled == 1 { Ok(()) } else { Err((waiting, scheduled)) }
        })
        .await;
        published
    }

    /// To a second before 01:00 UTC of the last Sunday of October: an hour of Berlin's comes twice.
    fn end_of_summer_time(&self) -> i64 {
        const CHANGE: i64 = 1_792_890_000; // 2026-10-25T01:00:00Z
        CHANGE - 1 - Millis::now().0 / 1_000
    }
}

/// `None` without libfaketime; says so aloud, and in CI that fails.
async fn start() -> Option<(TestRuntime, Clock)> {
    let Some(library) = library() else {
        eprintln!("SKIPPED: no libfaketime below /usr/lib");
        assert!(std::env::var_os("CI").is_none(), "in CI no test is skipped");
        return None;
    };
    let mut server = Server::new("", None);
    let clock = Clock(server.home().join("clock"));
    clock.set(0);
    server.env("LD_PRELOAD", library.display().to_string());
    server.env("FAKETIME_TIMESTAMP_FILE", clock.0.display().to_string());
    server.env("FAKETIME_NO_CACHE", "1");
    server.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    server.env("DONT_FAKE_MONOTONIC", "1"); // as older versions call it
    server.env("TZ", "Europe/Berlin");
    server.start().await;
    let rt = TestRuntime::of(server);
    rt.subscription("retries").on("test.retry").script(RETRIES).attempts(3, WAIT_MS).add().await;
    rt.subscription("delays").on("test.delay").script(DELAYS).add().await;
    Some((rt, clock))
}

fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    let mut found = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    found.find(|library| library.exists())
}
