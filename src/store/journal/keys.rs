//! Which `(source, id)` was accepted, as a log with filters.
//!
//! Keys are hashes: in a tree each lands on a page of its own, which would be four fifths of all that
//! a busy journal writes. So a commit appends its keys as one block; blocks are held in memory until
//! there are [`SEGMENT_KEYS`], then sorted into a sealed segment of small pages with a Bloom filter.
//! A new key asks the filters, all in memory, and reads a page only where one says "perhaps".
//!
//! An entry is 48 bytes: key, uid, digest. The uid tells seq and time of acceptance.

use std::collections::HashMap;

use uuid::Uuid;

use super::{Commit, CommitError, EventKey, KnownEvent};
use crate::{
    domain::{EventId, Millis, Seq},
    store::encode,
};

/// Keys after which the log's tail is sealed: some MiB of memory, one sealing in a second at full load.
const SEGMENT_KEYS: usize = 65_536;
/// After a sealing that failed, so many more keys come before the next try.
const PATIENCE_KEYS: usize = 8_192;
/// Entries of one page: with its row it fits into a page of SQLite's.
const PAGE_ENTRIES: usize = 80;

const KEY_BYTES: usize = 16;
const ENTRY_BYTES: usize = 48;

/// What the journal's thread remembers of the log.
#[derive(Debug, Default)]
pub(super) struct KeyIndex {
    /// Not sealed yet.
    tail: HashMap<[u8; KEY_BYTES], KnownEvent>,
    /// Ascending by id.
    segments: Vec<Segment>,
    /// Size of the tail at which sealing is tried again after it failed.
    patience: usize,
    /// Where the next look at old segments starts.
    looked: i64,
}

/// A sealed segment; its entries lie in the store.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segment {
    /// Batch of the last commit in it: newer keys have higher ids.
    pub(super) id: i64,
    pub(super) count: usize,
    pub(super) first_seq: Seq,
    pub(super) last_seq: Seq,
    /// Acceptance of its youngest event.
    pub(super) newest: Millis,
    pub(super) filter: Filter,
}

/// A segment that is ready to be written.
pub(super) struct Sealed {
    pub(super) segment: Segment,
    /// First key and entries of each page.
    pub(super) pages: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Where a key may be found.
pub(super) enum Place {
    Nowhere,
    Tail(KnownEvent),
    /// Segments to look into, newest first.
    Segments(Vec<i64>),
}

impl KeyIndex {
    /// From the blocks and segments of the store; both ascending.
    pub(super) fn load(blocks: impl IntoIterator<Item = Vec<u8>>, segments: Vec<Segment>) -> Self {
        let mut tail = HashMap::new();
        for block in blocks {
            tail.extend(entries(&block));
        }
        Self { tail, segments, patience: 0, looked: i64::MIN }
    }

    pub(super) fn place(&self, key: &EventKey) -> Place {
        if let Some(known) = self.tail.get(&key.key) {
            return Place::Tail(*known);
        }
        let perhaps =
            self.segments.iter().rev().filter(|segment| segment.filter.may_hold(&key.key));
        let ids: Vec<i64> = perhaps.map(|segment| segment.id).collect();
        if ids.is_empty() { Place::Nowhere } else { Place::Segments(ids) }
    }

    /// The keys of a commit that is on disk.
    pub(super) fn add(&mut self, commit: &Commit) {
        for (key, index) in &commit.keys {
            let known = KnownEvent { uid: commit.events[*index].uid, digest: key.digest };
            self.tail.insert(key.key, known);
        }
    }

    /// The tail as a segment, once it is large enough. It is still the tail until [`Self::sealed`].
    pub(super) fn seal(&self, batch: i64) -> Option<Sealed> {
        (self.tail.len() >= SEGMENT_KEYS.max(self.patience))
            .then(|| Sealed::of(batch, self.tail.iter().map(|(key, known)| (*key, *known))))
    }

    pub(super) fn sealed(&mut self, segment: Segment) {
        self.tail.clear();
        self.patience = 0;
        self.segments.push(segment);
    }

    pub(super) fn not_sealed(&mut self) {
        self.patience = self.tail.len() + PATIENCE_KEYS;
    }

