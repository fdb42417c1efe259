//! Lanes: scripts run in processes and on threads, and lanes that die cost nobody else anything.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::PathBuf,
    process::Command,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, Addr, Context, Handler};
use tripline::{
    domain::{
        DataEncoding, Envelope, ErrorKind, Event, EventId, Language, Lineage, Millis, RunId,
        ScriptId, Seq, SubscriptionId,
    },
    sandbox::{
        ContextHandle, ContextOwner, ContextSpec, Error, IdempotencyKey, Isolation, LaneInfo,
        LaneKind, LaneState, Nobody, Program, Report, Run, RunFacts, RunKey, RunLimits, Sandbox,
        SandboxConfig,
    },
};

/// The longest that anything here takes on a machine with other things to do.
const DEADLINE: Duration = Duration::from_secs(60);

/// Returns what it is given.
const ECHO: &str = "export default (payload) => payload";

/// Does what the payload says.
const OBEDIENT: &str = "export default (payload) => {
    if (payload === 'loop') for (;;) {}
    if (payload === 'native loop') return Array(1000).fill(3n ** 600000n).join().length;
    if (payload === 'long native loop') return Array(40).fill(3n ** 600000n).join().length;
    if (payload === 'busy') for (let i = 0; i < 1e7; i++);
    if (payload === 'wait') return new Promise((done) => setTimeout(() => done('waited'), 100));
    return payload;
}";

#[derive(Clone, Default)]
struct Reports(Rc<RefCell<BTreeMap<u64, Vec<Report>>>>);

impl Actor for Reports {
    type Context = Context<Self>;
}

impl Handler<Report> for Reports {
    type Result = ();

    fn handle(&mut self, report: Report, _: &mut Context<Self>) {
        let key = match &report {
            Report::Finished(report) => report.key,
            Report::Returned(key) | Report::Crashed(key, _) => *key,
            Report::Broken(message) => panic!("a runtime could not be built: {message}"),
            Report::Asked(asked) => panic!("these scripts ask nothing: {asked:?}"),
        };
        self.0.borrow_mut().entry(key.0).or_default().push(report);
    }
}

struct Bench {
    sandbox: Sandbox,
    reports: Reports,
    address: Addr<Reports>,
}

fn config(isolation: Isolation) -> SandboxConfig {
    SandboxConfig {
        isolation,
        count: 2,
        executable: Some(PathBuf::from(env!("CARGO_BIN_EXE_tripline"))),
        ..SandboxConfig::default()
    }
}

impl Bench {
    async fn start(isolation: Isolation) -> Self {
        Self::with(config(isolation)).await
    }

    async fn with(config: SandboxConfig) -> Self {
        let sandbox = Sandbox::start(config).await.expect("lanes that start");
        let reports = Reports::default();
        let address = reports.clone().start();
        Self { sandbox, reports, address }
    }

    fn open(&self, source: &str) -> ContextHandle {
        self.sandbox.open(spec(source, RunLimits::default()), self.address.clone().recipient())
    }

    /// A context whose script has proved itself, on a fast lane. Uses the keys above a million.
    async fn open_proved(&self, source: &str, limits: RunLimits) -> ContextHandle {
        let context = self.sandbox.open(spec(source, limits), self.address.clone().recipient());
        let from = 1_000_000 + self.reports.0.borrow().len() as u64;
        for key in from..from + 5 {
            context.run(run(key, "1"));
            self.ended(key).await;
        }
        context
    }

