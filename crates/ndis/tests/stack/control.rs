//! Adapters' lives, standard requests, indications, filters.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ndis::{
    AdapterState, AttachParameters, AttributeError, DirectAnswer, Encapsulation, Filter, FilterVerdict, IpsecOffloadV1, IpsecSetting, Keyword, NdisVersion,
    Offload, OffloadEncapsulation, OffloadParameters, OffloadPart, Oid, OidRequest, Registry, SetEncapsulation, Stack, StackError, Status, StatusIndication,
    SystemValue,
};

use super::double::{Call, Direct, Driver, Fixture, NIC, Shared, Transport, add_sa, attributes, hardware};

const ON: SetEncapsulation = SetEncapsulation::On { encapsulation: Encapsulation::IEEE_802_3, header_size: 14 };

fn config(call: &Call) -> Offload {
    match call {
        Call::Status(StatusIndication::TaskOffloadCurrentConfig(offload)) => **offload,
        Call::Bind(parameters) => parameters.default_offload_configuration,
        other => panic!("{other:?} has no configuration"),
    }
}

/// Takes capabilities away, and writes down what passes.
#[derive(Default)]
struct Reducer {
    name: &'static str,
    allow: Option<fn(&Offload) -> Offload>,
    seen: Arc<Mutex<Vec<String>>>,
    attached: Mutex<Vec<Offload>>,
    complete: Option<Status>,
}

impl Filter for Reducer {
    fn name(&self) -> &str {
        self.name
    }

    fn attach(&self, parameters: &AttachParameters) {
        self.attached.lock().unwrap().push(parameters.default_offload_configuration);
    }

    fn detach(&self, _adapter: &str) {
        self.seen.lock().unwrap().push(format!("{} detached", self.name));
    }

    fn reduce(&self, below: &Offload) -> Offload {
        self.allow.map_or(*below, |allow| allow(below))
    }

    fn oid_request(&self, request: OidRequest) -> FilterVerdict<OidRequest> {
        self.seen.lock().unwrap().push(format!("{} down", self.name));
        match self.complete {
            Some(status) => FilterVerdict::Complete(status, request),
            None => FilterVerdict::Pass(request),
        }
    }

    fn oid_request_complete(&self, _status: Status, _request: &mut OidRequest) {
        self.seen.lock().unwrap().push(format!("{} up", self.name));
    }

    fn status(&self, indication: StatusIndication) -> Option<StatusIndication> {
        self.seen.lock().unwrap().push(format!("{} status", self.name));
        Some(indication)
    }
}

fn without_ah(below: &Offload) -> Offload {
    Offload { ipsec_v2: below.ipsec_v2.restrict(IpsecSetting::Esp), ..*below }
}

fn capacity_5(below: &Offload) -> Offload {
    let mut offload = *below;
    offload.ipsec_v2.sa_offload_capacity = 5;
    offload
}

/// What a filter must not do.
fn boast(_below: &Offload) -> Offload {
    let mut offload = hardware();
    offload.ipsec_v2.sa_offload_capacity = 1_000_000;
    offload.ipsec_v2.lso_supported = true;
    offload
}

#[test]
fn bind_parameters_carry_the_configuration_and_the_system_wide_values() {
    let fixture = Fixture::new();
    let Some(Call::Bind(parameters)) = fixture.transport.take().pop() else { panic!("not bound") };
    assert_eq!(parameters.adapter, NIC);
    assert_eq!(parameters.default_offload_configuration, hardware());
    assert_eq!((parameters.mtu, parameters.version), (1500, NdisVersion::V6_30));
    assert!(!parameters.disable_task_offload && parameters.ipsec_offload_enabled);

    fixture.registry.set_system(SystemValue::DisableTaskOffload, 1).unwrap();
    fixture.registry.set_system(SystemValue::EnabledOffload, 0).unwrap();
    let second = Arc::new(Transport::default());
    fixture.stack.bind(Arc::clone(&second) as _, NIC).unwrap();
    let Some(Call::Bind(parameters)) = second.take().pop() else { panic!("not bound") };
    assert!(parameters.disable_task_offload && !parameters.ipsec_offload_enabled);

    let again = fixture.stack.bind(Arc::clone(&second) as _, NIC);
    assert!(matches!(again, Err(StackError::AlreadyBound { .. })), "{again:?}");
}

