//! The offload manager: which SAs the NIC has, asks it for more, takes them back, and knows the one reason why an SA is not there (OV2-TRANS-2).

mod offer;
mod v1;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use ipsec::Provider;
use ndis::{
    BindParameters, Binding, CapabilityField, CapabilityValue, DirectAnswer, DirectOid, DirectOidRequest, Encapsulation, IpsecOffloadV2, LargeSendLimits,
    NotCovered, Offload, OffloadEncapsulation, OffloadHandle, Operation, RequestId, SaMode, SetEncapsulation, Status, UdpEspType, UpdateSa,
};
use packet::{ETHERNET_HEADER_LEN, IpVersion, Medium, ParsedIp};
use sa_table::{Handle, SaTable};

use crate::packet_reason::PacketReason;
use crate::parameters::Mode;
use crate::reason::OffloadReason;
use crate::sa::Sa;
use crate::tasks::{self, TaskCapabilities};

use self::v1::V1Side;
pub(crate) use self::v1::lacks_v1;

/// What the NIC has of an SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing.
    Absent,
    /// It was asked to add it. `wanted`: still so; otherwise it is deleted as soon as it is there.
    Adding { wanted: bool },
    /// It has it.
    Present(OffloadHandle),
    /// It was asked to delete it.
    Deleting,
}

impl State {
    /// Whether it takes one of the NIC's places.
    const fn counts(self) -> bool {
        !matches!(self, Self::Absent)
    }
}

struct Record {
    sa: Handle,
    state: State,
    reason: OffloadReason,
    pair: Option<Handle>,
    /// The NIC asked to delete it: it is not offered again until the adapter changes.
    deleted_by_nic: bool,
    /// The transport has removed it; the record stays until the NIC has, too.
    removed: bool,
    /// Packets that it had carried at the last rebalancing.
    packets: u64,
    /// The UDP-ESP type under which it was offered last.
    udp_esp: Option<UdpEspType>,
}

enum Request {
    Add(Vec<Handle>),
    Update(Handle, Operation, u32),
    Delete(Handle),
}

/// Requests to the NIC, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffloadCounts {
    /// SAs that were added.
    pub added: u64,
    /// Adds that were refused.
    pub refused: u64,
    /// SAs that were deleted.
    pub deleted: u64,
    /// High-order halves of sequence numbers that were updated.
    pub updated: u64,
    /// SAs that gave their place to a busier one.
    pub evicted: u64,
}

/// What of the current configuration depends on the packet and not on its SA; read by lanes.
#[derive(Debug, Default)]
pub(crate) struct PacketCapabilities {
    ipv4_options: AtomicBool,
    ipv6_extension_headers: AtomicBool,
    transport_tunnel_combined: AtomicBool,
    /// Frames with an 802.1Q tag.
    tagged: AtomicBool,
    large_sends: AtomicBool,
    large_tunnels: AtomicBool,
    limits: LargeSendLimits,
    /// IPsecOV1: a packet has one handle.
    one_handle: AtomicBool,
    /// What goes along with IPsec, or without it.
    pub(crate) tasks: TaskCapabilities,
}

impl PacketCapabilities {
    /// `active`: the encapsulation that was activated; empty if none was.
    fn set(&self, config: &Offload, v1: bool, active: Encapsulation) {
        self.tasks.set(config, active);
        let ipv4_options = if v1 { config.ipsec_v1.ipv4_options } else { config.ipsec_v2.ipv4_options };
        self.one_handle.store(v1, Ordering::Relaxed);
        self.ipv4_options.store(ipv4_options, Ordering::Relaxed);
        self.ipv6_extension_headers.store(config.ipsec_v2.ipv6_non_ipsec_extension_headers, Ordering::Relaxed);
        self.transport_tunnel_combined.store(config.ipsec_v2.transport_tunnel_combined, Ordering::Relaxed);
        let encapsulation = if v1 { config.ipsec_v1.encapsulation } else { config.ipsec_v2.encapsulation };
        self.tagged.store(encapsulation.contains(Encapsulation::IEEE_802_3_P_AND_Q), Ordering::Relaxed);
        // IPsecOV1 has no large sends together with IPsec.
        self.large_sends.store(config.ipsec_v2.lso_supported && !v1, Ordering::Relaxed);
        self.large_tunnels.store(config.ipsec_v2.ext_lso_tunnel, Ordering::Relaxed);
        self.limits.set(config, |_, _| true);
    }

