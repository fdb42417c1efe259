//! Configuration: typed, documented, checked at start. The only reader of files and environment.
//!
//! A value comes from its default, from the file, from `TRIPLINE_SECTION__KEY`, or from a flag, the
//! later ones winning; [`Loaded`] remembers which. What is wrong stops the start with file, line,
//! key, what was found and what was expected: a typo must not change behaviour in silence.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use toml::{Table, Value};

use crate::{
    domain::{Span, parse_span, restart::RestartPolicy},
    sandbox::RunLimits,
};

/// All settings. `Config::default()` is what an empty file means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub server: Server,
    pub storage: Storage,
    pub bus: Bus,
    pub lanes: Lanes,
    pub limits: Limits,
    pub script: Script,
    pub secrets: Secrets,
    pub fetch: Fetch,
    pub supervisor: Supervisor,
    pub retention: Retention,
    pub metrics: Metrics,
    pub alerts: Alerts,
    pub telemetry: Telemetry,
    pub log: Log,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Where HTTP is served. Default `127.0.0.1:7070`: nobody else until the operator says so.
    pub listen: SocketAddr,
    /// How long a stop waits for runs in hand. Default 20 s; what is left runs after the start.
    pub shutdown_grace: Span,
    /// Whether browsers reach the server over HTTPS (a proxy ends TLS): cookies are `Secure` then.
    pub https: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// `sqlite://PATH` or `postgres://…`. Default: `tripline.db` in the data folder.
    pub url: String,
    /// Data folder: the admin token lies there, and the SQLite store unless `url` says otherwise.
    /// Default `data`.
    pub data: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bus {
    /// `embedded`: events go from the journal to the router inside the process.
    pub kind: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lanes {
    /// Lanes that run scripts; 0 (default): one per core.
    pub count: usize,
    /// `process` (default): a lane is a child process, a wall against hostile scripts. `thread`:
    /// cheaper to embed, and protects against careless scripts only.
    pub isolation: Isolation,
    /// A run longer than this moves its subscription to a slow lane, in milliseconds. Default 50.
    pub slow_after_ms: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    #[default]
    Process,
    Thread,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest event, in bytes of its payload. Default 1 MiB.
    pub event_bytes: usize,
    /// Largest request body of a publish, in bytes. Default 16 MiB.
    pub batch_bytes: usize,
    /// Most events in one publish. Default 10,000.
    pub batch_events: usize,
    /// Deepest nesting of a payload. Default 64; at most 100, which is what every reader of a
    /// stored event (serde_json stops at 128) and the border of the sandbox still take.
    pub json_depth: usize,
    /// Emits between a published event and its furthest descendant. Default 16.
    pub max_hops: u32,
    /// Events that may descend from one published event. Default 100,000.
    pub max_spread: u64,
    /// Accepted events that wait to be handled before publishers are refused. Default 1,000,000.
    pub backlog: u64,
    /// Events that wait for one subscription before it is suspended. Default 10,000,000.
    pub subscription_backlog: u64,
    /// Memory for deliveries in hand, all subscriptions together, in bytes. Default 64 MiB.
    pub in_hand_bytes: usize,
    /// Deliveries one subscription has in memory. Default 1,024; the rest waits on disk.
    pub mailbox: usize,
    /// Keys in one namespace of `sdk.kv`. Default 100,000.
    pub kv_namespace_keys: u64,
    /// Bytes of keys and values in one namespace. Default 64 MiB.
    pub kv_namespace_bytes: u64,
    /// Bytes of keys and values in all namespaces. Default 1 GiB.
    pub kv_bytes: u64,
    /// Namespaces that hold keys. Default 10,000.
    pub kv_namespaces: usize,
}

/// Defaults for each run; a subscription's own limits may go up to `max`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// CPU time of a run, in milliseconds. Default 250.
    pub cpu_ms: u64,
    /// Time of a run on the clock, in milliseconds. Default 10,000.
    pub wall_ms: u64,
    /// Heap of a runtime, in bytes. Default 32 MiB.
    pub memory_bytes: u64,
    /// Stack of a runtime, in bytes. Default 256 KiB.
    pub stack_bytes: usize,
    /// Console output that is kept of a run, in bytes. Default 64 KiB.
    pub log_bytes: usize,
    /// Emits of a run. Default 100.
    pub emits: u32,
    /// Result of a run, in bytes of JSON. Default 1 MiB.
    pub result_bytes: usize,
    /// Calls of a run that its lane cannot answer alone: reads of keys, secrets, fetches. Default 1,000.
    pub host_calls: u32,
    /// Requests of a run to the outside. Default 20.
    pub fetches: u32,
    /// The body of an answer to one of them, in bytes, unpacked. Default 5 MiB.
    pub fetch_bytes: usize,
    /// Keys that a run writes. Default 100.
    pub kv_writes: u32,
    /// One of their values, in bytes of JSON. Default 256 KiB.
    pub kv_value_bytes: usize,
    /// Runs whose answers are kept, so that they can run again: "failed" (the default), "all", "none".
    pub record: Record,
    /// Longest recording of a run, in bytes. Default 256 KiB.
    pub record_bytes: usize,
    /// What a subscription may ask for at most.
    pub max: ScriptMaxima,
}

/// Which runs are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    #[default]
    Failed,
    All,
    None,
}

