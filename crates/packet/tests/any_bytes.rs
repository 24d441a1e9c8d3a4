//! No bytes make anything here panic, and what is read of them hangs together: random bytes, and packets that were good before they were cut or changed.

use std::fmt::Debug;

use packet::{
    AhPacket, AhRepr, EspPacket, EspRepr, EspTrailer, EtherType, EthernetFrame, EthernetKind, EthernetRepr, FragmentState, IcmpPacket, IcmpRepr, IpAddress,
    IpProtocol, IpVersion, Ipv4Packet, Ipv4Repr, Ipv6ChainEnd, Ipv6Fragment, Ipv6Options, Ipv6Packet, Ipv6Repr, MacAddress, Medium, ParseError, ParsedIp, Spi,
    TcpFlags, TcpPacket, TcpRepr, UdpEncapsulated, UdpPacket, UdpRepr, VlanTag, checksum, pretty,
};
use proptest::prelude::*;

/// Reads everything that can be read of `bytes`, in every way, and checks what must always hold.
fn read_all(bytes: &[u8]) {
    for medium in [Medium::Ip, Medium::Ethernet] {
        let line = pretty::frame(medium, bytes).to_string();
        assert!(!line.is_empty() && !line.contains('\n'), "{line}");
    }
    read_ethernet(bytes);
    read_ip(bytes);
    read_upper(bytes);
    let address = IpAddress::v4([10, 0, 0, 1]);
    for protocol in (0..=255).map(IpProtocol) {
        let mut copy = bytes.to_vec();
        let filled = checksum::fill_segment(address, address, protocol, &mut copy);
        let verdict = checksum::verify_segment(address, address, protocol, &copy);
        match filled {
            Ok(true) => assert_eq!(verdict, Ok(Some(packet::ChecksumVerdict::Good))),
            Ok(false) => assert_eq!((verdict, copy.as_slice()), (Ok(None), bytes)),
            Err(error) => assert_eq!((verdict, copy.as_slice()), (Err(error), bytes)),
        }
    }
    checksum::ipv4_header_checksum(bytes);
    checksum::verify_ipv4_header(bytes);
}

fn shown<T: Debug>(value: &T) {
    assert!(!format!("{value:?}").is_empty());
}

/// An error says something, and that less was found than needed where it says so.
fn failed(error: ParseError) {
    assert!(!error.to_string().is_empty());
    if let ParseError::Truncated { needed, found, .. } | ParseError::Overrun { needed, found, .. } = error {
        assert!(found < needed, "{error}");
    }
}

fn read_ethernet(bytes: &[u8]) {
    match EthernetFrame::new(bytes) {
        Ok(frame) => {
            shown(&frame);
            assert!(frame.l3_offset() >= 14 && frame.l3_offset() <= 30);
            assert_eq!(frame.header_bytes(), &bytes[..frame.l3_offset()]);
            assert!(frame.l3_offset() + frame.payload().len() <= bytes.len());
            if let Some(repr) = frame.repr() {
                // 802.1H becomes RFC 1042 SNAP; a tag's type after two tags is the payload's type.
                let mut out = vec![0; repr.header_len()];
                assert_eq!(repr.emit(&mut out, frame.payload().len()), Ok(frame.l3_offset()));
                if matches!(frame.kind(), EthernetKind::Type(_)) {
                    assert_eq!(out, frame.header_bytes());
                }
            }
        }
        Err(error) => failed(error),
    }
}

