//! Which packets are protected, passed and dropped, and for what reason: SPD, selectors, look-up of inbound SAs, fragments, malformed and dummy packets.
//!
//! Inbound packets go by way of the NIC and by way of software, and must end the same.

mod common;

use common::{A, B, Host, NIC, Received, Sa, Setup, address, inner, ip, udp};
use ndis::{CryptoStatus, Direction};
use packet::{IpAddress, IpProtocol, Medium};
use transport::{Action, AddressRange, ClearPolicy, DropReason, Limits, Mode, Policy, PortRange, SaError, SaParameters, Selector, Spd, Verdict};

const OUT: Direction = Direction::Outbound;
const IN: Direction = Direction::Inbound;

/// What becomes of packets that come in by way of the NIC; the same must become of them in software.
fn both_ways(make: impl Fn() -> Host, wire: &[Vec<u8>]) -> Received {
    let (mut by_nic, mut by_software) = (make(), make());
    let (nic, software) = (by_nic.receive(wire), by_software.receive_in_software(wire));
    assert_eq!(nic.words(), software.words());
    assert_eq!((&nic.delivered, &nic.passed), (&software.delivered, &software.passed));
    let associations = |received: &Received| received.verdicts.iter().map(|verdict| verdict.associations.clone()).collect::<Vec<_>>();
    assert_eq!(associations(&nic), associations(&software));
    for host in [&by_nic, &by_software] {
        host.assert_all_ended();
    }
    nic
}

fn host_with(sas: &[Sa]) -> Host {
    let host = Host::default();
    for sa in sas {
        host.add(sa);
    }
    host
}

fn port(first: u16, last: u16) -> PortRange {
    PortRange { first, last }
}

#[test]
fn nothing_is_let_through_by_default() {
    let mut host = Host::default();
    assert!(host.send(&[inner(1)]).is_empty());
    let received = host.receive(&[inner(1)]);
    assert_eq!((received.words(), received.passed.len()), (vec!["policy".to_owned()], 0));
    assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::Policy, 1)]);
}

#[test]
fn the_first_policy_about_a_packet_decides() {
    let mut host = Host::default();
    let sa = host.transport.add_sa(Sa::tunnel(OUT).parameters(), host.now).unwrap();
    let to = |text: &str| Selector { destination: Some(AddressRange::single(address(text))), ..Selector::ANY };
    host.transport.set_policies(|spd| {
        let mut push = |selector, action| spd.push(Policy { direction: OUT, selectors: vec![selector], action });
        push(Selector { destination_port: port(443, 443), ..to("10.0.2.9") }, Action::Discard);
        push(to("10.0.2.9"), Action::Bypass);
        push(Selector { protocol: Some(IpProtocol::UDP), ..Selector::ANY }, Action::Protect(Some(sa)));
        push(Selector::ANY, Action::Discard);
    });
    let mut other_port = udp("10.0.1.1", "10.0.2.9", 2);
    other_port[22..24].copy_from_slice(&[0, 53]);
    let icmp = ip(address("10.0.1.1"), address("10.0.2.1"), IpProtocol::ICMP, &[8, 0, 0, 0, 0, 0, 0, 0]);
    let wire = host.send(&[udp("10.0.1.1", "10.0.2.9", 1), other_port.clone(), inner(3), icmp]);
    assert_eq!(wire.len(), 2);
    assert_eq!(wire[0], other_port, "bypassed as it stood");
    assert_eq!(wire[1][9], 50);
    let counts = host.transport.outbound();
    assert_eq!((counts.clear.packets, counts.offloaded.packets, counts.dropped_for(DropReason::Policy).packets), (1, 1, 2));
    host.assert_all_ended();
}

#[test]
fn what_is_to_be_protected_never_leaves_without_a_live_outbound_sa() {
    let mut host = Host::default();
    let gone = host.transport.add_sa(Sa::tunnel(OUT).parameters(), host.now).unwrap();
    let inbound = host.transport.add_sa(Sa::tunnel(IN).parameters(), host.now).unwrap();
    host.transport.remove_sa(gone);
    for sa in [None, Some(gone), Some(inbound)] {
        host.transport.set_policies(|spd| {
            spd.policies_mut().clear();
            spd.push(Policy { direction: OUT, selectors: vec![], action: Action::Protect(sa) });
        });
        assert!(host.send(&[inner(1)]).is_empty());
    }
    assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::NoSa, 3)]);
}

