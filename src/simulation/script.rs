//! What the handlers of the simulation do: the same for the same delivery, whoever asks.

use crate::domain::{ErrorKind, Event, RunError, SubscriptionId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Succeeds { emits: u32 },
    Fails(ErrorKind),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    pub(super) seed: u64,
}

impl Script {
    /// How the attempt after `spent` others of this replay ends.
    pub(super) fn run(self, event: &Event, by: SubscriptionId, spent: u32, replay: u32) -> Verdict {
        let id = by.0.as_u128() as u64;
        let delivery = mix(self.seed ^ mix(event.seq.0) ^ mix(id).rotate_left(17));
        let dice = mix(delivery ^ u64::from(replay));
        let failures = match dice % 16 {
            0..=9 => 0,
            10..=12 => 1,
            13 => 2,
            14 if replay > 0 => 0,
            14 => return Verdict::Fails(ErrorKind::Permanent),
            _ => 9,
        };
        if spent < failures {
            return Verdict::Fails(ErrorKind::Exception);
        }
        Verdict::Succeeds { emits: emits(delivery, event) }
    }

    /// What a success emits, whichever attempt and replay it is.
    pub(super) fn emits(self, event: &Event, by: SubscriptionId) -> u32 {
        let id = by.0.as_u128() as u64;
        emits(mix(self.seed ^ mix(event.seq.0) ^ mix(id).rotate_left(17)), event)
    }
}

fn emits(delivery: u64, event: &Event) -> u32 {
    match (event.lineage.hop, delivery >> 32 & 7) {
        (0, 0..=1) => 1,
        (0, 2) | (1, 0) => 2,
        _ => 0,
    }
}

pub(super) fn error(kind: ErrorKind) -> RunError {
    RunError { kind, message: "as planned".into(), stack: None }
}

/// SplitMix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
