//! What happened lately to one subscription: its rate, how long its runs took, when they failed.

use std::time::Duration;

use super::Millis;

/// Steps of [`Recent::failures`]: a day.
pub const FAILURE_STEPS: usize = 48;
/// Length of one of them.
pub const FAILURE_STEP: Duration = Duration::from_mins(30);
/// Length of a window of runs; the last one that is over and the present one count.
const WINDOW: Duration = Duration::from_mins(1);
/// Two an octave from a tenth of a millisecond: the last one is over a minute.
const BUCKETS: usize = 42;
const SHORTEST_US: f64 = 100.0;

/// Runs of the last one to two minutes, and failures of the last day, in 600 bytes.
#[derive(Clone, Debug)]
pub struct Recent {
    /// Number of the present window since 1970, and the same of the present step.
    window: i64,
    step: i64,
    now: [u32; BUCKETS],
    before: [u32; BUCKETS],
    failures: [u32; FAILURE_STEPS],
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            window: 0,
            step: 0,
            now: [0; BUCKETS],
            before: [0; BUCKETS],
            failures: [0; FAILURE_STEPS],
        }
    }
}

/// What [`Recent::runs`] answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RecentRuns {
    pub per_second: f64,
    /// Upper bound of the bucket that holds it; `None` without runs.
    pub p99: Option<Duration>,
}

impl Recent {
    /// A run that took so long has ended.
    pub fn ran(&mut self, at: Millis, took: Duration) {
        self.turn(at);
        let octaves = (took.as_secs_f64() * 1e6 / SHORTEST_US).max(1.0).log2();
        let bucket = ((octaves * 2.0).ceil() as usize).min(BUCKETS - 1);
        self.now[bucket] = self.now[bucket].saturating_add(1);
    }

    /// An attempt has failed.
    pub fn failed(&mut self, at: Millis) {
        self.turn(at);
        let last = &mut self.failures[FAILURE_STEPS - 1];
        *last = last.saturating_add(1);
    }

    /// Of the window before and the present one, as of `at`.
    #[must_use]
    pub fn runs(&self, at: Millis) -> RecentRuns {
        let mut view = self.clone();
        view.turn(at);
        let counts: Vec<u64> =
            view.now.iter().zip(view.before).map(|(a, b)| u64::from(*a) + u64::from(b)).collect();
        let total: u64 = counts.iter().sum();
        let span = WINDOW.as_secs_f64() + at.0.rem_euclid(millis(WINDOW)) as f64 / 1_000.0;
        let mut seen = 0;
        let reached = |count: &u64| {
            seen += count;
            seen * 100 >= total * 99
        };
        let p99 = (total > 0).then(|| counts.iter().position(reached)).flatten().map(|bucket| {
            Duration::from_secs_f64(SHORTEST_US * 2f64.powf(bucket as f64 / 2.0) / 1e6)
        });
        RecentRuns { per_second: total as f64 / span, p99 }
    }

    /// Failed attempts in each step of the day that ends with the step of `at`, oldest first.
    #[must_use]
    pub fn failures(&self, at: Millis) -> [u32; FAILURE_STEPS] {
        let mut view = self.clone();
        view.turn(at);
        view.failures
    }

    /// Moves to the window and the step of `at`. A clock that went back stays where it was.
    fn turn(&mut self, at: Millis) {
        match at.0.div_euclid(millis(WINDOW)) - self.window {
            ..=0 => {}
            1 => {
                self.before = std::mem::replace(&mut self.now, [0; BUCKETS]);
                self.window += 1;
            }
            more => {
                (self.before, self.now) = ([0; BUCKETS], [0; BUCKETS]);
                self.window += more;
            }
        }
        let steps = at.0.div_euclid(millis(FAILURE_STEP)) - self.step;
        if let Ok(steps @ 1..) = usize::try_from(steps) {
            let steps_kept = steps.min(FAILURE_STEPS);
            self.failures.rotate_left(steps_kept);
            self.failures[FAILURE_STEPS - steps_kept..].fill(0);
            self.step += steps as i64;
        }
    }
}

const fn millis(span: Duration) -> i64 {
    span.as_millis() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_800_000_000_000 / 1_800_000 * 1_800_000;

    fn at(seconds: i64) -> Millis {
        Millis(NOON + seconds * 1_000)
    }

    #[test]
    fn the_rate_is_of_this_window_and_the_one_before() {
        let mut recent = Recent::default();
        for second in 0..90 {
            recent.ran(at(second), Duration::from_millis(3));
        }
        let runs = recent.runs(at(90));
        assert!((0.95..=1.05).contains(&runs.per_second), "{runs:?}");
        assert_eq!(recent.runs(at(300)), RecentRuns::default());
    }

    #[test]
    fn one_in_a_hundred_may_be_slower_than_p99() {
        let mut recent = Recent::default();
        for _ in 0..99 {
            recent.ran(at(0), Duration::from_millis(3));
        }
        recent.ran(at(0), Duration::from_secs(9));
        let p99 = recent.runs(at(1)).p99.unwrap();
        assert!((3.0..4.5).contains(&(p99.as_secs_f64() * 1e3)), "{p99:?}");
        recent.ran(at(0), Duration::from_secs(9));
        assert!(recent.runs(at(1)).p99.unwrap() >= Duration::from_secs(9));
    }

    #[test]
    fn failures_move_on_and_leave_after_a_day() {
        let mut recent = Recent::default();
        recent.failed(at(0));
        recent.failed(at(1_800));
        recent.failed(at(1_801));
        assert_eq!(recent.failures(at(1_802))[FAILURE_STEPS - 2..], [1, 2]);
        // Back in time: nothing is lost.
        recent.failed(at(0));
        assert_eq!(recent.failures(at(1_802))[FAILURE_STEPS - 2..], [1, 3]);
        assert_eq!(recent.failures(at(24 * 3_600 + 1_801)).iter().sum::<u32>(), 0);
    }
}
