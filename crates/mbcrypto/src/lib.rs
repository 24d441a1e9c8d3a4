//! AES-GCM and AES-GMAC on batches of packets, with the widest instructions that the processor has.
//!
//! A [`Kernel`] takes a slice of jobs that may differ in key, length and alignment, and works on several packets at once, so that
//! the latencies of one are filled with the work of another. The jobs are the caller's own types: they implement
//! [`Seal`], [`Open`] or [`Authenticate`], a method that lends the packet's parts and one that takes the result.
//!
//! | | |
//! | --- | --- |
//! | AES-GCM (NIST SP 800-38D, RFC 4106) | keys of 128, 192, 256 bits, nonces of 12 bytes, AAD of up to 32, ICVs of 8, 12, 16; in place or from source to destination |
//! | AES-GMAC (RFC 4543) | the same keys and nonces, data of any length in any number of parts, 16 bytes of tag |
//!
//! ```
//! use mbcrypto::{AadParts, Kernel, Key, Nonce, Seal, SealParts, Text};
//!
//! struct Job<'a> {
//!     key: &'a Key,
//!     nonce: [u8; 12],
//!     aad: [u8; 8],
//!     text: Vec<u8>,
//!     tag: [u8; 16],
//!     good: bool,
//! }
//!
//! impl Seal for Job<'_> {
//!     fn parts(&mut self) -> Option<SealParts<'_>> {
//!         let text = Text::InPlace(&mut self.text);
//!         Some(SealParts { key: self.key, nonce: Nonce::new(&self.nonce), aad: AadParts::Bytes(&self.aad), text, tag: &mut self.tag })
//!     }
//!
//!     fn conclude(&mut self, good: bool) {
//!         self.good = good;
//!     }
//! }
//!
//! let kernel = Kernel::best();
//! let key = kernel.key(&[7; 16], 16)?;
//! let job = |number| Job { key: &key, nonce: [number; 12], aad: [0; 8], text: b"a packet".to_vec(), tag: [0; 16], good: false };
//! let mut jobs = [job(1), job(2), job(3)];
//! kernel.seal(&mut jobs);
//! assert!(jobs.iter().all(|job| job.good && job.text != b"a packet"));
//! # Ok::<(), mbcrypto::KeyError>(())
//! ```
//!
//! # Paths
//! A [`Path`] is a set of instructions; [`Kernel::best`] asks the processor which there are. All give the same bytes.
//!
//! # Side channels
//! No branch and no address depends on a key, a text or a tag; they depend on lengths, on the number of jobs, and on whether a packet
//! was authentic once that is known. There are no tables that a secret indexes. Round keys and powers of H are erased when a [`Key`]
//! is dropped, as are the places on the stack where kernels keep H and encrypted counters, and tags that were only computed to be compared; registers
//! and what the compiler spills of them are not.
//!
//! # Opening
//! A text is decrypted while it is being authenticated. If it turns out not to be authentic, a text in place is encrypted
//! again, which restores it, and the destination of a copy is zeroed, before the call returns.
//!
//! # Unsafe code
//! Vector instructions are only to be had with it. What is unsafe is of three kinds, each behind one wall: whether the processor has
//! an instruction (the tokens in `x86`, made by detection only), loads and stores through pointers (`Packet`, which checks lengths
//! once and says what kernels may rely on), and the slices that were borrowed for a packet (`Packet` again).

#[cfg(target_arch = "x86_64")]
mod aes;
mod batch;
#[cfg(target_arch = "x86_64")]
mod gcm;
#[cfg(target_arch = "x86_64")]
mod ghash;
mod gmac;
mod job;
mod key;
#[cfg(mbcrypto_constant_time)]
#[doc(hidden)]
pub mod memcheck;
mod packet;
mod portable;
#[cfg(target_arch = "x86_64")]
mod short;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(target_arch = "x86_64")]
mod x86;

use core::fmt;

pub use job::{AadParts, Authenticate, MacParts, Nonce, Open, OpenParts, Seal, SealParts, Text};
pub use key::{Key, KeyError};

use portable::Portable;

/// Most bytes of additional authenticated data beside a text. Data that is only authenticated ([`Kernel::authenticate`]) has no such limit.
pub const MAX_AAD: usize = packet::MAX_AAD;

/// Lengths of ICVs in bytes that IPsec uses AES-GCM with (RFC 4106 section 6).
pub const ICV_LENGTHS: [usize; 3] = [8, 12, 16];

/// A set of instructions to work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// x86-64: AVX-512 with VAES and VPCLMULQDQ, four blocks a vector.
    Avx512,
    /// x86-64: AVX2 with VAES and VPCLMULQDQ, two blocks a vector.
    Avx2,
    /// x86-64: AES-NI with PCLMULQDQ, one block a vector.
    AesNi,
    /// Any processor.
    Portable,
}

impl Path {
    /// All of them, the fastest first.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::AesNi, Self::Portable];

