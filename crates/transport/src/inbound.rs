//! The way in: what the NIC reports or software finds, replay, protection taken off, policy (RFC 4301 section 5.2, OV2-RECV-6).
//!
//! A chunk of packets goes through rounds, one for each layer of protection; a round has three stages: find each packet's SA, open in software what the
//! NIC has not, take the layer off what is authentic. Most packets have one layer, and most chunks one round.

use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;
use ipsec::{OpenBatch, Provider, Replay, ReplayWindow, SealJob};
use ndis::{CryptoStatus, IpsecReceive, LaneContext, NblBatch, NetBufferList, Operation};
use packet::{FragmentState, Frame, FrameBatch, IpAddress, IpProtocol, ParsedIp, Spi, Time};
use sa_table::{Guard, Handle};
use std::sync::MutexGuard;

use crate::event::AuditEvent;
use crate::framing::{Payload, strip_transport, strip_tunnel};
use crate::lane::{CHUNK, TransportLane, as_announced, ip_at};
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
    /// Layers that were taken off.
    depth: u8,
    /// At least one layer was opened in software.
    software: bool,
    l3: usize,
    /// Length of the IP packet as it came.
    length: usize,
    addresses: Option<(IpAddress, IpAddress)>,
    associations: ArrayVec<AssociationSeen, MAX_ASSOCIATIONS>,
}

/// How far a packet is.
enum Step<'a, P: Provider> {
    /// It is to be looked at: as it came, or after a layer was taken off.
    Look,
    /// To be opened in software.
    Open(Layer<'a, P>),
    /// What cryptography has to say is known. The rest is decided in the order in which the packets came.
    Decide(Layer<'a, P>, Finding),
    /// At its end.
    End(Verdict),
}

/// What is known of a layer when it comes to deciding.
#[derive(Clone, Copy)]
enum Finding {
    /// Software opened it: authentic under the layer's number.
    Opened,
    /// Software could not: not authentic under the layer's number.
    Forged,
    /// The NIC opened it, under the number that it took it to have.
    NicOpened,
    /// The NIC did not open it, for this reason; its bytes are as they came.
    NicRefused(DropReason),
}

/// A layer of ESP. Offsets are in bytes from the start of the frame.
struct Layer<'a, P: Provider> {
    handle: Handle,
    sa: &'a Sa<P>,
    /// The number that the packet carries, or its low half.
    low: u32,
    /// What it is taken to be; authenticated once software has opened the layer.
    sequence: u64,
    esp: usize,
    /// Where the ICV ends.
    end: usize,
    /// Offset of the byte that says "ESP" from the start of the IP header.
    pointer: usize,
    /// How often software tried to open it.
    tries: u8,
}

/// How often a layer is opened in software, under one number and another.
const MAX_TRIES: u8 = 3;

/// What becomes of a layer in the end.
enum Decision {
    /// It was taken off.
    Off,
    /// It is to be opened (again), under this number.
    Open(u64),
    Drop(DropReason),
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
        for lists in received.chunks_mut(CHUNK) {
            let Self { shared, sad, snapshot, counters, news, audit, scratch, .. } = self;
            let guard = sad.enter();
            let mut chunk = Chunk { shared, snapshot, guard: &guard, counters: &counters.inbound, news, now: cx.now };
            let mut items: ArrayVec<Item<'_, P>, CHUNK> = lists.iter().map(|nbl| Item::new(nbl)).collect();
            // Every round takes a layer off each packet that goes on, or tries one of a few numbers: it ends.
            loop {
                chunk.look_at_all(&mut items, lists);
                if items.iter().any(|item| matches!(item.step, Step::Open(_))) {
                    chunk.open(&mut items, lists, scratch);
                }
                if !chunk.decide_all(&mut items, lists) {
                    break;
                }
            }
            for (item, nbl) in items.iter().zip(lists.iter_mut()) {
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
            depth: 0,
            software: false,
            l3: 0,
            length: nbl.buffer.len(),
            addresses: None,
            associations: ArrayVec::new(),
        }
    }

