//! What a caller's jobs have to tell.
//!
//! Callers keep their own job types and implement these traits for them, so that nothing is copied on the way into a
//! kernel and nothing on the way out: [`Seal::parts`] and [`Open::parts`] borrow, and are inlined.

use core::fmt;

use crate::key::Key;

/// Where a job's text is and where its result goes.
pub enum Text<'a> {
    /// The result replaces the input.
    InPlace(&'a mut [u8]),
    /// The result goes elsewhere; both have the same length.
    Copy {
        /// Input, only read.
        src: &'a [u8],
        /// Output.
        dst: &'a mut [u8],
    },
}

impl Text<'_> {
    /// Bytes of input and of output; they should be as many.
    #[inline(always)]
    pub(crate) fn lengths(&self) -> (usize, usize) {
        match self {
            Self::InPlace(data) => (data.len(), data.len()),
            Self::Copy { src, dst } => (src.len(), dst.len()),
        }
    }

    /// Zeroes the destination of a copy; text in place stays.
    pub(crate) fn erase_copy(self) {
        if let Self::Copy { dst, .. } = self {
            dst.fill(0);
        }
    }

    /// Where the result goes.
    pub(crate) fn output(&mut self) -> &mut [u8] {
        match self {
            Self::InPlace(data) => data,
            Self::Copy { dst, .. } => dst,
        }
    }
}

impl fmt::Debug for Text<'_> {
    /// Lengths only: the bytes may be somebody's clear text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InPlace(data) => write!(f, "InPlace({} bytes)", data.len()),
            Self::Copy { src, dst } => write!(f, "Copy({} bytes to {})", src.len(), dst.len()),
        }
    }
}

/// Nonce of a packet, in registers: jobs that make it when they are asked need no place for it.
#[derive(Clone, Copy, Debug)]
pub struct Nonce(pub(crate) u128);

impl Nonce {
    /// A nonce of 12 bytes.
    #[inline(always)]
    pub const fn new(bytes: &[u8; 12]) -> Self {
        let (Some(head), Some(tail)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<4>()) else { unreachable!() };
        Self(u64::from_le_bytes(*head) as u128 | (u32::from_le_bytes(*tail) as u128) << 64)
    }

    /// Salt, then IV (RFC 4106 section 4).
    #[inline(always)]
    pub const fn salted(salt: [u8; 4], iv: [u8; 8]) -> Self {
        Self(u32::from_le_bytes(salt) as u128 | (u64::from_le_bytes(iv) as u128) << 32)
    }
}

/// Additional data of a packet: authenticated, not encrypted.
#[derive(Clone, Copy, Debug)]
pub enum AadParts<'a> {
    /// At most [`crate::MAX_AAD`] bytes.
    Bytes(&'a [u8]),
    /// What ESP has (RFC 4106 section 5): SPI and the low half of the sequence number, as in `header`, and between them the `high` half of an extended one.
    Esp {
        /// As it stands in the packet.
        header: [u8; 8],
        /// `None`: the number is not extended.
        high: Option<u32>,
    },
}

/// A packet to encrypt and authenticate.
#[derive(Debug)]
pub struct SealParts<'a> {
    /// Key; says the length of the ICV.
    pub key: &'a Key,
    /// Nonce, never used twice under one key.
    pub nonce: Nonce,
    /// Authenticated, not encrypted.
    pub aad: AadParts<'a>,
    /// Plaintext in, ciphertext out.
    pub text: Text<'a>,
    /// Place for the ICV, as long as the key's ICV.
    pub tag: &'a mut [u8],
}

/// A packet to verify and decrypt.
#[derive(Debug)]
pub struct OpenParts<'a> {
    /// Key; says the length of the ICV.
    pub key: &'a Key,
    /// Nonce, as the packet has it.
    pub nonce: Nonce,
    /// Authenticated, not encrypted.
    pub aad: AadParts<'a>,
    /// Ciphertext in, plaintext out.
    pub text: Text<'a>,
    /// The packet's ICV; another length than the key's is not authentic.
    pub tag: &'a [u8],
}

/// A packet to authenticate (GMAC).
#[derive(Debug)]
pub struct MacParts<'a> {
    /// Key.
    pub key: &'a Key,
    /// Nonce, never used twice under one key.
    pub nonce: &'a [u8; 12],
    /// What is authenticated, one part after the other, as if they were one.
    pub data: &'a [&'a [u8]],
}

/// A job for [`crate::Kernel::seal`].
pub trait Seal {
    /// Everything about the packet. `None`: not a job for this crate; it is left alone and not concluded.
    fn parts(&mut self) -> Option<SealParts<'_>>;

    /// Takes the result. `false`: the job was impossible, and its output and tag are zero.
    fn conclude(&mut self, good: bool);
}

/// A job for [`crate::Kernel::open`].
pub trait Open {
    /// Everything about the packet. `None`: not a job for this crate; it is left alone and not concluded.
    fn parts(&mut self) -> Option<OpenParts<'_>>;

    /// Takes the result. `false`: not authentic, or impossible; text in place is as it was, the destination of a copy zero.
    fn conclude(&mut self, good: bool);
}

/// A job for [`crate::Kernel::authenticate`].
pub trait Authenticate {
    /// Everything about the packet. `None`: not a job for this crate; it is left alone and not concluded.
    fn parts(&self) -> Option<MacParts<'_>>;

    /// Takes all 16 bytes of the tag; `None`: the job was impossible.
    fn conclude(&mut self, tag: Option<&[u8; 16]>);
}
