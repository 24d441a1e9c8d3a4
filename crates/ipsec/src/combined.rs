//! Packets under combined modes as jobs of four words: for packets of which there are many, where passing whole [`SealJob`]s and [`OpenJob`]s through memory
//! costs more than taking the packet apart when the provider asks for it.

use core::fmt;

use arrayvec::ArrayVec;

use crate::aad::{Aad, NonceRegister, Register};
use crate::esp::{COMBINED_PREFIX, Counter, ESP_HEADER_LENGTH, EspSa};
use crate::iv;
use crate::provider::{BATCH, Data, OpenBatch, OpenJob, Provider, Scratch, SealBatch, SealJob, Verdict};
use crate::trailer::TRAILER_LENGTH;

/// One ESP packet to seal or to open in place, under an SA with a combined mode: what [`EspSa::seal_job`] and [`EspSa::open_job`] make, for
/// [`Provider::seal_combined`] and [`Provider::open_combined`].
pub struct CombinedJob<'a, K, M> {
    sa: &'a Counter<K>,
    /// From the ESP header to the end of the ICV.
    esp: &'a mut [u8],
    /// High half of the sequence number; of no meaning without extended numbers.
    high: u32,
    /// What the caller needs beside it, carried along.
    pub mark: M,
    /// `Pending` until a provider has had it.
    pub verdict: Verdict,
}

/// A job's packet, taken apart.
pub(crate) struct CombinedParts<'a, K> {
    pub(crate) key: &'a K,
    pub(crate) salt: iv::Salt,
    pub(crate) header: [u8; ESP_HEADER_LENGTH],
    pub(crate) iv: [u8; 8],
    /// If the number is extended.
    pub(crate) high: Option<u32>,
    pub(crate) text: &'a mut [u8],
    pub(crate) icv: &'a mut [u8],
}

impl<P: Provider> EspSa<P> {
    /// The job that seals `esp`, a packet as [`EspSa::seal_job`] takes it. `high` is the high half of the sequence number, of which the header has the low
    /// one; of no meaning without extended numbers.
    ///
    /// `None` if the SA has no combined mode, the packet is shorter than any of its packets ([`EspSa::shortest_combined`]), or the text does not end at a
    /// multiple of 4.
    #[inline(always)]
    pub fn combined_seal_job<'a, M>(&'a self, esp: &'a mut [u8], high: u32, mark: M) -> Option<CombinedJob<'a, P::Key, M>> {
        let sa = self.combined()?;
        let text = esp.len().checked_sub(sa.shortest())? + TRAILER_LENGTH;
        if text.is_multiple_of(4) { Some(CombinedJob { sa, esp, high, mark, verdict: Verdict::Pending }) } else { None }
    }

    /// The job that opens `esp`, a packet as [`EspSa::open_job`] takes it; otherwise as [`EspSa::combined_seal_job`], but a text may end anywhere.
    #[inline(always)]
    pub fn combined_open_job<'a, M>(&'a self, esp: &'a mut [u8], high: u32, mark: M) -> Option<CombinedJob<'a, P::Key, M>> {
        let sa = self.combined()?;
        if esp.len() < sa.shortest() { None } else { Some(CombinedJob { sa, esp, high, mark, verdict: Verdict::Pending }) }
    }

    /// Bytes of the shortest ESP packet, if the SA has a combined mode.
    #[inline]
    pub const fn shortest_combined(&self) -> Option<usize> {
        match self.combined() {
            Some(sa) => Some(sa.shortest()),
            None => None,
        }
    }
}

impl<K> Counter<K> {
    #[inline(always)]
    const fn shortest(&self) -> usize {
        COMBINED_PREFIX + TRAILER_LENGTH + self.icv_length as usize
    }
}

