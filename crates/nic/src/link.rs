//! Where IP begins in a frame, and what of its headers a NIC looks at.

use ndis::Operation;
use packet::{ETHERNET_HEADER_LEN, EthernetFrame, EthernetKind, IpProtocol, IpVersion, Ipv4Packet, Ipv6ChainEnd, Ipv6Packet, Medium};

/// Where what the link header announces begins, in bytes: for [`NetBufferList::l3_offset`](ndis::NetBufferList). A frame without a readable header
/// is taken to have one of the usual length.
#[inline]
pub fn ip_offset(medium: Medium, frame: &[u8]) -> u16 {
    match medium {
        Medium::Ip => 0,
        Medium::Ethernet => EthernetFrame::new(frame).map_or_else(|_| ETHERNET_HEADER_LEN.min(frame.len()), |frame| frame.l3_offset()) as u16,
    }
}

/// Whether the frame's link header announces IP at `offset`, in an encapsulation that an engine does (OV2-CAP-2): none, or Ethernet II with tags in
/// the data.
#[inline]
pub(crate) fn announces_ip(medium: Medium, frame: &[u8], offset: usize) -> bool {
    match medium {
        Medium::Ip => offset == 0,
        Medium::Ethernet => EthernetFrame::new(frame).is_ok_and(|frame| {
            frame.l3_offset() == offset && matches!(frame.kind(), EthernetKind::Type(ethertype) if ethertype.ip_version() == version(frame.payload()))
        }),
    }
}

fn version(packet: &[u8]) -> Option<IpVersion> {
    packet.first().and_then(|&byte| IpVersion::of_first_byte(byte))
}

/// The outermost IPsec header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IpsecHeader {
    /// Which.
    pub(crate) operation: Operation,
    /// Where it begins, in bytes from the start of the IP header.
    pub(crate) offset: usize,
}

/// What a NIC sees of a packet's outer IP header. All of it lies within the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outer {
    pub(crate) version: IpVersion,
    /// Length of the IP packet, in bytes.
    pub(crate) total_len: usize,
    /// The outermost IPsec header, if it can be found.
    pub(crate) ipsec: Option<IpsecHeader>,
    /// IPv4 options, or IPv6 extension headers other than AH before the IPsec header.
    pub(crate) extras: bool,
    /// The packet is a fragment; an atomic one (RFC 6946) is none.
    pub(crate) fragment: bool,
}

impl Outer {
    /// Reads the IP packet at the start of `bytes`; `None` if it is malformed or cut.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        match version(bytes)? {
            IpVersion::V4 => Self::parse_v4(bytes),
            IpVersion::V6 => Self::parse_v6(bytes),
        }
    }

    #[inline]
    fn parse_v4(bytes: &[u8]) -> Option<Self> {
        let packet = Ipv4Packet::new(bytes).ok()?;
        let offset = packet.header_len();
        let operation = operation(packet.protocol());
        Some(Self {
            version: IpVersion::V4,
            total_len: packet.total_len(),
            ipsec: operation.map(|operation| IpsecHeader { operation, offset }),
            extras: offset > IpVersion::V4.header_len(),
            fragment: packet.is_fragment(),
        })
    }

    #[inline]
    fn parse_v6(bytes: &[u8]) -> Option<Self> {
        let packet = Ipv6Packet::new(bytes).ok()?;
        let (version, total_len) = (IpVersion::V6, packet.total_len());
        if let Some(operation) = operation(packet.next_header()) {
            let ipsec = Some(IpsecHeader { operation, offset: version.header_len() });
            return Some(Self { version, total_len, ipsec, extras: false, fragment: false });
        }
        let mut headers = packet.extension_headers();
        let (mut extras, mut fragment) = (false, false);
        for header in headers.by_ref() {
            if header.protocol == IpProtocol::AH {
                let ipsec = Some(IpsecHeader { operation: Operation::Ah, offset: header.offset });
                return Some(Self { version, total_len, ipsec, extras, fragment });
            }
            extras = true;
            fragment |= header.fragment.is_some_and(|fragment| !fragment.is_atomic());
        }
        let ipsec = match headers.end() {
            Ipv6ChainEnd::Upper { protocol: IpProtocol::ESP, offset, .. } => Some(IpsecHeader { operation: Operation::Esp, offset }),
            Ipv6ChainEnd::Upper { .. } | Ipv6ChainEnd::NoNextHeader { .. } | Ipv6ChainEnd::LaterFragment { .. } => None,
            Ipv6ChainEnd::Malformed(_) => return None,
        };
        Some(Self { version, total_len, ipsec, extras, fragment })
    }
}

#[inline]
const fn operation(protocol: IpProtocol) -> Option<Operation> {
    match protocol {
        IpProtocol::ESP => Some(Operation::Esp),
        IpProtocol::AH => Some(Operation::Ah),
        _ => None,
    }
}
