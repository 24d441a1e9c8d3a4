//! What a run has to tell: plain data, for people and for machines.

use std::collections::BTreeMap;
use std::time::Duration;

use ndis::Offload;
use serde::Serialize;
use transport::{Count, DropReason, OffloadCounts, PacketReason, WayCounts};

use super::check::CheckResult;
use super::traffic::Skipped;

/// The traffic, in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct TrafficReport {
    /// The capture's file; `None`: the one that ships.
    pub file: Option<String>,
    /// What the wire's frames begin with: `ethernet` or `ip`.
    pub medium: &'static str,
    /// How often the capture is run through.
    pub repeat: u32,
    /// Packets that travel, in one round.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of the packets: protected by policy.
    pub protected: u64,
    /// Of the packets: bypassed by policy, because they are not IP.
    pub bypassed: u64,
    /// Packets of the capture that do not travel.
    pub skipped: Skipped,
}

/// What an adapter said when it was bound.
#[derive(Clone, Debug)]
pub struct AdapterReport {
    /// Name of the adapter.
    pub adapter: String,
    /// NDIS version.
    pub version: String,
    /// Which of the two IPsec services it has.
    pub service: Option<&'static str>,
    /// What the hardware can do.
    pub hardware: Offload,
    /// What the keywords leave of it: the default configuration of the bind parameters.
    pub default: Offload,
    /// The configuration in force.
    pub current: Offload,
    /// What `OID_OFFLOAD_ENCAPSULATION` activated, in words.
    pub activated: String,
}

/// A connection: an SA in each direction, or, out of an SA file, in one only.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ConnectionReport {
    /// Its name.
    pub name: String,
    /// `transport` or `tunnel`.
    pub mode: &'static str,
    /// Version of what it carries: `IPv4`, `IPv6`, or `IP` for both.
    pub inner: &'static str,
    /// Version of the IP header before its IPsec headers.
    pub outer: &'static str,
    /// Addresses in that header: a's, b's.
    pub ends: [String; 2],
    /// What it carries, in words.
    pub carries: String,
    /// Its algorithms, in words.
    pub algorithms: String,
    /// Encryption algorithm of ESP, as SA files name it; `None` for AH alone.
    pub encryption: Option<&'static str>,
    /// Authentication algorithm of ESP, as SA files name it; `none` beside a combined one.
    pub authentication: Option<&'static str>,
    /// Authentication algorithm of AH, if it has one.
    pub ah: Option<&'static str>,
    /// Length of the innermost ICV, in bytes.
    pub icv_length: usize,
    /// Whether it goes in UDP.
    pub udp_encapsulation: bool,
    /// The tunnel that it is inside of.
    pub inside: Option<String>,
    /// Whether sequence numbers have 64 bits.
    pub extended_sequence_numbers: bool,
    /// SPIs of what a sends and what b sends, of each direction the innermost.
    pub spis: [Option<String>; 2],
    /// Whether all its SAs are offloaded: on a, on b; otherwise the reason of one that is not.
    pub offload: [String; 2],
}

/// Packets, and bytes of IP packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes: of what is to be protected, as it is handed in; of what comes in, as it comes.
    pub bytes: u64,
}

impl Tally {
    fn between(before: Count, after: Count) -> Self {
        Self { packets: after.packets - before.packets, bytes: after.bytes - before.bytes }
    }
}

/// What became of packets in one direction of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WayReport {
    /// Done by the NIC.
    pub offloaded: Tally,
    /// Done by the transport.
    pub software: Tally,
    /// The packets of `software`, by why the NIC did not do them; reasons without packets are left out.
    pub software_because: BTreeMap<&'static str, u64>,
    /// Bypassed by policy.
    pub bypassed: Tally,
    /// Packets dropped, by reason; reasons without packets are left out.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Packets that the NIC gave back, and that the transport then did (they are in `software`).
    pub given_back: u64,
}

impl WayReport {
    /// What was counted in between.
    pub(super) fn between(before: &WayCounts, after: &WayCounts) -> Self {
        Self {
            offloaded: Tally::between(before.offloaded, after.offloaded),
            software: Tally::between(before.software, after.software),
            software_because: PacketReason::ALL
                .into_iter()
                .map(|reason| (reason.name(), after.software_for(reason) - before.software_for(reason)))
                .filter(|(_, packets)| *packets != 0)
                .collect(),
            bypassed: Tally::between(before.clear, after.clear),
            dropped: DropReason::ALL
                .into_iter()
                .map(|reason| (reason.name(), after.dropped_for(reason).packets - before.dropped_for(reason).packets))
                .filter(|(_, packets)| *packets != 0)
                .collect(),
            given_back: after.retried - before.retried,
        }
    }
}

