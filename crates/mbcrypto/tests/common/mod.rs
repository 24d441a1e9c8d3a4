//! What the tests share: jobs, a reproducible source of numbers, and two other implementations.
#![allow(dead_code, unreachable_pub)]

pub mod task;

use aes_gcm::aead::KeyInit;
use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm, aead::AeadInOut, aead::inout::InOutBuf};
use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use mbcrypto::{AadParts, Authenticate, Kernel, Key, MacParts, Nonce as PacketNonce, Open, OpenParts, Path, Seal, SealParts, Text};

/// Bytes around a text that nobody may touch.
pub const GUARD: usize = 64;

/// All kernels that this processor has. The test machines of the project have all.
pub fn kernels() -> Vec<Kernel> {
    Path::ALL.into_iter().filter_map(Kernel::new).collect()
}

/// A packet in a buffer of its own, with guards around it, for seal and for open.
pub struct Job<'a> {
    pub key: &'a Key,
    pub nonce: [u8; 12],
    pub aad: Vec<u8>,
    /// Guard, text, guard; the text begins `GUARD + shift` from the start.
    buffer: Vec<u8>,
    shift: usize,
    length: usize,
    /// The input, when it is not in place.
    source: Option<Vec<u8>>,
    pub tag: Vec<u8>,
    pub good: Option<bool>,
    pub skip: bool,
}

impl<'a> Job<'a> {
    pub fn new(key: &'a Key, nonce: [u8; 12], aad: &[u8], text: &[u8], shift: usize, copy: bool, tag: &[u8]) -> Self {
        let mut job = Self {
            key,
            nonce,
            aad: aad.to_vec(),
            buffer: vec![0xa5; 2 * GUARD + 64 + text.len()],
            shift,
            length: text.len(),
            source: copy.then(|| text.to_vec()),
            tag: tag.to_vec(),
            good: None,
            skip: false,
        };
        if !copy {
            job.text_mut().copy_from_slice(text);
        }
        job
    }

    fn text_mut(&mut self) -> &mut [u8] {
        let begin = GUARD + self.shift;
        &mut self.buffer[begin..begin + self.length]
    }

    pub fn text(&self) -> &[u8] {
        let begin = GUARD + self.shift;
        &self.buffer[begin..begin + self.length]
    }

    pub fn in_place(&self) -> bool {
        self.source.is_none()
    }

    /// Makes the destination of a copy longer or shorter than its source.
    pub fn resize_source(&mut self, length: usize) {
        self.source = Some(vec![1; length]);
    }

    /// Fails if a byte around the text has changed.
    pub fn check_guards(&self) {
        let begin = GUARD + self.shift;
        let around = self.buffer[..begin].iter().chain(&self.buffer[begin + self.length..]);
        assert!(around.into_iter().all(|&byte| byte == 0xa5), "something was written beside {} bytes of text", self.length);
    }

    fn place(&mut self) -> (Text<'_>, &Key, PacketNonce, AadParts<'_>, &mut Vec<u8>) {
        let begin = GUARD + self.shift;
        let dst = &mut self.buffer[begin..begin + self.length];
        let text = match &self.source {
            Some(src) => Text::Copy { src, dst },
            None => Text::InPlace(dst),
        };
        // Every other packet hands over by value what it can.
        let [a, b, c, d, iv @ ..] = self.nonce;
        let salted = PacketNonce::salted([a, b, c, d], iv);
        let (nonce, aad) = match *self.aad {
            [s0, s1, s2, s3, n0, n1, n2, n3] if self.length % 2 == 1 => (salted, AadParts::Esp { header: [s0, s1, s2, s3, n0, n1, n2, n3], high: None }),
            [s0, s1, s2, s3, h0, h1, h2, h3, n0, n1, n2, n3] if self.length % 2 == 1 => {
                let aad = AadParts::Esp { header: [s0, s1, s2, s3, n0, n1, n2, n3], high: Some(u32::from_be_bytes([h0, h1, h2, h3])) };
                (salted, aad)
            }
            _ => (PacketNonce::new(&self.nonce), AadParts::Bytes(&self.aad)),
        };
        (text, self.key, nonce, aad, &mut self.tag)
    }
}

