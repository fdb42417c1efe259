//! Subscriptions, as the API and embedding applications handle them.

use std::{collections::HashMap, rc::Rc, time::Duration};

use super::{CoreHandle, Runtime, Stopped};
use crate::{
    actors::{
        core::{Core, Slot},
        journal::{ChangeKind, Request, Settlement, WriteError},
        supervisor::Pardon,
    },
    domain::{
        Definition, Kind, Millis, Ordering, Seq, Subscription, SubscriptionId, SubscriptionState,
        alert, recent::RecentRuns,
    },
    filter::{self, Filter, KeyPath, View},
    store, telemetry,
};

/// The way to subscriptions.
#[derive(Clone)]
pub struct Subscriptions(pub(super) Runtime);

/// A subscription to be made.
#[derive(Clone, Debug)]
pub struct NewSubscription {
    pub name: String,
    pub definition: Definition,
    pub paused: bool,
}

/// A field that cannot be, and what was expected of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub field: &'static str,
    pub expected: String,
    /// 1-based column, for filters; with what is wrong there and how to mend it.
    pub column: Option<usize>,
    pub message: Option<String>,
    pub hint: Option<String>,
}

impl Field {
    fn plain(field: &'static str, expected: String) -> Self {
        Self { field, expected, column: None, message: None, hint: None }
    }
}

impl From<filter::Error> for Field {
    fn from(error: filter::Error) -> Self {
        Self {
            field: "filter",
            message: Some(error.to_string()),
            expected: error.expected,
            column: Some(error.column),
            hint: error.hint,
        }
    }
}

/// Why a subscription was not created or changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("there is no subscription {0}")]
    NotFound(SubscriptionId),
    #[error("{}: expected {}", .0.field, .0.expected)]
    Invalid(Field),
    #[error("a subscription named \"{0}\" exists")]
    NameTaken(String),
    #[error("the subscription was changed meanwhile: revision {current}, not {expected}")]
    Outdated { current: u64, expected: u64 },
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a subscription was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// Deliveries that have not ended.
    #[error("{0} deliveries are unfinished")]
    Unfinished(u64),
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// A backfill, done or only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backfill {
    pub from: Seq,
    /// Stored events from there on that match and were not delivered yet.
    pub matched: u64,
    pub scanned: u64,
}

/// What a subscription is doing.
#[derive(Clone, Debug)]
pub struct SubscriptionStatus {
    pub id: SubscriptionId,
    pub state: SubscriptionState,
    /// Deliveries not yet settled, wherever they wait.
    pub depth: u64,
    pub in_hand: u64,
    pub running: u64,
    /// Waiting for a retry, a replay, or their turn in a row of their own.
    pub waiting: u64,
    /// When its rate limit lets the next run start, while it holds one back.
    pub rate_limited_until: Option<Millis>,
    /// First event it has not been given, when it is behind.
    pub behind_from: Option<Seq>,
    pub succeeded: u64,
    pub failed: u64,
    pub dead: u64,
    /// Runs that succeeded and were not kept, under pressure: their outcomes were.
    pub sampled: u64,
    pub cpu_us: u64,
    pub wall_us: u64,
    /// From the moment runs were due to their start.
    pub waited_us: u64,
    pub heap_bytes: u64,
    /// Calls of its runs that left the lane, and runs that went again for a conflict over keys.
    pub host_calls: u64,
    pub kv_conflicts: u64,
    /// Of the last one to two minutes.
    pub recent: RecentRuns,
    pub restarts: u32,
    pub last_crash: Option<(Millis, String)>,
    pub last_error: Option<String>,
}

impl Subscriptions {
    fn core(&self) -> &CoreHandle {
        &self.0.0.core
    }

