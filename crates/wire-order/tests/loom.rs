//! The interleavings of workers that share domains, on loom's types: `RUSTFLAGS="--cfg loom" cargo test --release --test loom`.
//!
//! A wire is a cell of loom's, and written without any lock: loom stops when two workers send under one domain at a time, or one after the other without
//! seeing what the first has done. Each is checked with a bound on preemptions; all of them together take seconds.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use wire_order::{Domain, Estate, Outlet};

/// Checks every interleaving of a model, or those with at most so many preemptions.
fn check(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&runs);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 10_000;
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let runs = runs.load(Ordering::Relaxed);
    println!("{runs} interleavings");
    assert!(runs > 1, "nothing runs beside anything");
}

/// A frame: the wire that it belongs on, its number, and the group of its run.
struct Frame {
    on: usize,
    number: u64,
    group: u16,
}

/// What workers share of a domain.
struct Sequence {
    counter: AtomicU64,
    domain: Arc<Domain<Frame>>,
    wire: UnsafeCell<Vec<u64>>,
}

// SAFETY: loom checks every access to the cell, which is what the models are for.
unsafe impl Send for Sequence {}
// SAFETY: as above.
unsafe impl Sync for Sequence {}

impl Sequence {
    fn new(room: usize) -> Self {
        Self { counter: AtomicU64::new(0), domain: Arc::new(Domain::new(0, room)), wire: UnsafeCell::new(Vec::new()) }
    }

    /// All numbers up to `last` are on the wire, once and in their order, but for those that were given up; and nothing waits.
    fn assert_sent(&self, last: u64, given_up: &[u64]) {
        let sent = self.wire.with(|wire| {
            // SAFETY: loom has checked that nobody writes.
            unsafe { (*wire).clone() }
        });
        let expected: Vec<u64> = (1..=last).filter(|number| !given_up.contains(number)).collect();
        assert!(sent == expected, "sent {sent:?}");
        assert!(self.domain.waiting() == 0 && self.domain.released() == last);
    }
}

struct Bench(Vec<Sequence>, Arc<Estate<Frame>>);

impl Bench {
    /// One domain or more with so much room in their lots.
    fn new(domains: usize, room: usize) -> Arc<Self> {
        // What the fences are counted by (src/sync.rs) is made at the first fence: before there are threads, because loom orders all later fences after its
        // making.
        let estate = Arc::new(Estate::new());
        Outlet::<Frame>::new(&estate).take_turn(&Arc::new(Domain::new(0, 0)), 1, 1);
        Arc::new(Self((0..domains).map(|_| Sequence::new(room)).collect(), estate))
    }

    fn outlet(&self) -> Outlet<Frame> {
        Outlet::new(&self.1)
    }

    /// Takes a number of a domain, and makes a frame under it.
    fn take(&self, on: usize, outlet: &mut Outlet<Frame>) -> Frame {
        let Sequence { counter, domain, .. } = &self.0[on];
        let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
        let group = outlet.take_turn(domain, number, 1);
        assert_ne!(group, 0);
        Frame { on, number, group }
    }

    fn transmit(&self, outlet: &mut Outlet<Frame>, frames: &mut Vec<Frame>) {
        outlet.transmit(
            frames,
            |frame| frame.group,
            |frames| {
                for frame in frames.drain(..) {
                    self.0[frame.on].wire.with_mut(|wire| {
                        // SAFETY: loom has checked that nobody else has access.
                        unsafe { (*wire).push(frame.number) }
                    });
                }
            },
        );
        assert!(frames.is_empty() && !outlet.is_waiting());
    }

    /// Takes a number of each of these domains, and then sends.
    fn send(&self, outlet: &mut Outlet<Frame>, domains: &[usize]) {
        let mut frames = domains.iter().map(|&on| self.take(on, outlet)).collect();
        self.transmit(outlet, &mut frames);
    }
}

fn beside(bench: &Arc<Bench>, work: impl FnOnce(&Bench, &mut Outlet<Frame>) + Send + 'static) -> thread::JoinHandle<()> {
    let bench = Arc::clone(bench);
    thread::spawn(move || work(&bench, &mut bench.outlet()))
}

/// A run that comes early is sent by whoever sends the one before.
#[test]
fn two_workers_keep_the_order() {
    check(Some(4), || {
        let bench = Bench::new(1, 8);
        let other = beside(&bench, |bench, outlet| bench.send(outlet, &[0]));
        bench.send(&mut bench.outlet(), &[0]);
        other.join().expect("no panic");
        bench.0[0].assert_sent(2, &[]);
    });
}

