//! Server-sent events: what was committed, at most ten messages a second, while somebody watches.

use std::{convert::Infallible, time::Duration};

use actix_web::{
    HttpResponse, get,
    web::{Bytes, Data, ServiceConfig},
};
use tokio::sync::broadcast::error::RecvError;

use super::{auth::Viewer, error::ApiError, openapi::Problems};
use crate::Runtime;

/// A comment now and then, so that both ends notice a connection that is gone.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) fn routes(app: &mut ServiceConfig) {
    app.service(live);
}

/// What is happening: `commit` messages with events, outcomes and changes since the last one, at most
/// ten a second; `missed` when the client was too slow, with the number of messages lost.
#[utoipa::path(get, path = "/api/v1/live", tag = "live", operation_id = "live", responses((status = 200, content_type = "text/event-stream", body = String), Problems))]
#[get("/live")]
async fn live(_: Viewer, runtime: Data<Runtime>) -> Result<HttpResponse, ApiError> {
    let receiver = runtime.live().subscribe();
    let hello = Bytes::from_static(b"retry: 2000\nevent: hello\ndata: {}\n\n");
    let messages =
        futures::stream::unfold((receiver, Some(hello)), |(mut receiver, first)| async move {
            if let Some(first) = first {
                return Some((Ok::<_, Infallible>(first), (receiver, None)));
            }
            let text = match tokio::time::timeout(HEARTBEAT, receiver.recv()).await {
                Err(_) => ": still here\n\n".to_owned(),
                Ok(Ok(message)) => {
                    let data = serde_json::to_string(&*message).unwrap_or_default();
                    format!("id: {}\nevent: commit\ndata: {data}\n\n", message.seq)
                }
                Ok(Err(RecvError::Lagged(missed))) => {
                    format!("event: missed\ndata: {{\"messages\":{missed}}}\n\n")
                }
                Ok(Err(RecvError::Closed)) => return None,
            };
            Some((Ok(Bytes::from(text)), (receiver, None)))
        });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("Cache-Control", "no-store"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(messages))
}
