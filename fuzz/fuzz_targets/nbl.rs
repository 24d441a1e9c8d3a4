//! Any net buffer lists, frames and requests through a software NIC.
#![no_main]

#[path = "../checks/nbl.rs"]
mod nbl;

libfuzzer_sys::fuzz_target!(|data: &[u8]| nbl::check(data));
