//! A host over a miniport that does as its script says: it seals and opens as a NIC does, and refuses, pends, fails and holds what it is told to.
#![allow(dead_code, unreachable_pub, reason = "each test file takes what it needs")]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ipsec::{AesKeySize, Authentication, Crypto, Encryption, EspParameters, EspSa, Provider};
use ndis::{
    AdapterAttributes, AdapterKeywords, AddSaEntry, AuthenticationAlgorithms, CryptoStatus, Datapath, DirectOid, DirectOidRequest, Direction, Encapsulation,
    EncryptionAlgorithms, IpsecOffloadV2, LaneContext, MemoryRegistry, Miniport, MiniportDriver, MiniportQueue, NblBatch, NdisVersion, NetBufferList, Offload,
    OffloadHandle, Oid, OidRequest, Outcome, RequestId, SaBundle, Stack, Status, StatusIndication, UdpEspType, UdpEspTypes, Upcalls,
};
use packet::{BufferPool, Frame, FrameBatch, IpAddress, IpProtocol, Ipv4Repr, Ipv6Repr, Medium, ParsedIp, Spi, Time};
use sa_table::{Handle, SEED_WORDS, Seed};
use secret::SecretBytes;
use transport::{
    AssociationParameters, ClearPolicy, DropReason, InboundBatch, InboundVerdict, Limits, Mode, OffloadPolicy, OffloadReason, PacketReason, SaEventKind,
    SaParameters, Selector, Transport, TransportConfig, TransportLane, WayCounts,
};

pub mod bundle;
mod engine;
pub mod exchange;

use engine::NicSa;

pub const NIC: &str = "nic0";
pub const A: &str = "192.0.2.1";
pub const B: &str = "192.0.2.2";
/// What every clear text has in it.
pub const CANARY: &[u8] = b"clear text that must not be seen";

pub fn address(text: &str) -> IpAddress {
    text.parse().unwrap()
}

/// How the double answers a direct request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    #[default]
    Take,
    Refuse(Status),
    /// Does it at once, and says so when it is told to.
    DoAndPend,
    /// Does nothing until it is told to.
    Pend,
}

/// What the double does.
#[derive(Debug, Default)]
pub struct Script {
    pub add: Answer,
    pub update: Answer,
    pub delete: Answer,
    pub refuse_encapsulation: bool,
    /// Every n-th list is failed; 0: none.
    pub fail_every: usize,
    /// Lists of this SA only.
    pub fail_offloaded_only: bool,
    pub hold_sends: bool,
    pub hold_reset: bool,
    /// A reset leaves pended requests pended.
    pub keep_through_reset: bool,
    /// Refuses bundles with these SPIs.
    pub refuse: Vec<(u32, Status)>,
    /// Asks with the next received packet.
    pub ask_delete: bool,
    /// How received ESP of SAs that it holds is reported instead.
    pub report: Option<CryptoStatus>,
    /// How the inner portion is reported, where the outer one was good.
    pub report_inner: Option<CryptoStatus>,
    sends: usize,
}

/// A direct request that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Add(Direction),
    /// A list of so many.
    AddList(usize),
    AddEx(Direction),
    Update(u32),
    Delete(usize),
}

#[derive(Default)]
pub struct Double {
    pub script: Mutex<Script>,
    table: Mutex<HashMap<u64, NicSa>>,
    handles: AtomicUsize,
    pub seen: Mutex<Vec<Seen>>,
    pub encapsulations: AtomicUsize,
    kept: Mutex<Vec<DirectOidRequest>>,
    up: Mutex<Upcalls>,
    pub attributes: Mutex<Option<AdapterAttributes>>,
    current: Mutex<Offload>,
    halted: AtomicBool,
}

pub fn hardware(capacity: u32) -> Offload {
    Offload {
        ipsec_v2: IpsecOffloadV2 {
            encapsulation: Encapsulation::NULL | Encapsulation::IEEE_802_3,
            ipv6_supported: true,
            ipv4_options: true,
            ipv6_non_ipsec_extension_headers: true,
            ah: true,
            esp: true,
            transport: true,
            tunnel: true,
            extended_sequence_numbers: true,
            encryption_algorithms: EncryptionAlgorithms::AES_GCM_128 | EncryptionAlgorithms::AES_GCM_192 | EncryptionAlgorithms::AES_GCM_256,
            sa_offload_capacity: capacity,
            ..IpsecOffloadV2::default()
        },
        ..Offload::default()
    }
}

