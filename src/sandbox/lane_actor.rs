//! The keeper of one slot: starts its lane, carries the bytes, watches it, buries it.
//!
//! Receives `Pump` (there may be something to write) and the readiness of its socket. Sends
//! reports, through the pool, to the subscriptions. State: the living lane and its socket; all
//! that must outlast the lane is in the pool (`lanes.rs`), which decides while this actor acts.
//!
//! One turn reads what is there, hands it to the pool and writes what the pool has, so a busy lane
//! costs two system calls a batch.

use std::{
    cell::RefCell,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle,
    StreamHandler, WrapFuture,
};
use futures::Stream;
use tokio::net::UnixStream;
use tracing::{info, warn};

use super::{
    Isolation, LaneKind, LaneState, RunKey,
    lanes::Lanes,
    page::Page,
    protocol::{FromLane, Inbox},
    rescue::Verdict,
    thread,
    watch::{self, Finding, Watch},
};
use crate::domain::{ErrorKind, RunError};

#[cfg(target_os = "linux")]
use super::process;

/// The pool, shared by the actors and the handles of one thread.
pub(super) type Shared = Rc<RefCell<Lanes>>;

/// Come by: there may be something to write.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Pump;

/// How the lanes of a pool are made.
#[derive(Clone, Debug)]
pub(super) struct Making {
    pub(super) isolation: Isolation,
    pub(super) executable: PathBuf,
    pub(super) address_space_bytes: u64,
}

/// Reads of one turn, so that one flooded lane does not keep the others waiting.
const READS_PER_TURN: usize = 16;

/// How long a lane may take from its start to its first word.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// How long the sentence of a culprit waits when its lane was killed from outside: whoever kills
/// this whole process must not leave a verdict behind.
const KILL_GRACE: Duration = Duration::from_millis(100);

/// A quarantine lane without work is ended after this long.
const QUARANTINE_IDLE: Duration = Duration::from_secs(10);

pub(super) struct LaneActor {
    lanes: Shared,
    slot: usize,
    making: Making,
    lane: Option<Lane>,
    /// Threads that were let go while their script still ran.
    abandoned: Vec<thread::Thread>,
    /// A look is due.
    looking: bool,
}

/// The living lane.
struct Lane {
    body: Body,
    page: Page,
    stream: Rc<UnixStream>,
    reading: SpawnHandle,
    inbox: Inbox,
    watch: Watch,
    /// The socket is full; its readiness brings the next turn.
    blocked: bool,
    /// Why this actor ended it.
    sentence: Option<Sentence>,
    since: Instant,
}

enum Body {
    #[cfg(target_os = "linux")]
    Process(process::Process),
    Thread(thread::Thread),
}

/// Why the parent ended a lane.
#[derive(Debug, thiserror::Error)]
enum Sentence {
    /// The hard limit; the CPU time that it stands for.
    #[error(
        "the script used {} ms of CPU in one go, inside a built-in that the engine cannot interrupt; its lane was ended",
        .0.as_millis()
    )]
    Overdue(Duration),
    /// Nobody's fault.
    #[error("{0}")]
    Retired(&'static str),
    /// It said what no lane says.
    #[error("it broke the protocol: {0}")]
    BrokeProtocol(String),
}

impl LaneActor {
    pub(super) fn new(lanes: Shared, slot: usize, making: Making) -> Self {
        Self { lanes, slot, making, lane: None, abandoned: Vec::new(), looking: false }
    }

    fn state(&self) -> LaneState {
        self.lanes.borrow_mut().slot(self.slot).state
    }

    fn kind(&self) -> LaneKind {
        self.lanes.borrow_mut().slot(self.slot).kind
    }

    // ---- birth -----------------------------------------------------------------------------------

    fn start(&mut self, ctx: &mut Context<Self>) {
        match self.spawn(ctx) {
            Ok(lane) => {
                let pid = lane.body.pid();
                self.lanes.borrow_mut().starting(self.slot, lane.page.clone(), pid);
                self.lane = Some(lane);
                self.look_later(ctx);
            }
            Err(error) => {
                // No lane, no runs in it, no culprit.
                let _ = self.lost(&format!("cannot start a lane: {error}"), false, ctx);
            }
        }
    }

