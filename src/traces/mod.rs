//! Traces: an event followed from publish through runs and emits, for OpenTelemetry.
//!
//! The context travels in the event's own extensions (`domain::trace`), so it survives whatever the
//! event does. Off (no `telemetry.otlp_endpoint`), [`Tracer`] holds nothing: each place that would
//! record asks once whether it is there, and contexts that publishers sent are passed on unchanged.

mod export;
mod otlp;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metrics::Counter;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use self::export::{Exporter, Item};
use crate::{
    config::Telemetry,
    domain::{Event, NewEvent, RunError, trace::TraceContext},
};

/// How long a stop waits for the last spans to get out.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// One piece of work that is over.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// Of this span itself.
    pub(crate) context: TraceContext,
    pub(crate) parent: Option<u64>,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) error: Option<String>,
    pub(crate) attributes: Attributes,
}

pub(crate) type Attributes = Vec<(&'static str, Value)>;

/// Numbers of the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

/// Records spans, if anybody wants them. Cheap to clone, usable from any thread.
#[derive(Clone, Default)]
pub(crate) struct Tracer(Option<Arc<Inner>>);

struct Inner {
    queue: mpsc::Sender<Item>,
    sample_ratio: f64,
    dropped: Counter,
}

/// A span that has begun.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    pub(crate) context: TraceContext,
    parent: Option<u64>,
    start: u64,
}

impl Tracer {
    /// Starts the thread that exports; nothing at all without an endpoint.
    pub(crate) fn start(config: &Telemetry) -> std::io::Result<Self> {
        if config.otlp_endpoint.is_empty() {
            return Ok(Self(None));
        }
        let (queue, waiting) = mpsc::channel(export::QUEUE);
        let exporter = Exporter::new(config).map_err(std::io::Error::other)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("traces".into())
            .spawn(move || runtime.block_on(exporter.run(waiting)))?;
        let dropped = export::counter("dropped");
        Ok(Self(Some(Arc::new(Inner { queue, sample_ratio: config.sample_ratio, dropped }))))
    }

    /// Posts what is queued, within reason.
    pub(crate) async fn flush(&self) {
        let Some(inner) = &self.0 else { return };
        let (done, is_done) = oneshot::channel();
        let flush = async {
            // An exporter that is gone has nothing to post.
            let _ = inner.queue.send(Item::Flush(done)).await;
            let _ = is_done.await;
        };
        // A collector that does not answer does not hold the stop up.
        let _ = tokio::time::timeout(FLUSH_WITHIN, flush).await;
    }

    /// Begins a span below `parent`, whose decision on sampling holds; without one a new trace, in
    /// `sample_ratio` of the cases. `None`: it is not recorded.
    fn begin(&self, parent: Option<&TraceContext>) -> Option<Begun> {
        let inner = self.0.as_ref()?;
        let context = match parent {
            Some(parent) if !parent.is_sampled => return None,
            Some(parent) => parent.at(fresh()),
            None if rand::random::<f64>() >= inner.sample_ratio => return None,
            None => {
                let trace = rand::random::<u128>().max(1);
                TraceContext { trace, span: fresh(), is_sampled: true, state: None }
            }
        };
        Some(Begun { context, parent: parent.map(|parent| parent.span), start: nanos() })
    }