#[test]
fn frames_that_are_not_ip_follow_their_own_rule() {
    let mut arp = vec![0xff; 42];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut lying = vec![0; 14];
    lying[12..14].copy_from_slice(&[0x86, 0xdd]);
    lying.extend(inner(1));
    for bypass in [false, true] {
        let mut host = Host::new(&Setup { medium: Medium::Ethernet, ..Setup::default() });
        if bypass {
            host.transport.set_policies(|spd| spd.non_ip = Action::Bypass);
        }
        assert_eq!(host.send(&[arp.clone(), lying.clone()]), vec![arp.clone(); usize::from(bypass)]);
        let words = host.receive(&[arp.clone(), lying.clone()]).words();
        assert_eq!(words, [if bypass { "passed" } else { "policy" }, "malformed"], "an IPv4 packet that its frame calls IPv6 is neither");
        host.assert_all_ended();
    }
}

#[test]
fn clear_packets_that_policy_protects_are_dropped_on_the_way_in() {
    let make = |clear| {
        move || {
            let host = Host::new(&Setup { clear, ..Setup::default() });
            host.add(&Sa { selectors: vec![Selector { source: Some(AddressRange::single(address("10.0.1.1"))), ..Selector::ANY }], ..Sa::tunnel(IN) });
            host.transport.set_policies(|spd| spd.push(Policy { direction: IN, selectors: vec![], action: Action::Bypass }));
            host
        }
    };
    let wire = [inner(1), udp("10.0.9.9", "10.0.2.1", 2)];
    let received = both_ways(make(ClearPolicy::Decide), &wire);
    assert_eq!((received.words(), received.passed.as_slice()), (vec!["policy".to_owned(), "passed".to_owned()], &wire[1..]));
    assert!(received.verdicts.iter().all(|verdict| verdict.associations.is_empty() && !verdict.crypto_done));
    assert_eq!(both_ways(make(ClearPolicy::PassAll), &wire).words(), ["passed", "passed"]);
}

#[test]
fn packets_of_unknown_sas_are_clear_packets() {
    let sa = Sa::tunnel(IN);
    let strange = [sa.clone().spi(0x9999).seal_packet(1, &inner(1), 4), Sa { destination: address("192.0.2.77"), ..sa.clone() }.seal_packet(1, &inner(1), 4)];
    let pass = || {
        let host = Host::new(&Setup { clear: ClearPolicy::PassAll, ..Setup::default() });
        host.add(&Sa::tunnel(IN));
        host
    };
    let received = both_ways(pass, &strange);
    assert_eq!((received.words(), received.passed), (vec!["passed".to_owned(); 2], strange.to_vec()));
    assert_eq!(both_ways(|| host_with(&[Sa::tunnel(IN)]), &strange).words(), ["policy"; 2]);
}

#[test]
fn sas_that_share_spi_and_destination_are_told_apart_by_source() {
    let sas = [Sa::tunnel(IN), Sa { source: address("192.0.2.7"), size: ipsec::AesKeySize::Aes256, ..Sa::tunnel(IN) }];
    let wire = [
        sas[0].seal_packet(1, &inner(1), 4),
        sas[1].seal_packet(1, &inner(2), 4),
        Sa { source: address("192.0.2.8"), ..Sa::tunnel(IN) }.seal_packet(2, &inner(3), 4),
    ];
    let received = both_ways(|| host_with(&sas), &wire);
    assert_eq!((received.words(), received.delivered), (vec!["delivered".to_owned(), "delivered".to_owned(), "policy".to_owned()], vec![inner(1), inner(2)]));
    // One without a source would match packets of both.
    let host = host_with(&sas[..1]);
    for source in [A, "0.0.0.0"] {
        let error = host.transport.add_sa(Sa { source: address(source), ..Sa::tunnel(IN) }.parameters(), host.now).unwrap_err();
        assert!(matches!(error, SaError::Duplicate { .. }), "{error}");
    }
    // Outbound SAs may share everything: nobody looks them up.
    host.transport.add_sa(Sa::tunnel(OUT).parameters(), host.now).unwrap();
    host.transport.add_sa(Sa::tunnel(OUT).parameters(), host.now).unwrap();
}

