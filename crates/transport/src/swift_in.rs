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
use packet::{ETHERNET_HEADER_LEN, EtherType, Frame, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpAddress, IpProtocol, Medium, Spi, UDP_HEADER_LEN};
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
            let frame = nbl.buffer.as_slice();
            let Some(outer) = Outer::read(frame, link, self.snapshot) else { break };
            if run.as_ref().is_none_or(|run| !run.is_of(&outer)) {
                // The old one ends first: two locks held at once could be a deadlock.
                drop(run.take());
                run = self.begin(&outer);
            }
            let Some(run) = &mut run else { break };
            let Some(carried) = run.read(frame, &outer, self.snapshot) else { break };
            let Some(sequence) = run.take(&carried, outer.low) else { break };
            // Nothing is refused from here on.
            let (l3, end, pointer) = (outer.l3, outer.end, outer.ends.protocol_offset());
            if run.tunnel {
                strip_tunnel(&mut nbl.buffer, l3, carried.payload.start, carried.length, carried.v4);
            } else {
                strip_transport(&mut nbl.buffer, l3, pointer, carried.payload);
            }
            if run.extended && run.association.nic.must_tell((sequence >> 32) as u32) {
                self.news.push(LaneNews::HighHalf(run.handle, Operation::Esp));
            }
            if out.report {
                out.verdicts.push(delivered(nbl.tag, AssociationSeen { operation: Operation::Esp, spi: run.association.spi, sequence }));
            }
            packets += 1;
            bytes += end - l3;
            // It is in no order on the wire any more.
            out.delivered.push(Frame { order: 0, ..nbl.take_frame() });
        }
        drop(run);
        if packets != 0 {
            self.count_opened(packets, bytes as u64);
        }
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
    fn suits(&self, outer: &Outer<'_>) -> Option<(Handle, &'a Sa<P>)> {
        let port = (outer.port != 0).then_some(outer.port);
        let (source, destination) = (outer.ends.source(), outer.ends.destination());
        let Search::Right(handle, sa) = self.search(source, destination, Spi::from_be_bytes(outer.spi), Operation::Esp, port) else { return None };
        // In transport mode UDP means a NAT, and checksums that no longer fit.
        let suits = sa.is_esp_alone() && (sa.mode == Mode::Tunnel || !sa.in_udp()) && sa.offload_handle().is_some();
        suits.then_some((handle, sa))
    }

    #[inline(never)]
    fn begin(&self, outer: &Outer<'_>) -> Option<Run<'a, P>> {
        let (handle, sa) = self.suits(outer)?;
        let half = sa.esp.as_ref()?;
        let window = half.association.replay()?;
        // Nothing is too short for it, and it says what would not be.
        let shortest = match half.transform.text(0) {
            Err(ipsec::EspError::TooShort { minimum, .. }) => minimum,
            _ => half.transform.prefix_length() + ipsec::TRAILER_LENGTH + half.transform.icv_length(),
        };
        // The window is locked by now: whoever had it before has counted what was carried.
        let (left_packets, left_bytes) = sa.lifetime.left(self.now)?;
        Some(Run {
            handle,
            sa,
            association: &half.association,
            window,
            ends: Kept::new(outer.ends),
            spi: outer.spi,
            port: outer.port,
            tunnel: sa.mode == Mode::Tunnel,
            extended: half.association.extended,
            selectors: sa.selectors(),
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

/// Source and destination as they stand in an IP header.
#[derive(Clone, Copy)]
enum Ends<'f> {
    V4(&'f [u8; 8]),
    V6(&'f [u8; 32]),
}

impl Ends<'_> {
    fn source(self) -> IpAddress {
        match self {
            Self::V4(&[a, b, c, d, ..]) => IpAddress::v4([a, b, c, d]),
            Self::V6(ends) => IpAddress::v6(ends.first_chunk().copied().unwrap_or_default()),
        }
    }

    fn destination(self) -> IpAddress {
        match self {
            Self::V4(&[.., a, b, c, d]) => IpAddress::v4([a, b, c, d]),
            Self::V6(ends) => IpAddress::v6(ends.last_chunk().copied().unwrap_or_default()),
        }
    }

    #[inline(always)]
    const fn is_v4(self) -> bool {
        matches!(self, Self::V4(_))
    }

    /// Offset from the start of the IP header of the byte that names what follows it.
    const fn protocol_offset(self) -> usize {
        if self.is_v4() { 9 } else { 6 }
    }
}

/// The same, kept for comparison with the next packet's; of IPv4 the first word alone.
#[derive(Clone, Copy)]
struct Kept {
    v4: bool,
    words: [u64; 4],
}

impl Kept {
    fn new(ends: Ends<'_>) -> Self {
        match ends {
            Ends::V4(ends) => Self { v4: true, words: [u64::from_ne_bytes(*ends), 0, 0, 0] },
            Ends::V6(ends) => Self { v4: false, words: words(ends) },
        }
    }

    #[inline(always)]
    fn is(&self, ends: Ends<'_>) -> bool {
        match ends {
            Ends::V4(ends) => self.v4 && u64::from_ne_bytes(*ends) == self.words[0],
            Ends::V6(ends) => !self.v4 && words(ends) == self.words,
        }
    }
}

#[inline(always)]
fn words(bytes: &[u8; 32]) -> [u64; 4] {
    let (words, _) = bytes.as_chunks();
    [0, 1, 2, 3].map(|at| words.get(at).map_or(0, |&word| u64::from_ne_bytes(word)))
}

/// A plain IP header, and what it says: no options, no extension headers, not a part of a packet.
struct Header<'f> {
    ends: Ends<'f>,
    traffic_class: u8,
    protocol: IpProtocol,
    /// Of the header, in bytes.
    length: usize,
    /// Of the packet, all of which is there.
    total: usize,
}

impl<'f> Header<'f> {
    /// Reads the header at the start of `ip`, which has `available` bytes that can be the packet's.
    #[inline(always)]
    fn read(ip: &'f [u8], available: usize) -> Option<Self> {
        let header: &[u8; IPV4_HEADER_LEN] = ip.first_chunk()?;
        if header[0] != 0x45 {
            return Self::read_v6(ip, available);
        }
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        // Neither more fragments nor an offset.
        let part = u16::from_ne_bytes([header[6], header[7]]) & const { u16::from_ne_bytes(0x3fff_u16.to_be_bytes()) } != 0;
        if part || total < IPV4_HEADER_LEN || total > available {
            return None;
        }
        Some(Self { ends: Ends::V4(header.last_chunk()?), traffic_class: header[1], protocol: IpProtocol(header[9]), length: IPV4_HEADER_LEN, total })
    }

    #[inline]
    fn read_v6(ip: &'f [u8], available: usize) -> Option<Self> {
        let header: &[u8; IPV6_HEADER_LEN] = ip.first_chunk()?;
        let protocol = IpProtocol(header[6]);
        let total = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
        if header[0] >> 4 != 6 || protocol.is_ipv6_extension() || total > available {
            return None;
        }
        Some(Self { ends: Ends::V6(header.last_chunk()?), traffic_class: header[0] << 4 | header[1] >> 4, protocol, length: IPV6_HEADER_LEN, total })
    }
}

/// A packet as it came up. Offsets are in bytes from the start of the frame.
struct Outer<'f> {
    ends: Ends<'f>,
    spi: [u8; 4],
    /// Low half of the sequence number.
    low: u32,
    /// Destination port of the UDP header in front of ESP; 0: there is none. (That is no port.)
    port: u16,
    traffic_class: u8,
    l3: usize,
    /// Where the ESP is, and where that and the packet end.
    at: usize,
    end: usize,
}

impl<'f> Outer<'f> {
    #[inline(always)]
    fn read(frame: &'f [u8], l3: usize, snapshot: &Snapshot) -> Option<Self> {
        let ip = frame.get(l3..)?;
        let header = Header::read(ip, ip.len())?;
        if l3 != 0 {
            let &[.., e0, e1] = frame.first_chunk::<ETHERNET_HEADER_LEN>()?;
            let announced = if header.ends.is_v4() { EtherType::IPV4 } else { EtherType::IPV6 };
            if u16::from_be_bytes([e0, e1]) != announced.0 {
                return None;
            }
        }
        let (port, at) = match header.protocol {
            IpProtocol::ESP => (0, header.length),
            IpProtocol::UDP => (esp_port(ip.get(header.length..header.total)?, snapshot)?, header.length + UDP_HEADER_LEN),
            _ => return None,
        };
        // Beyond the packet's end this is not its own; but then it is too short for any SA, which is looked at before anything else.
        let &[s0, s1, s2, s3, n0, n1, n2, n3] = ip.get(at..)?.first_chunk()?;
        Some(Self {
            ends: header.ends,
            spi: [s0, s1, s2, s3],
            low: u32::from_be_bytes([n0, n1, n2, n3]),
            port,
            traffic_class: header.traffic_class,
            l3,
            at: l3 + at,
            end: l3 + header.total,
        })
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
    (whole && esp && port != 0 && snapshot.is_udp_esp(port)).then_some(port)
}

/// What a packet carries.
struct Carried {
    payload: Payload,
    /// Of what is delivered: in tunnel mode the inner packet's length, which padding may follow.
    length: usize,
    /// Whether that is IPv4.
    v4: bool,
    /// What the SA's life is counted by.
    counts: u64,
}

/// What selectors look at, kept for comparison with the next packet's.
#[derive(Clone, Copy)]
struct FlowKept {
    ends: Kept,
    protocol: IpProtocol,
    ports: Option<[u8; 4]>,
}

/// Packets of one SA in a row. What they add to its life is added at the end, and its window is unlocked after that.
struct Run<'a, P: Provider> {
    handle: Handle,
    sa: &'a Sa<P>,
    association: &'a Association,
    window: MutexGuard<'a, ReplayWindow>,
    ends: Kept,
    spi: [u8; 4],
    port: u16,
    tunnel: bool,
    extended: bool,
    selectors: &'a [Selector],
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
    flow: Option<FlowKept>,
}

impl<P: Provider> Drop for Run<'_, P> {
    fn drop(&mut self) {
        self.sa.lifetime.carried(self.packets, self.bytes);
    }
}

impl<P: Provider> Run<'_, P> {
    /// Whether a packet names the run's SA. (That one was found by the same values.)
    #[inline(always)]
    fn is_of(&self, outer: &Outer<'_>) -> bool {
        self.spi == outer.spi && self.port == outer.port && self.ends.is(outer.ends)
    }

    /// Takes a packet, which is delivered then, and notes its number; `None` if that is not certain and new, or there is something to tell of the SA's life,
    /// and then nothing was changed.
    #[inline(always)]
    fn take(&mut self, carried: &Carried, low: u32) -> Option<u64> {
        let sequence = if self.extended {
            let sequence = self.window.infer(low);
            self.association.is_where_the_nic_is(&self.window, sequence).then_some(sequence)?
        } else {
            u64::from(low)
        };
        if self.packets == self.left_packets || carried.counts > self.left_bytes - self.bytes || !self.window.update(sequence).is_new() {
            return None;
        }
        self.packets += 1;
        self.bytes += carried.counts;
        Some(sequence)
    }

    /// Reads what a packet carries; `None` if that is not plain, or the SA may not carry it.
    #[inline(always)]
    fn read(&mut self, frame: &[u8], outer: &Outer<'_>, snapshot: &Snapshot) -> Option<Carried> {
        if outer.end < outer.at + self.shortest {
            return None;
        }
        let start = outer.at + self.prefix;
        let text = frame.get(start..outer.end - self.icv)?;
        let &[pad_length, next_header] = text.last_chunk()?;
        let length = (text.len() - ipsec::TRAILER_LENGTH).checked_sub(usize::from(pad_length))?;
        let payload = Payload { from: outer.at, start, length, next_header };
        if !self.tunnel {
            return self.read_transport(text, outer, payload, snapshot);
        }
        let inner = Header::read(text, length)?;
        let v4 = inner.ends.is_v4();
        let announced = if v4 { IpProtocol::IPV4 } else { IpProtocol::IPV6 };
        let handed_on = outer.traffic_class & ECN_HANDED_ON != 0 && (outer.traffic_class ^ inner.traffic_class) & ECN != 0;
        if next_header != announced.0 || handed_on {
            return None;
        }
        // Most SAs of tunnels carry everything, and most protocols have nothing that is to be looked at then.
        let asked = !self.selectors.is_empty() || matches!(inner.protocol, IpProtocol::ESP | IpProtocol::AH | IpProtocol::UDP);
        if asked && !self.may_carry(inner.ends, inner.protocol, text.get(inner.length..inner.total)?, snapshot) {
            return None;
        }
        Some(Carried { payload, length: inner.total, v4, counts: length as u64 })
    }

    #[inline(never)]
    fn read_transport(&mut self, text: &[u8], outer: &Outer<'_>, payload: Payload, snapshot: &Snapshot) -> Option<Carried> {
        let protocol = IpProtocol(payload.next_header);
        let special = matches!(protocol, IpProtocol::IPV4 | IpProtocol::IPV6 | IpProtocol::NO_NEXT_HEADER);
        if special || (!outer.ends.is_v4() && protocol.is_ipv6_extension()) {
            return None;
        }
        let carried = self.may_carry(outer.ends, protocol, text.get(..payload.length)?, snapshot);
        let counts = (outer.at - outer.l3 + payload.length) as u64;
        carried.then_some(Carried { payload, length: payload.length, v4: outer.ends.is_v4(), counts })
    }

    /// Whether the SA may carry a packet, and no other SA is about it. Packets of a flow come one after the other: only the first of them is held against the
    /// selectors.
    #[inline]
    fn may_carry(&mut self, ends: Ends<'_>, protocol: IpProtocol, upper: &[u8], snapshot: &Snapshot) -> bool {
        let ports = if protocol.has_ports() { upper.first_chunk::<4>().copied() } else { None };
        let another = match protocol {
            IpProtocol::ESP | IpProtocol::AH => true,
            IpProtocol::UDP => ports.is_some_and(|[.., p0, p1]| snapshot.is_udp_esp(u16::from_be_bytes([p0, p1]))),
            _ => false,
        };
        if another || self.selectors.is_empty() {
            return !another;
        }
        let same = self.flow.as_ref().is_some_and(|flow| flow.protocol == protocol && flow.ports == ports && flow.ends.is(ends));
        if !same {
            let numbers = |[s0, s1, d0, d1]: [u8; 4]| (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
            let flow = Flow { source: ends.source(), destination: ends.destination(), protocol, ports: ports.map(numbers) };
            if !self.sa.selects(|| flow) {
                return false;
            }
            self.flow = Some(FlowKept { ends: Kept::new(ends), protocol, ports });
        }
        true
    }
}
