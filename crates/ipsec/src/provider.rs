//! What a cryptographic library is to this project: keys, and batches of packets to seal, to open and to authenticate.
//!
//! A batch is a slice of jobs, each with its own key, so that packets of many SAs can travel together. A job borrows its
//! packet and holds everything else by value; building one is a handful of stores. The fields are public: a provider
//! that works on several packets at once takes the jobs as they are.

use core::fmt;

use arrayvec::ArrayVec;

use crate::aad::{Aad, Nonce};
use crate::algorithm::Authentication;
use crate::combined::{self, CombinedJob};
use crate::suite::{KeyError, KeyParameters};

/// Packets that one call to a provider usually carries; callers work in chunks of it.
pub const BATCH: usize = 64;

/// Jobs of one call to [`Provider::seal`], on the stack.
pub type SealBatch<'a, K> = ArrayVec<SealJob<'a, K>, BATCH>;

/// Jobs of one call to [`Provider::open`], on the stack.
pub type OpenBatch<'a, K> = ArrayVec<OpenJob<'a, K>, BATCH>;

/// Jobs of one call to [`Provider::seal_combined`] or [`Provider::open_combined`], on the stack.
pub type CombinedBatch<'a, K, M> = ArrayVec<CombinedJob<'a, K, M>, BATCH>;

/// Jobs of one call to [`Provider::authenticate`], on the stack.
pub type AuthBatch<'a, K> = ArrayVec<AuthJob<'a, K>, BATCH>;

