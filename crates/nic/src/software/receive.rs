//! The receive engine: finds each packet's SA, opens batches in place, writes verdicts out of band (OV2-RECV-1 to OV2-RECV-7).
//!
//! Every packet is indicated, in order. What was opened is in clear where it was, and all headers stay. A packet that failed has the bytes that it had
//! before the step that failed.
//!
//! A chunk of packets is worked on in rounds, one header of each packet a round: AH of the outer portion, its ESP, AH of the inner portion, its ESP. Nearly
//! all packets are done after the first. Where packets do not end in their order, what becomes of them is noted, and concluded in their order.

use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use ipsec::{BATCH, Provider, Scratch};
use ndis::{CryptoStatus, HeaderReceive, IpsecReceive, NblBatch, NetBufferList, Operation, OutOfBand};
use packet::{FrameBatch, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpProtocol, Medium};
use sa_table::prefetch;

use super::counters::Counters;
use super::journal::{After, End, conclude};
use super::lookup::{Finder, Hit};
use super::plain_sums::PlainSums;
use super::portion::{Ports, Position};
use super::sa::Sa;
use super::services::Services;
use super::vlan;
use crate::link::{announces_ip, ip_offset};

/// What a batch is received with.
pub(super) struct Receiver<'a, P: Provider> {
    pub(super) provider: &'a P,
    /// Checksums and tags.
    pub(super) services: Services,
    /// What is verified of plain packets; `None`: nothing of any.
    pub(super) sums: Option<PlainSums>,
    pub(super) medium: Medium,
    pub(super) finder: Finder<'a, P>,
    pub(super) counters: &'a Counters,
    /// Whether plain packets go their own way; otherwise all go the general one.
    pub(super) plain: bool,
}

/// A lane's own memory.
#[derive(Default)]
pub(super) struct Memory {
    /// Of the provider.
    pub(super) scratch: Scratch,
    /// Headers as AH authenticates them.
    pub(super) masked: Vec<u8>,
}

/// One header of a packet that is to be worked on. Offsets are in bytes from the start of the frame.
pub(super) struct Task<'a, P: Provider> {
    pub(super) sa: &'a Sa<P>,
    /// The packet's place in the chunk.
    pub(super) index: u32,
    /// Where the portion's IP header begins.
    pub(super) ip: u32,
    /// Where the header begins.
    pub(super) at: u32,
    /// Where what it heads ends.
    pub(super) end: u32,
    pub(super) operation: Operation,
    pub(super) position: Position,
    /// Something of the packet is in UDP.
    pub(super) udp: bool,
}

/// The first header of a portion that is to be worked on, or what is wrong with it.
type Found<'a, P> = Result<Task<'a, P>, (&'a Sa<P>, CryptoStatus)>;

/// At most one a packet.
pub(super) type Tasks<'a, P> = ArrayVec<Task<'a, P>, BATCH>;

/// What a portion carries after its last header.
pub(super) struct Carried<'b> {
    pub(super) payload: &'b [u8],
    /// It is an IP packet.
    pub(super) tunnel: bool,
}

impl Carried<'_> {
    /// Where in the frame it begins.
    fn at<P: Provider>(&self, task: &Task<'_, P>) -> usize {
        match (task.operation, task.sa.transforms.esp()) {
            (Operation::Esp, Some(transform)) => task.at as usize + transform.prefix_length(),
            // AH goes before all the rest of the packet.
            _ => task.end as usize - self.payload.len(),
        }
    }
}