#[test]
fn unspecified_addresses_of_an_sa_match_any() {
    let any = Sa { source: IpAddress::UNSPECIFIED_V4, destination: IpAddress::UNSPECIFIED_V4, ..Sa::transport(IN) };
    let payload = &inner(1)[20..];
    let wire: Vec<_> = [("192.0.2.50", "192.0.2.60"), ("192.0.2.51", "192.0.2.61")]
        .iter()
        .zip(1..)
        .map(|((source, destination), sequence)| {
            Sa { source: address(source), destination: address(destination), ..any.clone() }.seal_packet(sequence, payload, 17)
        })
        .collect();
    let received = both_ways(|| host_with(core::slice::from_ref(&any)), &wire);
    assert_eq!(received.words(), ["delivered"; 2]);
    assert_eq!(received.delivered[1], ip(address("192.0.2.51"), address("192.0.2.61"), IpProtocol::UDP, payload));
}

#[test]
fn a_more_specific_sa_in_software_is_not_mistaken_for_the_nics_wildcard() {
    let wide = Sa { destination: IpAddress::UNSPECIFIED_V4, source: IpAddress::UNSPECIFIED_V4, ..Sa::transport(IN) };
    let narrow = Sa { size: ipsec::AesKeySize::Aes256, offload: transport::OffloadPolicy::Forbid, ..Sa::transport(IN) };
    let mut host = host_with(&[wide.clone(), narrow.clone()]);
    let payload = &inner(1)[20..];
    // The NIC has only the wide one, and tries that.
    let received = host.receive(&[narrow.seal_packet(1, payload, 17)]);
    assert_eq!((received.words(), received.verdicts[0].crypto_status), (vec!["delivered".to_owned()], Some(CryptoStatus::TransportEspAuthFailed)));
    // A packet under the wide one's key that the narrow one is about is the narrow one's, and no good.
    let foreign = Sa { source: address(A), destination: address(B), ..wide }.seal_packet(2, payload, 17);
    let received = host.receive(&[foreign]);
    assert_eq!((received.words(), received.verdicts[0].crypto_status), (vec!["auth-failed".to_owned()], Some(CryptoStatus::Success)));
}

#[test]
fn decapsulated_packets_must_fit_their_sa() {
    let selectors = vec![
        Selector { source: AddressRange::prefix(address("10.0.1.0"), 24), destination_port: port(443, 443), ..Selector::ANY },
        Selector { protocol: Some(IpProtocol::ICMP), ..Selector::ANY },
    ];
    let sa = Sa { selectors, ..Sa::tunnel(IN) };
    let icmp = ip(address("10.7.7.7"), address("10.0.2.1"), IpProtocol::ICMP, &[8, 0, 0, 0, 0, 0, 0, 0]);
    let mut other_port = inner(3);
    other_port[22..24].copy_from_slice(&[1, 0xbc]);
    let mut later = inner(4);
    later[7] = 10;
    let inners = [inner(1), udp("10.0.3.1", "10.0.2.1", 2), icmp.clone(), other_port, later];
    let wire: Vec<_> = inners.iter().zip(1..).map(|(inner, sequence)| sa.seal_packet(sequence, inner, 4)).collect();
    let received = both_ways(|| host_with(core::slice::from_ref(&sa)), &wire);
    assert_eq!(received.words(), ["delivered", "policy", "delivered", "policy", "policy"], "a later fragment shows no port");
    assert_eq!(received.delivered, [inner(1), icmp]);
    // Transport mode: between its own addresses; a wrong address never gets as far, for the SA is looked up by it.
    let sa = Sa { selectors: vec![Selector { protocol: Some(IpProtocol::TCP), ..Selector::ANY }], ..Sa::transport(IN) };
    assert_eq!(both_ways(|| host_with(core::slice::from_ref(&sa)), &[sa.seal_packet(1, &inner(1)[20..], 17)]).words(), ["policy"]);
}

#[test]
fn fragments_are_not_opened_and_not_let_by() {
    let sa = Sa::tunnel(IN);
    let whole = sa.seal_packet(1, &inner(1), 4);
    let (mut first, mut later, mut elsewhere, mut stranger) = (whole.clone(), whole.clone(), whole.clone(), whole.clone());
    first[6] = 0x20;
    for fragment in [&mut later, &mut elsewhere, &mut stranger] {
        fragment[7] = 5;
    }
    elsewhere[19] = 77;
    stranger[15] = 77;
    let pass = || {
        let host = Host::new(&Setup { clear: ClearPolicy::PassAll, ..Setup::default() });
        host.add(&Sa::tunnel(IN));
        host
    };
    let received = both_ways(pass, &[first, later, elsewhere, stranger, whole]);
    assert_eq!(received.words(), ["fragment", "fragment", "passed", "passed", "delivered"], "others' fragments are not ours to judge");
    let matched: Vec<_> = received.verdicts.iter().map(|verdict| verdict.associations.len()).collect();
    assert_eq!(matched, [1, 0, 0, 0, 1], "a later fragment shows no SPI");
    // Once the SA is gone they are nobody's.
    let mut host = pass();
    let handle = host.transport.sas()[0].handle;
    host.transport.remove_sa(handle);
    let mut later = sa.seal_packet(2, &inner(1), 4);
    later[7] = 5;
    assert_eq!(host.receive(&[later]).words(), ["passed"]);
}

