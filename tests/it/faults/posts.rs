//! Publishers under faults: events with known ids, and what became of each.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use reqwest::{StatusCode, header::RETRY_AFTER};
use serde_json::{Value, json};

use crate::support::{TestRuntime, http, until};

/// Within this, the server takes events again once it can.
pub(super) const HEALED_WITHIN: Duration = Duration::from_secs(10);

/// What was posted, and what was acknowledged.
pub(super) struct Posts {
    http: reqwest::Client,
    /// Uid by id.
    acknowledged: BTreeMap<u64, String>,
    next: u64,
    /// A publisher is told so soon that it does not go.
    told_within: Duration,
    /// The longest that one had to wait for that.
    pub(super) slowest: Duration,
}

/// What a publisher was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Accepted(String),
    /// Status, code, and the seconds after which it may come again.
    Later(u16, String, u32),
}

impl Posts {
    pub(super) fn new(told_within: Duration) -> Self {
        Self {
            http: http(),
            acknowledged: BTreeMap::new(),
            next: 0,
            told_within,
            slowest: Duration::ZERO,
        }
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Posts one more event.
    pub(super) async fn post(&mut self, rt: &TestRuntime) -> Told {
        self.post_at_once(rt, 1).await.remove(0)
    }

    /// Posts so many more, all at the same time.
    pub(super) async fn post_at_once(&mut self, rt: &TestRuntime, count: u64) -> Vec<Told> {
        let first = self.next;
        self.next += count;
        self.post_again(rt, first..first + count).await
    }

    /// Posts, until it is accepted, what was posted last, and answers how long it took.
    pub(super) async fn heal(&mut self, rt: &TestRuntime) -> Duration {
        let (started, last) = (Instant::now(), self.next - 1);
        let healed = until(HEALED_WITHIN, async || {
            match self.post_again(rt, last..last + 1).await.remove(0) {
                Told::Accepted(_) => Ok(()),
                later => Err(later),
            }
        });
        healed.await.unwrap_or_else(|last| panic!("{last:?}\n{}", rt.server.log()));
        started.elapsed()
    }

    async fn post_again(&mut self, rt: &TestRuntime, ids: std::ops::Range<u64>) -> Vec<Told> {
        let posts = ids.clone().map(|id| tell(&self.http, rt, id));
        let told = futures::future::join_all(posts).await;
        for (id, (told, took)) in ids.zip(&told) {
            let Told::Accepted(uid) = told else {
                assert!(*took < self.told_within, "{id} was told {told:?} after {took:?}");
                self.slowest = self.slowest.max(*took);
                continue;
            };
            let before = self.acknowledged.insert(id, uid.clone());
            assert!(before.is_none_or(|before| before == *uid), "{id} was given another uid");
        }
        told.into_iter().map(|(told, _)| told).collect()
    }

    /// All that was acknowledged is there, once, under the uid it was given, and delivered to
    /// `subscription`; whatever else is there was posted.
    pub(super) async fn check(&self, rt: &TestRuntime, subscription: &str) {
        let subscription = rt.id_of(subscription);
        let found = until(crate::support::PATIENCE * 2, async || {
            let events = rt.all("/api/v1/events?type=test.fault&data=false").await;
            let open = events.iter().find(|event| !succeeded(event, &subscription)).cloned();
            open.map_or(Ok(events), Err)
        })
        .await
        .unwrap_or_else(|open| panic!("not delivered as it has to be: {open:#}"));
        let mut stored = BTreeMap::<u64, String>::new();
        for event in found {
            let id = event["id"].as_str().unwrap().parse().unwrap();
            let uid = event["uid"].as_str().unwrap().to_owned();
            assert!(stored.insert(id, uid).is_none(), "{id} is stored twice");
        }
        for (id, uid) in &self.acknowledged {
            assert_eq!(stored.get(id), Some(uid), "{id} was acknowledged and is lost");
        }
        assert!(stored.keys().all(|id| *id < self.next));
    }
}

fn succeeded(event: &Value, subscription: &str) -> bool {
    let deliveries = event["deliveries"].as_array().unwrap();
    deliveries.len() == 1
        && deliveries[0]["subscription_id"] == subscription
        && deliveries[0]["status"] == "succeeded"
}

async fn tell(http: &reqwest::Client, rt: &TestRuntime, id: u64) -> (Told, Duration) {
    let event = json!({ "specversion": "1.0", "type": "test.fault", "source": "/faults", "id": id.to_string(), "data": { "n": id } });
    let asked = Instant::now();
    let post = http.post(rt.server.url() + "/api/v1/events").bearer_auth(rt.server.admin_token());
    let answer = post.json(&event).send().await.unwrap();
    let took = asked.elapsed();
    let (status, wait) = (answer.status(), answer.headers().get(RETRY_AFTER).cloned());
    let body: Value = answer.json().await.unwrap();
    if status == StatusCode::ACCEPTED {
        return (Told::Accepted(body["ids"][0].as_str().unwrap().to_owned()), took);
    }
    // Until the journal knows that its store fails, others only see that it is slow: 429.
    assert!([429, 503, 507].contains(&status.as_u16()), "{status}: {body}");
    let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok()).unwrap_or(0);
    assert!(wait > 0, "no Retry-After with {status}: {body}");
    (Told::Later(status.as_u16(), body["code"].as_str().unwrap().to_owned(), wait), took)
}
