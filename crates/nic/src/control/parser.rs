//! The UDP-ESP parser of IPsecOV1: which UDP ports are looked into for ESP, and which SAs need that (OV1-2a).

use std::collections::{BTreeMap, HashMap};

use ndis::{Direction, OffloadHandle, Status, V1EncapsulationType, V1ParserEntry};

/// Handles of entries are apart from those of SAs, and none is given out twice.
const FIRST_HANDLE: u64 = 1 << 63;

#[derive(Debug)]
struct Entry {
    /// What it looks for; as SAs of its direction compare it.
    what: V1ParserEntry,
    direction: Direction,
    /// Live SAs that were added with it.
    users: usize,
    /// It was deleted with an SA, while others needed it: it goes with the last of them.
    leaves: bool,
}

/// The parser's entries.
#[derive(Debug, Default)]
pub(super) struct Parser {
    entries: BTreeMap<u64, Entry>,
    /// The entries of SAs.
    by_sa: HashMap<OffloadHandle, u64>,
    given: u64,
}

/// An entry for an SA that is about to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) handle: OffloadHandle,
    /// It was made for this SA: it goes if the SA is not added.
    pub(super) new: bool,
}

impl Parser {
    /// The entry that `asked` names, or, if it names none, an equal one or a new one.
    ///
    /// # Errors
    /// [`Status::INVALID_PARAMETER`] if the handle names no entry that looks for this; [`Status::INVALID_DATA`] for port 0, which no packet has;
    /// [`Status::NOT_SUPPORTED`] for what is reserved.
    pub(super) fn find(&mut self, what: V1ParserEntry, direction: Direction, asked: Option<OffloadHandle>) -> Result<Found, Status> {
        if what.kind == V1EncapsulationType::Ike {
            return Err(Status::NOT_SUPPORTED);
        }
        let what = what.of(direction);
        if direction == Direction::Inbound && what.destination_port == 0 {
            return Err(Status::INVALID_DATA);
        }
        if let Some(handle) = asked {
            let equal = self.entries.get(&handle.to_bits()).is_some_and(|entry| (entry.what, entry.direction) == (what, direction));
            return if equal { Ok(Found { handle, new: false }) } else { Err(Status::INVALID_PARAMETER) };
        }
        let equal = self.entries.iter().find(|(_, entry)| (entry.what, entry.direction) == (what, direction)).map(|(&bits, _)| bits);
        let bits = equal.unwrap_or(FIRST_HANDLE + self.given);
        let handle = OffloadHandle::from_bits(bits).ok_or(Status::RESOURCES)?;
        if equal.is_none() {
            self.given += 1;
            self.entries.insert(bits, Entry { what, direction, users: 0, leaves: false });
        }
        Ok(Found { handle, new: equal.is_none() })
    }

    /// The SA was added: it uses the entry.
    pub(super) fn attach(&mut self, found: Found, sa: OffloadHandle) {
        if let Some(entry) = self.entries.get_mut(&found.handle.to_bits()) {
            entry.users += 1;
            // Whoever asks for it wants it to stay.
            entry.leaves = false;
            self.by_sa.insert(sa, found.handle.to_bits());
        }
    }

    /// The SA was not added: neither is the entry. Returns a port that nothing needs any more.
    pub(super) fn withdraw(&mut self, found: Found) -> Option<u16> {
        if found.new { self.remove(found.handle.to_bits()) } else { None }
    }

    /// Whether `entry` is the one that an SA was added with.
    pub(super) fn is_of(&self, entry: OffloadHandle, sa: OffloadHandle) -> bool {
        self.by_sa.get(&sa) == Some(&entry.to_bits())
    }

    /// The SA is gone; with it, if `leave`, the entry, as soon as no other SA needs it. Returns a port that nothing needs any more.
    pub(super) fn detach(&mut self, sa: OffloadHandle, leave: bool) -> Option<u16> {
        let bits = self.by_sa.remove(&sa)?;
        let entry = self.entries.get_mut(&bits)?;
        entry.users = entry.users.saturating_sub(1);
        entry.leaves |= leave;
        if entry.leaves && entry.users == 0 { self.remove(bits) } else { None }
    }

