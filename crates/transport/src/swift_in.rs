//! The swift way in: one pass over packets such as nearly all are, without the stages of the general way.
//!
//! A packet goes this way where its NIC says that its one portion is good, and that is ESP, perhaps in UDP, behind a plain IP header; where the bundle that it
//! names is nothing but ESP, neither inside another nor around one; where its number is certain and new, nothing is due in the SA's life, and what comes out
//! is plain, too, and of a flow that the SA may carry. Whatever else a packet is, it has changed nothing when that is found out, and goes the general way: all
//! that is refused is refused there, and told there. Both ways share the rules of numbers, lifetimes, look-up and stripping, and a property test holds them
//! against each other.
//!
//! What is the same for a run of packets under one SA is done once a run: the look-up, the window's lock, the lifetime, the sums; and numbers that follow one
//! another, as nearly all do, are noted at its end. In between there is a loop for each kind of headers, which reads what it compares as whole words.

use std::sync::MutexGuard;

use arrayvec::ArrayVec;
use ipsec::{Provider, ReplayWindow};
use ndis::{CryptoStatus, IpsecReceive, NetBufferList, Operation};
use packet::{ETHERNET_HEADER_LEN, EtherType, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpAddress, IpProtocol, Medium, Spi, UDP_HEADER_LEN};
use sa_table::{Handle, Key};

use crate::association::Association;
use crate::flows::{AnyBetween, FlowKey, v4_addresses, v4_word, v6_addresses};
use crate::inbound::{Chunk, InboundBatch};
use crate::lane::CHUNK;
use crate::look::Search;
use crate::parameters::Mode;
use crate::sa::{Sa, key};
use crate::stripping::{Payload, strip_transport, strip_tunnel};
use crate::transport::{LaneNews, Snapshot};
use crate::verdict::{AssociationSeen, InboundVerdict, Verdict};

/// The two ECN codepoints that an outer header can hand to an inner one (RFC 6040 section 4.2): ECT(1) and CE, the odd ones.
const ECN_HANDED_ON: u8 = 0b01;
const ECN: u8 = 0b11;

/// What the NIC says of a packet of which it has opened the one portion that there is.
const GOOD: u64 = IpsecReceive::GOOD.to_bits();

