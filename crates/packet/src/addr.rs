//! IP addresses of either version, and MAC addresses.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use crate::proto::IpVersion;

/// An IPv4 or IPv6 address: 17 bytes without padding, compared and hashed without looking at the version first.
///
/// Ordered by version, then as the numbers that the addresses are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IpAddress {
    version: IpVersion,
    // As in the packet. An IPv4 address takes the first four bytes, and the rest are zero.
    bytes: [u8; 16],
}

impl IpAddress {
    /// 0.0.0.0
    pub const UNSPECIFIED_V4: Self = Self::v4([0; 4]);
    /// ::
    pub const UNSPECIFIED_V6: Self = Self::v6([0; 16]);

    /// An IPv4 address from the bytes as they stand in a packet.
    #[inline]
    pub const fn v4(bytes: [u8; 4]) -> Self {
        let [a, b, c, d] = bytes;
        Self { version: IpVersion::V4, bytes: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] }
    }

    /// An IPv6 address from the bytes as they stand in a packet.
    #[inline]
    pub const fn v6(bytes: [u8; 16]) -> Self {
        Self { version: IpVersion::V6, bytes }
    }

    /// Version.
    #[inline]
    pub const fn version(&self) -> IpVersion {
        self.version
    }

    /// Whether this is an IPv4 address.
    #[inline]
    pub const fn is_v4(&self) -> bool {
        matches!(self.version, IpVersion::V4)
    }

    /// The bytes as in a packet: 4 or 16.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self.version {
            IpVersion::V4 => &self.bytes[..4],
            IpVersion::V6 => &self.bytes,
        }
    }

    /// Sixteen bytes, an IPv4 address in the first four and zero after it: the form of the NDIS structures.
    #[inline]
    pub const fn to_padded(self) -> [u8; 16] {
        self.bytes
    }

    /// From the form that [`Self::to_padded`] gives; for IPv4 the last twelve bytes are ignored.
    #[inline]
    pub const fn from_padded(version: IpVersion, bytes: [u8; 16]) -> Self {
        match version {
            IpVersion::V4 => Self::v4([bytes[0], bytes[1], bytes[2], bytes[3]]),
            IpVersion::V6 => Self::v6(bytes),
        }
    }

    /// The address as a number, of 32 or 128 bits.
    #[inline]
    pub const fn to_number(self) -> u128 {
        match self.version {
            IpVersion::V4 => u128::from_be_bytes(self.bytes) >> 96,
            IpVersion::V6 => u128::from_be_bytes(self.bytes),
        }
    }

    /// The address of `version` that is `number`; `None` if it has more than 32 bits for IPv4.
    pub const fn from_number(version: IpVersion, number: u128) -> Option<Self> {
        match version {
            IpVersion::V4 if number >> 32 == 0 => Some(Self::v4((number as u32).to_be_bytes())),
            IpVersion::V4 => None,
            IpVersion::V6 => Some(Self::v6(number.to_be_bytes())),
        }
    }

    /// Whether this is 0.0.0.0 or ::, which SA filters take for any address (OV2-SA-2).
    #[inline]
    pub const fn is_unspecified(&self) -> bool {
        u128::from_ne_bytes(self.bytes) == 0
    }

    /// Whether this is a multicast address, or the IPv4 limited broadcast address.
    #[inline]
    pub const fn is_multicast(&self) -> bool {
        match self.version {
            IpVersion::V4 => self.bytes[0] & 0xf0 == 0xe0 || u32::from_ne_bytes([self.bytes[0], self.bytes[1], self.bytes[2], self.bytes[3]]) == u32::MAX,
            IpVersion::V6 => self.bytes[0] == 0xff,
        }
    }
}

impl Hash for IpAddress {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [high, low] = [0, 8].map(|at| {
            let mut half = [0; 8];
            half.copy_from_slice(&self.bytes[at..at + 8]);
            u64::from_ne_bytes(half)
        });
        state.write_u64(high);
        state.write_u64(low ^ self.version as u64);
    }
}

impl From<Ipv4Addr> for IpAddress {
    #[inline]
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address.octets())
    }
}

impl From<Ipv6Addr> for IpAddress {
    #[inline]
    fn from(address: Ipv6Addr) -> Self {
        Self::v6(address.octets())
    }
}

impl From<IpAddr> for IpAddress {
    #[inline]
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<IpAddress> for IpAddr {
    #[inline]
    fn from(address: IpAddress) -> Self {
        match address.version {
            IpVersion::V4 => Self::V4(Ipv4Addr::new(address.bytes[0], address.bytes[1], address.bytes[2], address.bytes[3])),
            IpVersion::V6 => Self::V6(Ipv6Addr::from(address.bytes)),
        }
    }
}

impl FromStr for IpAddress {
    type Err = core::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<IpAddr>().map(Self::from)
    }
}

impl fmt::Display for IpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&IpAddr::from(*self), f)
    }
}

impl fmt::Debug for IpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An Ethernet (MAC) address, the bytes as they stand in a frame.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// ff:ff:ff:ff:ff:ff
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether the address is a group address: multicast or broadcast.
    #[inline]
    pub const fn is_multicast(&self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use core::hash::BuildHasher;
    use std::hash::{BuildHasherDefault, DefaultHasher};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_seventeen_bytes() {
        assert_eq!(size_of::<IpAddress>(), 17);
        assert_eq!(align_of::<IpAddress>(), 1);
    }

    #[test]
    fn an_ipv4_address_is_not_the_ipv6_address_with_its_bytes() {
        let four = IpAddress::v4([1, 2, 3, 4]);
        let six = IpAddress::v6(four.to_padded());
        assert_ne!(four, six);
        assert!(four < six);
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        assert_ne!(hasher.hash_one(four), hasher.hash_one(six));
    }

    #[test]
    fn kinds_of_addresses() {
        for (text, unspecified, multicast) in [
            ("0.0.0.0", true, false),
            ("::", true, false),
            ("0.0.0.1", false, false),
            ("::1", false, false),
            ("223.255.255.255", false, false),
            ("224.0.0.0", false, true),
            ("239.255.255.255", false, true),
            ("240.0.0.0", false, false),
            ("255.255.255.255", false, true),
            ("ff02::1", false, true),
            ("fe80::1", false, false),
        ] {
            let address: IpAddress = text.parse().unwrap();
            assert_eq!((address.is_unspecified(), address.is_multicast()), (unspecified, multicast), "{text}");
            assert_eq!(address.to_string(), text);
        }
        assert_eq!(IpAddress::from_number(IpVersion::V4, 1 << 32), None);
        assert_eq!(MacAddress([0x01, 0, 0x5e, 0xab, 0, 9]).to_string(), "01:00:5e:ab:00:09");
    }

    proptest! {
        #[test]
        fn converts_and_orders_like_the_standard_library(left: IpAddr, right: IpAddr) {
            let (a, b) = (IpAddress::from(left), IpAddress::from(right));
            prop_assert_eq!(IpAddr::from(a), left);
            prop_assert_eq!(a.cmp(&b), left.cmp(&right));
            prop_assert_eq!(IpAddress::from_padded(a.version(), a.to_padded()), a);
            prop_assert_eq!(IpAddress::from_number(a.version(), a.to_number()), Some(a));
            prop_assert_eq!(a.is_unspecified(), left.is_unspecified());
            if a.version() == b.version() {
                prop_assert_eq!(a.to_number().cmp(&b.to_number()), a.cmp(&b));
            }
        }
    }
}
