//! The progress page: a few words of memory that parent and lane share.
//!
//! A lane that is stuck in a script, or dead, cannot be asked. So it leaves on this page what it
//! executes ([`Progress`]), which of its runs it has begun, and, if it panics, its last words. The
//! parent only looks, and takes back runs that were not begun.
//!
//! All of it is atomics, so either side may write anything at any time: the parent takes what it
//! reads for a claim and checks it against what it knows. The file behind it is sealed, so a lane
//! cannot shrink it under the parent's feet.

#![allow(unsafe_code, reason = "maps memory shared with another process; see Page::cells")]

#[cfg(target_os = "linux")]
use std::io;
use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

use super::{
    RunKey,
    protocol::{ContextId, Progress},
};

/// Runs that may be in flight in one lane: one claim word each.
pub(super) const SLOTS: usize = 2_048;

/// What a dying lane may say, in bytes.
const WORDS_BYTES: usize = 480;

/// Names a run inside one lane: a counter that never repeats above the number of a claim word.
/// Never zero. Travels as the [`RunKey`] of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl Ticket {
    pub(super) fn new(count: u64, slot: usize) -> Self {
        debug_assert!(count > 0 && slot < SLOTS, "ticket {count} of slot {slot}");
        Self(count * SLOTS as u64 + slot as u64)
    }

    pub(super) const fn slot(self) -> usize {
        // Below SLOTS whatever a lane made of it.
        (self.0 % SLOTS as u64) as usize
    }

    pub(super) const fn key(self) -> RunKey {
        RunKey(self.0)
    }

    pub(super) const fn from_key(key: RunKey) -> Self {
        Self(key.0)
    }
}

/// Marks of a claim word beside the ticket; tickets stay below 2^62 for 70,000 years.
const BEGUN: u64 = 1 << 62;
const RECALLED: u64 = 1 << 63;

#[repr(C)]
struct Cells {
    /// Ticket of the run whose script executes; 0 for none.
    running: AtomicU64,
    /// Grows with every stretch of script code.
    beats: AtomicU64,
    words_length: AtomicU32,
    words: [AtomicU8; WORDS_BYTES],
    claims: [AtomicU64; SLOTS],
}

/// One side's view of the page. Cheap to clone; views in one process share one mapping.
#[derive(Clone)]
pub(super) struct Page(Arc<Memory>);

enum Memory {
    /// Thread lanes share the heap.
    Heap(Box<Cells>),
    #[cfg(target_os = "linux")]
    Map(memmap2::MmapRaw),
}

/// What the page says at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) running: Option<u64>,
    pub(super) beats: u64,
}

impl Page {
    /// A page for a lane in this process.
    pub(super) fn on_heap() -> Self {
        Self(Arc::new(Memory::Heap(Box::new(Cells {
            running: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            words_length: AtomicU32::new(0),
            words: [const { AtomicU8::new(0) }; WORDS_BYTES],
            claims: [const { AtomicU64::new(0) }; SLOTS],
        }))))
    }

