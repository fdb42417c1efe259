//! What happened lately: process totals sampled every few seconds, for the overview's charts.
//!
//! The totals are the metrics'; two samples make a step. The last hour is kept in fine steps, the last
//! week in coarse ones. What was kept goes into a file now and then, so that a restart does not empty
//! the charts; losing it loses pictures alone.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    Runtime,
    domain::Millis,
    store::{self, LetterFilter, LetterStatus},
};

/// Between two samples.
pub(super) const STEP: Duration = Duration::from_secs(5);
/// Farthest back that anything is kept: a week.
pub(super) const MINUTES_MAX: u64 = 7 * 24 * 60;
/// Samples between two files of what is kept.
const FILE_EVERY: u64 = 60;
/// Samples between two counts of the dead letters while there are none, or very many.
const COUNT_EVERY: u64 = 12;
/// So many are counted at each sample: an index is read that far in a few milliseconds.
const COUNTED_MAX: u64 = 10_000;
/// Samples that the rates look back on: a minute.
const RECENT: usize = 13;

/// How long steps of one length are kept.
#[derive(Clone, Copy)]
struct Level {
    /// Length of a step in samples.
    samples: u64,
    steps: usize,
}

/// From fine to coarse: an hour, six hours, a day, a week.
const LEVELS: [Level; 4] = [
    Level { samples: 1, steps: 720 },
    Level { samples: 12, steps: 360 },
    Level { samples: 60, steps: 288 },
    Level { samples: 360, steps: 336 },
];

impl Level {
    const fn step(self) -> Duration {
        Duration::from_secs(STEP.as_secs() * self.samples)
    }

    const fn minutes(self) -> u64 {
        self.step().as_secs() * self.steps as u64 / 60
    }
}

/// The steps of one server.
pub(super) struct Series {
    kept: Mutex<Kept>,
    /// Where they outlive the process.
    file: PathBuf,
}

#[derive(Default)]
struct Kept {
    /// Samples so far.
    taken: u64,
    recent: VecDeque<Sample>,
    tiers: [Tier; 4],
    /// Something happened since the last file.
    is_news: bool,
}

/// Steps of one level, and where the one that is not over began.
#[derive(Default)]
struct Tier {
    from: Option<Sample>,
    points: VecDeque<Point>,
}

impl Tier {
    /// Where its first step began; `None` before the first sample.
    fn oldest(&self) -> Option<i64> {
        let first = self.points.front();
        let began = first.map(|step| step.at.0 - i64::try_from(step.span_ms).unwrap_or(i64::MAX));
        began.or(self.from.as_ref().map(|sample| sample.at.0))
    }
}

/// Totals at one moment.
#[derive(Clone, Debug, Default)]
struct Sample {
    at: Millis,
    events: u64,
    succeeded: u64,
    failed: u64,
    dead: u64,
    backlog: u64,
    dead_letters: u64,
    latency: Histogram,
}

/// Cumulative counts by upper bound in seconds, as Prometheus has them.
#[derive(Clone, Debug, Default, PartialEq)]
struct Histogram(Vec<(f64, u64)>);

/// What happened in one step.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(super) struct Point {
    /// End of the step.
    pub at: Millis,
    /// Its length; the last one may not be over.
    pub span_ms: u64,
    /// Events accepted.
    pub events: u64,
    pub succeeded: u64,
    /// Attempts that failed, the last ones included.
    pub failed: u64,
    /// Deliveries that died.
    pub dead: u64,
    /// Deliveries that waited at the end of the step; see `/stats`.
    pub backlog: u64,
    /// Letters that were dead at the end of the step.
    pub dead_letters: u64,
    /// From accepted to settled; null when nothing settled.
    #[schema(required = true)]
    pub p50_ms: Option<f64>,
    #[schema(required = true)]
    pub p99_ms: Option<f64>,
}

impl Point {
    const fn is_news(&self) -> bool {
        self.events + self.succeeded + self.failed + self.dead > 0
    }
}

