//! The swift way out: plain packets under SAs that are ESP alone, which is what nearly all traffic is.
//!
//! A plain packet is bare or behind Ethernet II, IPv4 without options and not a fragment, or IPv6 without extension headers; policy protects it by an SA whose
//! packets get headers and a trailer and nothing else ([`Outfit`]), and it fits. Plain packets that follow one another are taken together, in three passes:
//! one look at each, which makes runs of packets of one SA; lifetime, numbers and the NIC's handle, once a run; headers and out-of-band data. Whatever else
//! there is to do or to say, about packets or their SAs, is the general way's ([`plan`](crate::plan)): it takes the packets as they came, before anything
//! was changed for them, and the outcome is the same.

use std::vec::Drain;

use arrayvec::ArrayVec;
use ipsec::{Provider, SealBatch};
use ndis::{HeaderTransmit, NblBatch, NetBufferList, OffloadHandle};
use packet::{ChecksumState, ETHERNET_HEADER_LEN, EtherType, Frame, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpProtocol, Medium};
use sa_table::{Guard, Handle};

use crate::flows::{FlowKey, Flows};
use crate::framing::Numbers;
use crate::lane::CHUNK;
use crate::mark::{Mark, Work, drop_words, mark_dropped};
use crate::outfit::{DONT_FRAGMENT, OWN_HEADER, Outfit, Plain, TUNNEL_V4, TUNNEL_V6};
use crate::packet_reason::PacketReason;
use crate::plan::Stage;
use crate::sa::Sa;
use crate::spd::{Action, Spd};
use crate::verdict::DropReason;

/// Packets of one SA that follow one another.
struct Run<'a, P: Provider> {
    handle: Handle,
    sa: &'a Sa<P>,
    outfit: &'a Outfit,
    packets: usize,
    /// Bytes of the IP packets.
    bytes: u64,
    /// The first one's number.
    first: u64,
    /// The NIC's handle, if it does the cryptography; otherwise why not.
    nic: Result<OffloadHandle, PacketReason>,
    /// Its ordering group on the wire.
    order: u16,
}

/// How far the swift way went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Went {
    /// Packets that are done.
    pub(crate) packets: usize,
    /// So many at least of those that follow have to go the general way.
    pub(crate) refused: usize,
    /// Some of those that are done were dropped all the same.
    pub(crate) dropped: bool,
}

/// What policies and SAs are looked up in.
pub(crate) struct Known<'k, 'a, P: Provider> {
    pub(crate) spd: &'k Spd,
    pub(crate) flows: &'k mut Flows,
    pub(crate) guard: &'a Guard<'a, Sa<P>>,
}

impl<'a, P: Provider> Stage<'_, P> {
    /// Takes plain packets, at most `most` and a chunk, from the start of `incoming`, as far as there are any, and appends their lists to `batch`.
    pub(crate) fn swift(&mut self, known: &mut Known<'_, 'a, P>, incoming: &mut Drain<'_, Frame>, most: usize, batch: &mut NblBatch) -> Went {
        match self.shared.medium {
            Medium::Ethernet => self.swift_at::<ETHERNET_HEADER_LEN>(known, incoming, most, batch),
            Medium::Ip => self.swift_at::<0>(known, incoming, most, batch),
        }
    }

    /// How many frames at the start of `frames` are not for the swift way.
    pub(crate) fn odd(&self, known: &mut Known<'_, 'a, P>, frames: &[Frame]) -> usize {
        let is_plain = |frame: &Frame| match self.shared.medium {
            Medium::Ethernet => known.is_plain::<ETHERNET_HEADER_LEN>(frame),
            Medium::Ip => known.is_plain::<0>(frame),
        };
        frames.iter().position(is_plain).unwrap_or(frames.len())
    }

