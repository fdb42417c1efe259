//! Verification: whether a stopped server's store keeps its promises.

use std::collections::HashMap;

use serde::Serialize;

use crate::{
    domain::{
        DataEncoding, Definition, Event, Seq, Subscription, SubscriptionId,
        block::{BlockEntry, Outcome},
    },
    filter::{Filter, View},
    store::{self, Inspected, Store, journal::DeliveryRow},
};

/// Findings that are kept of each check; all are counted.
const KEPT: usize = 20;
/// Events looked at together.
const WINDOW: u64 = 256;

/// What one check looked at, and what it found wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: String,
    /// Things looked at.
    pub looked: u64,
    /// Things wrong; [`Check::findings`] names the first of them.
    pub wrong: u64,
    pub findings: Vec<String>,
}

impl Check {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), looked: 0, wrong: 0, findings: Vec::new() }
    }

    fn find(&mut self, finding: String) {
        self.wrong += 1;
        if self.findings.len() < KEPT {
            self.findings.push(finding);
        }
    }

    fn of(name: &str, answer: Result<Vec<String>, store::Error>) -> Self {
        let mut check = Self { looked: 1, ..Self::new(name) };
        match answer {
            Ok(found) => found.into_iter().for_each(|finding| check.find(finding)),
            Err(error) => check.find(error.to_string()),
        }
        check
    }
}

/// Looks at everything. `seen` hears of how many events of how many were read.
///
/// # Errors
/// When there is no store to look at, or a server has it; what is wrong with a store is no error.
pub async fn verify(url: &str, mut seen: impl FnMut(u64, u64)) -> Result<Vec<Check>, store::Error> {
    let Inspected { store, .. } = &Store::inspect(url).await?;
    let mut checks = vec![Check::of("database", store.check_database().await)];
    let mut blocks = Check::new("outcome blocks");
    if let Err(error) = read_blocks(store, &mut blocks).await {
        blocks.find(error.to_string());
    }
    let (mut events, mut deliveries) = (Check::new("events"), Check::new("deliveries"));
    let looked = Look::open(store).await;
    let done = match looked {
        Ok(mut look) => look.all(store, &mut events, &mut deliveries, &mut seen).await,
        Err(error) => Err(error),
    };
    if let Err(error) = done {
        events.find(error.to_string());
    }
    checks.extend([events, blocks, deliveries]);
    for (name, answer) in store.contradictions().await {
        checks.push(Check::of(name, answer));
    }
    Ok(checks)
}

async fn read_blocks(store: &Store, check: &mut Check) -> Result<(), store::Error> {
    let mut after = 0;
    loop {
        let page = store.checked_blocks(after, WINDOW).await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = *last;
        check.looked += page.len() as u64;
        for (batch, found) in page {
            if let Err(wrong) = found {
                check.find(format!("batch {batch}: {wrong}"));
            }
        }
    }
}

/// What is needed to say which deliveries an event must have had.
struct Look {
    state: store::journal::JournalState,
    retained: Seq,
    subscriptions: Vec<Watched>,
    /// Of those that take exactly one type in all their definitions.
    by_type: HashMap<String, Vec<usize>>,
    /// All others.
    by_pattern: Vec<usize>,
}

struct Watched {
    id: SubscriptionId,
    name: String,
    cursor: Option<Seq>,
    /// Ascending.
    definitions: Vec<(Seq, Definition, Option<Filter>)>,
}

impl Look {
    async fn open(store: &Store) -> Result<Self, store::Error> {
        let (state, retained) = (store.state().await?, store.retained().await?);
        let mut look = Self {
            state,
            retained,
            subscriptions: Vec::new(),
            by_type: HashMap::new(),
            by_pattern: Vec::new(),
        };
        let mut after = None;
        loop {
            let page = store.subscriptions().after(after, 1_000).await?;
            let Some(last) = page.last() else { return Ok(look) };
            after = Some(last.id);
            for subscription in page {
                look.add(store, subscription).await?;
            }
        }
    }

    async fn add(&mut self, store: &Store, of: Subscription) -> Result<(), store::Error> {
        let mut definitions = Vec::new();
        for at in store.subscriptions().definitions_of(of.id, Seq::ZERO).await? {
            let filter = at.definition.filter.as_deref().map(Filter::parse).transpose();
            let filter = filter.map_err(|error| {
                store::Error::Damaged(format!("the filter of subscription {}: {error}", of.name))
            })?;
            definitions.push((at.from, at.definition, filter));
        }
        let index = self.subscriptions.len();
        let first = definitions.first().map(|(_, d, _)| d.event_type.clone());
        match first {
            Some(only)
                if only.is_exact() && definitions.iter().all(|(_, d, _)| d.event_type == only) =>
            {
                self.by_type.entry(only.as_str().to_owned()).or_default().push(index);
            }
            _ => self.by_pattern.push(index),
        }
        let Subscription { id, name, cursor, .. } = of;
        self.subscriptions.push(Watched { id, name, cursor, definitions });
        Ok(())
    }

