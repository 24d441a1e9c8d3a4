//! Groups of packets that are short and have equally many vectors: all packets of a group are encrypted in step, while GHASH takes in the
//! group before. See [`crate::gcm`].
//!
//! Here no Y is needed: an AAD of one block is multiplied with H^(n+2) itself.

use core::hint::black_box;
use core::ops::Range;

use crate::gcm::{self, Lanes, Row, Shared};
use crate::ghash::{GroupSums, REVERSE, Sums};
use crate::packet::{Batch, Packet, Tags};
use crate::simd::Simd;
use crate::x86::Schedule;

/// Most vectors of such packets.
const SHORT: usize = 3;

/// How many packets from number `first` on can be done by [`run`]: whole groups, all of as many vectors, none of them empty or with
/// an AAD of two blocks; all under one key, or, with four lanes, under keys of the same length.
#[inline(always)]
pub(crate) fn alike<S: Simd>(batch: &Batch<'_, '_, Schedule>, first: usize) -> usize {
    let Some(packets @ [packet, ..]) = batch.packets.get(first..) else { return 0 };
    let count = last_vector::<S>(packet);
    if count >= SHORT || batch.columns.long_aads >> first != 0 {
        return 0;
    }
    let one_key = |other: &&Packet<'_, Schedule>| last_vector::<S>(other) == count && core::ptr::eq(other.schedule, packet.schedule);
    let mut alike = packets.iter().take_while(one_key).count();
    if alike < S::LANES && S::LANES == 4 {
        let rounds = packet.schedule.rounds();
        alike = packets.iter().take_while(|other| last_vector::<S>(other) == count && other.schedule.rounds() == rounds).count();
    }
    alike - alike % S::LANES
}

/// The number of a text's last vector; huge if it is empty.
#[inline(always)]
fn last_vector<S: Simd>(packet: &Packet<'_, Schedule>) -> usize {
    packet.length.wrapping_sub(1) / (16 * S::LANES)
}

/// Seals or opens the packets of a `range` that [`alike`] has found.
#[inline(always)]
pub(crate) fn run<S: Simd, const OPEN: bool>(s: S, batch: &Batch<'_, '_, Schedule>, range: Range<usize>, tags: &mut Tags) {
    let Some(packets @ [first, ..]) = batch.packets.get(range.clone()) else { return };
    let same = S::LANES < 4 || packets.iter().all(|packet| core::ptr::eq(packet.schedule, first.schedule));
    match (last_vector::<S>(first), same) {
        (0, true) => groups::<S, OPEN, true, 1>(s, batch, range.start, packets, tags),
        (1, true) => groups::<S, OPEN, true, 2>(s, batch, range.start, packets, tags),
        (_, true) => groups::<S, OPEN, true, SHORT>(s, batch, range.start, packets, tags),
        (0, false) => groups::<S, OPEN, false, 1>(s, batch, range.start, packets, tags),
        (1, false) => groups::<S, OPEN, false, 2>(s, batch, range.start, packets, tags),
        (_, false) => groups::<S, OPEN, false, SHORT>(s, batch, range.start, packets, tags),
    }
}

/// A group of which GHASH has yet to take in the texts.
struct Before<'a, S: Simd, const V: usize> {
    packets: &'a [Packet<'a, Schedule>],
    x: [[S::V; V]; 4],
    shared: Shared<S>,
    /// What the AAD of each packet is multiplied with.
    aad_powers: S::V,
}

impl<S: Simd, const V: usize> Before<'_, S, V> {
    /// Takes in a packet's text.
    #[inline(always)]
    fn absorb(&self, s: S, lane: usize, sums: &mut GroupSums<S>) {
        let packet = &self.packets[lane];
        let powers = packet.schedule.powers::<S>(packet.length.div_ceil(16) + 1, V);
        let mut own = Sums::zero(s);
        for (k, &x) in self.x[lane].iter().enumerate() {
            // SAFETY: these are powers for so many vectors.
            own.add(s, x, unsafe { powers.vector(s, k) });
        }
        sums.set(lane, own);
    }

    /// Takes in the AAD, and makes the tags.
    #[inline(always)]
    fn finish(&self, s: S, batch: &Batch<'_, '_, Schedule>, sums: &GroupSums<S>, tags: &mut Tags) {
        let mut sums = sums.fold(s);
        let aads = s.shuffle(batch.columns.aads.vector(s, self.shared.first), s.broadcast(&REVERSE));
        sums.add(s, aads, self.aad_powers);
        self.shared.finish(s, sums, batch.columns, tags);
    }
}

