//! Several SAs in one request, on adapters whose version has lists: how they are asked for, and what becomes of each (OV2-SA-1, OV2-SA-4).

mod common;

use common::{Answer, Host, Sa, Seen, Setup, inner};
use ndis::{Direction, NdisVersion, Status};
use sa_table::Handle;
use transport::OffloadReason;

const OUT: Direction = Direction::Outbound;
const ON: OffloadReason = OffloadReason::Offloaded;

/// A host with so many SAs of which its NIC has none yet, because offload is switched off.
fn switched_off(version: NdisVersion, capacity: u32, sas: u32) -> (Host, Vec<Handle>) {
    let mut host = Host::new(&Setup { capacity, version, ..Setup::default() });
    host.nic.set_config(|config| config.ipsec_v2 = ndis::IpsecOffloadV2::default());
    host.service();
    let sas = (0..sas).map(|number| host.add(&Sa::tunnel(OUT).spi(0x1001 + number))).collect();
    assert_eq!(host.nic.take_seen(), []);
    (host, sas)
}

fn switch_on(host: &mut Host, capacity: u32) {
    host.nic.set_config(|config| *config = common::hardware(capacity));
    host.service();
}

fn reasons(host: &Host, sas: &[Handle]) -> Vec<OffloadReason> {
    sas.iter().map(|&sa| host.reason(sa)).collect()
}

fn finish(mut host: Host, sas: &[Handle]) {
    for &sa in sas {
        assert!(host.transport.remove_sa(sa));
    }
    host.service();
    assert_eq!((host.nic.held(), host.nic.kept()), (0, 0), "the NIC keeps SAs that nobody has");
    host.assert_all_ended();
}

/// OV2-SA-1: before NDIS 6.30 they come in lists, from then on one by one.
#[test]
fn what_comes_back_with_a_configuration_is_asked_for_in_lists_where_the_version_has_them() {
    for (version, expected) in [
        (NdisVersion::V6_1, vec![Seen::AddList(64), Seen::AddList(6)]),
        (NdisVersion::V6_20, vec![Seen::AddList(64), Seen::AddList(6)]),
        (NdisVersion::V6_30, vec![Seen::AddEx(OUT); 70]),
    ] {
        let (mut host, sas) = switched_off(version, 100, 70);
        switch_on(&mut host, 100);
        assert_eq!(host.nic.take_seen(), expected, "{version}");
        assert!(reasons(&host, &sas).iter().all(|reason| *reason == ON));
        assert_eq!((host.nic.held(), host.transport.offload_counts().added), (70, 70));
        assert_eq!(host.send(&(0..10).map(inner).collect::<Vec<_>>()).len(), 10);
        finish(host, &sas);
    }
}

/// OV2-SA-4: what was added is used, what failed is in software for a reason of its own.
#[test]
fn a_list_that_succeeds_in_part_leaves_each_sa_with_its_own_reason() {
    let (mut host, sas) = switched_off(NdisVersion::V6_20, 100, 5);
    host.nic.script().refuse = vec![(0x1001, Status::INVALID_DATA), (0x1003, Status::NOT_SUPPORTED)];
    switch_on(&mut host, 100);
    assert_eq!(host.nic.take_seen(), [Seen::AddList(5)]);
    let refused = OffloadReason::Refused;
    assert_eq!(reasons(&host, &sas), [refused(Status::INVALID_DATA), ON, refused(Status::NOT_SUPPORTED), ON, ON]);
    let counts = host.transport.offload_counts();
    assert_eq!((counts.added, counts.refused, host.nic.held()), (3, 2, 3));
    // The first SA's policy is the first that matches: its packets go in software.
    assert_eq!(host.send(&(0..10).map(inner).collect::<Vec<_>>()).len(), 10);
    assert_eq!(host.transport.outbound().software.packets, 10);
    // Only a change of the adapter brings them up again.
    host.nic.script().refuse.clear();
    host.service();
    assert_eq!(host.nic.take_seen(), []);
    switch_on(&mut host, 100);
    assert_eq!(host.nic.take_seen(), [Seen::AddList(2)]);
    assert!(reasons(&host, &sas).iter().all(|reason| *reason == ON));
    finish(host, &sas);
}

/// OV2-SA-4: a list of which every entry fails adds nothing, and each SA is told its own cause.
#[test]
fn a_list_that_fails_as_a_whole_adds_nothing() {
    let (mut host, sas) = switched_off(NdisVersion::V6_20, 100, 3);
    host.nic.script().refuse = vec![(0x1001, Status::INVALID_DATA), (0x1002, Status::NOT_SUPPORTED), (0x1003, Status::INVALID_DATA)];
    switch_on(&mut host, 100);
    let refused = OffloadReason::Refused;
    assert_eq!(reasons(&host, &sas), [refused(Status::INVALID_DATA), refused(Status::NOT_SUPPORTED), refused(Status::INVALID_DATA)]);
    assert_eq!(host.nic.held(), 0);
    // An adapter that says nothing of the entries fails them all for the list's cause.
    host.nic.script().add = Answer::Refuse(Status::FAILURE);
    switch_on(&mut host, 100);
    assert!(reasons(&host, &sas).iter().all(|reason| *reason == refused(Status::FAILURE)));
    finish(host, &sas);
}

