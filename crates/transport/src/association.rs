//! A security association within a bundle: its SPI, its numbers or its replay window, and where the NIC is in them.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipsec::{ReplayWindow, SequenceCounter, WindowError};
use ndis::{Direction, Operation};
use packet::Spi;

use crate::parameters::AssociationParameters;

/// One security association. Each has numbers of its own, also where two make a bundle (OV2-SA-2).
pub(crate) struct Association {
    pub(crate) operation: Operation,
    pub(crate) spi: Spi,
    /// Whether its numbers are 64 bit.
    pub(crate) extended: bool,
    counting: Counting,
    /// Inbound: the first number's high half, in its place.
    first: u64,
    /// Where the NIC is in the numbers.
    pub(crate) nic: NicNumbers,
}

/// What only associations of one direction have.
enum Counting {
    Outbound(SequenceCounter),
    /// Locked once for a run of packets; an inbound SA belongs to one lane, so nobody waits.
    Inbound(Mutex<ReplayWindow>),
}

impl Association {
    /// An association that begins where the parameters say.
    ///
    /// # Errors
    /// A size that no window can have.
    pub(crate) fn new(parameters: &AssociationParameters, direction: Direction, window: u32) -> Result<Self, WindowError> {
        let high = parameters.sequence_number_high;
        let first = u64::from(high) << 32;
        let extended = parameters.extended_sequence_numbers;
        let counting = match direction {
            Direction::Outbound => Counting::Outbound(SequenceCounter::new(extended, first | u64::from(parameters.sequence_number))),
            Direction::Inbound => Counting::Inbound(Mutex::new(ReplayWindow::with_high(window, high)?)),
        };
        Ok(Self { operation: parameters.operation, spi: parameters.spi, extended, counting, first, nic: NicNumbers::default() })
    }

    /// The numbers of an outbound association; `None` for an inbound one.
    #[inline]
    pub(crate) const fn counter(&self) -> Option<&SequenceCounter> {
        match &self.counting {
            Counting::Outbound(counter) => Some(counter),
            Counting::Inbound(_) => None,
        }
    }

    /// The replay state of an inbound association; `None` for an outbound one.
    #[inline]
    pub(crate) fn replay(&self) -> Option<MutexGuard<'_, ReplayWindow>> {
        match &self.counting {
            // A lane that panicked inside leaves a window that is still a window: at worst it has not noted the last number, and that packet was not delivered.
            Counting::Inbound(replay) => Some(replay.lock().unwrap_or_else(PoisonError::into_inner)),
            Counting::Outbound(_) => None,
        }
    }

    /// The last number that it can use.
    #[inline]
    pub(crate) const fn limit(&self) -> u64 {
        if self.extended { u64::MAX } else { u32::MAX as u64 }
    }

    /// Whether an outbound association has used its last number.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.counter().is_some_and(|counter| counter.remaining() == 0)
    }

    /// The 64-bit number of a received packet with this low half, as far as `window` can tell (RFC 4303 appendix A2.2); without extended numbers the low
    /// half is all there is.
    #[inline]
    pub(crate) fn infer(&self, window: &ReplayWindow, low: u32) -> u64 {
        if self.extended { window.infer(low) } else { u64::from(low) }
    }

    /// Whether the NIC, which has opened a packet, has taken it for this extended number: its half is that of the highest verified number, and the one that
    /// the NIC is known to be in.
    #[inline]
    pub(crate) fn is_where_the_nic_is(&self, window: &ReplayWindow, sequence: u64) -> bool {
        let high = (sequence >> 32) as u32;
        high == self.nic.high() && window.highest().is_none_or(|highest| (highest >> 32) as u32 == high)
    }

    /// The number by which the NIC shall know where the numbers are: the next one to be used (outbound), the highest verified, and before the first
    /// the high half of the parameters (inbound).
    pub(crate) fn reference(&self) -> u64 {
        match &self.counting {
            Counting::Outbound(counter) => counter.last().saturating_add(1),
            Counting::Inbound(_) => self.replay().and_then(|window| window.highest()).unwrap_or(self.first),
        }
    }

    /// Highest number used (outbound) or verified (inbound); 0 before the first.
    pub(crate) fn sequence(&self) -> u64 {
        match &self.counting {
            Counting::Outbound(counter) => counter.last(),
            Counting::Inbound(_) => self.replay().and_then(|window| window.highest()).unwrap_or(0),
        }
    }
}

