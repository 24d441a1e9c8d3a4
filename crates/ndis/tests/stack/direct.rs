//! The direct path: concurrent, pended, cancelled, reset, removed; every request answered exactly once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use ndis::{
    AdapterAttributes, DirectAnswer, DirectOid, DirectOidRequest, Filter, FilterVerdict, IpsecSetting, OffloadParameters, RequestId, Stack, Status,
    StatusIndication, UpdateSa,
};

use super::double::{Call, Direct, Driver, Fixture, NIC, Shared, Transport, add_sa, attributes};

fn pended(answer: DirectAnswer) -> RequestId {
    match answer {
        DirectAnswer::Pending(id) => id,
        DirectAnswer::Done(status, body) => panic!("{status}: {body:?}"),
    }
}

fn done(answer: DirectAnswer) -> (Status, DirectOid) {
    match answer {
        DirectAnswer::Done(status, body) => (status, body),
        DirectAnswer::Pending(id) => panic!("{id:?} is pending"),
    }
}

/// Requests that completed, by id.
fn completions(transport: &Transport) -> Vec<(RequestId, Status)> {
    let completed = |call| match call {
        Call::Complete(status, id, _) => Some((id, status)),
        _ => None,
    };
    transport.take().into_iter().filter_map(completed).collect()
}

#[test]
fn a_request_is_answered_at_once_or_later_but_once() {
    let fixture = Fixture::new();
    let binding = fixture.transport.binding();
    let (status, body) = done(binding.direct_oid_request(add_sa()));
    assert_eq!(status, Status::SUCCESS);
    let DirectOid::AddSaEx(entry) = body else { panic!("another body") };
    assert!(entry.handle.is_some() && entry.bundle.is_ok());

    fixture.direct(Direct::NextPoll);
    fixture.transport.take();
    let id = pended(binding.direct_oid_request(add_sa()));
    assert!(fixture.transport.take().is_empty(), "not before the pump");
    assert_eq!(fixture.stack.adapter(NIC).unwrap().direct_requests, 1);
    fixture.stack.pump();
    assert_eq!(completions(&fixture.transport), [(id, Status::SUCCESS)]);
    fixture.stack.pump();
    assert!(completions(&fixture.transport).is_empty());
    assert_eq!(fixture.stack.adapter(NIC).unwrap().direct_requests, 0);
}

#[test]
fn direct_requests_run_at_the_same_time() {
    let fixture = Fixture::new();
    // Nobody comes out before all are in: one at a time would never end.
    let threads = 4;
    fixture.direct(Direct::Together(Arc::new(Barrier::new(threads))));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| assert_eq!(done(fixture.transport.binding().direct_oid_request(add_sa())).0, Status::SUCCESS));
        }
    });
}

#[test]
fn a_direct_request_passes_a_standard_one_and_a_pump() {
    let fixture = Fixture::new();
    let (inside, proceed) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    fixture.direct(Direct::Linger(Arc::clone(&inside), Arc::clone(&proceed)));
    std::thread::scope(|scope| {
        scope.spawn(|| pended(fixture.transport.binding().direct_oid_request(add_sa())));
        inside.wait();
        // The direct request is in the miniport all the while.
        let binding = fixture.transport.binding();
        assert_eq!(binding.set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Esp)), Status::SUCCESS);
        fixture.stack.pump();
        fixture.direct(Direct::AtOnce);
        assert_eq!(done(binding.direct_oid_request(add_sa())).0, Status::SUCCESS);
        proceed.wait();
    });
}

#[test]
fn a_completion_may_come_before_the_call_returns() {
    let fixture = Fixture::new();
    fixture.transport.take();
    let (completed, polled) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    fixture.direct(Direct::Early(Arc::clone(&completed), Arc::clone(&polled)));
    let binding = fixture.transport.binding();
    let id = binding.reserve_request_id();
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| pended(binding.direct_oid_request_as(id, add_sa())));
        completed.wait();
        fixture.stack.pump();
        assert_eq!(completions(&fixture.transport), [(id, Status::SUCCESS)]);
        polled.wait();
        assert_eq!(caller.join().unwrap(), id);
    });
    fixture.stack.pump();
    assert!(completions(&fixture.transport).is_empty());
    assert_eq!(fixture.stack.adapter(NIC).unwrap().direct_requests, 0);
}

