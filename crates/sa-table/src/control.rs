//! What the control mutex guards: which slot is where, and when removals began.

use crate::lane::{IDLE, LaneState};
use crate::sync::{Arc, Ordering, fence, seeded_bug};

/// The control side's state. Nothing in here grows with use but the list of lanes.
pub(crate) struct Control {
    /// The generation last given out, by slot.
    pub(crate) generations: Box<[u64]>,
    /// When the removal began, by slot in the queue of removals.
    pub(crate) stamps: Box<[u64]>,
    /// The next slot of the list that a slot is in.
    pub(crate) links: Box<[u32]>,
    /// Slots from here on were never used.
    pub(crate) fresh: usize,
    pub(crate) free: List,
    pub(crate) removing: List,
    pub(crate) live: usize,
    pub(crate) retired: usize,
    pub(crate) wildcards: usize,
    /// The clock's value.
    pub(crate) time: u64,
    pub(crate) lanes: Vec<Arc<LaneState>>,
}

impl Control {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            generations: vec![0; capacity].into_boxed_slice(),
            stamps: vec![0; capacity].into_boxed_slice(),
            links: vec![0; capacity].into_boxed_slice(),
            fresh: 0,
            free: List::default(),
            removing: List::default(),
            live: 0,
            retired: 0,
            wildcards: 0,
            time: IDLE + 1,
            lanes: Vec::new(),
        }
    }

    /// The newest time such that removals up to it are out of every lane's sight and use.
    pub(crate) fn horizon(&self) -> u64 {
        if seeded_bug("skipped_grace") {
            return u64::MAX;
        }
        // Pairs with the fence of `Lane::enter`: a lane that looks idle below sees all removals when it enters.
        fence(Ordering::SeqCst);
        self.lanes.iter().map(|lane| lane.horizon()).min().unwrap_or(u64::MAX)
    }

    /// Slots that are not worn out.
    pub(crate) fn usable(&self) -> usize {
        self.generations.len() - self.retired
    }

    /// The slot for the next value: the one that has been free longest, or one never used.
    pub(crate) fn free_slot(&self) -> Option<usize> {
        self.free.first().or_else(|| (self.fresh < self.generations.len()).then_some(self.fresh))
    }

    /// Takes the slot that `free_slot` returned into its next generation.
    pub(crate) fn take_free(&mut self, index: usize) {
        if self.free.pop(&self.links).is_none() {
            self.fresh += 1;
        }
        self.generations[index] += 1;
        self.live += 1;
    }

    /// Takes the oldest removal off the queue, if it began no later than `horizon`.
    pub(crate) fn next_waiting(&mut self, horizon: u64) -> Option<(usize, u64)> {
        let stamp = self.stamps[self.removing.first()?];
        if stamp > horizon {
            return None;
        }
        let index = self.removing.pop(&self.links)?;
        Some((index, stamp))
    }
}

/// A queue of slots, linked through `Control::links`: first in, first out.
#[derive(Clone, Copy, Default)]
pub(crate) struct List {
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) len: usize,
}

impl List {
    pub(crate) fn first(&self) -> Option<usize> {
        (self.len > 0).then_some(self.first as usize)
    }

    pub(crate) fn push(&mut self, links: &mut [u32], index: usize) {
        let number = index as u32;
        if self.len == 0 {
            self.first = number;
        } else {
            links[self.last as usize] = number;
        }
        self.last = number;
        self.len += 1;
    }

    pub(crate) fn pop(&mut self, links: &[u32]) -> Option<usize> {
        let index = self.first()?;
        self.len -= 1;
        self.first = links[index];
        Some(index)
    }
}
