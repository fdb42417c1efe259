//! Years: what a server that nobody restarts must not do: fill the disk, grow its log, work at rest,
//! or be held up by clients that are slow.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    hostile::resident,
    ledger::power::{Disk, Power},
    support::{Server, TestRuntime, eventually},
};

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

fn store(rt: &TestRuntime) -> PathBuf {
    rt.server.data().join("tripline.db")
}

/// Events of a hundred kilobytes each.
fn batch(events: usize) -> Value {
    let pad = "x".repeat(100_000);
    let event = |n| json!({ "type": "big.one", "data": { "n": n, "pad": pad } });
    (0..events).map(event).collect()
}

/// Less than what is left alone of a large store: a small one gets its disk back, too.
#[tokio::test]
async fn deleting_gives_the_disk_back_while_the_server_runs() {
    let mut rt = TestRuntime::start().await;
    for _ in 0..7 {
        rt.post("/api/v1/events", &batch(10)).await;
    }
    rt.server.stop();
    let before = length(&store(&rt));
    assert!(before > 7_000_000, "{before} bytes");
    rt.server.env("TRIPLINE_RETENTION__EVENTS_BYTES", "1048576");
    rt.server.start().await;
    eventually("a smaller file", async || {
        let now = length(&store(&rt));
        if now < before / 4 { Ok(()) } else { Err(now) }
    })
    .await;
    let told = rt.get("/api/v1/storage").await;
    let kept = told["kept_bytes"]["events"].as_u64().unwrap();
    assert!((100_000..=1 << 20).contains(&kept), "{kept} bytes of events are kept");
    assert_eq!(told["retention"]["events_bytes"], 1 << 20);
    let left = rt.all("/api/v1/events?data=false&deliveries=false").await;
    assert!((1..=10).contains(&left.len()), "the newest stay: {}", left.len());
    assert_eq!(left[0]["seq"], 70);
}

/// Readers come and go, and there is always one: a log that waits for a moment without would grow.
#[tokio::test]
async fn the_log_stays_bounded_while_dashboards_read() {
    const BOUND: u64 = 100 << 20;
    let rt = TestRuntime::start().await;
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let api = rt.api.clone();
            tokio::spawn(async move {
                loop {
                    api.get("/api/v1/events?limit=100").await;
                }
            })
        })
        .collect();
    let feed = reqwest::Client::builder().no_proxy().build().unwrap();
    let feed = feed
        .get(format!("{}/api/v1/live", rt.server.url()))
        .bearer_auth(rt.server.admin_token())
        .send()
        .await
        .unwrap();
    let log = rt.server.data().join("tripline.db-wal");
    let (events, mut largest) = (batch(10), 0);
    while length(&store(&rt)) <= BOUND {
        // What is refused meanwhile comes again in the next round.
        let publishes =
            (0..8).map(|_| rt.api.request(Method::POST, "/api/v1/events", Some(&events)));
        futures::future::join_all(publishes).await;
        largest = largest.max(length(&log));
    }
    assert!(largest < BOUND, "the log had {largest} bytes");
    let metrics = rt.get("/metrics").await;
    for name in ["tripline_wal_bytes ", "tripline_store_bytes "] {
        assert!(metrics.as_str().unwrap().contains(name), "no {name}");
    }
    let held = rt.get("/api/v1/storage").await;
    assert!(held["free_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{held}");
    drop(feed);
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    eventually("an empty log at rest", async || match length(&log) {
        0 => Ok(()),
        bytes => Err(bytes),
    })
    .await;
}

/// The value of a metric without labels.
async fn metric(rt: &TestRuntime, name: &str) -> f64 {
    let text = rt.get("/metrics").await;
    let line = text.as_str().unwrap().lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.split(' ').next_back()?.parse().ok()).expect("the metric")
}

/// CPU time of the server's process so far.
fn cpu(rt: &TestRuntime) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", rt.server.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let field =
        |index: usize| fields.split_whitespace().nth(index).unwrap().parse::<u64>().unwrap();
    Duration::from_millis((field(11) + field(12)) * 10)
}

#[tokio::test]
async fn an_idle_server_leaves_its_store_and_the_cpu_alone() {
    const WINDOW: Duration = Duration::from_secs(12);
    let rt = TestRuntime::start().await;
    rt.subscription("once").on("job.*").add().await;
    rt.publish("job.due", json!({})).await;
    rt.delivery("once").await.succeeded();
    let statements = async || metric(&rt, "tripline_store_statements_total").await;
    // What asking costs: everything else has to come to rest first.
    let asking = eventually("rest", async || {
        let (first, second, third) = (statements().await, statements().await, statements().await);
        if second - first == third - second { Ok(second - first) } else { Err(third - second) }
    })
    .await;
    let (before, used) = (statements().await, cpu(&rt));
    tokio::time::sleep(WINDOW).await;
    let spent = cpu(&rt) - used;
    let asked = statements().await - before - asking;
    // Charts ask for the count of letters once a minute, which is kept; nothing else may ask.
    assert!(asked <= 2.0, "the store was asked {asked} times in {WINDOW:?} without work");
    assert!(spent < WINDOW / 20, "{spent:?} of CPU in {WINDOW:?} without work");
}

