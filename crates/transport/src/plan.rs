//! The stages of the way out: what policy does with each packet of a chunk, numbers, headers; and who does the cryptography.

use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;
use ipsec::Provider;
use ndis::{HeaderTransmit, NblBatch, NetBufferList, OffloadHandle, Operation};
use packet::{BufferPool, ETHERNET_HEADER_LEN, Frame, IpVersion, ParsedIp, Time};
use sa_table::{Guard, Handle};
use wire_order::Outlet;

use crate::association::Association;
use crate::framing::{Framed, Numbers, Room, Shape, encapsulate};
use crate::lane::{CHUNK, as_announced, ip_at};
use crate::lifetime::Life;
use crate::mark::{Mark, Work, mark_dropped};
use crate::order::leading;
use crate::packet_reason::PacketReason;
use crate::sa::Sa;
use crate::seal::{Task, seal};
use crate::selector::Flow;
use crate::spd::Action;
use crate::tasks::{finish_sum, move_sum, place_sum, put_tag_back, take_tag_out};
use crate::traffic_flow::make_room;
use crate::transport::{LaneNews, Shared, Snapshot};
use crate::verdict::{DropReason, WayCounters};

/// A bundle that goes around a packet of the present chunk.
pub(crate) struct Plan<'a, P: Provider> {
    pub(crate) task: Task<'a, P>,
    pub(crate) handle: Handle,
    pub(crate) room: Room,
    /// Whether the NIC takes packets with such headers.
    pub(crate) covered: Result<(), PacketReason>,
    /// A tunnel goes around it.
    pub(crate) tunnelled: bool,
    /// What it carries is nothing.
    pub(crate) dummy: bool,
}

/// The bundles of a chunk, in the order of its packets.
pub(crate) struct Plans<'a, P: Provider> {
    /// The bundle that policy names for each packet.
    pub(crate) first: ArrayVec<Plan<'a, P>, CHUNK>,
    /// The tunnels around those that go inside one.
    pub(crate) around: ArrayVec<Plan<'a, P>, CHUNK>,
    /// Behind which packets dummies follow: places, and the bundle whose they are.
    pub(crate) due: ArrayVec<(usize, Handle, &'a Sa<P>), CHUNK>,
}

impl<P: Provider> Plans<'_, P> {
    pub(crate) fn new() -> Self {
        Self { first: ArrayVec::new(), around: ArrayVec::new(), due: ArrayVec::new() }
    }
}

/// What stages of a chunk work with.
pub(crate) struct Stage<'a, P: Provider> {
    pub(crate) shared: &'a Shared<P>,
    pub(crate) counters: &'a WayCounters,
    pub(crate) news: &'a mut Vec<LaneNews>,
    pub(crate) masked: &'a mut Vec<u8>,
    pub(crate) pool: &'a mut BufferPool,
    pub(crate) now: Time,
    /// Turns on the wire, where lanes share SAs.
    pub(crate) outlet: Option<&'a mut Outlet<Frame>>,
}

