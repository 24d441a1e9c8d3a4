//! AES-GCM (NIST SP 800-38D) of one packet after the other, on vectors of any width.
//!
//! # Rows and groups
//! A text is a row of vectors: with w lanes, vector k has blocks wk to wk + w - 1, and their counters begin with
//! wk + 2 (section 7.1: with a nonce of 96 bits `J0` has counter 1). Only its last vector can be partial; a mask cuts it off.
//!
//! Of everything else a packet has one block: `J0`, the AAD, the length block, the tag. A *group* is as many packets as a vector has
//! lanes, and these blocks of a group are a vector, one lane for each packet. So a packet of 64 bytes is one vector and a share
//! in some that it would otherwise need alone.
//!
//! # GHASH
//! Of AAD, text blocks X_0 ... X_(n-1) and length block L it is, expanded,
//! Y H^(n+1) + sum of X_i H^(n+1-i) + L H, where Y = AAD H (section 6.4): Y is added to X_0, and L H to the text's sum.
//!
//! A text is cut into as few *chunks* of at most [`most`] vectors as there can be. In a chunk every block is multiplied with its own power, the
//! last one with H^2 if the text ends there, for the length block is to come, with H if not. Products are summed before they
//! are reduced; the sum of a chunk before the last is added to the next one's first block. There is one reduction per
//! chunk, and at the end one for a whole group.
//!
//! # What overlaps
//! While a chunk is being encrypted, GHASH takes in the one before, be it of the same packet or of the packet before: the two have
//! nothing to do with each other, and written in turns they keep both of the processor's units busy. It does not look far enough ahead to
//! find that by itself. Groups of short packets are encrypted all packets in step ([`crate::short`]).

use crate::aes::{encrypt, rounds};
use crate::ghash::{GroupSums, REVERSE, Sums};
use crate::packet::{Batch, Block, Column, Columns, Packet, Tags, erase};
use crate::short;
use crate::simd::Simd;
use crate::x86::{Powers, Schedule};

/// Most vectors in a chunk: with fewer lanes there are fewer registers.
const fn most(lanes: usize) -> usize {
    if lanes == 4 { MOST } else { 8 }
}

/// Most vectors in any path's chunk.
const MOST: usize = 12;

/// Counters before the text's first.
const HEAD: usize = 2;

/// Counters that have their last seven bits from a table.
const TABLE: usize = 128;

/// The counters 0 to 127, and 0 to 3, in their place in a counter block, beginning with the third; the text's first is aligned.
static COUNTERS: Aligned<[Block; TABLE + 8]> = Aligned({
    let mut blocks = [[0; 16]; TABLE + 8];
    let mut i = 0;
    while i < TABLE + 4 {
        blocks[i + 2][15] = (i % TABLE) as u8;
        i += 1;
    }
    blocks
});

/// For vectors.
#[repr(align(64))]
struct Aligned<T>(T);

/// Calls a method with `$count`, 1 to [`most`], as its last constant argument.
macro_rules! by_count {
    ($count:expr, |$n:ident| $call:expr) => {
        match $count {
            1 => by_count!(@1, $n, $call),
            2 => by_count!(@2, $n, $call),
            3 => by_count!(@3, $n, $call),
            4 => by_count!(@4, $n, $call),
            5 => by_count!(@5, $n, $call),
            6 => by_count!(@6, $n, $call),
            7 => by_count!(@7, $n, $call),
            _ if S::LANES < 4 => by_count!(@8, $n, $call),
            8 => by_count!(@8, $n, $call),
            9 => by_count!(@9, $n, $call),
            10 => by_count!(@10, $n, $call),
            11 => by_count!(@11, $n, $call),
            _ => by_count!(@12, $n, $call),
        }
    };
    (@$value:literal, $n:ident, $call:expr) => {{
        const $n: usize = $value;
        $call
    }};
}

