//! The circuit breaker of a subscription: dead letters in a row.

use super::Millis;

/// Counts deaths with no success since the first attempt of each. Retries come due in clusters, so
/// twenty may die one after the other while nine in ten succeed.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    in_a_row: u32,
    last_success: Millis,
}

impl Breaker {
    pub fn succeeded(&mut self, now: Millis) {
        self.in_a_row = 0;
        self.last_success = now;
    }

    /// A delivery died that failed first at `first_failed`.
    pub fn died(&mut self, first_failed: Millis) {
        if first_failed > self.last_success {
            self.in_a_row += 1;
        }
    }

    /// Deaths in a row so far, if they are `limit` or more; 0 is no limit.
    #[must_use]
    pub fn tripped(&self, limit: u32) -> Option<u32> {
        (limit > 0 && self.in_a_row >= limit).then_some(self.in_a_row)
    }

    /// An operator resumed it: the past does not count any more.
    pub fn pardon(&mut self) {
        self.in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_of_what_failed_before_the_last_success_do_not_count() {
        let mut breaker = Breaker::default();
        breaker.died(Millis(5));
        breaker.died(Millis(6));
        assert_eq!(
            (breaker.tripped(3), breaker.tripped(2), breaker.tripped(0)),
            (None, Some(2), None)
        );
        breaker.succeeded(Millis(9));
        breaker.died(Millis(8));
        assert_eq!(breaker.tripped(1), None);
        breaker.died(Millis(10));
        assert_eq!(breaker.tripped(1), Some(1));
        breaker.pardon();
        assert_eq!(breaker.tripped(1), None);
    }
}
