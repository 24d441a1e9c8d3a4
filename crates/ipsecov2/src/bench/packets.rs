//! The packets that are measured: tunnel mode over IPv4 and Ethernet.

use std::ops::Range;

use ipsec::{Crypto, EspSa};
use ndis::HeaderTransmit;
use packet::{IpAddress, IpProtocol, Ipv4Repr, Spi};

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
/// What inner packets carry: no upper protocol that anybody knows (RFC 3692).
const PAYLOAD: IpProtocol = IpProtocol(253);
const SOURCE: [u8; 4] = [10, 1, 0, 1];

/// SPI of SA `number`.
pub(super) const fn spi(number: u32) -> Spi {
    Spi(0x1000 + number)
}

/// Where the packets of SA `number` go to, inside of the tunnel.
pub(super) const fn destination(number: u32) -> [u8; 4] {
    let [_, a, b, c] = number.to_be_bytes();
    [10, 128 | a, b, c]
}

/// The header of a packet of `length` bytes of SA `number`.
fn inner_header(number: u32, length: usize) -> Result<[u8; IP], BenchError> {
    header(PAYLOAD, SOURCE, destination(number), length)
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
    /// Whether that is an IP packet with a header, and not just bytes.
    is_ip: bool,
    /// Bytes under the cipher; 0 of a plain frame.
    pub(super) text: usize,
}

impl Template {
    /// A plain frame with an inner packet of `length` bytes.
    pub(super) fn plain(length: usize) -> Result<Self, BenchError> {
        let mut frame = LINK.to_vec();
        frame.extend(inner_header(0, length)?);
        frame.resize(LINK.len() + length, 0x5a);
        Ok(Self { frame, header: HeaderTransmit::default(), inner: LINK.len()..LINK.len() + length, is_ip: true, text: 0 })
    }

    /// A frame as the transport hands it to the NIC: an inner packet of `length` bytes with headers and trailer, ready to be sealed.
    pub(super) fn framed(sa: &EspSa<Crypto>, length: usize) -> Result<Self, BenchError> {
        let (mut frame, text) = outer(sa, length + sa.overhead(length))?;
        let inner = text.start..text.start + length;
        frame[inner.clone()].fill(0x5a);
        let impossible = |error: ipsec::TrailerError| BenchError::Packet { length, reason: error.to_string() };
        let next_header = IpProtocol::IPV4.0;
        let trailer = ipsec::write_trailer(&mut frame[text.clone()], length, next_header).map_err(impossible)?;
        let header = HeaderTransmit { next_header, pad_length: trailer.pad_length, ah_header_offset: 0, esp_header_offset: (IP / 4) as u8 };
        frame[inner.clone()][..IP].copy_from_slice(&inner_header(0, length)?);
        Ok(Self { frame, header, inner, is_ip: true, text: text.len() })
    }

    /// The same with `length` bytes of anything under the cipher, trailer included, rounded up to what it aligns to.
    pub(super) fn text(sa: &EspSa<Crypto>, length: usize) -> Result<Self, BenchError> {
        let length = length.next_multiple_of(sa.alignment());
        let (mut frame, text) = outer(sa, sa.prefix_length() + length + sa.icv_length())?;
        frame[text.clone()].fill(0x5a);
        Ok(Self { frame, header: HeaderTransmit::default(), inner: text.clone(), is_ip: false, text: text.len() })
    }

    /// Makes `frame` the packet `sequence` of SA `number`: a frame that is to be sealed.
    pub(super) fn fill_framed(&self, frame: &mut [u8], number: u32, sequence: u32) -> Result<(), BenchError> {
        frame.copy_from_slice(&self.frame);
        frame[ESP..][..4].copy_from_slice(&spi(number).0.to_be_bytes());
        frame[ESP + 4..][..4].copy_from_slice(&sequence.to_be_bytes());
        self.address(frame, number)
    }

    /// Makes `frame` a plain packet that SA `number` will protect.
    pub(super) fn fill_plain(&self, frame: &mut [u8], number: u32) -> Result<(), BenchError> {
        frame.copy_from_slice(&self.frame);
        self.address(frame, number)
    }

    fn address(&self, frame: &mut [u8], number: u32) -> Result<(), BenchError> {
        if self.is_ip && number != 0 {
            frame[self.inner.clone()][..IP].copy_from_slice(&inner_header(number, self.inner.len())?);
        }
        Ok(())
    }
}

/// Link and outer IP header before an ESP packet of `length` bytes, which is zero, and where its text is.
fn outer(sa: &EspSa<Crypto>, length: usize) -> Result<(Vec<u8>, Range<usize>), BenchError> {
    let text = sa.text(length).map_err(|error| BenchError::Packet { length, reason: error.to_string() })?;
    let mut frame = LINK.to_vec();
    frame.extend(header(IpProtocol::ESP, ENDS[0], ENDS[1], IP + length)?);
    frame.resize(ESP + length, 0);
    Ok((frame, ESP + text.start..ESP + text.end))
}

/// Which SAs a worker's packets belong to: one after the other, or at random where there are many.
pub(super) struct Picker {
    numbers: Vec<u32>,
    state: u64,
}

impl Picker {
    /// Picks among `numbers`.
    pub(super) fn new(numbers: Vec<u32>) -> Self {
        Self { numbers, state: 0x1234_5678_9abc_def1 }
    }

    /// The place among the numbers, and the number.
    pub(super) fn pick(&mut self) -> (usize, u32) {
        match self.numbers[..] {
            [number] => (0, number),
            ref numbers => {
                // The upper half of the product: a place below the length, without division.
                let place = ((next(&mut self.state) >> 32).wrapping_mul(numbers.len() as u64) >> 32) as usize;
                (place, numbers.get(place).copied().unwrap_or_default())
            }
        }
    }

    pub(super) fn numbers(&self) -> &[u32] {
        &self.numbers
    }
}

/// The address type that policies use.
pub(super) fn address(bytes: [u8; 4]) -> IpAddress {
    std::net::Ipv4Addr::from(bytes).into()
}
