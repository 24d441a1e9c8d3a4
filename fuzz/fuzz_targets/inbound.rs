//! Any frames through NIC and transport.
#![no_main]

#[path = "../checks/inbound.rs"]
mod inbound;

libfuzzer_sys::fuzz_target!(|data: &[u8]| inbound::check(data));
