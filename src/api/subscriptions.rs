//! Subscriptions: which events go to which script, and how they are retried.

use std::collections::HashMap;

use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::header,
    patch, post,
    web::{Data, Json, Path, ServiceConfig},
};
use serde::{Deserialize, Serialize};

use super::{
    auth::{Editor, Viewer},
    error::ApiError,
    extract::{self, Body, Page, Query, present},
    openapi::Problems,
    system::note,
};
use crate::{
    Runtime,
    domain::{
        Backoff, BackoffKind, Definition, Limits, Millis, OnDead, Ordering, RateLimit, RetryPolicy,
        ScriptId, Seq, Span, Subscription, SubscriptionId, SubscriptionState, TypePattern,
    },
    runtime::{NewSubscription, SubscriptionStatus},
    store::SubscriptionFilter,
};

const LIST: &str = "subscriptions";

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(list)
        .service(create)
        .service(show)
        .service(change)
        .service(remove)
        .service(pause)
        .service(resume)
        .service(backfill);
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct SubscriptionOut {
    pub id: SubscriptionId,
    pub name: String,
    pub script_id: ScriptId,
    /// Null runs the version that is current when an attempt starts.
    #[schema(required = true)]
    pub script_version: Option<u32>,
    #[schema(example = "finance.*")]
    pub event_type: String,
    /// Canonical; null takes every event of the type.
    #[schema(required = true, example = "$.amount > 100")]
    pub filter: Option<String>,
    pub is_active: bool,
    pub state: SubscriptionState,
    #[schema(required = true)]
    pub state_reason: Option<String>,
    pub paused: bool,
    pub concurrency: u32,
    pub ordering: Ordering,
    #[schema(required = true)]
    pub ordering_key: Option<String>,
    pub on_dead: OnDead,
    pub retry_policy: RetryPolicyOut,
    pub limits: LimitsOut,
    /// First event that meets this definition.
    #[schema(value_type = u64)]
    pub from_seq: Seq,
    pub created_at: Millis,
    pub updated_at: Millis,
    /// Grows with every change; the ETag.
    pub revision: u64,
    /// What it is doing; null while the server stops.
    #[schema(required = true)]
    pub activity: Option<ActivityOut>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RetryPolicyOut {
    pub max_attempts: u32,
    pub backoff: BackoffOut,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct BackoffOut {
    pub kind: BackoffKind,
    pub initial_ms: u64,
    pub max_ms: u64,
    pub factor: f64,
    pub jitter: f64,
}

/// A subscription's own limits; null takes the configured default.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct LimitsOut {
    #[schema(required = true)]
    pub cpu_ms: Option<u64>,
    #[schema(required = true)]
    pub wall_ms: Option<u64>,
    #[schema(required = true)]
    pub memory_bytes: Option<u64>,
    /// How often runs may start, retries included; null: as often as there is something to do.
    #[schema(required = true)]
    pub rate_limit: Option<RateLimit>,
    /// A delivery that could not start so long after its event was accepted is dead-lettered as
    /// `expired`; null: it waits for as long as it takes. Replays never expire.
    #[schema(required = true, value_type = Option<String>, example = "1h")]
    pub expires_after: Option<Span>,
}

/// What a subscription is doing; counts are since the process started.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ActivityOut {
    /// Deliveries not settled, wherever they wait.
    pub backlog: u64,
    pub in_hand: u64,
    pub running: u64,
    /// Waiting for a retry or a replay.
    pub waiting: u64,
    /// When its rate limit lets the next run start; null while it holds nothing back.
    #[schema(required = true)]
    pub rate_limited_until: Option<Millis>,
    /// First event it has not been given, when it is behind.
    #[schema(required = true, value_type = Option<u64>)]
    pub behind_from: Option<Seq>,
    pub succeeded: u64,
    pub failed: u64,
    pub dead: u64,
    pub cpu_ms: f64,
    pub wall_ms: f64,
    /// From the moment its runs were due to their start.
    pub wait_ms: f64,
    /// JS heap of its script after the last run, beyond that of an empty runtime, in steps of 4 KiB.
    pub memory_bytes: u64,
    /// Calls of its runs that left the lane.
    pub host_calls: u64,
    /// Runs that went again because what they had read was changed meanwhile.
    pub kv_conflicts: u64,
    /// Runs a second in the last one to two minutes.
    pub runs_per_s: f64,
    /// How long they took, all but the slowest of a hundred; null without runs.
    #[schema(required = true)]
    pub p99_ms: Option<f64>,
    pub restarts: u32,
    #[schema(required = true)]
    pub last_crash: Option<CrashOut>,
    #[schema(required = true)]
    pub last_error: Option<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CrashOut {
    pub at: Millis,
    pub message: String,
}

impl From<&RetryPolicy> for RetryPolicyOut {
    fn from(policy: &RetryPolicy) -> Self {
        let Backoff { kind, initial_ms, max_ms, factor, jitter } = policy.backoff;
        Self {
            max_attempts: policy.max_attempts,
            backoff: BackoffOut { kind, initial_ms, max_ms, factor, jitter },
        }
    }
}

impl From<&SubscriptionStatus> for ActivityOut {
    fn from(status: &SubscriptionStatus) -> Self {
        let crash = status.last_crash.as_ref();
        Self {
            backlog: status.depth,
            in_hand: status.in_hand,
            running: status.running,
            waiting: status.waiting,
            rate_limited_until: status.rate_limited_until,
            behind_from: status.behind_from,
            succeeded: status.succeeded,
            failed: status.failed,
            dead: status.dead,
            cpu_ms: status.cpu_us as f64 / 1_000.0,
            wall_ms: status.wall_us as f64 / 1_000.0,
            wait_ms: status.waited_us as f64 / 1_000.0,
            memory_bytes: status.heap_bytes,
            host_calls: status.host_calls,
            kv_conflicts: status.kv_conflicts,
            runs_per_s: status.recent.per_second,
            p99_ms: status.recent.p99.map(|p99| p99.as_secs_f64() * 1e3),
            restarts: status.restarts,
            last_crash: crash.map(|(at, message)| CrashOut { at: *at, message: message.clone() }),
            last_error: status.last_error.clone(),
        }
    }
}

impl SubscriptionOut {
    fn of(subscription: Subscription, status: Option<&SubscriptionStatus>) -> Self {
        let state = subscription.state();
        let Definition { script, script_version, event_type, filter, .. } = subscription.definition;
        Self {
            id: subscription.id,
            name: subscription.name,
            script_id: script,
            script_version,
            event_type: event_type.to_string(),
            filter,
            is_active: subscription.definition.is_active,
            state,
            state_reason: subscription.suspended,
            paused: subscription.paused,
            concurrency: subscription.definition.concurrency,
            ordering: subscription.definition.ordering,
            ordering_key: subscription.definition.ordering_key,
            on_dead: subscription.definition.on_dead,
            retry_policy: RetryPolicyOut::from(&subscription.definition.retry_policy),
            limits: LimitsOut {
                cpu_ms: subscription.definition.limits.cpu_ms,
                wall_ms: subscription.definition.limits.wall_ms,
                memory_bytes: subscription.definition.limits.memory_bytes,
                rate_limit: subscription.definition.limits.rate_limit,
                expires_after: subscription.definition.limits.expires_after,
            },
            from_seq: subscription.from_seq,
            created_at: subscription.created_at,
            updated_at: subscription.updated_at,
            revision: subscription.revision,
            activity: status.map(ActivityOut::from),
        }
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SubscriptionIn {
    pub name: String,
    pub script_id: ScriptId,
    /// A type, or a pattern: `*` is one segment, `**` any number.
    #[schema(example = "finance.*")]
    pub event_type: String,
    #[schema(example = "$.amount > 100")]
    pub filter: Option<String>,
    pub is_active: Option<bool>,
    /// Starts paused: what matches is kept for later.
    #[serde(default)]
    pub paused: bool,
    pub script_version: Option<u32>,
    pub retry_policy: Option<RetryPolicyIn>,
    #[schema(minimum = 1, maximum = 64)]
    pub concurrency: Option<u32>,
    pub ordering: Option<Ordering>,
    pub ordering_key: Option<String>,
    pub on_dead: Option<OnDead>,
    pub limits: Option<LimitsIn>,
}

/// What is absent stays; null clears.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SubscriptionChange {
    pub name: Option<String>,
    pub script_id: Option<ScriptId>,
    pub event_type: Option<String>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub filter: Option<Option<String>>,
    pub is_active: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>)]
    pub script_version: Option<Option<u32>>,
    pub retry_policy: Option<RetryPolicyIn>,
    #[schema(minimum = 1, maximum = 64)]
    pub concurrency: Option<u32>,
    pub ordering: Option<Ordering>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub ordering_key: Option<Option<String>>,
    pub on_dead: Option<OnDead>,
    pub limits: Option<LimitsIn>,
}

