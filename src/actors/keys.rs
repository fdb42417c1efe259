//! The keeper of `sdk.kv`: tells the ledger what is in the store, and removes what has expired.
//!
//! Receives `Told` (journal). Sends removals to the journal. State: none that must outlive it; the
//! ledger is the core's, and expired keys are invisible before they are gone.

use std::{rc::Rc, time::Duration};

use actix::prelude::*;
use tracing::warn;

use super::{
    core::Core,
    journal::{KeyWrites, Told},
};
use crate::{
    domain::{Millis, kv::Change},
    store,
};

/// Between two looks for keys that have expired.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// From a commit to the count of what the namespaces hold.
const COUNT_AFTER: Duration = Duration::from_millis(200);

/// Keys that one commit removes; more are looked for at once.
const SWEEP_KEYS: u64 = 500;

pub(crate) struct KeysActor {
    core: Rc<Core>,
    /// The store will be asked what the namespaces hold.
    counting: bool,
    /// When the next key expires, as far as is known; `None`: ask the store.
    next: Option<Millis>,
}

/// No key expires.
const NEVER: Millis = Millis(i64::MAX);

impl KeysActor {
    pub(crate) fn new(core: Rc<Core>) -> Self {
        Self { core, counting: false, next: None }
    }

    /// Asks the store what the namespaces hold, a moment from now: once for many commits.
    fn count_soon(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.counting, true) {
            return;
        }
        ctx.run_later(COUNT_AFTER, |actor, ctx| {
            // What is committed from here on may be missing in the count, and brings the next one.
            actor.counting = false;
            let store = actor.core.store.clone();
            let count = async move { store.kv().spaces().await };
            ctx.spawn(count.into_actor(actor).map(|counted, actor, _| match counted {
                Ok(usage) => actor.core.doors.ledger.set_usage(usage),
                Err(error) => warn!(%error, "what sdk.kv holds cannot be counted yet"),
            }));
        });
    }
}

/// Removes what has expired, until there is none left; returns when the next key expires.
async fn sweep(core: Rc<Core>) -> Result<Millis, store::Error> {
    loop {
        let look = core.doors.ledger.look();
        let found = core.store.kv().expired(Millis::steady(), SWEEP_KEYS).await;
        // The look ends whatever was found; what was written since is not what has expired.
        let keys = found.as_ref().map(Vec::clone).unwrap_or_default();
        let expired = core.doors.ledger.unchanged(look, keys);
        let is_last = (found?.len() as u64) < SWEEP_KEYS;
        if expired.is_empty() {
            return Ok(core.store.kv().next_expiry().await?.unwrap_or(NEVER));
        }
        let removal = |(namespace, key)| Change { namespace, key, value: None };
        let changes = expired.into_iter().map(removal).collect();
        // No clock: nobody could see these any more.
        let written = core.journal.keys(KeyWrites { clock: 0, changes }).await;
        if is_last || written.is_err() {
            return Ok(Millis::steady());
        }
    }
}

impl Actor for KeysActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(SWEEP_EVERY, |actor, ctx| {
            // At rest nobody is asked.
            if actor.next.is_some_and(|next| next > Millis::steady()) {
                return;
            }
            actor.next = Some(NEVER);
            let sweep = sweep(Rc::clone(&actor.core));
            ctx.spawn(sweep.into_actor(actor).map(|swept, actor, _| match swept {
                // What was committed meanwhile may expire sooner: then `next` says "ask".
                Ok(next) => actor.next = actor.next.map(|_| next),
                Err(error) => {
                    actor.next = None;
                    warn!(%error, "expired keys wait for the store");
                }
            }));
        });
    }
}

impl Handler<Told> for KeysActor {
    type Result = ();

    fn handle(&mut self, Told(committed): Told, ctx: &mut Context<Self>) {
        if committed.kv_clock > 0 {
            self.core.doors.ledger.committed(committed.kv_clock);
            self.next = None;
            self.count_soon(ctx);
        }
    }
}
