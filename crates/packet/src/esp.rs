//! The encapsulating security payload (RFC 4303).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ----
//! |               Security Parameters Index (SPI)                 | ^Int.
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ |Cov-
//! |                      Sequence Number                          | |ered
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ | ----
//! |                    IV, Payload Data (variable)                | |   ^
//! ~                                                               ~ |   |
//! +               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ |Conf.
//! |               |     Padding (0-255 bytes)                     | |Cov-
//! +-+-+-+-+-+-+-+-+               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ |ered
//! |                               |  Pad Length   | Next Header   | v   v
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ------
//! |         Integrity Check Value-ICV   (variable)                |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Where the IV ends and the ICV begins only the SA knows.

use core::fmt;

use crate::bytes::{put, range, range_mut, space, u32_at};
use crate::error::{EmitError, Layer, ParseError};
use crate::proto::IpProtocol;

/// Length of SPI and sequence number, in bytes.
pub const ESP_HEADER_LEN: usize = 8;
/// Length of pad length and next header, in bytes.
pub const ESP_TRAILER_LEN: usize = 2;

const SEQUENCE: usize = 4;

/// A security parameters index. 0 is never on the wire, and 1 to 255 are reserved (RFC 4303 section 2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spi(pub u32);

impl Spi {
    /// From the bytes as they stand in a packet.
    #[inline]
    pub const fn from_be_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_be_bytes(bytes))
    }

    /// The bytes as they stand in a packet.
    #[inline]
    pub const fn to_be_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    /// Whether this is one of 1 to 255, reserved by IANA.
    #[inline]
    pub const fn is_reserved(self) -> bool {
        matches!(self.0, 1..=255)
    }
}

impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl fmt::Debug for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spi({self})")
    }
}

/// ESP from the SPI to the end of the IP packet (or UDP datagram), in a byte container.
#[derive(Clone, Copy)]
pub struct EspPacket<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> EspPacket<T> {
    /// Checks that SPI and sequence number are there.
    ///
    /// # Errors
    /// [`ParseError`] if they are not.
    #[inline]
    pub fn new(bytes: T) -> Result<Self, ParseError> {
        let found = bytes.as_ref().len();
        if found < ESP_HEADER_LEN {
            return Err(ParseError::overrun(Layer::Esp, ESP_HEADER_LEN, found));
        }
        Ok(Self { bytes })
    }

    #[inline]
    fn data(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Security parameters index.
    #[inline]
    pub fn spi(&self) -> Spi {
        Spi(u32_at(self.data(), 0))
    }

    /// Sequence number; of an extended one, the low half.
    #[inline]
    pub fn sequence(&self) -> u32 {
        u32_at(self.data(), SEQUENCE)
    }

    /// What follows the sequence number: IV, ciphertext and ICV.
    #[inline]
    pub fn body(&self) -> &[u8] {
        range(self.data(), ESP_HEADER_LEN, self.data().len())
    }

    /// The header as values.
    pub fn repr(&self) -> EspRepr {
        EspRepr { spi: self.spi(), sequence: self.sequence() }
    }

    /// The container back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.bytes
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> EspPacket<T> {
    /// Sets the security parameters index.
    #[inline]
    pub fn set_spi(&mut self, spi: Spi) {
        put(self.bytes.as_mut(), 0, &spi.to_be_bytes());
    }

    /// Sets the sequence number (its low half).
    #[inline]
    pub fn set_sequence(&mut self, low: u32) {
        put(self.bytes.as_mut(), SEQUENCE, &low.to_be_bytes());
    }

    /// What follows the sequence number: IV, ciphertext and ICV.
    #[inline]
    pub fn body_mut(&mut self) -> &mut [u8] {
        let to = self.data().len();
        range_mut(self.bytes.as_mut(), ESP_HEADER_LEN, to)
    }
}

impl<T: AsRef<[u8]>> fmt::Debug for EspPacket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repr().fmt(f)
    }
}

/// SPI and sequence number as values, to build an ESP header from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EspRepr {
    /// Security parameters index.
    pub spi: Spi,
    /// Sequence number; of an extended one, the low half.
    pub sequence: u32,
}

impl EspRepr {
    /// Writes the 8 bytes to the start of `out`, and returns 8.
    ///
    /// # Errors
    /// [`EmitError`] if `out` is too short.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, EmitError> {
        let header = space(out, Layer::Esp, ESP_HEADER_LEN)?;
        put(header, 0, &self.spi.to_be_bytes());
        put(header, SEQUENCE, &self.sequence.to_be_bytes());
        Ok(ESP_HEADER_LEN)
    }
}

/// The end of ESP's plaintext: padding, pad length and next header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EspTrailer {
    /// Bytes of padding before the two fields.
    pub pad_len: u8,
    /// What the payload is: a transport protocol, an inner packet (4, 41), or 59 for a dummy.
    pub next_header: IpProtocol,
}

impl EspTrailer {
    /// The trailer of a payload of `payload_len` bytes with the least padding that ends it on a multiple of `block` bytes, but at least of 4 (RFC 4303
    /// section 2.4). A `block` of 0 or 1 is a stream cipher; blocks above 256 bytes do not exist, and are taken as 256.
    #[inline]
    pub const fn for_payload(payload_len: usize, block: usize, next_header: IpProtocol) -> Self {
        let block = match block {
            0..4 => 4,
            257.. => 256,
            _ => block,
        };
        let over = (payload_len % block + ESP_TRAILER_LEN) % block;
        Self { pad_len: if over == 0 { 0 } else { (block - over) as u8 }, next_header }
    }

