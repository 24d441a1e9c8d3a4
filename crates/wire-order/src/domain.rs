//! A domain: what is kept in order, and the runs that wait for their turn.

use core::fmt;
use std::sync::PoisonError;

use crate::spare::Spare;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, fence, seeded_bug};

/// A sequence of numbers that workers take runs of, and that reach the wire in order. `F` is a frame.
///
/// Shared by all outlets that send under it, in an `Arc`: an outlet that has taken a turn holds on to it.
pub struct Domain<F> {
    /// All numbers up to this one are on the wire, or given up. Written only by who has the turn.
    released: AtomicU64,
    /// Runs in the lot. Written only under the lot's lock.
    parked: AtomicUsize,
    /// Which of its turns in this domain an outlet has taken last; only a hint, and of any outlet.
    hint: AtomicUsize,
    lot: Mutex<Lot<F>>,
    /// How many frames the lot holds.
    room: usize,
}

/// Where runs wait for their turn.
struct Lot<F> {
    runs: Vec<Run<F>>,
    frames: usize,
    /// Vectors of runs that have been sent.
    spare: Spare<F>,
}

/// Consecutive numbers, and the frames that were made under them: none if all of them were dropped on the way.
pub(crate) struct Run<F> {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) frames: Vec<F>,
}

impl<F> Domain<F> {
    /// A domain whose first number is `released` + 1, and where up to `room` frames wait for their turn without their workers.
    pub fn new(released: u64, room: usize) -> Self {
        // Vectors are seldom full.
        let lot = Lot { runs: Vec::new(), frames: 0, spare: Spare::new(room.saturating_mul(4)) };
        Self { released: AtomicU64::new(released), parked: AtomicUsize::new(0), hint: AtomicUsize::new(0), lot: Mutex::new(lot), room }
    }

    /// The number up to which all are on the wire, or given up.
    pub fn released(&self) -> u64 {
        self.released.load(Ordering::Acquire)
    }

    /// How many frames wait for their turn in the lot.
    pub fn waiting(&self) -> usize {
        self.lot().frames
    }

    /// Says that all numbers up to this one were used elsewhere: those of packets that were sent before anybody took turns.
    ///
    /// Not to be called while an outlet has a turn here.
    pub fn skip_to(&self, released: u64) {
        self.released.store(released, Ordering::Release);
    }

    /// Whether it is the turn of the run that begins with `first`. Once it is, it stays so until that run is released.
    #[inline]
    pub(crate) fn is_due(&self, first: u64) -> bool {
        self.released().wrapping_add(1) == first
    }

    /// Where an outlet may have noted its last turn here.
    #[inline]
    pub(crate) fn hint(&self) -> usize {
        self.hint.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set_hint(&self, place: usize) {
        self.hint.store(place, Ordering::Relaxed);
    }

    /// The run that ends with `last`, and whose turn it was, is on the wire. To be followed by a look for [the next](Self::next_due).
    #[inline]
    pub(crate) fn release(&self, last: u64) {
        // Whoever finds that it is his turn finds, too, what was sent before.
        let order = if seeded_bug("relaxed_release") { Ordering::Relaxed } else { Ordering::Release };
        self.released.store(last, order);
        if !seeded_bug("no_fence_after_release") {
            // Before the look into the lot; the other half is in `park`.
            fence(Ordering::SeqCst);
        }
    }

    /// Takes the run whose turn it is out of the lot, if it is there: whoever gets it sends and releases it. `sent` is a vector that is no longer used; a run that
    /// has one takes it along, and leaves that one in its place.
    #[inline]
    pub(crate) fn next_due(&self, sent: &mut Vec<F>) -> Option<Run<F>> {
        if self.parked.load(Ordering::Relaxed) == 0 { None } else { self.take_due(sent) }
    }

    #[cold]
    fn take_due(&self, sent: &mut Vec<F>) -> Option<Run<F>> {
        let mut lot = self.lot();
        let at = lot.runs.iter().position(|run| self.is_due(run.first))?;
        let run = self.take(&mut lot, at);
        if run.frames.capacity() != 0 {
            lot.spare.keep(core::mem::take(sent));
        }
        Some(run)
    }

    /// Releases the runs in the lot whose turn it is, as long as they have no frames. Whether the next one has.
    pub(crate) fn skip_empty(&self) -> bool {
        loop {
            let mut lot = self.lot();
            let Some((at, run)) = lot.runs.iter().enumerate().find(|(_, run)| self.is_due(run.first)) else { return false };
            if !run.frames.is_empty() {
                return true;
            }
            let run = self.take(&mut lot, at);
            drop(lot);
            self.release(run.last);
        }
    }

    fn take(&self, lot: &mut Lot<F>, at: usize) -> Run<F> {
        let run = lot.runs.swap_remove(at);
        lot.frames -= run.frames.len();
        self.parked.store(lot.runs.len(), Ordering::Relaxed);
        run
    }

    /// Leaves a run whose turn has not come in the lot, with its frames, and an empty vector in their place, of a run that was here before if there is one. Whether there was room; a run without frames needs
    /// none. To be followed by a look for [the next](Self::next_due): its turn may have come meanwhile.
    pub(crate) fn park(&self, first: u64, last: u64, frames: &mut Vec<F>) -> bool {
        let mut lot = self.lot();
        if !frames.is_empty() && lot.frames + frames.len() > self.room && !seeded_bug("no_bound") {
            return false;
        }
        lot.frames += frames.len();
        let frames = if frames.is_empty() { Vec::new() } else { core::mem::replace(frames, lot.spare.take()) };
        lot.runs.push(Run { first, last, frames });
        self.parked.store(lot.runs.len(), Ordering::Relaxed);
        drop(lot);
        if !seeded_bug("no_fence_after_park") {
            // Before the look at what is released; the other half is in `release`.
            fence(Ordering::SeqCst);
        }
        true
    }

    /// A thread that panicked under the lock leaves a lot that is whole: every change is one step.
    fn lot(&self) -> MutexGuard<'_, Lot<F>> {
        self.lot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> fmt::Debug for Domain<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").field("released", &self.released()).field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}
