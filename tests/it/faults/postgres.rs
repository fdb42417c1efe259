//! PostgreSQL restarts, drops its sessions and stands still, under load.
//!
//! `TRIPLINE_FAULT_RESTARTS` and `TRIPLINE_FAULT_SESSIONS` are the numbers of restarts and of times
//! that all sessions are dropped, `TRIPLINE_FAULT_STOP_S` how long the server stands still.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::RngExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    load::Load,
    posts::{Posts, Told},
};
use crate::support::{Cluster, Loss, PATIENCE, Proxy, Server, TestRuntime, http, until};

/// So much of the rate has to come back, and so soon: at full length, which has its machine alone.
const SHARE: f64 = 0.9;
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// The same in CI, where others may take the machine just then.
const SHARE_SHORT: f64 = 0.5;

#[tokio::test]
async fn a_database_that_restarts_loses_nothing() {
    let Some((cluster, rt)) = start().await else { return };
    let load = Load::start(&rt);
    load.go_on().await;
    let restarts = number("TRIPLINE_FAULT_RESTARTS", 3);
    let mut slowest = Duration::ZERO;
    for _ in 0..restarts {
        let full = load.rate(Duration::from_secs(1)).await;
        let server = Arc::clone(&cluster);
        tokio::task::spawn_blocking(move || server.restart_at_once()).await.unwrap();
        slowest = slowest.max(back(&load, full).await);
    }
    assert!(load.refused() > 0, "void: nobody noticed");
    println!("{restarts} restarts, back within {slowest:?}, {}", figures(&load));
    load.finish(&rt, "all").await;
}

#[tokio::test]
async fn a_database_that_drops_its_sessions_loses_nothing() {
    let Some((cluster, rt)) = start().await else { return };
    let load = Load::start(&rt);
    load.go_on().await;
    let times = number("TRIPLINE_FAULT_SESSIONS", 8);
    let mut slowest = Duration::ZERO;
    for _ in 0..times {
        let full = load.rate(Duration::from_secs(1)).await;
        let pause = rand::rng().random_range(0..300);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        cluster.end_sessions().await;
        slowest = slowest.max(back(&load, full).await);
    }
    println!("sessions dropped {times} times, back within {slowest:?}, {}", figures(&load));
    load.finish(&rt, "all").await;
}

#[tokio::test]
async fn a_database_that_stands_still_holds_nobody_up() {
    let Some((cluster, rt)) = start().await else { return };
    let load = Load::start(&rt);
    load.go_on().await;
    cluster.signal("STOP");
    let span = number("TRIPLINE_FAULT_STOP_S", 6);
    tokio::time::sleep(Duration::from_secs(span)).await;
    cluster.signal("CONT");
    load.go_on().await;
    assert!(load.refused() > 0, "void: nobody noticed");
    println!("stood still for {span} s, {}", figures(&load));
    load.finish(&rt, "all").await;
}

/// The database dies, and all are led to its standby: which only reads for a while, and then takes its
/// place. It had every commit before that was answered.
#[tokio::test]
async fn a_failover_to_a_standby_loses_nothing() {
    let Some(cluster) = Cluster::start() else { return };
    let standby = cluster.standby().await;
    let proxy = Proxy::to(cluster.port()).await;
    let rt = serve(&cluster.url_through(proxy.port())).await;
    let load = Load::start(&rt);
    load.go_on().await;
    let full = load.rate(Duration::from_secs(1)).await;
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.stop_at_once();
        cluster
    });
    let _gone = cluster.await.unwrap();
    proxy.lead_to(standby.port());
    let refused = load.refused();
    until(PATIENCE, async || {
        let now = load.refused();
        if now > refused { Ok(()) } else { Err(now) }
    })
    .await
    .expect("publishers are told that nothing can be written");
    reads_answer(&rt, PATIENCE).await;
    let standby = tokio::task::spawn_blocking(move || {
        standby.promote();
        standby
    });
    let _standby = standby.await.unwrap();
    println!("failed over, back within {:?}, {}", back(&load, full).await, figures(&load));
    load.finish(&rt, "all").await;
}