/// What is absent stays as it is, or has its default.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryPolicyIn {
    #[schema(minimum = 1, maximum = 100)]
    pub max_attempts: Option<u32>,
    pub backoff: Option<BackoffIn>,
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BackoffIn {
    pub kind: Option<BackoffKind>,
    pub initial_ms: Option<u64>,
    pub max_ms: Option<u64>,
    pub factor: Option<f64>,
    pub jitter: Option<f64>,
}

/// What is absent stays as it is; null takes the configured default.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsIn {
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>)]
    pub cpu_ms: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>)]
    pub wall_ms: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>)]
    pub memory_bytes: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<RateLimit>)]
    pub rate_limit: Option<Option<RateLimit>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, example = "1h")]
    pub expires_after: Option<Option<Span>>,
}

impl RetryPolicyIn {
    fn apply(self, policy: &mut RetryPolicy) {
        set(&mut policy.max_attempts, self.max_attempts);
        let Some(backoff) = self.backoff else { return };
        set(&mut policy.backoff.kind, backoff.kind);
        set(&mut policy.backoff.initial_ms, backoff.initial_ms);
        set(&mut policy.backoff.max_ms, backoff.max_ms);
        set(&mut policy.backoff.factor, backoff.factor);
        set(&mut policy.backoff.jitter, backoff.jitter);
    }
}