impl<'a, P: Provider> Chunk<'a, '_, P> {
    /// Takes packets from the front of `lists` for as long as they are plain, in order: they stay in their lists, as they are to be delivered. Returns how
    /// many.
    pub(crate) fn swift(&mut self, lists: &mut [NetBufferList], out: &mut InboundBatch) -> usize {
        match self.shared.medium {
            Medium::Ethernet => self.swift_at::<ETHERNET_HEADER_LEN>(lists, out),
            Medium::Ip => self.swift_at::<0>(lists, out),
        }
    }

    /// How many packets at the front of `lists`, of which the first is not taken, go the general way together.
    pub(crate) fn odd(&self, lists: &[NetBufferList]) -> usize {
        match self.shared.medium {
            Medium::Ethernet => self.odd_at::<ETHERNET_HEADER_LEN>(lists),
            Medium::Ip => self.odd_at::<0>(lists),
        }
    }

    fn swift_at<const L3: usize>(&mut self, lists: &mut [NetBufferList], out: &mut InboundBatch) -> usize {
        let (mut packets, mut bytes) = (0, 0);
        let mut rest = lists;
        let mut fetched = false;
        while let Some(first) = rest.first() {
            if first.oob.ipsec_bits() != GOOD || first.oob.ieee8021q != 0 {
                break;
            }
            let Some(outer) = Outer::read::<L3>(first.buffer.as_slice(), self.snapshot) else { break };
            // A second SA: there may be many.
            if packets != 0 && !fetched {
                self.fetch_ahead::<L3>(rest);
                fetched = true;
            }
            let Some(mut run) = self.begin(&outer) else { break };
            let verdicts = out.report.then_some(&mut out.verdicts);
            let taken = match (run.shape.v4, run.tunnel) {
                (true, true) => run.take::<L3, true, true>(rest, self.snapshot, verdicts),
                (true, false) => run.take::<L3, true, false>(rest, self.snapshot, verdicts),
                (false, true) => run.take::<L3, false, true>(rest, self.snapshot, verdicts),
                (false, false) => run.take::<L3, false, false>(rest, self.snapshot, verdicts),
            };
            if taken == 0 {
                break;
            }
            // All that are taken have the half that the NIC is in.
            if run.extended && run.association.nic.must_tell(run.association.nic.high()) {
                self.news.push(LaneNews::HighHalf(run.handle, Operation::Esp));
            }
            packets += taken;
            bytes += run.seen;
            // (Dropped here: two windows locked at once could be a deadlock.)
            drop(run);
            rest = rest.get_mut(taken..).unwrap_or_default();
        }
        if packets != 0 {
            self.count_opened(packets as u64, bytes);
        }
        packets
    }

    /// Begins to fetch the SAs of packets that are to come, of all of them at once: the index, then the SAs.
    #[inline(never)]
    fn fetch_ahead<const L3: usize>(&self, lists: &[NetBufferList]) {
        let mut keys = ArrayVec::<Key, CHUNK>::new();
        let mut spi = [0; 4];
        for list in lists {
            // (There are no more than a chunk.)
            let Some(outer) = Outer::read::<L3>(list.buffer.as_slice(), self.snapshot).filter(|_| !keys.is_full()) else { break };
            if outer.spi != spi {
                spi = outer.spi;
                let key = key(Spi::from_be_bytes(spi), outer.destination());
                self.guard.prefetch_index(&key);
                keys.push(key);
            }
        }
        keys.iter().for_each(|key| self.guard.prefetch_values(key));
        for key in &keys {
            if let Some((_, sa)) = self.guard.find(key).next() {
                sa.prefetch();
            }
        }
    }

    #[inline(never)]
    fn odd_at<const L3: usize>(&self, lists: &[NetBufferList]) -> usize {
        let mut run: Option<Run<'a, P>> = None;
        let mut is_taken = |nbl: &NetBufferList| {
            let frame = nbl.buffer.as_slice();
            if nbl.oob.ipsec_bits() != GOOD || nbl.oob.ieee8021q != 0 {
                return false;
            }
            let Some(outer) = Outer::read::<L3>(frame, self.snapshot) else { return false };
            if run.as_ref().is_none_or(|run| !run.shape.is_of(&outer)) {
                // The old one goes first, as above.
                run = None;
                run = self.begin(&outer);
            }
            run.as_mut().is_some_and(|run| match (run.shape.v4, run.tunnel) {
                (true, true) => run.takes::<L3, true, true>(frame, self.snapshot),
                (true, false) => run.takes::<L3, true, false>(frame, self.snapshot),
                (false, true) => run.takes::<L3, false, true>(frame, self.snapshot),
                (false, false) => run.takes::<L3, false, false>(frame, self.snapshot),
            })
        };
        1 + lists.iter().skip(1).take_while(|nbl| !is_taken(nbl)).count()
    }

    /// The SA of a packet, if its packets may go this way.
    fn suits(&self, outer: &Outer) -> Option<(Handle, &'a Sa<P>)> {
        let port = (outer.port != 0).then_some(outer.port);
        let Search::Right(handle, sa) = self.search(outer.source(), outer.destination(), Spi::from_be_bytes(outer.spi), Operation::Esp, port) else {
            return None;
        };
        // In transport mode UDP means a NAT, and checksums that no longer fit.
        let suits = sa.is_esp_alone() && (sa.mode == Mode::Tunnel || !sa.in_udp()) && sa.offload_handle().is_some();
        suits.then_some((handle, sa))
    }

    #[inline(never)]
    fn begin(&self, outer: &Outer) -> Option<Run<'a, P>> {
        let (handle, sa) = self.suits(outer)?;
        let half = sa.esp.as_ref()?;
        let window = half.association.replay()?;
        // Nothing is too short for it, and it says what would not be.
        let shortest = match half.transform.text(0) {
            Err(ipsec::EspError::TooShort { minimum, .. }) => minimum,
            _ => half.transform.prefix_length() + ipsec::TRAILER_LENGTH + half.transform.icv_length(),
        };
        // The window is locked by now: whoever had it before has counted what was carried.
        let (left_packets, left_bytes) = sa.lifetime.left(self.now).unwrap_or_default();
        let shape = Shape {
            ends: outer.ends,
            spi: u32::from_le_bytes(outer.spi),
            port: outer.port,
            v4: outer.v4,
            protocol: if outer.port == 0 { IpProtocol::ESP.0 } else { IpProtocol::UDP.0 },
            selective: !sa.selectors().is_empty(),
            any_between: sa.any_between(),
            at: outer.at,
            start: outer.at + half.transform.prefix_length(),
            icv: half.transform.icv_length(),
            shortest: outer.at + shortest,
        };
        let (tunnel, extended) = (sa.mode == Mode::Tunnel, half.association.extended);
        let association = &half.association;
        Some(Run {
            handle,
            sa,
            association,
            window,
            shape,
            tunnel,
            extended,
            left_packets,
            left_bytes,
            packets: 0,
            bytes: 0,
            seen: 0,
            flow: FlowKey::default(),
        })
    }
}

