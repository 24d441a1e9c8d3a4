//! The way in: what the NIC reports or software finds, replay, protection taken off, policy (RFC 4301 section 5.2, OV2-RECV-6).
//!
//! Plain packets go a [swift way](crate::swift_in), in one pass. For all others, in between, there is the general way:
//!
//! A chunk of packets goes through rounds, one for each IPsec header; a round has three stages: find each packet's SA, open or authenticate in software what
//! the NIC has not, take the header off where it is authentic. Most packets have one header, and most chunks one round.

use arrayvec::ArrayVec;
use ipsec::{Provider, Scratch};
use ndis::{CryptoStatus, IpsecReceive, LaneContext, NblBatch, NetBufferList, Operation};
use packet::{ChecksumState, Frame, FrameBatch, FrameForm, IpAddress, Time};
use sa_table::{Guard, Handle};

use crate::association::Association;
use crate::event::AuditEvent;
use crate::lane::{CHUNK, TransportLane};
use crate::packet_reason::PacketReason;
use crate::sa::Sa;
use crate::spd::Action;
use crate::tasks::{self, put_tag_back};
use crate::transport::{ClearPolicy, LaneNews, Shared, Snapshot};
use crate::verdict::{AssociationSeen, DropReason, InboundVerdict, MAX_ASSOCIATIONS, Verdict, WayCounters};

/// What comes out of [`TransportLane::inbound`]; recycled by the caller.
#[derive(Debug, Default)]
pub struct InboundBatch {
    /// Packets with their protection taken off, in the order in which they came.
    pub delivered: FrameBatch,
    /// Packets that no SA was about and that may go on in clear, in the order in which they came.
    pub passed: FrameBatch,
    /// One for each packet, in the order in which they came; only with [`InboundBatch::report`].
    pub verdicts: Vec<InboundVerdict>,
    /// Whether verdicts are wanted.
    pub report: bool,
}

/// A packet of the present chunk.
pub(crate) struct Item<'a, P: Provider> {
    pub(crate) step: Step<'a, P>,
    pub(crate) nic: IpsecReceive,
    /// Bundles that were taken off.
    pub(crate) portion: u8,
    /// The bundle whose AH was taken off last: what comes next is its ESP.
    pub(crate) pending: Option<(Handle, &'a Sa<P>)>,
    /// The tunnel that was taken off last.
    pub(crate) tunnel: Option<Handle>,
    /// It carries only packets of bundles that are inside of it.
    pub(crate) only_inside: bool,
    /// Why a header was looked at in software, if one was: the first of them.
    pub(crate) software: Option<PacketReason>,
    pub(crate) l3: usize,
    /// Length of the IP packet as it came.
    pub(crate) length: usize,
    pub(crate) addresses: Option<(IpAddress, IpAddress)>,
    pub(crate) associations: ArrayVec<AssociationSeen, MAX_ASSOCIATIONS>,
}

/// How far a packet is.
pub(crate) enum Step<'a, P: Provider> {
    /// It is to be looked at: as it came, or after a header was taken off.
    Look,
    /// To be opened or authenticated in software.
    Open(Layer<'a, P>),
    /// What cryptography has to say is known. The rest is decided in the order in which the packets came.
    Decide(Layer<'a, P>, Finding),
    /// At its end.
    End(Verdict),
}

/// What is known of a header when it comes to deciding.
#[derive(Clone, Copy)]
pub(crate) enum Finding {
    /// Software opened it: authentic under the layer's number.
    Opened,
    /// Software could not: not authentic under the layer's number.
    Forged,
    /// The NIC found it good, under the number that it took it to have.
    NicOpened,
    /// The NIC did not, for this reason; its bytes are as they came.
    NicRefused(DropReason),
    /// It is not asked: whatever it would say, this is not one of the SA's packets.
    NotAsked(DropReason),
}

/// An IPsec header. Offsets are in bytes from the start of the frame.
pub(crate) struct Layer<'a, P: Provider> {
    pub(crate) handle: Handle,
    pub(crate) sa: &'a Sa<P>,
    pub(crate) association: &'a Association,
    /// The number that the packet carries, or its low half.
    pub(crate) low: u32,
    /// What it is taken to be; authenticated once software has opened the layer.
    pub(crate) sequence: u64,
    /// Where what goes with it begins: itself, or the UDP header in front.
    pub(crate) from: usize,
    pub(crate) at: usize,
    /// Where the IP packet, and an ICV at its end, ends.
    pub(crate) end: usize,
    /// Offset of the byte that names the header at `from` from the start of the IP header.
    pub(crate) pointer: usize,
    /// How often software tried to open it.
    pub(crate) tries: u8,
}

impl<P: Provider> Clone for Layer<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Provider> Copy for Layer<'_, P> {}

