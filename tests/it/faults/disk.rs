//! The disk fails at each of many calls in turn, or the process dies there.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::posts::{Posts, Told};
use crate::{
    ledger::power::{Disk, Fault, Power},
    support::{Server, TestRuntime, http},
};

/// Within this, publishers are told that it does not go.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_full_disk_refuses_publishers_and_heals_by_itself() {
    fail_and_heal(Fault::Full, 507, "disk_full").await;
}

#[tokio::test]
async fn a_sync_that_fails_acknowledges_nothing_and_heals_by_itself() {
    fail_and_heal(Fault::SyncFails, 503, "unavailable").await;
}

/// The log is on the disk that is full: that nothing can be said is no reason to end.
#[tokio::test]
async fn a_log_that_cannot_be_written_keeps_nothing_closed() {
    let mut server = Server::new("", None);
    server.log_to("/dev/full");
    let power = Power::attach(&mut server, Disk::Honest);
    server.start().await;
    let mut rt = TestRuntime::of(server);
    rt.subscription("all").on("test.fault").add().await;
    let mut posts = Posts::new(TOLD_WITHIN);
    assert!(matches!(posts.post(&rt).await, Told::Accepted(_)));
    power.fault(Fault::Full);
    assert!(matches!(posts.post(&rt).await, Told::Later(507, ..)));
    power.mend(Fault::Full);
    posts.heal(&rt).await;
    rt.crash().await;
    posts.check(&rt, "all").await;
}

/// A backup reads the log for minutes. What a failed sync left in it is written anew under its reader,
/// and a loss of power afterwards loses nothing that was acknowledged.
#[tokio::test]
async fn a_sync_that_fails_beside_a_reader_heals_and_loses_nothing() {
    let (mut rt, power) = start().await;
    let mut posts = Posts::new(TOLD_WITHIN);
    posts.post(&rt).await;
    for _ in 0..3 {
        let reader = rusqlite::Connection::open(rt.server.data().join("tripline.db")).unwrap();
        let count = "BEGIN; SELECT COUNT(*) FROM events";
        reader.execute_batch(count).unwrap();
        posts.post_at_once(&rt, 20).await;
        power.fault(Fault::SyncFails);
        assert!(matches!(posts.post(&rt).await, Told::Later(503, ..)));
        power.mend(Fault::SyncFails);
        posts.heal(&rt).await;
        posts.post_at_once(&rt, 20).await;
        rt.server.kill();
        drop(reader);
        power.cut(&rt.server.data());
        rt.server.start().await;
        posts.check(&rt, "all").await;
    }
}

async fn fail_and_heal(fault: Fault, status: u16, code: &str) {
    let (mut rt, power) = start().await;
    rt.subscription("watch").on("tripline.intake.*").add().await;
    let mut posts = Posts::new(TOLD_WITHIN);
    assert!(matches!(posts.post(&rt).await, Told::Accepted(_)));

    power.fault(fault);
    // Many at once: also those that come between the batch that fails and the end of the intake.
    for told in posts.post_at_once(&rt, 16).await {
        assert!(matches!(told, Told::Later(..)), "{told:?}");
    }
    let Told::Later(got, name, _) = posts.post(&rt).await else { panic!("accepted") };
    assert_eq!((got, name.as_str()), (status, code));
    reads(&rt).await;
    // Whoever asks whether all is well is told.
    let ready = http().get(rt.server.url() + "/readyz").send().await.unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.unwrap().contains("journal"));

    power.mend(fault);
    posts.heal(&rt).await;
    // Whoever watches is told of it as soon as anything can be written again.
    let told = rt.events("tripline.intake.opened", 1).await.remove(0);
    let reason = if code == "disk_full" { "disk_full" } else { "store_failed" };
    assert_eq!(told["data"]["reason"], reason, "{told:#}");
    assert!(told["data"]["closed_at"].as_str() <= told["data"]["opened_at"].as_str());
    // What was acknowledged is there after a crash, once.
    rt.crash().await;
    posts.check(&rt, "all").await;
}

#[tokio::test]
async fn each_sync_may_fail() {
    fail_in_turn(Fault::SyncFails).await;
}

#[tokio::test]
async fn each_write_may_find_no_room() {
    fail_in_turn(Fault::Full).await;
}

