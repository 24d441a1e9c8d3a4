//! The offload manager against a miniport that accepts, refuses, pends, resets and goes: which SAs the NIC has, why, and that it keeps none.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use common::{Answer, Host, NIC, Sa, Seen, Setup, inner};
use ndis::{
    BindParameters, Binding, CapabilityField, DirectOidRequest, Direction, MemoryRegistry, NdisVersion, Protocol, Registry, Status, StatusIndication,
    SystemValue,
};
use transport::{DropReason, OffloadPolicy, OffloadReason, SaEventKind};

const OUT: Direction = Direction::Outbound;
const IN: Direction = Direction::Inbound;

/// Sends packets that must all go out, and says how many of them the NIC and software protected.
fn traffic(host: &mut Host, count: u32) -> (u64, u64) {
    let before = host.transport.outbound();
    let packets: Vec<_> = (0..count).map(inner).collect();
    assert_eq!(host.send(&packets).len(), count as usize);
    let after = host.transport.outbound();
    (after.offloaded.packets - before.offloaded.packets, after.software.packets - before.software.packets)
}

fn finish(host: &mut Host, sas: &[sa_table::Handle]) {
    for &sa in sas {
        assert!(host.transport.remove_sa(sa));
    }
    host.service();
    assert_eq!(host.nic.held(), 0, "the NIC keeps SAs that nobody has");
    assert_eq!(host.nic.kept(), 0);
    host.assert_all_ended();
}

#[test]
fn sas_are_offered_by_the_request_that_the_adapters_version_takes() {
    for (version, expected) in [(NdisVersion::V6_20, [Seen::Add(OUT), Seen::Add(IN)]), (NdisVersion::V6_30, [Seen::AddEx(OUT), Seen::AddEx(IN)])] {
        let mut host = Host::new(&Setup { version, ..Setup::default() });
        let out = host.add(&Sa::tunnel(OUT));
        let inward = host.add(&Sa::tunnel(IN));
        assert_eq!(host.nic.take_seen(), expected);
        assert_eq!((host.reason(out), host.reason(inward)), (OffloadReason::Offloaded, OffloadReason::Offloaded));
        assert_eq!(traffic(&mut host, 100), (100, 0));
        finish(&mut host, &[out, inward]);
        assert_eq!(host.nic.take_seen(), [Seen::Delete(1), Seen::Delete(1)]);
    }
}

#[test]
fn offload_switched_off_takes_sas_back_and_on_offers_them_again() {
    let mut host = Host::default();
    let out = host.add(&Sa::tunnel(OUT));
    assert_eq!(traffic(&mut host, 10), (10, 0));
    host.nic.set_config(|config| config.ipsec_v2 = ndis::IpsecOffloadV2::default());
    // Not told yet: what the NIC gives back goes in software, and nothing is lost.
    assert_eq!(traffic(&mut host, 10), (0, 10));
    assert_eq!(host.transport.outbound().retried, 10);
    host.service();
    let OffloadReason::SwitchedOff(why) = host.reason(out) else { panic!("{}", host.reason(out)) };
    assert_eq!(why.field, CapabilityField::Encapsulation);
    assert_eq!(host.nic.held(), 0);
    assert_eq!(traffic(&mut host, 10), (0, 10));
    assert_eq!(host.transport.outbound().retried, 10, "the NIC is asked no more");
    host.nic.set_config(|config| *config = common::hardware(100));
    host.service();
    assert_eq!(host.reason(out), OffloadReason::Offloaded);
    assert_eq!(traffic(&mut host, 10), (10, 0));
    finish(&mut host, &[out]);
}

#[test]
fn ah_only_takes_esp_sas_back() {
    let mut host = Host::default();
    let out = host.add(&Sa::tunnel(OUT));
    host.nic.set_config(|config| config.ipsec_v2 = config.ipsec_v2.restrict(ndis::IpsecSetting::Esp));
    host.service();
    assert_eq!(host.reason(out), OffloadReason::Offloaded);
    host.nic.set_config(|config| config.ipsec_v2 = common::hardware(100).ipsec_v2.restrict(ndis::IpsecSetting::Ah));
    host.service();
    let OffloadReason::SwitchedOff(why) = host.reason(out) else { panic!("{}", host.reason(out)) };
    assert_eq!(why.field, CapabilityField::Esp);
    assert_eq!((traffic(&mut host, 10), host.nic.held()), ((0, 10), 0));
    finish(&mut host, &[out]);
}

