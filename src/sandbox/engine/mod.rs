//! The engine of one context: a QuickJS runtime of its own, built when needed, thrown away when a
//! limit trips.
//!
//! [`Engine::start`] begins a run and either ends it or says until when it waits; [`Engine::wake`]
//! goes on. The limit that tripped first decides the error kind, never what the script shows.
//!
//! `heap` counts and limits memory · `meter` limits time · `host` is the doors · `globals` builds
//! what scripts see · `runtime` calls and drains · this file turns all that into reports.

mod crypto;
mod fetch;
mod globals;
mod heap;
mod host;
mod kv;
mod meter;
mod runtime;
mod senses;
mod web;

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use rquickjs::{Persistent, Promise};
use uuid::Uuid;

use self::{
    host::{Effects, Host, Live, LoopBudget},
    meter::{Trip, thread_cpu},
    runtime::{Failure, Judgement, News, Standing, Thrown, Warm},
};
use super::{
    RunKey, RunLimits, RunReport,
    border::{MESSAGE_BYTES_MAX, STACK_BYTES_MAX, cut},
    call::{Answer, CallId, Question},
    protocol::{Form, Open, RunRequest},
    tape::Tape,
};
use crate::domain::{ErrorKind, RunError};

/// What a context is opened with.
#[derive(Debug)]
struct Spec {
    limits: RunLimits,
    file: String,
    code: String,
    /// What it may import: the name for it, its file and its code.
    modules: Vec<(String, String, String)>,
    is_plain: bool,
    takes_context: bool,
    owner: Owner,
}

#[derive(Debug)]
struct Owner {
    subscription: String,
    subscription_name: String,
    script: String,
    script_name: String,
    script_version: u32,
}

/// One context. Never shared: a runtime holds one run from its start to its end.
pub(super) struct Engine {
    spec: Rc<Spec>,
    host: Rc<dyn Host>,
    warm: Option<Warm>,
    run: Option<Running>,
}

struct Running {
    key: RunKey,
    started: Instant,
    waited: Duration,
    cpu: Duration,
    warnings: Vec<String>,
    payload_bytes: usize,
    promise: Option<Persistent<Promise<'static>>>,
    /// Keep what it met even if it succeeds.
    record: bool,
}

/// What a stretch of execution came to.
pub(super) enum Step {
    Done(Box<RunReport>),
    /// Call [`Engine::wake`] then.
    WaitsUntil(Instant),
    /// There is no runtime to be had; the run is not done.
    Broken(String),
}

/// The thread's CPU clock, read once per stretch: what happened since the last reading belongs to
/// the stretch that ends now.
#[derive(Debug)]
pub(super) struct CpuClock(Duration);

impl CpuClock {
    pub(super) fn start() -> Self {
        Self(thread_cpu())
    }

    fn last(&self) -> Duration {
        self.0
    }

    fn lap(&mut self) -> Duration {
        let before = std::mem::replace(&mut self.0, thread_cpu());
        self.0.saturating_sub(before)
    }
}

impl Engine {
    pub(super) fn open(open: &Open<'_>) -> Self {
        let id = |bytes: [u8; 16]| Uuid::from_bytes(bytes).as_hyphenated().to_string();
        let owner = &open.owner;
        let spec = Spec {
            limits: open.limits,
            file: open.file.to_owned(),
            code: open.code.to_owned(),
            modules: open.modules.iter().map(|module| module.owned()).collect(),
            is_plain: open.form == Form::Plain,
            takes_context: open.takes_context,
            owner: Owner {
                subscription: id(owner.subscription),
                subscription_name: owner.subscription_name.to_owned(),
                script: id(owner.script),
                script_name: owner.script_name.to_owned(),
                script_version: owner.script_version,
            },
        };
        Self { spec: Rc::new(spec), host: Rc::new(Live::new()), warm: None, run: None }
    }

