//! Packets written out byte by byte, and what one pass makes of them.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::{Ipv4Repr, Ipv6ChainEnd, Ipv6Fragment, Ipv6Packet, Ipv6Repr};

/// A TCP acknowledgment with timestamps, 52 bytes, as a Linux host sends it.
const TCP_ACK: [u8; 52] = [
    0x45, 0x00, 0x00, 0x34, 0x1c, 0x46, 0x40, 0x00, 0x40, 0x06, 0x07, 0x7c, 0x0a, 0x00, 0x01, 0x01, 0x0a, 0x00, 0x02, 0x01, // IPv4
    0x01, 0xbb, 0x04, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x20, 0x00, 0x80, 0x10, 0x01, 0xf5, 0x00, 0x00, 0x00, 0x00, // TCP
    0x01, 0x01, 0x08, 0x0a, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x02, // its options
];

fn v4(protocol: IpProtocol, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 20 + options.len()];
    let repr = Ipv4Repr::new(protocol, Ipv4Addr::new(10, 0, 1, 1), Ipv4Addr::new(10, 0, 2, 1), payload.len());
    repr.emit_with_options(&mut bytes, options).unwrap();
    bytes.extend_from_slice(payload);
    bytes
}

/// An IPv6 packet with extension headers, each given by its type and bytes after the next header field, which is put in here.
fn v6(headers: &[(IpProtocol, &[u8])], last: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let mut chain = Vec::new();
    for (index, (_, body)) in headers.iter().enumerate() {
        chain.push(headers.get(index + 1).map_or(last, |header| header.0).0);
        chain.extend_from_slice(body);
    }
    let first = headers.first().map_or(last, |header| header.0);
    let mut bytes = vec![0; 40];
    Ipv6Repr::new(first, Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, chain.len() + payload.len()).emit(&mut bytes).unwrap();
    bytes.extend(chain);
    bytes.extend_from_slice(payload);
    bytes
}

const SHORT: &[u8] = &[0, 1, 4, 0, 0, 0, 0]; // 8 bytes in all, one PadN
const LONG: &[u8] = &[1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]; // 16
const ATOMIC: &[u8] = &[0, 0, 0, 0, 0, 0, 1];
const FIRST: &[u8] = &[0, 0, 1, 0, 0, 0, 1];
const LATER: &[u8] = &[0, 0x05, 0xa8, 0, 0, 0, 1];

const HBH: IpProtocol = IpProtocol::HOP_BY_HOP;
const RT: IpProtocol = IpProtocol::ROUTING;
const FRAG: IpProtocol = IpProtocol::FRAGMENT;
const DST: IpProtocol = IpProtocol::DESTINATION_OPTIONS;

#[test]
fn a_plain_ipv4_packet() {
    let parsed = ParsedIp::parse(&TCP_ACK).unwrap();
    assert_eq!((parsed.version(), parsed.header_len(), parsed.total_len(), parsed.padding_len()), (IpVersion::V4, 20, 52, 0));
    assert_eq!((parsed.src(), parsed.dst()), (IpAddress::v4([10, 0, 1, 1]), IpAddress::v4([10, 0, 2, 1])));
    assert_eq!((parsed.protocol(), parsed.protocol_offset(), parsed.payload_len()), (IpProtocol::TCP, 9, 32));
    assert_eq!(parsed.insertion_point(), InsertionPoint { offset: 20, pointer: 9, protocol: IpProtocol::TCP });
    assert_eq!((parsed.fragment(), parsed.has_options_or_extensions()), (FragmentState::None, false));
    assert_eq!((parsed.ports(), parsed.icmp()), (Some((443, 1024)), None));
    let padded = [&TCP_ACK[..], &[0xee; 7]].concat();
    let with_padding = ParsedIp::parse(&padded).unwrap();
    assert_eq!((with_padding.total_len(), with_padding.padding_len()), (52, 7));
    assert_eq!(with_padding.packet(&padded), TCP_ACK);
    assert_eq!(with_padding.payload(&padded), &TCP_ACK[20..]);
    assert_eq!(ParsedIp::parse_whole(&padded).unwrap().total_len(), 59);
}

