//! Runs that wait, and are sent by others, cost no allocation once vectors have their lengths.
#![cfg(not(loom))]

#[path = "../../nic/tests/counting/mod.rs"]
mod counting;

use std::sync::Arc;

use counting::allocations;
use wire_order::{Domain, Estate, Outlet};

const DOMAINS: usize = 3;
const WORKERS: usize = 4;
const ROOM: usize = 1024;

/// The domain that a frame belongs to, its number, its group.
type Frame = (usize, u64, u16);

struct Bench {
    numbers: [u64; DOMAINS],
    domains: [Arc<Domain<Frame>>; DOMAINS],
    workers: Vec<(Outlet<Frame>, Vec<Frame>)>,
    /// The number of each domain that was sent last.
    sent: [u64; DOMAINS],
    /// How many frames came with others of their worker's.
    others: u64,
}

impl Bench {
    fn new() -> Self {
        let estate = Arc::new(Estate::new());
        let workers = (0..WORKERS).map(|_| (Outlet::new(&estate), Vec::with_capacity(ROOM))).collect();
        let domains = std::array::from_fn(|_| Arc::new(Domain::new(0, ROOM)));
        Self { numbers: [0; DOMAINS], domains, workers, sent: [0; DOMAINS], others: 0 }
    }

    fn take(&mut self, worker: usize, on: usize, count: u32) {
        let (outlet, frames) = &mut self.workers[worker];
        let first = self.numbers[on] + 1;
        self.numbers[on] += u64::from(count);
        let group = outlet.take_turn(&self.domains[on], first, count);
        frames.extend((first..first + u64::from(count)).map(|number| (on, number, group)));
    }

    /// Nothing comes of the frames of a worker. Returns how many there were.
    fn drop_frames(&mut self, worker: usize) -> usize {
        self.workers[worker].1.drain(..).count()
    }

    fn transmit(&mut self, worker: usize) {
        let Self { workers, sent, others, .. } = self;
        let (outlet, frames) = &mut workers[worker];
        let mut calls = 0;
        outlet.transmit(
            frames,
            |frame| frame.2,
            |frames| {
                calls += 1;
                if calls > 1 {
                    *others += frames.len() as u64;
                }
                for (on, number, _) in frames.drain(..) {
                    assert!(number > sent[on]);
                    sent[on] = number;
                }
            },
        );
    }
}

/// One worker always comes too early, and another always sends for it.
#[test]
fn vectors_come_back_to_whom_they_were_taken_from() {
    let mut bench = Bench::new();
    let round = |bench: &mut Bench, runs: u32| {
        allocations(|| {
            (0..DOMAINS).for_each(|on| bench.take(0, on, 1));
            for run in 0..runs {
                (0..DOMAINS).for_each(|on| bench.take(1, on, 1 + (run + on as u32) % 5));
                bench.transmit(1);
            }
            bench.transmit(0);
        })
    };
    for runs in [1, 4, 60] {
        assert_ne!(round(&mut bench, runs), 0);
        for _ in 0..8 {
            round(&mut bench, runs);
        }
        let all = (0..100).map(|_| round(&mut bench, runs)).sum::<u64>();
        assert_eq!(all, 0, "{runs} at a time");
    }
    assert_eq!(bench.sent, bench.numbers);
    assert!(bench.others > 1000);
}

/// The same where everybody waits for everybody, and runs come without frames, too: no vector gathers where it is not needed.
#[test]
fn vectors_stay_where_they_are_needed() {
    /// Steps after which nothing waits.
    const WINDOW: usize = 64;
    let mut bench = Bench::new();
    // As many runs wait as ever will below, of each worker and of each domain.
    for worker in 0..WORKERS {
        for _ in 0..WINDOW {
            for on in 0..DOMAINS {
                bench.take((worker + 1) % WORKERS, on, 1);
                bench.take(worker, on, 1);
            }
        }
        bench.transmit(worker);
        bench.transmit((worker + 1) % WORKERS);
    }
    let (mut random, mut dropped, mut waited) = (0x9e37_79b9_7f4a_7c15_u64, 0, 0);
    for step in 0..200_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let roll = (random >> 33) as usize;
        let worker = roll % WORKERS;
        let made = allocations(|| match roll / 4 % 8 {
            // Fewer than a new vector has space for.
            0..=3 if bench.workers[worker].1.len() <= 12 => bench.take(worker, roll / 32 % DOMAINS, 1 + (roll / 128 % 4) as u32),
            4 => dropped += bench.drop_frames(worker),
            _ => bench.transmit(worker),
        });
        assert_eq!(made, 0, "step {step}");
        waited += bench.domains.iter().map(|domain| domain.waiting()).sum::<usize>();
        if step % WINDOW == 0 {
            (0..WORKERS).for_each(|worker| bench.transmit(worker));
            assert_eq!(bench.domains.each_ref().map(|domain| domain.released()), bench.numbers);
        }
    }
    assert!(dropped > 10_000 && waited > 100_000 && bench.others > 10_000, "{dropped} {waited} {}", bench.others);
}
