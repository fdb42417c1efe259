//! Outcome blocks: every attempt that one commit settled, packed.
//!
//! A settled delivery on the happy path has no row; its entry here is the record. Layout, all
//! numbers LEB128 varints: format byte, entry count, subscription count, that many ids of 16 bytes,
//! base seq, base run; then per entry: zigzag seq delta to the entry before, index of the
//! subscription, outcome byte, script version, attempt, replay, duration in microseconds, and the
//! zigzag delta of the run number plus one (0: no run is kept). Format 2 ends with a CRC-32 of all
//! before it, little-endian; format 1 had none.

use uuid::Uuid;

use super::{Seq, SubscriptionId};

/// How one attempt, or the delivery as a whole, came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Succeeded,
    /// Failed, and a row holds the delivery until its next attempt.
    Retrying,
    /// Failed for the last time.
    Dead,
    /// Ended by a person.
    Discarded,
    /// Settled in an earlier commit and noted again when its subscription took a cursor, so that
    /// recovery from the cursor skips it. Counts nothing.
    Noted,
}

impl Outcome {
    const fn code(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Retrying => 1,
            Self::Dead => 2,
            Self::Discarded => 3,
            Self::Noted => 4,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Succeeded,
            1 => Self::Retrying,
            2 => Self::Dead,
            3 => Self::Discarded,
            4 => Self::Noted,
            _ => return None,
        })
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Retrying => "retrying",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
            Self::Noted => "noted",
        }
    }
}

/// One settled attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    pub seq: Seq,
    pub subscription: SubscriptionId,
    pub outcome: Outcome,
    pub script_version: u32,
    /// Counts from 1; 0 when nothing ran (discarded, noted).
    pub attempt: u32,
    pub replay: u32,
    pub duration_us: u64,
    /// Number of the kept run, if it was kept.
    pub run: Option<u64>,
}

const FORMAT: u8 = 2;
/// Without a checksum; still read.
const FORMAT_BARE: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// Packs the entries of one commit.
#[must_use]
pub fn encode(entries: &[BlockEntry]) -> Vec<u8> {
    let mut subscriptions: Vec<SubscriptionId> = entries.iter().map(|e| e.subscription).collect();
    subscriptions.sort_unstable();
    subscriptions.dedup();
    let mut out = Vec::with_capacity(16 + subscriptions.len() * 16 + entries.len() * 10);
    out.push(FORMAT);
    put(&mut out, entries.len() as u64);
    put(&mut out, subscriptions.len() as u64);
    for subscription in &subscriptions {
        out.extend_from_slice(subscription.0.as_bytes());
    }
    let (mut seq, mut run) = (0u64, 0u64);
    for entry in entries {
        put_signed(&mut out, entry.seq.0.wrapping_sub(seq).cast_signed());
        seq = entry.seq.0;
        let index = subscriptions.binary_search(&entry.subscription).unwrap_or_default();
        put(&mut out, index as u64);
        out.push(entry.outcome.code());
        put(&mut out, u64::from(entry.script_version));
        put(&mut out, u64::from(entry.attempt));
        put(&mut out, u64::from(entry.replay));
        put(&mut out, entry.duration_us);
        out.push(u8::from(entry.run.is_some()));
        if let Some(number) = entry.run {
            put_signed(&mut out, number.wrapping_sub(run).cast_signed());
            run = number;
        }
    }
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    out
}

/// The bytes are no outcome block: the store is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an outcome block is damaged at byte {at}")]
pub struct Damaged {
    pub at: usize,
}

/// Unpacks what [`encode`] packed.
pub fn decode(bytes: &[u8]) -> Result<Vec<BlockEntry>, Damaged> {
    let bytes = match bytes.first() {
        Some(&FORMAT) => checked(bytes)?,
        Some(&FORMAT_BARE) => bytes,
        _ => return Err(Damaged { at: 0 }),
    };
    let mut reader = Reader { bytes, at: 1 };
    let count = reader.bounded(bytes.len())?;
    let subscriptions = reader.bounded(bytes.len() / 16)?;
    let subscriptions: Vec<SubscriptionId> =
        (0..subscriptions).map(|_| reader.id()).collect::<Result<_, _>>()?;
    let mut entries = Vec::with_capacity(count);
    let (mut seq, mut run) = (0u64, 0u64);
    for _ in 0..count {
        seq = seq.wrapping_add_signed(reader.signed()?);
        let at = reader.at;
        let index = reader.bounded(usize::MAX)?;
        let subscription = *subscriptions.get(index).ok_or(Damaged { at })?;
        let outcome = Outcome::from_code(reader.byte()?).ok_or(Damaged { at })?;
        let script_version = reader.small()?;
        let attempt = reader.small()?;
        let replay = reader.small()?;
        let duration_us = reader.number()?;
        let run = if reader.byte()? == 0 {
            None
        } else {
            run = run.wrapping_add_signed(reader.signed()?);
            Some(run)
        };
        entries.push(BlockEntry {
            seq: Seq(seq),
            subscription,
            outcome,
            script_version,
            attempt,
            replay,
            duration_us,
            run,
        });
    }
    Ok(entries)
}

