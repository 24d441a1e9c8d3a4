//! Suites by name, and keys for them.

use ipsec::{AesKeySize, Authentication, Crypto, Encryption, EspParameters, EspSa, SaError, Suite};
use secret::SecretBytes;

/// A name that is no suite's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown suite {found:?}: expected one of {}", .allowed.join(", "))]
pub struct UnknownSuite {
    /// The name given.
    pub found: String,
    /// The names there are.
    pub allowed: Vec<String>,
}

/// The suites that are measured when all is: those that matter today, the usual one first.
pub const SUITES: [&str; 6] = ["aes-gcm-128", "aes-gcm-256", "aes-gmac-128", "chacha20-poly1305", "aes-cbc-128+hmac-sha1-96", "aes-cbc-128+hmac-sha-256-128"];

/// Name of a suite: of a combined mode, of AES-GMAC with null encryption, or of a cipher and an HMAC with `+` between them, each as SA files have it.
///
/// ```
/// let suite = ipsecov2::bench::suite("aes-cbc-128+hmac-sha1-96")?;
/// assert_eq!(ipsecov2::bench::suite_name(suite), "aes-cbc-128+hmac-sha1-96");
/// # Ok::<(), ipsecov2::bench::UnknownSuite>(())
/// ```
pub fn suite_name(suite: Suite) -> String {
    match (suite.encryption(), suite.authentication()) {
        (encryption, Authentication::None) => encryption.to_string(),
        (_, authentication @ Authentication::AesGmac(_)) => authentication.to_string(),
        (encryption, authentication) => format!("{encryption}+{authentication}"),
    }
}

/// The suite of a name. Suites without authentication have none.
///
/// # Errors
/// [`UnknownSuite`].
pub fn suite(name: &str) -> Result<Suite, UnknownSuite> {
    suites().find(|&suite| suite_name(suite) == name).ok_or_else(|| UnknownSuite { found: name.to_owned(), allowed: suites().map(suite_name).collect() })
}

fn suites() -> impl Iterator<Item = Suite> {
    Suite::all().filter(|suite| suite.is_authenticated())
}

/// The keys of SA `number` under a suite, each different from all others.
pub(super) struct Keys {
    pub(super) encryption: SecretBytes,
    pub(super) authentication: SecretBytes,
}

impl Keys {
    pub(super) fn new(suite: Suite, number: u32) -> Self {
        let mut state = u64::from(number) + 1;
        let mut take = |length: usize| -> SecretBytes { (0..length).map(|_| (next(&mut state) >> 32) as u8).collect::<Vec<_>>().into() };
        Self { encryption: take(suite.encryption().key_length()), authentication: take(suite.authentication().key_length()) }
    }
}

/// Bytes of a suite's ICV, at its usual length.
pub(super) fn icv_length(suite: Suite) -> usize {
    suite.icv_lengths().first().copied().unwrap_or_default()
}

/// SA `number` of a suite.
pub(super) fn esp_sa(crypto: Crypto, suite: Suite, number: u32) -> Result<EspSa<Crypto>, SaError> {
    let keys = Keys::new(suite, number);
    let parameters = EspParameters {
        encryption: suite.encryption(),
        encryption_key: &keys.encryption,
        icv_length: icv_length(suite),
        authentication: suite.authentication(),
        authentication_key: &keys.authentication,
        allow_unauthenticated: false,
        extended_sequence_numbers: false,
        iv_mask: 0,
    };
    EspSa::new(&crypto, &parameters)
}

/// The next number of a sequence that looks random (xorshift64*; Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled").
pub(super) const fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// The contract's name of an encryption algorithm.
pub(super) const fn contract_encryption(encryption: Encryption) -> ndis::EncryptionAlgorithm {
    use ndis::EncryptionAlgorithm as Contract;
    match encryption {
        Encryption::Null => Contract::Null,
        Encryption::DesCbc => Contract::DesCbc,
        Encryption::TripleDesCbc => Contract::TripleDesCbc,
        Encryption::AesCbc(size) => Contract::AesCbc(contract_size(size)),
        Encryption::AesGcm(size) => Contract::AesGcm(contract_size(size)),
        Encryption::ChaCha20Poly1305 => Contract::ChaCha20Poly1305,
    }
}

/// The contract's name of an authentication algorithm; `None` where there is none.
pub(super) const fn contract_authentication(authentication: Authentication) -> Option<ndis::AuthenticationAlgorithm> {
    use ndis::AuthenticationAlgorithm as Contract;
    Some(match authentication {
        Authentication::None => return None,
        Authentication::HmacMd5 => Contract::HmacMd5,
        Authentication::HmacSha1 => Contract::HmacSha1,
        Authentication::HmacSha256 => Contract::HmacSha256,
        Authentication::HmacSha384 => Contract::HmacSha384,
        Authentication::HmacSha512 => Contract::HmacSha512,
        Authentication::AesGmac(size) => Contract::AesGmac(contract_size(size)),
    })
}

const fn contract_size(size: AesKeySize) -> ndis::AesKeySize {
    match size {
        AesKeySize::Aes128 => ndis::AesKeySize::Aes128,
        AesKeySize::Aes192 => ndis::AesKeySize::Aes192,
        AesKeySize::Aes256 => ndis::AesKeySize::Aes256,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_authenticated_suite_has_a_name_of_its_own_and_an_sa() {
        let mut names = HashSet::new();
        for suite in suites() {
            let name = suite_name(suite);
            assert_eq!(super::suite(&name).unwrap(), suite);
            esp_sa(Crypto::default(), suite, 7).unwrap();
            assert!(names.insert(name));
        }
        assert_eq!(names.len(), 37);
        for name in SUITES {
            assert!(names.contains(name), "{name}");
        }
    }

    #[test]
    fn other_names_are_refused_with_those_there_are() {
        for name in ["", "aes-gcm", "aes-cbc-128", "null", "aes-gcm-128+hmac-sha1-96", "null+aes-gmac-128"] {
            let error = suite(name).unwrap_err().to_string();
            assert!(error.starts_with(&format!("unknown suite {name:?}: expected one of null+hmac-md5-96, ")) && error.contains("aes-gcm-128"), "{error}");
        }
    }

    #[test]
    fn no_two_sas_have_the_same_key() {
        let suite = suite("aes-cbc-128+hmac-sha1-96").unwrap();
        let keys: HashSet<Vec<u8>> = (0..1000).map(|number| Keys::new(suite, number).encryption.expose().to_vec()).collect();
        assert_eq!(keys.len(), 1000);
    }
}
