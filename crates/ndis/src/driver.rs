//! The traits that drivers implement: miniport below, filters between, protocols above.
//!
//! Two kinds of objects share the work. The *control* side ([`Miniport`], [`Filter`], [`Protocol`]) is shared between threads and takes requests,
//! statuses and configuration. The *data* side ([`MiniportQueue`], [`FilterQueue`]) belongs to one lane (a worker with its queue pair) and is called
//! with batches and nothing else, so that no packet meets a lock.
//!
//! Nobody calls up while called from above: what NDIS does by up-calls is put into an out-batch ([`Upcalls`], `done`, `up`) and delivered by the
//! caller when the call has returned; what ends later is fetched by polling.

use packet::{BufferPool, FrameBatch, Time};

use crate::indication::StatusIndication;
use crate::nbl::NblBatch;
use crate::offload::Offload;
use crate::oid::{DirectOidRequest, OidRequest, Outcome, RequestId};
use crate::registry::AdapterKeywords;
use crate::status::Status;
use crate::version::NdisVersion;

/// What a lane hands along with every batch.
#[derive(Debug)]
pub struct LaneContext<'a> {
    /// The time of this batch: one clock reading a batch.
    pub now: Time,
    /// The lane's free buffers.
    pub pool: &'a mut BufferPool,
}

/// What a driver reports when its adapter is initialised (OV2-CAP-1): its adapter offload attributes and what NDIS must know about it.
#[derive(Clone, Debug)]
pub struct AdapterAttributes {
    /// The NDIS version that the driver was written for.
    pub version: NdisVersion,
    /// What the adapter's frames begin with.
    pub medium: packet::Medium,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// What the hardware can do, keywords or not.
    pub hardware_capabilities: Offload,
    /// What it is configured to do: hardware capabilities cut down by the keywords.
    pub default_configuration: Offload,
    /// Whether the driver registered a direct request handler and a direct cancel handler (OV2-OID-3); IPsecOV2 needs both.
    pub direct_requests: bool,
    /// The driver knows that OV2-CAP-2 demands tunnel mode of IPsecOV2, and its hardware has none all the same: the adapter is taken as it is.
    pub deviates_without_tunnel: bool,
}

/// What came up out of a control call or a poll, to be delivered by the stack once the call has returned.
#[derive(Debug, Default)]
pub struct Upcalls {
    /// Status indications, in order.
    pub indications: Vec<StatusIndication>,
    /// Pended direct requests that are complete, each exactly once.
    pub direct_completions: Vec<(Status, DirectOidRequest)>,
}

/// A driver whose adapters can be started and restarted: it makes a [`Miniport`] from the keywords of the registry.
pub trait MiniportDriver: Send + Sync {
    /// Initialises the adapter: reads the standardized keywords and reports attributes (OV2-CAP-1, OV2-CAP-5).
    ///
    /// # Errors
    /// A status if the adapter cannot start.
    fn initialize(&self, keywords: &AdapterKeywords) -> Result<(Box<dyn Miniport>, AdapterAttributes), Status>;
}

/// The control side of a miniport driver's adapter.
///
/// `oid_request`, `reset`, `halt` and `poll_control` are called one at a time; `direct_oid_request`, `cancel_direct_oid_request` and `open_queue` beside
/// them and each other, from any thread. A direct request that was under way when the adapter was halted may still arrive afterwards: it is refused with
/// [`Status::NOT_ACCEPTED`].
pub trait Miniport: Send + Sync {
    /// Opens a queue pair for a lane. Any number may be open.
    fn open_queue(&self) -> Box<dyn MiniportQueue>;

    /// A standard request; the stack never has two under way (OV2-OID-1). Those that NDIS answers by itself never arrive (OV2-CAP-7).
    fn oid_request(&self, request: &mut OidRequest, up: &mut Upcalls) -> Status;

    /// A direct request: concurrent with everything, from any thread, never blocks (OV2-OID-1).
    fn direct_oid_request(&self, request: DirectOidRequest) -> Outcome;

    /// Asks to cancel a pended direct request. If it is still unfinished it completes with [`Status::REQUEST_ABORTED`] through `poll_control`;
    /// for any other id nothing happens.
    fn cancel_direct_oid_request(&self, id: RequestId);

    /// Resets the adapter: the SA table is emptied; unfinished direct requests end, before NDIS 6.30 with [`Status::REQUEST_ABORTED`] (OV2-OID-2).
    /// Ends when a later `poll_control` has indicated [`StatusIndication::ResetEnd`]; until then new direct requests get [`Status::NOT_ACCEPTED`].
    fn reset(&self, up: &mut Upcalls);

    /// The adapter is being removed or restarted: deletes all SAs, ends unfinished requests. Queues that are still open do nothing any more: sends
    /// come back with [`Status::ADAPTER_REMOVED`], what they hold comes back by their next poll, frames are dropped by the stack. One more `poll_control`
    /// follows; requests that have not ended by then are ended by the stack.
    fn halt(&self, up: &mut Upcalls);

    /// Delivers what became ready since the last call: completions, indications.
    fn poll_control(&self, up: &mut Upcalls);
}

