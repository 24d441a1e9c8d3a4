//! Checksums and tags together with IPsec, from the frame that is handed in to the frame that is delivered: the same bytes whoever does the work (OV2-SEND-9,
//! OV2-CAP-4, OV2-OOB-4, OV2-TRANS-0, OV2-TRANS-2).

mod common;

use std::sync::Arc;

use common::{Connection, tunnel_v4};
use ipsecov2::host::{Host, HostConfig};
use ndis::{Direction, Encapsulation, IpsecSetting, Keyword, MemoryRegistry, Offload, OffloadFlags, OffloadParameters, Registry, Status, SystemValue};
use packet::{ChecksumState, Frame, FrameBatch, IpAddress, IpProtocol, Ipv4Repr, Ipv6Repr, Medium, Time, checksum};
use proptest::prelude::*;
use transport::{Action, InboundBatch, Mode, OffloadPolicy, OffloadReason, PacketReason, SaParameters};

const NOW: Time = Time::from_nanos(1);
const OUT: Direction = Direction::Outbound;
const IN: Direction = Direction::Inbound;

fn address(text: &str) -> IpAddress {
    text.parse().unwrap()
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Nic {
    /// IPsec.
    seals: bool,
    /// Checksums, by their keywords.
    sums: bool,
    /// Both on one packet.
    both: bool,
    /// Forms of tags, beside frames without.
    forms: Encapsulation,
}

impl Nic {
    const NOTHING: Self = Self { seals: false, sums: false, both: false, forms: Encapsulation::empty() };
    const EVERYTHING: Self =
        Self { seals: true, sums: true, both: true, forms: Encapsulation::IEEE_802_3_P_AND_Q.union(Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB) };

    fn hardware(self) -> Offload {
        let mut all = nic::software_capabilities(16);
        let encapsulation = Encapsulation::NULL | Encapsulation::IEEE_802_3 | self.forms;
        all.ipsec_v2.encapsulation = encapsulation;
        let sets = &mut all.checksum;
        for set in [&mut sets.ipv4_transmit, &mut sets.ipv4_receive, &mut sets.ipv6_transmit, &mut sets.ipv6_receive] {
            set.encapsulation = encapsulation;
        }
        if !self.both {
            all.flags = OffloadFlags::empty();
        }
        all
    }

    fn host(self, medium: Medium) -> Host {
        let registry = MemoryRegistry::new();
        if !self.sums {
            for keyword in [Keyword::TcpUdpChecksumIpv4, Keyword::TcpUdpChecksumIpv6] {
                registry.set("nic0", keyword, 0).unwrap();
            }
        }
        let config = HostConfig { medium, mtu: 9216, capacity: 16, hardware: self.hardware(), registry: Arc::new(registry), ..HostConfig::default() };
        Host::new(&config).unwrap()
    }

    fn with(self, medium: Medium, connection: &Connection, direction: Direction) -> Host {
        let host = self.host(medium);
        host.add_sa(SaParameters { offload: self.policy(), ..connection.parameters(direction, true) }, NOW).unwrap();
        host
    }

    const fn policy(self) -> OffloadPolicy {
        if self.seals { OffloadPolicy::Prefer } else { OffloadPolicy::Forbid }
    }
}

/// A packet with a segment.
#[derive(Clone, Debug)]
struct Shape {
    v6: bool,
    udp: bool,
    tcp_options: bool,
    ip_options: bool,
    payload: Vec<u8>,
    /// Tag control information of a tag in the data.
    tag: Option<u16>,
}

impl Shape {
    /// The frame with a checksum that is only seeded, and with one that is computed.
    fn frames(&self, medium: Medium, source: IpAddress, destination: IpAddress) -> [Vec<u8>; 2] {
        let protocol = if self.udp { IpProtocol::UDP } else { IpProtocol::TCP };
        let mut segment = vec![0x12, 0x34, 0x01, 0xbb];
        if self.udp {
            segment.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            segment.extend([0, 0]);
        } else {
            segment.extend([0, 0, 0, 1, 0, 0, 0, 2, if self.tcp_options { 0x60 } else { 0x50 }, 0x18, 0x20, 0, 0, 0, 0, 0]);
            segment.extend(if self.tcp_options { &[1, 1, 1, 0][..] } else { &[] });
        }
        segment.extend(&self.payload);
        let (mut seeded, mut whole) = (segment.clone(), segment);
        assert!(checksum::seed_segment(source, destination, protocol, &mut seeded).unwrap());
        assert!(checksum::fill_segment(source, destination, protocol, &mut whole).unwrap());
        [seeded, whole].map(|segment| [&self.link(medium)[..], &self.packet(source, destination, protocol, &segment)].concat())
    }

    fn packet(&self, source: IpAddress, destination: IpAddress, protocol: IpProtocol, segment: &[u8]) -> Vec<u8> {
        match (source.into(), destination.into()) {
            (core::net::IpAddr::V4(source), core::net::IpAddr::V4(destination)) => {
                let options: &[u8] = if self.ip_options { &[0x94, 4, 0, 0] } else { &[] };
                let mut packet = vec![0; 20 + options.len()];
                let mut padded = [&packet[..], segment].concat();
                Ipv4Repr::new(protocol, source, destination, segment.len()).emit_with_options(&mut padded, options).unwrap();
                packet.copy_from_slice(&padded[..20 + options.len()]);
                [&packet[..], segment].concat()
            }
            (core::net::IpAddr::V6(source), core::net::IpAddr::V6(destination)) => {
                let options: &[u8] = if self.ip_options { &[protocol.0, 0, 1, 4, 0, 0, 0, 0] } else { &[] };
                let first = if self.ip_options { IpProtocol::DESTINATION_OPTIONS } else { protocol };
                let mut header = vec![0; 40];
                Ipv6Repr::new(first, source, destination, options.len() + segment.len()).emit(&mut header).unwrap();
                [&header, options, segment].concat()
            }
            _ => panic!("two versions"),
        }
    }

    fn link(&self, medium: Medium) -> Vec<u8> {
        if medium == Medium::Ip {
            return vec![];
        }
        let tag = self.tag.map_or(vec![], |tci| [&[0x81, 0][..], &tci.to_be_bytes()].concat());
        let kind = if self.v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1][..], &tag, &kind].concat()
    }
}

