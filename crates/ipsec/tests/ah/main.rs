//! AH against another implementation, over every shape of header in front of it, and over damage.

mod builder;
mod every_bit;
mod lengths;
mod properties;
mod vectors;

use ipsec::{AhParameters, AhSa, Authentication, Crypto};
use secret::SecretBytes;

/// The algorithms that AH can have.
fn algorithms() -> impl Iterator<Item = Authentication> {
    Authentication::ALL.into_iter().filter(|&algorithm| algorithm != Authentication::None)
}

fn sa(crypto: Crypto, authentication: Authentication, extended_sequence_numbers: bool) -> AhSa<Crypto> {
    let key = SecretBytes::from((0..authentication.key_length()).map(|at| at as u8 ^ 0x5a).collect::<Vec<_>>());
    AhSa::new(&crypto, &AhParameters { authentication, key: &key, extended_sequence_numbers, iv_mask: 0x0123_4567_89ab_cdef }).unwrap()
}
