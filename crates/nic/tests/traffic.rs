//! Changes under running traffic: resets, deletions and configuration from one thread while others send and receive. Nothing is lost, and nothing
//! protected leaves in clear.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Link, Nic, Sa, Shape};
use ndis::{CryptoStatus, DirectOid, Direction, IpsecSetting, LaneContext, Miniport, NblBatch, OffloadHandle, Outcome, Status, StatusIndication};
use packet::{Buffer, BufferPool, Frame, FrameBatch, Time};

const MARK: [u8; 16] = *b"never in clear!!";

/// Waits until both lanes have begun and ended a batch.
fn let_traffic_flow(nic: &Nic) {
    let before = nic.driver.counters();
    loop {
        let now = nic.driver.counters();
        if now.sends() > before.sends() + 16 && now.receives() > before.receives() + 16 {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn resets_and_configuration_changes_under_traffic_lose_and_leak_nothing() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001);
    let stop = Arc::new(AtomicBool::new(false));
    let handle = Arc::new(AtomicU64::new(0));
    let sender = std::thread::spawn({
        let (mut queue, stop, handle) = (nic.miniport.open_queue(), Arc::clone(&stop), Arc::clone(&handle));
        move || {
            let (mut pool, mut ended) = (BufferPool::new(), [0_u64; 3]);
            let mut sequence = 0;
            while !stop.load(Ordering::Relaxed) {
                let now = OffloadHandle::from_bits(handle.load(Ordering::Relaxed).max(1));
                let mut batch: NblBatch = Vec::new();
                for _ in 0..16 {
                    sequence += 1;
                    batch.push(sa.unsealed(Shape::BARE, sequence, &MARK).list(now));
                }
                let before: Vec<_> = batch.iter().map(|list| list.buffer.as_slice().to_vec()).collect();
                let (mut done, mut wire) = (NblBatch::new(), FrameBatch::new());
                queue.send(&mut LaneContext { now: Time::ZERO, pool: &mut pool }, &mut batch, &mut done, &mut wire);
                assert_eq!(done.len(), 16);
                for (list, before) in done.iter().zip(&before) {
                    let way = match list.status {
                        Status::SUCCESS => 0,
                        Status::FAILURE => 1,
                        Status::RESET_IN_PROGRESS => 2,
                        other => panic!("{other}"),
                    };
                    ended[way] += 1;
                    assert!(way == 0 || list.buffer.as_slice() == before, "a failure is whole");
                }
                assert_eq!(wire.len(), done.iter().filter(|list| list.status.is_success()).count());
                for frame in &wire {
                    assert!(!frame.buffer.as_slice().windows(MARK.len()).any(|window| window == MARK));
                }
            }
            ended
        }
    });
    let receiver = std::thread::spawn({
        let (mut queue, stop) = (nic.miniport.open_queue(), Arc::clone(&stop));
        move || {
            let mut pool = BufferPool::new();
            let (mut good, mut untouched) = (0_u64, 0_u64);
            let packet = sa.unsealed(Shape::BARE, 1, &MARK);
            let wire = sa.sealed(&packet, 1);
            while !stop.load(Ordering::Relaxed) {
                let mut frames: FrameBatch = (0..16).map(|_| Frame::new(Buffer::copy_from(&wire))).collect();
                let mut up = NblBatch::new();
                queue.receive(&mut LaneContext { now: Time::ZERO, pool: &mut pool }, &mut frames, &mut up);
                assert_eq!(up.len(), 16);
                for list in &up {
                    let receive = list.oob.ipsec_receive();
                    if receive.crypto_done {
                        assert_eq!(receive.crypto_status, CryptoStatus::Success);
                        assert!(list.buffer.as_slice().windows(MARK.len()).any(|window| window == MARK));
                        good += 1;
                    } else {
                        assert_eq!(list.buffer.as_slice(), wire);
                        untouched += 1;
                    }
                }
            }
            (good, untouched)
        }
    });
    for round in 0..40 {
        let outbound = nic.add(&sa, Direction::Outbound);
        let inbound = nic.add(&sa, Direction::Inbound);
        handle.store(outbound.to_bits(), Ordering::Relaxed);
        let_traffic_flow(&nic);
        match round % 4 {
            0 => {
                nic.miniport.reset(&mut nic.up);
                while nic.up.indications.last() != Some(&StatusIndication::ResetEnd) {
                    nic.poll();
                    std::thread::yield_now();
                }
                nic.up.indications.clear();
            }
            1 => {
                nic.set_ipsec(IpsecSetting::Disabled);
                let_traffic_flow(&nic);
                nic.set_ipsec(IpsecSetting::AhAndEsp);
            }
            _ => {}
        }
        if round % 4 != 0
            && let Outcome::Pending = nic.direct(DirectOid::DeleteSa(vec![outbound.to_bits(), inbound.to_bits()]))
        {
            let completion = loop {
                if let Some(completion) = nic.completions().pop() {
                    break completion;
                }
                std::thread::yield_now();
            };
            assert_eq!(completion.0, Status::SUCCESS);
        }
        assert_eq!(nic.miniport.sas(), (0, 0));
        let_traffic_flow(&nic);
    }
    // Let both see a quiet SA at the end, and none before.
    let outbound = nic.add(&sa, Direction::Outbound);
    nic.add(&sa, Direction::Inbound);
    handle.store(outbound.to_bits(), Ordering::Relaxed);
    let before = nic.driver.counters();
    while nic.counter("sent_offloaded") < before.sent_offloaded + 64 || nic.counter("received_crypto_good") < before.received_crypto_good + 64 {
        std::thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    let ([sent, failed, resetting], (good, untouched)) = (sender.join().unwrap(), receiver.join().unwrap());
    let counters = nic.driver.counters();
    assert_eq!((counters.sent_offloaded, counters.send_failed + counters.send_not_configured, counters.send_not_running), (sent, failed, resetting));
    assert_eq!((counters.received_crypto_good, counters.received_untouched), (good, untouched));
    assert_eq!((counters.sends(), counters.receives()), (sent + failed + resetting, good + untouched));
    assert!(sent > 0 && failed > 0 && good > 0);
}
