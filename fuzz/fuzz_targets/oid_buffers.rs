//! Any bytes as buffers of requests, answers and status indications, and as out-of-band slots.
#![no_main]

#[path = "../checks/oid_buffers.rs"]
mod oid_buffers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| oid_buffers::check(data));
