//! IV masks that can be made again: for tests only.

use core::fmt;
use core::str::FromStr;

use ipsec::{Aad, AesKeySize, Crypto, Data, Encryption, KeyParameters, Provider, SealJob};
use ndis::Direction;
use secret::{HexError, SecretBytes};
use transport::SaParameters;

/// The most bytes of a seed.
const LENGTH: usize = 32;

/// What IV masks are made from in place of random numbers, so that two runs give the same bytes. Whoever knows it knows every IV, and whoever uses it
/// twice uses every IV twice: it is for tests.
///
/// An SA's mask is made of the seed (1 to 32 bytes, filled up with zeros) as an AES-256-GCM key: the first 8 bytes of the tag over the SA's identity
/// (direction, name, addresses, SPI), with a nonce that holds the seed's length.
pub struct IvSeed {
    bytes: SecretBytes,
}

/// Why a text is no seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// Not hexadecimal.
    #[error(transparent)]
    Hex(#[from] HexError),
    /// Too short or too long.
    #[error("{found} bytes found, 1 to {LENGTH} allowed")]
    Length {
        /// Its bytes.
        found: usize,
    },
}

impl FromStr for IvSeed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = SecretBytes::from_hex(text)?;
        if (1..=LENGTH).contains(&bytes.len()) { Ok(Self { bytes }) } else { Err(SeedError::Length { found: bytes.len() }) }
    }
}

impl Clone for IvSeed {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.duplicate() }
    }
}

impl fmt::Debug for IvSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IvSeed({} bytes)", self.bytes.len())
    }
}

impl IvSeed {
    /// The mask of an SA.
    ///
    /// # Panics
    /// Never: with every provider, 32 bytes are an AES-256 key.
    pub fn mask(&self, crypto: Crypto, parameters: &SaParameters) -> u64 {
        let mut identity = vec![match parameters.direction {
            Direction::Inbound => 0,
            Direction::Outbound => 1,
        }];
        identity.extend((parameters.name.len() as u64).to_be_bytes());
        identity.extend(parameters.name.as_bytes());
        identity.extend(parameters.source.as_bytes());
        identity.extend(parameters.destination.as_bytes());
        identity.extend(parameters.associations.iter().flat_map(|association| association.spi.to_be_bytes()));
        let mut key = [0; LENGTH];
        key[..self.bytes.len()].copy_from_slice(self.bytes.expose());
        let mut nonce = [0; 12];
        nonce[11] = self.bytes.len() as u8;
        let mut tag = [0; 16];
        let key = SecretBytes::copy_from_slice(&key);
        let key = crypto.key(&KeyParameters::combined(Encryption::AesGcm(AesKeySize::Aes256), key.expose(), tag.len())).expect("32 bytes are an AES-256 key");
        let aad = Aad::new(&[]).expect("nothing fits anywhere");
        crypto.seal(&mut [SealJob::new(&key, nonce, aad, Data::InPlace(&mut identity), &mut tag)]);
        (u128::from_be_bytes(tag) >> 64) as u64
    }
}
