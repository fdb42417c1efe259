//! `tripline bench`: drives a running server over HTTP and prints what it reached.
//!
//! The client shares the machine with the server, so it costs as little as it can: requests are
//! built once, answers are scanned for their status and length alone. Settled deliveries are counted
//! by the server's own metrics; a scenario ends when everything it published has settled.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::client::{Client, ServerArgs, table};

#[derive(Args)]
pub(super) struct BenchArgs {
    /// Scenarios to run [default: all]: single, batch, latency, waiting (beside handlers that wait
    /// 5 s), chain, fanout, failing
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// How long each scenario publishes, in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    #[command(flatten)]
    server: ServerArgs,
}

const HANDLER: &str = "export default (order: { amount: number }) => \
                       ({ amount: order.amount, gross: order.amount * 1.2 });";
const EMITTER: &str = "export default async (order: { amount: number }) => { \
                       await sdk.events.emit('bench.second', { amount: order.amount * 1.2 }); };";
const WAITING: &str = "export default () => new Promise((wake) => setTimeout(wake, 5000));";
const FAILING: &str = "export default (order: { fails: boolean; amount: number }) => { \
                       if (order.fails) throw new Error('always'); return { gross: order.amount * 1.2 }; };";

/// How often the progress of settling is looked at: rarely enough to cost the server nothing.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a scenario subscribes and publishes.
struct Scenario {
    name: &'static str,
    connections: usize,
    batch: usize,
    /// Events a second over all connections; `None`: as fast as it goes.
    pace: Option<u32>,
    subscriptions: usize,
    /// What these run.
    source: &'static str,
    /// One more subscription, its event type and script.
    beside: Option<(&'static str, &'static str)>,
    /// Every tenth event is one that the handler throws at.
    failing: bool,
    /// Settled deliveries of one published event.
    settled_per_event: f64,
}

const SINGLE: Scenario = Scenario {
    name: "single",
    connections: 64,
    batch: 1,
    pace: None,
    subscriptions: 1,
    source: HANDLER,
    beside: None,
    failing: false,
    settled_per_event: 1.0,
};

const SCENARIOS: [Scenario; 7] = [
    SINGLE,
    Scenario { name: "batch", connections: 16, batch: 100, ..SINGLE },
    Scenario { name: "latency", connections: 8, pace: Some(500), ..SINGLE },
    Scenario {
        name: "waiting",
        connections: 8,
        pace: Some(500),
        beside: Some(("bench.first", WAITING)),
        ..SINGLE
    },
    Scenario {
        name: "chain",
        source: EMITTER,
        beside: Some(("bench.second", HANDLER)),
        settled_per_event: 2.0,
        ..SINGLE
    },
    Scenario {
        name: "fanout",
        connections: 16,
        subscriptions: 100,
        settled_per_event: 100.0,
        ..SINGLE
    },
    Scenario { name: "failing", source: FAILING, failing: true, ..SINGLE },
];

impl Scenario {
    /// Whether an event is one that always fails: every tenth of a batch, or all of every tenth
    /// connection.
    fn dooms(&self, n: usize) -> bool {
        self.failing && n.is_multiple_of(10)
    }
}

/// The scenarios' names, as help and errors list them.
fn names() -> String {
    SCENARIOS.map(|scenario| scenario.name).join(", ")
}

/// What a scenario reached.
struct Figures {
    name: &'static str,
    events: u64,
    seconds: f64,
    settled: f64,
    publish_ms: (f64, f64),
    settled_ms: (f64, f64),
    cpu_us: Option<f64>,
    /// Runs that were not kept, of those that settled.
    sampled: f64,
}

pub(super) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    for name in &args.scenarios {
        if !SCENARIOS.iter().any(|scenario| scenario.name == name) {
            bail!("there is no scenario \"{name}\"; there are {}", names());
        }
    }
    let client = Client::new(&args.server)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (figures, stats) = runtime.block_on(async {
        let mut figures = Vec::new();
        for scenario in &SCENARIOS {
            if args.scenarios.is_empty() || args.scenarios.iter().any(|name| name == scenario.name)
            {
                figures.push(measure(&client, args, scenario).await?);
            }
        }
        anyhow::Ok((figures, client.get("/stats").await?))
    })?;
    report(&figures, &stats, args.server.json);
    Ok(())
}

