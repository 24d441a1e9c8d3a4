//! A host with a transport over a mux over two software NICs, and its peer with a NIC of its own.
#![allow(dead_code, unreachable_pub, reason = "each test file takes what it needs")]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipsec::{AesKeySize, Crypto, Encryption};
use mux::{MuxDriver, MuxParameters, Teaming};
use ndis::{
    BindParameters, Binding, Datapath, Direction, LaneContext, MemoryRegistry, MiniportDriver, NblBatch, NdisVersion, Offload, OffloadHandle, Protocol,
    SaBundle, Stack, Status, StatusIndication, UpdateSa,
};
use nic::{Engine, EngineConfig, EngineEvent, EngineQueue, NicDriver, NicParameters, Progress, SoftwareEngine, Token};
use packet::{BufferPool, Frame, FrameBatch, IpAddress, IpProtocol, Ipv4Repr, Medium, Spi, Time};
use sa_table::{Handle, SEED_WORDS, Seed};
use transport::{AssociationParameters, ClearPolicy, InboundBatch, Mode, OffloadReason, SaParameters, Selector, Transport, TransportConfig, TransportLane};

pub const MUX: &str = "mux0";
pub const CANARY: &[u8] = b"clear text that must not be seen on the wire";

/// The software engine, whose answers to additions come by its next poll if it is told so.
pub struct Late {
    engine: SoftwareEngine,
    pub script: Arc<Script>,
    events: Mutex<Vec<EngineEvent>>,
}

#[derive(Default)]
pub struct Script {
    /// Additions pend.
    pub late: std::sync::atomic::AtomicBool,
    /// And polls do not end them.
    pub hold: std::sync::atomic::AtomicBool,
}

impl Engine for Late {
    fn hardware_capabilities(&self) -> Offload {
        self.engine.hardware_capabilities()
    }
    fn configure(&self, config: &EngineConfig) {
        self.engine.configure(config);
    }
    fn add_sa(&self, token: Token, bundle: &SaBundle) -> Progress<Result<OffloadHandle, Status>> {
        let progress = self.engine.add_sa(token, bundle);
        match progress {
            Progress::Done(result) if self.script.late.load(std::sync::atomic::Ordering::SeqCst) => {
                self.events.lock().unwrap().push(EngineEvent::Added { token, result });
                Progress::Pending
            }
            other => other,
        }
    }
    fn update_sa(&self, token: Token, update: &UpdateSa) -> Progress<Status> {
        self.engine.update_sa(token, update)
    }
    fn delete_sa(&self, token: Token, handle: OffloadHandle) -> Progress<()> {
        self.engine.delete_sa(token, handle)
    }
    fn reset(&self, token: Token) -> Progress<()> {
        self.engine.reset(token)
    }
    fn poll(&self, events: &mut Vec<EngineEvent>) {
        self.engine.poll(events);
        if !self.script.hold.load(std::sync::atomic::Ordering::SeqCst) {
            events.append(&mut self.events.lock().unwrap());
        }
    }
    fn request_delete(&self, handle: OffloadHandle) {
        self.engine.request_delete(handle);
    }
    fn queue(&self) -> Box<dyn EngineQueue> {
        self.engine.queue()
    }
}

/// A protocol that writes down what it is told.
#[derive(Default)]
pub struct Listener {
    pub binding: Mutex<Option<(Binding, BindParameters)>>,
    told: Mutex<Vec<StatusIndication>>,
}

impl Listener {
    pub fn binding(&self) -> Binding {
        self.binding.lock().unwrap().as_ref().unwrap().0.clone()
    }

    pub fn take(&self) -> Vec<StatusIndication> {
        core::mem::take(&mut *self.told.lock().unwrap())
    }

