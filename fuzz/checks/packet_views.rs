//! What must hold of the packet views for any bytes, beyond that nothing panics.
//!
//! Shared by the fuzz target and by the test that replays its seeds and crashes.

use packet::checksum::{ChecksumVerdict, fill_segment, verify_segment};
use packet::{
    AhPacket, EspPacket, EspTrailer, EthernetFrame, FragmentState, IcmpPacket, IpProtocol, IpVersion, Ipv4Packet, Ipv6ChainEnd, Ipv6Packet,
    MAX_EXTENSION_HEADERS, ParsedIp, TcpPacket, UDP_ESP_PORT, UdpEncapsulated, UdpPacket, pretty,
};

/// How deep packets inside packets are followed.
const MAX_DEPTH: u8 = 4;

/// Takes `data` for everything that the crate can read.
pub(crate) fn check(data: &[u8]) {
    for text in [pretty::ip(data).to_string(), pretty::ethernet(data).to_string()] {
        assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
    }
    ethernet(data);
    ip(data, 0);
    upper(data);
    cut(data);
    trailer(data);
}

fn ethernet(data: &[u8]) {
    let Ok(frame) = EthernetFrame::new(data) else { return };
    let _ = format!("{frame:?}");
    assert_eq!(frame.header_bytes(), &data[..frame.l3_offset()]);
    assert!(data[frame.l3_offset()..].starts_with(frame.payload()));
    let mut copy = data.to_vec();
    let mut changed = EthernetFrame::new(&mut copy).expect("the same bytes");
    assert_eq!(changed.payload_mut().len(), frame.payload().len());
    if let Some(repr) = frame.repr() {
        let payload = frame.payload();
        let mut again = vec![0; repr.header_len() + payload.len()];
        // Only a SNAP frame has a length, and that one was in the frame.
        let at = repr.emit(&mut again, payload.len()).expect("it came from a frame");
        again[at..].copy_from_slice(payload);
        let again = EthernetFrame::new(&again).expect("it was just written");
        assert_eq!((again.repr(), again.payload()), (Some(repr), payload));
        assert!(changed.set_ethertype(repr.ethertype));
        assert_eq!(copy, data);
    }
    ip(frame.payload(), 0);
}

fn ip(data: &[u8], depth: u8) {
    let parsed = ParsedIp::parse(data);
    match data.first().map(|byte| byte >> 4) {
        Some(4) => assert_eq!(parsed.is_ok(), Ipv4Packet::new(data).is_ok()),
        // Views do not look at extension headers.
        Some(6) => assert!(parsed.is_err() || Ipv6Packet::new(data).is_ok()),
        _ => assert!(parsed.is_err()),
    }
    if let Ok(whole) = ParsedIp::parse_whole(data) {
        bounds(&whole, data);
        assert_eq!((whole.total_len(), whole.padding_len()), (data.len(), 0));
    }
    let Ok(parsed) = parsed else { return };
    bounds(&parsed, data);
    match parsed.version() {
        IpVersion::V4 => ipv4(&parsed, data),
        IpVersion::V6 => ipv6(&parsed, data),
    }
    if parsed.fragment().is_part() {
        return;
    }
    let payload = parsed.payload(data);
    segment(&parsed, payload);
    upper(payload);
    if depth < MAX_DEPTH && matches!(parsed.protocol(), IpProtocol::IPV4 | IpProtocol::IPV6) {
        ip(payload, depth + 1);
    }
}

fn bounds(parsed: &ParsedIp, data: &[u8]) {
    assert_eq!(parsed.total_len() + parsed.padding_len(), data.len());
    assert!(parsed.header_len() >= parsed.version().header_len());
    assert_eq!(parsed.header_len() + parsed.payload_len(), parsed.total_len());
    assert_eq!(parsed.packet(data), &data[..parsed.total_len()]);
    assert_eq!(parsed.payload(data), &data[parsed.header_len()..parsed.total_len()]);
    assert_eq!(data[parsed.protocol_offset()], parsed.protocol().0);
    let insertion = parsed.insertion_point();
    assert!(insertion.offset <= parsed.header_len() && insertion.pointer < insertion.offset);
    assert_eq!(data[insertion.pointer], insertion.protocol.0);
    if parsed.fragment() == FragmentState::Later {
        assert!(parsed.ports().is_none() && parsed.icmp().is_none());
    }
}

