//! What becomes of packets: verdicts, reasons, counters. Every packet ends in exactly one counter.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use ndis::{CryptoStatus, Operation};
use packet::Spi;

use crate::packet_reason::PacketReason;

/// Most IPsec headers of one packet: AH and ESP, in transport mode over tunnel mode.
pub const MAX_ASSOCIATIONS: usize = 4;

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// The ICV is wrong.
    AuthFailed,
    /// The packet's IPsec headers are not those of its SA.
    InvalidProtocol,
    /// Lengths or fields in the packet do not fit.
    Malformed,
    /// The packet was cut before it came here.
    Truncated,
    /// Its sequence number was received before.
    Replayed,
    /// Its sequence number is left of the replay window.
    TooOld,
    /// Policy discards it, or it is not what its SA may carry.
    Policy,
    /// A fragment, which cannot be protected or opened as it is.
    Fragment,
    /// A dummy packet of traffic flow confidentiality (next header 59).
    Dummy,
    /// It needs something that is not supported.
    Unsupported,
    /// The SA's sequence numbers are used up.
    SequenceExhausted,
    /// The SA's life is over.
    Expired,
    /// Policy protects it, and there is no SA to do so.
    NoSa,
    /// It would be longer than an IP packet can be, or than its buffer.
    TooBig,
    /// The adapter refused it although it asked for nothing.
    Refused,
    /// The adapter does not run, and the backlog is full.
    BacklogFull,
    /// The SA must be offloaded ([`OffloadPolicy::Require`](crate::OffloadPolicy::Require)), and the adapter has not done this packet.
    NotOffloaded,
}

impl DropReason {
    /// All reasons, in order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::AuthFailed,
        Self::InvalidProtocol,
        Self::Malformed,
        Self::Truncated,
        Self::Replayed,
        Self::TooOld,
        Self::Policy,
        Self::Fragment,
        Self::Dummy,
        Self::Unsupported,
        Self::SequenceExhausted,
        Self::Expired,
        Self::NoSa,
        Self::TooBig,
        Self::Refused,
        Self::BacklogFull,
        Self::NotOffloaded,
    ];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AuthFailed => "auth-failed",
            Self::InvalidProtocol => "invalid-protocol",
            Self::Malformed => "malformed",
            Self::Truncated => "truncated",
            Self::Replayed => "replayed",
            Self::TooOld => "too-old",
            Self::Policy => "policy",
            Self::Fragment => "fragment",
            Self::Dummy => "dummy",
            Self::Unsupported => "unsupported",
            Self::SequenceExhausted => "sequence-exhausted",
            Self::Expired => "expired",
            Self::NoSa => "no-sa",
            Self::TooBig => "too-big",
            Self::Refused => "refused",
            Self::BacklogFull => "backlog-full",
            Self::NotOffloaded => "not-offloaded",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What became of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its protection was good and was taken off.
    Delivered,
    /// No SA matched: it came up as it was. Whether clear text may go on is the policy's business.
    Passed,
    /// It ended here.
    Dropped(DropReason),
}

/// A security association that a received packet matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssociationSeen {
    /// ESP or AH.
    pub operation: Operation,
    /// SPI.
    pub spi: Spi,
    /// The packet's 64-bit sequence number; of SAs without extended numbers the 32 bits in the packet.
    pub sequence: u64,
}

/// Everything that is known about a received packet's way through the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundVerdict {
    /// The frame's mark.
    pub tag: u64,
    /// The NIC checked at least one IPsec portion.
    pub crypto_done: bool,
    /// The NIC checked the transport and the tunnel portion.
    pub next_crypto_done: bool,
    /// What the NIC found; `None` unless `crypto_done`.
    pub crypto_status: Option<CryptoStatus>,
    /// The associations that matched, outermost first.
    pub associations: ArrayVec<AssociationSeen, MAX_ASSOCIATIONS>,
    /// What became of the packet.
    pub verdict: Verdict,
}

/// A count that one lane adds to and anybody reads: no read-modify-write, and no wrap.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning lane does.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_add(n), Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A count of packets and their bytes.
#[derive(Debug, Default)]
pub struct Tally {
    packets: Counter,
    bytes: Counter,
}

impl Tally {
    /// Adds one packet.
    #[inline]
    pub fn add(&self, bytes: usize) {
        self.add_all(1, bytes as u64);
    }

    /// Adds packets that have so many bytes together.
    #[inline]
    pub fn add_all(&self, packets: u64, bytes: u64) {
        self.packets.add(packets);
        self.bytes.add(bytes);
    }
}

/// Packets and bytes at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Their bytes: IP packets as they were before protection, or as they came in.
    pub bytes: u64,
}

impl core::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl From<&Tally> for Count {
    fn from(tally: &Tally) -> Self {
        Self { packets: tally.packets.get(), bytes: tally.bytes.get() }
    }
}

