//! Large packets: whoever cuts them, NIC or transport, the same segments are on the wire (OV2-SEND-4).

use ipsecov2::host::{Host, HostConfig};
use ndis::{Direction, LargeSendSet, Offload, OffloadParameters, Switch};
use packet::{
    Frame, FrameBatch, FrameForm, IpAddress, IpProtocol, Ipv4Repr, Ipv6Repr, Medium, ParsedIp, Segments, TcpFlags, TcpPacket, TcpRepr, UdpRepr, segment,
    unpack_trains,
};
use proptest::prelude::*;
use transport::{DropReason, Limits, Mode, OffloadPolicy, OffloadReason};

use crate::ends::{Ends, NOW, receive};
use crate::kinds::{CBC, GATE4, GATE6, GCM, HOST4, HOST6, Kind, ah_suites, esp_suites, shapes};

/// A large packet, seeded as whoever hands one in does it.
#[derive(Clone, Copy, Debug)]
struct Large {
    ends: (&'static str, &'static str),
    segments: Segments,
    /// Words of TCP options.
    options: usize,
    /// Words of IPv4 options, or 8 bytes of destination options.
    extras: bool,
    identification: u16,
    sequence: u32,
    payload: usize,
    mss: u32,
}

impl Large {
    const fn new(ends: (&'static str, &'static str), payload: usize, mss: u32) -> Self {
        Self { ends, segments: Segments::Tcp, options: 3, extras: false, identification: 0x7ff0, sequence: 0xffff_ff00, payload, mss }
    }

    fn protocol(&self) -> IpProtocol {
        if self.segments == Segments::Tcp { IpProtocol::TCP } else { IpProtocol::UDP }
    }

    const FLAGS: TcpFlags = TcpFlags(TcpFlags::ACK.0 | TcpFlags::PSH.0 | TcpFlags::CWR.0);

    fn bytes(&self) -> Vec<u8> {
        let (source, destination): (IpAddress, IpAddress) = (self.ends.0.parse().unwrap(), self.ends.1.parse().unwrap());
        let mut bytes = match (source.into(), destination.into()) {
            (core::net::IpAddr::V4(source), core::net::IpAddr::V4(destination)) => {
                let mut ip = vec![0; 20];
                Ipv4Repr::new(self.protocol(), source, destination, 0).emit(&mut ip).unwrap();
                ip[4..6].copy_from_slice(&self.identification.to_be_bytes());
                if self.extras {
                    ip[0] = 0x46;
                    ip.extend([1, 1, 1, 0]);
                }
                ip
            }
            (core::net::IpAddr::V6(source), core::net::IpAddr::V6(destination)) => {
                let mut ip = vec![0; 40];
                let next = if self.extras { IpProtocol::HOP_BY_HOP } else { self.protocol() };
                Ipv6Repr::new(next, source, destination, 0).emit(&mut ip).unwrap();
                if self.extras {
                    ip.extend([self.protocol().0, 0, 1, 4, 0, 0, 0, 0]);
                }
                ip
            }
            _ => panic!("two versions"),
        };
        let upper = bytes.len();
        bytes.resize(upper + 60, 0);
        let header = if self.segments == Segments::Tcp {
            let tcp = TcpRepr { src_port: 40_000, dst_port: 443, sequence: self.sequence, acknowledgment: 5, flags: Self::FLAGS, window: 99, urgent: 0 };
            tcp.emit(&mut bytes[upper..], &vec![1; 4 * self.options]).unwrap()
        } else {
            UdpRepr { src_port: 40_000, dst_port: 443, payload_len: 0 }.emit(&mut bytes[upper..]).unwrap();
            8
        };
        bytes.truncate(upper + header);
        bytes.extend((0..self.payload).map(|at| (at * 31 + at / 253) as u8));
        let parsed = ParsedIp::parse_whole(&bytes).unwrap();
        assert!(segment::plant_seed(&mut bytes, upper, &parsed));
        bytes
    }

