//! Any bytes as frames, IP packets and what is in them.
#![no_main]

#[path = "../checks/packet_views.rs"]
mod packet_views;

libfuzzer_sys::fuzz_target!(|data: &[u8]| packet_views::check(data));