    /// A page for a lane in a child process, and the file to hand to it.
    #[cfg(target_os = "linux")]
    pub(super) fn in_memory_file() -> io::Result<(Self, std::fs::File)> {
        use std::os::fd::{AsRawFd, FromRawFd};

        // SAFETY: a call without memory effects; the name is a constant C string.
        let fd = unsafe {
            libc::memfd_create(
                c"tripline-lane".as_ptr(),
                libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and nobody else has it.
        let file = unsafe { std::fs::File::from_raw_fd(fd) };
        file.set_len(size_of::<Cells>() as u64)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: a call without memory effects on a descriptor that is ours.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((Self::map(&file)?, file))
    }

    /// Maps the page behind `file`, as [`Page::in_memory_file`] made it.
    #[cfg(target_os = "linux")]
    pub(super) fn map(file: &std::fs::File) -> io::Result<Self> {
        let map = memmap2::MmapOptions::new().len(size_of::<Cells>()).map_raw(file)?;
        if file.metadata()?.len() < size_of::<Cells>() as u64 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "progress page is too short"));
        }
        Ok(Self(Arc::new(Memory::Map(map))))
    }

    fn cells(&self) -> &Cells {
        match &*self.0 {
            Memory::Heap(cells) => cells,
            // SAFETY: the mapping lives as long as `self`, is page aligned and, by the check and
            // the seals above, as long as `Cells`. `Cells` is atomics only, for which any bit
            // pattern is valid and writes from elsewhere are expected.
            #[cfg(target_os = "linux")]
            Memory::Map(map) => unsafe { &*map.as_ptr().cast::<Cells>() },
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let cells = self.cells();
        let running = cells.running.load(Ordering::Acquire);
        Snapshot {
            running: (running != 0).then_some(running),
            beats: cells.beats.load(Ordering::Acquire),
        }
    }

    /// Parent: announces a run before it is sent.
    pub(super) fn offer(&self, ticket: Ticket) {
        self.cells().claims[ticket.slot()].store(ticket.0, Ordering::Release);
    }

    /// Parent: takes a run back. False when the lane has begun it.
    pub(super) fn recall(&self, ticket: Ticket) -> bool {
        self.claim(ticket, RECALLED)
    }

    /// Parent: true when the lane began this run.
    pub(super) fn begun(&self, ticket: Ticket) -> bool {
        self.cells().claims[ticket.slot()].load(Ordering::Acquire) == ticket.0 | BEGUN
    }

    fn claim(&self, ticket: Ticket, mark: u64) -> bool {
        self.cells().claims[ticket.slot()]
            .compare_exchange(ticket.0, ticket.0 | mark, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Lane: what it has to say before it ends; kept once, cut to what fits.
    pub(super) fn say(&self, words: &str) {
        let cells = self.cells();
        let mut end = words.len().min(WORDS_BYTES);
        while !words.is_char_boundary(end) {
            end -= 1;
        }
        for (cell, byte) in cells.words.iter().zip(words[..end].bytes()) {
            cell.store(byte, Ordering::Relaxed);
        }
        cells.words_length.store(end as u32, Ordering::Release);
    }

    /// Parent: the lane's last words.
    pub(super) fn words(&self) -> Option<String> {
        let cells = self.cells();
        let length = cells.words_length.load(Ordering::Acquire) as usize;
        let bytes: Vec<u8> =
            cells.words.iter().take(length).map(|cell| cell.load(Ordering::Relaxed)).collect();
        (length > 0).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Progress for Page {
    fn claim(&self, run: RunKey) -> bool {
        Page::claim(self, Ticket::from_key(run), BEGUN)
    }

    fn begin(&self, _: ContextId, run: RunKey) {
        let cells = self.cells();
        cells.running.store(run.0, Ordering::Release);
        // One writer: no need for a locked addition.
        cells.beats.store(cells.beats.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    fn end(&self) {
        self.cells().running.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn both_sides_of_a_memory_file_see_the_same_page() {
        let (parent, file) = Page::in_memory_file().expect("a page");
        let lane = Page::map(&file).expect("the same page");
        let ticket = Ticket::new(7, 3);
        parent.offer(ticket);
        assert!(Progress::claim(&lane, ticket.key()));
        lane.begin(ContextId(1), ticket.key());
        assert_eq!(parent.snapshot(), Snapshot { running: Some(ticket.key().0), beats: 1 });
        lane.end();
        assert_eq!(parent.snapshot().running, None);
        assert!(parent.begun(ticket));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_lane_cannot_shrink_the_page() {
        let (_parent, file) = Page::in_memory_file().expect("a page");
        assert!(file.set_len(0).is_err());
    }

    /// Either the lane begins a run or the parent gets it back; never both, never neither.
    #[test]
    fn a_run_is_begun_or_recalled() {
        let page = Page::on_heap();
        let (begun, recalled) = (Ticket::new(1, 0), Ticket::new(2, 1));
        page.offer(begun);
        page.offer(recalled);
        assert!(Progress::claim(&page, begun.key()));
        assert!(!page.recall(begun));
        assert!(page.recall(recalled));
        assert!(!Progress::claim(&page, recalled.key()));
        // A claim word in its next use knows nothing of the last.
        page.offer(Ticket::new(3, 0));
        assert!(!Progress::claim(&page, begun.key()));
        assert!(page.recall(Ticket::new(3, 0)));
    }

    #[test]
    fn last_words_are_cut_to_what_fits() {
        let page = Page::on_heap();
        assert_eq!(page.words(), None);
        page.say(&"ä".repeat(WORDS_BYTES));
        assert_eq!(page.words(), Some("ä".repeat(WORDS_BYTES / 2)));
    }
}
