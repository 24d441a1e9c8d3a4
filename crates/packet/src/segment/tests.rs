use proptest::prelude::*;

use super::*;
use crate::checksum::{ChecksumVerdict, verify_ipv4_header, verify_segment};
use crate::ipv4::{Ipv4Packet, Ipv4Repr};
use crate::ipv6::Ipv6Repr;
use crate::tcp::TcpRepr;
use crate::udp::{UdpPacket, UdpRepr};

const LINK: usize = 14;
const FLAGS: TcpFlags = TcpFlags(TcpFlags::CWR.0 | TcpFlags::ECE.0 | TcpFlags::ACK.0 | TcpFlags::PSH.0 | TcpFlags::FIN.0);

/// A large packet behind a link header, seeded; `extra` is 4-byte words of IPv4 options, or 8-byte units of destination options.
#[derive(Clone, Debug)]
struct Large {
    v6: bool,
    extra: usize,
    tcp_options: usize,
    segments: Segments,
    flags: TcpFlags,
    identification: u16,
    sequence: u32,
    payload: usize,
}

impl Large {
    const TCP: Self = Self { v6: false, extra: 0, tcp_options: 0, segments: Segments::Tcp, flags: FLAGS, identification: 7, sequence: 100, payload: 100 };

    fn head(&self) -> usize {
        let ip = if self.v6 { 40 + 8 * self.extra } else { 20 + 4 * self.extra };
        let upper = if self.segments == Segments::Tcp { 20 + 4 * self.tcp_options } else { 8 };
        LINK + ip + upper
    }

    fn upper(&self) -> usize {
        LINK + if self.v6 { 40 + 8 * self.extra } else { 20 + 4 * self.extra }
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0xee; self.head() + self.payload];
        let protocol = if self.segments == Segments::Tcp { IpProtocol::TCP } else { IpProtocol::UDP };
        let (ip, upper) = (&mut frame[LINK..], self.upper());
        if self.v6 {
            let next = if self.extra == 0 { protocol } else { IpProtocol::DESTINATION_OPTIONS };
            let repr = Ipv6Repr::new(next, "2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap(), 0);
            repr.emit(ip).unwrap();
            if self.extra != 0 {
                ip[40..40 + 8 * self.extra].fill(0);
                ip[40] = protocol.0;
                ip[41] = (self.extra - 1) as u8;
            }
        } else {
            let repr = Ipv4Repr::new(protocol, "192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap(), 0);
            repr.emit(ip).unwrap();
            ip[0] = 0x45 + self.extra as u8;
            ip[20..20 + 4 * self.extra].fill(1);
            ip[2..4].fill(0);
            ip[4..6].copy_from_slice(&self.identification.to_be_bytes());
        }
        if self.segments == Segments::Tcp {
            let tcp = TcpRepr { src_port: 1, dst_port: 2, sequence: self.sequence, acknowledgment: 3, flags: self.flags, window: 4, urgent: 0 };
            tcp.emit(&mut frame[upper..], &vec![1; 4 * self.tcp_options]).unwrap();
        } else {
            UdpRepr { src_port: 1, dst_port: 2, payload_len: 0 }.emit(&mut frame[upper..]).unwrap();
        }
        for (number, byte) in frame[self.head()..].iter_mut().enumerate() {
            *byte = (number * 7 + number / 251) as u8;
        }
        let parsed = ParsedIp::parse_whole(&frame[LINK..]).unwrap();
        assert!(plant_seed(&mut frame, upper, &parsed));
        frame
    }

    fn template<'a>(&self, frame: &'a [u8], mss: u32) -> Template<'a> {
        Template { upper: self.upper(), lengths: LengthRule::Zero, ..Template::new(frame, LINK, self.segments, mss) }
    }

    /// Cuts, and checks every field of every segment and that the payload is whole. Returns the segments.
    fn check(&self, mss: u32) -> Vec<Vec<u8>> {
        let frame = self.frame();
        let cutter = Cutter::new(&self.template(&frame, mss)).unwrap();
        let count = self.payload.div_ceil(mss as usize);
        assert_eq!((cutter.count(), cutter.payload_len(), cutter.head_len()), (count, self.payload, self.head()));
        let (mut payload, mut segments) = (Vec::new(), Vec::new());
        for number in 0..count {
            let mut segment = vec![0x55; cutter.frame_len(number)];
            assert!(cutter.write(number, &mut segment));
            let packet = &segment[LINK..];
            let parsed = ParsedIp::parse(packet).unwrap();
            assert_eq!((parsed.total_len(), &segment[..LINK]), (packet.len(), &frame[..LINK]));
            if !self.v6 {
                let view = Ipv4Packet::new(packet).unwrap();
                let counted = self.identification.wrapping_add(number as u16);
                assert_eq!(view.identification(), if number == 0 { counted } else { counted & 0x7fff });
                assert!(verify_ipv4_header(&packet[..view.header_len()]));
            }
            let upper = parsed.payload(packet);
            assert_eq!(verify_segment(parsed.src(), parsed.dst(), parsed.protocol(), upper), Ok(Some(ChecksumVerdict::Good)));
            let part = if self.segments == Segments::Tcp {
                let view = TcpPacket::new(upper).unwrap();
                assert_eq!(view.sequence(), self.sequence.wrapping_add(payload.len() as u32));
                let (first, last) = (number == 0, number + 1 == count);
                let gone = if last { TcpFlags(0) } else { TcpFlags::FIN | TcpFlags::PSH } | if first { TcpFlags(0) } else { TcpFlags::CWR };
                assert_eq!(view.flags(), self.flags.without(gone));
                &upper[view.header_len()..]
            } else {
                let view = UdpPacket::new(upper).unwrap();
                assert_eq!(view.total_len(), upper.len());
                &upper[8..]
            };
            let last = self.payload - (count - 1) * mss as usize;
            assert_eq!(part.len(), if number + 1 == count { last } else { mss as usize });
            payload.extend_from_slice(part);
            segments.push(segment);
        }
        assert_eq!(payload, frame[self.head()..], "the payload is whole");
        assert!(!cutter.write(count, &mut vec![0; 70_000]), "there is no segment behind the last");
        assert!(!cutter.write(0, &mut vec![0; cutter.frame_len(0) - 1]), "no room");
        segments
    }
}

