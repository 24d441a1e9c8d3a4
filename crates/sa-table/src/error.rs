//! What can go wrong.

use crate::handle::Handle;

/// Why a table was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a table has 1 to {maximum} slots, not {found}", maximum = crate::MAX_CAPACITY)]
pub struct CapacityError {
    /// The capacity asked for.
    pub found: usize,
}

/// Why a value was not added. Nothing has changed, and the value is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// No slot is free (OV2-SA-4: RESOURCES).
    #[error("all {capacity} slots are in use, {removing} of them by values that are being removed")]
    Full {
        /// Slots of the table that are not worn out.
        capacity: usize,
        /// Slots that a later [`reclaim`](crate::SaTable::reclaim) will free.
        removing: usize,
    },
    /// The caller's test says that a value under one of the keys is a duplicate (OV2-SA-4: INVALID_DATA).
    #[error("{existing:?} has the same key and excludes this value")]
    Duplicate {
        /// The value that is there already.
        existing: Handle,
    },
    /// More keys than a value can have.
    #[error("{found} keys, and a value has at most {maximum}", maximum = crate::MAX_KEYS)]
    TooManyKeys {
        /// The number of keys given.
        found: usize,
    },
}

/// The handle names no live value of this table: it is stale, foreign or made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no live value of this table")]
pub struct Stale(pub Handle);
