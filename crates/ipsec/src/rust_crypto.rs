//! Provider over RustCrypto's crates: portable, every suite and ICV length, and the oracle for the others.

use core::fmt;

use aes_gcm::AesGcm;
use aes_gcm::aead::consts::{U8, U12, U16};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{self, AeadInOut, KeyInit, Tag};
use aes_gcm::aes::{Aes128, Aes192, Aes256};
use cbc::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit};
use chacha20poly1305::ChaCha20Poly1305;
use des::{Des, TdesEde3};

use crate::aad::{Aad, Nonce};
use crate::algorithm::{AesKeySize, Authentication, Encryption};
use crate::encrypt_then_mac::{Cipher, EncryptThenMac, PartsMac};
use crate::mac::{Gmac, Hmac};
use crate::provider::{AuthJob, Data, Icv, OpenJob, Provider, Scratch, SealJob, Verdict};
use crate::suite::{KeyError, KeyParameters, check_auth_key};

/// RustCrypto's implementation.
#[derive(Clone, Copy, Debug, Default)]
pub struct RustCrypto;

impl RustCrypto {
    /// Its name among providers.
    pub const NAME: &'static str = "rustcrypto";
}

/// A key of [`RustCrypto`] for ESP. Round keys, hash keys and the states of HMACs are erased when it is dropped.
pub struct RustCryptoKey(Kind);

enum Kind {
    Combined(Combined),
    Separate(Box<EncryptThenMac<Cbc, Hmac>>),
    Gmac(Box<Gmac>),
}

/// One variant for each of the library's types: it has key and ICV length as type parameters.
///
/// Boxed, so that a key takes no more room in a table of SAs than one of a library that keeps its state on the heap.
enum Combined {
    Aes128Icv16(Box<AesGcm<Aes128, U12, U16>>),
    Aes128Icv12(Box<AesGcm<Aes128, U12, U12>>),
    Aes128Icv8(Box<AesGcm<Aes128, U12, U8>>),
    Aes192Icv16(Box<AesGcm<Aes192, U12, U16>>),
    Aes192Icv12(Box<AesGcm<Aes192, U12, U12>>),
    Aes192Icv8(Box<AesGcm<Aes192, U12, U8>>),
    Aes256Icv16(Box<AesGcm<Aes256, U12, U16>>),
    Aes256Icv12(Box<AesGcm<Aes256, U12, U12>>),
    Aes256Icv8(Box<AesGcm<Aes256, U12, U8>>),
    ChaCha20Poly1305(Box<ChaCha20Poly1305>),
}

/// The ciphers that are authenticated separately.
pub(crate) enum Cbc {
    Null,
    Des(Box<Des>),
    TripleDes(Box<TdesEde3>),
    Aes128(Box<Aes128>),
    Aes192(Box<Aes192>),
    Aes256(Box<Aes256>),
}

/// Evaluates `$body` with `$cipher` bound to whichever cipher `$key` holds.
macro_rules! with_cipher {
    ($key:expr, $cipher:ident => $body:expr) => {
        match $key {
            Combined::Aes128Icv16($cipher) => $body,
            Combined::Aes128Icv12($cipher) => $body,
            Combined::Aes128Icv8($cipher) => $body,
            Combined::Aes192Icv16($cipher) => $body,
            Combined::Aes192Icv12($cipher) => $body,
            Combined::Aes192Icv8($cipher) => $body,
            Combined::Aes256Icv16($cipher) => $body,
            Combined::Aes256Icv12($cipher) => $body,
            Combined::Aes256Icv8($cipher) => $body,
            Combined::ChaCha20Poly1305($cipher) => $body,
        }
    };
}

impl RustCryptoKey {
    pub(crate) fn new(parameters: &KeyParameters<'_>) -> Result<Self, KeyError> {
        parameters.check()?;
        let &KeyParameters { encryption, authentication, .. } = parameters;
        Kind::new(parameters).map(Self).ok_or(KeyError::Library { provider: RustCrypto::NAME, encryption, authentication })
    }

    /// Whether the job could be done; the output is not to be used otherwise.
    #[inline]
    pub(crate) fn seal(&self, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &mut [u8]) -> bool {
        match &self.0 {
            Kind::Combined(key) => with_cipher!(key, cipher => seal(&**cipher, nonce, aad, data, tag)),
            Kind::Separate(key) => key.seal(nonce, aad, data, tag),
            Kind::Gmac(key) => seal_gmac(key, nonce, aad, data, tag),
        }
    }

