//! The swift way in: one pass over packets such as nearly all are, without the stages of the general way.
//!
//! A packet goes this way where its NIC says that its one portion is good, and that is ESP, perhaps in UDP, behind a plain IP header; where the bundle that it
//! names is nothing but ESP, neither inside another nor around one; where its number is certain and new, nothing is due in the SA's life, and what comes out
//! is plain, too, and of a flow that the SA may carry. Whatever else a packet is, it has changed nothing when that is found out, and goes the general way: all
//! that is refused is refused there, and told there. Both ways share the rules of numbers, lifetimes, look-up and stripping, and a property test holds them
//! against each other.
//!
//! What is the same for a run of packets under one SA is done once a run: the look-up, the window's lock, the lifetime, the sums.

use std::sync::MutexGuard;

use ipsec::{Provider, ReplayWindow};
use ndis::{CryptoStatus, IpsecReceive, NetBufferList, Operation, OutOfBand};
use packet::{ETHERNET_HEADER_LEN, EtherType, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpAddress, IpProtocol, Medium, Spi, UDP_HEADER_LEN};
use sa_table::Handle;

use crate::association::Association;
use crate::inbound::{Chunk, InboundBatch};
use crate::look::Search;
use crate::parameters::Mode;
use crate::sa::Sa;
use crate::selector::{Flow, Selector};
use crate::stripping::{Payload, strip_transport, strip_tunnel};
use crate::transport::{LaneNews, Snapshot};
use crate::verdict::{AssociationSeen, InboundVerdict, Verdict};

/// The two ECN codepoints that an outer header can hand to an inner one (RFC 6040 section 4.2): ECT(1) and CE, the odd ones.
const ECN_HANDED_ON: u8 = 0b01;
const ECN: u8 = 0b11;

impl<'a, P: Provider> Chunk<'a, '_, P> {
    /// Takes packets from the front of `lists` for as long as they are plain, in order. Returns how many.
    pub(crate) fn swift(&mut self, lists: &mut [NetBufferList], out: &mut InboundBatch) -> usize {
        let (link, good) = (link_length(self.shared.medium), good());
        let mut run: Option<Run<'a, P>> = None;
        let (mut packets, mut bytes) = (0, 0_usize);
        for nbl in lists {
            if nbl.oob.ipsec_bits() != good {
                break;
            }
            let Some(outer) = Outer::read(nbl.buffer.as_slice(), link, self.snapshot) else { break };
            if run.as_ref().is_none_or(|run| !run.is_of(&outer)) {
                // The old one ends first: two locks held at once could be a deadlock.
                drop(run.take());
                run = self.begin(&outer);
            }
            let Some(run) = &mut run else { break };
            let Some((carried, sequence)) = run.take(nbl.buffer.as_slice(), &outer, self.snapshot) else { break };
            // Nothing is refused from here on.
            if run.association.extended && run.association.nic.must_tell((sequence >> 32) as u32) {
                self.news.push(LaneNews::HighHalf(run.handle, Operation::Esp));
            }
            let (l3, Carried { payload, length, v4, .. }) = (outer.l3, carried);
            match run.sa.mode {
                Mode::Tunnel => strip_tunnel(&mut nbl.buffer, l3, payload.start, length, v4),
                Mode::Transport => strip_transport(&mut nbl.buffer, l3, outer.pointer(), payload),
            }
            packets += 1;
            bytes += outer.end - l3;
            if out.report {
                out.verdicts.push(delivered(nbl.tag, AssociationSeen { operation: Operation::Esp, spi: outer.spi, sequence }));
            }
            out.delivered.push(nbl.take_frame());
        }
        self.count_opened(packets, bytes as u64);
        packets as usize
    }

    /// How many packets at the front of `lists`, of which the first is not plain, go the general way together.
    pub(crate) fn odd(&self, lists: &[NetBufferList]) -> usize {
        let (link, good) = (link_length(self.shared.medium), good());
        let plain = |nbl: &NetBufferList| {
            nbl.oob.ipsec_bits() == good && Outer::read(nbl.buffer.as_slice(), link, self.snapshot).is_some_and(|outer| self.suits(&outer).is_some())
        };
        1 + lists.iter().skip(1).take_while(|nbl| !plain(nbl)).count()
    }

    /// The SA of a packet, if its packets may go this way.
    fn suits(&self, outer: &Outer) -> Option<(Handle, &'a Sa<P>)> {
        let Search::Right(handle, sa) = self.search(outer.ends.source(), outer.ends.destination(), outer.spi, Operation::Esp, outer.port) else { return None };
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
        // The lock is held by now, so what was counted of it has been counted.
        let (left_packets, left_bytes) = sa.lifetime.left(self.now)?;
        Some(Run {
            handle,
            sa,
            association: &half.association,
            window,
            ends: outer.ends,
            spi: outer.spi,
            port: outer.port,
            prefix: half.transform.prefix_length(),
            icv: half.transform.icv_length(),
            shortest,
            left_packets,
            left_bytes,
            packets: 0,
            bytes: 0,
            flow: None,
        })
    }
}

