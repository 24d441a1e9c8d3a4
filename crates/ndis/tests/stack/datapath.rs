//! The way of packets, in every state of the adapter.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use ndis::{AdapterState, Datapath, Filter, FilterQueue, LaneContext, NblBatch, Status};
use packet::{BufferPool, FrameBatch, Time};

use super::double::{Fixture, NIC, frames, lists};

/// A lane with its way of packets, and what came out of it.
struct Lane {
    datapath: Datapath,
    pool: BufferPool,
    done: NblBatch,
    wire: FrameBatch,
    up: NblBatch,
}

impl Lane {
    fn new(fixture: &Fixture) -> Self {
        Self {
            datapath: fixture.stack.open_datapath(NIC).unwrap(),
            pool: BufferPool::new(),
            done: NblBatch::new(),
            wire: FrameBatch::new(),
            up: NblBatch::new(),
        }
    }

    fn send(&mut self, mut batch: NblBatch) {
        let mut context = LaneContext { now: Time::from_nanos(1), pool: &mut self.pool };
        self.datapath.send(&mut context, &mut batch, &mut self.done, &mut self.wire);
        assert!(batch.is_empty());
    }

    fn receive(&mut self, mut batch: FrameBatch) -> usize {
        let mut context = LaneContext { now: Time::from_nanos(1), pool: &mut self.pool };
        let dropped = self.datapath.receive(&mut context, &mut batch, &mut self.up);
        assert!(batch.is_empty());
        dropped
    }

    fn poll(&mut self) {
        let mut context = LaneContext { now: Time::from_nanos(1), pool: &mut self.pool };
        self.datapath.poll(&mut context, &mut self.done, &mut self.wire);
    }

    /// Marks and statuses of the lists that came back.
    fn done(&mut self) -> Vec<(u64, Status)> {
        self.done.drain(..).map(|list| (list.tag, list.status)).collect()
    }

    fn wire(&mut self) -> Vec<u64> {
        self.wire.drain(..).map(|frame| frame.tag).collect()
    }

    fn up(&mut self) -> Vec<u64> {
        self.up.drain(..).map(|list| list.tag).collect()
    }
}

fn all(tags: core::ops::Range<u64>, status: Status) -> Vec<(u64, Status)> {
    tags.map(|tag| (tag, status)).collect()
}

#[test]
fn running_passes_everything_in_order() {
    let fixture = Fixture::new();
    let mut lane = Lane::new(&fixture);
    lane.send(lists(0..5));
    lane.send(NblBatch::new());
    assert_eq!(lane.done(), all(0..5, Status::SUCCESS));
    assert_eq!(lane.wire(), [0, 1, 2, 3, 4]);
    assert_eq!(lane.receive(frames(0..5)), 0);
    assert_eq!(lane.up(), [0, 1, 2, 3, 4]);
    assert_eq!((lane.datapath.outstanding(), lane.datapath.dropped()), (0, 0));
    assert_eq!(fixture.nic.queues.load(Ordering::SeqCst), 1, "opened once");
    lane.datapath.idle();
    assert_eq!(fixture.nic.idle.load(Ordering::SeqCst), 1);
}

/// A filter-free way hands the caller's own batches on: no list is moved to other memory.
#[test]
fn without_filters_the_batches_are_the_callers() {
    let fixture = Fixture::new();
    let mut lane = Lane::new(&fixture);
    lane.done.reserve(8);
    lane.wire.reserve(8);
    lane.up.reserve(8);
    let places = (lane.done.as_ptr(), lane.wire.as_ptr(), lane.up.as_ptr());
    lane.send(lists(0..8));
    lane.receive(frames(0..8));
    assert_eq!((lane.done.as_ptr(), lane.wire.as_ptr(), lane.up.as_ptr()), places);
    assert_eq!((lane.done.len(), lane.wire.len(), lane.up.len()), (8, 8, 8));
}

