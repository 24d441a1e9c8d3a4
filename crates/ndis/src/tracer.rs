//! The filter driver that ships: shows requests, statuses and out-of-band data as they pass, and changes nothing.
//!
//! What it sees becomes a [`TraceEvent`] with owned, structured content, and a readable line by its `Display`. Of a key only the length is taken, so there
//! is nothing in an event that could show one.

mod v1;

use core::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use packet::{Spi, Time};

use crate::driver::{AttachParameters, Filter, FilterQueue, FilterVerdict, LaneContext};
use crate::indication::StatusIndication;
use crate::nbl::{NblBatch, NetBufferList};
use crate::offload::{Encapsulation, Offload};
use crate::oid::{AddSaEntry, DirectOid, DirectOidRequest, OffloadEncapsulation, Oid, OidRequest, RequestId, SetEncapsulation, UpdateSa};
use crate::oob::OutOfBand;
use crate::parameters::OffloadParameters;
use crate::sa::{Associations, AuthenticationAlgorithm, Direction, EncryptionAlgorithm, Endpoints, Keyed, OffloadHandle, SaBundle, SaExtension, UdpEspType};
use crate::status::Status;

pub use self::v1::{TracedV1, TracedV1Sa};

/// How many packets a [`Tracer`] shows, counted apart for sends, completed sends and receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TracePackets {
    /// None: the tracer is not on the packets' way at all.
    #[default]
    None,
    /// The first so many.
    First(u64),
    /// All.
    All,
}

/// Where a [`Tracer`] puts what it sees. Called from every thread that uses the stack.
pub trait TraceSink: Send + Sync {
    /// Something passed.
    fn trace(&self, event: TraceEvent);
}

/// Keeps events in memory.
#[derive(Debug, Default)]
pub struct TraceLog(Mutex<Vec<TraceEvent>>);

