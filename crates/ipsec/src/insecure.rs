//! A provider without cryptography, for fuzzing: it lets made-up packets past authentication.
//!
//! Only there when the crate is built for tests or fuzzing, or with the feature `insecure`.

use crate::provider::{Aead, Data, KeyError, OpenJob, Provider, Scratch, SealJob, Verdict};

/// Ciphertext is the plaintext; the ICV is [`Toy::checksum`], repeated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Toy;

/// A "key" of [`Toy`]: the ICV length.
#[derive(Clone, Copy, Debug)]
pub struct ToyKey {
    icv_length: usize,
}

impl Toy {
    /// Sum of all bytes of the AAD and the data. One byte, so that a fuzzer can guess it.
    pub fn checksum(aad: &[u8], data: &[u8]) -> u8 {
        aad.iter().chain(data).fold(0, |sum, &byte| sum.wrapping_add(byte))
    }
}

impl Provider for Toy {
    type Key = ToyKey;

    fn name(&self) -> &'static str {
        "insecure"
    }

    fn key(&self, algorithm: Aead, key: &[u8], icv_length: usize) -> Result<Self::Key, KeyError> {
        algorithm.check(key, icv_length)?;
        Ok(ToyKey { icv_length })
    }

    fn seal(&self, jobs: &mut [SealJob<'_, Self::Key>]) {
        for job in jobs {
            let success = job.tag.len() == job.key.icv_length && copy(&mut job.data);
            if success {
                let checksum = Self::checksum(job.aad.as_bytes(), job.data.output());
                job.tag.fill(checksum);
            }
            job.conclude(success);
        }
    }

    fn open(&self, jobs: &mut [OpenJob<'_, Self::Key>], _: &mut Scratch) {
        for job in jobs {
            let checksum = match &job.data {
                Data::InPlace(data) => Self::checksum(job.aad.as_bytes(), data),
                Data::Copy { src, .. } => Self::checksum(job.aad.as_bytes(), src),
            };
            let authentic = job.tag.len() == job.key.icv_length && job.tag.iter().all(|&byte| byte == checksum);
            let good = authentic && copy(&mut job.data);
            if let Data::Copy { dst, .. } = &mut job.data
                && !good
            {
                dst.fill(0);
            }
            job.verdict = Verdict::from_success(good);
        }
    }
}

fn copy(data: &mut Data<'_>) -> bool {
    match data {
        Data::InPlace(_) => true,
        Data::Copy { src, dst } if src.len() == dst.len() => {
            dst.copy_from_slice(src);
            true
        }
        Data::Copy { .. } => false,
    }
}
