//! The third stage of the way in, packet by packet in their order: replay, and what is authentic and new loses a header.

use arrayvec::ArrayVec;
use ipsec::{Provider, Replay, ReplayWindow};
use ndis::{NetBufferList, Operation};
use packet::{AhPacket, IpProtocol, ParsedIp};

use crate::association::Association;
use crate::inbound::{Chunk, Finding, Item, Layer, Step};
use crate::lane::CHUNK;
use crate::lifetime::Life;
use crate::look::{Found, Locked};
use crate::outer::{Inner, merge_ecn};
use crate::packet_reason::PacketReason;
use crate::parameters::Mode;
use crate::plan::flow;
use crate::sa::Sa;
use crate::stripping::{Payload, fit_checksum, strip_transport, strip_tunnel};
use crate::transport::LaneNews;
use crate::verdict::{DropReason, Verdict};

/// How often a header is looked at in software, under one number and another.
const MAX_TRIES: u8 = 3;

/// What becomes of a header in the end.
enum Decision {
    /// It was taken off.
    Off,
    /// It is to be opened (again), under this number.
    Open(u64),
    Drop(DropReason),
}

impl<'a, P: Provider> Chunk<'a, '_, P> {
    /// Returns whether any packet goes on.
    pub(crate) fn decide_all(&mut self, items: &mut ArrayVec<Item<'a, P>, CHUNK>, lists: &mut [NetBufferList]) -> bool {
        let mut again = false;
        let mut locked = Locked::default();
        let mut run = Run::default();
        // Associations of packets that are opened anew. What comes after those waits: each packet's number is inferred when all before it are decided, however
        // they are batched and whoever opened them.
        let mut waiting: ArrayVec<&Association, CHUNK> = ArrayVec::new();
        for (item, nbl) in items.iter_mut().zip(lists) {
            let Step::Decide(layer, finding) = item.step else { continue };
            let Some(window) = locked.window(layer.association) else { continue };
            if waiting.iter().any(|association| core::ptr::eq(*association, layer.association)) {
                again = true;
                // Under another number it would most likely be opened anew, too; the last try is for the number that it has in its turn.
                if let Some(sequence) = anew(&layer, finding, window).filter(|_| layer.tries + 1 < MAX_TRIES && !layer.sa.must_be_offloaded()) {
                    item.software.get_or_insert(PacketReason::SequenceInDoubt);
                    item.step = Step::Open(Layer { sequence, ..layer });
                }
                continue;
            }
            run.switch(layer.sa);
            item.step = match self.decide(item, nbl, layer, finding, window, &mut run) {
                Decision::Off => {
                    item.taken_off(&layer);
                    Step::Look
                }
                Decision::Open(sequence) => {
                    item.software.get_or_insert(PacketReason::SequenceInDoubt);
                    if layer.sa.must_be_offloaded() {
                        item.step = Step::End(Verdict::Dropped(DropReason::NotOffloaded));
                        continue;
                    }
                    // At most one for each packet.
                    let _ = waiting.try_push(layer.association);
                    Step::Open(Layer { sequence, ..layer })
                }
                Decision::Drop(reason) => Step::End(Verdict::Dropped(reason)),
            };
            again |= !matches!(item.step, Step::End(_));
        }
        run.end();
        again
    }

    #[inline(always)]
    fn decide(
        &mut self,
        item: &mut Item<'a, P>,
        nbl: &mut NetBufferList,
        layer: Layer<'a, P>,
        finding: Finding,
        window: &mut ReplayWindow,
        run: &mut Run<'a, P>,
    ) -> Decision {
        let association = layer.association;
        // Packets before this one may have moved the window since it was looked at, and with it what the low half means.
        let sequence = association.infer(window, layer.low);
        if let Some(seen) = item.associations.last_mut() {
            seen.sequence = sequence;
        }
        // First whether it is authentic, then whether its number is new: a forged packet is called forged whatever its number says.
        if let Some(sequence) = anew(&layer, finding, window) {
            return Decision::Open(sequence);
        }
        match finding {
            Finding::Forged => return Decision::Drop(DropReason::AuthFailed),
            // What is authentic and malformed is old first, as in software.
            Finding::NicRefused(DropReason::Malformed) => return Decision::Drop(replay_drop(window.check(sequence)).unwrap_or(DropReason::Malformed)),
            Finding::NicRefused(reason) | Finding::NotAsked(reason) => return Decision::Drop(reason),
            // What software opened was authenticated under its number, unless there was nothing to authenticate it by. If it would now be taken for another,
            // it is behind the window, and not authentic under the number that it would have had in a batch of its own.
            Finding::Opened if sequence != layer.sequence && (association.operation == Operation::Ah || layer.sa.has_esp_icv()) => {
                return Decision::Drop(DropReason::AuthFailed);
            }
            Finding::Opened | Finding::NicOpened => {}
        }
        if let Some(reason) = replay_drop(window.check(sequence)) {
            return Decision::Drop(reason);
        }
        if matches!(finding, Finding::NicOpened) {
            if !is_certain(&layer, window, sequence) && !self.proves(item, nbl, &layer, sequence) {
                return Decision::Drop(DropReason::AuthFailed);
            }
            if association.extended {
                association.nic.updated((sequence >> 32) as u32);
            }
        }
        let off = match association.operation {
            Operation::Esp => self.take_esp_off(item, nbl, &layer, sequence, window, run),
            Operation::Ah => self.take_ah_off(item, nbl, &layer, sequence, window, run),
        };
        off.map_or_else(Decision::Drop, |()| Decision::Off)
    }

    #[inline(always)]
    fn take_esp_off(
        &mut self,
        item: &Item<'a, P>,
        nbl: &mut NetBufferList,
        layer: &Layer<'a, P>,
        sequence: u64,
        window: &mut ReplayWindow,
        run: &mut Run<'a, P>,
    ) -> Result<(), DropReason> {
        let malformed = DropReason::Malformed;
        let half = layer.sa.esp.as_ref().ok_or(DropReason::InvalidProtocol)?;
        let text = half.transform.text(layer.end - layer.at).map_err(|_| malformed)?;
        let (start, text_end) = (layer.at + text.start, layer.at + text.end);
        let plain = nbl.buffer.as_slice().get(start..text_end).ok_or(malformed)?;
        let (length, trailer) = ipsec::read_trailer(plain).map_err(|_| malformed)?;
        check_announced(IpProtocol(trailer.next_header), &plain[..length])?;
        self.pass(layer, sequence, window)?;
        let payload = Payload { from: layer.from, start, length, next_header: trailer.next_header };
        self.admit(item, layer, &payload, run)?;
        if IpProtocol(trailer.next_header) == IpProtocol::NO_NEXT_HEADER {
            return Err(DropReason::Dummy);
        }
        self.strip(item, nbl, layer, payload)
    }

    fn take_ah_off(
        &mut self,
        item: &Item<'a, P>,
        nbl: &mut NetBufferList,
        layer: &Layer<'a, P>,
        sequence: u64,
        window: &mut ReplayWindow,
        run: &mut Run<'a, P>,
    ) -> Result<(), DropReason> {
        let bytes = nbl.buffer.as_slice().get(layer.at..layer.end).ok_or(DropReason::Malformed)?;
        let ah = AhPacket::new(bytes).map_err(|_| DropReason::Malformed)?;
        let (start, length, next) = (layer.at + ah.header_len(), ah.payload().len(), ah.next_header());
        let payload = Payload { from: layer.from, start, length, next_header: next.0 };
        if layer.sa.esp.is_some() {
            // Half of a bundle: the rest of it decides about the packet.
            self.pass(layer, sequence, window)?;
            strip_transport(&mut nbl.buffer, item.l3, layer.pointer, payload);
            return Ok(());
        }
        check_announced(next, ah.payload())?;
        self.pass(layer, sequence, window)?;
        self.admit(item, layer, &payload, run)?;
        self.strip(item, nbl, layer, payload)
    }

    /// Notes the number of a packet whose ICV was good, and tells the control side what it must know.
    #[inline]
    fn pass(&mut self, layer: &Layer<'a, P>, sequence: u64, window: &mut ReplayWindow) -> Result<(), DropReason> {
        if let Some(reason) = replay_drop(window.update(sequence)) {
            return Err(reason);
        }
        let association = layer.association;
        if association.extended && layer.sa.offload_handle().is_some() && association.nic.must_tell((sequence >> 32) as u32) {
            self.news.push(LaneNews::HighHalf(layer.handle, association.operation));
        }
        Ok(())
    }

    /// Counts a packet whose last header under a bundle was good for the bundle's lifetime.
    fn admit(&mut self, item: &Item<'a, P>, layer: &Layer<'a, P>, payload: &Payload, run: &mut Run<'a, P>) -> Result<(), DropReason> {
        let length = match layer.sa.mode {
            Mode::Transport => layer.from - item.l3 + payload.length,
            Mode::Tunnel => payload.length,
        };
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
        Ok(())
    }

    /// Takes the last header of a bundle off, and checks that what is left is what the SA may carry.
    fn strip(&self, item: &Item<'a, P>, nbl: &mut NetBufferList, layer: &Layer<'a, P>, payload: Payload) -> Result<(), DropReason> {
        let (sa, malformed) = (layer.sa, DropReason::Malformed);
        if sa.mode == Mode::Tunnel {
            let announced = IpProtocol(payload.next_header);
            if announced != IpProtocol::IPV4 && announced != IpProtocol::IPV6 {
                return Err(DropReason::Policy);
            }
            let bytes = nbl.buffer.as_mut_slice();
            let class = Inner::read(&bytes[item.l3..]).traffic_class;
            let inner = bytes.get_mut(payload.start..payload.start + payload.length).ok_or(malformed)?;
            // Padding for traffic flow confidentiality follows the inner packet (RFC 4303 section 2.7).
            let parsed = ParsedIp::parse(inner);
            let parsed = parsed.as_ref().map_err(|_| malformed)?;
            if !merge_ecn(class, inner) || !(sa.selects(|| flow(parsed)) || self.carries(layer, parsed, inner)) {
                return Err(DropReason::Policy);
            }
            strip_tunnel(&mut nbl.buffer, item.l3, payload.start, parsed.total_len(), announced == IpProtocol::IPV4);
            return Ok(());
        }
        strip_transport(&mut nbl.buffer, item.l3, layer.pointer, payload);
        let packet = nbl.buffer.as_mut_slice().get_mut(item.l3..).ok_or(malformed)?;
        let parsed = ParsedIp::parse(packet);
        let parsed = parsed.as_ref().map_err(|_| malformed)?;
        if !sa.selects(|| flow(parsed)) {
            return Err(DropReason::Policy);
        }
        if sa.in_udp() {
            fit_checksum(packet, parsed);
        }
        Ok(())
    }

    /// Whether a packet in a tunnel is one of a bundle inside of it. Such a packet has selectors of its own; the tunnel's are about others.
    #[cold]
    fn carries(&self, layer: &Layer<'a, P>, parsed: &ParsedIp, packet: &[u8]) -> bool {
        matches!(self.find(parsed, packet, 0), Found::Sa(hit) if hit.sa.inside.is_some_and(|tunnel| tunnel.handle == layer.handle))
    }
}

