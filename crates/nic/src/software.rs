//! The software engine: ESP and AH on the CPU, behind the same traits as a card.
//!
//! It does what it reports and no more (OV2-CAP-12), and that is all of IPsecOV2: ESP, AH and AH over ESP with every algorithm and its
//! vendor extensions, transport and tunnel mode and transport over tunnel, all four types of UDP encapsulation, IPv4 with options and IPv6 with extension
//! headers, 32-bit and extended sequence numbers; large sends of versions 1 and 2, and as extensions of UDP and through tunnels, protected and in clear.
//! And all of IPsecOV1, for adapters that have it.
//! Beside it, and together with it, it computes and verifies IP, TCP and UDP checksums, and takes 802.1Q tags in the data or out of band.
//!
//! Per packet there is no lock, no allocation and no system call. A batch is worked through in stages (check and look up, cryptography, verdicts), 64
//! packets to a call of the cryptographic provider, inside one guard of the SA table, so that a deletion completes when no batch can still use the SA.

mod counters;
mod journal;
mod large;
mod large_cut;
mod layer;
mod lookup;
mod numbers;
mod open;
mod plain;
mod plain_receive;
mod plain_send;
mod plain_sums;
mod portion;
mod receive;
mod sa;
mod send;
mod services;
mod stages;
mod sums;
mod transforms;
mod upper;
mod v1;
mod verify;
mod vlan;
mod word;

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipsec::{Crypto, Provider};
use ndis::{
    AuthenticationAlgorithms, ChecksumOffload, ChecksumSet, Encapsulation, EncryptionAlgorithms, IpsecOffloadV2, LargeSendLimits, LargeSendSet, LargeSendV2,
    NblBatch, Offload, OffloadFlags, OffloadHandle, SaBundle, Status, UdpEspTypes, UpdateSa,
};
use packet::{FrameBatch, Medium, Spi};
use sa_table::{CapacityError, Handle, InsertError, Lane, SEED_WORDS, SaTable, Seed};

use self::counters::Counters;
use self::lookup::Finder;
use self::plain_sums::PlainSums;
use self::portion::Ports;
use self::receive::Receiver;
use self::sa::Sa;
use self::send::Sender;
use self::services::Services;
use self::word::Word;
use crate::engine::{Engine, EngineConfig, EngineEvent, EngineQueue, LaneContext, Progress, Token};

/// SA bundles that an engine holds unless told otherwise.
pub const DEFAULT_CAPACITY: u32 = 65_536;

/// Most bytes of payload in one large send.
const LARGE_SEND_MOST: u32 = 1 << 18;

/// A NIC in software. See the [module](self).
pub struct SoftwareEngine<P: Provider = Crypto> {
    shared: Arc<Shared<P>>,
    hardware: Offload,
}

/// What control and lanes share.
struct Shared<P: Provider> {
    provider: P,
    table: SaTable<Sa<P>>,
    /// [`Word`] of the configuration; the highest two: [`BARE_IP`], [`NO_END_REQUESTS`].
    config: AtomicU64,
    /// [`Services`] of the configuration.
    services: AtomicU64,
    ports: Ports,
    limits: LargeSendLimits,
    counters: Counters,
    removals: Mutex<Removals>,
    /// Whether plain packets go their own way.
    plain: bool,
}

/// Deletions that wait for the end of batches.
#[derive(Default)]
struct Removals {
    tokens: HashMap<Handle, Token>,
    ended: Vec<Token>,
    reset: Option<Token>,
}

const BARE_IP: u64 = 1 << 63;
/// SAs do not ask for their deletion when they near their end.
const NO_END_REQUESTS: u64 = 1 << 62;

impl Default for SoftwareEngine {
    /// An engine on the default provider with [`DEFAULT_CAPACITY`].
    fn default() -> Self {
        Self::new(Crypto::default(), DEFAULT_CAPACITY).expect("a table can have the default capacity")
    }
}

