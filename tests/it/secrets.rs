//! `sdk.secrets`: sealed at rest, granted, masked, never read back.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Database, TestRuntime};

const VALUE: &str = "sk_live_\"4242é";

async fn set(rt: &TestRuntime, name: &str, value: &str) -> Value {
    let path = format!("/api/v1/secrets/{name}");
    rt.request(Method::PUT, &path, Some(&json!({ "value": value }))).await.ok(&path)
}

/// Adds a subscription whose script has the secret `stripe`.
async fn add(rt: &TestRuntime, name: &str, source: &str) -> String {
    let script =
        json!({ "name": name, "language": "typescript", "source": source, "secrets": ["stripe"] });
    let script = rt.post("/api/v1/scripts", &script).await;
    let id = script["id"].as_str().expect("an id").to_owned();
    rt.subscription(name).on(name).using(&id).attempts(1, 1).add().await;
    id
}

async fn a_secret_s_life(database: Database) {
    if !database.available() {
        return;
    }
    let mut rt = TestRuntime::with(database, "").await;
    assert_eq!(set(&rt, "stripe", VALUE).await["name"], "stripe");
    add(&rt, "length", "export default async () => (await sdk.secrets.get('stripe')).length").await;
    rt.publish("length", json!({})).await;
    rt.delivery("length").await.succeeded().returned(&json!(14));

    let listed = rt.get("/api/v1/secrets").await;
    assert_eq!(listed["items"][0]["scripts"], json!(["length"]));
    assert!(!listed.to_string().contains("sk_live"), "{listed:#}");
    rt.crash().await;
    rt.publish("length", json!({})).await;
    rt.delivery("length").await.succeeded().returned(&json!(14));

    set(&rt, "stripe", "another value").await;
    rt.publish("length", json!({})).await;
    rt.delivery("length").await.returned(&json!(13));
    assert!(!rt.get("/api/v1/audit").await.to_string().contains("another value"));
}

#[tokio::test]
async fn a_secret_is_sealed_and_survives_a_crash_on_sqlite() {
    a_secret_s_life(Database::Sqlite).await;
}

#[tokio::test]
async fn a_secret_is_sealed_and_survives_a_crash_on_postgres() {
    a_secret_s_life(Database::Postgres).await;
}

#[tokio::test]
async fn neither_the_store_nor_what_is_shown_of_runs_holds_a_secret() {
    let mut rt = TestRuntime::start().await;
    set(&rt, "stripe", VALUE).await;
    let source = "
        let kept;
        export default async (how) => {
            kept ??= await sdk.secrets.get('stripe');
            console.log('key', kept, { kept }, btoa(unescape(encodeURIComponent('user:' + kept))));
            if (how === 'throw') throw new Error(`no access with ${kept}`, { cause: new Error(encodeURIComponent(kept)) });
            return { [kept]: [kept], n: 1 };
        }";
    let script = add(&rt, "leak", source).await;
    let event = rt.publish("leak", json!("return")).await;
    let done = rt.delivery_of(&event, "leak").await.succeeded();
    let masked = "[secret stripe]";
    assert_eq!(done.runs[0]["result"], json!({ masked: [masked], "n": 1 }));
    let log = done.runs[0]["logs"][0]["message"].as_str().expect("a log");
    assert_eq!(log.matches(masked).count(), 3, "{log}");

    rt.publish("leak", json!("throw")).await;
    rt.delivery("leak").await.dead();
    rt.dead_letter("leak").await.saying("no access with [secret stripe]");
    let test = json!({ "data": "return" });
    let out = rt.post(&format!("/api/v1/scripts/{script}/test"), &test).await;
    assert_eq!(out["result"][masked][0], masked, "{out:#}");
    for path in [
        "/api/v1/runs?limit=100",
        "/api/v1/dead-letters",
        "/api/v1/actors",
        "/api/v1/subscriptions",
    ] {
        let shown = rt.get(path).await.to_string();
        assert!(!shown.contains("sk_live"), "{path}: {shown}");
    }
    rt.server.stop();
    for file in fs::read_dir(rt.server.data()).expect("the data folder") {
        let path = file.expect("a file").path();
        let bytes = fs::read(&path).expect("its content");
        assert!(!bytes.windows(8).any(|part| part == b"sk_live_"), "{}", path.display());
    }
}

