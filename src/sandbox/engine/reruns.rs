//! A recorded run played again is the same run, whatever it did and in whatever order it heard of it.

use std::{collections::VecDeque, thread, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    domain::{Millis, kv::Page},
    sandbox::{
        protocol::{ContextId, Facts, Owner as OwnerFacts, Raw},
        tape::Tape,
    },
};

fn open(code: &str, wall: Duration) -> Open<'_> {
    Open {
        context: ContextId(1),
        limits: RunLimits { wall, ..RunLimits::default() },
        file: "test.js",
        code,
        modules: Vec::new(),
        form: Form::Handler,
        takes_context: true,
        owner: OwnerFacts {
            subscription: [1; 16],
            subscription_name: "sub",
            script: [2; 16],
            script_name: "test",
            script_version: 3,
        },
    }
}

fn request(tape: Option<Tape>) -> RunRequest<'static> {
    RunRequest {
        context: ContextId(1),
        key: RunKey(7),
        data: Raw(br#"{"n":1}"#),
        facts: Facts {
            uid: [3; 16],
            id: None,
            source: "/tests",
            event_type: "order.paid",
            subject: None,
            time: None,
            accepted_at: Millis(0),
            extensions: None,
            hop: 0,
            run_id: [4; 16],
            attempt: 1,
            max_attempts: 3,
            replayed: false,
            idempotency_key: None,
        },
        emits_within_loop_limits: u32::MAX,
        loop_message: None,
        record: true,
        tape: tape.map(Box::new),
    }
}

/// A parent that answers late and out of order; what it answered is kept for the rerun.
struct Parent {
    chance: u64,
    /// Answers by the number of the question.
    said: Vec<Answer>,
    /// They are those of a recording.
    repeats: bool,
    asked: usize,
    open: VecDeque<(CallId, Answer)>,
}

impl Parent {
    fn below(&mut self, limit: u64) -> u64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.chance >> 33) % limit
    }

    fn hear(&mut self, call: CallId, question: &Question) {
        let answer = match question {
            // Asked as the recorded run ended: nobody has answered that.
            _ if self.repeats => self
                .said
                .get(self.asked)
                .cloned()
                .unwrap_or_else(|| Answer::Refused("too late".into())),
            Question::KvGet { .. } => {
                let value = self.below(100);
                Answer::Value((value > 20).then(|| value.to_string()))
            }
            Question::KvList { .. } => {
                let item = |n: u64| (format!("k{n}"), n.to_string());
                Answer::Page(Page { items: (0..self.below(4)).map(item).collect(), more: false })
            }
            Question::Secret { .. } | Question::Fetch(_) => Answer::Refused("not here".into()),
        };
        if !self.repeats {
            self.said.push(answer.clone());
        }
        self.asked += 1;
        self.open.push_back((call, answer));
    }

    /// Runs until the end, answering when chance wants it.
    fn run(&mut self, engine: &mut Engine, request: &RunRequest<'_>) -> RunReport {
        let mut clock = CpuClock::start();
        let mut step = Some(engine.start(request, Duration::ZERO, &mut clock));
        loop {
            let until = match step.take() {
                Some(Step::Done(report)) => return *report,
                Some(Step::Broken(message)) => panic!("{message}"),
                Some(Step::WaitsUntil(at)) => Some(at),
                None => None,
            };
            for (call, question) in engine.questions() {
                self.hear(call, &question);
            }
            let answers = !self.open.is_empty() && self.below(3) > 0;
            if answers {
                let which = self.below(self.open.len() as u64) as usize;
                let (call, answer) = self.open.remove(which).expect("it is there");
                step = engine.answer(call, answer, &mut clock);
            } else {
                let at = until.unwrap_or_else(Instant::now);
                let most = Duration::from_millis(if self.open.is_empty() { 600 } else { 1 });
                thread::sleep(at.saturating_duration_since(Instant::now()).min(most));
                step = engine.wake(&mut clock);
            }
        }
    }
}

/// What must be the same.
fn course(report: &RunReport) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        report.outcome.clone(),
        report.logs.clone(),
        report.emits.clone(),
        report.kv.clone(),
        report.retry_after,
        report.tape.as_ref().map(|tape| tape.made.clone()),
    )
}

/// Runs a script `before + 1` times in one runtime and plays the last run in a new one.
fn both(code: &str, chance: u64, before: usize, wall: Duration) -> (RunReport, RunReport) {
    let work = || {
        let mut engine = Engine::open(&open(code, wall));
        let parent = |said, repeats, chance| Parent {
            chance,
            said,
            repeats,
            asked: 0,
            open: VecDeque::new(),
        };
        for _ in 0..before {
            parent(Vec::new(), false, chance).run(&mut engine, &request(None));
        }
        let mut first = parent(Vec::new(), false, chance);
        let recorded = first.run(&mut engine, &request(None));
        let tape = recorded.tape.clone().expect("a tape");
        let mut engine = Engine::open(&open(code, wall));
        let mut second = parent(first.said, true, chance ^ 0x5555);
        (recorded, second.run(&mut engine, &request(Some(tape))))
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(8 << 20);
        thread.spawn_scoped(scope, work).expect("a thread").join().expect("no panic")
    })
}

