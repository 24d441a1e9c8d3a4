//! Any bytes as what `ip xfrm state` prints.
#![no_main]

#[path = "../checks/sa_text.rs"]
mod sa_text;
#[path = "../checks/xfrm.rs"]
mod xfrm;

libfuzzer_sys::fuzz_target!(|data: &[u8]| xfrm::check(data));