#[test]
fn outbound_fragments_go_in_tunnels_and_not_in_transport_mode() {
    let (mut first, mut later) = (inner(1), inner(2));
    first[6] = 0x20;
    later[7] = 9;
    let mut host = host_with(&[Sa::tunnel(OUT)]);
    assert_eq!(host.send(&[first.clone(), later.clone()]).len(), 2);
    // RFC 4301 section 7: one that shows no ports fits no policy for ports.
    let mut host = host_with(&[Sa { selectors: vec![Selector { destination_port: port(443, 443), ..Selector::ANY }], ..Sa::tunnel(OUT) }]);
    assert_eq!(host.send(&[first.clone(), later]).len(), 1);
    let mut host = host_with(&[Sa::transport(OUT)]);
    let mut first = udp(A, B, 1);
    first[6] = 0x20;
    assert!(host.send(&[first]).is_empty());
    assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::Fragment, 1)]);
}

#[test]
fn ipv6_fragment_headers_of_whole_packets_do_no_harm() {
    let (a, b) = (address("2001:db8::1"), address("2001:db8::2"));
    let (out, inward) = (Sa { source: a, destination: b, ..Sa::transport(OUT) }, Sa { source: a, destination: b, ..Sa::transport(IN) });
    // Fragment header: UDP next, offset 0, no more.
    let payload = [&[17, 0, 0, 0, 0, 0, 0, 9][..], &inner(1)[20..]].concat();
    let atomic = ip(a, b, IpProtocol::FRAGMENT, &payload);
    let mut host = host_with(&[out]);
    let wire = host.send(core::slice::from_ref(&atomic));
    assert_eq!(wire.len(), 1);
    assert_eq!(both_ways(|| host_with(core::slice::from_ref(&inward)), &wire).delivered, [atomic]);
}

#[test]
fn dummy_packets_and_padding_for_traffic_flow_confidentiality_are_taken_off() {
    let sa = Sa::tunnel(IN);
    let mut padded = inner(2);
    padded.extend([0xaa; 333]);
    let wire = [sa.seal_packet(1, &[7; 40], 59), sa.seal_packet(2, &padded, 4), sa.seal_packet(3, &[], 59)];
    let received = both_ways(|| host_with(core::slice::from_ref(&sa)), &wire);
    assert_eq!((received.words(), received.delivered), (vec!["dummy".to_owned(), "delivered".to_owned(), "dummy".to_owned()], vec![inner(2)]));
    assert_eq!(both_ways(|| host_with(core::slice::from_ref(&sa)), &[wire[0].clone(), wire[0].clone()]).words(), ["dummy", "replayed"]);
}

#[test]
fn malformed_contents_are_dropped_for_what_they_are() {
    let sa = Sa::tunnel(IN);
    let v6 = ip(address("2001:db8::1"), address("2001:db8::2"), IpProtocol::UDP, &inner(1)[20..]);
    let mut cut = inner(1);
    cut.truncate(30);
    let mut broken = inner(1);
    broken[0] = 0x42;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (sa.seal(1, &[1, 2, 3, 4, 5, 6, 200, 4]), "malformed"),
        (sa.seal(2, &[0, 0, 255, 4]), "malformed"),
        (sa.seal_packet(3, &v6, 4), "malformed"),
        (sa.seal_packet(4, &inner(1), 41), "malformed"),
        (sa.seal_packet(5, &[], 4), "malformed"),
        (sa.seal_packet(6, &cut, 4), "malformed"),
        (sa.seal_packet(7, &broken, 4), "malformed"),
        (sa.seal_packet(8, &inner(1)[20..], 17), "policy"),
        (sa.seal_packet(9, &v6, 41), "delivered"),
        (sa.seal_packet(10, &inner(1), 4), "delivered"),
    ];
    let (wire, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    assert_eq!(both_ways(|| host_with(core::slice::from_ref(&sa)), &wire).words(), expected);
    // Padding may hold anything (interop).
    let mut odd = inner(1);
    odd.extend([9, 9, 9, 9, 9, 9, 6, 4]);
    assert_eq!(both_ways(|| host_with(core::slice::from_ref(&sa)), &[sa.seal(11, &odd)]).delivered, [inner(1)]);
}

