//! Several protocols on one adapter: whose SAs are whose, how many each may have, and what each is told.

mod common;
#[path = "common/upper.rs"]
mod upper;

use std::sync::{Arc, Mutex};

use common::{ON, Sa, Shape};
use ndis::{
    AddSaEntry, Datapath, DirectAnswer, DirectOid, Direction, Filter, IpsecSetting, LaneContext, MemoryRegistry, NblBatch, NdisVersion, NetBufferList, Offload,
    OffloadEncapsulation, OffloadHandle, OffloadParameters, Operation, Protocol, Stack, StackError, Status, StatusIndication, UpdateSa,
};
use nic::{NicDriver, NicParameters, SoftwareEngine};
use packet::{BufferPool, Frame, FrameBatch, Medium, Spi, Time};
use upper::Upper;

const NIC: &str = "nic";
const OUT: Direction = Direction::Outbound;
const IN: Direction = Direction::Inbound;

/// A protocol with a way of its own for its packets.
struct Client {
    upper: Arc<Upper>,
    path: Datapath,
}

struct Shared {
    stack: Stack,
    driver: Arc<NicDriver<SoftwareEngine>>,
    clients: Vec<Client>,
    pool: BufferPool,
}

/// An adapter with one protocol for each quota.
fn shared(version: NdisVersion, capacity: u32, quotas: &[Option<u32>]) -> Shared {
    let stack = Stack::new(Arc::new(MemoryRegistry::new()));
    let parameters = NicParameters { medium: Medium::Ip, version, ..NicParameters::new(NIC) };
    let driver = Arc::new(NicDriver::new(parameters, move || SoftwareEngine::new(ipsec::Crypto::default(), capacity).unwrap()));
    stack.add_adapter(NIC, driver.clone()).unwrap();
    let client = |quota: &Option<u32>| {
        let upper = Arc::new(Upper::default());
        let protocol: Arc<dyn Protocol> = upper.clone();
        stack.bind_with_quota(protocol.clone(), NIC, *quota).unwrap();
        let path = stack.open_datapath_of(&protocol, NIC).unwrap();
        Client { upper, path }
    };
    let clients: Vec<Client> = quotas.iter().map(client).collect();
    assert_eq!(clients[0].upper.binding().set_encapsulation(OffloadEncapsulation { ipv4: ON, ipv6: ON }), Status::SUCCESS);
    stack.pump();
    for client in &clients {
        client.upper.told();
    }
    Shared { stack, driver, clients, pool: BufferPool::new() }
}

impl Shared {
    fn add(&self, client: usize, sa: &Sa, direction: Direction) -> Result<OffloadHandle, Status> {
        match self.clients[client].upper.binding().direct_oid_request(DirectOid::AddSaEx(Box::new(AddSaEntry::new(sa.bundle(direction))))) {
            DirectAnswer::Done(status, DirectOid::AddSaEx(entry)) => entry.handle.ok_or(status),
            other => panic!("{other:?}"),
        }
    }

    fn delete(&self, client: usize, handles: &[OffloadHandle]) -> Status {
        let body = DirectOid::DeleteSa(handles.iter().map(|handle| handle.to_bits()).collect());
        match self.clients[client].upper.binding().direct_oid_request(body) {
            DirectAnswer::Done(status, _) => status,
            DirectAnswer::Pending(_) => Status::PENDING,
        }
    }

    fn update(&self, client: usize, handle: OffloadHandle, sa: &Sa, high: u32) -> Status {
        let update = UpdateSa { handle, operation: Operation::Esp, spi: Spi(sa.spi), sequence_number_high: high };
        match self.clients[client].upper.binding().direct_oid_request(DirectOid::UpdateSa(update)) {
            DirectAnswer::Done(status, _) => status,
            other @ DirectAnswer::Pending(_) => panic!("{other:?}"),
        }
    }

