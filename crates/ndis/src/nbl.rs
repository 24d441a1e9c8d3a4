//! Net buffer lists: the unit that travels between transport, filters and miniport.

use core::fmt;

use packet::{Buffer, Frame, Time};

use crate::oob::OutOfBand;
use crate::status::Status;

/// Two words that belong to the protocol driver that owns a list while it is sent (`ProtocolReserved`); nobody below looks at them.
pub type ProtocolReserved = [u64; 2];

/// A net buffer list: one packet, seldom more, with out-of-band data. Moved, never cloned.
///
/// A list that was sent comes back completed exactly once: with [`Status::SUCCESS`] its buffers have gone to the wire and are empty; with any other
/// status they are whole and as they were handed over, and nothing of them has reached the wire (OV2-SEND-2).
#[derive(Default)]
pub struct NetBufferList {
    /// The first net buffer: a frame of the adapter's medium.
    pub buffer: Buffer,
    /// Further net buffers, which share the out-of-band data; almost always none (and then costs no allocation).
    pub more: Vec<Buffer>,
    /// Out-of-band data.
    pub oob: OutOfBand,
    /// How the send ended; looked at only in completed lists.
    pub status: Status,
    /// Where the outermost IP header begins in `buffer`, in bytes: the length of the link header.
    pub l3_offset: u16,
    /// The ordering group of its frames ([`Frame::order`]), carried along: the adapter puts it on every frame that it makes of the list.
    pub order: u16,
    /// The frame's timestamp, carried along.
    pub timestamp: Time,
    /// The caller's mark, carried along.
    pub tag: u64,
    /// The sending protocol driver's own words.
    pub protocol_reserved: ProtocolReserved,
}

impl NetBufferList {
    /// A list of one net buffer whose IP header begins at `l3_offset`; out-of-band data all zero.
    pub fn new(buffer: Buffer, l3_offset: u16) -> Self {
        Self { buffer, l3_offset, ..Self::default() }
    }

    /// A list from a frame of a link; it belongs to no ordering group.
    pub fn from_frame(frame: Frame, l3_offset: u16) -> Self {
        Self { buffer: frame.buffer, l3_offset, timestamp: frame.timestamp, tag: frame.tag, ..Self::default() }
    }

    /// Takes the first net buffer out as a frame for the wire, with the list's timestamp, tag and ordering group.
    #[inline]
    pub fn take_frame(&mut self) -> Frame {
        Frame { buffer: core::mem::take(&mut self.buffer), timestamp: self.timestamp, tag: self.tag, order: self.order }
    }

    /// All net buffers, in order.
    pub fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        core::iter::once(&self.buffer).chain(&self.more)
    }

    /// All net buffers, in order, to be changed.
    pub fn buffers_mut(&mut self) -> impl Iterator<Item = &mut Buffer> {
        core::iter::once(&mut self.buffer).chain(&mut self.more)
    }
}

impl fmt::Debug for NetBufferList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetBufferList")
            .field("buffer", &self.buffer)
            .field("more", &self.more.len())
            .field("oob", &self.oob)
            .field("status", &self.status)
            .field("l3_offset", &self.l3_offset)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

/// Net buffer lists that travel together; recycled by their owner, so that a batch costs no allocation.
pub type NblBatch = Vec<NetBufferList>;
