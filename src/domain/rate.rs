//! How often a subscription may start a run.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::Span;

/// At most `runs` starts within any span of `per`, retries included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// 1 to 10,000.
    #[schema(minimum = 1, maximum = 10_000)]
    pub runs: u32,
    /// `"100ms"` to `"1d"`.
    pub per: Span,
}

impl RateLimit {
    /// The field and what was expected of it, for the first one that is out of range.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if !(1..=10_000).contains(&self.runs) {
            return Err(("limits.rate_limit.runs", "a number from 1 to 10000"));
        }
        if !(Duration::from_millis(100)..=Duration::from_hours(24)).contains(&self.per.0) {
            return Err(("limits.rate_limit.per", "a duration from \"100ms\" to \"1d\""));
        }
        Ok(())
    }
}

/// The starts that a rate limit still counts.
///
/// The moments themselves and not a bucket: a bucket lets twice the limit through around the moment
/// when it is full.
#[derive(Debug, Default)]
pub struct RateWindow {
    starts: VecDeque<Instant>,
}

impl RateWindow {
    /// How long the next start has to wait; `None` when it may go.
    pub fn wait(&mut self, limit: &RateLimit, now: Instant) -> Option<Duration> {
        let past = |start: &Instant| now.saturating_duration_since(*start) >= limit.per.0;
        while self.starts.front().is_some_and(past) {
            self.starts.pop_front();
        }
        // After a change to fewer runs there may be more starts in the window than it allows.
        let over = self.starts.len().checked_sub(limit.runs as usize)?;
        let frees = *self.starts.get(over)? + limit.per.0;
        Some(frees.saturating_duration_since(now))
    }

    /// A run starts.
    pub fn start(&mut self, now: Instant) {
        self.starts.push_back(now);
    }

    /// Without a limit nothing is counted.
    pub fn clear(&mut self) {
        self.starts.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whoever asks before each start, and waits as long as told, never starts more than `runs`
        /// in any span of `per`; and nobody waits longer than that takes.
        #[test]
        fn no_span_sees_more_starts_than_the_limit(
            runs in 1_u32..6,
            gaps in prop::collection::vec(0_u64..80, 1..120),
        ) {
            let limit = RateLimit { runs, per: Span(Duration::from_millis(100)) };
            let (mut window, mut now) = (RateWindow::default(), Instant::now());
            let mut starts: Vec<Instant> = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                if let Some(wait) = window.wait(&limit, now) {
                    prop_assert!(wait > Duration::ZERO && wait <= limit.per.0);
                    now += wait;
                    prop_assert_eq!(window.wait(&limit, now), None);
                }
                window.start(now);
                starts.push(now);
            }
            for pair in starts.windows(runs as usize + 1) {
                prop_assert!(pair[runs as usize] - pair[0] >= limit.per.0);
            }
        }
    }
}
