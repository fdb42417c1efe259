//! Logs and metrics: what the process says about itself.
//!
//! Labels never come from event content. `subscription` is the id of at most
//! `metrics.subscriptions_max` subscriptions, then `other`; its series end with it.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{Log, LogFormat},
    domain::SubscriptionId,
};

/// Seconds: from the round trip of a lane to a backlog of minutes.
const LATENCY_BUCKETS: [f64; 20] = [
    0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0,
];
const BATCH_BUCKETS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1_000.0, 4_096.0];

static METRICS: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
static LABELS: Mutex<Option<Labels>> = Mutex::new(None);

#[derive(Default)]
struct Labels {
    max: usize,
    named: HashSet<SubscriptionId>,
    ended: HashSet<SubscriptionId>,
}

/// Tells of requests that are none, as errors: no error of ours, and anybody can send them.
const PARSER: &str = "actix_http::h1";

/// A log that cannot be written, on a full disk perhaps, is no reason to fail: whoever logs goes on.
struct BestEffort<W>(W);

impl<W: io::Write> io::Write for BestEffort<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _lost = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _lost = self.0.flush();
        Ok(())
    }
}

/// Starts the log on standard error. A second call (tests, embedding applications with a
/// subscriber of their own) changes nothing.
pub fn start_log(log: &Log) -> Result<(), tracing_subscriber::filter::ParseError> {
    let mut filter = EnvFilter::try_new(&log.level)?;
    if !log.level.contains(PARSER) {
        filter = filter.add_directive(format!("{PARSER}=off").parse()?);
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| BestEffort(std::io::stderr()))
        .log_internal_errors(false);
    let _ = match log.format {
        LogFormat::Human => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}

/// Starts the metrics of this process, once; `subscriptions_max` bounds the label's values.
pub(crate) fn start_metrics(subscriptions_max: usize) {
    labels().get_or_insert_with(Labels::default).max = subscriptions_max;
    let started = METRICS.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &LATENCY_BUCKETS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_size".into()), &BATCH_BUCKETS)
            })
            .and_then(PrometheusBuilder::install_recorder);
        // An embedding application may have a recorder of its own: ours then stays silent.
        recorder.map_err(|error| error.to_string())
    });
    if let Err(error) = started {
        tracing::warn!(%error, "metrics go to the recorder that was there before");
    }
    describe();
}

fn describe() {
    describe_counter!("tripline_events_received_total", "Events accepted, duplicates not counted");
    describe_counter!(
        "tripline_hook_deliveries_total",
        "Deliveries of inbound webhooks, by outcome"
    );
    describe_counter!("tripline_events_processed_total", "Deliveries that ended, by outcome");
    describe_counter!("tripline_events_unmatched_total", "Events that no subscription took");
    describe_counter!("tripline_deliveries_total", "Attempts by subscription and outcome");
    describe_gauge!("tripline_queue_depth", "Deliveries of a subscription that are not settled");
    describe_gauge!("tripline_dead_letters", "Dead letters of a subscription");
    describe_gauge!("tripline_subscriptions", "Subscriptions by state");
    describe_counter!(
        "tripline_store_statements_total",
        "Statements on the store beside the journal's commits"
    );
    describe_gauge!("tripline_store_bytes", "What the store takes on disk, without its log");
    describe_gauge!("tripline_wal_bytes", "What the write-ahead log of an SQLite store takes");
    describe_gauge!("tripline_backlog_events", "Accepted events that wait to be handled");
    describe_histogram!(
        "tripline_delivery_latency_seconds",
        Unit::Seconds,
        "From the arrival of an event to the commit of a delivery's last outcome"
    );
    describe_histogram!("tripline_run_duration_seconds", Unit::Seconds, "Duration of runs");
    describe_histogram!("tripline_run_cpu_seconds", Unit::Seconds, "CPU time of runs");
    describe_histogram!(
        "tripline_run_wait_seconds",
        Unit::Seconds,
        "From the moment a run was due to its start"
    );
    describe_gauge!(
        "tripline_memory_bytes",
        "JS heap of a subscription's script after its last run, beyond an empty runtime's, in steps of 4 KiB"
    );
    describe_histogram!("tripline_journal_commit_seconds", Unit::Seconds, "Duration of commits");
    describe_histogram!("tripline_journal_batch_size", "Requests in one commit");
    describe_counter!("tripline_host_calls_total", "Calls of runs that left their lane");
    describe_counter!(
        "tripline_kv_conflicts_total",
        "Runs that went again for a conflict over keys"
    );
    describe_counter!("tripline_actor_restarts_total", "Restarts of actors and lanes");
    describe_gauge!("tripline_intake_open", "1 while the journal takes events, 0 while it cannot");
    intake(true);
    describe_counter!("tripline_trace_spans_total", "Spans that were exported or dropped");
    // A series that begins with its first crash hides that crash from `rate()`.
    actor_restarts("subscription").increment(0);
}