    async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(
                start.elapsed() < DEADLINE,
                "waited for {what}; lanes: {:#?}",
                self.sandbox.lanes()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn ended(&self, key: u64) -> Report {
        self.until("the end of a run", |bench| bench.reports.0.borrow().contains_key(&key)).await;
        self.reports.0.borrow()[&key][0].clone()
    }

    async fn all_ended(&self, count: usize) {
        self.until("the end of all runs", |bench| bench.reports.0.borrow().len() >= count).await;
        for (key, reports) in self.reports.0.borrow().iter() {
            assert_eq!(reports.len(), 1, "reports of run {key}: {reports:?}");
        }
    }

    /// The lane that executes something for 50 ms or longer.
    async fn silent_lane(&self) -> LaneInfo {
        let find = |bench: &Self| {
            bench.sandbox.lanes().into_iter().find(|lane| lane.state == LaneState::Silent)
        };
        self.until("a silent lane", |bench| find(bench).is_some()).await;
        find(self).expect("found above, and nothing ran since")
    }

    fn lane_of_context(&self) -> Option<LaneKind> {
        self.sandbox.lanes().into_iter().find(|lane| lane.contexts > 0).map(|lane| lane.kind)
    }
}

fn nobody() -> Rc<Nobody> {
    Rc::new(Nobody)
}

fn spec(source: &str, limits: RunLimits) -> ContextSpec {
    let program = Program::compile("test", Language::Javascript, source).expect("a program");
    ContextSpec {
        owner: ContextOwner {
            subscription: SubscriptionId::fresh(),
            subscription_name: "test".into(),
            script: ScriptId::fresh(),
            script_name: "test".into(),
            script_version: 1,
        },
        program: Arc::new(program),
        limits,
    }
}

fn run(key: u64, data: &str) -> Run {
    let envelope = Envelope {
        id: None,
        source: "/test".into(),
        event_type: "test.happened".into(),
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
        data: bytes::Bytes::copy_from_slice(data.as_bytes()),
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
        alone: false,
        record: false,
        tape: None,
    }
}

fn kill(pid: u32, signal: &str) {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill runs");
    assert!(sent.success());
}

trait Ended {
    fn result(&self) -> &str;
    fn failure(&self) -> ErrorKind;
}

impl Ended for Report {
    #[track_caller]
    fn result(&self) -> &str {
        match self {
            Self::Finished(report) => report.outcome.as_deref().expect("a run that succeeded"),
            other => panic!("expected a result, found {other:?}"),
        }
    }

