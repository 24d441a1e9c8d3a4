//! The checksum slot and the 802.1Q slot of out-of-band data, typed: what the NIC shall compute and insert on send, and what it checked and stripped on
//! receive (OV2-OOB-4, OV2-SEND-9).

use packet::IpVersion;

use crate::oob::OutOfBand;

/// Transmit form of `TcpIpChecksumNetBufferListInfo`: which checksums the NIC computes.
///
/// TCP and UDP checksum fields hold the sum over the pseudo-header, length included (OV2-SEND-9). With IPsec they are those of the innermost packet, and the
/// IP header is the outermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumRequest {
    /// Version of the outermost IP header.
    pub version: IpVersion,
    /// The checksum of the outermost IPv4 header.
    pub ip_header: bool,
    /// The TCP checksum.
    pub tcp: bool,
    /// The UDP checksum.
    pub udp: bool,
    /// Where the TCP header begins, in bytes from the start of the frame as it is handed over; at most [`ChecksumRequest::MAX_OFFSET`]. Of UDP, where the UDP
    /// header begins: for whoever made the request; the NIC finds it by itself.
    pub tcp_header_offset: u16,
}

/// A checksum word that asks for what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChecksumRequest {
    /// Neither of the two IP versions is named, or both are.
    #[error("checksum request {bits:#x}: one IP version expected")]
    Version {
        /// The word.
        bits: u32,
    },
    /// TCP and UDP at once.
    #[error("checksum request {bits:#x}: TCP and UDP found, one of them expected")]
    Both {
        /// The word.
        bits: u32,
    },
    /// A header checksum for IPv6, which has none.
    #[error("checksum request {bits:#x}: an IPv6 header has no checksum")]
    Ipv6Header {
        /// The word.
        bits: u32,
    },
}

impl ChecksumRequest {
    /// The largest offset that can be told.
    pub const MAX_OFFSET: u16 = 0x3ff;

    const IPV4: u32 = 1;
    const IPV6: u32 = 1 << 1;
    const TCP: u32 = 1 << 2;
    const UDP: u32 = 1 << 3;
    const IP_HEADER: u32 = 1 << 4;
    const OFFSET: u32 = 16;
    /// All that asks for work; the versions alone ask for nothing.
    const WORK: u32 = Self::TCP | Self::UDP | Self::IP_HEADER;
    /// What a frame asks for whose segment nobody has looked for yet: no NIC takes it.
    pub(crate) const UNPLACED: u32 = Self::TCP | Self::UDP;

    /// Bits of the slot.
    pub const fn to_bits(self) -> u32 {
        let version = match self.version {
            IpVersion::V4 => Self::IPV4,
            IpVersion::V6 => Self::IPV6,
        };
        let offset = (self.tcp_header_offset & Self::MAX_OFFSET) as u32;
        version | (self.tcp as u32 * Self::TCP) | (self.udp as u32 * Self::UDP) | (self.ip_header as u32 * Self::IP_HEADER) | offset << Self::OFFSET
    }

    /// Reads a slot; `None` where it asks for nothing.
    ///
    /// # Errors
    /// [`BadChecksumRequest`] for what cannot be.
    pub const fn from_bits(bits: u32) -> Result<Option<Self>, BadChecksumRequest> {
        if bits & Self::WORK == 0 {
            return Ok(None);
        }
        let version = match bits & (Self::IPV4 | Self::IPV6) {
            Self::IPV4 => IpVersion::V4,
            Self::IPV6 => IpVersion::V6,
            _ => return Err(BadChecksumRequest::Version { bits }),
        };
        let (tcp, udp, ip_header) = (bits & Self::TCP != 0, bits & Self::UDP != 0, bits & Self::IP_HEADER != 0);
        if tcp && udp {
            return Err(BadChecksumRequest::Both { bits });
        }
        if ip_header && matches!(version, IpVersion::V6) {
            return Err(BadChecksumRequest::Ipv6Header { bits });
        }
        Ok(Some(Self { version, ip_header, tcp, udp, tcp_header_offset: (bits >> Self::OFFSET) as u16 & Self::MAX_OFFSET }))
    }
}

