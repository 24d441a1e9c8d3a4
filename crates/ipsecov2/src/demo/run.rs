//! The run: two hosts, a wire, five phases.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipsec::{Crypto, Provider as _};
use link::capture::CaptureError;
use link::memory::{self, MemoryLink};
use link::{Link as _, LinkError, Received};
use ndis::{
    Filter, IpsecService, IpsecSetting, Keyword, MemoryRegistry, OffloadEncapsulation, OffloadParameters, Operation, Registry, RegistryError, SetEncapsulation,
    StackError, Status, StatusIndication, TraceSink, Tracer,
};
use packet::{Frame, FrameBatch, IpVersion, Medium, Time, unpack_trains};
use transport::{Action, InboundBatch, Mode, OffloadReason, SaError, SaParameters, WayCounts};

use super::check::{Check, Checker};
use super::plan::{self, Connection};
use super::report::{AdapterReport, Beginning, ConnectionReport, HostReport, PhaseReport, Rate, Report, TrafficReport, WayReport};
use super::sa_plan;
use super::traffic::{Side, Traffic};
use super::wire::{WireFile, WireWriter};
use crate::host::{ADAPTER, Host, HostConfig, HostError};
use crate::profile::Profile;

/// Packets that are handled together.
const BATCH: usize = 64;
/// Frames that the wire holds in one direction.
const WIRE: usize = 1 << 16;
/// How often the hosts are asked at the end whether there is something left to do.
const LAST_ROUNDS: usize = 16;

/// How a run is to be.
#[derive(Clone)]
pub struct Options {
    /// The cryptographic library of both hosts.
    pub crypto: Crypto,
    /// How often the traffic is run through, at least once.
    pub repeat: u32,
    /// Workers of each host.
    pub workers: usize,
    /// What both NICs can do; `None`: everything that the software NIC can.
    pub profile: Option<Profile>,
    /// Writes the wire.
    pub wire: Option<WireFile>,
    /// Where requests and statuses at the adapters of a and b are shown.
    pub trace: Option<[Arc<dyn TraceSink>; 2]>,
}

impl Default for Options {
    /// The traffic once, and nothing written.
    fn default() -> Self {
        Self { crypto: Crypto::default(), repeat: 1, workers: 1, profile: None, wire: None, trace: None }
    }
}

/// Is told how a run goes on.
pub trait Observer {
    /// Hosts, adapters and SAs are there.
    fn begun(&mut self, beginning: &Beginning) {
        let _ = beginning;
    }

    /// So many of all packets have been sent.
    fn progress(&mut self, sent: u64, all: u64) {
        let _ = (sent, all);
    }

    /// A phase is over.
    fn phase(&mut self, phase: &PhaseReport) {
        let _ = phase;
    }
}

/// Nobody.
impl Observer for () {}

/// Why a run could not be finished. (A check that fails is no error: the [`Report`] says so.)
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// A host cannot be put together.
    #[error(transparent)]
    Host(#[from] HostError),
    /// An SA was refused.
    #[error(transparent)]
    Sa(#[from] SaError),
    /// The adapter cannot be restarted.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// A keyword cannot be set.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The wire broke.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The wire cannot be written to its file.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The system has no random numbers.
    #[error("the system's random generator failed: {0}")]
    Random(#[from] getrandom::Error),
    /// The SA file has nothing to do with the traffic.
    #[error("none of the {sas} SAs carries a packet of the traffic ({unselected} that no SA is about, {unfit} fragments or with wrong checksums)")]
    NothingSelected {
        /// SAs in the file.
        sas: usize,
        /// Packets that no SA is about.
        unselected: u64,
        /// Packets that SAs in transport mode would not carry as they are.
        unfit: u64,
    },
    /// A request failed.
    #[error("host {host}: {request}: {status}")]
    Request {
        /// The host.
        host: &'static str,
        /// The request.
        request: &'static str,
        /// How it ended.
        status: Status,
    },
}

/// What happens to host a's adapter at the beginning of a phase.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Switch {
    Start,
    ParametersOff,
    ParametersOn,
    KeywordOff,
    KeywordOn,
}

const PHASES: [Switch; 5] = [Switch::Start, Switch::ParametersOff, Switch::ParametersOn, Switch::KeywordOff, Switch::KeywordOn];

impl Switch {
    const fn offload(self) -> bool {
        matches!(self, Self::Start | Self::ParametersOn | Self::KeywordOn)
    }

    const fn event(self, v1: bool) -> &'static str {
        match self {
            Self::Start => "as bound",
            Self::ParametersOff if v1 => "OID_TCP_OFFLOAD_PARAMETERS: IPsecV1 off",
            Self::ParametersOn if v1 => "OID_TCP_OFFLOAD_PARAMETERS: IPsecV1 on",
            Self::KeywordOff if v1 => "*IPsecOffloadV1IPv4 = 0, adapter restarted",
            Self::KeywordOn if v1 => "*IPsecOffloadV1IPv4 = 3, adapter restarted",
            Self::ParametersOff => "OID_TCP_OFFLOAD_PARAMETERS: IPsecV2 off",
            Self::ParametersOn => "OID_TCP_OFFLOAD_PARAMETERS: IPsecV2 on",
            Self::KeywordOff => "*IPsecOffloadV2 = 0, adapter restarted",
            Self::KeywordOn => "*IPsecOffloadV2 = 3, adapter restarted",
        }
    }
}

