//! Secrets: set, listed, removed by admins; nobody reads one.

use actix_web::{
    HttpResponse, delete, get, put,
    web::{Data, Json, Path, ServiceConfig},
};
use serde::{Deserialize, Serialize};

use super::{
    auth::Admin,
    error::ApiError,
    extract::{Body, Page},
    openapi::Problems,
    system::note,
};
use crate::{Runtime, domain::Millis, runtime::SecretInfo};

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(list).service(set).service(remove);
}

/// A secret: everything but what it is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct SecretOut {
    pub name: String,
    pub created_at: Millis,
    pub updated_at: Millis,
    /// False when the server lacks the key that sealed it: set it anew.
    pub readable: bool,
    /// Names of the scripts that it is granted to.
    pub scripts: Vec<String>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretIn {
    /// 8 to 16,384 bytes.
    pub value: String,
}

/// Lists the secrets, without what they are.
#[utoipa::path(get, path = "/api/v1/secrets", tag = "secrets", operation_id = "list_secrets", responses((status = 200, body = Page<SecretOut>), Problems))]
#[get("/secrets")]
async fn list(_: Admin, runtime: Data<Runtime>) -> Result<Json<Page<SecretOut>>, ApiError> {
    let mut items = Vec::new();
    for info in runtime.secrets().list() {
        items.push(shown(&runtime, info).await?);
    }
    Ok(Json(Page { items, next: None }))
}

/// Sets a secret; scripts that have it use the new one from their next attempt on.
#[utoipa::path(put, path = "/api/v1/secrets/{name}", tag = "secrets", operation_id = "set_secret", params(("name" = String, Path)), request_body = SecretIn, responses((status = 200, body = SecretOut), Problems))]
#[put("/secrets/{name}")]
async fn set(
    admin: Admin,
    runtime: Data<Runtime>,
    name: Path<String>,
    body: Body<SecretIn>,
) -> Result<Json<SecretOut>, ApiError> {
    let info = runtime.secrets().set(&name, body.into_inner().value).await?;
    note(&runtime, &admin.0, "secret.set", format!("secret {name}"), None).await?;
    Ok(Json(shown(&runtime, info).await?))
}

/// Removes a secret that is granted to no script.
#[utoipa::path(delete, path = "/api/v1/secrets/{name}", tag = "secrets", operation_id = "remove_secret", params(("name" = String, Path)), responses((status = 204), Problems))]
#[delete("/secrets/{name}")]
async fn remove(
    admin: Admin,
    runtime: Data<Runtime>,
    name: Path<String>,
) -> Result<HttpResponse, ApiError> {
    if !runtime.secrets().has(&name) {
        return Err(ApiError::not_found("secret", name));
    }
    runtime.secrets().remove(&name).await?;
    note(&runtime, &admin.0, "secret.remove", format!("secret {name}"), None).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn shown(runtime: &Runtime, info: SecretInfo) -> Result<SecretOut, ApiError> {
    let granted = runtime.secrets().granted(&info.name).await?;
    Ok(SecretOut {
        name: info.name,
        created_at: info.created_at,
        updated_at: info.updated_at,
        readable: info.readable,
        scripts: granted.into_iter().map(|(_, name)| name).collect(),
    })
}
