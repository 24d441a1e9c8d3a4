//! The way out: policy, SA, sequence number, headers and padding; then the NIC, or software where the NIC does not do it (OV2-TRANS-2, RFC 4301 section 5.1).
//!
//! Plain packets go a [swift way](crate::swift_out); for all others, in between, there is the general one ([`plan`](crate::plan)).

use arrayvec::ArrayVec;
use ipsec::Provider;
use ndis::{AdapterState, Datapath, LaneContext, NblBatch, NetBufferList, Operation, Status};
use packet::{FrameBatch, Medium, ParsedIp, Spi};
use sa_table::{Guard, Handle};

use crate::association::Association;
use crate::event::AuditEvent;
use crate::framing::{Framed, Numbers};
use crate::lane::{CHUNK, TransportLane, as_announced, ip_at};
use crate::large_mark::LargeMark;
use crate::locate::{inner, locate};
use crate::mark::{Mark, Work};
use crate::packet_reason::PacketReason;
use crate::plan::{Plans, Stage, flow};
use crate::sa::Sa;
use crate::seal::{Task, seal};
use crate::spd::Action;
use crate::swift_out::Known;
use crate::transport::Snapshot;
use crate::verdict::{DropReason, WayCounters};

/// How many protected packets wait for an adapter that does not run.
const BACKLOG: usize = 1024;

impl<P: Provider> TransportLane<P> {
    /// Takes packets to be sent, in order, and leaves `frames` empty: each is protected, bypassed or dropped as policy says. What goes out is appended to
    /// `wire`. Packets for which the adapter does not run wait in the lane and go first when it does.
    ///
    /// Nothing that policy protects ever gets to `wire` in clear, whatever fails.
    ///
    /// A [large packet](packet::FrameForm::large) goes as one large send where SA, configuration and limits allow it (OV2-SEND-4), otherwise it is cut here
    /// and each segment goes its way; it counts as its segments.
    #[inline]
    pub fn outbound(&mut self, cx: &mut LaneContext<'_>, frames: &mut FrameBatch, path: &mut Datapath, wire: &mut FrameBatch) {
        if frames.iter().all(|frame| frame.form.is_packet()) {
            self.outbound_packets(cx, frames, path, wire);
        } else {
            self.outbound_large(cx, frames, path, wire);
        }
    }

    /// [`Self::outbound`] of single packets.
    pub(crate) fn outbound_packets(&mut self, cx: &mut LaneContext<'_>, frames: &mut FrameBatch, path: &mut Datapath, wire: &mut FrameBatch) {
        self.follow();
        if !self.backlog.is_empty() {
            self.send_backlog(cx, path, wire);
        }
        let mut batch = core::mem::take(&mut self.batch);
        let mut incoming = frames.drain(..);
        let mut dropped = false;
        while !incoming.as_slice().is_empty() {
            let Self { shared, sad, snapshot, flows, counters, news, masked, outlet, general_out, .. } = self;
            let mut stage = Stage { shared, counters: &counters.outbound, news, masked, pool: cx.pool, now: cx.now, outlet: outlet.as_mut() };
            let guard = sad.enter();
            // A packet of two bundles with dummies brings two more.
            let most = if snapshot.dummies { CHUNK / 4 } else { CHUNK };
            let mut left = most.min(incoming.len());
            let mut known = Known { spd: &snapshot.spd, flows, guard: &guard };
            // What is plain and what is not take turns, in order.
            while left > 0 {
                let mut odd = left;
                if !*general_out {
                    let went = stage.swift(&mut known, &mut incoming, left, &mut batch);
                    dropped |= went.dropped;
                    left -= went.packets;
                    if left == 0 {
                        break;
                    }
                    let behind = incoming.as_slice().get(went.refused..left).unwrap_or_default();
                    odd = went.refused + stage.odd(&mut known, behind);
                }
                dropped = true;
                let at = batch.len();
                batch.extend(incoming.by_ref().take(odd).map(NetBufferList::to_send));
                stage.general(snapshot, &guard, &mut batch, at);
                left -= odd;
            }
        }
        drop(incoming);
        if dropped {
            self.drop_marked(cx, &mut batch);
        }
        self.send(cx, path, &mut batch, wire);
        self.batch = batch;
        self.report();
    }

    /// Fetches sends that the adapter finished later, and sends what waited for it. To be called when there is nothing else to send.
    pub fn poll(&mut self, cx: &mut LaneContext<'_>, path: &mut Datapath, wire: &mut FrameBatch) {
        self.follow();
        let mut done = core::mem::take(&mut self.done);
        path.poll(cx, &mut done, wire);
        self.complete(cx, path, &mut done, wire);
        self.done = done;
        if !self.backlog.is_empty() {
            self.send_backlog(cx, path, wire);
        }
        self.report();
    }

