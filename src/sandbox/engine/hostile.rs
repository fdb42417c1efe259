//! The hostile corpus, one runtime after the other on a thread: `tests/hostile/*.js`, each with its
//! expected outcome in the first line. `killed` needs a lane process and its watchdog; all others
//! must be stopped, or survived, by the engine alone.

use std::{cell::Cell, fs, path::Path, sync::mpsc};

use super::*;

/// The corpus: name, expected outcomes, source.
fn corpus() -> Vec<(String, Vec<String>, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let source = fs::read_to_string(&path).expect("a text");
            let first = source
                .lines()
                .next()
                .and_then(|line| line.strip_prefix("// expect: "))
                .expect("an expectation");
            let expected = first.split(" or ").map(str::to_owned).collect();
            (path.file_name().expect("a name").to_string_lossy().into_owned(), expected, source)
        })
        .collect()
}

#[test]
fn hostile_scripts_end_as_expected_and_leave_the_thread_well() {
    let corpus = corpus();
    assert!(corpus.len() >= 60, "{}", corpus.len());
    let mut wrong = Vec::new();
    for (name, expected, source) in corpus {
        if expected == ["killed"] {
            continue;
        }
        let timeout_alone = expected == ["timeout"];
        let report = handler(&source)
            .limits(|limits| {
                limits.cpu = Duration::from_millis(if timeout_alone { 30 } else { 1_000 });
                limits.wall = Duration::from_millis(1_500);
                limits.heap_bytes = 24 << 20;
            })
            .run();
        let outcome =
            report.outcome.as_ref().map_or_else(|error| error.kind.as_str(), |_| "succeeded");
        if !expected.iter().any(|kind| kind == outcome) {
            wrong.push(format!(
                "{name}: expected {expected:?}, found {outcome}: {:?}",
                report.outcome
            ));
        }
        if report.duration > Duration::from_secs(4) {
            wrong.push(format!("{name}: took {:?}", report.duration));
        }
        let honest = report.clone().checked(&RunLimits::default());
        if honest.outcome.as_ref().map_err(|error| error.kind)
            != report.outcome.as_ref().map_err(|error| error.kind)
        {
            wrong.push(format!("{name}: the parent refuses its report: {:?}", honest.outcome));
        }
        body("return payload.amount").returns("10");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

thread_local! {
    /// Built-ins whose loops cannot be interrupted take any length in the runtimes of this thread.
    pub(in super::super) static UNGUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What a run did when nearly nothing held it: ten times the processor, four times the memory or
/// stack, any number of effects.
fn is_harm(name: &str, report: &RunReport) -> bool {
    let plain = RunLimits::default();
    let kind = report.outcome.as_ref().err().map(|error| error.kind);
    let wanted_more = matches!(kind, Some(ErrorKind::Timeout | ErrorKind::OutOfMemory));
    let logged: usize = report.logs.iter().map(|line| line.message.len()).sum();
    let result = report.outcome.as_ref().map_or(0, String::len);
    let emitted: usize = report.emits.iter().map(|emit| emit.data.len()).sum();
    match name.split('-').next().unwrap_or_default() {
        // Lies to the guard of the built-ins, which is off.
        "native" if name == "native-length-flips.js" => true,
        "loop" | "native" | "wait" => wanted_more,
        "memory" => wanted_more || report.heap_bytes > plain.heap_bytes as u64,
        "deep" => kind.is_some() || report.outcome.as_deref() == Ok("\"caught\""),
        "flood" => {
            wanted_more
                || report.emits.len() > plain.emits as usize
                || emitted > plain.emit_bytes
                || logged > plain.log_bytes
                || result > plain.result_bytes
                || report.kv.len() > plain.kv_writes as usize
        }
        // These attack walls and forms, which cannot be turned off.
        _ => true,
    }
}

const LIFTED: RunLimits = RunLimits {
    cpu: Duration::from_millis(300),
    wall: Duration::from_secs(2),
    heap_bytes: 128 << 20,
    stack_bytes: 1 << 20,
    log_bytes: 64 << 20,
    emits: 100_000,
    result_bytes: 64 << 20,
    emit_bytes: 64 << 20,
    calls: 100_000,
    fetches: 100_000,
    kv_writes: 100_000,
    kv_value_bytes: 64 << 20,
};

/// A script that does no harm without the limit that stops it would prove nothing.
#[test]
fn hostile_scripts_do_harm_when_their_limit_is_off() {
    let mut harmless = Vec::new();
    let (native, others): (Vec<_>, Vec<_>) =
        corpus().into_iter().partition(|(name, ..)| name.starts_with("native"));
    // Those that may never end come last, so that they take nobody's time.
    for (name, _, source) in others.into_iter().chain(native) {
        // One that nothing stops any more is left to the end of the process.
        let (ended, end) = mpsc::channel();
        let run = move || {
            // SAFETY: changes this thread's own weight; those that never end must not slow other tests.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
            UNGUARDED.set(true);
            let case = handler(&source).limits(|limits| *limits = LIFTED);
            let mut engine = Engine::open(&case.open());
            let report = to_the_end(&mut engine, &case.request(), &mut CpuClock::start());
            // Whoever waited for it may have gone on.
            let _ = ended.send(report);
        };
        thread::Builder::new().stack_size(8 << 20).spawn(run).expect("a thread");
        if let Ok(report) = end.recv_timeout(Duration::from_millis(2_500))
            && !is_harm(&name, &report)
        {
            harmless.push(format!("{name}: {:?}", report.outcome));
        }
    }
    assert!(harmless.is_empty(), "{}", harmless.join("\n"));
}
