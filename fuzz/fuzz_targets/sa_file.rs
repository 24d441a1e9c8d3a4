//! Any bytes as SA files.
#![no_main]

#[path = "../checks/sa_file.rs"]
mod sa_file;
#[path = "../checks/sa_text.rs"]
#[allow(dead_code, reason = "other targets use the rest")]
mod sa_text;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sa_file::check(data));
