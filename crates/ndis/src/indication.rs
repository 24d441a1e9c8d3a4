//! Status indications: what a miniport tells everybody above it.

use crate::offload::Offload;

/// A status indication (OV2-CAP-10, OV2-CAP-11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusIndication {
    /// `NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG`: the full current configuration.
    TaskOffloadCurrentConfig(Box<Offload>),
    /// `NDIS_STATUS_TASK_OFFLOAD_HARDWARE_CAPABILITIES`: the full set of hardware capabilities, which has changed.
    TaskOffloadHardwareCapabilities(Box<Offload>),
    /// `NDIS_STATUS_RESET_START`.
    ResetStart,
    /// `NDIS_STATUS_RESET_END`: the SA table is empty now (OV2-OID-2).
    ResetEnd,
    /// The adapter is gone (surprise removal, or halted); its SAs are deleted (OV2-SA-9).
    AdapterRemoved,
}