/// The verdict on a packet that went this way.
#[cold]
fn delivered(tag: u64, seen: AssociationSeen) -> InboundVerdict {
    InboundVerdict {
        tag,
        crypto_done: true,
        next_crypto_done: false,
        crypto_status: Some(CryptoStatus::Success),
        associations: core::iter::once(seen).collect(),
        verdict: Verdict::Delivered,
    }
}

/// What an SA's packets are found by, as the first one of a run shows it. Offsets are in bytes from the start of the frame.
struct Outer {
    /// Source and destination, as [`FlowKey`] has them.
    ends: [u64; 4],
    v4: bool,
    spi: [u8; 4],
    /// Destination port of the UDP header in front of ESP; 0: there is none. (That is no port.)
    port: u16,
    /// Where the ESP is.
    at: usize,
}

impl Outer {
    /// Reads a frame with a plain IP header and ESP, perhaps in UDP, behind `L3` bytes of plain link header. Lengths are [`Shape::look`]'s.
    #[inline]
    fn read<const L3: usize>(frame: &[u8], snapshot: &Snapshot) -> Option<Self> {
        let ip = frame.get(L3..)?;
        let v4 = ip.first()? >> 4 == 4;
        let (protocol, header, ends) = if v4 {
            let header: &[u8; IPV4_HEADER_LEN] = ip.first_chunk()?;
            (IpProtocol(header[9]), IPV4_HEADER_LEN, v4_addresses(header))
        } else {
            let header: &[u8; IPV6_HEADER_LEN] = ip.first_chunk()?;
            (IpProtocol(header[6]), IPV6_HEADER_LEN, v6_addresses(header))
        };
        let behind = ip.get(header..)?;
        let (port, udp) = match protocol {
            IpProtocol::ESP => (0, 0),
            IpProtocol::UDP => {
                let &[_, _, p0, p1] = behind.first_chunk()?;
                (Some(u16::from_be_bytes([p0, p1])).filter(|&port| port != 0 && snapshot.is_udp_esp(port))?, UDP_HEADER_LEN)
            }
            _ => return None,
        };
        // With an SPI of zero it is IKE, and a keepalive is shorter than an SPI.
        let spi = *behind.get(udp..)?.first_chunk()?;
        let ike = udp != 0 && spi == packet::NON_ESP_MARKER;
        (!ike).then_some(Self { ends, v4, spi, port, at: L3 + header + udp })
    }

