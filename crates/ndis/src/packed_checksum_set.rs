//! A [`ChecksumSet`] in a few bits, as lanes read it: every word that says what is configured has room for several (OV2-CAP-4, OV2-SEND-9).

use packet::{ETHERNET_HEADER_LEN, IpProtocol, Medium};

use crate::offload::{ChecksumSet, Encapsulation};

/// What of checksums is done of one family of packets in one direction. The default: nothing.
///
/// ```text
/// bits 0-2: TCP, UDP, IPv4 header   3, 4: with IP options, TCP options   5-8: no link header, Ethernet, tags in the data, tags out of band
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PackedChecksumSet(u16);

impl PackedChecksumSet {
    /// How many bits it has.
    pub const BITS: u32 = 9;

    const TCP: u16 = 1;
    const UDP: u16 = 1 << 1;
    const IP: u16 = 1 << 2;
    const IP_OPTIONS: u16 = 1 << 3;
    const TCP_OPTIONS: u16 = 1 << 4;
    const BARE: u16 = 1 << 5;
    const UNTAGGED: u16 = 1 << 6;
    const TAGGED: u16 = 1 << 7;
    const TAG_OUT_OF_BAND: u16 = 1 << 8;

    /// Packs a set; one that is not [supported](ChecksumSet::is_supported) as the default.
    pub fn of(set: &ChecksumSet) -> Self {
        if !set.is_supported() {
            return Self::default();
        }
        let form = |encapsulation, bit| (set.encapsulation.contains(encapsulation), bit);
        let flags = [
            (set.tcp_checksum, Self::TCP),
            (set.udp_checksum, Self::UDP),
            (set.ip_checksum, Self::IP),
            (set.ip_options_supported, Self::IP_OPTIONS),
            (set.tcp_options_supported, Self::TCP_OPTIONS),
            form(Encapsulation::NULL, Self::BARE),
            form(Encapsulation::IEEE_802_3, Self::UNTAGGED),
            form(Encapsulation::IEEE_802_3_P_AND_Q, Self::TAGGED),
            form(Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB, Self::TAG_OUT_OF_BAND),
        ];
        Self(flags.iter().filter(|(on, _)| *on).fold(0, |bits, (_, bit)| bits | bit))
    }

    /// Its bits, to be put into a word.
    #[inline]
    pub const fn to_bits(self) -> u16 {
        self.0
    }

    /// That of these bits; what a word has above them is not looked at.
    #[inline]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & ((1 << Self::BITS) - 1))
    }

    #[inline]
    const fn has(self, bits: u16) -> bool {
        self.0 & bits == bits
    }

    /// Whether IPv4 header checksums are done, of headers with options or without.
    #[inline]
    pub const fn ip_header(self, options: bool) -> bool {
        self.has(Self::IP | if options { Self::IP_OPTIONS } else { 0 })
    }

    /// Whether checksums of segments of `protocol` are done, with TCP options or without, in packets with options or extension headers or without.
    #[inline]
    pub const fn segment(self, protocol: IpProtocol, tcp_options: bool, ip_options: bool) -> bool {
        let bit = match protocol {
            IpProtocol::TCP => Self::TCP | if tcp_options { Self::TCP_OPTIONS } else { 0 },
            IpProtocol::UDP => Self::UDP,
            _ => return false,
        };
        self.has(bit | if ip_options { Self::IP_OPTIONS } else { 0 })
    }

    /// Whether anything is done of frames of this form: `l3` is where the IP header begins, `tag`: a tag is out of band.
    #[inline]
    pub const fn takes(self, medium: Medium, l3: usize, tag: bool) -> bool {
        let form = match medium {
            Medium::Ip => Self::BARE,
            Medium::Ethernet => match (tag, l3 > ETHERNET_HEADER_LEN) {
                (false, false) => Self::UNTAGGED,
                (false, true) => Self::TAGGED,
                (true, false) => Self::TAG_OUT_OF_BAND,
                // With a second tag in the data both forms are needed.
                (true, true) => Self::TAG_OUT_OF_BAND | Self::TAGGED,
            },
        };
        self.has(form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(encapsulation: Encapsulation) -> ChecksumSet {
        ChecksumSet { encapsulation, ip_options_supported: true, tcp_options_supported: true, tcp_checksum: true, udp_checksum: true, ip_checksum: true }
    }

    #[test]
    fn bits_come_back_and_others_are_not_looked_at() {
        assert_eq!(PackedChecksumSet::of(&ChecksumSet::default()), PackedChecksumSet::default());
        assert_eq!(PackedChecksumSet::of(&all(Encapsulation::empty())), PackedChecksumSet::default());
        let most = PackedChecksumSet::of(&all(Encapsulation::all()));
        assert_eq!(u32::from(most.to_bits()), (1 << PackedChecksumSet::BITS) - 1);
        for bits in 0..=u16::MAX {
            assert_eq!(PackedChecksumSet::from_bits(bits).to_bits(), bits & most.to_bits());
        }
    }

    #[test]
    fn options_and_forms_are_asked_for_apart() {
        let ethernet = |options| {
            let set = all(Encapsulation::IEEE_802_3);
            PackedChecksumSet::of(&ChecksumSet { ip_options_supported: options, tcp_options_supported: options, ..set })
        };
        let without = ethernet(false);
        assert!(without.segment(IpProtocol::TCP, false, false) && without.segment(IpProtocol::UDP, false, false) && without.ip_header(false));
        assert!(!without.segment(IpProtocol::TCP, true, false) && !without.segment(IpProtocol::UDP, false, true) && !without.ip_header(true));
        let options = ethernet(true);
        assert!(options.segment(IpProtocol::TCP, true, true) && options.segment(IpProtocol::UDP, false, true) && options.ip_header(true));
        assert!(!options.segment(IpProtocol::ICMP, false, false));
        let forms = |encapsulation| PackedChecksumSet::of(&all(encapsulation));
        let tagged = forms(Encapsulation::IEEE_802_3_P_AND_Q);
        assert!(tagged.takes(Medium::Ethernet, 18, false) && !tagged.takes(Medium::Ethernet, 14, true) && !tagged.takes(Medium::Ethernet, 18, true));
        let apart = forms(Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB);
        assert!(apart.takes(Medium::Ethernet, 14, true) && !apart.takes(Medium::Ethernet, 18, true) && !apart.takes(Medium::Ethernet, 14, false));
        assert!(forms(Encapsulation::all()).takes(Medium::Ethernet, 18, true) && forms(Encapsulation::NULL).takes(Medium::Ip, 0, false));
    }
}
