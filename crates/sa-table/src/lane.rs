//! Readers: lanes, the guard of a batch, and look-ups.

use std::fmt;

use crate::handle::Handle;
use crate::index::Probe;
use crate::key::Key;
use crate::sync::{Arc, AtomicU64, Ordering, fence, seeded_bug};
use crate::table::Shared;

/// Epoch of a lane that is in no batch. The clock starts above it.
pub(crate) const IDLE: u64 = 0;

/// What a lane shows to the control side, on cache lines of its own (two, because neighbours are fetched in pairs).
#[repr(align(128))]
pub(crate) struct LaneState {
    /// [`IDLE`], or what the clock showed when the lane entered its batch.
    epoch: AtomicU64,
}

impl LaneState {
    pub(crate) fn new() -> Self {
        Self { epoch: AtomicU64::new(IDLE) }
    }

    /// The newest removal, as the clock counts them, that this lane cannot get in the way of.
    ///
    /// The caller has passed a sequentially consistent fence after the removals that it asks for were unpublished.
    pub(crate) fn horizon(&self) -> u64 {
        // Acquire: everything that the lane read in batches before the one shown here (or before it went idle) happens
        // before what the caller does next, which is to drop.
        match self.epoch.load(Ordering::Acquire) {
            IDLE => u64::MAX,
            epoch => epoch,
        }
    }
}

/// A reader of a table: one per worker, owned by it. Dropping it unregisters it.
///
/// Made by [`SaTable::register_lane`](crate::SaTable::register_lane), at any time.
pub struct Lane<T: Send + Sync> {
    shared: Arc<Shared<T>>,
    state: Arc<LaneState>,
}

impl<T: Send + Sync> Lane<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>, state: Arc<LaneState>) -> Self {
        Self { shared, state }
    }

    /// Begins a batch. What the guard finds stays valid until it is dropped; a value that is removed meanwhile is
    /// dropped only after that. So guards live for one batch, not longer.
    ///
    /// Costs a load, a store to the lane's own cache line and a fence; the guard's drop costs a store.
    #[inline]
    pub fn enter(&mut self) -> Guard<'_, T> {
        // Acquire: if this shows a removal's time, then the removal is visible too, and waits for this batch no more.
        let now = self.shared.now();
        // Release: the reads of earlier batches happen before a removal that sees this epoch.
        let order = if seeded_bug("relaxed_enter") { Ordering::Relaxed } else { Ordering::Release };
        self.state.epoch.store(now, order);
        // Either the control side sees the epoch, or the look-ups below see the removal.
        if !seeded_bug("missing_fence") {
            fence(Ordering::SeqCst);
        }
        Guard { shared: &self.shared, state: &self.state }
    }
}

impl<T: Send + Sync> Drop for Lane<T> {
    fn drop(&mut self) {
        self.shared.unregister(&self.state);
    }
}

impl<T: Send + Sync> fmt::Debug for Lane<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

/// A batch of a [`Lane`]: looks values up and keeps them valid.
pub struct Guard<'lane, T: Send + Sync> {
    shared: &'lane Shared<T>,
    state: &'lane LaneState,
}

impl<T: Send + Sync> Guard<'_, T> {
    /// The value that `handle` names, if it names a live one of this table.
    ///
    /// Touches the slot's first cache line, and whatever of the value the caller reads.
    #[inline(always)]
    pub fn get(&self, handle: Handle) -> Option<&T> {
        let slot = self.shared.slot(handle)?;
        if slot.live() != handle.to_bits() {
            return None;
        }
        // SAFETY: the slot was seen live within this guard, which the result borrows.
        Some(unsafe { slot.value() })
    }

    /// Begins to fetch what [`get`](Self::get) of `handle` reads, and the first lines of the value. Who asks for all of a batch before he looks up the first
    /// waits for memory once and not for each.
    #[inline]
    pub fn prefetch(&self, handle: Handle) {
        if let Some(slot) = self.shared.slot(handle) {
            slot.prefetch();
        }
    }

    /// Begins to fetch what [`find`](Self::find) of `key` reads first, the index.
    #[inline]
    pub fn prefetch_index(&self, key: &Key) {
        self.shared.index().prefetch(key);
    }

    /// Reads the index, which [`prefetch_index`](Self::prefetch_index) has fetched, and begins to fetch what [`find`](Self::find) of `key` reads then, and the
    /// first lines of the values.
    #[inline]
    pub fn prefetch_values(&self, key: &Key) {
        let mut probe = self.shared.index().probe(key);
        while let Some(entry) = probe.next(self.shared.index()) {
            self.shared.prefetch(entry);
        }
    }

    /// The values under `key`, then those under its wildcard (same SPI and family, no destination), each with its
    /// handle. The caller picks by source address and operation (OV2-RECV-3).
    ///
    /// A miss touches one cache line of the index (with wildcards in the table two), a hit also the slot's first.
    #[inline]
    pub fn find(&self, key: &Key) -> Hits<'_, T> {
        Hits { shared: self.shared, key: *key, probe: self.shared.index().probe(key), wildcard: self.shared.has_wildcards() && !key.is_wildcard() }
    }
}

impl<T: Send + Sync> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release: the reads of this batch happen before a removal that sees the lane idle.
        let order = if seeded_bug("relaxed_exit") { Ordering::Relaxed } else { Ordering::Release };
        self.state.epoch.store(IDLE, order);
    }
}

impl<T: Send + Sync> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// Iterator of [`Guard::find`].
pub struct Hits<'guard, T: Send + Sync> {
    shared: &'guard Shared<T>,
    key: Key,
    probe: Probe,
    /// Whether the wildcard key is still to be looked up.
    wildcard: bool,
}

impl<'guard, T: Send + Sync> Iterator for Hits<'guard, T> {
    type Item = (Handle, &'guard T);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some(entry) = self.probe.next(self.shared.index()) {
                // SAFETY: the guard that this iterator borrows was entered before the slot is looked at.
                if let Some(hit) = unsafe { self.shared.confirm(entry, &self.key) } {
                    return Some(hit);
                }
            }
            if !self.wildcard {
                return None;
            }
            self.wildcard = false;
            self.key = self.key.wildcard();
            self.probe = self.shared.index().probe(&self.key);
        }
    }
}

impl<T: Send + Sync> std::iter::FusedIterator for Hits<'_, T> {}

impl<T: Send + Sync> fmt::Debug for Hits<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hits").field("key", &self.key).finish_non_exhaustive()
    }
}