    /// Whether the packet is authentic. If not, data in place is untouched and the destination of a copy zero.
    #[inline]
    pub(crate) fn open(&self, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &[u8]) -> bool {
        match &self.0 {
            Kind::Combined(key) => with_cipher!(key, cipher => open(&**cipher, nonce, aad, data, tag)),
            Kind::Separate(key) => key.open(nonce, aad, data, tag),
            Kind::Gmac(key) => open_gmac(key, nonce, aad, data, tag),
        }
    }
}

impl Kind {
    /// The parameters are checked; `None` is the library's refusal.
    fn new(parameters: &KeyParameters<'_>) -> Option<Self> {
        let &KeyParameters { encryption, encryption_key, authentication, authentication_key, icv_length } = parameters;
        if encryption.is_combined() {
            return Combined::new(encryption, encryption_key, icv_length).map(Self::Combined);
        }
        if let Authentication::AesGmac(size) = authentication {
            return Gmac::new(size, authentication_key).map(|key| Self::Gmac(Box::new(key)));
        }
        let mac = match authentication {
            Authentication::None => None,
            _ => Some(Hmac::new(authentication, authentication_key)?),
        };
        let cipher = Cbc::new(encryption, encryption_key)?;
        Some(Self::Separate(Box::new(EncryptThenMac::new(cipher, encryption.block_length(), mac, icv_length))))
    }
}

impl Combined {
    fn new(encryption: Encryption, key: &[u8], icv_length: usize) -> Option<Self> {
        match (encryption, icv_length) {
            (Encryption::AesGcm(AesKeySize::Aes128), 16) => expand(key).map(Self::Aes128Icv16),
            (Encryption::AesGcm(AesKeySize::Aes128), 12) => expand(key).map(Self::Aes128Icv12),
            (Encryption::AesGcm(AesKeySize::Aes128), 8) => expand(key).map(Self::Aes128Icv8),
            (Encryption::AesGcm(AesKeySize::Aes192), 16) => expand(key).map(Self::Aes192Icv16),
            (Encryption::AesGcm(AesKeySize::Aes192), 12) => expand(key).map(Self::Aes192Icv12),
            (Encryption::AesGcm(AesKeySize::Aes192), 8) => expand(key).map(Self::Aes192Icv8),
            (Encryption::AesGcm(AesKeySize::Aes256), 16) => expand(key).map(Self::Aes256Icv16),
            (Encryption::AesGcm(AesKeySize::Aes256), 12) => expand(key).map(Self::Aes256Icv12),
            (Encryption::AesGcm(AesKeySize::Aes256), 8) => expand(key).map(Self::Aes256Icv8),
            (Encryption::ChaCha20Poly1305, 16) => expand(key).map(Self::ChaCha20Poly1305),
            _ => None,
        }
    }
}

impl Cbc {
    pub(crate) fn new(encryption: Encryption, key: &[u8]) -> Option<Self> {
        match encryption {
            Encryption::Null => Some(Self::Null),
            Encryption::DesCbc => expand(key).map(Self::Des),
            Encryption::TripleDesCbc => expand(key).map(Self::TripleDes),
            Encryption::AesCbc(AesKeySize::Aes128) => expand(key).map(Self::Aes128),
            Encryption::AesCbc(AesKeySize::Aes192) => expand(key).map(Self::Aes192),
            Encryption::AesCbc(AesKeySize::Aes256) => expand(key).map(Self::Aes256),
            Encryption::AesGcm(_) | Encryption::ChaCha20Poly1305 => None,
        }
    }
}

impl Cipher for Cbc {
    #[inline]
    fn encrypt(&self, iv: &Nonce, data: &mut [u8]) -> bool {
        match self {
            Self::Null => true,
            Self::Des(cipher) => encrypt_cbc(&**cipher, *iv.first::<8>(), data),
            Self::TripleDes(cipher) => encrypt_cbc(&**cipher, *iv.first::<8>(), data),
            Self::Aes128(cipher) => encrypt_cbc(&**cipher, *iv.first::<16>(), data),
            Self::Aes192(cipher) => encrypt_cbc(&**cipher, *iv.first::<16>(), data),
            Self::Aes256(cipher) => encrypt_cbc(&**cipher, *iv.first::<16>(), data),
        }
    }

