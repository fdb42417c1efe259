//! Who may do what: every operation of the OpenAPI document against every kind of caller.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tripline::domain::Millis;

use crate::support::{Api, TestRuntime};

/// The least that may do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Needs {
    Anyone,
    Publisher,
    Viewer,
    Editor,
    Admin,
}

use Needs::{Admin, Anyone, Editor, Publisher, Viewer};

/// A row for each operation: one that is missing here fails the test.
const OPERATIONS: &[(&str, Needs)] = &[
    ("abort_bulk", Editor),
    ("backfill_subscription", Editor),
    ("backtest_subscription", Viewer),
    ("cancel_scheduled", Editor),
    ("change_hook", Admin),
    ("change_script", Editor),
    ("change_subscription", Editor),
    ("check_filter", Viewer),
    ("count_dead_letters", Viewer),
    ("create_hook", Admin),
    ("create_script", Editor),
    ("create_subscription", Editor),
    ("create_token", Admin),
    ("delete_hook", Admin),
    ("delete_script", Editor),
    ("delete_subscription", Editor),
    ("deliver_to_hook", Anyone),
    ("discard_dead_letter", Editor),
    ("discard_dead_letters", Editor),
    ("get_actors", Viewer),
    ("get_bulk", Viewer),
    ("get_config", Viewer),
    ("get_dead_letter", Viewer),
    ("get_event", Viewer),
    ("get_event_matches", Viewer),
    ("get_hook", Viewer),
    ("get_key", Viewer),
    ("get_metrics", Viewer),
    ("get_run", Viewer),
    ("get_script", Viewer),
    ("get_script_activity", Viewer),
    ("get_script_version", Viewer),
    ("get_sdk_types", Viewer),
    ("get_series", Viewer),
    ("get_session", Viewer),
    ("get_stats", Viewer),
    ("get_storage", Viewer),
    ("get_subscription", Viewer),
    ("group_dead_letters", Viewer),
    ("healthz", Anyone),
    ("list_audit", Viewer),
    ("list_bulk", Viewer),
    ("list_dead_letters", Viewer),
    ("list_event_types", Viewer),
    ("list_events", Viewer),
    ("list_hooks", Viewer),
    ("list_keys", Viewer),
    ("list_namespaces", Viewer),
    ("list_runs", Viewer),
    ("list_scheduled", Viewer),
    ("list_script_versions", Viewer),
    ("list_scripts", Viewer),
    ("list_secrets", Admin),
    ("list_subscriptions", Viewer),
    ("list_tokens", Admin),
    ("live", Viewer),
    ("log_in", Anyone),
    ("log_out", Viewer),
    ("pause_subscription", Editor),
    ("publish_events", Publisher),
    ("readyz", Anyone),
    ("remove_key", Editor),
    ("remove_secret", Admin),
    ("replay_dead_letter", Editor),
    ("replay_dead_letters", Editor),
    ("rerun_run", Editor),
    ("restart_actor", Editor),
    ("restore_dead_letter", Editor),
    ("restore_dead_letters", Editor),
    ("resume_subscription", Editor),
    ("revoke_token", Admin),
    ("set_key", Editor),
    ("set_secret", Admin),
    ("test_script", Editor),
    ("test_source", Editor),
];

const ROLES: [(&str, Needs); 4] =
    [("publisher", Publisher), ("viewer", Viewer), ("editor", Editor), ("admin", Admin)];

/// The method, path and id of every operation; ids in paths are of nothing.
fn operations(document: &Value) -> Vec<(Method, String, String)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let mut filled = String::new();
        for part in path.split_inclusive('/') {
            let (name, end) = part.strip_suffix('/').map_or((part, ""), |name| (name, "/"));
            filled.push_str(match name {
                "{version}" => "1",
                name if name.starts_with('{') => "01a20e70-0000-7000-8000-000000000000",
                name => name,
            });
            filled.push_str(end);
        }
        for (method, operation) in item.as_object().expect("an item") {
            if let Some(id) = operation["operationId"].as_str() {
                let method = method.to_uppercase().parse().expect("a method");
                found.push((method, filled.clone(), id.to_owned()));
            }
        }
    }
    found
}

