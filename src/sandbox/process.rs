//! A lane as a child process of the same binary.
//!
//! The child gets a socket as its standard input, the progress page as its standard output, an
//! empty environment and nothing else. There is deliberately no `pre_exec`: the standard library
//! would then fork the whole parent (measured: 41 ms instead of 1.5 ms with 1 GiB resident), so
//! everything else is done by the child itself ([`lane_main`], `jail.rs`).

#![allow(unsafe_code, reason = "descriptors and clocks of another process")]

use std::{
    fs::File,
    io,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::{jail, lane_loop, page::Page};

/// The hidden subcommand by which the binary becomes a lane.
const SUBCOMMAND: &str = "lane";

/// A lane process and what the parent can do to it. Dropping it kills it.
pub(super) struct Process {
    child: Child,
    cpu_clock: Option<libc::clockid_t>,
}

/// Starts a lane; it answers on the stream when it is ready.
///
/// Blocks for about 0.2 ms. The calling thread must live as long as the lane shall: the kernel
/// takes the end of that thread for the end of the parent.
pub(super) fn spawn(
    executable: &Path,
    address_space_bytes: u64,
) -> io::Result<(Process, UnixStream, Page)> {
    let (ours, theirs) = UnixStream::pair()?;
    let (page, file) = Page::in_memory_file()?;
    let child = Command::new(executable)
        .arg(SUBCOMMAND)
        .arg(address_space_bytes.to_string())
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(file)
        .stderr(Stdio::null())
        .spawn()?;
    let cpu_clock = cpu_clock(child.id());
    Ok((Process { child, cpu_clock }, ours, page))
}

fn cpu_clock(pid: u32) -> Option<libc::clockid_t> {
    let mut clock = 0;
    // SAFETY: writes one number that is ours.
    let result = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) };
    (result == 0).then_some(clock)
}

/// CPU time on `clock`; `None` when its process or thread is gone.
pub(super) fn read_clock(clock: libc::clockid_t) -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one struct that is ours.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (result == 0).then(|| {
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    })
}

impl Process {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn cpu(&self) -> Option<Duration> {
        self.cpu_clock.and_then(read_clock)
    }

    /// Ends it at once. Its socket closes within milliseconds.
    pub(super) fn kill(&mut self) {
        // Fails only for a lane that is gone already.
        let _ = self.child.kill();
    }

    /// How it ended; `None` while the kernel is still at it.
    pub(super) fn ended(&mut self) -> Option<End> {
        // An error means there is no such child any more: somebody else reaped it.
        self.child.try_wait().map_or(Some(End::Unknown), |status| status.map(End::of))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // Killed processes end at once; without this it would stay as a zombie.
        let _ = self.child.wait();
    }
}

/// How a lane process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Exited(i32),
    Signal(i32),
    Unknown,
}

impl End {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }

    /// True for a kill from outside: an operator, the kernel short of memory, or somebody who is
    /// about to end the parent too.
    pub(super) fn is_kill(self) -> bool {
        self == Self::Signal(libc::SIGKILL)
    }

    pub(super) fn describe(self) -> String {
        match self {
            Self::Exited(code) => format!("it ended with code {code}"),
            Self::Signal(libc::SIGKILL) => {
                "it was killed (by hand, or the machine is short of memory)".into()
            }
            Self::Signal(libc::SIGSYS) => "it made a system call that lanes may not make".into(),
            Self::Signal(libc::SIGABRT) => "the engine aborted".into(),
            Self::Signal(libc::SIGSEGV) => "it read or wrote memory that is not its own".into(),
            Self::Signal(signal) => format!("it ended by signal {signal}"),
            Self::Unknown => "it is gone".into(),
        }
    }
}

/// Set by [`become_lane_if_asked`].
static CAN_BE_A_LANE: AtomicBool = AtomicBool::new(false);

/// The first statement of a `main` whose binary shall serve as its own lanes: does not return when
/// the process was started as a lane, and otherwise notes that this binary knows how to be one.
///
/// Without that note process lanes need [`super::SandboxConfig::executable`]: a binary that does
/// not branch off here would start itself over and over.
pub fn become_lane_if_asked() {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == SUBCOMMAND) {
        lane_main();
    }
    CAN_BE_A_LANE.store(true, Ordering::Relaxed);
}

/// True when this very binary may be started as a lane.
pub(super) fn can_be_a_lane() -> bool {
    CAN_BE_A_LANE.load(Ordering::Relaxed)
}

/// The whole life of a lane process: before it, no thread, runtime or logger may exist.
fn lane_main() -> ! {
    let address_space_bytes =
        std::env::args().nth(2).and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    // SAFETY: the parent put the page there; nobody else in this process uses descriptor 1. The
    // `File` is forgotten below, so it is not closed under the feet of whoever gets number 1 next.
    let output = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(1) });
    let Ok(page) = Page::map(&output) else {
        eprintln!(
            "`tripline {SUBCOMMAND}` is what the server starts to run scripts in; it is of no use by hand"
        );
        std::process::exit(2);
    };
    let last_words = page.clone();
    std::panic::set_hook(Box::new(move |panic| last_words.say(&panic.to_string())));
    let walls = jail::enter(address_space_bytes);
    // SAFETY: the parent put the socket there; nobody else in this process uses descriptor 0.
    let stream = unsafe { UnixStream::from_raw_fd(0) };
    let code = match lane_loop::run_lane(stream, &page, walls) {
        Ok(()) => 0,
        Err(error) => {
            page.say(&error.to_string());
            1
        }
    };
    std::process::exit(code)
}