/// A NIC that does all there is.
pub fn everything(capacity: u32) -> Offload {
    let mut offload = hardware(capacity);
    let v2 = &mut offload.ipsec_v2;
    (v2.ah_esp_combined, v2.transport_tunnel_combined) = (true, true);
    v2.udp_esp = UdpEspTypes::all();
    v2.encryption_algorithms = EncryptionAlgorithms::all();
    v2.authentication_algorithms = AuthenticationAlgorithms::all();
    offload
}

impl Double {
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// SAs that it holds.
    pub fn held(&self) -> usize {
        self.table.lock().unwrap().len()
    }

    /// UDP-ESP types of the SAs that it holds.
    pub fn types(&self) -> Vec<Option<UdpEspType>> {
        self.table.lock().unwrap().values().map(|sa| sa.udp).collect()
    }

    pub fn take_seen(&self) -> Vec<Seen> {
        core::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// Requests that it keeps.
    pub fn kept(&self) -> usize {
        self.kept.lock().unwrap().len()
    }

    /// Answers what it keeps, with the next pump.
    pub fn answer_kept(&self, status: Status) {
        for mut request in core::mem::take(&mut *self.kept.lock().unwrap()) {
            let status = if status.is_success() { self.carry_out(&mut request.body) } else { status };
            self.up.lock().unwrap().direct_completions.push((status, request));
        }
    }

    /// What was asked last is answered first.
    pub fn reverse_kept(&self) {
        self.kept.lock().unwrap().reverse();
    }

    /// Changes its configuration, and says so with the next pump.
    pub fn set_config(&self, change: impl FnOnce(&mut Offload)) {
        let mut current = self.current.lock().unwrap();
        change(&mut current);
        self.up.lock().unwrap().indications.push(StatusIndication::TaskOffloadCurrentConfig(Box::new(*current)));
    }

    pub fn end_reset(&self) {
        self.up.lock().unwrap().indications.push(StatusIndication::ResetEnd);
    }

    fn add(&self, bundle: &SaBundle) -> Result<OffloadHandle, Status> {
        let spi = bundle.associations.esp().map(|esp| esp.spi.0);
        if let Some(&(_, status)) = self.script().refuse.iter().find(|(refused, _)| Some(*refused) == spi) {
            return Err(status);
        }
        let sa = NicSa::new(bundle);
        let mut table = self.table.lock().unwrap();
        if table.len() >= self.current.lock().unwrap().ipsec_v2.sa_offload_capacity as usize {
            return Err(Status::RESOURCES);
        }
        let bits = self.handles.fetch_add(1, Ordering::SeqCst) as u64 + 1;
        table.insert(bits, sa);
        Ok(OffloadHandle::from_bits(bits).unwrap())
    }

    fn carry_out(&self, body: &mut DirectOid) -> Status {
        let add = |entry: &mut AddSaEntry| match self.add(entry.bundle.as_ref().unwrap()) {
            Ok(handle) => {
                (entry.handle, entry.status) = (Some(handle), Status::SUCCESS);
                Status::SUCCESS
            }
            Err(status) => {
                entry.status = status;
                status
            }
        };
        match body {
            // OV2-SA-4: one is enough; else the first entry's cause.
            DirectOid::AddSa(entries) => {
                let statuses: Vec<Status> = entries.iter_mut().map(add).collect();
                if statuses.contains(&Status::SUCCESS) { Status::SUCCESS } else { statuses[0] }
            }
            DirectOid::AddSaEx(entry) => add(entry),
            DirectOid::UpdateSa(update) => match self.table.lock().unwrap().get_mut(&update.handle.to_bits()) {
                Some(sa) => sa.update(update),
                None => Status::INVALID_PARAMETER,
            },
            DirectOid::DeleteSa(handles) => {
                let mut table = self.table.lock().unwrap();
                table.retain(|handle, _| !handles.contains(handle));
                Status::SUCCESS
            }
            DirectOid::Other(_) => Status::NOT_SUPPORTED,
        }
    }

    fn note(&self, body: &DirectOid) {
        let direction = |entry: &AddSaEntry| entry.bundle.as_ref().unwrap().direction;
        self.seen.lock().unwrap().push(match body {
            DirectOid::AddSa(entries) if entries.len() > 1 => Seen::AddList(entries.len()),
            DirectOid::AddSa(entries) => Seen::Add(direction(&entries[0])),
            DirectOid::AddSaEx(entry) => Seen::AddEx(direction(entry)),
            DirectOid::UpdateSa(update) => Seen::Update(update.sequence_number_high),
            DirectOid::DeleteSa(handles) => Seen::Delete(handles.len()),
            DirectOid::Other(_) => return,
        });
    }

    /// Seals a list as a NIC does (OV2-SEND-7); whether it could.
    fn seal(&self, list: &mut NetBufferList) -> bool {
        let (Some(first), tunnel) = (list.oob.offload_handle(), list.oob.tunnel_handle()) else {
            return list.oob.tunnel_handle().is_none();
        };
        let config = self.current.lock().unwrap().ipsec_v2;
        if (!config.esp && !config.ah) || (tunnel.is_some() && !config.transport_tunnel_combined) {
            return false;
        }
        engine::seal(&mut self.table.lock().unwrap(), list, first, tunnel)
    }

    /// Opens a packet as a NIC does (OV2-RECV-5).
    fn open(&self, list: &mut NetBufferList) {
        let (ask, reports) = {
            let mut script = self.script();
            (core::mem::take(&mut script.ask_delete), [script.report, script.report_inner])
        };
        let config = self.current.lock().unwrap().ipsec_v2;
        engine::open(&mut self.table.lock().unwrap(), list, &config, ask, reports);
    }
}

pub struct Driver(pub Arc<Double>);

struct Adapter {
    double: Arc<Double>,
    halted: Arc<AtomicBool>,
}

impl MiniportDriver for Driver {
    fn initialize(&self, keywords: &AdapterKeywords) -> Result<(Box<dyn Miniport>, AdapterAttributes), Status> {
        let mut attributes = self.0.attributes.lock().unwrap().clone().unwrap();
        attributes.default_configuration = attributes.hardware_capabilities.configured(keywords);
        *self.0.current.lock().unwrap() = attributes.default_configuration;
        self.0.table.lock().unwrap().clear();
        Ok((Box::new(Adapter { double: Arc::clone(&self.0), halted: Arc::default() }), attributes))
    }
}

impl Miniport for Adapter {
    fn open_queue(&self) -> Box<dyn MiniportQueue> {
        Box::new(Queue { double: Arc::clone(&self.double), halted: Arc::clone(&self.halted), held: NblBatch::new() })
    }

