//! Putting protection around packets: headers, trailer, lengths. No cryptography here: NIC and software fill in the rest, so the bytes are the same whoever
//! does (OV2-TRANS-2).
//!
//! ```text
//! transport   IP  [UDP]  [AH]  [ESP, IV]  payload  [padding, trailer, ICV]
//! tunnel      outer IP  [UDP]  [AH]  [ESP, IV]  packet  [zeros]  [padding, trailer, ICV]
//! ```
//!
//! UDP never stands with AH. A packet in transport mode may then go through a tunnel as any other.

use packet::{AH_FIXED_LEN, Buffer, ETHERNET_HEADER_LEN, EtherType, InsertionPoint, IpProtocol, IpVersion, UDP_HEADER_LEN, checksum};

use crate::outer::{Inner, OuterHeader};
use crate::parameters::UdpEncapsulation;
use crate::verdict::DropReason;

/// Length of SPI and sequence number.
pub(crate) const ESP_HEADER: usize = 8;
/// The longest IP packet that its length field can tell: IPv4, and IPv6 with its 40 bytes of header.
pub(crate) const MAX_V4: usize = 65_535;
pub(crate) const MAX_V6: usize = 65_535 + 40;

/// Lengths of an SA's ESP, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EspLayout {
    pub(crate) spi: [u8; 4],
    pub(crate) iv: usize,
    pub(crate) icv: usize,
    /// What the trailer ends on.
    pub(crate) alignment: usize,
}

/// Lengths of an SA's AH, in bytes, over either version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AhLayout {
    pub(crate) spi: [u8; 4],
    pub(crate) v4: usize,
    pub(crate) v6: usize,
}

/// What a bundle puts around each packet, but for the outer header of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) udp: Option<UdpEncapsulation>,
    pub(crate) ah: Option<AhLayout>,
    pub(crate) esp: Option<EspLayout>,
    /// What the packets of an ESP tunnel are brought to with zeros, in bytes.
    pub(crate) pad_to: usize,
}

impl Layout {
    /// The protocol of the first header that is put in front.
    pub(crate) const fn protocol(&self) -> IpProtocol {
        if self.udp.is_some() {
            IpProtocol::UDP
        } else if self.ah.is_some() {
            IpProtocol::AH
        } else {
            IpProtocol::ESP
        }
    }
}

/// What has to be known of a packet to protect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) length: usize,
    pub(crate) version: IpVersion,
    /// Where the headers go in transport mode.
    pub(crate) point: InsertionPoint,
    /// It is a part of a packet.
    pub(crate) part: bool,
}

/// The numbers that a bundle's headers carry; 0 where it has no such header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) esp: u64,
    pub(crate) ah: u64,
}

/// Where the headers of a framed packet are, in bytes from the start of the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Framed {
    /// The IP header that they stand behind.
    pub(crate) ip: u32,
    /// 0: there is none.
    pub(crate) ah: u32,
    /// 0: there is none.
    pub(crate) esp: u32,
    /// The end of the IP packet, and of its ICV.
    pub(crate) end: u32,
    pub(crate) next_header: u8,
    pub(crate) pad_length: u8,
}

impl Framed {
    /// The same after `bytes` were put in front of the frame's packet.
    pub(crate) const fn moved(self, bytes: u32) -> Self {
        Self {
            ip: self.ip + bytes,
            ah: if self.ah == 0 { 0 } else { self.ah + bytes },
            esp: if self.esp == 0 { 0 } else { self.esp + bytes },
            end: self.end + bytes,
            ..self
        }
    }
}

/// What a bundle adds to a packet, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) shape: Shape,
    /// Before the payload: outer header, UDP, AH, ESP header, IV.
    pub(crate) front: usize,
    /// After it: zeros, padding, trailer, ICV.
    pub(crate) back: usize,
    /// What ESP takes of the packet.
    payload: usize,
    /// Zeros behind the payload.
    zeros: usize,
    /// Length of AH.
    ah: usize,
    /// Length of the whole packet afterwards.
    pub(crate) total: usize,
}

