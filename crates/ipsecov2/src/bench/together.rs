//! Workers that are measured at the same time: all in their ways at once, from a common beginning on.

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::stats::median;
use super::{BenchError, Way};

/// Slices of a turn, of which the median is taken.
const SLICES: u32 = 10;
/// Most packets that a worker makes ready for a slice: these few are in its core's cache, as a single worker's are.
const MOST: usize = 512;
/// Looks at the others before a worker lets somebody else have the core.
const PATIENCE: u32 = 20_000;

/// What a worker says that could not begin because another had failed.
pub(super) const GAVE_UP: &str = "a worker that another has left alone";

/// Where workers meet before each slice. They wait by looking, so that they go on within a fraction of a microsecond, not when the system wakes them.
pub(super) struct Meeting {
    workers: usize,
    arrived: AtomicUsize,
    round: AtomicUsize,
    failed: AtomicBool,
    /// Batches of a slice, as the first worker has found out.
    count: AtomicUsize,
}

impl Meeting {
    pub(super) const fn new(workers: usize) -> Self {
        Self { workers, arrived: AtomicUsize::new(0), round: AtomicUsize::new(0), failed: AtomicBool::new(false), count: AtomicUsize::new(1) }
    }

    /// Waits for the others. False if one of them has failed: then nobody goes on.
    fn wait(&self) -> bool {
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.workers {
            self.arrived.store(0, Ordering::Relaxed);
            self.round.store(round.wrapping_add(1), Ordering::Release);
        }
        let mut looks = 0;
        while self.round.load(Ordering::Acquire) == round && !self.failed.load(Ordering::Acquire) {
            looks += 1;
            if looks < PATIENCE { hint::spin_loop() } else { thread::yield_now() }
        }
        !self.failed.load(Ordering::Acquire)
    }

    /// Nobody is to wait any more.
    pub(super) fn give_up(&self) {
        self.failed.store(true, Ordering::Release);
    }

    fn fail<T>(&self, error: BenchError) -> Result<T, BenchError> {
        self.give_up();
        Err(error)
    }
}

/// A worker's part of a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    begin: Instant,
    end: Instant,
    packets: usize,
}

/// A worker's part of a turn of about `length`, in batches of `size`; `leads`: it says how many batches make a slice.
pub(super) fn turn(way: &mut dyn Way, meeting: &Meeting, leads: bool, length: Duration, size: usize) -> Result<Vec<Slice>, BenchError> {
    way.prove_next();
    // One batch warms up, and tells how long one takes.
    let first = slice(way, meeting, 1, size)?;
    if leads {
        let time = (first.end - first.begin).as_nanos().max(1);
        let count = usize::try_from((length / SLICES).as_nanos() / time).unwrap_or(usize::MAX);
        meeting.count.store(count.clamp(1, (MOST / size).max(1)), Ordering::Release);
    }
    if !meeting.wait() {
        return Err(BenchError::Impossible(GAVE_UP));
    }
    let count = meeting.count.load(Ordering::Acquire);
    (0..SLICES).map(|_| slice(way, meeting, count, size)).collect()
}

fn slice(way: &mut dyn Way, meeting: &Meeting, count: usize, size: usize) -> Result<Slice, BenchError> {
    let mut times = None;
    let result = way.batches(count, &mut |run| {
        if meeting.wait() {
            let begin = Instant::now();
            run();
            times = Some((begin, Instant::now()));
        }
    });
    match (result, times) {
        (Ok(()), Some((begin, end))) => Ok(Slice { begin, end, packets: count * size }),
        (_, None) if meeting.failed.load(Ordering::Acquire) => Err(BenchError::Impossible(GAVE_UP)),
        (Err(error), _) => meeting.fail(error),
        (Ok(()), None) => meeting.fail(BenchError::Impossible("a way that is not timed")),
    }
}

/// Nanoseconds a packet of all workers together, each of whose slices are an item of `parts`: in each slice the time from the first one's beginning to the
/// last one's end; of these the median.
pub(super) fn nanoseconds(parts: &[&[Slice]], overhead: Duration) -> f64 {
    let slices = parts.iter().map(|slices| slices.len()).min().unwrap_or(0);
    let each = |number: usize| {
        let of = || parts.iter().filter_map(move |slices| slices.get(number));
        let (begin, end) = (of().map(|slice| slice.begin).min()?, of().map(|slice| slice.end).max()?);
        let packets: usize = of().map(|slice| slice.packets).sum();
        Some((end - begin).saturating_sub(overhead).as_secs_f64() * 1e9 / f64::from(packets as u32))
    };
    median(&(0..slices).filter_map(each).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::super::Watch;
    use super::*;

    /// Takes as long as it is told to, and fails in one of its slices.
    struct Pretended {
        time: Duration,
        slices: u32,
        fails_in: Option<u32>,
        watches: bool,
    }

    impl Way for Pretended {
        fn batches(&mut self, count: usize, watch: Watch<'_>) -> Result<(), BenchError> {
            self.slices += 1;
            if self.watches {
                watch(&mut || thread::sleep(self.time * count as u32));
            }
            if self.fails_in == Some(self.slices) { Err(BenchError::Lost { packets: 2, good: 1 }) } else { Ok(()) }
        }
    }

    fn run(ways: [Pretended; 2]) -> Vec<Result<Vec<Slice>, BenchError>> {
        let meeting = Meeting::new(2);
        thread::scope(|scope| {
            let meeting = &meeting;
            let threads: Vec<_> = ways
                .into_iter()
                .enumerate()
                .map(|(worker, mut way)| scope.spawn(move || turn(&mut way, meeting, worker == 0, Duration::from_millis(10), 4)))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn sleeper(milliseconds: u64) -> Pretended {
        Pretended { time: Duration::from_millis(milliseconds), slices: 0, fails_in: None, watches: true }
    }

    #[test]
    fn what_counts_is_the_time_until_the_slowest_is_done() {
        let parts: Vec<_> = run([sleeper(1), sleeper(3)]).into_iter().map(Result::unwrap).collect();
        assert!(parts.iter().all(|slices| slices.len() == SLICES as usize));
        let together = nanoseconds(&[&parts[0], &parts[1]], Duration::ZERO);
        // 3 ms for the 8 packets of both; the timed parts alone would give 4 packets in 1 ms and 4 in 3 ms: 187,500 ns.
        assert!((375_000.0..2_000_000.0).contains(&together), "{together}");
        assert!((250_000.0..3_000_000.0).contains(&nanoseconds(&[&parts[0]], Duration::ZERO)));
        assert!(nanoseconds(&[], Duration::ZERO).abs() < 1e-9);
    }

    #[test]
    fn nobody_waits_for_a_worker_that_has_failed() {
        for (fails_in, watches) in [(1, true), (5, true), (1, false), (3, false)] {
            let bad = Pretended { time: Duration::ZERO, slices: 0, fails_in: Some(fails_in), watches };
            let results = run([sleeper(0), bad]);
            assert!(matches!(results[0], Err(BenchError::Impossible(GAVE_UP))), "{fails_in} {watches}");
            assert!(matches!(results[1], Err(BenchError::Lost { packets: 2, good: 1 } | BenchError::Impossible(_))), "{fails_in} {watches}");
        }
    }
}