    fn source(&self) -> IpAddress {
        FlowKey::addresses(self.v4, self.ends).0
    }

    fn destination(&self) -> IpAddress {
        FlowKey::addresses(self.v4, self.ends).1
    }
}

/// What all packets of a run show, and where in them things are. Offsets are in bytes from the start of the frame.
#[derive(Clone, Copy)]
struct Shape {
    ends: [u64; 4],
    /// Its bytes, as a little-endian number.
    spi: u32,
    port: u16,
    v4: bool,
    /// What the IP header announces: ESP or UDP.
    protocol: u8,
    /// Whether the SA carries only some packets, and which IPv4 flows it carries in any case.
    selective: bool,
    any_between: AnyBetween,
    /// Where the ESP is, and what it protects.
    at: usize,
    start: usize,
    /// Length of the ICV.
    icv: usize,
    /// Where the shortest packet ends.
    shortest: usize,
}

/// What a packet is, and what it carries.
struct Seen {
    /// Low half of the sequence number.
    low: u32,
    /// Of the IP packet, in bytes.
    total: usize,
    /// Of what was protected, without trailer.
    length: usize,
    next_header: u8,
    /// Of what is delivered: in tunnel mode the inner packet's length, which padding may follow.
    inner: usize,
    /// Whether that is IPv4.
    v4: bool,
    /// What selectors look at: [`FlowKey::rest`], 0 where nobody needs to know, and the addresses of IPv4.
    flow: (u64, u64),
}

/// What an inner header says.
struct Inner {
    v4: bool,
    traffic_class: u8,
    protocol: IpProtocol,
    total: usize,
    flow: (u64, u64),
}

impl Shape {
    /// Whether a packet names the run's SA. (That one was found by the same values.)
    fn is_of(&self, outer: &Outer) -> bool {
        self.ends == outer.ends && self.v4 == outer.v4 && self.spi == u32::from_le_bytes(outer.spi) && self.port == outer.port
    }

    /// Reads a packet; `None` if it is not plain, or not the run's.
    #[inline(always)]
    fn look<const L3: usize, const V4: bool, const TUNNEL: bool>(&self, frame: &[u8], snapshot: &Snapshot) -> Option<Seen> {
        let (total, class) = self.outer::<L3, V4>(frame)?;
        let end = L3 + total;
        if end < self.shortest {
            return None;
        }
        let esp = u64::from_le_bytes(*frame.get(self.at..)?.first_chunk()?);
        if esp as u32 != self.spi || (self.port != 0 && !self.is_in_udp(frame, L3, total)) {
            return None;
        }
        let low = ((esp >> 32) as u32).swap_bytes();
        let text = frame.get(self.start..end - self.icv)?;
        let &[pad_length, next_header] = text.last_chunk()?;
        let length = (text.len() - ipsec::TRAILER_LENGTH).checked_sub(usize::from(pad_length))?;
        if !TUNNEL {
            let protocol = IpProtocol(next_header);
            let special = matches!(protocol, IpProtocol::IPV4 | IpProtocol::IPV6 | IpProtocol::NO_NEXT_HEADER);
            if special || (!V4 && protocol.is_ipv6_extension()) {
                return None;
            }
            let flow = (FlowKey::rest(V4, protocol, text.get(..length)?), self.ends[0]);
            return Some(Seen { low, total, length, next_header, inner: length, v4: V4, flow: self.asked(V4, protocol, flow, snapshot) });
        }
        let inner = Inner::read(text, length)?;
        let announced = if inner.v4 { IpProtocol::IPV4 } else { IpProtocol::IPV6 };
        let handed_on = class & ECN_HANDED_ON != 0 && (class ^ inner.traffic_class) & ECN != 0;
        if next_header != announced.0 || handed_on {
            return None;
        }
        let flow = self.asked(inner.v4, inner.protocol, inner.flow, snapshot);
        Some(Seen { low, total, length, next_header, inner: inner.total, v4: inner.v4, flow })
    }