/// Runs the demonstration.
///
/// # Errors
/// [`DemoError`] if it could not be run to its end.
pub fn run(traffic: &Traffic, options: &Options, observer: &mut dyn Observer) -> Result<Report, DemoError> {
    let connections = plan::connections(traffic)?;
    conduct(Run::new(traffic, options, &connections)?, options, observer)
}

/// Runs the demonstration with the SAs of a file in place of its own. The file is one host's; the other host has the same SAs the other way round.
///
/// Packets that no SA of the file is about do not travel, nor do those that SAs in transport mode do not carry as they are (fragments, wrong checksums):
/// they are taken out of `traffic`, and counted there. No dummy packets are sent.
///
/// # Errors
/// [`DemoError`] if it could not be run to its end: no SA is about any packet, among others.
pub fn run_with(sas: &[SaParameters], mut traffic: Traffic, options: &Options, observer: &mut dyn Observer) -> Result<Report, DemoError> {
    let connections = sa_plan::connections(sas, &mut traffic);
    if traffic.protected() == 0 {
        return Err(DemoError::NothingSelected { sas: sas.len(), unselected: traffic.skipped.unselected, unfit: traffic.skipped.unfit });
    }
    let run = Run { from_file: true, ..Run::new(&traffic, options, &connections)? };
    conduct(run, options, observer)
}

fn conduct(mut run: Run<'_>, options: &Options, observer: &mut dyn Observer) -> Result<Report, DemoError> {
    let beginning = run.beginning(options)?;
    observer.begun(&beginning);
    let start = [run.counts(Side::A), run.counts(Side::B)];
    let all = run.total();
    let mut phases = Vec::with_capacity(PHASES.len());
    for (number, switch) in PHASES.into_iter().enumerate() {
        let share = |number: usize| all * number as u64 / PHASES.len() as u64;
        let phase = run.phase(number + 1, switch, share(number)..share(number + 1), observer)?;
        observer.phase(&phase);
        phases.push(phase);
    }
    let end = [run.counts(Side::A), run.counts(Side::B)];
    let totals = [0, 1].map(|host| host_report(&start[host], &end[host]));
    let requests = run.hosts.each_ref().map(|host| host.transport().offload_counts().into());
    run.check_counters();
    let wire = run.writer.take().map(finish).transpose()?;
    let (packets, bytes, busy) = (run.packets, run.bytes, run.busy);
    Ok(Report {
        beginning,
        phases,
        totals,
        requests,
        packets,
        bytes,
        seconds: busy.as_secs_f64(),
        rate: Rate::new(packets, bytes, busy),
        checks: run.checker.finish(),
        wire: wire.map(|path| path.display().to_string()),
    })
}

fn finish(writer: WireWriter) -> Result<PathBuf, CaptureError> {
    let path = writer.path().to_owned();
    writer.finish()?;
    Ok(path)
}

/// The counters of a host's transport: outbound, inbound.
type Counts = [WayCounts; 2];

fn host_report(before: &Counts, after: &Counts) -> HostReport {
    HostReport { sent: WayReport::between(&before[0], &after[0]), received: WayReport::between(&before[1], &after[1]) }
}

/// Who made the ESP of a batch.
#[derive(Clone, Copy)]
enum Maker {
    Nic,
    Software,
    /// Software so many of them, the NIC the others.
    Both(u64),
}

/// What a card may leave to software.
#[derive(Clone, Copy)]
struct Card {
    /// Whether it has IPsec, and so something to be switched.
    has_ipsec: bool,
    /// SAs of host a that it took as it was bound.
    sas: usize,
}