fn refuses(fixture: &Fixture, lane: &mut Lane, state: AdapterState, status: Status) {
    assert_eq!(lane.datapath.state(), state);
    let batch = lists(10..13);
    let bytes: Vec<_> = batch.iter().map(|list| list.buffer.as_slice().to_vec()).collect();
    lane.send(batch);
    assert!(lane.wire.is_empty());
    assert_eq!(lane.done.iter().map(|list| list.buffer.as_slice().to_vec()).collect::<Vec<_>>(), bytes, "whole");
    assert_eq!(lane.done(), all(10..13, status));
    let (before, free) = (lane.datapath.dropped(), lane.pool.free());
    let batch = (0..4).map(|_| packet::Frame::new(lane.pool.take(60))).collect();
    assert_eq!(lane.receive(batch), 4);
    assert!(lane.up.is_empty());
    assert_eq!((lane.datapath.dropped(), lane.pool.free()), (before + 4, free.max(4)), "the buffers are in the pool");
    let queues = fixture.nic.queues.load(Ordering::SeqCst);
    lane.poll();
    lane.datapath.idle();
    assert_eq!(fixture.nic.queues.load(Ordering::SeqCst), queues);
}

#[test]
fn an_adapter_that_does_not_run_sends_nothing_and_receives_nothing() {
    let fixture = Fixture::new();
    let mut lane = Lane::new(&fixture);
    lane.send(lists(0..1));

    fixture.stack.reset_adapter(NIC).unwrap();
    lane.done();
    lane.wire();
    refuses(&fixture, &mut lane, AdapterState::Resetting, Status::RESET_IN_PROGRESS);
    fixture.stack.pump();
    lane.send(lists(1..2));
    assert_eq!(lane.done(), all(1..2, Status::SUCCESS));
    lane.wire();
    assert_eq!(fixture.nic.queues.load(Ordering::SeqCst), 1, "a reset leaves the queue as it is");

    fixture.nic.fail_initialize.store(true, Ordering::SeqCst);
    fixture.stack.restart_adapter(NIC).unwrap_err();
    refuses(&fixture, &mut lane, AdapterState::Stopped, Status::PAUSED);
    fixture.nic.fail_initialize.store(false, Ordering::SeqCst);
    fixture.stack.restart_adapter(NIC).unwrap();
    assert_eq!(lane.receive(frames(0..3)), 0);
    assert_eq!(lane.up(), [0, 1, 2]);
    assert_eq!(fixture.nic.queues.load(Ordering::SeqCst), 2, "a restart opens another");

    fixture.stack.surprise_remove(NIC).unwrap();
    refuses(&fixture, &mut lane, AdapterState::Removed, Status::ADAPTER_REMOVED);
}

#[test]
fn a_datapath_may_be_opened_before_and_outlive_the_adapter() {
    let fixture = Fixture::new();
    fixture.stack.reset_adapter(NIC).unwrap();
    let mut lane = Lane::new(&fixture);
    lane.send(lists(0..1));
    assert_eq!(lane.done(), all(0..1, Status::RESET_IN_PROGRESS));
    fixture.stack.pump();
    lane.send(lists(1..2));
    assert_eq!(lane.done(), all(1..2, Status::SUCCESS));
    lane.wire();
    drop(fixture.stack);
    lane.send(lists(2..3));
    assert_eq!(lane.done(), all(2..3, Status::ADAPTER_REMOVED));
    assert!(lane.wire.is_empty());
}

