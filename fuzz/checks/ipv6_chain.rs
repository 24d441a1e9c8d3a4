//! What must hold of any chain of IPv6 extension headers, beyond that nothing panics: those who walk it agree, and AH can be put in and taken out.
//!
//! Shared by the fuzz target and by the test that replays its seeds and crashes.
//!
//! Input: the fixed header's next header, then all that follows the fixed header.

use ipsec::insecure::Toy;
use ipsec::{AhParameters, AhSa, Authentication};
use packet::{AhRepr, FragmentState, IpProtocol, Ipv6ChainEnd, Ipv6Packet, Ipv6Repr, ParsedIp, Spi};
use secret::SecretBytes;

/// Takes `data` for a chain.
pub(crate) fn check(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let repr = Ipv6Repr::new(IpProtocol(first), [0x20; 16].into(), [0x21; 16].into(), rest.len());
    let mut bytes = vec![0; 40 + rest.len()];
    if rest.is_empty() || repr.emit(&mut bytes).is_err() {
        return;
    }
    bytes[40..].copy_from_slice(rest);
    let packet = Ipv6Packet::new(bytes.as_slice()).expect("its length was just written");
    match ParsedIp::parse(&bytes) {
        Err(error) => assert_eq!(packet.extension_headers().end(), Ipv6ChainEnd::Malformed(error)),
        Ok(parsed) => {
            agree(&packet, &parsed);
            if !parsed.fragment().is_part() {
                protect(&bytes, &parsed);
            }
        }
    }
}

/// What a policy selects by is no extension header to one walker, and one to the other.
fn is_upper(protocol: IpProtocol) -> bool {
    matches!(protocol, IpProtocol::AH | IpProtocol::MOBILITY | IpProtocol::HIP)
}

fn agree(packet: &Ipv6Packet<&[u8]>, parsed: &ParsedIp) {
    let (mut protocol, mut offset, mut pointer, mut fragment) = (packet.next_header(), 40, 6, FragmentState::None);
    let mut insertion = (offset, pointer);
    for header in packet.extension_headers().take_while(|header| !is_upper(header.protocol)) {
        assert_eq!((header.protocol, header.offset, header.pointer), (protocol, offset, pointer));
        (protocol, pointer, offset) = (header.next_header, header.offset, header.offset + header.len);
        if header.protocol != IpProtocol::DESTINATION_OPTIONS {
            insertion = (offset, pointer);
        }
        if let Some(found) = header.fragment {
            fragment = fragment.max(match (found.offset, found.more) {
                (0, false) => FragmentState::Atomic,
                (0, true) => FragmentState::First,
                _ => FragmentState::Later,
            });
        }
    }
    assert_eq!((parsed.protocol(), parsed.header_len(), parsed.protocol_offset(), parsed.fragment()), (protocol, offset, pointer, fragment));
    let found = parsed.insertion_point();
    assert_eq!((found.offset, found.pointer), insertion);
}

/// Puts an AH in where it belongs, seals, opens, and takes it out.
fn protect(clear: &[u8], parsed: &ParsedIp) {
    let authentication = Authentication::HmacSha1;
    let key = SecretBytes::from(vec![7; authentication.key_length()]);
    let sa = AhSa::new(&Toy, &AhParameters { authentication, key: &key, extended_sequence_numbers: false, iv_mask: 0 }).expect("the key has its length");
    let point = parsed.insertion_point();
    let mut header = [0; 24];
    let repr = AhRepr { next_header: point.protocol, icv_field_len: 12, spi: Spi(0x1001), sequence: 1 };
    assert_eq!(repr.emit(&mut header), Ok(sa.header_length(8)));
    let mut packet = [&clear[..point.offset], &header, &clear[point.offset..]].concat();
    packet[point.pointer] = IpProtocol::AH.0;
    let Ok(length) = u16::try_from(packet.len() - 40) else { return };
    packet[4..6].copy_from_slice(&length.to_be_bytes());

    let again = ParsedIp::parse(&packet).expect("it could be read before");
    assert_eq!((again.header_len(), again.protocol(), again.protocol_offset()), (point.offset, IpProtocol::AH, point.pointer));
    let before = packet.clone();
    if sa.seal_packet(&Toy, &mut packet, point.offset, 1).is_err() {
        // Options, routing headers or kinds of headers that AH cannot predict.
        assert!(packet == before && again.has_options_or_extensions());
        return;
    }
    assert!(sa.open_packet(&Toy, &packet, point.offset, 1));
    packet[7] ^= 0xff;
    assert!(sa.open_packet(&Toy, &packet, point.offset, 1));
    // Another next header is another packet.
    packet[point.pointer] ^= 1;
    assert!(!sa.open_packet(&Toy, &packet, point.offset, 1));
}
