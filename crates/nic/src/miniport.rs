//! The miniport over an engine: requests in, statuses out, and the gate that batches pass.

use core::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndis::{DirectOidRequest, Miniport, MiniportQueue, NblBatch, NetBufferList, Offload, Oid, OidRequest, Outcome, RequestId, Status, Upcalls};
use packet::{FrameBatch, Medium};

use crate::control::{Control, Gate};
use crate::counters::{AdapterCounters, LaneCounters, fail_where};
use crate::driver::NicParameters;
use crate::engine::{Engine, EngineQueue, LaneContext};
use crate::link::ip_offset;

/// An adapter over an engine: the IPsecOV2 contract's lower edge. Made by [`NicDriver`](crate::NicDriver).
///
/// Requests share one mutex, held for as long as the engine takes to load a key, and never while anything is waited for: that is what "a direct
/// request never blocks" (OV2-OID-1) comes to where an NDIS driver would hold a spin lock. Batches of packets take no lock.
pub struct NicMiniport<E: Engine> {
    engine: Arc<E>,
    medium: Medium,
    gate: Arc<Gate>,
    counters: Arc<AdapterCounters>,
    control: Mutex<Control>,
}

impl<E: Engine> NicMiniport<E> {
    pub(crate) fn new(engine: Arc<E>, parameters: Arc<NicParameters>, counters: Arc<AdapterCounters>, hardware: Offload, configured: Offload) -> Self {
        let medium = parameters.medium;
        let gate = Arc::new(Gate::default());
        let mut control = Control::new(parameters, Arc::clone(&gate), counters.open(), hardware, configured);
        control.configure(&*engine);
        Self { engine, medium, gate, counters, control: Mutex::new(control) }
    }

    /// The engine.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// How many SA bundles are live, and how many take room: with those that are being added or deleted.
    pub fn sas(&self) -> (usize, usize) {
        self.lock().sas()
    }

    /// How many entries the UDP-ESP parser of IPsecOV1 has (OV1-2a).
    pub fn parser_entries(&self) -> usize {
        self.lock().parser_entries()
    }

    /// A panic under the mutex (in an engine) leaves bookkeeping that is still consistent: the miniport goes on.
    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Engine> Miniport for NicMiniport<E> {
    fn open_queue(&self) -> Box<dyn MiniportQueue> {
        Box::new(NicQueue { engine: self.engine.queue(), medium: self.medium, gate: Arc::clone(&self.gate), counters: self.counters.open() })
    }

    fn oid_request(&self, request: &mut OidRequest, up: &mut Upcalls) -> Status {
        match &mut request.body {
            Oid::SetParameters(parameters) => self.lock().set_parameters(&*self.engine, parameters, up),
            Oid::SetEncapsulation(encapsulation) => self.lock().set_encapsulation(&*self.engine, encapsulation, up),
            Oid::IpsecV1(request) => self.lock().v1_request(&*self.engine, request),
            // NDIS answers these queries by itself (OV2-CAP-7).
            Oid::CurrentConfig(_) | Oid::HardwareCapabilities(_) | Oid::Encapsulation(_) | Oid::Other { .. } => Status::NOT_SUPPORTED,
        }
    }

    fn direct_oid_request(&self, request: DirectOidRequest) -> Outcome {
        self.lock().direct_request(&*self.engine, request)
    }

    fn cancel_direct_oid_request(&self, id: RequestId) {
        self.lock().cancel(&*self.engine, id);
    }

    fn reset(&self, up: &mut Upcalls) {
        self.lock().reset(&*self.engine, up);
    }

    fn halt(&self, up: &mut Upcalls) {
        self.lock().halt(&*self.engine, up);
    }

    fn poll_control(&self, up: &mut Upcalls) {
        self.lock().poll(&*self.engine, up);
    }
}

impl<E: Engine> fmt::Debug for NicMiniport<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NicMiniport").field("medium", &self.medium).finish_non_exhaustive()
    }
}

/// The data side for one lane: keeps from the engine what is not for it, and counts.
struct NicQueue {
    engine: Box<dyn EngineQueue>,
    medium: Medium,
    gate: Arc<Gate>,
    counters: LaneCounters,
}

impl NicQueue {
    fn count_sent(&self, done: &[NetBufferList], wire: &[packet::Frame]) {
        self.counters.completed(done);
        self.counters.wire_bytes(wire.iter().map(|frame| frame.buffer.len() as u64).sum());
    }
}

impl MiniportQueue for NicQueue {
    fn send(&mut self, lane: &mut LaneContext<'_>, batch: &mut NblBatch, done: &mut NblBatch, wire: &mut FrameBatch) {
        let gate = self.gate.load();
        if gate & Gate::RUNNING == 0 {
            let status = if gate & Gate::HALTED == 0 { Status::RESET_IN_PROGRESS } else { Status::ADAPTER_REMOVED };
            self.counters.send_not_running(fail_where(batch, done, status, |_| true));
            return;
        }
        if gate & Gate::SEND == 0 {
            // OV2-SEND-1: what asks for offload is still clear text.
            let wants_offload = |list: &NetBufferList| list.oob.offload_handle().is_some() || list.oob.tunnel_handle().is_some();
            self.counters.not_configured(fail_where(batch, done, Status::FAILURE, wants_offload));
        }
        let (first_done, first_frame) = (done.len(), wire.len());
        self.engine.send(lane, batch, done, wire);
        self.count_sent(&done[first_done..], &wire[first_frame..]);
    }

    fn receive(&mut self, lane: &mut LaneContext<'_>, frames: &mut FrameBatch, up: &mut NblBatch) {
        let gate = self.gate.load();
        if gate & Gate::HALTED != 0 {
            self.counters.receive_not_running(frames.len());
            for frame in frames.drain(..) {
                lane.pool.give(frame.buffer);
            }
            return;
        }
        if gate & Gate::RECEIVE == 0 {
            // OV2-RECV-2, OV2-CAP-9.
            self.counters.untouched(frames.len());
            let medium = self.medium;
            up.extend(frames.drain(..).map(|frame| {
                let l3_offset = ip_offset(medium, frame.buffer.as_slice());
                NetBufferList::from_frame(frame, l3_offset)
            }));
            return;
        }
        let first = up.len();
        self.engine.receive(lane, frames, up);
        self.counters.indicated(&up[first..]);
    }

    fn poll(&mut self, lane: &mut LaneContext<'_>, done: &mut NblBatch, wire: &mut FrameBatch) {
        let (first_done, first_frame) = (done.len(), wire.len());
        self.engine.poll(lane, done, wire);
        self.count_sent(&done[first_done..], &wire[first_frame..]);
    }

    fn idle(&mut self) {
        self.engine.idle();
    }
}
