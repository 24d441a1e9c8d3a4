//! Traffic through failovers: nothing in clear, nothing lost, no IV twice, and the SAs where they belong (OV2-CAP-11, OV2-SA-9, OV2-COMB-3, OV2-SEND-7).

mod common;

use std::sync::atomic::Ordering;

use common::{Card, MUX, Pair, nic_name};
use mux::Teaming;
use ndis::{AddSaEntry, DirectAnswer, DirectOid, IpsecSetting, NdisVersion, OffloadParameters, Status};
use transport::OffloadReason;

/// What takes a member out.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Link,
    Surprise,
    Removal,
    Reset,
    Restart,
}

const FAILURES: [Failure; 5] = [Failure::Link, Failure::Surprise, Failure::Removal, Failure::Reset, Failure::Restart];

fn fail(pair: &Pair, member: usize, failure: Failure) {
    let (stack, name) = (&pair.a.stack, nic_name(member));
    match failure {
        Failure::Link => pair.mux.set_link(member, false),
        Failure::Surprise => stack.surprise_remove(&name).unwrap(),
        Failure::Removal => stack.remove_adapter(&name).unwrap(),
        Failure::Reset => stack.reset_adapter(&name).unwrap(),
        Failure::Restart => stack.restart_adapter(&name).unwrap(),
    }
}

/// OV2-SA-9, OV2-SEND-7: whatever takes the member, and whenever those above hear of it, packets of before, between and after arrive once and in order.
#[test]
fn traffic_goes_on_through_every_kind_of_failover() {
    for version in [NdisVersion::V6_20, NdisVersion::V6_30] {
        for failure in FAILURES {
            for esn in [false, true] {
                let card = Card { version, ..Card::new(64) };
                let mut pair = Pair::with(Teaming::Failover, version, &[card, card]);
                pair.connect(1, esn);
                assert!(pair.a.offloaded(), "{:?}", pair.a.reasons());
                assert_eq!((pair.held(0), pair.held(1), pair.mux.in_use()), (2, 0, vec![0]));
                pair.exchange(1, 100);
                assert_eq!(pair.protected(), (100, 0));

                fail(&pair, 0, failure);
                // Nobody has pumped: the transport may not know, or may have been told and not have its SAs back.
                let packets = pair.packets(1, true, 50);
                let mut wire = pair.send(&packets);
                pair.back(1, 20);
                for _ in 0..4 {
                    wire.extend(pair.service());
                }
                assert_eq!(pair.a.backlog(), 0, "{failure:?}");
                assert_eq!(wire.len(), 50, "{failure:?}: lost");
                assert!(pair.b.receive(pair.now, &wire) == packets, "{failure:?}: packets are not as they were");

                assert_eq!(pair.mux.in_use(), [1], "{failure:?}");
                assert!(pair.a.offloaded(), "{failure:?}: {:?}", pair.a.reasons());
                assert_eq!((pair.held(0), pair.held(1)), (0, 2), "{failure:?}");
                let before = pair.protected();
                pair.exchange(1, 100);
                assert_eq!(pair.protected(), (before.0 + 100, before.1), "{failure:?}");

                // And back, when the other goes: without a link it is not chosen, and without an adapter neither.
                match failure {
                    Failure::Link => pair.mux.set_link(0, true),
                    Failure::Surprise | Failure::Removal => pair.put_back(0),
                    Failure::Reset | Failure::Restart => {}
                }
                pair.settle();
                assert_eq!(pair.mux.in_use(), [1], "who works goes on");
                fail(&pair, 1, Failure::Link);
                pair.settle();
                assert_eq!((pair.mux.in_use(), pair.held(0), pair.held(1)), (vec![0], 2, 0), "{failure:?}");
                pair.exchange(1, 100);
                pair.assert_all_ended();
                assert_eq!(pair.mux.counters().live, 2);
            }
        }
    }
}

/// Without any member packets wait, sealed, and go when there is one.
#[test]
fn with_no_member_left_packets_wait() {
    let mut pair = Pair::new(Teaming::Failover);
    pair.connect(1, false);
    for member in [0, 1] {
        fail(&pair, member, Failure::Link);
    }
    for _ in 0..3 {
        assert!(pair.service().is_empty());
    }
    assert!(pair.a.reasons().iter().all(|reason| *reason == OffloadReason::Resetting));
    let packets = pair.packets(1, true, 30);
    assert!(pair.send(&packets).is_empty());
    assert_eq!((pair.a.backlog(), pair.mux.route(&[0x45; 40])), (30, None));
    let lost = pair.packets(1, false, 3);
    let wire = pair.b.send(pair.now, &lost);
    pair.inspect(&wire);
    assert!(pair.a.receive(pair.now, &wire).is_empty());
    pair.mux.set_link(1, true);
    let wire: Vec<_> = (0..4).flat_map(|_| pair.service()).collect();
    assert_eq!(pair.b.receive(pair.now, &wire), packets);
    assert!(pair.a.offloaded());
    assert_eq!(pair.mux.route(&[0x45; 40]), Some(1));
    pair.exchange(1, 50);
    pair.assert_all_ended();
}

