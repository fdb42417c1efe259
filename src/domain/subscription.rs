//! Subscriptions: which events, to which script, in which order, how often.

use serde::{Deserialize, Serialize};

use super::{Millis, RateLimit, RetryPolicy, ScriptId, Seq, Span, SubscriptionId, TypePattern};

#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    pub id: SubscriptionId,
    pub name: String,
    pub definition: Definition,
    /// First seq that meets `definition`; earlier events meet an earlier one.
    pub from_seq: Seq,
    /// Paused and suspended are kept beside the definition: what matches is kept for later.
    pub paused: bool,
    /// Why the runtime stopped it (breaker, restarts spent, strict order); an operator resumes it.
    pub suspended: Option<String>,
    /// Behind: reads stored events from here through its own filter. `None`: fed live.
    pub cursor: Option<Seq>,
    pub created_at: Millis,
    pub updated_at: Millis,
    /// Grows with every change; the `ETag`.
    pub revision: u64,
}

/// What decides which events a subscription takes and how they run. Changes take effect at a seq.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    pub script: ScriptId,
    /// Pins a version; `None` runs the one current when an attempt starts.
    pub script_version: Option<u32>,
    pub event_type: TypePattern,
    /// Canonical text of the filter; `None` takes every event of the type.
    pub filter: Option<String>,
    pub is_active: bool,
    pub retry_policy: RetryPolicy,
    /// Runtimes at work at once: 1 to 64.
    pub concurrency: u32,
    pub ordering: Ordering,
    /// Singular path into the payload (or `event.subject`, …) whose value is the key of strict
    /// order; `None` orders the whole subscription.
    pub ordering_key: Option<String>,
    pub on_dead: OnDead,
    pub limits: Limits,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// First in, first out; a failing delivery steps aside and later ones go on.
    #[default]
    Relaxed,
    /// A failing delivery blocks its key until it succeeds or dies.
    Strict,
}

/// What a strict subscription does once a delivery is dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDead {
    #[default]
    Suspend,
    Continue,
}

/// A subscription's own limits; `None` takes the operator's default, and none may pass the
/// operator's maximum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// CPU time of one run, in milliseconds.
    pub cpu_ms: Option<u64>,
    /// Time of one run on the clock, in milliseconds.
    pub wall_ms: Option<u64>,
    /// Heap of one runtime, in bytes.
    pub memory_bytes: Option<u64>,
    /// How often runs may start; `None`: as often as there is something to do.
    pub rate_limit: Option<RateLimit>,
    /// A delivery that could not start so long after its event was accepted is dead-lettered as
    /// `expired`; `None`: it waits for as long as it takes.
    pub expires_after: Option<Span>,
}

/// What the API calls `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    Active,
    Paused,
    Suspended,
    /// `is_active` is false: events are not matched; what matched before still runs.
    Inactive,
}

impl Subscription {
    #[must_use]
    pub fn state(&self) -> SubscriptionState {
        if self.suspended.is_some() {
            SubscriptionState::Suspended
        } else if self.paused {
            SubscriptionState::Paused
        } else if self.definition.is_active {
            SubscriptionState::Active
        } else {
            SubscriptionState::Inactive
        }
    }

    /// True when deliveries may start: neither paused nor suspended.
    #[must_use]
    pub fn runs(&self) -> bool {
        !self.paused && self.suspended.is_none()
    }
}
