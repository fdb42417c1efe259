//! Inbound webhooks: the door itself, and its definitions.

use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::header,
    patch, post,
    web::{Bytes, Data, Json, Path, Payload, ServiceConfig},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    auth::{Admin, Viewer},
    error::{ApiError, Code},
    events::Published,
    extract::{self, Body, Page, present},
    intake,
    openapi::Problems,
    system::note,
};
use crate::{
    Runtime,
    actors::journal::Incoming,
    domain::{
        Millis, Span,
        event::is_reserved,
        hook::{self, HMAC_HEADER, Hook, KEYS_MAX, Preset, TOLERANCE, Template},
    },
    runtime::{HookTally, OpenHook},
    store::journal::EventKey,
};

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(list).service(create).service(show).service(change).service(remove);
}

/// The doors lie beside the API, where the senders' forms expect an address.
pub(super) fn root_routes(app: &mut ServiceConfig) {
    app.service(deliver);
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct HookOut {
    /// Last part of its path, `/hooks/{name}`.
    pub name: String,
    pub preset: Preset,
    /// Names of the secrets whose signatures count.
    pub secrets: Vec<String>,
    /// Carries the signature of the preset `hmac`.
    pub header: String,
    /// Replay window of signed times.
    #[schema(value_type = String, example = "5m")]
    pub tolerance: Span,
    #[schema(value_type = String, example = "github.{header:x-github-event}")]
    pub event_type: Template,
    #[schema(value_type = Option<String>, required = true)]
    pub subject: Option<Template>,
    #[schema(value_type = Option<String>, required = true)]
    pub event_id: Option<Template>,
    pub is_active: bool,
    pub created_at: Millis,
    pub updated_at: Millis,
    pub revision: u64,
    /// Since the server started.
    pub activity: HookActivity,
}

/// What came through a hook since the server started.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct HookActivity {
    pub taken: u64,
    pub duplicates: u64,
    pub refused: u64,
    #[schema(required = true)]
    pub last_taken_at: Option<Millis>,
    /// The latest fifty, the newest first.
    pub refusals: Vec<RefusedOut>,
}

/// A delivery that was refused.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RefusedOut {
    pub at: Millis,
    #[schema(value_type = String, example = "wrong_signature")]
    pub reason: &'static str,
    pub detail: String,
    /// Address that it came from.
    #[schema(required = true)]
    pub from: Option<String>,
}