    /// Whether large sends may be under SAs (OV2-CAP-13), in tunnel mode if that is `tunnel`.
    pub(crate) fn large_sends(&self, tunnel: bool) -> bool {
        self.large_sends.load(Ordering::Relaxed) && (!tunnel || self.large_tunnels.load(Ordering::Relaxed))
    }

    /// What large sends are offered.
    pub(crate) const fn large_send_limits(&self) -> &LargeSendLimits {
        &self.limits
    }

    /// Whether the NIC does a transport bundle and the tunnel around it at once.
    #[inline]
    pub(crate) fn transport_tunnel_combined(&self) -> bool {
        self.transport_tunnel_combined.load(Ordering::Relaxed)
    }

    /// Whether packets of a transport bundle in a tunnel are not offloaded at all (OV1-3).
    #[inline]
    pub(crate) fn one_handle(&self) -> bool {
        self.one_handle.load(Ordering::Relaxed)
    }

    /// Whether the NIC takes a packet in transport mode with what this one has in front of the place for ESP (OV2-CAP-2). A packet under way while that
    /// changes comes back, and is done in software.
    ///
    /// # Errors
    /// What it does not take.
    #[inline]
    pub(crate) fn cover(&self, parsed: &ParsedIp) -> Result<(), PacketReason> {
        if parsed.insertion_point().offset == parsed.version().header_len() { Ok(()) } else { self.extras(parsed.version()) }
    }

    /// Whether it takes packets with options or extension headers.
    ///
    /// # Errors
    /// Which of both it does not take.
    pub(crate) fn extras(&self, version: IpVersion) -> Result<(), PacketReason> {
        let (taken, reason) = match version {
            IpVersion::V4 => (&self.ipv4_options, PacketReason::Ipv4Options),
            IpVersion::V6 => (&self.ipv6_extension_headers, PacketReason::ExtensionHeaders),
        };
        if taken.load(Ordering::Relaxed) { Ok(()) } else { Err(reason) }
    }

    /// Whether it takes frames whose link header has that length: those with tags are longer.
    ///
    /// # Errors
    /// [`PacketReason::Encapsulation`].
    #[inline]
    pub(crate) fn link(&self, length: usize) -> Result<(), PacketReason> {
        if length <= ETHERNET_HEADER_LEN || self.tagged.load(Ordering::Relaxed) { Ok(()) } else { Err(PacketReason::Encapsulation) }
    }
}

/// The manager; lives under the transport's control mutex.
pub(crate) struct OffloadManager<P: Provider> {
    sad: SaTable<Sa<P>>,
    capabilities: Arc<PacketCapabilities>,
    binding: Option<Binding>,
    parameters: Option<BindParameters>,
    config: Offload,
    encapsulation: Result<(), Status>,
    /// The encapsulation that was activated last; empty if none was.
    active: Encapsulation,
    resetting: bool,
    /// In order of addition, so that the oldest are offered first.
    records: BTreeMap<u64, Record>,
    order: HashMap<Handle, u64>,
    next: u64,
    /// How many of the NIC's places are taken, as the manager counts (OV2-CAP-2: the transport keeps count).
    used: usize,
    /// The NIC takes no more, although by that count it could: others use it, too. Until something changes it is not asked again.
    full: bool,
    /// Those that nothing is against but the NIC's capacity, or that a reset came between, by their order: they get places as places become free.
    waiting: BTreeSet<u64>,
    /// SAs that get the next free places, because others were evicted for them.
    promised: VecDeque<Handle>,
    /// SAs that have a place, and are asked for next.
    offers: Vec<Handle>,
    requests: HashMap<RequestId, Request>,
    /// The adapter has IPsecOV1.
    v1: Option<V1Side>,
    counts: OffloadCounts,
}

impl<P: Provider> OffloadManager<P> {
    pub(crate) fn new(sad: SaTable<Sa<P>>, capabilities: Arc<PacketCapabilities>) -> Self {
        Self {
            sad,
            capabilities,
            binding: None,
            parameters: None,
            config: Offload::default(),
            encapsulation: Ok(()),
            active: Encapsulation::empty(),
            resetting: false,
            records: BTreeMap::new(),
            order: HashMap::new(),
            next: 0,
            used: 0,
            full: false,
            waiting: BTreeSet::new(),
            promised: VecDeque::new(),
            offers: Vec::new(),
            requests: HashMap::new(),
            v1: None,
            counts: OffloadCounts::default(),
        }
    }