#[test]
fn esp_that_is_too_short_is_malformed() {
    let sa = Sa::tunnel(IN);
    let spi = sa.spi.to_be_bytes();
    let wire: Vec<_> = (0..34)
        .map(|length| {
            let mut esp = vec![0; length];
            let known = length.min(4);
            esp[..known].copy_from_slice(&spi[..known]);
            ip(address(A), address(B), IpProtocol::ESP, &esp)
        })
        .collect();
    assert_eq!(both_ways(|| host_with(core::slice::from_ref(&sa)), &wire).words(), vec!["malformed"; 34]);
    // The shortest that can be is looked at, and is forged.
    let esp = [&spi[..], &[0; 30]].concat();
    assert_eq!(both_ways(|| host_with(core::slice::from_ref(&sa)), &[ip(address(A), address(B), IpProtocol::ESP, &esp)]).words(), ["auth-failed"]);
}

#[test]
fn a_forged_packet_is_called_forged_whatever_its_number_says() {
    let sa = Sa::tunnel(IN);
    let good = sa.seal_packet(100, &inner(1), 4);
    let forged = |sequence: u64| {
        let mut packet = sa.seal_packet(sequence, &inner(1), 4);
        *packet.last_mut().unwrap() ^= 1;
        packet
    };
    let wire = [good.clone(), forged(100), good, forged(1), sa.seal_packet(1, &inner(1), 4), forged(0)];
    let received = both_ways(|| host_with(core::slice::from_ref(&sa)), &wire);
    assert_eq!(received.words(), ["delivered", "auth-failed", "replayed", "auth-failed", "too-old", "auth-failed"]);
}

#[test]
fn a_transport_mode_sa_carries_only_packets_between_its_addresses() {
    let udp_only = Selector { protocol: Some(IpProtocol::UDP), ..Selector::ANY };
    let of = |direction, selectors| SaParameters { selectors, ..Sa::transport(direction).parameters() };
    let mut host = Host::default();
    let handle = host.transport.add_sa(of(OUT, vec![udp_only]), host.now).unwrap();
    host.transport.protect(handle);
    let icmp = ip(address(A), address(B), IpProtocol::ICMP, &[8, 0, 0, 0, 0, 0, 0, 0]);
    let wire = host.send(&[udp(A, B, 1), udp(A, "192.0.2.9", 2), udp("192.0.2.9", B, 3), udp(B, A, 4), icmp]);
    assert_eq!(wire.len(), 1, "the first, and none of the others");
    assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::Policy, 4)]);

    let elsewhere = Selector { destination: Some(AddressRange::single(address("192.0.2.9"))), ..Selector::ANY };
    let refused = host.transport.add_sa(of(OUT, vec![elsewhere]), host.now).unwrap_err();
    assert!(matches!(refused, SaError::Invalid { field: "selectors", .. }), "{refused}");
    assert!(host.transport.add_sa(of(IN, vec![elsewhere, udp_only]), host.now).is_ok(), "one of them is enough");
}

