//! IPv4 (RFC 791).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Version|  IHL  |    DSCP   |ECN|          Total Length         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |         Identification        |Flags|      Fragment Offset    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  Time to Live |    Protocol   |         Header Checksum       |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                         Source Address                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                      Destination Address                      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                    Options                    |    Padding    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use core::fmt;
use core::net::Ipv4Addr;

use crate::bytes::{array_at, fit_u16, put, range, range_mut, space, u16_at};
use crate::checksum;
use crate::error::{EmitError, Layer, ParseError};
use crate::options::HeaderOptions;
use crate::proto::IpProtocol;

/// Length of the header without options, in bytes.
pub const IPV4_HEADER_LEN: usize = 20;
/// The largest length of the header with options, in bytes.
pub const IPV4_MAX_HEADER_LEN: usize = 60;

pub(crate) const TRAFFIC_CLASS: usize = 1;
pub(crate) const TOTAL_LEN: usize = 2;
pub(crate) const IDENTIFICATION: usize = 4;
pub(crate) const FRAGMENT: usize = 6;
pub(crate) const TTL: usize = 8;
pub(crate) const PROTOCOL: usize = 9;
pub(crate) const CHECKSUM: usize = 10;
pub(crate) const SOURCE: usize = 12;
pub(crate) const DESTINATION: usize = 16;

pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;
pub(crate) const OFFSET_MASK: u16 = 0x1fff;

/// An IPv4 packet in a byte container. What follows the total length (link padding) is not part of its payload.
#[derive(Clone, Copy)]
pub struct Ipv4Packet<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Ipv4Packet<T> {
    /// Checks version, header length and total length. The header checksum is left to [`Self::verify_checksum`].
    ///
    /// # Errors
    /// [`ParseError`] with what does not hold.
    #[inline]
    pub fn new(bytes: T) -> Result<Self, ParseError> {
        let data = bytes.as_ref();
        check(data)?;
        let total = usize::from(u16_at(data, TOTAL_LEN));
        if total > data.len() {
            return Err(ParseError::truncated(Layer::Ipv4, total, data.len()));
        }
        Ok(Self { bytes })
    }

    /// As [`Self::new`], for packets that may have been cut after the header (quoted in ICMP errors): the total length may be larger than the data.
    ///
    /// # Errors
    /// [`ParseError`] with what does not hold.
    #[inline]
    pub fn new_cut(bytes: T) -> Result<Self, ParseError> {
        check(bytes.as_ref())?;
        let packet = Self { bytes };
        let (header_len, found) = (packet.header_len(), packet.data().len());
        if header_len > found {
            return Err(ParseError::truncated(Layer::Ipv4, header_len, found));
        }
        Ok(packet)
    }

    #[inline]
    fn data(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Header length with options, in bytes: 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.data()[0] & 0xf) * 4
    }

    /// DSCP and ECN, the former type of service.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        self.data()[TRAFFIC_CLASS]
    }

    /// Total length of header and payload, in bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(u16_at(self.data(), TOTAL_LEN))
    }

    /// Identification.
    #[inline]
    pub fn identification(&self) -> u16 {
        u16_at(self.data(), IDENTIFICATION)
    }

    /// Don't-fragment flag.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        u16_at(self.data(), FRAGMENT) & DONT_FRAGMENT != 0
    }

    /// More-fragments flag.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        u16_at(self.data(), FRAGMENT) & MORE_FRAGMENTS != 0
    }

    /// Where the payload belongs in the whole packet's payload, in bytes.
    #[inline]
    pub fn fragment_offset(&self) -> usize {
        usize::from(u16_at(self.data(), FRAGMENT) & OFFSET_MASK) * 8
    }

    /// Whether the packet is a fragment of another, first or later.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        u16_at(self.data(), FRAGMENT) & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.data()[TTL]
    }

    /// Protocol of the payload.
    #[inline]
    pub fn protocol(&self) -> IpProtocol {
        IpProtocol(self.data()[PROTOCOL])
    }

    /// Header checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.data(), CHECKSUM)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        array_at::<4>(self.data(), SOURCE).into()
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        array_at::<4>(self.data(), DESTINATION).into()
    }

    /// The options area: 0 to 40 bytes.
    #[inline]
    pub fn options_area(&self) -> &[u8] {
        range(self.data(), IPV4_HEADER_LEN, self.header_len())
    }

    /// The options in order.
    #[inline]
    pub fn options(&self) -> HeaderOptions<'_> {
        HeaderOptions::new(Layer::Ipv4, self.options_area())
    }

    /// What follows the header, up to the total length or the end of the data.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        range(self.data(), self.header_len(), self.total_len().min(self.data().len()))
    }

    /// Whether the header checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        checksum::verify_ipv4_header(range(self.data(), 0, self.header_len()))
    }

    /// The header without its options, checksum and lengths, as values.
    pub fn repr(&self) -> Ipv4Repr {
        Ipv4Repr {
            traffic_class: self.traffic_class(),
            identification: self.identification(),
            dont_fragment: self.dont_fragment(),
            more_fragments: self.more_fragments(),
            fragment_offset: self.fragment_offset() as u16,
            ttl: self.ttl(),
            protocol: self.protocol(),
            src: self.src(),
            dst: self.dst(),
            payload_len: self.total_len().saturating_sub(self.header_len()),
        }
    }

    /// The container back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.bytes
    }
}