    /// A packet's flow as [`Seen`] has it: none where it is clear at once that the SA carries it.
    #[inline(always)]
    fn asked(&self, v4: bool, protocol: IpProtocol, flow: (u64, u64), snapshot: &Snapshot) -> (u64, u64) {
        let selected = if v4 { self.any_between.has(flow.1) } else { !self.selective };
        if selected && !is_anothers(protocol, FlowKey::destination_port(flow.0), snapshot) { (0, 0) } else { flow }
    }

    /// Length of the IP packet behind `L3` bytes of link header, all of which is there, and its traffic class.
    #[inline(always)]
    fn outer<const L3: usize, const V4: bool>(&self, frame: &[u8]) -> Option<(usize, u8)> {
        let (link, ip) = frame.split_first_chunk::<L3>()?;
        let announced = if V4 { EtherType::IPV4 } else { EtherType::IPV6 };
        let announced = link.last_chunk().is_none_or(|ethertype| *ethertype == announced.0.to_be_bytes());
        let (total, class, same) = if V4 {
            let header: &[u8; IPV4_HEADER_LEN] = ip.first_chunk()?;
            let differs = not_plain(header) | (v4_word(header) ^ self.ends[0]) | u64::from(header[9] ^ self.protocol);
            (usize::from(u16::from_be_bytes([header[2], header[3]])), header[1], differs == 0)
        } else {
            let header: &[u8; IPV6_HEADER_LEN] = ip.first_chunk()?;
            let same = header[0] >> 4 == 6 && header[6] == self.protocol && v6_addresses(header) == self.ends;
            (IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]])), header[0] << 4 | header[1] >> 4, same)
        };
        (same && announced && total <= ip.len()).then_some((total, class))
    }

    /// Whether the UDP header in front of the ESP is that of all of it, and to the run's port.
    #[inline(never)]
    fn is_in_udp(&self, frame: &[u8], l3: usize, total: usize) -> bool {
        let from = self.at - UDP_HEADER_LEN;
        let header = frame.get(from..).and_then(<[u8]>::first_chunk::<UDP_HEADER_LEN>);
        header.is_some_and(|header| {
            let (port, length) = (u16::from_be_bytes([header[2], header[3]]), u16::from_be_bytes([header[4], header[5]]));
            port == self.port && usize::from(length) == l3 + total - from
        })
    }
}

/// Zero if an IPv4 header has no options and is not that of a part of a packet.
#[inline(always)]
fn not_plain(header: &[u8; IPV4_HEADER_LEN]) -> u64 {
    // Version and length; neither more fragments nor an offset.
    const LOOKED_AT: u64 = 0xff3f_0000_0000_00ff;
    let first = header.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    first & LOOKED_AT ^ 0x45
}

/// Whether another SA may be about a packet.
#[inline(always)]
fn is_anothers(protocol: IpProtocol, destination_port: Option<u16>, snapshot: &Snapshot) -> bool {
    match protocol {
        IpProtocol::ESP | IpProtocol::AH => true,
        IpProtocol::UDP => destination_port.is_some_and(|port| snapshot.is_udp_esp(port)),
        _ => false,
    }
}

impl Inner {
    /// Reads the plain packet at the start of `text`, of which `length` bytes can be its own.
    #[inline(always)]
    fn read(text: &[u8], length: usize) -> Option<Self> {
        let header: &[u8; IPV4_HEADER_LEN] = text.first_chunk()?;
        if not_plain(header) != 0 {
            return Self::read_v6(text, length);
        }
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if total > length {
            return None;
        }
        let (protocol, payload) = (IpProtocol(header[9]), text.get(IPV4_HEADER_LEN..total)?);
        Some(Self { v4: true, traffic_class: header[1], protocol, total, flow: (FlowKey::rest(true, protocol, payload), v4_word(header)) })
    }

