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
/// AES-128 under a key of its own, which HMAC-SHA-256 derives from the SA's encryption key, over the sequence number: a pseudorandom function, as NIST
/// SP 800-38A appendix C asks for (there with the SA's own key, which 8-byte blocks have not the room for). As long as no number repeats, no block does;
/// nothing is taken from another packet's ciphertext, and no randomness or state is needed, so NIC and software agree.
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
