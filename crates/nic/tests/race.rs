//! Configuration changes, deletions and shutdown beside requests and traffic from several threads.

mod common;
#[path = "common/upper.rs"]
mod upper;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use common::{ON, Sa, Shape};
use ndis::{
    AddSaEntry, BindParameters, Binding, Datapath, DirectAnswer, DirectOid, DirectOidRequest, Direction, IpsecSetting, LaneContext, MemoryRegistry, NblBatch,
    NetBufferList, OffloadEncapsulation, OffloadHandle, OffloadParameters, Protocol, RequestId, Stack, Status, StatusIndication,
};
use nic::{NicDriver, NicParameters, SoftwareEngine};
use packet::{Buffer, BufferPool, Frame, FrameBatch, Medium, Time};
use upper::Upper;

const NIC: &str = "nic";
const THREADS: u32 = 4;
const EACH: u32 = 2500;

fn driver(capacity: u32) -> Arc<NicDriver<SoftwareEngine>> {
    Arc::new(NicDriver::new(NicParameters { medium: Medium::Ip, ..NicParameters::new(NIC) }, move || {
        SoftwareEngine::new(ipsec::Crypto::default(), capacity).unwrap()
    }))
}

/// A worker's lane.
struct Lane {
    path: Datapath,
    pool: BufferPool,
}

impl Lane {
    fn send(&mut self, sa: &Sa, handle: OffloadHandle) -> (Status, FrameBatch) {
        let mut batch = vec![sa.unsealed(Shape::BARE, 1, b"a race").list(Some(handle))];
        let (mut done, mut wire) = (NblBatch::new(), FrameBatch::new());
        self.path.send(&mut LaneContext { now: Time::ZERO, pool: &mut self.pool }, &mut batch, &mut done, &mut wire);
        assert_eq!(done.len(), 1);
        (done[0].status, wire)
    }

    fn receive(&mut self, bytes: &[u8]) -> NetBufferList {
        let (mut frames, mut up) = (vec![Frame::new(Buffer::copy_from(bytes))], NblBatch::new());
        self.path.receive(&mut LaneContext { now: Time::ZERO, pool: &mut self.pool }, &mut frames, &mut up);
        up.remove(0)
    }
}

/// One SA's life: added, used, deleted, used no more. An SA is there whole, or not at all: a packet under it is right, or untouched.
fn live_and_die(lane: &mut Lane, binding: &Binding, spi: u32, answered: &AtomicU64) {
    let sa = Sa::new(spi);
    let direction = if spi & 1 == 0 { Direction::Outbound } else { Direction::Inbound };
    let handle = match binding.direct_oid_request(DirectOid::AddSaEx(Box::new(AddSaEntry::new(sa.bundle(direction))))) {
        DirectAnswer::Done(status, DirectOid::AddSaEx(entry)) => {
            answered.fetch_add(1, Ordering::Relaxed);
            assert_eq!(status.is_success(), entry.handle.is_some());
            assert!(status.is_success() || status == Status::NOT_SUPPORTED, "{status}");
            entry.handle
        }
        other => panic!("{other:?}"),
    };
    let clear = sa.unsealed(Shape::BARE, 1, b"a race");
    let sealed = sa.sealed(&clear, 1);
    let mut use_it = |there: bool| {
        if let (Direction::Outbound, Some(handle)) = (direction, handle) {
            let (status, wire) = lane.send(&sa, handle);
            match status {
                Status::SUCCESS => assert!(there && wire.len() == 1 && wire[0].buffer.as_slice() == sealed),
                status => assert!(status == Status::FAILURE && wire.is_empty()),
            }
            return;
        }
        let received = lane.receive(&sealed);
        if received.oob.ipsec_receive().crypto_done {
            assert!(there && received.oob.ipsec_receive().crypto_status == ndis::CryptoStatus::Success);
        } else {
            assert_eq!(received.buffer.as_slice(), sealed);
        }
    };
    use_it(handle.is_some());
    let Some(handle) = handle else { return };
    if let DirectAnswer::Done(status, _) = binding.direct_oid_request(DirectOid::DeleteSa(vec![handle.to_bits()])) {
        answered.fetch_add(1, Ordering::Relaxed);
        assert_eq!(status, Status::SUCCESS);
    }
    // From this thread's next batch on nobody can use it, whether the deletion has ended or pends.
    use_it(false);
}

