//! Sequence numbers, IVs, replay windows, lifetimes: each number is spent once, whatever happens to the packet, and what is not certain the NIC does not get.

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use common::{Answer, Host, NIC, Received, Sa, Seen, Setup, inner};
use ndis::{CryptoStatus, Direction, Status};
use transport::{DropReason, Limits, OffloadReason, SaEventKind};

const OUT: Direction = Direction::Outbound;
const IN: Direction = Direction::Inbound;
const WRAP: u64 = 1 << 32;

fn packets(range: core::ops::Range<u32>) -> Vec<Vec<u8>> {
    range.map(inner).collect()
}

fn number(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[28..32].try_into().unwrap())
}

/// A host that receives what another sends under `sa`.
fn peer(sa: &Sa) -> Host {
    let host = Host::default();
    // The high half of the first packet's number.
    host.add(&Sa { direction: IN, last: sa.last + 1, ..sa.clone() });
    host
}

/// Every packet of `sent` came through, as it was, in order.
fn assert_through(received: &Received, sent: &[Vec<u8>]) {
    assert_eq!(received.words(), vec!["delivered"; sent.len()]);
    assert_eq!(received.delivered, sent);
}

#[test]
fn no_iv_comes_twice_over_offload_software_failures_resets_backlog_removal_and_readding() {
    for esn in [false, true] {
        let sa = if esn { Sa::tunnel(OUT).esn(WRAP - 400) } else { Sa::tunnel(OUT) };
        let sa = Sa { window: 4096, ..sa };
        let (mut host, mut peer) = (Host::default(), peer(&sa));
        let out = host.add(&sa);
        let mut wire = Vec::new();
        let mut next = 0;
        // `Host::inspect` looks at every IV that leaves.
        let mut send = |host: &mut Host, wire: &mut Vec<Vec<u8>>, count: u32| {
            wire.extend(host.send(&packets(next..next + count)));
            next += count;
        };
        send(&mut host, &mut wire, 100);
        host.nic.script().fail_every = 3;
        host.nic.script().fail_offloaded_only = true;
        send(&mut host, &mut wire, 100);
        host.nic.script().fail_every = 0;
        // Off, noticed by the NIC first.
        host.nic.set_config(|config| config.ipsec_v2.esp = false);
        send(&mut host, &mut wire, 100);
        wire.extend(host.service());
        send(&mut host, &mut wire, 100);
        host.nic.set_config(|config| config.ipsec_v2.esp = true);
        wire.extend(host.service());
        assert_eq!(host.reason(out), OffloadReason::Offloaded);
        send(&mut host, &mut wire, 100);
        wire.extend(host.service());
        send(&mut host, &mut wire, 100);
        // Held by the NIC through a reset, with a backlog behind.
        host.nic.script().hold_sends = true;
        send(&mut host, &mut wire, 50);
        host.nic.script().hold_reset = true;
        host.stack.reset_adapter(NIC).unwrap();
        send(&mut host, &mut wire, 50);
        host.nic.script().hold_sends = false;
        wire.extend(host.service());
        host.nic.end_reset();
        host.nic.script().hold_reset = false;
        wire.extend(host.service());
        send(&mut host, &mut wire, 100);
        // Gone, and another there.
        host.nic.script().hold_sends = true;
        send(&mut host, &mut wire, 50);
        host.stack.surprise_remove(NIC).unwrap();
        wire.extend(host.service());
        send(&mut host, &mut wire, 50);
        host.nic.script().hold_sends = false;
        host.stack.add_adapter(NIC, Arc::new(common::Driver(Arc::clone(&host.nic)))).unwrap();
        host.stack.bind(Arc::new(host.transport.clone()), NIC).unwrap();
        host.path = host.stack.open_datapath(NIC).unwrap();
        wire.extend(host.service());
        send(&mut host, &mut wire, 100);
        wire.extend(host.service());

        assert_eq!(wire.len() as u32, next, "lost");
        host.assert_all_ended();
        let counts = host.transport.outbound();
        assert_eq!(counts.dropped_total().packets, 0);
        assert!(counts.offloaded.packets >= 300 && counts.software.packets >= 300 && counts.retried >= 100, "{counts:?}");
        let received = peer.receive(&wire);
        assert_eq!(received.words(), vec!["delivered"; next as usize]);
        let mut numbers: Vec<_> = received.delivered.iter().map(|packet| number(packet)).collect();
        assert!(received.delivered.iter().all(|packet| *packet == inner(number(packet))));
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..next), "each came once");
    }
}

