//! Plain frames on receive: packets under ESP alone with a combined mode, opened and concluded in their order, one look at the headers each.
//!
//! A chunk is cut into runs. A run of plain packets, and of those that are left alone, is worked on here; what is between two runs goes the general way. So the
//! order of packets is kept, and what is inside of a tunnel is worked on when the run's own headers are done, as in the general way.

use arrayvec::ArrayVec;
use ipsec::{BATCH, CombinedBatch, CombinedJob, EspSa, Provider, Trailer};
use ndis::{ChecksumReport, NetBufferList, Operation, OutOfBand};
use packet::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpProtocol};
use sa_table::{Key, prefetch};

use super::journal::After;
use super::lookup::Hit;
use super::open::{Opening, Packet, judge};
use super::plain::{Flow, Plain};
use super::plain_sums::PlainSums;
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
    /// Its number is its place in the run.
    plain: Plain,
}

// A chunk is at most as long as numbers go.
const _: () = assert!(BATCH <= 128);

/// The bundle of packets that came last, as long as none of them changes it: the next ones need not tell it anything.
struct Calm<'a, P: Provider> {
    sa: Option<&'a Sa<P>>,
    tunnel: bool,
    /// Numbers up to here.
    last: u64,
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

impl<'a, P: Provider> Calm<'a, P> {
    /// Notes a packet that was good, as [`Sa::passed`].
    #[inline(never)]
    fn note(&mut self, sa: &'a Sa<P>, sequence: u64, tunnel: bool) -> bool {
        let ask = sa.passed(Operation::Esp, sequence, tunnel);
        let last = sa.calm_until(Operation::Esp);
        *self = Self { sa: last.map(|_| sa), tunnel, last: last.unwrap_or(0) };
        ask
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
        let (count, verified) = self.open_plain(lists, memory, left, &mut after);
        self.rounds(lists, memory, &mut after);
        if self.sums.is_some() {
            let others = lists.iter_mut().take(count).enumerate().filter(|(number, _)| verified >> number & 1 == 0);
            for (_, list) in others {
                self.verify_sums(list);
            }
        }
        count
    }

    /// Opens them, and returns how many these were, and a bit for each whose checksums are verified.
    #[inline]
    fn open_plain(&self, lists: &mut [NetBufferList], memory: &mut Memory, left: &mut Left, after: &mut After<'a, P>) -> (usize, u128) {
        let mut jobs = CombinedBatch::<'_, P::Key, Opened<'a, '_, P>>::new();
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
            if let Some(sums) = &self.sums {
                oob.set_checksum_report(sums.header(frame, plain));
            }
            let Some(packet) = frame.get_mut(plain.at()..plain.end()) else { break };
            let (mut sequence, mut high) = (packet.first_chunk().map_or(0, |header| u64::from_be_bytes(*header)) & 0xffff_ffff, 0);
            if sa.esp_extended() {
                // What high half the next packets have is known when the first one was verified.
                if sa.is_unverified(Operation::Esp) {
                    break;
                }
                sequence = sa.inbound_sequence(Operation::Esp, sequence as u32);
                high = (sequence >> 32) as u32;
            }
            // Too short ones are odd.
            let Some(job) = esp.combined_open_job(packet, high, Opened { sa, oob, sequence, plain: plain.numbered(count) }) else { break };
            jobs.push(job);
            *l3_offset = ip;
            count += 1;
        }
        if !jobs.is_empty() {
            self.provider.open_combined(&mut jobs, &mut memory.scratch);
        }
        (count, self.conclude_plain(&mut jobs, after))
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

