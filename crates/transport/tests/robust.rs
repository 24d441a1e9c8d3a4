//! Whatever comes in, nothing panics, every packet ends in one counter, nothing that is to be protected leaves in clear, and buffers come back.

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{A, B, CANARY, Host, NIC, Sa, Setup, address, inner, ip, udp};
use ndis::{CryptoStatus, Direction, IpsecReceive, LaneContext, NblBatch, NetBufferList};
use packet::{Buffer, BufferPool, Frame, FrameBatch, IpProtocol, Medium, ParsedIp, Time};
use proptest::prelude::*;
use transport::{Action, ClearPolicy, DropReason, InboundBatch, SaError};

const OUT: Direction = Direction::Outbound;
const IN: Direction = Direction::Inbound;

/// SAs of every kind, and everything that is not theirs bypassed.
fn open_host(medium: Medium, clear: ClearPolicy) -> Host {
    let host = Host::new(&Setup { medium, clear, ..Setup::default() });
    let v6 = |sa: Sa| Sa { source: address("2001:db8::1"), destination: address("2001:db8::2"), ..sa };
    for direction in [OUT, IN] {
        host.add(&Sa { selectors: vec![transport::Selector { protocol: Some(IpProtocol::UDP), ..transport::Selector::ANY }], ..Sa::tunnel(direction) });
        host.add(&Sa::transport(direction).spi(0x2002).esn(5 << 32));
        host.add(&v6(Sa::transport(direction)).spi(0x3003));
        host.add(&Sa {
            selectors: vec![transport::Selector { protocol: Some(IpProtocol::ICMPV6), ..transport::Selector::ANY }],
            ..v6(Sa::tunnel(direction)).spi(0x4004)
        });
    }
    host.transport.set_policies(|spd| (spd.default_inbound, spd.default_outbound, spd.non_ip) = (Action::Bypass, Action::Bypass, Action::Bypass));
    host
}

/// A frame that is more or less one that means something.
fn frame(medium: Medium) -> impl Strategy<Value = Vec<u8>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..120);
    let endpoints = prop_oneof![Just((A, B)), Just(("10.0.1.1", "10.0.2.1")), Just(("2001:db8::1", "2001:db8::2"))];
    let protocol = prop_oneof![
        3 => Just(50_u8),
        1 => Just(51),
        2 => Just(17),
        1 => Just(58),
        1 => proptest::sample::select(vec![0_u8, 4, 6, 41, 43, 44, 59, 60, 135]),
        1 => any::<u8>()
    ];
    let spi = proptest::sample::select(vec![0x1001_u32, 0x2002, 0x3003, 0x4004, 7]);
    let shaped = (endpoints, protocol, spi, any::<u32>(), bytes.clone()).prop_map(|((source, destination), protocol, spi, number, bytes)| {
        let mut payload = spi.to_be_bytes().to_vec();
        payload.extend(number.to_be_bytes());
        payload.extend(bytes);
        ip(address(source), address(destination), IpProtocol(protocol), &payload)
    });
    let sealed = (1..100_u64, any::<u8>(), bytes.clone()).prop_map(|(sequence, next_header, bytes)| {
        let mut text = bytes;
        text.truncate(text.len() / 4 * 4);
        text.extend([1, 2, 2, next_header]);
        Sa::tunnel(IN).seal(sequence, &text)
    });
    let whole = prop_oneof![1 => bytes, 5 => shaped, 2 => sealed, 1 => any::<u32>().prop_map(inner)];
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let kind = proptest::sample::select(vec![[0x08_u8, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x00, 0x20], [0x08, 0x06]]);
    (whole, changes, any::<prop::sample::Index>(), 0..4_u8, kind).prop_map(move |(mut bytes, changes, cut, how, kind)| {
        for (at, value) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
        }
        match how {
            0 => bytes.truncate(cut.index(bytes.len() + 1)),
            1 => bytes.extend([0; 7]),
            _ => {}
        }
        if medium == Medium::Ethernet {
            let version = bytes.first().map_or(0, |first| first >> 4);
            let announced = match version {
                4 if how != 3 => [0x08, 0x00],
                6 if how != 3 => [0x86, 0xdd],
                _ => kind,
            };
            let mut framed = vec![0; 12];
            framed.extend(announced);
            framed.extend(bytes);
            return framed;
        }
        bytes
    })
}

