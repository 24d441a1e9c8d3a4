//! The software path is the offload path: the same bytes on the wire, the same bytes and verdicts on receive, also of damaged packets.

mod common;

use std::collections::BTreeSet;

use common::{Connection, key, tunnel_v4};
use ipsec::{AesKeySize, Encryption};
use ipsecov2::host::{Host, HostConfig};
use ndis::Direction;
use packet::{Frame, FrameBatch, IpAddress, IpProtocol, Ipv4Repr, Ipv6Repr, Medium, Time};
use proptest::prelude::*;
use transport::{DropReason, InboundBatch, InboundVerdict, Mode, OffloadPolicy, OffloadReason, Verdict};

const NOW: Time = Time::from_nanos(1);

/// What stands between a packet's fixed header and its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extras {
    None,
    /// IPv4 options; IPv6 hop-by-hop options.
    Options,
    /// IPv6 destination options that only the transport header follows; in IPv4 nothing.
    Destination,
    /// IPv6 hop-by-hop options, routing header, destination options; in IPv4 ten words of options.
    Many,
    /// IPv6 atomic fragment header; in IPv4 nothing.
    Atomic,
}

#[derive(Clone, Debug)]
struct Shape {
    v6: bool,
    extras: Extras,
    /// Length of what the IP headers are followed by.
    payload: usize,
    class: u8,
}

impl Shape {
    fn packet(&self, source: IpAddress, destination: IpAddress, fill: u8) -> Vec<u8> {
        const DESTINATION: &[u8] = &[17, 0, 1, 4, 0, 0, 0, 0];
        let payload: Vec<u8> = (0..self.payload).map(|at| (at as u8).wrapping_mul(31) ^ fill).collect();
        match (source.into(), destination.into()) {
            (core::net::IpAddr::V4(source), core::net::IpAddr::V4(destination)) => {
                let options: &[u8] = match self.extras {
                    Extras::Options => &[0x94, 4, 0, 0],
                    Extras::Many => &[1; 40],
                    _ => &[],
                };
                let mut packet = vec![0; 20 + options.len() + payload.len()];
                let mut repr = Ipv4Repr::new(IpProtocol::UDP, source, destination, payload.len());
                repr.traffic_class = self.class;
                let header = repr.emit_with_options(&mut packet, options).unwrap();
                packet[header..].copy_from_slice(&payload);
                packet
            }
            (core::net::IpAddr::V6(source), core::net::IpAddr::V6(destination)) => {
                let (first, chain): (u8, Vec<u8>) = match self.extras {
                    Extras::None => (17, vec![]),
                    Extras::Options => (0, vec![17, 0, 1, 4, 0, 0, 0, 0]),
                    Extras::Destination => (60, DESTINATION.to_vec()),
                    Extras::Many => (0, [&[43, 0, 1, 4, 0, 0, 0, 0][..], &[60, 2, 4, 0, 0, 0, 0, 0], &[7; 16], DESTINATION].concat()),
                    Extras::Atomic => (44, vec![17, 0, 0, 0, 1, 2, 3, 4]),
                };
                let mut packet = vec![0; 40 + chain.len() + payload.len()];
                let mut repr = Ipv6Repr::new(IpProtocol(first), source, destination, chain.len() + payload.len());
                repr.traffic_class = self.class;
                repr.emit(&mut packet).unwrap();
                packet[40..40 + chain.len()].copy_from_slice(&chain);
                packet[40 + chain.len()..].copy_from_slice(&payload);
                packet
            }
            _ => panic!("two versions"),
        }
    }
}

fn address(text: &str) -> IpAddress {
    text.parse().unwrap()
}

/// The two ends, and what travels between them.
struct Ends {
    offload: Host,
    software: Host,
    medium: Medium,
}

impl Ends {
    /// Two hosts with the same SA; one lets the NIC do it.
    fn new(connection: &Connection, direction: Direction, medium: Medium) -> Self {
        let host = |policy| {
            let host = Host::new(&HostConfig { medium, mtu: 9216, capacity: 16, ..HostConfig::default() }.with_nic_capacity(16)).unwrap();
            let mut parameters = connection.parameters(direction, true);
            parameters.offload = policy;
            let sa = host.add_sa(parameters, NOW).unwrap();
            let expected = if policy == OffloadPolicy::Prefer { OffloadReason::Offloaded } else { OffloadReason::Forbidden };
            assert_eq!(host.transport().sa(sa).unwrap().offload, expected);
            host
        };
        Self { offload: host(OffloadPolicy::Prefer), software: host(OffloadPolicy::Forbid), medium }
    }

