//! The composition root: builds store, journal, lanes and actors, and hands out the ways in.
//!
//! `main`, the tests and embedding applications all start here. It needs a running actix system:
//!
//! ```no_run
//! # async fn demo() -> anyhow::Result<()> {
//! let runtime = tripline::Runtime::builder(tripline::config::Config::default()).start().await?;
//! runtime.stop(std::time::Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```

mod backtest;
mod backup;
mod dead_letters;
mod erase;
mod events;
mod hooks;
mod keys;
mod place;
mod publish;
mod reruns;
mod retention;
mod scripts;
mod secrets;
mod start;
mod subscriptions;
mod supervision;
mod verify;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix::prelude::*;
use futures::future::LocalBoxFuture;
use tokio::sync::oneshot;

pub(crate) use self::reruns::Then;
pub use self::{
    backtest::{BACKTEST_EVENTS_MAX, BACKTEST_EXAMPLES, Backtest, Changed, Criteria, Difference},
    backup::{Backup, BackupError},
    dead_letters::{BulkError, DeadLetters, ReplayError},
    erase::{EraseError, Erasure},
    events::{DeliveryState, DeliveryStatus, UnmatchedEvents},
    hooks::{HookTally, Hooks, OpenHook, Refused},
    keys::{KeyError, Keys},
    reruns::{Aspect, Edited, FirstDifference, Rerun, RerunError, Reruns},
    scripts::{
        SOURCE_BYTES_MAX, SaveError, ScriptActivity, Scripts, TestEvent, TestInput, TestOutcome,
        check_fetch_allow,
    },
    secrets::{SecretError, Secrets},
    start::StartError,
    subscriptions::{
        Backfill, ChangeError, DeleteError, Field, NewSubscription, SubscriptionStatus,
        Subscriptions,
    },
    supervision::{ActorNode, Supervision},
    verify::{Check, verify},
};
pub use crate::host::{NoHost, SecretInfo, Source, Told, Unreadable, VaultError};
use crate::{
    actors::{
        core::{Core, Faults},
        dead_letter::CloseWindow,
        journal::{Intake, Journal},
        live_feed::LiveFeed,
        supervisor::{Call, SupervisorActor},
    },
    config::{Config, Loaded},
    host::Vault,
    sandbox::Walls,
    store::Store,
    traces::Tracer,
};

/// How long a stop waits for the count of letters that were not announced.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// A running Tripline. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    loaded: Loaded,
    store: Store,
    vault: Arc<Vault>,
    hooks: hooks::HookBook,
    journal: Journal,
    tracer: Tracer,
    live: LiveFeed,
    core: CoreHandle,
    addresses: start::Addresses,
    walls: Walls,
    started: Instant,
    started_at: crate::domain::Millis,
    recovered: start::Recovered,
    stopping: AtomicBool,
    writer: std::sync::Mutex<Option<std::thread::JoinHandle<()>>>,
    arbiter: Arbiter,
    /// Held by the one backup that is being made.
    backup: Arc<tokio::sync::Mutex<()>>,
}

/// What a runtime is made of before it starts.
pub struct Builder {
    loaded: Loaded,
    lane_executable: Option<PathBuf>,
    faults: Faults,
}

impl Runtime {
    /// Prepares a runtime with these settings.
    #[must_use]
    pub fn builder(config: Config) -> Builder {
        Self::builder_from(Loaded { config, sources: std::collections::BTreeMap::new() })
    }

