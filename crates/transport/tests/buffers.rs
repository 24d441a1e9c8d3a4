//! Buffers: room in front and behind for every mode, none lost whatever fails, and the same end for what completes at once and for what completes later.

mod common;

use common::bundle::{Bundle, Headers};
use common::{Host, NIC, address, inner, ip};
use ndis::{Direction, LaneContext};
use packet::{Buffer, Frame, FrameBatch, IpProtocol};
use proptest::prelude::*;
use transport::{DropReason, Mode};

const OUT: Direction = Direction::Outbound;
const IN: Direction = Direction::Inbound;
/// A page, to the byte: where somebody else's limits were.
const PAGE: usize = 4096;

/// Every shape of protection of a packet from 10.0.1.1 to 10.0.2.1.
fn shapes() -> Vec<Vec<Bundle>> {
    let mut shapes = Vec::new();
    for headers in Headers::ALL {
        shapes.push(vec![Bundle::of(OUT, Mode::Tunnel, headers, 0x1001)]);
        shapes.push(vec![Bundle::of(OUT, Mode::Tunnel, headers, 0x1001).between("2001:db8::1", "2001:db8::2")]);
        let transport = Bundle::of(OUT, Mode::Transport, headers, 0x2001).between("10.0.1.1", "10.0.2.1");
        shapes.push(vec![transport.clone()]);
        let tunnel = Bundle::of(OUT, Mode::Tunnel, Headers::AhEsp, 0x1001);
        shapes.push(vec![tunnel.clone(), transport.within(&tunnel)]);
    }
    shapes
}

fn host(shape: &[Bundle], offload: bool) -> Host {
    let mut host = Host::full(offload);
    host.plain = true;
    host.put_all(shape);
    host
}

/// Of a protocol without checksum: one that does not fit would be made to, behind a NAT.
fn packet(length: usize) -> Vec<u8> {
    ip(address("10.0.1.1"), address("10.0.2.1"), IpProtocol(253), &vec![7; length - 20])
}

/// Sends one packet from a buffer with exactly that room.
fn send_from(host: &mut Host, bytes: &[u8], headroom: usize, tailroom: usize) -> FrameBatch {
    let mut buffer = Buffer::zeroed(headroom, bytes.len(), tailroom);
    buffer.as_mut_slice().copy_from_slice(bytes);
    let (mut frames, mut wire) = (FrameBatch::from([Frame::new(buffer)]), FrameBatch::new());
    let mut cx = LaneContext { now: host.now, pool: &mut host.pool };
    host.lane.outbound(&mut cx, &mut frames, &mut host.path, &mut wire);
    wire
}

/// What a shape puts in front of a packet of this length, and behind it.
fn needs(shape: &[Bundle], length: usize) -> Option<(usize, usize)> {
    let mut host = host(shape, false);
    let wire = send_from(&mut host, &packet(length), 256, 128);
    let sealed = wire.first()?.buffer.as_slice().len();
    let front = 256 - wire[0].buffer.headroom();
    Some((front, sealed - length - front))
}

/// whatever room a buffer has, a packet is protected within it or ends as too big; nobody writes beyond, and a packet that ends spends no number.
#[test]
fn r_01_every_room_in_front_and_behind() {
    for shape in shapes() {
        let length = 84;
        let (front, back) = needs(&shape, length).unwrap();
        for offload in [false, true] {
            let mut host = host(&shape, offload);
            let mut sent = 0;
            for headroom in (0..=front + 2).step_by(3).chain([front - 1, front, front + 1]) {
                for tailroom in (0..=back + 2).step_by(3).chain([back.saturating_sub(1), back, back + 1]) {
                    let wire = send_from(&mut host, &packet(length), headroom, tailroom);
                    let fits = headroom >= front && tailroom >= back;
                    assert_eq!(wire.len(), usize::from(fits), "{headroom} before, {tailroom} after of {front}, {back}: {shape:?}");
                    sent += u64::from(fits);
                    if let Some(frame) = wire.first() {
                        assert_eq!((frame.buffer.headroom(), frame.buffer.tailroom()), (headroom - front, tailroom - back));
                    }
                }
            }
            let dropped = host.transport.outbound().dropped_total().packets;
            assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::TooBig, dropped)]);
            for sa in host.transport.sas() {
                assert!(sa.associations.iter().all(|association| association.sequence == sent) && sa.packets == sent);
            }
        }
    }
}

