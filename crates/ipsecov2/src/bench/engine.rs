//! The software NIC, and whole hosts: everything that this module uses of the stack's public interface is here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipsec::{Crypto, Suite};
use ndis::{
    AddSaEntry, Associations, BindParameters, Binding, Datapath, DirectAnswer, DirectOid, DirectOidRequest, Direction, Encapsulation, Endpoints,
    EspAssociation, IpsecSetting, Keyed, LaneContext, MemoryRegistry, MiniportDriver, NblBatch, NetBufferList, OffloadEncapsulation, OffloadHandle,
    OffloadParameters, Protocol, SaBundle, SaExtension, SetEncapsulation, Stack, Status, StatusIndication,
};
use nic::{NicDriver, NicParameters, SoftwareEngine};
use packet::{BufferPool, Frame, FrameBatch, Medium, Time};
use transport::{AssociationParameters, InboundBatch, Mode, OffloadReason, SaParameters, Selector, WayCounts};

use super::packets::{ENDS, LINK, Picker, Template, address, destination, spi};
use super::provider::SaSet;
use super::suite::{Keys, contract_authentication, contract_encryption, icv_length};
use super::{BenchError, Clock, Way};
use crate::host::{ADAPTER, HostConfig, HostControl, HostLane};

/// SAs of one direction, as a NIC or a host is to have them.
#[derive(Clone, Copy)]
pub(super) struct SaPlan {
    pub(super) crypto: Crypto,
    pub(super) suite: Suite,
    pub(super) count: u32,
    pub(super) direction: Direction,
    /// Bytes of inner packets.
    pub(super) bytes: usize,
}

impl SaPlan {
    /// Bytes of the longest IP packet there is.
    fn mtu(&self) -> u32 {
        (self.bytes as u32 + 256).max(1500)
    }

    /// Places in tables.
    fn capacity(&self) -> u32 {
        self.count.max(1024)
    }

    fn bundle(&self, number: u32) -> SaBundle {
        let keys = Keys::new(self.suite, number);
        let additional_info = if self.suite.encryption().is_combined() { icv_length(self.suite) as u32 } else { 0 };
        let authentication =
            contract_authentication(self.suite.authentication()).map(|algorithm| Keyed { algorithm, key: keys.authentication, additional_info: 0 });
        SaBundle {
            direction: self.direction,
            endpoints: Endpoints { ipv6: false, source: Some(ENDS[0].into()), destination: Some(ENDS[1].into()) },
            udp_esp: None,
            associations: Associations::Esp(EspAssociation {
                spi: spi(number),
                extended_sequence_numbers: false,
                sequence_number_high: 0,
                encryption: Keyed { algorithm: contract_encryption(self.suite.encryption()), key: keys.encryption, additional_info },
                authentication,
            }),
            extension: SaExtension::default(),
        }
    }

    fn parameters(&self, number: u32) -> SaParameters {
        let keys = Keys::new(self.suite, number);
        SaParameters {
            // What is sent to one address each; a single SA has a range, so that its policy, too, looks at packets.
            selectors: vec![if self.count == 1 { selector(destination(0), destination(u32::MAX)) } else { selector(destination(number), destination(number)) }],
            ..SaParameters::new(
                format!("bench-{number}"),
                self.direction,
                Mode::Tunnel,
                (address(ENDS[0]), address(ENDS[1])),
                vec![AssociationParameters {
                    icv_length: icv_length(self.suite) as u8,
                    authentication: self.suite.authentication(),
                    authentication_key: keys.authentication,
                    ..AssociationParameters::esp(spi(number), self.suite.encryption(), keys.encryption)
                }],
            )
        }
    }
}

fn selector(first: [u8; 4], last: [u8; 4]) -> Selector {
    Selector { destination: transport::AddressRange::new(address(first), address(last)), ..Selector::ANY }
}

/// A software NIC in a stack without a transport.
pub(super) struct Nic {
    stack: Stack,
    sas: Arc<Vec<OffloadHandle>>,
}

/// A protocol that does nothing but offload SAs.
#[derive(Default)]
struct Owner(Mutex<Option<Binding>>);