    async fn all(
        &mut self,
        store: &Store,
        events: &mut Check,
        deliveries: &mut Check,
        seen: &mut impl FnMut(u64, u64),
    ) -> Result<(), store::Error> {
        let (mut after, mut expected) = (Seq::ZERO, self.retained);
        loop {
            let page = store.checked_events(after, WINDOW).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            events.looked += page.len() as u64;
            seen(after.0, self.state.seq.0);
            let mut whole = Vec::with_capacity(page.len());
            for (seq, event) in page {
                if seq > expected {
                    events.find(missing(expected, seq.prev()));
                }
                expected = expected.max(seq.next());
                match event {
                    Ok(event) => whole.push(event),
                    Err(wrong) => events.find(format!("event {seq}: {wrong}")),
                }
            }
            whole.retain(|event| event.seq >= self.retained);
            self.deliveries(store, &whole, deliveries).await?;
        }
        if expected <= self.state.seq {
            events.find(missing(expected, self.state.seq));
        }
        Ok(())
    }

    /// Each delivery of these events is settled, or pending: in a row, behind a cursor, or above
    /// the watermark.
    async fn deliveries(
        &self,
        store: &Store,
        events: &[Event],
        check: &mut Check,
    ) -> Result<(), store::Error> {
        let seqs: Vec<Seq> = events.iter().map(|event| event.seq).collect();
        let outcomes = match store.outcomes().of_events(&seqs).await {
            Ok(outcomes) => outcomes,
            // Named where the blocks are looked at.
            Err(store::Error::Damaged(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let rows = store.deliveries().of_events(&seqs).await?;
        for event in events {
            let none = Vec::new();
            let outcomes = outcomes.get(&event.seq).unwrap_or(&none);
            for watched in self.candidates(event) {
                let last = outcomes.iter().rev().find(|entry| entry.subscription == watched.id);
                if last.is_none() && !watched.takes(event) {
                    continue;
                }
                check.looked += 1;
                if let Some(wrong) = self.unsettled(event, watched, last, &rows) {
                    check.find(wrong);
                }
            }
        }
        Ok(())
    }

    fn candidates(&self, event: &Event) -> impl Iterator<Item = &Watched> {
        let exact = self.by_type.get(&*event.envelope.event_type);
        let all = exact.into_iter().flatten().chain(&self.by_pattern);
        all.map(|&index| &self.subscriptions[index])
    }

    /// Why a delivery is neither settled nor pending.
    fn unsettled(
        &self,
        event: &Event,
        watched: &Watched,
        last: Option<&BlockEntry>,
        rows: &[DeliveryRow],
    ) -> Option<String> {
        let pending = event.seq > self.state.watermark
            || watched.cursor.is_some_and(|cursor| cursor <= event.seq)
            || rows.iter().any(|row| row.seq == event.seq && row.subscription == watched.id);
        let state = match last.map(|entry| entry.outcome) {
            Some(Outcome::Succeeded | Outcome::Dead | Outcome::Discarded) => return None,
            _ if pending => return None,
            Some(_) => "failed once and is not tried again",
            None => "is neither settled nor pending",
        };
        let (seq, uid, name) = (event.seq, event.uid, &watched.name);
        Some(format!("event {seq} ({uid}) for subscription \"{name}\" {state}"))
    }
}

impl Watched {
    /// By the definition that was in force. Of an event that was erased nobody can say.
    fn takes(&self, event: &Event) -> bool {
        let after = self.definitions.partition_point(|(from, ..)| *from <= event.seq);
        let Some((_, definition, filter)) = after.checked_sub(1).map(|at| &self.definitions[at])
        else {
            return false;
        };
        definition.is_active
            && definition.event_type.matches(&event.envelope.event_type)
            && match filter {
                None => true,
                Some(_) if matches!(event.envelope.encoding, DataEncoding::Erased(_)) => false,
                Some(filter) => filter.matches(&View::new(event)),
            }
    }
}

fn missing(first: Seq, last: Seq) -> String {
    if first == last {
        format!("event {first} is missing")
    } else {
        format!("events {first} to {last} are missing")
    }
}
