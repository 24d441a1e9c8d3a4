//! What the miniport knows of the bundles that its engine holds: enough to answer requests without asking the engine, and no keys.

use core::net::IpAddr;
use std::collections::{BTreeMap, HashMap, HashSet};

use arrayvec::ArrayVec;
use ndis::{Direction, OffloadHandle, Operation, SaBundle, Status, UpdateSa};
use packet::Spi;

/// What tells inbound associations apart: two with the same are duplicates (OV2-SA-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct InboundKey {
    spi: Spi,
    ipv6: bool,
    destination: Option<IpAddr>,
    operation: Operation,
}

#[derive(Clone, Copy, Debug)]
struct Association {
    operation: Operation,
    spi: Spi,
    extended: bool,
    /// Last high half that was set.
    high: u32,
}

/// A bundle as the ledger knows it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    direction: Direction,
    associations: ArrayVec<Association, 2>,
    keys: ArrayVec<InboundKey, 2>,
    /// Its place in the order of age.
    born: u64,
}

impl Record {
    fn new(bundle: &SaBundle) -> Self {
        let esp = bundle.associations.esp().map(|esp| Association {
            operation: Operation::Esp,
            spi: esp.spi,
            extended: esp.extended_sequence_numbers,
            high: esp.sequence_number_high,
        });
        let ah = bundle.associations.ah().map(|ah| Association {
            operation: Operation::Ah,
            spi: ah.spi,
            extended: ah.extended_sequence_numbers,
            high: ah.sequence_number_high,
        });
        let associations: ArrayVec<_, 2> = esp.into_iter().chain(ah).collect();
        let keys = match bundle.direction {
            Direction::Outbound => ArrayVec::new(),
            Direction::Inbound => associations
                .iter()
                .map(|association| InboundKey {
                    spi: association.spi,
                    ipv6: bundle.endpoints.ipv6,
                    destination: bundle.endpoints.destination.filter(|address| !address.is_unspecified()),
                    operation: association.operation,
                })
                .collect(),
        };
        Self { direction: bundle.direction, associations, keys, born: 0 }
    }
}

/// The bundles of one adapter.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    live: HashMap<OffloadHandle, Record>,
    keys: HashSet<InboundKey>,
    /// Inbound bundles that have not been asked to go yet, oldest first.
    by_age: BTreeMap<u64, OffloadHandle>,
    /// Bundles that take room in the engine: live, being added, being deleted.
    occupied: usize,
    born: u64,
}

impl Ledger {
    /// Makes room for a bundle that is about to be added.
    ///
    /// # Errors
    /// [`Status::INVALID_DATA`] for a duplicate, [`Status::RESOURCES`] if all of `capacity` is occupied.
    pub(crate) fn reserve(&mut self, bundle: &SaBundle, capacity: u32) -> Result<Record, Status> {
        let mut record = Record::new(bundle);
        if record.keys.iter().any(|key| self.keys.contains(key)) {
            return Err(Status::INVALID_DATA);
        }
        if self.occupied >= capacity as usize {
            return Err(Status::RESOURCES);
        }
        self.keys.extend(&record.keys);
        self.occupied += 1;
        self.born += 1;
        record.born = self.born;
        Ok(record)
    }

    /// The bundle was not added after all.
    pub(crate) fn release(&mut self, record: &Record) {
        self.forget_keys(record);
        self.vacate();
    }

    /// The bundle was added, and `handle` names it.
    ///
    /// # Errors
    /// The record back, if the engine gave out a handle twice.
    pub(crate) fn commit(&mut self, handle: OffloadHandle, record: Record) -> Result<(), Record> {
        if self.live.contains_key(&handle) {
            return Err(record);
        }
        if record.direction == Direction::Inbound {
            self.by_age.insert(record.born, handle);
        }
        self.live.insert(handle, record);
        Ok(())
    }

    /// Strikes a live bundle off; it keeps its room until [`Ledger::vacate`]. Its SPI may be used again at once: it is found no more.
    pub(crate) fn strike(&mut self, handle: OffloadHandle) -> bool {
        let Some(record) = self.live.remove(&handle) else { return false };
        self.by_age.remove(&record.born);
        self.forget_keys(&record);
        true
    }

    /// The engine has let go of a bundle that was struck off.
    pub(crate) fn vacate(&mut self) {
        self.occupied = self.occupied.saturating_sub(1);
    }

    /// Strikes everything off, and returns how many were live.
    pub(crate) fn clear(&mut self) -> usize {
        let live = self.live.len();
        *self = Self { born: self.born, ..Self::default() };
        live
    }

    /// Checks an update against the bundle that it names (OV2-SA-6), and notes it.
    ///
    /// # Errors
    /// [`Status::INVALID_PARAMETER`].
    pub(crate) fn update(&mut self, update: &UpdateSa) -> Result<(), Status> {
        let record = self.live.get_mut(&update.handle).ok_or(Status::INVALID_PARAMETER)?;
        let association = record
            .associations
            .iter_mut()
            .find(|association| association.operation == update.operation && association.spi == update.spi && association.extended)
            .ok_or(Status::INVALID_PARAMETER)?;
        if record.direction == Direction::Outbound && update.sequence_number_high < association.high {
            return Err(Status::INVALID_PARAMETER);
        }
        association.high = association.high.max(update.sequence_number_high);
        Ok(())
    }

    /// The oldest inbound bundle that this has not named before (OV2-SA-8).
    pub(crate) fn next_to_go(&mut self) -> Option<OffloadHandle> {
        self.by_age.pop_first().map(|(_, handle)| handle)
    }

    /// Live bundles.
    pub(crate) fn live(&self) -> usize {
        self.live.len()
    }

    /// Bundles that take room.
    pub(crate) fn occupied(&self) -> usize {
        self.occupied
    }

    fn forget_keys(&mut self, record: &Record) {
        for key in &record.keys {
            self.keys.remove(key);
        }
    }
}
