//! The cryptographic half of an ESP SA (RFC 4303; RFC 4106, RFC 4543, RFC 7634, RFC 2451): from the bytes of an ESP packet to a job for a provider.
//!
//! NIC and software path use the same code, so they make the same bytes of the same packet and sequence number.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ---
//! |               security parameters index (SPI)                 |  authenticated (combined modes and AES-GMAC: with
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+  the high half of the sequence number between the
//! |                  sequence number, low half                    |  two, with ESN)
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ---
//! | IV: 8 bytes; 16 with AES-CBC; none with null encryption, unless AES-GMAC authenticates. Authenticated except in combined modes
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ---
//! |          payload, padding, pad length, next header            |  encrypted and authenticated
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ---
//! |           (high half of the sequence number, with ESN and HMAC: authenticated, not sent)
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ---
//! | ICV: 8 to 32 bytes, none without authentication
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use core::fmt;
use core::ops::Range;

use secret::SecretBytes;
use zeroize::Zeroize;

use crate::aad::{NonceRegister, Register};
use crate::algorithm::{Authentication, Encryption};
use crate::iv;
use crate::provider::{Data, OpenJob, Provider, SealJob};
use crate::suite::{KeyError, KeyParameters, Suite};
use crate::trailer::{TRAILER_LENGTH, padding_for};

/// Bytes of SPI and sequence number.
pub const ESP_HEADER_LENGTH: usize = 8;

/// IV of every combined mode and of AES-GMAC, in bytes.
const COUNTER_IV_LENGTH: usize = 8;

/// Bytes of ESP header and IV of a combined mode.
pub(crate) const COMBINED_PREFIX: usize = ESP_HEADER_LENGTH + COUNTER_IV_LENGTH;

/// What an ESP SA is made from.
#[derive(Clone, Copy, Debug)]
pub struct EspParameters<'a> {
    /// Encryption algorithm.
    pub encryption: Encryption,
    /// Its key: for combined modes the cipher's key, then the 4-byte salt.
    pub encryption_key: &'a SecretBytes,
    /// Bytes of ICV of a combined mode: 16, 12 or 8 for AES-GCM. Of no meaning for the others, whose authentication algorithm says it.
    pub icv_length: usize,
    /// Authentication algorithm; `None` beside a combined mode. AES-GMAC goes with null encryption only.
    pub authentication: Authentication,
    /// Its key: for AES-GMAC the cipher's key, then the 4-byte salt.
    pub authentication_key: &'a SecretBytes,
    /// Whether encryption may go without authentication: the SA's owner has said so, or its packets have AH as well (OV2-COMB-2).
    pub allow_unauthenticated: bool,
    /// Whether sequence numbers have 64 bits (RFC 4304).
    pub extended_sequence_numbers: bool,
    /// XORed with the sequence number to make the IV (OV2-SEND-7): that of a counter mode, or what CBC's is computed from. Only sealing uses it.
    pub iv_mask: u64,
}

