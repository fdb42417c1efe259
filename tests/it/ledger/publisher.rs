//! A publisher: numbered events in batches, each posted until it is acknowledged, some twice.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};

use super::{EVENTS_PER_KILL, Ledger};
use crate::support::Api;

/// Between two tries while the server is away.
const AWAY: Duration = Duration::from_millis(20);
const BATCH: u64 = 25;

/// Posts until the ledger closes. The batch in hand is posted until it is acknowledged, so at the
/// end the ledger knows the fate of everything that was ever sent.
pub(super) async fn publish(publisher: u64, ledger: Arc<Ledger>, api: Api) {
    let mut first = 1;
    while !ledger.closing.load(Ordering::Relaxed) {
        // More than the kill waits for would only make the drain longer.
        if ledger.since_kill.load(Ordering::Relaxed) > 2 * EVENTS_PER_KILL {
            tokio::time::sleep(AWAY).await;
            continue;
        }
        let Some(uids) = post(&api, &ledger, publisher, first).await else { return };
        ledger.acknowledge(publisher, first, &uids);
        if first % (10 * BATCH) == 1 {
            let again = post(&api, &ledger, publisher, first).await;
            if again.is_some_and(|again| again != uids) {
                ledger.complain(format!("a re-post of {publisher}/{first} was given other uids"));
            }
        }
        first += BATCH;
    }
}

/// The uids of the batch that begins at `first`, however often it takes. `None`: it was refused.
async fn post(api: &Api, ledger: &Ledger, publisher: u64, first: u64) -> Option<Vec<String>> {
    let batch: Value = (first..first + BATCH).map(|n| item(publisher, n)).collect();
    loop {
        match api.send(Method::POST, "/api/v1/events", Some(&batch)).await {
            Ok(answer) if answer.status == 202 => {
                let ids = answer.body["ids"].as_array().expect("an acknowledgement has ids");
                return Some(ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect());
            }
            Ok(answer) if [429, 503].contains(&answer.status.as_u16()) => {}
            Ok(answer) => {
                ledger.complain(format!("publish: {} {}", answer.status, answer.body));
                return None;
            }
            // Killed under way: whether it was taken shows when the same ids are posted again.
            Err(_) => {}
        }
        tokio::time::sleep(AWAY).await;
    }
}

fn item(publisher: u64, n: u64) -> Value {
    json!({
        "specversion": "1.0",
        "type": "ledger.item",
        "source": source(publisher),
        "id": n.to_string(),
        "data": Item { publisher, n }.data(),
    })
}

pub(super) fn source(publisher: u64) -> String {
    format!("/ledger/{publisher}")
}

/// What is to become of an event follows from its number alone.
#[derive(Clone, Copy)]
pub(super) struct Item {
    pub(super) publisher: u64,
    pub(super) n: u64,
}

impl Item {
    /// Events that `parent` emits for it.
    pub(super) const fn children(self) -> u64 {
        self.n % 3
    }

    /// Its first attempt at `parent` throws, after it emitted.
    pub(super) const fn fails_once(self) -> bool {
        self.n.is_multiple_of(20)
    }

    /// All its attempts at `doomed` throw.
    pub(super) const fn dies(self) -> bool {
        self.n % 100 == 7
    }

    /// Its handlers at `waits` and `paused` take their time.
    pub(super) const fn is_slow(self) -> bool {
        self.n % 50 == 3
    }

    fn data(self) -> Value {
        json!({
            "publisher": self.publisher,
            "n": self.n,
            "children": self.children(),
            "fails_once": self.fails_once(),
            "dies": self.dies(),
            "slow": self.is_slow(),
        })
    }
}
