//! The way in: what the NIC reports or software finds, replay, protection taken off, policy (RFC 4301 section 5.2, OV2-RECV-6).
//!
//! A chunk of packets goes through rounds, one for each layer of protection; a round has three stages: find each packet's SA, open in software what the
//! NIC has not, take the layer off what is authentic. Most packets have one layer, and most chunks one round.

use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;
use ipsec::{OpenBatch, Provider, Replay, ReplayWindow};
use ndis::{CryptoStatus, IpsecReceive, LaneContext, NblBatch, NetBufferList, Operation};
use packet::{FragmentState, Frame, FrameBatch, IpAddress, IpProtocol, IpVersion, ParsedIp, Spi, Time};
use sa_table::{Guard, Handle};
use std::sync::MutexGuard;

use crate::event::AuditEvent;
use crate::framing::{Payload, strip_transport, strip_tunnel};
use crate::lane::{CHUNK, TransportLane, l3_offset};
use crate::lifetime::Life;
use crate::outbound::flow;
use crate::outer::{Inner, merge_ecn};
use crate::parameters::Mode;
use crate::sa::{Sa, key};
use crate::spd::Action;
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
struct Item<'a, P: Provider> {
    step: Step<'a, P>,
    nic: IpsecReceive,
    l3: usize,
    /// Length of the IP packet as it came.
    length: usize,
    addresses: Option<(IpAddress, IpAddress)>,
    associations: ArrayVec<AssociationSeen, MAX_ASSOCIATIONS>,
    /// At least one layer was opened in software.
    software: bool,
}

/// How far a packet is.
enum Step<'a, P: Provider> {
    /// It is to be looked at: as it came, or after a layer was taken off.
    Look,
    /// To be opened in software.
    Open(Layer<'a, P>),
    /// Authentic and decrypted.
    Authentic(Layer<'a, P>),
    /// At its end.
    End(Verdict),
}

/// A layer of ESP. Offsets are in bytes from the start of the frame.
struct Layer<'a, P: Provider> {
    handle: Handle,
    sa: &'a Sa<P>,
    sequence: u64,
    esp: usize,
    /// Where the ICV ends.
    end: usize,
    /// Offset of the byte that says "ESP" from the start of the IP header.
    pointer: usize,
    /// Numbers are extended and none was verified yet: which high half the next packets have is known when this one is.
    first: bool,
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
        let mut rest = received.as_mut_slice();
        while !rest.is_empty() {
            let Self { shared, sad, snapshot, counters, news, audit, scratch, .. } = self;
            let guard = sad.enter();
            let mut chunk = Chunk { shared, snapshot, guard: &guard, counters: &counters.inbound, news, now: cx.now };
            let mut items: ArrayVec<Item<'_, P>, CHUNK> = rest.iter().take(CHUNK).map(|nbl| Item::new(nbl)).collect();
            for depth in 0..=MAX_ASSOCIATIONS {
                let (mut open, mut end) = (false, items.len());
                for (at, (item, nbl)) in items.iter_mut().zip(rest.iter()).enumerate() {
                    if matches!(item.step, Step::Look) {
                        item.step = chunk.look(item, nbl, depth);
                    }
                    open |= matches!(item.step, Step::Open(_));
                    if depth == 0 && item.ends_chunk() {
                        end = at + 1;
                        break;
                    }
                }
                items.truncate(end);
                let lists = &mut rest[..items.len()];
                if open {
                    chunk.open(&mut items, lists, scratch);
                }
                if !chunk.take_off(&mut items, lists) {
                    break;
                }
            }
            let (lists, left) = rest.split_at_mut(items.len());
            rest = left;
            for (item, nbl) in items.iter().zip(lists) {
                chunk.finish(item, nbl, cx, out, audit);
            }
        }
        received.clear();
        self.report();
    }
}

