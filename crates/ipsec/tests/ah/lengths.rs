//! Lengths, options and extension headers that cannot be, and those that only look so.

use ipsec::{AhError, AhParameters, AhSa, Authentication, Crypto, KeyError, SaError};
use packet::{IpProtocol, Layer, ParseError};
use secret::SecretBytes;

use crate::builder::{DESTINATION, FRAGMENT, HOP_BY_HOP, Packet, Piece, ROUTING, address, atomic, covered, ipv4, ipv6, option, options, routing, source_route};

/// Whether it can be sealed; that it then opens, and that it is left alone if not, is checked.
fn seal(bytes: &[u8], ah: usize) -> Result<(), AhError> {
    let crypto = Crypto::default();
    let sa = crate::sa(crypto, Authentication::HmacSha1, false);
    let mut masked = vec![1, 2, 3];
    let prepared = sa.prepare_open(bytes, ah, 1, &mut masked).map(|_| ());
    let mut sealed = bytes.to_vec();
    let result = sa.seal_packet(&crypto, &mut sealed, ah, 1);
    assert_eq!(result, prepared);
    assert_eq!(sa.open_packet(&crypto, &sealed, ah, 1), result.is_ok());
    if result.is_err() {
        assert_eq!(sealed, bytes);
        assert_eq!(masked, [1, 2, 3]);
    } else {
        assert_eq!(masked[..3], [1, 2, 3]);
    }
    result
}

fn seal_packet(packet: &Packet) -> Result<(), AhError> {
    seal(&packet.piece.bytes, packet.ah)
}

/// RFC 4302 section 2.2, RFC 4868 section 2.3, RFC 4543 section 4 with erratum 3643.
#[test]
fn lengths_of_the_algorithms() {
    for (algorithm, field, ipv4, ipv6) in [
        ("hmac-md5-96", 12, 24, 24),
        ("hmac-sha1-96", 12, 24, 24),
        ("hmac-sha-256-128", 16, 28, 32),
        ("hmac-sha-384-192", 24, 36, 40),
        ("hmac-sha-512-256", 32, 44, 48),
        ("aes-gmac-128", 24, 36, 40),
        ("aes-gmac-192", 24, 36, 40),
        ("aes-gmac-256", 24, 36, 40),
    ] {
        let algorithm: Authentication = algorithm.parse().unwrap();
        for extended in [false, true] {
            let sa = crate::sa(Crypto::default(), algorithm, extended);
            assert_eq!((sa.authentication(), sa.esn()), (algorithm, extended));
            assert_eq!((sa.icv_field_length(), sa.header_length(4), sa.header_length(8)), (field, ipv4, ipv6), "{algorithm}");
        }
    }
}

/// the AH's length byte.
#[test]
fn r_20_only_the_length_of_the_algorithm_is_accepted() {
    let crypto = Crypto::default();
    for algorithm in crate::algorithms() {
        let sa = crate::sa(crypto, algorithm, false);
        for payload_length in 0..=255_u8 {
            let length = 8 + 4 * usize::from(payload_length);
            let right = length == sa.header_length(4) || length == sa.header_length(8);
            assert_eq!(sa.accepts_header_length(length), right, "{algorithm}: {length}");
            // Long enough for any of them.
            let mut packet = ipv4(&[], false, 48, 1, &[0; 1100]).piece.bytes;
            packet[21] = payload_length;
            let result = sa.seal_packet(&crypto, &mut packet, 20, 1);
            match payload_length {
                0 => assert_eq!(result, Err(ParseError::LengthTooSmall { layer: Layer::Ah, min: 12, found: 8 }.into())),
                _ if right => assert_eq!(result, Ok(())),
                _ => assert_eq!(result, Err(AhError::HeaderLength { expected: sa.header_length(4), found: length })),
            }
            assert_eq!(sa.open_packet(&crypto, &packet, 20, 1), right);
        }
    }
}

/// HMAC-SHA-256 cut to 96 bits, as `ip xfrm` without a truncation makes it, is not HMAC-SHA-256-128, however right its first 12 bytes are.
#[test]
fn r_20_wrong_truncation_fails() {
    let crypto = Crypto::default();
    let sa = crate::sa(crypto, Authentication::HmacSha256, false);
    let short = ipv4(&[], false, 24, 1, b"payload").piece.bytes;
    let mut sealed = short.clone();
    assert_eq!(sa.seal_packet(&crypto, &mut sealed, 20, 1), Err(AhError::HeaderLength { expected: 28, found: 24 }));
    assert_eq!(sealed, short);

    // The right length, and only the last bytes of the ICV are missing.
    let mut packet = ipv4(&[], false, 28, 1, b"payload").piece.bytes;
    sa.seal_packet(&crypto, &mut packet, 20, 1).unwrap();
    packet[20 + 12 + 12..20 + 28].fill(0);
    assert!(!sa.open_packet(&crypto, &packet, 20, 1));
}

