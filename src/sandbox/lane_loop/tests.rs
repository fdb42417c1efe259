use std::{collections::HashMap, thread};

use super::*;
use crate::{
    domain::{ErrorKind, Millis},
    sandbox::{
        RunLimits,
        call::CallId,
        protocol::{Facts, Form, Owner, Raw},
    },
};

/// A lane on a thread, and the parent's end of its stream.
struct Parent {
    stream: UnixStream,
    inbox: Inbox,
    lane: thread::JoinHandle<io::Result<()>>,
}

impl Parent {
    fn start() -> Self {
        let (stream, theirs) = UnixStream::pair().expect("a socket pair");
        let lane = thread::Builder::new()
            .stack_size(8 << 20)
            .spawn(move || run_lane(theirs, &(), Walls { missing: vec!["thread".into()] }))
            .expect("a thread");
        let mut parent = Self { stream, inbox: Inbox::default(), lane };
        let ready = parent.hear();
        assert!(
            matches!(&ready, FromLane::Ready(walls) if walls.missing == ["thread"]),
            "{ready:?}"
        );
        parent
    }

    fn open(&mut self, context: u64, code: &str) {
        let open = Open {
            context: ContextId(context),
            limits: RunLimits { wall: Duration::from_millis(500), ..RunLimits::default() },
            file: "test.js",
            code,
            modules: Vec::new(),
            form: Form::Handler,
            takes_context: true,
            owner: Owner {
                subscription: [1; 16],
                subscription_name: "sub",
                script: [2; 16],
                script_name: "test",
                script_version: 1,
            },
        };
        self.tell(&[ToLane::Open(Box::new(open))]);
    }

    fn run(&mut self, runs: &[(u64, u64)]) {
        let frames: Vec<_> = runs
            .iter()
            .map(|(context, key)| ToLane::Run(Box::new(request(*context, *key))))
            .collect();
        self.tell(&frames);
    }

