//! Formats on receive: UDP encapsulation and what else is on its port, options and extension headers, fragments, nested portions of which one is not this
//! NIC's, and modes (OV2-RECV-3 to OV2-RECV-7, OV2-RECV-5a).

mod common;
#[path = "common/kinds.rs"]
mod kinds;

use common::{Link, Nic};
use kinds::{CBC, Kind, SHA1, SHA256};
use ndis::{CryptoStatus, Direction, NetBufferList, OffloadHandle, OutOfBand, SaExtension, UdpEspType};
use packet::{IpProtocol, Ipv6Fragment};

const IN: Direction = Direction::Inbound;

fn nic(kinds: &[Kind]) -> Nic {
    let mut nic = Nic::new(Link::Bare);
    for kind in kinds {
        nic.try_add(kind.bundle(IN)).unwrap();
    }
    nic
}

#[track_caller]
fn assert_untouched(nic: &mut Nic, wire: &[u8]) {
    let list = nic.receive_one(wire);
    assert_eq!(list.oob, OutOfBand::default());
    assert_eq!(list.buffer.as_slice(), wire);
}

/// Status, CryptoDone, NextCryptoDone.
fn verdict(list: &NetBufferList) -> (CryptoStatus, bool, bool) {
    let receive = list.oob.ipsec_receive();
    (receive.crypto_status, receive.crypto_done, receive.next_crypto_done)
}

const GOOD: (CryptoStatus, bool, bool) = (CryptoStatus::Success, true, false);
const BOTH_GOOD: (CryptoStatus, bool, bool) = (CryptoStatus::Success, true, true);

