//! What a frame's bytes are: one packet; a train of packets, which is what a large send becomes; or a large packet that is still to be cut.

use core::fmt;

use crate::buffer::BufferPool;
use crate::frame::{Frame, FrameBatch};

/// Most packets of a train: what one call of a provider seals, and what one UDP GSO send takes.
pub const TRAIN_PACKETS: usize = 64;
/// Most bytes of a train of more than one packet: they fit a buffer of the largest class, and one UDP GSO send.
pub const TRAIN_BYTES: usize = 65_535;

/// Which segments a large packet is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Segments {
    /// TCP segments: one stream, cut.
    Tcp,
    /// UDP datagrams of one flow, with a header each.
    Udp,
}

/// What the bytes of a [`Frame`] are.
///
/// One word: 0 for a packet, as nearly always.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FrameForm(u32);

impl FrameForm {
    /// One packet.
    pub const PACKET: Self = Self(0);

    const KIND: u32 = 30;
    const TRAIN: u32 = 1;
    const TCP: u32 = 2;
    const UDP: u32 = 3;
    const NUMBER: u32 = (1 << 20) - 1;

    /// Largest stride and segment size, in bytes.
    pub const MAX: u32 = Self::NUMBER;

    const fn new(kind: u32, number: u32) -> Self {
        Self(kind << Self::KIND | if number < Self::MAX { number } else { Self::MAX })
    }

    /// Packets of `stride` bytes, one behind the other, of which the last may be shorter. A stride of 0 says that there is one packet.
    pub const fn train(stride: u32) -> Self {
        if stride == 0 { Self::PACKET } else { Self::new(Self::TRAIN, stride) }
    }

    /// A packet that is to be cut into segments with `mss` bytes of payload each, of which the last may have less. Its length field of IP means nothing, and
    /// its TCP or UDP checksum field holds the sum of the pseudo-header without the length (OV2-SEND-9).
    pub const fn large(segments: Segments, mss: u32) -> Self {
        Self::new(if matches!(segments, Segments::Tcp) { Self::TCP } else { Self::UDP }, mss)
    }

    /// Whether it is one packet, as it stands.
    #[inline]
    pub const fn is_packet(self) -> bool {
        self.0 == 0
    }

    /// Bytes from packet to packet, if it is a train.
    #[inline]
    pub const fn stride(self) -> Option<usize> {
        if self.0 >> Self::KIND == Self::TRAIN { Some((self.0 & Self::NUMBER) as usize) } else { None }
    }

    /// Which segments of how much payload it is to be cut into, if it is a large packet.
    #[inline]
    pub const fn to_cut(self) -> Option<(Segments, u32)> {
        match self.0 >> Self::KIND {
            Self::TCP => Some((Segments::Tcp, self.0 & Self::NUMBER)),
            Self::UDP => Some((Segments::Udp, self.0 & Self::NUMBER)),
            _ => None,
        }
    }
}

impl fmt::Debug for FrameForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.stride(), self.to_cut()) {
            (Some(stride), _) => write!(f, "Train({stride})"),
            (_, Some((segments, mss))) => write!(f, "Large({segments:?}, {mss})"),
            _ => f.write_str("Packet"),
        }
    }
}

/// A train's measures, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Train {
    /// From the start of one packet to the start of the next; length of all packets but the last.
    pub stride: usize,
    /// How many packets.
    pub count: usize,
    /// Length of the last one.
    pub last: usize,
}

impl Train {
    /// The train that `bytes` bytes make; `None` without any, or without a stride.
    pub const fn of(bytes: usize, stride: usize) -> Option<Self> {
        if bytes == 0 || stride == 0 {
            return None;
        }
        let count = bytes.div_ceil(stride);
        Some(Self { stride, count, last: bytes - (count - 1) * stride })
    }
}

impl Frame {
    /// Its measures, if it is a train.
    pub fn train(&self) -> Option<Train> {
        self.form.stride().and_then(|stride| Train::of(self.buffer.len(), stride))
    }

