//! How fast the product is, beside the cryptography alone: what `ipsecov2 bench` measures.
//!
//! A [`Cell`] is what is measured at the same time: one suite, one size of packets, one number of workers, SAs and packets in a batch. In it, *ways* of
//! packets take turns of some milliseconds each, round after round, so that whatever else the machine does meets all of them: the providers, the NIC's
//! engines, whole hosts. Each way works on batches; a batch is made ready outside of the clock, and only the way itself is timed. A turn begins with
//! batches that do not count, and its figure is the median over some slices of it; the first round does not count. A [`Row`] has the median over the rounds.
//!
//! The *limit* of a way is the fastest of our providers at the same number of bytes under the cipher, with the same batch, as many buffers, and the same
//! SAs: jobs that are made before the clock runs, in place. It takes its turns in the same rounds, and every round gives a ratio; their median is the row's.
//!
//! Several workers have a thread and a processor each, and turns at the same time: all have made some batches ready when they begin together, and what counts
//! is the time from the first one's beginning to the last one's end.
//!
//! Hosts have policies as gateways have them: IKE is bypassed, by policies before those of the SAs, whose selectors name networks; packets belong to several flows.
//!
//! ```
//! use std::time::Duration;
//! use ipsecov2::bench::{self, Cell, Options, Table};
//!
//! let options = Options { tables: vec![Table::NicSend], rounds: 1, turn: Duration::from_micros(100), ..Options::default() };
//! let cell = Cell { bytes: 64, ..Cell::default() };
//! let rows = bench::measure(&cell, &options)?;
//! assert_eq!(rows.len(), 1);
//! assert!(rows[0].ns > 0.0 && rows[0].of_limit > 0.0);
//! # Ok::<(), bench::BenchError>(())
//! ```

mod cell;
mod engine;
mod large;
mod machine;
mod packets;
mod plan;
mod provider;
mod refusal;
mod report;
mod stats;
mod suite;
mod together;

use std::hint::black_box;
use std::time::{Duration, Instant};

use ndis::{StackError, Status};
use serde::Serialize;

pub use cell::{Cell, Options, WaySet, measure};
pub use machine::{Cores, machine};
pub use plan::{QUICK_TABLES, SIZES, Shape, full, product, quick};
pub use refusal::check_profile;
pub use report::{Row, text};
pub use suite::{SUITES, UnknownSuite, suite, suite_name};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Table {
    /// The cryptographic providers alone: exactly as many bytes under the cipher as the row says, rounded up to what the suite aligns to.
    Provider,
    /// Framed packets in net buffer lists, with handles, to sealed frames on the wire: stack, miniport, send engine.
    NicSend,
    /// Sealed frames to lists with opened packets and the NIC's verdict.
    NicReceive,
    /// Plain frames to sealed ones on the wire: policy, SA, numbers, headers, lists, stack, NIC.
    Outbound,
    /// Sealed frames to plain ones: NIC, stack, replay, headers off, policy.
    Inbound,
    /// As outbound, with IPsec offload switched off at the adapter: the transport does the cryptography.
    SoftwareOut,
    /// As inbound, with IPsec offload switched off.
    SoftwareIn,
    /// Large packets in net buffer lists, with handles, to trains of sealed segments on the wire: stack, miniport, and the NIC, which cuts them. Bytes are those of
    /// a segment's TCP payload; packets are segments.
    LargeSend,
}

impl Table {
    /// Whether it needs a NIC that takes the suite.
    pub const fn offloads(self) -> bool {
        matches!(self, Self::NicSend | Self::NicReceive | Self::Outbound | Self::Inbound | Self::LargeSend)
    }

    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 8] =
        [Self::Provider, Self::NicSend, Self::NicReceive, Self::Outbound, Self::Inbound, Self::SoftwareOut, Self::SoftwareIn, Self::LargeSend];

    /// Its name in options and rows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::NicSend => "nic-send",
            Self::NicReceive => "nic-receive",
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::SoftwareOut => "software-out",
            Self::SoftwareIn => "software-in",
            Self::LargeSend => "large-send",
        }
    }

    /// What its ways do to packets; `None`: rows of both.
    pub const fn operation(self) -> Option<Operation> {
        match self {
            Self::Provider => None,
            Self::NicSend | Self::Outbound | Self::SoftwareOut | Self::LargeSend => Some(Operation::Seal),
            Self::NicReceive | Self::Inbound | Self::SoftwareIn => Some(Operation::Open),
        }
    }
}

/// What is done to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Encrypted and authenticated.
    Seal,
    /// Verified and decrypted.
    Open,
}

impl Operation {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Seal, Self::Open];

    /// Its name in rows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Open => "open",
        }
    }
}