async fn token(rt: &TestRuntime, name: &str, more: Value) -> (String, Api) {
    let mut body = json!({ "name": name, "role": "admin" });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let made = rt.post("/api/v1/tokens", &body).await;
    let secret = made["secret"].as_str().expect("a secret");
    (made["id"].as_str().expect("an id").to_owned(), rt.api.with_token(secret))
}

#[tokio::test]
async fn every_operation_asks_for_its_role_and_nothing_less() {
    let rt = TestRuntime::start().await;
    let document = rt.get("/api/v1/openapi.json").await;
    let operations = operations(&document);
    let needs: BTreeMap<&str, Needs> = OPERATIONS.iter().copied().collect();
    let ids: Vec<&str> = operations.iter().map(|(_, _, id)| id.as_str()).collect();
    let gone: Vec<&&str> = needs.keys().filter(|id| !ids.contains(*id)).collect();
    assert!(gone.is_empty(), "rows without an operation: {gone:?}");

    let (revoked_id, revoked) = token(&rt, "revoked", json!({})).await;
    rt.request(Method::DELETE, &format!("/api/v1/tokens/{revoked_id}"), None).await;
    let end = Millis(Millis::now().0 + 300);
    let (_, expired) = token(&rt, "expired", json!({ "expires_at": end })).await;
    let strangers = [
        ("no token", rt.api.with_token("")),
        ("a wrong token", rt.api.with_token("trl_abcdefgh_wrong")),
        ("a revoked token", revoked),
        ("an expired token", expired.clone()),
    ];
    crate::support::eventually("the token's end", async || {
        match expired.request(Method::GET, "/api/v1/stats", None).await.status {
            StatusCode::UNAUTHORIZED => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let mut callers = Vec::new();
    for (role, is) in ROLES {
        callers.push((role, is, token(&rt, role, json!({ "role": role })).await.1));
    }

    for (method, path, id) in &operations {
        // It would end nothing here, but never answers.
        if id == "live" {
            continue;
        }
        let Some(&needed) = needs.get(id.as_str()) else { panic!("{id} has no row") };
        for (what, api) in &strangers {
            let status = api.request(method.clone(), path, None).await.status;
            let is_open = needed == Anyone || id == "log_in";
            if is_open {
                assert_ne!(status, StatusCode::FORBIDDEN, "{id} with {what}");
            } else {
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{id} with {what}");
            }
        }
        for (role, is, api) in &callers {
            let status = api.request(method.clone(), path, None).await.status;
            let allowed = *is >= needed;
            let refused = [StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED].contains(&status);
            assert!(needed == Anyone || allowed != refused, "{id} as {role}: {status}");
            assert!(!status.is_server_error(), "{id} as {role}: {status}");
        }
    }
}

#[tokio::test]
async fn a_token_with_a_limit_is_held_to_it_and_others_are_not() {
    let rt = TestRuntime::start().await;
    let (_, limited) = token(&rt, "slow", json!({ "requests_per_s": 5 })).await;
    let mut refused = Vec::new();
    for _ in 0..30 {
        let answer = limited.request(Method::GET, "/api/v1/stats", None).await;
        if answer.status != 200 {
            refused.push(answer);
        }
    }
    assert!(refused.len() >= 10, "{} of 30 were refused", refused.len());
    assert!(
        refused
            .iter()
            .all(|answer| answer.status == 429 && answer.body["code"] == "too_many_requests")
    );
    rt.get("/api/v1/stats").await;
    let wrong = json!({ "name": "x", "role": "viewer", "requests_per_s": 0 });
    assert_eq!(rt.request(Method::POST, "/api/v1/tokens", Some(&wrong)).await.status, 422);
}
