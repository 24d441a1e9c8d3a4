//! What waits to go up from one adapter, in its order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::adapter::Bound;
use super::lock;
use crate::driver::{BindParameters, Filter};
use crate::indication::StatusIndication;
use crate::oid::DirectOidRequest;
use crate::status::Status;

/// Filters of an adapter, bottom first.
pub(super) type Filters = Arc<[Arc<dyn Filter>]>;

/// Something that goes up.
pub(super) enum Event {
    /// A status indication of the miniport or of NDIS, with the filters that it passes.
    Status(StatusIndication, Filters),
    /// A direct request that was pended is complete, with the filters that it passed on its way down.
    DirectComplete { bound: Arc<Bound>, status: Status, request: DirectOidRequest, filters: Filters },
    /// A protocol is bound. The default configuration is the adapter's, and passes the filters on delivery.
    Bind { bound: Arc<Bound>, parameters: Box<BindParameters>, filters: Filters },
    /// A protocol is unbound.
    Unbind(Arc<Bound>),
    /// A filter is taken away.
    Detach(Arc<dyn Filter>),
}

/// The queue: many threads push, one at a time delivers.
#[derive(Default)]
pub(super) struct Events(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Event>,
    pushed: u64,
    taken: u64,
    /// Everything before this is to be delivered by whoever is delivering.
    until: u64,
    delivering: bool,
    /// Those that hear status indications: bound, as far as has been delivered.
    listeners: Vec<Arc<Bound>>,
}

impl Events {
    pub(super) fn push(&self, event: Event) {
        let mut state = lock(&self.0);
        state.waiting.push_back(event);
        state.pushed += 1;
    }

    /// Hands what is waiting now to `up`, in order and without the lock; what `up` causes stays. If another call is delivering (in another thread, or the
    /// one that this thread is called from), that one does it and this one returns 0 at once.
    pub(super) fn deliver(&self, mut up: impl FnMut(Event)) -> usize {
        {
            let mut state = lock(&self.0);
            state.until = state.pushed;
            if state.delivering || state.taken == state.until {
                return 0;
            }
            state.delivering = true;
        }
        let ending = EndDelivery(&self.0);
        let mut delivered = 0;
        while let Some(event) = self.take() {
            up(event);
            delivered += 1;
        }
        core::mem::forget(ending);
        delivered
    }

    pub(super) fn add_listener(&self, bound: &Arc<Bound>) {
        lock(&self.0).listeners.push(Arc::clone(bound));
    }

    pub(super) fn remove_listener(&self, bound: &Arc<Bound>) {
        lock(&self.0).listeners.retain(|there| !Arc::ptr_eq(there, bound));
    }

    pub(super) fn listeners(&self) -> Vec<Arc<Bound>> {
        lock(&self.0).listeners.clone()
    }

    /// Whether everything is delivered and the delivery is over are one decision under one lock, or an event could be left to a deliverer that has gone.
    fn take(&self) -> Option<Event> {
        let mut state = lock(&self.0);
        let event = if state.taken < state.until { state.waiting.pop_front() } else { None };
        match event {
            Some(_) => state.taken += 1,
            None => state.delivering = false,
        }
        event
    }
}

/// Ends the delivery if a driver panics.
struct EndDelivery<'a>(&'a Mutex<State>);

impl Drop for EndDelivery<'_> {
    fn drop(&mut self) {
        lock(self.0).delivering = false;
    }
}