#[test]
fn what_comes_back_is_sent_after_the_others_under_later_numbers() {
    let mut host = Host::default();
    let sa = Sa::tunnel(OUT);
    host.add(&sa);
    host.nic.script().fail_every = 4;
    host.nic.script().fail_offloaded_only = true;
    let wire = host.send(&packets(0..16));
    let numbers: Vec<u32> = wire.iter().map(|packet| u32::from_be_bytes(packet[24..28].try_into().unwrap())).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!(numbers[12..], [17, 18, 19, 20]);
    let received = peer(&sa).receive(&wire);
    assert_eq!(received.delivered.iter().map(|packet| number(packet)).collect::<Vec<_>>(), [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15]);
}

#[test]
fn extended_numbers_cross_the_wrap_whoever_seals_and_opens() {
    for last in [WRAP - 1, WRAP - 2, WRAP - 40, WRAP + 7, 5 * WRAP - 1, WRAP / 2 - 3] {
        for (seals, opens) in [(true, true), (true, false), (false, true), (false, false)] {
            let sa = Sa::tunnel(OUT).esn(last);
            let (mut host, mut peer) = (Host::default(), peer(&sa));
            host.add(&sa);
            for (host, offloads) in [(&mut host, seals), (&mut peer, opens)] {
                host.nic.set_config(|config| config.ipsec_v2.esp = offloads);
                host.service();
            }
            for batch in 0..6 {
                let sent = packets(batch * 20..batch * 20 + 20);
                let wire = host.send(&sent);
                let received = peer.receive(&wire);
                assert_through(&received, &sent);
                let first = last + 1 + u64::from(batch) * 20;
                assert_eq!(received.sequences(), (first..first + 20).collect::<Vec<_>>());
                host.service();
                peer.service();
            }
            if seals && opens && last % WRAP > WRAP - 100 {
                let crossed = u64::from(last % WRAP != WRAP - 1);
                assert_eq!(host.transport.offload_counts().updated, crossed, "UPDATE_SA from {last:#x}");
            }
            if seals {
                assert!(host.transport.outbound().offloaded.packets >= 80, "the NIC goes on after the wrap");
            }
            if opens {
                assert!(peer.transport.inbound().offloaded.packets >= 80, "the NIC goes on after the wrap");
            }
        }
    }
}

#[test]
fn a_first_batch_across_the_wrap_is_understood_in_its_order() {
    // Nothing was verified before it, so the first packet's high half is all there is to begin with.
    for software in [true, false] {
        let sa = Sa { direction: IN, ..Sa::tunnel(IN) }.esn(WRAP);
        let mut host = Host::default();
        host.add(&sa);
        let wire: Vec<_> = (2 * WRAP - 3..2 * WRAP + 30).map(|sequence| sa.seal_packet(sequence, &inner(sequence as u32), 4)).collect();
        let received = if software { host.receive_in_software(&wire) } else { host.receive(&wire) };
        assert_eq!(received.words(), vec!["delivered"; 33]);
        assert_eq!(received.sequences(), (2 * WRAP - 3..2 * WRAP + 30).collect::<Vec<_>>());
        let again = host.receive(&wire);
        assert_eq!(again.words(), vec!["replayed"; 33]);
    }
}

#[test]
fn packets_reordered_around_the_wrap_come_through_once() {
    for software in [true, false] {
        let sa = Sa::tunnel(IN).esn(0);
        let mut host = Host::default();
        host.add(&sa);
        let seal = |sequence: u64| sa.seal_packet(sequence, &inner(sequence as u32), 4);
        let order = [WRAP - 5, WRAP - 3, WRAP + 2, WRAP - 4, WRAP, WRAP - 1, WRAP + 1, WRAP - 2, WRAP + 40, WRAP + 3, WRAP - 20];
        let wire: Vec<_> = order.into_iter().map(seal).collect();
        for (at, packet) in wire.iter().enumerate() {
            let packet = core::slice::from_ref(packet);
            let received = if software { host.receive_in_software(packet) } else { host.receive(packet) };
            assert_eq!((received.words(), received.sequences()), (vec!["delivered".to_owned()], vec![order[at]]), "{at} software {software}");
            if at == 6 {
                host.service();
            }
        }
        let again = host.receive(&wire);
        assert_eq!(again.words(), vec!["replayed"; wire.len()]);
    }
}

