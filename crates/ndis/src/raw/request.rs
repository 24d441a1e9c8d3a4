//! A direct request in byte form: read before it goes to the driver, answered in its own buffer when it is complete.

use core::fmt;

use ndis_abi::{
    OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA, OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA,
    OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA,
};

use super::wire::write;
use super::{RawError, sa};
use crate::oid::{AddSaEntry, DirectOid};
use crate::status::Status;
use crate::version::NdisVersion;

/// A direct request whose buffer waits for the answer: it stays borrowed as long as the request is pending.
pub struct DirectRequest<'a> {
    buffer: &'a mut [u8],
    /// Offsets of the entries' handles, in the order of the entries.
    handles: Vec<usize>,
}

impl fmt::Debug for DirectRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The buffer holds keys.
        f.debug_struct("DirectRequest").field("buffer", &format_args!("{} bytes", self.buffer.len())).field("handles", &self.handles).finish()
    }
}

impl<'a> DirectRequest<'a> {
    /// Reads a request to an adapter of that NDIS version. An OID that such an adapter does not take on the direct path becomes [`DirectOid::Other`], whose
    /// answer is [`Status::NOT_SUPPORTED`] (OV2-OID-4, OV2-SA-1).
    ///
    /// # Errors
    /// [`RawError`] if the buffer is damaged; its status is the answer.
    pub fn parse(oid: u32, version: NdisVersion, buffer: &'a mut [u8]) -> Result<(Self, DirectOid), RawError> {
        let mut handles = Vec::new();
        let body = match oid {
            OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA if version.has_ipsec_v2() && !version.uses_add_sa_ex() => {
                let (places, entries) = sa::add_sa_list(buffer)?.into_iter().unzip();
                handles = places;
                DirectOid::AddSa(entries)
            }
            OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX if version.uses_add_sa_ex() => {
                let (place, entry) = sa::add_sa_ex(buffer)?;
                handles.push(place);
                DirectOid::AddSaEx(Box::new(entry))
            }
            OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA if version.has_ipsec_v2() => DirectOid::UpdateSa(sa::decode_update_sa(buffer)?),
            OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA if version.has_ipsec_v2() => DirectOid::DeleteSa(sa::decode_delete_sa(buffer)?),
            other => DirectOid::Other(other),
        };
        Ok((Self { buffer, handles }, body))
    }

    /// Writes the answer into the buffer: the handle of every entry that was added, null for every other, and for all if the request failed (OV2-SA-4).
    pub fn complete(self, status: Status, body: &DirectOid) {
        let entries: &[AddSaEntry] = match body {
            DirectOid::AddSa(entries) => entries,
            DirectOid::AddSaEx(entry) => core::slice::from_ref(&**entry),
            _ => &[],
        };
        for (index, &at) in self.handles.iter().enumerate() {
            let handle = entries.get(index).and_then(|entry| entry.handle).filter(|_| status.is_success());
            write(self.buffer, at, &handle.map_or(0, crate::sa::OffloadHandle::to_bits).to_le_bytes());
        }
    }
}
