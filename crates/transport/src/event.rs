//! Events: what the data path and the offload manager tell the owner of SAs (OV2-TRANS-3, OV2-TRANS-6).

use core::fmt;
use std::sync::Arc;

use ndis::Operation;
use packet::{IpAddress, Spi, Time};
use sa_table::Handle;

use crate::packet_reason::PacketReason;
use crate::verdict::DropReason;

/// Something that happened to an SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaEvent {
    /// When.
    pub time: Time,
    /// Which SA.
    pub sa: Handle,
    /// Its name.
    pub name: Arc<str>,
    /// What.
    pub kind: SaEventKind,
}

/// What happened to an SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaEventKind {
    /// A soft limit was reached, or nine tenths of the sequence numbers are used: the owner should replace the SA.
    SoftExpired,
    /// A hard limit was reached: the SA carries nothing more.
    HardExpired,
    /// The last sequence number was used: the SA carries nothing more.
    SequenceExhausted,
    /// The NIC asked to delete it (OV2-SA-8); it goes on in software.
    DeleteRequested,
}

/// A packet that failed, for the audit (OV2-TRANS-6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// When.
    pub time: Time,
    /// Why it was dropped.
    pub reason: DropReason,
    /// Why the adapter had not done it, if it ended for that ([`DropReason::NotOffloaded`], [`DropReason::Fragment`]).
    pub software: Option<PacketReason>,
    /// Source address, as far as the packet could be read.
    pub source: Option<IpAddress>,
    /// Destination address, as far as the packet could be read.
    pub destination: Option<IpAddress>,
    /// The association that it was about.
    pub association: Option<(Operation, Spi)>,
    /// Its sequence number.
    pub sequence: Option<u64>,
}

impl fmt::Display for AuditEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        if let Some(reason) = self.software.filter(|reason| reason.name() != self.reason.name()) {
            write!(f, " ({reason})")?;
        }
        if let (Some(source), Some(destination)) = (self.source, self.destination) {
            write!(f, " {source} > {destination}")?;
        }
        if let Some((operation, spi)) = self.association {
            let operation = if operation == Operation::Esp { "ESP" } else { "AH" };
            write!(f, " {operation} SPI {:#010x}", spi.0)?;
        }
        match self.sequence {
            Some(sequence) => write!(f, " sequence {sequence}"),
            None => Ok(()),
        }
    }
}
