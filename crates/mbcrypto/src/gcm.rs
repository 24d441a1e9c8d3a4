//! AES-GCM (NIST SP 800-38D) of one packet after the other, on vectors of any width.
//!
//! # Cells
//! A packet is laid out as a row of blocks, the *cells*, numbered from zero:
//!
//! | cell | encrypted counter | what GHASH takes in |
//! | --- | --- | --- |
//! | 0 | not used | zero, or the first block of an AAD of two |
//! | 1 | `J0`, for the tag | zero, or the last block of the AAD |
//! | 2 ... n + 1 | `inc32(J0)` ... : the text's | the n blocks of ciphertext |
//! | n + 2 | not used | the length block |
//!
//! With nonces of 96 bits `J0` is the nonce and a counter of 1 (section 7.1 step 2), so that the number of a cell *is* its
//! counter; and blocks of zero in front do not change GHASH (section 6.4), so that the AAD may stand at the end of its two cells.
//! One vector thus has counters, AAD and text side by side without a case for any of them; where a packet's text
//! begins and ends, masks cut it out.
//!
//! # GHASH
//! GHASH of cells X_0 ... X_(m-1) is the sum of X_i H^(m-i) (section 6.4, expanded) in GF(2^128). Vectors are taken `N` at a
//! time, a *chunk*. In the last chunk every cell is multiplied with its own power. In chunks before, lanes are kept
//! apart: with w lanes, vector k of N is multiplied with H^(w(N-k)), the same in all lanes, and the result is added to the first
//! vector of the next chunk, where each lane is on its way to its power. Products are summed before they are reduced: one reduction
//! per chunk, and at a packet's end one for as many packets as a vector has lanes.
//!
//! Blocks are byte-reversed, which makes bit i of the standard's block (the coefficient of x^i) bit 127 - i of a 128-bit
//! number. The product of two such numbers is one bit short of that form for 255 bits; powers are kept multiplied with x^-1, which makes up for it
//! (S. Gueron, M. Kounavis: Intel Carry-Less Multiplication Instruction and its Usage for Computing the GCM Mode, 2014).

use crate::packet::{Block, Packet, Tags};
use crate::simd::Simd;
use crate::x86::Schedule;

/// Cells before the text.
const HEAD: usize = 2;

/// The polynomial x^128 + x^7 + x^2 + x + 1 without its first term, times x^-1, byte-reversed: bits 127 to 64 are the factor that reduction needs.
pub(crate) const POLYNOMIAL: Block = 0xc200_0000_0000_0000_0000_0000_0000_0001_u128.to_le_bytes();

/// Control of a shuffle that reverses the bytes of a block.
pub(crate) const REVERSE: Block = [15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0];

/// The counters 0 to 15, in their place in a counter block. A chunk's first cell, a multiple of 16 or of 8, has no bit in common with
/// those that are added to it.
static COUNTERS: Aligned<[Block; 16]> = Aligned({
    let mut blocks = [[0; 16]; 16];
    let mut i = 0;
    while i < 16 {
        blocks[i][15] = i as u8;
        i += 1;
    }
    blocks
});

/// Controls of a shuffle, to be loaded from block `3 - lane` on: in `lane`, bytes 0 to 5 of a word go to the low half and bytes 6 and 7 to
/// the high one; all else becomes zero.
static LENGTH_LANE: Aligned<[Block; 7]> = Aligned({
    let mut blocks = [[0x80; 16]; 7];
    blocks[3] = [0, 1, 2, 3, 4, 5, 0x80, 0x80, 6, 7, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80];
    blocks
});

#[repr(align(64))]
struct Aligned<T>(T);

/// Most vectors in a packet's last chunk.
const MOST: usize = 9;

/// Most vectors of packets that are encrypted two at a time.
const SHORT: usize = 3;

