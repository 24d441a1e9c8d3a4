//! The provider that is chosen when the program runs.

use core::fmt;
use core::str::FromStr;

use mbcrypto::Path;

use crate::aad::{Aad, Nonce};
use crate::algorithm::Authentication;
use crate::aws_lc::{AwsLc, AwsLcAuthKey, AwsLcKey};
use crate::combined::{self, CombinedJob};
use crate::mb::{MbCrypto, MbCryptoAuthKey, MbCryptoKey, MixedAuthKey, MixedKey, authenticate_singly, open_singly, seal_singly};
use crate::provider::{AuthJob, Data, Icv, OpenJob, Provider, Scratch, SealJob};
use crate::rust_crypto::{RustCrypto, RustCryptoAuthKey, RustCryptoKey};
use crate::suite::{KeyError, KeyParameters};

/// One of the providers, by name. Keys of different ones may be mixed in a batch: each job goes to its key's library.
///
/// | name | provider |
/// | --- | --- |
/// | `mbcrypto` | [`MbCrypto`] with the fastest instructions of the processor |
/// | `mbcrypto:avx512`, `mbcrypto:avx2`, `mbcrypto:aes-ni`, `mbcrypto:portable` | the same with others, for tests and diagnosis |
/// | `aws-lc` | [`AwsLc`] |
/// | `rustcrypto` | [`RustCrypto`] |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Crypto {
    /// [`MbCrypto`].
    MbCrypto(MbCrypto),
    /// [`AwsLc`].
    AwsLc,
    /// [`RustCrypto`].
    RustCrypto,
}

impl Crypto {
    /// All of them, each as it works best here.
    pub fn all() -> [Self; 3] {
        [Self::MbCrypto(MbCrypto::best()), Self::AwsLc, Self::RustCrypto]
    }

    /// All of them, and of [`MbCrypto`] every path that the processor has, the fastest first.
    pub fn with_paths() -> impl Iterator<Item = Self> {
        let [_, others @ ..] = Self::all();
        Path::ALL.into_iter().filter_map(MbCrypto::new).map(Self::MbCrypto).chain(others)
    }

    /// Every name that is one here: those of [`Crypto::all`], and of `mbcrypto` with each path that the processor has.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let [best, others @ ..] = Self::all();
        let paths = Path::ALL.into_iter().filter(|&path| MbCrypto::new(path).is_some()).map(MbCrypto::name_with);
        [best.name()].into_iter().chain(paths).chain(others.map(|provider| provider.name()))
    }

    /// The instructions that [`MbCrypto`] works with; `None` of the others, which choose by themselves.
    pub const fn path(self) -> Option<Path> {
        match self {
            Self::MbCrypto(provider) => Some(provider.path()),
            Self::AwsLc | Self::RustCrypto => None,
        }
    }
}

/// [`MbCrypto`] where the processor has instructions for it, otherwise [`AwsLc`].
impl Default for Crypto {
    fn default() -> Self {
        let best = MbCrypto::best();
        if best.path() == Path::Portable { Self::AwsLc } else { Self::MbCrypto(best) }
    }
}

/// A key of [`Crypto`].
pub struct CryptoKey(Key);

enum Key {
    MbCrypto(MbCryptoKey),
    AwsLc(AwsLcKey),
    RustCrypto(RustCryptoKey),
}

impl MixedKey for CryptoKey {
    #[inline]
    fn gcm(&self) -> Option<&mbcrypto::Key> {
        if let Key::MbCrypto(key) = &self.0 { key.gcm() } else { None }
    }

    #[inline]
    fn gmac(&self) -> Option<&mbcrypto::Key> {
        if let Key::MbCrypto(key) = &self.0 { key.gmac() } else { None }
    }

    #[inline]
    fn seal(&self, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &mut [u8]) -> bool {
        match &self.0 {
            Key::MbCrypto(key) => key.seal(nonce, aad, data, tag),
            Key::AwsLc(key) => key.seal(nonce, aad, data, tag),
            Key::RustCrypto(key) => key.seal(nonce, aad, data, tag),
        }
    }

