//! Scripts: saved with a check, versioned, tried out.

use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::header,
    patch, post,
    web::{Data, Json, Path, ServiceConfig},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    auth::{Editor, Viewer},
    error::{ApiError, Code},
    events,
    extract::{self, Body, Page, Query, milliseconds, present},
    openapi::Problems,
    runs::{ErrorOut, LogOut},
    subscriptions::LimitsIn,
    system::note,
};
use crate::{
    Runtime,
    domain::{
        ErrorKind, EventId, Kind, Language, LetterId, Millis, Role, Script, ScriptId,
        ScriptVersion, recent::FAILURE_STEP,
    },
    runtime::{
        self, SOURCE_BYTES_MAX, SaveError, ScriptActivity, Source, TestEvent, TestInput,
        TestOutcome,
    },
    sandbox::{CompileError, KvWrite, Space, Ttl, program},
    store::{NewScript, ScriptPatch},
};

const LIST: &str = "scripts";
const VERSIONS: &str = "script-versions";
/// Type of the event of a test that names none.
const TEST_TYPE: &str = "tripline.test";

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(list)
        .service(activity)
        .service(create)
        .service(test)
        .service(show)
        .service(change)
        .service(remove)
        .service(versions)
        .service(show_version)
        .service(test_saved);
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ScriptOut {
    pub id: ScriptId,
    pub name: String,
    #[schema(required = true)]
    pub description: Option<String>,
    /// As the author wrote it.
    pub source: String,
    pub language: Language,
    pub kind: Kind,
    /// Names of the modules that it imports, those of its modules included.
    pub imports: Vec<String>,
    /// Counts from 1; every save of a source is one.
    pub version: u32,
    /// Hosts that `fetch` may reach.
    pub fetch_allow: Vec<String>,
    /// Names of the secrets that it gets.
    pub secrets: Vec<String>,
    pub created_at: Millis,
    pub updated_at: Millis,
}

