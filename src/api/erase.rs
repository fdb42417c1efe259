//! Erasing payloads: of one event, or of everything about a subject.

use actix_web::{
    post,
    web::{Data, Json, Path, ServiceConfig},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    auth::Admin, error::ApiError, events::stored, extract::Body, openapi::Problems, system::note,
};
use crate::{Runtime, domain::EventId, runtime::Erasure};

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(subject).service(one);
}

/// What was erased.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ErasedOut {
    /// Events; 0 when they were erased before.
    pub events: u64,
    /// Delayed emits that were cancelled.
    pub scheduled: u64,
    /// The store's files hold nothing of it any more; false while somebody reads the write-ahead
    /// log, which is overwritten later, and always on PostgreSQL, whose own log still holds it.
    pub overwritten: bool,
}

impl From<Erasure> for ErasedOut {
    fn from(erasure: Erasure) -> Self {
        let Erasure { events, scheduled, overwritten } = erasure;
        Self { events, scheduled, overwritten }
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SubjectIn {
    /// The events' `subject`, exactly.
    #[schema(min_length = 1)]
    pub subject: String,
}

/// Erases one event's payload for good, and what was made of it.
///
/// The event stays as a tombstone: `data` and `subject` are null, `erased_at` says when. Results, logs,
/// errors and recordings of its runs go, and so do edited payloads. What still waits is discarded; its
/// letters cannot be replayed.
#[utoipa::path(post, path = "/api/v1/events/{uid}/erase", tag = "events", operation_id = "erase_event", params(("uid" = EventId, Path)), responses((status = 200, body = ErasedOut), Problems))]
#[post("/events/{uid}/erase")]
async fn one(
    admin: Admin,
    runtime: Data<Runtime>,
    uid: Path<EventId>,
) -> Result<Json<ErasedOut>, ApiError> {
    let event = stored(&runtime, uid.into_inner()).await?;
    let erased = runtime.erase(event.seq, event.uid).await?;
    note(&runtime, &admin.0, "event.erase", format!("event {}", event.uid), None).await?;
    Ok(Json(erased.into()))
}

/// Erases the payloads of all events about a subject, and cancels delayed emits about it.
///
/// The audit trail keeps the subject's SHA-256, not the subject.
#[utoipa::path(post, path = "/api/v1/events/erase", tag = "events", operation_id = "erase_subject", request_body = SubjectIn, responses((status = 200, body = ErasedOut), Problems))]
#[post("/events/erase")]
async fn subject(
    admin: Admin,
    runtime: Data<Runtime>,
    body: Body<SubjectIn>,
) -> Result<Json<ErasedOut>, ApiError> {
    let SubjectIn { subject } = body.into_inner();
    if subject.is_empty() || subject.contains('\0') {
        return Err(ApiError::field("subject", "the subject of events"));
    }
    let erased = runtime.erase_subject(&subject).await?;
    let digest: String =
        Sha256::digest(subject.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let detail = serde_json::json!({ "events": erased.events, "scheduled": erased.scheduled });
    let target = format!("subject sha256:{digest}");
    note(&runtime, &admin.0, "event.erase", target, Some(detail.to_string())).await?;
    Ok(Json(erased.into()))
}