    /// Checks what can be checked without the store, and makes the filter canonical.
    pub fn check(&self, definition: &mut Definition) -> Result<(), Field> {
        let wrong = |field, expected: String| Err(Field::plain(field, expected));
        if let Some(text) = &definition.filter {
            definition.filter = Some(Filter::parse(text)?.to_string());
        }
        if let Some(text) = &definition.ordering_key
            && let Err(error) = KeyPath::parse(text)
        {
            let expected = format!("a singular path such as $.customer.id ({error})");
            return wrong("ordering_key", expected);
        }
        if let Err((field, expected)) = definition.retry_policy.check() {
            return wrong(field, expected.to_owned());
        }
        if !(1..=64).contains(&definition.concurrency) {
            return wrong("concurrency", "a number from 1 to 64".into());
        }
        let strict = definition.ordering == Ordering::Strict;
        if strict && definition.concurrency > 1 && definition.ordering_key.is_none() {
            return wrong(
                "ordering_key",
                "a key, because strict order of the whole subscription allows no concurrency"
                    .into(),
            );
        }
        let (limits, max) = (definition.limits, &self.0.config().script.max);
        let bounds = [
            ("limits.cpu_ms", limits.cpu_ms, 1, max.cpu_ms),
            ("limits.wall_ms", limits.wall_ms, 1, max.wall_ms),
            ("limits.memory_bytes", limits.memory_bytes, 1 << 20, max.memory_bytes),
        ];
        for (field, value, least, most) in bounds {
            if value.is_some_and(|value| !(least..=most).contains(&value)) {
                return wrong(field, format!("a number from {least} to {most} (script.max)"));
            }
        }
        if let Some(Err((field, expected))) = limits.rate_limit.map(|rate| rate.check()) {
            return wrong(field, expected.to_owned());
        }
        if limits.expires_after.is_some_and(|age| age.0 < Duration::from_secs(1)) {
            return wrong("limits.expires_after", "a duration of at least \"1s\"".into());
        }
        Ok(())
    }