impl<P: Provider> Item<'_, P> {
    fn new(nbl: &NetBufferList) -> Self {
        Self {
            step: Step::Look,
            nic: nbl.oob.ipsec_receive(),
            l3: 0,
            length: nbl.buffer.len(),
            addresses: None,
            associations: ArrayVec::new(),
            software: false,
        }
    }

    /// Whether the packets after this one have to wait until it was verified.
    fn ends_chunk(&self) -> bool {
        matches!(self.step, Step::Open(Layer { first: true, .. }) | Step::Authentic(Layer { first: true, .. }))
    }

    /// What the NIC says of the layer at `depth`; `None`: it has not done it.
    fn nic_status(&self, depth: usize) -> Option<CryptoStatus> {
        match depth {
            0 if !self.nic.crypto_done => None,
            // Both portions were done: a failure is the inner one's, for the NIC stops at the first.
            0 if self.nic.next_crypto_done => Some(CryptoStatus::Success),
            0 => Some(self.nic.crypto_status),
            1 if self.nic.crypto_done && self.nic.next_crypto_done => Some(self.nic.crypto_status),
            _ => None,
        }
    }
}

/// What the stages of a chunk work with.
struct Chunk<'a, 'guard, P: Provider> {
    shared: &'a Shared<P>,
    snapshot: &'a Snapshot,
    guard: &'a Guard<'guard, Sa<P>>,
    counters: &'a WayCounters,
    news: &'a mut Vec<LaneNews>,
    now: Time,
}