/// The same where there is no room to leave it: its worker waits.
#[test]
fn a_worker_waits_where_there_is_no_room() {
    check(Some(4), || {
        let bench = Bench::new(1, 0);
        let other = beside(&bench, |bench, outlet| bench.send(outlet, &[0]));
        bench.send(&mut bench.outlet(), &[0]);
        other.join().expect("no panic");
        bench.0[0].assert_sent(2, &[]);
    });
}

/// One run after the other, beside another worker.
#[test]
fn runs_of_one_worker_follow_one_another() {
    check(Some(2), || {
        let bench = Bench::new(1, 8);
        let other = beside(&bench, |bench, outlet| {
            bench.send(outlet, &[0]);
            bench.send(outlet, &[0]);
        });
        bench.send(&mut bench.outlet(), &[0, 0]);
        other.join().expect("no panic");
        bench.0[0].assert_sent(4, &[]);
    });
}

/// Three workers: what two have left behind is sent one after the other.
#[test]
fn three_workers_keep_the_order() {
    check(Some(2), || {
        let bench = Bench::new(1, 8);
        let others = [0, 1].map(|_| beside(&bench, |bench, outlet| bench.send(outlet, &[0])));
        bench.send(&mut bench.outlet(), &[0]);
        for other in others {
            other.join().expect("no panic");
        }
        bench.0[0].assert_sent(3, &[]);
    });
}

/// Each waits for the other, and neither for ever: numbers of two domains taken the other way round, and no room.
#[test]
fn workers_of_two_domains_do_not_block_one_another() {
    check(Some(2), || {
        let bench = Bench::new(2, 0);
        let other = beside(&bench, |bench, outlet| bench.send(outlet, &[1, 0]));
        bench.send(&mut bench.outlet(), &[0, 1]);
        other.join().expect("no panic");
        bench.0.iter().for_each(|sequence| sequence.assert_sent(2, &[]));
    });
}

/// A run without frames has its turn, too.
#[test]
fn a_run_whose_frames_were_dropped_holds_nobody() {
    check(Some(4), || {
        let bench = Bench::new(1, 0);
        let dropped = Arc::new(AtomicU64::new(0));
        let other = {
            let dropped = Arc::clone(&dropped);
            beside(&bench, move |bench, outlet| {
                dropped.store(bench.take(0, outlet).number, Ordering::Relaxed);
                bench.transmit(outlet, &mut Vec::new());
            })
        };
        bench.send(&mut bench.outlet(), &[0]);
        other.join().expect("no panic");
        bench.0[0].assert_sent(2, &[dropped.load(Ordering::Relaxed)]);
    });
}

/// A worker ends and has not sent: what was left behind its run is sent by the next that sends anything, even nothing of its own.
#[test]
fn a_worker_that_ends_holds_nobody() {
    check(Some(4), || {
        let bench = Bench::new(1, 8);
        let given_up = Arc::new(AtomicU64::new(0));
        let other = {
            let given_up = Arc::clone(&given_up);
            beside(&bench, move |bench, _| {
                let mut ends = bench.outlet();
                given_up.store(bench.take(0, &mut ends).number, Ordering::Relaxed);
                drop(ends);
            })
        };
        bench.send(&mut bench.outlet(), &[0]);
        other.join().expect("no panic");
        bench.transmit(&mut bench.outlet(), &mut Vec::new());
        bench.0[0].assert_sent(2, &[given_up.load(Ordering::Relaxed)]);
    });
}

/// Two workers come upon what a third has left, while a fourth goes on: it is sent once, and in its order.
#[test]
fn what_is_left_behind_is_sent_by_one() {
    check(Some(2), || {
        let bench = Bench::new(1, 8);
        let mut ends = bench.outlet();
        let given_up = bench.take(0, &mut ends).number;
        // Waits for it.
        bench.send(&mut bench.outlet(), &[0]);
        let heir = beside(&bench, |bench, outlet| bench.transmit(outlet, &mut Vec::new()));
        let other = beside(&bench, |bench, outlet| bench.send(outlet, &[0]));
        drop(ends);
        bench.transmit(&mut bench.outlet(), &mut Vec::new());
        heir.join().expect("no panic");
        other.join().expect("no panic");
        bench.transmit(&mut bench.outlet(), &mut Vec::new());
        bench.0[0].assert_sent(3, &[given_up]);
    });
}