#[test]
fn every_truncation_of_an_ipv4_packet() {
    assert_eq!(ParsedIp::parse(&[]), Err(ParseError::Truncated { layer: Layer::Ip, needed: 20, found: 0 }));
    for len in 1..52 {
        let needed = if len < 20 { 20 } else { 52 };
        assert_eq!(ParsedIp::parse(&TCP_ACK[..len]), Err(ParseError::Truncated { layer: Layer::Ipv4, needed, found: len as u32 }));
    }
    // Cut, but with a total length that fits: only what is not there is not read.
    for len in 20..52u16 {
        let mut bytes = TCP_ACK[..usize::from(len)].to_vec();
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        let parsed = ParsedIp::parse(&bytes).unwrap();
        assert_eq!(parsed.ports(), (len >= 24).then_some((443, 1024)), "{len}");
    }
}

#[test]
fn ipv4_headers_that_cannot_be() {
    for first in 0..=255u8 {
        let mut bytes = v4(IpProtocol::UDP, &[1; 40], &[0; 8]);
        bytes[0] = first;
        let expected = match (first >> 4, u32::from(first & 0xf) * 4) {
            (4, found @ ..20) => Some(ParseError::LengthTooSmall { layer: Layer::Ipv4, min: 20, found }),
            (4 | 6, _) => None,
            (found, _) => Some(ParseError::Version { expected: 0, found }),
        };
        if first >> 4 != 6 {
            assert_eq!(ParsedIp::parse(&bytes).err(), expected, "{first:#x}");
        }
    }
    let mut bytes = v4(IpProtocol::UDP, &[1; 4], &[0; 8]);
    for total in 0..24u8 {
        bytes[3] = total;
        assert_eq!(ParsedIp::parse(&bytes), Err(ParseError::LengthTooSmall { layer: Layer::Ipv4, min: 24, found: u32::from(total) }));
    }
    // A large send leaves the length 0.
    bytes[2..4].copy_from_slice(&[0, 0]);
    assert_eq!(ParsedIp::parse_whole(&bytes).map(|parsed| (parsed.total_len(), parsed.ports())), Ok((32, Some((0, 0)))));
    assert_eq!(ParsedIp::parse_whole(&bytes[..23]), Err(ParseError::LengthTooSmall { layer: Layer::Ipv4, min: 24, found: 23 }));
}

#[test]
fn ipv4_options_and_fragments() {
    let bytes = v4(IpProtocol::ICMP, &[148, 4, 0, 0], &[3, 1, 0, 0]);
    let parsed = ParsedIp::parse(&bytes).unwrap();
    assert!(parsed.has_options_or_extensions());
    assert_eq!((parsed.header_len(), parsed.icmp()), (24, Some((3, 1))));
    assert_eq!(parsed.insertion_point(), InsertionPoint { offset: 24, pointer: 9, protocol: IpProtocol::ICMP });

    for (field, fragment) in [
        (0x0000u16, FragmentState::None),
        (0x4000, FragmentState::None),
        (0x8000, FragmentState::None),
        (0x2000, FragmentState::First),
        (0x2001, FragmentState::Later),
        (0x0001, FragmentState::Later),
        (0x1fff, FragmentState::Later),
    ] {
        let mut bytes = v4(IpProtocol::UDP, &[], &[0, 1, 0, 2, 0, 8, 0, 0]);
        bytes[6..8].copy_from_slice(&field.to_be_bytes());
        let parsed = ParsedIp::parse(&bytes).unwrap();
        assert_eq!((parsed.fragment(), parsed.protocol()), (fragment, IpProtocol::UDP));
        assert_eq!(parsed.ports(), (fragment != FragmentState::Later).then_some((1, 2)));
        assert_eq!(fragment.is_part(), field & 0x3fff != 0);
    }
}

