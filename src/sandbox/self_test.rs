//! Does a limit bite here? Asked at every start, before the first script of anybody runs.
//!
//! Memory limits have been lost to an allocator chosen elsewhere, and time limits to a clock that
//! a kernel does not give. A server whose limits do not bite must not start.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{
    ContextOwner, ContextSpec, Error, IdempotencyKey, Nobody, Program, Report, Run, RunFacts,
    RunKey, RunLimits, Sandbox,
};
use crate::domain::{
    DataEncoding, Envelope, ErrorKind, Event, EventId, Language, Lineage, Millis, RunId, ScriptId,
    Seq, SubscriptionId,
};

/// A script, and the only way in which it may end.
struct Trial {
    limit: &'static str,
    source: &'static str,
    ends_as: ErrorKind,
}

const TRIALS: [Trial; 2] = [
    Trial { limit: "time", source: "for (;;) {}", ends_as: ErrorKind::Timeout },
    Trial {
        limit: "memory",
        source: "const kept = []; for (;;) kept.push(new Array(1000).fill(1))",
        ends_as: ErrorKind::OutOfMemory,
    },
];

/// Tiny, so that the trials take a few milliseconds; the time limit leaves room for a slow machine
/// to fill the memory.
fn limits(trial: &Trial) -> RunLimits {
    let cpu_ms = if trial.ends_as == ErrorKind::Timeout { 5 } else { 2_000 };
    RunLimits { cpu: Duration::from_millis(cpu_ms), heap_bytes: 1 << 20, ..RunLimits::default() }
}

/// Runs the trials side by side; an error names the limit and what happened instead.
pub(super) async fn run(sandbox: &Sandbox) -> Result<(), Error> {
    let [time, memory] = &TRIALS;
    let (time, memory) = futures::join!(bites(sandbox, time), bites(sandbox, memory));
    time.and(memory)
}

async fn bites(sandbox: &Sandbox, trial: &Trial) -> Result<(), Error> {
    let broken = |what: String| Error::SelfTest(format!("the {} limit: {what}", trial.limit));
    let program = Program::compile("self-test", Language::Javascript, trial.source)
        .map_err(|error| broken(error.to_string()))?;
    let owner = ContextOwner {
        subscription: SubscriptionId::fresh(),
        subscription_name: "self-test".into(),
        script: ScriptId::fresh(),
        script_name: "self-test".into(),
        script_version: 1,
    };
    let spec = ContextSpec { owner, program: Arc::new(program), limits: limits(trial) };
    let nobody = Rc::new(Nobody);
    let ended = match sandbox.try_out(spec, event_run(), nobody).await {
        Report::Finished(report) => report.outcome.map_err(|error| (error.kind, error.message)),
        Report::Crashed(_, error) => Err((error.kind, error.message)),
        Report::Returned(_) | Report::Asked(_) => {
            return Err(broken("the lanes do not stay up".into()));
        }
        Report::Broken(message) => return Err(broken(message)),
    };
    match ended {
        Err((kind, _)) if kind == trial.ends_as => Ok(()),
        Err((kind, message)) => Err(broken(format!(
            "expected {}, found {}: {message}",
            trial.ends_as.as_str(),
            kind.as_str()
        ))),
        Ok(result) => Err(broken(format!("the script that must not end gave {result}"))),
    }
}

fn event_run() -> Run {
    let envelope = Envelope {
        id: None,
        source: "/tripline/self-test".into(),
        event_type: "tripline.self-test".into(),
        subject: None,
        time: None,
        datacontenttype: None,
        dataschema: None,
        extensions: None,
        encoding: DataEncoding::Json,
    };
    let event = Event {
        seq: Seq::ZERO,
        uid: EventId::fresh(),
        accepted_at: Millis::now(),
        envelope,
        data: "null".into(),
        lineage: Lineage::default(),
    };
    Run {
        key: RunKey(0),
        event: Arc::new(event),
        data: None,
        facts: RunFacts {
            run_id: RunId::fresh(),
            attempt: 1,
            max_attempts: 1,
            replayed: false,
            idempotency_key: IdempotencyKey::OfDelivery,
        },
        emits_within_loop_limits: 0,
        loop_message: None,
        alone: false,
        record: false,
        tape: None,
    }
}