    /// Name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::AesNi => "aes-ni",
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The work on one path. Proof, too, that the processor has it.
#[derive(Clone, Copy)]
pub struct Kernel(Way);

#[derive(Clone, Copy)]
enum Way {
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    #[cfg(target_arch = "x86_64")]
    AesNi(x86::AesNi),
    Portable(Portable),
}

/// Calls a function of `batch` with the backend that a kernel is for.
macro_rules! with_backend {
    ($way:expr, |$backend:ident| $call:expr) => {
        match $way {
            #[cfg(target_arch = "x86_64")]
            Way::Avx512($backend) => $call,
            #[cfg(target_arch = "x86_64")]
            Way::Avx2($backend) => $call,
            #[cfg(target_arch = "x86_64")]
            Way::AesNi($backend) => $call,
            Way::Portable($backend) => $call,
        }
    };
}

impl Kernel {
    /// The fastest that this processor has.
    pub fn best() -> Self {
        Path::ALL.into_iter().find_map(Self::new).unwrap_or(Self(Way::Portable(Portable)))
    }

    /// The one for `path`; `None` if this processor, or the operating system, lacks an instruction of it.
    pub fn new(path: Path) -> Option<Self> {
        let way = match path {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => Way::Avx512(x86::Avx512::detect()?),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => Way::Avx2(x86::Avx2::detect()?),
            #[cfg(target_arch = "x86_64")]
            Path::AesNi => Way::AesNi(x86::AesNi::detect()?),
            #[cfg(not(target_arch = "x86_64"))]
            Path::Avx512 | Path::Avx2 | Path::AesNi => return None,
            Path::Portable => Way::Portable(Portable),
        };
        Some(Self(way))
    }

    /// Its path.
    pub const fn path(self) -> Path {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Way::Avx512(_) => Path::Avx512,
            #[cfg(target_arch = "x86_64")]
            Way::Avx2(_) => Path::Avx2,
            #[cfg(target_arch = "x86_64")]
            Way::AesNi(_) => Path::AesNi,
            Way::Portable(_) => Path::Portable,
        }
    }

    /// Expands a key of 16, 24 or 32 bytes for ICVs of `icv_length` bytes. It can be used with this kernel; those of x86-64
    /// share their keys, the portable one has its own. A job whose key is for another kernel is an impossible one.
    ///
    /// # Errors
    /// [`KeyError`] with the length that is wrong.
    pub fn key(self, key: &[u8], icv_length: usize) -> Result<Key, KeyError> {
        let mut expanded = self.empty_key(key, icv_length)?;
        expanded.fill(key);
        Ok(expanded)
    }

    /// The same in a box, expanded where it stays: no copy of it is left behind on the stack. (What RustCrypto expands for the portable path is.)
    ///
    /// # Errors
    /// As [`Kernel::key`].
    pub fn boxed_key(self, key: &[u8], icv_length: usize) -> Result<Box<Key>, KeyError> {
        let mut expanded = Box::new(self.empty_key(key, icv_length)?);
        expanded.fill(key);
        Ok(expanded)
    }

    /// A key of the right size, without a secret; the portable path's is a pointer, and complete.
    fn empty_key(self, key: &[u8], icv_length: usize) -> Result<Key, KeyError> {
        if !ICV_LENGTHS.contains(&icv_length) {
            return Err(KeyError::IcvLength { found: icv_length });
        }
        let expanded = match self.0 {
            #[cfg(target_arch = "x86_64")]
            Way::Avx512(_) | Way::Avx2(_) | Way::AesNi(_) => x86::Schedule::empty(key.len(), icv_length as u8).map(key::Expanded::X86),
            Way::Portable(_) => portable::Schedule::new(key, icv_length as u8).map(|schedule| key::Expanded::Portable(Box::new(schedule))),
        };
        Ok(Key(expanded.ok_or(KeyError::KeyLength { found: key.len() })?))
    }

    /// Encrypts and authenticates; concludes every job that has parts.
    ///
    /// A job is good unless it is impossible: the tag is not as long as the key's ICV, source and destination differ in length, the AAD
    /// is longer than [`MAX_AAD`], the text longer than 2^36 - 32 bytes (NIST SP 800-38D section 5.2.1.1), or the key is for another kernel. The output and the
    /// tag of such a job are zeroed, so that not even a caller who forgets to look sends clear text.
    ///
    /// Returns whether every job had parts and was good: as nearly always, and then nobody has to look at each.
    #[inline]
    pub fn seal<J: Seal>(self, jobs: &mut [J]) -> bool {
        with_backend!(self.0, |backend| batch::seal(backend, jobs))
    }

    /// Verifies and decrypts; concludes every job that has parts.
    ///
    /// A job is good if it is authentic: then the plaintext is where it belongs. Otherwise, or if it is impossible as in [`Kernel::seal`],
    /// a text in place is as it was, and the destination of a copy is zero. The tag is compared in constant time.
    ///
    /// Returns whether every job had parts and was good.
    #[inline]
    pub fn open<J: Open>(self, jobs: &mut [J]) -> bool {
        with_backend!(self.0, |backend| batch::open(backend, jobs))
    }

    /// Makes GMAC's tags; concludes every job that has parts. Comparing a tag, in constant time, is the caller's.
    #[inline]
    pub fn authenticate<J: Authenticate>(self, jobs: &mut [J]) {
        with_backend!(self.0, |backend| batch::authenticate(backend, jobs));
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({})", self.path())
    }
}
