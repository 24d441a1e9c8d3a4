//! Extended numbers of bundles and of nested bundles, across the wrap of the low half, whoever does the cryptography and whenever the NIC hears of it.

mod common;

use common::bundle::{Bundle, Headers};
use common::{Answer, Host, NIC, Seen, inner};
use ndis::{CryptoStatus, Direction, Status};
use transport::{DropReason, Mode, OffloadReason, Verdict};

const OUT: Direction = Direction::Outbound;
const IN: Direction = Direction::Inbound;
const WRAP: u64 = 1 << 32;
const WAYS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

fn packets(range: core::ops::Range<u32>) -> Vec<Vec<u8>> {
    range.map(inner).collect()
}

/// Bundles (tunnel first) of these headers, whose numbers go on after `last`.
fn bundles(outer: Headers, within: Option<Headers>, last: u64) -> Vec<Bundle> {
    let tunnel = Bundle { window: 256, ..Bundle::of(OUT, Mode::Tunnel, outer, 0x1001) }.extended(last);
    let mut all = vec![tunnel.clone()];
    if let Some(within) = within {
        let bundle = Bundle { window: 256, ..Bundle::of(OUT, Mode::Transport, within, 0x2001) };
        all.push(bundle.between("10.0.1.1", "10.0.2.1").extended(last).within(&tunnel));
    }
    all
}

fn shapes() -> Vec<(Headers, Option<Headers>)> {
    let alone = Headers::ALL.into_iter().map(|headers| (headers, None));
    let nested = [
        (Headers::Esp, Some(Headers::Esp)),
        (Headers::AhEsp, Some(Headers::AhEsp)),
        (Headers::Ah, Some(Headers::Ah)),
        (Headers::UdpEsp, Some(Headers::AhEsp)),
        (Headers::AhEsp, Some(Headers::UdpEsp)),
    ];
    alone.chain(nested).collect()
}

fn inward(bundles: &[Bundle]) -> Vec<Bundle> {
    bundles.iter().map(|bundle| bundle.toward(IN)).collect()
}

fn protect(bundles: &[Bundle], number: u64) -> Vec<u8> {
    bundles.iter().rev().fold(inner(number as u32), |packet, bundle| bundle.protect(&packet, number, number))
}

#[test]
fn every_shape_crosses_the_wrap_both_ways() {
    for (outer, within) in shapes() {
        for last in [WRAP - 1, WRAP - 30, 3 * WRAP - 25, WRAP + 7] {
            for (seals, opens) in WAYS {
                let bundles = bundles(outer, within, last);
                let (mut host, mut peer) = (Host::full(seals), Host::full(opens));
                host.plain = true;
                host.put_all(&bundles);
                peer.put_all(&inward(&bundles));
                for batch in 0..4 {
                    let sent = packets(batch * 20..batch * 20 + 20);
                    let wire = host.send(&sent);
                    let received = peer.receive(&wire);
                    assert_eq!(received.words(), vec!["delivered"; 20], "{outer:?} {within:?} {last:#x} {seals} {opens}");
                    assert_eq!(received.delivered, sent);
                    let first = last + 1 + u64::from(batch) * 20;
                    assert_eq!(received.sequences(), (first..first + 20).collect::<Vec<_>>());
                    host.service();
                    peer.service();
                }
                let associations: u64 = bundles.iter().map(|bundle| u64::from(bundle.esp.is_some()) + u64::from(bundle.ah.is_some())).sum();
                for (offloads, host) in [(seals, &host), (opens, &peer)] {
                    let crosses = last % WRAP > WRAP - 40 && last % WRAP != WRAP - 1;
                    let updates = if offloads && crosses { associations } else { 0 };
                    assert_eq!(host.transport.offload_counts().updated, updates, "one for each association");
                }
                // What lies between the wrap and the NIC's answer is software's, and no more.
                if seals {
                    assert!(host.transport.outbound().offloaded.packets >= 40, "{outer:?} {within:?} {last:#x}");
                }
                if opens {
                    assert!(peer.transport.inbound().offloaded.packets >= 60, "{outer:?} {within:?} {last:#x}");
                }
            }
        }
    }
}