struct Run<'a> {
    /// What is known of the NIC's profile, if there is one.
    card: Option<Card>,
    traffic: &'a Traffic,
    connections: &'a [Connection],
    from_file: bool,
    /// The connection of each packet.
    connection_of: Vec<Option<usize>>,
    repeat: u32,
    /// How much later each round's packets are.
    round: Duration,
    hosts: [Host; 2],
    /// The NICs are IPsecOV1's.
    v1: bool,
    registries: [Arc<MemoryRegistry>; 2],
    ends: [MemoryLink; 2],
    checker: Checker<'a>,
    writer: Option<WireWriter>,
    clock: Instant,
    busy: Duration,
    /// Packets handed to each host, and frames that each sent.
    given: [u64; 2],
    frames: [u64; 2],
    /// Frames that reached an adapter that did not run.
    lost: [u64; 2],
    packets: u64,
    bytes: u64,
    phase: usize,
    input: FrameBatch,
    wire: FrameBatch,
    /// Of each frame in `wire`, what the checker said of it.
    untold: Vec<bool>,
    output: InboundBatch,
}

impl<'a> Run<'a> {
    fn new(traffic: &'a Traffic, options: &Options, connections: &'a [Connection]) -> Result<Self, DemoError> {
        let longest = traffic.packets.iter().map(|packet| packet.bytes.len()).max().unwrap_or_default();
        let registries = [Arc::new(MemoryRegistry::new()), Arc::new(MemoryRegistry::new())];
        let host = |side: Side| {
            let filters = options.trace.iter().map(|sinks| Arc::new(Tracer::new(Arc::clone(&sinks[side as usize]))) as Arc<dyn Filter>).collect();
            let config = HostConfig {
                medium: traffic.medium,
                crypto: options.crypto,
                registry: Arc::clone(&registries[side as usize]) as Arc<dyn Registry>,
                mtu: u32::try_from(longest).unwrap_or(u32::MAX).max(1500),
                filters,
                workers: options.workers,
                reserved_spis: connections.iter().any(|connection| connection.first().is_some_and(|(_, sa)| sa.allow_reserved_spi)),
                ..HostConfig::default()
            };
            Host::new(&match &options.profile {
                Some(profile) => config.with_profile(profile),
                None => config,
            })
        };
        let hosts = [host(Side::A)?, host(Side::B)?];
        for at in Side::BOTH {
            let host = &hosts[at as usize];
            // Other frames than IP cannot be protected, and the hosts would not find one another without them.
            host.transport().set_policies(|spd| spd.non_ip = Action::Bypass);
            let mut sas = Vec::new();
            for connection in connections {
                sas.extend(Side::BOTH.into_iter().filter_map(|from| connection.parameters(from, at)));
            }
            let handles = host.add_sas(sas, Time::ZERO).map_err(|(_, error)| error)?;
            let mut handles = handles.into_iter();
            for connection in connections {
                let [of_a, of_b] = Side::BOTH.map(|from| connection.way(from).and_then(|_| handles.next()));
                if let (Some(of_a), Some(of_b)) = (of_a, of_b) {
                    let (inbound, outbound) = if at == Side::A { (of_b, of_a) } else { (of_a, of_b) };
                    host.transport().pair(inbound, outbound);
                }
            }
        }
        let (a, b) = memory::pair(traffic.medium, WIRE);
        let writer = options.wire.as_ref().map(|file| WireWriter::create(file, traffic.medium, connections)).transpose()?;
        let times = || traffic.packets.iter().map(|packet| packet.timestamp);
        let span = times().max().unwrap_or_default() - times().min().unwrap_or_default();
        let connection_of = plan::connections_of(traffic, connections);
        let mut checker = Checker::new(traffic, connections);
        if options.workers > 1 {
            checker.by_flows();
        }
        let card = options.profile.as_ref().map(|profile| Card { has_ipsec: profile.service().is_some(), sas: 0 });
        let mut run = Self {
            card,
            traffic,
            connections,
            from_file: false,
            connection_of,
            repeat: options.repeat.max(1),
            round: span + Duration::from_millis(1),
            hosts,
            v1: options.profile.as_ref().is_some_and(|profile| profile.service() == Some(IpsecService::V1)),
            registries,
            ends: [a, b],
            checker,
            writer,
            clock: Instant::now(),
            busy: Duration::ZERO,
            given: [0; 2],
            frames: [0; 2],
            lost: [0; 2],
            packets: 0,
            bytes: 0,
            phase: 0,
            input: FrameBatch::new(),
            wire: FrameBatch::new(),
            untold: Vec::new(),
            output: InboundBatch::default(),
        };
        run.service()?;
        let taken = run.sas_offloaded();
        if let Some(card) = &mut run.card {
            card.sas = taken;
        }
        Ok(run)
    }

