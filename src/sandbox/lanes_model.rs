//! The pool against lanes made of dice: whatever happens in whatever order, every run ends in
//! exactly one report, and a context never has two runtimes with runs begun.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{
    ContextOwner, ContextSpec, IdempotencyKey, LaneKind, LaneState, Program, Report, Run, RunFacts,
    RunKey, RunLimits, RunReport, Walls,
    call::{Answer, CallId, OPEN_MAX, Question, Space},
    context::{ContextKey, Sink, Standing},
    lanes::{Lanes, Rules},
    page::Page,
    protocol::{Asks, ContextId, Inbox, Progress, ToLane},
};
use crate::domain::{
    DataEncoding, Envelope, ErrorKind, Event, EventId, Language, Lineage, Millis, RunError, RunId,
    ScriptId, Seq, SubscriptionId,
};

/// A lane that begins and ends runs when the dice say so.
#[derive(Default)]
struct FakeLane {
    page: Option<Page>,
    /// Not begun, in the order of arrival.
    queue: VecDeque<(ContextId, RunKey)>,
    /// Begun: at most one executes, the others wait for something.
    begun: Vec<(ContextId, RunKey)>,
}

struct Model {
    lanes: Lanes,
    fakes: Vec<FakeLane>,
    dice: StdRng,
    contexts: Vec<ContextKey>,
    reports: UnboundedReceiver<Report>,
    sink: Sink,
    given: u64,
    /// Reports by run.
    ended: BTreeMap<u64, Report>,
}

const KINDS: [LaneKind; 5] =
    [LaneKind::Fast, LaneKind::Fast, LaneKind::Slow, LaneKind::Slow, LaneKind::Quarantine];

impl Model {
    fn new(seed: u64) -> Self {
        let rules =
            Rules { slow_after: Duration::from_millis(50), window: 4, idle_for: Duration::ZERO };
        let mut lanes = Lanes::new(rules);
        for (number, kind) in KINDS.into_iter().enumerate() {
            lanes.add_slot(&number.to_string(), kind, Box::new(|| {}));
        }
        let (sender, reports) = unbounded_channel();
        let mut model = Self {
            lanes,
            fakes: KINDS.iter().map(|_| FakeLane::default()).collect(),
            dice: StdRng::seed_from_u64(seed),
            contexts: Vec::new(),
            reports,
            sink: Sink::Caller(sender),
            given: 0,
            ended: BTreeMap::new(),
        };
        (0..KINDS.len()).for_each(|slot| model.start(slot));
        model
    }

    fn start(&mut self, slot: usize) {
        let page = Page::on_heap();
        self.fakes[slot] = FakeLane { page: Some(page.clone()), ..FakeLane::default() };
        self.lanes.starting(slot, page, None);
        self.lanes.up(slot, Walls::default());
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.dice.random_range(0..sides)
    }

    fn some_context(&mut self) -> Option<ContextKey> {
        let number = self.roll(self.contexts.len().max(1));
        self.contexts.get(number).copied()
    }

    fn step(&mut self) {
        let slot = self.roll(KINDS.len());
        match self.roll(40) {
            0 => {
                let key = self.lanes.open(spec(), self.sink.clone(), Standing::NEW);
                self.contexts.push(key);
            }
            1 => {
                if let Some(key) = self.some_context() {
                    self.lanes.replace(key, spec());
                }
            }
            2 if self.roll(4) == 0 => {
                if let Some(key) = self.some_context() {
                    self.contexts.retain(|open| *open != key);
                    self.lanes.close(key);
                }
            }
            3 => self.lanes.silent(slot),
            4 => self.lanes.recovered(slot),
            5 => self.die(slot),
            6 => self.lanes.unblock(slot, Instant::now() + Duration::from_secs(1)),
            7..10 => self.lanes.balance(slot),
            10 => self.lanes.hibernate(slot, Instant::now()),
            11..22 => self.give(),
            _ => {
                self.feed(slot);
                self.advance(slot);
            }
        }
        self.check();
    }

    fn give(&mut self) {
        let Some(key) = self.some_context() else { return };
        self.given += 1;
        let alone = self.roll(10) == 0;
        self.lanes.run(key, run(self.given, alone));
    }

