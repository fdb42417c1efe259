//! A subscription's definition as JSON, for the history of definitions.

use serde::{Deserialize, Serialize};

use crate::domain::{Definition, Limits, OnDead, Ordering, RetryPolicy, ScriptId, TypePattern};

/// The stored shape. Fields that come later get a default, so that old rows still read.
#[derive(Serialize, Deserialize)]
struct Stored {
    script: ScriptId,
    script_version: Option<u32>,
    event_type: String,
    filter: Option<String>,
    is_active: bool,
    retry_policy: RetryPolicy,
    concurrency: u32,
    ordering: Ordering,
    ordering_key: Option<String>,
    on_dead: OnDead,
    #[serde(default)]
    limits: Limits,
}

pub(super) fn to_json(definition: &Definition) -> String {
    super::encode::json(&Stored {
        script: definition.script,
        script_version: definition.script_version,
        event_type: definition.event_type.to_string(),
        filter: definition.filter.clone(),
        is_active: definition.is_active,
        retry_policy: definition.retry_policy.clone(),
        concurrency: definition.concurrency,
        ordering: definition.ordering,
        ordering_key: definition.ordering_key.clone(),
        on_dead: definition.on_dead,
        limits: definition.limits,
    })
}

/// `None` for what this version cannot read.
pub(super) fn from_json(text: &str) -> Option<Definition> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    Some(Definition {
        script: stored.script,
        script_version: stored.script_version,
        event_type: TypePattern::parse(&stored.event_type).ok()?,
        filter: stored.filter,
        is_active: stored.is_active,
        retry_policy: stored.retry_policy,
        concurrency: stored.concurrency,
        ordering: stored.ordering,
        ordering_key: stored.ordering_key,
        on_dead: stored.on_dead,
        limits: stored.limits,
    })
}
