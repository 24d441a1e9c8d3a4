//! The headers in front of an AH, and the AH itself, as both ends see them alike (RFC 4302 section 3.3.3.1 and appendix A).
//!
//! [`AhSa`](crate::AhSa) has the table of all fields.
//!
//! The home address option stands on the wire with the care-of address in the source field; the ends' addresses are exchanged before AH looks, at the sender
//! and at the receiver (Linux does the same).
//!
//! One pass, each byte looked at once: time is linear in the length of the headers, whatever they say.

use core::ops::Range;

use packet::{AH_FIXED_LEN, AhPacket, IPV6_HEADER_LEN, IpProtocol, IpVersion, Ipv4Packet, Ipv6ChainEnd, Ipv6ExtensionHeader, Ipv6Packet, ParseError};

/// A packet that cannot carry the AH that it was said to carry. Nothing has been written when it is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AhError {
    /// A header, option or length that cannot be.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// The packet is not as long as its IP header says.
    #[error("IP packet of {expected} bytes expected, {found} found")]
    PacketLength {
        /// What the IP header says.
        expected: usize,
        /// Bytes there.
        found: usize,
    },
    /// A part of a packet: AH covers whole ones only.
    #[error("a whole packet expected, a fragment found")]
    Fragment,
    /// The headers do not lead to an AH at this place.
    #[error("no AH at offset {offset}")]
    NotThere {
        /// Where it was said to be, in bytes from the start of the IP header.
        offset: usize,
    },
    /// The AH's length byte is not that of the SA's algorithm.
    #[error("AH of {expected} bytes (or padded to a multiple of 8) expected, {found} found")]
    HeaderLength {
        /// Bytes for the algorithm, rounded up to a multiple of 4.
        expected: usize,
        /// Bytes that the header says.
        found: usize,
    },
    /// An IPv4 source route whose pointer or length cannot be, or a home address option of another length than 16.
    #[error("option {kind} of {length} bytes cannot be")]
    Option {
        /// Type of the option.
        kind: u8,
        /// Its length with type and length byte.
        length: usize,
    },
    /// A routing header of which nobody can say how it will arrive.
    #[error("routing header of type {kind} and {length} bytes with {segments_left} segments left cannot be predicted")]
    Routing {
        /// Routing type.
        kind: u8,
        /// Length of the header, in bytes.
        length: usize,
        /// Segments left.
        segments_left: u8,
    },
    /// An IPv6 extension header of which RFC 4302 does not say how it is covered.
    #[error("IPv6 extension header {protocol} in front of AH")]
    ExtensionHeader {
        /// What it is.
        protocol: IpProtocol,
    },
    /// The sequence number is not the one of which the header carries the low half, or has more than 32 bits without extended sequence numbers.
    #[error("sequence number {given:#x} does not fit the {header:#010x} of the AH")]
    Sequence {
        /// What the header carries.
        header: u32,
        /// The number given.
        given: u64,
    },
}

/// Appends the headers of `packet` up to the end of the AH at offset `ah` to `masked`, as they count for the ICV. `icv_field`: length of the ICV field without
/// padding, which becomes zero. Returns the AH's length, and where in `masked` the headers are now.
///
/// # Errors
/// [`AhError`]; `masked` is as it was.
pub(crate) fn append(packet: &[u8], ah: usize, icv_field: usize, masked: &mut Vec<u8>) -> Result<(usize, Range<usize>), AhError> {
    let start = masked.len();
    let appended = headers(packet, ah, masked).and_then(|()| header(packet, ah, icv_field, masked));
    match appended {
        Ok(length) => Ok((length, start..masked.len())),
        Err(error) => {
            masked.truncate(start);
            Err(error)
        }
    }
}

fn header(packet: &[u8], ah: usize, icv_field: usize, masked: &mut Vec<u8>) -> Result<usize, AhError> {
    let rest = packet.get(ah..).unwrap_or_default();
    let length = AhPacket::new(rest)?.header_len();
    if !accepts(icv_field, length) {
        return Err(AhError::HeaderLength { expected: header_length(icv_field, 4), found: length });
    }
    let start = masked.len();
    masked.extend_from_slice(rest.get(..length).unwrap_or_default());
    zero(masked, start + AH_FIXED_LEN..(start + length).min(start + AH_FIXED_LEN + icv_field));
    Ok(length)
}

/// Length of an AH whose ICV field has this many bytes before padding; `alignment` is 4 or 8.
pub(crate) const fn header_length(icv_field: usize, alignment: usize) -> usize {
    let unit = if alignment == 8 { 8 } else { 4 };
    (AH_FIXED_LEN + icv_field).next_multiple_of(unit)
}

/// Whether an AH may have this length: RFC 4302 asks for multiples of 4 in IPv4 and 8 in IPv6, Linux pads to 8 in IPv4 too.
pub(crate) const fn accepts(icv_field: usize, length: usize) -> bool {
    length == header_length(icv_field, 4) || length == header_length(icv_field, 8)
}