    /// SAs that host a's NIC has.
    fn sas_offloaded(&self) -> usize {
        self.hosts[0].transport().sas().iter().filter(|sa| sa.offload == OffloadReason::Offloaded).count()
    }

    /// How many packets there are to be sent, in all rounds.
    fn total(&self) -> u64 {
        self.traffic.packets.len() as u64 * u64::from(self.repeat)
    }

    fn counts(&self, side: Side) -> Counts {
        let transport = self.hosts[side as usize].transport();
        [transport.outbound(), transport.inbound()]
    }

    fn phase(&mut self, number: usize, switch: Switch, tags: Range<u64>, observer: &mut dyn Observer) -> Result<PhaseReport, DemoError> {
        self.phase = number;
        let before = [self.counts(Side::A), self.counts(Side::B)];
        let (packets, bytes, busy) = (self.packets, self.bytes, self.busy);
        let untold = Side::BOTH.map(|from| self.checker.untold(from));
        let in_flight = self.ends.iter().map(|end| end.pending() as u64).sum();
        let last = number == PHASES.len();
        let mut next = tags.start;
        // What was indicated before is not about this phase.
        self.hosts[0].take_indications();
        self.switch(switch)?;
        if switch == Switch::ParametersOff {
            // The adapter is off, and the transport has not heard of it: what it asks the NIC to do comes back, and is done in software (OV2-CAP-10).
            next = self.send(next..tags.end.min(next + BATCH as u64))?;
        }
        self.service()?;
        let indicated = self.hosts[0].take_indications().iter().any(|status| matches!(status, StatusIndication::TaskOffloadCurrentConfig(_)));
        let sas_offloaded = self.sas_offloaded();
        self.receive()?;
        while next < tags.end {
            next = self.send(next..tags.end.min(next + BATCH as u64))?;
            observer.progress(next, self.total());
            // The last packets of a phase stay on the wire while the adapter is switched.
            if next < tags.end || last {
                self.receive()?;
                self.service()?;
            }
        }
        if last {
            self.settle()?;
        }
        let after = [self.counts(Side::A), self.counts(Side::B)];
        let [a, b] = [0, 1].map(|host| host_report(&before[host], &after[host]));
        let phase = PhaseReport {
            number,
            offload: switch.offload(),
            event: switch.event(self.v1),
            in_flight,
            indicated,
            sas_offloaded,
            before_update_sa: Side::BOTH.map(|from| self.checker.untold(from) - untold[from as usize]),
            a,
            b,
            packets: self.packets - packets,
            bytes: self.bytes - bytes,
            seconds: self.busy.saturating_sub(busy).as_secs_f64(),
        };
        self.check_offload(&phase, switch);
        Ok(phase)
    }

    fn switch(&mut self, switch: Switch) -> Result<(), DemoError> {
        let host = &self.hosts[0];
        let parameters = |setting| {
            let both = OffloadParameters { ipsec_v1: Some(setting), ..OffloadParameters::ipsec_v2_setting(setting) };
            let status = host.operator().set_parameters(both);
            // A miniport without IPsec may refuse to switch it (OV2-CAP-8).
            let refused = self.card.is_none_or(|card| card.has_ipsec) && !status.is_success();
            if refused { Err(DemoError::Request { host: "a", request: "OID_TCP_OFFLOAD_PARAMETERS", status }) } else { Ok(()) }
        };
        let keyword = |value| -> Result<(), DemoError> {
            for keyword in [Keyword::IpsecV2, Keyword::IpsecV2Ipv4, Keyword::IpsecV1Ipv4] {
                self.registries[0].set(ADAPTER, keyword, value)?;
            }
            Ok(host.restart_adapter()?)
        };
        match switch {
            Switch::Start => Ok(()),
            Switch::ParametersOff => parameters(IpsecSetting::Disabled),
            Switch::ParametersOn => parameters(IpsecSetting::AhAndEsp),
            Switch::KeywordOff => keyword(0),
            Switch::KeywordOn => keyword(3),
        }
    }

