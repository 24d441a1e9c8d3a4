//! Two hosts through everything that can happen to their adapters: whatever it is, every packet arrives once, as it was, and no IV comes twice.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Connection, Pair, tunnel_v4};
use ipsecov2::host::{ADAPTER, HostConfig};
use ndis::{IpsecSetting, Keyword, MemoryRegistry, NdisVersion, OffloadParameters, Registry, Status, SystemValue};
use packet::{Frame, FrameBatch, Medium};
use transport::{InboundBatch, Limits, OffloadReason, SaEventKind};

const WRAP: u64 = 1 << 32;

fn ip_config() -> HostConfig {
    HostConfig { medium: Medium::Ip, capacity: 64, ..HostConfig::default() }.with_nic_capacity(64)
}

fn ipsec(setting: IpsecSetting) -> OffloadParameters {
    OffloadParameters { ipsec_v2: Some(setting), ..OffloadParameters::default() }
}

fn reasons(pair: &Pair) -> Vec<OffloadReason> {
    pair.a.transport().sas().into_iter().chain(pair.b.transport().sas()).map(|sa| sa.offload).collect()
}

fn assert_offloaded(pair: &Pair) {
    assert!(reasons(pair).iter().all(|reason| *reason == OffloadReason::Offloaded), "{:?}", reasons(pair));
}

/// How many packets a's NIC and a's software have protected.
fn protected(pair: &Pair) -> (u64, u64) {
    let counts = pair.a.transport().outbound();
    (counts.offloaded.packets, counts.software.packets)
}

fn assert_all_ended(pair: &Pair) {
    for host in [&pair.a, &pair.b] {
        for counts in [host.transport().outbound(), host.transport().inbound()] {
            assert_eq!(counts.seen.packets, counts.ended());
            assert_eq!(counts.dropped_total().packets, 0);
        }
    }
}

#[test]
fn traffic_goes_on_through_every_change_of_the_adapter() {
    for (esn, sequence) in [(false, 0), (true, WRAP - 700)] {
        for version in [NdisVersion::V6_20, NdisVersion::V6_30] {
            let mut pair = Pair::with(&HostConfig { version, ..ip_config() });
            pair.connect(Connection { esn, sequence, replay_window: 256, ..tunnel_v4() });
            assert_offloaded(&pair);
            pair.exchange(150);
            assert_eq!(protected(&pair).1, 0);
            for setting in [IpsecSetting::Disabled, IpsecSetting::AhAndEsp, IpsecSetting::Ah, IpsecSetting::Esp] {
                let before = protected(&pair);
                for host in [&pair.a, &pair.b] {
                    assert_eq!(host.operator().set_parameters(ipsec(setting)), Status::SUCCESS);
                }
                // The NIC has changed, and the transport has not heard of it.
                pair.exchange(70);
                pair.service();
                pair.service();
                pair.exchange(70);
                let after = protected(&pair);
                let on = matches!(setting, IpsecSetting::AhAndEsp | IpsecSetting::Esp);
                assert_eq!((after.0 - before.0, after.1 - before.1), if on { (70, 70) } else { (0, 140) }, "{setting:?}");
            }
            assert_offloaded(&pair);
            // By keyword and restart.
            for (value, offloaded) in [(0, false), (3, true)] {
                for host in [&pair.a, &pair.b] {
                    host.stack().registry().set(ADAPTER, Keyword::IpsecV2, value).unwrap();
                    host.restart_adapter().unwrap();
                }
                pair.service();
                pair.service();
                assert_eq!(reasons(&pair).iter().all(|reason| *reason == OffloadReason::Offloaded), offloaded);
                pair.exchange(100);
            }
            // Reset, with packets sent meanwhile.
            pair.a.reset_adapter().unwrap();
            let mut sent = pair.send(30);
            assert_eq!(pair.wire.len() + pair.a.backlog(), 30);
            pair.service();
            sent.extend(pair.send(30));
            pair.service();
            let mut delivered = pair.receive();
            delivered.sort_unstable();
            sent.sort_unstable();
            assert_eq!(delivered, sent);
            pair.b.reset_adapter().unwrap();
            pair.service();
            pair.service();
            assert_offloaded(&pair);
            pair.exchange(100);
            assert_all_ended(&pair);
            for host in [&pair.a, &pair.b] {
                for sa in host.transport().sas() {
                    assert!(host.transport().remove_sa(sa.handle));
                }
            }
            pair.service();
            for host in [&pair.a, &pair.b] {
                assert_eq!(host.stack().adapter(ADAPTER).unwrap().direct_requests, 0);
            }
            assert!(pair.a.transport().offload_counts().added >= 8);
            for host in [&pair.a, &pair.b] {
                let counters = host.nic_counters();
                assert_eq!((counters.sas_added, counters.unknown_handles), (counters.sas_deleted, 0), "the NIC keeps SAs that nobody has");
            }
        }
    }
}

