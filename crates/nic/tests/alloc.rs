//! Sending and receiving allocate nothing per packet once a lane has warmed up.

mod common;
mod counting;
#[path = "common/kinds.rs"]
mod kinds;
#[path = "common/large.rs"]
mod large;

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

/// AH, AH over ESP, ciphers with separate authentication, transport over tunnel: the lane's own memory for masked headers is all that they need.
#[test]
fn a_warm_lane_allocates_nothing_for_any_kind() {
    use kinds::{CBC, GCM, GMAC, Kind, SHA1, SHA256};
    let kinds = [
        vec![Kind::ah(0x3001, SHA1)],
        vec![Kind { extras: true, ..Kind::ah(0x3002, GMAC).v6() }],
        vec![Kind::both(0x1003, CBC, Some(SHA256), 0x3003, SHA1)],
        vec![Kind::esp(0x1004, CBC, Some(SHA1))],
        vec![Kind::gcm(0x1005).udp(ndis::UdpEspType::Transport)],
        vec![Kind::both(0x2006, GCM, None, 0x4006, SHA256), Kind::both(0x1006, CBC, None, 0x3006, GMAC).net(1).v6()],
    ];
    let mut nic = Nic::new(Link::Bare);
    let handles: Vec<Vec<_>> = kinds
        .iter()
        .map(|kinds| {
            for kind in kinds {
                nic.try_add(kind.bundle(Direction::Inbound)).unwrap();
            }
            kinds.iter().map(|kind| nic.try_add(kind.bundle(Direction::Outbound)).unwrap()).collect()
        })
        .collect();
    let packets: Vec<_> = (0..96_u32)
        .map(|n| {
            let payload = vec![n as u8; 10 * n as usize];
            match &kinds[n as usize % kinds.len()][..] {
                [kind] => kind.build(&payload, 17, n + 1),
                [outer, inner] => outer.around(&inner.build_inner(&payload, 17, n + 1), n + 1),
                _ => unreachable!(),
            }
        })
        .collect();
    let mut pool = packet::BufferPool::new();
    let (mut batch, mut done, mut wire, mut up) = (NblBatch::new(), NblBatch::new(), FrameBatch::new(), NblBatch::new());
    let mut round = |expected: Option<u64>| {
        batch.extend(packets.iter().enumerate().map(|(n, packet)| {
            let handles = &handles[n % kinds.len()];
            let mut list = ndis::NetBufferList::new(pool.copy_from(&packet.bytes), 0);
            list.oob.set_offload_handle(handles.last().copied());
            list.oob.set_tunnel_handle(if handles.len() == 2 { Some(handles[0]) } else { None });
            list.oob.set_header_transmit(packet.layers.last().unwrap().header);
            list
        }));
        let mut lane = LaneContext { now: Time::ZERO, pool: &mut pool };
        let sent = allocations(|| nic.queue.send(&mut lane, &mut batch, &mut done, &mut wire));
        assert_eq!((done.len(), wire.len()), (96, 96));
        for n in [0, 2, 5, 11, 40] {
            let last = wire[n].buffer.len() - 1;
            wire[n].buffer.as_mut_slice()[last] ^= 1;
        }
        let received = allocations(|| nic.queue.receive(&mut lane, &mut wire, &mut up));
        let good = up.iter().map(|list| list.oob.ipsec_receive()).filter(|receive| receive.crypto_done && receive.crypto_status == ndis::CryptoStatus::Success);
        assert_eq!(good.count(), 91);
        if let Some(expected) = expected {
            assert_eq!((sent, received), (expected, expected));
        }
        for list in done.drain(..).chain(up.drain(..)) {
            pool.give(list.buffer);
        }
    };
    round(None);
    round(None);
    for _ in 0..5 {
        round(Some(0));
    }
}

/// Large sends: the trains' buffers come from the lane's pool, and the lists' go there.
#[test]
fn a_warm_lane_allocates_nothing_for_large_sends() {
    use kinds::{CBC, GMAC, Kind, SHA1};
    use large::{Large, Version};
    let kinds = [
        Kind::gcm(0x1001),
        Kind::ah(0x3002, GMAC),
        Kind::both(0x1003, CBC, Some(SHA1), 0x3003, SHA1),
        Kind::esp(0x1004, CBC, Some(SHA1)).udp(ndis::UdpEspType::Transport),
    ];
    let mut nic = Nic::new(Link::Bare);
    let handles = kinds.map(|kind| nic.try_add(kind.bundle(Direction::Outbound)).unwrap());
    let templates: Vec<_> = (0..12_usize)
        .map(|n| {
            let version = [Version::One, Version::Two, Version::Udp][n % 3];
            let large = Large { version, payload: 60_000 - n, protected: n != 5, mss: 1400, low: n as u32 * 100 + 1, ..Large::new(kinds[n % 4]) };
            let list = large.list(Some(handles[n % 4]));
            (list.buffer.as_slice().to_vec(), list.oob)
        })
        .collect();
    let mut pool = packet::BufferPool::new();
    let (mut batch, mut done, mut wire) = (NblBatch::new(), NblBatch::new(), FrameBatch::new());
    let mut round = |expected: Option<u64>| {
        batch.extend(templates.iter().map(|(bytes, oob)| ndis::NetBufferList { oob: *oob, ..ndis::NetBufferList::new(pool.copy_from(bytes), 0) }));
        let mut lane = LaneContext { now: Time::ZERO, pool: &mut pool };
        let before = lane.pool.allocated();
        let sent = allocations(|| nic.queue.send(&mut lane, &mut batch, &mut done, &mut wire));
        assert!(done.iter().all(|list| list.status.is_success()));
        assert_eq!(wire.iter().map(|frame| frame.packets().count()).sum::<usize>(), 12 * 43);
        if let Some(expected) = expected {
            assert_eq!((sent, lane.pool.allocated() - before), (expected, 0));
        }
        done.clear();
        wire.drain(..).for_each(|frame| pool.give(frame.buffer));
    };
    round(None);
    round(None);
    for _ in 0..5 {
        round(Some(0));
    }
}