    #[track_caller]
    fn failure(&self) -> ErrorKind {
        match self {
            Self::Finished(report) => report.outcome.as_ref().expect_err("a run that failed").kind,
            Self::Crashed(_, error) => error.kind,
            Self::Returned(key) => panic!("run {key:?} was returned"),
            Self::Broken(message) => panic!("{message}"),
            Self::Asked(asked) => panic!("{asked:?}"),
        }
    }
}

async fn runs_end_with_their_result(isolation: Isolation) {
    let bench = Bench::start(isolation).await;
    let contexts: Vec<_> = (0..10).map(|_| bench.open(ECHO)).collect();
    let count = 20_000;
    for key in 0..count {
        contexts[key as usize % contexts.len()].run(run(key, &key.to_string()));
    }
    bench.all_ended(count as usize).await;
    for (key, reports) in bench.reports.0.borrow().iter() {
        assert_eq!(reports[0].result(), key.to_string());
    }
    let usage = contexts[0].usage();
    assert_eq!(usage.runs, count / 10);
    assert!(usage.cpu > Duration::ZERO, "{usage:?}");
}

#[actix::test]
async fn runs_end_with_their_result_in_processes() {
    runs_end_with_their_result(Isolation::Process).await;
}

#[actix::test]
async fn runs_end_with_their_result_on_threads() {
    runs_end_with_their_result(Isolation::Thread).await;
}

/// The oldest promise: one report a run, whatever happens to the lanes.
#[actix::test]
async fn lanes_killed_under_load_lose_and_double_nothing() {
    let bench = Bench::start(Isolation::Process).await;
    let contexts: Vec<_> = (0..20).map(|_| bench.open(ECHO)).collect();
    let (rounds, batch) = (20_u64, 500_u64);
    for round in 0..rounds {
        for key in round * batch..(round + 1) * batch {
            contexts[key as usize % contexts.len()].run(run(key, "1"));
        }
        let some = (round * batch + batch / 2) as usize;
        bench.until("half a batch", |bench| bench.reports.0.borrow().len() > some).await;
        let lanes = bench.sandbox.lanes();
        if let Some(pid) = lanes[round as usize % lanes.len()].pid {
            kill(pid, "-9");
        }
    }
    bench.all_ended((rounds * batch) as usize).await;
    let kills: u32 = bench.sandbox.lanes().iter().map(|lane| lane.restarts).sum();
    assert!(kills >= 10, "{kills} lanes died");
}

#[actix::test]
async fn a_lane_killed_in_a_run_blames_that_run_and_no_other() {
    let bench = Bench::start(Isolation::Process).await;
    let limits = RunLimits { cpu: Duration::from_secs(30), ..RunLimits::default() };
    let culprit = bench.open_proved(OBEDIENT, limits).await;
    culprit.run(run(1, "'loop'".replace('\'', "\"").as_str()));
    culprit.run(run(2, "2"));
    let lane = bench.silent_lane().await;

    kill(lane.pid.expect("a process"), "-9");

    assert_eq!(bench.ended(1).await.failure(), ErrorKind::HostCrash);
    assert_eq!(bench.ended(2).await.result(), "2");
    let after =
        bench.sandbox.lanes().into_iter().find(|after| after.name == lane.name).expect("its place");
    assert_ne!(after.pid, lane.pid);
    assert_eq!(after.restarts, 1);
}

#[actix::test]
async fn a_native_loop_is_killed_while_its_neighbours_go_on() {
    let bench = Bench::start(Isolation::Process).await;
    let limits = RunLimits { cpu: Duration::from_millis(50), ..RunLimits::default() };
    let neighbours = [
        bench.open_proved(ECHO, limits).await,
        bench.open_proved(ECHO, limits).await,
        bench.open_proved(ECHO, limits).await,
    ];
    let hostile = bench.open_proved(OBEDIENT, limits).await;
    let start = Instant::now();
    hostile.run(run(1, r#""native loop""#));

    let mut key = 100;
    let mut slowest = Duration::ZERO;
    while !bench.reports.0.borrow().contains_key(&1) {
        let asked = Instant::now();
        for neighbour in &neighbours {
            key += 1;
            neighbour.run(run(key, "1"));
            assert_eq!(bench.ended(key).await.result(), "1");
        }
        slowest = slowest.max(asked.elapsed());
        assert!(start.elapsed() < DEADLINE, "the hostile script lives");
    }

    assert_eq!(bench.ended(1).await.failure(), ErrorKind::Timeout);
    assert!(slowest < Duration::from_secs(1), "a neighbour waited for {slowest:?}");
}

#[actix::test]
async fn runs_behind_a_silent_one_are_taken_back_and_run_in_order() {
    let bench = Bench::with(SandboxConfig { count: 1, ..config(Isolation::Process) }).await;
    let limits = RunLimits { cpu: Duration::from_millis(50), ..RunLimits::default() };
    let neighbour = bench.open_proved(ECHO, limits).await;
    let hostile = bench.open_proved(OBEDIENT, limits).await;
    hostile.run(run(1, r#""native loop""#));
    for key in 2..50 {
        neighbour.run(run(key, &key.to_string()));
    }
    assert_eq!(bench.ended(49).await.result(), "49");
    assert!(!bench.reports.0.borrow().contains_key(&1), "the neighbour did not wait for the kill");
    assert_eq!(bench.ended(1).await.failure(), ErrorKind::Timeout);
}

#[actix::test]
async fn a_lane_that_aborts_is_replaced() {
    let bench = Bench::start(Isolation::Process).await;
    let limits = RunLimits { cpu: Duration::from_secs(30), ..RunLimits::default() };
    let context = bench.open_proved(OBEDIENT, limits).await;
    context.run(run(1, r#""loop""#));
    let lane = bench.silent_lane().await;
    kill(lane.pid.expect("a process"), "-ABRT");
    let Report::Crashed(_, error) = bench.ended(1).await else { panic!("expected a crash") };
    assert_eq!(error.kind, ErrorKind::HostCrash);
    assert!(error.message.contains("aborted"), "{}", error.message);
    context.run(run(2, "2"));
    assert_eq!(bench.ended(2).await.result(), "2");
}

/// What a terminal or a service manager sends to the whole group is for the parent to act on.
#[actix::test]
async fn lanes_ignore_the_signals_of_a_shutdown() {
    let bench = Bench::start(Isolation::Process).await;
    for lane in bench.sandbox.lanes() {
        if let Some(pid) = lane.pid {
            for signal in ["-INT", "-TERM", "-HUP"] {
                kill(pid, signal);
            }
        }
    }
    let context = bench.open(ECHO);
    context.run(run(1, "1"));
    assert_eq!(bench.ended(1).await.result(), "1");
    assert!(bench.sandbox.lanes().iter().all(|lane| lane.restarts == 0));
}

async fn scripts_that_wait_let_others_go_on(isolation: Isolation) {
    let bench = Bench::with(SandboxConfig { count: 1, ..config(isolation) }).await;
    let waits = bench.open_proved(OBEDIENT, RunLimits::default()).await;
    let other = bench.open_proved(ECHO, RunLimits::default()).await;
    waits.run(run(1, r#""wait""#));
    other.run(run(2, "2"));
    assert_eq!(bench.ended(2).await.result(), "2");
    assert!(!bench.reports.0.borrow().contains_key(&1), "the first still waits");
    assert_eq!(bench.ended(1).await.result(), r#""waited""#);
}

#[actix::test]
async fn scripts_that_wait_let_others_go_on_in_processes() {
    scripts_that_wait_let_others_go_on(Isolation::Process).await;
}

#[actix::test]
async fn scripts_that_wait_let_others_go_on_on_threads() {
    scripts_that_wait_let_others_go_on(Isolation::Thread).await;
}

#[actix::test]
async fn slow_scripts_move_to_the_slow_lanes_and_come_back() {
    let bench = Bench::start(Isolation::Process).await;
    let limits = RunLimits { cpu: Duration::from_secs(30), ..RunLimits::default() };
    let context = bench.sandbox.open(spec(OBEDIENT, limits), bench.address.clone().recipient());
    context.run(run(1, "1"));
    bench.ended(1).await;
    assert_eq!(bench.lane_of_context(), Some(LaneKind::Slow), "a new script has to prove itself");
    for key in 2..6 {
        context.run(run(key, "1"));
        bench.ended(key).await;
    }
    assert_eq!(bench.lane_of_context(), Some(LaneKind::Fast));

    context.run(run(10, r#""busy""#));
    context.run(run(11, "1"));
    bench.ended(11).await;
    assert_eq!(bench.lane_of_context(), Some(LaneKind::Slow), "it overran");
    for key in 20..30 {
        context.run(run(key, "1"));
        bench.ended(key).await;
    }
    assert_eq!(bench.lane_of_context(), Some(LaneKind::Fast));
}

#[actix::test]
async fn suspects_run_alone() {
    let bench = Bench::start(Isolation::Process).await;
    let context = bench.open_proved(OBEDIENT, RunLimits::default()).await;
    for key in 1..4 {
        context.run(Run { alone: key == 2, ..run(key, &key.to_string()) });
    }
    for key in 1..4 {
        assert_eq!(bench.ended(key).await.result(), key.to_string());
    }
    let lanes = bench.sandbox.lanes();
    let quarantine =
        lanes.iter().find(|lane| lane.kind == LaneKind::Quarantine).expect("a quarantine lane");
    assert_eq!(quarantine.state, LaneState::Up, "the suspect was there");
    assert_eq!(quarantine.in_flight, 0);
    assert_eq!(bench.lane_of_context(), Some(LaneKind::Fast), "what came after it was not");
}

#[actix::test]
async fn a_replaced_script_runs_from_the_next_run_on() {
    let bench = Bench::start(Isolation::Process).await;
    let context = bench.open_proved(ECHO, RunLimits::default()).await;
    context.run(run(1, "1"));
    assert_eq!(bench.ended(1).await.result(), "1");
    context.replace(spec("export default (payload) => payload * 10", RunLimits::default()));
    context.run(run(2, "2"));
    assert_eq!(bench.ended(2).await.result(), "20");
}

#[actix::test]
async fn a_closed_context_returns_what_has_not_ended() {
    let bench = Bench::start(Isolation::Process).await;
    let context = bench.open_proved(OBEDIENT, RunLimits::default()).await;
    let before = bench.reports.0.borrow().len();
    for key in 0..100 {
        context.run(run(key, r#""wait""#));
    }
    drop(context);
    bench.all_ended(before + 100).await;
    let reports = bench.reports.0.borrow();
    assert!((0..100).all(|key| matches!(reports[&key][0], Report::Returned(_))));
}

#[actix::test]
async fn a_stopped_sandbox_returns_runs_and_ends_its_lanes() {
    let bench = Bench::start(Isolation::Process).await;
    let context = bench.open(OBEDIENT);
    context.run(run(1, r#""wait""#));
    let pids: Vec<u32> = bench.sandbox.lanes().iter().filter_map(|lane| lane.pid).collect();
    bench.sandbox.stop();
    context.run(run(2, "2"));
    for key in [1, 2] {
        assert!(matches!(bench.ended(key).await, Report::Returned(_)));
    }
    bench
        .until("the end of the lanes", |_| {
            pids.iter().all(|pid| !PathBuf::from(format!("/proc/{pid}")).exists())
        })
        .await;
}

#[actix::test]
async fn unused_runtimes_hibernate_and_wake() {
    let idle_for = Duration::from_millis(100);
    let bench = Bench::with(SandboxConfig { idle_for, ..config(Isolation::Process) }).await;
    let context = bench.open(ECHO);
    context.run(run(1, "1"));
    bench.ended(1).await;
    bench.until("hibernation", |bench| bench.lane_of_context().is_none()).await;
    context.run(run(2, "2"));
    assert_eq!(bench.ended(2).await.result(), "2");
}

#[actix::test]
async fn a_test_run_has_a_context_of_its_own() {
    let bench = Bench::start(Isolation::Process).await;
    let spec = spec(OBEDIENT, RunLimits { cpu: Duration::from_millis(20), ..RunLimits::default() });
    assert_eq!(bench.sandbox.try_out(spec.clone(), run(1, "7"), nobody()).await.result(), "7");
    let looped = bench.sandbox.try_out(spec.clone(), run(2, r#""loop""#), nobody()).await;
    assert_eq!(looped.failure(), ErrorKind::Timeout);
    assert_eq!(bench.sandbox.try_out(spec, run(3, "7"), nobody()).await.result(), "7");
    assert_eq!(bench.lane_of_context(), None, "nothing of it stays");
}

/// A binary that does not branch off at its start would start itself over and over.
#[actix::test]
async fn a_binary_that_cannot_be_a_lane_is_not_started_as_one() {
    let config = SandboxConfig { executable: None, ..config(Isolation::Process) };
    assert!(matches!(Sandbox::start(config).await, Err(Error::NotALane)));
}

#[actix::test]
async fn lanes_that_do_not_start_are_an_error_with_the_reason() {
    let nowhere =
        SandboxConfig { executable: Some("/nowhere/lane".into()), ..config(Isolation::Process) };
    let Err(Error::NoLane(reason)) = Sandbox::start(nowhere).await else {
        panic!("expected an error")
    };
    assert!(reason.contains("No such file"), "{reason}");
    let no_lane =
        SandboxConfig { executable: Some("/bin/true".into()), ..config(Isolation::Process) };
    assert!(matches!(Sandbox::start(no_lane).await, Err(Error::NoLane(_))));
}

/// A thread cannot be killed: it is left to itself, and its place is taken.
#[actix::test]
async fn a_stuck_thread_is_replaced() {
    let bench = Bench::start(Isolation::Thread).await;
    let limits = RunLimits { cpu: Duration::from_millis(1), ..RunLimits::default() };
    let context = bench.open_proved(OBEDIENT, limits).await;
    context.run(run(1, r#""long native loop""#));
    context.run(run(2, "2"));
    assert_eq!(bench.ended(1).await.failure(), ErrorKind::Timeout);
    assert_eq!(bench.ended(2).await.result(), "2");
}

#[actix::test]
async fn thread_lanes_name_the_wall_they_lack() {
    let bench = Bench::start(Isolation::Thread).await;
    assert!(bench.sandbox.walls().missing.iter().any(|wall| wall.starts_with("process")));
}