/// The block without its checksum, which must be right.
fn checked(bytes: &[u8]) -> Result<&[u8], Damaged> {
    let damaged = Damaged { at: bytes.len() };
    let (body, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(damaged)?;
    if crc32fast::hash(body) == u32::from_le_bytes(*sum) { Ok(body) } else { Err(damaged) }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Damaged> {
        let byte = *self.bytes.get(self.at).ok_or(Damaged { at: self.at })?;
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64, Damaged> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damaged { at: self.at })
    }

    fn signed(&mut self) -> Result<i64, Damaged> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn small(&mut self) -> Result<u32, Damaged> {
        let at = self.at;
        u32::try_from(self.number()?).map_err(|_| Damaged { at })
    }

    /// A count that a forged block cannot use to make us reserve more than the block's own size.
    fn bounded(&mut self, max: usize) -> Result<usize, Damaged> {
        let at = self.at;
        let value = usize::try_from(self.number()?).map_err(|_| Damaged { at })?;
        if value > max { Err(Damaged { at }) } else { Ok(value) }
    }

    fn id(&mut self) -> Result<SubscriptionId, Damaged> {
        let bytes = self.bytes.get(self.at..self.at + 16).ok_or(Damaged { at: self.at })?;
        self.at += 16;
        Ok(SubscriptionId(Uuid::from_slice(bytes).map_err(|_| Damaged { at: self.at })?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = BlockEntry> {
        (
            any::<u64>(),
            0u128..4,
            0u8..5,
            any::<u32>(),
            any::<(u32, u32, u64)>(),
            any::<Option<u64>>(),
        )
            .prop_map(
                |(seq, subscription, outcome, version, (attempt, replay, duration), run)| {
                    BlockEntry {
                        seq: Seq(seq),
                        subscription: SubscriptionId(Uuid::from_u128(subscription)),
                        outcome: Outcome::from_code(outcome).expect("a code"),
                        script_version: version,
                        attempt,
                        replay,
                        duration_us: duration,
                        run,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(entries in proptest::collection::vec(entry(), 0..50)) {
            prop_assert_eq!(decode(&encode(&entries)), Ok(entries));
        }

        #[test]
        fn damage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_changed_block_is_noticed_and_one_of_the_first_format_is_read() {
        let entry = BlockEntry {
            seq: Seq(7),
            subscription: SubscriptionId::fresh(),
            outcome: Outcome::Succeeded,
            script_version: 1,
            attempt: 1,
            replay: 0,
            duration_us: 40,
            run: None,
        };
        let block = encode(&[entry]);
        for at in 0..block.len() {
            let mut changed = block.clone();
            changed[at] ^= 2;
            assert_ne!(decode(&changed), Ok(vec![entry]), "byte {at}");
            assert!(decode(&changed).is_err() || changed[0] == FORMAT_BARE, "byte {at}");
        }
        let mut bare = block[..block.len() - CHECKSUM_BYTES].to_vec();
        bare[0] = FORMAT_BARE;
        assert_eq!(decode(&bare), Ok(vec![entry]));
    }

    #[test]
    fn a_happy_delivery_costs_about_ten_bytes() {
        let subscription = SubscriptionId::fresh();
        let entries: Vec<BlockEntry> = (1..=1_000)
            .map(|n| BlockEntry {
                seq: Seq(1_000_000 + n),
                subscription,
                outcome: Outcome::Succeeded,
                script_version: 3,
                attempt: 1,
                replay: 0,
                duration_us: 40,
                run: Some(5_000_000 + n),
            })
            .collect();
        assert!(encode(&entries).len() < 10_000);
    }
}
