//! The demonstration: two hosts whose transports offload IPsec to their NICs, real packets between them, and somebody who looks at the wire.
//!
//! Both hosts are whole: transport, stack, software NIC, registry. Between them is a wire in memory. The packets are those of a capture; the addresses in
//! it say which host sends which. Every IP packet is protected; other frames, such as ARP, are bypassed by policy and stay in clear.
//!
//! The run has five parts. Host b offloads all the time; host a's adapter is switched off and on again, first by `OID_TCP_OFFLOAD_PARAMETERS`, then by its
//! keyword and a restart, each time with packets on the wire and, the first time, before the transport has heard of it. What must hold all the while is
//! [checked](Check) from outside.
//!
//! ```
//! use ipsecov2::demo::{self, Options, Traffic};
//!
//! let traffic = Traffic::shipped()?;
//! let report = demo::run(&traffic, &Options::default(), &mut ())?;
//! assert!(report.passed());
//! assert_eq!(report.packets, traffic.packets.len() as u64);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod plan;
mod report;
mod run;
mod sa_plan;
mod traffic;
mod windows;
mod wire;

pub use check::{Check, CheckResult, group};
pub use report::{AdapterReport, Beginning, ConnectionReport, HostReport, PhaseReport, Rate, Report, RequestsReport, Tally, TrafficReport, WayReport};
pub use run::{DemoError, Observer, Options, run, run_with};
pub use traffic::{Ip, Packet, Side, Skipped, Traffic, TrafficError};
pub use wire::WireFile;
