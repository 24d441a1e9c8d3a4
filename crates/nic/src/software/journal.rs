//! What the headers of a chunk's packets came to, so that it can be concluded in the packets' order.
//!
//! Rounds work on one header of each packet, and so come to the first headers of late packets before the last ones of early packets. But what a packet is
//! reported as hangs on the packets before it: on the mode that they were in (OV2-RECV-5a), and on whether one asked for the SA's deletion. While packets
//! end in their order, as those under ESP alone do, they are concluded at once, and the journal stays closed.

use arrayvec::ArrayVec;
use ipsec::{BATCH, Provider};
use ndis::{CryptoStatus, NetBufferList, Operation, OutOfBand};

use super::portion::Position;
use super::receive::{Task, Tasks, report};
use super::sa::Sa;

/// Entries of one packet at the most: an AH that is good and an ESP of the outer portion, an AH of the inner one, and an ESP that is authentic and wrong.
const PER_PACKET: usize = 5;

/// What a header came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It is authentic; the portion goes on.
    Authentic { sequence: u64 },
    /// The portion was good in all.
    Good { sequence: u64, tunnel: bool },
    /// The portion failed.
    Failed(CryptoStatus),
    /// Its ICV is not right.
    Forged,
}

struct Entry<'a, P: Provider> {
    sa: &'a Sa<P>,
    end: End,
    /// The packet's place in the chunk.
    index: u32,
    /// The entry's place in the journal as it was written.
    number: u32,
    operation: Operation,
    position: Position,
}

/// See the [module](self).
pub(super) struct Journal<'a, P: Provider> {
    open: bool,
    entries: ArrayVec<Entry<'a, P>, { PER_PACKET * BATCH }>,
}

/// What a round leaves behind.
pub(super) struct After<'a, P: Provider> {
    /// The headers to be worked on next.
    pub(super) next: Tasks<'a, P>,
    pub(super) journal: Journal<'a, P>,
}

impl<P: Provider> After<'_, P> {
    #[inline]
    pub(super) fn new() -> Self {
        Self { next: Tasks::new(), journal: Journal { open: false, entries: ArrayVec::new() } }
    }
}

impl<'a, P: Provider> Journal<'a, P> {
    /// Lets nothing be concluded before [`Journal::settle`].
    #[inline]
    pub(super) fn open(&mut self) {
        self.open = true;
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Notes what the header of a task came to, and opens the journal.
    #[inline(never)]
    pub(super) fn note(&mut self, task: &Task<'a, P>, end: End) {
        self.note_of(task.sa, task.index, (task.operation, task.position), end);
    }

    /// Notes that a portion cannot be one of the bundle's, and opens the journal.
    #[cold]
    #[inline(never)]
    pub(super) fn note_unfit(&mut self, sa: &'a Sa<P>, index: u32, position: Position, status: CryptoStatus) {
        self.note_of(sa, index, (sa.operation(), position), End::Failed(status));
    }

    fn note_of(&mut self, sa: &'a Sa<P>, index: u32, (operation, position): (Operation, Position), end: End) {
        self.open = true;
        // Numbers are followed at once, as the next packets' high halves hang on them; they only grow, in whichever order.
        if let End::Authentic { sequence } | End::Good { sequence, .. } = end {
            sa.follow(operation, sequence);
        }
        let number = self.entries.len() as u32;
        self.entries.push(Entry { sa, end, index, number, operation, position });
    }

    /// Concludes all that was noted, packet by packet, and closes the journal.
    #[inline]
    pub(super) fn settle(&mut self, lists: &mut [NetBufferList]) {
        if self.open {
            self.conclude(lists);
        }
    }

    #[inline(never)]
    fn conclude(&mut self, lists: &mut [NetBufferList]) {
        self.open = false;
        self.entries.sort_unstable_by_key(|entry| (entry.index, entry.number));
        for Entry { sa, end, index, operation, position, .. } in self.entries.drain(..) {
            if let Some(list) = lists.get_mut(index as usize) {
                conclude(sa, operation, position, end, &mut list.oob);
            }
        }
    }
}

/// Tells the bundle what one header of a packet came to, and reports it. Packets have to come in their order.
#[inline]
pub(super) fn conclude<P: Provider>(sa: &Sa<P>, operation: Operation, position: Position, end: End, oob: &mut OutOfBand) {
    let (delete, status) = match end {
        End::Authentic { sequence } => return sa.authentic(operation, sequence),
        End::Good { sequence, tunnel } => (sa.verified(operation, sequence, tunnel), CryptoStatus::Success),
        End::Failed(status) => (sa.wants_delete(), status),
        End::Forged => (sa.wants_delete(), forged(operation, sa.probably_tunnel(position))),
    };
    report(oob, position, delete, status);
}

/// What a header that did not verify is called (OV2-RECV-5a).
const fn forged(operation: Operation, tunnel: bool) -> CryptoStatus {
    match (operation, tunnel) {
        (Operation::Ah, false) => CryptoStatus::TransportAhAuthFailed,
        (Operation::Ah, true) => CryptoStatus::TunnelAhAuthFailed,
        (Operation::Esp, false) => CryptoStatus::TransportEspAuthFailed,
        (Operation::Esp, true) => CryptoStatus::TunnelEspAuthFailed,
    }
}
