//! A lane's loop: the same code in a child process and on a thread.
//!
//! One script executes at a time. A context that waits for a timer or for an answer of the parent
//! lets the others go on; its own
//! next runs wait in its queue, for a runtime holds one run from its start to its end. Answers are
//! collected and written together when all input is used up, or 4 KiB have come together.
//!
//! After the start the loop itself needs only `poll`, `recvfrom`, `sendto`, `clock_gettime` and
//! memory from the system; `process-lanes` filters allow no more.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{
    RunKey, RunReport,
    call::{Answer, Question},
    engine::{CpuClock, Engine, Step},
    protocol::{
        Asks, ContextId, FromLane, Inbox, Open, Progress, Reply, RunRequest, ToLane, Walls, encode,
    },
};

/// Answers are written when this much has come together, or when there is nothing else to do.
const FLUSH_BYTES: usize = 4 << 10;

/// Answers older than this are written before the next script starts: how long that one takes,
/// or whether it ever ends, nobody knows.
const FLUSH_AFTER: Duration = Duration::from_millis(1);

/// Serves the stream until its other end closes it.
///
/// Wants a thread stack of 2 MiB or more beyond the scripts' own limit. `walls` is what holds this
/// lane in; it is reported with `Ready`. An error means that the parent broke the protocol or the
/// stream: the lane has nothing left to do.
pub fn run_lane<P: Progress>(stream: UnixStream, progress: &P, walls: Walls) -> io::Result<()> {
    let mut lane = Lane {
        contexts: FxHashMap::default(),
        wakes: BinaryHeap::new(),
        out: Vec::with_capacity(2 * FLUSH_BYTES),
        oldest: None,
        clock: CpuClock::start(),
        stream: &stream,
        progress,
    };
    lane.say(&FromLane::Ready(walls))?;
    lane.flush()?;
    let mut inbox = Inbox::default();
    let mut input = &stream;
    loop {
        let arrived = Instant::now();
        while let Some(frame) = inbox.next::<ToLane<'_>>().map_err(io::Error::other)? {
            lane.take(frame, arrived)?;
            lane.wake_due()?;
        }
        lane.wake_due()?;
        lane.flush()?;
        if !wait(&stream, lane.next_wake())? {
            continue;
        }
        let read = match input.read(inbox.space()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Ok(());
        }
        inbox.filled(read);
    }
}

struct Lane<'a, P> {
    contexts: FxHashMap<ContextId, Slot>,
    /// When to look at a context that waits; entries outlive their run and are checked when due.
    wakes: BinaryHeap<Reverse<(Instant, ContextId)>>,
    out: Vec<u8>,
    /// When the first of the collected answers was given.
    oldest: Option<Instant>,
    clock: CpuClock,
    stream: &'a UnixStream,
    progress: &'a P,
}

struct Slot {
    engine: Engine,
    /// When the waiting run is to be looked at.
    wakes_at: Option<Instant>,
    /// Runs that came while another one waited, as frames.
    queue: VecDeque<(Instant, Vec<u8>)>,
}