/// The same for chunks before the last one, [`before_last`].
macro_rules! by_large_count {
    ($count:expr, |$n:ident| $call:expr) => {
        match $count {
            _ if S::LANES < 4 => by_count!(@8, $n, $call),
            8 => by_count!(@8, $n, $call),
            10 => by_count!(@10, $n, $call),
            _ => by_count!(@12, $n, $call),
        }
    };
}

/// Vectors of the chunks before a text's last: there are as few chunks as there can be, and the last one is not much shorter.
#[inline(always)]
fn before_last(lanes: usize, vectors: usize) -> usize {
    let chunks = vectors.div_ceil(most(lanes));
    if lanes == 4 { vectors.div_ceil(chunks).next_multiple_of(2) } else { most(lanes) }
}

/// Seals or opens the packets of `batch`, and writes the tag of each, all 16 bytes.
#[inline(always)]
pub(crate) fn run<S: Simd, const OPEN: bool>(s: S, batch: &Batch<'_, '_, Schedule>, tags: &mut Tags) {
    let packets = &*batch.packets;
    let Some(packet) = packets.first() else { return };
    let mut x = [s.zero(); MOST];
    // Nothing, at first.
    let mut ending = Ending { schedule: packet.schedule, blocks: 0, vectors: 0, lane: 0, ends_group: false };
    let mut group = Group { sums: GroupSums::new(s), shared: Shared { j0: s.zero(), h: s.zero(), first: 0 }, columns: batch.columns, tags };
    // Y of a group's packets: what their AAD makes of H, so it is erased, too.
    let mut y = Lanes::zero();
    let mut first = 0;
    while let Some(members) = packets.get(first..packets.len().min(first + S::LANES))
        && !members.is_empty()
    {
        let alike = short::alike::<S>(batch, first);
        if alike > 0 {
            let sums = ending.multiply(s, &x);
            group.end(s, &ending, sums);
            ending.vectors = 0;
            ending.ends_group = false;
            short::run::<S, OPEN>(s, batch, first..first + alike, group.tags);
            first += alike;
            continue;
        }
        let shared = Shared::new(s, batch.columns, first, members, &mut y);
        for (lane, packet) in members.iter().enumerate() {
            let row = Row::new(s, packet, &batch.columns.nonces.0[first + lane]);
            let from_aad = s.first_lane(&y.0[lane]);
            let blocks = packet.length.div_ceil(16);
            let vectors = vectors::<S>(packet);
            let each = if vectors <= most(S::LANES) { vectors } else { before_last(S::LANES, vectors) };
            // While the first chunk is being encrypted GHASH takes in the last one of the packet before.
            let mut powers = ending.powers::<S>();
            let mut earlier = ending.vectors;
            let mut at = 0;
            while vectors - at > each {
                let sums = by_large_count!(each, |M| row.chunk::<OPEN, false, M>(at, &mut x, earlier, powers));
                if at == 0 {
                    group.end(s, &ending, sums);
                    x[0] = s.xor(x[0], from_aad);
                    powers = packet.schedule.powers::<S>(each * S::LANES, each);
                    earlier = each;
                } else {
                    x[0] = s.xor(x[0], sums.reduce_to_one(s));
                }
                at += each;
            }
            let sums = by_count!(vectors - at, |M| row.chunk::<OPEN, true, M>(at, &mut x, earlier, powers));
            if at == 0 {
                group.end(s, &ending, sums);
                x[0] = s.xor(x[0], from_aad);
            } else {
                x[0] = s.xor(x[0], sums.reduce_to_one(s));
            }
            if lane == 0 {
                group.shared = shared;
            }
            let (blocks, vectors) = (blocks - at * S::LANES, vectors - at);
            ending = Ending { schedule: packet.schedule, blocks, vectors, lane, ends_group: lane + 1 == members.len() };
        }
        first += S::LANES;
    }
    let sums = ending.multiply(s, &x);
    group.end(s, &ending, sums);
}

/// A packet of which GHASH has yet to take in the last chunk.
struct Ending<'a> {
    schedule: &'a Schedule,
    /// Blocks in it.
    blocks: usize,
    /// Vectors in it.
    vectors: usize,
    /// Place in its group.
    lane: usize,
    /// Whether it is the last of its group.
    ends_group: bool,
}

