//! What a NIC maker implements: [`Engine`] and [`EngineQueue`].
//!
//! [`NicMiniport`](crate::NicMiniport) speaks the IPsecOV2 contract above, and an engine does the work below. The miniport validates every request,
//! keeps the list of SAs, counts capacity, tells duplicates, configures, resets, and answers for statuses; what reaches an engine is sound and lies
//! within what the engine said that it can do. So an engine is small: `examples/foreign_engine.rs` is a whole one.
//!
//! # How to begin
//!
//! 1. [`Engine::hardware_capabilities`]: say exactly what the card does, no more (OV2-CAP-12). Everything else goes up untouched, and the transport
//!    does it in software.
//! 2. [`Engine::add_sa`]: load the bundle into the card and answer with a handle; or start to, answer [`Progress::Pending`], and report
//!    [`EngineEvent::Added`] from [`Engine::poll`]. Handles are the engine's: never zero, never reused while a packet may still carry them, and
//!    recognised when they are stale (OV2-SA-5). [`sa_table`] gives out such handles.
//! 3. [`EngineQueue::send`]: lists without a handle go out as they stand. For the others check out-of-band data against the packet (OV2-OOB-3),
//!    make IV, ciphertext and ICV in place (OV2-SEND-8), and complete each list exactly once: at once into `done`, or from [`EngineQueue::poll`].
//!    A list that fails is whole, as it was handed over, with a failure status, and nothing of it is on the wire (OV2-SEND-2).
//! 4. [`EngineQueue::receive`]: append every packet to `up`, in order (OV2-RECV-1), with [`NetBufferList::l3_offset`](ndis::NetBufferList) set and
//!    the out-of-band data as OV2-RECV-3 to OV2-RECV-6 say.
//! 5. [`Engine::delete_sa`]: take the bundle out of reach, and report the end only when no batch can still use it and its keys are erased
//!    (OV2-SA-7).
//!
//! # What the miniport promises
//!
//! Methods of [`Engine`] other than [`Engine::queue`] are called one at a time (the miniport holds its own mutex for the moment), from any thread,
//! beside traffic on any number of queues. They must neither block nor call back. Methods of one [`EngineQueue`] are called by one thread at a time.

use ndis::{ChecksumSet, Encapsulation, IpsecOffloadV2, NblBatch, Offload, OffloadHandle, SaBundle, Status, UpdateSa};
use packet::{FrameBatch, IpVersion, Medium};

pub use ndis::LaneContext;

/// Names an operation that an engine ends later. Given by the miniport, handed back in the [`EngineEvent`]; unique per miniport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// How an operation went: it is over, or it ends later with an [`EngineEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// Over, with this result.
    Done(T),
    /// Under way: an event with the operation's token says how it ended.
    Pending,
}

/// What [`Engine::poll`] reports. Each pended operation ends with exactly one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// [`Engine::add_sa`] ended.
    Added {
        /// The operation.
        token: Token,
        /// The handle, or why the bundle was not added.
        result: Result<OffloadHandle, Status>,
    },
    /// [`Engine::update_sa`] ended.
    Updated {
        /// The operation.
        token: Token,
        /// How.
        status: Status,
    },
    /// [`Engine::delete_sa`] ended: nothing leaves or is accepted under the bundle any more, and its keys are erased.
    Deleted {
        /// The operation.
        token: Token,
    },
    /// [`Engine::reset`] ended: no bundle is left, and every operation and send that was under way before has ended.
    ResetDone {
        /// The operation.
        token: Token,
    },
    /// What [`Engine::hardware_capabilities`] returns has changed (OV2-CAP-11).
    HardwareCapabilitiesChanged,
}

/// Whether the offloads of one IP family are active (OV2-CAP-9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// No `OID_OFFLOAD_ENCAPSULATION` has come yet: what the keywords allow is on for sends, and nothing is done on receive.
    #[default]
    Initial,
    /// Activated: sends and receives.
    On {
        /// The encapsulation that was asked for.
        encapsulation: Encapsulation,
        /// The link header's size that was given, in bytes.
        header_size: u32,
    },
    /// Deactivated: neither sends nor receives.
    Off,
}

impl Activation {
    /// Whether packets may be sent with offload.
    pub const fn sends(self) -> bool {
        !matches!(self, Self::Off)
    }