fn report(figures: &[Figures], stats: &Value, as_json: bool) {
    let per_second = |figures: &Figures| figures.settled / figures.seconds;
    if as_json {
        let items: Vec<Value> = figures
            .iter()
            .map(|f| {
                json!({
                    "scenario": f.name, "events": f.events, "seconds": f.seconds,
                    "events_per_s": f.events as f64 / f.seconds, "settled_per_s": per_second(f),
                    "publish_p50_ms": f.publish_ms.0, "publish_p99_ms": f.publish_ms.1,
                    "settled_p50_ms": f.settled_ms.0, "settled_p99_ms": f.settled_ms.1,
                    "server_cpu_us_per_event": f.cpu_us, "sampled": f.sampled,
                })
            })
            .collect();
        println!(
            "{}",
            json!({ "scenarios": items, "isolation": stats["isolation"], "synchronous": stats["synchronous"] })
        );
        return;
    }
    let rows: Vec<Vec<String>> = figures
        .iter()
        .map(|f| {
            vec![
                f.name.to_owned(),
                f.events.to_string(),
                format!("{:.0}", f.events as f64 / f.seconds),
                format!("{:.0}", per_second(f)),
                format!("{:.2} / {:.2}", f.publish_ms.0, f.publish_ms.1),
                format!("{:.2} / {:.2}", f.settled_ms.0, f.settled_ms.1),
                f.cpu_us.map_or_else(|| "-".to_owned(), |us| format!("{us:.0}")),
                format!("{:.0} %", f.sampled * 100.0),
            ]
        })
        .collect();
    let headings = [
        "scenario",
        "events",
        "events/s",
        "settled/s",
        "publish p50/p99 ms",
        "settled p50/p99 ms",
        "server CPU us/event",
        "sampled",
    ];
    table(&headings, &rows);
    println!(
        "isolation {}, synchronous {}",
        stats["isolation"].as_str().unwrap_or("?"),
        stats["synchronous"].as_str().unwrap_or("?"),
    );
}