    fn spawn(&self, ctx: &mut Context<Self>) -> io::Result<Lane> {
        let (body, stream, page) = match self.making.isolation {
            #[cfg(target_os = "linux")]
            Isolation::Process => {
                let (process, stream, page) =
                    process::spawn(&self.making.executable, self.making.address_space_bytes)?;
                (Body::Process(process), stream, page)
            }
            // Systems without the walls have thread lanes only; `Sandbox::walls` says so.
            #[cfg(not(target_os = "linux"))]
            Isolation::Process => thread_lane()?,
            Isolation::Thread => thread_lane()?,
        };
        stream.set_nonblocking(true)?;
        let stream = Rc::new(UnixStream::from_std(stream)?);
        let reading = ctx.add_stream(Readable(Rc::clone(&stream)));
        let now = Instant::now();
        Ok(Lane {
            body,
            page,
            stream,
            reading,
            inbox: Inbox::default(),
            watch: Watch::new(now),
            blocked: false,
            sentence: None,
            since: now,
        })
    }

    // ---- work ------------------------------------------------------------------------------------

    /// A turn that cannot take the actor down: actix would not restart it after a panic.
    fn turn(&mut self, ctx: &mut Context<Self>) {
        let turned = catch_unwind(AssertUnwindSafe(|| self.read_and_write(ctx)));
        let ended = turned.unwrap_or_else(|_| {
            self.end(Sentence::Retired("the parent panicked over it"));
            None
        });
        if let Some(reason) = ended {
            self.bury(&reason, ctx);
        } else {
            self.look_later(ctx);
        }
    }

