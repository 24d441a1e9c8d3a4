//! Any requests of IPsecOV1, and any packets, at an NDIS 6.0 adapter.
#![no_main]

#[path = "../checks/oid_v1.rs"]
mod oid_v1;

libfuzzer_sys::fuzz_target!(|data: &[u8]| oid_v1::check(data));
