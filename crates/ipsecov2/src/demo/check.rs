//! What must hold of a run, looked at from outside: by what goes into the hosts, what is on the wire between them, and what comes out.

use core::ops::Range;
use std::collections::{HashMap, HashSet, VecDeque};

use ipsec::Encryption;
use ndis::Operation;
use packet::{AhPacket, EspPacket, EthernetFrame, EthernetKind, FragmentState, IpProtocol, Medium, ParsedIp, UDP_HEADER_LEN, UdpPacket};
use serde::Serialize;
use transport::{Mode, SaParameters};

use super::plan::{self, Connection};
use super::traffic::{Packet, Side, Traffic};
use super::windows::Windows;
use crate::workers::Spread;

/// How many failures of one check are told in words.
const TOLD: usize = 5;
/// SPI and sequence number.
const ESP_HEADER: usize = 8;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Every packet arrived exactly once, bit-identical, in order; with several workers in the order of its flow. (In a batch of which the NIC gave some back, the others may have overtaken these.)
    Delivery,
    /// Nothing of a protected packet can be read on the wire: its IPsec headers are those of its SA, and there is no clear text behind them. (What an SA
    /// file leaves unencrypted is not searched.)
    ClearText,
    /// No IV comes twice under one key.
    Ivs,
    /// Sequence numbers only grow.
    SequenceNumbers,
    /// Every packet is in one counter, and transport, NIC and wire have counted the same.
    Counters,
    /// Host a's NIC worked while its offload was on, and only then; host b's always did. (But for packets whose extended sequence numbers had just outgrown
    /// what their NIC was told of: the transport makes them itself until UPDATE_SA is done.)
    Offload,
}

impl Check {
    /// All checks.
    pub const ALL: [Self; 6] = [Self::Delivery, Self::ClearText, Self::Ivs, Self::SequenceNumbers, Self::Counters, Self::Offload];

    /// What it means, in a few words.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Delivery => "every packet arrived once, bit-identical, in order",
            Self::ClearText => "no clear text on the wire",
            Self::Ivs => "no IV twice under one key",
            Self::SequenceNumbers => "sequence numbers only grow",
            Self::Counters => "every packet in one counter, all counters agree",
            Self::Offload => "NICs worked when offload was on, and only then",
        }
    }
}

/// How a check went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// Which.
    pub check: Check,
    /// Whether what it means holds.
    pub passed: bool,
    /// What was looked at, in words.
    pub looked_at: String,
    /// How often it failed.
    pub failures: u64,
    /// The first failures, in words.
    pub first: Vec<String>,
}

/// Notes of failures.
#[derive(Default)]
struct Failures {
    counts: [u64; Check::ALL.len()],
    told: [Vec<String>; Check::ALL.len()],
}

impl Failures {
    fn note(&mut self, check: Check, what: impl FnOnce() -> String) {
        let at = check as usize;
        self.counts[at] += 1;
        if self.told[at].len() < TOLD {
            self.told[at].push(what());
        }
    }
}

/// A security association, as the wire shows it.
struct Numbers {
    esn: bool,
    /// The number seen last, in full.
    last: u64,
    /// The high half that the NIC can have been told of.
    told: u32,
}

/// What the packets of a connection look like on the wire, in one direction.
struct Look<'a> {
    /// The outermost bundle: the connection's own, or the tunnel that it is inside of.
    outer: &'a SaParameters,
    /// Somebody on the way encrypts.
    encrypted: bool,
    /// The addresses can be seen, but nothing of what the IP header carries; otherwise nothing at all.
    addresses_seen: bool,
    /// SAs inside, whose numbers nobody sees, go over to a new high half soon.
    hidden_wrap: bool,
}

/// Packets that come out in order at a host, protected or bypassed.
#[derive(Default)]
struct Expected {
    queue: VecDeque<u64>,
    /// What others overtook, and which was the last to do so.
    overtaken: HashMap<u64, u64>,
}

