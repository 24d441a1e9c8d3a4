//! What a job carries beside its data: nonce or IV, and what is authenticated before and after the data.

use core::fmt;

/// Nonce or IV of a job. Its length is the algorithm's: 12 bytes for AES-GCM, AES-GMAC and ChaCha20-Poly1305 (salt, then the packet's IV), the block for
/// CBC, none for null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce([u8; Self::MAX]);

impl Nonce {
    /// Most bytes that an algorithm uses.
    pub const MAX: usize = 16;

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

impl Nonce {
    /// As [`mbcrypto`] takes it.
    #[inline(always)]
    pub(crate) const fn for_kernel(&self) -> mbcrypto::Nonce {
        mbcrypto::Nonce::new(self.first())
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
    /// Bytes of all, and 256 times how many of these are behind the data.
    lengths: u16,
}

impl Aad {
    /// Most bytes that fit.
    pub const MAX: usize = 32;

    /// Copies `bytes`, all of them before the data; `None` if there are more than [`Aad::MAX`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut aad = Self { bytes: [0; Self::MAX], lengths: bytes.len().min(Self::MAX) as u16 };
        aad.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(aad)
    }

    /// That of ESP with a combined mode: SPI and sequence number as in the header, 8 bytes; with `extended` sequence numbers SPI and all 64 bits of the
    /// number, 12 bytes (RFC 4106 section 5, figures 2 and 3). `spi` is in network order, as it stands in the packet.
    #[inline]
    pub const fn esp(spi: [u8; 4], sequence: u64, extended: bool) -> Self {
        Register::esp(spi, sequence, extended).aad()
    }

    /// That of ESP with AES-GMAC: as with a combined mode, then the packet's IV (RFC 4543 section 3.3 with erratum 1821).
    #[inline]
    pub const fn gmac(spi: [u8; 4], sequence: u64, extended: bool, iv: [u8; 8]) -> Self {
        Register::gmac(spi, sequence, extended, iv).aad()
    }

    /// That of ESP with separate authentication: the packet's first bytes, and after the data the high half of an extended sequence number (RFC 4303
    /// section 2.2.1). An IV of another length than 8 or 16 bytes, which no cipher has, counts as none.
    #[inline]
    pub const fn encrypt_then_mac(header: [u8; 8], iv: &[u8], high: Option<u32>) -> Self {
        Register::encrypt_then_mac(header, iv, high).aad()
    }

    /// All of it: what comes before the data, then what comes after.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        // Never cut: it is at most `MAX` by construction. `min` tells the compiler so.
        &self.bytes[..Self::MAX.min((self.lengths & 0xff) as usize)]
    }

    /// What is authenticated before the data.
    #[inline]
    pub fn prefix(&self) -> &[u8] {
        let all = self.as_bytes();
        &all[..all.len().saturating_sub((self.lengths >> 8) as usize)]
    }

    /// What is authenticated after the data: nothing, or 4 bytes.
    #[inline]
    pub fn suffix(&self) -> &[u8] {
        let all = self.as_bytes();
        &all[all.len().saturating_sub((self.lengths >> 8) as usize)..]
    }
}

/// Nonce and additional data while a job is made, as numbers: `bytes` of an array are the little-endian ones of a number here.
///
/// An array that is written in pieces and copied right after waits until the pieces have reached the cache, and where two ways of making a job meet the
/// compiler copies; numbers stay in registers until the job is where it belongs.
#[derive(Clone, Copy)]
pub(crate) struct Register {
    words: [u64; 4],
    lengths: u16,
}

impl Register {
    /// [`Aad::esp`].
    #[inline]
    pub(crate) const fn esp(spi: [u8; 4], sequence: u64, extended: bool) -> Self {
        let (high, low) = halves(sequence);
        let spi = u32::from_le_bytes(spi) as u64;
        if extended { Self { words: [spi | high << 32, low, 0, 0], lengths: 12 } } else { Self { words: [spi | low << 32, 0, 0, 0], lengths: 8 } }
    }

