//! The NIC: a miniport driver over `trait` [`Engine`], and an engine in software.
//!
//! | concern | items | requirements |
//! | --- | --- | --- |
//! | driver, restarts, counters | [`NicDriver`], [`NicParameters`], [`NicCounters`] | OV2-CAP-0, OV2-CAP-1 |
//! | requests, configuration, resets | [`NicMiniport`] | OV2-CAP-8 to OV2-CAP-14, OV2-OID-1 to OV2-OID-4, OV2-SA-1 to OV2-SA-9 |
//! | what a NIC maker implements | [`engine`] | |
//! | ESP and AH on the CPU: send, receive, SA table | [`SoftwareEngine`] | OV2-SEND-1 to OV2-SEND-8, OV2-RECV-1 to OV2-RECV-7, OV2-OOB-1 to OV2-OOB-6 |
//!
//! The crate meets the rest of the system only through the traits of [`ndis`]: a [`NicDriver`] is loaded into an [`ndis::Stack`], and packets pass an
//! [`ndis::Datapath`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use ndis::{LaneContext, MemoryRegistry, NblBatch, NetBufferList, OffloadHandle, Stack, Status};
//! use nic::{NicDriver, NicParameters, SoftwareEngine};
//! use packet::{Buffer, BufferPool, FrameBatch, Time};
//!
//! let driver = Arc::new(NicDriver::new(NicParameters::new("nic0"), SoftwareEngine::default));
//! let stack = Stack::new(Arc::new(MemoryRegistry::new()));
//! stack.add_adapter("nic0", driver.clone())?;
//!
//! let mut path = stack.open_datapath("nic0")?;
//! let mut lane = LaneContext { now: Time::ZERO, pool: &mut BufferPool::new() };
//! let (mut done, mut wire) = (NblBatch::new(), FrameBatch::new());
//!
//! // A list without a handle goes out as it stands; one whose SA is not there comes back whole (OV2-SEND-2).
//! let plain = NetBufferList::new(Buffer::copy_from(&[0; 60]), 14);
//! let mut stale = NetBufferList::new(Buffer::copy_from(&[0; 60]), 14);
//! stale.oob.set_offload_handle(OffloadHandle::from_bits(42));
//! path.send(&mut lane, &mut vec![plain, stale], &mut done, &mut wire);
//! assert_eq!(done.iter().map(|list| list.status).collect::<Vec<_>>(), [Status::SUCCESS, Status::FAILURE]);
//! assert_eq!((wire.len(), done[1].buffer.len()), (1, 60));
//!
//! let counters = driver.counters();
//! assert_eq!((counters.sent_plain, counters.send_failed), (1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod control;
mod counters;
mod driver;
pub mod engine;
mod ledger;
mod link;
mod miniport;
pub mod software;

pub use counters::NicCounters;
pub use driver::{DeletePolicy, NicDriver, NicEvent, NicParameters, Observer, UDP_ESP_PORT};
pub use engine::{Activation, Engine, EngineConfig, EngineEvent, EngineQueue, Progress, Token};
pub use link::ip_offset;
pub use miniport::NicMiniport;
pub use software::{DEFAULT_CAPACITY, SoftwareEngine, software_capabilities};
