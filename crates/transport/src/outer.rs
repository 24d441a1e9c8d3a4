//! Outer headers of tunnels (RFC 4301 section 5.1.2) and the fields that pass between outer and inner header.

use packet::{IpAddress, IpProtocol, checksum};

/// Hop limit of outer headers.
const TTL: u8 = 64;
/// The ECN bits of a traffic class.
const ECN: u8 = 0b11;
/// ECN codepoints (RFC 3168): the sender does not understand marks; two ways to say that it does; congestion experienced.
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// What an inner header hands to the outer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inner {
    /// DSCP and ECN.
    pub(crate) traffic_class: u8,
    /// Whether routers must not fragment it; always so for IPv6.
    pub(crate) dont_fragment: bool,
}

impl Inner {
    /// Reads an IP header whose version and length have been checked.
    #[inline]
    pub(crate) fn read(ip: &[u8]) -> Self {
        match ip {
            [first, traffic_class, _, _, _, _, flags, ..] if first >> 4 == 4 => Self { traffic_class: *traffic_class, dont_fragment: flags & 0x40 != 0 },
            [first, second, ..] => Self { traffic_class: (first << 4) | (second >> 4), dont_fragment: true },
            _ => Self { traffic_class: 0, dont_fragment: true },
        }
    }
}

/// The outer IP header of a tunnel SA, ready but for what each packet brings.
#[derive(Clone, Debug)]
pub(crate) struct OuterHeader {
    bytes: [u8; 40],
    length: u8,
    /// IPv4: sum of the words in `bytes`.
    sum: u32,
}

impl OuterHeader {
    /// A header from `source` to `destination`, which are of one version.
    pub(crate) fn new(source: IpAddress, destination: IpAddress, protocol: IpProtocol) -> Self {
        let mut bytes = [0; 40];
        let length = if source.is_v4() {
            bytes[0] = 0x45;
            bytes[8] = TTL;
            bytes[9] = protocol.0;
            bytes[12..16].copy_from_slice(source.as_bytes());
            bytes[16..20].copy_from_slice(destination.as_bytes());
            20
        } else {
            bytes[0] = 0x60;
            bytes[6] = protocol.0;
            bytes[7] = TTL;
            bytes[8..24].copy_from_slice(source.as_bytes());
            bytes[24..40].copy_from_slice(destination.as_bytes());
            40
        };
        let sum = bytes[..usize::from(length)].as_chunks().0.iter().map(|&word| u32::from(u16::from_be_bytes(word))).sum();
        Self { bytes, length, sum }
    }

    /// Length in bytes: 20 or 40.
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether it is an IPv4 header.
    #[inline]
    pub(crate) const fn is_v4(&self) -> bool {
        self.length == 20
    }