#[test]
fn extended_numbers_wrap_under_offload_with_an_update_each_way() {
    for sequence in [WRAP - 1, WRAP - 2, WRAP - 130, 3 * WRAP - 64] {
        let mut pair = Pair::with(&ip_config());
        pair.connect(Connection { esn: true, sequence, ..tunnel_v4() });
        for _ in 0..6 {
            pair.exchange(65);
            pair.service();
        }
        // Where the first number is the wrap, both NICs begin behind it.
        let crossings = u64::from(sequence % WRAP != WRAP - 1);
        let updated = [&pair.a, &pair.b].map(|host| host.transport().offload_counts().updated);
        assert_eq!(updated, [crossings; 2], "{sequence:#x}");
        assert!(protected(&pair).0 >= 4 * 65, "{:?}", protected(&pair));
        assert_all_ended(&pair);
    }
}

#[test]
fn packets_reordered_around_the_wrap_arrive_whoever_opens_them() {
    for offload in [true, false] {
        let mut pair = Pair::with(&ip_config());
        pair.connect(Connection { esn: true, sequence: WRAP - 200, replay_window: 512, ..tunnel_v4() });
        if !offload {
            assert_eq!(pair.b.operator().set_parameters(ipsec(IpsecSetting::Disabled)), Status::SUCCESS);
            pair.service();
        }
        let mut sent = pair.send(400);
        // Far apart: the first come last, in steps through the whole.
        let wire = core::mem::take(&mut pair.wire);
        let mut places: Vec<_> = wire.into_iter().map(Some).collect();
        for start in [7, 3, 0, 5, 1, 6, 2, 4] {
            pair.wire.extend((start..400).step_by(8).filter_map(|at| places[at].take()));
            pair.service();
        }
        let mut delivered = Vec::new();
        let wire = core::mem::take(&mut pair.wire);
        for frame in wire {
            pair.wire.push(frame);
            delivered.extend(pair.receive());
            pair.service();
        }
        delivered.sort_unstable();
        sent.sort_unstable();
        assert_eq!(delivered, sent, "offload {offload}");
        assert_all_ended(&pair);
    }
}

#[test]
fn more_sas_than_the_nic_holds_are_carried_and_the_nic_makes_room_when_it_asks() {
    let mut pair = Pair::with(&ip_config().with_nic_capacity(2));
    pair.connect(tunnel_v4());
    let mut waiting = tunnel_v4().parameters(ndis::Direction::Outbound, true);
    waiting.associations[0].spi.0 = 0x7777;
    let waiting = pair.a.transport().add_sa(waiting, pair.now).unwrap();
    assert_eq!(pair.a.transport().sa(waiting).unwrap().offload, OffloadReason::Capacity);
    pair.exchange(100);
    assert_all_ended(&pair);
    let first = pair.a.transport().sas().into_iter().find(|sa| sa.offload == OffloadReason::Offloaded).unwrap();
    assert!(pair.a.transport().remove_sa(first.handle));
    pair.service();
    assert_eq!(pair.a.transport().sa(waiting).unwrap().offload, OffloadReason::Offloaded, "a place became free");
}

#[test]
fn system_settings_keep_everything_in_software() {
    for (value, number, reason) in
        [(SystemValue::DisableTaskOffload, 1, OffloadReason::TaskOffloadDisabled), (SystemValue::EnabledOffload, 0, OffloadReason::IpsecOffloadDisabled)]
    {
        let registry = Arc::new(MemoryRegistry::new());
        registry.set_system(value, number).unwrap();
        let mut pair = Pair::with(&HostConfig { registry, ..ip_config() });
        pair.connect(tunnel_v4());
        pair.exchange(50);
        assert!(reasons(&pair).iter().all(|found| *found == reason));
        assert_eq!(protected(&pair), (0, 50));
        let encapsulation = pair.a.stack().adapter(ADAPTER).unwrap().encapsulation;
        assert_eq!(encapsulation.is_none(), value == SystemValue::DisableTaskOffload, "no OID_OFFLOAD_ENCAPSULATION then (OV2-CAP-5)");
        assert_all_ended(&pair);
    }
}

#[test]
fn lifetimes_end_on_both_sides_at_the_same_packet() {
    let soft = Limits { packets: Some(60), ..Limits::NONE };
    let hard = Limits { packets: Some(80), time: Some(Duration::from_hours(1)), ..Limits::NONE };
    let mut pair = Pair::with(&ip_config());
    pair.connect(Connection { soft, hard, ..tunnel_v4() });
    pair.exchange(59);
    pair.service();
    assert!(pair.a.transport().take_events().is_empty());
    pair.exchange(21);
    pair.service();
    let sent = pair.send(5);
    assert_eq!((sent.len(), pair.wire.len()), (5, 0));
    pair.service();
    let kinds = |host: &ipsecov2::host::Host| host.transport().take_events().into_iter().map(|event| event.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&pair.a), [SaEventKind::SoftExpired, SaEventKind::HardExpired]);
    assert_eq!(kinds(&pair.b), [SaEventKind::SoftExpired], "it saw none beyond");
    let (a, b) = (pair.a.transport().sas(), pair.b.transport().sas());
    let carried = |sas: &[transport::SaStatus]| sas.iter().map(|sa| (sa.packets, sa.bytes)).max().unwrap();
    assert_eq!(carried(&a), carried(&b));
}

