//! The start: open and claim the store, find out what was unsettled, put everybody to work.

use std::{
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use actix::prelude::*;
use futures::future::BoxFuture;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::{Semaphore, oneshot};
use tracing::{info, warn};

use super::{
    Builder, CoreHandle, Inner, Runtime,
    place::{Placing, Unsettled},
};
use crate::{
    actors::{
        core::Core,
        dead_letter::{DeadLetterActor, Scheduling},
        journal::{Journal, JournalActor, Told},
        keys::KeysActor,
        live_feed::{LiveFeed, LiveFeedActor},
        router::{Recovery, RouterActor},
        scheduler::SchedulerActor,
        supervisor::SupervisorActor,
    },
    config::{Config, Isolation},
    domain::{
        Millis, Seq, SubscriptionId,
        kv::{Namespace, Usage},
    },
    host::{Doors, Fetcher, Ledger, Quotas, ROOM_KIB, Reach, Vault, VaultError},
    sandbox::{self, Sandbox, SandboxConfig, Walls},
    store::{
        self, Store,
        journal::{CommitError, DeliveryRow, JournalState},
    },
    traces::Tracer,
};

/// Unclean stops in a row after which what is unsettled runs alone.
const SUSPECT_AFTER: u32 = 3;

/// Why the runtime does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Secrets(#[from] VaultError),
    #[error("the store cannot be claimed: {0}")]
    Claim(#[from] CommitError),
    #[error("scripts cannot be run safely here: {0}")]
    Sandbox(#[from] sandbox::Error),
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    #[error("the core thread ended during the start")]
    Core,
}

/// What a start found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recovered {
    /// Events above the watermark, which are routed again.
    pub events: u64,
    pub rows: u64,
    pub unclean_stops: u32,
}

/// Actors that handles on other threads speak to.
#[derive(Clone)]
pub(crate) struct Addresses {
    pub(crate) supervisor: Addr<SupervisorActor>,
    pub(crate) scheduler: Addr<SchedulerActor>,
    pub(crate) dead_letters: Addr<DeadLetterActor>,
    pub(crate) router: Addr<RouterActor>,
    pub(crate) journal: Addr<JournalActor>,
    pub(crate) live: Addr<LiveFeedActor>,
}

/// What was read from the store.
struct Found {
    state: JournalState,
    unsettled: Unsettled,
    /// What the namespaces of `sdk.kv` hold.
    keys: Vec<(Namespace, Usage)>,
    /// Suspects that were alone when the process died: they run before everything else.
    accused: Vec<DeliveryRow>,
}

impl Builder {
    /// Starts everything. On return events are accepted, and what was unsettled is on its way.
    pub async fn start(self) -> Result<Runtime, StartError> {
        let started = Instant::now();
        let config = Arc::new(self.loaded.config.clone());
        crate::telemetry::start_metrics(config.metrics.subscriptions_max);
        let store = Store::open(&config.storage.url).await?;
        let mut journal_store = store.journal();
        let claimed = tokio::task::spawn_blocking(move || {
            journal_store.claim().map(|state| (journal_store, state))
        });
        let (journal_store, state) = claimed.await.map_err(|_| StartError::Core)??;
        if let Some(at) = store.outcomes().last_at().await? {
            Millis::steady_from(at);
        }
        let found = find(&store, state.clone()).await?;
        let tracer = Tracer::start(&config.telemetry)?;
        let reach = Reach::new(config.fetch.subnets.iter().copied());
        let fetcher = Fetcher::start(reach, config.script.fetch_bytes)?;
        let hooks = super::hooks::HookBook::open(&store).await?;
        let vault = Arc::new(Vault::open(store.clone(), config.secrets_key_file()).await?);
        let recovered = Recovered {
            events: state.seq.0 - state.watermark.0,
            rows: found.unsettled.rows.values().sum(),
            unclean_stops: state.unclean_stops,
        };
        if state.unclean_stops > 0 {
            warn!(
                unclean_stops = state.unclean_stops,
                events = recovered.events,
                rows = recovered.rows,
                "the last stop was unclean; what was unsettled runs again"
            );
        }
        let accused = found.accused.len();
        let journal = Journal::new(config.limits.backlog);
        let live = LiveFeed::default();
        let arbiter = Arbiter::with_tokio_rt(core_thread);
        let (ready, is_ready) = oneshot::channel();
        let parts = Parts {
            config: Arc::clone(&config),
            store: store.clone(),
            journal: journal.clone(),
            live: live.clone(),
            vault: Arc::clone(&vault),
            fetcher: Arc::new(fetcher),
            tracer: tracer.clone(),
            sandbox: sandbox_config(&config, self.lane_executable),
            faults: self.faults,
            found,
        };
        arbiter.spawn_fn(move || {
            actix::spawn(async move {
                // The builder waits for it, unless it was dropped: then nobody wants the runtime.
                let _ = ready.send(parts.launch().await);
            });
        });
        let Launched { addresses, walls, trial_over } =
            is_ready.await.map_err(|_| StartError::Core)??;
        let told: Recipient<Told> = addresses.journal.clone().recipient();
        let writer = journal.start(journal_store, state, config.retention.dedup.0, told)?;
        if accused > 0 {
            warn!(deliveries = accused, "alone when the process died: they run before all else");
            trial_over.await;
        }
        info!(took = ?started.elapsed(), recovered = recovered.events, "runtime started");
        let runtime = Runtime(Arc::new(Inner {
            loaded: self.loaded,
            store,
            vault,
            hooks,
            journal,
            tracer,
            live,
            core: CoreHandle(addresses.supervisor.clone()),
            addresses,
            walls,
            started,
            started_at: Millis::now(),
            recovered,
            stopping: AtomicBool::new(false),
            writer: std::sync::Mutex::new(Some(writer)),
            arbiter,
            backup: Arc::default(),
        }));
        actix::spawn(runtime.clone().keep_retention());
        Ok(runtime)
    }
}

/// The executor of the core's thread. What is dropped at the thread's end gives its connections back in
/// tasks of their own, so that the executor must be known there still, as it is not outside of it.
fn core_thread() -> tokio::runtime::Runtime {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let executor = executor.expect("what starts an executor started others before");
    std::mem::forget(executor.enter());
    executor
}

fn sandbox_config(config: &Config, executable: Option<std::path::PathBuf>) -> SandboxConfig {
    SandboxConfig {
        count: config.lanes.count,
        isolation: match config.lanes.isolation {
            Isolation::Process => sandbox::Isolation::Process,
            Isolation::Thread => sandbox::Isolation::Thread,
        },
        slow_after: std::time::Duration::from_millis(config.lanes.slow_after_ms),
        executable,
        ..SandboxConfig::default()
    }
}

/// What recovery needs to know of all subscriptions at once. Its cost follows what is unsettled, not
/// what is stored.
async fn find(store: &Store, state: JournalState) -> Result<Found, store::Error> {
    let mut settled: FxHashMap<SubscriptionId, FxHashSet<Seq>> = FxHashMap::default();
    for entry in store.outcomes().fresh_after(state.watermark).await? {
        settled.entry(entry.subscription).or_default().insert(entry.seq);
    }
    for (seq, subscription) in store.deliveries().since(state.watermark).await? {
        settled.entry(subscription).or_default().insert(seq);
    }
    let deliveries = store.deliveries();
    let (rows, suspects) = (deliveries.counts().await?, deliveries.suspects().await?);
    let unsettled = Unsettled { settled, rows, suspects };
    let (accused, keys) = (deliveries.accused().await?, store.kv().spaces().await?);
    Ok(Found { state, unsettled, keys, accused })
}

/// What the core thread answers once all actors run.
struct Launched {
    addresses: Addresses,
    walls: Walls,
    /// See `Core::trial_over`.
    trial_over: BoxFuture<'static, ()>,
}

/// What goes to the core thread.
struct Parts {
    config: Arc<Config>,
    store: Store,
    journal: Journal,
    live: LiveFeed,
    vault: Arc<Vault>,
    fetcher: Arc<Fetcher>,
    tracer: Tracer,
    sandbox: SandboxConfig,
    faults: crate::actors::core::Faults,
    found: Found,
}

impl Parts {
    /// Runs on the core thread: actors start where they are made.
    async fn launch(self) -> Result<Launched, StartError> {
        let sandbox = Sandbox::start(self.sandbox).await?;
        let walls = sandbox.walls();
        let Found { state, unsettled, keys, accused } = self.found;
        let quotas = Quotas {
            keys: self.config.limits.kv_namespace_keys,
            bytes: self.config.limits.kv_namespace_bytes,
            bytes_in_all: self.config.limits.kv_bytes,
            namespaces: self.config.limits.kv_namespaces,
        };
        let doors = Doors {
            store: self.store.clone(),
            ledger: Rc::new(Ledger::new(quotas, keys)),
            vault: self.vault,
            fetcher: self.fetcher,
            room: Arc::new(Semaphore::new(ROOM_KIB)),
            record_bytes: self.config.script.record_room(),
            tracer: self.tracer,
        };
        let core = Core::new(
            self.config,
            self.store,
            self.journal,
            sandbox,
            doors,
            self.faults,
            state.watermark,
            state.run,
            !accused.is_empty(),
        );
        let suspects = state.unclean_stops >= SUSPECT_AFTER;
        let supervisor = SupervisorActor {
            core: Rc::clone(&core),
            histories: FxHashMap::default(),
            escalate: Rc::new(escalate),
        }
        .start();
        let crashed = supervisor.clone().recipient();

        let placing = Placing {
            core: &core,
            crashed: &crashed,
            state: &state,
            is_suspicious: suspects,
            unsettled,
            changes: Vec::new(),
        };
        let changes = placing.place_all().await?;
        // Only now: a row of a subscription that is not there would be taken for an orphan.
        let scheduler = SchedulerActor::create(|_| {
            SchedulerActor::new(Rc::clone(&core), accused, suspects.then(Millis::steady))
        });
        core.set_scheduler(scheduler.clone().recipient());

        let recovery = Recovery { changes, upto: state.seq, suspects };
        let router = Supervisor::start({
            let (core, crashed) = (Rc::clone(&core), crashed.clone());
            move |_| RouterActor::new(core, crashed, recovery)
        });
        let dead_letters = {
            let core = Rc::clone(&core);
            let scheduler = Scheduling {
                admit: scheduler.clone().recipient(),
                announce: scheduler.clone().recipient(),
                unsure: scheduler.clone().recipient(),
            };
            DeadLetterActor::create(|_| DeadLetterActor::new(core, scheduler))
        };
        let keeper = KeysActor::new(Rc::clone(&core)).start();
        let live = LiveFeedActor::new(self.live).start();
        let journal = JournalActor {
            listeners: vec![
                router.clone().recipient(),
                scheduler.clone().recipient(),
                dead_letters.clone().recipient(),
                keeper.recipient(),
                live.clone().recipient(),
            ],
        }
        .start();
        let addresses = Addresses { supervisor, scheduler, dead_letters, router, journal, live };
        Ok(Launched { addresses, walls, trial_over: Box::pin(core.trial_over()) })
    }
}

/// `on_exhausted = "escalate"`: whoever started this process decides.
fn escalate(reason: String) {
    tracing::error!(%reason, "restarts exhausted; the process ends, as supervisor.on_exhausted says");
    std::process::exit(1);
}
