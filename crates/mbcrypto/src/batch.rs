//! From jobs to packets and back: what is the same for every path.

use arrayvec::ArrayVec;
use zeroize::Zeroize;

use crate::gmac::Message;
use crate::job::{Authenticate, MacParts, Open, OpenParts, Seal, SealParts};
use crate::key::Key;
use crate::packet::{Block, PACKETS, Packet, Tags};

/// One way to do the work. Its methods are functions of their own, not copied into every caller's crate.
pub(crate) trait Backend: Copy {
    /// An expanded key.
    type Schedule;

    /// The expanded key and the length of its ICV, if it was made for this way.
    fn schedule(key: &Key) -> Option<(&Self::Schedule, usize)>;
    /// Encrypts up to [`PACKETS`] packets and makes the tag of each.
    fn seal(self, packets: &mut [Packet<'_, Self::Schedule>], tags: &mut Tags);
    /// Decrypts up to [`PACKETS`] packets and makes the tag that each should have.
    fn open(self, packets: &mut [Packet<'_, Self::Schedule>], tags: &mut Tags);
    /// Makes the tags of up to [`PACKETS`] messages.
    fn authenticate(self, messages: &[Message<'_, Self::Schedule>], tags: &mut Tags);
}

/// What became of the jobs of a call, a bit for each.
#[derive(Clone, Copy, Default)]
struct Jobs {
    /// Those that were ours.
    taken: u32,
    /// Those of them that can be done.
    possible: u32,
}

pub(crate) fn seal<B: Backend, J: Seal>(backend: B, jobs: &mut [J]) {
    let mut tags = Tags([[0; 16]; PACKETS]);
    for jobs in jobs.chunks_mut(PACKETS) {
        let mut packets = ArrayVec::<_, PACKETS>::new();
        let mut places = ArrayVec::<_, PACKETS>::new();
        let mut state = Jobs::default();
        for (i, job) in jobs.iter_mut().enumerate() {
            let Some(parts) = job.parts() else { continue };
            state.taken |= 1 << i;
            if let Some((packet, place)) = seal_packet::<B>(parts) {
                state.possible |= 1 << i;
                packets.push(packet);
                places.push(place);
            }
        }
        backend.seal(&mut packets, &mut tags);
        for (place, tag) in places.iter_mut().zip(&tags.0) {
            put(place, tag);
        }
        drop((packets, places));
        for (i, job) in jobs.iter_mut().enumerate() {
            if state.taken >> i & 1 != 0 {
                job.conclude(state.possible >> i & 1 != 0);
            }
        }
    }
}

/// `None`: impossible, and its output is erased.
#[inline(always)]
fn seal_packet<B: Backend>(parts: SealParts<'_>) -> Option<(Packet<'_, B::Schedule>, &mut [u8])> {
    let SealParts { key, nonce, aad, text, tag } = parts;
    let mut refused = match B::schedule(key) {
        Some((schedule, icv_length)) if tag.len() == icv_length => match Packet::new(schedule, nonce, aad, text) {
            Ok(packet) => return Some((packet, tag)),
            Err(text) => text,
        },
        _ => text,
    };
    refused.output().fill(0);
    tag.fill(0);
    None
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

pub(crate) fn open<B: Backend, J: Open>(backend: B, jobs: &mut [J]) {
    let mut tags = Tags([[0; 16]; PACKETS]);
    for jobs in jobs.chunks_mut(PACKETS) {
        let mut packets = ArrayVec::<_, PACKETS>::new();
        let mut expected = ArrayVec::<_, PACKETS>::new();
        let mut state = Jobs::default();
        for (i, job) in jobs.iter_mut().enumerate() {
            let Some(parts) = job.parts() else { continue };
            state.taken |= 1 << i;
            if let Some((packet, tag)) = open_packet::<B>(parts) {
                state.possible |= 1 << i;
                packets.push(packet);
                expected.push(tag);
            }
        }
        let good = verify(backend, &mut packets, &expected, &mut tags);
        drop((packets, expected));
        let mut packet = 0;
        for (i, job) in jobs.iter_mut().enumerate() {
            let possible = state.possible >> i & 1;
            if state.taken >> i & 1 != 0 {
                job.conclude(possible & (good >> packet) != 0);
            }
            packet += possible;
        }
    }
}

/// `None`: impossible, and the destination of a copy is erased.
#[inline(always)]
fn open_packet<B: Backend>(parts: OpenParts<'_>) -> Option<(Packet<'_, B::Schedule>, &[u8])> {
    let OpenParts { key, nonce, aad, text, tag } = parts;
    let refused = match B::schedule(key) {
        Some((schedule, icv_length)) if tag.len() == icv_length => match Packet::new(schedule, nonce, aad, text) {
            Ok(packet) => return Some((packet, tag)),
            Err(text) => text,
        },
        _ => text,
    };
    refused.erase_copy();
    None
}

/// Opens `packets`; a bit for each that is authentic. Of all others the plaintext is taken back.
fn verify<B: Backend>(backend: B, packets: &mut [Packet<'_, B::Schedule>], expected: &[&[u8]], tags: &mut Tags) -> u32 {
    backend.open(packets, tags);
    let mut good = 0;
    for (i, (expected, tag)) in expected.iter().zip(&tags.0).enumerate() {
        good |= u32::from(equal(expected, tag)) << i;
    }
    // Which packets are authentic everybody may know; how far a tag was right, nobody.
    #[cfg(mbcrypto_constant_time)]
    let good = crate::memcheck::declassify(good);
    let all = ((1_u64 << packets.len()) - 1) as u32;
    if good != all {
        take_back(backend, packets, !good, tags);
    }
    good
}

/// Undoes the decryption of the packets whose bit is set in `bad`.
#[cold]
fn take_back<B: Backend>(backend: B, packets: &mut [Packet<'_, B::Schedule>], bad: u32, tags: &mut Tags) {
    // The tags are what a forger wants to know. Those of other packets have been compared already.
    tags.0.zeroize();
    for (_, packet) in packets.iter_mut().enumerate().filter(|(i, _)| bad >> i & 1 != 0) {
        if packet.in_place() {
            // Counter mode is its own inverse: encrypting what has been decrypted gives what came.
            backend.seal(core::slice::from_mut(packet), tags);
        } else {
            packet.destination().fill(0);
        }
    }
    tags.0.zeroize();
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
    let mut tags = Tags([[0; 16]; PACKETS]);
    for jobs in jobs.chunks_mut(PACKETS) {
        let mut messages = ArrayVec::<_, PACKETS>::new();
        let mut state = Jobs::default();
        for (i, job) in jobs.iter().enumerate() {
            let Some(MacParts { key, nonce, data }) = job.parts() else { continue };
            state.taken |= 1 << i;
            if let Some((schedule, _)) = B::schedule(key) {
                state.possible |= 1 << i;
                messages.push(Message { schedule, nonce, parts: data });
            }
        }
        backend.authenticate(&messages, &mut tags);
        drop(messages);
        let mut made = tags.0.iter();
        for (i, job) in jobs.iter_mut().enumerate() {
            if state.taken >> i & 1 != 0 {
                job.conclude(if state.possible >> i & 1 != 0 { made.next() } else { None });
            }
        }
    }
}
