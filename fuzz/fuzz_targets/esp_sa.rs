//! Any bytes as Wireshark's `esp_sa` table.
#![no_main]

#[path = "../checks/esp_sa.rs"]
mod esp_sa;
#[path = "../checks/sa_text.rs"]
mod sa_text;

libfuzzer_sys::fuzz_target!(|data: &[u8]| esp_sa::check(data));
