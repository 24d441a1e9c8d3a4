//! The send engine: checks each list against its SAs, seals batches in place, moves frames to the wire in order (OV2-SEND-1 to OV2-SEND-8).
//!
//! Lists under ESP alone, as nearly all are, are sealed as they are checked. AH, AH over ESP and transport over tunnel go through [stages](super::stages).

use core::ops::Range;

use arrayvec::ArrayVec;
use ipsec::{BATCH, CombinedBatch, Provider, SealBatch};
use ndis::{LargeSendLimits, NblBatch, NetBufferList, OutOfBand, Status};
use packet::{BufferPool, Frame, FrameBatch, Medium};
use sa_table::{Guard, Handle};

use super::counters::{Counters, SendFailure};
use super::large::{self, Piece};
use super::layer::{Layer, check_esp_frame};
use super::plain_send::{self, Run};
use super::sa::Sa;
use super::services::Services;
use super::transforms::Transforms;
use super::vlan;
use super::word::Word;

/// Whether more than IPsec is asked for, or may be.
#[inline]
pub(super) const fn asks_for_more(oob: &OutOfBand) -> bool {
    oob.udp_segmentation != 0 || oob.has_tasks()
}

/// What a batch is sent with.
pub(super) struct Sender<'a, P: Provider> {
    pub(super) provider: &'a P,
    pub(super) word: Word,
    /// Checksums and tags.
    pub(super) services: Services,
    pub(super) medium: Medium,
    pub(super) guard: &'a Guard<'a, Sa<P>>,
    pub(super) counters: &'a Counters,
    /// What large sends are configured.
    pub(super) limits: &'a LargeSendLimits,
    /// Whether plain lists go their own way; otherwise all go the general one.
    pub(super) plain: bool,
}

/// A lane's own memory; empty between batches.
#[derive(Default)]
pub(super) struct Memory {
    /// Lists that a provider did not seal after all, by their places in the batch.
    pub(super) unsealed: Vec<usize>,
    /// Headers as AH authenticates them.
    pub(super) masked: Vec<u8>,
    /// What large lists have become.
    pub(super) pieces: Vec<Piece>,
    /// Large lists that were not sealed after all, by their places in the batch.
    pub(super) failed: Vec<usize>,
}

/// What is to be done with a list.
enum Sealing<'a, P: Provider> {
    /// Nothing: it goes out as it stands.
    AsItStands,
    /// ESP alone; where it is in the first buffer's frame.
    Esp(&'a Sa<P>, Range<usize>),
    /// Anything else: still to be checked. The bundle of the first slot.
    Staged(&'a Sa<P>),
}

/// The bundles that a list asks for: that of the first slot, and the tunnel's.
pub(super) struct Bundles<'a, P: Provider> {
    pub(super) first: &'a Sa<P>,
    pub(super) tunnel: Option<&'a Sa<P>>,
}

/// What is to be done with one buffer, in this order.
pub(super) type Layers<'a, P> = ArrayVec<Layer<'a, P>, 2>;

/// A list that goes through the stages.
pub(super) struct Staged<'a, P: Provider> {
    /// Its place in the chunk.
    pub(super) index: usize,
    pub(super) bundles: Bundles<'a, P>,
    /// Of the buffer whose turn it is.
    pub(super) layers: Layers<'a, P>,
}

/// What lists of a chunk come to that are not plain.
struct General<'s, 'a, 'l, P: Provider> {
    jobs: SealBatch<'l, P::Key>,
    /// Places in the batch of the lists that the jobs are of.
    owners: ArrayVec<usize, BATCH>,
    staged: &'s mut ArrayVec<Staged<'a, P>, BATCH>,
    /// Whether all have one buffer, and none has failed.
    whole: bool,
}

impl<'a, P: Provider> Sender<'a, P> {
    /// Sends all of `batch`, and leaves it empty.
    pub(super) fn send(&self, batch: &mut NblBatch, done: &mut NblBatch, wire: &mut FrameBatch, memory: &mut Memory, pool: &mut BufferPool) {
        let mut whole = true;
        for (number, chunk) in batch.chunks_mut(BATCH).enumerate() {
            whole &= self.seal(chunk, number * BATCH, memory, pool);
        }
        if !memory.unsealed.is_empty() {
            whole = false;
            self.empty_unsealed(batch, &mut memory.unsealed);
        }
        if whole {
            // As nearly always: each frame goes to its place at once.
            wire.extend(batch.iter_mut().map(NetBufferList::take_frame));
        } else {
            let mut pieces = memory.pieces.drain(..).peekable();
            for (place, list) in batch.iter_mut().enumerate().filter(|(_, list)| list.status.is_success()) {
                if list.oob.is_large_send() {
                    large::put(list, place, &mut pieces, wire);
                    continue;
                }
                if list.oob.ieee8021q != 0 {
                    vlan::insert_all(list);
                }
                wire.push(list.take_frame());
                let (timestamp, tag, order) = (list.timestamp, list.tag, list.order);
                wire.extend(list.more.take().map(|buffer| Frame { buffer, timestamp, tag, order, ..Frame::default() }));
            }
        }
        // Lists are big: they change hands as a batch, not one by one.
        if done.is_empty() {
            core::mem::swap(done, batch);
        } else {
            done.append(batch);
        }
    }

