//! ESP on receive: opens a round's packets in place, at most one job each (OV2-RECV-5).

use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use ipsec::{BATCH, Data, OpenBatch, OpenJob, Provider, Scratch, SealJob, Trailer, read_trailer};
use ndis::{CryptoStatus, NetBufferList, Operation, OutOfBand};
use packet::{EspPacket, IpProtocol};

use super::journal::{After, End, conclude};
use super::receive::{Carried, Receiver, Task, carries_tunnel, report_trailer};
use super::v1;

/// A packet that is being opened.
pub(super) struct Opening<'a, 't, 'l, P: Provider> {
    pub(super) task: &'t Task<'a, P>,
    pub(super) sequence: u64,
    pub(super) oob: &'l mut OutOfBand,
}

/// What is still to be done with a concluded packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// It stays as it is.
    Left,
    /// It was opened, and is to be made again what it was before.
    Restored,
}

impl<'a, P: Provider> Receiver<'a, P> {
    /// Opens the ESP packets that `tasks` name among `lists`. What they came to goes to `after`.
    pub(super) fn open(&self, tasks: &[Task<'a, P>], lists: &mut [NetBufferList], scratch: &mut Scratch, after: &mut After<'a, P>) {
        let mut jobs = OpenBatch::<'_, P::Key>::new();
        let mut openings = ArrayVec::<Opening<'a, '_, '_, P>, BATCH>::new();
        let mut lists = lists.iter_mut();
        let mut passed = 0;
        for task in tasks.iter().filter(|task| task.operation == Operation::Esp) {
            let index = task.index as usize;
            let Some(NetBufferList { buffer, oob, .. }) = lists.nth(index - passed) else { break };
            passed = index + 1;
            let job = buffer.as_mut_slice().get_mut(task.at as usize..task.end as usize).and_then(|esp| {
                let sequence = task.sa.inbound_sequence(Operation::Esp, EspPacket::new(&*esp).ok()?.sequence());
                Some((task.sa.transforms.esp()?.open_job(esp, sequence).ok()?, sequence))
            });
            match job {
                Some((job, sequence)) => {
                    jobs.push(job);
                    openings.push(Opening { task, sequence, oob });
                    // What high half the next packets have is known when this one was verified.
                    if task.sa.is_unverified(Operation::Esp) {
                        self.run(&mut jobs, &mut openings, scratch, after);
                    }
                }
                // The ciphertext is not of whole blocks: other lengths were looked at when the packet was found. Packets before it are still to be opened.
                None => after.journal.note(task, End::Failed(CryptoStatus::InvalidPacketSyntax)),
            }
        }
        self.run(&mut jobs, &mut openings, scratch, after);
    }

    #[inline]
    fn run(&self, jobs: &mut OpenBatch<'_, P::Key>, openings: &mut ArrayVec<Opening<'a, '_, '_, P>, BATCH>, scratch: &mut Scratch, after: &mut After<'a, P>) {
        if jobs.is_empty() {
            return;
        }
        self.provider.open(jobs, scratch);
        for (job, opening) in jobs.iter_mut().zip(openings.drain(..)) {
            let Data::InPlace(text) = &job.data else { continue };
            if self.conclude_esp(job.verdict.is_good(), text, opening, after) == Packet::Restored {
                self.restore(job);
            }
        }
        jobs.clear();
    }

    /// Concludes a packet: whether it is authentic, and then what it carries, its text, in clear.
    #[inline]
    pub(super) fn conclude_esp(&self, authentic: bool, text: &[u8], opening: Opening<'a, '_, '_, P>, after: &mut After<'a, P>) -> Packet {
        let Opening { task, sequence, oob } = opening;
        if !authentic {
            fail(task, None, End::Forged, oob, after);
            return Packet::Left;
        }
        match judge(text) {
            Ok((payload, trailer, tunnel)) => {
                if task.sa.is_v1 {
                    if !v1::carries(task.sa, IpProtocol(trailer.next_header), payload) {
                        self.counters.outside_filter.fetch_add(1, Ordering::Relaxed);
                        return Packet::Restored;
                    }
                } else {
                    report_trailer(oob, trailer.next_header, trailer.pad_length);
                }
                self.conclude(task, sequence, &Carried { payload, tunnel }, oob, after);
                Packet::Left
            }
            Err(status) => {
                fail(task, Some(sequence), End::Failed(status), oob, after);
                Packet::Restored
            }
        }
    }

    /// Makes a packet again what it was before it was opened: the same key, nonce and data give the same ciphertext.
    #[cold]
    fn restore(&self, job: &mut OpenJob<'_, P::Key>) {
        let Data::InPlace(text) = &mut job.data else { return };
        let mut icv = [0; 32];
        let Some(icv) = icv.get_mut(..job.tag.len()) else { return };
        self.provider.seal(&mut [SealJob::new(job.key, job.nonce, job.aad, Data::InPlace(text), icv)]);
    }
}

/// Ends a portion with a failure, now or when the chunk is concluded. `authentic`: the number of one whose ICV was good all the same.
#[cold]
#[inline(never)]
fn fail<'a, P: Provider>(task: &Task<'a, P>, authentic: Option<u64>, end: End, oob: &mut OutOfBand, after: &mut After<'a, P>) {
    for end in authentic.map(|sequence| End::Authentic { sequence }).into_iter().chain([end]) {
        if after.journal.is_open() {
            after.journal.note(task, end);
        } else {
            conclude(task.sa, task.operation, task.position, end, oob);
        }
    }
}

/// What an authentic packet carries: its payload, its trailer, and whether the payload is an IP packet; or what is wrong with it (OV2-OOB-5).
#[inline]
pub(super) fn judge(text: &[u8]) -> Result<(&[u8], Trailer, bool), CryptoStatus> {
    let (length, trailer) = read_trailer(text).map_err(|_| CryptoStatus::InvalidPacketSyntax)?;
    let payload = text.get(..length).unwrap_or_default();
    let tunnel = carries_tunnel(IpProtocol(trailer.next_header), payload)?;
    Ok((payload, trailer, tunnel))
}
