//! Any list that asks for a large send into a software NIC.
#![no_main]

#[path = "../checks/large_send.rs"]
mod large_send;

libfuzzer_sys::fuzz_target!(|data: &[u8]| large_send::check(data));