impl HookOut {
    fn of(open: &OpenHook) -> Self {
        let HookTally { taken, duplicates, refused, last_taken_at, refusals } = open.tally();
        let refusals = refusals.into_iter().map(|one| RefusedOut {
            at: one.at,
            reason: one.reason,
            detail: one.detail,
            from: one.from,
        });
        let hook = open.hook.clone();
        Self {
            name: hook.name,
            preset: hook.preset,
            secrets: hook.secrets,
            header: hook.header,
            tolerance: hook.tolerance,
            event_type: hook.event_type,
            subject: hook.subject,
            event_id: hook.event_id,
            is_active: hook.is_active,
            created_at: hook.created_at,
            updated_at: hook.updated_at,
            revision: hook.revision,
            activity: HookActivity {
                taken,
                duplicates,
                refused,
                last_taken_at,
                refusals: refusals.collect(),
            },
        }
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HookIn {
    /// Lower-case letters, digits, `-` and `_`.
    #[schema(example = "github")]
    pub name: String,
    pub preset: Preset,
    /// Names of one to four secrets; a signature by any of them counts.
    pub secrets: Vec<String>,
    /// Carries the signature of the preset `hmac`; absent: `x-signature`.
    pub header: Option<String>,
    /// Replay window of signed times; absent: 5m.
    #[schema(value_type = Option<String>)]
    pub tolerance: Option<Span>,
    /// Type of the events, with `{header:name}` and `{$.path}`; absent: the preset's.
    pub event_type: Option<String>,
    pub subject: Option<String>,
    /// Id of the events, by which a delivery that comes twice is taken once; absent: the preset's.
    pub event_id: Option<String>,
}

/// What is absent stays; null clears.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HookChange {
    pub preset: Option<Preset>,
    pub secrets: Option<Vec<String>>,
    pub header: Option<String>,
    #[schema(value_type = Option<String>)]
    pub tolerance: Option<Span>,
    pub event_type: Option<String>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub subject: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub event_id: Option<Option<String>>,
    /// False refuses deliveries, with 404.
    pub is_active: Option<bool>,
}

/// Lists inbound webhooks by name, with what came through them lately.
#[utoipa::path(get, path = "/api/v1/hooks", tag = "hooks", operation_id = "list_hooks", responses((status = 200, body = Page<HookOut>), Problems))]
#[get("/hooks")]
async fn list(_: Viewer, runtime: Data<Runtime>) -> Result<Json<Page<HookOut>>, ApiError> {
    let items = runtime.hooks().all().iter().map(|open| HookOut::of(open)).collect();
    Ok(Json(Page { items, next: None }))
}

/// Opens an inbound webhook at `/hooks/{name}`.
#[utoipa::path(post, path = "/api/v1/hooks", tag = "hooks", operation_id = "create_hook", request_body = HookIn, responses((status = 201, body = HookOut), Problems))]
#[post("/hooks")]
async fn create(
    admin: Admin,
    runtime: Data<Runtime>,
    body: Body<HookIn>,
) -> Result<HttpResponse, ApiError> {
    let body = body.into_inner();
    if !hook::is_name(&body.name) {
        let expected = "1 to 64 lower-case letters, digits, `-` and `_`";
        return Err(ApiError::field("name", expected));
    }
    let (event_type, event_id) = body.preset.mapping(&body.name);
    let now = Millis::now();
    let hook = Hook {
        event_type: template("event_type", body.event_type)?.unwrap_or(event_type),
        event_id: template("event_id", body.event_id)?.or(event_id),
        subject: template("subject", body.subject)?,
        name: body.name,
        preset: body.preset,
        secrets: body.secrets,
        header: body.header.unwrap_or_else(|| HMAC_HEADER.into()).to_ascii_lowercase(),
        tolerance: body.tolerance.unwrap_or(Span(TOLERANCE)),
        is_active: true,
        created_at: now,
        updated_at: now,
        revision: 1,
    };
    let checked = || check(&runtime, &hook).map(|()| hook);
    let open = runtime.hooks().create::<ApiError>(checked).await?;
    note(&runtime, &admin.0, "hook.create", format!("hook {}", open.hook.name), None).await?;
    Ok(HttpResponse::Created()
        .insert_header(extract::etag(open.hook.revision))
        .insert_header((header::LOCATION, format!("/api/v1/hooks/{}", open.hook.name)))
        .json(HookOut::of(&open)))
}

/// One inbound webhook.
#[utoipa::path(get, path = "/api/v1/hooks/{name}", tag = "hooks", operation_id = "get_hook", params(("name" = String, Path)), responses((status = 200, body = HookOut), Problems))]
#[get("/hooks/{name}")]
async fn show(
    _: Viewer,
    runtime: Data<Runtime>,
    name: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let open = runtime.hooks().find(&name).ok_or_else(|| ApiError::not_found("hook", &name))?;
    Ok(HttpResponse::Ok().insert_header(extract::etag(open.hook.revision)).json(HookOut::of(&open)))
}

/// Changes an inbound webhook; the next delivery meets the change.
#[utoipa::path(patch, path = "/api/v1/hooks/{name}", tag = "hooks", operation_id = "change_hook", params(("name" = String, Path), ("If-Match" = Option<String>, Header)), request_body = HookChange, responses((status = 200, body = HookOut), Problems))]
#[patch("/hooks/{name}")]
async fn change(
    admin: Admin,
    runtime: Data<Runtime>,
    request: HttpRequest,
    name: Path<String>,
    body: Body<HookChange>,
) -> Result<HttpResponse, ApiError> {
    let expected = extract::if_match(&request)?;
    let body = body.into_inner();
    let change = |mut hook: Hook| {
        if expected.is_some_and(|revision| revision != hook.revision) {
            let detail = format!("the hook {name} was changed meanwhile");
            return Err(ApiError::new(Code::Outdated, detail));
        }
        hook.preset = body.preset.unwrap_or(hook.preset);
        hook.secrets = body.secrets.unwrap_or(hook.secrets);
        hook.header = body.header.map_or(hook.header, |header| header.to_ascii_lowercase());
        hook.tolerance = body.tolerance.unwrap_or(hook.tolerance);
        hook.event_type = template("event_type", body.event_type)?.unwrap_or(hook.event_type);
        if let Some(subject) = body.subject {
            hook.subject = template("subject", subject)?;
        }
        if let Some(event_id) = body.event_id {
            hook.event_id = template("event_id", event_id)?;
        }
        hook.is_active = body.is_active.unwrap_or(hook.is_active);
        hook.updated_at = Millis::now();
        hook.revision += 1;
        check(&runtime, &hook).map(|()| hook)
    };
    let open = runtime.hooks().change(&name, change).await?;
    note(&runtime, &admin.0, "hook.update", format!("hook {name}"), None).await?;
    Ok(HttpResponse::Ok().insert_header(extract::etag(open.hook.revision)).json(HookOut::of(&open)))
}

/// Closes an inbound webhook.
#[utoipa::path(delete, path = "/api/v1/hooks/{name}", tag = "hooks", operation_id = "delete_hook", params(("name" = String, Path)), responses((status = 204), Problems))]
#[delete("/hooks/{name}")]
async fn remove(
    admin: Admin,
    runtime: Data<Runtime>,
    name: Path<String>,
) -> Result<HttpResponse, ApiError> {
    runtime.hooks().find(&name).ok_or_else(|| ApiError::not_found("hook", &name))?;
    runtime.hooks().remove(&name).await?;
    note(&runtime, &admin.0, "hook.delete", format!("hook {name}"), None).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn template(field: &str, text: Option<String>) -> Result<Option<Template>, ApiError> {
    let parse = |text: String| {
        Template::parse(&text).map_err(|error| ApiError::field(field, error.to_string()))
    };
    text.map(parse).transpose()
}

fn check(runtime: &Runtime, hook: &Hook) -> Result<(), ApiError> {
    if !(1..=KEYS_MAX).contains(&hook.secrets.len()) {
        return Err(ApiError::field("secrets", format!("names of 1 to {KEYS_MAX} secrets")));
    }
    if let Some(name) = hook.secrets.iter().find(|name| !runtime.secrets().has(name)) {
        return Err(ApiError::field("secrets", format!("secrets that there are, not {name}")));
    }
    if is_reserved(hook.event_type.as_str()) {
        let expected = "a type that does not begin with tripline: those are the runtime's own";
        return Err(ApiError::field("event_type", expected));
    }
    let is_header = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if !(1..=64).contains(&hook.header.len()) || !hook.header.chars().all(is_header) {
        return Err(ApiError::field("header", "the name of a header, such as x-signature"));
    }
    let day = std::time::Duration::from_hours(24);
    if !(std::time::Duration::from_secs(1)..=day).contains(&hook.tolerance.0) {
        return Err(ApiError::field("tolerance", "a duration from \"1s\" to \"1d\""));
    }
    // A signature is good from so long before its time until as long after it: its event must be known
    // for all of that.
    if runtime.config().retention.dedup.0.is_some_and(|dedup| hook.tolerance.0 * 2 > dedup) {
        let expected = "at most half of `retention.dedup`, for as long as ids are known";
        return Err(ApiError::field("tolerance", expected));
    }
    Ok(())
}

/// Takes a delivery: its signature is checked, and it becomes an event. The sender needs no token.
#[utoipa::path(
    post, path = "/hooks/{name}", tag = "hooks", operation_id = "deliver_to_hook",
    params(("name" = String, Path)),
    request_body(content = serde_json::Value, content_type = "application/json"),
    responses((status = 202, body = Published), Problems),
    security(()),
)]
#[post("/hooks/{name}")]
async fn deliver(
    request: HttpRequest,
    runtime: Data<Runtime>,
    name: Path<String>,
    body: Payload,
) -> Result<HttpResponse, ApiError> {
    let open = runtime.hooks().find(&name).filter(|open| open.hook.is_active);
    let open = open.ok_or_else(|| ApiError::not_found("hook", &name))?;
    // Whoever sends it has shown nothing yet: no more is kept of it than an event may have.
    let limit = runtime.config().limits.event_bytes;
    let body = extract::body(&request, &mut body.into_inner(), limit).await?;
    match take(&runtime, &open.hook, &request, &body).await {
        Ok(published) => {
            open.took(published.accepted == 0);
            Ok(HttpResponse::Accepted().json(published))
        }
        Err((reason, mut error)) => {
            // What the store could not take is no fault of the delivery: its sender tries again.
            if error.0.status < 500 && error.0.status != 429 {
                let from = request.peer_addr().map(|address| address.ip().to_string());
                open.refused(reason, error.0.detail.clone(), from);
            }
            // Whoever guesses learns nothing from it; the operator reads the reason with the hook.
            if error.0.status == 401 {
                "the hook's own page says what is wrong with the signature"
                    .clone_into(&mut error.0.detail);
            }
            Err(error)
        }
    }
}