/// The setters leave the checksum as it is: [`Self::fill_checksum`] after the last of them.
impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv4Packet<T> {
    /// Sets DSCP and ECN.
    #[inline]
    pub fn set_traffic_class(&mut self, value: u8) {
        self.bytes.as_mut()[TRAFFIC_CLASS] = value;
    }

    /// Sets the total length, in bytes.
    #[inline]
    pub fn set_total_len(&mut self, bytes: u16) {
        put(self.bytes.as_mut(), TOTAL_LEN, &bytes.to_be_bytes());
    }

    /// Sets the identification.
    #[inline]
    pub fn set_identification(&mut self, value: u16) {
        put(self.bytes.as_mut(), IDENTIFICATION, &value.to_be_bytes());
    }

    /// Sets both fragmentation flags and the offset, in bytes (its lowest three bits are dropped, as are those above 16).
    #[inline]
    pub fn set_fragment(&mut self, dont_fragment: bool, more_fragments: bool, offset: u16) {
        let field = fragment_field(dont_fragment, more_fragments, offset);
        put(self.bytes.as_mut(), FRAGMENT, &field.to_be_bytes());
    }

    /// Sets the time to live.
    #[inline]
    pub fn set_ttl(&mut self, value: u8) {
        self.bytes.as_mut()[TTL] = value;
    }

    /// Sets the protocol of the payload.
    #[inline]
    pub fn set_protocol(&mut self, protocol: IpProtocol) {
        self.bytes.as_mut()[PROTOCOL] = protocol.0;
    }

    /// Sets the checksum field.
    #[inline]
    pub fn set_checksum(&mut self, value: u16) {
        put(self.bytes.as_mut(), CHECKSUM, &value.to_be_bytes());
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, address: Ipv4Addr) {
        put(self.bytes.as_mut(), SOURCE, &address.octets());
    }

    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, address: Ipv4Addr) {
        put(self.bytes.as_mut(), DESTINATION, &address.octets());
    }

    /// Computes the header checksum and puts it in.
    #[inline]
    pub fn fill_checksum(&mut self) {
        let value = checksum::ipv4_header_checksum(range(self.data(), 0, self.header_len()));
        self.set_checksum(value);
    }

    /// What follows the header, up to the total length or the end of the data.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (from, to) = (self.header_len(), self.total_len().min(self.data().len()));
        range_mut(self.bytes.as_mut(), from, to)
    }
}

impl<T: AsRef<[u8]>> fmt::Debug for Ipv4Packet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repr().fmt(f)
    }
}

/// An IPv4 header as values, to build one from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Repr {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Identification.
    pub identification: u16,
    /// Don't-fragment flag.
    pub dont_fragment: bool,
    /// More-fragments flag.
    pub more_fragments: bool,
    /// Fragment offset in bytes, a multiple of 8.
    pub fragment_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: IpProtocol,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Bytes after the header.
    pub payload_len: usize,
}

impl Ipv4Repr {
    /// An unfragmented packet with TTL 64, don't-fragment set and everything else zero.
    pub const fn new(protocol: IpProtocol, src: Ipv4Addr, dst: Ipv4Addr, payload_len: usize) -> Self {
        Self { traffic_class: 0, identification: 0, dont_fragment: true, more_fragments: false, fragment_offset: 0, ttl: 64, protocol, src, dst, payload_len }
    }

