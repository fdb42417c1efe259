//! Definitions as a subscription matches them by.

use std::cell::OnceCell;

use tracing::error;

use crate::{
    domain::{Definition, Event},
    filter::{Filter, KeyPath, View},
};

/// A definition, ready to be matched.
pub(super) struct Compiled {
    pub(super) definition: Definition,
    /// Parsed when it is first asked: the router's index has one already, and this one serves only
    /// who reads the log by itself. `None`: what is stored does not parse, and matches nothing.
    filter: OnceCell<Option<Filter>>,
    pub(super) key: Option<KeyPath>,
}
impl Compiled {
    pub(super) fn of(definition: Definition) -> Self {
        // Both were checked when the definition was saved; a filter that does not compile any more
        // would be a damaged store, and must match nothing rather than everything.
        let key = definition.ordering_key.as_deref().map(KeyPath::parse).transpose();
        Self { filter: OnceCell::new(), key: key.ok().flatten(), definition }
    }

    /// A filter that does not compile any more would be a damaged store, and must match nothing
    /// rather than everything.
    fn filter_takes(&self, text: &str, event: &Event) -> bool {
        let parse = || {
            let parsed = Filter::parse(text);
            if let Err(error) = &parsed {
                error!(%error, text, "a stored filter does not parse; it matches nothing");
            }
            parsed.ok()
        };
        let filter = self.filter.get_or_init(parse);
        filter.as_ref().is_some_and(|filter| filter.matches(&View::new(event)))
    }

    pub(super) fn matches(&self, event: &Event) -> bool {
        self.definition.is_active
            && self.definition.event_type.matches(&event.envelope.event_type)
            && self.definition.filter.as_deref().is_none_or(|text| self.filter_takes(text, event))
    }
}