#[test]
fn an_unspecified_address_is_any_of_its_version() {
    let (any4, any6) = (IpAddress::UNSPECIFIED_V4, IpAddress::UNSPECIFIED_V6);
    let all = |address| AddressRange::prefix(address, 0);
    let any = |address, direction, spi| Sa { source: address, destination: address, ..Sa::transport(direction).spi(spi) };
    // What its selectors become.
    let udp_only = Selector { protocol: Some(IpProtocol::UDP), ..Selector::ANY };
    let to6 = Selector { destination: AddressRange::prefix(address("2001:db8::"), 32), ..Selector::ANY };
    let to4 = Selector { destination: AddressRange::prefix(address("10.0.2.0"), 24), ..Selector::ANY };
    let become_of = |address, selectors| SaParameters { selectors, ..any(address, OUT, 0x1001).parameters() }.effective_selectors();
    for address in [any4, any6] {
        let whole = Selector { source: all(address), destination: all(address), ..Selector::ANY };
        assert_eq!(become_of(address, vec![]).unwrap(), [whole]);
        assert_eq!(become_of(address, vec![udp_only]).unwrap(), [Selector { protocol: Some(IpProtocol::UDP), ..whole }]);
        let (own, other) = if address == any4 { (to4, to6) } else { (to6, to4) };
        assert_eq!(become_of(address, vec![other, own]).unwrap(), [Selector { source: whole.source, ..own }], "of its version");
        assert!(matches!(become_of(address, vec![other]), Err(SaError::Invalid { field: "selectors", .. })));
    }
    // Both, one after the other: each version goes under its own, by the NIC, and comes in under its own.
    let packets = |number| [udp(A, B, number), udp("2001:db8::1", "2001:db8::2", number)];
    let mut host = host_with(&[any(any4, OUT, 0x1001), any(any6, OUT, 0x2001)]);
    let wire = host.send(&packets(1));
    assert_eq!((&wire[0][20..24], &wire[1][40..44]), (&[0, 0, 0x10, 1][..], &[0, 0, 0x20, 1][..]));
    assert_eq!((host.transport.outbound().offloaded.packets, host.transport.outbound().software.packets), (2, 0));
    let peers = || host_with(&[any(any4, IN, 0x1001), any(any6, IN, 0x2001)]);
    let received = both_ways(peers, &wire);
    assert_eq!((received.words(), received.delivered), (vec!["delivered".to_owned(); 2], packets(1).to_vec()));
    // Alone, it says nothing of the other version, protected or in clear.
    let mut host = host_with(&[any(any4, OUT, 0x1001)]);
    assert_eq!(host.send(&packets(1)).len(), 1);
    assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::Policy, 1)]);
    let alone = || {
        let host = host_with(&[any(any4, IN, 0x1001)]);
        host.transport.set_policies(|spd| spd.default_inbound = Action::Bypass);
        host
    };
    assert_eq!(both_ways(alone, &packets(1)).words(), ["policy", "passed"]);
}

#[test]
fn failures_on_the_way_out_are_told_too() {
    let mut host = Host::default();
    let sa =
        host.transport.add_sa(SaParameters { hard_limits: Limits { packets: Some(1), ..Limits::NONE }, ..Sa::tunnel(OUT).parameters() }, host.now).unwrap();
    host.transport.protect(sa);
    assert_eq!(host.send(&[inner(1), inner(2), vec![0x45; 10]]).len(), 1);
    let audit: Vec<_> = host.transport.take_audit().iter().map(ToString::to_string).collect();
    assert_eq!(audit, ["expired 10.0.1.1 > 10.0.2.1 ESP SPI 0x00001001 sequence 1", "malformed"]);
}

#[test]
fn what_waits_for_the_adapter_waits_only_while_policy_and_sa_let_it() {
    let bypass = |spd: &mut Spd| spd.push(Policy { direction: OUT, selectors: vec![], action: Action::Bypass });
    let mut host = Host::default();
    host.transport.set_policies(bypass);
    host.stack.reset_adapter(NIC).unwrap();
    assert!(host.send(&[inner(1)]).is_empty());
    assert_eq!(host.lane.backlog(), 1);
    host.transport.set_policies(|spd| spd.policies_mut().clear());
    host.nic.end_reset();
    assert!(host.service().is_empty(), "in clear only as long as policy says so");
    assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::Policy, 1)]);

    let mut host = Host::default();
    let sa = host.add(&Sa::tunnel(OUT));
    host.stack.reset_adapter(NIC).unwrap();
    assert!(host.send(&[inner(1)]).is_empty());
    assert_eq!(host.lane.backlog(), 1);
    host.transport.remove_sa(sa);
    host.nic.end_reset();
    assert!(host.service().is_empty(), "sealed under an SA that is gone");
    assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::NoSa, 1)]);
    host.assert_all_ended();
}

#[test]
fn ah_under_the_spi_of_an_esp_sa_is_the_wrong_protocol() {
    let sa = Sa::tunnel(IN);
    let mut ah = vec![4, 4, 0, 0, 0, 0, 0x10, 0x01, 0, 0, 0, 1];
    ah.extend([0; 12]);
    ah.extend(inner(1));
    let known = ip(address(A), address(B), IpProtocol::AH, &ah);
    ah[7] = 9;
    let unknown = ip(address(A), address(B), IpProtocol::AH, &ah);
    let received = both_ways(|| host_with(core::slice::from_ref(&sa)), &[known, unknown]);
    assert_eq!(received.words(), ["invalid-protocol", "policy"]);
    let matched: Vec<Vec<_>> = received.verdicts.iter().map(|verdict| verdict.associations.iter().map(|seen| (seen.spi.0, seen.sequence)).collect()).collect();
    assert_eq!(matched, [vec![(sa.spi, 1)], vec![]]);
}