    /// Writes a header of 20 bytes with its checksum to the start of `out`, and returns its length.
    ///
    /// # Errors
    /// [`EmitError`] if `out` is too short, the packet too long, or the fragment offset not a multiple of 8.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, EmitError> {
        self.emit_with_options(out, &[])
    }

    /// As [`Self::emit`], with options of up to 40 bytes after the fixed part.
    ///
    /// # Errors
    /// As [`Self::emit`]; also if the length of the options is not a multiple of 4 or above 40.
    #[inline]
    pub fn emit_with_options(&self, out: &mut [u8], options: &[u8]) -> Result<usize, EmitError> {
        const MAX_OPTIONS: usize = IPV4_MAX_HEADER_LEN - IPV4_HEADER_LEN;
        if options.len() > MAX_OPTIONS {
            return Err(EmitError::TooLarge { layer: Layer::Ipv4, max: MAX_OPTIONS, found: options.len() });
        }
        if !options.len().is_multiple_of(4) {
            return Err(EmitError::Misaligned { layer: Layer::Ipv4, unit: 4, found: options.len() });
        }
        if !self.fragment_offset.is_multiple_of(8) {
            return Err(EmitError::Misaligned { layer: Layer::Ipv4, unit: 8, found: usize::from(self.fragment_offset) });
        }
        let header_len = IPV4_HEADER_LEN + options.len();
        let total = fit_u16(Layer::Ipv4, header_len.saturating_add(self.payload_len))?;
        let header = space(out, Layer::Ipv4, header_len)?;
        header[0] = 0x40 | (header_len / 4) as u8;
        header[TRAFFIC_CLASS] = self.traffic_class;
        put(header, TOTAL_LEN, &total.to_be_bytes());
        put(header, IDENTIFICATION, &self.identification.to_be_bytes());
        put(header, FRAGMENT, &fragment_field(self.dont_fragment, self.more_fragments, self.fragment_offset).to_be_bytes());
        header[TTL] = self.ttl;
        header[PROTOCOL] = self.protocol.0;
        put(header, SOURCE, &self.src.octets());
        put(header, DESTINATION, &self.dst.octets());
        put(header, IPV4_HEADER_LEN, options);
        let sum = checksum::ipv4_header_checksum(header);
        put(header, CHECKSUM, &sum.to_be_bytes());
        Ok(header_len)
    }
}

#[inline]
const fn fragment_field(dont_fragment: bool, more_fragments: bool, offset: u16) -> u16 {
    (offset >> 3) | if dont_fragment { DONT_FRAGMENT } else { 0 } | if more_fragments { MORE_FRAGMENTS } else { 0 }
}