fn ipv4(parsed: &ParsedIp, data: &[u8]) {
    let packet = Ipv4Packet::new(data).expect("it was parsed");
    assert_eq!((packet.header_len(), packet.total_len(), packet.payload()), (parsed.header_len(), parsed.total_len(), parsed.payload(data)));
    assert_eq!((parsed.src(), parsed.dst(), parsed.protocol()), (packet.src().into(), packet.dst().into(), packet.protocol()));
    assert_eq!((packet.is_fragment(), packet.is_fragment()), (parsed.fragment() != FragmentState::None, parsed.fragment().is_part()));
    options(packet.options().map(|option| option.map(|option| (option.offset, option.data.len()))), packet.options_area().len());

    let repr = packet.repr();
    let mut again = vec![0; packet.total_len()];
    let at = repr.emit_with_options(&mut again, packet.options_area()).expect("it came from a packet");
    again[at..].copy_from_slice(packet.payload());
    let mut view = Ipv4Packet::new(&mut again).expect("it was just written");
    assert!(view.verify_checksum());
    assert_eq!((view.repr(), view.options_area(), view.payload()), (repr, packet.options_area(), packet.payload()));
    assert_eq!(view.payload_mut(), packet.payload());
    view.set_ttl(repr.ttl.wrapping_add(1));
    assert!(!view.verify_checksum());
    view.fill_checksum();
    assert!(view.verify_checksum());
}

fn ipv6(parsed: &ParsedIp, data: &[u8]) {
    let packet = Ipv6Packet::new(data).expect("it was parsed");
    assert_eq!(packet.total_len(), parsed.total_len());
    assert_eq!((parsed.src(), parsed.dst()), (packet.src().into(), packet.dst().into()));
    let repr = packet.repr();
    let mut again = vec![0; packet.total_len()];
    let at = repr.emit(&mut again).expect("it came from a packet");
    again[at..].copy_from_slice(packet.payload());
    assert_eq!(again, parsed.packet(data));
    extensions(&packet);
}