impl Room {
    /// Measures what protecting a packet takes; `outer`: the header of a tunnel, without it transport mode. (Whether its buffer has that room, see
    /// [`Room::fits`].)
    ///
    /// # Errors
    /// [`DropReason::TooBig`]: the packet would be longer than IP allows; [`DropReason::Fragment`]: a part of a packet in transport mode.
    #[inline]
    pub(crate) fn measure(shape: Shape, outer: Option<&OuterHeader>, layout: &Layout) -> Result<Self, DropReason> {
        let Shape { length, version, point, part } = shape;
        let (payload, header) = match outer {
            Some(outer) => (length, outer.len()),
            None if part => return Err(DropReason::Fragment),
            None => (length.saturating_sub(point.offset), 0),
        };
        let v4 = outer.map_or(version == IpVersion::V4, OuterHeader::is_v4);
        let most = if v4 { MAX_V4 } else { MAX_V6 };
        let ah = layout.ah.map_or(0, |ah| if v4 { ah.v4 } else { ah.v6 });
        let udp = if layout.udp.is_some() { UDP_HEADER_LEN } else { 0 };
        let (mut front, mut back, mut zeros) = (header + udp + ah, 0, 0);
        if let Some(esp) = layout.esp {
            front += ESP_HEADER + esp.iv;
            if payload < layout.pad_to && outer.is_some() {
                let left = most.saturating_sub(length + front + ipsec::TRAILER_LENGTH + esp.icv + esp.alignment);
                zeros = (layout.pad_to - payload).min(left);
            }
            back = zeros + usize::from(ipsec::padding_for(payload + zeros, esp.alignment)) + ipsec::TRAILER_LENGTH + esp.icv;
        }
        let total = length + front + back;
        if total > most {
            return Err(DropReason::TooBig);
        }
        Ok(Self { shape, front, back, payload, zeros, ah, total })
    }

    /// The packet as the next bundle finds it.
    pub(crate) const fn shape_afterwards(&self) -> Shape {
        Shape { length: self.total, version: self.shape.version, point: self.shape.point, part: self.shape.part }
    }

    /// Length of the packet before.
    #[inline]
    pub(crate) const fn length(&self) -> usize {
        self.shape.length
    }

    /// Whether a buffer that ends with the packet has room for this and, around it, for `outer`. The one place where that is checked (R-02).
    #[inline]
    pub(crate) fn fits(&self, outer: Option<&Self>, buffer: &Buffer) -> bool {
        let (front, back) = outer.map_or((0, 0), |outer| (outer.front, outer.back));
        buffer.headroom() >= self.front + front && buffer.tailroom() >= self.back + back
    }
}