    /// What the NIC says of the present layer; `None`: it has not done it.
    fn nic_status(&self) -> Option<CryptoStatus> {
        match self.depth {
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
    /// First stage: whose packets these are.
    fn look_at_all(&mut self, items: &mut ArrayVec<Item<'a, P>, CHUNK>, lists: &[NetBufferList]) {
        let mut locked = Locked::default();
        for (item, nbl) in items.iter_mut().zip(lists) {
            if matches!(item.step, Step::Look) {
                item.step = self.look(item, nbl, &mut locked);
            }
        }
    }

    fn look(&mut self, item: &mut Item<'a, P>, nbl: &NetBufferList, locked: &mut Locked<'a>) -> Step<'a, P> {
        let frame = nbl.buffer.as_slice();
        let first = item.depth == 0;
        let mut announced = None;
        if first {
            let Some((l3, version)) = ip_at(self.shared.medium, frame) else {
                return Step::End(self.clear(item, self.snapshot.spd.non_ip));
            };
            (item.l3, item.length, announced) = (l3, frame.len().saturating_sub(l3), version);
        }
        let parsed = ParsedIp::parse(frame.get(item.l3..).unwrap_or_default());
        let Some(parsed) = as_announced(&parsed, announced) else {
            return Step::End(Verdict::Dropped(DropReason::Malformed));
        };
        if first {
            item.length = parsed.total_len();
            item.addresses = Some((parsed.src(), parsed.dst()));
        }
        match self.find(parsed, frame, item.l3) {
            Found::Sa(handle, sa, low) => self.layer(item, frame, parsed, (handle, sa, low), locked),
            Found::Not(reason, about) if first || about.is_some() => {
                if let Some((handle, sa, low)) = about {
                    let sequence = locked.window(handle, sa).map_or(u64::from(low), |window| sa.infer(window, low));
                    // A full list already tells of more layers than there can be.
                    let _ = item.associations.try_push(AssociationSeen { operation: Operation::Esp, spi: sa.spi, sequence });
                }
                Step::End(Verdict::Dropped(reason))
            }
            Found::Nothing if first => Step::End(self.clear(item, self.snapshot.spd.inbound_clear(&flow(parsed)))),
            // Out of a tunnel, and about no SA that can be named: whole as far as the tunnel is concerned.
            Found::Nothing | Found::Not(..) => Step::End(Verdict::Delivered),
        }
    }

    /// The SA of a packet's outermost IPsec header.
    fn find(&self, parsed: &ParsedIp, frame: &[u8], l3: usize) -> Found<'a, P> {
        let protocol = parsed.protocol();
        if protocol != IpProtocol::ESP && protocol != IpProtocol::AH {
            return Found::Nothing;
        }
        let fragment = parsed.fragment();
        if fragment == FragmentState::Later {
            // It shows no SPI. If it can be one of ours, it must not go on as if it were not.
            let ours = protocol == IpProtocol::ESP && self.snapshot.is_peer(parsed.src(), parsed.dst());
            return if ours { Found::Not(DropReason::Fragment, None) } else { Found::Nothing };
        }
        let payload = parsed.payload(&frame[l3..]);
        let hit = |spi: [u8; 4]| self.guard.find(&key(Spi::from_be_bytes(spi), parsed.dst())).find(|(_, sa)| sa.accepts_source(parsed.src()));
        if protocol == IpProtocol::AH {
            // All SAs here are ESP's: whoever sends AH under the SPI of one has the wrong header (OV2-RECV-3).
            let Some(&[s0, s1, s2, s3, n0, n1, n2, n3]) = payload.get(4..).and_then(<[u8]>::first_chunk) else { return Found::Nothing };
            return hit([s0, s1, s2, s3])
                .map_or(Found::Nothing, |(handle, sa)| Found::Not(DropReason::InvalidProtocol, Some((handle, sa, u32::from_be_bytes([n0, n1, n2, n3])))));
        }
        let Some(&[s0, s1, s2, s3, n0, n1, n2, n3]) = payload.first_chunk() else {
            return Found::Not(DropReason::Malformed, None);
        };
        let low = u32::from_be_bytes([n0, n1, n2, n3]);
        match hit([s0, s1, s2, s3]) {
            Some((handle, sa)) if fragment.is_part() => Found::Not(DropReason::Fragment, Some((handle, sa, low))),
            Some((handle, sa)) => Found::Sa(handle, sa, low),
            None => Found::Nothing,
        }
    }

