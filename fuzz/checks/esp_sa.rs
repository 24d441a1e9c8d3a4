//! Any bytes as Wireshark's `esp_sa` table.
//!
//! Shared by the fuzz target and by the test that replays its seeds and crashes.

use ipsecov2::sa_file::{Format, Target};

use crate::sa_text;

pub(crate) fn check(data: &[u8]) {
    sa_text::check(data, Format::EspSa, Target::EspSa);
}