#[test]
fn attributes_that_cannot_be_are_refused_by_name() {
    let beyond = {
        let mut default = hardware();
        default.ipsec_v2.sa_offload_capacity += 1;
        attributes(hardware(), default)
    };
    let early = ndis::AdapterAttributes { version: NdisVersion::V6_0, ..attributes(hardware(), hardware()) };
    let without_direct = ndis::AdapterAttributes { direct_requests: false, ..attributes(hardware(), hardware()) };
    let without_tunnel = {
        let mut offload = hardware();
        offload.ipsec_v2.tunnel = false;
        attributes(offload, offload)
    };
    let without_ethernet = {
        let mut offload = hardware();
        offload.ipsec_v2.encapsulation = Encapsulation::NULL;
        ndis::AdapterAttributes { medium: packet::Medium::Ethernet, ..attributes(offload, offload) }
    };
    let late_v1 = {
        let ipsec_v1 =
            IpsecOffloadV1 { encapsulation: Encapsulation::IEEE_802_3, ipv4_esp: ndis::Ipv4Esp { null_esp: true, ..Default::default() }, ..Default::default() };
        attributes(Offload { ipsec_v1, ..hardware() }, hardware())
    };
    for (wrong, why) in [
        (beyond, AttributeError::BeyondHardware { part: OffloadPart::IpsecV2 }),
        (early, AttributeError::IpsecV2TooEarly { found: NdisVersion::V6_0 }),
        (without_direct, AttributeError::IpsecV2WithoutDirectRequests),
        (without_tunnel, AttributeError::IpsecV2WithoutTunnel),
        (without_ethernet, AttributeError::IpsecV2WithoutEthernet),
        (late_v1.clone(), AttributeError::IpsecV1TooLate { found: NdisVersion::V6_30 }),
    ] {
        let nic = Arc::new(Shared::default());
        *nic.attributes.lock().unwrap() = Some(wrong);
        let stack = Stack::new(Arc::new(ndis::MemoryRegistry::new()));
        match stack.add_adapter(NIC, Arc::new(Driver(Arc::clone(&nic)))) {
            Err(StackError::Attributes { adapter, error }) => assert_eq!((adapter.as_str(), error), (NIC, why)),
            other => panic!("{why}: {other:?}"),
        }
        assert!(stack.adapters().is_empty());
        assert_eq!(nic.halted.load(Ordering::SeqCst), 1, "a refused adapter is halted");
    }

    // Without tunnel mode, and meant so.
    let mut offload = hardware();
    offload.ipsec_v2.tunnel = false;
    let nic = Arc::new(Shared::default());
    *nic.attributes.lock().unwrap() = Some(ndis::AdapterAttributes { deviates_without_tunnel: true, ..attributes(offload, offload) });
    assert!(Stack::new(Arc::new(ndis::MemoryRegistry::new())).add_adapter(NIC, Arc::new(Driver(nic))).is_ok());

    // The same IPsecOV1 is in order one version earlier.
    let nic = Arc::new(Shared::default());
    *nic.attributes.lock().unwrap() = Some(ndis::AdapterAttributes { version: NdisVersion::V6_20, ..late_v1 });
    Stack::new(Arc::new(ndis::MemoryRegistry::new())).add_adapter(NIC, Arc::new(Driver(nic))).unwrap();
}

#[test]
fn names_are_unique_and_must_exist() {
    let fixture = Fixture::new();
    let twice = fixture.stack.add_adapter(NIC, Arc::new(Driver(Arc::default())));
    assert!(matches!(twice, Err(StackError::AdapterExists { .. })));
    assert!(matches!(fixture.stack.restart_adapter("nic1"), Err(StackError::NoAdapter { .. })));
    assert!(matches!(fixture.stack.open_datapath("nic1"), Err(StackError::NoAdapter { .. })));
    assert_eq!(fixture.stack.adapters(), [NIC]);
}