impl Script {
    /// Bytes that a recording may have; 0: nothing is recorded.
    #[must_use]
    pub fn record_room(&self) -> usize {
        if self.record == Record::None { 0 } else { self.record_bytes }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScriptMaxima {
    /// Default 10,000 ms.
    pub cpu_ms: u64,
    /// Default 300,000 ms.
    pub wall_ms: u64,
    /// Default 256 MiB.
    pub memory_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Supervisor {
    /// `one_for_one` (default): a crash restarts its subscription. `one_for_all`: the other
    /// subscriptions of the same script too.
    pub strategy: Strategy,
    /// Restarts within `window` before the policy is exhausted. Default 5.
    pub max_restarts: u32,
    /// Default 60 s.
    pub window: Span,
    pub backoff: RestartBackoff,
    /// `suspend` (default): the subscription stands still until an operator resumes it.
    /// `escalate`: the process ends non-zero, for its own supervisor.
    pub on_exhausted: OnExhausted,
    pub breaker: Breaker,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    #[default]
    OneForOne,
    OneForAll,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExhausted {
    #[default]
    Suspend,
    Escalate,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestartBackoff {
    /// Default 100 ms.
    pub initial: Span,
    /// Default 30 s.
    pub max: Span,
    /// Default 2.
    pub factor: f64,
    /// Default 0.2.
    pub jitter: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Dead letters in a row that suspend a subscription; 0: off. Default 20.
    pub dead_letters: u32,
}

/// How long things are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Settled events. Default 7 days; never one with an unfinished delivery or a `dead` letter.
    pub events: Keep,
    /// Runs. Default 7 days.
    pub runs: Keep,
    /// Letters, whatever their status. Default never.
    pub dead_letters: Keep,
    /// How long a repeated source and id is known, even if its event is gone. Default 24 h.
    pub dedup: Keep,
    /// The audit trail. Default 365 days.
    pub audit: Keep,
    /// Room for events, in bytes as stored; the oldest go first, under the same conditions as by
    /// age: what waits stays, even beyond it. Default 20 GiB.
    pub events_bytes: Room,
    /// Room for runs with their logs and recordings. Default 10 GiB.
    pub runs_bytes: Room,
    /// Room for letters; those that were replayed or discarded go, a `dead` one never. Default 2 GiB.
    pub dead_letters_bytes: Room,
    /// Room for the audit trail. Default 256 MiB.
    pub audit_bytes: Room,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Serve `/metrics` without a token. Default false.
    pub public: bool,
    /// Subscriptions that get series of their own; the others are `other`. Default 1,000.
    pub subscriptions_max: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// The runtime publishes events of its own, such as `tripline.dead_letter.created`, while an
    /// active subscription names their types. Default true: nobody pays for what nobody takes.
    pub events: bool,
}

/// Traces for OpenTelemetry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Where spans are posted, as JSON to `/v1/traces` below it: an OTLP collector such as
    /// `http://127.0.0.1:4318`. Default: empty, no traces.
    pub otlp_endpoint: String,
    /// Headers of these requests, as `name=value,name=value`. Not shown anywhere.
    pub otlp_headers: String,
    /// `service.name` of the spans. Default `tripline`.
    pub service_name: String,
    /// Which part of the publishes without a trace of their own begins one, 0 to 1. Default 1. Whether
    /// a trace that a publisher sent is recorded the publisher decides.
    pub sample_ratio: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// File with the key that seals the secrets, mode 0600; made by the first start. Keep a copy of
    /// it apart from those of the store. Default: `secrets.key` in the data folder.
    pub key_file: PathBuf,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fetch {
    /// Subnets that scripts may reach beside the public Internet, such as `10.1.0.0/16`. Default: none.
    /// A script still needs the host in its `fetch_allow`.
    pub subnets: Vec<ipnet::IpNet>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A `tracing` filter, such as `info` or `tripline=debug,warn`. Default `info`.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

/// How long something is kept: a span, or `"never"` for "never removed".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep(pub Option<Duration>);

/// Room on the disk: bytes, 1 MiB at least, or `"never"` for "never removed for its size".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room(pub Option<u64>);

/// Sizes are known to the mebibyte.
const ROOM_LEAST: u64 = 1 << 20;

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            shutdown_grace: Span(Duration::from_secs(20)),
            https: false,
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { url: "sqlite://data/tripline.db".into(), data: "data".into() }
    }
}

impl Default for Alerts {
    fn default() -> Self {
        Self { events: true }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            otlp_endpoint: String::new(),
            otlp_headers: String::new(),
            service_name: "tripline".into(),
            sample_ratio: 1.0,
        }
    }
}

impl Telemetry {
    /// Name and value of each header.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.otlp_headers.split(',').filter(|pair| !pair.trim().is_empty());
        pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.trim(), value.trim())
        })
    }
}

impl Default for Bus {
    fn default() -> Self {
        Self { kind: "embedded".into() }
    }
}

impl Default for Lanes {
    fn default() -> Self {
        Self { count: 0, isolation: Isolation::Process, slow_after_ms: 50 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            event_bytes: 1 << 20,
            batch_bytes: 16 << 20,
            batch_events: 10_000,
            json_depth: 64,
            max_hops: 16,
            max_spread: 100_000,
            backlog: 1_000_000,
            subscription_backlog: 10_000_000,
            in_hand_bytes: 64 << 20,
            mailbox: 1_024,
            kv_namespace_keys: 100_000,
            kv_namespace_bytes: 64 << 20,
            kv_bytes: 1 << 30,
            kv_namespaces: 10_000,
        }
    }
}

