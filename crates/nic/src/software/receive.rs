//! The receive engine: finds each packet's SA, opens batches in place, writes verdicts out of band (OV2-RECV-1 to OV2-RECV-6).
//!
//! Every packet is indicated, in order. On success its payload is decrypted where it was, and all headers stay. On failure it has the bytes that it
//! came with.

use core::net::IpAddr;
use core::ops::Range;
use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use ipsec::{BATCH, Data, OpenBatch, OpenJob, Provider, Scratch, SealJob, Trailer, read_trailer};
use ndis::{CryptoStatus, HeaderReceive, IpsecReceive, NblBatch, NetBufferList, Operation, OutOfBand};
use packet::{EspPacket, FrameBatch, IpProtocol, IpVersion, Ipv4Packet, Ipv6Packet, Medium};
use sa_table::{Guard, Key};

use super::counters::Counters;
use super::sa::{Sa, Transforms};
use super::word::Word;
use crate::link::{IpsecHeader, Outer, announces_ip, ip_offset};

/// What a batch is received with.
pub(super) struct Receiver<'a, P: Provider> {
    pub(super) provider: &'a P,
    pub(super) word: Word,
    pub(super) medium: Medium,
    pub(super) guard: &'a Guard<'a, Sa<P>>,
    pub(super) counters: &'a Counters,
}

/// What is to be done with a packet.
enum Class<'a, P: Provider> {
    /// Nothing.
    Untouched,
    /// It matches an SA, and fails before any cryptography.
    Failed(&'a Sa<P>, CryptoStatus),
    /// The ESP packet at this place of the frame is to be opened.
    Open(&'a Sa<P>, Range<usize>),
}

/// A packet whose SA was found.
struct Found<'a, P: Provider> {
    /// Its place among the packets of the chunk.
    index: usize,
    sa: &'a Sa<P>,
    esp: Range<usize>,
}

/// A packet that is being opened.
struct Opening<'a, 'p, P: Provider> {
    sa: &'a Sa<P>,
    sequence: u64,
    oob: &'p mut OutOfBand,
}

/// Packets that are left alone, of one batch.
#[derive(Default)]
struct Left {
    outside_capabilities: u64,
    no_sa: u64,
}