impl TraceLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the events out, in order.
    pub fn take(&self) -> Vec<TraceEvent> {
        core::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl TraceSink for TraceLog {
    fn trace(&self, event: TraceEvent) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// Writes each event as a line of text. What cannot be written is counted and otherwise ignored: tracing never disturbs what is traced.
#[derive(Debug)]
pub struct TraceLines<W> {
    output: Mutex<W>,
    lost: AtomicU64,
}

impl<W: Write + Send> TraceLines<W> {
    /// Lines to `output`.
    pub fn new(output: W) -> Self {
        Self { output: Mutex::new(output), lost: AtomicU64::new(0) }
    }

    /// How many lines could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The output back.
    pub fn into_inner(self) -> W {
        self.output.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write + Send> TraceSink for TraceLines<W> {
    fn trace(&self, event: TraceEvent) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        if writeln!(output, "{event}").is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A filter driver that shows what passes and changes nothing.
///
/// ```
/// use std::sync::Arc;
/// use ndis::{Filter, TraceEvent, TraceLog, TracePackets, Tracer};
///
/// let log = Arc::new(TraceLog::new());
/// let tracer = Tracer::new(Arc::clone(&log) as _).with_packets(TracePackets::First(10));
/// // stack.attach_filter("nic0", Arc::new(tracer))?;
/// tracer.detach("nic0");
/// assert_eq!(log.take(), [TraceEvent::Detached { adapter: "nic0".to_owned() }]);
/// ```
pub struct Tracer {
    sink: Arc<dyn TraceSink>,
    packets: TracePackets,
    left: Arc<PacketsLeft>,
}

impl Tracer {
    /// A tracer of requests and statuses.
    pub fn new(sink: Arc<dyn TraceSink>) -> Self {
        Self { sink, packets: TracePackets::None, left: Arc::default() }
    }

    /// The same, which shows packets too.
    #[must_use]
    pub fn with_packets(mut self, packets: TracePackets) -> Self {
        self.packets = packets;
        self.left = Arc::new(PacketsLeft::new(match packets {
            TracePackets::None => 0,
            TracePackets::First(packets) => packets,
            TracePackets::All => u64::MAX,
        }));
        self
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("packets", &self.packets).finish_non_exhaustive()
    }
}

impl Filter for Tracer {
    fn name(&self) -> &'static str {
        "tracer"
    }

    fn attach(&self, parameters: &AttachParameters) {
        self.sink.trace(TraceEvent::Attached {
            adapter: parameters.adapter.clone(),
            default_offload_configuration: Box::new(parameters.default_offload_configuration),
        });
    }

    fn detach(&self, adapter: &str) {
        self.sink.trace(TraceEvent::Detached { adapter: adapter.to_owned() });
    }

    fn open_queue(&self) -> Option<Box<dyn FilterQueue>> {
        match self.packets {
            TracePackets::None => None,
            _ => Some(Box::new(TracerQueue { sink: Arc::clone(&self.sink), left: Arc::clone(&self.left) })),
        }
    }

    fn oid_request(&self, request: OidRequest) -> FilterVerdict<OidRequest> {
        self.sink.trace(TraceEvent::Request { id: request.id, oid: TracedOid::of(&request.body) });
        FilterVerdict::Pass(request)
    }

    fn oid_request_complete(&self, status: Status, request: &mut OidRequest) {
        self.sink.trace(TraceEvent::RequestComplete { id: request.id, status, oid: TracedOid::of(&request.body) });
    }

    fn handles_direct_requests(&self) -> bool {
        true
    }

    fn direct_oid_request(&self, request: DirectOidRequest) -> FilterVerdict<DirectOidRequest> {
        self.sink.trace(TraceEvent::DirectRequest { id: request.id, oid: TracedDirectOid::of(&request.body) });
        FilterVerdict::Pass(request)
    }

    fn direct_oid_request_complete(&self, status: Status, request: &mut DirectOidRequest) {
        self.sink.trace(TraceEvent::DirectRequestComplete { id: request.id, status, oid: TracedDirectOid::of(&request.body) });
    }

    fn status(&self, indication: StatusIndication) -> Option<StatusIndication> {
        self.sink.trace(TraceEvent::Status(indication.clone()));
        Some(indication)
    }
}

/// How many packets are still to be shown, over all lanes.
#[derive(Debug, Default)]
struct PacketsLeft {
    send: AtomicU64,
    send_complete: AtomicU64,
    receive: AtomicU64,
}

impl PacketsLeft {
    fn new(packets: u64) -> Self {
        Self { send: AtomicU64::new(packets), send_complete: AtomicU64::new(packets), receive: AtomicU64::new(packets) }
    }
}

struct TracerQueue {
    sink: Arc<dyn TraceSink>,
    left: Arc<PacketsLeft>,
}

impl TracerQueue {
    fn show(&self, left: &AtomicU64, now: Time, lists: &[NetBufferList], event: fn(TracedPacket, &NetBufferList) -> TraceEvent) {
        let take = |left: u64| left.checked_sub(lists.len() as u64).or(Some(0)).filter(|_| left > 0);
        let Ok(shown) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) else { return };
        for list in lists.iter().take(usize::try_from(shown).unwrap_or(usize::MAX)) {
            self.sink.trace(event(TracedPacket::of(now, list), list));
        }
    }
}

impl FilterQueue for TracerQueue {
    fn send(&mut self, lane: &mut LaneContext<'_>, batch: &mut NblBatch, _done: &mut NblBatch) {
        self.show(&self.left.send, lane.now, batch, |packet, _| TraceEvent::Send(packet));
    }

    fn send_complete(&mut self, lane: &mut LaneContext<'_>, done: &mut NblBatch) {
        self.show(&self.left.send_complete, lane.now, done, |packet, list| TraceEvent::SendComplete { status: list.status, packet });
    }

    fn receive(&mut self, lane: &mut LaneContext<'_>, up: &mut NblBatch) {
        self.show(&self.left.receive, lane.now, up, |packet, _| TraceEvent::Receive(packet));
    }
}

/// What a [`Tracer`] saw. `Display` makes one line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceEvent {
    /// The tracer was put into a stack, or the adapter was restarted.
    Attached {
        /// The adapter.
        adapter: String,
        /// What is offered below the tracer.
        default_offload_configuration: Box<Offload>,
    },
    /// The tracer was taken out.
    Detached {
        /// The adapter.
        adapter: String,
    },
    /// A standard request on its way down.
    Request {
        /// The request.
        id: RequestId,
        /// What it asks for.
        oid: TracedOid,
    },
    /// A standard request on its way up.
    RequestComplete {
        /// The request.
        id: RequestId,
        /// How it ended.
        status: Status,
        /// What it asked for, with the answer.
        oid: TracedOid,
    },
    /// A direct request on its way down.
    DirectRequest {
        /// The request.
        id: RequestId,
        /// What it asks for.
        oid: TracedDirectOid,
    },
    /// A direct request on its way up, at once or after it had been pended.
    DirectRequestComplete {
        /// The request.
        id: RequestId,
        /// How it ended.
        status: Status,
        /// What it asked for, with the answers.
        oid: TracedDirectOid,
    },
    /// A status indication.
    Status(StatusIndication),
    /// A net buffer list on its way down.
    Send(TracedPacket),
    /// A net buffer list that was sent, or not.
    SendComplete {
        /// How the send ended.
        status: Status,
        /// The list.
        packet: TracedPacket,
    },
    /// A received net buffer list.
    Receive(TracedPacket),
}

/// A standard request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TracedOid {
    /// Query of the current configuration.
    CurrentConfig(Option<Box<Offload>>),
    /// Query of the hardware capabilities.
    HardwareCapabilities(Option<Box<Offload>>),
    /// Offload parameters.
    SetParameters(Box<OffloadParameters>),
    /// Offload encapsulation.
    SetEncapsulation(OffloadEncapsulation),
    /// Query of the offload encapsulation.
    Encapsulation(Option<OffloadEncapsulation>),
    /// A request of IPsecOV1.
    IpsecV1(TracedV1),
    /// Any other.
    Other {
        /// The number.
        oid: u32,
        /// Whether it is a set.
        set: bool,
    },
}

impl TracedOid {
    fn of(oid: &Oid) -> Self {
        match oid {
            Oid::CurrentConfig(answer) => Self::CurrentConfig(answer.clone()),
            Oid::HardwareCapabilities(answer) => Self::HardwareCapabilities(answer.clone()),
            Oid::SetParameters(parameters) => Self::SetParameters(Box::new(*parameters)),
            Oid::SetEncapsulation(encapsulation) => Self::SetEncapsulation(*encapsulation),
            Oid::Encapsulation(answer) => Self::Encapsulation(*answer),
            Oid::IpsecV1(request) => Self::IpsecV1(TracedV1::of(request)),
            &Oid::Other { oid, set } => Self::Other { oid, set },
        }
    }
}

/// A direct request, without its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TracedDirectOid {
    /// ADD_SA.
    AddSa(Vec<TracedEntry>),
    /// ADD_SA_EX.
    AddSaEx(Box<TracedEntry>),
    /// UPDATE_SA.
    UpdateSa(UpdateSa),
    /// DELETE_SA.
    DeleteSa(Vec<u64>),
    /// Any other.
    Other(u32),
}

