//! Status indications: status codes and status buffers (OV2-CAP-10, OV2-CAP-11).

use ndis_abi::{NDIS_STATUS_RESET_END, NDIS_STATUS_RESET_START, NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG, NDIS_STATUS_TASK_OFFLOAD_HARDWARE_CAPABILITIES};

use super::{RawError, offload};
use crate::indication::StatusIndication;
use crate::version::NdisVersion;

/// `StatusCode` and `StatusBuffer` of an indication, as a driver of that NDIS version makes them. `None`: the adapter's removal is no status in NDIS.
pub fn encode(indication: &StatusIndication, version: NdisVersion) -> Option<(i32, Vec<u8>)> {
    match indication {
        StatusIndication::TaskOffloadCurrentConfig(offload) => Some((NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG, offload::encode(offload, version))),
        StatusIndication::TaskOffloadHardwareCapabilities(offload) => Some((NDIS_STATUS_TASK_OFFLOAD_HARDWARE_CAPABILITIES, offload::encode(offload, version))),
        StatusIndication::ResetStart => Some((NDIS_STATUS_RESET_START, Vec::new())),
        StatusIndication::ResetEnd => Some((NDIS_STATUS_RESET_END, Vec::new())),
        StatusIndication::AdapterRemoved => None,
    }
}

/// Reads an indication; `None` for a status that has nothing to do with offloads.
///
/// # Errors
/// [`RawError`] if the status buffer is not what the status carries.
pub fn decode(status_code: i32, status_buffer: &[u8]) -> Result<Option<StatusIndication>, RawError> {
    Ok(match status_code {
        NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG => Some(StatusIndication::TaskOffloadCurrentConfig(Box::new(offload::decode(status_buffer)?))),
        NDIS_STATUS_TASK_OFFLOAD_HARDWARE_CAPABILITIES => Some(StatusIndication::TaskOffloadHardwareCapabilities(Box::new(offload::decode(status_buffer)?))),
        NDIS_STATUS_RESET_START => Some(StatusIndication::ResetStart),
        NDIS_STATUS_RESET_END => Some(StatusIndication::ResetEnd),
        _ => None,
    })
}