    fn frame(&self, packet: &[u8]) -> Vec<u8> {
        match self.medium {
            Medium::Ip => packet.to_vec(),
            Medium::Ethernet => {
                let kind = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
                [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1][..], &kind, packet].concat()
            }
        }
    }

    /// Sends by both ways, and returns what both put on the wire.
    fn send(&mut self, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let frames: Vec<_> = packets.iter().map(|packet| self.frame(packet)).collect();
        let send = |host: &mut Host| {
            let mut batch: FrameBatch = frames.iter().map(|bytes| Frame::new(host.pool().copy_from(bytes))).collect();
            let mut wire = FrameBatch::new();
            host.send(NOW, &mut batch, &mut wire);
            wire.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect::<Vec<_>>()
        };
        let (offload, software) = (send(&mut self.offload), send(&mut self.software));
        assert_eq!(offload.len(), software.len());
        for (number, (offload, software)) in offload.iter().zip(&software).enumerate() {
            assert!(offload == software, "packet {number} differs on the wire");
        }
        offload
    }

    /// Receives by both ways, and returns what both delivered and said.
    fn receive(&mut self, wire: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<Verdict>) {
        let receive = |host: &mut Host| {
            let mut batch: FrameBatch = wire.iter().map(|bytes| Frame::new(host.pool().copy_from(bytes))).collect();
            let mut out = InboundBatch { report: true, ..InboundBatch::default() };
            assert_eq!(host.receive(NOW, &mut batch, &mut out), 0);
            assert!(out.passed.is_empty());
            let delivered: Vec<_> = out.delivered.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect();
            (delivered, out.verdicts)
        };
        let (offload, software) = (receive(&mut self.offload), receive(&mut self.software));
        let said = |verdict: &InboundVerdict| (verdict.tag, verdict.associations.clone(), verdict.verdict);
        assert_eq!(offload.1.iter().map(said).collect::<Vec<_>>(), software.1.iter().map(said).collect::<Vec<_>>());
        assert_eq!(offload.0, software.0);
        (offload.0, offload.1.iter().map(|verdict| verdict.verdict).collect())
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    let extras = proptest::sample::select(vec![Extras::None, Extras::None, Extras::Options, Extras::Destination, Extras::Many, Extras::Atomic]);
    let payload = prop_oneof![0..80_usize, 0..1500_usize, 0..8_940_usize];
    (any::<bool>(), extras, payload, any::<u8>()).prop_map(|(v6, extras, payload, class)| Shape { v6, extras, payload, class })
}

fn connection() -> impl Strategy<Value = Connection> {
    let size = proptest::sample::select(vec![AesKeySize::Aes128, AesKeySize::Aes192, AesKeySize::Aes256]);
    let icv = proptest::sample::select(vec![16_u8, 12, 8]);
    let last = proptest::sample::select(vec![0_u64, 1000, (1 << 32) - 3, (7 << 32) + 5, (1 << 31) - 2]);
    (any::<bool>(), any::<bool>(), size, icv, any::<bool>(), last).prop_map(|(tunnel, v6, size, icv_length, esn, last)| Connection {
        mode: if tunnel { Mode::Tunnel } else { Mode::Transport },
        a: address(if v6 { "2001:db8::1" } else { "192.0.2.1" }),
        b: address(if v6 { "2001:db8::2" } else { "192.0.2.2" }),
        encryption: Encryption::AesGcm(size),
        icv_length,
        esn,
        sequence: if esn { last } else { last & 0xffff },
        ..tunnel_v4()
    })
}

