//! The transport: what NDIS calls the overlying protocol driver. This is its control side; packets go through its [lanes](crate::TransportLane).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrayvec::ArrayVec;
use ipsec::{Crypto, Provider};
use ndis::{
    BindParameters, Binding, DirectOidRequest, Direction, IpsecOffloadV1, IpsecOffloadV2, NotCovered, Offload, Operation, Protocol, Status, StatusIndication,
};
use packet::{Frame, IpAddress, Medium, Spi, Time, UDP_ESP_PORT};
use sa_table::{Handle, InsertError, SaTable, Seed};
use wire_order::Estate;

use crate::event::{AuditEvent, SaEvent, SaEventKind};
use crate::lane::TransportLane;
use crate::lifetime::Life;
use crate::offload::{OffloadCounts, OffloadManager, PacketCapabilities};
use crate::order::{LanesOpen, Nesting};
use crate::parameters::{Mode, OffloadPolicy, SaParameters};
use crate::reason::OffloadReason;
use crate::sa::{Identity, Sa, SaError, Tunnel, keys};
use crate::selector::Selector;
use crate::spd::{Policy, Spd};
use crate::verdict::{LaneCounters, WayCounts};

/// How many audit events are kept for whoever reads them; the oldest give way. Counters lose nothing.
const AUDIT_KEPT: usize = 1024;
/// How many SA events are kept; more than two per SA and life never happen.
const EVENTS_KEPT: usize = 1 << 20;

/// What a transport is made with.
#[derive(Debug)]
pub struct TransportConfig {
    /// What its frames begin with; must be what its adapters have.
    pub medium: Medium,
    /// Most SAs.
    pub capacity: usize,
    /// Secret of the SAD's hash, from the system's random generator.
    pub seed: Seed,
    /// What becomes of packets that come in and match no SA.
    pub clear: ClearPolicy,
}

/// What becomes of received packets that match no SA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClearPolicy {
    /// The security policy database decides: what must be protected is dropped when it comes in clear (RFC 4301 section 5.2).
    #[default]
    Decide,
    /// All of them are passed up; whoever gets them must not take them for protected. For captures.
    PassAll,
}

/// A lane's news for the control side.
pub(crate) enum LaneNews {
    /// The NIC asked to delete the SA that a packet came over.
    DeleteRequested(Handle),
    /// The high half of the sequence numbers of one of the SA's associations has changed.
    HighHalf(Handle, Operation),
    /// The NIC may no longer know where the SA's extended sequence numbers are.
    Renew(Handle),
    /// A lifetime limit was reached.
    Life(Handle, Life),
    /// Nine tenths of the sequence numbers are used.
    SequenceLow(Handle),
    /// The last sequence number was used.
    SequenceExhausted(Handle),
}

/// What the control side and all lanes share.
pub(crate) struct Shared<P: Provider> {
    pub(crate) provider: P,
    pub(crate) medium: Medium,
    pub(crate) clear: ClearPolicy,
    pub(crate) sad: SaTable<Sa<P>>,
    /// Changes with every change of `snapshot`: a lane looks at it once a batch.
    pub(crate) epoch: AtomicU64,
    policies: Mutex<Policies>,
    tunnels: Mutex<Tunnels>,
    pub(crate) capabilities: Arc<PacketCapabilities>,
    manager: Mutex<OffloadManager<P>>,
    lanes: Mutex<Vec<Arc<LaneCounters>>>,
    /// Whether lanes share SAs, and keep the order of their packets.
    sharing: AtomicBool,
    pub(crate) nesting: Nesting,
    /// Where lanes that are gone have left packets to be sent.
    pub(crate) estate: Arc<Estate<Frame>>,
    news: Mutex<Vec<LaneNews>>,
    events: Mutex<VecDeque<SaEvent>>,
    audit: Mutex<VecDeque<AuditEvent>>,
}

/// What lanes decide by.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) spd: Arc<Spd>,
    /// Destination and source of inbound SAs: where a later fragment of ESP, which shows no SPI, may belong. Sorted.
    peers: Vec<(IpAddress, IpAddress)>,
    /// Local ports of UDP-ESP. Sorted.
    udp_ports: Vec<u16>,
    /// Whether any SA sends dummies.
    pub(crate) dummies: bool,
}

