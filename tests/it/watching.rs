//! What is shipped for Prometheus and Grafana names metrics that there are.

use std::{collections::BTreeSet, fs, path::Path};

use reqwest::Method;
use serde_json::json;

use crate::support::TestRuntime;

/// `tripline_` and what follows, of a file's text.
fn names(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices("tripline_")
        .map(|(at, _)| text[at..].chars().take_while(|c| word(*c)).collect())
        .collect()
}

#[tokio::test]
async fn alerts_and_dashboard_name_metrics_that_there_are() {
    let rt = TestRuntime::start().await;
    let fails = "export default () => { throw new Error('no'); }";
    rt.subscription("fails").on("job.*").script(fails).attempts(1, 1).add().await;
    rt.publish("job.due", json!({})).await;
    rt.delivery("fails").await.dead();
    rt.publish("nobody.listens", json!({})).await;
    let secret = json!({ "value": "hush-hush-hush" });
    rt.request(Method::PUT, "/api/v1/secrets/key", Some(&secret)).await.ok("a secret");
    rt.post("/api/v1/hooks", &json!({ "name": "a", "preset": "hmac", "secrets": ["key"] })).await;
    rt.request(Method::POST, "/hooks/a", Some(&json!({}))).await;
    let metrics = rt.get("/metrics").await;
    let there = names(metrics.as_str().expect("a text"));

    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for file in ["alerts.yml", "grafana.json"] {
        let text = fs::read_to_string(docs.join(file)).expect("a file of the docs");
        let named = names(&text);
        assert!(named.len() > 5, "{file} names {named:?}");
        let missing: Vec<&String> = named.difference(&there).collect();
        assert!(missing.is_empty(), "{file} names {missing:?}, which /metrics has not");
        labels_are_there(file, &text.replace("\\\"", "\""), metrics.as_str().expect("a text"));
    }
}

/// Names of labels in `{…}` of each metric that a text names, and in its `by (…)`.
fn matched(text: &str) -> Vec<(String, Vec<String>)> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let metrics = text.match_indices("tripline_").filter_map(|(at, _)| {
        let name: String = text[at..].chars().take_while(|c| word(*c)).collect();
        let labels = text[at + name.len()..].strip_prefix('{')?.split_once('}')?.0;
        let labels = labels.split(',').filter_map(|pair| pair.split(['=', '!', '~']).next());
        Some((name, labels.map(str::to_owned).collect()))
    });
    metrics.collect()
}

/// Labels by which a text sums up, or that it shows.
fn shown(text: &str) -> BTreeSet<String> {
    let sums = text.split(" by (").skip(1).filter_map(|rest| rest.split(')').next());
    let shows = text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
    let shows = shows.map(|of| of.trim().trim_start_matches("$labels.").trim_start_matches('.'));
    let labels = sums.flat_map(|list| list.split(',')).chain(shows).map(str::trim);
    labels.filter(|label| !label.contains(['$', ' '])).map(str::to_owned).collect()
}

#[track_caller]
fn labels_are_there(file: &str, text: &str, metrics: &str) {
    // Prometheus itself gives these.
    let given = ["instance", "job", "le"];
    let series = |name: &str| -> Vec<&str> {
        let of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
        metrics.lines().filter(of).collect()
    };
    let has = |line: &str, label: &str| {
        line.contains(&format!("{{{label}=\"")) || line.contains(&format!(",{label}=\""))
    };
    for (name, labels) in matched(text) {
        for label in labels.iter().filter(|label| !given.contains(&label.as_str())) {
            let is_there = series(&name).iter().any(|line| has(line, label));
            assert!(is_there, "{file}: {name} has no label {label:?}");
        }
    }
    for label in shown(text).iter().filter(|label| !given.contains(&label.as_str())) {
        let is_there = metrics.lines().any(|line| has(line, label));
        assert!(is_there, "{file}: no metric has a label {label:?}");
    }
}

#[test]
fn labels_that_are_not_there_are_found() {
    let metrics = "tripline_a_total{b=\"1\",c=\"2\"} 3\ntripline_d{e=\"1\"} 1\n";
    labels_are_there("it", "sum by (b, e) (rate(tripline_a_total{c!=\"x\"}[5m]))", metrics);
    for wrong in ["tripline_a_total{e=\"1\"}", "sum by (f) (tripline_d)", "{{ $labels.f }}"] {
        let found = std::panic::catch_unwind(|| labels_are_there("it", wrong, metrics));
        assert!(found.is_err(), "{wrong}");
    }
}

/// GitHub's anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_alert_says_what_it_means_and_leads_to_its_runbook() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let operations = fs::read_to_string(docs.join("operations.md")).expect("a file of the docs");
    let sections: BTreeSet<String> =
        operations.lines().filter_map(|line| line.strip_prefix("### ")).map(anchor).collect();
    let rules = fs::read_to_string(docs.join("alerts.yml")).expect("a file of the docs");
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 8, "{} alerts", alerts.len());
    for alert in alerts {
        for field in ["expr: ", "severity: ", "summary: \"", "description: \""] {
            assert!(alert.contains(field), "no {field:?} in {alert}");
        }
        let runbook =
            alert.split("docs/operations.md#").nth(1).and_then(|rest| rest.split('"').next());
        let runbook = runbook.unwrap_or_else(|| panic!("no runbook in {alert}"));
        assert!(sections.contains(runbook), "operations.md has no section {runbook:?}");
    }
}
