//! Every mode and format: AH, ESP, both, in UDP, transport, tunnel, transport inside a tunnel, over IPv4 and IPv6; by NIC, in software, and by halves.

mod common;

use common::bundle::{Bundle, Headers, gcm, sha256};
use common::{A, B, Host, NIC, Received, address, inner, ip, udp};
use ipsec::{AesKeySize, Authentication, Encryption};
use ndis::{CryptoStatus, Direction, UdpEspType};
use packet::{IpProtocol, ParsedIp};
use transport::{Action, ClearPolicy, DropReason, Limits, Mode, OffloadReason, TrafficFlow};

const OUT: Direction = Direction::Outbound;
const IN: Direction = Direction::Inbound;
const A6: &str = "2001:db8::1";
const B6: &str = "2001:db8::2";
/// Who does the cryptography: the sender's NIC, the receiver's NIC.
const WAYS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

fn inner6(number: u32) -> Vec<u8> {
    let (source, destination) = (address("2001:db8:1::1"), address("2001:db8:2::1"));
    let mut segment = inner(number)[20..].to_vec();
    // Over IPv6 there must be a checksum.
    packet::checksum::fill_segment(source, destination, IpProtocol::UDP, &mut segment).unwrap();
    ip(source, destination, IpProtocol::UDP, &segment)
}

fn packets(v6: bool, count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|number| if v6 { inner6(number) } else { inner(number) }).collect()
}

/// Sends `packets` under `bundles` (tunnels first) and takes what is on the wire in again.
fn exchange(bundles: &[Bundle], packets: &[Vec<u8>], (seals, opens): (bool, bool)) -> (Host, Host, Vec<Vec<u8>>, Received) {
    let (mut host, mut peer) = (Host::full(seals), Host::full(opens));
    // AH and null encryption show what they carry.
    host.plain = bundles.iter().all(|bundle| bundle.esp.is_none_or(|half| half.encryption != common::bundle::GCM));
    host.put_all(bundles);
    let inward: Vec<_> = bundles.iter().map(|bundle| bundle.toward(IN)).collect();
    peer.put_all(&inward);
    let wire = host.send(packets);
    let received = peer.receive(&wire);
    (host, peer, wire, received)
}

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

