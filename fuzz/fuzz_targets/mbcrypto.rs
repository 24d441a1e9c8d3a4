//! Any batch of jobs, on all paths of mbcrypto.
#![no_main]

#[path = "../../crates/mbcrypto/tests/common/mod.rs"]
mod common;
#[path = "../checks/mbcrypto.rs"]
mod mbcrypto;

libfuzzer_sys::fuzz_target!(|data: &[u8]| mbcrypto::check(data));