    pub(crate) const fn counts(&self) -> OffloadCounts {
        self.counts
    }

    pub(crate) const fn config(&self) -> &Offload {
        &self.config
    }

    pub(crate) const fn parameters(&self) -> Option<&BindParameters> {
        self.parameters.as_ref()
    }

    /// The reason of an SA.
    pub(crate) fn reason(&self, sa: Handle) -> Option<OffloadReason> {
        self.record(sa).filter(|record| !record.removed).map(|record| record.reason)
    }

    /// The pair of an SA.
    pub(crate) fn pair_of(&self, sa: Handle) -> Option<Handle> {
        self.record(sa).and_then(|record| record.pair)
    }

    /// Bound to an adapter: sets its encapsulation (OV2-CAP-9) and offers everything.
    pub(crate) fn bind(&mut self, parameters: BindParameters, binding: Binding) {
        if self.binding.is_some() {
            // A second adapter: one at a time, and the first must not keep what nobody asks for any more.
            self.delete_present();
            self.lose_all();
        }
        self.choose_service(parameters.version, &binding);
        self.resetting = false;
        (self.active, self.encapsulation) = (Encapsulation::empty(), Ok(()));
        self.config = parameters.default_offload_configuration;
        if !parameters.disable_task_offload {
            self.activate(&binding, parameters.medium);
        }
        self.set_config(parameters.default_offload_configuration);
        self.parameters = Some(parameters);
        self.binding = Some(binding);
        self.forgive();
        self.reconsider();
        self.settle();
    }

    /// The adapter is gone, and with it all that it had (OV2-SA-9).
    pub(crate) fn unbind(&mut self) {
        self.binding = None;
        self.parameters = None;
        self.active = Encapsulation::empty();
        self.set_config(Offload::default());
        self.lose_all();
        self.v1 = None;
        self.reconsider();
    }

    /// A new current configuration: what no longer fits is taken back, what fits now is offered (OV2-CAP-10).
    pub(crate) fn configure(&mut self, config: Offload) {
        self.retry_deletions();
        self.config = config;
        // An adapter that can do something else now may take what it did not, or take tags in another way.
        if let (Some(binding), Some(parameters)) = (self.binding.clone(), &self.parameters)
            && !parameters.disable_task_offload
        {
            let medium = parameters.medium;
            if self.encapsulation.is_err() || (config.ipsec_v2.is_supported() && tasks::encapsulation(medium, &config) != self.active) {
                self.activate(&binding, medium);
            }
        }
        self.set_config(config);
        self.forgive();
        self.reconsider();
        self.settle();
    }

    /// The adapter resets: its table is empty (OV2-OID-2).
    pub(crate) fn reset_started(&mut self) {
        self.resetting = true;
        // While it resets it does not accept this. But the news may be old, and what was added since must not stay behind.
        self.delete_present();
        self.lose_all();
        self.reconsider();
    }

    /// It has reset.
    pub(crate) fn reset_ended(&mut self) {
        self.resetting = false;
        self.forgive();
        self.reconsider();
        self.settle();
    }

    /// An SA was added to the transport.
    pub(crate) fn add(&mut self, sa: Handle) {
        let record =
            Record { sa, state: State::Absent, reason: OffloadReason::NoAdapter, pair: None, deleted_by_nic: false, removed: false, packets: 0, udp_esp: None };
        self.order.insert(sa, self.next);
        self.records.insert(self.next, record);
        self.next += 1;
        self.consider(sa);
        self.settle();
    }

    /// Another bundle has this tunnel for its own, or has it no more: what type of UDP-ESP the tunnel is may have changed, and then the NIC gets it anew.
    pub(crate) fn surrounded(&mut self, tunnel: Handle) {
        self.retype(tunnel);
        // Or, where it did not take the one type, it may take the other.
        self.consider(tunnel);
        self.settle();
    }

    /// Notes that two SAs are the two directions of one connection.
    pub(crate) fn pair(&mut self, one: Handle, other: Handle) {
        for (sa, pair) in [(one, other), (other, one)] {
            if let Some(record) = self.record_mut(sa) {
                record.pair = Some(pair);
            }
        }
    }

