//! What models do not reach: long runs, groups that wrap, real threads.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use crate::{Domain, Estate, Outlet};

/// The domain that a frame belongs to, its number, its group.
type Frame = (usize, u64, u16);

/// Workers that share domains, one step after the other.
struct Bench {
    estate: Arc<Estate<Frame>>,
    counters: Vec<u64>,
    domains: Vec<Arc<Domain<Frame>>>,
    workers: Vec<(Outlet<Frame>, Vec<Frame>)>,
    wire: Vec<(usize, u64)>,
}

impl Bench {
    fn new(domains: usize, workers: usize, room: usize) -> Self {
        let estate = Arc::new(Estate::new());
        Self {
            counters: vec![0; domains],
            domains: (0..domains).map(|_| Arc::new(Domain::new(0, room))).collect(),
            workers: (0..workers).map(|_| (Outlet::new(&estate), Vec::new())).collect(),
            wire: Vec::new(),
            estate,
        }
    }

    fn take(&mut self, worker: usize, on: usize, count: u32) -> u16 {
        let (outlet, frames) = &mut self.workers[worker];
        let first = self.counters[on] + 1;
        self.counters[on] += u64::from(count);
        let group = outlet.take_turn(&self.domains[on], first, count);
        frames.extend((first..first + u64::from(count)).map(|number| (on, number, group)));
        group
    }

    fn transmit(&mut self, worker: usize) {
        let (outlet, frames) = &mut self.workers[worker];
        outlet.transmit(frames, |frame| frame.2, |frames| self.wire.extend(frames.drain(..).map(|frame| (frame.0, frame.1))));
        assert!(frames.is_empty() && !outlet.is_waiting());
    }

    fn sent(&self, on: usize) -> Vec<u64> {
        self.wire.iter().filter(|sent| sent.0 == on).map(|sent| sent.1).collect()
    }

    fn waiting(&self) -> usize {
        self.domains.iter().map(|domain| domain.waiting()).sum()
    }
}

/// What a worker does next.
#[derive(Clone, Debug)]
enum Step {
    /// Takes so many numbers of a domain, and drops every so manieth frame on the way.
    Take(usize, u32, u64),
    Transmit,
    /// Ends as it is, and another takes its place.
    End,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_usize..3, 0_u32..5, 2_u64..6).prop_map(|(on, count, drops)| Step::Take(on, count, drops)),
        7 => Just(Step::Transmit),
        1 => Just(Step::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// At every moment what each domain has released is on the wire in its order, but for frames that were dropped and workers that have ended; and in the end
    /// that is all, whoever sends last and whatever.
    #[test]
    fn numbers_reach_the_wire_in_their_order(steps in prop::collection::vec((0_usize..4, step()), 1..200)) {
        let mut bench = Bench::new(3, 4, usize::MAX);
        let mut lost = HashSet::new();
        for (worker, step) in steps {
            match step {
                Step::Take(on, count, drops) => {
                    bench.take(worker, on, count);
                    bench.workers[worker].1.retain(|&(on, number, _)| {
                        let dropped = number % drops == 0;
                        if dropped {
                            lost.insert((on, number));
                        }
                        !dropped
                    });
                }
                Step::Transmit => bench.transmit(worker),
                Step::End => {
                    let new = (Outlet::new(&bench.estate), Vec::new());
                    let (outlet, frames) = core::mem::replace(&mut bench.workers[worker], new);
                    lost.extend(frames.iter().map(|frame| (frame.0, frame.1)));
                    drop(outlet);
                }
            }
            for on in 0..3 {
                let released = bench.domains[on].released();
                prop_assert!(bench.sent(on).into_iter().eq((1..=released).filter(|&number| !lost.contains(&(on, number)))));
            }
        }
        (0..4).for_each(|worker| bench.transmit(worker));
        prop_assert_eq!(bench.waiting(), 0);
        for on in 0..3 {
            prop_assert_eq!(bench.domains[on].released(), bench.counters[on]);
        }
    }
}