/// OV2-SEND-4: segments around the multiples of the segment size, every field of each.
#[test]
fn lengths_around_multiples() {
    for segments in [Segments::Tcp, Segments::Udp] {
        for v6 in [false, true] {
            for mss in [1, 2, 3, 8, 536, 1440, 1460, 8960, 9000] {
                for payload in [1, mss - 1, mss, mss + 1, 2 * mss - 1, 2 * mss, 2 * mss + 1, 7 * mss].into_iter().filter(|&payload| payload != 0) {
                    Large { v6, segments, payload, ..Large::TCP }.check(mss as u32);
                }
            }
        }
    }
}

/// OV2-SEND-4: identifications of LSO version 2 run from 0 to 0x7fff and wrap; those of version 1 use all 16 bits.
#[test]
fn identifications_wrap() {
    for (first, second_short, second_long) in [(0, 1, 1), (0x7ffe, 0x7fff, 0x7fff), (0x7fff, 0, 0x8000), (0x8000, 1, 0x8001), (0xffff, 0, 0)] {
        let large = Large { identification: first, payload: 3, ..Large::TCP };
        let segments = large.check(1);
        let identification = |segment: &[u8]| u16_at(segment, LINK + ipv4::IDENTIFICATION);
        assert_eq!([0, 1].map(|number| identification(&segments[number])), [first, second_short]);
        let mut frame = large.frame();
        let length = (frame.len() - LINK) as u16;
        put(&mut frame, LINK + ipv4::TOTAL_LEN, &length.to_be_bytes());
        let template = Template { lengths: LengthRule::True, short_identifications: false, ..large.template(&frame, 1) };
        let mut segment = vec![0; large.head() + 1];
        assert!(Cutter::new(&template).unwrap().write(1, &mut segment));
        assert_eq!(identification(&segment), second_long);
        assert!(verify_ipv4_header(&segment[LINK..LINK + 20]));
    }
}

