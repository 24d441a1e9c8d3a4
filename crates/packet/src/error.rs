//! What can be wrong with bytes that are read as packets, and with values that packets are built from.

use core::fmt;

/// Which header an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// Ethernet header and VLAN tags.
    Ethernet,
    /// IEEE 802.2 LLC and SNAP headers.
    Llc,
    /// An IP header of a version not known yet.
    Ip,
    /// IPv4 header.
    Ipv4,
    /// IPv6 fixed header.
    Ipv6,
    /// An IPv6 extension header.
    Ipv6Extension,
    /// TCP header.
    Tcp,
    /// UDP header.
    Udp,
    /// UDP-encapsulated ESP or IKE.
    UdpEsp,
    /// ICMP or ICMPv6 header.
    Icmp,
    /// ESP header or trailer.
    Esp,
    /// AH header.
    Ah,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ethernet => "Ethernet",
            Self::Llc => "LLC",
            Self::Ip => "IP",
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
            Self::Ipv6Extension => "IPv6 extension header",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::UdpEsp => "UDP-ESP",
            Self::Icmp => "ICMP",
            Self::Esp => "ESP",
            Self::Ah => "AH",
        })
    }
}

/// Bytes that are not the packet they were taken for. All lengths and offsets are in bytes.
///
/// Twelve bytes, and nothing is formatted until somebody looks at it: it is made on the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// There is less data than the fixed header, or than the length in the IP header (or the 802.3 length field) says: the packet was cut.
    #[error("{layer}: {needed} bytes expected, {found} found")]
    Truncated {
        /// The header that says so.
        layer: Layer,
        /// Bytes needed, from the start of that header.
        needed: u32,
        /// Bytes there are, from the start of that header.
        found: u32,
    },
    /// A header, option or length inside a complete packet runs past the packet's end.
    #[error("{layer}: {needed} bytes expected before the end of the packet, {found} found")]
    Overrun {
        /// The header that does not fit.
        layer: Layer,
        /// Bytes it needs.
        needed: u32,
        /// Bytes there are up to the end of the packet.
        found: u32,
    },
    /// The version field is not the one of this header (0 in `expected`: neither 4 nor 6).
    #[error("IP version {} expected, {found} found", if *.expected == 0 { "4 or 6".to_owned() } else { .expected.to_string() })]
    Version {
        /// 4, 6, or 0 for either.
        expected: u8,
        /// The version nibble.
        found: u8,
    },
    /// A length field is smaller than the least that the header itself takes.
    #[error("{layer}: a length of at least {min} expected, {found} found")]
    LengthTooSmall {
        /// The header that holds the field.
        layer: Layer,
        /// The least legal length.
        min: u32,
        /// The length found.
        found: u32,
    },
    /// A length is not a multiple of what it has to be.
    #[error("{layer}: a length that is a multiple of {unit} expected, {found} found")]
    Misaligned {
        /// The header that holds the field.
        layer: Layer,
        /// The unit.
        unit: u8,
        /// The length found.
        found: u32,
    },
    /// A hop-by-hop options header that does not directly follow the IPv6 header (RFC 8200 section 4.1).
    #[error("hop-by-hop options directly after the IPv6 header expected, found at offset {offset}")]
    HopByHopNotFirst {
        /// Offset of the header from the start of the IPv6 header.
        offset: u32,
    },
    /// More extension headers than [`MAX_EXTENSION_HEADERS`](crate::ipv6_ext::MAX_EXTENSION_HEADERS).
    #[error("at most {limit} IPv6 extension headers expected, more found")]
    TooManyExtensionHeaders {
        /// The limit.
        limit: u8,
    },
    /// Payload length 0 with a hop-by-hop header: a jumbogram (RFC 2675), which is not supported.
    #[error("an IPv6 payload length expected, a jumbogram found")]
    Jumbogram,
    /// A type or length field between 1501 and 1535, which Ethernet leaves undefined.
    #[error("Ethernet: a type of at least 0x0600 or a length of at most 1500 expected, {found:#06x} found")]
    TypeOrLength {
        /// The value found.
        found: u16,
    },
    /// The ESP pad length is larger than what was carried before it (RFC 4303 section 2.5).
    #[error("ESP: a pad length of at most {max} expected, {found} found")]
    PadLength {
        /// Bytes before the pad length field.
        max: u32,
        /// The pad length.
        found: u8,
    },
}

impl ParseError {
    /// Whether the packet may have been a good one before it was cut, for instance by a capture's snap length.
    pub const fn is_truncated(&self) -> bool {
        matches!(self, Self::Truncated { .. })
    }

    #[inline]
    pub(crate) const fn truncated(layer: Layer, needed: usize, found: usize) -> Self {
        Self::Truncated { layer, needed: needed as u32, found: found as u32 }
    }

    #[inline]
    pub(crate) const fn overrun(layer: Layer, needed: usize, found: usize) -> Self {
        Self::Overrun { layer, needed: needed as u32, found: found as u32 }
    }
}

/// Values that cannot be written as a header. All lengths are in bytes. Nothing has been written when it is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The space for the header is too short.
    #[error("{layer}: space for {needed} bytes expected, {found} found")]
    NoSpace {
        /// The header.
        layer: Layer,
        /// Bytes needed.
        needed: usize,
        /// Bytes there are.
        found: usize,
    },
    /// A value does not fit its field.
    #[error("{layer}: at most {max} expected, {found} found")]
    TooLarge {
        /// The header.
        layer: Layer,
        /// The largest value of the field.
        max: usize,
        /// The value given.
        found: usize,
    },
    /// A part's length is not a multiple of what it has to be.
    #[error("{layer}: a length that is a multiple of {unit} expected, {found} found")]
    Misaligned {
        /// The header.
        layer: Layer,
        /// The unit.
        unit: usize,
        /// The length given.
        found: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_small_enough_for_the_data_path() {
        assert_eq!(size_of::<ParseError>(), 12);
    }

    #[test]
    fn says_what_was_expected_and_found() {
        for (error, text) in [
            (ParseError::truncated(Layer::Ipv4, 20, 3), "IPv4: 20 bytes expected, 3 found"),
            (ParseError::Version { expected: 0, found: 5 }, "IP version 4 or 6 expected, 5 found"),
            (ParseError::Version { expected: 4, found: 6 }, "IP version 4 expected, 6 found"),
            (ParseError::TypeOrLength { found: 1501 }, "Ethernet: a type of at least 0x0600 or a length of at most 1500 expected, 0x05dd found"),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