/// A replay with the version of then, whose script cannot be read just now, waits; that is no failure of the
/// script.
#[tokio::test]
async fn a_replay_waits_for_the_version_that_it_wants() {
    let Some(cluster) = Cluster::start() else { return };
    let rt = serve(&cluster.url()).await;
    let then = "export default (item, context) => {
        if (!context.replayed) throw new Error('not yet');
        return 'then';
    }";
    rt.subscription("late")
        .on("test.late")
        .script(then)
        .attempts(1, 0)
        .with("limits", json!({ "rate_limit": { "runs": 1, "per": "4s" } }))
        .add()
        .await;
    let event = rt.publish("test.late", json!({})).await;
    let letter = rt.dead_letter("late").await;
    let subscription = rt.get(&format!("/api/v1/subscriptions/{}", rt.id_of("late"))).await;
    let script = subscription["script_id"].as_str().unwrap();
    rt.patch(
        &format!("/api/v1/scripts/{script}"),
        &json!({ "source": "export default () => 'now'" }),
    )
    .await;
    // Held back by the rate, it asks for its program when the database is away.
    rt.publish("test.late", json!({})).await;
    rt.delivery("late").await.returned(&json!("now"));
    let replay = json!({ "script_version": "original" });
    rt.post(&format!("/api/v1/dead-letters/{}/replay", letter.id()), &replay).await;
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.stop_at_once();
        cluster
    });
    let cluster = cluster.await.unwrap();
    until(PATIENCE, async || {
        let log = rt.server.log();
        if log.contains("the script cannot be read yet") { Ok(()) } else { Err(log) }
    })
    .await
    .expect("it asks for the version of then");
    let again = tokio::task::spawn_blocking(move || {
        cluster.start_again();
        cluster
    });
    let _cluster = again.await.unwrap();
    reads_answer(&rt, PATIENCE).await;
    let done = rt.delivery_of(&event, "late").await.succeeded();
    let results: Vec<&Value> = done.runs.iter().map(|run| &run["result"]).collect();
    assert_eq!(results, [&json!("then"), &Value::Null], "{:#?}", done.runs);
}