/// OV2-SEND-4: what cannot be in a large send is refused, and the refusal says what was found.
#[test]
fn what_cannot_be_cut() {
    let large = Large::TCP;
    let frame = large.frame();
    let cut = |template: Template<'_>| Cutter::new(&template).map(|_| ()).unwrap_err();
    let good = large.template(&frame, 10);
    assert!(Cutter::new(&good).is_ok());
    assert_eq!(cut(Template { mss: 0, ..good }), CutError::NoSegmentSize);
    assert_eq!(cut(Template { padding: 100, ..good }), CutError::NoPayload);
    assert_eq!(cut(Template { padding: usize::MAX, ..good }), CutError::NoPayload);
    assert_eq!(cut(Template { lengths: LengthRule::True, ..good }), CutError::Length { expected: 140, found: 0 });
    let upper = |expected_at, expected, found| CutError::Upper { expected, expected_at, found, found_at: 34 };
    assert_eq!(cut(Template { upper: 38, ..good }), upper(38, IpProtocol::TCP, IpProtocol::TCP));
    assert_eq!(cut(Template { upper: 30, ..good }), upper(30, IpProtocol::TCP, IpProtocol::TCP));
    assert_eq!(cut(Template { segments: Segments::Udp, ..good }), upper(34, IpProtocol::UDP, IpProtocol::TCP));
    assert_eq!(cut(Template { secured: true, upper: 33, ..good }), upper(33, IpProtocol::TCP, IpProtocol::TCP));
    assert!(matches!(cut(Template { ip: 20, ..good }), CutError::Header(_)));
    assert!(matches!(cut(Template { ip: usize::MAX, ..good }), CutError::Header(_)));
    assert!(matches!(cut(Template { inner: Some(1), ..good }), CutError::Header(_)));
    assert!(matches!(cut(Template { secured: true, upper: 5000, ..good }), CutError::Header(_)));
    assert!(matches!(cut(Template { secured: true, upper: 5000, segments: Segments::Udp, ..good }), CutError::Header(_)));
    for flag in [TcpFlags::URG, TcpFlags::RST, TcpFlags::SYN] {
        let frame = Large { flags: FLAGS | flag, ..Large::TCP }.frame();
        assert_eq!(cut(large.template(&frame, 10)), CutError::Flags { flags: FLAGS | flag });
    }
    for fragment in [[0x20, 0], [0, 1]] {
        let mut frame = large.frame();
        put(&mut frame, LINK + ipv4::FRAGMENT, &fragment);
        assert_eq!(cut(large.template(&frame, 10)), CutError::Fragment);
    }
    let mut wrong = large.frame();
    put(&mut wrong, LINK + ipv4::TOTAL_LEN, &[0, 140]);
    assert_eq!(cut(large.template(&wrong, 10)), CutError::Length { expected: 0, found: 140 });
    assert!(Cutter::new(&Template { lengths: LengthRule::Any, ..large.template(&wrong, 10) }).is_ok());
}

/// OV2-SEND-4: no segment is longer than an IP packet can be, with what comes behind it.
#[test]
fn the_longest_segments() {
    for (v6, most) in [(false, 65_535_usize), (true, 65_575)] {
        let large = Large { v6, payload: 100_000, ..Large::TCP };
        let frame = large.frame();
        let mss = most - (large.head() - LINK);
        assert!(Cutter::new(&large.template(&frame, mss as u32)).is_ok());
        let cut = |template: Template<'_>| Cutter::new(&template).map(|_| ()).unwrap_err();
        assert_eq!(cut(large.template(&frame, mss as u32 + 1)), CutError::SegmentTooLong { most, found: most + 1 });
        assert_eq!(cut(Template { tail: 1, ..large.template(&frame, mss as u32) }), CutError::SegmentTooLong { most, found: most + 1 });
        assert!(matches!(cut(Template { tail: usize::MAX, ..large.template(&frame, 1) }), CutError::SegmentTooLong { .. }));
        large.check(mss as u32);
    }
}