impl<'a, P: Provider> Stage<'_, P> {
    /// First stage: what policy does with a packet. Without a plan its mark says it all.
    pub(crate) fn decide(&mut self, snapshot: &Snapshot, guard: &'a Guard<'_, Sa<P>>, nbl: &mut NetBufferList, place: usize, plans: &mut Plans<'a, P>) {
        let frame = nbl.buffer.as_slice();
        let length = frame.len();
        let Some((mut l3, announced)) = ip_at(self.shared.medium, frame) else {
            let work = if snapshot.spd.non_ip == Action::Bypass { Work::Clear } else { Work::Dropped(DropReason::Policy) };
            return self.unread(nbl, length, work);
        };
        let parsed = ParsedIp::parse(frame.get(l3..).unwrap_or_default());
        let Some(parsed) = as_announced(&parsed, announced) else {
            return self.unread(nbl, length.saturating_sub(l3), Work::Dropped(DropReason::Malformed));
        };
        if l3 > ETHERNET_HEADER_LEN && self.shared.capabilities.tasks.takes_tags_out() {
            l3 = take_tag_out(nbl, l3);
        }
        nbl.l3_offset = l3 as u16;
        let mut mark = Mark::clear(parsed.total_len());
        self.counters.seen.add(parsed.total_len());
        if nbl.oob.checksum != 0 {
            let Some(headers) = place_sum(nbl, parsed) else {
                mark.work = Work::Dropped(DropReason::Malformed);
                return mark.write(nbl);
            };
            mark.headers = headers;
        }
        let (sa, work) = match snapshot.spd.outbound_packet(|| flow(parsed)) {
            Action::Bypass => (None, Work::Clear),
            Action::Discard => (None, Work::Dropped(DropReason::Policy)),
            Action::Protect(handle) => match handle.and_then(|handle| Some((handle, guard.get(handle)?))) {
                Some((handle, sa)) if sa.outbound => (Some((handle, sa)), Work::Software),
                _ => (None, Work::Dropped(DropReason::NoSa)),
            },
        };
        mark.work = work;
        if mark.headers != 0 {
            // What the NIC may do is left until it is known whether it does.
            let protected = sa.is_some_and(|(_, sa)| sa.offload_handle().is_some());
            let left = (sa.is_none() || protected) && self.shared.capabilities.tasks.computes(self.shared.medium, nbl, parsed, protected);
            if !left {
                finish_here(nbl, &mut mark, 0);
            }
        }
        let Some((handle, sa)) = sa else {
            mark.write(nbl);
            return;
        };
        mark.sa = Some(handle);
        // The link's padding would be protected, too.
        nbl.buffer.trim_back(parsed.padding_len());
        let shape = Shape { length: parsed.total_len(), version: parsed.version(), point: parsed.insertion_point(), part: parsed.fragment().is_part() };
        let capabilities = &self.shared.capabilities;
        let covered = capabilities.link(l3).and_then(|()| if sa.outer.is_some() { Ok(()) } else { capabilities.cover(parsed) });
        // Before it gets a number: a packet that cannot be protected spends none, and counts for no lifetime.
        let refused = match Room::measure(shape, sa.outer.as_ref(), &sa.layout) {
            Ok(room) => {
                let task = Task { place, sa, numbers: Numbers::default(), at: Framed::default(), nic: false, order: 0 };
                let plan = Plan { task, handle, room, covered, tunnelled: sa.inside.is_some(), dummy: false };
                if plan.tunnelled { self.plan_both(guard, nbl, plan, plans) } else { self.plan_one(nbl, plan, plans) }
            }
            Err(reason) => Err(reason),
        };
        if let Err(reason) = refused {
            mark.work = Work::Dropped(reason);
        }
        mark.write(nbl);
    }

    /// A frame without an IP packet that can be read: counted, and marked with what becomes of it.
    #[cold]
    fn unread(&mut self, nbl: &mut NetBufferList, length: usize, work: Work) {
        self.counters.seen.add(length);
        Mark { work, ..Mark::clear(length) }.write(nbl);
    }

    /// Notes the one bundle that goes around a packet.
    #[inline(always)]
    pub(crate) fn plan_one(&mut self, nbl: &mut NetBufferList, plan: Plan<'a, P>, plans: &mut Plans<'a, P>) -> Result<(), DropReason> {
        if !plan.room.fits(None, &nbl.buffer) {
            self.more_room(nbl, &plan, None)?;
        }
        if plan.task.sa.sends_dummies() && !plan.dummy && plan.task.sa.dummy_follows() {
            plans.due.push((plan.task.place, plan.handle, plan.task.sa));
        }
        plans.first.push(plan);
        Ok(())
    }

