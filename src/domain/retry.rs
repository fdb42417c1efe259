//! Retry policies: how often, and how long between.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ErrorKind;

/// How often a delivery is attempted, and how long it waits in between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// Attempts per delivery, the first included: 1 to 100. Default 3.
    pub max_attempts: u32,
    pub backoff: Backoff,
}

/// The wait before the next attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    pub kind: BackoffKind,
    /// Wait after the first failure, in milliseconds. Default 1,000.
    pub initial_ms: u64,
    /// The longest wait, in milliseconds, before jitter. Default 60,000.
    pub max_ms: u64,
    /// Growth per failure of an exponential backoff: 1 to 100. Default 2.
    pub factor: f64,
    /// Share by which each wait is stretched or shortened at random: 0 to 1. Default 0.2, so that
    /// deliveries that failed together do not come back together.
    pub jitter: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackoffKind {
    #[default]
    Exponential,
    Fixed,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 3, backoff: Backoff::default() }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            kind: BackoffKind::Exponential,
            initial_ms: 1_000,
            max_ms: 60_000,
            factor: 2.0,
            jitter: 0.2,
        }
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Attempts spent, the failed one included.
    pub attempts: u32,
    /// Before the next one; `None`: the delivery is dead.
    pub wait: Option<Duration>,
}

impl RetryPolicy {
    /// Decides about a delivery that failed after `spent` attempts before. `retry_after`: the wait
    /// that the script asked for. `chance` is uniform in 0..1.
    #[must_use]
    pub fn failed(
        &self,
        kind: ErrorKind,
        spent: u32,
        retry_after: Option<Duration>,
        chance: f64,
    ) -> Failed {
        // What expired never ran.
        let attempts = spent + u32::from(kind != ErrorKind::Expired);
        let is_dead = kind.is_final() || attempts >= self.max_attempts;
        let wait = || retry_after.unwrap_or_else(|| self.backoff.wait(attempts, chance));
        Failed { attempts, wait: (!is_dead).then(wait) }
    }

    /// The field and what was expected of it, for the first one that is out of range.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let backoff = &self.backoff;
        if !(1..=100).contains(&self.max_attempts) {
            return Err(("retry_policy.max_attempts", "a number from 1 to 100"));
        }
        if backoff.initial_ms > WEEK_MS {
            return Err(("retry_policy.backoff.initial_ms", "at most 604800000 (a week)"));
        }
        if backoff.max_ms > WEEK_MS || backoff.max_ms < backoff.initial_ms {
            return Err((
                "retry_policy.backoff.max_ms",
                "at least initial_ms and at most 604800000 (a week)",
            ));
        }
        if !(1.0..=100.0).contains(&backoff.factor) {
            return Err(("retry_policy.backoff.factor", "a number from 1 to 100"));
        }
        if !(0.0..=1.0).contains(&backoff.jitter) {
            return Err(("retry_policy.backoff.jitter", "a number from 0 to 1"));
        }
        Ok(())
    }
}

const WEEK_MS: u64 = 7 * 24 * 3_600 * 1_000;

impl Backoff {
    /// The wait after `failures` failed attempts (1 or more). `chance` is uniform in 0..1.
    ///
    /// Always within `(1 ± jitter)` of the capped wait, whatever `failures` is.
    #[must_use]
    pub fn wait(&self, failures: u32, chance: f64) -> Duration {
        let base = match self.kind {
            BackoffKind::Fixed => self.initial_ms as f64,
            BackoffKind::Exponential => {
                self.initial_ms as f64
                    * self.factor.powi(failures.saturating_sub(1).min(1_000).cast_signed())
            }
        };
        let capped = base.min(self.max_ms as f64);
        Duration::from_secs_f64(capped * (1.0 + self.jitter * (2.0 * chance - 1.0)) / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_waits_double_up_to_the_cap() {
        let backoff = Backoff { jitter: 0.0, max_ms: 5_000, ..Backoff::default() };
        let waits: Vec<u128> = (1..=5).map(|n| backoff.wait(n, 0.5).as_millis()).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 5_000, 5_000]);
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        let policy = RetryPolicy { max_attempts: 2, ..RetryPolicy::default() };
        let fail = |kind, spent| policy.failed(kind, spent, Some(Duration::from_secs(7)), 0.5);
        let again = Failed { attempts: 1, wait: Some(Duration::from_secs(7)) };
        assert_eq!(fail(ErrorKind::Exception, 0), again);
        assert_eq!(fail(ErrorKind::Exception, 1), Failed { attempts: 2, wait: None });
        assert_eq!(fail(ErrorKind::Permanent, 0), Failed { attempts: 1, wait: None });
        assert_eq!(fail(ErrorKind::Expired, 0), Failed { attempts: 0, wait: None });
    }

    #[test]
    fn fixed_waits_stay() {
        let backoff = Backoff { kind: BackoffKind::Fixed, jitter: 0.0, ..Backoff::default() };
        assert_eq!(backoff.wait(9, 0.5), Duration::from_secs(1));
    }

    #[test]
    fn jitter_stays_within_its_share_and_numbers_stay_finite() {
        let backoff = Backoff { factor: 100.0, ..Backoff::default() };
        for failures in [1, 2, 100, u32::MAX] {
            for chance in [0.0, 0.3, 0.999_999] {
                let capped = if failures == 1 { 1.0 } else { 60.0 };
                let wait = backoff.wait(failures, chance).as_secs_f64();
                assert!(
                    (capped * 0.8..=capped * 1.2).contains(&wait),
                    "{failures} {chance} {wait}"
                );
            }
        }
    }
}