    fn frame(&self, host: &mut Host) -> Frame {
        Frame { form: FrameForm::large(self.segments, self.mss), tag: 7, ..Frame::new(host.pool().copy_from(&self.bytes())) }
    }

    fn count(&self) -> u64 {
        self.payload.div_ceil(self.mss as usize) as u64
    }

    /// The payload of segments that were delivered, which have to be sound TCP or UDP packets, one after the other.
    fn reassemble(&self, packets: &[Vec<u8>]) -> Vec<u8> {
        let mut payload = Vec::new();
        for packet in packets {
            let parsed = ParsedIp::parse(packet).unwrap();
            let upper = parsed.payload(packet);
            let verdict = packet::checksum::verify_segment(parsed.src(), parsed.dst(), parsed.protocol(), upper);
            assert_eq!(verdict, Ok(Some(packet::ChecksumVerdict::Good)), "{self:?}");
            if self.segments == Segments::Tcp {
                let view = TcpPacket::new(upper).unwrap();
                assert_eq!(view.sequence(), self.sequence.wrapping_add(payload.len() as u32));
                payload.extend_from_slice(view.payload());
            } else {
                payload.extend_from_slice(&upper[8..]);
            }
        }
        payload
    }
}

fn send(host: &mut Host, batch: &[Large]) -> (Vec<Vec<u8>>, bool) {
    let mut frames: FrameBatch = batch.iter().map(|large| large.frame(host)).collect();
    let mut wire = FrameBatch::new();
    host.send(NOW, &mut frames, &mut wire);
    let trains = wire.iter().any(|frame| frame.train().is_some());
    unpack_trains(&mut wire, host.pool());
    (wire.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect(), trains)
}

/// Sends by NIC and in software, which have to make the same of it, and takes the segments off again. Whether the NIC has cut.
fn round_trip(kind: &Kind, large: Large) -> bool {
    let name = kind.name();
    let mut from = Ends::new(kind, Direction::Outbound);
    let ((offload, trains), (software, none)) = (send(&mut from.offload, &[large]), send(&mut from.software, &[large]));
    assert!(!none, "software sends packets");
    assert_eq!((offload.len() as u64, software.len()), (large.count(), offload.len()), "{name} {large:?}");
    for (number, (offload, software)) in offload.iter().zip(&software).enumerate() {
        assert!(offload == software, "{name} {large:?}: segment {number} differs on the wire\n{offload:02x?}\n{software:02x?}");
    }
    for (host, by_nic) in [(&from.offload, true), (&from.software, false)] {
        let counts = host.transport().outbound();
        let done = if by_nic { counts.offloaded } else { counts.software };
        assert_eq!((counts.seen, counts.seen.packets), (done, large.count()), "{name}: as many packets as segments");
    }
    let mut to = Ends::new(kind, Direction::Inbound);
    let (delivered, verdicts) = to.receive(&offload);
    assert_eq!(delivered.len(), offload.len(), "{name}: {verdicts:?}");
    assert!(large.reassemble(&delivered) == large.bytes()[large.bytes().len() - large.payload..], "{name} {large:?}: the payload is whole");
    trains
}

/// OV2-SEND-4: offload against software, segment by segment, under every suite in transport mode.
#[test]
fn every_suite_in_transport_mode() {
    for spec in esp_suites().into_iter().chain(ah_suites()) {
        for segments in [Segments::Tcp, Segments::Udp] {
            let large = Large { segments, ..Large::new(HOST4, 5000, 1300) };
            assert!(round_trip(&Kind::transport(vec![spec]), large));
            assert!(round_trip(&Kind::transport(vec![spec]).extended(7 << 32), large));
        }
    }
}