    /// The indications as words, each once in a row.
    pub fn words(&self) -> Vec<&'static str> {
        let word = |indication: &StatusIndication| match indication {
            StatusIndication::TaskOffloadCurrentConfig(_) => "current",
            StatusIndication::TaskOffloadHardwareCapabilities(_) => "hardware",
            StatusIndication::ResetStart => "start",
            StatusIndication::ResetEnd => "end",
            StatusIndication::AdapterRemoved => "removed",
        };
        let mut words: Vec<_> = self.take().iter().map(word).collect();
        // A configuration that exceeds new hardware is cut by the stack, and then comes the miniport's own.
        words.dedup();
        words
    }
}

impl Protocol for Listener {
    fn bind(&self, parameters: BindParameters, binding: Binding) {
        *self.binding.lock().unwrap() = Some((binding, parameters));
    }
    fn unbind(&self) {}
    fn status(&self, indication: StatusIndication) {
        self.told.lock().unwrap().push(indication);
    }
    fn direct_oid_complete(&self, _: Status, _: ndis::DirectOidRequest) {}
}

/// One end: a transport with one lane on an adapter.
pub struct End {
    pub stack: Stack,
    pub transport: Transport,
    lane: TransportLane<Crypto>,
    path: Datapath,
    pool: BufferPool,
}

impl End {
    fn new(stack: Stack, adapter: &str) -> Self {
        let config = TransportConfig { medium: Medium::Ip, capacity: 256, seed: Seed::new([3; SEED_WORDS]), clear: ClearPolicy::Decide };
        let transport = Transport::new(config, Crypto::default()).unwrap();
        let protocol: Arc<dyn Protocol> = Arc::new(transport.clone());
        stack.bind(Arc::clone(&protocol), adapter).unwrap();
        let path = stack.open_datapath_of(&protocol, adapter).unwrap();
        let lane = transport.open_lane();
        Self { stack, transport, lane, path, pool: BufferPool::new() }
    }

    pub fn reasons(&self) -> Vec<OffloadReason> {
        self.transport.sas().into_iter().map(|sa| sa.offload).collect()
    }

    pub fn offloaded(&self) -> bool {
        self.reasons().iter().all(|reason| *reason == OffloadReason::Offloaded)
    }

    pub fn send(&mut self, now: Time, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut frames: FrameBatch = packets.iter().map(|packet| Frame::new(self.pool.copy_from(packet))).collect();
        let mut wire = FrameBatch::new();
        self.lane.outbound(&mut LaneContext { now, pool: &mut self.pool }, &mut frames, &mut self.path, &mut wire);
        wire.into_iter().map(|frame| frame.buffer.as_slice().to_vec()).collect()
    }

    pub fn service(&mut self, now: Time) -> Vec<Vec<u8>> {
        self.path.idle();
        self.stack.pump();
        self.transport.service(now);
        let mut wire = FrameBatch::new();
        self.lane.poll(&mut LaneContext { now, pool: &mut self.pool }, &mut self.path, &mut wire);
        wire.into_iter().map(|frame| frame.buffer.as_slice().to_vec()).collect()
    }

    pub fn receive(&mut self, now: Time, wire: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut frames: FrameBatch = wire.iter().map(|packet| Frame::new(self.pool.copy_from(packet))).collect();
        let (mut lists, mut out) = (NblBatch::new(), InboundBatch { report: true, ..InboundBatch::default() });
        let mut cx = LaneContext { now, pool: &mut self.pool };
        self.path.receive(&mut cx, &mut frames, &mut lists);
        self.lane.inbound(&mut cx, &mut lists, &mut out);
        assert!(out.passed.is_empty());
        out.delivered.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect()
    }

    pub fn backlog(&self) -> usize {
        self.lane.backlog()
    }
}

/// The host with the mux, and its peer.
pub struct Pair {
    pub a: End,
    pub b: End,
    pub mux: MuxDriver,
    pub nics: Vec<Arc<NicDriver<Late>>>,
    pub scripts: Vec<Arc<Script>>,
    pub listener: Arc<Listener>,
    pub now: Time,
    ivs: HashSet<([u8; 4], [u8; 8])>,
    next: u32,
}

/// What a member can do.
#[derive(Clone, Copy)]
pub struct Card {
    pub version: NdisVersion,
    pub hardware: Offload,
}