impl LimitsIn {
    fn apply(self, limits: &mut Limits) {
        set(&mut limits.cpu_ms, self.cpu_ms);
        set(&mut limits.wall_ms, self.wall_ms);
        set(&mut limits.memory_bytes, self.memory_bytes);
        set(&mut limits.rate_limit, self.rate_limit);
        set(&mut limits.expires_after, self.expires_after);
    }

    /// The limits of a test run, within the operator's maxima.
    pub(super) fn checked(self, runtime: &Runtime) -> Result<Limits, ApiError> {
        let mut limits = Limits::default();
        self.apply(&mut limits);
        let mut definition = plain_definition(ScriptId::fresh(), TypePattern::parse("a")?);
        definition.limits = limits;
        runtime.subscriptions().check(&mut definition)?;
        Ok(limits)
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn plain_definition(script: ScriptId, event_type: TypePattern) -> Definition {
    Definition {
        script,
        script_version: None,
        event_type,
        filter: None,
        is_active: true,
        retry_policy: RetryPolicy::default(),
        concurrency: 1,
        ordering: Ordering::default(),
        ordering_key: None,
        on_dead: OnDead::default(),
        limits: Limits::default(),
    }
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SubscriptionSearch {
    pub script_id: Option<ScriptId>,
    pub state: Option<SubscriptionState>,
    /// An event type that the subscription's pattern takes.
    pub event_type: Option<String>,
    /// Part of the name, in any case.
    pub text: Option<String>,
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u64>,
    pub cursor: Option<String>,
}

/// Lists subscriptions by name.
#[utoipa::path(get, path = "/api/v1/subscriptions", tag = "subscriptions", operation_id = "list_subscriptions", params(SubscriptionSearch), responses((status = 200, body = Page<SubscriptionOut>), Problems))]
#[get("/subscriptions")]
async fn list(
    _: Viewer,
    runtime: Data<Runtime>,
    search: Query<SubscriptionSearch>,
) -> Result<Json<Page<SubscriptionOut>>, ApiError> {
    let SubscriptionSearch { script_id, state, event_type, text, limit, cursor } =
        search.into_inner();
    let limit = extract::limit(limit)?;
    let filter = SubscriptionFilter { script: script_id, state, event_type, text };
    let after: Option<String> = extract::cursor(LIST, cursor.as_deref())?;
    let found = runtime.store().subscriptions().page(&filter, after.as_deref(), limit + 1).await?;
    let statuses = statuses(&runtime, &found).await;
    Ok(Json(Page::of(
        LIST,
        found,
        limit,
        |subscription| subscription.name.clone(),
        |subscription| {
            let status = statuses.get(&subscription.id);
            SubscriptionOut::of(subscription, status)
        },
    )))
}

/// Empty while the server stops: lists still answer then.
async fn statuses(
    runtime: &Runtime,
    of: &[Subscription],
) -> HashMap<SubscriptionId, SubscriptionStatus> {
    let ids = of.iter().map(|subscription| subscription.id).collect();
    runtime.subscriptions().statuses_of(ids).await.unwrap_or_default()
}

async fn shown(runtime: &Runtime, subscription: Subscription) -> SubscriptionOut {
    let statuses = statuses(runtime, std::slice::from_ref(&subscription)).await;
    let status = statuses.get(&subscription.id);
    SubscriptionOut::of(subscription, status)
}

async fn answer(runtime: &Runtime, subscription: Subscription) -> HttpResponse {
    let etag = extract::etag(subscription.revision);
    HttpResponse::Ok().insert_header(etag).json(shown(runtime, subscription).await)
}

/// Makes a subscription: it meets the events accepted from now on.
#[utoipa::path(post, path = "/api/v1/subscriptions", tag = "subscriptions", operation_id = "create_subscription", request_body = SubscriptionIn, responses((status = 201, body = SubscriptionOut), Problems))]
#[post("/subscriptions")]
async fn create(
    editor: Editor,
    runtime: Data<Runtime>,
    body: Body<SubscriptionIn>,
) -> Result<HttpResponse, ApiError> {
    let new = body.into_inner();
    let mut definition = plain_definition(new.script_id, TypePattern::parse(&new.event_type)?);
    definition.script_version = new.script_version;
    definition.filter = new.filter;
    definition.ordering_key = new.ordering_key;
    set(&mut definition.is_active, new.is_active);
    set(&mut definition.concurrency, new.concurrency);
    set(&mut definition.ordering, new.ordering);
    set(&mut definition.on_dead, new.on_dead);
    new.retry_policy.unwrap_or_default().apply(&mut definition.retry_policy);
    new.limits.unwrap_or_default().apply(&mut definition.limits);
    let new = NewSubscription { name: new.name, definition, paused: new.paused };
    let made = runtime.subscriptions().create(new).await?;
    note(&runtime, &editor.0, "subscription.create", format!("subscription {}", made.id), None)
        .await?;
    let etag = extract::etag(made.revision);
    let location = format!("/api/v1/subscriptions/{}", made.id);
    Ok(HttpResponse::Created()
        .insert_header(etag)
        .insert_header((header::LOCATION, location))
        .json(shown(&runtime, made).await))
}

/// One subscription.
#[utoipa::path(get, path = "/api/v1/subscriptions/{id}", tag = "subscriptions", operation_id = "get_subscription", params(("id" = SubscriptionId, Path)), responses((status = 200, body = SubscriptionOut, headers(("ETag" = String))), Problems))]
#[get("/subscriptions/{id}")]
async fn show(
    _: Viewer,
    runtime: Data<Runtime>,
    id: Path<SubscriptionId>,
) -> Result<HttpResponse, ApiError> {
    let subscription = runtime.subscriptions().find(*id).await?;
    Ok(answer(&runtime, subscription).await)
}

/// Changes a subscription: events accepted from then on meet the new definition.
#[utoipa::path(patch, path = "/api/v1/subscriptions/{id}", tag = "subscriptions", operation_id = "change_subscription", params(("id" = SubscriptionId, Path), ("If-Match" = Option<String>, Header)), request_body = SubscriptionChange, responses((status = 200, body = SubscriptionOut, headers(("ETag" = String))), Problems))]
#[patch("/subscriptions/{id}")]
async fn change(
    editor: Editor,
    runtime: Data<Runtime>,
    request: HttpRequest,
    id: Path<SubscriptionId>,
    body: Body<SubscriptionChange>,
) -> Result<HttpResponse, ApiError> {
    let (id, change) = (id.into_inner(), body.into_inner());
    let expected = extract::if_match(&request)?;
    let now = runtime.subscriptions().find(id).await?;
    let name = change.name.unwrap_or(now.name);
    let mut definition = now.definition;
    let event_type = change.event_type.as_deref().map(TypePattern::parse).transpose()?;
    set(&mut definition.event_type, event_type);
    set(&mut definition.script, change.script_id);
    set(&mut definition.script_version, change.script_version);
    set(&mut definition.filter, change.filter);
    set(&mut definition.is_active, change.is_active);
    set(&mut definition.concurrency, change.concurrency);
    set(&mut definition.ordering, change.ordering);
    set(&mut definition.ordering_key, change.ordering_key);
    set(&mut definition.on_dead, change.on_dead);
    change.retry_policy.unwrap_or_default().apply(&mut definition.retry_policy);
    change.limits.unwrap_or_default().apply(&mut definition.limits);
    // Without If-Match the change was made of what we just read: nothing newer may be overwritten
    // by it without being seen.
    let revision = Some(expected.unwrap_or(now.revision));
    let changed = runtime.subscriptions().update(id, revision, name, definition).await?;
    note(&runtime, &editor.0, "subscription.update", format!("subscription {id}"), None).await?;
    Ok(answer(&runtime, changed).await)
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Removal {
    /// Ends unfinished deliveries as discarded; without it they stand in the way.
    pub discard: Option<bool>,
}

/// Deletes a subscription.
#[utoipa::path(delete, path = "/api/v1/subscriptions/{id}", tag = "subscriptions", operation_id = "delete_subscription", params(("id" = SubscriptionId, Path), Removal, ("If-Match" = Option<String>, Header)), responses((status = 204), Problems))]
#[delete("/subscriptions/{id}")]
async fn remove(
    editor: Editor,
    runtime: Data<Runtime>,
    request: HttpRequest,
    id: Path<SubscriptionId>,
    removal: Query<Removal>,
) -> Result<HttpResponse, ApiError> {
    let revision = extract::if_match(&request)?;
    let discard = removal.discard == Some(true);
    let name = runtime.store().subscriptions().names(&[*id]).await?.remove(&*id);
    let discarded = runtime.subscriptions().delete(*id, revision, discard).await?;
    let detail = serde_json::json!({ "name": name, "discarded": discarded }).to_string();
    note(&runtime, &editor.0, "subscription.delete", format!("subscription {id}"), Some(detail))
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Pauses a subscription: deliveries stop to start, and what matches is kept for later.
#[utoipa::path(post, path = "/api/v1/subscriptions/{id}/pause", tag = "subscriptions", operation_id = "pause_subscription", params(("id" = SubscriptionId, Path)), responses((status = 200, body = SubscriptionOut), Problems))]
#[post("/subscriptions/{id}/pause")]
async fn pause(
    editor: Editor,
    runtime: Data<Runtime>,
    id: Path<SubscriptionId>,
) -> Result<HttpResponse, ApiError> {
    let paused = runtime.subscriptions().pause(*id).await?;
    note(&runtime, &editor.0, "subscription.pause", format!("subscription {id}"), None).await?;
    Ok(answer(&runtime, paused).await)
}

/// Lets a paused or suspended subscription go on where it stood.
#[utoipa::path(post, path = "/api/v1/subscriptions/{id}/resume", tag = "subscriptions", operation_id = "resume_subscription", params(("id" = SubscriptionId, Path)), responses((status = 200, body = SubscriptionOut), Problems))]
#[post("/subscriptions/{id}/resume")]
async fn resume(
    editor: Editor,
    runtime: Data<Runtime>,
    id: Path<SubscriptionId>,
) -> Result<HttpResponse, ApiError> {
    let resumed = runtime.subscriptions().resume(*id).await?;
    note(&runtime, &editor.0, "subscription.resume", format!("subscription {id}"), None).await?;
    Ok(answer(&runtime, resumed).await)
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BackfillIn {
    /// Events accepted at this time or later.
    pub from: Millis,
    /// Only counts.
    #[serde(default)]
    pub dry_run: bool,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct BackfillOut {
    /// Stored events that match and were not delivered yet.
    pub matched: u64,
    pub scanned: u64,
    #[schema(value_type = u64)]
    pub from_seq: Seq,
}

/// Delivers stored events from a past time on; with `dry_run` it only counts them.
#[utoipa::path(post, path = "/api/v1/subscriptions/{id}/backfill", tag = "subscriptions", operation_id = "backfill_subscription", params(("id" = SubscriptionId, Path)), request_body = BackfillIn, responses((status = 200, body = BackfillOut, description = "Counted"), (status = 202, body = BackfillOut, description = "On its way"), Problems))]
#[post("/subscriptions/{id}/backfill")]
async fn backfill(
    editor: Editor,
    runtime: Data<Runtime>,
    id: Path<SubscriptionId>,
    body: Body<BackfillIn>,
) -> Result<HttpResponse, ApiError> {
    let BackfillIn { from, dry_run } = body.into_inner();
    let found = runtime.subscriptions().backfill(*id, from, dry_run).await?;
    let out = BackfillOut { matched: found.matched, scanned: found.scanned, from_seq: found.from };
    if dry_run {
        return Ok(HttpResponse::Ok().json(out));
    }
    let detail = serde_json::json!({ "from": from, "matched": out.matched }).to_string();
    note(&runtime, &editor.0, "subscription.backfill", format!("subscription {id}"), Some(detail))
        .await?;
    Ok(HttpResponse::Accepted().json(out))
}
