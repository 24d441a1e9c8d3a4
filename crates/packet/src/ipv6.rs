//! The IPv6 fixed header (RFC 8200 section 3). Extension headers are in [`crate::ipv6_ext`].
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Version| Traffic Class |           Flow Label                  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |         Payload Length        |  Next Header  |   Hop Limit   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                                                               |
//! +                         Source Address, 16 bytes              +
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                                                               |
//! +                      Destination Address, 16 bytes            +
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use core::fmt;
use core::net::Ipv6Addr;

use crate::bytes::{array_at, fit_u16, put, range, range_mut, space, u16_at, u32_at};
use crate::error::{EmitError, Layer, ParseError};
use crate::ipv6_ext::Ipv6ExtensionHeaders;
use crate::proto::IpProtocol;

/// Length of the fixed header, in bytes.
pub const IPV6_HEADER_LEN: usize = 40;
/// The largest value of the flow label.
pub const IPV6_MAX_FLOW_LABEL: u32 = 0x000f_ffff;

pub(crate) const PAYLOAD_LEN: usize = 4;
pub(crate) const NEXT_HEADER: usize = 6;
pub(crate) const HOP_LIMIT: usize = 7;
pub(crate) const SOURCE: usize = 8;
pub(crate) const DESTINATION: usize = 24;

/// An IPv6 packet in a byte container. What follows the payload length (link padding) is not part of its payload.
#[derive(Clone, Copy)]
pub struct Ipv6Packet<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Ipv6Packet<T> {
    /// Checks version and payload length.
    ///
    /// # Errors
    /// [`ParseError`] with what does not hold.
    #[inline]
    pub fn new(bytes: T) -> Result<Self, ParseError> {
        let packet = Self::new_cut(bytes)?;
        let (total, found) = (packet.total_len(), packet.data().len());
        if total > found {
            return Err(ParseError::truncated(Layer::Ipv6, total, found));
        }
        Ok(packet)
    }

    /// As [`Self::new`], for packets that may have been cut after the header (quoted in ICMP errors): the payload length may be larger than the data.
    ///
    /// # Errors
    /// [`ParseError`] with what does not hold.
    #[inline]
    pub fn new_cut(bytes: T) -> Result<Self, ParseError> {
        let data = bytes.as_ref();
        let Some(header) = data.first_chunk::<IPV6_HEADER_LEN>() else {
            return Err(ParseError::truncated(Layer::Ipv6, IPV6_HEADER_LEN, data.len()));
        };
        if header[0] >> 4 != 6 {
            return Err(ParseError::Version { expected: 6, found: header[0] >> 4 });
        }
        Ok(Self { bytes })
    }

    #[inline]
    fn data(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (u16_at(self.data(), 0) >> 4) as u8
    }

    /// Flow label, 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        u32_at(self.data(), 0) & IPV6_MAX_FLOW_LABEL
    }

    /// Length of what follows the fixed header, extension headers included, in bytes.
    #[inline]
    pub fn payload_len(&self) -> usize {
        usize::from(u16_at(self.data(), PAYLOAD_LEN))
    }

    /// Length of fixed header and payload, in bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        IPV6_HEADER_LEN + self.payload_len()
    }

    /// Type of the header that follows.
    #[inline]
    pub fn next_header(&self) -> IpProtocol {
        IpProtocol(self.data()[NEXT_HEADER])
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.data()[HOP_LIMIT]
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv6Addr {
        array_at::<16>(self.data(), SOURCE).into()
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv6Addr {
        array_at::<16>(self.data(), DESTINATION).into()
    }

    /// What follows the fixed header, up to the payload length or the end of the data.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        range(self.data(), IPV6_HEADER_LEN, self.total_len().min(self.data().len()))
    }

    /// The extension headers, with offsets from the start of this packet.
    #[inline]
    pub fn extension_headers(&self) -> Ipv6ExtensionHeaders<'_> {
        let packet = range(self.data(), 0, self.total_len().min(self.data().len()));
        Ipv6ExtensionHeaders::new(packet, self.next_header(), NEXT_HEADER, IPV6_HEADER_LEN)
    }

    /// The header as values.
    pub fn repr(&self) -> Ipv6Repr {
        Ipv6Repr {
            traffic_class: self.traffic_class(),
            flow_label: self.flow_label(),
            payload_len: self.payload_len(),
            next_header: self.next_header(),
            hop_limit: self.hop_limit(),
            src: self.src(),
            dst: self.dst(),
        }
    }

    /// The container back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.bytes
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv6Packet<T> {
    /// Sets DSCP and ECN.
    #[inline]
    pub fn set_traffic_class(&mut self, value: u8) {
        let word = first_word(value, self.flow_label());
        put(self.bytes.as_mut(), 0, &word);
    }

    /// Sets the flow label, of which the lowest 20 bits are taken.
    #[inline]
    pub fn set_flow_label(&mut self, value: u32) {
        let word = first_word(self.traffic_class(), value);
        put(self.bytes.as_mut(), 0, &word);
    }

    /// Sets the payload length, in bytes.
    #[inline]
    pub fn set_payload_len(&mut self, bytes: u16) {
        put(self.bytes.as_mut(), PAYLOAD_LEN, &bytes.to_be_bytes());
    }

    /// Sets the type of the header that follows.
    #[inline]
    pub fn set_next_header(&mut self, protocol: IpProtocol) {
        self.bytes.as_mut()[NEXT_HEADER] = protocol.0;
    }

    /// Sets the hop limit.
    #[inline]
    pub fn set_hop_limit(&mut self, value: u8) {
        self.bytes.as_mut()[HOP_LIMIT] = value;
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, address: Ipv6Addr) {
        put(self.bytes.as_mut(), SOURCE, &address.octets());
    }

    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, address: Ipv6Addr) {
        put(self.bytes.as_mut(), DESTINATION, &address.octets());
    }

    /// What follows the fixed header, up to the payload length or the end of the data.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let to = self.total_len().min(self.data().len());
        range_mut(self.bytes.as_mut(), IPV6_HEADER_LEN, to)
    }
}

