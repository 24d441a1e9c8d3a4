//! IVs and nonces of counter modes: AES-GCM, AES-GMAC, ChaCha20-Poly1305.

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
