//! Reading and writing at fixed offsets, for views whose constructor has checked the length.

use crate::error::{EmitError, Layer};

#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let mut field = [0; 2];
    field.copy_from_slice(&bytes[at..at + 2]);
    u16::from_be_bytes(field)
}

#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(field)
}

#[inline]
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[inline]
pub(crate) fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

/// The bytes from `from` up to `to`, or none of them: for ranges whose bounds are fields that a setter may have changed after the check.
#[inline]
pub(crate) fn range(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    bytes.get(from..to).unwrap_or_default()
}

/// As [`range`], to change.
#[inline]
pub(crate) fn range_mut(bytes: &mut [u8], from: usize, to: usize) -> &mut [u8] {
    bytes.get_mut(from..to).unwrap_or_default()
}

/// The first `needed` bytes of `out`, to write a header to.
#[inline]
pub(crate) fn space(out: &mut [u8], layer: Layer, needed: usize) -> Result<&mut [u8], EmitError> {
    let found = out.len();
    out.get_mut(..needed).ok_or(EmitError::NoSpace { layer, needed, found })
}

/// `value` if it fits a 16-bit field.
#[inline]
pub(crate) fn fit_u16(layer: Layer, value: usize) -> Result<u16, EmitError> {
    u16::try_from(value).map_err(|_| EmitError::TooLarge { layer, max: usize::from(u16::MAX), found: value })
}
