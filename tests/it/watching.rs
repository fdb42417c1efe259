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
