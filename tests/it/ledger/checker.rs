//! Compares the ledger with what the server shows, event by event.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Ledger,
    publisher::{Item, source},
    workload::Workload,
};
use crate::support::{Api, PATIENCE, until};

/// Between two looks at whether anything waits.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// Enough to see the pattern.
const FINDINGS_MAX: usize = 30;

/// Acknowledged events that the server does not know.
pub(super) async fn lost(api: &Api, ledger: &Ledger) -> Vec<String> {
    let mut known = BTreeSet::new();
    let path = "/api/v1/events?deliveries=false&data=false";
    api.each(path, |event| _ = known.insert(uid(&event))).await;
    let acknowledged = ledger.acknowledged.lock().unwrap();
    let lost = acknowledged.iter().filter(|(_, uid)| !known.contains(*uid));
    lost.map(|((publisher, n), uid)| {
        format!("{publisher}/{n} ({uid}) was acknowledged and is lost")
    })
    .take(FINDINGS_MAX)
    .collect()
}

/// Everything that is not as promised, in words; empty when all is well.
pub(super) async fn check(api: &Api, workload: &Workload, ledger: &Ledger) -> Vec<String> {
    let acknowledged = ledger.acknowledged.lock().unwrap().clone();
    let mut items = BTreeMap::<&str, Item>::new();
    for ((publisher, n), uid) in &acknowledged {
        items.insert(uid, Item { publisher: *publisher, n: *n });
    }
    let events = match drained(api, &items, workload).await {
        Ok(events) => events,
        Err(findings) => return findings,
    };
    let mut findings = lost(api, ledger).await;
    findings.extend(strangers(&events, &items));
    drop(events);
    match looked_into(api, &items, workload).await {
        Ok(found) => findings.extend(found),
        Err(stuck) => findings.push(stuck),
    }
    findings.extend(letters(api, &items, workload).await);
    findings.truncate(FINDINGS_MAX);
    findings
}

/// Kills from outside may meet one delivery twice while it runs alone: it is then taken for what
/// killed the process, and dead. An operator knows better, and replays those; how many it were.
pub(super) async fn replay_host_crashes(api: &Api) -> usize {
    if let Err(stats) = rest(api).await {
        let events = api.all("/api/v1/events?data=false").await;
        let open: Vec<_> = events.iter().filter(|event| !is_over(event)).take(5).collect();
        panic!("stuck before the check: {open:#?}\nof {stats}");
    }
    let crashed = api.all("/api/v1/dead-letters?error_kind=host_crash").await.len();
    if crashed > 0 {
        let all = json!({ "error_kind": "host_crash" });
        let operation = api.post("/api/v1/dead-letters/replay", &all).await;
        let path = format!("/api/v1/bulk/{}", text(&operation["id"]));
        let taken = until(PATIENCE, async || {
            let now = api.get(&path).await;
            if now["state"] == "done" { Ok(()) } else { Err(now) }
        });
        taken.await.unwrap_or_else(|now| panic!("letters that are not replayed: {now}"));
    }
    crashed
}

