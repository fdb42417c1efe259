//! Dead letters: found, replayed, discarded, restored; many at once in `bulk.rs`.

use actix_web::{
    HttpRequest, HttpResponse, delete, get, post,
    web::{Bytes, Data, Json, Path, ServiceConfig},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    auth::{Editor, Viewer},
    error::ApiError,
    events::EventOut,
    extract::{self, At, Page, Query},
    openapi::Problems,
    system::note,
};
use crate::{
    Runtime,
    domain::{
        BulkId, ErrorKind, EventId, LetterId, Millis, ScriptId, SubscriptionId, TypePattern,
        json::check_text,
    },
    store::{DeadLetter, LetterFilter, LetterGroup, LetterStatus},
};

const LIST: &str = "dead-letters";
/// Kinds of error that one answer groups letters into.
const GROUPS_MAX: u64 = 200;

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(list)
        .service(count)
        .service(grouped)
        .service(show)
        .service(replay)
        .service(discard)
        .service(restore);
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct LetterOut {
    pub id: LetterId,
    pub status: LetterStatus,
    pub subscription_id: SubscriptionId,
    /// As it was when the letter was written.
    pub subscription_name: String,
    pub script_id: ScriptId,
    /// Of the last attempt.
    pub script_version: u32,
    pub event_id: EventId,
    pub event_type: String,
    /// The event, with its payload; null if retention removed it.
    #[schema(required = true)]
    pub event: Option<EventOut>,
    pub last_error: String,
    pub error_kind: ErrorKind,
    #[schema(required = true)]
    pub stack: Option<String>,
    /// The same for errors that differ in numbers and quoted values only.
    pub fingerprint: String,
    pub attempts: u32,
    pub first_failed_at: Millis,
    pub died_at: Millis,
    pub replays: u32,
    /// The payload as it was edited for a replay.
    #[schema(value_type = serde_json::Value)]
    pub edited_data: Option<Box<RawValue>>,
    #[schema(required = true)]
    pub discarded_at: Option<Millis>,
}

impl LetterOut {
    fn of(letter: DeadLetter, event: Option<EventOut>) -> Self {
        Self {
            id: letter.id,
            status: letter.status,
            subscription_id: letter.subscription,
            subscription_name: letter.subscription_name,
            script_id: letter.script,
            script_version: letter.script_version,
            event_id: letter.event,
            event_type: letter.event_type,
            event,
            last_error: letter.error.message,
            error_kind: letter.error.kind,
            stack: letter.error.stack,
            fingerprint: letter.fingerprint,
            attempts: letter.attempts,
            first_failed_at: letter.first_failed_at,
            died_at: letter.died_at,
            replays: letter.replays,
            edited_data: letter.data.and_then(|text| RawValue::from_string(text).ok()),
            discarded_at: letter.discarded_at,
        }
    }
}

/// What letters must have to count; all parts must hold.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LetterTerms {
    pub status: Option<LetterStatus>,
    pub subscription_id: Option<SubscriptionId>,
    pub script_id: Option<ScriptId>,
    /// A type, or a pattern with `*` and `**`.
    pub event_type: Option<String>,
    pub event_id: Option<EventId>,
    pub error_kind: Option<ErrorKind>,
    /// Part of the error's message, in any case.
    pub text: Option<String>,
    pub fingerprint: Option<String>,
    /// The bulk operation that discarded it.
    pub discarded_by: Option<BulkId>,
    /// Died at this time or later.
    pub from: Option<String>,
    /// Died before this time.
    pub until: Option<String>,
}

impl LetterTerms {
    fn filter(self) -> Result<LetterFilter, ApiError> {
        if let Some(text) = &self.event_type {
            TypePattern::parse(text)
                .map_err(|error| ApiError::field("event_type", error.to_string()))?;
        }
        Ok(LetterFilter {
            status: self.status,
            subscription_id: self.subscription_id,
            script_id: self.script_id,
            event_type: self.event_type,
            event_id: self.event_id,
            error_kind: self.error_kind,
            text: self.text,
            fingerprint: self.fingerprint,
            discarded_by: self.discarded_by,
            from: extract::time("from", self.from.as_deref())?,
            until: extract::time("until", self.until.as_deref())?,
        })
    }
}

/// What letters must have to be listed, and which page of them.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LetterSearch {
    pub status: Option<LetterStatus>,
    pub subscription_id: Option<SubscriptionId>,
    pub script_id: Option<ScriptId>,
    /// A type, or a pattern with `*` and `**`.
    pub event_type: Option<String>,
    pub event_id: Option<EventId>,
    pub error_kind: Option<ErrorKind>,
    /// Part of the error's message, in any case.
    pub text: Option<String>,
    pub fingerprint: Option<String>,
    /// The bulk operation that discarded it.
    pub discarded_by: Option<BulkId>,
    /// Died at this time or later.
    pub from: Option<String>,
    /// Died before this time.
    pub until: Option<String>,
    /// False: without payloads, edited ones included.
    pub data: Option<bool>,
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u64>,
    pub cursor: Option<String>,
}

