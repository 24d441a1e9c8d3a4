//! Sending and receiving allocate nothing per packet once a lane has warmed up.
//!
//! The allocator counts what this thread allocates, so that the test harness does not disturb it.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{Link, Nic, Sa, Shape};
use ndis::{Direction, LaneContext, NblBatch};
use packet::{FrameBatch, Time};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // A thread that is ending has no cell any more, and nothing to measure.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches only a thread-local cell that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations, reallocations and releases of this thread in `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 2);
    assert_eq!(allocations(|| {}), 0);
}

#[test]
fn a_warm_lane_allocates_nothing() {
    for esn in [false, true] {
        // With 8-byte ICVs the other provider does the work.
        for icv in [16, 8] {
            let mut nic = Nic::new(Link::Ethernet);
            let sa = Sa { icv, esn, ..Sa::new(0x1001) };
            let outbound = nic.add(&sa, Direction::Outbound);
            nic.add(&sa, Direction::Inbound);
            let shape = Shape { link: Link::Ethernet, ..Shape::BARE };
            let packets: Vec<_> = (0..64).map(|n| sa.unsealed(shape, n + 1, &[n as u8; 1400])).collect();
            let mut pool = packet::BufferPool::new();
            let (mut batch, mut done, mut wire, mut up) = (NblBatch::new(), NblBatch::new(), FrameBatch::new(), NblBatch::new());
            let mut round = |expected: Option<u64>| {
                batch.extend(packets.iter().map(|packet| {
                    let mut list = ndis::NetBufferList::new(pool.copy_from(&packet.bytes), packet.l3 as u16);
                    list.oob.set_offload_handle(Some(outbound));
                    list.oob.set_header_transmit(packet.header);
                    list
                }));
                // One that fails and one in clear.
                batch[5].oob.set_offload_handle(ndis::OffloadHandle::from_bits(99));
                batch[6].oob.set_offload_handle(None);
                let mut lane = LaneContext { now: Time::ZERO, pool: &mut pool };
                let sent = allocations(|| nic.queue.send(&mut lane, &mut batch, &mut done, &mut wire));
                assert_eq!((done.len(), wire.len()), (64, 63));
                // A forged one among them.
                wire[9].buffer.as_mut_slice()[100] ^= 1;
                let received = allocations(|| nic.queue.receive(&mut lane, &mut wire, &mut up));
                assert_eq!(up.iter().filter(|list| list.oob.header_receive().is_some()).count(), 61);
                if let Some(expected) = expected {
                    assert_eq!((sent, received), (expected, expected), "ESN {esn}, ICV {icv}");
                }
                for list in done.drain(..).chain(up.drain(..)) {
                    pool.give(list.buffer);
                }
            };
            round(None);
            for _ in 0..5 {
                round(Some(0));
            }
        }
    }
}
