//! Packets as the kernels see them: checked once, then raw pointers.

use core::marker::PhantomData;

use crate::job::Text;

/// A block of AES and of GHASH, in the order in which its bytes are on the wire.
pub(crate) type Block = [u8; 16];

/// Packets that the kernels are given at a time.
pub(crate) const PACKETS: usize = 32;

/// A block of each packet, side by side, so that one load gets those of as many packets as a vector has lanes.
#[repr(C, align(64))]
pub(crate) struct Column(pub [Block; PACKETS]);

impl Column {
    pub(crate) const ZERO: Self = Self([[0; 16]; PACKETS]);
}

/// The tags of a call's packets. Kernels fill whole vectors: there is room after the last packet's.
pub(crate) type Tags = Column;

/// Most bytes of additional authenticated data beside a text.
pub(crate) const MAX_AAD: usize = 32;

/// Longest text of one nonce: 2^39 - 256 bits (NIST SP 800-38D section 5.2.1.1).
const MAX_TEXT: u64 = (1 << 36) - 32;

/// Key, text and AAD of one packet.
///
/// What kernels may rely on: `aad` is valid for reads of `aad_length` bytes, at most [`MAX_AAD`]; `source` for reads and `destination`
/// for writes of `length` bytes, at most `MAX_TEXT`; these two are the same address, or do not overlap; nobody else uses
/// the destination during `'a`.
pub(crate) struct Packet<'a, S> {
    pub(crate) schedule: &'a S,
    pub(crate) source: *const u8,
    pub(crate) destination: *mut u8,
    pub(crate) length: usize,
    aad: *const u8,
    aad_length: usize,
    borrowed: PhantomData<&'a mut [u8]>,
}

impl<'a, S> Packet<'a, S> {
    /// Gives the text back when a length is impossible.
    #[inline(always)]
    pub(crate) fn new(schedule: &'a S, aad: &'a [u8], text: Text<'a>) -> Result<Self, Text<'a>> {
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
        Ok(Self { schedule, source, destination, length, aad: aad.as_ptr(), aad_length: aad.len(), borrowed: PhantomData })
    }

    /// Whether the result replaces the input.
    pub(crate) fn in_place(&self) -> bool {
        core::ptr::eq(self.source, self.destination)
    }

    /// The additional authenticated data.
    #[inline(always)]
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

/// The blocks that every packet has one of.
pub(crate) struct Columns {
    /// The nonce and a counter of zero: what all counter blocks have in common.
    pub(crate) nonces: Column,
    /// The last block of the AAD, filled up with zeros; all zero where there is none.
    pub(crate) aads: Column,
    /// The length block (NIST SP 800-38D section 7.1 step 5), byte-reversed.
    pub(crate) lengths: Column,
    /// A bit for each packet: whether its AAD has another block in front of that.
    pub(crate) long_aads: u32,
}

impl Columns {
    pub(crate) const fn new() -> Self {
        Self { nonces: Column::ZERO, aads: Column::ZERO, lengths: Column::ZERO, long_aads: 0 }
    }

    /// The blocks of packet `i`, less than [`PACKETS`].
    #[inline(always)]
    pub(crate) fn set<S>(&mut self, i: usize, nonce: &[u8; 12], packet: &Packet<'_, S>) {
        let (head, tail) = (nonce.first_chunk::<8>(), nonce.last_chunk::<4>());
        let (head, tail) = (head.map_or(0, |head| u64::from_le_bytes(*head)), tail.map_or(0, |tail| u32::from_le_bytes(*tail)));
        self.nonces.0[i] = (u128::from(head) | (u128::from(tail) << 64)).to_le_bytes();
        let aad = packet.aad();
        // What ESP has: SPI and sequence number, without and with the upper half of an extended one (RFC 4106 section 5).
        let block = if let Ok(aad) = <&[u8; 8]>::try_from(aad) {
            u128::from(u64::from_le_bytes(*aad))
        } else if let Ok(aad) = <&[u8; 12]>::try_from(aad) {
            let (head, tail) = (aad.first_chunk::<8>(), aad.last_chunk::<4>());
            let (head, tail) = (head.map_or(0, |head| u64::from_le_bytes(*head)), tail.map_or(0, |tail| u32::from_le_bytes(*tail)));
            u128::from(head) | (u128::from(tail) << 64)
        } else {
            self.other_aad(i, aad)
        };
        self.aads.0[i] = block.to_le_bytes();
        // A text has less than 2^40 bits.
        self.lengths.0[i] = ((packet.length as u128 * 8) | ((aad.len() as u128 * 8) << 64)).to_le_bytes();
    }

    /// The last 1 to 16 bytes of an AAD that begin at a multiple of 16; notes whether there are others.
    #[cold]
    #[inline(never)]
    fn other_aad(&mut self, i: usize, aad: &[u8]) -> u128 {
        let mut block = [0; 16];
        let (first, last) = aad.split_at(if aad.len() > 16 { 16 } else { 0 });
        self.long_aads |= u32::from(!first.is_empty()) << i;
        for (to, from) in block.iter_mut().zip(last) {
            *to = *from;
        }
        u128::from_le_bytes(block)
    }

    /// Copies the blocks of packet `from`, to become those of packet 0.
    pub(crate) fn copy(&mut self, other: &Self, from: usize) {
        self.nonces.0[0] = other.nonces.0[from];
        self.aads.0[0] = other.aads.0[from];
        self.lengths.0[0] = other.lengths.0[from];
        self.long_aads = other.long_aads >> from & 1;
    }
}

/// What a kernel is given: up to [`PACKETS`] packets and their columns.
pub(crate) struct Batch<'b, 'a, S> {
    pub(crate) packets: &'b mut [Packet<'a, S>],
    pub(crate) columns: &'b Columns,
}