/// The transport bundle of packets, inside a tunnel.
fn nested(outer: Headers, within: Headers, v6_outer: bool, v6: bool) -> [Bundle; 2] {
    let (source, destination) = if v6_outer { (A6, B6) } else { (A, B) };
    let tunnel = Bundle::of(OUT, Mode::Tunnel, outer, 0x1001).between(source, destination);
    let parsed = ParsedIp::parse(&packets(v6, 1)[0]).unwrap();
    let bundle = Bundle::of(OUT, Mode::Transport, within, 0x2001).between(&parsed.src().to_string(), &parsed.dst().to_string()).within(&tunnel);
    [tunnel, bundle]
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
        assert!(matches!(host.reason(handles[1]), OffloadReason::NotCovered(field) if field.field == ndis::CapabilityField::TransportTunnelCombined));
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
    assert!(matches!(host.reason(handles[1]), OffloadReason::NotCovered(_)));
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

/// an AH as long as that of another algorithm is not this SA's, whatever its ICV.
#[test]
fn r_20_an_ah_of_another_length_is_malformed() {
    let bundle = Bundle::of(OUT, Mode::Transport, Headers::Ah, 0x1001).between("10.0.1.1", "10.0.2.1");
    for offload in [false, true] {
        for length in 0..=255_u8 {
            let mut packet = bundle.protect(&inner(1), 0, 1);
            let accepted = packet[21] == length;
            packet[21] = length;
            let mut host = Host::full(offload);
            host.put(&bundle.toward(IN));
            let words = host.receive(&[packet]).words();
            // Rounded to 8 it is one that Linux could have sent, and forged.
            let expected = if accepted {
                "delivered"
            } else if length == 6 {
                "auth-failed"
            } else {
                "malformed"
            };
            assert_eq!(words, [expected], "length byte {length} offload {offload}");
        }
    }
}

#[test]
fn headers_of_a_bundle_come_together_or_not_at_all() {
    let bundle = Bundle::of(IN, Mode::Tunnel, Headers::AhEsp, 0x1001);
    let esp_alone = Bundle { ah: None, ..bundle.clone() };
    let ah_alone = Bundle { esp: None, ..bundle.clone() };
    let other_esp = Bundle { esp: Some(gcm(0x5001)), ..bundle.clone() };
    for offload in [false, true] {
        let mut host = Host::full(offload);
        host.put(&bundle);
        let wire = [esp_alone.protect(&inner(1), 1, 0), ah_alone.protect(&inner(2), 0, 1), other_esp.protect(&inner(3), 1, 1), bundle.protect(&inner(4), 1, 1)];
        let received = host.receive(&wire);
        assert_eq!(received.words(), ["invalid-protocol", "invalid-protocol", "invalid-protocol", "delivered"], "offload {offload}");
        // Among hits the one whose first header it is wins.
        let same_spi = Bundle::new(IN, Mode::Tunnel, None, Some(sha256(0x1001)));
        host.put(&same_spi);
        let wire = [same_spi.protect(&inner(1), 0, 1), bundle.protect(&inner(4), 2, 2), esp_alone.protect(&inner(1), 7, 0)];
        assert_eq!(host.receive(&wire).words(), ["delivered", "delivered", "invalid-protocol"], "offload {offload}");
    }
}

#[test]
fn inbound_bundles_are_told_apart_by_every_association() {
    let host = Host::full(false);
    host.put(&Bundle::of(IN, Mode::Tunnel, Headers::AhEsp, 0x1001));
    for (headers, spi, taken) in [
        (Headers::Ah, 0x1001, true),
        (Headers::Esp, 0x1001, true),
        (Headers::AhEsp, 0x1000, false),
        (Headers::Esp, 0x1002, false),
        (Headers::Ah, 0x1003, false),
    ] {
        let added = host.transport.add_sa(Bundle::of(IN, Mode::Tunnel, headers, spi).parameters(), host.now);
        assert_eq!(added.is_err(), taken, "{headers:?} {spi:#x}");
    }
}

/// Each authenticated header's window moves after its own ICV was good, and only then; that of ESP is not looked at before AH was good and new.
#[test]
fn r_12_windows_of_a_bundle_move_each_by_its_own_icv() {
    let bundle = Bundle::of(IN, Mode::Tunnel, Headers::AhEsp, 0x1001);
    for offload in [false, true] {
        let mut host = Host::full(offload);
        host.put(&bundle);
        let good = bundle.protect(&inner(1), 1, 1);
        // ESP's ICV is wrong under an AH that is good: AH's window moves, ESP's does not.
        let forged = Bundle { esp: Some(common::bundle::Half { icv: 12, ..gcm(0x1001) }), ..bundle.clone() };
        let mut forged_esp = forged.protect(&inner(1), 500, 2);
        let at = forged_esp.len() - 1;
        forged_esp[at] ^= 1;
        let sa = bundle.ah_sa();
        sa.seal_packet(&ipsec::Crypto::default(), &mut forged_esp, 20, 2).unwrap();
        // AH's ICV is wrong: neither moves.
        let mut forged_ah = bundle.protect(&inner(1), 600, 600);
        forged_ah[40] ^= 1;
        let received = host.receive(&[forged_esp.clone(), forged_ah, good.clone(), forged_esp]);
        assert_eq!(received.words(), ["auth-failed", "auth-failed", "delivered", "replayed"], "offload {offload}");
        // The same AH number under another ESP number, and the reverse.
        let wire = [bundle.protect(&inner(2), 2, 1), bundle.protect(&inner(3), 1, 3), bundle.protect(&inner(4), 3, 3), bundle.protect(&inner(5), 3, 4)];
        assert_eq!(host.receive(&wire).words(), ["replayed", "replayed", "replayed", "delivered"], "offload {offload}");
        let sa = host.transport.sas()[0].clone();
        assert_eq!(sa.associations.iter().map(|association| association.sequence).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(sa.packets, 2);
    }
}

/// Windows against a set of what was seen: every kind of header, sizes from none to thousands, with and without extended numbers, duplicates everywhere.
#[test]
fn r_12_nothing_is_delivered_twice_under_any_window() {
    for headers in Headers::ALL {
        for window in [0_u32, 1, 31, 32, 64, 128, 4096] {
            for extended in [false, true] {
                let bundle = Bundle { window, ..Bundle::of(IN, Mode::Tunnel, headers, 0x1001) };
                let bundle = if extended { bundle.extended(0) } else { bundle };
                let start = u64::from(window) + 100;
                let order = [1, 1, 3, 2, 3, start, start - 1, start, start + 7, start + 7, start + 8, start - 1];
                let (mut highest, mut seen) = (0, std::collections::HashSet::new());
                let expected: Vec<_> = order
                    .iter()
                    .map(|&number| {
                        if window != 0 && number + u64::from(window) <= highest {
                            return "too-old";
                        }
                        highest = highest.max(number);
                        if seen.insert(number) || window == 0 { "delivered" } else { "replayed" }
                    })
                    .collect();
                let wire: Vec<_> = order.iter().map(|&number| bundle.protect(&inner(number as u32), number, number)).collect();
                // What is so old that it could be after a wrap has another number then, and is forged under that.
                if extended && expected.contains(&"too-old") {
                    continue;
                }
                for (offload, batch) in [(false, 64), (true, 64), (true, 1), (false, 1)] {
                    let mut host = Host::full(offload);
                    host.put(&bundle);
                    let words: Vec<_> = wire.chunks(batch).flat_map(|wire| host.receive(wire).words()).collect();
                    assert_eq!(words, expected, "{headers:?} window {window} extended {extended} offload {offload} batch {batch}");
                }
            }
        }
    }
}

/// whatever is wrong behind the ICV, a packet is dropped and nothing of it comes out; ESP that nobody authenticates is refused unless it is asked for.
#[test]
fn r_19_failures_tell_nothing_and_unauthenticated_esp_is_refused() {
    let cbc = common::bundle::Half { encryption: Encryption::AesCbc(AesKeySize::Aes128), icv: 0, ..gcm(0x1001) };
    let bare = Bundle::new(IN, Mode::Tunnel, Some(cbc), None);
    let host = Host::full(true);
    assert!(host.transport.add_sa(bare.parameters(), host.now).is_err());
    assert!(host.transport.add_sa(bare.toward(OUT).parameters(), host.now).is_err());
    let allowed = Bundle { allow_unauthenticated: true, ..bare };
    for offload in [false, true] {
        let mut host = Host::full(offload);
        host.put(&allowed);
        let good = allowed.protect(&inner(1), 1, 0);
        assert_eq!(host.receive(&[good]).delivered, [inner(1)]);
        for number in 2..50 {
            let mut packet = allowed.protect(&inner(1), number, 0);
            let at = packet.len() - 1 - (number as usize % 32);
            packet[at] ^= 1 << (number % 8);
            let received = host.receive(&[packet]);
            assert!(received.words()[0] != "passed" && received.delivered.iter().all(|packet| packet.len() == inner(1).len()), "offload {offload}");
        }
    }
    // With an ICV every damage is one and the same failure, wherever it is.
    let authenticated = Bundle::new(IN, Mode::Tunnel, Some(common::bundle::Half { authentication: Authentication::HmacSha256, ..cbc }), None);
    for offload in [false, true] {
        let mut host = Host::full(offload);
        host.put(&authenticated);
        let packet = authenticated.protect(&inner(1), 1, 0);
        for at in 28..packet.len() {
            let mut damaged = packet.clone();
            damaged[at] ^= 0x40;
            let received = host.receive(&[damaged]);
            assert_eq!((received.words(), received.delivered.len()), (vec!["auth-failed".to_owned()], 0), "byte {at}");
        }
        assert_eq!(host.receive(&[packet]).words(), ["delivered"]);
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

#[test]
fn dummies_go_between_packets_and_are_dropped_at_the_other_end() {
    for headers in [Headers::Esp, Headers::AhEsp, Headers::UdpEsp] {
        for mode in [Mode::Tunnel, Mode::Transport] {
            for every in [1, 3, 10] {
                for way in WAYS {
                    let flow = TrafficFlow { pad_to: 0, dummy_every: every };
                    let bundle = Bundle { traffic_flow: flow, ..Bundle::of(OUT, mode, headers, 0x1001) };
                    let bundle = if mode == Mode::Transport { bundle.between("10.0.1.1", "10.0.2.1") } else { bundle };
                    let sent = packets(false, 100);
                    let (host, peer, wire, received) = exchange(&[bundle], &sent, way);
                    let dummies = 100 / every;
                    assert_eq!(wire.len() as u32, 100 + dummies);
                    assert_eq!(received.delivered, sent);
                    let expected: Vec<_> =
                        (1..=100).flat_map(|number| [Some("delivered"), (number % every == 0).then_some("dummy")].into_iter().flatten()).collect();
                    assert_eq!(received.words(), expected, "{headers:?} {mode:?} {every} {way:?}");
                    let counts = host.transport.outbound();
                    assert_eq!((counts.seen.packets, counts.ended(), counts.dummies.packets), (100, 100, u64::from(dummies)));
                    assert_eq!(Host::dropped(&peer.transport.inbound()), [(DropReason::Dummy, u64::from(dummies))]);
                    // Numbers are in the order of the wire, and dummies look like what they follow.
                    assert!(received.sequences().is_sorted());
                    assert!(wire.iter().all(|packet| packet.len() == wire[0].len()));
                }
            }
        }
    }
}

#[test]
fn dummies_inside_and_around_nested_bundles() {
    for way in WAYS {
        let [mut tunnel, mut bundle] = nested(Headers::Esp, Headers::Esp, false, false);
        tunnel.traffic_flow.dummy_every = 2;
        bundle.traffic_flow.dummy_every = 3;
        let sent = packets(false, 60);
        let (host, _, wire, received) = exchange(&[tunnel, bundle], &sent, way);
        assert_eq!((wire.len(), host.transport.outbound().dummies.packets), (60 + 20 + 30, 50), "{way:?}");
        assert_eq!(received.delivered, sent);
        assert_eq!(received.words().iter().filter(|word| *word == "dummy").count(), 50);
    }
}

#[test]
fn dummies_that_a_nic_gives_back_are_sealed_or_forgotten() {
    let bundle = Bundle { traffic_flow: TrafficFlow { pad_to: 0, dummy_every: 1 }, ..Bundle::of(OUT, Mode::Tunnel, Headers::Esp, 0x1001) };
    let mut host = Host::full(true);
    host.put(&bundle);
    host.nic.script().fail_every = 2;
    let wire = host.send(&packets(false, 50));
    assert_eq!((wire.len(), host.transport.outbound().dummies.packets), (100 - 25 - host.transport.outbound().dropped_total().packets as usize, 25));
    host.nic.script().fail_every = 0;
    // The adapter does not run: packets wait, dummies do not.
    host.stack.reset_adapter(NIC).unwrap();
    assert!(host.send(&packets(false, 5)).is_empty());
    assert_eq!(host.lane.backlog(), 5);
}

#[test]
fn packets_of_a_tunnel_are_padded_to_one_length() {
    for headers in [Headers::Esp, Headers::AhEsp, Headers::UdpEsp] {
        for pad_to in [60, 100, 1400, 9000, 65_535] {
            for way in WAYS {
                let flow = TrafficFlow { pad_to, dummy_every: 4 };
                let bundle = Bundle { traffic_flow: flow, ..Bundle::of(OUT, Mode::Tunnel, headers, 0x1001) };
                let sent: Vec<_> = [0, 1, 20, 72, 500, 1300]
                    .iter()
                    .map(|&length| ip(address("10.0.1.1"), address("10.0.2.1"), IpProtocol::UDP, &vec![7; length]))
                    .chain([inner(7), inner(8)])
                    .collect();
                let (_, _, wire, received) = exchange(&[bundle], &sent, way);
                assert_eq!(received.delivered, sent, "{headers:?} {pad_to} {way:?}");
                assert_eq!(wire.len(), 10);
                if pad_to >= 1400 {
                    assert!(wire.iter().all(|packet| packet.len() == wire[0].len()), "{pad_to}: {:?}", wire.iter().map(Vec::len).collect::<Vec<_>>());
                    assert!(wire[0].len() >= usize::from(pad_to).min(65_000) && wire[0].len() <= 65_535);
                }
            }
        }
    }
}

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

/// What the NIC reports of each portion and header is what software finds of the same packet.
#[test]
fn damage_of_every_header_is_found_by_nic_and_software_alike() {
    for outer in Headers::ALL {
        for within in Headers::ALL {
            if (outer, within) == (Headers::UdpEsp, Headers::UdpEsp) {
                continue;
            }
            let [tunnel, bundle] = nested(outer, within, false, false);
            // Damage of what is inside comes in a tunnel that is good.
            let inside = bundle.protect(&inner(1), 1, 1);
            for at in [20, 24, 28, 32, 36, 40, 60, inside.len() - 1] {
                let mut damaged = inside.clone();
                damaged[at] ^= 0x55;
                compare(&tunnel, &bundle, &tunnel.protect(&damaged, 1, 1));
            }
            let whole = tunnel.protect(&inside, 1, 1);
            for at in (20..whole.len()).step_by(3) {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x55;
                compare(&tunnel, &bundle, &damaged);
            }
            // An inner packet of the other version than the tunnel announces.
            let mut disagrees = inside.clone();
            disagrees[0] = 0x65;
            let wire = tunnel.protect_payload(tunnel.source, tunnel.destination, &disagrees, 4, 1, 1);
            assert_eq!(compare(&tunnel, &bundle, &wire), (vec!["malformed".to_owned()], Some(CryptoStatus::GenericError)));
            let short = tunnel.protect_payload(tunnel.source, tunnel.destination, &[], 41, 1, 1);
            assert_eq!(compare(&tunnel, &bundle, &short).0, ["malformed"]);
        }
    }
}

fn compare(tunnel: &Bundle, bundle: &Bundle, wire: &[u8]) -> (Vec<String>, Option<CryptoStatus>) {
    let [by_nic, by_software] = [true, false].map(|offload| {
        let mut host = Host::full(offload);
        host.put_all(&[tunnel.toward(IN), bundle.toward(IN)]);
        let received = host.receive(&[wire.to_vec()]);
        assert!(received.passed.is_empty());
        host.assert_all_ended();
        // What was damaged has moved no window of a header behind it: the packet as it should be comes through or has been seen.
        (received.words(), received.delivered, received.verdicts[0].crypto_status)
    });
    assert_eq!((&by_nic.0, &by_nic.1), (&by_software.0, &by_software.1), "{:?}", by_nic.2);
    (by_nic.0, by_nic.2)
}

/// Each status that a NIC can report of each kind of bundle, with bytes that are as they came: what it refused is refused, what it could not make sense of is
/// looked at, and nothing is taken for good on a NIC's word that it is not.
#[test]
fn r_40_each_status_of_each_header_has_one_outcome() {
    use CryptoStatus::{
        GenericError, InvalidPacketSyntax, InvalidProtocol, TransportAhAuthFailed, TransportEspAuthFailed, TunnelAhAuthFailed, TunnelEspAuthFailed,
    };
    for headers in Headers::ALL {
        let bundle = Bundle::of(IN, Mode::Tunnel, headers, 0x1001);
        for (status, expected) in [
            (GenericError, "malformed"),
            (TransportAhAuthFailed, "auth-failed"),
            (TunnelAhAuthFailed, "auth-failed"),
            (TransportEspAuthFailed, "auth-failed"),
            (TunnelEspAuthFailed, "auth-failed"),
            (InvalidPacketSyntax, "delivered"),
            (InvalidProtocol, "delivered"),
        ] {
            let mut host = Host::full(true);
            host.put(&bundle);
            host.nic.script().report = Some(status);
            let packet = [bundle.protect(&inner(1), 1, 1)];
            let received = host.receive(&packet);
            assert_eq!(received.words(), [expected], "{headers:?} {status:?}");
            assert_eq!(received.verdicts[0].crypto_status, Some(status));
            host.nic.script().report = None;
            // AH that the NIC found good before ESP failed has moved its window, as in software.
            let ah_was_good = headers == Headers::AhEsp && matches!(status, GenericError | TransportEspAuthFailed | TunnelEspAuthFailed);
            let again = if expected == "delivered" || ah_was_good { "replayed" } else { "delivered" };
            assert_eq!(host.receive(&packet).words(), [again], "{headers:?} {status:?}");
        }
    }
}

#[test]
fn what_no_sa_is_about_is_passed_as_it_came() {
    let mut host = Host::new(&common::Setup { clear: ClearPolicy::PassAll, ..common::Setup::default() });
    let clear = [udp(A, B, 1), ip(address(A), address(B), IpProtocol::AH, &[0; 40]), ip(address(A), address(B), IpProtocol::ESP, &[0; 40])];
    assert_eq!(host.receive(&clear).passed, clear);
    assert_eq!(host.receive(&[ip(address(A), address(B), IpProtocol::AH, &[0; 11])]).words(), ["malformed"]);
}