/// Sends a byte in two seconds until the server has enough of it: how long that took, and what it said.
async fn trickle(address: String, start: String) -> (Duration, String) {
    let began = Instant::now();
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(start.as_bytes()).await.unwrap();
    let (mut part, mut said) = ([0; 4_096], String::new());
    loop {
        match tokio::time::timeout(Duration::from_secs(2), socket.read(&mut part)).await {
            Err(_) => {}
            Ok(Ok(0) | Err(_)) => return (began.elapsed(), said),
            Ok(Ok(length)) => {
                said += &String::from_utf8_lossy(&part[..length]);
                continue;
            }
        }
        if socket.write_all(b"x").await.is_err() {
            return (began.elapsed(), said);
        }
    }
}

#[tokio::test]
async fn slow_clients_are_closed_and_keep_nobody_out() {
    let rt = TestRuntime::start().await;
    let address = rt.server.url().trim_start_matches("http://").to_owned();
    let head = "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let token = rt.server.admin_token();
    let body = format!("{head}Authorization: Bearer {token}\r\nContent-Length: 1000\r\n\r\n");
    let starts = (0..300).map(|n| if n % 2 == 0 { head.to_owned() } else { body.clone() });
    let slow: Vec<_> = starts.map(|start| tokio::spawn(trickle(address.clone(), start))).collect();
    let began = Instant::now();
    let mut worst = Duration::ZERO;
    while began.elapsed() < Duration::from_secs(4) {
        let asked = Instant::now();
        rt.get("/healthz").await;
        rt.publish("a.b", json!({})).await;
        worst = worst.max(asked.elapsed());
    }
    assert!(worst < Duration::from_secs(2), "a request took {worst:?} beside slow ones");
    for (n, client) in slow.into_iter().enumerate() {
        let (borne, said) = client.await.unwrap();
        // 5 s for the head, 10 s for a body that keeps no pace; and a busy machine.
        let most = Duration::from_secs(if n % 2 == 0 { 15 } else { 25 });
        assert!(borne < most, "slow client {n} was borne for {borne:?}");
        let told = said.contains("408") && said.contains("too_slow");
        assert!(n % 2 == 0 || told, "slow client {n} was told {said:?}");
    }
}