impl<'a> Ending<'a> {
    /// H itself is the length block's.
    #[inline(always)]
    fn powers<S: Simd>(&self) -> Powers<'a> {
        self.schedule.powers::<S>(self.blocks + 1, self.vectors)
    }

    #[inline(always)]
    fn multiply<S: Simd>(&self, s: S, x: &[S::V; MOST]) -> Sums<S> {
        let mut sums = Sums::zero(s);
        let powers = self.powers::<S>();
        for (i, &x) in x.iter().enumerate().take(self.vectors) {
            // SAFETY: these are powers for so many vectors.
            sums.add(s, x, unsafe { powers.vector(s, i) });
        }
        sums
    }
}

/// A group that is being worked on.
struct Group<'a, S: Simd> {
    sums: GroupSums<S>,
    shared: Shared<S>,
    columns: &'a Columns,
    tags: &'a mut Tags,
}

impl<S: Simd> Group<'_, S> {
    /// Takes what became of a packet; with the last of the group its tags are made.
    #[inline(always)]
    fn end(&mut self, s: S, ending: &Ending<'_>, sums: Sums<S>) {
        self.sums.set(ending.lane, sums);
        if ending.ends_group {
            self.shared.finish(s, self.sums.fold(s), self.columns, self.tags);
        }
    }
}

/// What a group's packets have a lane each of.
#[derive(Clone, Copy)]
pub(crate) struct Shared<S: Simd> {
    /// `J0`, encrypted.
    pub(crate) j0: S::V,
    /// H.
    pub(crate) h: S::V,
    /// The first packet's number.
    pub(crate) first: usize,
}

/// A block for each packet of a group: H, or what was made with it or with a key. Erased when it is done with.
#[repr(align(64))]
pub(crate) struct Lanes(pub(crate) [Block; 4]);

impl Drop for Lanes {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.iter_mut().for_each(erase);
    }
}

