//! Load balancing: no IPsec offload (OV2-COMB-3), or, as an extension, every SA on every member.

mod common;

use common::{Card, MUX, Pair};
use mux::Teaming;
use ndis::{CapabilityField, NdisVersion};
use transport::OffloadReason;

/// OV2-COMB-3: nothing is offloaded, and packets go by all members.
#[test]
fn packets_through_a_balancing_mux_are_not_offloaded() {
    let mut pair = Pair::new(Teaming::Balance);
    assert_eq!(pair.mux.in_use(), [0, 1]);
    assert!(!pair.a.stack.adapter(MUX).unwrap().hardware_capabilities.ipsec_v2.is_supported());
    for connection in 1..9 {
        pair.connect(connection, false);
    }
    assert!(pair.a.reasons().iter().all(|reason| matches!(reason, OffloadReason::NotCovered(_))));
    for connection in 1..9 {
        pair.exchange(connection, 20);
    }
    // One goes, one comes: nothing was on them.
    pair.mux.set_link(0, false);
    for connection in 1..9 {
        pair.exchange(connection, 20);
    }
    pair.settle();
    pair.mux.set_link(0, true);
    pair.settle();
    assert!(!pair.listener.words().contains(&"start"));
    let [first, second] = [0, 1].map(|member| pair.nics[member].counters().sent_plain);
    assert!(first > 0 && second > first, "{first} {second}");
    assert_eq!(pair.protected(), (0, 320));
    pair.assert_all_ended();
}

/// OV2-COMB-3, OV2-SEND-7: the extension. SAs are on all members, their packets are spread, a member that goes takes nothing along, one that comes gets
/// everything.
#[test]
fn sas_on_several_members_outlive_the_loss_of_one() {
    let mut pair = Pair::new(Teaming::BalanceWithIpsec);
    for connection in 1..9 {
        pair.connect(connection, false);
    }
    assert!(pair.a.offloaded(), "{:?}", pair.a.reasons());
    assert_eq!((pair.held(0), pair.held(1), pair.mux.counters().live), (16, 16, 16));
    for connection in 1..9 {
        pair.exchange(connection, 20);
    }
    let sent = |pair: &Pair| [0, 1].map(|member| pair.nics[member].counters().sent_offloaded);
    assert!(sent(&pair).iter().all(|&count| count > 0), "{:?}", sent(&pair));
    assert_eq!(sent(&pair).iter().sum::<u64>(), 160);

    pair.a.stack.surprise_remove("nic1").unwrap();
    for connection in 1..9 {
        pair.exchange(connection, 20);
    }
    pair.settle();
    assert_eq!((pair.mux.in_use(), pair.protected()), (vec![0], (320, 0)), "all offloaded, without a break");
    assert!(!pair.listener.words().contains(&"start"));
    assert_eq!(pair.held(0), 16);

    pair.put_back(1);
    pair.settle();
    assert!(pair.listener.words().contains(&"start"), "what comes has no SAs");
    assert!(pair.a.offloaded());
    assert_eq!((pair.held(0), pair.held(1)), (16, 16));
    for connection in 1..9 {
        pair.exchange(connection, 20);
    }
    for sa in pair.a.transport.sas() {
        assert!(pair.a.transport.remove_sa(sa.handle));
    }
    pair.settle();
    assert_eq!((pair.held(0), pair.held(1), pair.mux.counters().live), (0, 0, 0));
    pair.assert_all_ended();
}

/// What one member lacks none has; and extended numbers are left out, because a member that sends seldom cannot follow them.
#[test]
fn several_members_have_what_all_have() {
    let mut small = Card::new(3);
    small.hardware.ipsec_v2.transport = false;
    let mut pair = Pair::with(Teaming::BalanceWithIpsec, NdisVersion::V6_30, &[Card::new(64), small]);
    let hardware = pair.a.stack.adapter(MUX).unwrap().hardware_capabilities.ipsec_v2;
    assert_eq!((hardware.sa_offload_capacity, hardware.transport, hardware.extended_sequence_numbers), (3, false, false));
    pair.connect(1, true);
    let missing = |reason: &OffloadReason| matches!(reason, OffloadReason::NotCovered(missing) if missing.field == CapabilityField::ExtendedSequenceNumbers);
    assert!(pair.a.reasons().iter().all(missing), "{:?}", pair.a.reasons());
    pair.exchange(1, 10);
    pair.mux.set_link(1, false);
    pair.settle();
    assert_eq!(pair.a.stack.adapter(MUX).unwrap().hardware_capabilities.ipsec_v2.sa_offload_capacity, 64);
}

/// OV2-SA-4: what one member refuses is taken off the others again, and the SA is in software, whole.
#[test]
fn an_sa_that_one_member_refuses_is_on_none() {
    for version in [NdisVersion::V6_20, NdisVersion::V6_30] {
        let card = Card { version, ..Card::new(3) };
        let mut pair = Pair::with(Teaming::BalanceWithIpsec, version, &[card, card]);
        // Another protocol has places of the second member.
        let other = std::sync::Arc::new(common::Listener::default());
        pair.a.stack.bind(other.clone(), "nic1").unwrap();
        let entry = |spi| {
            let mut bundle = nothing_special(spi);
            bundle.direction = ndis::Direction::Outbound;
            ndis::AddSaEntry::new(bundle)
        };
        let body = if version.uses_add_sa_ex() {
            ndis::DirectOid::AddSaEx(Box::new(entry(0x9001)))
        } else {
            ndis::DirectOid::AddSa(vec![entry(0x9001), entry(0x9002)])
        };
        let taken = if version.uses_add_sa_ex() { 1 } else { 2 };
        assert!(matches!(other.binding().direct_oid_request(body), ndis::DirectAnswer::Done(ndis::Status::SUCCESS, _)));
        pair.connect(1, false);
        pair.connect(2, false);
        let offloaded = pair.a.reasons().iter().filter(|reason| **reason == OffloadReason::Offloaded).count();
        assert_eq!(offloaded, 3 - taken);
        assert!(pair.a.reasons().iter().all(|reason| matches!(reason, OffloadReason::Offloaded | OffloadReason::Capacity)), "{:?}", pair.a.reasons());
        assert_eq!((pair.held(0), pair.held(1)), (3 - taken as u64, 3));
        assert!(pair.mux.counters().undone > 0);
        for connection in [1, 2] {
            pair.exchange(connection, 20);
        }
        pair.assert_all_ended();
    }
}

fn nothing_special(spi: u32) -> ndis::SaBundle {
    ndis::SaBundle {
        direction: ndis::Direction::Outbound,
        endpoints: ndis::Endpoints { ipv6: false, source: None, destination: Some("192.0.2.9".parse().unwrap()) },
        udp_esp: None,
        associations: ndis::Associations::Esp(ndis::EspAssociation {
            spi: packet::Spi(spi),
            extended_sequence_numbers: false,
            sequence_number_high: 0,
            encryption: ndis::Keyed { algorithm: ndis::EncryptionAlgorithm::AesGcm(ndis::AesKeySize::Aes128), key: vec![7; 20].into(), additional_info: 16 },
            authentication: None,
        }),
        extension: ndis::SaExtension::default(),
    }
}