    /// What is to be done with a layer of ESP whose SA is known.
    fn layer(
        &mut self,
        item: &mut Item<'a, P>,
        frame: &[u8],
        parsed: &ParsedIp,
        (handle, sa, low): (Handle, &'a Sa<P>, u32),
        locked: &mut Locked<'a>,
    ) -> Step<'a, P> {
        if item.depth == 0 && item.nic.sa_delete_request && !sa.delete_requested.swap(true, Ordering::Relaxed) {
            self.news.push(LaneNews::DeleteRequested(handle));
        }
        let Some(window) = locked.window(handle, sa) else { return Step::End(Verdict::Dropped(DropReason::InvalidProtocol)) };
        let sequence = sa.infer(window, low);
        let seen = AssociationSeen { operation: Operation::Esp, spi: sa.spi, sequence };
        if item.associations.try_push(seen).is_err() {
            return Step::End(Verdict::Dropped(DropReason::Unsupported));
        }
        let (esp, end) = (item.l3 + parsed.header_len(), item.l3 + parsed.total_len());
        let layer = Layer { handle, sa, low, sequence, esp, end, pointer: parsed.protocol_offset(), tries: 0 };
        if sa.lifetime.is_over() {
            return Step::End(Verdict::Dropped(DropReason::Expired));
        }
        // Neither opened nor looked at further if it is too short for header, IV, trailer and ICV.
        if sa.esp.text(frame[layer.esp..layer.end].len()).is_err() {
            return Step::End(Verdict::Dropped(DropReason::Malformed));
        }
        match item.nic_status() {
            Some(CryptoStatus::Success) => Step::Decide(layer, Finding::NicOpened),
            // What it refused it refused under an SA of its own. Unless that can be this one, the transport looks for itself (OV2-RECV-3).
            Some(CryptoStatus::GenericError | CryptoStatus::InvalidPacketSyntax) if sa.offload_handle().is_some() => {
                Step::Decide(layer, Finding::NicRefused(DropReason::Malformed))
            }
            Some(
                CryptoStatus::TransportAhAuthFailed
                | CryptoStatus::TransportEspAuthFailed
                | CryptoStatus::TunnelAhAuthFailed
                | CryptoStatus::TunnelEspAuthFailed,
            ) if sa.offload_handle().is_some() => Step::Decide(layer, Finding::NicRefused(DropReason::AuthFailed)),
            // Also where the number is against it: what cannot be proved is forged and not repeated, whoever finds out (OV2-TRANS-3).
            _ => Step::Open(layer),
        }
    }

    /// Second stage: software opens what the NIC has not.
    fn open(&self, items: &mut ArrayVec<Item<'a, P>, CHUNK>, lists: &mut [NetBufferList], scratch: &mut ipsec::Scratch) {
        let mut jobs: OpenBatch<'_, P::Key> = ArrayVec::new();
        let mut owners: ArrayVec<usize, CHUNK> = ArrayVec::new();
        for (at, (item, nbl)) in items.iter_mut().zip(lists.iter_mut()).enumerate() {
            let Step::Open(layer) = &mut item.step else { continue };
            item.software = true;
            layer.tries += 1;
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
            items[at].step = Step::Decide(layer, if job.verdict.is_good() { Finding::Opened } else { Finding::Forged });
        }
    }

