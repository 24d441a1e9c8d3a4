//! The way out: policy, SA, sequence number, headers and padding; then the NIC, or software where the NIC does not do it (OV2-TRANS-2, RFC 4301 section 5.1).

use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;
use ipsec::{Provider, SealBatch, SealJob};
use ndis::{AdapterState, Datapath, HeaderTransmit, LaneContext, NblBatch, NetBufferList, Operation, Status};
use packet::{FrameBatch, Medium, ParsedIp, Time};
use sa_table::Handle;

use crate::event::AuditEvent;
use crate::framing::{EspLayout, Room, encapsulate};
use crate::lane::{CHUNK, TransportLane, as_announced, ip_at};
use crate::lifetime::Life;
use crate::sa::{Role, Sa};
use crate::selector::Flow;
use crate::spd::Action;
use crate::transport::{LaneNews, Shared, Snapshot};
use crate::verdict::{DropReason, WayCounters};

/// How many protected packets wait for an adapter that does not run.
const BACKLOG: usize = 1024;

/// What was done to a packet that is on its way; the protocol's own words of its net buffer list say so until it is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Goes out in clear, by policy.
    Clear,
    /// Sealed in software: every bit is final.
    Software,
    /// The NIC is asked to seal it.
    Offload,
    /// Ended here, for this reason.
    Dropped(DropReason),
}

/// The words that the transport writes into a list that it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    work: Work,
    /// The SA, unless it goes in clear.
    sa: Option<Handle>,
    /// Offset of the ESP header from the start of the frame.
    esp: u16,
    /// It came back once, and was sent again.
    again: bool,
    /// Length of the IP packet before protection, for the counters.
    length: u32,
}

impl Mark {
    const AGAIN: u64 = 1 << 24;

    fn clear(length: usize) -> Self {
        Self { work: Work::Clear, sa: None, esp: 0, again: false, length: length as u32 }
    }

    fn write(self, nbl: &mut NetBufferList) {
        let work = match self.work {
            Work::Software => 1,
            Work::Offload => 2,
            Work::Clear => 3,
            Work::Dropped(reason) => 0x80 | reason as u64,
        };
        let again = if self.again { Self::AGAIN } else { 0 };
        nbl.protocol_reserved = [self.sa.map_or(0, Handle::to_bits), work | u64::from(self.esp) << 8 | again | u64::from(self.length) << 32];
    }

    fn read(nbl: &NetBufferList) -> Self {
        let [sa, word] = nbl.protocol_reserved;
        let work = match word as u8 {
            // Nobody has written a word: a list about which nothing is known goes nowhere.
            0 => Work::Dropped(DropReason::Policy),
            1 => Work::Software,
            2 => Work::Offload,
            3 => Work::Clear,
            dropped => Work::Dropped(DropReason::ALL[usize::from(dropped & 0x7f) % DropReason::ALL.len()]),
        };
        Self { work, sa: Handle::from_bits(sa), esp: (word >> 8) as u16, again: word & Self::AGAIN != 0, length: (word >> 32) as u32 }
    }
}

/// A packet of the present chunk that is to be protected.
struct Plan<'a, P: Provider> {
    /// Its place in the batch.
    place: usize,
    handle: Handle,
    sa: &'a Sa<P>,
    room: Room,
    /// Whether the NIC takes packets with such headers.
    covered: bool,
    /// 0: it got none.
    sequence: u64,
}

/// What stages of a chunk hand to one another, besides the lane.
struct Stage<'a, P: Provider> {
    shared: &'a Shared<P>,
    counters: &'a WayCounters,
    news: &'a mut Vec<LaneNews>,
    now: Time,
}