#[inline(always)]
fn groups<S: Simd, const OPEN: bool, const SAME: bool, const V: usize>(
    s: S,
    batch: &Batch<'_, '_, Schedule>,
    first: usize,
    packets: &[Packet<'_, Schedule>],
    tags: &mut Tags,
) {
    let mut sums = GroupSums::new(s);
    let mut groups = packets.chunks_exact(S::LANES);
    let Some(group) = groups.next() else { return };
    let mut number = first;
    let mut before = one::<S, OPEN, SAME, V>(s, batch, number, group, None, &mut sums);
    for group in groups {
        number += S::LANES;
        let next = one::<S, OPEN, SAME, V>(s, batch, number, group, Some(&before), &mut sums);
        before.finish(s, batch, &sums, tags);
        before = next;
    }
    for lane in 0..S::LANES {
        before.absorb(s, lane, &mut sums);
    }
    before.finish(s, batch, &sums, tags);
}

/// Encrypts or decrypts a group's texts, while GHASH takes in those of the group before.
#[inline(always)]
fn one<'a, S: Simd, const OPEN: bool, const SAME: bool, const V: usize>(
    s: S,
    batch: &Batch<'_, '_, Schedule>,
    first: usize,
    packets: &'a [Packet<'a, Schedule>],
    before: Option<&Before<'_, S, V>>,
    sums: &mut GroupSums<S>,
) -> Before<'a, S, V> {
    let columns = batch.columns;
    let schedule = packets[0].schedule;
    // `J0` of all packets in one vector, or of one packet each.
    let j0s = if SAME { 1 } else { S::LANES };
    let mut j0 = [s.zero(); 4];
    let mut state = [[s.zero(); V]; 4];
    for (lane, state) in state.iter_mut().enumerate().take(S::LANES) {
        *state = first_counters(s, packets[lane].schedule, s.broadcast(&columns.nonces.0[first + lane]));
    }
    for (lane, j0) in j0.iter_mut().enumerate().take(j0s) {
        let nonces = if SAME { columns.nonces.vector(s, first) } else { s.broadcast(&columns.nonces.0[first + lane]) };
        *j0 = s.xor(nonces, s.xor(s.counter(1_u32.to_be()), s.broadcast(packets[lane].schedule.round_key(0))));
    }
    // See `crate::aes::rounds`.
    let mut key = 1;
    if let Some(before) = before {
        for lane in 0..black_box(S::LANES) {
            round::<S, SAME, V>(s, packets, key, &mut state, &mut j0);
            before.absorb(s, lane, sums);
            key += 1;
        }
    }
    while key < schedule.rounds() {
        round::<S, SAME, V>(s, packets, key, &mut state, &mut j0);
        key += 1;
    }
    for (j0, packet) in j0.iter_mut().zip(packets).take(j0s) {
        *j0 = s.aes_last(*j0, s.broadcast(packet.schedule.last_key()));
    }
    let mut x = [[s.zero(); V]; 4];
    for (lane, (x, state)) in x.iter_mut().zip(&state).enumerate().take(S::LANES) {
        *x = Row::new(s, &packets[lane], &columns.nonces.0[first + lane]).text::<OPEN, true, V>(0, state);
    }
    let j0 = if SAME {
        j0[0]
    } else {
        let mut blocks = Lanes::zero();
        for (to, from) in blocks.0.iter_mut().zip(j0).take(S::LANES) {
            // SAFETY: a block is 16 bytes.
            unsafe { s.store_masked(to.as_mut_ptr(), s.mask(16), from) };
        }
        blocks.vector(s)
    };
    let h = if SAME { s.broadcast(schedule.power(1)) } else { each_power(s, packets, |_| 1) };
    let length = packets[0].length;
    let aad_powers = if SAME && packets.iter().all(|packet| packet.length == length) {
        s.broadcast(schedule.power(length.div_ceil(16) + 2))
    } else {
        each_power(s, packets, |packet| packet.length.div_ceil(16) + 2)
    };
    Before { packets, x, shared: Shared { j0, h, first }, aad_powers }
}

/// Counters of a text's first vectors, with the first round key added.
#[inline(always)]
fn first_counters<S: Simd, const V: usize>(s: S, schedule: &Schedule, nonce: S::V) -> [S::V; V] {
    let mut x = [nonce; V];
    for (x, counters) in x.iter_mut().zip(gcm::first_counters::<S, V>(s)) {
        *x = s.xor(*x, s.xor(counters, s.broadcast(schedule.round_key(0))));
    }
    x
}

/// A power of H of each packet.
#[inline(always)]
fn each_power<S: Simd>(s: S, packets: &[Packet<'_, Schedule>], exponent: impl Fn(&Packet<'_, Schedule>) -> usize) -> S::V {
    let mut powers = Lanes::zero();
    for (power, packet) in powers.0.iter_mut().zip(packets) {
        *power = *packet.schedule.power(exponent(packet));
    }
    powers.vector(s)
}

/// A round of AES of a whole group.
#[inline(always)]
fn round<S: Simd, const SAME: bool, const V: usize>(s: S, packets: &[Packet<'_, Schedule>], key: usize, state: &mut [[S::V; V]; 4], j0: &mut [S::V; 4]) {
    let same = s.broadcast(packets[0].schedule.round_key(key));
    for lane in 0..S::LANES {
        let key = if SAME { same } else { s.broadcast(packets[lane].schedule.round_key(key)) };
        for x in &mut state[lane] {
            *x = s.aes(*x, key);
        }
        if !SAME || lane == 0 {
            j0[lane] = s.aes(j0[lane], key);
        }
    }
}