/// Calls a method with `$count`, 1 to 5 with four lanes and 1 to 9 with fewer, as its last constant argument.
macro_rules! by_count {
    ($count:expr, |$n:ident| $call:expr) => {
        match $count {
            1 => by_count!(@1, $n, $call),
            2 => by_count!(@2, $n, $call),
            3 => by_count!(@3, $n, $call),
            4 => by_count!(@4, $n, $call),
            _ if S::LANES == 4 => by_count!(@5, $n, $call),
            5 => by_count!(@5, $n, $call),
            6 => by_count!(@6, $n, $call),
            7 => by_count!(@7, $n, $call),
            8 => by_count!(@8, $n, $call),
            _ => by_count!(@9, $n, $call),
        }
    };
    (@$value:literal, $n:ident, $call:expr) => {{
        const $n: usize = $value;
        $call
    }};
}

/// The same for short packets: 1 to [`SHORT`], and 10 or 14 rounds.
macro_rules! by_short_count {
    ($count:expr, $rounds:expr, |$n:ident, $r:ident| $call:expr) => {
        match ($count, $rounds) {
            (1, 10) => by_short_count!(@1, 10, $n, $r, $call),
            (2, 10) => by_short_count!(@2, 10, $n, $r, $call),
            (_, 10) => by_short_count!(@SHORT, 10, $n, $r, $call),
            (1, _) => by_short_count!(@1, 14, $n, $r, $call),
            (2, _) => by_short_count!(@2, 14, $n, $r, $call),
            (_, _) => by_short_count!(@SHORT, 14, $n, $r, $call),
        }
    };
    (@$count:tt, $rounds:tt, $n:ident, $r:ident, $call:expr) => {{
        const $n: usize = $count;
        const $r: usize = $rounds;
        $call
    }};
}