impl<'a, P: Provider> Chunk<'a, '_, P> {
    /// First stage: whose packet this is.
    fn look(&mut self, item: &mut Item<'a, P>, nbl: &NetBufferList, depth: usize) -> Step<'a, P> {
        let frame = nbl.buffer.as_slice();
        if depth == 0 {
            let Some(l3) = l3_offset(self.shared.medium, frame) else {
                return Step::End(self.clear(self.snapshot.spd.non_ip));
            };
            item.l3 = l3;
            item.length = frame.len() - l3;
        }
        let Ok(parsed) = ParsedIp::parse(&frame[item.l3..]) else {
            return Step::End(Verdict::Dropped(DropReason::Malformed));
        };
        if depth == 0 {
            item.length = parsed.total_len();
            item.addresses = Some((parsed.src(), parsed.dst()));
        }
        match self.find(&parsed, frame, item.l3) {
            Found::Sa(handle, sa, low) => self.layer(item, frame, &parsed, depth, (handle, sa, low)),
            Found::Fragment => Step::End(Verdict::Dropped(DropReason::Fragment)),
            Found::Cut => Step::End(Verdict::Dropped(DropReason::Malformed)),
            Found::Nothing if depth == 0 => Step::End(self.clear(self.snapshot.spd.inbound_clear(&flow(&parsed)))),
            Found::Nothing => Step::End(Verdict::Delivered),
        }
    }

    /// The SA of a packet's outermost IPsec header.
    fn find(&self, parsed: &ParsedIp, frame: &[u8], l3: usize) -> Found<'a, P> {
        if parsed.protocol() != IpProtocol::ESP {
            return Found::Nothing;
        }
        if parsed.fragment() == FragmentState::Later {
            // It shows no SPI. If it can be one of ours, it must not go on as if it were not.
            let ours = |address: IpAddress| self.snapshot.destinations.binary_search(&address).is_ok();
            let any = if parsed.version() == IpVersion::V4 { IpAddress::UNSPECIFIED_V4 } else { IpAddress::UNSPECIFIED_V6 };
            return if ours(parsed.dst()) || ours(any) { Found::Fragment } else { Found::Nothing };
        }
        let Some(&[s0, s1, s2, s3, n0, n1, n2, n3]) = parsed.payload(&frame[l3..]).first_chunk() else {
            return Found::Cut;
        };
        let spi = Spi::from_be_bytes([s0, s1, s2, s3]);
        let hit = self.guard.find(&key(spi, parsed.dst())).find(|(_, sa)| sa.accepts_source(parsed.src()));
        match hit {
            Some(_) if parsed.fragment().is_part() => Found::Fragment,
            Some((handle, sa)) => Found::Sa(handle, sa, u32::from_be_bytes([n0, n1, n2, n3])),
            None => Found::Nothing,
        }
    }

    /// What is to be done with a layer of ESP whose SA is known.
    fn layer(&mut self, item: &mut Item<'a, P>, frame: &[u8], parsed: &ParsedIp, depth: usize, (handle, sa, low): (Handle, &'a Sa<P>, u32)) -> Step<'a, P> {
        if depth == 0 && item.nic.sa_delete_request && !sa.delete_requested.swap(true, Ordering::Relaxed) {
            self.news.push(LaneNews::DeleteRequested(handle));
        }
        let Some(window) = sa.replay() else { return Step::End(Verdict::Dropped(DropReason::InvalidProtocol)) };
        let sequence = window.infer(low);
        let seen = AssociationSeen { operation: Operation::Esp, spi: sa.spi, sequence };
        if item.associations.try_push(seen).is_err() {
            return Step::End(Verdict::Dropped(DropReason::Unsupported));
        }
        let layer = Layer {
            handle,
            sa,
            sequence,
            esp: item.l3 + parsed.header_len(),
            end: item.l3 + parsed.total_len(),
            pointer: parsed.protocol_offset(),
            first: sa.extended() && window.highest().is_none(),
        };
        if sa.lifetime.is_over() {
            return Step::End(Verdict::Dropped(DropReason::Expired));
        }
        // Neither opened nor looked at further if it is too short for header, IV, trailer and ICV.
        if sa.esp.text(frame[layer.esp..layer.end].len()).is_err() {
            return Step::End(Verdict::Dropped(DropReason::Malformed));
        }
        match item.nic_status(depth) {
            Some(CryptoStatus::Success) => Step::Authentic(layer),
            // The NIC took it for another SA's: the transport looks for itself (OV2-RECV-3).
            None | Some(CryptoStatus::InvalidProtocol) => {
                item.software = true;
                match replay_drop(window.check(sequence)) {
                    Some(reason) => Step::End(Verdict::Dropped(reason)),
                    None => Step::Open(layer),
                }
            }
            Some(CryptoStatus::GenericError | CryptoStatus::InvalidPacketSyntax) => Step::End(Verdict::Dropped(DropReason::Malformed)),
            Some(
                CryptoStatus::TransportAhAuthFailed
                | CryptoStatus::TransportEspAuthFailed
                | CryptoStatus::TunnelAhAuthFailed
                | CryptoStatus::TunnelEspAuthFailed,
            ) => Step::End(Verdict::Dropped(DropReason::AuthFailed)),
        }
    }

    /// Second stage: software opens what the NIC has not.
    fn open(&self, items: &mut ArrayVec<Item<'a, P>, CHUNK>, lists: &mut [NetBufferList], scratch: &mut ipsec::Scratch) {
        let mut jobs: OpenBatch<'_, P::Key> = ArrayVec::new();
        let mut owners: ArrayVec<usize, CHUNK> = ArrayVec::new();
        for (at, (item, nbl)) in items.iter_mut().zip(lists.iter_mut()).enumerate() {
            let Step::Open(layer) = &item.step else { continue };
            let esp = nbl.buffer.as_mut_slice().get_mut(layer.esp..layer.end).unwrap_or_default();
            match layer.sa.esp.open_job(esp, layer.sequence) {
                Ok(job) => {
                    jobs.push(job);
                    owners.push(at);
                }
                Err(_) => item.step = Step::End(Verdict::Dropped(DropReason::Malformed)),
            }
        }
        self.shared.provider.open(&mut jobs, scratch);
        for (job, at) in jobs.iter().zip(owners) {
            let Step::Open(layer) = items[at].step else { continue };
            items[at].step = if job.verdict.is_good() { Step::Authentic(layer) } else { Step::End(Verdict::Dropped(DropReason::AuthFailed)) };
        }
    }

    /// Third stage: what is authentic loses a layer. Returns whether any packet has to be looked at again.
    fn take_off(&mut self, items: &mut ArrayVec<Item<'a, P>, CHUNK>, lists: &mut [NetBufferList]) -> bool {
        let mut again = false;
        // Locked once for a run of packets of one SA.
        let mut locked: Option<(Handle, MutexGuard<'_, ReplayWindow>)> = None;
        let mut run = Run::default();
        for (item, nbl) in items.iter_mut().zip(lists) {
            let Step::Authentic(layer) = item.step else { continue };
            if locked.as_ref().is_none_or(|(handle, _)| *handle != layer.handle) {
                // The old lock goes first: two held at once could be a deadlock.
                drop(locked.take());
                run.switch(layer.sa);
                locked = layer.sa.replay().map(|window| (layer.handle, window));
            }
            let Some((_, window)) = &mut locked else { continue };
            item.step = match self.take_off_one(item, nbl, &layer, window, &mut run) {
                Ok(()) => {
                    again = true;
                    Step::Look
                }
                Err(reason) => Step::End(Verdict::Dropped(reason)),
            };
        }
        run.end();
        again
    }

    fn take_off_one(
        &mut self,
        item: &Item<'a, P>,
        nbl: &mut NetBufferList,
        layer: &Layer<'a, P>,
        window: &mut ReplayWindow,
        run: &mut Run<'a, P>,
    ) -> Result<(), DropReason> {
        let sa = layer.sa;
        let malformed = DropReason::Malformed;
        let bytes = nbl.buffer.as_mut_slice();
        let text = sa.esp.text(layer.end - layer.esp).map_err(|_| malformed)?;
        let (start, text_end) = (layer.esp + text.start, layer.esp + text.end);
        let plain = bytes.get(start..text_end).ok_or(malformed)?;
        let (length, trailer) = ipsec::read_trailer(plain).map_err(|_| malformed)?;
        // The header that is announced is the header that is there; the NIC says GENERIC_ERROR where it is not (OV2-OOB-5).
        let announced = IpProtocol(trailer.next_header);
        let inner_version = plain[..length].first().map(|first| first >> 4);
        if (announced == IpProtocol::IPV4 && inner_version != Some(4)) || (announced == IpProtocol::IPV6 && inner_version != Some(6)) {
            return Err(malformed);
        }
        if let Some(reason) = replay_drop(window.update(layer.sequence)) {
            return Err(reason);
        }
        self.admit(layer, item.length, run)?;
        if announced == IpProtocol::NO_NEXT_HEADER {
            return Err(DropReason::Dummy);
        }
        match sa.mode {
            Mode::Transport => {
                let payload = Payload { esp: layer.esp, start, length, next_header: trailer.next_header };
                strip_transport(&mut nbl.buffer, item.l3, layer.pointer, payload);
            }
            Mode::Tunnel => {
                if announced != IpProtocol::IPV4 && announced != IpProtocol::IPV6 {
                    return Err(DropReason::Policy);
                }
                let class = Inner::read(&bytes[item.l3..]).traffic_class;
                let inner = &mut bytes[start..start + length];
                // Padding for traffic flow confidentiality follows the inner packet (RFC 4303 section 2.7).
                let total = ParsedIp::parse(inner).map_err(|_| malformed)?.total_len();
                if !merge_ecn(class, inner) {
                    return Err(DropReason::Policy);
                }
                strip_tunnel(&mut nbl.buffer, item.l3, start, total, announced == IpProtocol::IPV4);
            }
        }
        let parsed = ParsedIp::parse(&nbl.buffer.as_slice()[item.l3..]).map_err(|_| malformed)?;
        if sa.selects(&flow(&parsed)) { Ok(()) } else { Err(DropReason::Policy) }
    }

    /// Lifetime and events of a packet that was verified.
    fn admit(&mut self, layer: &Layer<'a, P>, length: usize, run: &mut Run<'a, P>) -> Result<(), DropReason> {
        match layer.sa.lifetime.admit(length as u64, self.now) {
            Life::Good => {}
            life @ Life::SoftReached => self.news.push(LaneNews::Life(layer.handle, life)),
            life @ Life::HardReached => {
                self.news.push(LaneNews::Life(layer.handle, life));
                return Err(DropReason::Expired);
            }
            Life::Over => return Err(DropReason::Expired),
        }
        run.count(length);
        if layer.sa.extended() {
            let high = (layer.sequence >> 32) as u32;
            if layer.sa.nic_high.load(Ordering::Relaxed) < high && layer.sa.offload_handle().is_some() {
                layer.sa.nic_high.store(high, Ordering::Relaxed);
                self.news.push(LaneNews::HighHalf(layer.handle));
            }
        }
        Ok(())
    }

    /// What becomes of a packet that no SA is about.
    fn clear(&self, action: Action) -> Verdict {
        match (self.shared.clear, action) {
            (ClearPolicy::PassAll, _) | (ClearPolicy::Decide, Action::Bypass) => Verdict::Passed,
            (ClearPolicy::Decide, _) => Verdict::Dropped(DropReason::Policy),
        }
    }

    /// Counts a packet, and hands it to whom it belongs.
    fn finish(&self, item: &Item<'a, P>, nbl: &mut NetBufferList, cx: &mut LaneContext<'_>, out: &mut InboundBatch, audit: &mut Vec<AuditEvent>) {
        let verdict = match item.step {
            Step::End(verdict) => verdict,
            // More layers than a packet can have: the rounds are over.
            Step::Look | Step::Open(_) | Step::Authentic(_) => Verdict::Dropped(DropReason::Unsupported),
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
        let buffer = core::mem::take(&mut nbl.buffer);
        let frame = Frame { buffer, timestamp: nbl.timestamp, tag: nbl.tag };
        match verdict {
            Verdict::Delivered => {
                let tally = if item.software { &counters.software } else { &counters.offloaded };
                tally.add(item.length);
                out.delivered.push(frame);
            }
            Verdict::Passed => {
                counters.clear.add(item.length);
                out.passed.push(frame);
            }
            Verdict::Dropped(reason) => {
                counters.dropped[reason as usize].add(item.length);
                let last = item.associations.last();
                audit.push(AuditEvent {
                    time: self.now,
                    reason,
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

/// What a look-up found.
enum Found<'a, P: Provider> {
    /// An SA, and the low half of the packet's sequence number.
    Sa(Handle, &'a Sa<P>, u32),
    /// No SA is about this packet.
    Nothing,
    /// A part of a packet that is, or may be, one of an SA's.
    Fragment,
    /// ESP without a whole header.
    Cut,
}

/// Packets of one SA in a row: counted together.
struct Run<'a, P: Provider> {
    sa: Option<&'a Sa<P>>,
    packets: u64,
    bytes: u64,
}

impl<P: Provider> Default for Run<'_, P> {
    fn default() -> Self {
        Self { sa: None, packets: 0, bytes: 0 }
    }
}

impl<'a, P: Provider> Run<'a, P> {
    fn switch(&mut self, sa: &'a Sa<P>) {
        self.end();
        self.sa = Some(sa);
    }

    fn count(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }

    fn end(&mut self) {
        if let Some(sa) = self.sa.take() {
            sa.lifetime.account(core::mem::take(&mut self.packets), core::mem::take(&mut self.bytes));
        }
    }
}

fn replay_drop(replay: Replay) -> Option<DropReason> {
    match replay {
        Replay::New => None,
        // No sender uses number 0: whoever does repeats nothing, and must be refused all the same.
        Replay::Duplicate | Replay::Invalid => Some(DropReason::Replayed),
        Replay::TooOld => Some(DropReason::TooOld),
    }
}
