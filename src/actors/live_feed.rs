//! The live feed: what dashboards hear while they watch.
//!
//! Receives `Told` (journal). Builds messages only while somebody listens, at most one in a tenth of
//! a second: thousands of commits would only cost both sides time that nobody can see. A listener that
//! is too slow loses messages and is told how many, because a screen must never slow the journal.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use serde::Serialize;
use tokio::sync::broadcast;

use super::journal::{Committed, Told};
use crate::{
    domain::{EventId, Millis, SubscriptionId, block::Outcome},
    store::journal::SubscriptionChange,
};

/// Messages that a slow listener may lag behind.
const LAG_MAX: usize = 256;
/// Events and outcomes that one message lists; the counts are always true.
const LISTED_MAX: usize = 100;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(100);

/// The way in. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct LiveFeed(broadcast::Sender<Arc<LiveMessage>>);

/// What was committed since the last message, as a screen wants it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LiveMessage {
    pub at: Millis,
    /// Seq of the last event of the log.
    pub seq: u64,
    /// Events accepted; `events` lists the first hundred.
    pub accepted: usize,
    pub events: Vec<LiveEvent>,
    pub succeeded: usize,
    pub failed: usize,
    pub dead: usize,
    /// The first hundred outcomes.
    pub outcomes: Vec<LiveOutcome>,
    /// Subscriptions that were changed.
    pub changed: Vec<SubscriptionId>,
}

#[derive(Clone, Debug, Serialize)]
pub struct LiveEvent {
    pub seq: u64,
    pub uid: EventId,
    #[serde(rename = "type")]
    pub event_type: Arc<str>,
    pub source: Arc<str>,
    pub subject: Option<Arc<str>>,
    pub bytes: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct LiveOutcome {
    pub subscription_id: SubscriptionId,
    pub seq: u64,
    pub outcome: &'static str,
    pub attempt: u32,
    pub duration_us: u64,
}

impl Default for LiveFeed {
    fn default() -> Self {
        Self(broadcast::channel(LAG_MAX).0)
    }
}

impl LiveFeed {
    /// Everything from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<LiveMessage>> {
        self.0.subscribe()
    }
}

impl LiveMessage {
    fn add(&mut self, committed: &Committed) {
        let count = |outcome| committed.outcomes.iter().filter(|e| e.outcome == outcome).count();
        self.at = committed.at;
        self.seq = committed.upto.0;
        self.accepted += committed.events.len();
        self.succeeded += count(Outcome::Succeeded);
        self.failed += count(Outcome::Retrying);
        self.dead += count(Outcome::Dead);
        self.changed.extend(committed.changes.iter().map(SubscriptionChange::id));
        let room = LISTED_MAX - self.events.len();
        self.events.extend(committed.events.iter().take(room).map(|event| LiveEvent {
            seq: event.seq.0,
            uid: event.uid,
            event_type: Arc::clone(&event.envelope.event_type),
            source: Arc::clone(&event.envelope.source),
            subject: event.envelope.subject.clone(),
            bytes: event.data.len(),
        }));
        let room = LISTED_MAX - self.outcomes.len();
        let told = committed.outcomes.iter().filter(|entry| entry.outcome != Outcome::Noted);
        self.outcomes.extend(told.take(room).map(|entry| LiveOutcome {
            subscription_id: entry.subscription,
            seq: entry.seq.0,
            outcome: entry.outcome.as_str(),
            attempt: entry.attempt,
            duration_us: entry.duration_us,
        }));
    }
}

pub(crate) struct LiveFeedActor {
    feed: LiveFeed,
    /// What was committed since the last message, if anything was.
    pending: Option<LiveMessage>,
    /// The last message is younger than [`PAUSE`].
    pausing: bool,
}

impl LiveFeedActor {
    pub(crate) const fn new(feed: LiveFeed) -> Self {
        Self { feed, pending: None, pausing: false }
    }

    /// Sends what is pending, and keeps quiet for a while; a feed at rest sends at once.
    fn send(&mut self, context: &mut Context<Self>) {
        let Some(message) = self.pending.take() else {
            self.pausing = false;
            return;
        };
        // Nobody may be listening any more: then there is nobody to miss it.
        let _ = self.feed.0.send(Arc::new(message));
        self.pausing = true;
        context.run_later(PAUSE, Self::send);
    }
}

impl Actor for LiveFeedActor {
    type Context = Context<Self>;
}

impl Handler<Told> for LiveFeedActor {
    type Result = ();

    fn handle(&mut self, Told(committed): Told, context: &mut Context<Self>) {
        if self.feed.0.receiver_count() == 0 {
            self.pending = None;
            return;
        }
        self.pending.get_or_insert_default().add(&committed);
        if !self.pausing {
            self.send(context);
        }
    }
}