impl Card {
    pub fn new(capacity: u32) -> Self {
        Self { version: NdisVersion::V6_30, hardware: nic::software_capabilities(capacity) }
    }
}

pub fn nic_name(member: usize) -> String {
    format!("nic{member}")
}

impl Pair {
    pub fn new(teaming: Teaming) -> Self {
        Self::with(teaming, NdisVersion::V6_30, &[Card::new(64), Card::new(64)])
    }

    pub fn with(teaming: Teaming, version: NdisVersion, cards: &[Card]) -> Self {
        let stack = Stack::new(Arc::new(MemoryRegistry::new()));
        let parameters = MuxParameters { teaming, version, medium: Medium::Ip, members: cards.len(), capacity: 256, ..MuxParameters::new(MUX) };
        let mux = MuxDriver::new(parameters, Seed::new([5; SEED_WORDS])).unwrap();
        let (mut nics, mut scripts) = (Vec::new(), Vec::new());
        for (member, card) in cards.iter().enumerate() {
            let script = Arc::new(Script::default());
            let nic = Arc::new(card_driver(member, *card, &script));
            stack.add_adapter(&nic_name(member), Arc::clone(&nic) as Arc<dyn MiniportDriver>).unwrap();
            stack.bind(mux.member(member).unwrap(), &nic_name(member)).unwrap();
            nics.push(nic);
            scripts.push(script);
        }
        stack.add_adapter(MUX, Arc::new(mux.clone())).unwrap();
        let listener = Arc::new(Listener::default());
        stack.bind(Arc::clone(&listener) as Arc<dyn Protocol>, MUX).unwrap();
        let a = End::new(stack, MUX);
        let peer = Stack::new(Arc::new(MemoryRegistry::new()));
        let driver = NicDriver::new(NicParameters { medium: Medium::Ip, ..NicParameters::new("peer") }, SoftwareEngine::default);
        peer.add_adapter("peer", Arc::new(driver)).unwrap();
        let b = End::new(peer, "peer");
        let mut pair = Self { a, b, mux, nics, scripts, listener, now: Time::from_nanos(1), ivs: HashSet::new(), next: 0 };
        pair.settle();
        pair.listener.take();
        pair
    }

    /// Puts the adapter of a member, which was removed, back.
    pub fn put_back(&mut self, member: usize) {
        let nic = Arc::clone(&self.nics[member]);
        self.a.stack.add_adapter(&nic_name(member), nic).unwrap();
        self.a.stack.bind(self.mux.member(member).unwrap(), &nic_name(member)).unwrap();
    }

    /// Adds a connection: `number` tells connections apart.
    pub fn connect(&mut self, number: u8, esn: bool) -> [Handle; 2] {
        let (a, b): (IpAddress, IpAddress) = ("192.0.2.1".parse().unwrap(), format!("192.0.2.{}", 100 + number).parse().unwrap());
        let parameters = |direction, from_a: bool| {
            let spi = Spi(0x1000 + u32::from(number) * 2 + u32::from(from_a));
            let key: Vec<u8> = (0..20).map(|at| at ^ spi.0 as u8 ^ 0x5A).collect();
            let association =
                AssociationParameters { extended_sequence_numbers: esn, ..AssociationParameters::esp(spi, Encryption::AesGcm(AesKeySize::Aes128), key.into()) };
            let (source, destination) = if from_a { (a, b) } else { (b, a) };
            let (near, far): (IpAddress, IpAddress) = ("10.0.1.1".parse().unwrap(), format!("10.0.2.{number}").parse().unwrap());
            let (from, to) = if from_a { (near, far) } else { (far, near) };
            SaParameters {
                selectors: vec![Selector::between(from, to)],
                iv_mask: 0x00C0_FFEE,
                replay_window: 256,
                ..SaParameters::new(format!("{number}-{from_a}"), direction, Mode::Tunnel, (source, destination), vec![association])
            }
        };
        let now = self.now;
        let add = |end: &End, direction, from_a| {
            let sa = end.transport.add_sa(parameters(direction, from_a), now).unwrap();
            end.transport.protect(sa);
            sa
        };
        let sas = [add(&self.a, Direction::Outbound, true), add(&self.a, Direction::Inbound, false)];
        add(&self.b, Direction::Inbound, true);
        add(&self.b, Direction::Outbound, false);
        self.settle();
        sas
    }

