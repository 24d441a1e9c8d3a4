//! ICMP for IPv4 (RFC 792) and for IPv6 (RFC 4443), whose messages share one form.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     Type      |     Code      |           Checksum            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      identifier and sequence number, MTU, pointer, or zero    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      data; in an error, the packet that it is about
//! +-+-+-+-+-+-+-+-+-+-+-+-...
//! ```

use core::fmt;

use crate::bytes::{array_at, put, range, range_mut, space, u16_at, u32_at};
use crate::error::{EmitError, Layer, ParseError};
use crate::proto::IpVersion;

/// Length of the header, in bytes.
pub const ICMP_HEADER_LEN: usize = 8;

/// Types and codes of ICMP for IPv4.
pub mod icmpv4 {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const DESTINATION_UNREACHABLE: u8 = 3;
    /// Code of destination unreachable: fragmentation needed and don't-fragment set. The low half of the second word is the MTU (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// Types of ICMP for IPv6.
pub mod icmpv6 {
    /// Destination unreachable.
    pub const DESTINATION_UNREACHABLE: u8 = 1;
    /// Packet too big; the second word is the MTU.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Router solicitation.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation.
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
}

const CODE: usize = 1;
pub(crate) const CHECKSUM: usize = 2;
const REST: usize = 4;

/// An ICMP or ICMPv6 message, up to the end of the IP packet, in a byte container.
#[derive(Clone, Copy)]
pub struct IcmpPacket<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> IcmpPacket<T> {
    /// Checks that the header is there.
    ///
    /// # Errors
    /// [`ParseError`] if it is not.
    #[inline]
    pub fn new(bytes: T) -> Result<Self, ParseError> {
        let found = bytes.as_ref().len();
        if found < ICMP_HEADER_LEN {
            return Err(ParseError::overrun(Layer::Icmp, ICMP_HEADER_LEN, found));
        }
        Ok(Self { bytes })
    }

    #[inline]
    fn data(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Type: see [`icmpv4`] and [`icmpv6`].
    #[inline]
    pub fn kind(&self) -> u8 {
        self.data()[0]
    }

    /// Code.
    #[inline]
    pub fn code(&self) -> u8 {
        self.data()[CODE]
    }

    /// Checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.data(), CHECKSUM)
    }

    /// The header's second word, as it stands.
    #[inline]
    pub fn rest(&self) -> [u8; 4] {
        array_at(self.data(), REST)
    }

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        range(self.data(), ICMP_HEADER_LEN, self.data().len())
    }

    /// Whether this is an error message under IP `version`, so that its payload is the start of the packet that it is about.
    pub fn is_error(&self, version: IpVersion) -> bool {
        match version {
            IpVersion::V4 => matches!(self.kind(), icmpv4::DESTINATION_UNREACHABLE | 4 | icmpv4::REDIRECT | icmpv4::TIME_EXCEEDED | icmpv4::PARAMETER_PROBLEM),
            // RFC 4443 section 2.1.
            IpVersion::V6 => self.kind() < 128,
        }
    }

    /// The MTU that a fragmentation-needed or packet-too-big message names, in bytes; `None` if it is another message, or an old one without an MTU.
    pub fn mtu(&self, version: IpVersion) -> Option<u32> {
        let mtu = match (version, self.kind(), self.code()) {
            (IpVersion::V4, icmpv4::DESTINATION_UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED) => u32::from(u16_at(self.data(), REST + 2)),
            (IpVersion::V6, icmpv6::PACKET_TOO_BIG, _) => u32_at(self.data(), REST),
            _ => 0,
        };
        (mtu != 0).then_some(mtu)
    }

    /// The header without its checksum, as values.
    pub fn repr(&self) -> IcmpRepr {
        IcmpRepr { kind: self.kind(), code: self.code(), rest: self.rest() }
    }

    /// The container back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.bytes
    }
}

/// The setters leave the checksum as it is: [`crate::checksum::fill_segment`] after the last of them.
impl<T: AsRef<[u8]> + AsMut<[u8]>> IcmpPacket<T> {
    /// Sets the type.
    #[inline]
    pub fn set_kind(&mut self, value: u8) {
        self.bytes.as_mut()[0] = value;
    }

    /// Sets the code.
    #[inline]
    pub fn set_code(&mut self, value: u8) {
        self.bytes.as_mut()[CODE] = value;
    }

    /// Sets the checksum field.
    #[inline]
    pub fn set_checksum(&mut self, value: u16) {
        put(self.bytes.as_mut(), CHECKSUM, &value.to_be_bytes());
    }

