//! A key as all x86 paths use it: AES's round keys and the powers of H.

use core::arch::x86_64::{
    __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128, _mm_clmulepi64_si128, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_set1_epi32,
    _mm_setzero_si128, _mm_shuffle_epi32, _mm_xor_si128,
};

use core::marker::PhantomData;
use core::mem::offset_of;
use core::sync::atomic::{Ordering, compiler_fence};

use zeroize::{Zeroize, Zeroizing};

use crate::ghash::POLYNOMIAL;
use crate::packet::Block;
use crate::simd::Simd;

/// Powers of H that are kept: for twelve vectors of four blocks, and the length block.
const POWERS: usize = 49;

/// Round keys and powers of H, in the order in which they make a short packet touch few cache lines of 64 bytes. The powers for a
/// text of whole vectors of four blocks are aligned; a packet of 64 bytes under AES-128 needs the five lines from there on.
#[repr(C, align(64))]
pub(crate) struct Schedule {
    /// H^49 to H^1, byte-reversed, times x^-1.
    powers: [Block; POWERS],
    rounds: Rounds,
    icv_length: u8,
    pad: [u8; 14],
    /// Loads of the last powers reach here. What they get is multiplied with zero.
    round_keys: [Block; 15],
}

/// Rounds of AES (FIPS 197 section 5, table 3).
#[derive(Clone, Copy)]
#[repr(u8)]
enum Rounds {
    Ten = 10,
    Twelve = 12,
    Fourteen = 14,
}

impl Schedule {
    /// A place for a key of 16, 24 or 32 bytes, with nothing in it yet; `None` for any other length, or where the processor has no AES instructions.
    pub(crate) fn empty(key_length: usize, icv_length: u8) -> Option<Self> {
        let rounds = match key_length {
            16 => Rounds::Ten,
            24 => Rounds::Twelve,
            32 => Rounds::Fourteen,
            _ => return None,
        };
        if !super::base_detected() {
            return None;
        }
        Some(Self { powers: [[0; 16]; POWERS], rounds, icv_length, pad: [0; 14], round_keys: [[0; 16]; 15] })
    }

    /// Expands a key, as long as [`Schedule::empty`] was told.
    pub(crate) fn fill(&mut self, key: &[u8]) {
        // SAFETY: the processor has the instructions, as `empty` has asked.
        unsafe { self.expand(key) };
        // SAFETY: as above.
        unsafe { self.raise() };
    }

    #[inline(always)]
    pub(crate) fn icv_length(&self) -> usize {
        self.icv_length as usize
    }

    #[inline(always)]
    pub(crate) fn rounds(&self) -> usize {
        self.rounds as usize
    }

    /// Round key `round`, at most 14.
    #[inline(always)]
    pub(crate) fn round_key(&self, round: usize) -> &Block {
        &self.round_keys[round]
    }

    /// The keys of all rounds but the last; the first round key, which is added before them, is not one of them.
    #[inline(always)]
    pub(crate) fn inner_keys(&self) -> &[Block] {
        &self.round_keys[1..self.rounds()]
    }

    /// The key of the last round.
    #[inline(always)]
    pub(crate) fn last_key(&self) -> &Block {
        &self.round_keys[self.rounds()]
    }

    /// H to the power of `exponent`, 1 to 49.
    #[inline(always)]
    pub(crate) fn power(&self, exponent: usize) -> &Block {
        &self.powers[POWERS - exponent]
    }

    /// A vector of descending powers, beginning with `exponent`, 1 to 49. After the first there is something else.
    #[inline(always)]
    pub(crate) fn powers_from<S: Simd>(&self, s: S, exponent: usize) -> S::V {
        assert!(exponent.wrapping_sub(1) < POWERS, "there is no such power");
        let first = core::ptr::from_ref(self).cast::<u8>().wrapping_add(offset_of!(Self, powers) + 16 * (POWERS - exponent));
        // SAFETY: a vector is at most 64 bytes; from the last power on, there are as many in the schedule.
        unsafe { s.load(first) }
    }

