//! Bodies on their way in. One that comes too slowly would hold its connection for ever, and many large
//! ones at once the memory: both are given up.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering},
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

use super::error::{ApiError, Code};

/// Any body may take so long.
const GRACE: Duration = Duration::from_secs(10);
/// Bytes a second that it has to come with after that, on the whole: far below any line that works.
const PACE: u64 = 4 << 10;

/// Bytes of all bodies on their way in together; one alone may be as large as its operation takes.
const BYTES_MAX: usize = 128 << 20;
/// Bytes of each that do not count: small requests go on beside many large ones.
const SMALL: usize = 16 << 10;

static BYTES: AtomicUsize = AtomicUsize::new(0);

/// Why the body of a request was given up, if it was.
pub(super) type Trouble = Rc<Cell<Option<GivenUp>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// It kept no pace.
    Slow,
    /// Others have taken what room there is.
    Crowded,
}

impl GivenUp {
    /// What the client is told.
    pub(super) fn refusal(self) -> ApiError {
        match self {
            Self::Slow => ApiError::new(Code::TooSlow, slowness()),
            Self::Crowded => {
                let detail = "too many large bodies are on their way in; try again";
                ApiError::new(Code::Overloaded, detail).after(1)
            }
        }
    }
}

/// Gives the body a pace that it has to keep, and its share of the room for bodies.
pub(super) fn watch(request: &mut ServiceRequest) -> Trouble {
    let trouble = Trouble::default();
    match request.take_payload() {
        Payload::None => {}
        payload => request.set_payload(Payload::Stream {
            payload: Box::pin(Paced {
                payload,
                began: Instant::now(),
                received: 0,
                timer: None,
                room: Room(0),
                trouble: Rc::clone(&trouble),
            }),
        }),
    }
    trouble
}

fn slowness() -> String {
    let grace = GRACE.as_secs();
    format!(
        "the body came too slowly: expected {PACE} bytes a second after the first {grace} seconds"
    )
}

/// Bytes that one body has of [`BYTES`], given back when it is read or given up.
struct Room(usize);

impl Room {
    /// Takes what a body of so many bytes needs. False: there is not so much.
    fn grow(&mut self, received: u64) -> bool {
        let wanted = usize::try_from(received).unwrap_or(usize::MAX).saturating_sub(SMALL);
        let more = wanted.saturating_sub(self.0);
        if more == 0 {
            return true;
        }
        let all = BYTES.fetch_add(more, Ordering::Relaxed) + more;
        self.0 += more;
        all <= BYTES_MAX || all == self.0
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        BYTES.fetch_sub(self.0, Ordering::Relaxed);
    }
}

struct Paced {
    payload: Payload,
    began: Instant,
    received: u64,
    /// Only while nothing comes: most bodies are there at once, and need none.
    timer: Option<Pin<Box<Sleep>>>,
    room: Room,
    trouble: Trouble,
}

impl Paced {
    fn give_up(&self, why: GivenUp, kind: io::ErrorKind) -> PayloadError {
        self.trouble.set(Some(why));
        PayloadError::Io(io::Error::new(kind, why.refusal().to_string()))
    }
}

impl Stream for Paced {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Poll::Ready(part) = Pin::new(&mut this.payload).poll_next(task) {
            this.received +=
                part.as_ref().map_or(0, |part| part.as_ref().map_or(0, Bytes::len)) as u64;
            this.timer = None;
            if !this.room.grow(this.received) {
                let error = this.give_up(GivenUp::Crowded, io::ErrorKind::OutOfMemory);
                return Poll::Ready(Some(Err(error)));
            }
            return Poll::Ready(part);
        }
        let deadline = this.began + GRACE + Duration::from_secs(this.received / PACE);
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(timer.as_mut().poll(task));
        Poll::Ready(Some(Err(this.give_up(GivenUp::Slow, io::ErrorKind::TimedOut))))
    }
}