#[test]
fn a_nic_that_begins_anew_just_before_the_wrap_loses_nothing_of_what_comes_after() {
    let sa = Sa::tunnel(IN).esn(0);
    let mut host = Host::default();
    let handle = host.add(&sa);
    let seal = |sequence: u64| sa.seal_packet(sequence, &inner(sequence as u32), 4);
    assert_eq!(host.receive(&[seal(WRAP - 5)]).words(), ["delivered"]);
    host.stack.reset_adapter(NIC).unwrap();
    host.service();
    assert_eq!(host.reason(handle), OffloadReason::Offloaded);
    // To the NIC the first number's high half is that of the last number before.
    let received = host.receive(&[seal(WRAP + 3)]);
    assert_eq!(received.verdicts[0].crypto_status, Some(CryptoStatus::TransportEspAuthFailed));
    assert_eq!((received.words(), received.sequences()), (vec!["delivered".to_owned()], vec![WRAP + 3]));
    assert_eq!(host.transport.inbound().software.packets, 1);
    host.service();
    assert_eq!(host.receive(&[seal(WRAP + 4), seal(WRAP - 4)]).words(), ["delivered"; 2]);
    assert_eq!(host.transport.inbound().software.packets, 1, "the NIC was told, and is with the numbers again");
}

#[test]
fn an_old_packet_that_the_nic_takes_for_itself_is_not_taken_for_a_new_one() {
    // The numbers are in the upper half of their 2^32; the NIC gets the SA anew, and so knows no more than their high half. An old packet of the lower
    // half is good to it, and by its low half could be one after the wrap.
    let sa = Sa::tunnel(IN).esn(WRAP);
    let mut host = Host::default();
    let handle = host.add(&sa);
    let seal = |sequence: u64| sa.seal_packet(sequence, &inner(sequence as u32), 4);
    let old = seal(WRAP + 0x10);
    assert_eq!(host.receive(core::slice::from_ref(&old)).words(), ["delivered"]);
    assert_eq!(host.receive(&[seal(WRAP + 0x7000_0000)]).words(), ["delivered"]);
    assert_eq!(host.receive(&[seal(WRAP + 0xd000_0000)]).words(), ["delivered"]);
    host.stack.reset_adapter(NIC).unwrap();
    host.service();
    assert_eq!(host.reason(handle), OffloadReason::Offloaded);
    let received = host.receive(core::slice::from_ref(&old));
    assert_eq!((received.words(), received.delivered.len()), (vec!["auth-failed".to_owned()], 0));
    assert_eq!(received.verdicts[0].crypto_status, Some(CryptoStatus::Success), "the NIC found nothing wrong with it");
    // The window has not moved.
    assert_eq!(host.receive(&[seal(WRAP + 0xd000_0001)]).words(), ["delivered"]);
    // A packet that really is after the wrap is proved to be.
    assert_eq!(host.receive(&[seal(2 * WRAP + 5)]).words(), ["delivered"]);
}

#[test]
fn an_old_packet_of_an_sa_with_32_bit_numbers_is_too_old_whoever_opens_it() {
    let sa = Sa::tunnel(IN);
    let mut host = Host::default();
    host.add(&sa);
    let seal = |sequence: u64| sa.seal_packet(sequence, &inner(sequence as u32), 4);
    let wire = [seal(1000), seal(1), seal(936), seal(937), seal(937)];
    for _ in 0..2 {
        let received = host.receive(&wire);
        assert_eq!(received.words()[1..], ["too-old", "too-old", received.words()[3].as_str(), "replayed"]);
        assert_eq!(received.sequences(), [1000, 1, 936, 937, 937]);
    }
    assert_eq!(host.transport.inbound().offloaded.packets, 2);
    assert_eq!(host.receive_in_software(&wire).words(), ["replayed", "too-old", "too-old", "replayed", "replayed"]);
}

