//! Two blocks a vector: AVX2 with VAES and VPCLMULQDQ (Alder Lake, Zen 3).

use core::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm_xor_si128, _mm256_aesenc_epi128, _mm256_aesenclast_epi128, _mm256_and_si256, _mm256_blend_epi32,
    _mm256_broadcastsi128_si256, _mm256_castsi256_si128, _mm256_clmulepi64_epi128, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_permute2x128_si256,
    _mm256_set_m128i, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_shuffle_epi32, _mm256_storeu_si256, _mm256_xor_si256,
    _mm256_zextsi128_si256,
};

use crate::batch::Backend;
use crate::gcm;
use crate::gmac::{self, Message};
use crate::key::Key;
use crate::packet::{Batch, Block, Tags};
use crate::simd::Simd;

use super::Schedule;
use super::partial::{KEEP, load_up_to_16, store_up_to_16};

/// Vectors in a chunk of GMAC: eight, so 16 blocks.
const CHUNK: usize = 8;

/// Proof that the processor has AVX2, VAES and VPCLMULQDQ.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// `None` if the processor or the operating system lacks something.
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("vaes") && is_x86_feature_detected!("vpclmulqdq") && super::base_detected();
        has.then_some(Self(()))
    }
}

impl Backend for Avx2 {
    type Schedule = Schedule;

    #[inline(always)]
    fn schedule(key: &Key) -> Option<(&Schedule, usize)> {
        super::schedule(key)
    }

    fn seal(self, batch: &mut Batch<'_, '_, Schedule>, tags: &mut Tags) {
        // SAFETY: the token is proof of the instructions.
        unsafe { seal(self, batch, tags) }
    }

    fn open(self, batch: &mut Batch<'_, '_, Schedule>, tags: &mut Tags) {
        // SAFETY: the token is proof of the instructions.
        unsafe { open(self, batch, tags) }
    }

    fn authenticate(self, messages: &[Message<'_, Schedule>], tags: &mut Tags) {
        // SAFETY: the token is proof of the instructions.
        unsafe { authenticate(self, messages, tags) }
    }
}

#[target_feature(enable = "avx2,vaes,vpclmulqdq,aes,pclmulqdq,ssse3,sse4.1")]
fn seal(token: Avx2, batch: &mut Batch<'_, '_, Schedule>, tags: &mut Tags) {
    gcm::run::<_, false>(token, batch, tags);
}

#[target_feature(enable = "avx2,vaes,vpclmulqdq,aes,pclmulqdq,ssse3,sse4.1")]
fn open(token: Avx2, batch: &mut Batch<'_, '_, Schedule>, tags: &mut Tags) {
    gcm::run::<_, true>(token, batch, tags);
}

#[target_feature(enable = "avx2,vaes,vpclmulqdq,aes,pclmulqdq,ssse3,sse4.1")]
fn authenticate(token: Avx2, messages: &[Message<'_, Schedule>], tags: &mut Tags) {
    gmac::run::<_, CHUNK>(token, messages, tags);
}

// Every intrinsic below needs one of the instruction sets that `Avx2` is proof of; nothing else is asked of the caller,
// except where a pointer is involved.
impl Simd for Avx2 {
    type V = __m256i;
    type Mask = usize;
    const LANES: usize = 2;

    #[inline(always)]
    fn zero(self) -> __m256i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn broadcast(self, block: &Block) -> __m256i {
        // SAFETY: the reference is valid for 16 bytes.
        let one = unsafe { _mm_loadu_si128(block.as_ptr().cast()) };
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm256_broadcastsi128_si256(one) }
    }

    #[inline(always)]
    fn first_lane(self, block: &Block) -> __m256i {
        // SAFETY: the reference is valid for 16 bytes.
        let one = unsafe { _mm_loadu_si128(block.as_ptr().cast()) };
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm256_zextsi128_si256(one) }
    }

    #[inline(always)]
    fn counter(self, word: u32) -> __m256i {
        // SAFETY: the token is proof of the instruction.
        let all = unsafe { _mm256_set1_epi32(word.cast_signed()) };
        // SAFETY: as above.
        unsafe { _mm256_blend_epi32::<0b1000_1000>(self.zero(), all) }
    }

