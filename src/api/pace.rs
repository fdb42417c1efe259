//! Bodies that come too slowly: a client that drips bytes would hold a connection for ever.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::{
    HttpMessage as _,
    dev::{Payload, ServiceRequest},
    error::PayloadError,
    web::Bytes,
};
use futures::Stream;
use tokio::time::{Instant, Sleep};

/// Any body may take so long.
const GRACE: Duration = Duration::from_secs(10);
/// Bytes a second that it has to come with after that, on the whole: far below any line that works.
const PACE: u64 = 4 << 10;

/// Says whether the body of a request was given up.
pub(super) type Slow = Rc<Cell<bool>>;

/// Gives the body a pace that it has to keep; the answer is `true` once it did not.
pub(super) fn watch(request: &mut ServiceRequest) -> Slow {
    let slow = Slow::default();
    match request.take_payload() {
        Payload::None => {}
        payload => request.set_payload(Payload::Stream {
            payload: Box::pin(Paced {
                payload,
                began: Instant::now(),
                received: 0,
                timer: None,
                slow: Rc::clone(&slow),
            }),
        }),
    }
    slow
}

/// What the client is told.
pub(super) fn complaint() -> String {
    let grace = GRACE.as_secs();
    format!(
        "the body came too slowly: expected {PACE} bytes a second after the first {grace} seconds"
    )
}

struct Paced {
    payload: Payload,
    began: Instant,
    received: u64,
    /// Only while nothing comes: most bodies are there at once, and need none.
    timer: Option<Pin<Box<Sleep>>>,
    slow: Slow,
}

impl Stream for Paced {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Poll::Ready(part) = Pin::new(&mut this.payload).poll_next(task) {
            this.received +=
                part.as_ref().map_or(0, |part| part.as_ref().map_or(0, Bytes::len)) as u64;
            this.timer = None;
            return Poll::Ready(part);
        }
        let deadline = this.began + GRACE + Duration::from_secs(this.received / PACE);
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(timer.as_mut().poll(task));
        this.slow.set(true);
        Poll::Ready(Some(Err(PayloadError::Io(io::Error::new(
            io::ErrorKind::TimedOut,
            complaint(),
        )))))
    }
}