impl From<Script> for ScriptOut {
    fn from(script: Script) -> Self {
        Self {
            id: script.id,
            name: script.name,
            description: script.description,
            source: script.source,
            language: script.language,
            kind: script.kind,
            imports: script.imports,
            version: script.version,
            fetch_allow: script.fetch_allow,
            secrets: script.secrets,
            created_at: script.created_at,
            updated_at: script.updated_at,
        }
    }
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct VersionOut {
    pub script_id: ScriptId,
    pub version: u32,
    pub language: Language,
    pub source: String,
    /// Why it was saved.
    #[schema(required = true)]
    pub note: Option<String>,
    pub created_at: Millis,
    /// Name of the token that saved it.
    #[schema(required = true)]
    pub created_by: Option<String>,
}

impl From<ScriptVersion> for VersionOut {
    fn from(version: ScriptVersion) -> Self {
        Self {
            script_id: version.script,
            version: version.version,
            language: version.language,
            source: version.source,
            note: version.note,
            created_at: version.created_at,
            created_by: version.created_by,
        }
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptIn {
    #[schema(example = "ship-order")]
    pub name: String,
    #[schema(example = "export default (payload) => payload")]
    pub source: String,
    pub language: Language,
    /// A `module` is imported by others under its name, such as `lib/money`, and never runs alone.
    #[serde(default)]
    pub kind: Kind,
    pub description: Option<String>,
    /// Hosts that `fetch` may reach: `api.example.com`, `*.example.com`, `api.example.com:8443`.
    #[serde(default)]
    pub fetch_allow: Vec<String>,
    /// Secrets that it gets; only admins grant them.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Why it is saved; kept with the version.
    pub note: Option<String>,
}

/// What is absent stays; null clears.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptChange {
    pub name: Option<String>,
    /// One that differs makes a version.
    pub source: Option<String>,
    pub language: Option<Language>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub description: Option<Option<String>>,
    pub fetch_allow: Option<Vec<String>>,
    /// Only admins add to them.
    pub secrets: Option<Vec<String>>,
    pub note: Option<String>,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ScriptSearch {
    /// Part of the name, in any case.
    pub text: Option<String>,
    pub kind: Option<Kind>,
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u64>,
    pub cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct VersionSearch {
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u64>,
    pub cursor: Option<String>,
}

/// Lists scripts by name.
#[utoipa::path(get, path = "/api/v1/scripts", tag = "scripts", operation_id = "list_scripts", params(ScriptSearch), responses((status = 200, body = Page<ScriptOut>), Problems))]
#[get("/scripts")]
async fn list(
    _: Viewer,
    runtime: Data<Runtime>,
    search: Query<ScriptSearch>,
) -> Result<Json<Page<ScriptOut>>, ApiError> {
    let limit = extract::limit(search.limit)?;
    let after: Option<String> = extract::cursor(LIST, search.cursor.as_deref())?;
    let search_text = search.text.as_deref();
    let scripts = runtime.store().scripts();
    let scripts = scripts.page(search_text, search.kind, after.as_deref(), limit + 1).await?;
    Ok(Json(Page::of(LIST, scripts, limit, |script| script.name.clone(), ScriptOut::from)))
}

/// What the subscriptions of scripts are doing.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ScriptActivities {
    /// Length of a step of `failures`.
    pub step_ms: u64,
    pub items: Vec<ScriptActivityOut>,
}

/// What the subscriptions of one script are doing.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ScriptActivityOut {
    pub script_id: ScriptId,
    /// Subscriptions in each state.
    pub active: u64,
    pub paused: u64,
    pub suspended: u64,
    pub inactive: u64,
    /// Failed attempts in each step of the last day, oldest first; none from before the server's
    /// start.
    pub failures: Vec<u32>,
}

/// States of their subscriptions and failures of the last day, of all scripts that have any.
#[utoipa::path(get, path = "/api/v1/scripts/activity", tag = "scripts", operation_id = "get_script_activity", responses((status = 200, body = ScriptActivities), Problems))]
#[get("/scripts/activity")]
async fn activity(_: Viewer, runtime: Data<Runtime>) -> Result<Json<ScriptActivities>, ApiError> {
    let items = runtime.scripts().activity().await?.into_iter().map(|(script_id, of)| {
        let ScriptActivity { active, paused, suspended, inactive, failures } = of;
        let failures = failures.to_vec();
        ScriptActivityOut { script_id, active, paused, suspended, inactive, failures }
    });
    let step_ms = FAILURE_STEP.as_millis() as u64;
    Ok(Json(ScriptActivities { step_ms, items: items.collect() }))
}

/// Saves a new script; one that does not compile is refused.
#[utoipa::path(post, path = "/api/v1/scripts", tag = "scripts", operation_id = "create_script", request_body = ScriptIn, responses((status = 201, body = ScriptOut), Problems))]
#[post("/scripts")]
async fn create(
    editor: Editor,
    runtime: Data<Runtime>,
    body: Body<ScriptIn>,
) -> Result<HttpResponse, ApiError> {
    let new = body.into_inner();
    check_name(&new.name, new.kind)?;
    check_hosts(&new.fetch_allow)?;
    check_grants(&runtime, &editor, &new.secrets, &[])?;
    check_source(&new.source)?;
    let source = Source {
        name: new.name.clone(),
        kind: new.kind,
        language: new.language,
        text: new.source.clone(),
    };
    let imports = runtime.scripts().check(source).await?;
    let new = NewScript {
        name: new.name,
        description: new.description,
        language: new.language,
        source: new.source,
        secrets: new.secrets,
        fetch_allow: new.fetch_allow,
        kind: new.kind,
        imports,
        note: new.note,
        by: Some(editor.0.name.clone()),
    };
    let script = runtime.store().scripts().create(new).await?;
    note(&runtime, &editor.0, "script.create", format!("script {}", script.id), None).await?;
    let location = format!("/api/v1/scripts/{}", script.id);
    Ok(HttpResponse::Created()
        .insert_header(extract::etag(script.revision))
        .insert_header((header::LOCATION, location))
        .json(ScriptOut::from(script)))
}

/// One script with its newest source.
#[utoipa::path(get, path = "/api/v1/scripts/{id}", tag = "scripts", operation_id = "get_script", params(("id" = ScriptId, Path)), responses((status = 200, body = ScriptOut, headers(("ETag" = String))), Problems))]
#[get("/scripts/{id}")]
async fn show(
    _: Viewer,
    runtime: Data<Runtime>,
    id: Path<ScriptId>,
) -> Result<HttpResponse, ApiError> {
    Ok(answer(find(&runtime, *id).await?))
}

async fn find(runtime: &Runtime, id: ScriptId) -> Result<Script, ApiError> {
    runtime.store().scripts().find(id).await?.ok_or_else(|| ApiError::not_found("script", id))
}

fn answer(script: Script) -> HttpResponse {
    HttpResponse::Ok().insert_header(extract::etag(script.revision)).json(ScriptOut::from(script))
}

/// Changes a script; its subscriptions run the new version from their next attempt on.
#[utoipa::path(patch, path = "/api/v1/scripts/{id}", tag = "scripts", operation_id = "change_script", params(("id" = ScriptId, Path), ("If-Match" = Option<String>, Header)), request_body = ScriptChange, responses((status = 200, body = ScriptOut, headers(("ETag" = String))), Problems))]
#[patch("/scripts/{id}")]
async fn change(
    editor: Editor,
    runtime: Data<Runtime>,
    request: HttpRequest,
    id: Path<ScriptId>,
    body: Body<ScriptChange>,
) -> Result<HttpResponse, ApiError> {
    let (id, change) = (id.into_inner(), body.into_inner());
    let revision = extract::if_match(&request)?;
    let now = find(&runtime, id).await?;
    if let Some(name) = &change.name {
        check_name(name, now.kind)?;
        if now.kind == Kind::Module && *name != now.name {
            nobody_imports(&runtime, &now, "renamed").await?;
        }
    }
    check_hosts(change.fetch_allow.as_deref().unwrap_or_default())?;
    check_grants(&runtime, &editor, change.secrets.as_deref().unwrap_or_default(), &now.secrets)?;
    let mut imports = None;
    if change.source.is_some() || change.language.is_some() {
        let source = change.source.as_ref().unwrap_or(&now.source);
        check_source(source)?;
        let name = change.name.as_ref().unwrap_or(&now.name);
        let source = Source {
            name: name.clone(),
            kind: now.kind,
            language: change.language.unwrap_or(now.language),
            text: source.clone(),
        };
        imports = Some(runtime.scripts().check(source.clone()).await?);
        if now.kind == Kind::Module {
            runtime.scripts().check_importers(id, source).await?;
        }
    }
    let patch = ScriptPatch {
        name: change.name,
        description: change.description,
        source: change.source,
        language: change.language,
        secrets: change.secrets,
        fetch_allow: change.fetch_allow,
        imports,
        note: change.note,
        by: Some(editor.0.name.clone()),
    };
    let script = runtime.store().scripts().update(id, revision, patch).await?;
    runtime.scripts().saved(&script).await?;
    let detail = serde_json::json!({ "version": script.version }).to_string();
    note(&runtime, &editor.0, "script.update", format!("script {id}"), Some(detail)).await?;
    Ok(answer(script))
}

/// A module that others import keeps its name and stays.
async fn nobody_imports(runtime: &Runtime, module: &Script, what: &str) -> Result<(), ApiError> {
    let importers = runtime.store().scripts().importers(&module.name).await?;
    let Some(first) = importers.first() else { return Ok(()) };
    let detail = format!(
        "the module `{}` cannot be {what}: {} scripts import it, `{}` among them",
        module.name,
        importers.len(),
        first.name
    );
    let mut error = ApiError::new(Code::InUse, detail);
    error.0.count = Some(importers.len() as u64);
    Err(error)
}

/// Deletes a script that no subscription uses and no other script imports.
#[utoipa::path(delete, path = "/api/v1/scripts/{id}", tag = "scripts", operation_id = "delete_script", params(("id" = ScriptId, Path), ("If-Match" = Option<String>, Header)), responses((status = 204), Problems))]
#[delete("/scripts/{id}")]
async fn remove(
    editor: Editor,
    runtime: Data<Runtime>,
    request: HttpRequest,
    id: Path<ScriptId>,
) -> Result<HttpResponse, ApiError> {
    let script = find(&runtime, *id).await?;
    if script.kind == Kind::Module {
        nobody_imports(&runtime, &script, "deleted").await?;
    }
    runtime.store().scripts().delete(*id, extract::if_match(&request)?).await?;
    let detail = serde_json::json!({ "name": script.name }).to_string();
    note(&runtime, &editor.0, "script.delete", format!("script {id}"), Some(detail)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Lists the versions of a script, the newest first.
#[utoipa::path(get, path = "/api/v1/scripts/{id}/versions", tag = "scripts", operation_id = "list_script_versions", params(("id" = ScriptId, Path), VersionSearch), responses((status = 200, body = Page<VersionOut>), Problems))]
#[get("/scripts/{id}/versions")]
async fn versions(
    _: Viewer,
    runtime: Data<Runtime>,
    id: Path<ScriptId>,
    search: Query<VersionSearch>,
) -> Result<Json<Page<VersionOut>>, ApiError> {
    find(&runtime, *id).await?;
    let limit = extract::limit(search.limit)?;
    let before = extract::cursor::<u32>(VERSIONS, search.cursor.as_deref())?;
    let versions = runtime.store().scripts().versions(*id, before, limit + 1).await?;
    Ok(Json(Page::of(
        VERSIONS,
        versions,
        limit,
        |version| version.version.to_string(),
        VersionOut::from,
    )))
}

/// One version of a script.
#[utoipa::path(get, path = "/api/v1/scripts/{id}/versions/{version}", tag = "scripts", operation_id = "get_script_version", params(("id" = ScriptId, Path), ("version" = u32, Path)), responses((status = 200, body = VersionOut), Problems))]
#[get("/scripts/{id}/versions/{version}")]
async fn show_version(
    _: Viewer,
    runtime: Data<Runtime>,
    path: Path<(ScriptId, u32)>,
) -> Result<Json<VersionOut>, ApiError> {
    let (id, version) = path.into_inner();
    let found = runtime.store().scripts().version(id, version).await?;
    found
        .map(|version| Json(version.into()))
        .ok_or_else(|| ApiError::not_found("script version", format!("{id}/{version}")))
}

fn check_name(name: &str, kind: Kind) -> Result<(), ApiError> {
    if kind == Kind::Module && !program::is_name(name) {
        let expected = "a name to import a module by, such as lib/money: letters, digits, `_`, `-`, `.` and `/`";
        return Err(ApiError::field("name", expected));
    }
    extract::name(name)
}

pub(super) fn check_source(source: &str) -> Result<(), ApiError> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(ApiError::field("source", format!("at most {SOURCE_BYTES_MAX} bytes")));
    }
    if source.contains('\0') {
        return Err(ApiError::field("source", "a text without U+0000"));
    }
    Ok(())
}

fn check_hosts(hosts: &[String]) -> Result<(), ApiError> {
    runtime::check_fetch_allow(hosts)
        .map_err(|error| ApiError::field("fetch_allow", error.to_string()))
}

/// A grant hands a secret to whoever may edit the script, so only those grant who may set secrets.
fn check_grants(
    runtime: &Runtime,
    editor: &Editor,
    wanted: &[String],
    granted: &[String],
) -> Result<(), ApiError> {
    for name in wanted.iter().filter(|name| !granted.contains(name)) {
        if !editor.0.role.covers(Role::Admin) {
            let detail = format!("the secret {name} can only be granted by an admin");
            return Err(ApiError::new(Code::Forbidden, detail));
        }
        if !runtime.secrets().has(name) {
            return Err(ApiError::field("secrets", format!("secrets that there are, not {name}")));
        }
    }
    Ok(())
}

/// A source and what it is tried out on: one of `event_id`, `letter_id`, `event`, `data`.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TestIn {
    /// Absent for a saved script: its newest source, or that of `version`.
    pub source: Option<String>,
    pub language: Option<Language>,
    pub name: Option<String>,
    /// Of a saved script.
    pub version: Option<u32>,
    /// A stored event.
    pub event_id: Option<EventId>,
    /// A dead letter: its event, with the payload as it was edited for a replay.
    pub letter_id: Option<LetterId>,
    /// An event `{"type","data",…}`.
    #[schema(value_type = Option<serde_json::Value>)]
    pub event: Option<Box<RawValue>>,
    /// A payload, of an event of type `event_type`.
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<Box<RawValue>>,
    pub event_type: Option<String>,
    pub limits: Option<LimitsIn>,
    /// Makes the requests of `fetch`; without it they are refused, and shown.
    #[serde(default)]
    pub fetch: bool,
}

/// How a test run came out. Nothing of it was kept.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct TestOut {
    #[schema(value_type = String, example = "succeeded")]
    pub outcome: &'static str,
    #[schema(value_type = serde_json::Value)]
    pub result: Option<Box<RawValue>>,
    #[schema(required = true)]
    pub error: Option<TestError>,
    pub logs: Vec<LogOut>,
    pub warnings: Vec<String>,
    /// Events that the run would have emitted.
    pub emits: Vec<EmitOut>,
    /// Writes to `sdk.kv` that the run would have made.
    pub kv: Vec<KvOut>,
    /// Requests that the run made, or would have made.
    pub fetches: Vec<FetchOut>,
    pub duration_ms: f64,
    pub cpu_ms: f64,
    /// The stored event it ran on.
    #[schema(required = true)]
    pub event_id: Option<EventId>,
}