impl<P: Provider> SoftwareEngine<P> {
    /// An engine on `provider` that holds up to `capacity` SA bundles.
    ///
    /// # Errors
    /// [`CapacityError`] for a capacity of zero or beyond [`sa_table::MAX_CAPACITY`].
    pub fn new(provider: P, capacity: u32) -> Result<Self, CapacityError> {
        Self::with_hardware(provider, &software_capabilities(capacity))
    }

    /// An engine on `provider` that takes on the hardware capabilities of another: of what it can do, it reports and does what `hardware` has, too, for as
    /// many SA bundles (at least one, although an engine without IPsec reports none).
    ///
    /// # Errors
    /// [`CapacityError`] for a capacity beyond [`sa_table::MAX_CAPACITY`], or IPsec with none.
    pub fn with_hardware(provider: P, hardware: &Offload) -> Result<Self, CapacityError> {
        let (asked, v1) = (hardware.ipsec_v2.sa_offload_capacity, hardware.ipsec_v1);
        let capacity = match (hardware.ipsec_v2.is_supported(), v1.is_supported()) {
            (true, true) => asked.max(v1.ext_sa_capacity),
            (true, false) => asked,
            // IPsecOV1 itself has no number to tell.
            (false, true) if v1.ext_sa_capacity == 0 => DEFAULT_CAPACITY,
            (false, true) => v1.ext_sa_capacity,
            (false, false) => asked.max(1),
        };
        let table = SaTable::new(capacity as usize, random_seed())?;
        let shared = Shared {
            provider,
            table,
            config: AtomicU64::new(0),
            services: AtomicU64::new(0),
            ports: Ports::default(),
            limits: LargeSendLimits::default(),
            counters: Counters::default(),
            removals: Mutex::default(),
            plain: true,
        };
        Ok(Self { shared: Arc::new(shared), hardware: software_capabilities(capacity).intersect(hardware) })
    }

    /// Lets all packets go the general way, plain ones too. Nobody can see the difference, which is what it is for: to be compared.
    ///
    /// # Panics
    /// If the engine has queues.
    #[doc(hidden)]
    pub fn without_plain_way(mut self) -> Self {
        Arc::get_mut(&mut self.shared).expect("an engine that nobody uses yet").plain = false;
        self
    }

    /// The cryptographic provider.
    pub fn provider(&self) -> &P {
        &self.shared.provider
    }
}

/// All that the software engine can do (OV2-CAP-12), for `capacity` SA bundles.
pub fn software_capabilities(capacity: u32) -> Offload {
    let tags = Encapsulation::IEEE_802_3_P_AND_Q | Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB;
    let encapsulation = Encapsulation::NULL | Encapsulation::IEEE_802_3 | tags;
    let ipv6 =
        ChecksumSet { encapsulation, ip_options_supported: true, tcp_options_supported: true, tcp_checksum: true, udp_checksum: true, ip_checksum: false };
    let ipv4 = ChecksumSet { ip_checksum: true, ..ipv6 };
    let ipsec_v2 = IpsecOffloadV2 {
        encapsulation,
        ipv6_supported: true,
        ipv4_options: true,
        ipv6_non_ipsec_extension_headers: true,
        ah: true,
        esp: true,
        ah_esp_combined: true,
        transport: true,
        tunnel: true,
        transport_tunnel_combined: true,
        lso_supported: true,
        extended_sequence_numbers: true,
        udp_esp: UdpEspTypes::all(),
        authentication_algorithms: AuthenticationAlgorithms::all(),
        encryption_algorithms: EncryptionAlgorithms::all(),
        sa_offload_capacity: capacity,
        ext_lso_tunnel: true,
        ..IpsecOffloadV2::default()
    };
    let checksum = ChecksumOffload { ipv4_transmit: ipv4, ipv4_receive: ipv4, ipv6_transmit: ipv6, ipv6_receive: ipv6 };
    let large_send = LargeSendSet {
        encapsulation: ipsec_v2.encapsulation,
        max_offload_size: LARGE_SEND_MOST,
        min_segment_count: 2,
        tcp_options: true,
        ip_options: true,
        ext_udp: true,
    };
    // The ABI has no members for options in version 2 over IPv4, and version 1 knows TCP only.
    let ipv4 = LargeSendSet { tcp_options: false, ip_options: false, ..large_send };
    let lso_v1 = LargeSendSet { ext_udp: false, ..large_send };
    let flags = OffloadFlags::IPSEC_V2_AND_TCP_CHECKSUM_COEXISTENCE | OffloadFlags::IPSEC_V2_AND_UDP_CHECKSUM_COEXISTENCE;
    Offload { checksum, ipsec_v1: v1::capabilities(capacity), ipsec_v2, lso_v1, lso_v2: LargeSendV2 { ipv4, ipv6: large_send }, flags }
}