impl Default for Script {
    fn default() -> Self {
        Self {
            cpu_ms: 250,
            wall_ms: 10_000,
            memory_bytes: 32 << 20,
            stack_bytes: 256 << 10,
            log_bytes: 64 << 10,
            emits: 100,
            result_bytes: 1 << 20,
            host_calls: 1_000,
            fetches: 20,
            fetch_bytes: 5 << 20,
            kv_writes: 100,
            kv_value_bytes: 256 << 10,
            record: Record::Failed,
            record_bytes: 256 << 10,
            max: ScriptMaxima::default(),
        }
    }
}

impl Default for ScriptMaxima {
    fn default() -> Self {
        Self { cpu_ms: 10_000, wall_ms: 300_000, memory_bytes: 256 << 20 }
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self {
            strategy: Strategy::OneForOne,
            max_restarts: 5,
            window: Span(Duration::from_secs(60)),
            backoff: RestartBackoff::default(),
            on_exhausted: OnExhausted::Suspend,
            breaker: Breaker::default(),
        }
    }
}

impl Default for RestartBackoff {
    fn default() -> Self {
        Self {
            initial: Span(Duration::from_millis(100)),
            max: Span(Duration::from_secs(30)),
            factor: 2.0,
            jitter: 0.2,
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self { dead_letters: 20 }
    }
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for Retention {
    fn default() -> Self {
        Self {
            events: Keep(Some(DAY * 7)),
            runs: Keep(Some(DAY * 7)),
            dead_letters: Keep(None),
            dedup: Keep(Some(DAY)),
            audit: Keep(Some(DAY * 365)),
            events_bytes: Room(Some(20 << 30)),
            runs_bytes: Room(Some(10 << 30)),
            dead_letters_bytes: Room(Some(2 << 30)),
            audit_bytes: Room(Some(256 << 20)),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { public: false, subscriptions_max: 1_000 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Human }
    }
}

impl Config {
    /// The folder for what lies beside the store: the admin token, the key of the secrets.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.storage.data.clone()
    }

    /// The file with the key of the secrets.
    #[must_use]
    pub fn secrets_key_file(&self) -> PathBuf {
        if self.secrets.key_file.as_os_str().is_empty() {
            return self.data_dir().join("secrets.key");
        }
        self.secrets.key_file.clone()
    }

    /// The key and what was expected of it, for the first value that cannot be.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let wrong = |key, expected: &str| Err((key, expected.to_owned()));
        let url = &self.storage.url;
        if !["sqlite://", "postgres://", "postgresql://"].iter().any(|p| url.starts_with(p)) {
            return wrong(
                "storage.url",
                "a URL such as sqlite://data/tripline.db or postgres://user@host/db",
            );
        }
        match self.bus.kind.as_str() {
            "embedded" => {}
            "nats" => return wrong("bus.kind", "\"embedded\": the NATS bus does not exist yet"),
            _ => return wrong("bus.kind", "\"embedded\""),
        }
        let limits = &self.limits;
        if limits.event_bytes == 0 || limits.event_bytes > 64 << 20 {
            return wrong("limits.event_bytes", "1 to 67108864 (64 MiB)");
        }
        if limits.batch_bytes < limits.event_bytes {
            return wrong("limits.batch_bytes", "at least limits.event_bytes");
        }
        if !(1..=1_000_000).contains(&limits.batch_events) {
            return wrong("limits.batch_events", "1 to 1000000");
        }
        if !(1..=100).contains(&limits.json_depth) {
            return wrong("limits.json_depth", "1 to 100");
        }
        if limits.max_hops == 0 {
            return wrong("limits.max_hops", "at least 1");
        }
        if limits.max_spread == 0 {
            return wrong("limits.max_spread", "at least 1");
        }
        if limits.backlog == 0 {
            return wrong("limits.backlog", "at least 1");
        }
        if limits.subscription_backlog == 0 {
            return wrong("limits.subscription_backlog", "at least 1");
        }
        if !(16..=1_000_000).contains(&limits.mailbox) {
            return wrong("limits.mailbox", "16 to 1000000");
        }
        if limits.in_hand_bytes < 1 << 20 {
            return wrong("limits.in_hand_bytes", "at least 1048576 (1 MiB)");
        }
        if self.lanes.count > 256 {
            return wrong("lanes.count", "0 (one per core) to 256");
        }
        if self.lanes.slow_after_ms == 0 {
            return wrong("lanes.slow_after_ms", "at least 1");
        }
        if !is_log_filter(&self.log.level) {
            return wrong(
                "log.level",
                "off, error, warn, info, debug, trace, or a filter such as \"tripline=debug,warn\"",
            );
        }
        self.check_telemetry()?;
        self.check_script()?;
        self.check_supervisor()
    }

    fn check_telemetry(&self) -> Result<(), (&'static str, String)> {
        let telemetry = &self.telemetry;
        let endpoint = &telemetry.otlp_endpoint;
        let is_http = endpoint
            .parse::<url::Url>()
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.query().is_none());
        if !endpoint.is_empty() && !is_http {
            let expected = "the URL of an OTLP collector over HTTP, such as http://127.0.0.1:4318";
            return Err(("telemetry.otlp_endpoint", expected.into()));
        }
        let is_header = |(name, value): (&str, &str)| {
            let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !name.is_empty()
                && name.chars().all(is_name)
                && !value.is_empty()
                && value.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        };
        if !telemetry.headers().all(is_header) {
            return Err(("telemetry.otlp_headers", "name=value pairs with commas between".into()));
        }
        if !(0.0..=1.0).contains(&telemetry.sample_ratio) {
            return Err(("telemetry.sample_ratio", "0 to 1".into()));
        }
        Ok(())
    }