/// Windows against the definition, within one batch and over many, with duplicates; the NIC's and software's verdicts are the same.
#[test]
fn windows_of_all_sizes_do_what_they_say() {
    for window in [0_u32, 32, 33, 64, 100, 128, 1024, 4096, 10_000] {
        for esn in [false, true] {
            let sa = Sa { window, ..if esn { Sa::tunnel(IN).esn(0) } else { Sa::tunnel(IN) } };
            let start = u64::from(window) + 50;
            let mut order = vec![1, 2, 2, 3, 1, start, start, start - u64::from(window) + 1, start - u64::from(window) + 1];
            if !esn {
                order.push(start - u64::from(window));
            }
            order.extend([start + 1, start - 1, start + 1, start - 1, start + 500, start + 500]);
            let wire: Vec<_> = order.iter().map(|&sequence| sa.seal_packet(sequence, &inner(sequence as u32), 4)).collect();
            let (mut seen, mut highest) = (HashSet::new(), 0);
            let expected: Vec<_> = order
                .iter()
                .map(|&sequence| {
                    if window != 0 && highest >= sequence + u64::from(window) {
                        return "too-old";
                    }
                    highest = highest.max(sequence);
                    if seen.insert(sequence) || window == 0 { "delivered" } else { "replayed" }
                })
                .collect();
            for (offload, batch) in [(true, 1), (true, 64), (false, 1), (false, 64)] {
                let mut host = Host::default();
                host.add(&sa);
                let words: Vec<_> =
                    wire.chunks(batch).flat_map(|wire| if offload { host.receive(wire).words() } else { host.receive_in_software(wire).words() }).collect();
                assert_eq!(words, expected, "window {window} esn {esn} offload {offload} batch {batch}");
            }
        }
    }
}

#[test]
fn number_zero_is_refused() {
    let sa = Sa::tunnel(IN);
    let mut host = Host::default();
    host.add(&sa);
    let zero = [sa.seal_packet(0, &inner(0), 4)];
    assert_eq!(host.receive(&zero).words(), ["replayed"]);
    assert_eq!(host.receive_in_software(&zero).words(), ["replayed"]);
}

#[test]
fn forged_packets_do_not_move_the_window() {
    for software in [true, false] {
        for esn in [false, true] {
            let sa = if esn { Sa::tunnel(IN).esn(0) } else { Sa::tunnel(IN) };
            let mut host = Host::default();
            host.add(&sa);
            let good = |sequence: u64| sa.seal_packet(sequence, &inner(sequence as u32), 4);
            let mut forged = good(5_000_000);
            *forged.last_mut().unwrap() ^= 1;
            let wire = [good(1), forged.clone(), good(2), forged, good(3)];
            let received = if software { host.receive_in_software(&wire) } else { host.receive(&wire) };
            assert_eq!(received.words(), ["delivered", "auth-failed", "delivered", "auth-failed", "delivered"], "software {software} esn {esn}");
        }
    }
}

#[test]
fn numbers_of_32_bits_end_and_never_begin_again() {
    // With and without limits, which are counted in another way.
    for (offload, hard) in [(true, None), (false, None), (true, Some(1000))] {
        let mut host = Host::default();
        let sa = host.add(&Sa { last: u64::from(u32::MAX) - 10, hard: Limits { packets: hard, ..Limits::NONE }, ..Sa::tunnel(OUT) });
        host.nic.set_config(|config| config.ipsec_v2.esp = offload);
        host.service();
        let wire = host.send(&packets(0..25));
        assert_eq!(wire.len(), 10);
        let numbers: Vec<u32> = wire.iter().map(|packet| u32::from_be_bytes(packet[24..28].try_into().unwrap())).collect();
        assert!(numbers.into_iter().eq(u32::MAX - 9..=u32::MAX), "each of the last is of use");
        host.service();
        assert_eq!(host.events(), [SaEventKind::SoftExpired, SaEventKind::SequenceExhausted]);
        assert_eq!((host.reason(sa), host.nic.held()), (OffloadReason::Expired, 0));
        assert!(host.send(&packets(0..10)).is_empty());
        host.service();
        assert_eq!(host.events(), []);
        assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::SequenceExhausted, 25)]);
        assert_eq!((host.transport.sa(sa).unwrap().packets, host.transport.sa(sa).unwrap().sequence), (10, u64::from(u32::MAX)));
        host.assert_all_ended();
    }
}

#[test]
fn the_owner_hears_at_nine_tenths_once_and_at_the_last_number_at_once() {
    let limit = u64::from(u32::MAX);
    let mut host = Host::default();
    host.add(&Sa { last: limit / 10 * 9 - 3, ..Sa::tunnel(OUT) });
    host.send(&packets(0..2));
    host.service();
    assert_eq!(host.events(), []);
    host.send(&packets(0..2));
    host.send(&packets(0..2));
    host.service();
    assert_eq!(host.events(), [SaEventKind::SoftExpired]);
    let mut host = Host::default();
    host.add(&Sa { last: limit - 1, ..Sa::tunnel(OUT) });
    assert_eq!(host.send(&packets(0..1)).len(), 1);
    host.service();
    assert_eq!(host.events(), [SaEventKind::SoftExpired, SaEventKind::SequenceExhausted]);
}