    /// Descending powers, one for each block, for so many `vectors`; the first is H to the power of `first`, and the last vector has at least H.
    #[inline(always)]
    pub(crate) fn powers<S: Simd>(&self, first: usize, vectors: usize) -> Powers<'_> {
        assert!(first <= POWERS && first > vectors.saturating_sub(1) * S::LANES, "there are no such powers");
        let first = core::ptr::from_ref(self).cast::<u8>().wrapping_add(offset_of!(Self, powers) + 16 * (POWERS - first));
        Powers { first, vectors, borrowed: PhantomData }
    }

    /// FIPS 197 section 5.2, algorithm 2, word by word.
    #[target_feature(enable = "aes,sse2")]
    fn expand(&mut self, key: &[u8]) {
        let mut words = Zeroizing::new([0_u32; 60]);
        // FIPS 197 table 3: there are six rounds more than words in the key.
        let in_key = self.rounds() - 6;
        for (word, bytes) in words.iter_mut().take(in_key).zip(key.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let mut constant = 1_u32;
        for i in in_key..4 * (self.rounds() + 1) {
            let mut word = words[i - 1];
            if i % in_key == 0 {
                word = substitute(word).rotate_right(8) ^ constant;
                constant = (constant << 1) ^ (if constant & 0x80 != 0 { 0x11b } else { 0 });
            } else if in_key > 6 && i % in_key == 4 {
                word = substitute(word);
            }
            words[i] = words[i - in_key] ^ word;
        }
        for (block, words) in self.round_keys.iter_mut().zip(words.as_chunks::<4>().0) {
            for (bytes, word) in block.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                *bytes = word.to_le_bytes();
            }
        }
    }

    /// H is the encrypted block of zero (NIST SP 800-38D section 7.1 step 1); its powers.
    #[target_feature(enable = "aes,pclmulqdq,sse2")]
    fn raise(&mut self) {
        let mut h = _mm_xor_si128(_mm_setzero_si128(), load(self.round_key(0)));
        for round in 1..self.rounds() {
            h = _mm_aesenc_si128(h, load(self.round_key(round)));
        }
        h = _mm_aesenclast_si128(h, load(self.round_key(self.rounds())));
        let mut bytes = Zeroizing::new([0; 16]);
        store(&mut bytes, h);
        // Times x^-1: a shift towards higher bits; the bit that falls out, the coefficient of x^0, is x^-1 in the field.
        let mut number = u128::from_be_bytes(*bytes);
        let fallen_out = (number >> 127).wrapping_neg();
        number = (number << 1) ^ (fallen_out & u128::from_le_bytes(POLYNOMIAL));
        *bytes = number.to_le_bytes();
        number.zeroize();
        let first = load(&bytes);
        let mut powers = self.powers.rchunks_exact_mut(4);
        let mut latest = [first; 4];
        for i in 1..4 {
            latest[i] = multiply(latest[i - 1], first);
        }
        // Four do not wait for each other: a power is the fourth before it times H^4.
        let fourth = latest[3];
        for places in &mut powers {
            for (place, power) in places.iter_mut().rev().zip(&mut latest) {
                store(place, *power);
                *power = multiply(*power, fourth);
            }
        }
        for (place, power) in powers.into_remainder().iter_mut().rev().zip(&latest) {
            store(place, *power);
        }
    }
}

/// Descending powers of H, one for each block.
#[derive(Clone, Copy)]
pub(crate) struct Powers<'a> {
    first: *const u8,
    vectors: usize,
    borrowed: PhantomData<&'a Schedule>,
}

impl Powers<'_> {
    /// For how many vectors there are powers.
    #[inline(always)]
    pub(crate) fn vectors(self) -> usize {
        self.vectors
    }

    /// Those of vector `k`. After H there is something else.
    ///
    /// # Safety
    /// There are powers for more than `k` vectors.
    #[inline(always)]
    pub(crate) unsafe fn vector<S: Simd>(self, s: S, k: usize) -> S::V {
        // SAFETY: a vector is at most 64 bytes. With the caller's promise it begins with one of the schedule's powers, and even from the
        // last of them on there are as many bytes in the schedule.
        unsafe { s.load(self.first.wrapping_add(16 * S::LANES * k)) }
    }
}

impl Drop for Schedule {
    // All blocks of a schedule begin at multiples of 16 bytes.
    #[allow(clippy::cast_ptr_alignment)]
    fn drop(&mut self) {
        for block in self.powers.iter_mut().chain(&mut self.round_keys) {
            // One write instead of one for each byte, of which there are a thousand.
            // SAFETY: the reference is valid for a write of the block, and the alignment is as said above.
            unsafe { core::ptr::from_mut(block).cast::<u128>().write_volatile(0) };
        }
        compiler_fence(Ordering::SeqCst);
    }
}

/// SubWord (FIPS 197 section 5.2).
#[target_feature(enable = "aes,sse2")]
fn substitute(word: u32) -> u32 {
    let all = _mm_set1_epi32(word.cast_signed());
    _mm_cvtsi128_si32(_mm_aeskeygenassist_si128::<0>(all)).cast_unsigned()
}

/// Product in the field; see [`crate::gcm`].
#[target_feature(enable = "pclmulqdq,sse2")]
fn multiply(a: __m128i, b: __m128i) -> __m128i {
    let polynomial = load(&POLYNOMIAL);
    let low = _mm_clmulepi64_si128::<0x00>(a, b);
    let middle = _mm_xor_si128(_mm_clmulepi64_si128::<0x01>(a, b), _mm_clmulepi64_si128::<0x10>(a, b));
    let high = _mm_clmulepi64_si128::<0x11>(a, b);
    let fold = |from: __m128i, to: __m128i| {
        let swapped = _mm_shuffle_epi32::<0x4e>(from);
        _mm_xor_si128(to, _mm_xor_si128(swapped, _mm_clmulepi64_si128::<0x01>(polynomial, from)))
    };
    fold(fold(low, middle), high)
}

#[target_feature(enable = "sse2")]
fn load(block: &Block) -> __m128i {
    // SAFETY: the reference is valid for 16 bytes.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

#[target_feature(enable = "sse2")]
fn store(block: &mut Block, vector: __m128i) {
    // SAFETY: the reference is valid for 16 bytes.
    unsafe { core::arch::x86_64::_mm_storeu_si128(block.as_mut_ptr().cast(), vector) }
}