    fn send(&mut self, client: usize, lists: Vec<NetBufferList>) -> (Vec<(u64, Status)>, FrameBatch) {
        let (mut done, mut wire, mut batch) = (NblBatch::new(), FrameBatch::new(), lists);
        self.clients[client].path.send(&mut LaneContext { now: Time::ZERO, pool: &mut self.pool }, &mut batch, &mut done, &mut wire);
        assert!(batch.is_empty());
        (done.iter().map(|list| (list.tag, list.status)).collect(), wire)
    }
}

fn list(sa: &Sa, handle: OffloadHandle, low: u32) -> NetBufferList {
    let mut list = sa.unsealed(Shape::BARE, low, b"whose packet is this").list(Some(handle));
    list.tag = u64::from(low);
    list
}

/// to everybody but its owner a handle names nothing, in DELETE_SA, UPDATE_SA and on packets.
#[test]
fn r_42_nobody_uses_updates_or_deletes_the_sas_of_another() {
    let mut nic = shared(NdisVersion::V6_30, 16, &[None, None]);
    let (mine, theirs) = (Sa::new(0x1001).esn(3), Sa::new(0x2002).esn(3));
    let a = nic.add(0, &mine, OUT).unwrap();
    // While one alone has SAs, the other's way is guarded all the same.
    assert_eq!(nic.send(1, vec![list(&mine, a, 1)]).0, [(1, Status::FAILURE)]);
    let b = nic.add(1, &theirs, OUT).unwrap();

    assert_eq!(nic.update(1, a, &mine, 4), Status::INVALID_PARAMETER);
    assert_eq!(nic.update(0, b, &theirs, 4), Status::INVALID_PARAMETER);
    assert_eq!(nic.delete(1, &[a, a]), Status::SUCCESS, "skipped");
    assert_eq!(nic.driver.counters().unknown_handles, 2, "and counted (OV2-SA-7)");
    assert_eq!(nic.driver.counters().sas_deleted, 0);

    // Its own among them pass, in their order.
    let mixed = vec![list(&mine, a, 1), list(&theirs, b, 2), list(&mine, a, 3), list(&theirs, b, 4)];
    let (done, wire) = nic.send(0, mixed);
    assert_eq!(done, [(2, Status::FAILURE), (4, Status::FAILURE), (1, Status::SUCCESS), (3, Status::SUCCESS)]);
    assert_eq!(wire.len(), 2);
    for (frame, low) in wire.iter().zip([1, 3]) {
        let clear = mine.unsealed(Shape::BARE, low, b"whose packet is this");
        assert_eq!(frame.buffer.as_slice(), mine.sealed(&clear, 3 << 32 | u64::from(low)));
    }
    // Also where only the outer one is another's.
    let mut nested = list(&mine, a, 5);
    nested.oob.set_tunnel_handle(Some(b));
    assert_eq!(nic.send(0, vec![nested]).0, [(5, Status::FAILURE)]);

    // The owners themselves can.
    assert_eq!(nic.update(0, a, &mine, 4), Status::SUCCESS);
    assert_eq!(nic.send(1, vec![list(&theirs, b, 2)]).0, [(2, Status::SUCCESS)]);
    assert_eq!((nic.delete(0, &[a]), nic.delete(1, &[b])), (Status::SUCCESS, Status::SUCCESS));
    assert_eq!((nic.driver.counters().sas_deleted, nic.stack.adapter(NIC).unwrap().sas), (2, 0));
    // A handle that is gone is nobody's, whoever asks.
    assert_eq!(nic.send(0, vec![list(&mine, a, 6)]).0, [(6, Status::FAILURE)]);
    assert_eq!(nic.update(0, a, &mine, 5), Status::INVALID_PARAMETER);
}

/// a mixed deletion list deletes what is the asker's and nothing else.
#[test]
fn r_42_a_list_with_handles_of_others_deletes_only_its_own() {
    let mut nic = shared(NdisVersion::V6_30, 16, &[None, None]);
    let [one, two, three] = [0x1001, 0x1002, 0x1003].map(Sa::new);
    let (a, b, c) = (nic.add(0, &one, OUT).unwrap(), nic.add(1, &two, OUT).unwrap(), nic.add(0, &three, OUT).unwrap());
    assert_eq!(nic.delete(0, &[a, b, c]), Status::SUCCESS);
    let counters = nic.driver.counters();
    assert_eq!((counters.sas_deleted, counters.unknown_handles), (2, 1));
    assert_eq!(nic.send(1, vec![list(&two, b, 1)]).0, [(1, Status::SUCCESS)]);
}