fn media() -> impl Strategy<Value = (Medium, Vec<Vec<u8>>)> {
    prop_oneof![Just(Medium::Ip), Just(Medium::Ethernet)].prop_flat_map(|medium| (Just(medium), proptest::collection::vec(frame(medium), 1..80)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_frames_go_out_or_end((medium, frames) in media(), fail in 0..4_usize) {
        let mut host = open_host(medium, ClearPolicy::Decide);
        // What is bypassed may be anything; this way all that leaves was protected here, and is looked at.
        host.transport.set_policies(|spd| (spd.default_outbound, spd.non_ip) = (Action::Discard, Action::Discard));
        host.nic.script().fail_every = fail;
        let wire = host.send(&frames);
        host.service();
        let counts = host.transport.outbound();
        prop_assert_eq!(counts.seen.packets, frames.len() as u64);
        prop_assert_eq!(counts.seen.packets, counts.ended());
        prop_assert_eq!(counts.seen.packets - counts.dropped_total().packets, wire.len() as u64);
        let (free, allocated) = (host.pool.free() as u64, host.pool.allocated());
        prop_assert_eq!(free, allocated);
    }

    #[test]
    fn any_frames_come_in_or_end((medium, frames) in media(), pass: bool) {
        let clear = if pass { ClearPolicy::PassAll } else { ClearPolicy::Decide };
        let (mut by_nic, mut by_software) = (open_host(medium, clear), open_host(medium, clear));
        by_software.nic.set_config(|config| config.ipsec_v2.esp = false);
        by_software.service();
        let (nic, software) = (by_nic.receive(&frames), by_software.receive(&frames));
        prop_assert_eq!(nic.words(), software.words());
        prop_assert_eq!(&nic.delivered, &software.delivered);
        prop_assert_eq!(&nic.passed, &software.passed);
        for host in [by_nic, by_software] {
            let counts = host.transport.inbound();
            prop_assert_eq!((counts.seen.packets, counts.ended()), (frames.len() as u64, frames.len() as u64));
            prop_assert_eq!(host.pool.free() as u64, host.pool.allocated());
        }
    }

    /// Whatever a NIC claims of a packet, it is no panic, and one verdict.
    #[test]
    fn any_report_of_a_nic_is_survived(frames in proptest::collection::vec((frame(Medium::Ip), 0..32_u32), 1..40)) {
        let mut host = open_host(Medium::Ip, ClearPolicy::Decide);
        let lists: NblBatch = frames
            .iter()
            .map(|(bytes, report)| {
                let mut list = NetBufferList::new(host.pool.copy_from(bytes), 0);
                let status = CryptoStatus::ALL[(report >> 2) as usize % CryptoStatus::ALL.len()];
                let crypto_done = report & 1 != 0;
                list.oob.set_ipsec_receive(IpsecReceive { sa_delete_request: report & 16 != 0, crypto_done, next_crypto_done: report & 2 != 0, crypto_status: status });
                list
            })
            .collect();
        let received = host.take(lists);
        prop_assert_eq!(received.verdicts.len(), frames.len());
        host.assert_all_ended();
        host.service();
    }
}

#[test]
fn buffers_without_room_and_packets_without_end_are_dropped_as_too_big() {
    let mut host = Host::default();
    host.add(&Sa::tunnel(OUT));
    let packet = inner(1);
    let mut frames = FrameBatch::new();
    for (headroom, tailroom) in [(0, 0), (35, 128), (36, 17), (36, 18), (256, 0), (0, 128)] {
        let mut buffer = Buffer::zeroed(headroom, packet.len(), tailroom);
        buffer.as_mut_slice().copy_from_slice(&packet);
        frames.push(Frame::new(buffer));
    }
    let mut wire = FrameBatch::new();
    let mut cx = LaneContext { now: host.now, pool: &mut host.pool };
    host.lane.outbound(&mut cx, &mut frames, &mut host.path, &mut wire);
    assert_eq!(packet.len() % 4, 0, "two bytes of padding, two of trailer, sixteen of ICV are twenty");
    assert_eq!(wire.len(), 0);
    assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::TooBig, 6)]);
    let mut buffer = Buffer::zeroed(36, packet.len(), 20);
    buffer.as_mut_slice().copy_from_slice(&packet);
    frames.push(Frame::new(buffer));
    let mut cx = LaneContext { now: host.now, pool: &mut host.pool };
    host.lane.outbound(&mut cx, &mut frames, &mut host.path, &mut wire);
    assert_eq!(wire.len(), 1, "just room enough");
}

