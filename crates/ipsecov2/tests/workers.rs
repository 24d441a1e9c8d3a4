//! Workers and dispatchers: what belongs together stays together, nothing is lost, and buffers go round.

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::{Connection, tunnel_v4};
use ipsecov2::host::{Host, HostConfig, HostControl};
use ipsecov2::workers::{Dispatcher, Output, Workers};
use ndis::Direction;
use packet::{BufferPool, Frame, FrameBatch, IpProtocol, Ipv4Repr, Medium, Time};
use transport::{InboundBatch, SaParameters};

const NOW: Time = Time::from_nanos(1);
const FLOWS: u64 = 16;

fn config() -> HostConfig {
    HostConfig { medium: Medium::Ip, ..HostConfig::default() }
}

fn control(parameters: impl IntoIterator<Item = SaParameters>) -> Arc<HostControl> {
    let control = HostControl::new(&config()).unwrap();
    for parameters in parameters {
        control.add_sa(parameters, NOW).unwrap();
    }
    control.service(NOW);
    Arc::new(control)
}

/// SAs of several connections, one a flow or one for all.
fn connection() -> Connection {
    Connection { replay_window: 64, ..tunnel_v4() }
}

/// A packet of a flow.
fn packet(pool: &mut BufferPool, number: u64) -> Frame {
    let mut buffer = pool.take(20 + 16);
    let source = [10, 0, 1, (number % FLOWS) as u8];
    Ipv4Repr::new(IpProtocol(253), source.into(), [10, 0, 2, 1].into(), 16).emit(buffer.as_mut_slice()).unwrap();
    buffer.as_mut_slice()[20..28].copy_from_slice(&number.to_be_bytes());
    Frame { tag: number, ..Frame::new(buffer) }
}

/// What came out of workers: of which worker, frames on the wire in order, numbers of packets that were delivered.
#[derive(Default)]
struct Log {
    wire: Mutex<Vec<Vec<u8>>>,
    delivered: Mutex<Vec<(usize, u64)>>,
}

struct Logger {
    worker: usize,
    log: Arc<Log>,
    /// Panics with the packet of this number.
    panics_at: Option<u64>,
}

impl Output for Logger {
    fn transmit(&mut self, pool: &mut BufferPool, frames: &mut FrameBatch) {
        assert!(!frames.iter().any(|frame| Some(frame.tag) == self.panics_at), "as it was told");
        let mut wire = self.log.wire.lock().unwrap();
        for frame in frames.drain(..) {
            wire.push(frame.buffer.as_slice().to_vec());
            pool.give(frame.buffer);
        }
    }

    fn deliver(&mut self, pool: &mut BufferPool, out: &mut InboundBatch) {
        let mut delivered = self.log.delivered.lock().unwrap();
        for frame in out.delivered.drain(..) {
            delivered.push((self.worker, u64::from_be_bytes(frame.buffer.as_slice()[20..28].try_into().unwrap())));
            pool.give(frame.buffer);
        }
    }
}

fn start(control: &Arc<HostControl>, count: usize, log: &Arc<Log>) -> (Workers<Logger>, Dispatcher) {
    let outputs = (0..count).map(|worker| Logger { worker, log: Arc::clone(log), panics_at: None });
    let workers = Workers::start(control, outputs).unwrap();
    let dispatcher = workers.dispatcher(Medium::Ip);
    (workers, dispatcher)
}

#[test]
fn flows_keep_their_order_and_all_that_was_dispatched_is_done() {
    const PACKETS: u64 = 20_000;
    for (senders, receivers) in [(1, 1), (2, 3), (4, 2)] {
        let sender = control([connection().parameters(Direction::Outbound, true)]);
        let receiver = control([connection().parameters(Direction::Inbound, true)]);
        let log = Arc::new(Log::default());
        let (workers, mut dispatcher) = start(&sender, senders, &log);
        assert_eq!(workers.count(), senders);
        let mut frames = FrameBatch::new();
        for first in (0..PACKETS).step_by(50) {
            let pool = dispatcher.pool();
            frames.extend((first..first + 50).map(|number| packet(pool, number)));
            dispatcher.outbound(NOW, &mut frames);
            assert!(frames.is_empty());
        }
        // Nobody waits: what is in the queues is done before the workers end.
        drop(dispatcher);
        assert_eq!(workers.finish().len(), senders);
        let wire = core::mem::take(&mut *log.wire.lock().unwrap());
        let numbers: Vec<u32> = wire.iter().map(|frame| u32::from_be_bytes(frame[24..28].try_into().unwrap())).collect();
        assert!(numbers.iter().copied().eq(1..=PACKETS as u32), "{senders} workers");

        let (workers, mut dispatcher) = start(&receiver, receivers, &log);
        for frame in wire.chunks(77) {
            frames.extend(frame.iter().map(|frame| Frame::new(dispatcher.pool().copy_from(frame))));
            dispatcher.inbound(NOW, &mut frames);
        }
        drop((dispatcher, workers));
        let delivered = core::mem::take(&mut *log.delivered.lock().unwrap());
        assert_eq!(delivered.len() as u64, PACKETS, "a window of 64 has dropped none");
        assert!(delivered.iter().all(|(worker, _)| *worker == delivered[0].0), "an SA has one worker");
        let mut last = HashMap::new();
        for (_, number) in delivered {
            let before = last.insert(number % FLOWS, number);
            assert!(before.is_none_or(|before| before < number), "{number} after {before:?}");
        }
    }
}

