//! The extended sequence numbers of one association: what the high half of a packet's number is (RFC 4304, OV2-SA-6).

use core::sync::atomic::{AtomicU64, Ordering};

use ipsec::esn;
use ndis::Status;

/// Low half of the reference of an association under which nothing was sent or verified: the numbers nearest to it are those with its own high half
/// (OV2-SA-6: the first packet's high half is taken as it stands).
const MIDDLE: u64 = (1 << 31) - 1;

/// Where the numbers of an association with extended sequence numbers are. Shared by all lanes.
pub(super) struct Numbers {
    /// Outbound: the highest number sent. Inbound: where numbers are until one was verified, or where an update says that they are.
    reference: AtomicU64,
    /// Inbound: the highest number verified; 0 = none.
    highest: AtomicU64,
}

impl Numbers {
    /// Nothing has been sent or verified yet; the first number has this high half.
    pub(super) const fn new(high: u32) -> Self {
        Self { reference: AtomicU64::new((high as u64) << 32 | MIDDLE), highest: AtomicU64::new(0) }
    }

    /// The number of a packet to be sent: the nearest to the highest sent. It counts as sent from here on.
    #[inline]
    pub(super) fn outbound(&self, low: u32) -> u64 {
        let sequence = esn::nearest(low, self.reference.load(Ordering::Relaxed));
        // Several lanes send under one SA: the reference never goes back. MIDDLE above the first numbers of a high half does no harm, because they are
        // all nearest to it.
        raise(&self.reference, sequence);
        sequence
    }

    /// The number that a received packet is taken to have.
    #[inline]
    pub(super) fn inbound(&self, low: u32, window: u32) -> u64 {
        let highest = self.highest.load(Ordering::Relaxed);
        let reference = self.reference.load(Ordering::Relaxed);
        let updated = reference as u32 == 0 && reference > highest;
        if highest == 0 || updated { esn::nearest(low, reference) } else { esn::infer(low, highest, window) }
    }

    /// Whether the high half of received numbers hangs on a packet that is still to be verified.
    #[inline]
    pub(super) fn is_unverified(&self) -> bool {
        self.highest.load(Ordering::Relaxed) == 0
    }

    /// Notes the number of a packet whose ICV was good.
    #[inline]
    pub(super) fn authentic(&self, sequence: u64) {
        raise(&self.highest, sequence);
    }

    /// UPDATE_SA: sets the high half, around the wrap of the low one. What is late or repeated changes nothing.
    ///
    /// The boundary becomes the reference: the low halves nearest to it are those before and after the wrap, whichever packets come first.
    ///
    /// # Errors
    /// [`Status::INVALID_PARAMETER`] for an outbound association that would go back.
    pub(super) fn update(&self, high: u32, inbound: bool) -> Result<(), Status> {
        let reference = self.reference.load(Ordering::Relaxed);
        let seen = if inbound { self.highest.load(Ordering::Relaxed).max(reference) } else { reference };
        let now = (seen >> 32) as u32;
        if high < now && !inbound {
            return Err(Status::INVALID_PARAMETER);
        }
        if high > now {
            raise(&self.reference, u64::from(high) << 32);
        }
        Ok(())
    }
}

/// Numbers of packets that are sent one after the other: as by [`Numbers::outbound`] of each, but what lanes share is read once and written once.
pub(super) struct Row<'a> {
    numbers: &'a Numbers,
    highest: u64,
}

impl<'a> Row<'a> {
    pub(super) fn new(numbers: &'a Numbers) -> Self {
        Self { numbers, highest: numbers.reference.load(Ordering::Relaxed) }
    }

    /// Reads again what lanes share: it may have been written since the row ended.
    pub(super) fn begin(&mut self) {
        *self = Self::new(self.numbers);
    }

    /// The number of the next packet. It counts as sent when the row is [ended](Self::end).
    #[inline]
    pub(super) fn next(&mut self, low: u32) -> u64 {
        let sequence = esn::nearest(low, self.highest);
        self.highest = self.highest.max(sequence);
        sequence
    }

    /// Lets the other lanes and the next packets know.
    #[inline]
    pub(super) fn end(&self) {
        raise(&self.numbers.reference, self.highest);
    }
}

/// Sets `cell` to `value` if that is higher; one load if it is not.
#[inline]
fn raise(cell: &AtomicU64, value: u64) {
    if cell.load(Ordering::Relaxed) < value {
        cell.fetch_max(value, Ordering::Relaxed);
    }
}
