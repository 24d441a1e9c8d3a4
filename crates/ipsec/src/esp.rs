//! The cryptographic half of an ESP SA (RFC 4303, RFC 4106): from the bytes of an ESP packet to a job for a provider.
//!
//! NIC and software path use the same code, so they make the same bytes of the same packet and sequence number.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ---
//! |               security parameters index (SPI)                 |  authenticated (AES-GCM: with the
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+  high half of the sequence number
//! |                  sequence number, low half                    |  between the two, with ESN)
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ---
//! |                     IV (AES-GCM: 8 bytes)                     |  carried; the nonce is salt and IV
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ---
//! |          payload, padding, pad length, next header            |  encrypted and authenticated
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ---
//! |                  ICV (16, 12 or 8 bytes)                      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use core::fmt;
use core::ops::Range;

use secret::SecretBytes;
use zeroize::Zeroize;

use crate::aad::Aad;
use crate::algorithm::{Authentication, Encryption};
use crate::iv;
use crate::provider::{Data, OpenJob, Provider, SealJob};
use crate::suite::{KeyError, KeyParameters, Suite};
use crate::trailer::{TRAILER_LENGTH, padding_for};

/// Bytes of SPI and sequence number.
pub const ESP_HEADER_LENGTH: usize = 8;

/// IV of every combined mode, in bytes.
const COUNTER_IV_LENGTH: usize = 8;

/// What an ESP SA is made from.
#[derive(Clone, Copy, Debug)]
pub struct EspParameters<'a> {
    /// Encryption algorithm.
    pub encryption: Encryption,
    /// Its key: for combined modes the cipher's key, then the 4-byte salt.
    pub encryption_key: &'a SecretBytes,
    /// Bytes of ICV of a combined mode: 16, 12 or 8 for AES-GCM.
    pub icv_length: usize,
    /// Authentication algorithm; `None` beside a combined mode.
    pub authentication: Authentication,
    /// Its key.
    pub authentication_key: &'a SecretBytes,
    /// Whether encryption may go without authentication: the SA's owner has said so, or its packets have AH as well (OV2-COMB-2).
    pub allow_unauthenticated: bool,
    /// Whether sequence numbers have 64 bits (RFC 4304).
    pub extended_sequence_numbers: bool,
    /// XORed with the sequence number to make the IV of a counter mode (OV2-SEND-7). Only sealing uses it.
    pub iv_mask: u64,
}

/// Parameters that make no SA. No key byte is in any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaError {
    /// Encryption alone, and the owner has not said that this is what he wants (OV2-COMB-2).
    #[error("encryption {encryption} without authentication is not allowed for this SA")]
    Unauthenticated {
        /// The encryption algorithm.
        encryption: Encryption,
    },
    /// AES-GMAC with encryption (RFC 4543), or neither encryption nor authentication (RFC 4303 section 1).
    #[error("encryption {encryption} and authentication {authentication} do not go together")]
    Combination {
        /// The encryption algorithm.
        encryption: Encryption,
        /// The authentication algorithm.
        authentication: Authentication,
    },
    /// A combined mode authenticates by itself.
    #[error("encryption algorithm {encryption} authenticates by itself: {authentication} cannot be added")]
    AuthenticatedTwice {
        /// The combined mode.
        encryption: Encryption,
        /// What was to be added.
        authentication: Authentication,
    },
    /// The encryption key is not exactly as long as cipher key and salt.
    #[error("{algorithm} takes a key of {expected} bytes (with {salt} bytes of salt at the end), {found} were given")]
    EncryptionKeyLength {
        /// The algorithm.
        algorithm: Encryption,
        /// Bytes that it takes, salt included.
        expected: usize,
        /// Bytes of salt among them.
        salt: usize,
        /// Bytes given.
        found: usize,
    },
    /// The authentication key is not exactly as long as the algorithm's.
    #[error("authentication algorithm {algorithm} takes a key of {expected} bytes, {found} were given")]
    AuthenticationKeyLength {
        /// The algorithm.
        algorithm: Authentication,
        /// Bytes that it takes.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The combined mode has no ICV of this length.
    #[error("{algorithm} has ICVs of {expected:?} bytes, not of {found}")]
    IcvLength {
        /// The algorithm.
        algorithm: Encryption,
        /// Lengths that it has.
        expected: &'static [usize],
        /// Length asked for.
        found: usize,
    },
    /// The provider did not take the key.
    #[error(transparent)]
    Provider(#[from] KeyError),
}

/// A packet that is not for this SA as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EspError {
    /// Header, IV, trailer and ICV do not fit.
    #[error("ESP packet of {found} bytes is shorter than {minimum}")]
    TooShort {
        /// Bytes that the smallest packet of the SA has.
        minimum: usize,
        /// Bytes there.
        found: usize,
    },
    /// What is to be encrypted, trailer included, does not end at the alignment (RFC 4303 section 2.4).
    #[error("{found} bytes to encrypt are not a multiple of {alignment}")]
    Alignment {
        /// Multiple that it has to be.
        alignment: usize,
        /// Bytes there.
        found: usize,
    },
    /// The sequence number is not the one of which the header carries the low half, or has more than 32 bits without extended sequence
    /// numbers.
    #[error("sequence number {given:#x} does not fit the {header:#010x} of the ESP header")]
    Sequence {
        /// What the header carries.
        header: u32,
        /// The number given.
        given: u64,
    },
}

