//! Recorded runs again: the same, byte for byte, or the first call that is not.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Database, TestRuntime};

const SOURCE: &str = "
    const born = Date.now();
    export default async (order, context) => {
        const key = await sdk.secrets.get('KEY');
        const seen = await sdk.kv.increment('seen');
        console.log('order', order.n, 'seen', seen, new Date().toISOString(), Math.random());
        console.log(crypto.randomUUID(), performance.now(), born, key);
        await Promise.race([1, 3, 2].map((ms) => new Promise((wake) => setTimeout(wake, ms))));
        console.log((await sdk.kv.list({ prefix: 's' })).length, context.runId);
        await sdk.events.emit('order.seen', { at: Date.now(), seen, key });
        if (order.fails) throw new Error(`order ${order.n} of ${Math.random()} at ${Date.now()}`);
        return { seen, chance: Math.random() };
    };";

async fn failed_run(rt: &TestRuntime, name: &str) -> Value {
    let id = rt.id_of(name);
    rt.dead_letter(name).await;
    rt.all(&format!("/api/v1/runs?subscription_id={id}")).await.remove(0)
}

async fn rerun(rt: &TestRuntime, run: &Value, body: Value) -> Value {
    rt.post(&format!("/api/v1/runs/{}/rerun", run["id"].as_str().unwrap()), &body).await
}