#[test]
fn a_packet_that_comes_back_when_the_numbers_are_used_up_ends() {
    let mut host = Host::default();
    host.add(&Sa { last: u64::from(u32::MAX) - 4, ..Sa::tunnel(OUT) });
    host.nic.script().fail_every = 1;
    host.nic.script().fail_offloaded_only = true;
    assert!(host.send(&packets(0..4)).is_empty());
    assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::SequenceExhausted, 4)]);
    host.assert_all_ended();
}

#[test]
fn the_nic_gets_no_number_that_it_would_take_for_another() {
    // Added while ADD_SA is pending, the numbers wrap in software: the NIC knows the old high half, and would seal under numbers that were used.
    let mut host = Host::default();
    host.nic.script().add = Answer::Pend;
    let sa = Sa::tunnel(OUT).esn(WRAP - 20);
    let (handle, mut peer) = (host.add(&sa), peer(&sa));
    let mut wire = host.send(&packets(0..40));
    host.nic.answer_kept(Status::SUCCESS);
    wire.extend(host.service());
    assert_eq!(host.reason(handle), OffloadReason::Offloaded);
    wire.extend(host.send(&packets(40..60)));
    assert_eq!(host.transport.outbound().offloaded.packets, 0, "not before UPDATE_SA");
    host.nic.script().add = Answer::Take;
    wire.extend(host.service());
    wire.extend(host.send(&packets(60..80)));
    assert_eq!(host.transport.outbound().offloaded.packets, 20);
    assert_through(&peer.receive(&wire), &packets(0..80));
}

#[test]
fn a_nic_that_takes_no_updates_gets_the_sa_anew() {
    for answer in [Answer::Refuse(Status::NOT_SUPPORTED), Answer::Pend] {
        let mut host = Host::default();
        let sa = Sa::tunnel(OUT).esn(WRAP - 20);
        let (handle, mut peer) = (host.add(&sa), peer(&sa));
        host.nic.script().update = answer;
        host.nic.take_seen();
        let mut wire = host.send(&packets(0..40));
        wire.extend(host.service());
        if answer == Answer::Pend {
            assert_eq!(host.nic.kept(), 1);
            host.nic.answer_kept(Status::INVALID_PARAMETER);
            host.service();
        }
        assert_eq!(host.nic.take_seen(), [Seen::Update(1), Seen::Delete(1), Seen::AddEx(OUT)]);
        assert_eq!((host.reason(handle), host.transport.offload_counts().updated), (OffloadReason::Offloaded, 0));
        let before = host.transport.outbound().offloaded.packets;
        wire.extend(host.send(&packets(40..60)));
        assert_eq!(host.transport.outbound().offloaded.packets - before, 20);
        assert_through(&peer.receive(&wire), &packets(0..60));
    }
}

#[test]
fn a_pended_update_counts_when_it_is_answered() {
    let mut host = Host::default();
    host.nic.script().update = Answer::DoAndPend;
    host.add(&Sa::tunnel(OUT).esn(WRAP - 20));
    host.send(&packets(0..40));
    host.transport.service(host.now);
    assert_eq!(host.transport.offload_counts().updated, 0);
    host.service();
    assert_eq!(host.transport.offload_counts().updated, 1);
}

