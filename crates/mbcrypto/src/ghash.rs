//! GHASH (NIST SP 800-38D section 6.4) on vectors of any width.
//!
//! Blocks are byte-reversed, which makes bit i of the standard's block (the coefficient of x^i) bit 127 - i of a 128-bit
//! number. The product of two such numbers is one bit short of that form for 255 bits; powers of H are kept multiplied with x^-1, which
//! makes up for it (S. Gueron, M. Kounavis: Intel Carry-Less Multiplication Instruction and its Usage for Computing the GCM
//! Mode, 2014). Products are summed before they are reduced.

use crate::packet::Block;
use crate::simd::Simd;

/// The polynomial x^128 + x^7 + x^2 + x + 1 without its first term, times x^-1, byte-reversed: bits 127 to 64 are the factor that reduction needs.
pub(crate) const POLYNOMIAL: Block = 0xc200_0000_0000_0000_0000_0000_0000_0001_u128.to_le_bytes();

/// Control of a shuffle that reverses the bytes of a block.
pub(crate) const REVERSE: Block = [15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0];

/// Products of 128 by 128 bits, summed but not reduced: `low + middle x^64 + high x^128`.
#[derive(Clone, Copy)]
pub(crate) struct Sums<S: Simd> {
    pub(crate) low: S::V,
    pub(crate) middle: S::V,
    pub(crate) high: S::V,
}

impl<S: Simd> Sums<S> {
    #[inline(always)]
    pub(crate) fn zero(s: S) -> Self {
        Self { low: s.zero(), middle: s.zero(), high: s.zero() }
    }

    /// Adds `x` times `power`, lane by lane.
    #[inline(always)]
    pub(crate) fn add(&mut self, s: S, x: S::V, power: S::V) {
        self.low = s.xor(self.low, s.multiply::<0x00>(x, power));
        self.middle = s.xor(self.middle, s.xor(s.multiply::<0x01>(x, power), s.multiply::<0x10>(x, power)));
        self.high = s.xor(self.high, s.multiply::<0x11>(x, power));
    }

    /// The remainder, and all lanes added up in the first one.
    #[inline(always)]
    pub(crate) fn reduce_to_one(self, s: S) -> S::V {
        s.add_lanes(self.reduce(s))
    }

    /// The remainder modulo the field's polynomial, lane by lane: Montgomery's way, 64 bits at a time from below. A multiple of the
    /// polynomial that has the same low half makes that half zero; what it adds above is the half itself, 64 and 128 bits
    /// further up, and its product with the polynomial's middle.
    #[inline(always)]
    pub(crate) fn reduce(self, s: S) -> S::V {
        let polynomial = s.broadcast(&POLYNOMIAL);
        let middle = s.xor(self.middle, s.xor(s.swap_halves(self.low), s.multiply::<0x01>(polynomial, self.low)));
        s.xor(self.high, s.xor(s.swap_halves(middle), s.multiply::<0x01>(polynomial, middle)))
    }
}

/// The sums of as many packets as a vector has lanes.
pub(crate) struct GroupSums<S: Simd> {
    low: [S::V; 4],
    middle: [S::V; 4],
    high: [S::V; 4],
}

impl<S: Simd> GroupSums<S> {
    #[inline(always)]
    pub(crate) fn new(s: S) -> Self {
        Self { low: [s.zero(); 4], middle: [s.zero(); 4], high: [s.zero(); 4] }
    }

    #[inline(always)]
    pub(crate) fn set(&mut self, lane: usize, sums: Sums<S>) {
        self.low[lane] = sums.low;
        self.middle[lane] = sums.middle;
        self.high[lane] = sums.high;
    }

    /// Adds up each packet's lanes: one lane for each packet.
    #[inline(always)]
    pub(crate) fn fold(&self, s: S) -> Sums<S> {
        Sums { low: s.fold(&self.low), middle: s.fold(&self.middle), high: s.fold(&self.high) }
    }
}