    /// [`Aad::esp`], from the ESP header as it stands in the packet and the high half of an `extended` number.
    #[inline]
    pub(crate) const fn header(header: [u8; 8], high: u32, extended: bool) -> Self {
        let header = u64::from_le_bytes(header);
        if extended {
            Self { words: [header & 0xffff_ffff | (high.swap_bytes() as u64) << 32, header >> 32, 0, 0], lengths: 12 }
        } else {
            Self { words: [header, 0, 0, 0], lengths: 8 }
        }
    }

    /// [`Aad::gmac`].
    #[inline]
    pub(crate) const fn gmac(spi: [u8; 4], sequence: u64, extended: bool, iv: [u8; 8]) -> Self {
        let Self { words: [first, second, ..], lengths } = Self::esp(spi, sequence, extended);
        let iv = u64::from_le_bytes(iv);
        let words = if extended { [first, second | iv << 32, iv >> 32, 0] } else { [first, iv, 0, 0] };
        Self { words, lengths: lengths + 8 }
    }

    /// [`Aad::encrypt_then_mac`].
    #[inline]
    pub(crate) const fn encrypt_then_mac(header: [u8; 8], iv: &[u8], high: Option<u32>) -> Self {
        let header = u64::from_le_bytes(header);
        let (suffix, behind) = match high {
            Some(high) => (high.swap_bytes() as u64, 4 | 4 << 8),
            None => (0, 0),
        };
        let (words, length) = match iv.len() {
            8 | 16 => {
                let iv_words = number(iv);
                let (first, second) = (iv_words as u64, (iv_words >> 64) as u64);
                if iv.len() == 8 { ([header, first, suffix, 0], 16) } else { ([header, first, second, suffix], 24) }
            }
            _ => ([header, suffix, 0, 0], 8),
        };
        Self { words, lengths: length + behind }
    }

    /// In its place.
    #[inline]
    pub(crate) const fn aad(self) -> Aad {
        let mut bytes = [0; Aad::MAX];
        let (words, _) = bytes.as_chunks_mut::<8>();
        words[0] = self.words[0].to_le_bytes();
        words[1] = self.words[1].to_le_bytes();
        words[2] = self.words[2].to_le_bytes();
        words[3] = self.words[3].to_le_bytes();
        Aad { bytes, lengths: self.lengths }
    }
}

/// The halves of a sequence number, as they stand in a packet.
#[inline]
const fn halves(sequence: u64) -> (u64, u64) {
    (((sequence >> 32) as u32).swap_bytes() as u64, (sequence as u32).swap_bytes() as u64)
}

/// Up to 16 bytes; of more, the first 16.
#[inline]
const fn number(bytes: &[u8]) -> u128 {
    if let Some(all) = bytes.first_chunk::<16>() {
        return u128::from_le_bytes(*all);
    }
    if let Some(half) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(*half) as u128;
    }
    0
}

/// A nonce while a job is made: a number, for the same reason as [`Register`].
#[derive(Clone, Copy)]
pub(crate) struct NonceRegister(u128);

impl NonceRegister {
    /// Salt, then IV: what AES-GCM, AES-GMAC and ChaCha20-Poly1305 use (RFC 4106 section 4, RFC 4543 section 3.2, RFC 7634 section 2).
    #[inline]
    pub(crate) const fn salted(salt: [u8; 4], iv: [u8; 8]) -> Self {
        Self(u32::from_le_bytes(salt) as u128 | (u64::from_le_bytes(iv) as u128) << 32)
    }

    /// An IV of 0, 8 or 16 bytes as it stands in a packet.
    #[inline]
    pub(crate) const fn iv(iv: &[u8]) -> Self {
        Self(number(iv))
    }
}

impl From<NonceRegister> for Nonce {
    #[inline]
    fn from(NonceRegister(number): NonceRegister) -> Self {
        Self(number.to_le_bytes())
    }
}

impl fmt::Debug for Aad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aad({:02x?}, {:02x?})", self.prefix(), self.suffix())
    }
}