/// UDP from `ports` with a payload, under the addresses of `kind`.
fn udp(kind: &Kind, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = kind.ip_header(IpProtocol::UDP, 8 + payload.len());
    bytes.extend([ports.0.to_be_bytes(), ports.1.to_be_bytes(), ((8 + payload.len()) as u16).to_be_bytes(), [0xab, 0xcd]].concat());
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn ike_keepalives_and_other_udp_go_by_untouched() {
    for kind in [Kind::gcm(0x1001).udp(UdpEspType::Tunnel), Kind::gcm(0x1001).udp(UdpEspType::Transport).v6()] {
        let mut nic = nic(&[kind]);
        for payload in [&[0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8][..], &[0; 4], &[0xff], &[], &[1, 2, 3]] {
            assert_untouched(&mut nic, &udp(&kind, (4500, 4500), payload));
        }
        assert_eq!(nic.counter("receive_no_sa"), 0, "nothing was looked up");
        // ESP on another port is no ESP; and one without an SA is none of this NIC's.
        assert_untouched(&mut nic, &Kind { ports: (4500, 4501), ..kind }.build(b"payload", 6, 1).sealed());
        assert_untouched(&mut nic, &Kind { ports: (4500, 500), ..kind }.build(b"payload", 6, 1).sealed());
        assert_eq!(nic.counter("receive_no_sa"), 0);
        assert_untouched(&mut nic, &Kind { ports: (4500, 4500), ..Kind::gcm(0x9999).udp(UdpEspType::Tunnel) }.build(b"payload", 6, 1).sealed());
        assert_eq!(nic.counter("receive_no_sa"), 1);
        assert_eq!(verdict(&nic.receive_one(&kind.build(b"payload", 6, 1).sealed())), GOOD);
    }
}

#[test]
fn the_source_port_and_the_checksum_of_udp_are_a_nats_business() {
    for ipv6 in [false, true] {
        let kind = Kind { ipv6, ..Kind::gcm(0x1001).udp(UdpEspType::Tunnel) };
        let mut nic = nic(&[kind]);
        for source in [1, 4500, 61_234] {
            let built = Kind { ports: (source, 4500), ..kind }.build(b"payload", 6, 1);
            let mut wire = built.sealed();
            let udp = built.layers[0].esp.as_ref().unwrap().start - 8;
            wire[udp + 6..udp + 8].copy_from_slice(&[0x12, 0x34]);
            assert_eq!(verdict(&nic.receive_one(&wire)), GOOD);
        }
    }
}

/// ESP ends with the IP packet, and the datagram's length has to say so: nobody authenticates it, and the transport would take it for malformed.
#[test]
fn a_datagram_of_another_length_than_its_packets_payload_is_malformed() {
    const MALFORMED: CryptoStatus = CryptoStatus::InvalidPacketSyntax;
    for ipv6 in [false, true] {
        let kind = Kind { ipv6, ..Kind::gcm(0x1001).udp(UdpEspType::Tunnel) };
        let mut nic = nic(&[kind]);
        let built = kind.build(b"payload", 6, 1);
        let (wire, udp) = (built.sealed(), built.layers[0].esp.as_ref().unwrap().start - 8);
        let right = (wire.len() - udp) as u16;
        for length in (0..right + 40).chain([u16::MAX]) {
            let mut wire = wire.clone();
            wire[udp + 4..udp + 6].copy_from_slice(&length.to_be_bytes());
            let list = nic.receive_one(&wire);
            if length == right {
                assert_eq!(verdict(&list), GOOD);
            } else {
                assert_eq!((verdict(&list), list.buffer.as_slice()), ((MALFORMED, true, false), wire.as_slice()), "IPv6 {ipv6}, {length}");
            }
        }
        // Bytes behind the datagram, within the IP packet.
        let mut longer = [&wire[..], b"more"].concat();
        let (at, len) = if ipv6 { (4, longer.len() - 40) } else { (2, longer.len()) };
        longer[at..at + 2].copy_from_slice(&(len as u16).to_be_bytes());
        let list = nic.receive_one(&longer);
        assert_eq!((verdict(&list), list.buffer.as_slice()), ((MALFORMED, true, false), longer.as_slice()));
        // What is none of this NIC's stays so: another SPI, and IKE.
        for first in [[0, 0, 0x10, 2], [0; 4]] {
            let mut other = wire.clone();
            other[udp + 8..udp + 12].copy_from_slice(&first);
            other[udp + 5] -= 1;
            assert_untouched(&mut nic, &other);
        }

        // The inner portion.
        let (tunnel, inner) = (Kind::gcm(0x2001), kind.net(1));
        let built = tunnel.around(&inner.build_inner(b"payload", 6, 1), 1);
        let udp = built.layers[1].esp.as_ref().unwrap().start - 8;
        for (change, status) in [(0, CryptoStatus::Success), (1, MALFORMED), (u8::MAX, MALFORMED)] {
            let wire = built.sealed_after(|number, bytes| {
                if number == 0 {
                    bytes[udp + 5] = bytes[udp + 5].wrapping_add(change);
                }
            });
            let list = self::nic(&[tunnel, inner]).receive_one(&wire);
            assert_eq!(verdict(&list), (status, true, true), "IPv6 {ipv6}, {change}");
            let opened = built.opened(&wire, if change == 0 { 2 } else { 1 });
            assert_eq!(list.buffer.as_slice(), opened);
        }
    }
}

/// A bundle's ESP comes to its own port, which is the adapter's unless it brought another: on any other port that is looked into it is not what it should be.
#[test]
fn esp_on_another_known_port_is_not_the_bundles() {
    let on_port = |spi, net, port: Option<u16>| {
        let kind = Kind { ports: (4500, port.unwrap_or(4500)), ..Kind::gcm(spi).udp(UdpEspType::Tunnel) }.net(net);
        Kind { extension: SaExtension { udp_esp_port: port, ..kind.extension }, ..kind }
    };
    let bundles = [on_port(0x1001, 1, None), on_port(0x1002, 2, Some(14_500)), on_port(0x1003, 3, Some(u16::MAX))];
    let tunnel = Kind::gcm(0x2001);
    let mut nic = nic(&[&bundles[..], &[tunnel]].concat());
    for kind in bundles {
        for port in [4500, 14_500, u16::MAX, 14_501] {
            let sent = Kind { ports: (4500, port), ..kind }.build(b"payload", 6, 1);
            let (wire, nested) = (sent.sealed(), tunnel.around(&sent, 1));
            let (outer, inner) = (nic.receive_one(&wire), nic.receive_one(&nested.sealed()));
            // Of the nested one: a port that nobody knows makes it none of this NIC's.
            let (expected, nested_expected, opened) = if port == kind.ports.1 {
                (GOOD, BOTH_GOOD, 2)
            } else if port == 14_501 {
                ((CryptoStatus::Success, false, false), GOOD, 1)
            } else {
                ((CryptoStatus::InvalidProtocol, true, false), (CryptoStatus::InvalidProtocol, true, true), 1)
            };
            assert_eq!((verdict(&outer), verdict(&inner)), (expected, nested_expected), "{:?} on {port}", kind.ports);
            assert!(outer.buffer.as_slice() == if expected == GOOD { sent.opened(&wire, 1) } else { wire }, "{port}");
            assert!(inner.buffer.as_slice() == nested.opened(&nested.sealed(), opened), "{port}");
        }
    }
}

/// Each type in each position: what stands in UDP there, and what does not (OV2-RECV-7).
#[test]
fn types_of_udp_encapsulation_in_both_positions() {
    use UdpEspType::{Transport, TransportOverUdpTunnel, Tunnel, UdpTransportOverTunnel};
    for (kind, outer_udp, inner_udp) in [
        (None, false, false),
        (Some(Transport), true, true),
        (Some(Tunnel), true, true),
        (Some(TransportOverUdpTunnel), true, false),
        (Some(UdpTransportOverTunnel), false, true),
    ] {
        for udp in [false, true] {
            let sa = Kind { udp: kind, ..Kind::gcm(0x1001) };
            let wire = sa.place(b"payload", 6, 1, udp, Vec::new()).sealed();
            let status = if udp == outer_udp { CryptoStatus::Success } else { CryptoStatus::InvalidProtocol };
            assert_eq!(verdict(&nic(&[sa]).receive_one(&wire)), (status, true, false), "{kind:?} outer, in UDP {udp}");

            // Inside a bare tunnel.
            let (tunnel, sa) = (Kind::gcm(0x2001), sa.net(1));
            let built = tunnel.around(&sa.place(b"payload", 6, 1, udp, Vec::new()), 1);
            let wire = built.sealed();
            let list = nic(&[tunnel, sa]).receive_one(&wire);
            let status = if udp == inner_udp { CryptoStatus::Success } else { CryptoStatus::InvalidProtocol };
            assert_eq!(verdict(&list), (status, true, true), "{kind:?} inner, in UDP {udp}");
        }
    }
}

#[test]
fn a_tunnel_of_type_3_or_4_takes_plain_packets_too() {
    for kind in [UdpEspType::TransportOverUdpTunnel, UdpEspType::UdpTransportOverTunnel] {
        let tunnel = Kind::gcm(0x2001).udp(kind);
        let plain = [&Kind::gcm(1).net(7).ip_header(IpProtocol::TCP, 20)[..], &[0; 20]].concat();
        assert_eq!(verdict(&nic(&[tunnel]).receive_one(&tunnel.build(&plain, 4, 1).sealed())), GOOD);
    }
}

/// an SPI of 0 never matches, not even where an SA has no AH or no ESP.
#[test]
fn r_24_spi_zero_never_matches() {
    let bundles = [Kind::gcm(0x1001), Kind::ah(0x3001, SHA1), Kind::both(0x1002, CBC, None, 0x3002, SHA256)];
    let any_destination = |kind: &Kind| {
        let mut bundle = kind.bundle(IN);
        (bundle.endpoints.source, bundle.endpoints.destination) = (None, None);
        bundle
    };
    let mut nic = Nic::new(Link::Bare);
    for kind in &bundles {
        nic.try_add(any_destination(kind)).unwrap();
    }
    for kind in bundles {
        let built = kind.build(b"payload", 17, 1);
        let mut wire = built.sealed();
        let layer = &built.layers[0];
        let spi = layer.ah.map_or_else(|| layer.esp.as_ref().unwrap().start, |ah| ah + 4);
        wire[spi..spi + 4].fill(0);
        assert_untouched(&mut nic, &wire);
    }
    for kind in [Kind::gcm(0), Kind::ah(0, SHA1), Kind::both(0x1005, CBC, None, 0, SHA256)] {
        assert_eq!(nic.try_add(kind.bundle(IN)), Err(ndis::Status::INVALID_DATA));
    }
}

/// AH and ESP are told apart by kind. An AH SA takes no ESP and an ESP SA no AH, in no path, and either alone can be configured.
#[test]
fn r_37_an_ah_sa_is_never_an_esp_sa() {
    let (ah, esp) = (Kind::ah(0x1001, SHA1), Kind::gcm(0x2001));
    let mut nic = nic(&[ah, esp]);
    // The same SPI for the other operation is another SA.
    for kind in [Kind::gcm(0x1001), Kind::ah(0x2001, SHA1)] {
        nic.try_add(kind.bundle(IN)).unwrap();
    }
    for kind in [ah, esp, Kind::gcm(0x1001), Kind::ah(0x2001, SHA1)] {
        assert_eq!(verdict(&nic.receive_one(&kind.build(b"payload", 6, 1).sealed())), GOOD, "{kind:?}");
        assert_eq!(nic.try_add(kind.bundle(IN)), Err(ndis::Status::INVALID_DATA), "a duplicate");
    }
    // Sent: the handle of one does not serve the packet of the other.
    let [ah_handle, esp_handle] = [ah, esp].map(|kind| nic.try_add(kind.bundle(Direction::Outbound)).unwrap());
    for (kind, handle) in [(ah, esp_handle), (esp, ah_handle)] {
        let (list, wire) = nic.send_one(kind.build(b"payload", 6, 1).list(&[handle]));
        assert!(!list.status.is_success() && wire.is_empty());
    }
    // Keywords: only the one that is left works.
    for (setting, works) in [(ndis::IpsecSetting::Ah, [true, false]), (ndis::IpsecSetting::Esp, [false, true])] {
        nic.set_ipsec(setting);
        for (kind, works) in [ah, esp].iter().zip(works) {
            assert_eq!(nic.receive_one(&kind.build(b"payload", 6, 1).sealed()).oob.ipsec_receive().crypto_done, works);
        }
        let fresh = [Kind::ah(0x7001, SHA1), Kind::gcm(0x7001)].map(|kind| nic.try_add(kind.bundle(IN)));
        for (result, works) in fresh.into_iter().zip(works) {
            assert_eq!(result.is_ok(), works, "{setting:?}");
            if let Ok(handle) = result {
                nic.delete(handle);
            }
        }
        let both = Kind::both(0x7001, CBC, None, 0x7003, SHA1);
        assert_eq!(nic.try_add(both.bundle(IN)), Err(ndis::Status::NOT_SUPPORTED));
    }
}

#[test]
fn both_spis_of_ah_over_esp_are_taken() {
    let both = Kind::both(0x1001, CBC, Some(SHA1), 0x3001, SHA256);
    let mut nic = nic(&[both]);
    for duplicate in [Kind::gcm(0x1001), Kind::ah(0x3001, SHA1), Kind::both(0x1001, CBC, None, 0x5001, SHA1), Kind::both(0x5001, CBC, None, 0x3001, SHA1)] {
        assert_eq!(nic.try_add(duplicate.bundle(IN)), Err(ndis::Status::INVALID_DATA));
    }
    // The other operation under these SPIs is free; and one bundle may have one SPI for both.
    for kind in [Kind::ah(0x1001, SHA1), Kind::gcm(0x3001), Kind::both(0x6001, CBC, None, 0x6001, SHA1)] {
        nic.try_add(kind.bundle(IN)).unwrap();
        assert_eq!(verdict(&nic.receive_one(&kind.build(b"payload", 6, 1).sealed())), GOOD, "{kind:?}");
    }
    assert_eq!(verdict(&nic.receive_one(&both.build(b"payload", 6, 1).sealed())), GOOD, "among hits the one that begins with the header found");
}

/// RFC 6946: a whole packet may carry a fragment header; Linux sends such ones inside tunnels.
#[test]
fn an_atomic_fragment_is_none_and_real_ones_are_untouched() {
    for kind in [Kind::gcm(0x1001).v6(), Kind::gcm(0x1001).v6().udp(UdpEspType::Transport)] {
        let built = kind.build(b"payload", 6, 1);
        let wire = built.sealed();
        for (offset, more, part) in [(0, false, false), (0, true, true), (8, false, true), (8, true, true)] {
            let mut header = [0; 8];
            Ipv6Fragment { next_header: IpProtocol(wire[6]), offset, more, identification: 7 }.emit(&mut header).unwrap();
            let mut wire = [&wire[..40], &header, &wire[40..]].concat();
            wire[6] = 44;
            wire[5] += 8;
            let mut nic = nic(&[kind]);
            if part {
                assert_untouched(&mut nic, &wire);
            } else {
                assert_eq!(verdict(&nic.receive_one(&wire)), GOOD);
            }
        }
    }
    // Inside a tunnel.
    let (tunnel, inner) = (Kind::gcm(0x2001), Kind::gcm(0x1001).v6());
    for (more, next) in [(false, true), (true, false)] {
        let mut built = inner.build_inner(b"payload", 6, 1);
        let sealed = built.sealed();
        let mut header = [0; 8];
        Ipv6Fragment { next_header: IpProtocol::ESP, offset: 0, more, identification: 7 }.emit(&mut header).unwrap();
        built.bytes = [&sealed[..40], &header, &sealed[40..]].concat();
        built.bytes[6] = 44;
        built.bytes[5] += 8;
        let wire = tunnel.build(&built.bytes, 41, 1);
        let list = nic(&[tunnel, inner]).receive_one(&wire.sealed());
        assert_eq!(verdict(&list), (CryptoStatus::Success, true, next));
    }
    // IPv4, AH too.
    for kind in [Kind::gcm(0x1001), Kind::ah(0x3001, SHA1), Kind::gcm(0x1003).udp(UdpEspType::Tunnel)] {
        let mut wire = kind.build(b"payload", 6, 1).sealed();
        wire[6] = 0x20;
        assert_untouched(&mut nic(&[kind]), &wire);
    }
}

/// OV2-RECV-5: only the outer SA is here. Its portion is done, and the inner bytes are untouched.
#[test]
fn an_inner_portion_that_is_nobodys_stays_as_it_is() {
    let tunnels = [Kind::gcm(0x2001), Kind::both(0x2101, CBC, Some(SHA1), 0x4101, SHA256), Kind::ah(0x4001, SHA1)];
    let inners = [Kind::gcm(0x1001).net(1), Kind::ah(0x3001, SHA256).net(1).v6(), Kind::both(0x1101, CBC, None, 0x3101, SHA1).net(1)];
    for tunnel in tunnels {
        for inner in inners {
            let built = tunnel.around(&inner.build_inner(b"payload", 6, 1), 1);
            let wire = built.sealed();
            let opened = built.opened(&wire, 1);
            let list = nic(&[tunnel]).receive_one(&wire);
            assert_eq!((verdict(&list), list.buffer.as_slice()), (GOOD, opened.as_slice()), "{tunnel:?} {inner:?}");
            // Only the inner one is here: the packet is none of this NIC's.
            assert_untouched(&mut nic(&[inner]), &wire);
            // The inner one has another destination, or source.
            let elsewhere = nic(&[tunnel, inner.net(2)]).receive_one(&wire);
            assert_eq!((verdict(&elsewhere), elsewhere.buffer.as_slice()), (GOOD, opened.as_slice()));
            // Both are.
            let both = nic(&[tunnel, inner]).receive_one(&wire);
            assert_eq!((verdict(&both), both.buffer.as_slice()), (BOTH_GOOD, built.opened(&wire, 2).as_slice()));
        }
    }
}

/// More than two portions are not IPsecOV2's: the third one stays as it is. Nor does a bundle protect its own packets.
#[test]
fn two_portions_are_done_and_no_third_one_and_no_bundle_twice() {
    let (a, b, c) = (Kind::gcm(0x2001), Kind::gcm(0x2002).net(1), Kind::gcm(0x2003).net(2));
    let built = a.around(&b.around(&c.build(b"payload", 6, 1), 1), 1);
    let wire = built.sealed();
    let list = nic(&[a, b, c]).receive_one(&wire);
    assert_eq!((verdict(&list), list.buffer.as_slice()), (BOTH_GOOD, built.opened(&wire, 2).as_slice()));

    let built = a.around(&a.build(b"payload", 6, 1), 2);
    let wire = built.sealed();
    let list = nic(&[a]).receive_one(&wire);
    assert_eq!((verdict(&list), list.buffer.as_slice()), (GOOD, built.opened(&wire, 1).as_slice()));
}

/// Transport mode of one protocol over the other without an IP header between them is not nesting.
#[test]
fn ah_alone_over_somebody_elses_esp_is_done_alone() {
    let (ah, esp) = (Kind::ah(0x3001, SHA1), Kind::gcm(0x1001));
    let mut nic = nic(&[ah, esp]);
    let inside = esp.build(b"payload", 6, 1).sealed()[20..].to_vec();
    let wire = ah.build(&inside, 50, 1).sealed();
    let list = nic.receive_one(&wire);
    assert_eq!((verdict(&list), list.buffer.as_slice()), (GOOD, wire.as_slice()));
}

#[test]
fn combined_portions_only_while_they_are_configured() {
    let (tunnel, inner) = (Kind::gcm(0x2001), Kind::gcm(0x1001).net(1).v6());
    let mut nic = nic(&[tunnel, inner]);
    let built = tunnel.around(&inner.build_inner(b"payload", 6, 1), 1);
    let wire = built.sealed();
    assert_eq!(verdict(&nic.receive_one(&wire)), BOTH_GOOD);
    // IPv6 is switched off: the inner SA does not fit any more.
    nic.set_encapsulation(ndis::SetEncapsulation::NoChange, ndis::SetEncapsulation::Off);
    let list = nic.receive_one(&wire);
    assert_eq!((verdict(&list), list.buffer.as_slice()), (GOOD, built.opened(&wire, 1).as_slice()));
}

/// OV2-RECV-5a, the modes: what cannot be read is called after what was read last under the SA.
#[test]
fn the_mode_of_what_cannot_be_read_is_that_of_the_packet_verified_last() {
    for (kind, transport, tunnel) in [
        (Kind::gcm(0x1001), CryptoStatus::TransportEspAuthFailed, CryptoStatus::TunnelEspAuthFailed),
        (Kind::ah(0x3001, SHA1), CryptoStatus::TransportAhAuthFailed, CryptoStatus::TunnelAhAuthFailed),
        (Kind::both(0x1001, CBC, None, 0x3001, SHA1), CryptoStatus::TransportAhAuthFailed, CryptoStatus::TunnelAhAuthFailed),
    ] {
        let mut nic = nic(&[kind]);
        let ip = [&kind.net(5).ip_header(IpProtocol::TCP, 20)[..], &[0; 20]].concat();
        let mut forged = kind.build(&ip, 4, 9).sealed();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert_eq!(nic.receive_one(&forged).oob.ipsec_receive().crypto_status, transport, "nothing was verified yet");
        nic.receive_one(&kind.build(&ip, 4, 1).sealed());
        assert_eq!(nic.receive_one(&forged).oob.ipsec_receive().crypto_status, tunnel);
        nic.receive_one(&kind.build(b"payload", 6, 2).sealed());
        assert_eq!(nic.receive_one(&forged).oob.ipsec_receive().crypto_status, transport);
        // A packet that was authentic and made no sense does not count.
        nic.receive_one(&kind.build(&ip, 4, 3).sealed());
        nic.receive_one(&kind.build(b"\x75", 4, 4).sealed());
        assert_eq!(nic.receive_one(&forged).oob.ipsec_receive().crypto_status, tunnel);
    }
}

#[test]
fn requests_to_delete_come_with_either_portion() {
    let (tunnel, inner) = (Kind::gcm(0x2001), Kind::ah(0x3001, SHA1).net(1));
    let built = tunnel.around(&inner.build_inner(b"payload", 6, u32::MAX - 5), 1);
    for quiet in [false, true] {
        let parameters = nic::NicParameters {
            medium: packet::Medium::Ip,
            delete_policy: if quiet { nic::DeletePolicy::Never } else { nic::DeletePolicy::default() },
            ..nic::NicParameters::new("test")
        };
        let mut nic = Nic::with(parameters, common::software);
        nic.activate();
        for kind in [tunnel, inner] {
            nic.try_add(kind.bundle(IN)).unwrap();
        }
        let first = nic.receive_one(&built.sealed());
        assert_eq!(verdict(&first), BOTH_GOOD);
        assert_eq!(first.oob.ipsec_receive().sa_delete_request, !quiet, "the inner SA nears its end");
        assert!(!nic.receive_one(&built.sealed()).oob.ipsec_receive().sa_delete_request, "once");
    }
    // The outer one's request stays when the inner portion fails.
    let built = tunnel.around(&inner.build_inner(b"payload", 6, 1), u32::MAX - 5);
    let wire = built.sealed_after(|number, bytes| {
        if number == 0 {
            bytes[built.layers[1].ah.unwrap() + 12] ^= 1;
        }
    });
    let list = nic(&[tunnel, inner]).receive_one(&wire);
    assert_eq!(verdict(&list), (CryptoStatus::TransportAhAuthFailed, true, true));
    assert!(list.oob.ipsec_receive().sa_delete_request);
}

const CAPACITY: u32 = 4;

/// The inner bundle of number `n` in a full table.
fn numbered(n: u32) -> Kind {
    Kind::gcm(0x1001 + n).net(1)
}

/// A NIC whose table is full of outbound bundles, and their handles.
fn full() -> (Nic, Vec<OffloadHandle>) {
    let parameters = nic::NicParameters { medium: packet::Medium::Ip, ..nic::NicParameters::new("test") };
    let mut nic = Nic::with(parameters, || nic::SoftwareEngine::new(ipsec::Crypto::default(), CAPACITY).unwrap());
    let live = (0..CAPACITY).map(|n| nic.try_add(numbered(n).bundle(Direction::Outbound)).unwrap()).collect();
    (nic, live)
}

/// Nothing is sent, updated or deleted under a handle, in either slot. `live` is that of a bundle.
#[track_caller]
fn assert_names_nothing(nic: &mut Nic, handle: OffloadHandle, live: OffloadHandle) {
    let (tunnel, inner) = (Kind::gcm(0x2001), numbered(0));
    let (packet, nested) = (inner.build(b"payload", 6, 1), tunnel.around(&inner.build_inner(b"payload", 6, 1), 1));
    for list in [packet.list(&[handle]), nested.list(&[handle, live]), nested.list(&[live, handle])] {
        let bytes = list.buffer.as_slice().to_vec();
        let (list, wire) = nic.send_one(list);
        assert!(!list.status.is_success() && wire.is_empty(), "{handle:?}");
        assert_eq!(list.buffer.as_slice(), bytes);
    }
    let update = ndis::UpdateSa { handle, operation: ndis::Operation::Esp, spi: packet::Spi(0x1001), sequence_number_high: 1 };
    assert_eq!(nic.done(ndis::DirectOid::UpdateSa(update)).0, ndis::Status::INVALID_PARAMETER);
    let there = nic.miniport.sas();
    nic.delete(handle);
    assert_eq!(nic.miniport.sas(), there, "no deletion hit another SA");
}

#[track_caller]
fn assert_works(nic: &mut Nic, n: u32, handle: OffloadHandle) {
    let packet = numbered(n).build(b"payload", 6, 1);
    assert_eq!(nic.send_one(packet.list(&[handle])).1, [packet.sealed()], "{n}");
}

/// a stale handle names nothing, also when its place has been taken again, however often.
#[test]
fn r_26_stale_handles_name_nothing() {
    let (mut nic, mut live) = full();
    let mut stale = Vec::new();
    for round in 0..12_u32 {
        let n = round % CAPACITY;
        let old = core::mem::replace(&mut live[n as usize], OffloadHandle::from_bits(u64::MAX).unwrap());
        nic.delete(old);
        nic.delete(old);
        assert_names_nothing(&mut nic, old, live[(n as usize + 1) % 4]);
        live[n as usize] = nic.try_add(numbered(n).bundle(Direction::Outbound)).unwrap();
        stale.push(old);
        for &old in &stale {
            assert!(!live.contains(&old));
            assert_names_nothing(&mut nic, old, live[0]);
        }
        for (n, &handle) in (0..).zip(&live) {
            assert_works(&mut nic, n, handle);
        }
    }
    // No handle at all is no request for IPsec.
    assert_eq!(OffloadHandle::from_bits(0), None);
    assert_eq!(nic.done(ndis::DirectOid::DeleteSa(vec![0])).0, ndis::Status::SUCCESS);
    assert_eq!(nic.miniport.sas().0, CAPACITY as usize);
}

/// what comes with a packet or a request is looked up, never used as it is: handles of another NIC, and those of a live bundle with any bit changed.
#[test]
fn r_27_foreign_and_changed_handles_name_nothing() {
    let ((mut nic, live), (_other, foreign)) = (full(), full());
    let changed = live.iter().flat_map(|handle| (0..64).map(|bit| handle.to_bits() ^ 1 << bit));
    for bits in changed.chain(foreign.iter().map(|handle| handle.to_bits())) {
        let Some(handle) = OffloadHandle::from_bits(bits) else { continue };
        if !live.contains(&handle) {
            assert_names_nothing(&mut nic, handle, live[0]);
        }
    }
    for (n, &handle) in (0..).zip(&live) {
        assert_works(&mut nic, n, handle);
    }
}

/// the edges of the table: its first and its last place work, and what is one beyond names nothing, with and without the rest of a good handle.
#[test]
fn r_41_handles_at_the_edges_of_the_table() {
    let (mut nic, live) = full();
    for (n, &handle) in (0..).zip(&live) {
        assert_works(&mut nic, n, handle);
    }
    let max = u64::from(CAPACITY);
    for place in [0, 1, max - 1, max, max + 1, u64::from(u32::MAX) - 1, u64::from(u32::MAX)] {
        let within = live.iter().flat_map(|handle| {
            let bits = handle.to_bits();
            [bits & !0xffff_ffff | place, bits & 0xffff_ffff | place << 32]
        });
        for bits in within.chain([place, place << 32, u64::MAX - place]) {
            let Some(handle) = OffloadHandle::from_bits(bits) else { continue };
            if !live.contains(&handle) {
                assert_names_nothing(&mut nic, handle, live[0]);
            }
        }
    }
    for (n, &handle) in (0..).zip(&live) {
        assert_works(&mut nic, n, handle);
    }
}

/// The SAs of a lane.
fn of_lane(n: u32) -> [Kind; 3] {
    [Kind::both(0x1000 + n, CBC, Some(SHA256), 0x3000 + n, SHA1), Kind::ah(0x5000 + n, kinds::GMAC).v6(), Kind::esp(0x7000 + n, CBC, None)]
        .map(|kind| Kind { extension: SaExtension { allow_unauthenticated: true, ..kind.extension }, ..kind })
}

/// lanes share nothing that they write. Two lanes, each with SAs of its own and all of a kind, make what one lane makes.
#[test]
fn r_09_lanes_share_no_scratch() {
    let mut nic = Nic::new(Link::Bare);
    let lanes = [1, 101].map(|n| {
        let handles = of_lane(n).map(|kind| nic.try_add(kind.bundle(Direction::Outbound)).unwrap());
        for kind in of_lane(n) {
            nic.try_add(kind.bundle(IN)).unwrap();
        }
        let mut queue = ndis::Miniport::open_queue(&*nic.miniport);
        std::thread::spawn(move || {
            let mut pool = packet::BufferPool::new();
            for round in 0..60 {
                let packets: Vec<_> =
                    (0..48_u32).map(|at| of_lane(n)[at as usize % 3].build(&vec![at as u8; 10 + at as usize * 20], 17, round * 100 + at)).collect();
                let mut batch: Vec<_> = packets.iter().enumerate().map(|(at, packet)| packet.list(&[handles[at % 3]])).collect();
                let (mut done, mut wire, mut up) = (Vec::new(), Vec::new(), Vec::new());
                let mut lane = ndis::LaneContext { now: packet::Time::ZERO, pool: &mut pool };
                queue.send(&mut lane, &mut batch, &mut done, &mut wire);
                let sealed: Vec<_> = wire.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect();
                assert!(sealed.iter().eq(&packets.iter().map(kinds::Built::sealed).collect::<Vec<_>>()));
                queue.receive(&mut lane, &mut wire, &mut up);
                for ((list, packet), sealed) in up.iter().zip(&packets).zip(&sealed) {
                    assert_eq!(verdict(list), GOOD);
                    assert!(list.buffer.as_slice() == packet.opened(sealed, 1));
                }
            }
        })
    });
    for lane in lanes {
        lane.join().unwrap();
    }
}