/// Rates of the last ten seconds, and latency of the last minute.
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
    /// With the steps that the last process kept in this folder, if it did.
    pub(super) fn open(folder: &Path) -> Self {
        let file = folder.join("overview.json");
        let mut kept = Kept::default();
        match read_file(&file) {
            Ok(Some(levels)) => kept.restore(levels, Millis::now()),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, path = %file.display(), "the charts begin anew"),
        }
        Self { kept: Mutex::new(kept), file }
    }

    /// Takes a sample.
    pub(super) async fn sample(&self, runtime: &Runtime) -> Result<(), store::Error> {
        let mut sample = read(&crate::telemetry::render());
        sample.at = Millis::now();
        sample.backlog = runtime.backlog().await;
        sample.dead_letters = match self.known_letters(&sample) {
            Some(count) => count,
            None => {
                let dead =
                    LetterFilter { status: Some(LetterStatus::Dead), ..LetterFilter::default() };
                runtime.store().letters().count(&dead).await?.count
            }
        };
        let is_due = {
            let mut kept = self.lock();
            kept.take(sample);
            kept.taken.is_multiple_of(FILE_EVERY)
        };
        if is_due {
            self.keep();
        }
        Ok(())
    }

    /// Letters that are dead, where counting them again would tell nothing new or cost too much.
    fn known_letters(&self, sample: &Sample) -> Option<u64> {
        let kept = self.lock();
        let last = kept.recent.back()?;
        let is_quiet = last.dead_letters == 0 && sample.dead == last.dead;
        let is_costly = last.dead_letters > COUNTED_MAX;
        (!kept.taken.is_multiple_of(COUNT_EVERY) && (is_quiet || is_costly))
            .then_some(last.dead_letters)
    }

    /// Writes down what is kept, if anything happened since the last time.
    pub(super) fn keep(&self) {
        let text = {
            let mut kept = self.lock();
            if !std::mem::take(&mut kept.is_news) {
                return;
            }
            let levels: Vec<_> = (0..LEVELS.len()).map(|at| kept.steps(at)).collect();
            serde_json::to_string(&levels)
        };
        let written = text
            .map_err(io::Error::from)
            .and_then(|text| store::replace_private(&self.file, &text));
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.file.display(), "a restart will empty the charts");
        }
    }

    /// Steps of the last `minutes`, oldest first, and their length. The last one may not be over.
    pub(super) fn points(&self, minutes: u64) -> (Duration, Vec<Point>) {
        let kept = self.lock();
        let at = kept.level_for(minutes);
        let level = LEVELS[at];
        let since = Millis::now().0 - i64::try_from(minutes * 60_000).unwrap_or(i64::MAX);
        let points = kept.steps(at).into_iter().filter(|point| point.at.0 > since);
        (level.step(), points.collect())
    }

    pub(super) fn rates(&self) -> Rates {
        let kept = self.lock();
        let samples = &kept.recent;
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

    /// What is kept is valid after every step, so a poisoned lock is as good.
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The finest level that reaches back so far, or as far as anything is known.
    fn level_for(&self, minutes: u64) -> usize {
        let [.., coarsest] = &self.tiers;
        let reaches = |(tier, level): (&Tier, Level)| {
            level.minutes() >= minutes || tier.oldest() <= coarsest.oldest()
        };
        self.tiers.iter().zip(LEVELS).position(reaches).unwrap_or(LEVELS.len() - 1)
    }

    /// Of a level, and the one that is not over.
    fn steps(&self, at: usize) -> Vec<Point> {
        let tier = &self.tiers[at];
        let running = tier.from.as_ref().zip(self.recent.back());
        let running = running.filter(|(from, last)| from.at < last.at);
        tier.points.iter().cloned().chain(running.map(|(from, last)| point(from, last))).collect()
    }

    fn take(&mut self, sample: Sample) {
        self.taken += 1;
        for (tier, level) in self.tiers.iter_mut().zip(LEVELS) {
            match &tier.from {
                Some(from) if self.taken.is_multiple_of(level.samples) => {
                    let step = point(from, &sample);
                    self.is_news |= step.is_news();
                    push(&mut tier.points, step, level.steps);
                    tier.from = Some(sample.clone());
                }
                Some(_) => {}
                None => tier.from = Some(sample.clone()),
            }
        }
        push(&mut self.recent, sample, RECENT);
    }

    /// Takes over what an earlier process kept, unless it is from the future or too old.
    fn restore(&mut self, levels: [VecDeque<Point>; 4], now: Millis) {
        for ((tier, mut points), level) in self.tiers.iter_mut().zip(levels).zip(LEVELS) {
            let oldest = now.0 - i64::try_from(level.minutes() * 60_000).unwrap_or(i64::MAX);
            points.retain(|point| point.at <= now && point.at.0 > oldest);
            tier.points = points;
        }
    }
}

