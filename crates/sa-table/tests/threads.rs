//! Real threads and real sizes.
#![cfg(not(loom))]

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sa_table::{Handle, InsertError, Key, SEED_WORDS, SaTable, Seed};

const SEED: Seed = Seed::new([0x9e37_79b9_7f4a_7c15; SEED_WORDS]);

static MADE: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicUsize = AtomicUsize::new(0);

const ALIVE: u64 = 0x0a11_ce0a_11ce_0a11;

/// Knows whether it is alive, and owns memory, so that sanitizers see a use after the drop too.
struct Canary {
    key: Key,
    alive: AtomicU64,
    handle: Handle,
    boxed: Box<u64>,
}

impl Canary {
    fn new(key: Key, handle: Handle) -> Self {
        MADE.fetch_add(1, Ordering::Relaxed);
        Self { key, alive: AtomicU64::new(ALIVE), handle, boxed: Box::new(handle.to_bits()) }
    }

    fn check(&self, handle: Handle) {
        assert_eq!(self.alive.load(Ordering::Relaxed), ALIVE, "{handle:?} was dropped while in use");
        assert_eq!((self.handle, *self.boxed), (handle, handle.to_bits()));
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        assert_eq!(self.alive.swap(0, Ordering::Relaxed), ALIVE, "dropped twice");
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

fn key(n: usize) -> Key {
    match n % 4 {
        0 => Key::v4(n as u32, [0; 4]),
        1 => Key::v6(n as u32, [7; 16]),
        _ => Key::v4(n as u32, [10, 0, 0, n as u8]),
    }
}

/// Writers change their own keys and know what readers must find; readers come and go; everybody reclaims.
#[test]
fn readers_beside_writers() {
    const WRITERS: usize = 2;
    const READERS: usize = 3;
    const KEYS: usize = 48;
    // Smaller than what writers want to have at once, so that it is full now and then.
    let table = SaTable::new(WRITERS * KEYS - 8, SEED).expect("a capacity");
    let stop = AtomicBool::new(false);
    // What readers ask for by handle: fresh, stale, whatever was stored last.
    let board: Vec<AtomicU64> = (0..WRITERS * KEYS).map(|_| AtomicU64::new(0)).collect();
    // One key that is there from beginning to end.
    let constant = Key::v4(0xffff, [192, 0, 2, 1]);
    let pinned = table.insert_with(&[constant], |_, _| false, |h| Canary::new(constant, h)).expect("room");
    let (started, pending, reported) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));

    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (table, board, stop, pending, reported) = (&table, &board, &stop, &pending, &reported);
            scope.spawn(move || {
                let mut live = [None; KEYS];
                let mut state = 0x2545_f491_4f6c_dd1d ^ writer as u64;
                while !stop.load(Ordering::Relaxed) {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    let n = state as usize % KEYS;
                    let place = writer * KEYS + n;
                    match live[n].take() {
                        None => {
                            let key = key(place);
                            // Keys come twice now and then: once by SPI, once by SPI with the address of another.
                            let keys = [key, Key::v4(place as u32, [10, 9, 9, 9])];
                            match table.insert_with(&keys, |_, _| true, |h| Canary::new(key, h)) {
                                Ok(handle) => {
                                    board[place].store(handle.to_bits(), Ordering::Relaxed);
                                    live[n] = Some(handle);
                                }
                                Err(InsertError::Full { .. }) => {}
                                Err(error) => panic!("{error}"),
                            }
                        }
                        Some(handle) => {
                            let removal = table.remove(handle).expect("it was live");
                            pending.fetch_add(usize::from(!removal.completed_at_once()), Ordering::Relaxed);
                            assert!(table.remove(handle).is_err(), "removed twice");
                        }
                    }
                    if state.is_multiple_of(5) {
                        reported.fetch_add(table.reclaim(|_| ()), Ordering::Relaxed);
                    }
                }
            });
        }
        for reader in 0..READERS {
            let (table, board, stop, started) = (&table, &board, &stop, &started);
            let reported = &reported;
            scope.spawn(move || {
                let mut round = reader;
                while !stop.load(Ordering::Relaxed) {
                    let mut lane = table.register_lane();
                    for _ in 0..64 {
                        let batch = lane.enter();
                        let mut held = Vec::with_capacity(64);
                        for _ in 0..32 {
                            round += 1;
                            let place = round % board.len();
                            if let Some(handle) = Handle::from_bits(board[place].load(Ordering::Relaxed))
                                && let Some(value) = batch.get(handle)
                            {
                                value.check(handle);
                                assert_eq!(value.key, key(place));
                                held.push((handle, value));
                            }
                            let wanted = key(place);
                            for (handle, value) in batch.find(&wanted) {
                                value.check(handle);
                                assert!(value.key == wanted || value.key == wanted.wildcard());
                                held.push((handle, value));
                            }
                        }
                        let found: Vec<_> = batch.find(&constant).map(|(handle, _)| handle).collect();
                        assert_eq!(found, [pinned]);
                        for (handle, value) in held {
                            value.check(handle);
                        }
                    }
                    reported.fetch_add(table.reclaim(|_| ()), Ordering::Relaxed);
                    started.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(1200));
        stop.store(true, Ordering::Relaxed);
    });

    reported.fetch_add(table.reclaim(|_| ()), Ordering::Relaxed);
    let occupancy = table.occupancy();
    assert_eq!((occupancy.removing, occupancy.lanes), (0, 0));
    assert_eq!(reported.into_inner(), pending.into_inner(), "each removal that was pending is reported once");
    let (made, dropped) = (MADE.load(Ordering::Relaxed), DROPPED.load(Ordering::Relaxed));
    assert_eq!(made - dropped, occupancy.live);
    assert!(started.into_inner() > 0 && dropped > 0, "something happened");
    drop(table);
    assert_eq!(DROPPED.load(Ordering::Relaxed), made);
}

/// A million SAs come, are found and go, in the time that a million single steps take.
#[test]
fn a_million() {
    const COUNT: u32 = 1 << 20;
    let begin = Instant::now();
    let destination = |n: u32| Key::v4(n.wrapping_mul(0x9e37_79b1) | 1, (n / 3 + 1).to_be_bytes());
    let table = SaTable::new(COUNT as usize, SEED).expect("a capacity");
    let handles: Vec<_> = (0..COUNT).map(|n| table.insert(n, &[destination(n)]).expect("room")).collect();
    assert_eq!(table.insert(0, &[]), Err(InsertError::Full { capacity: COUNT as usize, removing: 0 }), "exactly the capacity");
    let mut lane = table.register_lane();
    let batch = lane.enter();
    for (n, handle) in (0..COUNT).zip(&handles) {
        assert_eq!(batch.get(*handle), Some(&n));
        assert_eq!(batch.find(&destination(n)).map(|(_, value)| *value).next(), Some(n));
    }
    drop(batch);
    for handle in &handles[..COUNT as usize / 2] {
        assert!(table.remove(*handle).expect("live").completed_at_once());
    }
    let again = table.insert(7, &[destination(7)]).expect("room again");
    let batch = lane.enter();
    assert_eq!(batch.find(&destination(7)).map(|(handle, _)| handle).collect::<Vec<_>>(), [again]);
    for n in 8..COUNT / 2 {
        assert!(batch.find(&destination(n)).next().is_none());
    }
    assert!(handles[..COUNT as usize / 2].iter().all(|handle| batch.get(*handle).is_none()));
    drop(batch);
    let left = COUNT as usize / 2 + 1;
    assert_eq!(table.clear().removed, left);
    assert_eq!(table.occupancy().live, 0);
    println!("{:?}", begin.elapsed());
}
