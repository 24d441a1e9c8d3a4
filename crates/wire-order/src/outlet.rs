//! An outlet: the runs that one worker has taken, and how their frames get to the wire.

use core::fmt;

use crate::domain::{Domain, Run};
use crate::estate::Estate;
use crate::spare::Spare;
use crate::sync::{Arc, Pause, seeded_bug};

/// The turns that one worker has taken in any number of domains, between the numbers and the wire.
///
/// Dropping it gives up what it has not sent; what waited for that in lots is sent by the next outlet of the same [`Estate`] that [sends](Outlet::transmit).
pub struct Outlet<F> {
    turns: Vec<Turn<F>>,
    /// The group of the first of `turns`; groups count on from call to call, so that what an earlier call has left over is not taken for this one's.
    base: u16,
    /// Frames that are being told apart.
    sorted: Vec<F>,
    /// A vector that a run was in that has been sent.
    sent: Vec<F>,
    /// Vectors for frames that wait.
    spare: Spare<F>,
    estate: Arc<Estate<F>>,
}

/// A run that its outlet has.
struct Turn<F> {
    domain: Arc<Domain<F>>,
    first: u64,
    last: u64,
    /// Frames that wait.
    frames: Vec<F>,
    due: bool,
}

/// Groups are 1 to this.
const GROUPS: u32 = u16::MAX as u32;
/// For how many frames a vector has space at least.
const LEAST: usize = 16;
/// For how many frames an outlet keeps vectors.
const SPARE: usize = 1 << 14;

impl<F> Outlet<F> {
    /// Runs that an outlet takes before it must send; of what is taken beyond that the order is not kept.
    pub const MOST: usize = 1 << 15;

