//! What happened lately: process totals sampled every few seconds, for the overview's charts.
//!
//! The totals are the metrics'; a ring of samples turns them into counts per step. A restart begins
//! anew: the past is in the log and the letters.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;

use crate::{Runtime, domain::Millis};

/// Between two samples.
pub(super) const STEP: Duration = Duration::from_secs(5);
/// Samples kept: an hour.
const SAMPLES_MAX: usize = 721;

/// The samples of one server.
#[derive(Default)]
pub(super) struct Series(Mutex<VecDeque<Sample>>);

/// Totals at one moment.
#[derive(Clone, Debug, Default)]
struct Sample {
    at: Millis,
    events: u64,
    succeeded: u64,
    failed: u64,
    dead: u64,
    backlog: u64,
    latency: Histogram,
}

/// Cumulative counts by upper bound in seconds, as Prometheus has them.
#[derive(Clone, Debug, Default, PartialEq)]
struct Histogram(Vec<(f64, u64)>);

/// What happened in one step.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Point {
    /// End of the step.
    pub at: Millis,
    /// Events accepted.
    pub events: u64,
    pub succeeded: u64,
    /// Attempts that failed, the last ones included.
    pub failed: u64,
    /// Deliveries that died.
    pub dead: u64,
    /// Events that waited at the end of the step.
    pub backlog: u64,
    /// From accepted to settled; null when nothing settled.
    #[schema(required = true)]
    pub p50_ms: Option<f64>,
    #[schema(required = true)]
    pub p99_ms: Option<f64>,
}

/// Rates of the last steps, and latency of the last minute.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub(super) struct Rates {
    pub events_per_s: f64,
    pub deliveries_per_s: f64,
    pub failed_per_s: f64,
    #[schema(required = true)]
    pub p50_ms: Option<f64>,
    #[schema(required = true)]
    pub p99_ms: Option<f64>,
}

impl Series {
    /// Takes a sample.
    pub(super) fn sample(&self, runtime: &Runtime) {
        let mut sample = read(&crate::telemetry::render());
        sample.at = Millis::now();
        sample.backlog = runtime.journal().backlog();
        let mut samples = self.lock();
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// The steps of the last `minutes`, oldest first.
    pub(super) fn points(&self, minutes: u64) -> Vec<Point> {
        let samples = self.lock();
        let wanted = usize::try_from(minutes * 60 / STEP.as_secs()).unwrap_or(SAMPLES_MAX);
        let first = samples.len().saturating_sub(wanted + 1);
        samples
            .iter()
            .skip(first)
            .zip(samples.iter().skip(first + 1))
            .map(|(a, b)| point(a, b))
            .collect()
    }

    pub(super) fn rates(&self) -> Rates {
        let samples = self.lock();
        let Some(last) = samples.back() else { return Rates::default() };
        let back =
            |steps: usize| samples.get(samples.len().saturating_sub(steps + 1)).unwrap_or(last);
        let recent = point(back(2), last);
        let minute = point(back(12), last);
        let seconds = last.at.since(back(2).at).as_secs_f64().max(0.001);
        let per_second = |count: u64| count as f64 / seconds;
        Rates {
            events_per_s: per_second(recent.events),
            deliveries_per_s: per_second(recent.succeeded + recent.dead),
            failed_per_s: per_second(recent.failed),
            p50_ms: minute.p50_ms,
            p99_ms: minute.p99_ms,
        }
    }

    /// The deque is valid after every step, so a poisoned lock is as good.
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn point(from: &Sample, to: &Sample) -> Point {
    let latency = to.latency.since(&from.latency);
    let milliseconds = |share| latency.quantile(share).map(|seconds| seconds * 1_000.0);
    Point {
        at: to.at,
        events: to.events.saturating_sub(from.events),
        succeeded: to.succeeded.saturating_sub(from.succeeded),
        failed: to.failed.saturating_sub(from.failed),
        dead: to.dead.saturating_sub(from.dead),
        backlog: to.backlog,
        p50_ms: milliseconds(0.5),
        p99_ms: milliseconds(0.99),
    }
}

/// Labels of attempts that failed: those that another one follows, and the last ones.
const FAILED: [&str; 2] = ["outcome=\"retrying\"}", "outcome=\"dead\"}"];

/// Totals from Prometheus' text: what is scraped and what is charted are the same numbers.
fn read(text: &str) -> Sample {
    let mut sample = Sample::default();
    for line in text.lines().filter(|line| line.starts_with("tripline_")) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        let count = value as u64;
        match name {
            "tripline_events_received_total" => sample.events += count,
            "tripline_events_processed_total{outcome=\"succeeded\"}" => sample.succeeded += count,
            "tripline_events_processed_total{outcome=\"dead\"}" => sample.dead += count,
            _ if name.starts_with("tripline_deliveries_total{") => {
                if FAILED.iter().any(|outcome| name.ends_with(outcome)) {
                    sample.failed += count;
                }
            }
            _ => {
                let bound = name
                    .strip_prefix("tripline_delivery_latency_seconds_bucket{le=\"")
                    .and_then(|rest| rest.strip_suffix("\"}"));
                if let Some(bound) =
                    bound.and_then(|bound| bound.replace("+Inf", "inf").parse().ok())
                {
                    sample.latency.0.push((bound, count));
                }
            }
        }
    }
    sample
}

impl Histogram {
    fn since(&self, earlier: &Self) -> Self {
        let before =
            |bound: f64| earlier.0.iter().find(|(b, _)| *b == bound).map_or(0, |(_, count)| *count);
        Self(
            self.0
                .iter()
                .map(|&(bound, count)| (bound, count.saturating_sub(before(bound))))
                .collect(),
        )
    }