#[tokio::test]
async fn only_what_is_granted_is_given_and_only_admins_grant() {
    let rt = TestRuntime::start().await;
    set(&rt, "stripe", VALUE).await;
    set(&rt, "github", "ghp_12345678").await;
    let source = "
        export default async () => {
            const refusals = [];
            for (const name of ['github', 'nothing']) {
                try { await sdk.secrets.get(name) } catch (error) { refusals.push(error.message) }
            }
            return refusals;
        }";
    let script = add(&rt, "curious", source).await;
    rt.publish("curious", json!({})).await;
    rt.delivery("curious").await.returned(&json!([
        "no secret `github` is granted to this script",
        "no secret `nothing` is granted to this script"
    ]));

    let token = rt.post("/api/v1/tokens", &json!({ "name": "author", "role": "editor" })).await;
    let author = rt.with_token(token["secret"].as_str().expect("a secret"));
    let path = format!("/api/v1/scripts/{script}");
    let grant = json!({ "secrets": ["stripe", "github"] });
    author.request(Method::PATCH, &path, Some(&grant)).await.refused(403, "forbidden");
    author.patch(&path, &json!({ "secrets": ["stripe"], "description": "mine" })).await;
    author.patch(&path, &json!({ "secrets": [] })).await;
    let new =
        json!({ "name": "mine", "language": "javascript", "source": "1", "secrets": ["stripe"] });
    author.request(Method::POST, "/api/v1/scripts", Some(&new)).await.refused(403, "forbidden");
    author.request(Method::GET, "/api/v1/secrets", None).await.refused(403, "forbidden");

    let unknown = json!({ "secrets": ["nothing"] });
    rt.request(Method::PATCH, &path, Some(&unknown)).await.refused(422, "invalid_field");
    rt.patch(&path, &grant).await;
    rt.publish("curious", json!({})).await;
    rt.delivery("curious")
        .await
        .returned(&json!(["no secret `nothing` is granted to this script"]));
    rt.request(Method::DELETE, "/api/v1/secrets/github", None).await.refused(409, "in_use");
    rt.patch(&path, &json!({ "secrets": [] })).await;
    rt.delete("/api/v1/secrets/github").await;
    rt.request(Method::DELETE, "/api/v1/secrets/github", None).await.refused(404, "not_found");
    for (name, value) in [("1st", "long enough"), ("short", "1234567")] {
        let body = json!({ "value": value });
        rt.request(Method::PUT, &format!("/api/v1/secrets/{name}"), Some(&body))
            .await
            .refused(422, "invalid_field");
    }
}

/// Rights and secrets are the script's: a subscription that keeps to a version of it has them as they are
/// now, and hides what is secret now.
#[tokio::test]
async fn a_subscription_that_keeps_to_a_version_has_the_rights_of_today() {
    let rt = TestRuntime::start().await;
    set(&rt, "stripe", VALUE).await;
    let source = "export default async () => [await sdk.secrets.get('stripe')]";
    let script = add(&rt, "leak", source).await;
    let subscription = format!("/api/v1/subscriptions/{}", rt.id_of("leak"));
    rt.patch(&subscription, &json!({ "script_version": 1 })).await;
    rt.publish("leak", json!({})).await;
    rt.delivery("leak").await.returned(&json!(["[secret stripe]"]));

    set(&rt, "stripe", "rotated_87654321").await;
    rt.publish("leak", json!({})).await;
    rt.delivery("leak").await.returned(&json!(["[secret stripe]"]));

    let path = format!("/api/v1/scripts/{script}");
    rt.patch(&path, &json!({ "secrets": [] })).await;
    rt.publish("leak", json!({})).await;
    rt.delivery("leak").await.dead();
    rt.dead_letter("leak").await.saying("no secret `stripe` is granted to this script");
}

#[cfg(unix)]
#[tokio::test]
async fn without_its_key_the_server_starts_and_says_what_is_missing() {
    use std::os::unix::fs::PermissionsExt as _;

    let mut rt = TestRuntime::start().await;
    set(&rt, "stripe", VALUE).await;
    add(&rt, "length", "export default async () => (await sdk.secrets.get('stripe')).length").await;
    let key = rt.server.data().join("secrets.key");
    assert_eq!(fs::metadata(&key).expect("a key").permissions().mode() & 0o777, 0o600);
    rt.server.stop();
    let away = key.with_extension("away");
    fs::rename(&key, &away).expect("a rename");
    rt.server.start().await;
    assert_eq!(rt.get("/api/v1/secrets").await["items"][0]["readable"], false);
    rt.publish("length", json!({})).await;
    rt.delivery("length").await.dead();
    rt.dead_letter("length").await.saying("lacks its key");
    let body = json!({ "value": "a new value" });
    rt.request(Method::PUT, "/api/v1/secrets/stripe", Some(&body)).await.refused(409, "conflict");

    rt.server.stop();
    fs::rename(&away, &key).expect("a rename");
    rt.server.start().await;
    rt.publish("length", json!({})).await;
    rt.delivery("length").await.returned(&json!(14));
    rt.server.stop();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("a change of mode");
    rt.server.launch();
    crate::support::eventually("the refusal of a key that others may read", async || {
        let log = rt.server.log();
        if log.contains("others may read it") { Ok(()) } else { Err(log) }
    })
    .await;
}