fn send(host: &mut Host, frames: &[Vec<u8>], checksum: ChecksumState) -> Vec<Vec<u8>> {
    let mut batch: FrameBatch = frames.iter().map(|bytes| Frame { checksum, ..Frame::new(host.pool().copy_from(bytes)) }).collect();
    let mut wire = FrameBatch::new();
    host.send(NOW, &mut batch, &mut wire);
    wire.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect()
}

fn receive(host: &mut Host, wire: &[Vec<u8>]) -> Vec<(Vec<u8>, ChecksumState)> {
    let mut batch: FrameBatch = wire.iter().map(|bytes| Frame::new(host.pool().copy_from(bytes))).collect();
    let mut out = InboundBatch::default();
    assert_eq!(host.receive(NOW, &mut batch, &mut out), 0);
    out.delivered.iter().chain(&out.passed).map(|frame| (frame.buffer.as_slice().to_vec(), frame.checksum)).collect()
}

/// Reasons of what was done in software, out or in.
fn software(host: &Host, direction: Direction) -> Vec<(PacketReason, u64)> {
    let counts = if direction == OUT { host.transport().outbound() } else { host.transport().inbound() };
    PacketReason::ALL.into_iter().map(|reason| (reason, counts.software_for(reason))).filter(|(_, packets)| *packets != 0).collect()
}

