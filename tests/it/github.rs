//! Real input: every GitHub webhook payload of the example package through the example's scripts.
//!
//! The expected counts are computed here from the payload files, without the filters and scripts
//! under test. `npm ci` in `examples/github` must have run (`make test` does); nothing else is
//! fetched.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use regex::Regex;
use serde_json::Value;

use crate::support::TestRuntime;

/// How the deliveries of a subscription ended, and the events it emitted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    succeeded: u64,
    dead: u64,
    emitted: u64,
}

#[tokio::test]
async fn every_github_webhook_reaches_exactly_its_scripts() {
    let webhooks = webhooks();
    assert!(webhooks.len() > 700, "{} payloads: is the package whole?", webhooks.len());
    let rt = TestRuntime::start().await;

    let first = run_example(&rt);
    assert_eq!(first["accepted"], webhooks.len());
    assert_eq!(first["duplicates"], 0);
    assert_eq!(tallies(&first), expected(&webhooks));

    let again = run_example(&rt);
    assert_eq!(again["accepted"].as_u64().unwrap_or(0), 0, "the same ids are not accepted again");
    assert_eq!(again["duplicates"], webhooks.len());
    assert_eq!(tallies(&again), expected(&webhooks), "a duplicate runs nothing");
}

/// Runs the example against the server and answers the JSON it prints.
fn run_example(rt: &TestRuntime) -> Value {
    let output = Command::new("node")
        .args(["run.mjs", "--json"])
        .current_dir(example())
        .env("TRIPLINE_URL", rt.server.url())
        .env("TRIPLINE_TOKEN", rt.server.admin_token())
        .output()
        .expect("Node is there");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{}", rt.server.log());
    serde_json::from_slice(&output.stdout).expect("the example prints JSON")
}

fn tallies(report: &Value) -> BTreeMap<String, Tally> {
    let rows = report["subscriptions"].as_array().expect("a list");
    let count = |row: &Value, field: &str| row[field].as_u64().unwrap();
    rows.iter()
        .map(|row| {
            let tally = Tally {
                succeeded: count(row, "succeeded"),
                dead: count(row, "dead"),
                emitted: count(row, "emitted"),
            };
            (row["name"].as_str().unwrap().to_owned(), tally)
        })
        .collect()
}

struct Webhook {
    /// `issues` of `issues.opened`.
    name: String,
    action: Option<String>,
    payload: Value,
}

impl Webhook {
    fn is(&self, name: &str, action: &str) -> bool {
        self.name == name && self.action.as_deref() == Some(action)
    }
}

fn webhooks() -> Vec<Webhook> {
    let package = example().join("node_modules/@octokit/webhooks-examples");
    let folders = fs::read_dir(&package).unwrap_or_else(|error| {
        panic!("{}: {error}; run npm ci in examples/github", package.display())
    });
    let mut all = Vec::new();
    for index in
        folders.map(|entry| entry.unwrap().path().join("index.json")).filter(|path| path.exists())
    {
        let described: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
        for webhook in described.as_array().unwrap() {
            for payload in webhook["examples"].as_array().unwrap() {
                all.push(Webhook {
                    name: webhook["name"].as_str().unwrap().to_owned(),
                    action: payload["action"].as_str().map(str::to_owned),
                    payload: payload.clone(),
                });
            }
        }
    }
    all
}

fn expected(webhooks: &[Webhook]) -> BTreeMap<String, Tally> {
    let mut tallies = BTreeMap::<String, Tally>::new();
    let mut took = |name: &str| {
        tallies.entry(name.to_owned()).or_default().succeeded += 1;
    };
    let mut stale = BTreeSet::new();
    let mut messages = BTreeMap::<&str, u64>::new();
    let mut urgent = 0;
    for webhook in webhooks {
        let body = &webhook.payload;
        took("count-activity");
        for (action, name) in
            [("opened", "triage-new-issues"), ("reopened", "triage-reopened-issues")]
        {
            if webhook.is("issues", action) {
                took(name);
                *messages.entry(name).or_default() += 1;
                urgent += u64::from(sounds_like_security(&body["issue"]));
            }
        }
        let release = &body["release"];
        if webhook.is("release", "published")
            && release["draft"] == false
            && release["prerelease"] == false
        {
            took("announce-releases");
            *messages.entry("announce-releases").or_default() += 1;
        }
        let issue = &body["issue"];
        if webhook.name == "issues" && issue["state"] == "open" && issue["locked"] == false {
            took("find-stale-issues");
            // All of them are years old.
            stale.insert((issue["number"].to_string(), issue["updated_at"].to_string()));
        }
        if let Some(failed) = failed_run(webhook) {
            took("report-ci-failures");
            *messages.entry("report-ci-failures").or_default() += 1;
            let branch = &failed["head_branch"];
            urgent +=
                u64::from(branch.is_string() && *branch == body["repository"]["default_branch"]);
        }
        let alert = &body["alert"];
        let created = webhook.is("repository_vulnerability_alert", "create");
        if body.get("alert").is_some() && (alert["state"] == "open" || created) {
            took("watch-security");
            *messages.entry("watch-security").or_default() += 1;
            urgent += u64::from(is_severe(alert));
        }
        if webhook.name == "push" && body["deleted"] == false {
            took("mirror-branches");
        }
    }
    let deleted =
        webhooks.iter().filter(|w| w.name == "push" && w.payload["deleted"] == true).count();
    tallies.entry("mirror-branches".to_owned()).or_default().dead = deleted as u64;
    tallies.entry("find-stale-issues".to_owned()).or_default().emitted = stale.len() as u64;
    for (name, count) in &messages {
        tallies.get_mut(*name).unwrap().emitted = *count;
    }
    tallies.entry("tell-team".to_owned()).or_default().succeeded = messages.values().sum();
    tallies.entry("page-on-call".to_owned()).or_default().succeeded = urgent;
    tallies
}

fn sounds_like_security(issue: &Value) -> bool {
    let words = Regex::new(r"(?i)\b(cve|vulnerab\w+|leak|xss|injection)\b").unwrap();
    [&issue["title"], &issue["body"]]
        .iter()
        .any(|text| words.is_match(text.as_str().unwrap_or_default()))
}

fn failed_run(webhook: &Webhook) -> Option<&Value> {
    let completed = webhook.action.as_deref() == Some("completed");
    ["check_run", "check_suite", "workflow_run", "workflow_job"]
        .iter()
        .filter_map(|kind| webhook.payload.get(kind))
        .find(|run| completed && run["conclusion"] == "failure")
}

fn is_severe(alert: &Value) -> bool {
    let severity =
        [&alert["security_advisory"]["severity"], &alert["rule"]["severity"], &alert["severity"]];
    let first = severity.iter().find_map(|value| value.as_str());
    first.is_some_and(|severity| ["high", "critical", "error"].contains(&severity))
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/github")
}
