//! The internet checksum (RFC 1071), its incremental update (RFC 1624), and where IP, TCP, UDP and ICMP use it.
//!
//! Checksums are host integers: the value of the field read as big-endian.

use crate::addr::IpAddress;
use crate::bytes::{put, range, u16_at};
use crate::error::{Layer, ParseError};
use crate::icmp;
use crate::proto::IpProtocol;
use crate::tcp;
use crate::udp;

/// A one's complement sum of 16-bit words that is still growing.
///
/// ```
/// use packet::InternetSum;
///
/// // RFC 1071 section 3.
/// let sum = InternetSum::new().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
/// assert_eq!(sum.fold(), 0xddf2);
/// assert_eq!(sum.checksum(), !0xddf2);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct InternetSum {
    // Sum of big-endian words, each below 2^16: it cannot overflow before 2^48 additions.
    sum: u64,
}

impl InternetSum {
    /// The empty sum.
    #[inline]
    pub const fn new() -> Self {
        Self { sum: 0 }
    }

    /// Adds bytes that begin on an even offset of what is summed. A last odd byte counts as the high half of a word, so only the last piece may be odd.
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        self.word(sum_words(bytes))
    }

    /// Adds one 16-bit word.
    #[inline]
    pub const fn word(self, word: u16) -> Self {
        Self { sum: self.sum + word as u64 }
    }

    /// Takes one 16-bit word out again that was added.
    #[inline]
    #[must_use]
    pub const fn without(self, word: u16) -> Self {
        // One's complement: to add the complement is to subtract.
        self.word(!word)
    }

    /// Adds a 32-bit field.
    #[inline]
    pub const fn double_word(self, value: u32) -> Self {
        Self { sum: self.sum + (value >> 16) as u64 + (value & 0xffff) as u64 }
    }

    /// The sum itself, not complemented: what a stack seeds a checksum field with when the NIC does the rest (OV2-SEND-9).
    #[inline]
    pub const fn fold(self) -> u16 {
        fold(self.sum)
    }

    /// The checksum: the complement of the sum.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// The checksum of `bytes`. Over bytes that hold their own right checksum it is 0.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum_words(bytes)
}

/// The checksum of an IPv4 header with its options, whatever its checksum field holds now.
///
/// A header shorter than its fixed part gives the checksum of the bytes there are.
#[inline]
pub fn ipv4_header_checksum(header: &[u8]) -> u16 {
    match header.split_at_checked(12) {
        Some((start, rest)) => InternetSum::new().bytes(&start[..10]).bytes(rest).checksum(),
        None => checksum(header),
    }
}

/// Whether the checksum of an IPv4 header with its options is right.
#[inline]
pub fn verify_ipv4_header(header: &[u8]) -> bool {
    header.len() >= 20 && sum_words(header) == 0xffff
}

/// The checksum after one 16-bit word under it has changed (RFC 1624, equation 3).
#[inline]
pub const fn update_word(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

/// The checksum after bytes under it, beginning on an even offset, have changed from `old` to `new`.
#[inline]
pub fn update_bytes(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    update_word(checksum, sum_words(old), sum_words(new))
}

/// The sum over the pseudo-header of TCP, UDP and ICMPv6 (RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1). `len`: bytes of the segment, or 0 to leave
/// it out as large sends do.
#[inline]
pub fn pseudo_header(src: IpAddress, dst: IpAddress, protocol: IpProtocol, len: u32) -> InternetSum {
    // Unused bytes of IPv4 addresses are zero, and add nothing.
    InternetSum::new().bytes(&src.to_padded()).bytes(&dst.to_padded()).double_word(len).word(u16::from(protocol.0))
}

/// Offset of the checksum field in a segment of `protocol`, if this module knows it.
#[inline]
pub const fn checksum_offset(protocol: IpProtocol) -> Option<usize> {
    match protocol {
        IpProtocol::TCP => Some(tcp::CHECKSUM),
        IpProtocol::UDP => Some(udp::CHECKSUM),
        IpProtocol::ICMP | IpProtocol::ICMPV6 => Some(icmp::CHECKSUM),
        _ => None,
    }
}

/// What a look at a TCP, UDP or ICMP checksum gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumVerdict {
    /// It is right.
    Good,
    /// It is wrong; or it is 0 in UDP over IPv6, where one is required.
    Bad,
    /// UDP over IPv4 was sent without one.
    Absent,
}