/// A seed that nobody outside knows: the standard library's hash keys come from the system's random generator.
fn random_seed() -> Seed {
    let random = RandomState::new();
    let mut words = [0; SEED_WORDS];
    for (number, word) in words.iter_mut().enumerate() {
        *word = random.hash_one(number);
    }
    Seed::new(words)
}

impl<P: Provider> Shared<P> {
    /// A panic under this mutex leaves lists that are still good.
    fn removals(&self) -> MutexGuard<'_, Removals> {
        self.removals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the removals that no batch is in the way of.
    fn reclaim(&self) {
        self.table.reclaim(|handle| {
            let mut removals = self.removals();
            if let Some(token) = removals.tokens.remove(&handle) {
                removals.ended.push(token);
            }
        });
    }

    #[inline]
    fn load_config(&self) -> (Word, Services, Medium) {
        let services = Services(self.services.load(Ordering::Acquire));
        let bits = self.config.load(Ordering::Acquire);
        (Word(bits & !(BARE_IP | NO_END_REQUESTS)), services, if bits & BARE_IP == 0 { Medium::Ethernet } else { Medium::Ip })
    }
}

const fn offload_handle(handle: Handle) -> Result<OffloadHandle, Status> {
    match OffloadHandle::from_bits(handle.to_bits()) {
        Some(handle) => Ok(handle),
        None => Err(Status::FAILURE),
    }
}

impl<P: Provider> Engine for SoftwareEngine<P> {
    fn hardware_capabilities(&self) -> Offload {
        self.hardware
    }

    fn configure(&self, config: &EngineConfig) {
        let medium = match config.medium {
            Medium::Ethernet => 0,
            Medium::Ip => BARE_IP,
        };
        let quiet = if config.end_of_life_requests { 0 } else { NO_END_REQUESTS };
        self.shared.ports.set_adapter(config.udp_esp_port);
        self.shared.limits.set(&config.current, |version, encapsulation| config.activation(version).sends_under(encapsulation));
        self.shared.services.store(Services::of(config).0, Ordering::Release);
        self.shared.config.store(Word::of(config).0 | medium | quiet, Ordering::Release);
    }

    fn add_sa(&self, _token: Token, bundle: &SaBundle) -> Progress<Result<OffloadHandle, Status>> {
        let added = Sa::new(&self.shared.provider, bundle).and_then(|sa| {
            // Before the first packet can find the bundle.
            if let Some(port) = bundle.extension.udp_esp_port {
                self.shared.ports.add(port);
            }
            if self.shared.config.load(Ordering::Relaxed) & NO_END_REQUESTS != 0 {
                sa.keep_to_the_end();
            }
            self.shared.table.insert_unless(sa, &Sa::<P>::keys(bundle), |key, other| other.excludes(bundle, Spi(key.spi))).map_err(|error| match error {
                InsertError::Full { .. } => Status::RESOURCES,
                InsertError::Duplicate { .. } | InsertError::TooManyKeys { .. } => Status::INVALID_DATA,
            })
        });
        Progress::Done(added.and_then(offload_handle))
    }

    fn update_sa(&self, _token: Token, update: &UpdateSa) -> Progress<Status> {
        let updated = Handle::from_bits(update.handle.to_bits())
            .and_then(|handle| self.shared.table.with(handle, |sa| sa.update(update.operation, update.spi, update.sequence_number_high)).ok())
            .unwrap_or(Err(Status::INVALID_PARAMETER));
        Progress::Done(updated.err().unwrap_or(Status::SUCCESS))
    }