    /// An SA is about to be removed from the transport (it still is in the table): the NIC loses it, too.
    pub(crate) fn remove(&mut self, sa: Handle) {
        // Noted first, or it would be offered again as soon as the NIC has deleted it.
        if let Some(record) = self.record_mut(sa) {
            record.removed = true;
        }
        self.take_back(sa, OffloadReason::NoAdapter);
        self.forget_if_gone(sa);
        self.settle();
    }

    /// The NIC asked to delete the SA that a packet came over: inbound first, then its outbound counterpart (OV2-SA-8).
    pub(crate) fn delete_requested(&mut self, inbound: Handle) {
        let pair = self.pair_of(inbound);
        for sa in [Some(inbound), pair].into_iter().flatten() {
            if let Some(record) = self.record_mut(sa) {
                record.deleted_by_nic = true;
            }
            self.take_back(sa, OffloadReason::DeletedByNic);
        }
        self.settle();
    }

    /// An SA's life is over: the NIC need not hold it.
    pub(crate) fn expired(&mut self, sa: Handle) {
        self.take_back(sa, OffloadReason::Expired);
        self.settle();
    }

    /// Tells the NIC the high half of the sequence numbers of one of an SA's associations, if it has changed (OV2-TRANS-5).
    pub(crate) fn update_high(&mut self, sa: Handle, operation: Operation) {
        let Some(State::Present(handle)) = self.record(sa).map(|record| record.state) else { return };
        let reference = self.sad.with(sa, |sa| sa.association(operation).map(|association| (association.spi, association.reference())));
        let Ok(Some((spi, reference))) = reference else { return };
        let Some(binding) = self.binding.clone() else { return };
        let high = (reference >> 32) as u32;
        let update = UpdateSa { handle, operation, spi, sequence_number_high: high };
        let id = binding.reserve_request_id();
        self.requests.insert(id, Request::Update(sa, operation, high));
        if let DirectAnswer::Done(status, _) = binding.direct_oid_request_as(id, DirectOid::UpdateSa(update)) {
            self.requests.remove(&id);
            self.updated(sa, operation, high, status);
        }
    }

    fn updated(&mut self, sa: Handle, operation: Operation, high: u32, status: Status) {
        if status.is_success() {
            self.counts.updated += 1;
            // On the way in the NIC counts as there only when it has verified a packet.
            let _ = self.sad.with(sa, |sa| sa.association(operation).filter(|_| sa.outbound).map(|association| association.nic.updated(high)));
        } else {
            self.renew(sa);
        }
    }

    /// The NIC may no longer know where an SA's extended sequence numbers are: it gets the SA anew, with its high half.
    pub(crate) fn renew(&mut self, sa: Handle) {
        if self.record(sa).is_some_and(|record| matches!(record.state, State::Present(_))) {
            self.take_back(sa, OffloadReason::Pending);
            self.settle();
        } else {
            // Said of what is gone: what comes in its place begins anew in any case.
            let _ = self.sad.with(sa, |sa| sa.associations().for_each(|association| association.nic.renewed()));
        }
    }

    /// Offers anew what the NIC has under another type of UDP-ESP than it should. (A tunnel around nothing any more keeps the type that it has: packets with
    /// one layer are of either.)
    fn retype(&mut self, sa: Handle) {
        if self.v1.is_some() {
            return;
        }
        let Some(&Record { state: State::Present(_), udp_esp: offered, .. }) = self.record(sa) else { return };
        let Ok(wanted) = self.sad.with(sa, |sa| sa.udp_esp(&self.config.ipsec_v2)) else { return };
        let stays = wanted == offered || (!self.sad.with(sa, Sa::is_around).unwrap_or(false) && self.config.ipsec_v2.transport_tunnel_combined);
        if !stays {
            self.take_back(sa, OffloadReason::Pending);
        }
    }