#[test]
fn the_longest_packets_fit_and_one_byte_more_does_not() {
    let (a6, b6) = (address("2001:db8::1"), address("2001:db8::2"));
    let cases = [
        // What the outer header can tell, and what stands around an inner packet.
        (Sa::tunnel(OUT), 65_535_usize, 20),
        (Sa { source: a6, destination: b6, ..Sa::tunnel(OUT) }, 65_575, 40),
    ];
    for (sa, most, header) in cases {
        for (a, b) in [(address("10.0.1.1"), address("10.0.2.1")), (a6, b6)] {
            let mut host = Host::default();
            host.add(&sa);
            let mut peer = Host::default();
            peer.add(&Sa { direction: IN, ..sa.clone() });
            // Outer header, ESP header and IV, text in fours, ICV.
            let longest = ((most - header - 16 - 16) / 4 * 4 - 2).min(if a.is_v4() { 65_535 } else { 65_575 });
            let packet = |length: usize| ip(a, b, IpProtocol::UDP, &vec![7; length - if a.is_v4() { 20 } else { 40 }]);
            let wire = host.send(&[packet(longest)]);
            assert_eq!(wire.len(), 1, "{longest} bytes in {most}");
            assert_eq!(peer.receive(&wire).delivered, [packet(longest)]);
            if longest < 65_535 {
                assert!(host.send(&[packet(longest + 1)]).is_empty());
                assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::TooBig, 1)]);
            }
        }
    }
}

#[test]
fn ethernet_frames_keep_their_headers_and_tags_and_lose_their_padding() {
    let (a6, b6) = (address("2001:db8::1"), address("2001:db8::2"));
    for outer6 in [false, true] {
        for inner6 in [false, true] {
            for tags in 0..=2_usize {
                let setup = Setup { medium: Medium::Ethernet, ..Setup::default() };
                let sa = if outer6 { Sa { source: a6, destination: b6, ..Sa::tunnel(OUT) } } else { Sa::tunnel(OUT) };
                let (mut host, mut peer) = (Host::new(&setup), Host::new(&setup));
                host.add(&sa);
                peer.add(&Sa { direction: IN, ..sa.clone() });
                let packet = if inner6 { ip(a6, b6, IpProtocol::UDP, &inner(1)[20..]) } else { inner(1) };
                let kind = |v6| if v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
                let mut header: Vec<u8> = (0..12).collect();
                for tag in 0..tags {
                    header.extend([0x81, 0x00, 0x00, tag as u8 + 7]);
                }
                let frame = [&header[..], &kind(inner6), &packet].concat();
                let padded = [&frame[..], &[0xee; 9]].concat();
                let mut frames = FrameBatch::from([Frame { tag: 77, timestamp: Time::from_nanos(9), ..Frame::new(Buffer::copy_from(&padded)) }]);
                let mut wire = FrameBatch::new();
                let mut cx = LaneContext { now: host.now, pool: &mut host.pool };
                host.lane.outbound(&mut cx, &mut frames, &mut host.path, &mut wire);
                assert_eq!((wire[0].tag, wire[0].timestamp.as_nanos()), (77, 9), "they travel along");
                let mut sealed = wire[0].buffer.as_slice().to_vec();
                assert_eq!(sealed[..header.len() + 2], [&header[..], &kind(outer6)].concat(), "the type is the outer packet's");
                let parsed = ParsedIp::parse(&sealed[header.len() + 2..]).unwrap();
                assert_eq!((parsed.protocol(), parsed.padding_len()), (IpProtocol::ESP, 0));
                sealed.extend([0xdd; 11]);
                let received = peer.receive_in_software(&[sealed]);
                assert_eq!((received.words(), received.delivered), (vec!["delivered".to_owned()], vec![frame]));
            }
        }
    }
}