    #[cold]
    fn empty_unsealed(&self, batch: &mut [NetBufferList], unsealed: &mut Vec<usize>) {
        unsealed.sort_unstable();
        unsealed.dedup();
        for index in unsealed.drain(..) {
            if let Some(list) = batch.get_mut(index) {
                list.status = self.counters.failed(SendFailure::Provider);
                // What the provider had is lost: better an empty list than one that somebody sends again.
                list.buffers_mut().for_each(|buffer| buffer.truncate(0));
            }
        }
    }

    /// Gives every list of a chunk its status, and seals those that go out protected. `base`: the chunk's place in the batch. Returns whether all of them have
    /// one buffer, and none has failed that is not among the unsealed.
    fn seal(&self, chunk: &mut [NetBufferList], base: usize, memory: &mut Memory, pool: &mut BufferPool) -> bool {
        let mut staged = ArrayVec::<Staged<'_, P>, BATCH>::new();
        let whole = self.seal_esp(chunk, base, memory, &mut staged);
        if !staged.is_empty() {
            self.run_stages(staged, chunk, base, memory);
        }
        if !whole {
            self.send_large(chunk, base, memory, pool);
        }
        whole
    }

    /// Checks every list of a chunk, and seals those that need ESP alone; the others go to `staged`.
    fn seal_esp(&self, chunk: &mut [NetBufferList], base: usize, memory: &mut Memory, staged: &mut ArrayVec<Staged<'a, P>, BATCH>) -> bool {
        let mut plain = CombinedBatch::<'_, P::Key, u16>::new();
        let mut general = General { jobs: SealBatch::new(), owners: ArrayVec::new(), staged, whole: true };
        let mut run = Run::new();
        let mut fetched = !self.plain;
        let mut lists = chunk.iter_mut();
        let mut next = 0;
        while let Some(list) = lists.next() {
            let index = next;
            next += 1;
            if !fetched && run.ends_with(list) {
                // A second bundle: there may be many.
                fetched = true;
                self.prefetch(lists.as_ref());
            }
            if let Some(plain_send::Sealing { esp, at, high }) = run.check(self, list) {
                list.status = Status::SUCCESS;
                let packet = list.buffer.as_mut_slice().get_mut(at..);
                match packet.and_then(|packet| esp.combined_seal_job(packet, high, index as u16)) {
                    Some(job) => plain.push(job),
                    None => memory.unsealed.push(base + index),
                }
                continue;
            }
            run.pause();
            self.seal_general(list, (index, base), memory, &mut general);
            run.resume();
        }
        run.pause();
        if !plain.is_empty() && !self.provider.seal_combined(&mut plain) {
            memory.unsealed.extend(plain.iter().filter(|job| !job.verdict.is_good()).map(|job| base + usize::from(job.mark)));
        }
        self.run(&mut general.jobs, &mut general.owners, &mut memory.unsealed);
        general.whole
    }

    /// Checks a list of any kind, and seals it, or has it sealed with those after it; `index`: its place in the chunk, `base`: the chunk's in the batch.
    #[inline(never)]
    fn seal_general<'l>(&self, list: &'l mut NetBufferList, (index, base): (usize, usize), memory: &mut Memory, general: &mut General<'_, 'a, 'l, P>)
    where
        'a: 'l,
    {
        let General { jobs, owners, staged, whole } = general;
        *whole &= list.more.is_empty() && list.oob.ieee8021q == 0;
        if list.oob.is_large_send() {
            *whole = false;
            return;
        }
        let (sa, esp) = match self.check(list) {
            Ok(Sealing::Esp(sa, esp)) => (sa, esp),
            Ok(Sealing::AsItStands) => {
                if asks_for_more(&list.oob) {
                    self.fill_sums(list, None);
                }
                list.status = Status::SUCCESS;
                return;
            }
            Ok(Sealing::Staged(sa)) => {
                list.status = match self.check_staged(list, sa, index, &mut memory.masked) {
                    Ok(item) => {
                        if asks_for_more(&list.oob) {
                            self.fill_sums(list, Some(&item.bundles));
                        }
                        staged.push(item);
                        Status::SUCCESS
                    }
                    Err(failure) => {
                        *whole = false;
                        self.counters.failed(failure)
                    }
                };
                return;
            }
            Err(failure) => {
                *whole = false;
                list.status = self.counters.failed(failure);
                return;
            }
        };
        if asks_for_more(&list.oob) {
            self.fill_sums(list, Some(&Bundles { first: sa, tunnel: None }));
        }
        list.status = Status::SUCCESS;
        let (header, l3_offset) = (list.oob.header_transmit(), usize::from(list.l3_offset));
        let mut esp = Some(esp);
        for buffer in list.buffers_mut() {
            // All buffers were checked; those after the first are looked at again for where their ESP is.
            let range = esp.take().map_or_else(|| check_esp_frame(self, sa, header, l3_offset, buffer.as_slice()), Ok);
            match range.ok().and_then(|range| sa.seal_job(buffer.as_mut_slice(), range)) {
                Some(job) => {
                    jobs.push(job);
                    owners.push(base + index);
                }
                None => memory.unsealed.push(base + index),
            }
            if jobs.is_full() {
                self.run(jobs, owners, &mut memory.unsealed);
            }
        }
    }

