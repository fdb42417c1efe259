//! Runs: the history of attempts that was kept.

use std::collections::HashSet;

use actix_web::{
    get, post,
    web::{Data, Json, Path, ServiceConfig},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    auth::{Editor, Viewer},
    error::ApiError,
    extract::{self, Body, Page, Query, milliseconds},
    openapi::Problems,
    scripts::{TestOut, check_source},
};
use crate::{
    Runtime,
    domain::{
        ErrorKind, EventId, Language, LogLevel, LogLine, Millis, RunError, RunId, RunLog, ScriptId,
        SubscriptionId,
    },
    runtime::{Aspect, Edited, Rerun, Told},
    store::RunFilter,
};

const LIST: &str = "runs";

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(list).service(show).service(rerun);
}

/// One execution of a script.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RunOut {
    pub id: RunId,
    pub event_id: EventId,
    pub subscription_id: SubscriptionId,
    /// Null when it was deleted meanwhile.
    #[schema(required = true)]
    pub subscription_name: Option<String>,
    pub script_id: ScriptId,
    pub script_version: u32,
    /// Counts from 1, anew for each replay.
    pub attempt: u32,
    /// Which replay of its dead letter it belongs to; 0 before any.
    pub replay: u32,
    #[schema(value_type = String, example = "succeeded")]
    pub outcome: &'static str,
    #[schema(required = true)]
    pub error: Option<ErrorOut>,
    pub started_at: Millis,
    pub duration_ms: f64,
    pub cpu_ms: f64,
    /// From the moment the attempt was due to its start.
    pub queued_ms: f64,
    /// What the handler returned; null when it failed.
    #[schema(value_type = serde_json::Value)]
    pub result: Option<Box<RawValue>>,
    pub logs: Vec<LogOut>,
    pub warnings: Vec<String>,
    /// Uids of the events it emitted.
    pub emitted: Vec<EventId>,
    /// It can run again: what it was answered was kept.
    pub recorded: bool,
}

/// One execution of a script, with what it asked of the host.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RunDetail {
    #[serde(flatten)]
    pub run: RunOut,
    /// What it asked of the host, emitted and wrote, in order; null when it was not recorded.
    #[schema(required = true)]
    pub calls: Option<Vec<CallOut>>,
}

/// A call to the host, as its author would write it, and what came back; long ones are cut.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CallOut {
    pub call: String,
    /// Null: nothing comes back of it, or the run ended before.
    #[schema(required = true)]
    pub answer: Option<String>,
}

impl From<Told> for CallOut {
    fn from(Told { call, answer }: Told) -> Self {
        Self { call, answer }
    }
}

/// Why a run failed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ErrorOut {
    pub kind: ErrorKind,
    pub message: String,
    /// Positions are those of the author's source.
    #[schema(required = true)]
    pub stack: Option<String>,
}

/// One `console` call.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct LogOut {
    pub level: LogLevel,
    pub message: String,
    pub at: Millis,
}

impl From<RunError> for ErrorOut {
    fn from(error: RunError) -> Self {
        Self { kind: error.kind, message: error.message, stack: error.stack }
    }
}

impl From<LogLine> for LogOut {
    fn from(line: LogLine) -> Self {
        Self { level: line.level, message: line.message, at: line.at }
    }
}

