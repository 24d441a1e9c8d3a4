//! Every packet done in software is counted under exactly one reason (OV2-TRANS-2).

mod common;

use std::sync::Arc;

use common::bundle::Headers;
use common::exchange::{nested, packets};
use common::{Host, Sa, Setup, address, inner, ip};
use ndis::{CryptoStatus, Direction, MemoryRegistry};
use packet::{IpProtocol, Ipv4Repr, Medium};
use transport::{OffloadPolicy, PacketReason, WayCounts};

const OUT: Direction = Direction::Outbound;
const IN: Direction = Direction::Inbound;

/// A UDP packet from A to B with IPv4 options.
fn with_options(options: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20 + options.len() + 8];
    Ipv4Repr::new(IpProtocol::UDP, "192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap(), 8).emit_with_options(&mut packet, options).unwrap();
    packet
}

/// An IPv6 packet with hop-by-hop options of so many bytes in front of UDP.
fn with_hop_by_hop(length: usize) -> Vec<u8> {
    let mut payload = vec![0; length + 8];
    (payload[0], payload[1]) = (17, (length / 8 - 1) as u8);
    let mut rest = &mut payload[2..length];
    // PadN options, as long as they can be.
    while !rest.is_empty() {
        let option = rest.len().min(257);
        // One byte alone would be Pad1.
        let option = if rest.len() - option == 1 { option - 1 } else { option };
        (rest[0], rest[1]) = (1, (option - 2) as u8);
        rest = &mut rest[option..];
    }
    payload[length + 5] = 8;
    ip(address("2001:db8::1"), address("2001:db8::2"), IpProtocol(0), &payload)
}

/// What it is, the SA, what is sent, and why how many of these are done in software.
type Row<'a> = (&'a str, &'a Sa, Vec<Vec<u8>>, &'a [(PacketReason, u64)]);

fn reasons(counts: &WayCounts) -> Vec<(PacketReason, u64)> {
    Host::reasons(counts)
}

/// OV2-TRANS-2: what leaves the offload path on the way out, and why.
#[test]
fn outbound_packets_have_the_reason_that_decided() {
    let (a6, b6) = (address("2001:db8::1"), address("2001:db8::2"));
    let v4 = Sa::transport(OUT);
    let v6 = Sa { source: a6, destination: b6, ..Sa::transport(OUT).spi(0x2002) };
    let forbidden = Sa { offload: OffloadPolicy::Forbid, ..Sa::transport(OUT) };
    let at_the_wrap = Sa::transport(OUT).esn((1 << 32) - 2);
    let plain = ip(address(common::A), address(common::B), IpProtocol::UDP, &[0, 1, 0, 2, 0, 8, 0, 0]);
    let table: [Row<'_>; 7] = [
        ("plain", &v4, vec![plain.clone(); 3], &[]),
        ("options", &v4, vec![with_options(&[1, 1, 1, 0]), plain.clone()], &[(PacketReason::Ipv4Options, 1)]),
        ("hop by hop", &v6, vec![with_hop_by_hop(8), with_hop_by_hop(16)], &[(PacketReason::ExtensionHeaders, 2)]),
        ("forbidden", &forbidden, vec![plain.clone(); 5], &[(PacketReason::SaNotOffloaded, 5)]),
        // That the NIC has not its SA comes first.
        ("forbidden, with options", &forbidden, vec![with_options(&[1, 1, 1, 0])], &[(PacketReason::SaNotOffloaded, 1)]),
        // The first one before the wrap, then one after the other beyond it.
        ("wrap", &at_the_wrap, vec![plain.clone(); 3], &[(PacketReason::SequenceInDoubt, 2)]),
        ("wrap, with options", &at_the_wrap, vec![with_options(&[1, 1, 1, 0]); 3], &[(PacketReason::Ipv4Options, 3)]),
    ];
    for general in [false, true] {
        for (what, sa, packets, expected) in &table {
            let mut host = Host::default();
            if general {
                host.lane.take_the_general_way_out();
            }
            host.nic.set_config(|config| (config.ipsec_v2.ipv4_options, config.ipsec_v2.ipv6_non_ipsec_extension_headers) = (false, false));
            host.service();
            host.add(sa);
            assert_eq!(host.send(packets).len(), packets.len(), "{what}");
            assert_eq!(reasons(&host.transport.outbound()), *expected, "{what}");
            host.assert_all_ended();
        }
    }
}

