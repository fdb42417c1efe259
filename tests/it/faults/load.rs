//! Publishers that go on whatever happens: at an even pace, each event until it is accepted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use reqwest::header::RETRY_AFTER;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{TestRuntime, http, until};

const PUBLISHERS: u64 = 4;
const BATCH: u64 = 5;
/// Between two batches of a publisher. Well below what an unoptimised build does on a busy machine:
/// what is measured is how soon all of it comes through again, not how much would.
const PACE: Duration = Duration::from_millis(150);
/// No publish takes longer, whatever the store does.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct Load {
    shared: Arc<Shared>,
    publishers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Uid by id, as acknowledged.
    acknowledged: Mutex<BTreeMap<String, String>>,
    count: AtomicUsize,
    refused: AtomicUsize,
    slowest_ms: AtomicU64,
    closing: AtomicBool,
    complaints: Mutex<Vec<String>>,
}

impl Load {
    pub(super) fn start(rt: &TestRuntime) -> Self {
        let shared = Arc::new(Shared::default());
        let (url, token) = (rt.server.url() + "/api/v1/events", rt.server.admin_token());
        let publishers = (0..PUBLISHERS)
            .map(|number| {
                let publisher =
                    Publisher { number, url: url.clone(), token: token.clone(), http: http() };
                tokio::spawn(publisher.publish(Arc::clone(&shared)))
            })
            .collect();
        Self { shared, publishers }
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.shared.count.load(Relaxed)
    }

    pub(super) fn refused(&self) -> usize {
        self.shared.refused.load(Relaxed)
    }

    pub(super) fn slowest(&self) -> Duration {
        Duration::from_millis(self.shared.slowest_ms.load(Relaxed))
    }

    /// Events acknowledged in the next `span`, per second.
    pub(super) async fn rate(&self, span: Duration) -> f64 {
        let (before, started) = (self.acknowledged(), Instant::now());
        tokio::time::sleep(span).await;
        (self.acknowledged() - before) as f64 / started.elapsed().as_secs_f64()
    }

    /// How long it takes until the rate is `share` of `full` again, at most `within`.
    pub(super) async fn recover(&self, full: f64, share: f64, within: Duration) -> Duration {
        const WINDOW: Duration = Duration::from_secs(1);
        let started = Instant::now();
        loop {
            let rate = self.rate(WINDOW).await;
            if rate >= full * share {
                return started.elapsed().saturating_sub(WINDOW);
            }
            let limit = within + WINDOW;
            assert!(started.elapsed() < limit, "{rate} events/s, {full} before the fault");
        }
    }

    /// Waits until something was acknowledged after this call.
    pub(super) async fn go_on(&self) {
        self.go_on_within(super::posts::HEALED_WITHIN).await;
    }

    pub(super) async fn go_on_within(&self, limit: Duration) {
        let before = self.acknowledged();
        let moved =
            until(limit, async || if self.acknowledged() > before { Ok(()) } else { Err(()) });
        moved.await.unwrap_or_else(|()| panic!("no events are taken again within {limit:?}"));
    }

    /// Ends the publishers, each with what it has in hand accepted, and compares with what is
    /// stored: all of it once, delivered to `subscription` and to nobody else.
    pub(super) async fn finish(self, rt: &TestRuntime, subscription: &str) {
        self.shared.closing.store(true, Relaxed);
        for publisher in self.publishers {
            publisher.await.unwrap();
        }
        let complaints = self.shared.complaints.lock().unwrap().clone();
        assert!(complaints.is_empty(), "{complaints:#?}");
        let id = rt.id_of(subscription);
        let events = until(crate::support::PATIENCE * 4, async || {
            let events = rt.all("/api/v1/events?type=test.load&data=false").await;
            let is_open = |event: &&Value| {
                let deliveries = event["deliveries"].as_array().unwrap();
                deliveries.len() != 1
                    || deliveries[0]["subscription_id"] != id
                    || deliveries[0]["status"] != "succeeded"
            };
            events.iter().find(is_open).cloned().map_or(Ok(events), Err)
        })
        .await
        .unwrap_or_else(|open| panic!("not delivered as it has to be: {open:#}"));
        let stored: Vec<(String, String)> = events
            .iter()
            .map(|event| {
                (format!("{}/{}", text(&event["source"]), text(&event["id"])), text(&event["uid"]))
            })
            .collect();
        let by_id: BTreeMap<String, String> = stored.iter().cloned().collect();
        assert_eq!(by_id.len(), stored.len(), "events are stored twice");
        assert_eq!(by_id, *self.shared.acknowledged.lock().unwrap());
        assert!(rt.all("/api/v1/dead-letters").await.is_empty());
    }
}

struct Publisher {
    number: u64,
    url: String,
    token: String,
    http: reqwest::Client,
}

impl Publisher {
    async fn publish(self, shared: Arc<Shared>) {
        let mut first = 0;
        while !shared.closing.load(Relaxed) {
            let started = Instant::now();
            let Some(uids) = self.until_accepted(first, &shared).await else { return };
            let source = self.source();
            let named = (first..).map(|n| format!("{source}/{n}")).zip(uids);
            shared.acknowledged.lock().unwrap().extend(named);
            shared.count.fetch_add(BATCH as usize, Relaxed);
            first += BATCH;
            tokio::time::sleep(PACE.saturating_sub(started.elapsed())).await;
        }
    }

    /// `None`: something went against a promise, and is written down.
    async fn until_accepted(&self, first: u64, shared: &Shared) -> Option<Vec<String>> {
        loop {
            match self.post(first, shared).await {
                Ok(Some(uids)) => return Some(uids),
                Ok(None) => tokio::time::sleep(PACE).await,
                Err(complaint) => {
                    shared.complaints.lock().unwrap().push(complaint);
                    return None;
                }
            }
        }
    }

    /// `Ok(None)`: refused as it has to be, to be posted again.
    async fn post(&self, first: u64, shared: &Shared) -> Result<Option<Vec<String>>, String> {
        let source = self.source();
        let batch: Value = (first..first + BATCH)
            .map(|n| json!({ "specversion": "1.0", "type": "test.load", "source": source, "id": n.to_string(), "data": { "n": n } }))
            .collect();
        let asked = Instant::now();
        let post = self.http.post(&self.url).bearer_auth(&self.token).json(&batch);
        let answer = post.send().await.map_err(|error| format!("{first}: {error}"))?;
        let (status, wait) = (answer.status().as_u16(), answer.headers().get(RETRY_AFTER).cloned());
        let body: Value = answer.json().await.map_err(|error| format!("{first}: {error}"))?;
        let took = asked.elapsed();
        shared.slowest_ms.fetch_max(took.as_millis() as u64, Relaxed);
        if took > TOLD_WITHIN {
            return Err(format!("{first}: told {status} after {took:?}"));
        }
        match (status, wait) {
            (202, _) => Ok(Some(body["ids"].as_array().unwrap().iter().map(text).collect())),
            // Until the journal knows that its store fails, others only see that it is slow.
            (429 | 503, Some(_)) => {
                shared.refused.fetch_add(1, Relaxed);
                Ok(None)
            }
            _ => Err(format!("{first}: {status} {body}")),
        }
    }

    fn source(&self) -> String {
        format!("/load/{}", self.number)
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
