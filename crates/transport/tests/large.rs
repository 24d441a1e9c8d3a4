//! Large packets that a NIC gives back: cut here, under new numbers, nothing lost and nothing in clear (OV2-SEND-4, OV2-SEND-7, OV2-TRANS-2).

mod common;

use std::sync::Arc;

use common::{A, B, CANARY, Host, Sa, Setup, address};
use ndis::{Direction, Encapsulation, LaneContext, LargeSendSet, LargeSendV2, MemoryRegistry, Offload};
use packet::{Frame, FrameBatch, FrameForm, IpProtocol, Ipv4Repr, ParsedIp, Segments, TcpFlags, TcpRepr, segment};
use transport::{DropReason, Mode, OffloadPolicy, PacketReason};

const MSS: u32 = 500;
const SEGMENTS: usize = 6;

/// A host whose NIC offers large sends, through tunnels too.
fn host() -> Host {
    Host::with(&Setup::default(), &Arc::new(MemoryRegistry::new()), |nic| {
        let set = LargeSendSet {
            encapsulation: Encapsulation::NULL,
            max_offload_size: 65_535,
            min_segment_count: 2,
            tcp_options: true,
            ip_options: true,
            ext_udp: true,
        };
        let mut attributes = nic.attributes.lock().unwrap();
        let attributes = attributes.as_mut().unwrap();
        let mut offload = Offload { lso_v2: LargeSendV2 { ipv4: set, ipv6: set }, ..attributes.hardware_capabilities };
        (offload.ipsec_v2.lso_supported, offload.ipsec_v2.ext_lso_tunnel) = (true, true);
        (attributes.hardware_capabilities, attributes.default_configuration) = (offload, offload);
    })
}

/// A large packet with the canary in every segment.
fn large(mode: Mode) -> Vec<u8> {
    let (from, to) = if mode == Mode::Tunnel { ("10.0.1.1", "10.0.2.1") } else { (A, B) };
    let (core::net::IpAddr::V4(from), core::net::IpAddr::V4(to)) = (address(from).into(), address(to).into()) else { panic!("IPv4") };
    let mut bytes = vec![0; 40];
    Ipv4Repr::new(IpProtocol::TCP, from, to, 0).emit(&mut bytes).unwrap();
    let tcp = TcpRepr { src_port: 7, dst_port: 8, sequence: 1, acknowledgment: 2, flags: TcpFlags::ACK | TcpFlags::PSH, window: 9, urgent: 0 };
    tcp.emit(&mut bytes[20..], &[]).unwrap();
    bytes.extend(CANARY.iter().copied().cycle().take(MSS as usize * SEGMENTS));
    let parsed = ParsedIp::parse_whole(&bytes).unwrap();
    assert!(segment::plant_seed(&mut bytes, 20, &parsed));
    bytes
}

fn send(host: &mut Host, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut frames: FrameBatch =
        packets.iter().map(|bytes| Frame { form: FrameForm::large(Segments::Tcp, MSS), ..Frame::new(host.pool.copy_from(bytes)) }).collect();
    let mut wire = FrameBatch::new();
    host.lane.outbound(&mut LaneContext { now: host.now, pool: &mut host.pool }, &mut frames, &mut host.path, &mut wire);
    assert!(wire.iter().all(|frame| frame.form.is_packet()));
    host.inspect(wire)
}

/// What the peer makes of it: whole payloads, one behind the other.
fn check(sa: &Sa, wire: &[Vec<u8>], packets: usize) {
    let mut peer = Host::default();
    peer.add(&Sa { direction: Direction::Inbound, ..sa.clone() });
    let delivered = peer.receive_in_software(wire).delivered;
    assert_eq!(delivered.len(), packets * SEGMENTS);
    let payload: Vec<u8> = delivered.iter().flat_map(|packet| packet[40..].to_vec()).collect();
    let expected: Vec<u8> = (0..packets).flat_map(|_| large(sa.mode)[40..].to_vec()).collect();
    assert!(payload == expected);
}

/// OV2-SEND-7: a large list that fails is cut here under new numbers; each segment is offered to the NIC by itself, and sealed in software where that fails.
#[test]
fn failed_large_lists_are_cut_under_new_numbers() {
    for sa in [Sa::transport(Direction::Outbound), Sa::tunnel(Direction::Outbound), Sa::transport(Direction::Outbound).esn(7 << 32)] {
        let mut host = host();
        host.add(&sa);
        host.service();
        {
            let mut script = host.nic.script();
            (script.fail_every, script.fail_offloaded_only) = (1, true);
        }
        let wire = send(&mut host, &[large(sa.mode), large(sa.mode)]);
        assert_eq!(wire.len(), 2 * SEGMENTS);
        check(&sa, &wire, 2);
        host.assert_all_ended();
        let counts = host.transport.outbound();
        assert_eq!((counts.seen.packets, counts.software.packets), (12, 12));
        // Each twice: in its large list, and by itself.
        assert_eq!((counts.retried, counts.cut[PacketReason::GivenBack as usize]), (24, 2));
        assert_eq!(counts.reasons[PacketReason::GivenBack as usize], 12);
        // Numbers of large lists and of single segments are spent.
        let parsed = ParsedIp::parse(&wire[0]).unwrap();
        let first = u32::from_be_bytes(parsed.payload(&wire[0])[4..8].try_into().unwrap());
        assert!(first > SEGMENTS as u32, "{first}");
    }
}

/// What must be offloaded is not sealed here, whoever cuts it.
#[test]
fn what_must_be_offloaded_ends_if_the_nic_gives_it_back() {
    let sa = Sa { offload: OffloadPolicy::Require, ..Sa::transport(Direction::Outbound) };
    let mut host = host();
    host.add(&sa);
    host.service();
    {
        let mut script = host.nic.script();
        (script.fail_every, script.fail_offloaded_only) = (1, true);
    }
    assert_eq!(send(&mut host, &[large(sa.mode)]).len(), 0);
    host.assert_all_ended();
    assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::NotOffloaded, SEGMENTS as u64)]);
}

/// A large list that was on its way when the adapter went comes back, is cut, and waits as segments until an adapter runs.
#[test]
fn large_lists_that_a_reset_gives_back_wait_as_segments() {
    let sa = Sa::transport(Direction::Outbound);
    let mut host = host();
    host.add(&sa);
    host.service();
    host.nic.script().hold_sends = true;
    assert_eq!(send(&mut host, &[large(sa.mode)]).len(), 0);
    host.stack.restart_adapter(common::NIC).unwrap();
    host.nic.script().hold_sends = false;
    let mut wire = Vec::new();
    for _ in 0..5 {
        wire.extend(host.service());
    }
    assert_eq!(wire.len(), SEGMENTS);
    check(&sa, &wire, 1);
    host.assert_all_ended();
}

/// Without large sends the same goes packet by packet, and the reason is told.
#[test]
fn without_large_sends_packets_are_cut_here() {
    let sa = Sa::transport(Direction::Outbound);
    let mut host = Host::default();
    host.add(&sa);
    host.service();
    let wire = send(&mut host, &[large(sa.mode)]);
    check(&sa, &wire, 1);
    let counts = host.transport.outbound();
    assert_eq!((counts.offloaded.packets, counts.cut[PacketReason::LargeSendLimits as usize]), (SEGMENTS as u64, 1));
    host.assert_all_ended();
}