/// The error of a test run, with its place in the source where the compiler knows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct TestError {
    #[serde(flatten)]
    pub error: ErrorOut,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

/// An event that was held back.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct EmitOut {
    #[serde(rename = "type")]
    pub event_type: String,
    #[schema(value_type = serde_json::Value)]
    pub data: Option<Box<RawValue>>,
    #[schema(required = true)]
    pub id: Option<String>,
    #[schema(required = true)]
    pub subject: Option<String>,
    #[schema(required = true)]
    pub delay_ms: Option<f64>,
}

/// A request to the outside.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct FetchOut {
    pub method: String,
    pub url: String,
}

/// A write that was held back.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct KvOut {
    /// Of shared keys; null for the script's own.
    #[schema(required = true)]
    pub namespace: Option<String>,
    pub key: String,
    /// Null with `removed`.
    #[schema(value_type = serde_json::Value)]
    pub value: Option<Box<RawValue>>,
    pub removed: bool,
    /// How long it would stay; null: for good, or as long as before.
    #[schema(required = true)]
    pub ttl_ms: Option<f64>,
}

impl From<KvWrite> for KvOut {
    fn from(write: KvWrite) -> Self {
        Self {
            namespace: match write.space {
                Space::Own => None,
                Space::Shared(name) => Some(name.to_string()),
            },
            key: write.key,
            removed: write.value.is_none(),
            value: write.value.and_then(|value| RawValue::from_string(value).ok()),
            ttl_ms: match write.ttl {
                Ttl::For(span) => Some(milliseconds(span)),
                Ttl::Keep | Ttl::Forever => None,
            },
        }
    }
}