    /// Packets that wait for the adapter to run.
    pub fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Sends a batch and sees to what comes back.
    fn send(&mut self, cx: &mut LaneContext<'_>, path: &mut Datapath, batch: &mut NblBatch, wire: &mut FrameBatch) {
        if batch.is_empty() {
            return;
        }
        let mut done = core::mem::take(&mut self.done);
        path.send(cx, batch, &mut done, wire);
        self.complete(cx, path, &mut done, wire);
        self.done = done;
    }

    /// Counts what was sent, and sees to what came back whole: what the NIC was to seal is sealed in software under a new sequence number, and what was
    /// final is sent once more as it is. What comes back again waits until the adapter runs, or ends here.
    pub(crate) fn complete(&mut self, cx: &mut LaneContext<'_>, path: &mut Datapath, done: &mut NblBatch, wire: &mut FrameBatch) {
        let mut again = core::mem::take(&mut self.again);
        while !done.is_empty() {
            // As a rule that is all of them, and no list is moved.
            if self.count_all(done) {
                done.clear();
                break;
            }
            done.retain(|nbl| !nbl.status.is_success());
            for mut nbl in done.drain(..) {
                if LargeMark::is_on(&nbl) {
                    self.large.returned.push(nbl);
                    continue;
                }
                let mut mark = Mark::read(&nbl);
                if mark.dummy && (mark.again || not_running(nbl.status)) {
                    // Nobody waits for it.
                    cx.pool.give(nbl.buffer);
                } else if !mark.again {
                    mark.again = true;
                    mark.write(&mut nbl);
                    again.push(nbl);
                } else if !not_running(nbl.status) {
                    self.end(cx, nbl, DropReason::Refused);
                } else if self.backlog.len() < BACKLOG {
                    // Nobody waits for it.
                    nbl.order = 0;
                    self.backlog.push_back(nbl);
                } else {
                    self.end(cx, nbl, DropReason::BacklogFull);
                }
            }
            if !again.is_empty() {
                self.reseal(cx, &mut again);
                path.send(cx, &mut again, done, wire);
            }
        }
        self.again = again;
        if !self.large.returned.is_empty() {
            self.cut_returned(cx, path, wire);
        }
    }

    fn send_backlog(&mut self, cx: &mut LaneContext<'_>, path: &mut Datapath, wire: &mut FrameBatch) {
        if path.state() != AdapterState::Running {
            return;
        }
        let mut batch: NblBatch = self.backlog.drain(..).collect();
        // What waits is in clear by policy, or sealed; both only for as long as policy and SA say so.
        let Self { shared, sad, snapshot, .. } = self;
        let guard = sad.enter();
        for nbl in &mut batch {
            let mut mark = Mark { again: false, ..Mark::read(nbl) };
            let stale = match mark.work {
                Work::Clear => (!bypassed(shared.medium, snapshot, nbl.buffer.as_slice())).then_some(DropReason::Policy),
                _ => bundles(&guard, mark).map_or(Some(DropReason::NoSa), |(_, sa, tunnel)| {
                    let over = sa.lifetime.is_over() || tunnel.is_some_and(|(_, tunnel)| tunnel.lifetime.is_over());
                    over.then_some(DropReason::Expired)
                }),
            };
            if let Some(reason) = stale {
                mark.work = Work::Dropped(reason);
            }
            mark.write(nbl);
        }
        drop(guard);
        self.drop_marked(cx, &mut batch);
        self.send(cx, path, &mut batch, wire);
    }

    /// Makes lists that came back fit to be sent without the NIC's help: what it was to seal gets new numbers and is sealed here.
    fn reseal(&mut self, cx: &mut LaneContext<'_>, lists: &mut NblBatch) {
        let Self { shared, sad, counters, news, masked, outlet, .. } = self;
        let shared = &**shared;
        let nesting = outlet.is_some().then(|| shared.nesting.lock());
        let mut stage = Stage { shared, counters: &counters.outbound, news, masked, pool: cx.pool, now: cx.now, outlet: outlet.as_mut() };
        let guard = sad.enter();
        for chunk in lists.chunks_mut(CHUNK) {
            let mut tasks = Retried { first: ArrayVec::new(), around: ArrayVec::new() };
            for (place, nbl) in chunk.iter_mut().enumerate() {
                let mut mark = Mark::read(nbl);
                if nbl.oob.has_tasks() && !mark.is_dropped() {
                    stage.settle_here(nbl, &mut mark);
                }
                if mark.work != Work::Offload {
                    continue;
                }
                stage.counters.retried.add(u64::from(!mark.dummy));
                nbl.oob.clear();
                mark.reason = PacketReason::GivenBack;
                mark.work = match stage.retry(&guard, nbl, mark, place, &mut tasks) {
                    Ok(()) => Work::Software,
                    Err(reason) => Work::Dropped(reason),
                };
                mark.write(nbl);
            }
            for list in [&tasks.first, &tasks.around] {
                seal(&stage.shared.provider, list.iter(), chunk, stage.masked);
            }
        }
        drop(guard);
        drop(nesting);
        self.drop_marked(cx, lists);
    }