    fn oid_request(&self, request: &mut OidRequest, up: &mut Upcalls) -> Status {
        match &request.body {
            Oid::SetEncapsulation(_) => {
                self.double.encapsulations.fetch_add(1, Ordering::SeqCst);
                if self.double.script().refuse_encapsulation {
                    return Status::INVALID_PARAMETER;
                }
            }
            Oid::SetParameters(parameters) => {
                let hardware = self.double.attributes.lock().unwrap().as_ref().unwrap().hardware_capabilities;
                let mut current = self.double.current.lock().unwrap();
                match current.apply(parameters, &hardware) {
                    Ok(next) => *current = next,
                    Err(status) => return status,
                }
            }
            other => panic!("{other:?}"),
        }
        up.indications.push(StatusIndication::TaskOffloadCurrentConfig(Box::new(*self.double.current.lock().unwrap())));
        Status::SUCCESS
    }

    fn direct_oid_request(&self, mut request: DirectOidRequest) -> Outcome {
        if self.halted.load(Ordering::SeqCst) {
            return Outcome::Done(Status::NOT_ACCEPTED, request);
        }
        self.double.note(&request.body);
        let answer = {
            let script = self.double.script();
            match request.body {
                DirectOid::UpdateSa(_) => script.update,
                DirectOid::DeleteSa(_) => script.delete,
                _ => script.add,
            }
        };
        match answer {
            Answer::Take => Outcome::Done(self.double.carry_out(&mut request.body), request),
            Answer::Refuse(status) => Outcome::Done(status, request),
            Answer::DoAndPend => {
                let status = self.double.carry_out(&mut request.body);
                self.double.up.lock().unwrap().direct_completions.push((status, request));
                Outcome::Pending
            }
            Answer::Pend => {
                self.double.kept.lock().unwrap().push(request);
                Outcome::Pending
            }
        }
    }