    /// The limits of a run whose subscription has none of its own.
    #[must_use]
    pub fn run_limits(&self) -> RunLimits {
        let script = &self.script;
        RunLimits {
            cpu: Duration::from_millis(script.cpu_ms),
            wall: Duration::from_millis(script.wall_ms),
            heap_bytes: usize::try_from(script.memory_bytes).unwrap_or(usize::MAX),
            stack_bytes: script.stack_bytes,
            log_bytes: script.log_bytes,
            emits: script.emits,
            result_bytes: script.result_bytes,
            // An emitted event is an event: no door is wider than the publishers'.
            emit_bytes: self.limits.event_bytes,
            calls: script.host_calls,
            fetches: script.fetches,
            kv_writes: script.kv_writes,
            kv_value_bytes: script.kv_value_bytes,
        }
    }

    fn check_script(&self) -> Result<(), (&'static str, String)> {
        let (script, max) = (&self.script, &self.script.max);
        let within = |key, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err((key, format!("{least} to {most}")))
            }
        };
        within("script.cpu_ms", script.cpu_ms, 1, max.cpu_ms)?;
        within("script.wall_ms", script.wall_ms, 1, max.wall_ms)?;
        within("script.memory_bytes", script.memory_bytes, 1 << 20, max.memory_bytes)?;
        within("script.stack_bytes", script.stack_bytes as u64, 64 << 10, 1 << 20)?;
        within("script.log_bytes", script.log_bytes as u64, 0, 16 << 20)?;
        within("script.emits", u64::from(script.emits), 0, 100_000)?;
        within("script.result_bytes", script.result_bytes as u64, 2, 16 << 20)?;
        within("script.host_calls", u64::from(script.host_calls), 0, 1_000_000)?;
        within("script.fetches", u64::from(script.fetches), 0, 1_000)?;
        within("script.fetch_bytes", script.fetch_bytes as u64, 0, 16 << 20)?;
        within("script.kv_writes", u64::from(script.kv_writes), 0, 10_000)?;
        within("script.kv_value_bytes", script.kv_value_bytes as u64, 2, 4 << 20)?;
        within("script.record_bytes", script.record_bytes as u64, 1 << 10, 16 << 20)
    }

    fn check_supervisor(&self) -> Result<(), (&'static str, String)> {
        let backoff = &self.supervisor.backoff;
        if !(1.0..=100.0).contains(&backoff.factor) {
            return Err(("supervisor.backoff.factor", "1 to 100".into()));
        }
        if !(0.0..=1.0).contains(&backoff.jitter) {
            return Err(("supervisor.backoff.jitter", "0 to 1".into()));
        }
        if backoff.max.0 < backoff.initial.0 {
            return Err(("supervisor.backoff.max", "at least supervisor.backoff.initial".into()));
        }
        if self.supervisor.window.0.is_zero() {
            return Err(("supervisor.window", "more than zero, such as \"60s\"".into()));
        }
        Ok(())
    }
}

impl Supervisor {
    #[must_use]
    pub fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy {
            max_restarts: self.max_restarts,
            window: self.window.0,
            backoff_initial: self.backoff.initial.0,
            backoff_max: self.backoff.max.0,
            backoff_factor: self.backoff.factor,
            backoff_jitter: self.backoff.jitter,
        }
    }

    #[must_use]
    pub fn is_one_for_all(&self) -> bool {
        self.strategy == Strategy::OneForAll
    }

    #[must_use]
    pub fn escalates(&self) -> bool {
        self.on_exhausted == OnExhausted::Escalate
    }
}

/// `EnvFilter` takes any word for the name of a module to trace: `inof` would silence the log.
fn is_log_filter(text: &str) -> bool {
    let is_level = |word: &str| word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    tracing_subscriber::EnvFilter::try_new(text).is_ok()
        && text.split(',').all(|part| part.contains(['=', '[', ']', '}']) || is_level(part.trim()))
        && !text.trim().is_empty()
}

// ── where values come from ───────────────────────────────────────────────────────────────────────

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    File { path: PathBuf, line: usize, column: usize },
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// The configuration in force, and where each value came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// By dotted key; keys that are not in it have their default.
    pub sources: BTreeMap<String, Source>,
}

/// Why the configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// `place` is `file:line:column`, or names the variable or the flag.
    #[error("{place}: {problem}")]
    Wrong { place: String, problem: String },
}

/// Variables that all programs with OpenTelemetry know, and which keys they are here. Our own win.
const OPENTELEMETRY: [(&str, &str); 3] = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "telemetry.otlp_headers"),
    ("OTEL_SERVICE_NAME", "telemetry.service_name"),
];

