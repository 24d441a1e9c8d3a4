//! Four blocks a vector: AVX-512 with VAES and VPCLMULQDQ (Ice Lake, Zen 4 and later).

use core::arch::x86_64::{
    __m128i, __m256i, __m512i, _bzhi_u64, _mm_loadu_si128, _mm_xor_si128, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_xor_si256,
    _mm512_aesenc_epi128, _mm512_aesenclast_epi128, _mm512_broadcast_i32x4, _mm512_castsi512_si256, _mm512_clmulepi64_epi128, _mm512_extracti64x4_epi64,
    _mm512_loadu_si512, _mm512_mask_mov_epi64, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8, _mm512_maskz_mov_epi8, _mm512_maskz_set1_epi32,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_shuffle_epi32, _mm512_shuffle_i64x2, _mm512_storeu_si512, _mm512_xor_si512, _mm512_zextsi128_si512,
};

use crate::batch::Backend;
use crate::gcm;
use crate::gmac::{self, Message};
use crate::key::Key;
use crate::packet::{Batch, Block, Tags};
use crate::simd::Simd;

use super::Schedule;

/// Vectors in a chunk of GMAC: four, so 16 blocks.
const CHUNK: usize = 4;

/// Proof that the processor has AVX-512 (F, BW, DQ, VL), AVX2, VAES, VPCLMULQDQ and BMI2.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// `None` if the processor or the operating system lacks something.
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("avx2")
            && super::base_detected();
        has.then_some(Self(()))
    }
}

impl Backend for Avx512 {
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

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,bmi2,avx2,aes,pclmulqdq,ssse3,sse4.1")]
fn seal(token: Avx512, batch: &mut Batch<'_, '_, Schedule>, tags: &mut Tags) {
    gcm::run::<_, false>(token, batch, tags);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,bmi2,avx2,aes,pclmulqdq,ssse3,sse4.1")]
fn open(token: Avx512, batch: &mut Batch<'_, '_, Schedule>, tags: &mut Tags) {
    gcm::run::<_, true>(token, batch, tags);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,bmi2,avx2,aes,pclmulqdq,ssse3,sse4.1")]
fn authenticate(token: Avx512, messages: &[Message<'_, Schedule>], tags: &mut Tags) {
    gmac::run::<_, CHUNK>(token, messages, tags);
}

// Every intrinsic below needs one of the instruction sets that `Avx512` is proof of; nothing else is asked of the caller,
// except where a pointer is involved.
impl Simd for Avx512 {
    type V = __m512i;
    type Mask = u64;
    const LANES: usize = 4;

    #[inline(always)]
    fn zero(self) -> __m512i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn broadcast(self, block: &Block) -> __m512i {
        // SAFETY: the reference is valid for 16 bytes.
        let one: __m128i = unsafe { _mm_loadu_si128(block.as_ptr().cast()) };
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm512_broadcast_i32x4(one) }
    }

    #[inline(always)]
    fn first_lane(self, block: &Block) -> __m512i {
        // SAFETY: the reference is valid for 16 bytes.
        let one: __m128i = unsafe { _mm_loadu_si128(block.as_ptr().cast()) };
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm512_zextsi128_si512(one) }
    }

    #[inline(always)]
    fn counter(self, word: u32) -> __m512i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm512_maskz_set1_epi32(0x8888, word.cast_signed()) }
    }

    #[inline(always)]
    fn halves(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm512_mask_mov_epi64(a, 0xf0, b) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8, vector: __m512i) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(to.cast(), vector) }
    }

    #[inline(always)]
    fn mask(self, count: usize) -> u64 {
        // SAFETY: the token is proof of the instruction.
        unsafe { _bzhi_u64(u64::MAX, count as u32) }
    }

    #[inline(always)]
    unsafe fn load_masked(self, from: *const u8, mask: u64) -> __m512i {
        // SAFETY: the caller's promise; bytes that are not in the mask are not accessed.
        unsafe { _mm512_maskz_loadu_epi8(mask, from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_masked(self, to: *mut u8, mask: u64, vector: __m512i) {
        // SAFETY: the caller's promise; bytes that are not in the mask are not accessed.
        unsafe { _mm512_mask_storeu_epi8(to.cast(), mask, vector) }
    }

    #[inline(always)]
    fn keep(self, mask: u64, vector: __m512i) -> __m512i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm512_maskz_mov_epi8(mask, vector) }
    }

    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm512_xor_si512(a, b) }
    }

    #[inline(always)]
    fn aes(self, state: __m512i, key: __m512i) -> __m512i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm512_aesenc_epi128(state, key) }
    }

    #[inline(always)]
    fn aes_last(self, state: __m512i, key: __m512i) -> __m512i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm512_aesenclast_epi128(state, key) }
    }

    #[inline(always)]
    fn multiply<const HALVES: i32>(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm512_clmulepi64_epi128::<HALVES>(a, b) }
    }

    #[inline(always)]
    fn swap_halves(self, vector: __m512i) -> __m512i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm512_shuffle_epi32::<0x4e>(vector) }
    }

    #[inline(always)]
    fn shuffle(self, vector: __m512i, control: __m512i) -> __m512i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm512_shuffle_epi8(vector, control) }
    }

    #[inline(always)]
    fn add_lanes(self, vector: __m512i) -> __m512i {
        // SAFETY: the token is proof of the instruction.
        let low: __m256i = unsafe { _mm512_castsi512_si256(vector) };
        // SAFETY: as above.
        let high = unsafe { _mm512_extracti64x4_epi64::<1>(vector) };
        // SAFETY: as above.
        let two = unsafe { _mm256_xor_si256(low, high) };
        // SAFETY: as above.
        let low: __m128i = unsafe { _mm256_castsi256_si128(two) };
        // SAFETY: as above.
        let high = unsafe { _mm256_extracti128_si256::<1>(two) };
        // SAFETY: as above.
        let sum = unsafe { _mm_xor_si128(low, high) };
        // SAFETY: as above.
        unsafe { _mm512_zextsi128_si512(sum) }
    }

    #[inline(always)]
    fn fold(self, vectors: &[__m512i; 4]) -> __m512i {
        let [a, b, c, d] = *vectors;
        // Lanes (a0 a1 b0 b1) and (a2 a3 b2 b3): their sum is (a02 a13 b02 b13).
        let ab = self.xor(lanes::<0x44>(self, a, b), lanes::<0xee>(self, a, b));
        let cd = self.xor(lanes::<0x44>(self, c, d), lanes::<0xee>(self, c, d));
        // Even lanes and odd lanes.
        self.xor(lanes::<0x88>(self, ab, cd), lanes::<0xdd>(self, ab, cd))
    }
}

/// Two lanes of `a`, then two of `b`.
#[inline(always)]
fn lanes<const WHICH: i32>(_token: Avx512, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: the token is proof of the instruction.
    unsafe { _mm512_shuffle_i64x2::<WHICH>(a, b) }
}
