//! What a run met inside of its lane: clock, chance, and the order in which it heard of things.
//!
//! Together with the parent's answers a tape is all that a run's course depends on: played back, the
//! same source logs, returns and throws the same. What is not on it is what a handler module has kept
//! in its own variables from earlier runs, for which there is no bound.

use serde::{Deserialize, Serialize};

use super::call::Blob;

/// Most entries of each list. A run that reads its clock, or wakes, more often is not recorded.
pub const ENTRIES_MAX: usize = 4_096;

/// Most bytes of chance.
pub const CHANCE_BYTES_MAX: usize = 16 << 10;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tape {
    /// What the top level of the module met when its runtime was built, maybe for an earlier run.
    pub load: Readings,
    pub run: Readings,
    /// What the run went on with, each time it had waited.
    pub turns: Vec<Turn>,
    /// What it did, in order.
    pub made: Vec<Made>,
    /// Timers that its runtime had made before.
    pub timers_before: u32,
    /// Its time on the clock ran out.
    pub out_of_time: bool,
}

/// What a stretch of a script read of clock and chance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readings {
    /// Milliseconds since 1970, and how often in a row they were read.
    pub clock: Vec<(i64, u32)>,
    /// Tenths of a millisecond since the runtime was built, likewise.
    pub elapsed: Vec<(u64, u32)>,
    /// Where `Math.random()` began.
    pub seed: u64,
    /// Bytes that nobody could have guessed.
    pub chance: Blob,
    /// It read more than is kept.
    pub is_cut: bool,
}

/// What a waiting run goes on with; both are counted from the first of the run, which is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Turn {
    Answer(u32),
    Timer(u32),
    /// Fired together with the one before: the run was not looked at in between.
    AlsoTimer(u32),
}

/// Something that a run did; what exactly stands among the questions, the emits and the writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Made {
    Question,
    Emit,
    /// A key written: its name.
    Write(String),
}

impl Tape {
    /// True when something is missing on it, so that it cannot be played.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        let full = |len: usize| len > ENTRIES_MAX;
        self.load.is_cut || self.run.is_cut || full(self.turns.len()) || full(self.made.len())
    }

    /// Within the bounds that an honest lane keeps to.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let bounded = |readings: &Readings| {
            readings.clock.len() <= ENTRIES_MAX
                && readings.elapsed.len() <= ENTRIES_MAX
                && readings.chance.0.len() <= CHANCE_BYTES_MAX
        };
        let keys = self.made.iter().map(|made| match made {
            Made::Write(key) => key.len(),
            Made::Question | Made::Emit => 0,
        });
        bounded(&self.load)
            && bounded(&self.run)
            && self.turns.len() <= ENTRIES_MAX + 1
            && self.made.len() <= ENTRIES_MAX + 1
            && keys.sum::<usize>() <= ENTRIES_MAX * crate::domain::kv::KEY_BYTES_MAX
    }
}