impl Protocol for Owner {
    fn bind(&self, _: BindParameters, binding: Binding) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(binding);
    }

    fn unbind(&self) {}

    fn status(&self, _: StatusIndication) {}

    fn direct_oid_complete(&self, _: Status, _: DirectOidRequest) {}
}

impl Nic {
    /// A NIC that has the SAs.
    pub(super) fn new(plan: SaPlan) -> Result<Self, BenchError> {
        let stack = Stack::new(Arc::new(MemoryRegistry::new()));
        let parameters = NicParameters { mtu: plan.mtu(), ..NicParameters::new(ADAPTER) };
        let (crypto, capacity) = (plan.crypto, plan.capacity());
        // Asked once here, so that the factory, which cannot fail, does not meet a capacity that is refused.
        SoftwareEngine::new(crypto, capacity)?;
        let engine = move || SoftwareEngine::new(crypto, capacity).expect("this capacity was taken before");
        stack.add_adapter(ADAPTER, Arc::new(NicDriver::new(parameters, engine)) as Arc<dyn MiniportDriver>)?;
        let owner = Arc::new(Owner::default());
        stack.bind(Arc::clone(&owner) as Arc<dyn Protocol>, ADAPTER)?;
        let binding = owner.0.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(BenchError::Impossible("an adapter that does not bind"))?;
        let on = SetEncapsulation::On { encapsulation: Encapsulation::IEEE_802_3, header_size: LINK.len() as u32 };
        let status = binding.set_encapsulation(OffloadEncapsulation { ipv4: on, ipv6: on });
        if status != Status::SUCCESS {
            return Err(BenchError::NicRefuses(status));
        }
        stack.pump();
        let mut sas = Vec::with_capacity(plan.count as usize);
        for number in 0..plan.count {
            match binding.direct_oid_request(DirectOid::AddSaEx(Box::new(AddSaEntry::new(plan.bundle(number))))) {
                DirectAnswer::Done(Status::SUCCESS, DirectOid::AddSaEx(entry)) => sas.extend(entry.handle),
                DirectAnswer::Done(status, _) => return Err(BenchError::NicRefuses(status)),
                DirectAnswer::Pending(_) => return Err(BenchError::NicRefuses(Status::PENDING)),
            }
        }
        if sas.len() != plan.count as usize {
            return Err(BenchError::Impossible("an SA without handle"));
        }
        Ok(Self { stack, sas: Arc::new(sas) })
    }

    /// A worker's way of framed packets to the wire. Its numbers begin with `sequence`.
    pub(super) fn sender(&self, template: Arc<Template>, picker: Picker, sequence: u32, batch: usize) -> Result<NicSend, BenchError> {
        let mut pool = BufferPool::new();
        let wire = (0..batch).map(|_| Frame::new(pool.copy_from(&template.frame))).collect();
        let (path, sas) = (self.stack.open_datapath(ADAPTER)?, Arc::clone(&self.sas));
        Ok(NicSend { path, pool, sas, template, picker, sequence, wire, batch: NblBatch::new(), done: NblBatch::new() })
    }

    /// A worker's way of sealed frames from the wire.
    pub(super) fn receiver(&self, sender: Sender, batch: usize) -> Result<NicReceive, BenchError> {
        let mut pool = BufferPool::new();
        let arrived = (0..batch).map(|_| Frame::new(pool.copy_from(&sender.template.frame))).collect();
        Ok(NicReceive { path: self.stack.open_datapath(ADAPTER)?, pool, sender, arrived, up: NblBatch::new() })
    }
}

/// Framed packets through the stack and the NIC's send engine to the wire.
pub(super) struct NicSend {
    path: Datapath,
    pool: BufferPool,
    sas: Arc<Vec<OffloadHandle>>,
    template: Arc<Template>,
    picker: Picker,
    sequence: u32,
    wire: FrameBatch,
    batch: NblBatch,
    done: NblBatch,
}

