//! Events: published, searched, and shown with what became of them.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest, HttpResponse, get, post,
    web::{Bytes, Data, Json, Path, ServiceConfig},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    auth::{Publisher, Viewer},
    error::{ApiError, Code},
    extract::{self, Query},
    filters::{self, WhyNotOut},
    intake,
    openapi::Problems,
    runs::ErrorOut,
};
use crate::{
    Runtime,
    actors::journal::Accepted,
    domain::{
        DataEncoding, Event, EventId, Millis, RunId, Seq, Subscription, SubscriptionId, TypePattern,
    },
    filter::{Filter, View},
    runtime::DeliveryStatus,
    store::EventFilter,
};

const LIST: &str = "events";
/// Payloads of one page, in bytes: a page ends early rather than fill the memory.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Events read at once while a filter is searched for.
const SCAN: u64 = 100;
/// How long one search looks for what no index leads to; its `next` goes on from there.
const SEARCH: Duration = Duration::from_millis(50);
/// Events above and below one in the tree of causes.
const CAUSES_MAX: usize = 1_000;

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(publish).service(list).service(types).service(matches).service(show);
}

/// What is published: one event, or many at once.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape for the document; `intake` reads it borrowed")]
#[serde(untagged)]
pub(super) enum Publication {
    One(Box<EventIn>),
    Many(Vec<EventIn>),
}

/// An event as plain JSON. With `specversion` it is a CloudEvent, and may have extensions.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape for the document; `intake` reads it borrowed")]
#[serde(deny_unknown_fields)]
pub(super) struct EventIn {
    #[schema(
        example = "finance.PaymentCreated",
        max_length = 255,
        pattern = r"^[^.*\x00-\x1f\x7f-\x9f]+(\.[^.*\x00-\x1f\x7f-\x9f]+)*$"
    )]
    pub r#type: String,
    pub data: Option<serde_json::Value>,
    /// Unique within the source; absent: the uid that it is given.
    pub id: Option<String>,
    pub source: Option<String>,
    pub subject: Option<String>,
    pub time: Option<Millis>,
    pub datacontenttype: Option<String>,
    pub dataschema: Option<String>,
    /// Instead of `data`: bytes.
    pub data_base64: Option<String>,
}

/// What became of a publish.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Published {
    /// Events that are new, and on disk.
    pub accepted: u64,
    /// Events whose source and id were seen before; they are not delivered again.
    pub duplicates: u64,
    /// The uids, in the order of the items.
    pub ids: Vec<EventId>,
}

impl Published {
    pub(super) fn of(accepted: &[Accepted]) -> Self {
        let duplicates = accepted.iter().filter(|one| one.duplicate).count() as u64;
        Self {
            accepted: accepted.len() as u64 - duplicates,
            duplicates,
            ids: accepted.iter().map(|one| one.uid).collect(),
        }
    }
}

/// A CloudEvent as it was accepted. Extension attributes stand beside the others.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct EventOut {
    #[schema(value_type = String, example = "1.0")]
    pub specversion: &'static str,
    /// The publisher's id, unique within `source`; the uid where it gave none.
    pub id: String,
    pub source: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacontenttype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataschema: Option<String>,
    /// The payload, byte for byte as received.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<Box<RawValue>>,
    /// The payload where it is no JSON and no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub data_base64: Option<Box<RawValue>>,
    /// What URLs and every `event_id` name.
    pub uid: EventId,
    /// Position in the log.
    #[schema(value_type = u64)]
    pub seq: Seq,
    pub accepted_at: Millis,
    /// When its payload was erased; null for all others.
    #[schema(required = true)]
    pub erased_at: Option<Millis>,
    /// Emits between this event and the published one it descends from.
    pub hop: u32,
    pub spread: u64,
    #[schema(required = true)]
    pub cause: Option<CauseOut>,
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub extensions: BTreeMap<String, Box<RawValue>>,
    #[serde(flatten)]
    #[schema(ignore)]
    pub flat: BTreeMap<String, Box<RawValue>>,
}