/// Counters of one direction of one lane. A packet is counted in `seen` as it comes, and in exactly one of the others as it ends.
#[derive(Debug, Default)]
pub struct WayCounters {
    /// Packets that were handed in.
    pub seen: Tally,
    /// Protected, or opened, by the NIC: all of it.
    pub offloaded: Tally,
    /// Protected, or opened, in software: all of it, or the part that the NIC did not do.
    pub software: Tally,
    /// The same packets, by why it was software.
    pub reasons: [Counter; PacketReason::ALL.len()],
    /// Went by in clear: bypassed by policy, or passed up because no SA matched.
    pub clear: Tally,
    /// Dropped, by reason.
    pub dropped: [Tally; DropReason::ALL.len()],
    /// Sends that the NIC gave back and that software then protected; they count under `software` when they are done.
    pub retried: Counter,
    /// Dummy packets that were sent (RFC 4303 section 2.6). They are among none of the others: nobody handed them in.
    pub dummies: Tally,
    /// Large packets that were cut here and not by the NIC, by why; their segments are packets, and count as such.
    pub cut: [Counter; PacketReason::ALL.len()],
}

impl WayCounters {
    /// Adds packets that software did, for this reason.
    #[inline]
    pub fn add_software(&self, reason: PacketReason, packets: u64, bytes: u64) {
        self.software.add_all(packets, bytes);
        self.reasons[reason as usize].add(packets);
    }
}

/// [`WayCounters`] at one moment, summed over lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WayCounts {
    /// Packets that were handed in.
    pub seen: Count,
    /// Protected, or opened, by the NIC.
    pub offloaded: Count,
    /// Protected, or opened, in software.
    pub software: Count,
    /// The packets done in software by why they were, in the order of [`PacketReason::ALL`]: together they are those of `software`.
    pub reasons: [u64; PacketReason::ALL.len()],
    /// Went by in clear.
    pub clear: Count,
    /// Dropped, by reason, in the order of [`DropReason::ALL`].
    pub dropped: [Count; DropReason::ALL.len()],
    /// Sends that the NIC gave back and that software then protected.
    pub retried: u64,
    /// Dummy packets that were sent, which are among none of the others.
    pub dummies: Count,
    /// Large packets that were cut here and not by the NIC, by why, in the order of [`PacketReason::ALL`].
    pub cut: [u64; PacketReason::ALL.len()],
}

impl WayCounts {
    /// Adds a lane's counters.
    pub fn add(&mut self, counters: &WayCounters) {
        self.seen += (&counters.seen).into();
        self.offloaded += (&counters.offloaded).into();
        self.software += (&counters.software).into();
        for (sum, counter) in self.cut.iter_mut().zip(&counters.cut) {
            *sum = sum.saturating_add(counter.get());
        }
        for (sum, counter) in self.reasons.iter_mut().zip(&counters.reasons) {
            *sum = sum.saturating_add(counter.get());
        }
        self.clear += (&counters.clear).into();
        for (sum, tally) in self.dropped.iter_mut().zip(&counters.dropped) {
            *sum += tally.into();
        }
        self.retried = self.retried.saturating_add(counters.retried.get());
        self.dummies += (&counters.dummies).into();
    }

    /// Done in software for `reason`.
    pub const fn software_for(&self, reason: PacketReason) -> u64 {
        self.reasons[reason as usize]
    }

    /// Dropped for `reason`.
    pub const fn dropped_for(&self, reason: DropReason) -> Count {
        self.dropped[reason as usize]
    }

    /// Dropped for any reason.
    pub fn dropped_total(&self) -> Count {
        self.dropped.iter().fold(Count::default(), |mut sum, count| {
            sum += *count;
            sum
        })
    }

    /// Packets that have ended; `seen` less these are under way.
    pub fn ended(&self) -> u64 {
        [self.software, self.clear, self.dropped_total()].iter().fold(self.offloaded.packets, |sum, count| sum.saturating_add(count.packets))
    }
}

/// Both directions of one lane.
#[derive(Debug, Default)]
pub struct LaneCounters {
    /// Out to the wire.
    pub outbound: WayCounters,
    /// In from the wire.
    pub inbound: WayCounters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_as_they_are_listed_and_named_apart() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        for (number, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
    }

    /// counts pass 2^32 without a loss, of a lane and summed over lanes, and end at 2^64 - 1 without beginning again.
    #[test]
    fn r_39_counts_pass_32_bits_and_do_not_wrap_at_64() {
        const EDGE: u64 = 1 << 32;
        let counter = Counter::default();
        for (add, count) in [(EDGE - 1, EDGE - 1), (1, EDGE), (1, EDGE + 1), (u64::MAX, u64::MAX), (1, u64::MAX)] {
            counter.add(add);
            assert_eq!(counter.get(), count);
        }
        let (lane, other) = (WayCounters::default(), WayCounters::default());
        lane.seen.add_all(EDGE - 1, u64::MAX - 1);
        lane.seen.add(1500);
        lane.dropped[DropReason::Replayed as usize].add_all(EDGE - 1, EDGE - 1);
        lane.dropped[DropReason::Replayed as usize].add(1);
        lane.offloaded.add_all(EDGE, 1);
        lane.retried.add(EDGE + 1);
        other.seen.add_all(EDGE + 1, 1);
        other.dropped[DropReason::Replayed as usize].add(1);
        other.software.add_all(1, 1);
        other.retried.add(u64::MAX - EDGE);
        let mut counts = WayCounts::default();
        counts.add(&lane);
        counts.add(&other);
        assert_eq!(counts.seen, Count { packets: 2 * EDGE + 1, bytes: u64::MAX });
        assert_eq!(counts.dropped_for(DropReason::Replayed), Count { packets: EDGE + 1, bytes: EDGE + 1 });
        assert_eq!((counts.dropped_total().packets, counts.ended(), counts.retried), (EDGE + 1, 2 * EDGE + 2, u64::MAX));
    }
}