/// A tail is counted by the outermost IP header, and not by the one inside a tunnel.
#[test]
fn the_length_of_a_tail_is_the_outer_headers() {
    for (inner_v6, outer_v6) in [(false, false), (false, true), (true, false), (true, true)] {
        let large = Large { v6: inner_v6, payload: 25, identification: 0x7fff, ..Large::TCP };
        let inner = large.frame();
        // An outer header, and eight bytes for IPsec.
        let outer_len = if outer_v6 { 40 } else { 20 };
        let mut frame = vec![0; LINK + outer_len + 8];
        if outer_v6 {
            Ipv6Repr::new(IpProtocol::ESP, "::1".parse().unwrap(), "::2".parse().unwrap(), 0).emit(&mut frame[LINK..]).unwrap();
        } else {
            Ipv4Repr::new(IpProtocol::ESP, "10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), 0).emit(&mut frame[LINK..]).unwrap();
            frame[LINK + 2..LINK + 6].copy_from_slice(&[0, 0, 0x7f, 0xff]);
        }
        let at = frame.len();
        frame.extend_from_slice(&inner[LINK..]);
        let template = Template { inner: Some(at), secured: true, upper: at + large.upper() - LINK, tail: 6, ..large.template(&frame, 10) };
        let cutter = Cutter::new(&template).unwrap();
        let plain = large.check(10);
        for (number, expected) in plain.iter().enumerate() {
            let mut segment = vec![0xaa; cutter.frame_len(number) + 6];
            assert!(cutter.write(number, &mut segment));
            let parsed = ParsedIp::parse(&segment[LINK..]).unwrap();
            assert_eq!((parsed.total_len(), parsed.padding_len()), (segment.len() - LINK, 0));
            if !outer_v6 {
                assert_eq!(u16_at(&segment, LINK + 4), 0x7fff + number as u16, "an outer header counts in 16 bits");
                assert!(verify_ipv4_header(&segment[LINK..LINK + 20]));
            }
            assert_eq!(segment[at..segment.len() - 6], expected[LINK..]);
            assert_eq!(segment[segment.len() - 6..], [0xaa; 6]);
        }
    }
}

/// A UDP checksum that comes out as zero is sent as ones.
#[test]
fn a_udp_checksum_is_never_zero() {
    let mut zero = 0;
    for value in 0..=u16::MAX {
        let large = Large { segments: Segments::Udp, payload: 2, ..Large::TCP };
        let mut frame = large.frame();
        let at = large.head();
        put(&mut frame, at, &value.to_be_bytes());
        let mut segment = vec![0; at + 2];
        assert!(Cutter::new(&large.template(&frame, 2)).unwrap().write(0, &mut segment));
        let sum = u16_at(&segment, at - 2);
        assert_ne!(sum, 0);
        zero += u32::from(sum == 0xffff);
    }
    assert!((1..=2).contains(&zero), "{zero}: one payload or two, which are the same sum");
}

fn any_large() -> impl Strategy<Value = Large> {
    let shape = (any::<bool>(), 0_usize..=10, 0_usize..=10, any::<bool>(), 0_u8..32, any::<u16>(), any::<u32>(), 1_usize..4000);
    shape.prop_map(|(v6, extra, tcp_options, udp, flags, identification, sequence, payload)| {
        // FIN, PSH, ACK, ECE, CWR.
        let bits = [0x01, 0x08, 0x10, 0x40, 0x80];
        let flags = TcpFlags(bits.iter().enumerate().map(|(number, bit)| (flags >> number & 1) * bit).sum());
        let segments = if udp { Segments::Udp } else { Segments::Tcp };
        Large { v6, extra, tcp_options, segments, flags, identification, sequence, payload }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// OV2-SEND-4: options and extension headers are replicated, everything else is as each segment needs it, and the payload is whole.
    #[test]
    fn any_large_packet_is_cut_right(large in any_large(), mss in prop_oneof![1_u32..200, 1_u32..9001]) {
        large.check(mss);
    }

    /// Nothing panics, whatever the template says of whatever bytes.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), numbers in prop::array::uniform6(0_usize..220), flags in 0_u8..32, mss in 0_u32..40) {
        let [ip, inner, upper, padding, tail, room] = numbers;
        let template = Template {
            frame: &bytes,
            ip,
            inner: (flags & 1 != 0).then_some(inner),
            upper,
            secured: flags & 2 != 0,
            segments: if flags & 4 != 0 { Segments::Udp } else { Segments::Tcp },
            mss,
            padding,
            tail,
            lengths: LengthRule::Any,
            short_identifications: flags & 8 != 0,
        };
        if let Ok(cutter) = Cutter::new(&template) {
            let mut out = vec![0; room];
            for number in [0, cutter.count() - 1, cutter.count(), usize::MAX] {
                let written = cutter.write(number, &mut out);
                prop_assert_eq!(written, number < cutter.count() && room >= cutter.frame_len(number));
            }
        }
    }
}
