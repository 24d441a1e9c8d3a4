//! Traffic flow confidentiality on the way out (RFC 4303 sections 2.6 and 2.7): room for padding, and dummy packets between others. The zeros behind
//! tunnelled packets are part of framing.

use ipsec::Provider;
use ndis::{NblBatch, NetBufferList};
use packet::{Buffer, BufferPool, ParsedIp};
use sa_table::{Guard, Handle};

use crate::framing::{Framed, Numbers, Room, Shape};
use crate::mark::{Mark, Work};
use crate::plan::{Plan, Plans, Stage};
use crate::sa::Sa;
use crate::seal::Task;

/// Moves a packet into a buffer with `back` bytes of room behind it, and with the usual room in front.
pub(crate) fn make_room(pool: &mut BufferPool, buffer: &mut Buffer, back: usize) {
    let length = buffer.len();
    let mut larger = pool.take(length + back);
    larger.as_mut_slice()[..length].copy_from_slice(buffer.as_slice());
    larger.truncate(length);
    pool.give(core::mem::replace(buffer, larger));
}

impl<'a, P: Provider> Stage<'_, P> {
    /// Puts dummies behind the packets that they follow, and plans for them. They look like those packets, and carry nothing.
    #[cold]
    pub(crate) fn insert_dummies(&mut self, guard: &'a Guard<'_, Sa<P>>, plans: &mut Plans<'a, P>, batch: &mut NblBatch) {
        let due = core::mem::take(&mut plans.due);
        for (place, handle, sa) in due.into_iter().rev() {
            let Some(nbl) = self.dummy(&batch[place], place + 1, (handle, sa), guard, plans) else { continue };
            // Behind it everything moves on by one, but for the plans just made.
            let own = usize::from(sa.inside.is_some());
            let Plans { first, around, .. } = &mut *plans;
            let (first, around) = (first.len() - 1, around.len() - own);
            plans.first[..first].iter_mut().chain(&mut plans.around[..around]).filter(|plan| plan.task.place > place).for_each(|plan| plan.task.place += 1);
            batch.insert(place + 1, nbl);
        }
        plans.first.sort_unstable_by_key(|plan| plan.task.place);
        plans.around.sort_unstable_by_key(|plan| plan.task.place);
    }

    /// A dummy like `model`, which has not been framed yet, with its plans; `None` if there is no place for it.
    fn dummy(
        &mut self,
        model: &NetBufferList,
        place: usize,
        (handle, sa): (Handle, &'a Sa<P>),
        guard: &'a Guard<'_, Sa<P>>,
        plans: &mut Plans<'a, P>,
    ) -> Option<NetBufferList> {
        let l3 = usize::from(model.l3_offset);
        let parsed = ParsedIp::parse(model.buffer.as_slice().get(l3..)?).ok()?;
        let shape = Shape { length: parsed.total_len(), version: parsed.version(), point: parsed.insertion_point(), part: parsed.fragment().is_part() };
        let room = Room::measure(shape, sa.outer.as_ref(), &sa.layout).ok()?;
        let mut nbl = NetBufferList::new(self.pool.copy_from(model.buffer.as_slice()), model.l3_offset);
        (nbl.timestamp, nbl.tag) = (model.timestamp, model.tag);
        nbl.oob.set_tag(model.oob.tag());
        nbl.buffer.as_mut_slice()[l3 + shape.point.offset..].fill(0);
        let mark = Mark { work: Work::Software, sa: Some(handle), dummy: true, ..Mark::clear(shape.length) };
        mark.write(&mut nbl);
        let capabilities = &self.shared.capabilities;
        let covered = capabilities.link(usize::from(nbl.l3_offset)).and_then(|()| if sa.outer.is_some() { Ok(()) } else { capabilities.cover(&parsed) });
        let task = Task { place, sa, numbers: Numbers::default(), at: Framed::default(), nic: false, order: 0 };
        let plan = Plan { task, handle, room, covered, tunnelled: sa.inside.is_some(), dummy: true };
        let planned = if plan.tunnelled { self.plan_both(guard, &mut nbl, plan, plans) } else { self.plan_one(&mut nbl, plan, plans) };
        if planned.is_err() {
            self.pool.give(core::mem::take(&mut nbl.buffer));
        }
        planned.ok().map(|()| nbl)
    }
}
