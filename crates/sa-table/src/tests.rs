//! Wear, boundary handles and the control side's bookkeeping, one thread at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::*;

const SEED: Seed = Seed::new([0x1234_5678_9abc_def1; SEED_WORDS]);

/// Counts drops.
struct Counted(u32, Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

fn key(spi: u32) -> Key {
    Key::v4(spi, [192, 0, 2, 1])
}

#[test]
fn capacity_is_checked() {
    for found in [0, MAX_CAPACITY + 1, usize::MAX] {
        assert_eq!(SaTable::<u8>::new(found, SEED).err(), Some(CapacityError { found }));
    }
    assert!(SaTable::<u8>::new(1, SEED).is_ok());
}

#[test]
fn a_worn_out_slot_is_retired_for_good() {
    let table = SaTable::wearing_out(2, 3);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..6 {
        let handle = table.insert((), &[key(1)]).unwrap();
        assert!(seen.insert(handle), "{handle:?} was given out twice");
        assert!(table.remove(handle).unwrap().completed_at_once());
    }
    assert_eq!(table.insert((), &[]), Err(InsertError::Full { capacity: 0, removing: 0 }));
    assert_eq!(table.occupancy(), Occupancy { retired: 2, ..Occupancy::default() });
    for handle in seen {
        assert_eq!(table.remove(handle).err(), Some(Stale(handle)));
    }
}

/// Handles at and beyond the table's edges (the first slot, the last, one past it, the largest index that fits), with
/// every generation near the live one, for capacities on and off a power of two.
#[test]
fn boundary_handles() {
    for capacity in [1_u64, 2, 3, 4, 5, 7, 8] {
        let table = SaTable::new(capacity as usize, SEED).unwrap();
        let handles: Vec<_> = (0..capacity).map(|n| table.insert(n, &[]).unwrap()).collect();
        let mut lane = table.register_lane();
        let batch = lane.enter();
        for (n, handle) in handles.iter().enumerate() {
            assert_eq!(batch.get(*handle), Some(&(n as u64)));
        }
        let bits = capacity.next_power_of_two().trailing_zeros();
        let live = |handle: Handle| handles.contains(&handle);
        let tagged = handles[0].to_bits() & !((1 << 52) - 1);
        for index in [0, capacity - 1, capacity, capacity + 1, (1 << bits) - 1, 1 << bits] {
            for generation in [0, 1, 2, (1 << (52 - bits)) - 1] {
                for tag in [tagged, tagged ^ 1 << 52, 0, u64::MAX << 52] {
                    let Some(handle) = Handle::from_bits(tag | generation << bits | index) else { continue };
                    assert_eq!(batch.get(handle).is_some(), live(handle), "{handle:?} of {capacity}");
                    assert_eq!(table.with(handle, |_| ()).is_ok(), live(handle));
                }
            }
        }
        for bits in [1, u64::MAX, u64::MAX - 1, 1 << 63, i64::MAX as u64] {
            let handle = Handle::from_bits(bits).unwrap();
            assert_eq!(batch.get(handle).is_some(), live(handle));
            assert_eq!(table.remove(handle).is_ok(), live(handle));
        }
    }
}

#[test]
fn a_foreign_handle_is_recognised() {
    let (one, other) = (SaTable::new(4, SEED).unwrap(), SaTable::new(4, SEED).unwrap());
    let handle = one.insert(1, &[]).unwrap();
    assert_ne!(other.insert(2, &[]).unwrap(), handle);
    assert!(other.register_lane().enter().get(handle).is_none());
    assert_eq!(other.with(handle, |n| *n), Err(Stale(handle)));
    assert_eq!(other.remove(handle).err(), Some(Stale(handle)));
    assert_eq!(one.with(handle, |n| *n), Ok(1));
}

#[test]
fn a_value_goes_exactly_when_its_removal_completes() {
    let drops = Arc::new(AtomicUsize::new(0));
    let count = || drops.load(Ordering::Relaxed);
    let table = SaTable::new(4, SEED).unwrap();
    let value = |n| Counted(n, Arc::clone(&drops));
    let first = table.insert(value(1), &[key(1)]).unwrap();
    let second = table.insert(value(2), &[key(2)]).unwrap();
    let third = table.insert(value(3), &[key(3)]).unwrap();

    // Nobody is in a batch, although a lane is there: over at once, and not reported.
    let (mut early, mut late) = (table.register_lane(), table.register_lane());
    let removal = table.remove(first).unwrap();
    assert!(removal.completed_at_once() && removal.is_complete());
    assert_eq!((count(), table.reclaim(|_| unreachable!())), (1, 0));

    // One batch saw it, one began after the removal: only the first holds it up.
    let batch = early.enter();
    let seen = batch.get(second).unwrap();
    let removal = table.remove(second).unwrap();
    let newer = late.enter();
    assert!(batch.get(second).is_none() && newer.get(second).is_none());
    assert!(newer.find(&key(2)).next().is_none());
    assert_eq!((count(), table.reclaim(|_| unreachable!())), (1, 0));
    assert!(!removal.completed_at_once() && !removal.is_complete());
    assert_eq!(table.occupancy(), Occupancy { capacity: 4, live: 1, removing: 1, retired: 0, lanes: 2 });
    assert_eq!(table.remove(second).err(), Some(Stale(second)), "removed already");
    // A later removal waits behind it.
    let last = table.remove(third).unwrap();
    assert_eq!(seen.0, 2);
    drop(batch);
    let mut reported = Vec::new();
    assert_eq!(table.reclaim(|handle| reported.push(handle)), 1);
    assert_eq!((count(), &reported[..]), (2, &[second][..]));
    assert!(removal.is_complete() && !last.is_complete(), "the newer batch began before it");
    drop(newer);
    assert_eq!(table.reclaim(|handle| reported.push(handle)), 1);
    assert_eq!((count(), &reported[..]), (3, &[second, third][..]));
    assert!(last.is_complete());
    assert_eq!(table.reclaim(|_| unreachable!()), 0);
}

/// A batch that is entered again and again without being idle in between is no hindrance, and a lane that goes away
/// neither.
#[test]
fn new_batches_and_dropped_lanes_do_not_hold_removals_up() {
    let table = SaTable::new(2, SEED).unwrap();
    let mut lane = table.register_lane();
    let handle = table.insert(1, &[]).unwrap();
    std::mem::forget(lane.enter());
    assert!(!table.remove(handle).unwrap().is_complete());
    std::mem::forget(lane.enter());
    assert_eq!(table.reclaim(|_| ()), 1);
    let handle = table.insert(2, &[]).unwrap();
    assert!(!table.remove(handle).unwrap().is_complete());
    drop(lane);
    assert_eq!((table.reclaim(|_| ()), table.occupancy().lanes), (1, 0));
}

#[test]
fn a_full_table_says_what_a_reclaim_would_free() {
    let table = SaTable::new(3, SEED).unwrap();
    let handles: Vec<_> = (0..3).map(|n| table.insert(n, &[key(n)]).unwrap()).collect();
    assert_eq!(table.insert(9, &[]), Err(InsertError::Full { capacity: 3, removing: 0 }));
    let mut lane = table.register_lane();
    let batch = lane.enter();
    assert!(!table.remove(handles[1]).unwrap().is_complete());
    assert_eq!(table.insert(9, &[]), Err(InsertError::Full { capacity: 3, removing: 1 }));
    drop(batch);
    assert_eq!(table.reclaim(|_| ()), 1);
    let again = table.insert(9, &[key(1)]).unwrap();
    let batch = lane.enter();
    assert_eq!((batch.get(again), batch.get(handles[1])), (Some(&9), None));
    assert_eq!(batch.find(&key(1)).collect::<Vec<_>>(), [(again, &9)]);
}

#[test]
fn clear_empties_at_once_or_later() {
    let drops = Arc::new(AtomicUsize::new(0));
    let table = SaTable::new(100, SEED).unwrap();
    let fill = || {
        for n in 0..100 {
            table.insert(Counted(n, Arc::clone(&drops)), &[key(n)]).unwrap();
        }
    };
    fill();
    assert_eq!(table.clear(), Cleared { removed: 100, pending: 0 });
    assert_eq!(table.clear(), Cleared::default());
    assert_eq!((drops.load(Ordering::Relaxed), table.reclaim(|_| ())), (100, 0));
    fill();
    let mut lane = table.register_lane();
    let batch = lane.enter();
    assert_eq!(table.clear(), Cleared { removed: 100, pending: 100 });
    assert!((0..100).all(|n| batch.find(&key(n)).next().is_none()));
    assert_eq!(table.reclaim(|_| ()), 0);
    drop(batch);
    let mut reported = std::collections::HashSet::new();
    assert_eq!(table.reclaim(|handle| assert!(reported.insert(handle))), 100);
    assert_eq!((drops.load(Ordering::Relaxed), reported.len()), (200, 100));
    fill();
    drop((lane, table));
    assert_eq!(drops.load(Ordering::Relaxed), 300);
}

/// A table that goes away takes live values and those still being removed with it.
#[test]
fn dropping_the_table_drops_every_value_once() {
    let drops = Arc::new(AtomicUsize::new(0));
    let table = SaTable::new(4, SEED).unwrap();
    let handles: Vec<_> = (0..4).map(|n| table.insert(Counted(n, Arc::clone(&drops)), &[]).unwrap()).collect();
    let mut lane = table.register_lane();
    table.remove(handles[0]).unwrap();
    let batch = lane.enter();
    table.remove(handles[2]).unwrap();
    drop(batch);
    drop(table);
    assert_eq!(drops.load(Ordering::Relaxed), 1, "the lane keeps the table");
    drop(lane);
    assert_eq!(drops.load(Ordering::Relaxed), 4);
}

#[test]
fn duplicates_are_the_callers_to_decide() {
    let table = SaTable::new(8, SEED).unwrap();
    let (esp, ah) = (key(1), key(2));
    let first = table.insert("esp", &[esp, ah]).unwrap();
    // The test sees every live value under a key, with the key of the new value that met it.
    let mut met = Vec::new();
    let second = table
        .insert_unless("ah", &[ah, key(3)], |key, value| {
            met.push((*key, *value));
            false
        })
        .unwrap();
    assert_eq!(met, [(ah, "esp")]);
    let refused = table.insert_unless("ah", &[key(3)], |_, value| *value == "ah");
    assert_eq!(refused, Err(InsertError::Duplicate { existing: second }));
    // A wildcard is a key of its own here.
    assert!(table.insert_unless("any", &[esp.wildcard()], |_, _| true).is_ok());
    assert!(table.insert_unless("any", &[esp.wildcard()], |_, _| true).is_err());
    // What is on its way out is no duplicate any more.
    let mut lane = table.register_lane();
    let batch = lane.enter();
    assert!(!table.remove(first).unwrap().is_complete());
    assert!(table.insert_unless("esp", &[esp], |_, _| true).is_ok());
    drop(batch);
    assert_eq!(table.occupancy().live, 3);
    assert_eq!(table.insert("", &[esp; 3]), Err(InsertError::TooManyKeys { found: 3 }));
}

#[test]
fn a_value_can_hold_its_handle() {
    let table = SaTable::new(2, SEED).unwrap();
    let handle = table.insert_with(&[key(1)], |_, _| false, Some).unwrap();
    assert_eq!(table.with(handle, |own| *own), Ok(Some(handle)));
    let mut all = Vec::new();
    table.for_each(|handle, own| all.push((handle, *own)));
    assert_eq!(all, [(handle, Some(handle))]);
}

/// Closures that panic under the mutex change nothing; a destructor that does loses its slot and no more.
#[test]
fn panics_leave_the_table_usable() {
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0, "boom");
        }
    }
    let attempt = |f: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err();
    let table = SaTable::new(2, SEED).unwrap();
    assert!(attempt(&|| {
        table.insert_with(&[key(1)], |_, _| false, |_| panic!("no value")).ok();
    }));
    assert_eq!(table.occupancy(), Occupancy { capacity: 2, ..Occupancy::default() });
    let bomb = table.insert(Bomb(true), &[key(1)]).unwrap();
    assert!(attempt(&|| {
        table.remove(bomb).ok();
    }));
    assert_eq!(table.remove(bomb).err(), Some(Stale(bomb)));
    let dud = table.insert(Bomb(false), &[key(1)]).unwrap();
    assert_eq!(table.insert(Bomb(false), &[]), Err(InsertError::Full { capacity: 2, removing: 0 }));
    assert!(table.remove(dud).is_ok());
}