    /// Third stage, packet by packet in their order: replay, and what is authentic and new loses a layer. Returns whether any packet goes on.
    fn decide_all(&mut self, items: &mut ArrayVec<Item<'a, P>, CHUNK>, lists: &mut [NetBufferList]) -> bool {
        let mut again = false;
        let mut locked = Locked::default();
        let mut run = Run::default();
        for (item, nbl) in items.iter_mut().zip(lists) {
            let Step::Decide(layer, finding) = item.step else { continue };
            let Some(window) = locked.window(layer.handle, layer.sa) else { continue };
            run.switch(layer.sa);
            item.step = match self.decide(item, nbl, layer, finding, window, &mut run) {
                Decision::Off => {
                    item.depth += 1;
                    Step::Look
                }
                Decision::Open(sequence) => Step::Open(Layer { sequence, ..layer }),
                Decision::Drop(reason) => Step::End(Verdict::Dropped(reason)),
            };
            again |= !matches!(item.step, Step::End(_));
        }
        run.end();
        again
    }

    fn decide(
        &mut self,
        item: &mut Item<'a, P>,
        nbl: &mut NetBufferList,
        layer: Layer<'a, P>,
        finding: Finding,
        window: &mut ReplayWindow,
        run: &mut Run<'a, P>,
    ) -> Decision {
        let sa = layer.sa;
        // Packets before this one may have moved the window since it was looked at, and with it what the low half means.
        let sequence = match finding {
            Finding::Opened => layer.sequence,
            _ => sa.infer(window, layer.low),
        };
        if let Some(seen) = item.associations.last_mut() {
            seen.sequence = sequence;
        }
        // First whether it is authentic, then whether its number is new: a forged packet is called forged whatever its number says.
        match finding {
            Finding::Forged if sequence != layer.sequence && layer.tries < MAX_TRIES => return Decision::Open(sequence),
            Finding::Forged => return Decision::Drop(DropReason::AuthFailed),
            // The NIC may have taken the number for another: not told yet of the wrap of the low half, or behind.
            Finding::NicRefused(_) if sa.extended() && (sequence >> 32) as u32 != sa.nic.high() => return Decision::Open(sequence),
            Finding::NicRefused(reason) => return Decision::Drop(reason),
            Finding::Opened | Finding::NicOpened => {}
        }
        if let Some(reason) = replay_drop(window.check(sequence)) {
            return Decision::Drop(reason);
        }
        if matches!(finding, Finding::NicOpened) {
            if !is_certain(sa, window, sequence) && !self.proves(nbl, &layer, sequence) {
                // The NIC may have opened it under the number that it had before others of this chunk.
                let earlier = layer.sequence != sequence && self.proves(nbl, &layer, layer.sequence);
                let replay = if earlier { replay_drop(window.check(layer.sequence)) } else { None };
                return Decision::Drop(replay.unwrap_or(DropReason::AuthFailed));
            }
            if sa.extended() {
                sa.nic.updated((sequence >> 32) as u32);
            }
        }
        match self.take_off(item, nbl, &layer, sequence, window, run) {
            Ok(()) => Decision::Off,
            Err(reason) => Decision::Drop(reason),
        }
    }

    /// Whether a decrypted packet's ICV is that of `sequence` under the layer's SA: made anew and compared.
    #[cold]
    fn proves(&self, nbl: &NetBufferList, layer: &Layer<'a, P>, sequence: u64) -> bool {
        let Some(mut esp) = nbl.buffer.as_slice().get(layer.esp..layer.end).map(<[u8]>::to_vec) else { return false };
        // A job of opening has the packet's own IV; one of sealing would make another.
        let Ok(job) = layer.sa.esp.open_job(&mut esp, sequence) else { return false };
        let mut icv = vec![0; job.tag.len()];
        let expected = job.tag;
        let mut jobs = [SealJob::new(job.key, job.nonce, job.aad, job.data, &mut icv)];
        self.shared.provider.seal(&mut jobs);
        let sealed = jobs[0].verdict.is_good();
        sealed && secret::ct_eq(&icv, expected)
    }