impl<P: Provider> TransportLane<P> {
    /// Takes packets that came up from an adapter, in order, and leaves `received` empty. Each is delivered, passed or dropped, and counted once.
    pub fn inbound(&mut self, cx: &mut LaneContext<'_>, received: &mut NblBatch, out: &mut InboundBatch) {
        self.follow();
        // Lists that are done, and where those of them begin whose packets are still in them, to be delivered.
        let (mut done, mut kept) = (0, 0);
        while done < received.len() {
            let Self { shared, sad, snapshot, counters, news, audit, scratch, masked, general_in, swiftly_in, .. } = self;
            let guard = sad.enter();
            let mut chunk = Chunk { shared, snapshot, guard: &guard, counters: &counters.inbound, news, now: cx.now };
            let mut software = Software { scratch, masked };
            let end = received.len().min(done + CHUNK);
            // What is plain and what is not take turns, in order.
            loop {
                let mut odd = end - done;
                if !*general_in {
                    let plain = chunk.swift(received.get_mut(done..end).unwrap_or_default(), out);
                    *swiftly_in += plain as u64;
                    done += plain;
                    if done == end {
                        break;
                    }
                    odd = chunk.odd(received.get(done..end).unwrap_or_default());
                }
                deliver(received.get_mut(kept..done).unwrap_or_default(), out);
                chunk.general(received.get_mut(done..done + odd).unwrap_or_default(), cx, out, audit, &mut software);
                done += odd;
                kept = done;
                if done == end {
                    break;
                }
            }
        }
        if kept == 0 {
            // As nearly always: no list is written to once more.
            out.delivered.extend(received.drain(..).map(|NetBufferList { buffer, timestamp, tag, oob, .. }| Frame {
                buffer,
                timestamp,
                tag,
                order: 0,
                form: FrameForm::PACKET,
                checksum: tasks::state(oob.checksum_report()),
            }));
        } else {
            deliver(received.get_mut(kept..).unwrap_or_default(), out);
            received.clear();
        }
        self.report();
    }
}

/// Delivers the packets of these lists, as they are. They are in no order on the wire any more.
fn deliver(lists: &mut [NetBufferList], out: &mut InboundBatch) {
    let frame = |nbl: &mut NetBufferList| Frame { order: 0, checksum: tasks::state(nbl.oob.checksum_report()), ..nbl.take_frame() };
    out.delivered.extend(lists.iter_mut().map(frame));
}

/// What opening in software takes.
struct Software<'a> {
    scratch: &'a mut Scratch,
    masked: &'a mut Vec<u8>,
}

impl<P: Provider> Item<'_, P> {
    fn new(nbl: &NetBufferList) -> Self {
        Self {
            step: Step::Look,
            nic: nbl.oob.ipsec_receive(),
            portion: 0,
            pending: None,
            tunnel: None,
            only_inside: false,
            software: None,
            l3: 0,
            length: nbl.buffer.len(),
            addresses: None,
            associations: ArrayVec::new(),
        }
    }

    /// Whether the NIC says that it has opened the portion which comes next, and that is an inner one.
    pub(crate) const fn nic_opened_inner(&self) -> bool {
        self.portion == 1 && self.nic.crypto_done && self.nic.next_crypto_done && matches!(self.nic.crypto_status, CryptoStatus::Success)
    }

    /// What the NIC says of a header of `sa` in the present portion.
    #[inline]
    pub(crate) fn nic_says(&self, sa: &Sa<P>, operation: Operation) -> NicSays {
        nic_says(self.nic, self.portion, sa, operation)
    }
}

/// What the NIC says of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NicSays {
    /// It has not done it, or could not make sense of it: the transport looks for itself (OV2-RECV-3).
    Nothing,
    /// It is good.
    Good,
    /// It is not, for this reason, and its bytes are as they came.
    Bad(DropReason),
}

/// What the NIC says of a header of the bundle `sa`, which is the packet's `portion`, counted from the outside. It does the outer portion before the inner,
/// AH before ESP, and stops at the first failure (OV2-RECV-5).
#[inline]
pub(crate) fn nic_says<P: Provider>(nic: IpsecReceive, portion: u8, sa: &Sa<P>, operation: Operation) -> NicSays {
    let last = u8::from(nic.next_crypto_done);
    if !nic.crypto_done || portion > last {
        return NicSays::Nothing;
    }
    if portion < last {
        return NicSays::Good;
    }
    let (first, last) = (operation == sa.first(), operation == sa.last());
    let unless = |failed: bool, reason, otherwise| if failed { NicSays::Bad(reason) } else { otherwise };
    match nic.crypto_status {
        CryptoStatus::Success => NicSays::Good,
        // The ICVs were good, and what the last of the headers announces is not what is there.
        CryptoStatus::GenericError => unless(last, DropReason::Malformed, NicSays::Good),
        CryptoStatus::TransportAhAuthFailed | CryptoStatus::TunnelAhAuthFailed => unless(first, DropReason::AuthFailed, NicSays::Nothing),
        CryptoStatus::TransportEspAuthFailed | CryptoStatus::TunnelEspAuthFailed => unless(last, DropReason::AuthFailed, NicSays::Good),
        CryptoStatus::InvalidPacketSyntax | CryptoStatus::InvalidProtocol => NicSays::Nothing,
    }
}

