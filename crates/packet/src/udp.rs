//! UDP (RFC 768).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          Source Port          |       Destination Port        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |             Length            |           Checksum            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use core::fmt;

use crate::bytes::{fit_u16, put, range, range_mut, space, u16_at};
use crate::error::{EmitError, Layer, ParseError};

/// Length of the header, in bytes.
pub const UDP_HEADER_LEN: usize = 8;

const DESTINATION_PORT: usize = 2;
pub(crate) const LENGTH: usize = 4;
pub(crate) const CHECKSUM: usize = 6;

/// A UDP datagram, up to the end of the IP packet, in a byte container. What follows the datagram's own length is not part of its payload.
#[derive(Clone, Copy)]
pub struct UdpPacket<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> UdpPacket<T> {
    /// Checks the length.
    ///
    /// # Errors
    /// [`ParseError`] with what does not hold.
    #[inline]
    pub fn new(bytes: T) -> Result<Self, ParseError> {
        let data = bytes.as_ref();
        let Some(header) = data.first_chunk::<UDP_HEADER_LEN>() else {
            return Err(ParseError::overrun(Layer::Udp, UDP_HEADER_LEN, data.len()));
        };
        let len = usize::from(u16_at(header, LENGTH));
        if len < UDP_HEADER_LEN {
            return Err(ParseError::LengthTooSmall { layer: Layer::Udp, min: UDP_HEADER_LEN as u32, found: len as u32 });
        }
        if len > data.len() {
            return Err(ParseError::overrun(Layer::Udp, len, data.len()));
        }
        Ok(Self { bytes })
    }

    #[inline]
    fn data(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        u16_at(self.data(), 0)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        u16_at(self.data(), DESTINATION_PORT)
    }

    /// Length of header and payload, in bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(u16_at(self.data(), LENGTH))
    }

    /// Checksum as it stands; 0: none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.data(), CHECKSUM)
    }

    /// What follows the header, up to the datagram's length.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        range(self.data(), UDP_HEADER_LEN, self.total_len())
    }

    /// The header without its checksum, as values.
    pub fn repr(&self) -> UdpRepr {
        UdpRepr { src_port: self.src_port(), dst_port: self.dst_port(), payload_len: self.total_len().saturating_sub(UDP_HEADER_LEN) }
    }

    /// The container back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.bytes
    }
}

/// The setters leave the checksum as it is: [`crate::checksum::fill_segment`] after the last of them.
impl<T: AsRef<[u8]> + AsMut<[u8]>> UdpPacket<T> {
    /// Sets the source port.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) {
        put(self.bytes.as_mut(), 0, &port.to_be_bytes());
    }

    /// Sets the destination port.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) {
        put(self.bytes.as_mut(), DESTINATION_PORT, &port.to_be_bytes());
    }

    /// Sets the length of header and payload, in bytes.
    #[inline]
    pub fn set_total_len(&mut self, bytes: u16) {
        put(self.bytes.as_mut(), LENGTH, &bytes.to_be_bytes());
    }

    /// Sets the checksum field.
    #[inline]
    pub fn set_checksum(&mut self, value: u16) {
        put(self.bytes.as_mut(), CHECKSUM, &value.to_be_bytes());
    }

    /// What follows the header, up to the datagram's length.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let to = self.total_len();
        range_mut(self.bytes.as_mut(), UDP_HEADER_LEN, to)
    }
}

impl<T: AsRef<[u8]>> fmt::Debug for UdpPacket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repr().fmt(f)
    }
}

/// A UDP header as values, to build one from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpRepr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Bytes after the header.
    pub payload_len: usize,
}

impl UdpRepr {
    /// Writes the header's 8 bytes to the start of `out` with checksum 0, which means none and is what UDP-ESP sends (RFC 3948 section 2.1), and returns 8.
    /// [`crate::checksum::fill_segment`] makes a checksum when the payload is there.
    ///
    /// # Errors
    /// [`EmitError`] if `out` is too short or the datagram too long.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, EmitError> {
        let total = fit_u16(Layer::Udp, self.payload_len.saturating_add(UDP_HEADER_LEN))?;
        let header = space(out, Layer::Udp, UDP_HEADER_LEN)?;
        put(header, 0, &self.src_port.to_be_bytes());
        put(header, DESTINATION_PORT, &self.dst_port.to_be_bytes());
        put(header, LENGTH, &total.to_be_bytes());
        put(header, CHECKSUM, &[0, 0]);
        Ok(UDP_HEADER_LEN)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn checks_lengths() {
        let mut bytes = [0; 16];
        for stated in 0..20u16 {
            bytes[4..6].copy_from_slice(&stated.to_be_bytes());
            for len in 0..16 {
                let expected = match (len, u32::from(stated)) {
                    (..8, _) => Some(ParseError::Overrun { layer: Layer::Udp, needed: 8, found: len }),
                    (_, found @ ..8) => Some(ParseError::LengthTooSmall { layer: Layer::Udp, min: 8, found }),
                    (len, needed) if needed > len => Some(ParseError::Overrun { layer: Layer::Udp, needed, found: len }),
                    _ => None,
                };
                let packet = UdpPacket::new(&bytes[..len as usize]);
                if let Ok(packet) = packet {
                    assert_eq!(packet.payload().len() + 8, usize::from(stated));
                }
                assert_eq!(packet.err(), expected);
            }
        }
    }

    proptest! {
        #[test]
        fn emits_what_it_reads(src_port: u16, dst_port: u16, payload_len in 0usize..100, checksum: u16) {
            let repr = UdpRepr { src_port, dst_port, payload_len };
            let mut bytes = vec![0; 8 + payload_len];
            prop_assert_eq!(repr.emit(&mut bytes), Ok(8));
            prop_assert_eq!(UdpPacket::new(&bytes).unwrap().repr(), repr);
            let mut copy = [0, 0, 0, 0, 0, 8, 0, 0].to_vec();
            copy.resize(bytes.len(), 0);
            let mut packet = UdpPacket::new(&mut copy).unwrap();
            packet.set_src_port(src_port);
            packet.set_dst_port(dst_port);
            packet.set_total_len((8 + payload_len) as u16);
            packet.set_checksum(checksum);
            prop_assert_eq!(packet.checksum(), checksum);
            packet.set_checksum(0);
            prop_assert_eq!(packet.payload_mut().len(), payload_len);
            packet.set_total_len(u16::MAX);
            prop_assert_eq!(packet.payload_mut(), []);
            packet.set_total_len((8 + payload_len) as u16);
            prop_assert_eq!(copy, bytes);
            prop_assert_eq!(repr.emit(&mut [0; 7]), Err(EmitError::NoSpace { layer: Layer::Udp, needed: 8, found: 7 }));
            let too_long = UdpRepr { payload_len: 65528, ..repr };
            prop_assert!(too_long.emit(&mut [0; 8]).is_err());
        }
    }
}
