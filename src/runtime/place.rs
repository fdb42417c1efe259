//! The start of every subscription: read a page at a time, for a store may hold very many of them.

use std::{
    collections::{BTreeSet, HashMap},
    rc::Rc,
    sync::Arc,
};

use actix::Recipient;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    actors::{
        core::{Core, Slot, Suspects},
        subscription::PIPELINE,
        supervisor::{self, Crashed},
    },
    domain::{
        Definition, Event, Ordering, Seq, Subscription, SubscriptionId,
        changes::Changes,
        recovery::{self, Found},
    },
    store::{
        self,
        journal::{DeliveryRow, JournalState, RowStatus, SubscriptionChange},
    },
};

/// Subscriptions read at once.
const PAGE: u64 = 1_000;

/// What the store says of all subscriptions' deliveries.
pub(super) struct Unsettled {
    /// Above the watermark: settled, or held by rows.
    pub(super) settled: FxHashMap<SubscriptionId, FxHashSet<Seq>>,
    /// Rows of each that has any.
    pub(super) rows: HashMap<SubscriptionId, u64>,
    /// Suspects among them.
    pub(super) suspects: HashMap<SubscriptionId, u64>,
}

/// Starts the actors of all subscriptions, on the core thread.
pub(super) struct Placing<'a> {
    pub(super) core: &'a Rc<Core>,
    pub(super) crashed: &'a Recipient<Crashed>,
    pub(super) state: &'a JournalState,
    /// What may have been running when the process died is to run alone.
    pub(super) is_suspicious: bool,
    pub(super) unsettled: Unsettled,
    /// Definitions that take effect above the watermark: the router applies them on its way.
    pub(super) changes: Vec<SubscriptionChange>,
}

/// What one subscription starts with.
struct Standing {
    found: Found<Definition>,
    /// Events whose rows block their keys under strict order.
    held: Vec<Arc<Event>>,
}

impl Placing<'_> {
    /// Places all of them, and returns the changes that are to come, ascending.
    pub(super) async fn place_all(mut self) -> Result<Changes<SubscriptionChange>, store::Error> {
        let mut after = None;
        loop {
            let page = self.core.store.subscriptions().after(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            for subscription in page {
                let standing = self.standing(&subscription).await?;
                self.place(&subscription, standing);
            }
        }
        self.changes.sort_by_key(SubscriptionChange::from);
        let mut changes = Changes::default();
        for change in self.changes {
            changes.push(change.from(), change);
        }
        Ok(changes)
    }

    async fn standing(&self, subscription: &Subscription) -> Result<Standing, store::Error> {
        let (id, store) = (subscription.id, &self.core.store);
        let from = recovery::reads_from(subscription.cursor, self.state.watermark);
        let mut history = Vec::new();
        if subscription.from_seq > from {
            let found = store.subscriptions().definitions_of(id, from).await?;
            history.extend(found.into_iter().map(|at| (at.from, at.definition)));
        }
        if history.is_empty() {
            history.push((subscription.from_seq, subscription.definition.clone()));
        }
        let (mut done, mut held) = (BTreeSet::new(), Vec::new());
        if let Some(cursor) = subscription.cursor {
            let late = store.outcomes().late_of(id, cursor).await?;
            done.extend(late.iter().map(|entry| entry.seq));
        }
        let is_strict = subscription.definition.ordering == Ordering::Strict;
        if self.unsettled.rows.contains_key(&id) && (is_strict || subscription.cursor.is_some()) {
            let rows = store.deliveries().of_subscription(id).await?;
            done.extend(rows.iter().map(|row| row.seq));
            if is_strict {
                let holds =
                    |row: &&DeliveryRow| row.attempts > 0 || row.status == RowStatus::Suspect;
                let seqs: Vec<Seq> = rows.iter().filter(holds).map(|row| row.seq).collect();
                held = store.events().at(&seqs).await?.into_iter().map(Arc::new).collect();
            }
        }
        let (runs, cursor) = (subscription.runs(), subscription.cursor);
        Ok(Standing { found: Found { runs, cursor, done, history }, held })
    }

    fn place(&mut self, subscription: &Subscription, standing: Standing) {
        let Standing { mut found, held } = standing;
        let (core, id) = (self.core, subscription.id);
        found.done.extend(self.unsettled.settled.remove(&id).unwrap_or_default());
        let placed = recovery::place(found, self.state.watermark);
        let slot = Slot::new(subscription, placed.feed);
        slot.rows_waiting.set(self.unsettled.rows.get(&id).copied().unwrap_or_default());
        if self.is_suspicious {
            let marked = self.unsettled.suspects.get(&id).copied().unwrap_or_default();
            let left = u32::try_from((PIPELINE as u64).saturating_sub(marked)).unwrap_or(0);
            slot.suspects.set(Suspects { upto: self.state.seq, of_log: left, of_rows: left });
        }
        for (from, definition) in placed.to_come {
            self.changes.push(SubscriptionChange::Update {
                id,
                name: subscription.name.clone(),
                definition,
                from,
                at: subscription.updated_at,
            });
        }
        if let Some(definition) = &placed.indexed {
            supervisor::index(core, id, definition);
        }
        // A definition that is still to come counts: what dies during recovery is told of as well.
        let now = &subscription.definition;
        core.takes_alerts(id, now.is_active && now.event_type.is_of_runtime());
        if let Some(covering) = placed.cover {
            core.cover(&slot, covering);
        }
        supervisor::launch(core, self.crashed, slot, placed.history, held);
    }
}
