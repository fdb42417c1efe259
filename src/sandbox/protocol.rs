//! What parent and lane say to each other: length-prefixed postcard frames over one stream.
//!
//! Both sides are the same binary, so there is no version and no compatibility. A lane may be
//! hostile all the same: whatever a frame says, its reader checks. A frame is a `u32` length in
//! little-endian and that many bytes; frames are written and read in batches.
//!
//! The conversation: the lane says [`FromLane::Ready`] once. The parent opens contexts
//! ([`ToLane::Open`], never answered: a source that does not load fails its runs) and sends runs,
//! each of which the lane answers with one [`FromLane::Finished`] — except those of a context
//! that is closed or broken, which the parent takes back itself. A run may ask meanwhile
//! ([`FromLane::Asks`]) and is answered ([`ToLane::Answer`]). The lane ends when the stream does.
//!
//! The other end of this file is `lane_loop::run_lane(stream, &progress, walls) -> io::Result<()>`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::{
    ContextOwner, IdempotencyKey, Run, RunKey, RunLimits, RunReport,
    call::{Answer, CallId, Question},
    tape::Tape,
};
use crate::domain::Millis;

/// Names an open context inside one lane; the parent chooses it and never uses it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContextId(pub u64);

/// Parent to lane.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToLane<'a> {
    #[serde(borrow)]
    Open(Box<Open<'a>>),
    /// Drops the runtime, its queue and the run in it, unanswered.
    Close(ContextId),
    #[serde(borrow)]
    Run(Box<RunRequest<'a>>),
    Answer(Box<Reply>),
}

/// The answer to a question; for a run that has ended meanwhile it is no news.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reply {
    pub context: ContextId,
    pub run: RunKey,
    pub call: CallId,
    pub answer: Answer,
}

/// A question of a run that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asks {
    pub context: ContextId,
    pub run: RunKey,
    pub call: CallId,
    pub question: Question,
}

/// A context to build when its first run comes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Open<'a> {
    pub context: ContextId,
    pub limits: RunLimits,
    /// File name of the author's source, as stack traces show it (`charge.ts`).
    pub file: &'a str,
    /// JavaScript, from `Program::code`.
    pub code: &'a str,
    /// What it may import.
    #[serde(borrow)]
    pub modules: Vec<ModuleText<'a>>,
    pub form: Form,
    /// False when the handler cannot look at its second parameter.
    pub takes_context: bool,
    pub owner: Owner<'a>,
}

/// A module that a script imports.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ModuleText<'a> {
    /// The name under which it is imported.
    pub specifier: &'a str,
    /// File name of its source, as stack traces show it (`lib/money.ts`).
    pub file: &'a str,
    pub code: &'a str,
}

impl ModuleText<'_> {
    pub(super) fn owned(&self) -> (String, String, String) {
        (self.specifier.to_owned(), self.file.to_owned(), self.code.to_owned())
    }
}

/// How a script is called; `Program` decides it from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// `export default` of a function: called once per delivery, its result is kept.
    Handler,
    /// Top-level code, wrapped into a function: fresh scope per delivery, the result is null.
    Plain,
}

/// What `sdk.events.context()` says about the subscription and the script.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Owner<'a> {
    pub subscription: [u8; 16],
    pub subscription_name: &'a str,
    pub script: [u8; 16],
    pub script_name: &'a str,
    pub script_version: u32,
}

impl<'a> Owner<'a> {
    #[must_use]
    pub fn of(owner: &'a ContextOwner) -> Self {
        Self {
            subscription: owner.subscription.0.into_bytes(),
            subscription_name: &owner.subscription_name,
            script: owner.script.0.into_bytes(),
            script_name: &owner.script_name,
            script_version: owner.script_version,
        }
    }
}

/// One run, borrowed from where it is: nothing is copied before the frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRequest<'a> {
    pub context: ContextId,
    pub key: RunKey,
    /// The payload as JSON text.
    #[serde(borrow)]
    pub data: Raw<'a>,
    pub facts: Facts<'a>,
    pub emits_within_loop_limits: u32,
    pub loop_message: Option<&'a str>,
    pub record: bool,
    /// Plays this; rare enough to be copied.
    pub tape: Option<Box<Tape>>,
}