    /// Notes a bundle and the tunnel that goes around it.
    #[cold]
    pub(crate) fn plan_both(
        &mut self,
        guard: &'a Guard<'_, Sa<P>>,
        nbl: &mut NetBufferList,
        plan: Plan<'a, P>,
        plans: &mut Plans<'a, P>,
    ) -> Result<(), DropReason> {
        let Plan { ref task, room, .. } = plan;
        let (place, sa) = (task.place, task.sa);
        let Some(tunnel) = sa.inside else { return Err(DropReason::NoSa) };
        let handle = tunnel.handle;
        let Some(tunnel) = guard.get(handle).filter(|tunnel| tunnel.outer.is_some()) else { return Err(DropReason::NoSa) };
        let around = Room::measure(room.shape_afterwards(), tunnel.outer.as_ref(), &tunnel.layout)?;
        let task = Task { place, sa: tunnel, numbers: Numbers::default(), at: Framed::default(), nic: false, order: 0 };
        let around = Plan { task, handle, room: around, covered: self.shared.capabilities.link(usize::from(nbl.l3_offset)), tunnelled: false, dummy: false };
        if !room.fits(Some(&around.room), &nbl.buffer) {
            self.more_room(nbl, &plan, Some(&around))?;
        }
        if !plan.dummy {
            for (handle, sa) in [(plan.handle, sa), (handle, tunnel)] {
                if sa.sends_dummies() && sa.dummy_follows() {
                    plans.due.push((place, handle, sa));
                }
            }
        }
        plans.first.push(plan);
        plans.around.push(around);
        Ok(())
    }

    /// A buffer is full. Where it is the SA's doing, because it hides lengths, the packet gets a larger one; otherwise it was not made for this.
    #[cold]
    fn more_room(&mut self, nbl: &mut NetBufferList, plan: &Plan<'a, P>, around: Option<&Plan<'a, P>>) -> Result<(), DropReason> {
        let hides = |plan: &Plan<'_, P>| plan.task.sa.layout.pad_to != 0 || plan.dummy;
        if !hides(plan) && !around.is_some_and(hides) {
            return Err(DropReason::TooBig);
        }
        make_room(self.pool, &mut nbl.buffer, plan.room.back + around.map_or(0, |around| around.room.back));
        if plan.room.fits(around.map(|around| &around.room), &nbl.buffer) { Ok(()) } else { Err(DropReason::TooBig) }
    }

    /// Second stage: lifetimes, and sequence numbers with one atomic addition for a run of packets of one association. Plans that get none leave the list.
    pub(crate) fn number(&mut self, plans: &mut Plans<'a, P>, batch: &mut NblBatch) {
        let Plans { first, around, .. } = plans;
        first.retain(|plan| self.admit(plan, batch));
        if !around.is_empty() {
            around.retain(|plan| !Mark::read(&batch[plan.task.place]).is_dropped() && self.admit(plan, batch));
            release_dropped(first, batch);
        }
        let shared = self.shared;
        // A lane that is quicker with the one bundle is so with the other.
        let nesting = (!around.is_empty() && self.outlet.is_some()).then(|| shared.nesting.lock());
        self.take(first, batch);
        if !around.is_empty() {
            release_dropped(around, batch);
            self.take(around, batch);
            drop(nesting);
            release_dropped(first, batch);
            put_in_order(first, around);
            account(around);
        }
        account(first);
    }

    /// Whether a bundle's life is not over; counts the packet where its limits need that.
    #[inline(always)]
    fn admit(&mut self, plan: &Plan<'a, P>, batch: &mut NblBatch) -> bool {
        let Plan { handle, ref task, .. } = *plan;
        let refused = match task.sa.lifetime.admit(plan.room.length() as u64, self.now) {
            Life::Good => return true,
            life @ Life::SoftReached => {
                self.news.push(LaneNews::Life(handle, life));
                return true;
            }
            life @ Life::HardReached => {
                self.news.push(LaneNews::Life(handle, life));
                DropReason::Expired
            }
            Life::Over if task.sa.associations().any(Association::is_exhausted) => DropReason::SequenceExhausted,
            Life::Over => DropReason::Expired,
        };
        mark_dropped(&mut batch[task.place], refused);
        false
    }

