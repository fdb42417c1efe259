//! Replays and discards of all letters that match, in the background.

use actix_web::{
    HttpResponse, delete, get, post,
    web::{Data, Json, Path, ServiceConfig},
};
use serde::{Deserialize, Serialize};

use super::{
    auth::{Caller, Editor, Viewer},
    dead_letters::WhichVersion,
    error::ApiError,
    extract::{Body, Page},
    openapi::Problems,
    system::note,
};
use crate::{
    Runtime,
    domain::{BulkId, ErrorKind, EventId, Millis, ScriptId, SubscriptionId, TypePattern},
    store::{BulkAction, BulkOperation, BulkState, LetterFilter, LetterStatus},
};

/// Most letters per second that a caller may ask for; without a rate it goes as fast as it can.
const RATE_MAX: u32 = 1_000_000;
/// Operations that are listed.
const RECENT: u64 = 100;

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(replay)
        .service(discard)
        .service(restore)
        .service(list)
        .service(show)
        .service(abort);
}

/// The filters of the list, and how fast; all parts must hold. Only letters that are dead now count,
/// for a restore those that are discarded now.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BulkIn {
    /// `dead`, if given, or `discarded` for a restore: no other letter can be taken.
    pub status: Option<LetterStatus>,
    pub subscription_id: Option<SubscriptionId>,
    pub script_id: Option<ScriptId>,
    /// A type, or a pattern with `*` and `**`.
    pub event_type: Option<String>,
    pub event_id: Option<EventId>,
    pub error_kind: Option<ErrorKind>,
    /// Part of the error's message, in any case.
    pub text: Option<String>,
    pub fingerprint: Option<String>,
    /// The bulk operation that discarded it: for a restore, this undoes that operation.
    pub discarded_by: Option<BulkId>,
    /// Died at this time or later.
    pub from: Option<Millis>,
    /// Died before this time.
    pub until: Option<Millis>,
    /// Letters per second at most; absent: as fast as it goes.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub rate: Option<u32>,
    /// For replays.
    pub script_version: Option<WhichVersion>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct BulkOut {
    pub id: BulkId,
    #[schema(value_type = String, example = "replay")]
    pub action: &'static str,
    pub script_version: WhichVersion,
    #[schema(value_type = serde_json::Value)]
    pub filter: LetterFilter,
    #[schema(required = true)]
    pub rate: Option<u32>,
    /// Letters that matched when it began.
    pub total: u64,
    /// Letters taken so far.
    pub done: u64,
    pub state: BulkState,
    pub created_at: Millis,
    #[schema(required = true)]
    pub finished_at: Option<Millis>,
}

impl From<BulkOperation> for BulkOut {
    fn from(operation: BulkOperation) -> Self {
        let (action, script_version) = match operation.action {
            BulkAction::Replay { pinned_original: true } => ("replay", WhichVersion::Original),
            BulkAction::Replay { pinned_original: false } => ("replay", WhichVersion::Current),
            BulkAction::Discard => ("discard", WhichVersion::Current),
            BulkAction::Restore => ("restore", WhichVersion::Current),
        };
        Self {
            id: operation.id,
            action,
            script_version,
            filter: operation.filter,
            rate: operation.rate,
            total: operation.total,
            done: operation.done,
            state: operation.state,
            created_at: operation.created_at,
            finished_at: operation.finished_at,
        }
    }
}

/// Replays all dead letters that match and died before now, each once, in the background.
#[utoipa::path(post, path = "/api/v1/dead-letters/replay", tag = "dead letters", operation_id = "replay_dead_letters", request_body = BulkIn, responses((status = 202, body = BulkOut), Problems))]
#[post("/dead-letters/replay")]
async fn replay(
    editor: Editor,
    runtime: Data<Runtime>,
    body: Body<BulkIn>,
) -> Result<HttpResponse, ApiError> {
    let body = body.into_inner();
    let pinned_original = body.script_version == Some(WhichVersion::Original);
    begin(&runtime, &editor.0, BulkAction::Replay { pinned_original }, body).await
}

/// Discards all dead letters that match and died before now, in the background.
#[utoipa::path(post, path = "/api/v1/dead-letters/discard", tag = "dead letters", operation_id = "discard_dead_letters", request_body = BulkIn, responses((status = 202, body = BulkOut), Problems))]
#[post("/dead-letters/discard")]
async fn discard(
    editor: Editor,
    runtime: Data<Runtime>,
    body: Body<BulkIn>,
) -> Result<HttpResponse, ApiError> {
    begin(&runtime, &editor.0, BulkAction::Discard, body.into_inner()).await
}