    /// Sends packets from both hosts, and returns the tag that follows them.
    fn send(&mut self, tags: Range<u64>) -> Result<u64, DemoError> {
        for from in Side::BOTH {
            let host = &mut self.hosts[from as usize];
            let count = self.traffic.packets.len() as u64;
            for tag in tags.clone() {
                let Some(packet) = self.traffic.packets.get((tag % count) as usize).filter(|packet| packet.from == from) else { continue };
                let later = self.round.saturating_mul((tag / count) as u32);
                self.input.push(Frame { buffer: host.pool().copy_from(&packet.bytes), timestamp: packet.timestamp + later, tag, ..Frame::default() });
                self.checker.sent(tag);
                self.given[from as usize] += 1;
            }
            if self.input.is_empty() {
                continue;
            }
            let before = host.transport().outbound();
            let now = since(self.clock);
            let started = Instant::now();
            host.send(now, &mut self.input, &mut self.wire);
            self.busy += started.elapsed();
            let after = host.transport().outbound();
            let given_back = after.retried - before.retried;
            if given_back != 0 && given_back < after.software.packets - before.software.packets {
                self.checker.may_overtake(tags.clone());
            }
            let maker = match (after.offloaded.packets - before.offloaded.packets, after.software.packets - before.software.packets) {
                (_, 0) => Maker::Nic,
                (0, _) => Maker::Software,
                (_, software) => Maker::Both(software),
            };
            self.transmit(from, maker)?;
        }
        Ok(tags.end)
    }

    /// Puts what a host has sent on the wire, where it is looked at.
    fn transmit(&mut self, from: Side, maker: Maker) -> Result<(), DemoError> {
        self.untold.clear();
        unpack_trains(&mut self.wire, self.hosts[from as usize].pool());
        for frame in &self.wire {
            self.untold.push(self.checker.on_wire(from, frame.tag, frame.buffer.as_slice()));
        }
        if let Some(writer) = &mut self.writer {
            let untold = self.untold.iter().filter(|untold| **untold).count() as u64;
            for (frame, &untold_of) in self.wire.iter().zip(&self.untold) {
                let at = (frame.tag % self.traffic.packets.len() as u64) as usize;
                let what = match (self.connection_of.get(at).copied().flatten().and_then(|at| self.connections.get(at)), maker) {
                    (None, _) => "bypassed".to_owned(),
                    (Some(connection), Maker::Nic) => format!("{}, offloaded", connection.name),
                    (Some(connection), Maker::Software) => format!("{}, in software", connection.name),
                    (Some(connection), Maker::Both(software)) if software == untold => {
                        format!("{}, {}", connection.name, if untold_of { "in software" } else { "offloaded" })
                    }
                    (Some(connection), Maker::Both(_)) => connection.name.clone(),
                };
                writer.write(frame, &format!("phase {}, {} to {}: {what}", self.phase, from.name(), from.other().name()))?;
            }
        }
        self.frames[from as usize] += self.wire.len() as u64;
        let at = from as usize;
        self.ends[at].send(self.hosts[at].pool(), &mut self.wire)?;
        // The wire holds far more than is ever sent at once. If it did not, the checks would miss these.
        self.wire.clear();
        Ok(())
    }

    /// Lets both hosts take what is on the wire.
    fn receive(&mut self) -> Result<(), DemoError> {
        for at in [Side::B, Side::A] {
            let side = at as usize;
            while let Received::Frames(_) = self.ends[side].receive(self.hosts[side].pool(), &mut self.input, BATCH)? {
                let now = since(self.clock);
                let started = Instant::now();
                let lost = self.hosts[side].receive(now, &mut self.input, &mut self.output);
                self.busy += started.elapsed();
                self.lost[side] += lost as u64;
                for frame in self.output.delivered.drain(..) {
                    self.checker.delivered(at, frame.tag, frame.buffer.as_slice());
                    self.packets += 1;
                    self.bytes += frame.buffer.len() as u64;
                    self.hosts[side].pool().give(frame.buffer);
                }
                for frame in self.output.passed.drain(..) {
                    self.checker.passed(at, frame.tag, frame.buffer.as_slice());
                    self.packets += 1;
                    self.bytes += frame.buffer.len() as u64;
                    self.hosts[side].pool().give(frame.buffer);
                }
            }
        }
        Ok(())
    }

    /// Does on both hosts what is due besides packets.
    fn service(&mut self) -> Result<(), DemoError> {
        for from in Side::BOTH {
            let now = since(self.clock);
            self.hosts[from as usize].service(now, &mut self.wire);
            if !self.wire.is_empty() {
                self.transmit(from, Maker::Software)?;
            }
        }
        self.checker.told();
        Ok(())
    }

    /// Goes on until nothing is under way.
    fn settle(&mut self) -> Result<(), DemoError> {
        for _ in 0..LAST_ROUNDS {
            self.service()?;
            self.receive()?;
            if self.hosts.iter().all(|host| host.backlog() == 0) && self.ends.iter().all(|end| end.pending() == 0) {
                break;
            }
        }
        Ok(())
    }

