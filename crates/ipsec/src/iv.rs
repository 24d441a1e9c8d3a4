//! IVs and nonces: of counter modes (AES-GCM, AES-GMAC, ChaCha20-Poly1305) from the sequence number, of CBC from a pseudorandom function of it.

use core::fmt;

use aes::Aes128Enc;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Salt of a counter mode's nonce, from the end of the SA's key.
pub type Salt = [u8; 4];

/// The IV that a sender writes: the 64-bit sequence number XOR the SA's mask, big-endian (OV2-SEND-7).
///
/// Distinct sequence numbers give distinct IVs, whoever computes them: NIC and software share an IV space without sharing state.
/// With 32-bit numbering `sequence` is the number, zero-extended. A receiver never computes this: peers make IVs in other ways,
/// and it takes the one that the packet carries.
///
/// ```
/// assert_eq!(ipsec::iv::counter(1, 0), [0, 0, 0, 0, 0, 0, 0, 1]);
/// assert_eq!(ipsec::iv::counter(0x0000_0001_0000_0002, 0xff00_0000_0000_0003), [0xff, 0, 0, 1, 0, 0, 0, 1]);
/// ```
#[inline]
pub const fn counter(sequence: u64, mask: u64) -> [u8; 8] {
    (sequence ^ mask).to_be_bytes()
}

/// The nonce: salt, then the IV of the packet (RFC 4106 section 4).
///
/// ```
/// assert_eq!(ipsec::iv::nonce([1, 2, 3, 4], [5, 6, 7, 8, 9, 10, 11, 12]), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
/// ```
#[inline]
pub fn nonce(salt: Salt, iv: [u8; 8]) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&salt);
    nonce[4..].copy_from_slice(&iv);
    nonce
}

/// IVs of CBC: what a sender writes, unpredictable for whoever has not the key, and the same whoever computes it (OV2-SEND-7).
///
/// AES-128 under a key of its own, which HMAC-SHA-256 derives from the SA's encryption key, over the sequence number XOR the SA's mask (8 bytes, then 8 zero
/// bytes): the encrypted counter of NIST SP 800-38A appendix C, but with a key apart from the data's, and with AES for DES and 3DES too. As long as no number
/// repeats, no block does; nothing is taken from another packet's ciphertext, and no randomness or state is needed, so NIC and software agree.
///
/// ```
/// let ivs = ipsec::iv::CbcIvs::new(&[7; 16]);
/// assert_eq!(ivs.iv(1, 0), ivs.iv(0, 1), "it is the XOR of the two that counts");
/// assert_ne!(ivs.iv(1, 0), ipsec::iv::CbcIvs::new(&[8; 16]).iv(1, 0));
/// ```
pub struct CbcIvs(Box<Aes128Enc>);

impl CbcIvs {
    /// Keeps this use of the SA's key apart from every other.
    const LABEL: &'static [u8] = b"ipsecov2 CBC IV";

    /// Derives the function's key from the SA's encryption key.
    #[expect(clippy::missing_panics_doc, reason = "HMAC takes keys of any length")]
    pub fn new(encryption_key: &[u8]) -> Self {
        let mut derivation = Hmac::<Sha256>::new_from_slice(encryption_key).expect("HMAC takes keys of any length");
        derivation.update(Self::LABEL);
        let derived = Zeroizing::new(<[u8; 32]>::from(derivation.finalize().into_bytes()));
        let mut key = Zeroizing::new([0; 16]);
        key.copy_from_slice(&derived[..16]);
        Self(Box::new(Aes128Enc::new((&*key).into())))
    }

    /// The IV of a packet; a cipher with blocks of 8 bytes takes the first 8. `mask` is the SA's, as with [`counter`].
    #[inline]
    pub fn iv(&self, sequence: u64, mask: u64) -> [u8; 16] {
        let mut block = [0; 16];
        block[..8].copy_from_slice(&counter(sequence, mask));
        self.0.encrypt_block((&mut block).into());
        block
    }
}