impl Way for NicSend {
    fn batch(&mut self, clock: &Clock) -> Result<Duration, BenchError> {
        let Self { path, pool, sas, template, picker, sequence, wire, batch, done } = self;
        let packets = wire.len();
        for mut frame in wire.drain(..) {
            let (_, number) = picker.pick();
            template.fill_framed(frame.buffer.as_mut_slice(), number, *sequence)?;
            *sequence = sequence.wrapping_add(1);
            let mut list = NetBufferList::from_frame(frame, LINK.len() as u16);
            list.oob.set_offload_handle(sas.get(number as usize).copied());
            list.oob.set_header_transmit(template.header);
            batch.push(list);
        }
        let mut lane = LaneContext { now: Time::ZERO, pool };
        let time = clock.time(|| path.send(&mut lane, batch, done, wire));
        BenchError::unless_all(packets, done.iter().filter(|list| list.status.is_success()).count().min(wire.len()))?;
        done.clear();
        Ok(time)
    }
}

/// What a worker receives comes from here, without any of the ways that are measured.
pub(super) struct Sender {
    pub(super) sas: Arc<SaSet>,
    pub(super) template: Arc<Template>,
    pub(super) picker: Picker,
    /// Numbers used, of each SA of the picker.
    sequences: Vec<u32>,
    packets: Vec<(u32, u32)>,
}

impl Sender {
    pub(super) fn new(sas: Arc<SaSet>, template: Arc<Template>, picker: Picker) -> Self {
        let sequences = vec![0; picker.numbers().len()];
        Self { sas, template, picker, sequences, packets: Vec::new() }
    }

    /// Makes sealed packets of frames, with the next numbers.
    fn fill(&mut self, frames: &mut FrameBatch) -> Result<(), BenchError> {
        let Self { sas, template, picker, sequences, packets } = self;
        packets.clear();
        for frame in frames.iter_mut() {
            let (place, number) = picker.pick();
            let sequence = sequences.get_mut(place).ok_or(BenchError::Impossible("no SA of this number"))?;
            *sequence = sequence.checked_add(1).ok_or(BenchError::Impossible("a sequence number beyond 32 bits: fewer rounds will do"))?;
            template.fill_framed(frame.buffer.as_mut_slice(), number, *sequence)?;
            packets.push((number, *sequence));
        }
        sas.seal(packets.iter().zip(frames).map(|(&(number, sequence), frame)| (number, sequence, frame.buffer.as_mut_slice())))
    }
}

/// Frames from the wire through the NIC's receive engine and up the stack.
pub(super) struct NicReceive {
    path: Datapath,
    pool: BufferPool,
    sender: Sender,
    arrived: FrameBatch,
    up: NblBatch,
}

impl Way for NicReceive {
    fn batch(&mut self, clock: &Clock) -> Result<Duration, BenchError> {
        let Self { path, pool, sender, arrived, up } = self;
        let packets = arrived.len();
        sender.fill(arrived)?;
        let mut lane = LaneContext { now: Time::ZERO, pool };
        let time = clock.time(|| path.receive(&mut lane, arrived, up));
        BenchError::unless_all(packets, up.iter().filter(|list| list.oob.header_receive().is_some()).count())?;
        arrived.extend(up.drain(..).map(|mut list| list.take_frame()));
        Ok(time)
    }
}

/// A host of which every worker has a lane.
pub(super) struct Whole {
    host: HostControl,
    plan: SaPlan,
    offload: bool,
    shared: bool,
    /// Packets that workers have put on the wire.
    reached: Arc<AtomicU64>,
}

