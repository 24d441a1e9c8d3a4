//! What a cryptographic library is to this project: keys, and batches of packets to seal and to open.
//!
//! A batch is a slice of jobs, each with its own key, so that packets of many SAs can travel together. A job borrows its
//! packet and holds everything else by value; building one is a handful of stores. The fields are public: a provider
//! that works on several packets at once takes the jobs as they are.

use core::fmt;

use arrayvec::ArrayVec;

use crate::algorithm::AesKeySize;

/// Packets that one call to a provider usually carries; callers work in chunks of it.
pub const BATCH: usize = 64;

/// Jobs of one call to [`Provider::seal`], on the stack.
pub type SealBatch<'a, K> = ArrayVec<SealJob<'a, K>, BATCH>;

/// Jobs of one call to [`Provider::open`], on the stack.
pub type OpenBatch<'a, K> = ArrayVec<OpenJob<'a, K>, BATCH>;

/// A cryptographic library.
///
/// Nothing here reads a clock, waits, or draws random numbers; seal and open of one key may run on any number of threads.
pub trait Provider: Send + Sync + 'static {
    /// An expanded key for one algorithm and ICV length. It erases itself when dropped, as far as the library allows, and
    /// its `Debug`, if it has one, shows no key bytes.
    type Key: Send + Sync + 'static;

    /// Name by which it is chosen and reported.
    fn name(&self) -> &'static str;

    /// Expands `key`, the cipher's own key without any salt, for ICVs of `icv_length` bytes.
    ///
    /// # Errors
    /// [`KeyError`] when the key's length is not the algorithm's, or the library cannot do it.
    fn key(&self, algorithm: Aead, key: &[u8], icv_length: usize) -> Result<Self::Key, KeyError>;

    /// Encrypts and authenticates: ciphertext goes to where `data` says, the ICV to `tag`.
    ///
    /// Every verdict is `Good` afterwards, unless a job is impossible: `tag` is not as long as the key's ICV, source and
    /// destination differ in length, or the library refuses the length. Such a job is `Bad`, and its output and `tag` are
    /// zero, so that not even a caller who forgets to look sends clear text.
    fn seal(&self, jobs: &mut [SealJob<'_, Self::Key>]);

    /// Verifies and decrypts.
    ///
    /// A verdict is `Good` with the plaintext where `data` says, or `Bad`: then data in place is as it was, the destination
    /// of a copy is zero, and no plaintext is anywhere. The ICV is compared in constant time. `scratch` is the calling
    /// lane's; once it has grown to the largest packet nothing is allocated.
    fn open(&self, jobs: &mut [OpenJob<'_, Self::Key>], scratch: &mut Scratch);
}

/// Authenticated encryption algorithms that a provider can have keys for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aead {
    /// AES-GCM with a nonce of 12 bytes (NIST SP 800-38D).
    AesGcm(AesKeySize),
}

impl Aead {
    /// Key length in bytes.
    pub const fn key_length(self) -> usize {
        match self {
            Self::AesGcm(size) => size.bytes(),
        }
    }

    /// ICV lengths in bytes that IPsec uses it with (RFC 4106 section 6).
    pub const fn icv_lengths(self) -> &'static [usize] {
        match self {
            Self::AesGcm(_) => &[16, 12, 8],
        }
    }

    /// Checks the lengths that are given to [`Provider::key`].
    ///
    /// # Errors
    /// The first length that is wrong, with what was expected.
    pub fn check(self, key: &[u8], icv_length: usize) -> Result<(), KeyError> {
        if key.len() != self.key_length() {
            return Err(KeyError::KeyLength { algorithm: self, expected: self.key_length(), found: key.len() });
        }
        if !self.icv_lengths().contains(&icv_length) {
            return Err(KeyError::IcvLength { algorithm: self, expected: self.icv_lengths(), found: icv_length });
        }
        Ok(())
    }
}

impl fmt::Display for Aead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AesGcm(size) => write!(f, "aes-gcm-{}", size.bytes() * 8),
        }
    }
}

/// A key that a provider did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key's length is not the algorithm's.
    #[error("{algorithm} takes a key of {expected} bytes, {found} were given")]
    KeyLength {
        /// The algorithm.
        algorithm: Aead,
        /// Bytes that it takes.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The algorithm has no such ICV in IPsec.
    #[error("{algorithm} makes ICVs of {expected:?} bytes, not of {found}")]
    IcvLength {
        /// The algorithm.
        algorithm: Aead,
        /// Lengths that there are.
        expected: &'static [usize],
        /// Length asked for.
        found: usize,
    },
    /// The library failed, for a reason that it does not tell (memory, usually).
    #[error("{provider} failed to set up a key for {algorithm}")]
    Library {
        /// Name of the provider.
        provider: &'static str,
        /// The algorithm.
        algorithm: Aead,
    },
}

/// Where a job's bytes are and where its result goes.
pub enum Data<'a> {
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

impl Data<'_> {
    /// Bytes of input.
    pub fn len(&self) -> usize {
        match self {
            Self::InPlace(data) => data.len(),
            Self::Copy { src, .. } => src.len(),
        }
    }

    /// Whether there is no input: a packet of which everything is in the AAD.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the result goes.
    pub(crate) fn output(&mut self) -> &mut [u8] {
        match self {
            Self::InPlace(data) => data,
            Self::Copy { dst, .. } => dst,
        }
    }
}

impl fmt::Debug for Data<'_> {
    /// Lengths only: the bytes may be somebody's clear text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InPlace(data) => write!(f, "InPlace({} bytes)", data.len()),
            Self::Copy { src, dst } => write!(f, "Copy({} bytes to {})", src.len(), dst.len()),
        }
    }
}

