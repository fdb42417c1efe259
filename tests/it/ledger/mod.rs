//! The ledger: whatever was acknowledged is handled to its end, across any crash.
//!
//! Publishers post numbered events and write down what was acknowledged; handlers emit children and
//! sometimes fail; subscriptions are edited, paused, resumed, created and deleted meanwhile; and the
//! whole process tree is killed again and again, stopped for a while, asked to end, and killed while
//! it starts. Then a checker reads everything back over the API and compares it with the ledger:
//! nothing lost, nothing shown twice, nothing stuck.
//!
//! A run in which no kill met unsettled events, waiting retries and a change in flight proves
//! nothing, and fails as void. `TRIPLINE_LEDGER_KILLS` sets the number of kills (20).

mod checker;
mod nemesis;
pub(crate) mod power;
mod publisher;
mod store;
mod workload;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::json;

use self::{nemesis::Met, workload::Workload};
use crate::support::{Api, Database, Server, TestRuntime};

/// Acknowledged events between two kills, at least.
const EVENTS_PER_KILL: usize = 1_000;
const PUBLISHERS: u64 = 4;

/// What the publishers know: the truth that the server is measured against.
#[derive(Default)]
struct Ledger {
    /// Uid by publisher and number, as acknowledged.
    acknowledged: Mutex<BTreeMap<(u64, u64), String>>,
    since_kill: AtomicUsize,
    /// Set: publishers finish the batch in hand, until it is acknowledged, and end.
    closing: AtomicBool,
    /// What went against a promise while it ran.
    complaints: Mutex<Vec<String>>,
}

impl Ledger {
    /// Writes down the uids of the batch that begins at number `first`.
    fn acknowledge(&self, publisher: u64, first: u64, uids: &[String]) {
        let named = (first..).map(|n| (publisher, n)).zip(uids.iter().cloned());
        self.acknowledged.lock().unwrap().extend(named);
        self.since_kill.fetch_add(uids.len(), Ordering::Relaxed);
    }

    fn complain(&self, complaint: String) {
        self.complaints.lock().unwrap().push(complaint);
    }
}

#[tokio::test]
async fn ledger_on_sqlite_survives_kills() {
    survive(Database::Sqlite).await;
}

#[tokio::test]
async fn ledger_on_postgres_survives_kills() {
    if Database::Postgres.available() {
        survive(Database::Postgres).await;
    }
}

async fn survive(database: Database) {
    let kills = kills();
    let url = database.create().await;
    let mut server = Server::new(CONFIG, url.as_deref());
    server.start().await;
    let mut rt = TestRuntime::of(server);
    let workload = Workload::install(&rt).await;
    let ledger = Arc::new(Ledger::default());
    let publishers = start_publishers(&ledger, &rt.api);

    let mut met = Met::default();
    for kill in 1..=kills {
        nemesis::trouble_and_kill(&mut rt, &workload, &ledger, &mut met, kills).await;
        if database == Database::Sqlite && kill % 10 == 0 {
            store::check_integrity(&rt.server.data());
        }
        met.look(&store::left_behind(&rt.server.data(), url.as_deref()).await);
        rt.server.start().await;
        ledger.since_kill.store(0, Ordering::Relaxed);
    }
    finish(&ledger, publishers).await;
    workload.calm(&rt.api).await;
    met.host_crashes = checker::replay_host_crashes(&rt.api).await;

    let findings = checker::check(&rt.api, &workload, &ledger).await;
    assert!(findings.is_empty(), "{}\n{met:?}", findings.join("\n"));
    let acknowledged = ledger.acknowledged.lock().unwrap().len();
    rt.server.stop();
    let (code, said) = rt.server.cli(&["verify"]);
    assert_eq!(code, 0, "the store is not whole: {said}");
    println!("{database:?}: {kills} kills, {acknowledged} acknowledged, nothing lost; {met:?}");
    met.assert_not_void();
    assert!(acknowledged >= kills * EVENTS_PER_KILL, "only {acknowledged} events: void");
}

/// The journal and all defaults as shipped; only the breaker is off, since one subscription dies on
/// purpose all the time, and retries come sooner so that kills meet them.
const CONFIG: &str = "[supervisor.breaker]\ndead_letters = 0\n";

fn kills() -> usize {
    std::env::var("TRIPLINE_LEDGER_KILLS")
        .map_or(20, |text| text.parse().expect("a number of kills"))
}

fn start_publishers(ledger: &Arc<Ledger>, api: &Api) -> Vec<tokio::task::JoinHandle<()>> {
    (0..PUBLISHERS)
        .map(|publisher| {
            tokio::spawn(publisher::publish(publisher, Arc::clone(ledger), api.clone()))
        })
        .collect()
}

async fn finish(ledger: &Ledger, publishers: Vec<tokio::task::JoinHandle<()>>) {
    ledger.closing.store(true, Ordering::Relaxed);
    for publisher in publishers {
        publisher.await.expect("a publisher ends by itself");
    }
    assert!(
        ledger.complaints.lock().unwrap().is_empty(),
        "{:#?}",
        ledger.complaints.lock().unwrap()
    );
}

/// The power goes: what was not synced is gone. With the server's `synchronous=FULL` nothing
/// acknowledged is among it.
#[tokio::test]
async fn ledger_survives_power_loss() {
    let lost = lose_power(power::Disk::Honest).await;
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}

/// The control: on a disk that never got a sync, as under `synchronous=OFF`, the same check must
/// find events lost. If it did not, the test above would prove nothing.
#[tokio::test]
async fn ledger_notices_when_nothing_was_synced() {
    let lost = lose_power(power::Disk::IgnoresSync).await;
    assert!(!lost.is_empty(), "acknowledged events were never synced, and the checker saw no loss");
}

/// Publishes, cuts the power three times, and answers what the checker finds.
async fn lose_power(disk: power::Disk) -> Vec<String> {
    let mut server = Server::new(CONFIG, None);
    let power = power::Power::attach(&mut server, disk);
    server.start().await;
    let mut rt = TestRuntime::of(server);
    Workload::install(&rt).await;
    // Whatever the disk does later, there is a store to come back to.
    power.settle(&mut rt.server).await;
    for round in 0..3 {
        let ledger = Arc::new(Ledger::default());
        let publishers = start_publishers(&ledger, &rt.api);
        nemesis::wait_for(&ledger, EVENTS_PER_KILL).await;
        ledger.closing.store(true, Ordering::Relaxed);
        rt.server.kill();
        for publisher in publishers {
            publisher.abort();
        }
        power.cut(&rt.server.data());
        rt.server.start().await;
        let lost = checker::lost(&rt.api, &ledger).await;
        if !lost.is_empty() || round == 2 {
            return lost;
        }
        rt.publish("ledger.note", json!({ "round": round })).await;
    }
    unreachable!("the last round returns")
}