/// Runs a source once, with its effects held back and shown.
#[utoipa::path(post, path = "/api/v1/scripts/test", tag = "scripts", operation_id = "test_source", request_body = TestIn, responses((status = 200, body = TestOut), Problems))]
#[post("/scripts/test")]
async fn test(
    _: Editor,
    runtime: Data<Runtime>,
    body: Body<TestIn>,
) -> Result<Json<TestOut>, ApiError> {
    let mut body = body.into_inner();
    let source =
        body.source.take().ok_or_else(|| ApiError::field("source", "the source to run"))?;
    if body.version.is_some() {
        return Err(ApiError::field("version", "nothing: only saved scripts have versions"));
    }
    let language = body.language.unwrap_or(Language::Typescript);
    try_out(&runtime, body, source, language, "test".into(), None).await
}

/// Runs a saved script once, or a new source in its name, with its effects held back and shown.
#[utoipa::path(post, path = "/api/v1/scripts/{id}/test", tag = "scripts", operation_id = "test_script", params(("id" = ScriptId, Path)), request_body = TestIn, responses((status = 200, body = TestOut), Problems))]
#[post("/scripts/{id}/test")]
async fn test_saved(
    _: Editor,
    runtime: Data<Runtime>,
    id: Path<ScriptId>,
    body: Body<TestIn>,
) -> Result<Json<TestOut>, ApiError> {
    let mut body = body.into_inner();
    let script = find(&runtime, *id).await?;
    let (source, language) = match (body.source.take(), body.version) {
        (Some(_), Some(_)) => {
            return Err(ApiError::field("version", "either a source or a version"));
        }
        (Some(source), None) => (source, script.language),
        (None, None) => (script.source, script.language),
        (None, Some(version)) => {
            let found = runtime.store().scripts().version(*id, version).await?;
            let found =
                found.ok_or_else(|| ApiError::field("version", "a version of the script"))?;
            (found.source, found.language)
        }
    };
    let language = body.language.unwrap_or(language);
    try_out(&runtime, body, source, language, script.name, Some(script.id)).await
}