    fn cancel_direct_oid_request(&self, id: RequestId) {
        let mut kept = self.double.kept.lock().unwrap();
        if let Some(at) = kept.iter().position(|request| request.id == id) {
            let request = kept.remove(at);
            self.double.up.lock().unwrap().direct_completions.push((Status::REQUEST_ABORTED, request));
        }
    }

    fn reset(&self, _up: &mut Upcalls) {
        self.double.table.lock().unwrap().clear();
        if !self.double.script().keep_through_reset {
            self.double.answer_kept(Status::REQUEST_ABORTED);
        }
        if !self.double.script().hold_reset {
            self.double.end_reset();
        }
    }

    fn halt(&self, _up: &mut Upcalls) {
        self.halted.store(true, Ordering::SeqCst);
        self.double.table.lock().unwrap().clear();
        self.double.answer_kept(Status::REQUEST_ABORTED);
    }

    fn poll_control(&self, up: &mut Upcalls) {
        let mut waiting = self.double.up.lock().unwrap();
        up.indications.append(&mut waiting.indications);
        up.direct_completions.append(&mut waiting.direct_completions);
    }
}

struct Queue {
    double: Arc<Double>,
    halted: Arc<AtomicBool>,
    held: NblBatch,
}

impl Queue {
    fn finish(&self, mut list: NetBufferList, done: &mut NblBatch, wire: &mut FrameBatch) {
        let fail = {
            let mut script = self.double.script();
            script.sends += usize::from(list.oob.offload_handle().is_some() || !script.fail_offloaded_only);
            let counted = list.oob.offload_handle().is_some() || !script.fail_offloaded_only;
            counted && script.fail_every != 0 && script.sends.is_multiple_of(script.fail_every)
        };
        list.status = if self.halted.load(Ordering::SeqCst) {
            Status::ADAPTER_REMOVED
        } else if fail || !self.double.seal(&mut list) {
            Status::FAILURE
        } else {
            wire.push(list.take_frame());
            Status::SUCCESS
        };
        done.push(list);
    }
}

impl MiniportQueue for Queue {
    fn send(&mut self, _lane: &mut LaneContext<'_>, batch: &mut NblBatch, done: &mut NblBatch, wire: &mut FrameBatch) {
        if self.double.script().hold_sends && !self.halted.load(Ordering::SeqCst) {
            self.held.append(batch);
            return;
        }
        batch.drain(..).for_each(|list| self.finish(list, done, wire));
    }

    fn receive(&mut self, _lane: &mut LaneContext<'_>, frames: &mut FrameBatch, up: &mut NblBatch) {
        for frame in frames.drain(..) {
            let ethernet = self.double.attributes.lock().unwrap().as_ref().unwrap().medium == Medium::Ethernet;
            let mut list = NetBufferList::from_frame(frame, if ethernet { 14 } else { 0 });
            self.double.open(&mut list);
            up.push(list);
        }
    }

    fn poll(&mut self, _lane: &mut LaneContext<'_>, done: &mut NblBatch, wire: &mut FrameBatch) {
        if self.double.script().hold_sends && !self.halted.load(Ordering::SeqCst) {
            return;
        }
        for list in core::mem::take(&mut self.held) {
            self.finish(list, done, wire);
        }
    }
}

/// An SA of these tests.
#[derive(Clone, Debug)]
pub struct Sa {
    pub direction: Direction,
    pub mode: Mode,
    pub source: IpAddress,
    pub destination: IpAddress,
    pub spi: u32,
    pub size: AesKeySize,
    pub icv: u8,
    pub esn: bool,
    pub last: u64,
    pub window: u32,
    pub soft: Limits,
    pub hard: Limits,
    pub offload: OffloadPolicy,
    pub selectors: Vec<Selector>,
}

impl Sa {
    /// A tunnel from A to B.
    pub fn tunnel(direction: Direction) -> Self {
        Self {
            direction,
            mode: Mode::Tunnel,
            source: address(A),
            destination: address(B),
            spi: 0x1001,
            size: AesKeySize::Aes128,
            icv: 16,
            esn: false,
            last: 0,
            window: 64,
            soft: Limits::NONE,
            hard: Limits::NONE,
            offload: OffloadPolicy::Prefer,
            selectors: vec![],
        }
    }

    pub fn transport(direction: Direction) -> Self {
        Self { mode: Mode::Transport, ..Self::tunnel(direction) }
    }