/// Sends most of a large body, and then nothing: what it was told within ten seconds, if anything.
async fn most_of_a_body(address: String, token: String) -> Option<String> {
    const BYTES: usize = 16 << 20;
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Authorization: Bearer {token}\r\nContent-Length: {BYTES}\r\n\r\n"
    );
    let _closed_by_a_refusal = socket.write_all(head.as_bytes()).await;
    let _closed_by_a_refusal = socket.write_all(&vec![b' '; BYTES - (1 << 20)]).await;
    let mut answer = vec![0; 4_096];
    let read = tokio::time::timeout(Duration::from_secs(10), socket.read(&mut answer)).await;
    read.ok()?.ok().map(|length| String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// Bodies on their way in have a bound together, and small ones go on beside them.
#[tokio::test]
async fn many_large_bodies_at_once_do_not_fill_the_memory() {
    let rt = TestRuntime::start().await;
    let address = rt.server.url().trim_start_matches("http://").to_owned();
    let token = rt.server.admin_token();
    let large: Vec<_> =
        (0..40).map(|_| tokio::spawn(most_of_a_body(address.clone(), token.clone()))).collect();
    let mut peak = 0;
    while large.iter().any(|client| !client.is_finished()) {
        rt.publish("a.b", json!({ "n": 1 })).await;
        peak = peak.max(resident(rt.server.pid().into()));
    }
    assert!(peak < 320 << 20, "{} MiB", peak >> 20);
    let told = futures::future::join_all(large).await;
    let told: Vec<Option<String>> = told.into_iter().map(Result::unwrap).collect();
    let crowded = told.iter().flatten().filter(|said| said.contains("overloaded")).count();
    assert!(crowded > 0 && told.iter().any(Option::is_none), "{told:?}");
    // Those that were given up have given their room back.
    let whole = vec![b' '; 15 << 20];
    let asked = crate::support::http().post(rt.server.url() + "/api/v1/events");
    let asked = asked.header("content-type", "application/json").bearer_auth(&token).body(whole);
    assert_eq!(asked.send().await.unwrap().status(), 400, "no JSON, but read");
}

#[tokio::test]
async fn a_handler_of_five_seconds_holds_nobody_else_up() {
    let rt = TestRuntime::start().await;
    let nap = "export default () => new Promise((wake) => setTimeout(wake, 5000))";
    rt.subscription("sleeper").on("job.*").script(nap).add().await;
    rt.subscription("quick").on("job.*").add().await;
    for n in 0..20 {
        rt.publish("job.due", json!({ "n": n })).await;
    }
    let succeeded = async |name: &str| {
        let path = format!("/api/v1/subscriptions/{}", rt.id_of(name));
        rt.get(&path).await["activity"]["succeeded"].as_u64().unwrap()
    };
    eventually("all quick ones", async || match succeeded("quick").await {
        20 => Ok(()),
        fewer => Err(fewer),
    })
    .await;
    let slow = succeeded("sleeper").await;
    assert!(slow < 5, "{slow} slow ones ended before 20 quick ones");
}

/// A disk whose syncs take 200 ms longer: group commit carries all, and nobody waits for long.
#[tokio::test]
async fn a_slow_disk_slows_acceptance_and_nothing_more() {
    let mut server = Server::new("", None);
    let power = Power::attach(&mut server, Disk::Honest);
    server.start().await;
    let rt = TestRuntime::of(server);
    power.delay_syncs(200);
    let until = Instant::now() + Duration::from_secs(5);
    let clients = (0..32).map(|_| {
        let api = rt.api.clone();
        tokio::spawn(async move {
            let (mut took, event) = (Vec::new(), json!({ "type": "a.b", "data": {} }));
            while Instant::now() < until {
                let asked = Instant::now();
                let answer = api.request(Method::POST, "/api/v1/events", Some(&event)).await;
                assert_eq!(answer.status, 202, "{:#}", answer.body);
                took.push(asked.elapsed());
            }
            took
        })
    });
    let clients = futures::future::join_all(clients).await;
    let mut took: Vec<Duration> = clients.into_iter().flat_map(Result::unwrap).collect();
    took.sort_unstable();
    let p99 = took[(took.len() - 1) * 99 / 100];
    assert!((100..6_000).contains(&took.len()), "{} publishes on a slow disk", took.len());
    assert!(p99 < Duration::from_secs(2), "accepted after {p99:?}");
}

/// A commit that takes seconds: who would wait behind it for long is refused at once, told when to
/// come again, and taken then.
#[tokio::test]
async fn what_would_wait_too_long_is_refused_at_once() {
    let mut server = Server::new("", None);
    let power = Power::attach(&mut server, Disk::Honest);
    server.start().await;
    let rt = TestRuntime::of(server);
    rt.publish("a", json!(1)).await;
    power.delay_syncs(3_000);
    let (told, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let publish = || {
        let request = crate::support::http()
            .post(format!("{}/api/v1/events", rt.server.url()))
            .bearer_auth(rt.server.admin_token())
            .json(&json!({ "type": "a", "data": 1 }));
        let told = told.clone();
        tokio::spawn(async move {
            let asked = Instant::now();
            let answer = request.send().await.unwrap();
            let _nobody_waits_any_more = told.send((answer, asked.elapsed()));
        });
    };
    let (refusal, took) = eventually("a refusal", async || {
        publish();
        match answers.try_recv() {
            Ok((answer, took)) if answer.status() != 202 => Ok((answer, took)),
            other => Err(other.map(|(answer, _)| answer.status())),
        }
    })
    .await;
    assert!(took < Duration::from_secs(2), "refused after {took:?}");
    let again = refusal.headers()["retry-after"].to_str().unwrap().parse::<u64>();
    assert!(again.is_ok_and(|seconds| seconds > 0));
    assert_eq!(refusal.status(), 429);
    assert_eq!(refusal.json::<Value>().await.unwrap()["code"], "overloaded");
    power.delay_syncs(0);
    eventually("room again", async || {
        let event = json!({ "type": "a", "data": 1 });
        let answer = rt.request(Method::POST, "/api/v1/events", Some(&event)).await;
        if answer.status == 202 { Ok(()) } else { Err(answer) }
    })
    .await;
}

/// More rows wait for one subscription than the scheduler holds, before a restart and after it: the
/// retries of another one come when they are due.
#[tokio::test]
async fn a_flood_of_retries_holds_no_other_subscription_up() {
    let mut rt = TestRuntime::start().await;
    let fails = "export default () => { throw new Error('not yet') }";
    rt.subscription("flood").on("test.flood").script(fails).attempts(2, 3_600_000).add().await;
    let second = "export default (_, c) => { if (c.attempt < 3) throw new Error('not yet') }";
    rt.subscription("other").on("test.other").script(second).attempts(3, 300).add().await;
    rt.publish("test.flood", json!({})).await;
    eventually("a row that waits", async || {
        let waits = rt.get("/api/v1/stats").await["deliveries"]["waiting"].clone();
        if waits == 1 { Ok(()) } else { Err(waits) }
    })
    .await;
    rt.server.stop();
    let copies = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 60000)
        INSERT INTO deliveries SELECT randomblob(16), event, seq, subscription, status, attempts, next_at
        - n, error_kind, error_message, error_stack, first_failed_at, script_version, letter, replay, data,
        pinned_version, crashes_alone, bulk FROM deliveries, n";
    rusqlite::Connection::open(store(&rt)).unwrap().execute_batch(copies).unwrap();
    rt.server.start().await;
    // A row of its own, and one that was there when the flood was read.
    for n in 0..2 {
        rt.publish("test.other", json!({ "n": n })).await;
        eventually("its retries", async || {
            let path = format!("/api/v1/subscriptions/{}", rt.id_of("other"));
            let seen = rt.get(&path).await["activity"].clone();
            if seen["succeeded"] == n + 1 { Ok(()) } else { Err(seen) }
        })
        .await;
    }
}
