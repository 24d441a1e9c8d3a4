//! The way of packets between a protocol and a miniport, for one lane.

use std::sync::Arc;

use super::adapter::{Adapter, AdapterState};
use super::owners::Owner;
use crate::driver::{FilterQueue, LaneContext, MiniportQueue};
use crate::nbl::NblBatch;
use crate::status::Status;
use packet::FrameBatch;

/// The way of packets between a protocol and a miniport, for one lane: the miniport's queue and the queues of those filters that look at packets.
///
/// It belongs to one lane and takes no lock. With every batch it looks, by one atomic load, whether the adapter has been reset, restarted or removed or its
/// filters have changed, and follows:
///
/// | adapter | sends | received frames |
/// | --- | --- | --- |
/// | running | to the miniport | to the miniport |
/// | resetting | come back whole, [`Status::RESET_IN_PROGRESS`] | dropped, counted |
/// | restarting, stopped | come back whole, [`Status::PAUSED`] | dropped, counted |
/// | removed | come back whole, [`Status::ADAPTER_REMOVED`] | dropped, counted |
///
/// Every list that is sent comes back in a `done` exactly once; what was on its way when the adapter changed comes by a later [`Datapath::poll`]. Lists pass
/// the filters that were there when they were sent, on their way down and up. Order is kept, except that what is sent after a change may overtake what a
/// miniport has held back since before. Without filters the caller's batches go to the miniport as they are, by one virtual call.
pub struct Datapath {
    adapter: Arc<Adapter>,
    /// Whose SAs may be sent under; `None`: anybody's.
    owner: Option<Owner>,
    /// Others have SAs, and lists that name them are turned away.
    guarded: bool,
    epoch: u64,
    state: AdapterState,
    instance: u64,
    /// While the state is `Running` or `Resetting`, and once it has run.
    way: Option<Way>,
    /// Former ways with lists in them.
    draining: Vec<Way>,
    /// Completed or received lists on their way through the filters.
    rising: NblBatch,
    dropped: u64,
}

impl Datapath {
    pub(super) fn new(adapter: Arc<Adapter>, owner: Option<Owner>) -> Self {
        // Not the adapter's: the first batch opens the queues.
        let epoch = adapter.epoch().wrapping_sub(1);
        Self {
            adapter,
            owner,
            guarded: false,
            epoch,
            state: AdapterState::Restarting,
            instance: 0,
            way: None,
            draining: Vec::new(),
            rising: NblBatch::new(),
            dropped: 0,
        }
    }

    /// Name of the adapter.
    pub fn adapter(&self) -> &str {
        self.adapter.name()
    }

    /// What the adapter is doing, as of now.
    pub fn state(&mut self) -> AdapterState {
        self.follow();
        self.state
    }

    /// How many lists are on their way: sent and not yet back.
    pub fn outstanding(&self) -> usize {
        self.way.iter().chain(&self.draining).map(|way| way.outstanding).sum()
    }

    /// How many received frames were dropped because the adapter did not run.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Sends the lists of `batch` in order and leaves it empty; each comes back in `done` exactly once, now or by a later [`Datapath::poll`]. Frames for the
    /// link are appended to `wire`.
    pub fn send(&mut self, lane: &mut LaneContext<'_>, batch: &mut NblBatch, done: &mut NblBatch, wire: &mut FrameBatch) {
        self.follow();
        if batch.is_empty() {
            return;
        }
        match &mut self.way {
            Some(way) if self.state == AdapterState::Running => {
                let guard = if self.guarded { self.owner.map(|owner| (&*self.adapter, owner)) } else { None };
                way.send(lane, batch, done, wire, &mut self.rising, guard);
            }
            _ => fail(batch, done, self.state.send_status()),
        }
    }

    /// Takes frames from the link, in order, leaves `frames` empty and appends every packet to `up`. Returns how many were dropped, their buffers given to
    /// the lane's pool, because the adapter does not run.
    pub fn receive(&mut self, lane: &mut LaneContext<'_>, frames: &mut FrameBatch, up: &mut NblBatch) -> usize {
        self.follow();
        if frames.is_empty() {
            return 0;
        }
        if let Some(way) = &mut self.way
            && self.state == AdapterState::Running
        {
            way.receive(lane, frames, up, &mut self.rising);
        }
        // Also what the queue of an adapter that has just been halted left.
        let dropped = frames.len();
        for frame in frames.drain(..) {
            lane.pool.give(frame.buffer);
        }
        self.dropped += dropped as u64;
        dropped
    }

    /// Fetches sends that finished later; in every state of the adapter.
    pub fn poll(&mut self, lane: &mut LaneContext<'_>, done: &mut NblBatch, wire: &mut FrameBatch) {
        self.follow();
        if !self.draining.is_empty() {
            self.drain(lane, done, wire);
        }
        if let Some(way) = &mut self.way {
            way.poll(lane, done, wire, &mut self.rising);
        }
    }

    /// The lane has nothing to do and will not call for a while: lets a pending DELETE_SA complete (OV2-SA-7).
    pub fn idle(&mut self) {
        self.follow();
        for way in self.draining.iter_mut().chain(&mut self.way) {
            way.queue.idle();
        }
    }

    #[inline]
    fn follow(&mut self) {
        if self.adapter.epoch() != self.epoch {
            self.reopen();
        }
    }