#[test]
fn a_plain_ipv6_packet() {
    let bytes = v6(&[], IpProtocol::ICMPV6, &[128, 0, 0, 0, 0, 1, 0, 2]);
    let parsed = ParsedIp::parse(&bytes).unwrap();
    assert_eq!((parsed.version(), parsed.header_len(), parsed.total_len()), (IpVersion::V6, 40, 48));
    assert_eq!((parsed.protocol(), parsed.protocol_offset(), parsed.icmp()), (IpProtocol::ICMPV6, 6, Some((128, 0))));
    assert_eq!(parsed.insertion_point(), InsertionPoint { offset: 40, pointer: 6, protocol: IpProtocol::ICMPV6 });
    assert_eq!((parsed.fragment(), parsed.has_options_or_extensions()), (FragmentState::None, false));
    assert_eq!(parsed.src(), Ipv6Addr::LOCALHOST.into());
    for len in 1..48 {
        let needed = if len < 40 { 40 } else { 48 };
        assert_eq!(ParsedIp::parse(&bytes[..len]), Err(ParseError::Truncated { layer: Layer::Ipv6, needed, found: len as u32 }));
    }
    assert_eq!(ParsedIp::parse(&[&bytes[..], &[0; 3]].concat()).unwrap().padding_len(), 3);
    // A payload length of 0 with an upper protocol is an empty packet, with a hop-by-hop header a jumbogram.
    let empty = v6(&[], IpProtocol::NO_NEXT_HEADER, &[]);
    assert_eq!(ParsedIp::parse(&empty).unwrap().payload_len(), 0);
    let mut jumbo = v6(&[(HBH, &[0, 0xc2, 4, 0, 1, 0, 0])], IpProtocol::UDP, &[0; 8]);
    jumbo[4..6].fill(0);
    assert_eq!(ParsedIp::parse(&jumbo), Err(ParseError::Jumbogram));
    assert_eq!(ParsedIp::parse_whole(&jumbo).unwrap().protocol(), IpProtocol::UDP);
}

