//! Memory: what SAs took comes back in whatever order they end, and no byte of a key is left where they were.

#[path = "common/scanning.rs"]
mod scanning;

mod common;
#[path = "common/upper.rs"]
mod upper;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::{ON, Sa};
use ipsec::{Crypto, MbCrypto, Provider, RustCrypto};
use ndis::{
    AddSaEntry, Associations, DirectAnswer, DirectOid, Direction, LaneContext, MemoryRegistry, NblBatch, NetBufferList, OffloadEncapsulation, OffloadHandle,
    Operation, Protocol, SaBundle, Stack, Status, UpdateSa,
};
use nic::{NicDriver, NicParameters, SoftwareEngine};
use packet::{BufferPool, FrameBatch, Medium, Spi, Time};
use secret::SecretBytes;
use upper::Upper;

const NIC: &str = "nic";

/// The key that is looked for, and what follows it as salt. Not on the heap itself.
static KEY: [u8; 20] = *b"\xC0\xFF\xEE\xD1\xA5\x5E\xB7\x9C\x3D\xE8\x71\x0B\x96\x2A\xF4\x47SALT";

/// What the scan is tried with.
static OTHER: [u8; 20] = *b"\x3F\x00\x11\x2E\x5A\xA1\x48\x63\xC2\x17\x8E\xF4\x69\xD5\x0B\xB8KEYS";

/// Memory is the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Nic<P: Provider> {
    stack: Stack,
    driver: Arc<NicDriver<SoftwareEngine<P>>>,
    upper: Arc<Upper>,
}

fn nic<P: Provider + Copy>(provider: P) -> Nic<P> {
    let stack = Stack::new(Arc::new(MemoryRegistry::new()));
    let parameters = NicParameters { medium: Medium::Ip, ..NicParameters::new(NIC) };
    let driver = Arc::new(NicDriver::new(parameters, move || SoftwareEngine::new(provider, 8).unwrap()));
    stack.add_adapter(NIC, driver.clone()).unwrap();
    let upper = Arc::new(Upper::default());
    stack.bind(upper.clone(), NIC).unwrap();
    let nic = Nic { stack, driver, upper };
    nic.activate();
    nic
}

impl<P: Provider> Nic<P> {
    fn activate(&self) {
        assert_eq!(self.upper.binding().set_encapsulation(OffloadEncapsulation { ipv4: ON, ipv6: ON }), Status::SUCCESS);
        self.pump();
    }

    fn pump(&self) {
        self.stack.pump();
        self.upper.told();
    }