    #[inline(always)]
    fn read_v6(text: &[u8], length: usize) -> Option<Self> {
        let header: &[u8; IPV6_HEADER_LEN] = text.first_chunk()?;
        let protocol = IpProtocol(header[6]);
        let total = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
        if header[0] >> 4 != 6 || protocol.is_ipv6_extension() || total > length {
            return None;
        }
        let payload = text.get(IPV6_HEADER_LEN..total)?;
        Some(Self { v4: false, traffic_class: header[0] << 4 | header[1] >> 4, protocol, total, flow: (FlowKey::rest(false, protocol, payload), 0) })
    }
}

/// Packets of one SA in a row. What they add to its life is added at the end, and its window is unlocked after that.
struct Run<'a, P: Provider> {
    handle: Handle,
    sa: &'a Sa<P>,
    association: &'a Association,
    window: MutexGuard<'a, ReplayWindow>,
    shape: Shape,
    tunnel: bool,
    extended: bool,
    /// What may be carried before there is something to tell.
    left_packets: u64,
    left_bytes: u64,
    /// What was carried.
    packets: u64,
    bytes: u64,
    /// Bytes of the IP packets that were taken.
    seen: u64,
    /// A flow that the SA may carry.
    flow: FlowKey,
}

impl<P: Provider> Drop for Run<'_, P> {
    #[inline]
    fn drop(&mut self) {
        if self.packets != 0 {
            self.sa.lifetime.carried(self.packets, self.bytes);
        }
    }
}

/// The number that comes next where none is lost.
#[derive(Clone, Copy)]
struct Next {
    /// Its high half, in its place.
    high: u64,
    /// Its low half; 0 where a number that follows the highest is not certain, or has another high half.
    low: u32,
}

