//! AES (FIPS 197) of several vectors in step, with GHASH in between.

use core::hint::black_box;

use crate::ghash::Sums;
use crate::packet::Block;
use crate::simd::Simd;
use crate::x86::{Powers, Schedule};

/// A round (section 5.1).
#[inline(always)]
fn round<S: Simd>(s: S, key: &Block, x: &mut [S::V]) {
    let key = s.broadcast(key);
    for x in x {
        *x = s.aes(*x, key);
    }
}

/// All rounds but the last, of vectors that the first round key has been added to; meanwhile GHASH takes in the `hashed`, at most twelve, the
/// last one first, because the first may have to wait for what was before it. Returns the sums.
///
/// These are loops, and that is what keeps the two in turns: in a straight line the compiler would sort them, and the processor would not
/// look far enough ahead. So it must not know how many times they are run.
#[inline(always)]
pub(crate) fn rounds<S: Simd, const N: usize>(s: S, schedule: &Schedule, x: &mut [S::V; N], hashed: &[S::V], powers: Powers<'_>) -> Sums<S> {
    let hashed = black_box(hashed);
    assert!(hashed.len() <= powers.vectors(), "every vector has its powers");
    let mut sums = Sums::zero(s);
    let mut key = 1;
    let mut left = hashed.len();
    // There are at least nine rounds.
    if left > 8 {
        while left >= 3 {
            left -= 3;
            round(s, schedule.round_key(key), x);
            round(s, schedule.round_key(key + 1), x);
            key += 2;
            // SAFETY: as asserted.
            sums.add(s, hashed[left + 2], unsafe { powers.vector(s, left + 2) });
            // SAFETY: as asserted.
            sums.add(s, hashed[left + 1], unsafe { powers.vector(s, left + 1) });
            // SAFETY: as asserted.
            sums.add(s, hashed[left], unsafe { powers.vector(s, left) });
        }
    } else {
        while left >= 2 {
            left -= 2;
            round(s, schedule.round_key(key), x);
            round(s, schedule.round_key(key + 1), x);
            key += 2;
            // SAFETY: as asserted.
            sums.add(s, hashed[left + 1], unsafe { powers.vector(s, left + 1) });
            // SAFETY: as asserted.
            sums.add(s, hashed[left], unsafe { powers.vector(s, left) });
        }
    }
    while left > 0 {
        left -= 1;
        round(s, schedule.round_key(key), x);
        key += 1;
        // SAFETY: as asserted.
        sums.add(s, hashed[left], unsafe { powers.vector(s, left) });
    }
    while key < schedule.rounds() {
        round(s, schedule.round_key(key), x);
        key += 1;
    }
    sums
}

/// Encrypts a vector of blocks.
#[inline(always)]
pub(crate) fn encrypt<S: Simd>(s: S, schedule: &Schedule, block: S::V) -> S::V {
    let mut x = s.xor(block, s.broadcast(schedule.round_key(0)));
    for key in schedule.inner_keys() {
        x = s.aes(x, s.broadcast(key));
    }
    s.aes_last(x, s.broadcast(schedule.last_key()))
}