#[test]
fn queries_are_answered_by_ndis() {
    let fixture = Fixture::new();
    let binding = fixture.transport.binding();
    assert_eq!(binding.query_current_config(), Ok(hardware()));
    assert_eq!(binding.query_hardware_capabilities(), Ok(hardware()));
    assert_eq!(binding.query_encapsulation(), Err(Status::INVALID_STATE), "before a set");

    fixture.nic.refuse_encapsulation.store(true, Ordering::SeqCst);
    assert_eq!(binding.set_encapsulation(OffloadEncapsulation { ipv4: ON, ipv6: ON }), Status::INVALID_PARAMETER);
    assert_eq!(binding.query_encapsulation(), Err(Status::INVALID_STATE), "a set that failed is none");
    fixture.nic.refuse_encapsulation.store(false, Ordering::SeqCst);
    assert_eq!(binding.set_encapsulation(OffloadEncapsulation { ipv4: ON, ipv6: ON }), Status::SUCCESS);
    assert_eq!(binding.set_encapsulation(OffloadEncapsulation { ipv6: SetEncapsulation::Off, ..Default::default() }), Status::SUCCESS);
    assert_eq!(binding.query_encapsulation(), Ok(OffloadEncapsulation { ipv4: ON, ipv6: SetEncapsulation::Off }));

    // Sets of the two queries, and the direct path's requests, have no place on this path; none of all these reaches the miniport.
    for body in [Oid::Other { oid: 0xFC01_020B, set: true }, Oid::Other { oid: 0xFC03_0202, set: true }] {
        assert_eq!(binding.oid_request(body).0, Status::NOT_SUPPORTED);
    }
    assert_eq!(fixture.nic.standard.load(Ordering::SeqCst), 3);
}

#[test]
fn parameters_reach_registry_and_miniport_and_survive_a_restart() {
    let fixture = Fixture::new();
    fixture.transport.take();
    let binding = fixture.transport.binding();
    assert_eq!(binding.set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Esp)), Status::SUCCESS);
    assert!(fixture.transport.take().is_empty(), "indications wait for the pump");
    let esp = without_ah(&hardware());
    assert_eq!(binding.query_current_config(), Ok(esp));
    assert_eq!(fixture.stack.pump(), 1);
    assert_eq!(fixture.transport.take().iter().map(config).collect::<Vec<_>>(), [esp]);
    assert_eq!(fixture.registry.get(NIC, Keyword::IpsecV2).unwrap().unwrap().text, "2");

    // Not to the registry if they say so: gone with the restart.
    let off = OffloadParameters { skip_registry_update: true, ..OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled) };
    assert_eq!(binding.set_parameters(off), Status::SUCCESS);
    assert!(!binding.query_current_config().unwrap().ipsec_v2.is_supported());
    assert_eq!(binding.set_encapsulation(OffloadEncapsulation { ipv4: ON, ipv6: ON }), Status::SUCCESS);

    fixture.stack.restart_adapter(NIC).unwrap();
    let calls = fixture.transport.take();
    assert_eq!(calls.iter().map(Call::word).collect::<Vec<_>>(), ["config", "config", "unbind", "bind"]);
    assert_eq!(config(&calls[3]), esp);
    assert_eq!(fixture.nic.initialized.load(Ordering::SeqCst), 2);

    assert_eq!(binding.set_parameters(off), Status::CLOSING, "the old binding is closed");
    let binding = fixture.transport.binding();
    assert_eq!(binding.query_current_config(), Ok(esp));
    assert_eq!(binding.query_encapsulation(), Err(Status::INVALID_STATE), "the encapsulation is to be set again");
}

#[test]
fn a_keyword_change_takes_effect_with_the_restart() {
    let fixture = Fixture::new();
    fixture.registry.set(NIC, Keyword::IpsecV2, 0).unwrap();
    assert_eq!(fixture.transport.binding().query_current_config(), Ok(hardware()));
    fixture.registry.set_text(NIC, Keyword::LsoV1Ipv4, "yes");
    fixture.stack.restart_adapter(NIC).unwrap();
    assert!(!fixture.transport.binding().query_current_config().unwrap().ipsec_v2.is_supported());
    assert_eq!(fixture.transport.binding().query_hardware_capabilities(), Ok(hardware()));
    assert_eq!(fixture.stack.adapter(NIC).unwrap().keyword_problems.len(), 1);
}

#[test]
fn an_adapter_that_fails_to_start_again_is_stopped_and_can_be_restarted() {
    let fixture = Fixture::new();
    fixture.transport.take();
    fixture.nic.fail_initialize.store(true, Ordering::SeqCst);
    let failed = fixture.stack.restart_adapter(NIC);
    assert!(matches!(failed, Err(StackError::Initialize { status: Status::RESOURCES, .. })), "{failed:?}");
    assert_eq!(fixture.transport.words(), ["unbind"]);
    assert_eq!(fixture.stack.adapter(NIC).unwrap().state, AdapterState::Stopped);
    assert!(matches!(fixture.stack.reset_adapter(NIC), Err(StackError::State { state: AdapterState::Stopped, .. })));
    assert!(matches!(fixture.transport.binding().direct_oid_request(add_sa()), DirectAnswer::Done(Status::NOT_ACCEPTED, _)));

    fixture.nic.fail_initialize.store(false, Ordering::SeqCst);
    let late = Arc::new(Transport::default());
    fixture.stack.bind(Arc::clone(&late) as _, NIC).unwrap();
    assert!(late.take().is_empty(), "bound when it starts");
    fixture.stack.restart_adapter(NIC).unwrap();
    assert_eq!(fixture.transport.words(), ["bind"]);
    assert_eq!(late.words(), ["bind"]);
}