/// the same limit, in one place, at the sizes where others had lost it.
#[test]
fn r_02_pages_and_the_longest_packets() {
    for shape in shapes() {
        for length in [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, 2 * PAGE, 2 * PAGE + 1, 65_000] {
            let (front, back) = needs(&shape, length).unwrap();
            for (headroom, tailroom, fits) in [(front, back, true), (front - 1, back, false), (front, back.wrapping_sub(1), false), (0, 0, false)] {
                if back == 0 && tailroom > 256 {
                    continue;
                }
                let mut host = host(&shape, false);
                let wire = send_from(&mut host, &packet(length), headroom, tailroom);
                assert_eq!(wire.len(), usize::from(fits), "{length} bytes in {headroom}, {tailroom} of {front}, {back}: {shape:?}");
                if let Some(frame) = wire.first() {
                    let mut peer = Host::full(true);
                    peer.put_all(&shape.iter().map(|bundle| bundle.toward(IN)).collect::<Vec<_>>());
                    assert_eq!(peer.receive(&[frame.buffer.as_slice().to_vec()]).delivered, [packet(length)]);
                }
            }
        }
        // As long as IP can tell, to the byte.
        let fits = |length: usize| {
            let mut host = host(&shape, false);
            let wire = send_from(&mut host, &packet(length), 256, 128);
            assert!(wire.len() == 1 || Host::dropped(&host.transport.outbound()) == [(DropReason::TooBig, 1)]);
            wire.len() == 1
        };
        let lengths: Vec<_> = (65_535 - 300..=65_535).collect();
        let longest = lengths.partition_point(|&length| fits(length));
        assert!(lengths[longest..].iter().step_by(13).all(|&length| !fits(length)));
        assert!(lengths[..longest].iter().step_by(13).all(|&length| fits(length)));
        assert!(longest > 0 && longest < lengths.len(), "{shape:?}");
    }
}

/// refusals and failures at every step, of one list, of some, of all; at once and later.
fn abuse(shape: &[Bundle], fail_every: usize, offloaded_only: bool, hold: bool, rounds: u32) -> (Host, u64) {
    let mut host = host(shape, true);
    let mut on_wire = 0;
    for round in 0..rounds {
        {
            let mut script = host.nic.script();
            (script.fail_every, script.fail_offloaded_only, script.hold_sends) = (fail_every, offloaded_only, hold);
        }
        let packets: Vec<_> = (0..40).map(|number| if number % 9 == 4 { vec![0x45; 30] } else { inner(round * 40 + number) }).collect();
        on_wire += host.send(&packets).len() as u64;
        host.nic.script().hold_sends = false;
        // What is held is finished by polling, until nothing is left.
        for _ in 0..3 {
            on_wire += host.service().len() as u64;
        }
    }
    (host, on_wire)
}

