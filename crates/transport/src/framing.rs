//! Putting ESP around packets and taking it off: headers, trailer, lengths. No cryptography here: NIC and software fill in and take out the rest, so the
//! bytes are the same whoever does (OV2-TRANS-2).

use packet::{Buffer, ETHERNET_HEADER_LEN, EtherType, InsertionPoint, IpVersion, ParsedIp, checksum};

use crate::outer::{Inner, OuterHeader};
use crate::verdict::DropReason;

/// Length of SPI and sequence number.
const ESP_HEADER: usize = 8;
/// The longest IP packet that its length field can tell: IPv4, and IPv6 with its 40 bytes of header.
const MAX_V4: usize = 65_535;
const MAX_V6: usize = 65_535 + 40;

/// Lengths of an SA's ESP, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EspLayout {
    pub(crate) iv: usize,
    pub(crate) icv: usize,
    /// What the trailer ends on.
    pub(crate) alignment: usize,
}

/// Where the ESP of a framed packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Framed {
    /// Offset of the ESP header from the start of the outermost IP header.
    pub(crate) esp: usize,
    pub(crate) next_header: u8,
    pub(crate) pad_length: u8,
}

/// What ESP adds to a packet, in bytes, and what has to be known of the packet for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Length of the packet.
    length: usize,
    version: IpVersion,
    /// Where ESP goes in transport mode.
    point: InsertionPoint,
    /// Before the payload: outer header, ESP header, IV.
    front: usize,
    /// After it: padding, trailer, ICV.
    back: usize,
    /// What is encrypted of the packet.
    payload: usize,
    /// Length of the ICV, at its end.
    icv: usize,
    /// Length of the whole packet afterwards.
    total: usize,
}

impl Room {
    /// Measures what ESP in `buffer` takes; changes nothing. `outer`: the header of a tunnel; without it transport mode.
    ///
    /// # Errors
    /// [`DropReason::TooBig`]: the packet would be longer than IP allows, or the buffer has no room; [`DropReason::Fragment`]: a part of a packet in transport
    /// mode.
    #[inline]
    pub(crate) fn measure(buffer: &Buffer, parsed: &ParsedIp, outer: Option<&OuterHeader>, layout: EspLayout) -> Result<Self, DropReason> {
        let (length, version, point) = (parsed.total_len(), parsed.version(), parsed.insertion_point());
        let (payload, front) = match outer {
            Some(outer) => (length, outer.len() + ESP_HEADER + layout.iv),
            None if parsed.fragment().is_part() => return Err(DropReason::Fragment),
            None => (length - point.offset, ESP_HEADER + layout.iv),
        };
        let back = usize::from(ipsec::padding_for(payload, layout.alignment)) + ipsec::TRAILER_LENGTH + layout.icv;
        let total = length + front + back;
        let v4 = outer.map_or(version == IpVersion::V4, OuterHeader::is_v4);
        if total > if v4 { MAX_V4 } else { MAX_V6 } || buffer.headroom() < front || buffer.tailroom() < back {
            return Err(DropReason::TooBig);
        }
        Ok(Self { length, version, point, front, back, payload, icv: layout.icv, total })
    }

    /// Length of the packet before ESP.
    #[inline]
    pub(crate) const fn length(&self) -> usize {
        self.length
    }
}