/// Reads the file (`./tripline.toml` if it exists and none is named), then lays environment
/// variables and flags over it.
///
/// `environment` is the process's, or a test's; `flags` are dotted keys with the flag's name.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[(&'static str, &'static str, String)],
) -> Result<Loaded, Error> {
    let fallback = Path::new("tripline.toml");
    let path = file.or_else(|| fallback.exists().then_some(fallback));
    let mut sources = BTreeMap::new();
    let mut table = Table::new();
    if let Some(path) = path {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.into(), source })?;
        table = read_file(path, &text, &mut sources)?;
    }
    let (ours, others): (Vec<_>, Vec<_>) = environment
        .into_iter()
        .partition(|(name, _)| name.starts_with("TRIPLINE_") && name.contains("__"));
    for (name, value) in others {
        let Some((_, key)) = OPENTELEMETRY.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        lay_over(&mut table, key, &value)
            .map_err(|problem| Error::Wrong { place: format!("environment {name}"), problem })?;
        sources.insert((*key).to_owned(), Source::Environment(name));
    }
    let mut variables: Vec<(String, String)> = ours;
    variables.sort();
    for (name, value) in variables {
        let key = name["TRIPLINE_".len()..].to_lowercase().replace("__", ".");
        lay_over(&mut table, &key, &value)
            .map_err(|problem| Error::Wrong { place: format!("environment {name}"), problem })?;
        sources.insert(key, Source::Environment(name));
    }
    for (key, flag, value) in flags {
        lay_over(&mut table, key, value)
            .map_err(|problem| Error::Wrong { place: format!("flag {flag}"), problem })?;
        sources.insert((*key).to_owned(), Source::Flag(flag));
    }
    let mut config =
        parse(table).map_err(|problem| Error::Wrong { place: "configuration".into(), problem })?;
    if !sources.contains_key("storage.url")
        && let Some(source) = sources.get("storage.data").cloned()
    {
        config.storage.url =
            format!("sqlite://{}", config.storage.data.join("tripline.db").display());
        sources.insert("storage.url".into(), source);
    }
    let loaded = Loaded { config, sources };
    match loaded.config.check() {
        Ok(()) => Ok(loaded),
        Err((key, expected)) => Err(loaded.wrong(key, &expected)),
    }
}

/// [`load`] with the environment of this process.
pub fn load_for_process(
    file: Option<&Path>,
    flags: &[(&'static str, &'static str, String)],
) -> Result<Loaded, Error> {
    // A variable that is no text cannot be one of ours, and must not stop us.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load(file, variables, flags)
}

/// The text of a file on its own, without variables and flags.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_text(text: &str) -> Result<Config, Error> {
    let path = Path::new("tripline.toml");
    let table = read_file(path, text, &mut BTreeMap::new())?;
    parse(table).map_err(|problem| Error::Wrong { place: path.display().to_string(), problem })
}

fn parse(table: Table) -> Result<Config, String> {
    Config::deserialize(Value::Table(table)).map_err(|error| with_nearest(error.message()))
}

/// Adds the known key that an unknown one is probably meant to be.
///
/// The known keys are those that serde's message lists after the unknown one, in backticks.
fn with_nearest(message: &str) -> String {
    let message = message.trim();
    let mut names = message.split('`').skip(1).step_by(2);
    let (true, Some(unknown)) = (message.starts_with("unknown"), names.next()) else {
        return message.to_owned();
    };
    let near = names.map(|name| (distance(unknown, name), name)).min();
    match near {
        Some((edits, name)) if edits <= unknown.len().div_ceil(3) => {
            format!("{message}; did you mean `{name}`?")
        }
        _ => message.to_owned(),
    }
}

/// Edits between two short words, a swap of neighbours counting as two (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Parses the file on its own first: its errors know line, column and key.
fn read_file(
    path: &Path,
    text: &str,
    sources: &mut BTreeMap<String, Source>,
) -> Result<Table, Error> {
    let wrong = |at: Option<Range<usize>>, problem: String| {
        let (line, column) = position(text, at.map_or(0, |span| span.start));
        Error::Wrong { place: format!("{}:{line}:{column}", path.display()), problem }
    };
    let document = toml_edit::Document::parse(text)
        .map_err(|error| wrong(error.span(), error.message().trim().to_owned()))?;
    let mut keys = Vec::new();
    leaves("", document.as_table(), &mut keys);
    toml::from_str::<Config>(text).map_err(|error| {
        let problem = with_nearest(error.message());
        let at = error.span();
        // A wrong value is named by its key; an unknown key names itself.
        let is_at = |span: &Range<usize>| at.as_ref().is_some_and(|at| span.contains(&at.start));
        match keys.iter().find(|(_, span)| is_at(span)) {
            Some((key, _)) if !problem.starts_with("unknown field") => {
                wrong(at, format!("{key}: {problem}"))
            }
            _ => wrong(at, problem),
        }
    })?;
    let table = toml::from_str(text)
        .map_err(|error| wrong(error.span(), error.message().trim().to_owned()))?;
    for (key, span) in keys {
        let (line, column) = position(text, span.start);
        sources.insert(key, Source::File { path: path.into(), line, column });
    }
    Ok(table)
}

/// Dotted keys of all values, with the bytes that each value takes.
fn leaves(prefix: &str, table: &dyn toml_edit::TableLike, keys: &mut Vec<(String, Range<usize>)>) {
    for (name, item) in table.iter() {
        let key = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        match item.as_table_like() {
            Some(inner) => leaves(&key, inner, keys),
            None => keys.push((key, item.span().unwrap_or_default())),
        }
    }
}

/// 1-based line and column of a byte.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    (line, column)
}