    /// An outlet that has nothing to send. All outlets that send under the same domains have the same estate.
    pub fn new(estate: &Arc<Estate<F>>) -> Self {
        Self { turns: Vec::new(), base: 1, sorted: Vec::new(), sent: Vec::new(), spare: Spare::new(SPARE), estate: Arc::clone(estate) }
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
        let place = self.turns.len();
        if place >= Self::MOST {
            give_up(&self.estate, domain, first, last);
            return 0;
        }
        let turn = Turn { domain: Arc::clone(domain), first, last, frames: Vec::new(), due: false };
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
    /// Every run that was taken has had its turn then, whether there are frames of it or not. With nothing taken, and nothing in `wire`, it sends what workers
    /// that are gone have left behind, if there is any.
    ///
    /// `send` sends all that it is given. What it leaves has missed its turn; it is handed back in `wire`. If it panics, frames may be lost, but nobody waits
    /// for them once the outlet is dropped or sends again.
    pub fn transmit(&mut self, wire: &mut Vec<F>, group: impl Fn(&F) -> u16, mut send: impl FnMut(&mut Vec<F>)) {
        if self.turns.iter().all(|turn| turn.domain.is_due(turn.first)) {
            if seeded_bug("release_before_send") {
                self.turns.iter().for_each(|turn| turn.domain.release(turn.last));
            }
            if !wire.is_empty() {
                send(wire);
            }
            self.base = self.group(self.turns.len());
            // Only one of a domain's runs is due, so they may go in any order.
            while let Some(turn) = self.turns.pop() {
                turn.domain.release(turn.last);
                serve(&self.estate, &turn.domain, &mut self.sent, wire, &mut send);
            }
        } else {
            self.transmit_apart(wire, group, &mut send);
        }
        if !self.estate.is_empty() {
            self.inherit(wire, &mut send);
        }
    }

    /// The same where at least one run has to wait.
    #[cold]
    fn transmit_apart(&mut self, wire: &mut Vec<F>, group: impl Fn(&F) -> u16, send: &mut impl FnMut(&mut Vec<F>)) {
        for turn in &mut self.turns {
            turn.due = turn.domain.is_due(turn.first);
            if !turn.due {
                turn.frames = self.spare.take();
                // As a rule there is a frame for every number. Not to the frame, so that runs of about the same length fit.
                let most = usize::try_from(turn.last - turn.first).map_or(wire.len(), |more| wire.len().min(more.saturating_add(1)));
                if most != 0 {
                    turn.frames.reserve(most.next_power_of_two().max(LEAST));
                }
            }
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
        let Self { turns, sent, spare, estate, .. } = self;
        // From here on a turn leaves the list at the moment when it is released or left in the lot, so that nobody does that twice, also if `send` panics.
        let mut at = 0;
        while let Some(turn) = turns.get(at) {
            if turn.due {
                let turn = turns.swap_remove(at);
                turn.domain.release(turn.last);
                serve(estate, &turn.domain, sent, wire, send);
            } else {
                at += 1;
            }
        }
        // What is left waits: in the lot, or here until there is room or its turn has come. Always for all of them at once: another worker that waits for one
        // of these may be the one that another of these waits for.
        let mut pause = Pause::default();
        while !turns.is_empty() {
            let before = turns.len();
            let mut at = 0;
            while let Some(turn) = turns.get_mut(at) {
                let due = turn.domain.is_due(turn.first) || seeded_bug("overtake");
                if due && !turn.frames.is_empty() {
                    send(&mut turn.frames);
                    wire.append(&mut turn.frames);
                }
                if due || turn.domain.park(turn.first, turn.last, &mut turn.frames) {
                    let turn = turns.swap_remove(at);
                    if due {
                        turn.domain.release(turn.last);
                    }
                    spare.keep(turn.frames);
                    if due || !seeded_bug("no_second_look") {
                        serve(estate, &turn.domain, sent, wire, send);
                    }
                } else {
                    serve(estate, &turn.domain, sent, wire, send);
                    at += 1;
                }
            }
            if turns.len() == before {
                pause.wait();
            }
        }
    }

    /// Sends what workers that are gone have left behind.
    #[cold]
    fn inherit(&mut self, wire: &mut Vec<F>, send: &mut impl FnMut(&mut Vec<F>)) {
        while let Some(domain) = self.estate.take() {
            serve(&self.estate, &domain, &mut self.sent, wire, send);
        }
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

impl<F> Drop for Outlet<F> {
    fn drop(&mut self) {
        for turn in self.turns.drain(..) {
            give_up(&self.estate, &turn.domain, turn.first, turn.last);
        }
    }
}

impl<F> fmt::Debug for Outlet<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("turns", &self.turns.len()).finish_non_exhaustive()
    }
}

/// Nobody shall wait for this run. What has waited for it in the lot and has frames goes to the estate: here is nobody who could send it.
#[cold]
fn give_up<F>(estate: &Estate<F>, domain: &Arc<Domain<F>>, first: u64, last: u64) {
    if domain.is_due(first) {
        domain.release(last);
    } else {
        domain.park(first, last, &mut Vec::new());
    }
    estate.leave(domain);
}

/// Sends the runs of a domain whose turn it is, for as long as there are any in its lot.
///
/// `sent` gets vectors that are no longer used, `late` what `send` leaves.
#[inline]
fn serve<F>(estate: &Estate<F>, domain: &Arc<Domain<F>>, sent: &mut Vec<F>, late: &mut Vec<F>, send: &mut impl FnMut(&mut Vec<F>)) {
    while let Some(Run { last, mut frames, .. }) = domain.next_due(sent) {
        let mut serving = Serving { estate, domain, last, whole: false };
        if !frames.is_empty() {
            send(&mut frames);
            late.append(&mut frames);
        }
        serving.whole = true;
        drop(serving);
        if frames.capacity() != 0 {
            *sent = frames;
        }
    }
}

/// A run of somebody's that is being sent. Also if `send` panics nobody shall wait for it.
struct Serving<'a, F> {
    estate: &'a Estate<F>,
    domain: &'a Arc<Domain<F>>,
    last: u64,
    whole: bool,
}

impl<F> Drop for Serving<'_, F> {
    #[inline]
    fn drop(&mut self) {
        self.domain.release(self.last);
        if !self.whole {
            self.estate.leave(self.domain);
        }
    }
}