    /// Gives the places of idle SAs to busy ones that found none: at most `most` a call, and only where the waiting SA carried at least twice as much
    /// since the last call. Not more often than every few seconds: each move costs two requests.
    pub(crate) fn rebalance(&mut self, most: usize) {
        self.full = false;
        self.retry_deletions();
        self.settle();
        if self.waiting.is_empty() {
            return;
        }
        let mut present = Vec::new();
        let mut waiting = Vec::new();
        for record in self.records.values_mut() {
            let Ok(total) = self.sad.with(record.sa, |sa| sa.lifetime.packets()) else { continue };
            let carried = total - record.packets.min(total);
            record.packets = total;
            match (record.state, record.reason) {
                (State::Present(_), _) => present.push((carried, record.sa)),
                (State::Absent, OffloadReason::Capacity) => waiting.push((carried, record.sa)),
                _ => {}
            }
        }
        present.sort_unstable_by_key(|(carried, _)| *carried);
        waiting.sort_unstable_by_key(|(carried, _)| core::cmp::Reverse(*carried));
        for ((idle, victim), (busy, newcomer)) in present.into_iter().zip(waiting).take(most) {
            if busy < 2 || busy / 2 < idle {
                break;
            }
            self.promised.push_back(newcomer);
            self.counts.evicted += 1;
            self.take_back(victim, OffloadReason::Capacity);
        }
        self.settle();
    }

    /// A request that the NIC had pended is answered.
    pub(crate) fn complete(&mut self, status: Status, request: &DirectOidRequest) {
        match self.requests.remove(&request.id) {
            Some(Request::Add(sas)) => self.answered(sas, status, &request.body),
            Some(Request::Update(sa, operation, high)) => self.updated(sa, operation, high, status),
            Some(Request::Delete(sa)) => self.deleted(sa),
            // Of before a reset. What was added all the same must not stay behind.
            None => {
                self.delete_unknown(&offer::added_handles(status, &request.body));
            }
        }
        self.settle();
    }

    fn record(&self, sa: Handle) -> Option<&Record> {
        self.records.get(self.order.get(&sa)?)
    }

    fn record_mut(&mut self, sa: Handle) -> Option<&mut Record> {
        self.records.get_mut(self.order.get(&sa)?)
    }

    fn forget_if_gone(&mut self, sa: Handle) {
        if self.record(sa).is_some_and(|record| record.removed && record.state == State::Absent)
            && let Some(order) = self.order.remove(&sa)
        {
            self.records.remove(&order);
            self.waiting.remove(&order);
        }
    }

    fn set_config(&mut self, config: Offload) {
        self.config = config;
        self.capabilities.set(&config, self.v1.is_some(), self.active);
    }

    /// Activates what is configured for frames of `medium` (OV2-CAP-9).
    fn activate(&mut self, binding: &Binding, medium: Medium) {
        let encapsulation = tasks::encapsulation(medium, &self.config);
        let status = set_encapsulation(binding, medium, encapsulation);
        (self.active, self.encapsulation) = if status.is_success() { (encapsulation, Ok(())) } else { (Encapsulation::empty(), Err(status)) };
    }

    /// A changed adapter is asked again for what it had refused.
    fn forgive(&mut self) {
        self.full = false;
        for record in self.records.values_mut() {
            record.deleted_by_nic = false;
            if matches!(record.reason, OffloadReason::Refused(_)) {
                record.reason = OffloadReason::Pending;
            }
        }
    }

    /// The NIC has nothing any more.
    fn lose_all(&mut self) {
        let handles: Vec<_> = self.order.keys().copied().collect();
        for sa in handles {
            let _ = self.sad.with(sa, |sa| sa.set_offload_handle(None));
            self.set_state(sa, State::Absent);
            self.forget_if_gone(sa);
        }
        self.requests.clear();
        if let Some(v1) = &mut self.v1 {
            *v1 = V1Side::default();
        }
        self.promised.clear();
        self.offers.clear();
        self.full = false;
    }

    /// Has the NIC delete whatever is there, in one request, and does not wait for the answer.
    fn delete_present(&mut self) {
        if self.v1.is_some() {
            return self.delete_present_v1();
        }
        let handles: Vec<_> = self
            .records
            .values()
            .filter_map(|record| match record.state {
                State::Present(handle) => Some(handle.to_bits()),
                _ => None,
            })
            .collect();
        if let Some(binding) = self.binding.as_ref().filter(|_| !handles.is_empty()) {
            let _ = binding.direct_oid_request(DirectOid::DeleteSa(handles));
        }
    }

    /// Has the NIC delete what no SA stands for any more.
    fn delete_unknown(&mut self, handles: &[OffloadHandle]) {
        if let Some(binding) = self.binding.as_ref().filter(|_| !handles.is_empty()) {
            let _ = binding.direct_oid_request(DirectOid::DeleteSa(handles.iter().map(|handle| handle.to_bits()).collect()));
        }
    }