#[test]
fn limits_of_packets_and_bytes_carry_exactly_what_they_say() {
    let length = inner(0).len() as u64;
    for (soft, hard) in [
        (Limits { packets: Some(5), ..Limits::NONE }, Limits { packets: Some(8), ..Limits::NONE }),
        (Limits { bytes: Some(5 * length), ..Limits::NONE }, Limits { bytes: Some(8 * length + 3), ..Limits::NONE }),
    ] {
        for mode in [Sa::tunnel, Sa::transport] {
            let mut host = Host::default();
            let sa = Sa { soft, hard, ..mode(OUT) };
            let packet = |number| if sa.mode == transport::Mode::Tunnel { inner(number) } else { common::udp(common::A, common::B, number) };
            let handle = host.add(&sa);
            let mut peer = Host::default();
            let inward = peer.add(&Sa { direction: IN, ..sa.clone() });
            let mut wire = host.send(&(0..4).map(packet).collect::<Vec<_>>());
            host.service();
            assert_eq!(host.events(), []);
            wire.extend(host.send(&(4..7).map(packet).collect::<Vec<_>>()));
            host.service();
            assert_eq!(host.events(), [SaEventKind::SoftExpired]);
            wire.extend(host.send(&(7..12).map(packet).collect::<Vec<_>>()));
            host.service();
            assert_eq!((wire.len(), host.events()), (8, vec![SaEventKind::HardExpired]));
            wire.extend(host.send(&(12..14).map(packet).collect::<Vec<_>>()));
            assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::Expired, 6)]);
            let status = host.transport.sa(handle).unwrap();
            assert_eq!((status.packets, status.bytes, status.offload), (8, 8 * length, OffloadReason::Expired));
            assert_eq!(host.nic.held(), 0);
            // The other end counts the same, in what it takes out.
            let (payload, next_header) = if sa.mode == transport::Mode::Tunnel { (inner(9), 4) } else { (inner(9)[20..].to_vec(), 17) };
            wire.push(sa.seal_packet(50, &payload, next_header));
            wire.push(wire[0].clone());
            let received = peer.receive(&wire);
            assert_eq!(received.words()[..8], ["delivered"; 8]);
            assert_eq!(received.words()[8..], ["expired", "replayed"]);
            peer.service();
            assert_eq!(peer.events(), [SaEventKind::SoftExpired, SaEventKind::HardExpired]);
            let status = peer.transport.sa(inward).unwrap();
            assert_eq!((status.packets, status.bytes, status.offload), (8, 8 * length, OffloadReason::Expired));
            host.assert_all_ended();
            peer.assert_all_ended();
        }
    }
}

#[test]
fn packets_that_are_not_carried_count_for_no_lifetime_and_spend_no_number() {
    let mut host = Host::default();
    let sa = host.add(&Sa { hard: Limits { packets: Some(3), ..Limits::NONE }, ..Sa::transport(OUT) });
    let good = common::udp(common::A, common::B, 1);
    let mut fragment = good.clone();
    fragment[6] = 0x20;
    let huge = common::ip(common::address(common::A), common::address(common::B), packet::IpProtocol::UDP, &vec![0; 65_500]);
    let wire = host.send(&[fragment.clone(), huge, good.clone(), fragment, good.clone(), good.clone(), good]);
    assert_eq!(wire.len(), 3);
    assert_eq!((host.transport.sa(sa).unwrap().packets, host.transport.sa(sa).unwrap().sequence), (3, 3));
    assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::Fragment, 2), (DropReason::Expired, 1), (DropReason::TooBig, 1)]);
    host.assert_all_ended();
}

#[test]
fn limits_of_time_end_sas_with_and_without_traffic() {
    let soft = Limits { time: Some(Duration::from_secs(10)), ..Limits::NONE };
    let hard = Limits { time: Some(Duration::from_secs(20)), ..Limits::NONE };
    for traffic in [true, false] {
        let mut host = Host::default();
        let sa = host.add(&Sa { soft, hard, ..Sa::tunnel(OUT) });
        let mut carried = Vec::new();
        let mut events = Vec::new();
        for _ in 0..25 {
            host.wait(Duration::from_millis(999));
            if traffic {
                carried.push(host.send(&packets(0..1)).len());
                host.service();
            } else {
                host.transport.tick(host.now);
            }
            host.wait(Duration::from_millis(1));
            events.extend(host.events());
        }
        assert_eq!(events, [SaEventKind::SoftExpired, SaEventKind::HardExpired]);
        assert_eq!((host.reason(sa), host.nic.held()), (OffloadReason::Expired, 0));
        if traffic {
            assert_eq!(carried.iter().sum::<usize>(), 20);
        } else {
            assert!(host.send(&packets(0..1)).is_empty());
        }
        host.assert_all_ended();
    }
}

#[test]
fn many_sas_are_added_and_removed_in_little_time() {
    const SAS: u32 = 100_000;
    let begin = std::time::Instant::now();
    let mut host = Host::new(&Setup { capacity: 1000, sas: SAS as usize, ..Setup::default() });
    let sas: Vec<_> = (0..SAS).map(|number| host.add(&Sa::tunnel(if number % 2 == 0 { OUT } else { IN }).spi(0x1000 + number))).collect();
    assert_eq!(host.nic.held(), 1000);
    assert_eq!(host.send(&packets(0..1)).len(), 1);
    host.transport.tick(host.now);
    for sa in sas {
        assert!(host.transport.remove_sa(sa));
    }
    assert_eq!(host.nic.held(), 0);
    assert_eq!(host.transport.offload_counts().added, 100_000, "each had its turn as others went");
    // In an optimised build a second or so; the square of this number would be minutes.
    assert!(begin.elapsed() < Duration::from_mins(1), "{:?}", begin.elapsed());
}