    /// Whether packets may be sent with an offload that works under `offered`.
    pub const fn sends_under(self, offered: Encapsulation) -> bool {
        match self {
            Self::Initial => true,
            Self::On { encapsulation, .. } => offered.contains(encapsulation),
            Self::Off => false,
        }
    }

    /// Whether received packets may be processed.
    pub const fn receives(self) -> bool {
        matches!(self, Self::On { .. })
    }
}

/// What an engine shall do from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// The current configuration: within the hardware capabilities.
    pub current: Offload,
    /// Whether offloads are active for packets whose outermost IP header is IPv4.
    pub ipv4: Activation,
    /// Whether offloads are active for packets whose outermost IP header is IPv6.
    pub ipv6: Activation,
    /// What frames begin with.
    pub medium: Medium,
    /// The local UDP port of UDP-ESP (OV2-RECV-7), for bundles that name none of their own
    /// ([`SaExtension::udp_esp_port`](ndis::SaExtension::udp_esp_port)).
    pub udp_esp_port: u16,
    /// Whether SPIs 1 to 255 are allowed (OV2-SA-4).
    pub reserved_spis: bool,
    /// Whether ESP without any authentication is allowed (OV2-COMB-2); of a single bundle its owner may allow it too.
    pub allow_unauthenticated: bool,
    /// Whether the engine may ask by itself for the deletion of SAs that near the end of their sequence numbers (OV2-SA-8).
    pub end_of_life_requests: bool,
}

impl EngineConfig {
    pub(crate) const fn activation(&self, version: IpVersion) -> Activation {
        match version {
            IpVersion::V4 => self.ipv4,
            IpVersion::V6 => self.ipv6,
        }
    }

    /// Whether packets of that outer IP version are sent with IPsecOV2.
    pub fn ipsec_sends(&self, version: IpVersion) -> bool {
        let IpsecOffloadV2 { encapsulation, ipv6_supported, .. } = self.current.ipsec_v2;
        self.current.ipsec_v2.is_supported() && (version == IpVersion::V4 || ipv6_supported) && self.activation(version).sends_under(encapsulation)
    }

    /// The checksums that are computed in packets of that IP version as they are sent; none if nothing is active for it.
    pub fn checksum_sends(&self, version: IpVersion) -> ChecksumSet {
        let checksum = &self.current.checksum;
        let set = match version {
            IpVersion::V4 => checksum.ipv4_transmit,
            IpVersion::V6 => checksum.ipv6_transmit,
        };
        if self.activation(version).sends_under(set.encapsulation) { set } else { ChecksumSet::default() }
    }

    /// The checksums that are verified in received packets of that IP version; none before an encapsulation is set.
    pub fn checksum_receives(&self, version: IpVersion) -> ChecksumSet {
        let checksum = &self.current.checksum;
        let set = match version {
            IpVersion::V4 => checksum.ipv4_receive,
            IpVersion::V6 => checksum.ipv6_receive,
        };
        let activation = self.activation(version);
        if activation.receives() && activation.sends_under(set.encapsulation) { set } else { ChecksumSet::default() }
    }

    /// Whether 802.1Q tags that are out of band go into frames: some offload that is configured has that form.
    pub fn inserts_tags(&self) -> bool {
        let Offload { checksum, lso_v1, lso_v2, ipsec_v1, ipsec_v2, .. } = &self.current;
        let sets = [checksum.ipv4_transmit, checksum.ipv4_receive, checksum.ipv6_transmit, checksum.ipv6_receive];
        let large = [lso_v1, &lso_v2.ipv4, &lso_v2.ipv6].map(|set| set.encapsulation);
        sets.iter()
            .map(|set| set.encapsulation)
            .chain(large)
            .chain([ipsec_v1.encapsulation, ipsec_v2.encapsulation])
            .any(|encapsulation| encapsulation.contains(Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB))
    }

    /// Whether 802.1Q tags of received frames are taken out of the data: every family that is active was activated with tags out of band, and some offload has
    /// that form.
    pub fn strips_tags(&self) -> bool {
        let apart = |activation| match activation {
            Activation::On { encapsulation, .. } => Some(encapsulation.contains(Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB)),
            Activation::Initial | Activation::Off => None,
        };
        let active = [apart(self.ipv4), apart(self.ipv6)];
        self.medium == Medium::Ethernet && self.inserts_tags() && active.contains(&Some(true)) && !active.contains(&Some(false))
    }

    /// Whether IPsecOV2 is done on received packets of that outer IP version (OV2-CAP-9).
    pub fn ipsec_receives(&self, version: IpVersion) -> bool {
        self.ipsec_sends(version) && self.activation(version).receives()
    }
}

