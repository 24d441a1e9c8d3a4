//! A host put together: a transport over the NDIS-like stack over a software NIC. Its control side is one, its lanes are as many as there are workers; a
//! [`Host`] has both, for whoever calls from one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipsec::Crypto;
use ndis::{
    AdapterState, Datapath, Filter, Keyword, LaneContext, MemoryRegistry, MiniportDriver, NblBatch, NdisVersion, Offload, Protocol, Registry, Stack,
    StackError, StatusIndication,
};
use nic::{DeletePolicy, NicCounters, NicDriver, NicParameters, SoftwareEngine};
use packet::{BufferPool, FrameBatch, Medium, Time};
use sa_table::{Handle, SEED_WORDS, Seed};
use transport::{ClearPolicy, InboundBatch, LanesOpen, Mode, OffloadPolicy, OffloadReason, SaError, SaParameters, Transport, TransportConfig, TransportLane};

use crate::operator::Operator;
use crate::profile::Profile;
use crate::workers::Crew;

/// Name of a host's adapter.
pub const ADAPTER: &str = "nic0";

/// How often lifetimes of idle SAs, and which SAs the NIC has, are looked at.
const TICK: Duration = Duration::from_secs(1);

/// What a host is made with.
#[derive(Clone)]
pub struct HostConfig {
    /// What its frames begin with, on both sides.
    pub medium: Medium,
    /// The NDIS version of its miniport.
    pub version: NdisVersion,
    /// The cryptographic library of NIC and transport.
    pub crypto: Crypto,
    /// Where the adapter's keywords are.
    pub registry: Arc<dyn Registry>,
    /// What becomes of packets that come in and match no SA.
    pub clear: ClearPolicy,
    /// Most SAs of the transport.
    pub capacity: usize,
    /// What the NIC can do: of what the software engine can, whatever is in here, too.
    pub hardware: Offload,
    /// The hardware has no tunnel mode, against OV2-CAP-2, and that is meant so.
    pub deviates_without_tunnel: bool,
    /// When the NIC asks for the deletion of SAs.
    pub delete_policy: DeletePolicy,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Whether SPIs 1 to 255 are taken, by NIC and transport.
    pub reserved_spis: bool,
    /// Filters on the adapter, the lowest first; there before the protocols are, so that they see the first request.
    pub filters: Vec<Arc<dyn Filter>>,
    /// Workers of a [`Host`]: with 0 and 1 its caller does the work, with more threads of its own do.
    pub workers: usize,
}

impl Default for HostConfig {
    /// Ethernet, NDIS 6.30, everything that the software NIC can do, and a registry of its own with nothing in it.
    fn default() -> Self {
        Self {
            medium: Medium::Ethernet,
            version: NdisVersion::V6_30,
            crypto: Crypto::default(),
            registry: Arc::new(MemoryRegistry::new()),
            clear: ClearPolicy::Decide,
            capacity: 65_536,
            hardware: nic::software_capabilities(nic::DEFAULT_CAPACITY),
            deviates_without_tunnel: false,
            delete_policy: DeletePolicy::default(),
            mtu: 1500,
            reserved_spis: false,
            filters: Vec::new(),
            workers: 1,
        }
    }
}

impl HostConfig {
    /// The same with a NIC of that profile.
    #[must_use]
    pub fn with_profile(self, profile: &Profile) -> Self {
        Self { version: profile.version, hardware: profile.offload, deviates_without_tunnel: profile.deviates_without_tunnel(), ..self }
    }

    /// The same with checksum offload switched off by its keywords, in a registry of its own: for those who look at IPsec alone.
    #[must_use]
    pub fn without_checksums(self) -> Self {
        let registry = MemoryRegistry::new();
        for keyword in [Keyword::TcpUdpChecksumIpv4, Keyword::TcpUdpChecksumIpv6] {
            registry.set_text(ADAPTER, keyword, "0");
        }
        Self { registry: Arc::new(registry), ..self }
    }

    /// The same with a NIC that holds so many SA bundles.
    #[must_use]
    pub fn with_nic_capacity(mut self, bundles: u32) -> Self {
        self.hardware.ipsec_v2.sa_offload_capacity = bundles;
        self.hardware.ipsec_v1.ext_sa_capacity = bundles;
        self
    }
}