/// Padding is between the ends, and covered as it stands (RFC 4302 section 3.3.3.2.1).
#[test]
fn padding_may_be_anything_and_is_covered() {
    let crypto = Crypto::default();
    let sa = crate::sa(crypto, Authentication::HmacSha256, false);
    let mut packet = ipv4(&[], false, 32, 1, b"payload").piece.bytes;
    for padding in [[0, 0, 0, 0], [1, 2, 3, 4], [0xff; 4]] {
        packet[48..52].copy_from_slice(&padding);
        sa.seal_packet(&crypto, &mut packet, 20, 1).unwrap();
        assert_eq!(packet[48..52], padding);
        assert!(sa.open_packet(&crypto, &packet, 20, 1));
        packet[51] ^= 1;
        assert!(!sa.open_packet(&crypto, &packet, 20, 1));
    }
}

#[test]
fn sequence_numbers_are_the_headers() {
    let crypto = Crypto::default();
    let packet = ipv4(&[], false, 24, 0x8000_0001, b"payload").piece.bytes;
    for (extended, sequence, good) in [
        (false, 0x8000_0001, true),
        (false, 0x8000_0002, false),
        (false, 0x1_8000_0001, false),
        (true, 0x8000_0001, true),
        (true, 0xffff_ffff_8000_0001, true),
        (true, 0xffff_ffff_8000_0000, false),
    ] {
        let sa = crate::sa(crypto, Authentication::HmacMd5, extended);
        let mut sealed = packet.clone();
        let expected = if good { Ok(()) } else { Err(AhError::Sequence { header: 0x8000_0001, given: sequence }) };
        assert_eq!(sa.seal_packet(&crypto, &mut sealed, 20, sequence), expected);
        assert_eq!(sealed == packet, !good);
    }
}

#[test]
fn keys_have_exactly_their_length() {
    for crypto in Crypto::with_paths() {
        for authentication in crate::algorithms() {
            for found in [0, 4, authentication.key_length() - 4, authentication.key_length() - 1, authentication.key_length() + 1, 100] {
                let key = SecretBytes::from(vec![0; found]);
                let parameters = AhParameters { authentication, key: &key, extended_sequence_numbers: false, iv_mask: 0 };
                let expected = authentication.key_length();
                assert_eq!(AhSa::new(&crypto, &parameters).unwrap_err(), SaError::AuthenticationKeyLength { algorithm: authentication, expected, found });
            }
        }
        let none = AhParameters { authentication: Authentication::None, key: &SecretBytes::default(), extended_sequence_numbers: false, iv_mask: 0 };
        assert_eq!(AhSa::new(&crypto, &none).unwrap_err(), SaError::Provider(KeyError::NoAuthentication));
    }
}

