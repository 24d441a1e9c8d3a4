//! The table: additions, removals, grace periods.

use std::fmt;
use std::sync::{PoisonError, TryLockError};

use crate::control::{Control, List};
use crate::error::{CapacityError, InsertError, Stale};
use crate::handle::{Geometry, Handle};
use crate::index::{Entry, Index, MAX_KEYS};
use crate::key::{Key, Seed};
use crate::lane::{IDLE, Lane, LaneState};
use crate::slot::{Keys, Slot, empty_slots};
use crate::sync::{Arc, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, seeded_bug};

/// Most slots that a table can have.
pub const MAX_CAPACITY: usize = 1 << 24;

/// Completed removals that [`SaTable::reclaim`] reports between two times that it holds the control mutex.
const REPORTS: usize = 32;

/// The concurrent table: values in slots, named by [`Handle`]s, found by [`Key`]s. Clones are the same table.
///
/// See the [crate's documentation](crate) for the protocol. The methods here are the control side: they take a mutex for
/// a short time, from any thread. Closures and destructors that run under it (each method says which) must not call the
/// table: they would wait for themselves. If a value's destructor panics, its slot is lost, and the table goes on.
pub struct SaTable<T: Send + Sync> {
    shared: Arc<Shared<T>>,
}

/// A removal that was begun by [`SaTable::remove`].
#[derive(Clone)]
pub struct Removal {
    handle: Handle,
    /// When it was begun and how far removals have come; `None` if it was over at once.
    waiting: Option<(u64, Arc<Progress>)>,
}

/// What [`SaTable::clear`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Values that were live and are so no longer.
    pub removed: usize,
    /// How many of them are still in use by a batch: [`SaTable::reclaim`] will report each.
    pub pending: usize,
}

/// How full a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Slots, worn-out ones not counted.
    pub capacity: usize,
    /// Live values.
    pub live: usize,
    /// Removed values that a batch may still use.
    pub removing: usize,
    /// Slots worn out for good.
    pub retired: usize,
    /// Registered lanes.
    pub lanes: usize,
}

impl<T: Send + Sync> SaTable<T> {
    /// A table of `capacity` slots. Memory is asked for at once and touched as it is used: per slot 56 bytes and the
    /// value, rounded up to 64, about 37 bytes of index and 20 of control data.
    ///
    /// # Errors
    /// `capacity` is zero or above [`MAX_CAPACITY`].
    ///
    /// # Panics
    /// If the memory's size overflows; without memory the process ends, as for any allocation.
    pub fn new(capacity: usize, seed: Seed) -> Result<Self, CapacityError> {
        if !(1..=MAX_CAPACITY).contains(&capacity) {
            return Err(CapacityError { found: capacity });
        }
        Ok(Self::with_geometry(capacity, seed, Geometry::new(capacity)))
    }