impl Seal for Job<'_> {
    fn parts(&mut self) -> Option<SealParts<'_>> {
        if self.skip {
            return None;
        }
        let (text, key, nonce, aad, tag) = self.place();
        Some(SealParts { key, nonce, aad, text, tag })
    }

    fn conclude(&mut self, good: bool) {
        assert!(self.good.is_none(), "concluded twice");
        self.good = Some(good);
    }
}

impl Open for Job<'_> {
    fn parts(&mut self) -> Option<OpenParts<'_>> {
        if self.skip {
            return None;
        }
        let (text, key, nonce, aad, tag) = self.place();
        Some(OpenParts { key, nonce, aad, text, tag })
    }

    fn conclude(&mut self, good: bool) {
        assert!(self.good.is_none(), "concluded twice");
        self.good = Some(good);
    }
}

/// Something to authenticate.
pub struct Mac<'a> {
    pub key: &'a Key,
    pub nonce: [u8; 12],
    pub data: &'a [&'a [u8]],
    pub tag: Option<[u8; 16]>,
    pub concluded: bool,
    pub skip: bool,
}

impl Authenticate for Mac<'_> {
    fn parts(&self) -> Option<MacParts<'_>> {
        (!self.skip).then_some(MacParts { key: self.key, nonce: &self.nonce, data: self.data })
    }

    fn conclude(&mut self, tag: Option<&[u8; 16]>) {
        assert!(!self.concluded, "concluded twice");
        self.concluded = true;
        self.tag = tag.copied();
    }
}

/// A key of two other implementations.
pub struct Reference {
    aws_lc: LessSafeKey,
    rust_crypto: RustCrypto,
}

enum RustCrypto {
    Aes128(Box<Aes128Gcm>),
    Aes192(Box<AesGcm<aes_gcm::aes::Aes192, U12>>),
    Aes256(Box<Aes256Gcm>),
}

impl Reference {
    pub fn new(key: &[u8]) -> Self {
        fn boxed<A: KeyInit>(key: &[u8]) -> Box<A> {
            Box::new(A::new_from_slice(key).unwrap())
        }
        let (algorithm, rust_crypto) = match key.len() {
            16 => (&AES_128_GCM, RustCrypto::Aes128(boxed(key))),
            24 => (&AES_192_GCM, RustCrypto::Aes192(boxed(key))),
            _ => (&AES_256_GCM, RustCrypto::Aes256(boxed(key))),
        };
        Self { aws_lc: LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap()), rust_crypto }
    }

    /// Ciphertext and tag as aws-lc-rs makes them, which is asserted to be what RustCrypto makes.
    pub fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &[u8]) -> (Vec<u8>, [u8; 16]) {
        let mut sealed = text.to_vec();
        let tag = self.aws_lc.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut sealed).unwrap();
        let tag: [u8; 16] = tag.as_ref().try_into().unwrap();
        let other = match &self.rust_crypto {
            RustCrypto::Aes128(key) => rust_crypto(&**key, nonce, aad, text),
            RustCrypto::Aes192(key) => rust_crypto(&**key, nonce, aad, text),
            RustCrypto::Aes256(key) => rust_crypto(&**key, nonce, aad, text),
        };
        assert_eq!((&sealed, tag), (&other.0, other.1), "the references disagree");
        (sealed, tag)
    }
}

/// [`Reference::seal`] with a key that is used once.
pub fn reference(key: &[u8], nonce: [u8; 12], aad: &[u8], text: &[u8]) -> (Vec<u8>, [u8; 16]) {
    Reference::new(key).seal(nonce, aad, text)
}

fn rust_crypto<A>(key: &A, nonce: [u8; 12], aad: &[u8], text: &[u8]) -> (Vec<u8>, [u8; 16])
where
    A: AeadInOut<NonceSize = U12, TagSize = U16>,
{
    let mut sealed = text.to_vec();
    let tag = key.encrypt_inout_detached(&nonce.into(), aad, InOutBuf::from(sealed.as_mut_slice())).unwrap();
    (sealed, tag.into())
}

/// Numbers that look random and are the same in every run (xorshift64).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 32) as usize) % limit
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.next() >> 56) as u8).collect()
    }

    /// A key of one of AES's lengths.
    pub fn key(&mut self) -> Vec<u8> {
        let length = [16, 24, 32][self.below(3)];
        self.bytes(length)
    }

    pub fn nonce(&mut self) -> [u8; 12] {
        self.bytes(12).try_into().unwrap()
    }
}
