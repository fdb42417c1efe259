//! The way into the writer: one queue, bounded for publishers, reserved for everybody else.

use std::{
    collections::VecDeque,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::request::{PublishError, Request};

/// Memory that publishes may wait in, in bytes. Outcomes and emits are not counted against it:
/// they are bounded by what is in hand, and must get in when publishers do not.
const PUBLISH_BYTES_MAX: usize = 64 << 20;

/// A publish that would wait for longer than this and two commits is refused at once: whoever is
/// accepted is accepted soon, and whoever is not can go elsewhere.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// What one commit takes at most: longer transactions make everybody's latency worse and do not
/// make the rows cheaper (measured: 1,024 rows are as good as any).
const BATCH_REQUESTS_MAX: usize = 4_096;
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Whether the journal takes events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intake {
    Open,
    /// Takes none; the reason is for publishers and `/readyz`.
    Closed(String),
    DiskFull,
    /// For good: stopped, or another process owns the store.
    Stopped(String),
}

#[derive(Debug)]
struct Inbox {
    requests: VecDeque<Request>,
    publish_bytes: usize,
    /// When the publish came that has waited the longest.
    oldest: Option<Instant>,
    intake: Intake,
    /// Since when no more is to be taken.
    stop: Option<Instant>,
    /// The writer sleeps: whoever brings something wakes it.
    idle: bool,
}

/// Shared by all handles and the writer.
#[derive(Debug)]
pub(super) struct Queue {
    inbox: Mutex<Inbox>,
    work: Condvar,
    /// Requests waiting; read without the lock for metrics and for sampling under pressure.
    pub(super) waiting: AtomicU64,
    /// How long the last commit took, in microseconds.
    pub(super) commit_us: AtomicU64,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            inbox: Mutex::new(Inbox {
                requests: VecDeque::new(),
                publish_bytes: 0,
                oldest: None,
                intake: Intake::Open,
                stop: None,
                idle: false,
            }),
            work: Condvar::new(),
            waiting: AtomicU64::new(0),
            commit_us: AtomicU64::new(0),
        }
    }

    /// The lock guards plain data that is valid after every step, so a poisoned one is as good.
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn intake(&self) -> Intake {
        self.inbox().intake.clone()
    }

    pub(super) fn set_intake(&self, intake: Intake) {
        let mut inbox = self.inbox();
        // A store that heals opens nothing that is about to end.
        let ends = intake == Intake::Open && inbox.stop.is_some();
        if !ends && !matches!(inbox.intake, Intake::Stopped(_)) {
            crate::telemetry::intake(intake == Intake::Open);
            inbox.intake = intake;
        }
    }

    /// Takes a publish in, or says why not; `weight` is its size in bytes.
    pub(super) fn publish(&self, request: Request, weight: usize) -> Result<(), PublishError> {
        let mut inbox = self.inbox();
        match &inbox.intake {
            Intake::Open => {}
            Intake::Closed(reason) | Intake::Stopped(reason) => {
                return Err(PublishError::Closed { reason: reason.clone() });
            }
            Intake::DiskFull => return Err(PublishError::DiskFull),
        }
        if inbox.publish_bytes + weight > PUBLISH_BYTES_MAX {
            return Err(PublishError::Busy);
        }
        let commit = Duration::from_micros(self.commit_us.load(Relaxed));
        let now = Instant::now();
        if now.duration_since(*inbox.oldest.get_or_insert(now)) > WAIT_MAX + 2 * commit {
            return Err(PublishError::Overloaded);
        }
        inbox.publish_bytes += weight;
        self.push(inbox, request);
        Ok(())
    }

    /// Takes anything else in; never refused for lack of room. False once the journal has stopped.
    pub(super) fn submit(&self, request: Request) -> bool {
        let inbox = self.inbox();
        if matches!(inbox.intake, Intake::Stopped(_)) {
            return false;
        }
        self.push(inbox, request);
        true
    }

    fn push(&self, mut inbox: MutexGuard<'_, Inbox>, request: Request) {
        inbox.requests.push_back(request);
        self.waiting.fetch_add(1, Relaxed);
        let wake = std::mem::take(&mut inbox.idle);
        drop(inbox);
        if wake {
            self.work.notify_one();
        }
    }

    /// Waits for work and takes a batch of it. `None` once stopped and drained. An empty batch says
    /// that nothing came for `patience`; without one it waits for as long as it takes.
    pub(super) fn take(&self, patience: Option<Duration>) -> Option<Vec<Request>> {
        let mut inbox = self.inbox();
        while inbox.requests.is_empty() {
            if inbox.stop.is_some() {
                return None;
            }
            inbox.idle = true;
            inbox = match patience {
                None => self.work.wait(inbox).unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    let (inbox, waited) = self
                        .work
                        .wait_timeout(inbox, patience)
                        .unwrap_or_else(PoisonError::into_inner);
                    if waited.timed_out() && inbox.requests.is_empty() && inbox.stop.is_none() {
                        return Some(Vec::new());
                    }
                    inbox
                }
            };
        }
        inbox.idle = false;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_REQUESTS_MAX && bytes < BATCH_BYTES_MAX {
            let Some(request) = inbox.requests.pop_front() else { break };
            if let Request::Publish(publish) = &request {
                inbox.publish_bytes -= publish.weight;
            }
            bytes += request.weight();
            batch.push(request);
        }
        inbox.oldest = inbox.requests.iter().find_map(|request| match request {
            Request::Publish(publish) => Some(publish.arrived),
            _ => None,
        });
        self.waiting.fetch_sub(batch.len() as u64, Relaxed);
        Some(batch)
    }

    /// How long ago the end was asked for; `None`: it was not.
    pub(super) fn stopping_for(&self) -> Option<Duration> {
        self.inbox().stop.map(|since| since.elapsed())
    }

    /// No more publishes; what is queued is still written.
    pub(super) fn stop(&self) {
        let mut inbox = self.inbox();
        inbox.stop.get_or_insert_with(Instant::now);
        if matches!(inbox.intake, Intake::Open) {
            inbox.intake = Intake::Closed("the server is shutting down".into());
        }
        drop(inbox);
        self.work.notify_all();
    }
}
