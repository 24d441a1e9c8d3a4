//! Requests: the standard OID path (serialised) and the direct OID path (concurrent), typed. Byte forms are in [`crate::raw`].

use crate::offload::{Encapsulation, Offload};
use crate::parameters::OffloadParameters;
use crate::sa::{OffloadHandle, Operation, SaBundle};
use crate::status::Status;
use crate::v1::V1Request;
use packet::Spi;

/// Names a request to the [`crate::stack`] and the driver that pended it; unique per stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One entry of an ADD_SA list, or an ADD_SA_EX (OV2-SA-2).
#[derive(Debug)]
pub struct AddSaEntry {
    /// The bundle to hold. `Err`: this entry could not be read from its raw form, for this cause; it fails with it, the others of the list are tried.
    pub bundle: Result<SaBundle, Status>,
    /// Set on success; `None` for an entry that failed.
    pub handle: Option<OffloadHandle>,
    /// How this entry ended.
    pub status: Status,
}

impl AddSaEntry {
    /// An entry that asks for `bundle`.
    pub const fn new(bundle: SaBundle) -> Self {
        Self { bundle: Ok(bundle), handle: None, status: Status::PENDING }
    }
}

/// UPDATE_SA: sets the high-order half of the sequence number (OV2-SA-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateSa {
    /// The bundle.
    pub handle: OffloadHandle,
    /// Which of its associations.
    pub operation: Operation,
    /// That association's SPI.
    pub spi: Spi,
    /// The high-order 32 bits.
    pub sequence_number_high: u32,
}

/// What a direct request asks for (OV2-OID-1).
#[derive(Debug)]
pub enum DirectOid {
    /// `OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA`: one or more bundles (NDIS 6.1 and 6.20).
    AddSa(Vec<AddSaEntry>),
    /// `OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX`: one bundle (NDIS 6.30 and later).
    AddSaEx(Box<AddSaEntry>),
    /// `OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA`.
    UpdateSa(UpdateSa),
    /// `OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA`: one or more handles; as bits, because the list may hold stale or senseless ones (OV2-SA-7).
    DeleteSa(Vec<u64>),
    /// Any other OID: not supported on this path (OV2-OID-4).
    Other(u32),
}

/// A request on the direct path.
#[derive(Debug)]
pub struct DirectOidRequest {
    /// Given by the stack.
    pub id: RequestId,
    /// What it asks for; answers are written into it.
    pub body: DirectOid,
}

/// How a direct request was answered.
#[derive(Debug)]
pub enum Outcome {
    /// At once: the status, and the request with its answers.
    Done(Status, DirectOidRequest),
    /// Later, exactly once, through `poll_control`; the driver keeps the request (OV2-OID-2).
    Pending,
}

/// `OID_OFFLOAD_ENCAPSULATION` for one IP family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetEncapsulation {
    /// Leave as it is.
    #[default]
    NoChange,
    /// Activate all configured offloads.
    On {
        /// The encapsulation type.
        encapsulation: Encapsulation,
        /// Size of the link header, in bytes.
        header_size: u32,
    },
    /// Deactivate them.
    Off,
}

/// `OID_OFFLOAD_ENCAPSULATION` (OV2-CAP-9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffloadEncapsulation {
    /// IPv4.
    pub ipv4: SetEncapsulation,
    /// IPv6.
    pub ipv6: SetEncapsulation,
}

/// What a standard request asks for.
#[derive(Debug)]
pub enum Oid {
    /// Query `OID_TCP_OFFLOAD_CURRENT_CONFIG`; answered by NDIS (OV2-CAP-7).
    CurrentConfig(Option<Box<Offload>>),
    /// Query `OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES`; answered by NDIS (OV2-CAP-7).
    HardwareCapabilities(Option<Box<Offload>>),
    /// Set `OID_TCP_OFFLOAD_PARAMETERS` (OV2-CAP-8).
    SetParameters(OffloadParameters),
    /// Set `OID_OFFLOAD_ENCAPSULATION` (OV2-CAP-9).
    SetEncapsulation(OffloadEncapsulation),
    /// Query `OID_OFFLOAD_ENCAPSULATION`; answered by NDIS, only valid after a set (OV2-CAP-9).
    Encapsulation(Option<OffloadEncapsulation>),
    /// Set: a request of IPsecOV1 (OV1-2), up to NDIS 6.20 where the adapter has no IPsecOV2 (OV2-CAP-0).
    IpsecV1(V1Request),
    /// Any other OID, or a known one with the wrong verb: not supported here.
    Other {
        /// The number.
        oid: u32,
        /// Whether it is a set (else a query).
        set: bool,
    },
}

/// A request on the standard path.
#[derive(Debug)]
pub struct OidRequest {
    /// Given by the stack.
    pub id: RequestId,
    /// What it asks for; answers are written into it.
    pub body: Oid,
}