/// A statement of a script.
fn statement() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("note(Math.random())".to_owned()),
        Just("note(Date.now(), new Date().toISOString())".to_owned()),
        Just("note(performance.now())".to_owned()),
        Just("note(crypto.randomUUID())".to_owned()),
        Just("note(crypto.getRandomValues(new Uint8Array(5)).join())".to_owned()),
        (0_u32..4).prop_map(|ms| format!("await sleep({ms})")),
        (0_u32..3).prop_map(|k| format!("note(await sdk.kv.get('k{k}'))")),
        (0_u32..3).prop_map(|k| format!("await sdk.kv.set('k{k}', Math.random())")),
        (0_u32..3).prop_map(|k| format!("note(await sdk.kv.increment('n{k}'))")),
        Just("note(await sdk.kv.list({ prefix: 'k' }))".to_owned()),
        Just("await sdk.events.emit('a.b', { at: Date.now(), r: Math.random() })".to_owned()),
        Just("note(await sdk.secrets.get('none').catch((e) => e.message))".to_owned()),
        Just("clearTimeout(setTimeout(() => note('never'), 1))".to_owned()),
        Just("note(sdk.events.context().runId)".to_owned()),
        Just("note(++runs, started)".to_owned()).prop_map(|_| "note(started)".to_owned()),
        Just("if (Math.random() < 0.1) throw new Error('chance ' + Date.now())".to_owned()),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let several = prop::collection::vec(inner, 1..4);
        let branches = |items: Vec<String>| {
            let items = items.into_iter().map(|item| format!("(async () => {{ {item} }})()"));
            items.collect::<Vec<_>>().join(", ")
        };
        prop_oneof![
            several
                .clone()
                .prop_map(move |items| format!("await Promise.all([{}])", branches(items))),
            several
                .clone()
                .prop_map(move |items| format!("await Promise.race([{}])", branches(items))),
            several.clone().prop_map(|items| format!(
                "try {{ {} }} catch (e) {{ note(e.message) }}",
                items.join("; ")
            )),
            several.prop_map(|items| format!(
                "(async () => {{ {} }})().catch(note)",
                items.join("; ")
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn a_recorded_run_played_again_is_the_same(
        statements in prop::collection::vec(statement(), 1..8),
        ending in prop_oneof![Just("return seen"), Just("throw new Error(String(seen))")],
        chance in any::<u64>(),
        before in 0_usize..2,
    ) {
        let code = format!(
            "const started = [Date.now(), Math.random(), crypto.randomUUID()]; let runs = 0;
             const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));
             export default async (payload, context) => {{
                 const seen = [];
                 const note = (...what) => {{ seen.push(what); console.log(...what); }};
                 {};
                 {ending};
             }}",
            statements.join(";\n")
        );
        let (recorded, played) = both(&code, chance, before, Duration::from_secs(20));
        prop_assert_eq!(course(&recorded), course(&played), "{}", code);
    }
}

#[test]
fn a_run_that_ran_out_of_time_does_so_again_without_the_waiting() {
    let code = "export default async () => {
        console.log('before');
        await new Promise((wake) => setTimeout(wake, 60000));
        console.log('after');
    }";
    let (recorded, played) = both(code, 1, 0, Duration::from_millis(300));
    assert_eq!(recorded.outcome.as_ref().expect_err("it waits").kind, ErrorKind::Timeout);
    assert_eq!(course(&recorded), course(&played));
    assert!(played.duration < Duration::from_millis(150), "{:?}", played.duration);
}

#[test]
fn a_run_that_reads_the_clock_too_often_has_no_tape() {
    let code = "export default () => {
        for (let n = 0; n < 5000; n++) crypto.getRandomValues(new Uint8Array(8));
    }";
    let work = || {
        let mut engine = Engine::open(&open(code, Duration::from_secs(5)));
        let mut clock = CpuClock::start();
        match engine.start(&request(None), Duration::ZERO, &mut clock) {
            Step::Done(report) => *report,
            _ => panic!("it does not wait"),
        }
    };
    let report = thread::Builder::new().stack_size(8 << 20).spawn(work).expect("a thread");
    let report = report.join().expect("no panic");
    assert!(report.outcome.is_ok() && report.tape.is_none(), "{report:?}");
}
