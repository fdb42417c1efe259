//! Shared modules: what scripts import from each other.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Database, TestRuntime, eventually};

const MONEY: &str = "
    import { digits } from 'lib/digits';
    export type Cents = number;
    export const gross = (net: number): number => {
        if (net < 0) {
            throw new RangeError('a net amount is not negative');
        }
        return Math.round(net * 1.19 * digits) / digits;
    };";

async fn module(rt: &TestRuntime, name: &str, source: &str) -> Value {
    rt.post("/api/v1/scripts", &new(name, "module", source)).await
}

fn new(name: &str, kind: &str, source: &str) -> Value {
    json!({ "name": name, "kind": kind, "language": "typescript", "source": source })
}

fn path(script: &Value) -> String {
    format!("/api/v1/scripts/{}", script["id"].as_str().expect("an id"))
}

async fn imported_and_changed(database: Database) {
    if !database.available() {
        return;
    }
    let rt = TestRuntime::with(database, "").await;
    let digits = module(&rt, "lib/digits", "export const digits = 100;").await;
    let money = module(&rt, "lib/money", MONEY).await;
    assert_eq!((&money["kind"], &money["imports"]), (&json!("module"), &json!(["lib/digits"])));

    let source = "
        import { gross, type Cents } from 'lib/money';
        export default (order: { net: Cents }) => gross(order.net);";
    let script = rt.post("/api/v1/scripts", &new("shop", "script", source)).await;
    assert_eq!(script["imports"], json!(["lib/digits", "lib/money"]));
    let using = script["id"].as_str().unwrap();
    rt.subscription("shop").on("order.*").using(using).attempts(1, 1).add().await;
    let plain = "
        import * as money from 'lib/money';
        const { gross } = await import('lib/money');
        console.log(money.gross(1), gross(2));";
    rt.subscription("plain").on("order.*").script(plain).attempts(1, 1).add().await;

    rt.publish("order.paid", json!({ "net": 10 })).await;
    rt.delivery("shop").await.succeeded().returned(&json!(11.9));
    let logged = rt.delivery("plain").await.succeeded().runs.remove(0);
    assert_eq!(logged["logs"][0]["message"], "1.19 2.38");

    // Positions are those of the module's source.
    rt.publish("order.paid", json!({ "net": -1 })).await;
    rt.delivery("shop").await.dead();
    let letter = rt.dead_letter("shop").await.because("exception");
    let stack = letter.0["stack"].as_str().unwrap();
    assert!(stack.contains("lib/money.ts:6:"), "{stack}");
    assert!(stack.contains("shop.ts:3:"), "{stack}");

    // A new version is in the next run of whoever imports it, however far away.
    rt.patch(&path(&digits), &json!({ "source": "export const digits = 1;" })).await;
    eventually("the new module to run", async || {
        rt.publish("order.paid", json!({ "net": 10 })).await;
        let run = rt.delivery("shop").await.succeeded().runs.remove(0);
        if run["result"] == 12 { Ok(()) } else { Err(run) }
    })
    .await;

    // A rerun has the modules of then.
    let id = rt.id_of("shop");
    let runs = rt.all(&format!("/api/v1/runs?subscription_id={id}&outcome=failed")).await;
    let rerun = format!("/api/v1/runs/{}/rerun", runs[0]["id"].as_str().unwrap());
    let again = rt.post(&rerun, &json!({})).await;
    assert_eq!(again["same"], true, "{again:#}");
}

#[tokio::test]
async fn a_module_is_imported_and_its_change_reaches_its_importers_on_sqlite() {
    imported_and_changed(Database::Sqlite).await;
}

#[tokio::test]
async fn a_module_is_imported_and_its_change_reaches_its_importers_on_postgres() {
    imported_and_changed(Database::Postgres).await;
}

#[tokio::test]
async fn a_version_that_is_named_stays() {
    let rt = TestRuntime::start().await;
    let lib = module(&rt, "lib/n", "export const n = 1;").await;
    rt.patch(&path(&lib), &json!({ "source": "export const n = 2;" })).await;
    let source = "import { n } from 'lib/n@1'; import { n as now } from 'lib/n';
                  export default () => [n, now];";
    rt.subscription("two").on("a").script(source).add().await;
    rt.publish("a", json!({})).await;
    rt.delivery("two").await.succeeded().returned(&json!([1, 2]));
}