#[test]
fn runs_that_follow_one_another_are_one() {
    let mut bench = Bench::new(2, 2, 8);
    let groups = [bench.take(0, 0, 3), bench.take(0, 1, 3), bench.take(0, 0, 2), bench.take(0, 1, 1), bench.take(0, 0, 0)];
    assert_eq!(groups, [1, 2, 1, 2, 0]);
    bench.take(1, 0, 1);
    assert_eq!(bench.take(0, 0, 1), 3, "another worker's is in between");
    bench.transmit(1);
    assert_eq!(bench.waiting(), 1);
    bench.transmit(0);
    assert_eq!((bench.sent(0), bench.sent(1), bench.waiting()), ((1..=7).collect(), (1..=4).collect(), 0));
}

#[test]
fn groups_wrap_and_those_of_earlier_calls_are_none() {
    let mut bench = Bench::new(2, 2, 8);
    let mut last = 0;
    for round in 1..=140_000_u64 {
        let group = bench.take(0, 0, 1);
        assert_ne!(group, 0);
        assert_ne!(group, last);
        if round % 7 == 0 {
            // It has to wait; a frame of the round before does not.
            bench.take(1, 1, 1);
            let own = bench.take(0, 1, 1);
            bench.workers[0].1.push((7, round, last));
            bench.transmit(0);
            assert_eq!(bench.wire.last(), Some(&(7, round)), "group {own}");
            bench.transmit(1);
            assert_eq!(bench.waiting(), 0);
        } else {
            bench.transmit(0);
        }
        last = group;
    }
    assert!(bench.sent(1).iter().copied().eq(1..=40_000));
}

#[test]
fn more_runs_than_groups_are_given_up_and_hold_nobody() {
    let mut outlet = Outlet::<Frame>::new(&Arc::default());
    let domains: Vec<_> = (0..=Outlet::<Frame>::MOST).map(|_| Arc::new(Domain::new(0, 8))).collect();
    let groups: Vec<_> = domains.iter().map(|domain| outlet.take_turn(domain, 1, 4)).collect();
    assert!(groups.iter().filter(|&&group| group == 0).eq([&0]));
    assert_eq!(groups.last(), Some(&0));
    assert_eq!(domains.last().unwrap().released(), 4);
    outlet.transmit(&mut Vec::new(), |_| 0, |_| ());
    assert!(domains.iter().all(|domain| domain.released() == 4));
}

#[test]
fn what_send_leaves_comes_back_and_holds_nobody() {
    let mut bench = Bench::new(1, 2, 8);
    bench.take(0, 0, 3);
    bench.take(1, 0, 3);
    bench.transmit(1);
    let (outlet, frames) = &mut bench.workers[0];
    // A link that takes one frame at a time.
    let mut wire = Vec::new();
    outlet.transmit(frames, |frame| frame.2, |frames| wire.push(frames.remove(0).1));
    assert_eq!(wire, [1, 4]);
    assert_eq!(frames.iter().map(|frame| frame.1).collect::<Vec<_>>(), [2, 3, 5, 6]);
    assert_eq!(bench.domains[0].released(), 6);
}

#[test]
fn a_worker_that_panics_holds_nobody() {
    let mut bench = Bench::new(1, 3, 8);
    bench.take(0, 0, 1);
    bench.take(1, 0, 1);
    bench.take(2, 0, 1);
    bench.transmit(2);
    let (mut outlet, mut frames) = bench.workers.swap_remove(0);
    let thread = std::thread::spawn(move || outlet.transmit(&mut frames, |frame| frame.2, |_| panic!("the link is gone")));
    assert!(thread.join().is_err());
    assert_eq!(bench.domains[0].released(), 1);
    bench.transmit(1);
    assert_eq!((bench.sent(0), bench.waiting()), (vec![2, 3], 0));
}