fn shape() -> impl Strategy<Value = Shape> {
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    let tag = prop_oneof![Just(None), Just(None), (1_u16..).prop_map(Some)];
    (any::<[bool; 4]>(), payload, tag).prop_map(|([v6, udp, tcp_options, ip_options], payload, tag)| Shape { v6, udp, tcp_options, ip_options, payload, tag })
}

fn nics() -> impl Strategy<Value = Nic> {
    (any::<[bool; 3]>(), 0_usize..4).prop_map(|([seals, sums, both], forms)| Nic {
        seals,
        sums,
        both,
        forms: [Encapsulation::empty(), Encapsulation::IEEE_802_3_P_AND_Q, Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB, Nic::EVERYTHING.forms][forms],
    })
}

fn connection(tunnel: bool, v6: bool) -> Connection {
    Connection {
        mode: if tunnel { Mode::Tunnel } else { Mode::Transport },
        a: address(if v6 { "2001:db8::1" } else { "192.0.2.1" }),
        b: address(if v6 { "2001:db8::2" } else { "192.0.2.2" }),
        ..tunnel_v4()
    }
}

fn ends(connection: &Connection, shape: &Shape) -> (IpAddress, IpAddress) {
    match connection.mode {
        Mode::Transport => (connection.a, connection.b),
        Mode::Tunnel if shape.v6 => (address("2001:db8:1::1"), address("2001:db8:2::1")),
        Mode::Tunnel => (address("10.0.1.1"), address("10.0.2.1")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// OV2-SEND-9, OV2-TRANS-2: whatever the NIC does of it, what is on the wire is what software makes of packets whose checksums are there, and what is
    /// delivered is the packets, with the tags that they had.
    #[test]
    fn who_does_the_work_shows_nowhere(
        (sender, receiver) in (nics(), nics()),
        shapes in prop::collection::vec(shape(), 1..6),
        (tunnel, v6, ethernet) in any::<(bool, bool, bool)>(),
    ) {
        let medium = if ethernet { Medium::Ethernet } else { Medium::Ip };
        let connection = connection(tunnel, v6);
        let shapes: Vec<_> = shapes.into_iter().map(|shape| if tunnel { shape } else { Shape { v6, ..shape } }).collect();
        let frames: Vec<_> = shapes.iter().map(|shape| {
            let (source, destination) = ends(&connection, shape);
            shape.frames(medium, source, destination)
        }).collect();
        let seeded: Vec<_> = frames.iter().map(|[seeded, _]| seeded.clone()).collect();
        let whole: Vec<_> = frames.into_iter().map(|[_, whole]| whole).collect();
        let expected = send(&mut Nic::NOTHING.with(medium, &connection, OUT), &whole, ChecksumState::Unknown);
        prop_assert_eq!(expected.len(), whole.len());
        let mut host = sender.with(medium, &connection, OUT);
        prop_assert_eq!(&send(&mut host, &seeded, ChecksumState::Partial), &expected);
        let counts = host.nic_counters();
        prop_assert_eq!((counts.send_failed, counts.send_not_configured), (0, 0), "nothing is asked for that is not offered (OV2-TRANS-0)");
        // A frame whose form the NIC does not know goes in software, and for no other reason does one.
        let unknown = |nic: Nic, shape: &Shape| ethernet && shape.tag.is_some() && nic.forms.is_empty();
        let odd = shapes.iter().filter(|shape| unknown(sender, shape)).count() as u64;
        let because = |nic: Nic, odd: u64, all: usize| match (nic.seals, odd) {
            (false, _) => vec![(PacketReason::SaNotOffloaded, all as u64)],
            (true, 0) => vec![],
            (true, odd) => vec![(PacketReason::Encapsulation, odd)],
        };
        prop_assert_eq!(software(&host, OUT), because(sender, odd, shapes.len()));

        let mut host = receiver.with(medium, &connection, IN);
        let delivered = receive(&mut host, &expected);
        let bytes: Vec<_> = delivered.iter().map(|(bytes, _)| bytes.clone()).collect();
        // A tunnel gives the packet a link header of its own version; all else is as it was.
        prop_assert_eq!(bytes, whole);
        let odd = shapes.iter().filter(|shape| unknown(receiver, shape)).count() as u64;
        prop_assert_eq!(software(&host, IN), because(receiver, odd, shapes.len()));
        for (shape, (_, state)) in shapes.iter().zip(&delivered) {
            let verified = receiver.seals && receiver.sums && receiver.both && !unknown(receiver, shape);
            prop_assert_eq!(*state, if verified { ChecksumState::Verified } else { ChecksumState::Unknown }, "{:?} {:?}", receiver, shape);
        }
    }

    /// The same in clear, where policy lets packets by.
    #[test]
    fn packets_in_clear_have_their_checksums_computed_and_verified(nic in nics(), shape in shape(), ethernet: bool) {
        let medium = if ethernet { Medium::Ethernet } else { Medium::Ip };
        let bypass = |host: &Host| host.transport().set_policies(|spd| (spd.default_outbound, spd.default_inbound) = (Action::Bypass, Action::Bypass));
        let (source, destination) = if shape.v6 { (address("2001:db8::1"), address("2001:db8::2")) } else { (address("192.0.2.1"), address("192.0.2.2")) };
        let [seeded, whole] = shape.frames(medium, source, destination);
        let mut host = nic.host(medium);
        bypass(&host);
        prop_assert_eq!(&send(&mut host, &[seeded], ChecksumState::Partial), std::slice::from_ref(&whole));
        prop_assert_eq!(host.nic_counters().send_failed, 0);
        let (bytes, state) = receive(&mut host, std::slice::from_ref(&whole)).remove(0);
        prop_assert_eq!(bytes, whole);
        let known = !ethernet || shape.tag.is_none() || !nic.forms.is_empty();
        prop_assert_eq!(state == ChecksumState::Verified, nic.sums && known);
    }
}

/// OV2-CAP-10, OV2-TRANS-2: the adapter is switched off, and the transport has not heard of it: what comes back goes out whole, and sealed here.
#[test]
fn what_comes_back_gets_its_checksum_and_its_tag_in_software() {
    for tunnel in [false, true] {
        for forms in [Encapsulation::IEEE_802_3_P_AND_Q, Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB] {
            let connection = connection(tunnel, false);
            let shape = Shape { v6: false, udp: true, tcp_options: false, ip_options: false, payload: b"payload".to_vec(), tag: Some(0xa123) };
            let (source, destination) = ends(&connection, &shape);
            let [seeded, whole] = shape.frames(Medium::Ethernet, source, destination);
            let mut host = Nic { forms, ..Nic::EVERYTHING }.with(Medium::Ethernet, &connection, OUT);
            assert_eq!(host.operator().set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled)), Status::SUCCESS);
            let wire = send(&mut host, &[seeded], ChecksumState::Partial);
            assert_eq!(software(&host, OUT), [(PacketReason::GivenBack, 1)]);
            let mut peer = Nic::NOTHING.with(Medium::Ethernet, &connection, IN);
            assert_eq!(receive(&mut peer, &wire), [(whole, ChecksumState::Unknown)], "{tunnel} {forms:?}");
        }
    }
}

