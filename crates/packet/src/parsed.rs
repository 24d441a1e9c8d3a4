//! The one pass over an IP packet that the data path makes.

use crate::addr::IpAddress;
use crate::bytes::{array_at, range, u16_at};
use crate::error::{Layer, ParseError};
use crate::ipv4::{self, IPV4_HEADER_LEN};
use crate::ipv6::{self, IPV6_HEADER_LEN};
use crate::ipv6_ext::{Ipv6ExtensionHeader, MAX_EXTENSION_HEADERS};
use crate::proto::{IpProtocol, IpVersion};

/// Whether a packet is a part of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FragmentState {
    /// It is not.
    None,
    /// It is whole, and carries an IPv6 fragment header all the same (RFC 6946).
    Atomic,
    /// It is the first part; its headers can be read.
    First,
    /// It is a later part: what follows the header is the middle of something.
    Later,
}

impl FragmentState {
    /// Whether the packet is only a part.
    #[inline]
    pub const fn is_part(self) -> bool {
        matches!(self, Self::First | Self::Later)
    }
}

/// What selectors look at after the header (RFC 4301 section 4.4.1.1), as far as it could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpperLayer {
    /// Nothing: another protocol, a later fragment, or too short. RFC 4301 calls it OPAQUE.
    Opaque,
    /// Ports of TCP, UDP, UDP-Lite, SCTP or DCCP.
    Ports {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
    },
    /// ICMP or ICMPv6.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// IPv6 mobility header.
    Mobility {
        /// Type.
        kind: u8,
    },
}

/// Where ESP or AH goes in transport mode (RFC 4303 section 3.1.1).
///
/// In IPv4 behind the options. In IPv6 behind hop-by-hop, routing, fragment and Shim6 headers, and destination options in front of one of these; before
/// destination options that only other headers follow, so that they are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InsertionPoint {
    /// Offset at which the new header begins.
    pub offset: usize,
    /// Offset of the byte that then has to say 50 or 51.
    pub pointer: usize,
    /// What that byte says now: the next header field of the new header or trailer.
    pub protocol: IpProtocol,
}

/// What one pass over an IP packet found out. All offsets and lengths are in bytes from the start of the IP header, and lie within the packet.
///
/// ```
/// use packet::{FragmentState, IpProtocol, IpVersion, ParsedIp};
///
/// let packet = [
///     0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 1, 0, 0, 10, 0, 1, 1, 10, 0, 2, 1, // IPv4
///     8, 0, 0xf7, 0xfe, 0, 0, 0, 1, // ICMP echo request
///     0, 0, 0, 0, 0, 0, // padding of the link
/// ];
/// let parsed = ParsedIp::parse(&packet)?;
/// assert_eq!((parsed.version(), parsed.header_len(), parsed.total_len(), parsed.padding_len()), (IpVersion::V4, 20, 28, 6));
/// assert_eq!((parsed.protocol(), parsed.icmp(), parsed.fragment()), (IpProtocol::ICMP, Some((8, 0)), FragmentState::None));
/// assert_eq!(parsed.payload(&packet), &packet[20..28]);
/// # Ok::<(), packet::ParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedIp {
    total_len: u32,
    padding_len: u32,
    // At most 40 + 16 * 2048, the longest chain of extension headers that is followed.
    header_len: u16,
    pointer: u16,
    insert_offset: u16,
    insert_pointer: u16,
    insert_protocol: IpProtocol,
    protocol: IpProtocol,
    fragment: FragmentState,
    options_or_extensions: bool,
    upper: UpperLayer,
    src: IpAddress,
    dst: IpAddress,
}