impl<'a, P: Provider> Item<'a, P> {
    /// A header is off: what comes next.
    fn taken_off(&mut self, layer: &Layer<'a, P>) {
        if layer.association.operation == layer.sa.last() {
            self.portion = self.portion.saturating_add(1);
            self.tunnel = (layer.sa.mode == Mode::Tunnel).then_some(layer.handle);
            self.only_inside = layer.sa.carries_only();
        } else {
            self.pending = Some((layer.handle, layer.sa));
        }
    }
}

/// The header that is announced is the header that is there; the NIC says GENERIC_ERROR where it is not (OV2-OOB-5).
fn check_announced(announced: IpProtocol, payload: &[u8]) -> Result<(), DropReason> {
    let version = payload.first().map(|first| first >> 4);
    let disagree = (announced == IpProtocol::IPV4 && version != Some(4)) || (announced == IpProtocol::IPV6 && version != Some(6));
    if disagree { Err(DropReason::Malformed) } else { Ok(()) }
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

/// The number under which a header that is not good is opened (again), if it can be good under another than it was looked at under.
#[inline]
fn anew<P: Provider>(layer: &Layer<'_, P>, finding: Finding, window: &ReplayWindow) -> Option<u64> {
    let association = layer.association;
    let sequence = || association.infer(window, layer.low);
    match finding {
        Finding::Opened | Finding::NicOpened | Finding::NotAsked(_) => None,
        Finding::Forged => Some(sequence()).filter(|&sequence| sequence != layer.sequence && layer.tries < MAX_TRIES),
        // The NIC may have taken the number for another: not told yet of the wrap of the low half, or behind.
        Finding::NicRefused(_) => Some(sequence()).filter(|sequence| association.extended && (sequence >> 32) as u32 != association.nic.high()),
    }
}

/// Whether what the NIC has opened it has opened under this SA and this number.
///
/// With 32-bit numbers the number is in the packet. The high half of an extended one the NIC makes up, as the transport does, but from what it has
/// seen itself; an old packet could be good under a number that the transport takes for a new one. While both are in the same half they agree.
#[inline]
fn is_certain<P: Provider>(layer: &Layer<'_, P>, window: &ReplayWindow, sequence: u64) -> bool {
    layer.sa.offload_handle().is_some() && (!layer.association.extended || layer.association.is_where_the_nic_is(window, sequence))
}

fn replay_drop(replay: Replay) -> Option<DropReason> {
    match replay {
        Replay::New => None,
        // No sender uses number 0: whoever does repeats nothing, and must be refused all the same.
        Replay::Duplicate | Replay::Invalid => Some(DropReason::Replayed),
        Replay::TooOld => Some(DropReason::TooOld),
    }
}
