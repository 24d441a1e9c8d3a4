//! A dispatcher: spreads packets over workers.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use packet::{BufferPool, FrameBatch, Medium, Time};

use super::spread::Spread;
use super::{Done, QUEUE, Task, Ticket, Work};

/// Spreads packets over workers, from one thread: what belongs together goes to one worker, in order.
///
/// Its pool is where buffers of frames that it is given come from: workers send as many back as it has sent them.
pub struct Dispatcher {
    queues: Vec<SyncSender<Work>>,
    spread: Spread,
    pool: BufferPool,
    /// For each worker a batch that is being made up.
    batches: Vec<FrameBatch>,
    /// Vectors that have come back.
    spare: Vec<FrameBatch>,
    home: SyncSender<Done>,
    done: Receiver<Done>,
    /// Batches under way.
    under_way: usize,
    backlogs: Vec<usize>,
    /// Frames that were lost because the adapter does not run, or a worker has ended.
    lost: usize,
}

impl Dispatcher {
    pub(super) fn new(queues: Vec<SyncSender<Work>>, medium: Medium, secret: u64) -> Self {
        // What is in the queues, what workers have in hand, and one that waits to be sent.
        let (home, done) = sync_channel(queues.len() * (QUEUE + 2));
        let workers = queues.len();
        Self {
            queues,
            spread: Spread::new(medium, secret),
            pool: BufferPool::new(),
            batches: (0..workers).map(|_| FrameBatch::new()).collect(),
            spare: Vec::new(),
            home,
            done,
            under_way: 0,
            backlogs: vec![0; workers],
            lost: 0,
        }
    }

    /// Buffers for frames that are handed in.
    pub const fn pool(&mut self) -> &mut BufferPool {
        &mut self.pool
    }

    /// Says which UDP ports, besides 4500, carry ESP, so that received packets of one SA stay together there, too: those of
    /// [`Transport::udp_esp_ports`](transport::Transport::udp_esp_ports).
    pub fn set_udp_esp_ports(&mut self, ports: Vec<u16>) {
        self.spread.set_udp_esp_ports(ports);
    }

    /// Has packets sent, and leaves `frames` empty. Packets of a flow (addresses, protocol and ports; of fragments addresses) are one worker's.
    ///
    /// Waits where a worker has too much to do.
    pub fn outbound(&mut self, now: Time, frames: &mut FrameBatch) {
        self.dispatch(now, frames, Spread::outbound, || Task::Send);
    }

    /// Has received frames taken in, and leaves `frames` empty. Packets of an SA (SPI and destination, also in UDP) are one worker's.
    ///
    /// Waits where a worker has too much to do.
    pub fn inbound(&mut self, now: Time, frames: &mut FrameBatch) {
        self.dispatch(now, frames, Spread::inbound, || Task::Receive);
    }

    /// Has all workers see to what the adapter finished later, and to what waited for it. To be called now and then.
    pub fn poll(&mut self, now: Time) {
        for worker in 0..self.queues.len() {
            self.hand_over(worker, Task::Poll, now);
        }
        self.collect();
    }

    /// Waits until all that was dispatched is done.
    pub fn wait(&mut self) {
        while self.under_way != 0 {
            match self.done.recv() {
                Ok(done) => self.take_back(done),
                Err(_) => break,
            }
        }
    }

    /// Frames that were lost, since the last call, because the adapter does not run or a worker has ended.
    pub const fn take_lost(&mut self) -> usize {
        core::mem::replace(&mut self.lost, 0)
    }

    /// Packets that wait for the adapter to run, as far as workers have said.
    pub fn backlog(&self) -> usize {
        self.backlogs.iter().sum()
    }

    fn dispatch(&mut self, now: Time, frames: &mut FrameBatch, place: impl Fn(&Spread, &[u8]) -> u64, task: impl Fn() -> Task) {
        self.collect();
        let workers = self.queues.len() as u64;
        for frame in frames.drain(..) {
            // Of the hash the high bits are the good ones.
            let bytes = frame.buffer.as_slice();
            let place = if frame.form.to_cut().is_none() { place(&self.spread, bytes) } else { self.spread.large(bytes) };
            let worker = (u128::from(place) * u128::from(workers)) >> 64;
            match self.batches.get_mut(worker as usize) {
                Some(batch) => batch.push(frame),
                None => self.lost += 1,
            }
        }
        for worker in 0..self.queues.len() {
            if !self.batches[worker].is_empty() {
                self.hand_over(worker, task(), now);
            }
        }
    }

    /// Gives a worker its batch, if need be when it has room for it.
    fn hand_over(&mut self, worker: usize, task: Task, now: Time) {
        let empty = self.spare.pop().unwrap_or_default();
        let frames = core::mem::replace(&mut self.batches[worker], empty);
        let ticket = Ticket { home: Some(self.home.clone()), worker, frames: frames.len() };
        self.under_way += 1;
        if let Err(refused) = self.queues[worker].send(Work { task, now, frames, ticket }) {
            // The worker has ended. Its ticket says what was lost.
            let Work { mut frames, .. } = refused.0;
            frames.drain(..).for_each(|frame| self.pool.give(frame.buffer));
            self.spare.push(frames);
        }
    }

    /// Takes what has come back.
    fn collect(&mut self) {
        while let Ok(done) = self.done.try_recv() {
            self.take_back(done);
        }
    }

    fn take_back(&mut self, done: Done) {
        let Done { worker, mut frames, lost, backlog } = done;
        self.under_way -= 1;
        self.lost += lost;
        self.backlogs[worker] = backlog;
        frames.drain(..).for_each(|frame| self.pool.give(frame.buffer));
        self.spare.push(frames);
    }
}
