//! The server about itself: health, metrics, statistics, actors, storage, configuration, audit.

use std::collections::HashMap;

use actix_web::{
    FromRequest as _, HttpRequest, HttpResponse, get, post,
    web::{Data, Json, Path, ServiceConfig},
};
use serde::{Deserialize, Serialize};

use super::{
    auth::{Caller, Doors, Editor, Viewer},
    error::ApiError,
    extract::{self, Page, Query},
    openapi::Problems,
    series::{MINUTES_MAX, Point, Rates},
};
use crate::{
    Runtime,
    actors::journal::Intake,
    domain::{AuditEntry, AuditId, Millis, ScriptId, Seq, SubscriptionId, SubscriptionState},
    runtime::ActorNode,
    store::{EventFilter, LetterFilter, LetterStatus, TableSize},
};

const AUDIT: &str = "audit";

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(actors)
        .service(restart)
        .service(series)
        .service(stats)
        .service(storage)
        .service(config)
        .service(audit)
        .service(sdk);
}

/// Routes beside `/api/v1`.
pub(super) fn root_routes(app: &mut ServiceConfig) {
    app.service(metrics).service(healthz).service(readyz);
}

/// Writes a line of the audit trail. What was done is done: the line must not fail silently.
pub(super) async fn note(
    runtime: &Runtime,
    caller: &Caller,
    action: &str,
    target: String,
    detail: Option<String>,
) -> Result<(), ApiError> {
    let entry = AuditEntry {
        id: AuditId::fresh(),
        at: Millis::now(),
        actor: caller.name.clone(),
        action: action.to_owned(),
        target,
        detail,
    };
    Ok(runtime.store().audit().note(&entry).await?)
}

// ── actors ───────────────────────────────────────────────────────────────────────────────────────

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Actors {
    pub tree: ActorNode,
}