#[test]
fn what_a_capability_is_missing_for_says_so() {
    let mut host = Host::default();
    host.nic.set_config(|config| {
        config.ipsec_v2.extended_sequence_numbers = false;
        config.ipsec_v2.transport = false;
    });
    host.service();
    for (sa, field) in [(Sa::tunnel(OUT).esn(0), CapabilityField::ExtendedSequenceNumbers), (Sa::transport(OUT).spi(0x2002), CapabilityField::Transport)] {
        let handle = host.add(&sa);
        let OffloadReason::SwitchedOff(why) = host.reason(handle) else { panic!("{}", host.reason(handle)) };
        assert_eq!(why.field, field);
    }
    let forbidden = host.add(&Sa { offload: OffloadPolicy::Forbid, ..Sa::tunnel(OUT).spi(0x3003) });
    assert_eq!(host.reason(forbidden), OffloadReason::Forbidden);
    assert_eq!(host.nic.held(), 0);
}

#[test]
fn a_full_nic_leaves_the_rest_to_software_and_a_freed_place_goes_to_the_oldest() {
    let mut host = Host::new(&Setup { capacity: 2, ..Setup::default() });
    let sas: Vec<_> = (0..5).map(|i| host.add(&Sa::tunnel(OUT).spi(0x1001 + i))).collect();
    let reasons = |host: &Host, sas: &[sa_table::Handle]| sas.iter().map(|&sa| host.reason(sa)).collect::<Vec<_>>();
    let (on, full) = (OffloadReason::Offloaded, OffloadReason::Capacity);
    assert_eq!(reasons(&host, &sas), [on, on, full, full, full]);
    assert_eq!(host.nic.take_seen().len(), 2, "it is never asked for more than it can hold");
    host.transport.remove_sa(sas[0]);
    assert_eq!(reasons(&host, &sas[1..]), [on, on, full, full]);
    host.transport.remove_sa(sas[3]);
    assert_eq!(host.reason(sas[4]), full, "one that waited has gone, no place has become free");
    finish(&mut host, &[sas[1], sas[2], sas[4]]);
}

#[test]
fn a_nic_that_others_fill_is_asked_again_when_something_changes() {
    let mut host = Host::default();
    host.nic.script().add = Answer::Refuse(Status::RESOURCES);
    let sas: Vec<_> = (0..4).map(|i| host.add(&Sa::tunnel(OUT).spi(0x1001 + i))).collect();
    assert!(sas.iter().all(|&sa| host.reason(sa) == OffloadReason::Capacity));
    assert_eq!(host.nic.take_seen().len(), 1, "one refusal stands for all");
    host.nic.script().add = Answer::Take;
    host.service();
    assert_eq!(host.nic.held(), 0);
    host.transport.tick(host.now);
    assert!(sas.iter().all(|&sa| host.reason(sa) == OffloadReason::Offloaded));
    finish(&mut host, &sas);
}

#[test]
fn busy_sas_get_the_places_of_idle_ones() {
    let mut host = Host::new(&Setup { capacity: 1, ..Setup::default() });
    let idle = host.add(&Sa::tunnel(OUT).spi(0x9009));
    host.transport.set_policies(|spd| spd.policies_mut().clear());
    let busy = host.add(&Sa::tunnel(OUT));
    host.transport.tick(host.now);
    assert_eq!((host.reason(idle), host.reason(busy)), (OffloadReason::Offloaded, OffloadReason::Capacity), "none carried anything");
    assert_eq!(traffic(&mut host, 100), (0, 100));
    host.nic.script().delete = Answer::Pend;
    host.transport.tick(host.now);
    assert_eq!((host.reason(idle), host.reason(busy)), (OffloadReason::Capacity, OffloadReason::Capacity), "the place is not free yet");
    host.nic.answer_kept(Status::SUCCESS);
    host.nic.script().delete = Answer::Take;
    host.service();
    assert_eq!((host.reason(idle), host.reason(busy)), (OffloadReason::Capacity, OffloadReason::Offloaded));
    assert_eq!(host.transport.offload_counts().evicted, 1);
    assert_eq!(traffic(&mut host, 100), (100, 0));
    host.transport.tick(host.now);
    assert_eq!(host.reason(busy), OffloadReason::Offloaded);
    finish(&mut host, &[idle, busy]);
}

