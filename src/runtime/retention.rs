//! Retention: what is old enough goes, in small steps, and the disk gets the room back.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::Runtime;
use crate::{domain::Millis, store::RetentionPlan};

/// Between two looks at what is old.
const EVERY: Duration = Duration::from_secs(60);
/// A store in which nothing was written is looked at this seldom: things grow old by themselves.
const AT_REST: Duration = Duration::from_secs(3_600);
/// Rows that one step removes: the journal waits for it, so it is short.
const STEP: u64 = 500;

impl Runtime {
    /// Removes what is old until the runtime stops.
    pub(super) async fn keep_retention(self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looked: Option<(u64, Instant)> = None;
        loop {
            ticks.tick().await;
            if self.0.stopping.load(std::sync::atomic::Ordering::Relaxed) {
                return;
            }
            let commits = self.journal().commits().0;
            if looked.is_some_and(|(at, when)| at == commits && when.elapsed() < AT_REST) {
                continue;
            }
            match self.apply_retention().await {
                Ok(0) => looked = Some((commits, Instant::now())),
                Ok(removed) => info!(removed, "retention removed rows"),
                Err(error) => warn!(%error, "retention waits for the store"),
            }
        }
    }

    /// Removes everything that is old now; returns how many rows went.
    pub async fn apply_retention(&self) -> Result<u64, crate::store::Error> {
        let keep = &self.config().retention;
        let now = Millis::at_least();
        let before = |keep: crate::config::Keep| keep.0.map(|age| now.minus(age));
        let plan = RetentionPlan {
            events_before: before(keep.events),
            runs_before: before(keep.runs),
            letters_before: before(keep.dead_letters),
            audit_before: before(keep.audit),
            events_bytes: keep.events_bytes.0,
            runs_bytes: keep.runs_bytes.0,
            letters_bytes: keep.dead_letters_bytes.0,
            audit_bytes: keep.audit_bytes.0,
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
        while self.store().retention().give_back().await? {}
        if let Some(keys) = before(keep.dedup) {
            removed += self.forget_keys(&plan, keys).await?;
        }
        if removed > 0 {
            self.journal().tidy();
        }
        Ok(removed)
    }

    /// Forgets keys of deduplication that are older than `before` and whose events are gone.
    async fn forget_keys(
        &self,
        plan: &RetentionPlan,
        before: Millis,
    ) -> Result<u64, crate::store::Error> {
        // Events younger than that are all stored, and their keys with them.
        let before = before.min(self.store().retention().kept_since(plan).await?);
        let mut removed = 0;
        loop {
            match self.journal().forget(before).await {
                Ok(0) => return Ok(removed),
                Ok(forgotten) => removed += forgotten,
                Err(error) => {
                    warn!(%error, "keys of deduplication stay for now");
                    return Ok(removed);
                }
            }
        }
    }
}
