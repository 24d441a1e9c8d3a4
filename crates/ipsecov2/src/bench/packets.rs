//! The packets that are measured: tunnel mode over IPv4 and Ethernet.

use std::ops::Range;

use ipsec::{Crypto, EspSa};
use ndis::HeaderTransmit;
use packet::{InternetSum, IpAddress, IpProtocol, Ipv4Repr, Spi, UDP_HEADER_LEN, checksum};

use super::BenchError;
use super::suite::next;

/// What frames begin with.
pub(super) const LINK: [u8; 14] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
/// Ends of the tunnel.
pub(super) const ENDS: [[u8; 4]; 2] = [[192, 0, 2, 1], [192, 0, 2, 2]];
/// Bytes of an IPv4 header, inner or outer.
const IP: usize = 20;
/// Where ESP begins in a protected frame.
pub(super) const ESP: usize = LINK.len() + IP;
/// Bytes of an inner packet's IPv4 and UDP headers.
const HEAD: usize = IP + UDP_HEADER_LEN;
/// What inner packets without room for a UDP header carry: no upper protocol that anybody knows (RFC 3692).
const PAYLOAD: IpProtocol = IpProtocol(253);
/// Flows of each SA: senders behind the gateway, each with a port of its own.
pub(super) const FLOWS: u32 = 16;
/// Where these senders are.
pub(super) const SOURCES: [[u8; 4]; 2] = [[10, 1, 0, 0], [10, 1, 0, 255]];

/// SPI of SA `number`.
pub(super) const fn spi(number: u32) -> Spi {
    Spi(0x1000 + number)
}

/// Where the packets of SA `number` go to, inside of the tunnel.
pub(super) const fn destination(number: u32) -> [u8; 4] {
    let [_, a, b, c] = number.to_be_bytes();
    [10, 128 | a, b, c]
}

/// What inner packets carry.
const FILLING: u8 = 0x5a;

/// The headers of a packet of `length` bytes, of a flow of SA `number`: IPv4 and, where there is room, UDP. With the bytes there are of them. `payload`: the sum
/// over what is behind UDP.
fn inner_headers(number: u32, flow: u32, length: usize, payload: InternetSum) -> Result<([u8; HEAD], usize), BenchError> {
    let (flow, mut bytes) = (flow as u8, [0; HEAD]);
    let [[a, b, c, _], _] = SOURCES;
    let (source, destination) = ([a, b, c, 1 + flow], destination(number));
    let is_udp = length >= HEAD;
    bytes[..IP].copy_from_slice(&header(if is_udp { IpProtocol::UDP } else { PAYLOAD }, source, destination, length)?);
    if is_udp {
        let (from, to, bytes_behind) = (1024 + u16::from(flow), 5001, (length - IP) as u16);
        let pseudo_header = checksum::pseudo_header(IpAddress::v4(source), IpAddress::v4(destination), IpProtocol::UDP, u32::from(bytes_behind));
        let sum = pseudo_header.word(from).word(to).word(bytes_behind).word(payload.fold()).checksum();
        let udp = [from, to, bytes_behind, not_zero(sum)];
        for (place, word) in bytes[IP..].as_chunks_mut::<2>().0.iter_mut().zip(udp) {
            *place = word.to_be_bytes();
        }
    }
    Ok((bytes, if is_udp { HEAD } else { IP }))
}

fn header(protocol: IpProtocol, source: [u8; 4], destination: [u8; 4], length: usize) -> Result<[u8; IP], BenchError> {
    let mut bytes = [0; IP];
    let repr = Ipv4Repr::new(protocol, source.into(), destination.into(), length.saturating_sub(IP));
    repr.emit(&mut bytes).map_err(|error| BenchError::Packet { length, reason: error.to_string() })?;
    Ok(bytes)
}

/// A frame that others are copied from, and then made one of an SA's own.
pub(super) struct Template {
    /// The frame; SPI, sequence number and inner destination are to be filled in.
    pub(super) frame: Vec<u8>,
    /// What the transport says of it (OV2-SEND-8), if it is an ESP packet.
    pub(super) header: HeaderTransmit,
    /// Where the inner IP packet is, and how long.
    inner: Range<usize>,
    /// Its headers in each flow of SA 0; empty if it is no IP packet, but just bytes.
    heads: Vec<[u8; HEAD]>,
    /// Bytes of these headers.
    head: usize,
    /// Bytes under the cipher; 0 of a plain frame.
    pub(super) text: usize,
}

impl Template {
    /// A plain frame with an inner packet of `length` bytes.
    pub(super) fn plain(length: usize) -> Result<Self, BenchError> {
        let (heads, head) = heads(length)?;
        let mut frame = LINK.to_vec();
        frame.resize(LINK.len() + length, FILLING);
        Ok(Self { frame, header: HeaderTransmit::default(), inner: LINK.len()..LINK.len() + length, heads, head, text: 0 })
    }

    /// A frame as the transport hands it to the NIC: an inner packet of `length` bytes with headers and trailer, ready to be sealed.
    pub(super) fn framed(sa: &EspSa<Crypto>, length: usize) -> Result<Self, BenchError> {
        let (mut frame, text) = outer(sa, length + sa.overhead(length))?;
        let inner = text.start..text.start + length;
        frame[inner.clone()].fill(FILLING);
        let impossible = |error: ipsec::TrailerError| BenchError::Packet { length, reason: error.to_string() };
        let next_header = IpProtocol::IPV4.0;
        let trailer = ipsec::write_trailer(&mut frame[text.clone()], length, next_header).map_err(impossible)?;
        let header = HeaderTransmit { next_header, pad_length: trailer.pad_length, ah_header_offset: 0, esp_header_offset: (IP / 4) as u8 };
        let (heads, head) = heads(length)?;
        Ok(Self { frame, header, inner, heads, head, text: text.len() })
    }

