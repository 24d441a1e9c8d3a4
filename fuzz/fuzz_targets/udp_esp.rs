//! Any payloads of UDP datagrams on the port of UDP-ESP.
#![no_main]

#[path = "../checks/inbound.rs"]
mod inbound;
#[path = "../checks/udp_esp.rs"]
mod udp_esp;

libfuzzer_sys::fuzz_target!(|data: &[u8]| udp_esp::check(data));
