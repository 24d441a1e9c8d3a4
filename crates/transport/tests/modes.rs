//! Every mode and format: AH, ESP, both, in UDP, transport, tunnel, transport inside a tunnel, over IPv4 and IPv6; by NIC, in software, and by halves.

mod common;

use common::bundle::{Bundle, Headers, gcm, sha256};
use common::exchange::{A6, B6, WAYS, exchange, nested, packets};
use common::{A, B, Host, address, inner};
use ipsec::{AesKeySize, Authentication, Encryption};
use ndis::{Direction, UdpEspType};
use packet::{IpProtocol, ParsedIp};
use transport::{Action, DropReason, Limits, Mode, OffloadReason, Selector};

const OUT: Direction = Direction::Outbound;
const IN: Direction = Direction::Inbound;

fn assert_exchanged(bundles: &[Bundle], sent: &[Vec<u8>], way: (bool, bool)) {
    let (host, peer, wire, received) = exchange(bundles, sent, way);
    let what = format!("{way:?} {bundles:?}");
    assert_eq!(received.words(), vec!["delivered"; sent.len()], "{what}");
    assert_eq!(received.delivered, sent, "{what}");
    let headers: usize = bundles.iter().map(|bundle| usize::from(bundle.esp.is_some()) + usize::from(bundle.ah.is_some())).sum();
    assert!(received.verdicts.iter().all(|verdict| verdict.associations.len() == headers), "{what}");
    for (host, nic, counts) in [(&host, way.0, host.transport.outbound()), (&peer, way.1, peer.transport.inbound())] {
        let count = sent.len() as u64;
        assert_eq!((counts.offloaded.packets, counts.software.packets), if nic { (count, 0) } else { (0, count) }, "{what}");
        host.assert_all_ended();
        for sa in host.transport.sas() {
            assert_eq!((sa.packets, sa.offload == OffloadReason::Offloaded), (count, nic), "{what}");
            assert!(sa.associations.iter().all(|association| association.sequence == count), "{what}");
        }
    }
    if way.1 {
        assert!(received.verdicts.iter().all(|verdict| verdict.crypto_done && verdict.next_crypto_done == (bundles.len() == 2)), "{what}");
    }
    // What came once comes no second time.
    let mut peer = peer;
    assert_eq!(peer.receive(&wire).words(), vec!["replayed"; sent.len()], "{what}");
}

#[test]
fn every_header_in_tunnel_mode_over_both_versions() {
    for headers in Headers::ALL {
        for (source, destination) in [(A, B), (A6, B6)] {
            for v6 in [false, true] {
                for way in WAYS {
                    let bundle = Bundle::of(OUT, Mode::Tunnel, headers, 0x1001).between(source, destination);
                    assert_exchanged(&[bundle], &packets(v6, 5), way);
                }
            }
        }
    }
}

#[test]
fn every_header_in_transport_mode_over_both_versions() {
    for headers in Headers::ALL {
        for v6 in [false, true] {
            for way in WAYS {
                let sent = packets(v6, 5);
                let parsed = ParsedIp::parse(&sent[0]).unwrap();
                let bundle = Bundle::of(OUT, Mode::Transport, headers, 0x1001).between(&parsed.src().to_string(), &parsed.dst().to_string());
                assert_exchanged(&[bundle], &sent, way);
            }
        }
    }
}

#[test]
fn up_to_four_headers_transport_inside_tunnel() {
    for outer in Headers::ALL {
        for within in Headers::ALL {
            if (outer, within) == (Headers::UdpEsp, Headers::UdpEsp) {
                continue;
            }
            for (v6_outer, v6) in [(false, false), (true, false), (false, true), (true, true)] {
                for way in WAYS {
                    assert_exchanged(&nested(outer, within, v6_outer, v6), &packets(v6, 3), way);
                }
            }
        }
    }
}