/// A frame that says that its checksum is to be computed, and has none, ends here: nobody can tell what was meant.
#[test]
fn what_has_no_checksum_to_compute_is_dropped() {
    let connection = connection(true, false);
    let mut host = Nic::EVERYTHING.with(Medium::Ip, &connection, OUT);
    let icmp = [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 1, 1, 10, 0, 2, 1][..], &[8, 0, 0, 0, 0, 1, 0, 1]].concat();
    let mut fragment = icmp.clone();
    (fragment[6], fragment[9]) = (0x20, 17);
    let mut short = icmp.clone();
    short[9] = 6;
    assert!(send(&mut host, &[icmp, fragment, short], ChecksumState::Partial).is_empty());
    assert_eq!(host.transport().outbound().dropped_for(transport::DropReason::Malformed).packets, 3);
}

/// The swift ways are for packets that ask for nothing; those in between go the general way, and order is kept.
#[test]
fn packets_with_and_without_a_request_keep_their_order() {
    let connection = connection(true, false);
    let shape = |byte: u8| Shape { v6: false, udp: true, tcp_options: false, ip_options: false, payload: vec![byte; 10], tag: None };
    let frames: Vec<_> = (0..40).map(|number| shape(number).frames(Medium::Ip, address("10.0.1.1"), address("10.0.2.1"))).collect();
    let mut host = Nic::EVERYTHING.with(Medium::Ip, &connection, OUT);
    let mut batch: FrameBatch = (0..)
        .zip(&frames)
        .map(|(number, [seeded, whole])| {
            let (bytes, checksum) = if number % 3 == 1 { (seeded, ChecksumState::Partial) } else { (whole, ChecksumState::Unknown) };
            Frame { checksum, ..Frame::new(host.pool().copy_from(bytes)) }
        })
        .collect();
    let mut wire = FrameBatch::new();
    host.send(NOW, &mut batch, &mut wire);
    let wire: Vec<_> = wire.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect();
    let mut peer = Nic::EVERYTHING.with(Medium::Ip, &connection, IN);
    let expected: Vec<_> = frames.into_iter().map(|[_, whole]| (whole, ChecksumState::Verified)).collect();
    assert_eq!(receive(&mut peer, &wire), expected);
}