#[tokio::test]
async fn what_cannot_be_imported_is_refused_where_it_stands() {
    let rt = TestRuntime::start().await;
    let lib = module(&rt, "lib/a", "export const a = 1;").await;
    rt.post("/api/v1/scripts", &new("runs", "script", "export default () => 1")).await;
    let refused = async |name: &str, kind: &str, source: &str| {
        let body = new(name, kind, source);
        let answer = rt.request(Method::POST, "/api/v1/scripts", Some(&body)).await;
        answer.refused(422, "compile_error")
    };
    for (source, why) in [
        ("import { b } from 'lib/a'; b();", "`lib/a` exports no `b`: it exports a"),
        ("import { b } from 'lib/b'; b();", "there is no module of this name"),
        ("import b from 'runs'; b();", "only scripts of kind `module` are imported"),
        ("import { a } from 'lib/a@7'; a();", "it has no such version"),
        ("import fs from 'node:fs'; fs();", "expected the name of a module"),
        ("import fs from '../x'; fs();", "expected the name of a module"),
        ("await import('lib/b');", "there is no module of this name"),
    ] {
        let problem = refused("x", "script", &format!("\n  {source}")).await;
        assert!(problem["detail"].as_str().unwrap().contains(why), "{source}: {problem:#}");
        assert_eq!(problem["line"], 2, "{source}");
    }
    let wrong = new("Not A Name", "module", "export const a = 1;");
    rt.request(Method::POST, "/api/v1/scripts", Some(&wrong)).await.refused(422, "invalid_field");

    // A ring is refused with its members, when it would be closed.
    let b = "import { a } from 'lib/a'; export const b = a;";
    module(&rt, "lib/b", b).await;
    let ring = json!({ "source": "import { b } from 'lib/b'; export const a = b;" });
    let problem = rt.request(Method::PATCH, &path(&lib), Some(&ring)).await;
    let detail = problem.refused(422, "compile_error")["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("in a ring: lib/b → lib/a"), "{detail}");

    // So is what would break those who import it, by name; and a module in use stays.
    let other = json!({ "source": "export const c = 1;" });
    let problem = rt.request(Method::PATCH, &path(&lib), Some(&other)).await;
    let detail = problem.refused(422, "compile_error")["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("`lib/b` imports it"), "{detail}");
    rt.request(Method::DELETE, &path(&lib), None).await.refused(409, "in_use");
    let renamed = json!({ "name": "lib/z" });
    rt.request(Method::PATCH, &path(&lib), Some(&renamed)).await.refused(409, "in_use");
    // It is no script to be run.
    let body = json!({ "name": "x", "script_id": lib["id"], "event_type": "a" });
    let problem = rt.request(Method::POST, "/api/v1/subscriptions", Some(&body)).await;
    assert_eq!(problem.refused(422, "invalid_field")["field"], "script_id");
}

#[tokio::test]
async fn the_command_line_finds_modules_beside_the_script() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("lib")).expect("a folder");
    std::fs::write(at("lib/money.ts"), "export const gross = (net: number) => net * 2;").unwrap();
    let source = "import { gross } from 'lib/money'; export default (o) => gross(o.net);";
    std::fs::write(at("shop.ts"), source).unwrap();
    std::fs::write(at("event.json"), r#"{"net":21}"#).unwrap();
    std::fs::write(at("other.ts"), "import { x } from 'lib/none'; x();").unwrap();
    let run = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tripline"))
            .args(args)
            .current_dir(folder.path())
            .env("NO_COLOR", "1")
            .output()
            .expect("the binary starts");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let said = run(&["run", "shop.ts", "--event", "event.json", "--record", "run.json"]);
    assert!(said.contains(": 42"), "{said}");
    std::fs::remove_file(at("lib/money.ts")).unwrap();
    let said = run(&["rerun", "run.json"]);
    assert!(said.contains("the same as recorded"), "{said}");
    let said = run(&["check", "other.ts"]);
    assert!(said.contains("other.ts:1:1: cannot import `lib/none`"), "{said}");
}