/// a NIC that hears late, in another order, twice or never changes nothing about the packets; what it cannot know is done in software.
#[test]
fn r_08_updates_late_reordered_repeated_or_refused_change_nothing() {
    for (outer, within) in shapes() {
        for answer in [Answer::Take, Answer::DoAndPend, Answer::Pend, Answer::Refuse(Status::INVALID_PARAMETER)] {
            let bundles = bundles(outer, within, WRAP - 30);
            let (mut host, mut peer) = (Host::full(true), Host::full(true));
            host.plain = true;
            let handles = host.put_all(&bundles);
            peer.put_all(&inward(&bundles));
            host.nic.script().update = answer;
            peer.nic.script().update = answer;
            let mut next = 0;
            let mut pass = |host: &mut Host, peer: &mut Host, count: u32| {
                let sent = packets(next..next + count);
                next += count;
                let received = peer.receive(&host.send(&sent));
                assert_eq!(received.words(), vec!["delivered"; count as usize], "{outer:?} {within:?} {answer:?}");
            };
            pass(&mut host, &mut peer, 60);
            // Asked for once, however often there is service.
            for _ in 0..3 {
                host.service();
                peer.service();
            }
            pass(&mut host, &mut peer, 40);
            if answer == Answer::Pend {
                let updates = host.nic.take_seen().into_iter().filter(|seen| matches!(seen, Seen::Update(_))).count();
                let associations: usize = bundles.iter().map(|bundle| usize::from(bundle.esp.is_some()) + usize::from(bundle.ah.is_some())).sum();
                assert_eq!((updates, host.nic.kept()), (associations, associations));
                // Answered the other way round than asked, and only now.
                host.nic.reverse_kept();
                peer.nic.reverse_kept();
                host.nic.answer_kept(Status::SUCCESS);
                peer.nic.answer_kept(Status::SUCCESS);
            }
            for _ in 0..3 {
                host.service();
                peer.service();
            }
            let before = host.transport.outbound().offloaded.packets;
            pass(&mut host, &mut peer, 40);
            assert_eq!(host.transport.outbound().offloaded.packets, before + 40, "the NIC is with the numbers again: {outer:?} {within:?} {answer:?}");
            assert!(handles.iter().all(|&handle| host.reason(handle) == OffloadReason::Offloaded));
            host.assert_all_ended();
            peer.assert_all_ended();
        }
    }
}

/// what a NIC opened under another number than the transport infers is not believed: old packets are not taken for new ones, and move no window.
#[test]
fn r_10_what_the_nic_opened_under_another_number_is_dropped() {
    for (outer, within) in shapes() {
        let bundles = inward(&bundles(outer, within, WRAP));
        let mut host = Host::full(true);
        let handles = host.put_all(&bundles);
        let seal = |number: u64| protect(&bundles, number);
        let old = seal(WRAP + 0x10);
        for number in [WRAP + 0x10, WRAP + 0x7000_0000, WRAP + 0xd000_0000] {
            let packet = if number == WRAP + 0x10 { old.clone() } else { seal(number) };
            assert_eq!(host.receive(&[packet]).words(), ["delivered"], "{outer:?} {within:?} {number:#x}");
        }
        // The NIC begins anew, and knows no more than the high half: to it the old packet is as good as any.
        host.stack.reset_adapter(NIC).unwrap();
        host.service();
        assert!(handles.iter().all(|&handle| host.reason(handle) == OffloadReason::Offloaded));
        let received = host.receive(&[old]);
        assert_eq!((received.words(), received.delivered.len()), (vec!["auth-failed".to_owned()], 0), "{outer:?} {within:?}");
        assert_eq!(received.verdicts[0].crypto_status, Some(CryptoStatus::Success));
        assert_eq!(host.receive(&[seal(WRAP + 0xd000_0001)]).words(), ["delivered"], "no window has moved");
        // One that is after the wrap indeed is proved to be, although the NIC has opened it.
        let before = host.transport.inbound().offloaded.packets;
        let received = host.receive(&[seal(2 * WRAP + 5)]);
        assert_eq!((received.words(), received.delivered), (vec!["delivered".to_owned()], vec![inner(5)]), "{outer:?} {within:?}");
        assert_eq!(received.verdicts[0].crypto_status, Some(CryptoStatus::Success));
        assert_eq!(host.transport.inbound().offloaded.packets, before + 1);
        assert_eq!(Host::dropped(&host.transport.inbound()), [(DropReason::AuthFailed, 1)]);
    }
}

