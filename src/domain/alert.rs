//! Alert events: what the runtime says of itself as events, so that scripts can react to it.
//!
//! Their types lie under `tripline`, where nobody else publishes, and only patterns that name them
//! take them ([`super::event::is_reserved`]). Data has the names that the API has for the same
//! things; `link` is a path in the dashboard.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    BulkId, Cause, DataEncoding, Envelope, ErrorKind, EventId, LetterId, Lineage, Millis, NewEvent,
    ScheduledId, ScriptId, SubscriptionId,
};

/// Source of all alert events.
pub const SOURCE: &str = "/tripline";
/// Longest message of an error in an alert, in characters.
const MESSAGE_CHARS: usize = 1_000;

/// A delivery has become a dead letter, or has died again in a replay.
#[derive(Clone, Debug)]
pub struct Died<'a> {
    pub letter: LetterId,
    pub subscription: SubscriptionId,
    pub subscription_name: &'a str,
    pub script: ScriptId,
    pub script_version: u32,
    pub event: EventId,
    pub event_type: &'a str,
    /// Of that event.
    pub lineage: &'a Lineage,
    pub error_kind: ErrorKind,
    pub message: &'a str,
    pub fingerprint: &'a str,
    pub attempts: u32,
    pub replays: u32,
    pub first_failed_at: Millis,
    pub died_at: Millis,
}

impl Died<'_> {
    /// The letter's first death, and each death in a replay, is one event.
    ///
    /// It descends from the event that died: what reacts to an alert is bounded by `limits.max_hops`
    /// as any chain of emits is.
    #[must_use]
    pub fn event(&self) -> NewEvent {
        let message: String = self.message.chars().take(MESSAGE_CHARS).collect();
        let data = json!({
            "id": self.letter,
            "subscription_id": self.subscription,
            "subscription_name": self.subscription_name,
            "script_id": self.script,
            "script_version": self.script_version,
            "event_id": self.event,
            "event_type": self.event_type,
            "error_kind": self.error_kind,
            "last_error": message,
            "fingerprint": self.fingerprint,
            "attempts": self.attempts,
            "replays": self.replays,
            "first_failed_at": self.first_failed_at,
            "died_at": self.died_at,
            "link": format!("/dead-letters/{}", self.letter),
        });
        NewEvent {
            lineage: Lineage {
                cause: Some(Cause { event: self.event, subscription: self.subscription }),
                hop: self.lineage.hop + 1,
                spread: self.lineage.spread,
            },
            ..event(
                "tripline.dead_letter.created",
                Some(format!("{}.{}", self.letter, self.replays)),
                Some(self.subscription),
                &data,
            )
        }
    }
}

/// More deliveries died within a minute than are announced one by one ([`super::storm`]). `id` is
/// that of the row the event waits in; `of` the subscription and its name, `None` for several.
#[must_use]
pub fn suppressed(
    id: ScheduledId,
    of: Option<(SubscriptionId, &str)>,
    count: u64,
    from: Millis,
    until: Millis,
) -> NewEvent {
    let link = of.map_or_else(
        || "/dead-letters".to_owned(),
        |(id, _)| format!("/dead-letters?subscription_id={id}"),
    );
    let data = json!({
        "subscription_id": of.map(|(id, _)| id),
        "subscription_name": of.map(|(_, name)| name),
        "count": count,
        "from": from,
        "until": until,
        "link": link,
    });
    event("tripline.dead_letter.suppressed", Some(id.to_string()), of.map(|(id, _)| id), &data)
}

/// A subscription was suspended by the runtime.
#[must_use]
pub fn suspended(id: SubscriptionId, name: &str, reason: &str) -> NewEvent {
    let data = json!({
        "subscription_id": id,
        "subscription_name": name,
        "reason": reason.chars().take(MESSAGE_CHARS).collect::<String>(),
        "link": format!("/subscriptions/{id}"),
    });
    event("tripline.subscription.suspended", None, Some(id), &data)
}

/// A suspended subscription was resumed by a person. `revision` is what it had until then: two who
/// resume it at once are one event.
#[must_use]
pub fn resumed(id: SubscriptionId, name: &str, reason: &str, revision: u64) -> NewEvent {
    let data = json!({
        "subscription_id": id,
        "subscription_name": name,
        "suspended_for": reason.chars().take(MESSAGE_CHARS).collect::<String>(),
        "link": format!("/subscriptions/{id}"),
    });
    event("tripline.subscription.resumed", Some(format!("{id}.{revision}")), Some(id), &data)
}

/// The journal takes events again. `code` is `disk_full` or `store_failed`.
#[must_use]
pub fn opened(
    code: &str,
    detail: &str,
    closed_at: Millis,
    opened_at: Millis,
    times: u64,
) -> NewEvent {
    let data = json!({
        "reason": code,
        "detail": detail,
        "closed_at": closed_at,
        "opened_at": opened_at,
        "times": times,
        "link": "/",
    });
    event("tripline.intake.opened", None, None, &data)
}

/// A bulk operation on dead letters has taken its last letter.
#[must_use]
pub fn bulk_finished(
    id: BulkId,
    action: &str,
    total: u64,
    done: u64,
    began: Millis,
    ended: Millis,
) -> NewEvent {
    let data = json!({
        "id": id,
        "action": action,
        "total": total,
        "done": done,
        "created_at": began,
        "finished_at": ended,
        "link": "/dead-letters",
    });
    event("tripline.bulk.finished", Some(id.to_string()), None, &data)
}

fn event(
    event_type: &str,
    id: Option<String>,
    subject: Option<SubscriptionId>,
    data: &Value,
) -> NewEvent {
    NewEvent {
        envelope: Envelope {
            id: id.map(Arc::from),
            source: SOURCE.into(),
            event_type: event_type.into(),
            subject: subject.map(|id| id.to_string().into()),
            time: None,
            datacontenttype: None,
            dataschema: None,
            extensions: None,
            encoding: DataEncoding::Json,
        },
        data: data.to_string().into(),
        lineage: Lineage::default(),
    }
}