/// Sets one dotted key; the value is TOML if it parses as such, else a string. The result is
/// deserialised at once, so that an error names this very override.
fn lay_over(table: &mut Table, key: &str, text: &str) -> Result<(), String> {
    let as_toml =
        format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    let candidates = as_toml.into_iter().chain([Value::String(text.to_owned())]);
    let mut last = String::new();
    for value in candidates {
        let mut attempt = table.clone();
        let mut inner = &mut attempt;
        let (path, name) = key.rsplit_once('.').unwrap_or(("", key));
        for part in path.split('.').filter(|part| !part.is_empty()) {
            inner = inner
                .entry(part)
                .or_insert_with(|| Value::Table(Table::new()))
                .as_table_mut()
                .ok_or_else(|| format!("{part} is no section"))?;
        }
        inner.insert(name.to_owned(), value);
        match parse(attempt.clone()) {
            Ok(_) => {
                *table = attempt;
                return Ok(());
            }
            Err(problem) => last = problem,
        }
    }
    Err(format!("{key}: {last}"))
}

impl Loaded {
    /// Where the value of a key was set; an override of a whole section counts for what is in it.
    fn source(&self, key: &str) -> &Source {
        let mut key = key;
        loop {
            match (self.sources.get(key), key.rsplit_once('.')) {
                (Some(source), _) => return source,
                (None, Some((section, _))) => key = section,
                (None, None) => return &Source::Default,
            }
        }
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = self.entries().into_iter().find(|(name, ..)| name == key);
        let found = found.map(|(_, value, _)| value).unwrap_or_default();
        Error::Wrong {
            place: self.source(key).to_string(),
            problem: format!("{key}: expected {expected}, found {found}"),
        }
    }

    /// Every key with its value and where it came from, in order: `config show` and `/config`.
    #[must_use]
    pub fn entries(&self) -> Vec<(String, serde_json::Value, String)> {
        let mut entries = Vec::new();
        let tree = serde_json::to_value(&self.config).expect("settings are plain data");
        flatten("", tree, &mut entries);
        entries
            .into_iter()
            .map(|(key, value)| {
                let source = self.source(&key).to_string();
                // A password in a database URL is a secret like any other.
                let value = match key.as_str() {
                    "storage.url" | "telemetry.otlp_endpoint" => masked(value),
                    "telemetry.otlp_headers" if value != "" => "***".into(),
                    _ => value,
                };
                (key, value, source)
            })
            .collect()
    }
}

fn flatten(prefix: &str, value: serde_json::Value, entries: &mut Vec<(String, serde_json::Value)>) {
    match value {
        serde_json::Value::Object(members) => {
            for (name, member) in members {
                let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                flatten(&key, member, entries);
            }
        }
        leaf => entries.push((prefix.to_owned(), leaf)),
    }
}

/// A database URL without its password, be it in the login or in the query.
fn masked(value: serde_json::Value) -> serde_json::Value {
    let Some(text) = value.as_str() else { return value };
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    let mut shown = match address
        .split_once("://")
        .and_then(|(scheme, rest)| rest.rsplit_once('@').map(|(login, host)| (scheme, login, host)))
    {
        Some((scheme, login, host)) => match login.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
            None => address.to_owned(),
        },
        None => address.to_owned(),
    };
    for (index, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        let name = pair.split('=').next().unwrap_or_default();
        let is_secret = name.to_ascii_lowercase().contains("password");
        shown.push(if index == 0 { '?' } else { '&' });
        shown.push_str(if is_secret { "password=***" } else { pair });
    }
    shown.into()
}

impl Serialize for Keep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(span) => serializer.collect_str(&Span(span)),
            None => serializer.serialize_str("never"),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "never" {
            return Ok(Self(None));
        }
        parse_span(&text)
            .map(|span| Self(Some(span)))
            .map_err(|error| D::Error::custom(format!("{error}, or \"never\"")))
    }
}

impl Serialize for Room {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(bytes) => serializer.serialize_u64(bytes),
            None => serializer.serialize_str("never"),
        }
    }
}

impl<'de> Deserialize<'de> for Room {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || {
            D::Error::custom(format!("expected {ROOM_LEAST} (1 MiB) or more bytes, or \"never\""))
        };
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == "never" => Ok(Self(None)),
            Value::Integer(bytes) => match u64::try_from(bytes) {
                Ok(bytes) if bytes >= ROOM_LEAST => Ok(Self(Some(bytes))),
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, Error> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("tripline.toml");
        std::fs::write(&path, text).expect("a file");
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        load(Some(&path), environment, &[])
    }

