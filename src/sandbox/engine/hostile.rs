//! The hostile corpus, one runtime after the other on a thread: `tests/hostile/*.js`, each with its
//! expected outcome in the first line. `killed` needs a lane process and its watchdog; all others
//! must be stopped, or survived, by the engine alone.

use std::{fs, path::Path};

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