    /// Length of padding and both fields, in bytes: 2 to 257.
    #[inline]
    pub const fn len(&self) -> usize {
        self.pad_len as usize + ESP_TRAILER_LEN
    }

    /// Never: there are always the two fields.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Reads the trailer at the end of decrypted `plaintext` (payload, padding, pad length, next header), and gives the payload's length with it.
    ///
    /// # Errors
    /// [`ParseError`] if there is not even a trailer, or the pad length is larger than what is before it.
    #[inline]
    pub fn parse(plaintext: &[u8]) -> Result<(Self, usize), ParseError> {
        let [before @ .., pad_len, next_header] = plaintext else {
            return Err(ParseError::overrun(Layer::Esp, ESP_TRAILER_LEN, plaintext.len()));
        };
        let Some(payload_len) = before.len().checked_sub(usize::from(*pad_len)) else {
            return Err(ParseError::PadLength { max: before.len() as u32, found: *pad_len });
        };
        Ok((Self { pad_len: *pad_len, next_header: IpProtocol(*next_header) }, payload_len))
    }

    /// Writes padding (1, 2, 3, ...) and both fields to the start of `out`, and returns their length.
    ///
    /// # Errors
    /// [`EmitError`] if `out` is too short.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, EmitError> {
        let trailer = space(out, Layer::Esp, self.len())?;
        let (padding, fields) = trailer.split_at_mut(usize::from(self.pad_len));
        for (byte, value) in padding.iter_mut().zip(1..=u8::MAX) {
            *byte = value;
        }
        put(fields, 0, &[self.pad_len, self.next_header.0]);
        Ok(self.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spis() {
        assert_eq!(Spi(0x1001).to_string(), "0x00001001");
        assert_eq!(Spi::from_be_bytes([0, 0, 0x10, 1]), Spi(0x1001));
        for (spi, reserved) in [(0, false), (1, true), (255, true), (256, false)] {
            assert_eq!(Spi(spi).is_reserved(), reserved);
        }
    }

    #[test]
    fn padding_ends_on_the_boundary() {
        for block in [0, 1, 4, 8, 16, 256] {
            for payload_len in (0..600).chain([65_500, usize::MAX - 300]) {
                let trailer = EspTrailer::for_payload(payload_len, block, IpProtocol::TCP);
                assert_eq!((payload_len + trailer.len()) % block.max(4), 0);
                assert!(usize::from(trailer.pad_len) < block.max(4));
            }
        }
        let trailer = EspTrailer { pad_len: 255, next_header: IpProtocol::NO_NEXT_HEADER };
        let mut out = [0; 257];
        assert_eq!(trailer.emit(&mut out), Ok(257));
        assert!(out[..255].iter().zip(1..=255).all(|(byte, value)| *byte == value));
        assert_eq!(trailer.emit(&mut out[..256]), Err(EmitError::NoSpace { layer: Layer::Esp, needed: 257, found: 256 }));
    }

    #[test]
    fn a_trailer_that_cannot_be() {
        assert_eq!(EspTrailer::parse(&[]), Err(ParseError::Overrun { layer: Layer::Esp, needed: 2, found: 0 }));
        assert_eq!(EspTrailer::parse(&[1]), Err(ParseError::Overrun { layer: Layer::Esp, needed: 2, found: 1 }));
        assert_eq!(EspTrailer::parse(&[0, 59]), Ok((EspTrailer { pad_len: 0, next_header: IpProtocol::NO_NEXT_HEADER }, 0)));
        assert_eq!(EspTrailer::parse(&[1, 4]), Err(ParseError::PadLength { max: 0, found: 1 }));
        assert_eq!(EspTrailer::parse(&[9, 1, 2, 3, 6]), Ok((EspTrailer { pad_len: 3, next_header: IpProtocol::TCP }, 0)));
        assert_eq!(EspTrailer::parse(&[9, 1, 2, 4, 6]), Err(ParseError::PadLength { max: 3, found: 4 }));
    }

    proptest! {
        #[test]
        fn emits_what_it_reads(spi: u32, sequence: u32, body in 0usize..40) {
            let repr = EspRepr { spi: Spi(spi), sequence };
            let mut bytes = vec![0; 8 + body];
            prop_assert_eq!(repr.emit(&mut bytes), Ok(8));
            prop_assert_eq!(EspPacket::new(&bytes).unwrap().repr(), repr);
            let mut copy = vec![0; 8 + body];
            let mut packet = EspPacket::new(&mut copy).unwrap();
            packet.set_spi(Spi(spi));
            packet.set_sequence(sequence);
            prop_assert_eq!(packet.body_mut().len(), body);
            prop_assert_eq!(copy, bytes);
            for len in 0..8 {
                prop_assert!(EspPacket::new(&[0; 8][..len]).is_err());
                prop_assert!(repr.emit(&mut [0; 8][..len]).is_err());
            }
        }

        #[test]
        fn trailers_round_trip(payload_len in 0usize..100, block in 0usize..=32, next_header: u8) {
            let trailer = EspTrailer::for_payload(payload_len, block, next_header.into());
            let mut bytes = vec![0xee; payload_len + trailer.len()];
            prop_assert_eq!(trailer.emit(&mut bytes[payload_len..]), Ok(trailer.len()));
            prop_assert_eq!(EspTrailer::parse(&bytes), Ok((trailer, payload_len)));
        }
    }
}