impl TracedDirectOid {
    fn of(oid: &DirectOid) -> Self {
        match oid {
            DirectOid::AddSa(entries) => Self::AddSa(entries.iter().map(TracedEntry::of).collect()),
            DirectOid::AddSaEx(entry) => Self::AddSaEx(Box::new(TracedEntry::of(entry))),
            DirectOid::UpdateSa(update) => Self::UpdateSa(*update),
            DirectOid::DeleteSa(handles) => Self::DeleteSa(handles.clone()),
            &DirectOid::Other(oid) => Self::Other(oid),
        }
    }
}

/// An entry of an ADD_SA, or an ADD_SA_EX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedEntry {
    /// The bundle, or why it could not be read.
    pub bundle: Result<TracedBundle, Status>,
    /// The handle, once there is one.
    pub handle: Option<OffloadHandle>,
    /// How the entry ended; [`Status::PENDING`] before.
    pub status: Status,
}

impl TracedEntry {
    fn of(entry: &AddSaEntry) -> Self {
        Self { bundle: entry.bundle.as_ref().map(TracedBundle::of).map_err(|status| *status), handle: entry.handle, status: entry.status }
    }
}

/// An SA bundle without its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedBundle {
    /// Which way its packets go.
    pub direction: Direction,
    /// Addresses.
    pub endpoints: Endpoints,
    /// UDP encapsulation, if any.
    pub udp_esp: Option<UdpEspType>,
    /// The ESP association, if there is one.
    pub esp: Option<TracedAssociation>,
    /// The AH association, if there is one.
    pub ah: Option<TracedAssociation>,
    /// Beyond the ABI.
    pub extension: SaExtension,
}