    fn check_offload(&mut self, phase: &PhaseReport, switch: Switch) {
        let PhaseReport { number, a, b, .. } = phase;
        let card = self.card;
        let sas = card.map_or_else(|| self.hosts[0].transport().sas().len(), |card| card.sas);
        let mut require = |holds, what: &dyn Fn() -> String| self.checker.require(Check::Offload, holds, || format!("phase {number}: {}", what()));
        let by_nic = |host: &HostReport| host.sent.offloaded.packets + host.received.offloaded.packets;
        for (host, did, may) in [("a", a, phase.before_update_sa[0]), ("b", b, phase.before_update_sa[1])] {
            // Of packets, too, a card may leave some to software.
            if card.is_none() && (host == "b" || switch.offload()) {
                let (sent, received) = (did.sent.software.packets, did.received.software.packets);
                require(sent <= may && received == 0, &|| format!("host {host} did {} packets in software, {may} allowed", sent + received));
            }
        }
        let offloaded = phase.sas_offloaded;
        if switch.offload() {
            require(offloaded == sas, &|| format!("{offloaded} of {sas} SAs of host a were offloaded"));
            require(sas > 0 || by_nic(a) == 0, &|| format!("host a's NIC did {} packets although it has no SA", by_nic(a)));
        } else {
            require(offloaded == 0, &|| format!("{offloaded} SAs of host a were offloaded although it was off"));
            require(by_nic(a) == 0, &|| format!("host a's NIC did {} packets although it was off", by_nic(a)));
        }
        if matches!(switch, Switch::ParametersOff | Switch::ParametersOn) && card.is_none_or(|card| card.has_ipsec) {
            require(phase.indicated, &|| "NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG was not indicated".to_owned());
        }
    }

    fn check_counters(&mut self) {
        for side in Side::BOTH {
            let (at, name) = (side as usize, side.name());
            let [out, inward] = self.counts(side);
            let nic = self.hosts[at].nic_counters();
            let mut equal = |what: &str, left: u64, right: u64| {
                self.checker.require(Check::Counters, left == right, || format!("host {name}: {what}: {left} and {right}"));
            };
            equal("packets handed in, seen by the transport", self.given[at], out.seen.packets);
            equal("packets seen, ended outbound", out.seen.packets, out.ended());
            equal("packets that left, frames on the wire", out.ended() - out.dropped_total().packets, self.frames[at]);
            equal("packets done in software, their reasons", out.software.packets, out.reasons.iter().sum());
            equal("packets opened in software, their reasons", inward.software.packets, inward.reasons.iter().sum());
            equal("frames on the wire, seen by the transport or lost", self.frames[side.other() as usize], inward.seen.packets + self.lost[at]);
            equal("packets seen, ended inbound", inward.seen.packets, inward.ended());
            // A card that does only the tunnel of two bundles has done something of a packet that counts as done in software.
            if self.card.is_none() {
                equal("sent by offload, as transport and NIC count", out.offloaded.packets, nic.sent_offloaded);
                equal("sent as they stood, as transport and NIC count", out.software.packets + out.clear.packets, nic.sent_plain);
                equal("received by offload, as transport and NIC count", inward.offloaded.packets, nic.received_crypto_good);
            }
            equal("given back, as transport and NIC count", out.retried, nic.send_not_configured + nic.send_not_running + nic.send_failed);
            equal("frames received, as wire and NIC count", self.frames[side.other() as usize], nic.receives() + self.lost[at]);
        }
    }

    fn beginning(&self, options: &Options) -> Result<Beginning, DemoError> {
        let traffic = self.traffic;
        let adapters = [adapter(Side::A, &self.hosts[0])?, adapter(Side::B, &self.hosts[1])?];
        Ok(Beginning {
            traffic: TrafficReport {
                file: traffic.file.clone(),
                medium: match traffic.medium {
                    Medium::Ethernet => "ethernet",
                    Medium::Ip => "ip",
                },
                repeat: self.repeat,
                packets: traffic.packets.len() as u64,
                bytes: traffic.bytes(),
                protected: traffic.protected(),
                bypassed: traffic.bypassed(),
                skipped: traffic.skipped,
            },
            crypto: options.crypto.name(),
            profile: options.profile.as_ref().map_or_else(|| Profile::software().name, |profile| profile.name.clone()),
            adapters,
            from_file: self.from_file,
            connections: self.connections.iter().map(|connection| self.connection(connection)).collect(),
        })
    }