    /// Begins a run. Must not be called while another one waits.
    pub(super) fn start(
        &mut self,
        request: &RunRequest<'_>,
        waited: Duration,
        clock: &mut CpuClock,
    ) -> Step {
        let started = Instant::now();
        if let Some(tape) = &request.tape {
            // Everything from the start, the module's top level included.
            self.warm = None;
            self.host = Rc::new(Live::playing(Tape::clone(tape)));
        } else if self.host.is_played() {
            self.warm = None;
            self.host = Rc::new(Live::new());
        }
        let limits = &self.spec.limits;
        let loops = LoopBudget {
            emits: request.emits_within_loop_limits,
            message: request.loop_message.map(str::to_owned),
        };
        self.host.begin(limits, loops);
        let mut run = Running {
            key: request.key,
            started,
            waited,
            cpu: Duration::ZERO,
            warnings: warnings(request.data.0),
            payload_bytes: request.data.0.len(),
            promise: None,
            record: request.record,
        };
        let warm = match self.warm.take() {
            Some(warm) => warm,
            None => match Warm::build(&self.spec, self.host.clone(), clock.last()) {
                Ok(warm) => {
                    run.cpu += clock.lap();
                    warm
                }
                Err(Failure::Broken(message)) => {
                    self.host.end();
                    return Step::Broken(message);
                }
                Err(Failure::Load { thrown, meter_tripped }) => {
                    run.cpu += clock.lap();
                    let error = match meter_tripped {
                        Some(trip) => self.tripped(trip, thrown.stack),
                        None => self.error(ErrorKind::Compile, thrown.message, thrown.stack),
                    };
                    let effects = self.host.end();
                    let tape = self.host.tape(meter_tripped == Some(Trip::Wall));
                    return Step::Done(Box::new(report(run, Err(error), None, effects, tape, 0)));
                }
            },
        };
        let now = Instant::now();
        warm.shared.meter.arm(limits.cpu, now + limits.wall);
        warm.shared.meter.begin_slice(now, clock.last());
        let standing = warm.call(request.data.0, &request.facts);
        self.after(warm, run, standing, clock)
    }

    /// Goes on with the run that waits; without one there is nothing to say.
    pub(super) fn wake(&mut self, clock: &mut CpuClock) -> Option<Step> {
        self.run.as_ref()?;
        let news = self.host.woken();
        self.go_on(news, clock)
    }

    /// Goes on with the run that asked; an answer that nobody waits for is no news.
    pub(super) fn answer(
        &mut self,
        call: CallId,
        answer: Answer,
        clock: &mut CpuClock,
    ) -> Option<Step> {
        self.run.as_ref()?;
        let news = self.host.answered(call, answer)?;
        self.go_on(news, clock)
    }

    /// What the waiting run has asked since the last look.
    pub(super) fn questions(&self) -> Vec<(CallId, Question)> {
        self.host.questions()
    }

    fn go_on(&mut self, news: News, clock: &mut CpuClock) -> Option<Step> {
        let (warm, mut run) = (self.warm.take()?, self.run.take()?);
        let promise = run.promise.take()?;
        warm.shared.meter.begin_slice(Instant::now(), clock.last());
        if matches!(news, News::OutOfTime) {
            warm.shared.meter.run_out();
        }
        let standing = if warm.shared.meter.check() {
            drop(promise);
            Standing::Ended(Err(Thrown::stopped()))
        } else {
            warm.resume(promise, news)
        };
        Some(self.after(warm, run, standing, clock))
    }

    /// The run that waits.
    pub(super) fn waiting(&self) -> Option<RunKey> {
        self.run.as_ref().map(|run| run.key)
    }

    fn after(
        &mut self,
        warm: Warm,
        mut run: Running,
        standing: Standing,
        clock: &mut CpuClock,
    ) -> Step {
        let ended = match standing {
            Standing::Ended(ended) => ended,
            Standing::Waits(promise) => {
                let cpu = clock.lap();
                warm.shared.meter.end_slice(cpu);
                run.cpu += cpu;
                run.promise = Some(promise);
                let wall_end = warm.shared.meter.wall_end();
                let wake = self.host.wakes_at().map_or(wall_end, |due| due.min(wall_end));
                self.warm = Some(warm);
                self.run = Some(run);
                return Step::WaitsUntil(wake);
            }
        };
        let leaves_work = self.host.next_due().is_some() || self.host.awaits_answer();
        let effects = self.host.end();
        let trip = warm.shared.meter.trip();
        let heap_bytes = warm.heap_bytes();
        let mut retry_after = None;
        let outcome = match (trip, &effects.looped, ended) {
            (Some(trip), _, ended) => {
                Err(self.tripped(trip, ended.err().and_then(|thrown| thrown.stack)))
            }
            (None, Some(message), ended) => Err(self.error(
                ErrorKind::HopLimit,
                message.clone(),
                ended.err().and_then(|thrown| thrown.stack),
            )),
            (None, None, Ok(result)) => Ok(result),
            (None, None, Err(thrown)) => {
                retry_after = thrown
                    .after_ms
                    .map(|ms| Duration::from_secs_f64(ms.clamp(0.0, 3.2e12) / 1_000.0));
                Err(self.error(thrown.judgement.kind(), thrown.message, thrown.stack))
            }
        };
        if trip.is_none() {
            warm.end_run(run.payload_bytes);
            if leaves_work {
                warm.forget_work();
            }
            self.warm = Some(warm);
        } else {
            drop(warm);
        }
        run.cpu += clock.lap();
        let tape = (outcome.is_err() || run.record)
            .then(|| self.host.tape(trip == Some(Trip::Wall)))
            .flatten();
        Step::Done(Box::new(report(run, outcome, retry_after, effects, tape, heap_bytes)))
    }