    /// Begins a publish of these events; `sent` is what the request's headers say. Events without a
    /// context of their own get that of this span, or the one that was sent.
    ///
    /// One that an event brought stays as it is: it names where the event was made, and carriers
    /// must not change it (CloudEvents, Distributed Tracing Extension).
    pub(crate) fn publish<'e>(
        &self,
        sent: Option<&TraceContext>,
        events: impl Iterator<Item = &'e mut NewEvent> + 'e,
    ) -> Option<Begun> {
        if self.0.is_none() && sent.is_none() {
            return None;
        }
        let mut events = events.peekable();
        let own = events.peek().and_then(|event| of(&event.envelope.extensions));
        let begun = self.begin(sent.or(own.as_ref()));
        if let Some(context) = begun.as_ref().map(|begun| &begun.context).or(sent) {
            for event in events {
                let extensions = &mut event.envelope.extensions;
                if of(extensions).is_none() {
                    *extensions = Some(context.extend(extensions.as_deref()));
                }
            }
        }
        begun
    }

    /// Begins a run on an event. Only an event that came with a context has a trace.
    pub(crate) fn run(&self, event: &Event) -> Option<Begun> {
        self.0.as_ref()?;
        self.begin(Some(&of(&event.envelope.extensions)?))
    }

    /// Begins what happens within another span.
    pub(crate) fn within(&self, parent: &Begun) -> Option<Begun> {
        self.begin(Some(&parent.context))
    }

    /// Records what a run emitted; each event carries the context of its own span.
    pub(crate) fn emitted<'e>(&self, run: &Begun, events: impl Iterator<Item = &'e NewEvent>) {
        for event in events {
            let Some(context) = of(&event.envelope.extensions) else { continue };
            let begun = Begun { context, parent: Some(run.context.span), start: nanos() };
            let name = format!("emit {}", event.envelope.event_type);
            let attributes = vec![("cloudevents.event_type", json!(*event.envelope.event_type))];
            self.end(begun, Kind::Producer, name, None, attributes);
        }
    }

    /// Records a run of a subscription, and its death.
    pub(crate) fn ran(
        &self,
        run: Begun,
        subscription: &str,
        mut attributes: Attributes,
        error: Option<RunError>,
        is_dead: bool,
    ) {
        attributes.push(("tripline.subscription.name", json!(subscription)));
        let outcome = match (&error, is_dead) {
            (None, _) => "succeeded",
            (Some(_), false) => "retrying",
            (Some(_), true) => "dead",
        };
        attributes.push(("tripline.outcome", json!(outcome)));
        if let Some(error) = &error {
            attributes.push(("error.type", json!(error.kind)));
        }
        let message = error.map(|error| format!("{}: {}", error.kind.as_str(), error.message));
        if let Some(death) = self.within(&run).filter(|_| is_dead) {
            let name = "dead letter".to_owned();
            self.end(death, Kind::Internal, name, message.clone(), Vec::new());
        }
        self.end(run, Kind::Consumer, format!("run {subscription}"), message, attributes);
    }

    /// Records a span; it ends now.
    pub(crate) fn end(
        &self,
        begun: Begun,
        kind: Kind,
        name: String,
        error: Option<String>,
        attributes: Attributes,
    ) {
        let Some(inner) = &self.0 else { return };
        let Begun { context, parent, start } = begun;
        let span = Span { context, parent, name, kind, start, end: nanos(), error, attributes };
        if inner.queue.try_send(Item::Span(Box::new(span))).is_err() {
            inner.dropped.increment(1);
        }
    }
}

/// What a context is passed on to: the emits and requests of a run.
#[derive(Clone, Default)]
pub(crate) struct Thread {
    pub(crate) tracer: Tracer,
    pub(crate) run: Option<Begun>,
    /// What the event came with, where the run is not recorded.
    pub(crate) carried: Option<TraceContext>,
}

impl Thread {
    /// Of a run on an event.
    pub(crate) fn of(tracer: &Tracer, run: Option<&Begun>, event: &Event) -> Self {
        let carried = if run.is_some() { None } else { of(&event.envelope.extensions) };
        Self { tracer: tracer.clone(), run: run.cloned(), carried }
    }

    /// Begins a request or an emit, and says what goes along with it.
    pub(crate) fn child(&self) -> (Option<Begun>, Option<TraceContext>) {
        let begun = self.run.as_ref().and_then(|run| self.tracer.within(run));
        let context = begun.as_ref().map(|begun| begun.context.clone());
        (begun, context.or_else(|| self.carried.clone()))
    }
}

impl Thread {
    /// A request to the outside has ended, with this status or for this reason without one.
    pub(crate) fn fetched(
        &self,
        span: Begun,
        method: &str,
        host: String,
        status: Result<u16, String>,
    ) {
        let mut attributes =
            vec![("http.request.method", json!(method)), ("server.address", json!(host))];
        let error = match status {
            Ok(status) => {
                attributes.push(("http.response.status_code", json!(status)));
                (status >= 400).then(|| format!("HTTP {status}"))
            }
            Err(reason) => Some(reason),
        };
        self.tracer.end(span, Kind::Client, format!("fetch {method}"), error, attributes);
    }
}

/// The context that extensions carry.
fn of(extensions: &Option<Arc<str>>) -> Option<TraceContext> {
    TraceContext::of_extensions(extensions.as_deref())
}

/// A span's id; 0 is none.
fn fresh() -> u64 {
    rand::random::<u64>().max(1)
}

fn nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