#[test]
fn sends_that_finish_later_come_back_once_through_every_change() {
    let fixture = Fixture::new();
    let mut lane = Lane::new(&fixture);
    fixture.nic.hold_sends.store(true, Ordering::SeqCst);
    lane.send(lists(0..3));
    lane.poll();
    assert!(lane.done().is_empty());
    assert_eq!(lane.datapath.outstanding(), 3);
    fixture.nic.release_sends.store(true, Ordering::SeqCst);
    lane.poll();
    assert_eq!(lane.done(), all(0..3, Status::SUCCESS));
    assert_eq!((lane.wire(), lane.datapath.outstanding()), (vec![0, 1, 2], 0));

    // Held over a restart: the halted queue gives them back whole, the new one is used meanwhile.
    fixture.nic.release_sends.store(false, Ordering::SeqCst);
    lane.send(lists(3..5));
    fixture.stack.restart_adapter(NIC).unwrap();
    lane.send(lists(5..6));
    assert_eq!(lane.datapath.outstanding(), 3);
    lane.poll();
    assert_eq!(lane.done(), all(3..5, Status::ADAPTER_REMOVED));
    assert_eq!(lane.datapath.outstanding(), 1);
    fixture.stack.remove_adapter(NIC).unwrap();
    lane.poll();
    assert_eq!(lane.done(), all(5..6, Status::ADAPTER_REMOVED));
    assert_eq!(lane.datapath.outstanding(), 0);
    lane.poll();
    assert!(lane.done().is_empty() && lane.wire().is_empty());
}

/// Writes down the marks that pass, holds lists with some marks back, and swallows some that come up.
struct Sieve {
    name: &'static str,
    fails: &'static [u64],
    drops: &'static [u64],
    seen: Arc<Mutex<Vec<String>>>,
}

struct SieveQueue {
    name: &'static str,
    fails: &'static [u64],
    drops: &'static [u64],
    seen: Arc<Mutex<Vec<String>>>,
}

impl Filter for Sieve {
    fn name(&self) -> &str {
        self.name
    }

    fn open_queue(&self) -> Option<Box<dyn FilterQueue>> {
        Some(Box::new(SieveQueue { name: self.name, fails: self.fails, drops: self.drops, seen: Arc::clone(&self.seen) }))
    }
}

impl SieveQueue {
    fn see(&self, what: &str, batch: &NblBatch) {
        let tags: Vec<_> = batch.iter().map(|list| list.tag).collect();
        self.seen.lock().unwrap().push(format!("{} {what} {tags:?}", self.name));
    }
}

impl FilterQueue for SieveQueue {
    fn send(&mut self, _lane: &mut LaneContext<'_>, batch: &mut NblBatch, done: &mut NblBatch) {
        self.see("send", batch);
        let (failed, passed) = batch.drain(..).partition(|list| self.fails.contains(&list.tag));
        *batch = passed;
        done.extend(Vec::from_iter::<NblBatch>(failed).into_iter().map(|mut list| {
            list.status = Status::FAILURE;
            list
        }));
    }

    fn send_complete(&mut self, _lane: &mut LaneContext<'_>, done: &mut NblBatch) {
        self.see("complete", done);
    }

    fn receive(&mut self, _lane: &mut LaneContext<'_>, up: &mut NblBatch) {
        self.see("receive", up);
        up.retain(|list| !self.drops.contains(&list.tag));
    }
}