impl Snapshot {
    /// Whether UDP to this port may carry ESP.
    #[inline]
    pub(crate) fn is_udp_esp(&self, port: u16) -> bool {
        port == UDP_ESP_PORT || self.udp_ports.binary_search(&port).is_ok()
    }

    /// Whether an inbound SA can be about a packet between these.
    pub(crate) fn is_peer(&self, source: IpAddress, destination: IpAddress) -> bool {
        let any = if destination.is_v4() { IpAddress::UNSPECIFIED_V4 } else { IpAddress::UNSPECIFIED_V6 };
        [(destination, source), (destination, any), (any, source), (any, any)].iter().any(|pair| self.peers.binary_search(pair).is_ok())
    }
}

/// What snapshots are made of. It changes in place; a snapshot is made when a lane next asks for one, so that a thousand changes in a row cost one.
#[derive(Default)]
struct Policies {
    /// Shared with snapshots: a change copies it once, on the control side, and a lane never.
    spd: Arc<Spd>,
    /// How many inbound SAs have this destination and source.
    peers: BTreeMap<(IpAddress, IpAddress), usize>,
    /// How many inbound SAs have this local port for UDP-ESP.
    udp_ports: BTreeMap<u16, usize>,
    /// How many outbound SAs send dummies.
    dummies: usize,
    snapshot: Option<Arc<Snapshot>>,
}

