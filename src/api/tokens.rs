//! Tokens: made, listed, revoked. The secret is in the answer to the making, and nowhere else.

use actix_web::{
    HttpResponse, delete, get, post,
    web::{Data, Json, Path, ServiceConfig},
};
use serde::{Deserialize, Serialize};

use super::{
    auth::{Admin, Doors},
    error::ApiError,
    extract::{self, Body, Page},
    openapi::Problems,
    system::note,
};
use crate::{
    Runtime,
    domain::{Millis, Role, Token, TokenId, access::REQUESTS_PER_S_MAX},
};

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(list).service(create).service(revoke);
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct TokenOut {
    pub id: TokenId,
    pub name: String,
    pub role: Role,
    /// The first characters of the token, to tell it from others.
    pub prefix: String,
    pub created_at: Millis,
    #[schema(required = true)]
    pub expires_at: Option<Millis>,
    #[schema(required = true)]
    pub last_used_at: Option<Millis>,
    #[schema(required = true)]
    pub revoked_at: Option<Millis>,
    /// Requests a second that it may make; null: as many as the server takes.
    #[schema(required = true)]
    pub requests_per_s: Option<u32>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct TokenCreated {
    #[serde(flatten)]
    pub token: TokenOut,
    /// The token itself: shown this once.
    pub secret: String,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenIn {
    pub name: String,
    pub role: Role,
    pub expires_at: Option<Millis>,
    /// Requests a second at most, with a second's worth at once; more are answered with 429. Absent:
    /// as many as the server takes.
    #[schema(minimum = 1, maximum = 100_000)]
    pub requests_per_s: Option<u32>,
}

impl From<Token> for TokenOut {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            name: token.name,
            role: token.role,
            prefix: token.prefix,
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
            revoked_at: token.revoked_at,
            requests_per_s: token.requests_per_s,
        }
    }
}

/// Lists all tokens, the ended ones included.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", operation_id = "list_tokens", responses((status = 200, body = Page<TokenOut>), Problems))]
#[get("/tokens")]
async fn list(_: Admin, doors: Data<Doors>) -> Result<Json<Page<TokenOut>>, ApiError> {
    let items = doors.tokens().into_iter().map(TokenOut::from).collect();
    Ok(Json(Page { items, next: None }))
}

/// Makes a token.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", operation_id = "create_token", request_body = TokenIn, responses((status = 201, body = TokenCreated), Problems))]
#[post("/tokens")]
async fn create(
    admin: Admin,
    doors: Data<Doors>,
    runtime: Data<Runtime>,
    token: Body<TokenIn>,
) -> Result<HttpResponse, ApiError> {
    let TokenIn { name, role, expires_at, requests_per_s } = token.into_inner();
    extract::name(&name)?;
    if expires_at.is_some_and(|end| end <= Millis::now()) {
        return Err(ApiError::field("expires_at", "a time to come"));
    }
    if requests_per_s.is_some_and(|rate| !(1..=REQUESTS_PER_S_MAX).contains(&rate)) {
        let expected = format!("a number from 1 to {REQUESTS_PER_S_MAX}");
        return Err(ApiError::field("requests_per_s", expected));
    }
    let fresh = doors.create(name, role, expires_at, requests_per_s).await?;
    note(&runtime, &admin.0, "token.create", format!("token {}", fresh.token.id), None).await?;
    let body = TokenCreated { token: fresh.token.into(), secret: fresh.secret };
    Ok(HttpResponse::Created().json(body))
}

/// Ends a token at once, and the sessions it opened.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "tokens", operation_id = "revoke_token", params(("id" = TokenId, Path)), responses((status = 204), Problems))]
#[delete("/tokens/{id}")]
async fn revoke(
    admin: Admin,
    doors: Data<Doors>,
    runtime: Data<Runtime>,
    id: Path<TokenId>,
) -> Result<HttpResponse, ApiError> {
    let id = id.into_inner();
    if !doors.revoke(id).await? {
        return Err(ApiError::not_found("token", id));
    }
    note(&runtime, &admin.0, "token.revoke", format!("token {id}"), None).await?;
    Ok(HttpResponse::NoContent().finish())
}
