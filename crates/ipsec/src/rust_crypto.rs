//! Provider over RustCrypto's `aes-gcm`: portable, every ICV length, and the oracle for the others.

use core::fmt;

use aes_gcm::AesGcm;
use aes_gcm::aead::consts::{U8, U12, U16};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{self, AeadInOut, KeyInit, Tag};
use aes_gcm::aes::{Aes128, Aes192, Aes256};

use crate::aad::{Aad, Nonce};
use crate::algorithm::{AesKeySize, Authentication, Encryption};
use crate::provider::{AuthJob, Data, OpenJob, Provider, Scratch, SealJob, Verdict};
use crate::suite::{KeyError, KeyParameters, check_auth_key};

/// RustCrypto's implementation.
#[derive(Clone, Copy, Debug, Default)]
pub struct RustCrypto;

impl RustCrypto {
    /// Its name among providers.
    pub const NAME: &'static str = "rustcrypto";
}

/// A key of [`RustCrypto`]. Round keys and the hash key are erased when it is dropped.
pub struct RustCryptoKey(Cipher);

/// One variant for each of the library's types: it has key and ICV length as type parameters.
///
/// Boxed, so that a key takes no more room in a table of SAs than one of a library that keeps its state on the heap.
enum Cipher {
    Aes128Icv16(Box<AesGcm<Aes128, U12, U16>>),
    Aes128Icv12(Box<AesGcm<Aes128, U12, U12>>),
    Aes128Icv8(Box<AesGcm<Aes128, U12, U8>>),
    Aes192Icv16(Box<AesGcm<Aes192, U12, U16>>),
    Aes192Icv12(Box<AesGcm<Aes192, U12, U12>>),
    Aes192Icv8(Box<AesGcm<Aes192, U12, U8>>),
    Aes256Icv16(Box<AesGcm<Aes256, U12, U16>>),
    Aes256Icv12(Box<AesGcm<Aes256, U12, U12>>),
    Aes256Icv8(Box<AesGcm<Aes256, U12, U8>>),
}

/// Evaluates `$body` with `$cipher` bound to whichever cipher `$key` holds.
macro_rules! with_cipher {
    ($key:expr, $cipher:ident => $body:expr) => {
        match &$key.0 {
            Cipher::Aes128Icv16($cipher) => $body,
            Cipher::Aes128Icv12($cipher) => $body,
            Cipher::Aes128Icv8($cipher) => $body,
            Cipher::Aes192Icv16($cipher) => $body,
            Cipher::Aes192Icv12($cipher) => $body,
            Cipher::Aes192Icv8($cipher) => $body,
            Cipher::Aes256Icv16($cipher) => $body,
            Cipher::Aes256Icv12($cipher) => $body,
            Cipher::Aes256Icv8($cipher) => $body,
        }
    };
}

impl RustCryptoKey {
    pub(crate) fn new(parameters: &KeyParameters<'_>) -> Result<Self, KeyError> {
        parameters.check()?;
        let &KeyParameters { encryption, encryption_key: key, authentication, icv_length, .. } = parameters;
        let Encryption::AesGcm(size) = encryption else {
            return Err(KeyError::Unsupported { provider: RustCrypto::NAME, encryption, authentication });
        };
        let cipher = match (size, icv_length) {
            (AesKeySize::Aes128, 16) => expand(key).map(Cipher::Aes128Icv16),
            (AesKeySize::Aes128, 12) => expand(key).map(Cipher::Aes128Icv12),
            (AesKeySize::Aes128, _) => expand(key).map(Cipher::Aes128Icv8),
            (AesKeySize::Aes192, 16) => expand(key).map(Cipher::Aes192Icv16),
            (AesKeySize::Aes192, 12) => expand(key).map(Cipher::Aes192Icv12),
            (AesKeySize::Aes192, _) => expand(key).map(Cipher::Aes192Icv8),
            (AesKeySize::Aes256, 16) => expand(key).map(Cipher::Aes256Icv16),
            (AesKeySize::Aes256, 12) => expand(key).map(Cipher::Aes256Icv12),
            (AesKeySize::Aes256, _) => expand(key).map(Cipher::Aes256Icv8),
        };
        cipher.map(Self).ok_or(KeyError::Library { provider: RustCrypto::NAME, encryption, authentication })
    }

