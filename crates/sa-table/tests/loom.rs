//! The interleavings of the table, on loom's types: `RUSTFLAGS="--cfg loom" cargo test --release --test loom`.
//!
//! A value is a cell of loom's. Making a value writes the cell, looking at it reads the cell, dropping it writes the
//! cell again: loom stops when two of these are not ordered, or meet. Models of two threads are checked whole, those of
//! three with a bound on preemptions; all of them together take seconds.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use loom::thread;
use sa_table::{Guard, Handle, InsertError, Key, Lane, SEED_WORDS, SaTable, Seed};

/// All keys have one home: every search meets every entry and overflows.
const ONE_BUCKET: Seed = Seed::new([0; SEED_WORDS]);

/// Checks every interleaving of a model, or those with at most `LOOM_MAX_PREEMPTIONS` preemptions if that is set.
fn check(model: impl Fn() + Send + Sync + 'static) {
    check_up_to(None, model);
}

/// Checks the interleavings of a model with at most so many preemptions.
fn check_up_to(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
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

struct Value {
    number: UnsafeCell<u32>,
    drops: Arc<AtomicUsize>,
}

// SAFETY: loom checks every access to the cell, which is what the models are for.
unsafe impl Send for Value {}
// SAFETY: as above.
unsafe impl Sync for Value {}

impl Value {
    fn new(number: u32, drops: &Arc<AtomicUsize>) -> Self {
        let value = Self { number: UnsafeCell::new(0), drops: Arc::clone(drops) };
        value.number.with_mut(|cell| {
            // SAFETY: the value is not shared yet.
            unsafe { *cell = number }
        });
        value
    }

    fn number(&self) -> u32 {
        self.number.with(|cell| {
            // SAFETY: loom has checked that nobody writes.
            unsafe { *cell }
        })
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.number.with_mut(|cell| {
            // SAFETY: loom has checked that nobody else has access.
            unsafe { *cell = u32::MAX }
        });
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

struct Bench {
    table: SaTable<Value>,
    drops: Arc<AtomicUsize>,
}

impl Bench {
    fn new(capacity: usize) -> Self {
        let table = SaTable::new(capacity, ONE_BUCKET).expect("a capacity");
        // What the fences are counted by (src/sync.rs) is made at the first fence: before there are threads, because
        // loom orders all later fences after its making.
        drop(table.register_lane().enter());
        Self { table, drops: Arc::new(AtomicUsize::new(0)) }
    }

    fn insert(&self, number: u32, keys: &[Key]) -> Result<Handle, InsertError> {
        self.table.insert(Value::new(number, &self.drops), keys)
    }

    fn drops(&self) -> usize {
        self.drops.load(Ordering::Relaxed)
    }

    /// A second owner, for a second thread.
    fn share(&self) -> Self {
        Self { table: self.table.clone(), drops: Arc::clone(&self.drops) }
    }
}

fn key(n: u8) -> Key {
    Key::v4(u32::from(n), [10, 0, 0, n])
}

fn found(batch: &Guard<'_, Value>, key: &Key) -> Vec<u32> {
    batch.find(key).map(|(_, value)| value.number()).collect()
}

fn in_batch<R>(lane: &mut Lane<Value>, look: impl FnOnce(&Guard<'_, Value>) -> R) -> R {
    look(&lane.enter())
}

/// A value is found complete or not at all, by key and by a handle that comes without any ordering of its own.
#[test]
fn addition_is_seen_whole() {
    check(|| {
        let bench = Bench::new(1);
        let mut lane = bench.table.register_lane();
        let hint = Arc::new(AtomicU64::new(0));
        let writer = {
            let (bench, hint) = (bench.share(), Arc::clone(&hint));
            thread::spawn(move || {
                let handle = bench.insert(7, &[key(1)]).expect("room");
                hint.store(handle.to_bits(), Ordering::Relaxed);
            })
        };
        in_batch(&mut lane, |batch| {
            let by_key = found(batch, &key(1));
            assert!(by_key.is_empty() || by_key == [7]);
            if let Some(handle) = Handle::from_bits(hint.load(Ordering::Relaxed))
                && let Some(value) = batch.get(handle)
            {
                assert_eq!(value.number(), 7);
                assert_eq!(found(batch, &key(1)), [7], "who is found by handle is found by key");
            }
        });
        writer.join().expect("no panic");
        in_batch(&mut lane, |batch| assert_eq!(found(batch, &key(1)), [7]));
    });
}

/// What a batch has found stays until the batch is over; what is removed before it begins is not found.
#[test]
fn removal_waits_for_the_batch() {
    check(|| {
        let bench = Bench::new(1);
        let handle = bench.insert(7, &[]).expect("room");
        let mut lane = bench.table.register_lane();
        let remover = {
            let bench = bench.share();
            thread::spawn(move || {
                let removal = bench.table.remove(handle).expect("live");
                let reported = bench.table.reclaim(|done| assert_eq!(done, handle));
                assert_eq!(removal.is_complete(), bench.drops() == 1);
                assert_eq!(removal.is_complete(), removal.completed_at_once() || reported == 1);
                removal
            })
        };
        in_batch(&mut lane, |batch| {
            if let Some(value) = batch.get(handle) {
                assert_eq!(value.number(), 7);
                // Again, because the removal may have come in between.
                assert_eq!(value.number(), 7);
            }
        });
        let removal = remover.join().expect("no panic");
        assert!(bench.table.reclaim(|_| ()) <= 1);
        assert!(removal.is_complete());
        assert_eq!(bench.drops(), 1);
    });
}

/// The drop comes after the reads of batches that ended, also when the control side only ever sees a later batch.
#[test]
fn removal_comes_after_earlier_batches() {
    check(|| {
        let bench = Bench::new(1);
        let handle = bench.insert(7, &[]).expect("room");
        let mut lane = bench.table.register_lane();
        let remover = {
            let bench = bench.share();
            thread::spawn(move || {
                bench.table.remove(handle).expect("live");
                bench.table.reclaim(|_| ());
            })
        };
        for _ in 0..2 {
            let batch = lane.enter();
            if let Some(value) = batch.get(handle) {
                assert_eq!(value.number(), 7);
            }
            // From batch to batch without a pause: the lane is never seen idle.
            std::mem::forget(batch);
        }
        drop(lane.enter());
        remover.join().expect("no panic");
        bench.table.reclaim(|_| ());
        assert_eq!(bench.drops(), 1);
    });
}

/// Lane by lane: one that is in a batch holds the value, whatever the other does.
#[test]
fn removal_waits_for_every_lane() {
    check_up_to(Some(3), || {
        let bench = Bench::new(1);
        let handle = bench.insert(7, &[]).expect("room");
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let mut lane = bench.table.register_lane();
                thread::spawn(move || in_batch(&mut lane, |batch| batch.get(handle).map(Value::number)))
            })
            .collect();
        bench.table.remove(handle).expect("live");
        for reader in readers {
            assert!(matches!(reader.join().expect("no panic"), None | Some(7)));
        }
        bench.table.reclaim(|_| ());
        assert_eq!(bench.drops(), 1);
    });
}

/// One thread removes, another reclaims and uses the slot again, a third reads.
#[test]
fn one_removes_and_another_reclaims() {
    check_up_to(Some(3), || {
        let bench = Bench::new(1);
        let old = bench.insert(1, &[key(1)]).expect("room");
        let mut lane = bench.table.register_lane();
        let remover = {
            let bench = bench.share();
            thread::spawn(move || bench.table.remove(old).expect("live"))
        };
        let reclaimer = {
            let bench = bench.share();
            thread::spawn(move || (bench.table.reclaim(|done| assert_eq!(done, old)), bench.insert(2, &[key(1)]).ok()))
        };
        in_batch(&mut lane, |batch| {
            let value = batch.get(old);
            assert!(matches!(value.map(Value::number), None | Some(1)));
            assert!(matches!(found(batch, &key(1))[..], [] | [1 | 2]));
            assert!(matches!(value.map(Value::number), None | Some(1)));
        });
        let removal = remover.join().expect("no panic");
        let (reported, new) = reclaimer.join().expect("no panic");
        let reported = reported + bench.table.reclaim(|done| assert_eq!(done, old));
        assert!(removal.is_complete());
        assert_eq!(reported, usize::from(!removal.completed_at_once()));
        assert_eq!(bench.table.occupancy().live, usize::from(new.is_some()));
    });
}

/// An entry that overflowed its bucket is found while the bucket in front of it changes, and nothing else is.
#[test]
fn index_changes_beside_a_search() {
    check(|| {
        let bench = Bench::new(4);
        let front = bench.insert(1, &[key(1)]).expect("room");
        bench.insert(2, &[key(2)]).expect("room");
        // Two cells in a bucket under loom: this one is in the second bucket.
        bench.insert(3, &[key(3)]).expect("room");
        let mut lane = bench.table.register_lane();
        let writer = {
            let bench = bench.share();
            thread::spawn(move || {
                bench.table.remove(front).expect("live");
                bench.insert(4, &[key(4)]).expect("room");
            })
        };
        in_batch(&mut lane, |batch| {
            assert_eq!(found(batch, &key(3)), [3]);
            let new = found(batch, &key(4));
            assert!(new.is_empty() || new == [4]);
            let old = found(batch, &key(1));
            assert!(old.is_empty() || old == [1]);
        });
        writer.join().expect("no panic");
        in_batch(&mut lane, |batch| {
            assert_eq!(found(batch, &key(4)), [4]);
            assert_eq!(found(batch, &key(3)), [3]);
            assert!(found(batch, &key(1)).is_empty());
        });
    });
}

/// A slot changes hands; a stale handle and a stale key lead to nothing, never to the new value.
#[test]
fn slot_is_reused_beside_a_stale_handle() {
    check(|| {
        let bench = Bench::new(1);
        let old = bench.insert(1, &[key(1)]).expect("room");
        let mut lane = bench.table.register_lane();
        let writer = {
            let bench = bench.share();
            thread::spawn(move || {
                bench.table.remove(old).expect("live");
                bench.table.reclaim(|_| ());
                // Full while the reader holds the slot.
                bench.insert(2, &[key(2)]).ok()
            })
        };
        in_batch(&mut lane, |batch| {
            assert!(matches!(batch.get(old).map(Value::number), None | Some(1)));
            let by_key = found(batch, &key(1));
            assert!(by_key.is_empty() || by_key == [1]);
            let by_key = found(batch, &key(2));
            assert!(by_key.is_empty() || by_key == [2]);
        });
        let new = writer.join().expect("no panic");
        in_batch(&mut lane, |batch| {
            assert!(batch.get(old).is_none());
            assert_eq!(new.and_then(|new| batch.get(new)).map(Value::number), new.map(|_| 2));
        });
        assert!(bench.table.remove(old).is_err());
    });
}

/// A lane that comes while a removal is under way, looks, and goes.
#[test]
fn lanes_come_and_go_beside_a_removal() {
    check(|| {
        let bench = Bench::new(1);
        let handle = bench.insert(7, &[]).expect("room");
        let reader = {
            let table = bench.table.clone();
            thread::spawn(move || {
                let mut lane = table.register_lane();
                in_batch(&mut lane, |batch| batch.get(handle).map(Value::number))
            })
        };
        let removal = bench.table.remove(handle).expect("live");
        bench.table.reclaim(|done| assert_eq!(done, handle));
        assert_eq!(removal.is_complete(), bench.drops() == 1);
        assert!(matches!(reader.join().expect("no panic"), None | Some(7)));
        bench.table.reclaim(|_| ());
        assert!(removal.is_complete());
        assert_eq!(bench.drops(), 1);
        assert_eq!(bench.table.occupancy().lanes, 0);
    });
}

/// Of two deleters one wins, and the value is dropped and reported once, whoever reclaims.
#[test]
fn two_deleters() {
    check(|| {
        let bench = Bench::new(1);
        let handle = bench.insert(7, &[key(1)]).expect("room");
        let mut lane = bench.table.register_lane();
        let batch = lane.enter();
        let other = {
            let bench = bench.share();
            thread::spawn(move || {
                let won = bench.table.remove(handle).is_ok();
                (won, bench.table.reclaim(|_| ()))
            })
        };
        let won = bench.table.remove(handle).is_ok();
        assert_eq!(bench.drops(), 0, "the batch may hold it");
        drop(batch);
        let reported = bench.table.reclaim(|_| ());
        let (other_won, other_reported) = other.join().expect("no panic");
        let reported = reported + other_reported + bench.table.reclaim(|_| ());
        assert!(won != other_won);
        assert!(reported <= 1);
        assert_eq!(bench.drops(), 1);
    });
}

/// Of two equal additions one wins.
#[test]
fn two_adders_of_one_key() {
    check(|| {
        let bench = Bench::new(2);
        let add = |bench: &Bench, number| bench.table.insert_unless(Value::new(number, &bench.drops), &[key(1)], |_, _| true).is_ok();
        let other = {
            let bench = bench.share();
            thread::spawn(move || add(&bench, 1))
        };
        let won = add(&bench, 2);
        assert!(won != other.join().expect("no panic"));
        let mut lane = bench.table.register_lane();
        in_batch(&mut lane, |batch| assert_eq!(found(batch, &key(1)), [if won { 2 } else { 1 }]));
        assert_eq!(bench.drops(), 1, "the loser's value");
    });
}

/// The table's owner goes while a lane still looks; the last one drops what is left, once.
#[test]
fn the_last_owner_drops_the_rest() {
    check(|| {
        let bench = Bench::new(2);
        let drops = Arc::clone(&bench.drops);
        let removed = bench.insert(1, &[]).expect("room");
        let kept = bench.insert(2, &[]).expect("room");
        let mut lane = bench.table.register_lane();
        let reader = thread::spawn(move || {
            in_batch(&mut lane, |batch| {
                assert_eq!(batch.get(kept).map(Value::number), Some(2));
                assert!(matches!(batch.get(removed).map(Value::number), None | Some(1)));
            });
        });
        bench.table.remove(removed).expect("live");
        drop(bench);
        reader.join().expect("no panic");
        assert_eq!(drops.load(Ordering::Relaxed), 2);
    });
}