/// a quota is what its owner is told of the capacity, and what it gets, singly and in lists; others are not touched by it, and places come back.
#[test]
fn r_42_a_quota_bounds_what_a_protocol_takes_of_the_adapter() {
    let nic = shared(NdisVersion::V6_30, 6, &[Some(2), None]);
    let capacity = |client: usize| {
        let upper = &nic.clients[client].upper;
        let queried = upper.binding().query_current_config().unwrap().ipsec_v2.sa_offload_capacity;
        assert_eq!(upper.binding().query_hardware_capabilities().unwrap().ipsec_v2.sa_offload_capacity, queried);
        (upper.reported().sa_offload_capacity, queried)
    };
    assert_eq!((capacity(0), capacity(1)), ((2, 2), (6, 6)));
    assert_eq!(nic.clients[1].upper.binding().set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Esp)), Status::SUCCESS);
    nic.stack.pump();
    let told = |client: usize| match &nic.clients[client].upper.told()[..] {
        [StatusIndication::TaskOffloadCurrentConfig(config)] => config.ipsec_v2.sa_offload_capacity,
        other => panic!("{other:?}"),
    };
    assert_eq!((told(0), told(1)), (2, 6));

    let handles: Vec<_> = (0..4).map(|number| nic.add(0, &Sa::new(0x1001 + number), OUT)).collect();
    assert!(handles[..2].iter().all(Result::is_ok));
    assert_eq!(handles[2..], [Err(Status::RESOURCES); 2]);
    // The rest is for whoever has no quota.
    let others: Vec<_> = (0..5).map(|number| nic.add(1, &Sa::new(0x2001 + number), OUT)).collect();
    assert!(others[..4].iter().all(Result::is_ok));
    assert_eq!(others[4], Err(Status::RESOURCES), "of the adapter itself");
    // What is deleted makes room, and a duplicate takes none.
    assert_eq!(nic.delete(0, &[handles[0].unwrap()]), Status::SUCCESS);
    let again = nic.add(0, &Sa::new(0x1009), IN).unwrap();
    assert_eq!(nic.delete(0, &[handles[1].unwrap()]), Status::SUCCESS);
    assert_eq!(nic.add(0, &Sa::new(0x1009), IN), Err(Status::INVALID_DATA));
    nic.add(0, &Sa::new(0x100a), IN).unwrap();
    assert_eq!(nic.delete(1, &[again]), Status::SUCCESS);
    assert_eq!(nic.add(0, &Sa::new(0x100b), IN), Err(Status::RESOURCES), "another cannot make room for it");
    // A reset gives everything back.
    nic.stack.reset_adapter(NIC).unwrap();
    nic.stack.pump();
    assert_eq!(nic.stack.adapter(NIC).unwrap().sas, 0);
    for spi in [0x1001, 0x1002] {
        nic.add(0, &Sa::new(spi), OUT).unwrap();
    }
    assert_eq!(nic.add(0, &Sa::new(0x1003), OUT), Err(Status::RESOURCES));
    // And so does a restart, which keeps the quota.
    nic.stack.restart_adapter(NIC).unwrap();
    assert_eq!(capacity(0), (2, 2));
    for (spi, expected) in [(0x1001, true), (0x1002, true), (0x1003, false)] {
        assert_eq!(nic.add(0, &Sa::new(spi), OUT).is_ok(), expected);
    }
}