    /// `Some` when the lane is gone, and how that showed.
    fn read_and_write(&mut self, ctx: &mut Context<Self>) -> Option<String> {
        let lane = self.lane.as_mut()?;
        for _ in 0..READS_PER_TURN {
            match lane.stream.try_read(lane.inbox.space()) {
                Ok(0) => return Some("its socket closed".into()),
                Ok(count) => lane.inbox.filled(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Some(error.to_string()),
            }
            let mut lanes = self.lanes.borrow_mut();
            let mut dishonest = None;
            let decoded = lane.inbox.drain(|frame: FromLane| match frame {
                FromLane::Ready(walls) => lanes.up(self.slot, walls),
                FromLane::Finished(report) => lanes.finished(self.slot, report),
                FromLane::Asks(asks) => {
                    if let Err(fault) = lanes.asked(self.slot, *asks) {
                        dishonest = Some(fault);
                    }
                }
                FromLane::Broken { context, message } => lanes.broken(self.slot, context, message),
            });
            let broken = decoded.err().map(|error| error.to_string()).or(dishonest);
            if let Some(fault) = broken {
                drop(lanes);
                self.end(Sentence::BrokeProtocol(fault));
                return None;
            }
        }
        loop {
            let mut lanes = self.lanes.borrow_mut();
            lanes.fill(self.slot);
            let slot = lanes.slot(self.slot);
            if slot.unwritten().is_empty() {
                return None;
            }
            match lane.stream.try_write(slot.unwritten()) {
                Ok(count) => slot.wrote(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drop(lanes);
                    self.write_later(ctx);
                    return None;
                }
                // The read side says how it ended, after what it still had to say.
                Err(_) => {
                    slot.discard_output();
                    return None;
                }
            }
        }
    }

    fn write_later(&mut self, ctx: &mut Context<Self>) {
        let Some(lane) = self.lane.as_mut().filter(|lane| !lane.blocked) else { return };
        lane.blocked = true;
        let stream = Rc::clone(&lane.stream);
        let writable = async move { (stream.writable().await, stream) };
        ctx.spawn(writable.into_actor(self).map(|(_, stream), actor, ctx| {
            // Another lane may be in the slot by now.
            if let Some(lane) = actor.lane.as_mut().filter(|lane| Rc::ptr_eq(&lane.stream, &stream))
            {
                lane.blocked = false;
                actor.turn(ctx);
            }
        }));
    }

    // ---- watch -----------------------------------------------------------------------------------

    /// Looks while there is something to see: an idle lane costs no wake-ups.
    fn look_later(&mut self, ctx: &mut Context<Self>) {
        let mut lanes = self.lanes.borrow_mut();
        let slot = lanes.slot(self.slot);
        let idle = slot.in_flight() == 0
            && slot.state == LaneState::Up
            && slot.kind != LaneKind::Quarantine;
        let executes =
            self.lane.as_ref().is_some_and(|lane| lane.page.snapshot().running.is_some());
        if self.looking || self.lane.is_none() || idle && !executes {
            return;
        }
        drop(lanes);
        self.looking = true;
        ctx.run_later(watch::LOOK_EVERY, |actor, ctx| {
            actor.looking = false;
            actor.look(ctx);
            actor.look_later(ctx);
        });
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let Some(lane) = self.lane.as_mut() else { return };
        if lane.sentence.is_some() {
            return;
        }
        let now = Instant::now();
        let snapshot = lane.page.snapshot();
        let mut lanes = self.lanes.borrow_mut();
        let limits = lanes.limits_of(self.slot, RunKey(snapshot.running.unwrap_or_default()));
        let hard_limit = watch::hard_limit(&limits);
        let cpu = lane.body.cpu();
        let found = lane.watch.look(snapshot, now, hard_limit, cpu);
        let slot = lanes.slot(self.slot);
        slot.cpu = cpu.unwrap_or(slot.cpu);
        let (state, kind, in_flight) = (slot.state, slot.kind, slot.in_flight());
        let age = now.duration_since(lane.since);
        let sentence = match found {
            _ if state == LaneState::Starting && age > READY_WITHIN => {
                Some(Sentence::Retired("it did not get ready in time"))
            }
            Finding::Fine => {
                lanes.recovered(self.slot);
                lanes.unblock(self.slot, now);
                lanes.balance(self.slot);
                (kind == LaneKind::Quarantine && in_flight == 0 && age > QUARANTINE_IDLE)
                    .then_some(Sentence::Retired("idle"))
            }
            Finding::Silent => {
                lanes.silent(self.slot);
                None
            }
            Finding::Overdue => Some(Sentence::Overdue(hard_limit)),
            Finding::Stuck => Some(Sentence::Retired("it made no progress and used no CPU")),
        };
        drop(lanes);
        if let Some(sentence) = sentence {
            self.end(sentence);
            self.turn(ctx);
        }
    }

    // ---- death -----------------------------------------------------------------------------------

    /// Ends the lane; its socket's end, after what it still had to say, brings it to [`bury`].
    fn end(&mut self, sentence: Sentence) {
        let Some(lane) = self.lane.as_mut() else { return };
        self.abandoned.retain(|thread| !thread.ended());
        match &mut lane.body {
            #[cfg(target_os = "linux")]
            Body::Process(process) => process.kill(),
            Body::Thread(_) if self.abandoned.len() >= thread::ABANDONED_MAX => {
                // Left as it is: silent. Another thread would only take more of the machine.
                return;
            }
            Body::Thread(thread) => thread.dismiss(),
        }
        lane.sentence = Some(sentence);
    }

    /// The lane is gone: its runs are sorted out at once, its culprit is sentenced when it is
    /// known how it ended, and the next lane starts meanwhile.
    fn bury(&mut self, how_seen: &str, ctx: &mut Context<Self>) {
        let Some(lane) = self.lane.take() else { return };
        ctx.cancel_future(lane.reading);
        let reason = match (&lane.sentence, lane.page.words()) {
            (Some(sentence), _) => sentence.to_string(),
            (None, Some(words)) => words,
            (None, None) => how_seen.to_owned(),
        };
        let blame = !matches!(lane.sentence, Some(Sentence::Retired(_)));
        let verdict = self.lost(&reason, blame, ctx);
        self.inquire(lane, verdict, reason, ctx);
    }

    /// Tells the pool, and arranges for the next lane.
    fn lost(&mut self, reason: &str, blame: bool, ctx: &mut Context<Self>) -> Option<Verdict> {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.slot(self.slot).state == LaneState::Stopped {
            return None;
        }
        let verdict = lanes.gone(self.slot, reason, blame);
        let slot = lanes.slot(self.slot);
        let (kind, wait) = (slot.kind, slot.restart_wait());
        if kind == LaneKind::Quarantine && slot.ready.is_empty() {
            slot.state = LaneState::Cold;
            return verdict;
        }
        drop(lanes);
        match wait {
            None => self.start(ctx),
            Some(wait) => {
                ctx.run_later(wait, |actor, ctx| {
                    if actor.lane.is_none() && actor.state() == LaneState::Down {
                        actor.start(ctx);
                    }
                });
            }
        }
        verdict
    }

    /// Finds out how the lane ended, and sentences the culprit.
    fn inquire(
        &mut self,
        lane: Lane,
        verdict: Option<Verdict>,
        reason: String,
        ctx: &mut Context<Self>,
    ) {
        let sentence = lane.sentence;
        match lane.body {
            #[cfg(target_os = "linux")]
            Body::Process(mut process) => {
                let spoke = lane.page.words().is_some();
                let by_us = sentence.is_some();
                let inquiry = async move {
                    let end = how_it_ended(&mut process).await;
                    if end.is_kill() && !by_us {
                        tokio::time::sleep(KILL_GRACE).await;
                    }
                    end
                };
                ctx.spawn(inquiry.into_actor(self).map(move |end, actor, _| {
                    let reason = if by_us || spoke { reason } else { end.describe() };
                    actor.close_the_case(sentence, verdict, reason);
                }));
            }
            Body::Thread(thread) => {
                if !thread.ended() {
                    self.abandoned.push(thread);
                }
                self.close_the_case(sentence, verdict, reason);
            }
        }
    }

    fn close_the_case(&self, sentence: Option<Sentence>, verdict: Option<Verdict>, reason: String) {
        let mut lanes = self.lanes.borrow_mut();
        let slot = lanes.slot(self.slot);
        if let Some(Sentence::Retired(_)) = sentence {
            info!(lane = %slot.name, reason, "lane ended");
        } else {
            warn!(lane = %slot.name, reason, "lane lost");
        }
        if let Some(verdict) = verdict {
            let (kind, message) = match sentence {
                Some(Sentence::Overdue(_)) => (ErrorKind::Timeout, reason.clone()),
                _ => (
                    ErrorKind::HostCrash,
                    format!("the lane that executed the script died: {reason}"),
                ),
            };
            verdict.speak(RunError { kind, message, stack: None });
        }
        slot.last_crash = Some(reason);
    }
}

/// Waits for the kernel's word. A process that closed its socket and does not end is killed.
#[cfg(target_os = "linux")]
async fn how_it_ended(process: &mut process::Process) -> process::End {
    for look in 0..ENDING_LOOKS {
        if let Some(end) = process.ended() {
            return end;
        }
        if look == ENDING_LOOKS / 2 {
            process.kill();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    process::End::Unknown
}

/// Milliseconds that a process may take to end.
#[cfg(target_os = "linux")]
const ENDING_LOOKS: u32 = 500;

fn thread_lane() -> io::Result<(Body, std::os::unix::net::UnixStream, Page)> {
    let (thread, stream, page) = thread::spawn()?;
    Ok((Body::Thread(thread), stream, page))
}

impl Body {
    fn pid(&self) -> Option<u32> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Process(process) => Some(process.pid()),
            Self::Thread(_) => None,
        }
    }

    fn cpu(&self) -> Option<Duration> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Process(process) => process.cpu(),
            Self::Thread(thread) => thread.cpu(),
        }
    }
}

