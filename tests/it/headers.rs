//! What every answer carries, whatever the route and however it went.

use reqwest::{Method, Response, header};
use serde_json::Value;

use crate::support::{Database, TestRuntime, http};

/// A page of another origin gets nothing of us, and ours run no code but our own files.
const STRICT: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];
/// What may lie in a browser's cache: the dashboard, none of the data.
const CACHED: [&str; 2] = ["no-cache", "public, max-age=31536000, immutable"];

#[tokio::test]
async fn every_answer_of_every_route_carries_the_headers_that_keep_browsers_strict() {
    let rt = TestRuntime::start().await;
    let mut asked = 0;
    for (method, path) in routes(&rt).await {
        for token in [None, Some(rt.server.admin_token())] {
            let mut request = http().request(method.clone(), rt.server.url() + &path);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let what = format!("{method} {path}");
            let answer = request.send().await.unwrap_or_else(|error| panic!("{what}: {error}"));
            check(&what, &path, answer, false).await;
            asked += 1;
        }
    }
    assert!(asked > 200, "only {asked} answers");
}

#[tokio::test]
async fn behind_tls_browsers_are_told_to_stay_there() {
    let rt = TestRuntime::with(Database::Sqlite, "[server]\nhttps = true\n").await;
    for path in ["/", "/api/v1/stats", "/nothing", "/healthz", "/api/docs"] {
        let answer = http().get(rt.server.url() + path).send().await.expect("an answer");
        check(path, path, answer, true).await;
    }
    let login = http().post(rt.server.url() + "/api/v1/session");
    let login = login.json(&serde_json::json!({ "token": rt.server.admin_token() }));
    let login = login.send().await.expect("an answer");
    let cookie = login.headers()[header::SET_COOKIE].to_str().expect("text");
    assert!(cookie.starts_with("__Host-tripline="), "{cookie}");
    for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie} lacks {part}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
}

/// Operations of the document, methods that nobody takes, files of the dashboard, and nothing.
async fn routes(rt: &TestRuntime) -> Vec<(Method, String)> {
    let document = rt.get("/api/openapi.json").await;
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let path = path.replace("{version}", "1").replace(['{', '}'], "");
        for method in item.as_object().expect("operations").keys() {
            routes.push((method.to_uppercase().parse().expect("a method"), path.clone()));
        }
    }
    let other = [Method::TRACE, Method::OPTIONS, Method::HEAD, Method::PUT, Method::DELETE];
    for path in
        ["/", "/api/v1/events", "/api/v1/nothing", "/nothing", "/metrics", "/assets/none.js"]
    {
        routes.extend(other.iter().map(|method| (method.clone(), path.to_owned())));
        routes.push((Method::GET, path.to_owned()));
    }
    for path in
        ["/api/docs", "/api/docs.css", "/api/openapi.json", "/api", "/%2e%2e/etc/passwd", "/%00"]
    {
        routes.push((Method::GET, path.to_owned()));
    }
    routes.extend(files(rt).await.into_iter().map(|path| (Method::GET, path)));
    routes
}

/// The files that the dashboard's page names; none in a build without Node.
async fn files(rt: &TestRuntime) -> Vec<String> {
    let page = http().get(rt.server.url()).send().await.expect("an answer");
    let page = page.text().await.expect("a text");
    let names = page.split('"').filter_map(|part| part.strip_prefix("./"));
    names.map(|name| format!("/{name}")).collect()
}

async fn check(what: &str, path: &str, answer: Response, https: bool) {
    let status = answer.status();
    let headers = answer.headers().clone();
    let text = |name: &str| headers.get(name).map(|value| value.to_str().expect("a text"));
    assert!(!status.is_server_error(), "{what}: {status}");
    for (name, expected) in STRICT {
        assert_eq!(text(name), Some(expected), "{what} {status}: {name}");
    }
    content_policy(what, text("content-security-policy").expect("a policy"));
    for name in ["server", "x-powered-by", "access-control-allow-origin"] {
        assert_eq!(text(name), None, "{what}: {name}");
    }
    assert_eq!(text("strict-transport-security").is_some(), https, "{what}");
    assert!(text("x-request-id").is_some(), "{what}");
    let caching = text("cache-control").unwrap_or_default();
    let is_data = ["/api/v1", "/metrics", "/healthz", "/readyz", "/hooks"]
        .iter()
        .any(|at| path.starts_with(at));
    assert!(caching == "no-store" || (!is_data && CACHED.contains(&caching)), "{what}: {caching}");
    if status == 405 {
        assert!(text("allow").is_some_and(|allow| !allow.contains("TRACE")), "{what}: no Allow");
    }
    let kind = text("content-type").map(str::to_owned);
    // The stream of news has no end to wait for.
    if kind.as_deref() == Some("text/event-stream") {
        return;
    }
    let body = answer.bytes().await.expect("a body");
    charset(what, kind.as_deref(), &body);
}

fn content_policy(what: &str, policy: &str) {
    let parts: Vec<&str> = policy.split(';').map(str::trim).collect();
    for part in
        ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(parts.contains(&part), "{what}: {policy}");
    }
    for loose in ["unsafe", "http:", "https:", "*"] {
        assert!(!policy.contains(loose), "{what}: {policy}");
    }
}

/// What is text says that it is UTF-8; JSON is UTF-8 by its own rules.
fn charset(what: &str, kind: Option<&str>, body: &[u8]) {
    let Some(kind) = kind else {
        assert!(body.is_empty(), "{what}: a body without a type");
        return;
    };
    if kind.starts_with("text/") || kind.starts_with("image/svg") {
        assert!(kind.ends_with("charset=utf-8"), "{what}: {kind}");
    }
    if kind.contains("json") && !body.is_empty() {
        serde_json::from_slice::<Value>(body).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}