    fn with_geometry(capacity: usize, seed: Seed, geometry: Geometry) -> Self {
        let shared = Shared {
            geometry,
            slots: empty_slots(capacity),
            index: Index::new(capacity, seed),
            wildcards: AtomicUsize::new(0),
            removals: Removals { clock: AtomicU64::new(IDLE + 1), waiting: AtomicUsize::new(0) },
            progress: Arc::new(Progress { completed: AtomicU64::new(IDLE) }),
            control: Padded(Mutex::new(Control::new(capacity))),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A table whose slots wear out after `generations` uses.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn wearing_out(capacity: usize, generations: u64) -> Self {
        let geometry = Geometry::new(capacity).with_last_generation(generations);
        Self::with_geometry(capacity, Seed::new([0; crate::SEED_WORDS]), geometry)
    }

    /// Registers a reader. Lanes come and go at run time; their number is not bounded, but a removal looks at each.
    pub fn register_lane(&self) -> Lane<T> {
        let state = Arc::new(LaneState::new());
        self.shared.lock().lanes.push(Arc::clone(&state));
        Lane::new(Arc::clone(&self.shared), state)
    }

    /// Adds a value, to be found by the handle returned and by each of `keys`. Once this has returned, a batch that is
    /// entered after it (or that the handle reaches) finds the value.
    ///
    /// # Errors
    /// No slot is free, or there are more than [`MAX_KEYS`](crate::MAX_KEYS) keys.
    pub fn insert(&self, value: T, keys: &[Key]) -> Result<Handle, InsertError> {
        self.insert_with(keys, |_, _| false, |_| value)
    }

    /// Like [`insert`](Self::insert), unless `conflicts` says of a live value under one of `keys` (exactly that key:
    /// wildcards meet only wildcards) that it excludes the new one. Test and addition are one step, so of two equal
    /// values added at the same time one is refused (OV2-SA-4).
    ///
    /// # Errors
    /// As for [`insert`](Self::insert), and a value for which `conflicts` returned true.
    pub fn insert_unless(&self, value: T, keys: &[Key], conflicts: impl FnMut(&Key, &T) -> bool) -> Result<Handle, InsertError> {
        self.insert_with(keys, conflicts, |_| value)
    }

    /// Like [`insert_unless`](Self::insert_unless), for a value that holds its own handle: `make` builds it, last and
    /// only if nothing else is in the way. Both closures run under the control mutex.
    ///
    /// # Errors
    /// As for [`insert_unless`](Self::insert_unless).
    pub fn insert_with(&self, keys: &[Key], mut conflicts: impl FnMut(&Key, &T) -> bool, make: impl FnOnce(Handle) -> T) -> Result<Handle, InsertError> {
        let keys = distinct(keys)?;
        let shared = &*self.shared;
        let mut control = shared.lock();
        for key in keys.iter().flatten() {
            let mut probe = shared.index.probe(key);
            while let Some(entry) = probe.next(&shared.index) {
                // SAFETY: the control mutex is held until the value was looked at.
                let Some((existing, value)) = (unsafe { shared.confirm(entry, key) }) else { continue };
                if conflicts(key, value) {
                    return Err(InsertError::Duplicate { existing });
                }
            }
        }
        let Some(index) = control.free_slot() else {
            return Err(InsertError::Full { capacity: control.usable(), removing: control.removing.len });
        };
        let slot = &shared.slots[index];
        let handle = shared.geometry.handle(index, control.generations[index] + 1);
        let value = make(handle);
        // From here on nothing can fail.
        control.take_free(index);
        // SAFETY: a free slot is fresh or its grace period is over, it holds no value, and the mutex is held.
        unsafe { slot.fill(keys, value) };
        for (entry, key) in entries(index, &keys) {
            if key.is_wildcard() {
                control.wildcards += 1;
                shared.wildcards.store(control.wildcards, Ordering::Relaxed);
            }
            shared.index.insert(key, entry);
        }
        slot.publish(handle);
        Ok(handle)
    }

    /// Removes a value: batches entered from now on do not find it. Once no earlier batch is left it is dropped, its
    /// bytes are zeroed and the slot is freed, and the removal is complete: here and now if no lane is in a batch,
    /// otherwise in a later [`reclaim`](Self::reclaim). Of two removals of one handle one succeeds. The destructor runs
    /// under the control mutex.
    ///
    /// # Errors
    /// The handle names no live value (OV2-SA-7: skip it and count it).
    pub fn remove(&self, handle: Handle) -> Result<Removal, Stale> {
        let shared = &*self.shared;
        let mut control = shared.lock();
        let live = shared.slot(handle).is_some_and(|slot| slot.live() == handle.to_bits());
        if !live {
            return Err(Stale(handle));
        }
        let index = shared.geometry.index(handle);
        shared.unpublish(&mut control, index);
        let stamp = shared.tick(&mut control);
        if stamp <= control.horizon() {
            shared.finish(&mut control, index);
            return Ok(Removal { handle, waiting: None });
        }
        shared.queue(&mut control, index, stamp);
        Ok(Removal { handle, waiting: Some((stamp, Arc::clone(&shared.progress))) })
    }

    /// Completes the removals that no batch can get in the way of any more and reports the handle of each, once, after
    /// its value is gone. Removals that were complete when they returned ([`Removal::completed_at_once`]) are not
    /// reported. Returns how many there were.
    ///
    /// Never waits: not for a batch, and not for another thread that holds the control mutex (then it returns 0 and the
    /// next call will do). Without removals under way it costs one load, so that a worker can call it after every batch.
    /// Destructors run under the control mutex, `completed` does not.
    pub fn reclaim(&self, mut completed: impl FnMut(Handle)) -> usize {
        let shared = &*self.shared;
        let mut total = 0;
        loop {
            if shared.removals.waiting.load(Ordering::Relaxed) == 0 {
                return total;
            }
            let Some(mut control) = shared.try_lock() else { return total };
            let horizon = control.horizon();
            let mut done = [None; REPORTS];
            let mut count = 0;
            for report in &mut done {
                let Some((index, stamp)) = control.next_waiting(horizon) else { break };
                shared.removals.waiting.store(control.removing.len, Ordering::Relaxed);
                *report = Some(shared.geometry.handle(index, control.generations[index]));
                shared.finish(&mut control, index);
                shared.progress.completed.store(stamp, Ordering::Release);
                count += 1;
            }
            drop(control);
            done.into_iter().flatten().for_each(&mut completed);
            total += count;
            if count < REPORTS {
                return total;
            }
        }
    }

    /// Removes every value, as [`remove`](Self::remove) does (OV2-OID-2: a reset empties the table).
    pub fn clear(&self) -> Cleared {
        let shared = &*self.shared;
        let mut control = shared.lock();
        let mut removed = List::default();
        for index in 0..control.fresh {
            if shared.slots[index].live() != 0 {
                shared.unpublish(&mut control, index);
                removed.push(&mut control.links, index);
            }
        }
        let count = removed.len;
        let stamp = shared.tick(&mut control);
        let over = stamp <= control.horizon();
        while let Some(index) = removed.pop(&control.links) {
            if over {
                shared.finish(&mut control, index);
            } else {
                shared.queue(&mut control, index, stamp);
            }
        }
        Cleared { removed: count, pending: if over { 0 } else { count } }
    }

    /// Looks at a live value without a lane, under the control mutex: for control requests (OV2-SA-6).
    ///
    /// # Errors
    /// The handle names no live value.
    pub fn with<R>(&self, handle: Handle, look: impl FnOnce(&T) -> R) -> Result<R, Stale> {
        let _control = self.shared.lock();
        match self.shared.slot(handle) {
            Some(slot) if slot.live() == handle.to_bits() => {
                // SAFETY: the slot was seen live under the control mutex, which is held until `look` has returned.
                Ok(look(unsafe { slot.value() }))
            }
            _ => Err(Stale(handle)),
        }
    }

    /// Shows every live value to `look`, by slot number, under the control mutex: one consistent picture, during which
    /// nothing is added or removed.
    pub fn for_each(&self, mut look: impl FnMut(Handle, &T)) {
        let control = self.shared.lock();
        for slot in &self.shared.slots[..control.fresh] {
            if let Some(handle) = Handle::from_bits(slot.live()) {
                // SAFETY: the slot was seen live under the control mutex, which is held until `look` has returned.
                look(handle, unsafe { slot.value() });
            }
        }
    }

    /// How full the table is.
    pub fn occupancy(&self) -> Occupancy {
        let control = self.shared.lock();
        Occupancy { capacity: control.usable(), live: control.live, removing: control.removing.len, retired: control.retired, lanes: control.lanes.len() }
    }
}

impl<T: Send + Sync> Clone for SaTable<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Send + Sync> fmt::Debug for SaTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaTable").field("slots", &self.shared.slots.len()).finish_non_exhaustive()
    }
}