#[test]
fn standard_requests_are_served_one_at_a_time() {
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let binding = fixture.transport.binding();
                for round in 0..50 {
                    let setting = if round % 2 == 0 { IpsecSetting::Esp } else { IpsecSetting::AhAndEsp };
                    assert_eq!(binding.set_parameters(OffloadParameters::ipsec_v2_setting(setting)), Status::SUCCESS);
                    assert!(binding.query_current_config().is_ok());
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..50 {
                fixture.stack.pump();
            }
        });
    });
    while fixture.stack.pump() > 0 {}
    assert_eq!(fixture.nic.standard.load(Ordering::SeqCst), 200);
    assert_eq!(fixture.nic.standard_most.load(Ordering::SeqCst), 1);
    let calls = fixture.transport.take();
    assert_eq!(calls.iter().filter(|call| call.word() == "config").count(), 200, "each change is indicated, none twice");
    // The last one that was heard is the one that holds.
    assert_eq!(config(calls.last().unwrap()), fixture.transport.binding().query_current_config().unwrap());
}

#[test]
fn requests_pass_filters_from_the_top_and_answers_from_the_bottom() {
    let fixture = Fixture::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    for name in ["low", "high"] {
        fixture.stack.attach_filter(NIC, Arc::new(Reducer { name, seen: Arc::clone(&seen), ..Default::default() })).unwrap();
    }
    let binding = fixture.transport.binding();
    binding.set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Esp));
    assert_eq!(core::mem::take(&mut *seen.lock().unwrap()), ["high down", "low down", "low up", "high up"]);
    fixture.stack.pump();
    assert_eq!(core::mem::take(&mut *seen.lock().unwrap()), ["low status", "high status"]);

    // One that answers keeps the request from those below.
    let refuses = Reducer { name: "refuses", seen: Arc::clone(&seen), complete: Some(Status::NOT_SUPPORTED), ..Default::default() };
    fixture.stack.attach_filter(NIC, Arc::new(refuses)).unwrap();
    let top = Reducer { name: "top", seen: Arc::clone(&seen), ..Default::default() };
    fixture.stack.attach_filter(NIC, Arc::new(top)).unwrap();
    let before = fixture.nic.standard.load(Ordering::SeqCst);
    assert_eq!(binding.set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Ah)), Status::NOT_SUPPORTED);
    assert_eq!(core::mem::take(&mut *seen.lock().unwrap()), ["top down", "refuses down", "top up"]);
    assert_eq!(fixture.nic.standard.load(Ordering::SeqCst), before);
    assert_eq!(binding.query_current_config(), Err(Status::NOT_SUPPORTED), "a filter may refuse queries too");

    fixture.stack.detach_filter(NIC, "refuses").unwrap();
    assert_eq!(core::mem::take(&mut *seen.lock().unwrap()).last().unwrap(), "refuses detached");
    assert!(matches!(fixture.stack.detach_filter(NIC, "refuses"), Err(StackError::NoFilter { .. })));
    assert_eq!(fixture.stack.adapter(NIC).unwrap().filters, ["low", "high", "top"]);
    fixture.stack.remove_adapter(NIC).unwrap();
    let detached: Vec<_> = seen.lock().unwrap().iter().filter(|line| line.ends_with("detached")).cloned().collect();
    assert_eq!(detached, ["top detached", "high detached", "low detached"]);
}

