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
use packet::{FrameBatch, IpProtocol, IpVersion, Medium};

use super::counters::Counters;
use super::journal::{After, End, Journal, conclude};
use super::lookup::{Finder, Hit};
use super::portion::Position;
use super::sa::Sa;
use crate::link::{announces_ip, ip_offset};

/// What a batch is received with.
pub(super) struct Receiver<'a, P: Provider> {
    pub(super) provider: &'a P,
    pub(super) medium: Medium,
    pub(super) finder: Finder<'a, P>,
    pub(super) counters: &'a Counters,
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

/// Packets that are left alone, of one batch.
#[derive(Default)]
struct Left {
    outside_capabilities: u64,
    no_sa: u64,
}

impl<'a, P: Provider> Receiver<'a, P> {
    /// Receives all of `frames`, and leaves it empty.
    pub(super) fn receive(&self, frames: &mut FrameBatch, up: &mut NblBatch, memory: &mut Memory) {
        let mut left = Left::default();
        let mut after = After::new();
        let first = up.len();
        up.extend(frames.drain(..).map(|frame| NetBufferList::from_frame(frame, 0)));
        for chunk in up[first..].chunks_mut(BATCH) {
            let mut tasks = Tasks::new();
            for (index, list) in (0..).zip(chunk.iter_mut()) {
                list.l3_offset = ip_offset(self.medium, list.buffer.as_slice());
                self.classify(list, index, &mut tasks, &mut after.journal, &mut left);
            }
            while !tasks.is_empty() {
                if tasks.iter().any(|task| task.operation == Operation::Ah) {
                    // Those with AH are done before those without.
                    after.journal.open();
                    self.verify(&tasks, chunk, memory, &mut after);
                }
                self.open(&tasks, chunk, &mut memory.scratch, &mut after);
                if after.next.is_empty() {
                    break;
                }
                tasks = core::mem::take(&mut after.next);
                // Those after AH and those after ESP, in the packets' order again.
                tasks.sort_unstable_by_key(|task| task.index);
            }
            after.journal.settle(chunk);
        }
        if left.outside_capabilities != 0 {
            self.counters.outside_capabilities.fetch_add(left.outside_capabilities, Ordering::Relaxed);
        }
        if left.no_sa != 0 {
            self.counters.no_sa.fetch_add(left.no_sa, Ordering::Relaxed);
        }
    }

    /// Finds the first header of a list's packet that is to be worked on, or notes what is wrong with it, or leaves the packet alone.
    #[inline(always)]
    fn classify(&self, list: &mut NetBufferList, index: u32, tasks: &mut Tasks<'a, P>, journal: &mut Journal<'a, P>, left: &mut Left) {
        let (frame, l3_offset) = (list.buffer.as_slice(), usize::from(list.l3_offset));
        if !announces_ip(self.medium, frame, l3_offset) {
            return;
        }
        let Some(bytes) = frame.get(l3_offset..) else { return };
        let Some(portion) = self.finder.parse(bytes) else { return };
        let Some(header) = portion.ipsec else { return };
        if !self.finder.word.receives(portion.version()) {
            return;
        }
        if !self.finder.within_capabilities(&portion) {
            left.outside_capabilities += 1;
            return;
        }
        match self.finder.find(bytes, portion.version(), header, Position::Outer) {
            Hit::Nobody => left.no_sa += 1,
            Hit::Outside => left.outside_capabilities += 1,
            Hit::Unfit(sa, status) => journal.note_unfit(sa, index, Position::Outer, status),
            Hit::Fit(sa) => tasks.push(Task {
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
        if carried.tunnel && task.position == Position::Outer && may_nest(carried.payload) && self.finder.word.nests() {
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
#[inline]
fn may_nest(packet: &[u8]) -> bool {
    let next = match packet.first().map(|first| first >> 4) {
        Some(4) => packet.get(9),
        _ => packet.get(6),
    };
    // All that may come before ESP or AH, or have one in it.
    next.is_some_and(|&next| {
        let protocol = IpProtocol(next);
        matches!(protocol, IpProtocol::ESP | IpProtocol::AH | IpProtocol::UDP) || protocol.is_ipv6_extension()
    })
}

/// What a portion carries after its last header: whether it is an IP packet (OV2-RECV-5a).
///
/// # Errors
/// [`CryptoStatus::GenericError`]: the header says that it is, and the packet is none of that version (OV2-OOB-5).
#[inline]
pub(super) fn carries_tunnel(next_header: IpProtocol, payload: &[u8]) -> Result<bool, CryptoStatus> {
    let announced = match next_header {
        IpProtocol::IPV4 => IpVersion::V4,
        IpProtocol::IPV6 => IpVersion::V6,
        _ => return Ok(false),
    };
    let carried = payload.first().and_then(|&byte| IpVersion::of_first_byte(byte));
    if carried == Some(announced) { Ok(true) } else { Err(CryptoStatus::GenericError) }
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
