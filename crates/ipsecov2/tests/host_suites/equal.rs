//! Software and NIC make the same, and take the same off.

use std::fmt::Write as _;

use ndis::{CryptoStatus, Direction};
use transport::{DropReason, Verdict};

use crate::ends::{Ends, udp};
use crate::kinds::{Kind, ah_over_esp, ah_suites, esp_suites, shapes};

/// Sends packets of many lengths under a kind of SA by NIC and in software, and takes them off by both.
fn round_trip(kind: &Kind, lengths: &[usize]) {
    let name = kind.name();
    let sent: Vec<_> = lengths.iter().map(|&length| udp(kind.inner, length)).collect();
    let mut from = Ends::new(kind, Direction::Outbound);
    let wire = from.send(&sent);
    let counts = from.offload.transport().outbound();
    assert_eq!(counts.offloaded.packets, sent.len() as u64, "{name}: all by the NIC");
    assert_eq!(from.software.transport().outbound().software.packets, sent.len() as u64, "{name}");

    let mut to = Ends::new(kind, Direction::Inbound);
    let (delivered, verdicts) = to.receive(&wire);
    for (number, (sent, delivered)) in sent.iter().zip(&delivered).enumerate() {
        assert!(sent == delivered, "{name}: packet {number}\n{sent:02x?}\n{delivered:02x?}");
    }
    assert_eq!(delivered.len(), sent.len(), "{name}: {verdicts:?}");
    let nested = kind.bundles.len() == 2;
    let headers: usize = kind.bundles.iter().map(|bundle| bundle.specs.len()).sum();
    for verdict in verdicts {
        assert_eq!((verdict.crypto_done, verdict.next_crypto_done, verdict.crypto_status), (true, nested, Some(CryptoStatus::Success)), "{name}");
        assert_eq!((verdict.verdict, verdict.associations.len()), (Verdict::Delivered, headers), "{name}");
    }
    // Nothing arrives twice.
    let (delivered, verdicts) = to.receive(&wire);
    assert!(delivered.is_empty() && verdicts.iter().all(|verdict| verdict.verdict == Verdict::Dropped(DropReason::Replayed)), "{name}");
    for host in [&to.offload, &to.software] {
        let counts = host.transport().inbound();
        assert_eq!(counts.seen.packets, counts.ended(), "{name}");
    }
}

const LENGTHS: [usize; 24] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 31, 63, 100, 576, 1400, 8_900];
const FEW: [usize; 4] = [0, 7, 100, 1400];

#[test]
fn every_suite_of_esp() {
    for spec in esp_suites() {
        for kind in [Kind::tunnel(vec![spec]), Kind::transport(vec![spec])] {
            round_trip(&kind, &LENGTHS);
            round_trip(&kind.extended(7 << 32), &FEW);
        }
    }
}

#[test]
fn every_suite_of_ah() {
    for spec in ah_suites() {
        for kind in [Kind::tunnel(vec![spec]), Kind::transport(vec![spec])] {
            round_trip(&kind, &LENGTHS);
            round_trip(&kind.extended(7 << 32), &FEW);
        }
    }
}

#[test]
fn every_pairing_of_ah_over_esp() {
    for specs in ah_over_esp() {
        round_trip(&Kind::tunnel(specs.clone()), &FEW[1..2]);
        round_trip(&Kind::transport(specs).extended(0), &FEW[1..2]);
    }
}

#[test]
fn every_mode_and_version() {
    for kind in shapes() {
        round_trip(&kind, &FEW);
        round_trip(&kind.extended((3 << 32) + 17), &FEW[1..3]);
    }
}