#[test]
fn every_configuration_passes_the_filters_and_none_can_add_to_it() {
    let fixture = Fixture::new();
    fixture.transport.take();
    let esp = Arc::new(Reducer { name: "esp", allow: Some(without_ah), ..Default::default() });
    let small = Arc::new(Reducer { name: "small", allow: Some(capacity_5), ..Default::default() });
    let boaster = Arc::new(Reducer { name: "boaster", allow: Some(boast), ..Default::default() });
    for filter in [&esp, &small, &boaster] {
        fixture.stack.attach_filter(NIC, Arc::clone(filter) as _).unwrap();
    }
    let seen_by_protocols = capacity_5(&without_ah(&hardware()));
    assert_eq!(*esp.attached.lock().unwrap(), [hardware()]);
    assert_eq!(*small.attached.lock().unwrap(), [without_ah(&hardware())]);
    assert_eq!(*boaster.attached.lock().unwrap(), [seen_by_protocols]);
    // Two of the three took something away, and the protocol heard of it.
    let heard: Vec<_> = fixture.transport.take().iter().map(config).collect();
    assert_eq!(heard, [without_ah(&hardware()), seen_by_protocols]);

    let binding = fixture.transport.binding();
    assert_eq!(binding.query_current_config(), Ok(seen_by_protocols));
    assert_eq!(binding.query_hardware_capabilities(), Ok(seen_by_protocols));
    fixture.nic.indicate_config(hardware());
    fixture.stack.pump();
    assert_eq!(config(&fixture.transport.take()[0]), seen_by_protocols);

    fixture.stack.restart_adapter(NIC).unwrap();
    assert_eq!(small.attached.lock().unwrap().len(), 2, "attached anew");
    let calls = fixture.transport.take();
    assert_eq!(config(calls.last().unwrap()), seen_by_protocols);

    fixture.stack.detach_filter(NIC, "esp").unwrap();
    assert_eq!(config(&fixture.transport.take()[0]), capacity_5(&hardware()));
}

#[test]
fn an_indicated_configuration_stays_within_the_hardware() {
    let fixture = Fixture::new();
    fixture.transport.take();
    let mut claimed = hardware();
    claimed.ipsec_v2.sa_offload_capacity = 1000;
    claimed.ipsec_v2.lso_supported = true;
    fixture.nic.indicate_config(claimed);
    fixture.stack.pump();
    assert_eq!(config(&fixture.transport.take()[0]), hardware());
    assert_eq!(fixture.stack.adapter(NIC).unwrap().claims_cut, 1);
}

#[test]
fn lost_hardware_capabilities_cut_the_configuration_at_once() {
    let fixture = Fixture::new();
    fixture.transport.take();
    let less = without_ah(&hardware());
    fixture.nic.indicate(StatusIndication::TaskOffloadHardwareCapabilities(Box::new(less)));
    fixture.stack.pump();
    let calls = fixture.transport.take();
    assert_eq!(calls.iter().map(Call::word).collect::<Vec<_>>(), ["hardware", "config"]);
    assert_eq!(config(&calls[1]), less);
    assert_eq!(fixture.transport.binding().query_current_config(), Ok(less));

    // More hardware changes no configuration.
    fixture.nic.indicate(StatusIndication::TaskOffloadHardwareCapabilities(Box::new(hardware())));
    fixture.stack.pump();
    assert_eq!(fixture.transport.words(), ["hardware"]);
    assert_eq!(fixture.transport.binding().query_current_config(), Ok(less));
    assert_eq!(fixture.transport.binding().query_hardware_capabilities(), Ok(hardware()));
}

#[test]
fn a_protocol_may_make_any_request_from_within_a_callback() {
    let rounds = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&rounds);
    let fixture = Fixture::with(Transport {
        on_status: Some(Box::new(move |transport, indication| {
            if !matches!(indication, StatusIndication::TaskOffloadCurrentConfig(_)) {
                return;
            }
            let binding = transport.binding();
            assert!(binding.query_current_config().is_ok());
            assert!(matches!(binding.direct_oid_request(add_sa()), DirectAnswer::Done(Status::SUCCESS, _)));
            // Causes the next indication, so every one causes one: a pump must end nevertheless.
            if counted.fetch_add(1, Ordering::SeqCst) < 5 {
                assert_eq!(binding.set_encapsulation(OffloadEncapsulation { ipv4: ON, ipv6: ON }), Status::SUCCESS);
            }
        })),
        ..Transport::default()
    });
    fixture.nic.indicate_config(hardware());
    for pump in 1..=6 {
        assert_eq!(fixture.stack.pump(), 1);
        assert_eq!(rounds.load(Ordering::SeqCst), pump);
    }
    assert_eq!(fixture.stack.pump(), 0);
}

