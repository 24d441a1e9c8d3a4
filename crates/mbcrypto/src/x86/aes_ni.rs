//! One block a vector: AES-NI and PCLMULQDQ (Westmere and later; the Zen family from the first).

use core::arch::x86_64::{
    __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_and_si128, _mm_clmulepi64_si128, _mm_insert_epi32, _mm_loadu_si128, _mm_setzero_si128,
    _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128, _mm_xor_si128,
};

use crate::batch::Backend;
use crate::gcm;
use crate::gmac::{self, Message};
use crate::key::Key;
use crate::packet::{Batch, Block, Tags};
use crate::simd::Simd;

use super::Schedule;
use super::partial::{KEEP, load_up_to_16, store_up_to_16};

/// Vectors, and so blocks, in a chunk of GMAC.
const CHUNK: usize = 8;

/// Proof that the processor has AES-NI, PCLMULQDQ, SSSE3 and SSE4.1.
#[derive(Clone, Copy)]
pub(crate) struct AesNi(());

impl AesNi {
    /// `None` if the processor lacks something.
    pub(crate) fn detect() -> Option<Self> {
        super::base_detected().then_some(Self(()))
    }
}

impl Backend for AesNi {
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

#[target_feature(enable = "aes,pclmulqdq,ssse3,sse4.1")]
fn seal(token: AesNi, batch: &mut Batch<'_, '_, Schedule>, tags: &mut Tags) {
    gcm::run::<_, false>(token, batch, tags);
}

#[target_feature(enable = "aes,pclmulqdq,ssse3,sse4.1")]
fn open(token: AesNi, batch: &mut Batch<'_, '_, Schedule>, tags: &mut Tags) {
    gcm::run::<_, true>(token, batch, tags);
}

#[target_feature(enable = "aes,pclmulqdq,ssse3,sse4.1")]
fn authenticate(token: AesNi, messages: &[Message<'_, Schedule>], tags: &mut Tags) {
    gmac::run::<_, CHUNK>(token, messages, tags);
}

// Every intrinsic below needs one of the instruction sets that `AesNi` is proof of; nothing else is asked of the caller,
// except where a pointer is involved.
impl Simd for AesNi {
    type V = __m128i;
    type Mask = usize;
    const LANES: usize = 1;

    #[inline(always)]
    fn zero(self) -> __m128i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm_setzero_si128() }
    }

    #[inline(always)]
    fn broadcast(self, block: &Block) -> __m128i {
        // SAFETY: the reference is valid for 16 bytes.
        unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
    }

    #[inline(always)]
    fn first_lane(self, block: &Block) -> __m128i {
        self.broadcast(block)
    }

    #[inline(always)]
    fn counter(self, word: u32) -> __m128i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm_insert_epi32::<3>(self.zero(), word.cast_signed()) }
    }

    #[inline(always)]
    fn halves(self, _a: __m128i, b: __m128i) -> __m128i {
        b
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m128i {
        // SAFETY: the caller's promise.
        unsafe { _mm_loadu_si128(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8, vector: __m128i) {
        // SAFETY: the caller's promise.
        unsafe { _mm_storeu_si128(to.cast(), vector) }
    }

    #[inline(always)]
    fn mask(self, count: usize) -> usize {
        count
    }

    #[inline(always)]
    unsafe fn load_masked(self, from: *const u8, mask: usize) -> __m128i {
        // SAFETY: the caller's promise.
        unsafe { load_up_to_16(from, mask) }
    }

    #[inline(always)]
    unsafe fn store_masked(self, to: *mut u8, mask: usize, vector: __m128i) {
        // SAFETY: the caller's promise.
        unsafe { store_up_to_16(to, mask, vector) };
    }

    #[inline(always)]
    fn keep(self, mask: usize, vector: __m128i) -> __m128i {
        // SAFETY: 64 bytes of table, and a mask is at most 16.
        let bits = unsafe { self.load(KEEP.as_ptr().wrapping_add(32 - mask)) };
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm_and_si128(bits, vector) }
    }

    #[inline(always)]
    fn xor(self, a: __m128i, b: __m128i) -> __m128i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm_xor_si128(a, b) }
    }

    #[inline(always)]
    fn aes(self, state: __m128i, key: __m128i) -> __m128i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm_aesenc_si128(state, key) }
    }

    #[inline(always)]
    fn aes_last(self, state: __m128i, key: __m128i) -> __m128i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm_aesenclast_si128(state, key) }
    }

    #[inline(always)]
    fn multiply<const HALVES: i32>(self, a: __m128i, b: __m128i) -> __m128i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm_clmulepi64_si128::<HALVES>(a, b) }
    }

    #[inline(always)]
    fn swap_halves(self, vector: __m128i) -> __m128i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm_shuffle_epi32::<0x4e>(vector) }
    }

    #[inline(always)]
    fn shuffle(self, vector: __m128i, control: __m128i) -> __m128i {
        // SAFETY: the token is proof of the instruction.
        unsafe { _mm_shuffle_epi8(vector, control) }
    }

    #[inline(always)]
    fn add_lanes(self, vector: __m128i) -> __m128i {
        vector
    }

    #[inline(always)]
    fn fold(self, [a, _, _, _]: &[__m128i; 4]) -> __m128i {
        *a
    }
}
