//! Retention: what is old enough goes, in small steps, and the disk gets the room back.

use std::time::Duration;

use tracing::{info, warn};

use super::Runtime;
use crate::{domain::Millis, store::RetentionPlan};

/// Between two looks at what is old.
const EVERY: Duration = Duration::from_secs(60);
/// Rows that one step removes: the journal waits for it, so it is short.
const STEP: u64 = 500;

impl Runtime {
    /// Removes what is old until the runtime stops.
    pub(super) async fn keep_retention(self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.0.stopping.load(std::sync::atomic::Ordering::Relaxed) {
                return;
            }
            match self.apply_retention().await {
                Ok(0) => {}
                Ok(removed) => info!(removed, "retention removed rows"),
                Err(error) => warn!(%error, "retention waits for the store"),
            }
        }
    }

    /// Removes everything that is old now; returns how many rows went.
    pub async fn apply_retention(&self) -> Result<u64, crate::store::Error> {
        let keep = &self.config().retention;
        // What leaps ahead may be wrong, and what is removed does not come back.
        let now = Millis::now().min(Millis::steady());
        let before = |keep: crate::config::Keep| keep.0.map(|age| now.minus(age));
        let plan = RetentionPlan {
            events_before: before(keep.events),
            runs_before: before(keep.runs),
            letters_before: before(keep.dead_letters),
            audit_before: before(keep.audit),
            watermark: self.journal().watermark(),
        };
        let mut removed = 0;
        loop {
            let step = self.store().retention().step(&plan, STEP).await?;
            removed += step;
            if step == 0 {
                break;
            }
        }
        // Events younger than that are all stored, and their keys with them.
        let keys_before = plan.events_before.zip(before(keep.dedup));
        while let Some((events, keys)) = keys_before {
            match self.journal().forget(events.min(keys)).await {
                Ok(0) => break,
                Ok(forgotten) => removed += forgotten,
                Err(error) => {
                    warn!(%error, "keys of deduplication stay for now");
                    break;
                }
            }
        }
        Ok(removed)
    }
}
