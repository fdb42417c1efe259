//! Spans on their way out: a bounded queue and a thread that posts what is in it.
//!
//! Whoever records a span never waits: what does not fit is dropped and counted.

use std::time::Duration;

use metrics::Counter;
use reqwest::{
    Client, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout_at},
};
use tracing::warn;

use super::{Span, otlp};
use crate::config::Telemetry;

/// Spans that wait; about 8 MiB.
pub(super) const QUEUE: usize = 8_192;
/// Spans of one request, and how long they wait for each other.
const BATCH: usize = 512;
const LINGER: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Tries of one request, and the first wait between them, which doubles.
const TRIES: u32 = 5;
const BACKOFF: Duration = Duration::from_millis(500);

/// What goes through the queue.
pub(super) enum Item {
    Span(Box<Span>),
    /// Answered once everything before it was posted or dropped.
    Flush(oneshot::Sender<()>),
}

pub(super) struct Exporter {
    client: Client,
    url: String,
    headers: HeaderMap,
    service: String,
    instance: String,
    exported: Counter,
    dropped: Counter,
}

pub(super) fn counter(outcome: &'static str) -> Counter {
    metrics::counter!("tripline_trace_spans_total", "outcome" => outcome)
}

impl Exporter {
    pub(super) fn new(config: &Telemetry) -> Result<Self, reqwest::Error> {
        // Only an error when another provider was installed before: that one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            client: Client::builder().timeout(TIMEOUT).no_proxy().build()?,
            url: format!("{}/v1/traces", config.otlp_endpoint.trim_end_matches('/')),
            headers: config.headers().filter_map(|(name, value)| header(name, value)).collect(),
            service: config.service_name.clone(),
            instance: uuid::Uuid::now_v7().to_string(),
            exported: counter("exported"),
            dropped: counter("dropped"),
        })
    }

    /// Runs until nobody can record spans any more.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<Item>) {
        let (mut batch, mut flushes) = (Vec::new(), Vec::new());
        while let Some(item) = queue.recv().await {
            let deadline = Instant::now() + LINGER;
            let mut next = Some(item);
            while let Some(item) = next {
                match item {
                    Item::Span(span) => batch.push(*span),
                    Item::Flush(done) => flushes.push(done),
                }
                if batch.len() >= BATCH || !flushes.is_empty() {
                    break;
                }
                next = timeout_at(deadline, queue.recv()).await.ok().flatten();
            }
            self.post(std::mem::take(&mut batch)).await;
            for done in flushes.drain(..) {
                // Whoever waited for it may have lost patience.
                let _ = done.send(());
            }
        }
    }

    async fn post(&self, spans: Vec<Span>) {
        if spans.is_empty() {
            return;
        }
        let body = otlp::body(&self.service, &self.instance, &spans);
        let mut wait = BACKOFF;
        for attempt in 1..=TRIES {
            let request = self.client.post(&self.url).headers(self.headers.clone()).json(&body);
            let error = match request.send().await {
                Ok(answer) if answer.status().is_success() => {
                    self.exported.increment(spans.len() as u64);
                    return;
                }
                Ok(answer) if !may_pass(answer.status()) => {
                    warn!(status = %answer.status(), "the trace collector refuses spans");
                    break;
                }
                Ok(answer) => format!("it answered {}", answer.status()),
                // Without the address: it may hold a login.
                Err(error) => error.without_url().to_string(),
            };
            if attempt == TRIES {
                warn!(%error, spans = spans.len(), "spans dropped: the trace collector takes none");
            } else {
                sleep(wait).await;
                wait *= 2;
            }
        }
        self.dropped.increment(spans.len() as u64);
    }
}

/// What the standard says is worth another try.
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// Both were checked with the configuration.
fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some((name.parse().ok()?, value))
}
