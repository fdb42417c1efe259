//! The supervisor's decisions: restart, after how long, or give up. No clock, no actor.

use std::{collections::VecDeque, time::Duration};

use super::Millis;

/// The restart policy of `[supervisor]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartPolicy {
    /// Restarts allowed within `window`; the next one exhausts it.
    pub max_restarts: u32,
    pub window: Duration,
    pub backoff_initial: Duration,
    pub backoff_max: Duration,
    pub backoff_factor: f64,
    /// Share by which a wait is stretched or shortened at random: 0 to 1.
    pub backoff_jitter: f64,
}

/// What to do about a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    RestartAfter(Duration),
    /// More than `max_restarts` within the window.
    Exhausted,
}

/// The restarts of one actor that still count.
#[derive(Clone, Debug, Default)]
pub struct RestartHistory {
    crashes: VecDeque<Millis>,
}

impl RestartHistory {
    /// Takes note of a crash at `now` and decides. `chance` is uniform in 0..1.
    pub fn crashed(&mut self, policy: &RestartPolicy, now: Millis, chance: f64) -> Verdict {
        self.forget(policy, now);
        self.crashes.push_back(now);
        let restarts = u32::try_from(self.crashes.len()).unwrap_or(u32::MAX);
        if restarts > policy.max_restarts {
            return Verdict::Exhausted;
        }
        let growth = policy.backoff_factor.powi((restarts - 1).min(1_000).cast_signed());
        let wait =
            (policy.backoff_initial.as_secs_f64() * growth).min(policy.backoff_max.as_secs_f64());
        let wait = wait * (1.0 + policy.backoff_jitter * (2.0 * chance - 1.0));
        Verdict::RestartAfter(Duration::from_secs_f64(wait.max(0.0)))
    }

    /// Crashes within the window that ends at `now`.
    pub fn recent(&mut self, policy: &RestartPolicy, now: Millis) -> u32 {
        self.forget(policy, now);
        u32::try_from(self.crashes.len()).unwrap_or(u32::MAX)
    }

    /// An operator resumed it: the past does not count any more.
    pub fn pardon(&mut self) {
        self.crashes.clear();
    }

    fn forget(&mut self, policy: &RestartPolicy, now: Millis) {
        // A clock set back must not make a crash count for ever.
        self.crashes.retain(|&at| at <= now && now.since(at) < policy.window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RestartPolicy {
        RestartPolicy {
            max_restarts: 3,
            window: Duration::from_secs(60),
            backoff_initial: Duration::from_millis(100),
            backoff_max: Duration::from_millis(300),
            backoff_factor: 2.0,
            backoff_jitter: 0.0,
        }
    }

    #[test]
    fn waits_grow_to_the_cap_and_the_intensity_ends_them() {
        let mut history = RestartHistory::default();
        let verdicts: Vec<Verdict> =
            (0..4).map(|n| history.crashed(&policy(), Millis(n * 1_000), 0.5)).collect();
        assert_eq!(
            verdicts,
            [
                Verdict::RestartAfter(Duration::from_millis(100)),
                Verdict::RestartAfter(Duration::from_millis(200)),
                Verdict::RestartAfter(Duration::from_millis(300)),
                Verdict::Exhausted,
            ]
        );
    }

    #[test]
    fn crashes_outside_the_window_are_forgotten() {
        let mut history = RestartHistory::default();
        for n in 0..20 {
            let verdict = history.crashed(&policy(), Millis(n * 30_000), 0.5);
            assert_ne!(verdict, Verdict::Exhausted);
        }
        assert_eq!(history.recent(&policy(), Millis(10_000_000)), 0);
    }

    #[test]
    fn a_clock_set_back_forgives() {
        let mut history = RestartHistory::default();
        for _ in 0..3 {
            history.crashed(&policy(), Millis(1_000_000), 0.5);
        }
        assert_eq!(
            history.crashed(&policy(), Millis(5), 0.5),
            Verdict::RestartAfter(Duration::from_millis(100))
        );
    }
}
