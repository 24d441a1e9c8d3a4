//! ESP in UDP: ports, IKE and keepalives, NATs.

mod common;

use common::bundle::{Bundle, Headers, gcm};
use common::exchange::{A6, B6};
use common::{A, B, Host, address, inner, ip};
use ndis::Direction;
use packet::{IpProtocol, ParsedIp};
use transport::{Action, Mode};

const IN: Direction = Direction::Inbound;

fn port(packet: &mut [u8], source: u16) {
    packet[20..22].copy_from_slice(&source.to_be_bytes());
}

#[test]
fn udp_encapsulated_esp_comes_from_any_port_and_ike_goes_by() {
    let bundle = Bundle::of(IN, Mode::Tunnel, Headers::UdpEsp, 0x1001);
    for offload in [false, true] {
        let mut host = Host::full(offload);
        host.put(&bundle);
        let mut natted = bundle.protect(&inner(1), 1, 0);
        port(&mut natted, 61_234);
        // A checksum that a NAT has made up is nobody's business.
        natted[26..28].copy_from_slice(&[0x12, 0x34]);
        let datagram = |payload: &[u8]| {
            let mut udp = [4500_u16.to_be_bytes(), 4500_u16.to_be_bytes(), (payload.len() as u16 + 8).to_be_bytes(), [0; 2]].concat();
            udp.extend(payload);
            ip(address(A), address(B), IpProtocol::UDP, &udp)
        };
        let (ike, keepalive) = (datagram(&[0, 0, 0, 0, 1, 2, 3, 4, 5]), datagram(&[0xff]));
        let unknown = datagram(&[9; 40]);
        let received = host.receive(&[natted, ike.clone(), keepalive.clone(), unknown.clone()]);
        assert_eq!(received.words(), ["delivered", "passed", "passed", "policy"], "offload {offload}");
        assert_eq!((received.delivered, received.passed), (vec![inner(1)], vec![ike.clone(), keepalive.clone()]));
        host.transport.set_policies(|spd| spd.ike = Action::Discard);
        assert_eq!(host.receive(&[ike, keepalive]).words(), ["policy"; 2]);
        // Bare under an SA in UDP, and the reverse.
        let bare = Bundle { udp: None, ..bundle.clone() };
        let wrong = Bundle { esp: Some(gcm(0x7001)), ..bundle.clone() };
        host.put(&Bundle { udp: None, ..wrong.clone() });
        let received = host.receive(&[bare.protect(&inner(1), 2, 0), wrong.protect(&inner(1), 1, 0)]);
        assert_eq!(received.words(), ["invalid-protocol"; 2], "offload {offload}");
        // A length that a router could have changed does not say where ESP ends.
        let mut cut = bundle.protect(&inner(2), 3, 0);
        cut[25] -= 4;
        assert_eq!(host.receive(&[cut]).words(), ["malformed"], "offload {offload}");
    }
}

#[test]
fn udp_encapsulation_on_another_port_is_found_there() {
    let bundle = Bundle { udp: Some(12_345), ..Bundle::of(IN, Mode::Tunnel, Headers::UdpEsp, 0x1001) };
    let mut host = Host::full(false);
    let handle = host.put(&bundle);
    assert_eq!(host.receive(&[bundle.protect(&inner(1), 1, 0)]).words(), ["delivered"]);
    host.transport.remove_sa(handle);
    host.transport.set_policies(|spd| {
        spd.policies_mut().clear();
        spd.default_inbound = Action::Bypass;
    });
    assert_eq!(host.receive(&[bundle.protect(&inner(1), 2, 0)]).words(), ["passed"], "the port is an ordinary one again");
}

#[test]
fn esp_in_udp_comes_to_the_port_of_its_sa() {
    for offload in [false, true] {
        let mut host = Host::full(offload);
        let usual = Bundle::of(IN, Mode::Tunnel, Headers::UdpEsp, 0x1001);
        let other = Bundle { udp: Some(4501), ..Bundle::of(IN, Mode::Tunnel, Headers::UdpEsp, 0x2001) };
        host.put(&usual);
        host.put(&other);
        let on = |bundle: &Bundle, port: u16, number| Bundle { udp: Some(port), ..bundle.clone() }.protect(&inner(1), number, 0);
        let wire = [on(&usual, 4501, 1), on(&other, 4500, 1), on(&usual, 4500, 1), on(&other, 4501, 1)];
        let received = host.receive(&wire);
        assert_eq!(received.words(), ["invalid-protocol", "invalid-protocol", "delivered", "delivered"], "offload {offload}");
        let seen: Vec<_> = received.verdicts.iter().map(|verdict| verdict.associations[0].spi.0).collect();
        assert_eq!(seen, [0x1001, 0x2001, 0x1001, 0x2001]);
    }
}

#[test]
fn checksums_fit_again_after_a_nat_and_no_checksum_stays_none() {
    for v6 in [false, true] {
        let (source, destination, natted) = if v6 { (A6, B6, "2001:db8::9") } else { (A, B, "192.0.2.9") };
        let bundle = Bundle::of(IN, Mode::Transport, Headers::UdpEsp, 0x1001).between(natted, destination);
        for offload in [false, true] {
            let mut host = Host::full(offload);
            host.put(&bundle);
            for (number, (protocol, length, none)) in
                [(IpProtocol::TCP, 32, false), (IpProtocol::UDP, 20, false), (IpProtocol::UDP, 20, true), (IpProtocol::ICMP, 16, false)].into_iter().enumerate()
            {
                let mut segment = vec![0x5a; length];
                if protocol == IpProtocol::UDP {
                    segment[4..6].copy_from_slice(&(length as u16).to_be_bytes());
                }
                let (source, destination) = (address(source), address(destination));
                packet::checksum::fill_segment(source, destination, protocol, &mut segment).unwrap();
                if none {
                    segment[6..8].fill(0);
                }
                // As sealed by a host that knows itself by another address than the one it comes from.
                let wire = bundle.protect_payload(address(natted), destination, &segment, protocol.0, number as u64 + 1, 0);
                let received = host.receive(&[wire]);
                assert_eq!(received.words(), ["delivered"], "{protocol:?} offload {offload}");
                let packet = &received.delivered[0];
                let parsed = ParsedIp::parse(packet).unwrap();
                let verdict = packet::checksum::verify_segment(parsed.src(), parsed.dst(), protocol, parsed.payload(packet)).unwrap();
                let expected = match (none, v6) {
                    (true, false) => packet::checksum::ChecksumVerdict::Absent,
                    _ => packet::checksum::ChecksumVerdict::Good,
                };
                assert_eq!(verdict, Some(expected), "{protocol:?} v6 {v6} none {none}");
                if protocol == IpProtocol::ICMP {
                    assert_eq!(parsed.payload(packet), segment, "ICMP has no addresses in its sum");
                }
            }
        }
    }
}