    #[track_caller]
    fn refused(text: &str, expected: &[&str]) {
        let error = load_text(text, &[]).expect_err("a refusal").to_string();
        for part in expected {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(load_text("", &[]).expect("a configuration").config, Config::default());
    }

    #[test]
    fn the_example_of_the_design_loads() {
        let text = r#"
            [server]
            listen = "127.0.0.1:7070"
            [storage]
            url = "sqlite://data/tripline.db"
            [bus]
            kind = "embedded"
            [lanes]
            count = 0
            isolation = "process"
            slow_after_ms = 50
            [limits]
            event_bytes = 1048576
            [script]
            cpu_ms = 250
            [supervisor]
            strategy = "one_for_one"
            max_restarts = 5
            window = "60s"
            backoff = { initial = "100ms", max = "30s", factor = 2.0, jitter = 0.2 }
            on_exhausted = "suspend"
            [supervisor.breaker]
            dead_letters = 20
            [retention]
            events = "7d"
            dead_letters = "never"
            dedup = "24h"
            [metrics]
            public = false
            subscriptions_max = 1000
        "#;
        assert_eq!(load_text(text, &[]).expect("a configuration").config, Config::default());
    }

    #[test]
    fn a_typo_stops_the_start_with_its_line_and_the_known_keys() {
        refused(
            "[server]\n\nlisten_on = \"127.0.0.1:1\"",
            &["tripline.toml:3:1", "listen_on", "`listen`"],
        );
        refused("[limits]\nmax_hop = 3", &["tripline.toml:2:1", "did you mean `max_hops`?"]);
        refused("[script]\nmax = { cpu = 3 }", &["tripline.toml:2:", "`cpu`", "`cpu_ms`"]);
        refused("[sever]\n", &["tripline.toml:1:", "sever", "`server`"]);
    }

    #[test]
    fn a_wrong_value_says_what_was_expected() {
        refused("[server]\nlisten = 7070", &["tripline.toml:2:10", "server.listen", "7070"]);
        refused("[lanes]\nisolation = \"vm\"", &["lanes.isolation", "vm", "`process`"]);
        refused("[server\n", &["tripline.toml:1:"]);
        refused("[lanes]\ncount = 1\ncount = 2", &["tripline.toml:3:1", "duplicate"]);
        refused("[supervisor]\nwindow = \"soon\"", &["tripline.toml:2:", "soon", "30s"]);
        refused(
            "[limits]\njson_depth = 0",
            &["tripline.toml:2:14", "limits.json_depth", "1 to 100", "found 0"],
        );
        refused("[script]\ncpu_ms = 20000", &["script.cpu_ms", "1 to 10000"]);
    }

    #[test]
    fn a_feature_that_does_not_exist_is_refused_with_that_reason() {
        refused("[bus]\nkind = \"nats\"", &["bus.kind", "does not exist yet"]);
    }

    #[test]
    fn the_environment_wins_over_the_file_and_is_named() {
        let loaded = load_text(
            "[lanes]\ncount = 1\n[log]\nlevel = \"warn\"",
            &[("TRIPLINE_LANES__COUNT", "3"), ("TRIPLINE_SUPERVISOR__BREAKER__DEAD_LETTERS", "7")],
        )
        .expect("a configuration");
        assert_eq!(loaded.config.lanes.count, 3);
        assert_eq!(loaded.config.supervisor.breaker.dead_letters, 7);
        assert_eq!(loaded.sources["lanes.count"].to_string(), "environment TRIPLINE_LANES__COUNT");
        assert!(loaded.sources["log.level"].to_string().ends_with("tripline.toml:4:9"));

        let error = load_text("", &[("TRIPLINE_LANES__COUNT", "many")]).expect_err("a refusal");
        assert!(error.to_string().contains("TRIPLINE_LANES__COUNT"), "{error}");
        let error = load_text("", &[("TRIPLINE_LANES__CUONT", "1")]).expect_err("a refusal");
        assert!(error.to_string().contains("did you mean `count`?"), "{error}");
    }

    #[test]
    fn what_all_programs_with_opentelemetry_know_counts_below_our_own() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer hush,x-tenant=a"),
            ("OTEL_SERVICE_NAME", "orders"),
            ("TRIPLINE_TELEMETRY__SERVICE_NAME", "tripline-orders"),
        ];
        let loaded = load_text("[telemetry]\notlp_endpoint = \"http://other\"", &variables);
        let loaded = loaded.expect("loads");
        let telemetry = &loaded.config.telemetry;
        assert_eq!(telemetry.otlp_endpoint, "http://collector:4318");
        assert_eq!(telemetry.service_name, "tripline-orders");
        let headers: Vec<_> = telemetry.headers().collect();
        assert_eq!(headers, [("authorization", "Bearer hush"), ("x-tenant", "a")]);
        assert!(!format!("{:?}", loaded.entries()).contains("hush"));

        refused("[telemetry]\notlp_endpoint = \"collector:4317\"", &["telemetry.otlp_endpoint"]);
        refused("[telemetry]\notlp_headers = \"authorization\"", &["telemetry.otlp_headers"]);
        refused("[telemetry]\nsample_ratio = 2.0", &["telemetry.sample_ratio", "0 to 1"]);
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("tripline.toml");
        std::fs::write(&path, "[server]\nlisten = \"127.0.0.1:1\"").expect("a file");
        let environment = || [("TRIPLINE_SERVER__LISTEN".to_owned(), "127.0.0.1:2".to_owned())];
        let flag = |value: &str| [("server.listen", "--listen", value.to_owned())];

        let loaded = load(Some(&path), environment(), &flag("127.0.0.1:3")).expect("loads");
        assert_eq!(loaded.config.server.listen.port(), 3);
        assert_eq!(loaded.sources["server.listen"].to_string(), "flag --listen");

