//! Packet buffers: one buffer carries a packet from the link it comes in on to the link it leaves by.
//!
//! A [`Buffer`] owns its bytes, so work in place never touches memory that somebody else can see (R-03). It has room before and after the packet for
//! the worst encapsulation, and it returns to a [`BufferPool`] to be used again: in steady state no packet costs an allocation.

use core::fmt;

/// Room before a packet as it comes in, in bytes: two outer IPv6 headers, two UDP headers, AH and ESP with the longest IV, twice over, and a link header.
pub const HEADROOM: usize = 256;
/// Room after a packet as it comes in, in bytes: two ESP trailers with ordinary padding and the longest ICV.
pub const TAILROOM: usize = 128;

/// Storage sizes, in bytes: ordinary frames, jumbo frames, large sends.
///
/// The odd 64 bytes a class above the round number keep the starts of neighbouring buffers out of the same cache sets.
const CLASSES: [usize; 3] = [2048 + 64, 10_240 + 64, 69_632 + 64];

/// How many free buffers of a class a pool keeps; more are given back to the system.
const KEEP: [usize; 3] = [4096, 1024, 256];

/// A buffer has less room than was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// Bytes asked for.
    pub asked: usize,
    /// Bytes there are.
    pub available: usize,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "buffer has room for {} bytes, {} were asked for", self.available, self.asked)
    }
}

impl core::error::Error for NoRoom {}

/// An owned packet: bytes with room before and after.
///
/// The default buffer is empty, has no room and costs no allocation.
#[derive(Default)]
pub struct Buffer {
    storage: Box<[u8]>,
    start: u32,
    end: u32,
}

impl Buffer {
    /// A buffer of `len` zero bytes with `headroom` before and `tailroom` after.
    ///
    /// # Panics
    /// If `headroom` and `len` together are 4 GiB or more.
    pub fn zeroed(headroom: usize, len: usize, tailroom: usize) -> Self {
        let end = u32::try_from(headroom + len).expect("a packet buffer is far smaller than 4 GiB");
        Self { storage: vec![0; headroom + len + tailroom].into_boxed_slice(), start: headroom as u32, end }
    }

    /// A copy of `bytes` with the usual room ([`HEADROOM`], [`TAILROOM`]) around it.
    pub fn copy_from(bytes: &[u8]) -> Self {
        let mut buffer = Self::zeroed(HEADROOM, bytes.len(), TAILROOM);
        buffer.as_mut_slice().copy_from_slice(bytes);
        buffer
    }