    /// Whether the job could be done; the output is not to be used otherwise.
    #[inline]
    pub(crate) fn seal(&self, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &mut [u8]) -> bool {
        with_cipher!(self, cipher => seal(&**cipher, nonce, aad, data, tag))
    }

    /// Whether the packet is authentic. If not, data in place is untouched and the destination of a copy zero.
    #[inline]
    pub(crate) fn open(&self, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &[u8]) -> bool {
        with_cipher!(self, cipher => open(&**cipher, nonce, aad, data, tag))
    }
}

impl fmt::Debug for RustCryptoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RustCryptoKey")
    }
}

/// A key of [`RustCrypto`] for AH.
#[derive(Debug)]
pub enum RustCryptoAuthKey {}

impl RustCryptoAuthKey {
    pub(crate) fn new(algorithm: Authentication, key: &[u8]) -> Result<Self, KeyError> {
        check_auth_key(algorithm, key)?;
        Err(KeyError::Unsupported { provider: RustCrypto::NAME, encryption: Encryption::Null, authentication: algorithm })
    }
}

impl Provider for RustCrypto {
    type Key = RustCryptoKey;
    type AuthKey = RustCryptoAuthKey;

    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn key(&self, parameters: &KeyParameters<'_>) -> Result<Self::Key, KeyError> {
        RustCryptoKey::new(parameters)
    }

    fn auth_key(&self, algorithm: Authentication, key: &[u8]) -> Result<Self::AuthKey, KeyError> {
        RustCryptoAuthKey::new(algorithm, key)
    }

    fn seal(&self, jobs: &mut [SealJob<'_, Self::Key>]) {
        for job in jobs {
            let success = job.key.seal(&job.nonce, &job.aad, &mut job.data, job.tag);
            job.conclude(success);
        }
    }

    fn open(&self, jobs: &mut [OpenJob<'_, Self::Key>], _: &mut Scratch) {
        for job in jobs {
            job.verdict = Verdict::from_success(job.key.open(&job.nonce, &job.aad, &mut job.data, job.tag));
        }
    }

    fn authenticate(&self, jobs: &mut [AuthJob<'_, Self::AuthKey>]) {
        for job in jobs {
            match *job.key {}
        }
    }
}

fn expand<A: KeyInit>(key: &[u8]) -> Option<Box<A>> {
    A::new_from_slice(key).ok().map(Box::new)
}

fn seal<A: AeadInOut<NonceSize = U12>>(cipher: &A, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &mut [u8]) -> bool {
    if tag.len() != size_of::<Tag<A>>() {
        return false;
    }
    let buffer = match data {
        Data::InPlace(data) => InOutBuf::from(&mut **data),
        Data::Copy { src, dst } => match InOutBuf::new(src, dst) {
            Ok(buffer) => buffer,
            Err(_) => return false,
        },
    };
    match cipher.encrypt_inout_detached(&aead::Nonce::<A>::from(*nonce.first::<12>()), aad.as_bytes(), buffer) {
        Ok(computed) => {
            tag.copy_from_slice(&computed);
            true
        }
        Err(_) => false,
    }
}

fn open<A: AeadInOut<NonceSize = U12>>(cipher: &A, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &[u8]) -> bool {
    let decrypt = |buffer: InOutBuf<'_, '_, u8>| match Tag::<A>::try_from(tag) {
        // The library compares before it decrypts, in constant time.
        Ok(tag) => cipher.decrypt_inout_detached(&aead::Nonce::<A>::from(*nonce.first::<12>()), aad.as_bytes(), buffer, &tag).is_ok(),
        Err(_) => false,
    };
    match data {
        Data::InPlace(data) => decrypt(InOutBuf::from(&mut **data)),
        Data::Copy { src, dst } => {
            let good = InOutBuf::new(src, dst).is_ok_and(decrypt);
            if !good {
                dst.fill(0);
            }
            good
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::ZeroizeOnDrop;

    #[test]
    fn every_cipher_erases_itself() {
        fn erases<T: ZeroizeOnDrop>(_: &T) {}
        for size in [AesKeySize::Aes128, AesKeySize::Aes192, AesKeySize::Aes256] {
            for icv in [16, 12, 8] {
                let key = RustCryptoKey::new(&KeyParameters::combined(Encryption::AesGcm(size), &vec![1; size.bytes()], icv)).unwrap();
                with_cipher!(key, cipher => erases(&**cipher));
            }
        }
    }
}
