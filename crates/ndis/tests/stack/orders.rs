//! Whatever order things happen in: every request has one answer, callbacks come only between bind and unbind, and nothing is left over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ndis::{AdapterState, DirectAnswer, IpsecSetting, OffloadParameters, RequestId, Status, StatusIndication, TraceLog, Tracer};
use proptest::prelude::*;

use super::double::{Call, Direct, Driver, Fixture, NIC, add_sa};

#[derive(Clone, Copy, Debug)]
enum Step {
    AtOnce,
    Keep,
    NextPoll,
    Forget(bool),
    FailInitialize(bool),
    Request,
    CancelLast,
    CompleteKept,
    SetParameters,
    Pump,
    Reset,
    Restart,
    Gone,
    Remove,
    SurpriseRemove,
    Add,
    Bind,
    Attach,
    Detach,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use Step::*;
    let often = prop::sample::select(vec![Request, Request, Request, Pump, CancelLast, CompleteKept, SetParameters, Reset, Restart]);
    let seldom = prop::sample::select(vec![
        AtOnce,
        Keep,
        NextPoll,
        Forget(true),
        Forget(false),
        FailInitialize(true),
        FailInitialize(false),
        Gone,
        Remove,
        SurpriseRemove,
        Add,
        Bind,
        Attach,
        Detach,
    ]);
    prop::collection::vec(prop_oneof![2 => often, 1 => seldom], 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_order_of_events_leaves_nothing_over(steps in steps()) {
        let fixture = Fixture::new();
        fixture.direct(Direct::Keep);
        let mut answers = BTreeMap::<RequestId, u32>::new();
        let mut last = RequestId(0);
        for step in steps {
            let binding = fixture.transport.binding();
            match step {
                Step::AtOnce => fixture.direct(Direct::AtOnce),
                Step::Keep => fixture.direct(Direct::Keep),
                Step::NextPoll => fixture.direct(Direct::NextPoll),
                Step::Forget(forgetful) => fixture.nic.forgetful.store(forgetful, Ordering::SeqCst),
                Step::FailInitialize(fail) => fixture.nic.fail_initialize.store(fail, Ordering::SeqCst),
                Step::Request => {
                    last = binding.reserve_request_id();
                    let running = fixture.stack.adapter(NIC).is_ok_and(|info| info.state == AdapterState::Running);
                    let count = match binding.direct_oid_request_as(last, add_sa()) {
                        DirectAnswer::Pending(id) => {
                            prop_assert_eq!(id, last);
                            0
                        }
                        DirectAnswer::Done(status, _) => {
                            prop_assert!(running || status == Status::NOT_ACCEPTED, "{} while not running", status);
                            1
                        }
                    };
                    *answers.entry(last).or_default() += count;
                }
                Step::CancelLast => binding.cancel(last),
                Step::CompleteKept => fixture.nic.complete_kept(Status::SUCCESS),
                Step::SetParameters => {
                    binding.set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Esp));
                }
                Step::Pump => {
                    fixture.stack.pump();
                }
                Step::Reset => drop(fixture.stack.reset_adapter(NIC)),
                Step::Restart => drop(fixture.stack.restart_adapter(NIC)),
                Step::Gone => fixture.nic.indicate(StatusIndication::AdapterRemoved),
                Step::Remove => drop(fixture.stack.remove_adapter(NIC)),
                Step::SurpriseRemove => drop(fixture.stack.surprise_remove(NIC)),
                Step::Add => drop(fixture.stack.add_adapter(NIC, Arc::new(Driver(Arc::clone(&fixture.nic))))),
                Step::Bind => drop(fixture.stack.bind(Arc::clone(&fixture.transport) as _, NIC)),
                Step::Attach => drop(fixture.stack.attach_filter(NIC, Arc::new(Tracer::new(Arc::new(TraceLog::new()))))),
                Step::Detach => drop(fixture.stack.detach_filter(NIC, "tracer")),
            }
        }
        drop(fixture.stack);

        let mut bound = false;
        let mut resetting = false;
        for call in fixture.transport.take() {
            match call {
                Call::Bind(_) => {
                    prop_assert!(!bound);
                    bound = true;
                    resetting = false;
                }
                Call::Unbind => {
                    prop_assert!(bound);
                    bound = false;
                }
                Call::Status(indication) => {
                    prop_assert!(bound, "{:?} outside a binding", indication);
                    match indication {
                        StatusIndication::ResetStart => {
                            prop_assert!(!resetting);
                            resetting = true;
                        }
                        StatusIndication::ResetEnd => resetting = false,
                        _ => {}
                    }
                }
                Call::Complete(_, id, _) => {
                    prop_assert!(bound, "a completion outside a binding");
                    *answers.get_mut(&id).expect("a completion of a request that was issued") += 1;
                }
            }
        }
        prop_assert!(!bound, "unbound at the end");
        prop_assert!(answers.values().all(|&answers| answers == 1), "{:?}", answers);
        prop_assert_eq!(Arc::strong_count(&fixture.transport), 1);
        let (initialized, halted) = (&fixture.nic.initialized, &fixture.nic.halted);
        prop_assert_eq!(initialized.load(Ordering::SeqCst), halted.load(Ordering::SeqCst), "each that was started is halted once");
    }
}
