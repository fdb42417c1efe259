//! The watchdog: when a lane is silent, and when it is past help.
//!
//! The engine's own interrupt is not polled inside many built-ins, so the hard limit is measured
//! from outside: CPU time of the whole lane since its progress page last changed. A machine that
//! is short of CPU therefore kills nobody.

use std::time::{Duration, Instant};

use super::{RunLimits, page::Snapshot};

/// A lane that executes one stretch of script for this long gets no more work.
pub(super) const SILENT_AFTER: Duration = Duration::from_millis(50);

/// A lane that gets no CPU meanwhile is not late by its script's doing, and its work would wait
/// elsewhere too: only after this long may it go.
const STARVED_AFTER: Duration = Duration::from_millis(250);

/// How often a lane with runs in flight is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A lane that neither goes on nor uses CPU is stopped or starved; far beyond any run's limits it
/// is replaced, and nobody is blamed.
const STUCK_FACTOR: u32 = 40;

/// CPU time that a lane may spend on one stretch of a script before it is killed (DESIGN 5).
pub(super) fn hard_limit(limits: &RunLimits) -> Duration {
    2 * limits.cpu + Duration::from_secs(1)
}

/// What one look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It goes on, or executes nothing.
    Fine,
    /// The same stretch of script since [`SILENT_AFTER`] or longer.
    Silent,
    /// The same stretch has used up the hard limit.
    Overdue,
    /// No progress and no CPU use for a long time.
    Stuck,
}

/// The memory of one lane's watchdog.
#[derive(Debug)]
pub(super) struct Watch {
    seen: Snapshot,
    since: Instant,
    /// The lane's CPU time when this stretch was first seen.
    cpu_then: Option<Duration>,
}

impl Watch {
    pub(super) fn new(now: Instant) -> Self {
        Self { seen: Snapshot::default(), since: now, cpu_then: None }
    }

    /// Compares the page with the last look. `cpu` is the lane's CPU time; `None` where it cannot
    /// be read, and then the wall clock counts.
    pub(super) fn look(
        &mut self,
        page: Snapshot,
        now: Instant,
        hard_limit: Duration,
        cpu: Option<Duration>,
    ) -> Finding {
        if page != self.seen || page.running.is_none() {
            *self = Self { seen: page, since: now, cpu_then: cpu };
            return Finding::Fine;
        }
        let silent = now.saturating_duration_since(self.since);
        let spent = match (cpu, self.cpu_then) {
            (Some(cpu), Some(then)) => cpu.saturating_sub(then),
            _ => silent,
        };
        if spent >= hard_limit {
            Finding::Overdue
        } else if silent >= STUCK_FACTOR * hard_limit {
            Finding::Stuck
        } else if silent >= SILENT_AFTER && spent >= SILENT_AFTER / 2 || silent >= STARVED_AFTER {
            Finding::Silent
        } else {
            Finding::Fine
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(1_500);
    const BUSY: Snapshot = Snapshot { running: Some(9), beats: 4 };

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_lane_without_progress_is_silent_and_then_overdue() {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        let mut look = |ms: u64| {
            watch.look(BUSY, after(start, ms), LIMIT, Some(Duration::from_millis(1_000 + ms)))
        };
        assert_eq!(look(0), Finding::Fine);
        assert_eq!(look(40), Finding::Fine);
        assert_eq!(look(60), Finding::Silent);
        assert_eq!(look(1_400), Finding::Silent);
        assert_eq!(look(1_501), Finding::Overdue);
    }

    #[test]
    fn progress_starts_the_count_anew() {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        for step in 0..100 {
            let page = Snapshot { beats: step, ..BUSY };
            let found = watch.look(page, after(start, step * 60), LIMIT, None);
            assert_eq!(found, Finding::Fine);
        }
    }

    #[test]
    fn a_lane_that_waits_is_not_silent() {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        let waits = Snapshot { running: None, beats: 4 };
        for ms in [0, 100, 100_000] {
            assert_eq!(watch.look(waits, after(start, ms), LIMIT, None), Finding::Fine);
        }
    }

    /// A starved machine: the clock goes on, the lane's CPU does not.
    #[test]
    fn without_cpu_there_is_no_blame() {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        let mut look = |ms| watch.look(BUSY, after(start, ms), LIMIT, Some(Duration::from_secs(3)));
        assert_eq!(look(0), Finding::Fine);
        assert_eq!(look(200), Finding::Fine);
        assert_eq!(look(20_000), Finding::Silent);
        assert_eq!(look(61_000), Finding::Stuck);
    }
}
