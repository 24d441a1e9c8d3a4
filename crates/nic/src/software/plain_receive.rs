//! Plain frames on receive: packets under ESP alone with a combined mode, opened and concluded in their order, one look at the headers each.
//!
//! A chunk is cut into runs. A run of plain packets, and of those that are left alone, is worked on here; what is between two runs goes the general way. So the
//! order of packets is kept, and what is inside of a tunnel is worked on when the run's own headers are done, as in the general way.

use arrayvec::ArrayVec;
use ipsec::{BATCH, Data, EspSa, OpenBatch, OpenJob, Provider, Trailer};
use ndis::{NetBufferList, Operation, OutOfBand};
use packet::IpProtocol;
use sa_table::{Key, prefetch};

use super::journal::After;
use super::lookup::Hit;
use super::open::{Opening, judge};
use super::plain::{Flow, Plain};
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

/// That of flows that are to come, in their order.
type Ahead<'a, P> = arrayvec::IntoIter<Found<'a, P>, BATCH>;

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
        let mut rest = chunk;
        loop {
            let run = self.run_plain(rest, memory, left);
            let Some((_, lists)) = rest.split_at_mut_checked(run) else { return };
            // The first is odd, if there is one; others go along that are not plain, or look so and are under SAs that have only the general way.
            let Some((first, others)) = lists.split_first() else { return };
            let (mut flow, mut general) = (Flow::NONE, false);
            let mut goes_along = |list: &NetBufferList| {
                let frame = list.buffer.as_slice();
                flow.read(self.medium, frame).is_none_or(|(plain, changes)| {
                    if changes {
                        general = matches!(self.find_plain(plain, frame), Err(Not::Plain));
                    }
                    general
                })
            };
            goes_along(first);
            let others = others.iter().take_while(|&list| goes_along(list)).count();
            let Some((odd, lists)) = lists.split_at_mut_checked(1 + others) else { return };
            self.receive_any(odd, memory, left);
            rest = lists;
        }
    }

    /// Finds the bundles of packets that are to come, `lists`, behind a frame of `flow`: of all of them at once, so that what each needs of memory is fetched
    /// at the same time. Step by step: the index, the SAs, then what they point to.
    #[inline(never)]
    fn find_ahead(&self, lists: &[NetBufferList], mut flow: Flow) -> Ahead<'a, P> {
        let mut keys = ArrayVec::<(Plain, Key, usize), BATCH>::new();
        for (index, list) in lists.iter().enumerate() {
            let frame = list.buffer.as_slice();
            if let Some((plain, true)) = flow.read(self.medium, frame) {
                // (A plain frame has a key, and there are no more than a chunk.)
                let Some(key) = plain.key(frame).filter(|_| !keys.is_full()) else { break };
                self.finder.guard.prefetch_index(&key);
                keys.push((plain, key, index));
            }
        }
        for (_, key, _) in &keys {
            self.finder.guard.prefetch_values(key);
        }
        for (_, key, _) in &keys {
            if let Some(esp) = self.finder.guard.find(key).next().and_then(|(_, sa)| sa.esp_alone()) {
                prefetch(esp);
            }
        }
        let find = |(plain, _, index): &(Plain, Key, usize)| lists.get(*index).map_or(Err(Not::Plain), |list| self.find_plain(*plain, list.buffer.as_slice()));
        keys.iter().map(find).collect::<ArrayVec<_, BATCH>>().into_iter()
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
        let mut ahead = None;
        let mut lists = lists.iter_mut();
        while let Some(NetBufferList { buffer, oob, l3_offset, .. }) = lists.next() {
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
                found = ahead.as_mut().and_then(Ahead::<P>::next).unwrap_or_else(|| self.find_plain(plain, frame));
                // A second flow: there may be many.
                if ahead.is_none() && count > 0 {
                    ahead = Some(self.find_ahead(lists.as_ref(), flow.clone()));
                }
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
                && let Some((trailer, tunnel)) = self.judge_usual(text)
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

    /// The trailer of an authentic packet, and whether it is of a tunnel, where nothing else is to be done; `None`: something may be.
    #[inline(always)]
    fn judge_usual(&self, text: &[u8]) -> Option<(Trailer, bool)> {
        let (carried, &[pad_length, next_header]) = text.split_last_chunk()?;
        let trailer = Trailer { next_header, pad_length };
        let length = carried.len().checked_sub(usize::from(pad_length))?;
        if IpProtocol(next_header) == IpProtocol::IPV4 {
            // What carries none of these has no portion in it.
            let &[first, _, _, _, _, _, _, _, _, protocol, ..] = carried.first_chunk::<20>()?;
            let usual = first >> 4 == 4 && length >= 20 && !matches!(IpProtocol(protocol), IpProtocol::ESP | IpProtocol::AH | IpProtocol::UDP);
            return if usual { Some((trailer, true)) } else { self.judge(text) };
        }
        self.judge(text)
    }

    /// The same for all that is seldomer.
    #[inline(never)]
    fn judge(&self, text: &[u8]) -> Option<(Trailer, bool)> {
        let (payload, trailer, tunnel) = judge(text).ok()?;
        if tunnel && self.nests(payload) { None } else { Some((trailer, tunnel)) }
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