    /// Forgets all; returns the ports that were looked into.
    pub(super) fn clear(&mut self) -> Vec<u16> {
        self.by_sa.clear();
        core::mem::take(&mut self.entries).into_values().filter_map(|entry| port(&entry)).collect()
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn remove(&mut self, bits: u64) -> Option<u16> {
        port(&self.entries.remove(&bits)?)
    }
}

/// The port that an entry lets the NIC look into.
fn port(entry: &Entry) -> Option<u16> {
    (entry.direction == Direction::Inbound).then_some(entry.what.destination_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: V1ParserEntry = V1ParserEntry { kind: V1EncapsulationType::Other, destination_port: 4500 };

    fn sa(bits: u64) -> OffloadHandle {
        OffloadHandle::from_bits(bits).unwrap()
    }

    /// OV1-2a: an equal entry is reused, the port does not count for outbound SAs, a handle names an entry that is there and fits.
    #[test]
    fn equal_entries_are_one() {
        let mut parser = Parser::default();
        let first = parser.find(OTHER, Direction::Inbound, None).unwrap();
        assert!(first.new);
        parser.attach(first, sa(1));
        assert_eq!(parser.find(OTHER, Direction::Inbound, None), Ok(Found { new: false, ..first }));
        assert_eq!(parser.find(OTHER, Direction::Inbound, Some(first.handle)), Ok(Found { new: false, ..first }));
        let other_port = V1ParserEntry { destination_port: 4501, ..OTHER };
        let second = parser.find(other_port, Direction::Inbound, None).unwrap();
        assert!(second.new && second.handle != first.handle);
        let out = parser.find(OTHER, Direction::Outbound, None).unwrap();
        assert!(out.new);
        assert_eq!(parser.find(other_port, Direction::Outbound, None), Ok(Found { new: false, ..out }));
        assert_eq!(parser.find(other_port, Direction::Inbound, Some(first.handle)), Err(Status::INVALID_PARAMETER));
        assert_eq!(parser.find(OTHER, Direction::Inbound, Some(sa(7))), Err(Status::INVALID_PARAMETER));
        assert_eq!(parser.find(V1ParserEntry { kind: V1EncapsulationType::Ike, ..OTHER }, Direction::Inbound, None), Err(Status::NOT_SUPPORTED));
        assert_eq!(parser.find(V1ParserEntry { destination_port: 0, ..OTHER }, Direction::Inbound, None), Err(Status::INVALID_DATA));
        assert_eq!(parser.len(), 3);
    }

    /// OV1-2a: what was made for an SA that is not added goes; what was there stays.
    #[test]
    fn a_failed_add_leaves_neither() {
        let mut parser = Parser::default();
        let made = parser.find(OTHER, Direction::Inbound, None).unwrap();
        assert_eq!((parser.withdraw(made), parser.len()), (Some(4500), 0));
        let made = parser.find(OTHER, Direction::Inbound, None).unwrap();
        parser.attach(made, sa(1));
        let found = parser.find(OTHER, Direction::Inbound, None).unwrap();
        assert_eq!((parser.withdraw(found), parser.len()), (None, 1));
    }

    /// OV1-2a: without a handle only the SA goes; with one the entry goes, too, once no SA needs it. A handle is not given out again.
    #[test]
    fn an_entry_goes_with_the_last_that_needs_it() {
        let mut parser = Parser::default();
        let found = parser.find(OTHER, Direction::Inbound, None).unwrap();
        for bits in 1..=3 {
            parser.attach(found, sa(bits));
        }
        assert!(parser.is_of(found.handle, sa(1)) && !parser.is_of(sa(9), sa(1)) && !parser.is_of(found.handle, sa(4)));
        assert_eq!((parser.detach(sa(1), false), parser.len()), (None, 1));
        assert_eq!((parser.detach(sa(2), true), parser.len()), (None, 1));
        assert_eq!((parser.detach(sa(3), false), parser.len()), (Some(4500), 0));
        let again = parser.find(OTHER, Direction::Inbound, None).unwrap();
        assert!(again.new && again.handle != found.handle);
        parser.attach(again, sa(4));
        assert_eq!((parser.detach(sa(4), false), parser.len()), (None, 1));
        assert_eq!(parser.clear(), [4500]);
    }
}