    pub fn settle(&mut self) {
        for _ in 0..4 {
            let wire = self.service();
            assert!(wire.is_empty(), "something waited");
        }
    }

    /// Lets both do what is due; what a sends by that.
    pub fn service(&mut self) -> Vec<Vec<u8>> {
        self.now = self.now + Duration::from_millis(1);
        let wire = self.a.service(self.now);
        self.inspect(&wire);
        assert!(self.b.service(self.now).is_empty());
        wire
    }

    pub fn packets(&mut self, connection: u8, from_a: bool, count: usize) -> Vec<Vec<u8>> {
        (0..count)
            .map(|_| {
                self.next += 1;
                let mut packet = vec![0; 20 + 4 + CANARY.len()];
                let (near, far) = ("10.0.1.1".parse().unwrap(), format!("10.0.2.{connection}").parse().unwrap());
                let (source, destination) = if from_a { (near, far) } else { (far, near) };
                Ipv4Repr::new(IpProtocol(253), source, destination, packet.len() - 20).emit(&mut packet).unwrap();
                packet[20..24].copy_from_slice(&self.next.to_be_bytes());
                packet[24..].copy_from_slice(CANARY);
                packet
            })
            .collect()
    }

    /// No clear text, no IV twice, and a link for every frame.
    pub fn inspect(&mut self, wire: &[Vec<u8>]) {
        for frame in wire {
            assert!(!frame.windows(CANARY.len()).any(|window| window == CANARY), "clear text on the wire");
            let iv = (frame[20..24].try_into().unwrap(), frame[28..36].try_into().unwrap());
            assert!(self.ivs.insert(iv), "IV {iv:02x?} twice");
        }
    }

    /// Sends from a; what is on the wire, looked at.
    pub fn send(&mut self, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let wire = self.a.send(self.now, packets);
        self.inspect(&wire);
        wire
    }

    /// Sends both ways and wants everything back as it was, and in order.
    pub fn exchange(&mut self, connection: u8, count: usize) {
        let packets = self.packets(connection, true, count);
        let wire = self.send(&packets);
        assert_eq!(self.b.receive(self.now, &wire), packets);
        self.back(connection, count);
    }

    /// Sends from the peer.
    pub fn back(&mut self, connection: u8, count: usize) {
        let packets = self.packets(connection, false, count);
        let wire = self.b.send(self.now, &packets);
        self.inspect(&wire);
        assert_eq!(self.a.receive(self.now, &wire), packets);
    }

    /// Packets that a's transport gave the adapter to protect, and that it protected itself.
    pub fn protected(&self) -> (u64, u64) {
        let counts = self.a.transport.outbound();
        (counts.offloaded.packets, counts.software.packets)
    }

    /// SAs that a member's NIC has by its own count.
    pub fn held(&self, member: usize) -> u64 {
        let counters = self.nics[member].counters();
        counters.sas_added - counters.sas_deleted
    }

    pub fn assert_all_ended(&self) {
        for end in [&self.a, &self.b] {
            for counts in [end.transport.outbound(), end.transport.inbound()] {
                assert_eq!(counts.seen.packets, counts.ended());
                assert_eq!(counts.dropped_total().packets, 0, "{counts:?}");
            }
        }
    }
}

fn card_driver(member: usize, card: Card, script: &Arc<Script>) -> NicDriver<Late> {
    let parameters = NicParameters { medium: Medium::Ip, version: card.version, ..NicParameters::new(nic_name(member)) };
    let script = Arc::clone(script);
    NicDriver::new(parameters, move || Late {
        engine: SoftwareEngine::with_hardware(Crypto::default(), &card.hardware).unwrap(),
        script: Arc::clone(&script),
        events: Mutex::default(),
    })
}