/// Whoever looks at everything. Packets are named by their tag: their number among all that are sent.
pub(super) struct Checker<'a> {
    traffic: &'a Traffic,
    connection_of: Vec<Option<usize>>,
    /// By sender and connection.
    looks: [Vec<Option<Look<'a>>>; 2],
    windows: Windows,
    /// By sender, operation (51 or 50) and SPI.
    numbers: HashMap<(Side, u8, u32), Numbers>,
    ivs: HashSet<(Side, u32, Vec<u8>)>,
    /// The order that each packet is in: with several workers that of its flow, else one for all.
    order_of: Vec<u64>,
    /// What is to come out at each host, by order.
    expected: [HashMap<(bool, u64), Expected>; 2],
    /// Packets that may overtake one another.
    loose: Range<u64>,
    sent: u64,
    delivered: u64,
    protected_frames: u64,
    bypassed_frames: u64,
    bytes_searched: u64,
    /// Packets from each host whose numbers' high half its NIC could not have been told of.
    untold: [u64; 2],
    failures: Failures,
}

impl<'a> Checker<'a> {
    pub(super) fn new(traffic: &'a Traffic, connections: &'a [Connection]) -> Self {
        let connection_of = plan::connections_of(traffic, connections);
        let looks = Side::BOTH.map(|from| connections.iter().map(|connection| look(connection.way(from)?.sa(), from, connections)).collect::<Vec<_>>());
        let mut windows = Windows::new(traffic.bytes());
        for (packet, at) in traffic.packets.iter().zip(&connection_of) {
            if let Some(look) = at.and_then(|at| looks[packet.from as usize].get(at)?.as_ref()) {
                windows.add(hidden(packet, look));
            }
        }
        let mut numbers = HashMap::new();
        for (from, sa) in Side::BOTH.into_iter().flat_map(|from| connections.iter().filter_map(move |connection| Some((from, connection.way(from)?.sa())))) {
            for association in &sa.associations {
                let high = association.sequence_number_high;
                let last = u64::from(high) << 32 | u64::from(association.sequence_number);
                let key = (from, protocol(association.operation).0, association.spi.0);
                numbers.insert(key, Numbers { esn: association.extended_sequence_numbers, last, told: high });
            }
        }
        Self {
            traffic,
            connection_of,
            looks,
            windows,
            numbers,
            ivs: HashSet::new(),
            order_of: vec![0; traffic.packets.len()],
            expected: Default::default(),
            loose: 0..0,
            sent: 0,
            delivered: 0,
            protected_frames: 0,
            bypassed_frames: 0,
            bytes_searched: 0,
            untold: [0; 2],
            failures: Failures::default(),
        }
    }

    /// Hosts have several workers: flows keep their order, and no more than that.
    pub(super) fn by_flows(&mut self) {
        let medium = self.traffic.medium;
        self.order_of = self.traffic.packets.iter().map(|packet| Spread::flow_of(medium, &packet.bytes)).collect();
    }

    /// The order that a packet is in.
    fn order(&self, tag: u64) -> u64 {
        self.order_of.get((tag % self.order_of.len().max(1) as u64) as usize).copied().unwrap_or_default()
    }

