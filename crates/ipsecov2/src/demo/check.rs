//! What must hold of a run, looked at from outside: by what goes into the hosts, what is on the wire between them, and what comes out.

use core::ops::Range;
use std::collections::{HashMap, HashSet, VecDeque};

use packet::{EthernetFrame, EthernetKind, FragmentState, IpAddress, IpProtocol, Medium, ParsedIp, Spi};
use serde::Serialize;
use transport::Mode;

use super::plan::{Connection, selects};
use super::traffic::{Packet, Side, Traffic};
use super::windows::Windows;

/// How many failures of one check are told in words.
const TOLD: usize = 5;
/// SPI, sequence number, IV.
const ESP_HEADER: usize = 16;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Every packet arrived exactly once, bit-identical, in order. (In a batch of which the NIC gave some back, the others may have overtaken these.)
    Delivery,
    /// Nothing of a protected packet can be read on the wire: it is ESP, of an SA of its sender, and there is no clear text in it.
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

/// One SA, as the wire shows it.
struct WireSa {
    from: Side,
    source: IpAddress,
    destination: IpAddress,
    tunnel: bool,
    esn: bool,
    icv_length: usize,
    /// The number seen last, in full.
    last: u64,
    /// The high half that the NIC can have been told of.
    told: u32,
}

