//! Plain frames on receive: packets under ESP alone with a combined mode, opened and concluded in their order, one look at the headers each.
//!
//! A chunk is cut into runs. A run of plain packets, and of those that are left alone, is worked on here; what is between two runs goes the general way. So the
//! order of packets is kept, and what is inside of a tunnel is worked on when the run's own headers are done, as in the general way.

use arrayvec::ArrayVec;
use ipsec::{BATCH, Data, EspSa, OpenBatch, OpenJob, Provider};
use ndis::{NetBufferList, Operation, OutOfBand};
use sa_table::{Key, prefetch};

use super::journal::After;
use super::lookup::Hit;
use super::open::{Opening, judge};
use super::plain::{Flow, MARK, Plain};
use super::portion::Position;
use super::receive::{Class, Left, Memory, Receiver, Task, report_good, report_trailer};
use super::sa::Sa;

/// Why packets of a flow are not opened here.
#[derive(Clone, Copy)]
enum Not {
    /// Left alone: no bundle.
    Nobody,
    /// Left alone: outside the capabilities.
    Outside,
    /// They go the general way.
    Plain,
}

/// What packets of a flow are opened with.
type Found<'a, P> = Result<(&'a Sa<P>, &'a EspSa<P>), Not>;

/// A plain packet that is being opened.
struct Opened<'a, 'l, P: Provider> {
    sa: &'a Sa<P>,
    oob: &'l mut OutOfBand,
    sequence: u64,
    /// Where in the frame its ESP begins.
    at: u32,
    /// Its place in the run.
    index: u8,
    udp: bool,
}

/// The highest extended number that was good, of the bundle that packets were under last.
struct Highest<'a, P: Provider> {
    sa: Option<&'a Sa<P>>,
    sequence: u64,
}

impl<'a, P: Provider> Highest<'a, P> {
    #[inline]
    fn note(&mut self, sa: &'a Sa<P>, sequence: u64) {
        if self.sa.is_none_or(|before| !core::ptr::eq(before, sa)) {
            self.end();
            *self = Self { sa: Some(sa), sequence };
        }
        self.sequence = self.sequence.max(sequence);
    }

    fn end(&self) {
        if let Some(sa) = self.sa {
            sa.follow(Operation::Esp, self.sequence);
        }
    }
}

impl<'a, P: Provider> Receiver<'a, P> {
    /// Receives a chunk, run by run.
    pub(super) fn receive_runs(&self, chunk: &mut [NetBufferList], memory: &mut Memory, left: &mut Left) {
        self.prefetch(chunk);
        let mut rest = chunk;
        loop {
            let run = self.run_plain(rest, memory, left);
            let Some((_, lists)) = rest.split_at_mut_checked(run) else { return };
            // The first is odd, if there is one; others go along that are not plain.
            let Some((_, others)) = lists.split_first() else { return };
            let others = others.iter().take_while(|list| Plain::read(self.medium, list.buffer.as_slice()).is_none()).count();
            let Some((odd, lists)) = lists.split_at_mut_checked(1 + others) else { return };
            self.receive_any(odd, memory, left);
            rest = lists;
        }
    }

    /// Where the packets of a chunk are of several bundles, begins to fetch the memory that these need, for all of them at once.
    #[inline]
    fn prefetch(&self, chunk: &[NetBufferList]) {
        let Some(at) = chunk.iter().find_map(|list| Plain::read(self.medium, list.buffer.as_slice())).map(Plain::mark) else { return };
        let mut marks = chunk.iter().map(|list| list.buffer.as_slice().get(at..at + MARK));
        let Some(mark) = marks.next() else { return };
        if marks.any(|other| other != mark) {
            self.prefetch_bundles(chunk);
        }
    }

    /// Step by step: the index, the SAs, then what they point to.
    #[inline(never)]
    fn prefetch_bundles(&self, chunk: &[NetBufferList]) {
        let mut flow = Flow::NONE;
        let mut keys = ArrayVec::<Key, BATCH>::new();
        for frame in chunk.iter().map(|list| list.buffer.as_slice()) {
            if let Some((plain, true)) = flow.read(self.medium, frame)
                && let Some(key) = plain.key(frame)
            {
                self.finder.guard.prefetch_index(&key);
                keys.push(key);
            }
        }
        for key in &keys {
            self.finder.guard.prefetch_values(key);
        }
        for key in &keys {
            if let Some(esp) = self.finder.guard.find(key).next().and_then(|(_, sa)| sa.esp_alone()) {
                prefetch(esp);
            }
        }
    }

    /// Works on the packets that `lists` begins with, up to the first one that is odd. Returns how many these were.
    fn run_plain(&self, lists: &mut [NetBufferList], memory: &mut Memory, left: &mut Left) -> usize {
        let mut after = After::new();
        let count = self.open_plain(lists, memory, left, &mut after);
        self.rounds(lists, memory, &mut after);
        count
    }