    #[inline(always)]
    fn swift_at<const L3: usize>(&mut self, known: &mut Known<'_, 'a, P>, incoming: &mut Drain<'_, Frame>, most: usize, batch: &mut NblBatch) -> Went {
        let mut plain = [Plain::default(); CHUNK];
        let mut runs = ArrayVec::<Run<'a, P>, CHUNK>::new();
        let frames = incoming.as_slice();
        let frames = frames.get(..most.min(CHUNK)).unwrap_or(frames);
        let mut packets =
            if known.flows.is_one() { known.look::<L3, true>(frames, &mut plain, &mut runs) } else { known.look::<L3, false>(frames, &mut plain, &mut runs) };
        let mut refused = usize::from(packets < frames.len());
        let mut before = 0;
        for at in 0..runs.len() {
            if !self.number_run(&mut runs[at]) {
                (packets, refused) = (before, runs[at].packets);
                runs.truncate(at);
                break;
            }
            before += runs[at].packets;
        }
        let (first, mut rest) = (batch.len(), &plain[..]);
        let (mut bytes, mut software, mut dropped) = (0, false, false);
        for run in &runs {
            let (these, behind) = rest.split_at(run.packets.min(rest.len()));
            rest = behind;
            dropped |= match run.outfit.form() {
                TUNNEL_V4 => frame::<L3, TUNNEL_V4, P>(run, incoming, these, batch),
                TUNNEL_V6 => frame::<L3, TUNNEL_V6, P>(run, incoming, these, batch),
                _ => frame::<L3, OWN_HEADER, P>(run, incoming, these, batch),
            };
            software |= run.nic.is_err();
            bytes += run.bytes;
        }
        self.counters.seen.add_all(packets as u64, bytes);
        if software {
            dropped |= self.seal_runs::<L3>(&runs, &plain, batch.get_mut(first..).unwrap_or_default());
        }
        Went { packets, refused, dropped }
    }

    /// Lifetime and numbers of a run, each in one step, and whether it is the NIC's. False, and nothing is changed, where there is something to say or to
    /// decide packet by packet: limits, the end of the numbers, extended numbers on both sides of a wrap of the low half.
    #[inline]
    fn number_run(&mut self, run: &mut Run<'a, P>) -> bool {
        let &mut Run { handle, sa, packets, bytes, .. } = run;
        let Some(association) = sa.esp.as_ref().map(|half| &half.association) else { return false };
        let Some(counter) = association.counter() else { return false };
        let Some(expected) = counter.last().checked_add(packets as u64).filter(|&last| last < association.limit()) else { return false };
        if association.extended && (expected ^ (expected - packets as u64 + 1)) >> 32 != 0 {
            return false;
        }
        if !sa.lifetime.admit_run(packets as u64, bytes, self.now) {
            return false;
        }
        let Ok(first) = counter.take(packets as u32) else {
            // Other lanes were quicker.
            sa.lifetime.release_run(packets as u64, bytes);
            return false;
        };
        let numbers = |esp| Numbers { esp, ah: 0 };
        let last = first + (packets as u64 - 1);
        // At once: others wait for these numbers, whatever happens to this lane.
        run.order = self.turn(sa, first, packets as u32);
        self.watch(handle, sa, numbers(last));
        // Other lanes may have brought the run across a wrap after all. Then it is done in software.
        let whole = !association.extended || (first ^ last) >> 32 == 0;
        run.first = first;
        run.nic = self.offered(handle, sa, numbers(first)).and_then(|nic| if whole { Ok(nic) } else { Err(PacketReason::SequenceInDoubt) });
        if run.nic.is_ok() {
            sa.handed_over(numbers(last));
        }
        sa.lifetime.account(packets as u64, bytes);
        true
    }

