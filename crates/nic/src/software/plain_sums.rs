//! Checksums of plain packets on receive: where a plain packet carries a whole IP packet without options or extension headers, its TCP or UDP is where that
//! says, so it is verified when the packet is concluded, its bytes still at hand, and nothing is looked up again.
//!
//! What is not so goes the general way, [`Receiver::verify_sums`](super::receive::Receiver::verify_sums); of what is, both report the same.

use ndis::{ChecksumReport, PackedChecksumSet};
use packet::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, InternetSum, IpProtocol, IpVersion, Medium, TCP_HEADER_LEN, UDP_HEADER_LEN, checksum};

use super::plain::Plain;
use super::services::{Services, Way};

/// More fragments, and the fragment's offset.
const FRAGMENT: u16 = 0x3fff;

/// What is verified of plain packets; made once a batch.
#[derive(Clone, Copy)]
pub(super) struct PlainSums {
    services: Services,
    v4: Option<PackedChecksumSet>,
    v6: Option<PackedChecksumSet>,
}

impl PlainSums {
    /// `None`: nothing.
    pub(super) fn of(services: Services, medium: Medium) -> Option<Self> {
        let set = |version| Some(services.set(version, Way::Receive)).filter(|set| set.takes(medium, Plain::ip_offset(medium), false));
        services.verifies().then(|| Self { services, v4: set(IpVersion::V4), v6: set(IpVersion::V6) })
    }

    /// Of a plain frame's own IP header.
    #[inline(always)]
    pub(super) fn header(&self, frame: &[u8], plain: Plain) -> ChecksumReport {
        let is_offered = plain.version() == IpVersion::V4 && self.v4.is_some_and(|set| set.ip_header(false));
        let header = || frame.get(plain.ip()..)?.first_chunk::<IPV4_HEADER_LEN>();
        ChecksumReport { ip_header: is_offered.then(header).flatten().map(|header| checksum::verify_ipv4_header(header)), ..ChecksumReport::default() }
    }

    /// Of the IP packet that a tunnel carries, added to the `report` of the header around; `None`: it has to be looked at in general.
    #[inline]
    pub(super) fn carried(&self, packet: &[u8], report: ChecksumReport) -> Option<ChecksumReport> {
        let (version, protocol, addresses, segment): (_, _, &[u8], _) = if *packet.first()? == 0x45 {
            let header: &[u8; IPV4_HEADER_LEN] = packet.first_chunk()?;
            if u16::from_be_bytes([header[6], header[7]]) & FRAGMENT != 0 {
                return None;
            }
            let segment = packet.get(IPV4_HEADER_LEN..usize::from(u16::from_be_bytes([header[2], header[3]])))?;
            (IpVersion::V4, IpProtocol(header[9]), header.last_chunk::<8>()?, segment)
        } else {
            let header: &[u8; IPV6_HEADER_LEN] = packet.first_chunk()?;
            let (protocol, length) = (IpProtocol(header[6]), usize::from(u16::from_be_bytes([header[4], header[5]])));
            if header[0] >> 4 != 6 || protocol.is_ipv6_extension() || length == 0 {
                return None;
            }
            (IpVersion::V6, protocol, header.last_chunk::<32>()?, packet.get(IPV6_HEADER_LEN..IPV6_HEADER_LEN + length)?)
        };
        let tcp_options = match protocol {
            IpProtocol::TCP => {
                let header = usize::from(segment.first_chunk::<TCP_HEADER_LEN>()?[12] >> 4) * 4;
                if header < TCP_HEADER_LEN || header > segment.len() {
                    return None;
                }
                header != TCP_HEADER_LEN
            }
            IpProtocol::UDP => false,
            _ => return Some(report),
        };
        let set = if version == IpVersion::V4 { self.v4 } else { self.v6 };
        if !self.services.coexist(protocol) || !set.is_some_and(|set| set.segment(protocol, tcp_options, false)) {
            return Some(report);
        }
        if protocol == IpProtocol::TCP {
            return Some(ChecksumReport { tcp: Some(is_right(addresses, protocol, segment)), ..report });
        }
        let &[_, _, _, _, l0, l1, c0, c1] = segment.first_chunk::<UDP_HEADER_LEN>()?;
        // What follows the datagram is none of it.
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let datagram = segment.get(..length).filter(|_| length >= UDP_HEADER_LEN)?;
        let udp = match (version, [c0, c1]) {
            // None was sent, which IPv6 does not allow.
            (IpVersion::V4, [0, 0]) => None,
            (IpVersion::V6, [0, 0]) => Some(false),
            _ => Some(is_right(addresses, protocol, datagram)),
        };
        Some(ChecksumReport { udp, ..report })
    }
}

/// Whether the checksum of a segment between these addresses is right. It is at most as long as an IP packet.
#[inline(always)]
fn is_right(addresses: &[u8], protocol: IpProtocol, segment: &[u8]) -> bool {
    InternetSum::new().bytes(addresses).word(u16::from(protocol.0)).word(segment.len() as u16).bytes(segment).fold() == 0xffff
}