/// What a frame is.
pub(super) enum Class<'a, P: Provider> {
    /// Nothing for IPsec: left alone.
    Untouched,
    /// Outside the capabilities: left alone.
    Outside,
    /// Under no bundle: left alone.
    Nobody,
    /// Under a bundle whose packet it cannot be.
    Unfit(&'a Sa<P>, CryptoStatus),
    /// Under a bundle: the first header that is to be worked on.
    Task(Task<'a, P>),
}

/// Packets that are left alone, of one batch.
#[derive(Default)]
pub(super) struct Left {
    pub(super) outside_capabilities: u64,
    pub(super) no_sa: u64,
}

impl Left {
    /// Counts them.
    pub(super) fn count(&self, counters: &Counters) {
        if self.outside_capabilities != 0 {
            counters.outside_capabilities.fetch_add(self.outside_capabilities, Ordering::Relaxed);
        }
        if self.no_sa != 0 {
            counters.no_sa.fetch_add(self.no_sa, Ordering::Relaxed);
        }
    }
}

impl<'a, P: Provider> Receiver<'a, P> {
    /// Receives all of `frames`, and leaves it empty.
    pub(super) fn receive(&self, frames: &mut FrameBatch, up: &mut NblBatch, memory: &mut Memory) {
        let mut left = Left::default();
        let first = up.len();
        up.extend(frames.drain(..).map(|frame| {
            // Its headers are read when all lists are made.
            if let Some(headers) = frame.buffer.as_slice().first() {
                prefetch(headers);
            }
            NetBufferList::from_frame(frame, 0)
        }));
        let strips = self.services.tags_come_out();
        if strips {
            up[first..].iter_mut().for_each(vlan::strip);
        }
        for chunk in up[first..].chunks_mut(BATCH) {
            // Where IPsec does not know of tags out of band, each packet is looked at for whether it has one.
            if self.plain && (!strips || self.finder.word.takes_tags_out_of_band()) {
                self.receive_runs(chunk, memory, &mut left);
            } else {
                self.receive_any(chunk, memory, &mut left);
            }
        }
        left.count(self.counters);
    }

    /// Receives packets of any kind, at most a chunk of them.
    pub(super) fn receive_any(&self, lists: &mut [NetBufferList], memory: &mut Memory, left: &mut Left) {
        let mut after = After::new();
        for (index, list) in (0..).zip(lists.iter_mut()) {
            let class = self.classify(list.buffer.as_slice(), &mut list.l3_offset, index);
            let tag_fits = list.oob.ieee8021q == 0 || self.finder.word.takes_tags_out_of_band();
            let class = if tag_fits || matches!(class, Class::Untouched) { class } else { Class::Outside };
            match class {
                Class::Untouched => {}
                Class::Outside => left.outside_capabilities += 1,
                Class::Nobody => left.no_sa += 1,
                Class::Unfit(sa, status) => after.journal.note_unfit(sa, index, Position::Outer, status),
                Class::Task(task) => after.next.push(task),
            }
        }
        self.rounds(lists, memory, &mut after);
        if self.sums.is_some() {
            for list in lists.iter_mut() {
                self.verify_sums(list);
            }
        }
    }

    /// Works on the headers that `after` has, and on those in them, round by round, and concludes what is not yet concluded.
    #[inline]
    pub(super) fn rounds(&self, lists: &mut [NetBufferList], memory: &mut Memory, after: &mut After<'a, P>) {
        while !after.next.is_empty() {
            self.round(lists, memory, after);
        }
        after.journal.settle(lists);
    }

    fn round(&self, lists: &mut [NetBufferList], memory: &mut Memory, after: &mut After<'a, P>) {
        let mut tasks = core::mem::take(&mut after.next);
        // Those after AH and those after ESP, in the packets' order again.
        tasks.sort_unstable_by_key(|task| task.index);
        if tasks.iter().any(|task| task.operation == Operation::Ah) {
            // Those with AH are done before those without.
            after.journal.open();
            self.verify(&tasks, lists, memory, after);
        }
        self.open(&tasks, lists, &mut memory.scratch, after);
    }

    /// Finds the first header of a frame's packet that is to be worked on, and notes where its IP header begins.
    pub(super) fn classify(&self, frame: &[u8], l3_offset: &mut u16, index: u32) -> Class<'a, P> {
        *l3_offset = ip_offset(self.medium, frame);
        let l3_offset = usize::from(*l3_offset);
        if !announces_ip(self.medium, frame, l3_offset) {
            return Class::Untouched;
        }
        let Some(bytes) = frame.get(l3_offset..) else { return Class::Untouched };
        let Some(portion) = self.finder.parse(bytes) else { return Class::Untouched };
        let Some(header) = portion.ipsec else { return Class::Untouched };
        if !self.finder.word.receives(portion.version()) {
            return Class::Untouched;
        }
        if !self.finder.within_capabilities(&portion) || !self.finder.word.takes_link(l3_offset) {
            return Class::Outside;
        }
        match self.finder.find(bytes, portion.version(), header, Position::Outer) {
            Hit::Nobody => Class::Nobody,
            Hit::Outside => Class::Outside,
            Hit::Unfit(sa, status) => Class::Unfit(sa, status),
            Hit::Fit(sa) => Class::Task(Task {
                sa,
                index,
                ip: l3_offset as u32,
                at: (l3_offset + header.offset()) as u32,
                end: (l3_offset + header.end()) as u32,
                operation: header.operation(),
                position: Position::Outer,
                udp: header.udp_port().is_some(),
            }),
        }
    }

    /// Ends a portion that was good in all, and goes on to the packet in it if it has one that is this NIC's too.
    #[inline(always)]
    pub(super) fn conclude(&self, task: &Task<'a, P>, sequence: u64, carried: &Carried<'_>, oob: &mut OutOfBand, after: &mut After<'a, P>) {
        let good = End::Good { sequence, tunnel: carried.tunnel };
        if after.journal.is_open() {
            after.journal.note(task, good);
        } else {
            conclude(task.sa, task.operation, task.position, good, oob);
        }
        if carried.tunnel && task.position == Position::Outer && self.nests(carried.payload) {
            match self.descend(task, carried.payload, carried.at(task)) {
                Some(Ok(inner)) => {
                    // The packets after it are opened before what is in it.
                    after.journal.open();
                    after.next.push(inner);
                }
                Some(Err((sa, status))) => after.journal.note_unfit(sa, task.index, Position::Inner, status),
                None => {}
            }
        }
    }

    /// Whether the packet in a tunnel may have a header that is to be worked on.
    #[inline(always)]
    pub(super) fn nests(&self, packet: &[u8]) -> bool {
        may_nest(packet, self.finder.ports) && self.finder.word.nests()
    }

    /// The first header of the packet in a tunnel, or what is wrong with it. `None`: it stays as it is.
    #[inline(never)]
    fn descend(&self, outer: &Task<'a, P>, bytes: &[u8], at: usize) -> Option<Found<'a, P>> {
        let portion = self.finder.parse(bytes)?;
        let header = portion.ipsec?;
        // No UDP over UDP (OV2-RECV-7).
        if !self.finder.within_capabilities(&portion) || outer.udp && header.udp_port().is_some() {
            return None;
        }
        let (sa, fit) = match self.finder.find(bytes, portion.version(), header, Position::Inner) {
            Hit::Nobody | Hit::Outside => return None,
            Hit::Unfit(sa, status) => (sa, Err((sa, status))),
            Hit::Fit(sa) => (sa, Ok(())),
        };
        // A bundle does not protect its own packets again.
        if core::ptr::eq(sa, outer.sa) {
            return None;
        }
        let udp = outer.udp || header.udp_port().is_some();
        Some(fit.map(|()| Task {
            sa,
            index: outer.index,
            ip: at as u32,
            at: (at + header.offset()) as u32,
            end: (at + header.end()) as u32,
            operation: header.operation(),
            position: Position::Inner,
            udp,
        }))
    }
}

/// Whether a packet of either version can have an IPsec header, by what it says of the next one.
#[inline(always)]
fn may_nest(packet: &[u8], ports: &Ports) -> bool {
    let ipv4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let Some(&next) = packet.get(if ipv4 { 9 } else { 6 }) else { return false };
    match IpProtocol(next) {
        IpProtocol::ESP | IpProtocol::AH => true,
        IpProtocol::UDP => may_carry(packet, ports),
        // They may come before one.
        protocol => !ipv4 && protocol.is_ipv6_extension(),
    }
}

/// Whether a UDP packet goes to a port that is looked into, as far as can be told at once.
#[inline(never)]
fn may_carry(packet: &[u8], ports: &Ports) -> bool {
    // The destination port, behind a header without options.
    let behind = match packet {
        [0x45, ..] => packet.get(IPV4_HEADER_LEN + 2..),
        [first, ..] if first >> 4 == 6 => packet.get(IPV6_HEADER_LEN + 2..),
        _ => return true,
    };
    behind.and_then(|rest| rest.first_chunk()).is_some_and(|port| ports.contains(u16::from_be_bytes(*port)))
}

/// What a portion carries after its last header: whether it is an IP packet (OV2-RECV-5a).
///
/// # Errors
/// [`CryptoStatus::GenericError`]: the header says that it is, and the packet is none of that version (OV2-OOB-5).
#[inline]
pub(super) fn carries_tunnel(next_header: IpProtocol, payload: &[u8]) -> Result<bool, CryptoStatus> {
    let announced = match next_header {
        IpProtocol::IPV4 => 4,
        IpProtocol::IPV6 => 6,
        _ => return Ok(false),
    };
    if payload.first().is_some_and(|first| first >> 4 == announced) { Ok(true) } else { Err(CryptoStatus::GenericError) }
}

/// Reports that the only portion was good.
#[inline(always)]
pub(super) fn report_good(oob: &mut OutOfBand, delete: bool) {
    oob.set_ipsec_receive(IpsecReceive { sa_delete_request: delete, ..IpsecReceive::GOOD });
}

/// Reports how a portion ended.
#[inline]
pub(super) fn report(oob: &mut OutOfBand, position: Position, delete: bool, crypto_status: CryptoStatus) {
    let (next_crypto_done, delete) = match position {
        Position::Outer => (false, delete),
        // The outer one was good, and has been reported.
        Position::Inner => (true, delete || oob.ipsec_receive().sa_delete_request),
    };
    oob.set_ipsec_receive(IpsecReceive { sa_delete_request: delete, crypto_done: true, next_crypto_done, crypto_status });
}

/// Reports the trailer of an ESP that was good: the innermost one stays (OV2-OOB-3).
#[inline]
pub(super) fn report_trailer(oob: &mut OutOfBand, next_header: u8, pad_length: u8) {
    oob.set_header_receive(Some(HeaderReceive { next_header, pad_length }));
}