    fn reconsider(&mut self) {
        let handles: Vec<_> = self.records.values().map(|record| record.sa).collect();
        // First what goes, so that there is room for what comes.
        for sa in &handles {
            if let Err(reason) = self.wanted(*sa) {
                self.take_back(*sa, reason);
            }
            self.retype(*sa);
        }
        for sa in handles {
            self.consider(sa);
        }
    }

    /// Offers SAs that wait for a place, while there are places.
    fn fill(&mut self) {
        while !self.resetting && !self.is_full() {
            let next = match self.promised.pop_front() {
                Some(sa) => Some(sa),
                None => self.waiting.pop_first().and_then(|order| self.records.get(&order)).map(|record| record.sa),
            };
            match next {
                Some(sa) => self.consider(sa),
                None if self.promised.is_empty() && self.waiting.is_empty() => break,
                None => {}
            }
        }
    }

    fn set_state(&mut self, sa: Handle, state: State) {
        if let Some(record) = self.record_mut(sa) {
            let before = core::mem::replace(&mut record.state, state);
            self.used = self.used + usize::from(state.counts()) - usize::from(before.counts());
            self.note_waiting(sa);
        }
    }

    fn set_reason(&mut self, sa: Handle, reason: OffloadReason) {
        if let Some(record) = self.record_mut(sa) {
            record.reason = reason;
            self.note_waiting(sa);
        }
    }

    /// Whoever waits is in the queue, and nobody else.
    fn note_waiting(&mut self, sa: Handle) {
        let Some(&order) = self.order.get(&sa) else { return };
        let waits = self.records.get(&order).is_some_and(|record| {
            record.state == State::Absent && !record.removed && matches!(record.reason, OffloadReason::Capacity | OffloadReason::Resetting)
        });
        if waits {
            self.waiting.insert(order);
        } else {
            self.waiting.remove(&order);
        }
    }

    fn is_full(&self) -> bool {
        let capacity = match (&self.v1, self.config.ipsec_v1.ext_sa_capacity) {
            (None, _) => self.config.ipsec_v2.sa_offload_capacity,
            // It says when it is full.
            (Some(_), 0) => u32::MAX,
            (Some(_), told) => told,
        };
        self.full || self.used >= capacity as usize
    }

    /// Whether the NIC should have `sa`: nothing but its capacity is against it.
    fn wanted(&self, sa: Handle) -> Result<(), OffloadReason> {
        let (Some(_), Some(parameters)) = (&self.binding, &self.parameters) else { return Err(OffloadReason::NoAdapter) };
        if parameters.disable_task_offload {
            return Err(OffloadReason::TaskOffloadDisabled);
        }
        if !parameters.ipsec_offload_enabled {
            return Err(OffloadReason::IpsecOffloadDisabled);
        }
        if self.resetting {
            return Err(OffloadReason::Resetting);
        }
        if let Some(record) = self.record(sa) {
            if record.deleted_by_nic {
                return Err(OffloadReason::DeletedByNic);
            }
            if let OffloadReason::Refused(_) | OffloadReason::Expired = record.reason {
                return Err(record.reason);
            }
        }
        let covered = self.sad.with(sa, |sa| {
            if sa.lifetime.is_over() {
                return Err(OffloadReason::Expired);
            }
            if sa.offload_forbidden() {
                return Err(OffloadReason::Forbidden);
            }
            self.covers(&self.config, sa).map_err(|missing| {
                // Asked for only where it decides which of two reasons it is.
                let hardware = self.binding.as_ref().and_then(|binding| binding.query_hardware_capabilities().ok());
                match hardware.map(|hardware| self.covers(&hardware, sa)) {
                    Some(Ok(())) => OffloadReason::SwitchedOff(missing),
                    Some(Err(lacking)) => OffloadReason::NotCovered(lacking),
                    None => OffloadReason::NotCovered(missing),
                }
            })
        });
        covered.unwrap_or(Err(OffloadReason::Expired))?;
        self.encapsulation.map_err(OffloadReason::EncapsulationRefused)
    }

