//! One packet as the kernels see it: checked once, then raw pointers.

use core::marker::PhantomData;

use crate::job::Text;

/// A block of AES and of GHASH, in the order in which its bytes are on the wire.
pub(crate) type Block = [u8; 16];

/// Packets that the kernels are given at a time.
pub(crate) const PACKETS: usize = 32;

/// The tags of a call's packets. Kernels fill whole vectors: there is room after the last packet's.
#[repr(C, align(64))]
pub(crate) struct Tags(pub [Block; PACKETS]);

/// Most bytes of additional authenticated data beside a text.
pub(crate) const MAX_AAD: usize = 32;

/// Longest text of one nonce: 2^39 - 256 bits (NIST SP 800-38D section 5.2.1.1).
const MAX_TEXT: u64 = (1 << 36) - 32;

/// Key, nonce, AAD and text of one packet.
///
/// What kernels may rely on: `aad` is valid for reads of `aad_length` bytes, at most [`MAX_AAD`]; `source` for reads and `destination`
/// for writes of `length` bytes, at most `MAX_TEXT`; these two are the same address, or do not overlap; nobody else uses
/// the destination during `'a`.
pub(crate) struct Packet<'a, S> {
    pub(crate) schedule: &'a S,
    /// The nonce and a counter of zero: one load gives all counter blocks' common part.
    pub(crate) nonce: Block,
    pub(crate) aad: *const u8,
    pub(crate) source: *const u8,
    pub(crate) destination: *mut u8,
    pub(crate) length: usize,
    pub(crate) aad_length: usize,
    borrowed: PhantomData<&'a mut [u8]>,
}

impl<'a, S> Packet<'a, S> {
    /// Gives the text back when a length is impossible.
    #[inline(always)]
    pub(crate) fn new(schedule: &'a S, nonce: &[u8; 12], aad: &'a [u8], text: Text<'a>) -> Result<Self, Text<'a>> {
        let (length, out_length) = text.lengths();
        if length != out_length || length as u64 > MAX_TEXT || aad.len() > MAX_AAD {
            return Err(text);
        }
        let (source, destination) = match text {
            Text::InPlace(data) => {
                let destination = data.as_mut_ptr();
                (destination.cast_const(), destination)
            }
            Text::Copy { src, dst } => (src.as_ptr(), dst.as_mut_ptr()),
        };
        let mut block = [0; 16];
        block[..12].copy_from_slice(nonce);
        Ok(Self { schedule, nonce: block, aad: aad.as_ptr(), source, destination, length, aad_length: aad.len(), borrowed: PhantomData })
    }

    /// Whether the result replaces the input.
    pub(crate) fn in_place(&self) -> bool {
        core::ptr::eq(self.source, self.destination)
    }

    /// The additional authenticated data.
    pub(crate) fn aad(&self) -> &'a [u8] {
        // SAFETY: `new` had this as a slice that is shared for `'a`.
        unsafe { core::slice::from_raw_parts(self.aad, self.aad_length) }
    }

    /// The place of the result.
    pub(crate) fn destination(&mut self) -> &mut [u8] {
        // SAFETY: `new` had this as a mutable slice for `'a`; the only other pointer to it can be `source`, which nobody uses while
        // this packet is borrowed.
        unsafe { core::slice::from_raw_parts_mut(self.destination, self.length) }
    }

    /// The place of the result, holding the input.
    pub(crate) fn copy_in(&mut self) -> &mut [u8] {
        if !self.in_place() {
            // SAFETY: both are valid for that many bytes, and apart from each other.
            unsafe { core::ptr::copy_nonoverlapping(self.source, self.destination, self.length) };
        }
        self.destination()
    }
}
