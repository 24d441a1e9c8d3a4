//! The receive index: from a key to the slots that may hold it.
//!
//! An open hash table of cache-line buckets. A bucket has seven cells and a count of the entries that wanted to be in it
//! or before it and went past it because it was full. A search starts at the key's home bucket and goes on only while
//! that count is not zero: a miss costs one cache line, and a deletion leaves nothing behind but a smaller count. Entries
//! never move, and an entry holds up the counts on its own way, so a search that runs beside changes never misses an
//! entry that is there throughout.
//!
//! The index only proposes. A cell says "SPI, slot, which of the slot's keys"; the reader compares the whole key in the
//! slot after it has seen the slot live, so the cells need no ordering of their own. Only the holder of the control mutex
//! writes.

use crate::fetch::prefetch;
use crate::key::{Key, Seed};
use crate::sync::{AtomicU64, Ordering};

/// Keys that one value can be found by.
pub const MAX_KEYS: usize = 2;

/// Cells of a bucket: with the count they fill a cache line.
#[cfg(not(loom))]
const CELLS: usize = 7;
/// Few under loom, so that a model of three entries overflows.
#[cfg(loom)]
const CELLS: usize = 2;

#[repr(C, align(64))]
struct Bucket {
    cells: [AtomicU64; CELLS],
    passed: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 64, "a bucket is one cache line");

/// A slot and one of its keys, as a cell names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) slot: usize,
    pub(crate) key: usize,
}

impl Entry {
    /// SPI in the upper half; in the lower half one more than slot and key number, so that no entry is zero.
    fn cell(self, spi: u32) -> u64 {
        u64::from(spi) << 32 | (self.slot * MAX_KEYS + self.key + 1) as u64
    }

    #[inline(always)]
    fn from_cell(cell: u64, spi: u32) -> Option<Self> {
        let place = (cell as u32).checked_sub(1)? as usize;
        ((cell >> 32) as u32 == spi).then_some(Self { slot: place / MAX_KEYS, key: place % MAX_KEYS })
    }
}

pub(crate) struct Index {
    buckets: Box<[Bucket]>,
    seed: Seed,
}

impl Index {
    /// An index for `capacity` slots of [`MAX_KEYS`] keys each, at most half full.
    pub(crate) fn new(capacity: usize, seed: Seed) -> Self {
        let buckets = (capacity * MAX_KEYS * 2).div_ceil(CELLS);
        Self { buckets: empty_buckets(buckets), seed }
    }

    /// The entries that may stand for `key`, each at most once.
    #[inline(always)]
    pub(crate) fn probe(&self, key: &Key) -> Probe {
        Probe { spi: key.spi, bucket: self.home(key), cell: 0, left: self.buckets.len() }
    }

    /// Begins to fetch where a search for `key` begins.
    #[inline(always)]
    pub(crate) fn prefetch(&self, key: &Key) {
        if let Some(bucket) = self.buckets.get(self.home(key)) {
            prefetch(bucket);
        }
    }