/// What the NIC says of a packet of which it has opened the one portion that there is.
#[inline]
fn good() -> u64 {
    let mut oob = OutOfBand::default();
    oob.set_ipsec_receive(IpsecReceive { crypto_done: true, ..IpsecReceive::UNTOUCHED });
    oob.ipsec_bits()
}

/// Length of a plain link header.
#[inline]
const fn link_length(medium: Medium) -> usize {
    match medium {
        Medium::Ethernet => ETHERNET_HEADER_LEN,
        Medium::Ip => 0,
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

/// Source and destination of an IP header as they stand in it: two words of IPv4 in the first of these, or all four.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends {
    v4: bool,
    words: [u64; 4],
}

impl Ends {
    #[inline(always)]
    fn v4(header: &[u8; IPV4_HEADER_LEN]) -> Self {
        Self { v4: true, words: [header.last_chunk().map_or(0, |&ends| u64::from_ne_bytes(ends)), 0, 0, 0] }
    }

    #[inline(always)]
    fn v6(header: &[u8; IPV6_HEADER_LEN]) -> Self {
        let (words, _) = header.as_chunks();
        Self { v4: false, words: [1, 2, 3, 4].map(|at| words.get(at).map_or(0, |&word| u64::from_ne_bytes(word))) }
    }

    fn source(&self) -> IpAddress {
        let [first, second, ..] = self.words;
        let [a, b, c, d, ..] = first.to_ne_bytes();
        if self.v4 { IpAddress::v4([a, b, c, d]) } else { v6(first, second) }
    }

    fn destination(&self) -> IpAddress {
        let [first, _, third, fourth] = self.words;
        let [.., a, b, c, d] = first.to_ne_bytes();
        if self.v4 { IpAddress::v4([a, b, c, d]) } else { v6(third, fourth) }
    }
}

fn v6(high: u64, low: u64) -> IpAddress {
    let mut bytes = [0; 16];
    for (byte, from) in bytes.iter_mut().zip(high.to_ne_bytes().into_iter().chain(low.to_ne_bytes())) {
        *byte = from;
    }
    IpAddress::v6(bytes)
}

/// A plain IP header and what it says, if it is one: no options, no extension headers, not a part of a packet. Offsets are in bytes from the start of `ip`,
/// which holds all of the packet.
struct Header {
    ends: Ends,
    traffic_class: u8,
    protocol: IpProtocol,
    length: usize,
    total: usize,
}

impl Header {
    #[inline(always)]
    fn read(ip: &[u8]) -> Option<Self> {
        let &first = ip.first()?;
        let header = if first == 0x45 {
            let header: &[u8; IPV4_HEADER_LEN] = ip.first_chunk()?;
            let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
            // Neither more fragments nor an offset.
            if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 || total < IPV4_HEADER_LEN {
                return None;
            }
            Self { ends: Ends::v4(header), traffic_class: header[1], protocol: IpProtocol(header[9]), length: IPV4_HEADER_LEN, total }
        } else if first >> 4 == 6 {
            let header: &[u8; IPV6_HEADER_LEN] = ip.first_chunk()?;
            let protocol = IpProtocol(header[6]);
            if protocol.is_ipv6_extension() {
                return None;
            }
            let total = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
            Self { ends: Ends::v6(header), traffic_class: first << 4 | header[1] >> 4, protocol, length: IPV6_HEADER_LEN, total }
        } else {
            return None;
        };
        (header.total <= ip.len()).then_some(header)
    }
}

/// A packet as it came up. Offsets are in bytes from the start of the frame.
struct Outer {
    ends: Ends,
    spi: Spi,
    /// Destination port of the UDP header in front of ESP.
    port: Option<u16>,
    traffic_class: u8,
    low: u32,
    l3: usize,
    /// Where the ESP is, and where that and the packet end.
    at: usize,
    end: usize,
}

impl Outer {
    #[inline(always)]
    fn read(frame: &[u8], l3: usize, snapshot: &Snapshot) -> Option<Self> {
        let ip = frame.get(l3..)?;
        let header = Header::read(ip)?;
        if l3 != 0 {
            let &[.., e0, e1] = frame.first_chunk::<ETHERNET_HEADER_LEN>()?;
            let announced = if header.ends.v4 { EtherType::IPV4 } else { EtherType::IPV6 };
            (u16::from_be_bytes([e0, e1]) == announced.0).then_some(())?;
        }
        let behind = ip.get(header.length..header.total)?;
        let (port, at) = match header.protocol {
            IpProtocol::ESP => (None, header.length),
            IpProtocol::UDP => (Some(esp_port(behind, snapshot)?), header.length + UDP_HEADER_LEN),
            _ => return None,
        };
        let &[s0, s1, s2, s3, n0, n1, n2, n3] = ip.get(at..header.total)?.first_chunk()?;
        Some(Self {
            ends: header.ends,
            spi: Spi::from_be_bytes([s0, s1, s2, s3]),
            port,
            traffic_class: header.traffic_class,
            low: u32::from_be_bytes([n0, n1, n2, n3]),
            l3,
            at: l3 + at,
            end: l3 + header.total,
        })
    }

    /// Offset from the start of the IP header of the byte that names ESP.
    const fn pointer(&self) -> usize {
        if self.ends.v4 { 9 } else { 6 }
    }
}

/// The port that ESP in UDP came to; `None` if it is not that.
#[inline(never)]
fn esp_port(datagram: &[u8], snapshot: &Snapshot) -> Option<u16> {
    let (header, behind) = datagram.split_first_chunk::<UDP_HEADER_LEN>()?;
    let port = u16::from_be_bytes([header[2], header[3]]);
    let whole = usize::from(u16::from_be_bytes([header[4], header[5]])) == datagram.len();
    // With an SPI of zero it is IKE, and a keepalive is shorter than an SPI.
    let esp = behind.first_chunk::<4>().is_some_and(|spi| *spi != packet::NON_ESP_MARKER);
    (whole && esp && snapshot.is_udp_esp(port)).then_some(port)
}

/// What a packet carries.
struct Carried {
    payload: Payload,
    /// Of what is delivered: in tunnel mode the inner packet's length, which padding may follow.
    length: usize,
    /// Tunnel mode: whether it is IPv4.
    v4: bool,
    /// What the SA's life is counted by.
    counts: u64,
}

/// What selectors look at, as it stands in the packet.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FlowSeen {
    ends: Ends,
    protocol: IpProtocol,
    ports: Option<[u8; 4]>,
}