#[test]
fn what_the_path_does_not_carry_is_not_supported() {
    let fixture = Fixture::new();
    let other = fixture.transport.binding().direct_oid_request(DirectOid::Other(0xFC01_020B));
    assert!(matches!(done(other), (Status::NOT_SUPPORTED, DirectOid::Other(0xFC01_020B))));

    let mute = Fixture::with(Transport { completes: false, ..Transport::default() });
    assert_eq!(done(mute.transport.binding().direct_oid_request(add_sa())).0, Status::NOT_SUPPORTED);

    // A driver without direct handlers.
    let plain = AdapterAttributes { direct_requests: false, ..attributes(ndis::Offload::default(), ndis::Offload::default()) };
    *fixture.nic.attributes.lock().unwrap() = Some(plain);
    fixture.stack.restart_adapter(NIC).unwrap();
    let (status, body) = done(fixture.transport.binding().direct_oid_request(add_sa()));
    assert_eq!(status, Status::NOT_SUPPORTED);
    assert!(matches!(body, DirectOid::AddSaEx(entry) if entry.bundle.is_ok()), "comes back whole");
    assert_eq!(fixture.nic.direct_calls.load(Ordering::SeqCst), 0);
}

#[test]
fn an_id_is_good_for_one_request_at_a_time() {
    let fixture = Fixture::new();
    fixture.direct(Direct::Keep);
    let binding = fixture.transport.binding();
    let id = pended(binding.direct_oid_request(add_sa()));
    assert_eq!(done(binding.direct_oid_request_as(id, add_sa())).0, Status::INVALID_PARAMETER);
    assert_ne!(binding.reserve_request_id(), id);
}

#[test]
fn cancel_ends_what_is_unfinished_and_nothing_else() {
    let fixture = Fixture::new();
    fixture.direct(Direct::Keep);
    let stranger = Arc::new(Transport::default());
    fixture.stack.bind(Arc::clone(&stranger) as _, NIC).unwrap();
    fixture.transport.take();
    let binding = fixture.transport.binding();
    let first = pended(binding.direct_oid_request(add_sa()));
    let second = pended(binding.direct_oid_request(add_sa()));
    stranger.binding().cancel(first);
    binding.cancel(RequestId(u64::MAX));
    assert!(fixture.nic.cancelled.lock().unwrap().is_empty(), "neither is this binding's");
    binding.cancel(second);
    fixture.stack.pump();
    assert_eq!(completions(&fixture.transport), [(second, Status::REQUEST_ABORTED)]);
    binding.cancel(second);
    fixture.nic.complete_kept(Status::SUCCESS);
    fixture.stack.pump();
    assert_eq!(completions(&fixture.transport), [(first, Status::SUCCESS)]);
    assert_eq!(*fixture.nic.cancelled.lock().unwrap(), [second]);
    assert!(completions(&stranger).is_empty());
}

#[test]
fn a_cancel_during_the_call_is_made_good_after_it() {
    let fixture = Fixture::new();
    fixture.transport.take();
    let (inside, proceed) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    fixture.direct(Direct::Linger(Arc::clone(&inside), Arc::clone(&proceed)));
    let binding = fixture.transport.binding();
    let id = binding.reserve_request_id();
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| pended(binding.direct_oid_request_as(id, add_sa())));
        inside.wait();
        binding.cancel(id);
        proceed.wait();
        caller.join().unwrap();
    });
    fixture.stack.pump();
    assert_eq!(completions(&fixture.transport), [(id, Status::REQUEST_ABORTED)]);
}

