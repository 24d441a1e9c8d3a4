//! The cryptographic provider alone: the limit of every other way.

use std::sync::Arc;
use std::time::Duration;

use ipsec::{Crypto, EspSa, Provider as _, Scratch, Suite};
use packet::{Buffer, BufferPool};

use super::packets::{ESP, Picker, Template};
use super::suite::esp_sa;
use super::{BenchError, Clock, Operation, Way};

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
}

/// Jobs that are made before the clock runs, sealed or opened in place.
pub(super) struct ProviderWay {
    pub(super) operation: Operation,
    pub(super) sas: Arc<SaSet>,
    /// Seals what is to be opened.
    pub(super) sender: Arc<SaSet>,
    pub(super) template: Arc<Template>,
    pub(super) picker: Picker,
    buffers: Vec<Buffer>,
    numbers: Vec<u32>,
    scratch: Scratch,
    sequence: u32,
}

impl ProviderWay {
    /// `batch` packets at a time, in as many buffers.
    pub(super) fn new(operation: Operation, sas: Arc<SaSet>, sender: Arc<SaSet>, template: Arc<Template>, picker: Picker, batch: usize) -> Self {
        let mut pool = BufferPool::new();
        let buffers = (0..batch).map(|_| pool.copy_from(&template.frame)).collect();
        Self { operation, sas, sender, template, picker, buffers, numbers: Vec::new(), scratch: Scratch::new(), sequence: 0 }
    }
}

impl Way for ProviderWay {
    fn batch(&mut self, clock: &Clock) -> Result<Duration, BenchError> {
        let Self { operation, sas, sender, template, picker, buffers, numbers, scratch, sequence } = self;
        // Numbers begin again some time, and IVs with them: nothing of this is ever sent.
        let first = *sequence;
        *sequence = first.wrapping_add(buffers.len() as u32);
        numbers.clear();
        for (buffer, sequence) in buffers.iter_mut().zip(0..) {
            let (_, number) = picker.pick();
            numbers.push(number);
            template.fill_framed(buffer.as_mut_slice(), number, first.wrapping_add(sequence))?;
        }
        let packets = buffers.iter_mut().zip(numbers.iter()).zip(0..);
        let packets = packets.map(|((buffer, &number), sequence)| (number, first.wrapping_add(sequence), buffer.as_mut_slice()));
        let (time, good) = match operation {
            Operation::Seal => {
                let mut jobs = Vec::with_capacity(numbers.len());
                for (number, sequence, frame) in packets {
                    jobs.push(sas.get(number)?.seal_job(&mut frame[ESP..], u64::from(sequence))?);
                }
                let time = clock.time(|| sas.crypto.seal(&mut jobs));
                (time, jobs.iter().filter(|job| job.verdict.is_good()).count())
            }
            Operation::Open => {
                sender.seal(packets)?;
                let mut jobs = Vec::with_capacity(numbers.len());
                for ((buffer, &number), sequence) in buffers.iter_mut().zip(numbers.iter()).zip(0..) {
                    jobs.push(sas.get(number)?.open_job(&mut buffer.as_mut_slice()[ESP..], u64::from(first.wrapping_add(sequence)))?);
                }
                let time = clock.time(|| sas.crypto.open(&mut jobs, scratch));
                (time, jobs.iter().filter(|job| job.verdict.is_good()).count())
            }
        };
        BenchError::unless_all(numbers.len(), good)?;
        Ok(time)
    }
}
