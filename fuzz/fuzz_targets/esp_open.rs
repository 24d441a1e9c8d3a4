//! Any bytes as ESP packets of an SA.
#![no_main]

#[path = "../checks/esp_open.rs"]
mod esp_open;

libfuzzer_sys::fuzz_target!(|data: &[u8]| esp_open::check(data));
