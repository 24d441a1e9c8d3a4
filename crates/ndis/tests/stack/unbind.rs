//! A protocol that is taken off an adapter: what it asked for is answered once, and what it had is nobody's (OV2-OID-2, R-25, R-34, R-42).

use std::sync::{Arc, Barrier};

use ndis::{DirectAnswer, DirectOid, Protocol, StackError, Status};

use crate::double::{Call, Direct, Fixture, NIC, Transport, add_sa};

fn unbind(fixture: &Fixture, transport: &Arc<Transport>) {
    let protocol: Arc<dyn Protocol> = transport.clone();
    fixture.stack.unbind(&protocol, NIC).unwrap();
}

fn add(transport: &Transport) -> u64 {
    match transport.binding().direct_oid_request(add_sa()) {
        DirectAnswer::Done(Status::SUCCESS, DirectOid::AddSaEx(entry)) => entry.handle.unwrap().to_bits(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_it_had_pended_is_answered_before_it_is_told_and_cancelled() {
    let fixture = Fixture::new();
    fixture.direct(Direct::Keep);
    let DirectAnswer::Pending(first) = fixture.transport.binding().direct_oid_request(add_sa()) else { panic!() };
    let DirectAnswer::Pending(second) = fixture.transport.binding().direct_oid_request(DirectOid::DeleteSa(vec![7])) else { panic!() };
    fixture.transport.take();
    unbind(&fixture, &fixture.transport.clone());
    let calls = fixture.transport.take();
    let words: Vec<_> = calls.iter().map(Call::word).collect();
    let aborted = format!("complete {}", Status::REQUEST_ABORTED);
    assert_eq!(words, [aborted.as_str(), aborted.as_str(), "unbind"]);
    let Call::Complete(_, id, DirectOid::AddSaEx(entry)) = &calls[0] else { panic!("{calls:?}") };
    assert_eq!((*id, entry.handle, entry.status), (first, None, Status::REQUEST_ABORTED));
    assert_eq!(*fixture.nic.cancelled.lock().unwrap(), [first, second]);
    // The miniport's own answers come after, and go to nobody.
    fixture.stack.pump();
    assert!(fixture.transport.take().is_empty());
    let info = fixture.stack.adapter(NIC).unwrap();
    assert_eq!((info.direct_requests, info.stray_completions, info.protocols, info.sas), (0, 0, 0, 0));
}

/// What a miniport adds after its protocol has gone it deletes again.
#[test]
fn what_is_added_for_it_afterwards_is_deleted() {
    let fixture = Fixture::new();
    fixture.direct(Direct::NextPoll);
    let DirectAnswer::Pending(_) = fixture.transport.binding().direct_oid_request(add_sa()) else { panic!() };
    unbind(&fixture, &fixture.transport.clone());
    assert!(fixture.nic.deleted.lock().unwrap().is_empty());
    fixture.stack.pump();
    assert_eq!(*fixture.nic.deleted.lock().unwrap(), [1]);
    fixture.stack.pump();
    let info = fixture.stack.adapter(NIC).unwrap();
    assert_eq!((info.direct_requests, info.sas), (0, 0));
}

#[test]
fn its_sas_are_deleted_and_those_of_others_stay() {
    let fixture = Fixture::new();
    let other = Arc::new(Transport::default());
    fixture.stack.bind(other.clone(), NIC).unwrap();
    let (mine, theirs) = (add(&fixture.transport), add(&other));
    assert_eq!(fixture.stack.adapter(NIC).unwrap().sas, 2);
    unbind(&fixture, &fixture.transport.clone());
    assert_eq!(*fixture.nic.deleted.lock().unwrap(), [mine]);
    assert_eq!(fixture.stack.adapter(NIC).unwrap().sas, 1);
    let protocol: Arc<dyn Protocol> = fixture.transport.clone();
    assert!(matches!(fixture.stack.unbind(&protocol, NIC), Err(StackError::NotBound { .. })));
    // Restarts bind those that are there.
    fixture.transport.take();
    fixture.stack.restart_adapter(NIC).unwrap();
    assert!(fixture.transport.take().is_empty());
    let _ = theirs;
}

/// A deletion that the miniport refuses has deleted nothing: the SA is still its owner's.
#[test]
fn a_refused_deletion_takes_nothing_off_the_books() {
    let fixture = Fixture::new();
    let handle = add(&fixture.transport);
    fixture.direct(Direct::Keep);
    let DirectAnswer::Pending(_) = fixture.transport.binding().direct_oid_request(DirectOid::DeleteSa(vec![handle])) else { panic!() };
    assert_eq!(fixture.stack.adapter(NIC).unwrap().sas, 0, "nobody's while it goes");
    fixture.nic.complete_kept(Status::FAILURE);
    fixture.stack.pump();
    assert_eq!(fixture.stack.adapter(NIC).unwrap().sas, 1);
}

/// The call is in the miniport when the protocol goes: its thread gets the answer, and what was added is deleted.
#[test]
fn a_call_that_is_in_the_miniport_answers_itself() {
    for pends in [false, true] {
        let fixture = Fixture::new();
        let binding = fixture.transport.binding();
        let (inside, proceed) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        fixture.direct(if pends { Direct::Linger(inside.clone(), proceed.clone()) } else { Direct::LingerAndDo(inside.clone(), proceed.clone()) });
        let answer = std::thread::scope(|scope| {
            let call = scope.spawn(|| binding.direct_oid_request(add_sa()));
            inside.wait();
            unbind(&fixture, &fixture.transport.clone());
            fixture.direct(Direct::AtOnce);
            proceed.wait();
            call.join().unwrap()
        });
        let DirectAnswer::Done(Status::REQUEST_ABORTED, DirectOid::AddSaEx(entry)) = answer else { panic!("{answer:?}") };
        assert_eq!(entry.handle, None);
        fixture.stack.pump();
        assert_eq!(fixture.nic.deleted.lock().unwrap().len(), usize::from(!pends));
        let info = fixture.stack.adapter(NIC).unwrap();
        assert_eq!((info.direct_requests, info.sas), (0, 0));
        assert_eq!(fixture.transport.words(), ["bind", "unbind"]);
    }
}