/// Returns once nothing waits any more; or, where nothing has moved for [`PATIENCE`], what still does.
/// How long it takes in all follows the number of kills and the machine.
async fn rest(api: &Api) -> Result<(), Value> {
    let mut seen = (Value::Null, Instant::now());
    loop {
        let Err(stats) = idle(&api.get("/api/v1/stats").await) else { return Ok(()) };
        let moves = json!([stats["events"]["backlog"], stats["deliveries"]]);
        if seen.0 != moves {
            seen = (moves, Instant::now());
        } else if seen.1.elapsed() > PATIENCE {
            return Err(stats);
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

fn idle(stats: &Value) -> Result<(), Value> {
    let waits = ["/events/backlog", "/deliveries/in_hand", "/deliveries/waiting"];
    if waits.iter().all(|number| stats.pointer(number) == Some(&json!(0))) {
        Ok(())
    } else {
        Err(stats.clone())
    }
}

/// All events, once nothing waits any more and each has the children that it must have; or what
/// is still missing, or is too much, when the server has had its time.
async fn drained(
    api: &Api,
    items: &BTreeMap<&str, Item>,
    workload: &Workload,
) -> Result<Vec<Value>, Vec<String>> {
    until(PATIENCE, async || {
        // A cheap look first, so that the drain is not held up by ours.
        if let Err(stats) = rest(api).await {
            return Err(vec![format!("stuck after the drain: {stats}")]);
        }
        let events = api.all("/api/v1/events?deliveries=false").await;
        let mut findings = emits(&events, items, workload);
        findings.truncate(FINDINGS_MAX);
        if findings.is_empty() { Ok(events) } else { Err(findings) }
    })
    .await
}

/// What is wrong with the deliveries of all events, once each of those has ended.
async fn looked_into(
    api: &Api,
    items: &BTreeMap<&str, Item>,
    workload: &Workload,
) -> Result<Vec<String>, String> {
    until(PATIENCE, async || {
        let (mut open, mut findings) = (None, Vec::new());
        api.each("/api/v1/events?data=false", |event| {
            if !is_over(&event) {
                open = Some(format!("stuck after the drain: {event}"));
            }
            findings.extend(deliveries(&event, items, workload));
        })
        .await;
        open.map_or(Ok(findings), Err)
    })
    .await
}

fn is_over(event: &Value) -> bool {
    let ended =
        |one: &Value| ["succeeded", "dead", "discarded"].iter().any(|end| one["status"] == *end);
    event["deliveries"].as_array().expect("an event has deliveries").iter().all(ended)
}

/// Each number of each publisher is stored once, and nothing that was never acknowledged.
fn strangers(events: &[Value], items: &BTreeMap<&str, Item>) -> Vec<String> {
    let published = events.iter().filter(|event| event["type"] == "ledger.item");
    published
        .filter_map(|event| {
            let uid = event["uid"].as_str().unwrap();
            match items.get(uid) {
                None => Some(format!(
                    "{uid} is stored, though its acknowledgement names another: {event}"
                )),
                Some(item)
                    if event["source"] != source(item.publisher) || event["id"].as_str() != Some(&item.n.to_string()) =>
                {
                    Some(format!("{uid}, acknowledged to publisher {} for {}, is stored under another name: {event}", item.publisher, item.n))
                }
                Some(_) => None,
            }
        })
        .collect()
}

/// Children are a function of their parent: none lost, none shown twice, none of a failed attempt.
fn emits(events: &[Value], items: &BTreeMap<&str, Item>, workload: &Workload) -> Vec<String> {
    let mut children = BTreeMap::<(String, String), Vec<(u64, String)>>::new();
    for event in events.iter().filter(|event| !event["cause"].is_null()) {
        let cause = &event["cause"];
        let key = (text(&cause["event_id"]), text(&cause["subscription_id"]));
        children
            .entry(key)
            .or_default()
            .push((event["data"]["ordinal"].as_u64().unwrap_or(u64::MAX), text(&event["uid"])));
    }
    let mut findings = Vec::new();
    let mut expect = |uid: &str, subscription: &str, expected: Vec<u64>| {
        let mut found =
            children.remove(&(uid.to_owned(), subscription.to_owned())).unwrap_or_default();
        found.sort_unstable();
        if !found.iter().map(|(ordinal, _)| ordinal).eq(&expected) {
            findings.push(format!("{uid} has the children {found:?}, expected {expected:?}"));
        }
    };
    for (uid, item) in items {
        expect(uid, &workload.parent, (0..item.children()).collect());
    }
    for event in events.iter().filter(|event| event["type"] == "ledger.child") {
        let expected = if event["data"]["ordinal"] == 0 { vec![0] } else { Vec::new() };
        expect(event["uid"].as_str().unwrap(), &workload.child, expected);
    }
    findings.extend(children.iter().map(|(cause, found)| format!("{cause:?} emitted {found:?}")));
    findings
}

/// One end for each subscription that matched, and the right one.
fn deliveries(event: &Value, items: &BTreeMap<&str, Item>, workload: &Workload) -> Vec<String> {
    let uid = event["uid"].as_str().unwrap();
    let mut ends = BTreeMap::<&str, &str>::new();
    let mut findings = Vec::new();
    for one in event["deliveries"].as_array().unwrap() {
        let subscription = one["subscription_id"].as_str().unwrap();
        if ends.insert(subscription, one["status"].as_str().unwrap()).is_some() {
            findings.push(format!("{uid} was delivered to {subscription} twice"));
        }
    }
    let mut expect = |subscription: &str, expected: Option<&str>| {
        let found = ends.get(subscription).copied();
        if found != expected {
            findings.push(format!("{uid} at {subscription} is {found:?}, expected {expected:?}",));
        }
    };
    match (items.get(uid), event["type"].as_str().unwrap()) {
        (Some(item), _) => {
            for always in [&workload.keep, &workload.parent, &workload.edited] {
                expect(always, Some("succeeded"));
            }
            for slow in [&workload.waits, &workload.paused] {
                expect(slow, item.is_slow().then_some("succeeded"));
            }
            expect(&workload.doomed, item.dies().then_some("dead"));
        }
        (None, "ledger.child") => expect(&workload.child, Some("succeeded")),
        (None, "ledger.grandchild") => expect(&workload.last, Some("succeeded")),
        (None, _) => {}
    }
    findings
}

/// One letter for each delivery that had to die, and no other: a crash of the process is nobody's
/// fault.
async fn letters(api: &Api, items: &BTreeMap<&str, Item>, workload: &Workload) -> Vec<String> {
    let mut letters = api.all("/api/v1/dead-letters").await;
    letters.retain(|letter| letter["error_kind"] != "host_crash" || letter["status"] != "replayed");
    let mut expected: BTreeSet<&str> =
        items.iter().filter(|(_, item)| item.dies()).map(|(uid, _)| *uid).collect();
    let mut findings = Vec::new();
    for letter in &letters {
        let event = letter["event"]["uid"].as_str().unwrap_or_default();
        let right =
            letter["error_kind"] == "exception" && letter["subscription_id"] == *workload.doomed;
        if !right || !expected.remove(event) {
            findings.push(format!("a letter that should not be, or twice: {letter}"));
        }
    }
    findings.extend(expected.iter().map(|uid| format!("{uid} died without a letter")));
    findings
}

fn uid(event: &Value) -> String {
    text(&event["uid"])
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