async fn try_out(
    runtime: &Runtime,
    mut body: TestIn,
    source: String,
    language: Language,
    name: String,
    script: Option<ScriptId>,
) -> Result<Json<TestOut>, ApiError> {
    check_source(&source)?;
    let limits = body.limits.take().unwrap_or_default().checked(runtime)?;
    let event = test_event(runtime, &body).await?;
    let event_id = match (&event, body.event) {
        (TestEvent::Stored(event), None) => Some(event.uid),
        _ => None,
    };
    let name = body.name.unwrap_or(name);
    extract::name(&name)?;
    let fetch = body.fetch;
    let input = TestInput { name, source, language, event, limits, script, fetch };
    match runtime.scripts().try_out(input).await {
        Ok(outcome) => Ok(Json(TestOut::of(outcome, event_id))),
        Err(SaveError::Compile(error)) => Ok(Json(TestOut::uncompiled(error, event_id))),
        Err(error) => Err(error.into()),
    }
}

async fn test_event(runtime: &Runtime, body: &TestIn) -> Result<TestEvent, ApiError> {
    let limits = &runtime.config().limits;
    let one_of = || ApiError::field("event", "one of event_id, letter_id, event, and data");
    if let Some(id) = body.letter_id {
        if body.event_id.is_some() || body.event.is_some() || body.data.is_some() {
            return Err(one_of());
        }
        let letter = super::dead_letters::find(runtime, id).await?;
        let mut event = events::stored(runtime, letter.event).await?;
        if let Some(data) = letter.data {
            event.data = data.into();
        }
        return Ok(TestEvent::Stored(Box::new(event)));
    }
    match (body.event_id, &body.event, &body.data) {
        (Some(uid), None, None) => {
            Ok(TestEvent::Stored(Box::new(events::stored(runtime, uid).await?)))
        }
        (None, Some(event), None) => {
            Ok(TestEvent::Stored(Box::new(events::made(event, None, limits)?)))
        }
        (None, None, data) => {
            let data = data.as_deref().map_or("null", RawValue::get);
            let event_type = body.event_type.as_deref().unwrap_or(TEST_TYPE);
            let event = super::intake::payload(event_type, data, limits)?;
            let data = Bytes::clone(&event.data);
            Ok(TestEvent::Made { event_type: event_type.to_owned(), data })
        }
        _ => Err(one_of()),
    }
}

