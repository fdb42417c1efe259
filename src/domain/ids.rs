//! Ids: one newtype each, so that two swapped ids do not compile.
//!
//! All are UUIDv7 on the outside. The ids of events and runs carry the number that the journal
//! counted (`seq`, `run`) in their low 48 bits, so that a look-up by id is a look-up by primary
//! key and neither table needs a second index.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

use super::Millis;

/// Position of an event in the journal: 1, 2, 3, … without gaps. 0 is "before the first event".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    pub const ZERO: Self = Self(0);

    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            utoipa::ToSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh id, ordered by the time of its making.
            #[must_use]
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )*};
}

ids! {
    /// An accepted event's `uid`; see [`EventId::numbered`].
    EventId,
    ScriptId,
    SubscriptionId,
    /// One event for one matching subscription; see [`DeliveryId::of`].
    DeliveryId,
    LetterId,
    /// One execution of a script; see [`RunId::numbered`].
    RunId,
    TokenId,
    SessionId,
    /// A bulk replay or discard of dead letters.
    BulkId,
    /// A delayed emit that waits for its time.
    ScheduledId,
    AuditId,
}

/// How many bits of an id carry the journal's number: enough for 89 years at 100,000 a second.
const NUMBER_BITS: u32 = 48;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

fn numbered(at: Millis, number: u64, salt: u64) -> Uuid {
    let mut random = [0u8; 10];
    // Version and variant overwrite six bits; what is left of the salt makes ids unguessable
    // enough to be no enumeration oracle, the number makes them unique.
    random[..4].copy_from_slice(&salt.to_be_bytes()[4..]);
    random[4..].copy_from_slice(&(number & NUMBER_MASK).to_be_bytes()[2..]);
    Builder::from_unix_timestamp_millis(at.0.max(0).unsigned_abs(), &random).into_uuid()
}

fn number_of(id: Uuid) -> u64 {
    id.as_u64_pair().1 & NUMBER_MASK
}

impl EventId {
    /// The uid of the event at `seq`, accepted at `at`; `salt` is random.
    #[must_use]
    pub fn numbered(at: Millis, seq: Seq, salt: u64) -> Self {
        Self(numbered(at, seq.0, salt))
    }

    /// The seq that this uid claims. The caller compares the stored uid: the claim may be forged.
    #[must_use]
    pub fn seq(self) -> Seq {
        Seq(number_of(self.0))
    }

    /// When the event was accepted, as this uid claims.
    #[must_use]
    pub fn accepted_at(self) -> Millis {
        Millis(i64::try_from(self.0.as_u64_pair().0 >> 16).unwrap_or(i64::MAX))
    }
}

impl RunId {
    /// The id of the run that the journal counted as `number`.
    #[must_use]
    pub fn numbered(at: Millis, number: u64, salt: u64) -> Self {
        Self(numbered(at, number, salt))
    }

    /// The number that this id claims; the caller compares the stored id.
    #[must_use]
    pub fn number(self) -> u64 {
        number_of(self.0)
    }
}

impl DeliveryId {
    /// The delivery of one event to one subscription.
    ///
    /// Derived, not drawn: a delivery on the happy path has no row, yet must have the same id
    /// after a crash, because the ids of its emits are made from it.
    #[must_use]
    pub fn of(event: EventId, subscription: SubscriptionId) -> Self {
        let (event_high, event_low) = event.0.as_u64_pair();
        let (sub_high, sub_low) = subscription.0.as_u64_pair();
        // The event's number stays in place; all other bits mix both ids.
        let mut low = mix(sub_high ^ sub_low.rotate_left(31) ^ event_high);
        let high = mix(low ^ sub_low) ^ event_high;
        low = (low & !NUMBER_MASK) | (event_low & NUMBER_MASK);
        let mut bytes = [0u8; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        Self(Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// The finaliser of SplitMix64: spreads every input bit over all output bits.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_gives_its_seq_back() {
        let id = EventId::numbered(Millis(1_790_000_000_000), Seq(123_456_789), u64::MAX);
        assert_eq!(id.seq(), Seq(123_456_789));
        assert_eq!(id.accepted_at(), Millis(1_790_000_000_000));
        assert_eq!(id.0.get_version_num(), 7);
    }

    #[test]
    fn later_ids_sort_later() {
        let early = EventId::numbered(Millis(1_000), Seq(9), u64::MAX);
        let late = EventId::numbered(Millis(1_001), Seq(10), 0);
        assert!(early < late);
    }

    #[test]
    fn deliveries_differ_by_event_and_by_subscription() {
        let (a, b) = (SubscriptionId::fresh(), SubscriptionId::fresh());
        let one = EventId::numbered(Millis(1), Seq(1), 7);
        let two = EventId::numbered(Millis(1), Seq(2), 7);
        assert_ne!(DeliveryId::of(one, a), DeliveryId::of(one, b));
        assert_ne!(DeliveryId::of(one, a), DeliveryId::of(two, a));
        assert_eq!(DeliveryId::of(one, a), DeliveryId::of(one, a));
    }
}