/// Names that extension attributes cannot take beside the others; they are in `extensions`.
const OURS: [&str; 13] = [
    "erased_at",
    "uid",
    "seq",
    "hop",
    "spread",
    "cause",
    "extensions",
    "deliveries",
    "causes",
    "effects",
    "data",
    "datacontenttype",
    "dataschema",
];

/// The event and the subscription that emitted an event.
#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CauseOut {
    pub event_id: EventId,
    pub subscription_id: SubscriptionId,
}

impl EventOut {
    pub(super) fn of(event: &Event, with_data: bool) -> Self {
        let envelope = &event.envelope;
        let raw = || serde_json::from_slice(&event.data).ok().filter(|_| with_data);
        let (data, data_base64) = match envelope.encoding {
            DataEncoding::Json => (raw(), None),
            DataEncoding::Base64 => (None, raw()),
            DataEncoding::Absent | DataEncoding::Erased(_) => (None, None),
        };
        let extensions: BTreeMap<String, Box<RawValue>> = envelope
            .extensions
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let flat = extensions.iter().filter(|(name, _)| !OURS.contains(&name.as_str()));
        Self {
            specversion: "1.0",
            id: event.id().into_owned(),
            source: envelope.source.to_string(),
            event_type: envelope.event_type.to_string(),
            time: event.time().into_owned(),
            subject: envelope.subject.as_deref().map(str::to_owned),
            datacontenttype: envelope.datacontenttype.as_deref().map(str::to_owned),
            dataschema: envelope.dataschema.as_deref().map(str::to_owned),
            data,
            data_base64,
            uid: event.uid,
            seq: event.seq,
            accepted_at: event.accepted_at,
            erased_at: match envelope.encoding {
                DataEncoding::Erased(at) => Some(at),
                _ => None,
            },
            hop: event.lineage.hop,
            spread: event.lineage.spread,
            cause: event.lineage.cause.map(|cause| CauseOut {
                event_id: cause.event,
                subscription_id: cause.subscription,
            }),
            flat: flat.map(|(name, value)| (name.clone(), value.clone())).collect(),
            extensions,
        }
    }
}

/// One event for one matching subscription.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct DeliveryOut {
    pub subscription_id: SubscriptionId,
    /// Null when the subscription is gone.
    #[schema(required = true)]
    pub subscription_name: Option<String>,
    pub status: DeliveryStatus,
    pub attempts: u32,
    #[schema(required = true)]
    pub next_attempt_at: Option<Millis>,
    #[schema(required = true)]
    pub script_version: Option<u32>,
    /// Attempts whose runs were kept, oldest first.
    pub runs: Vec<AttemptOut>,
}

/// One attempt of a delivery.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AttemptOut {
    /// The run's id.
    pub id: RunId,
    pub attempt: u32,
    pub replay: u32,
    #[schema(value_type = String, example = "succeeded")]
    pub outcome: &'static str,
    #[schema(required = true)]
    pub error: Option<ErrorOut>,
    pub started_at: Millis,
    pub duration_ms: f64,
}

/// Events, the newest first; `next` goes into `cursor`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct EventPage {
    pub items: Vec<EventItem>,
    /// Cursor of the next page; null on the last one.
    pub next: Option<String>,
    /// When the oldest event was accepted that this page looked at, whether it is listed or not; null
    /// when none was.
    pub looked_back_to: Option<Millis>,
}

/// An event of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct EventItem {
    #[serde(flatten)]
    pub event: EventOut,
    /// Left out with `deliveries=false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Vec<DeliveryOut>>,
}

