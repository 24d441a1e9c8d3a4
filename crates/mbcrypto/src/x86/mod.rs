//! Processors of the x86-64 family.

mod aes_ni;
mod avx2;
mod avx512;
mod partial;
mod schedule;

pub(crate) use aes_ni::AesNi;
pub(crate) use avx2::Avx2;
pub(crate) use avx512::Avx512;
pub(crate) use schedule::{Powers, Schedule};

use crate::key::{Expanded, Key};

/// The schedule and the length of the ICV of a key that was made for one of these paths.
#[inline(always)]
fn schedule(key: &Key) -> Option<(&Schedule, usize)> {
    match &key.0 {
        Expanded::X86(schedule) => Some((schedule, schedule.icv_length())),
        Expanded::Portable(_) => None,
    }
}

/// Whether there is what a [`Schedule`] is made with, and every path here needs.
fn base_detected() -> bool {
    is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1")
}
