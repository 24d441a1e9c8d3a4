//! Two hosts with the same SAs, of which one lets the NIC do the work and the other does it in software.

use ipsecov2::host::{Host, HostConfig};
use ndis::Direction;
use packet::{Frame, FrameBatch, IpAddress, IpProtocol, Ipv4Repr, Ipv6Repr, Medium, Time, UdpRepr, checksum};
use transport::{InboundBatch, InboundVerdict, OffloadPolicy, OffloadReason};

use crate::kinds::Kind;

pub(crate) const NOW: Time = Time::from_nanos(1);

pub(crate) struct Ends {
    pub offload: Host,
    pub software: Host,
    name: String,
}

impl Ends {
    pub(crate) fn new(kind: &Kind, direction: Direction) -> Self {
        let host = |policy| {
            let host = Host::new(&HostConfig { medium: Medium::Ip, mtu: 65_535, capacity: 16, ..HostConfig::default() }.with_nic_capacity(16)).unwrap();
            let sas = host.add_sas(kind.parameters(direction, policy), NOW).unwrap_or_else(|(at, error)| panic!("{}: bundle {at}: {error}", kind.name()));
            let mut host = host;
            host.service(NOW, &mut FrameBatch::new());
            let expected = if policy == OffloadPolicy::Prefer { OffloadReason::Offloaded } else { OffloadReason::Forbidden };
            for sa in sas {
                assert_eq!(host.transport().sa(sa).unwrap().offload, expected, "{}", kind.name());
            }
            host
        };
        Self { offload: host(OffloadPolicy::Prefer), software: host(OffloadPolicy::Forbid), name: kind.name() }
    }

    /// Sends by both ways, and returns what both put on the wire.
    pub(crate) fn send(&mut self, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (offload, software) = (send(&mut self.offload, packets), send(&mut self.software, packets));
        assert_eq!((offload.len(), software.len()), (packets.len(), packets.len()), "{}", self.name);
        for (number, (offload, software)) in offload.iter().zip(&software).enumerate() {
            assert!(offload == software, "{}: packet {number} differs on the wire\n{offload:02x?}\n{software:02x?}", self.name);
        }
        offload
    }

    /// Receives by both ways, compares all but what the NIC says, and returns what was delivered and the verdicts of the host with the NIC.
    pub(crate) fn receive(&mut self, wire: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<InboundVerdict>) {
        let (offload, software) = (receive(&mut self.offload, wire), receive(&mut self.software, wire));
        for (offload, software) in offload.1.iter().zip(&software.1) {
            assert_eq!((offload.verdict, &offload.associations), (software.verdict, &software.associations), "{}: {offload:?}\n{software:?}", self.name);
            assert!(!software.crypto_done);
        }
        assert!(offload.0 == software.0, "{}", self.name);
        offload
    }
}

pub(crate) fn send(host: &mut Host, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut batch: FrameBatch = packets.iter().map(|bytes| Frame::new(host.pool().copy_from(bytes))).collect();
    let mut wire = FrameBatch::new();
    host.send(NOW, &mut batch, &mut wire);
    wire.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect()
}

pub(crate) fn receive(host: &mut Host, wire: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<InboundVerdict>) {
    let mut batch: FrameBatch = wire.iter().map(|bytes| Frame::new(host.pool().copy_from(bytes))).collect();
    let mut out = InboundBatch { report: true, ..InboundBatch::default() };
    assert_eq!(host.receive(NOW, &mut batch, &mut out), 0);
    let delivered = out.delivered.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect();
    (delivered, out.verdicts)
}

/// A UDP packet with `payload` bytes of data, all checksums right.
pub(crate) fn udp(ends: (&str, &str), payload: usize) -> Vec<u8> {
    let (source, destination): (IpAddress, IpAddress) = (ends.0.parse().unwrap(), ends.1.parse().unwrap());
    let length = 8 + payload;
    let (mut packet, at) = match (source.into(), destination.into()) {
        (core::net::IpAddr::V4(source), core::net::IpAddr::V4(destination)) => {
            let mut packet = vec![0; 20 + length];
            let at = Ipv4Repr::new(IpProtocol::UDP, source, destination, length).emit(&mut packet).unwrap();
            (packet, at)
        }
        (core::net::IpAddr::V6(source), core::net::IpAddr::V6(destination)) => {
            let mut packet = vec![0; 40 + length];
            let at = Ipv6Repr::new(IpProtocol::UDP, source, destination, length).emit(&mut packet).unwrap();
            (packet, at)
        }
        _ => panic!("two versions"),
    };
    UdpRepr { src_port: 40_000, dst_port: 53, payload_len: payload }.emit(&mut packet[at..]).unwrap();
    for (i, byte) in packet[at + 8..].iter_mut().enumerate() {
        *byte = (i as u8).wrapping_mul(37).wrapping_add(payload as u8);
    }
    checksum::fill_segment(source, destination, IpProtocol::UDP, &mut packet[at..]).unwrap();
    packet
}
