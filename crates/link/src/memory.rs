//! A wire in memory: two ends, each a [`Link`], of the same process and of any two threads.
//!
//! Frames arrive in the order in which they were sent, with their timestamps and tags. The wire holds a bounded number of them in each direction. It has
//! no clock and never waits, so it runs under virtual time as well as between threads.
//!
//! Frames cross without a copy under the lock, which is taken once a batch; the receiving end then copies them into buffers of its own lane, and the
//! sender's buffers travel back. So neither lane's pool runs dry or over, however one-sided the traffic is. The packets of a train are a frame each on it.
//!
//! ```
//! use link::{Link, Received, memory};
//! use packet::{BufferPool, Frame, Medium};
//!
//! let (mut left, mut right) = memory::pair(Medium::Ip, 256);
//! let mut pool = BufferPool::new();
//! let mut batch = vec![Frame::new(pool.copy_from(b"ping"))];
//! left.send(&mut pool, &mut batch)?;
//! assert!(batch.is_empty());
//! assert_eq!(right.receive(&mut pool, &mut batch, 64)?, Received::Frames(1));
//! assert_eq!(batch[0].buffer.as_slice(), b"ping");
//! # Ok::<(), link::LinkError>(())
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use packet::{Buffer, BufferPool, Frame, FrameBatch, Medium, unpack_trains};

use crate::{Link, LinkError, Received};

/// Two ends of a wire that holds at most `capacity` frames in each direction.
pub fn pair(medium: Medium, capacity: usize) -> (MemoryLink, MemoryLink) {
    let (there, back) = (Arc::new(Mutex::new(Lane::default())), Arc::new(Mutex::new(Lane::default())));
    let end = |outgoing: &Arc<Mutex<Lane>>, incoming: &Arc<Mutex<Lane>>| MemoryLink {
        medium,
        capacity,
        outgoing: Arc::clone(outgoing),
        incoming: Arc::clone(incoming),
        arrived: Vec::new(),
        done: Vec::new(),
    };
    (end(&there, &back), end(&back, &there))
}

/// One end of a wire in memory; dropping it closes the wire.
pub struct MemoryLink {
    medium: Medium,
    capacity: usize,
    outgoing: Arc<Mutex<Lane>>,
    incoming: Arc<Mutex<Lane>>,
    /// Frames taken off the wire and not copied yet: empty between calls.
    arrived: Vec<Frame>,
    /// Buffers of the other end, to be sent back with the next call.
    done: Vec<Buffer>,
}

/// One direction.
#[derive(Default)]
struct Lane {
    queue: VecDeque<Frame>,
    /// Buffers on their way back to the sender.
    returned: Vec<Buffer>,
    sender_gone: bool,
    receiver_gone: bool,
}

impl MemoryLink {
    /// How many frames are on the wire towards this end.
    pub fn pending(&self) -> usize {
        lock(&self.incoming).queue.len()
    }
}

impl Link for MemoryLink {
    fn medium(&self) -> Medium {
        self.medium
    }

    fn receive(&mut self, pool: &mut BufferPool, frames: &mut FrameBatch, max: usize) -> Result<Received, LinkError> {
        let ended = {
            let mut lane = lock(&self.incoming);
            let count = max.min(lane.queue.len());
            self.arrived.extend(lane.queue.drain(..count));
            lane.returned.append(&mut self.done);
            lane.sender_gone && lane.queue.is_empty()
        };
        let count = self.arrived.len();
        for frame in self.arrived.drain(..) {
            frames.push(Frame { buffer: pool.copy_from(frame.buffer.as_slice()), timestamp: frame.timestamp, tag: frame.tag, ..Frame::default() });
            self.done.push(frame.buffer);
        }
        Ok(match count {
            0 if ended => Received::End,
            0 => Received::Idle,
            count => Received::Frames(count),
        })
    }

    fn send(&mut self, pool: &mut BufferPool, frames: &mut FrameBatch) -> Result<(), LinkError> {
        unpack_trains(frames, pool);
        let mut lane = lock(&self.outgoing);
        for buffer in lane.returned.drain(..) {
            pool.give(buffer);
        }
        if lane.receiver_gone {
            return Err(LinkError::Closed);
        }
        let room = self.capacity.saturating_sub(lane.queue.len()).min(frames.len());
        lane.queue.extend(frames.drain(..room));
        Ok(())
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        lock(&self.outgoing).sender_gone = true;
        let mut lane = lock(&self.incoming);
        lane.receiver_gone = true;
        lane.queue.clear();
    }
}