impl<S: Simd> Shared<S> {
    /// Of the group `members`, whose first packet is number `first`; writes Y of each.
    #[inline(always)]
    fn new(s: S, columns: &Columns, first: usize, members: &[Packet<'_, Schedule>], y: &mut Lanes) -> Self {
        let same = members.iter().all(|other| core::ptr::eq(other.schedule, members[0].schedule));
        let one = s.counter(1_u32.to_be());
        let (j0, h) = if same {
            let schedule = members[0].schedule;
            (encrypt(s, schedule, s.xor(columns.nonces.vector(s, first), one)), s.broadcast(schedule.power(1)))
        } else {
            let mut j0 = Lanes::zero();
            let mut h = Lanes::zero();
            for (lane, packet) in members.iter().enumerate() {
                let block = encrypt(s, packet.schedule, s.xor(s.broadcast(&columns.nonces.0[first + lane]), one));
                let mask = s.mask(16);
                // SAFETY: a block is 16 bytes.
                unsafe { s.store_masked(j0.0[lane].as_mut_ptr(), mask, block) };
                h.0[lane] = *packet.schedule.power(1);
            }
            (j0.vector(s), h.vector(s))
        };
        aad(s, columns, first, members, h, y);
        Self { j0, h, first }
    }

    /// Takes in the length blocks, reduces the sums of all packets at once, and writes their tags.
    #[inline(always)]
    pub(crate) fn finish(&self, s: S, mut sums: Sums<S>, columns: &Columns, tags: &mut Tags) {
        sums.add(s, columns.lengths.vector(s, self.first), self.h);
        let tag = s.xor(s.shuffle(sums.reduce(s), s.broadcast(&REVERSE)), self.j0);
        tags.set_vector(s, self.first, tag);
    }
}

/// Y = AAD H of each packet of a group. A block of zero in front of an AAD's last changes nothing: so those of two blocks may stand beside others.
#[inline(always)]
fn aad<S: Simd>(s: S, columns: &Columns, first: usize, members: &[Packet<'_, Schedule>], h: S::V, y: &mut Lanes) {
    let reverse = s.broadcast(&REVERSE);
    let mut block = s.shuffle(columns.aads.vector(s, first), reverse);
    if columns.long_aads >> first & ((1 << S::LANES) - 1) != 0 {
        let mut blocks = Lanes::zero();
        for (block, packet) in blocks.0.iter_mut().zip(members) {
            if let Some(head) = packet.aad_head {
                *block = *head;
            }
        }
        block = s.xor(block, multiply(s, s.shuffle(blocks.vector(s), reverse), h));
    }
    // SAFETY: a vector is at most four blocks.
    unsafe { s.store(y.0.as_mut_ptr().cast(), multiply(s, block, h)) };
}

#[inline(always)]
fn multiply<S: Simd>(s: S, x: S::V, power: S::V) -> S::V {
    let mut sums = Sums::zero(s);
    sums.add(s, x, power);
    sums.reduce(s)
}

impl Lanes {
    #[inline(always)]
    pub(crate) const fn zero() -> Self {
        Self([[0; 16]; 4])
    }

    #[inline(always)]
    pub(crate) fn vector<S: Simd>(&self, s: S) -> S::V {
        // SAFETY: a vector is at most four blocks.
        unsafe { s.load(self.0.as_ptr().cast()) }
    }
}

impl Column {
    /// The blocks of the group whose first packet is number `first`.
    #[inline(always)]
    pub(crate) fn vector<S: Simd>(&self, s: S, first: usize) -> S::V {
        assert!(first <= self.0.len() - S::LANES, "groups do not reach beyond the last packet there can be");
        // SAFETY: there are as many blocks as a vector has lanes.
        unsafe { s.load(self.0.as_ptr().wrapping_add(first).cast()) }
    }

    /// Sets them.
    #[inline(always)]
    pub(crate) fn set_vector<S: Simd>(&mut self, s: S, first: usize, vector: S::V) {
        assert!(first <= self.0.len() - S::LANES, "groups do not reach beyond the last packet there can be");
        // SAFETY: there are as many blocks as a vector has lanes.
        unsafe { s.store(self.0.as_mut_ptr().wrapping_add(first).cast(), vector) };
    }
}

/// A packet's text.
pub(crate) struct Row<'a, S: Simd> {
    s: S,
    schedule: &'a Schedule,
    source: *const u8,
    destination: *mut u8,
    length: usize,
    /// Counter block 0, with the first round key added.
    whitened: S::V,
}

impl<'a, S: Simd> Row<'a, S> {
    #[inline(always)]
    pub(crate) fn new(s: S, packet: &'a Packet<'a, Schedule>, nonce: &Block) -> Self {
        let whitened = s.xor(s.broadcast(nonce), s.broadcast(packet.schedule.round_key(0)));
        Self { s, schedule: packet.schedule, source: packet.source, destination: packet.destination, length: packet.length, whitened }
    }

    /// Encrypts or decrypts the chunk of `M` vectors from `at` on, while GHASH takes in the first `earlier` vectors of `x`, of another chunk or
    /// another packet. Returns their sums; `x` then is what GHASH is to take in next.
    #[inline(always)]
    fn chunk<const OPEN: bool, const LAST: bool, const M: usize>(&self, at: usize, x: &mut [S::V; MOST], earlier: usize, powers: Powers<'_>) -> Sums<S> {
        let mut state = self.counters::<M>(at);
        let sums = rounds(self.s, self.schedule, &mut state, &x[..earlier], powers);
        for (to, from) in x.iter_mut().zip(self.text::<OPEN, LAST, M>(at, &state)) {
            *to = from;
        }
        sums
    }