    fn add(&self, bundle: SaBundle) -> OffloadHandle {
        match self.upper.binding().direct_oid_request(DirectOid::AddSaEx(Box::new(AddSaEntry::new(bundle)))) {
            DirectAnswer::Done(Status::SUCCESS, DirectOid::AddSaEx(entry)) => entry.handle.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn protocol(&self) -> Arc<dyn Protocol> {
        self.upper.clone()
    }
}

/// What can happen to SAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Delete,
    Update,
    Reset,
    Unbind,
    Restart,
}

/// All orders of the steps.
fn orders(steps: &[Step]) -> Vec<Vec<Step>> {
    let Some((first, rest)) = steps.split_first() else { return vec![vec![]] };
    let orders = orders(rest);
    orders.iter().flat_map(|order| (0..=order.len()).map(|at| [&order[..at], &[*first], &order[at..]].concat())).collect()
}

/// Adds SAs, takes the steps, and adds more after each; then everything ends. The handles are those of the last addition, whatever became of them.
fn take(nic: &Nic<Crypto>, order: &[Step]) {
    let sas = [Sa::new(0x1001).esn(1), Sa::new(0x1002).esn(1)];
    let fill = || [nic.add(sas[0].bundle(Direction::Inbound)), nic.add(sas[1].bundle(Direction::Outbound))];
    let mut handles = fill();
    for step in order {
        let gone = match step {
            Step::Delete => {
                let answer = nic.upper.binding().direct_oid_request(DirectOid::DeleteSa(handles.iter().map(|handle| handle.to_bits()).collect()));
                assert!(matches!(answer, DirectAnswer::Done(Status::SUCCESS, _)));
                true
            }
            Step::Update => {
                for (handle, sa) in handles.iter().zip(sas) {
                    let update = UpdateSa { handle: *handle, operation: Operation::Esp, spi: Spi(sa.spi), sequence_number_high: 2 };
                    assert!(matches!(nic.upper.binding().direct_oid_request(DirectOid::UpdateSa(update)), DirectAnswer::Done(Status::SUCCESS, _)));
                }
                false
            }
            Step::Reset => {
                nic.stack.reset_adapter(NIC).unwrap();
                nic.pump();
                true
            }
            Step::Unbind => {
                nic.stack.unbind(&nic.protocol(), NIC).unwrap();
                nic.stack.bind(nic.protocol(), NIC).unwrap();
                nic.activate();
                true
            }
            Step::Restart => {
                nic.stack.restart_adapter(NIC).unwrap();
                nic.activate();
                true
            }
        };
        if gone {
            assert_eq!(nic.stack.adapter(NIC).unwrap().sas, 0);
            // What is stale is recognised.
            let stale = UpdateSa { handle: handles[0], operation: Operation::Esp, spi: Spi(sas[0].spi), sequence_number_high: 9 };
            assert!(matches!(nic.upper.binding().direct_oid_request(DirectOid::UpdateSa(stale)), DirectAnswer::Done(Status::INVALID_PARAMETER, _)));
            handles = fill();
        }
    }
    nic.stack.reset_adapter(NIC).unwrap();
    nic.pump();
}

/// delete, update, reset, unbind and restart in every order: no SA stays, and no memory.
#[test]
fn r_25_sas_and_their_memory_come_back_in_every_order() {
    let _alone = alone();
    let nic = nic(Crypto::default());
    let orders = orders(&[Step::Delete, Step::Update, Step::Reset, Step::Unbind, Step::Restart]);
    assert_eq!(orders.len(), 120);
    // Tables and queues grow to what they need.
    for order in &orders {
        take(&nic, order);
    }
    let before = scanning::live();
    for order in &orders {
        take(&nic, order);
        let counters = nic.driver.counters();
        assert_eq!(counters.sas_added, counters.sas_deleted, "{order:?}");
        let info = nic.stack.adapter(NIC).unwrap();
        assert_eq!((info.sas, info.direct_requests, info.stray_completions, info.protocols), (0, 0, 0, 1), "{order:?}");
    }
    assert_eq!(scanning::live(), before, "memory");
}

/// A bundle whose key is [`KEY`].
fn bundle(spi: u32, direction: Direction) -> SaBundle {
    let mut bundle = Sa::new(spi).bundle(direction);
    if let Associations::Esp(esp) = &mut bundle.associations {
        esp.encryption.key = SecretBytes::copy_from_slice(&KEY);
    }
    bundle
}

/// How SAs end.
#[derive(Clone, Copy, Debug)]
enum End {
    Delete,
    Reset,
    Removal,
    Surprise,
    Restart,
    Unbind,
}

/// Adds SAs with the key, uses one, and ends them; how often the key was in memory while they were there.
fn erase<P: Provider + Copy>(provider: P, end: End) -> usize {
    let nic = nic(provider);
    let handles = [nic.add(bundle(0x1001, Direction::Inbound)), nic.add(bundle(0x1002, Direction::Outbound))];
    let mut path = nic.stack.open_datapath(NIC).unwrap();
    let mut pool = BufferPool::new();
    let mut batch: Vec<NetBufferList> = vec![Sa::new(0x1002).unsealed(common::Shape::BARE, 1, b"payload").list(Some(handles[1]))];
    let (mut done, mut wire) = (NblBatch::new(), FrameBatch::new());
    path.send(&mut LaneContext { now: Time::ZERO, pool: &mut pool }, &mut batch, &mut done, &mut wire);
    assert_eq!(done[0].status, Status::SUCCESS);
    let there = scanning::find(&KEY[..16]);
    match end {
        End::Delete => {
            let answer = nic.upper.binding().direct_oid_request(DirectOid::DeleteSa(handles.iter().map(|handle| handle.to_bits()).collect()));
            assert!(matches!(answer, DirectAnswer::Done(Status::SUCCESS, _)), "no batch is open");
        }
        End::Reset => nic.stack.reset_adapter(NIC).unwrap(),
        End::Removal => nic.stack.remove_adapter(NIC).unwrap(),
        End::Surprise => nic.stack.surprise_remove(NIC).unwrap(),
        End::Restart => nic.stack.restart_adapter(NIC).unwrap(),
        End::Unbind => nic.stack.unbind(&nic.protocol(), NIC).unwrap(),
    }
    nic.pump();
    assert_eq!(scanning::find(&KEY[..16]), 0, "{end:?}: the key is in memory");
    there
}

/// after deletion, reset, removal and restart neither the memory that is in use nor what was given back holds the key.
#[test]
fn r_29_no_byte_of_a_key_outlives_its_sa() {
    let _alone = alone();
    // What the scan would see, shown with other bytes: memory that is given back with them in it, and used again, would be found with them.
    let canary = std::hint::black_box(OTHER.to_vec());
    assert_eq!((scanning::find(&OTHER[..16]), scanning::freed(&OTHER[..16], || ())), (1, 0));
    assert_eq!(scanning::freed(&OTHER[..16], || drop(canary)), 1);

    let mut seen = 0;
    for end in [End::Delete, End::Reset, End::Removal, End::Surprise, End::Restart, End::Unbind] {
        let freed = scanning::freed(&KEY[..16], || {
            seen += erase(RustCrypto, end);
            seen += erase(MbCrypto::best(), end);
        });
        assert_eq!(freed, 0, "{end:?}: memory with the key was given back");
    }
    assert!(seen > 0, "the scan never saw the key where it must be");
}