/// A thread that panicked while it held the lock left whole frames behind: they are moved, never half written.
fn lock(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use packet::{HEADROOM, TAILROOM, Time};

    use super::*;

    fn frame(pool: &mut BufferPool, number: u64, len: usize) -> Frame {
        let mut buffer = pool.take(len);
        buffer.as_mut_slice().fill(number as u8);
        Frame { buffer, timestamp: Time::from_nanos(number * 1000), tag: number, ..Frame::default() }
    }

    #[test]
    fn trains_arrive_as_packets() {
        let (mut left, mut right) = pair(Medium::Ip, 3);
        let mut pool = BufferPool::new();
        let bytes: Vec<u8> = (0..25).collect();
        let train = Frame { tag: 9, form: packet::FrameForm::train(10), ..Frame::new(pool.copy_from(&bytes)) };
        let (mut batch, mut got) = (vec![frame(&mut pool, 1, 4), train], FrameBatch::new());
        left.send(&mut pool, &mut batch).unwrap();
        assert_eq!(batch.len(), 1, "there is room for three packets");
        assert_eq!(right.receive(&mut pool, &mut got, 64).unwrap(), Received::Frames(3));
        left.send(&mut pool, &mut batch).unwrap();
        right.receive(&mut pool, &mut got, 64).unwrap();
        let seen: Vec<_> = got.iter().map(|frame| (frame.tag, frame.buffer.as_slice())).collect();
        assert_eq!(seen, [(1, &[1; 4][..]), (9, &bytes[..10]), (9, &bytes[10..20]), (9, &bytes[20..])]);
    }

    #[test]
    fn frames_arrive_whole_and_in_order() {
        let (mut left, mut right) = pair(Medium::Ethernet, 8);
        let (mut mine, mut theirs) = (BufferPool::new(), BufferPool::new());
        assert_eq!((left.medium(), right.medium()), (Medium::Ethernet, Medium::Ethernet));
        let mut batch: FrameBatch = (0..5).map(|number| frame(&mut mine, number, 60 + number as usize)).collect();
        // A frame whose room is used up gets the usual room at the other end.
        let room = batch[0].buffer.headroom();
        batch[0].buffer.prepend(room).unwrap().fill(9);
        let first = batch[0].buffer.as_slice().to_vec();
        left.send(&mut mine, &mut batch).unwrap();
        assert!(batch.is_empty());
        assert_eq!(right.pending(), 5);
        assert_eq!(right.receive(&mut theirs, &mut batch, 3).unwrap(), Received::Frames(3));
        assert_eq!(right.receive(&mut theirs, &mut batch, 64).unwrap(), Received::Frames(2));
        assert_eq!(right.receive(&mut theirs, &mut batch, 64).unwrap(), Received::Idle);
        assert_eq!(left.receive(&mut mine, &mut batch, 64).unwrap(), Received::Idle);
        assert_eq!(batch[0].buffer.as_slice(), first);
        for (number, frame) in batch.iter().enumerate() {
            assert_eq!((frame.tag, frame.timestamp.as_nanos()), (number as u64, number as u64 * 1000));
            assert!(frame.buffer.headroom() >= HEADROOM && frame.buffer.tailroom() >= TAILROOM);
            assert!(number == 0 || frame.buffer.as_slice() == vec![number as u8; 60 + number]);
        }
    }

    #[test]
    fn a_full_wire_leaves_the_rest_with_the_sender() {
        let (mut left, mut right) = pair(Medium::Ip, 4);
        let mut pool = BufferPool::new();
        let mut batch: FrameBatch = (0..10).map(|number| frame(&mut pool, number, 40)).collect();
        let mut got = FrameBatch::new();
        while got.len() < 10 {
            let before = batch.len();
            left.send(&mut pool, &mut batch).unwrap();
            assert_eq!(before - batch.len(), before.min(4));
            right.receive(&mut pool, &mut got, 64).unwrap();
        }
        assert!(got.iter().map(|frame| frame.tag).eq(0..10));
    }

    #[test]
    fn one_sided_traffic_needs_no_new_buffers() {
        let (mut left, mut right) = pair(Medium::Ip, 64);
        let (mut mine, mut theirs) = (BufferPool::new(), BufferPool::new());
        let (mut out, mut got) = (FrameBatch::new(), FrameBatch::new());
        let mut settled = None;
        for round in 0..200 {
            out.extend((0..32).map(|number| frame(&mut mine, number, if number % 4 == 0 { 9000 } else { 1400 })));
            left.send(&mut mine, &mut out).unwrap();
            assert_eq!(right.receive(&mut theirs, &mut got, 64).unwrap(), Received::Frames(32));
            got.drain(..).for_each(|frame| theirs.give(frame.buffer));
            if round == 10 {
                settled = Some((mine.allocated(), theirs.allocated()));
            }
        }
        assert_eq!(settled, Some((mine.allocated(), theirs.allocated())));
    }

    #[test]
    fn a_dropped_end_closes_the_wire_after_what_was_sent() {
        let (mut left, mut right) = pair(Medium::Ip, 64);
        let mut pool = BufferPool::new();
        let mut batch = vec![frame(&mut pool, 1, 20)];
        left.send(&mut pool, &mut batch).unwrap();
        drop(left);
        assert_eq!(right.receive(&mut pool, &mut batch, 64).unwrap(), Received::Frames(1));
        assert_eq!(right.receive(&mut pool, &mut batch, 64).unwrap(), Received::End);
        assert!(matches!(right.send(&mut pool, &mut batch), Err(LinkError::Closed)));
        assert_eq!(batch.len(), 1, "what was not sent stays with the sender");
    }

    #[test]
    fn works_between_threads() {
        const COUNT: u64 = 20_000;
        let (mut left, mut right) = pair(Medium::Ip, 128);
        let sender = thread::spawn(move || {
            let (mut pool, mut batch, mut next) = (BufferPool::new(), FrameBatch::new(), 0);
            while next < COUNT || !batch.is_empty() {
                while next < COUNT && batch.len() < 32 {
                    batch.push(frame(&mut pool, next, 20 + (next % 100) as usize));
                    next += 1;
                }
                left.send(&mut pool, &mut batch).unwrap();
                if !batch.is_empty() {
                    thread::yield_now();
                }
            }
        });
        let (mut pool, mut batch, mut expected) = (BufferPool::new(), FrameBatch::new(), 0);
        loop {
            match right.receive(&mut pool, &mut batch, 64).unwrap() {
                Received::Frames(_) => {
                    for frame in batch.drain(..) {
                        assert_eq!(frame.tag, expected);
                        assert_eq!(frame.buffer.as_slice(), vec![expected as u8; 20 + (expected % 100) as usize]);
                        expected += 1;
                        pool.give(frame.buffer);
                    }
                }
                Received::Idle => thread::yield_now(),
                Received::End => break,
            }
        }
        assert_eq!(expected, COUNT);
        sender.join().unwrap();
    }
}