/// Both directions of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// From the host to the wire.
    pub sent: WayReport,
    /// From the wire to the host.
    pub received: WayReport,
}

/// A part of the run, under one configuration of host a's adapter.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseReport {
    /// Its number, from 1.
    pub number: usize,
    /// Whether a's adapter offloads in it.
    pub offload: bool,
    /// What happened to a's adapter at its beginning.
    pub event: &'static str,
    /// Packets that were on the wire when it happened, and that arrived after it.
    pub in_flight: u64,
    /// Whether the adapter indicated `NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG` then.
    pub indicated: bool,
    /// How many of a's SAs its NIC had afterwards.
    pub sas_offloaded: usize,
    /// Packets of a, and of b, whose extended sequence numbers had just outgrown 32 bits, before UPDATE_SA could tell the NIC: the transport makes these.
    pub before_update_sa: [u64; 2],
    /// Host a.
    pub a: HostReport,
    /// Host b.
    pub b: HostReport,
    /// Packets that were delivered.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What both hosts needed for it, in seconds of one core.
    pub seconds: f64,
}

/// Packets a second and bits a second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// Packets through both hosts, a second.
    pub packets_per_second: f64,
    /// Gigabits of them, a second.
    pub gigabits_per_second: f64,
}

impl Rate {
    /// The rate at which so much took `time`; zero if it took none.
    pub fn new(packets: u64, bytes: u64, time: Duration) -> Self {
        let seconds = time.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate is no count")]
        let (packets, gigabits) = (packets as f64, bytes as f64 * 8.0 / 1e9);
        if seconds > 0.0 {
            Self { packets_per_second: packets / seconds, gigabits_per_second: gigabits / seconds }
        } else {
            Self { packets_per_second: 0.0, gigabits_per_second: 0.0 }
        }
    }
}

/// Requests that a host made to its NIC.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RequestsReport {
    /// SAs added.
    pub added: u64,
    /// SAs refused.
    pub refused: u64,
    /// SAs deleted.
    pub deleted: u64,
    /// High halves of sequence numbers updated.
    pub updated: u64,
}

impl From<OffloadCounts> for RequestsReport {
    fn from(counts: OffloadCounts) -> Self {
        Self { added: counts.added, refused: counts.refused, deleted: counts.deleted, updated: counts.updated }
    }
}

/// What is known before the first packet.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// The traffic.
    pub traffic: TrafficReport,
    /// The cryptographic library.
    pub crypto: &'static str,
    /// The profile of both NICs.
    pub profile: String,
    /// The adapters of a and b.
    pub adapters: [AdapterReport; 2],
    /// Whether the SAs are those of a file.
    pub from_file: bool,
    /// The connections, in the order of their policies.
    pub connections: Vec<ConnectionReport>,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was known before the first packet.
    pub beginning: Beginning,
    /// Its parts, in order.
    pub phases: Vec<PhaseReport>,
    /// The sums of a and b.
    pub totals: [HostReport; 2],
    /// Requests of a and b to their NICs.
    pub requests: [RequestsReport; 2],
    /// Packets that were delivered.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What both hosts needed, in seconds of one core.
    pub seconds: f64,
    /// The rate of that.
    pub rate: Rate,
    /// What must hold, and whether it did.
    pub checks: Vec<CheckResult>,
    /// Where the wire was written to.
    pub wire: Option<String>,
}

impl Report {
    /// Whether every check passed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let rate = Rate::new(1000, 125_000_000, Duration::from_millis(500));
        assert!((rate.packets_per_second - 2000.0).abs() < 1e-6 && (rate.gigabits_per_second - 2.0).abs() < 1e-9);
        assert!(Rate::new(1, 1, Duration::ZERO).packets_per_second == 0.0);
    }

    #[test]
    fn only_what_was_dropped_is_told() {
        let (before, mut after) = (WayCounts::default(), WayCounts::default());
        after.dropped[DropReason::Policy as usize].packets = 3;
        after.software = Count { packets: 2, bytes: 100 };
        after.reasons[PacketReason::GivenBack as usize] = 2;
        let way = WayReport::between(&before, &after);
        assert_eq!(way.dropped, BTreeMap::from([("policy", 3)]));
        assert_eq!(way.software_because, BTreeMap::from([("given-back", 2)]));
        assert_eq!(way.software, Tally { packets: 2, bytes: 100 });
    }
}
