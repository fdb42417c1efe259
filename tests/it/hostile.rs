//! The hostile corpus in a running server, each script beside a neighbour who minds his own business.
//!
//! `tests/hostile/*.js` has one script a file and its expected outcome in the first line; `killed` ends
//! as a timeout that the lane's watchdog enforced, `refused` does not even get saved.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Database, TestRuntime, eventually};

/// What the neighbour is sent while hostile scripts run.
const NEIGHBOUR_EVERY: Duration = Duration::from_millis(50);

/// What the lanes and the server may hold afterwards beyond what they held before.
const MEMORY_LEFT: u64 = 64 << 20;

struct Hostile {
    name: String,
    expected: Vec<String>,
    source: String,
}

fn corpus() -> Vec<Hostile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let mut scripts: Vec<_> = fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| {
            let path = entry.expect("a file").path();
            let source = fs::read_to_string(&path).expect("a text");
            let first = source.lines().next().and_then(|line| line.strip_prefix("// expect: "));
            let expected = first.expect("an expectation").split(" or ");
            let expected = expected.map(|kind| if kind == "killed" { "timeout" } else { kind });
            Hostile {
                name: path.file_stem().expect("a name").to_string_lossy().into_owned(),
                expected: expected.map(str::to_owned).collect(),
                source,
            }
        })
        .collect();
    scripts.sort_by(|a, b| a.name.cmp(&b.name));
    scripts
}

#[tokio::test]
async fn hostile_scripts_hurt_neither_the_server_nor_their_neighbour() {
    let rt = TestRuntime::with(Database::Sqlite, "").await;
    let pid = rt.get("/api/v1/stats").await["pid"].as_u64().expect("a process");
    rt.subscription("neighbour").on("calm.*").script("export default (n) => n.n").add().await;
    rt.publish("calm.first", json!({ "n": 0 })).await;
    rt.delivery("neighbour").await.succeeded();
    let memory_before = resident(pid);

    let done = AtomicBool::new(false);
    let (sent, wrong) = tokio::join!(keep_sending(&rt, &done), async {
        let wrong = attack(&rt).await;
        done.store(true, Relaxed);
        wrong
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let path = format!("/api/v1/subscriptions/{}", rt.id_of("neighbour"));
    let calm = eventually("the neighbour to have had everything", async || {
        let activity = rt.get(&path).await["activity"].clone();
        if activity["succeeded"] == sent + 1 { Ok(activity) } else { Err(activity) }
    })
    .await;
    assert_eq!(
        (&calm["failed"], &calm["dead"], &calm["restarts"]),
        (&json!(0), &json!(0), &json!(0))
    );
    assert_eq!(rt.get("/api/v1/stats").await["pid"], pid, "the server is the one that was started");
    eventually("the memory to come back", async || {
        let now = resident(pid);
        if now <= memory_before + MEMORY_LEFT { Ok(()) } else { Err((memory_before, now)) }
    })
    .await;
}

/// Publishes to the neighbour until told to stop; answers how many events that were.
async fn keep_sending(rt: &TestRuntime, done: &AtomicBool) -> u64 {
    let mut sent = 0;
    let mut every = tokio::time::interval(NEIGHBOUR_EVERY);
    while !done.load(Relaxed) {
        every.tick().await;
        let event = json!({ "type": "calm.next", "data": { "n": sent } });
        rt.post("/api/v1/events", &event).await;
        sent += 1;
    }
    sent
}

/// Runs one script after the other; answers what did not end as expected.
async fn attack(rt: &TestRuntime) -> Vec<String> {
    let mut wrong = Vec::new();
    for Hostile { name, expected, source } in corpus() {
        let script = json!({ "name": name, "language": "javascript", "source": source });
        let saved = rt.request(Method::POST, "/api/v1/scripts", Some(&script)).await;
        if expected.iter().any(|kind| kind == "refused") && saved.status == 422 {
            continue;
        }
        let script = saved.ok("/api/v1/scripts")["id"].clone();
        let mut added = json!({
            "name": name, "script_id": script, "event_type": format!("hostile.{name}"),
            "limits": { "wall_ms": 3_000 }, "retry_policy": { "max_attempts": 1 },
        });
        if expected == ["out_of_memory"] {
            // Filling the memory takes an unoptimised build longer than the default allows.
            added["limits"]["cpu_ms"] = json!(2_000);
        }
        let added = rt.post("/api/v1/subscriptions", &added).await;
        let event = json!({ "type": format!("hostile.{name}"), "data": { "amount": 10 } });
        rt.post("/api/v1/events", &event).await;
        let path = format!("/api/v1/subscriptions/{}", added["id"].as_str().expect("an id"));
        let activity = eventually(&format!("{name} to end"), async || {
            let activity = rt.get(&path).await["activity"].clone();
            let ended = |field: &str| activity[field].as_u64().unwrap_or_default();
            if ended("succeeded") + ended("dead") > 0 { Ok(activity) } else { Err(activity) }
        })
        .await;
        let outcome = match activity["last_error"].as_str() {
            None => "succeeded",
            Some(error) => error.split(':').next().unwrap_or_default(),
        };
        if !expected.iter().any(|kind| kind == outcome) {
            wrong.push(format!("{name}: expected {expected:?}, found {activity}"));
        }
        let path_of_runs = format!("/api/v1/runs?subscription_id={}", id(&added));
        let runs = eventually(&format!("the run of {name} to be kept"), async || {
            let runs = rt.all(&path_of_runs).await;
            if runs.is_empty() { Err(()) } else { Ok(runs) }
        })
        .await;
        if runs.len() != 1 {
            wrong.push(format!("{name}: its outcome is recorded {} times", runs.len()));
        }
        rt.delete(&format!("{path}?discard=true")).await;
    }
    wrong
}

fn id(of: &Value) -> &str {
    of["id"].as_str().expect("an id")
}

/// Memory of a process and its children, shared pages by their share.
pub(crate) fn resident(pid: u64) -> u64 {
    let children = fs::read_dir("/proc").expect("Linux").flatten().filter_map(|entry| {
        let child: u64 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u64>().ok()?;
        (parent == pid).then_some(child)
    });
    let pss = |pid: u64| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib << 10)
    };
    children.chain([pid]).filter_map(pss).sum()
}