    #[inline]
    fn decrypt(&self, iv: &Nonce, data: &mut [u8]) -> bool {
        match self {
            Self::Null => true,
            Self::Des(cipher) => decrypt_cbc(&**cipher, *iv.first::<8>(), data),
            Self::TripleDes(cipher) => decrypt_cbc(&**cipher, *iv.first::<8>(), data),
            Self::Aes128(cipher) => decrypt_cbc(&**cipher, *iv.first::<16>(), data),
            Self::Aes192(cipher) => decrypt_cbc(&**cipher, *iv.first::<16>(), data),
            Self::Aes256(cipher) => decrypt_cbc(&**cipher, *iv.first::<16>(), data),
        }
    }
}

impl fmt::Debug for RustCryptoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RustCryptoKey")
    }
}

/// A key of [`RustCrypto`] for AH.
pub struct RustCryptoAuthKey(AuthKind);

enum AuthKind {
    Hmac(Hmac),
    Gmac(Box<Gmac>),
}

impl RustCryptoAuthKey {
    pub(crate) fn new(algorithm: Authentication, key: &[u8]) -> Result<Self, KeyError> {
        check_auth_key(algorithm, key)?;
        let kind = match algorithm {
            Authentication::AesGmac(size) => Gmac::new(size, key).map(|key| AuthKind::Gmac(Box::new(key))),
            _ => Hmac::new(algorithm, key).map(AuthKind::Hmac),
        };
        kind.map(Self).ok_or(KeyError::Library { provider: RustCrypto::NAME, encryption: Encryption::Null, authentication: algorithm })
    }

    #[inline]
    pub(crate) fn icv(&self, nonce: &[u8; 12], parts: [&[u8]; 3]) -> Icv {
        match &self.0 {
            AuthKind::Hmac(key) => key.icv(parts),
            AuthKind::Gmac(key) => key.icv(nonce, parts),
        }
    }
}

impl fmt::Debug for RustCryptoAuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RustCryptoAuthKey")
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
            job.icv = job.key.icv(&job.nonce, job.parts);
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

fn encrypt_cbc<C, const N: usize>(cipher: &C, iv: [u8; N], data: &mut [u8]) -> bool
where
    C: BlockCipherEncrypt,
    [u8; N]: Into<Block<C>>,
{
    let (blocks, rest) = Block::<C>::slice_as_chunks_mut(data);
    cbc::Encryptor::inner_iv_init(cipher, &iv.into()).encrypt_blocks(blocks);
    rest.is_empty()
}

fn decrypt_cbc<C, const N: usize>(cipher: &C, iv: [u8; N], data: &mut [u8]) -> bool
where
    C: BlockCipherDecrypt,
    [u8; N]: Into<Block<C>>,
{
    let (blocks, rest) = Block::<C>::slice_as_chunks_mut(data);
    if !rest.is_empty() {
        return false;
    }
    cbc::Decryptor::inner_iv_init(cipher, &iv.into()).decrypt_blocks(blocks);
    true
}

fn seal_gmac(key: &Gmac, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &mut [u8]) -> bool {
    if tag.len() != Gmac::ICV_LENGTH || data.carry_over().is_none() {
        return false;
    }
    let icv = key.icv(nonce.first(), [aad.prefix(), data.input(), aad.suffix()]);
    tag.copy_from_slice(icv.as_bytes());
    true
}

fn open_gmac(key: &Gmac, nonce: &Nonce, aad: &Aad, data: &mut Data<'_>, tag: &[u8]) -> bool {
    // Another length than 16 does not verify.
    let good = key.icv(nonce.first(), [aad.prefix(), data.input(), aad.suffix()]).verify(tag) && data.carry_over().is_some();
    if !good {
        data.wipe_copy();
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::ZeroizeOnDrop;

    #[test]
    fn every_cipher_erases_itself() {
        fn erases<T: ZeroizeOnDrop>(_: &T) {}
        for encryption in Encryption::ALL {
            let key: Vec<u8> = (1..=encryption.cipher_key_length() as u8).collect();
            for &icv in encryption.icv_lengths() {
                let key = Combined::new(encryption, &key, icv).unwrap();
                with_cipher!(&key, cipher => erases(&**cipher));
            }
            match Cbc::new(encryption, &key) {
                None => assert!(encryption.is_combined()),
                Some(Cbc::Null) => assert_eq!(encryption, Encryption::Null),
                Some(Cbc::Des(cipher)) => erases(&*cipher),
                Some(Cbc::TripleDes(cipher)) => erases(&*cipher),
                Some(Cbc::Aes128(cipher)) => erases(&*cipher),
                Some(Cbc::Aes192(cipher)) => erases(&*cipher),
                Some(Cbc::Aes256(cipher)) => erases(&*cipher),
            }
        }
    }
}