    /// Takes the lists that ended on the way out of a batch, counts them and notes them for the audit.
    fn drop_marked(&mut self, cx: &mut LaneContext<'_>, batch: &mut NblBatch) {
        let is_dropped = |nbl: &NetBufferList| matches!(Mark::read(nbl).work, Work::Dropped(_));
        if !batch.iter().any(is_dropped) {
            return;
        }
        for nbl in batch.extract_if(.., |nbl| is_dropped(nbl)) {
            if let Work::Dropped(reason) = Mark::read(&nbl).work {
                self.end(cx, nbl, reason);
            }
        }
    }

    /// A packet ends here: counted, and noted with what can be read of it (OV2-TRANS-6).
    pub(crate) fn end(&mut self, cx: &mut LaneContext<'_>, nbl: NetBufferList, reason: DropReason) {
        let mark = Mark::read(&nbl);
        if !mark.dummy {
            self.counters.outbound.dropped[reason as usize].add(mark.length as usize);
            let parsed = ParsedIp::parse(nbl.buffer.as_slice().get(usize::from(nbl.l3_offset)..).unwrap_or_default()).ok();
            let guard = self.sad.enter();
            let association = mark.sa.and_then(|handle| about(&guard, handle));
            self.audit.push(AuditEvent {
                time: cx.now,
                reason,
                software: (reason == DropReason::NotOffloaded).then_some(mark.reason),
                source: parsed.map(|parsed| parsed.src()),
                destination: parsed.map(|parsed| parsed.dst()),
                association: association.map(|(operation, spi, _)| (operation, spi)),
                sequence: association.map(|(_, _, last)| last),
            });
        }
        cx.pool.give(nbl.buffer);
    }

    /// Counts those of `done` that were sent; whether that is all of them.
    fn count_all(&self, done: &[NetBufferList]) -> bool {
        let counters = &self.counters.outbound;
        let (mut all, mut offloaded, mut software) = (true, (0, 0), (0, 0));
        for nbl in done {
            if !nbl.status.is_success() {
                all = false;
                continue;
            }
            match Mark::read_plain(nbl) {
                Some((true, length)) => offloaded = (offloaded.0 + 1, offloaded.1 + u64::from(length)),
                Some((false, length)) => software = (software.0 + 1, software.1 + u64::from(length)),
                None if LargeMark::is_on(nbl) => self.count_large(nbl),
                None => Self::count(counters, Mark::read(nbl)),
            }
        }
        counters.offloaded.add_all(offloaded.0, offloaded.1);
        counters.add_software(PacketReason::SaNotOffloaded, software.0, software.1);
        all
    }

    fn count(counters: &WayCounters, mark: Mark) {
        let length = mark.length as usize;
        let tally = match mark.work {
            _ if mark.dummy => &counters.dummies,
            Work::Clear => &counters.clear,
            Work::Offload if !mark.hybrid => &counters.offloaded,
            Work::Software | Work::Offload => return counters.add_software(mark.reason, 1, length as u64),
            Work::Dropped(reason) => &counters.dropped[reason as usize],
        };
        tally.add(length);
    }
}

impl<'a, P: Provider> Stage<'_, P> {
    /// Takes packets of any kind, at most a chunk: those at the end of a batch, from the place `first` on. Dummies may come between.
    // Not inlined: what it keeps of so many packets is far more than the swift way should have between its own.
    #[inline(never)]
    fn general(&mut self, snapshot: &Snapshot, guard: &'a Guard<'a, Sa<P>>, batch: &mut NblBatch, first: usize) {
        let mut plans = Plans::new();
        for (place, nbl) in batch.iter_mut().enumerate().skip(first) {
            self.decide(snapshot, guard, nbl, place, &mut plans);
        }
        if !plans.due.is_empty() {
            self.insert_dummies(guard, &mut plans, batch);
        }
        self.number(&mut plans, batch);
        self.frame(&mut plans, batch);
        self.seal(&plans, batch);
    }
}