/// Additional authenticated data of a job, held inline: at most 32 bytes.
///
/// For ESP with a combined mode it is 8 or 12 bytes ([`Aad::esp`]). GMAC, whose AAD is a whole packet, will
/// carry the fields before the payload here and the rest as data of its own kind.
#[derive(Clone, Copy)]
pub struct Aad {
    bytes: [u8; Self::MAX],
    length: u8,
}

impl Aad {
    /// Most bytes that fit.
    pub const MAX: usize = 32;

    /// Copies `bytes`; `None` if there are more than [`Aad::MAX`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut aad = Self { bytes: [0; Self::MAX], length: bytes.len() as u8 };
        aad.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(aad)
    }

    /// That of ESP: SPI and sequence number as in the header, 8 bytes; with `extended` sequence numbers SPI and all 64 bits of the
    /// number, 12 bytes (RFC 4106 section 5, figures 2 and 3). `spi` is in network order, as it stands in the packet.
    #[inline]
    pub fn esp(spi: [u8; 4], sequence: u64, extended: bool) -> Self {
        let (high, low) = ((sequence >> 32) as u32, sequence as u32);
        // Both forms from the same three words, selected and not written twice: then the compiler keeps them in registers.
        let (second, third, length) = if extended { (high, low, 12) } else { (low, 0, 8) };
        let mut bytes = [0; Self::MAX];
        bytes[..4].copy_from_slice(&spi);
        bytes[4..8].copy_from_slice(&second.to_be_bytes());
        bytes[8..12].copy_from_slice(&third.to_be_bytes());
        Self { bytes, length }
    }

    /// The bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        // Never cut: `length` is at most `MAX` by construction. `min` tells the compiler so.
        &self.bytes[..Self::MAX.min(self.length as usize)]
    }
}

impl fmt::Debug for Aad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aad({:02x?})", self.as_bytes())
    }
}

/// What became of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// No provider has had it yet.
    #[default]
    Pending,
    /// Sealed, or verified and decrypted.
    Good,
    /// Not authentic, or impossible; nothing was revealed.
    Bad,
}

impl Verdict {
    /// Whether it is `Good`.
    #[inline]
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Good)
    }

    #[inline]
    pub(crate) const fn from_success(success: bool) -> Self {
        if success { Self::Good } else { Self::Bad }
    }
}

/// One packet to seal.
pub struct SealJob<'a, K> {
    /// Key; says algorithm and ICV length.
    pub key: &'a K,
    /// Nonce, never used twice under one key.
    pub nonce: [u8; 12],
    /// Authenticated, not encrypted.
    pub aad: Aad,
    /// Plaintext in, ciphertext out.
    pub data: Data<'a>,
    /// Place for the ICV, as long as the key's ICV.
    pub tag: &'a mut [u8],
    /// `Pending` until a provider has had it.
    pub verdict: Verdict,
}

impl<'a, K> SealJob<'a, K> {
    /// A job that is pending.
    #[inline]
    pub fn new(key: &'a K, nonce: [u8; 12], aad: Aad, data: Data<'a>, tag: &'a mut [u8]) -> Self {
        Self { key, nonce, aad, data, tag, verdict: Verdict::Pending }
    }

    /// Notes how it went; a failure wipes what there is of output.
    #[inline]
    pub(crate) fn conclude(&mut self, success: bool) {
        self.verdict = Verdict::from_success(success);
        if !success {
            self.data.output().fill(0);
            self.tag.fill(0);
        }
    }
}

/// One packet to open.
pub struct OpenJob<'a, K> {
    /// Key; says algorithm and ICV length.
    pub key: &'a K,
    /// Nonce, as the packet's IV has it.
    pub nonce: [u8; 12],
    /// Authenticated, not encrypted.
    pub aad: Aad,
    /// Ciphertext in, plaintext out.
    pub data: Data<'a>,
    /// The packet's ICV; another length than the key's is not authentic.
    pub tag: &'a [u8],
    /// `Pending` until a provider has had it.
    pub verdict: Verdict,
}

impl<'a, K> OpenJob<'a, K> {
    /// A job that is pending.
    #[inline]
    pub fn new(key: &'a K, nonce: [u8; 12], aad: Aad, data: Data<'a>, tag: &'a [u8]) -> Self {
        Self { key, nonce, aad, data, tag, verdict: Verdict::Pending }
    }
}

impl<K> fmt::Debug for SealJob<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealJob").field("length", &self.data.len()).field("verdict", &self.verdict).finish_non_exhaustive()
    }
}

impl<K> fmt::Debug for OpenJob<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenJob").field("length", &self.data.len()).field("verdict", &self.verdict).finish_non_exhaustive()
    }
}

/// A lane's memory for providers that cannot open a packet without a second place. It holds ciphertext, never plaintext.
#[derive(Default)]
pub struct Scratch {
    bytes: Vec<u8>,
}

impl Scratch {
    /// Empty; it grows with the packets that need it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ready for packets of up to `length` bytes, so that not even the first one allocates.
    pub fn with_capacity(length: usize) -> Self {
        Self { bytes: vec![0; length] }
    }

    /// Copies `source` and returns the copy.
    #[inline]
    pub(crate) fn keep(&mut self, source: &[u8]) -> &[u8] {
        if self.bytes.len() < source.len() {
            self.grow(source.len());
        }
        let copy = &mut self.bytes[..source.len()];
        copy.copy_from_slice(source);
        copy
    }

    #[cfg(test)]
    pub(crate) fn contents(&self) -> &[u8] {
        &self.bytes
    }

    #[cold]
    fn grow(&mut self, length: usize) {
        self.bytes.resize(length.next_power_of_two(), 0);
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scratch({} bytes)", self.bytes.len())
    }
}