    /// Enters `entry` under `key`. The caller holds the control mutex and enters nothing twice.
    pub(crate) fn insert(&self, key: &Key, entry: Entry) {
        let home = self.home(key);
        let free = self.round(home).find_map(|(distance, bucket)| {
            let cell = bucket.cells.iter().find(|cell| cell.load(Ordering::Relaxed) == 0)?;
            Some((distance, cell))
        });
        // At most half of the cells are ever used.
        let Some((distance, cell)) = free else { unreachable!("the index has room for every key of every slot") };
        for (_, bucket) in self.round(home).take(distance) {
            bucket.passed.store(bucket.passed.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        cell.store(entry.cell(key.spi), Ordering::Relaxed);
    }

    /// Takes `entry` out from under `key`. The caller holds the control mutex and has entered it.
    pub(crate) fn remove(&self, key: &Key, entry: Entry) {
        let home = self.home(key);
        let word = entry.cell(key.spi);
        let found = self.round(home).find_map(|(distance, bucket)| {
            let cell = bucket.cells.iter().find(|cell| cell.load(Ordering::Relaxed) == word)?;
            Some((distance, cell))
        });
        let Some((distance, cell)) = found else { unreachable!("an entry stays where it was put") };
        cell.store(0, Ordering::Relaxed);
        for (_, bucket) in self.round(home).take(distance) {
            bucket.passed.store(bucket.passed.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        }
    }

    /// The key's home bucket: the hash scaled to the number of buckets.
    #[inline(always)]
    fn home(&self, key: &Key) -> usize {
        ((u64::from(self.seed.hash(key)) * self.buckets.len() as u64) >> 32) as usize
    }

    /// All buckets from `home` on, once around, numbered.
    fn round(&self, home: usize) -> impl Iterator<Item = (usize, &Bucket)> {
        let (before, after) = self.buckets.split_at(home);
        after.iter().chain(before).enumerate()
    }

    /// Entries past their home bucket, for tests.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn passed(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.passed.load(Ordering::Relaxed)).sum()
    }
}

/// A walk through the entries of one key; holds no borrow, so that a guard's iterator can keep it.
pub(crate) struct Probe {
    spi: u32,
    bucket: usize,
    cell: usize,
    /// Buckets that may still be visited: a walk ends after one round, whatever the counts say.
    left: usize,
}

impl Probe {
    /// The next entry whose SPI fits.
    #[inline]
    pub(crate) fn next(&mut self, index: &Index) -> Option<Entry> {
        while self.left > 0 {
            let bucket = index.buckets.get(self.bucket)?;
            while let Some(cell) = bucket.cells.get(self.cell) {
                self.cell += 1;
                if let Some(entry) = Entry::from_cell(cell.load(Ordering::Relaxed), self.spi) {
                    return Some(entry);
                }
            }
            if bucket.passed.load(Ordering::Relaxed) == 0 {
                self.left = 0;
                return None;
            }
            self.left -= 1;
            self.cell = 0;
            self.bucket += 1;
            if self.bucket == index.buckets.len() {
                self.bucket = 0;
            }
        }
        None
    }
}

#[cfg(not(loom))]
fn empty_buckets(count: usize) -> Box<[Bucket]> {
    // Zeroed by the system where it can be: memory that no key needs is never touched.
    let buckets = Box::<[Bucket]>::new_zeroed_slice(count);
    // SAFETY: a bucket consists of atomic integers, for which all bits zero is a value.
    unsafe { buckets.assume_init() }
}

#[cfg(loom)]
fn empty_buckets(count: usize) -> Box<[Bucket]> {
    let bucket = |_| Bucket { cells: std::array::from_fn(|_| AtomicU64::new(0)), passed: AtomicU64::new(0) };
    (0..count).map(bucket).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn all(index: &Index, key: &Key) -> Vec<usize> {
        let mut probe = index.probe(key);
        let mut slots: Vec<_> = std::iter::from_fn(|| probe.next(index)).map(|entry| entry.slot).collect();
        slots.sort_unstable();
        slots
    }

    /// With a zero seed every key has the same home, the last bucket included when the table is one bucket.
    #[test]
    fn overflow_is_followed_and_leaves_no_trace() {
        let index = Index::new(64, Seed::new([u64::MAX, 0, 0, 0, 0, 0, 0]));
        let keys: Vec<_> = (0..64).map(|n| Key::v4(n + 1, [10, 0, 0, n as u8])).collect();
        assert_eq!(index.home(&keys[0]), index.buckets.len() - 1, "the walk wraps around");
        for (slot, key) in keys.iter().enumerate() {
            index.insert(key, Entry { slot, key: 0 });
        }
        // 64 entries over buckets of 7: the n-th group of 7 passes n buckets.
        assert_eq!(index.passed(), (0..64).map(|n| n / 7).sum::<u64>());
        for (slot, key) in keys.iter().enumerate() {
            assert_eq!(all(&index, key), [slot]);
        }
        assert_eq!(all(&index, &Key::v4(65, [10, 0, 0, 64])), [0_usize; 0]);
        // Front to back, so that later entries sit behind emptied buckets.
        for (slot, key) in keys.iter().enumerate() {
            index.remove(key, Entry { slot, key: 0 });
            assert_eq!(all(&index, key), [0_usize; 0]);
            if let Some(last) = keys.last().filter(|last| *last != key) {
                assert_eq!(all(&index, last), [63]);
            }
        }
        assert_eq!(index.passed(), 0);
    }

    #[test]
    fn entries_of_one_spi_are_told_apart_by_slot_and_key() {
        let index = Index::new(4, Seed::new([0; 7]));
        let key = Key::v4(7, [10, 0, 0, 1]);
        for slot in 0..4 {
            for number in 0..MAX_KEYS {
                index.insert(&key, Entry { slot, key: number });
            }
        }
        assert_eq!(all(&index, &key), [0, 0, 1, 1, 2, 2, 3, 3]);
        index.remove(&key, Entry { slot: 2, key: 1 });
        assert_eq!(all(&index, &key), [0, 0, 1, 1, 2, 3, 3]);
    }
}
