//! What becomes of received packets of every kind of bundle: damaged, repeated, with the wrong headers, and with every status of a NIC.

mod common;

use common::bundle::{Bundle, Headers, gcm, sha256};
use common::exchange::nested;
use common::{A, B, Host, address, inner, ip, udp};
use ipsec::{AesKeySize, Authentication, Encryption};
use ndis::{CryptoStatus, Direction};
use packet::IpProtocol;
use transport::{ClearPolicy, Mode};

const OUT: Direction = Direction::Outbound;
const IN: Direction = Direction::Inbound;

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

/// The same of the inner of two portions: the outer one is good, and is not asked about again.
#[test]
fn r_40_each_status_of_the_inner_portion_has_one_outcome() {
    for outer in Headers::ALL {
        for within in Headers::ALL {
            if (outer, within) == (Headers::UdpEsp, Headers::UdpEsp) {
                continue;
            }
            let [tunnel, bundle] = nested(outer, within, false, false);
            for status in CryptoStatus::ALL {
                let expected = match status {
                    CryptoStatus::Success => continue,
                    CryptoStatus::GenericError => "malformed",
                    CryptoStatus::InvalidPacketSyntax | CryptoStatus::InvalidProtocol => "delivered",
                    _ => "auth-failed",
                };
                let mut host = Host::full(true);
                let handles = host.put_all(&[tunnel.toward(IN), bundle.toward(IN)]);
                host.nic.script().report_inner = Some(status);
                let inside = bundle.protect(&inner(1), 1, 1);
                let received = host.receive(&[tunnel.protect(&inside, 1, 1)]);
                assert_eq!(received.words(), [expected], "{outer:?} {within:?} {status:?}");
                let verdict = &received.verdicts[0];
                assert_eq!((verdict.crypto_done, verdict.next_crypto_done, verdict.crypto_status), (true, true, Some(status)));
                assert!(host.transport.sa(handles[0]).unwrap().associations.iter().all(|association| association.sequence == 1), "the tunnel was good");
                host.nic.script().report_inner = None;
                let ah_was_good = within == Headers::AhEsp && !matches!(status, CryptoStatus::TransportAhAuthFailed | CryptoStatus::TunnelAhAuthFailed);
                let again = if expected == "delivered" || ah_was_good { "replayed" } else { "delivered" };
                assert_eq!(host.receive(&[tunnel.protect(&inside, 2, 2)]).words(), [again], "{outer:?} {within:?} {status:?}");
            }
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

/// AH that is good, and behind it less than an ESP packet: half a bundle delivers nothing.
#[test]
fn a_good_ah_over_too_little_esp_delivers_nothing() {
    let bundle = Bundle::of(IN, Mode::Tunnel, Headers::AhEsp, 0x1001);
    let ah_alone = Bundle { esp: None, ..bundle.clone() };
    for offload in [false, true] {
        for length in 0..40 {
            let mut esp = vec![0; length];
            let spi = 0x1001_u32.to_be_bytes();
            esp.iter_mut().zip(spi).for_each(|(byte, part)| *byte = part);
            let mut host = Host::full(offload);
            host.put(&bundle);
            let packet = ah_alone.protect_payload(bundle.source, bundle.destination, &esp, 50, 0, 1);
            let received = host.receive(&[packet]);
            let expected = match length {
                0..4 => "invalid-protocol",
                // Header, IV, trailer and ICV are 34 bytes.
                4..34 => "malformed",
                _ => "auth-failed",
            };
            assert_eq!((received.words(), received.delivered.len()), (vec![expected.to_owned()], 0), "{length} offload {offload}");
        }
    }
}

#[test]
fn packets_of_nothing_are_protected_sent_again_and_delivered() {
    for headers in Headers::ALL {
        for mode in [Mode::Transport, Mode::Tunnel] {
            let bundle = Bundle::of(Direction::Outbound, mode, headers, 0x1001);
            let bundle = if mode == Mode::Transport { bundle.between("10.0.1.1", "10.0.2.1") } else { bundle };
            let (mut host, mut peer) = (Host::full(true), Host::full(true));
            host.plain = true;
            host.put(&bundle);
            peer.put(&bundle.toward(IN));
            let sent = vec![ip(address("10.0.1.1"), address("10.0.2.1"), IpProtocol(253), &[]); 4];
            host.nic.script().fail_every = 2;
            host.nic.script().fail_offloaded_only = true;
            let wire = host.send(&sent);
            assert_eq!(peer.receive(&wire).delivered, sent, "{headers:?} {mode:?}");
            assert_eq!(host.transport.outbound().retried, 2);
        }
    }
}

/// An authentic packet that announces another header than it has is told as old if it is, whoever finds out.
#[test]
fn what_is_old_and_malformed_is_old() {
    for headers in Headers::ALL {
        let bundle = Bundle::of(IN, Mode::Tunnel, headers, 0x1001);
        let disagrees = |number| bundle.protect_payload(bundle.source, bundle.destination, &[0x60; 40], 4, number, number);
        for offload in [false, true] {
            let mut host = Host::full(offload);
            host.put(&bundle);
            let wire = [bundle.protect(&inner(1), 100, 100), disagrees(100), disagrees(7), disagrees(101)];
            assert_eq!(host.receive(&wire).words(), ["delivered", "replayed", "too-old", "malformed"], "{headers:?} offload {offload}");
        }
    }
}