fn extensions(packet: &Ipv6Packet<&[u8]>) {
    let bytes = packet.into_inner();
    let mut offset = 40;
    let mut count = 0;
    for header in packet.extension_headers() {
        assert_eq!((header.offset, bytes[header.pointer]), (offset, header.protocol.0));
        offset += header.len;
        count += 1;
        if let Some(area) = header.options(bytes) {
            options(area.map(|option| option.map(|option| (option.offset, option.data.len()))), header.len);
        }
        if let Some(fragment) = header.fragment {
            let mut again = [0; 8];
            fragment.emit(&mut again).expect("it came from a packet");
            // All but the reserved bits.
            let mut stood = [0; 8];
            stood.copy_from_slice(&bytes[header.offset..offset]);
            stood[1] = 0;
            stood[3] &= 0xf9;
            assert_eq!(again, stood);
        }
    }
    assert!(count <= MAX_EXTENSION_HEADERS && offset <= packet.total_len().min(bytes.len()));
    match packet.extension_headers().end() {
        Ipv6ChainEnd::Upper { offset: end, .. } | Ipv6ChainEnd::NoNextHeader { offset: end } | Ipv6ChainEnd::LaterFragment { offset: end, .. } => {
            assert_eq!(end, offset);
        }
        Ipv6ChainEnd::Malformed(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Options go forward, stay in their area and end after an error.
fn options<E: std::fmt::Display>(all: impl Iterator<Item = Result<(usize, usize), E>>, area: usize) {
    let mut next = 0;
    let mut failed = false;
    for option in all {
        assert!(!failed);
        match option {
            Ok((offset, len)) => {
                assert!(offset >= next);
                next = offset + 1 + len;
                assert!(next <= area);
            }
            Err(error) => failed = !error.to_string().is_empty(),
        }
    }
}

/// Checksums: what is filled in verifies.
fn segment(parsed: &ParsedIp, payload: &[u8]) {
    let mut copy = payload.to_vec();
    let (src, dst, protocol) = (parsed.src(), parsed.dst(), parsed.protocol());
    let before = verify_segment(src, dst, protocol, payload);
    match fill_segment(src, dst, protocol, &mut copy) {
        Ok(true) => assert_eq!(verify_segment(src, dst, protocol, &copy), Ok(Some(ChecksumVerdict::Good))),
        Ok(false) => assert_eq!((before, copy.as_slice()), (Ok(None), payload)),
        Err(error) => assert_eq!((before, copy.as_slice()), (Err(error), payload)),
    }
}

/// Takes `data` for each protocol above IP.
fn upper(data: &[u8]) {
    if let Ok(tcp) = TcpPacket::new(data) {
        let at = tcp.header_len();
        assert_eq!(tcp.payload(), &data[at..]);
        options(tcp.options().map(|option| option.map(|option| (option.offset, option.data.len()))), at - 20);
        let mut again = data.to_vec();
        assert_eq!(tcp.repr().emit(&mut again, &data[20..at]), Ok(at));
        assert_eq!(TcpPacket::new(&again).expect("it was just written").repr(), tcp.repr());
    }
    if let Ok(udp) = UdpPacket::new(data) {
        assert!(udp.payload().len() + 8 <= data.len());
        let mut again = data.to_vec();
        assert_eq!(udp.repr().emit(&mut again), Ok(8));
        let again = UdpPacket::new(&again).expect("it was just written");
        assert_eq!((again.repr(), again.payload()), (udp.repr(), udp.payload()));
        if udp.dst_port() == UDP_ESP_PORT {
            encapsulated(udp.payload());
        }
    }
    if let Ok(icmp) = IcmpPacket::new(data) {
        assert_eq!(icmp.payload(), &data[8..]);
        for version in [IpVersion::V4, IpVersion::V6] {
            assert!(icmp.mtu(version).is_none() || icmp.is_error(version));
        }
        let mut again = data.to_vec();
        assert_eq!(icmp.repr().emit(&mut again), Ok(8));
        assert_eq!(IcmpPacket::new(&again).expect("it was just written").repr(), icmp.repr());
    }
    if let Ok(ah) = AhPacket::new(data) {
        assert_eq!(12 + ah.icv_field().len() + ah.payload().len(), data.len());
        let mut again = data.to_vec();
        assert_eq!(ah.repr().emit(&mut again), Ok(ah.header_len()));
        assert_eq!(AhPacket::new(&again).expect("it was just written").repr(), ah.repr());
    }
    esp(data);
    encapsulated(data);
}

fn esp(data: &[u8]) {
    let Ok(esp) = EspPacket::new(data) else {
        assert!(data.len() < 8);
        return;
    };
    assert_eq!(esp.body(), &data[8..]);
    let mut again = data.to_vec();
    assert_eq!(esp.repr().emit(&mut again), Ok(8));
    assert_eq!(again, data);
}

fn encapsulated(payload: &[u8]) {
    match UdpEncapsulated::parse(payload) {
        Ok(UdpEncapsulated::Esp(esp)) => assert!(esp.spi().0 != 0 && esp.into_inner() == payload),
        Ok(UdpEncapsulated::Ike(message)) => assert_eq!(message.len() + 4, payload.len()),
        Ok(UdpEncapsulated::Keepalive) => assert_eq!(payload, [0xff]),
        Err(error) => assert!(payload.len() < 8, "{error}"),
    }
}

/// Views that take packets cut after the header (quoted in ICMP errors).
fn cut(data: &[u8]) {
    if let Ok(packet) = Ipv4Packet::new_cut(data) {
        let _ = format!("{packet:?} {}", packet.verify_checksum());
        assert!(packet.header_len() + packet.payload().len() <= data.len());
    }
    if let Ok(packet) = Ipv6Packet::new_cut(data) {
        let _ = format!("{packet:?}");
        assert!(40 + packet.payload().len() <= data.len());
        extensions(&packet);
    }
}

fn trailer(plaintext: &[u8]) {
    let Ok((trailer, payload_len)) = EspTrailer::parse(plaintext) else { return };
    assert_eq!(payload_len + trailer.len(), plaintext.len());
    let mut again = plaintext.to_vec();
    assert_eq!(trailer.emit(&mut again[payload_len..]), Ok(trailer.len()));
    assert_eq!(EspTrailer::parse(&again), Ok((trailer, payload_len)));
    for block in [4, 8, 16] {
        let least = EspTrailer::for_payload(payload_len, block, trailer.next_header);
        assert!((payload_len + least.len()).is_multiple_of(block) && usize::from(least.pad_len) < block);
    }
}