#[test]
fn a_nic_that_begins_anew_before_the_wrap_loses_nothing_of_what_comes_after() {
    for (outer, within) in shapes() {
        let bundles = inward(&bundles(outer, within, 0));
        let mut host = Host::full(true);
        host.put_all(&bundles);
        assert_eq!(host.receive(&[protect(&bundles, WRAP - 5)]).words(), ["delivered"]);
        host.stack.reset_adapter(NIC).unwrap();
        host.service();
        let received = host.receive(&[protect(&bundles, WRAP + 3)]);
        assert!(received.verdicts[0].crypto_status.is_some_and(|status| status != CryptoStatus::Success), "the NIC takes it for another number");
        assert_eq!((received.words(), received.delivered), (vec!["delivered".to_owned()], vec![inner(3)]), "{outer:?} {within:?}");
        host.service();
        assert_eq!(host.receive(&[protect(&bundles, WRAP + 4), protect(&bundles, WRAP - 4)]).words(), ["delivered"; 2]);
    }
}

/// What is said of a forged packet does not depend on what came with it, or on who looked at it.
#[test]
fn forged_packets_around_the_wrap_are_told_of_alike_whatever_they_came_with() {
    // Numbers that forged packets are sent with stand between good ones, on both sides of the window's edges as it moves.
    let good = [WRAP - 5, WRAP - 3, WRAP + 2, WRAP + 100, WRAP - 20, WRAP + 300, WRAP + 250, WRAP + 301];
    let forged = [WRAP - 6, WRAP - 300, 0, 45, 60, WRAP / 2 + 20, WRAP / 2 + 400, WRAP - 1, 1000];
    for (outer, within) in shapes() {
        let bundles = inward(&bundles(outer, within, 0));
        let mut wire = Vec::new();
        for (place, &number) in good.iter().enumerate() {
            for turn in 0..3 {
                let low = forged[(place * 3 + turn) % forged.len()];
                let mut packet = protect(&bundles, low);
                *packet.last_mut().unwrap() ^= 1;
                wire.push(packet);
            }
            wire.push(protect(&bundles, number));
        }
        let mut first: Option<Vec<_>> = None;
        for offload in [false, true] {
            for batch in [1, 3, 5, 64] {
                let mut host = Host::full(offload);
                host.put_all(&bundles);
                let mut told = Vec::new();
                for wire in wire.chunks(batch) {
                    let received = host.receive(wire);
                    told.extend(received.verdicts.into_iter().map(|verdict| (verdict.verdict, verdict.associations)));
                    host.service();
                }
                match &first {
                    None => first = Some(told),
                    Some(first) => {
                        for (place, (one, other)) in told.iter().zip(first).enumerate() {
                            assert_eq!(one, other, "{outer:?} {within:?} packet {place} offload {offload} batch {batch}");
                        }
                        assert_eq!(told.len(), first.len());
                    }
                }
            }
        }
        let first = first.unwrap_or_default();
        let delivered = first.iter().filter(|(verdict, _)| *verdict == Verdict::Delivered).count();
        assert_eq!(delivered, good.len(), "{outer:?} {within:?}");
    }
}