impl<T: AsRef<[u8]>> fmt::Debug for Ipv6Packet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repr().fmt(f)
    }
}

/// An IPv6 fixed header as values, to build one from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Repr {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, at most [`IPV6_MAX_FLOW_LABEL`].
    pub flow_label: u32,
    /// Bytes after the fixed header, extension headers included.
    pub payload_len: usize,
    /// Type of the header that follows.
    pub next_header: IpProtocol,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
}

impl Ipv6Repr {
    /// A header with hop limit 64, traffic class and flow label zero.
    pub const fn new(next_header: IpProtocol, src: Ipv6Addr, dst: Ipv6Addr, payload_len: usize) -> Self {
        Self { traffic_class: 0, flow_label: 0, payload_len, next_header, hop_limit: 64, src, dst }
    }

    /// Writes the header's 40 bytes to the start of `out`, and returns 40.
    ///
    /// # Errors
    /// [`EmitError`] if `out` is too short, or the payload length or flow label does not fit.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, EmitError> {
        if self.flow_label > IPV6_MAX_FLOW_LABEL {
            return Err(EmitError::TooLarge { layer: Layer::Ipv6, max: IPV6_MAX_FLOW_LABEL as usize, found: self.flow_label as usize });
        }
        let payload_len = fit_u16(Layer::Ipv6, self.payload_len)?;
        let header = space(out, Layer::Ipv6, IPV6_HEADER_LEN)?;
        put(header, 0, &first_word(self.traffic_class, self.flow_label));
        put(header, PAYLOAD_LEN, &payload_len.to_be_bytes());
        header[NEXT_HEADER] = self.next_header.0;
        header[HOP_LIMIT] = self.hop_limit;
        put(header, SOURCE, &self.src.octets());
        put(header, DESTINATION, &self.dst.octets());
        Ok(IPV6_HEADER_LEN)
    }
}

#[inline]
const fn first_word(traffic_class: u8, flow_label: u32) -> [u8; 4] {
    (6 << 28 | (traffic_class as u32) << 20 | flow_label & IPV6_MAX_FLOW_LABEL).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_is_not_ipv6() {
        let mut bytes = [0; 50];
        Ipv6Repr::new(IpProtocol::UDP, Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, 8).emit(&mut bytes).unwrap();
        for len in 0..48 {
            let needed = if len < 40 { 40 } else { 48 };
            assert_eq!(Ipv6Packet::new(&bytes[..len]).unwrap_err(), ParseError::Truncated { layer: Layer::Ipv6, needed, found: len as u32 });
        }
        assert_eq!(Ipv6Packet::new(&bytes[..48]).unwrap().payload().len(), 8);
        assert_eq!(Ipv6Packet::new(&bytes[..50]).unwrap().payload().len(), 8);
        assert_eq!(Ipv6Packet::new_cut(&bytes[..41]).unwrap().payload().len(), 1);
        bytes[0] = 0x45;
        assert_eq!(Ipv6Packet::new(&bytes).unwrap_err(), ParseError::Version { expected: 6, found: 4 });
    }

    #[test]
    fn refuses_values_that_do_not_fit() {
        let repr = Ipv6Repr::new(IpProtocol::ESP, Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, 65535);
        let mut out = [0; 40];
        assert_eq!(repr.emit(&mut out), Ok(40));
        assert_eq!(repr.emit(&mut out[..39]), Err(EmitError::NoSpace { layer: Layer::Ipv6, needed: 40, found: 39 }));
        assert_eq!(Ipv6Repr { payload_len: 65536, ..repr }.emit(&mut out), Err(EmitError::TooLarge { layer: Layer::Ipv6, max: 65535, found: 65536 }));
        assert_eq!(Ipv6Repr { flow_label: 1 << 20, ..repr }.emit(&mut out), Err(EmitError::TooLarge { layer: Layer::Ipv6, max: 0xfffff, found: 1 << 20 }));
    }

    proptest! {
        #[test]
        fn emits_what_it_reads(
            (traffic_class, label, next_header, hop_limit) in any::<(u8, u32, u8, u8)>(), (src, dst) in any::<(Ipv6Addr, Ipv6Addr)>(), payload_len in 0usize..2000,
        ) {
            let flow_label = label & IPV6_MAX_FLOW_LABEL;
            let repr = Ipv6Repr { traffic_class, flow_label, payload_len, next_header: next_header.into(), hop_limit, src, dst };
            let mut bytes = vec![0; IPV6_HEADER_LEN + payload_len];
            prop_assert_eq!(repr.emit(&mut bytes), Ok(40));
            prop_assert_eq!(Ipv6Packet::new(&bytes).unwrap().repr(), repr);

            let mut copy = vec![0; bytes.len()];
            Ipv6Repr::new(IpProtocol(0), Ipv6Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, 0).emit(&mut copy).unwrap();
            let mut packet = Ipv6Packet::new(&mut copy).unwrap();
            packet.set_traffic_class(traffic_class);
            packet.set_flow_label(label);
            packet.set_payload_len(payload_len as u16);
            packet.set_next_header(next_header.into());
            packet.set_hop_limit(hop_limit);
            packet.set_src(src);
            packet.set_dst(dst);
            prop_assert_eq!(packet.payload_mut().len(), payload_len);
            prop_assert_eq!(copy, bytes);
        }
    }
}
