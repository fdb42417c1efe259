//! The OpenAPI document, made from the handlers, and the page that shows it.
//!
//! `docs/openapi.json` is this document checked in; a test fails when it is stale.

use actix_web::{
    HttpResponse, get,
    http::header,
    web::{Json, ServiceConfig},
};
use utoipa::OpenApi;

pub(super) use super::contract::Problems;
use super::{
    backtest, backup, bulk, contract::Contract, dead_letters, docs_page, erase, error::Problem,
    events, filters, hooks, kv, live, runs, scheduled, scripts, secrets, session, subscriptions,
    system, tokens,
};

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(json).service(page).service(style);
}

/// The document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tripline",
        description = "Events in, scripts run, nothing lost. Times are RFC 3339 in UTC; ids are UUIDs; \
                       lists are pages: pass `next` back as `cursor`.",
        license(name = "MIT OR Apache-2.0")
    ),
    servers((url = "/", description = "This server")),
    paths(
        erase::one, erase::subject, events::publish, events::list, events::show, events::matches, events::types,
        filters::check,
        scripts::list, scripts::activity, scripts::create, scripts::show, scripts::change, scripts::remove,
        scripts::versions, scripts::show_version, scripts::test, scripts::test_saved,
        subscriptions::list, subscriptions::create, subscriptions::show, subscriptions::change,
        subscriptions::remove, subscriptions::pause, subscriptions::resume, subscriptions::backfill, backtest::backtest,
        runs::list, runs::show, runs::rerun,
        dead_letters::list, dead_letters::count, dead_letters::grouped, dead_letters::show,
        dead_letters::replay, dead_letters::discard, dead_letters::restore,
        bulk::replay, bulk::discard, bulk::restore, bulk::list, bulk::show, bulk::abort,
        scheduled::list, scheduled::cancel,
        hooks::list, hooks::create, hooks::show, hooks::change, hooks::remove, hooks::deliver,
        secrets::list, secrets::set, secrets::remove,
        kv::spaces, kv::list, kv::show, kv::set, kv::remove,
        tokens::list, tokens::create, tokens::revoke,
        session::who, session::log_in, session::log_out,
        system::actors, system::restart, system::stats, system::series, system::storage, system::config,
        backup::back_up,
        system::audit, system::sdk, system::metrics, system::healthz, system::readyz,
        live::live,
    ),
    components(schemas(Problem, runs::RunOutcome)),
    modifiers(&Contract),
)]
struct Document;

#[get("/api/openapi.json")]
async fn json() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}

#[get("/api/docs")]
async fn page() -> HttpResponse {
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(docs_page::render(&document()))
}

#[get("/api/docs.css")]
async fn style() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/css; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(docs_page::STYLE)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Run it with `TRIPLINE_UPDATE=1` to write the document anew.
    #[test]
    fn the_document_that_is_checked_in_is_the_one_of_the_code() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
        let mut ours = serde_json::to_string_pretty(&document()).expect("a document");
        ours.push('\n');
        if std::env::var_os("TRIPLINE_UPDATE").is_some() {
            std::fs::write(&path, &ours).expect("docs can be written");
        }
        let theirs = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(ours == theirs, "docs/openapi.json is stale: run this test with TRIPLINE_UPDATE=1");
    }

    /// Two schemas of one name: the second silently takes the place of the first.
    #[test]
    fn every_schema_has_a_name_of_its_own() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
        let mut names = std::collections::BTreeSet::new();
        for file in std::fs::read_dir(folder).expect("the sources") {
            let text = std::fs::read_to_string(file.expect("a file").path()).expect("a text");
            for block in text.split("utoipa::ToSchema").skip(1) {
                let words = block.split(|c: char| !c.is_alphanumeric() && c != '_');
                let mut words = words.skip_while(|word| !["struct", "enum"].contains(word)).skip(1);
                let name = words.next().expect("a name");
                assert!(names.insert(name.to_owned()), "{name} is there twice");
            }
        }
        assert!(names.len() > 60, "{names:?}");
    }

    /// What is served and not documented would escape the tests that go by the document.
    #[test]
    fn every_route_is_in_the_document() {
        let document = serde_json::to_value(document()).expect("a document");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
        let mut missing = Vec::new();
        let mut routes = 0;
        for file in std::fs::read_dir(folder).expect("the sources") {
            let text = std::fs::read_to_string(file.expect("a file").path()).expect("a text");
            for line in text.lines() {
                let Some(route) =
                    line.strip_prefix("#[").and_then(|rest| rest.strip_suffix("\")]"))
                else {
                    continue;
                };
                let Some((method, path)) = route.split_once("(\"") else { continue };
                if !["get", "post", "put", "patch", "delete"].contains(&method) {
                    continue;
                }
                routes += 1;
                // The document's own pages are not operations of the API.
                let path = path.replace(":.*}", "}").replace("key.*}", "key}");
                let known = |path: &str| document["paths"][path].get(method).is_some();
                if !path.starts_with("/api/") && !known(&path) && !known(&format!("/api/v1{path}"))
                {
                    missing.push(format!("{method} {path}"));
                }
            }
        }
        assert!(routes > 60, "{routes} routes were found");
        assert!(missing.is_empty(), "not in the document: {missing:?}");
    }

    #[test]
    fn every_operation_has_an_id_of_its_own_and_answers_with_a_schema() {
        let document = serde_json::to_value(document()).expect("a document");
        let mut ids = std::collections::BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let id = operation["operationId"].as_str().expect("an id");
                assert!(ids.insert(id.to_owned()), "{method} {path}: {id} is not unique");
                for (status, response) in operation["responses"].as_object().expect("responses") {
                    let schema = response["content"]
                        .as_object()
                        .is_some_and(|content| content.values().all(|c| c.get("schema").is_some()));
                    assert!(schema || status == "204", "{method} {path} {status} has no schema");
                }
            }
        }
    }
}