    fn delete_sa(&self, token: Token, handle: OffloadHandle) -> Progress<()> {
        // Held across both steps, so that a lane that completes the removal finds the token.
        let mut removals = self.shared.removals();
        let removal = Handle::from_bits(handle.to_bits()).and_then(|handle| self.shared.table.remove(handle).ok());
        match removal {
            Some(removal) if !removal.completed_at_once() => {
                removals.tokens.insert(removal.handle(), token);
                Progress::Pending
            }
            _ => Progress::Done(()),
        }
    }

    fn reset(&self, token: Token) -> Progress<()> {
        self.shared.table.clear();
        self.shared.reclaim();
        if self.shared.table.occupancy().removing == 0 {
            return Progress::Done(());
        }
        self.shared.removals().reset = Some(token);
        Progress::Pending
    }

    fn poll(&self, events: &mut Vec<EngineEvent>) {
        self.shared.reclaim();
        let mut removals = self.shared.removals();
        events.extend(removals.ended.drain(..).map(|token| EngineEvent::Deleted { token }));
        if removals.reset.is_some() && removals.tokens.is_empty() && self.shared.table.occupancy().removing == 0 {
            events.extend(removals.reset.take().map(|token| EngineEvent::ResetDone { token }));
        }
    }

    fn request_delete(&self, handle: OffloadHandle) {
        if let Some(handle) = Handle::from_bits(handle.to_bits()) {
            // A bundle that has gone meanwhile needs no asking.
            let _ = self.shared.table.with(handle, Sa::ask_delete);
        }
    }

    fn release_udp_esp_port(&self, port: u16) {
        self.shared.ports.remove(port);
    }

    fn queue(&self) -> Box<dyn EngineQueue> {
        let (sending, receiving) = (send::Memory::default(), receive::Memory::default());
        Box::new(Queue { lane: self.shared.table.register_lane(), shared: Arc::clone(&self.shared), sending, receiving })
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.shared.counters.read()
    }
}

impl<P: Provider> fmt::Debug for SoftwareEngine<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftwareEngine")
            .field("provider", &self.shared.provider.name())
            .field("capacity", &self.hardware.ipsec_v2.sa_offload_capacity)
            .finish_non_exhaustive()
    }
}

/// The data side for one lane.
struct Queue<P: Provider> {
    lane: Lane<Sa<P>>,
    shared: Arc<Shared<P>>,
    sending: send::Memory,
    receiving: receive::Memory,
}

impl<P: Provider> EngineQueue for Queue<P> {
    fn send(&mut self, lane: &mut LaneContext<'_>, batch: &mut NblBatch, done: &mut NblBatch, wire: &mut FrameBatch) {
        let Shared { provider, counters, limits, plain, .. } = &*self.shared;
        let guard = self.lane.enter();
        let (word, services, medium) = self.shared.load_config();
        Sender { provider, word, services, medium, guard: &guard, counters, limits, plain: *plain }.send(batch, done, wire, &mut self.sending, lane.pool);
    }

    fn receive(&mut self, _lane: &mut LaneContext<'_>, frames: &mut FrameBatch, up: &mut NblBatch) {
        let Shared { provider, counters, ports, plain, .. } = &*self.shared;
        let guard = self.lane.enter();
        let (word, services, medium) = self.shared.load_config();
        let finder = Finder { word, guard: &guard, ports };
        let sums = PlainSums::of(services, medium);
        Receiver { provider, services, sums, medium, finder, counters, plain: *plain }.receive(frames, up, &mut self.receiving);
    }

    /// No batch is open between calls, so nothing waits for this lane; it ends what waited for its last batch.
    fn idle(&mut self) {
        self.shared.reclaim();
    }
}

impl<P: Provider> Drop for Queue<P> {
    fn drop(&mut self) {
        self.shared.reclaim();
    }
}