/// A cryptographic library.
///
/// Nothing here reads a clock, waits, or draws random numbers; seal and open of one key may run on any number of threads.
pub trait Provider: Send + Sync + 'static {
    /// An expanded key of ESP: for one suite and ICV length. It erases itself when dropped, as far as the library allows, and
    /// its `Debug`, if it has one, shows no key bytes.
    type Key: Send + Sync + 'static;

    /// An expanded key of AH: for one authentication algorithm; the same holds for it.
    type AuthKey: Send + Sync + 'static;

    /// Name by which it is chosen and reported.
    fn name(&self) -> &'static str;

    /// Expands the keys of an ESP SA.
    ///
    /// # Errors
    /// [`KeyError`] when algorithms do not go together, a length is not the algorithm's, or the library cannot do it.
    fn key(&self, parameters: &KeyParameters<'_>) -> Result<Self::Key, KeyError>;

    /// Expands the key of an AH SA: HMAC or AES-GMAC, `key` without salt.
    ///
    /// # Errors
    /// [`KeyError`] when the key's length is not the algorithm's, the algorithm is none, or the library cannot do it.
    fn auth_key(&self, algorithm: Authentication, key: &[u8]) -> Result<Self::AuthKey, KeyError>;

    /// Encrypts and authenticates: ciphertext goes to where `data` says, the ICV to `tag`.
    ///
    /// Every verdict is `Good` afterwards, unless a job is impossible: `tag` is not as long as the key's ICV, source and
    /// destination differ in length, or the library or the cipher's block refuses the length. Such a job is `Bad`, and its output and `tag` are
    /// zero, so that not even a caller who forgets to look sends clear text.
    fn seal(&self, jobs: &mut [SealJob<'_, Self::Key>]);

    /// Verifies and decrypts.
    ///
    /// A verdict is `Good` with the plaintext where `data` says, or `Bad`: then data in place is as it was, the destination
    /// of a copy is zero, and no plaintext is anywhere. The ICV is compared in constant time, and before anything that
    /// depends on what was encrypted. Under a key without authentication everything whose length fits the cipher's block is
    /// `Good`. `scratch` is the calling lane's; once it has grown to the largest packet nothing is allocated.
    fn open(&self, jobs: &mut [OpenJob<'_, Self::Key>], scratch: &mut Scratch);

    /// [`Provider::seal`] of packets under combined modes, which most packets are: jobs of few words. Writes their IVs, too. Returns whether all verdicts
    /// are `Good`.
    ///
    /// A provider that works on batches takes them as they are; what is given here makes jobs of the general form of those that are `Pending`.
    fn seal_combined<M>(&self, jobs: &mut [CombinedJob<'_, Self::Key, M>]) -> bool {
        combined::seal_rest(self, jobs)
    }

    /// [`Provider::open`], likewise.
    fn open_combined<M>(&self, jobs: &mut [CombinedJob<'_, Self::Key, M>], scratch: &mut Scratch) -> bool {
        combined::open_rest(self, jobs, scratch)
    }

    /// Computes the ICV of each job, cut to the algorithm's length. No job can fail.
    fn authenticate(&self, jobs: &mut [AuthJob<'_, Self::AuthKey>]);
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

    /// What the job starts from.
    #[inline]
    pub(crate) fn input(&self) -> &[u8] {
        match self {
            Self::InPlace(data) => data,
            Self::Copy { src, .. } => src,
        }
    }

    /// Puts the input where the result goes, for algorithms that work in place; `None` if source and destination differ in length.
    #[inline]
    pub(crate) fn carry_over(&mut self) -> Option<&mut [u8]> {
        match self {
            Self::InPlace(data) => Some(data),
            Self::Copy { src, dst } if src.len() == dst.len() => {
                dst.copy_from_slice(src);
                Some(dst)
            }
            Self::Copy { .. } => None,
        }
    }

    /// After a failure: nothing is left where a copy was to go.
    #[inline]
    pub(crate) fn wipe_copy(&mut self) {
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

impl fmt::Debug for Data<'_> {
    /// Lengths only: the bytes may be somebody's clear text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InPlace(data) => write!(f, "InPlace({} bytes)", data.len()),
            Self::Copy { src, dst } => write!(f, "Copy({} bytes to {})", src.len(), dst.len()),
        }
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
    /// Key; says suite and ICV length.
    pub key: &'a K,
    /// Nonce or IV; a nonce is never used twice under one key.
    pub nonce: Nonce,
    /// Authenticated, not encrypted.
    pub aad: Aad,
    /// Plaintext in, ciphertext out.
    pub data: Data<'a>,
    /// Place for the ICV, as long as the key's ICV; empty without authentication.
    pub tag: &'a mut [u8],
    /// `Pending` until a provider has had it.
    pub verdict: Verdict,
}

impl<'a, K> SealJob<'a, K> {
    /// A job that is pending.
    #[inline]
    pub fn new(key: &'a K, nonce: impl Into<Nonce>, aad: Aad, data: Data<'a>, tag: &'a mut [u8]) -> Self {
        Self { key, nonce: nonce.into(), aad, data, tag, verdict: Verdict::Pending }
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
    /// Key; says suite and ICV length.
    pub key: &'a K,
    /// Nonce or IV, as the packet has it.
    pub nonce: Nonce,
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
    pub fn new(key: &'a K, nonce: impl Into<Nonce>, aad: Aad, data: Data<'a>, tag: &'a [u8]) -> Self {
        Self { key, nonce: nonce.into(), aad, data, tag, verdict: Verdict::Pending }
    }
}

/// One packet to authenticate.
pub struct AuthJob<'a, K> {
    /// Key; says algorithm.
    pub key: &'a K,
    /// Nonce of AES-GMAC: salt and IV. Not used by HMAC.
    pub nonce: [u8; 12],
    /// What is authenticated, one part after the other: masked headers, the rest of the packet, the high half of an extended sequence number.
    pub parts: [&'a [u8]; 3],
    /// The result; empty until a provider has had it.
    pub icv: Icv,
}

impl<'a, K> AuthJob<'a, K> {
    /// A job without result.
    #[inline]
    pub fn new(key: &'a K, nonce: [u8; 12], parts: [&'a [u8]; 3]) -> Self {
        Self { key, nonce, parts, icv: Icv::default() }
    }
}

impl<K> fmt::Debug for AuthJob<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthJob").field("lengths", &self.parts.map(<[u8]>::len)).finish_non_exhaustive()
    }
}

/// An ICV as computed, cut to its algorithm's length.
///
/// It has no `PartialEq`: what it is compared with comes from a packet, and [`Icv::verify`] takes constant time.
#[derive(Clone, Copy, Default)]
pub struct Icv {
    bytes: [u8; Self::MAX],
    length: u8,
}

impl Icv {
    /// Bytes of the longest one, HMAC-SHA-512-256.
    pub const MAX: usize = 32;

    /// The first `length` bytes of `mac`; as many as there are, if these are fewer.
    #[inline]
    pub(crate) fn cut(mac: &[u8], length: usize) -> Self {
        let mut bytes = [0; Self::MAX];
        let length = length.min(mac.len()).min(Self::MAX);
        bytes[..length].copy_from_slice(&mac[..length]);
        Self { bytes, length: length as u8 }
    }

    /// The bytes; none before a provider has computed them.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..Self::MAX.min(self.length as usize)]
    }

    /// Whether `received` is this ICV, in constant time. Another length is not, and nothing is one that was not computed.
    #[inline]
    pub fn verify(&self, received: &[u8]) -> bool {
        self.length != 0 && secret::ct_eq(self.as_bytes(), received)
    }
}

impl fmt::Debug for Icv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Icv({:02x?})", self.as_bytes())
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