impl LetterSearch {
    /// What they must have, and which page of them.
    fn split(self) -> (LetterTerms, Pick) {
        let terms = LetterTerms {
            status: self.status,
            subscription_id: self.subscription_id,
            script_id: self.script_id,
            event_type: self.event_type,
            event_id: self.event_id,
            error_kind: self.error_kind,
            text: self.text,
            fingerprint: self.fingerprint,
            discarded_by: self.discarded_by,
            from: self.from,
            until: self.until,
        };
        let with_data = self.data != Some(false);
        (terms, Pick { with_data, limit: self.limit, cursor: self.cursor })
    }
}

/// How many letters, after which, and whether with their payloads.
struct Pick {
    with_data: bool,
    limit: Option<u64>,
    cursor: Option<String>,
}

/// Lists dead letters of any status, those that died last first.
///
/// With a filter that no index serves (`text`, or parts that hardly ever meet) a page may hold fewer
/// than `limit` and still have a `next`: each search looks at a bounded number of letters.
#[utoipa::path(get, path = "/api/v1/dead-letters", tag = "dead letters", operation_id = "list_dead_letters", params(LetterSearch), responses((status = 200, body = Page<LetterOut>), Problems))]
#[get("/dead-letters")]
async fn list(
    _: Viewer,
    runtime: Data<Runtime>,
    search: Query<LetterSearch>,
) -> Result<Json<Page<LetterOut>>, ApiError> {
    let (terms, pick) = search.into_inner().split();
    let limit = extract::limit(pick.limit)?;
    let before = extract::cursor(LIST, pick.cursor.as_deref())?.map(|At(at, id)| (at, id));
    let found = runtime.store().letters().page(&terms.filter()?, before, limit).await?;
    let letters = found.letters;
    let uids: Vec<EventId> = letters.iter().map(|letter| letter.event).collect();
    let events = runtime.store().events().find_all(&uids).await?;
    let next = found.next.map(|(at, id)| extract::seal(LIST, &format!("{}.{id}", at.0)));
    let item = |mut letter: DeadLetter| {
        let event = events.iter().find(|event| event.uid == letter.event);
        letter.data = letter.data.filter(|_| pick.with_data);
        LetterOut::of(letter, event.map(|event| EventOut::of(event, pick.with_data)))
    };
    Ok(Json(Page { items: letters.into_iter().map(item).collect(), next }))
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Count {
    pub count: u64,
    /// False: at least so many; to find out would take reading them all (`text`, `from`, `until`).
    pub exact: bool,
}

/// Counts the letters that match.
#[utoipa::path(get, path = "/api/v1/dead-letters/count", tag = "dead letters", operation_id = "count_dead_letters", params(LetterTerms), responses((status = 200, body = Count), Problems))]
#[get("/dead-letters/count")]
async fn count(
    _: Viewer,
    runtime: Data<Runtime>,
    search: Query<LetterTerms>,
) -> Result<Json<Count>, ApiError> {
    let filter = search.into_inner().filter()?;
    let counted = runtime.store().letters().count(&filter).await?;
    Ok(Json(Count { count: counted.count, exact: counted.exact }))
}

/// Letters with the same kind of error.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct GroupOut {
    /// Filter by it to see the letters.
    pub fingerprint: String,
    pub error_kind: ErrorKind,
    /// The message of one of them, cut after a thousand characters.
    pub message: String,
    pub count: u64,
    /// Since there was none of this kind.
    pub first_died_at: Millis,
    pub last_died_at: Millis,
    /// Scripts that they died of, the most frequent first.
    pub scripts: Vec<ScriptId>,
}

