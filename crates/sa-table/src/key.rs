//! What receive looks an SA up by, and the hash that spreads it.

/// Words of a [`Seed`].
pub const SEED_WORDS: usize = 7;

/// What an inbound SA is found by: SPI, destination address and address family (OV2-RECV-3).
///
/// A key whose destination is all zero is a wildcard: an SA without a destination filter (OV2-SA-2), found for every
/// destination of its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Security parameters index, in whatever byte order the caller uses throughout.
    pub spi: u32,
    /// Destination address as it stands in the packet; IPv4 in the first four bytes, the others zero.
    pub destination: [u8; 16],
    /// Whether the destination is an IPv6 address.
    pub ipv6: bool,
}

impl Key {
    /// A key of an IPv4 destination.
    pub const fn v4(spi: u32, destination: [u8; 4]) -> Self {
        let [a, b, c, d] = destination;
        Self { spi, destination: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], ipv6: false }
    }

    /// A key of an IPv6 destination.
    pub const fn v6(spi: u32, destination: [u8; 16]) -> Self {
        Self { spi, destination, ipv6: true }
    }

    /// Whether the destination is all zero.
    #[inline]
    pub fn is_wildcard(&self) -> bool {
        u128::from_ne_bytes(self.destination) == 0
    }

    /// The wildcard key of the same SPI and family.
    #[inline]
    pub const fn wildcard(&self) -> Self {
        Self { spi: self.spi, destination: [0; 16], ipv6: self.ipv6 }
    }
}

/// Secret of a table's hash: take it from the system's random generator, one per table.
///
/// The hash is the multilinear family of Lemire and Kaser ("Strongly universal string hashing is fast"): six products
/// and sums modulo 2^64, of which the upper half is used. It is strongly universal, so whoever does not know the seed
/// cannot choose keys that share a bucket more often than chance would have it.
#[derive(Clone)]
pub struct Seed([u64; SEED_WORDS]);

impl Seed {
    /// A seed of these words, all of them secret and uniformly random.
    pub const fn new(words: [u64; SEED_WORDS]) -> Self {
        Self(words)
    }

    /// 32 bits, uniform over the choice of the seed.
    #[inline(always)]
    pub(crate) fn hash(&self, key: &Key) -> u32 {
        let d = u128::from_le_bytes(key.destination);
        let words = [d as u32, (d >> 32) as u32, (d >> 64) as u32, (d >> 96) as u32, key.spi, u32::from(key.ipv6)];
        let [first, rest @ ..] = &self.0;
        let sum = words.iter().zip(rest).fold(*first, |sum, (word, seed)| sum.wrapping_add(seed.wrapping_mul(u64::from(*word))));
        (sum >> 32) as u32
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_key_enters_the_hash() {
        let seed = Seed::new([1, 2, 3, 5, 7, 11, 13].map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let key = Key::v4(0x1001, [192, 0, 2, 1]);
        let mut others = vec![Key { spi: 0x1002, ..key }, Key { ipv6: true, ..key }];
        for byte in 0..16 {
            let mut other = key;
            other.destination[byte] ^= 0x80;
            others.push(other);
        }
        for other in others {
            assert_ne!(seed.hash(&key), seed.hash(&other), "{other:?}");
        }
    }

    #[test]
    fn wildcards() {
        assert!(Key::v4(1, [0; 4]).is_wildcard());
        assert!(!Key::v4(1, [0, 0, 0, 1]).is_wildcard());
        let mut last = [0; 16];
        last[15] = 1;
        assert!(!Key::v6(1, last).is_wildcard());
        assert_eq!(Key::v6(9, last).wildcard(), Key::v6(9, [0; 16]));
        assert_eq!(format!("{:?}", Seed::new([5; 7])), "Seed(..)");
    }
}