    pub fn spi(self, spi: u32) -> Self {
        Self { spi, ..self }
    }

    pub fn esn(self, last: u64) -> Self {
        Self { esn: true, last, ..self }
    }

    pub fn key(&self) -> SecretBytes {
        let encryption = Encryption::AesGcm(self.size);
        (0..encryption.key_length()).map(|at| at as u8 ^ self.spi as u8).collect::<Vec<_>>().into()
    }

    pub fn parameters(&self) -> SaParameters {
        SaParameters {
            selectors: self.selectors.clone(),
            replay_window: self.window,
            soft_limits: self.soft,
            hard_limits: self.hard,
            offload: self.offload,
            ..SaParameters::new(
                format!("sa-{:x}", self.spi),
                self.direction,
                self.mode,
                (self.source, self.destination),
                vec![AssociationParameters {
                    icv_length: self.icv,
                    extended_sequence_numbers: self.esn,
                    sequence_number_high: (self.last >> 32) as u32,
                    sequence_number: self.last as u32,
                    ..AssociationParameters::esp(Spi(self.spi), Encryption::AesGcm(self.size), self.key())
                }],
            )
        }
    }

    pub fn esp(&self) -> EspSa<Crypto> {
        EspSa::new(
            &Crypto::default(),
            &EspParameters {
                encryption: Encryption::AesGcm(self.size),
                encryption_key: &self.key(),
                icv_length: usize::from(self.icv),
                authentication: Authentication::None,
                authentication_key: &SecretBytes::default(),
                allow_unauthenticated: false,
                extended_sequence_numbers: self.esn,
                iv_mask: 0,
            },
        )
        .unwrap()
    }

    /// The IP packet, built apart from the code under test, that carries `text` (payload, padding, pad length, next header) under `sequence`.
    pub fn seal(&self, sequence: u64, text: &[u8]) -> Vec<u8> {
        let mut esp = vec![0; 16 + text.len() + usize::from(self.icv)];
        esp[..4].copy_from_slice(&self.spi.to_be_bytes());
        esp[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
        esp[16..16 + text.len()].copy_from_slice(text);
        let sa = self.esp();
        let mut jobs = [sa.seal_job(&mut esp, sequence).unwrap()];
        Crypto::default().seal(&mut jobs);
        assert!(jobs[0].verdict.is_good());
        ip(self.source, self.destination, IpProtocol::ESP, &esp)
    }

    /// The same with a whole inner packet and ordinary padding.
    pub fn seal_packet(&self, sequence: u64, payload: &[u8], next_header: u8) -> Vec<u8> {
        let pad = usize::from(ipsec::padding_for(payload.len(), 4));
        let mut text = payload.to_vec();
        text.extend((1..=pad).map(|at| at as u8));
        text.extend([pad as u8, next_header]);
        self.seal(sequence, &text)
    }
}

/// An IP packet.
pub fn ip(source: IpAddress, destination: IpAddress, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let header = if source.is_v4() { 20 } else { 40 };
    let mut packet = vec![0; header + payload.len()];
    match (source.into(), destination.into()) {
        (core::net::IpAddr::V4(source), core::net::IpAddr::V4(destination)) => {
            Ipv4Repr::new(protocol, source, destination, payload.len()).emit(&mut packet).unwrap();
        }
        (core::net::IpAddr::V6(source), core::net::IpAddr::V6(destination)) => {
            Ipv6Repr::new(protocol, source, destination, payload.len()).emit(&mut packet).unwrap();
        }
        _ => panic!("two versions"),
    }
    packet[header..].copy_from_slice(payload);
    packet
}

/// A UDP packet from A's network to B's, with the canary and `number` in it.
pub fn udp(source: &str, destination: &str, number: u32) -> Vec<u8> {
    let mut payload = vec![0; 8];
    payload[..4].copy_from_slice(&[0x13, 0x88, 0x01, 0xbb]);
    payload[4..6].copy_from_slice(&((8 + 4 + CANARY.len()) as u16).to_be_bytes());
    payload.extend(number.to_be_bytes());
    payload.extend(CANARY);
    ip(address(source), address(destination), IpProtocol::UDP, &payload)
}

pub fn inner(number: u32) -> Vec<u8> {
    udp("10.0.1.1", "10.0.2.1", number)
}

pub fn config(clear: ClearPolicy, medium: Medium, capacity: usize) -> TransportConfig {
    TransportConfig { medium, capacity, seed: Seed::new([7; SEED_WORDS]), clear }
}

/// A transport over the double, with one lane.
pub struct Host {
    pub stack: Stack,
    pub registry: Arc<MemoryRegistry>,
    pub nic: Arc<Double>,
    pub transport: Transport,
    pub lane: TransportLane<Crypto>,
    pub path: Datapath,
    pub pool: BufferPool,
    pub now: Time,
    /// What is sent is not encrypted, or not with a counter for IV: it is not looked at for clear text and IVs.
    pub plain: bool,
    /// Every (SPI, IV) that was on the wire.
    pub ivs: HashSet<([u8; 4], [u8; 8])>,
}

#[derive(Clone, Debug)]
pub struct Setup {
    pub capacity: u32,
    pub version: NdisVersion,
    pub medium: Medium,
    pub clear: ClearPolicy,
    pub sas: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self { capacity: 100, version: NdisVersion::V6_30, medium: Medium::Ip, clear: ClearPolicy::Decide, sas: 4096 }
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new(&Setup::default())
    }
}

impl Host {
    pub fn new(setup: &Setup) -> Self {
        Self::with(setup, &Arc::new(MemoryRegistry::new()), |_| {})
    }