#[test]
fn a_delete_request_deletes_both_sas_inbound_first_and_traffic_goes_on_in_software() {
    let mut host = Host::default();
    let (there, back) = (Sa::tunnel(IN), Sa::tunnel(OUT).spi(0x2002));
    let inward = host.add(&there);
    let out = host.add(&back);
    host.transport.pair(inward, out);
    host.nic.take_seen();
    host.nic.script().ask_delete = true;
    let packet = |number| there.seal_packet(u64::from(number), &inner(number), 4);
    assert_eq!(host.receive(&[packet(1), packet(2)]).words(), ["delivered"; 2]);
    assert_eq!(host.transport.inbound().offloaded.packets, 2, "both work until deleted");
    host.service();
    assert_eq!(host.nic.take_seen(), [Seen::Delete(1), Seen::Delete(1)]);
    assert_eq!((host.reason(inward), host.reason(out)), (OffloadReason::DeletedByNic, OffloadReason::DeletedByNic));
    assert_eq!(host.events(), [SaEventKind::DeleteRequested]);
    assert_eq!(host.nic.held(), 0);
    assert_eq!(host.receive(&[packet(3)]).words(), ["delivered"]);
    assert_eq!(host.transport.inbound().software.packets, 1);
    assert_eq!(traffic(&mut host, 5), (0, 5));
    // Offered again when the adapter has changed, and the NIC may ask again.
    host.nic.set_config(|_| {});
    host.service();
    assert_eq!(host.nic.held(), 2);
    host.nic.script().ask_delete = true;
    assert_eq!(host.receive(&[packet(4)]).words(), ["delivered"]);
    host.service();
    assert_eq!(host.nic.held(), 0);
    finish(&mut host, &[inward, out]);
}

#[test]
fn the_inbound_sa_is_deleted_first() {
    let mut host = Host::default();
    let there = Sa::tunnel(IN);
    let out = host.add(&Sa::tunnel(OUT).spi(0x2002));
    let inward = host.add(&there);
    host.transport.pair(inward, out);
    host.nic.script().delete = Answer::Pend;
    host.nic.script().ask_delete = true;
    host.receive(&[there.seal_packet(1, &inner(1), 4)]);
    host.service();
    assert_eq!(host.nic.kept(), 2);
    host.nic.answer_kept(Status::SUCCESS);
    host.service();
    assert_eq!(host.nic.held(), 0);
    finish(&mut host, &[inward, out]);
}

#[test]
fn a_refused_encapsulation_means_no_offload() {
    let mut host = Host::with(&Setup::default(), &Arc::new(MemoryRegistry::new()), |nic| nic.script().refuse_encapsulation = true);
    let out = host.add(&Sa::tunnel(OUT));
    assert_eq!(host.reason(out), OffloadReason::EncapsulationRefused(Status::INVALID_PARAMETER));
    assert_eq!(traffic(&mut host, 10), (0, 10));
    assert!(host.nic.take_seen().is_empty());
}