fn headers(packet: &[u8], ah: usize, masked: &mut Vec<u8>) -> Result<(), AhError> {
    match packet.first().and_then(|&first| IpVersion::of_first_byte(first)) {
        Some(IpVersion::V4) => ipv4(packet, ah, masked),
        Some(IpVersion::V6) => ipv6(packet, ah, masked),
        None => Err(AhError::NotThere { offset: ah }),
    }
}

fn zero(bytes: &mut [u8], range: Range<usize>) {
    if let Some(field) = bytes.get_mut(range) {
        field.fill(0);
    }
}

mod option {
    pub(super) const NO_OPERATION: u8 = 1;
    pub(super) const SECURITY: u8 = 130;
    pub(super) const LOOSE_SOURCE_ROUTE: u8 = 131;
    pub(super) const EXTENDED_SECURITY: u8 = 133;
    pub(super) const COMMERCIAL_SECURITY: u8 = 134;
    pub(super) const STRICT_SOURCE_ROUTE: u8 = 137;
    pub(super) const ROUTER_ALERT: u8 = 148;
    pub(super) const MULTI_DESTINATION_DELIVERY: u8 = 149;
    /// IPv6 home address option (RFC 6275 section 6.3).
    pub(super) const HOME_ADDRESS: u8 = 0xc9;
}

fn ipv4(packet: &[u8], ah: usize, masked: &mut Vec<u8>) -> Result<(), AhError> {
    let view = Ipv4Packet::new(packet)?;
    if view.total_len() != packet.len() {
        return Err(AhError::PacketLength { expected: view.total_len(), found: packet.len() });
    }
    if view.is_fragment() {
        return Err(AhError::Fragment);
    }
    if view.header_len() != ah || view.protocol() != IpProtocol::AH {
        return Err(AhError::NotThere { offset: ah });
    }
    let start = masked.len();
    masked.extend_from_slice(packet.get(..ah).unwrap_or_default());
    let header = masked.get_mut(start..).unwrap_or_default();
    let (fixed, area) = header.split_at_mut_checked(packet::IPV4_HEADER_LEN).unwrap_or_default();
    // TOS; flags and offset, time to live; checksum.
    for field in [1..2, 6..9, 10..12] {
        zero(fixed, field);
    }
    for found in view.options() {
        let found = found?;
        let length = 2 + found.data.len();
        match found.kind {
            option::NO_OPERATION
            | option::SECURITY
            | option::EXTENDED_SECURITY
            | option::COMMERCIAL_SECURITY
            | option::ROUTER_ALERT
            | option::MULTI_DESTINATION_DELIVERY => {}
            kind => {
                if matches!(kind, option::LOOSE_SOURCE_ROUTE | option::STRICT_SOURCE_ROUTE)
                    && let Some(last) = end_of_route(kind, found.data)?
                    && let Some(destination) = fixed.last_chunk_mut()
                {
                    *destination = last;
                }
                zero(area, found.offset..found.offset + length);
            }
        }
    }
    Ok(())
}

/// The last address of a source route (RFC 791 section 3.1); none if the route is used up: then the IP header has it.
fn end_of_route(kind: u8, data: &[u8]) -> Result<Option<[u8; 4]>, AhError> {
    let impossible = AhError::Option { kind, length: 2 + data.len() };
    let (&pointer, route) = data.split_first().ok_or(impossible)?;
    // The pointer counts from the option's type byte, from 1 on: 4 is the first address.
    let used = usize::from(pointer).checked_sub(4).ok_or(impossible)?;
    if used >= route.len() {
        return Ok(None);
    }
    if used.is_multiple_of(4) && route.len().is_multiple_of(4) { Ok(route.last_chunk().copied()) } else { Err(impossible) }
}

fn ipv6(packet: &[u8], ah: usize, masked: &mut Vec<u8>) -> Result<(), AhError> {
    let view = Ipv6Packet::new(packet)?;
    if view.total_len() != packet.len() {
        return Err(AhError::PacketLength { expected: view.total_len(), found: packet.len() });
    }
    let mut chain = Chain { start: masked.len(), pointer: masked.len() + NEXT_HEADER, removed: 0, masked };
    chain.fixed(packet);
    let mut extensions = view.extension_headers();
    let mut protocol = view.next_header();
    let mut offset = IPV6_HEADER_LEN;
    while offset < ah {
        let Some(header) = extensions.next() else {
            return Err(match extensions.end() {
                Ipv6ChainEnd::Malformed(error) => error.into(),
                _ => AhError::NotThere { offset: ah },
            });
        };
        chain.extension(packet, &header)?;
        protocol = header.next_header;
        offset = header.offset + header.len;
    }
    if offset != ah || protocol != IpProtocol::AH {
        return Err(AhError::NotThere { offset: ah });
    }
    chain.finish(view.payload_len());
    Ok(())
}

const PAYLOAD_LENGTH: usize = 4;
const NEXT_HEADER: usize = 6;
const SOURCE: usize = 8;
const DESTINATION: usize = 24;
const ADDRESS: usize = 16;