    fn connection(&self, connection: &Connection) -> ConnectionReport {
        let name = |version| if version == IpVersion::V4 { "IPv4" } else { "IPv6" };
        let spi = |from: Side| connection.way(from).and_then(|way| way.sa().associations.first()).map(|association| association.spi);
        let offload = |side: Side| {
            let names = Side::BOTH.map(|from| connection.way(from).map(|way| way.sa().name.as_str()));
            let sas = self.hosts[side as usize].transport().sas();
            let mut own = sas.iter().filter(|sa| names.contains(&Some(&*sa.name)));
            own.find(|sa| sa.offload != OffloadReason::Offloaded).map_or_else(|| OffloadReason::Offloaded.to_string(), |sa| sa.offload.to_string())
        };
        // Of the two directions one is there.
        let Some((from, sa)) = connection.first() else { return ConnectionReport::default() };
        let selectors = connection.way(from).map(plan::Way::selectors).unwrap_or_default();
        let versions = |version: IpVersion| {
            selectors.iter().all(|selector| [selector.source, selector.destination].into_iter().flatten().any(|range| range.version() == version))
        };
        let inner = match sa.mode {
            Mode::Transport => name(sa.source.version()),
            Mode::Tunnel if selectors.is_empty() => "IP",
            Mode::Tunnel if versions(IpVersion::V4) => "IPv4",
            Mode::Tunnel if versions(IpVersion::V6) => "IPv6",
            Mode::Tunnel => "IP",
        };
        let protocol = match selectors {
            [selector] => selector.protocol.map(|protocol| protocol.to_string()),
            _ => None,
        };
        let carries = match (protocol, sa.mode) {
            _ if selectors.is_empty() => "what other SAs protect".to_owned(),
            (Some(protocol), Mode::Transport) => format!("{protocol} between these two"),
            (None, Mode::Transport) => "all between these two".to_owned(),
            (Some(protocol), Mode::Tunnel) => format!("{protocol} over {inner}"),
            (None, Mode::Tunnel) if self.from_file => format!("{inner} packets"),
            (None, Mode::Tunnel) => format!("other {inner}"),
        };
        let ends = if from == Side::A { [sa.source, sa.destination] } else { [sa.destination, sa.source] };
        let of = |operation| sa.associations.iter().find(|association| association.operation == operation);
        let (esp, ah) = (of(Operation::Esp), of(Operation::Ah));
        ConnectionReport {
            name: connection.name.clone(),
            mode: match sa.mode {
                Mode::Transport => "transport",
                Mode::Tunnel => "tunnel",
            },
            inner,
            outer: name(sa.source.version()),
            ends: ends.map(|end| end.to_string()),
            carries,
            algorithms: plan::algorithms(sa),
            encryption: esp.map(|esp| esp.encryption.name()),
            authentication: esp.map(|esp| esp.authentication.name()),
            ah: ah.map(|ah| ah.authentication.name()),
            icv_length: sa.associations.first().map(plan::icv_length).unwrap_or_default(),
            udp_encapsulation: sa.udp_encapsulation.is_some(),
            inside: sa.inside.clone(),
            extended_sequence_numbers: sa.associations.iter().any(|association| association.extended_sequence_numbers),
            spis: Side::BOTH.map(|from| spi(from).map(|spi| spi.to_string())),
            offload: Side::BOTH.map(offload),
        }
    }
}

