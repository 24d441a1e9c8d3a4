//! The IPsecOV2 contract in Rust.
#![forbid(unsafe_code)]

mod capability;
mod driver;
mod indication;
mod keyword;
mod nbl;
mod offload;
mod oid;
mod oob;
mod parameters;
mod registry;
mod sa;
pub mod stack;
mod status;
mod tracer;
mod validate;
mod version;

pub use capability::*;
pub use driver::*;
pub use indication::*;
pub use keyword::*;
pub use nbl::*;
pub use offload::*;
pub use oid::*;
pub use oob::*;
pub use parameters::*;
pub use registry::*;
pub use sa::*;
pub use stack::{AdapterInfo, AdapterState, AttributeError, Binding, Datapath, DirectAnswer, OffloadPart, Stack, StackError};
pub use status::*;
pub use tracer::*;
pub use validate::*;
pub use version::*;