fn read_ip(bytes: &[u8]) {
    let parsed = ParsedIp::parse(bytes);
    match parsed {
        Ok(parsed) => check_parsed(&parsed, bytes),
        Err(error) => failed(error),
    }
    match ParsedIp::parse_whole(bytes) {
        Ok(parsed) => {
            assert_eq!((parsed.total_len(), parsed.padding_len()), (bytes.len(), 0));
            check_parsed(&parsed, bytes);
        }
        Err(error) => failed(error),
    }
    match Ipv4Packet::new(bytes) {
        Ok(packet) => {
            shown(&packet);
            let parsed = parsed.unwrap();
            assert_eq!((parsed.src(), parsed.dst()), (packet.src().into(), packet.dst().into()));
            assert_eq!((parsed.header_len(), parsed.total_len(), parsed.protocol()), (packet.header_len(), packet.total_len(), packet.protocol()));
            assert_eq!(parsed.payload(bytes), packet.payload());
            assert_eq!(parsed.fragment() != FragmentState::None, packet.is_fragment());
            assert!(packet.options().count() <= packet.options_area().len());
            for error in packet.options().filter_map(Result::err) {
                failed(error);
            }
            let mut out = [0; 60];
            let emitted = packet.repr().emit_with_options(&mut out, packet.options_area()).unwrap();
            // All of the header comes back but the reserved flag and the checksum.
            assert_eq!((&out[..6], &out[8..10], &out[12..emitted]), (&bytes[..6], &bytes[8..10], &bytes[12..emitted]));
        }
        Err(error) => {
            failed(error);
            assert!(bytes.first().is_none_or(|first| first >> 4 != 4) || parsed == Err(error));
        }
    }
    match Ipv6Packet::new(bytes) {
        Ok(packet) => {
            shown(&packet);
            let mut out = [0; 40];
            packet.repr().emit(&mut out).unwrap();
            assert_eq!(out, bytes[..40]);
            check_extensions(&packet, parsed);
        }
        Err(error) => {
            failed(error);
            assert!(bytes.first().is_none_or(|first| first >> 4 != 6) || parsed == Err(error));
        }
    }
    for packet in [Ipv4Packet::new_cut(bytes).map(|packet| packet.payload().len()), Ipv6Packet::new_cut(bytes).map(|packet| packet.payload().len())] {
        assert!(packet.is_ok_and(|len| len <= bytes.len()) || packet.is_err());
    }
}

fn check_parsed(parsed: &ParsedIp, bytes: &[u8]) {
    assert_eq!(parsed.total_len() + parsed.padding_len(), bytes.len());
    assert_eq!(parsed.header_len() + parsed.payload_len(), parsed.total_len());
    assert_eq!((parsed.payload(bytes).len(), parsed.packet(bytes).len()), (parsed.payload_len(), parsed.total_len()));
    assert!(parsed.header_len() >= parsed.version().header_len());
    assert_eq!(bytes[parsed.protocol_offset()], parsed.protocol().0);
    let point = parsed.insertion_point();
    assert_eq!(bytes[point.pointer], point.protocol.0);
    assert!(point.pointer < point.offset && point.offset <= parsed.header_len());
    assert_eq!(parsed.has_options_or_extensions(), parsed.header_len() != parsed.version().header_len());
    // Other data than what was read gives less, not a panic.
    assert_eq!(parsed.payload(&[]), []);
    assert_eq!(parsed.packet(&[7]), [7]);
}

fn check_extensions(packet: &Ipv6Packet<&[u8]>, parsed: Result<ParsedIp, ParseError>) {
    let mut at = 40;
    for header in packet.extension_headers() {
        assert_eq!(header.offset, at);
        at += header.len;
        assert!(at <= packet.total_len());
    }
    let end = packet.extension_headers().end();
    match (parsed, end) {
        (Ok(parsed), Ipv6ChainEnd::LaterFragment { offset, fragment }) if parsed.fragment() == FragmentState::Later => {
            assert_eq!((parsed.header_len(), parsed.protocol()), (offset, fragment.next_header));
        }
        // The walker also goes through AH, mobility and HIP.
        (Ok(parsed), _) if parsed.protocol().is_ipv6_extension() => assert!(!matches!(parsed.protocol(), IpProtocol::HOP_BY_HOP | IpProtocol::ROUTING)),
        (Ok(parsed), Ipv6ChainEnd::Upper { protocol, pointer, offset }) => {
            assert_eq!((parsed.protocol(), parsed.protocol_offset(), parsed.header_len()), (protocol, pointer, offset));
        }
        (Ok(parsed), Ipv6ChainEnd::NoNextHeader { offset }) => assert_eq!((parsed.protocol(), parsed.header_len()), (IpProtocol::NO_NEXT_HEADER, offset)),
        (Ok(parsed), end) => panic!("{parsed:?}, but the walker: {end:?}"),
        (Err(ParseError::Jumbogram), _) => assert_eq!(packet.payload_len(), 0),
        (Err(error), end) => assert_eq!(end, Ipv6ChainEnd::Malformed(error)),
    }
}

