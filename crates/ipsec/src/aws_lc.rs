//! Provider over aws-lc-rs: the default, the fastest where the processor has AES instructions.
//!
//! aws-lc-rs makes ICVs of 16 bytes only; keys for shorter ones are RustCrypto's.
//!
//! Its opening decrypts before it compares, and wipes its output when the ICV is wrong, so opening in place would destroy a
//! packet that fails. Here the ciphertext is first copied aside, then opened from the copy into the packet, and put back on
//! failure. That way round (and not opening into the copy) the memory that outlives the call never holds plaintext.

use core::fmt;

use aws_lc_rs::aead;

use crate::aad::{Aad, Nonce};
use crate::algorithm::{AesKeySize, Authentication, Encryption};
use crate::provider::{AuthJob, Data, OpenJob, Provider, Scratch, SealJob, Verdict};
use crate::rust_crypto::RustCryptoKey;
use crate::suite::{KeyError, KeyParameters, check_auth_key};

/// aws-lc-rs for ICVs of 16 bytes, RustCrypto for those of 12 and 8.
#[derive(Clone, Copy, Debug, Default)]
pub struct AwsLc;

impl AwsLc {
    /// Its name among providers.
    pub const NAME: &'static str = "aws-lc";
}

/// A key of [`AwsLc`]. The library erases its state when it frees it.
pub struct AwsLcKey(Cipher);

enum Cipher {
    Full(aead::LessSafeKey),
    ShortIcv(RustCryptoKey),
}

const ICV_LENGTH: usize = 16;

impl AwsLcKey {
    pub(crate) fn new(parameters: &KeyParameters<'_>) -> Result<Self, KeyError> {
        parameters.check()?;
        let &KeyParameters { encryption, encryption_key, authentication, icv_length, .. } = parameters;
        if icv_length != ICV_LENGTH {
            return RustCryptoKey::new(parameters).map(|key| Self(Cipher::ShortIcv(key)));
        }
        let native = match encryption {
            Encryption::AesGcm(AesKeySize::Aes128) => &aead::AES_128_GCM,
            Encryption::AesGcm(AesKeySize::Aes192) => &aead::AES_192_GCM,
            Encryption::AesGcm(AesKeySize::Aes256) => &aead::AES_256_GCM,
            _ => return Err(KeyError::Unsupported { provider: AwsLc::NAME, encryption, authentication }),
        };
        let key = aead::UnboundKey::new(native, encryption_key).map_err(|_| KeyError::Library { provider: AwsLc::NAME, encryption, authentication })?;
        Ok(Self(Cipher::Full(aead::LessSafeKey::new(key))))
    }

    /// Whether the job could be done; the output is not to be used otherwise.
    #[inline]
    pub(crate) fn seal(&self, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &mut [u8]) -> bool {
        let key = match &self.0 {
            Cipher::Full(key) => key,
            Cipher::ShortIcv(key) => return key.seal(nonce, aad, data, tag),
        };
        let nonce = aead::Nonce::assume_unique_for_key(*nonce.first());
        let aad = aead::Aad::from(aad.as_bytes());
        // The library checks both lengths, and that `tag` is 16 bytes.
        match data {
            Data::InPlace(data) => key.seal_in_place_scatter(nonce, aad, data, &[], tag),
            Data::Copy { src, dst } => key.seal_out_of_place_scatter(nonce, aad, src, dst, &[], tag),
        }
        .is_ok()
    }

    /// Whether the packet is authentic. If not, data in place is as it was and the destination of a copy zero.
    #[inline]
    pub(crate) fn open(&self, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &[u8], scratch: &mut Scratch) -> bool {
        let key = match &self.0 {
            Cipher::Full(key) => key,
            Cipher::ShortIcv(key) => return key.open(nonce, aad, data, tag),
        };
        let nonce = aead::Nonce::assume_unique_for_key(*nonce.first());
        let aad = aead::Aad::from(aad.as_bytes());
        match data {
            Data::InPlace(data) => {
                let ciphertext = scratch.keep(data);
                let good = tag.len() == ICV_LENGTH && key.open_separate_gather(nonce, aad, ciphertext, tag, data).is_ok();
                if !good {
                    data.copy_from_slice(ciphertext);
                }
                good
            }
            Data::Copy { src, dst } => {
                let good = tag.len() == ICV_LENGTH && key.open_separate_gather(nonce, aad, src, tag, dst).is_ok();
                if !good {
                    dst.fill(0);
                }
                good
            }
        }
    }
}

impl fmt::Debug for AwsLcKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsLcKey")
    }
}

/// A key of [`AwsLc`] for AH.
#[derive(Debug)]
pub enum AwsLcAuthKey {}

impl AwsLcAuthKey {
    pub(crate) fn new(algorithm: Authentication, key: &[u8]) -> Result<Self, KeyError> {
        check_auth_key(algorithm, key)?;
        Err(KeyError::Unsupported { provider: AwsLc::NAME, encryption: Encryption::Null, authentication: algorithm })
    }
}

impl Provider for AwsLc {
    type Key = AwsLcKey;
    type AuthKey = AwsLcAuthKey;

    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn key(&self, parameters: &KeyParameters<'_>) -> Result<Self::Key, KeyError> {
        AwsLcKey::new(parameters)
    }

    fn auth_key(&self, algorithm: Authentication, key: &[u8]) -> Result<Self::AuthKey, KeyError> {
        AwsLcAuthKey::new(algorithm, key)
    }

    fn seal(&self, jobs: &mut [SealJob<'_, Self::Key>]) {
        for job in jobs {
            let success = job.key.seal(&job.nonce, &job.aad, &mut job.data, job.tag);
            job.conclude(success);
        }
    }

    fn open(&self, jobs: &mut [OpenJob<'_, Self::Key>], scratch: &mut Scratch) {
        for job in jobs {
            job.verdict = Verdict::from_success(job.key.open(&job.nonce, &job.aad, &mut job.data, job.tag, scratch));
        }
    }

    fn authenticate(&self, jobs: &mut [AuthJob<'_, Self::AuthKey>]) {
        for job in jobs {
            match *job.key {}
        }
    }
}
