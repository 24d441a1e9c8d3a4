//! Packets as the kernels see them: checked once, then raw pointers.

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::sync::atomic::{Ordering, compiler_fence};

use crate::job::{AadParts, Nonce, Text};

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

impl Column {
    /// Erases the first `count` blocks: whoever forges packets would like to know the tags that they should have.
    pub(crate) fn erase(&mut self, count: usize) {
        self.0.iter_mut().take(count).for_each(erase);
        compiler_fence(Ordering::SeqCst);
    }
}

/// Makes a block zero, and is not left out because nobody reads it again. One write; `zeroize` has one for each byte.
#[inline(always)]
pub(crate) fn erase(block: &mut Block) {
    // SAFETY: the reference is valid for a write.
    unsafe { core::ptr::from_mut(block).write_volatile([0; 16]) };
}

/// The tags of a call's packets. Kernels fill whole vectors: there is room after the last packet's.
pub(crate) type Tags = Column;

/// Most bytes of additional authenticated data beside a text.
pub(crate) const MAX_AAD: usize = 32;

/// Longest text of one nonce: 2^39 - 256 bits (NIST SP 800-38D section 5.2.1.1).
const MAX_TEXT: u64 = (1 << 36) - 32;

/// Key, text and AAD of one packet.
///
/// What kernels may rely on: `source` is valid for reads and `destination` for writes of `length` bytes, at most `MAX_TEXT`; these two are
/// the same address, or do not overlap; nobody else uses the destination during `'a`.
pub(crate) struct Packet<'a, S> {
    pub(crate) schedule: &'a S,
    pub(crate) source: *const u8,
    pub(crate) destination: *mut u8,
    pub(crate) length: usize,
    /// The first block of an AAD that has two; the last one is in the [`Columns`].
    pub(crate) aad_head: Option<&'a Block>,
    borrowed: PhantomData<&'a mut [u8]>,
}

impl<'a, S> Packet<'a, S> {
    /// Gives the text back when a length is impossible.
    #[inline(always)]
    pub(crate) fn new(schedule: &'a S, aad: AadParts<'a>, text: Text<'a>) -> Result<Self, Text<'a>> {
        let (length, out_length) = text.lengths();
        let aad_head = match aad {
            AadParts::Bytes(aad) if aad.len() > MAX_AAD => return Err(text),
            AadParts::Bytes(aad) if aad.len() > 16 => aad.first_chunk(),
            _ => None,
        };
        if length != out_length || length as u64 > MAX_TEXT {
            return Err(text);
        }
        let (source, destination) = match text {
            Text::InPlace(data) => {
                let destination = data.as_mut_ptr();
                (destination.cast_const(), destination)
            }
            Text::Copy { src, dst } => (src.as_ptr(), dst.as_mut_ptr()),
        };
        Ok(Self { schedule, source, destination, length, aad_head, borrowed: PhantomData })
    }

    /// Whether the result replaces the input.
    pub(crate) fn in_place(&self) -> bool {
        core::ptr::eq(self.source, self.destination)
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

    /// The blocks of packet `i`, less than [`PACKETS`]; `aad` is that which it was made with.
    #[inline(always)]
    pub(crate) fn set<S>(&mut self, i: usize, nonce: Nonce, aad: AadParts<'_>, packet: &Packet<'_, S>) {
        self.nonces.0[i] = nonce.0.to_le_bytes();
        let (block, aad_length) = match aad {
            AadParts::Esp { header, high: None } => (u128::from(u64::from_le_bytes(header)), 8),
            AadParts::Esp { header, high: Some(high) } => {
                let (header, high) = (u64::from_le_bytes(header), u64::from(high.swap_bytes()));
                (u128::from(header & 0xffff_ffff | high << 32) | u128::from(header >> 32) << 64, 12)
            }
            AadParts::Bytes(aad) => {
                // What ESP has: SPI and sequence number, without and with the upper half of an extended one (RFC 4106 section 5).
                let block = if let Ok(aad) = <&[u8; 8]>::try_from(aad) {
                    u128::from(u64::from_le_bytes(*aad))
                } else if let Ok(aad) = <&[u8; 12]>::try_from(aad) {
                    Nonce::new(aad).0
                } else {
                    self.other_aad(i, aad)
                };
                (block, aad.len())
            }
        };
        self.aads.0[i] = block.to_le_bytes();
        // A text has less than 2^40 bits.
        self.lengths.0[i] = ((packet.length as u128 * 8) | ((aad_length as u128 * 8) << 64)).to_le_bytes();
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

    /// What packet `i` has in [`Columns::aads`], without what it was filled up with.
    pub(crate) fn aad(&self, i: usize) -> &[u8] {
        let length = (u128::from_le_bytes(self.lengths.0[i]) >> 64) as usize / 8;
        let first = if length > 16 { 16 } else { 0 };
        &self.aads.0[i][..length - first]
    }

    /// Copies the blocks of packet `from`, to become those of packet 0.
    pub(crate) fn copy(&mut self, other: &Self, from: usize) {
        self.nonces.0[0] = other.nonces.0[from];
        self.aads.0[0] = other.aads.0[from];
        self.lengths.0[0] = other.lengths.0[from];
        self.long_aads = other.long_aads >> from & 1;
    }
}

/// Packets of a chunk while they are gathered, each with what goes along: of two vectors beside each other the compiler would keep two lengths in memory.
pub(crate) struct Chunk<'a, S, T> {
    packets: [MaybeUninit<Packet<'a, S>>; PACKETS],
    along: [MaybeUninit<T>; PACKETS],
    /// The first of each are there.
    len: usize,
}

impl<'a, S, T> Chunk<'a, S, T> {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self { packets: [const { MaybeUninit::uninit() }; PACKETS], along: [const { MaybeUninit::uninit() }; PACKETS], len: 0 }
    }

    #[inline(always)]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds one; there are less than [`PACKETS`].
    #[inline(always)]
    pub(crate) fn push(&mut self, packet: Packet<'a, S>, along: T) {
        self.packets[self.len].write(packet);
        self.along[self.len].write(along);
        self.len += 1;
    }

    /// Packets, and what goes along with each. (It is not dropped: there are only references.)
    #[inline(always)]
    pub(crate) fn parts(&mut self) -> (&mut [Packet<'a, S>], &mut [T]) {
        let (packets, along) = (&mut self.packets[..self.len], &mut self.along[..self.len]);
        // SAFETY: `push` has written as many.
        let packets = unsafe { packets.assume_init_mut() };
        // SAFETY: as before.
        let along = unsafe { along.assume_init_mut() };
        (packets, along)
    }
}

/// What a kernel is given: up to [`PACKETS`] packets and their columns.
pub(crate) struct Batch<'b, 'a, S> {
    pub(crate) packets: &'b mut [Packet<'a, S>],
    pub(crate) columns: &'b Columns,
}
