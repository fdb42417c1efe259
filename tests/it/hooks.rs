//! Inbound webhooks: signed by whom they say, taken once, mapped, and refused where people see it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;
use tripline::domain::Millis;

use crate::support::{Database, TestRuntime, http};

const SECRET: &str = "It's a Secret to Everybody";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn sign(secret: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key");
    mac.update(text.as_bytes());
    hex(&mac.finalize().into_bytes())
}

pub(crate) async fn secret(rt: &TestRuntime, name: &str, value: &str) {
    let path = format!("/api/v1/secrets/{name}");
    rt.request(Method::PUT, &path, Some(&json!({ "value": value }))).await.ok(&path);
}

/// A delivery as another system sends it: without a token.
pub(crate) async fn deliver(
    rt: &TestRuntime,
    hook: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (StatusCode, Value) {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut request = http
        .post(format!("{}/hooks/{hook}", rt.server.url()))
        .header("content-type", "application/json")
        .body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

async fn github(database: Database) {
    if !database.available() {
        return;
    }
    let mut rt = TestRuntime::with(database, "").await;
    secret(&rt, "github", SECRET).await;
    let hook = json!({ "name": "github", "preset": "github", "secrets": ["github"], "subject": "{$.repository.full_name}" });
    let made = rt.post("/api/v1/hooks", &hook).await;
    assert_eq!(made["event_type"], "github.{header:x-github-event}");
    rt.subscription("push")
        .on("github.push")
        .script("export default (p, c) => c.subject")
        .add()
        .await;

    let body = r#"{"ref":"refs/heads/main","repository":{"full_name":"a/b"},"n":9007199254740993}"#;
    let signature = format!("sha256={}", sign(SECRET, body));
    let headers = [
        ("x-github-event", "push"),
        ("x-github-delivery", "d1"),
        ("x-hub-signature-256", signature.as_str()),
    ];
    let (status, taken) = deliver(&rt, "github", &headers, body).await;
    assert_eq!((status, &taken["accepted"]), (StatusCode::ACCEPTED, &json!(1)), "{taken}");
    rt.delivery_of(taken["ids"][0].as_str().expect("a uid"), "push")
        .await
        .succeeded()
        .returned(&json!("a/b"));

    // After a crash the hook is there, and what it took is known.
    rt.crash().await;
    let (status, again) = deliver(&rt, "github", &headers, body).await;
    assert_eq!((status, &again["duplicates"]), (StatusCode::ACCEPTED, &json!(1)), "{again}");
    assert_eq!(again["ids"], taken["ids"]);
    let (status, problem) = deliver(&rt, "github", &headers, &body.replace("main", "evil")).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("bad_signature")));
    // Why is for the operator alone.
    let (_, unsigned) = deliver(&rt, "github", &headers[..2], body).await;
    assert_eq!(unsigned["detail"], problem["detail"]);
    let listed = rt.get("/api/v1/hooks/github").await;
    assert_eq!(listed["activity"]["refused"], 2);
    let reasons = [0, 1].map(|at| listed["activity"]["refusals"][at]["reason"].clone());
    assert_eq!(reasons, ["missing_header", "wrong_signature"]);
    assert_eq!(rt.all("/api/v1/events").await.len(), 1);
}

#[tokio::test]
async fn a_push_of_github_is_taken_once_on_sqlite() {
    github(Database::Sqlite).await;
}

#[tokio::test]
async fn a_push_of_github_is_taken_once_on_postgres() {
    github(Database::Postgres).await;
}

#[tokio::test]
async fn keys_are_rotated_without_a_lost_delivery_and_stay_while_they_are_used() {
    let rt = TestRuntime::start().await;
    secret(&rt, "old", "the old key").await;
    secret(&rt, "new", "the new key").await;
    let hook = json!({ "name": "shop", "preset": "hmac", "secrets": ["old"] });
    rt.post("/api/v1/hooks", &hook).await;
    let body = r#"{"n":1}"#;
    let (old, new) = (sign("the old key", body), sign("the new key", body));
    let send =
        async |signature: &str| deliver(&rt, "shop", &[("x-signature", signature)], body).await.0;
    assert_eq!(send(&old).await, StatusCode::ACCEPTED);
    assert_eq!(send(&new).await, StatusCode::UNAUTHORIZED);
    rt.patch("/api/v1/hooks/shop", &json!({ "secrets": ["new", "old"] })).await;
    assert_eq!((send(&old).await, send(&new).await), (StatusCode::ACCEPTED, StatusCode::ACCEPTED));
    rt.patch("/api/v1/hooks/shop", &json!({ "secrets": ["new"] })).await;
    assert_eq!(send(&old).await, StatusCode::UNAUTHORIZED);

    let in_use = rt.request(Method::DELETE, "/api/v1/secrets/new", None).await;
    assert_eq!(in_use.status, 409);
    rt.patch("/api/v1/hooks/shop", &json!({ "is_active": false })).await;
    assert_eq!(send(&new).await, StatusCode::NOT_FOUND);
    rt.request(Method::DELETE, "/api/v1/hooks/shop", None).await;
    assert_eq!(rt.request(Method::DELETE, "/api/v1/secrets/new", None).await.status, 204);
}