#[test]
fn what_the_nic_reports_is_what_becomes_of_a_packet() {
    let sa = Sa::tunnel(IN);
    let packet = [sa.seal_packet(1, &inner(1), 4)];
    for (status, expected) in [
        (CryptoStatus::GenericError, "malformed"),
        // The transport looks for itself (OV2-RECV-3).
        (CryptoStatus::InvalidPacketSyntax, "delivered"),
        (CryptoStatus::TransportEspAuthFailed, "auth-failed"),
        (CryptoStatus::TunnelEspAuthFailed, "auth-failed"),
        (CryptoStatus::TransportAhAuthFailed, "auth-failed"),
        (CryptoStatus::TunnelAhAuthFailed, "auth-failed"),
        (CryptoStatus::InvalidProtocol, "delivered"),
    ] {
        let mut host = host_with(core::slice::from_ref(&sa));
        host.nic.script().report = Some(status);
        let received = host.receive(&packet);
        assert_eq!(received.words(), [expected], "{status:?}");
        let verdict = &received.verdicts[0];
        assert_eq!((verdict.crypto_done, verdict.next_crypto_done, verdict.crypto_status), (true, false, Some(status)));
        // None of it moved the window.
        host.nic.script().report = None;
        assert_eq!(host.receive(&packet).words(), [if expected == "delivered" { "replayed" } else { "delivered" }]);
    }
}

#[test]
fn what_the_nic_opened_under_an_sa_that_is_gone_goes_nowhere() {
    for clear in [ClearPolicy::Decide, ClearPolicy::PassAll] {
        let mut host = Host::new(&Setup { clear, ..Setup::default() });
        let sa = Sa::tunnel(IN);
        let handle = host.add(&sa);
        host.transport.set_policies(|spd| {
            spd.policies_mut().clear();
            spd.default_inbound = Action::Bypass;
        });
        host.nic.script().delete = common::Answer::Pend;
        host.transport.remove_sa(handle);
        let received = host.receive(&[sa.seal_packet(1, &inner(1), 4)]);
        assert_eq!(received.verdicts[0].crypto_status, Some(CryptoStatus::Success), "the NIC has it still");
        assert_eq!((received.words(), received.passed.len()), (vec!["policy".to_owned()], 0));
    }
}

#[test]
fn layers_are_taken_off_one_after_another() {
    let outer = Sa::tunnel(IN);
    let within = Sa { source: address("10.0.1.1"), destination: address("10.0.2.1"), ..Sa::transport(IN).spi(0x2002) };
    let packet = within.seal_packet(7, &inner(5)[20..], 17);
    let wire = [outer.seal_packet(3, &packet, 4)];
    let received = both_ways(|| host_with(&[outer.clone(), within.clone()]), &wire);
    assert_eq!((received.words(), received.delivered.as_slice()), (vec!["delivered".to_owned()], &[inner(5)][..]));
    let seen: Vec<_> = received.verdicts[0].associations.iter().map(|seen| (seen.spi.0, seen.sequence)).collect();
    assert_eq!(seen, [(0x1001, 3), (0x2002, 7)], "outermost first");
    // The inner layer is somebody else's: delivered as it is.
    let received = both_ways(|| host_with(core::slice::from_ref(&outer)), &wire);
    assert_eq!(received.delivered, [packet]);
    // More layers than are looked into.
    let mut deep = inner(1);
    for sequence in 1..=6 {
        deep = outer.seal_packet(sequence, &deep, 4);
    }
    assert_eq!(both_ways(|| host_with(core::slice::from_ref(&outer)), &[deep]).words(), ["unsupported"]);
}

#[test]
fn failures_are_told_with_whatever_is_known_of_them() {
    let sa = Sa::tunnel(IN);
    let mut host = host_with(core::slice::from_ref(&sa));
    let mut damaged = sa.seal_packet(9, &inner(1), 4);
    *damaged.last_mut().unwrap() ^= 1;
    host.receive(&[damaged, vec![0x45; 10]]);
    let audit: Vec<_> = host.transport.take_audit().iter().map(ToString::to_string).collect();
    assert_eq!(audit, ["auth-failed 192.0.2.1 > 192.0.2.2 ESP SPI 0x00001001 sequence 9", "malformed"]);
    assert!(host.transport.take_audit().is_empty());
    for _ in 0..2000 {
        host.receive(&[vec![0x45; 10]]);
    }
    assert_eq!(host.transport.take_audit().len(), 1024, "the newest; counters lose nothing");
    assert_eq!(Host::dropped(&host.transport.inbound()), [(DropReason::AuthFailed, 1), (DropReason::Malformed, 2001)]);
}