/// What `sdk.events.context()` says about the event and the attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts<'a> {
    pub uid: [u8; 16],
    pub id: Option<&'a str>,
    pub source: &'a str,
    pub event_type: &'a str,
    pub subject: Option<&'a str>,
    pub time: Option<&'a str>,
    pub accepted_at: Millis,
    /// Text of a JSON object.
    pub extensions: Option<&'a str>,
    pub hop: u32,
    pub run_id: [u8; 16],
    pub attempt: u32,
    pub max_attempts: u32,
    pub replayed: bool,
    /// `None`: `{uid}:{subscription}`.
    pub idempotency_key: Option<&'a str>,
}

impl<'a> RunRequest<'a> {
    #[must_use]
    pub fn of(context: ContextId, run: &'a Run) -> Self {
        let (event, envelope, facts) = (&*run.event, &run.event.envelope, &run.facts);
        Self {
            context,
            key: run.key,
            data: Raw(run.data.as_ref().unwrap_or(&event.data)),
            facts: Facts {
                uid: event.uid.0.into_bytes(),
                id: envelope.id.as_deref(),
                source: &envelope.source,
                event_type: &envelope.event_type,
                subject: envelope.subject.as_deref(),
                time: envelope.time.as_deref(),
                accepted_at: event.accepted_at,
                extensions: envelope.extensions.as_deref(),
                hop: event.lineage.hop,
                run_id: facts.run_id.0.into_bytes(),
                attempt: facts.attempt,
                max_attempts: facts.max_attempts,
                replayed: facts.replayed,
                idempotency_key: match &facts.idempotency_key {
                    IdempotencyKey::OfDelivery => None,
                    IdempotencyKey::Own(key) => Some(key),
                },
            },
            emits_within_loop_limits: run.emits_within_loop_limits,
            loop_message: run.loop_message.as_deref(),
            record: run.record,
            tape: run.tape.as_deref().cloned().map(Box::new),
        }
    }
}

/// Lane to parent.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromLane {
    Ready(Walls),
    /// Positions in errors and logs are those of the generated code: see `Program::locate`.
    /// `waited` counts from the arrival of the frame.
    Finished(Box<RunReport>),
    Asks(Box<Asks>),
    /// The runtime cannot be built, for reasons that are not the script's. The context is closed.
    Broken {
        context: ContextId,
        message: String,
    },
}

/// What holds the lane in, as it found it at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walls {
    /// Names and reasons of the walls that this kernel or this isolation does not give.
    pub missing: Vec<String>,
}

/// Where a lane says what it executes, so that the parent's watchdog always knows the culprit.
///
/// Called at the begin and the end of every stretch of script code (a run that waits has many).
/// Outside of these the lane executes nothing of a script.
pub trait Progress {
    /// Asked once per run, before its first stretch. False: the parent has taken the run back, and
    /// the lane drops it unanswered.
    fn claim(&self, _run: RunKey) -> bool {
        true
    }
    fn begin(&self, context: ContextId, run: RunKey);
    fn end(&self);
}

/// No watchdog: `tripline run` and tests.
impl Progress for () {
    fn begin(&self, _: ContextId, _: RunKey) {}
    fn end(&self) {}
}

/// Bytes that travel as they are; serde would take a slice for a sequence of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a>(pub &'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Self)
    }
}

/// Longest frame either side takes: far above what the limits of an event and a run let arise.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// Bytes of a frame's length.
const HEAD: usize = 4;

/// The other side broke the protocol: there is nothing to talk about any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("frame of {0} bytes: at most {FRAME_BYTES_MAX}")]
    TooLong(usize),
    #[error("frame does not decode: {0}")]
    Malformed(#[from] postcard::Error),
}

/// Appends one frame to `out`. On an error `out` is as it was.
pub fn encode<T: Serialize>(frame: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    if let Err(error) = postcard::serialize_with_flavor(frame, Appender(out)) {
        out.truncate(start);
        return Err(error.into());
    }
    let length = out.len() - start - HEAD;
    if length > FRAME_BYTES_MAX {
        out.truncate(start);
        return Err(Error::TooLong(length));
    }
    out[start..start + HEAD]
        .copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    Ok(())
}