    fn tell(&mut self, frames: &[ToLane<'_>]) {
        let mut wire = Vec::new();
        for frame in frames {
            encode(frame, &mut wire).expect("a frame");
        }
        self.stream.write_all(&wire).expect("a lane that reads");
    }

    fn hear(&mut self) -> FromLane {
        loop {
            if let Some(frame) = self.inbox.next().expect("a frame") {
                return frame;
            }
            let count = self.stream.read(self.inbox.space()).expect("a lane that writes");
            assert!(count > 0, "the lane hung up");
            self.inbox.filled(count);
        }
    }

    /// The next report: its key, and the result or the kind of the error.
    fn finished(&mut self) -> (u64, Result<String, ErrorKind>) {
        match self.hear() {
            FromLane::Finished(report) => {
                (report.key.0, report.outcome.map_err(|error| error.kind))
            }
            other => panic!("{other:?}"),
        }
    }

    /// The next question.
    fn asks(&mut self) -> Asks {
        match self.hear() {
            FromLane::Asks(asks) => *asks,
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, asks: &Asks, value: &str) {
        let Asks { context, run, call, .. } = *asks;
        let answer = Answer::Value(Some(value.to_owned()));
        self.tell(&[ToLane::Answer(Box::new(Reply { context, run, call, answer }))]);
    }

    fn end(self) {
        drop(self.stream);
        self.lane.join().expect("no panic").expect("an orderly end");
    }
}

fn request(context: u64, key: u64) -> RunRequest<'static> {
    RunRequest {
        context: ContextId(context),
        key: RunKey(key),
        data: Raw(b"{\"n\":1}"),
        facts: Facts {
            uid: [3; 16],
            id: None,
            source: "/tests",
            event_type: "a.b",
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
        emits_within_loop_limits: 10,
        loop_message: None,
        record: false,
        tape: None,
    }
}

const COUNT: &str = "let n = 0; export default () => ++n";
const SLEEP: &str = "let n = 0; export default async () => { await new Promise((d) => setTimeout(d, 20)); return ++n }";

#[test]
fn runs_of_one_context_are_done_in_order() {
    let mut parent = Parent::start();
    parent.open(1, COUNT);
    parent.run(&(1..=200).map(|key| (1, key)).collect::<Vec<_>>());
    for key in 1..=200 {
        assert_eq!(parent.finished(), (key, Ok(key.to_string())));
    }
    parent.end();
}

#[test]
fn a_waiting_context_lets_others_go_on_and_keeps_its_own_order() {
    let mut parent = Parent::start();
    parent.open(1, SLEEP);
    parent.open(2, COUNT);
    parent.run(&[(1, 1), (1, 2), (2, 3), (2, 4)]);
    assert_eq!(parent.finished(), (3, Ok("1".into())));
    assert_eq!(parent.finished(), (4, Ok("2".into())));
    assert_eq!(parent.finished(), (1, Ok("1".into())));
    assert_eq!(parent.finished(), (2, Ok("2".into())));
    parent.end();
}

const READ: &str = "export default async () => await sdk.kv.get('n')";

#[test]
fn a_run_that_asks_lets_others_go_on_and_hears_its_own_answer() {
    let mut parent = Parent::start();
    parent.open(1, READ);
    parent.open(2, COUNT);
    parent.run(&[(1, 1), (1, 2), (2, 3)]);
    let first = parent.asks();
    assert_eq!((first.context, first.run), (ContextId(1), RunKey(1)));
    assert_eq!(parent.finished(), (3, Ok("1".into())));
    parent.answer(&first, "5");
    assert_eq!(parent.finished(), (1, Ok("5".into())));
    let second = parent.asks();
    assert_eq!(second.run, RunKey(2));
    // The same answer again, and answers to other runs and other questions, are no news.
    parent.answer(&first, "6");
    parent.answer(&Asks { context: ContextId(9), ..second.clone() }, "7");
    parent.answer(&Asks { call: CallId(77), ..second.clone() }, "8");
    parent.answer(&second, "9");
    assert_eq!(parent.finished(), (2, Ok("9".into())));
    parent.end();
}

#[test]
fn an_answer_that_never_comes_ends_with_the_runs_time() {
    let mut parent = Parent::start();
    parent.open(1, READ);
    parent.run(&[(1, 1), (1, 2)]);
    let asked = parent.asks();
    assert_eq!(parent.finished(), (1, Err(ErrorKind::Timeout)));
    let next = parent.asks();
    parent.answer(&asked, "late");
    parent.answer(&next, "2");
    assert_eq!(parent.finished(), (2, Ok("2".into())));
    parent.end();
}

#[test]
fn contexts_wait_side_by_side() {
    let mut parent = Parent::start();
    let began = Instant::now();
    for context in 1..=20 {
        parent.open(context, SLEEP);
        parent.run(&[(context, context)]);
    }
    let results: HashMap<_, _> = (0..20).map(|_| parent.finished()).collect();
    assert_eq!(results.len(), 20);
    assert!(began.elapsed() < Duration::from_millis(350), "one after the other would take 400 ms");
    parent.end();
}

#[test]
fn a_closed_context_answers_no_more() {
    let mut parent = Parent::start();
    parent.open(1, SLEEP);
    parent.open(2, COUNT);
    parent.run(&[(1, 1), (1, 2)]);
    parent.tell(&[ToLane::Close(ContextId(1))]);
    parent.run(&[(2, 3)]);
    assert_eq!(parent.finished(), (3, Ok("1".into())));
    parent.run(&[(1, 4)]);
    assert!(matches!(parent.hear(), FromLane::Broken { context: ContextId(1), .. }));
    parent.end();
}

#[test]
fn a_run_that_waits_too_long_is_stopped_and_the_next_one_runs() {
    let mut parent = Parent::start();
    parent.open(1, "let n = 0; export default async () => { if (n++ === 0 && sdk.events.context().runId) await new Promise((d) => setTimeout(d, 1e6)); return n }");
    parent.run(&[(1, 1)]);
    assert_eq!(parent.finished(), (1, Err(ErrorKind::Timeout)));
    parent.end();
}

#[test]
fn garbage_from_the_parent_ends_the_lane() {
    let mut parent = Parent::start();
    parent.stream.write_all(&[2, 0, 0, 0, 255, 255]).expect("a lane that reads");
    assert!(parent.lane.join().expect("no panic").is_err());
}
