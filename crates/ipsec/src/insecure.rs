//! A provider without cryptography, for fuzzing: it lets made-up packets past authentication.
//!
//! Only there when the crate is built for tests or fuzzing, or with the feature `insecure`.

use crate::algorithm::Authentication;
use crate::provider::{AuthJob, Icv, OpenJob, Provider, Scratch, SealJob, Verdict};
use crate::suite::{KeyError, KeyParameters, check_auth_key};

/// Ciphertext is the plaintext; the ICV is [`Toy::checksum`], repeated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Toy;

/// A "key" of [`Toy`]: the lengths that a packet must have.
#[derive(Clone, Copy, Debug)]
pub struct ToyKey {
    icv_length: usize,
    block: usize,
}

impl Toy {
    /// Sum of all bytes of the AAD and the data. One byte, so that a fuzzer can guess it.
    pub fn checksum(aad: &[u8], data: &[u8]) -> u8 {
        aad.iter().chain(data).fold(0, |sum, &byte| sum.wrapping_add(byte))
    }
}

impl Provider for Toy {
    type Key = ToyKey;
    type AuthKey = ToyKey;

    fn name(&self) -> &'static str {
        "insecure"
    }

    fn key(&self, parameters: &KeyParameters<'_>) -> Result<Self::Key, KeyError> {
        let suite = parameters.check()?;
        Ok(ToyKey { icv_length: parameters.icv_length, block: suite.encryption().block_length() })
    }

    fn auth_key(&self, algorithm: Authentication, key: &[u8]) -> Result<Self::AuthKey, KeyError> {
        check_auth_key(algorithm, key)?;
        Ok(ToyKey { icv_length: algorithm.icv_length(), block: 1 })
    }

    fn seal(&self, jobs: &mut [SealJob<'_, Self::Key>]) {
        for job in jobs {
            let success = job.tag.len() == job.key.icv_length && job.data.len().is_multiple_of(job.key.block) && job.data.carry_over().is_some();
            if success {
                let checksum = Self::checksum(job.aad.as_bytes(), job.data.output());
                job.tag.fill(checksum);
            }
            job.conclude(success);
        }
    }

    fn open(&self, jobs: &mut [OpenJob<'_, Self::Key>], _: &mut Scratch) {
        for job in jobs {
            let checksum = Self::checksum(job.aad.as_bytes(), job.data.input());
            let good = job.tag.len() == job.key.icv_length
                && job.data.len().is_multiple_of(job.key.block)
                && job.tag.iter().all(|&byte| byte == checksum)
                && job.data.carry_over().is_some();
            if !good {
                job.data.wipe_copy();
            }
            job.verdict = Verdict::from_success(good);
        }
    }

    fn authenticate(&self, jobs: &mut [AuthJob<'_, Self::AuthKey>]) {
        for job in jobs {
            let checksum = job.parts.iter().fold(0_u8, |sum, part| sum.wrapping_add(Self::checksum(&[], part)));
            job.icv = Icv::cut(&[checksum; Icv::MAX], job.key.icv_length);
        }
    }
}