#[test]
fn packets_reordered_around_the_wrap_come_through_once() {
    let order = [WRAP - 5, WRAP - 3, WRAP + 2, WRAP - 4, WRAP, WRAP - 1, WRAP + 1, WRAP - 2, WRAP + 40, WRAP + 3, WRAP - 20];
    for (outer, within) in shapes() {
        for offload in [false, true] {
            for batch in [1, 4, 64] {
                let bundles = inward(&bundles(outer, within, 0));
                let mut host = Host::full(offload);
                host.put_all(&bundles);
                let wire: Vec<_> = order.iter().map(|&number| protect(&bundles, number)).collect();
                for wire in wire.chunks(batch) {
                    assert_eq!(host.receive(wire).words(), vec!["delivered"; wire.len()], "{outer:?} {within:?} offload {offload}");
                    host.service();
                }
                assert_eq!(host.receive(&wire).words(), vec!["replayed"; wire.len()]);
            }
        }
    }
}

/// the first packet has number 1; a high half that was told counts for the next packet; without extended numbers no high half is in any ICV.
#[test]
fn r_11_numbers_begin_with_one_and_no_high_half_is_where_none_belongs() {
    for headers in Headers::ALL {
        for (seals, opens) in WAYS {
            let bundle = Bundle::of(OUT, Mode::Tunnel, headers, 0x1001);
            let (mut host, mut peer) = (Host::full(seals), Host::full(opens));
            host.plain = true;
            host.put(&bundle);
            peer.put(&bundle.toward(IN));
            let received = peer.receive(&host.send(&packets(0..3)));
            assert_eq!((received.words(), received.sequences()), (vec!["delivered".to_owned(); 3], vec![1, 2, 3]));
            assert!(received.verdicts.iter().all(|verdict| verdict.associations.iter().all(|seen| seen.sequence <= 3)));
            // One side has extended numbers, the other has not: with a high half of 0 the numbers are the same, and the ICVs are not.
            let mut peer = Host::full(opens);
            peer.put(&bundle.toward(IN).extended(0));
            assert_eq!(peer.receive(&host.send(&packets(0..2))).words(), ["auth-failed"; 2], "{headers:?}");
            let mut parameters = bundle.parameters();
            parameters.associations[0].sequence_number_high = 1;
            assert!(host.transport.add_sa(parameters, host.now).is_err(), "a high half without extended numbers");
        }
    }
    // After the update, the very next packet.
    let bundles = bundles(Headers::AhEsp, None, WRAP - 2);
    let (mut host, mut peer) = (Host::full(true), Host::full(true));
    host.plain = true;
    host.put_all(&bundles);
    peer.put_all(&inward(&bundles));
    for (number, offloaded) in [(1, 1), (2, 1), (3, 2), (4, 3)] {
        let received = peer.receive(&host.send(&packets(number..number + 1)));
        assert_eq!(received.words(), ["delivered"]);
        assert_eq!(host.transport.outbound().offloaded.packets, offloaded, "packet {number}");
        host.service();
    }
}

/// R-14 with extended numbers: the last one is 2^64 - 1, and there is none after it, not even another high half.
#[test]
fn r_14_extended_numbers_end_too() {
    for headers in Headers::ALL {
        for offload in [false, true] {
            let bundle = Bundle::of(OUT, Mode::Tunnel, headers, 0x1001).extended(u64::MAX - 3);
            let mut host = Host::full(offload);
            host.plain = true;
            let handle = host.put(&bundle);
            assert_eq!(host.send(&packets(0..2)).len(), 2, "{headers:?}");
            assert_eq!(host.send(&packets(0..3)).len(), 1);
            assert!(host.send(&packets(0..2)).is_empty());
            host.service();
            assert_eq!(host.events(), [transport::SaEventKind::SoftExpired, transport::SaEventKind::SequenceExhausted]);
            assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::SequenceExhausted, 4)]);
            assert!(host.transport.sa(handle).unwrap().associations.iter().all(|association| association.sequence == u64::MAX));
        }
    }
}
