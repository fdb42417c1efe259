//! A backup of the store, streamed while it is made.

use actix_web::{
    HttpResponse,
    http::header::{CONTENT_DISPOSITION, CONTENT_ENCODING},
    post,
    web::{Data, ServiceConfig},
};

use super::{auth::Admin, error::ApiError, openapi::Problems, system::note};
use crate::Runtime;

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(back_up);
}

/// Makes a backup and streams it: everything that is committed when it begins, and nothing later.
///
/// The bytes are a file for `tripline restore`. One that ends before its last frame is none: whoever
/// reads it must check. Secrets stay sealed in it, and their key is not in it.
#[utoipa::path(post, path = "/api/v1/storage/backup", tag = "system", operation_id = "back_up", responses((status = 200, body = String, content_type = "application/octet-stream"), Problems))]
#[post("/storage/backup")]
async fn back_up(admin: Admin, runtime: Data<Runtime>) -> Result<HttpResponse, ApiError> {
    let backup = runtime.back_up().await?;
    let header = &backup.header;
    let detail = serde_json::to_string(&header.marker).map_err(ApiError::internal)?;
    let target = format!("store {}", header.store);
    note(&runtime, &admin.0, "storage.backup", target, Some(detail)).await?;
    let name = header.created_at.to_string().replace([':', '.'], "-");
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        // Its rows are deflated already.
        .insert_header((CONTENT_ENCODING, "identity"))
        .insert_header((
            CONTENT_DISPOSITION,
            format!("attachment; filename=\"tripline-{name}.backup\""),
        ))
        .streaming(backup.stream()))
}