/// Verifies the checksum of the TCP, UDP, ICMP or ICMPv6 `segment` (the whole payload of an unfragmented IP packet); `None` if it is of another protocol.
/// For UDP, bytes beyond the length in its header are left out.
///
/// # Errors
/// [`ParseError`] if the segment is too short for its header, or the length in the UDP header does not fit it.
pub fn verify_segment(src: IpAddress, dst: IpAddress, protocol: IpProtocol, segment: &[u8]) -> Result<Option<ChecksumVerdict>, ParseError> {
    let Some((segment, at)) = covered(protocol, segment)? else { return Ok(None) };
    let verdict = if protocol == IpProtocol::UDP && u16_at(segment, at) == 0 {
        if src.is_v4() { ChecksumVerdict::Absent } else { ChecksumVerdict::Bad }
    } else if seed(src, dst, protocol, segment.len()).bytes(segment).fold() == 0xffff {
        ChecksumVerdict::Good
    } else {
        ChecksumVerdict::Bad
    };
    Ok(Some(verdict))
}

/// Computes the checksum of the TCP, UDP, ICMP or ICMPv6 `segment`, whatever its field holds now, and puts it in. `false`: it is of another protocol, and
/// nothing was changed.
///
/// # Errors
/// As [`verify_segment`].
pub fn fill_segment(src: IpAddress, dst: IpAddress, protocol: IpProtocol, segment: &mut [u8]) -> Result<bool, ParseError> {
    let Some((part, at)) = covered(protocol, segment)? else { return Ok(false) };
    let len = part.len();
    put(segment, at, &[0, 0]);
    let mut value = seed(src, dst, protocol, len).bytes(range(segment, 0, len)).checksum();
    if value == 0 && protocol == IpProtocol::UDP {
        // 0 would say that there is none (RFC 768).
        value = 0xffff;
    }
    put(segment, at, &value.to_be_bytes());
    Ok(true)
}

/// Puts the sum over the pseudo-header, length included, into the checksum field of the TCP or UDP `segment`: what a stack leaves the NIC to finish
/// (OV2-SEND-9). `false`: it is of another protocol, and nothing was changed.
///
/// # Errors
/// As [`verify_segment`].
pub fn seed_segment(src: IpAddress, dst: IpAddress, protocol: IpProtocol, segment: &mut [u8]) -> Result<bool, ParseError> {
    if protocol != IpProtocol::TCP && protocol != IpProtocol::UDP {
        return Ok(false);
    }
    let Some((part, at)) = covered(protocol, segment)? else { return Ok(false) };
    let value = pseudo_header(src, dst, protocol, part.len() as u32).fold();
    put(segment, at, &value.to_be_bytes());
    Ok(true)
}

/// Finishes the checksum of the TCP or UDP `segment`, whose field holds the sum over the pseudo-header. `false`: it is of another protocol, and nothing was
/// changed.
///
/// ```
/// use packet::{IpProtocol, checksum};
///
/// let (source, destination) = ("10.0.0.1".parse()?, "10.0.0.2".parse()?);
/// let mut segment = [0, 53, 0, 54, 0, 11, 0, 0, 1, 2, 3];
/// checksum::seed_segment(source, destination, IpProtocol::UDP, &mut segment)?;
/// checksum::finish_segment(IpProtocol::UDP, &mut segment)?;
/// let verdict = checksum::verify_segment(source, destination, IpProtocol::UDP, &segment)?;
/// assert_eq!(verdict, Some(packet::ChecksumVerdict::Good));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`verify_segment`].
pub fn finish_segment(protocol: IpProtocol, segment: &mut [u8]) -> Result<bool, ParseError> {
    if protocol != IpProtocol::TCP && protocol != IpProtocol::UDP {
        return Ok(false);
    }
    let Some((part, at)) = covered(protocol, segment)? else { return Ok(false) };
    let mut value = checksum(part);
    if value == 0 && protocol == IpProtocol::UDP {
        // 0 would say that there is none (RFC 768).
        value = 0xffff;
    }
    put(segment, at, &value.to_be_bytes());
    Ok(true)
}

