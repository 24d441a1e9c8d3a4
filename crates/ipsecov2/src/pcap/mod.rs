//! Captures through the whole stack, without a network: [`protect`] sends the packets of a capture under outbound SAs, [`open`] receives them under
//! inbound ones. Both put a [host](crate::host) together, so that the packets go through the contract: transport, NDIS, miniport and NIC.
//!
//! The host's adapter is an Ethernet one. Packets of captures without Ethernet headers get one on their way in, which is taken off on their way out.

mod input;
pub mod open;
mod outcome;
pub mod protect;
pub mod report;
pub mod seed;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipsec::Crypto;
use link::capture::{CaptureError, CaptureFormat, CaptureOptions, CaptureReader, CaptureWriter, Secrets};
use ndis::{Direction, Keyword, MemoryRegistry};
use nic::DeletePolicy;
use packet::Time;
use sa_table::Handle;
use transport::{ClearPolicy, SaError};

use crate::host::{ADAPTER, Host, HostConfig, HostError, NotOffloaded};
use crate::profile::Profile;
use crate::sa_file::{Position, SaFile};

pub use outcome::{Outcome, SaOutcome};

/// Packets that go through the layers together, unless told otherwise.
pub const DEFAULT_BATCH: usize = 64;

/// What both ways need.
#[derive(Debug)]
pub struct PcapOptions {
    /// The capture to read; `-` is standard input.
    pub input: PathBuf,
    /// The capture to write; `-` is standard output.
    pub output: PathBuf,
    /// Packets that go through the layers together, 1 or more.
    pub batch: usize,
    /// The cryptographic library.
    pub crypto: Crypto,
    /// Whether the NIC may do the work; otherwise its keyword `*IPsecOffloadV2` is 0, and the transport does it in software.
    pub offload: bool,
    /// Takes SPIs 1 to 255.
    pub reserved_spi: bool,
    /// What the NIC is.
    pub profile: Profile,
}

/// Why a capture could not be worked through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PcapError {
    /// A capture cannot be read or written.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The input is damaged, or ends within a packet. What comes before has been worked through, and the outputs hold it.
    #[error("{error}")]
    Damaged {
        /// What is wrong, and where.
        error: CaptureError,
        /// What became of the packets before.
        outcome: Box<Outcome>,
    },
    /// The report, or the `esp_sa` table, cannot be written.
    #[error("{}: cannot write: {error}", .file.display())]
    Report {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// An SA of the file cannot be used.
    #[error("{file}:{position}: {error}")]
    Sa {
        /// The SA file.
        file: String,
        /// Where the SA stands in it.
        position: Position,
        /// Why.
        error: SaError,
    },
    /// An SA of the file must be offloaded, and is not.
    #[error(transparent)]
    NotOffloaded(#[from] NotOffloaded),
    /// The host could not be put together.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The system has no random numbers.
    #[error("the system's random generator failed: {0}")]
    Random(#[from] getrandom::Error),
    /// Packets were lost although the adapter was running: a defect.
    #[error("{packets} packets were lost between the capture and the transport")]
    Lost {
        /// How many.
        packets: u64,
    },
}

impl PcapError {
    /// Whether the reader of the output has gone away, which is no error to the user.
    pub fn is_broken_pipe(&self) -> bool {
        match self {
            Self::Capture(error) => error.io_kind() == Some(std::io::ErrorKind::BrokenPipe),
            Self::Report { error, .. } => error.kind() == std::io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }
}

/// A host for a capture, with the SAs of one direction of a file, in its order.
fn host(options: &PcapOptions, clear: ClearPolicy, bundles: usize) -> Result<Host, HostError> {
    let registry = MemoryRegistry::new();
    if !options.offload {
        registry.set_text(ADAPTER, Keyword::IpsecV2, "0");
    }
    Host::new(&HostConfig {
        crypto: options.crypto,
        registry: Arc::new(registry),
        clear,
        capacity: bundles.max(64),
        // Whatever a capture holds fits an adapter for which no packet is too large.
        mtu: 65_535,
        // Who reads the report wants to know what the NIC says, up to the last number: nobody is there to replace an SA that nears its end.
        delete_policy: DeletePolicy::Never,
        reserved_spis: options.reserved_spi,
        ..HostConfig::default().with_profile(&options.profile)
    })
}

/// Gives the host the SAs of `direction`.
fn add_sas(host: &Host, file: SaFile, name: &Path, direction: Direction) -> Result<Vec<Handle>, PcapError> {
    let bundles = file.bundles.into_iter().filter(|bundle| bundle.parameters.direction == direction);
    let (positions, sas): (Vec<_>, Vec<_>) = bundles.map(|bundle| (bundle.position, bundle.parameters)).unzip();
    let handles =
        host.add_sas(sas, Time::ZERO).map_err(|(place, error)| PcapError::Sa { file: name.display().to_string(), position: positions[place], error })?;
    host.check_required()?;
    Ok(handles)
}

/// What a run ends with, its outputs being complete.
fn conclude(outcome: Outcome, damage: Option<CaptureError>) -> Result<Outcome, PcapError> {
    match damage {
        None => Ok(outcome),
        Some(error) => Err(PcapError::Damaged { error, outcome: Box::new(outcome) }),
    }
}

fn reader(options: &PcapOptions) -> Result<CaptureReader, PcapError> {
    Ok(CaptureReader::open(&options.input)?)
}

fn writer(options: &PcapOptions, secrets: Option<Secrets>) -> Result<CaptureWriter, PcapError> {
    let format = CaptureFormat::from_path(&options.output);
    let application = Some(concat!("ipsecov2 ", env!("CARGO_PKG_VERSION")).to_owned());
    Ok(CaptureWriter::create(&options.output, &CaptureOptions { application, secrets, ..CaptureOptions::new(format) })?)
}