/// Whoever looks at everything. Packets are named by their tag: their number among all that are sent.
pub(super) struct Checker<'a> {
    traffic: &'a Traffic,
    windows: Windows,
    sas: HashMap<u32, WireSa>,
    ivs: HashSet<(u32, [u8; 8])>,
    /// What is to come out at each host: protected, bypassed.
    expected: [[VecDeque<u64>; 2]; 2],
    /// What others overtook, and which was the last to do so.
    overtaken: [[HashMap<u64, u64>; 2]; 2],
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
    pub(super) fn new(traffic: &'a Traffic, connections: &[Connection]) -> Self {
        let mut windows = Windows::new(traffic.bytes());
        for packet in &traffic.packets {
            windows.add(hidden(packet, connections));
        }
        let mut sas = HashMap::new();
        for connection in connections {
            for from in Side::BOTH {
                let (source, destination) = connection.addresses(from);
                sas.insert(
                    connection.spi(from).0,
                    WireSa {
                        from,
                        source,
                        destination,
                        tunnel: connection.mode == Mode::Tunnel,
                        esn: connection.esn,
                        icv_length: usize::from(connection.icv_length),
                        last: connection.last.into(),
                        told: 0,
                    },
                );
            }
        }
        Self {
            traffic,
            windows,
            sas,
            ivs: HashSet::new(),
            expected: Default::default(),
            overtaken: Default::default(),
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

    /// The packet of a tag; `None` if no packet has it.
    fn packet(&self, tag: u64) -> Option<&'a Packet> {
        self.traffic.packets.get(usize::try_from(tag).ok()? % self.traffic.packets.len())
    }

    /// A packet is handed to its sender.
    pub(super) fn sent(&mut self, tag: u64) {
        let Some(packet) = self.packet(tag) else { return };
        self.expected[packet.from.other() as usize][usize::from(packet.ip.is_none())].push_back(tag);
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
        for sa in self.sas.values_mut() {
            sa.told = (sa.last >> 32) as u32;
        }
    }

    /// Packets from a host so far whose numbers its NIC could not have been told of.
    pub(super) const fn untold(&self, from: Side) -> u64 {
        self.untold[from as usize]
    }

    fn protected_on_wire(&mut self, from: Side, tag: u64, ip: &[u8]) -> bool {
        let number = tag + 1;
        self.protected_frames += 1;
        let Some((esp, parsed)) = esp_of(ip) else {
            self.failures.note(Check::ClearText, || format!("packet {number}: {} bytes of IP that are not ESP as a whole", ip.len()));
            return false;
        };
        self.bytes_searched += esp.len() as u64;
        if let Some(at) = self.windows.find(esp) {
            self.failures.note(Check::ClearText, || format!("packet {number}: clear text at byte {at} of its ESP"));
        }
        let Some((&[s0, s1, s2, s3, n0, n1, n2, n3, ref iv @ ..], rest)) = esp.split_first_chunk::<ESP_HEADER>() else {
            self.failures.note(Check::ClearText, || format!("packet {number}: only {} bytes of ESP", esp.len()));
            return false;
        };
        let spi = Spi::from_be_bytes([s0, s1, s2, s3]);
        let Some(sa) = self.sas.get_mut(&spi.0).filter(|sa| {
            sa.from == from
                && (sa.source, sa.destination) == (parsed.src(), parsed.dst())
                && rest.len() > sa.icv_length
                && !(sa.tunnel && parsed.has_options_or_extensions())
        }) else {
            self.failures.note(Check::ClearText, || {
                let (source, destination) = (parsed.src(), parsed.dst());
                format!("packet {number}: ESP with SPI {spi} from {source} to {destination}, which is no SA of host {}", from.name())
            });
            return false;
        };
        let low = u32::from_be_bytes([n0, n1, n2, n3]);
        let mut sequence = sa.last & !u64::from(u32::MAX) | u64::from(low);
        // Extended numbers show their low half only; a sender goes forward, and never by half of what that can tell apart.
        if sa.esn && sequence <= sa.last && sa.last - sequence > 1 << 31 {
            sequence += 1 << 32;
        }
        if sequence <= sa.last {
            let last = sa.last;
            self.failures.note(Check::SequenceNumbers, || format!("packet {number}: SPI {spi} has number {sequence} after {last}"));
        } else {
            sa.last = sequence;
        }
        let untold = (sequence >> 32) as u32 > sa.told;
        if !self.ivs.insert((spi.0, *iv)) {
            self.failures.note(Check::Ivs, || format!("packet {number}: the IV of number {sequence} of SPI {spi} was there before"));
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
        let queue = &mut self.expected[at as usize][usize::from(clear)];
        let overtaken = &mut self.overtaken[at as usize][usize::from(clear)];
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
        let mut missing: Vec<u64> = self.expected.iter().flatten().flatten().chain(self.overtaken.iter().flatten().flat_map(HashMap::keys)).copied().collect();
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
                "{} ESP, {} bypassed; {} kB searched for {} windows",
                group(self.protected_frames),
                group(self.bypassed_frames),
                group(self.bytes_searched / 1000),
                group(self.windows.len() as u64)
            ),
            Check::Ivs => format!("{} IVs", group(self.ivs.len() as u64)),
            Check::SequenceNumbers => format!("{} SAs", self.sas.len()),
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

/// What of a packet nobody on the wire may read: in tunnel mode all of it from the addresses on, in transport mode what the IP header carries.
fn hidden<'a>(packet: &'a Packet, connections: &[Connection]) -> &'a [u8] {
    let Some(ip) = &packet.ip else { return &[] };
    let tunnel = connections.iter().find(|connection| selects(&connection.selector, packet.from, packet)).is_some_and(|found| found.mode == Mode::Tunnel);
    // The fields before these are the same in many packets.
    let addresses = if ip.parsed.src().is_v4() { 4 } else { 8 };
    let from = ip.offset + if tunnel { addresses } else { ip.parsed.header_len() };
    packet.expected().get(from..).unwrap_or_default()
}

/// The ESP of a packet that is an IP header and ESP, and nothing else.
fn esp_of(ip: &[u8]) -> Option<(&[u8], ParsedIp)> {
    let parsed = ParsedIp::parse(ip).ok()?;
    let whole = parsed.protocol() == IpProtocol::ESP && parsed.fragment() == FragmentState::None && parsed.padding_len() == 0;
    whole.then(|| (parsed.payload(ip), parsed))
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
