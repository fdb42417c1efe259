//! Trouble: changes to subscriptions, then the end of the whole process tree at a random moment.
//! Mostly a kill; by turns it is stopped for a while before, or asked to end. Some of the starts
//! after it are killed too, before they are ready.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rand::RngExt as _;

use super::{EVENTS_PER_KILL, Ledger, store::LeftBehind, workload::Workload};
use crate::support::{PATIENCE, TestRuntime, eventually};

/// A kill comes at most so long after the events it waits for.
const KILL_WITHIN_MS: u64 = 600;

/// How long a stop lasts, and one that is as long as those of a release.
const STOP_MS: std::ops::Range<u64> = 300..1_000;
const LONG_STOP_MS: std::ops::Range<u64> = 1_000..10_000;
/// A start is killed so soon.
const START_MS: std::ops::Range<u64> = 1..200;
/// From so many kills on, a run is a release's.
const LONG_RUN: usize = 100;

/// What the kills met. All of it, or the run is void.
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
    /// Ends by SIGTERM, and kills some time after a SIGSTOP.
    terminated: usize,
    stopped: usize,
    /// Starts that were killed before they were ready.
    during_start: usize,
    /// Deliveries that two kills met while they ran alone: an operator replays them.
    pub(super) host_crashes: usize,
}

impl Met {
    pub(super) fn look(&mut self, left: &LeftBehind) {
        self.kills += 1;
        self.with_unsettled += usize::from(left.unsettled > 0);
        self.with_retries += usize::from(left.retrying > 0);
    }

    pub(super) fn assert_not_void(&self) {
        let met = [
            self.with_unsettled,
            self.with_retries,
            self.with_changes,
            self.terminated,
            self.stopped,
            self.during_start,
        ];
        assert!(!met.contains(&0), "void: the kills did not meet all that they have to: {self:?}");
    }
}

/// Changes subscriptions while the publishers get their events acknowledged, then kills.
pub(super) async fn trouble_and_kill(
    rt: &mut TestRuntime,
    workload: &Workload,
    ledger: &Ledger,
    met: &mut Met,
    kills: usize,
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
                break;
            }
            changed = change => {
                changed.expect("nobody killed the server yet");
                met.changes += 1;
            }
        }
    }
    end(rt, met, kills).await;
    for _ in 0..met.kills % 3 {
        rt.server.launch();
        pause(START_MS).await;
        rt.server.kill();
        met.during_start += 1;
    }
}

/// Every fifth end is a kill after a stop, every seventh one by SIGTERM.
async fn end(rt: &mut TestRuntime, met: &mut Met, kills: usize) {
    match met.kills {
        round if round % 5 == 3 => {
            rt.server.signal("STOP");
            pause(if kills < LONG_RUN { STOP_MS } else { LONG_STOP_MS }).await;
            rt.server.signal("CONT");
            // It may have taken what came meanwhile, or be about to.
            pause(0..KILL_WITHIN_MS).await;
            rt.server.kill();
            met.stopped += 1;
        }
        round if round % 7 == 5 => {
            rt.server.signal("TERM");
            let status = rt.server.ended().await;
            assert!(status.success(), "{status}: {}", rt.server.log());
            met.terminated += 1;
        }
        _ => rt.server.kill(),
    }
}

async fn pause(ms: std::ops::Range<u64>) {
    let ms = rand::rng().random_range(ms);
    tokio::time::sleep(Duration::from_millis(ms)).await;
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