impl<P: Provider> Run<'_, P> {
    /// Takes packets from the front of `lists`: their numbers are noted, and their headers gone. It ends before the first that is not plain, not the run's, of
    /// a number that is not certain and new, or with which there is something to tell of the SA's life; of that nothing is changed. Returns how many.
    // What the loop needs it has in registers, in functions of their own for all kinds of headers.
    #[inline(never)]
    fn take<const L3: usize, const V4: bool, const TUNNEL: bool>(
        &mut self,
        lists: &mut [NetBufferList],
        snapshot: &Snapshot,
        mut verdicts: Option<&mut Vec<InboundVerdict>>,
    ) -> usize {
        let shape = self.shape;
        let mut flow = (0, 0);
        let mut next = self.next();
        let (mut packets, mut bytes, mut seen, mut pending) = (0, 0, 0, 0);
        let most = usize::try_from(self.left_packets).unwrap_or(usize::MAX);
        for nbl in lists.iter_mut().take(most) {
            if nbl.oob.ipsec_bits() != GOOD || nbl.oob.ieee8021q != 0 {
                break;
            }
            let Some(packet) = shape.look::<L3, V4, TUNNEL>(nbl.buffer.as_slice(), snapshot) else { break };
            if packet.flow != flow && packet.flow.0 != 0 {
                if !self.may_carry(nbl.buffer.as_slice(), packet.next_header, packet.length, snapshot) {
                    break;
                }
                // Of IPv6 this is not all of it: it is asked for each time.
                flow = if packet.v4 { packet.flow } else { (0, 0) };
            }
            // What the SA's life is counted by.
            let counts = if TUNNEL { packet.length } else { shape.at - L3 + packet.length } as u64;
            if counts > self.left_bytes - bytes {
                break;
            }
            let mut sequence = next.high | u64::from(packet.low);
            if packet.low == next.low && packet.low != 0 {
                pending += 1;
                next.low = next.low.wrapping_add(1);
            } else {
                let noted = self.note(pending, packet.low);
                pending = 0;
                let Some(number) = noted else { break };
                sequence = number;
                next = self.next();
            }
            // Nothing is refused from here on.
            if TUNNEL {
                strip_tunnel(&mut nbl.buffer, L3, shape.start, packet.inner, packet.v4);
            } else {
                let payload = Payload { from: shape.at, start: shape.start, length: packet.length, next_header: packet.next_header };
                strip_transport(&mut nbl.buffer, L3, if V4 { 9 } else { 6 }, payload);
            }
            if let Some(verdicts) = &mut verdicts {
                verdicts.push(delivered(nbl.tag, AssociationSeen { operation: Operation::Esp, spi: self.association.spi, sequence }));
            }
            packets += 1;
            bytes += counts;
            seen += packet.total as u64;
        }
        self.window.advance(pending);
        (self.packets, self.bytes, self.seen) = (packets as u64, bytes, seen);
        packets
    }

    /// Whether [`Run::take`] takes this packet when what there is to tell of the SA's life has been told.
    fn takes<const L3: usize, const V4: bool, const TUNNEL: bool>(&mut self, frame: &[u8], snapshot: &Snapshot) -> bool {
        self.shape.look::<L3, V4, TUNNEL>(frame, snapshot).is_some_and(|packet| {
            let carried = packet.flow.0 == 0 || self.may_carry(frame, packet.next_header, packet.length, snapshot);
            carried && !self.sa.lifetime.is_over() && self.certain(packet.low).is_some_and(|number| self.window.check(number).is_new())
        })
    }

    #[inline]
    fn next(&self) -> Next {
        let next = self.window.next().filter(|&next| self.is_certain(next));
        next.map_or(Next { high: 0, low: 0 }, |next| Next { high: next >> 32 << 32, low: next as u32 })
    }

    /// Whether a packet of this number can be one, and the NIC has taken it for that.
    #[inline]
    fn is_certain(&self, sequence: u64) -> bool {
        if self.extended { self.association.is_where_the_nic_is(&self.window, sequence) } else { sequence >> 32 == 0 }
    }

    /// The number of a packet with this low half, if that is certain.
    #[inline]
    fn certain(&self, low: u32) -> Option<u64> {
        Some(self.association.infer(&self.window, low)).filter(|&sequence| self.is_certain(sequence))
    }

    /// Notes `pending` numbers that follow the highest, and then that of a packet; `None` if it is not certain and new, and then it was not noted.
    #[inline(never)]
    fn note(&mut self, pending: u64, low: u32) -> Option<u64> {
        self.window.advance(pending);
        let sequence = self.certain(low)?;
        self.window.update(sequence).is_new().then_some(sequence)
    }

    /// Whether the SA may carry a packet that carries `length` bytes of what `next_header` says, and no other SA is about it. Packets of a flow come one after the other: only the first of
    /// them is held against the selectors.
    #[inline(never)]
    fn may_carry(&mut self, frame: &[u8], next_header: u8, length: usize, snapshot: &Snapshot) -> bool {
        let text = frame.get(self.shape.start..).unwrap_or_default();
        let key = match (self.tunnel, text.first_chunk(), text.first_chunk()) {
            (true, Some(header), _) if header[0] >> 4 == 4 => {
                let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
                FlowKey::v4(header, IpProtocol(header[9]), text.get(IPV4_HEADER_LEN..total).unwrap_or_default())
            }
            (true, _, Some(header)) => {
                let total = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
                FlowKey::v6(header, IpProtocol(header[6]), text.get(IPV6_HEADER_LEN..total).unwrap_or_default())
            }
            (true, ..) => return false,
            (false, ..) => {
                let payload = text.get(..length).unwrap_or_default();
                FlowKey::between(self.shape.v4, self.shape.ends, IpProtocol(next_header), payload)
            }
        };
        key.is(&self.flow) || {
            let flow = key.flow();
            let another = is_anothers(flow.protocol, flow.ports.map(|(_, port)| port), snapshot);
            let carries = !another && self.sa.selects(|| flow);
            if carries {
                self.flow = key;
            }
            carries
        }
    }
}
