//! What became of a capture's packets, for people and for machines. `docs/json.md` describes the document.

use core::fmt;
use std::collections::BTreeMap;

use serde::Serialize;
use transport::{DropReason, OffloadReason, PacketReason, SaStatus, Transport, Verdict, WayCounts};

use super::input::Aside;

/// What became of the packets of a capture. Every packet of the input is in exactly one of `offloaded`, `software`, `clear` and `dropped`.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Outcome {
    /// Name of the document's form.
    pub schema: &'static str,
    /// Packets read.
    pub packets: u64,
    /// Packets written.
    pub written: u64,
    /// Protected, or opened, by the NIC.
    pub offloaded: u64,
    /// Protected, or opened, in software.
    pub software: u64,
    /// The packets of `software`: how many, by why the NIC did not do them.
    pub software_because: BTreeMap<&'static str, u64>,
    /// `protect`: written in clear; `open`: passed up because no SA matched, and not written.
    pub clear: u64,
    /// Dropped: how many, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// The SAs that were used, in the order of the file.
    pub sas: Vec<SaOutcome>,
}

/// What an SA has carried.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct SaOutcome {
    /// Its name.
    pub name: String,
    /// Its SPI, in hexadecimal.
    pub spi: String,
    /// Packets carried.
    pub packets: u64,
    /// Bytes carried: `protect`, of packets before protection; `open`, of packets as they came.
    pub bytes: u64,
    /// Highest sequence number used or verified; 0 before the first.
    pub sequence: u64,
    /// Whether the NIC has it.
    pub offloaded: bool,
    /// Why it has it not; `null` if it has it.
    pub not_offloaded_because: Option<String>,
}

impl Outcome {
    pub(super) fn new(schema: &'static str, counts: &WayCounts, asides: &Asides, written: u64, sas: Vec<SaOutcome>) -> Self {
        let mut dropped: BTreeMap<&'static str, u64> = asides.dropped.clone();
        for reason in DropReason::ALL {
            let packets = counts.dropped_for(reason).packets;
            if packets != 0 {
                *dropped.entry(reason.name()).or_default() += packets;
            }
        }
        let because = PacketReason::ALL.into_iter().map(|reason| (reason.name(), counts.software_for(reason)));
        Self {
            schema,
            packets: counts.seen.packets + asides.packets,
            written,
            offloaded: counts.offloaded.packets,
            software: counts.software.packets,
            software_because: because.filter(|(_, packets)| *packets != 0).collect(),
            clear: counts.clear.packets + asides.clear,
            dropped,
            sas,
        }
    }

    /// Packets dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, clear) = if self.schema == super::protect::SCHEMA { ("protected", "in clear") } else { ("delivered", "passed") };
        writeln!(f, "{} packets read, {} written", self.packets, self.written)?;
        writeln!(f, "  {done:<9} {:>8}  ({} by the NIC, {} in software)", self.offloaded + self.software, self.offloaded, self.software)?;
        if !self.software_because.is_empty() {
            let because: Vec<_> = self.software_because.iter().map(|(reason, packets)| format!("{reason} {packets}")).collect();
            writeln!(f, "  in software because  {}", because.join(", "))?;
        }
        writeln!(f, "  {clear:<9} {:>8}", self.clear)?;
        write!(f, "  dropped   {:>8}", self.dropped_total())?;
        for (number, (reason, packets)) in self.dropped.iter().enumerate() {
            write!(f, "{}{reason} {packets}", if number == 0 { "  (" } else { ", " })?;
        }
        writeln!(f, "{}", if self.dropped.is_empty() { "" } else { ")" })?;
        for sa in &self.sas {
            write!(f, "SA {:?} {}: {} packets, {} bytes, sequence number {}", sa.name, sa.spi, sa.packets, sa.bytes, sa.sequence)?;
            match &sa.not_offloaded_because {
                Some(reason) => writeln!(f, ", in software: {reason}")?,
                None => writeln!(f, ", offloaded")?,
            }
        }
        Ok(())
    }
}

/// Packets that never got to the host, counted.
#[derive(Debug, Default)]
pub(super) struct Asides {
    packets: u64,
    clear: u64,
    dropped: BTreeMap<&'static str, u64>,
}

impl Asides {
    pub(super) fn count(&mut self, verdict: Verdict) {
        self.packets += 1;
        match verdict {
            Verdict::Delivered | Verdict::Passed => self.clear += 1,
            Verdict::Dropped(reason) => *self.dropped.entry(reason.name()).or_default() += 1,
        }
    }

    pub(super) fn count_all(&mut self, asides: &[Aside]) {
        for aside in asides {
            self.count(aside.verdict);
        }
    }
}

/// How the SAs did that were added under these handles.
pub(super) fn sas(transport: &Transport, handles: &[sa_table::Handle]) -> Vec<SaOutcome> {
    handles.iter().filter_map(|&handle| transport.sa(handle)).map(|status| sa(&status)).collect()
}

fn sa(status: &SaStatus) -> SaOutcome {
    SaOutcome {
        name: status.name.to_string(),
        spi: format!("{:#010x}", status.spi.0),
        packets: status.packets,
        bytes: status.bytes,
        sequence: status.sequence,
        offloaded: status.offload == OffloadReason::Offloaded,
        not_offloaded_because: (status.offload != OffloadReason::Offloaded).then(|| status.offload.to_string()),
    }
}