fn read_upper(bytes: &[u8]) {
    match TcpPacket::new(bytes) {
        Ok(packet) => {
            shown(&packet);
            assert_eq!(packet.header_len() + packet.payload().len(), bytes.len());
            assert!(packet.options().count() <= 40);
        }
        Err(error) => failed(error),
    }
    match UdpPacket::new(bytes) {
        Ok(packet) => {
            shown(&packet);
            assert_eq!(8 + packet.payload().len(), packet.total_len());
        }
        Err(error) => failed(error),
    }
    match IcmpPacket::new(bytes) {
        Ok(packet) => {
            shown(&packet);
            for version in [IpVersion::V4, IpVersion::V6] {
                assert!(packet.mtu(version).is_none() || packet.is_error(version));
            }
            assert_eq!(packet.payload(), &bytes[8..]);
        }
        Err(error) => failed(error),
    }
    match EspPacket::new(bytes) {
        Ok(packet) => {
            shown(&packet);
            assert_eq!(packet.body(), &bytes[8..]);
        }
        Err(error) => failed(error),
    }
    match AhPacket::new(bytes) {
        Ok(packet) => {
            shown(&packet);
            assert_eq!(12 + packet.icv_field().len() + packet.payload().len(), bytes.len());
        }
        Err(error) => failed(error),
    }
    match EspTrailer::parse(bytes) {
        Ok((trailer, payload_len)) => assert_eq!(payload_len + trailer.len(), bytes.len()),
        Err(error) => failed(error),
    }
    match UdpEncapsulated::parse(bytes) {
        Ok(UdpEncapsulated::Esp(packet)) => assert_ne!(packet.spi(), Spi(0)),
        Ok(UdpEncapsulated::Ike(message)) => assert_eq!(message.len() + 4, bytes.len()),
        Ok(UdpEncapsulated::Keepalive) => assert_eq!(bytes, [0xff]),
        Err(error) => failed(error),
    }
    assert!(Ipv6Options::new(bytes).count() <= bytes.len());
}

/// Good packets of many kinds, as bytes of an IP packet.
fn good_packets() -> Vec<Vec<u8>> {
    let mut tcp = vec![0xab; 52];
    let repr = TcpRepr { src_port: 443, dst_port: 1024, sequence: 1, acknowledgment: 2, flags: TcpFlags::ACK | TcpFlags::PSH, window: 500, urgent: 0 };
    repr.emit(&mut tcp, &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]).unwrap();
    let esp = |len: usize| {
        let mut bytes = vec![0xcd; len];
        EspRepr { spi: Spi(0x1001), sequence: 7 }.emit(&mut bytes).unwrap();
        bytes
    };
    let udp = |payload: &[u8]| {
        let mut bytes = vec![0; 8];
        UdpRepr { src_port: 4500, dst_port: 4500, payload_len: payload.len() }.emit(&mut bytes).unwrap();
        bytes.extend_from_slice(payload);
        bytes
    };
    let mut ah = vec![0; 24];
    AhRepr { next_header: IpProtocol::ESP, icv_field_len: 12, spi: Spi(0x2002), sequence: 9 }.emit(&mut ah).unwrap();
    ah.extend(esp(40));
    let mut icmp = vec![0; 36];
    IcmpRepr::too_big(IpVersion::V4, 1400).emit(&mut icmp).unwrap();
    let v4 = |protocol, options: &[u8], payload: &[u8]| {
        let mut bytes = vec![0; 20 + options.len()];
        Ipv4Repr::new(protocol, [10, 0, 1, 1].into(), [10, 0, 2, 1].into(), payload.len()).emit_with_options(&mut bytes, options).unwrap();
        bytes.extend_from_slice(payload);
        bytes
    };
    let v6 = |protocol, payload: &[u8]| {
        let mut bytes = vec![0; 40];
        Ipv6Repr::new(protocol, "2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap(), payload.len()).emit(&mut bytes).unwrap();
        bytes.extend_from_slice(payload);
        bytes
    };
    let mut fragment = vec![0; 8];
    Ipv6Fragment { next_header: IpProtocol::UDP, offset: 0, more: true, identification: 3 }.emit(&mut fragment).unwrap();
    fragment.extend(udp(&esp(32)));
    // Hop-by-hop, destination options, routing, atomic fragment, destination options, AH, ESP.
    let mut chain = vec![
        60, 0, 5, 2, 0, 0, 1, 0, 43, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 44, 0, 4, 0, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 1, 51, 0, 0, 0, 0, 0, 0, 0,
    ];
    chain.extend(&ah);
    let packets = vec![
        v4(IpProtocol::TCP, &[], &tcp),
        v4(IpProtocol::TCP, &[7, 7, 4, 0, 0, 0, 0, 0], &tcp),
        v4(IpProtocol::ESP, &[], &esp(60)),
        v4(IpProtocol::AH, &[], &ah),
        v4(IpProtocol::UDP, &[], &udp(&esp(60))),
        v4(IpProtocol::UDP, &[], &udp(&[0xff])),
        v4(IpProtocol::ICMP, &[], &icmp),
        v4(IpProtocol::IPV6, &[], &v6(IpProtocol::TCP, &tcp)),
        v6(IpProtocol::TCP, &tcp),
        v6(IpProtocol::ESP, &esp(48)),
        v6(IpProtocol::FRAGMENT, &fragment),
        v6(IpProtocol::HOP_BY_HOP, &chain),
        v6(IpProtocol::IPV4, &v4(IpProtocol::UDP, &[], &udp(&[0, 0, 0, 0, 1, 2, 3, 4]))),
    ];
    for packet in &packets {
        assert!(ParsedIp::parse(packet).is_ok(), "{:?}", pretty::ip(packet));
    }
    packets
}

