//! The heap of one runtime: counted and limited where the engine asks for memory.
//!
//! The engine has a limit of its own, but keeps to itself when it bites: a script may catch the
//! error, or see `null` thrown because not even the error fits; and parts of the engine, its
//! compiler above all, crash where a small allocation fails. Here reaching the limit leaves a mark
//! that stops the script at the next look at the meter, small allocations are served from a
//! reserve until then, and what is in use can be read at any time for nothing.

use std::{cell::Cell, rc::Rc};

use rquickjs::allocator::Allocator;

/// What a runtime may take beyond its limit on the way to its stop. It also holds the error that
/// stops a script with a full heap: without it a `null` is thrown that the script can catch, and
/// an endless loop around that never ends (FACTS 3).
const RESERVE_BYTES: usize = 4 << 20;

/// From this size on there is no reserve: what is asked for is refused.
const LARGE_BYTES: usize = 64 << 10;

/// Shared between the allocator, which counts, and the engine, which sets the limit and asks.
#[derive(Debug)]
pub(super) struct Heap {
    used: Cell<usize>,
    limit: Cell<usize>,
    exhausted: Cell<bool>,
}

impl Heap {
    /// Without a limit: one too low while the globals are built would abort inside the engine.
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            used: Cell::new(0),
            limit: Cell::new(usize::MAX),
            exhausted: Cell::new(false),
        })
    }

    pub(super) fn used(&self) -> usize {
        self.used.get()
    }

    /// From now on at most `bytes` beyond what is in use.
    pub(super) fn limit_to(&self, bytes: usize) {
        self.limit.set(self.used.get().saturating_add(bytes));
    }

    /// True once the limit was reached.
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted.get()
    }

    /// True when `more` bytes are to be had.
    fn admits(&self, more: usize) -> bool {
        let Some(sum) = self.used.get().checked_add(more) else {
            self.exhausted.set(true);
            return false;
        };
        if sum <= self.limit.get() {
            return true;
        }
        self.exhausted.set(true);
        more < LARGE_BYTES && sum <= self.limit.get().saturating_add(RESERVE_BYTES)
    }

    fn add(&self, bytes: usize) {
        self.used.set(self.used.get().saturating_add(bytes));
    }

    fn subtract(&self, bytes: usize) {
        self.used.set(self.used.get().saturating_sub(bytes));
    }
}

/// The C allocator, counted.
pub(super) struct Counted(pub(super) Rc<Heap>);

fn usable(pointer: *mut u8) -> usize {
    // SAFETY: null, or a block of the C allocator that is not freed: the trait's contract.
    unsafe { libc::malloc_usable_size(pointer.cast()) }
}

// SAFETY: every method is the C allocator's function of the same meaning, which keeps the trait's
// promises on size and alignment; a refusal is the null pointer that the trait allows.
unsafe impl Allocator for Counted {
    fn alloc(&mut self, size: usize) -> *mut u8 {
        if !self.0.admits(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: malloc takes any size.
        let pointer: *mut u8 = unsafe { libc::malloc(size) }.cast();
        self.0.add(usable(pointer));
        pointer
    }

    fn calloc(&mut self, count: usize, size: usize) -> *mut u8 {
        if !count.checked_mul(size).is_some_and(|bytes| self.0.admits(bytes)) {
            return std::ptr::null_mut();
        }
        // SAFETY: calloc takes any count and size.
        let pointer: *mut u8 = unsafe { libc::calloc(count, size) }.cast();
        self.0.add(usable(pointer));
        pointer
    }

    unsafe fn dealloc(&mut self, pointer: *mut u8) {
        self.0.subtract(usable(pointer));
        // SAFETY: the caller hands over a live block of this allocator.
        unsafe { libc::free(pointer.cast()) };
    }

    unsafe fn realloc(&mut self, pointer: *mut u8, new_size: usize) -> *mut u8 {
        let old = usable(pointer);
        if !self.0.admits(new_size.saturating_sub(old)) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller hands over a live block of this allocator.
        let moved: *mut u8 = unsafe { libc::realloc(pointer.cast(), new_size) }.cast();
        if !moved.is_null() {
            self.0.subtract(old);
            self.0.add(usable(moved));
        }
        moved
    }

    unsafe fn usable_size(pointer: *mut u8) -> usize {
        usable(pointer)
    }
}