    async fn check_references(
        &self,
        id: Option<SubscriptionId>,
        name: &str,
        definition: &Definition,
    ) -> Result<(), ChangeError> {
        let store = self.0.store();
        let invalid =
            |field, expected: &str| ChangeError::Invalid(Field::plain(field, expected.into()));
        if name.trim().is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
            return Err(invalid("name", "1 to 200 bytes without control characters"));
        }
        if store.subscriptions().by_name(name).await?.is_some_and(|other| Some(other.id) != id) {
            return Err(ChangeError::NameTaken(name.to_owned()));
        }
        let Some(script) = store.scripts().find(definition.script).await? else {
            return Err(invalid("script_id", "the id of a script that exists"));
        };
        if script.kind == Kind::Module {
            return Err(invalid("script_id", "a script that runs: a module is only imported"));
        }
        if definition.script_version.is_some_and(|version| version == 0 || version > script.version)
        {
            return Err(invalid("script_version", "null, or a version of the script"));
        }
        Ok(())
    }

    /// Creates a subscription. It meets the events accepted after this returns.
    pub async fn create(&self, new: NewSubscription) -> Result<Subscription, ChangeError> {
        let NewSubscription { name, mut definition, paused } = new;
        self.check(&mut definition).map_err(ChangeError::Invalid)?;
        self.check_references(None, &name, &definition).await?;
        let id = SubscriptionId::fresh();
        let kind = ChangeKind::Create { id, name: name.clone(), definition, paused, cursor: None };
        self.commit(id, kind, &name).await
    }

    /// Changes a subscription. `revision`, if given, must be the current one.
    pub async fn update(
        &self,
        id: SubscriptionId,
        revision: Option<u64>,
        name: String,
        mut definition: Definition,
    ) -> Result<Subscription, ChangeError> {
        self.expect_revision(id, revision).await?;
        self.check(&mut definition).map_err(ChangeError::Invalid)?;
        self.check_references(Some(id), &name, &definition).await?;
        let kind = ChangeKind::Update { id, name: name.clone(), definition };
        self.commit(id, kind, &name).await
    }

    async fn expect_revision(
        &self,
        id: SubscriptionId,
        revision: Option<u64>,
    ) -> Result<Subscription, ChangeError> {
        let current = self.find(id).await?;
        match revision {
            Some(expected) if expected != current.revision => {
                Err(ChangeError::Outdated { current: current.revision, expected })
            }
            _ => Ok(current),
        }
    }

    async fn commit(
        &self,
        id: SubscriptionId,
        kind: ChangeKind,
        name: &str,
    ) -> Result<Subscription, ChangeError> {
        if let Err(error) = self.0.journal().change(kind).await {
            // Two at once with the same name: the store's own rule decides between them.
            let other = self.0.store().subscriptions().by_name(name).await?;
            return Err(match other {
                Some(other) if other.id != id => ChangeError::NameTaken(name.to_owned()),
                _ => error.into(),
            });
        }
        self.settled_in().await?;
        self.find(id).await
    }

    /// The core has seen what was committed: the change is in force for the next event.
    async fn settled_in(&self) -> Result<(), Stopped> {
        self.core().call(|_, _| Box::pin(async {})).await
    }

    /// The subscription as it is stored.
    pub async fn find(&self, id: SubscriptionId) -> Result<Subscription, ChangeError> {
        self.0.store().subscriptions().find(id).await?.ok_or(ChangeError::NotFound(id))
    }

    /// Stops deliveries from starting; what matches is kept for later.
    pub async fn pause(&self, id: SubscriptionId) -> Result<Subscription, ChangeError> {
        let now = self.find(id).await?;
        let kind = ChangeKind::State { id, paused: true, suspended: now.suspended };
        self.commit(id, kind, &now.name).await
    }

    /// Lets a paused or suspended subscription go on where it stood.
    pub async fn resume(&self, id: SubscriptionId) -> Result<Subscription, ChangeError> {
        let now = self.find(id).await?;
        let kind = ChangeKind::State { id, paused: false, suspended: None };
        let alert = now
            .suspended
            .as_deref()
            .filter(|_| self.0.journal().alerts())
            .map(|reason| alert::resumed(id, &now.name, reason, now.revision));
        self.0.journal().change_and_tell(kind, alert).await.map_err(ChangeError::from)?;
        self.settled_in().await?;
        let resumed = self.find(id).await?;
        // Its mailbox takes one message per resume.
        self.0.0.addresses.supervisor.do_send(Pardon(id));
        Ok(resumed)
    }

    /// Deletes a subscription. With unfinished deliveries only if they may be discarded.
    pub async fn delete(
        &self,
        id: SubscriptionId,
        revision: Option<u64>,
        discard: bool,
    ) -> Result<u64, DeleteError> {
        let subscription = self.expect_revision(id, revision).await?;
        let unfinished = self.unfinished(id).await?;
        if unfinished > 0 && !discard {
            return Err(DeleteError::Unfinished(unfinished));
        }
        let kind = ChangeKind::Delete { id };
        self.0.journal().change(kind).await.map_err(ChangeError::from)?;
        if discard {
            self.discard(&subscription).await?;
        }
        self.settled_in().await.map_err(ChangeError::from)?;
        if discard {
            // Rows that were on their way to the store when the first look was taken.
            self.0.journal().barrier().await;
            self.discard(&subscription).await?;
            self.0.journal().barrier().await;
        }
        Ok(unfinished)
    }

    async fn unfinished(&self, id: SubscriptionId) -> Result<u64, ChangeError> {
        // Rows are counted in the store: the slot's number leaves out what was not read yet.
        let rows = self.0.store().deliveries().count_of(id).await?;
        let memory = self
            .core()
            .call(move |core, _| {
                Box::pin(async move {
                    core.slot(id)
                        .map_or(0, |slot| slot.feed.borrow().in_hand() as u64 + slot.unread.get())
                })
            })
            .await?;
        Ok(rows + memory)
    }

    async fn discard(&self, subscription: &Subscription) -> Result<(), ChangeError> {
        let id = subscription.id;
        let rows = self.0.store().deliveries().of_subscription(id).await?;
        self.core()
            .call(move |core, _| {
                Box::pin(async move {
                    let out = core.rows_out.borrow().clone();
                    // What its actor has in hand it ends itself.
                    for row in rows.into_iter().filter(|row| !out.contains_key(&row.id)) {
                        let discarded = Settlement::discarded(&row);
                        core.journal.submit(Request::Settle(Box::new(discarded)));
                    }
                    if let Some(slot) = core.slot(id)
                        && let Some(handle) = slot.handle.borrow().as_ref()
                    {
                        handle.discard();
                    }
                })
            })
            .await?;
        Ok(())
    }

    /// Delivers stored events accepted at `from` or later that this subscription has not had yet.
    /// With `dry_run` it only counts them.
    pub async fn backfill(
        &self,
        id: SubscriptionId,
        from: Millis,
        dry_run: bool,
    ) -> Result<Backfill, ChangeError> {
        let subscription = self.find(id).await?;
        if let Some(age) = subscription.definition.limits.expires_after
            && Millis::now().since(from) > age.0
        {
            let expected = format!("a time within limits.expires_after ({age}) of now");
            return Err(ChangeError::Invalid(Field::plain("from", expected)));
        }
        let from = self.0.store().events().at_or_after(from).await?;
        if dry_run {
            return Ok(self.look_back(&subscription, from).await?.0);
        }
        // Nothing that settles from here on is forgotten, so what the store says is complete.
        self.on_slot(id, |core, slot| {
            let covering = slot.feed.borrow_mut().pin(core.routed.get());
            if let Some(covering) = covering {
                core.cover(slot, covering);
            }
        })
        .await?;
        self.0.journal().barrier().await;
        let looked = self.look_back(&subscription, from).await;
        let found = looked.as_ref().map(|(backfill, settled)| (*backfill, settled.clone())).ok();
        self.on_slot(id, move |core, slot| match found {
            Some((backfill, settled)) => {
                go_back(core, slot, backfill.from, settled);
                slot.unread.set(slot.unread.get() + backfill.matched);
            }
            None => slot.feed.borrow_mut().unpin(),
        })
        .await?;
        // The cursor is on disk: a crash does not forget the backfill.
        self.0.journal().barrier().await;
        Ok(looked?.0)
    }

    /// What a backfill from `from` would deliver, and what it passes over.
    async fn look_back(
        &self,
        subscription: &Subscription,
        from: Seq,
    ) -> Result<(Backfill, Vec<Seq>), ChangeError> {
        let settled = self.0.store().outcomes().settled_of(subscription.id, from).await?;
        let upto = self.0.journal().seq();
        let passed_over = settled.iter().copied().collect();
        let (matched, scanned) =
            self.count(&subscription.definition, from, upto, passed_over).await?;
        Ok((Backfill { from, matched, scanned }, settled))
    }

    /// Does something about a subscription on the core thread, unless it is gone.
    async fn on_slot(
        &self,
        id: SubscriptionId,
        work: impl FnOnce(&Rc<Core>, &Rc<Slot>) + Send + 'static,
    ) -> Result<(), Stopped> {
        let work = move |core: Rc<Core>, _| {
            if let Some(slot) = core.slot(id) {
                work(&core, &slot);
            }
            Box::pin(std::future::ready(())) as futures::future::LocalBoxFuture<'static, ()>
        };
        self.core().call(work).await
    }

    async fn count(
        &self,
        definition: &Definition,
        from: Seq,
        upto: Seq,
        settled: std::collections::HashSet<Seq>,
    ) -> Result<(u64, u64), ChangeError> {
        let filter = definition.filter.as_deref().and_then(|text| Filter::parse(text).ok());
        let (mut matched, mut scanned, mut after) = (0, 0, from.prev());
        loop {
            let events = self.0.store().events().range(after, 1_000, 8 << 20).await?;
            let Some(last) = events.last() else { break };
            after = last.seq;
            for event in events.iter().filter(|event| event.seq <= upto) {
                scanned += 1;
                let takes = definition.event_type.matches(&event.envelope.event_type)
                    && filter.as_ref().is_none_or(|filter| filter.matches(&View::new(event)));
                matched += u64::from(takes && !settled.contains(&event.seq));
            }
            if after >= upto {
                break;
            }
        }
        Ok((matched, scanned))
    }

    /// What these subscriptions are doing now; those that are gone are left out.
    pub async fn statuses_of(
        &self,
        ids: Vec<SubscriptionId>,
    ) -> Result<HashMap<SubscriptionId, SubscriptionStatus>, Stopped> {
        self.core()
            .call(move |core, _| {
                let slots = ids.iter().filter_map(|&id| core.slot(id));
                let found = slots.map(|slot| (slot.id, status(&core, &slot))).collect();
                Box::pin(std::future::ready(found))
            })
            .await
    }

    /// Sets the gauges of the metrics to what is now.
    pub(crate) async fn gauge(&self) -> Result<(), Stopped> {
        self.core()
            .call(move |core, _| {
                let slots = core.slots.borrow();
                let mut states = [("active", 0), ("paused", 0), ("suspended", 0), ("inactive", 0)];
                for slot in slots.values() {
                    states[state(&core, slot) as usize].1 += 1;
                }
                let held = slots.values().map(|slot| {
                    let memory_bytes = slot.tally.borrow().heap_bytes;
                    (slot.id, telemetry::Held { depth: slot.depth(), memory_bytes })
                });
                telemetry::subscriptions(held, &states);
                let lanes = core.sandbox.lanes();
                telemetry::lane_restarts(lanes.iter().map(|lane| u64::from(lane.restarts)).sum());
                Box::pin(std::future::ready(()))
            })
            .await
    }

    /// What every subscription is doing now.
    pub async fn statuses(&self) -> Result<HashMap<SubscriptionId, SubscriptionStatus>, Stopped> {
        self.core()
            .call(|core, _| {
                Box::pin(async move {
                    core.slots
                        .borrow()
                        .values()
                        .map(|slot| (slot.id, status(&core, slot)))
                        .collect()
                })
            })
            .await
    }
}

