//! Workers behind one caller who waits for them: what a [`Host`](crate::host::Host) of several workers has.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndis::{AdapterState, Datapath};
use packet::{BufferPool, FrameBatch, Medium, Time};
use transport::InboundBatch;

use super::{Dispatcher, Output, Workers};
use crate::host::{HostControl, HostError};

/// Workers, and a caller who hands them a batch and waits until it is done.
pub(crate) struct Crew {
    dispatcher: Dispatcher,
    workers: Workers<Collector>,
    wire: Arc<Mutex<FrameBatch>>,
    received: Vec<Arc<Mutex<InboundBatch>>>,
    control: Arc<HostControl>,
    /// Only looked at for what the adapter does.
    path: Datapath,
}

/// Collects what comes out of a worker.
struct Collector {
    /// Of all workers together, in the order of the wire.
    wire: Arc<Mutex<FrameBatch>>,
    received: Arc<Mutex<InboundBatch>>,
}

impl Output for Collector {
    fn transmit(&mut self, _: &mut BufferPool, frames: &mut FrameBatch) {
        lock(&self.wire).append(frames);
    }

    fn wants_verdicts(&self) -> bool {
        lock(&self.received).report
    }

    fn deliver(&mut self, _: &mut BufferPool, out: &mut InboundBatch) {
        append(out, &mut lock(&self.received));
    }
}

impl Crew {
    pub(crate) fn new(control: &Arc<HostControl>, medium: Medium, count: usize) -> Result<Self, HostError> {
        let wire = Arc::new(Mutex::new(FrameBatch::new()));
        let received: Vec<_> = (0..count).map(|_| Arc::new(Mutex::new(InboundBatch::default()))).collect();
        let outputs = received.iter().map(|received| Collector { wire: Arc::clone(&wire), received: Arc::clone(received) });
        let workers = Workers::start(control, outputs)?;
        let dispatcher = workers.dispatcher(medium);
        let path = control.open_datapath()?;
        Ok(Self { dispatcher, workers, wire, received, control: Arc::clone(control), path })
    }

    pub(crate) const fn pool(&mut self) -> &mut BufferPool {
        self.dispatcher.pool()
    }

    pub(crate) fn send(&mut self, now: Time, packets: &mut FrameBatch, wire: &mut FrameBatch) {
        self.dispatcher.outbound(now, packets);
        self.dispatcher.wait();
        wire.append(&mut lock(&self.wire));
    }

    pub(crate) fn receive(&mut self, now: Time, frames: &mut FrameBatch, out: &mut InboundBatch) -> usize {
        for received in &self.received {
            lock(received).report = out.report;
        }
        self.dispatcher.set_udp_esp_ports(self.control.transport().udp_esp_ports());
        self.dispatcher.inbound(now, frames);
        self.dispatcher.wait();
        for received in &self.received {
            append(&mut lock(received), out);
        }
        self.dispatcher.take_lost()
    }

    pub(crate) fn poll(&mut self, now: Time, wire: &mut FrameBatch) {
        // An SA that is being removed waits for this one, too.
        self.path.idle();
        self.dispatcher.poll(now);
        self.dispatcher.wait();
        wire.append(&mut lock(&self.wire));
    }

    pub(crate) fn backlog(&self) -> usize {
        self.dispatcher.backlog()
    }

    pub(crate) fn adapter_state(&mut self) -> AdapterState {
        self.path.state()
    }

    /// How many workers there are.
    pub(crate) fn workers(&self) -> usize {
        self.workers.count()
    }
}

fn append(from: &mut InboundBatch, to: &mut InboundBatch) {
    to.delivered.append(&mut from.delivered);
    to.passed.append(&mut from.passed);
    to.verdicts.append(&mut from.verdicts);
}

/// A worker that panicked while it held the lock left whole frames behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