#[test]
fn a_reset_ends_what_is_outstanding_and_refuses_what_is_new() {
    let fixture = Fixture::new();
    fixture.direct(Direct::Keep);
    fixture.transport.take();
    let binding = fixture.transport.binding();
    let ids: Vec<_> = (0..3).map(|_| pended(binding.direct_oid_request(add_sa()))).collect();
    fixture.stack.reset_adapter(NIC).unwrap();
    assert_eq!(done(binding.direct_oid_request(add_sa())).0, Status::NOT_ACCEPTED);
    fixture.stack.pump();
    let calls = fixture.transport.take();
    let words: Vec<_> = calls.iter().map(Call::word).collect();
    let aborted = "complete REQUEST_ABORTED";
    assert_eq!(words, ["reset start", aborted, aborted, aborted, "reset end"], "all end before the reset does");
    assert_eq!(ids.len(), 3);
    fixture.direct(Direct::AtOnce);
    assert_eq!(done(binding.direct_oid_request(add_sa())).0, Status::SUCCESS);
}

#[test]
fn removal_answers_what_a_miniport_forgets() {
    for surprise in [false, true] {
        for forgetful in [false, true] {
            let fixture = Fixture::new();
            fixture.direct(Direct::Keep);
            fixture.nic.forgetful.store(forgetful, Ordering::SeqCst);
            fixture.transport.take();
            let binding = fixture.transport.binding();
            let update = UpdateSa {
                handle: ndis::OffloadHandle::from_bits(9).unwrap(),
                operation: ndis::Operation::Esp,
                spi: packet::Spi(0x1001),
                sequence_number_high: 1,
            };
            let list =
                DirectOid::AddSa((0..2).map(|_| ndis::AddSaEntry { bundle: Err(Status::INVALID_DATA), handle: None, status: Status::PENDING }).collect());
            let ids: Vec<_> = [add_sa(), list, DirectOid::UpdateSa(update), DirectOid::DeleteSa(vec![5, 6])]
                .into_iter()
                .map(|body| pended(binding.direct_oid_request(body)))
                .collect();
            if surprise { fixture.stack.surprise_remove(NIC) } else { fixture.stack.remove_adapter(NIC) }.unwrap();
            let calls = fixture.transport.take();
            let words: Vec<_> = calls.iter().map(Call::word).collect();
            let aborted = ["complete REQUEST_ABORTED"; 4];
            let expected: Vec<_> = if surprise {
                ["removed"].into_iter().chain(aborted).chain(["unbind"]).collect()
            } else {
                aborted.into_iter().chain(["removed", "unbind"]).collect()
            };
            assert_eq!(words, expected, "surprise {surprise}, forgetful {forgetful}");

            let answered: Vec<_> = calls.iter().filter_map(|call| if let Call::Complete(_, id, _) = call { Some(*id) } else { None }).collect();
            assert_eq!(answered, ids, "in the order in which they were issued");
            for call in &calls {
                match call {
                    Call::Complete(_, _, DirectOid::AddSa(entries)) => assert_eq!(entries.len(), 2),
                    Call::Complete(_, _, DirectOid::AddSaEx(entry)) => {
                        assert_eq!(entry.bundle.is_err(), forgetful, "the bundle is with the one that forgot it");
                        assert!(entry.handle.is_none());
                    }
                    Call::Complete(_, _, DirectOid::UpdateSa(same)) => assert_eq!(*same, update),
                    Call::Complete(_, _, DirectOid::DeleteSa(handles)) => assert_eq!(*handles, [5, 6]),
                    _ => {}
                }
            }
            assert_eq!(done(binding.direct_oid_request(add_sa())).0, Status::NOT_ACCEPTED);
            assert_eq!(binding.query_current_config(), Err(Status::ADAPTER_REMOVED));
            fixture.stack.pump();
            assert!(fixture.transport.take().is_empty(), "nothing after the unbind");
        }
    }
}

#[test]
fn a_call_that_is_in_the_miniport_at_removal_answers_itself() {
    let fixture = Fixture::new();
    fixture.nic.forgetful.store(true, Ordering::SeqCst);
    fixture.transport.take();
    let (inside, proceed) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    fixture.direct(Direct::Linger(Arc::clone(&inside), Arc::clone(&proceed)));
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| done(fixture.transport.binding().direct_oid_request(add_sa())));
        inside.wait();
        fixture.stack.surprise_remove(NIC).unwrap();
        proceed.wait();
        assert_eq!(caller.join().unwrap().0, Status::REQUEST_ABORTED);
    });
    assert_eq!(fixture.transport.words(), ["removed", "unbind"], "no completion after the unbind");
}