    fn take_off(
        &mut self,
        item: &Item<'a, P>,
        nbl: &mut NetBufferList,
        layer: &Layer<'a, P>,
        sequence: u64,
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
        if let Some(reason) = replay_drop(window.update(sequence)) {
            return Err(reason);
        }
        let carried = match sa.mode {
            Mode::Transport => layer.esp - item.l3 + length,
            Mode::Tunnel => length,
        };
        self.admit(layer, sequence, carried, run)?;
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
                let parsed = ParsedIp::parse(inner);
                let parsed = parsed.as_ref().map_err(|_| malformed)?;
                if !merge_ecn(class, inner) || !sa.selects(|| flow(parsed)) {
                    return Err(DropReason::Policy);
                }
                strip_tunnel(&mut nbl.buffer, item.l3, start, parsed.total_len(), announced == IpProtocol::IPV4);
                return Ok(());
            }
        }
        let parsed = ParsedIp::parse(&nbl.buffer.as_slice()[item.l3..]);
        let parsed = parsed.as_ref().map_err(|_| malformed)?;
        if sa.selects(|| flow(parsed)) { Ok(()) } else { Err(DropReason::Policy) }
    }

    /// Counts an authentic packet for its SA's lifetime, and tells the control side what it must know.
    fn admit(&mut self, layer: &Layer<'a, P>, sequence: u64, length: usize, run: &mut Run<'a, P>) -> Result<(), DropReason> {
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
        if layer.sa.extended() && layer.sa.offload_handle().is_some() && layer.sa.nic.must_tell((sequence >> 32) as u32) {
            self.news.push(LaneNews::HighHalf(layer.handle));
        }
        Ok(())
    }

    /// What becomes of a packet that no SA is about.
    fn clear(&self, item: &Item<'a, P>, action: Action) -> Verdict {
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
    /// It is, or may be, one of an SA's, and cannot be opened; with the SA, and the number that its header shows, if it names one.
    Not(DropReason, Option<(Handle, &'a Sa<P>, u32)>),
}

/// The replay window that is locked: once for a run of packets of one SA.
#[derive(Default)]
struct Locked<'a>(Option<(Handle, MutexGuard<'a, ReplayWindow>)>);

impl<'a> Locked<'a> {
    #[inline]
    fn window<P: Provider>(&mut self, handle: Handle, sa: &'a Sa<P>) -> Option<&mut ReplayWindow> {
        if self.0.as_ref().is_none_or(|(locked, _)| *locked != handle) {
            // The old lock goes first: two held at once could be a deadlock.
            self.0 = None;
            self.0 = sa.replay().map(|window| (handle, window));
        }
        self.0.as_mut().map(|(_, window)| &mut **window)
    }
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
    #[inline]
    fn switch(&mut self, sa: &'a Sa<P>) {
        if self.sa.is_none_or(|present| !core::ptr::eq(present, sa)) {
            self.end();
            self.sa = Some(sa);
        }
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

/// Whether what the NIC has opened it has opened under this SA and this number.
///
/// With 32-bit numbers the number is in the packet. The high half of an extended one the NIC makes up, as the transport does, but from what it has
/// seen itself; an old packet could be good under a number that the transport takes for a new one. While both are in the same half they agree.
#[inline]
fn is_certain<P: Provider>(sa: &Sa<P>, window: &ReplayWindow, sequence: u64) -> bool {
    sa.offload_handle().is_some()
        && (!sa.extended() || {
            let high = (sequence >> 32) as u32;
            high == sa.nic.high() && window.highest().is_none_or(|highest| (highest >> 32) as u32 == high)
        })
}

fn replay_drop(replay: Replay) -> Option<DropReason> {
    match replay {
        Replay::New => None,
        // No sender uses number 0: whoever does repeats nothing, and must be refused all the same.
        Replay::Duplicate | Replay::Invalid => Some(DropReason::Replayed),
        Replay::TooOld => Some(DropReason::TooOld),
    }
}