impl<P: Provider> TransportLane<P> {
    /// Takes packets to be sent, in order, and leaves `frames` empty: each is protected, bypassed or dropped as policy says. What goes out is appended to
    /// `wire`. Packets for which the adapter does not run wait in the lane and go first when it does.
    ///
    /// Nothing that policy protects ever gets to `wire` in clear, whatever fails.
    pub fn outbound(&mut self, cx: &mut LaneContext<'_>, frames: &mut FrameBatch, path: &mut Datapath, wire: &mut FrameBatch) {
        self.follow();
        if !self.backlog.is_empty() {
            self.send_backlog(cx, path, wire);
        }
        let mut batch = core::mem::take(&mut self.batch);
        let mut incoming = frames.drain(..);
        loop {
            let base = batch.len();
            let Self { shared, sad, snapshot, counters, news, .. } = self;
            let mut stage = Stage { shared, counters: &counters.outbound, news, now: cx.now };
            let guard = sad.enter();
            let mut plans: ArrayVec<Plan<'_, P>, CHUNK> = ArrayVec::new();
            batch.extend(incoming.by_ref().take(CHUNK).map(|frame| NetBufferList::from_frame(frame, 0)));
            if batch.len() == base {
                break;
            }
            // Looked at where they stay: a list that is moved right after it was written costs more than its packet takes to be read.
            for (place, nbl) in (base..).zip(&mut batch[base..]) {
                stage.decide(snapshot, &guard, nbl, place, &mut plans);
            }
            stage.number(&mut plans, &mut batch);
            stage.frame(&plans, &mut batch);
            stage.seal(&plans, &mut batch);
            drop(plans);
            drop(guard);
        }
        drop(incoming);
        self.drop_marked(cx, &mut batch);
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
    fn complete(&mut self, cx: &mut LaneContext<'_>, path: &mut Datapath, done: &mut NblBatch, wire: &mut FrameBatch) {
        let mut again = core::mem::take(&mut self.again);
        while !done.is_empty() {
            // As a rule that is all of them, and no list is moved.
            done.retain(|nbl| {
                let success = nbl.status.is_success();
                if success {
                    Self::count(&self.counters.outbound, Mark::read(nbl));
                }
                !success
            });
            for mut nbl in done.drain(..) {
                let mut mark = Mark::read(&nbl);
                if !mark.again {
                    mark.again = true;
                    mark.write(&mut nbl);
                    again.push(nbl);
                } else if !not_running(nbl.status) {
                    self.end(cx, nbl, DropReason::Refused);
                } else if self.backlog.len() < BACKLOG {
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
                _ => match mark.sa.and_then(|handle| guard.get(handle)) {
                    None => Some(DropReason::NoSa),
                    Some(sa) if sa.lifetime.is_over() => Some(DropReason::Expired),
                    Some(_) => None,
                },
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

    /// Makes lists that came back fit to be sent without the NIC's help: those that it was to seal get new numbers and are sealed here.
    fn reseal(&mut self, cx: &mut LaneContext<'_>, lists: &mut NblBatch) {
        let Self { shared, sad, counters, news, .. } = self;
        let mut stage = Stage { shared, counters: &counters.outbound, news, now: cx.now };
        let guard = sad.enter();
        for chunk in lists.chunks_mut(CHUNK) {
            let mut jobs: SealBatch<'_, P::Key> = ArrayVec::new();
            let mut owners: ArrayVec<usize, CHUNK> = ArrayVec::new();
            for (place, nbl) in chunk.iter_mut().enumerate() {
                let mut mark = Mark::read(nbl);
                if mark.work != Work::Offload {
                    continue;
                }
                stage.counters.retried.add(1);
                nbl.oob.clear();
                let found = mark.sa.and_then(|handle| Some((handle, guard.get(handle)?)));
                let numbered = found.ok_or(DropReason::NoSa).and_then(|(handle, sa)| Ok((sa, stage.renumber(handle, sa)?)));
                mark.work = match numbered {
                    Ok(_) => Work::Software,
                    Err(reason) => Work::Dropped(reason),
                };
                mark.write(nbl);
                let Ok((sa, sequence)) = numbered else { continue };
                let esp = nbl.buffer.as_mut_slice().get_mut(usize::from(mark.esp)..).unwrap_or_default();
                if let Some(number) = esp.get_mut(4..8) {
                    number.copy_from_slice(&(sequence as u32).to_be_bytes());
                }
                match sa.esp.seal_job(esp, sequence) {
                    Ok(job) => {
                        jobs.push(job);
                        owners.push(place);
                    }
                    Err(_) => nbl.protocol_reserved[1] = dropped_word(mark, DropReason::Malformed),
                }
            }
            stage.shared.provider.seal(&mut jobs);
            let bad = refused(&jobs, &owners);
            drop(jobs);
            for place in bad {
                mark_dropped(&mut chunk[place], DropReason::Refused);
            }
        }
        drop(guard);
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
    fn end(&mut self, cx: &mut LaneContext<'_>, nbl: NetBufferList, reason: DropReason) {
        let mark = Mark::read(&nbl);
        self.counters.outbound.dropped[reason as usize].add(mark.length as usize);
        let parsed = ParsedIp::parse(nbl.buffer.as_slice().get(usize::from(nbl.l3_offset)..).unwrap_or_default()).ok();
        let sa = mark.sa.and_then(|handle| {
            let guard = self.sad.enter();
            let sa = guard.get(handle)?;
            let last = match &sa.role {
                Role::Outbound { sequence, .. } => Some(sequence.last()),
                Role::Inbound { .. } => None,
            };
            Some((sa.spi, last))
        });
        self.audit.push(AuditEvent {
            time: cx.now,
            reason,
            source: parsed.map(|parsed| parsed.src()),
            destination: parsed.map(|parsed| parsed.dst()),
            association: sa.map(|(spi, _)| (Operation::Esp, spi)),
            sequence: sa.and_then(|(_, last)| last),
        });
        cx.pool.give(nbl.buffer);
    }

    fn count(counters: &WayCounters, mark: Mark) {
        let tally = match mark.work {
            Work::Clear => &counters.clear,
            Work::Software => &counters.software,
            Work::Offload => &counters.offloaded,
            Work::Dropped(reason) => &counters.dropped[reason as usize],
        };
        tally.add(mark.length as usize);
    }
}

impl<'a, P: Provider> Stage<'a, P> {
    /// First stage: what policy does with a packet. Without a plan its mark says it all.
    fn decide(
        &mut self,
        snapshot: &Snapshot,
        guard: &'a sa_table::Guard<'_, Sa<P>>,
        nbl: &mut NetBufferList,
        place: usize,
        plans: &mut ArrayVec<Plan<'a, P>, CHUNK>,
    ) {
        let frame = nbl.buffer.as_slice();
        let length = frame.len();
        let Some((l3, announced)) = ip_at(self.shared.medium, frame) else {
            let work = if snapshot.spd.non_ip == Action::Bypass { Work::Clear } else { Work::Dropped(DropReason::Policy) };
            return self.unread(nbl, length, work);
        };
        let parsed = ParsedIp::parse(frame.get(l3..).unwrap_or_default());
        let Some(parsed) = as_announced(&parsed, announced) else {
            return self.unread(nbl, length.saturating_sub(l3), Work::Dropped(DropReason::Malformed));
        };
        nbl.l3_offset = l3 as u16;
        let mut mark = Mark::clear(parsed.total_len());
        self.counters.seen.add(parsed.total_len());
        let (sa, work) = match snapshot.spd.outbound_packet(|| flow(parsed)) {
            Action::Bypass => (None, Work::Clear),
            Action::Discard => (None, Work::Dropped(DropReason::Policy)),
            Action::Protect(handle) => match handle.and_then(|handle| Some((handle, guard.get(handle)?))) {
                None => (None, Work::Dropped(DropReason::NoSa)),
                Some((_, sa)) if matches!(sa.role, Role::Inbound { .. }) => (None, Work::Dropped(DropReason::NoSa)),
                Some((handle, sa)) => (Some((handle, sa)), Work::Software),
            },
        };
        mark.work = work;
        let Some((handle, sa)) = sa else {
            mark.write(nbl);
            return;
        };
        mark.sa = Some(handle);
        // The link's padding would be protected, too.
        nbl.buffer.trim_back(parsed.padding_len());
        let Role::Outbound { outer, .. } = &sa.role else { return };
        let layout = EspLayout { iv: sa.esp.iv_length(), icv: sa.esp.icv_length(), alignment: sa.esp.alignment() };
        // Before it gets a number: a packet that cannot be protected spends none, and counts for no lifetime.
        match Room::measure(&nbl.buffer, parsed, outer.as_ref(), layout) {
            Ok(room) => {
                mark.write(nbl);
                let covered = outer.is_some() || self.shared.capabilities.cover(parsed);
                plans.push(Plan { place, handle, sa, room, covered, sequence: 0 });
            }
            Err(reason) => {
                mark.work = Work::Dropped(reason);
                mark.write(nbl);
            }
        }
    }

    /// A frame without an IP packet that can be read: counted, and marked with what becomes of it.
    #[cold]
    fn unread(&mut self, nbl: &mut NetBufferList, length: usize, work: Work) {
        self.counters.seen.add(length);
        Mark { work, ..Mark::clear(length) }.write(nbl);
    }

    /// Second stage: lifetimes, and sequence numbers with one atomic addition for a run of packets of one SA. Plans that get none leave the list.
    fn number(&mut self, plans: &mut ArrayVec<Plan<'a, P>, CHUNK>, batch: &mut NblBatch) {
        plans.retain(|plan| {
            let refused = match plan.sa.lifetime.admit(plan.room.length() as u64, self.now) {
                Life::Good => return true,
                life @ Life::SoftReached => {
                    self.news.push(LaneNews::Life(plan.handle, life));
                    return true;
                }
                life @ Life::HardReached => {
                    self.news.push(LaneNews::Life(plan.handle, life));
                    DropReason::Expired
                }
                Life::Over => match &plan.sa.role {
                    Role::Outbound { sequence, .. } if sequence.remaining() == 0 => DropReason::SequenceExhausted,
                    _ => DropReason::Expired,
                },
            };
            mark_dropped(&mut batch[plan.place], refused);
            false
        });
        let mut at = 0;
        while at < plans.len() {
            let (handle, sa) = (plans[at].handle, plans[at].sa);
            let run = plans[at..].iter().take_while(|plan| plan.handle == handle).count();
            let run = &mut plans[at..at + run];
            at += run.len();
            let Role::Outbound { sequence, .. } = &sa.role else { continue };
            let numbered = if let Ok(first) = sequence.take(run.len() as u32) {
                run.iter_mut().zip(first..).for_each(|(plan, number)| plan.sequence = number);
                run.len()
            } else {
                // Near the end of the numbers the packets take them one by one, so that the last of them are of use.
                run.iter_mut().map_while(|plan| sequence.take(1).ok().map(|number| plan.sequence = number)).count()
            };
            let (carried, left) = run.split_at(numbered);
            let bytes = carried.iter().map(|plan| plan.room.length() as u64).sum();
            sa.lifetime.account(numbered as u64, bytes);
            for plan in left {
                sa.lifetime.release(plan.room.length() as u64);
            }
            if let Some(last) = carried.last() {
                self.watch(handle, sa, last.sequence);
            }
            if !left.is_empty() {
                self.exhausted(handle, sa);
            }
        }
        plans.retain(|plan| {
            if plan.sequence == 0 {
                mark_dropped(&mut batch[plan.place], DropReason::SequenceExhausted);
            }
            plan.sequence != 0
        });
    }

    /// A new number for a packet that the NIC has given back; its old one is spent (OV2-SEND-7).
    fn renumber(&mut self, handle: Handle, sa: &Sa<P>) -> Result<u64, DropReason> {
        let Role::Outbound { sequence, .. } = &sa.role else { return Err(DropReason::NoSa) };
        let Ok(number) = sequence.take(1) else {
            self.exhausted(handle, sa);
            return Err(DropReason::SequenceExhausted);
        };
        self.watch(handle, sa, number);
        if sa.extended() && sa.nic.must_renew(number, true) {
            self.news.push(LaneNews::Renew(handle));
        }
        Ok(number)
    }

    /// Says when the owner should replace the SA and when its numbers are used up, and when the NIC should hear of a new high half (OV2-TRANS-5).
    fn watch(&mut self, handle: Handle, sa: &Sa<P>, last: u64) {
        let limit = if sa.extended() { u64::MAX } else { u64::from(u32::MAX) };
        if sa.extended() && sa.offload_handle().is_some() && sa.nic.must_tell((last >> 32) as u32) {
            self.news.push(LaneNews::HighHalf(handle));
        }
        if last >= limit / 10 * 9 && !sa.sequence_told.swap(true, Ordering::Relaxed) {
            self.news.push(LaneNews::SequenceLow(handle));
        }
        if last == limit {
            self.exhausted(handle, sa);
        }
    }

    /// The last number is used: the SA's life is over.
    fn exhausted(&mut self, handle: Handle, sa: &Sa<P>) {
        if sa.lifetime.end() == Life::HardReached {
            self.news.push(LaneNews::SequenceExhausted(handle));
        }
    }

    /// Whether the NIC will make of the packet's number what it is; without extended numbers it can make nothing else of it.
    #[inline]
    fn certain(&mut self, plan: &Plan<'a, P>) -> bool {
        let Plan { sa, handle, sequence, .. } = *plan;
        if !sa.extended() || sa.nic.hand_over(sequence) {
            return true;
        }
        if sa.nic.must_renew(sequence, false) {
            self.news.push(LaneNews::Renew(handle));
        }
        false
    }

    /// Third stage: headers and trailer, and whether the NIC shall do the rest.
    fn frame(&mut self, plans: &ArrayVec<Plan<'a, P>, CHUNK>, batch: &mut NblBatch) {
        for plan in plans {
            let nbl = &mut batch[plan.place];
            let (sa, l3) = (plan.sa, usize::from(nbl.l3_offset));
            let Role::Outbound { outer, .. } = &sa.role else { continue };
            let framed = match encapsulate(&mut nbl.buffer, l3, outer.as_ref(), plan.room, sa.spi.to_be_bytes(), plan.sequence) {
                Ok(framed) => framed,
                Err(reason) => {
                    mark_dropped(nbl, reason);
                    continue;
                }
            };
            let mut mark = Mark::read(nbl);
            mark.esp = (l3 + framed.esp) as u16;
            let handle = sa.offload_handle().filter(|_| plan.covered);
            if let Some(handle) = handle
                && self.certain(plan)
                && let Ok(esp_header_offset) = u8::try_from(framed.esp / 4)
            {
                nbl.oob.set_offload_handle(Some(handle));
                nbl.oob.set_header_transmit(HeaderTransmit {
                    next_header: framed.next_header,
                    pad_length: framed.pad_length,
                    ah_header_offset: 0,
                    esp_header_offset,
                });
                mark.work = Work::Offload;
            }
            mark.write(nbl);
        }
    }

    /// Last stage: what the NIC does not do.
    fn seal(&mut self, plans: &ArrayVec<Plan<'a, P>, CHUNK>, batch: &mut NblBatch) {
        let mut jobs: SealBatch<'_, P::Key> = ArrayVec::new();
        let mut owners: ArrayVec<usize, CHUNK> = ArrayVec::new();
        let mut lists = batch.iter_mut();
        let mut next = 0;
        for plan in plans {
            let Some(nbl) = lists.nth(plan.place - next) else { break };
            next = plan.place + 1;
            let mark = Mark::read(nbl);
            if mark.work != Work::Software {
                continue;
            }
            let esp = nbl.buffer.as_mut_slice().get_mut(usize::from(mark.esp)..).unwrap_or_default();
            match plan.sa.esp.seal_job(esp, plan.sequence) {
                Ok(job) => {
                    jobs.push(job);
                    owners.push(plan.place);
                }
                Err(_) => nbl.protocol_reserved[1] = dropped_word(mark, DropReason::Malformed),
            }
        }
        self.shared.provider.seal(&mut jobs);
        let bad = refused(&jobs, &owners);
        drop(jobs);
        for place in bad {
            mark_dropped(&mut batch[place], DropReason::Refused);
        }
    }
}

/// The packets that the provider would not seal: a length beyond its limits, if anything. There is no clear text in them, and they are not sent.
fn refused<K>(jobs: &[SealJob<'_, K>], owners: &[usize]) -> ArrayVec<usize, CHUNK> {
    jobs.iter().zip(owners).filter(|(job, _)| !job.verdict.is_good()).map(|(_, &owner)| owner).collect()
}

/// Whether policy lets a frame out as it is.
fn bypassed(medium: Medium, snapshot: &Snapshot, frame: &[u8]) -> bool {
    let Some((l3, announced)) = ip_at(medium, frame) else { return snapshot.spd.non_ip == Action::Bypass };
    let parsed = ParsedIp::parse(frame.get(l3..).unwrap_or_default());
    as_announced(&parsed, announced).is_some_and(|parsed| snapshot.spd.outbound_packet(|| flow(parsed)) == Action::Bypass)
}

/// What selectors look at. A call of its own, so that no packet pays for it whose policy has no selectors.
#[inline(never)]
pub(crate) fn flow(parsed: &ParsedIp) -> Flow {
    Flow { source: parsed.src(), destination: parsed.dst(), protocol: parsed.protocol(), ports: parsed.ports() }
}

/// Whether a send came back because the adapter does not run, as against: it did not like the packet.
fn not_running(status: Status) -> bool {
    matches!(status, Status::RESET_IN_PROGRESS | Status::PAUSED | Status::ADAPTER_REMOVED)
}

fn mark_dropped(nbl: &mut NetBufferList, reason: DropReason) {
    nbl.protocol_reserved[1] = dropped_word(Mark::read(nbl), reason);
}

fn dropped_word(mark: Mark, reason: DropReason) -> u64 {
    let mut nbl = NetBufferList::default();
    Mark { work: Work::Dropped(reason), ..mark }.write(&mut nbl);
    nbl.protocol_reserved[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_as_they_were_written() {
        let works = [Work::Clear, Work::Software, Work::Offload].into_iter().chain(DropReason::ALL.map(Work::Dropped));
        for work in works {
            for sa in [None, Handle::from_bits(1), Handle::from_bits(u64::MAX)] {
                for (esp, length) in [(0, 0), (34, 1500), (u16::MAX, u32::MAX), (0x8000, 0x0100_0000)] {
                    for again in [false, true] {
                        let (mark, mut nbl) = (Mark { work, sa, esp, again, length }, NetBufferList::default());
                        mark.write(&mut nbl);
                        assert_eq!(Mark::read(&nbl), mark);
                        mark_dropped(&mut nbl, DropReason::TooBig);
                        assert_eq!(Mark::read(&nbl), Mark { work: Work::Dropped(DropReason::TooBig), ..mark });
                    }
                }
            }
        }
    }

    #[test]
    fn a_list_without_a_mark_is_not_sent_in_clear() {
        assert!(matches!(Mark::read(&NetBufferList::default()).work, Work::Dropped(_)));
    }
}
