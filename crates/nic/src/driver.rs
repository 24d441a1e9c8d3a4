//! The miniport driver: makes a miniport over a fresh engine whenever the adapter starts.

use core::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ndis::{AdapterAttributes, AdapterKeywords, IpsecOffloadV1, IpsecService, Miniport, MiniportDriver, NdisVersion, Offload, OffloadHandle, Status};
use packet::Medium;

use crate::counters::{AdapterCounters, NicCounters};
use crate::engine::Engine;
use crate::miniport::NicMiniport;

/// The local UDP port of UDP-ESP unless configured otherwise (OV2-RECV-7).
pub const UDP_ESP_PORT: u16 = 4500;

/// When the miniport asks for an SA to be deleted (OV2-SA-8): to make room, the oldest inbound one that it has not asked for yet; and, unless it never asks,
/// an inbound one that nears the end of its sequence numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletePolicy {
    /// Never, not even at the end of an SA's life.
    Never,
    /// Each time it refuses an SA for want of room.
    #[default]
    WhenRefusing,
    /// Then, and also each time an SA takes the last room.
    WhenFull,
}

/// Something worth a line in a trace. Names SAs by their handles and holds no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NicEvent {
    /// An SA bundle was added.
    Added {
        /// Its handle.
        handle: OffloadHandle,
    },
    /// An SA bundle was refused.
    Refused {
        /// Why.
        status: Status,
    },
    /// An SA bundle is being deleted.
    Deleted {
        /// Its handle.
        handle: OffloadHandle,
    },
    /// A deletion request named something that is no live SA; it was skipped (OV2-SA-7).
    UnknownHandle {
        /// The bits of what stood for a handle.
        bits: u64,
    },
    /// The miniport asks for an SA to be deleted, to make room (OV2-SA-8).
    DeleteRequested {
        /// Its handle.
        handle: OffloadHandle,
    },
    /// A reset has begun.
    Reset,
}

/// Takes [`NicEvent`]s. Called from within requests, under the miniport's mutex: it neither blocks nor calls the adapter.
pub type Observer = Arc<dyn Fn(&NicEvent) + Send + Sync>;

/// What the driver of an adapter is told when it is loaded.
#[derive(Clone)]
pub struct NicParameters {
    /// The adapter's name.
    pub name: String,
    /// The NDIS version that the driver speaks: it decides between ADD_SA and ADD_SA_EX, and over how resets end requests (OV2-CAP-0, OV2-OID-2).
    pub version: NdisVersion,
    /// What frames begin with.
    pub medium: Medium,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// The local UDP port of UDP-ESP.
    pub udp_esp_port: u16,
    /// Whether SPIs 1 to 255 are accepted (OV2-SA-4).
    pub reserved_spis: bool,
    /// Whether ESP without any authentication is accepted (OV2-COMB-2).
    pub allow_unauthenticated: bool,
    /// The hardware has IPsecOV2 without tunnel mode, against OV2-CAP-2, and that is meant so.
    pub deviates_without_tunnel: bool,
    /// When to ask for the deletion of an SA.
    pub delete_policy: DeletePolicy,
    /// Who is told what happens.
    pub observer: Option<Observer>,
}

impl NicParameters {
    /// An Ethernet adapter with an MTU of 1500 that speaks NDIS 6.30.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: NdisVersion::V6_30,
            medium: Medium::Ethernet,
            mtu: 1500,
            udp_esp_port: UDP_ESP_PORT,
            reserved_spis: false,
            allow_unauthenticated: false,
            deviates_without_tunnel: false,
            delete_policy: DeletePolicy::default(),
            observer: None,
        }
    }

    pub(crate) fn tell(&self, event: &NicEvent) {
        if let Some(observer) = &self.observer {
            observer(event);
        }
    }

    /// The engine's capabilities as far as the NDIS version has a place for them, and of the two IPsec services the one that the adapter has (OV2-CAP-0).
    pub(crate) fn hardware(&self, engine: &impl Engine) -> Offload {
        let hardware = engine.hardware_capabilities().for_version(self.version);
        match hardware.ipsec_service(self.version) {
            Some(IpsecService::V2) => Offload { ipsec_v1: IpsecOffloadV1::default(), ..hardware },
            _ => hardware,
        }
    }
}

impl fmt::Debug for NicParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NicParameters")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("medium", &self.medium)
            .field("mtu", &self.mtu)
            .field("udp_esp_port", &self.udp_esp_port)
            .field("reserved_spis", &self.reserved_spis)
            .field("allow_unauthenticated", &self.allow_unauthenticated)
            .field("deviates_without_tunnel", &self.deviates_without_tunnel)
            .field("delete_policy", &self.delete_policy)
            .finish_non_exhaustive()
    }
}

/// A miniport driver for one adapter: each start of the adapter gets a fresh engine from a factory.
pub struct NicDriver<E: Engine> {
    parameters: Arc<NicParameters>,
    make: Box<dyn Fn() -> E + Send + Sync>,
    counters: Arc<AdapterCounters>,
    running: Mutex<Option<Arc<E>>>,
}

impl<E: Engine> NicDriver<E> {
    /// A driver whose adapter runs on engines that `make` makes.
    pub fn new(parameters: NicParameters, make: impl Fn() -> E + Send + Sync + 'static) -> Self {
        Self { parameters: Arc::new(parameters), make: Box::new(make), counters: Arc::default(), running: Mutex::default() }
    }

    /// What the driver was loaded with.
    pub fn parameters(&self) -> &NicParameters {
        &self.parameters
    }

    /// The adapter's counters, with those of the engine that was started last.
    pub fn counters(&self) -> NicCounters {
        let mut counters = self.counters.read();
        if let Some(engine) = self.engine() {
            counters.engine = engine.counters();
        }
        counters
    }

    /// The engine that was started last.
    pub fn engine(&self) -> Option<Arc<E>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Initialises the adapter, typed: see [`MiniportDriver::initialize`].
    pub fn start(&self, keywords: &AdapterKeywords) -> (NicMiniport<E>, AdapterAttributes) {
        let engine = Arc::new((self.make)());
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&engine));
        let hardware = self.parameters.hardware(&*engine);
        let configured = hardware.configured(keywords);
        let attributes = AdapterAttributes {
            version: self.parameters.version,
            medium: self.parameters.medium,
            mtu: self.parameters.mtu,
            hardware_capabilities: hardware,
            default_configuration: configured,
            direct_requests: self.parameters.version.has_ipsec_v2(),
            deviates_without_tunnel: self.parameters.deviates_without_tunnel,
        };
        let miniport = NicMiniport::new(engine, Arc::clone(&self.parameters), Arc::clone(&self.counters), hardware, configured);
        (miniport, attributes)
    }
}

impl<E: Engine> MiniportDriver for NicDriver<E> {
    fn initialize(&self, keywords: &AdapterKeywords) -> Result<(Box<dyn Miniport>, AdapterAttributes), Status> {
        let (miniport, attributes) = self.start(keywords);
        Ok((Box::new(miniport), attributes))
    }
}

impl<E: Engine> fmt::Debug for NicDriver<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NicDriver").field("parameters", &self.parameters).finish_non_exhaustive()
    }
}