impl fmt::Debug for CbcIvs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CbcIvs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const KEY: [u8; 16] = *b"an AES-CBC's key";

    fn ivs(count: u64) -> Vec<u128> {
        let ivs = CbcIvs::new(&KEY);
        (0..count).map(|sequence| u128::from_be_bytes(ivs.iv(sequence, 0))).collect()
    }

    /// R-16, by design: the IV is a function that nobody has without the key, computed here once more from its parts.
    #[test]
    fn r_16_an_iv_is_a_keyed_function_of_the_number() {
        for (key, sequence, mask) in [(&KEY[..], 1, 0), (&KEY[..8], 0x0102_0304_0506_0708, 0), (&[0xee; 24][..], u64::MAX, 0x5eed)] {
            let derived = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key), b"ipsecov2 CBC IV");
            let function = aws_lc_rs::cipher::UnboundCipherKey::new(&aws_lc_rs::cipher::AES_128, &derived.as_ref()[..16]).unwrap();
            let mut block = [0; 16];
            block[..8].copy_from_slice(&(sequence ^ mask).to_be_bytes());
            aws_lc_rs::cipher::EncryptingKey::ecb(function).unwrap().less_safe_encrypt(&mut block, aws_lc_rs::cipher::EncryptionContext::None).unwrap();
            assert_eq!(CbcIvs::new(key).iv(sequence, mask), block);
        }
    }

    /// R-16: another key gives other IVs, in about half of the bits.
    #[test]
    fn r_16_an_iv_depends_on_every_bit_of_the_key() {
        for sequence in [0, 1, u64::MAX] {
            let iv = u128::from_be_bytes(CbcIvs::new(&KEY).iv(sequence, 0));
            for bit in 0..128 {
                let mut key = KEY;
                key[bit / 8] ^= 1 << (bit % 8);
                let differing = (u128::from_be_bytes(CbcIvs::new(&key).iv(sequence, 0)) ^ iv).count_ones();
                assert!((30..=98).contains(&differing), "{differing} bits with key bit {bit}");
            }
        }
    }

    /// R-16: no IV repeats, and neither two IVs nor the differences of neighbours show the counter behind them.
    #[test]
    fn r_16_ivs_show_no_counter() {
        let ivs = ivs(5000);
        let distinct: HashSet<u128> = ivs.iter().copied().collect();
        assert_eq!(distinct.len(), ivs.len());
        // The first 8 bytes, which DES takes.
        assert_eq!(ivs.iter().map(|iv| (iv >> 64) as u64).collect::<HashSet<_>>().len(), ivs.len());
        for step in [1, 2, 256] {
            let mut differences = HashSet::new();
            for (iv, next) in ivs.iter().zip(&ivs[step..]) {
                assert!((30..=98).contains(&(iv ^ next).count_ones()), "neighbours differ in half of the bits");
                assert!(differences.insert(iv ^ next) && differences.insert(next.wrapping_sub(*iv)), "a difference that was there before");
            }
        }
    }

    /// R-16: each bit is set half of the time, whatever its neighbour is, and bytes are evenly spread (five standard deviations).
    #[test]
    fn r_16_ivs_are_evenly_spread() {
        let ivs = ivs(4096);
        for bit in 0..128 {
            let at = |iv: &u128, bit: u32| iv >> (bit % 128) & 1;
            let half = |what, count: usize| assert!(count.abs_diff(2048) < 5 * 32, "bit {bit}: {count} of 4096 {what}");
            half("set", ivs.iter().filter(|iv| at(iv, bit) == 1).count());
            half("like the next bit", ivs.iter().filter(|iv| at(iv, bit) == at(iv, bit + 1)).count());
            half("like that of the next IV", ivs.iter().zip(&ivs[1..]).filter(|(iv, next)| at(iv, bit) == at(next, bit)).count());
        }
        let mut bytes = [0_i64; 256];
        for iv in &ivs {
            for byte in iv.to_be_bytes() {
                bytes[usize::from(byte)] += 1;
            }
        }
        // 65536 bytes: chi-squared of 255 degrees of freedom is 255, give or take 5 times 22.6.
        let chi_squared = bytes.iter().map(|count| (count - 256) * (count - 256)).sum::<i64>() / 256;
        assert!((142..=368).contains(&chi_squared), "{chi_squared}");
    }

    /// R-16 for counter modes: distinct numbers give distinct IVs under any mask.
    #[test]
    fn r_16_ivs_of_counter_modes_do_not_repeat() {
        for mask in [0, 0x5eed, u64::MAX] {
            let numbers = (0..2000).chain(u64::from(u32::MAX) - 1000..u64::from(u32::MAX) + 1000).chain(u64::MAX - 1000..=u64::MAX);
            let (mut seen, mut count) = (HashSet::new(), 0);
            for number in numbers {
                seen.insert(counter(number, mask));
                count += 1;
            }
            assert_eq!(seen.len(), count);
        }
    }
}