/// Makes all discarded letters that match dead again, in the background; `discarded_by` alone undoes
/// one bulk discard.
#[utoipa::path(post, path = "/api/v1/dead-letters/restore", tag = "dead letters", operation_id = "restore_dead_letters", request_body = BulkIn, responses((status = 202, body = BulkOut), Problems))]
#[post("/dead-letters/restore")]
async fn restore(
    editor: Editor,
    runtime: Data<Runtime>,
    body: Body<BulkIn>,
) -> Result<HttpResponse, ApiError> {
    begin(&runtime, &editor.0, BulkAction::Restore, body.into_inner()).await
}

async fn begin(
    runtime: &Runtime,
    caller: &Caller,
    action: BulkAction,
    body: BulkIn,
) -> Result<HttpResponse, ApiError> {
    if body.rate.is_some_and(|rate| !(1..=RATE_MAX).contains(&rate)) {
        return Err(ApiError::field("rate", format!("1 to {RATE_MAX} letters per second")));
    }
    let taken = match action {
        BulkAction::Replay { .. } | BulkAction::Discard => LetterStatus::Dead,
        BulkAction::Restore => LetterStatus::Discarded,
    };
    if body.status.is_some_and(|status| status != taken) {
        let expected = format!("{}: no other letter can be taken", taken.as_str());
        return Err(ApiError::field("status", expected));
    }
    if body.script_version.is_some() && !matches!(action, BulkAction::Replay { .. }) {
        return Err(ApiError::field("script_version", "nothing: only a replay runs a script"));
    }
    if let Some(text) = &body.event_type {
        TypePattern::parse(text)?;
    }
    let filter = LetterFilter {
        status: None,
        subscription_id: body.subscription_id,
        script_id: body.script_id,
        event_type: body.event_type,
        event_id: body.event_id,
        error_kind: body.error_kind,
        text: body.text,
        fingerprint: body.fingerprint,
        discarded_by: body.discarded_by,
        from: body.from,
        until: body.until,
    };
    let operation = runtime.dead_letters().bulk(action, filter, body.rate).await?;
    let out = BulkOut::from(operation);
    let detail = serde_json::json!({ "total": out.total, "filter": out.filter }).to_string();
    let verb = format!("dead_letters.{}", out.action);
    note(runtime, caller, &verb, format!("bulk {}", out.id), Some(detail)).await?;
    Ok(HttpResponse::Accepted().json(out))
}

/// Lists the latest bulk operations, the newest first.
#[utoipa::path(get, path = "/api/v1/bulk", tag = "dead letters", operation_id = "list_bulk", responses((status = 200, body = Page<BulkOut>), Problems))]
#[get("/bulk")]
async fn list(_: Viewer, runtime: Data<Runtime>) -> Result<Json<Page<BulkOut>>, ApiError> {
    let operations = runtime.store().bulk().recent(RECENT).await?;
    Ok(Json(Page { items: operations.into_iter().map(BulkOut::from).collect(), next: None }))
}

/// How far a bulk operation is.
#[utoipa::path(get, path = "/api/v1/bulk/{id}", tag = "dead letters", operation_id = "get_bulk", params(("id" = BulkId, Path)), responses((status = 200, body = BulkOut), Problems))]
#[get("/bulk/{id}")]
async fn show(
    _: Viewer,
    runtime: Data<Runtime>,
    id: Path<BulkId>,
) -> Result<Json<BulkOut>, ApiError> {
    let found = runtime.dead_letters().bulk_progress(*id).await?;
    found
        .map(|operation| Json(operation.into()))
        .ok_or_else(|| ApiError::not_found("bulk operation", *id))
}

/// Aborts a bulk operation; what it took already stays as it is.
#[utoipa::path(delete, path = "/api/v1/bulk/{id}", tag = "dead letters", operation_id = "abort_bulk", params(("id" = BulkId, Path)), responses((status = 200, body = BulkOut), Problems))]
#[delete("/bulk/{id}")]
async fn abort(
    editor: Editor,
    runtime: Data<Runtime>,
    id: Path<BulkId>,
) -> Result<Json<BulkOut>, ApiError> {
    let aborted = runtime.dead_letters().abort(*id).await?;
    let aborted = aborted.ok_or_else(|| ApiError::not_found("bulk operation", *id))?;
    note(&runtime, &editor.0, "bulk.abort", format!("bulk {id}"), None).await?;
    Ok(Json(aborted.into()))
}