/// The cursor goes back to `from`, but what was settled above it is passed over, now and after a
/// crash.
fn go_back(core: &Rc<Core>, slot: &Rc<Slot>, from: Seq, settled: Vec<Seq>) {
    let covering = slot.feed.borrow_mut().go_back(from, settled);
    core.cover(slot, covering);
    if let Some(handle) = slot.handle.borrow().as_ref() {
        handle.drop_queue();
    }
}

pub(super) fn state(core: &Core, slot: &Slot) -> SubscriptionState {
    if slot.suspended.borrow().is_some() {
        SubscriptionState::Suspended
    } else if slot.paused.get() {
        SubscriptionState::Paused
    } else if core.index.borrow().contains(slot.id) {
        SubscriptionState::Active
    } else {
        SubscriptionState::Inactive
    }
}

fn status(core: &Core, slot: &Slot) -> SubscriptionStatus {
    let tally = slot.tally.borrow();
    let state = state(core, slot);
    SubscriptionStatus {
        id: slot.id,
        state,
        depth: slot.depth(),
        in_hand: slot.in_hand() as u64,
        running: u64::from(slot.in_flight.get()),
        waiting: slot.rows_waiting.get(),
        rate_limited_until: slot.held_until.get().filter(|&until| until > Millis::now()),
        behind_from: slot.feed.borrow().behind_from(),
        succeeded: tally.succeeded,
        failed: tally.failed,
        dead: tally.dead,
        sampled: tally.sampled,
        cpu_us: tally.cpu_us,
        wall_us: tally.wall_us,
        waited_us: tally.waited_us,
        heap_bytes: tally.heap_bytes,
        host_calls: tally.host_calls,
        kv_conflicts: tally.kv_conflicts,
        recent: tally.recent.as_ref().map(|recent| recent.runs(Millis::now())).unwrap_or_default(),
        restarts: tally.restarts,
        last_crash: tally.last_crash.clone(),
        last_error: tally.last_error.clone(),
    }
}
