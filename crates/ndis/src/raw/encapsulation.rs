//! `NDIS_OFFLOAD_ENCAPSULATION`: the buffer of `OID_OFFLOAD_ENCAPSULATION` (OV2-CAP-9).

use core::mem::offset_of;

use ndis_abi::{
    NDIS_OBJECT_TYPE_OFFLOAD_ENCAPSULATION, NDIS_OFFLOAD_ENCAPSULATION, NDIS_OFFLOAD_ENCAPSULATION_IPv4, NDIS_OFFLOAD_SET_NO_CHANGE, NDIS_OFFLOAD_SET_OFF,
    NDIS_OFFLOAD_SET_ON, NDIS_SIZEOF_OFFLOAD_ENCAPSULATION_REVISION_1,
};

use super::RawError;
use super::wire::{Header, put, read_u32, write};
use crate::offload::Encapsulation;
use crate::oid::{OffloadEncapsulation, SetEncapsulation};

const HEADER: Header = Header { kind: NDIS_OBJECT_TYPE_OFFLOAD_ENCAPSULATION, sizes: &[NDIS_SIZEOF_OFFLOAD_ENCAPSULATION_REVISION_1], alternative: None };
const IPV4: usize = offset_of!(NDIS_OFFLOAD_ENCAPSULATION, IPv4);
const IPV6: usize = offset_of!(NDIS_OFFLOAD_ENCAPSULATION, IPv6);
const ENABLED: usize = offset_of!(NDIS_OFFLOAD_ENCAPSULATION_IPv4, Enabled);
const TYPE: usize = offset_of!(NDIS_OFFLOAD_ENCAPSULATION_IPv4, EncapsulationType);
const SIZE: usize = offset_of!(NDIS_OFFLOAD_ENCAPSULATION_IPv4, HeaderSize);

/// The bytes of a request or an answer.
pub fn encode(request: &OffloadEncapsulation) -> Vec<u8> {
    let mut bytes = vec![0; NDIS_OFFLOAD_ENCAPSULATION::SIZEOF];
    for (base, set) in [(IPV4, request.ipv4), (IPV6, request.ipv6)] {
        let (enabled, encapsulation, header_size) = match set {
            SetEncapsulation::NoChange => (NDIS_OFFLOAD_SET_NO_CHANGE, 0, 0),
            SetEncapsulation::On { encapsulation, header_size } => (NDIS_OFFLOAD_SET_ON, encapsulation.bits(), header_size),
            SetEncapsulation::Off => (NDIS_OFFLOAD_SET_OFF, 0, 0),
        };
        for (at, value) in [(ENABLED, enabled), (TYPE, encapsulation), (SIZE, header_size)] {
            write(&mut bytes, base + at, &value.to_le_bytes());
        }
    }
    HEADER.write(&mut bytes, 1);
    bytes
}

/// Writes the bytes of an answer to a query; returns their number.
///
/// # Errors
/// [`RawError::NoRoom`] with the length that is needed.
pub fn answer(answer: &OffloadEncapsulation, buffer: &mut [u8]) -> Result<usize, RawError> {
    put(&encode(answer), buffer)
}

/// Reads a request or an answer; bytes after it are not looked at. Encapsulation bits that are not defined are kept:
/// [`Offload::check_encapsulation`](crate::Offload::check_encapsulation) refuses them.
///
/// # Errors
/// [`RawError`] if the buffer is short, the header is not that of the structure, `Enabled` is none of its values, or type and size are not zero
/// although nothing is switched on.
pub fn decode(buffer: &[u8]) -> Result<OffloadEncapsulation, RawError> {
    let mut structure = [0; NDIS_OFFLOAD_ENCAPSULATION::SIZEOF];
    HEADER.read_growing(buffer, &mut structure)?;
    Ok(OffloadEncapsulation { ipv4: family(&structure, IPV4)?, ipv6: family(&structure, IPV6)? })
}

fn family(structure: &[u8], base: usize) -> Result<SetEncapsulation, RawError> {
    let [enabled, encapsulation, header_size] = [ENABLED, TYPE, SIZE].map(|at| read_u32(structure, base + at));
    let off = |setting| {
        for (field, at, found) in [("EncapsulationType", TYPE, encapsulation), ("HeaderSize", SIZE, header_size)] {
            if found != 0 {
                return Err(RawError::Field { field, offset: base + at, found: u64::from(found), allowed: "0 unless switched on" });
            }
        }
        Ok(setting)
    };
    match enabled {
        NDIS_OFFLOAD_SET_NO_CHANGE => off(SetEncapsulation::NoChange),
        NDIS_OFFLOAD_SET_OFF => off(SetEncapsulation::Off),
        NDIS_OFFLOAD_SET_ON => Ok(SetEncapsulation::On { encapsulation: Encapsulation::from_bits_retain(encapsulation), header_size }),
        found => {
            let allowed = "0 (no change), 1 (on) or 2 (off)";
            Err(RawError::Field { field: "Enabled", offset: base + ENABLED, found: u64::from(found), allowed })
        }
    }
}