/// Sets the scenario up, publishes, waits until all of it has settled, and cleans up.
async fn measure(
    client: &Client,
    args: &BenchArgs,
    scenario: &Scenario,
) -> anyhow::Result<Figures> {
    let made = prepare(client, scenario).await?;
    // Runtimes load and caches fill before anything counts.
    let warm = Duration::from_millis(500);
    let warmed = publish(args, client, scenario, warm, 0).await?;
    let before_warm = drained(client).await?;
    let stats = client.get("/stats").await?;
    let sampled_before = sampled(&stats);
    let server = stats["pid"].as_u64().unwrap_or_default() as u32;
    let cpu_before = server_cpu(server);
    let bar = indicatif::ProgressBar::new_spinner();
    bar.set_message(format!("{}: publishing", scenario.name));
    bar.enable_steady_tick(Duration::from_millis(200));
    let started = Instant::now();
    let span = Duration::from_secs(args.seconds);
    let Published { events, doomed, mut latencies } =
        publish(args, client, scenario, span, 1).await?;
    let expected = before_warm.settled + (events as f64 * scenario.settled_per_event).round();
    bar.set_message(format!("{}: settling", scenario.name));
    let after = loop {
        let now = Snapshot::read(client, &args.server.server).await?;
        if now.settled >= expected {
            break now;
        }
        if started.elapsed() > span + Duration::from_secs(120) {
            bail!("{}: {} of {expected} deliveries settled in time", scenario.name, now.settled);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let seconds = started.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let cpu_us = server_cpu(server).zip(cpu_before).map(|(after, before)| {
        (after.saturating_sub(before)).as_secs_f64() * 1e6 / events.max(1) as f64
    });
    // What ends as a dead letter is no work done.
    let settled = after.settled - before_warm.settled - doomed as f64;
    if scenario.failing {
        exactly(client, &made, warmed.doomed + doomed).await?;
    }
    let sampled = sampled(&client.get("/stats").await?) - sampled_before;
    clean_up(client, &made).await?;
    latencies.sort_unstable();
    Ok(Figures {
        sampled: sampled / settled.max(1.0),
        name: scenario.name,
        events,
        seconds,
        settled,
        publish_ms: (at(&latencies, 0.5), at(&latencies, 0.99)),
        settled_ms: after.latency_since(&before_warm),
        cpu_us,
    })
}

/// Runs that were not kept, since the start.
fn sampled(stats: &Value) -> f64 {
    stats["deliveries"]["sampled"].as_f64().unwrap_or_default()
}

/// Every event that had to fail is one dead letter, and nothing else is.
async fn exactly(client: &Client, made: &Made, doomed: u64) -> anyhow::Result<()> {
    let subscription = made.subscriptions.first().context("a scenario has a subscription")?;
    let path = format!("/dead-letters/count?subscription_id={subscription}");
    let started = Instant::now();
    loop {
        let letters = client.get(&path).await?["count"].as_u64().unwrap_or_default();
        if letters == doomed {
            return Ok(());
        }
        if letters > doomed || started.elapsed() > Duration::from_secs(60) {
            bail!("failing: {letters} dead letters of {doomed} events that always fail");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Milliseconds at a quantile of sorted microseconds.
fn at(sorted: &[u32], quantile: f64) -> f64 {
    let index = (sorted.len() as f64 * quantile) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).map_or(0.0, |us| f64::from(*us) / 1_000.0)
}

struct Made {
    scripts: Vec<String>,
    subscriptions: Vec<String>,
}

async fn prepare(client: &Client, scenario: &Scenario) -> anyhow::Result<Made> {
    let mut made = Made { scripts: Vec::new(), subscriptions: Vec::new() };
    let tag = uuid::Uuid::now_v7().simple().to_string();
    let mut subscribe = Vec::new();
    let first = script(client, &format!("bench-{tag}"), scenario.source, &mut made).await?;
    for n in 0..scenario.subscriptions {
        subscribe.push((format!("bench-{tag}-{n}"), first.clone(), "bench.first"));
    }
    if let Some((event_type, source)) = scenario.beside {
        let name = format!("bench-{tag}-beside");
        let beside = script(client, &name, source, &mut made).await?;
        subscribe.push((name, beside, event_type));
    }
    for (name, script, event_type) in subscribe {
        let body = json!({
            "name": name, "script_id": script, "event_type": event_type,
            "retry_policy": { "max_attempts": 3, "backoff": { "kind": "fixed", "initial_ms": 50, "max_ms": 50, "jitter": 0.0 } },
        });
        let answer = client.post("/subscriptions", &body).await?;
        made.subscriptions.push(answer["id"].as_str().unwrap_or_default().to_owned());
    }
    Ok(made)
}

async fn script(
    client: &Client,
    name: &str,
    source: &str,
    made: &mut Made,
) -> anyhow::Result<String> {
    let body = json!({ "name": name, "language": "typescript", "source": source });
    let answer = client.post("/scripts", &body).await?;
    let id = answer["id"].as_str().context("a script has an id")?.to_owned();
    made.scripts.push(id.clone());
    Ok(id)
}

async fn clean_up(client: &Client, made: &Made) -> anyhow::Result<()> {
    for id in &made.subscriptions {
        let filter = json!({ "subscription_id": id });
        client.post("/dead-letters/discard", &filter).await?;
        client.delete(&format!("/subscriptions/{id}?discard=true")).await?;
    }
    for id in &made.scripts {
        client.delete(&format!("/scripts/{id}")).await?;
    }
    Ok(())
}

/// What the server's metrics say at one moment.
struct Snapshot {
    /// Deliveries that ended.
    settled: f64,
    /// Cumulative counts of the latency histogram by upper bound in seconds.
    buckets: BTreeMap<u64, f64>,
}

impl Snapshot {
    async fn read(client: &Client, server: &str) -> anyhow::Result<Self> {
        let text = client.text(&format!("{}/metrics", server.trim_end_matches('/'))).await?;
        let mut snapshot = Self { settled: 0.0, buckets: BTreeMap::new() };
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let value: f64 = value.parse().unwrap_or(0.0);
            if name.starts_with("tripline_events_processed_total{") {
                snapshot.settled += value;
            } else if let Some(rest) =
                name.strip_prefix("tripline_delivery_latency_seconds_bucket{le=\"")
            {
                let bound: f64 = rest.trim_end_matches("\"}").parse().unwrap_or(f64::INFINITY);
                // Nanoseconds as the key: floats have no order.
                snapshot.buckets.insert((bound.min(1e6) * 1e9) as u64, value);
            }
        }
        Ok(snapshot)
    }

    /// p50 and p99 in milliseconds of what settled since `before`, linear within a bucket.
    fn latency_since(&self, before: &Self) -> (f64, f64) {
        let counts: Vec<(u64, f64)> = self
            .buckets
            .iter()
            .map(|(bound, count)| {
                (*bound, count - before.buckets.get(bound).copied().unwrap_or(0.0))
            })
            .collect();
        let total = counts.last().map_or(0.0, |(_, count)| *count);
        let quantile = |share: f64| {
            let (mut low, mut below) = (0u64, 0.0);
            for (bound, count) in &counts {
                if *count >= total * share && total > 0.0 {
                    let within = (total * share - below) / (count - below).max(1.0);
                    return (low as f64 + within * (*bound - low) as f64) / 1e6;
                }
                (low, below) = (*bound, *count);
            }
            0.0
        };
        (quantile(0.5), quantile(0.99))
    }
}

/// Waits until the number of settled deliveries stands still: the warm-up is over.
async fn drained(client: &Client) -> anyhow::Result<Snapshot> {
    let server = client.server().to_owned();
    let mut last = Snapshot::read(client, &server).await?;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = Snapshot::read(client, &server).await?;
        if (now.settled - last.settled).abs() < f64::EPSILON {
            return Ok(now);
        }
        last = now;
    }
}

/// What was published, and how long the answers took.
struct Published {
    events: u64,
    /// Of these, those whose handler always throws.
    doomed: u64,
    /// Microseconds.
    latencies: Vec<u32>,
}

/// Publishes for `span` on all connections.
async fn publish(
    args: &BenchArgs,
    client: &Client,
    scenario: &Scenario,
    span: Duration,
    round: u64,
) -> anyhow::Result<Published> {
    let host = args.server.server.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let local = tokio::task::LocalSet::new();
    let mut tasks = Vec::new();
    let interval = scenario
        .pace
        .map(|pace| Duration::from_secs_f64(scenario.connections as f64 / f64::from(pace)));
    for connection in 0..scenario.connections {
        let request = Request::new(&host, client.token(), scenario, round, connection);
        // Evenly over the interval: independent publishers do not come in bursts.
        let pace = interval.map(|interval| Pace {
            interval,
            offset: interval.mul_f64(connection as f64 / scenario.connections as f64),
        });
        tasks.push(local.spawn_local(drive(host.clone(), request, span, pace)));
    }
    local
        .run_until(async {
            let mut published = Published { events: 0, doomed: 0, latencies: Vec::new() };
            for (connection, task) in tasks.into_iter().enumerate() {
                let (requests, times) = task.await??;
                published.events += requests * scenario.batch as u64;
                let doomed = (0..scenario.batch).filter(|n| scenario.dooms(connection + n)).count();
                published.doomed += requests * doomed as u64;
                published.latencies.extend(times);
            }
            Ok(published)
        })
        .await
}

/// A request whose event ids are overwritten in place before each sending.
struct Request {
    bytes: Vec<u8>,
    /// Where the twelve digits of each event's id stand.
    ids: Vec<usize>,
    next: u64,
}

impl Request {
    fn new(host: &str, token: &str, scenario: &Scenario, round: u64, connection: usize) -> Self {
        let run = uuid::Uuid::now_v7().simple().to_string();
        let item = |n: usize| {
            let fails = scenario.dooms(n);
            format!(
                "{{\"specversion\":\"1.0\",\"id\":\"{run}-{round}-{connection}-000000000000\",\"source\":\"/bench\",\
                 \"type\":\"bench.first\",\"data\":{{\"order\":{n},\"amount\":{}.5,\"currency\":\"EUR\",\
                 \"fails\":{fails},\"customer\":{{\"id\":\"c-1042\",\"vip\":true}},\
                 \"items\":[{{\"sku\":\"BOX-7\",\"count\":2}},{{\"sku\":\"RED-1\",\"count\":1}}]}}}}",
                n + 40
            )
        };
        let body = if scenario.batch == 1 {
            item(connection)
        } else {
            format!(
                "[{}]",
                (0..scenario.batch).map(|n| item(connection + n)).collect::<Vec<_>>().join(",")
            )
        };
        let content_type = if scenario.batch == 1 {
            "application/cloudevents+json"
        } else {
            "application/cloudevents-batch+json"
        };
        let head = format!(
            "POST /api/v1/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let marker = format!("-{connection}-000000000000\"");
        let ids = body
            .match_indices(&marker)
            .map(|(at, _)| head.len() + at + marker.len() - 13)
            .collect();
        Self { bytes: [head.into_bytes(), body.into_bytes()].concat(), ids, next: 0 }
    }

    fn renew(&mut self) {
        for at in &self.ids {
            self.next += 1;
            let mut left = self.next;
            for digit in self.bytes[*at..*at + 12].iter_mut().rev() {
                *digit = b'0' + (left % 10) as u8;
                left /= 10;
            }
        }
    }
}

/// When a connection sends, if not as fast as it can.
struct Pace {
    interval: Duration,
    offset: Duration,
}

/// One connection: a request, its answer, and again. Refused for lack of room, it waits and repeats.
async fn drive(
    host: String,
    mut request: Request,
    span: Duration,
    pace: Option<Pace>,
) -> anyhow::Result<(u64, Vec<u32>)> {
    let mut stream =
        TcpStream::connect(&host).await.with_context(|| format!("cannot connect to {host}"))?;
    stream.set_nodelay(true)?;
    let mut answer = Vec::with_capacity(16 << 10);
    let (mut requests, mut times) = (0, Vec::new());
    let end = Instant::now() + span;
    let mut due = Instant::now() + pace.as_ref().map_or(Duration::ZERO, |pace| pace.offset);
    while Instant::now() < end {
        if let Some(pace) = &pace {
            tokio::time::sleep_until(due.into()).await;
            due += pace.interval;
        }
        request.renew();
        let started = Instant::now();
        loop {
            stream.write_all(&request.bytes).await?;
            match read_answer(&mut stream, &mut answer).await? {
                202 => break,
                429 | 503 => tokio::time::sleep(Duration::from_millis(50)).await,
                status => {
                    bail!("the server answered {status}: {}", String::from_utf8_lossy(&answer))
                }
            }
        }
        times.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
        requests += 1;
    }
    Ok((requests, times))
}

/// Reads one answer; returns its status.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> anyhow::Result<u16> {
    answer.clear();
    loop {
        if stream.read_buf(answer).await? == 0 {
            bail!("the server closed the connection");
        }
        let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let text = std::str::from_utf8(&answer[..head]).unwrap_or_default();
        let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        let length = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse::<usize>().ok())
            .unwrap_or(0);
        while answer.len() < head + 4 + length {
            if stream.read_buf(answer).await? == 0 {
                bail!("the server closed the connection");
            }
        }
        return Ok(status);
    }
}

/// CPU time of the server and its lanes, when it runs on this machine.
fn server_cpu(server: u32) -> Option<Duration> {
    let mut ticks = None;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split(' ').collect();
        let number =
            |index: usize| fields.get(index).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        if pid == server || number(1) == u64::from(server) {
            *ticks.get_or_insert(0) += number(11) + number(12);
        }
    }
    // Linux counts in hundredths of a second on every machine this runs on (USER_HZ).
    Some(Duration::from_millis(ticks? * 10))
}
