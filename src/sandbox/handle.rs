//! The way into the lanes: [`Sandbox`] and [`ContextHandle`].
//!
//! Both belong to the thread that started the sandbox, and every call is cheap and never blocks.
//! That thread must live as long as the lanes shall (`process.rs` says why).

use std::{
    cell::RefCell,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use actix::{Actor, Addr, Recipient};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;

use super::{
    Answer, Asked, ContextSpec, ContextUsage, Error, Host, Isolation, LaneInfo, LaneKind,
    LaneState, Report, Run, RunKey, SandboxConfig, Walls,
    call::CallId,
    context::{ContextKey, Sink, Standing},
    lane_actor::{LaneActor, Making, Pump, Shared},
    lanes::{Lanes, Rules},
    self_test,
};

/// How long the first lanes may take.
const START_WITHIN: Duration = Duration::from_secs(10);

/// How often a test run starts again when its lane dies by somebody else's fault.
const TRIES: u32 = 4;

/// All the lanes. Cheap to clone; the lanes end with [`Sandbox::stop`] or with their thread.
#[derive(Clone)]
pub struct Sandbox(Shared);

impl Sandbox {
    /// Starts the lanes and proves on one of them that the memory and time limits bite.
    ///
    /// Takes some 20 ms; nothing of it needs the store. Must be called, and the result used, on an
    /// actix arbiter's thread.
    pub async fn start(config: SandboxConfig) -> Result<Self, Error> {
        let making = making(&config)?;
        let rules = Rules {
            slow_after: config.slow_after,
            window: config.window.max(1),
            idle_for: config.idle_for,
        };
        let lanes: Shared = Rc::new(RefCell::new(Lanes::new(rules)));
        let count = match config.count {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let kinds = [
            (LaneKind::Fast, count),
            // Two at the least: one slow script must not keep every other newcomer waiting.
            (LaneKind::Slow, count.max(2)),
            (LaneKind::Quarantine, 1),
        ];
        for (kind, count) in kinds {
            for number in 1..=count {
                add_lane(&lanes, kind, number, &making);
            }
        }
        let sandbox = Self(lanes);
        let tested = async {
            sandbox.ready().await?;
            self_test::run(&sandbox).await
        };
        match tested.await {
            Ok(()) => Ok(sandbox),
            Err(error) => {
                sandbox.stop();
                Err(error)
            }
        }
    }

    /// Waits for the first lane of each kind that starts by itself.
    async fn ready(&self) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            let lanes = self.lanes();
            let up =
                |kind| lanes.iter().any(|lane| lane.kind == kind && lane.state == LaneState::Up);
            if up(LaneKind::Fast) && up(LaneKind::Slow) {
                return Ok(());
            }
            // One failure may be chance; when all of them failed twice the next will too.
            let hopeless =
                lanes.iter().all(|lane| lane.kind == LaneKind::Quarantine || lane.restarts > 1);
            if hopeless || start.elapsed() > START_WITHIN {
                let reason = lanes.into_iter().find_map(|lane| lane.last_crash);
                return Err(Error::NoLane(reason.unwrap_or_else(|| "no answer".into())));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A context for the runs of one script, each of which ends in one report to `reports`. Costs
    /// nothing until its first run.
    #[must_use = "dropping the handle closes the context"]
    pub fn open(&self, spec: ContextSpec, reports: Recipient<Report>) -> ContextHandle {
        let key = self.0.borrow_mut().open(spec, Sink::Subscription(reports), Standing::NEW);
        ContextHandle { lanes: Rc::clone(&self.0), key }
    }

    /// Runs once, on a slow lane, in a context of its own, with `host` to answer it. `Report::Returned` only when the lanes
    /// died around it several times, or the sandbox was stopped.
    pub async fn try_out(&self, spec: ContextSpec, run: Run, host: Rc<dyn Host>) -> Report {
        let (reports, mut inbox) = mpsc::unbounded_channel();
        let key = self.0.borrow_mut().open(spec, Sink::Caller(reports), Standing::ALWAYS_SLOW);
        let context = ContextHandle { lanes: Rc::clone(&self.0), key };
        let mut last = Report::Returned(run.key);
        for _ in 0..TRIES {
            context.run(run.clone());
            // The context holds the other end.
            last = with_answers(&context, &mut inbox, &*host).await.unwrap_or(last);
            if let Report::Broken(_) = last {
                // Its run is returned beside it: whichever comes first, this says more.
                break;
            }
            if !matches!(last, Report::Returned(_)) {
                break;
            }
            if let Ok(broken @ Report::Broken(_)) = inbox.try_recv() {
                return broken;
            }
        }
        last
    }

    /// Every lane as it is now, for the supervision tree and the statistics.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneInfo> {
        self.0.borrow().info()
    }

    /// The walls that lanes found missing at their start.
    #[must_use]
    pub fn walls(&self) -> Walls {
        self.0.borrow().walls()
    }

    /// Returns every run, closes every context and ends every lane. Later runs are returned.
    pub fn stop(&self) {
        self.0.borrow_mut().stop();
    }
}

#[cfg(target_os = "linux")]
fn making(config: &SandboxConfig) -> Result<Making, Error> {
    if config.isolation == Isolation::Process
        && config.executable.is_none()
        && !super::process::can_be_a_lane()
    {
        return Err(Error::NotALane);
    }
    Ok(Making {
        isolation: config.isolation,
        // The running version, even when the file was replaced by an upgrade.
        executable: config.executable.clone().unwrap_or_else(|| PathBuf::from("/proc/self/exe")),
        address_space_bytes: config.address_space_bytes,
    })
}

#[cfg(not(target_os = "linux"))]
fn making(config: &SandboxConfig) -> Result<Making, Error> {
    Ok(Making {
        isolation: config.isolation,
        executable: config.executable.clone().unwrap_or_default(),
        address_space_bytes: config.address_space_bytes,
    })
}

fn add_lane(lanes: &Shared, kind: LaneKind, number: usize, making: &Making) {
    // The slot wakes an actor that needs the slot's number: the address comes after.
    let address: Rc<RefCell<Option<Addr<LaneActor>>>> = Rc::default();
    let woken = Rc::clone(&address);
    let wake = Box::new(move || {
        if let Some(address) = &*woken.borrow() {
            // do_send: one wake-up at a time is under way (`Slot::wake`), so this is bounded.
            address.do_send(Pump);
        }
    });
    let slot = lanes.borrow_mut().add_slot(&format!("{}-{number}", kind.as_str()), kind, wake);
    let actor = LaneActor::new(Rc::clone(lanes), slot, making.clone());
    *address.borrow_mut() = Some(actor.start());
}

/// The next report, with every question before it answered.
async fn with_answers(
    context: &ContextHandle,
    inbox: &mut mpsc::UnboundedReceiver<Report>,
    host: &dyn Host,
) -> Option<Report> {
    let mut answers = FuturesUnordered::new();
    loop {
        tokio::select! {
            report = inbox.recv() => match report {
                Some(Report::Asked(Asked { key, call, question })) => {
                    let answer = host.answer(question);
                    answers.push(async move { (key, call, answer.await) });
                }
                report => return report,
            },
            Some((key, call, answer)) = answers.next() => context.answer(key, call, answer),
        }
    }
}

/// A context: takes runs, in order. Dropping it closes it; what has not ended is returned.
pub struct ContextHandle {
    lanes: Shared,
    key: ContextKey,
}

impl ContextHandle {
    /// Queues a run. It ends in exactly one of `Finished`, `Returned` and `Crashed`.
    ///
    /// The queue has no bound of its own: the subscription's mailbox is the bound.
    pub fn run(&self, run: Run) {
        self.lanes.borrow_mut().run(self.key, run);
    }

    /// Answers a question of a run. One that has ended meanwhile is not told.
    pub fn answer(&self, run: RunKey, call: CallId, answer: Answer) {
        self.lanes.borrow_mut().answer(self.key, run, call, answer);
    }

    /// Another version of the script, or other limits, for the runs that start from now on.
    pub fn replace(&self, spec: ContextSpec) {
        self.lanes.borrow_mut().replace(self.key, spec);
    }

    #[must_use]
    pub fn usage(&self) -> ContextUsage {
        self.lanes.borrow().usage(self.key)
    }
}

impl Drop for ContextHandle {
    fn drop(&mut self) {
        self.lanes.borrow_mut().close(self.key);
    }
}
