//! Who may do what: every operation of the OpenAPI document against every kind of caller.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use tripline::domain::{Millis, Role};

use crate::support::{Api, TestRuntime, eventually, http};

/// The least that may do it; `Anyone` needs no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Anyone,
    Of(Role),
}

use Needs::Anyone;
const PUBLISHER: Needs = Needs::Of(Role::Publisher);
const VIEWER: Needs = Needs::Of(Role::Viewer);
const EDITOR: Needs = Needs::Of(Role::Editor);
const ADMIN: Needs = Needs::Of(Role::Admin);

/// A row for each operation: one that is missing here fails the test.
const OPERATIONS: &[(&str, Needs)] = &[
    ("abort_bulk", EDITOR),
    ("back_up", ADMIN),
    ("backfill_subscription", EDITOR),
    ("backtest_subscription", VIEWER),
    ("cancel_scheduled", EDITOR),
    ("change_hook", ADMIN),
    ("change_script", EDITOR),
    ("change_subscription", EDITOR),
    ("check_filter", VIEWER),
    ("count_dead_letters", VIEWER),
    ("create_hook", ADMIN),
    ("create_script", EDITOR),
    ("create_subscription", EDITOR),
    ("create_token", ADMIN),
    ("delete_hook", ADMIN),
    ("delete_script", EDITOR),
    ("delete_subscription", EDITOR),
    ("deliver_to_hook", Anyone),
    ("discard_dead_letter", EDITOR),
    ("discard_dead_letters", EDITOR),
    ("erase_event", ADMIN),
    ("erase_subject", ADMIN),
    ("get_actors", VIEWER),
    ("get_bulk", VIEWER),
    ("get_config", VIEWER),
    ("get_dead_letter", VIEWER),
    ("get_event", VIEWER),
    ("get_event_matches", VIEWER),
    ("get_hook", VIEWER),
    ("get_key", VIEWER),
    ("get_metrics", VIEWER),
    ("get_run", VIEWER),
    ("get_script", VIEWER),
    ("get_script_activity", VIEWER),
    ("get_script_version", VIEWER),
    ("get_sdk_types", VIEWER),
    ("get_series", VIEWER),
    ("get_session", VIEWER),
    ("get_stats", VIEWER),
    ("get_storage", VIEWER),
    ("get_subscription", VIEWER),
    ("group_dead_letters", VIEWER),
    ("healthz", Anyone),
    ("list_audit", VIEWER),
    ("list_bulk", VIEWER),
    ("list_dead_letters", VIEWER),
    ("list_event_types", VIEWER),
    ("list_events", VIEWER),
    ("list_hooks", VIEWER),
    ("list_keys", VIEWER),
    ("list_namespaces", VIEWER),
    ("list_runs", VIEWER),
    ("list_scheduled", VIEWER),
    ("list_script_versions", VIEWER),
    ("list_scripts", VIEWER),
    ("list_secrets", ADMIN),
    ("list_subscriptions", VIEWER),
    ("list_tokens", ADMIN),
    ("live", VIEWER),
    ("log_in", Anyone),
    ("log_out", VIEWER),
    ("pause_subscription", EDITOR),
    ("publish_events", PUBLISHER),
    ("readyz", Anyone),
    ("remove_key", EDITOR),
    ("remove_secret", ADMIN),
    ("replay_dead_letter", EDITOR),
    ("replay_dead_letters", EDITOR),
    ("rerun_run", EDITOR),
    ("restart_actor", EDITOR),
    ("restore_dead_letter", EDITOR),
    ("restore_dead_letters", EDITOR),
    ("resume_subscription", EDITOR),
    ("revoke_token", ADMIN),
    ("set_key", EDITOR),
    ("set_secret", ADMIN),
    ("test_script", EDITOR),
    ("test_source", EDITOR),
];

/// How a caller shows who it is, and what that is worth.
struct Caller {
    what: String,
    headers: Vec<(header::HeaderName, String)>,
    worth: Worth,
}

#[derive(Clone, Copy, Debug)]
enum Worth {
    Nothing,
    As(Role),
    /// A session on a page of another site: it may read (the browser keeps the answer from the page).
    Elsewhere(Role),
    /// A session of which nobody says where: as good as elsewhere, and no reason to refuse a login.
    Unsaid(Role),
}

/// The status and code of a refusal, or none when the operation is this caller's to do.
fn refusal(
    id: &str,
    method: &Method,
    needs: Needs,
    worth: Worth,
) -> Option<(StatusCode, &'static str)> {
    let is_write = *method != Method::GET;
    match (needs, worth) {
        (_, Worth::Elsewhere(_)) if is_write && id != "deliver_to_hook" => {
            Some((StatusCode::FORBIDDEN, "cross_origin"))
        }
        (Needs::Of(_), Worth::Unsaid(_)) if is_write => {
            Some((StatusCode::FORBIDDEN, "cross_origin"))
        }
        (Anyone, _) => None,
        (Needs::Of(_), Worth::Nothing) => Some((StatusCode::UNAUTHORIZED, "unauthorized")),
        (Needs::Of(needed), Worth::As(role) | Worth::Elsewhere(role) | Worth::Unsaid(role)) => {
            (!role.covers(needed)).then_some((StatusCode::FORBIDDEN, "forbidden"))
        }
    }
}