/// Seals or opens `packets`, and writes the tag of each, all 16 bytes.
///
/// `N` is the number of vectors in a chunk: `N` times the lanes is at most 16, a power of two, and at least 4.
///
/// What overlaps, so that neither the unit for AES nor that for multiplication waits: short packets of the same number of
/// vectors are encrypted in step, two of them; and the last chunk of a longer packet goes through GHASH while the next
/// packet is being encrypted. GHASH has to wait for ciphertext, the next packet's encryption has not, and the
/// processor does not look far enough ahead to find it by itself.
#[inline(always)]
pub(crate) fn run<S: Simd, const OPEN: bool, const N: usize>(s: S, packets: &mut [Packet<'_, Schedule>], tags: &mut Tags) {
    let chunk = N * S::LANES;
    // The last chunk may be longer than others, so that the text's end is in no other, and that it has at least a vector of cells.
    let longest_last = chunk + (S::LANES - 1).max(1);
    let mut group = Group { sums: GroupSums::new(s), filled: 0, tags: &mut tags.0 };
    let mut ending: Option<Ending<'_, S>> = None;
    let mut key_stream = [s.zero(); MOST];
    let mut x = [s.zero(); MOST];
    let mut rest = &*packets;
    while let [packet, after @ ..] = rest {
        let cells = cells(packet);
        let single = cells <= longest_last;
        let vectors = if single { cells.div_ceil(S::LANES) } else { N };
        // As many short ones as make a group of their own, unless one is half done.
        if vectors <= SHORT
            && S::LANES > 1
            && (group.filled + usize::from(ending.is_some())).is_multiple_of(S::LANES)
            && let Some((short, after)) = rest.split_at_checked(alike::<S>(rest, vectors))
            && !short.is_empty()
        {
            if let Some(ending) = ending.take() {
                group.add(s, &ending.multiply(s, &x));
            }
            let rounds = packet.schedule.rounds();
            if short.iter().all(|other| core::ptr::eq(other.schedule, packet.schedule)) {
                by_short_count!(vectors, rounds, |M, ROUNDS| short_ones::<S, OPEN, true, M, ROUNDS>(s, short, &mut group));
            } else {
                by_short_count!(vectors, rounds, |M, ROUNDS| short_ones::<S, OPEN, false, M, ROUNDS>(s, short, &mut group));
            }
            rest = after;
            continue;
        }
        rest = after;
        let walk = Walk::new(s, packet);
        by_count!(vectors, |M| put(&mut key_stream, &walk.key_stream::<M>(0)));
        if let Some(ending) = &ending {
            group.add(s, &ending.multiply(s, &x));
        }
        let j0 = walk.j0(&key_stream);
        let mut cell = 0;
        if single {
            by_count!(vectors, |M| put(&mut x, &walk.only::<OPEN, M>(take(&key_stream))));
        } else {
            let mut before = walk.first::<OPEN, N>(take(&key_stream));
            cell = chunk;
            while cells - cell > longest_last {
                before = walk.middle::<OPEN, N>(cell, &before);
                cell += chunk;
            }
            by_count!((cells - cell).div_ceil(S::LANES), |M| put(&mut x, &walk.last::<OPEN, N, M>(cell, &before)));
        }
        ending = Some(Ending { j0, schedule: packet.schedule, cells: cells - cell });
    }
    if let Some(ending) = ending {
        group.add(s, &ending.multiply(s, &x));
    }
    group.finish(s);
}

/// Short packets that make whole groups, two of them in step; their keys are of `ROUNDS` rounds, and all are the same key if `SAME`: then its
/// round keys stay in registers. While two are being encrypted, GHASH takes in the two before.
#[inline(always)]
fn short_ones<S: Simd, const OPEN: bool, const SAME: bool, const N: usize, const ROUNDS: usize>(
    s: S,
    packets: &[Packet<'_, Schedule>],
    group: &mut Group<'_, S>,
) {
    let (pairs, _) = packets.as_chunks::<2>();
    let Some((mut before, after)) = pairs.split_first() else { return };
    let mut keys = [s.zero(); 15];
    if SAME {
        for (i, key) in keys.iter_mut().enumerate().take(ROUNDS + 1) {
            *key = s.broadcast(before[0].schedule.round_key(i));
        }
    }
    let mut streams = two_streams::<S, SAME, N, ROUNDS>(s, &keys, before);
    for now in after {
        let next = two_streams::<S, SAME, N, ROUNDS>(s, &keys, now);
        two_sums::<S, OPEN, N>(s, before, &streams, group);
        (before, streams) = (now, next);
    }
    two_sums::<S, OPEN, N>(s, before, &streams, group);
}

#[inline(always)]
fn two_streams<S: Simd, const SAME: bool, const N: usize, const ROUNDS: usize>(s: S, keys: &[S::V; 15], packets: &[Packet<'_, Schedule>; 2]) -> [[S::V; N]; 2] {
    let [one, other] = packets;
    let mut streams = [Walk::new(s, one).counters::<N>(0), Walk::new(s, other).counters::<N>(0)];
    for (i, &kept) in keys.iter().enumerate().take(ROUNDS + 1).skip(1) {
        for (x, packet) in streams.iter_mut().zip(packets) {
            let key = if SAME { kept } else { s.broadcast(packet.schedule.round_key(i)) };
            for x in x.iter_mut() {
                *x = if i < ROUNDS { s.aes(*x, key) } else { s.aes_last(*x, key) };
            }
        }
    }
    streams
}

#[inline(always)]
fn two_sums<S: Simd, const OPEN: bool, const N: usize>(
    s: S,
    [one, other]: &[Packet<'_, Schedule>; 2],
    [stream, other_stream]: &[[S::V; N]; 2],
    group: &mut Group<'_, S>,
) {
    let (one, other) = (Walk::new(s, one), Walk::new(s, other));
    let x = one.only::<OPEN, N>(stream);
    let y = other.only::<OPEN, N>(other_stream);
    group.sums.set(group.filled, multiply_last(s, one.packet.schedule, one.cells, &x).plus(s, one.j0(stream)));
    group.sums.set(group.filled + 1, multiply_last(s, other.packet.schedule, other.cells, &y).plus(s, other.j0(other_stream)));
    group.filled += 2;
    if group.filled == S::LANES {
        group.finish(s);
    }
}

/// Cells of a packet.
#[inline(always)]
fn cells(packet: &Packet<'_, Schedule>) -> usize {
    HEAD + packet.length.div_ceil(16) + 1
}

/// How many packets from the first on have keys of the same length, 16 or 32 bytes, and are of so many vectors: whole groups only.
#[inline(always)]
fn alike<S: Simd>(packets: &[Packet<'_, Schedule>], vectors: usize) -> usize {
    let rounds = packets.first().map_or(12, |packet| packet.schedule.rounds());
    if rounds == 12 {
        return 0;
    }
    let same = |packet: &&Packet<'_, Schedule>| cells(packet).div_ceil(S::LANES) == vectors && packet.schedule.rounds() == rounds;
    let count = packets.iter().take_while(same).count();
    count - count % S::LANES
}

#[inline(always)]
fn put<V: Copy>(to: &mut [V], from: &[V]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

#[inline(always)]
fn take<V, const M: usize>(from: &[V]) -> &[V; M] {
    from.first_chunk().expect("there is room for the vectors of the longest chunk, and for those of a bundle")
}

/// A packet of which GHASH has yet to take in the last chunk.
struct Ending<'a, S: Simd> {
    j0: S::V,
    schedule: &'a Schedule,
    /// Cells in it.
    cells: usize,
}

impl<S: Simd> Ending<'_, S> {
    #[inline(always)]
    fn multiply(&self, s: S, x: &[S::V; MOST]) -> Sums<S> {
        by_count!(self.cells.div_ceil(S::LANES), |M| multiply_last::<S, M>(s, self.schedule, self.cells, take(x)).plus(s, self.j0))
    }
}

/// The last chunk: every cell has its own power.
#[inline(always)]
fn multiply_last<S: Simd, const N: usize>(s: S, schedule: &Schedule, cells: usize, x: &[S::V; N]) -> Sums<S> {
    let mut sums = Sums::zero(s);
    for (k, &x) in x.iter().enumerate() {
        sums.add(s, x, schedule.powers_from(s, cells - S::LANES * k));
    }
    sums
}

/// Packets whose tags are made together, as many as a vector has lanes.
struct Group<'a, S: Simd> {
    sums: GroupSums<S>,
    filled: usize,
    tags: &'a mut [Block],
}

impl<S: Simd> Group<'_, S> {
    #[inline(always)]
    fn add(&mut self, s: S, sums: &Sums<S>) {
        self.sums.set(self.filled, *sums);
        self.filled += 1;
        if self.filled == S::LANES {
            self.finish(s);
        }
    }

    #[inline(always)]
    fn finish(&mut self, s: S) {
        if self.filled > 0
            && let Some((tags, rest)) = core::mem::take(&mut self.tags).split_at_mut_checked(S::LANES)
        {
            self.sums.finish(s, tags);
            self.tags = rest;
            self.filled = 0;
        }
    }
}

/// What stays the same from a packet's first to its last cell.
struct Walk<'a, S: Simd> {
    s: S,
    packet: &'a Packet<'a, Schedule>,
    /// Counter block 0, with the first round key added.
    whitened: S::V,
    reverse: S::V,
    cells: usize,
}

impl<'a, S: Simd> Walk<'a, S> {
    #[inline(always)]
    fn new(s: S, packet: &'a Packet<'a, Schedule>) -> Self {
        let whitened = s.xor(s.broadcast(&packet.nonce), s.broadcast(packet.schedule.round_key(0)));
        Self { s, packet, whitened, reverse: s.broadcast(&REVERSE), cells: cells(packet) }
    }

    /// A packet's only chunk. Like those below it returns what GHASH is to take in.
    #[inline(always)]
    fn only<const OPEN: bool, const N: usize>(&self, key_stream: &[S::V; N]) -> [S::V; N] {
        let mut x = self.text::<OPEN, N, true, true>(0, key_stream);
        self.add_length(&mut x);
        x
    }

    /// The first of several chunks.
    #[inline(always)]
    fn first<const OPEN: bool, const N: usize>(&self, key_stream: &[S::V; N]) -> [S::V; N] {
        self.text::<OPEN, N, true, false>(0, key_stream)
    }

    /// A chunk that is all text, while GHASH takes in the one before.
    #[inline(always)]
    fn middle<const OPEN: bool, const N: usize>(&self, cell: usize, before: &[S::V; N]) -> [S::V; N] {
        let mut key_stream = self.counters::<N>(cell);
        let carry = self.encrypt_and_multiply(&mut key_stream, before);
        let mut x = self.text::<OPEN, N, false, false>(cell, &key_stream);
        x[0] = self.s.xor(x[0], carry);
        x
    }

    /// The last of several chunks.
    #[inline(always)]
    fn last<const OPEN: bool, const N: usize, const M: usize>(&self, cell: usize, before: &[S::V; N]) -> [S::V; M] {
        let mut key_stream = self.counters::<M>(cell);
        let carry = self.encrypt_and_multiply(&mut key_stream, before);
        let mut x = self.text::<OPEN, M, false, true>(cell, &key_stream);
        self.add_length(&mut x);
        x[0] = self.s.xor(x[0], carry);
        x
    }

    /// Encrypted counters of the cells from `cell` on, a chunk's first.
    #[inline(always)]
    fn key_stream<const N: usize>(&self, cell: usize) -> [S::V; N] {
        let s = self.s;
        let mut x = self.counters(cell);
        for key in first_rounds(s, self.packet.schedule, &mut x) {
            round(s, key, &mut x);
        }
        last_round(s, self.packet.schedule.last_key(), &mut x);
        x
    }

    /// The same for counters of one chunk, while GHASH takes in the chunk `before`, which is not the last: there vectors are multiplied
    /// with the same power in all lanes. The two have nothing to do with each other; written in turns, they keep both of the
    /// processor's units busy. Returns what is to be added to the next chunk's first vector.
    #[inline(always)]
    fn encrypt_and_multiply<const M: usize, const N: usize>(&self, counters: &mut [S::V; M], before: &[S::V; N]) -> S::V {
        let (s, schedule) = (self.s, self.packet.schedule);
        let mut sums = Sums::zero(s);
        for (i, key) in first_rounds(s, schedule, counters).iter().enumerate() {
            round(s, key, counters);
            if let Some(&x) = before.get(i) {
                sums.add(s, x, s.broadcast(schedule.power(S::LANES * (N - i))));
            }
        }
        let carry = sums.reduce(s);
        last_round(s, schedule.last_key(), counters);
        carry
    }

    /// Counters of the cells from `cell` on, a chunk's first, with the first round key added.
    #[inline(always)]
    fn counters<const N: usize>(&self, cell: usize) -> [S::V; N] {
        let s = self.s;
        let base = |cell: usize| if cell == 0 { self.whitened } else { s.xor(self.whitened, s.counter((cell as u32).to_be())) };
        let mut x = [base(cell); N];
        for (k, x) in x.iter_mut().enumerate() {
            let first = k * S::LANES;
            if first == COUNTERS.0.len() {
                *x = base(cell + first);
            }
            let from = COUNTERS.0[first % COUNTERS.0.len()].as_ptr();
            // SAFETY: `first` is a multiple of the lanes and so is the table's length: there is a vector from there.
            *x = s.xor(*x, unsafe { s.load(from) });
        }
        x
    }

    /// Encrypts or decrypts the text in a chunk and returns its ciphertext, byte-reversed, with the AAD before it.
    #[inline(always)]
    fn text<const OPEN: bool, const N: usize, const FIRST: bool, const LAST: bool>(&self, cell: usize, key_stream: &[S::V; N]) -> [S::V; N] {
        let s = self.s;
        let vector_length = 16 * S::LANES;
        let mut x = [s.zero(); N];
        for (k, (x, &key_stream)) in x.iter_mut().zip(key_stream).enumerate() {
            let before_text = FIRST && k * S::LANES < HEAD;
            // Nothing but the cells before the text, or nothing but the length block.
            if (before_text && (k + 1) * S::LANES <= HEAD) || (LAST && k + 1 == N && (S::LANES == 1 || (S::LANES == 2 && N == 9))) {
                if before_text {
                    *x = s.shuffle(self.aad(vector_length * k), self.reverse);
                }
                continue;
            }
            // Place in the text of the vector's first byte: before its beginning if this is the first vector.
            let offset = (16 * (cell + k * S::LANES)).wrapping_sub(16 * HEAD);
            let from = self.packet.source.wrapping_add(offset);
            let to = self.packet.destination.wrapping_add(offset);
            let ciphertext = if before_text || (LAST && k + 2 >= N) {
                let low = if before_text { 16 * HEAD } else { 0 };
                let high = if LAST {
                    // As many bytes as are left; none, where the length block is in a vector of its own.
                    (self.packet.length + 16 * HEAD).saturating_sub(16 * (cell + k * S::LANES)).min(vector_length)
                } else {
                    vector_length
                };
                let mask = s.mask(low, high);
                // SAFETY: the masked bytes are in the text, `Packet::source`.
                let input = unsafe { s.load_masked(from, mask) };
                let output = s.xor(input, key_stream);
                // SAFETY: the masked bytes are in the text, `Packet::destination`.
                unsafe { s.store_masked(to, mask, output) };
                let ciphertext = if OPEN { input } else { output };
                if before_text {
                    s.merge(self.aad(vector_length * k), mask, ciphertext)
                } else if OPEN {
                    input
                } else {
                    s.keep(mask, output)
                }
            } else {
                // SAFETY: only a packet's first vector, its last and the one before have other cells than text: this is in `Packet::source`.
                let input = unsafe { s.load(from) };
                let output = s.xor(input, key_stream);
                // SAFETY: as above, of `Packet::destination`.
                unsafe { s.store(to, output) };
                if OPEN { input } else { output }
            };
            *x = s.shuffle(ciphertext, self.reverse);
        }
        x
    }

    /// A vector of cells 0 and 1, the AAD, from byte `offset` on.
    #[inline(always)]
    fn aad(&self, offset: usize) -> S::V {
        let s = self.s;
        // One block at most stands in cell 1; otherwise it begins in cell 0.
        let begin = if self.packet.aad_length <= 16 { 16 } else { 0 };
        let end = begin + self.packet.aad_length;
        let mask = if S::LANES == 1 {
            let low = begin.saturating_sub(offset).min(16);
            s.mask(low, end.saturating_sub(offset).clamp(low, 16))
        } else {
            s.mask(begin, end)
        };
        // SAFETY: the masked bytes are `begin..end` of the cells, the AAD.
        unsafe { s.load_masked(self.packet.aad.wrapping_sub(begin).wrapping_add(offset), mask) }
    }

    /// Puts the length block, 64 bits of each length in bits, into the last cell (section 7.1 step 5).
    #[inline(always)]
    fn add_length<const N: usize>(&self, x: &mut [S::V; N]) {
        let s = self.s;
        // A text has less than 2^40 bits, an AAD at most 2^8: one word holds both.
        let lengths = s.splat((self.packet.length as u64 * 8) | ((self.packet.aad_length as u64 * 8) << 48));
        let lane = (self.cells - 1) % S::LANES;
        // SAFETY: a lane is less than 4, and a vector is at most 4 of the 7 blocks: from block 3 - 3 or from block 3 on.
        let control = unsafe { s.load(LENGTH_LANE.0.as_ptr().wrapping_add(3 - lane).cast()) };
        x[N - 1] = s.xor(x[N - 1], s.shuffle(lengths, control));
    }

    /// The encrypted `J0` out of a packet's first vectors, byte-reversed and zero in all other lanes. It has no part in any product, so
    /// adding it to the high half of the sums adds it to the tag (section 7.1 step 6).
    #[inline(always)]
    fn j0(&self, key_stream: &[S::V]) -> S::V {
        let place = 16 * (1 % S::LANES);
        self.s.keep(self.s.mask(place, place + 16), self.s.shuffle(key_stream[1 / S::LANES], self.reverse))
    }
}

/// A round of AES (FIPS 197 section 5.1), several vectors in step.
#[inline(always)]
fn round<S: Simd, const N: usize>(s: S, key: &Block, x: &mut [S::V; N]) {
    let key = s.broadcast(key);
    for x in x.iter_mut() {
        *x = s.aes(*x, key);
    }
}

/// The rounds that longer keys have more, so that there is no branch in the rest. Returns the keys of the nine rounds before the last.
#[inline(always)]
fn first_rounds<'a, S: Simd, const N: usize>(s: S, schedule: &'a Schedule, x: &mut [S::V; N]) -> &'a [Block; 9] {
    let more = schedule.rounds() - 10;
    if more > 0 {
        round(s, schedule.round_key(1), x);
        round(s, schedule.round_key(2), x);
        if more > 2 {
            round(s, schedule.round_key(3), x);
            round(s, schedule.round_key(4), x);
        }
    }
    schedule.nine_keys(more)
}