/// The hosts' time.
fn since(start: Instant) -> Time {
    Time::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// What a host's adapter said.
fn adapter(side: Side, host: &Host) -> Result<AdapterReport, DemoError> {
    let failed = |request| move |status| DemoError::Request { host: side.name(), request, status };
    let operator = host.operator();
    let bound = operator.bind_parameters().ok_or(DemoError::Request { host: side.name(), request: "bind", status: Status::ADAPTER_NOT_FOUND })?;
    let hardware = operator.hardware_capabilities().map_err(failed("OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES"))?;
    Ok(AdapterReport {
        adapter: bound.adapter,
        version: bound.version.to_string(),
        service: hardware.ipsec_service(bound.version).map(IpsecService::name),
        hardware,
        default: bound.default_offload_configuration,
        current: operator.current_config().map_err(failed("OID_TCP_OFFLOAD_CURRENT_CONFIG"))?,
        activated: match operator.encapsulation() {
            // Nobody has set it: there is nothing to activate (OV2-CAP-9).
            Err(Status::INVALID_STATE) => activated(&OffloadEncapsulation { ipv4: SetEncapsulation::Off, ipv6: SetEncapsulation::Off }),
            found => activated(&found.map_err(failed("OID_OFFLOAD_ENCAPSULATION"))?),
        },
    })
}

fn activated(encapsulation: &OffloadEncapsulation) -> String {
    let family = |name: &str, set: SetEncapsulation| match set {
        SetEncapsulation::On { encapsulation, header_size } => {
            let names: Vec<_> = encapsulation.iter_names().map(|(name, _)| name).collect();
            Some(format!("{name} on {}, link header of {header_size} bytes", names.join(" ")))
        }
        SetEncapsulation::Off | SetEncapsulation::NoChange => None,
    };
    if encapsulation.ipv4 == encapsulation.ipv6 {
        return family("IPv4 and IPv6", encapsulation.ipv4).unwrap_or_else(|| "nothing".to_owned());
    }
    let both: Vec<_> = [family("IPv4", encapsulation.ipv4), family("IPv6", encapsulation.ipv6)].into_iter().flatten().collect();
    if both.is_empty() { "nothing".to_owned() } else { both.join("; ") }
}

#[cfg(test)]
mod tests {
    use ndis::Direction;
    use transport::DropReason;

    use super::*;

    /// The checks that fail of a run to which `sabotage` was done before its first packet.
    fn sabotaged(sabotage: impl Fn(&mut Run<'_>)) -> (Vec<Check>, Report) {
        let (traffic, options) = (Traffic::shipped().unwrap(), Options::default());
        let connections = plan::connections(&traffic).unwrap();
        let mut run = Run::new(&traffic, &options, &connections).unwrap();
        sabotage(&mut run);
        let report = conduct(run, &options, &mut ()).unwrap();
        let failed = report.checks.iter().filter(|check| !check.passed).map(|check| check.check).collect();
        (failed, report)
    }

    #[test]
    fn a_run_that_nothing_is_done_to_passes() {
        let (failed, report) = sabotaged(|_| {});
        assert!(failed.is_empty() && report.passed());
    }

    #[test]
    fn hosts_of_several_workers_pass() {
        let traffic = Traffic::shipped().unwrap();
        for workers in [2, 3] {
            let report = super::run(&traffic, &Options { workers, repeat: 3, ..Options::default() }, &mut ()).unwrap();
            assert!(report.passed(), "{workers}: {:?}", report.checks);
        }
    }

    #[test]
    fn a_host_that_does_not_protect_is_noticed() {
        let (failed, report) = sabotaged(|run| {
            run.hosts[0].transport().set_policies(|spd| {
                spd.policies_mut().retain(|policy| policy.direction == Direction::Inbound);
                spd.default_outbound = Action::Bypass;
            });
        });
        // The other host does not take what comes in clear.
        assert_eq!(failed, [Check::Delivery, Check::ClearText]);
        let sent = report.totals[0].sent.bypassed.packets;
        let bypassed_by_policy = report.totals[1].received.bypassed.packets;
        assert_eq!(report.checks[Check::ClearText as usize].failures, sent - bypassed_by_policy);
        assert_eq!(report.totals[1].received.dropped.get(DropReason::Policy.name()), Some(&(sent - bypassed_by_policy)));
    }

    #[test]
    fn a_host_that_has_lost_an_sa_is_noticed() {
        let (failed, report) = sabotaged(|run| {
            let transport = run.hosts[1].transport();
            let sas = transport.sas();
            let lost = sas.iter().find(|sa| sa.direction == Direction::Inbound && sa.name.starts_with("tcp4")).expect("it has it");
            assert!(transport.remove_sa(lost.handle));
        });
        assert_eq!(failed, [Check::Delivery], "{:?}", report.checks);
        assert_eq!(report.checks[Check::Delivery as usize].failures, report.totals[1].received.dropped[DropReason::Policy.name()]);
    }

    #[test]
    fn an_adapter_that_is_off_when_it_should_be_on_is_noticed() {
        let (failed, report) = sabotaged(|run| {
            let status = run.hosts[1].operator().set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled));
            assert!(status.is_success());
            run.service().unwrap();
        });
        // All arrives all the same.
        assert_eq!((failed, report.packets), (vec![Check::Offload], 1204));
        assert_eq!(report.checks[Check::Offload as usize].failures, PHASES.len() as u64);
        assert_eq!(report.totals[1].sent.offloaded.packets, 0);
    }

    #[test]
    fn a_packet_that_the_wire_lost_is_noticed() {
        let (failed, _) = sabotaged(|run| {
            run.send(0..1).unwrap();
            let mut lost = FrameBatch::new();
            for at in 0..2 {
                run.ends[at].receive(run.hosts[at].pool(), &mut lost, BATCH).unwrap();
            }
            assert_eq!(lost.len(), 1);
        });
        // The run sends it once more, and that one arrives.
        assert_eq!(failed, [Check::Delivery, Check::Counters]);
    }
}