    fn tripped(&self, trip: Trip, stack: Option<String>) -> RunError {
        let limits = &self.spec.limits;
        match trip {
            Trip::Cpu => self.error(
                ErrorKind::Timeout,
                format!(
                    "stopped after {} ms of CPU time, the limit of a run",
                    limits.cpu.as_millis()
                ),
                stack,
            ),
            Trip::Wall => self.error(
                ErrorKind::Timeout,
                format!(
                    "stopped after {} ms on the clock, the limit of a run",
                    limits.wall.as_millis()
                ),
                stack,
            ),
            Trip::Heap => self.error(
                ErrorKind::OutOfMemory,
                format!(
                    "needed more than {} bytes of memory, the limit of a runtime",
                    limits.heap_bytes
                ),
                stack,
            ),
        }
    }

    fn error(&self, kind: ErrorKind, message: String, stack: Option<String>) -> RunError {
        RunError {
            kind,
            message: cut(message, MESSAGE_BYTES_MAX),
            stack: stack
                .map(|stack| cut(own_frames(&stack), STACK_BYTES_MAX))
                .filter(|stack| !stack.is_empty()),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A waiting run holds a value of the runtime.
        self.run = None;
    }
}

impl Judgement {
    const fn kind(self) -> ErrorKind {
        match self {
            Self::Exception => ErrorKind::Exception,
            Self::Permanent => ErrorKind::Permanent,
            Self::EmitRejected => ErrorKind::EmitRejected,
            Self::StackOverflow => ErrorKind::StackOverflow,
        }
    }
}

fn report(
    run: Running,
    outcome: Result<String, RunError>,
    retry_after: Option<Duration>,
    effects: Effects,
    tape: Option<Tape>,
    heap_bytes: u64,
) -> RunReport {
    RunReport {
        key: run.key,
        outcome,
        retry_after,
        logs: effects.logs,
        emits: effects.emits,
        kv: effects.kv,
        warnings: run.warnings,
        duration: run.started.elapsed(),
        cpu: run.cpu,
        waited: run.waited,
        heap_bytes,
        tape,
    }
}

/// A stack without the frames of the globals' own code.
fn own_frames(stack: &str) -> String {
    let mut kept = String::with_capacity(stack.len());
    for line in stack.lines() {
        if !line.contains(globals::OWN_FILES) && !line.trim().is_empty() {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept.truncate(kept.trim_end().len());
    kept
}

/// What an author should know about the payload: integers that a double cannot hold.
fn warnings(data: &[u8]) -> Vec<String> {
    match inexact_integer(data) {
        Some(digits) => vec![format!(
            "the payload holds the number {digits}, beyond 2^53: the script sees it rounded to the next double"
        )],
        None => Vec::new(),
    }
}

/// The first integer of a JSON text beyond 2^53.
fn inexact_integer(json: &[u8]) -> Option<&str> {
    const DIGITS: usize = 16;
    // Any run of 16 digits covers a position that is a multiple of 16: most texts are done here.
    let suspect = json.iter().skip(DIGITS - 1).step_by(DIGITS).any(u8::is_ascii_digit);
    if !suspect {
        return None;
    }
    let (mut i, mut in_string) = (0, false);
    while i < json.len() {
        match json[i] {
            b'"' => in_string = !in_string,
            b'\\' if in_string => i += 1,
            b'0'..=b'9' if !in_string => {
                let rest = &json[i..];
                let digits = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
                let token = rest
                    .iter()
                    .position(|b| !matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
                let token = token.unwrap_or(rest.len());
                if digits == token && digits >= DIGITS {
                    let text = std::str::from_utf8(&rest[..digits.min(40)]).ok()?;
                    if digits > 20 || text.parse::<u128>().is_ok_and(|n| n > 1 << 53) {
                        return Some(text);
                    }
                }
                i += token;
                continue;
            }
            _ => {}
        }
        i += 1;
    }
    None
}

#[cfg(test)]
mod reruns;
#[cfg(test)]
mod tests;