async fn take(
    runtime: &Runtime,
    hook: &Hook,
    request: &HttpRequest,
    body: &Bytes,
) -> Result<Published, (&'static str, ApiError)> {
    let limits = &runtime.config().limits;
    let headers = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    // Nothing of what is not signed is read.
    runtime.hooks().verify(hook, &headers, body).map_err(|refusal| {
        (refusal.as_str(), ApiError::new(Code::BadSignature, refusal.to_string()))
    })?;
    let unfit = |error: ApiError| ("unfit", error);
    let text = std::str::from_utf8(body)
        .map_err(|_| unfit(ApiError::new(Code::InvalidJson, "the body is no UTF-8 text")))?;
    let mut event = intake::payload(&hook.name, text, limits).map_err(unfit)?;
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| unfit(ApiError::new(Code::InvalidJson, error.to_string())))?;
    let fill = |field: &str, template: &Template, clean| {
        template
            .fill(&headers, &value, clean)
            .map_err(|lacking| unfit(ApiError::field(field, lacking.to_string())))
    };
    let event_type = fill("event_type", &hook.event_type, true)?;
    event.envelope.event_type = intake::checked_type(event_type).map_err(unfit)?;
    event.envelope.source = format!("/hooks/{}", hook.name).into();
    if let Some(template) = &hook.event_id {
        let id = fill("event_id", template, false)?;
        event.envelope.id = Some(intake::attribute("event_id", id.into()).map_err(unfit)?);
    }
    if let Some(template) = &hook.subject {
        let subject = fill("subject", template, false)?;
        event.envelope.subject = Some(intake::attribute("subject", subject.into()).map_err(unfit)?);
    }
    let item = Incoming { key: EventKey::of(&event), event };
    let accepted = runtime.accept(vec![item], extract::trace_context(request)).await;
    Ok(Published::of(&accepted.map_err(|error| ("unfit", error.into()))?))
}