    /// Seals jobs, and notes the lists of those that failed.
    pub(super) fn run(&self, jobs: &mut SealBatch<'_, P::Key>, owners: &mut ArrayVec<usize, BATCH>, unsealed: &mut Vec<usize>) {
        if jobs.is_empty() {
            return;
        }
        self.provider.seal(jobs);
        unsealed.extend(jobs.iter().zip(&*owners).filter(|(job, _)| !job.verdict.is_good()).map(|(_, &owner)| owner));
        jobs.clear();
        owners.clear();
    }

    /// Checks a list, under ESP alone with all its buffers, and changes nothing.
    #[inline]
    fn check(&self, list: &NetBufferList) -> Result<Sealing<'a, P>, SendFailure> {
        let oob = &list.oob;
        let more = asks_for_more(oob);
        if more && oob.large_send != 0 {
            return Err(SendFailure::UnsupportedRequest);
        }
        let Some(handle) = Handle::from_bits(oob.ipsec_bits()) else {
            if oob.tunnel_bits() != 0 {
                return Err(SendFailure::TunnelHandle);
            }
            if more {
                self.check_tasks(list, None)?;
            }
            return Ok(Sealing::AsItStands);
        };
        let sa = self.bundle(handle)?;
        if oob.tunnel_bits() != 0 || sa.is_v1 || !matches!(sa.transforms, Transforms::Esp(_)) {
            return Ok(Sealing::Staged(sa));
        }
        let (header, l3_offset) = (oob.header_transmit(), usize::from(list.l3_offset));
        let esp = check_esp_frame(self, sa, header, l3_offset, list.buffer.as_slice())?;
        for buffer in &list.more {
            check_esp_frame(self, sa, header, l3_offset, buffer.as_slice())?;
        }
        if more {
            self.check_tasks(list, Some(&Bundles { first: sa, tunnel: None }))?;
        }
        Ok(Sealing::Esp(sa, esp))
    }

    /// Checks a list that needs more than ESP alone, with all its buffers.
    fn check_staged(&self, list: &NetBufferList, first: &'a Sa<P>, index: usize, masked: &mut Vec<u8>) -> Result<Staged<'a, P>, SendFailure> {
        let tunnel = match list.oob.tunnel_bits() {
            0 => None,
            bits => Some(self.tunnel(bits, first)?),
        };
        // IPsecOV1 has one handle a packet (OV1-3).
        if tunnel.is_some_and(|tunnel| tunnel.is_v1 || first.is_v1) {
            return Err(SendFailure::TunnelHandle);
        }
        let bundles = Bundles { first, tunnel };
        let layers = self.layers(&bundles, list, list.buffer.as_slice(), masked)?;
        for buffer in &list.more {
            self.layers(&bundles, list, buffer.as_slice(), masked)?;
        }
        if asks_for_more(&list.oob) {
            self.check_tasks(list, Some(&bundles))?;
        }
        Ok(Staged { index, bundles, layers })
    }

    /// The bundle that a handle names, if packets can be sent under it now.
    #[inline]
    pub(super) fn bundle(&self, handle: Handle) -> Result<&'a Sa<P>, SendFailure> {
        let sa = self.guard.get(handle).ok_or(SendFailure::StaleHandle)?;
        if sa.inbound {
            return Err(SendFailure::InboundHandle);
        }
        if self.word.covers(sa.needs) { Ok(sa) } else { Err(SendFailure::NotConfigured) }
    }

    /// The tunnel bundle that the second slot names, beside the bundle of the first.
    fn tunnel(&self, bits: u64, first: &Sa<P>) -> Result<&'a Sa<P>, SendFailure> {
        let tunnel = self.bundle(Handle::from_bits(bits).ok_or(SendFailure::StaleHandle)?)?;
        if core::ptr::eq(tunnel, first) {
            return Err(SendFailure::TunnelHandle);
        }
        if self.word.nests() { Ok(tunnel) } else { Err(SendFailure::NotConfigured) }
    }
}