    /// The next segments that are all older than `before`, at most `limit`, in turn.
    pub(super) fn old(&mut self, before: Millis, limit: usize) -> Vec<Segment> {
        let old = |segment: &&Segment| segment.newest < before;
        let next = self.segments.iter().filter(|segment| segment.id > self.looked);
        let mut found: Vec<Segment> = next.filter(old).take(limit).cloned().collect();
        if found.is_empty() {
            found = self.segments.iter().filter(old).take(limit).cloned().collect();
        }
        self.looked = found.last().map_or(i64::MIN, |segment| segment.id);
        found
    }

    /// The segment has this shape now; `None`: it is gone.
    pub(super) fn replace(&mut self, id: i64, segment: Option<Segment>) {
        let Some(at) = self.segments.iter().position(|segment| segment.id == id) else { return };
        match segment {
            Some(segment) => self.segments[at] = segment,
            None => drop(self.segments.remove(at)),
        }
    }
}

impl Segment {
    /// Rewriting it for a few of its keys would not pay. `stored`: events between its seqs.
    pub(super) fn is_worth_forgetting(&self, stored: usize) -> bool {
        stored <= self.count / 2
    }

    /// What is left of it when only keys of stored events stay; `stored` ascends.
    pub(super) fn left(&self, pages: &[Vec<u8>], stored: &[i64]) -> Option<Sealed> {
        let is_stored =
            |known: &KnownEvent| stored.binary_search(&encode::int(known.uid.seq().0)).is_ok();
        let kept = pages.iter().flat_map(|page| entries(page));
        let kept: Vec<_> = kept.filter(|(_, known)| is_stored(known)).collect();
        (!kept.is_empty()).then(|| Sealed::of(self.id, kept))
    }
}

impl Sealed {
    pub(super) fn of(
        id: i64,
        entries: impl IntoIterator<Item = ([u8; KEY_BYTES], KnownEvent)>,
    ) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_unstable_by_key(|(key, known)| (*key, known.uid.seq()));
        let mut filter = Filter::for_keys(entries.len());
        let (mut first_seq, mut last_seq, mut newest) =
            (Seq(u64::MAX), Seq::ZERO, Millis(i64::MIN));
        for (key, known) in &entries {
            filter.add(key);
            first_seq = first_seq.min(known.uid.seq());
            last_seq = last_seq.max(known.uid.seq());
            newest = newest.max(known.uid.accepted_at());
        }
        let page = |page: &[([u8; KEY_BYTES], KnownEvent)]| {
            let mut bytes = Vec::with_capacity(page.len() * ENTRY_BYTES);
            for (key, known) in page {
                push(&mut bytes, key, known);
            }
            (page[0].0.to_vec(), bytes)
        };
        let pages = entries.chunks(PAGE_ENTRIES).map(page).collect();
        let count = entries.len();
        Self { segment: Segment { id, count, first_seq, last_seq, newest, filter }, pages }
    }
}

/// A commit's keys as one block; `None` when it has none.
pub(super) fn block(commit: &Commit) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(commit.keys.len() * ENTRY_BYTES);
    for (key, index) in &commit.keys {
        let known = KnownEvent { uid: commit.events[*index].uid, digest: key.digest };
        push(&mut bytes, &key.key, &known);
    }
    (!bytes.is_empty()).then_some(bytes)
}

fn push(bytes: &mut Vec<u8>, key: &[u8; KEY_BYTES], known: &KnownEvent) {
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(known.uid.0.as_bytes());
    bytes.extend_from_slice(&known.digest);
}

/// The entries of a block or page, in their order.
pub(super) fn entries(
    bytes: &[u8],
) -> impl DoubleEndedIterator<Item = ([u8; KEY_BYTES], KnownEvent)> {
    let (whole, _) = bytes.as_chunks::<ENTRY_BYTES>();
    whole.iter().map(|entry| {
        let part = |index: usize| {
            let mut part = [0; KEY_BYTES];
            part.copy_from_slice(&entry[index * KEY_BYTES..][..KEY_BYTES]);
            part
        };
        (part(0), KnownEvent { uid: EventId(Uuid::from_bytes(part(1))), digest: part(2) })
    })
}

/// The latest entry of a key in a block or page.
pub(in crate::store) fn find(bytes: &[u8], key: &[u8; KEY_BYTES]) -> Option<KnownEvent> {
    entries(bytes).rev().find(|(found, _)| found == key).map(|(_, known)| known)
}

/// A stored filter that cannot be one: nothing is accepted on such a store.
pub(super) fn damaged() -> CommitError {
    CommitError::Unknown("a stored filter of deduplication keys is damaged".into())
}

/// A blocked Bloom filter: all bits of a key lie in one cache line. One stranger in some two hundred
/// passes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filter(Vec<[u64; 8]>);