/// OV2-CAP-5: `EnabledOffload` 0 stops IPsec offload and nothing else; `DisableTaskOffload` 1 stops all of it, and no encapsulation is set.
#[test]
fn system_values_switch_what_they_say() {
    let shape = Shape { v6: false, udp: false, tcp_options: false, ip_options: false, payload: b"payload".to_vec(), tag: None };
    let connection = connection(true, false);
    let (source, destination) = ends(&connection, &shape);
    let [seeded, whole] = shape.frames(Medium::Ip, source, destination);
    let table = [
        (None, OffloadReason::Offloaded, true),
        (Some((SystemValue::EnabledOffload, 0)), OffloadReason::IpsecOffloadDisabled, true),
        (Some((SystemValue::DisableTaskOffload, 1)), OffloadReason::TaskOffloadDisabled, false),
    ];
    for (system, reason, sums) in table {
        let host = || {
            let registry = MemoryRegistry::new();
            if let Some((value, number)) = system {
                registry.set_system(value, number).unwrap();
            }
            let config = HostConfig { medium: Medium::Ip, capacity: 16, registry: Arc::new(registry), ..HostConfig::default() };
            Host::new(&config).unwrap()
        };
        let with_sa = |direction| {
            let host = host();
            let sa = host.add_sa(connection.parameters(direction, true), NOW).unwrap();
            assert_eq!(host.transport().sa(sa).unwrap().offload, reason, "{system:?}");
            host
        };
        let (mut sender, mut receiver, mut clear) = (with_sa(OUT), with_sa(IN), host());
        clear.transport().set_policies(|spd| spd.default_inbound = Action::Bypass);
        assert_eq!(sender.operator().encapsulation().is_ok(), sums, "{system:?}: OID_OFFLOAD_ENCAPSULATION");
        let wire = send(&mut sender, std::slice::from_ref(&seeded), ChecksumState::Partial);
        let state = if reason == OffloadReason::Offloaded { ChecksumState::Verified } else { ChecksumState::Unknown };
        assert_eq!(receive(&mut receiver, &wire), [(whole.clone(), state)], "{system:?}");
        // In clear only checksums are to be had.
        let state = if sums { ChecksumState::Verified } else { ChecksumState::Unknown };
        assert_eq!(receive(&mut clear, std::slice::from_ref(&whole)), [(whole.clone(), state)], "{system:?}");
    }
}