/// OV2-CAP-2: a list holds no more than there are places for; and where others have taken some, the rest waits.
#[test]
fn lists_keep_to_the_capacity_and_the_rest_waits_for_places() {
    let (mut host, sas) = switched_off(NdisVersion::V6_20, 4, 6);
    switch_on(&mut host, 4);
    assert_eq!(host.nic.take_seen(), [Seen::AddList(4)]);
    let full = OffloadReason::Capacity;
    assert_eq!(reasons(&host, &sas), [ON, ON, ON, ON, full, full]);
    host.transport.remove_sa(sas[1]);
    assert_eq!(host.nic.take_seen(), [Seen::Delete(1), Seen::Add(OUT)]);
    assert_eq!(reasons(&host, &[sas[4], sas[5]]), [ON, full]);
    // Another has two of the places: two of the list find none.
    let (mut shared, others) = switched_off(NdisVersion::V6_20, 4, 4);
    shared.nic.script().refuse = vec![(0x1003, Status::RESOURCES), (0x1004, Status::RESOURCES)];
    switch_on(&mut shared, 4);
    assert_eq!(reasons(&shared, &others), [ON, ON, full, full]);
    shared.nic.script().refuse.clear();
    shared.service();
    assert_eq!(shared.nic.take_seen(), [Seen::AddList(4)], "not asked again until something changes");
    shared.wait(core::time::Duration::from_secs(1));
    shared.transport.tick(shared.now);
    assert_eq!(reasons(&shared, &others), [ON; 4]);
    finish(shared, &others);
    finish(host, &[sas[0], sas[2], sas[3], sas[4], sas[5]]);
}

/// OV2-OID-2: a list that is pended counts when it is answered; what was removed meanwhile is deleted then, and what a reset aborts is asked for again.
#[test]
fn a_pended_list_is_answered_entry_by_entry() {
    let (mut host, sas) = switched_off(NdisVersion::V6_20, 100, 4);
    host.nic.script().add = Answer::Pend;
    host.nic.script().refuse = vec![(0x1004, Status::INVALID_DATA)];
    switch_on(&mut host, 100);
    assert!(reasons(&host, &sas).iter().all(|reason| *reason == OffloadReason::Pending));
    assert!(host.transport.remove_sa(sas[1]));
    host.nic.answer_kept(Status::SUCCESS);
    host.service();
    assert_eq!(reasons(&host, &[sas[0], sas[2], sas[3]]), [ON, ON, OffloadReason::Refused(Status::INVALID_DATA)]);
    assert_eq!(host.nic.held(), 2);
    assert_eq!(host.nic.take_seen(), [Seen::AddList(4), Seen::Delete(1)]);

    host.nic.script().refuse.clear();
    host.stack.reset_adapter(common::NIC).unwrap();
    for _ in 0..3 {
        host.service();
    }
    assert_eq!(host.nic.take_seen(), [Seen::AddList(3)]);
    // This time the reset ends it.
    host.stack.reset_adapter(common::NIC).unwrap();
    host.service();
    host.nic.script().add = Answer::Take;
    host.stack.reset_adapter(common::NIC).unwrap();
    for _ in 0..3 {
        host.service();
    }
    let left = [sas[0], sas[2], sas[3]];
    assert_eq!(reasons(&host, &left), [ON; 3]);
    host.nic.answer_kept(Status::REQUEST_ABORTED);
    finish(host, &left);
}

/// A reset that is heard of late leaves a list unanswered: what it adds then is deleted again, all of it.
#[test]
fn a_list_that_outlives_a_reset_leaves_nothing_behind() {
    let (mut host, sas) = switched_off(NdisVersion::V6_20, 100, 5);
    host.nic.script().add = Answer::Pend;
    host.nic.script().keep_through_reset = true;
    switch_on(&mut host, 100);
    host.stack.reset_adapter(common::NIC).unwrap();
    host.nic.script().add = Answer::Take;
    host.service();
    assert_eq!(host.nic.kept(), 1, "the first list");
    host.nic.answer_kept(Status::SUCCESS);
    host.service();
    assert_eq!(reasons(&host, &sas), [ON; 5]);
    assert_eq!(host.nic.held(), 5, "what the first list added is gone");
    assert!(host.nic.take_seen().contains(&Seen::Delete(5)));
    finish(host, &sas);
}
