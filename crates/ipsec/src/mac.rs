//! RustCrypto's message authentication codes, over parts: HMAC from precomputed states, and AES-GMAC.

use aes::cipher::{BlockCipherEncrypt, KeyInit as _};
use aes::{Aes128Enc, Aes192Enc, Aes256Enc};
use ghash::universal_hash::UniversalHash;
use ghash::{Block, GHash};
use hmac::Mac;
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use crate::algorithm::{AesKeySize, Authentication};
use crate::encrypt_then_mac::PartsMac;
use crate::provider::Icv;

/// An HMAC of IPsec: the states of both hashes after the key's block, which every packet starts from. They are erased on drop.
///
/// Boxed, because their sizes differ much.
pub(crate) enum Hmac {
    Md5(Box<hmac::Hmac<Md5>>),
    Sha1(Box<hmac::Hmac<Sha1>>),
    Sha256(Box<hmac::Hmac<Sha256>>),
    Sha384(Box<hmac::Hmac<Sha384>>),
    Sha512(Box<hmac::Hmac<Sha512>>),
}

impl Hmac {
    /// `None` for what is no HMAC. The key's length is checked by the caller.
    pub(crate) fn new(algorithm: Authentication, key: &[u8]) -> Option<Self> {
        fn keyed<M: Mac + hmac::KeyInit>(key: &[u8]) -> Option<Box<M>> {
            M::new_from_slice(key).ok().map(Box::new)
        }
        match algorithm {
            Authentication::HmacMd5 => keyed(key).map(Self::Md5),
            Authentication::HmacSha1 => keyed(key).map(Self::Sha1),
            Authentication::HmacSha256 => keyed(key).map(Self::Sha256),
            Authentication::HmacSha384 => keyed(key).map(Self::Sha384),
            Authentication::HmacSha512 => keyed(key).map(Self::Sha512),
            Authentication::None | Authentication::AesGmac(_) => None,
        }
    }
}

impl PartsMac for Hmac {
    #[inline]
    fn icv(&self, parts: [&[u8]; 3]) -> Icv {
        fn icv<M: Mac + Clone>(keyed: &M, parts: [&[u8]; 3], algorithm: Authentication) -> Icv {
            let mut mac = keyed.clone();
            for part in parts {
                mac.update(part);
            }
            Icv::cut(&mac.finalize().into_bytes(), algorithm.icv_length())
        }
        match self {
            Self::Md5(keyed) => icv(&**keyed, parts, Authentication::HmacMd5),
            Self::Sha1(keyed) => icv(&**keyed, parts, Authentication::HmacSha1),
            Self::Sha256(keyed) => icv(&**keyed, parts, Authentication::HmacSha256),
            Self::Sha384(keyed) => icv(&**keyed, parts, Authentication::HmacSha384),
            Self::Sha512(keyed) => icv(&**keyed, parts, Authentication::HmacSha512),
        }
    }
}

/// AES-GMAC (NIST SP 800-38D): AES-GCM of no text, everything being additional data. Libraries want that data in one piece; this takes it in parts.
pub(crate) struct Gmac {
    cipher: Aes,
    hash: GHash,
}

/// The forward direction is all that there is in GMAC.
enum Aes {
    Aes128(Aes128Enc),
    Aes192(Aes192Enc),
    Aes256(Aes256Enc),
}

impl Gmac {
    /// Bytes of ICV.
    pub(crate) const ICV_LENGTH: usize = 16;

    /// `None` if the key is not as long as `size` says.
    pub(crate) fn new(size: AesKeySize, key: &[u8]) -> Option<Self> {
        let cipher = match size {
            AesKeySize::Aes128 => Aes::Aes128(Aes128Enc::new_from_slice(key).ok()?),
            AesKeySize::Aes192 => Aes::Aes192(Aes192Enc::new_from_slice(key).ok()?),
            AesKeySize::Aes256 => Aes::Aes256(Aes256Enc::new_from_slice(key).ok()?),
        };
        let mut hash_key = zeroize::Zeroizing::new([0; 16]);
        cipher.encrypt(&mut hash_key);
        let hash = GHash::new((&*hash_key).into());
        Some(Self { cipher, hash })
    }

    /// The ICV of the parts, one after the other.
    pub(crate) fn icv(&self, nonce: &[u8; 12], parts: [&[u8]; 3]) -> Icv {
        let mut hash = self.hash.clone();
        let mut pending = Block::default();
        let mut filled = 0;
        let mut length = 0_u64;
        for mut part in parts {
            length = length.wrapping_add(part.len() as u64);
            if filled > 0 {
                let (taken, rest) = part.split_at(part.len().min(pending.len() - filled));
                pending[filled..filled + taken.len()].copy_from_slice(taken);
                filled += taken.len();
                part = rest;
                if filled < pending.len() {
                    continue;
                }
                hash.update(core::slice::from_ref(&pending));
            }
            let (blocks, rest) = Block::slice_as_chunks(part);
            hash.update(blocks);
            pending[..rest.len()].copy_from_slice(rest);
            filled = rest.len();
        }
        if filled > 0 {
            pending[filled..].fill(0);
            hash.update(core::slice::from_ref(&pending));
        }
        let mut lengths = Block::default();
        // Bits of additional data; then bits of text: none.
        lengths[..8].copy_from_slice(&length.wrapping_mul(8).to_be_bytes());
        hash.update(core::slice::from_ref(&lengths));

        let mut icv = [0; Self::ICV_LENGTH];
        icv[..12].copy_from_slice(nonce);
        icv[15] = 1;
        self.cipher.encrypt(&mut icv);
        for (byte, hashed) in icv.iter_mut().zip(hash.finalize()) {
            *byte ^= hashed;
        }
        Icv::cut(&icv, Self::ICV_LENGTH)
    }
}

impl Aes {
    #[inline]
    fn encrypt(&self, block: &mut [u8; 16]) {
        let block = block.into();
        match self {
            Self::Aes128(cipher) => cipher.encrypt_block(block),
            Self::Aes192(cipher) => cipher.encrypt_block(block),
            Self::Aes256(cipher) => cipher.encrypt_block(block),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::ZeroizeOnDrop;

    #[test]
    fn the_ciphers_of_gmac_erase_themselves() {
        fn erases<T: ZeroizeOnDrop>() {}
        erases::<Aes128Enc>();
        erases::<Aes192Enc>();
        erases::<Aes256Enc>();
    }

    #[test]
    fn parts_may_be_cut_anywhere() {
        let message: Vec<u8> = (0..70).map(|byte| byte * 3 + 1).collect();
        for size in [AesKeySize::Aes128, AesKeySize::Aes192, AesKeySize::Aes256] {
            let gmac = Gmac::new(size, &vec![7; size.bytes()]).unwrap();
            for length in 0..=message.len() {
                let message = &message[..length];
                let whole = gmac.icv(&[9; 12], [message, &[], &[]]);
                for first in 0..=length {
                    for second in [first, (first + 1).min(length), (first + 15).min(length), (first + 17).min(length), length] {
                        let cut = gmac.icv(&[9; 12], [&message[..first], &message[first..second], &message[second..]]);
                        assert_eq!(cut.as_bytes(), whole.as_bytes(), "{first} {second} of {length}");
                    }
                }
            }
        }
    }
}
