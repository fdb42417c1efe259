//! Where scripts run: lanes, runtimes, limits.
//!
//! The rest of the crate sees this file: a [`Sandbox`] opens contexts, a [`ContextHandle`] takes
//! runs, and a [`Report`] says how each one ended. Nobody else knows the script engine.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::domain::{Event, LogLine, RunError, RunId, ScriptId, SubscriptionId};

pub mod border;
pub mod call;
mod context;
#[allow(unsafe_code)] // the engine's allocator and a few calls that its safe wrapper lacks
mod engine;
mod handle;
#[cfg(target_os = "linux")]
mod jail;
mod lane_actor;
#[allow(unsafe_code)] // poll
mod lane_loop;
mod lanes;
#[cfg(test)]
mod lanes_model;
mod page;
#[cfg(target_os = "linux")]
mod process;
pub mod program;
pub mod protocol;
mod rescue;
mod self_test;
mod slot;
pub mod tape;
mod thread;
mod watch;

#[cfg(target_os = "linux")]
pub use process::become_lane_if_asked;
pub use {
    call::{Answer, Asked, Host, KvWrite, Nobody, Question, Space, Ttl},
    handle::{ContextHandle, Sandbox},
    lane_loop::{run_here, run_lane},
    program::{CompileError, Program, Warning},
    protocol::Walls,
    tape::Tape,
};

/// The declarations of everything scripts find in the sandbox, for editors and compilers.
pub const SDK_TYPES: &str = include_str!("sdk.d.ts");

/// Elsewhere lanes are threads, and a process is never asked to be one.
#[cfg(not(target_os = "linux"))]
pub fn become_lane_if_asked() {}

/// What a context may use. All bite; zero is never "no limit".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLimits {
    /// CPU time of one run.
    pub cpu: Duration,
    /// Time of one run on the clock, waiting included.
    pub wall: Duration,
    /// Heap of the runtime, in bytes, beyond what an empty one takes.
    pub heap_bytes: usize,
    pub stack_bytes: usize,
    /// Sum of a run's console messages; what is beyond is cut with a mark.
    pub log_bytes: usize,
    /// Emits of one run.
    pub emits: u32,
    /// JSON text of a handler's result.
    pub result_bytes: usize,
    /// JSON text of one emit's data.
    pub emit_bytes: usize,
    /// Questions of one run to its parent.
    pub calls: u32,
    /// Requests of one run to the outside, redirects not counted.
    pub fetches: u32,
    /// Keys that one run writes.
    pub kv_writes: u32,
    /// JSON text of one of their values.
    pub kv_value_bytes: usize,
}

impl Default for RunLimits {
    /// The defaults of DESIGN 6.
    fn default() -> Self {
        Self {
            cpu: Duration::from_millis(250),
            wall: Duration::from_secs(10),
            heap_bytes: 32 << 20,
            stack_bytes: 256 << 10,
            log_bytes: 64 << 10,
            emits: 100,
            result_bytes: 1 << 20,
            emit_bytes: 1 << 20,
            calls: 1_000,
            fetches: 20,
            kv_writes: 100,
            kv_value_bytes: 256 << 10,
        }
    }
}

/// Names the run inside the process; the sender chooses it, unique among runs in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunKey(pub u64);

/// One run to do.
#[derive(Clone, Debug)]
pub struct Run {
    pub key: RunKey,
    pub event: Arc<Event>,
    /// Payload instead of the event's: an edited replay.
    pub data: Option<bytes::Bytes>,
    pub facts: RunFacts,
    /// Emits this run may make before `limits.max_spread` or `max_hops` is passed; the emit past
    /// it is refused and the run fails as `hop_limit`, even if the script catches the error.
    pub emits_within_loop_limits: u32,
    /// Names the cycle in that error's message.
    pub loop_message: Option<Arc<str>>,
    /// Runs alone in its lane (a suspect).
    pub alone: bool,
    /// Report what it met even if it succeeds.
    pub record: bool,
    /// Instead of the real clock and chance: a run from a recording, in a runtime of its own.
    pub tape: Option<Arc<Tape>>,
}

/// What `sdk.events.context()` says beyond the envelope.
#[derive(Clone, Debug)]
pub struct RunFacts {
    pub run_id: RunId,
    pub attempt: u32,
    pub max_attempts: u32,
    pub replayed: bool,
    pub idempotency_key: IdempotencyKey,
}

/// Made on demand: most scripts never read it.
#[derive(Clone, Debug)]
pub enum IdempotencyKey {
    /// `{event uid}:{subscription id}`.
    OfDelivery,
    /// A replay with an edited payload has one of its own.
    Own(Arc<str>),
}

/// How a run ended, as the lane saw it and the parent checked it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunReport {
    pub key: RunKey,
    /// JSON text of the result, or the error.
    pub outcome: Result<String, RunError>,
    /// `sdk.RetryError`: wait this long instead of the policy's backoff.
    pub retry_after: Option<Duration>,
    pub logs: Vec<LogLine>,
    pub emits: Vec<Emit>,
    /// The last write to each key.
    pub kv: Vec<KvWrite>,
    pub warnings: Vec<String>,
    /// Wall time of the run, and the CPU it took.
    pub duration: Duration,
    pub cpu: Duration,
    /// From [`ContextHandle::run`] to the start.
    pub waited: Duration,
    /// Heap in use after the run.
    pub heap_bytes: u64,
    /// What it met, of runs that failed or were to be recorded; `None` when that was too much.
    pub tape: Option<Tape>,
}