/// OV2-OOB-3: headers beyond 1020 bytes cannot be told of.
#[test]
fn what_is_too_far_behind_has_its_reason() {
    let sa = Sa { source: address("2001:db8::1"), destination: address("2001:db8::2"), ..Sa::transport(OUT) };
    for (length, expected) in [(976, vec![]), (984, vec![(PacketReason::Size, 1)])] {
        let mut host = Host::default();
        host.add(&sa);
        assert_eq!(host.send(&[with_hop_by_hop(length)]).len(), 1);
        assert_eq!(reasons(&host.transport.outbound()), expected, "{length}");
        host.assert_all_ended();
    }
}

/// OV2-SEND-1: what comes back is done in software, for that reason.
#[test]
fn what_the_nic_gives_back_has_its_reason() {
    let mut host = Host::default();
    host.add(&Sa::tunnel(OUT));
    host.nic.script().fail_every = 4;
    host.nic.script().fail_offloaded_only = true;
    assert_eq!(host.send(&packets(false, 20)).len(), 20);
    let counts = host.transport.outbound();
    assert_eq!((reasons(&counts), counts.retried), (vec![(PacketReason::GivenBack, 5)], 5));
    host.assert_all_ended();
}

/// OV2-CAP-2: a frame with a tag, and an adapter that does not know of them; on both ways.
#[test]
fn frames_with_a_tag_that_the_nic_does_not_take_have_their_reason() {
    for tags in [false, true] {
        let setup = Setup { medium: Medium::Ethernet, ..Setup::default() };
        let mut host = Host::with(&setup, &Arc::new(MemoryRegistry::new()), |nic| {
            let mut attributes = nic.attributes.lock().unwrap();
            let attributes = attributes.as_mut().unwrap();
            attributes.hardware_capabilities.ipsec_v2.encapsulation.set(ndis::Encapsulation::IEEE_802_3_P_AND_Q, tags);
        });
        host.add(&Sa::tunnel(OUT));
        host.add(&Sa::tunnel(IN));
        let link: &[u8] = &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 5, 8, 0];
        let expected = if tags { vec![] } else { vec![(PacketReason::Encapsulation, 1)] };
        if !tags {
            assert_eq!(host.send(&[[link, &inner(1)].concat()]).len(), 1);
            assert_eq!(reasons(&host.transport.outbound()), expected);
        }
        let frame = [link, &Sa::tunnel(IN).seal_packet(1, &inner(1), 4)].concat();
        assert_eq!(host.receive_in_software(&[frame]).words(), ["delivered"]);
        assert_eq!(reasons(&host.transport.inbound()), if tags { vec![(PacketReason::Untouched, 1)] } else { expected });
        host.assert_all_ended();
    }
}

