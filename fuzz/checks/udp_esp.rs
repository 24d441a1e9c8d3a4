//! What must hold of any payloads of UDP datagrams that come in on the port of UDP-ESP (RFC 3948, OV2-RECV-7): what they are taken for, and that NIC and
//! software, which are those of [`crate::inbound`], make the same of them.
//!
//! Shared by the fuzz target and by the test that replays its seeds and crashes.
//!
//! Input: datagrams: a byte of choices (ICVs are made to fit, an IPv6 packet, another port, another length in the UDP header, a checksum), the length of the
//! payload (1 byte), the payload.

use packet::{EmitError, IpAddress, IpProtocol, Ipv4Repr, Ipv6Repr, NAT_KEEPALIVE, NON_ESP_MARKER, UDP_ESP_PORT, UDP_HEADER_LEN, UdpEncapsulated, UdpRepr};

/// A choice each.
const FITTING: u8 = 1;
const IPV6: u8 = 1 << 1;
const OTHER_PORT: u8 = 1 << 2;
const OTHER_LENGTH: u8 = 1 << 3;
const CHECKSUM: u8 = 1 << 4;

/// Takes `data` for datagrams that come in one after the other.
pub(crate) fn check(mut data: &[u8]) {
    // Packets without link headers, all of which are passed that no SA is about.
    let mut frames = vec![2];
    while let Some((&[choices, length], rest)) = data.split_first_chunk() {
        let (payload, rest) = rest.split_at(usize::from(length).min(rest.len()));
        data = rest;
        kind(payload);
        let packet = datagram(choices, payload).expect("it has room");
        frames.push(choices & FITTING);
        frames.extend((packet.len() as u16).to_be_bytes());
        frames.extend(packet);
    }
    crate::inbound::check(&frames);
}

/// A payload is one of three kinds, or nothing.
fn kind(payload: &[u8]) {
    let (ike, keepalive) = (payload.starts_with(&NON_ESP_MARKER), payload == [NAT_KEEPALIVE]);
    match UdpEncapsulated::parse(payload) {
        Ok(UdpEncapsulated::Ike(message)) => assert!(ike && message.len() == payload.len() - NON_ESP_MARKER.len()),
        Ok(UdpEncapsulated::Keepalive) => assert!(keepalive),
        Ok(UdpEncapsulated::Esp(esp)) => assert!(!ike && !keepalive && esp.spi().0 != 0 && esp.into_inner() == payload),
        Err(_) => assert!(!ike && !keepalive && payload.len() < 8),
    }
}

/// A packet with the payload in UDP, to one of the ends of the tunnels there are.
fn datagram(choices: u8, payload: &[u8]) -> Result<Vec<u8>, EmitError> {
    let length = UDP_HEADER_LEN + payload.len();
    let mut packet = vec![0; 40 + length];
    let (ends, at): ([IpAddress; 2], usize) = if choices & IPV6 == 0 {
        let repr = Ipv4Repr::new(IpProtocol::UDP, [192, 0, 2, 1].into(), [192, 0, 2, 2].into(), length);
        ([repr.src.into(), repr.dst.into()], repr.emit(&mut packet)?)
    } else {
        let [source, destination] = [1, 2].map(|host| core::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host));
        let repr = Ipv6Repr::new(IpProtocol::UDP, source, destination, length);
        ([repr.src.into(), repr.dst.into()], repr.emit(&mut packet)?)
    };
    packet.truncate(at + length);
    let udp = &mut packet[at..];
    let dst_port = if choices & OTHER_PORT == 0 { UDP_ESP_PORT } else { UDP_ESP_PORT + 1 };
    UdpRepr { src_port: 40_000, dst_port, payload_len: payload.len() }.emit(udp)?;
    udp[UDP_HEADER_LEN..].copy_from_slice(payload);
    if choices & CHECKSUM != 0 {
        // Of a datagram without one it is 0, and nobody looks at it.
        let _ = packet::checksum::fill_segment(ends[0], ends[1], IpProtocol::UDP, udp);
    }
    if choices & OTHER_LENGTH != 0 {
        udp[5] ^= 1;
    }
    Ok(packet)
}