#[test]
fn buffers_come_back_under_injected_failures() {
    let mut host = Host::default();
    let out = host.add(&Sa::tunnel(OUT));
    for round in 0..60_u32 {
        host.nic.script().fail_every = (round % 5) as usize;
        host.nic.script().hold_sends = round % 7 == 3;
        if round % 11 == 5 {
            host.stack.reset_adapter(NIC).unwrap();
        }
        if round % 13 == 6 {
            host.stack.restart_adapter(NIC).unwrap();
        }
        host.send(&(0..50).map(|number| if number % 9 == 0 { vec![0x45; 30] } else { inner(number) }).collect::<Vec<_>>());
        host.receive(&(0..10).map(inner).collect::<Vec<_>>());
        host.service();
    }
    host.nic.script().hold_sends = false;
    host.nic.script().fail_every = 0;
    for _ in 0..5 {
        host.service();
    }
    host.transport.remove_sa(out);
    host.service();
    assert_eq!((host.path.outstanding(), host.lane.backlog(), host.nic.held()), (0, 0, 0));
    assert_eq!(host.pool.free() as u64, host.pool.allocated(), "every buffer is back");
    host.assert_all_ended();
}

#[test]
fn lanes_share_an_outbound_sa_while_everything_around_them_changes() {
    const LANES: u32 = 3;
    let host = Host::default();
    let (stack, nic, transport) = (&host.stack, &host.nic, &host.transport);
    let sa = Sa { window: 65_536, ..Sa::tunnel(OUT).esn((1 << 32) - 5000) };
    host.add(&sa);
    let (done, ivs) = (&AtomicBool::new(false), &Mutex::new(HashSet::new()));
    let end = Instant::now() + Duration::from_millis(1200);
    let totals: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let control = scope.spawn(move || {
            let mut now = Time::from_nanos(1);
            for round in 0_u32.. {
                // A lane that fails does not say that it is done.
                if done.load(Ordering::Relaxed) || Instant::now() > end + Duration::from_secs(20) {
                    break;
                }
                nic.set_config(|config| config.ipsec_v2.esp = round % 3 != 0);
                nic.script().fail_every = (round % 4) as usize * 7;
                nic.script().fail_offloaded_only = true;
                if round % 10 == 7 {
                    let _ = stack.reset_adapter(NIC);
                }
                // Full, if a lane was kept from running in the middle of a batch while all others came and went.
                let other = transport.add_sa(Sa::tunnel(IN).spi(0x5000 + round).parameters(), now);
                stack.pump();
                transport.service(now);
                transport.set_policies(|spd| spd.non_ip = if round % 2 == 0 { Action::Discard } else { Action::Bypass });
                match other {
                    Ok(other) => assert!(transport.remove_sa(other)),
                    Err(error) => assert!(matches!(error, SaError::Full { .. }), "{error}"),
                }
                if round % 16 == 0 {
                    transport.tick(now);
                }
                now = now + Duration::from_micros(50);
                std::thread::yield_now();
            }
        });
        let lanes: Vec<_> = (0..LANES)
            .map(|number| {
                scope.spawn(move || {
                    let (mut lane, mut path, mut pool) = (transport.open_lane(), stack.open_datapath(NIC).unwrap(), BufferPool::new());
                    let (mut wire, mut sent, mut left) = (FrameBatch::new(), 0_u64, 0_u64);
                    let mut collect = |wire: &mut FrameBatch, pool: &mut BufferPool| {
                        let mut ivs = ivs.lock().unwrap();
                        for frame in wire.drain(..) {
                            let bytes = frame.buffer.as_slice();
                            assert!(bytes[9] == 50 && !bytes.windows(CANARY.len()).any(|window| window == CANARY), "clear text");
                            assert!(ivs.insert(<[u8; 8]>::try_from(&bytes[28..36]).unwrap()), "an IV twice");
                            left += 1;
                            pool.give(frame.buffer);
                        }
                    };
                    while Instant::now() < end || lane.backlog() != 0 {
                        let mut frames = FrameBatch::new();
                        if Instant::now() < end {
                            frames.extend((0..32).map(|at| Frame::new(pool.copy_from(&inner(number << 16 | at)))));
                        }
                        sent += frames.len() as u64;
                        let mut cx = LaneContext { now: Time::from_nanos(1), pool: &mut pool };
                        lane.outbound(&mut cx, &mut frames, &mut path, &mut wire);
                        lane.poll(&mut cx, &mut path, &mut wire);
                        collect(&mut wire, &mut pool);
                    }
                    (sent, left)
                })
            })
            .collect();
        let totals = lanes.into_iter().map(|lane| lane.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        control.join().unwrap();
        totals
    });
    let counts = transport.outbound();
    let (sent, left) = totals.iter().fold((0, 0), |sum, lane| (sum.0 + lane.0, sum.1 + lane.1));
    assert_eq!((counts.seen.packets, counts.ended()), (sent, sent));
    assert_eq!(left, sent - counts.dropped_total().packets);
    assert!(counts.offloaded.packets > 0 && counts.software.packets > 0 && counts.retried > 0, "{counts:?}");
    // IVs are the numbers themselves here: those that left are some of those that were spent, and none was spent below the first.
    let spent = transport.sas().iter().find(|status| status.spi.0 == sa.spi).unwrap().sequence;
    let ivs = ivs.lock().unwrap();
    assert!(ivs.iter().all(|iv| ((1 << 32) - 4999..=spent).contains(&u64::from_be_bytes(*iv))));
    assert!(spent - sa.last >= sent);
}

