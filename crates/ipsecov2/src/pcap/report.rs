//! The lines of the report of `pcap open`: one JSON document for each packet. `docs/json.md` describes them.

use ndis::Operation;
use serde::Serialize;
use transport::{InboundVerdict, Verdict};

/// What became of one packet.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Line {
    /// Its number in the capture, from 1.
    pub packet: u64,
    /// The NIC checked at least one IPsec portion.
    pub crypto_done: bool,
    /// The NIC checked the transport and the tunnel portion.
    pub next_crypto_done: bool,
    /// What the NIC found, by the contract's name; `null` unless `crypto_done`.
    pub crypto_status: Option<&'static str>,
    /// The associations that matched, outermost first.
    pub associations: Vec<Association>,
    /// `delivered`, `passed` or `dropped`.
    pub verdict: &'static str,
    /// Why it was dropped; `null` if it was not.
    pub reason: Option<&'static str>,
}

/// An association that a packet matched.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Association {
    /// `esp` or `ah`.
    pub operation: &'static str,
    /// The SPI, in hexadecimal.
    pub spi: String,
    /// The packet's 64-bit sequence number.
    pub sequence: u64,
}

impl Line {
    /// The line of packet `packet`, of which the transport says `verdict`.
    pub fn new(packet: u64, verdict: &InboundVerdict) -> Self {
        let associations = verdict.associations.iter().map(|seen| Association {
            operation: match seen.operation {
                Operation::Esp => "esp",
                Operation::Ah => "ah",
            },
            spi: format!("{:#010x}", seen.spi.0),
            sequence: seen.sequence,
        });
        Self {
            crypto_done: verdict.crypto_done,
            next_crypto_done: verdict.next_crypto_done,
            crypto_status: verdict.crypto_status.map(ndis::CryptoStatus::name),
            associations: associations.collect(),
            ..Self::aside(packet, verdict.verdict)
        }
    }

    /// The line of a packet that the adapter never saw.
    pub fn aside(packet: u64, verdict: Verdict) -> Self {
        let (verdict, reason) = match verdict {
            Verdict::Delivered => ("delivered", None),
            Verdict::Passed => ("passed", None),
            Verdict::Dropped(reason) => ("dropped", Some(reason.name())),
        };
        Self { packet, crypto_done: false, next_crypto_done: false, crypto_status: None, associations: Vec::new(), verdict, reason }
    }
}