/// An event with everything that became of it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct EventDetail {
    #[serde(flatten)]
    pub event: EventOut,
    pub deliveries: Vec<DeliveryOut>,
    /// From the event that caused it up to the published one.
    pub causes: Vec<Relative>,
    /// What runs on it emitted, what runs on that emitted, and so on.
    pub effects: Vec<Relative>,
    /// There are more effects than are listed.
    pub effects_truncated: bool,
    /// What the subscriptions that emitted them are called, of those that exist.
    #[schema(value_type = BTreeMap<String, String>)]
    pub emitters: HashMap<SubscriptionId, String>,
}

/// An event in the tree of causes.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Relative {
    pub uid: EventId,
    #[serde(rename = "type")]
    pub event_type: String,
    pub accepted_at: Millis,
    #[schema(required = true)]
    pub cause: Option<CauseOut>,
}

impl Relative {
    fn of(event: &Event) -> Self {
        Self {
            uid: event.uid,
            event_type: event.envelope.event_type.to_string(),
            accepted_at: event.accepted_at,
            cause: event.lineage.cause.map(|cause| CauseOut {
                event_id: cause.event,
                subscription_id: cause.subscription,
            }),
        }
    }
}

/// Publishes events: all of them or none, on disk when answered.
///
/// CloudEvents 1.0 structured, binary or batch; plain JSON `{"type","data"}` and arrays of it; NDJSON.
#[utoipa::path(
    post, path = "/api/v1/events", tag = "events", operation_id = "publish_events",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "With the item's index, the id of items without one"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context; kept as an extension of events that have none"),
        ("tracestate" = Option<String>, Header, description = "Goes with traceparent"),
    ),
    request_body(content = Publication, description = "An event, an array of them, or CloudEvents", content_type = "application/json"),
    responses((status = 202, body = Published), Problems),
)]
#[post("/events")]
async fn publish(
    _: Publisher,
    request: HttpRequest,
    runtime: Data<Runtime>,
    body: Bytes,
) -> Result<HttpResponse, ApiError> {
    let items = intake::parse(request.headers(), &body, &runtime.config().limits)?;
    let accepted = runtime.accept(items, extract::trace_context(&request)).await?;
    Ok(HttpResponse::Accepted().json(Published::of(&accepted)))
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Search {
    /// An event type, or a pattern with `*` and `**`.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    pub subject: Option<String>,
    pub source: Option<String>,
    /// With `source`: the publisher's own id.
    pub id: Option<String>,
    /// Accepted at this time or later.
    pub from: Option<String>,
    /// Accepted before this time.
    pub until: Option<String>,
    /// Uid of the event that caused it.
    pub cause: Option<EventId>,
    /// A filter expression such as `$.amount > 100`.
    pub filter: Option<String>,
    /// True: only events that no subscription took.
    pub unmatched: Option<bool>,
    /// False leaves the deliveries out.
    pub deliveries: Option<bool>,
    /// False leaves the payloads out.
    pub data: Option<bool>,
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u64>,
    pub cursor: Option<String>,
}

/// Searches events, the newest first.
///
/// With `filter` or `unmatched` a page may hold fewer than `limit` and still have a `next`: each search
/// looks for some 50 ms, and says how far back it came.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", operation_id = "list_events", params(Search), responses((status = 200, body = EventPage), Problems))]
#[get("/events")]
async fn list(
    _: Viewer,
    runtime: Data<Runtime>,
    search: Query<Search>,
) -> Result<Json<EventPage>, ApiError> {
    let search = search.into_inner();
    let Found { events, next, looked_back_to } = find(&runtime, &search).await?;
    let mut deliveries = match search.deliveries {
        Some(false) => Vec::new(),
        _ => deliveries(&runtime, &events).await?,
    }
    .into_iter();
    let item = |event| EventItem {
        event: EventOut::of(event, search.data != Some(false)),
        deliveries: deliveries.next(),
    };
    let items = events.iter().map(item).collect();
    let next = next.map(|seq| extract::seal(LIST, &seq.to_string()));
    Ok(Json(EventPage { items, next, looked_back_to }))
}

/// What one search found, the newest first.
#[derive(Default)]
struct Found {
    events: Vec<Event>,
    next: Option<Seq>,
    looked_back_to: Option<Millis>,
}

async fn find(runtime: &Runtime, search: &Search) -> Result<Found, ApiError> {
    let store = runtime.store();
    if let Some(id) = &search.id {
        let source = search.source.as_deref();
        let source = source
            .ok_or_else(|| ApiError::field("source", "a source: ids are unique within it"))?;
        let events = store.events().find_by_id(source, id).await?.into_iter().collect();
        return Ok(Found { events, ..Found::default() });
    }
    let limit = extract::limit(search.limit)?;
    let pattern = |text: &String| {
        TypePattern::parse(text).map_err(|e| ApiError::field("type", e.to_string()))
    };
    let wanted = EventFilter {
        event_type: search.event_type.as_ref().map(pattern).transpose()?,
        subject: search.subject.clone(),
        source: search.source.clone(),
        from: extract::time("from", search.from.as_deref())?,
        until: extract::time("until", search.until.as_deref())?,
        cause: search.cause,
    };
    let filter = search.filter.as_deref().map(filters::parse).transpose()?;
    let unmatched = search.unmatched == Some(true);
    let is_search = unmatched || filter.is_some();
    let mut before = extract::cursor(LIST, search.cursor.as_deref())?.map(Seq);
    let (began, mut found, mut bytes) = (Instant::now(), Found::default(), 0);
    loop {
        let (events, rest) = store.events().search(&wanted, before, SCAN).await?;
        let is_short = (events.len() as u64) < SCAN;
        let taken = match unmatched {
            true => {
                runtime.deliveries_of(&events).await?.iter().map(|all| !all.is_empty()).collect()
            }
            false => vec![false; events.len()],
        };
        for (event, is_taken) in events.into_iter().zip(taken) {
            let fits =
                filter.as_ref().is_none_or(|filter: &Filter| filter.matches(&View::new(&event)));
            let takes = fits && !is_taken;
            let is_full = found.events.len() as u64 == limit
                || (bytes > PAGE_BYTES_MAX && !found.events.is_empty());
            if takes && is_full {
                return Ok(Found { next: before, ..found });
            }
            before = Some(event.seq);
            found.looked_back_to = Some(event.accepted_at);
            if takes {
                bytes += event.data.len();
                found.events.push(event);
            }
        }
        let Some(rest) = rest else { return Ok(found) };
        before = Some(rest);
        if is_short || (is_search && began.elapsed() > SEARCH) {
            return Ok(Found { next: before, ..found });
        }
    }
}

/// The deliveries of each event, with their attempts and the subscriptions' names.
async fn deliveries(
    runtime: &Runtime,
    events: &[Event],
) -> Result<Vec<Vec<DeliveryOut>>, ApiError> {
    let states = runtime.deliveries_of(events).await?;
    let ids: Vec<SubscriptionId> = states.iter().flatten().map(|one| one.subscription_id).collect();
    let names = runtime.store().subscriptions().names(&ids).await?;
    let numbers: Vec<u64> =
        states.iter().flatten().flat_map(|state| state.runs.iter().copied()).collect();
    let mut kept: HashMap<(EventId, SubscriptionId), Vec<AttemptOut>> = HashMap::new();
    for run in runtime.store().runs().by_numbers(&numbers).await? {
        kept.entry((run.event, run.subscription)).or_default().push(AttemptOut {
            id: run.id,
            attempt: run.attempt,
            replay: run.replay,
            outcome: if run.error.is_some() { "failed" } else { "succeeded" },
            error: run.error.map(ErrorOut::from),
            started_at: run.started_at,
            duration_ms: extract::milliseconds(run.duration),
        });
    }
    let mut delivery = |event: &Event, state: crate::runtime::DeliveryState| DeliveryOut {
        subscription_name: names.get(&state.subscription_id).cloned(),
        runs: kept.remove(&(event.uid, state.subscription_id)).unwrap_or_default(),
        subscription_id: state.subscription_id,
        status: state.status,
        attempts: state.attempts,
        next_attempt_at: state.next_attempt_at,
        script_version: state.script_version,
    };
    let of = |(event, states): (&Event, Vec<crate::runtime::DeliveryState>)| {
        states.into_iter().map(|state| delivery(event, state)).collect()
    };
    Ok(events.iter().zip(states).map(of).collect())
}

/// One event with its deliveries, their attempts, and the tree of causes.
#[utoipa::path(get, path = "/api/v1/events/{uid}", tag = "events", operation_id = "get_event", params(("uid" = EventId, Path)), responses((status = 200, body = EventDetail), Problems))]
#[get("/events/{uid}")]
async fn show(
    _: Viewer,
    runtime: Data<Runtime>,
    uid: Path<EventId>,
) -> Result<Json<EventDetail>, ApiError> {
    let event = stored(&runtime, uid.into_inner()).await?;
    let mut deliveries = deliveries(&runtime, std::slice::from_ref(&event)).await?;
    let (effects, effects_truncated) = effects(&runtime, event.uid).await?;
    let causes = causes(&runtime, &event).await?;
    let cause = event.lineage.cause.map(|cause| cause.subscription);
    let above = causes.iter().chain(&effects).filter_map(|one| one.cause);
    let emitters: Vec<SubscriptionId> =
        above.map(|cause| cause.subscription_id).chain(cause).collect();
    Ok(Json(EventDetail {
        emitters: runtime.store().subscriptions().names(&emitters).await?,
        causes,
        event: EventOut::of(&event, true),
        deliveries: deliveries.pop().unwrap_or_default(),
        effects,
        effects_truncated,
    }))
}

pub(super) async fn stored(runtime: &Runtime, uid: EventId) -> Result<Event, ApiError> {
    let event = runtime.store().events().find(uid).await?;
    event.ok_or_else(|| ApiError::not_found("event", uid))
}

async fn causes(runtime: &Runtime, event: &Event) -> Result<Vec<Relative>, ApiError> {
    let (mut causes, mut above) = (Vec::new(), event.lineage.cause);
    while let Some(cause) = above.filter(|_| causes.len() < CAUSES_MAX) {
        // Retention may have taken it: the tree is known up to here.
        let Some(event) = runtime.store().events().find(cause.event).await? else { break };
        causes.push(Relative::of(&event));
        above = event.lineage.cause;
    }
    Ok(causes)
}

async fn effects(runtime: &Runtime, uid: EventId) -> Result<(Vec<Relative>, bool), ApiError> {
    let (mut effects, mut open) = (Vec::new(), VecDeque::from([uid]));
    while let Some(uid) = open.pop_front() {
        let room = CAUSES_MAX - effects.len();
        let children = runtime.store().events().caused_by(uid, room as u64 + 1).await?;
        for child in children {
            if effects.len() == CAUSES_MAX {
                return Ok((effects, true));
            }
            open.push_back(child.uid);
            effects.push(Relative::of(&child));
        }
    }
    Ok((effects, false))
}

/// Whether a subscription takes an event, and if not, why.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct MatchOut {
    pub subscription_id: SubscriptionId,
    pub subscription_name: String,
    pub event_type: String,
    pub matches: bool,
    #[schema(required = true)]
    pub why_not: Option<WhyNotOut>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Matches {
    /// Those that take the event's type, then those of a type that is nearly it.
    pub items: Vec<MatchOut>,
    /// There are more than 1,000 of the type, or more than 100 near it.
    pub truncated: bool,
}

/// Subscriptions that one answer of `matches` explains.
const MATCHES_MAX: usize = 1_000;
const NEAR_MAX: usize = 100;

/// For every subscription to the event's type, or one that is nearly it: whether it takes the event
/// now, and if not, why.
#[utoipa::path(get, path = "/api/v1/events/{uid}/matches", tag = "events", operation_id = "get_event_matches", params(("uid" = EventId, Path)), responses((status = 200, body = Matches), Problems))]
#[get("/events/{uid}/matches")]
async fn matches(
    _: Viewer,
    runtime: Data<Runtime>,
    uid: Path<EventId>,
) -> Result<Json<Matches>, ApiError> {
    let event = stored(&runtime, uid.into_inner()).await?;
    let (store, event_type) = (runtime.store().subscriptions(), &event.envelope.event_type);
    let mut candidates = store.by_event_type(event_type).await?;
    let mut near = store.near_event_type(event_type, NEAR_MAX as u64 + 1).await?;
    let truncated = candidates.len() > MATCHES_MAX || near.len() > NEAR_MAX;
    candidates.truncate(MATCHES_MAX);
    near.truncate(NEAR_MAX);
    let items = candidates.iter().chain(&near).map(|one| match_of(one, &event));
    Ok(Json(Matches { items: items.collect::<Result<_, _>>()?, truncated }))
}

fn match_of(subscription: &Subscription, event: &Event) -> Result<MatchOut, ApiError> {
    let definition = &subscription.definition;
    let event_type = &event.envelope.event_type;
    let why_not = if !definition.event_type.matches(event_type) {
        Some(WhyNotOut::of_type(&definition.event_type, event_type))
    } else if !definition.is_active {
        Some(WhyNotOut::plain("is_active", "false"))
    } else {
        let filter = definition.filter.as_deref().map(filters::parse).transpose()?;
        filter.and_then(|filter| filter.explain(&View::new(event))).map(WhyNotOut::from)
    };
    Ok(MatchOut {
        subscription_id: subscription.id,
        event_type: definition.event_type.to_string(),
        subscription_name: subscription.name.clone(),
        matches: why_not.is_none(),
        why_not,
    })
}

/// Event types of stored events.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct EventTypes {
    pub items: Vec<String>,
}

