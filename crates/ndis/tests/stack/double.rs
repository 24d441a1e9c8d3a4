//! Drivers that do as they are told and write down what happens to them.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use ndis::{
    AdapterAttributes, AdapterKeywords, AddSaEntry, Associations, AuthenticationAlgorithms, BindParameters, Binding, DirectOid, DirectOidRequest, Direction,
    Encapsulation, EncryptionAlgorithm, EncryptionAlgorithms, Endpoints, EspAssociation, IpsecOffloadV2, Keyed, LaneContext, MemoryRegistry, Miniport,
    MiniportDriver, MiniportQueue, NblBatch, NdisVersion, NetBufferList, Offload, OffloadHandle, Oid, OidRequest, Outcome, Protocol, RequestId, SaBundle,
    SaExtension, Stack, Status, StatusIndication, Upcalls,
};
use packet::{Frame, FrameBatch, Medium, Spi};
use secret::SecretBytes;

pub(crate) const NIC: &str = "nic0";

/// What the double's hardware does.
pub(crate) fn hardware() -> Offload {
    Offload {
        ipsec_v2: IpsecOffloadV2 {
            encapsulation: Encapsulation::IEEE_802_3,
            ipv6_supported: true,
            ah: true,
            esp: true,
            ah_esp_combined: true,
            transport: true,
            tunnel: true,
            extended_sequence_numbers: true,
            authentication_algorithms: AuthenticationAlgorithms::SHA_1,
            encryption_algorithms: EncryptionAlgorithms::AES_GCM_128 | EncryptionAlgorithms::AES_GCM_256,
            sa_offload_capacity: 100,
            ..IpsecOffloadV2::default()
        },
        ..Offload::default()
    }
}

pub(crate) fn attributes(hardware: Offload, default: Offload) -> AdapterAttributes {
    AdapterAttributes {
        version: NdisVersion::V6_30,
        medium: Medium::Ethernet,
        mtu: 1500,
        hardware_capabilities: hardware,
        default_configuration: default,
        direct_requests: true,
        deviates_without_tunnel: false,
    }
}

/// How the double answers direct requests.
#[derive(Clone, Default)]
pub(crate) enum Direct {
    /// At once.
    #[default]
    AtOnce,
    /// Keeps them until it is told otherwise.
    Keep,
    /// Keeps them until the next poll.
    NextPoll,
    /// At once, when so many are inside at the same time.
    Together(Arc<Barrier>),
    /// Completes, and then says that it is pending: the completion can be polled before the call returns. The barriers are at the two ends of that gap.
    Early(Arc<Barrier>, Arc<Barrier>),
    /// Lingers between the barriers, then keeps it.
    Linger(Arc<Barrier>, Arc<Barrier>),
    /// Lingers between the barriers, then does it.
    LingerAndDo(Arc<Barrier>, Arc<Barrier>),
}

/// What the double shares with its test.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) attributes: Mutex<Option<AdapterAttributes>>,
    pub(crate) fail_initialize: AtomicBool,
    pub(crate) initialized: AtomicUsize,
    pub(crate) halted: AtomicUsize,
    pub(crate) standard: AtomicUsize,
    pub(crate) standard_inside: AtomicUsize,
    pub(crate) standard_most: AtomicUsize,
    pub(crate) refuse_encapsulation: AtomicBool,
    pub(crate) direct: Mutex<Direct>,
    pub(crate) direct_calls: AtomicUsize,
    pub(crate) kept: Mutex<Vec<DirectOidRequest>>,
    pub(crate) cancelled: Mutex<Vec<RequestId>>,
    /// Handles in deletions that arrived.
    pub(crate) deleted: Mutex<Vec<u64>>,
    /// A halted or resetting miniport forgets what it keeps.
    pub(crate) forgetful: AtomicBool,
    pub(crate) up: Mutex<Upcalls>,
    pub(crate) hold_sends: AtomicBool,
    /// Sends that are held are let go by the next poll.
    pub(crate) release_sends: AtomicBool,
    pub(crate) queues: AtomicUsize,
    pub(crate) idle: AtomicUsize,
    handles: AtomicU64,
}

impl Shared {
    pub(crate) fn indicate(&self, indication: StatusIndication) {
        self.up.lock().unwrap().indications.push(indication);
    }

    pub(crate) fn indicate_config(&self, offload: Offload) {
        self.indicate(StatusIndication::TaskOffloadCurrentConfig(Box::new(offload)));
    }