#[test]
fn packets_built_apart_come_in_and_are_named_header_by_header() {
    for outer in Headers::ALL {
        for within in Headers::ALL {
            if (outer, within) == (Headers::UdpEsp, Headers::UdpEsp) {
                continue;
            }
            let [tunnel, bundle] = nested(outer, within, false, false);
            let wire: Vec<_> = (1..=3)
                .map(|number| {
                    tunnel.protect(
                        &bundle.protect(&inner(number), 20 + u64::from(number), 30 + u64::from(number)),
                        5 + u64::from(number),
                        10 + u64::from(number),
                    )
                })
                .collect();
            for offload in [false, true] {
                let mut host = Host::full(offload);
                host.put_all(&[tunnel.toward(IN), bundle.toward(IN)]);
                let received = host.receive(&wire);
                assert_eq!(received.delivered, (1..=3).map(inner).collect::<Vec<_>>(), "{outer:?} {within:?}");
                let seen: Vec<_> = received.verdicts[0].associations.iter().map(|seen| (seen.spi.0, seen.sequence)).collect();
                let mut expected = Vec::new();
                expected.extend(tunnel.ah.map(|half| (half.spi, 11)));
                expected.extend(tunnel.esp.map(|half| (half.spi, 6)));
                expected.extend(bundle.ah.map(|half| (half.spi, 31)));
                expected.extend(bundle.esp.map(|half| (half.spi, 21)));
                assert_eq!(seen, expected, "outermost first");
            }
        }
    }
}

#[test]
fn every_suite_goes_out_and_comes_in() {
    let gmac = Authentication::AesGmac(AesKeySize::Aes256);
    let authentications =
        [Authentication::HmacMd5, Authentication::HmacSha1, Authentication::HmacSha256, Authentication::HmacSha384, Authentication::HmacSha512];
    let mut halves = Vec::new();
    for encryption in Encryption::ALL {
        if encryption.is_combined() {
            halves.extend(encryption.icv_lengths().iter().map(|&icv| common::bundle::Half { encryption, icv: icv as u8, ..gcm(0x1001) }));
        } else {
            let bare = common::bundle::Half { encryption, icv: 0, ..gcm(0x1001) };
            halves.extend(authentications.map(|authentication| common::bundle::Half { authentication, ..bare }));
        }
    }
    halves.push(common::bundle::Half { encryption: Encryption::Null, icv: 0, authentication: gmac, ..gcm(0x1001) });
    for half in halves {
        for way in WAYS {
            assert_exchanged(&[Bundle::new(OUT, Mode::Tunnel, Some(half), None)], &packets(false, 2), way);
        }
    }
    for authentication in authentications.into_iter().chain([gmac]) {
        for way in WAYS {
            let ah = common::bundle::Half { authentication, ..sha256(0x1002) };
            assert_exchanged(&[Bundle::new(OUT, Mode::Transport, None, Some(ah)).between("10.0.1.1", "10.0.2.1")], &packets(false, 2), way);
            // Encryption that AH over it authenticates (OV2-COMB-2).
            let bare = common::bundle::Half { encryption: Encryption::AesCbc(AesKeySize::Aes128), icv: 0, ..gcm(0x1001) };
            assert_exchanged(&[Bundle::new(OUT, Mode::Tunnel, Some(bare), Some(ah))], &packets(true, 2), way);
        }
    }
}

#[test]
fn a_nic_that_does_not_nest_gets_the_tunnel_and_software_does_what_is_inside() {
    for headers in [Headers::Esp, Headers::Ah, Headers::AhEsp] {
        let bundles = nested(headers, headers, false, false);
        let (mut host, mut peer) = (Host::full(true), Host::full(false));
        host.plain = headers == Headers::Ah;
        host.nic.set_config(|config| config.ipsec_v2.transport_tunnel_combined = false);
        host.service();
        let handles = host.put_all(&bundles);
        peer.put_all(&bundles.each_ref().map(|bundle| bundle.toward(IN)));
        assert_eq!(host.reason(handles[0]), OffloadReason::Offloaded);
        assert!(matches!(host.reason(handles[1]), OffloadReason::SwitchedOff(field) if field.field == ndis::CapabilityField::TransportTunnelCombined));
        let sent = packets(false, 40);
        host.nic.script().fail_every = 4;
        host.nic.script().fail_offloaded_only = true;
        let wire = host.send(&sent);
        host.nic.script().fail_every = 0;
        let received = peer.receive(&wire);
        assert_eq!(received.words(), vec!["delivered"; 40]);
        let counts = host.transport.outbound();
        assert_eq!((counts.offloaded.packets, counts.software.packets, counts.retried), (0, 40, 10));
        // What was sealed stays as it was; only what the NIC was to do got new numbers.
        let [tunnel, inside] = [host.transport.sa(handles[0]).unwrap(), host.transport.sa(handles[1]).unwrap()];
        assert!(tunnel.associations.iter().all(|association| association.sequence == 50));
        assert!(inside.associations.iter().all(|association| association.sequence == 40));
        assert_eq!((tunnel.packets, inside.packets), (40, 40));
    }
}

