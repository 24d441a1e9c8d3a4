//! Expanded keys.

use core::fmt;

use crate::portable;
#[cfg(target_arch = "x86_64")]
use crate::x86;

/// An expanded AES key with its powers of H, for one ICV length. Made by [`crate::Kernel::key`].
///
/// It is erased when it is dropped. Moving it leaves a copy behind, as with any Rust value: [`crate::Kernel::boxed_key`] makes it where it stays.
pub struct Key(pub(crate) Expanded);

// The large variant is the one that is used on every packet; a box around it would be another cache miss.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Expanded {
    #[cfg(target_arch = "x86_64")]
    X86(x86::Schedule),
    Portable(Box<portable::Schedule>),
}

impl Key {
    /// Expands `key`, as long as that which this place was made for; what needed no place is there already.
    pub(crate) fn fill(&mut self, key: &[u8]) {
        match &mut self.0 {
            #[cfg(target_arch = "x86_64")]
            Expanded::X86(schedule) => schedule.fill(key),
            Expanded::Portable(_) => {}
        }
    }

    /// Length in bytes of the ICVs that this key makes: 8, 12 or 16.
    #[inline]
    pub fn icv_length(&self) -> usize {
        match &self.0 {
            #[cfg(target_arch = "x86_64")]
            Expanded::X86(schedule) => schedule.icv_length(),
            Expanded::Portable(schedule) => schedule.icv_length(),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(ICV of {} bytes)", self.icv_length())
    }
}

/// A key that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// AES has no keys of this length.
    #[error("AES takes a key of 16, 24 or 32 bytes, {found} were given")]
    KeyLength {
        /// Bytes given.
        found: usize,
    },
    /// IPsec has no such ICV (RFC 4106 section 6).
    #[error("an ICV of AES-GCM in IPsec has 8, 12 or 16 bytes, not {found}")]
    IcvLength {
        /// Length asked for.
        found: usize,
    },
}