/// Receive form of `TcpIpChecksumNetBufferListInfo`: which checksums the NIC checked, and whether they are right. `None`: not checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChecksumReport {
    /// The checksum of the outermost IPv4 header.
    pub ip_header: Option<bool>,
    /// The TCP checksum of the innermost packet.
    pub tcp: Option<bool>,
    /// The UDP checksum of the innermost packet.
    pub udp: Option<bool>,
}

impl ChecksumReport {
    /// Bits of failures, and how far behind them those of successes are.
    const TCP: u32 = 1;
    const UDP: u32 = 1 << 1;
    const IP_HEADER: u32 = 1 << 2;
    const SUCCEEDED: u32 = 3;

    /// Bits of the slot.
    pub const fn to_bits(self) -> u32 {
        const fn of(checked: Option<bool>, failed: u32) -> u32 {
            match checked {
                None => 0,
                Some(false) => failed,
                Some(true) => failed << ChecksumReport::SUCCEEDED,
            }
        }
        of(self.tcp, Self::TCP) | of(self.udp, Self::UDP) | of(self.ip_header, Self::IP_HEADER)
    }

    /// Reads a slot. What is said to be wrong is wrong, even if it is said to be right, too.
    pub const fn from_bits(bits: u32) -> Self {
        const fn of(bits: u32, failed: u32) -> Option<bool> {
            if bits & failed != 0 {
                Some(false)
            } else if bits & (failed << ChecksumReport::SUCCEEDED) != 0 {
                Some(true)
            } else {
                None
            }
        }
        Self { tcp: of(bits, Self::TCP), udp: of(bits, Self::UDP), ip_header: of(bits, Self::IP_HEADER) }
    }

    /// Whether the TCP or UDP checksum was checked, and is right.
    #[inline]
    pub const fn is_verified(self) -> bool {
        matches!((self.tcp, self.udp), (Some(true), None) | (None, Some(true)))
    }
}

/// Both forms of `Ieee8021QNetBufferListInfo`: an 802.1Q tag that is not in the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagOutOfBand {
    /// Tag control information as it stands in a frame: priority 3 bits, drop eligible 1 bit, VLAN 12 bits. Never zero: the slot has no word for such a tag.
    tci: u16,
}

impl TagOutOfBand {
    /// A tag; `None` for priority and VLAN 0, which means that there is none.
    pub const fn new(tci: u16) -> Option<Self> {
        if tci == 0 { None } else { Some(Self { tci }) }
    }

    /// Tag control information, as it stands in a frame.
    pub const fn tci(self) -> u16 {
        self.tci
    }

    /// Bits of the slot: priority, drop eligible, VLAN, from the lowest on.
    pub const fn to_bits(self) -> u32 {
        (self.tci >> 13) as u32 | (self.tci as u32 >> 12 & 1) << 3 | (self.tci as u32 & 0xfff) << 4
    }

    /// Reads a slot; reserved bits are not looked at.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        Self::new(((bits & 7) << 13 | (bits >> 3 & 1) << 12 | bits >> 4 & 0xfff) as u16)
    }
}

impl OutOfBand {
    /// Transmit: whether more than IPsec is asked for, a large send, checksums or a tag; receive: whether more than IPsec is told.
    #[inline]
    pub const fn has_tasks(&self) -> bool {
        self.large_send | self.checksum | self.ieee8021q != 0
    }

    /// Transmit: which checksums the NIC computes.
    ///
    /// # Errors
    /// [`BadChecksumRequest`] for what cannot be.
    pub const fn checksum_request(&self) -> Result<Option<ChecksumRequest>, BadChecksumRequest> {
        ChecksumRequest::from_bits(self.checksum)
    }

    /// Transmit: asks for checksums.
    pub fn set_checksum_request(&mut self, request: Option<ChecksumRequest>) {
        self.checksum = request.map_or(0, ChecksumRequest::to_bits);
    }