impl<P: Provider> Shared<P> {
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        let mut policies = lock(&self.policies);
        let Policies { spd, peers, udp_ports, dummies, snapshot } = &mut *policies;
        Arc::clone(snapshot.get_or_insert_with(|| {
            Arc::new(Snapshot {
                spd: Arc::clone(spd),
                peers: peers.keys().copied().collect(),
                udp_ports: udp_ports.keys().copied().collect(),
                dummies: *dummies != 0,
            })
        }))
    }

    pub(crate) fn tell(&self, news: &mut Vec<LaneNews>) {
        lock(&self.news).append(news);
    }

    pub(crate) fn audit(&self, events: &mut Vec<AuditEvent>) {
        let mut audit = lock(&self.audit);
        for event in events.drain(..) {
            if audit.len() == AUDIT_KEPT {
                audit.pop_front();
            }
            audit.push_back(event);
        }
    }

    fn event(&self, sa: Handle, kind: SaEventKind, time: Time) {
        let Ok(name) = self.sad.with(sa, |sa| Arc::clone(&sa.name)) else { return };
        let mut events = lock(&self.events);
        if events.len() < EVENTS_KEPT {
            events.push_back(SaEvent { time, sa, name, kind });
        }
    }

    /// The tunnel bundle of that name that was added last.
    fn tunnel(&self, direction: Direction, name: &str) -> Option<Tunnel> {
        let outbound = direction == Direction::Outbound;
        let handle = *lock(&self.tunnels).get(&(outbound, name.into()))?.last()?;
        self.sad.with(handle, |tunnel| Tunnel { handle, udp: tunnel.in_udp() }).ok()
    }

    /// Notes what lanes must know of an SA, or that it is gone.
    fn leave(&self, sa: Handle, footprint: &Footprint, there: bool) {
        if footprint.tunnel {
            let mut tunnels = lock(&self.tunnels);
            let named = tunnels.entry((footprint.outbound, footprint.name.as_str().into())).or_default();
            if there {
                named.push(sa);
            } else {
                named.retain(|&other| other != sa);
                if named.is_empty() {
                    tunnels.remove(&(footprint.outbound, footprint.name.as_str().into()));
                }
            }
        }
        if footprint.peer.is_none() && footprint.udp_port.is_none() && !footprint.dummies {
            return;
        }
        self.change(|policies| {
            if let Some(peer) = footprint.peer {
                count(&mut policies.peers, peer, there);
            }
            if let Some(port) = footprint.udp_port {
                count(&mut policies.udp_ports, port, there);
            }
            if footprint.dummies {
                policies.dummies = if there { policies.dummies + 1 } else { policies.dummies.saturating_sub(1) };
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Policies)) {
        let mut policies = lock(&self.policies);
        change(&mut policies);
        policies.snapshot = None;
        self.epoch.fetch_add(1, Ordering::Release);
    }
}

/// Tunnel bundles by direction (whether outbound) and name, the newest last.
type Tunnels = HashMap<(bool, Box<str>), Vec<Handle>>;

/// What an SA means to others than itself, for as long as it is there.
struct Footprint {
    name: String,
    outbound: bool,
    /// It is a tunnel, and others can be inside it.
    tunnel: bool,
    /// The tunnel that it is inside.
    inside: Option<Handle>,
    udp: bool,
    /// Inbound: destination and source.
    peer: Option<(IpAddress, IpAddress)>,
    /// Inbound: the local port of its UDP-ESP.
    udp_port: Option<u16>,
    /// Outbound: it sends dummies.
    dummies: bool,
}

impl Footprint {
    fn of<P: Provider>(sa: &Sa<P>) -> Self {
        let parameters = sa.parameters();
        Self {
            name: parameters.name.clone(),
            outbound: sa.outbound,
            tunnel: parameters.mode == Mode::Tunnel,
            inside: sa.inside.map(|tunnel| tunnel.handle),
            udp: sa.in_udp(),
            peer: (!sa.outbound).then_some((parameters.destination, parameters.source)),
            udp_port: parameters.udp_encapsulation.filter(|_| !sa.outbound).map(|udp| udp.destination_port),
            dummies: sa.outbound && sa.sends_dummies(),
        }
    }
}

/// Counts one more, or one less; what there is none of is not in the map.
fn count<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K, more: bool) {
    match (counts.entry(key), more) {
        (entry, true) => *entry.or_default() += 1,
        (Entry::Occupied(mut entry), false) => {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        (Entry::Vacant(_), false) => {}
    }
}

/// How an SA is doing.
#[derive(Clone, Debug)]
pub struct SaStatus {
    /// Its handle.
    pub handle: Handle,
    /// Its name.
    pub name: Arc<str>,
    /// Direction.
    pub direction: Direction,
    /// Mode.
    pub mode: Mode,
    /// SPI of its first association.
    pub spi: Spi,
    /// Its associations, as they were given: ESP first.
    pub associations: Vec<AssociationStatus>,
    /// Source address.
    pub source: IpAddress,
    /// Destination address.
    pub destination: IpAddress,
    /// What it may carry; empty = everything.
    pub selectors: Vec<Selector>,
    /// Highest sequence number used or verified under its first association.
    pub sequence: u64,
    /// Packets carried.
    pub packets: u64,
    /// Bytes carried.
    pub bytes: u64,
    /// Whether it may or must be offloaded.
    pub policy: OffloadPolicy,
    /// Why it is, or is not, offloaded.
    pub offload: OffloadReason,
}

/// How one association of an SA is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssociationStatus {
    /// ESP or AH.
    pub operation: Operation,
    /// SPI.
    pub spi: Spi,
    /// Highest sequence number used or verified.
    pub sequence: u64,
}

/// The transport. Clones are the same transport.
///
/// Everything here may be called from any thread, and from time to time [`Transport::service`] should be. It is bound to one adapter at a time; where it is
/// bound to another, what the first holds is taken back.
pub struct Transport<P: Provider = Crypto> {
    shared: Arc<Shared<P>>,
}

impl<P: Provider> Clone for Transport<P> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<P: Provider> Transport<P> {
    /// A transport without SAs and policies: it discards everything.
    ///
    /// # Errors
    /// A capacity that the table does not take.
    pub fn new(config: TransportConfig, provider: P) -> Result<Self, sa_table::CapacityError> {
        let sad = SaTable::new(config.capacity, config.seed)?;
        let capabilities = Arc::new(PacketCapabilities::default());
        Ok(Self {
            shared: Arc::new(Shared {
                provider,
                medium: config.medium,
                clear: config.clear,
                sad: sad.clone(),
                epoch: AtomicU64::new(1),
                policies: Mutex::default(),
                tunnels: Mutex::default(),
                manager: Mutex::new(OffloadManager::new(sad, Arc::clone(&capabilities))),
                capabilities,
                lanes: Mutex::default(),
                sharing: AtomicBool::new(false),
                nesting: Nesting::default(),
                estate: Arc::default(),
                news: Mutex::default(),
                events: Mutex::default(),
                // All of it now: an attacker's packets must not make it grow.
                audit: Mutex::new(VecDeque::with_capacity(AUDIT_KEPT)),
            }),
        })
    }

