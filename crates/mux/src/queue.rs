//! The data side for one lane: a way to each member, and the mux's handles put in the place of the members'.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ndis::{Datapath, LaneContext, MiniportQueue, NblBatch, NetBufferList, OffloadHandle, Status};
use packet::FrameBatch;
use sa_table::{Guard, Handle, Lane};

use crate::chain::{NOTHING, Target};
use crate::control::Inner;
use crate::spread::{Team, members, pick};

/// The queue of one lane. Per list it looks its handles up, an array access each; what it needs of members it learns anew only when one was bound.
pub(crate) struct MuxQueue {
    inner: Arc<Inner>,
    instance: u32,
    lane: Lane<Target>,
    binds: u64,
    ways: Vec<Option<(u64, Datapath)>>,
    /// Ways to adapters that were members, with lists in them.
    draining: Vec<(usize, Datapath)>,
    /// What goes by each member; recycled.
    parts: Vec<NblBatch>,
}

impl MuxQueue {
    pub(crate) fn new(inner: Arc<Inner>, instance: u32) -> Self {
        let lane = inner.table.register_lane();
        let parts = (0..inner.parameters.members).map(|_| NblBatch::new()).collect();
        // Not the number of binds: the first batch opens the ways.
        Self { inner, instance, lane, binds: u64::MAX, ways: Vec::new(), draining: Vec::new(), parts }
    }

    /// Takes members as they are; one atomic load where none was bound since.
    #[inline]
    fn follow(&mut self) {
        let binds = self.inner.binds.load(Ordering::Acquire);
        if binds != self.binds {
            self.binds = binds;
            self.reopen();
        }
    }

    #[cold]
    fn reopen(&mut self) {
        let bindings = self.inner.bindings();
        self.ways.resize_with(bindings.len(), || None);
        for (member, (way, binding)) in self.ways.iter_mut().zip(bindings).enumerate() {
            let Some((bound, binding)) = binding else { continue };
            if way.as_ref().is_none_or(|(there, _)| *there != bound) {
                let before = way.replace((bound, binding.open_datapath()));
                self.draining.extend(before.filter(|(_, way)| way.outstanding() > 0).map(|(_, way)| (member, way)));
            }
        }
    }

    /// The members that frames and lists go to, or how lists end without.
    fn team(&self) -> Result<Team, Status> {
        match self.inner.team_of(self.instance) {
            None => Err(Status::ADAPTER_REMOVED),
            // As during a reset, which is what those above take it for.
            Some(0) => Err(Status::RESET_IN_PROGRESS),
            Some(team) => Ok(team),
        }
    }

    fn send_by(&mut self, member: usize, lane: &mut LaneContext<'_>, batch: &mut NblBatch, done: &mut NblBatch, wire: &mut FrameBatch) {
        let first = done.len();
        match self.ways.get_mut(member).and_then(Option::as_mut) {
            Some((_, way)) => way.send(lane, batch, done, wire),
            // It is in use and not bound: it was just now.
            None => fail_all(batch, done, Status::RESET_IN_PROGRESS),
        }
        restore(&self.inner, member, &mut done[first..]);
    }
}

impl MiniportQueue for MuxQueue {
    fn send(&mut self, lane: &mut LaneContext<'_>, batch: &mut NblBatch, done: &mut NblBatch, wire: &mut FrameBatch) {
        self.follow();
        let team = match self.team() {
            Ok(team) => team,
            Err(status) => {
                fail_all(batch, done, status);
                return;
            }
        };
        if team.is_power_of_two() {
            let member = team.trailing_zeros() as usize;
            let guard = self.lane.enter();
            let first = done.len();
            done.extend(batch.extract_if(.., |list| asks(list) && !translate(list, member, &guard)));
            drop(guard);
            self.refuse(&mut done[first..]);
            if !batch.is_empty() {
                self.send_by(member, lane, batch, done, wire);
            }
            return;
        }
        let mut parts = core::mem::take(&mut self.parts);
        let guard = self.lane.enter();
        let first = done.len();
        for mut list in batch.drain(..) {
            let at = pick(team, self.inner.parameters.medium, list.buffer.as_slice());
            // Where it belongs, or else anywhere: a member that has gone has left its SAs on the others.
            let member = at.into_iter().chain(members(team)).find(|&member| !asks(&list) || translate(&mut list, member, &guard));
            match member.and_then(|member| parts.get_mut(member)) {
                Some(part) => part.push(list),
                None => done.push(list),
            }
        }
        drop(guard);
        self.refuse(&mut done[first..]);
        for (member, part) in parts.iter_mut().enumerate().filter(|(_, part)| !part.is_empty()) {
            self.send_by(member, lane, part, done, wire);
        }
        self.parts = parts;
    }

