//! What the kernels need from a processor's vectors.
//!
//! A vector holds [`Simd::LANES`] blocks of 16 bytes side by side; every operation works on each block by itself unless it
//! says otherwise. An implementing type is a token: a value of it exists only after the processor has been
//! asked for its instructions, which is what makes its safe methods safe. All methods are inlined into functions that have
//! these instructions enabled.

use crate::packet::Block;

/// A processor's vectors of blocks.
pub(crate) trait Simd: Copy {
    /// `LANES` blocks.
    type V: Copy;
    /// Which bytes of a vector are meant.
    type Mask: Copy;
    /// Blocks in a vector: 1, 2 or 4.
    const LANES: usize;

    fn zero(self) -> Self::V;
    /// One block in every lane.
    fn broadcast(self, block: &Block) -> Self::V;
    /// One word of 64 bits in both halves of every lane.
    fn splat(self, word: u64) -> Self::V;
    /// Bytes 12 to 15 of every lane, the place of a counter block's counter; zero elsewhere. `word` as it is in memory.
    fn counter(self, word: u32) -> Self::V;

    /// # Safety
    /// `from` is valid for reads of a vector; any alignment.
    unsafe fn load(self, from: *const u8) -> Self::V;
    /// # Safety
    /// `to` is valid for writes of a vector; any alignment.
    unsafe fn store(self, to: *mut u8, vector: Self::V);

    /// Bytes `low..high` of a vector; `low` is a multiple of 16, and `low <= high <= 16 * LANES`.
    fn mask(self, low: usize, high: usize) -> Self::Mask;
    /// The masked bytes of a vector that would begin at `from`; zero elsewhere.
    ///
    /// # Safety
    /// The masked bytes, counted from `from`, are valid for reads.
    unsafe fn load_masked(self, from: *const u8, mask: Self::Mask) -> Self::V;
    /// Writes the masked bytes of a vector that would begin at `to`, and no others.
    ///
    /// # Safety
    /// The masked bytes, counted from `to`, are valid for writes.
    unsafe fn store_masked(self, to: *mut u8, mask: Self::Mask, vector: Self::V);
    /// The masked bytes; zero elsewhere.
    fn keep(self, mask: Self::Mask, vector: Self::V) -> Self::V;
    /// The masked bytes of `vector`, the others of `background`, whose masked bytes are zero.
    fn merge(self, background: Self::V, mask: Self::Mask, vector: Self::V) -> Self::V;

    fn xor(self, a: Self::V, b: Self::V) -> Self::V;
    /// A round of AES (FIPS 197 section 5.1): SubBytes, ShiftRows, MixColumns, AddRoundKey.
    fn aes(self, state: Self::V, key: Self::V) -> Self::V;
    /// The last round: without MixColumns.
    fn aes_last(self, state: Self::V, key: Self::V) -> Self::V;
    /// Product of polynomials over GF(2), of the low (bit clear) or high half of `a` (bit 0 of `HALVES`) and of `b` (bit 4).
    fn multiply<const HALVES: i32>(self, a: Self::V, b: Self::V) -> Self::V;
    /// Swaps the two halves of every lane.
    fn swap_halves(self, vector: Self::V) -> Self::V;
    /// Byte `i` of a lane is byte `control[i]` of that lane of `vector`, zero where `control[i]` is 0x80.
    fn shuffle(self, vector: Self::V, control: Self::V) -> Self::V;
    /// Lane `i` of the result is the sum of the lanes of `vectors[i]`. Takes `LANES` vectors.
    fn fold(self, vectors: &[Self::V; 4]) -> Self::V;
}