/// OV2-SEND-4: every mode, IP version, nesting and encapsulation. A tunnel goes as one large send by the extension; transport over tunnel is cut first.
#[test]
fn every_shape() {
    for kind in shapes() {
        for extras in [false, true] {
            let large = Large { extras, ..Large::new(kind.inner, 3000, 999) };
            assert_eq!(round_trip(&kind, large), kind.bundles.len() == 1, "{}", kind.name());
        }
    }
}

/// OV2-SEND-4: lengths around multiples, from one byte to a whole super-packet.
#[test]
fn lengths() {
    for kind in [Kind::transport(vec![GCM]), Kind::tunnel(vec![CBC])] {
        for mss in [1_u32, 536, 1400, 8960] {
            for payload in [1, 2, mss as usize, mss as usize + 1, 3 * mss as usize - 1, 3 * mss as usize, 65 * mss as usize] {
                if payload <= 70_000 {
                    let large = Large::new(HOST4, payload, mss);
                    // Two segments at least make a large send.
                    assert_eq!(round_trip(&kind, large), large.count() >= 2, "{large:?}");
                }
            }
        }
    }
}

/// Numbers on both sides of a wrap of the low half: the NIC has to be told in between, so that is cut here; the bytes are the same, and nothing is lost.
#[test]
fn around_the_wrap_of_extended_numbers() {
    for back in 0..6 {
        let kind = Kind::transport(vec![GCM]).extended((5 << 32) - 1 - back);
        let mut from = Ends::new(&kind, Direction::Outbound);
        let batch = [Large::new(HOST4, 4000, 1000); 3];
        let (wire, _) = send(&mut from.offload, &batch);
        assert_eq!((wire.len(), wire == send(&mut from.software, &batch).0), (12, true));
        let mut to = Ends::new(&kind, Direction::Inbound);
        assert_eq!(to.receive(&wire).0.len(), 12);
    }
}

/// A host whose NIC can do this, with the SAs of a kind.
fn host(kind: &Kind, hardware: Offload, change: impl Fn(&mut transport::SaParameters)) -> Host {
    let mut host = Host::new(&HostConfig { medium: Medium::Ip, capacity: 16, hardware, ..HostConfig::default() }).unwrap();
    let mut parameters = kind.parameters(Direction::Outbound, OffloadPolicy::Prefer);
    parameters.iter_mut().for_each(change);
    for sa in host.add_sas(parameters, NOW).unwrap() {
        host.service(NOW, &mut FrameBatch::new());
        assert_eq!(host.transport().sa(sa).unwrap().offload, OffloadReason::Offloaded);
    }
    host
}