/// OV2-TRANS-2: what comes up undone although the NIC has the SA, and why.
#[test]
fn inbound_packets_have_the_reason_that_decided() {
    // What came up as it was: no verdict out of band.
    let undone = |offload, change: fn(&mut ndis::Offload), frame: fn(&Sa) -> Vec<u8>| {
        let mut host = Host::default();
        host.nic.set_config(change);
        host.service();
        let sa = Sa { offload, ..Sa::tunnel(IN) };
        host.add(&sa);
        assert_eq!(host.receive_in_software(&[frame(&sa)]).words(), ["delivered"]);
        host.assert_all_ended();
        reasons(&host.transport.inbound())
    };
    let plain = |sa: &Sa| sa.seal_packet(1, &inner(1), 4);
    let options = |sa: &Sa| {
        let plain = sa.seal_packet(1, &inner(1), 4);
        let mut packet = vec![0; plain.len() + 4];
        Ipv4Repr::new(IpProtocol::ESP, "192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap(), plain.len() - 20)
            .emit_with_options(&mut packet, &[1, 1, 1, 0])
            .unwrap();
        packet[24..].copy_from_slice(&plain[20..]);
        packet
    };
    let (prefer, forbid) = (OffloadPolicy::Prefer, OffloadPolicy::Forbid);
    assert_eq!(undone(prefer, |_| {}, plain), [(PacketReason::Untouched, 1)]);
    assert_eq!(undone(prefer, |_| {}, options), [(PacketReason::Untouched, 1)], "it takes options");
    assert_eq!(undone(prefer, |config| config.ipsec_v2.ipv4_options = false, options), [(PacketReason::Ipv4Options, 1)]);
    assert_eq!(undone(forbid, |config| config.ipsec_v2.ipv4_options = false, options), [(PacketReason::SaNotOffloaded, 1)]);
}

/// OV2-RECV-3: the NIC did not know what to make of it; the transport did.
#[test]
fn what_the_nic_misjudges_has_its_reason() {
    for status in [CryptoStatus::InvalidProtocol, CryptoStatus::InvalidPacketSyntax] {
        let mut host = Host::default();
        let sa = Sa::tunnel(IN);
        host.add(&sa);
        host.nic.script().report = Some(status);
        assert_eq!(host.receive(&[sa.seal_packet(1, &inner(1), 4)]).words(), ["delivered"]);
        assert_eq!(reasons(&host.transport.inbound()), [(PacketReason::NotUnderstood, 1)]);
        host.assert_all_ended();
    }
}

/// OV2-SA-6: the NIC took an extended number for another, and found the packet forged.
#[test]
fn what_the_nic_found_forged_under_another_number_has_its_reason() {
    let mut host = Host::default();
    let sa = Sa::tunnel(IN).esn((1 << 32) - 20);
    host.add(&sa);
    assert_eq!(host.receive(&[sa.seal_packet((1 << 32) - 10, &inner(0), 4)]).words(), ["delivered"]);
    host.nic.script().report = Some(CryptoStatus::TunnelEspAuthFailed);
    assert_eq!(host.receive(&[sa.seal_packet(1 << 32, &inner(1), 4)]).words(), ["delivered"]);
    assert_eq!(reasons(&host.transport.inbound()), [(PacketReason::SequenceInDoubt, 1)]);
    host.assert_all_ended();
}

/// OV2-RECV-5: only the outer portion was done.
#[test]
fn half_of_what_is_nested_has_its_reason() {
    let bundles = nested(Headers::Esp, Headers::Esp, false, false);
    for (told, reason) in [(false, PacketReason::Combination), (true, PacketReason::SaNotOffloaded)] {
        let (mut host, mut peer) = (Host::full(true), Host::full(false));
        host.put_all(&bundles.each_ref().map(|bundle| bundle.toward(IN)));
        peer.put_all(&bundles);
        host.nic.set_config(|config| config.ipsec_v2.transport_tunnel_combined = false);
        if told {
            host.service();
        }
        let wire = peer.send(&packets(false, 3));
        assert_eq!(host.receive(&wire).words(), ["delivered"; 3]);
        assert_eq!(reasons(&host.transport.inbound()), [(reason, 3)]);
        assert_eq!(reasons(&peer.transport.outbound()), [(PacketReason::SaNotOffloaded, 3)]);
        host.assert_all_ended();
    }
}

/// OV2-TRANS-6: where the adapter must do it, the audit says why it has not.
#[test]
fn the_audit_tells_why_what_must_be_offloaded_was_not() {
    let mut host = Host::default();
    host.nic.set_config(|config| config.ipsec_v2.ipv4_options = false);
    host.service();
    host.add(&Sa { offload: OffloadPolicy::Require, ..Sa::transport(OUT) });
    assert!(host.send(&[with_options(&[1, 1, 1, 0])]).is_empty());
    let sa = Sa { offload: OffloadPolicy::Require, ..Sa::tunnel(IN) };
    host.add(&sa);
    assert_eq!(host.receive_in_software(&[sa.seal_packet(1, &inner(1), 4)]).words(), ["not-offloaded"]);
    let audit: Vec<_> = host.transport.take_audit().iter().map(ToString::to_string).collect();
    assert!(audit[0].starts_with("not-offloaded (ipv4-options) 192.0.2.1 > 192.0.2.2"), "{audit:?}");
    assert!(audit[1].starts_with("not-offloaded (untouched) 192.0.2.1 > 192.0.2.2"), "{audit:?}");
    host.assert_all_ended();
}