impl From<LetterGroup> for GroupOut {
    fn from(group: LetterGroup) -> Self {
        Self {
            fingerprint: group.fingerprint,
            error_kind: group.error_kind,
            message: group.message,
            count: group.count,
            first_died_at: group.first_died_at,
            last_died_at: group.last_died_at,
            scripts: group.scripts,
        }
    }
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Groups {
    pub items: Vec<GroupOut>,
    /// False: with `text`, `from`, `until`, `event_id` or `discarded_by` only the letters that died
    /// last were grouped.
    pub exact: bool,
}

/// Groups letters by their error, the most frequent first. Without `status`: the dead ones.
#[utoipa::path(get, path = "/api/v1/dead-letters/groups", tag = "dead letters", operation_id = "group_dead_letters", params(LetterTerms), responses((status = 200, body = Groups), Problems))]
#[get("/dead-letters/groups")]
async fn grouped(
    _: Viewer,
    runtime: Data<Runtime>,
    search: Query<LetterTerms>,
) -> Result<Json<Groups>, ApiError> {
    let mut filter = search.into_inner().filter()?;
    filter.status = filter.status.or(Some(LetterStatus::Dead));
    let (groups, exact) = runtime.store().letters().groups(&filter, GROUPS_MAX).await?;
    Ok(Json(Groups { items: groups.into_iter().map(GroupOut::from).collect(), exact }))
}

/// One letter with its event.
#[utoipa::path(get, path = "/api/v1/dead-letters/{id}", tag = "dead letters", operation_id = "get_dead_letter", params(("id" = LetterId, Path)), responses((status = 200, body = LetterOut), Problems))]
#[get("/dead-letters/{id}")]
async fn show(
    _: Viewer,
    runtime: Data<Runtime>,
    id: Path<LetterId>,
) -> Result<Json<LetterOut>, ApiError> {
    Ok(Json(shown(&runtime, *id).await?))
}

pub(super) async fn find(runtime: &Runtime, id: LetterId) -> Result<DeadLetter, ApiError> {
    runtime.store().letters().find(id).await?.ok_or_else(|| ApiError::not_found("dead letter", id))
}

async fn shown(runtime: &Runtime, id: LetterId) -> Result<LetterOut, ApiError> {
    let letter = find(runtime, id).await?;
    let event = runtime.store().events().find(letter.event).await?;
    Ok(LetterOut::of(letter, event.map(|event| EventOut::of(&event, true))))
}

/// How a letter is replayed. An empty body replays it as it is.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayIn {
    /// Replaces the payload, for this and later replays.
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<Box<RawValue>>,
    pub script_version: Option<WhichVersion>,
}

/// The script's version that a replay runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum WhichVersion {
    /// The one that is current when the attempt starts.
    #[default]
    Current,
    /// The one of the last attempt.
    Original,
}

/// Replays a dead letter: back to its subscription with fresh attempts.
#[utoipa::path(post, path = "/api/v1/dead-letters/{id}/replay", tag = "dead letters", operation_id = "replay_dead_letter", params(("id" = LetterId, Path)), request_body = Option<ReplayIn>, responses((status = 202, body = LetterOut), Problems))]
#[post("/dead-letters/{id}/replay")]
async fn replay(
    editor: Editor,
    runtime: Data<Runtime>,
    request: HttpRequest,
    id: Path<LetterId>,
    body: Bytes,
) -> Result<HttpResponse, ApiError> {
    let ReplayIn { data, script_version } = extract::optional_body(request.headers(), &body)?;
    if let Some(data) = &data {
        let limits = &runtime.config().limits;
        if data.get().len() > limits.event_bytes {
            return Err(ApiError::field("data", format!("at most {} bytes", limits.event_bytes)));
        }
        check_text(data.get().as_bytes(), limits.json_depth)?;
    }
    let letter = find(&runtime, *id).await?;
    let version = match script_version.unwrap_or_default() {
        WhichVersion::Current => None,
        WhichVersion::Original => Some(letter.script_version).filter(|version| *version > 0),
    };
    runtime.dead_letters().replay(*id, data.as_deref().map(RawValue::get), version).await?;
    let detail = serde_json::json!({ "edited": data.is_some() }).to_string();
    note(&runtime, &editor.0, "dead_letter.replay", format!("dead letter {id}"), Some(detail))
        .await?;
    Ok(HttpResponse::Accepted().json(shown(&runtime, *id).await?))
}

/// Discards a dead letter; `restore` undoes it.
#[utoipa::path(delete, path = "/api/v1/dead-letters/{id}", tag = "dead letters", operation_id = "discard_dead_letter", params(("id" = LetterId, Path)), responses((status = 204), Problems))]
#[delete("/dead-letters/{id}")]
async fn discard(
    editor: Editor,
    runtime: Data<Runtime>,
    id: Path<LetterId>,
) -> Result<HttpResponse, ApiError> {
    runtime.dead_letters().discard(*id).await?;
    note(&runtime, &editor.0, "dead_letter.discard", format!("dead letter {id}"), None).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Undoes a discard.
#[utoipa::path(post, path = "/api/v1/dead-letters/{id}/restore", tag = "dead letters", operation_id = "restore_dead_letter", params(("id" = LetterId, Path)), responses((status = 200, body = LetterOut), Problems))]
#[post("/dead-letters/{id}/restore")]
async fn restore(
    editor: Editor,
    runtime: Data<Runtime>,
    id: Path<LetterId>,
) -> Result<Json<LetterOut>, ApiError> {
    runtime.dead_letters().restore(*id).await?;
    note(&runtime, &editor.0, "dead_letter.restore", format!("dead letter {id}"), None).await?;
    Ok(Json(shown(&runtime, *id).await?))
}