    /// Completes everything that is kept, with the next poll.
    pub(crate) fn complete_kept(&self, status: Status) {
        let kept = core::mem::take(&mut *self.kept.lock().unwrap());
        self.up.lock().unwrap().direct_completions.extend(kept.into_iter().map(|request| (status, request)));
    }

    fn do_it(&self, request: &mut DirectOidRequest) -> Status {
        if let DirectOid::AddSaEx(entry) = &mut request.body {
            entry.handle = OffloadHandle::from_bits(self.handles.fetch_add(1, Ordering::Relaxed) + 1);
            entry.status = Status::SUCCESS;
        }
        Status::SUCCESS
    }

    fn drain_into(&self, up: &mut Upcalls) {
        let mut waiting = self.up.lock().unwrap();
        up.indications.append(&mut waiting.indications);
        up.direct_completions.append(&mut waiting.direct_completions);
    }
}

pub(crate) struct Driver(pub(crate) Arc<Shared>);

struct Adapter {
    shared: Arc<Shared>,
    hardware: Offload,
    current: Mutex<Offload>,
    halted: Arc<AtomicBool>,
}

impl MiniportDriver for Driver {
    fn initialize(&self, keywords: &AdapterKeywords) -> Result<(Box<dyn Miniport>, AdapterAttributes), Status> {
        if self.0.fail_initialize.load(Ordering::SeqCst) {
            return Err(Status::RESOURCES);
        }
        self.0.initialized.fetch_add(1, Ordering::SeqCst);
        let attributes = self.0.attributes.lock().unwrap().clone();
        let attributes = attributes.unwrap_or_else(|| attributes_of_keywords(keywords));
        let adapter = Adapter {
            shared: Arc::clone(&self.0),
            hardware: attributes.hardware_capabilities,
            current: Mutex::new(attributes.default_configuration),
            halted: Arc::default(),
        };
        Ok((Box::new(adapter), attributes))
    }
}

fn attributes_of_keywords(keywords: &AdapterKeywords) -> AdapterAttributes {
    attributes(hardware(), hardware().configured(keywords))
}

impl Miniport for Adapter {
    fn open_queue(&self) -> Box<dyn MiniportQueue> {
        self.shared.queues.fetch_add(1, Ordering::SeqCst);
        Box::new(Queue { shared: Arc::clone(&self.shared), halted: Arc::clone(&self.halted), held: NblBatch::new() })
    }

    fn oid_request(&self, request: &mut OidRequest, up: &mut Upcalls) -> Status {
        let inside = self.shared.standard_inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.shared.standard_most.fetch_max(inside, Ordering::SeqCst);
        self.shared.standard.fetch_add(1, Ordering::SeqCst);
        std::thread::yield_now();
        let mut current = self.current.lock().unwrap();
        let status = match &request.body {
            Oid::SetParameters(parameters) => match current.apply(parameters, &self.hardware) {
                Ok(next) => {
                    *current = next;
                    Status::SUCCESS
                }
                Err(status) => status,
            },
            Oid::SetEncapsulation(_) if self.shared.refuse_encapsulation.load(Ordering::SeqCst) => Status::INVALID_PARAMETER,
            Oid::SetEncapsulation(set) => self.hardware.check_encapsulation(set),
            other => panic!("{other:?} reached the miniport"),
        };
        if status.is_success() {
            up.indications.push(StatusIndication::TaskOffloadCurrentConfig(Box::new(*current)));
        }
        self.shared.standard_inside.fetch_sub(1, Ordering::SeqCst);
        status
    }

    fn direct_oid_request(&self, mut request: DirectOidRequest) -> Outcome {
        self.shared.direct_calls.fetch_add(1, Ordering::SeqCst);
        if let DirectOid::DeleteSa(handles) = &request.body {
            self.shared.deleted.lock().unwrap().extend(handles);
        }
        let how = self.shared.direct.lock().unwrap().clone();
        let keep = |request| {
            self.shared.kept.lock().unwrap().push(request);
            Outcome::Pending
        };
        match how {
            _ if self.halted.load(Ordering::SeqCst) => Outcome::Done(Status::NOT_ACCEPTED, request),
            Direct::AtOnce => Outcome::Done(self.shared.do_it(&mut request), request),
            Direct::Keep => keep(request),
            Direct::NextPoll => {
                let status = self.shared.do_it(&mut request);
                self.shared.up.lock().unwrap().direct_completions.push((status, request));
                Outcome::Pending
            }
            Direct::Together(all) => {
                all.wait();
                Outcome::Done(self.shared.do_it(&mut request), request)
            }
            Direct::Early(completed, polled) => {
                let status = self.shared.do_it(&mut request);
                self.shared.up.lock().unwrap().direct_completions.push((status, request));
                completed.wait();
                polled.wait();
                Outcome::Pending
            }
            Direct::LingerAndDo(inside, proceed) => {
                inside.wait();
                proceed.wait();
                Outcome::Done(self.shared.do_it(&mut request), request)
            }
            Direct::Linger(inside, proceed) => {
                inside.wait();
                proceed.wait();
                keep(request)
            }
        }
    }

