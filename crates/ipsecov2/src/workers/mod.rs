//! Workers: threads that share a host's transport and NIC, each with a lane of its own, and dispatchers that spread packets over them.
//!
//! A [`Dispatcher`] sends the packets of a flow to one worker, so that they keep their order, and received packets of an SA to one worker, so that nobody waits
//! for its replay window. Outbound SAs are shared: what workers send under one reaches the wire in the order of its numbers
//! ([`HostLane::transmit`]). What comes out of a worker it gives to its [`Output`].
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use ipsecov2::host::{HostConfig, HostControl};
//! use ipsecov2::workers::{Output, Workers};
//! use packet::{BufferPool, Frame, FrameBatch, Time};
//! use transport::{Action, InboundBatch};
//!
//! struct Wire(Arc<Mutex<FrameBatch>>); // a link
//!
//! impl Output for Wire {
//!     fn transmit(&mut self, _: &mut BufferPool, frames: &mut FrameBatch) {
//!         self.0.lock().unwrap().append(frames);
//!     }
//!     fn deliver(&mut self, _: &mut BufferPool, _: &mut InboundBatch) {}
//! }
//!
//! let config = HostConfig::default();
//! let control = Arc::new(HostControl::new(&config)?);
//! control.transport().set_policies(|spd| spd.non_ip = Action::Bypass);
//! let wire = Arc::new(Mutex::new(FrameBatch::new()));
//! let workers = Workers::start(&control, (0..2).map(|_| Wire(Arc::clone(&wire))))?;
//! let mut dispatcher = workers.dispatcher(config.medium);
//!
//! let arp = [&[0xff; 6], &[2; 6], &[8, 6][..], &[0; 28]].concat();
//! let mut frames = vec![Frame::new(dispatcher.pool().copy_from(&arp))];
//! dispatcher.outbound(Time::ZERO, &mut frames);
//! drop(dispatcher);
//! workers.finish(); // after all that was dispatched is done
//! assert_eq!(wire.lock().unwrap().len(), 1);
//! # Ok::<(), ipsecov2::host::HostError>(())
//! ```

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};

use packet::{BufferPool, Frame, FrameBatch, Medium, Time};
use transport::InboundBatch;

mod crew;
mod dispatcher;
mod spread;

pub(crate) use crew::Crew;
pub use dispatcher::Dispatcher;
pub(crate) use spread::Spread;

use crate::host::{HostControl, HostError, HostLane};

/// Batches that wait for a worker; with more the dispatcher waits.
const QUEUE: usize = 16;
/// Buffers that a worker owes to dispatchers; of more it does not know any longer.
const OWED: usize = 1 << 14;

/// Free buffers that a worker keeps; more, which came with packets that it has sent for others, go to a dispatcher.
const RESERVE: usize = 512;

/// Where what comes out of a worker goes. Each worker has its own.
pub trait Output: Send {
    /// Puts frames on the wire, in order and all of them, and gives their buffers back to `pool`. What is left in `frames` is dropped. They may be another
    /// worker's whose turn comes after this one's.
    fn transmit(&mut self, pool: &mut BufferPool, frames: &mut FrameBatch);

    /// Whether it wants verdicts of received packets.
    fn wants_verdicts(&self) -> bool {
        false
    }

    /// Takes received packets out of `out`: `delivered` and `passed`, and verdicts if it wants any. What is left is dropped.
    fn deliver(&mut self, pool: &mut BufferPool, out: &mut InboundBatch);
}

/// Threads with a lane each. Dropping it, too, waits for them to finish.
pub struct Workers<O> {
    queues: Vec<SyncSender<Work>>,
    threads: Vec<JoinHandle<O>>,
    /// What all dispatchers place packets by.
    secret: u64,
}

impl<O: Output + 'static> Workers<O> {
    /// Starts a worker for each output. They share the host's lanes from now on.
    ///
    /// # Errors
    /// [`HostError::LanesOpen`] if the host has lanes that do not know of it, [`HostError::Worker`] if a thread cannot be started.
    pub fn start(control: &Arc<HostControl>, outputs: impl IntoIterator<Item = O>) -> Result<Self, HostError> {
        control.share_lanes()?;
        let mut workers = Self { queues: Vec::new(), threads: Vec::new(), secret: Spread::secret() };
        for (number, output) in outputs.into_iter().enumerate() {
            let (sender, queue) = sync_channel(QUEUE);
            let lane = control.open_lane()?;
            workers.threads.push(spawn(number, Worker::new(number, lane, output), queue)?);
            workers.queues.push(sender);
        }
        Ok(workers)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.queues.len()
    }

    /// A dispatcher for frames of this medium, which must be the host's. There may be several, such as one for each queue of a link: all of them
    /// give what belongs together to the same worker. Packets of a flow keep their order if they come by one.
    pub fn dispatcher(&self, medium: Medium) -> Dispatcher {
        Dispatcher::new(self.queues.clone(), medium, self.secret)
    }

    /// Waits until all that was dispatched is done and no dispatcher is left, ends the workers and returns their outputs. Those of workers that panicked are
    /// not among them.
    pub fn finish(mut self) -> Vec<O> {
        self.queues.clear();
        self.threads.drain(..).filter_map(|thread| thread.join().ok()).collect()
    }
}