impl From<RunLog> for RunOut {
    fn from(run: RunLog) -> Self {
        Self {
            id: run.id,
            event_id: run.event,
            subscription_id: run.subscription,
            subscription_name: None,
            script_id: run.script,
            script_version: run.script_version,
            attempt: run.attempt,
            replay: run.replay,
            outcome: if run.error.is_some() { "failed" } else { "succeeded" },
            error: run.error.map(ErrorOut::from),
            started_at: run.started_at,
            duration_ms: milliseconds(run.duration),
            cpu_ms: milliseconds(run.cpu),
            queued_ms: milliseconds(run.queued),
            result: run.result.and_then(|text| RawValue::from_string(text).ok()),
            logs: run.logs.into_iter().map(LogOut::from).collect(),
            warnings: run.warnings,
            emitted: run.emitted,
            recorded: false,
        }
    }
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RunSearch {
    pub subscription_id: Option<SubscriptionId>,
    pub script_id: Option<ScriptId>,
    pub event_id: Option<EventId>,
    pub outcome: Option<RunOutcome>,
    pub error_kind: Option<ErrorKind>,
    /// Started at this time or later.
    pub from: Option<String>,
    /// Started before this time.
    pub until: Option<String>,
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u64>,
    pub cursor: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum RunOutcome {
    Succeeded,
    Failed,
}

/// Lists runs, the newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", operation_id = "list_runs", params(RunSearch), responses((status = 200, body = Page<RunOut>), Problems))]
#[get("/runs")]
async fn list(
    _: Viewer,
    runtime: Data<Runtime>,
    search: Query<RunSearch>,
) -> Result<Json<Page<RunOut>>, ApiError> {
    let search = search.into_inner();
    let limit = extract::limit(search.limit)?;
    let filter = RunFilter {
        subscription: search.subscription_id,
        script: search.script_id,
        event: search.event_id,
        failed: search.outcome.map(|outcome| outcome == RunOutcome::Failed),
        error_kind: search.error_kind,
        from: extract::time("from", search.from.as_deref())?,
        until: extract::time("until", search.until.as_deref())?,
    };
    let before = extract::cursor::<u64>(LIST, search.cursor.as_deref())?;
    let (runs, next) = runtime.store().runs().search(&filter, before, limit).await?;
    let ids: Vec<RunId> = runs.iter().map(|run| run.id).collect();
    let recorded: HashSet<RunId> =
        runtime.store().recordings().of(&ids).await?.into_iter().collect();
    let subscriptions: Vec<SubscriptionId> = runs.iter().map(|run| run.subscription).collect();
    let names = runtime.store().subscriptions().names(&subscriptions).await?;
    let item = |run: RunLog| RunOut {
        recorded: recorded.contains(&run.id),
        subscription_name: names.get(&run.subscription).cloned(),
        ..RunOut::from(run)
    };
    let next = next.map(|number| extract::seal(LIST, &number.to_string()));
    Ok(Json(Page { items: runs.into_iter().map(item).collect(), next }))
}

/// One run, and what it asked of the host if it was recorded.
#[utoipa::path(get, path = "/api/v1/runs/{id}", tag = "runs", operation_id = "get_run", params(("id" = RunId, Path)), responses((status = 200, body = RunDetail), Problems))]
#[get("/runs/{id}")]
async fn show(
    _: Viewer,
    runtime: Data<Runtime>,
    id: Path<RunId>,
) -> Result<Json<RunDetail>, ApiError> {
    let run = runtime.store().runs().find(*id).await?;
    let run = run.ok_or_else(|| ApiError::not_found("run", *id))?;
    let recorded = !runtime.store().recordings().of(&[run.id]).await?.is_empty();
    let calls = runtime.reruns().calls(run.id).await?;
    let calls = calls.map(|calls| calls.into_iter().map(CallOut::from).collect());
    let names = runtime.store().subscriptions().names(&[run.subscription]).await?;
    let subscription_name = names.get(&run.subscription).cloned();
    Ok(Json(RunDetail { run: RunOut { recorded, subscription_name, ..run.into() }, calls }))
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RerunIn {
    /// Runs this instead of the version that ran.
    pub source: Option<String>,
    /// Of that source; that of the version that ran without it.
    pub language: Option<Language>,
}

/// How a recorded run came out when it ran again. Nothing of it was kept.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RerunOut {
    #[serde(flatten)]
    pub run: TestOut,
    /// Logs, result or error, calls and writes are those of the recorded run, byte for byte.
    pub same: bool,
    /// What is not.
    pub differs: Vec<Aspect>,
    /// The first call to the host that is not the recorded one.
    #[schema(required = true)]
    pub first_difference: Option<CallDifference>,
    /// Its calls to the host in order, each in a line.
    pub steps: Vec<String>,
}

/// A call to the host, as it was recorded and as it is now; null: there is none.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CallDifference {
    /// Counted from 1.
    pub call: usize,
    #[schema(required = true)]
    pub recorded: Option<String>,
    #[schema(required = true)]
    pub rerun: Option<String>,
}

impl RerunOut {
    fn of(came: Rerun, event_id: EventId) -> Self {
        let same = came.is_same();
        let Rerun { outcome, difference, differs, steps } = came;
        Self {
            same,
            run: TestOut::of(outcome, Some(event_id)),
            differs,
            first_difference: difference.map(|found| CallDifference {
                call: found.number,
                recorded: found.recorded,
                rerun: found.rerun,
            }),
            steps,
        }
    }
}

/// Runs a recorded run again, offline: clock, chance and every answer are those of then. On the
/// version that ran, or on an edited source.
#[utoipa::path(post, path = "/api/v1/runs/{id}/rerun", tag = "runs", operation_id = "rerun_run", params(("id" = RunId, Path)), request_body = RerunIn, responses((status = 200, body = RerunOut), Problems))]
#[post("/runs/{id}/rerun")]
async fn rerun(
    _: Editor,
    runtime: Data<Runtime>,
    id: Path<RunId>,
    body: Body<RerunIn>,
) -> Result<Json<RerunOut>, ApiError> {
    let RerunIn { source, language } = body.into_inner();
    let edited = match (source, language) {
        (Some(source), language) => {
            check_source(&source)?;
            Some(Edited { source, language })
        }
        (None, None) => None,
        (None, Some(_)) => return Err(ApiError::field("language", "nothing without a source")),
    };
    let came = runtime.reruns().rerun(*id, edited).await?;
    let run = runtime.store().runs().find(*id).await?;
    let run = run.ok_or_else(|| ApiError::not_found("run", *id))?;
    Ok(Json(RerunOut::of(came, run.event)))
}