    /// Seals what the NIC does not; whether some of it could not be.
    #[inline(never)]
    fn seal_runs<const L3: usize>(&self, runs: &[Run<'a, P>], plain: &[Plain], lists: &mut [NetBufferList]) -> bool {
        let mut jobs: SealBatch<'_, P::Key> = ArrayVec::new();
        let mut owners: ArrayVec<usize, CHUNK> = ArrayVec::new();
        let mut dropped = false;
        let mut packets = lists.iter_mut().zip(plain).enumerate();
        for run in runs {
            let these = packets.by_ref().take(run.packets);
            let Some(half) = run.sa.esp.as_ref().filter(|_| run.nic.is_err()) else {
                these.for_each(drop);
                continue;
            };
            for ((place, (nbl, &plain)), number) in these.zip((0..).map(|offset| run.first + offset)) {
                if Mark::read(nbl).is_dropped() {
                    continue;
                }
                let at = L3 + run.outfit.esp_offset(plain);
                let esp = nbl.buffer.as_mut_slice().get_mut(at..).unwrap_or_default();
                if let Ok(job) = half.transform.seal_job(esp, number) {
                    jobs.push(job);
                    owners.push(place);
                } else {
                    drop_words(&mut nbl.protocol_reserved, DropReason::Malformed);
                    dropped = true;
                }
            }
        }
        for place in crate::seal::run(&self.shared.provider, jobs, &owners) {
            mark_dropped(&mut lists[place], DropReason::Refused);
            dropped = true;
        }
        dropped
    }
}

impl<'a, P: Provider> Known<'_, 'a, P> {
    /// First pass: what is to be known of packets, as long as they are plain, and runs of them. Returns how many there are. `ALWAYS`: policy says the same
    /// of all packets.
    // Not inlined, and code of its own for either: what it keeps for each packet shall stay in registers.
    #[inline(never)]
    fn look<const L3: usize, const ALWAYS: bool>(&mut self, frames: &[Frame], plain: &mut [Plain; CHUNK], runs: &mut ArrayVec<Run<'a, P>, CHUNK>) -> usize {
        let mut packets = 0;
        let mut next = frames.first().and_then(|frame| self.read::<L3>(frame, &mut None));
        let mut before = None;
        while let Some((mut seen, handle)) = next.take() {
            let Some((sa, outfit)) = self.guard.get(handle).and_then(|sa| Some((sa, sa.outfit.as_ref()?))) else { break };
            let (first, mut bytes) = (packets, 0);
            while let (Some(place), Some(frame)) = (plain.get_mut(packets), frames.get(packets)) {
                if !outfit.fits(seen, L3, &frame.buffer) {
                    break;
                }
                *place = seen;
                bytes += u64::from(seen.length);
                packets += 1;
                let Some(frame) = frames.get(packets) else { break };
                if ALWAYS {
                    let Some((plain, ..)) = read_packet::<L3>(frame) else { break };
                    seen = plain;
                } else {
                    let Some((plain, other)) = self.read::<L3>(frame, &mut before) else { break };
                    if other != handle {
                        next = Some((plain, other));
                        break;
                    }
                    seen = plain;
                }
            }
            if packets == first {
                break;
            }
            runs.push(Run { handle, sa, outfit, packets: packets - first, bytes, first: 0, nic: Err(PacketReason::SaNotOffloaded), order: 0 });
        }
        packets
    }

    /// Whether a frame is for the swift way, as far as that can be told of it alone.
    fn is_plain<const L3: usize>(&mut self, frame: &Frame) -> bool {
        self.read::<L3>(frame, &mut None).is_some_and(|(plain, handle)| {
            let outfit = self.guard.get(handle).and_then(|sa| sa.outfit.as_ref());
            outfit.is_some_and(|outfit| outfit.fits(plain, L3, &frame.buffer))
        })
    }

    /// Reads a plain packet that policy protects, and by what. `before`: the flow of the packet before, and by what policy protects that; packets of a flow
    /// come one after the other.
    #[inline(always)]
    fn read<const L3: usize>(&mut self, frame: &Frame, before: &mut Option<(FlowKey, Handle)>) -> Option<(Plain, Handle)> {
        let (plain, headers) = read_packet::<L3>(frame)?;
        let key = headers.key(plain);
        if let Some((flow, handle)) = before
            && flow.is(&key)
        {
            return Some((plain, *handle));
        }
        match self.flows.action(self.spd, || key) {
            Action::Protect(Some(handle)) => {
                *before = Some((key, handle));
                Some((plain, handle))
            }
            _ => None,
        }
    }
}

/// IP header and what follows it.
enum Headers<'p> {
    V4(&'p [u8; IPV4_HEADER_LEN], &'p [u8]),
    V6(&'p [u8; IPV6_HEADER_LEN], &'p [u8]),
}

impl Headers<'_> {
    #[inline(always)]
    fn key(&self, plain: Plain) -> FlowKey {
        match *self {
            Self::V4(header, payload) => FlowKey::v4(header, IpProtocol(plain.protocol), payload),
            Self::V6(header, payload) => FlowKey::v6(header, IpProtocol(plain.protocol), payload),
        }
    }
}

