//! Fetching ahead: hints to the processor, without any other effect.

/// Cache lines of a value that are fetched at most.
const LINES: usize = 3;
const LINE: usize = 64;

/// Begins to fetch the first cache lines of `value`, at most three, and waits for nothing. Nothing happens where there is no instruction for it.
///
/// ```
/// let values = [[1_u64; 32], [2; 32]];
/// values.iter().for_each(sa_table::prefetch); // both are on their way
/// assert_eq!(values.map(|value| value[0]), [1, 2]);
/// ```
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    let first = core::ptr::from_ref(value).cast::<u8>();
    for line in 0..LINES.min(size_of::<T>().div_ceil(LINE)) {
        fetch(first.wrapping_add(line * LINE));
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn fetch(line: *const u8) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: SSE is part of x86-64, and a prefetch never faults, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
fn fetch(_line: *const u8) {}