    #[inline]
    fn open_plain(&self, lists: &mut [NetBufferList], memory: &mut Memory, left: &mut Left, after: &mut After<'a, P>) -> usize {
        let mut jobs = OpenBatch::<'_, P::Key>::new();
        let mut opened = ArrayVec::<Opened<'a, '_, P>, BATCH>::new();
        let ip = Plain::ip_offset(self.medium) as u16;
        let mut flow = Flow::NONE;
        let mut found: Found<'a, P> = Err(Not::Plain);
        let mut count = 0;
        for NetBufferList { buffer, oob, l3_offset, .. } in lists.iter_mut() {
            let frame = buffer.as_mut_slice();
            let Some((plain, changes)) = flow.read(self.medium, frame) else {
                // Left alone, or odd.
                match self.classify(frame, l3_offset, count as u32) {
                    Class::Untouched => {}
                    Class::Outside => left.outside_capabilities += 1,
                    Class::Nobody => left.no_sa += 1,
                    Class::Unfit(..) | Class::Task(_) => break,
                }
                count += 1;
                continue;
            };
            if changes {
                found = self.find_plain(plain, frame);
            }
            let (sa, esp) = match found {
                Ok(found) => found,
                Err(Not::Plain) => break,
                Err(not) => {
                    left.outside_capabilities += u64::from(matches!(not, Not::Outside));
                    left.no_sa += u64::from(matches!(not, Not::Nobody));
                    *l3_offset = ip;
                    count += 1;
                    continue;
                }
            };
            // Too short ones are odd.
            let Some(packet) = frame.get_mut(plain.at()..plain.end()).and_then(|packet| esp.split_combined(packet)) else { break };
            // What high half the next packets have is known when the first one was verified.
            if sa.is_unverified(Operation::Esp) {
                break;
            }
            let sequence = sa.inbound_sequence(Operation::Esp, packet.low());
            if !packet.open((sequence >> 32) as u32, &mut jobs) {
                break;
            }
            *l3_offset = ip;
            opened.push(Opened { sa, oob, sequence, at: plain.at() as u32, index: count as u8, udp: plain.is_in_udp() });
            count += 1;
        }
        if !jobs.is_empty() {
            self.provider.open(&mut jobs, &mut memory.scratch);
        }
        self.conclude_plain(&mut jobs, &mut opened, after);
        count
    }

    /// What becomes of the packets of a plain one's flow.
    #[inline(never)]
    fn find_plain(&self, plain: Plain, frame: &[u8]) -> Found<'a, P> {
        let (Some(bytes), Some(header)) = (frame.get(plain.ip()..), plain.header()) else { return Err(Not::Plain) };
        if !plain.is_for(self.finder.ports) || !self.finder.word.receives(plain.version()) {
            return Err(Not::Plain);
        }
        match self.finder.find(bytes, plain.version(), header, Position::Outer) {
            Hit::Nobody => Err(Not::Nobody),
            Hit::Outside => Err(Not::Outside),
            Hit::Unfit(..) => Err(Not::Plain),
            Hit::Fit(sa) => match sa.esp_alone() {
                Some(esp) if esp.shortest_combined().is_some() => Ok((sa, esp)),
                _ => Err(Not::Plain),
            },
        }
    }

    /// Concludes the packets of a run in their order.
    fn conclude_plain(&self, jobs: &mut OpenBatch<'_, P::Key>, opened: &mut [Opened<'a, '_, P>], after: &mut After<'a, P>) {
        let mut highest = Highest { sa: None, sequence: 0 };
        for (job, opened) in jobs.iter_mut().zip(opened) {
            if job.verdict.is_good()
                && !after.journal.is_open()
                && let Data::InPlace(text) = &job.data
                && let Ok((payload, trailer, tunnel)) = judge(text)
                && !(tunnel && self.nests(payload))
            {
                let Opened { sa, sequence, .. } = *opened;
                if sa.esp_extended() {
                    highest.note(sa, sequence);
                }
                report_trailer(opened.oob, trailer.next_header, trailer.pad_length);
                report_good(opened.oob, sa.passed(Operation::Esp, sequence, tunnel));
            } else {
                self.conclude_odd(job, opened, after);
            }
        }
        highest.end();
    }

    /// Concludes a packet as the general way does.
    #[inline(never)]
    fn conclude_odd(&self, job: &mut OpenJob<'_, P::Key>, opened: &mut Opened<'a, '_, P>, after: &mut After<'a, P>) {
        let Opened { sa, at, index, udp, .. } = *opened;
        let length = sa.esp_alone().map_or(0, EspSa::prefix_length) + job.data.len() + job.tag.len();
        let task = Task {
            sa,
            index: u32::from(index),
            ip: Plain::ip_offset(self.medium) as u32,
            at,
            end: at + length as u32,
            operation: Operation::Esp,
            position: Position::Outer,
            udp,
        };
        self.conclude_esp(job, Opening { task: &task, sequence: opened.sequence, oob: opened.oob }, after);
    }
}