impl<K, M> CombinedJob<'_, K, M> {
    /// Payload, padding and trailer: in clear before sealing and after opening.
    #[inline(always)]
    pub fn text(&self) -> &[u8] {
        // (A packet is longer than its ICV.)
        self.esp.get(COMBINED_PREFIX..self.esp.len().wrapping_sub(usize::from(self.sa.icv_length))).unwrap_or_default()
    }

    /// The [text](Self::text), and the mark to be changed.
    #[inline]
    pub fn text_and_mark(&mut self) -> (&[u8], &mut M) {
        let Self { sa, esp, mark, .. } = self;
        (esp.get(COMBINED_PREFIX..esp.len().wrapping_sub(usize::from(sa.icv_length))).unwrap_or_default(), mark)
    }

    /// Bytes of the ESP packet, from its header to the end of the ICV.
    #[inline]
    pub const fn esp_length(&self) -> usize {
        self.esp.len()
    }

    /// A job of the general form that seals what this one has opened: the packet is again what it was before.
    pub fn undo(&mut self) -> Option<SealJob<'_, K>> {
        self.open_parts().map(|parts| parts.job(SealJob::new))
    }

    /// Takes the packet apart.
    #[inline(always)]
    pub(crate) fn open_parts(&mut self) -> Option<CombinedParts<'_, K>> {
        let Self { sa, esp, high, .. } = self;
        let (prefix, rest) = esp.split_first_chunk_mut::<COMBINED_PREFIX>()?;
        let (text, icv) = rest.split_at_mut_checked(rest.len().checked_sub(usize::from(sa.icv_length))?)?;
        let (header, iv) = (*prefix.first_chunk()?, *prefix.last_chunk()?);
        Some(CombinedParts { key: &sa.key, salt: sa.salt, header, iv, high: sa.extended.then_some(*high), text, icv })
    }

    /// Writes the IV (OV2-SEND-7) and takes the packet apart.
    #[inline(always)]
    pub(crate) fn seal_parts(&mut self) -> Option<CombinedParts<'_, K>> {
        let Self { sa, esp, high, .. } = self;
        let prefix = esp.first_chunk_mut::<COMBINED_PREFIX>()?;
        let low = u64::from_be_bytes(*prefix.first_chunk()?) & 0xffff_ffff;
        let sequence = if sa.extended { low | u64::from(*high) << 32 } else { low };
        *prefix.last_chunk_mut()? = iv::counter(sequence, sa.iv_mask);
        self.open_parts()
    }
}

impl<'a, K> CombinedParts<'a, K> {
    /// A job of the general form.
    fn job<J>(self, make: impl FnOnce(&'a K, NonceRegister, Aad, Data<'a>, &'a mut [u8]) -> J) -> J {
        let Self { key, salt, header, iv, high, text, icv } = self;
        let aad = Register::header(header, high.unwrap_or_default(), high.is_some());
        make(key, NonceRegister::salted(salt, iv), aad.aad(), Data::InPlace(text), icv)
    }
}

impl<K, M> fmt::Debug for CombinedJob<'_, K, M> {
    /// Lengths only: the bytes may be somebody's clear text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CombinedJob").field("length", &self.esp.len()).field("verdict", &self.verdict).finish_non_exhaustive()
    }
}

/// Seals those that are pending by jobs of the general form. Returns whether all are good.
pub(crate) fn seal_rest<P: Provider + ?Sized, M>(provider: &P, jobs: &mut [CombinedJob<'_, P::Key, M>]) -> bool {
    for jobs in jobs.chunks_mut(BATCH) {
        let pending = jobs.iter_mut().filter(|job| job.verdict == Verdict::Pending);
        let mut general: SealBatch<'_, P::Key> = pending.filter_map(|job| Some(job.seal_parts()?.job(SealJob::new))).collect();
        provider.seal(&mut general);
        let verdicts = general.iter().map(|job| job.verdict).collect();
        drop(general);
        conclude(jobs, verdicts);
    }
    jobs.iter().all(|job| job.verdict.is_good())
}

fn open_job<'a, K>(key: &'a K, nonce: NonceRegister, aad: Aad, data: Data<'a>, icv: &'a mut [u8]) -> OpenJob<'a, K> {
    OpenJob::new(key, nonce, aad, data, icv)
}