    #[cold]
    fn reopen(&mut self) {
        let view = self.adapter.lane_view(self.owner);
        self.guarded = view.guarded;
        self.epoch = view.epoch;
        self.state = view.state;
        let same = self.way.as_ref().is_some_and(|way| self.instance == view.instance && Arc::ptr_eq(&way.of, &view.filters));
        if same && view.miniport.is_some() {
            return;
        }
        self.draining.extend(self.way.take().filter(|way| way.outstanding > 0));
        self.instance = view.instance;
        self.way = view.miniport.map(|miniport| Way {
            queue: miniport.open_queue(),
            filters: view.filters.iter().filter_map(|filter| filter.open_queue()).collect(),
            of: view.filters,
            outstanding: 0,
        });
    }

    #[cold]
    fn drain(&mut self, lane: &mut LaneContext<'_>, done: &mut NblBatch, wire: &mut FrameBatch) {
        for way in &mut self.draining {
            way.poll(lane, done, wire, &mut self.rising);
        }
        self.draining.retain(|way| way.outstanding > 0);
    }
}

impl core::fmt::Debug for Datapath {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Datapath")
            .field("adapter", &self.adapter())
            .field("state", &self.state)
            .field("outstanding", &self.outstanding())
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

/// Queues of one miniport with the filters that were on it when they were opened.
struct Way {
    queue: Box<dyn MiniportQueue>,
    /// Bottom first.
    filters: Vec<Box<dyn FilterQueue>>,
    /// What `filters` was opened from.
    of: super::events::Filters,
    /// Lists that the miniport has.
    outstanding: usize,
}

impl Way {
    fn send(
        &mut self,
        lane: &mut LaneContext<'_>,
        batch: &mut NblBatch,
        done: &mut NblBatch,
        wire: &mut FrameBatch,
        rising: &mut NblBatch,
        guard: Option<(&Adapter, Owner)>,
    ) {
        for position in (0..self.filters.len()).rev() {
            let lists = batch.len();
            self.filters[position].send(lane, batch, rising);
            debug_assert_eq!(lists, batch.len() + rising.len(), "a filter loses or duplicates lists");
            if !rising.is_empty() {
                rise(&mut self.filters[position + 1..], lane, rising, done);
            }
            if batch.is_empty() {
                return;
            }
        }
        if let Some((adapter, owner)) = guard {
            // Here and not above: handles are the miniport's, and a filter may have put them in the place of its own.
            adapter.owners.turn_away(owner, batch, rising);
            if !rising.is_empty() {
                rise(&mut self.filters, lane, rising, done);
            }
            if batch.is_empty() {
                return;
            }
        }
        self.outstanding += batch.len();
        self.finishing(lane, done, rising, |queue, lane, done| {
            queue.send(lane, batch, done, wire);
            debug_assert!(batch.is_empty(), "a miniport leaves lists behind");
            fail(batch, done, Status::FAILURE);
        });
    }

    fn poll(&mut self, lane: &mut LaneContext<'_>, done: &mut NblBatch, wire: &mut FrameBatch, rising: &mut NblBatch) {
        self.finishing(lane, done, rising, |queue, lane, done| queue.poll(lane, done, wire));
    }

    /// A call in which the miniport may complete lists: counts them, and lets them pass the filters if there are any.
    #[inline]
    fn finishing(
        &mut self,
        lane: &mut LaneContext<'_>,
        done: &mut NblBatch,
        rising: &mut NblBatch,
        call: impl FnOnce(&mut dyn MiniportQueue, &mut LaneContext<'_>, &mut NblBatch),
    ) {
        let filtered = !self.filters.is_empty();
        let target = if filtered { &mut *rising } else { &mut *done };
        let before = target.len();
        call(&mut *self.queue, lane, target);
        let finished = target.len() - before;
        debug_assert!(finished <= self.outstanding, "a miniport completes lists that it does not have");
        self.outstanding = self.outstanding.saturating_sub(finished);
        if filtered && !rising.is_empty() {
            rise(&mut self.filters, lane, rising, done);
        }
    }

    fn receive(&mut self, lane: &mut LaneContext<'_>, frames: &mut FrameBatch, up: &mut NblBatch, rising: &mut NblBatch) {
        if self.filters.is_empty() {
            self.queue.receive(lane, frames, up);
            return;
        }
        self.queue.receive(lane, frames, rising);
        for filter in &mut self.filters {
            let lists = rising.len();
            filter.receive(lane, rising);
            debug_assert!(rising.len() <= lists, "a filter makes up lists");
        }
        hand_over(rising, up);
    }
}

/// Completed lists go up through `filters`.
fn rise(filters: &mut [Box<dyn FilterQueue>], lane: &mut LaneContext<'_>, rising: &mut NblBatch, done: &mut NblBatch) {
    for filter in filters {
        let lists = rising.len();
        filter.send_complete(lane, rising);
        debug_assert_eq!(lists, rising.len(), "a filter loses or duplicates completed lists");
    }
    hand_over(rising, done);
}

/// Moves all of `from` to the end of `to`; where `to` is empty the two change places, and no list is copied.
fn hand_over(from: &mut NblBatch, to: &mut NblBatch) {
    if to.is_empty() {
        core::mem::swap(from, to);
    } else {
        to.append(from);
    }
}

/// Lists that were not tried go back as they are.
fn fail(batch: &mut NblBatch, done: &mut NblBatch, status: Status) {
    for list in batch.iter_mut() {
        list.status = status;
    }
    done.append(batch);
}
