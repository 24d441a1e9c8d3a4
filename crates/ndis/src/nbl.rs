//! Net buffer lists: the unit that travels between transport, filters and miniport.

use core::fmt;
use core::ops::{Deref, DerefMut};

use packet::{Buffer, ChecksumState, Frame, FrameForm, Time};

use crate::oob::OutOfBand;
use crate::status::Status;
use crate::tasks::ChecksumRequest;

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
    /// Further net buffers, which share the out-of-band data; almost always none.
    pub more: MoreBuffers,
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
    #[inline]
    pub fn from_frame(frame: Frame, l3_offset: u16) -> Self {
        let Frame { buffer, timestamp, tag, order: _, form: _, checksum: _ } = frame;
        // Every member by itself: `..Self::default()` makes a whole list first, and drops what is left of it.
        Self {
            buffer,
            more: MoreBuffers(None),
            oob: OutOfBand::default(),
            status: Status::SUCCESS,
            l3_offset,
            order: 0,
            timestamp,
            tag,
            protocol_reserved: [0; 2],
        }
    }

    /// The same for a frame that is to be sent: what it leaves to be computed ([`ChecksumState::Partial`]) is asked for in its out-of-band data, in a form that
    /// no NIC takes: the protocol driver that sends it has to say where that is, or to compute it.
    #[inline]
    pub fn to_send(frame: Frame) -> Self {
        let checksum = if frame.checksum == ChecksumState::Partial { ChecksumRequest::UNPLACED } else { 0 };
        let mut list = Self::from_frame(frame, 0);
        list.oob.checksum = checksum;
        list
    }

    /// Takes the first net buffer out as a frame for the wire, with the list's timestamp, tag and ordering group.
    #[inline]
    pub fn take_frame(&mut self) -> Frame {
        Frame {
            buffer: core::mem::take(&mut self.buffer),
            timestamp: self.timestamp,
            tag: self.tag,
            order: self.order,
            form: FrameForm::PACKET,
            checksum: ChecksumState::Unknown,
        }
    }

    /// All net buffers, in order.
    pub fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        core::iter::once(&self.buffer).chain(&*self.more)
    }

    /// All net buffers, in order, to be changed.
    pub fn buffers_mut(&mut self) -> impl Iterator<Item = &mut Buffer> {
        core::iter::once(&mut self.buffer).chain(&mut *self.more)
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

/// Net buffers of a list beyond its first: one word, which is zero where there are none, and no allocation then. It is a slice to read and to change.
#[derive(Default)]
#[expect(clippy::box_collection, reason = "one word in every list, for what hardly any list has")]
pub struct MoreBuffers(
    /// Never empty.
    Option<Box<Vec<Buffer>>>,
);

impl MoreBuffers {
    /// Whether there are none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds one behind the others.
    pub fn push(&mut self, buffer: Buffer) {
        self.0.get_or_insert_default().push(buffer);
    }

    /// Takes all of them out, in order.
    #[inline]
    pub fn take(&mut self) -> impl Iterator<Item = Buffer> + use<> {
        self.0.take().into_iter().flat_map(|buffers| *buffers)
    }
}

impl Deref for MoreBuffers {
    type Target = [Buffer];

    #[inline]
    fn deref(&self) -> &[Buffer] {
        self.0.as_ref().map_or(&[], |buffers| buffers)
    }
}

impl DerefMut for MoreBuffers {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Buffer] {
        self.0.as_mut().map_or(&mut [], |buffers| buffers)
    }
}

impl Extend<Buffer> for MoreBuffers {
    fn extend<I: IntoIterator<Item = Buffer>>(&mut self, buffers: I) {
        buffers.into_iter().for_each(|buffer| self.push(buffer));
    }
}

impl FromIterator<Buffer> for MoreBuffers {
    fn from_iter<I: IntoIterator<Item = Buffer>>(buffers: I) -> Self {
        let mut more = Self::default();
        more.extend(buffers);
        more
    }
}

impl<'a> IntoIterator for &'a MoreBuffers {
    type Item = &'a Buffer;
    type IntoIter = core::slice::Iter<'a, Buffer>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Net buffer lists that travel together; recycled by their owner, so that a batch costs no allocation.
pub type NblBatch = Vec<NetBufferList>;

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists are made, read and moved for every packet.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_list_is_fourteen_words() {
        assert!(size_of::<NetBufferList>() <= 14 * 8);
    }

    #[test]
    fn further_buffers_come_out_in_order_and_leave_none() {
        let buffer = |byte: u8| Buffer::copy_from(&[byte]);
        let mut list = NetBufferList::new(buffer(0), 0);
        assert!(list.more.is_empty() && list.more.iter().count() == 0 && list.more.take().next().is_none());
        list.more.push(buffer(1));
        list.more.extend([buffer(2), buffer(3)]);
        list.buffers_mut().for_each(|buffer| buffer.as_mut_slice()[0] += 1);
        assert_eq!(list.buffers().map(|buffer| buffer.as_slice()[0]).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!((list.more.is_empty(), list.more.len(), (&list.more).into_iter().count()), (false, 3, 3));
        assert_eq!(list.more.take().map(|buffer| buffer.as_slice()[0]).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(list.more.is_empty() && list.buffers().count() == 1);
        assert!([].into_iter().collect::<MoreBuffers>().is_empty());
    }
}
