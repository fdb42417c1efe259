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
}

impl KeysActor {
    pub(crate) fn new(core: Rc<Core>) -> Self {
        Self { core, counting: false }
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

/// Removes what has expired, until there is none left.
async fn sweep(core: Rc<Core>) -> Result<(), store::Error> {
    loop {
        let look = core.doors.ledger.look();
        let found = core.store.kv().expired(Millis::steady(), SWEEP_KEYS).await;
        // The look ends whatever was found; what was written since is not what has expired.
        let keys = found.as_ref().map(Vec::clone).unwrap_or_default();
        let expired = core.doors.ledger.unchanged(look, keys);
        let is_last = (found?.len() as u64) < SWEEP_KEYS;
        if expired.is_empty() {
            return Ok(());
        }
        let removal = |(namespace, key)| Change { namespace, key, value: None };
        let changes = expired.into_iter().map(removal).collect();
        // No clock: nobody could see these any more.
        let written = core.journal.keys(KeyWrites { clock: 0, changes }).await;
        if is_last || written.is_err() {
            return Ok(());
        }
    }
}

impl Actor for KeysActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(SWEEP_EVERY, |actor, ctx| {
            let sweep = sweep(Rc::clone(&actor.core));
            ctx.spawn(sweep.into_actor(actor).map(|swept, _, _| {
                if let Err(error) = swept {
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
            self.count_soon(ctx);
        }
    }
}