/// Parameters that make no SA. No key byte is in any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaError {
    /// No authentication, and the owner has not said that this is what he wants (OV2-COMB-2).
    #[error("encryption {encryption} without authentication is not allowed for this SA")]
    Unauthenticated {
        /// The encryption algorithm.
        encryption: Encryption,
    },
    /// AES-GMAC with encryption (RFC 4543).
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
    /// A 3DES key that makes it DES (RFC 2451 section 2.3).
    #[error("two neighbouring thirds of the key for {algorithm} are equal, which makes it DES")]
    DegenerateKey {
        /// The algorithm.
        algorithm: Encryption,
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
    /// What is to be encrypted, trailer included, does not end at the alignment (RFC 4303 section 2.4); or what arrived is not whole blocks.
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
// On a cache line of its own, or as few as the provider's key allows.
#[repr(align(64))]
pub struct EspSa<P: Provider> {
    kind: Kind<P>,
    suite: Suite,
    extended: bool,
}

/// How an SA makes nonces and what it authenticates.
enum Kind<P: Provider> {
    /// A combined mode.
    Combined(Counter<P::Key>),
    /// Null encryption with AES-GMAC.
    Gmac(Counter<P::Key>),
    /// A cipher, or none, with separate authentication, or none.
    Separate(Separate<P>),
}

/// Nonces from a salt and an IV that counts. What every packet needs stands before the key, which may be large.
#[repr(C)]
pub(crate) struct Counter<K> {
    pub(crate) iv_mask: u64,
    pub(crate) salt: iv::Salt,
    pub(crate) icv_length: u8,
    /// Whether sequence numbers are extended.
    pub(crate) extended: bool,
    pub(crate) key: K,
}

/// IVs of CBC.
struct Separate<P: Provider> {
    key: P::Key,
    iv_mask: u64,
    /// None with null encryption.
    ivs: Option<iv::CbcIvs>,
    icv_length: u8,
}

impl<P: Provider> EspSa<P> {
    /// Expands the keys.
    ///
    /// # Errors
    /// [`SaError`]: a key or ICV of the wrong length, algorithms that do not go together, no authentication where it is not allowed, or a provider that
    /// cannot do it.
    pub fn new(provider: &P, parameters: &EspParameters<'_>) -> Result<Self, SaError> {
        let &EspParameters { encryption, authentication, iv_mask, .. } = parameters;
        if encryption.is_combined() && authentication != Authentication::None {
            return Err(SaError::AuthenticatedTwice { encryption, authentication });
        }
        let suite = Suite::new(encryption, authentication).map_err(|_| SaError::Combination { encryption, authentication })?;
        if !suite.is_authenticated() && !parameters.allow_unauthenticated {
            return Err(SaError::Unauthenticated { encryption });
        }
        let (encryption_key, encryption_salt) = encryption_key(encryption, parameters.encryption_key.expose())?;
        let (authentication_key, authentication_salt) = authentication_key(authentication, parameters.authentication_key.expose())?;
        let expected = suite.icv_lengths();
        let icv_length = if encryption.is_combined() { parameters.icv_length } else { authentication.icv_length() };
        if !expected.contains(&icv_length) {
            return Err(SaError::IcvLength { algorithm: encryption, expected, found: icv_length });
        }
        let key = provider.key(&KeyParameters { encryption, encryption_key, authentication, authentication_key, icv_length }).map_err(|error| match error {
            KeyError::Degenerate { algorithm } => SaError::DegenerateKey { algorithm },
            error => SaError::Provider(error),
        })?;
        let (icv_length, extended) = (icv_length as u8, parameters.extended_sequence_numbers);
        let kind = match (encryption_salt, authentication_salt) {
            (Some(salt), _) => Kind::Combined(Counter { iv_mask, salt, icv_length, extended, key }),
            (None, Some(salt)) => Kind::Gmac(Counter { iv_mask, salt, icv_length, extended, key }),
            (None, None) => {
                let ivs = (encryption != Encryption::Null).then(|| iv::CbcIvs::new(encryption_key));
                Kind::Separate(Separate { key, iv_mask, ivs, icv_length })
            }
        };
        Ok(Self { kind, suite, extended })
    }

    /// Encryption algorithm.
    pub const fn encryption(&self) -> Encryption {
        self.suite.encryption()
    }

    /// Authentication algorithm; `None` with a combined mode, or where encryption stands alone.
    pub const fn authentication(&self) -> Authentication {
        self.suite.authentication()
    }

    /// Whether sequence numbers are extended: 64 bits.
    pub const fn esn(&self) -> bool {
        self.extended
    }

    /// Bytes of IV after the ESP header.
    #[inline]
    pub const fn iv_length(&self) -> usize {
        match &self.kind {
            Kind::Combined(_) | Kind::Gmac(_) => COUNTER_IV_LENGTH,
            Kind::Separate(_) => self.suite.encryption().iv_length(),
        }
    }

    /// Bytes of ICV at the packet's end.
    #[inline]
    pub const fn icv_length(&self) -> usize {
        match &self.kind {
            Kind::Combined(sa) | Kind::Gmac(sa) => sa.icv_length as usize,
            Kind::Separate(sa) => sa.icv_length as usize,
        }
    }

    /// The multiple of bytes at which the trailer ends: 4, or the cipher's block.
    #[inline]
    pub const fn alignment(&self) -> usize {
        match &self.kind {
            Kind::Combined(_) | Kind::Gmac(_) => 4,
            Kind::Separate(_) => self.suite.encryption().alignment(),
        }
    }

    /// Bytes of payload and trailer that a packet has at least.
    #[inline]
    const fn least_text(&self) -> usize {
        match &self.kind {
            Kind::Combined(_) | Kind::Gmac(_) => TRAILER_LENGTH,
            Kind::Separate(_) => {
                let block = self.suite.encryption().block_length();
                if block < TRAILER_LENGTH { TRAILER_LENGTH } else { block }
            }
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
        let minimum = prefix + self.least_text() + icv;
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
        let Made { key, nonce, aad, text, icv } = match &self.kind {
            Kind::Combined(sa) => {
                let Parts { header, iv, text, icv } = sa.split(esp)?;
                if !text.len().is_multiple_of(4) {
                    return Err(EspError::Alignment { alignment: 4, found: text.len() });
                }
                let spi = self.check_number(*header, sequence)?;
                *iv = iv::counter(sequence, sa.iv_mask);
                Made { key: &sa.key, nonce: NonceRegister::salted(sa.salt, *iv), aad: Register::esp(spi, sequence, self.extended), text, icv }
            }
            _ => self.make_of_two(esp, sequence, true)?,
        };
        Ok(SealJob::new(key, nonce, aad.aad(), Data::InPlace(text), icv))
    }

    /// The job that opens `esp`, from the ESP header to the end of the ICV, in place. The IV is the packet's. `sequence` is the packet's
    /// 64-bit number; without extended sequence numbers the header's.
    ///
    /// The text need not end at a multiple of 4: there are senders that do not pad, and authentication decides. What is not whole blocks of the cipher
    /// cannot be opened.
    ///
    /// # Errors
    /// [`EspError`] when lengths or sequence number do not fit.
    #[inline]
    pub fn open_job<'a>(&'a self, esp: &'a mut [u8], sequence: u64) -> Result<OpenJob<'a, P::Key>, EspError> {
        let Made { key, nonce, aad, text, icv } = match &self.kind {
            Kind::Combined(sa) => {
                let Parts { header, iv, text, icv } = sa.split(esp)?;
                let spi = self.check_number(*header, sequence)?;
                Made { key: &sa.key, nonce: NonceRegister::salted(sa.salt, *iv), aad: Register::esp(spi, sequence, self.extended), text, icv }
            }
            _ => self.make_of_two(esp, sequence, false)?,
        };
        Ok(OpenJob::new(key, nonce, aad.aad(), Data::InPlace(text), icv))
    }

    /// What packets are done with, if the SA has a combined mode.
    #[inline(always)]
    pub(crate) const fn combined(&self) -> Option<&Counter<P::Key>> {
        if let Kind::Combined(sa) = &self.kind { Some(sa) } else { None }
    }

    /// What [`EspSa::seal_job`] and [`EspSa::open_job`] do where encryption and authentication are two algorithms. Only for sealing is an IV written, and the
    /// text held to what a sender has to keep.
    fn make_of_two<'a>(&'a self, esp: &'a mut [u8], sequence: u64, sealing: bool) -> Result<Made<'a, P>, EspError> {
        let (alignment, block) = (self.alignment(), self.encryption().block_length());
        let alignment = if sealing { alignment } else { block };
        let aligned = |text: &[u8]| if text.len().is_multiple_of(alignment) { Ok(()) } else { Err(EspError::Alignment { alignment, found: text.len() }) };
        match &self.kind {
            Kind::Combined(sa) | Kind::Gmac(sa) => {
                let Parts { header, iv, text, icv } = sa.split(esp)?;
                aligned(text)?;
                let spi = self.check_number(*header, sequence)?;
                if sealing {
                    *iv = iv::counter(sequence, sa.iv_mask);
                }
                let aad = Register::gmac(spi, sequence, self.extended, *iv);
                Ok(Made { key: &sa.key, nonce: NonceRegister::salted(sa.salt, *iv), aad, text, icv })
            }
            Kind::Separate(sa) => {
                let (header, iv, text, icv) = self.split(esp)?;
                aligned(text)?;
                self.check_number(*header, sequence)?;
                if let (true, Some(ivs)) = (sealing, &sa.ivs) {
                    for (byte, made) in iv.iter_mut().zip(ivs.iv(sequence, sa.iv_mask)) {
                        *byte = made;
                    }
                }
                let aad = Register::encrypt_then_mac(*header, iv, self.high(sequence));
                Ok(Made { key: &sa.key, nonce: NonceRegister::iv(iv), aad, text, icv })
            }
        }
    }

    /// The half of the number that is authenticated and not sent.
    #[inline]
    const fn high(&self, sequence: u64) -> Option<u32> {
        if self.extended { Some((sequence >> 32) as u32) } else { None }
    }

    /// Header, IV, text and ICV of a packet.
    #[inline]
    fn split<'a>(&self, esp: &'a mut [u8]) -> Result<Split<'a>, EspError> {
        let found = esp.len();
        let (iv_length, icv_length) = (self.iv_length(), self.icv_length());
        let minimum = ESP_HEADER_LENGTH + iv_length + self.least_text() + icv_length;
        let too_short = EspError::TooShort { minimum, found };
        if found < minimum {
            return Err(too_short);
        }
        let (header, rest) = esp.split_first_chunk_mut().ok_or(too_short)?;
        let (iv, rest) = rest.split_at_mut_checked(iv_length).ok_or(too_short)?;
        let (text, icv) = rest.split_at_mut_checked(found - ESP_HEADER_LENGTH - iv_length - icv_length).ok_or(too_short)?;
        Ok((header, iv, text, icv))
    }

    /// Checks that `sequence` is the number of which the header carries all or the low half; returns the SPI.
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

/// Header, IV, text and ICV.
type Split<'a> = (&'a mut [u8; ESP_HEADER_LENGTH], &'a mut [u8], &'a mut [u8], &'a mut [u8]);

/// The cipher's own key, and the salt that a combined mode has after it.
fn encryption_key(algorithm: Encryption, key: &[u8]) -> Result<(&[u8], Option<iv::Salt>), SaError> {
    let (expected, salt) = (algorithm.key_length(), algorithm.salt_length());
    split_salt(key, expected, salt).ok_or(SaError::EncryptionKeyLength { algorithm, expected, salt, found: key.len() })
}

/// The authentication algorithm's own key, and AES-GMAC's salt.
fn authentication_key(algorithm: Authentication, key: &[u8]) -> Result<(&[u8], Option<iv::Salt>), SaError> {
    let (expected, salt) = (algorithm.key_length(), algorithm.salt_length());
    split_salt(key, expected, salt).ok_or(SaError::AuthenticationKeyLength { algorithm, expected, found: key.len() })
}

/// Key and salt, if they are as long together as they should be.
fn split_salt(key: &[u8], expected: usize, salt: usize) -> Option<(&[u8], Option<iv::Salt>)> {
    if key.len() != expected {
        return None;
    }
    if salt == 0 { Some((key, None)) } else { key.split_last_chunk().map(|(key, &salt)| (key, Some(salt))) }
}

/// What a job is made from.
struct Made<'a, P: Provider> {
    key: &'a P::Key,
    nonce: NonceRegister,
    aad: Register,
    text: &'a mut [u8],
    icv: &'a mut [u8],
}

/// A packet with a counter's IV, taken apart.
struct Parts<'a> {
    header: &'a mut [u8; ESP_HEADER_LENGTH],
    iv: &'a mut [u8; COUNTER_IV_LENGTH],
    text: &'a mut [u8],
    icv: &'a mut [u8],
}

impl<K> Counter<K> {
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

impl<K> Drop for Counter<K> {
    fn drop(&mut self) {
        // The key erases itself.
        self.salt.zeroize();
    }
}

impl<P: Provider> fmt::Debug for EspSa<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EspSa")
            .field("encryption", &self.encryption())
            .field("authentication", &self.authentication())
            .field("icv_length", &self.icv_length())
            .field("extended_sequence_numbers", &self.extended)
            .finish_non_exhaustive()
    }
}