#[test]
fn what_waited_for_a_worker_that_is_gone_is_sent_by_any_other() {
    let mut bench = Bench::new(2, 4, 8);
    bench.take(0, 0, 2);
    bench.take(1, 0, 2);
    bench.take(2, 0, 2);
    bench.transmit(2);
    bench.transmit(1);
    bench.workers.remove(0);
    assert_eq!((bench.domains[0].released(), bench.waiting()), (2, 4));
    // It has never heard of that domain.
    bench.take(2, 1, 1);
    bench.transmit(2);
    assert_eq!((bench.sent(0), bench.sent(1), bench.waiting()), ((3..=6).collect(), vec![1], 0));
    assert_eq!(bench.domains[0].released(), 6);
}

#[test]
fn a_worker_that_panics_with_frames_of_others_holds_nobody() {
    let mut bench = Bench::new(1, 4, 8);
    (0..3).for_each(|worker| {
        bench.take(worker, 0, 1);
    });
    bench.transmit(2);
    bench.transmit(1);
    let (mut outlet, mut frames) = bench.workers.remove(0);
    let mut calls = 0;
    let thread = std::thread::spawn(move || {
        outlet.transmit(
            &mut frames,
            |frame| frame.2,
            |frames| {
                calls += 1;
                assert!(calls < 2, "the link is gone");
                frames.clear();
            },
        );
    });
    assert!(thread.join().is_err());
    // The second run was lost with the link; the third was not.
    assert_eq!((bench.domains[0].released(), bench.waiting()), (2, 1));
    bench.transmit(2);
    assert_eq!((bench.sent(0), bench.waiting()), (vec![3], 0));
}

#[test]
fn an_outlet_whose_link_panicked_goes_on() {
    let mut bench = Bench::new(1, 2, 8);
    for first in [1, 2] {
        // The second time it has to wait in between.
        (0..first).for_each(|_| {
            bench.take(0, 0, 1);
            bench.take(1, 0, 1);
        });
        if first == 2 {
            bench.transmit(1);
        }
        let (outlet, frames) = &mut bench.workers[0];
        let sending = std::panic::AssertUnwindSafe(|| outlet.transmit(frames, |frame| frame.2, |_| panic!("the link is gone")));
        assert!(std::panic::catch_unwind(sending).is_err());
        (0..2).for_each(|worker| bench.transmit(worker));
        assert_eq!((bench.domains[0].released(), bench.waiting()), (bench.counters[0], 0));
    }
}

#[test]
fn works_between_threads_with_little_room() {
    const EACH: u64 = 3_000;
    const WORKERS: u64 = 3;
    for room in [0, 5, 1000] {
        let (domain, counter) = (Arc::new(Domain::<Frame>::new(0, room)), AtomicU64::new(0));
        let (wire, estate) = (Mutex::new(Vec::new()), Arc::new(Estate::new()));
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                let (domain, counter, wire, estate) = (&domain, &counter, &wire, &estate);
                scope.spawn(move || {
                    let (mut outlet, mut frames) = (Outlet::new(estate), Vec::new());
                    for round in 0..EACH {
                        let count = (round + worker) % 4;
                        let first = counter.fetch_add(count, Ordering::Relaxed) + 1;
                        let group = outlet.take_turn(domain, first, count as u32);
                        frames.extend((first..first + count).map(|number| (0, number, group)));
                        if round % 64 == worker {
                            std::thread::yield_now();
                        }
                        outlet.transmit(&mut frames, |frame| frame.2, |frames| wire.lock().unwrap().extend(frames.drain(..).map(|frame| frame.1)));
                    }
                });
            }
        });
        let all = counter.load(Ordering::Relaxed);
        assert!(wire.into_inner().unwrap().into_iter().eq(1..=all), "room {room}");
        assert_eq!((domain.released(), domain.waiting()), (all, 0));
    }
}