/// Packets that the connection carries.
fn packets(connection: &Connection, shapes: &[Shape]) -> Vec<Vec<u8>> {
    shapes
        .iter()
        .zip(0..)
        .map(|(shape, fill)| match connection.mode {
            Mode::Transport => Shape { v6: !connection.a.is_v4(), ..shape.clone() }.packet(connection.a, connection.b, fill),
            Mode::Tunnel if shape.v6 => shape.packet(address("2001:db8:1::1"), address("2001:db8:2::1"), fill),
            Mode::Tunnel => shape.packet(address("10.0.1.1"), address("10.0.2.1"), fill),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn software_and_offload_make_the_same_wire_and_take_it_off_alike(
        connection in connection(),
        shapes in proptest::collection::vec(shape(), 1..8),
        ethernet: bool,
        damage in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..=255_u8),
    ) {
        let medium = if ethernet { Medium::Ethernet } else { Medium::Ip };
        let sent = packets(&connection, &shapes);
        let mut from = Ends::new(&connection, Direction::Outbound, medium);
        let wire = from.send(&sent);
        prop_assert_eq!(wire.len(), sent.len());
        let counts = from.offload.transport().outbound();
        prop_assert!(counts.offloaded.packets + counts.software.packets == sent.len() as u64);
        if connection.mode == Mode::Tunnel && !connection.esn {
            prop_assert_eq!(counts.offloaded.packets, sent.len() as u64);
        }
        prop_assert_eq!(from.software.transport().outbound().software.packets, sent.len() as u64);

        let mut to = Ends::new(&connection, Direction::Inbound, medium);
        // One is damaged on the way, between the SPI and the end of the ICV; then all arrive.
        let (which, at, flip) = damage;
        let which = which.index(wire.len());
        let mut damaged = wire[which].clone();
        let esp = esp_offset(&damaged, medium);
        let at = esp + at.index(damaged.len() - esp);
        damaged[at] ^= flip;
        let (delivered, verdicts) = to.receive(&[damaged]);
        prop_assert!(delivered.is_empty() && matches!(verdicts[..], [Verdict::Dropped(_)]), "byte {} of {:?}", at, verdicts);
        let (delivered, _) = to.receive(&wire);
        let expected: Vec<_> = sent.iter().map(|packet| to.frame(packet)).collect();
        prop_assert_eq!(delivered, expected);
        // And nothing arrives twice.
        let (delivered, verdicts) = to.receive(&wire);
        prop_assert!(delivered.is_empty() && verdicts.iter().all(|verdict| *verdict == Verdict::Dropped(DropReason::Replayed)));
        for host in [&from.offload, &from.software] {
            let counts = host.transport().outbound();
            prop_assert_eq!(counts.seen.packets, counts.ended());
        }
        for host in [&to.offload, &to.software] {
            let counts = host.transport().inbound();
            prop_assert_eq!(counts.seen.packets, counts.ended());
        }
    }
}

/// Where the ESP header of a frame on the wire begins.
fn esp_offset(frame: &[u8], medium: Medium) -> usize {
    let l3 = if medium == Medium::Ethernet { 14 } else { 0 };
    let parsed = packet::ParsedIp::parse(&frame[l3..]).unwrap();
    assert_eq!(parsed.protocol(), IpProtocol::ESP);
    l3 + parsed.header_len()
}

#[test]
fn every_byte_from_spi_to_icv_matters_to_both() {
    for mode in [Mode::Transport, Mode::Tunnel] {
        for icv_length in [16, 12, 8] {
            for (esn, size) in [(false, AesKeySize::Aes128), (true, AesKeySize::Aes256)] {
                let connection = Connection { mode, icv_length, esn, encryption: Encryption::AesGcm(size), ..tunnel_v4() };
                let shape = Shape { v6: false, extras: Extras::None, payload: 21, class: 2 };
                let sent = packets(&connection, &[shape]);
                let wire = Ends::new(&connection, Direction::Outbound, Medium::Ip).send(&sent).remove(0);
                let mut to = Ends::new(&connection, Direction::Inbound, Medium::Ip);
                let mut reasons = BTreeSet::new();
                for at in 20..wire.len() {
                    for flip in [1, 2, 0x10, 0x80, 0xff] {
                        let mut damaged = wire.clone();
                        damaged[at] ^= flip;
                        let (delivered, verdicts) = to.receive(&[damaged]);
                        assert!(delivered.is_empty(), "byte {at} with {flip:#x}");
                        let [Verdict::Dropped(reason)] = verdicts[..] else { panic!("{verdicts:?}") };
                        // Another SPI is another SA's packet; number 0 is nobody's; all else fails authentication.
                        let expected = match (at, reason) {
                            (20..24, reason) => reason == DropReason::Policy,
                            (24..28, reason) => matches!(reason, DropReason::AuthFailed | DropReason::Replayed),
                            (_, reason) => reason == DropReason::AuthFailed,
                        };
                        assert!(expected, "byte {at}: {reason}");
                        reasons.insert(reason.name());
                    }
                }
                assert!(reasons.contains("policy") && reasons.contains("auth-failed"));
                assert_eq!(to.receive(&[wire]).0, sent, "none of them moved the window");
            }
        }
    }
}

#[test]
fn the_smallest_and_the_largest_packets_are_the_same_too() {
    for (v6, mode) in [(false, Mode::Tunnel), (true, Mode::Tunnel), (false, Mode::Transport)] {
        let connection = Connection { mode, ..tunnel_v4() };
        for payload in [0, 1, 2, 3, 4, 5, 1400, 8_960, 60_000, 65_400] {
            let sent = packets(&connection, &[Shape { v6, extras: Extras::None, payload, class: 0 }]);
            let wire = Ends::new(&connection, Direction::Outbound, Medium::Ip).send(&sent);
            assert_eq!(Ends::new(&connection, Direction::Inbound, Medium::Ip).receive(&wire).0, sent, "{payload}");
        }
    }
}

#[test]
fn another_key_opens_nothing() {
    let connection = tunnel_v4();
    let wire = Ends::new(&connection, Direction::Outbound, Medium::Ip)
        .send(&packets(&connection, &[Shape { v6: false, extras: Extras::None, payload: 99, class: 0 }]));
    for (at, policy) in [(0, OffloadPolicy::Prefer), (15, OffloadPolicy::Forbid), (16, OffloadPolicy::Prefer), (19, OffloadPolicy::Forbid)] {
        let mut host = Host::new(&HostConfig { medium: Medium::Ip, ..HostConfig::default() }).unwrap();
        let mut parameters = connection.parameters(Direction::Inbound, true);
        let mut other = key(connection.encryption, 1);
        other.expose_mut()[at] ^= 1;
        parameters.associations[0].encryption_key = other;
        parameters.offload = policy;
        host.add_sa(parameters, NOW).unwrap();
        let mut out = InboundBatch { report: true, ..InboundBatch::default() };
        let mut batch: FrameBatch = wire.iter().map(|bytes| Frame::new(host.pool().copy_from(bytes))).collect();
        host.receive(NOW, &mut batch, &mut out);
        assert_eq!(out.verdicts[0].verdict, Verdict::Dropped(DropReason::AuthFailed), "key or salt byte {at}");
    }
}