#[test]
fn inbound_lanes_and_control_changes_go_together() {
    let host = Host::default();
    let (stack, nic, transport) = (&host.stack, &host.nic, &host.transport);
    let sa = Sa::tunnel(IN);
    let wire: Arc<Vec<_>> = Arc::new((1..=64).map(|sequence| sa.seal_packet(sequence, &inner(sequence as u32), 4)).collect());
    let end = Instant::now() + Duration::from_millis(800);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for round in 0_u32.. {
                if Instant::now() >= end {
                    break;
                }
                let handle = match transport.add_sa(Sa::tunnel(IN).parameters(), Time::from_nanos(1)) {
                    Ok(handle) => handle,
                    // A lane was kept from running in the middle of a batch while all others came and went.
                    Err(SaError::Full { .. }) => {
                        std::thread::yield_now();
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                };
                nic.set_config(|config| config.ipsec_v2.esp = round % 2 == 0);
                stack.pump();
                transport.service(Time::from_nanos(1));
                transport.remove_sa(handle);
            }
        });
        for _ in 0..2 {
            let wire = Arc::clone(&wire);
            scope.spawn(move || {
                let (mut lane, mut path, mut pool) = (transport.open_lane(), stack.open_datapath(NIC).unwrap(), BufferPool::new());
                let mut out = InboundBatch { report: true, ..InboundBatch::default() };
                while Instant::now() < end {
                    let mut frames: FrameBatch = wire.iter().map(|bytes| Frame::new(pool.copy_from(bytes))).collect();
                    let mut lists = NblBatch::new();
                    let mut cx = LaneContext { now: Time::from_nanos(1), pool: &mut pool };
                    path.receive(&mut cx, &mut frames, &mut lists);
                    lane.inbound(&mut cx, &mut lists, &mut out);
                    for frame in out.delivered.drain(..) {
                        assert_eq!(frame.buffer.as_slice().len(), inner(0).len());
                        assert_eq!(frame.buffer.as_slice()[32..], *CANARY);
                        pool.give(frame.buffer);
                    }
                    assert!(out.passed.is_empty());
                    out.verdicts.clear();
                }
            });
        }
    });
    let counts = transport.inbound();
    assert_eq!(counts.seen.packets, counts.ended());
    assert_eq!(udp("10.0.1.1", "10.0.2.1", 1), inner(1));
}
