//! Runs of consecutive numbers that several workers take reach the wire in the order of the numbers.
//!
//! Workers that share a sequence of numbers (of an outbound SA) each take a run of them by one atomic addition, make frames under them, and put these on the
//! wire; between the two a worker may be descheduled for long, and the others must not overtake it: a receiver whose replay window is narrower than what
//! overtakes would drop what comes late. Here a run waits for its turn, but its worker as a rule does not: it leaves the frames behind, and whoever has sent
//! the run before sends them.
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use wire_order::{Domain, Estate, Outlet};
//!
//! struct Frame { number: u64, group: u16 }
//!
//! let counter = AtomicU64::new(0); // the number used last
//! let domain = Arc::new(Domain::new(0, 1024)); // none is on the wire yet
//! let estate = Arc::new(Estate::new());
//! let (mut one, mut other) = (Outlet::new(&estate), Outlet::new(&estate)); // one for each worker
//!
//! let mut frames = |outlet: &mut Outlet<Frame>| -> Vec<Frame> {
//!     let first = counter.fetch_add(3, Ordering::Relaxed) + 1;
//!     let group = outlet.take_turn(&domain, first, 3);
//!     (first..first + 3).map(|number| Frame { number, group }).collect()
//! };
//! let (mut early, mut late) = (frames(&mut one), frames(&mut other));
//!
//! let mut wire = Vec::new();
//! let mut send = |frames: &mut Vec<Frame>| wire.extend(frames.drain(..).map(|frame| frame.number));
//! other.transmit(&mut late, |frame| frame.group, &mut send); // not its turn: they stay behind
//! one.transmit(&mut early, |frame| frame.group, &mut send); // and are sent after these
//! assert_eq!(wire, [1, 2, 3, 4, 5, 6]);
//! ```
//!
//! # Who is who
//!
//! - A [`Domain`] is what is kept in order: all numbers up to [`Domain::released`] are on the wire or given up. Runs whose turn has not come wait in its lot.
//! - An [`Outlet`] is one worker's. It notes the runs that the worker has taken ([`Outlet::take_turn`]), and sends their frames
//!   ([`Outlet::transmit`]).
//! - An [`Estate`] is what all outlets have in common that send under the same domains: it says where workers that are gone have left something to be sent.
//! - A **run** is in one of four places: with its outlet, in the lot, being sent, released. Only from the third can it get to the fourth, and of each domain
//!   only the run whose first number follows the one released last is sent: so nobody sends two runs of a domain at a time, and none is sent twice.
//!
//! # Nothing is forgotten
//!
//! Who has sent a run stores the new end of what is released, and then looks whether the lot is empty; who leaves a run in the lot counts it, and then looks
//! whether it has become due. Between the two steps each has a sequentially consistent fence, so that one of them sees the other: the run is sent by the
//! first or by the second, and the lot's lock sees to it that it is not by both.
//!
//! The lot is bounded. A worker that finds it full waits, after it has sent all that it may: it holds nothing then that another waits for and that could be
//! sent, so of all that wait one can always go on.
//!
//! A worker that ends, or panics, without sending what it has taken gives it up ([`Outlet`] does so when it is dropped), and nobody waits for it. It cannot send
//! what was left in the lot behind such a run, and so leaves it to the estate: the next call of [`Outlet::transmit`] by any outlet of the estate sends it,
//! whether it has anything to send under that domain or not. So frames are late by no more than the time between two calls of the worker that calls most
//! often; they stay behind for good only if no outlet of the estate ever sends again. A worker that neither sends nor ends is waited for.
//!
//! # Costs
//!
//! A run that goes when its turn has come, as nearly all do, costs two loads, a store and a fence; no lock. A call costs one more load, of the estate.
//!
//! Nothing is allocated once vectors have their lengths, also where runs wait and others send them: frames go to the lot in a vector, and a vector of frames
//! that were sent from there comes back for it. Each lot and each outlet keeps as many as were in use at the same time, within bounds: a lot with
//! space for four times the frames that it holds, an outlet for 16,384.
//!
//! # Proof
//!
//! The interleavings are model-checked with loom over this code (`tests/loom.rs`); `tests/seeded-bugs.sh` shows that the models notice bugs.
#![forbid(unsafe_code)]

mod domain;
mod estate;
mod outlet;
mod spare;
mod sync;

#[cfg(all(test, not(loom)))]
mod tests;

pub use domain::Domain;
pub use estate::Estate;
pub use outlet::Outlet;