impl<O> Drop for Workers<O> {
    fn drop(&mut self) {
        self.queues.clear();
        for thread in self.threads.drain(..) {
            // Whoever panicked has said so.
            let _ = thread.join();
        }
    }
}

/// What is to be done with a batch.
enum Task {
    /// Packets are to be sent.
    Send,
    /// Frames came from the wire.
    Receive,
    /// What the adapter finished later, and what waited for it, is to be seen to.
    Poll,
}

/// A batch for a worker.
struct Work {
    task: Task,
    now: Time,
    frames: FrameBatch,
    ticket: Ticket,
}

/// A dispatcher's claim to an answer, which it gets also if the worker panics.
struct Ticket {
    home: Option<SyncSender<Done>>,
    worker: usize,
    /// Frames in the batch.
    frames: usize,
}

impl Ticket {
    fn answer(mut self, done: Done) {
        if let Some(home) = self.home.take() {
            // There is room for as many as a dispatcher has under way. If it is gone, so is what was in its pool.
            let _ = home.try_send(done);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let _ = home.try_send(Done { worker: self.worker, frames: FrameBatch::new(), lost: self.frames, backlog: 0 });
        }
    }
}

/// What a dispatcher gets back for each batch.
struct Done {
    worker: usize,
    /// The batch's vector, with as many buffers as the worker had to spare for those that came in it.
    frames: FrameBatch,
    /// Frames that were lost because the adapter does not run.
    lost: usize,
    /// Packets of the worker that wait for it to run.
    backlog: usize,
}

fn spawn<O: Output + 'static>(number: usize, mut worker: Worker<O>, queue: Receiver<Work>) -> io::Result<JoinHandle<O>> {
    thread::Builder::new().name(format!("worker {number}")).spawn(move || {
        worker.run(&queue);
        worker.output
    })
}

struct Worker<O> {
    number: usize,
    lane: HostLane,
    output: O,
    wire: FrameBatch,
    out: InboundBatch,
    /// Sizes of buffers that came from dispatchers and have not been made up for.
    owed: Vec<usize>,
}

impl<O: Output> Worker<O> {
    fn new(number: usize, lane: HostLane, output: O) -> Self {
        Self { number, lane, output, wire: FrameBatch::new(), out: InboundBatch::default(), owed: Vec::new() }
    }

    /// Works until nobody is left who could send it something.
    fn run(&mut self, queue: &Receiver<Work>) {
        let mut last = Time::ZERO;
        loop {
            let work = match queue.try_recv() {
                Ok(work) => work,
                Err(TryRecvError::Empty) => {
                    self.lane.idle();
                    match queue.recv() {
                        Ok(work) => work,
                        Err(_) => break,
                    }
                }
                Err(TryRecvError::Disconnected) => break,
            };
            last = last.max(work.now);
            self.work(work);
        }
        // What an adapter has finished meanwhile.
        self.lane.poll(last, &mut self.wire);
        self.transmit();
        self.lane.idle();
    }

    fn work(&mut self, work: Work) {
        let Work { task, now, mut frames, ticket } = work;
        let room = OWED.saturating_sub(self.owed.len());
        let usual = frames.first().map_or(0, |frame| frame.buffer.capacity());
        self.owed.extend(frames.iter().map(|frame| frame.buffer.capacity()).take(room));
        let mut lost = 0;
        match task {
            Task::Send => {
                self.lane.send(now, &mut frames, &mut self.wire);
                self.transmit();
            }
            Task::Receive => {
                self.out.report = self.output.wants_verdicts();
                lost = self.lane.receive(now, &mut frames, &mut self.out);
                let Self { lane, output, out, .. } = self;
                output.deliver(lane.pool(), out);
                for left in out.delivered.drain(..).chain(out.passed.drain(..)) {
                    lane.pool().give(left.buffer);
                }
                out.verdicts.clear();
            }
            Task::Poll => {
                self.lane.poll(now, &mut self.wire);
                self.transmit();
                self.lane.idle();
            }
        }
        let pool = self.lane.pool();
        self.owed.retain(|&capacity| match pool.spare(capacity) {
            Some(buffer) => {
                frames.push(Frame::new(buffer));
                false
            }
            None => true,
        });
        while pool.free() > RESERVE
            && let Some(buffer) = pool.spare(usual)
        {
            frames.push(Frame::new(buffer));
        }
        ticket.answer(Done { worker: self.number, frames, lost, backlog: self.lane.backlog() });
    }

    fn transmit(&mut self) {
        let Self { lane, output, wire, .. } = self;
        lane.transmit(wire, |pool, frames| output.transmit(pool, frames));
        for left in wire.drain(..) {
            lane.pool().give(left.buffer);
        }
    }
}