    fn cancel_direct_oid_request(&self, id: RequestId) {
        self.shared.cancelled.lock().unwrap().push(id);
        let mut kept = self.shared.kept.lock().unwrap();
        if let Some(at) = kept.iter().position(|request| request.id == id) {
            let request = kept.remove(at);
            self.shared.up.lock().unwrap().direct_completions.push((Status::REQUEST_ABORTED, request));
        }
    }

    fn reset(&self, _up: &mut Upcalls) {
        self.shared.complete_kept(Status::REQUEST_ABORTED);
        self.shared.indicate(StatusIndication::ResetEnd);
    }

    fn halt(&self, _up: &mut Upcalls) {
        self.shared.halted.fetch_add(1, Ordering::SeqCst);
        self.halted.store(true, Ordering::SeqCst);
        if self.shared.forgetful.load(Ordering::SeqCst) {
            self.shared.kept.lock().unwrap().clear();
        } else {
            self.shared.complete_kept(Status::REQUEST_ABORTED);
        }
    }

    fn poll_control(&self, up: &mut Upcalls) {
        self.shared.drain_into(up);
    }
}

struct Queue {
    shared: Arc<Shared>,
    halted: Arc<AtomicBool>,
    held: NblBatch,
}

impl Queue {
    fn finish(mut list: NetBufferList, done: &mut NblBatch, wire: &mut FrameBatch) {
        wire.push(list.take_frame());
        list.status = Status::SUCCESS;
        done.push(list);
    }
}

impl MiniportQueue for Queue {
    fn send(&mut self, _lane: &mut LaneContext<'_>, batch: &mut NblBatch, done: &mut NblBatch, wire: &mut FrameBatch) {
        for mut list in batch.drain(..) {
            if self.halted.load(Ordering::SeqCst) {
                list.status = Status::ADAPTER_REMOVED;
                done.push(list);
            } else if self.shared.hold_sends.load(Ordering::SeqCst) {
                self.held.push(list);
            } else {
                Self::finish(list, done, wire);
            }
        }
    }

    fn receive(&mut self, _lane: &mut LaneContext<'_>, frames: &mut FrameBatch, up: &mut NblBatch) {
        if !self.halted.load(Ordering::SeqCst) {
            up.extend(frames.drain(..).map(|frame| NetBufferList::from_frame(frame, 14)));
        }
    }

    fn poll(&mut self, _lane: &mut LaneContext<'_>, done: &mut NblBatch, wire: &mut FrameBatch) {
        if self.halted.load(Ordering::SeqCst) {
            done.extend(self.held.drain(..).map(|mut list| {
                list.status = Status::ADAPTER_REMOVED;
                list
            }));
        } else if self.shared.release_sends.load(Ordering::SeqCst) {
            self.held.drain(..).for_each(|list| Self::finish(list, done, wire));
        }
    }

    fn idle(&mut self) {
        self.shared.idle.fetch_add(1, Ordering::SeqCst);
    }
}

/// What happened to a protocol.
#[derive(Debug)]
pub(crate) enum Call {
    Bind(BindParameters),
    Unbind,
    Status(StatusIndication),
    Complete(Status, RequestId, DirectOid),
}

impl Call {
    /// The call as a word, for comparing orders.
    pub(crate) fn word(&self) -> String {
        match self {
            Self::Bind(_) => "bind".to_owned(),
            Self::Unbind => "unbind".to_owned(),
            Self::Status(StatusIndication::TaskOffloadCurrentConfig(_)) => "config".to_owned(),
            Self::Status(StatusIndication::TaskOffloadHardwareCapabilities(_)) => "hardware".to_owned(),
            Self::Status(StatusIndication::ResetStart) => "reset start".to_owned(),
            Self::Status(StatusIndication::ResetEnd) => "reset end".to_owned(),
            Self::Status(StatusIndication::AdapterRemoved) => "removed".to_owned(),
            Self::Complete(status, ..) => format!("complete {status}"),
        }
    }
}