    /// Numbers for all plans of a list; those that get none leave it, and their packets end.
    fn take(&mut self, list: &mut ArrayVec<Plan<'a, P>, CHUNK>, batch: &mut NblBatch) {
        let mut at = 0;
        let mut short = false;
        while at < list.len() {
            let (handle, sa) = (list[at].handle, list[at].task.sa);
            let run = list[at..].iter().take_while(|plan| plan.handle == handle).count();
            let run = &mut list[at..at + run];
            at += run.len();
            let mut numbered = run.len();
            let numbering = self.numbering(sa);
            if let Some(half) = &sa.esp {
                numbered = numbered.min(take_run(&half.association, run, |numbers| &mut numbers.esp));
            }
            if let Some(half) = &sa.ah {
                // What ESP got and AH does not is spent.
                let run = &mut run[..numbered];
                numbered = numbered.min(take_run(&half.association, run, |numbers| &mut numbers.ah));
            }
            drop(numbering);
            let (carried, left) = run.split_at_mut(numbered);
            if self.outlet.is_some() {
                self.turns(sa, carried);
            }
            if let Some(last) = carried.last() {
                self.watch(handle, sa, last.task.numbers);
            }
            for plan in left.iter_mut() {
                sa.lifetime.release(plan.room.length() as u64);
                plan.task.numbers = Numbers::default();
                short = true;
            }
            if !left.is_empty() {
                self.exhausted(handle, sa);
            }
        }
        if short {
            list.retain(|plan| {
                let numbered = plan.task.numbers != Numbers::default();
                if !numbered {
                    mark_dropped(&mut batch[plan.task.place], DropReason::SequenceExhausted);
                }
                numbered
            });
        }
    }