/// What every IPv4 header must fulfil, whatever data there is after its fixed part.
#[inline]
fn check(data: &[u8]) -> Result<(), ParseError> {
    let Some(header) = data.first_chunk::<IPV4_HEADER_LEN>() else {
        return Err(ParseError::truncated(Layer::Ipv4, IPV4_HEADER_LEN, data.len()));
    };
    if header[0] >> 4 != 4 {
        return Err(ParseError::Version { expected: 4, found: header[0] >> 4 });
    }
    let header_len = usize::from(header[0] & 0xf) * 4;
    if header_len < IPV4_HEADER_LEN {
        return Err(ParseError::LengthTooSmall { layer: Layer::Ipv4, min: IPV4_HEADER_LEN as u32, found: header_len as u32 });
    }
    let total = u16_at(header, TOTAL_LEN);
    if usize::from(total) < header_len {
        return Err(ParseError::LengthTooSmall { layer: Layer::Ipv4, min: header_len as u32, found: u32::from(total) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The header that textbooks and encyclopedias compute the checksum of: UDP, 115 bytes, checksum 0xb861.
    const KNOWN: [u8; 20] = [0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7];

    #[test]
    fn reads_and_writes_a_known_header() {
        let mut bytes = KNOWN.to_vec();
        bytes.resize(0x73 + 5, 0xee);
        let packet = Ipv4Packet::new(&bytes).unwrap();
        assert!(packet.verify_checksum());
        assert_eq!(packet.payload().len(), 0x73 - 20);
        let repr = packet.repr();
        assert_eq!(repr, Ipv4Repr::new(IpProtocol::UDP, Ipv4Addr::new(192, 168, 0, 1), Ipv4Addr::new(192, 168, 0, 199), 0x5f));
        let mut out = [0; 20];
        assert_eq!(repr.emit(&mut out), Ok(20));
        assert_eq!(out, KNOWN);
        bytes[8] -= 1;
        assert!(!Ipv4Packet::new(&bytes).unwrap().verify_checksum());
    }

    #[test]
    fn refuses_what_is_not_ipv4() {
        let full = || {
            let mut bytes = KNOWN.to_vec();
            bytes.resize(0x73, 0);
            bytes
        };
        for len in 0..full().len() {
            let needed = if len < 20 { 20 } else { 0x73 };
            assert_eq!(Ipv4Packet::new(&full()[..len]).unwrap_err(), ParseError::Truncated { layer: Layer::Ipv4, needed, found: len as u32 });
        }
        for first in 0..=255u8 {
            let mut bytes = full();
            bytes[0] = first;
            let expected = match (first >> 4, first & 0xf) {
                (4, 5..) => None,
                (4, words) => Some(ParseError::LengthTooSmall { layer: Layer::Ipv4, min: 20, found: u32::from(words) * 4 }),
                (found, _) => Some(ParseError::Version { expected: 4, found }),
            };
            assert_eq!(Ipv4Packet::new(&bytes).err(), expected);
        }
        let mut bytes = full();
        bytes[0] = 0x4f;
        bytes[3] = 59;
        assert_eq!(Ipv4Packet::new(&bytes).unwrap_err(), ParseError::LengthTooSmall { layer: Layer::Ipv4, min: 60, found: 59 });
        bytes[3] = 60;
        assert_eq!(Ipv4Packet::new(&bytes).unwrap().payload(), []);
        assert_eq!(Ipv4Packet::new_cut(&bytes[..59]).unwrap_err(), ParseError::Truncated { layer: Layer::Ipv4, needed: 60, found: 59 });
        assert_eq!(Ipv4Packet::new_cut(&full()[..28]).unwrap().payload().len(), 8);
    }

    #[test]
    fn refuses_values_that_do_not_fit() {
        let repr = Ipv4Repr::new(IpProtocol::ESP, Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, 65515);
        let mut out = [0; 64];
        assert_eq!(repr.emit(&mut out), Ok(20));
        assert_eq!(repr.emit(&mut out[..19]), Err(EmitError::NoSpace { layer: Layer::Ipv4, needed: 20, found: 19 }));
        assert_eq!(repr.emit_with_options(&mut out, &[1; 4]), Err(EmitError::TooLarge { layer: Layer::Ipv4, max: 65535, found: 65539 }));
        let repr = Ipv4Repr { payload_len: 0, ..repr };
        assert_eq!(repr.emit_with_options(&mut out, &[1; 44]), Err(EmitError::TooLarge { layer: Layer::Ipv4, max: 40, found: 44 }));
        assert_eq!(repr.emit_with_options(&mut out, &[1; 3]), Err(EmitError::Misaligned { layer: Layer::Ipv4, unit: 4, found: 3 }));
        assert_eq!(repr.emit_with_options(&mut out, &[1; 40]), Ok(60));
        assert_eq!(Ipv4Repr { fragment_offset: 4, ..repr }.emit(&mut out), Err(EmitError::Misaligned { layer: Layer::Ipv4, unit: 8, found: 4 }));
        assert_eq!(Ipv4Repr { payload_len: usize::MAX, ..repr }.emit(&mut out), Err(EmitError::TooLarge { layer: Layer::Ipv4, max: 65535, found: usize::MAX }));
    }

    proptest! {
        #[test]
        fn emits_what_it_reads(
            (traffic_class, identification, dont_fragment, more_fragments) in any::<(u8, u16, bool, bool)>(),
            (offset, ttl, protocol, src, dst) in any::<(u16, u8, u8, Ipv4Addr, Ipv4Addr)>(),
            words in 0usize..=10, payload_len in 0usize..2000,
        ) {
            let repr = Ipv4Repr {
                traffic_class, identification, dont_fragment, more_fragments, fragment_offset: offset & !7, ttl, protocol: protocol.into(), src, dst, payload_len,
            };
            let mut bytes = vec![0; IPV4_HEADER_LEN + 4 * words + payload_len];
            let options = vec![1; 4 * words];
            prop_assert_eq!(repr.emit_with_options(&mut bytes, &options), Ok(20 + 4 * words));
            let packet = Ipv4Packet::new(&bytes).unwrap();
            prop_assert!(packet.verify_checksum());
            prop_assert_eq!(packet.repr(), repr);
            prop_assert_eq!(packet.options_area(), &options[..]);
            prop_assert_eq!(packet.options().count(), 4 * words);

            // The setters write the same fields.
            let mut copy = vec![0; bytes.len()];
            Ipv4Repr::new(IpProtocol(0), Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, 0).emit_with_options(&mut copy, &options).unwrap();
            let mut packet = Ipv4Packet::new(&mut copy).unwrap();
            packet.set_traffic_class(traffic_class);
            packet.set_total_len(bytes.len() as u16);
            packet.set_identification(identification);
            packet.set_fragment(dont_fragment, more_fragments, offset);
            packet.set_ttl(ttl);
            packet.set_protocol(protocol.into());
            packet.set_src(src);
            packet.set_dst(dst);
            packet.fill_checksum();
            prop_assert_eq!(packet.payload_mut().len(), payload_len);
            prop_assert_eq!(copy, bytes);
        }
    }
}