fn push<T>(kept: &mut VecDeque<T>, one: T, most: usize) {
    if kept.len() == most {
        kept.pop_front();
    }
    kept.push_back(one);
}

fn read_file(path: &Path) -> io::Result<Option<[VecDeque<Point>; 4]>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn point(from: &Sample, to: &Sample) -> Point {
    let latency = to.latency.since(&from.latency);
    let milliseconds = |share| latency.quantile(share).map(|seconds| seconds * 1_000.0);
    Point {
        at: to.at,
        span_ms: u64::try_from(to.at.since(from.at).as_millis()).unwrap_or(u64::MAX),
        events: to.events.saturating_sub(from.events),
        succeeded: to.succeeded.saturating_sub(from.succeeded),
        failed: to.failed.saturating_sub(from.failed),
        dead: to.dead.saturating_sub(from.dead),
        backlog: to.backlog,
        dead_letters: to.dead_letters,
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

    fn after(seconds: u64, events: u64) -> Sample {
        let at = Millis(i64::try_from(seconds * 1_000).unwrap());
        Sample { at, events, ..Sample::default() }
    }

    /// A day in fine steps would be 17,280 of them.
    #[test]
    fn the_older_the_coarser_and_nothing_is_counted_twice() {
        let mut kept = Kept::default();
        for tick in 0..=2 * 17_280 {
            kept.take(after(tick * 5, tick));
        }
        for (tier, level) in kept.tiers.iter().zip(LEVELS) {
            assert!(tier.points.len() <= level.steps);
            let counts = tier.points.iter().map(|point| point.events);
            assert!(
                counts.clone().all(|count| count == level.samples || count == level.samples - 1)
            );
            assert!(tier.points.iter().all(|point| point.span_ms == point.events * 5_000));
        }
        let day = &kept.tiers[2].points;
        assert_eq!(day.iter().map(|point| point.events).sum::<u64>(), 17_280);
    }

    /// Half an hour must not pass before a range of a week shows anything.
    #[test]
    fn a_far_range_is_fine_while_there_is_little_to_show() {
        let mut kept = Kept::default();
        assert_eq!(kept.level_for(10_080), 0);
        let mut levels = Vec::new();
        for tick in 0..=20_000 {
            kept.take(after(tick * 5, tick));
            levels.push(kept.level_for(10_080));
        }
        levels.dedup();
        assert_eq!(levels, [0, 1, 2, 3]);
        assert_eq!([10, 60, 61, 1_440].map(|minutes| kept.level_for(minutes)), [0, 0, 1, 2]);
    }

    #[test]
    fn a_restart_takes_over_what_is_not_too_old() {
        let mut before = Kept::default();
        for tick in 0..=24 {
            before.take(after(tick * 5, tick));
        }
        let levels = before.tiers.map(|tier| tier.points);
        let mut kept = Kept::default();
        kept.restore(levels.clone(), Millis(120_000));
        assert_eq!(kept.tiers[0].points.len(), 24);
        kept.take(after(130, 3));
        kept.take(after(135, 5));
        assert_eq!(kept.tiers[0].points.back().map(|point| point.events), Some(2), "not minus 19");
        let mut late = Kept::default();
        late.restore(levels, Millis(120_000 + 2 * 3_600_000));
        assert_eq!((late.tiers[0].points.len(), late.tiers[1].points.len()), (0, 2));
    }
}