/// One call after the other fails: by turns once, or until the disk is mended.
async fn fail_in_turn(fault: Fault) {
    let (mut rt, power) = start().await;
    let mut posts = Posts::new(TOLD_WITHIN);
    let points = points();
    let mut slowest = Duration::ZERO;
    for &nth in &points {
        let failed = power.failed();
        let is_once = nth % 2 == 0;
        power.fault_at(fault, nth, if is_once { 1 } else { u64::MAX });
        while power.failed() == failed {
            posts.post(&rt).await;
        }
        if !is_once {
            posts.post_at_once(&rt, 4).await;
            reads(&rt).await;
        }
        power.mend(fault);
        posts.post(&rt).await;
        slowest = slowest.max(posts.heal(&rt).await);
        if nth % 50 == 0 {
            rt.crash().await;
            posts.check(&rt, "all").await;
        }
    }
    rt.server.kill();
    power.cut(&rt.server.data());
    rt.server.start().await;
    posts.check(&rt, "all").await;
    println!(
        "{fault:?}: {} calls failed one by one, {} acknowledged and none lost, told within {:?}, \
         healed within {slowest:?}",
        points.len(),
        posts.acknowledged(),
        posts.slowest,
    );
}

/// Whoever asks the server to end need not wait for its disk; the next start goes on.
#[tokio::test]
async fn a_server_whose_disk_fails_ends_when_it_is_asked_to() {
    for fault in [Fault::Full, Fault::SyncFails] {
        let (mut rt, power) = start().await;
        let mut posts = Posts::new(TOLD_WITHIN);
        posts.post(&rt).await;
        power.fault(fault);
        assert!(matches!(posts.post(&rt).await, Told::Later(..)));
        rt.server.signal("TERM");
        rt.server.ended().await;
        power.mend(fault);
        rt.server.start().await;
        posts.heal(&rt).await;
        posts.check(&rt, "all").await;
    }
}

/// Which calls are to fail: all up to `TRIPLINE_FAULT_CALLS`, else the first and then every 40th.
fn points() -> Vec<u64> {
    match std::env::var("TRIPLINE_FAULT_CALLS") {
        Ok(text) => (1..=text.parse().expect("a number of calls")).collect(),
        Err(_) => (1..=15).chain([40, 79, 120, 161, 200]).collect(),
    }
}

/// Whoever reads is not troubled, nor is the dashboard.
async fn reads(rt: &TestRuntime) {
    rt.get("/api/v1/events?limit=10").await;
    rt.get("/api/v1/stats").await;
    let dashboard = http().get(rt.server.url() + "/").send().await.unwrap();
    assert!(dashboard.status().is_success(), "{}", dashboard.status());
    // Whoever comes to see what is wrong gets in, and out again.
    let session = rt.server.url() + "/api/v1/session";
    let login = json!({ "token": rt.server.admin_token() });
    let opened = http().post(&session).json(&login).send().await.unwrap();
    assert!(opened.status().is_success(), "{}", opened.status());
    let cookie = opened.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap();
    let asked = |method| {
        let request = http().request(method, &session).header("cookie", cookie);
        request.header("origin", rt.server.url()).send()
    };
    assert_eq!(asked(Method::GET).await.unwrap().status(), 200);
    let ended = asked(Method::DELETE).await.unwrap();
    assert!(ended.status().is_success(), "{}", ended.status());
    assert_eq!(asked(Method::GET).await.unwrap().status(), 401);
}

/// The process dies instead of one call after the other, from the first of a commit to its last;
/// every other time the power goes too, and with it what was not synced.
#[tokio::test]
async fn a_commit_that_dies_at_any_call_is_there_or_it_is_not() {
    const BATCH: usize = 25;
    let (mut rt, power) = start().await;
    let mut deaths = 0;
    for nth in 1.. {
        let batch: Value = (0..BATCH)
            .map(|n| json!({ "type": "test.batch", "specversion": "1.0", "source": format!("/dies/{nth}"), "id": n.to_string(), "data": "x".repeat(500) }))
            .collect();
        power.die_at(nth);
        let path = "/api/v1/events";
        let accepted = rt.send(reqwest::Method::POST, path, Some(&batch)).await;
        let is_accepted = accepted.is_ok_and(|answer| answer.status == 202);
        if is_accepted {
            // It dies at a later commit, if at all; this one must stay.
            rt.server.kill();
        } else {
            rt.server.ended().await;
            deaths += 1;
        }
        if nth % 2 == 0 {
            power.cut(&rt.server.data());
        }
        power.die_at(u64::MAX / 2);
        rt.server.start().await;
        let source = format!("/api/v1/events?source=/dies/{nth}");
        let stored = rt.all(&source).await.len();
        assert!(stored == BATCH || (stored == 0 && !is_accepted), "{stored} of a batch are there");
        rt.post(path, &batch).await;
        assert_eq!(rt.all(&source).await.len(), BATCH);
        if is_accepted {
            break;
        }
    }
    assert!(deaths > 10, "void: a commit of only {deaths} calls");
}

async fn start() -> (TestRuntime, Power) {
    let mut server = Server::new("", None);
    let power = Power::attach(&mut server, Disk::Honest);
    server.start().await;
    let rt = TestRuntime::of(server);
    rt.subscription("all").on("test.fault").add().await;
    (rt, power)
}