/// Keys and parameters of one ESP SA, ready for use. It is shared by all lanes and does not change.
///
/// See the crate's documentation for a packet's way through it.
pub struct EspSa<P: Provider> {
    suite: Kind<P>,
    encryption: Encryption,
    extended: bool,
}

/// How an SA protects its packets. Ciphers with separate authentication will be the second kind.
enum Kind<P: Provider> {
    Combined(Combined<P>),
}

/// A combined mode: one AEAD, IVs from a counter.
struct Combined<P: Provider> {
    key: P::Key,
    iv_mask: u64,
    salt: iv::Salt,
    icv_length: u8,
}

impl<P: Provider> EspSa<P> {
    /// Expands the keys.
    ///
    /// # Errors
    /// [`SaError`]: an algorithm that is not available, a key or ICV of the wrong length, algorithms that do not go together.
    pub fn new(provider: &P, parameters: &EspParameters<'_>) -> Result<Self, SaError> {
        let &EspParameters { encryption, authentication, icv_length, .. } = parameters;
        if encryption.is_combined() && authentication != Authentication::None {
            return Err(SaError::AuthenticatedTwice { encryption, authentication });
        }
        if Suite::new(encryption, authentication).is_err() {
            return Err(SaError::Combination { encryption, authentication });
        }
        if authentication == Authentication::None && !encryption.is_combined() && !parameters.allow_unauthenticated {
            return Err(SaError::Unauthenticated { encryption });
        }
        let key = parameters.encryption_key.expose();
        if key.len() != encryption.key_length() {
            let (expected, salt) = (encryption.key_length(), encryption.salt_length());
            return Err(SaError::EncryptionKeyLength { algorithm: encryption, expected, salt, found: key.len() });
        }
        let found = parameters.authentication_key.len();
        if found != authentication.key_length() {
            return Err(SaError::AuthenticationKeyLength { algorithm: authentication, expected: authentication.key_length(), found });
        }
        if !encryption.is_combined() {
            return Err(SaError::Provider(KeyError::Unsupported { provider: provider.name(), encryption, authentication }));
        }
        if !encryption.icv_lengths().contains(&icv_length) {
            return Err(SaError::IcvLength { algorithm: encryption, expected: encryption.icv_lengths(), found: icv_length });
        }
        let Some((cipher_key, &salt)) = key.split_last_chunk() else {
            let (expected, salt) = (encryption.key_length(), encryption.salt_length());
            return Err(SaError::EncryptionKeyLength { algorithm: encryption, expected, salt, found: key.len() });
        };
        let key = provider.key(&KeyParameters::combined(encryption, cipher_key, icv_length))?;
        let suite = Kind::Combined(Combined { key, iv_mask: parameters.iv_mask, salt, icv_length: icv_length as u8 });
        Ok(Self { suite, encryption, extended: parameters.extended_sequence_numbers })
    }

    /// Encryption algorithm.
    pub const fn encryption(&self) -> Encryption {
        self.encryption
    }

    /// Whether sequence numbers are extended: 64 bits.
    pub const fn esn(&self) -> bool {
        self.extended
    }

    /// Bytes of IV after the ESP header.
    #[inline]
    pub const fn iv_length(&self) -> usize {
        match &self.suite {
            Kind::Combined(_) => COUNTER_IV_LENGTH,
        }
    }

    /// Bytes of ICV at the packet's end.
    #[inline]
    pub const fn icv_length(&self) -> usize {
        match &self.suite {
            Kind::Combined(suite) => suite.icv_length as usize,
        }
    }

    /// The multiple of bytes at which the trailer ends.
    #[inline]
    pub const fn alignment(&self) -> usize {
        match &self.suite {
            Kind::Combined(_) => 4,
        }
    }

    /// Bytes before the payload: ESP header and IV.
    #[inline]
    pub const fn prefix_length(&self) -> usize {
        ESP_HEADER_LENGTH + self.iv_length()
    }

    /// Bytes of padding that a payload of this length gets.
    #[inline]
    pub const fn pad_length(&self, payload_length: usize) -> u8 {
        padding_for(payload_length, self.alignment())
    }

    /// Bytes that ESP adds to a payload of this length: header, IV, padding, trailer, ICV.
    #[inline]
    pub const fn overhead(&self, payload_length: usize) -> usize {
        self.prefix_length() + self.pad_length(payload_length) as usize + TRAILER_LENGTH + self.icv_length()
    }

    /// The longest payload whose ESP packet has at most `esp_length` bytes; `None` if not even an empty one fits.
    pub const fn max_payload(&self, esp_length: usize) -> Option<usize> {
        let Some(text) = esp_length.checked_sub(self.prefix_length() + self.icv_length()) else {
            return None;
        };
        (text - text % self.alignment()).checked_sub(TRAILER_LENGTH)
    }

