//! Events taken in: from the API, from webhooks, from an embedding application.

use serde_json::json;

use super::Runtime;
use crate::{
    actors::journal::{Accepted, Incoming, PublishError},
    domain::{NewEvent, event::is_reserved, trace::TraceContext},
    store::journal::EventKey,
    traces::Kind,
};

impl Runtime {
    /// Publishes events of the embedding application: all of them or none, on disk on return.
    pub async fn publish(&self, events: Vec<NewEvent>) -> Result<Vec<Accepted>, PublishError> {
        if let Some(event) = events.iter().find(|event| is_reserved(&event.envelope.event_type)) {
            let event_type = &event.envelope.event_type;
            return Err(PublishError::Refused(format!(
                "`{event_type}` begins with tripline: such types are the runtime's own"
            )));
        }
        let items =
            events.into_iter().map(|event| Incoming { key: EventKey::of(&event), event }).collect();
        self.accept(items, None).await
    }

    /// Accepts events that passed the door. `sent` is the trace that whoever sent them is part of:
    /// those without a context of their own get one below it.
    pub(crate) async fn accept(
        &self,
        mut items: Vec<Incoming>,
        sent: Option<TraceContext>,
    ) -> Result<Vec<Accepted>, PublishError> {
        let tracer = &self.0.tracer;
        let events = items.iter_mut().map(|item| &mut item.event);
        let Some(span) = tracer.publish(sent.as_ref(), events) else {
            return self.0.journal.publish(items).await;
        };
        let count = items.len();
        let commit = tracer.within(&span);
        let accepted = self.0.journal.publish(items).await;
        let error = accepted.as_ref().err().map(ToString::to_string);
        if let Some(commit) = commit {
            tracer.end(commit, Kind::Internal, "commit".into(), error.clone(), Vec::new());
        }
        let duplicates = accepted.iter().flatten().filter(|one| one.duplicate).count();
        let attributes = vec![
            ("messaging.system", json!("tripline")),
            ("messaging.batch.message_count", json!(count)),
            ("tripline.duplicates", json!(duplicates)),
        ];
        tracer.end(span, Kind::Server, "publish".into(), error, attributes);
        accepted
    }
}
