//! Large sends: one list, cut into a train of segments that go to the wire as if each had been sent by itself (OV2-SEND-4).
//!
//! The segments are laid out in trains, headers, padding and trailers final; then the trains are sealed in place, stage by stage as other lists are, as many
//! segments to a call of the provider as fit. The payload is copied while its checksum is made, which has to read it in any case, and sealed while it is in
//! the nearest cache. (What is encrypted of a segment, its TCP header, payload and trailer, stands nowhere in one piece before.) The list itself is only read:
//! one that fails is whole.

use arrayvec::ArrayVec;
use ipsec::{AhPart, AuthBatch, BATCH, EspSa, Icv, Provider, SealBatch};
use ndis::{NetBufferList, Status, TagOutOfBand};
use packet::{Buffer, BufferPool, Frame, FrameBatch, FrameForm, VLAN_TAG_LEN};

use super::counters::SendFailure;
use super::large_cut::Headers;
use super::sa::Sa;
use super::send::{Memory, Sender};

/// A piece of what a large list has become: a train, or a single packet.
pub(super) struct Piece {
    /// The list's place in the batch.
    pub(super) list: usize,
    pub(super) buffer: Buffer,
    /// From packet to packet, in bytes.
    pub(super) stride: usize,
}

/// A large list that was cut.
pub(super) struct Large<'a, P: Provider> {
    /// Its place in the chunk.
    pub(super) index: usize,
    /// The bundle, if it asks for one.
    pub(super) sa: Option<&'a Sa<P>>,
    /// Where they are in segments without the tag.
    pub(super) headers: Headers,
    /// The tag of every segment, if that is out of band.
    pub(super) tag: Option<TagOutOfBand>,
    /// Numbers of the first segment.
    pub(super) first_esp: u64,
    pub(super) first_ah: u64,
    /// How many pieces there are.
    pub(super) pieces: usize,
    /// How many segments they have.
    pub(super) segments: usize,
    /// Bytes of payload.
    pub(super) payload: usize,
}

impl<'a, P: Provider> Sender<'a, P> {
    /// Cuts and seals the large lists of a chunk, and gives each its status; the others stay as they are. `base`: the chunk's place in the batch.
    #[cold]
    #[inline(never)]
    pub(super) fn send_large(&self, chunk: &mut [NetBufferList], base: usize, memory: &mut Memory, pool: &mut BufferPool) {
        let mut work = ArrayVec::<Large<'a, P>, BATCH>::new();
        let first = memory.pieces.len();
        for (index, list) in chunk.iter_mut().enumerate().filter(|(_, list)| list.oob.is_large_send()) {
            match self.cut(list, index, base, &mut memory.pieces, pool) {
                Ok(large) => work.push(large),
                Err(failure) => list.status = self.counters.failed(failure),
            }
        }
        self.encrypt_pieces(&work, base, first, memory);
        self.sign_pieces(&work, base, first, memory);
        for large in &work {
            let Some(list) = chunk.get_mut(large.index) else { continue };
            if memory.failed.contains(&(base + large.index)) {
                list.status = self.counters.failed(SendFailure::Provider);
                continue;
            }
            list.status = Status::SUCCESS;
            list.oob.complete_large_send(large.payload as u32);
            pool.give(core::mem::take(&mut list.buffer));
            self.counters.cut(large.segments as u64);
        }
        if !memory.failed.is_empty() {
            let Memory { pieces, failed, .. } = memory;
            pieces.retain_mut(|piece| {
                let good = !failed.contains(&piece.list);
                if !good {
                    pool.give(core::mem::take(&mut piece.buffer));
                }
                good
            });
            failed.clear();
        }
    }

