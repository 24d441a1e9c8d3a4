//! From jobs to packets and back: what is the same for every path.

use arrayvec::ArrayVec;

use crate::gmac::Message;
use crate::job::{AadParts, Authenticate, MacParts, Open, OpenParts, Seal, SealParts, Text};
use crate::key::Key;
use crate::packet::{Batch, Block, Chunk, Columns, PACKETS, Packet, Tags};

/// One way to do the work. Its methods are functions of their own, not copied into every caller's crate.
pub(crate) trait Backend: Copy {
    /// An expanded key.
    type Schedule;

    /// The expanded key and the length of its ICV, if it was made for this way.
    fn schedule(key: &Key) -> Option<(&Self::Schedule, usize)>;
    /// Encrypts up to [`PACKETS`] packets and makes the tag of each.
    fn seal(self, batch: &mut Batch<'_, '_, Self::Schedule>, tags: &mut Tags);
    /// Decrypts up to [`PACKETS`] packets and makes the tag that each should have.
    fn open(self, batch: &mut Batch<'_, '_, Self::Schedule>, tags: &mut Tags);
    /// Makes the tags of up to [`PACKETS`] messages.
    fn authenticate(self, messages: &[Message<'_, Self::Schedule>], tags: &mut Tags);
}

/// The jobs of a call that are not what they should be, a bit for each.
#[derive(Clone, Copy, Default)]
struct Odd {
    /// Those that are not ours.
    skipped: u32,
    /// Those that cannot be done.
    refused: u32,
}

/// Returns whether every job had parts and was good.
pub(crate) fn seal<B: Backend, J: Seal>(backend: B, jobs: &mut [J]) -> bool {
    let mut whole = true;
    let mut columns = Columns::new();
    let mut tags = Tags::ZERO;
    for jobs in jobs.chunks_mut(PACKETS) {
        let mut packets = Chunk::new();
        let mut odd = Odd::default();
        columns.long_aads = 0;
        for (i, job) in jobs.iter_mut().enumerate() {
            let Some(SealParts { key, nonce, aad, text, tag }) = job.parts() else {
                odd.skipped |= 1 << i;
                continue;
            };
            match possible::<B>(key, aad, text, tag.len()) {
                Ok(packet) => {
                    columns.set(packets.len(), nonce, aad, &packet);
                    packets.push(packet, tag);
                }
                Err(mut text) => {
                    odd.refused |= 1 << i;
                    text.output().fill(0);
                    tag.fill(0);
                }
            }
        }
        let (packets, places) = packets.parts();
        backend.seal(&mut Batch { packets, columns: &columns }, &mut tags);
        for (place, tag) in places.iter_mut().zip(&tags.0) {
            put(place, tag);
        }
        if odd.skipped | odd.refused == 0 {
            for job in jobs {
                job.conclude(true);
            }
        } else {
            whole = false;
            for (i, job) in jobs.iter_mut().enumerate().filter(|(i, _)| odd.skipped >> i & 1 == 0) {
                job.conclude(odd.refused >> i & 1 == 0);
            }
        }
    }
    whole
}

/// A packet for the kernel; or the text, if it cannot be done.
#[inline(always)]
fn possible<'a, B: Backend>(key: &'a Key, aad: AadParts<'a>, text: Text<'a>, tag_length: usize) -> Result<Packet<'a, B::Schedule>, Text<'a>> {
    match B::schedule(key) {
        Some((schedule, icv_length)) if tag_length == icv_length => Packet::new(schedule, aad, text),
        _ => Err(text),
    }
}

/// Copies as much of the tag as there is place for: 8, 12 or 16 bytes, each with its own instructions.
#[inline(always)]
fn put(place: &mut [u8], tag: &Block) {
    if let Ok(place) = <&mut Block>::try_from(&mut *place) {
        *place = *tag;
    } else if let Some((place, rest)) = place.split_first_chunk_mut::<8>() {
        let (head, tail) = tag.split_at(8);
        place.copy_from_slice(head);
        if let Some(rest) = rest.first_chunk_mut::<4>() {
            rest.copy_from_slice(&tail[..4]);
        }
    }
}

/// Returns whether every job had parts and was good.
pub(crate) fn open<B: Backend, J: Open>(backend: B, jobs: &mut [J]) -> bool {
    let mut whole = true;
    let mut columns = Columns::new();
    let mut tags = Tags::ZERO;
    for jobs in jobs.chunks_mut(PACKETS) {
        let mut packets = Chunk::new();
        let mut odd = Odd::default();
        columns.long_aads = 0;
        for (i, job) in jobs.iter_mut().enumerate() {
            let Some(OpenParts { key, nonce, aad, text, tag }) = job.parts() else {
                odd.skipped |= 1 << i;
                continue;
            };
            match possible::<B>(key, aad, text, tag.len()) {
                Ok(packet) => {
                    columns.set(packets.len(), nonce, aad, &packet);
                    packets.push(packet, tag);
                }
                Err(text) => {
                    odd.refused |= 1 << i;
                    text.erase_copy();
                }
            }
        }
        let (packets, expected) = packets.parts();
        let bad = verify(backend, &mut Batch { packets, columns: &columns }, expected, &mut tags);
        if odd.skipped | odd.refused | bad == 0 {
            for job in jobs {
                job.conclude(true);
            }
        } else {
            whole = false;
            let mut packet = 0;
            for (i, job) in jobs.iter_mut().enumerate().filter(|(i, _)| odd.skipped >> i & 1 == 0) {
                let possible = odd.refused >> i & 1 == 0;
                job.conclude(possible && bad >> packet & 1 == 0);
                packet += u32::from(possible);
            }
        }
    }
    whole
}

/// Opens packets; a bit for each that is not authentic. Of these the plaintext is taken back.
#[inline(always)]
fn verify<B: Backend>(backend: B, batch: &mut Batch<'_, '_, B::Schedule>, expected: &[&[u8]], tags: &mut Tags) -> u32 {
    backend.open(batch, tags);
    let mut bad = 0;
    for (i, (expected, tag)) in expected.iter().zip(&tags.0).enumerate() {
        bad |= u32::from(!equal(expected, tag)) << i;
    }
    // Which packets are authentic everybody may know; how far a tag was right, nobody.
    #[cfg(mbcrypto_constant_time)]
    let bad = crate::memcheck::declassify(bad);
    if bad != 0 {
        take_back(backend, batch, bad, tags);
    }
    bad
}

/// Undoes the decryption of the packets whose bit is set in `bad`.
#[cold]
fn take_back<B: Backend>(backend: B, batch: &mut Batch<'_, '_, B::Schedule>, bad: u32, tags: &mut Tags) {
    // The tags are what a forger wants to know. Those of other packets have been compared already.
    tags.erase(PACKETS);
    let mut columns = Columns::new();
    for (i, packet) in batch.packets.iter_mut().enumerate().filter(|(i, _)| bad >> i & 1 != 0) {
        if packet.in_place() {
            // Counter mode is its own inverse: encrypting what has been decrypted gives what came.
            columns.copy(batch.columns, i);
            backend.seal(&mut Batch { packets: core::slice::from_mut(packet), columns: &columns }, tags);
        } else {
            packet.destination().fill(0);
        }
    }
    tags.erase(PACKETS);
}

/// Compares an ICV of 8, 12 or 16 bytes with a tag's beginning, in a time that depends on its length only.
#[inline(always)]
fn equal(icv: &[u8], tag: &Block) -> bool {
    let number = u128::from_le_bytes(*tag);
    let difference = if let Ok(icv) = <&Block>::try_from(icv) {
        u128::from_le_bytes(*icv) ^ number
    } else if let Some((head, rest)) = icv.split_first_chunk::<8>() {
        let low = u64::from_le_bytes(*head) ^ number as u64;
        let high = rest.first_chunk::<4>().map_or(0, |rest| u32::from_le_bytes(*rest) ^ (number >> 64) as u32);
        u128::from(low | u64::from(high))
    } else {
        1
    };
    difference == 0
}

pub(crate) fn authenticate<B: Backend, J: Authenticate>(backend: B, jobs: &mut [J]) {
    let mut tags = Tags::ZERO;
    for jobs in jobs.chunks_mut(PACKETS) {
        let mut messages = ArrayVec::<_, PACKETS>::new();
        let mut odd = Odd::default();
        for (i, job) in jobs.iter().enumerate() {
            let Some(MacParts { key, nonce, data }) = job.parts() else {
                odd.skipped |= 1 << i;
                continue;
            };
            if let Some((schedule, _)) = B::schedule(key) {
                messages.push(Message { schedule, nonce, parts: data });
            } else {
                odd.refused |= 1 << i;
            }
        }
        backend.authenticate(&messages, &mut tags);
        drop(messages);
        let mut made = tags.0.iter();
        for (i, job) in jobs.iter_mut().enumerate().filter(|(i, _)| odd.skipped >> i & 1 == 0) {
            job.conclude(if odd.refused >> i & 1 == 0 { made.next() } else { None });
        }
        // They may be those that forged messages should have had: only the caller, who has them now, can tell.
        tags.erase(jobs.len());
    }
}