impl RunReport {
    /// The report of a run that its lane could not finish.
    #[must_use]
    pub fn unfinished(key: RunKey, error: RunError) -> Self {
        Self {
            key,
            outcome: Err(error),
            retry_after: None,
            logs: Vec::new(),
            emits: Vec::new(),
            kv: Vec::new(),
            warnings: Vec::new(),
            duration: Duration::ZERO,
            cpu: Duration::ZERO,
            waited: Duration::ZERO,
            heap_bytes: 0,
            tape: None,
        }
    }
}

/// An emit that passed the checks of the border (type, size, count).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emit {
    pub event_type: String,
    /// JSON text of an object.
    pub data: String,
    pub id: Option<String>,
    pub subject: Option<String>,
    pub delay: Option<Duration>,
}

/// What a context says to its subscription. Each run given to [`ContextHandle::run`] ends in
/// exactly one of the first three.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "()")]
pub enum Report {
    Finished(Box<RunReport>),
    /// Not run, or not to the end, by no fault of its own (its lane died or was retired, or its
    /// context closed): run it again, uncounted.
    Returned(RunKey),
    /// It took its lane down, or had to be killed with it: an attempt of kind `timeout` (hard
    /// limit) or `host_crash`.
    Crashed(RunKey, RunError),
    /// A run waits for an answer: [`ContextHandle::answer`].
    Asked(Asked),
    /// The context cannot be built for reasons that are not the script's: supervision decides.
    Broken(String),
}

/// Whose context it is: for the blame, the tree and the accounts.
#[derive(Clone, Debug)]
pub struct ContextOwner {
    pub subscription: SubscriptionId,
    pub subscription_name: Arc<str>,
    pub script: ScriptId,
    pub script_name: Arc<str>,
    pub script_version: u32,
}

/// What a context runs, for whom, and within which limits.
#[derive(Clone, Debug)]
pub struct ContextSpec {
    pub owner: ContextOwner,
    pub program: Arc<Program>,
    pub limits: RunLimits,
}

/// What a context has used since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContextUsage {
    pub cpu: Duration,
    /// Runs that ended with a report of their lane.
    pub runs: u64,
    /// Heap after the last run; 0 once the runtime hibernates.
    pub heap_bytes: u64,
}

/// How the lanes are made, and what decides where a script runs.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    pub isolation: Isolation,
    /// Fast lanes; 0: one per core. Slow lanes are as many, at least two, and one more waits for
    /// suspects.
    pub count: usize,
    /// CPU time of one run beyond which its script moves to the slow lanes.
    pub slow_after: Duration,
    /// Runs in flight per lane beyond the first of each context: what is lost time when the lane
    /// dies, and what hides the round trip while it lives.
    pub window: usize,
    /// A runtime unused for this long is dropped; the next run makes another in 0.1 to 0.3 ms.
    pub idle_for: Duration,
    /// Address space of a lane process, its second wall after the heaps of its runtimes.
    pub address_space_bytes: u64,
    /// The binary to start lanes from, one whose `main` begins with `become_lane_if_asked`.
    /// `None`: this one.
    pub executable: Option<std::path::PathBuf>,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            isolation: Isolation::Process,
            count: 0,
            slow_after: Duration::from_millis(50),
            window: 256,
            idle_for: Duration::from_secs(300),
            address_space_bytes: 8 << 30,
            executable: None,
        }
    }
}

/// What stands between scripts and the rest of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A child process per lane, shut in as far as the kernel allows. Linux only; elsewhere lanes
    /// are threads, and `Sandbox::walls` says so.
    Process,
    /// A thread per lane: protects against careless scripts, not against hostile ones.
    Thread,
}

/// Which scripts a lane is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LaneKind {
    Fast,
    /// Scripts that overran `slow_after`, new and changed ones, and test runs.
    Slow,
    /// One run at a time with nothing beside it: suspects.
    Quarantine,
}

impl LaneKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Slow => "slow",
            Self::Quarantine => "quarantine",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LaneState {
    /// Not started: nothing to do for it yet.
    Cold,
    Starting,
    Up,
    /// Executes one stretch of a script for 50 ms or longer; gets no more work meanwhile.
    Silent,
    /// Died; the next start is near.
    Down,
    Stopped,
}

impl LaneState {
    /// True when work may be queued for it.
    const fn takes_work(self) -> bool {
        matches!(self, Self::Cold | Self::Starting | Self::Up)
    }
}

/// One lane, as the supervision tree shows it.
#[derive(Clone, Debug, Serialize)]
pub struct LaneInfo {
    /// `fast-1`, `slow-2`, …: the place; processes in it come and go.
    pub name: Arc<str>,
    pub kind: LaneKind,
    pub state: LaneState,
    /// `None` for threads and between two lives.
    pub pid: Option<u32>,
    /// Contexts whose runtime is here.
    pub contexts: usize,
    /// Runs sent and not ended.
    pub in_flight: usize,
    /// Contexts with runs that wait to be sent.
    pub queued: usize,
    pub restarts: u32,
    pub last_crash: Option<String>,
    /// CPU time of all lives, as of the last look.
    pub cpu: Duration,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no lane starts: {0}")]
    NoLane(String),
    #[error(
        "this binary cannot be started as a lane: call `tripline::sandbox::become_lane_if_asked()` \
         first in `main`, name another `executable`, or choose lanes.isolation = \"thread\""
    )]
    NotALane,
    #[error("the limits do not hold here: {0}")]
    SelfTest(String),
}
