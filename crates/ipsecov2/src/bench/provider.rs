//! The cryptographic provider alone: the limit of every other way.

use std::sync::Arc;

use ipsec::{Crypto, EspSa, Provider as _, Scratch, Suite};
use packet::{Buffer, BufferPool};

use super::packets::{ESP, Picker, Template, spi};
use super::suite::esp_sa;
use super::{BenchError, Operation, Watch, Way};

/// SAs 0 and up of a suite, under one provider. Those of another provider have the same keys.
pub(super) struct SaSet {
    crypto: Crypto,
    sas: Vec<EspSa<Crypto>>,
}

impl SaSet {
    pub(super) fn new(crypto: Crypto, suite: Suite, count: u32) -> Result<Self, BenchError> {
        let sas = (0..count).map(|number| esp_sa(crypto, suite, number)).collect::<Result<_, _>>()?;
        Ok(Self { crypto, sas })
    }

    /// SA `number`.
    pub(super) fn get(&self, number: u32) -> Result<&EspSa<Crypto>, BenchError> {
        self.sas.get(number as usize).ok_or(BenchError::Impossible("no SA of this number"))
    }

    /// Seals frames of which each is SA `number`'s packet `sequence`.
    pub(super) fn seal<'a>(&'a self, frames: impl Iterator<Item = (u32, u32, &'a mut [u8])>) -> Result<(), BenchError> {
        let mut jobs = Vec::new();
        for (number, sequence, frame) in frames {
            jobs.push(self.get(number)?.seal_job(&mut frame[ESP..], u64::from(sequence))?);
        }
        self.crypto.seal(&mut jobs);
        if jobs.iter().all(|job| job.verdict.is_good()) { Ok(()) } else { Err(BenchError::Impossible("a packet that cannot be sealed")) }
    }

    /// Sees that a frame on the wire was sealed: opens a copy of it.
    pub(super) fn prove(&self, frame: &[u8]) -> Result<(), BenchError> {
        let lost = || BenchError::Impossible("a frame on the wire that is not its SA's");
        let mut packet = frame.get(ESP..).ok_or_else(lost)?.to_vec();
        let word = |at: usize| packet.get(at..).and_then(|bytes| bytes.first_chunk().copied()).map(u32::from_be_bytes).ok_or_else(lost);
        let (number, sequence) = (word(0)?.wrapping_sub(spi(0).0), word(4)?);
        let mut job = [self.get(number)?.open_job(&mut packet, u64::from(sequence))?];
        self.crypto.open(&mut job, &mut Scratch::new());
        if job[0].verdict.is_good() { Ok(()) } else { Err(lost()) }
    }
}

/// Jobs that are made before the clock runs, sealed or opened in place.
pub(super) struct ProviderWay {
    pub(super) operation: Operation,
    pub(super) sas: Arc<SaSet>,
    /// Seals what is to be opened.
    pub(super) sender: Arc<SaSet>,
    pub(super) template: Arc<Template>,
    pub(super) picker: Picker,
    pool: BufferPool,
    /// Packets in a batch.
    size: usize,
    buffers: Vec<Buffer>,
    numbers: Vec<u32>,
    scratch: Scratch,
    sequence: u32,
}

impl ProviderWay {
    /// `size` packets at a time, in as many buffers.
    pub(super) fn new(operation: Operation, sas: Arc<SaSet>, sender: Arc<SaSet>, template: Arc<Template>, picker: Picker, size: usize) -> Self {
        let (pool, scratch) = (BufferPool::new(), Scratch::new());
        Self { operation, sas, sender, template, picker, pool, size, buffers: Vec::new(), numbers: Vec::new(), scratch, sequence: 0 }
    }
}

impl Way for ProviderWay {
    fn batches(&mut self, count: usize, watch: Watch<'_>) -> Result<(), BenchError> {
        let Self { operation, sas, sender, template, picker, pool, size, buffers, numbers, scratch, sequence } = self;
        let all = count * *size;
        while buffers.len() < all {
            buffers.push(pool.copy_from(&template.frame));
        }
        let buffers = &mut buffers[..all];
        // Numbers begin again some time, and IVs with them: nothing of this is ever sent.
        let first = *sequence;
        *sequence = first.wrapping_add(all as u32);
        numbers.clear();
        for (buffer, sequence) in buffers.iter_mut().zip(0..) {
            let pick = picker.pick();
            numbers.push(pick.number);
            template.fill_framed(buffer.as_mut_slice(), pick, first.wrapping_add(sequence));
        }
        let packets = buffers.iter_mut().zip(numbers.iter()).zip(0..);
        let packets = packets.map(|((buffer, &number), sequence)| (number, first.wrapping_add(sequence), buffer.as_mut_slice()));
        let good = match operation {
            Operation::Seal => {
                let mut jobs = Vec::with_capacity(all);
                for (number, sequence, frame) in packets {
                    jobs.push(sas.get(number)?.seal_job(&mut frame[ESP..], u64::from(sequence))?);
                }
                watch(&mut || jobs.chunks_mut(*size).for_each(|jobs| sas.crypto.seal(jobs)));
                jobs.iter().filter(|job| job.verdict.is_good()).count()
            }
            Operation::Open => {
                sender.seal(packets)?;
                let mut jobs = Vec::with_capacity(all);
                for ((buffer, &number), sequence) in buffers.iter_mut().zip(numbers.iter()).zip(0..) {
                    jobs.push(sas.get(number)?.open_job(&mut buffer.as_mut_slice()[ESP..], u64::from(first.wrapping_add(sequence)))?);
                }
                watch(&mut || jobs.chunks_mut(*size).for_each(|jobs| sas.crypto.open(jobs, scratch)));
                jobs.iter().filter(|job| job.verdict.is_good()).count()
            }
        };
        BenchError::unless_all(all, good)
    }
}