    /// Carries what the pool has written into the fake lane.
    fn feed(&mut self, slot: usize) {
        self.lanes.fill(slot);
        let mut inbox = Inbox::default();
        let written = self.lanes.slot(slot).unwritten().to_vec();
        self.lanes.slot(slot).wrote(written.len());
        for piece in written.chunks(4_096) {
            inbox.space()[..piece.len()].copy_from_slice(piece);
            inbox.filled(piece.len());
            while let Some(frame) = inbox.next::<ToLane<'_>>().expect("a frame") {
                let fake = &mut self.fakes[slot];
                match frame {
                    ToLane::Open(_) => {}
                    ToLane::Close(id) => {
                        fake.queue.retain(|(context, _)| *context != id);
                        fake.begun.retain(|(context, _)| *context != id);
                    }
                    ToLane::Run(request) => fake.queue.push_back((request.context, request.key)),
                    // Its run may have ended meanwhile, and then it is no news.
                    ToLane::Answer(_) => {}
                }
            }
        }
    }

    /// Begins the next run, ends one that was begun, or finds a runtime broken.
    fn advance(&mut self, slot: usize) {
        let choice = self.roll(6);
        let index = {
            let count = self.fakes[slot].begun.len().max(1);
            self.roll(count)
        };
        let fake = &mut self.fakes[slot];
        let Some(page) = fake.page.clone() else { return };
        match choice {
            0 | 1 => {
                let next = fake
                    .queue
                    .iter()
                    .position(|(context, _)| !fake.begun.iter().any(|(busy, _)| busy == context));
                if let Some((context, key)) = next.and_then(|next| fake.queue.remove(next))
                    && Progress::claim(&page, key)
                {
                    page.begin(context, key);
                    fake.begun.push((context, key));
                }
            }
            2 | 3 if index < fake.begun.len() => {
                let (_, key) = fake.begun.remove(index);
                page.end();
                let cpu = Duration::from_millis([1, 1, 1, 80][self.roll(4)]);
                self.lanes.finished(slot, Box::new(report(key, cpu)));
            }
            5 if index < fake.begun.len() => {
                let (context, run) = fake.begun[index];
                self.lanes.asked(slot, asks(context, run)).expect("an honest question");
            }
            4 if index < fake.begun.len() && self.roll(10) == 0 => {
                let (context, _) = self.fakes[slot].begun.remove(index);
                self.fakes[slot].queue.retain(|(other, _)| *other != context);
                page.end();
                self.lanes.broken(slot, context, "no memory".into());
            }
            _ => {}
        }
    }

    fn die(&mut self, slot: usize) {
        let blame = self.roll(3) > 0;
        if let Some(verdict) = self.lanes.gone(slot, "dice", blame) {
            verdict.speak(RunError {
                kind: ErrorKind::HostCrash,
                message: String::new(),
                stack: None,
            });
        }
        self.start(slot);
    }

    /// The books agree with each other, and no run was reported twice.
    fn check(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            let key = match &report {
                Report::Finished(report) => report.key,
                Report::Returned(key) | Report::Crashed(key, _) => *key,
                Report::Broken(_) => continue,
                Report::Asked(asked) => {
                    for context in &self.contexts {
                        let answer = Answer::Value(None);
                        self.lanes.answer(*context, asked.key, asked.call, answer);
                    }
                    continue;
                }
            };
            let twice = self.ended.insert(key.0, report);
            assert!(twice.is_none(), "run {} ended twice", key.0);
        }
        for (number, slot) in self.lanes.slots.iter().enumerate() {
            let here = |context: &&super::context::Context| {
                context.place.is_some_and(|place| place.slot == number)
            };
            let contexts: Vec<_> = self.lanes.contexts.values().filter(here).collect();
            assert_eq!(slot.open, contexts.len(), "runtimes in slot {number}");
            let sent: usize = contexts.iter().map(|context| context.sent.len()).sum();
            assert_eq!(slot.in_flight(), sent, "runs in slot {number}");
            let ahead: usize =
                contexts.iter().map(|context| context.sent.len().saturating_sub(1)).sum();
            assert_eq!(slot.ahead, ahead, "runs ahead in slot {number}");
            let queued = self
                .lanes
                .contexts
                .values()
                .filter(|context| context.queued == Some(number))
                .count();
            assert_eq!(slot.ready.len(), queued, "contexts queued at slot {number}");
            if slot.kind == LaneKind::Quarantine {
                assert!(slot.in_flight() <= 1, "a suspect has company");
            }
        }
        for fake in &self.fakes {
            let mut busy: Vec<_> = fake.begun.iter().map(|(context, _)| context).collect();
            busy.dedup();
            assert_eq!(busy.len(), fake.begun.len(), "a runtime holds one run at a time");
        }
    }

    /// No more trouble: everything that was given must come to an end.
    fn drain(&mut self) {
        for _ in 0..100_000 {
            if self.ended.len() as u64 == self.given {
                return;
            }
            for slot in 0..KINDS.len() {
                self.lanes.recovered(slot);
                self.feed(slot);
                self.advance(slot);
            }
            self.check();
        }
        let lost: Vec<u64> =
            (1..=self.given).filter(|key| !self.ended.contains_key(key)).take(5).collect();
        panic!("runs that never ended: {lost:?}");
    }
}