#[test]
fn system_settings_switch_offload_off_before_anything_is_asked() {
    for (value, number, reason, encapsulations) in
        [(SystemValue::DisableTaskOffload, 1, OffloadReason::TaskOffloadDisabled, 0), (SystemValue::EnabledOffload, 0, OffloadReason::IpsecOffloadDisabled, 1)]
    {
        let registry = Arc::new(MemoryRegistry::new());
        registry.set_system(value, number).unwrap();
        let mut host = Host::with(&Setup::default(), &registry, |_| {});
        let out = host.add(&Sa::tunnel(OUT));
        assert_eq!(host.reason(out), reason);
        assert_eq!(host.nic.encapsulations.load(Ordering::SeqCst), encapsulations, "OID_OFFLOAD_ENCAPSULATION (OV2-CAP-5)");
        assert_eq!(traffic(&mut host, 10), (0, 10));
        assert!(host.nic.take_seen().is_empty());
    }
}

#[test]
fn a_pended_add_is_used_when_it_is_answered_and_not_before() {
    for answer in [Answer::Pend, Answer::DoAndPend] {
        let mut host = Host::default();
        host.nic.script().add = answer;
        let out = host.add(&Sa::tunnel(OUT));
        assert_eq!(host.reason(out), OffloadReason::Pending);
        assert_eq!(traffic(&mut host, 10), (0, 10), "not before ADD_SA has succeeded (OV2-TRANS-0)");
        host.nic.answer_kept(Status::SUCCESS);
        host.service();
        assert_eq!(host.reason(out), OffloadReason::Offloaded);
        assert_eq!(traffic(&mut host, 10), (10, 0));
        finish(&mut host, &[out]);
    }
}

#[test]
fn a_pended_add_that_is_refused_leaves_the_sa_in_software_until_the_adapter_changes() {
    let mut host = Host::default();
    host.nic.script().add = Answer::Pend;
    let out = host.add(&Sa::tunnel(OUT));
    host.nic.answer_kept(Status::NOT_SUPPORTED);
    host.service();
    assert_eq!(host.reason(out), OffloadReason::Refused(Status::NOT_SUPPORTED));
    host.service();
    host.transport.tick(host.now);
    assert_eq!(host.nic.take_seen(), [Seen::AddEx(OUT)], "it is not asked again and again");
    host.nic.script().add = Answer::Take;
    host.nic.set_config(|_| {});
    host.service();
    assert_eq!(host.reason(out), OffloadReason::Offloaded);
    finish(&mut host, &[out]);
}

#[test]
fn an_add_that_is_answered_after_the_sa_was_removed_is_deleted_from_the_nic() {
    for answer in [Answer::Pend, Answer::DoAndPend] {
        let mut host = Host::default();
        host.nic.script().add = answer;
        let out = host.add(&Sa::tunnel(OUT));
        assert!(host.transport.remove_sa(out));
        host.nic.answer_kept(Status::SUCCESS);
        host.service();
        assert_eq!(host.nic.take_seen(), [Seen::AddEx(OUT), Seen::Delete(1)]);
        finish(&mut host, &[]);
    }
}

#[test]
fn an_add_that_is_no_longer_wanted_when_it_is_answered_is_deleted_and_one_that_is_wanted_again_is_kept() {
    let mut host = Host::default();
    host.nic.script().add = Answer::DoAndPend;
    let out = host.add(&Sa::tunnel(OUT));
    host.nic.set_config(|config| config.ipsec_v2.tunnel = false);
    // The completion comes before the indication, or after it: both are under way.
    host.service();
    host.service();
    assert!(matches!(host.reason(out), OffloadReason::SwitchedOff(_)));
    assert_eq!(host.nic.held(), 0);

    host.nic.script().add = Answer::Pend;
    host.nic.set_config(|config| config.ipsec_v2.tunnel = true);
    host.service();
    assert_eq!(host.reason(out), OffloadReason::Pending);
    host.nic.set_config(|config| config.ipsec_v2.tunnel = false);
    host.service();
    assert!(matches!(host.reason(out), OffloadReason::SwitchedOff(_)));
    host.nic.set_config(|config| config.ipsec_v2.tunnel = true);
    host.service();
    assert_eq!(host.reason(out), OffloadReason::Pending, "the first request is still under way, and is wanted again");
    assert_eq!(host.nic.kept(), 1);
    host.nic.answer_kept(Status::SUCCESS);
    host.service();
    assert_eq!((host.reason(out), host.nic.held()), (OffloadReason::Offloaded, 1));
    finish(&mut host, &[out]);
}

