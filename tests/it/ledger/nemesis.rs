//! Trouble: changes to subscriptions, then a kill of the whole process tree at a random moment.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rand::RngExt as _;

use super::{EVENTS_PER_KILL, Ledger, store::LeftBehind, workload::Workload};
use crate::support::{PATIENCE, TestRuntime, eventually};

/// A kill comes at most so long after the events it waits for.
const KILL_WITHIN_MS: u64 = 600;

/// What the kills met. All three, or the run is void.
#[derive(Debug, Default)]
pub(super) struct Met {
    kills: usize,
    /// Kills that left events above the watermark: their deliveries were run again.
    with_unsettled: usize,
    /// Kills that left deliveries waiting for another attempt.
    with_retries: usize,
    /// Kills that broke a request which changed a subscription.
    with_changes: usize,
    /// Changes made in all.
    changes: usize,
}

impl Met {
    pub(super) fn look(&mut self, left: &LeftBehind) {
        self.kills += 1;
        self.with_unsettled += usize::from(left.unsettled > 0);
        self.with_retries += usize::from(left.retrying > 0);
    }

    pub(super) fn assert_not_void(&self) {
        let met_all = self.with_unsettled > 0 && self.with_retries > 0 && self.with_changes > 0;
        assert!(met_all, "void: no kill met re-runs, retries and changes in flight: {self:?}");
    }
}

/// Changes subscriptions while the publishers get their events acknowledged, then kills.
pub(super) async fn trouble_and_kill(
    rt: &mut TestRuntime,
    workload: &Workload,
    ledger: &Ledger,
    met: &mut Met,
) {
    let waited = Instant::now();
    let mut kill_at = None;
    let api = rt.api.clone();
    loop {
        if kill_at.is_none() && ledger.since_kill.load(Ordering::Relaxed) >= EVENTS_PER_KILL {
            let after = rand::rng().random_range(0..KILL_WITHIN_MS);
            kill_at = Some(tokio::time::Instant::now() + Duration::from_millis(after));
        }
        assert!(waited.elapsed() < PATIENCE * 2, "no events acknowledged; {}", rt.server.log());
        let change = workload.change(&api, met.changes);
        let Some(kill_at) = kill_at else {
            change.await.expect("nobody killed the server yet");
            met.changes += 1;
            continue;
        };
        tokio::select! {
            // Dropped in flight: the request is on its way, and nobody knows how far it came.
            () = tokio::time::sleep_until(kill_at) => {
                met.with_changes += 1;
                rt.server.kill();
                return;
            }
            changed = change => {
                changed.expect("nobody killed the server yet");
                met.changes += 1;
            }
        }
    }
}

pub(super) async fn wait_for(ledger: &Ledger, acknowledged: usize) {
    eventually("events to be acknowledged", async || {
        match ledger.since_kill.load(Ordering::Relaxed) {
            enough if enough >= acknowledged => Ok(()),
            few => Err(few),
        }
    })
    .await;
}