    fn receive(&mut self, lane: &mut LaneContext<'_>, frames: &mut FrameBatch, up: &mut NblBatch) {
        self.follow();
        // Whichever link a frame came by: every member in use has all the SAs.
        let member = self.team().ok().map(|team| team.trailing_zeros() as usize);
        if let Some((_, way)) = member.and_then(|member| self.ways.get_mut(member)).and_then(Option::as_mut) {
            let lost = way.receive(lane, frames, up);
            self.inner.received_not_running.fetch_add(lost as u64, Ordering::Relaxed);
            return;
        }
        self.inner.received_not_running.fetch_add(frames.len() as u64, Ordering::Relaxed);
        for frame in frames.drain(..) {
            lane.pool.give(frame.buffer);
        }
    }

    fn poll(&mut self, lane: &mut LaneContext<'_>, done: &mut NblBatch, wire: &mut FrameBatch) {
        self.follow();
        let ways = self.ways.iter_mut().enumerate().filter_map(|(member, way)| Some((member, &mut way.as_mut()?.1)));
        let draining = self.draining.iter_mut().map(|(member, way)| (*member, way));
        for (member, way) in ways.chain(draining) {
            let first = done.len();
            way.poll(lane, done, wire);
            restore(&self.inner, member, &mut done[first..]);
        }
        self.draining.retain(|(_, way)| way.outstanding() > 0);
    }

    fn idle(&mut self) {
        for (_, way) in self.ways.iter_mut().flatten() {
            way.idle();
        }
        for (_, way) in &mut self.draining {
            way.idle();
        }
    }
}

impl MuxQueue {
    /// Lists whose handles name nothing.
    fn refuse(&self, lists: &mut [NetBufferList]) {
        for list in &mut *lists {
            list.status = Status::FAILURE;
        }
        if !lists.is_empty() {
            self.inner.unknown_handles.fetch_add(lists.len() as u64, Ordering::Relaxed);
        }
    }
}

/// Whether a list asks for offload.
#[inline]
fn asks(list: &NetBufferList) -> bool {
    list.oob.offload_handle().is_some() || list.oob.tunnel_handle().is_some()
}

/// Puts the member's handles in the place of the mux's; whether both are there. Otherwise the list is as it was.
#[inline]
fn translate(list: &mut NetBufferList, member: usize, guard: &Guard<'_, Target>) -> bool {
    let of = |handle: Option<OffloadHandle>| match handle {
        None => Some(None),
        Some(handle) => {
            let target = guard.get(Handle::from_bits(handle.to_bits())?)?;
            Some(Some(OffloadHandle::from_bits(target.0[member])?))
        }
    };
    let (Some(first), Some(tunnel)) = (of(list.oob.offload_handle()), of(list.oob.tunnel_handle())) else { return false };
    list.oob.set_offload_handle(first);
    list.oob.set_tunnel_handle(tunnel);
    true
}

/// Lists that come back whole are as they were handed over. Of an SA that has gone meanwhile they name nothing, and never become lists that ask for nothing:
/// those would be sent as they stand.
fn restore(inner: &Inner, member: usize, lists: &mut [NetBufferList]) {
    for list in lists.iter_mut().filter(|list| !list.status.is_success() && asks(list)) {
        let original = |handle: Option<OffloadHandle>| {
            let handle = handle?;
            OffloadHandle::from_bits(inner.original(member, handle.to_bits()).unwrap_or(NOTHING))
        };
        let (first, tunnel) = (original(list.oob.offload_handle()), original(list.oob.tunnel_handle()));
        list.oob.set_offload_handle(first);
        list.oob.set_tunnel_handle(tunnel);
    }
}

fn fail_all(batch: &mut NblBatch, done: &mut NblBatch, status: Status) {
    for list in batch.iter_mut() {
        list.status = status;
    }
    done.append(batch);
}