/// Yields whenever the socket has something to read; ends with it.
struct Readable(Rc<UnixStream>);

impl Stream for Readable {
    type Item = ();

    fn poll_next(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<()>> {
        self.0.poll_read_ready(task).map(|ready| ready.ok())
    }
}

impl Actor for LaneActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // A quarantine lane starts with its first suspect.
        if self.kind() != LaneKind::Quarantine {
            self.start(ctx);
        }
        let idle_for = self.lanes.borrow().idle_for();
        ctx.run_interval((idle_for / 2).clamp(HIBERNATE_OFTEN, HIBERNATE_SELDOM), |actor, _| {
            actor.lanes.borrow_mut().hibernate(actor.slot, Instant::now());
        });
    }
}

/// Bounds of how often idle runtimes are looked for.
const HIBERNATE_OFTEN: Duration = Duration::from_millis(50);
const HIBERNATE_SELDOM: Duration = Duration::from_secs(30);

impl StreamHandler<()> for LaneActor {
    fn handle(&mut self, (): (), ctx: &mut Context<Self>) {
        self.turn(ctx);
    }

    /// The next lane has a stream of its own: the actor goes on.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl Handler<Pump> for LaneActor {
    type Result = ();

    fn handle(&mut self, _: Pump, ctx: &mut Context<Self>) {
        let (state, has_work) = {
            let mut lanes = self.lanes.borrow_mut();
            let slot = lanes.slot(self.slot);
            slot.awake();
            (slot.state, !slot.ready.is_empty())
        };
        match state {
            LaneState::Stopped => {
                self.lane = None;
                ctx.stop();
            }
            LaneState::Cold if has_work => self.start(ctx),
            _ => self.turn(ctx),
        }
    }
}