    #[inline]
    fn open(&self, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &[u8], scratch: &mut Scratch) -> bool {
        match &self.0 {
            Key::MbCrypto(key) => key.open(nonce, aad, data, tag, scratch),
            Key::AwsLc(key) => key.open(nonce, aad, data, tag, scratch),
            Key::RustCrypto(key) => key.open(nonce, aad, data, tag),
        }
    }
}

/// A key of [`Crypto`] for AH.
pub struct CryptoAuthKey(AuthKey);

enum AuthKey {
    MbCrypto(MbCryptoAuthKey),
    AwsLc(AwsLcAuthKey),
    RustCrypto(RustCryptoAuthKey),
}

impl MixedAuthKey for CryptoAuthKey {
    #[inline]
    fn gmac(&self) -> Option<&mbcrypto::Key> {
        if let AuthKey::MbCrypto(key) = &self.0 { key.gmac() } else { None }
    }

    #[inline]
    fn icv(&self, nonce: &[u8; 12], parts: [&[u8]; 3]) -> Icv {
        match &self.0 {
            AuthKey::MbCrypto(key) => key.icv(nonce, parts),
            AuthKey::AwsLc(key) => key.icv(nonce, parts),
            AuthKey::RustCrypto(key) => key.icv(nonce, parts),
        }
    }
}

impl fmt::Debug for CryptoAuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            AuthKey::MbCrypto(key) => key.fmt(f),
            AuthKey::AwsLc(key) => key.fmt(f),
            AuthKey::RustCrypto(key) => key.fmt(f),
        }
    }
}

