//! The send engine: checks each list against its SA, seals batches in place, moves frames to the wire in order (OV2-SEND-1 to OV2-SEND-8).

use core::ops::Range;

use arrayvec::ArrayVec;
use ipsec::{BATCH, EspError, Provider, SealBatch, read_trailer};
use ndis::{HeaderTransmit, NblBatch, NetBufferList, Operation, Status};
use packet::{EspPacket, Frame, FrameBatch, Medium};
use sa_table::{Guard, Handle};

use super::counters::{Counters, SendFailure};
use super::sa::{Sa, Transforms};
use super::word::Word;
use crate::link::{Outer, announces_ip};

/// Requests of the checksum slot on transmit: TCP, UDP and IP header checksums. The bits below only say which IP version it is.
const CHECKSUM_REQUESTS: u32 = 0b1_1100;

/// What a batch is sent with.
pub(super) struct Sender<'a, P: Provider> {
    pub(super) provider: &'a P,
    pub(super) word: Word,
    pub(super) medium: Medium,
    pub(super) guard: &'a Guard<'a, Sa<P>>,
    pub(super) counters: &'a Counters,
}

impl<P: Provider> Sender<'_, P> {
    /// Sends all of `batch`, and leaves it empty.
    ///
    /// `unsealed` is the lane's own memory for lists that a provider did not seal after all, and stays empty.
    pub(super) fn send(&self, batch: &mut NblBatch, done: &mut NblBatch, wire: &mut FrameBatch, unsealed: &mut Vec<usize>) {
        self.seal(batch, unsealed);
        unsealed.sort_unstable();
        unsealed.dedup();
        for &index in &*unsealed {
            if let Some(list) = batch.get_mut(index) {
                list.status = self.counters.failed(SendFailure::Provider);
                // What the provider had is lost: better an empty list than one that somebody sends again.
                list.buffers_mut().for_each(|buffer| buffer.truncate(0));
            }
        }
        unsealed.clear();
        if batch.iter().all(|list| list.status.is_success() && list.more.is_empty()) {
            // As nearly always: each frame goes to its place at once.
            wire.extend(batch.iter_mut().map(NetBufferList::take_frame));
        } else {
            for list in batch.iter_mut().filter(|list| list.status.is_success()) {
                wire.push(list.take_frame());
                let (timestamp, tag) = (list.timestamp, list.tag);
                wire.extend(list.more.drain(..).map(|buffer| Frame { buffer, timestamp, tag }));
            }
        }
        // Lists are big: they change hands as a batch, not one by one.
        if done.is_empty() {
            core::mem::swap(done, batch);
        } else {
            done.append(batch);
        }
    }

    /// Gives every list its status, and seals those that succeed.
    fn seal(&self, batch: &mut NblBatch, unsealed: &mut Vec<usize>) {
        let mut jobs = SealBatch::<'_, P::Key>::new();
        let mut owners = ArrayVec::<usize, BATCH>::new();
        for (index, list) in batch.iter_mut().enumerate() {
            let sealing = match self.check(list) {
                Ok(sealing) => sealing,
                Err(failure) => {
                    list.status = self.counters.failed(failure);
                    continue;
                }
            };
            list.status = Status::SUCCESS;
            let Some(Sealing { sa, esp: first }) = sealing else { continue };
            let Transforms::Esp(transform) = &sa.transforms;
            let (header, l3_offset) = (list.oob.header_transmit(), usize::from(list.l3_offset));
            let mut esp = Some(first);
            for buffer in core::iter::once(&mut list.buffer).chain(&mut list.more) {
                // All buffers were checked; those after the first are looked at again for where their ESP is.
                let range = esp.take().map_or_else(|| self.check_packet(sa, header, l3_offset, buffer.as_slice()), Ok);
                let job = range.ok().and_then(|range| buffer.as_mut_slice().get_mut(range)).and_then(|esp| {
                    let low = EspPacket::new(&*esp).ok()?.sequence();
                    transform.seal_job(esp, sa.outbound_sequence(low)).ok()
                });
                match job {
                    Some(job) => {
                        jobs.push(job);
                        owners.push(index);
                    }
                    None => unsealed.push(index),
                }
                if jobs.is_full() {
                    self.run(&mut jobs, &mut owners, unsealed);
                }
            }
        }
        self.run(&mut jobs, &mut owners, unsealed);
    }

    fn run(&self, jobs: &mut SealBatch<'_, P::Key>, owners: &mut ArrayVec<usize, BATCH>, unsealed: &mut Vec<usize>) {
        if jobs.is_empty() {
            return;
        }
        self.provider.seal(jobs);
        unsealed.extend(jobs.iter().zip(&*owners).filter(|(job, _)| !job.verdict.is_good()).map(|(_, &owner)| owner));
        jobs.clear();
        owners.clear();
    }

    /// Checks a list with all its buffers, and changes nothing. `None`: it goes out as it stands.
    #[inline]
    fn check(&self, list: &NetBufferList) -> Result<Option<Sealing<'_, P>>, SendFailure> {
        let oob = &list.oob;
        if oob.large_send != 0 || oob.checksum & CHECKSUM_REQUESTS != 0 || oob.ieee8021q != 0 {
            return Err(SendFailure::UnsupportedRequest);
        }
        if oob.tunnel_bits() != 0 {
            return Err(SendFailure::TunnelHandle);
        }
        let Some(handle) = Handle::from_bits(oob.ipsec_bits()) else { return Ok(None) };
        let sa = self.guard.get(handle).ok_or(SendFailure::StaleHandle)?;
        if sa.inbound {
            return Err(SendFailure::InboundHandle);
        }
        if !self.word.covers(sa.needs) {
            return Err(SendFailure::NotConfigured);
        }
        let (header, l3_offset) = (oob.header_transmit(), usize::from(list.l3_offset));
        let esp = self.check_packet(sa, header, l3_offset, list.buffer.as_slice())?;
        for buffer in &list.more {
            self.check_packet(sa, header, l3_offset, buffer.as_slice())?;
        }
        Ok(Some(Sealing { sa, esp }))
    }

    /// Checks a frame against its SA and its out-of-band data (OV2-OOB-3), and returns where its ESP packet is.
    #[inline]
    fn check_packet(&self, sa: &Sa<P>, header: HeaderTransmit, l3_offset: usize, frame: &[u8]) -> Result<Range<usize>, SendFailure> {
        if !announces_ip(self.medium, frame, l3_offset) {
            return Err(SendFailure::Malformed);
        }
        let packet = frame.get(l3_offset..).ok_or(SendFailure::Malformed)?;
        let outer = Outer::parse(packet).ok_or(SendFailure::Malformed)?;
        // The frame has its final length (OV2-SEND-8): what stood behind the packet would leave in clear.
        if outer.total_len != packet.len() {
            return Err(SendFailure::Lengths);
        }
        if outer.fragment {
            return Err(SendFailure::Fragment);
        }
        if outer.extras && !self.word.extras(outer.version) {
            return Err(SendFailure::OutsideCapabilities);
        }
        let ipsec = outer.ipsec.filter(|ipsec| ipsec.operation == Operation::Esp).ok_or(SendFailure::HeaderMismatch)?;
        let version_fits = sa.ipv6 == (outer.version == packet::IpVersion::V6);
        if !version_fits || usize::from(header.esp_header_offset) * 4 != ipsec.offset || header.ah_header_offset != 0 {
            return Err(SendFailure::HeaderMismatch);
        }
        let esp = packet.get(ipsec.offset..).ok_or(SendFailure::Malformed)?;
        let view = EspPacket::new(esp).map_err(|_| SendFailure::Lengths)?;
        if view.spi() != sa.spi {
            return Err(SendFailure::HeaderMismatch);
        }
        let Transforms::Esp(transform) = &sa.transforms;
        let text = transform.text(esp.len()).map_err(|_: EspError| SendFailure::Lengths)?;
        let text = esp.get(text).ok_or(SendFailure::Lengths)?;
        if text.len() % transform.alignment() != 0 {
            return Err(SendFailure::Lengths);
        }
        let (_, trailer) = read_trailer(text).map_err(|_| SendFailure::Lengths)?;
        if (trailer.next_header, trailer.pad_length) != (header.next_header, header.pad_length) {
            return Err(SendFailure::TrailerMismatch);
        }
        Ok(l3_offset + ipsec.offset..frame.len())
    }
}

/// A list to be sealed.
struct Sealing<'a, P: Provider> {
    sa: &'a Sa<P>,
    /// Where the ESP packet is in the first buffer's frame.
    esp: Range<usize>,
}