impl<P: Provider> Receiver<'_, P> {
    /// Receives all of `frames`, and leaves it empty.
    pub(super) fn receive(&self, frames: &mut FrameBatch, up: &mut NblBatch, scratch: &mut Scratch) {
        let mut left = Left::default();
        let mut first = up.len();
        up.extend(frames.drain(..).map(|frame| NetBufferList::from_frame(frame, 0)));
        while first < up.len() {
            let mut found = ArrayVec::<Found<'_, P>, BATCH>::new();
            let mut end = first;
            for (index, list) in up[first..].iter_mut().take(BATCH).enumerate() {
                end += 1;
                let bytes = list.buffer.as_slice();
                list.l3_offset = ip_offset(self.medium, bytes);
                match self.classify(bytes, usize::from(list.l3_offset), &mut left) {
                    Class::Untouched => {}
                    Class::Failed(sa, status) => list.oob.set_ipsec_receive(failure(sa, status)),
                    Class::Open(sa, esp) => {
                        found.push(Found { index, sa, esp });
                        // What high half its next packets have is known when this one was verified.
                        if sa.is_unverified() {
                            break;
                        }
                    }
                }
            }
            if !found.is_empty() {
                self.open(&found, &mut up[first..end], scratch);
            }
            first = end;
        }
        if left.outside_capabilities != 0 {
            self.counters.outside_capabilities.fetch_add(left.outside_capabilities, Ordering::Relaxed);
        }
        if left.no_sa != 0 {
            self.counters.no_sa.fetch_add(left.no_sa, Ordering::Relaxed);
        }
    }

    #[inline]
    fn classify(&self, frame: &[u8], l3_offset: usize, left: &mut Left) -> Class<'_, P> {
        if !announces_ip(self.medium, frame, l3_offset) {
            return Class::Untouched;
        }
        let Some(packet) = frame.get(l3_offset..) else { return Class::Untouched };
        let Some(outer @ Outer { ipsec: Some(ipsec), .. }) = Outer::parse(packet) else { return Class::Untouched };
        if !self.word.receives(outer.version) {
            return Class::Untouched;
        }
        if outer.fragment || outer.extras && !self.word.extras(outer.version) {
            left.outside_capabilities += 1;
            return Class::Untouched;
        }
        let Some((packet, header)) = packet.get(..outer.total_len).and_then(|packet| Some((packet, packet.get(ipsec.offset..)?))) else {
            return Class::Untouched;
        };
        match self.find(&outer, ipsec, packet, header) {
            None => {
                left.no_sa += 1;
                Class::Untouched
            }
            // OV2-CAP-14: what does not fit any more is as if it were not there.
            Some((sa, _)) if !self.word.covers(sa.needs) => {
                left.outside_capabilities += 1;
                Class::Untouched
            }
            Some((sa, false)) => Class::Failed(sa, CryptoStatus::InvalidProtocol),
            Some((sa, true)) => {
                let Transforms::Esp(transform) = &sa.transforms;
                match transform.text(header.len()) {
                    Ok(_) => Class::Open(sa, l3_offset + ipsec.offset..l3_offset + outer.total_len),
                    Err(_) => Class::Failed(sa, CryptoStatus::InvalidPacketSyntax),
                }
            }
        }
    }

    /// The SA of a packet, and whether it has the operation of the packet's header (OV2-RECV-3).
    #[inline]
    fn find(&self, outer: &Outer, ipsec: IpsecHeader, packet: &[u8], header: &[u8]) -> Option<(&Sa<P>, bool)> {
        let at = match ipsec.operation {
            Operation::Esp => 0,
            Operation::Ah => 4,
        };
        let spi = u32::from_be_bytes(*header.get(at..)?.first_chunk()?);
        if spi == 0 {
            return None;
        }
        let (key, source) = match outer.version {
            IpVersion::V4 => {
                let view = Ipv4Packet::new(packet).ok()?;
                (Key::v4(spi, view.dst().octets()), IpAddr::V4(view.src()))
            }
            IpVersion::V6 => {
                let view = Ipv6Packet::new(packet).ok()?;
                (Key::v6(spi, view.dst().octets()), IpAddr::V6(view.src()))
            }
        };
        let mut other = None;
        for (_, sa) in self.guard.find(&key) {
            if !sa.admits(|| source) {
                continue;
            }
            if sa.operation() == ipsec.operation {
                return Some((sa, true));
            }
            other = other.or(Some((sa, false)));
        }
        other
    }

    /// Opens the packets that were found among `lists`.
    fn open(&self, found: &[Found<'_, P>], lists: &mut [NetBufferList], scratch: &mut Scratch) {
        let mut jobs = OpenBatch::<'_, P::Key>::new();
        let mut openings = ArrayVec::<Opening<'_, '_, P>, BATCH>::new();
        let mut lists = lists.iter_mut();
        let mut next = 0;
        for Found { index, sa, esp } in found {
            let Some(NetBufferList { buffer, oob, .. }) = lists.nth(index - next) else { break };
            next = index + 1;
            let Transforms::Esp(transform) = &sa.transforms;
            let job = buffer.as_mut_slice().get_mut(esp.clone()).and_then(|esp| {
                let sequence = sa.inbound_sequence(EspPacket::new(&*esp).ok()?.sequence());
                Some((transform.open_job(esp, sequence).ok()?, sequence))
            });
            match job {
                Some((job, sequence)) => {
                    jobs.push(job);
                    openings.push(Opening { sa, sequence, oob });
                }
                // The lengths were checked when it was classified.
                None => oob.set_ipsec_receive(failure(sa, CryptoStatus::InvalidPacketSyntax)),
            }
        }
        self.provider.open(&mut jobs, scratch);
        for (job, opening) in jobs.iter_mut().zip(openings) {
            self.conclude(job, opening);
        }
    }

    #[inline]
    fn conclude(&self, job: &mut OpenJob<'_, P::Key>, opening: Opening<'_, '_, P>) {
        let Opening { sa, sequence, oob } = opening;
        if !job.verdict.is_good() {
            let status = if sa.probably_tunnel() { CryptoStatus::TunnelEspAuthFailed } else { CryptoStatus::TransportEspAuthFailed };
            oob.set_ipsec_receive(failure(sa, status));
            return;
        }
        let Data::InPlace(text) = &job.data else { return };
        match judge(text) {
            Ok((trailer, tunnel)) => {
                let sa_delete_request = sa.verified(sequence, tunnel);
                oob.set_ipsec_receive(IpsecReceive { sa_delete_request, crypto_done: true, next_crypto_done: false, crypto_status: CryptoStatus::Success });
                oob.set_header_receive(Some(HeaderReceive { next_header: trailer.next_header, pad_length: trailer.pad_length }));
            }
            Err(status) => {
                sa.authentic(sequence);
                oob.set_ipsec_receive(failure(sa, status));
                self.restore(job);
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

/// What an authentic packet carries: its trailer, and whether it is a tunnelled packet (OV2-RECV-5a); or what is wrong with it (OV2-OOB-5).
#[inline]
fn judge(text: &[u8]) -> Result<(Trailer, bool), CryptoStatus> {
    let (length, trailer) = read_trailer(text).map_err(|_| CryptoStatus::InvalidPacketSyntax)?;
    let announced = match IpProtocol(trailer.next_header) {
        IpProtocol::IPV4 => IpVersion::V4,
        IpProtocol::IPV6 => IpVersion::V6,
        _ => return Ok((trailer, false)),
    };
    let carried = text.get(..length).and_then(<[u8]>::first).and_then(|&byte| IpVersion::of_first_byte(byte));
    if carried == Some(announced) { Ok((trailer, true)) } else { Err(CryptoStatus::GenericError) }
}

/// The out-of-band data of a packet that failed.
fn failure<P: Provider>(sa: &Sa<P>, crypto_status: CryptoStatus) -> IpsecReceive {
    IpsecReceive { sa_delete_request: sa.wants_delete(), crypto_done: true, next_crypto_done: false, crypto_status }
}
