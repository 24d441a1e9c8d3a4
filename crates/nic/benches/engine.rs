//! The NIC's send and receive engines against the bare cryptographic provider on the same lengths, in the same run: AES-128-GCM, tunnel mode, batches of
//! 64, whole miniport queue included.
//!
//! Besides criterion's figures it prints, per size and direction, nanoseconds a packet of both and their ratio (provider / NIC: 1 would be a NIC that
//! costs nothing beyond the cryptography). Rounds of both alternate, and the medians are compared, so that a machine that is busy elsewhere spoils
//! neither more than the other. What has to be done again for each round (clear trailers, fresh ciphertext) is not timed.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::{Link, Nic, Packet, Sa, Shape};
use criterion::{Criterion, Throughput};
use ipsec::{Crypto, OpenBatch, Provider, Scratch, SealBatch};
use ndis::{Direction, LaneContext, MiniportQueue, NblBatch, OffloadHandle};
use packet::{Buffer, BufferPool, Frame, FrameBatch, Time};

const BATCH: usize = 64;
const ROUNDS: usize = 4000;
const SA: Sa = Sa::new(0x1001);

struct Bench {
    crypto: Crypto,
    queue: Box<dyn MiniportQueue>,
    pool: BufferPool,
    handle: OffloadHandle,
    packets: Vec<Packet>,
    sealed: Vec<Vec<u8>>,
    batch: NblBatch,
    done: NblBatch,
    wire: FrameBatch,
    frames: FrameBatch,
    up: NblBatch,
    raw: Vec<Vec<u8>>,
    scratch: Scratch,
}

impl Bench {
    fn new(len: usize) -> Self {
        let mut nic = Nic::new(Link::Ethernet);
        let handle = nic.add(&SA, Direction::Outbound);
        nic.add(&SA, Direction::Inbound);
        let shape = Shape { link: Link::Ethernet, extras: false, next_header: 4 };
        let mut inner = vec![0x5a; len];
        inner[0] = 0x45;
        let packets: Vec<_> = (0..BATCH).map(|n| SA.unsealed(shape, n as u32 + 1, &inner)).collect();
        let sealed: Vec<_> = packets.iter().zip(1..).map(|(packet, sequence)| SA.sealed(packet, sequence)).collect();
        Self {
            crypto: Crypto::default(),
            queue: nic.queue,
            pool: nic.pool,
            handle,
            batch: packets.iter().map(|packet| packet.list(Some(handle))).collect(),
            done: NblBatch::new(),
            wire: FrameBatch::new(),
            frames: sealed.iter().map(|bytes| Frame::new(Buffer::copy_from(bytes))).collect(),
            up: NblBatch::new(),
            raw: packets.iter().map(|packet| packet.bytes.clone()).collect(),
            packets,
            sealed,
            scratch: Scratch::new(),
        }
    }

    fn nic_send(&mut self) -> Duration {
        let mut lane = LaneContext { now: Time::ZERO, pool: &mut self.pool };
        let start = Instant::now();
        self.queue.send(&mut lane, black_box(&mut self.batch), &mut self.done, &mut self.wire);
        let time = start.elapsed();
        assert_eq!((self.done.len(), self.wire.len()), (BATCH, BATCH));
        for ((mut list, frame), packet) in self.done.drain(..).zip(self.wire.drain(..)).zip(&self.packets) {
            assert!(list.status.is_success());
            list.buffer = frame.buffer;
            // The trailer in clear again.
            list.buffer.as_mut_slice()[packet.esp.end - 20..].copy_from_slice(&packet.bytes[packet.esp.end - 20..]);
            self.batch.push(list);
        }
        time
    }