/// OV2-CAP-11, OV2-CAP-10: hardware capabilities and configuration are indicated when the next member's are others, and in their place: within the reset.
#[test]
fn capabilities_are_those_of_the_member_in_use_and_are_indicated_when_they_change() {
    let mut small = Card::new(1);
    small.hardware.ipsec_v2.ipv6_supported = false;
    let mut pair = Pair::with(Teaming::Failover, NdisVersion::V6_30, &[Card::new(64), small, Card::new(64)]);
    let capacity = |pair: &Pair| {
        let info = pair.a.stack.adapter(MUX).unwrap();
        assert!(info.current_configuration.is_within(&info.hardware_capabilities));
        (info.hardware_capabilities.ipsec_v2.sa_offload_capacity, info.current_configuration.ipsec_v2.ipv6_supported)
    };
    assert_eq!(capacity(&pair), (64, true));
    pair.connect(1, false);
    pair.mux.set_link(0, false);
    pair.settle();
    assert_eq!(pair.listener.words(), ["start", "hardware", "current", "end"]);
    assert_eq!(capacity(&pair), (1, false));
    let mut reasons = pair.a.reasons();
    reasons.sort_by_key(|reason| *reason != OffloadReason::Offloaded);
    assert_eq!(reasons, [OffloadReason::Offloaded, OffloadReason::Capacity]);
    pair.exchange(1, 30);
    pair.mux.set_link(1, false);
    pair.settle();
    assert_eq!(pair.listener.words(), ["start", "hardware", "current", "end"]);
    assert_eq!(capacity(&pair), (64, true));
    // To one that can do the same: only the SAs are gone.
    pair.mux.set_link(0, true);
    pair.mux.set_link(2, false);
    pair.settle();
    assert_eq!(pair.listener.words(), ["start", "end"]);
    assert!(pair.a.offloaded());
    assert_eq!(pair.mux.counters().changes, 3);
    // One that does not speak the mux's version is none.
    let other = Pair::with(Teaming::Failover, NdisVersion::V6_30, &[Card { version: NdisVersion::V6_20, ..Card::new(64) }, Card::new(64)]);
    assert_eq!(other.mux.in_use(), [1]);
}

/// OV2-CAP-8, OV2-CAP-9: what is configured at the top is configured on all members, also those that stand by or come later.
#[test]
fn configuration_goes_to_all_members_and_outlives_a_failover() {
    let mut pair = Pair::new(Teaming::Failover);
    pair.connect(1, false);
    let top = pair.listener.binding();
    assert_eq!(top.set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled)), Status::SUCCESS);
    pair.settle();
    assert!(pair.listener.words().contains(&"current"));
    assert!(pair.a.reasons().iter().all(|reason| matches!(reason, OffloadReason::SwitchedOff(_))), "{:?}", pair.a.reasons());
    assert_eq!((pair.held(0), pair.held(1)), (0, 0));
    for member in [0, 1] {
        assert!(!pair.a.stack.adapter(&nic_name(member)).unwrap().current_configuration.ipsec_v2.is_supported());
    }
    pair.mux.set_link(0, false);
    pair.settle();
    pair.exchange(1, 20);
    assert_eq!(pair.protected().0, 0);
    assert_eq!(top.set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Esp)), Status::SUCCESS);
    pair.settle();
    assert!(pair.a.offloaded());
    pair.exchange(1, 20);
    assert_eq!(pair.protected().0, 20);
    // A member that comes later is activated as the others were.
    pair.a.stack.surprise_remove("nic0").unwrap();
    pair.put_back(0);
    pair.mux.set_link(0, true);
    pair.mux.set_link(1, false);
    pair.settle();
    assert_eq!(pair.mux.in_use(), [0]);
    pair.exchange(1, 20);
    assert!(pair.nics[0].counters().received_crypto_good >= 20, "receive offload is active");
    // What the keywords of the mux's own adapter switch off stays off.
    let registry = pair.a.stack.registry();
    registry.set(MUX, ndis::Keyword::IpsecV2, 0).unwrap();
    pair.a.stack.restart_adapter(MUX).unwrap();
    pair.settle();
    assert!(pair.a.reasons().iter().all(|reason| matches!(reason, OffloadReason::SwitchedOff(_))), "{:?}", pair.a.reasons());
    pair.exchange(1, 20);
    pair.assert_all_ended();
}