#[test]
fn a_reset_aborts_what_is_pending_and_sas_are_added_again_after_it() {
    let mut host = Host::default();
    let first = host.add(&Sa::tunnel(OUT));
    host.nic.script().add = Answer::Pend;
    let second = host.add(&Sa::tunnel(OUT).spi(0x2002));
    host.nic.script().add = Answer::Take;
    host.nic.script().hold_reset = true;
    host.stack.reset_adapter(NIC).unwrap();
    assert_eq!((host.reason(first), host.reason(second)), (OffloadReason::Resetting, OffloadReason::Resetting));
    host.service();
    let during = host.add(&Sa::tunnel(OUT).spi(0x3003));
    assert_eq!(host.reason(during), OffloadReason::Resetting);
    // What is sent meanwhile waits, sealed, and goes first.
    assert!(host.send(&(0..10).map(inner).collect::<Vec<_>>()).is_empty());
    assert_eq!(host.lane.backlog(), 10);
    host.nic.end_reset();
    assert_eq!(host.service().len(), 10);
    assert_eq!((host.lane.backlog(), host.nic.held()), (0, 3));
    assert!([first, second, during].iter().all(|&sa| host.reason(sa) == OffloadReason::Offloaded));
    assert_eq!(traffic(&mut host, 10), (10, 0));
    finish(&mut host, &[first, second, during]);
}

#[test]
fn an_add_that_outlives_a_reset_leaves_nothing_behind() {
    let mut host = Host::default();
    host.nic.script().add = Answer::Pend;
    let out = host.add(&Sa::tunnel(OUT));
    host.nic.script().keep_through_reset = true;
    host.nic.script().add = Answer::Take;
    host.stack.reset_adapter(NIC).unwrap();
    host.service();
    assert_eq!((host.reason(out), host.nic.held(), host.nic.kept()), (OffloadReason::Offloaded, 1, 1), "asked again, and the first is not answered");
    host.nic.answer_kept(Status::SUCCESS);
    assert_eq!(host.nic.held(), 2);
    host.service();
    assert_eq!(host.nic.held(), 1, "nobody waits for that one any more");
    assert_eq!(traffic(&mut host, 10), (10, 0));
    finish(&mut host, &[out]);
}

/// A protocol beside the transport that keeps the thread that delivers waiting, between two barriers.
struct Dawdler {
    armed: AtomicBool,
    reached: Barrier,
    proceed: Barrier,
}

impl Protocol for Dawdler {
    fn bind(&self, _parameters: BindParameters, _binding: Binding) {}

    fn unbind(&self) {}

    fn status(&self, _indication: StatusIndication) {
        if self.armed.swap(false, Ordering::SeqCst) {
            self.reached.wait();
            self.proceed.wait();
        }
    }

    fn direct_oid_complete(&self, _status: Status, _request: DirectOidRequest) {}
}

#[test]
fn nothing_stays_behind_when_news_of_a_reset_is_late() {
    let mut host = Host::default();
    let dawdler = Arc::new(Dawdler { armed: AtomicBool::new(false), reached: Barrier::new(2), proceed: Barrier::new(2) });
    host.stack.bind(Arc::clone(&dawdler) as _, NIC).unwrap();
    let first = host.add(&Sa::tunnel(IN));
    dawdler.armed.store(true, Ordering::SeqCst);
    host.nic.set_config(|_| {});
    let late = std::thread::scope(|scope| {
        let stack = &host.stack;
        let delivering = scope.spawn(move || stack.pump());
        dawdler.reached.wait();
        // The reset is over before its beginning has been heard of, and an SA is added in between.
        host.stack.reset_adapter(NIC).unwrap();
        host.stack.pump();
        let late = host.transport.add_sa(Sa::tunnel(IN).spi(0x2002).parameters(), host.now).unwrap();
        assert_eq!((host.reason(late), host.nic.held()), (OffloadReason::Offloaded, 1));
        dawdler.proceed.wait();
        delivering.join().unwrap();
        late
    });
    host.service();
    assert_eq!((host.reason(first), host.reason(late), host.nic.held()), (OffloadReason::Offloaded, OffloadReason::Offloaded, 2));
    finish(&mut host, &[first, late]);
}

