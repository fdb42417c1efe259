//! Backtests: what a changed filter or event type would have taken of the stored events.

use super::{ChangeError, Subscriptions};
use crate::{
    domain::{Event, SubscriptionId, TypePattern},
    filter::{Filter, View},
    store::EventFilter,
};

/// Events that one backtest looks at, at most.
pub const BACKTEST_EVENTS_MAX: u64 = 100_000;
/// Events of each kind that it shows.
pub const BACKTEST_EXAMPLES: usize = 20;
/// Events read at once.
const SLICE: u64 = 200;

/// What an event has to be like: a type, and content.
#[derive(Clone, Debug)]
pub struct Criteria {
    pub event_type: TypePattern,
    pub filter: Option<Filter>,
}

impl Criteria {
    #[must_use]
    pub fn take(&self, event: &Event) -> bool {
        self.event_type.matches(&event.envelope.event_type)
            && self.filter.as_ref().is_none_or(|filter| filter.matches(&View::new(event)))
    }
}

/// What changes; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    pub event_type: Option<TypePattern>,
    /// `Some(None)` takes the filter away.
    pub filter: Option<Option<Filter>>,
}

/// The newest stored events under both criteria.
#[derive(Debug)]
pub struct Backtest {
    pub before: Criteria,
    pub after: Criteria,
    pub checked: u64,
    pub newly_matched: Difference,
    pub no_longer_matched: Difference,
    pub still_matched: u64,
    pub still_unmatched: u64,
}

/// Events that one of the criteria takes and the other does not.
#[derive(Debug, Default)]
pub struct Difference {
    pub count: u64,
    /// The newest of them, at most [`BACKTEST_EXAMPLES`].
    pub examples: Vec<Event>,
}

impl Difference {
    fn add(&mut self, event: Event) {
        self.count += 1;
        if self.examples.len() < BACKTEST_EXAMPLES {
            self.examples.push(event);
        }
    }
}

impl Subscriptions {
    /// Compares what the subscription takes with what it would take, over the `last` stored events.
    /// Changes nothing.
    ///
    /// # Errors
    /// When the subscription is unknown or the store cannot be read.
    pub async fn backtest(
        &self,
        id: SubscriptionId,
        changed: Changed,
        last: u64,
    ) -> Result<Backtest, ChangeError> {
        let definition = self.find(id).await?.definition;
        let filter = definition.filter.as_deref().and_then(|text| Filter::parse(text).ok());
        let before = Criteria { event_type: definition.event_type, filter };
        let after = Criteria {
            event_type: changed.event_type.unwrap_or_else(|| before.event_type.clone()),
            filter: changed.filter.unwrap_or_else(|| before.filter.clone()),
        };
        let mut found = Backtest {
            before,
            after,
            checked: 0,
            newly_matched: Difference::default(),
            no_longer_matched: Difference::default(),
            still_matched: 0,
            still_unmatched: 0,
        };
        let mut oldest = None;
        let mut left = last.min(BACKTEST_EVENTS_MAX);
        while left > 0 {
            let events = self.0.store().events();
            let page = events.page(&EventFilter::default(), oldest, left.min(SLICE)).await?;
            let Some(last) = page.last() else { break };
            oldest = Some(last.seq);
            left -= page.len() as u64;
            page.into_iter().for_each(|event| found.compare(event));
        }
        Ok(found)
    }
}

impl Backtest {
    fn compare(&mut self, event: Event) {
        self.checked += 1;
        match (self.before.take(&event), self.after.take(&event)) {
            (false, true) => self.newly_matched.add(event),
            (true, false) => self.no_longer_matched.add(event),
            (true, true) => self.still_matched += 1,
            (false, false) => self.still_unmatched += 1,
        }
    }
}