impl TracedBundle {
    fn of(bundle: &SaBundle) -> Self {
        let (esp, ah) = TracedAssociation::of(&bundle.associations);
        Self { direction: bundle.direction, endpoints: bundle.endpoints, udp_esp: bundle.udp_esp, esp, ah, extension: bundle.extension }
    }
}

/// A security association without its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedAssociation {
    /// Security parameters index.
    pub spi: Spi,
    /// Whether sequence numbers are 64 bit.
    pub extended_sequence_numbers: bool,
    /// High-order 32 bits of the sequence number.
    pub sequence_number_high: u32,
    /// Encryption; `None` for AH.
    pub encryption: Option<TracedKey<EncryptionAlgorithm>>,
    /// Authentication, if any.
    pub authentication: Option<TracedKey<AuthenticationAlgorithm>>,
}

/// An algorithm, and of its key the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedKey<A> {
    /// The algorithm.
    pub algorithm: A,
    /// Length of the key, in bytes, salt included.
    pub key_length: usize,
    /// The algorithm's additional information: for AES-GCM the length of the ICV, 0 meaning 16.
    pub additional_info: u32,
}

impl<A: Copy> TracedKey<A> {
    fn of(keyed: &Keyed<A>) -> Self {
        Self { algorithm: keyed.algorithm, key_length: keyed.key.len(), additional_info: keyed.additional_info }
    }
}

/// A net buffer list without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedPacket {
    /// When it passed.
    pub time: Time,
    /// The owner's mark.
    pub tag: u64,
    /// Bytes in all its net buffers.
    pub bytes: usize,
    /// How many net buffers.
    pub buffers: usize,
    /// Its out-of-band data.
    pub oob: OutOfBand,
}

impl TracedPacket {
    fn of(time: Time, list: &NetBufferList) -> Self {
        let bytes = list.buffers().map(packet::Buffer::len).sum();
        Self { time, tag: list.tag, bytes, buffers: 1 + list.more.len(), oob: list.oob }
    }
}

// Lines.

impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attached { adapter, default_offload_configuration } => {
                write!(f, "attached to {adapter}: {}", Summary(default_offload_configuration))
            }
            Self::Detached { adapter } => write!(f, "detached from {adapter}"),
            Self::Request { id, oid } => write!(f, "request {} down: {oid}", id.0),
            Self::RequestComplete { id, status, oid } => write!(f, "request {} up: {oid}: {status}", id.0),
            Self::DirectRequest { id, oid } => write!(f, "direct request {} down: {oid}", id.0),
            Self::DirectRequestComplete { id, status, oid } => write!(f, "direct request {} up: {oid}: {status}", id.0),
            Self::Status(indication) => match indication {
                StatusIndication::TaskOffloadCurrentConfig(offload) => write!(f, "status TASK_OFFLOAD_CURRENT_CONFIG: {}", Summary(offload)),
                StatusIndication::TaskOffloadHardwareCapabilities(offload) => {
                    write!(f, "status TASK_OFFLOAD_HARDWARE_CAPABILITIES: {}", Summary(offload))
                }
                StatusIndication::ResetStart => f.write_str("status RESET_START"),
                StatusIndication::ResetEnd => f.write_str("status RESET_END"),
                StatusIndication::AdapterRemoved => f.write_str("status: adapter removed"),
            },
            Self::Send(packet) => {
                write!(f, "send {packet}")?;
                let oob = &packet.oob;
                match oob.offload_handle() {
                    None => f.write_str(", no IPsec offload")?,
                    Some(handle) => {
                        let header = oob.header_transmit();
                        write!(f, ", handle {:#x}", handle.to_bits())?;
                        if let Some(tunnel) = oob.tunnel_handle() {
                            write!(f, ", tunnel handle {:#x}", tunnel.to_bits())?;
                        }
                        write!(f, ", next header {}, pad length {}", header.next_header, header.pad_length)?;
                        for (name, offset) in [("AH", header.ah_header_offset), ("ESP", header.esp_header_offset)] {
                            if offset != 0 {
                                write!(f, ", {name} at {}", u32::from(offset) * 4)?;
                            }
                        }
                    }
                }
                words(f, oob)
            }
            // The slots of a completed send are those of the send: its owner has seen them.
            Self::SendComplete { status, packet } => write!(f, "sent {packet}: {status}"),
            Self::Receive(packet) => {
                write!(f, "receive {packet}")?;
                let oob = &packet.oob;
                let ipsec = oob.ipsec_receive();
                if ipsec.crypto_done {
                    write!(f, ", crypto done")?;
                    if ipsec.next_crypto_done {
                        f.write_str(", next crypto done")?;
                    }
                    write!(f, ", {}", ipsec.crypto_status.name())?;
                } else {
                    f.write_str(", no crypto done")?;
                }
                if let Some(header) = oob.header_receive() {
                    write!(f, ", next header {}, pad length {}", header.next_header, header.pad_length)?;
                }
                if ipsec.sa_delete_request {
                    f.write_str(", asks to delete the SA")?;
                }
                words(f, oob)
            }
        }
    }
}

fn words(f: &mut fmt::Formatter<'_>, oob: &OutOfBand) -> fmt::Result {
    for (name, word) in [("large send", oob.large_send), ("checksum", oob.checksum), ("802.1Q", oob.ieee8021q)] {
        if word != 0 {
            write!(f, ", {name} {word:#x}")?;
        }
    }
    Ok(())
}

impl fmt::Display for TracedPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.time.as_nanos();
        write!(f, "[{}.{:09}] {} bytes", nanos / 1_000_000_000, nanos % 1_000_000_000, self.bytes)?;
        if self.buffers > 1 {
            write!(f, " in {} buffers", self.buffers)?;
        }
        Ok(())
    }
}

impl fmt::Display for TracedOid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CurrentConfig(answer) => {
                f.write_str("query TCP_OFFLOAD_CURRENT_CONFIG")?;
                answer.as_ref().map_or(Ok(()), |offload| write!(f, " = {}", Summary(offload)))
            }
            Self::HardwareCapabilities(answer) => {
                f.write_str("query TCP_OFFLOAD_HARDWARE_CAPABILITIES")?;
                answer.as_ref().map_or(Ok(()), |offload| write!(f, " = {}", Summary(offload)))
            }
            Self::SetParameters(parameters) => {
                f.write_str("set TCP_OFFLOAD_PARAMETERS")?;
                for &keyword in crate::keyword::Keyword::ALL {
                    if let Some(value) = parameters.get(keyword) {
                        write!(f, " {keyword}={value}")?;
                    }
                }
                if parameters.skip_registry_update { f.write_str(" (registry not changed)") } else { Ok(()) }
            }
            Self::SetEncapsulation(set) => write!(f, "set OFFLOAD_ENCAPSULATION {}", Families(set)),
            Self::Encapsulation(None) => f.write_str("query OFFLOAD_ENCAPSULATION"),
            Self::Encapsulation(Some(set)) => write!(f, "query OFFLOAD_ENCAPSULATION = {}", Families(set)),
            Self::IpsecV1(request) => write!(f, "set {request}"),
            Self::Other { oid, set } => write!(f, "{} {oid:#010x}", if *set { "set" } else { "query" }),
        }
    }
}