#[test]
fn what_a_nic_gives_back_is_sealed_whole_in_software_under_later_numbers() {
    for outer in Headers::ALL {
        for within in Headers::ALL {
            if (outer, within) == (Headers::UdpEsp, Headers::UdpEsp) {
                continue;
            }
            let bundles = nested(outer, within, false, true);
            let (mut host, mut peer) = (Host::full(true), Host::full(true));
            host.plain = true;
            let handles = host.put_all(&bundles);
            peer.put_all(&bundles.each_ref().map(|bundle| bundle.toward(IN)));
            host.nic.script().fail_every = 3;
            host.nic.script().fail_offloaded_only = true;
            let wire = host.send(&packets(true, 30));
            assert_eq!((wire.len(), peer.receive(&wire).delivered.len()), (30, 30), "{outer:?} {within:?}");
            let counts = host.transport.outbound();
            assert_eq!((counts.offloaded.packets, counts.software.packets, counts.retried), (20, 10, 10));
            for handle in handles {
                let sa = host.transport.sa(handle).unwrap();
                assert!(sa.associations.iter().all(|association| association.sequence == 40), "every number of a failed packet is spent");
                assert_eq!(sa.packets, 30);
            }
        }
    }
}

#[test]
fn a_packet_that_does_not_come_out_of_its_tunnel_is_dropped() {
    let [tunnel, bundle] = nested(Headers::Esp, Headers::Esp, false, false);
    let other = Bundle::of(OUT, Mode::Tunnel, Headers::Esp, 0x3001);
    for offload in [false, true] {
        let mut host = Host::full(offload);
        host.put_all(&[tunnel.toward(IN), other.toward(IN), bundle.toward(IN)]);
        let bare = bundle.protect(&inner(1), 1, 0);
        let wire = [bare.clone(), other.protect(&bare, 1, 0), tunnel.protect(&bare, 1, 0)];
        let received = host.receive(&wire);
        assert_eq!(received.words(), ["policy", "policy", "delivered"], "offload {offload}");
    }
}