/// Two people who change the same hook at once: one of them is told, and what neither touched stands.
#[tokio::test]
async fn of_many_who_change_a_hook_at_once_each_meets_what_it_saw() {
    let rt = TestRuntime::start().await;
    secret(&rt, "key", "the only key").await;
    let hook = json!({ "name": "shop", "preset": "hmac", "secrets": ["key"] });
    rt.post("/api/v1/hooks", &hook).await;
    let url = format!("{}/api/v1/hooks/shop", rt.server.url());
    let token = rt.server.admin_token();
    let change = async |revision: u64, change: Value| {
        let request = http().patch(&url).bearer_auth(&token).json(&change);
        let request = request.header("if-match", format!("\"{revision}\""));
        request.send().await.expect("an answer").status().as_u16()
    };
    for revision in 1..=5 {
        let at_once =
            (0..16).map(|n| change(revision, json!({ "tolerance": format!("{}s", n + 1) })));
        let statuses = futures::future::join_all(at_once).await;
        let taken = statuses.iter().filter(|status| **status == 200).count();
        let outdated = statuses.iter().filter(|status| **status == 412).count();
        assert_eq!((taken, outdated), (1, 15), "of revision {revision}: {statuses:?}");
    }
    // Without a revision each is applied to what the others left.
    let fields = [
        json!({ "tolerance": "77s" }),
        json!({ "header": "x-other" }),
        json!({ "subject": "{$.n}" }),
        json!({ "event_type": "shop.sold" }),
    ];
    let all = fields.iter().map(|field| rt.patch("/api/v1/hooks/shop", field));
    futures::future::join_all(all).await;
    let hook = rt.get("/api/v1/hooks/shop").await;
    let expected = json!([10, "77s", "x-other", "{$.n}", "shop.sold"]);
    let fields = ["revision", "tolerance", "header", "subject", "event_type"];
    let found: Value = fields.iter().map(|field| hook[*field].clone()).collect();
    assert_eq!(found, expected, "{hook:#}");
}

#[tokio::test]
async fn an_old_delivery_is_a_replay_and_what_does_not_map_says_so() {
    let rt = TestRuntime::start().await;
    secret(&rt, "stripe", SECRET).await;
    let hook =
        json!({ "name": "stripe", "preset": "stripe", "secrets": ["stripe"], "tolerance": "2m" });
    rt.post("/api/v1/hooks", &hook).await;
    let send = async |age: i64, body: &str| {
        let at = Millis::now().0 / 1_000 - age;
        let signature = format!("t={at},v1={},v0=00", sign(SECRET, &format!("{at}.{body}")));
        deliver(&rt, "stripe", &[("stripe-signature", &signature)], body).await
    };
    let body = r#"{"id":"evt_1","type":"charge.succeeded"}"#;
    let (status, _) = send(10, body).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(rt.all("/api/v1/events").await[0]["type"], "stripe.charge.succeeded");
    assert_eq!(send(200, body).await.1["code"], "bad_signature");
    let (status, problem) = send(0, r#"{"id":"evt_2"}"#).await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("event_type"))
    );
    assert_eq!(send(0, "no JSON").await.0, StatusCode::BAD_REQUEST);
    let reasons: Vec<Value> = rt.get("/api/v1/hooks/stripe").await["activity"]["refusals"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["reason"].clone())
        .collect();
    assert_eq!(reasons, ["unfit", "unfit", "too_old"]);
    assert_eq!(deliver(&rt, "nobody", &[], "{}").await.0, StatusCode::NOT_FOUND);
    let metrics = rt.get("/metrics").await;
    let metrics = metrics.as_str().expect("a text");
    assert!(
        metrics.contains(r#"tripline_hook_deliveries_total{hook="stripe",outcome="refused"} 3"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_hook_that_cannot_be_is_refused_by_field() {
    let rt = TestRuntime::start().await;
    secret(&rt, "key", SECRET).await;
    let good = json!({ "name": "a", "preset": "hmac", "secrets": ["key"] });
    for (field, value) in [
        ("name", json!("No Name")),
        ("secrets", json!([])),
        ("secrets", json!(["other"])),
        ("event_type", json!("{body}")),
        ("header", json!("no header!")),
        ("tolerance", json!("2d")),
        ("tolerance", json!("13h")),
    ] {
        let mut wrong = good.clone();
        wrong[field] = value;
        let answer = rt.request(Method::POST, "/api/v1/hooks", Some(&wrong)).await;
        assert_eq!((answer.status.as_u16(), &answer.body["field"]), (422, &json!(field)));
    }
    rt.post("/api/v1/hooks", &good).await;
    let twice = rt.request(Method::POST, "/api/v1/hooks", Some(&good)).await;
    assert_eq!(twice.status, 409);
}