    fn raw_send(&mut self) -> Duration {
        let sa = SA.on(&self.crypto);
        let mut jobs = SealBatch::new();
        for ((bytes, packet), sequence) in self.raw.iter_mut().zip(&self.packets).zip(1..) {
            jobs.push(sa.seal_job(&mut bytes[packet.esp.clone()], sequence).unwrap());
        }
        let start = Instant::now();
        self.crypto.seal(black_box(&mut jobs));
        let time = start.elapsed();
        assert!(jobs.iter().all(|job| job.verdict.is_good()));
        time
    }

    fn nic_receive(&mut self) -> Duration {
        let mut lane = LaneContext { now: Time::ZERO, pool: &mut self.pool };
        let start = Instant::now();
        self.queue.receive(&mut lane, black_box(&mut self.frames), &mut self.up);
        let time = start.elapsed();
        assert_eq!(self.up.len(), BATCH);
        for (list, sealed) in self.up.drain(..).zip(&self.sealed) {
            assert!(list.oob.header_receive().is_some());
            let mut frame = Frame::new(list.buffer);
            frame.buffer.as_mut_slice().copy_from_slice(sealed);
            self.frames.push(frame);
        }
        time
    }

    fn raw_receive(&mut self) -> Duration {
        let sa = SA.on(&self.crypto);
        for (bytes, sealed) in self.raw.iter_mut().zip(&self.sealed) {
            bytes.copy_from_slice(sealed);
        }
        let mut jobs = OpenBatch::new();
        for ((bytes, packet), sequence) in self.raw.iter_mut().zip(&self.packets).zip(1..) {
            jobs.push(sa.open_job(&mut bytes[packet.esp.clone()], sequence).unwrap());
        }
        let start = Instant::now();
        self.crypto.open(black_box(&mut jobs), &mut self.scratch);
        let time = start.elapsed();
        assert!(jobs.iter().all(|job| job.verdict.is_good()));
        time
    }
}

type Measure = fn(&mut Bench) -> Duration;

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e9 / f64::from(BATCH as u32)
}

fn ratio(name: &str, len: usize, nic: Measure, raw: Measure, target: f64) {
    let mut bench = Bench::new(len);
    let (mut nics, mut raws) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (nic, raw) = (nic(&mut bench), raw(&mut bench));
        if round >= ROUNDS / 10 {
            nics.push(nic);
            raws.push(raw);
        }
    }
    let (nic, raw) = (median(&mut nics), median(&mut raws));
    let verdict = if raw / nic >= target { "reached" } else { "MISSED" };
    println!(
        "{name:8} {len:5} bytes  NIC {nic:7.1} ns  {provider} {raw:7.1} ns  ratio {:.3}  (target {target}: {verdict})",
        raw / nic,
        provider = bench.crypto.name()
    );
}

fn main() {
    // `cargo test --benches` only checks that everything runs.
    let test = std::env::args().any(|argument| argument == "--test");
    if !test {
        ratio("send", 64, Bench::nic_send, Bench::raw_send, 0.5);
        ratio("send", 1420, Bench::nic_send, Bench::raw_send, 0.75);
        ratio("receive", 64, Bench::nic_receive, Bench::raw_receive, 0.5);
        ratio("receive", 1420, Bench::nic_receive, Bench::raw_receive, 0.75);
    }
    let mut criterion = Criterion::default().configure_from_args();
    let measures: [(&str, Measure); 4] =
        [("nic_send", Bench::nic_send), ("raw_send", Bench::raw_send), ("nic_receive", Bench::nic_receive), ("raw_receive", Bench::raw_receive)];
    for len in [64, 1420] {
        let mut group = criterion.benchmark_group(format!("aes-gcm-128/{len}"));
        group.throughput(Throughput::Elements(BATCH as u64));
        group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
        for (name, measure) in measures {
            let mut bench = Bench::new(len);
            assert_ne!(bench.handle.to_bits(), 0);
            group.bench_function(name, |bencher| bencher.iter_custom(|rounds| (0..rounds).map(|_| measure(&mut bench)).sum()));
        }
        group.finish();
    }
    criterion.final_summary();
}