    /// Sets the header's second word.
    #[inline]
    pub fn set_rest(&mut self, value: [u8; 4]) {
        put(self.bytes.as_mut(), REST, &value);
    }

    /// What follows the header.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let to = self.data().len();
        range_mut(self.bytes.as_mut(), ICMP_HEADER_LEN, to)
    }
}

impl<T: AsRef<[u8]>> fmt::Debug for IcmpPacket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repr().fmt(f)
    }
}

/// An ICMP or ICMPv6 header as values, to build one from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpRepr {
    /// Type: see [`icmpv4`] and [`icmpv6`].
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The header's second word, as it stands in the packet.
    pub rest: [u8; 4],
}

impl IcmpRepr {
    /// An echo request or reply.
    pub const fn echo(version: IpVersion, reply: bool, identifier: u16, sequence: u16) -> Self {
        let kind = match (version, reply) {
            (IpVersion::V4, false) => icmpv4::ECHO_REQUEST,
            (IpVersion::V4, true) => icmpv4::ECHO_REPLY,
            (IpVersion::V6, false) => icmpv6::ECHO_REQUEST,
            (IpVersion::V6, true) => icmpv6::ECHO_REPLY,
        };
        let ([a, b], [c, d]) = (identifier.to_be_bytes(), sequence.to_be_bytes());
        Self { kind, code: 0, rest: [a, b, c, d] }
    }

    /// The message that tells a sender of a smaller path MTU, in bytes: fragmentation needed, or packet too big.
    pub const fn too_big(version: IpVersion, mtu: u16) -> Self {
        let [high, low] = mtu.to_be_bytes();
        let (kind, code) = match version {
            IpVersion::V4 => (icmpv4::DESTINATION_UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED),
            IpVersion::V6 => (icmpv6::PACKET_TOO_BIG, 0),
        };
        Self { kind, code, rest: [0, 0, high, low] }
    }

    /// Writes the header's 8 bytes with checksum 0 to the start of `out`, and returns 8. [`crate::checksum::fill_segment`] makes the checksum when the
    /// payload is there.
    ///
    /// # Errors
    /// [`EmitError`] if `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, EmitError> {
        let header = space(out, Layer::Icmp, ICMP_HEADER_LEN)?;
        header[0] = self.kind;
        header[CODE] = self.code;
        put(header, CHECKSUM, &[0, 0]);
        put(header, REST, &self.rest);
        Ok(ICMP_HEADER_LEN)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn too_big_messages() {
        for version in [IpVersion::V4, IpVersion::V6] {
            let mut bytes = [0xff; 8];
            IcmpRepr::too_big(version, 1400).emit(&mut bytes).unwrap();
            let packet = IcmpPacket::new(&bytes).unwrap();
            assert_eq!(packet.mtu(version), Some(1400));
            assert!(packet.is_error(version));
            let other = if version == IpVersion::V4 { IpVersion::V6 } else { IpVersion::V4 };
            assert_eq!(packet.mtu(other), None);
            IcmpRepr::too_big(version, 0).emit(&mut bytes).unwrap();
            assert_eq!(IcmpPacket::new(&bytes).unwrap().mtu(version), None);
            for reply in [false, true] {
                let echo = IcmpRepr::echo(version, reply, 0x1234, 7);
                echo.emit(&mut bytes).unwrap();
                let packet = IcmpPacket::new(&bytes).unwrap();
                assert!(!packet.is_error(version));
                assert_eq!((packet.rest(), packet.mtu(version)), ([0x12, 0x34, 0, 7], None));
            }
        }
        for len in 0..8 {
            assert_eq!(IcmpPacket::new(&[0; 8][..len]).unwrap_err(), ParseError::Overrun { layer: Layer::Icmp, needed: 8, found: len as u32 });
            assert!(IcmpRepr::too_big(IpVersion::V6, 1280).emit(&mut [0; 8][..len]).is_err());
        }
    }

    proptest! {
        #[test]
        fn emits_what_it_reads(kind: u8, code: u8, rest: [u8; 4], payload in 0usize..40) {
            let repr = IcmpRepr { kind, code, rest };
            let mut bytes = vec![0; 8 + payload];
            prop_assert_eq!(repr.emit(&mut bytes), Ok(8));
            prop_assert_eq!(IcmpPacket::new(&bytes).unwrap().repr(), repr);
            let mut copy = vec![0; 8 + payload];
            let mut packet = IcmpPacket::new(&mut copy).unwrap();
            packet.set_kind(kind);
            packet.set_code(code);
            packet.set_rest(rest);
            packet.set_checksum(0);
            prop_assert_eq!(packet.payload_mut().len(), payload);
            prop_assert_eq!(copy, bytes);
        }
    }
}
