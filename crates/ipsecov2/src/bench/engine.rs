//! The software NIC, and whole hosts: everything that this module uses of the stack's public interface is here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ipsec::{Crypto, Suite};
use ndis::{
    AddSaEntry, Associations, BindParameters, Binding, Datapath, DirectAnswer, DirectOid, DirectOidRequest, Direction, Encapsulation, Endpoints,
    EspAssociation, HeaderTransmit, IpsecSetting, Keyed, LaneContext, MiniportDriver, NblBatch, NdisVersion, NetBufferList, OffloadEncapsulation,
    OffloadHandle, OffloadParameters, Protocol, SaBundle, SaExtension, SetEncapsulation, Stack, Status, StatusIndication,
};
use nic::{NicDriver, NicParameters, SoftwareEngine};
use packet::{BufferPool, Frame, FrameBatch, IpProtocol, Medium, Time};
use transport::{Action, AddressRange, AssociationParameters, InboundBatch, Mode, OffloadReason, Policy, PortRange, SaParameters, Selector, Spd, WayCounts};

use super::packets::{ENDS, LINK, Picker, SOURCES, Template, address, destination, spi};
use super::provider::SaSet;
use super::suite::{Keys, contract_authentication, contract_encryption, icv_length};
use super::{BenchError, Watch, Way};
use crate::host::{ADAPTER, HostConfig, HostControl, HostLane};
use crate::profile::Profile;

/// SAs of one direction, as a NIC or a host is to have them.
#[derive(Clone, Copy)]
pub(super) struct SaPlan<'p> {
    /// Whether the NIC does checksums, too.
    pub(super) checksums: bool,
    /// The NIC; `None`: the software NIC, with as many places as there are SAs.
    pub(super) profile: Option<&'p Profile>,
    pub(super) crypto: Crypto,
    pub(super) suite: Suite,
    pub(super) count: u32,
    pub(super) direction: Direction,
    /// Bytes of inner packets.
    pub(super) bytes: usize,
}

