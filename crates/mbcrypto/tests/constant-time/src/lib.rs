//! Jobs whose memory is the caller's, so that nothing is allocated or moved between preparation and measurement.

use mbcrypto::{AadParts, Authenticate, Key, MacParts, Nonce, Open, OpenParts, Seal, SealParts, Text};

/// A packet to seal or to open, and how it went.
pub struct Job<'a> {
    /// Key.
    pub key: &'a Key,
    /// Nonce.
    pub nonce: [u8; 12],
    /// Additional data.
    pub aad: &'a [u8],
    /// Text; in place, without `source`.
    pub text: &'a mut [u8],
    /// Where the text comes from, if not from its place.
    pub source: Option<&'a [u8]>,
    /// Tag, made or to be compared.
    pub tag: &'a mut [u8],
    /// Result.
    pub good: bool,
}

impl Job<'_> {
    fn place<'b>(text: &'b mut [u8], source: Option<&'b [u8]>) -> Text<'b> {
        match source {
            Some(src) => Text::Copy { src, dst: text },
            None => Text::InPlace(text),
        }
    }
}

impl Seal for Job<'_> {
    fn parts(&mut self) -> Option<SealParts<'_>> {
        Some(SealParts {
            key: self.key,
            nonce: Nonce::new(&self.nonce),
            aad: AadParts::Bytes(self.aad),
            text: Self::place(self.text, self.source),
            tag: self.tag,
        })
    }

    fn conclude(&mut self, good: bool) {
        self.good = good;
    }
}

impl Open for Job<'_> {
    fn parts(&mut self) -> Option<OpenParts<'_>> {
        Some(OpenParts {
            key: self.key,
            nonce: Nonce::new(&self.nonce),
            aad: AadParts::Bytes(self.aad),
            text: Self::place(self.text, self.source),
            tag: self.tag,
        })
    }

    fn conclude(&mut self, good: bool) {
        self.good = good;
    }
}

/// Data to authenticate.
pub struct Message<'a> {
    /// Key.
    pub key: &'a Key,
    /// Nonce.
    pub nonce: [u8; 12],
    /// The data.
    pub parts: [&'a [u8]; 3],
    /// Result.
    pub tag: [u8; 16],
}

impl Authenticate for Message<'_> {
    fn parts(&self) -> Option<MacParts<'_>> {
        Some(MacParts { key: self.key, nonce: &self.nonce, data: &self.parts })
    }

    fn conclude(&mut self, tag: Option<&[u8; 16]>) {
        self.tag = *tag.expect("the key is for this kernel");
    }
}

/// Bytes that look random (xorshift64*).
pub struct Numbers(u64);

impl Numbers {
    /// `seed` is not zero.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Fills a place.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = (self.number() >> 56) as u8;
        }
    }
}