#[test]
fn a_late_completion_of_a_request_that_has_been_answered_is_counted_and_dropped() {
    let fixture = Fixture::new();
    fixture.transport.take();
    let stray = DirectOidRequest { id: RequestId(12_345), body: DirectOid::DeleteSa(vec![1]) };
    fixture.nic.up.lock().unwrap().direct_completions.push((Status::SUCCESS, stray));
    fixture.stack.pump();
    assert!(fixture.transport.take().is_empty());
    assert_eq!(fixture.stack.adapter(NIC).unwrap().stray_completions, 1);
}

#[test]
fn a_restart_ends_what_is_pended_before_the_unbind() {
    let fixture = Fixture::new();
    fixture.direct(Direct::Keep);
    fixture.transport.take();
    let old = fixture.transport.binding();
    pended(old.direct_oid_request(add_sa()));
    fixture.stack.restart_adapter(NIC).unwrap();
    assert_eq!(fixture.transport.words(), ["complete REQUEST_ABORTED", "unbind", "bind"]);
    assert_eq!(done(old.direct_oid_request(add_sa())).0, Status::NOT_ACCEPTED);
    fixture.direct(Direct::AtOnce);
    assert_eq!(done(fixture.transport.binding().direct_oid_request(add_sa())).0, Status::SUCCESS);
}

/// Sees direct requests, answers deletions by itself.
struct Gate {
    direct: bool,
    seen: Mutex<Vec<String>>,
}

impl Filter for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn handles_direct_requests(&self) -> bool {
        self.direct
    }

    fn direct_oid_request(&self, request: DirectOidRequest) -> FilterVerdict<DirectOidRequest> {
        self.seen.lock().unwrap().push("down".to_owned());
        if matches!(request.body, DirectOid::DeleteSa(_)) { FilterVerdict::Complete(Status::SUCCESS, request) } else { FilterVerdict::Pass(request) }
    }

    fn direct_oid_request_complete(&self, status: Status, _request: &mut DirectOidRequest) {
        self.seen.lock().unwrap().push(format!("up {status}"));
    }
}

#[test]
fn filters_without_a_direct_handler_are_skipped() {
    let fixture = Fixture::new();
    let gates: Vec<_> = [true, false, true].map(|direct| Arc::new(Gate { direct, seen: Mutex::default() })).into();
    for gate in &gates {
        fixture.stack.attach_filter(NIC, Arc::clone(gate) as _).unwrap();
    }
    let seen = || gates.iter().map(|gate| core::mem::take(&mut *gate.seen.lock().unwrap())).collect::<Vec<_>>();
    let binding = fixture.transport.binding();
    assert_eq!(done(binding.direct_oid_request(add_sa())).0, Status::SUCCESS);
    assert_eq!(seen(), [vec!["down", "up SUCCESS"], vec![], vec!["down", "up SUCCESS"]]);

    // The topmost answers deletions; the miniport and the one below do not see them.
    let calls = fixture.nic.direct_calls.load(Ordering::SeqCst);
    assert_eq!(done(binding.direct_oid_request(DirectOid::DeleteSa(vec![1]))).0, Status::SUCCESS);
    assert_eq!(seen(), [vec![], vec![], vec!["down"]]);
    assert_eq!(fixture.nic.direct_calls.load(Ordering::SeqCst), calls);

    fixture.direct(Direct::NextPoll);
    pended(binding.direct_oid_request(add_sa()));
    assert_eq!(seen(), [vec!["down"], vec![], vec!["down"]]);
    fixture.stack.pump();
    assert_eq!(seen(), [vec!["up SUCCESS"], vec![], vec!["up SUCCESS"]]);
}

/// Changes the adapter while a request is on its way to the miniport.
struct Meddler {
    stack: Arc<Stack>,
    meddle: fn(&Stack),
}