impl SaPlan<'_> {
    /// The host that is to have these SAs.
    fn host(&self) -> HostConfig {
        let config = HostConfig { crypto: self.crypto, capacity: self.capacity() as usize, mtu: self.mtu(), ..HostConfig::default() };
        let config = match self.profile {
            Some(profile) => config.with_profile(profile),
            None => config.with_nic_capacity(self.capacity()),
        };
        if self.checksums { config } else { config.without_checksums() }
    }

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

    pub(super) fn parameters(&self, number: u32) -> SaParameters {
        let keys = Keys::new(self.suite, number);
        SaParameters {
            // What is sent to one address each, or of a single SA to a network.
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

/// From the network of the senders to these addresses.
fn selector(first: [u8; 4], last: [u8; 4]) -> Selector {
    let range = |first, last| AddressRange::new(address(first), address(last));
    Selector { source: range(SOURCES[0], SOURCES[1]), destination: range(first, last), ..Selector::ANY }
}

/// IKE goes by, both ways: what a gateway's policies begin with.
fn bypass_ike(spd: &mut Spd) {
    for direction in [Direction::Outbound, Direction::Inbound] {
        for port in [500, 4500] {
            let selector = Selector { protocol: Some(IpProtocol::UDP), destination_port: PortRange { first: port, last: port }, ..Selector::ANY };
            spd.push(Policy { direction, selectors: vec![selector], action: Action::Bypass });
        }
    }
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
    pub(super) fn new(plan: SaPlan<'_>) -> Result<Self, BenchError> {
        let HostConfig { version, hardware, deviates_without_tunnel, mtu, registry, .. } = plan.host();
        let stack = Stack::new(registry);
        let parameters = NicParameters { version, mtu, deviates_without_tunnel, ..NicParameters::new(ADAPTER) };
        let crypto = plan.crypto;
        // Asked once here, so that the factory, which cannot fail, does not meet a capacity that is refused.
        SoftwareEngine::with_hardware(crypto, &hardware)?;
        let engine = move || SoftwareEngine::with_hardware(crypto, &hardware).expect("this capacity was taken before");
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
            let entry = AddSaEntry::new(plan.bundle(number));
            // Which request it is depends on the NDIS version (OV2-SA-1).
            let request = if version >= NdisVersion::V6_30 { DirectOid::AddSaEx(Box::new(entry)) } else { DirectOid::AddSa(vec![entry]) };
            match binding.direct_oid_request(request) {
                DirectAnswer::Done(Status::SUCCESS, DirectOid::AddSaEx(entry)) => sas.extend(entry.handle),
                DirectAnswer::Done(Status::SUCCESS, DirectOid::AddSa(entries)) => sas.extend(entries.into_iter().filter_map(|entry| entry.handle)),
                DirectAnswer::Done(status, _) => return Err(BenchError::NicRefuses(status)),
                DirectAnswer::Pending(_) => return Err(BenchError::NicRefuses(Status::PENDING)),
            }
        }
        if sas.len() != plan.count as usize {
            return Err(BenchError::Impossible("an SA without handle"));
        }
        Ok(Self { stack, sas: Arc::new(sas) })
    }

    /// A worker's way of what it sends to the wire. Its numbers begin with `sequence`; `opener` proves that packets are sealed.
    pub(super) fn sender<L>(&self, load: Arc<L>, picker: Picker, sequence: u32, size: usize, opener: Arc<SaSet>) -> Result<NicSend<L>, BenchError> {
        let supply = Supply { pool: BufferPool::new(), picker, sequence, wire: FrameBatch::new(), sas: Arc::clone(&self.sas) };
        let (path, ready, done, proof) = (self.stack.open_datapath(ADAPTER)?, Vec::new(), NblBatch::new(), Proof::new(opener));
        Ok(NicSend { path, load, supply, size, ready, done, proof })
    }

    /// A worker's way of sealed frames from the wire.
    pub(super) fn receiver(&self, sender: Sender, size: usize) -> Result<NicReceive, BenchError> {
        let (path, pool) = (self.stack.open_datapath(ADAPTER)?, BufferPool::new());
        Ok(NicReceive { path, pool, sender, size, arrived: FrameBatch::new(), ready: Vec::new(), up: NblBatch::new() })
    }
}

/// Opens a packet of those that a way has put on the wire, when it is asked to.
struct Proof {
    opener: Arc<SaSet>,
    wanted: bool,
}

impl Proof {
    const fn new(opener: Arc<SaSet>) -> Self {
        Self { opener, wanted: true }
    }

    fn see(&mut self, wire: &FrameBatch) -> Result<(), BenchError> {
        if !core::mem::take(&mut self.wanted) {
            return Ok(());
        }
        // The first and the last, which are of different batches if there are several.
        wire.first().into_iter().chain(wire.last()).try_for_each(|frame| frame.packets().next().map_or(Ok(()), |packet| self.opener.prove(packet)))
    }
}

/// So many batches, made ready one after the other; those used before are filled again.
fn make_ready<T: Default>(ready: &mut Vec<T>, count: usize, mut fill: impl FnMut(&mut T) -> Result<(), BenchError>) -> Result<(), BenchError> {
    ready.resize_with(count.max(ready.len()), T::default);
    ready.iter_mut().take(count).try_for_each(&mut fill)
}

/// What lists are made of.
pub(super) struct Supply {
    pub(super) pool: BufferPool,
    pub(super) picker: Picker,
    pub(super) sequence: u32,
    /// What was sent before.
    pub(super) wire: FrameBatch,
    sas: Arc<Vec<OffloadHandle>>,
}

impl Supply {
    /// Puts into a list which SA it is for, and where the headers are.
    pub(super) fn address(&self, list: &mut NetBufferList, number: u32, header: HeaderTransmit) {
        list.oob.set_offload_handle(self.sas.get(number as usize).copied());
        list.oob.set_header_transmit(header);
    }
}

/// What is sent, packet by packet or as large packets.
pub(super) trait Load: Send + Sync {
    /// Puts lists of `size` packets into a batch.
    fn fill(&self, supply: &mut Supply, size: usize, batch: &mut NblBatch) -> Result<(), BenchError>;
}

impl Load for Template {
    fn fill(&self, supply: &mut Supply, size: usize, batch: &mut NblBatch) -> Result<(), BenchError> {
        for _ in 0..size {
            // What was sent before is sent again.
            let mut frame = supply.wire.pop().unwrap_or_else(|| Frame::new(supply.pool.copy_from(&self.frame)));
            let pick = supply.picker.pick();
            self.fill_framed(frame.buffer.as_mut_slice(), pick, supply.sequence);
            supply.sequence = supply.sequence.wrapping_add(1);
            let mut list = NetBufferList::from_frame(frame, LINK.len() as u16);
            supply.address(&mut list, pick.number, self.header);
            batch.push(list);
        }
        Ok(())
    }
}

/// Lists through the stack and the NIC's send engine to the wire.
pub(super) struct NicSend<L> {
    path: Datapath,
    load: Arc<L>,
    supply: Supply,
    /// Packets in a batch.
    size: usize,
    ready: Vec<NblBatch>,
    done: NblBatch,
    proof: Proof,
}

impl<L: Load> Way for NicSend<L> {
    fn batches(&mut self, count: usize, watch: Watch<'_>) -> Result<(), BenchError> {
        let Self { path, load, supply, size, ready, done, proof } = self;
        make_ready(ready, count, |batch| load.fill(supply, *size, batch))?;
        let Supply { pool, wire, .. } = supply;
        wire.clear();
        let mut lane = LaneContext { now: Time::ZERO, pool };
        watch(&mut || ready.iter_mut().take(count).for_each(|batch| path.send(&mut lane, batch, done, wire)));
        let sent = if done.iter().all(|list| list.status.is_success()) { wire.iter().map(|frame| frame.packets().count()).sum() } else { 0 };
        BenchError::unless_all(count * *size, sent)?;
        done.clear();
        proof.see(wire)
    }

    fn prove_next(&mut self) {
        self.proof.wanted = true;
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
            let pick = picker.pick();
            let sequence = sequences.get_mut(pick.place).ok_or(BenchError::Impossible("no SA of this number"))?;
            *sequence = sequence.checked_add(1).ok_or(BenchError::Impossible("a sequence number beyond 32 bits: fewer rounds will do"))?;
            template.fill_framed(frame.buffer.as_mut_slice(), pick, *sequence);
            packets.push((pick.number, *sequence));
        }
        sas.seal(packets.iter().zip(frames).map(|(&(number, sequence), frame)| (number, sequence, frame.buffer.as_mut_slice())))
    }
}