/// One by one, a few at a time, all at once, and among packets of other SAs: the same bytes, with AH and extended numbers as well.
#[test]
fn r_07_batches_and_single_packets_are_the_same() {
    for kind in shapes().into_iter().map(|kind| kind.extended((1 << 32) + 5)) {
        let sent: Vec<_> = (0..70).map(|length| udp(kind.inner, length * 3)).collect();
        let at_once = Ends::new(&kind, Direction::Outbound).send(&sent);
        for size in [1, 7] {
            let mut ends = Ends::new(&kind, Direction::Outbound);
            let wire: Vec<_> = sent.chunks(size).flat_map(|chunk| ends.send(chunk)).collect();
            assert!(wire == at_once, "{}: {size} at a time", kind.name());
        }
        let mut to = [Ends::new(&kind, Direction::Inbound), Ends::new(&kind, Direction::Inbound)];
        let all = to[0].receive(&at_once).0;
        let single: Vec<_> = at_once.iter().flat_map(|packet| to[1].receive(core::slice::from_ref(packet)).0).collect();
        assert!(all == sent && single == sent, "{}", kind.name());
    }
}

/// What stood in buffers before is on no wire and in no packet: the same comes out of buffers full of one value and of another.
#[test]
fn r_28_old_memory_goes_nowhere() {
    for kind in shapes() {
        let sent: Vec<_> = [0, 5, 600].iter().map(|&length| udp(kind.inner, length)).collect();
        let mut outcomes = Vec::new();
        for poison in [0xaa, 0x55] {
            let (mut from, mut to) = (Ends::new(&kind, Direction::Outbound), Ends::new(&kind, Direction::Inbound));
            for host in [&mut from.offload, &mut from.software, &mut to.offload, &mut to.software] {
                let buffers: Vec<_> = (0..8)
                    .map(|_| {
                        let mut buffer = host.pool().take(1500);
                        let (front, back) = (buffer.headroom(), buffer.tailroom());
                        buffer.prepend(front).unwrap();
                        buffer.append(back).unwrap();
                        buffer.as_mut_slice().fill(poison);
                        buffer
                    })
                    .collect();
                for buffer in buffers {
                    host.pool().give(buffer);
                }
            }
            let wire = from.send(&sent);
            let delivered = to.receive(&wire).0;
            outcomes.push((wire, delivered));
        }
        assert!(outcomes[0] == outcomes[1], "{}", kind.name());
    }
}

/// No key byte in anything that can be shown: parameters, bundles, SAs, events, audit, errors.
#[test]
fn r_28_keys_are_shown_nowhere() {
    for kind in shapes() {
        let mut shown = String::new();
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for direction in [Direction::Outbound, Direction::Inbound] {
            let parameters = kind.parameters(direction, transport::OffloadPolicy::Prefer);
            let _ = write!(shown, "{parameters:?}");
            for association in parameters.iter().flat_map(|bundle| &bundle.associations) {
                keys.push(association.encryption_key.expose().to_vec());
                keys.push(association.authentication_key.expose().to_vec());
            }
            let mut ends = Ends::new(&kind, direction);
            let mut damaged = vec![udp(kind.inner, 9), vec![1; 40]];
            if direction == Direction::Inbound {
                damaged = Ends::new(&kind, Direction::Outbound).send(&damaged[..1]);
                let last = damaged[0].len() - 1;
                damaged[0][last] ^= 1;
                ends.receive(&damaged);
            }
            for host in [&ends.offload, &ends.software] {
                let transport = host.transport();
                let _ = write!(shown, "{:?}{:?}{:?}{:?}", transport.sas(), transport.take_events(), transport.take_audit(), host.nic_counters());
            }
            // And a wrong one.
            let mut wrong = kind.parameters(direction, transport::OffloadPolicy::Prefer);
            let association = &mut wrong[0].associations[0];
            let key = if association.encryption_key.is_empty() { &mut association.authentication_key } else { &mut association.encryption_key };
            *key = [key.expose(), &[1]].concat().into();
            let error = ends.software.add_sas(wrong, crate::ends::NOW).unwrap_err();
            let _ = write!(shown, "{error:?}{}", error.1);
        }
        for key in keys.iter().filter(|key| !key.is_empty()) {
            let hex = key.iter().take(6).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
            let list = key.iter().take(4).fold(String::new(), |text, byte| format!("{text}{byte}, "));
            assert!(!shown.contains(&hex) && !shown.contains(&list), "{}: {hex}", kind.name());
        }
    }
}