/// Bits of the filter for each key, and bits set by each.
const FILTER_BITS: usize = 12;
const FILTER_HASHES: u32 = 6;

impl Filter {
    fn for_keys(count: usize) -> Self {
        Self(vec![[0; 8]; (count * FILTER_BITS).div_ceil(512).max(1)])
    }

    /// Keys are hashes already: their bits choose the line and the bits in it.
    fn line_and_bits(&self, key: &[u8; KEY_BYTES]) -> (usize, [u64; 8]) {
        let key = u128::from_be_bytes(*key);
        let (high, mut low) = ((key >> 64) as u64, key as u64);
        let line = (u128::from(high) * self.0.len() as u128) >> 64;
        let mut bits = [0; 8];
        for _ in 0..FILTER_HASHES {
            bits[(low >> 6 & 7) as usize] |= 1 << (low & 63);
            low >>= 9;
        }
        (line as usize, bits)
    }

    fn add(&mut self, key: &[u8; KEY_BYTES]) {
        let (line, bits) = self.line_and_bits(key);
        for (word, bits) in self.0[line].iter_mut().zip(bits) {
            *word |= bits;
        }
    }

    fn may_hold(&self, key: &[u8; KEY_BYTES]) -> bool {
        let (line, bits) = self.line_and_bits(key);
        self.0[line].iter().zip(bits).all(|(word, bits)| word & bits == bits)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// `None` when these are not the bytes of a filter.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let (lines, odd) = words.as_chunks::<8>();
        (rest.is_empty() && odd.is_empty() && !lines.is_empty()).then(|| Self(lines.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u64) -> ([u8; KEY_BYTES], KnownEvent) {
        let key = EventKey::key_of("/tests", &n.to_string());
        (
            key,
            KnownEvent {
                uid: EventId::numbered(Millis(1_000 + n as i64), Seq(n), 7),
                digest: [9; 16],
            },
        )
    }

    #[test]
    fn a_sealed_segment_holds_every_key_and_few_strangers() {
        let sealed = Sealed::of(5, (1..=10_000).map(entry));
        let filter = Filter::from_bytes(&sealed.segment.filter.to_bytes()).unwrap();
        assert_eq!(filter, sealed.segment.filter);
        assert!((1..=10_000).all(|n| filter.may_hold(&entry(n).0)));
        let strangers = (10_001..=110_000).filter(|n| filter.may_hold(&entry(*n).0)).count();
        assert!(strangers < 1_000, "{strangers} of 100,000 strangers pass");
        assert_eq!((sealed.segment.first_seq, sealed.segment.last_seq), (Seq(1), Seq(10_000)));
        assert_eq!(sealed.segment.newest, Millis(11_000));
        for n in [1, 5_000, 10_000] {
            let (key, known) = entry(n);
            let page = sealed.pages.partition_point(|(first, _)| first[..] <= key[..]) - 1;
            assert_eq!(find(&sealed.pages[page].1, &key), Some(known));
        }
    }

    #[test]
    fn the_latest_of_two_entries_counts() {
        let (key, first) = entry(1);
        let second = KnownEvent { uid: EventId::numbered(Millis(9_000), Seq(50), 7), ..first };
        let sealed = Sealed::of(5, [(key, second), (key, first)]);
        assert_eq!(find(&sealed.pages[0].1, &key), Some(second));
    }

    #[test]
    fn damaged_filters_are_refused() {
        assert_eq!(Filter::from_bytes(&[]), None);
        assert_eq!(Filter::from_bytes(&[0; 63]), None);
        assert_eq!(Filter::from_bytes(&[0; 72]), None);
    }

    #[test]
    fn old_segments_come_in_turn() {
        let mut index = KeyIndex::default();
        for n in 1..=5 {
            index.sealed(Sealed::of(n, [entry(n as u64)]).segment);
        }
        let ids = |segments: Vec<Segment>| segments.iter().map(|s| s.id).collect::<Vec<_>>();
        assert_eq!(ids(index.old(Millis(1_004), 2)), [1, 2]);
        assert_eq!(ids(index.old(Millis(1_004), 2)), [3]);
        assert_eq!(ids(index.old(Millis(1_004), 2)), [1, 2]);
        index.replace(1, None);
        assert_eq!(ids(index.old(Millis(1_004), 2)), [3]);
        assert_eq!(ids(index.old(Millis(1_004), 2)), [2, 3]);
    }
}