#[test]
fn r_05_no_buffer_is_lost_whatever_is_refused() {
    for shape in shapes() {
        for fail_every in [0, 1, 2, 3, 7] {
            for offloaded_only in [false, true] {
                for hold in [false, true] {
                    let (mut host, on_wire) = abuse(&shape, fail_every, offloaded_only, hold, 4);
                    // In the middle of a batch: the tunnel goes, the adapter resets, goes, and comes.
                    host.nic.script().hold_sends = true;
                    host.send(&(0..20).map(inner).collect::<Vec<_>>());
                    host.stack.reset_adapter(NIC).unwrap();
                    host.nic.script().hold_sends = false;
                    for sa in host.transport.sas() {
                        host.transport.remove_sa(sa.handle);
                        host.service();
                    }
                    for _ in 0..4 {
                        host.service();
                    }
                    host.assert_all_ended();
                    assert_eq!((host.path.outstanding(), host.lane.backlog(), host.nic.held()), (0, 0, 0), "{shape:?}");
                    assert_eq!(host.pool.free() as u64, host.pool.allocated(), "every buffer is back: {shape:?} {fail_every} {hold}");
                    let counts = host.transport.outbound();
                    assert!(on_wire <= counts.seen.packets);
                }
            }
        }
    }
}

/// what is completed later ends as what is completed at once.
#[test]
fn r_06_completed_at_once_or_later_is_the_same() {
    for shape in shapes() {
        for fail_every in [0, 1, 2, 3] {
            for offloaded_only in [false, true] {
                let [at_once, later] = [false, true].map(|hold| {
                    let (host, on_wire) = abuse(&shape, fail_every, offloaded_only, hold, 3);
                    let counts = host.transport.outbound();
                    (on_wire, counts.offloaded, counts.software, Host::dropped(&counts), counts.retried)
                });
                if fail_every < 2 || offloaded_only {
                    assert_eq!(at_once, later, "{shape:?} every {fail_every}");
                }
                assert_eq!(at_once.0 + at_once.3.iter().map(|(_, count)| count).sum::<u64>(), 120);
                assert_eq!(later.0 + later.3.iter().map(|(_, count)| count).sum::<u64>(), 120);
            }
        }
    }
}

/// a million refusals, at once and later, and not one buffer more than at the beginning.
#[test]
fn r_06_a_million_refusals_leak_nothing() {
    const BATCH: u32 = 64;
    let tunnel = Bundle::of(OUT, Mode::Tunnel, Headers::Esp, 0x1001);
    let mut host = host(&[tunnel], true);
    host.nic.script().fail_every = 1;
    let packets: Vec<_> = (0..BATCH).map(inner).collect();
    let mut batches = 0_u32;
    // Each packet is refused twice, and then ends.
    while batches * BATCH * 2 < 1_000_000 {
        host.nic.script().hold_sends = batches % 2 == 1;
        assert!(host.send(&packets).is_empty());
        if batches % 2 == 1 {
            host.nic.script().hold_sends = false;
            assert!(host.service().is_empty() && host.service().is_empty());
        }
        batches += 1;
    }
    let counts = host.transport.outbound();
    assert_eq!((counts.seen.packets, counts.retried), (u64::from(batches * BATCH), u64::from(batches * BATCH)));
    assert_eq!(Host::dropped(&counts), [(DropReason::Refused, u64::from(batches * BATCH))]);
    assert_eq!((host.pool.free() as u64, host.path.outstanding()), (host.pool.allocated(), 0));
    assert!(host.pool.allocated() <= u64::from(2 * BATCH), "{}", host.pool.allocated());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any packet in any room of any shape goes out whole and comes in again as it was, or ends as too big.
    #[test]
    fn r_01_any_packet_in_any_room(shape in 0..16_usize, length in 20..3000_usize, headroom in 0..256_usize, tailroom in 0..256_usize, offload: bool) {
        let shape = &shapes()[shape];
        let mut host = host(shape, offload);
        let wire = send_from(&mut host, &packet(length), headroom, tailroom);
        if wire.is_empty() {
            prop_assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::TooBig, 1)]);
        } else {
            let mut peer = Host::full(!offload);
            peer.put_all(&shape.iter().map(|bundle| bundle.toward(IN)).collect::<Vec<_>>());
            prop_assert_eq!(peer.receive(&[wire[0].buffer.as_slice().to_vec()]).delivered, [packet(length)]);
        }
    }
}
