//! An outlet: the runs that one worker has taken, and how their frames get to the wire.

use core::fmt;

use crate::domain::{Domain, Run};
use crate::sync::{Arc, Pause, seeded_bug};

/// The turns that one worker has taken in any number of domains, between the numbers and the wire.
///
/// Dropping it gives up what it has not sent.
pub struct Outlet<F> {
    turns: Vec<Turn<F>>,
    /// The group of the first of `turns`; groups count on from call to call, so that what an earlier call has left over is not taken for this one's.
    base: u16,
    /// Frames that are being told apart.
    sorted: Vec<F>,
    /// A vector that a run was in that has been sent.
    sent: Vec<F>,
}

/// A run that its outlet has.
struct Turn<F> {
    domain: Arc<Domain<F>>,
    first: u64,
    last: u64,
    /// Frames that wait.
    frames: Vec<F>,
    due: bool,
    /// Released, left in the lot or given up.
    over: bool,
}

/// Groups are 1 to this.
const GROUPS: u32 = u16::MAX as u32;

impl<F> Outlet<F> {
    /// Runs that an outlet takes before it must send; of what is taken beyond that the order is not kept.
    pub const MOST: usize = 1 << 15;

    /// An outlet that has nothing to send.
    pub const fn new() -> Self {
        Self { turns: Vec::new(), base: 1, sorted: Vec::new(), sent: Vec::new() }
    }

    /// Notes that this worker has taken the numbers `first` to `first` + `count` - 1 of a domain, and returns the group (1 to 65,535) that marks the frames which
    /// are made under them. Runs that follow one another are one.
    ///
    /// All numbers that are taken of a domain must be noted by somebody, once: later ones wait for them. A `count` of 0 notes nothing, and there is no group.
    ///
    /// Returns 0, that is no group, if [`Outlet::MOST`] runs wait to be sent; these numbers are given up.
    #[inline]
    pub fn take_turn(&mut self, domain: &Arc<Domain<F>>, first: u64, count: u32) -> u16 {
        if count == 0 {
            return 0;
        }
        let last = first + u64::from(count - 1);
        let hint = domain.hint();
        if let Some(turn) = self.turns.get_mut(hint)
            && turn.last.wrapping_add(1) == first
            && Arc::ptr_eq(&turn.domain, domain)
        {
            turn.last = last;
            return self.group(hint);
        }
        let turn = Turn { domain: Arc::clone(domain), first, last, frames: Vec::new(), due: false, over: false };
        let place = self.turns.len();
        if place >= Self::MOST {
            // Given up as it is dropped.
            return 0;
        }
        domain.set_hint(place);
        self.turns.push(turn);
        self.group(place)
    }