/// Opens those that are pending, likewise.
pub(crate) fn open_rest<P: Provider + ?Sized, M>(provider: &P, jobs: &mut [CombinedJob<'_, P::Key, M>], scratch: &mut Scratch) -> bool {
    for jobs in jobs.chunks_mut(BATCH) {
        let pending = jobs.iter_mut().filter(|job| job.verdict == Verdict::Pending);
        let mut general: OpenBatch<'_, P::Key> = pending.filter_map(|job| Some(job.open_parts()?.job(open_job))).collect();
        provider.open(&mut general, scratch);
        let verdicts = general.iter().map(|job| job.verdict).collect();
        drop(general);
        conclude(jobs, verdicts);
    }
    jobs.iter().all(|job| job.verdict.is_good())
}

/// (Every job's packet can be taken apart: whoever has none of the verdicts stays pending, which is not good.)
fn conclude<K, M>(jobs: &mut [CombinedJob<'_, K, M>], verdicts: ArrayVec<Verdict, BATCH>) {
    for (job, verdict) in jobs.iter_mut().filter(|job| job.verdict == Verdict::Pending).zip(verdicts) {
        job.verdict = verdict;
    }
}

#[cfg(test)]
mod tests {
    use secret::SecretBytes;

    use super::*;
    use crate::{AesKeySize, Authentication, Crypto, Encryption, EspParameters};

    /// Of 64-bit architectures: half a cache line.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_job_is_four_words() {
        assert_eq!(size_of::<CombinedJob<'_, u8, u16>>(), 32);
    }

    fn sa(provider: Crypto, encryption: Encryption, extended: bool) -> EspSa<Crypto> {
        let key = |length: usize, first: u8| SecretBytes::from((0..length).map(|byte| byte as u8 ^ first).collect::<Vec<_>>());
        let icv_length = if matches!(encryption, Encryption::AesGcm(_)) && extended { 12 } else { 16 };
        EspSa::new(
            &provider,
            &EspParameters {
                encryption,
                encryption_key: &key(encryption.key_length(), 0x5a),
                icv_length,
                authentication: Authentication::None,
                authentication_key: &key(0, 0),
                allow_unauthenticated: false,
                extended_sequence_numbers: extended,
                iv_mask: 0x0102_0304_0506_0708,
            },
        )
        .unwrap()
    }

    fn packet(sa: &EspSa<Crypto>, text: usize, number: u8) -> Vec<u8> {
        let length = COMBINED_PREFIX + text + sa.icv_length();
        let mut packet: Vec<u8> = (0..length).map(|byte| (byte as u8).wrapping_mul(number | 1)).collect();
        packet[4..8].copy_from_slice(&[0, 0, 0, number]);
        packet
    }

    /// OV2-SEND-7, RFC 4106 section 5: both forms of jobs make the same of a packet, under every provider, with keys of several libraries mixed; and what
    /// is damaged is told, left as it was, and alone.
    #[test]
    fn they_do_what_jobs_of_the_general_form_do() {
        for provider in Crypto::with_paths() {
            let suites =
                [(Encryption::AesGcm(AesKeySize::Aes128), false), (Encryption::AesGcm(AesKeySize::Aes256), true), (Encryption::ChaCha20Poly1305, true)];
            let mut sas: Vec<_> = suites.map(|(encryption, extended)| sa(provider, encryption, extended)).into();
            sas.push(sa(Crypto::RustCrypto, Encryption::AesGcm(AesKeySize::Aes192), false));
            // More than a provider is given at a time.
            let count = BATCH + 7;
            let of = |number: usize| &sas[number * number % sas.len()];
            let clear: Vec<_> = (0..count).map(|number| packet(of(number), 4 + 4 * (number % 50), number as u8)).collect();
            let high = |number: usize| number as u32 / 3;
            let mut expected = clear.clone();
            for (number, packet) in expected.iter_mut().enumerate() {
                let sequence = u64::from(packet[7]) | if of(number).esn() { u64::from(high(number)) << 32 } else { 0 };
                let mut job = [of(number).seal_job(packet, sequence).unwrap()];
                provider.seal(&mut job);
                assert!(job[0].verdict.is_good());
            }
            let mut sealed = clear.clone();
            let mut jobs: Vec<_> = sealed.iter_mut().enumerate().map(|(i, packet)| of(i).combined_seal_job(packet, high(i), i as u16).unwrap()).collect();
            assert!(provider.seal_combined(&mut jobs));
            assert!(jobs.iter().zip(0..).all(|(job, i)| job.verdict.is_good() && job.mark == i));
            assert!(sealed == expected, "{provider}");
            let damaged = |number: usize| number % 5 == 3;
            for (number, packet) in sealed.iter_mut().enumerate().filter(|(number, _)| damaged(*number)) {
                let place = number % packet.len();
                packet[place] ^= 0x10;
            }
            let arrived = sealed.clone();
            let mut scratch = Scratch::new();
            let mut jobs: Vec<_> = sealed.iter_mut().enumerate().map(|(i, packet)| of(i).combined_open_job(packet, high(i), 0).unwrap()).collect();
            assert!(!provider.open_combined(&mut jobs, &mut scratch));
            for (number, job) in jobs.iter_mut().enumerate() {
                assert_eq!(job.verdict.is_good(), !damaged(number), "{provider} {number}");
                let length = job.esp_length() - of(number).icv_length();
                if damaged(number) {
                    assert_eq!(job.text(), &arrived[number][COMBINED_PREFIX..length]);
                } else {
                    assert_eq!(job.text(), &clear[number][COMBINED_PREFIX..length]);
                    provider.seal(&mut [job.undo().unwrap()]);
                }
            }
            assert!(sealed == arrived, "{provider}: undone or never done");
        }
    }

    #[test]
    fn what_no_packet_can_be_has_no_job() {
        let sa = sa(Crypto::default(), Encryption::AesGcm(AesKeySize::Aes128), false);
        let shortest = sa.shortest_combined().unwrap();
        assert_eq!(shortest, 8 + 8 + 2 + 16);
        for length in 0..shortest + 20 {
            let mut packet = vec![0; length];
            assert_eq!(sa.combined_open_job(&mut packet, 0, 0).is_some(), length >= shortest, "{length}");
            assert_eq!(sa.combined_seal_job(&mut packet, 0, 0).is_some(), length >= shortest && (length - shortest) % 4 == 2, "{length}");
        }
    }
}