    /// The same, remembering where each setting came from.
    #[must_use]
    pub fn builder_from(loaded: Loaded) -> Builder {
        Builder { loaded, lane_executable: None, faults: Faults::default() }
    }

    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.loaded.config
    }

    /// The settings in force, and where each came from.
    #[must_use]
    pub fn loaded(&self) -> &Loaded {
        &self.0.loaded
    }

    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.0.journal
    }

    #[must_use]
    pub fn live(&self) -> &LiveFeed {
        &self.0.live
    }

    #[must_use]
    pub fn subscriptions(&self) -> Subscriptions {
        Subscriptions(self.clone())
    }

    #[must_use]
    pub fn scripts(&self) -> Scripts {
        Scripts(self.clone())
    }

    /// Recorded runs again.
    #[must_use]
    pub fn reruns(&self) -> Reruns {
        Reruns(self.clone())
    }

    #[must_use]
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters(self.clone())
    }

    #[must_use]
    pub fn supervision(&self) -> Supervision {
        Supervision(self.clone())
    }

    /// How long it has been up.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    #[must_use]
    pub fn started_at(&self) -> crate::domain::Millis {
        self.0.started_at
    }

    /// What the start found.
    #[must_use]
    pub fn recovered(&self) -> start::Recovered {
        self.0.recovered
    }

    /// What `/readyz` tells.
    #[must_use]
    pub fn health(&self) -> Health {
        let intake = self.0.journal.intake();
        let mut problems = Vec::new();
        match &intake {
            Intake::Open => {}
            Intake::Closed(reason) | Intake::Stopped(reason) => {
                problems.push(format!("journal: {reason}"))
            }
            Intake::DiskFull => {
                problems.push("journal: the disk of the store is full (disk_full)".into())
            }
        }
        if self.0.stopping.load(Relaxed) {
            problems.push("the server is shutting down".into());
        }
        if !self.0.core.0.connected() {
            problems.push("the core has stopped".into());
        }
        Health { ready: problems.is_empty(), problems, walls_missing: self.0.walls.missing.clone() }
    }

    /// Returns once the server can never take events again, with the reason; a start may cure it.
    pub async fn failure(&self) -> String {
        loop {
            if let Intake::Stopped(reason) = self.0.journal.intake() {
                return reason;
            }
            if !self.0.core.0.connected() {
                return "the core has stopped".into();
            }
            tokio::time::sleep(FAILURE_LOOK).await;
        }
    }

    /// The protections around lanes that this kernel grants.
    #[must_use]
    pub fn walls(&self) -> &Walls {
        &self.0.walls
    }

    /// Stops: takes no more events, lets runs in hand end within `grace`, writes what is queued,
    /// and gives the store up cleanly. What did not end runs after the next start.
    pub async fn stop(self, grace: Duration) {
        if self.0.stopping.swap(true, Relaxed) {
            return;
        }
        let deadline = Instant::now() + grace;
        let draining = |core: std::rc::Rc<Core>| -> LocalBoxFuture<'static, usize> {
            core.draining.set(true);
            Box::pin(async move { core.in_flight() })
        };
        while Instant::now() < deadline {
            match self.0.core.call(move |core, _| draining(core)).await {
                Ok(0) | Err(Stopped) => break,
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        // A core that is gone counts no letters, and a store that does not answer takes no count.
        let close = self.0.addresses.dead_letters.send(CloseWindow);
        let _ = tokio::time::timeout(CLOSE_WITHIN, close).await;
        self.0.journal.stop();
        let writer = self.0.writer.lock().ok().and_then(|mut writer| writer.take());
        if let Some(writer) = writer {
            // The writer ends by itself once its queue is empty.
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
        let _ = self
            .0
            .core
            .call(|core, _| {
                core.sandbox.stop();
                Box::pin(async {})
            })
            .await;
        self.0.tracer.flush().await;
        self.0.arbiter.stop();
    }
}

impl Builder {
    /// The binary that lanes are started from: for tests and embedding applications, whose own
    /// binary does not know the `lane` command.
    #[must_use]
    pub fn lane_executable(mut self, path: PathBuf) -> Self {
        self.lane_executable = Some(path);
        self
    }

    /// Plants faults, for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }
}

/// Whether the server can do its work.
#[derive(Clone, Debug)]
pub struct Health {
    pub ready: bool,
    pub problems: Vec<String>,
    /// Protections around lanes that the kernel did not grant.
    pub walls_missing: Vec<String>,
}

/// How often it is looked whether the server has failed for good.
const FAILURE_LOOK: Duration = Duration::from_millis(500);

/// The core thread is gone: the server is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server is shutting down")]
pub struct Stopped;

/// Does things on the core thread.
#[derive(Clone)]
pub(crate) struct CoreHandle(Addr<SupervisorActor>);

impl CoreHandle {
    /// Runs `work` there and returns what it returns.
    pub(crate) async fn call<T, F>(&self, work: F) -> Result<T, Stopped>
    where
        T: Send + 'static,
        F: FnOnce(std::rc::Rc<Core>, Addr<SupervisorActor>) -> LocalBoxFuture<'static, T>
            + Send
            + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call = Call(Box::new(move |core, supervisor| {
            let work = work(core, supervisor);
            Box::pin(async move {
                // A caller that is gone does not wait for the answer.
                let _ = reply.send(work.await);
            })
        }));
        self.0.send(call).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}
