//! Any bytes as a chain of IPv6 extension headers.
#![no_main]

#[path = "../checks/ipv6_chain.rs"]
mod ipv6_chain;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ipv6_chain::check(data));
