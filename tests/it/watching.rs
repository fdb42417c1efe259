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
