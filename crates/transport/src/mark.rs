//! What the transport notes of a packet that is on its way out, in the protocol's own words of its net buffer list.

use ndis::{NetBufferList, ProtocolReserved};
use sa_table::Handle;

use crate::packet_reason::PacketReason;
use crate::verdict::DropReason;

/// What was done to a packet that is on its way; its list says so until it is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Goes out in clear, by policy.
    Clear,
    /// Sealed in software: every bit is final.
    Software,
    /// The NIC is asked to seal it, all of it or its outermost bundle.
    Offload,
    /// Ended here, for this reason.
    Dropped(DropReason),
}

/// The words that the transport writes into a list that it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) work: Work,
    /// The SA that policy names, unless it goes in clear.
    pub(crate) sa: Option<Handle>,
    /// It came back once, and was sent again.
    pub(crate) again: bool,
    /// The NIC is asked for the tunnel only; what goes through it was sealed in software.
    pub(crate) hybrid: bool,
    /// A dummy packet: no counter of packets knows of it.
    pub(crate) dummy: bool,
    /// Why software does it, if it does.
    pub(crate) reason: PacketReason,
    /// Of a packet whose checksum is still to be computed: the length of the headers in front of its segment before protection; 0 of all others.
    pub(crate) headers: u16,
    /// Length of the IP packet before protection, for the counters.
    pub(crate) length: u32,
}

impl Mark {
    const AGAIN: u64 = 1 << 8;
    const HYBRID: u64 = 1 << 9;
    const DUMMY: u64 = 1 << 10;
    /// Five bits of the reason.
    const REASON: u32 = 11;
    const HEADERS: u32 = 16;

    #[inline]
    pub(crate) const fn clear(length: usize) -> Self {
        Self { work: Work::Clear, sa: None, again: false, hybrid: false, dummy: false, reason: PacketReason::SaNotOffloaded, headers: 0, length: length as u32 }
    }

    /// The words of a list.
    #[inline]
    pub(crate) const fn words(self) -> ProtocolReserved {
        let work = match self.work {
            Work::Software => 1,
            Work::Offload => 2,
            Work::Clear => 3,
            Work::Dropped(reason) => 0x80 | reason as u64,
        };
        let flags = (self.again as u64 * Self::AGAIN) | (self.hybrid as u64 * Self::HYBRID) | (self.dummy as u64 * Self::DUMMY);
        let sa = match self.sa {
            Some(handle) => handle.to_bits(),
            None => 0,
        };
        let headers = (self.headers as u64) << Self::HEADERS;
        [sa, work | flags | headers | (self.reason as u64) << Self::REASON | (self.length as u64) << 32]
    }

    fn from_words([sa, word]: ProtocolReserved) -> Self {
        let work = match word as u8 {
            // Nobody has written a word: a list about which nothing is known goes nowhere.
            0 => Work::Dropped(DropReason::Policy),
            1 => Work::Software,
            2 => Work::Offload,
            3 => Work::Clear,
            dropped => Work::Dropped(DropReason::ALL[usize::from(dropped & 0x7f) % DropReason::ALL.len()]),
        };
        Self {
            work,
            sa: Handle::from_bits(sa),
            again: word & Self::AGAIN != 0,
            hybrid: word & Self::HYBRID != 0,
            dummy: word & Self::DUMMY != 0,
            reason: PacketReason::from_number((word >> Self::REASON) as u8 & 0x1f),
            headers: (word >> Self::HEADERS) as u16,
            length: (word >> 32) as u32,
        }
    }

    /// What nearly all lists that were sent say: how long the packet was, and whether the NIC sealed all of it or software did, because the NIC has not its SA.
    /// `None` of any other.
    #[inline]
    pub(crate) const fn read_plain(nbl: &NetBufferList) -> Option<(bool, u32)> {
        let word = nbl.protocol_reserved[1];
        match word as u32 {
            1 => Some((false, (word >> 32) as u32)),
            2 => Some((true, (word >> 32) as u32)),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn write(self, nbl: &mut NetBufferList) {
        nbl.protocol_reserved = self.words();
    }

    #[inline]
    pub(crate) fn read(nbl: &NetBufferList) -> Self {
        Self::from_words(nbl.protocol_reserved)
    }

    pub(crate) const fn is_dropped(self) -> bool {
        matches!(self.work, Work::Dropped(_))
    }
}

/// The packet of this list ends here.
pub(crate) fn mark_dropped(nbl: &mut NetBufferList, reason: DropReason) {
    drop_words(&mut nbl.protocol_reserved, reason);
}

/// The same for a list of which only the words can be touched, because somebody works on its buffer.
pub(crate) fn drop_words(words: &mut ProtocolReserved, reason: DropReason) {
    *words = Mark { work: Work::Dropped(reason), ..Mark::from_words(*words) }.words();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_as_they_were_written() {
        let works = [Work::Clear, Work::Software, Work::Offload].into_iter().chain(DropReason::ALL.map(Work::Dropped));
        for work in works {
            for sa in [None, Handle::from_bits(1), Handle::from_bits(u64::MAX)] {
                for length in [0, 1500, u32::MAX, 0x0100_0000] {
                    for (flags, reason) in (0..8_u8).flat_map(|flags| PacketReason::ALL.map(|reason| (flags, reason))) {
                        let (again, hybrid, dummy) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
                        let headers = if flags == 7 { 0x3ff } else { 0 };
                        let (mark, mut nbl) = (Mark { work, sa, again, hybrid, dummy, reason, headers, length }, NetBufferList::default());
                        mark.write(&mut nbl);
                        assert_eq!(Mark::read(&nbl), mark);
                        let plain = flags == 0 && reason == PacketReason::SaNotOffloaded && matches!(work, Work::Software | Work::Offload);
                        assert_eq!(Mark::read_plain(&nbl), plain.then_some((work == Work::Offload, length)));
                        mark_dropped(&mut nbl, DropReason::TooBig);
                        assert_eq!(Mark::read(&nbl), Mark { work: Work::Dropped(DropReason::TooBig), ..mark });
                    }
                }
            }
        }
    }

    #[test]
    fn a_list_without_a_mark_is_not_sent_in_clear() {
        assert!(Mark::read(&NetBufferList::default()).is_dropped());
    }
}
