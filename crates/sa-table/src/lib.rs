//! The concurrent table of security association slots with generational handles.
//!
//! A NIC looks SAs up millions of times a second and changes them a few thousand times a second. This table lets the
//! lookers never wait, and lets the changers change one slot at a time: nothing is ever copied, rehashed or grown.
//! Addition, removal and look-up take constant time. The value type is the caller's.
//!
//! ```
//! use sa_table::{Key, SaTable, Seed};
//!
//! struct Sa { spi: u32 }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let random = [0x5eed; sa_table::SEED_WORDS]; // from the system's random generator
//! let table = SaTable::new(1024, Seed::new(random))?;
//! let key = Key::v4(0x1001, [192, 0, 2, 2]);
//! let handle = table.insert(Sa { spi: 0x1001 }, &[key])?;
//!
//! let mut lane = table.register_lane(); // one per worker
//! let batch = lane.enter(); // once per batch of packets
//! assert_eq!(batch.get(handle).map(|sa| sa.spi), Some(0x1001));
//! let (found, sa) = batch.find(&key).next().ok_or("not found")?;
//! assert_eq!((found, sa.spi), (handle, 0x1001));
//!
//! let removal = table.remove(handle)?; // the batch is under way: not complete
//! assert!(!removal.is_complete());
//! assert_eq!(sa.spi, 0x1001); // still valid, but not to be found any more
//! assert!(batch.get(handle).is_none());
//! drop(batch);
//!
//! assert_eq!(table.reclaim(|done| assert_eq!(done, handle)), 1);
//! assert!(removal.is_complete());
//! assert!(table.remove(handle).is_err()); // stale
//! # Ok(())
//! # }
//! ```
//!
//! # Who is who
//!
//! - The **control side**: any thread that calls [`SaTable`]. Changes are serialised by a mutex, held for a short time.
//! - **Lanes**: readers, one per worker. A lane enters a batch ([`Lane::enter`]), looks values up through the
//!   [`Guard`], and drops it. Lanes take no lock, wait for nobody, and write only their own cache line, once at the
//!   beginning and once at the end of a batch.
//!
//! # Publication
//!
//! A slot holds its live [`Handle`] (or zero), its keys and its value. Addition writes keys and value, enters the keys
//! into the index, and last stores the handle with *release*. A look-up loads the handle with *acquire* and compares: if
//! it is the one asked for, keys and value are there complete. That load is the only ordering a look-up needs; the index
//! is read *relaxed*, because it only proposes slots, and every proposal is confirmed by the slot's handle and full key.
//! Comparing the handle tells index, generation and table at once, so a stale or foreign handle is never taken for
//! another.
//!
//! # Grace period
//!
//! Removal takes the handle away (stores zero), takes the keys out of the index, and moves a clock on. The value is
//! dropped, and the slot used again, only when no batch can still hold a reference to it:
//!
//! - A lane that enters a batch loads the clock (*acquire*), shows that time in its own word (store, *release*), and then
//!   passes a *sequentially consistent* fence. When it leaves it stores "idle" (*release*).
//! - The control side passes a *sequentially consistent* fence after the removal and then loads each lane's word
//!   (*acquire*). The removal's grace period is over when every lane is idle or shows the removal's time or a later one.
//!
//! Why that is enough. *A lane seen idle*: of the two fences one is first. If the lane's is, the control side sees the
//! lane's time and not "idle", unless the lane has left again; if the control side's is, the lane's look-ups see the
//! removal. *A lane that shows the removal's time or a later one* has acquired the clock that the removal released, and
//! with it the removal. *In both cases* the control side's acquire pairs with the lane's release, so all that the lane
//! read before happens before the drop. A lane that shows an older time may hold a reference, and is waited for, by
//! polling ([`SaTable::reclaim`]): nobody blocks.
//!
//! While a lane is in its batch, no slot that it has seen live is written, so its references stay valid until the guard
//! is dropped, and a slot cannot change hands under a look-up.
//!
//! # Cost
//!
//! Cache lines touched, beyond those of the value itself: a look-up by handle one (the slot's first, which also holds the
//! value's first word); by key two (a bucket of the index, the slot's first), and for a miss one. An SPI has a wildcard
//! looked up, one line more, only while the table has wildcard keys. A bucket that overflowed costs a line more; the
//! index is at most half full and hashed under a secret [`Seed`]. Many values under the same key share its buckets, and
//! a look-up walks through all of them.
//!
//! Where a batch has packets of many values, [`Guard::prefetch`], [`Guard::prefetch_index`] and [`Guard::prefetch_values`] let all of these lines be
//! fetched at the same time. They are hints: results and ordering are as without them.
//!
//! Removed values are dropped where they lie and their bytes zeroed. Moving a value into the table may leave bytes on
//! the mover's stack, so key material belongs behind a pointer.
//!
//! # Proof
//!
//! `tests/loom.rs` runs this code on loom's types through the interleavings and the stale loads that the memory model
//! allows: all of them for two threads, those with up to three preemptions for three. `tests/seeded-bugs.sh` runs it
//! again with one ordering weakened, a fence left out or the grace period skipped, and fails unless the models notice.

mod control;
mod error;
mod fetch;
mod handle;
mod index;
mod key;
mod lane;
mod slot;
mod sync;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;

pub use error::{CapacityError, InsertError, Stale};
pub use fetch::prefetch;
pub use handle::Handle;
pub use index::MAX_KEYS;
pub use key::{Key, SEED_WORDS, Seed};
pub use lane::{Guard, Hits, Lane};
pub use table::{Cleared, MAX_CAPACITY, Occupancy, Removal, SaTable};
