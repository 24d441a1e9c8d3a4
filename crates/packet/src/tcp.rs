//! TCP (RFC 9293).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          Source Port          |       Destination Port        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                        Sequence Number                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                    Acknowledgment Number                      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  Data |       |C|E|U|A|P|R|S|F|                               |
//! | Offset| Rsrvd |W|C|R|C|S|S|Y|I|            Window             |
//! |       |       |R|E|G|K|H|T|N|N|                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |           Checksum            |         Urgent Pointer        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                           [Options]                           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use core::fmt;
use core::ops::BitOr;

use crate::bytes::{put, range, range_mut, space, u16_at, u32_at};
use crate::error::{EmitError, Layer, ParseError};
use crate::options::HeaderOptions;

/// Length of the header without options, in bytes.
pub const TCP_HEADER_LEN: usize = 20;
/// The largest length of the header with options, in bytes.
pub const TCP_MAX_HEADER_LEN: usize = 60;

const DESTINATION_PORT: usize = 2;
pub(crate) const SEQUENCE: usize = 4;
const ACKNOWLEDGMENT: usize = 8;
pub(crate) const DATA_OFFSET: usize = 12;
pub(crate) const FLAGS: usize = 13;
const WINDOW: usize = 14;
pub(crate) const CHECKSUM: usize = 16;
const URGENT: usize = 18;

/// The eight control bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment number is valid.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is valid.
    pub const URG: Self = Self(0x20);
    /// ECN echo.
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced.
    pub const CWR: Self = Self(0x80);

    /// Whether all bits of `other` are set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// These bits without those of `other`.
    #[inline]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for TcpFlags {
    /// A letter for each bit that is set, lowest bit first, as in `SA`; `-` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut letters = [0; 8];
        let mut len = 0;
        for (bit, letter) in b"FSRPAUEC".iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                letters[len] = *letter;
                len += 1;
            }
        }
        f.pad(if len == 0 { "-" } else { core::str::from_utf8(&letters[..len]).unwrap_or_default() })
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpFlags({self})")
    }
}

/// A TCP segment, up to the end of the IP packet, in a byte container.
#[derive(Clone, Copy)]
pub struct TcpPacket<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> TcpPacket<T> {
    /// Checks the data offset.
    ///
    /// # Errors
    /// [`ParseError`] with what does not hold.
    #[inline]
    pub fn new(bytes: T) -> Result<Self, ParseError> {
        let data = bytes.as_ref();
        let Some(header) = data.first_chunk::<TCP_HEADER_LEN>() else {
            return Err(ParseError::overrun(Layer::Tcp, TCP_HEADER_LEN, data.len()));
        };
        let header_len = usize::from(header[DATA_OFFSET] >> 4) * 4;
        if header_len < TCP_HEADER_LEN {
            return Err(ParseError::LengthTooSmall { layer: Layer::Tcp, min: TCP_HEADER_LEN as u32, found: header_len as u32 });
        }
        if header_len > data.len() {
            return Err(ParseError::overrun(Layer::Tcp, header_len, data.len()));
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

    /// Sequence number.
    #[inline]
    pub fn sequence(&self) -> u32 {
        u32_at(self.data(), SEQUENCE)
    }

    /// Acknowledgment number.
    #[inline]
    pub fn acknowledgment(&self) -> u32 {
        u32_at(self.data(), ACKNOWLEDGMENT)
    }

    /// Header length with options, in bytes: 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.data()[DATA_OFFSET] >> 4) * 4
    }

    /// Control bits.
    #[inline]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags(self.data()[FLAGS])
    }

    /// Window, unscaled.
    #[inline]
    pub fn window(&self) -> u16 {
        u16_at(self.data(), WINDOW)
    }

    /// Checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.data(), CHECKSUM)
    }

    /// Urgent pointer.
    #[inline]
    pub fn urgent(&self) -> u16 {
        u16_at(self.data(), URGENT)
    }

    /// The options in order.
    #[inline]
    pub fn options(&self) -> HeaderOptions<'_> {
        HeaderOptions::new(Layer::Tcp, range(self.data(), TCP_HEADER_LEN, self.header_len()))
    }

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        range(self.data(), self.header_len(), self.data().len())
    }

    /// The header without its options and checksum, as values.
    pub fn repr(&self) -> TcpRepr {
        TcpRepr {
            src_port: self.src_port(),
            dst_port: self.dst_port(),
            sequence: self.sequence(),
            acknowledgment: self.acknowledgment(),
            flags: self.flags(),
            window: self.window(),
            urgent: self.urgent(),
        }
    }

    /// The container back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.bytes
    }
}

/// The setters leave the checksum as it is: [`crate::checksum::fill_segment`] after the last of them.
impl<T: AsRef<[u8]> + AsMut<[u8]>> TcpPacket<T> {
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

    /// Sets the sequence number.
    #[inline]
    pub fn set_sequence(&mut self, value: u32) {
        put(self.bytes.as_mut(), SEQUENCE, &value.to_be_bytes());
    }

    /// Sets the acknowledgment number.
    #[inline]
    pub fn set_acknowledgment(&mut self, value: u32) {
        put(self.bytes.as_mut(), ACKNOWLEDGMENT, &value.to_be_bytes());
    }

    /// Sets the control bits.
    #[inline]
    pub fn set_flags(&mut self, flags: TcpFlags) {
        self.bytes.as_mut()[FLAGS] = flags.0;
    }

    /// Sets the window, unscaled.
    #[inline]
    pub fn set_window(&mut self, value: u16) {
        put(self.bytes.as_mut(), WINDOW, &value.to_be_bytes());
    }

