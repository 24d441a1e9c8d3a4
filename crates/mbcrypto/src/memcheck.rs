//! Requests to Valgrind's memcheck, for the test that no branch and no address depends on a secret (`scripts/mbcrypto-constant-time`). Only with
//! `--cfg mbcrypto_constant_time`.
//!
//! Memory whose contents are secret is called undefined. memcheck follows it through registers and memory, and complains when a condition or an
//! address depends on it. What was secret and is published is called defined again.

use core::arch::asm;

const MAKE_MEM_UNDEFINED: usize = TOOL | 1;
const MAKE_MEM_DEFINED: usize = TOOL | 2;
const RUNNING_ON_VALGRIND: usize = 0x1001;
const COUNT_ERRORS: usize = 0x1201;
/// Requests of memcheck's own: "MC" in the upper half.
const TOOL: usize = (b'M' as usize) << 24 | (b'C' as usize) << 16;

/// From here on these bytes are a secret.
pub fn undefined(bytes: &mut [u8]) {
    request([MAKE_MEM_UNDEFINED, bytes.as_mut_ptr() as usize, bytes.len()]);
}

/// From here on these bytes are known to everybody.
pub fn defined(bytes: &mut [u8]) {
    request([MAKE_MEM_DEFINED, bytes.as_mut_ptr() as usize, bytes.len()]);
}

/// A number that may be known, whatever it was made from.
pub fn declassify(number: u32) -> u32 {
    let mut bytes = number.to_ne_bytes();
    defined(&mut bytes);
    u32::from_ne_bytes(bytes)
}

/// Whether anybody listens.
pub fn is_running() -> bool {
    request([RUNNING_ON_VALGRIND, 0, 0]) != 0
}

/// Complaints so far.
pub fn errors() -> usize {
    request([COUNT_ERRORS, 0, 0])
}

/// Valgrind takes four rotations of rdi by 128 bits in all, before an exchange of rbx with itself, for a request; a processor does nothing (valgrind.h,
/// "amd64-linux"). Zero if nobody listens.
fn request([number, first, second]: [usize; 3]) -> usize {
    let arguments = [number, first, second, 0, 0, 0];
    let mut result = 0_usize;
    // SAFETY: without Valgrind all registers keep their values. With it, memory is read for the arguments only; what it calls defined or not is no
    // concern of the language. The request stays where it is among loads and stores, as the block may touch memory.
    unsafe {
        asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") arguments.as_ptr(),
            inout("rdx") result,
            options(nostack),
        );
    }
    result
}
