//! Parts of a block, for paths that have no masks.

use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};

use crate::packet::Block;

/// 32 bytes of ones, 32 of zeros: loaded from `32 - n` on, a mask of the first `n` bytes.
pub(super) static KEEP: [u8; 64] = {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 32 {
        table[i] = 0xff;
        i += 1;
    }
    table
};

/// The first `length` bytes, at most 16, and zeros.
///
/// # Safety
/// `from` is valid for reads of `length` bytes.
#[inline(always)]
pub(super) unsafe fn load_up_to_16(from: *const u8, length: usize) -> __m128i {
    if length >= 16 {
        // SAFETY: the caller's promise.
        return unsafe { _mm_loadu_si128(from.cast()) };
    }
    let number = if length >= 8 {
        // SAFETY: the caller's promise: there are 8 bytes.
        let head = unsafe { from.cast::<u64>().read_unaligned() };
        // SAFETY: the caller's promise: the last 8 of the bytes that there are.
        let tail = unsafe { from.wrapping_add(length - 8).cast::<u64>().read_unaligned() };
        // The two overlap in 16 - length bytes; what both have agrees.
        u128::from(u64::from_le(head)) | u128::from(u64::from_le(tail)) << (8 * (length - 8))
    } else if length >= 4 {
        // SAFETY: the caller's promise: there are 4 bytes.
        let head = unsafe { from.cast::<u32>().read_unaligned() };
        // SAFETY: the caller's promise: the last 4 of the bytes that there are.
        let tail = unsafe { from.wrapping_add(length - 4).cast::<u32>().read_unaligned() };
        u128::from(u64::from(u32::from_le(head)) | u64::from(u32::from_le(tail)) << (8 * (length - 4)))
    } else {
        let mut number = 0;
        for i in 0..length {
            // SAFETY: the caller's promise: this byte is one of them.
            let byte = unsafe { from.wrapping_add(i).read() };
            number |= u128::from(byte) << (8 * i);
        }
        number
    };
    let block: Block = number.to_le_bytes();
    // SAFETY: a block is 16 bytes.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

/// Writes the first `length` bytes, at most 16.
///
/// # Safety
/// `to` is valid for writes of `length` bytes.
#[inline(always)]
pub(super) unsafe fn store_up_to_16(to: *mut u8, length: usize, vector: __m128i) {
    if length >= 16 {
        // SAFETY: the caller's promise.
        return unsafe { _mm_storeu_si128(to.cast(), vector) };
    }
    let mut block: Block = [0; 16];
    // SAFETY: a block is 16 bytes.
    unsafe { _mm_storeu_si128(block.as_mut_ptr().cast(), vector) };
    // SAFETY: the caller's promise, of less than 16 bytes; the block is a variable of our own.
    unsafe { core::ptr::copy_nonoverlapping(block.as_ptr(), to, length) };
}
