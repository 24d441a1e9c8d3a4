//! Sending and receiving allocate nothing per packet once a lane has warmed up.

mod common;
mod counting;

use common::{Link, Nic, Sa, Shape};
use counting::allocations;
use ndis::{Direction, LaneContext, NblBatch};
use packet::{FrameBatch, Time};

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