/// OV2-CAP-13, OV2-SEND-4, OV2-SEND-5, OV2-TRANS-2: where SA, configuration or limits do not allow a large send the packet is cut here, and each segment goes by
/// the NIC; with the same bytes.
#[test]
fn what_does_not_allow_a_large_send_is_cut_here() {
    type Change = fn(&mut Offload);
    let all = nic::software_capabilities(16);
    let (transport, tunnel) = (Kind::transport(vec![GCM]), Kind::tunnel(vec![GCM]));
    let large = Large::new(HOST4, 5000, 1000);
    let udp = Large { segments: Segments::Udp, ..large };
    let options = Large { extras: true, ..large };
    let low = Large { identification: 5, ..large };
    let cases: [(Change, &Kind, Large, bool); 12] = [
        (|_| {}, &transport, large, true),
        (|_| {}, &tunnel, large, true),
        (|set| set.ipsec_v2.lso_supported = false, &transport, large, false),
        (|set| set.ipsec_v2.ext_lso_tunnel = false, &tunnel, large, false),
        (|set| set.ipsec_v2.ext_lso_tunnel = false, &transport, large, true),
        (|set| set.lso_v2.ipv4.max_offload_size = 4999, &transport, low, true),
        (|set| (set.lso_v1, set.lso_v2.ipv4.max_offload_size) = (LargeSendSet::default(), 4999), &transport, large, false),
        (|set| (set.lso_v1, set.lso_v2.ipv4.min_segment_count) = (LargeSendSet::default(), 6), &transport, large, false),
        (|set| set.lso_v2.ipv4.ext_udp = false, &transport, udp, false),
        // Version 1 alone: with identifications that software would make, too.
        (|set| set.lso_v2.ipv4 = LargeSendSet::default(), &transport, low, true),
        (|set| set.lso_v2.ipv4 = LargeSendSet::default(), &transport, Large { identification: 0x7ffd, ..large }, false),
        (|set| (set.lso_v2.ipv4, set.lso_v1.ip_options) = (LargeSendSet::default(), false), &transport, Large { extras: true, ..low }, false),
    ];
    for (number, (change, kind, large, by_nic)) in cases.into_iter().enumerate() {
        let mut hardware = all;
        change(&mut hardware);
        let mut host = host(kind, hardware, |_| {});
        let (wire, trains) = send(&mut host, &[large]);
        assert_eq!((trains, wire.len() as u64), (by_nic, large.count()), "case {number}");
        assert_eq!(host.transport().outbound().offloaded.packets, large.count(), "case {number}: all by the NIC, one way or the other");
        let mut software = Ends::new(kind, Direction::Outbound).software;
        assert!(wire == send(&mut software, &[large]).0, "case {number}");
    }
    let mut host = host(&transport, all, |_| {});
    assert!(send(&mut host, &[options]).1);
    // OV2-SEND-5, OV2-CAP-10: switched off while it runs.
    let off = OffloadParameters { lso_v1: Some(Switch::Disabled), lso_v2_ipv4: Some(Switch::Disabled), ..OffloadParameters::default() };
    assert!(host.operator().set_parameters(off).is_success());
    host.service(NOW, &mut FrameBatch::new());
    let (wire, trains) = send(&mut host, &[large]);
    assert_eq!((trains, wire.len()), (false, 5));
}

/// Large packets, small ones and what cannot be cut, in any order: order is kept, each counts once.
#[test]
fn order_is_kept_and_everything_is_counted() {
    let kind = Kind::transport(vec![GCM]);
    let (mut offload, mut software) = (host(&kind, nic::software_capabilities(16), |_| {}), Ends::new(&kind, Direction::Outbound).software);
    let mut wires = Vec::new();
    for host in [&mut offload, &mut software] {
        let mut frames = FrameBatch::new();
        for number in 0..90_u32 {
            let large = Large { sequence: number * 10_000, ..Large::new(HOST4, 2000 + number as usize, 700) };
            let mut frame = match number % 4 {
                0 | 1 => large.frame(host),
                2 => Frame::new(host.pool().copy_from(&crate::ends::udp(HOST4, number as usize))),
                _ => Frame { form: FrameForm::large(Segments::Udp, 5), ..large.frame(host) },
            };
            frame.tag = number.into();
            frames.push(frame);
        }
        let mut wire = FrameBatch::new();
        host.send(NOW, &mut frames, &mut wire);
        unpack_trains(&mut wire, host.pool());
        let tags: Vec<_> = wire.iter().map(|frame| frame.tag).collect();
        assert!(tags.is_sorted());
        assert_eq!(tags.iter().filter(|tag| **tag % 4 == 3).count(), 0);
        wires.push(wire.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect::<Vec<_>>());
        let counts = host.transport().outbound();
        assert_eq!((counts.seen.packets, counts.dropped_for(DropReason::Malformed).packets), (counts.ended(), 22));
        assert_eq!(counts.ended(), wire.len() as u64 + 22);
    }
    assert!(wires[0] == wires[1]);
}