/// postcard's own `Extend` flavour pushes byte by byte.
struct Appender<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appender<'_> {
    type Output = ();
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Bytes as they come from a stream, cut into frames.
///
/// Grows to the longest frame seen and shrinks when it has been emptied of a long one.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// Valid bytes are `start..end`.
    start: usize,
    end: usize,
}

/// One read's worth; also what an emptied inbox keeps.
const READ_BYTES: usize = 64 << 10;

/// Memory follows what has come, not what a lane says will come.
const GROWTH_BYTES_MAX: usize = 1 << 20;

impl Inbox {
    /// Room for the next read: at least 16 KiB. Follow with [`Inbox::filled`].
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > 16 * READ_BYTES {
                self.bytes = Vec::new();
            }
        }
        if self.bytes.len() - self.end < READ_BYTES / 4 {
            if self.start > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            let wanted = self.end + self.missing().clamp(READ_BYTES, GROWTH_BYTES_MAX);
            if self.bytes.len() < wanted {
                self.bytes.resize(wanted, 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    /// Says that the first `count` bytes of [`Inbox::space`] now hold what was read.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// The next whole frame; `None` when more must be read first.
    pub fn next<'a, T: Deserialize<'a>>(&'a mut self) -> Result<Option<T>, Error> {
        let Some(length) = self.length() else { return Ok(None) };
        if length > FRAME_BYTES_MAX {
            return Err(Error::TooLong(length));
        }
        let from = self.start + HEAD;
        if self.end - from < length {
            return Ok(None);
        }
        self.start = from + length;
        Ok(Some(postcard::from_bytes(&self.bytes[from..from + length])?))
    }

    /// All whole frames that are there, of a type that owns its content.
    pub fn drain<T: DeserializeOwned>(&mut self, mut take: impl FnMut(T)) -> Result<(), Error> {
        while let Some(frame) = self.next::<T>()? {
            take(frame);
        }
        Ok(())
    }

    fn length(&self) -> Option<usize> {
        let head = self.bytes.get(self.start..self.end)?.first_chunk::<HEAD>()?;
        usize::try_from(u32::from_le_bytes(*head)).ok()
    }

    /// How many bytes the frame in progress still lacks.
    fn missing(&self) -> usize {
        let whole = self.length().map_or(HEAD, |length| HEAD + length.min(FRAME_BYTES_MAX));
        whole.saturating_sub(self.end - self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(inbox: &mut Inbox, mut bytes: &[u8], step: usize) {
        while !bytes.is_empty() {
            let space = inbox.space();
            let count = bytes.len().min(step).min(space.len());
            space[..count].copy_from_slice(&bytes[..count]);
            inbox.filled(count);
            bytes = &bytes[count..];
        }
    }

    #[test]
    fn frames_survive_any_cutting() {
        let long = "x".repeat(200_000);
        let frames = [String::new(), "a".to_owned(), long, "end".to_owned()];
        let mut wire = Vec::new();
        for frame in &frames {
            encode(frame, &mut wire).unwrap();
        }
        for step in [1, 3, 4_096, 1 << 20] {
            let (mut inbox, mut seen) = (Inbox::default(), Vec::new());
            for piece in wire.chunks(step) {
                feed(&mut inbox, piece, step);
                inbox.drain(|frame: String| seen.push(frame)).unwrap();
            }
            assert_eq!(seen, frames);
        }
    }

    #[test]
    fn a_frame_beyond_the_cap_is_refused_before_it_is_read() {
        let mut inbox = Inbox::default();
        feed(&mut inbox, &u32::MAX.to_le_bytes(), 4);
        assert!(matches!(inbox.next::<String>(), Err(Error::TooLong(_))));
        assert!(inbox.space().len() < 1 << 20);
    }

    #[test]
    fn garbage_is_an_error_and_not_a_panic() {
        let mut inbox = Inbox::default();
        feed(&mut inbox, &[3, 0, 0, 0, 255, 255, 255], 7);
        assert!(matches!(inbox.next::<FromLane>(), Err(Error::Malformed(_))));
    }

    #[test]
    fn what_cannot_be_encoded_leaves_the_batch_as_it_was() {
        struct Refuses;
        impl Serialize for Refuses {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("no"))
            }
        }
        let mut wire = vec![7];
        assert!(encode(&Refuses, &mut wire).is_err());
        assert_eq!(wire, [7]);
    }
}