impl fmt::Display for TracedDirectOid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddSa(entries) => {
                write!(f, "ADD_SA, {} entries", entries.len())?;
                entries.iter().try_for_each(|entry| write!(f, "; {entry}"))
            }
            Self::AddSaEx(entry) => write!(f, "ADD_SA_EX {entry}"),
            Self::UpdateSa(UpdateSa { handle, operation, spi, sequence_number_high }) => {
                write!(f, "UPDATE_SA {:#x} {operation:?} SPI {spi}, high-order sequence number {sequence_number_high}", handle.to_bits())
            }
            Self::DeleteSa(handles) => {
                f.write_str("DELETE_SA")?;
                handles.iter().try_for_each(|handle| write!(f, " {handle:#x}"))
            }
            Self::Other(oid) => write!(f, "{oid:#010x}"),
        }
    }
}

impl fmt::Display for TracedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bundle {
            Ok(bundle) => write!(f, "{bundle}")?,
            Err(status) => write!(f, "no bundle: {status}")?,
        }
        if let Some(handle) = self.handle {
            write!(f, " -> {:#x}", handle.to_bits())?;
        }
        if self.status == Status::PENDING { Ok(()) } else { write!(f, " ({})", self.status) }
    }
}

impl fmt::Display for TracedBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        };
        write!(f, "{direction} ")?;
        for (separator, address) in [("", self.endpoints.source), (" > ", self.endpoints.destination)] {
            match address {
                Some(address) => write!(f, "{separator}{address}")?,
                None => write!(f, "{separator}any IPv{}", if self.endpoints.ipv6 { 6 } else { 4 })?,
            }
        }
        if let Some(udp_esp) = self.udp_esp {
            write!(f, " UDP-ESP {udp_esp:?}")?;
        }
        for (name, association) in [("ESP", &self.esp), ("AH", &self.ah)] {
            if let Some(association) = association {
                write!(f, ", {name} {association}")?;
            }
        }
        Ok(())
    }
}

impl TracedAssociation {
    /// ESP and AH.
    fn of(associations: &Associations) -> (Option<Self>, Option<Self>) {
        let esp = associations.esp().map(|esp| Self {
            spi: esp.spi,
            extended_sequence_numbers: esp.extended_sequence_numbers,
            sequence_number_high: esp.sequence_number_high,
            encryption: Some(TracedKey::of(&esp.encryption)),
            authentication: esp.authentication.as_ref().map(TracedKey::of),
        });
        let ah = associations.ah().map(|ah| Self {
            spi: ah.spi,
            extended_sequence_numbers: ah.extended_sequence_numbers,
            sequence_number_high: ah.sequence_number_high,
            encryption: None,
            authentication: Some(TracedKey::of(&ah.authentication)),
        });
        (esp, ah)
    }
}

impl fmt::Display for TracedAssociation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SPI {}", self.spi)?;
        if let Some(encryption) = &self.encryption {
            write!(f, " {encryption}")?;
        }
        if let Some(authentication) = &self.authentication {
            write!(f, " {authentication}")?;
        }
        if self.extended_sequence_numbers {
            write!(f, " ESN, high-order part {}", self.sequence_number_high)?;
        }
        Ok(())
    }
}

