//! Inbound webhooks, as the API handles them: defined, opened, and what came through lately.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::Runtime;
use crate::{
    domain::{
        Millis,
        hook::{Headers, Hook, Refusal},
    },
    store::{self, Store},
    telemetry,
};

/// Refused deliveries that a hook remembers.
const REFUSED_MAX: usize = 50;

/// The hooks of a server, in memory: a delivery reads no store.
#[derive(Default)]
pub(crate) struct HookBook {
    hooks: RwLock<BTreeMap<String, Arc<OpenHook>>>,
    /// Who changes hooks, from the first look until the change is in the store and here.
    turn: tokio::sync::Mutex<()>,
}

/// A hook and what came through it since the server started.
pub struct OpenHook {
    pub hook: Hook,
    tally: Arc<Mutex<HookTally>>,
}

/// What came through a hook since the server started.
#[derive(Clone, Debug, Default)]
pub struct HookTally {
    pub taken: u64,
    pub duplicates: u64,
    pub refused: u64,
    pub last_taken_at: Option<Millis>,
    /// The latest refused deliveries, the newest first.
    pub refusals: VecDeque<Refused>,
}

/// A delivery that was refused.
#[derive(Clone, Debug)]
pub struct Refused {
    pub at: Millis,
    /// A stable word.
    pub reason: &'static str,
    pub detail: String,
    pub from: Option<String>,
}

impl HookBook {
    pub(crate) async fn open(store: &Store) -> Result<Self, store::Error> {
        let all = store.hooks().all().await?;
        let open = |hook: Hook| (hook.name.clone(), Arc::new(OpenHook::new(hook)));
        let hooks = RwLock::new(all.into_iter().map(open).collect());
        Ok(Self { hooks, turn: tokio::sync::Mutex::default() })
    }

    /// A whole map after every step, so a poisoned lock is as good.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<OpenHook>>> {
        self.hooks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Arc<OpenHook>>> {
        self.hooks.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, hook: Hook) -> Arc<OpenHook> {
        let mut map = self.write();
        let tally = map.get(&hook.name).map(|open| Arc::clone(&open.tally)).unwrap_or_default();
        let open = Arc::new(OpenHook { hook, tally });
        map.insert(open.hook.name.clone(), Arc::clone(&open));
        open
    }
}

impl OpenHook {
    fn new(hook: Hook) -> Self {
        Self { hook, tally: Arc::default() }
    }

    #[must_use]
    pub fn tally(&self) -> HookTally {
        self.lock().clone()
    }

    /// A delivery became an event, or was one already.
    pub fn took(&self, duplicate: bool) {
        let mut tally = self.lock();
        if duplicate {
            tally.duplicates += 1;
        } else {
            tally.taken += 1;
        }
        tally.last_taken_at = Some(Millis::now());
        telemetry::hook_delivery(&self.hook.name, if duplicate { "duplicate" } else { "taken" });
    }

    /// A delivery was refused.
    pub fn refused(&self, reason: &'static str, detail: String, from: Option<String>) {
        let mut tally = self.lock();
        tally.refused += 1;
        tally.refusals.truncate(REFUSED_MAX - 1);
        tally.refusals.push_front(Refused { at: Millis::now(), reason, detail, from });
        telemetry::hook_delivery(&self.hook.name, "refused");
    }

    /// The tally is whole after every step, so a poisoned lock is as good.
    fn lock(&self) -> std::sync::MutexGuard<'_, HookTally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to webhooks.
#[derive(Clone)]
pub struct Hooks(pub(super) Runtime);

impl Runtime {
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        Hooks(self.clone())
    }
}

impl Hooks {
    fn book(&self) -> &HookBook {
        &self.0.0.hooks
    }

    /// By name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<OpenHook>> {
        self.book().read().values().cloned().collect()
    }

    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<OpenHook>> {
        self.book().read().get(name).cloned()
    }

    /// Opens a new one; the next delivery finds it. `hook` is asked when nobody else changes hooks.
    pub async fn create<E: From<store::Error>>(
        &self,
        hook: impl FnOnce() -> Result<Hook, E>,
    ) -> Result<Arc<OpenHook>, E> {
        let _turn = self.book().turn.lock().await;
        let hook = hook()?;
        self.0.store().hooks().create(&hook).await?;
        Ok(self.book().put(hook))
    }

    /// Changes one as `change` says of what it is just then; the next delivery meets the change.
    pub async fn change<E: From<store::Error>>(
        &self,
        name: &str,
        change: impl FnOnce(Hook) -> Result<Hook, E>,
    ) -> Result<Arc<OpenHook>, E> {
        let _turn = self.book().turn.lock().await;
        let open = self
            .find(name)
            .ok_or_else(|| store::Error::NotFound { what: "hook", id: name.to_owned() })?;
        let hook = change(open.hook.clone())?;
        self.0.store().hooks().replace(&hook).await?;
        Ok(self.book().put(hook))
    }

    pub async fn remove(&self, name: &str) -> Result<(), store::Error> {
        let _turn = self.book().turn.lock().await;
        self.0.store().hooks().delete(name).await?;
        self.book().write().remove(name);
        Ok(())
    }

    /// Hooks that check signatures with this secret.
    #[must_use]
    pub fn with_secret(&self, secret: &str) -> Vec<String> {
        let uses = |open: &Arc<OpenHook>| open.hook.secrets.iter().any(|name| name == secret);
        self.all().into_iter().filter(uses).map(|open| open.hook.name.clone()).collect()
    }

    /// Checks the signature of a delivery with the secrets of its hook.
    pub fn verify(&self, hook: &Hook, headers: &Headers<'_>, body: &[u8]) -> Result<(), Refusal> {
        let keys: Vec<Arc<str>> =
            hook.secrets.iter().filter_map(|name| self.0.0.vault.get(name)).collect();
        let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        hook.verify(headers, body, &keys, Millis::now())
    }
}