#[test]
fn an_sa_removed_on_one_side_leaks_nothing_on_the_other() {
    let mut pair = Pair::with(&ip_config());
    pair.connect(tunnel_v4());
    pair.exchange(10);
    let sent = pair.send(10);
    assert_eq!(sent.len(), 10);
    let inbound = pair.b.transport().sas().into_iter().find(|sa| sa.direction == ndis::Direction::Inbound).unwrap();
    pair.b.transport().remove_sa(inbound.handle);
    pair.inspect();
    let mut wire = core::mem::take(&mut pair.wire);
    let mut out = InboundBatch::default();
    pair.b.receive(pair.now, &mut wire, &mut out);
    assert!(out.delivered.is_empty() && out.passed.is_empty());
    let outbound = pair.a.transport().sas().into_iter().find(|sa| sa.direction == ndis::Direction::Outbound).unwrap();
    pair.a.transport().remove_sa(outbound.handle);
    let packet = pair.packet();
    let mut frames = FrameBatch::from([Frame::new(pair.a.pool().copy_from(&packet))]);
    pair.a.send(pair.now, &mut frames, &mut wire);
    assert!(wire.is_empty(), "policy still protects it");
}

/// The inbound and the outbound SA of b, as a pair.
fn paired(pair: &Pair) -> [sa_table::Handle; 2] {
    let of = |direction| pair.b.transport().sas().into_iter().find(|sa| sa.direction == direction).unwrap().handle;
    let [inbound, outbound] = [ndis::Direction::Inbound, ndis::Direction::Outbound].map(of);
    pair.b.transport().pair(inbound, outbound);
    [inbound, outbound]
}

/// OV2-SA-8: an SA that nears the end of its numbers: the NIC asks, both of the pair are deleted, and packets go on in software.
#[test]
fn an_sa_near_its_end_is_deleted_with_its_counterpart_and_goes_on_in_software() {
    let mut pair = Pair::with(&ip_config());
    pair.connect(Connection { sequence: u64::from(u32::MAX) - 5000, ..tunnel_v4() });
    let sas = paired(&pair);
    assert_offloaded(&pair);
    pair.exchange(100);
    assert_eq!(pair.b.nic_counters().delete_requests, 1, "asked once");
    pair.service();
    for sa in sas {
        assert_eq!(pair.b.transport().sa(sa).unwrap().offload, OffloadReason::DeletedByNic);
    }
    assert!(pair.b.transport().take_events().iter().any(|event| event.kind == SaEventKind::DeleteRequested));
    pair.exchange(100);
    let inbound = pair.b.transport().inbound();
    assert_eq!((inbound.offloaded.packets, inbound.software.packets), (100, 100));
    assert!(pair.a.transport().sas().iter().all(|sa| sa.offload == OffloadReason::Offloaded), "a has received nothing");
    let counters = pair.b.nic_counters();
    assert_eq!((counters.sas_deleted, counters.unknown_handles), (2, 0));
    assert_all_ended(&pair);
}

/// OV2-SA-8: a full NIC that is asked for more asks the oldest to go, and who waits, another protocol here, gets the place.
#[test]
fn a_full_nic_has_a_pair_give_way_to_another_protocol() {
    let mut pair = Pair::with(&ip_config().with_nic_capacity(2));
    pair.connect(tunnel_v4());
    let sas = paired(&pair);
    let seed = sa_table::Seed::new([9; sa_table::SEED_WORDS]);
    let config = transport::TransportConfig { medium: Medium::Ip, capacity: 16, seed, clear: transport::ClearPolicy::Decide };
    let other = transport::Transport::new(config, ipsec::Crypto::default()).unwrap();
    pair.b.stack().bind(Arc::new(other.clone()), ADAPTER).unwrap();
    pair.service();
    let mut parameters = tunnel_v4().parameters(ndis::Direction::Outbound, true);
    parameters.associations[0].spi.0 = 0x7777;
    let waiting = other.add_sa(parameters, pair.now).unwrap();
    assert_eq!(other.sa(waiting).unwrap().offload, OffloadReason::Capacity);
    pair.exchange(10);
    pair.service();
    for sa in sas {
        assert_eq!(pair.b.transport().sa(sa).unwrap().offload, OffloadReason::DeletedByNic);
    }
    other.tick(pair.now);
    assert_eq!(other.sa(waiting).unwrap().offload, OffloadReason::Offloaded);
    pair.exchange(10);
    assert_all_ended(&pair);
}