/// Frames from the wire through the NIC's receive engine and up the stack.
pub(super) struct NicReceive {
    path: Datapath,
    pool: BufferPool,
    sender: Sender,
    /// Packets in a batch.
    size: usize,
    /// What was received before, to be received again.
    arrived: FrameBatch,
    ready: Vec<FrameBatch>,
    up: NblBatch,
}

impl Way for NicReceive {
    fn batches(&mut self, count: usize, watch: Watch<'_>) -> Result<(), BenchError> {
        let Self { path, pool, sender, size, arrived, ready, up } = self;
        make_ready(ready, count, |frames| {
            while frames.len() < *size {
                frames.push(arrived.pop().unwrap_or_else(|| Frame::new(pool.copy_from(&sender.template.frame))));
            }
            sender.fill(frames)
        })?;
        let mut lane = LaneContext { now: Time::ZERO, pool };
        watch(&mut || {
            for frames in ready.iter_mut().take(count) {
                path.receive(&mut lane, frames, up);
            }
        });
        BenchError::unless_all(count * *size, up.iter().filter(|list| list.oob.header_receive().is_some()).count())?;
        arrived.extend(up.drain(..).map(|mut list| list.take_frame()));
        Ok(())
    }
}

/// A host of which every worker has a lane.
pub(super) struct Whole {
    host: HostControl,
    direction: Direction,
    offload: bool,
    shared: bool,
    /// Packets that workers have put on the wire.
    reached: Arc<AtomicU64>,
}