impl ParsedIp {
    /// Reads the IP packet at the start of `data`, IPv4 or IPv6. What follows its total length is link padding, and only counted. Checksums are not looked at.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] if there is less data than the header or the total length in it says; another [`ParseError`] if the headers cannot be.
    #[inline(always)]
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        Self::parse_as(data, false)
    }

    /// As [`Self::parse`], but the packet is all of `data`, whatever the length field of the IP header says: for large sends, where it is 0 (OV2-SEND-4).
    ///
    /// # Errors
    /// As [`Self::parse`].
    #[inline]
    pub fn parse_whole(data: &[u8]) -> Result<Self, ParseError> {
        Self::parse_as(data, true)
    }

    // Inlined whole, so that what was read goes from registers to where it is wanted: a result of many small fields that is copied by wide loads stalls on
    // its own stores.
    #[inline(always)]
    fn parse_as(data: &[u8], whole: bool) -> Result<Self, ParseError> {
        match data.first().map(|first| first >> 4) {
            Some(4) => Self::parse_v4(data, whole),
            Some(6) => Self::parse_v6(data, whole),
            Some(found) => Err(ParseError::Version { expected: 0, found }),
            None => Err(ParseError::truncated(Layer::Ip, IPV4_HEADER_LEN, 0)),
        }
    }

    #[inline(always)]
    fn parse_v4(data: &[u8], whole: bool) -> Result<Self, ParseError> {
        let Some(header) = data.first_chunk::<IPV4_HEADER_LEN>() else {
            return Err(ParseError::truncated(Layer::Ipv4, IPV4_HEADER_LEN, data.len()));
        };
        let header_len = usize::from(header[0] & 0xf) * 4;
        if header_len < IPV4_HEADER_LEN {
            return Err(ParseError::LengthTooSmall { layer: Layer::Ipv4, min: IPV4_HEADER_LEN as u32, found: header_len as u32 });
        }
        let total_len = if whole { data.len() } else { usize::from(u16_at(header, ipv4::TOTAL_LEN)) };
        if total_len < header_len {
            return Err(ParseError::LengthTooSmall { layer: Layer::Ipv4, min: header_len as u32, found: total_len as u32 });
        }
        if total_len > data.len() {
            return Err(ParseError::truncated(Layer::Ipv4, total_len, data.len()));
        }
        let field = u16_at(header, ipv4::FRAGMENT);
        let fragment = if field & (ipv4::MORE_FRAGMENTS | ipv4::OFFSET_MASK) == 0 {
            FragmentState::None
        } else if field & ipv4::OFFSET_MASK == 0 {
            FragmentState::First
        } else {
            FragmentState::Later
        };
        let protocol = IpProtocol(header[ipv4::PROTOCOL]);
        let upper = if fragment == FragmentState::Later { UpperLayer::Opaque } else { read_upper(protocol, range(data, header_len, total_len)) };
        Ok(Self {
            total_len: total_len as u32,
            padding_len: (data.len() - total_len) as u32,
            header_len: header_len as u16,
            pointer: ipv4::PROTOCOL as u16,
            insert_offset: header_len as u16,
            insert_pointer: ipv4::PROTOCOL as u16,
            insert_protocol: protocol,
            protocol,
            fragment,
            options_or_extensions: header_len != IPV4_HEADER_LEN,
            upper,
            src: IpAddress::v4(array_at(header, ipv4::SOURCE)),
            dst: IpAddress::v4(array_at(header, ipv4::DESTINATION)),
        })
    }

    #[inline]
    fn parse_v6(data: &[u8], whole: bool) -> Result<Self, ParseError> {
        let Some(header) = data.first_chunk::<IPV6_HEADER_LEN>() else {
            return Err(ParseError::truncated(Layer::Ipv6, IPV6_HEADER_LEN, data.len()));
        };
        let payload_len = u16_at(header, ipv6::PAYLOAD_LEN);
        let total_len = if whole { data.len() } else { IPV6_HEADER_LEN + usize::from(payload_len) };
        if total_len > data.len() {
            return Err(ParseError::truncated(Layer::Ipv6, total_len, data.len()));
        }
        let protocol = IpProtocol(header[ipv6::NEXT_HEADER]);
        let mut parsed = Self {
            total_len: total_len as u32,
            padding_len: (data.len() - total_len) as u32,
            header_len: IPV6_HEADER_LEN as u16,
            pointer: ipv6::NEXT_HEADER as u16,
            insert_offset: IPV6_HEADER_LEN as u16,
            insert_pointer: ipv6::NEXT_HEADER as u16,
            insert_protocol: protocol,
            protocol,
            fragment: FragmentState::None,
            options_or_extensions: false,
            upper: UpperLayer::Opaque,
            src: IpAddress::v6(array_at(header, ipv6::SOURCE)),
            dst: IpAddress::v6(array_at(header, ipv6::DESTINATION)),
        };
        if precedes_ipsec(protocol) {
            if payload_len == 0 && !whole && protocol == IpProtocol::HOP_BY_HOP {
                return Err(ParseError::Jumbogram);
            }
            parsed.walk_extensions(range(data, 0, total_len))?;
        }
        if parsed.fragment != FragmentState::Later {
            parsed.upper = read_upper(parsed.protocol, range(data, parsed.header_len(), total_len));
        }
        Ok(parsed)
    }

    /// Follows the extension headers of `packet` from the fixed header on.
    #[cold]
    fn walk_extensions(&mut self, packet: &[u8]) -> Result<(), ParseError> {
        self.options_or_extensions = true;
        for seen in 0..=MAX_EXTENSION_HEADERS {
            if !precedes_ipsec(self.protocol) || self.fragment == FragmentState::Later {
                return Ok(());
            }
            if seen == MAX_EXTENSION_HEADERS {
                break;
            }
            if self.protocol == IpProtocol::HOP_BY_HOP && seen != 0 {
                return Err(ParseError::HopByHopNotFirst { offset: u32::from(self.header_len) });
            }
            let header = Ipv6ExtensionHeader::read(packet, self.protocol, self.pointer(), self.header_len())?;
            self.pointer = self.header_len;
            self.header_len += header.len as u16;
            self.protocol = header.next_header;
            if header.protocol != IpProtocol::DESTINATION_OPTIONS {
                self.insert_offset = self.header_len;
                self.insert_pointer = self.pointer;
                self.insert_protocol = self.protocol;
            }
            if let Some(fragment) = header.fragment {
                let state = match (fragment.offset, fragment.more) {
                    (0, false) => FragmentState::Atomic,
                    (0, true) => FragmentState::First,
                    _ => FragmentState::Later,
                };
                self.fragment = self.fragment.max(state);
            }
        }
        Err(ParseError::TooManyExtensionHeaders { limit: MAX_EXTENSION_HEADERS })
    }

    /// IP version.
    #[inline]
    pub const fn version(&self) -> IpVersion {
        self.src.version()
    }

    /// Source address.
    #[inline]
    pub const fn src(&self) -> IpAddress {
        self.src
    }

    /// Destination address, as it stands in the fixed header.
    #[inline]
    pub const fn dst(&self) -> IpAddress {
        self.dst
    }

    /// Length of the IP header with its options, or with the extension headers in front of the transport, ESP, AH or inner header. That header (or in a
    /// later fragment: data) begins here; the packet may end here.
    #[inline]
    pub const fn header_len(&self) -> usize {
        self.header_len as usize
    }

    /// Length of the packet: what the IP header says.
    #[inline]
    pub const fn total_len(&self) -> usize {
        self.total_len as usize
    }

    /// How many bytes of the data follow the packet.
    #[inline]
    pub const fn padding_len(&self) -> usize {
        self.padding_len as usize
    }

    /// Length of what follows the header.
    #[inline]
    pub const fn payload_len(&self) -> usize {
        (self.total_len - self.header_len as u32) as usize
    }

    /// What begins at [`Self::header_len`]: transport, ESP, AH, an inner packet, or 59 for nothing. In a later fragment, what begins the whole packet's
    /// fragmentable part.
    ///
    /// Mobility and HIP headers count as such a protocol and not as extension headers: policies select by them (RFC 4301 section 4.4.1.1).
    #[inline]
    pub const fn protocol(&self) -> IpProtocol {
        self.protocol
    }

    /// Offset of the byte that holds [`Self::protocol`]: the protocol field, or the next header field of the last header before.
    #[inline]
    pub const fn protocol_offset(&self) -> usize {
        self.pointer as usize
    }

    fn pointer(&self) -> usize {
        self.protocol_offset()
    }

    /// Where ESP or AH goes in transport mode.
    #[inline]
    pub const fn insertion_point(&self) -> InsertionPoint {
        InsertionPoint { offset: self.insert_offset as usize, pointer: self.insert_pointer as usize, protocol: self.insert_protocol }
    }

    /// Whether there are IPv4 options, or IPv6 extension headers before [`Self::header_len`] (a fragment header is one).
    #[inline]
    pub const fn has_options_or_extensions(&self) -> bool {
        self.options_or_extensions
    }

    /// Whether the packet is a part of another.
    #[inline]
    pub const fn fragment(&self) -> FragmentState {
        self.fragment
    }

    /// Ports, type and code, as far as they could be read.
    #[inline]
    pub const fn upper(&self) -> UpperLayer {
        self.upper
    }

    /// Source and destination port, if they could be read.
    #[inline]
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match self.upper {
            UpperLayer::Ports { src, dst } => Some((src, dst)),
            _ => None,
        }
    }

    /// ICMP or ICMPv6 type and code, if they could be read.
    #[inline]
    pub const fn icmp(&self) -> Option<(u8, u8)> {
        match self.upper {
            UpperLayer::Icmp { kind, code } => Some((kind, code)),
            _ => None,
        }
    }

    /// The packet without what follows it in `data`, from which this was read. (Of other data: at most as much of it as there is.)
    #[inline]
    pub fn packet<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        data.get(..self.total_len()).unwrap_or(data)
    }

    /// What follows the header in `data`, from which this was read. (Of other, shorter data: nothing.)
    #[inline]
    pub fn payload<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        range(data, self.header_len(), self.total_len())
    }
}

/// Extension headers that stand before ESP and AH, or may; not those that are themselves a next layer to IPsec.
#[inline]
const fn precedes_ipsec(protocol: IpProtocol) -> bool {
    matches!(protocol, IpProtocol::HOP_BY_HOP | IpProtocol::ROUTING | IpProtocol::FRAGMENT | IpProtocol::DESTINATION_OPTIONS | IpProtocol::SHIM6)
}

#[inline]
fn read_upper(protocol: IpProtocol, payload: &[u8]) -> UpperLayer {
    match *payload {
        [a, b, c, d, ..] if protocol.has_ports() => UpperLayer::Ports { src: u16::from_be_bytes([a, b]), dst: u16::from_be_bytes([c, d]) },
        [kind, code, ..] if matches!(protocol, IpProtocol::ICMP | IpProtocol::ICMPV6) => UpperLayer::Icmp { kind, code },
        [_, _, kind, ..] if protocol.0 == IpProtocol::MOBILITY.0 => UpperLayer::Mobility { kind },
        _ => UpperLayer::Opaque,
    }
}

#[cfg(test)]
mod tests;