/// The metrics in Prometheus' text format.
#[must_use]
pub fn render() -> String {
    let Some(Ok(handle)) = METRICS.get() else { return String::new() };
    let text = handle.render();
    let labels = labels();
    let Some(ended) = labels.as_ref().map(|labels| &labels.ended).filter(|ended| !ended.is_empty())
    else {
        return text;
    };
    let is_ended = |line: &str| {
        let id = line.split_once("subscription=\"").and_then(|(_, rest)| rest.split('"').next());
        id.and_then(|id| id.parse().ok()).is_some_and(|id| ended.contains(&id))
    };
    text.lines().filter(|line| !is_ended(line)).flat_map(|line| [line, "\n"]).collect()
}

/// Letters of a subscription that are dead now.
pub(crate) fn dead_letters(subscription: SubscriptionId, count: u64) {
    metrics::gauge!("tripline_dead_letters", "subscription" => label(subscription))
        .set(count as f64);
}

/// What the store takes on disk; `wal` where it has a log of its own.
pub(crate) fn store_bytes(store: u64, wal: Option<u64>) {
    metrics::gauge!("tripline_store_bytes").set(store as f64);
    if let Some(wal) = wal {
        metrics::gauge!("tripline_wal_bytes").set(wal as f64);
    }
}

/// What subscriptions hold now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// Deliveries that are not settled.
    pub(crate) depth: u64,
    pub(crate) memory_bytes: u64,
}

/// Sets the gauges of subscriptions, just before somebody looks. `states` names every state.
pub(crate) fn subscriptions(
    held: impl Iterator<Item = (SubscriptionId, Held)>,
    states: &[(&'static str, u64)],
) {
    let mut sums: HashMap<String, Held> = HashMap::new();
    for (subscription, held) in held {
        let sum = sums.entry(label(subscription)).or_default();
        sum.depth += held.depth;
        sum.memory_bytes += held.memory_bytes;
    }
    for (label, held) in sums {
        let depth = metrics::gauge!("tripline_queue_depth", "subscription" => label.clone());
        depth.set(held.depth as f64);
        let memory = metrics::gauge!("tripline_memory_bytes", "subscription" => label);
        memory.set(held.memory_bytes as f64);
    }
    for (state, count) in states {
        metrics::gauge!("tripline_subscriptions", "state" => *state).set(*count as f64);
    }
}

/// Folds samples into buckets; called every few seconds, whether or not somebody scrapes.
pub(crate) fn upkeep() {
    if let Some(Ok(handle)) = METRICS.get() {
        handle.run_upkeep();
    }
}

/// The label value of a subscription.
pub(crate) fn label(subscription: SubscriptionId) -> String {
    let mut labels = labels();
    let labels = labels.get_or_insert_with(Labels::default);
    if labels.named.contains(&subscription) || labels.named.len() < labels.max {
        labels.named.insert(subscription);
        return subscription.to_string();
    }
    "other".into()
}

/// The subscription is gone, and so are its series.
pub(crate) fn subscription_ended(subscription: SubscriptionId) {
    let mut labels = labels();
    let labels = labels.get_or_insert_with(Labels::default);
    if labels.named.remove(&subscription) {
        labels.ended.insert(subscription);
    }
}

/// Whether the journal takes events now.
pub(crate) fn intake(is_open: bool) {
    metrics::gauge!("tripline_intake_open").set(f64::from(u8::from(is_open)));
}

/// A delivery came to an inbound webhook. Only hooks that are defined are counted.
pub(crate) fn hook_delivery(hook: &str, outcome: &'static str) {
    metrics::counter!("tripline_hook_deliveries_total", "hook" => hook.to_owned(), "outcome" => outcome)
        .increment(1);
}

pub(crate) fn actor_restarted(actor: &'static str) {
    actor_restarts(actor).increment(1);
}

/// Lanes are restarted where nobody knows of metrics: their sum is set when somebody looks.
pub(crate) fn lane_restarts(count: u64) {
    actor_restarts("lane").absolute(count);
}

fn actor_restarts(actor: &'static str) -> metrics::Counter {
    metrics::counter!("tripline_actor_restarts_total", "actor" => actor)
}

/// Plain data, valid after every step: a poisoned lock is as good.
fn labels() -> MutexGuard<'static, Option<Labels>> {
    LABELS.lock().unwrap_or_else(PoisonError::into_inner)
}