/// The live supervision tree.
#[utoipa::path(get, path = "/api/v1/actors", tag = "actors", operation_id = "get_actors", responses((status = 200, body = Actors), Problems))]
#[get("/actors")]
async fn actors(_: Viewer, runtime: Data<Runtime>) -> Result<Json<Actors>, ApiError> {
    Ok(Json(Actors { tree: runtime.supervision().tree().await? }))
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Restarted {
    pub id: String,
}

/// Restarts an actor that may be; its deliveries in hand run again, uncounted.
#[utoipa::path(post, path = "/api/v1/actors/{id}/restart", tag = "actors", operation_id = "restart_actor", params(("id" = String, Path)), responses((status = 202, body = Restarted), Problems))]
#[post("/actors/{id}/restart")]
async fn restart(
    editor: Editor,
    runtime: Data<Runtime>,
    id: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = id.into_inner();
    if !runtime.supervision().restart(&id).await? {
        return Err(ApiError::not_found("actor that can be restarted", id));
    }
    note(&runtime, &editor.0, "actor.restart", format!("actor {id}"), None).await?;
    Ok(HttpResponse::Accepted().json(Restarted { id }))
}

// ── statistics ───────────────────────────────────────────────────────────────────────────────────

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Stats {
    pub version: String,
    /// Of the server's process.
    pub pid: u32,
    pub started_at: Millis,
    pub uptime_ms: u64,
    /// What the start found.
    pub recovered: RecoveredOut,
    pub events: EventStats,
    /// Since the process started.
    pub deliveries: DeliveryStats,
    /// Of the last ten seconds; latency of the last minute, from accepted to settled.
    pub rates: Rates,
    /// Letters that are dead now.
    pub dead_letters: u64,
    /// Delayed emits that wait.
    pub scheduled: u64,
    pub journal: JournalStats,
    pub subscriptions: SubscriptionStats,
    /// Lanes, as in the tree of actors.
    #[schema(value_type = Vec<serde_json::Value>)]
    pub lanes: Vec<ActorNode>,
    /// `process` or `thread`.
    pub isolation: String,
    /// Protections around lanes that the kernel did not grant.
    pub walls_missing: Vec<String>,
    /// When a commit is durable: SQLite's `synchronous`, PostgreSQL's `synchronous_commit`.
    pub synchronous: String,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RecoveredOut {
    pub events: u64,
    pub rows: u64,
    pub unclean_stops: u32,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct EventStats {
    /// Ever accepted: the last position in the log.
    #[schema(value_type = u64)]
    pub accepted: Seq,
    /// Deliveries of running subscriptions that could run by now and have not ended (those that wait for
    /// their next attempt are `deliveries.waiting`); or events that were not routed yet, where those are
    /// more.
    pub backlog: u64,
    /// Taken by no subscription, since the start.
    pub unmatched: u64,
    /// The commonest types of those, at most 100; `GET /events?unmatched=true` lists the events.
    pub unmatched_types: Vec<UnmatchedType>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct UnmatchedType {
    #[serde(rename = "type")]
    pub event_type: String,
    pub count: u64,
}

#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub(super) struct DeliveryStats {
    pub succeeded: u64,
    /// Attempts.
    pub failed: u64,
    pub dead: u64,
    /// Succeeded, and under pressure their runs (logs, result, timings) were not kept.
    pub sampled: u64,
    /// Deliveries in memory.
    pub in_hand: u64,
    pub running: u64,
    /// Waiting for a retry or a replay.
    pub waiting: u64,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct JournalStats {
    #[schema(value_type = String, example = "open")]
    pub state: &'static str,
    #[schema(required = true)]
    pub reason: Option<String>,
    #[schema(value_type = u64)]
    pub seq: Seq,
    #[schema(value_type = u64)]
    pub watermark: Seq,
    /// Requests that wait to be written.
    pub waiting: u64,
    pub commits: u64,
    pub commit_ms_mean: f64,
}

#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub(super) struct SubscriptionStats {
    pub active: u64,
    pub paused: u64,
    pub suspended: u64,
    pub inactive: u64,
    /// The busiest and the failing ones, at most 100; all are in their list.
    pub top: Vec<SubscriptionLoad>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct SubscriptionLoad {
    pub subscription_id: SubscriptionId,
    /// Null when it was deleted meanwhile.
    #[schema(required = true)]
    pub subscription_name: Option<String>,
    pub state: SubscriptionState,
    pub backlog: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub dead: u64,
    pub cpu_ms: f64,
    /// From the moment its runs were due to their start.
    pub wait_ms: f64,
    pub memory_bytes: u64,
    /// Calls of its runs that left the lane.
    pub host_calls: u64,
    /// Runs that went again because what they had read was changed meanwhile.
    pub kv_conflicts: u64,
}

/// Subscriptions that the statistics name.
const TOP: usize = 100;

/// What the server is doing.
#[utoipa::path(get, path = "/api/v1/stats", tag = "system", operation_id = "get_stats", responses((status = 200, body = Stats), Problems))]
#[get("/stats")]
async fn stats(
    _: Viewer,
    runtime: Data<Runtime>,
    doors: Data<Doors>,
) -> Result<Json<Stats>, ApiError> {
    let (deliveries, subscriptions) = load(&runtime).await?;
    let dead = LetterFilter { status: Some(LetterStatus::Dead), ..LetterFilter::default() };
    let mut tree = runtime.supervision().tree().await?;
    let lanes = tree.children.iter_mut().find(|node| node.id == "lanes");
    let recovered = runtime.recovered();
    let unmatched = runtime.unmatched(TOP).await;
    let unmatched_type = |(event_type, count)| UnmatchedType { event_type, count };
    let isolation =
        serde_json::to_value(runtime.config().lanes.isolation).map_err(ApiError::internal)?;
    Ok(Json(Stats {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: runtime.started_at(),
        uptime_ms: u64::try_from(runtime.uptime().as_millis()).unwrap_or(u64::MAX),
        recovered: RecoveredOut {
            events: recovered.events,
            rows: recovered.rows,
            unclean_stops: recovered.unclean_stops,
        },
        events: EventStats {
            accepted: runtime.journal().seq(),
            backlog: runtime.backlog().await,
            unmatched: unmatched.total,
            unmatched_types: unmatched.types.into_iter().map(unmatched_type).collect(),
        },
        deliveries,
        rates: doors.series().rates(),
        dead_letters: runtime.store().letters().count(&dead).await?.count,
        scheduled: runtime.store().scheduled().count().await?,
        journal: journal(&runtime),
        subscriptions,
        lanes: lanes.map(|lanes| std::mem::take(&mut lanes.children)).unwrap_or_default(),
        isolation: isolation.as_str().unwrap_or_default().to_owned(),
        walls_missing: runtime.health().walls_missing,
        synchronous: runtime.store().synchronous().await?,
    }))
}

async fn load(runtime: &Runtime) -> Result<(DeliveryStats, SubscriptionStats), ApiError> {
    let (mut deliveries, mut subscriptions) =
        (DeliveryStats::default(), SubscriptionStats::default());
    let mut loads = Vec::new();
    for status in runtime.subscriptions().statuses().await?.into_values() {
        deliveries.succeeded += status.succeeded;
        deliveries.failed += status.failed;
        deliveries.dead += status.dead;
        deliveries.sampled += status.sampled;
        deliveries.in_hand += status.in_hand;
        deliveries.running += status.running;
        deliveries.waiting += status.waiting;
        *match status.state {
            SubscriptionState::Active => &mut subscriptions.active,
            SubscriptionState::Paused => &mut subscriptions.paused,
            SubscriptionState::Suspended => &mut subscriptions.suspended,
            SubscriptionState::Inactive => &mut subscriptions.inactive,
        } += 1;
        loads.push(SubscriptionLoad {
            subscription_id: status.id,
            subscription_name: None,
            state: status.state,
            backlog: status.depth,
            succeeded: status.succeeded,
            failed: status.failed,
            dead: status.dead,
            cpu_ms: status.cpu_us as f64 / 1_000.0,
            wait_ms: status.waited_us as f64 / 1_000.0,
            memory_bytes: status.heap_bytes,
            host_calls: status.host_calls,
            kv_conflicts: status.kv_conflicts,
        });
    }
    loads.sort_by_key(|load| {
        std::cmp::Reverse((load.dead, load.failed, load.backlog, load.succeeded))
    });
    loads.truncate(TOP);
    let ids: Vec<SubscriptionId> = loads.iter().map(|load| load.subscription_id).collect();
    let mut names = runtime.store().subscriptions().names(&ids).await?;
    for load in &mut loads {
        load.subscription_name = names.remove(&load.subscription_id);
    }
    subscriptions.top = loads;
    Ok((deliveries, subscriptions))
}

fn journal(runtime: &Runtime) -> JournalStats {
    let journal = runtime.journal();
    let (state, reason) = match journal.intake() {
        Intake::Open => ("open", None),
        Intake::Closed(reason) => ("closed", Some(reason)),
        Intake::DiskFull => ("disk_full", None),
        Intake::Stopped(reason) => ("stopped", Some(reason)),
    };
    let (commits, commit_us) = journal.commits();
    JournalStats {
        state,
        reason,
        seq: journal.seq(),
        watermark: journal.watermark(),
        waiting: journal.waiting(),
        commits,
        commit_ms_mean: commit_us as f64 / 1_000.0 / (commits as f64).max(1.0),
    }
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SeriesSearch {
    /// How far back; 10 if absent. The farther, the longer the steps.
    #[param(minimum = 1, maximum = 10080)]
    pub minutes: Option<u64>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct SeriesOut {
    /// Length of a step: 5 s within the last hour, up to half an hour within the last week, and less
    /// while there is less to show.
    pub step_ms: u64,
    /// Oldest first; while no process ran there are none.
    pub points: Vec<Point>,
}

/// What happened lately, step by step.
#[utoipa::path(get, path = "/api/v1/stats/series", tag = "system", operation_id = "get_series", params(SeriesSearch), responses((status = 200, body = SeriesOut), Problems))]
#[get("/stats/series")]
async fn series(
    _: Viewer,
    doors: Data<Doors>,
    search: Query<SeriesSearch>,
) -> Result<Json<SeriesOut>, ApiError> {
    let minutes = search.minutes.unwrap_or(10);
    if !(1..=MINUTES_MAX).contains(&minutes) {
        return Err(ApiError::field("minutes", "1 to 10080"));
    }
    let (step, points) = doors.series().points(minutes);
    Ok(Json(SeriesOut { step_ms: step.as_secs() * 1_000, points }))
}

// ── storage, configuration, audit ────────────────────────────────────────────────────────────────

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct StorageOut {
    /// `sqlite` or `postgres`.
    #[schema(value_type = String, example = "sqlite")]
    pub kind: &'static str,
    /// When a commit is durable: SQLite's `synchronous`, PostgreSQL's `synchronous_commit`.
    pub synchronous: String,
    pub bytes: u64,
    /// Of the write-ahead log beside the SQLite file.
    #[schema(required = true)]
    pub wal_bytes: Option<u64>,
    /// Room that is left on the disk of the SQLite file; null on PostgreSQL.
    #[schema(required = true)]
    pub free_bytes: Option<u64>,
    pub tables: Vec<TableOut>,
    /// What is kept of each kind, as `retention.*_bytes` counts it.
    pub kept_bytes: KeptOut,
    /// First and last position of stored events.
    #[schema(required = true, value_type = Option<u64>)]
    pub oldest_seq: Option<Seq>,
    #[schema(required = true, value_type = Option<u64>)]
    pub newest_seq: Option<Seq>,
    /// When the oldest stored event was accepted.
    #[schema(required = true)]
    pub oldest_at: Option<Millis>,
    /// How long what is kept, as configured.
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub retention: serde_json::Value,
}

/// Bytes, to about a mebibyte, counted as things come and go.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct KeptOut {
    pub events: u64,
    pub runs: u64,
    pub dead_letters: u64,
    pub audit: u64,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct TableOut {
    pub name: String,
    /// An estimate for large tables.
    pub rows: u64,
    /// With its indexes; null where finding out would read a large file whole.
    #[schema(required = true)]
    pub bytes: Option<u64>,
}

/// What the store holds, and what it takes.
#[utoipa::path(get, path = "/api/v1/storage", tag = "system", operation_id = "get_storage", responses((status = 200, body = StorageOut), Problems))]
#[get("/storage")]
async fn storage(_: Viewer, runtime: Data<Runtime>) -> Result<Json<StorageOut>, ApiError> {
    let held = runtime.store().storage().await?;
    let kept = runtime.store().retention().kept().await?;
    let events = runtime.store().events();
    let ends = events.ends().await?;
    let oldest = match ends {
        Some((oldest, _)) => events.page(&EventFilter::default(), Some(oldest.next()), 1).await?,
        None => Vec::new(),
    };
    let table =
        |table: TableSize| TableOut { name: table.name, rows: table.rows, bytes: table.bytes };
    Ok(Json(StorageOut {
        kind: held.kind,
        synchronous: held.synchronous,
        bytes: held.bytes,
        wal_bytes: held.wal_bytes,
        free_bytes: runtime.store().free_bytes(),
        tables: held.tables.into_iter().map(table).collect(),
        kept_bytes: KeptOut {
            events: kept.events,
            runs: kept.runs,
            dead_letters: kept.dead_letters,
            audit: kept.audit,
        },
        oldest_seq: ends.map(|(oldest, _)| oldest),
        newest_seq: ends.map(|(_, newest)| newest),
        oldest_at: oldest.first().map(|event| event.accepted_at),
        retention: serde_json::to_value(&runtime.config().retention).map_err(ApiError::internal)?,
    }))
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Settings {
    pub items: Vec<Setting>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Setting {
    #[schema(example = "server.listen")]
    pub key: String,
    pub value: serde_json::Value,
    /// `default`, `FILE:LINE`, or the variable or flag that set it.
    pub source: String,
}

/// The settings in force, and where each came from.
#[utoipa::path(get, path = "/api/v1/config", tag = "system", operation_id = "get_config", responses((status = 200, body = Settings), Problems))]
#[get("/config")]
async fn config(_: Viewer, runtime: Data<Runtime>) -> Result<Json<Settings>, ApiError> {
    let setting = |(key, value, source)| Setting { key, value, source };
    Ok(Json(Settings { items: runtime.loaded().entries().into_iter().map(setting).collect() }))
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AuditOut {
    pub id: AuditId,
    pub at: Millis,
    /// Name of the token.
    pub actor: String,
    #[schema(example = "subscription.update")]
    pub action: String,
    /// A kind and an id.
    pub target: String,
    /// What the script, subscription or token is called now, or was when it was deleted; null for other
    /// things.
    #[schema(required = true)]
    pub target_name: Option<String>,
    #[schema(value_type = serde_json::Value)]
    pub detail: Option<Box<serde_json::value::RawValue>>,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditSearch {
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u64>,
    pub cursor: Option<String>,
}

/// Who changed what, the latest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "system", operation_id = "list_audit", params(AuditSearch), responses((status = 200, body = Page<AuditOut>), Problems))]
#[get("/audit")]
async fn audit(
    _: Viewer,
    runtime: Data<Runtime>,
    doors: Data<Doors>,
    search: Query<AuditSearch>,
) -> Result<Json<Page<AuditOut>>, ApiError> {
    let limit = extract::limit(search.limit)?;
    let before = extract::cursor::<AuditId>(AUDIT, search.cursor.as_deref())?;
    let entries = runtime.store().audit().page(before, limit + 1).await?;
    let names = target_names(&runtime, &doors, &entries).await?;
    Ok(Json(Page::of(
        AUDIT,
        entries,
        limit,
        |entry| entry.id.to_string(),
        |entry| AuditOut {
            target_name: names.get(&entry.target).cloned().or_else(|| deleted_name(&entry)),
            id: entry.id,
            at: entry.at,
            actor: entry.actor,
            action: entry.action,
            target: entry.target,
            detail: entry
                .detail
                .and_then(|text| serde_json::value::RawValue::from_string(text).ok()),
        },
    )))
}

/// What was deleted keeps its name in the line that says so.
fn deleted_name(entry: &AuditEntry) -> Option<String> {
    let is_delete = entry.action.ends_with(".delete");
    let detail = entry.detail.as_deref().filter(|_| is_delete)?;
    let detail: serde_json::Value = serde_json::from_str(detail).ok()?;
    detail["name"].as_str().map(str::to_owned)
}

/// Names of the scripts, subscriptions and tokens that entries are about, by the entries' targets.
async fn target_names(
    runtime: &Runtime,
    doors: &Doors,
    entries: &[AuditEntry],
) -> Result<HashMap<String, String>, ApiError> {
    let targets = || entries.iter().filter_map(|entry| entry.target.split_once(' '));
    let subscriptions: Vec<SubscriptionId> = targets()
        .filter(|(kind, _)| *kind == "subscription")
        .filter_map(|(_, id)| id.parse().ok())
        .collect();
    let scripts: Vec<ScriptId> = targets()
        .filter(|(kind, _)| *kind == "script")
        .filter_map(|(_, id)| id.parse().ok())
        .collect();
    let subscriptions = runtime.store().subscriptions().names(&subscriptions).await?;
    let scripts = runtime.store().scripts().names(&scripts).await?;
    let subscriptions = subscriptions.into_iter().map(|(id, n)| (format!("subscription {id}"), n));
    let tokens =
        doors.tokens().into_iter().map(|token| (format!("token {}", token.id), token.name));
    Ok(scripts
        .into_iter()
        .map(|(id, n)| (format!("script {id}"), n))
        .chain(subscriptions)
        .chain(tokens)
        .collect())
}

/// The types of what scripts find, for editors.
#[utoipa::path(get, path = "/api/v1/sdk.d.ts", tag = "scripts", operation_id = "get_sdk_types", responses((status = 200, body = String, content_type = "text/plain"), Problems))]
#[get("/sdk.d.ts")]
async fn sdk(_: Viewer) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(crate::sandbox::SDK_TYPES)
}

// ── beside /api/v1 ───────────────────────────────────────────────────────────────────────────────

/// Metrics in Prometheus' text format; without a token only if `metrics.public` says so.
#[utoipa::path(get, path = "/metrics", tag = "system", operation_id = "get_metrics", responses((status = 200, body = String, content_type = "text/plain"), Problems))]
#[get("/metrics")]
async fn metrics(request: HttpRequest, runtime: Data<Runtime>) -> Result<HttpResponse, ApiError> {
    if !runtime.config().metrics.public {
        Viewer::extract(&request).await?;
    }
    let dead = runtime.store().letters().dead_counts().await?;
    for (subscription, count) in dead {
        crate::telemetry::dead_letters(subscription, count);
    }
    runtime.subscriptions().gauge().await?;
    crate::telemetry::store_bytes(runtime.store().bytes().await?, runtime.store().wal_bytes());
    let body = crate::telemetry::render();
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(body))
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Alive {
    #[schema(value_type = String, example = "ok")]
    pub status: &'static str,
}

/// Whether the process answers.
#[utoipa::path(get, path = "/healthz", tag = "system", operation_id = "healthz", security(()), responses((status = 200, body = Alive)))]
#[get("/healthz")]
async fn healthz() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Readiness {
    pub ready: bool,
    pub problems: Vec<String>,
    /// Protections around lanes that the kernel did not grant.
    pub walls_missing: Vec<String>,
}

/// Whether the server can do its work.
#[utoipa::path(get, path = "/readyz", tag = "system", operation_id = "readyz", security(()), responses((status = 200, body = Readiness), (status = 503, body = Readiness, description = "Not now")))]
#[get("/readyz")]
async fn readyz(runtime: Data<Runtime>) -> HttpResponse {
    let health = runtime.health();
    let mut response =
        if health.ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.json(Readiness {
        ready: health.ready,
        problems: health.problems,
        walls_missing: health.walls_missing,
    })
}
