//! The authentication header (RFC 4302).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | Next Header   |  Payload Len  |          RESERVED             |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                 Security Parameters Index (SPI)               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                    Sequence Number Field                      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                Integrity Check Value-ICV (variable)           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! The payload length counts units of 4 bytes after the first 8.

use core::fmt;

use crate::bytes::{put, range, range_mut, space, u32_at};
use crate::error::{EmitError, Layer, ParseError};
use crate::esp::Spi;
use crate::proto::IpProtocol;

/// Length of the header without its ICV, in bytes.
pub const AH_FIXED_LEN: usize = 12;
/// The largest length of the header with its ICV, in bytes.
pub const AH_MAX_LEN: usize = 255 * 4 + 8;

const PAYLOAD_LEN: usize = 1;
const RESERVED: usize = 2;
const SPI: usize = 4;
const SEQUENCE: usize = 8;

/// An authentication header with what follows it up to the end of the IP packet, in a byte container.
#[derive(Clone, Copy)]
pub struct AhPacket<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> AhPacket<T> {
    /// Checks the length. (That it is a multiple of 8 in IPv6 is between the SA's ends, and not checked.)
    ///
    /// # Errors
    /// [`ParseError`] with what does not hold.
    #[inline]
    pub fn new(bytes: T) -> Result<Self, ParseError> {
        let data = bytes.as_ref();
        let Some(header) = data.first_chunk::<AH_FIXED_LEN>() else {
            return Err(ParseError::overrun(Layer::Ah, AH_FIXED_LEN, data.len()));
        };
        let header_len = usize::from(header[PAYLOAD_LEN]) * 4 + 8;
        if header_len < AH_FIXED_LEN {
            return Err(ParseError::LengthTooSmall { layer: Layer::Ah, min: AH_FIXED_LEN as u32, found: header_len as u32 });
        }
        if header_len > data.len() {
            return Err(ParseError::overrun(Layer::Ah, header_len, data.len()));
        }
        Ok(Self { bytes })
    }

    #[inline]
    fn data(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Type of what follows.
    #[inline]
    pub fn next_header(&self) -> IpProtocol {
        IpProtocol(self.data()[0])
    }

    /// Length of the header with its ICV and the ICV's padding, in bytes: 12 to 1028.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.data()[PAYLOAD_LEN]) * 4 + 8
    }

    /// Security parameters index.
    #[inline]
    pub fn spi(&self) -> Spi {
        Spi(u32_at(self.data(), SPI))
    }

    /// Sequence number; of an extended one, the low half.
    #[inline]
    pub fn sequence(&self) -> u32 {
        u32_at(self.data(), SEQUENCE)
    }

    /// The ICV with its padding: all of the header after the sequence number.
    #[inline]
    pub fn icv_field(&self) -> &[u8] {
        range(self.data(), AH_FIXED_LEN, self.header_len())
    }

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        range(self.data(), self.header_len(), self.data().len())
    }

    /// The header without the contents of its ICV field, as values.
    pub fn repr(&self) -> AhRepr {
        AhRepr { next_header: self.next_header(), icv_field_len: self.header_len().saturating_sub(AH_FIXED_LEN), spi: self.spi(), sequence: self.sequence() }
    }

    /// The container back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.bytes
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> AhPacket<T> {
    /// Sets the type of what follows.
    #[inline]
    pub fn set_next_header(&mut self, protocol: IpProtocol) {
        self.bytes.as_mut()[0] = protocol.0;
    }

    /// Sets the security parameters index.
    #[inline]
    pub fn set_spi(&mut self, spi: Spi) {
        put(self.bytes.as_mut(), SPI, &spi.to_be_bytes());
    }

    /// Sets the sequence number (its low half).
    #[inline]
    pub fn set_sequence(&mut self, low: u32) {
        put(self.bytes.as_mut(), SEQUENCE, &low.to_be_bytes());
    }

    /// The ICV with its padding, to change.
    #[inline]
    pub fn icv_field_mut(&mut self) -> &mut [u8] {
        let to = self.header_len();
        range_mut(self.bytes.as_mut(), AH_FIXED_LEN, to)
    }
}

impl<T: AsRef<[u8]>> fmt::Debug for AhPacket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repr().fmt(f)
    }
}

/// An authentication header as values, to build one from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AhRepr {
    /// Type of what follows.
    pub next_header: IpProtocol,
    /// Length of the ICV and its padding, in bytes: a multiple of 4, at most 1016.
    pub icv_field_len: usize,
    /// Security parameters index.
    pub spi: Spi,
    /// Sequence number; of an extended one, the low half.
    pub sequence: u32,
}