/// The last round.
#[inline(always)]
fn last_round<S: Simd, const N: usize>(s: S, key: &Block, x: &mut [S::V; N]) {
    let key = s.broadcast(key);
    for x in x.iter_mut() {
        *x = s.aes_last(*x, key);
    }
}

/// Encrypts a vector of blocks.
#[inline(always)]
pub(crate) fn encrypt<S: Simd>(s: S, schedule: &Schedule, block: S::V) -> S::V {
    let mut x = [s.xor(block, s.broadcast(schedule.round_key(0)))];
    for key in first_rounds(s, schedule, &mut x) {
        round(s, key, &mut x);
    }
    last_round(s, schedule.last_key(), &mut x);
    x[0]
}

/// Products of 128 by 128 bits, summed but not reduced: `low + middle x^64 + high x^128`.
#[derive(Clone, Copy)]
pub(crate) struct Sums<S: Simd> {
    pub(crate) low: S::V,
    pub(crate) middle: S::V,
    pub(crate) high: S::V,
}

impl<S: Simd> Sums<S> {
    #[inline(always)]
    pub(crate) fn zero(s: S) -> Self {
        Self { low: s.zero(), middle: s.zero(), high: s.zero() }
    }

    /// Adds `x` times `power`, lane by lane.
    #[inline(always)]
    pub(crate) fn add(&mut self, s: S, x: S::V, power: S::V) {
        self.low = s.xor(self.low, s.multiply::<0x00>(x, power));
        self.middle = s.xor(self.middle, s.xor(s.multiply::<0x01>(x, power), s.multiply::<0x10>(x, power)));
        self.high = s.xor(self.high, s.multiply::<0x11>(x, power));
    }

