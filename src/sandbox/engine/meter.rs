//! The limits of a run in time, and the flag that says which limit ended it.
//!
//! The engine asks here every few thousand steps, and the engine's owner between two jobs. Once a
//! limit has tripped the answer stays "stop": a script that swallows one interruption meets the
//! next. What the script throws or returns afterwards decides nothing.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use super::heap::Heap;

/// The limit that ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trip {
    Cpu,
    Wall,
    Heap,
}

/// Time to read the stack of what was interrupted. Reading it can run script code.
const GRACE: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Meter {
    heap: Rc<Heap>,
    cpu_limit: Cell<Duration>,
    /// CPU of the run's earlier slices.
    cpu_before: Cell<Duration>,
    slice_began: Cell<Instant>,
    slice_cpu: Cell<Duration>,
    wall_end: Cell<Instant>,
    trip: Cell<Option<Trip>>,
    grace_end: Cell<Option<Instant>>,
}

impl Meter {
    pub(super) fn new(heap: Rc<Heap>) -> Self {
        let now = Instant::now();
        Self {
            heap,
            cpu_limit: Cell::new(Duration::MAX),
            cpu_before: Cell::new(Duration::ZERO),
            slice_began: Cell::new(now),
            slice_cpu: Cell::new(Duration::ZERO),
            wall_end: Cell::new(now + Duration::from_secs(60)),
            trip: Cell::new(None),
            grace_end: Cell::new(None),
        }
    }

    /// A run, or the loading of a module, begins.
    pub(super) fn arm(&self, cpu: Duration, wall_end: Instant) {
        self.cpu_limit.set(cpu);
        self.cpu_before.set(Duration::ZERO);
        self.wall_end.set(wall_end);
    }

    /// A stretch of execution begins; `thread_cpu` is the thread's CPU clock.
    pub(super) fn begin_slice(&self, now: Instant, thread_cpu: Duration) {
        self.slice_began.set(now);
        self.slice_cpu.set(thread_cpu);
    }

    /// It ends, having cost `cpu`.
    pub(super) fn end_slice(&self, cpu: Duration) {
        self.cpu_before.set(self.cpu_before.get() + cpu);
    }

    /// The time on the clock is over, whatever it says.
    pub(super) fn run_out(&self) {
        self.wall_end.set(Instant::now());
    }

    pub(super) fn wall_end(&self) -> Instant {
        self.wall_end.get()
    }

    /// True when the script must stop.
    pub(super) fn check(&self) -> bool {
        if self.trip().is_none() {
            let now = Instant::now();
            if now >= self.wall_end.get() {
                self.trip.set(Some(Trip::Wall));
            } else {
                // The thread cannot have had more CPU than time has passed: the clock of its CPU
                // is a system call, so it is read only when it could matter.
                let passed = now.saturating_duration_since(self.slice_began.get());
                if self.cpu_before.get() + passed >= self.cpu_limit.get() {
                    let used = thread_cpu().saturating_sub(self.slice_cpu.get());
                    if self.cpu_before.get() + used >= self.cpu_limit.get() {
                        self.trip.set(Some(Trip::Cpu));
                    }
                }
            }
        }
        self.trip.get().is_some() && self.grace_end.get().is_none_or(|end| Instant::now() >= end)
    }

    /// The limit that tripped first.
    pub(super) fn trip(&self) -> Option<Trip> {
        if self.trip.get().is_none() && self.heap.is_exhausted() {
            self.trip.set(Some(Trip::Heap));
        }
        self.trip.get()
    }

    /// Lets a stopped script's error be read.
    pub(super) fn grace(&self) {
        self.grace_end.set(Some(Instant::now() + GRACE));
    }
}

/// CPU time of this thread.
pub(super) fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes into the struct it is given; the clock exists on every system we build for.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
