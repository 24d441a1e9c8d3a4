//! Order on the wire where several lanes share SAs: runs of numbers have turns, and frames go out by turns ([`wire_order`]).
//!
//! The numbers of a bundle's first header, the one that stands outermost in its packets, are what its packets are kept in order by. Where a packet takes
//! several numbers, of two associations or of two bundles, all of them are taken under one lock, so that they are all in the same order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipsec::Provider;
use ndis::Operation;
use packet::{Frame, FrameBatch};
use wire_order::{Domain, Outlet};

use crate::framing::Numbers;
use crate::lane::TransportLane;
use crate::plan::Stage;
use crate::sa::Sa;

/// How many frames of a bundle wait for their turn without their workers.
const ROOM: usize = 1024;

/// Lanes are to be shared while some are open that do not know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lanes are open: they can be shared only before")]
pub struct LanesOpen;

/// What keeps an outbound bundle's packets in order.
pub(crate) struct Order {
    domain: Arc<Domain<Frame>>,
    /// Held while numbers of two associations are taken.
    numbering: Mutex<()>,
}

impl Order {
    /// An order that begins after this number of the first header.
    pub(crate) fn new(last: u64) -> Self {
        Self { domain: Arc::new(Domain::new(last, ROOM)), numbering: Mutex::new(()) }
    }
}

/// What every lane has that shares SAs with others.
#[derive(Debug, Default)]
pub(crate) struct Nesting(Mutex<()>);

impl Nesting {
    /// Held while numbers of bundles are taken of which one goes inside the other.
    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        lock(&self.0)
    }
}

impl<P: Provider> TransportLane<P> {
    /// Puts on the wire what [`outbound`](Self::outbound) and [`poll`](Self::poll) have appended to `wire`, by `send`, which sends all that it is given. What it
    /// leaves has missed its turn, and is handed back in `wire`.
    ///
    /// Where [lanes are shared](crate::Transport::share_lanes), packets of an SA reach the wire in the order of its numbers, whichever lanes they come from and
    /// however these are held up: a run of packets whose turn has not come is left to the lane that sends the run before. So `send` may get other lanes' packets,
    /// too; it may be called several times, or not at all. At most a thousand packets of an SA are left so; then the caller waits here for their turn. Between
    /// `outbound` and `transmit` others wait for this lane. A lane that is dropped in between gives its numbers up; what waited for them goes with the next call
    /// for any lane, also for one that has nothing to send: so call it after [`poll`](Self::poll), too.
    ///
    /// Exempt are packets that waited for a stopped adapter, and those that an adapter sends later than it was asked to.
    ///
    /// Where lanes are not shared this is `send`.
    #[inline]
    pub fn transmit(&mut self, wire: &mut FrameBatch, mut send: impl FnMut(&mut FrameBatch)) {
        match &mut self.outlet {
            Some(outlet) => outlet.transmit(wire, |frame| frame.order, send),
            None if wire.is_empty() => {}
            None => send(wire),
        }
    }
}

impl<P: Provider> Stage<'_, P> {
    /// Notes the turn of a run of numbers of a bundle's first header; the ordering group of its packets.
    #[inline]
    pub(crate) fn turn(&mut self, sa: &Sa<P>, first: u64, count: u32) -> u16 {
        match &mut self.outlet {
            Some(outlet) => note(outlet, sa, first, count),
            None => 0,
        }
    }

    /// The lock under which a bundle's numbers are taken; none where there is one association, or lanes are not shared.
    #[inline]
    pub(crate) fn numbering<'s>(&self, sa: &'s Sa<P>) -> Option<MutexGuard<'s, ()>> {
        (self.outlet.is_some() && sa.ah.is_some() && sa.esp.is_some()).then(|| lock(&sa.order().numbering))
    }
}

#[inline(never)]
fn note<P: Provider>(outlet: &mut Outlet<Frame>, sa: &Sa<P>, first: u64, count: u32) -> u16 {
    outlet.take_turn(&sa.order().domain, first, count)
}

/// The number by which a packet of this bundle is kept in order.
#[inline]
pub(crate) fn leading<P: Provider>(sa: &Sa<P>, numbers: Numbers) -> u64 {
    match sa.first() {
        Operation::Ah => numbers.ah,
        Operation::Esp => numbers.esp,
    }
}

/// There is nothing under these locks.
fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
