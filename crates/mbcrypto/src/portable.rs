//! AES-GCM and GMAC on any processor, one packet at a time, in constant time: AES and GHASH are RustCrypto's, which use bit
//! slicing and carry-less multiplication in integers, or the processor's instructions where they know them.

use aes::cipher::{Block as AesBlock, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use zeroize::Zeroize;

use crate::batch::Backend;
use crate::gmac::Message;
use crate::key::{Expanded, Key};
use crate::packet::{Batch, Block, Tags};

/// Counter blocks that are encrypted together.
const STRIDE: usize = 8;

/// A key for this path.
pub(crate) struct Schedule {
    cipher: Cipher,
    hash: GHash,
    icv_length: u8,
}

enum Cipher {
    Aes128(Aes128),
    Aes192(Aes192),
    Aes256(Aes256),
}

/// The path itself.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Schedule {
    /// Expands a key of 16, 24 or 32 bytes; `None` for any other length.
    pub(crate) fn new(key: &[u8], icv_length: u8) -> Option<Self> {
        let cipher = match key.len() {
            16 => Cipher::Aes128(Aes128::new_from_slice(key).ok()?),
            24 => Cipher::Aes192(Aes192::new_from_slice(key).ok()?),
            32 => Cipher::Aes256(Aes256::new_from_slice(key).ok()?),
            _ => return None,
        };
        let mut h = [[0; 16]];
        cipher.encrypt(&mut h);
        let hash = GHash::new(&h[0].into());
        h.zeroize();
        Some(Self { cipher, hash, icv_length })
    }

    #[inline(always)]
    pub(crate) fn icv_length(&self) -> usize {
        self.icv_length as usize
    }

    /// GHASH of `parts`, one after the other and filled up to a whole block, of `text`, filled up likewise, and of the length block.
    fn hash(&self, parts: &[&[u8]], text: &[u8]) -> Block {
        let mut hash = self.hash.clone();
        let mut partial: Block = [0; 16];
        let mut filled = 0;
        let mut length = 0_u64;
        for part in parts {
            length = length.wrapping_add(part.len() as u64);
            let mut rest = *part;
            if filled > 0 {
                let (head, tail) = rest.split_at(rest.len().min(16 - filled));
                partial[filled..filled + head.len()].copy_from_slice(head);
                filled += head.len();
                rest = tail;
                if filled < 16 {
                    continue;
                }
                hash.update_padded(&partial);
            }
            let (whole, tail) = rest.split_at(rest.len() / 16 * 16);
            hash.update_padded(whole);
            partial[..tail.len()].copy_from_slice(tail);
            filled = tail.len();
        }
        hash.update_padded(&partial[..filled]);
        hash.update_padded(text);
        let mut lengths: Block = [0; 16];
        lengths[..8].copy_from_slice(&length.wrapping_mul(8).to_be_bytes());
        lengths[8..].copy_from_slice(&(text.len() as u64).wrapping_mul(8).to_be_bytes());
        hash.update_padded(&lengths);
        hash.finalize().into()
    }

    /// Encrypted `J0` plus `hash` (NIST SP 800-38D section 7.1 step 6).
    fn tag(&self, mut j0: Block, hash: &Block) -> Block {
        j0[15] = 1;
        let mut tag = [j0];
        self.cipher.encrypt(&mut tag);
        let [mut tag] = tag;
        add(&mut tag, hash);
        tag
    }

    /// Adds encrypted counters, from 2 on, to the text (section 6.5).
    fn crypt(&self, nonce: &Block, text: &mut [u8]) {
        let mut counter = 2_u32;
        let mut stream = [[0; 16]; STRIDE];
        for chunk in text.chunks_mut(16 * STRIDE) {
            let used = chunk.len().div_ceil(16);
            for block in &mut stream[..used] {
                *block = *nonce;
                block[12..].copy_from_slice(&counter.to_be_bytes());
                counter = counter.wrapping_add(1);
            }
            self.cipher.encrypt(&mut stream[..used]);
            add(chunk, stream.as_flattened());
        }
        stream.zeroize();
    }
}

impl Backend for Portable {
    type Schedule = Schedule;

    #[inline(always)]
    fn schedule(key: &Key) -> Option<(&Schedule, usize)> {
        match &key.0 {
            Expanded::Portable(schedule) => Some((schedule, schedule.icv_length())),
            #[cfg(target_arch = "x86_64")]
            Expanded::X86(_) => None,
        }
    }

    fn seal(self, batch: &mut Batch<'_, '_, Schedule>, tags: &mut Tags) {
        for (i, ((packet, nonce), tag)) in batch.packets.iter_mut().zip(&batch.columns.nonces.0).zip(&mut tags.0).enumerate() {
            let (schedule, nonce) = (packet.schedule, *nonce);
            let aad = [packet.aad_head.map_or(&[][..], |head| head), batch.columns.aad(i)];
            let text = packet.copy_in();
            schedule.crypt(&nonce, text);
            *tag = schedule.tag(nonce, &schedule.hash(&aad, text));
        }
    }

    fn open(self, batch: &mut Batch<'_, '_, Schedule>, tags: &mut Tags) {
        for (i, ((packet, nonce), tag)) in batch.packets.iter_mut().zip(&batch.columns.nonces.0).zip(&mut tags.0).enumerate() {
            let (schedule, nonce) = (packet.schedule, *nonce);
            let aad = [packet.aad_head.map_or(&[][..], |head| head), batch.columns.aad(i)];
            let text = packet.copy_in();
            *tag = schedule.tag(nonce, &schedule.hash(&aad, text));
            schedule.crypt(&nonce, text);
        }
    }

    fn authenticate(self, messages: &[Message<'_, Schedule>], tags: &mut Tags) {
        for (message, tag) in messages.iter().zip(&mut tags.0) {
            *tag = message.schedule.tag(message.j0(), &message.schedule.hash(message.parts, &[]));
        }
    }
}

impl Cipher {
    fn encrypt(&self, blocks: &mut [Block]) {
        match self {
            Self::Aes128(aes) => aes.encrypt_blocks(AesBlock::<Aes128>::cast_slice_from_core_mut(blocks)),
            Self::Aes192(aes) => aes.encrypt_blocks(AesBlock::<Aes192>::cast_slice_from_core_mut(blocks)),
            Self::Aes256(aes) => aes.encrypt_blocks(AesBlock::<Aes256>::cast_slice_from_core_mut(blocks)),
        }
    }
}

fn add(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to ^= from;
    }
}