        let error = load(Some(&path), environment(), &flag("here")).expect_err("a refusal");
        assert!(error.to_string().starts_with("flag --listen: server.listen"), "{error}");
    }

    #[test]
    fn an_override_of_a_section_is_the_source_of_what_is_in_it() {
        let variable = ("TRIPLINE_SUPERVISOR__BACKOFF", "{ initial = \"1s\", max = \"2s\" }");
        let loaded = load_text("", &[variable]).expect("loads");
        let entries = loaded.entries();
        let of = |key: &str| entries.iter().find(|(k, ..)| k == key).expect("the key").clone();
        assert_eq!(of("supervisor.backoff.initial").1, "1s");
        assert_eq!(of("supervisor.backoff.initial").2, "environment TRIPLINE_SUPERVISOR__BACKOFF");
        assert_eq!(of("supervisor.window").2, "default");
    }

    #[test]
    fn other_variables_are_none_of_our_business() {
        let others = [("TRIPLINE_URL", "http://x"), ("TRIPLINE_TOKEN", "t"), ("A__B", "c")];
        assert_eq!(load_text("", &others).expect("loads").config, Config::default());
    }

    #[test]
    fn a_number_as_text_stays_text_where_text_is_wanted() {
        let loaded = load_text("", &[("TRIPLINE_STORAGE__DATA", "7")]).expect("loads");
        assert_eq!(loaded.config.storage.url, "sqlite://7/tripline.db");
        let keep = load_text("", &[("TRIPLINE_RETENTION__EVENTS", "12h")]).expect("loads");
        assert_eq!(keep.config.retention.events, Keep(Some(DAY / 2)));
    }

    #[test]
    fn a_missing_file_that_was_named_is_refused() {
        let error = load(Some(Path::new("no/such.toml")), [], &[]).expect_err("a refusal");
        assert!(error.to_string().contains("no/such.toml"), "{error}");
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        refused("[log]\nlevel = \"inof\"", &["log.level", "inof", "info"]);
        refused("[log]\nlevel = \"\"", &["log.level"]);
        let fine = |level: &str| load_text(&format!("[log]\nlevel = \"{level}\""), &[]).is_ok();
        assert!(fine("debug") && fine("tripline=debug,warn") && fine("OFF"));
    }

    #[test]
    fn limits_that_allow_nothing_are_refused() {
        for key in ["max_hops", "max_spread", "backlog", "subscription_backlog", "mailbox"] {
            refused(&format!("[limits]\n{key} = 0"), &[key, "found 0"]);
        }
        refused("[lanes]\nslow_after_ms = 0", &["lanes.slow_after_ms"]);
        refused("[limits]\nbatch_bytes = 10", &["limits.batch_bytes", "limits.event_bytes"]);
        refused("[script.max]\ncpu_ms = 100", &["script.cpu_ms", "1 to 100"]);
    }

    #[test]
    fn an_emitted_event_may_be_as_large_as_a_published_one() {
        let loaded = load_text("[limits]\nevent_bytes = 2000", &[]).expect("loads");
        assert_eq!(loaded.config.run_limits().emit_bytes, 2_000);
        assert_eq!(Config::default().run_limits(), RunLimits::default());
    }

    #[test]
    fn room_is_a_number_of_bytes_or_never() {
        let room = |text: &str| {
            let loaded = load_text(&format!("[retention]\nevents_bytes = {text}"), &[]);
            loaded.map(|loaded| loaded.config.retention.events_bytes.0)
        };
        assert_eq!(room("1048576").expect("loads"), Some(1 << 20));
        assert_eq!(room("\"never\"").expect("loads"), None);
        for text in ["0", "-1", "1000", "\"10 GiB\"", "1.5"] {
            let error = room(text).expect_err("a refusal").to_string();
            assert!(error.contains("retention.events_bytes") && error.contains("never"), "{error}");
        }
        refused("[retention]\nevent_bytes = 1048576", &["did you mean `events_bytes`?"]);
        let variable = ("TRIPLINE_RETENTION__RUNS_BYTES", "2097152");
        let loaded = load_text("", &[variable]).expect("loads");
        assert_eq!(loaded.config.retention.runs_bytes, Room(Some(2 << 20)));
    }

    #[test]
    fn what_is_shown_loads_again() {
        let text = "[retention]\nevents = \"36h\"\ndedup = \"never\"\naudit_bytes = \"never\"\n[supervisor]\nwindow = 1500";
        let loaded = load_text(text, &[]).expect("loads");
        let again = toml::to_string(&loaded.config).expect("settings are plain data");
        assert_eq!(load_text(&again, &[]).expect("loads").config, loaded.config);
    }

    #[test]
    fn the_data_folder_moves_the_store_unless_its_url_is_set() {
        let at = |text: &str| load_text(text, &[]).expect("loads").config.storage.url;
        assert_eq!(at("[storage]\ndata = \"/var/lib/t\""), "sqlite:///var/lib/t/tripline.db");
        let text = "[storage]\ndata = \"/var/lib/t\"\nurl = \"sqlite:///mnt/x.db\"";
        assert_eq!(at(text), "sqlite:///mnt/x.db");
    }

    #[test]
    fn a_password_is_not_shown() {
        let loaded =
            load_text("[storage]\nurl = \"postgres://me:hunter2@db/x\"", &[]).expect("loads");
        let shown = format!("{:?}", loaded.entries());
        assert!(!shown.contains("hunter2") && shown.contains("postgres://me:***@db/x"));

        let masked = |url: &str| masked(url.into());
        let query = "postgres://db/x?sslmode=require&password=hunter2";
        assert_eq!(masked(query), "postgres://db/x?sslmode=require&password=***");
        assert_eq!(masked("postgres://me@db/x"), "postgres://me@db/x");
        assert_eq!(masked("sqlite://data/tripline.db"), "sqlite://data/tripline.db");
        refused("[storage]\nurl = \"mysql://me:hunter2@db/x\"", &["storage.url", "me:***@db"]);
    }
}