/// What the stages of a chunk work with.
pub(crate) struct Chunk<'a, 'guard, P: Provider> {
    pub(crate) shared: &'a Shared<P>,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) guard: &'a Guard<'guard, Sa<P>>,
    counters: &'a WayCounters,
    pub(crate) news: &'a mut Vec<LaneNews>,
    pub(crate) now: Time,
}

impl<'a, P: Provider> Chunk<'a, '_, P> {
    /// Takes packets of any kind, at most [`CHUNK`].
    // Not inlined: what it keeps of so many packets is far more than the swift way should have between its own.
    #[inline(never)]
    fn general(
        &mut self,
        lists: &mut [NetBufferList],
        cx: &mut LaneContext<'_>,
        out: &mut InboundBatch,
        audit: &mut Vec<AuditEvent>,
        software: &mut Software<'_>,
    ) {
        let mut items: ArrayVec<Item<'_, P>, CHUNK> = lists.iter().map(|nbl| Item::new(nbl)).collect();
        // Every round takes a header off each packet that goes on, or tries one of a few numbers: it ends.
        loop {
            self.look_at_all(&mut items, lists);
            if items.iter().any(|item| matches!(item.step, Step::Open(_))) {
                self.open(&mut items, lists, software.scratch, software.masked);
            }
            if !self.decide_all(&mut items, lists) {
                break;
            }
        }
        for (item, nbl) in items.iter().zip(lists.iter_mut()) {
            self.finish(item, nbl, cx, out, audit);
        }
    }

    /// Counts packets that the NIC has opened, all of them delivered.
    pub(crate) fn count_opened(&self, packets: u64, bytes: u64) {
        self.counters.seen.add_all(packets, bytes);
        self.counters.offloaded.add_all(packets, bytes);
    }

    /// What becomes of a packet that no SA is about.
    pub(crate) fn clear(&self, item: &Item<'a, P>, action: Action) -> Verdict {
        // The NIC has one that it is about, which the transport has just removed: what lies here is no longer what came.
        if item.nic.crypto_done && (item.nic.next_crypto_done || item.nic.crypto_status == CryptoStatus::Success) {
            return Verdict::Dropped(DropReason::Policy);
        }
        match (self.shared.clear, action) {
            (ClearPolicy::PassAll, _) | (ClearPolicy::Decide, Action::Bypass) => Verdict::Passed,
            (ClearPolicy::Decide, _) => Verdict::Dropped(DropReason::Policy),
        }
    }

    /// Counts a packet, and hands it to whom it belongs.
    fn finish(&self, item: &Item<'a, P>, nbl: &mut NetBufferList, cx: &mut LaneContext<'_>, out: &mut InboundBatch, audit: &mut Vec<AuditEvent>) {
        let verdict = match item.step {
            Step::End(verdict) => verdict,
            // The rounds went on until every packet was at its end.
            Step::Look | Step::Open(_) | Step::Decide(..) => Verdict::Dropped(DropReason::Unsupported),
        };
        let counters = self.counters;
        counters.seen.add(item.length);
        if out.report {
            out.verdicts.push(InboundVerdict {
                tag: nbl.tag,
                crypto_done: item.nic.crypto_done,
                next_crypto_done: item.nic.next_crypto_done,
                crypto_status: item.nic.crypto_done.then_some(item.nic.crypto_status),
                associations: item.associations.clone(),
                verdict,
            });
        }
        // It was taken out for this adapter; whoever gets the packet looks for it in the frame.
        let verdict = if nbl.oob.ieee8021q == 0 || put_tag_back(nbl, cx.pool) { verdict } else { Verdict::Dropped(DropReason::TooBig) };
        let buffer = core::mem::take(&mut nbl.buffer);
        let mut frame = Frame { buffer, timestamp: nbl.timestamp, tag: nbl.tag, ..Frame::default() };
        match verdict {
            Verdict::Delivered => {
                // What the NIC has verified is what it saw in the end, if that is all there was to open.
                frame.checksum = if item.software.is_none() { tasks::state(nbl.oob.checksum_report()) } else { ChecksumState::Unknown };
                match item.software {
                    Some(reason) => counters.add_software(reason, 1, item.length as u64),
                    None => counters.offloaded.add(item.length),
                }
                out.delivered.push(frame);
            }
            Verdict::Passed => {
                frame.checksum = tasks::state(nbl.oob.checksum_report());
                counters.clear.add(item.length);
                out.passed.push(frame);
            }
            Verdict::Dropped(reason) => {
                counters.dropped[reason as usize].add(item.length);
                let last = item.associations.last();
                audit.push(AuditEvent {
                    time: self.now,
                    reason,
                    // Whether software has looked at what failed otherwise depends on what came with it.
                    software: item.software.filter(|_| matches!(reason, DropReason::NotOffloaded | DropReason::Fragment)),
                    source: item.addresses.map(|(source, _)| source),
                    destination: item.addresses.map(|(_, destination)| destination),
                    association: last.map(|seen| (seen.operation, seen.spi)),
                    sequence: last.map(|seen| seen.sequence),
                });
                cx.pool.give(frame.buffer);
            }
        }
    }
}