/// The data side of a miniport for one lane.
pub trait MiniportQueue: Send {
    /// Sends the lists of `batch` in order (OV2-SEND-6) and leaves it empty. Frames go to `wire`; each list goes to `done` exactly once, now or by a
    /// later [`MiniportQueue::poll`].
    fn send(&mut self, lane: &mut LaneContext<'_>, batch: &mut NblBatch, done: &mut NblBatch, wire: &mut FrameBatch);

    /// Takes received frames, in order, leaves `frames` empty and appends every packet to `up`, also those that failed (OV2-RECV-1).
    fn receive(&mut self, lane: &mut LaneContext<'_>, frames: &mut FrameBatch, up: &mut NblBatch);

    /// Delivers sends that finished later.
    fn poll(&mut self, lane: &mut LaneContext<'_>, done: &mut NblBatch, wire: &mut FrameBatch);

    /// The lane has nothing to do, and will not call for a while: lets a pending DELETE_SA complete (OV2-SA-7).
    fn idle(&mut self) {}
}

/// What a filter is told when it is put between (OV2-CAP-6).
#[derive(Clone, Debug)]
pub struct AttachParameters {
    /// Name of the adapter.
    pub adapter: String,
    /// Default offload configuration of what is below the filter.
    pub default_offload_configuration: Offload,
}

/// What the filter's modules do with a request that comes from above.
#[derive(Debug)]
pub enum FilterVerdict<R> {
    /// Goes on down, possibly changed.
    Pass(R),
    /// Answered here.
    Complete(Status, R),
}

/// The control side of a filter driver's module in one stack. Every method passes through unless it is overridden.
pub trait Filter: Send + Sync {
    /// The name in traces.
    fn name(&self) -> &str;

    /// Put into a stack, or the adapter below has been restarted: what is offered now (OV2-CAP-6).
    fn attach(&self, _parameters: &AttachParameters) {}

    /// Taken out of the stack of an adapter. Completions of direct requests that passed before may still come.
    fn detach(&self, _adapter: &str) {}

    /// Opens the data side for a lane; `None`: this filter does not look at packets, and costs nothing.
    fn open_queue(&self) -> Option<Box<dyn FilterQueue>> {
        None
    }

    /// The offload configuration that those above shall see instead of `below` (a filter may reduce it, never add to it; the stack enforces that).
    fn reduce(&self, below: &Offload) -> Offload {
        *below
    }

    /// A standard request on its way down.
    fn oid_request(&self, request: OidRequest) -> FilterVerdict<OidRequest> {
        FilterVerdict::Pass(request)
    }

    /// A standard request on its way up, completed.
    fn oid_request_complete(&self, _status: Status, _request: &mut OidRequest) {}

    /// Whether the filter has a direct handler; one without is skipped (OV2-OID-3).
    fn handles_direct_requests(&self) -> bool {
        false
    }

    /// A direct request on its way down.
    fn direct_oid_request(&self, request: DirectOidRequest) -> FilterVerdict<DirectOidRequest> {
        FilterVerdict::Pass(request)
    }

    /// A direct request on its way up, completed.
    fn direct_oid_request_complete(&self, _status: Status, _request: &mut DirectOidRequest) {}

    /// A status indication on its way up; `None` keeps it from those above.
    fn status(&self, indication: StatusIndication) -> Option<StatusIndication> {
        Some(indication)
    }
}

/// The data side of a filter for one lane.
pub trait FilterQueue: Send {
    /// Lists on their way down. Those moved to `done` with a failure status go no further.
    fn send(&mut self, lane: &mut LaneContext<'_>, batch: &mut NblBatch, done: &mut NblBatch);

    /// Completed lists on their way up.
    fn send_complete(&mut self, lane: &mut LaneContext<'_>, done: &mut NblBatch);

    /// Received lists on their way up.
    fn receive(&mut self, lane: &mut LaneContext<'_>, up: &mut NblBatch);
}

/// What a protocol is told when it is bound (OV2-CAP-6).
#[derive(Clone, Debug)]
pub struct BindParameters {
    /// Name of the adapter.
    pub adapter: String,
    /// The adapter's NDIS version.
    pub version: NdisVersion,
    /// What its frames begin with.
    pub medium: packet::Medium,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Default offload configuration, as the filters in between leave it.
    pub default_offload_configuration: Offload,
    /// System-wide: every task offload is switched off (`DisableTaskOffload`, OV2-CAP-5).
    pub disable_task_offload: bool,
    /// System-wide: IPsec offload is allowed (`EnabledOffload`, OV2-CAP-5).
    pub ipsec_offload_enabled: bool,
}

/// An overlying protocol driver. Called by the stack from its pump (or from one of [`crate::Stack`]'s methods that change an adapter), by one thread at a
/// time for each adapter, without a lock held: any request may be made from within. Never called from within a call through its [`crate::Binding`].
pub trait Protocol: Send + Sync {
    /// Bound to an adapter; `binding` is how it calls down.
    fn bind(&self, parameters: BindParameters, binding: crate::stack::Binding);

    /// The binding is going: the adapter is removed or restarts. No call through `binding` has an effect after this, and what it had
    /// pended has completed.
    fn unbind(&self);

    /// A status indication from below.
    fn status(&self, indication: StatusIndication);

    /// Whether it registered a direct completion function; without one its direct requests get [`Status::NOT_SUPPORTED`] (OV2-OID-3).
    fn completes_direct_requests(&self) -> bool {
        true
    }

    /// A direct request that had been pended is complete.
    fn direct_oid_complete(&self, status: Status, request: DirectOidRequest);
}