#[test]
fn packets_with_headers_that_the_nic_does_not_take_go_in_software_at_once() {
    let (a6, b6) = (common::address("2001:db8::1"), common::address("2001:db8::2"));
    let v4 = |options: &[u8]| {
        let mut packet = vec![0; 20 + options.len() + 8];
        let repr = packet::Ipv4Repr::new(packet::IpProtocol::UDP, "192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap(), 8);
        repr.emit_with_options(&mut packet, options).unwrap();
        packet
    };
    let v6 = |first: u8| common::ip(a6, b6, packet::IpProtocol(first), &[17, 0, 1, 4, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 0, 0]);
    let mut host = Host::default();
    host.add(&Sa::transport(OUT));
    host.add(&Sa { source: a6, destination: b6, ..Sa::transport(OUT).spi(0x2002) });
    // Plain; options; hop-by-hop options; destination options, which ESP goes in front of.
    let packets = [v4(&[]), v4(&[1, 1, 1, 0]), v6(0), v6(60)];
    for (taken, expected) in [(true, (4, 0)), (false, (2, 2))] {
        host.nic.set_config(|config| {
            config.ipsec_v2.ipv4_options = taken;
            config.ipsec_v2.ipv6_non_ipsec_extension_headers = taken;
        });
        host.service();
        let before = host.transport.outbound();
        assert_eq!(host.send(&packets).len(), 4);
        let after = host.transport.outbound();
        assert_eq!((after.offloaded.packets - before.offloaded.packets, after.software.packets - before.software.packets), expected);
        assert_eq!(after.retried, 0);
    }
}

#[test]
fn what_waited_is_tried_anew() {
    let mut host = Host::default();
    let out = host.add(&Sa::tunnel(OUT));
    host.nic.script().hold_reset = true;
    host.stack.reset_adapter(NIC).unwrap();
    assert!(host.send(&(0..10).map(inner).collect::<Vec<_>>()).is_empty());
    host.nic.script().fail_every = 10;
    host.nic.end_reset();
    assert_eq!(host.service().len(), 10, "one is refused once, and sent again");
    host.nic.script().fail_every = 0;
    finish(&mut host, &[out]);
}

#[test]
fn pended_deletes_keep_their_places_until_they_are_answered() {
    let mut host = Host::new(&Setup { capacity: 1, ..Setup::default() });
    let first = host.add(&Sa::tunnel(OUT));
    let second = host.add(&Sa::tunnel(OUT).spi(0x2002));
    host.nic.script().delete = Answer::Pend;
    host.transport.remove_sa(first);
    host.service();
    assert_eq!((host.reason(second), host.nic.held()), (OffloadReason::Capacity, 1));
    host.nic.answer_kept(Status::SUCCESS);
    host.nic.script().delete = Answer::Take;
    host.service();
    assert_eq!((host.reason(second), host.nic.held()), (OffloadReason::Offloaded, 1));
    finish(&mut host, &[second]);
}

#[test]
fn packets_survive_the_adapter_going_and_another_coming() {
    for surprise in [false, true] {
        let mut host = Host::default();
        let out = host.add(&Sa::tunnel(OUT));
        assert_eq!(traffic(&mut host, 10), (10, 0));
        host.nic.script().hold_sends = true;
        let packets: Vec<_> = (0..20).map(inner).collect();
        assert!(host.send(&packets).is_empty());
        assert_eq!(host.path.outstanding(), 20);
        if surprise {
            host.stack.surprise_remove(NIC).unwrap();
        } else {
            host.stack.remove_adapter(NIC).unwrap();
        }
        assert_eq!(host.reason(out), OffloadReason::NoAdapter);
        assert!(host.service().is_empty());
        assert_eq!((host.path.outstanding(), host.lane.backlog()), (0, 20), "what the NIC had comes back and waits");
        assert!(host.send(&packets[..5]).is_empty());
        assert_eq!(host.lane.backlog(), 25);
        // Another adapter comes.
        host.nic.script().hold_sends = false;
        host.stack.add_adapter(NIC, Arc::new(common::Driver(Arc::clone(&host.nic)))).unwrap();
        host.stack.bind(Arc::new(host.transport.clone()), NIC).unwrap();
        host.path = host.stack.open_datapath(NIC).unwrap();
        assert_eq!(host.service().len(), 25);
        assert_eq!(host.reason(out), OffloadReason::Offloaded);
        assert_eq!(traffic(&mut host, 10), (10, 0));
        finish(&mut host, &[out]);
    }
}

#[test]
fn a_restart_loses_nothing_either() {
    let mut host = Host::default();
    let out = host.add(&Sa::tunnel(OUT));
    host.nic.script().hold_sends = true;
    assert!(host.send(&(0..20).map(inner).collect::<Vec<_>>()).is_empty());
    host.nic.script().hold_sends = false;
    host.stack.restart_adapter(NIC).unwrap();
    assert_eq!(host.service().len(), 20);
    assert_eq!(host.reason(out), OffloadReason::Offloaded);
    finish(&mut host, &[out]);
}

#[test]
fn late_completions_count_when_they_come() {
    let mut host = Host::default();
    let out = host.add(&Sa::tunnel(OUT));
    host.nic.script().hold_sends = true;
    assert!(host.send(&(0..20).map(inner).collect::<Vec<_>>()).is_empty());
    let counts = host.transport.outbound();
    assert_eq!((counts.seen.packets, counts.ended()), (20, 0));
    host.nic.script().hold_sends = false;
    host.nic.script().fail_every = 3;
    host.nic.script().fail_offloaded_only = true;
    assert_eq!(host.service().len(), 20);
    let counts = host.transport.outbound();
    assert_eq!((counts.ended(), counts.retried), (20, counts.software.packets));
    assert!(counts.software.packets >= 6);
    host.nic.script().fail_every = 0;
    finish(&mut host, &[out]);
}

#[test]
fn packets_of_an_sa_that_is_removed_while_the_nic_has_them_end_and_none_is_in_clear() {
    let mut host = Host::default();
    let out = host.add(&Sa::tunnel(OUT));
    host.nic.script().hold_sends = true;
    host.send(&(0..20).map(inner).collect::<Vec<_>>());
    host.transport.remove_sa(out);
    host.nic.script().hold_sends = false;
    assert!(host.service().is_empty());
    assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::NoSa, 20)]);
    finish(&mut host, &[]);
}