#[test]
fn the_packet_ends_where_its_header_says() {
    for Packet { piece, ah } in [ipv4(&[], false, 24, 1, b"payload"), ipv6(&[], 24, 1, b"payload")] {
        let whole = piece.bytes;
        assert_eq!(seal(&whole, ah), Ok(()));
        for length in 0..whole.len() {
            assert!(seal(&whole[..length], ah).is_err(), "{length}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert_eq!(seal(&longer, ah), Err(AhError::PacketLength { expected: whole.len(), found: whole.len() + 1 }));
        for offset in [0, 1, 19, 21, 24, 39, 41, 44, 1000, usize::MAX - 3, usize::MAX] {
            if offset != ah {
                assert!(seal(&whole, offset).is_err(), "{offset}");
            }
        }
    }
    assert_eq!(seal(&[], 0), Err(AhError::NotThere { offset: 0 }));
    assert_eq!(seal(&[0x50; 60], 20), Err(AhError::NotThere { offset: 20 }));
}

/// The headers must lead to the AH.
#[test]
fn the_header_before_says_51() {
    for Packet { piece, ah } in [ipv4(&[], false, 24, 1, b""), ipv6(&[], 24, 1, b""), ipv6(&[options(DESTINATION, &[])], 24, 1, b"")] {
        let pointer = match (piece.bytes[0] >> 4, ah) {
            (4, _) => 9,
            (_, 40) => 6,
            _ => 40,
        };
        assert_eq!(piece.bytes[pointer], 51);
        for protocol in (0..=255).filter(|&protocol| protocol != 51) {
            let mut bytes = piece.bytes.clone();
            bytes[pointer] = protocol;
            assert_eq!(seal(&bytes, ah), Err(AhError::NotThere { offset: ah }), "{protocol}");
        }
    }
}

#[test]
fn fragments_are_none_of_ahs_business() {
    let whole = ipv4(&[], false, 24, 1, b"payload").piece.bytes;
    for (field, good) in [(0x0000, true), (0x4000, true), (0x8000, true), (0x2000, false), (0x0001, false), (0x1fff, false), (0x6000, false)] {
        let mut bytes = whole.clone();
        bytes[6..8].copy_from_slice(&u16::to_be_bytes(field));
        assert_eq!(seal(&bytes, 20), if good { Ok(()) } else { Err(AhError::Fragment) }, "{field:#06x}");
    }
    let Packet { piece, ah } = ipv6(&[atomic()], 24, 1, b"payload");
    for (field, good) in [(0x0000, true), (0x0006, true), (0x0001, false), (0x0008, false), (0xfff8, false), (0xfff9, false)] {
        let mut bytes = piece.bytes.clone();
        bytes[42..44].copy_from_slice(&u16::to_be_bytes(field));
        let result = seal(&bytes, ah);
        // Behind a later fragment's header no AH can be seen.
        assert_eq!(result.is_ok(), good, "{field:#06x}: {result:?}");
    }
}

/// every option type with every length, at every place in the area.
#[test]
fn r_21_every_ipv4_option_shape() {
    for kind in 2..=255_u8 {
        for length in 0..=255_u8 {
            for before in [0, 1, 37, 38, 39] {
                // No operations, then the option, then ends of list.
                let mut area = vec![0; 40];
                area[..before].fill(1);
                area[before] = kind;
                if let Some(byte) = area.get_mut(before + 1) {
                    *byte = length;
                }
                if let Some(pointer) = area.get_mut(before + 2).filter(|_| length > 2) {
                    *pointer = 200;
                }
                let result = seal_packet(&ipv4(&[Piece::fixed(&area)], false, 24, 1, b""));
                let fits = before < 39 && length >= 2 && before + usize::from(length) <= 40;
                // A source route has a pointer, and this one says that it is used up.
                let route_without_pointer = matches!(kind, 131 | 137) && length == 2;
                assert_eq!(result.is_ok(), fits && !route_without_pointer, "{kind} of {length} bytes at {before}: {result:?}");
            }
        }
    }
}

/// source routes with every pointer and length.
#[test]
fn r_21_every_source_route_shape() {
    for kind in [131, 137] {
        for length in 0..=37 {
            for pointer in 0..=255_u8 {
                let route = covered(kind, &[&[pointer][..], &vec![9; length]].concat());
                let used_up = pointer >= 4 && usize::from(pointer) - 4 >= length;
                let at_an_address = pointer >= 4 && pointer.is_multiple_of(4) && length.is_multiple_of(4);
                let expected = if used_up || at_an_address { Ok(()) } else { Err(AhError::Option { kind, length: 3 + length }) };
                assert_eq!(seal_packet(&ipv4(&[route], false, 24, 1, b"")), expected, "length {length}, pointer {pointer}");
            }
        }
    }
}

/// every IPv6 option type with every length, in both headers that have options.
#[test]
fn r_21_every_ipv6_option_shape() {
    for header in [HOP_BY_HOP, DESTINATION] {
        for kind in 1..=255_u8 {
            for length in (0..=40).chain([127, 128, 254, 255]) {
                for before in [0, 1, 36, 37] {
                    // One-byte padding around the option, in 38 bytes.
                    let mut area = vec![0; 38];
                    area[before] = kind;
                    if let Some(byte) = area.get_mut(before + 1) {
                        *byte = length;
                    }
                    let result = seal_packet(&ipv6(&[options(header, &[Piece::fixed(&area)])], 24, 1, b""));
                    let fits = before < 37 && before + 2 + usize::from(length) <= 38;
                    let home_address = header == DESTINATION && kind == 0xc9 && length != 16;
                    assert_eq!(result.is_ok(), fits && !home_address, "{header}: {kind} of {length} bytes at {before}: {result:?}");
                }
            }
        }
    }
}

/// every next header in front of AH, with every length byte.
#[test]
fn r_21_every_extension_header_shape() {
    for kind in 0..=255_u8 {
        for length in 0..=255_u8 {
            let mut packet = ipv6(&[options(DESTINATION, &[Piece::fixed(&[0; 14])]), options(DESTINATION, &[Piece::fixed(&[0; 6])])], 24, 1, &[0; 2200]);
            let bytes = &mut packet.piece.bytes;
            bytes[6] = kind;
            bytes[41] = length;
            let result = seal_packet(&packet);
            match (kind, length) {
                // As it was; a routing header of type 0 with no segments left.
                (HOP_BY_HOP | DESTINATION | ROUTING, 1) => assert_eq!(result, Ok(())),
                // Another length; headers that RFC 4302 does not know, and AH itself.
                (HOP_BY_HOP | DESTINATION | ROUTING | FRAGMENT | 51 | 135 | 139 | 140, _) => assert!(result.is_err(), "{kind} {length}"),
                _ => assert_eq!(result, Err(AhError::NotThere { offset: 64 }), "{kind} {length}"),
            }
        }
    }
    for protocol in [IpProtocol::MOBILITY, IpProtocol::HIP, IpProtocol::SHIM6] {
        let mut packet = ipv6(&[options(DESTINATION, &[])], 24, 1, b"");
        packet.piece.bytes[6] = protocol.0;
        assert_eq!(seal_packet(&packet), Err(AhError::ExtensionHeader { protocol }));
    }
}

/// routing headers of every type, with every length and number of segments left.
#[test]
fn r_21_every_routing_header_shape() {
    for kind in 0..=255 {
        for count in 0..=4_usize {
            for left in 0..=255_u8 {
                let addresses: Vec<_> = (0..count as u8).map(|at| address(10 + at)).collect();
                let packet = ipv6(&[routing(kind, left, &addresses)], 24, 1, b"");
                let possible = match (kind, left) {
                    (_, 0) => true,
                    (0, left) => usize::from(left) <= count,
                    (2, left) => left == 1 && count == 1,
                    _ => false,
                };
                let expected = if possible { Ok(()) } else { Err(AhError::Routing { kind, length: 8 + 16 * count, segments_left: left }) };
                assert_eq!(seal_packet(&packet), expected, "type {kind}, {count} addresses, {left} left");
            }
        }
    }
    // Half an address, and one and a half.
    for area in [8, 24] {
        let mut packet = ipv6(&[options(DESTINATION, &[Piece::fixed(&vec![0; 6 + area])])], 24, 1, b"");
        packet.piece.bytes[6] = ROUTING;
        packet.piece.bytes[43] = 1;
        assert_eq!(seal_packet(&packet), Err(AhError::Routing { kind: 0, length: 8 + area, segments_left: 1 }));
    }
}

/// as much as a packet can hold, one byte an option: the work is that of one pass. A seventeenth header is one too many.
#[test]
fn r_21_the_longest_chain() {
    let full = options(DESTINATION, &vec![Piece::fixed(&[0]); 2046]);
    let chain = |headers| ipv6(&vec![full.clone(); headers], 24, 1, b"");
    assert_eq!(seal_packet(&chain(16)), Ok(()));
    assert_eq!(seal_packet(&chain(17)), Err(ParseError::TooManyExtensionHeaders { limit: 16 }.into()));
    // Options that change, of no length each, and of all lengths.
    let empty = options(HOP_BY_HOP, &vec![option(0x20, &[]); 1023]);
    let growing: Vec<_> = (0..60).map(|length| option(0x3f, &vec![1; length])).collect();
    assert_eq!(seal_packet(&ipv6(&[empty, options(DESTINATION, &growing)], 24, 1, b"")), Ok(()));
}

/// Both ends of a source route agree, whatever stands in the header on the way.
#[test]
fn source_routes_end_at_their_last_address() {
    let crypto = Crypto::default();
    let sa = crate::sa(crypto, Authentication::HmacSha1, false);
    let route = [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]];
    let mut sent = ipv4(&[source_route(131, 0, &route)], true, 24, 1, b"x").piece.bytes;
    let ah = sent.len() - 25;
    sent[16..20].copy_from_slice(&[10, 9, 9, 9]);
    sa.seal_packet(&crypto, &mut sent, ah, 1).unwrap();
    // Arrived: the pointer is past the end, the destination is the last address, the routers' own addresses are in the route.
    let mut arrived = sent.clone();
    arrived[16..20].copy_from_slice(&route[2]);
    arrived[22] = 16;
    arrived[23..35].fill(0x99);
    assert!(sa.open_packet(&crypto, &arrived, ah, 1));
    arrived[19] ^= 1;
    assert!(!sa.open_packet(&crypto, &arrived, ah, 1));
}