impl Filter for Meddler {
    fn name(&self) -> &'static str {
        "meddler"
    }

    fn handles_direct_requests(&self) -> bool {
        true
    }

    fn direct_oid_request(&self, request: DirectOidRequest) -> FilterVerdict<DirectOidRequest> {
        (self.meddle)(&self.stack);
        FilterVerdict::Pass(request)
    }
}

#[test]
fn a_request_that_is_overtaken_by_a_change_does_not_reach_the_miniport() {
    let meddles: [fn(&Stack); 3] =
        [|stack| stack.reset_adapter(NIC).unwrap(), |stack| stack.restart_adapter(NIC).unwrap(), |stack| stack.surprise_remove(NIC).unwrap()];
    for meddle in meddles {
        let nic = Arc::new(Shared::default());
        let stack = Arc::new(Stack::new(Arc::new(ndis::MemoryRegistry::new())));
        stack.add_adapter(NIC, Arc::new(Driver(Arc::clone(&nic)))).unwrap();
        stack.attach_filter(NIC, Arc::new(Meddler { stack: Arc::clone(&stack), meddle })).unwrap();
        let transport = Arc::new(Transport::default());
        stack.bind(Arc::clone(&transport) as _, NIC).unwrap();
        let (status, body) = done(transport.binding().direct_oid_request(add_sa()));
        assert_eq!(status, Status::NOT_ACCEPTED);
        assert!(matches!(body, DirectOid::AddSaEx(entry) if entry.bundle.is_ok()), "comes back whole");
        assert_eq!(nic.direct_calls.load(Ordering::SeqCst), 0);
    }
}

/// Requests from four threads, while others pump, reconfigure, cancel, reset and restart: every request has one answer, and no callback comes outside a
/// binding.
#[test]
fn every_request_is_answered_once_whatever_else_happens() {
    const ROUNDS: u32 = 200;
    let fixture = Fixture::new();
    let issued = Mutex::new(BTreeMap::<RequestId, u32>::new());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0_u64.. {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    let binding = fixture.transport.binding();
                    let id = binding.reserve_request_id();
                    let answer = binding.direct_oid_request_as(id, add_sa());
                    let at_once = u32::from(matches!(answer, DirectAnswer::Done(..)));
                    *issued.lock().unwrap().entry(id).or_default() += at_once;
                    if round.is_multiple_of(3) {
                        binding.cancel(id);
                    }
                }
            });
        }
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                fixture.stack.pump();
                std::thread::yield_now();
            }
        });
        scope.spawn(|| {
            for round in 0..ROUNDS {
                fixture.direct([Direct::Keep, Direct::NextPoll, Direct::AtOnce][round as usize % 3].clone());
                fixture.nic.complete_kept(Status::SUCCESS);
                match round % 8 {
                    2 => drop(fixture.stack.reset_adapter(NIC)),
                    5 => fixture.stack.restart_adapter(NIC).unwrap(),
                    _ => drop(fixture.transport.binding().set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Esp))),
                }
                fixture.nic.indicate(StatusIndication::ResetEnd);
                std::thread::yield_now();
            }
            over.store(true, Ordering::SeqCst);
        });
    });
    fixture.stack.remove_adapter(NIC).unwrap();

    let mut bound = false;
    let mut answers = issued.into_inner().unwrap();
    for call in fixture.transport.take() {
        match call {
            Call::Bind(_) => {
                assert!(!bound);
                bound = true;
            }
            Call::Unbind => {
                assert!(bound);
                bound = false;
            }
            Call::Status(_) => assert!(bound, "an indication outside a binding"),
            Call::Complete(_, id, _) => {
                assert!(bound, "a completion outside a binding");
                *answers.get_mut(&id).expect("a completion of a request that was issued") += 1;
            }
        }
    }
    assert!(answers.len() > 100, "{} requests", answers.len());
    let wrong: Vec<_> = answers.iter().filter(|(_, answers)| **answers != 1).collect();
    assert!(wrong.is_empty(), "not answered once: {wrong:?}");
}