    /// Receive: which checksums were checked.
    #[inline]
    pub const fn checksum_report(&self) -> ChecksumReport {
        ChecksumReport::from_bits(self.checksum)
    }

    /// Receive: reports which checksums were checked.
    pub const fn set_checksum_report(&mut self, report: ChecksumReport) {
        self.checksum = report.to_bits();
    }

    /// The tag that is not in the data.
    #[inline]
    pub const fn tag(&self) -> Option<TagOutOfBand> {
        TagOutOfBand::from_bits(self.ieee8021q)
    }

    /// Sets the tag that is not in the data.
    pub fn set_tag(&mut self, tag: Option<TagOutOfBand>) {
        self.ieee8021q = tag.map_or(0, TagOutOfBand::to_bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OV2-OOB-4: the words are those of the ABI.
    #[test]
    fn requests_are_those_of_the_abi_and_come_back() {
        let request = ChecksumRequest { version: IpVersion::V4, ip_header: true, tcp: true, udp: false, tcp_header_offset: 54 };
        assert_eq!(request.to_bits(), 54 << 16 | 0b1_0101);
        let udp = ChecksumRequest { version: IpVersion::V6, ip_header: false, tcp: false, udp: true, tcp_header_offset: 1023 };
        assert_eq!(udp.to_bits(), 1023 << 16 | 0b0_1010);
        for request in [request, udp] {
            assert_eq!(ChecksumRequest::from_bits(request.to_bits()), Ok(Some(request)));
            assert_eq!(ChecksumRequest::from_bits(request.to_bits() | 0xfc00_ffe0), Ok(Some(request)), "reserved bits");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for nothing in [0, 1, 2, 3, 54 << 16 | 1] {
            assert_eq!(ChecksumRequest::from_bits(nothing), Ok(None));
        }
        for bits in [0b100, 0b1000, 0b1_0000, 0b0_0111] {
            assert_eq!(ChecksumRequest::from_bits(bits), Err(BadChecksumRequest::Version { bits }));
        }
        assert_eq!(ChecksumRequest::from_bits(0b1101), Err(BadChecksumRequest::Both { bits: 0b1101 }));
        assert_eq!(ChecksumRequest::from_bits(0b1_0010), Err(BadChecksumRequest::Ipv6Header { bits: 0b1_0010 }));
        assert!(ChecksumRequest::from_bits(ChecksumRequest::UNPLACED).is_err());
    }

    #[test]
    fn reports_are_those_of_the_abi_and_a_failure_counts() {
        let checked = [None, Some(false), Some(true)];
        for ip_header in checked {
            for tcp in checked {
                for udp in checked {
                    let report = ChecksumReport { ip_header, tcp, udp };
                    assert_eq!(ChecksumReport::from_bits(report.to_bits()), report);
                }
            }
        }
        assert_eq!(ChecksumReport { ip_header: Some(true), tcp: Some(false), udp: None }.to_bits(), 0b10_0001);
        assert_eq!(ChecksumReport::from_bits(0b00_1001).tcp, Some(false));
        assert!(ChecksumReport::from_bits(0b00_1000).is_verified() && !ChecksumReport::from_bits(0b00_1001).is_verified());
        assert!(ChecksumReport::from_bits(0b01_0000).is_verified() && !ChecksumReport::from_bits(0b01_0010).is_verified());
    }

    #[test]
    fn every_tag_but_that_of_nothing_comes_back() {
        for tci in 0..=u16::MAX {
            let tag = TagOutOfBand::new(tci);
            assert_eq!(tag.map(TagOutOfBand::tci), (tci != 0).then_some(tci));
            assert_eq!(tag.and_then(|tag| TagOutOfBand::from_bits(tag.to_bits())), tag);
        }
        // Priority 5, not drop eligible, VLAN 0x123.
        assert_eq!(TagOutOfBand::new(0xa123).map(TagOutOfBand::to_bits), Some(0x1235));
        assert_eq!(TagOutOfBand::from_bits(0xffff_0000), None);
    }
}
