//! An allocator that knows which memory is in use, how much it is, and looks for a key in it and in what is given back. For test binaries that test nothing else
//! at the same time: it counts the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// Blocks that can be in use at the same time.
const BLOCKS: usize = 1 << 15;

static STARTS: [AtomicPtr<u8>; BLOCKS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; BLOCKS];
static SIZES: [AtomicUsize; BLOCKS] = [const { AtomicUsize::new(0) }; BLOCKS];
static LIVE: AtomicIsize = AtomicIsize::new(0);
static OVERFLOW: AtomicBool = AtomicBool::new(false);
static SCAN: AtomicBool = AtomicBool::new(false);
static FREED: AtomicUsize = AtomicUsize::new(0);
/// What the pattern is written under, wherever it is copied: a copy on the stack would be found in the memory that the stack is moved to.
const COVER: u8 = 0xA5;
/// What is looked for in memory that is given back, covered.
static PATTERN: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

struct Scanning;

fn note(pointer: *mut u8, size: usize) {
    if pointer.is_null() {
        return;
    }
    LIVE.fetch_add(size.cast_signed(), Ordering::Relaxed);
    let home = pointer.addr() >> 4;
    for step in 0..BLOCKS {
        let at = (home + step) % BLOCKS;
        if STARTS[at].compare_exchange(core::ptr::null_mut(), pointer, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            SIZES[at].store(size, Ordering::Release);
            return;
        }
    }
    OVERFLOW.store(true, Ordering::Relaxed);
}

fn forget(pointer: *mut u8, size: usize) {
    LIVE.fetch_sub(size.cast_signed(), Ordering::Relaxed);
    if SCAN.load(Ordering::Relaxed) {
        let mut pattern = [0; 16];
        pattern[..8].copy_from_slice(&PATTERN[0].load(Ordering::Relaxed).to_ne_bytes());
        pattern[8..].copy_from_slice(&PATTERN[1].load(Ordering::Relaxed).to_ne_bytes());
        FREED.fetch_add(count(pointer, size, &pattern), Ordering::Relaxed);
    }
    let home = pointer.addr() >> 4;
    for step in 0..BLOCKS {
        let at = (home + step) % BLOCKS;
        if STARTS[at].load(Ordering::Acquire) == pointer {
            SIZES[at].store(0, Ordering::Release);
            STARTS[at].store(core::ptr::null_mut(), Ordering::Release);
            return;
        }
    }
}

/// How often the pattern, which is given covered, is in a block.
fn count(start: *const u8, size: usize, pattern: &[u8; 16]) -> usize {
    let byte = |at: usize| {
        let place = start.wrapping_add(at);
        // SAFETY: the block is allocated and has `size` bytes. A volatile read takes what is there, written or not, as a look at a memory dump does.
        unsafe { place.read_volatile() }
    };
    (0..(size + 1).saturating_sub(pattern.len())).filter(|&at| pattern.iter().enumerate().all(|(offset, wanted)| byte(at + offset) ^ COVER == *wanted)).count()
}

// SAFETY: every call goes to the system's allocator unchanged; the books are static and need no allocation.
unsafe impl GlobalAlloc for Scanning {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the system allocator's.
        let pointer = unsafe { System.alloc(layout) };
        note(pointer, layout.size());
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        forget(pointer, layout.size());
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Scanning = Scanning;

/// Bytes in use.
pub(crate) fn live() -> isize {
    LIVE.load(Ordering::Relaxed)
}

fn cover(pattern: &[u8]) -> [u8; 16] {
    core::array::from_fn(|at| pattern[at] ^ COVER)
}

/// How often `pattern`, 16 bytes, is in memory that is in use.
pub(crate) fn find(pattern: &[u8]) -> usize {
    assert!(!OVERFLOW.load(Ordering::Relaxed), "more blocks than there is room for in the books");
    let pattern = cover(pattern);
    STARTS.iter().zip(&SIZES).map(|(start, size)| count(start.load(Ordering::Acquire), size.load(Ordering::Acquire), &pattern)).sum()
}

/// How often `pattern`, 16 bytes, was in memory that `work` gave back.
pub(crate) fn freed(pattern: &[u8], work: impl FnOnce()) -> usize {
    let pattern = cover(pattern);
    let (first, second) = pattern.split_at(8);
    PATTERN[0].store(u64::from_ne_bytes(first.try_into().expect("8 bytes")), Ordering::Relaxed);
    PATTERN[1].store(u64::from_ne_bytes(second.try_into().expect("8 bytes")), Ordering::Relaxed);
    FREED.store(0, Ordering::Relaxed);
    SCAN.store(true, Ordering::Relaxed);
    work();
    SCAN.store(false, Ordering::Relaxed);
    FREED.load(Ordering::Relaxed)
}