/// Whoever reads is told as well, and not only that something failed.
#[tokio::test]
async fn a_database_that_is_away_is_said_to_be() {
    let Some((cluster, rt)) = start().await else { return };
    let load = Load::start(&rt);
    load.go_on().await;
    let server = Arc::clone(&cluster);
    tokio::task::spawn_blocking(move || server.stop_at_once()).await.unwrap();
    for path in ["/api/v1/events", "/api/v1/dead-letters", "/api/v1/subscriptions"] {
        let asked = Instant::now();
        let answer = rt.request(Method::GET, path, None).await;
        assert!(asked.elapsed() < Duration::from_secs(5), "{path}: {:?}", asked.elapsed());
        answer.refused(503, "unavailable");
    }
    // What needs no database is there.
    for (path, status) in [("/", 200), ("/healthz", 200), ("/readyz", 503)] {
        let answer = http().get(rt.server.url() + path).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
    let server = Arc::clone(&cluster);
    tokio::task::spawn_blocking(move || server.start_again()).await.unwrap();
    load.go_on().await;
    rt.get("/api/v1/events").await;
    load.finish(&rt, "all").await;
}

/// The network is cut: all connections look alive on both sides, and nothing comes any more. Those
/// are given up, and so is the server's session that holds the store's lock.
#[tokio::test]
async fn connections_that_fall_silent_are_given_up() {
    const GIVEN_UP_WITHIN: Duration = Duration::from_secs(60);
    let Some(cluster) = Cluster::start() else { return };
    let proxy = Proxy::to(cluster.port()).await;
    let rt = serve(&cluster.url_through(proxy.port())).await;
    let load = Load::start(&rt);
    load.go_on().await;
    proxy.cut();
    load.go_on_within(GIVEN_UP_WITHIN).await;
    assert!(load.refused() > 0, "void: nobody noticed");
    println!("cut off, {}", figures(&load));
    reads_answer(&rt, GIVEN_UP_WITHIN).await;
    load.finish(&rt, "all").await;
}

/// A commit is lost with its connection, and then the one that asks whether the store is well: that
/// one is there, and its answer never came.
#[tokio::test]
async fn connections_that_are_lost_at_two_commits_in_a_row_close_nothing_for_good() {
    let Some(cluster) = Cluster::start() else { return };
    let proxy = Proxy::to(cluster.port()).await;
    let mut rt = serve(&cluster.url_through(proxy.port())).await;
    rt.subscription("faults").on("test.fault").add().await;
    let mut posts = Posts::new(PATIENCE);
    assert!(matches!(posts.post(&rt).await, Told::Accepted(_)));
    for losses in [[Loss::Before, Loss::After], [Loss::After, Loss::After], [Loss::Before; 2]] {
        proxy.lose(&losses);
        let mut told = posts.post(&rt).await;
        while !proxy.has_lost_all() {
            told = posts.post(&rt).await;
        }
        println!("{told:?}");
        posts.heal(&rt).await;
    }
    rt.crash().await;
    posts.check(&rt, "faults").await;
}

/// The answer to a replay's COMMIT is lost: the replay is there, and runs without a restart.
#[tokio::test]
async fn a_replay_whose_answer_is_lost_runs() {
    let Some(cluster) = Cluster::start() else { return };
    let proxy = Proxy::to(cluster.port()).await;
    let rt = serve(&cluster.url_through(proxy.port())).await;
    let second = "export default (_, c) => { if (!c.replayed) throw new sdk.PermanentError('no') }";
    rt.subscription("dies").on("test.dies").script(second).add().await;
    rt.publish("test.dies", serde_json::json!({})).await;
    let id = rt.dead_letter("dies").await.id().to_owned();
    let path = format!("/api/v1/dead-letters/{id}");
    proxy.lose(&[Loss::After]);
    let body = serde_json::json!({});
    let told = rt.request(Method::POST, &format!("{path}/replay"), Some(&body)).await;
    assert!(proxy.has_lost_all() && told.status == 503, "{told:?}");
    until(PATIENCE, async || {
        let letter = rt.get(&path).await;
        if letter["status"] == "replayed" { Ok(()) } else { Err(letter) }
    })
    .await
    .unwrap_or_else(|letter| panic!("not replayed: {letter:#}"));
}

/// Each connection that readers share is found out by the one who asks on it, with a 503.
async fn reads_answer(rt: &TestRuntime, within: Duration) {
    // More than there are connections; they take turns.
    const IN_A_ROW: usize = 24;
    until(within, async || {
        for _ in 0..IN_A_ROW {
            let answer = rt.request(Method::GET, "/api/v1/events?limit=1", None).await;
            if answer.status != 200 {
                return Err(answer);
            }
        }
        Ok(())
    })
    .await
    .unwrap_or_else(|last| panic!("reads still fail after {within:?}: {last:?}"));
}

/// How long the load takes until it is what it was before, `full` events per second.
async fn back(load: &Load, full: f64) -> Duration {
    let is_full_length = std::env::var_os("TRIPLINE_FAULT_RESTARTS").is_some();
    let (share, within) =
        if is_full_length { (SHARE, BACK_WITHIN) } else { (SHARE_SHORT, PATIENCE) };
    load.recover(full, share, within).await
}

fn figures(load: &Load) -> String {
    format!(
        "{} acknowledged, {} refused meanwhile, the slowest answer after {:?}",
        load.acknowledged(),
        load.refused(),
        load.slowest()
    )
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

async fn start() -> Option<(Arc<Cluster>, TestRuntime)> {
    let cluster = Arc::new(Cluster::start()?);
    let rt = serve(&cluster.url()).await;
    Some((cluster, rt))
}

async fn serve(url: &str) -> TestRuntime {
    let mut server = Server::new("", Some(url));
    server.start().await;
    let rt = TestRuntime::of(server);
    rt.subscription("all").on("test.load").add().await;
    rt
}