/// The part of the segment that the checksum covers, and where its field is.
fn covered(protocol: IpProtocol, segment: &[u8]) -> Result<Option<(&[u8], usize)>, ParseError> {
    let Some(at) = checksum_offset(protocol) else { return Ok(None) };
    let (layer, min) = match protocol {
        IpProtocol::TCP => (Layer::Tcp, 20),
        IpProtocol::UDP => (Layer::Udp, 8),
        _ => (Layer::Icmp, 4),
    };
    if segment.len() < min {
        return Err(ParseError::overrun(layer, min, segment.len()));
    }
    if protocol != IpProtocol::UDP {
        return Ok(Some((segment, at)));
    }
    let len = usize::from(u16_at(segment, 4));
    if len < min {
        return Err(ParseError::LengthTooSmall { layer, min: 8, found: len as u32 });
    }
    if len > segment.len() {
        return Err(ParseError::overrun(layer, len, segment.len()));
    }
    Ok(Some((range(segment, 0, len), at)))
}

#[inline]
fn seed(src: IpAddress, dst: IpAddress, protocol: IpProtocol, len: usize) -> InternetSum {
    if protocol == IpProtocol::ICMP { InternetSum::new() } else { pseudo_header(src, dst, protocol, len as u32) }
}

/// The folded one's complement sum. 0 only if every word is 0.
#[inline]
fn sum_words(bytes: &[u8]) -> u16 {
    // RFC 1071 section 2: the sum does not depend on the byte order of the words, nor on how many are added at once, if the carries come back in.
    let (words, rest) = bytes.as_chunks::<8>();
    let mut sum = 0u64;
    for word in words {
        let word = u64::from_ne_bytes(*word);
        sum += (word & 0xffff_ffff) + (word >> 32);
    }
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    let (words, rest) = rest.as_chunks::<2>();
    for word in words {
        sum += u64::from(u16::from_ne_bytes(*word));
    }
    if let [last] = *rest {
        sum += u64::from(u16::from_ne_bytes([last, 0]));
    }
    u16::from_be(fold(sum))
}