impl<A: fmt::Debug> fmt::Display for TracedKey<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({}-byte key", self.algorithm, self.key_length)?;
        if self.additional_info != 0 {
            write!(f, ", additional info {}", self.additional_info)?;
        }
        f.write_str(")")
    }
}

struct Families<'a>(&'a OffloadEncapsulation);

impl fmt::Display for Families<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, set) in [("IPv4 ", self.0.ipv4), (", IPv6 ", self.0.ipv6)] {
            f.write_str(name)?;
            match set {
                SetEncapsulation::NoChange => f.write_str("no change")?,
                SetEncapsulation::Off => f.write_str("off")?,
                SetEncapsulation::On { encapsulation, header_size } => {
                    f.write_str("on (")?;
                    bitflags::parser::to_writer(&encapsulation, &mut *f)?;
                    write!(f, ", {header_size}-byte header)")?;
                }
            }
        }
        Ok(())
    }
}

/// The parts of a capability set that are offered, and of IPsecOV2 everything.
struct Summary<'a>(&'a Offload);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Offload { checksum, lso_v1, lso_v2, ipsec_v1, ipsec_v2: v2, flags: _ } = self.0;
        let mut separator = "";
        let mut part = |f: &mut fmt::Formatter<'_>, name: &str| {
            let written = write!(f, "{separator}{name}");
            separator = ", ";
            written
        };
        let empty = Encapsulation::empty();
        for (set, name) in [
            (checksum.ipv4_transmit, "IPv4 transmit checksums"),
            (checksum.ipv4_receive, "IPv4 receive checksums"),
            (checksum.ipv6_transmit, "IPv6 transmit checksums"),
            (checksum.ipv6_receive, "IPv6 receive checksums"),
        ] {
            if set.encapsulation != empty {
                part(f, name)?;
            }
        }
        for (set, name) in [(lso_v1, "LSOv1"), (&lso_v2.ipv4, "LSOv2 over IPv4"), (&lso_v2.ipv6, "LSOv2 over IPv6")] {
            if set.encapsulation != empty {
                part(f, name)?;
                f.write_str(if set.ext_udp { " and of UDP" } else { "" })?;
            }
        }
        if ipsec_v1.is_supported() {
            part(f, "IPsecOV1")?;
        }
        if !v2.is_supported() {
            return part(f, "no IPsecOV2");
        }
        part(f, "IPsecOV2 (")?;
        for (offered, name) in [
            (v2.ah, "AH "),
            (v2.esp, "ESP "),
            (v2.ah_esp_combined, "AH+ESP "),
            (v2.transport, "transport "),
            (v2.tunnel, "tunnel "),
            (v2.transport_tunnel_combined, "transport+tunnel "),
            (v2.ipv6_supported, "IPv6 "),
            (v2.ipv4_options, "IPv4-options "),
            (v2.ipv6_non_ipsec_extension_headers, "IPv6-extension-headers "),
            (v2.extended_sequence_numbers, "ESN "),
            (v2.lso_supported, "LSO "),
            (v2.ext_lso_tunnel, "LSO-in-tunnels "),
        ] {
            if offered {
                f.write_str(name)?;
            }
        }
        f.write_str("authentication ")?;
        names(f, &v2.authentication_algorithms)?;
        f.write_str(" encryption ")?;
        names(f, &v2.encryption_algorithms)?;
        if !v2.udp_esp.is_empty() {
            f.write_str(" UDP-ESP ")?;
            names(f, &v2.udp_esp)?;
        }
        write!(f, " capacity {})", v2.sa_offload_capacity)
    }
}

fn names<B: bitflags::Flags>(f: &mut fmt::Formatter<'_>, flags: &B) -> fmt::Result
where
    B::Bits: bitflags::parser::WriteHex,
{
    if flags.is_empty() { f.write_str("-") } else { bitflags::parser::to_writer(flags, f) }
}