#[test]
fn congestion_marks_and_protection_from_fragmentation_pass_between_headers() {
    for class in 0..=255_u8 {
        let mut packet = inner(1);
        packet[1] = class;
        packet[6] = if class % 2 == 0 { 0x40 } else { 0 };
        packet[10..12].fill(0);
        let sum = packet::checksum::ipv4_header_checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut host = host_with(&[Sa::tunnel(OUT)]);
        let mut wire = host.send(core::slice::from_ref(&packet)).remove(0);
        assert_eq!((wire[1], wire[6]), (class, packet[6]));
        assert_eq!(both_ways(|| host_with(&[Sa::tunnel(IN)]), core::slice::from_ref(&wire)).delivered, [packet.clone()]);
        // A router on the way marks it.
        wire[1] |= 3;
        let received = both_ways(|| host_with(&[Sa::tunnel(IN)]), &[wire]);
        if class % 4 == 0 {
            assert_eq!(received.words(), ["policy"]);
        } else {
            assert_eq!((received.delivered[0][1], received.verdicts[0].verdict), (class | 3, Verdict::Delivered));
            assert!(packet::Ipv4Packet::new(&received.delivered[0][..]).unwrap().verify_checksum());
        }
    }
}

#[test]
fn parameters_that_make_no_sa_are_refused_by_name() {
    let host = Host::default();
    let refused = |sa: Sa, change: &dyn Fn(&mut transport::SaParameters)| {
        let mut parameters = sa.parameters();
        change(&mut parameters);
        let error = host.transport.add_sa(parameters, host.now).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sa-1001"), "{text}");
        match error {
            SaError::Invalid { field, .. } => field.to_owned(),
            SaError::Algorithm { .. } => "algorithm".to_owned(),
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused(Sa::tunnel(IN), &|p| p.associations[0].spi.0 = 0), "spi");
    assert_eq!(refused(Sa::tunnel(IN), &|p| p.associations[0].spi.0 = 255), "spi");
    assert_eq!(refused(Sa::tunnel(IN), &|p| p.associations.clear()), "association");
    assert_eq!(refused(Sa::tunnel(IN), &|p| p.source = address("2001:db8::1")), "source");
    assert_eq!(refused(Sa::tunnel(IN), &|p| p.destination = IpAddress::UNSPECIFIED_V4), "destination");
    assert_eq!(refused(Sa::tunnel(OUT), &|p| p.source = IpAddress::UNSPECIFIED_V4), "source");
    assert_eq!(refused(Sa::tunnel(IN), &|p| p.associations[0].sequence_number_high = 1), "sequence-number-high");
    assert_eq!(refused(Sa::tunnel(IN), &|p| p.replay_window = 65_537), "replay-window");
    assert_eq!(refused(Sa::tunnel(IN), &|p| p.associations[0].operation = ndis::Operation::Ah), "encryption");
    assert_eq!(refused(Sa::tunnel(IN), &|p| p.inside = Some("other".into())), "inside");
    assert_eq!(refused(Sa::transport(IN), &|p| p.inside = Some("other".into())), "inside");
    let udp = |destination_port| Some(transport::UdpEncapsulation { source_port: 4500, destination_port });
    assert_eq!(refused(Sa::tunnel(IN), &|p| p.udp_encapsulation = udp(0)), "udp-encapsulation");
    assert_eq!(refused(Sa::tunnel(IN), &|p| p.ah_alignment = Some(16)), "ah-alignment");
    assert_eq!(refused(Sa::transport(OUT), &|p| p.traffic_flow.pad_to = 100), "traffic-flow");
    assert_eq!(refused(Sa::tunnel(IN), &|p| p.associations[0].icv_length = 11), "algorithm");
    assert_eq!(refused(Sa::tunnel(IN), &|p| p.associations[0].encryption_key = vec![0; 16].into()), "algorithm");
    assert_eq!(refused(Sa::tunnel(IN), &|p| p.associations[0].encryption = ipsec::Encryption::Null), "algorithm");
    assert_eq!(refused(Sa { mode: Mode::Transport, ..Sa::tunnel(IN) }, &|p| p.associations[0].authentication = ipsec::Authentication::HmacSha256), "algorithm");
    assert!(host.transport.sas().is_empty());
    let mut reserved = Sa::tunnel(IN).spi(255).parameters();
    reserved.allow_reserved_spi = true;
    assert!(host.transport.add_sa(reserved, host.now).is_ok());
}