type Hook = Box<dyn Fn(&Transport, &StatusIndication) + Send + Sync>;

/// A protocol that keeps its binding and writes down its calls.
pub(crate) struct Transport {
    pub(crate) calls: Mutex<Vec<Call>>,
    pub(crate) binding: Mutex<Option<Binding>>,
    pub(crate) completes: bool,
    pub(crate) on_status: Option<Hook>,
}

impl Default for Transport {
    fn default() -> Self {
        Self { calls: Mutex::default(), binding: Mutex::default(), completes: true, on_status: None }
    }
}

impl Transport {
    pub(crate) fn binding(&self) -> Binding {
        self.binding.lock().unwrap().clone().expect("bound")
    }

    pub(crate) fn take(&self) -> Vec<Call> {
        core::mem::take(&mut *self.calls.lock().unwrap())
    }

    pub(crate) fn words(&self) -> Vec<String> {
        self.take().iter().map(Call::word).collect()
    }
}

impl Protocol for Transport {
    fn bind(&self, parameters: BindParameters, binding: Binding) {
        *self.binding.lock().unwrap() = Some(binding);
        self.calls.lock().unwrap().push(Call::Bind(parameters));
    }

    fn unbind(&self) {
        self.calls.lock().unwrap().push(Call::Unbind);
    }

    fn status(&self, indication: StatusIndication) {
        if let Some(hook) = &self.on_status {
            hook(self, &indication);
        }
        self.calls.lock().unwrap().push(Call::Status(indication));
    }

    fn completes_direct_requests(&self) -> bool {
        self.completes
    }

    fn direct_oid_complete(&self, status: Status, request: DirectOidRequest) {
        self.calls.lock().unwrap().push(Call::Complete(status, request.id, request.body));
    }
}

/// A stack with one adapter and a protocol on it.
pub(crate) struct Fixture {
    pub(crate) stack: Stack,
    pub(crate) registry: Arc<MemoryRegistry>,
    pub(crate) nic: Arc<Shared>,
    pub(crate) transport: Arc<Transport>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(Transport::default())
    }

    pub(crate) fn with(transport: Transport) -> Self {
        let registry = Arc::new(MemoryRegistry::new());
        let stack = Stack::new(Arc::clone(&registry) as _);
        let nic = Arc::new(Shared::default());
        stack.add_adapter(NIC, Arc::new(Driver(Arc::clone(&nic)))).unwrap();
        let transport = Arc::new(transport);
        stack.bind(Arc::clone(&transport) as _, NIC).unwrap();
        let fixture = Self { stack, registry, nic, transport };
        assert_eq!(fixture.transport.calls.lock().unwrap().len(), 1, "bound");
        fixture
    }

    pub(crate) fn direct(&self, how: Direct) {
        *self.nic.direct.lock().unwrap() = how;
    }
}

/// A key that nothing shows.
pub(crate) const KEY: [u8; 20] = [0xC5; 20];

pub(crate) fn add_sa() -> DirectOid {
    DirectOid::AddSaEx(Box::new(AddSaEntry::new(SaBundle {
        direction: Direction::Outbound,
        endpoints: Endpoints { ipv6: false, source: Some("192.0.2.1".parse().unwrap()), destination: Some("192.0.2.2".parse().unwrap()) },
        udp_esp: None,
        associations: Associations::Esp(EspAssociation {
            spi: Spi(0x1001),
            extended_sequence_numbers: true,
            sequence_number_high: 7,
            encryption: Keyed {
                algorithm: EncryptionAlgorithm::AesGcm(ndis::AesKeySize::Aes128),
                key: SecretBytes::copy_from_slice(&KEY),
                additional_info: 16,
            },
            authentication: None,
        }),
        extension: SaExtension::default(),
    })))
}

pub(crate) fn lists(tags: core::ops::Range<u64>) -> NblBatch {
    tags.map(|tag| {
        let mut list = NetBufferList::new(packet::Buffer::copy_from(&[tag as u8; 60]), 14);
        list.tag = tag;
        list
    })
    .collect()
}

pub(crate) fn frames(tags: core::ops::Range<u64>) -> FrameBatch {
    tags.map(|tag| Frame { tag, ..Frame::new(packet::Buffer::copy_from(&[tag as u8; 60])) }).collect()
}