    /// Concludes the packets of a run in their order. Returns a bit for each whose checksums are verified.
    fn conclude_plain(&self, jobs: &mut [CombinedJob<'_, P::Key, Opened<'a, '_, P>>], after: &mut After<'a, P>) -> u128 {
        let mut verified = 0;
        let mut highest = Highest { sa: None, sequence: 0 };
        let mut calm = Calm { sa: None, tunnel: false, last: 0 };
        for job in jobs {
            if job.verdict.is_good()
                && !after.journal.is_open()
                && let Some((trailer, tunnel)) = self.judge_usual(job.text())
            {
                let Opened { sa, sequence, .. } = job.mark;
                if sa.esp_extended() {
                    highest.note(sa, sequence);
                }
                if let Some(sums) = &self.sums
                    && tunnel
                    && let Some(report) = verify_carried(sums, job.text(), trailer, job.mark.oob)
                {
                    job.mark.oob.set_checksum_report(report);
                    verified |= 1 << job.mark.plain.number();
                }
                report_trailer(job.mark.oob, trailer.next_header, trailer.pad_length);
                let same = calm.sa.is_some_and(|calm| core::ptr::eq(calm, sa)) && calm.tunnel == tunnel && sequence <= calm.last;
                report_good(job.mark.oob, !same && calm.note(sa, sequence, tunnel));
            } else {
                self.conclude_odd(job, after);
                calm.sa = None;
            }
        }
        highest.end();
        verified
    }

    /// The trailer of an authentic packet, and whether it is of a tunnel, where nothing else is to be done; `None`: something may be.
    #[inline(always)]
    fn judge_usual(&self, text: &[u8]) -> Option<(Trailer, bool)> {
        let (carried, &[pad_length, next_header]) = text.split_last_chunk()?;
        let trailer = Trailer { next_header, pad_length };
        let length = carried.len().checked_sub(usize::from(pad_length))?;
        // The packet in a tunnel has no portion in it if it carries none of these, or UDP to a port that is not looked into.
        let usual = match IpProtocol(next_header) {
            IpProtocol::IPV4 => {
                let header: &[u8; IPV4_HEADER_LEN + 4] = carried.first_chunk()?;
                length >= IPV4_HEADER_LEN
                    && match IpProtocol(header[9]) {
                        IpProtocol::UDP => header[0] == 0x45 && !self.finder.ports.contains(u16::from_be_bytes([header[22], header[23]])),
                        protocol => header[0] >> 4 == 4 && !matches!(protocol, IpProtocol::ESP | IpProtocol::AH),
                    }
            }
            IpProtocol::IPV6 => {
                let header: &[u8; IPV6_HEADER_LEN + 4] = carried.first_chunk()?;
                let protocol = IpProtocol(header[6]);
                length >= IPV6_HEADER_LEN
                    && header[0] >> 4 == 6
                    && match protocol {
                        IpProtocol::UDP => !self.finder.ports.contains(u16::from_be_bytes([header[42], header[43]])),
                        _ => !matches!(protocol, IpProtocol::ESP | IpProtocol::AH) && !protocol.is_ipv6_extension(),
                    }
            }
            _ => return Some((trailer, false)),
        };
        if usual { Some((trailer, true)) } else { self.judge(text) }
    }

    /// The same for all that is seldomer.
    #[inline(never)]
    fn judge(&self, text: &[u8]) -> Option<(Trailer, bool)> {
        let (payload, trailer, tunnel) = judge(text).ok()?;
        if tunnel && self.nests(payload) { None } else { Some((trailer, tunnel)) }
    }

    /// Concludes a packet as the general way does.
    #[inline(never)]
    fn conclude_odd(&self, job: &mut CombinedJob<'_, P::Key, Opened<'a, '_, P>>, after: &mut After<'a, P>) {
        let authentic = job.verdict.is_good();
        let (text, &mut Opened { sa, ref mut oob, sequence, plain }) = job.text_and_mark();
        let task = Task {
            sa,
            index: plain.number(),
            ip: plain.ip() as u32,
            at: plain.at() as u32,
            end: plain.end() as u32,
            operation: Operation::Esp,
            position: Position::Outer,
            udp: plain.is_in_udp(),
        };
        if self.conclude_esp(authentic, text, Opening { task: &task, sequence, oob }, after) == Packet::Restored
            && let Some(job) = job.undo()
        {
            self.provider.seal(&mut [job]);
        }
    }
}

/// The checksums of the packet that a plain one's text is, and of the header around it, which are in its out-of-band data.
#[inline(never)]
fn verify_carried(sums: &PlainSums, text: &[u8], trailer: Trailer, oob: &OutOfBand) -> Option<ChecksumReport> {
    // (A tag out of band makes another form of frame of it.)
    let length = text.len().checked_sub(ipsec::TRAILER_LENGTH + usize::from(trailer.pad_length))?;
    if oob.tag().is_some() { None } else { sums.carried(text.get(..length)?, oob.checksum_report()) }
}