#[test]
fn an_adapter_can_be_removed_from_within_a_callback() {
    let stack: Arc<Mutex<Option<Arc<Stack>>>> = Arc::default();
    let inside = Arc::clone(&stack);
    let transport = Arc::new(Transport {
        on_status: Some(Box::new(move |transport, indication| {
            if matches!(indication, StatusIndication::TaskOffloadCurrentConfig(_)) {
                let stack = inside.lock().unwrap().clone().unwrap();
                stack.remove_adapter(NIC).unwrap();
                assert_eq!(transport.binding().query_current_config(), Err(Status::ADAPTER_REMOVED));
            }
        })),
        ..Transport::default()
    });
    let nic = Arc::new(Shared::default());
    let owner = Arc::new(Stack::new(Arc::new(ndis::MemoryRegistry::new())));
    owner.add_adapter(NIC, Arc::new(Driver(Arc::clone(&nic)))).unwrap();
    owner.bind(Arc::clone(&transport) as _, NIC).unwrap();
    *stack.lock().unwrap() = Some(Arc::clone(&owner));
    nic.indicate_config(hardware());
    owner.pump();
    assert_eq!(transport.words(), ["bind", "config", "removed", "unbind"]);
    *stack.lock().unwrap() = None;
}

#[test]
fn reset_begins_and_ends_with_an_indication() {
    let fixture = Fixture::new();
    fixture.transport.take();
    fixture.stack.reset_adapter(NIC).unwrap();
    assert_eq!(fixture.transport.words(), ["reset start"]);
    assert_eq!(fixture.stack.adapter(NIC).unwrap().state, AdapterState::Resetting);
    assert!(matches!(fixture.stack.reset_adapter(NIC), Err(StackError::State { state: AdapterState::Resetting, .. })));
    let binding = fixture.transport.binding();
    assert_eq!(binding.set_parameters(OffloadParameters::default()), Status::RESET_IN_PROGRESS);
    assert_eq!(binding.query_current_config(), Ok(hardware()), "NDIS knows that by itself");
    fixture.stack.pump();
    assert_eq!(fixture.transport.words(), ["reset end"]);
    assert_eq!(fixture.stack.adapter(NIC).unwrap().state, AdapterState::Running);
    assert_eq!(binding.set_parameters(OffloadParameters::default()), Status::SUCCESS);

    // A miniport may reset itself; an end without a beginning is none.
    fixture.stack.pump();
    fixture.transport.take();
    fixture.nic.indicate(StatusIndication::ResetEnd);
    fixture.nic.indicate(StatusIndication::ResetStart);
    fixture.nic.indicate(StatusIndication::ResetStart);
    fixture.stack.pump();
    assert_eq!(fixture.transport.words(), ["reset start"]);
    fixture.nic.indicate(StatusIndication::ResetEnd);
    fixture.stack.pump();
    assert_eq!(fixture.transport.words(), ["reset end"]);
}

#[test]
fn a_miniport_that_says_it_is_gone_is_removed() {
    let fixture = Fixture::new();
    fixture.transport.take();
    fixture.direct(Direct::Keep);
    assert!(matches!(fixture.transport.binding().direct_oid_request(add_sa()), DirectAnswer::Pending(_)));
    fixture.nic.indicate(StatusIndication::AdapterRemoved);
    fixture.stack.pump();
    assert_eq!(fixture.transport.words(), ["removed", "complete REQUEST_ABORTED", "unbind"]);
    assert!(fixture.stack.adapters().is_empty());
    assert!(matches!(fixture.stack.remove_adapter(NIC), Err(StackError::NoAdapter { .. })));
    fixture.stack.add_adapter(NIC, Arc::new(Driver(Arc::default()))).unwrap();
}

#[test]
fn dropping_the_stack_removes_adapters_and_lets_go_of_drivers() {
    let fixture = Fixture::new();
    let filter = Arc::new(Reducer { name: "filter", ..Default::default() });
    fixture.stack.attach_filter(NIC, Arc::clone(&filter) as _).unwrap();
    let Fixture { stack, nic, transport, .. } = fixture;
    transport.take();
    drop(stack);
    assert_eq!(transport.words(), ["removed", "unbind"]);
    assert_eq!(*filter.seen.lock().unwrap(), ["filter status", "filter detached"]);
    assert_eq!((Arc::strong_count(&transport), Arc::strong_count(&filter)), (1, 1), "nothing is left over");
    assert_eq!(Arc::strong_count(&nic), 2, "only the binding that the transport kept holds the driver");
}