/// 10,000 additions and as many deletions from four threads, while the configuration changes all the time: each request is answered once, no SA is half
/// installed, none stays behind. (The interleavings of the table itself are model-checked in `sa-table`.)
#[test]
fn r_33_configuration_changes_leave_no_sa_half_installed_and_every_request_answered_once() {
    let stack = Arc::new(Stack::new(Arc::new(MemoryRegistry::new())));
    // Room for all: what is refused is refused for the configuration.
    let driver = driver(16_384);
    stack.add_adapter(NIC, driver.clone()).unwrap();
    let upper = Arc::new(Upper::default());
    stack.bind(upper.clone(), NIC).unwrap();
    assert_eq!(upper.binding().set_encapsulation(OffloadEncapsulation { ipv4: ON, ipv6: ON }), Status::SUCCESS);
    let (answered, working) = (AtomicU64::new(0), AtomicBool::new(true));
    let mut changes = 0;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let binding = upper.binding();
                let mut lane = Lane { path: stack.open_datapath(NIC).unwrap(), pool: BufferPool::new() };
                let answered = &answered;
                scope.spawn(move || {
                    for number in 0..EACH {
                        live_and_die(&mut lane, &binding, 0x1_0000 + thread * EACH + number, answered);
                    }
                })
            })
            .collect();
        let (stack, working) = (&stack, &working);
        let pumping = scope.spawn(move || {
            while working.load(Ordering::Relaxed) {
                stack.pump();
                std::thread::yield_now();
            }
        });
        let binding = upper.binding();
        let settings = [IpsecSetting::Ah, IpsecSetting::AhAndEsp, IpsecSetting::Disabled, IpsecSetting::Esp];
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let setting = OffloadParameters { skip_registry_update: true, ..OffloadParameters::ipsec_v2_setting(settings[changes % 4]) };
            assert_eq!(binding.set_parameters(setting), Status::SUCCESS);
            changes += 1;
            std::thread::yield_now();
        }
        for worker in workers {
            worker.join().unwrap();
        }
        working.store(false, Ordering::Relaxed);
        pumping.join().unwrap();
    });
    stack.pump();
    let counters = driver.counters();
    assert_eq!(counters.sas_added + counters.sas_refused, u64::from(THREADS * EACH));
    assert_eq!((counters.sas_deleted, counters.unknown_handles), (counters.sas_added, 0));
    let completed = upper.completed.lock().unwrap();
    let ids: HashSet<RequestId> = completed.iter().map(|(_, request)| request.id).collect();
    assert_eq!(ids.len(), completed.len(), "answered twice");
    assert!(completed.iter().all(|(status, _)| status.is_success()));
    assert_eq!(answered.load(Ordering::Relaxed) + completed.len() as u64, u64::from(THREADS * EACH) + counters.sas_added);
    let info = stack.adapter(NIC).unwrap();
    assert_eq!((info.sas, info.direct_requests, info.stray_completions), (0, 0, 0));
    assert!(changes > 1 && counters.sas_added > 0, "{changes} changes, {} added", counters.sas_added);
}

/// Notes whatever is called after it was unbound.
#[derive(Default)]
struct Watched {
    upper: Upper,
    unbound: AtomicBool,
    late: Mutex<Vec<String>>,
}

impl Watched {
    fn look(&self, what: impl FnOnce() -> String) {
        if self.unbound.load(Ordering::SeqCst) {
            self.late.lock().unwrap().push(what());
        }
    }
}

impl Protocol for Watched {
    fn bind(&self, parameters: BindParameters, binding: Binding) {
        self.unbound.store(false, Ordering::SeqCst);
        self.upper.bind(parameters, binding);
    }

    fn unbind(&self) {
        self.look(|| "unbind".to_owned());
        self.unbound.store(true, Ordering::SeqCst);
        // The binding stays: whoever still uses it must be turned away.
    }

    fn status(&self, indication: StatusIndication) {
        self.look(|| format!("{indication:?}"));
    }

    fn direct_oid_complete(&self, status: Status, request: DirectOidRequest) {
        self.look(|| format!("{status} {request:?}"));
        self.upper.direct_oid_complete(status, request);
    }
}

#[derive(Clone, Copy, Debug)]
enum End {
    Removal,
    Surprise,
    Unbind,
    Drop,
}

