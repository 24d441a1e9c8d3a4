//! The example's engine, run as `main` runs it, and held against an oracle.

mod common;
#[allow(dead_code, reason = "main is not called here")]
#[path = "../examples/foreign_engine.rs"]
mod foreign_engine;

use common::{Nic, Sa, Shape};
use foreign_engine::Card;
use ndis::{AddSaEntry, DirectOid, Direction, LaneContext, Miniport, NblBatch, Outcome, Status, StatusIndication, Upcalls};
use nic::NicParameters;
use packet::{FrameBatch, Medium, Time};

#[test]
fn the_example_tells_its_story() {
    let mut story = Vec::new();
    foreign_engine::run(|line| story.push(line)).unwrap();
    assert_eq!(
        story,
        [
            "ADD_SA_EX: pended true, completed SUCCESS",
            "send: 0 completed at once, 1 by poll, SUCCESS, 1 frame on the wire",
            "DELETE_SA: pended true, completed SUCCESS",
            "send under the deleted SA: FAILURE, 0 frames on the wire",
        ]
    );
}

#[test]
fn the_example_is_under_200_lines() {
    assert!(include_str!("../examples/foreign_engine.rs").lines().count() < 200);
}

#[test]
fn a_late_engine_keeps_the_contract() {
    let mut nic = Nic::with(NicParameters { medium: Medium::Ip, ..NicParameters::new("card") }, Card::default);
    nic.activate_null();
    let sa = Sa::new(0x1001);
    assert_eq!(nic.try_add(sa.bundle(Direction::Inbound)), Err(Status::NOT_SUPPORTED));
    assert!(matches!(nic.direct(DirectOid::AddSaEx(Box::new(AddSaEntry::new(sa.bundle(Direction::Outbound))))), Outcome::Pending));
    let (status, request) = nic.completions().pop().unwrap();
    let DirectOid::AddSaEx(entry) = request.body else { panic!("{request:?}") };
    assert_eq!(status, Status::SUCCESS);
    let handle = entry.handle;

    let poll = |nic: &mut Nic<Card>| {
        let (mut done, mut wire) = (NblBatch::new(), FrameBatch::new());
        nic.queue.poll(&mut LaneContext { now: Time::ZERO, pool: &mut nic.pool }, &mut done, &mut wire);
        (done, wire)
    };
    let packets: Vec<_> = (1..20).map(|low| sa.unsealed(Shape::BARE, low, &[5; 64])).collect();
    let mut wrong = packets[0].list(handle);
    wrong.oob.set_header_transmit(ndis::HeaderTransmit::default());
    let mut batch: Vec<_> = packets.iter().map(|packet| packet.list(handle)).collect();
    batch.push(wrong);
    batch.push(packets[0].list(None));
    let (done, wire) = nic.send(batch);
    assert!(done.is_empty() && wire.is_empty());
    let (done, wire) = poll(&mut nic);
    assert_eq!(done.iter().map(|list| list.status.is_success()).collect::<Vec<_>>(), [&[true; 19][..], &[false, true]].concat());
    assert_eq!(done[19].buffer.as_slice(), packets[0].bytes, "whole");
    let expected = packets.iter().zip(1..).map(|(packet, sequence)| sa.sealed(packet, sequence)).chain([packets[0].bytes.clone()]);
    assert!(wire.iter().map(|frame| frame.buffer.as_slice().to_vec()).eq(expected));
    assert_eq!((nic.counter("sent_offloaded"), nic.counter("sent_plain"), nic.counter("send_failed")), (19, 1, 1));

    // A reset waits for what is in the ring (NDIS 6.30), which fails whole, since its SA is gone.
    nic.send(vec![packets[1].list(handle)]);
    nic.miniport.reset(&mut Upcalls::default());
    assert!(nic.indications().is_empty());
    let (done, wire) = poll(&mut nic);
    assert_eq!((done[0].status, done[0].buffer.as_slice(), wire.len()), (Status::FAILURE, packets[1].bytes.as_slice(), 0));
    assert_eq!(nic.indications(), [StatusIndication::ResetEnd]);
}