    /// Opens a lane: the data side of one worker.
    pub fn open_lane(&self) -> TransportLane<P> {
        let counters = Arc::new(LaneCounters::default());
        let sharing = {
            let mut lanes = lock(&self.shared.lanes);
            lanes.push(Arc::clone(&counters));
            self.shared.sharing.load(Ordering::Acquire)
        };
        TransportLane::new(Arc::clone(&self.shared), counters, sharing)
    }

    /// Says that several lanes will send under the same SAs: lanes that are opened from now on keep the order of their packets, if their callers put them on the
    /// wire by [`TransportLane::transmit`].
    ///
    /// # Errors
    /// [`LanesOpen`]: there is a lane already.
    pub fn share_lanes(&self) -> Result<(), LanesOpen> {
        let lanes = lock(&self.shared.lanes);
        if self.shared.sharing.load(Ordering::Acquire) {
            return Ok(());
        }
        if lanes.iter().any(|counters| Arc::strong_count(counters) > 1) {
            return Err(LanesOpen);
        }
        // What has been sent so far is on the wire.
        self.shared.sad.for_each(|_, sa| {
            if sa.outbound {
                sa.begin_order();
            }
        });
        self.shared.sharing.store(true, Ordering::Release);
        Ok(())
    }

    /// Adds an SA, and offers it to the NIC. An outbound SA carries nothing until a policy names it.
    ///
    /// # Errors
    /// [`SaError`]: nothing was added.
    pub fn add_sa(&self, parameters: SaParameters, now: Time) -> Result<Handle, SaError> {
        let shared = &*self.shared;
        let inside = parameters.inside.as_deref().and_then(|name| shared.tunnel(parameters.direction, name));
        let sa = Sa::new(&shared.provider, parameters, inside, now)?;
        if sa.outbound && shared.sharing.load(Ordering::Acquire) {
            sa.order();
        }
        let (identity, footprint, destination) = (Identity::of(sa.parameters()), Footprint::of(&sa), sa.parameters().destination);
        let inbound = !sa.outbound;
        let keys = if inbound { keys(sa.parameters()) } else { ArrayVec::new() };
        // Two inbound SAs may share SPI and destination if every packet's source tells them apart (OV2-SA-4).
        let mut taken = None;
        let conflicts = |_: &sa_table::Key, other: &Sa<P>| {
            taken = taken.or_else(|| identity.conflict(other.parameters()));
            taken.is_some()
        };
        let handle = match shared.sad.insert_unless(sa, &keys, conflicts) {
            Ok(handle) => handle,
            Err(InsertError::Full { .. }) => return Err(SaError::Full { name: footprint.name }),
            Err(_) => return Err(SaError::Duplicate { name: footprint.name, spi: taken.unwrap_or(identity.spi()), destination }),
        };
        if let Some(tunnel) = inside {
            let _ = shared.sad.with(tunnel.handle, |tunnel| tunnel.surround(footprint.udp));
        }
        shared.leave(handle, &footprint, true);
        let mut manager = lock(&shared.manager);
        manager.add(handle);
        if let Some(tunnel) = inside {
            manager.surrounded(tunnel.handle);
        }
        Ok(handle)
    }

    /// Notes that two SAs are the two directions of one connection: when the NIC asks to delete the inbound one, both are (OV2-SA-8).
    pub fn pair(&self, inbound: Handle, outbound: Handle) {
        lock(&self.shared.manager).pair(inbound, outbound);
    }