#[test]
fn a_nic_that_refuses_finished_packets_has_them_twice_and_no_more() {
    let mut host = Host::default();
    let out = host.add(&Sa::tunnel(OUT));
    host.nic.script().fail_every = 1;
    assert!(host.send(&(0..20).map(inner).collect::<Vec<_>>()).is_empty());
    assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::Refused, 20)]);
    host.nic.script().fail_every = 0;
    finish(&mut host, &[out]);
}

#[test]
fn the_backlog_is_bounded() {
    let mut host = Host::default();
    let out = host.add(&Sa::tunnel(OUT));
    host.nic.script().hold_reset = true;
    host.stack.reset_adapter(NIC).unwrap();
    assert!(host.send(&(0..1100).map(inner).collect::<Vec<_>>()).is_empty());
    assert_eq!(host.lane.backlog(), 1024);
    assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::BacklogFull, 76)]);
    host.nic.end_reset();
    assert_eq!(host.service().len(), 1024);
    finish(&mut host, &[out]);
}

#[test]
fn a_second_bind_leaves_nothing_on_the_first_adapter() {
    let mut host = Host::default();
    let out = host.add(&Sa::tunnel(OUT));
    let other = Arc::new(common::Double::default());
    *other.attributes.lock().unwrap() = host.nic.attributes.lock().unwrap().clone();
    host.stack.add_adapter("nic1", Arc::new(common::Driver(Arc::clone(&other)))).unwrap();
    host.stack.bind(Arc::new(host.transport.clone()), "nic1").unwrap();
    host.stack.pump();
    assert_eq!((host.nic.held(), other.held()), (0, 1));
    host.path = host.stack.open_datapath("nic1").unwrap();
    assert_eq!(traffic(&mut host, 10), (10, 0));
    finish(&mut host, &[out]);
    assert_eq!(other.held(), 0);
}