    /// Sets the checksum field.
    #[inline]
    pub fn set_checksum(&mut self, value: u16) {
        put(self.bytes.as_mut(), CHECKSUM, &value.to_be_bytes());
    }

    /// Sets the urgent pointer.
    #[inline]
    pub fn set_urgent(&mut self, value: u16) {
        put(self.bytes.as_mut(), URGENT, &value.to_be_bytes());
    }

    /// What follows the header.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (from, to) = (self.header_len(), self.data().len());
        range_mut(self.bytes.as_mut(), from, to)
    }
}

impl<T: AsRef<[u8]>> fmt::Debug for TcpPacket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repr().fmt(f)
    }
}

/// A TCP header as values, to build one from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpRepr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window, unscaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
}

impl TcpRepr {
    /// Writes the header with `options` (up to 40 bytes, a multiple of 4) and checksum 0 to the start of `out`, and returns its length.
    /// [`crate::checksum::fill_segment`] makes the checksum when the payload is there.
    ///
    /// # Errors
    /// [`EmitError`] if `out` is too short, or the options' length is not possible.
    pub fn emit(&self, out: &mut [u8], options: &[u8]) -> Result<usize, EmitError> {
        const MAX_OPTIONS: usize = TCP_MAX_HEADER_LEN - TCP_HEADER_LEN;
        if options.len() > MAX_OPTIONS {
            return Err(EmitError::TooLarge { layer: Layer::Tcp, max: MAX_OPTIONS, found: options.len() });
        }
        if !options.len().is_multiple_of(4) {
            return Err(EmitError::Misaligned { layer: Layer::Tcp, unit: 4, found: options.len() });
        }
        let header_len = TCP_HEADER_LEN + options.len();
        let header = space(out, Layer::Tcp, header_len)?;
        put(header, 0, &self.src_port.to_be_bytes());
        put(header, DESTINATION_PORT, &self.dst_port.to_be_bytes());
        put(header, SEQUENCE, &self.sequence.to_be_bytes());
        put(header, ACKNOWLEDGMENT, &self.acknowledgment.to_be_bytes());
        header[DATA_OFFSET] = (header_len as u8 / 4) << 4;
        header[FLAGS] = self.flags.0;
        put(header, WINDOW, &self.window.to_be_bytes());
        put(header, CHECKSUM, &[0, 0]);
        put(header, URGENT, &self.urgent.to_be_bytes());
        put(header, TCP_HEADER_LEN, options);
        Ok(header_len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn checks_lengths() {
        let mut bytes = [0; 64];
        for len in 0..20 {
            assert_eq!(TcpPacket::new(&bytes[..len]).unwrap_err(), ParseError::Overrun { layer: Layer::Tcp, needed: 20, found: len as u32 });
        }
        for words in 0..16u8 {
            bytes[12] = words << 4;
            for len in 20..64 {
                let expected = match u32::from(words) * 4 {
                    found @ ..20 => Some(ParseError::LengthTooSmall { layer: Layer::Tcp, min: 20, found }),
                    needed if needed > len => Some(ParseError::Overrun { layer: Layer::Tcp, needed, found: len }),
                    _ => None,
                };
                assert_eq!(TcpPacket::new(&bytes[..len as usize]).err(), expected);
            }
        }
    }

    #[test]
    fn flags() {
        let flags = TcpFlags::SYN | TcpFlags::ACK;
        assert_eq!(flags.to_string(), "SA");
        assert_eq!(TcpFlags(0).to_string(), "-");
        assert_eq!(TcpFlags(0xff).to_string(), "FSRPAUEC");
        assert!(flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::SYN | TcpFlags::FIN));
        assert!(flags.intersects(TcpFlags::SYN | TcpFlags::FIN) && !flags.intersects(TcpFlags::URG));
        assert_eq!(flags.without(TcpFlags::SYN), TcpFlags::ACK);
    }

    proptest! {
        #[test]
        fn emits_what_it_reads(
            (src_port, dst_port, sequence, acknowledgment) in any::<(u16, u16, u32, u32)>(), (flags, window, urgent) in any::<(u8, u16, u16)>(),
            words in 0usize..=10, payload in 0usize..50,
        ) {
            let repr = TcpRepr { src_port, dst_port, sequence, acknowledgment, flags: TcpFlags(flags), window, urgent };
            let options = vec![1; 4 * words];
            let mut bytes = vec![0; 20 + 4 * words + payload];
            prop_assert_eq!(repr.emit(&mut bytes, &options), Ok(20 + 4 * words));
            let packet = TcpPacket::new(&bytes).unwrap();
            prop_assert_eq!(packet.repr(), repr);
            prop_assert_eq!(packet.options().count(), 4 * words);
            prop_assert_eq!(packet.payload().len(), payload);

            let mut copy = vec![0; bytes.len()];
            TcpRepr { src_port: 0, dst_port: 0, sequence: 0, acknowledgment: 0, flags: TcpFlags(0), window: 0, urgent: 0 }.emit(&mut copy, &options).unwrap();
            let mut packet = TcpPacket::new(&mut copy).unwrap();
            packet.set_src_port(src_port);
            packet.set_dst_port(dst_port);
            packet.set_sequence(sequence);
            packet.set_acknowledgment(acknowledgment);
            packet.set_flags(TcpFlags(flags));
            packet.set_window(window);
            packet.set_urgent(urgent);
            packet.set_checksum(0);
            prop_assert_eq!(packet.payload_mut().len(), payload);
            prop_assert_eq!(copy, bytes);

            let mut short = [0; 60];
            prop_assert!(repr.emit(&mut short[..19 + 4 * words], &options).is_err());
            prop_assert!(repr.emit(&mut short, &[0; 44]).is_err());
            prop_assert!(repr.emit(&mut short, &[0; 5]).is_err());
        }
    }
}