    /// Removes an SA. Policies that name it protect by nothing then: their packets are dropped, never sent in clear. Returns whether it was there.
    pub fn remove_sa(&self, sa: Handle) -> bool {
        let shared = &*self.shared;
        lock(&shared.manager).remove(sa);
        let footprint = shared.sad.with(sa, Footprint::of);
        let removed = shared.sad.remove(sa).is_ok();
        shared.sad.reclaim(|_| {});
        if removed && let Ok(footprint) = footprint {
            if let Some(tunnel) = footprint.inside {
                let _ = shared.sad.with(tunnel, |tunnel| tunnel.release(footprint.udp));
                lock(&shared.manager).surrounded(tunnel);
            }
            shared.leave(sa, &footprint, false);
        }
        removed
    }

    /// Changes the security policy database; lanes see the change with their next batch.
    pub fn set_policies(&self, change: impl FnOnce(&mut Spd)) {
        self.shared.change(|policies| change(Arc::make_mut(&mut policies.spd)));
    }

    /// Adds a policy that protects by `sa` what the SA may carry, in the SA's direction, behind the policies that are there.
    pub fn protect(&self, sa: Handle) {
        let Ok((direction, selectors)) = self.shared.sad.with(sa, |sa| (sa.parameters().direction, sa.selectors().to_vec())) else {
            return;
        };
        let action = crate::spd::Action::Protect((direction == Direction::Outbound).then_some(sa));
        self.set_policies(|spd| spd.push(Policy { direction, selectors, action }));
    }

    /// How an SA is doing.
    pub fn sa(&self, sa: Handle) -> Option<SaStatus> {
        let offload = lock(&self.shared.manager).reason(sa)?;
        self.shared.sad.with(sa, |found| status(sa, found, offload)).ok()
    }

    /// Everything that an SA needs of an adapter and that `capabilities` lack; `None` if there is no such SA.
    pub fn lacks(&self, sa: Handle, capabilities: &IpsecOffloadV2) -> Option<Vec<NotCovered>> {
        self.shared.sad.with(sa, |sa| crate::offload::lacks(capabilities, sa)).ok()
    }

    /// As [`Transport::lacks`], of an adapter with IPsecOV1.
    pub fn lacks_v1(&self, sa: Handle, capabilities: &IpsecOffloadV1) -> Option<Vec<NotCovered>> {
        self.shared.sad.with(sa, |sa| crate::offload::lacks_v1(capabilities, sa)).ok()
    }

    /// How all SAs are doing.
    pub fn sas(&self) -> Vec<SaStatus> {
        let manager = lock(&self.shared.manager);
        let mut list = Vec::new();
        self.shared.sad.for_each(|handle, sa| {
            if let Some(offload) = manager.reason(handle) {
                list.push(status(handle, sa, offload));
            }
        });
        list
    }

    /// UDP ports besides 4500 that inbound SAs have for their ESP: what received packets are spread over lanes by.
    pub fn udp_esp_ports(&self) -> Vec<u16> {
        lock(&self.shared.policies).udp_ports.keys().copied().collect()
    }

    /// Packets that went out, summed over lanes.
    pub fn outbound(&self) -> WayCounts {
        self.sum(|counters| &counters.outbound)
    }

    /// Packets that came in, summed over lanes.
    pub fn inbound(&self) -> WayCounts {
        self.sum(|counters| &counters.inbound)
    }

    fn sum(&self, way: impl Fn(&LaneCounters) -> &crate::verdict::WayCounters) -> WayCounts {
        let mut sum = WayCounts::default();
        for lane in lock(&self.shared.lanes).iter() {
            sum.add(way(lane));
        }
        sum
    }

    /// Requests to the NIC, counted.
    pub fn offload_counts(&self) -> OffloadCounts {
        lock(&self.shared.manager).counts()
    }

    /// The adapter's current configuration, as far as it was told; everything off without an adapter.
    pub fn current_config(&self) -> Offload {
        *lock(&self.shared.manager).config()
    }

    /// What the transport was told when it was bound.
    pub fn bind_parameters(&self) -> Option<BindParameters> {
        lock(&self.shared.manager).parameters().cloned()
    }

    /// SA events since the last call.
    pub fn take_events(&self) -> Vec<SaEvent> {
        lock(&self.shared.events).drain(..).collect()
    }