    pub fn with(setup: &Setup, registry: &Arc<MemoryRegistry>, script: impl FnOnce(&Double)) -> Self {
        let nic = Arc::new(Double::default());
        *nic.attributes.lock().unwrap() = Some(AdapterAttributes {
            version: setup.version,
            medium: setup.medium,
            mtu: 1500,
            hardware_capabilities: hardware(setup.capacity),
            default_configuration: hardware(setup.capacity),
            direct_requests: true,
            deviates_without_tunnel: false,
        });
        script(&nic);
        let stack = Stack::new(Arc::clone(registry) as _);
        stack.add_adapter(NIC, Arc::new(Driver(Arc::clone(&nic)))).unwrap();
        let transport = Transport::new(config(setup.clear, setup.medium, setup.sas), Crypto::default()).unwrap();
        stack.bind(Arc::new(transport.clone()), NIC).unwrap();
        stack.pump();
        let (path, lane) = (stack.open_datapath(NIC).unwrap(), transport.open_lane());
        Self {
            stack,
            registry: Arc::clone(registry),
            nic,
            transport,
            lane,
            path,
            pool: BufferPool::new(),
            now: Time::from_nanos(1),
            plain: false,
            ivs: HashSet::new(),
        }
    }

    /// A host whose NIC does everything, or nothing.
    pub fn full(offload: bool) -> Self {
        Self::with(&Setup::default(), &Arc::new(MemoryRegistry::new()), |nic| {
            let mut attributes = nic.attributes.lock().unwrap();
            let attributes = attributes.as_mut().unwrap();
            let set = if offload { everything(100) } else { Offload::default() };
            (attributes.hardware_capabilities, attributes.default_configuration) = (set, set);
        })
    }

    /// Adds an SA and a policy for it.
    pub fn add(&self, sa: &Sa) -> Handle {
        let handle = self.transport.add_sa(sa.parameters(), self.now).unwrap();
        self.transport.protect(handle);
        handle
    }

    pub fn reason(&self, sa: Handle) -> OffloadReason {
        self.transport.sa(sa).unwrap().offload
    }

    pub fn events(&self) -> Vec<SaEventKind> {
        self.transport.take_events().into_iter().map(|event| event.kind).collect()
    }

    pub fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Delivers, acts, polls; what goes out by that is returned, looked at.
    pub fn service(&mut self) -> Vec<Vec<u8>> {
        self.wait(Duration::from_micros(10));
        self.stack.pump();
        self.transport.service(self.now);
        let mut wire = FrameBatch::new();
        let mut cx = LaneContext { now: self.now, pool: &mut self.pool };
        self.lane.poll(&mut cx, &mut self.path, &mut wire);
        self.inspect(wire)
    }

    /// Sends packets; what is on the wire afterwards is returned, looked at.
    pub fn send(&mut self, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut frames: FrameBatch = packets.iter().map(|packet| Frame::new(self.pool.copy_from(packet))).collect();
        let mut wire = FrameBatch::new();
        let mut cx = LaneContext { now: self.now, pool: &mut self.pool };
        self.lane.outbound(&mut cx, &mut frames, &mut self.path, &mut wire);
        assert!(frames.is_empty());
        self.inspect(wire)
    }

