//! A lane as a thread of this process: the same loop over the same kind of socket.
//!
//! For embedders and for systems without the walls of `jail.rs`. It protects against careless
//! scripts, not against hostile ones: a thread cannot be killed, so a script stuck in a built-in
//! that the engine cannot interrupt keeps its thread for as long as it likes. The watchdog then
//! abandons the thread and starts another, at most [`ABANDONED_MAX`] times at once; and what
//! aborts the engine ends the whole process.

use std::{
    io,
    net::Shutdown,
    os::unix::net::UnixStream,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use super::{lane_loop, page::Page, protocol::Walls};

/// The engine's stack limit of 256 KiB wants far more of the thread's.
const STACK_BYTES: usize = 8 << 20;

/// Threads that may be stuck at once; beyond that a stuck lane is left as it is, silent.
pub(super) const ABANDONED_MAX: usize = 8;

/// A lane thread. Dropping it lets it go: it ends when its script does.
pub(super) struct Thread {
    join: JoinHandle<()>,
    /// Our end of the stream, to close it.
    stream: UnixStream,
    /// The kernel's id of the thread, for its CPU clock; 0 until it has started.
    id: Arc<AtomicI32>,
}

pub(super) fn spawn() -> io::Result<(Thread, UnixStream, Page)> {
    let (ours, theirs) = UnixStream::pair()?;
    let stream = ours.try_clone()?;
    let page = Page::on_heap();
    let id = Arc::new(AtomicI32::new(0));
    let (lane_page, lane_id) = (page.clone(), Arc::clone(&id));
    let join = Builder::new().name("lane".into()).stack_size(STACK_BYTES).spawn(move || {
        lane_id.store(thread_id(), Ordering::Release);
        // A panic is the end of this lane like any other end: the stream closes.
        let ended =
            catch_unwind(AssertUnwindSafe(|| lane_loop::run_lane(theirs, &lane_page, walls())));
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => lane_page.say(&error.to_string()),
            Err(_) => lane_page.say("the lane panicked"),
        }
    })?;
    Ok((Thread { join, stream, id }, ours, page))
}

fn walls() -> Walls {
    Walls { missing: vec!["process: lanes are threads (lanes.isolation)".into()] }
}

impl Thread {
    /// `None` where threads have no clock of their own, or this one has not started or has ended.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let id = self.id.load(Ordering::Acquire);
        if id == 0 || self.ended() {
            return None;
        }
        thread_cpu(id)
    }

    /// Closes the stream in both directions: the thread ends when its script lets it see that.
    pub(super) fn dismiss(&self) {
        // Fails only on a stream that is closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    pub(super) fn ended(&self) -> bool {
        self.join.is_finished()
    }
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "asks for a number")]
fn thread_id() -> i32 {
    // SAFETY: no arguments, no memory effects.
    unsafe { libc::gettid() }
}

#[cfg(target_os = "linux")]
fn thread_cpu(id: i32) -> Option<Duration> {
    /// The kernel's CPU clock of one thread: per thread (4), scheduler time (2).
    const KIND: i32 = 4 | 2;
    super::process::read_clock((!id << 3) | KIND)
}

#[cfg(not(target_os = "linux"))]
fn thread_id() -> i32 {
    0
}

#[cfg(not(target_os = "linux"))]
fn thread_cpu(_: i32) -> Option<Duration> {
    None
}