    /// ESP of all segments, from the piece `first` on.
    fn encrypt_pieces(&self, work: &[Large<'a, P>], base: usize, first: usize, memory: &mut Memory) {
        let mut jobs = SealBatch::<'_, P::Key>::new();
        let mut owners = ArrayVec::<usize, BATCH>::new();
        let mut pieces = memory.pieces.iter_mut().skip(first);
        for large in work {
            let these = pieces.by_ref().take(large.pieces);
            let Some((transform, at)) = large.esp() else {
                these.for_each(drop);
                continue;
            };
            let at = at + large.shift();
            let mut number = large.first_esp;
            for piece in these {
                for segment in piece.buffer.as_mut_slice().chunks_mut(piece.stride) {
                    match segment.get_mut(at..).and_then(|esp| transform.seal_job(esp, number).ok()) {
                        Some(job) => {
                            jobs.push(job);
                            owners.push(base + large.index);
                        }
                        None => memory.failed.push(base + large.index),
                    }
                    number = number.wrapping_add(1);
                    if jobs.is_full() {
                        self.run(&mut jobs, &mut owners, &mut memory.failed);
                    }
                }
            }
        }
        self.run(&mut jobs, &mut owners, &mut memory.failed);
    }

    /// AH of all segments, over what is final by then.
    fn sign_pieces(&self, work: &[Large<'a, P>], base: usize, first: usize, memory: &mut Memory) {
        let mut pieces = memory.pieces.iter_mut().skip(first);
        for large in work {
            let these = pieces.by_ref().take(large.pieces);
            let Some((transform, ah)) = large.sa.and_then(|sa| sa.transforms.ah()).zip(large.headers.ah) else {
                these.for_each(drop);
                continue;
            };
            let (ip, ah) = (large.headers.ip + large.shift(), ah + large.shift());
            let mut number = large.first_ah;
            for Piece { buffer, stride, .. } in these {
                let mut parts = ArrayVec::<AhPart, BATCH>::new();
                for segment in buffer.as_mut_slice().chunks_mut(*stride).take(BATCH) {
                    let part = segment.get_mut(ip..).and_then(|packet| transform.prepare_seal(packet, ah - ip, number, &mut memory.masked).ok());
                    parts.extend(part);
                    number = number.wrapping_add(1);
                }
                let packets = buffer.as_slice().chunks(*stride).map(|segment| segment.get(ip..).unwrap_or_default());
                let mut jobs: AuthBatch<'_, P::AuthKey> = packets.zip(&parts).map(|(packet, part)| transform.job(packet, &memory.masked, part)).collect();
                self.provider.authenticate(&mut jobs);
                let icvs: ArrayVec<Icv, BATCH> = jobs.iter().map(|job| job.icv).collect();
                drop(jobs);
                let mut segments = buffer.as_mut_slice().chunks_mut(*stride);
                let all = segments.len() == parts.len();
                let signed = segments.by_ref().zip(&parts).zip(&icvs).all(|((segment, part), icv)| {
                    let packet = segment.get_mut(ip..).unwrap_or_default();
                    transform.write_icv(packet, part, icv);
                    transform.verify_icv(packet, part, icv)
                });
                if !(all && signed) {
                    memory.failed.push(base + large.index);
                }
                memory.masked.clear();
            }
        }
    }
}

impl<'a, P: Provider> Large<'a, P> {
    /// How far behind everything is in a segment, because of the tag.
    pub(super) const fn shift(&self) -> usize {
        if self.tag.is_some() { VLAN_TAG_LEN } else { 0 }
    }

    /// Its ESP, if it has one, and where in segments without the tag that is.
    fn esp(&self) -> Option<(&'a EspSa<P>, usize)> {
        self.sa?.transforms.esp().zip(self.headers.esp)
    }
}

/// Puts the pieces of a list on the wire. `pieces` begins with those of this list or a later one.
pub(super) fn put(list: &NetBufferList, place: usize, pieces: &mut core::iter::Peekable<std::vec::Drain<'_, Piece>>, wire: &mut FrameBatch) {
    while let Some(Piece { buffer, stride, .. }) = pieces.next_if(|piece| piece.list == place) {
        let form = if buffer.len() <= stride { FrameForm::PACKET } else { FrameForm::train(stride as u32) };
        wire.push(Frame { buffer, timestamp: list.timestamp, tag: list.tag, order: list.order, form, ..Frame::default() });
    }
}