    /// The packet's bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.storage[self.start as usize..self.end as usize]
    }

    /// The packet's bytes, to be changed.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.storage[self.start as usize..self.end as usize]
    }

    /// Length of the packet in bytes.
    #[inline]
    pub const fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether the packet has no bytes.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Free bytes before the packet.
    #[inline]
    pub const fn headroom(&self) -> usize {
        self.start as usize
    }

    /// Free bytes after the packet.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.storage.len() - self.end as usize
    }

    /// Size of the storage, in bytes: what a pool sorts buffers by.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.storage.len()
    }

    /// Makes the packet `n` bytes longer at the front. The new bytes hold whatever was there: the caller writes all of them.
    ///
    /// # Errors
    /// [`NoRoom`] if the headroom is smaller; the buffer is unchanged (R-01).
    #[inline]
    pub fn prepend(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        let available = self.headroom();
        if n > available {
            return Err(NoRoom { asked: n, available });
        }
        self.start -= n as u32;
        let start = self.start as usize;
        Ok(&mut self.storage[start..start + n])
    }

    /// Makes the packet `n` bytes longer at the end. The new bytes hold whatever was there: the caller writes all of them.
    ///
    /// # Errors
    /// [`NoRoom`] if the tailroom is smaller; the buffer is unchanged (R-01).
    #[inline]
    pub fn append(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        let available = self.tailroom();
        if n > available {
            return Err(NoRoom { asked: n, available });
        }
        let end = self.end as usize;
        self.end += n as u32;
        Ok(&mut self.storage[end..end + n])
    }

    /// Takes `n` bytes away at the front (at most all of them); they become headroom.
    #[inline]
    pub fn trim_front(&mut self, n: usize) {
        self.start += n.min(self.len()) as u32;
    }

    /// Takes `n` bytes away at the end (at most all of them); they become tailroom.
    #[inline]
    pub fn trim_back(&mut self, n: usize) {
        self.end -= n.min(self.len()) as u32;
    }

    /// Shortens the packet to `len` bytes; does nothing if it is not longer.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.trim_back(self.len().saturating_sub(len));
    }

    /// Keeps the first `keep` bytes of the packet and puts `front` bytes before and `back` bytes behind them: at once what [`Buffer::truncate`],
    /// [`Buffer::prepend`] and [`Buffer::append`] do. Returns all of the new packet. The new bytes hold whatever was there: the caller writes all of them.
    ///
    /// # Errors
    /// [`NoRoom`] if headroom or tailroom is smaller, or the packet than `keep`; the buffer is unchanged (R-01).
    #[inline]
    pub fn enclose(&mut self, front: usize, keep: usize, back: usize) -> Result<&mut [u8], NoRoom> {
        let start = self.start as usize;
        let Some(new_start) = start.checked_sub(front) else {
            return Err(NoRoom { asked: front, available: start });
        };
        if keep > self.len() {
            return Err(NoRoom { asked: keep, available: self.len() });
        }
        let (end, size) = (start.saturating_add(keep).saturating_add(back), self.storage.len());
        let Some(bytes) = self.storage.get_mut(new_start..end) else {
            return Err(NoRoom { asked: back, available: size - start - keep });
        };
        (self.start, self.end) = (new_start as u32, end as u32);
        Ok(bytes)
    }

    /// Sets the packet to `len` bytes that begin `headroom` bytes into the storage. They hold whatever was there.
    ///
    /// # Errors
    /// [`NoRoom`] if the storage is smaller; the buffer is unchanged.
    #[inline]
    pub fn reset(&mut self, headroom: usize, len: usize) -> Result<(), NoRoom> {
        let asked = headroom.saturating_add(len);
        if asked > self.storage.len() {
            return Err(NoRoom { asked, available: self.storage.len() });
        }
        self.start = headroom as u32;
        self.end = asked as u32;
        Ok(())
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

/// Shows the length and the room, not the bytes: packets may be clear text.
impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes, {} before, {} after)", self.len(), self.headroom(), self.tailroom())
    }
}

/// Free buffers of one worker, by size class.
///
/// ```
/// use packet::{BufferPool, HEADROOM};
///
/// let mut pool = BufferPool::new();
/// let buffer = pool.copy_from(b"a packet");
/// assert_eq!(buffer.as_slice(), b"a packet");
/// assert!(buffer.headroom() >= HEADROOM);
/// pool.give(buffer); // the next one of this class costs no allocation
/// ```
#[derive(Debug, Default)]
pub struct BufferPool {
    free: [Vec<Buffer>; CLASSES.len()],
    colour: usize,
    allocated: u64,
}

impl BufferPool {
    /// An empty pool; it fills as buffers are given back.
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer whose packet is `len` bytes (holding whatever was there) with at least the usual room around it.
    pub fn take(&mut self, len: usize) -> Buffer {
        let need = HEADROOM + len + TAILROOM;
        let Some(class) = CLASSES.iter().position(|&size| size >= need) else {
            self.allocated += 1;
            return Buffer::zeroed(HEADROOM, len, TAILROOM);
        };
        let mut buffer = self.free[class].pop().unwrap_or_else(|| {
            // Neighbouring buffers begin at different cache lines of a page, so that their headers do not evict one another.
            self.colour = (self.colour + 1) % 8;
            self.allocated += 1;
            Buffer::zeroed(0, 0, CLASSES[class] + 64 * self.colour)
        });
        let fits = buffer.reset(HEADROOM, len);
        debug_assert!(fits.is_ok(), "a class holds the length that it was chosen for");
        buffer
    }

    /// A free buffer of the class that one with this [capacity](Buffer::capacity) belongs to, if there is one.
    pub fn spare(&mut self, capacity: usize) -> Option<Buffer> {
        class_of(capacity).and_then(|class| self.free[class].pop())
    }

    /// A copy of `bytes` with the usual room around it.
    pub fn copy_from(&mut self, bytes: &[u8]) -> Buffer {
        let mut buffer = self.take(bytes.len());
        buffer.as_mut_slice().copy_from_slice(bytes);
        buffer
    }

    /// Takes a buffer back. One that fits no class, or that the pool has enough of, is freed.
    pub fn give(&mut self, buffer: Buffer) {
        if let Some(class) = class_of(buffer.capacity())
            && self.free[class].len() < KEEP[class]
        {
            self.free[class].push(buffer);
        }
    }