/// A large packet counts as its segments for lifetimes: one that would pass a limit is cut, so that just as many go as may.
#[test]
fn lifetimes_count_segments() {
    let kind = Kind::transport(vec![GCM]);
    let hard = Limits { packets: Some(12), ..Limits::NONE };
    let mut host = host(&kind, nic::software_capabilities(16), |parameters| parameters.hard_limits = hard);
    let large = Large::new(HOST4, 5000, 1000);
    for (expected, trains) in [(5, true), (5, true), (2, false), (0, false)] {
        let (wire, found) = send(&mut host, &[large]);
        assert_eq!((wire.len(), found), (expected, trains));
    }
    let counts = host.transport().outbound();
    assert_eq!((counts.seen.packets, counts.dropped_for(DropReason::Expired).packets, counts.offloaded.packets), (20, 8, 12));
}

/// Policy decides of a large packet as of its segments: bypassed ones are cut in clear by the NIC, discarded ones go nowhere.
#[test]
fn policy_of_large_packets() {
    for (action, sent) in [(transport::Action::Bypass, true), (transport::Action::Discard, false)] {
        for offload in [nic::software_capabilities(16), Offload::default()] {
            let mut host = Host::new(&HostConfig { medium: Medium::Ip, capacity: 16, hardware: offload, ..HostConfig::default() }).unwrap();
            host.transport().set_policies(|spd| spd.default_outbound = action);
            host.service(NOW, &mut FrameBatch::new());
            for large in [Large::new(HOST4, 3000, 1000), Large { segments: Segments::Udp, ..Large::new(HOST6, 3000, 1000) }] {
                let (wire, trains) = send(&mut host, &[large]);
                assert_eq!((wire.len(), trains), if sent { (3, offload != Offload::default()) } else { (0, false) });
                if sent {
                    assert!(large.reassemble(&wire).len() == 3000);
                }
            }
            let counts = host.transport().outbound();
            assert_eq!((counts.seen.packets, counts.ended()), (6, 6));
            assert_eq!(if sent { counts.clear } else { counts.dropped_for(DropReason::Policy) }.packets, 6);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// OV2-SEND-4: any large packet under any bundle: the same segments by NIC and software, opened and whole at the other end.
    #[test]
    fn any_large_packet(
        which: prop::sample::Index,
        (udp, extras, options, identification, sequence) in (any::<bool>(), any::<bool>(), 0_usize..=10, any::<u16>(), any::<u32>()),
        (mss, segments, last) in (prop_oneof![1_u32..50, 500_u32..9001], 1_usize..90, any::<prop::sample::Index>()),
        number in prop_oneof![Just(None), (0_u64..1 << 40).prop_map(Some), (1_u64..200).prop_map(|back| Some((9 << 32) - back))],
    ) {
        let kinds = shapes();
        let mut kind = kinds[which.index(kinds.len())].clone();
        if let Some(last) = number {
            kind = kind.extended(last);
        }
        let segments = segments.min(60_000 / mss as usize).max(1);
        let payload = (segments - 1) * mss as usize + 1 + last.index(mss as usize);
        let protocol = if udp { Segments::Udp } else { Segments::Tcp };
        let large = Large { ends: kind.inner, segments: protocol, options, extras, identification, sequence, payload, mss };
        let mut from = Ends::new(&kind, Direction::Outbound);
        let (offload, _) = send(&mut from.offload, &[large]);
        prop_assert!(offload == send(&mut from.software, &[large]).0, "{} {:?}", kind.name(), large);
        let mut to = Ends::new(&kind, Direction::Inbound);
        let delivered = receive(&mut to.offload, &offload).0;
        prop_assert_eq!(delivered.len() as u64, large.count());
        prop_assert!(large.reassemble(&delivered) == large.bytes()[large.bytes().len() - payload..]);
    }
}

/// Tunnels of either version around either, large.
#[test]
fn tunnels_of_all_versions() {
    for gate in [GATE4, GATE6] {
        for ends in [HOST4, HOST6] {
            for segments in [Segments::Tcp, Segments::Udp] {
                let kind = Kind::single(Mode::Tunnel, gate, ends, vec![GCM]);
                assert!(round_trip(&kind, Large { segments, ..Large::new(ends, 60_000, 1381) }));
            }
        }
    }
}
