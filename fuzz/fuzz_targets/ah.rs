//! Any bytes as IP packets with an AH.
#![no_main]

#[path = "../checks/ah.rs"]
mod ah;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ah::check(data));