/// An SA that must be offloaded, and is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SA {name:?}: offload is required, and the adapter does not have it: {reason}")]
pub struct NotOffloaded {
    /// The SA's name.
    pub name: String,
    /// Why it is not.
    pub reason: OffloadReason,
}

/// Why a host cannot be put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The stack refused the adapter.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// A table of that size cannot be.
    #[error("capacity: {0}")]
    Capacity(#[from] sa_table::CapacityError),
    /// Lanes are to be shared that are open.
    #[error(transparent)]
    LanesOpen(#[from] LanesOpen),
    /// A worker's thread cannot be started.
    #[error("a worker cannot be started: {0}")]
    Worker(#[from] std::io::Error),
    /// The system has no random numbers.
    #[error("the system's random generator failed: {0}")]
    Random(#[from] getrandom::Error),
}

/// The control side of a host with one adapter: what may be called from any thread, beside the lanes.
///
/// Several workers, each with a lane of its own, that share outbound SAs (without [`HostControl::share_lanes`] there is no order between them):
///
/// ```
/// use ipsecov2::host::{HostConfig, HostControl};
/// use packet::{FrameBatch, Time};
///
/// let control = HostControl::new(&HostConfig::default())?;
/// control.share_lanes()?;
/// let lanes = [control.open_lane()?, control.open_lane()?];
/// std::thread::scope(|scope| {
///     for mut lane in lanes {
///         scope.spawn(move || {
///             let (mut packets, mut wire) = (FrameBatch::new(), FrameBatch::new()); // packets: from lane.pool()
///             lane.send(Time::ZERO, &mut packets, &mut wire);
///             lane.transmit(&mut wire, |_, frames| frames.clear()); // to the link
///         });
///     }
/// });
/// # Ok::<(), ipsecov2::host::HostError>(())
/// ```
pub struct HostControl {
    stack: Stack,
    nic: Arc<NicDriver<SoftwareEngine>>,
    transport: Transport,
    /// The transport as the stack knows it: whose SAs its lanes use.
    protocol: Arc<dyn Protocol>,
    operator: Operator,
    /// When lifetimes and the NIC's places were last looked at, in nanoseconds.
    ticked: AtomicU64,
}

impl HostControl {
    /// Puts a host without lanes together: loads the miniport, and binds the transport, which activates the offloads.
    ///
    /// # Errors
    /// [`HostError`].
    #[expect(clippy::missing_panics_doc, reason = "the engine took this capacity a moment before")]
    pub fn new(config: &HostConfig) -> Result<Self, HostError> {
        let parameters = NicParameters {
            version: config.version,
            medium: config.medium,
            mtu: config.mtu,
            reserved_spis: config.reserved_spis,
            delete_policy: config.delete_policy,
            deviates_without_tunnel: config.deviates_without_tunnel,
            ..NicParameters::new(ADAPTER)
        };
        // Asked once here, so that the factory, which cannot fail, does not meet a capacity that is refused.
        SoftwareEngine::with_hardware(config.crypto, &config.hardware)?;
        let (crypto, hardware) = (config.crypto, config.hardware);
        let make = move || SoftwareEngine::with_hardware(crypto, &hardware).expect("this capacity was taken before");
        let nic = Arc::new(NicDriver::new(parameters, make));
        let transport =
            Transport::new(TransportConfig { medium: config.medium, capacity: config.capacity, seed: random_seed()?, clear: config.clear }, config.crypto)?;
        let stack = Stack::new(Arc::clone(&config.registry));
        stack.add_adapter(ADAPTER, Arc::clone(&nic) as Arc<dyn MiniportDriver>)?;
        for filter in &config.filters {
            stack.attach_filter(ADAPTER, Arc::clone(filter))?;
        }
        let operator = Operator::new();
        stack.bind(Arc::new(operator.clone()), ADAPTER)?;
        let protocol: Arc<dyn Protocol> = Arc::new(transport.clone());
        stack.bind(Arc::clone(&protocol), ADAPTER)?;
        stack.pump();
        Ok(Self { stack, nic, transport, protocol, operator, ticked: AtomicU64::new(0) })
    }

    /// Says that several lanes will send under the same SAs: each of their callers then puts frames on the wire by [`HostLane::transmit`].
    ///
    /// # Errors
    /// [`HostError::LanesOpen`].
    pub fn share_lanes(&self) -> Result<(), HostError> {
        Ok(self.transport.share_lanes()?)
    }

    /// Opens the way to the adapter alone.
    pub(crate) fn open_datapath(&self) -> Result<Datapath, HostError> {
        Ok(self.stack.open_datapath_of(&self.protocol, ADAPTER)?)
    }

    /// Opens a lane: what one worker needs to send and receive.
    ///
    /// # Errors
    /// [`HostError::Stack`] if the adapter is gone.
    pub fn open_lane(&self) -> Result<HostLane, HostError> {
        let path = self.open_datapath()?;
        Ok(HostLane { lane: self.transport.open_lane(), path, pool: BufferPool::new(), received: NblBatch::new() })
    }

    /// The transport: SAs, policies, counters, events.
    pub const fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The stack: adapters and filters.
    pub const fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The operator's side of the adapter.
    pub const fn operator(&self) -> &Operator {
        &self.operator
    }

    /// The NIC's counters.
    pub fn nic_counters(&self) -> NicCounters {
        self.nic.counters()
    }

    /// Adds an SA with a policy that protects by it what its selectors say, behind the policies that are there.
    ///
    /// # Errors
    /// [`SaError`].
    pub fn add_sa(&self, parameters: SaParameters, now: Time) -> Result<Handle, SaError> {
        let sa = self.transport.add_sa(parameters, now)?;
        self.transport.protect(sa);
        Ok(sa)
    }

    /// The first SA that must be offloaded and is not; to be asked when all were added.
    ///
    /// # Errors
    /// [`NotOffloaded`] with the reason.
    pub fn check_required(&self) -> Result<(), NotOffloaded> {
        let sas = self.transport.sas();
        let unmet = sas.iter().find(|sa| sa.policy == OffloadPolicy::Require && sa.offload != OffloadReason::Offloaded);
        unmet.map_or(Ok(()), |sa| Err(NotOffloaded { name: sa.name.to_string(), reason: sa.offload }))
    }

    /// Adds SAs with their policies, which stand in the order of `sas`, behind those that are there. The handles come in that order, too.
    ///
    /// A tunnel bundle that others are inside of, and that says nothing of packets of its own (it has no selectors), carries only theirs: it has no policy.
    ///
    /// # Errors
    /// The place in `sas` of the first that was refused, and why. Others may have been added.
    pub fn add_sas(&self, sas: Vec<SaParameters>, now: Time) -> Result<Vec<Handle>, (usize, SaError)> {
        let carries_only = |sa: &SaParameters| {
            sa.mode == Mode::Tunnel
                && sa.selectors.is_empty()
                && sas.iter().any(|other| other.direction == sa.direction && other.inside.as_ref() == Some(&sa.name))
        };
        let policies: Vec<bool> = sas.iter().map(|sa| !carries_only(sa)).collect();
        let mut handles: Vec<Option<Handle>> = vec![None; sas.len()];
        let mut left: Vec<(usize, SaParameters)> = sas.into_iter().enumerate().collect();
        // Whom others are inside of first.
        left.sort_by_key(|(_, sa)| sa.inside.is_some());
        for (place, sa) in left {
            handles[place] = Some(self.transport.add_sa(sa, now).map_err(|error| (place, error))?);
        }
        let handles: Vec<Handle> = handles.into_iter().flatten().collect();
        for (&handle, _) in handles.iter().zip(policies).filter(|(_, policy)| *policy) {
            self.transport.protect(handle);
        }
        Ok(handles)
    }

    /// Does what is due besides packets, but for what the lanes do: delivers completions and indications, and acts on them.
    pub fn service(&self, now: Time) {
        self.stack.pump();
        let ticked = Time::from_nanos(self.ticked.load(Ordering::Relaxed));
        if now.since(ticked) >= TICK {
            self.ticked.store(now.as_nanos(), Ordering::Relaxed);
            self.transport.tick(now);
        } else {
            self.transport.service(now);
        }
    }
}

/// The data side of a host for one worker.
pub struct HostLane {
    lane: TransportLane<Crypto>,
    path: Datapath,
    pool: BufferPool,
    received: NblBatch,
}

impl HostLane {
    /// Buffers of this lane: what frames that are handed in are made from, so that none is allocated in steady state.
    pub const fn pool(&mut self) -> &mut BufferPool {
        &mut self.pool
    }

    /// Sends packets: what leaves the host is appended to `wire`, `packets` is left empty.
    ///
    /// Where [lanes share SAs](HostControl::share_lanes) only [`HostLane::transmit`] may put `wire` on the wire, and it must follow soon: other workers wait.
    #[inline]
    pub fn send(&mut self, now: Time, packets: &mut FrameBatch, wire: &mut FrameBatch) {
        let mut cx = LaneContext { now, pool: &mut self.pool };
        self.lane.outbound(&mut cx, packets, &mut self.path, wire);
    }

    /// Puts `wire` on the wire by `send`, which gets the lane's pool, in the order of the SAs' numbers, whatever other lanes do
    /// ([`TransportLane::transmit`]). What `send` leaves is handed back in `wire`.
    #[inline]
    pub fn transmit(&mut self, wire: &mut FrameBatch, mut send: impl FnMut(&mut BufferPool, &mut FrameBatch)) {
        let Self { lane, pool, .. } = self;
        lane.transmit(wire, |frames| send(pool, frames));
    }

    /// Takes frames from the wire, and leaves `frames` empty. What they hold comes out in `out`. Returns how many frames were lost because the adapter does
    /// not run.
    #[inline]
    pub fn receive(&mut self, now: Time, frames: &mut FrameBatch, out: &mut InboundBatch) -> usize {
        let mut cx = LaneContext { now, pool: &mut self.pool };
        let lost = self.path.receive(&mut cx, frames, &mut self.received);
        self.lane.inbound(&mut cx, &mut self.received, out);
        lost
    }

    /// There is nothing to do, and may not be for a while: deletions of SAs need not wait for this lane.
    pub fn idle(&mut self) {
        self.path.idle();
    }

    /// Fetches sends that the adapter finished later, and sends what waited for it. To be called now and then, and when there is nothing to do.
    pub fn poll(&mut self, now: Time, wire: &mut FrameBatch) {
        let mut cx = LaneContext { now, pool: &mut self.pool };
        self.lane.poll(&mut cx, &mut self.path, wire);
    }

    /// Packets that wait for the adapter to run.
    pub fn backlog(&self) -> usize {
        self.lane.backlog()
    }

    /// What the adapter is doing.
    pub fn adapter_state(&mut self) -> AdapterState {
        self.path.state()
    }
}

/// A host with one adapter, for a caller of one thread: with one lane, or with several [workers](crate::workers) between whose packets it is not told
/// apart.
///
/// Time is the caller's: every call that needs it takes it.
pub struct Host {
    control: Arc<HostControl>,
    lanes: Lanes,
}

/// Who does a host's work.
enum Lanes {
    /// The caller.
    One(Box<HostLane>),
    /// Workers of its own.
    Many(Box<Crew>),
}

impl Host {
    /// Puts a host together: loads the miniport, binds the transport (which activates the offloads) and opens its lanes.
    ///
    /// # Errors
    /// [`HostError`].
    pub fn new(config: &HostConfig) -> Result<Self, HostError> {
        let control = Arc::new(HostControl::new(config)?);
        let lanes = if config.workers <= 1 {
            Lanes::One(Box::new(control.open_lane()?))
        } else {
            Lanes::Many(Box::new(Crew::new(&control, config.medium, config.workers)?))
        };
        Ok(Self { control, lanes })
    }

    /// The transport: SAs, policies, counters, events.
    pub fn transport(&self) -> &Transport {
        &self.control.transport
    }

    /// The stack: adapters and filters.
    pub fn stack(&self) -> &Stack {
        &self.control.stack
    }

    /// The operator's side of the adapter.
    pub fn operator(&self) -> &Operator {
        &self.control.operator
    }

    /// The NIC's counters.
    pub fn nic_counters(&self) -> NicCounters {
        self.control.nic_counters()
    }

    /// Buffers: what frames that are handed in are made from, so that none is allocated in steady state.
    pub fn pool(&mut self) -> &mut BufferPool {
        match &mut self.lanes {
            Lanes::One(lane) => lane.pool(),
            Lanes::Many(crew) => crew.pool(),
        }
    }

    /// Attaches a filter, such as the tracer.
    ///
    /// # Errors
    /// [`StackError`].
    pub fn attach_filter(&self, filter: Arc<dyn Filter>) -> Result<(), StackError> {
        self.control.stack.attach_filter(ADAPTER, filter)
    }

    /// As [`HostControl::add_sa`].
    ///
    /// # Errors
    /// [`SaError`].
    pub fn add_sa(&self, parameters: SaParameters, now: Time) -> Result<Handle, SaError> {
        self.control.add_sa(parameters, now)
    }

    /// As [`HostControl::check_required`].
    ///
    /// # Errors
    /// [`NotOffloaded`] with the reason.
    pub fn check_required(&self) -> Result<(), NotOffloaded> {
        self.control.check_required()
    }

    /// As [`HostControl::add_sas`].
    ///
    /// # Errors
    /// The place in `sas` of the first that was refused, and why. Others may have been added.
    pub fn add_sas(&self, sas: Vec<SaParameters>, now: Time) -> Result<Vec<Handle>, (usize, SaError)> {
        self.control.add_sas(sas, now)
    }

    /// Sends packets: what leaves the host is appended to `wire`, `packets` is left empty.
    ///
    /// With several workers packets of different flows may change places; those of a flow, and those of an SA on the wire, do not.
    pub fn send(&mut self, now: Time, packets: &mut FrameBatch, wire: &mut FrameBatch) {
        match &mut self.lanes {
            Lanes::One(lane) => lane.send(now, packets, wire),
            Lanes::Many(crew) => crew.send(now, packets, wire),
        }
    }

    /// Takes frames from the wire, and leaves `frames` empty. What they hold comes out in `out`. Returns how many frames were lost because the adapter does
    /// not run.
    pub fn receive(&mut self, now: Time, frames: &mut FrameBatch, out: &mut InboundBatch) -> usize {
        match &mut self.lanes {
            Lanes::One(lane) => lane.receive(now, frames, out),
            Lanes::Many(crew) => crew.receive(now, frames, out),
        }
    }

    /// Does what is due besides packets: delivers completions and indications, acts on them, and sends what waited for the adapter. To be called after
    /// batches, and when there is nothing to do.
    pub fn service(&mut self, now: Time, wire: &mut FrameBatch) {
        match &mut self.lanes {
            Lanes::One(lane) => {
                lane.idle();
                self.control.service(now);
                lane.poll(now, wire);
            }
            Lanes::Many(crew) => {
                crew.poll(now, wire);
                self.control.service(now);
                crew.poll(now, wire);
            }
        }
    }

    /// How many workers it has; 1: its caller.
    pub fn workers(&self) -> usize {
        match &self.lanes {
            Lanes::One(_) => 1,
            Lanes::Many(crew) => crew.workers(),
        }
    }

    /// Packets that wait for the adapter to run.
    pub fn backlog(&self) -> usize {
        match &self.lanes {
            Lanes::One(lane) => lane.backlog(),
            Lanes::Many(crew) => crew.backlog(),
        }
    }

    /// Stops the adapter and starts it again, with the keywords as they are now.
    ///
    /// # Errors
    /// [`StackError`].
    pub fn restart_adapter(&self) -> Result<(), StackError> {
        self.control.stack.restart_adapter(ADAPTER)
    }

    /// Begins a reset of the adapter; [`Host::service`] ends it.
    ///
    /// # Errors
    /// [`StackError`].
    pub fn reset_adapter(&self) -> Result<(), StackError> {
        self.control.stack.reset_adapter(ADAPTER)
    }

    /// What the adapter is doing.
    pub fn adapter_state(&mut self) -> AdapterState {
        match &mut self.lanes {
            Lanes::One(lane) => lane.adapter_state(),
            Lanes::Many(crew) => crew.adapter_state(),
        }
    }

    /// Status indications since the last call.
    pub fn take_indications(&self) -> Vec<StatusIndication> {
        self.control.operator.take_indications()
    }
}

fn random_seed() -> Result<Seed, getrandom::Error> {
    let mut words = [0; SEED_WORDS];
    for word in &mut words {
        *word = getrandom::u64()?;
    }
    Ok(Seed::new(words))
}