/// What of a chunk that came back is to be sealed.
struct Retried<'a, P: Provider> {
    first: ArrayVec<Task<'a, P>, CHUNK>,
    around: ArrayVec<Task<'a, P>, CHUNK>,
}

impl<'a, P: Provider> Stage<'_, P> {
    /// Gives what the NIC was to do of a packet new numbers, and notes it to be sealed. What was sealed already stays as it is, and so do its numbers.
    fn retry(&mut self, guard: &'a Guard<'_, Sa<P>>, nbl: &mut NetBufferList, mark: Mark, place: usize, tasks: &mut Retried<'a, P>) -> Result<(), DropReason> {
        let (handle, sa, tunnel) = bundles(guard, mark).ok_or(DropReason::NoSa)?;
        // Both are done here, or the outer one of what was sealed here.
        if sa.must_be_offloaded() || tunnel.is_some_and(|(_, tunnel)| tunnel.must_be_offloaded()) {
            return Err(DropReason::NotOffloaded);
        }
        let mut ip = usize::from(nbl.l3_offset);
        if let Some((handle, tunnel)) = tunnel {
            let at = locate(nbl.buffer.as_slice(), ip, tunnel).ok_or(DropReason::Malformed)?;
            ip = inner(nbl.buffer.as_slice(), tunnel, at).ok_or(DropReason::Malformed)?;
            let (numbers, order) = self.renumber(handle, tunnel, true)?;
            nbl.order = order;
            write_numbers(nbl, at, numbers);
            tasks.around.push(Task { place, sa: tunnel, numbers, at, nic: false, order: nbl.order });
        }
        if !mark.hybrid {
            let at = locate(nbl.buffer.as_slice(), ip, sa).ok_or(DropReason::Malformed)?;
            let (numbers, order) = self.renumber(handle, sa, tunnel.is_none())?;
            if tunnel.is_none() {
                nbl.order = order;
            }
            write_numbers(nbl, at, numbers);
            tasks.first.push(Task { place, sa, numbers, at, nic: false, order: nbl.order });
        }
        Ok(())
    }
}

/// The bundles that are around a packet: the one that policy names, and the tunnel around that; `None` if one is gone.
#[expect(clippy::type_complexity, reason = "a handle and what it names, twice")]
fn bundles<'a, P: Provider>(guard: &'a Guard<'_, Sa<P>>, mark: Mark) -> Option<(Handle, &'a Sa<P>, Option<(Handle, &'a Sa<P>)>)> {
    let handle = mark.sa?;
    let sa = guard.get(handle)?;
    let tunnel = match sa.inside {
        Some(tunnel) => Some((tunnel.handle, guard.get(tunnel.handle)?)),
        None => None,
    };
    Some((handle, sa, tunnel))
}

/// The association that a packet which ends is about: one whose numbers are used up, if there is any; with the number used last.
fn about<P: Provider>(guard: &Guard<'_, Sa<P>>, handle: Handle) -> Option<(Operation, Spi, u64)> {
    let sa = guard.get(handle)?;
    let tunnel = sa.inside.and_then(|tunnel| guard.get(tunnel.handle));
    let mut all = sa.associations().chain(tunnel.into_iter().flat_map(Sa::associations));
    let exhausted = all.find(|association| association.is_exhausted());
    let association: &Association = exhausted.or_else(|| sa.associations().next())?;
    Some((association.operation, association.spi, association.sequence()))
}

/// Puts the low halves of numbers into the headers of a framed packet.
fn write_numbers(nbl: &mut NetBufferList, at: Framed, numbers: Numbers) {
    let bytes = nbl.buffer.as_mut_slice();
    for (header, field, number) in [(at.esp, 4, numbers.esp), (at.ah, 8, numbers.ah)] {
        let field = header as usize + field;
        if header != 0
            && let Some(bytes) = bytes.get_mut(field..field + 4)
        {
            bytes.copy_from_slice(&(number as u32).to_be_bytes());
        }
    }
}

/// Whether policy lets a frame out as it is.
fn bypassed(medium: Medium, snapshot: &Snapshot, frame: &[u8]) -> bool {
    let Some((l3, announced)) = ip_at(medium, frame) else { return snapshot.spd.non_ip == Action::Bypass };
    let parsed = ParsedIp::parse(frame.get(l3..).unwrap_or_default());
    as_announced(&parsed, announced).is_some_and(|parsed| snapshot.spd.outbound_packet(|| flow(parsed)) == Action::Bypass)
}

/// Whether a send came back because the adapter does not run, as against: it did not like the packet.
fn not_running(status: Status) -> bool {
    matches!(status, Status::RESET_IN_PROGRESS | Status::PAUSED | Status::ADAPTER_REMOVED)
}
