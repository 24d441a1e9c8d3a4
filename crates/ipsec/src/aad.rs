//! What a job carries beside its data: nonce or IV, and what is authenticated before and after the data.

use core::fmt;

/// Nonce or IV of a job. Its length is the algorithm's: 12 bytes for AES-GCM, AES-GMAC and ChaCha20-Poly1305 (salt, then the packet's IV), the block for
/// CBC, none for null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce([u8; Self::MAX]);

impl Nonce {
    /// Most bytes that an algorithm uses.
    pub const MAX: usize = 16;

    /// An IV as it stands in a packet; of a longer one than 16 bytes, which there is not, the first 16.
    #[inline]
    pub(crate) fn cut(iv: &[u8]) -> Self {
        let mut nonce = [0; Self::MAX];
        for (byte, &value) in nonce.iter_mut().zip(iv) {
            *byte = value;
        }
        Self(nonce)
    }

    /// The first `N` bytes: what an algorithm with nonces of that length uses. `N` is at most 16.
    #[inline]
    pub(crate) const fn first<const N: usize>(&self) -> &[u8; N] {
        const { assert!(N <= Self::MAX) };
        match self.0.first_chunk() {
            Some(first) => first,
            None => unreachable!(),
        }
    }
}

impl<const N: usize> From<[u8; N]> for Nonce {
    #[inline]
    fn from(bytes: [u8; N]) -> Self {
        const { assert!(N <= Self::MAX) };
        let mut nonce = [0; Self::MAX];
        nonce[..N].copy_from_slice(&bytes);
        Self(nonce)
    }
}

/// Authenticated and not encrypted data of a job, held inline: at most 32 bytes, of which the last may stand behind the data.
///
/// | suite | before the data | after the data |
/// | --- | --- | --- |
/// | combined mode ([`Aad::esp`]) | SPI, \[ESN high half\], sequence number | |
/// | AES-GMAC in ESP ([`Aad::gmac`]) | SPI, \[ESN high half\], sequence number, IV | |
/// | cipher and HMAC ([`Aad::encrypt_then_mac`]) | SPI, sequence number, IV | \[ESN high half\] |
#[derive(Clone, Copy)]
pub struct Aad {
    bytes: [u8; Self::MAX],
    length: u8,
    suffix: u8,
}

impl Aad {
    /// Most bytes that fit.
    pub const MAX: usize = 32;

    /// Copies `bytes`, all of them before the data; `None` if there are more than [`Aad::MAX`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut aad = Self { bytes: [0; Self::MAX], length: bytes.len() as u8, suffix: 0 };
        aad.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(aad)
    }

    /// That of ESP with a combined mode: SPI and sequence number as in the header, 8 bytes; with `extended` sequence numbers SPI and all 64 bits of the
    /// number, 12 bytes (RFC 4106 section 5, figures 2 and 3). `spi` is in network order, as it stands in the packet.
    #[inline]
    pub fn esp(spi: [u8; 4], sequence: u64, extended: bool) -> Self {
        let (high, low) = ((sequence >> 32) as u32, sequence as u32);
        // Both forms from the same three words, selected and not written twice: then the compiler keeps them in registers.
        let (second, third, length) = if extended { (high, low, 12) } else { (low, 0, 8) };
        let mut bytes = [0; Self::MAX];
        bytes[..4].copy_from_slice(&spi);
        bytes[4..8].copy_from_slice(&second.to_be_bytes());
        bytes[8..12].copy_from_slice(&third.to_be_bytes());
        Self { bytes, length, suffix: 0 }
    }

    /// That of ESP with AES-GMAC: as with a combined mode, then the packet's IV (RFC 4543 section 3.3 with erratum 1821).
    #[inline]
    pub fn gmac(spi: [u8; 4], sequence: u64, extended: bool, iv: [u8; 8]) -> Self {
        let Self { mut bytes, length, suffix } = Self::esp(spi, sequence, extended);
        // 8 or 12 and 8 more are less than 32.
        bytes[length as usize..][..8].copy_from_slice(&iv);
        Self { bytes, length: length + 8, suffix }
    }

    /// That of ESP with separate authentication: the packet's first bytes, and after the data the high half of an extended sequence number (RFC 4303
    /// section 2.2.1). Of an IV longer than 16 bytes, which no cipher has, nothing is taken.
    #[inline]
    pub fn encrypt_then_mac(header: [u8; 8], iv: &[u8], high: Option<u32>) -> Self {
        let iv = if iv.len() > 16 { &[] } else { iv };
        let mut bytes = [0; Self::MAX];
        bytes[..8].copy_from_slice(&header);
        bytes[8..8 + iv.len()].copy_from_slice(iv);
        let mut length = 8 + iv.len();
        let mut suffix = 0;
        if let Some(high) = high {
            bytes[length..length + 4].copy_from_slice(&high.to_be_bytes());
            length += 4;
            suffix = 4;
        }
        Self { bytes, length: length as u8, suffix }
    }

    /// All of it: what comes before the data, then what comes after.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        // Never cut: `length` is at most `MAX` by construction. `min` tells the compiler so.
        &self.bytes[..Self::MAX.min(self.length as usize)]
    }

    /// What is authenticated before the data.
    #[inline]
    pub fn prefix(&self) -> &[u8] {
        let all = self.as_bytes();
        &all[..all.len().saturating_sub(self.suffix as usize)]
    }

    /// What is authenticated after the data: nothing, or 4 bytes.
    #[inline]
    pub fn suffix(&self) -> &[u8] {
        let all = self.as_bytes();
        &all[all.len().saturating_sub(self.suffix as usize)..]
    }
}

impl fmt::Debug for Aad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aad({:02x?}, {:02x?})", self.prefix(), self.suffix())
    }
}