impl<P: Progress> Lane<'_, P> {
    fn take(&mut self, frame: ToLane<'_>, arrived: Instant) -> io::Result<()> {
        match frame {
            ToLane::Open(open) => self.open(&open),
            ToLane::Close(context) => {
                self.contexts.remove(&context);
            }
            ToLane::Run(request) => {
                let Some(slot) = self.contexts.get_mut(&request.context) else {
                    return self.say(&FromLane::Broken {
                        context: request.context,
                        message: "the lane does not know this context".into(),
                    });
                };
                if slot.engine.waiting().is_some() {
                    let frame = postcard::to_allocvec(&request).map_err(io::Error::other)?;
                    slot.queue.push_back((arrived, frame));
                } else {
                    self.start(&request, arrived)?;
                }
            }
            ToLane::Answer(reply) => self.answer(*reply)?,
        }
        Ok(())
    }

    fn open(&mut self, open: &Open<'_>) {
        let slot = Slot { engine: Engine::open(open), wakes_at: None, queue: VecDeque::new() };
        self.contexts.insert(open.context, slot);
    }

    fn start(&mut self, request: &RunRequest<'_>, arrived: Instant) -> io::Result<()> {
        if !self.progress.claim(request.key) {
            return Ok(());
        }
        if self.oldest.is_some_and(|oldest| oldest.elapsed() > FLUSH_AFTER) {
            self.flush()?;
        }
        let Some(slot) = self.contexts.get_mut(&request.context) else { return Ok(()) };
        self.progress.begin(request.context, request.key);
        let step = slot.engine.start(request, arrived.elapsed(), &mut self.clock);
        self.progress.end();
        self.after(request.context, step)
    }

    fn after(&mut self, context: ContextId, step: Step) -> io::Result<()> {
        match step {
            Step::Done(report) => self.say(&FromLane::Finished(report)),
            Step::WaitsUntil(at) => {
                if let Some(slot) = self.contexts.get_mut(&context)
                    && slot.wakes_at != Some(at)
                {
                    slot.wakes_at = Some(at);
                    self.wakes.push(Reverse((at, context)));
                }
                self.ask(context)
            }
            Step::Broken(message) => {
                self.contexts.remove(&context);
                self.say(&FromLane::Broken { context, message })
            }
        }
    }

    /// Passes on what a waiting run wants to know.
    fn ask(&mut self, context: ContextId) -> io::Result<()> {
        let Some(slot) = self.contexts.get(&context) else { return Ok(()) };
        let Some(run) = slot.engine.waiting() else { return Ok(()) };
        for (call, question) in slot.engine.questions() {
            self.say(&FromLane::Asks(Box::new(Asks { context, run, call, question })))?;
        }
        Ok(())
    }

    fn answer(&mut self, reply: Reply) -> io::Result<()> {
        let Reply { context, run, call, answer } = reply;
        let Some(slot) = self.contexts.get_mut(&context) else { return Ok(()) };
        if slot.engine.waiting() != Some(run) {
            return Ok(());
        }
        self.progress.begin(context, run);
        let step = slot.engine.answer(call, answer, &mut self.clock);
        self.progress.end();
        if let Some(step) = step {
            self.after(context, step)?;
        }
        self.next_of(context)
    }

    /// Goes on with every run whose time has come, and with what was queued behind it.
    fn wake_due(&mut self) -> io::Result<()> {
        if self.wakes.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        while let Some(Reverse((at, context))) = self.wakes.peek().copied() {
            if at > now {
                break;
            }
            self.wakes.pop();
            self.wake(context, at)?;
        }
        Ok(())
    }

    fn wake(&mut self, context: ContextId, at: Instant) -> io::Result<()> {
        let Some(slot) = self.contexts.get_mut(&context) else { return Ok(()) };
        if slot.wakes_at != Some(at) {
            return Ok(());
        }
        slot.wakes_at = None;
        let Some(key) = slot.engine.waiting() else { return Ok(()) };
        self.progress.begin(context, key);
        let step = slot.engine.wake(&mut self.clock);
        self.progress.end();
        if let Some(step) = step {
            self.after(context, step)?;
        }
        self.next_of(context)
    }

    /// Starts queued runs until one waits.
    fn next_of(&mut self, context: ContextId) -> io::Result<()> {
        loop {
            let Some(slot) = self.contexts.get_mut(&context) else { return Ok(()) };
            if slot.engine.waiting().is_some() {
                return Ok(());
            }
            let Some((arrived, frame)) = slot.queue.pop_front() else { return Ok(()) };
            let request: RunRequest<'_> = postcard::from_bytes(&frame).map_err(io::Error::other)?;
            self.start(&request, arrived)?;
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        self.wakes.peek().map(|Reverse((at, _))| *at)
    }

    fn say(&mut self, frame: &FromLane) -> io::Result<()> {
        encode(frame, &mut self.out).map_err(io::Error::other)?;
        self.oldest.get_or_insert_with(Instant::now);
        if self.out.len() >= FLUSH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let mut stream = self.stream;
        stream.write_all(&self.out)?;
        self.oldest = None;
        self.out.clear();
        self.out.shrink_to(16 * FLUSH_BYTES);
        Ok(())
    }
}

/// Waits for input until `until`. True when there is some, or the stream has ended.
fn wait(stream: &UnixStream, until: Option<Instant>) -> io::Result<bool> {
    let timeout_ms = match until {
        None => -1,
        Some(until) => {
            // Rounded up: a wake-up too early would only come back here.
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            i32::try_from(left.as_millis()).unwrap_or(i32::MAX)
        }
    };
    let mut poll = libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid entry, and its count.
    match unsafe { libc::poll(&raw mut poll, 1, timeout_ms) } {
        -1 => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            error => Err(error),
        },
        ready => Ok(ready > 0),
    }
}

/// Runs one script here and now, on the calling thread, with `host` to answer it.
///
/// Blocks until the run ends, timers included. Without the walls of a lane process.
pub fn run_here(
    open: &Open<'_>,
    request: &RunRequest<'_>,
    mut host: impl FnMut(Question) -> Answer,
) -> Result<RunReport, String> {
    let mut engine = Engine::open(open);
    let mut clock = CpuClock::start();
    let mut step = Some(engine.start(request, Duration::ZERO, &mut clock));
    loop {
        match step {
            Some(Step::Done(report)) => return Ok(*report),
            Some(Step::Broken(message)) => return Err(message),
            Some(Step::WaitsUntil(at)) => {
                let questions = engine.questions();
                step = match questions.is_empty() {
                    true => {
                        std::thread::sleep(at.saturating_duration_since(Instant::now()));
                        engine.wake(&mut clock)
                    }
                    // An answer may end the run, or wait for its turn: then the next wake-up goes on.
                    false => questions
                        .into_iter()
                        .fold(None, |step, (call, question)| {
                            engine.answer(call, host(question), &mut clock).or(step)
                        })
                        .or_else(|| engine.wake(&mut clock)),
                };
            }
            None => return Err(format!("run {:?} is lost", RunKey(request.key.0))),
        }
    }
}

#[cfg(test)]
mod tests;
