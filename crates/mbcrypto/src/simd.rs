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
    /// How many of a vector's bytes are meant, from the first on.
    type Mask: Copy;
    /// Blocks in a vector: 1, 2 or 4.
    const LANES: usize;

    fn zero(self) -> Self::V;
    /// One block in every lane.
    fn broadcast(self, block: &Block) -> Self::V;
    /// One block in the first lane; zero elsewhere.
    fn first_lane(self, block: &Block) -> Self::V;
    /// Bytes 12 to 15 of every lane, the place of a counter block's counter; zero elsewhere. `word` as it is in memory.
    fn counter(self, word: u32) -> Self::V;
    /// The first half of the lanes of `a`, the others of `b`. Of one lane, that of `b`.
    fn halves(self, a: Self::V, b: Self::V) -> Self::V;

    /// # Safety
    /// `from` is valid for reads of a vector; any alignment.
    unsafe fn load(self, from: *const u8) -> Self::V;
    /// # Safety
    /// `to` is valid for writes of a vector; any alignment.
    unsafe fn store(self, to: *mut u8, vector: Self::V);

    /// The first `count` bytes of a vector: at most 16 for each lane.
    fn mask(self, count: usize) -> Self::Mask;
    /// The masked bytes of a vector that begins at `from`; zero elsewhere.
    ///
    /// # Safety
    /// The masked bytes, counted from `from`, are valid for reads.
    unsafe fn load_masked(self, from: *const u8, mask: Self::Mask) -> Self::V;
    /// Writes the masked bytes of a vector that begins at `to`, and no others.
    ///
    /// # Safety
    /// The masked bytes, counted from `to`, are valid for writes.
    unsafe fn store_masked(self, to: *mut u8, mask: Self::Mask, vector: Self::V);
    /// The masked bytes; zero elsewhere.
    fn keep(self, mask: Self::Mask, vector: Self::V) -> Self::V;

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
    /// The sum of all lanes, in the first one; zero elsewhere.
    fn add_lanes(self, vector: Self::V) -> Self::V;
    /// Lane `i` of the result is the sum of the lanes of `vectors[i]`. Takes `LANES` vectors.
    fn fold(self, vectors: &[Self::V; 4]) -> Self::V;
}
