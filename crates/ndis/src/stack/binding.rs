//! How a protocol calls down.

use std::sync::Arc;

use super::adapter::{Adapter, Link};
use super::datapath::Datapath;
use crate::offload::Offload;
use crate::oid::{DirectOid, OffloadEncapsulation, Oid, RequestId};
use crate::parameters::OffloadParameters;
use crate::status::Status;

/// How the stack answered a direct request.
#[derive(Debug)]
pub enum DirectAnswer {
    /// At once: the status, and the request's body with its answers.
    Done(Status, DirectOid),
    /// Later, exactly once, through [`crate::Protocol::direct_oid_complete`]; a pump in another thread may have called that already (OV2-OID-2).
    Pending(RequestId),
}

/// A protocol's binding to an adapter: a handle that may be cloned and used from any thread, also from within the protocol's callbacks.
///
/// It lasts until [`crate::Protocol::unbind`]. From then on standard requests get [`Status::CLOSING`] (or [`Status::ADAPTER_REMOVED`]) and direct requests
/// [`Status::NOT_ACCEPTED`]. After a restart of the adapter the protocol is bound again and gets another binding.
#[derive(Clone)]
pub struct Binding {
    adapter: Arc<Adapter>,
    link: Arc<Link>,
}

impl Binding {
    pub(super) fn new(adapter: Arc<Adapter>, link: Arc<Link>) -> Self {
        Self { adapter, link }
    }

    /// Name of the adapter.
    pub fn adapter(&self) -> &str {
        self.adapter.name()
    }

    /// Opens the way of this protocol's packets for one lane, as [`super::Stack::open_datapath_of`] does. It follows the adapter and may outlive the binding.
    pub fn open_datapath(&self) -> Datapath {
        Datapath::new(Arc::clone(&self.adapter), Some(self.link.owner()))
    }

    /// The adapter's current configuration, as the filters leave it; NDIS answers by itself (OV2-CAP-7).
    ///
    /// # Errors
    /// The status of a request that failed.
    pub fn query_current_config(&self) -> Result<Offload, Status> {
        match self.oid_request(Oid::CurrentConfig(None)) {
            (status, Oid::CurrentConfig(Some(offload))) if status.is_success() => Ok(*offload),
            (status, _) => Err(failure(status)),
        }
    }

    /// The adapter's hardware capabilities, as the filters leave them; NDIS answers by itself (OV2-CAP-7).
    ///
    /// # Errors
    /// The status of a request that failed.
    pub fn query_hardware_capabilities(&self) -> Result<Offload, Status> {
        match self.oid_request(Oid::HardwareCapabilities(None)) {
            (status, Oid::HardwareCapabilities(Some(offload))) if status.is_success() => Ok(*offload),
            (status, _) => Err(failure(status)),
        }
    }

    /// What the last successful [`Binding::set_encapsulation`] of any protocol set; NDIS answers by itself (OV2-CAP-9).
    ///
    /// # Errors
    /// [`Status::INVALID_STATE`] before a set; the status of a request that failed.
    pub fn query_encapsulation(&self) -> Result<OffloadEncapsulation, Status> {
        match self.oid_request(Oid::Encapsulation(None)) {
            (status, Oid::Encapsulation(Some(encapsulation))) if status.is_success() => Ok(encapsulation),
            (status, _) => Err(failure(status)),
        }
    }

    /// Switches offloads on and off. The keywords are written to the registry first, unless the parameters say not to (OV2-CAP-8).
    pub fn set_parameters(&self, parameters: OffloadParameters) -> Status {
        self.oid_request(Oid::SetParameters(parameters)).0
    }

    /// Activates or deactivates what is configured (OV2-CAP-9). A protocol must not issue it where
    /// [`crate::BindParameters::disable_task_offload`] is set (OV2-CAP-5), and asks for no offload after it failed.
    pub fn set_encapsulation(&self, encapsulation: OffloadEncapsulation) -> Status {
        self.oid_request(Oid::SetEncapsulation(encapsulation)).0
    }

    /// A request on the standard path: waits until those before it are done, passes the filters from the top, and is answered by the miniport, or by NDIS
    /// itself (OV2-CAP-7). What it makes the miniport indicate is delivered by the next [`super::Stack::pump`].
    pub fn oid_request(&self, body: Oid) -> (Status, Oid) {
        self.adapter.oid_request(&self.link, body)
    }

    /// A request on the direct path, under an id of its own.
    pub fn direct_oid_request(&self, body: DirectOid) -> DirectAnswer {
        self.direct_oid_request_as(self.reserve_request_id(), body)
    }

    /// An id for [`Binding::direct_oid_request_as`]: lets a protocol note a request before it is issued, and so before it can complete.
    pub fn reserve_request_id(&self) -> RequestId {
        self.adapter.next_id()
    }

    /// A request on the direct path, under an id that was reserved for it: runs at once, beside all others (OV2-OID-1).
    ///
    /// [`Status::NOT_SUPPORTED`] for a body that is none of the direct path's (OV2-OID-4), and where the miniport has no direct handler or the protocol no
    /// completion function (OV2-OID-3); [`Status::NOT_ACCEPTED`] while the adapter does not run (OV2-OID-2); [`Status::INVALID_PARAMETER`] for an id that is
    /// in use.
    ///
    /// If the adapter goes and its miniport never finishes the request, the stack answers with [`Status::REQUEST_ABORTED`]; the body then has no bundles
    /// (the driver had them), only as many entries.
    pub fn direct_oid_request_as(&self, id: RequestId, body: DirectOid) -> DirectAnswer {
        self.adapter.direct_oid_request(&self.link, id, body)
    }

    /// Asks to cancel a direct request of this binding. One that is unfinished completes with [`Status::REQUEST_ABORTED`]; one that is finished, or that
    /// there never was, is not affected.
    pub fn cancel(&self, id: RequestId) {
        self.adapter.cancel(&self.link, id);
    }
}

impl core::fmt::Debug for Binding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Binding").field("adapter", &self.adapter()).field("open", &self.link.is_open()).finish()
    }
}

/// A filter that claims success without an answer has failed.
fn failure(status: Status) -> Status {
    if status.is_success() { Status::FAILURE } else { status }
}
