//! Handles: index, generation and table tag in one word.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of the tag that tells one table's handles from another's.
const TAG_BITS: u32 = 12;
/// Bits that index and generation share.
const LOCAL_BITS: u32 = u64::BITS - TAG_BITS;

/// Names one value of one [`SaTable`](crate::SaTable): never zero, never given out twice by the same table
/// (OV2-SA-5).
///
/// To its holder it is opaque. Inside it holds, from the low end, the slot's index (as many bits as the table's capacity
/// needs), the slot's generation (the rest of 52 bits) and a 12-bit tag of the table. A table therefore gives out about
/// 2^52 handles, whatever its capacity (a million additions a second for 142 years), and a slot with the last generation
/// behind it is retired for good. Tags are numbered through within the process, so the handles of two tables are
/// distinct unless 4,096 tables were made between them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(NonZeroU64);

impl Handle {
    /// The handle as a plain number, for an ABI's handle field.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// The handle with these bits; `None` for zero, which names nothing. Any other number is a handle, and the table
    /// that is asked for it says whether it names a value.
    #[inline]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match NonZeroU64::new(bits) {
            Some(bits) => Some(Self(bits)),
            None => None,
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({:#018x})", self.0)
    }
}

/// How one table cuts its handles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    index_bits: u32,
    tag: u64,
    last_generation: u64,
}

impl Geometry {
    /// The cut for `capacity` slots (at least one), with a fresh tag.
    pub(crate) fn new(capacity: usize) -> Self {
        // Shared by all tables of the process, models included: it orders nothing.
        static NEXT_TAG: AtomicU64 = AtomicU64::new(0);
        let index_bits = usize::BITS - (capacity - 1).leading_zeros();
        Self { index_bits, tag: NEXT_TAG.fetch_add(1, Ordering::Relaxed) % (1 << TAG_BITS), last_generation: (1 << (LOCAL_BITS - index_bits)) - 1 }
    }

    /// The same cut, but slots wear out after `generations` uses: makes wear testable.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn with_last_generation(mut self, generations: u64) -> Self {
        self.last_generation = generations;
        self
    }

    /// The generation after which a slot is retired.
    pub(crate) fn last_generation(self) -> u64 {
        self.last_generation
    }

    /// The slot that a handle claims; it may lie outside the table.
    #[inline(always)]
    pub(crate) fn index(self, handle: Handle) -> usize {
        (handle.to_bits() & ((1 << self.index_bits) - 1)) as usize
    }

    /// The handle of a slot's `generation`, which is at least 1; that makes it non-zero.
    pub(crate) fn handle(self, index: usize, generation: u64) -> Handle {
        debug_assert!((1..=self.last_generation).contains(&generation));
        let bits = self.tag << LOCAL_BITS | generation << self.index_bits | index as u64;
        Handle(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MAX))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn cut_is_exact_at_the_edges() {
        for (capacity, bits) in [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1 << 20, 20), ((1 << 20) + 1, 21), (1 << 24, 24)] {
            let geometry = Geometry::new(capacity);
            assert_eq!(geometry.index_bits, bits, "{capacity}");
            assert_eq!(geometry.last_generation(), (1 << (52 - bits)) - 1);
            for index in [0, capacity - 1] {
                for generation in [1, geometry.last_generation()] {
                    let handle = geometry.handle(index, generation);
                    assert_eq!(geometry.index(handle), index);
                    assert_eq!(handle.to_bits() >> LOCAL_BITS, geometry.tag);
                    assert_eq!((handle.to_bits() & ((1 << LOCAL_BITS) - 1)) >> bits, generation);
                    assert_eq!(Handle::from_bits(handle.to_bits()), Some(handle));
                }
            }
        }
        assert_eq!(Handle::from_bits(0), None);
    }

    #[test]
    fn neighbouring_tables_have_different_tags() {
        assert_ne!(Geometry::new(4).tag, Geometry::new(4).tag);
    }
}
