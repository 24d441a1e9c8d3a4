//! The provider that is chosen when the program runs.

use core::fmt;
use core::str::FromStr;

use crate::algorithm::Authentication;
use crate::aws_lc::{AwsLc, AwsLcAuthKey, AwsLcKey};
use crate::provider::{AuthJob, OpenJob, Provider, Scratch, SealJob, Verdict};
use crate::rust_crypto::{RustCrypto, RustCryptoAuthKey, RustCryptoKey};
use crate::suite::{KeyError, KeyParameters};

/// One of the providers, by name. Keys of different ones may be mixed in a batch: each job goes to its key's library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Crypto {
    /// [`AwsLc`].
    #[default]
    AwsLc,
    /// [`RustCrypto`].
    RustCrypto,
}

impl Crypto {
    /// All of them, the default first.
    pub const ALL: [Self; 2] = [Self::AwsLc, Self::RustCrypto];
}

/// A key of [`Crypto`].
pub struct CryptoKey(Key);

enum Key {
    AwsLc(AwsLcKey),
    RustCrypto(RustCryptoKey),
}

/// A key of [`Crypto`] for AH.
pub struct CryptoAuthKey(AuthKey);

enum AuthKey {
    AwsLc(AwsLcAuthKey),
    RustCrypto(RustCryptoAuthKey),
}

impl fmt::Debug for CryptoAuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            AuthKey::AwsLc(key) => key.fmt(f),
            AuthKey::RustCrypto(key) => key.fmt(f),
        }
    }
}

impl fmt::Debug for CryptoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Key::AwsLc(key) => key.fmt(f),
            Key::RustCrypto(key) => key.fmt(f),
        }
    }
}

impl Provider for Crypto {
    type Key = CryptoKey;
    type AuthKey = CryptoAuthKey;

    fn name(&self) -> &'static str {
        match self {
            Self::AwsLc => AwsLc::NAME,
            Self::RustCrypto => RustCrypto::NAME,
        }
    }

    fn key(&self, parameters: &KeyParameters<'_>) -> Result<Self::Key, KeyError> {
        match self {
            Self::AwsLc => AwsLcKey::new(parameters).map(Key::AwsLc),
            Self::RustCrypto => RustCryptoKey::new(parameters).map(Key::RustCrypto),
        }
        .map(CryptoKey)
    }

    fn auth_key(&self, algorithm: Authentication, key: &[u8]) -> Result<Self::AuthKey, KeyError> {
        match self {
            Self::AwsLc => AwsLcAuthKey::new(algorithm, key).map(AuthKey::AwsLc),
            Self::RustCrypto => RustCryptoAuthKey::new(algorithm, key).map(AuthKey::RustCrypto),
        }
        .map(CryptoAuthKey)
    }

    // Both libraries take one packet at a time, so a branch per job, always the same way in practice, is all that the choice
    // costs; sorting the jobs into batches per library would cost more.
    fn seal(&self, jobs: &mut [SealJob<'_, Self::Key>]) {
        for job in jobs {
            let success = match &job.key.0 {
                Key::AwsLc(key) => key.seal(&job.nonce, &job.aad, &mut job.data, job.tag),
                Key::RustCrypto(key) => key.seal(&job.nonce, &job.aad, &mut job.data, job.tag),
            };
            job.conclude(success);
        }
    }

    fn open(&self, jobs: &mut [OpenJob<'_, Self::Key>], scratch: &mut Scratch) {
        for job in jobs {
            job.verdict = Verdict::from_success(match &job.key.0 {
                Key::AwsLc(key) => key.open(&job.nonce, &job.aad, &mut job.data, job.tag, scratch),
                Key::RustCrypto(key) => key.open(&job.nonce, &job.aad, &mut job.data, job.tag),
            });
        }
    }

    fn authenticate(&self, jobs: &mut [AuthJob<'_, Self::AuthKey>]) {
        for job in jobs {
            job.icv = match &job.key.0 {
                AuthKey::AwsLc(key) => key.icv(&job.nonce, job.parts),
                AuthKey::RustCrypto(key) => key.icv(&job.nonce, job.parts),
            };
        }
    }
}

/// A name that is no provider's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown crypto provider {found:?}: expected {} or {}", AwsLc::NAME, RustCrypto::NAME)]
pub struct UnknownProvider {
    /// The name given.
    pub found: String,
}

impl FromStr for Crypto {
    type Err = UnknownProvider;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|provider| provider.name() == name).ok_or_else(|| UnknownProvider { found: name.to_owned() })
    }
}

impl fmt::Display for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_chosen_by_name() {
        assert_eq!(Crypto::default().to_string(), "aws-lc");
        for provider in Crypto::ALL {
            assert_eq!(provider.to_string().parse::<Crypto>().unwrap(), provider);
        }
        let error = "openssl".parse::<Crypto>().unwrap_err().to_string();
        assert_eq!(error, "unknown crypto provider \"openssl\": expected aws-lc or rustcrypto");
    }
}