/// The same in Ethernet: plain, with two tags, and with LLC and SNAP.
fn good_frames() -> Vec<Vec<u8>> {
    let tag = |tpid, tci| Some(VlanTag { tpid, tci });
    let mut frames = Vec::new();
    for packet in good_packets() {
        let version = ParsedIp::parse(&packet).unwrap().version();
        let plain = EthernetRepr::new(MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2]), version.into());
        let tagged = EthernetRepr { tags: [tag(EtherType::SERVICE_VLAN, 7), tag(EtherType::VLAN, 8)], ..plain };
        for repr in [plain, tagged, EthernetRepr { snap: true, ..plain }] {
            let mut frame = vec![0; repr.header_len()];
            repr.emit(&mut frame, packet.len()).unwrap();
            frame.extend(&packet);
            assert_eq!(EthernetFrame::new(&frame).unwrap().payload(), packet);
            frames.push(frame);
        }
    }
    frames
}

#[test]
fn every_truncation_of_good_packets() {
    for bytes in good_packets().into_iter().chain(good_frames()) {
        for len in 0..=bytes.len() {
            read_all(&bytes[..len]);
        }
    }
    for packet in good_packets() {
        for len in 0..packet.len() {
            assert!(ParsedIp::parse(&packet[..len]).unwrap_err().is_truncated());
        }
        // With link padding it is the same packet.
        let padded = [&packet[..], &[0; 9]].concat();
        let (plain, padded) = (ParsedIp::parse(&packet).unwrap(), ParsedIp::parse(&padded).unwrap());
        assert_eq!((plain.payload_len(), plain.upper(), padded.padding_len()), (padded.payload_len(), padded.upper(), 9));
    }
}

#[test]
fn every_value_of_every_header_byte() {
    for packet in good_packets() {
        for at in 0..packet.len().min(72) {
            let mut changed = packet.clone();
            for value in 0..=255 {
                changed[at] = value;
                read_ip(&changed);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..200), first in prop::sample::select(vec![None, Some(0x45), Some(0x46), Some(0x60)])) {
        read_all(&bytes);
        // The same with a first byte and lengths that let more of it be read.
        if let (Some(first), true) = (first, bytes.len() >= 20) {
            bytes[0] = first;
            let len = bytes.len();
            if first == 0x60 {
                bytes[4..6].copy_from_slice(&(len.saturating_sub(40) as u16).to_be_bytes());
                bytes[6] = [0, 43, 44, 60, 140][usize::from(bytes[6]) % 5];
            } else {
                bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            }
            read_all(&bytes);
        }
    }

    #[test]
    fn changed_packets(
        bytes in prop::sample::select(good_packets().into_iter().chain(good_frames()).collect::<Vec<_>>()),
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..6), cut: prop::sample::Index, more in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut bytes = bytes;
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        read_all(&bytes);
        bytes.truncate(cut.index(bytes.len() + 1));
        bytes.extend(more);
        read_all(&bytes);
    }

    /// A setter can make lengths lie; what is read then is less, and nothing panics.
    #[test]
    fn setters_of_lengths(bytes in prop::sample::select(good_packets()), len: u16, other: u16) {
        let mut copy = bytes.clone();
        if let Ok(mut packet) = Ipv4Packet::new(&mut copy) {
            packet.set_total_len(len);
            packet.set_fragment(false, true, other);
            prop_assert!(packet.payload().len() <= bytes.len());
            prop_assert_eq!(packet.payload().len(), packet.payload_mut().len());
            shown(&packet);
        }
        if let Ok(mut packet) = Ipv6Packet::new(&mut copy) {
            packet.set_payload_len(len);
            packet.set_next_header(IpProtocol(other as u8));
            prop_assert_eq!(packet.payload().len(), packet.payload_mut().len());
            prop_assert!(packet.extension_headers().count() <= 16);
            shown(&packet);
        }
        read_all(&copy);
    }
}
