//! What a provider makes keys for: suites of algorithms, and the checks that all providers share.

use core::fmt;

use crate::algorithm::{Authentication, Encryption};

/// What [`Provider::key`](crate::Provider::key) makes a key from. Keys are without their salts.
///
/// An ESP SA's suite is one of
/// - a combined mode alone: [`KeyParameters::combined`];
/// - a cipher, null included, with separate authentication, HMAC or none: encrypted, then authenticated;
/// - null encryption with AES-GMAC (RFC 4543).
///
/// Whether a suite without authentication may be used is not the provider's question (OV2-COMB-2).
#[derive(Clone, Copy)]
pub struct KeyParameters<'a> {
    /// Encryption algorithm.
    pub encryption: Encryption,
    /// The cipher's own key.
    pub encryption_key: &'a [u8],
    /// Authentication algorithm; `None` beside a combined mode, or for encryption only.
    pub authentication: Authentication,
    /// Its key.
    pub authentication_key: &'a [u8],
    /// Bytes of ICV: one of [`Suite::icv_lengths`].
    pub icv_length: usize,
}

impl<'a> KeyParameters<'a> {
    /// Those of a combined mode.
    pub const fn combined(encryption: Encryption, key: &'a [u8], icv_length: usize) -> Self {
        Self { encryption, encryption_key: key, authentication: Authentication::None, authentication_key: &[], icv_length }
    }

    /// Those of a cipher, null included, with separate authentication; the ICV is as long as the algorithm's.
    pub const fn separate(encryption: Encryption, encryption_key: &'a [u8], authentication: Authentication, authentication_key: &'a [u8]) -> Self {
        Self { encryption, encryption_key, authentication, authentication_key, icv_length: authentication.icv_length() }
    }

    /// The algorithms, if they go together and every length is right.
    ///
    /// # Errors
    /// The first thing that is wrong, with what was expected.
    pub fn check(&self) -> Result<Suite, KeyError> {
        let suite = Suite::new(self.encryption, self.authentication)?;
        let (expected, found) = (self.encryption.cipher_key_length(), self.encryption_key.len());
        if found != expected {
            return Err(KeyError::EncryptionKeyLength { algorithm: self.encryption, expected, found });
        }
        if self.encryption == Encryption::TripleDesCbc && is_degenerate(self.encryption_key) {
            return Err(KeyError::Degenerate { algorithm: self.encryption });
        }
        check_authentication_key(self.authentication, self.authentication_key)?;
        if !suite.icv_lengths().contains(&self.icv_length) {
            return Err(KeyError::IcvLength { suite, expected: suite.icv_lengths(), found: self.icv_length });
        }
        Ok(suite)
    }
}

impl fmt::Debug for KeyParameters<'_> {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyParameters")
            .field("encryption", &self.encryption)
            .field("authentication", &self.authentication)
            .field("icv_length", &self.icv_length)
            .finish_non_exhaustive()
    }
}

/// Checks what is given to [`Provider::auth_key`](crate::Provider::auth_key).
///
/// # Errors
/// No algorithm, or a key of another length than the algorithm's (without salt).
pub(crate) fn check_auth_key(algorithm: Authentication, key: &[u8]) -> Result<(), KeyError> {
    if algorithm == Authentication::None {
        return Err(KeyError::NoAuthentication);
    }
    check_authentication_key(algorithm, key)
}

/// Whether a key of 3DES makes it DES: two neighbouring ones of its three keys are equal, parity bits aside (RFC 2451 section 2.3).
fn is_degenerate(key: &[u8]) -> bool {
    const KEY: usize = 8;
    let same = |first: &[u8], second: &[u8]| first.iter().zip(second).fold(0, |difference, (a, b)| difference | (a ^ b) & 0xfe) == 0;
    match (key.get(..KEY), key.get(KEY..2 * KEY), key.get(2 * KEY..3 * KEY)) {
        (Some(first), Some(second), Some(third)) => same(first, second) | same(second, third),
        _ => false,
    }
}

fn check_authentication_key(algorithm: Authentication, key: &[u8]) -> Result<(), KeyError> {
    let (expected, found) = (algorithm.mac_key_length(), key.len());
    if found == expected { Ok(()) } else { Err(KeyError::AuthenticationKeyLength { algorithm, expected, found }) }
}