    /// Offers `sa` to the NIC if it should have it and does not.
    fn consider(&mut self, sa: Handle) {
        let Some(record) = self.record(sa) else { return };
        if record.removed || !matches!(record.state, State::Absent | State::Adding { wanted: false }) {
            return;
        }
        let adding = record.state != State::Absent;
        let reason = match self.wanted(sa) {
            Err(reason) => reason,
            // It was not wanted for a while; the request is still under way.
            Ok(()) if adding => {
                self.set_state(sa, State::Adding { wanted: true });
                OffloadReason::Pending
            }
            Ok(()) if self.is_full() => OffloadReason::Capacity,
            Ok(()) => return self.offer(sa),
        };
        self.set_reason(sa, reason);
    }

    /// Lets the data path use the NIC for `sa` no more, and has the NIC delete it. Does nothing for what the NIC does not have.
    fn take_back(&mut self, sa: Handle, reason: OffloadReason) {
        let _ = self.sad.with(sa, |sa| sa.set_offload_handle(None));
        let Some(state) = self.record(sa).map(|record| record.state) else { return };
        self.set_reason(sa, reason);
        match state {
            State::Absent | State::Deleting => {}
            State::Adding { .. } => self.set_state(sa, State::Adding { wanted: false }),
            State::Present(handle) if self.v1.is_some() => {
                self.set_state(sa, State::Deleting);
                self.delete_v1(sa, handle);
            }
            State::Present(handle) => {
                self.set_state(sa, State::Deleting);
                let Some(binding) = self.binding.clone() else { return };
                let id = binding.reserve_request_id();
                self.requests.insert(id, Request::Delete(sa));
                if let DirectAnswer::Done(..) = binding.direct_oid_request_as(id, DirectOid::DeleteSa(vec![handle.to_bits()])) {
                    self.requests.remove(&id);
                    self.deleted(sa);
                }
            }
        }
    }

    /// The NIC has let go of `sa`: deleted, or aborted by a reset that emptied its table.
    fn deleted(&mut self, sa: Handle) {
        if self.record(sa).is_some_and(|record| record.state == State::Deleting) {
            self.set_state(sa, State::Absent);
            self.counts.deleted += 1;
            self.full = false;
        }
        self.forget_if_gone(sa);
        // What changed while it was being deleted may speak for it again; an evicted one waits for a place like others.
        if self.record(sa).is_some_and(|record| record.reason != OffloadReason::Capacity) {
            self.consider(sa);
        }
    }
}

/// Everything that a configuration lacks for an SA as it stands, among the others.
pub(crate) fn lacks<P: Provider>(config: &IpsecOffloadV2, sa: &Sa<P>) -> Vec<NotCovered> {
    let mut lacks = config.lacks(&sa.shape(sa.udp_esp(config)), Some(sa_mode(sa.mode)));
    lacks.extend(nests(config, sa).err());
    lacks
}

/// Whether a configuration covers an SA as it stands, among the others.
fn covers<P: Provider>(config: &IpsecOffloadV2, sa: &Sa<P>) -> Result<(), NotCovered> {
    config.covers(&sa.shape(sa.udp_esp(config)), Some(sa_mode(sa.mode)))?;
    nests(config, sa)
}

pub(crate) const fn sa_mode(mode: Mode) -> SaMode {
    match mode {
        Mode::Transport => SaMode::Transport,
        Mode::Tunnel => SaMode::Tunnel,
    }
}

fn nests<P: Provider>(config: &IpsecOffloadV2, sa: &Sa<P>) -> Result<(), NotCovered> {
    // Inside a tunnel it is of use only to a NIC that does both at once.
    if sa.inside.is_some() && !config.transport_tunnel_combined { Err(without_nesting()) } else { Ok(()) }
}

/// An SA is inside a tunnel, and the NIC does not do both.
pub(crate) const fn without_nesting() -> NotCovered {
    let (asked, supported) = (CapabilityValue::Flag(true), CapabilityValue::Flag(false));
    NotCovered { field: CapabilityField::TransportTunnelCombined, asked, supported }
}

fn set_encapsulation(binding: &Binding, medium: Medium, encapsulation: Encapsulation) -> Status {
    let header_size = match medium {
        Medium::Ethernet => ETHERNET_HEADER_LEN as u32,
        Medium::Ip => 0,
    };
    let on = SetEncapsulation::On { encapsulation, header_size };
    binding.set_encapsulation(OffloadEncapsulation { ipv4: on, ipv6: on })
}