/// OV2-SA-4, R-42: of a list that goes beyond the quota the first entries are added, the others have NULL handles.
#[test]
fn r_42_a_list_beyond_the_quota_succeeds_in_part() {
    let nic = shared(NdisVersion::V6_20, 16, &[Some(3), None]);
    let list = |range: core::ops::Range<u32>| DirectOid::AddSa(range.map(|spi| AddSaEntry::new(Sa::new(spi).bundle(OUT))).collect());
    let add = |body| match nic.clients[0].upper.binding().direct_oid_request(body) {
        DirectAnswer::Done(status, DirectOid::AddSa(entries)) => {
            (status, entries.iter().map(|entry| (entry.handle.is_some(), entry.status)).collect::<Vec<_>>())
        }
        other => panic!("{other:?}"),
    };
    let (good, full) = ((true, Status::SUCCESS), (false, Status::RESOURCES));
    assert_eq!(add(list(0x1001..0x1003)), (Status::SUCCESS, vec![good, good]));
    assert_eq!(add(list(0x1003..0x1006)), (Status::SUCCESS, vec![good, full, full]));
    assert_eq!(add(list(0x1006..0x1008)), (Status::RESOURCES, vec![full, full]));
    assert_eq!(nic.driver.counters().sas_added, 3);
}

/// OV2-CAP-6, R-25: a protocol that is taken off takes its SAs along, and no others; what it had is its successor's to add anew.
#[test]
fn r_42_a_protocol_that_goes_leaves_nothing_and_takes_nothing_of_others() {
    let mut nic = shared(NdisVersion::V6_30, 16, &[None, None]);
    let (mine, theirs) = (Sa::new(0x1001), Sa::new(0x2002));
    let a: Vec<_> = (0..3).map(|number| nic.add(0, &Sa::new(0x1001 + number), IN).unwrap()).collect();
    let b = nic.add(1, &theirs, OUT).unwrap();
    let gone: Arc<dyn Protocol> = nic.clients[0].upper.clone();
    let binding = nic.clients[0].upper.binding();
    nic.stack.unbind(&gone, NIC).unwrap();
    assert!(nic.clients[0].upper.binding.lock().unwrap().is_none(), "it was told");
    assert_eq!((nic.driver.counters().sas_deleted, nic.stack.adapter(NIC).unwrap().sas), (3, 1));
    assert!(matches!(nic.stack.unbind(&gone, NIC), Err(StackError::NotBound { .. })));
    assert!(matches!(nic.stack.open_datapath_of(&gone, NIC), Err(StackError::NotBound { .. })));
    let late = binding.direct_oid_request(DirectOid::DeleteSa(vec![b.to_bits()]));
    assert!(matches!(late, DirectAnswer::Done(Status::NOT_ACCEPTED, _)), "{late:?}");
    assert_eq!(nic.send(0, vec![list(&theirs, b, 1)]).0, [(1, Status::FAILURE)], "nor by its old way");
    assert_eq!(nic.send(1, vec![list(&theirs, b, 1)]).0, [(1, Status::SUCCESS)]);
    // It comes again: what it had before is stale, for it too.
    nic.stack.bind(gone, NIC).unwrap();
    let fresh = nic.add(0, &mine, IN).unwrap();
    assert!(!a.contains(&fresh));
    nic.stack.restart_adapter(NIC).unwrap();
    assert_eq!(nic.stack.adapter(NIC).unwrap().protocols, 2);
}

/// Takes UDP-ESP and IPv6 away from those above, completes some requests itself, and writes down what passes.
struct Between(Mutex<Vec<&'static str>>);

impl Filter for Between {
    fn name(&self) -> &'static str {
        "between"
    }

    fn reduce(&self, below: &Offload) -> Offload {
        let mut left = *below;
        left.ipsec_v2.ipv6_supported = false;
        left.ipsec_v2.sa_offload_capacity = left.ipsec_v2.sa_offload_capacity.min(5);
        left
    }

    fn handles_direct_requests(&self) -> bool {
        true
    }

    fn direct_oid_request(&self, request: ndis::DirectOidRequest) -> ndis::FilterVerdict<ndis::DirectOidRequest> {
        if let DirectOid::AddSaEx(entry) = &request.body
            && entry.bundle.as_ref().is_ok_and(|bundle| bundle.endpoints.ipv6)
        {
            self.0.lock().unwrap().push("completed");
            return ndis::FilterVerdict::Complete(Status::NOT_SUPPORTED, request);
        }
        self.0.lock().unwrap().push("passed");
        ndis::FilterVerdict::Pass(request)
    }

    fn status(&self, indication: StatusIndication) -> Option<StatusIndication> {
        (indication != StatusIndication::ResetStart).then_some(indication)
    }
}

