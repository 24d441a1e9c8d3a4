//! The software NIC: send and receive engines, and the miniport driver over trait Engine.
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
pub use software::{DEFAULT_CAPACITY, SoftwareEngine};
