//! Any bytes as SA files.
#![no_main]

#[path = "../checks/sa_file.rs"]
mod sa_file;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sa_file::check(data));