/// Several dispatchers, as of a link with several queues, have the packets of an SA taken in by the same worker.
#[test]
fn dispatchers_of_the_same_workers_place_alike() {
    let sender = control([connection().parameters(Direction::Outbound, true)]);
    // Of so many pairs that placed each in its own way, some would part an SA.
    for _ in 0..8 {
        let log = Arc::new(Log::default());
        let (workers, mut dispatcher) = start(&sender, 1, &log);
        let mut frames: FrameBatch = (0..20).map(|number| packet(dispatcher.pool(), number)).collect();
        dispatcher.outbound(NOW, &mut frames);
        drop((dispatcher, workers));
        let receiver = control([connection().parameters(Direction::Inbound, true)]);
        let wire = core::mem::take(&mut *log.wire.lock().unwrap());
        let (workers, first) = start(&receiver, 2, &log);
        let mut dispatchers = [first, workers.dispatcher(Medium::Ip)];
        for (number, frame) in wire.iter().enumerate() {
            let dispatcher = &mut dispatchers[number % 2];
            frames.push(Frame::new(dispatcher.pool().copy_from(frame)));
            dispatcher.inbound(NOW, &mut frames);
        }
        drop((dispatchers, workers));
        let delivered = log.delivered.lock().unwrap();
        assert_eq!(delivered.len(), 20);
        assert!(delivered.iter().all(|(worker, _)| *worker == delivered[0].0), "{delivered:?}");
    }
}

#[test]
fn a_worker_that_panics_loses_its_packets_and_no_others() {
    let sender = control([connection().parameters(Direction::Outbound, true)]);
    let log = Arc::new(Log::default());
    let outputs = (0..2).map(|worker| Logger { worker, log: Arc::clone(&log), panics_at: Some(100) });
    let workers = Workers::start(&sender, outputs).unwrap();
    let mut dispatcher = workers.dispatcher(Medium::Ip);
    let mut frames = FrameBatch::new();
    let mut lost = 0;
    for number in 0..2000 {
        frames.push(packet(dispatcher.pool(), number));
        dispatcher.outbound(NOW, &mut frames);
        dispatcher.wait();
        lost += dispatcher.take_lost();
    }
    drop(dispatcher);
    assert_eq!(workers.finish().len(), 1, "one has ended");
    assert!(lost > 0);
    let sent = log.wire.lock().unwrap().len();
    assert_eq!(sent + lost, 2000);
    assert!(sent > 200, "{sent}: the other has gone on");
}

#[test]
fn buffers_go_round() {
    let sender = control([connection().parameters(Direction::Outbound, true)]);
    let (workers, mut dispatcher) = start(&sender, 2, &Arc::new(Log::default()));
    let mut frames = FrameBatch::new();
    let mut allocated = 0;
    for round in 0..400 {
        for number in 0..64 {
            let mut frame = packet(dispatcher.pool(), number);
            if number % 8 == 0 {
                // Of another size.
                let mut buffer = dispatcher.pool().take(9000);
                buffer.truncate(36);
                buffer.as_mut_slice().copy_from_slice(frame.buffer.as_slice());
                dispatcher.pool().give(core::mem::replace(&mut frame.buffer, buffer));
            }
            frames.push(frame);
        }
        dispatcher.outbound(NOW, &mut frames);
        dispatcher.wait();
        if round == 20 {
            allocated = dispatcher.pool().allocated();
        }
    }
    // One worker may have sent what the other left, and keeps some of its buffers.
    let more = dispatcher.pool().allocated() - allocated;
    assert!(more < 2500, "{more} buffers for 24,000 packets");
    drop(dispatcher);
    drop(workers);
}

#[test]
fn a_host_of_several_workers_does_what_one_of_one_does() {
    let lost = AtomicUsize::new(0);
    for workers in [1, 2, 3] {
        let host = || Host::new(&HostConfig { workers, ..config() }).unwrap();
        let (mut a, mut b) = (host(), host());
        assert_eq!((a.workers(), b.workers()), (workers, workers));
        a.add_sa(connection().parameters(Direction::Outbound, true), NOW).unwrap();
        b.add_sa(connection().parameters(Direction::Inbound, true), NOW).unwrap();
        let (mut wire, mut out) = (FrameBatch::new(), InboundBatch { report: true, ..InboundBatch::default() });
        a.service(NOW, &mut wire);
        b.service(NOW, &mut wire);
        let mut frames: FrameBatch = (0..500).map(|number| packet(a.pool(), number)).collect();
        a.send(NOW, &mut frames, &mut wire);
        assert_eq!((wire.len(), a.transport().outbound().offloaded.packets), (500, 500));
        lost.fetch_add(b.receive(NOW, &mut wire, &mut out), Ordering::Relaxed);
        assert_eq!((out.delivered.len(), out.verdicts.len()), (500, 500));
        let mut tags: Vec<_> = out.delivered.iter().map(|frame| frame.tag).collect();
        tags.sort_unstable();
        assert!(tags.into_iter().eq(0..500));
        // What an adapter that is stopped holds up goes when it runs.
        a.reset_adapter().unwrap();
        frames.extend((500..520).map(|number| packet(a.pool(), number)));
        a.send(NOW, &mut frames, &mut wire);
        assert_eq!((wire.len(), a.backlog()), (0, 20));
        a.service(NOW, &mut wire);
        a.service(NOW, &mut wire);
        assert_eq!((wire.len(), a.backlog()), (20, 0));
        assert_eq!(a.adapter_state(), ndis::AdapterState::Running);
    }
    assert_eq!(lost.into_inner(), 0);
}