impl Removal {
    /// What is being removed. Handles are not used twice, so it names this removal too.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Whether the removal was over when [`SaTable::remove`] returned. If so, nothing more is heard of it; if not,
    /// [`SaTable::reclaim`] reports it once, in whichever thread completes it.
    pub fn completed_at_once(&self) -> bool {
        self.waiting.is_none()
    }

    /// Whether the value is gone by now. Only [`SaTable::reclaim`] makes it so.
    pub fn is_complete(&self) -> bool {
        self.waiting.as_ref().is_none_or(|(stamp, progress)| progress.completed.load(Ordering::Acquire) >= *stamp)
    }
}

impl fmt::Debug for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Removal").field("handle", &self.handle).field("completed_at_once", &self.completed_at_once()).finish_non_exhaustive()
    }
}

/// How far the queue of removals has been worked off. It is worked off in order, so one number says it.
struct Progress {
    completed: AtomicU64,
}

/// What removals write and lanes read once a batch: on cache lines away from what lanes read per packet.
#[repr(align(128))]
struct Removals {
    /// Counts removals. A batch remembers the time of its beginning.
    clock: AtomicU64,
    /// Length of the queue, so that an empty one costs no mutex.
    waiting: AtomicUsize,
}

/// Keeps what the control side writes off the cache lines that lanes read per packet.
#[repr(align(128))]
struct Padded<T>(T);

/// What table and lanes share. Lanes read geometry, slots, index and wildcards per packet; they change rarely or never.
pub(crate) struct Shared<T> {
    geometry: Geometry,
    slots: Box<[Slot<T>]>,
    index: Index,
    /// Wildcard keys in the index.
    wildcards: AtomicUsize,
    removals: Removals,
    progress: Arc<Progress>,
    control: Padded<Mutex<Control>>,
}