/// RFC 4303 section 3.1.1, figure for IPv6: ESP goes behind hop-by-hop, destination options before routing, routing and fragment headers, and in front of
/// the other destination options.
#[test]
fn where_ipsec_goes_in_ipv6() {
    let udp = [0x11, 0x94, 0x11, 0x94, 0, 8, 0, 0];
    for (headers, header_len, protocol_offset, (offset, pointer, protocol)) in [
        (&[][..], 40, 6, (40, 6, IpProtocol::UDP)),
        (&[(HBH, SHORT)], 48, 40, (48, 40, IpProtocol::UDP)),
        (&[(DST, SHORT)], 48, 40, (40, 6, DST)),
        (&[(HBH, LONG), (DST, SHORT)], 64, 56, (56, 40, DST)),
        (&[(DST, SHORT), (RT, LONG)], 64, 48, (64, 48, IpProtocol::UDP)),
        (&[(HBH, SHORT), (DST, SHORT), (RT, LONG), (FRAG, ATOMIC), (DST, LONG)], 96, 80, (80, 72, DST)),
        (&[(FRAG, ATOMIC)], 48, 40, (48, 40, IpProtocol::UDP)),
        (&[(DST, SHORT), (FRAG, FIRST), (DST, SHORT), (DST, SHORT)], 72, 64, (56, 48, DST)),
        (&[(IpProtocol::SHIM6, SHORT), (DST, SHORT)], 56, 48, (48, 40, DST)),
    ] {
        let bytes = v6(headers, IpProtocol::UDP, &udp);
        let parsed = ParsedIp::parse(&bytes).unwrap();
        assert_eq!((parsed.header_len(), parsed.protocol_offset(), parsed.protocol()), (header_len, protocol_offset, IpProtocol::UDP), "{headers:?}");
        assert_eq!(parsed.insertion_point(), InsertionPoint { offset, pointer, protocol }, "{headers:?}");
        assert_eq!(bytes[pointer], protocol.0);
        assert_eq!(bytes[protocol_offset], IpProtocol::UDP.0);
        assert_eq!(parsed.has_options_or_extensions(), !headers.is_empty());
        assert_eq!(parsed.ports(), Some((4500, 4500)));
        // A packet whose length ends inside the chain is malformed, not cut.
        for len in 40..header_len {
            let mut cut = bytes[..len].to_vec();
            cut[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
            let error = ParsedIp::parse(&cut).unwrap_err();
            assert!(!error.is_truncated(), "{headers:?} {len} {error}");
        }
    }
}

#[test]
fn stops_at_ipsec_and_next_layers() {
    let ah = [6, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let bytes = v6(&[(HBH, SHORT)], IpProtocol::AH, &ah);
    let parsed = ParsedIp::parse(&bytes).unwrap();
    assert_eq!((parsed.protocol(), parsed.header_len(), parsed.upper()), (IpProtocol::AH, 48, UpperLayer::Opaque));
    let mobility = v6(&[], IpProtocol::MOBILITY, &[59, 0, 5, 0, 0, 0, 0, 0]);
    assert_eq!(ParsedIp::parse(&mobility).unwrap().upper(), UpperLayer::Mobility { kind: 5 });
    for protocol in [IpProtocol::ESP, IpProtocol::HIP, IpProtocol::NO_NEXT_HEADER, IpProtocol::IPV6, IpProtocol(253)] {
        let parsed = ParsedIp::parse(&v6(&[(DST, LONG)], protocol, &[0; 8])).unwrap();
        assert_eq!((parsed.protocol(), parsed.header_len(), parsed.upper()), (protocol, 56, UpperLayer::Opaque));
    }
}

#[test]
fn ipv6_fragments() {
    for (body, fragment) in [(ATOMIC, FragmentState::Atomic), (FIRST, FragmentState::First), (LATER, FragmentState::Later)] {
        // What follows would be a destination options header that runs far out of the packet.
        let bytes = v6(&[(FRAG, body)], DST, &[17, 255, 0, 0, 0, 0, 0, 0]);
        match ParsedIp::parse(&bytes) {
            Ok(parsed) => {
                assert_eq!((parsed.fragment(), fragment), (FragmentState::Later, FragmentState::Later));
                assert_eq!((parsed.protocol(), parsed.header_len()), (DST, 48));
                assert_eq!(parsed.insertion_point().offset, 48);
            }
            Err(error) => {
                assert_ne!(fragment, FragmentState::Later);
                assert_eq!(error, ParseError::Overrun { layer: Layer::Ipv6Extension, needed: 2048, found: 8 });
            }
        }
        let bytes = v6(&[(FRAG, body)], IpProtocol::TCP, &[0, 1, 0, 2]);
        let parsed = ParsedIp::parse(&bytes).unwrap();
        assert_eq!((parsed.fragment(), parsed.ports()), (fragment, (fragment != FragmentState::Later).then_some((1, 2))));
        // An atomic header outside another does not hide what the inner one says.
        let nested = v6(&[(FRAG, ATOMIC), (FRAG, body)], IpProtocol::TCP, &[0; 4]);
        assert_eq!(ParsedIp::parse(&nested).unwrap().fragment(), fragment);
    }
}

#[test]
fn chains_that_cannot_be() {
    let bytes = v6(&[(RT, SHORT), (HBH, SHORT)], IpProtocol::UDP, &[0; 8]);
    assert_eq!(ParsedIp::parse(&bytes), Err(ParseError::HopByHopNotFirst { offset: 48 }));
    for count in [16, 17, 200] {
        let bytes = v6(&vec![(DST, SHORT); count], IpProtocol::UDP, &[0, 1, 0, 2]);
        let parsed = ParsedIp::parse(&bytes);
        if count == 16 {
            assert_eq!(parsed.map(|parsed| (parsed.header_len(), parsed.ports())), Ok((168, Some((1, 2)))));
        } else {
            assert_eq!(parsed, Err(ParseError::TooManyExtensionHeaders { limit: 16 }));
        }
    }
    let mut body = vec![255];
    body.resize(2047, 0);
    let longest = v6(&[(DST, &body[..]); 16], IpProtocol::UDP, &[0, 1, 0, 2]);
    assert_eq!(ParsedIp::parse(&longest).unwrap().header_len(), 40 + 16 * 2048);
}

/// The walker and the one pass agree, up to where AH, mobility and HIP are headers to one and the end to the other.
#[test]
fn agrees_with_the_walker() {
    let bytes = v6(&[(HBH, SHORT), (RT, LONG), (FRAG, FIRST), (DST, LONG)], IpProtocol::ESP, &[0; 16]);
    let parsed = ParsedIp::parse(&bytes).unwrap();
    let headers = Ipv6Packet::new(&bytes).unwrap();
    assert_eq!(headers.extension_headers().count(), 4);
    assert_eq!(
        headers.extension_headers().end(),
        Ipv6ChainEnd::Upper { protocol: parsed.protocol(), pointer: parsed.protocol_offset(), offset: parsed.header_len() }
    );
    let fragment = headers.extension_headers().find_map(|header| header.fragment);
    assert_eq!(fragment, Some(Ipv6Fragment { next_header: DST, offset: 0, more: true, identification: 1 }));
}