    /// How many buffers this pool has asked the system for since it was made.
    pub const fn allocated(&self) -> u64 {
        self.allocated
    }

    /// How many free buffers it holds.
    pub fn free(&self) -> usize {
        self.free.iter().map(Vec::len).sum()
    }
}

/// The class of buffers with this capacity: its size, and their colour.
fn class_of(capacity: usize) -> Option<usize> {
    CLASSES.iter().rposition(|&size| capacity >= size && capacity < size + 64 * 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_checked_and_a_refusal_changes_nothing() {
        let mut buffer = Buffer::zeroed(8, 4, 2);
        assert_eq!(buffer.prepend(9).unwrap_err(), NoRoom { asked: 9, available: 8 });
        assert_eq!(buffer.append(3).unwrap_err(), NoRoom { asked: 3, available: 2 });
        assert_eq!((buffer.headroom(), buffer.len(), buffer.tailroom()), (8, 4, 2));
        buffer.prepend(8).unwrap().fill(1);
        buffer.append(2).unwrap().fill(2);
        assert_eq!(buffer.as_slice(), [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 2, 2]);
    }

    #[test]
    fn enclosing_is_cutting_and_growing() {
        for (front, keep, back) in [(0, 0, 0), (8, 4, 2), (8, 1, 5), (3, 2, 0), (9, 4, 2), (8, 5, 0), (8, 5, 1), (8, 4, 3), (0, 0, 7), (usize::MAX, 0, 0)] {
            let (mut one, mut other) = (Buffer::zeroed(8, 4, 2), Buffer::zeroed(8, 4, 2));
            one.as_mut_slice().copy_from_slice(&[1, 2, 3, 4]);
            other.as_mut_slice().copy_from_slice(&[1, 2, 3, 4]);
            let enclosed = one.enclose(front, keep, back).map(|bytes| bytes.to_vec());
            let fits = keep <= 4 && front <= 8 && back <= 6 - keep;
            assert_eq!(enclosed.is_ok(), fits, "{front} {keep} {back}");
            if fits {
                other.truncate(keep);
                other.prepend(front).unwrap();
                other.append(back).unwrap();
                assert_eq!(enclosed.unwrap(), other.as_slice());
            }
            assert_eq!((one.headroom(), one.as_slice()), (other.headroom(), other.as_slice()), "{front} {keep} {back}");
        }
    }

    #[test]
    fn trims_stop_at_the_packet() {
        let mut buffer = Buffer::copy_from(&[1, 2, 3, 4]);
        buffer.trim_front(1);
        buffer.trim_back(1);
        assert_eq!(buffer.as_slice(), [2, 3]);
        buffer.trim_front(100);
        assert!(buffer.is_empty());
        buffer.trim_back(100);
        assert!(buffer.is_empty());
    }

    #[test]
    fn pool_reuses_what_it_is_given() {
        let mut pool = BufferPool::new();
        for round in 0..100 {
            let buffers: Vec<_> = [60, 1500, 1664, 9000, 65_535].iter().map(|&len| pool.take(len)).collect();
            for (buffer, len) in buffers.iter().zip([60, 1500, 1664, 9000, 65_535]) {
                assert_eq!(buffer.len(), len, "round {round}");
                assert!(buffer.headroom() >= HEADROOM && buffer.tailroom() >= TAILROOM);
            }
            for buffer in buffers {
                pool.give(buffer);
            }
        }
        assert_eq!(pool.allocated(), 5);
        assert_eq!(pool.free(), 5);
        let (small, jumbo) = (pool.take(60).capacity(), pool.take(9000).capacity());
        assert!(pool.spare(small).is_some_and(|buffer| buffer.capacity() < jumbo));
        assert!(pool.spare(jumbo).is_none(), "the only one was taken");
        assert!(pool.spare(small + 777).is_none(), "of no class");
    }

    #[test]
    fn an_oversize_packet_gets_a_buffer_of_its_own() {
        let mut pool = BufferPool::new();
        let buffer = pool.take(200_000);
        assert_eq!((buffer.len(), buffer.headroom(), buffer.tailroom()), (200_000, HEADROOM, TAILROOM));
        pool.give(buffer);
        assert_eq!(pool.free(), 0);
    }

    #[test]
    fn debug_shows_no_bytes() {
        let buffer = Buffer::copy_from(b"clear text");
        assert_eq!(format!("{buffer:?}"), "Buffer(10 bytes, 256 before, 128 after)");
    }
}
