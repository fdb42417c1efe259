//! What the overview's charts are drawn from.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{TestRuntime, eventually};

async fn steps(rt: &TestRuntime, minutes: u64) -> Vec<Value> {
    let series = rt.get(&format!("/api/v1/stats/series?minutes={minutes}")).await;
    series["points"].as_array().expect("steps").clone()
}

fn sum(steps: &[Value], field: &str) -> u64 {
    steps.iter().map(|step| step[field].as_u64().expect("a count")).sum()
}

/// Whoever deploys during an incident must not lose the picture of it.
#[tokio::test]
async fn the_charts_show_what_happened_and_a_restart_does_not_empty_them() {
    let mut rt = TestRuntime::start().await;
    let fails = "export default () => { throw new Error('no'); }";
    rt.subscription("fails").on("job.*").script(fails).attempts(1, 1).add().await;
    rt.publish("job.due", json!({})).await;
    rt.delivery("fails").await.dead();
    let seen = eventually("a step with the event and its letter", async || {
        let steps = steps(&rt, 10).await;
        let last = steps.last().map_or(&Value::Null, |step| &step["dead_letters"]);
        let is_there = sum(&steps, "events") == 1 && sum(&steps, "dead") == 1 && last == &json!(1);
        if is_there { Ok(steps) } else { Err(steps) }
    })
    .await;
    assert!(seen.iter().all(|step| step["span_ms"].as_u64().is_some_and(|span| span > 0)));
    // A far range shows at once what a near one does.
    assert_eq!(sum(&steps(&rt, 10_080).await, "events"), 1);

    rt.server.stop();
    rt.server.start().await;
    let after = steps(&rt, 10).await;
    assert!(after.starts_with(&seen[..1]), "{after:#?}");
    assert_eq!(sum(&after, "events"), 1);
}

#[tokio::test]
async fn a_range_that_is_not_kept_is_refused_by_name() {
    let rt = TestRuntime::start().await;
    for minutes in ["0", "10081"] {
        let path = format!("/api/v1/stats/series?minutes={minutes}");
        let answer = rt.request(Method::GET, &path, None).await;
        assert_eq!(answer.refused(422, "invalid_field")["field"], "minutes");
    }
}