impl Whole {
    /// A host with the SAs, which its NIC has, too, if `offload`; `shared`: several workers send under them.
    pub(super) fn new(plan: SaPlan<'_>, offload: bool, shared: bool) -> Result<Self, BenchError> {
        let host = HostControl::new(&HostConfig { medium: Medium::Ethernet, ..plan.host() })?;
        host.transport().set_policies(bypass_ike);
        if shared {
            host.share_lanes()?;
        }
        // A NIC without IPsecOV2 has nothing to switch off.
        if !offload && host.transport().current_config().ipsec_v2.is_supported() {
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
        Ok(Self { host, direction: plan.direction, offload, shared, reached: Arc::default() })
    }

    /// A worker's way of plain packets to the wire; `opener` proves that they are sealed.
    pub(super) fn sender(&self, template: Arc<Template>, picker: Picker, size: usize, opener: Arc<SaSet>) -> Result<Outbound, BenchError> {
        let (lane, reached, proof) = (self.host.open_lane()?, Arc::clone(&self.reached), Proof::new(opener));
        let (wire, sent) = (FrameBatch::new(), FrameBatch::new());
        Ok(Outbound { lane, template, picker, size, shared: self.shared, ready: Vec::new(), wire, sent, reached, proof })
    }

    /// A worker's way of packets from the wire to plain ones.
    pub(super) fn receiver(&self, sender: Sender, size: usize) -> Result<Inbound, BenchError> {
        Ok(Inbound { lane: self.host.open_lane()?, sender, size, ready: Vec::new(), out: InboundBatch::default() })
    }

    /// Checks that every packet was protected, or opened, by whom it should, and reached the wire.
    pub(super) fn check(&self) -> Result<(), BenchError> {
        let (transport, outbound) = (self.host.transport(), self.direction == Direction::Outbound);
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
    ready: Vec<FrameBatch>,
    wire: FrameBatch,
    sent: FrameBatch,
    reached: Arc<AtomicU64>,
    proof: Proof,
}

impl Way for Outbound {
    fn batches(&mut self, count: usize, watch: Watch<'_>) -> Result<(), BenchError> {
        let Self { lane, template, picker, size, shared, ready, wire, sent, reached, proof } = self;
        make_ready(ready, count, |frames| {
            for _ in 0..*size {
                let mut buffer = lane.pool().take(template.frame.len());
                template.fill_plain(buffer.as_mut_slice(), picker.pick());
                frames.push(Frame::new(buffer));
            }
            Ok(())
        })?;
        watch(&mut || {
            for frames in ready.iter_mut().take(count) {
                lane.send(Time::ZERO, frames, wire);
                // What is sent once, as nearly always, is not moved.
                lane.transmit(wire, |_, frames| if sent.is_empty() { core::mem::swap(sent, frames) } else { sent.append(frames) });
            }
        });
        // Some of them may be sent by another worker, whose turn comes before, and with some of its own.
        let all = count * *size;
        BenchError::unless_all(all, if *shared { all } else { sent.len() })?;
        proof.see(sent)?;
        reached.fetch_add(sent.len() as u64, Ordering::Relaxed);
        for frame in sent.drain(..) {
            lane.pool().give(frame.buffer);
        }
        Ok(())
    }

    fn prove_next(&mut self) {
        self.proof.wanted = true;
    }
}

/// The whole way in: NIC and stack, or cryptography by the transport; replay, headers off, policy.
pub(super) struct Inbound {
    lane: HostLane,
    sender: Sender,
    size: usize,
    ready: Vec<FrameBatch>,
    out: InboundBatch,
}

impl Way for Inbound {
    fn batches(&mut self, count: usize, watch: Watch<'_>) -> Result<(), BenchError> {
        let Self { lane, sender, size, ready, out } = self;
        make_ready(ready, count, |frames| {
            for _ in 0..*size {
                frames.push(Frame::new(lane.pool().take(sender.template.frame.len())));
            }
            sender.fill(frames)
        })?;
        let mut lost = 0;
        watch(&mut || {
            for frames in ready.iter_mut().take(count) {
                lost += lane.receive(Time::ZERO, frames, out);
            }
        });
        BenchError::unless_all(count * *size, out.delivered.len().saturating_sub(lost))?;
        for frame in out.delivered.drain(..) {
            lane.pool().give(frame.buffer);
        }
        Ok(())
    }
}
