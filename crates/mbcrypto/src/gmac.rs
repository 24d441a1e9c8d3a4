//! AES-GMAC (NIST SP 800-38D section 3; RFC 4543): GCM without a text, over an AAD of any length that lies in several parts.
//!
//! The row of cells has no text and no place for `J0`: it is the AAD, filled up to whole blocks, and the length block. All
//! else is as in [`crate::gcm`].

/// What one tag is made of.
pub(crate) struct Message<'a, S> {
    pub(crate) schedule: &'a S,
    pub(crate) nonce: &'a [u8; 12],
    pub(crate) parts: &'a [&'a [u8]],
}

impl<S> Message<'_, S> {
    /// `J0`: nonce and a counter of 1.
    #[inline(always)]
    pub(crate) fn j0(&self) -> [u8; 16] {
        let mut block = [0; 16];
        block[..12].copy_from_slice(self.nonce);
        block[15] = 1;
        block
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use vectors::run;

#[cfg(target_arch = "x86_64")]
mod vectors {
    use super::Message;
    use crate::aes::encrypt;
    use crate::ghash::{GroupSums, REVERSE, Sums};
    use crate::packet::Tags;
    use crate::simd::Simd;
    use crate::x86::Schedule;

    /// Bytes that are kept until they make a chunk, or the last one: at most 16 blocks and three more, in whole vectors.
    const BUFFER: usize = 320;

    /// Writes the tag of each message; `N` as for [`run`].
    #[inline(always)]
    pub(crate) fn run<S: Simd, const N: usize>(s: S, messages: &[Message<'_, Schedule>], tags: &mut Tags) {
        for (group, tags) in messages.chunks(S::LANES).zip(tags.0.chunks_exact_mut(S::LANES)) {
            let mut sums = GroupSums::new(s);
            for (lane, message) in group.iter().enumerate() {
                sums.set(lane, one::<S, N>(s, message));
            }
            let reduced = s.shuffle(sums.fold(s).reduce(s), s.broadcast(&REVERSE));
            // SAFETY: as many blocks as a vector has lanes.
            unsafe { s.store(tags.as_mut_ptr().cast(), reduced) };
        }
    }

    #[inline(always)]
    fn one<S: Simd, const N: usize>(s: S, message: &Message<'_, Schedule>) -> Sums<S> {
        let schedule = message.schedule;
        let chunk = 16 * S::LANES * N;
        let length: usize = message.parts.iter().map(|part| part.len()).sum();
        let all_cells = length.div_ceil(16) + 1;
        // As in `gcm`: with what is carried from the chunk before, the last has at least a vector of cells.
        let longest_last = S::LANES * N + (S::LANES - 1).max(1);
        let mut chunks = all_cells.saturating_sub(longest_last).div_ceil(S::LANES * N);
        let cells = all_cells - chunks * S::LANES * N;

        let mut carry = s.zero();
        let mut buffer = [0; BUFFER];
        let mut filled = 0;
        for &part in message.parts {
            let mut rest = part;
            while !rest.is_empty() {
                let wanted = if chunks == 0 { BUFFER } else { chunk } - filled;
                let (head, tail) = rest.split_at(rest.len().min(wanted));
                rest = tail;
                if chunks > 0 && head.len() == chunk {
                    carry = multiply::<S, N>(s, schedule, carry, head);
                    chunks -= 1;
                    continue;
                }
                buffer[filled..filled + head.len()].copy_from_slice(head);
                filled += head.len();
                if chunks > 0 && filled == chunk {
                    carry = multiply::<S, N>(s, schedule, carry, &buffer[..chunk]);
                    chunks -= 1;
                    filled = 0;
                }
            }
        }
        buffer[filled..].fill(0);
        buffer[16 * cells - 16..16 * cells - 8].copy_from_slice(&(length as u64).wrapping_mul(8).to_be_bytes());
        let reverse = s.broadcast(&REVERSE);
        let mut sums = Sums::zero(s);
        for (k, bytes) in buffer.chunks_exact(16 * S::LANES).enumerate().take(cells.div_ceil(S::LANES)) {
            // SAFETY: `bytes` is as long as a vector.
            let block = s.shuffle(unsafe { s.load(bytes.as_ptr()) }, reverse);
            let x = if k == 0 { s.xor(block, carry) } else { block };
            sums.add(s, x, schedule.powers_from(s, cells - S::LANES * k));
        }
        let j0 = s.shuffle(encrypt(s, schedule, s.broadcast(&message.j0())), reverse);
        sums.high = s.xor(sums.high, s.keep(s.mask(16), j0));
        sums
    }

    /// Takes in a whole chunk that is not the last.
    #[inline(always)]
    fn multiply<S: Simd, const N: usize>(s: S, schedule: &Schedule, carry: S::V, chunk: &[u8]) -> S::V {
        let reverse = s.broadcast(&REVERSE);
        let mut sums = Sums::zero(s);
        for (k, bytes) in chunk.chunks_exact(16 * S::LANES).enumerate().take(N) {
            // SAFETY: `bytes` is as long as a vector.
            let block = s.shuffle(unsafe { s.load(bytes.as_ptr()) }, reverse);
            let x = if k == 0 { s.xor(block, carry) } else { block };
            sums.add(s, x, s.broadcast(schedule.power(S::LANES * (N - k))));
        }
        sums.reduce(s)
    }
}
