//! Byte forms: requests, answers, status buffers and out-of-band arrays as NDIS lays them out in memory, to typed values and back.
//!
//! Layouts are those of 64-bit Windows, taken from [`ndis_abi`]; integers are little-endian, except that SPIs and addresses are held as the bytes stand
//! in the packet (OV2-SA-2). Nothing here follows a pointer: a list's `Next` is an offset from the start of the information buffer (OV2-SA-1).
//!
//! Whatever the bytes are, the outcome is a typed value or a [`RawError`], which [`RawError::status`] maps to what a driver answers. Bits of this
//! product's vendor extensions (`0x1_0000` and up) are neither written nor understood.
//!
//! ```
//! use ndis::raw::{self, RawError};
//! use ndis::{IpsecSetting, NdisVersion, OffloadParameters, Status};
//!
//! let parameters = OffloadParameters::ipsec_v2_setting(IpsecSetting::Esp);
//! let mut bytes = raw::parameters::encode(&parameters, NdisVersion::V6_30)?;
//! assert_eq!(raw::parameters::decode(&bytes), Ok(parameters));
//!
//! bytes.pop();
//! let error = raw::parameters::decode(&bytes).unwrap_err();
//! assert_eq!((error.status(), error.bytes_needed()), (Status::INVALID_LENGTH, Some(26)));
//! # Ok::<(), RawError>(())
//! ```

pub mod encapsulation;
pub mod indication;
pub mod offload;
pub mod oob;
pub mod parameters;
mod request;
pub mod sa;
pub mod standard;
pub mod v1;
mod wire;

use crate::status::Status;
use crate::validate::Invalid;

pub use request::DirectRequest;

const _: () = assert!(usize::BITS == 64, "the byte forms are those of 64-bit Windows, and offsets are taken from this build's layout");

/// A buffer that cannot be read, or a value that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RawError {
    /// A request's buffer ends before its content does.
    #[error("buffer of {found} bytes found, {needed} needed")]
    Short {
        /// Length of the buffer.
        found: usize,
        /// Length that the content needs.
        needed: usize,
    },
    /// A buffer is too small for the answer to a query.
    #[error("room for {found} bytes found, {needed} needed")]
    NoRoom {
        /// Length of the buffer.
        found: usize,
        /// Length of the answer.
        needed: usize,
    },
    /// A field holds what it cannot hold.
    #[error("{field} at offset {offset}: {found:#x} found, {allowed} allowed")]
    Field {
        /// Microsoft's name of the field.
        field: &'static str,
        /// Bytes from the start of the buffer.
        offset: usize,
        /// The number that it holds.
        found: u64,
        /// What it could hold.
        allowed: &'static str,
    },
    /// A handle is null where one is needed.
    #[error("{field} at offset {offset}: null found, a handle needed")]
    NullHandle {
        /// Microsoft's name of the field.
        field: &'static str,
        /// Bytes from the start of the buffer.
        offset: usize,
    },
    /// All fields are well-formed, and the SA that they describe is not.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The typed value says something for which the byte form has no place.
    #[error("{what} cannot be said in {structure}")]
    NotRepresentable {
        /// What.
        what: &'static str,
        /// Microsoft's name of the structure.
        structure: &'static str,
    },
}

impl RawError {
    /// What a driver answers: a short buffer [`Status::INVALID_LENGTH`], no room for an answer [`Status::BUFFER_TOO_SHORT`], bad content
    /// [`Status::INVALID_DATA`], no handle [`Status::INVALID_PARAMETER`] (OV2-SA-4, OV2-SA-6, OV2-CAP-7, OV2-CAP-8).
    pub const fn status(&self) -> Status {
        match self {
            Self::Short { .. } => Status::INVALID_LENGTH,
            Self::NoRoom { .. } => Status::BUFFER_TOO_SHORT,
            Self::Field { .. } | Self::Invalid(_) => Status::INVALID_DATA,
            Self::NullHandle { .. } => Status::INVALID_PARAMETER,
            Self::NotRepresentable { .. } => Status::NOT_SUPPORTED,
        }
    }

    /// The length that the buffer should have had, if that is what is wrong (`BytesNeeded`).
    pub const fn bytes_needed(&self) -> Option<usize> {
        match self {
            Self::Short { needed, .. } | Self::NoRoom { needed, .. } => Some(*needed),
            _ => None,
        }
    }
}

impl From<RawError> for Status {
    fn from(error: RawError) -> Self {
        error.status()
    }
}