    /// The header as little-endian numbers, zeros behind it, and of an IPv4 one the sum of its words.
    pub(crate) fn words(&self) -> ([u64; 5], u32) {
        let mut words = [0; 5];
        for (word, bytes) in words.iter_mut().zip(self.bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        (words, self.sum)
    }

    /// Writes the header into the first [`OuterHeader::len`] bytes of `out`, for a packet of `total` bytes including it.
    ///
    /// DSCP and ECN are the inner ones (RFC 6040, normal mode), and so is DF. `identification` matters only to routers that fragment.
    #[inline]
    pub(crate) fn write(&self, out: &mut [u8], total: usize, inner: Inner, identification: u16) {
        if self.is_v4() {
            let header = &mut out[..20];
            header.copy_from_slice(&self.bytes[..20]);
            let (total, flags) = (total as u16, if inner.dont_fragment { 0x4000_u16 } else { 0 });
            header[1] = inner.traffic_class;
            header[2..4].copy_from_slice(&total.to_be_bytes());
            header[4..6].copy_from_slice(&identification.to_be_bytes());
            header[6..8].copy_from_slice(&flags.to_be_bytes());
            // From what each packet brings, and not from the header: to read back at once what was just written in pieces stalls.
            let sum = self.sum + u32::from(inner.traffic_class) + u32::from(total) + u32::from(identification) + u32::from(flags);
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = (sum & 0xffff) + (sum >> 16);
            header[10..12].copy_from_slice(&(!sum as u16).to_be_bytes());
        } else {
            let header = &mut out[..40];
            header.copy_from_slice(&self.bytes[..40]);
            header[0] |= inner.traffic_class >> 4;
            header[1] = inner.traffic_class << 4;
            header[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
        }
    }
}

/// Hands the congestion mark of the outer header to the inner one (RFC 6040 section 4.2, figure 4). `inner` is an IP packet whose header has been checked.
///
/// Returns false if the packet must be dropped: marked by a router although its sender does not understand marks.
#[inline]
pub(crate) fn merge_ecn(outer_class: u8, inner: &mut [u8]) -> bool {
    let inner_ecn = Inner::read(inner).traffic_class & ECN;
    match (inner_ecn, outer_class & ECN) {
        (NOT_ECT, CE) => return false,
        (ECT_0 | ECT_1, CE) => set_ecn(inner, CE),
        (ECT_0, ECT_1) => set_ecn(inner, ECT_1),
        _ => {}
    }
    true
}

#[cold]
fn set_ecn(inner: &mut [u8], ecn: u8) {
    if inner[0] >> 4 == 4 {
        let old = u16::from_be_bytes([inner[0], inner[1]]);
        inner[1] = inner[1] & !ECN | ecn;
        let new = u16::from_be_bytes([inner[0], inner[1]]);
        let sum = checksum::update_word(u16::from_be_bytes([inner[10], inner[11]]), old, new);
        inner[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        inner[1] = inner[1] & !(ECN << 4) | ecn << 4;
    }
}

#[cfg(test)]
mod tests {
    use packet::{Ipv4Packet, Ipv6Packet};

    use super::*;

    fn outer(source: &str, destination: &str) -> OuterHeader {
        OuterHeader::new(source.parse().unwrap(), destination.parse().unwrap(), IpProtocol::ESP)
    }

    #[test]
    fn an_ipv4_header_is_whole() {
        let mut bytes = [0xff; 60];
        outer("192.0.2.1", "192.0.2.2").write(&mut bytes, 60, Inner { traffic_class: 0xb9, dont_fragment: true }, 0x1234);
        let header = Ipv4Packet::new(&bytes[..]).unwrap();
        assert!(header.verify_checksum());
        assert_eq!((header.total_len(), header.traffic_class(), header.identification()), (60, 0xb9, 0x1234));
        assert!(header.dont_fragment() && !header.more_fragments());
        assert_eq!((header.protocol(), header.ttl()), (IpProtocol::ESP, 64));
        assert_eq!((header.src().to_string(), header.dst().to_string()), ("192.0.2.1".into(), "192.0.2.2".into()));
    }

    #[test]
    fn an_ipv6_header_is_whole() {
        let mut bytes = [0xff; 80];
        outer("2001:db8::1", "2001:db8::2").write(&mut bytes, 80, Inner { traffic_class: 0xb9, dont_fragment: true }, 7);
        let header = Ipv6Packet::new(&bytes[..]).unwrap();
        assert_eq!((header.payload_len(), header.traffic_class(), header.flow_label()), (40, 0xb9, 0));
        assert_eq!((header.next_header(), header.hop_limit()), (IpProtocol::ESP, 64));
        assert_eq!((header.src().to_string(), header.dst().to_string()), ("2001:db8::1".into(), "2001:db8::2".into()));
    }

    /// RFC 6040 figure 4, row by row; `None` is the packet that must be dropped.
    #[test]
    fn congestion_marks_come_in() {
        const FIGURE: [(u8, [Option<u8>; 4]); 4] = [
            // Outer: Not-ECT, ECT(1), ECT(0), CE.
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (ECT_0, [Some(ECT_0), Some(ECT_1), Some(ECT_0), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ];
        for (inner_ecn, outer_ecn, expected) in FIGURE.into_iter().flat_map(|(inner, row)| (0..4).zip(row).map(move |(outer, ecn)| (inner, outer, ecn))) {
            let mut v4 = [0; 20];
            outer("10.0.0.1", "10.0.0.2").write(&mut v4, 20, Inner { traffic_class: 0x28 | inner_ecn, dont_fragment: false }, 0);
            let mut v6 = [0; 40];
            outer("::1", "::2").write(&mut v6, 40, Inner { traffic_class: 0x28 | inner_ecn, dont_fragment: true }, 0);
            for inner in [&mut v4[..], &mut v6[..]] {
                let kept = merge_ecn(0x28 | outer_ecn, inner);
                assert_eq!(kept.then(|| Inner::read(inner).traffic_class), expected.map(|ecn| 0x28 | ecn), "{inner_ecn} in {outer_ecn}");
            }
            assert!(Ipv4Packet::new(&v4[..]).unwrap().verify_checksum());
        }
    }
}