/// Algorithms that protect a packet together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Suite {
    encryption: Encryption,
    authentication: Authentication,
}

impl Suite {
    /// The two, if they go together (RFC 4543, RFC 8221 section 4).
    ///
    /// # Errors
    /// [`KeyError::Combination`]: a combined mode with separate authentication, or AES-GMAC with encryption.
    pub fn new(encryption: Encryption, authentication: Authentication) -> Result<Self, KeyError> {
        let fits = match authentication {
            Authentication::None => true,
            Authentication::AesGmac(_) => encryption == Encryption::Null,
            _ => !encryption.is_combined(),
        };
        if fits { Ok(Self { encryption, authentication }) } else { Err(KeyError::Combination { encryption, authentication }) }
    }

    /// All 43: four combined modes, six ciphers (null included) with five HMACs or without authentication, and AES-GMAC with three key lengths.
    pub fn all() -> impl Iterator<Item = Self> {
        Encryption::ALL
            .into_iter()
            .flat_map(|encryption| Authentication::ALL.into_iter().filter_map(move |authentication| Self::new(encryption, authentication).ok()))
    }

    /// Encryption algorithm.
    pub const fn encryption(self) -> Encryption {
        self.encryption
    }

    /// Authentication algorithm.
    pub const fn authentication(self) -> Authentication {
        self.authentication
    }

    /// Whether its packets are authenticated.
    pub const fn is_authenticated(self) -> bool {
        self.encryption.is_combined() || !matches!(self.authentication, Authentication::None)
    }

    /// ICV lengths in bytes, the usual one first. Every truncation has a name of its own; none is read as another.
    pub const fn icv_lengths(self) -> &'static [usize] {
        if self.encryption.is_combined() { self.encryption.icv_lengths() } else { self.authentication.icv_lengths() }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.encryption, self.authentication) {
            (encryption, Authentication::None) => encryption.fmt(f),
            (encryption, authentication) => write!(f, "{encryption} with {authentication}"),
        }
    }
}

/// A key that a provider did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The two do not go together: a combined mode with separate authentication, or AES-GMAC with encryption.
    #[error("encryption {encryption} and authentication {authentication} do not go together")]
    Combination {
        /// Encryption algorithm.
        encryption: Encryption,
        /// Authentication algorithm.
        authentication: Authentication,
    },
    /// A key for authentication only, but no algorithm for it.
    #[error("there is no authentication algorithm to have a key for")]
    NoAuthentication,
    /// A 3DES key that makes it DES (RFC 2451 section 2.3): its first and second, or second and third, 8 bytes are the same.
    #[error("two neighbouring thirds of a key for {algorithm} are equal, which makes it DES")]
    Degenerate {
        /// The algorithm.
        algorithm: Encryption,
    },
    /// The cipher's key has not its length.
    #[error("{algorithm} takes a key of {expected} bytes, {found} were given")]
    EncryptionKeyLength {
        /// The algorithm.
        algorithm: Encryption,
        /// Bytes that it takes, without salt.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The authentication key has not its length.
    #[error("{algorithm} takes a key of {expected} bytes, {found} were given")]
    AuthenticationKeyLength {
        /// The algorithm.
        algorithm: Authentication,
        /// Bytes that it takes, without salt.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The suite has no such ICV in IPsec.
    #[error("{suite} makes ICVs of {expected:?} bytes, not of {found}")]
    IcvLength {
        /// The suite.
        suite: Suite,
        /// Lengths that there are.
        expected: &'static [usize],
        /// Length asked for.
        found: usize,
    },
    /// The provider cannot do this.
    #[error("provider {provider} cannot do encryption {encryption} with authentication {authentication}")]
    Unsupported {
        /// Name of the provider.
        provider: &'static str,
        /// Encryption algorithm; null for AH.
        encryption: Encryption,
        /// Authentication algorithm.
        authentication: Authentication,
    },
    /// The library failed, for a reason that it does not tell (memory, usually).
    #[error("{provider} failed to set up a key for encryption {encryption} with authentication {authentication}")]
    Library {
        /// Name of the provider.
        provider: &'static str,
        /// Encryption algorithm; null for AH.
        encryption: Encryption,
        /// Authentication algorithm.
        authentication: Authentication,
    },
}