    /// Where in an ESP packet of `esp_length` bytes the encrypted part lies: payload, padding, trailer. After opening,
    /// [`read_trailer`](crate::read_trailer) takes it.
    ///
    /// # Errors
    /// [`EspError::TooShort`] when a packet of this SA is longer.
    #[inline]
    pub const fn text(&self, esp_length: usize) -> Result<Range<usize>, EspError> {
        let (prefix, icv) = (self.prefix_length(), self.icv_length());
        let minimum = prefix + TRAILER_LENGTH + icv;
        if esp_length < minimum {
            return Err(EspError::TooShort { minimum, found: esp_length });
        }
        Ok(prefix..esp_length - icv)
    }

    /// The job that seals `esp`: ESP header with SPI and the low half of `sequence`, room for the IV, payload with padding and trailer,
    /// room for the ICV; all of it and nothing else.
    ///
    /// Writes the IV (OV2-SEND-7); the rest of the packet is the job's until the provider has run. `sequence` must never have been used
    /// before under this key.
    ///
    /// # Errors
    /// [`EspError`] when lengths or sequence number do not fit; nothing has been written then.
    #[inline]
    pub fn seal_job<'a>(&'a self, esp: &'a mut [u8], sequence: u64) -> Result<SealJob<'a, P::Key>, EspError> {
        let Kind::Combined(suite) = &self.suite;
        let Parts { header, iv, text, icv } = suite.split(esp)?;
        if !text.len().is_multiple_of(4) {
            return Err(EspError::Alignment { alignment: 4, found: text.len() });
        }
        let spi = self.check_number(*header, sequence)?;
        *iv = iv::counter(sequence, suite.iv_mask);
        Ok(SealJob::new(&suite.key, iv::nonce(suite.salt, *iv), Aad::esp(spi, sequence, self.extended), Data::InPlace(text), icv))
    }

    /// The job that opens `esp`, from the ESP header to the end of the ICV, in place. The IV is the packet's. `sequence` is the packet's
    /// 64-bit number; without extended sequence numbers the header's.
    ///
    /// The text need not end at the alignment: there are senders that do not pad, and authentication decides.
    ///
    /// # Errors
    /// [`EspError`] when lengths or sequence number do not fit.
    #[inline]
    pub fn open_job<'a>(&'a self, esp: &'a mut [u8], sequence: u64) -> Result<OpenJob<'a, P::Key>, EspError> {
        let Kind::Combined(suite) = &self.suite;
        let Parts { header, iv, text, icv } = suite.split(esp)?;
        let spi = self.check_number(*header, sequence)?;
        Ok(OpenJob::new(&suite.key, iv::nonce(suite.salt, *iv), Aad::esp(spi, sequence, self.extended), Data::InPlace(text), icv))
    }

    /// Checks that `sequence` is the number of which the header carries all or the low half; returns the SPI. (The AAD is made where it is put into a
    /// job: an array that is handed back and copied stalls on its own stores.)
    #[inline]
    fn check_number(&self, header: [u8; ESP_HEADER_LENGTH], sequence: u64) -> Result<[u8; 4], EspError> {
        let [s0, s1, s2, s3, n0, n1, n2, n3] = header;
        let low = u32::from_be_bytes([n0, n1, n2, n3]);
        let carried = if self.extended { u64::from(sequence as u32) } else { sequence };
        if carried != u64::from(low) {
            return Err(EspError::Sequence { header: low, given: sequence });
        }
        Ok([s0, s1, s2, s3])
    }
}

/// A packet of a combined mode, taken apart.
struct Parts<'a> {
    header: &'a mut [u8; ESP_HEADER_LENGTH],
    iv: &'a mut [u8; COUNTER_IV_LENGTH],
    text: &'a mut [u8],
    icv: &'a mut [u8],
}

impl<P: Provider> Combined<P> {
    #[inline]
    fn split<'a>(&self, esp: &'a mut [u8]) -> Result<Parts<'a>, EspError> {
        let found = esp.len();
        let icv_length = self.icv_length as usize;
        let minimum = ESP_HEADER_LENGTH + COUNTER_IV_LENGTH + TRAILER_LENGTH + icv_length;
        let too_short = EspError::TooShort { minimum, found };
        if found < minimum {
            return Err(too_short);
        }
        let (header, rest) = esp.split_first_chunk_mut().ok_or(too_short)?;
        let (iv, rest) = rest.split_first_chunk_mut().ok_or(too_short)?;
        let (text, icv) = rest.split_at_mut_checked(found - ESP_HEADER_LENGTH - COUNTER_IV_LENGTH - icv_length).ok_or(too_short)?;
        Ok(Parts { header, iv, text, icv })
    }
}

impl<P: Provider> Drop for Combined<P> {
    fn drop(&mut self) {
        // The key erases itself.
        self.salt.zeroize();
    }
}

impl<P: Provider> fmt::Debug for EspSa<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EspSa")
            .field("encryption", &self.encryption)
            .field("icv_length", &self.icv_length())
            .field("extended_sequence_numbers", &self.extended)
            .finish_non_exhaustive()
    }
}