/// What the transport knows of the place that the NIC has in an SA's extended sequence numbers. Packets carry only the low half, and each side makes the
/// high one up by itself; where they disagree a packet is lost on the way in, and on the way out a nonce is used twice. So the NIC gets, and is believed,
/// only what is certain; the rest is done in software, and the NIC is told where the numbers are (OV2-TRANS-5).
#[derive(Debug, Default)]
pub(crate) struct NicNumbers {
    /// The high half that is certain. Outbound: that of ADD_SA, and then of each UPDATE_SA that the NIC has taken. Inbound: that of ADD_SA, and then of the
    /// highest number that the NIC is known to have verified.
    high: AtomicU32,
    /// The highest high half that the control side was asked to tell the NIC of.
    asked: AtomicU32,
    /// Outbound: the highest number handed to the NIC since it has the SA; 0: none.
    last: AtomicU64,
    /// Outbound: the first number that it could have been handed.
    base: AtomicU64,
    /// The control side was asked to add the SA anew.
    renewing: AtomicBool,
}

impl NicNumbers {
    /// How far the numbers may go while it is not sure where the NIC is: a quarter of what a low half tells. So what it was handed and gave back, and
    /// what it is handed next, together stay within the half that it takes a low half to be in.
    const FAR: u64 = 1 << 30;

    /// The SA is about to be offered, and `next` is the number that comes next.
    pub(crate) fn begin(&self, next: u64) {
        let high = (next >> 32) as u32;
        self.high.store(high, Ordering::Relaxed);
        self.asked.store(high, Ordering::Relaxed);
        self.last.store(0, Ordering::Relaxed);
        self.base.store(next, Ordering::Relaxed);
        self.renewing.store(false, Ordering::Relaxed);
    }

    /// The control side has seen to it.
    pub(crate) fn renewed(&self) {
        self.renewing.store(false, Ordering::Relaxed);
    }

    /// The NIC is in this half, or beyond. One load, but for the first time.
    #[inline]
    pub(crate) fn updated(&self, high: u32) {
        if self.high() < high {
            self.high.fetch_max(high, Ordering::Relaxed);
        }
    }

    /// The high half that is certain.
    #[inline]
    pub(crate) fn high(&self) -> u32 {
        self.high.load(Ordering::Relaxed)
    }

    /// Whether the control side has to tell the NIC of this high half; yes only once.
    #[inline]
    pub(crate) fn must_tell(&self, high: u32) -> bool {
        self.asked.load(Ordering::Relaxed) < high && self.asked.fetch_max(high, Ordering::Relaxed) < high
    }

    /// Whether the NIC will take the low half of an outbound `sequence` for that number and no other (OV2-SA-6).
    #[inline]
    pub(crate) fn is_certain(&self, sequence: u64) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let near = last == 0 || sequence.abs_diff(last) <= Self::FAR;
        near && (sequence >> 32) as u32 == self.high() && !self.renewing.load(Ordering::Relaxed)
    }

    /// The NIC gets a packet with a number that is [certain](Self::is_certain).
    #[inline]
    pub(crate) fn handed_over(&self, sequence: u64) {
        if sequence > self.last.load(Ordering::Relaxed) {
            self.last.fetch_max(sequence, Ordering::Relaxed);
        }
    }

    /// Whether so many numbers have gone by since the NIC was last seen to be at one that it must get the SA anew. Yes only once.
    ///
    /// `failed`: the NIC has just given this number back, so that what was handed over says nothing of where it is.
    #[inline]
    pub(crate) fn must_renew(&self, sequence: u64, failed: bool) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let from = if failed || last == 0 { self.base.load(Ordering::Relaxed) } else { last };
        sequence.saturating_sub(from) > Self::FAR && !self.renewing.swap(true, Ordering::Relaxed)
    }
}