impl TestOut {
    pub(super) fn of(outcome: TestOutcome, event_id: Option<EventId>) -> Self {
        let TestOutcome { report, fetches } = outcome;
        let (result, error) = match report.outcome {
            Ok(result) => (RawValue::from_string(result).ok(), None),
            Err(error) => (None, Some(TestError { error: error.into(), line: None, column: None })),
        };
        let emits = report.emits.into_iter().map(|emit| EmitOut {
            event_type: emit.event_type,
            data: RawValue::from_string(emit.data).ok(),
            id: emit.id,
            subject: emit.subject,
            delay_ms: emit.delay.map(milliseconds),
        });
        Self {
            outcome: if error.is_some() { "failed" } else { "succeeded" },
            result,
            error,
            logs: report.logs.into_iter().map(LogOut::from).collect(),
            warnings: report.warnings,
            emits: emits.collect(),
            kv: report.kv.into_iter().map(KvOut::from).collect(),
            fetches: fetches.into_iter().map(|(method, url)| FetchOut { method, url }).collect(),
            duration_ms: milliseconds(report.duration),
            cpu_ms: milliseconds(report.cpu),
            event_id,
        }
    }

    fn uncompiled(error: CompileError, event_id: Option<EventId>) -> Self {
        let (line, column) = (Some(error.line), Some(error.column));
        let shown =
            ErrorOut { kind: ErrorKind::Compile, message: error.message, stack: Some(error.frame) };
        Self {
            outcome: "failed",
            result: None,
            error: Some(TestError { error: shown, line, column }),
            logs: Vec::new(),
            warnings: Vec::new(),
            emits: Vec::new(),
            kv: Vec::new(),
            fetches: Vec::new(),
            duration_ms: 0.0,
            cpu_ms: 0.0,
            event_id,
        }
    }
}
