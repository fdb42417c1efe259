//! A context as the parent sees it: its script, its waiting runs, and where its runtime is.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use actix::Recipient;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    ContextSpec, ContextUsage, LaneKind, Report, Run, RunLimits, page::Ticket, protocol::ContextId,
};

/// Names a context in the parent; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ContextKey(pub(super) u64);

/// Where the reports of a context go.
#[derive(Clone)]
pub(super) enum Sink {
    Subscription(Recipient<Report>),
    /// A test run.
    Caller(UnboundedSender<Report>),
}

impl Sink {
    pub(super) fn send(&self, report: Report) {
        match self {
            // do_send: the subscription bounds its runs itself, and a report must not be refused.
            // One that is gone reads no reports; its deliveries are found again from the journal.
            Self::Subscription(reports) => reports.do_send(report),
            Self::Caller(reports) => {
                // A caller that is gone needs no answer.
                let _ = reports.send(report);
            }
        }
    }
}

/// A run that is not in a lane yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) run: Run,
    pub(super) since: Instant,
    /// Lanes that died, blaming nobody, while they had it and had not begun it.
    pub(super) deaths: u32,
}

/// Where the runtime of a context is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) slot: usize,
    pub(super) id: ContextId,
}

pub(super) struct Context {
    pub(super) spec: ContextSpec,
    pub(super) sink: Sink,
    pub(super) standing: Standing,
    /// `None`: no runtime; the next run makes one.
    pub(super) place: Option<Place>,
    /// The definition changed: the runtime is of the old one.
    pub(super) stale: bool,
    /// The lane whose queue it stands in, for runs to be sent.
    pub(super) queued: Option<usize>,
    pub(super) waiting: VecDeque<Waiting>,
    /// Runs in the lane of `place`, in the order of sending.
    pub(super) sent: VecDeque<Ticket>,
    /// How long a run of it occupies its runtime, smoothed.
    pub(super) pace: Duration,
    pub(super) usage: ContextUsage,
    pub(super) last_used: Instant,
}

/// How far ahead a lane is fed for one context, in time: a queue in a lane hides the round trip,
/// but what is in it cannot be taken elsewhere for free.
const AHEAD: Duration = Duration::from_millis(5);

/// A run that died unblamed in this many lanes runs alone, so that the blame is certain.
const DEATHS_MAX: u32 = 3;

impl Context {
    pub(super) fn new(spec: ContextSpec, sink: Sink, standing: Standing, now: Instant) -> Self {
        Self {
            spec,
            sink,
            standing,
            place: None,
            stale: false,
            queued: None,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            pace: AHEAD,
            usage: ContextUsage::default(),
            last_used: now,
        }
    }

    /// The kind of lane that its next run belongs to.
    pub(super) fn wants(&self) -> LaneKind {
        match self.waiting.front() {
            Some(head) if head.run.alone || head.deaths >= DEATHS_MAX => LaneKind::Quarantine,
            _ => self.standing.kind(),
        }
    }

    /// How many of its runs may be in its lane at once: as many as end within [`AHEAD`].
    pub(super) fn sent_max(&self) -> usize {
        if self.wants() == LaneKind::Quarantine {
            return 1;
        }
        let pace = self.pace.as_nanos().max(1);
        usize::try_from(AHEAD.as_nanos() / pace).map_or(usize::MAX, |count| count.max(1))
    }

    /// Forgets how long its runs took.
    pub(super) fn pace_anew(&mut self) {
        self.pace = AHEAD;
    }

    pub(super) fn limits(&self) -> &RunLimits {
        &self.spec.limits
    }

    /// Takes note of a run that ended in an orderly way.
    pub(super) fn ran(
        &mut self,
        duration: Duration,
        cpu: Duration,
        heap_bytes: u64,
        slow_after: Duration,
    ) {
        self.usage.runs += 1;
        self.usage.cpu += cpu;
        self.usage.heap_bytes = heap_bytes;
        self.pace = if duration > self.pace { duration } else { (7 * self.pace + duration) / 8 };
        self.standing.ran(cpu, slow_after);
    }
}

/// Whether a script has proved to be quick.
///
/// New ones prove it on a slow lane; one that overruns goes back there and has to prove twice as
/// much the next time, so that a script that is slow now and then does not come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    quick_runs_to_go: u32,
    overruns: u32,
}

/// Quick runs by which a new script proves itself, and the most it may ever have to show.
const PROOF: u32 = 3;
const PROOF_MAX: u32 = 192;

impl Standing {
    pub(super) const NEW: Self = Self { quick_runs_to_go: PROOF, overruns: 0 };
    /// Stays on slow lanes: test runs.
    pub(super) const ALWAYS_SLOW: Self = Self { quick_runs_to_go: u32::MAX, overruns: 0 };

    pub(super) fn kind(self) -> LaneKind {
        if self.quick_runs_to_go == 0 { LaneKind::Fast } else { LaneKind::Slow }
    }

    fn ran(&mut self, cpu: Duration, slow_after: Duration) {
        if cpu > slow_after {
            self.overran();
        } else if self.quick_runs_to_go != u32::MAX {
            self.quick_runs_to_go = self.quick_runs_to_go.saturating_sub(1);
        }
    }

    pub(super) fn overran(&mut self) {
        if self.quick_runs_to_go != u32::MAX {
            self.overruns = (self.overruns + 1).min(16);
            self.quick_runs_to_go = (PROOF << self.overruns).min(PROOF_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(20);
    const SLOW: Duration = Duration::from_millis(80);
    const LIMIT: Duration = Duration::from_millis(50);

    #[test]
    fn a_script_proves_itself_and_proves_more_after_each_overrun() {
        let mut standing = Standing::NEW;
        let prove = |standing: &mut Standing| {
            (1..).find(|_| {
                standing.ran(QUICK, LIMIT);
                standing.kind() == LaneKind::Fast
            })
        };
        assert_eq!(prove(&mut standing), Some(3));
        standing.ran(SLOW, LIMIT);
        assert_eq!(standing.kind(), LaneKind::Slow);
        assert_eq!(prove(&mut standing), Some(6));
        for _ in 0..20 {
            standing.ran(SLOW, LIMIT);
        }
        assert_eq!(prove(&mut standing), Some(PROOF_MAX));
    }

    #[test]
    fn test_runs_never_leave_the_slow_lanes() {
        let mut standing = Standing::ALWAYS_SLOW;
        for _ in 0..10 {
            standing.ran(QUICK, LIMIT);
        }
        assert_eq!(standing, Standing::ALWAYS_SLOW);
    }
}