#[test]
fn packets_pass_the_filters_down_and_up() {
    let fixture = Fixture::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sieve = |name, fails, drops| Arc::new(Sieve { name, fails, drops, seen: Arc::clone(&seen) });
    fixture.stack.attach_filter(NIC, sieve("low", &[1], &[0])).unwrap();
    let mut lane = Lane::new(&fixture);
    lane.send(lists(0..1));
    fixture.stack.attach_filter(NIC, sieve("high", &[2], &[])).unwrap();
    lane.done();
    lane.wire();
    seen.lock().unwrap().clear();

    lane.send(lists(0..4));
    assert_eq!(
        core::mem::take(&mut *seen.lock().unwrap()),
        ["high send [0, 1, 2, 3]", "low send [0, 1, 3]", "high complete [1]", "low complete [0, 3]", "high complete [0, 3]"],
        "the high one failed 2 and sees nothing of it again; the low one failed 1"
    );
    assert_eq!(lane.done(), [(2, Status::FAILURE), (1, Status::FAILURE), (0, Status::SUCCESS), (3, Status::SUCCESS)]);
    assert_eq!(lane.wire(), [0, 3]);

    // What is in `done` and `up` already is not shown to filters.
    lane.send(lists(7..8));
    lane.send(lists(8..9));
    assert_eq!(lane.done(), all(7..9, Status::SUCCESS));
    lane.receive(frames(0..3));
    lane.receive(frames(3..5));
    let seen_now = core::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(seen_now[8..], ["low receive [0, 1, 2]", "high receive [1, 2]", "low receive [3, 4]", "high receive [3, 4]"]);
    assert_eq!(lane.up(), [1, 2, 3, 4]);
    lane.wire();

    // A list that is under way when a filter goes passes it on its way up.
    fixture.nic.hold_sends.store(true, Ordering::SeqCst);
    lane.send(lists(10..11));
    fixture.stack.detach_filter(NIC, "high").unwrap();
    lane.send(lists(11..12));
    fixture.nic.release_sends.store(true, Ordering::SeqCst);
    seen.lock().unwrap().clear();
    lane.poll();
    assert_eq!(*seen.lock().unwrap(), ["low complete [10]", "high complete [10]", "low complete [11]"]);
    assert_eq!(lane.done(), all(10..12, Status::SUCCESS));
    assert_eq!(lane.datapath.outstanding(), 0);

    // Nothing goes on to those below if a filter takes everything.
    fixture.nic.hold_sends.store(false, Ordering::SeqCst);
    lane.wire();
    seen.lock().unwrap().clear();
    lane.send(lists(1..2));
    assert_eq!(*seen.lock().unwrap(), ["low send [1]"]);
    assert_eq!(lane.done(), [(1, Status::FAILURE)]);
    assert!(lane.wire.is_empty());
}

/// A lane sends and receives while the adapter is reset, restarted and given filters; every list and every frame has one end.
#[test]
fn nothing_is_lost_or_doubled_while_the_adapter_changes() {
    const ROUNDS: u32 = 150;
    let fixture = Fixture::new();
    let mut lane = Lane::new(&fixture);
    let over = std::sync::atomic::AtomicBool::new(false);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut ended = Vec::<u8>::new();
    let (mut delivered, mut dropped, mut sent) = (0, 0, 0);
    let mut batch = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                match round % 6 {
                    0 => fixture.stack.reset_adapter(NIC).unwrap(),
                    2 => fixture.stack.restart_adapter(NIC).unwrap(),
                    3 => {
                        let sieve = Sieve { name: "sieve", fails: &[], drops: &[], seen: Arc::clone(&seen) };
                        fixture.stack.attach_filter(NIC, Arc::new(sieve)).unwrap();
                    }
                    5 => fixture.stack.detach_filter(NIC, "sieve").unwrap(),
                    _ => {}
                }
                fixture.nic.hold_sends.store(round.is_multiple_of(2), Ordering::SeqCst);
                fixture.nic.release_sends.store(round.is_multiple_of(3), Ordering::SeqCst);
                fixture.stack.pump();
                seen.lock().unwrap().clear();
                std::thread::yield_now();
            }
            over.store(true, Ordering::SeqCst);
        });
        let mut count = |lane: &mut Lane, ended: &mut Vec<u8>| {
            sent += lane.wire().len();
            for (tag, status) in lane.done() {
                ended[tag as usize] += 1;
                assert_ne!(status, Status::PENDING);
            }
        };
        while !over.load(Ordering::SeqCst) {
            ended.resize(ended.len() + 4, 0);
            lane.send(lists(batch * 4..batch * 4 + 4));
            batch += 1;
            dropped += lane.receive(frames(0..2));
            delivered += lane.up().len();
            lane.poll();
            count(&mut lane, &mut ended);
        }
        fixture.nic.release_sends.store(true, Ordering::SeqCst);
        while lane.datapath.outstanding() > 0 {
            lane.poll();
            count(&mut lane, &mut ended);
        }
    });
    assert!(ended.iter().all(|&ends| ends == 1), "each list ends once");
    assert!(sent > 0 && delivered > 0);
    assert_eq!(delivered + dropped, 2 * batch as usize);
    assert_eq!(lane.datapath.dropped(), dropped as u64);
}