    #[inline(always)]
    fn halves(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm256_blend_epi32::<0b1111_0000>(a, b) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8, vector: __m256i) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), vector) }
    }

    #[inline(always)]
    fn mask(self, count: usize) -> usize {
        count
    }

    #[inline(always)]
    unsafe fn load_masked(self, from: *const u8, mask: usize) -> __m256i {
        if mask == 32 {
            // SAFETY: the caller's promise: the whole vector is in the mask.
            return unsafe { self.load(from) };
        }
        // SAFETY: the caller's promise: these are the mask's bytes in the first lane.
        let lower = unsafe { load_up_to_16(from, mask.min(16)) };
        // SAFETY: the caller's promise: these are the mask's bytes in the second lane.
        let upper = unsafe { load_up_to_16(from.wrapping_add(16), mask.saturating_sub(16)) };
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm256_set_m128i(upper, lower) }
    }

    #[inline(always)]
    unsafe fn store_masked(self, to: *mut u8, mask: usize, vector: __m256i) {
        if mask == 32 {
            // SAFETY: the caller's promise: the whole vector is in the mask.
            return unsafe { self.store(to, vector) };
        }
        // SAFETY: the token is proof of the instruction.
        let lower: __m128i = unsafe { _mm256_castsi256_si128(vector) };
        // SAFETY: the caller's promise: these are the mask's bytes in the first lane.
        unsafe { store_up_to_16(to, mask.min(16), lower) };
        // SAFETY: the token is proof of the instruction.
        let upper = unsafe { _mm256_extracti128_si256::<1>(vector) };
        // SAFETY: the caller's promise: these are the mask's bytes in the second lane.
        unsafe { store_up_to_16(to.wrapping_add(16), mask.saturating_sub(16), upper) };
    }

    #[inline(always)]
    fn keep(self, mask: usize, vector: __m256i) -> __m256i {
        // SAFETY: 64 bytes of table, and a mask is at most 32.
        let bits = unsafe { self.load(KEEP.as_ptr().wrapping_add(32 - mask)) };
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm256_and_si256(bits, vector) }
    }

    #[inline(always)]
    fn xor(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm256_xor_si256(a, b) }
    }

    #[inline(always)]
    fn aes(self, state: __m256i, key: __m256i) -> __m256i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm256_aesenc_epi128(state, key) }
    }

    #[inline(always)]
    fn aes_last(self, state: __m256i, key: __m256i) -> __m256i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm256_aesenclast_epi128(state, key) }
    }

    #[inline(always)]
    fn multiply<const HALVES: i32>(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm256_clmulepi64_epi128::<HALVES>(a, b) }
    }

    #[inline(always)]
    fn swap_halves(self, vector: __m256i) -> __m256i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm256_shuffle_epi32::<0x4e>(vector) }
    }

    #[inline(always)]
    fn shuffle(self, vector: __m256i, control: __m256i) -> __m256i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm256_shuffle_epi8(vector, control) }
    }

    #[inline(always)]
    fn add_lanes(self, vector: __m256i) -> __m256i {
        // SAFETY: the token is proof of the instruction.
        let low: __m128i = unsafe { _mm256_castsi256_si128(vector) };
        // SAFETY: as above.
        let high = unsafe { _mm256_extracti128_si256::<1>(vector) };
        // SAFETY: as above.
        let sum = unsafe { _mm_xor_si128(low, high) };
        // SAFETY: as above.
        unsafe { _mm256_zextsi128_si256(sum) }
    }

    #[inline(always)]
    fn fold(self, [a, b, _, _]: &[__m256i; 4]) -> __m256i {
        // Lanes (a0 b0) and (a1 b1).
        // SAFETY: the token is proof of the instruction.
        let low = unsafe { _mm256_permute2x128_si256::<0x20>(*a, *b) };
        // SAFETY: as above.
        let high = unsafe { _mm256_permute2x128_si256::<0x31>(*a, *b) };
        self.xor(low, high)
    }
}
