//! Outcomes: how an attempt ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{EventId, Millis, RunId, ScriptId, Seq, SubscriptionId};

/// Why a run failed. The names are fixed: other programs branch on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The script threw, or its promise was rejected or can never settle.
    Exception,
    /// The script threw `sdk.PermanentError`: no more attempts.
    Permanent,
    Timeout,
    OutOfMemory,
    StackOverflow,
    /// The source does not compile or its module does not load.
    Compile,
    /// An emit was refused: wrong arguments or over a limit.
    EmitRejected,
    /// An emit would pass `limits.max_hops` or `limits.max_spread`.
    HopLimit,
    /// The script took its lane or the process down.
    HostCrash,
    /// The delivery was too old to run.
    Expired,
}

impl ErrorKind {
    pub const ALL: [Self; 10] = [
        Self::Exception,
        Self::Permanent,
        Self::Timeout,
        Self::OutOfMemory,
        Self::StackOverflow,
        Self::Compile,
        Self::EmitRejected,
        Self::HopLimit,
        Self::HostCrash,
        Self::Expired,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exception => "exception",
            Self::Permanent => "permanent",
            Self::Timeout => "timeout",
            Self::OutOfMemory => "out_of_memory",
            Self::StackOverflow => "stack_overflow",
            Self::Compile => "compile",
            Self::EmitRejected => "emit_rejected",
            Self::HopLimit => "hop_limit",
            Self::HostCrash => "host_crash",
            Self::Expired => "expired",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// True for what another attempt cannot mend: straight to the dead letters.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Permanent | Self::HopLimit | Self::Expired)
    }
}

/// What went wrong in a run, as its author reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    pub kind: ErrorKind,
    pub message: String,
    /// Positions are those of the author's source, not of the stripped code.
    pub stack: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// One `console` call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub level: LogLevel,
    pub message: String,
    pub at: Millis,
}

/// What is kept of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunLog {
    pub id: RunId,
    pub event: EventId,
    pub seq: Seq,
    pub subscription: SubscriptionId,
    pub script: ScriptId,
    pub script_version: u32,
    /// Counts from 1.
    pub attempt: u32,
    /// Which replay of its dead letter it belongs to; 0 before any.
    pub replay: u32,
    /// `None`: it succeeded.
    pub error: Option<RunError>,
    /// JSON text of what the handler returned; `None` when it failed.
    pub result: Option<String>,
    pub logs: Vec<LogLine>,
    pub warnings: Vec<String>,
    pub started_at: Millis,
    pub duration: Duration,
    pub cpu: Duration,
    /// From the moment the attempt was due to its start.
    pub queued: Duration,
    pub emitted: Vec<EventId>,
    /// What it needs to run again, encoded; kept beside it, and not read with it.
    pub recording: Option<Vec<u8>>,
}

impl RunLog {
    /// What it costs to hold or to store, in bytes, roughly.
    #[must_use]
    pub fn weight(&self) -> usize {
        let error = self
            .error
            .as_ref()
            .map_or(0, |error| error.message.len() + error.stack.as_ref().map_or(0, String::len));
        300 + error
            + self.result.as_ref().map_or(0, String::len)
            + self.recording.as_ref().map_or(0, Vec::len)
            + self.logs.iter().map(|line| line.message.len() + 48).sum::<usize>()
    }
}