#[tokio::test]
async fn every_operation_asks_for_its_role_and_nothing_less() {
    let rt = TestRuntime::start().await;
    let document = rt.get("/api/openapi.json").await;
    let mut operations = operations(&document);
    // It ends the session that asks.
    operations.sort_by_key(|operation| operation.id == "log_out");
    let rows = rows(&operations);
    let callers = callers(&rt).await;
    let client = http();
    for Operation { id, method, path, security } in &operations {
        let needs = rows[id.as_str()];
        assert_eq!(*security, declared(needs), "what the document declares for {id}");
        for Caller { what, headers, worth } in &callers {
            let mut request = client.request(method.clone(), rt.server.url() + path);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let answer = request.send().await.expect("an answer");
            let status = answer.status();
            let Some((expected, code)) = refusal(id, method, needs, *worth) else {
                assert!(![401, 403].contains(&status.as_u16()), "{id} as {what}: {status}");
                assert!(!status.is_server_error(), "{id} as {what}: {status}");
                continue;
            };
            assert_eq!(status, expected, "{id} as {what}");
            assert_eq!(answer.headers().contains_key(header::WWW_AUTHENTICATE), status == 401);
            let problem: Value = answer.json().await.expect("a problem");
            assert_eq!(problem["code"], code, "{id} as {what}");
        }
    }
}

struct Operation {
    id: String,
    method: Method,
    /// With ids of nothing.
    path: String,
    security: Value,
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let filled = |part: &str| match part {
            "{version}" => "1".to_owned(),
            part if part.starts_with('{') => "01a20e70-0000-7000-8000-000000000000".to_owned(),
            part => part.to_owned(),
        };
        let filled = path.split('/').map(filled).collect::<Vec<_>>().join("/");
        for (method, operation) in item.as_object().expect("operations") {
            found.push(Operation {
                id: operation["operationId"].as_str().expect("an id").to_owned(),
                method: method.to_uppercase().parse().expect("a method"),
                path: filled.clone(),
                security: operation["security"].clone(),
            });
        }
    }
    found
}

/// The rows by id; every operation has one, and every row an operation.
fn rows(operations: &[Operation]) -> BTreeMap<&'static str, Needs> {
    let rows: BTreeMap<&str, Needs> = OPERATIONS.iter().copied().collect();
    let mut ids: Vec<&str> = operations.iter().map(|operation| operation.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, rows.keys().copied().collect::<Vec<_>>(), "operations, and rows for them");
    rows
}

/// How the OpenAPI document says it.
fn declared(needs: Needs) -> Value {
    match needs {
        Anyone => json!([{}]),
        Needs::Of(role) => json!([{ "token": [role] }, { "session": [role] }]),
    }
}

async fn callers(rt: &TestRuntime) -> Vec<Caller> {
    let mut callers = strangers(rt).await;
    for role in [Role::Publisher, Role::Viewer, Role::Editor, Role::Admin] {
        let (_, secret) = token(rt, role.as_str(), json!({ "role": role })).await;
        callers.push(bearer(role.as_str(), &secret, Worth::As(role)));
        if role != Role::Publisher {
            callers.extend(sessions(rt, role, &secret).await);
        }
    }
    callers
}