// SAFETY: values are handed out by shared reference to every thread (Sync) and dropped by whichever thread completes
// their removal (Send); everything else in here is atomic or behind the mutex.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    #[inline(always)]
    pub(crate) fn slot(&self, handle: Handle) -> Option<&Slot<T>> {
        self.slots.get(self.geometry.index(handle))
    }

    #[inline(always)]
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    #[inline(always)]
    pub(crate) fn has_wildcards(&self) -> bool {
        self.wildcards.load(Ordering::Relaxed) != 0
    }

    /// The time; whoever sees a removal's time also sees that it is no longer published or in the index.
    #[inline(always)]
    pub(crate) fn now(&self) -> u64 {
        self.removals.clock.load(Ordering::Acquire)
    }

    /// Begins to fetch the slot that the index proposes.
    #[inline(always)]
    pub(crate) fn prefetch(&self, entry: Entry) {
        if let Some(slot) = self.slots.get(entry.slot) {
            slot.prefetch();
        }
    }

    /// The value that the index proposes, if it is live and has this key.
    ///
    /// # Safety
    /// For the returned lifetime the caller is in a guard, entered before the call, or holds the control mutex.
    #[inline(always)]
    pub(crate) unsafe fn confirm<'a>(&self, entry: Entry, key: &Key) -> Option<(Handle, &'a T)> {
        let slot = self.slots.get(entry.slot)?;
        let handle = Handle::from_bits(slot.live())?;
        // SAFETY: the slot was seen live under the caller's guard or mutex.
        let keys = unsafe { slot.keys() };
        if keys.get(entry.key)?.as_ref() != Some(key) {
            return None;
        }
        // SAFETY: the slot was seen live under the caller's guard or mutex.
        Some((handle, unsafe { slot.value() }))
    }

    pub(crate) fn unregister(&self, lane: &Arc<LaneState>) {
        self.lock().lanes.retain(|other| !Arc::ptr_eq(other, lane));
    }

    /// The control mutex. A panic under it (in a caller's closure, in a destructor) leaves nothing half done, so
    /// poisoning says nothing.
    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Control>> {
        match self.control.0.try_lock() {
            Ok(control) => Some(control),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Takes a live slot's handle and index entries away.
    fn unpublish(&self, control: &mut Control, index: usize) {
        let slot = &self.slots[index];
        slot.unpublish();
        control.live -= 1;
        // SAFETY: the slot was live, and the control mutex is held: keys are rewritten only under it.
        let keys = unsafe { slot.keys() };
        for (entry, key) in entries(index, keys) {
            self.index.remove(key, entry);
            if key.is_wildcard() {
                control.wildcards -= 1;
                self.wildcards.store(control.wildcards, Ordering::Relaxed);
            }
        }
    }

    /// Moves the clock on, past the changes made before, and returns the new time: batches that begin at it or later
    /// do not see what was unpublished.
    fn tick(&self, control: &mut Control) -> u64 {
        control.time += 1;
        let order = if seeded_bug("relaxed_clock") { Ordering::Relaxed } else { Ordering::Release };
        self.removals.clock.store(control.time, order);
        control.time
    }

    fn queue(&self, control: &mut Control, index: usize, stamp: u64) {
        control.stamps[index] = stamp;
        control.removing.push(&mut control.links, index);
        self.removals.waiting.store(control.removing.len, Ordering::Relaxed);
    }

    /// Erases an unpublished slot's value, whose grace period is over, and frees the slot.
    fn finish(&self, control: &mut Control, index: usize) {
        // SAFETY: the value was unpublished before a time that lies behind the horizon, so no reader has a reference and
        // none can get one; it is in no queue any more, so it is erased once; the mutex is held.
        unsafe { self.slots[index].erase() };
        if control.generations[index] < self.geometry.last_generation() {
            control.free.push(&mut control.links, index);
        } else {
            control.retired += 1;
        }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let mut control = self.lock();
        let live = (0..control.fresh).filter(|index| self.slots[*index].live() != 0);
        for index in live {
            // SAFETY: nobody else has the table any more, and a live slot holds a value.
            unsafe { self.slots[index].erase() };
        }
        while let Some((index, _)) = control.next_waiting(u64::MAX) {
            // SAFETY: nobody else has the table any more, and a removal that waits still holds its value.
            unsafe { self.slots[index].erase() };
        }
    }
}

/// The keys in the form that slots hold, an equal second one left out: a value is found once by each key.
fn distinct(keys: &[Key]) -> Result<Keys, InsertError> {
    let mut distinct: Keys = [None; MAX_KEYS];
    if keys.len() > MAX_KEYS {
        return Err(InsertError::TooManyKeys { found: keys.len() });
    }
    for (position, key) in keys.iter().enumerate() {
        if !distinct.contains(&Some(*key)) {
            distinct[position] = Some(*key);
        }
    }
    Ok(distinct)
}

fn entries(slot: usize, keys: &Keys) -> impl Iterator<Item = (Entry, &Key)> {
    keys.iter().enumerate().filter_map(move |(number, key)| Some((Entry { slot, key: number }, key.as_ref()?)))
}