impl Whole {
    /// A host with the SAs, which its NIC has, too, if `offload`; `shared`: several workers send under them.
    pub(super) fn new(plan: SaPlan, offload: bool, shared: bool) -> Result<Self, BenchError> {
        let config = HostConfig { medium: Medium::Ethernet, crypto: plan.crypto, capacity: plan.capacity() as usize, mtu: plan.mtu(), ..HostConfig::default() }
            .with_nic_capacity(plan.capacity());
        let host = HostControl::new(&config)?;
        if shared {
            host.share_lanes()?;
        }
        if !offload {
            let status = host.operator().set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled));
            if status != Status::SUCCESS {
                return Err(BenchError::NicRefuses(status));
            }
            host.service(Time::ZERO);
        }
        for number in 0..plan.count {
            host.add_sa(plan.parameters(number), Time::ZERO)?;
        }
        host.service(Time::ZERO);
        if let Some(sa) = host.transport().sas().into_iter().find(|sa| (sa.offload == OffloadReason::Offloaded) != offload) {
            return Err(BenchError::Offload { wanted: offload, reason: sa.offload.to_string() });
        }
        Ok(Self { host, plan, offload, shared, reached: Arc::default() })
    }

    /// A worker's way of plain packets to the wire.
    pub(super) fn sender(&self, template: Arc<Template>, picker: Picker, batch: usize) -> Result<Outbound, BenchError> {
        let (frames, wire, sent) = (FrameBatch::new(), FrameBatch::new(), FrameBatch::new());
        let (lane, reached) = (self.host.open_lane()?, Arc::clone(&self.reached));
        Ok(Outbound { lane, template, picker, size: batch, shared: self.shared, frames, wire, sent, reached })
    }

    /// A worker's way of packets from the wire to plain ones.
    pub(super) fn receiver(&self, sender: Sender, batch: usize) -> Result<Inbound, BenchError> {
        let (frames, out) = (FrameBatch::new(), InboundBatch::default());
        Ok(Inbound { lane: self.host.open_lane()?, sender, size: batch, frames, out })
    }

    /// Checks that every packet was protected, or opened, by whom it should, and reached the wire.
    pub(super) fn check(&self) -> Result<(), BenchError> {
        let (transport, outbound) = (self.host.transport(), self.plan.direction == Direction::Outbound);
        let WayCounts { seen, offloaded, software, .. } = if outbound { transport.outbound() } else { transport.inbound() };
        let counted = if self.offload { offloaded } else { software };
        if counted.packets != seen.packets {
            return Err(BenchError::Elsewhere { offload: self.offload, packets: seen.packets, counted: counted.packets });
        }
        let reached = self.reached.load(Ordering::Relaxed);
        if outbound && reached != seen.packets { Err(BenchError::Impossible("packets that did not reach the wire")) } else { Ok(()) }
    }
}

/// The whole way out: policy, SA, numbers, headers, stack and NIC; or, without offload, cryptography by the transport.
pub(super) struct Outbound {
    lane: HostLane,
    template: Arc<Template>,
    picker: Picker,
    size: usize,
    /// Other workers send under the same SAs.
    shared: bool,
    frames: FrameBatch,
    wire: FrameBatch,
    sent: FrameBatch,
    reached: Arc<AtomicU64>,
}

impl Way for Outbound {
    fn batch(&mut self, clock: &Clock) -> Result<Duration, BenchError> {
        let Self { lane, template, picker, size, shared, frames, wire, sent, reached } = self;
        for _ in 0..*size {
            let mut buffer = lane.pool().take(template.frame.len());
            template.fill_plain(buffer.as_mut_slice(), picker.pick().1)?;
            frames.push(Frame::new(buffer));
        }
        let time = clock.time(|| {
            lane.send(Time::ZERO, frames, wire);
            // What is sent once, as nearly always, is not moved.
            lane.transmit(wire, |_, frames| if sent.is_empty() { core::mem::swap(sent, frames) } else { sent.append(frames) });
        });
        // Some of them may be sent by another worker, whose turn comes before, and with some of its own.
        BenchError::unless_all(*size, if *shared { *size } else { sent.len() })?;
        reached.fetch_add(sent.len() as u64, Ordering::Relaxed);
        for frame in sent.drain(..) {
            lane.pool().give(frame.buffer);
        }
        Ok(time)
    }
}

/// The whole way in: NIC and stack, or cryptography by the transport; replay, headers off, policy.
pub(super) struct Inbound {
    lane: HostLane,
    sender: Sender,
    size: usize,
    frames: FrameBatch,
    out: InboundBatch,
}

impl Way for Inbound {
    fn batch(&mut self, clock: &Clock) -> Result<Duration, BenchError> {
        let Self { lane, sender, size, frames, out } = self;
        for _ in 0..*size {
            frames.push(Frame::new(lane.pool().take(sender.template.frame.len())));
        }
        sender.fill(frames)?;
        let mut lost = 0;
        let time = clock.time(|| lost = lane.receive(Time::ZERO, frames, out));
        BenchError::unless_all(*size, out.delivered.len().saturating_sub(lost))?;
        for frame in out.delivered.drain(..) {
            lane.pool().give(frame.buffer);
        }
        Ok(time)
    }
}