/// Reads a packet, if it is plain.
#[inline(always)]
fn read_packet<const L3: usize>(frame: &Frame) -> Option<(Plain, Headers<'_>)> {
    // A checksum that is to be computed.
    if frame.checksum == ChecksumState::Partial {
        return None;
    }
    let (link, ip) = frame.buffer.as_slice().split_first_chunk::<L3>()?;
    // No IPv6 header is shorter.
    let (header, behind) = ip.split_first_chunk::<IPV4_HEADER_LEN>()?;
    let is_announced = |ethertype: EtherType| link.last_chunk().is_none_or(|announced| *announced == ethertype.0.to_be_bytes());
    if header[0] == 0x45 {
        let length = u16::from_be_bytes([header[2], header[3]]);
        let payload = behind.get(..usize::from(length).checked_sub(IPV4_HEADER_LEN)?)?;
        // Neither more fragments nor an offset.
        if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 || !is_announced(EtherType::IPV4) {
            return None;
        }
        let dont_fragment = header[6] & DONT_FRAGMENT;
        Some((Plain { length: u32::from(length), traffic_class: header[1], protocol: header[9], v4: true, dont_fragment }, Headers::V4(header, payload)))
    } else {
        let (header, behind) = ip.split_first_chunk::<IPV6_HEADER_LEN>()?;
        let payload = behind.get(..usize::from(u16::from_be_bytes([header[4], header[5]])))?;
        let protocol = IpProtocol(header[6]);
        if header[0] >> 4 != 6 || protocol.is_ipv6_extension() || !is_announced(EtherType::IPV6) {
            return None;
        }
        let (length, traffic_class) = ((IPV6_HEADER_LEN + payload.len()) as u32, header[0] << 4 | header[1] >> 4);
        Some((Plain { length, traffic_class, protocol: protocol.0, v4: false, dont_fragment: DONT_FRAGMENT }, Headers::V6(header, payload)))
    }
}

/// Third pass: headers and trailers around the packets of a run, and their lists, each written once with all that is in it; whether one was dropped. A function
/// of its own for each kind of headers, so that there is nothing to decide in it.
#[inline(never)]
fn frame<const L3: usize, const FORM: u8, P: Provider>(run: &Run<'_, P>, incoming: &mut Drain<'_, Frame>, plain: &[Plain], batch: &mut NblBatch) -> bool {
    let &Run { handle, outfit, first, nic, order, .. } = run;
    let (work, bits, reason) = match nic {
        Ok(handle) => (Work::Offload, handle.to_bits(), PacketReason::SaNotOffloaded),
        Err(reason) => (Work::Software, 0, reason),
    };
    let tunnel_esp_offset = outfit.esp_offset(Plain::default());
    let mut dropped = false;
    let frames = incoming.by_ref().take(plain.len()).zip(plain).zip((0..).map(|offset| first + offset));
    batch.extend(frames.map(|((mut frame, &plain), number)| {
        // All of it is known before the list is made: what is put together in memory and moved then, waits for its own stores.
        let put = outfit.put::<L3, FORM>(&mut frame.buffer, plain, number);
        let (work, bits) = if put.is_some() { (work, bits) } else { (Work::Dropped(DropReason::TooBig), 0) };
        dropped |= put.is_none();
        let (next_header, pad_length) = put.unwrap_or_default();
        let esp_offset = if FORM == OWN_HEADER { outfit.esp_offset(plain) } else { tunnel_esp_offset };
        let header = HeaderTransmit { next_header, pad_length, ah_header_offset: 0, esp_header_offset: (esp_offset / 4) as u8 };
        let mut nbl = NetBufferList::from_frame(frame, L3 as u16);
        nbl.order = order;
        nbl.protocol_reserved = Mark { work, sa: Some(handle), reason, ..Mark::clear(plain.length as usize) }.words();
        nbl.oob.set_bits(bits, 0, if bits == 0 { 0 } else { header.to_bits() });
        nbl
    }));
    dropped
}

#[cfg(test)]
mod tests {
    use ipsec::{AesKeySize, Crypto, Encryption};
    use ndis::Direction;
    use packet::{Buffer, BufferPool, FrameBatch, Spi, Time};
    use sa_table::{SEED_WORDS, Seed};
    use secret::SecretBytes;

    use super::*;
    use crate::lane::TransportLane;
    use crate::parameters::{AssociationParameters, Limits, Mode, SaParameters};
    use crate::selector::{AddressRange, Selector};
    use crate::transport::{ClearPolicy, Transport, TransportConfig};