    /// Audit events since the last call: the newest, at most 1024.
    pub fn take_audit(&self) -> Vec<AuditEvent> {
        lock(&self.shared.audit).drain(..).collect()
    }

    /// What is due: requests to the NIC that the lanes' packets gave rise to, events, removed SAs that no lane uses any more, the index of policies that have
    /// changed.
    pub fn service(&self, now: Time) {
        let shared = &*self.shared;
        let news = core::mem::take(&mut *lock(&shared.news));
        for news in news {
            match news {
                LaneNews::DeleteRequested(sa) => {
                    shared.event(sa, SaEventKind::DeleteRequested, now);
                    lock(&shared.manager).delete_requested(sa);
                }
                LaneNews::HighHalf(sa, operation) => lock(&shared.manager).update_high(sa, operation),
                LaneNews::Renew(sa) => lock(&shared.manager).renew(sa),
                LaneNews::SequenceLow(sa) | LaneNews::Life(sa, Life::SoftReached) => shared.event(sa, SaEventKind::SoftExpired, now),
                LaneNews::Life(sa, _) => {
                    shared.event(sa, SaEventKind::HardExpired, now);
                    lock(&shared.manager).expired(sa);
                }
                LaneNews::SequenceExhausted(sa) => {
                    shared.event(sa, SaEventKind::SequenceExhausted, now);
                    lock(&shared.manager).expired(sa);
                }
            }
        }
        shared.sad.reclaim(|_| {});
        let spd = Arc::clone(&lock(&shared.policies).spd);
        spd.prepare();
    }

    /// What is due every second or so: lifetimes of SAs that carry nothing, and places of the NIC for those that carry most.
    pub fn tick(&self, now: Time) {
        let mut due = Vec::new();
        self.shared.sad.for_each(|handle, sa| match sa.lifetime.check_time(now) {
            life @ (Life::SoftReached | Life::HardReached) => due.push(LaneNews::Life(handle, life)),
            Life::Good | Life::Over => {}
        });
        self.shared.tell(&mut due);
        self.service(now);
        lock(&self.shared.manager).rebalance(16);
    }
}

fn status<P: Provider>(handle: Handle, sa: &Sa<P>, offload: OffloadReason) -> SaStatus {
    let associations = sa.parameters().associations.iter().map(|parameters| AssociationStatus {
        operation: parameters.operation,
        spi: parameters.spi,
        sequence: sa.association(parameters.operation).map_or(0, crate::association::Association::sequence),
    });
    SaStatus {
        handle,
        name: Arc::clone(&sa.name),
        direction: sa.parameters().direction,
        mode: sa.mode,
        spi: sa.parameters().associations[0].spi,
        associations: associations.collect(),
        source: sa.parameters().source,
        destination: sa.parameters().destination,
        selectors: sa.selectors().to_vec(),
        sequence: sa.sequence(),
        packets: sa.lifetime.packets(),
        bytes: sa.lifetime.bytes(),
        policy: sa.parameters().offload,
        offload,
    }
}

impl<P: Provider> Protocol for Transport<P> {
    fn bind(&self, parameters: BindParameters, binding: Binding) {
        lock(&self.shared.manager).bind(parameters, binding);
    }

    fn unbind(&self) {
        lock(&self.shared.manager).unbind();
    }

    fn status(&self, indication: StatusIndication) {
        let mut manager = lock(&self.shared.manager);
        match indication {
            StatusIndication::TaskOffloadCurrentConfig(config) => manager.configure(*config),
            // Capabilities only say what could be configured; a configuration that exceeds them is followed by a new one (OV2-CAP-11).
            StatusIndication::TaskOffloadHardwareCapabilities(_) => {}
            StatusIndication::ResetStart => manager.reset_started(),
            StatusIndication::ResetEnd => manager.reset_ended(),
            StatusIndication::AdapterRemoved => manager.unbind(),
        }
    }

    fn direct_oid_complete(&self, status: Status, request: DirectOidRequest) {
        lock(&self.shared.manager).complete(status, &request);
    }
}

/// A thread that panicked under one of these locks leaves nothing half done that matters more than going on: each holds a list or a map of which every
/// single change is whole.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