#[test]
fn requests_under_the_control_mutex_and_pumps_in_other_threads_do_not_wait_for_each_other() {
    let mut host = Host::default();
    host.nic.script().add = Answer::DoAndPend;
    host.nic.script().delete = Answer::DoAndPend;
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stack, nic, transport, now) = (&host.stack, &host.nic, &host.transport, host.now);
        scope.spawn(move || {
            // A thread that fails does not say that it is done.
            let end = std::time::Instant::now() + std::time::Duration::from_mins(1);
            while !done.load(Ordering::Relaxed) && std::time::Instant::now() < end {
                stack.pump();
            }
        });
        scope.spawn(move || {
            for number in 0..200 {
                nic.set_config(|config| config.ipsec_v2.tunnel = number % 2 == 0);
                transport.service(now);
            }
        });
        scope.spawn(move || {
            for number in 0..50 {
                let _ = if number % 3 == 0 { stack.restart_adapter(NIC) } else { stack.reset_adapter(NIC) };
                std::thread::yield_now();
            }
        });
        for spi in 0x100..0x300 {
            let sa = transport.add_sa(Sa::tunnel(OUT).spi(spi).parameters(), now).unwrap();
            transport.remove_sa(sa);
        }
        done.store(true, Ordering::Relaxed);
    });
    host.nic.script().add = Answer::Take;
    host.nic.script().delete = Answer::Take;
    for _ in 0..4 {
        host.service();
    }
    finish(&mut host, &[]);
}

#[test]
fn what_must_be_offloaded_is_offloaded_or_not_sent_and_not_taken() {
    let required = |sa: Sa| Sa { offload: OffloadPolicy::Require, ..sa };
    let mut host = Host::default();
    let (out, inward) = (required(Sa::tunnel(OUT)), required(Sa::tunnel(IN)));
    let handles = [host.add(&out), host.add(&inward)];
    assert_eq!(handles.map(|sa| host.reason(sa)), [OffloadReason::Offloaded; 2]);
    assert_eq!(traffic(&mut host, 10), (10, 0));
    let frames: Vec<_> = (1..=10).map(|number| inward.seal_packet(number, &inner(number as u32), 4)).collect();
    assert_eq!(host.receive(&frames[..4]).delivered.len(), 4);

    // The adapter takes it back and has not said so: what comes back is not sent in another way, and what comes up as it came is not opened.
    host.nic.set_config(|config| config.ipsec_v2 = ndis::IpsecOffloadV2::default());
    assert!(host.send(&[inner(1), inner(2)]).is_empty());
    assert!(host.receive_in_software(&frames[4..7]).delivered.is_empty());
    // And when it has said so.
    host.service();
    assert!(matches!(host.reason(handles[0]), OffloadReason::SwitchedOff(_)));
    assert!(host.send(&[inner(3)]).is_empty());
    assert!(host.receive_in_software(&frames[7..]).delivered.is_empty());
    assert_eq!(Host::dropped(&host.transport.outbound()), [(DropReason::NotOffloaded, 3)]);
    assert_eq!(Host::dropped(&host.transport.inbound()), [(DropReason::NotOffloaded, 6)]);
    assert_eq!((host.transport.outbound().software.packets, host.transport.inbound().software.packets), (0, 0));

    // What was refused has not used up a place in the window.
    host.nic.set_config(|config| *config = common::hardware(100));
    host.service();
    assert_eq!(host.receive(&frames[4..]).delivered.len(), 6);
    assert_eq!(traffic(&mut host, 10), (10, 0));
    finish(&mut host, &handles);
}
