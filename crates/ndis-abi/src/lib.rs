//! Raw layouts, names and numbers of the NDIS structures that IPsec task offload uses.
//!
//! This is the binary interface of Microsoft's IPsec task offload, versions 2 and 1, and of what surrounds it: large
//! send, UDP segmentation and checksum offload, OID requests, status indications, net buffer lists, bind parameters,
//! registry keywords. There is no behaviour here and no unsafe code. It is also the only crate with Microsoft's names;
//! crates above it have Rust's.
//!
//! How C becomes Rust:
//!
//! - Structures are `#[repr(C)]`. Every size, alignment and offset is asserted at compile time, on 64-bit targets with
//!   the numbers of x64 and arm64, on 32-bit targets with those of x86, and the numbers are kept in [`table`].
//! - Pointers and handles are numbers of pointer width, [`PVOID`] and [`NDIS_HANDLE`]; nothing here is followed.
//! - A union is its widest member; the other forms of the same bytes are named in the structure's documentation.
//! - Bit fields are words with a [`BitField`](layout::BitField) constant for each field.
//! - Enumerations are numbers with constants, so that unknown values are kept.
//! - Key bytes lie behind the structures that carry them. They are no fields, so that no copy and no `Debug` shows them;
//!   the constant named after the tail (as in [`IPSEC_OFFLOAD_V2_ADD_SA::KeyData`]) is its offset, which may lie in the
//!   padding at the end of Rust's type, and `SIZEOF` is C's size, the first byte of the tail included.
//! - A part that is anonymous in C has a type of its own, named after its structure and member, and words of anonymous
//!   bit fields are called `Bits`.
//!
//! Integers are in the host's order, as they are for a driver, except where a field says that its bytes stand as in the
//! packet.
//!
//! ```
//! use ndis_abi::layout::AbiType;
//! use ndis_abi::*;
//!
//! // What a miniport with ESP and AES-GCM-128 in tunnel mode reports.
//! let capabilities = NDIS_IPSEC_OFFLOAD_V2 {
//!     Encapsulation: NDIS_ENCAPSULATION_IEEE_802_3,
//!     Esp: 1,
//!     Tunnel: 1,
//!     EncryptionAlgorithms: IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128,
//!     SaOffloadCapacity: 1024,
//!     ..NDIS_IPSEC_OFFLOAD_V2::ZERO
//! };
//! assert_eq!(capabilities.Ah, 0);
//!
//! // What its NIC found in a received packet: the low 32 bits of the slot.
//! type Receive = NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_Receive;
//! let found = Receive::ZERO
//!     .with(Receive::CryptoDone, 1)
//!     .with(Receive::CryptoStatus, CRYPTO_TUNNEL_ESP_AUTH_FAILED);
//! assert_eq!(found.0, 0x0005_0002);
//! assert_eq!(found.get(Receive::CryptoStatus), CRYPTO_TUNNEL_ESP_AUTH_FAILED);
//!
//! // Where a byte buffer has the number of IPsec headers of an add request.
//! # #[cfg(target_pointer_width = "64")]
//! assert_eq!(core::mem::offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, NumExtHdrs), 16);
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals, reason = "Microsoft's names, verbatim")]

pub mod base;
pub mod bind;
pub mod checksum;
pub mod ipsec_v1;
pub mod ipsec_v2;
pub mod layout;
pub mod lso;
pub mod nbl;
pub mod offload;
pub mod oid;
pub mod registry;
pub mod status;
pub mod table;
pub mod version;

pub use base::*;
pub use bind::*;
pub use checksum::*;
pub use ipsec_v1::*;
pub use ipsec_v2::*;
pub use lso::*;
pub use nbl::*;
pub use offload::*;
pub use oid::*;
pub use status::*;