    fn sa(spi: u8, destination: [u8; 4], sequence_number: u32, packets: Option<u64>) -> SaParameters {
        let to = AddressRange::single(packet::IpAddress::v4(destination));
        SaParameters {
            selectors: vec![Selector { destination: Some(to), ..Selector::ANY }],
            hard_limits: Limits { packets, ..Limits::NONE },
            ..SaParameters::new(
                format!("sa-{spi}"),
                Direction::Outbound,
                Mode::Tunnel,
                ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()),
                vec![AssociationParameters {
                    sequence_number,
                    ..AssociationParameters::esp(Spi(0x100 + u32::from(spi)), Encryption::AesGcm(AesKeySize::Aes128), SecretBytes::from(vec![spi; 20]))
                }],
            )
        }
    }

    fn lane(sas: Vec<SaParameters>) -> TransportLane<Crypto> {
        let config = TransportConfig { medium: Medium::Ip, capacity: 16, seed: Seed::new([1; SEED_WORDS]), clear: ClearPolicy::Decide };
        let transport = Transport::new(config, Crypto::default()).unwrap();
        for sa in sas {
            let handle = transport.add_sa(sa, Time::ZERO).unwrap();
            transport.protect(handle);
        }
        transport.open_lane()
    }

    /// Packets to 10.0.0.x; with options if x has its high bit set.
    fn frames(to: &[u8]) -> FrameBatch {
        let packet = |&to: &u8| {
            let mut bytes = [0; 28];
            (bytes[0], bytes[3]) = (if to & 0x80 == 0 { 0x45 } else { 0x46 }, 28);
            bytes[16..20].copy_from_slice(&[10, 0, 0, to & 0x7f]);
            Frame::new(Buffer::copy_from(&bytes))
        };
        to.iter().map(packet).collect()
    }

    /// How far packets go, and how many odd ones follow.
    fn went(lane: &mut TransportLane<Crypto>, to: &[u8]) -> (Went, usize) {
        let (mut frames, mut batch) = (frames(to), NblBatch::new());
        let TransportLane { shared, sad, snapshot, flows, counters, news, masked, outlet, .. } = lane;
        let mut pool = BufferPool::new();
        let mut stage = Stage { shared, counters: &counters.outbound, news, masked, pool: &mut pool, now: Time::ZERO, outlet: outlet.as_mut() };
        let guard = sad.enter();
        let mut known = Known { spd: &snapshot.spd, flows, guard: &guard };
        let mut incoming = frames.drain(..);
        let went = stage.swift(&mut known, &mut incoming, CHUNK, &mut batch);
        assert_eq!((batch.len(), incoming.len()), (went.packets, to.len() - went.packets), "of {to:?}");
        for nbl in &batch {
            assert!(Mark::read_plain(nbl).is_some() && nbl.buffer.len() != 28, "of {to:?}");
        }
        assert!(incoming.as_slice().iter().all(|frame| frame.buffer.len() == 28), "of {to:?}");
        let odd = stage.odd(&mut known, &incoming.as_slice()[went.refused..]);
        (went, odd)
    }

    const fn all(packets: usize) -> (Went, usize) {
        (Went { packets, refused: 0, dropped: false }, 0)
    }

    #[test]
    fn plain_packets_are_taken_as_far_as_there_are_any() {
        let mut lane = lane(vec![sa(1, [10, 0, 0, 1], 0, None), sa(2, [10, 0, 0, 2], 0, None)]);
        assert_eq!(went(&mut lane, &[]), all(0));
        assert_eq!(went(&mut lane, &[1; 64]), all(64));
        assert_eq!(went(&mut lane, &[1, 2, 2, 1, 1, 1, 2]), all(7));
        let then = |packets, odd| (Went { packets, refused: 1, dropped: false }, odd);
        assert_eq!(went(&mut lane, &[1, 2, 0x81, 1]), then(2, 0));
        assert_eq!(went(&mut lane, &[0x81, 0x82, 3, 1, 1]), then(0, 2), "3 is no SA's");
        assert_eq!(went(&mut lane, &[2, 3]), then(1, 0));
        let all_seen = crate::verdict::Count::from(&lane.counters().outbound.seen);
        assert_eq!((all_seen.packets, all_seen.bytes), (64 + 7 + 2 + 1, 74 * 28));
    }

    #[test]
    fn what_ends_in_a_run_is_not_taken() {
        let mut lane = lane(vec![sa(1, [10, 0, 0, 1], 0, Some(10)), sa(2, [10, 0, 0, 2], u32::MAX - 10, None)]);
        let then = |packets, refused| (Went { packets, refused, dropped: false }, 0);
        assert_eq!(went(&mut lane, &[1, 1, 1, 2, 2]), all(5));
        assert_eq!(went(&mut lane, &[2, 1, 1, 1, 1, 1, 1, 1, 1, 2]), then(1, 8), "seven packets are left");
        assert_eq!(went(&mut lane, &[1, 1, 1, 1, 1, 1, 1]), all(7));
        assert_eq!(went(&mut lane, &[1]), then(0, 1));
        assert_eq!(went(&mut lane, &[2, 2, 2, 2, 2, 2, 2]), then(0, 7), "with the last number there is something to say");
        assert_eq!(went(&mut lane, &[2, 2, 2, 2, 2, 2]), all(6));
        assert_eq!(went(&mut lane, &[2]), then(0, 1));
    }
}