    /// Whether it has taken turns and not sent.
    pub fn is_waiting(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Sends the frames of the runs that were taken since the last call, in `wire`, by `send`, and leaves `wire` empty. `group` says which run a frame belongs
    /// to; those of none (0, or a group of an earlier call) go at once. Frames of a run keep their order, and runs of a domain the order of their
    /// numbers. Runs whose turn has not come are left in their domain's lot, and sent by whoever sends the one before; so `send` may get other workers' frames,
    /// and frames may be sent some time after this call.
    ///
    /// Every run that was taken has had its turn then, whether there are frames of it or not.
    ///
    /// `send` sends all that it is given. What it leaves has missed its turn; it is handed back in `wire`.
    pub fn transmit(&mut self, wire: &mut Vec<F>, group: impl Fn(&F) -> u16, mut send: impl FnMut(&mut Vec<F>)) {
        if !self.turns.iter().all(|turn| turn.domain.is_due(turn.first)) {
            return self.transmit_apart(wire, group, send);
        }
        if seeded_bug("release_before_send") {
            self.turns.iter().for_each(|turn| turn.domain.release(turn.last));
        }
        if !wire.is_empty() {
            send(wire);
        }
        self.base = self.group(self.turns.len());
        let mut late = Vec::new();
        for mut turn in self.turns.drain(..) {
            turn.release();
            serve(&turn.domain, &mut self.sent, &mut late, &mut send);
        }
        wire.append(&mut late);
    }

    /// The same where at least one run has to wait.
    #[cold]
    fn transmit_apart(&mut self, wire: &mut Vec<F>, group: impl Fn(&F) -> u16, mut send: impl FnMut(&mut Vec<F>)) {
        for turn in &mut self.turns {
            turn.due = turn.domain.is_due(turn.first);
        }
        core::mem::swap(wire, &mut self.sorted);
        let mut sorted = core::mem::take(&mut self.sorted);
        for frame in sorted.drain(..) {
            match self.place(group(&frame)).and_then(|place| self.turns.get_mut(place)) {
                Some(turn) if !turn.due => turn.frames.push(frame),
                _ => wire.push(frame),
            }
        }
        self.sorted = sorted;
        if !wire.is_empty() {
            send(wire);
        }
        self.base = self.group(self.turns.len());
        let mut late = Vec::new();
        let Self { turns, sent, .. } = self;
        turns.retain_mut(|turn| {
            if turn.due {
                turn.release();
                serve(&turn.domain, sent, &mut late, &mut send);
            }
            !turn.due
        });
        // What is left waits: in the lot, or here until there is room or its turn has come. Always for all of them at once: another worker that waits for one
        // of these may be the one that another of these waits for.
        let mut pause = Pause::default();
        while !turns.is_empty() {
            let before = turns.len();
            turns.retain_mut(|turn| {
                let mut waits = false;
                if turn.domain.is_due(turn.first) || seeded_bug("overtake") {
                    if !turn.frames.is_empty() {
                        send(&mut turn.frames);
                        late.append(&mut turn.frames);
                    }
                    turn.release();
                } else if turn.domain.park(turn.first, turn.last, &mut turn.frames) {
                    turn.over = true;
                    if seeded_bug("no_second_look") {
                        return false;
                    }
                } else {
                    waits = true;
                }
                serve(&turn.domain, sent, &mut late, &mut send);
                waits
            });
            if turns.len() == before {
                pause.wait();
            }
        }
        wire.append(&mut late);
    }

    /// The group of the turn at `place`.
    #[inline]
    fn group(&self, place: usize) -> u16 {
        ((u32::from(self.base) - 1 + place as u32) % GROUPS + 1) as u16
    }

    /// The place of the turn of this group; beyond the last where there is none.
    fn place(&self, group: u16) -> Option<usize> {
        let group = u32::from(group.checked_sub(1)?);
        Some(((group + GROUPS - (u32::from(self.base) - 1)) % GROUPS) as usize)
    }
}

impl<F> Default for Outlet<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> fmt::Debug for Outlet<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("turns", &self.turns.len()).finish_non_exhaustive()
    }
}

impl<F> Turn<F> {
    /// Its frames are on the wire.
    #[inline]
    fn release(&mut self) {
        self.over = true;
        self.domain.release(self.last);
    }

    /// Nobody shall wait for this run. What follows it in the lot and has frames stays there for the next worker: here is nobody who could send it.
    #[cold]
    fn give_up(&mut self) {
        self.over = true;
        self.frames.clear();
        if self.domain.is_due(self.first) {
            self.domain.release(self.last);
        } else {
            self.domain.park(self.first, self.last, &mut self.frames);
        }
        while let Some(last) = self.domain.next_empty() {
            self.domain.release(last);
        }
    }
}

impl<F> Drop for Turn<F> {
    #[inline]
    fn drop(&mut self) {
        if !self.over {
            self.give_up();
        }
    }
}

/// Sends the runs of a domain whose turn it is, for as long as there are any in its lot.
///
/// `sent` gets vectors that are no longer used, `late` what `send` leaves.
#[inline]
fn serve<F>(domain: &Domain<F>, sent: &mut Vec<F>, late: &mut Vec<F>, send: &mut impl FnMut(&mut Vec<F>)) {
    while let Some(Run { last, mut frames, .. }) = domain.next_due(sent) {
        // Also if `send` panics: nobody shall wait for this run.
        let serving = Serving { domain, last };
        if !frames.is_empty() {
            send(&mut frames);
            late.append(&mut frames);
        }
        drop(serving);
        *sent = frames;
    }
}

/// A run of somebody's that is being sent.
struct Serving<'a, F> {
    domain: &'a Domain<F>,
    last: u64,
}

impl<F> Drop for Serving<'_, F> {
    fn drop(&mut self) {
        self.domain.release(self.last);
    }
}