    /// The packets that it holds: of a train each, otherwise the frame itself (also a large packet that is still to be cut).
    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = self.buffer.as_slice();
        let (train, one) = match self.form.stride() {
            Some(stride) => (Some(bytes.chunks(stride)), None),
            None => (None, Some(bytes)),
        };
        train.into_iter().flatten().chain(one)
    }
}

/// Makes single packets of the trains among `frames`, each with the timestamp, tag and ordering group of its train; order is kept. Where there is no train,
/// nothing is touched.
pub fn unpack_trains(frames: &mut FrameBatch, pool: &mut BufferPool) {
    if frames.iter().all(|frame| frame.form.stride().is_none()) {
        return;
    }
    for frame in core::mem::take(frames) {
        if frame.form.stride().is_none() {
            frames.push(frame);
            continue;
        }
        for packet in frame.packets() {
            let Frame { timestamp, tag, order, .. } = frame;
            frames.push(Frame { timestamp, tag, order, ..Frame::new(pool.copy_from(packet)) });
        }
        pool.give(frame.buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Buffer;
    use crate::frame::Time;

    #[test]
    fn forms_say_what_they_were_made_of() {
        assert!(FrameForm::PACKET.is_packet() && FrameForm::default().is_packet() && FrameForm::train(0).is_packet());
        for number in [1, 536, 1460, 65_535, FrameForm::MAX] {
            let train = FrameForm::train(number);
            assert_eq!((train.stride(), train.to_cut(), train.is_packet()), (Some(number as usize), None, false));
            for segments in [Segments::Tcp, Segments::Udp] {
                let large = FrameForm::large(segments, number);
                assert_eq!((large.stride(), large.to_cut(), large.is_packet()), (None, Some((segments, number)), false));
            }
        }
        assert_eq!(FrameForm::large(Segments::Tcp, u32::MAX), FrameForm::large(Segments::Tcp, FrameForm::MAX));
        assert_eq!(FrameForm::large(Segments::Udp, 0).to_cut(), Some((Segments::Udp, 0)));
        assert_eq!(format!("{:?} {:?} {:?}", FrameForm::PACKET, FrameForm::train(9), FrameForm::large(Segments::Udp, 7)), "Packet Train(9) Large(Udp, 7)");
    }

    #[test]
    fn measures_of_trains() {
        for (bytes, stride, expected) in [(0, 5, None), (5, 0, None), (1, 5, Some((1, 1))), (5, 5, Some((1, 5))), (6, 5, Some((2, 1))), (10, 5, Some((2, 5)))] {
            assert_eq!(Train::of(bytes, stride).map(|train| (train.count, train.last)), expected, "{bytes} {stride}");
        }
    }

    #[test]
    fn trains_are_unpacked_in_their_place() {
        let mut pool = BufferPool::new();
        let bytes: Vec<u8> = (0..23).collect();
        let frame = |bytes: &[u8], tag, form| Frame { tag, form, order: tag as u16, timestamp: Time::from_nanos(tag), ..Frame::new(Buffer::copy_from(bytes)) };
        let mut frames = vec![frame(b"one", 1, FrameForm::PACKET), frame(&bytes, 2, FrameForm::train(10)), frame(b"two", 3, FrameForm::PACKET)];
        assert_eq!(frames[1].packets().map(<[u8]>::len).collect::<Vec<_>>(), [10, 10, 3]);
        assert_eq!(frames[1].train(), Some(Train { stride: 10, count: 3, last: 3 }));
        assert_eq!((frames[0].packets().count(), frames[0].train()), (1, None));
        unpack_trains(&mut frames, &mut pool);
        let seen: Vec<_> = frames.iter().map(|frame| (frame.tag, frame.order, frame.timestamp.as_nanos(), frame.buffer.as_slice().to_vec())).collect();
        let expected: [(u64, &[u8]); 5] = [(1, b"one"), (2, &bytes[..10]), (2, &bytes[10..20]), (2, &bytes[20..]), (3, b"two")];
        assert_eq!(seen, expected.map(|(tag, bytes)| (tag, tag as u16, tag, bytes.to_vec())));
        assert!(frames.iter().all(|frame| frame.form.is_packet()));
    }
}