    /// In seconds, by straight lines within buckets; `None` when nothing was counted.
    fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.0.last().map(|(_, count)| *count).filter(|total| *total > 0)?;
        let rank = share * total as f64;
        let (mut lower, mut below) = (0.0, 0);
        for &(bound, count) in &self.0 {
            if count as f64 >= rank {
                if bound.is_infinite() {
                    return Some(lower);
                }
                let within = (rank - below as f64) / ((count - below) as f64).max(1.0);
                return Some(lower + (bound - lower) * within);
            }
            (lower, below) = (bound, count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE tripline_events_received_total counter
tripline_events_received_total 12
tripline_events_processed_total{outcome=\"succeeded\"} 9
tripline_events_processed_total{outcome=\"dead\"} 1
tripline_deliveries_total{subscription=\"a\",outcome=\"succeeded\"} 9
tripline_deliveries_total{subscription=\"a\",outcome=\"retrying\"} 2
tripline_deliveries_total{subscription=\"b\",outcome=\"dead\"} 3
tripline_delivery_latency_seconds_bucket{le=\"0.001\"} 5
tripline_delivery_latency_seconds_bucket{le=\"0.01\"} 10
tripline_delivery_latency_seconds_bucket{le=\"+Inf\"} 10
";

    #[test]
    fn totals_are_read_from_the_metrics() {
        let sample = read(TEXT);
        assert_eq!((sample.events, sample.succeeded, sample.dead, sample.failed), (12, 9, 1, 5));
        assert_eq!(sample.latency.quantile(0.5), Some(0.001));
        assert!(sample.latency.quantile(0.99).is_some_and(|p99| (0.0098..0.01).contains(&p99)));
    }

    #[test]
    fn a_step_is_the_difference_and_an_empty_one_has_no_latency() {
        let (empty, sample) = (Sample::default(), read(TEXT));
        assert_eq!(point(&empty, &sample).events, 12);
        let nothing = point(&sample, &sample);
        assert_eq!((nothing.events, nothing.p50_ms), (0, None));
    }
}