impl FlowSeen {
    fn flow(&self) -> Flow {
        let ports = self.ports.map(|[a, b, c, d]| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
        Flow { source: self.ends.source(), destination: self.ends.destination(), protocol: self.protocol, ports }
    }
}

/// Packets of one SA in a row. What they add to its life is added at the end, and its window is unlocked after that.
struct Run<'a, P: Provider> {
    handle: Handle,
    sa: &'a Sa<P>,
    association: &'a Association,
    window: MutexGuard<'a, ReplayWindow>,
    ends: Ends,
    spi: Spi,
    port: Option<u16>,
    /// Lengths in ESP, in bytes.
    prefix: usize,
    icv: usize,
    shortest: usize,
    /// What may be carried before there is something to tell.
    left_packets: u64,
    left_bytes: u64,
    packets: u64,
    bytes: u64,
    /// One that the SA may carry.
    flow: Option<FlowSeen>,
}

impl<P: Provider> Drop for Run<'_, P> {
    fn drop(&mut self) {
        self.sa.lifetime.carried(self.packets, self.bytes);
    }
}

impl<P: Provider> Run<'_, P> {
    /// Whether a packet names the run's SA. (That one was found by the same values.)
    #[inline(always)]
    fn is_of(&self, outer: &Outer) -> bool {
        self.ends == outer.ends && self.spi == outer.spi && self.port == outer.port
    }

    /// Takes a packet, which is delivered then, and notes its number; `None` if it is not plain, and then it was not taken.
    #[inline(always)]
    fn take(&mut self, frame: &[u8], outer: &Outer, snapshot: &Snapshot) -> Option<(Carried, u64)> {
        let carried = self.read(frame, outer, snapshot)?;
        let sequence = self.association.infer(&self.window, outer.low);
        if self.association.extended && !self.association.is_where_the_nic_is(&self.window, sequence) {
            return None;
        }
        if self.packets == self.left_packets || carried.counts > self.left_bytes - self.bytes || !self.window.update(sequence).is_new() {
            return None;
        }
        self.packets += 1;
        self.bytes += carried.counts;
        Some((carried, sequence))
    }

    #[inline(always)]
    fn read(&mut self, frame: &[u8], outer: &Outer, snapshot: &Snapshot) -> Option<Carried> {
        if outer.end - outer.at < self.shortest {
            return None;
        }
        let (start, end) = (outer.at + self.prefix, outer.end - self.icv);
        let &[pad_length, next_header] = frame.get(start..end)?.last_chunk()?;
        let text_length = (end - start - ipsec::TRAILER_LENGTH).checked_sub(usize::from(pad_length))?;
        let text = frame.get(start..start + text_length)?;
        let payload = Payload { from: outer.at, start, length: text_length, next_header };
        match self.sa.mode {
            Mode::Tunnel => {
                let inner = Header::read(text)?;
                let announced = if inner.ends.v4 { IpProtocol::IPV4 } else { IpProtocol::IPV6 };
                let handed_on = outer.traffic_class & ECN_HANDED_ON != 0 && (outer.traffic_class ^ inner.traffic_class) & ECN != 0;
                if next_header != announced.0 || handed_on {
                    return None;
                }
                let upper = text.get(inner.length..inner.total)?;
                self.may_carry(inner.ends, inner.protocol, upper, snapshot).then_some(())?;
                Some(Carried { payload, length: inner.total, v4: inner.ends.v4, counts: text_length as u64 })
            }
            Mode::Transport => {
                let protocol = IpProtocol(next_header);
                if !outer.ends.v4 && protocol.is_ipv6_extension() {
                    return None;
                }
                let special = matches!(protocol, IpProtocol::IPV4 | IpProtocol::IPV6 | IpProtocol::NO_NEXT_HEADER);
                if special || !self.may_carry(outer.ends, protocol, text, snapshot) {
                    return None;
                }
                Some(Carried { payload, length: text_length, v4: outer.ends.v4, counts: (outer.at - outer.l3 + text_length) as u64 })
            }
        }
    }

    /// Whether the SA may carry a packet, and no other SA is about it.
    #[inline(always)]
    fn may_carry(&mut self, ends: Ends, protocol: IpProtocol, upper: &[u8], snapshot: &Snapshot) -> bool {
        let ports = if protocol.has_ports() { upper.first_chunk::<4>().copied() } else { None };
        let another = match protocol {
            IpProtocol::ESP | IpProtocol::AH => true,
            IpProtocol::UDP => ports.is_some_and(|[.., p0, p1]| snapshot.is_udp_esp(u16::from_be_bytes([p0, p1]))),
            _ => false,
        };
        !another && (self.sa.selectors().is_empty() || self.is_selected(FlowSeen { ends, protocol, ports }))
    }

    /// Packets of a flow come one after the other: only the first of them is held against the selectors.
    #[inline]
    fn is_selected(&mut self, seen: FlowSeen) -> bool {
        if self.flow == Some(seen) {
            return true;
        }
        let selected = matches_any(self.sa.selectors(), &seen);
        if selected {
            self.flow = Some(seen);
        }
        selected
    }
}

#[inline(never)]
fn matches_any(selectors: &[Selector], seen: &FlowSeen) -> bool {
    let flow = seen.flow();
    selectors.iter().any(|selector| selector.matches(&flow))
}
