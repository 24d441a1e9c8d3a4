//! The transport: what NDIS calls the overlying protocol driver.
#![forbid(unsafe_code)]

mod event;
mod framing;
mod inbound;
mod lane;
mod lifetime;
mod offload;
mod outbound;
mod outer;
mod parameters;
mod sa;
mod selector;
mod spd;
mod transport;
mod verdict;

pub use event::*;
pub use inbound::InboundBatch;
pub use lane::TransportLane;
pub use offload::{OffloadCounts, OffloadReason};
pub use parameters::*;
pub use sa::SaError;
pub use selector::*;
pub use spd::*;
pub use transport::{ClearPolicy, SaStatus, Transport, TransportConfig};
pub use verdict::*;
