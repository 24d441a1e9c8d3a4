//! Provider over aws-lc-rs: the default where there are no vector instructions for mbcrypto, and mbcrypto's own for suites that it has not.
//!
//! The library does AES-GCM and ChaCha20-Poly1305 with ICVs of 16 bytes, AES-CBC, and HMAC with SHA. What its safe interface has not is RustCrypto's: shorter
//! ICVs, DES, MD5, and AES-GMAC over parts.
//!
//! Its opening of AEADs decrypts before it compares, and wipes its output when the ICV is wrong, so opening in place would destroy a
//! packet that fails. Here the ciphertext is first copied aside, then opened from the copy into the packet, and put back on
//! failure. That way round (and not opening into the copy) the memory that outlives the call never holds plaintext.

use core::fmt;

use aws_lc_rs::cipher::{self, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::{aead, hmac};

use crate::aad::{Aad, Nonce};
use crate::algorithm::{AesKeySize, Authentication, Encryption};
use crate::encrypt_then_mac::{Cipher, EncryptThenMac, PartsMac};
use crate::provider::{AuthJob, Data, Icv, OpenJob, Provider, Scratch, SealJob, Verdict};
use crate::rust_crypto::{RustCryptoAuthKey, RustCryptoKey};
use crate::suite::{KeyError, KeyParameters, check_auth_key};
use crate::{mac, rust_crypto};

/// aws-lc-rs for all that it can do, RustCrypto for the rest.
#[derive(Clone, Copy, Debug, Default)]
pub struct AwsLc;

impl AwsLc {
    /// Its name among providers.
    pub const NAME: &'static str = "aws-lc";
}

/// A key of [`AwsLc`] for ESP. The library erases its state when it frees it.
pub struct AwsLcKey(Kind);

enum Kind {
    Combined(aead::LessSafeKey),
    Separate(Box<EncryptThenMac<Cbc, Hmac>>),
    Portable(RustCryptoKey),
}

const ICV_LENGTH: usize = 16;

impl AwsLcKey {
    pub(crate) fn new(parameters: &KeyParameters<'_>) -> Result<Self, KeyError> {
        parameters.check()?;
        let &KeyParameters { encryption, encryption_key, authentication, authentication_key, icv_length } = parameters;
        let native = match encryption {
            Encryption::AesGcm(AesKeySize::Aes128) => Some(&aead::AES_128_GCM),
            Encryption::AesGcm(AesKeySize::Aes192) => Some(&aead::AES_192_GCM),
            Encryption::AesGcm(AesKeySize::Aes256) => Some(&aead::AES_256_GCM),
            Encryption::ChaCha20Poly1305 => Some(&aead::CHACHA20_POLY1305),
            _ => None,
        };
        let failure = KeyError::Library { provider: AwsLc::NAME, encryption, authentication };
        let kind = match (native, authentication) {
            (Some(native), _) if icv_length == ICV_LENGTH => {
                Kind::Combined(aead::LessSafeKey::new(aead::UnboundKey::new(native, encryption_key).map_err(|_| failure)?))
            }
            (Some(_), _) | (None, Authentication::AesGmac(_)) => Kind::Portable(RustCryptoKey::new(parameters)?),
            (None, _) => {
                let mac = match authentication {
                    Authentication::None => None,
                    _ => Some(Hmac::new(authentication, authentication_key).ok_or(failure)?),
                };
                let cipher = Cbc::new(encryption, encryption_key).ok_or(failure)?;
                Kind::Separate(Box::new(EncryptThenMac::new(cipher, encryption.block_length(), mac, icv_length)))
            }
        };
        Ok(Self(kind))
    }

    /// Whether the job could be done; the output is not to be used otherwise.
    #[inline]
    pub(crate) fn seal(&self, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &mut [u8]) -> bool {
        let key = match &self.0 {
            Kind::Combined(key) => key,
            Kind::Separate(key) => return key.seal(nonce, aad, data, tag),
            Kind::Portable(key) => return key.seal(nonce, aad, data, tag),
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
            Kind::Combined(key) => key,
            Kind::Separate(key) => return key.open(nonce, aad, data, tag),
            Kind::Portable(key) => return key.open(nonce, aad, data, tag),
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

/// AES-CBC of the library; DES and 3DES of RustCrypto, because the library's refuse weak keys, which peers may have.
enum Cbc {
    Aes { encrypting: Box<EncryptingKey>, decrypting: Box<DecryptingKey> },
    Portable(rust_crypto::Cbc),
}

impl Cbc {
    /// The key's length is checked by the caller.
    fn new(encryption: Encryption, key: &[u8]) -> Option<Self> {
        let native = match encryption {
            Encryption::AesCbc(AesKeySize::Aes128) => &cipher::AES_128,
            Encryption::AesCbc(AesKeySize::Aes192) => &cipher::AES_192,
            Encryption::AesCbc(AesKeySize::Aes256) => &cipher::AES_256,
            _ => return rust_crypto::Cbc::new(encryption, key).map(Self::Portable),
        };
        let key = || UnboundCipherKey::new(native, key).ok();
        let encrypting = Box::new(EncryptingKey::cbc(key()?).ok()?);
        let decrypting = Box::new(DecryptingKey::cbc(key()?).ok()?);
        Some(Self::Aes { encrypting, decrypting })
    }
}

impl Cipher for Cbc {
    #[inline]
    fn encrypt(&self, iv: &Nonce, data: &mut [u8]) -> bool {
        match self {
            Self::Aes { encrypting, .. } => encrypting.less_safe_encrypt(data, EncryptionContext::Iv128(iv.first::<16>().into())).is_ok(),
            Self::Portable(cipher) => cipher.encrypt(iv, data),
        }
    }

    #[inline]
    fn decrypt(&self, iv: &Nonce, data: &mut [u8]) -> bool {
        match self {
            Self::Aes { decrypting, .. } => decrypting.decrypt(data, DecryptionContext::Iv128(iv.first::<16>().into())).is_ok(),
            Self::Portable(cipher) => cipher.decrypt(iv, data),
        }
    }
}

/// HMAC with SHA of the library: a context that has the key's blocks behind it, and that each packet starts from. MD5 is RustCrypto's.
pub(crate) enum Hmac {
    Sha { keyed: Box<hmac::Key>, icv_length: usize },
    Portable(mac::Hmac),
}

impl Hmac {
    /// `None` for what is no HMAC. The key's length is checked by the caller.
    pub(crate) fn new(algorithm: Authentication, key: &[u8]) -> Option<Self> {
        let native = match algorithm {
            Authentication::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Authentication::HmacSha256 => hmac::HMAC_SHA256,
            Authentication::HmacSha384 => hmac::HMAC_SHA384,
            Authentication::HmacSha512 => hmac::HMAC_SHA512,
            _ => return mac::Hmac::new(algorithm, key).map(Self::Portable),
        };
        Some(Self::Sha { keyed: Box::new(hmac::Key::new(native, key)), icv_length: algorithm.icv_length() })
    }
}

impl PartsMac for Hmac {
    #[inline]
    fn icv(&self, parts: [&[u8]; 3]) -> Icv {
        match self {
            Self::Sha { keyed, icv_length } => {
                let mut context = hmac::Context::with_key(keyed);
                for part in parts {
                    context.update(part);
                }
                Icv::cut(context.sign().as_ref(), *icv_length)
            }
            Self::Portable(mac) => mac.icv(parts),
        }
    }
}

/// A key of [`AwsLc`] for AH.
pub struct AwsLcAuthKey(AuthKind);

enum AuthKind {
    Hmac(Hmac),
    Portable(RustCryptoAuthKey),
}

impl AwsLcAuthKey {
    pub(crate) fn new(algorithm: Authentication, key: &[u8]) -> Result<Self, KeyError> {
        check_auth_key(algorithm, key)?;
        let kind = match algorithm {
            Authentication::AesGmac(_) => AuthKind::Portable(RustCryptoAuthKey::new(algorithm, key)?),
            _ => AuthKind::Hmac(Hmac::new(algorithm, key).ok_or(KeyError::Library {
                provider: AwsLc::NAME,
                encryption: Encryption::Null,
                authentication: algorithm,
            })?),
        };
        Ok(Self(kind))
    }

    #[inline]
    pub(crate) fn icv(&self, nonce: &[u8; 12], parts: [&[u8]; 3]) -> Icv {
        match &self.0 {
            AuthKind::Hmac(key) => key.icv(parts),
            AuthKind::Portable(key) => key.icv(nonce, parts),
        }
    }
}

impl fmt::Debug for AwsLcAuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsLcAuthKey")
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
            job.icv = job.key.icv(&job.nonce, job.parts);
        }
    }
}
