//! One slot: who is in it, and under which keys. All of the crate's unsafe code about values is here.

use std::mem::MaybeUninit;

use crate::fetch::prefetch;
use crate::handle::Handle;
use crate::index::MAX_KEYS;
use crate::key::Key;
use crate::sync::{AtomicU64, Ordering, UnsafeCell, seeded_bug};

pub(crate) type Keys = [Option<Key>; MAX_KEYS];

/// The live handle (or zero), the keys that receive compares and the value, from the start of a cache line. A look-up by
/// handle compares the first word and goes on to the value; a look-up by key reads the rest of the first line too.
#[repr(C, align(64))]
pub(crate) struct Slot<T> {
    live: AtomicU64,
    keys: UnsafeCell<MaybeUninit<Keys>>,
    value: UnsafeCell<MaybeUninit<T>>,
}

#[cfg(not(loom))]
const _: () = assert!(std::mem::offset_of!(Slot<u64>, value) == 56, "handle, keys and the value's first word share a line");

impl<T> Slot<T> {
    /// The handle of the value in the slot, zero without one. What the handle's publication released is visible after it.
    #[inline(always)]
    pub(crate) fn live(&self) -> u64 {
        self.live.load(Ordering::Acquire)
    }

    /// Begins to fetch the slot's lines, or the first of them.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        prefetch(self);
    }

    /// Writes keys and value.
    ///
    /// # Safety
    /// The slot is not live, no reader can hold a reference into it (it is fresh, or its grace period is over), it holds
    /// no value that still has to be dropped, and the caller holds the control mutex.
    pub(crate) unsafe fn fill(&self, keys: Keys, value: T) {
        self.keys.with_mut(|cell| {
            // SAFETY: the cell is valid, and by the contract nobody else accesses it.
            unsafe { cell.write(MaybeUninit::new(keys)) }
        });
        self.value.with_mut(|cell| {
            // SAFETY: the cell is valid, and by the contract nobody else accesses it.
            unsafe { cell.write(MaybeUninit::new(value)) }
        });
    }

    /// Publishes what [`fill`](Self::fill) wrote: whoever loads the handle sees keys and value complete.
    pub(crate) fn publish(&self, handle: Handle) {
        let order = if seeded_bug("relaxed_publication") { Ordering::Relaxed } else { Ordering::Release };
        self.live.store(handle.to_bits(), order);
    }

    /// Takes the handle away. Relaxed, because what has to come after it (clock, fence) orders it.
    pub(crate) fn unpublish(&self) {
        self.live.store(0, Ordering::Relaxed);
    }

    /// The keys.
    ///
    /// # Safety
    /// The caller has seen the slot live, and for the returned lifetime either is in a guard entered before that, or
    /// holds the control mutex.
    #[inline(always)]
    pub(crate) unsafe fn keys<'a>(&self) -> &'a Keys {
        self.keys.with(|cell| {
            // SAFETY: the keys were written before the slot became live, and by the contract they are not written again
            // while the reference lives.
            unsafe { &*cell.cast::<Keys>() }
        })
    }

    /// The value.
    ///
    /// # Safety
    /// As for [`keys`](Self::keys).
    #[inline(always)]
    pub(crate) unsafe fn value<'a>(&self) -> &'a T {
        self.value.with(|cell| {
            // SAFETY: the value was written before the slot became live, and by the contract it is neither dropped nor
            // written while the reference lives.
            unsafe { &*cell.cast::<T>() }
        })
    }

    /// Drops the value where it lies and zeroes its bytes, so that nothing of it stays behind, moved copies included.
    ///
    /// # Safety
    /// The slot holds a value (filled, and not erased since), is no longer live, no reader can hold a reference into it,
    /// and the caller holds the control mutex or owns the table.
    pub(crate) unsafe fn erase(&self) {
        self.value.with_mut(|cell| {
            let value = cell.cast::<T>();
            // SAFETY: by the contract the value is there, and this is the only access to it.
            unsafe { value.drop_in_place() };
            // SAFETY: the cell is valid for writes of its size; what it held has been dropped.
            unsafe { value.cast::<u8>().write_bytes(0, size_of::<T>()) };
        });
        // The zeroes are stores to memory that outlives this call; the fence keeps the compiler from deferring them.
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
    }
}

#[cfg(not(loom))]
pub(crate) fn empty_slots<T>(count: usize) -> Box<[Slot<T>]> {
    // Zeroed by the system where it can be: a slot that is never used is never touched.
    let slots = Box::<[Slot<T>]>::new_zeroed_slice(count);
    // SAFETY: a slot is an atomic integer, for which zero is a value (not live), and cells that may be uninitialised.
    unsafe { slots.assume_init() }
}

#[cfg(loom)]
pub(crate) fn empty_slots<T>(count: usize) -> Box<[Slot<T>]> {
    let slot = |_| Slot { live: AtomicU64::new(0), keys: UnsafeCell::new(MaybeUninit::uninit()), value: UnsafeCell::new(MaybeUninit::uninit()) };
    (0..count).map(slot).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A value's bytes are gone with it, those included that no destructor clears.
    #[test]
    fn erased_bytes_are_zero() {
        let slots = empty_slots::<[u8; 48]>(1);
        let slot = &slots[0];
        // SAFETY: the slot is fresh, and nobody else has it.
        unsafe { slot.fill([None; MAX_KEYS], [0xa5; 48]) };
        let bytes = || {
            slot.value.with(|cell| {
                // SAFETY: the bytes were written, and nobody writes now.
                unsafe { cell.cast::<[u8; 48]>().read() }
            })
        };
        assert_eq!(bytes(), [0xa5; 48]);
        // SAFETY: the slot was filled, was never live, and nobody else has it.
        unsafe { slot.erase() };
        assert_eq!(bytes(), [0; 48]);
    }
}
