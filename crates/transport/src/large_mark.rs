//! What the transport notes of a large list that it has handed down, in the protocol's own words of the list.

use ndis::NetBufferList;
use sa_table::Handle;

/// The words of a large list.
///
/// ```text
/// word 0: the SA, 0 = in clear
/// word 1: bits 0-7: 4, through a tunnel 5   8-15: words of 4 bytes put in front   16-31: segments   32-63: bytes of the segments' IP packets
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LargeMark {
    /// The SA that protects it; `None`: it goes in clear.
    pub(crate) sa: Option<Handle>,
    /// Whether the SA is a tunnel.
    pub(crate) tunnel: bool,
    /// Bytes that were put in front of what is protected: a multiple of 4.
    pub(crate) front: usize,
    /// How many segments it makes.
    pub(crate) segments: u16,
    /// Bytes of all segments' IP packets, before protection.
    pub(crate) bytes: u32,
}

impl LargeMark {
    /// No other list has this in its first byte, nor a lower bit beside it.
    const LARGE: u64 = 4;
    const TUNNEL: u64 = 5;

    /// Whether a list is one.
    #[inline]
    pub(crate) const fn is_on(nbl: &NetBufferList) -> bool {
        matches!(nbl.protocol_reserved[1] & 0xff, Self::LARGE | Self::TUNNEL)
    }

    pub(crate) fn write(self, nbl: &mut NetBufferList) {
        let kind = if self.tunnel { Self::TUNNEL } else { Self::LARGE };
        let word = kind | u64::from((self.front / 4) as u8) << 8 | u64::from(self.segments) << 16 | u64::from(self.bytes) << 32;
        nbl.protocol_reserved = [self.sa.map_or(0, Handle::to_bits), word];
    }

    /// What was written; of another list, nothing that means anything.
    pub(crate) fn read(nbl: &NetBufferList) -> Self {
        let [sa, word] = nbl.protocol_reserved;
        Self {
            sa: Handle::from_bits(sa),
            tunnel: word & 0xff == Self::TUNNEL,
            front: (word >> 8 & 0xff) as usize * 4,
            segments: (word >> 16) as u16,
            bytes: (word >> 32) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mark::{Mark, Work};
    use crate::verdict::DropReason;

    #[test]
    fn large_marks_come_back_and_no_other_mark_is_one() {
        for sa in [None, Handle::from_bits(1), Handle::from_bits(u64::MAX)] {
            for (tunnel, front, segments, bytes) in [(false, 0, 1, 0), (true, 1020, u16::MAX, u32::MAX), (true, 64, 47, 65_000)] {
                let (mark, mut nbl) = (LargeMark { sa, tunnel, front, segments, bytes }, NetBufferList::default());
                mark.write(&mut nbl);
                assert!(LargeMark::is_on(&nbl));
                assert_eq!(LargeMark::read(&nbl), mark);
                assert!(Mark::read_plain(&nbl).is_none());
                assert!(Mark::read(&nbl).is_dropped(), "whoever takes it for another does not send it");
            }
        }
        assert!(!LargeMark::is_on(&NetBufferList::default()));
        for work in [Work::Clear, Work::Software, Work::Offload].into_iter().chain(DropReason::ALL.map(Work::Dropped)) {
            let mut nbl = NetBufferList::default();
            Mark { work, ..Mark::clear(9000) }.write(&mut nbl);
            assert!(!LargeMark::is_on(&nbl), "{work:?}");
        }
    }
}