#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Word by word, as RFC 1071 section 4.1 has it.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            if sum > 0xffff {
                sum -= 0xffff;
            }
        }
        !(sum as u16)
    }

    #[test]
    fn rfc_1071_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(InternetSum::new().bytes(&bytes).fold(), 0xddf2);
        assert_eq!(checksum(&bytes), 0x220d);
        assert_eq!(checksum(&[]), 0xffff);
        assert_eq!(checksum(&vec![0xff; 65536]), 0);
        assert_eq!(checksum(&[0x12]), !0x1200);
    }

    #[test]
    fn rfc_1624_example() {
        // Section 4: a checksum of 0xdd2f, the word 0x5555 becomes 0x3285, and the result is 0x0000, not 0xffff.
        assert_eq!(update_word(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn known_header() {
        let mut header = [0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7];
        assert!(verify_ipv4_header(&header));
        assert_eq!(ipv4_header_checksum(&header), 0xb861);
        header[10..12].copy_from_slice(&[0, 0]);
        assert_eq!(ipv4_header_checksum(&header), 0xb861);
        header[10..12].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(ipv4_header_checksum(&header), 0xb861);
        assert!(!verify_ipv4_header(&header));
        assert!(!verify_ipv4_header(&header[..19]));
        assert_eq!(ipv4_header_checksum(&[]), 0xffff);
    }

    #[test]
    fn udp_without_a_checksum() {
        let segment = [0x11, 0x94, 0x11, 0x94, 0, 9, 0, 0, 0xff, 0xaa];
        let four = IpAddress::v4([10, 0, 0, 1]);
        let six = IpAddress::v6([1; 16]);
        assert_eq!(verify_segment(four, four, IpProtocol::UDP, &segment), Ok(Some(ChecksumVerdict::Absent)));
        assert_eq!(verify_segment(six, six, IpProtocol::UDP, &segment), Ok(Some(ChecksumVerdict::Bad)));
        assert_eq!(verify_segment(six, six, IpProtocol::ESP, &segment), Ok(None));
        for (length, found) in [(7, 7), (0, 0)] {
            let mut segment = segment;
            segment[5] = length;
            assert_eq!(verify_segment(four, four, IpProtocol::UDP, &segment), Err(ParseError::LengthTooSmall { layer: Layer::Udp, min: 8, found }));
        }
        let mut long = segment;
        long[5] = 11;
        assert_eq!(verify_segment(four, four, IpProtocol::UDP, &long), Err(ParseError::Overrun { layer: Layer::Udp, needed: 11, found: 10 }));
        assert_eq!(fill_segment(four, four, IpProtocol::UDP, &mut long), Err(ParseError::Overrun { layer: Layer::Udp, needed: 11, found: 10 }));
    }

    #[test]
    fn a_udp_checksum_that_comes_out_as_zero_is_sent_as_ones() {
        let address = IpAddress::v4([0; 4]);
        let mut segment = [0, 0, 0, 0, 0, 8, 0, 0];
        // Ports that make the sum 0xffff: protocol 17, length 8 twice.
        segment[..2].copy_from_slice(&(0xffffu16 - 17 - 8 - 8).to_be_bytes());
        assert_eq!(fill_segment(address, address, IpProtocol::UDP, &mut segment), Ok(true));
        assert_eq!(segment[6..], [0xff, 0xff]);
        assert_eq!(verify_segment(address, address, IpProtocol::UDP, &segment), Ok(Some(ChecksumVerdict::Good)));
    }

    proptest! {
        #[test]
        fn equals_the_naive_sum(bytes in prop::collection::vec(any::<u8>(), 0..300), from in 0usize..16) {
            let bytes = bytes.get(from..).unwrap_or(&bytes);
            prop_assert_eq!(checksum(bytes), naive(bytes));
        }

        #[test]
        fn sums_in_pieces(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..100, value: u32) {
            let (left, right) = bytes.split_at((2 * cut).min(bytes.len()));
            let whole = InternetSum::new().bytes(&bytes).double_word(value);
            prop_assert_eq!(InternetSum::new().double_word(value).bytes(left).bytes(right).fold(), whole.fold());
        }

        #[test]
        fn updates_as_if_computed_anew(mut bytes in prop::collection::vec(any::<u8>(), 20..100), at in 0usize..8, new: [u8; 4]) {
            bytes[0] |= 1; // not all zero: then the sum has two forms
            bytes[19] |= 1;
            let before = checksum(&bytes);
            let at = 2 * at + 2;
            let mut old = [0; 4];
            old.copy_from_slice(&bytes[at..at + 4]);
            bytes[at..at + 4].copy_from_slice(&new);
            prop_assert_eq!(update_bytes(before, &old, &new), checksum(&bytes));
        }

        #[test]
        fn fills_what_it_verifies(
            mut segment in prop::collection::vec(any::<u8>(), 20..200), six: bool, src: [u8; 16], dst: [u8; 16],
            protocol in prop::sample::select(vec![IpProtocol::TCP, IpProtocol::UDP, IpProtocol::ICMP, IpProtocol::ICMPV6]), flip in any::<(prop::sample::Index, u8)>(),
        ) {
            let version = if six { crate::IpVersion::V6 } else { crate::IpVersion::V4 };
            let (src, dst) = (IpAddress::from_padded(version, src), IpAddress::from_padded(version, dst));
            let len = segment.len();
            if protocol == IpProtocol::UDP {
                segment[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            }
            prop_assert_eq!(fill_segment(src, dst, protocol, &mut segment), Ok(true));
            prop_assert_eq!(verify_segment(src, dst, protocol, &segment), Ok(Some(ChecksumVerdict::Good)));
            // Against the pseudo-header written out.
            if protocol != IpProtocol::ICMP {
                let mut bytes = [src.as_bytes(), dst.as_bytes(), &[0, protocol.0], &(len as u16).to_be_bytes()].concat();
                bytes.extend_from_slice(&segment);
                prop_assert_eq!(naive(&bytes), 0);
            }
            // A flipped bit outside the UDP length (which then says what is covered) is seen.
            let at = flip.0.index(len);
            if !(protocol == IpProtocol::UDP && (4..8).contains(&at)) {
                segment[at] ^= 1 << (flip.1 % 8);
                prop_assert_eq!(verify_segment(src, dst, protocol, &segment), Ok(Some(ChecksumVerdict::Bad)));
            }
        }
    }
}