/// OV2-CAP-6, OV2-CAP-10, OV2-OID-3: a filter between: every protocol above sees what it leaves, with its own quota; what it completes reaches neither the miniport
/// nor the books; indications go to all, or to none where it keeps them.
#[test]
fn a_filter_reduces_what_all_protocols_above_it_see() {
    let nic = shared(NdisVersion::V6_30, 8, &[Some(2), None, Some(7)]);
    let between = Arc::new(Between(Mutex::default()));
    nic.stack.attach_filter(NIC, between.clone()).unwrap();
    let capacities = |nic: &Shared| {
        let told = |client: &Client| match &client.upper.told()[..] {
            [StatusIndication::TaskOffloadCurrentConfig(config)] => (config.ipsec_v2.sa_offload_capacity, config.ipsec_v2.ipv6_supported),
            other => panic!("{other:?}"),
        };
        nic.clients.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(capacities(&nic), [(2, false), (5, false), (5, false)], "told when it came");
    assert_eq!(nic.clients[0].upper.binding().set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Esp)), Status::SUCCESS);
    nic.stack.pump();
    assert_eq!(capacities(&nic), [(2, false), (5, false), (5, false)]);

    let a = nic.add(0, &Sa::new(0x1001), OUT).unwrap();
    assert_eq!(nic.add(1, &Sa::new(0x2002).v6(), OUT), Err(Status::NOT_SUPPORTED));
    assert_eq!(*between.0.lock().unwrap(), ["passed", "completed"]);
    assert_eq!((nic.driver.counters().sas_added, nic.driver.counters().sas_refused), (1, 0));
    assert_eq!(nic.stack.adapter(NIC).unwrap().sas, 1);
    assert_eq!(nic.delete(2, &[a]), Status::SUCCESS);
    assert_eq!(nic.stack.adapter(NIC).unwrap().sas, 1, "still its owner's");

    nic.stack.reset_adapter(NIC).unwrap();
    nic.stack.pump();
    assert!(nic.clients.iter().all(|client| client.upper.told() == [StatusIndication::ResetEnd]), "the filter keeps the beginning to itself");
    nic.stack.restart_adapter(NIC).unwrap();
    assert_eq!(nic.clients.iter().map(|client| client.upper.reported().sa_offload_capacity).collect::<Vec<_>>(), [2, 5, 5]);
    nic.stack.detach_filter(NIC, "between").unwrap();
    assert_eq!(capacities(&nic), [(2, true), (8, true), (7, true)]);
}

/// Received packets under an SA come up for everybody, as NDIS has it: whose they are is the transports' business, and no handle comes with them.
#[test]
fn received_packets_name_no_sa() {
    let mut nic = shared(NdisVersion::V6_30, 8, &[None, None]);
    let sa = Sa::new(0x1001);
    nic.add(0, &sa, IN).unwrap();
    let sealed = sa.sealed(&sa.unsealed(Shape::BARE, 1, b"for whom"), 1);
    let mut up = NblBatch::new();
    let mut frames = vec![Frame::new(packet::Buffer::copy_from(&sealed))];
    let mut cx = LaneContext { now: Time::ZERO, pool: &mut nic.pool };
    nic.clients[1].path.receive(&mut cx, &mut frames, &mut up);
    assert!(up[0].oob.ipsec_receive().crypto_done);
    // Sent on as it is, it asks for no offload (OV2-OOB-6).
    up[0].oob.clear();
    assert_eq!((up[0].oob.offload_handle(), up[0].oob.tunnel_handle()), (None, None));
}