/// Puts a bundle's headers around the IP packet at `l3` of `buffer`, which ends with the packet: headers and trailer are final, IV and ICVs are room to be
/// filled (OV2-SEND-8). `outer` and `layout` as for [`Room::measure`], which made `room` of the same packet. `dummy`: what it carries is nothing.
///
/// # Errors
/// [`DropReason::TooBig`] if `room` is not this packet's.
// Inlined, so that what it returns goes from registers to where it is wanted.
#[inline(always)]
pub(crate) fn encapsulate(
    buffer: &mut Buffer,
    l3: usize,
    outer: Option<&OuterHeader>,
    layout: &Layout,
    room: &Room,
    numbers: Numbers,
    dummy: bool,
) -> Result<Framed, DropReason> {
    let &Room { shape: Shape { length, version, point, .. }, front, back, payload, zeros, ah, total } = room;
    let inner = outer.map(|_| Inner::read(&buffer.as_slice()[l3..]));
    let no_room = |_| DropReason::TooBig;
    buffer.prepend(front).map_err(no_room)?;
    buffer.append(back).map_err(no_room)?;
    let bytes = buffer.as_mut_slice();
    let (header, next_header) = if let (Some(outer), Some(inner)) = (outer, inner) {
        move_link_header(bytes, front, 0, l3);
        if l3 != 0 && outer.is_v4() != (version == IpVersion::V4) {
            set_ethertype(bytes, l3, outer.is_v4());
        }
        // The number of its outermost header, for want of anything else that differs.
        let identification = if ah == 0 { numbers.esp } else { numbers.ah };
        outer.write(&mut bytes[l3..], total, inner, identification as u16);
        (outer.len(), version.protocol())
    } else {
        bytes.copy_within(front..front + l3 + point.offset, 0);
        bytes[l3 + point.pointer] = layout.protocol().0;
        set_total(&mut bytes[l3..], point.offset, total);
        (point.offset, point.protocol)
    };
    let next_header = if dummy { IpProtocol::NO_NEXT_HEADER } else { next_header };
    let end = bytes.len();
    let mut framed = Framed { ip: l3 as u32, ah: 0, esp: 0, end: end as u32, next_header: next_header.0, pad_length: 0 };
    let mut at = l3 + header;
    if let Some(udp) = layout.udp {
        write_udp(&mut bytes[at..], udp, total - header);
        at += UDP_HEADER_LEN;
    }
    if let Some(AhLayout { spi, .. }) = layout.ah {
        framed.ah = at as u32;
        let next = if layout.esp.is_some() { IpProtocol::ESP } else { next_header };
        write_ah(&mut bytes[at..at + ah], next, spi, numbers.ah);
        at += ah;
    }
    if let Some(EspLayout { spi, icv, .. }) = layout.esp {
        framed.esp = at as u32;
        bytes[at..at + 4].copy_from_slice(&spi);
        bytes[at + 4..at + 8].copy_from_slice(&(numbers.esp as u32).to_be_bytes());
        let (text, end) = (l3 + front + length - payload, end - icv);
        if zeros != 0 {
            bytes[text + payload..text + payload + zeros].fill(0);
        }
        let trailer = ipsec::write_trailer(&mut bytes[text..end], payload + zeros, next_header.0).map_err(|_| DropReason::TooBig)?;
        framed.pad_length = trailer.pad_length;
    }
    Ok(framed)
}

/// A UDP header for `length` bytes including it; without checksum (RFC 3948 section 2.1).
pub(crate) fn write_udp(bytes: &mut [u8], udp: UdpEncapsulation, length: usize) {
    bytes[..2].copy_from_slice(&udp.source_port.to_be_bytes());
    bytes[2..4].copy_from_slice(&udp.destination_port.to_be_bytes());
    bytes[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    bytes[6..8].fill(0);
}

/// An AH that fills `bytes`. All of its ICV field is written: what a buffer held before goes nowhere (R-28).
pub(crate) fn write_ah(bytes: &mut [u8], next: IpProtocol, spi: [u8; 4], sequence: u64) {
    bytes[0] = next.0;
    bytes[1] = (bytes.len() / 4 - 2) as u8;
    bytes[2..4].fill(0);
    bytes[4..8].copy_from_slice(&spi);
    bytes[8..AH_FIXED_LEN].copy_from_slice(&(sequence as u32).to_be_bytes());
    bytes[AH_FIXED_LEN..].fill(0);
}

/// Moves a link header of `length` bytes. Nearly all are as long as Ethernet's without tags: a move of a known length is no call.
#[inline]
pub(crate) fn move_link_header(bytes: &mut [u8], from: usize, to: usize, length: usize) {
    if length == ETHERNET_HEADER_LEN {
        let mut header = [0; ETHERNET_HEADER_LEN];
        header.copy_from_slice(&bytes[from..from + ETHERNET_HEADER_LEN]);
        bytes[to..to + ETHERNET_HEADER_LEN].copy_from_slice(&header);
    } else {
        bytes.copy_within(from..from + length, to);
    }
}

/// Sets the length field of the IP header at the start of `ip`, and the checksum of an IPv4 one of `header` bytes.
pub(crate) fn set_total(ip: &mut [u8], header: usize, total: usize) {
    if ip[0] >> 4 == 4 {
        ip[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        let sum = checksum::ipv4_header_checksum(&ip[..header]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        ip[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
    }
}

/// Sets the type of an Ethernet header (or its SNAP extension) of `l3` bytes: in all of them the last two.
pub(crate) fn set_ethertype(frame: &mut [u8], l3: usize, v4: bool) {
    let ethertype = if v4 { EtherType::IPV4 } else { EtherType::IPV6 };
    frame[l3 - 2..l3].copy_from_slice(&ethertype.0.to_be_bytes());
}