/// The same as on the way out, where such a tunnel has no policy.
#[test]
fn a_tunnel_that_is_there_for_others_carries_only_those() {
    let [tunnel, bundle] = nested(Headers::Esp, Headers::Esp, false, false);
    let next = Bundle { esp: Some(gcm(0x4001)), ..bundle.clone() };
    let stranger = Bundle { esp: Some(gcm(0x5001)), inside: None, ..bundle.clone() };
    for offload in [false, true] {
        for selectors in [vec![], vec![Selector::ANY]] {
            let both = !selectors.is_empty();
            let tunnel = Bundle { selectors, ..tunnel.toward(IN) };
            let mut host = Host::full(offload);
            host.put(&tunnel);
            host.put(&stranger.toward(IN));
            assert_eq!(host.receive(&[tunnel.protect(&inner(1), 1, 0)]).words(), ["delivered"], "nothing is inside of it yet");
            let first = host.put(&bundle.toward(IN));
            // Zeros behind the inner packet, a dummy, a first and a later fragment of a packet of the bundle.
            let mut padded = bundle.protect(&inner(2), 2, 0);
            padded.extend([0; 40]);
            let fragment = |word: u16| {
                let mut packet = bundle.protect(&inner(1), 9, 0);
                packet[6..8].copy_from_slice(&word.to_be_bytes());
                packet[10..12].fill(0);
                let sum = packet::checksum::ipv4_header_checksum(&packet[..20]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
                packet
            };
            let esp_without_sa = Bundle { esp: Some(gcm(0x7001)), ..bundle.clone() }.protect(&inner(1), 1, 0);
            let cases = [
                (bundle.protect(&inner(1), 1, 0), "delivered", "delivered"),
                (inner(3), "policy", "delivered"),
                (padded, "delivered", "delivered"),
                (stranger.protect(&inner(1), 1, 0), "policy", "delivered"),
                (esp_without_sa, "policy", "delivered"),
                (fragment(0x2000), "fragment", "fragment"),
                (fragment(0x0001), "fragment", "delivered"),
            ];
            for (number, (packet, alone, with)) in cases.iter().enumerate() {
                let wire = tunnel.protect_payload(tunnel.source, tunnel.destination, packet, IpProtocol::IPV4.0, number as u64 + 2, 0);
                assert_eq!(host.receive(&[wire]).words(), [if both { *with } else { *alone }], "packet {number} offload {offload} both {both}");
            }
            let dummy = tunnel.protect_payload(tunnel.source, tunnel.destination, &[0; 60], 59, 20, 0);
            assert_eq!(host.receive(&[dummy]).words(), ["dummy"]);
            // One is replaced by another. In between, what was protected is not taken without.
            host.transport.remove_sa(first);
            host.service();
            let plain = if both { "delivered" } else { "policy" };
            assert_eq!(host.receive(&[tunnel.protect(&inner(1), 21, 0)]).words(), [plain]);
            host.put(&next.toward(IN));
            let wire = [tunnel.protect(&next.protect(&inner(1), 1, 0), 22, 0), tunnel.protect(&inner(1), 23, 0)];
            assert_eq!(host.receive(&wire).words(), ["delivered", plain], "offload {offload}");
            host.assert_all_ended();
        }
    }
}

#[test]
fn without_its_tunnel_a_bundle_carries_nothing() {
    for offload in [false, true] {
        let bundles = nested(Headers::Esp, Headers::AhEsp, false, false);
        let mut host = Host::full(offload);
        let handles = host.put_all(&bundles);
        assert_eq!(host.send(&packets(false, 2)).len(), 2);
        // Under way when the tunnel goes.
        host.nic.script().hold_sends = true;
        assert_eq!(host.send(&packets(false, 3)).len(), 0);
        host.transport.remove_sa(handles[0]);
        host.nic.script().fail_every = 1;
        host.nic.script().hold_sends = false;
        assert!(host.service().iter().all(|packet| offload == (packet.len() < 100)));
        host.nic.script().fail_every = 0;
        assert!(host.send(&packets(false, 4)).is_empty());
        host.assert_all_ended();
        let dropped = Host::dropped(&host.transport.outbound());
        assert!(dropped.contains(&(DropReason::NoSa, if offload { 7 } else { 4 })), "{dropped:?}");
        // A tunnel of the same name does not take its place: the bundle was not put into that one.
        host.transport.add_sa(bundles[0].parameters(), host.now).unwrap();
        assert!(host.send(&packets(false, 1)).is_empty());
    }
}

#[test]
fn a_bundle_goes_inside_a_tunnel_of_its_direction_that_is_there() {
    let [tunnel, bundle] = nested(Headers::Esp, Headers::Esp, false, false);
    let host = Host::full(false);
    assert!(host.transport.add_sa(bundle.parameters(), host.now).is_err());
    host.put(&tunnel.toward(IN));
    assert!(host.transport.add_sa(bundle.parameters(), host.now).is_err());
    host.put(&tunnel);
    host.put(&bundle);
    // Rekeyed: the newest of a name counts.
    let second = host.transport.add_sa(tunnel.parameters(), host.now).unwrap();
    let next = Bundle { esp: Some(gcm(0x2002)), ..bundle };
    host.transport.add_sa(next.parameters(), host.now).unwrap();
    host.transport.remove_sa(second);
    assert!(host.transport.add_sa(Bundle { esp: Some(gcm(0x2003)), ..next.clone() }.parameters(), host.now).is_ok(), "the older one is there still");
    // UDP in UDP there is not.
    let host = Host::full(false);
    let [tunnel, bundle] = nested(Headers::UdpEsp, Headers::UdpEsp, false, false);
    host.put(&tunnel);
    assert!(host.transport.add_sa(bundle.parameters(), host.now).is_err());
}

#[test]
fn a_tunnel_is_offered_anew_when_its_type_changes() {
    let [tunnel, bundle] = nested(Headers::UdpEsp, Headers::Esp, false, false);
    let mut host = Host::full(true);
    let outer = host.put(&tunnel);
    assert_eq!(host.nic.types(), [Some(UdpEspType::Tunnel)]);
    assert_eq!(host.send(&packets(false, 3)).len(), 3);
    let within = host.put(&bundle);
    let mut types = host.nic.types();
    types.sort_by_key(|kind| kind.map(|kind| kind as u8));
    assert_eq!(types, [Some(UdpEspType::TransportOverUdpTunnel); 2]);
    assert_eq!((host.reason(outer), host.reason(within)), (OffloadReason::Offloaded, OffloadReason::Offloaded));
    // It stays what it is when nothing is inside any more, and carries packets of one layer.
    host.transport.remove_sa(within);
    host.service();
    assert_eq!(host.nic.types(), [Some(UdpEspType::TransportOverUdpTunnel)]);
    host.transport.set_policies(|spd| {
        spd.policies_mut().retain(|policy| policy.action == Action::Protect(Some(outer)));
    });
    assert_eq!(host.send(&packets(false, 3)).len(), 3);
    assert_eq!(host.transport.outbound().offloaded.packets, 6);
    // An answer that comes late finds that the type has changed meanwhile.
    let [tunnel, bundle] = nested(Headers::Esp, Headers::UdpEsp, false, false);
    let mut host = Host::full(true);
    host.nic.script().add = common::Answer::Pend;
    let outer = host.put(&tunnel);
    let within = host.put(&bundle);
    host.nic.script().add = common::Answer::Take;
    host.nic.answer_kept(ndis::Status::SUCCESS);
    host.service();
    host.service();
    assert_eq!((host.reason(outer), host.reason(within)), (OffloadReason::Offloaded, OffloadReason::Offloaded));
    assert_eq!(host.nic.types(), [Some(UdpEspType::UdpTransportOverTunnel); 2]);
    // A NIC that does not have that type gets the tunnel for what it is to it.
    let mut host = Host::full(true);
    host.nic.set_config(|config| config.ipsec_v2.udp_esp = ndis::UdpEspTypes::TUNNEL);
    host.service();
    let [tunnel, bundle] = nested(Headers::UdpEsp, Headers::Esp, false, false);
    let handles = host.put_all(&[tunnel, bundle]);
    assert_eq!(host.nic.types(), [Some(UdpEspType::Tunnel)]);
    assert!(matches!(host.reason(handles[1]), OffloadReason::SwitchedOff(_)));
    assert_eq!(host.send(&packets(false, 3)).len(), 3);
}

#[test]
fn ah_headers_are_rounded_as_asked_and_taken_in_either_way() {
    for (alignment, v6, length) in [(None, false, 28), (Some(4), false, 28), (Some(8), false, 32), (None, true, 32), (Some(4), true, 32)] {
        let (source, destination) = if v6 { (A6, B6) } else { (A, B) };
        let bundle = Bundle { ah_alignment: alignment, ..Bundle::of(OUT, Mode::Tunnel, Headers::Ah, 0x1001) }.between(source, destination);
        let (mut host, mut peer) = (Host::full(false), Host::full(false));
        host.plain = true;
        host.put(&bundle);
        let wire = host.send(&packets(false, 1));
        let header = if v6 { 40 } else { 20 };
        assert_eq!(wire[0].len() - header - inner(0).len(), length);
        peer.put(&Bundle { ah_alignment: None, ..bundle.toward(IN) });
        assert_eq!(peer.receive(&wire).words(), ["delivered"]);
    }
}

/// One packet counts once for each bundle, whatever headers the bundle has.
#[test]
fn lifetimes_count_packets_and_not_headers() {
    for offload in [false, true] {
        let [tunnel, mut bundle] = nested(Headers::AhEsp, Headers::AhEsp, false, false);
        bundle.hard = Limits { packets: Some(5), ..Limits::NONE };
        let (mut host, mut peer) = (Host::full(offload), Host::full(offload));
        let handles = host.put_all(&[tunnel.clone(), bundle.clone()]);
        peer.put_all(&[tunnel.toward(IN), Bundle { hard: Limits { packets: Some(3), ..Limits::NONE }, ..bundle.toward(IN) }]);
        let wire = host.send(&packets(false, 8));
        assert_eq!((wire.len(), Host::dropped(&host.transport.outbound())), (5, vec![(DropReason::Expired, 3)]));
        assert_eq!(host.transport.sa(handles[0]).unwrap().packets, 5, "what ended inside did not go through the tunnel");
        let received = peer.receive(&wire);
        assert_eq!(received.words(), ["delivered", "delivered", "delivered", "expired", "expired"]);
        // The tunnel ends: nothing inside it is counted for what it has not carried.
        let [mut tunnel, bundle] = nested(Headers::Esp, Headers::Esp, false, false);
        tunnel.hard = Limits { packets: Some(4), ..Limits::NONE };
        let mut host = Host::full(offload);
        let handles = host.put_all(&[tunnel, Bundle { hard: Limits { packets: Some(100), ..Limits::NONE }, ..bundle }]);
        assert_eq!(host.send(&packets(false, 9)).len(), 4);
        assert_eq!(host.transport.sa(handles[1]).unwrap().packets, 4);
        host.assert_all_ended();
    }
}

/// at the end of the numbers of either association a packet is dropped and told, later ones fail, and the owner hears before and at the end.
#[test]
fn r_14_the_numbers_of_each_association_end_and_the_audit_names_it() {
    let end = u64::from(u32::MAX);
    for (headers, esp_last, ah_last, spi) in
        [(Headers::Esp, end - 3, 0, 0x1001), (Headers::Ah, 0, end - 3, 0x1002), (Headers::AhEsp, end - 3, 0, 0x1001), (Headers::AhEsp, 0, end - 3, 0x1002)]
    {
        for offload in [false, true] {
            let bundle = Bundle::of(OUT, Mode::Tunnel, headers, 0x1001);
            let mut parameters = bundle.parameters();
            for association in &mut parameters.associations {
                association.sequence_number = if association.operation == ndis::Operation::Esp { esp_last } else { ah_last } as u32;
            }
            let mut host = Host::full(offload);
            host.plain = true;
            let handle = host.transport.add_sa(parameters, host.now).unwrap();
            host.transport.protect(handle);
            assert_eq!(host.send(&packets(false, 5)).len(), 3, "{headers:?}");
            assert!(host.send(&packets(false, 2)).is_empty());
            host.service();
            assert_eq!(host.events(), [transport::SaEventKind::SoftExpired, transport::SaEventKind::SequenceExhausted]);
            let audit = host.transport.take_audit();
            assert_eq!(audit.len(), 4);
            for event in audit {
                assert_eq!((event.reason, event.association.map(|(_, spi)| spi.0)), (DropReason::SequenceExhausted, Some(spi)));
                assert_eq!((event.source, event.destination), (Some(address("10.0.1.1")), Some(address("10.0.2.1"))));
            }
            assert_eq!(host.transport.sa(handle).unwrap().packets, 3);
            host.assert_all_ended();
        }
    }
    // Inside a tunnel: the tunnel's numbers end, and what is inside spends its own.
    let [tunnel, bundle] = nested(Headers::Esp, Headers::Ah, false, false);
    let mut parameters = tunnel.parameters();
    parameters.associations[0].sequence_number = u32::MAX - 2;
    let mut host = Host::full(true);
    host.transport.add_sa(parameters, host.now).unwrap();
    let within = host.put(&bundle);
    assert_eq!(host.send(&packets(false, 5)).len(), 2);
    let audit = host.transport.take_audit();
    assert!(audit.iter().all(|event| event.association == Some((ndis::Operation::Esp, packet::Spi(0x1001)))), "{audit:?}");
    assert_eq!(host.transport.sa(within).unwrap().packets, 2);
    host.assert_all_ended();
}