/// Why something cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// A provider does not take the suite's keys.
    #[error(transparent)]
    Sa(#[from] ipsec::SaError),
    /// A packet does not fit its SA.
    #[error(transparent)]
    Esp(#[from] ipsec::EspError),
    /// A packet of this length cannot be made.
    #[error("a packet of {length} bytes: {reason}")]
    Packet {
        /// Its bytes.
        length: usize,
        /// What does not fit.
        reason: String,
    },
    /// The host cannot be put together.
    #[error(transparent)]
    Host(#[from] crate::host::HostError),
    /// A table of that size cannot be.
    #[error("capacity: {0}")]
    Capacity(#[from] sa_table::CapacityError),
    /// The stack refuses the adapter.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The transport refuses an SA.
    #[error(transparent)]
    Transport(#[from] transport::SaError),
    /// The NIC of the profile does not take SAs like these.
    #[error("the NIC {profile} does not take {suite} in tunnel mode: {reason}{others}; without a NIC there are the tables provider, software-out, software-in")]
    Refused {
        /// The profile.
        profile: String,
        /// Name of the suite.
        suite: String,
        /// Why it does not.
        reason: String,
        /// What of all that is measured it does take, in words.
        others: String,
    },
    /// SAs cannot be offered to the NIC of the profile.
    #[error(transparent)]
    Explain(#[from] crate::explain::ExplainError),
    /// The NIC of the profile has not places enough.
    #[error("the NIC {profile} holds {capacity} SAs, {asked} were asked for")]
    Places {
        /// The profile.
        profile: String,
        /// Its places.
        capacity: u32,
        /// SAs asked for.
        asked: u32,
    },
    /// The NIC refuses an SA, or to be configured.
    #[error("the NIC refuses: {0}")]
    NicRefuses(Status),
    /// An SA is, or is not, in the NIC.
    #[error("an SA that should {}be in the NIC: {reason}", if *.wanted { "" } else { "not " })]
    Offload {
        /// Whether it should be.
        wanted: bool,
        /// Why it is not, or `offloaded`.
        reason: String,
    },
    /// Packets were protected, or opened, elsewhere than was to be measured.
    #[error("only {counted} of {packets} packets were done {}", if *.offload { "by the NIC" } else { "in software" })]
    Elsewhere {
        /// Whether the NIC was to do them.
        offload: bool,
        /// Packets that were handed in.
        packets: u64,
        /// Packets that were done where they should.
        counted: u64,
    },
    /// Packets were lost on the way.
    #[error("{good} of {packets} packets of a batch came through")]
    Lost {
        /// Packets that were handed in.
        packets: usize,
        /// Packets that came out.
        good: usize,
    },
    /// A core that this program may not run on, or that there is not.
    #[error("core {core}: expected one of {}", .allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Core {
        /// The core asked for.
        core: usize,
        /// The cores that it may run on.
        allowed: Vec<usize>,
    },
    /// What cannot happen did.
    #[error("{0}")]
    Impossible(&'static str),
}

impl BenchError {
    /// An error if not all packets came through.
    fn unless_all(packets: usize, good: usize) -> Result<(), Self> {
        if packets == good { Ok(()) } else { Err(Self::Lost { packets, good }) }
    }
}

/// Runs what is measured, once, and takes the time.
type Watch<'a> = &'a mut dyn FnMut(&mut dyn FnMut());

/// A way of packets, a worker's own.
trait Way: Send {
    /// Makes `count` batches ready, has `watch` take them along the way, and sees that every packet came through.
    ///
    /// # Errors
    /// [`BenchError`] when a packet did not come through, or could not be made. Then it may be that nothing was watched.
    fn batches(&mut self, count: usize, watch: Watch<'_>) -> Result<(), BenchError>;

    /// Has it look closely at a packet of the next batch: whether it was really sealed, where nothing else tells.
    fn prove_next(&mut self) {}
}

impl dyn Way + '_ {
    /// Takes a batch along the way. Returns how long that took, without what was done before and after it.
    fn batch(&mut self, clock: &Clock) -> Result<Duration, BenchError> {
        let mut time = Duration::ZERO;
        self.batches(1, &mut |run| time = clock.time(run))?;
        Ok(time)
    }
}

/// Measures short times.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// What reading it costs.
    overhead: Duration,
}

impl Clock {
    /// Finds out what reading the clock costs, which is taken off what is measured: the least of many readings.
    fn new() -> Self {
        let between = || {
            let start = Instant::now();
            start.elapsed()
        };
        Self { overhead: (0..10_000).map(|_| between()).min().unwrap_or_default() }
    }

    fn time<T>(&self, work: impl FnOnce() -> T) -> Duration {
        let start = Instant::now();
        black_box(work());
        start.elapsed().saturating_sub(self.overhead)
    }
}