/// An IPv6 header with its extension headers, while it is appended.
struct Chain<'a> {
    masked: &'a mut Vec<u8>,
    /// Where the fixed header begins.
    start: usize,
    /// Where the type of the next header stands.
    pointer: usize,
    /// Bytes of the packet that were left out.
    removed: usize,
}

impl Chain<'_> {
    fn fixed(&mut self, packet: &[u8]) {
        self.masked.extend_from_slice(packet.get(..IPV6_HEADER_LEN).unwrap_or_default());
        // Class and flow label share the first four bytes with the version; hop limit.
        let start = self.start;
        if let Some(first) = self.masked.get_mut(start) {
            *first &= 0xf0;
        }
        zero(self.masked, start + 1..start + 4);
        zero(self.masked, start + NEXT_HEADER + 1..start + SOURCE);
    }

    fn extension(&mut self, packet: &[u8], header: &Ipv6ExtensionHeader) -> Result<(), AhError> {
        match header.protocol {
            IpProtocol::HOP_BY_HOP | IpProtocol::DESTINATION_OPTIONS => self.options(packet, header),
            IpProtocol::ROUTING => self.routing(packet, header),
            IpProtocol::FRAGMENT => self.fragment(header),
            protocol => Err(AhError::ExtensionHeader { protocol }),
        }
    }

    /// Copies a header, and returns where it begins now.
    fn copy(&mut self, packet: &[u8], header: &Ipv6ExtensionHeader) -> usize {
        self.pointer = self.masked.len();
        self.masked.extend_from_slice(packet.get(header.offset..header.offset + header.len).unwrap_or_default());
        self.pointer
    }

    fn options(&mut self, packet: &[u8], header: &Ipv6ExtensionHeader) -> Result<(), AhError> {
        let start = self.copy(packet, header);
        for found in header.options(packet).into_iter().flatten() {
            let found = found?;
            // The area begins at the header's third byte, the data at the option's third.
            let data = start + 2 + found.offset + 2;
            if found.may_change() {
                zero(self.masked, data..data + found.data.len());
            } else if found.kind == option::HOME_ADDRESS && header.protocol == IpProtocol::DESTINATION_OPTIONS {
                if found.data.len() != ADDRESS {
                    return Err(AhError::Option { kind: found.kind, length: 2 + found.data.len() });
                }
                self.exchange(SOURCE, data);
            }
        }
        Ok(())
    }

    /// Types 0 (RFC 2460 section 4.4) and 2 have addresses from the ninth byte on; each node that is one of them exchanges it with the destination.
    fn routing(&mut self, packet: &[u8], header: &Ipv6ExtensionHeader) -> Result<(), AhError> {
        let start = self.copy(packet, header);
        let &[_, _, kind, segments_left] = packet.get(header.offset..).and_then(|bytes| bytes.first_chunk()).unwrap_or(&[0; 4]);
        if segments_left == 0 {
            return Ok(());
        }
        let unpredictable = AhError::Routing { kind, length: header.len, segments_left };
        let area = header.len - 8;
        let addresses = area / ADDRESS;
        let possible = match kind {
            0 => area.is_multiple_of(ADDRESS),
            2 => area == ADDRESS,
            _ => false,
        };
        let visited = addresses.checked_sub(usize::from(segments_left)).filter(|_| possible).ok_or(unpredictable)?;
        for address in visited..addresses {
            self.exchange(DESTINATION, start + 8 + address * ADDRESS);
        }
        zero(self.masked, start + 3..start + 4);
        Ok(())
    }

    /// A fragment header that is there although the packet is whole (RFC 6946): AH is computed before fragmentation and verified after reassembly, and does
    /// not see it (RFC 4302 appendix A2). This is all there is to its treatment.
    fn fragment(&mut self, header: &Ipv6ExtensionHeader) -> Result<(), AhError> {
        if !header.fragment.is_some_and(|fragment| fragment.is_atomic()) {
            return Err(AhError::Fragment);
        }
        if let Some(pointer) = self.masked.get_mut(self.pointer) {
            *pointer = header.next_header.0;
        }
        self.removed += header.len;
        Ok(())
    }

    /// Exchanges an address of the fixed header with the one at `other` of the buffer, which lies behind it.
    fn exchange(&mut self, field: usize, other: usize) {
        let field = self.start + field;
        if let Some((front, back)) = self.masked.split_at_mut_checked(other)
            && let (Some(field), Some(address)) = (front.get_mut(field..field + ADDRESS), back.get_mut(..ADDRESS))
        {
            field.swap_with_slice(address);
        }
    }

    fn finish(self, payload_length: usize) {
        if self.removed != 0
            && let Some(field) = self.masked.get_mut(self.start + PAYLOAD_LENGTH..self.start + PAYLOAD_LENGTH + 2)
        {
            field.copy_from_slice(&((payload_length - self.removed) as u16).to_be_bytes());
        }
    }
}