    /// No clear text, and no IV twice. Buffers go back to the pool.
    pub fn inspect(&mut self, wire: FrameBatch) -> Vec<Vec<u8>> {
        wire.into_iter()
            .map(|frame| {
                let bytes = frame.buffer.as_slice().to_vec();
                self.pool.give(frame.buffer);
                let l3 = if bytes.len() > 14 && bytes[0] >> 4 != 4 && bytes[0] >> 4 != 6 { 14 } else { 0 };
                if !self.plain
                    && let Ok(parsed) = ParsedIp::parse(&bytes[l3..])
                    && parsed.protocol() == IpProtocol::ESP
                {
                    assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY), "clear text on the wire");
                    let esp = parsed.payload(&bytes[l3..]);
                    let iv = (esp[..4].try_into().unwrap(), esp[8..16].try_into().unwrap());
                    assert!(self.ivs.insert(iv), "IV {:02x?} twice", iv.1);
                }
                bytes
            })
            .collect()
    }

    /// Takes frames by way of the NIC.
    pub fn receive(&mut self, frames: &[Vec<u8>]) -> Received {
        let mut frames: FrameBatch = frames.iter().map(|bytes| Frame::new(self.pool.copy_from(bytes))).collect();
        let mut cx = LaneContext { now: self.now, pool: &mut self.pool };
        let mut lists = NblBatch::new();
        self.path.receive(&mut cx, &mut frames, &mut lists);
        self.take(lists)
    }

    /// Takes frames that no NIC has looked at.
    pub fn receive_in_software(&mut self, frames: &[Vec<u8>]) -> Received {
        let lists = frames.iter().map(|bytes| NetBufferList::new(self.pool.copy_from(bytes), 0)).collect();
        self.take(lists)
    }

    pub fn take(&mut self, mut lists: NblBatch) -> Received {
        let mut cx = LaneContext { now: self.now, pool: &mut self.pool };
        let mut out = InboundBatch { report: true, ..InboundBatch::default() };
        self.lane.inbound(&mut cx, &mut lists, &mut out);
        assert!(lists.is_empty());
        let mut bytes = |frames: FrameBatch| {
            frames
                .into_iter()
                .map(|frame| {
                    let bytes = frame.buffer.as_slice().to_vec();
                    self.pool.give(frame.buffer);
                    bytes
                })
                .collect()
        };
        Received { delivered: bytes(out.delivered), passed: bytes(out.passed), verdicts: out.verdicts }
    }

    /// Every packet that was handed in has ended, in one counter.
    pub fn assert_all_ended(&self) {
        for (way, counts) in [("out", self.transport.outbound()), ("in", self.transport.inbound())] {
            assert_eq!(counts.seen.packets, counts.ended(), "{way}: {counts:?}");
            assert_eq!(counts.software.packets, counts.reasons.iter().sum::<u64>(), "{way}: each has one reason: {counts:?}");
        }
    }

    /// Why packets were done in software.
    pub fn reasons(counts: &WayCounts) -> Vec<(PacketReason, u64)> {
        PacketReason::ALL.into_iter().map(|reason| (reason, counts.software_for(reason))).filter(|(_, count)| *count != 0).collect()
    }

    pub fn dropped(counts: &WayCounts) -> Vec<(DropReason, u64)> {
        DropReason::ALL.into_iter().map(|reason| (reason, counts.dropped_for(reason).packets)).filter(|(_, count)| *count != 0).collect()
    }
}

/// What became of received frames.
#[derive(Debug)]
pub struct Received {
    pub delivered: Vec<Vec<u8>>,
    pub passed: Vec<Vec<u8>>,
    pub verdicts: Vec<InboundVerdict>,
}

impl Received {
    pub fn words(&self) -> Vec<String> {
        self.verdicts
            .iter()
            .map(|verdict| match verdict.verdict {
                transport::Verdict::Delivered => "delivered".to_owned(),
                transport::Verdict::Passed => "passed".to_owned(),
                transport::Verdict::Dropped(reason) => reason.to_string(),
            })
            .collect()
    }

    pub fn sequences(&self) -> Vec<u64> {
        self.verdicts.iter().filter_map(|verdict| verdict.associations.first()).map(|seen| seen.sequence).collect()
    }
}