/// OV2-OID-2: reset, restart and removal of the mux itself.
#[test]
fn the_mux_is_reset_restarted_and_removed_like_any_adapter() {
    let mut pair = Pair::new(Teaming::Failover);
    pair.connect(1, false);
    pair.exchange(1, 20);
    pair.a.stack.reset_adapter(MUX).unwrap();
    let packets = pair.packets(1, true, 10);
    let mut wire = pair.send(&packets);
    for _ in 0..4 {
        wire.extend(pair.service());
    }
    assert_eq!(pair.b.receive(pair.now, &wire), packets);
    assert!(pair.a.offloaded());
    assert_eq!((pair.held(0), pair.nics[0].counters().sas_added), (2, 4), "deleted and added again");
    pair.a.stack.restart_adapter(MUX).unwrap();
    pair.settle();
    assert!(pair.a.offloaded());
    pair.exchange(1, 20);
    assert_eq!(pair.held(0), 2);
    pair.a.stack.remove_adapter(MUX).unwrap();
    pair.settle();
    assert_eq!((pair.held(0), pair.mux.counters().live), (0, 0));
    assert!(pair.a.reasons().iter().all(|reason| *reason == OffloadReason::NoAdapter));
    assert_eq!(pair.a.stack.adapter("nic0").unwrap().sas, 0);
}

/// OV2-OID-2, R-34: additions that a member has pended when it fails are answered once, and what comes of them all the same is deleted.
#[test]
fn what_a_member_had_under_way_is_aborted_and_undone() {
    let mut pair = Pair::new(Teaming::Failover);
    for script in &pair.scripts {
        script.late.store(true, Ordering::SeqCst);
        script.hold.store(true, Ordering::SeqCst);
    }
    pair.connect(1, false);
    assert!(pair.a.reasons().iter().all(|reason| *reason == OffloadReason::Pending));
    pair.exchange(1, 10);
    pair.mux.set_link(0, false);
    pair.scripts[1].hold.store(false, Ordering::SeqCst);
    for _ in 0..6 {
        assert!(pair.service().is_empty());
    }
    assert!(pair.a.offloaded(), "{:?}", pair.a.reasons());
    // Now the first member answers what nobody waits for.
    pair.scripts[0].hold.store(false, Ordering::SeqCst);
    pair.settle();
    assert_eq!((pair.held(0), pair.held(1)), (0, 2));
    for name in [MUX, "nic0", "nic1"] {
        let info = pair.a.stack.adapter(name).unwrap();
        assert_eq!((info.direct_requests, info.stray_completions), (0, 0), "{name}");
    }
    pair.exchange(1, 10);
    pair.assert_all_ended();
}

/// OV2-SA-5, OV2-SA-6, OV2-SA-7: handles of before a failover name nothing, in requests too.
#[test]
fn handles_of_before_a_failover_name_nothing() {
    let pair = Pair::new(Teaming::Failover);
    let top = pair.listener.binding();
    let bundle = || {
        let associations = ndis::Associations::Esp(ndis::EspAssociation {
            spi: packet::Spi(0x3003),
            extended_sequence_numbers: true,
            sequence_number_high: 0,
            encryption: ndis::Keyed { algorithm: ndis::EncryptionAlgorithm::AesGcm(ndis::AesKeySize::Aes128), key: vec![7; 20].into(), additional_info: 16 },
            authentication: None,
        });
        ndis::SaBundle {
            direction: ndis::Direction::Outbound,
            endpoints: ndis::Endpoints { ipv6: false, source: None, destination: Some("192.0.2.9".parse().unwrap()) },
            udp_esp: None,
            associations,
            extension: ndis::SaExtension::default(),
        }
    };
    let add = || match top.direct_oid_request(DirectOid::AddSaEx(Box::new(AddSaEntry::new(bundle())))) {
        DirectAnswer::Done(Status::SUCCESS, DirectOid::AddSaEx(entry)) => entry.handle.unwrap(),
        other => panic!("{other:?}"),
    };
    let update = |handle| {
        let update = ndis::UpdateSa { handle, operation: ndis::Operation::Esp, spi: packet::Spi(0x3003), sequence_number_high: 1 };
        match top.direct_oid_request(DirectOid::UpdateSa(update)) {
            DirectAnswer::Done(status, DirectOid::UpdateSa(back)) => {
                assert_eq!(back, update, "as it was asked");
                status
            }
            other => panic!("{other:?}"),
        }
    };
    let old = add();
    assert_eq!(update(old), Status::SUCCESS);
    pair.mux.set_link(0, false);
    pair.a.stack.pump();
    let new = add();
    assert_ne!(old, new);
    assert_eq!((update(old), update(new)), (Status::INVALID_PARAMETER, Status::SUCCESS));
    let unknown = pair.mux.counters().unknown_handles;
    let answer = top.direct_oid_request(DirectOid::DeleteSa(vec![old.to_bits(), new.to_bits(), 0]));
    assert!(matches!(answer, DirectAnswer::Done(Status::SUCCESS, DirectOid::DeleteSa(handles)) if handles == [old.to_bits(), new.to_bits(), 0]));
    assert_eq!(pair.mux.counters().unknown_handles - unknown, 2);
    assert_eq!((pair.held(0), pair.held(1), pair.mux.counters().live), (0, 0, 0));
}
