//! A disk that fails: nothing is falsely acknowledged, nobody waits, and it heals by itself.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode, header::RETRY_AFTER};
use serde_json::{Value, json};

use crate::{
    ledger::power::{Disk, Fault, Power},
    support::{Server, TestRuntime, http, until},
};

/// Within this, publishers are told that it does not go.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// Within this, the server takes events again once the disk does.
const HEALED_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_full_disk_refuses_publishers_and_heals_by_itself() {
    fail_and_heal(Fault::Full, 507, "disk_full").await;
}

#[tokio::test]
async fn a_sync_that_fails_acknowledges_nothing_and_heals_by_itself() {
    fail_and_heal(Fault::SyncFails, 503, "unavailable").await;
}

async fn fail_and_heal(fault: Fault, status: u16, code: &str) {
    let mut server = Server::new("", None);
    let power = Power::attach(&mut server, Disk::Honest);
    server.start().await;
    let mut rt = TestRuntime::of(server);
    rt.subscription("all").on("test.*").add().await;
    rt.subscription("watch").on("tripline.intake.*").add().await;
    let before = rt.publish("test.before", json!({})).await;
    assert_eq!(rt.delivery("all").await.status, "succeeded");

    power.fault(fault);
    let event = json!({ "type": "test.lost", "source": "/faults", "id": "1", "specversion": "1.0", "data": {} });
    for _ in 0..3 {
        let asked = Instant::now();
        let answer = http()
            .post(rt.server.url() + "/api/v1/events")
            .bearer_auth(rt.server.admin_token())
            .json(&event)
            .send()
            .await
            .unwrap();
        assert!(asked.elapsed() < TOLD_WITHIN, "told after {:?}", asked.elapsed());
        assert_eq!(answer.status(), StatusCode::from_u16(status).unwrap());
        let wait = answer.headers()[RETRY_AFTER].to_str().unwrap().parse::<u32>();
        assert!(wait.is_ok_and(|seconds| seconds > 0));
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], code);
    }
    // Whoever reads is not troubled; whoever asks whether all is well is told.
    assert_eq!(rt.get(&format!("/api/v1/events/{before}")).await["uid"], before);
    let ready = http().get(rt.server.url() + "/readyz").send().await.unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.unwrap().contains("journal"));

    power.mend(fault);
    let healed = until(HEALED_WITHIN, async || {
        let answer = rt.request(Method::POST, "/api/v1/events", Some(&event)).await;
        if answer.status == 202 { Ok(answer.body) } else { Err(answer.body) }
    })
    .await
    .unwrap();
    let uid = healed["ids"][0].as_str().unwrap().to_owned();
    assert_eq!(rt.delivery_of(&uid, "all").await.status, "succeeded");
    // Whoever watches is told of it as soon as anything can be written again.
    let told = rt.events("tripline.intake.opened", 1).await.remove(0);
    let reason = if code == "disk_full" { "disk_full" } else { "store_failed" };
    assert_eq!(told["data"]["reason"], reason, "{told:#}");
    assert!(told["data"]["closed_at"].as_str() <= told["data"]["opened_at"].as_str());
    // What was acknowledged is there after a crash, once.
    rt.crash().await;
    let found = rt.all("/api/v1/events?type=test.lost").await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(rt.all("/api/v1/events?type=test.before").await.len(), 1);
}