    /// The packet of a tag; `None` if no packet has it.
    fn packet(&self, tag: u64) -> Option<&'a Packet> {
        self.traffic.packets.get(usize::try_from(tag).ok()? % self.traffic.packets.len())
    }

    /// A packet is handed to its sender.
    pub(super) fn sent(&mut self, tag: u64) {
        let Some(packet) = self.packet(tag) else { return };
        let order = (packet.ip.is_none(), self.order(tag));
        self.expected[packet.from.other() as usize].entry(order).or_default().queue.push_back(tag);
        self.sent += 1;
    }

    /// Of a batch that is sent now, the NIC gave some packets back after others had gone: those may overtake them.
    pub(super) fn may_overtake(&mut self, batch: Range<u64>) {
        self.loose = batch;
    }

    /// A frame is on the wire. Returns whether its sequence number has a high half that its sender's NIC could not have been told of: then the transport
    /// does well to make the packet itself.
    pub(super) fn on_wire(&mut self, from: Side, tag: u64, frame: &[u8]) -> bool {
        let l3 = match self.traffic.medium {
            Medium::Ip => Some(0),
            Medium::Ethernet => match EthernetFrame::new(frame) {
                Ok(ethernet) => match ethernet.kind() {
                    EthernetKind::Type(ethertype) if ethertype.ip_version().is_some() => Some(ethernet.l3_offset()),
                    _ => None,
                },
                Err(_) => None,
            },
        };
        if let Some(l3) = l3 {
            let untold = self.protected_on_wire(from, tag, frame.get(l3..).unwrap_or_default());
            self.untold[from as usize] += u64::from(untold);
            return untold;
        }
        self.bypassed_frames += 1;
        if !self.packet(tag).is_some_and(|packet| packet.ip.is_none() && packet.bytes == frame) {
            self.failures
                .note(Check::ClearText, || format!("packet {}: a frame of {} bytes without ESP, and not one that policy bypasses", tag + 1, frame.len()));
        }
        false
    }

    /// The hosts have had time to tell their NICs of the numbers that were on the wire.
    pub(super) fn told(&mut self) {
        for numbers in self.numbers.values_mut() {
            numbers.told = (numbers.last >> 32) as u32;
        }
    }

    /// Packets from a host so far whose numbers its NIC could not have been told of.
    pub(super) const fn untold(&self, from: Side) -> u64 {
        self.untold[from as usize]
    }

    fn protected_on_wire(&mut self, from: Side, tag: u64, ip: &[u8]) -> bool {
        let number = tag + 1;
        self.protected_frames += 1;
        let at = usize::try_from(tag).unwrap_or(usize::MAX) % self.traffic.packets.len();
        let look = self.connection_of[at].and_then(|at| self.looks[from as usize].get(at)?.as_ref()).filter(|_| self.traffic.packets[at].from == from);
        let Some(look) = look else {
            let name = from.name();
            self.failures.note(Check::ClearText, || format!("packet {number}: {} bytes from {name}, which has no SA for it", ip.len()));
            return false;
        };
        let headers = match headers(ip, look.outer) {
            Ok(headers) => headers,
            Err(problem) => {
                self.failures.note(Check::ClearText, || format!("packet {number}: {problem}"));
                return false;
            }
        };
        if look.encrypted {
            let text = ip.get(headers.behind..).unwrap_or_default();
            self.bytes_searched += text.len() as u64;
            if let Some(at) = self.windows.find(text) {
                self.failures.note(Check::ClearText, || format!("packet {number}: clear text at byte {at} behind its IPsec headers"));
            }
        }
        let mut untold = look.hidden_wrap;
        for &(operation, spi, low) in &headers.numbers {
            let Some(sa) = self.numbers.get_mut(&(from, protocol(operation).0, spi)) else { continue };
            let mut sequence = sa.last & !u64::from(u32::MAX) | u64::from(low);
            // Extended numbers show their low half only; a sender goes forward, and never by half of what that can tell apart.
            if sa.esn && sequence <= sa.last && sa.last - sequence > 1 << 31 {
                sequence += 1 << 32;
            }
            if sequence <= sa.last {
                let last = sa.last;
                self.failures.note(Check::SequenceNumbers, || format!("packet {number}: SPI {spi:#010x} has number {sequence} after {last}"));
            } else {
                sa.last = sequence;
            }
            untold |= (sequence >> 32) as u32 > sa.told;
        }
        if let Some((spi, iv)) = headers.iv
            && !self.ivs.insert((from, spi, iv.to_vec()))
        {
            self.failures.note(Check::Ivs, || format!("packet {number}: the IV of SPI {spi:#010x} was there before"));
        }
        untold
    }

    /// A host has delivered a packet that came protected.
    pub(super) fn delivered(&mut self, at: Side, tag: u64, frame: &[u8]) {
        self.arrived(at, false, tag, frame);
    }

    /// A host has passed a packet that came in clear.
    pub(super) fn passed(&mut self, at: Side, tag: u64, frame: &[u8]) {
        self.arrived(at, true, tag, frame);
    }

    fn arrived(&mut self, at: Side, clear: bool, tag: u64, frame: &[u8]) {
        let number = tag + 1;
        let order = (clear, self.order(tag));
        let Expected { queue, overtaken } = self.expected[at as usize].entry(order).or_default();
        if let Some(place) = queue.iter().position(|&expected| expected == tag) {
            overtaken.extend(queue.drain(..place).map(|early| (early, tag)));
            queue.pop_front();
            // The last that overtook it: what is still in the queue is in order, so the others were sent between the two.
            for by in overtaken.values_mut() {
                *by = tag;
            }
        } else if let Some(by) = overtaken.remove(&tag) {
            if !(self.loose.contains(&tag) && self.loose.contains(&by)) {
                self.failures.note(Check::Delivery, || format!("packet {number} arrived at {} after packet {}", at.name(), by + 1));
            }
        } else {
            self.failures.note(Check::Delivery, || format!("packet {number} arrived at {} although it was not expected there (any more)", at.name()));
            return;
        }
        self.delivered += 1;
        let expected = self.packet(tag).map(Packet::expected).unwrap_or_default();
        if expected != frame {
            let place = expected.iter().zip(frame).position(|(left, right)| left != right).unwrap_or(expected.len().min(frame.len()));
            let (before, after) = (expected.len(), frame.len());
            self.failures.note(Check::Delivery, || format!("packet {number} arrived changed from byte {place} on ({before} bytes sent, {after} received)"));
        }
    }

    /// Something that must hold does, or not.
    pub(super) fn require(&mut self, check: Check, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.failures.note(check, otherwise);
        }
    }

    /// Frames on the wire so far.
    pub(super) const fn frames(&self) -> u64 {
        self.protected_frames + self.bypassed_frames
    }

    /// The run is over.
    pub(super) fn finish(mut self) -> Vec<CheckResult> {
        let mut missing: Vec<u64> =
            self.expected.iter().flat_map(HashMap::values).flat_map(|expected| expected.queue.iter().chain(expected.overtaken.keys())).copied().collect();
        missing.sort_unstable();
        for tag in missing {
            self.failures.note(Check::Delivery, || format!("packet {} did not arrive", tag + 1));
        }
        let sent = self.sent;
        let frames = self.frames();
        self.require(Check::Delivery, frames == sent, || format!("{sent} packets sent, {frames} frames on the wire"));
        let looked_at = |check| match check {
            Check::Delivery => format!("{} of {}", group(self.delivered), group(self.sent)),
            Check::ClearText => format!(
                "{} protected, {} bypassed; {} kB searched for {} windows",
                group(self.protected_frames),
                group(self.bypassed_frames),
                group(self.bytes_searched / 1000),
                group(self.windows.len() as u64)
            ),
            Check::Ivs => format!("{} IVs", group(self.ivs.len() as u64)),
            Check::SequenceNumbers => format!("{} SAs", self.numbers.len()),
            Check::Counters => "transports and NICs of both hosts".to_owned(),
            Check::Offload => "both hosts in every phase".to_owned(),
        };
        let results = Check::ALL.map(|check| (check, looked_at(check)));
        results
            .into_iter()
            .map(|(check, looked_at)| {
                let failures = self.failures.counts[check as usize];
                CheckResult { check, passed: failures == 0, looked_at, failures, first: core::mem::take(&mut self.failures.told[check as usize]) }
            })
            .collect()
    }
}

