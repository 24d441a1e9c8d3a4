//! Requests on the standard path: queries and sets of the offload configuration (OV2-CAP-7 to OV2-CAP-9).

use ndis_abi::{OID_OFFLOAD_ENCAPSULATION, OID_TCP_OFFLOAD_CURRENT_CONFIG, OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES, OID_TCP_OFFLOAD_PARAMETERS};

use super::{RawError, encapsulation, offload, parameters};
use crate::oid::Oid;
use crate::version::NdisVersion;

/// Reads a request. A set's content is in `buffer`; a query's buffer is for the answer, and not read. IPsecOV1's requests are in [`super::v1`].
///
/// # Errors
/// [`RawError`] if the content of a set is damaged; its status is the answer.
pub fn decode(oid: u32, set: bool, buffer: &[u8]) -> Result<Oid, RawError> {
    Ok(match (oid, set) {
        (OID_TCP_OFFLOAD_CURRENT_CONFIG, false) => Oid::CurrentConfig(None),
        (OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES, false) => Oid::HardwareCapabilities(None),
        (OID_OFFLOAD_ENCAPSULATION, false) => Oid::Encapsulation(None),
        (OID_TCP_OFFLOAD_PARAMETERS, true) => Oid::SetParameters(parameters::decode(buffer)?),
        (OID_OFFLOAD_ENCAPSULATION, true) => Oid::SetEncapsulation(encapsulation::decode(buffer)?),
        _ => Oid::Other { oid, set },
    })
}

/// Writes the answer of a query into its buffer; returns the number of bytes, 0 for a set or a query without an answer.
///
/// # Errors
/// [`RawError::NoRoom`] with the length that is needed (OV2-CAP-7).
pub fn answer(oid: &Oid, version: NdisVersion, buffer: &mut [u8]) -> Result<usize, RawError> {
    match oid {
        Oid::CurrentConfig(Some(set)) | Oid::HardwareCapabilities(Some(set)) => offload::answer(set, version, buffer),
        Oid::Encapsulation(Some(set)) => encapsulation::answer(set, buffer),
        _ => Ok(0),
    }
}