/// The control side of a NIC. See the [module](self) for what is expected and promised.
pub trait Engine: Send + Sync + 'static {
    /// What the hardware can do, whatever keywords say (OV2-CAP-1). Asked at initialisation and after
    /// [`EngineEvent::HardwareCapabilitiesChanged`].
    fn hardware_capabilities(&self) -> Offload;

    /// Sets what the engine shall do from the next batch on. Bundles that no longer fit stay loaded; sends on them fail, and their packets come up
    /// unprocessed (OV2-CAP-14). Called once before anything else.
    fn configure(&self, config: &EngineConfig);

    /// Loads a bundle. One that comes from IPsecOV1 has its [scope](ndis::SaExtension::v1_scope): which packets it is for, and that there is no out-of-band data
    /// beside its handle (OV1-3). It is valid, the current configuration covers it, there is room for it by the reported capacity, and no other inbound bundle
    /// has its SPI, destination and operation. The keys are the caller's: an engine copies what it needs, and erases its copy with the bundle.
    ///
    /// The result is the handle, or [`Status::RESOURCES`], [`Status::NOT_SUPPORTED`] or [`Status::INVALID_DATA`].
    fn add_sa(&self, token: Token, bundle: &SaBundle) -> Progress<Result<OffloadHandle, Status>>;

    /// Sets the high half of the sequence number (OV2-SA-6). The handle is live, has the association, and that has extended sequence numbers.
    ///
    /// The result is [`Status::SUCCESS`], or [`Status::INVALID_PARAMETER`] for an outbound bundle that would go back.
    fn update_sa(&self, token: Token, update: &UpdateSa) -> Progress<Status>;

    /// Takes a bundle away: no batch that begins after this call uses it. Over when no batch still uses it and its keys are erased (OV2-SA-7). The
    /// handle is live.
    fn delete_sa(&self, token: Token, handle: OffloadHandle) -> Progress<()>;

    /// Takes all bundles away and ends what is under way (OV2-OID-2): every pended operation gets its event, every send its completion, and then the
    /// reset is over. Also called when the adapter is halted; then nobody polls any more.
    fn reset(&self, token: Token) -> Progress<()>;

    /// Appends what has happened since the last call.
    fn poll(&self, events: &mut Vec<EngineEvent>);

    /// Asks for [`sa_delete_request`](ndis::IpsecReceive::sa_delete_request) on the next packet that is received under an inbound bundle
    /// (OV2-SA-8). An engine that cannot do that ignores it.
    fn request_delete(&self, _handle: OffloadHandle) {}

    /// No bundle of IPsecOV1 is in UDP to that port any more, and none will be until one is added with it
    /// ([`SaExtension::udp_esp_port`](ndis::SaExtension::udp_esp_port)): received packets need not be looked into (OV1-2a).
    fn release_udp_esp_port(&self, _port: u16) {}

    /// Opens a queue pair for a lane. Any number may be open.
    fn queue(&self) -> Box<dyn EngineQueue>;

    /// The engine's own counters, beyond those that the miniport keeps for every engine: name and value, since the engine was made.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// The data side of a NIC for one lane.
///
/// The miniport has sorted out what never reaches an engine: while the adapter resets or is gone nothing does; lists with a handle do only while
/// IPsec offload is configured; received frames do only while some receive offload is active for a family.
pub trait EngineQueue: Send {
    /// Sends the lists of `batch` in order and leaves it empty. Frames go to `wire` in that order (OV2-SEND-6); each list goes to `done` exactly
    /// once, now or from a later [`EngineQueue::poll`].
    fn send(&mut self, lane: &mut LaneContext<'_>, batch: &mut NblBatch, done: &mut NblBatch, wire: &mut FrameBatch);

    /// Takes received frames, in order, leaves `frames` empty and appends every packet to `up`, also those that failed (OV2-RECV-1).
    fn receive(&mut self, lane: &mut LaneContext<'_>, frames: &mut FrameBatch, up: &mut NblBatch);

    /// Delivers sends that finished later.
    fn poll(&mut self, _lane: &mut LaneContext<'_>, _done: &mut NblBatch, _wire: &mut FrameBatch) {}

    /// The lane has nothing to do and will not call for a while: the queue must not keep a deletion waiting (OV2-SA-7).
    fn idle(&mut self) {}
}