/// Puts ESP around the IP packet at `l3` of `buffer`, which ends with the packet: headers and trailer are final, IV and ICV are room to be filled
/// (OV2-SEND-8). `outer` as for [`Room::measure`], which made `room` of the same packet.
///
/// # Errors
/// [`DropReason::TooBig`] if `room` is not this packet's.
pub(crate) fn encapsulate(buffer: &mut Buffer, l3: usize, outer: Option<&OuterHeader>, room: Room, spi: [u8; 4], sequence: u64) -> Result<Framed, DropReason> {
    let Room { length, version, point, front, back, payload, icv, total } = room;
    let inner = outer.map(|_| Inner::read(&buffer.as_slice()[l3..]));
    let no_room = |_| DropReason::TooBig;
    buffer.prepend(front).map_err(no_room)?;
    buffer.append(back).map_err(no_room)?;
    let bytes = buffer.as_mut_slice();
    let (esp, next_header) = if let (Some(outer), Some(inner)) = (outer, inner) {
        move_link_header(bytes, front, 0, l3);
        if l3 != 0 && outer.is_v4() != (version == IpVersion::V4) {
            set_ethertype(bytes, l3, outer.is_v4());
        }
        outer.write(&mut bytes[l3..], total, inner, sequence as u16);
        (outer.len(), version.protocol().0)
    } else {
        bytes.copy_within(front..front + l3 + point.offset, 0);
        bytes[l3 + point.pointer] = packet::IpProtocol::ESP.0;
        set_total(&mut bytes[l3..], point.offset, total);
        (point.offset, point.protocol.0)
    };
    let start = l3 + esp;
    bytes[start..start + 4].copy_from_slice(&spi);
    bytes[start + 4..start + 8].copy_from_slice(&(sequence as u32).to_be_bytes());
    let (text, end) = (l3 + front + length - payload, bytes.len() - icv);
    let trailer = ipsec::write_trailer(&mut bytes[text..end], payload, next_header).map_err(|_| DropReason::TooBig)?;
    Ok(Framed { esp, next_header, pad_length: trailer.pad_length })
}

/// Where the decrypted payload of a received packet is, in bytes from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    /// Where the ESP header begins.
    pub(crate) esp: usize,
    /// Where the payload begins: after the IV.
    pub(crate) start: usize,
    /// Its length, without padding.
    pub(crate) length: usize,
    pub(crate) next_header: u8,
}

/// Takes ESP in transport mode off: the IP header, with its options or extension headers, moves up to the payload.
///
/// `pointer`: offset from the start of the IP header of the byte that says "ESP".
pub(crate) fn strip_transport(buffer: &mut Buffer, l3: usize, pointer: usize, payload: Payload) {
    let removed = payload.start - payload.esp;
    buffer.truncate(payload.start + payload.length);
    let bytes = buffer.as_mut_slice();
    bytes.copy_within(..payload.esp, removed);
    buffer.trim_front(removed);
    let bytes = &mut buffer.as_mut_slice()[l3..];
    bytes[pointer] = payload.next_header;
    let total = bytes.len();
    set_total(bytes, payload.esp - l3, total);
}

/// Takes a tunnel's headers off: the link header moves up to the inner packet and names its version. The inner packet keeps `length` bytes.
pub(crate) fn strip_tunnel(buffer: &mut Buffer, l3: usize, start: usize, length: usize, v4: bool) {
    buffer.truncate(start + length);
    let removed = start - l3;
    move_link_header(buffer.as_mut_slice(), 0, removed, l3);
    buffer.trim_front(removed);
    if l3 != 0 {
        set_ethertype(buffer.as_mut_slice(), l3, v4);
    }
}

/// Moves a link header of `length` bytes. Nearly all are as long as Ethernet's without tags: a move of a known length is no call.
#[inline]
fn move_link_header(bytes: &mut [u8], from: usize, to: usize, length: usize) {
    if length == ETHERNET_HEADER_LEN {
        let mut header = [0; ETHERNET_HEADER_LEN];
        header.copy_from_slice(&bytes[from..from + ETHERNET_HEADER_LEN]);
        bytes[to..to + ETHERNET_HEADER_LEN].copy_from_slice(&header);
    } else {
        bytes.copy_within(from..from + length, to);
    }
}

/// Sets the length field of the IP header at the start of `ip`, and the checksum of an IPv4 one of `header` bytes.
fn set_total(ip: &mut [u8], header: usize, total: usize) {
    if ip[0] >> 4 == 4 {
        ip[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        let sum = checksum::ipv4_header_checksum(&ip[..header]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        ip[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
    }
}

/// Sets the type of an Ethernet header (or its SNAP extension) of `l3` bytes: in all of them the last two.
fn set_ethertype(frame: &mut [u8], l3: usize, v4: bool) {
    let ethertype = if v4 { EtherType::IPV4 } else { EtherType::IPV6 };
    frame[l3 - 2..l3].copy_from_slice(&ethertype.0.to_be_bytes());
}