/// the adapter goes, or the protocol does, while lanes send and receive and deletions wait for their batches: every request is answered once, nothing is
/// completed or indicated afterwards, no list is lost.
#[test]
fn r_34_nothing_completes_after_the_end() {
    for round in 0..24 {
        for end in [End::Removal, End::Surprise, End::Unbind, End::Drop] {
            let driver = driver(512);
            let stack = Stack::new(Arc::new(MemoryRegistry::new()));
            stack.add_adapter(NIC, driver.clone()).unwrap();
            let watched = Arc::new(Watched::default());
            let protocol: Arc<dyn Protocol> = watched.clone();
            stack.bind(Arc::clone(&protocol), NIC).unwrap();
            let binding = watched.upper.binding();
            assert_eq!(binding.set_encapsulation(OffloadEncapsulation { ipv4: ON, ipv6: ON }), Status::SUCCESS);
            let (done, begun) = (AtomicBool::new(false), Barrier::new(4));
            let (issued, answered) = (AtomicU64::new(0), AtomicU64::new(0));
            let mut lanes: Vec<Lane> = (0..2).map(|_| Lane { path: stack.open_datapath_of(&protocol, NIC).unwrap(), pool: BufferPool::new() }).collect();
            std::thread::scope(|scope| {
                for lane in &mut lanes {
                    let (done, begun) = (&done, &begun);
                    scope.spawn(move || {
                        let sa = Sa::new(0x777);
                        let sealed = sa.sealed(&sa.unsealed(Shape::BARE, 1, b"on and on"), 1);
                        begun.wait();
                        while !done.load(Ordering::Relaxed) {
                            let (mut wire, mut ended) = (FrameBatch::new(), NblBatch::new());
                            let mut cx = LaneContext { now: Time::ZERO, pool: &mut lane.pool };
                            let mut batch: NblBatch = (0..8).map(|_| NetBufferList::new(Buffer::copy_from(&sealed), 0)).collect();
                            lane.path.send(&mut cx, &mut batch, &mut ended, &mut wire);
                            assert_eq!((ended.len(), lane.path.outstanding()), (8, 0));
                            let mut frames: FrameBatch = (0..8).map(|_| Frame::new(Buffer::copy_from(&sealed))).collect();
                            let mut up = NblBatch::new();
                            let lost = lane.path.receive(&mut cx, &mut frames, &mut up);
                            assert_eq!(up.len() + lost, 8);
                        }
                    });
                }
                let (asking, issued, answered) = (binding.clone(), &issued, &answered);
                let (begun_too, done_too) = (&begun, &done);
                scope.spawn(move || {
                    begun_too.wait();
                    for number in 0..200 {
                        let entry = AddSaEntry::new(Sa::new(0x1000 + number).bundle(Direction::Inbound));
                        issued.fetch_add(1, Ordering::Relaxed);
                        let DirectAnswer::Done(_, DirectOid::AddSaEx(entry)) = asking.direct_oid_request(DirectOid::AddSaEx(Box::new(entry))) else { panic!() };
                        answered.fetch_add(1, Ordering::Relaxed);
                        if let Some(handle) = entry.handle {
                            issued.fetch_add(1, Ordering::Relaxed);
                            if let DirectAnswer::Done(..) = asking.direct_oid_request(DirectOid::DeleteSa(vec![handle.to_bits()])) {
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                    done_too.store(true, Ordering::Relaxed);
                });
                begun.wait();
                for _ in 0..round {
                    stack.pump();
                }
                match end {
                    End::Removal => stack.remove_adapter(NIC).unwrap(),
                    End::Surprise => stack.surprise_remove(NIC).unwrap(),
                    End::Unbind => stack.unbind(&protocol, NIC).unwrap(),
                    End::Drop => drop(stack),
                }
            });
            // The lanes go: what waited for their batches may end now, and nobody is told.
            drop(lanes);
            assert_eq!(*watched.late.lock().unwrap(), Vec::<String>::new(), "{end:?}");
            let completed = watched.upper.completed.lock().unwrap();
            assert_eq!(answered.load(Ordering::Relaxed) + completed.len() as u64, issued.load(Ordering::Relaxed), "{end:?}");
            let counters = driver.counters();
            assert_eq!(counters.sas_added, counters.sas_deleted, "{end:?}");
        }
    }
}
