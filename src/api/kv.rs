//! Keys of `sdk.kv`: looked at by anybody who reads, written by editors.

use actix_web::{
    HttpResponse, delete, get, put,
    web::{Data, Json, Path, ServiceConfig},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    auth::{Editor, Viewer},
    error::ApiError,
    extract::{self, Body, Page, Query},
    openapi::Problems,
    system::note,
};
use crate::{
    Runtime,
    domain::{
        Millis,
        kv::{self, Namespace, PAGE_ITEMS_MAX, Span},
        parse_span,
    },
    sandbox::border::check_json,
    store::KvItem,
};

const LIST: &str = "keys";

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(spaces).service(list).service(show).service(set).service(remove);
}

/// A namespace and what it holds.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct SpaceOut {
    /// The id of a script, or the name of shared keys.
    pub namespace: String,
    /// Name of the script.
    #[schema(required = true)]
    pub script: Option<String>,
    pub keys: u64,
    /// Of keys and values.
    pub bytes: u64,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct KeyOut {
    pub key: String,
    #[schema(value_type = serde_json::Value)]
    pub value: Box<RawValue>,
    #[schema(required = true)]
    pub expires_at: Option<Millis>,
    pub updated_at: Millis,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyIn {
    #[schema(value_type = serde_json::Value)]
    pub value: Box<RawValue>,
    /// Milliseconds, or a text such as `"10m"`; absent: it stays.
    pub ttl: Option<TtlIn>,
}

/// How long a key stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum TtlIn {
    Milliseconds(f64),
    #[schema(example = "10m")]
    Text(String),
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct KeySearch {
    /// Only keys that begin so.
    pub prefix: Option<String>,
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u64>,
    pub cursor: Option<String>,
}

/// Lists the namespaces that hold keys.
#[utoipa::path(get, path = "/api/v1/kv", tag = "kv", operation_id = "list_namespaces", responses((status = 200, body = Page<SpaceOut>), Problems))]
#[get("/kv")]
async fn spaces(_: Viewer, runtime: Data<Runtime>) -> Result<Json<Page<SpaceOut>>, ApiError> {
    let mut items = Vec::new();
    for (namespace, usage) in runtime.store().kv().spaces().await? {
        let script = match &namespace {
            Namespace::Script(id) => runtime.store().scripts().find(*id).await?,
            Namespace::Shared(_) => None,
        };
        items.push(SpaceOut {
            namespace: namespace.to_string(),
            script: script.map(|script| script.name),
            keys: usage.keys,
            bytes: usage.bytes,
        });
    }
    Ok(Json(Page { items, next: None }))
}

/// Lists keys with their values, in the order of the keys' bytes.
#[utoipa::path(get, path = "/api/v1/kv/{namespace}", tag = "kv", operation_id = "list_keys", params(("namespace" = String, Path), KeySearch), responses((status = 200, body = Page<KeyOut>), Problems))]
#[get("/kv/{namespace}")]
async fn list(
    _: Viewer,
    runtime: Data<Runtime>,
    path: Path<String>,
    search: Query<KeySearch>,
) -> Result<Json<Page<KeyOut>>, ApiError> {
    let namespace = namespace(&path)?;
    let limit = u32::try_from(extract::limit(search.limit)?).unwrap_or(PAGE_ITEMS_MAX);
    let search = search.into_inner();
    let after = extract::cursor(LIST, search.cursor.as_deref())?;
    let span = Span { prefix: search.prefix.unwrap_or_default(), after };
    let (items, more) =
        runtime.store().kv().page(&namespace, &span, limit, Millis::steady()).await?;
    let next = items.last().filter(|_| more).map(|item| extract::seal(LIST, &item.key));
    let items = items.into_iter().map(KeyOut::of).collect::<Result<_, _>>()?;
    Ok(Json(Page { items, next }))
}

/// One key.
#[utoipa::path(get, path = "/api/v1/kv/{namespace}/{key}", tag = "kv", operation_id = "get_key", params(("namespace" = String, Path), ("key" = String, Path)), responses((status = 200, body = KeyOut), Problems))]
#[get("/kv/{namespace}/{key:.*}")]
async fn show(
    _: Viewer,
    runtime: Data<Runtime>,
    path: Path<(String, String)>,
) -> Result<Json<KeyOut>, ApiError> {
    let (namespace, key) = place(path)?;
    let found = runtime.store().kv().find(&namespace, &key, Millis::steady()).await?;
    let item = found.ok_or_else(|| ApiError::not_found("key", key))?;
    Ok(Json(KeyOut::of(item)?))
}

/// Sets a key; runs that have read it and not ended go again.
#[utoipa::path(put, path = "/api/v1/kv/{namespace}/{key}", tag = "kv", operation_id = "set_key", params(("namespace" = String, Path), ("key" = String, Path)), request_body = KeyIn, responses((status = 200, body = KeyOut), Problems))]
#[put("/kv/{namespace}/{key:.*}")]
async fn set(
    editor: Editor,
    runtime: Data<Runtime>,
    path: Path<(String, String)>,
    body: Body<KeyIn>,
) -> Result<Json<KeyOut>, ApiError> {
    let (namespace, key) = place(path)?;
    let KeyIn { value, ttl } = body.into_inner();
    let limit = runtime.config().script.kv_value_bytes;
    if value.get().len() > limit {
        return Err(ApiError::field("value", format!("at most {limit} bytes")));
    }
    check_json(value.get()).map_err(|fault| ApiError::field("value", fault.to_string()))?;
    let ttl = ttl.map(|ttl| match ttl {
        TtlIn::Text(text) => parse_span(&text).ok(),
        TtlIn::Milliseconds(number) => parse_span(&number.to_string()).ok(),
    });
    if ttl == Some(None) {
        return Err(ApiError::field("ttl", "milliseconds, or a text such as \"10m\""));
    }
    let target = format!("kv {namespace}/{key}");
    let value_text = value.get().to_owned();
    let stored = runtime.keys().set(namespace, key.clone(), value_text, ttl.flatten()).await?;
    note(&runtime, &editor.0, "kv.set", target, None).await?;
    Ok(Json(KeyOut { key, value, expires_at: stored.expires_at, updated_at: Millis::now() }))
}

/// Removes a key, whether or not it is there.
#[utoipa::path(delete, path = "/api/v1/kv/{namespace}/{key}", tag = "kv", operation_id = "remove_key", params(("namespace" = String, Path), ("key" = String, Path)), responses((status = 204), Problems))]
#[delete("/kv/{namespace}/{key:.*}")]
async fn remove(
    editor: Editor,
    runtime: Data<Runtime>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (namespace, key) = place(path)?;
    let target = format!("kv {namespace}/{key}");
    runtime.keys().remove(namespace, key).await?;
    note(&runtime, &editor.0, "kv.remove", target, None).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn namespace(text: &str) -> Result<Namespace, ApiError> {
    text.parse().map_err(|error: kv::NoNamespace| ApiError::field("namespace", error.to_string()))
}

fn place(path: Path<(String, String)>) -> Result<(Namespace, String), ApiError> {
    let (space, key) = path.into_inner();
    kv::check_key(&key).map_err(|error| ApiError::field("key", error.to_string()))?;
    Ok((namespace(&space)?, key))
}

impl KeyOut {
    fn of(item: KvItem) -> Result<Self, ApiError> {
        let value = RawValue::from_string(item.stored.value.to_string());
        let value = value.map_err(|error| {
            crate::store::Error::Damaged(format!("the value of key {}: {error}", item.key))
        })?;
        Ok(Self {
            key: item.key,
            value,
            expires_at: item.stored.expires_at,
            updated_at: item.updated_at,
        })
    }
}
