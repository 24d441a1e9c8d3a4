//! IP versions and protocol numbers.

use core::fmt;

/// Version of the internet protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum IpVersion {
    /// IPv4 (RFC 791).
    V4 = 4,
    /// IPv6 (RFC 8200).
    V6 = 6,
}

impl IpVersion {
    /// Length of the header without options or extension headers, in bytes.
    #[inline]
    pub const fn header_len(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// The protocol number of a packet of this version inside another: 4 or 41.
    #[inline]
    pub const fn protocol(self) -> IpProtocol {
        match self {
            Self::V4 => IpProtocol::IPV4,
            Self::V6 => IpProtocol::IPV6,
        }
    }

    /// The version that the first byte of a packet says, if it is one of the two.
    #[inline]
    pub const fn of_first_byte(byte: u8) -> Option<Self> {
        match byte >> 4 {
            4 => Some(Self::V4),
            6 => Some(Self::V6),
            _ => None,
        }
    }
}

impl fmt::Display for IpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An IP protocol number, or IPv6 next header value (IANA "Assigned Internet Protocol Numbers"): any of the 256, named or not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpProtocol(pub u8);

macro_rules! protocols {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl IpProtocol {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// The customary name, if this type knows one.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($text),)*
                    _ => None,
                }
            }

            /// The protocol of that customary name, in any case of letters.
            pub fn from_name(name: &str) -> Option<Self> {
                $(if name.eq_ignore_ascii_case($text) { return Some(Self::$name); })*
                None
            }
        }
    };
}

protocols! {
    /// IPv6 hop-by-hop options header.
    HOP_BY_HOP = 0, "HOPOPT";
    /// ICMP for IPv4.
    ICMP = 1, "ICMP";
    /// IGMP.
    IGMP = 2, "IGMP";
    /// IPv4 inside another packet.
    IPV4 = 4, "IPv4";
    /// TCP.
    TCP = 6, "TCP";
    /// UDP.
    UDP = 17, "UDP";
    /// DCCP.
    DCCP = 33, "DCCP";
    /// IPv6 inside another packet.
    IPV6 = 41, "IPv6";
    /// IPv6 routing header.
    ROUTING = 43, "IPv6-Route";
    /// IPv6 fragment header.
    FRAGMENT = 44, "IPv6-Frag";
    /// Generic routing encapsulation.
    GRE = 47, "GRE";
    /// Encapsulating security payload (RFC 4303).
    ESP = 50, "ESP";
    /// Authentication header (RFC 4302).
    AH = 51, "AH";
    /// ICMP for IPv6.
    ICMPV6 = 58, "ICMPv6";
    /// Nothing follows. As the next header of ESP: a dummy packet (RFC 4303 section 2.6).
    NO_NEXT_HEADER = 59, "IPv6-NoNxt";
    /// IPv6 destination options header.
    DESTINATION_OPTIONS = 60, "IPv6-Opts";
    /// OSPF.
    OSPF = 89, "OSPF";
    /// SCTP.
    SCTP = 132, "SCTP";
    /// IPv6 mobility header (RFC 6275).
    MOBILITY = 135, "Mobility";
    /// UDP-Lite.
    UDP_LITE = 136, "UDPLite";
    /// Host identity protocol (RFC 7401).
    HIP = 139, "HIP";
    /// Shim6 (RFC 5533).
    SHIM6 = 140, "Shim6";
}

impl IpProtocol {
    /// Whether this begins a header of the IPv6 extension header chain (RFC 7045 section 4), ESP left out: what follows it cannot be read.
    #[inline]
    pub const fn is_ipv6_extension(self) -> bool {
        matches!(self, Self::HOP_BY_HOP | Self::ROUTING | Self::FRAGMENT | Self::AH | Self::DESTINATION_OPTIONS | Self::MOBILITY | Self::HIP | Self::SHIM6)
    }

    /// Whether the first four bytes of the protocol's header are source and destination port.
    #[inline]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP | Self::DCCP | Self::UDP_LITE)
    }
}

impl From<u8> for IpProtocol {
    fn from(number: u8) -> Self {
        Self(number)
    }
}

impl From<IpProtocol> for u8 {
    fn from(protocol: IpProtocol) -> Self {
        protocol.0
    }
}

impl fmt::Display for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "proto-{}", self.0),
        }
    }
}

impl fmt::Debug for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_go_both_ways() {
        let mut named = 0;
        for number in 0..=255 {
            let protocol = IpProtocol(number);
            if let Some(name) = protocol.name() {
                named += 1;
                assert_eq!(IpProtocol::from_name(&name.to_lowercase()), Some(protocol));
            }
        }
        assert_eq!(named, 22);
        assert_eq!(IpProtocol(200).to_string(), "proto-200");
        assert_eq!(format!("{:?}", IpProtocol::ESP), "ESP(50)");
        assert_eq!(IpProtocol::from_name("espresso"), None);
    }

    #[test]
    fn versions() {
        for byte in 0..=255u8 {
            let expected = match byte >> 4 {
                4 => Some(IpVersion::V4),
                6 => Some(IpVersion::V6),
                _ => None,
            };
            assert_eq!(IpVersion::of_first_byte(byte), expected);
        }
        assert_eq!(IpVersion::V4.protocol(), IpProtocol::IPV4);
        assert_eq!(IpVersion::V6.protocol(), IpProtocol(41));
    }
}