/// Those who may do what needs no token.
async fn strangers(rt: &TestRuntime) -> Vec<Caller> {
    let (revoked_id, revoked) = token(rt, "revoked", json!({})).await;
    let of_revoked = log_in(rt, &revoked).await;
    rt.delete(&format!("/api/v1/tokens/{revoked_id}")).await;
    let ended = log_in(rt, &rt.server.admin_token()).await;
    let log_out = http().delete(rt.server.url() + "/api/v1/session");
    let log_out = log_out.header(header::COOKIE, &ended).header(header::ORIGIN, rt.server.url());
    assert_eq!(log_out.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
    let good = log_in(rt, &rt.server.admin_token()).await;
    let forged = format!("{}x", rt.server.admin_token());

    let nobody = |what: &str, headers: &[(header::HeaderName, &str)]| Caller {
        what: what.to_owned(),
        headers: headers.iter().map(|(name, value)| (name.clone(), (*value).to_owned())).collect(),
        worth: Worth::Nothing,
    };
    let (authorization, cookie) = (header::AUTHORIZATION, header::COOKIE);
    vec![
        nobody("nobody", &[]),
        nobody("an empty token", &[(authorization.clone(), "Bearer ")]),
        nobody("another scheme", &[(authorization.clone(), "Basic dHJpcGxpbmU6dHJpcGxpbmU=")]),
        bearer("a wrong token", "trl_abcdefgh_wrong", Worth::Nothing),
        bearer("a known token with another end", &forged, Worth::Nothing),
        bearer("a revoked token", &revoked, Worth::Nothing),
        bearer("an expired token", &expired(rt).await, Worth::Nothing),
        nobody("a wrong session", &[(cookie.clone(), "tripline=wrong")]),
        nobody("a session that logged out", &[(cookie.clone(), &ended)]),
        nobody("a session of a revoked token", &[(cookie.clone(), &of_revoked)]),
        nobody(
            "a wrong token with a good session",
            &[(cookie, &good), (authorization, "Bearer trl_abcdefgh_wrong")],
        ),
    ]
}

/// Sessions of a role, each of its own: on a page of ours, of another site, and of who knows where.
async fn sessions(rt: &TestRuntime, role: Role, secret: &str) -> Vec<Caller> {
    let ours = rt.server.url();
    let site = header::HeaderName::from_static("sec-fetch-site");
    let origin = |origin: &str| (header::ORIGIN, origin.to_owned());
    let says = |value: &str| (site.clone(), value.to_owned());
    let (here, elsewhere) = (Worth::As(role), Worth::Elsewhere(role));
    let kinds = [
        ("from our origin", vec![origin(&ours)], here),
        ("from the same origin", vec![says("same-origin")], here),
        ("from our origin, twice said", vec![origin(&ours), says("same-origin")], here),
        ("from nowhere said", vec![], Worth::Unsaid(role)),
        ("from another origin", vec![origin("https://elsewhere.example")], elsewhere),
        ("from another port", vec![origin("http://127.0.0.1:1")], elsewhere),
        ("from another site", vec![says("cross-site")], elsewhere),
        ("from a sibling site", vec![origin(&ours), says("same-site")], elsewhere),
        ("from a sandbox", vec![origin("null"), says("cross-site")], elsewhere),
    ];
    let mut callers = Vec::new();
    for (from, mut headers, worth) in kinds {
        headers.push((header::COOKIE, log_in(rt, secret).await));
        callers.push(Caller { what: format!("a session of {role:?} {from}"), headers, worth });
    }
    callers
}

fn bearer(what: &str, secret: &str, worth: Worth) -> Caller {
    let headers = vec![(header::AUTHORIZATION, format!("Bearer {secret}"))];
    Caller { what: what.to_owned(), headers, worth }
}

/// A session's cookie, as a request carries it.
async fn log_in(rt: &TestRuntime, secret: &str) -> String {
    let request =
        http().post(rt.server.url() + "/api/v1/session").json(&json!({ "token": secret }));
    let answer = request.send().await.expect("an answer");
    let cookie = answer.headers()[header::SET_COOKIE].to_str().expect("text");
    cookie.split(';').next().expect("a value").to_owned()
}

/// A new token of the role admin unless `more` says otherwise: its id and its secret.
async fn token(rt: &TestRuntime, name: &str, more: Value) -> (String, String) {
    let mut body = json!({ "name": name, "role": "admin" });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let made = rt.post("/api/v1/tokens", &body).await;
    let text = |member: &str| made[member].as_str().expect("a text").to_owned();
    (text("id"), text("secret"))
}

/// A token whose time is over.
async fn expired(rt: &TestRuntime) -> String {
    let end = Millis(Millis::now().0 + 300);
    let (_, secret) = token(rt, "expired", json!({ "expires_at": end })).await;
    let api = rt.api.with_token(&secret);
    eventually("the token's end", async || {
        match api.request(Method::GET, "/api/v1/stats", None).await.status {
            StatusCode::UNAUTHORIZED => Ok(()),
            other => Err(other),
        }
    })
    .await;
    secret
}

#[tokio::test]
async fn a_token_with_a_limit_is_held_to_it_and_others_are_not() {
    let rt = TestRuntime::start().await;
    let (_, secret) = token(&rt, "slow", json!({ "requests_per_s": 5 })).await;
    let limited: Api = rt.api.with_token(&secret);
    let mut refused = Vec::new();
    for _ in 0..30 {
        let answer = limited.request(Method::GET, "/api/v1/session", None).await;
        if answer.status != 200 {
            refused.push(answer);
        }
    }
    // A slow machine gives back five a second meanwhile.
    assert!(refused.len() >= 5, "{} of 30 were refused", refused.len());
    for answer in refused {
        answer.refused(429, "too_many_requests");
    }
    rt.get("/api/v1/stats").await;
    let wrong = json!({ "name": "x", "role": "viewer", "requests_per_s": 0 });
    assert_eq!(rt.request(Method::POST, "/api/v1/tokens", Some(&wrong)).await.status, 422);
}