/// What a connection's packets from a host look like on the wire.
fn look<'a>(sa: &'a SaParameters, from: Side, connections: &'a [Connection]) -> Option<Look<'a>> {
    let tunnel = match &sa.inside {
        None => None,
        // Without its tunnel it is refused by the hosts.
        Some(name) => Some(connections.iter().find_map(|connection| connection.way(from).map(plan::Way::sa).filter(|sa| sa.name == *name))?),
    };
    let encrypts =
        |sa: &SaParameters| sa.associations.iter().any(|association| association.operation == Operation::Esp && association.encryption != Encryption::Null);
    let outer = tunnel.unwrap_or(sa);
    let wraps = sa.associations.iter().any(|association| association.extended_sequence_numbers && association.sequence_number >= u32::MAX / 4 * 3);
    Some(Look {
        outer,
        encrypted: encrypts(outer) || encrypts(sa),
        addresses_seen: !(outer.mode == Mode::Tunnel && encrypts(outer)),
        hidden_wrap: tunnel.is_some() && wraps,
    })
}

/// What of a packet nobody on the wire may read: as a rule all of it from the addresses on, otherwise what the IP header carries.
fn hidden<'a>(packet: &'a Packet, look: &Look<'_>) -> &'a [u8] {
    let Some(ip) = packet.ip.as_ref().filter(|_| look.encrypted) else { return &[] };
    // The fields before these are the same in many packets.
    let addresses = if ip.parsed.src().is_v4() { 12 } else { 8 };
    let from = ip.offset + if look.addresses_seen { ip.parsed.header_len() } else { addresses };
    packet.expected().get(from..).unwrap_or_default()
}