/// Lists every event type that is stored, in order.
#[utoipa::path(get, path = "/api/v1/event-types", tag = "events", operation_id = "list_event_types", responses((status = 200, body = EventTypes), Problems))]
#[get("/event-types")]
async fn types(_: Viewer, runtime: Data<Runtime>) -> Result<Json<EventTypes>, ApiError> {
    Ok(Json(EventTypes { items: runtime.store().events().types().await? }))
}

/// An event that is not stored, as tests and filter checks take it.
///
/// `{"type","data",…}` or a CloudEvent; with `bare`, an object without `type` and `data` is a
/// payload of the type `bare`.
pub(super) fn made(
    text: &RawValue,
    bare: Option<&str>,
    limits: &crate::config::Limits,
) -> Result<Event, ApiError> {
    #[derive(Deserialize)]
    struct Looks<'a> {
        #[serde(rename = "type", borrow)]
        event_type: Option<&'a RawValue>,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    let looks: Option<Looks<'_>> = serde_json::from_str(text.get()).ok();
    let is_event =
        looks.as_ref().is_some_and(|looks| looks.event_type.is_some() || looks.data.is_some());
    let event = match bare {
        Some(event_type) if !is_event => intake::payload(event_type, text.get(), limits)?,
        Some(event_type) if looks.is_some_and(|looks| looks.event_type.is_none()) => {
            let data = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text.get());
            let data = data.ok().and_then(|mut members| members.remove("data"));
            let data = data.ok_or_else(|| ApiError::new(Code::InvalidJson, "expected an event"))?;
            intake::payload(event_type, data.get(), limits)?
        }
        _ => intake::lone(text.get(), limits)?,
    };
    let now = Millis::now();
    Ok(Event {
        seq: Seq::ZERO,
        uid: EventId::numbered(now, Seq::ZERO, rand::random()),
        accepted_at: now,
        envelope: event.envelope,
        data: event.data,
        lineage: event.lineage,
    })
}
