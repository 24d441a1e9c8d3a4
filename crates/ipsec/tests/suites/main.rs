//! ESP SAs of every suite: what makes one, what its packets must be, and what a changed packet comes to.

mod keys;
mod packets;
mod vectors;

use ipsec::{Authentication, EspParameters, EspSa, Provider, SaError, Scratch, Suite, Verdict, write_trailer};
use secret::SecretBytes;

const SPI: u32 = 0xc0de_0001;

/// Owns what [`EspParameters`] borrows.
struct Parameters {
    suite: Suite,
    encryption_key: SecretBytes,
    icv_length: usize,
    authentication_key: SecretBytes,
    allow_unauthenticated: bool,
    extended: bool,
    mask: u64,
}

impl Parameters {
    fn new(suite: Suite) -> Self {
        let key = |length: usize, first: usize| SecretBytes::from((0..length).map(|index| (index + first) as u8).collect::<Vec<_>>());
        Self {
            suite,
            encryption_key: key(suite.encryption().key_length(), 0x40),
            icv_length: suite.icv_lengths()[0],
            authentication_key: key(suite.authentication().key_length(), 0x80),
            allow_unauthenticated: !suite.is_authenticated(),
            extended: false,
            mask: 0,
        }
    }

    fn with_icv(self, icv_length: usize) -> Self {
        Self { icv_length, ..self }
    }

    fn extended(self, extended: bool) -> Self {
        Self { extended, ..self }
    }

    fn build<P: Provider>(&self, provider: &P) -> Result<EspSa<P>, SaError> {
        EspSa::new(
            provider,
            &EspParameters {
                encryption: self.suite.encryption(),
                encryption_key: &self.encryption_key,
                icv_length: self.icv_length,
                authentication: self.suite.authentication(),
                authentication_key: &self.authentication_key,
                allow_unauthenticated: self.allow_unauthenticated,
                extended_sequence_numbers: self.extended,
                iv_mask: self.mask,
            },
        )
    }
}

/// Every suite with every ICV length.
fn all() -> Vec<Parameters> {
    Suite::all().flat_map(|suite| suite.icv_lengths().iter().map(move |&icv_length| Parameters::new(suite).with_icv(icv_length))).collect()
}

fn suite(encryption: &str, authentication: &str) -> Suite {
    let authentication = if authentication.is_empty() { Authentication::None } else { authentication.parse().unwrap() };
    Suite::new(encryption.parse().unwrap(), authentication).unwrap()
}

/// A packet as the transport hands it over: everything but IV and ICV, which hold rubbish; with `more` alignments of padding beyond what is needed.
fn frame<P: Provider>(sa: &EspSa<P>, sequence: u64, payload: &[u8], more: usize) -> Vec<u8> {
    let mut esp = vec![0xee; payload.len() + sa.overhead(payload.len()) + more * sa.alignment()];
    esp[..4].copy_from_slice(&SPI.to_be_bytes());
    esp[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
    let text = sa.text(esp.len()).unwrap();
    esp[text.start..][..payload.len()].copy_from_slice(payload);
    write_trailer(&mut esp[text], payload.len(), 17).unwrap();
    esp
}

fn seal_frame<P: Provider>(provider: &P, sa: &EspSa<P>, sequence: u64, esp: &mut [u8]) {
    let mut jobs = [sa.seal_job(esp, sequence).unwrap()];
    provider.seal(&mut jobs);
    assert_eq!(jobs[0].verdict, Verdict::Good);
}

fn seal<P: Provider>(provider: &P, sa: &EspSa<P>, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut esp = frame(sa, sequence, payload, 0);
    seal_frame(provider, sa, sequence, &mut esp);
    esp
}

fn open<P: Provider>(provider: &P, sa: &EspSa<P>, sequence: u64, esp: &mut [u8]) -> Verdict {
    let mut jobs = [sa.open_job(esp, sequence).unwrap()];
    provider.open(&mut jobs, &mut Scratch::new());
    jobs[0].verdict
}
