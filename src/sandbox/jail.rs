//! What a lane process does to itself before it sees the first script.
//!
//! Everything is best effort: a wall that this kernel, container or user does not give is named in
//! [`Walls::missing`], and the parent shows it in `/readyz`. The order matters and was measured to
//! work as a whole: landlock needs a descriptor, so it comes before the limit on descriptors; the
//! change of user clears the parent-death signal, so that is asked for again; seccomp forbids all
//! of the above, so it is last.

#![allow(unsafe_code, reason = "system calls that have no safe wrapper")]

use std::{collections::BTreeMap, io};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::protocol::Walls;

/// Who a lane becomes when the parent is root: nobody.
const NOBODY: u32 = 65_534;

/// The stack that the engine's limits are made for, in bytes; the main thread grows up to it.
const STACK_BYTES: u64 = 16 << 20;

/// Shuts this process in. Its socket stays descriptor 0, 1 and 2 lead nowhere.
pub(super) fn enter(address_space_bytes: u64) -> Walls {
    let mut walls = Walls::default();
    let mut wall = |name: &str, result: Result<(), String>| {
        if let Err(reason) = result {
            walls.missing.push(format!("{name}: {reason}"));
        }
    };
    ignore_terminal_signals();
    wall("parent-death signal", die_with_parent());
    // Reads the time zone's file now: the first local date of a script may not.
    // SAFETY: single-threaded, so nobody reads the environment meanwhile.
    unsafe { tzset() };
    wall("landlock", landlock());
    wall("rlimits", rlimits(address_space_bytes));
    wall("closed descriptors", close_descriptors());
    wall("no core and no tracing", prctl(libc::PR_SET_DUMPABLE, 0));
    wall("no_new_privs", prctl(libc::PR_SET_NO_NEW_PRIVS, 1));
    wall("unprivileged user", become_nobody());
    wall("parent-death signal", die_with_parent());
    wall("seccomp", seccomp());
    walls
}

unsafe extern "C" {
    fn tzset();
}

/// Ctrl-C and a service manager's SIGTERM reach the whole group, but only the parent knows how to
/// end: it closes the socket when it has drained.
fn ignore_terminal_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE] {
        // SAFETY: sets a disposition; no handler of ours runs.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// The socket's end is the main signal; this one reaches a lane that is stuck in a script.
fn die_with_parent() -> Result<(), String> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> Result<(), String> {
    let none: libc::c_ulong = 0;
    // SAFETY: these options take numbers only.
    check(unsafe { libc::prctl(option, value, none, none, none) })
}

fn check(result: libc::c_int) -> Result<(), String> {
    if result < 0 { Err(io::Error::last_os_error().to_string()) } else { Ok(()) }
}

/// No file, no port, no signal to anybody outside, whatever the kernel knows of these.
fn landlock() -> Result<(), String> {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
        RulesetStatus, Scope,
    };
    let abi = ABI::V6;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(abi)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(abi)))
        .and_then(|ruleset| ruleset.create())
        .and_then(|ruleset| ruleset.restrict_self())
        .map_err(|error| error.to_string())?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        RulesetStatus::PartiallyEnforced => {
            Err("only in part: the kernel is older than 6.12".into())
        }
        RulesetStatus::NotEnforced => Err("not in this kernel".into()),
    }
}

fn rlimits(address_space_bytes: u64) -> Result<(), String> {
    let limits = [
        (libc::RLIMIT_STACK, STACK_BYTES),
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_FSIZE, 0),
        (libc::RLIMIT_NPROC, 0),
        (libc::RLIMIT_NOFILE, 3),
        (libc::RLIMIT_MEMLOCK, 0),
        (libc::RLIMIT_AS, address_space_bytes),
    ];
    for (resource, wanted) in limits {
        let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: writes one struct that is ours.
        check(unsafe { libc::getrlimit(resource, &raw mut now) })?;
        let bound = wanted.min(now.rlim_max);
        let limit = libc::rlimit { rlim_cur: bound, rlim_max: bound };
        // SAFETY: reads one struct that is ours.
        check(unsafe { libc::setrlimit(resource, &raw const limit) })?;
    }
    Ok(())
}

fn close_descriptors() -> Result<(), String> {
    // The page was mapped from descriptor 1; now it leads where 2 does, which is nowhere.
    // SAFETY: descriptors only; nobody in this process owns 1.
    check(unsafe { libc::dup2(2, 1) })?;
    // SAFETY: as above, for everything from 3 on. Called by number: older C libraries have no name
    // for it.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    check(if result < 0 { -1 } else { 0 })
}

fn become_nobody() -> Result<(), String> {
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        return Ok(());
    }
    // SAFETY: changes the credentials of this single-threaded process.
    unsafe {
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
        check(libc::setresuid(NOBODY, NOBODY, NOBODY))
    }
}

/// The system calls of a lane, found by removing one at a time; every other one kills it.
fn seccomp() -> Result<(), String> {
    let program = filter().map_err(|error| error.to_string())?;
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let always = [
        // The socket: the standard library's stream, and the wait with a timer.
        libc::SYS_recvfrom,
        libc::SYS_sendto,
        libc::SYS_read,
        libc::SYS_write,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll,
        libc::SYS_ppoll,
        libc::SYS_close,
        // Memory.
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_futex,
        // Clocks, where the kernel's page for them cannot be used; seeds of hash maps.
        libc::SYS_clock_gettime,
        libc::SYS_gettimeofday,
        libc::SYS_getrandom,
        // Signals and the way out.
        libc::SYS_rt_sigreturn,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigaction,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_sched_yield,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        always.into_iter().map(|call| (call, Vec::new())).collect();
    // Memory, but never executable.
    let no_code = || {
        let argument = SeccompCondition::new(
            2,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64),
            0,
        )?;
        SeccompRule::new(vec![argument])
    };
    rules.insert(libc::SYS_mmap, vec![no_code()?]);
    rules.insert(libc::SYS_mprotect, vec![no_code()?]);
    // `abort` sends a signal, to this process alone.
    rules.insert(libc::SYS_tgkill, vec![only(0, u64::from(std::process::id()))?]);
    // Builds with debug assertions look at a descriptor before they close it.
    rules.insert(libc::SYS_fcntl, vec![only(1, libc::F_GETFD as u64)?]);
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?.try_into()
}

/// The call is allowed with this value of its numbered argument.
fn only(argument: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition =
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?;
    SeccompRule::new(vec![condition])
}