/// Runs the binary against this server; answers whether it succeeded, and all it said.
fn command(rt: &TestRuntime, args: &[&str]) -> (bool, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tripline"))
        .args(args)
        .envs([("NO_COLOR", "1"), ("TRIPLINE_TOKEN", &*rt.server.admin_token())])
        .env("TRIPLINE_URL", rt.server.url())
        .output()
        .expect("the binary starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

async fn with_secret(database: Database, config: &str) -> TestRuntime {
    let rt = TestRuntime::with(database, config).await;
    let (path, secret) = ("/api/v1/secrets/KEY", json!({ "value": "hunter2-hunter2" }));
    rt.request(Method::PUT, path, Some(&secret)).await.ok(path);
    let script = json!({
        "name": "orders", "language": "typescript", "source": SOURCE, "secrets": ["KEY"],
    });
    let script = rt.post("/api/v1/scripts", &script).await;
    let script = script["id"].as_str().unwrap();
    rt.subscription("orders").on("order.*").using(script).attempts(1, 1).add().await;
    rt
}

async fn again_and_edited(database: Database) {
    if !database.available() {
        return;
    }
    let rt = with_secret(database, "").await;
    rt.publish("order.paid", json!({ "n": 6, "fails": true })).await;
    rt.delivery("orders").await.dead();
    rt.publish("order.paid", json!({ "n": 7, "fails": true })).await;
    rt.delivery("orders").await.dead();
    let run = failed_run(&rt, "orders").await;
    assert_eq!(run["recorded"], true, "{run}");

    let again = rerun(&rt, &run, json!({})).await;
    assert_eq!(again["same"], true, "{again:#}");
    for field in ["logs", "result"] {
        assert_eq!(again[field].to_string(), run[field].to_string());
    }
    assert_eq!(again["error"]["message"], run["error"]["message"]);
    assert_eq!(again["error"]["stack"], run["error"]["stack"]);
    assert_eq!(again["steps"][0], "sdk.secrets.get(\"KEY\")");
    // The run itself shows what it asked and heard, the secret apart.
    let shown = rt.get(&format!("/api/v1/runs/{}", run["id"].as_str().unwrap())).await;
    let calls = shown["calls"].as_array().expect("calls").clone();
    let said: Vec<&Value> = calls.iter().map(|one| &one["call"]).collect();
    assert_eq!(json!(said), again["steps"]);
    assert_eq!(calls[0]["answer"], "the secret");
    assert_eq!(
        (&shown["subscription_name"], &shown["outcome"]),
        (&json!("orders"), &json!("failed"))
    );
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    // Nothing of it was kept: the counter stands where the failed runs left it.
    let counter = rt.request(Method::GET, "/api/v1/events?type=order.seen", None).await.body;
    assert_eq!(counter["items"], json!([]));
    // The secret is in no recording, and in nothing that is shown.
    assert!(!again.to_string().contains("hunter2"), "{again}");

    let mended = SOURCE.replace("if (order.fails) throw", "if (false) throw");
    let again = rerun(&rt, &run, json!({ "source": mended })).await;
    assert_eq!(again["outcome"], "succeeded", "{again:#}");
    assert_eq!((&again["same"], &again["differs"]), (&json!(false), &json!(["outcome"])));
    assert_eq!(again["first_difference"], Value::Null);
    assert_eq!(again["logs"], run["logs"]);

    let other = SOURCE.replace("prefix: 's'", "prefix: 't'");
    let again = rerun(&rt, &run, json!({ "source": other })).await;
    let first = &again["first_difference"];
    assert_eq!(first["call"], 4, "{again:#}");
    assert!(first["recorded"].as_str().unwrap().contains("prefix: \"s\""), "{first}");
    assert!(first["rerun"].as_str().unwrap().contains("prefix: \"t\""), "{first}");
    let message = again["error"]["message"].as_str().unwrap();
    assert!(message.contains("the recorded run did not make this call"), "{message}");
}

#[tokio::test]
async fn a_failed_run_again_is_the_same_and_an_edited_source_differs_by_name_on_sqlite() {
    again_and_edited(Database::Sqlite).await;
}

#[tokio::test]
async fn a_failed_run_again_is_the_same_and_an_edited_source_differs_by_name_on_postgres() {
    again_and_edited(Database::Postgres).await;
}

#[tokio::test]
async fn what_was_not_recorded_says_so_and_all_runs_are_when_configured() {
    let rt = with_secret(Database::Sqlite, "").await;
    rt.publish("order.paid", json!({ "n": 1 })).await;
    let run = rt.delivery("orders").await.succeeded().runs.remove(0);
    assert_eq!(run["recorded"], false);
    let shown = rt.get(&format!("/api/v1/runs/{}", run["id"].as_str().unwrap())).await;
    assert_eq!(shown["calls"], Value::Null);
    let path = format!("/api/v1/runs/{}/rerun", run["id"].as_str().unwrap());
    rt.request(Method::POST, &path, Some(&json!({}))).await.refused(409, "not_recorded");
    rt.request(Method::POST, &path, Some(&json!({ "language": "javascript" })))
        .await
        .refused(422, "invalid_field");

    let rt = with_secret(Database::Sqlite, "[script]\nrecord = \"all\"\n").await;
    rt.publish("order.paid", json!({ "n": 1 })).await;
    let run = rt.delivery("orders").await.succeeded().runs.remove(0);
    let again = rerun(&rt, &run, json!({})).await;
    assert_eq!(again["same"], true, "{again:#}");
    assert_eq!(again["result"], run["result"]);
}

#[tokio::test]
async fn the_command_line_reruns_from_a_server_and_from_a_file() {
    let rt = with_secret(Database::Sqlite, "").await;
    rt.publish("order.paid", json!({ "n": 7, "fails": true })).await;
    let run = failed_run(&rt, "orders").await;
    let ends = |args: &[&str], well: bool| {
        let (succeeded, said) = command(&rt, args);
        assert_eq!(succeeded, well, "{args:?}: {said}");
        said
    };
    let (cli, fails) = (|args: &[&str]| ends(args, true), |args: &[&str]| ends(args, false));
    let said = cli(&["rerun", run["id"].as_str().unwrap()]);
    assert!(said.contains("the same as recorded"), "{said}");

    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let source = "export default async (order) => {
        console.log(Date.now(), Math.random(), await sdk.kv.get('none'));
        return { n: order.n, id: crypto.randomUUID() };
    };";
    std::fs::write(at("a.ts"), source).expect("a file");
    std::fs::write(at("b.ts"), source.replace("'none'", "'some'")).expect("a file");
    std::fs::write(at("event.json"), r#"{"type":"order.paid","data":{"n":1}}"#).expect("a file");
    let recording = at("run.json");
    cli(&["run", &at("a.ts"), "--event", &at("event.json"), "--record", &recording]);
    let said = cli(&["rerun", &recording]);
    assert!(said.contains("the same as recorded"), "{said}");
    let said = fails(&["rerun", &recording, "--source", &at("b.ts")]);
    assert!(said.contains("recorded: sdk.kv.get(\"none\")"), "{said}");
    assert!(said.contains("rerun:    sdk.kv.get(\"some\")"), "{said}");
}
