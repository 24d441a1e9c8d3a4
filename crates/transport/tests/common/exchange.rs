//! Packets from one host to another, under bundles.

use ndis::Direction;
use packet::{IpProtocol, ParsedIp};
use transport::Mode;

use super::bundle::{Bundle, GCM, Headers};
use super::{A, B, Host, Received, address, inner, ip};

pub const A6: &str = "2001:db8::1";
pub const B6: &str = "2001:db8::2";
/// Who does the cryptography: the sender's NIC, the receiver's NIC.
pub const WAYS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

pub fn inner6(number: u32) -> Vec<u8> {
    let (source, destination) = (address("2001:db8:1::1"), address("2001:db8:2::1"));
    let mut segment = inner(number)[20..].to_vec();
    // Over IPv6 there must be a checksum.
    packet::checksum::fill_segment(source, destination, IpProtocol::UDP, &mut segment).unwrap();
    ip(source, destination, IpProtocol::UDP, &segment)
}

pub fn packets(v6: bool, count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|number| if v6 { inner6(number) } else { inner(number) }).collect()
}

/// Sends `packets` under `bundles` (tunnels first) and takes what is on the wire in again.
pub fn exchange(bundles: &[Bundle], packets: &[Vec<u8>], (seals, opens): (bool, bool)) -> (Host, Host, Vec<Vec<u8>>, Received) {
    let (mut host, mut peer) = (Host::full(seals), Host::full(opens));
    // AH and null encryption show what they carry.
    host.plain = bundles.iter().all(|bundle| bundle.esp.is_none_or(|half| half.encryption != GCM));
    host.put_all(bundles);
    let inward: Vec<_> = bundles.iter().map(|bundle| bundle.toward(Direction::Inbound)).collect();
    peer.put_all(&inward);
    let wire = host.send(packets);
    let received = peer.receive(&wire);
    (host, peer, wire, received)
}

/// The transport bundle of packets, inside a tunnel.
pub fn nested(outer: Headers, within: Headers, v6_outer: bool, v6: bool) -> [Bundle; 2] {
    let (source, destination) = if v6_outer { (A6, B6) } else { (A, B) };
    let tunnel = Bundle::of(Direction::Outbound, Mode::Tunnel, outer, 0x1001).between(source, destination);
    let parsed = ParsedIp::parse(&packets(v6, 1)[0]).unwrap();
    let bundle = Bundle::of(Direction::Outbound, Mode::Transport, within, 0x2001).between(&parsed.src().to_string(), &parsed.dst().to_string()).within(&tunnel);
    [tunnel, bundle]
}