    /// The same with `length` bytes of anything under the cipher, trailer included, rounded up to what it aligns to.
    pub(super) fn text(sa: &EspSa<Crypto>, length: usize) -> Result<Self, BenchError> {
        let length = length.next_multiple_of(sa.alignment());
        let (mut frame, text) = outer(sa, sa.prefix_length() + length + sa.icv_length())?;
        frame[text.clone()].fill(FILLING);
        Ok(Self { frame, header: HeaderTransmit::default(), inner: text.clone(), heads: Vec::new(), head: 0, text: text.len() })
    }

    /// Makes `frame` the packet `sequence` of an SA: a frame that is to be sealed.
    pub(super) fn fill_framed(&self, frame: &mut [u8], pick: Pick, sequence: u32) {
        frame.copy_from_slice(&self.frame);
        frame[ESP..][..4].copy_from_slice(&spi(pick.number).0.to_be_bytes());
        frame[ESP + 4..][..4].copy_from_slice(&sequence.to_be_bytes());
        self.address(frame, pick);
    }

    /// Makes `frame` a plain packet that an SA will protect.
    pub(super) fn fill_plain(&self, frame: &mut [u8], pick: Pick) {
        frame.copy_from_slice(&self.frame);
        self.address(frame, pick);
    }

    fn address(&self, frame: &mut [u8], pick: Pick) {
        let Some(first) = self.heads.get(pick.flow as usize) else { return };
        let head = &mut frame[self.inner.clone()][..self.head];
        head.copy_from_slice(&first[..self.head]);
        if pick.number != 0 {
            redirect(head, destination(pick.number));
        }
    }
}

/// The checksum as UDP has it: 0 would say that there is none (RFC 768).
const fn not_zero(sum: u16) -> u16 {
    if sum == 0 { 0xffff } else { sum }
}

/// Sends a packet with these inner headers to another address.
fn redirect(head: &mut [u8], to: [u8; 4]) {
    let from: [u8; 4] = *head[16..].first_chunk().expect("an IPv4 header");
    head[16..20].copy_from_slice(&to);
    for field in [10, HEAD - 2] {
        if let Some(sum) = head.get_mut(field..field + 2).and_then(|field| field.first_chunk_mut::<2>()) {
            let value = checksum::update_bytes(u16::from_be_bytes(*sum), &from, &to);
            *sum = if field == 10 { value } else { not_zero(value) }.to_be_bytes();
        }
    }
}

/// The headers of packets of `length` bytes in each flow of SA 0, and the bytes there are of them.
fn heads(length: usize) -> Result<(Vec<[u8; HEAD]>, usize), BenchError> {
    let payload = InternetSum::new().bytes(&vec![FILLING; length.saturating_sub(HEAD)]);
    let heads = (0..FLOWS).map(|flow| inner_headers(0, flow, length, payload)).collect::<Result<Vec<_>, _>>()?;
    let head = heads.first().map_or(0, |(_, head)| *head);
    Ok((heads.into_iter().map(|(bytes, _)| bytes).collect(), head))
}

/// Link and outer IP header before an ESP packet of `length` bytes, which is zero, and where its text is.
fn outer(sa: &EspSa<Crypto>, length: usize) -> Result<(Vec<u8>, Range<usize>), BenchError> {
    let text = sa.text(length).map_err(|error| BenchError::Packet { length, reason: error.to_string() })?;
    let mut frame = LINK.to_vec();
    frame.extend(header(IpProtocol::ESP, ENDS[0], ENDS[1], IP + length)?);
    frame.resize(ESP + length, 0);
    Ok((frame, ESP + text.start..ESP + text.end))
}

/// What a packet belongs to.
#[derive(Clone, Copy)]
pub(super) struct Pick {
    /// The place of the SA among those of the picker.
    pub(super) place: usize,
    /// The SA.
    pub(super) number: u32,
    /// Its flow, less than [`FLOWS`].
    pub(super) flow: u32,
}

/// Which SAs and flows a worker's packets belong to: at random.
pub(super) struct Picker {
    numbers: Vec<u32>,
    state: u64,
}

impl Picker {
    /// Picks among `numbers`.
    pub(super) fn new(numbers: Vec<u32>) -> Self {
        Self { numbers, state: 0x1234_5678_9abc_def1 }
    }

    /// What the next packet belongs to.
    pub(super) fn pick(&mut self) -> Pick {
        let random = next(&mut self.state);
        // The upper half of the product: a place below the length, without division.
        let place = ((random >> 32).wrapping_mul(self.numbers.len() as u64) >> 32) as usize;
        Pick { place, number: self.numbers.get(place).copied().unwrap_or_default(), flow: random as u32 % FLOWS }
    }

    pub(super) fn numbers(&self) -> &[u32] {
        &self.numbers
    }
}

/// The address type that policies use.
pub(super) fn address(bytes: [u8; 4]) -> IpAddress {
    std::net::Ipv4Addr::from(bytes).into()
}