const fn protocol(operation: Operation) -> IpProtocol {
    match operation {
        Operation::Ah => IpProtocol::AH,
        Operation::Esp => IpProtocol::ESP,
    }
}

/// The IPsec headers of a packet on the wire.
struct Headers<'a> {
    /// Operation, SPI and low half of the number of each, outermost first.
    numbers: Vec<(Operation, u32, u32)>,
    /// SPI and IV of the ESP header, if it has one.
    iv: Option<(u32, &'a [u8])>,
    /// Where what they protect begins.
    behind: usize,
}

/// Reads the headers of the outermost bundle `sa` of the packet `ip`, which has to be these and nothing else.
fn headers<'a>(ip: &'a [u8], sa: &SaParameters) -> Result<Headers<'a>, String> {
    let length = ip.len();
    let parsed = ParsedIp::parse(ip).map_err(|error| format!("{length} bytes that are not IP: {error}"))?;
    let (source, destination) = (parsed.src(), parsed.dst());
    let own = |address: packet::IpAddress, of_sa: packet::IpAddress| of_sa.is_unspecified() || address == of_sa;
    if parsed.fragment() != FragmentState::None || parsed.padding_len() != 0 || !own(source, sa.source) || !own(destination, sa.destination) {
        return Err(format!("{length} bytes from {source} to {destination} that are not a whole packet of SA {}", sa.name));
    }
    if sa.mode == Mode::Tunnel && parsed.has_options_or_extensions() {
        return Err(format!("options in the outer header of SA {}", sa.name));
    }
    let (mut at, mut next) = (parsed.header_len(), parsed.protocol());
    if let Some(udp) = sa.udp_encapsulation {
        let header = ip.get(at..).filter(|_| next == IpProtocol::UDP).and_then(|bytes| UdpPacket::new(bytes).ok());
        if header.is_none_or(|header| (header.src_port(), header.dst_port()) != (udp.source_port, udp.destination_port)) {
            return Err(format!("not in UDP between the ports of SA {}", sa.name));
        }
        (at, next) = (at + UDP_HEADER_LEN, IpProtocol::ESP);
    }
    let mut headers = Headers { numbers: Vec::new(), iv: None, behind: at };
    for association in sa.associations.iter().rev() {
        let bytes = ip.get(at..).unwrap_or_default();
        let no_header =
            || format!("{} bytes of protocol {next} where SA {} has {:?} with SPI {}", bytes.len(), sa.name, association.operation, association.spi);
        if next != protocol(association.operation) {
            return Err(no_header());
        }
        let (spi, low) = match association.operation {
            Operation::Ah => {
                let header = AhPacket::new(bytes).map_err(|_| no_header())?;
                (at, next) = (at + header.header_len(), header.next_header());
                (header.spi(), header.sequence())
            }
            Operation::Esp => {
                let header = EspPacket::new(bytes).map_err(|_| no_header())?;
                let behind = ESP_HEADER + plan::iv_length(association);
                if bytes.len() <= behind + plan::icv_length(association) {
                    return Err(format!("only {} bytes of ESP", bytes.len()));
                }
                headers.iv = bytes.get(ESP_HEADER..behind).filter(|iv| !iv.is_empty()).map(|iv| (association.spi.0, iv));
                at += behind;
                (header.spi(), header.sequence())
            }
        };
        if spi != association.spi {
            return Err(format!("{:?} with SPI {spi}, which is no SA for it", association.operation));
        }
        headers.numbers.push((association.operation, spi.0, low));
        headers.behind = at;
    }
    Ok(headers)
}

/// A number in groups of three digits.
pub fn group(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at != 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