impl fmt::Debug for CryptoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Key::MbCrypto(key) => key.fmt(f),
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
            Self::MbCrypto(provider) => provider.name(),
            Self::AwsLc => AwsLc::NAME,
            Self::RustCrypto => RustCrypto::NAME,
        }
    }

    fn key(&self, parameters: &KeyParameters<'_>) -> Result<Self::Key, KeyError> {
        match self {
            Self::MbCrypto(provider) => MbCryptoKey::new(*provider, parameters).map(Key::MbCrypto),
            Self::AwsLc => AwsLcKey::new(parameters).map(Key::AwsLc),
            Self::RustCrypto => RustCryptoKey::new(parameters).map(Key::RustCrypto),
        }
        .map(CryptoKey)
    }

    fn auth_key(&self, algorithm: Authentication, key: &[u8]) -> Result<Self::AuthKey, KeyError> {
        match self {
            Self::MbCrypto(provider) => MbCryptoAuthKey::new(*provider, algorithm, key).map(AuthKey::MbCrypto),
            Self::AwsLc => AwsLcAuthKey::new(algorithm, key).map(AuthKey::AwsLc),
            Self::RustCrypto => RustCryptoAuthKey::new(algorithm, key).map(AuthKey::RustCrypto),
        }
        .map(CryptoAuthKey)
    }

    // The kernels take whole batches. The other libraries take one packet at a time, so a branch per job, always the same way in
    // practice, is all that a choice costs; sorting the jobs into batches per library would cost more.
    fn seal(&self, jobs: &mut [SealJob<'_, Self::Key>]) {
        match self {
            Self::MbCrypto(provider) => provider.seal_mixed(jobs),
            Self::AwsLc | Self::RustCrypto => seal_singly(jobs),
        }
    }

    fn open(&self, jobs: &mut [OpenJob<'_, Self::Key>], scratch: &mut Scratch) {
        match self {
            Self::MbCrypto(provider) => provider.open_mixed(jobs, scratch),
            Self::AwsLc | Self::RustCrypto => open_singly(jobs, scratch),
        }
    }

    fn seal_combined<M>(&self, jobs: &mut [CombinedJob<'_, Self::Key, M>]) -> bool {
        match self {
            Self::MbCrypto(provider) => provider.seal_combined_mixed(self, jobs),
            Self::AwsLc | Self::RustCrypto => combined::seal_rest(self, jobs),
        }
    }

    fn open_combined<M>(&self, jobs: &mut [CombinedJob<'_, Self::Key, M>], scratch: &mut Scratch) -> bool {
        match self {
            Self::MbCrypto(provider) => provider.open_combined_mixed(self, jobs, scratch),
            Self::AwsLc | Self::RustCrypto => combined::open_rest(self, jobs, scratch),
        }
    }

    fn authenticate(&self, jobs: &mut [AuthJob<'_, Self::AuthKey>]) {
        match self {
            Self::MbCrypto(provider) => provider.authenticate_mixed(jobs),
            Self::AwsLc | Self::RustCrypto => authenticate_singly(jobs),
        }
    }
}

/// A name that chooses no provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// There is none of that name.
    #[error("unknown crypto provider {found:?}: expected one of {}", Names)]
    Unknown {
        /// The name given.
        found: String,
    },
    /// The processor lacks an instruction of the path.
    #[error("this processor has not the instructions of {}: expected one of {}", MbCrypto::name_with(*path), Names)]
    Unavailable {
        /// The path given.
        path: Path,
    },
}

/// The names that are allowed, one after the other.
struct Names;

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, name) in Crypto::names().enumerate() {
            write!(f, "{}{name}", if number == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl FromStr for Crypto {
    type Err = ProviderError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if let Some(provider) = Self::all().into_iter().find(|provider| provider.name() == name) {
            return Ok(provider);
        }
        match Path::ALL.into_iter().find(|&path| MbCrypto::name_with(path) == name) {
            Some(path) => MbCrypto::new(path).map(Self::MbCrypto).ok_or(ProviderError::Unavailable { path }),
            None => Err(ProviderError::Unknown { found: name.to_owned() }),
        }
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
        assert_eq!(Crypto::all().map(|provider| provider.name()), ["mbcrypto", "aws-lc", "rustcrypto"]);
        for provider in Crypto::with_paths() {
            assert_eq!(provider.to_string().parse::<Crypto>().unwrap(), provider);
        }
        for name in Crypto::names() {
            let provider: Crypto = name.parse().unwrap();
            // The best path has its name, and that of the provider alone.
            assert!(provider.name() == name || provider == Crypto::all()[0], "{name}");
            assert_eq!(provider.path().is_some(), name.starts_with("mbcrypto"));
        }
        assert!(Crypto::all().contains(&Crypto::default()));
    }

    #[test]
    fn the_default_is_the_fastest_or_else_not_ours() {
        let vectors = [Path::Avx512, Path::Avx2, Path::AesNi].into_iter().find_map(MbCrypto::new);
        assert_eq!(Crypto::default(), vectors.map_or(Crypto::AwsLc, Crypto::MbCrypto));
    }

    #[test]
    fn a_name_that_is_none_is_told_from_a_path_that_is_not_here() {
        let allowed = Crypto::names().collect::<Vec<_>>().join(", ");
        for found in ["openssl", "", "AWS-LC", "mbcrypto:", "mbcrypto:sse", "aws-lc:avx2"] {
            let error = found.parse::<Crypto>().unwrap_err();
            assert_eq!(error, ProviderError::Unknown { found: found.to_owned() });
            assert_eq!(error.to_string(), format!("unknown crypto provider {found:?}: expected one of {allowed}"));
        }
        assert!(allowed.starts_with("mbcrypto, mbcrypto:") && allowed.ends_with("mbcrypto:portable, aws-lc, rustcrypto"), "{allowed}");
        for path in Path::ALL {
            let parsed = MbCrypto::name_with(path).parse::<Crypto>();
            assert_eq!(parsed, MbCrypto::new(path).map(Crypto::MbCrypto).ok_or(ProviderError::Unavailable { path }));
            assert!(MbCrypto::name_with(path).ends_with(&format!(":{path}")));
        }
        let error = ProviderError::Unavailable { path: Path::Avx512 }.to_string();
        assert_eq!(error, format!("this processor has not the instructions of mbcrypto:avx512: expected one of {allowed}"));
    }
}
