//! Sessions of the dashboard: log in with a token or a single-use code, log out, who am I.

use actix_web::{
    HttpRequest, HttpResponse, delete, get, post,
    web::{Data, Json, ServiceConfig},
};
use serde::{Deserialize, Serialize};

use super::{
    auth::{Caller, Doors, NotElsewhere, Viewer},
    error::ApiError,
    extract::Body,
    openapi::Problems,
};
use crate::domain::Role;

/// Whoever logs in has shown nothing yet: no more than a token has to fit.
const BYTES_MAX: usize = 4 << 10;

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(who).service(log_in).service(log_out);
}

/// Either a token or a code.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    pub token: Option<String>,
    /// From the login link that the server prints when it starts.
    pub code: Option<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct SessionOut {
    /// Name of the token.
    pub name: String,
    pub role: Role,
}

impl From<Caller> for SessionOut {
    fn from(caller: Caller) -> Self {
        Self { name: caller.name, role: caller.role }
    }
}

/// Who the token or the session is.
#[utoipa::path(get, path = "/api/v1/session", tag = "session", operation_id = "get_session", responses((status = 200, body = SessionOut), Problems))]
#[get("/session")]
async fn who(viewer: Viewer) -> Json<SessionOut> {
    Json(viewer.0.into())
}

/// Logs in: the answer sets the session's cookie.
#[utoipa::path(post, path = "/api/v1/session", tag = "session", operation_id = "log_in", request_body = Credentials, responses((status = 200, body = SessionOut), Problems), security(()))]
#[post("/session")]
async fn log_in(
    _: NotElsewhere,
    request: HttpRequest,
    doors: Data<Doors>,
    credentials: Body<Credentials, BYTES_MAX>,
) -> Result<HttpResponse, ApiError> {
    let Credentials { token, code } = credentials.into_inner();
    let credential = match (token, code) {
        (Some(credential), None) | (None, Some(credential)) => credential,
        _ => return Err(ApiError::field("token", "either token or code")),
    };
    let address = request.peer_addr().map_or_else(String::new, |address| address.ip().to_string());
    let (caller, secret) = doors.log_in(credential.trim(), &address).await?;
    Ok(HttpResponse::Ok().cookie(doors.cookie(secret)).json(SessionOut::from(caller)))
}

/// Logs out: the session ends here and in the browser.
#[utoipa::path(delete, path = "/api/v1/session", tag = "session", operation_id = "log_out", responses((status = 204), Problems))]
#[delete("/session")]
async fn log_out(
    _: Viewer,
    request: HttpRequest,
    doors: Data<Doors>,
) -> Result<HttpResponse, ApiError> {
    if let Some(cookie) = request.cookie(doors.cookie_name()) {
        doors.log_out(cookie.value()).await?;
    }
    Ok(HttpResponse::NoContent().cookie(doors.cookie(String::new())).finish())
}