    /// With `block` added to what it will be when it has been reduced.
    #[inline(always)]
    fn plus(self, s: S, block: S::V) -> Self {
        Self { high: s.xor(self.high, block), ..self }
    }

    /// The remainder modulo the field's polynomial, lane by lane: Montgomery's way, 64 bits at a time from below. A multiple of the
    /// polynomial that has the same low half makes that half zero; what it adds above is the half itself, 64 and 128 bits
    /// further up, and its product with the polynomial's middle.
    #[inline(always)]
    pub(crate) fn reduce(self, s: S) -> S::V {
        let polynomial = s.broadcast(&POLYNOMIAL);
        let middle = s.xor(self.middle, s.xor(s.swap_halves(self.low), s.multiply::<0x01>(polynomial, self.low)));
        s.xor(self.high, s.xor(s.swap_halves(middle), s.multiply::<0x01>(polynomial, middle)))
    }
}

/// The sums of as many packets as a vector has lanes.
pub(crate) struct GroupSums<S: Simd> {
    low: [S::V; 4],
    middle: [S::V; 4],
    high: [S::V; 4],
}

impl<S: Simd> GroupSums<S> {
    #[inline(always)]
    pub(crate) fn new(s: S) -> Self {
        Self { low: [s.zero(); 4], middle: [s.zero(); 4], high: [s.zero(); 4] }
    }

    #[inline(always)]
    pub(crate) fn set(&mut self, lane: usize, sums: Sums<S>) {
        self.low[lane] = sums.low;
        self.middle[lane] = sums.middle;
        self.high[lane] = sums.high;
    }

    /// Adds up each packet's lanes, reduces all packets at once, and writes their tags: `LANES` blocks.
    #[inline(always)]
    pub(crate) fn finish(&self, s: S, tags: &mut [Block]) {
        let sums = Sums::<S> { low: s.fold(&self.low), middle: s.fold(&self.middle), high: s.fold(&self.high) };
        let reduced = s.shuffle(sums.reduce(s), s.broadcast(&REVERSE));
        assert!(tags.len() == S::LANES, "a group has as many tags as a vector has lanes");
        // SAFETY: as many blocks as a vector has.
        unsafe { s.store(tags.as_mut_ptr().cast(), reduced) };
    }
}