impl AhRepr {
    /// Writes the header with an ICV field of zeroes to the start of `out`, and returns its length.
    ///
    /// # Errors
    /// [`EmitError`] if `out` is too short, or the length of the ICV field is not possible.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, EmitError> {
        const MAX_ICV_FIELD: usize = AH_MAX_LEN - AH_FIXED_LEN;
        if self.icv_field_len > MAX_ICV_FIELD {
            return Err(EmitError::TooLarge { layer: Layer::Ah, max: MAX_ICV_FIELD, found: self.icv_field_len });
        }
        if !self.icv_field_len.is_multiple_of(4) {
            return Err(EmitError::Misaligned { layer: Layer::Ah, unit: 4, found: self.icv_field_len });
        }
        let header_len = AH_FIXED_LEN + self.icv_field_len;
        let header = space(out, Layer::Ah, header_len)?;
        header[0] = self.next_header.0;
        header[PAYLOAD_LEN] = (header_len / 4 - 2) as u8;
        put(header, RESERVED, &[0, 0]);
        put(header, SPI, &self.spi.to_be_bytes());
        put(header, SEQUENCE, &self.sequence.to_be_bytes());
        header[AH_FIXED_LEN..].fill(0);
        Ok(header_len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_of_the_usual_algorithms() {
        // 96-bit HMAC 24 bytes; SHA-256-128 28, or 32 padded for IPv6; GMAC 36 and 40.
        for (icv_field_len, payload_len) in [(12, 4), (16, 5), (20, 6), (24, 7), (28, 8)] {
            let repr = AhRepr { next_header: IpProtocol::TCP, icv_field_len, spi: Spi(300), sequence: 1 };
            let mut out = [0xff; 64];
            assert_eq!(repr.emit(&mut out), Ok(12 + icv_field_len));
            assert_eq!(out[1], payload_len);
            assert_eq!(AhPacket::new(&out).unwrap().icv_field(), vec![0; icv_field_len]);
        }
    }

    #[test]
    fn checks_lengths() {
        let mut bytes = [0; 24];
        for len in 0..12 {
            assert_eq!(AhPacket::new(&bytes[..len]).unwrap_err(), ParseError::Overrun { layer: Layer::Ah, needed: 12, found: len as u32 });
        }
        assert_eq!(AhPacket::new(&bytes).unwrap_err(), ParseError::LengthTooSmall { layer: Layer::Ah, min: 12, found: 8 });
        bytes[1] = 4;
        assert!(AhPacket::new(&bytes).is_ok());
        for len in 12..24 {
            assert_eq!(AhPacket::new(&bytes[..len]).unwrap_err(), ParseError::Overrun { layer: Layer::Ah, needed: 24, found: len as u32 });
        }
        bytes[1] = 255;
        assert_eq!(AhPacket::new(&bytes).unwrap_err(), ParseError::Overrun { layer: Layer::Ah, needed: 1028, found: 24 });
    }

    proptest! {
        #[test]
        fn emits_what_it_reads(next_header: u8, spi: u32, sequence: u32, words in 0usize..=254, payload in 0usize..40) {
            let repr = AhRepr { next_header: next_header.into(), icv_field_len: 4 * words, spi: Spi(spi), sequence };
            let mut bytes = vec![0; 12 + 4 * words + payload];
            prop_assert_eq!(repr.emit(&mut bytes), Ok(12 + 4 * words));
            let packet = AhPacket::new(&bytes).unwrap();
            prop_assert_eq!(packet.repr(), repr);
            prop_assert_eq!(packet.payload().len(), payload);
            let mut copy = vec![0; bytes.len()];
            copy[1] = bytes[1];
            let mut packet = AhPacket::new(&mut copy).unwrap();
            packet.set_next_header(next_header.into());
            packet.set_spi(Spi(spi));
            packet.set_sequence(sequence);
            prop_assert_eq!(packet.icv_field_mut().len(), 4 * words);
            prop_assert_eq!(copy, bytes);
            prop_assert!(repr.emit(&mut vec![0; 11 + 4 * words]).is_err());
            let too_long = AhRepr { icv_field_len: 1020, ..repr };
            prop_assert!(too_long.emit(&mut [0; 2000]).is_err());
            let odd = AhRepr { icv_field_len: 4 * words + 2, ..repr };
            prop_assert!(odd.emit(&mut [0; 2000]).is_err());
        }
    }
}
