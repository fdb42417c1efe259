//! Plain data and pure functions: what events, subscriptions, deliveries and letters are.
//!
//! No I/O, no clock, no actor. Everything else in the crate speaks in these types.

pub mod access;
pub mod alert;
pub mod block;
pub mod breaker;
pub mod changes;
pub mod event;
pub mod feed;
pub mod history;
pub mod hook;
pub mod ids;
pub mod json;
pub mod kv;
pub mod outcome;
pub mod rate;
pub mod recent;
pub mod recovery;
pub mod restart;
pub mod retry;
pub mod script;
pub mod secret;
pub mod settle;
pub mod storm;
pub mod subscription;
pub mod time;
pub mod trace;
pub mod window;

pub use self::{
    access::{AuditEntry, Role, Token},
    event::{Cause, DataEncoding, Envelope, Event, Lineage, NewEvent, TypePattern},
    ids::{
        AuditId, BulkId, DeliveryId, EventId, LetterId, RunId, ScheduledId, ScriptId, Seq,
        SessionId, SubscriptionId, TokenId,
    },
    outcome::{ErrorKind, LogLevel, LogLine, RunError, RunLog},
    rate::RateLimit,
    retry::{Backoff, BackoffKind, RetryPolicy},
    script::{Kind, Language, Script, ScriptVersion},
    subscription::{Definition, Limits, OnDead, Ordering, Subscription, SubscriptionState},
    time::{Millis, Span, parse_span},
};