    /// Counters of the `N` vectors from `at` on, with the first round key added. A counter's last seven bits have none in common with the rest,
    /// so that adding them is exclusive or.
    #[inline(always)]
    pub(crate) fn counters<const N: usize>(&self, at: usize) -> [S::V; N] {
        let s = self.s;
        let first = HEAD + at * S::LANES;
        let (rest, place) = (first / TABLE * TABLE, first % TABLE);
        let mut x = [self.base(rest); N];
        if place + N * S::LANES > TABLE {
            let (now, next) = (x[0], self.base(rest + TABLE));
            for (k, x) in x.iter_mut().enumerate() {
                let begin = place + k * S::LANES;
                let in_next = (begin + S::LANES).saturating_sub(TABLE);
                // Of four lanes two can be on either side; of fewer lanes none.
                *x = if in_next == 0 {
                    now
                } else if in_next < S::LANES {
                    s.halves(now, next)
                } else {
                    next
                };
                // SAFETY: the table goes on for four blocks after its end.
                *x = s.xor(*x, unsafe { s.load(COUNTERS.0.as_ptr().wrapping_add(2 + begin % TABLE).cast()) });
            }
        } else {
            for (k, x) in x.iter_mut().enumerate() {
                // SAFETY: as just asked, the table has these.
                *x = s.xor(*x, unsafe { s.load(COUNTERS.0.as_ptr().wrapping_add(2 + place + k * S::LANES).cast()) });
            }
        }
        x
    }

    /// A counter's bits but for the last seven, added to the nonce and the first round key.
    #[inline(always)]
    fn base(&self, rest: usize) -> S::V {
        if rest == 0 { self.whitened } else { self.s.xor(self.whitened, self.s.counter((rest as u32).to_be())) }
    }

    /// Does the last round and encrypts or decrypts the text from vector `at` on; returns its ciphertext, byte-reversed.
    #[inline(always)]
    pub(crate) fn text<const OPEN: bool, const LAST: bool, const N: usize>(&self, at: usize, state: &[S::V; N]) -> [S::V; N] {
        let s = self.s;
        let vector_length = 16 * S::LANES;
        let last_key = s.broadcast(self.schedule.last_key());
        let reverse = s.broadcast(&REVERSE);
        let mut x = [s.zero(); N];
        for (k, (x, &state)) in x.iter_mut().zip(state).enumerate() {
            let offset = vector_length * (at + k);
            let from = self.source.wrapping_add(offset);
            let to = self.destination.wrapping_add(offset);
            let ciphertext = if LAST && k + 1 == N {
                let mask = s.mask(self.length - offset);
                // SAFETY: as many bytes are left of `Packet::source`.
                let input = unsafe { s.load_masked(from, mask) };
                let output = s.aes_last(state, s.xor(last_key, input));
                // SAFETY: as many bytes are left of `Packet::destination`.
                unsafe { s.store_masked(to, mask, output) };
                if OPEN { input } else { s.keep(mask, output) }
            } else {
                // SAFETY: only a text's last vector is not whole: this is in `Packet::source`.
                let input = unsafe { s.load(from) };
                let output = s.aes_last(state, s.xor(last_key, input));
                // SAFETY: as above, of `Packet::destination`.
                unsafe { s.store(to, output) };
                if OPEN { input } else { output }
            };
            *x = s.shuffle(ciphertext, reverse);
        }
        x
    }
}

/// The counters of a text's first `N` vectors.
#[inline(always)]
pub(crate) fn first_counters<S: Simd, const N: usize>(s: S) -> [S::V; N] {
    assert!(HEAD + N * S::LANES <= TABLE, "the table has no more");
    let mut x = [s.zero(); N];
    for (k, x) in x.iter_mut().enumerate() {
        // SAFETY: as asserted, the table has these.
        *x = unsafe { s.load(COUNTERS.0.as_ptr().wrapping_add(2 + HEAD + k * S::LANES).cast()) };
    }
    x
}

/// Vectors of a packet's text; one if it is empty.
#[inline(always)]
pub(crate) fn vectors<S: Simd>(packet: &Packet<'_, Schedule>) -> usize {
    packet.length.div_ceil(16 * S::LANES).max(1)
}
