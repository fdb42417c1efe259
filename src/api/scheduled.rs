//! Delayed emits: listed and cancelled while they wait.

use actix_web::{
    HttpResponse, delete, get,
    web::{Data, Json, Path, ServiceConfig},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    auth::{Editor, Viewer},
    error::ApiError,
    events::CauseOut,
    extract::{self, At, Page, Query},
    openapi::Problems,
    system::note,
};
use crate::{
    Runtime,
    domain::{Millis, ScheduledId},
    store::journal::Scheduled,
};

const LIST: &str = "scheduled";

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(list).service(cancel);
}

/// A delayed emit that waits for its time.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ScheduledOut {
    pub id: ScheduledId,
    pub due_at: Millis,
    pub created_at: Millis,
    #[serde(rename = "type")]
    pub event_type: String,
    pub source: String,
    #[schema(required = true)]
    pub subject: Option<String>,
    #[schema(value_type = serde_json::Value)]
    pub data: Option<Box<RawValue>>,
    #[schema(required = true)]
    pub cause: Option<CauseOut>,
}

impl From<Scheduled> for ScheduledOut {
    fn from(scheduled: Scheduled) -> Self {
        let event = scheduled.event;
        Self {
            id: scheduled.id,
            due_at: scheduled.due_at,
            created_at: scheduled.created_at,
            event_type: event.envelope.event_type.to_string(),
            source: event.envelope.source.to_string(),
            subject: event.envelope.subject.as_deref().map(str::to_owned),
            data: serde_json::from_slice(&event.data).ok(),
            cause: event.lineage.cause.map(|cause| CauseOut {
                event_id: cause.event,
                subscription_id: cause.subscription,
            }),
        }
    }
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ScheduledSearch {
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u64>,
    pub cursor: Option<String>,
}

/// Lists delayed emits, the soonest first.
#[utoipa::path(get, path = "/api/v1/scheduled", tag = "scheduled", operation_id = "list_scheduled", params(ScheduledSearch), responses((status = 200, body = Page<ScheduledOut>), Problems))]
#[get("/scheduled")]
async fn list(
    _: Viewer,
    runtime: Data<Runtime>,
    search: Query<ScheduledSearch>,
) -> Result<Json<Page<ScheduledOut>>, ApiError> {
    let limit = extract::limit(search.limit)?;
    let after = extract::cursor(LIST, search.cursor.as_deref())?.map(|At(at, id)| (at, id));
    let waiting = runtime.store().scheduled().waiting(after, limit + 1).await?;
    let cursor = |scheduled: &Scheduled| format!("{}.{}", scheduled.due_at.0, scheduled.id);
    Ok(Json(Page::of(LIST, waiting, limit, cursor, ScheduledOut::from)))
}

/// Cancels a delayed emit that still waits.
#[utoipa::path(delete, path = "/api/v1/scheduled/{id}", tag = "scheduled", operation_id = "cancel_scheduled", params(("id" = ScheduledId, Path)), responses((status = 204), Problems))]
#[delete("/scheduled/{id}")]
async fn cancel(
    editor: Editor,
    runtime: Data<Runtime>,
    id: Path<ScheduledId>,
) -> Result<HttpResponse, ApiError> {
    if runtime.store().scheduled().find(*id).await?.is_none() {
        return Err(ApiError::not_found("scheduled emit", *id));
    }
    runtime.journal().cancel(*id).await?;
    note(&runtime, &editor.0, "scheduled.cancel", format!("scheduled emit {id}"), None).await?;
    Ok(HttpResponse::NoContent().finish())
}