    /// Notes the turns of packets that have just got numbers.
    #[cold]
    fn turns(&mut self, sa: &Sa<P>, carried: &mut [Plan<'a, P>]) {
        // A packet that a tunnel goes around is kept in order by that.
        for plan in carried.iter_mut().filter(|plan| !plan.tunnelled) {
            plan.task.order = self.turn(sa, leading(sa, plan.task.numbers), 1);
        }
    }

    /// New numbers for a packet that the NIC has given back; its old ones are spent (OV2-SEND-7). With its ordering group, if it is kept in order by the
    /// bundle's first header.
    pub(crate) fn renumber(&mut self, handle: Handle, sa: &Sa<P>, leads: bool) -> Result<(Numbers, u16), DropReason> {
        let (mut numbers, mut order) = (Numbers::default(), 0);
        let numbering = self.numbering(sa);
        for association in sa.associations() {
            let Some(Ok(number)) = association.counter().map(|counter| counter.take(1)) else {
                self.exhausted(handle, sa);
                return Err(DropReason::SequenceExhausted);
            };
            match association.operation {
                Operation::Esp => numbers.esp = number,
                Operation::Ah => numbers.ah = number,
            }
            // At once: later numbers wait for it, also if there is none for the other header.
            if leads && association.operation == sa.first() {
                order = self.turn(sa, number, 1);
            }
        }
        drop(numbering);
        self.watch(handle, sa, numbers);
        if sa.must_renew(numbers, true) {
            self.news.push(LaneNews::Renew(handle));
        }
        Ok((numbers, order))
    }

    /// Says when the owner should replace the SA and when its numbers are used up, and when the NIC should hear of a new high half (OV2-TRANS-5).
    #[inline]
    pub(crate) fn watch(&mut self, handle: Handle, sa: &Sa<P>, last: Numbers) {
        if let Some(half) = &sa.esp {
            self.watch_one(handle, sa, &half.association, last.esp);
        }
        if let Some(half) = &sa.ah {
            self.watch_one(handle, sa, &half.association, last.ah);
        }
    }

    fn watch_one(&mut self, handle: Handle, sa: &Sa<P>, association: &Association, last: u64) {
        if association.extended && sa.offload_handle().is_some() && association.nic.must_tell((last >> 32) as u32) {
            self.news.push(LaneNews::HighHalf(handle, association.operation));
        }
        let limit = association.limit();
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

    /// Third stage: headers and trailers, and whether the NIC shall do the rest.
    pub(crate) fn frame(&mut self, plans: &mut Plans<'a, P>, batch: &mut NblBatch) {
        for plan in &mut plans.first {
            let nbl = &mut batch[plan.task.place];
            if !put_around(plan, nbl) || plan.tunnelled {
                continue;
            }
            let header = header_transmit(plan.task.at, u32::from(nbl.l3_offset));
            match self.offered_to(plan).and_then(|handle| Ok((handle, header?))) {
                Ok((handle, header)) => {
                    plan.task.sa.handed_over(plan.task.numbers);
                    plan.task.nic = true;
                    nbl.oob.set_offload_handle(Some(handle));
                    nbl.oob.set_header_transmit(header);
                    Mark { work: Work::Offload, ..Mark::read(nbl) }.write(nbl);
                    hand_over_sum(nbl, plan.room.front, true);
                }
                Err(reason) => {
                    leave(nbl, reason, plan.task.sa.must_be_offloaded());
                    hand_over_sum(nbl, plan.room.front, false);
                }
            }
        }
        if !plans.around.is_empty() {
            self.frame_around(plans, batch);
        }
    }

    /// The same for tunnels around other bundles.
    fn frame_around(&mut self, plans: &mut Plans<'a, P>, batch: &mut NblBatch) {
        let Plans { first, around, .. } = plans;
        let combined = self.shared.capabilities.transport_tunnel_combined();
        let one_handle = self.shared.capabilities.one_handle();
        let mut inner = first.iter_mut();
        for plan in around {
            let place = plan.task.place;
            // Both lists are in the order of the packets, and every tunnel has something inside.
            let Some(inside) = inner.find(|inside| inside.task.place == place) else { return };
            let nbl = &mut batch[place];
            // What has ended inside is not made anything of again.
            if Mark::read(nbl).is_dropped() || !put_around(plan, nbl) {
                continue;
            }
            let l3 = u32::from(nbl.l3_offset);
            inside.task.at = inside.task.at.moved(plan.room.front as u32);
            let moved = plan.room.front + inside.room.front;
            let must = [&*plan, &*inside].map(|plan| plan.task.sa.must_be_offloaded());
            let offered = if one_handle { Err(PacketReason::Combination) } else { self.offered_to(plan) };
            let tunnel = match offered {
                Ok(tunnel) => tunnel,
                Err(reason) => {
                    leave(nbl, reason, must.contains(&true));
                    hand_over_sum(nbl, moved, false);
                    continue;
                }
            };
            let both = self.offered_to(inside).and_then(|handle| if combined { Ok(handle) } else { Err(PacketReason::Combination) });
            let both = both.and_then(|handle| Ok((handle, header_transmit(inside.task.at, l3)?)));
            let mut mark = Mark { work: Work::Offload, ..Mark::read(nbl) };
            match both {
                Ok((handle, header)) => {
                    inside.task.sa.handed_over(inside.task.numbers);
                    inside.task.nic = true;
                    nbl.oob.set_offload_handle(Some(handle));
                    nbl.oob.set_tunnel_handle(Some(tunnel));
                    nbl.oob.set_header_transmit(header);
                }
                Err(reason) if must[1] => {
                    leave(nbl, reason, true);
                    continue;
                }
                Err(reason) => match header_transmit(plan.task.at, l3) {
                    Ok(header) => {
                        (mark.hybrid, mark.reason) = (true, reason);
                        nbl.oob.set_offload_handle(Some(tunnel));
                        nbl.oob.set_header_transmit(header);
                    }
                    Err(reason) => {
                        leave(nbl, reason, must[0]);
                        hand_over_sum(nbl, moved, false);
                        continue;
                    }
                },
            }
            plan.task.sa.handed_over(plan.task.numbers);
            plan.task.nic = true;
            mark.write(nbl);
            // What was sealed here shows no segment to the NIC.
            hand_over_sum(nbl, moved, !mark.hybrid);
        }
    }

    /// Does what the list asks of the NIC beside IPsec: it goes on in software, in a frame that is whole.
    #[cold]
    pub(crate) fn settle_here(&mut self, nbl: &mut NetBufferList, mark: &mut Mark) {
        finish_here(nbl, mark, 0);
        if !put_tag_back(nbl, self.pool) {
            mark.work = Work::Dropped(DropReason::TooBig);
        }
        mark.write(nbl);
    }

    /// As [`Stage::offered`], for packets like this one.
    #[inline]
    fn offered_to(&mut self, plan: &Plan<'a, P>) -> Result<OffloadHandle, PacketReason> {
        let Plan { handle, covered, ref task, .. } = *plan;
        // That the NIC has not its SA comes before what it is itself.
        task.sa.offload_handle().ok_or(PacketReason::SaNotOffloaded)?;
        covered?;
        self.offered(handle, task.sa, task.numbers)
    }

    /// The NIC's handle of a bundle, if it has it and will make of these numbers what they are; otherwise why not. (The handle that it returns is the one to
    /// use: by the next look it may be gone, and a packet without handle is one that the NIC sends as it is.)
    #[inline]
    pub(crate) fn offered(&mut self, handle: Handle, sa: &Sa<P>, numbers: Numbers) -> Result<OffloadHandle, PacketReason> {
        let offload = sa.offload_handle().ok_or(PacketReason::SaNotOffloaded)?;
        if sa.is_certain(numbers) {
            return Ok(offload);
        }
        if sa.must_renew(numbers, false) {
            self.news.push(LaneNews::Renew(handle));
        }
        Err(PacketReason::SequenceInDoubt)
    }

    /// Last stage: what the NIC does not do, from the inside out.
    pub(crate) fn seal(&mut self, plans: &Plans<'a, P>, lists: &mut [NetBufferList]) {
        for list in [&plans.first, &plans.around] {
            if !list.is_empty() {
                seal(&self.shared.provider, list.iter().map(|plan| &plan.task), lists, self.masked);
            }
        }
    }
}

/// Numbers of one association for a run of plans, in one atomic addition; how many got one.
fn take_run<P: Provider>(association: &Association, run: &mut [Plan<'_, P>], place: impl Fn(&mut Numbers) -> &mut u64) -> usize {
    let Some(counter) = association.counter() else { return 0 };
    if let Ok(first) = counter.take(run.len() as u32) {
        // Counted from the first: a range of numbers would go one beyond the last, which there is not always.
        run.iter_mut().zip(0_u64..).for_each(|(plan, offset)| *place(&mut plan.task.numbers) = first + offset);
        run.len()
    } else {
        // Near the end of the numbers the packets take them one by one, so that the last of them are of use.
        run.iter_mut().map_while(|plan| counter.take(1).ok().map(|number| *place(&mut plan.task.numbers) = number)).count()
    }
}

/// Bundles of packets that ended on account of another bundle leave the list, and have carried nothing.
fn release_dropped<P: Provider>(list: &mut ArrayVec<Plan<'_, P>, CHUNK>, batch: &NblBatch) {
    list.retain(|plan| {
        let dropped = Mark::read(&batch[plan.task.place]).is_dropped();
        if dropped {
            plan.task.sa.lifetime.release(plan.room.length() as u64);
        }
        !dropped
    });
}

/// Numbers in the order of the packets, for bundles in both lists: tunnels around some packets and other bundles, which got theirs one list after the other.
#[cold]
fn put_in_order<'a, P: Provider>(first: &mut [Plan<'a, P>], around: &mut [Plan<'a, P>]) {
    let mut at = 0;
    while let Some(handle) = around.get(at).map(|plan| plan.handle) {
        at += around[at..].iter().take_while(|plan| plan.handle == handle).count();
        if !first.iter().any(|plan| plan.handle == handle) {
            continue;
        }
        let mut tasks: ArrayVec<&mut Task<'a, P>, { 2 * CHUNK }> =
            first.iter_mut().chain(around.iter_mut()).filter(|plan| plan.handle == handle).map(|plan| &mut plan.task).collect();
        let mut numbers: ArrayVec<(Numbers, u16), { 2 * CHUNK }> = tasks.iter().map(|task| (task.numbers, task.order)).collect();
        // Between the two lists another lane may have taken some, but what came second is behind what came first.
        numbers.sort_unstable_by_key(|(numbers, _)| (numbers.ah, numbers.esp));
        tasks.sort_unstable_by_key(|task| task.place);
        tasks.into_iter().zip(numbers).for_each(|(task, (numbers, order))| (task.numbers, task.order) = (numbers, order));
    }
}

/// Counts for lifetimes what is carried: whole runs.
fn account<P: Provider>(list: &[Plan<'_, P>]) {
    for run in list.chunk_by(|one, next| one.handle == next.handle) {
        let bytes = run.iter().map(|plan| plan.room.length() as u64).sum();
        run[0].task.sa.lifetime.account(run.len() as u64, bytes);
    }
}

/// Puts a plan's headers around its packet; whether that went well.
#[inline(always)]
fn put_around<P: Provider>(plan: &mut Plan<'_, P>, nbl: &mut NetBufferList) -> bool {
    let (sa, l3) = (plan.task.sa, usize::from(nbl.l3_offset));
    match encapsulate(&mut nbl.buffer, l3, sa.outer.as_ref(), &sa.layout, &plan.room, plan.task.numbers, plan.dummy) {
        Ok(at) => {
            nbl.order = plan.task.order;
            plan.task.at = at;
            true
        }
        Err(reason) => {
            mark_dropped(nbl, reason);
            false
        }
    }
}

/// What the NIC is told of a bundle's headers.
///
/// # Errors
/// They are further behind the outermost IP header than it can be told.
#[inline]
fn header_transmit(at: Framed, outermost: u32) -> Result<HeaderTransmit, PacketReason> {
    let offset = |header: u32| if header == 0 { Ok(0) } else { u8::try_from((header - outermost) / 4).map_err(|_| PacketReason::Size) };
    let (next_header, pad_length) = if at.esp == 0 { (0, 0) } else { (at.next_header, at.pad_length) };
    Ok(HeaderTransmit { next_header, pad_length, ah_header_offset: offset(at.ah)?, esp_header_offset: offset(at.esp)? })
}

/// Computes the checksum that a list asks for, in front of whose segment `moved` bytes of headers are new. (A segment that was found is there.)
#[cold]
fn finish_here(nbl: &mut NetBufferList, mark: &mut Mark, moved: usize) {
    if !finish_sum(nbl, *mark, moved) {
        mark.work = Work::Dropped(DropReason::Malformed);
    }
    mark.headers = 0;
}

/// Leaves the checksum of a packet, in front of whose segment `moved` bytes of headers are new, to the NIC, or computes it, before anything is sealed.
#[inline]
fn hand_over_sum(nbl: &mut NetBufferList, moved: usize, nic: bool) {
    if nbl.oob.checksum != 0 {
        settle_sum(nbl, moved, nic);
    }
}

#[cold]
fn settle_sum(nbl: &mut NetBufferList, moved: usize, nic: bool) {
    let mut mark = Mark::read(nbl);
    let outermost = nbl.buffer.as_slice().get(usize::from(nbl.l3_offset)).and_then(|&first| IpVersion::of_first_byte(first));
    if !nic || !outermost.is_some_and(|version| move_sum(nbl, moved, version)) {
        finish_here(nbl, &mut mark, moved);
        mark.write(nbl);
    }
}

/// A packet leaves the offload path: software does it, unless its SA `must` be offloaded.
fn leave(nbl: &mut NetBufferList, reason: PacketReason, must: bool) {
    Mark { reason, ..Mark::read(nbl) }.write(nbl);
    if must {
        mark_dropped(nbl, DropReason::NotOffloaded);
    }
}

/// What selectors look at. A call of its own, so that no packet pays for it whose policy has no selectors.
#[inline(never)]
pub(crate) fn flow(parsed: &ParsedIp) -> Flow {
    Flow { source: parsed.src(), destination: parsed.dst(), protocol: parsed.protocol(), ports: parsed.ports() }
}