static PROGRAM: OnceLock<Arc<Program>> = OnceLock::new();

fn spec() -> ContextSpec {
    ContextSpec {
        owner: ContextOwner {
            subscription: SubscriptionId::fresh(),
            subscription_name: "s".into(),
            script: ScriptId::fresh(),
            script_name: "s".into(),
            script_version: 1,
        },
        program: Arc::clone(PROGRAM.get_or_init(|| {
            Arc::new(Program::compile("dice", Language::Javascript, "null").expect("a program"))
        })),
        limits: RunLimits::default(),
    }
}

fn run(key: u64, alone: bool) -> Run {
    let envelope = Envelope {
        id: None,
        source: "/dice".into(),
        event_type: "dice.rolled".into(),
        subject: None,
        time: None,
        datacontenttype: None,
        dataschema: None,
        extensions: None,
        encoding: DataEncoding::Json,
    };
    let event = Event {
        seq: Seq(key),
        uid: EventId::fresh(),
        accepted_at: Millis(0),
        envelope,
        data: "{}".into(),
        lineage: Lineage::default(),
    };
    Run {
        key: RunKey(key),
        event: Arc::new(event),
        data: None,
        facts: RunFacts {
            run_id: RunId::fresh(),
            attempt: 1,
            max_attempts: 3,
            replayed: false,
            idempotency_key: IdempotencyKey::OfDelivery,
        },
        emits_within_loop_limits: 100,
        loop_message: None,
        alone,
        record: false,
        tape: None,
    }
}

fn report(key: RunKey, cpu: Duration) -> RunReport {
    RunReport {
        key,
        outcome: Ok("null".into()),
        retry_after: None,
        logs: Vec::new(),
        emits: Vec::new(),
        kv: Vec::new(),
        warnings: Vec::new(),
        duration: cpu,
        cpu,
        waited: Duration::ZERO,
        heap_bytes: 0,
        tape: None,
    }
}

fn asks(context: ContextId, run: RunKey) -> Asks {
    let question = Question::KvGet { space: Space::Own, key: "n".into() };
    Asks { context, run, call: CallId(1), question }
}

/// A lane whose code is not ours any more asks for what it has no run for, or more than it may.
#[test]
fn a_lane_that_asks_what_no_honest_lane_would_is_found_out() {
    let mut model = Model::new(1);
    let key = model.lanes.open(spec(), model.sink.clone(), Standing::NEW);
    model.contexts.push(key);
    model.give();
    (0..KINDS.len()).for_each(|slot| model.feed(slot));
    let slot = (0..KINDS.len()).find(|slot| !model.fakes[*slot].queue.is_empty()).expect("a lane");
    let (context, run) = model.fakes[slot].queue[0];
    let page = model.fakes[slot].page.clone().expect("a page");
    assert!(model.lanes.asked(slot, asks(context, run)).is_err(), "a run that it has not begun");
    assert!(Progress::claim(&page, run));
    assert!(model.lanes.asked(slot, asks(context, run)).is_ok());
    assert!(model.lanes.asked(slot, asks(ContextId(u64::MAX), run)).is_err(), "another's context");
    let crooked = Question::KvGet { space: Space::Shared("../etc".into()), key: "n".into() };
    assert!(model.lanes.asked(slot, Asks { question: crooked, ..asks(context, run) }).is_err());
    let flood = (0..OPEN_MAX).find(|_| model.lanes.asked(slot, asks(context, run)).is_err());
    assert!(flood.is_some(), "more open questions than a run may have");
    assert!(model.lanes.asked(slot, asks(context, RunKey(0))).is_ok(), "no news of an ended run");
}

#[test]
fn every_run_ends_in_exactly_one_report() {
    for seed in 0..40 {
        let mut model = Model::new(seed);
        for _ in 0..1_000 {
            model.step();
        }
        model.drain();
    }
}

/// After the stop nothing is waited for.
#[test]
fn stopping_returns_what_has_not_ended() {
    let mut model = Model::new(7);
    for _ in 0..500 {
        model.step();
    }
    model.lanes.stop();
    model.give();
    model.check();
    assert_eq!(model.ended.len() as u64, model.given);
    assert!(model.lanes.slots.iter().all(|slot| slot.state == LaneState::Stopped));
}
