//! Selectors: which packets a policy or an SA is about (RFC 4301 section 4.4.1.1).

use core::fmt;

use packet::{IpAddress, IpProtocol, IpVersion};

/// What selectors look at in a packet, in the direction in which the packet travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Source address.
    pub source: IpAddress,
    /// Destination address.
    pub destination: IpAddress,
    /// The protocol after the IP header and its extension headers.
    pub protocol: IpProtocol,
    /// Source and destination port; `None` if the protocol has none or they cannot be read (RFC 4301: OPAQUE), as in later fragments.
    pub ports: Option<(u16, u16)>,
}

/// A range of addresses of one version, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange {
    version: IpVersion,
    first: u128,
    last: u128,
}

impl AddressRange {
    /// The range from `first` to `last`; `None` if they are of different versions or in the wrong order.
    pub fn new(first: IpAddress, last: IpAddress) -> Option<Self> {
        let range = Self { version: first.version(), first: first.to_number(), last: last.to_number() };
        (first.version() == last.version() && range.first <= range.last).then_some(range)
    }

    /// One address.
    pub fn single(address: IpAddress) -> Self {
        let number = address.to_number();
        Self { version: address.version(), first: number, last: number }
    }

    /// The addresses that share the first `length` bits with `address`; `None` if the version has fewer bits, or if `address` has bits set after them.
    pub fn prefix(address: IpAddress, length: u8) -> Option<Self> {
        let bits: u32 = if address.is_v4() { 32 } else { 128 };
        let host_bits = bits.checked_sub(u32::from(length))?;
        let hosts = if host_bits == 128 { u128::MAX } else { (1 << host_bits) - 1 };
        let first = address.to_number();
        (first & hosts == 0).then_some(Self { version: address.version(), first, last: first | hosts })
    }

    /// All addresses of the version of `address`.
    pub fn all(address: IpAddress) -> Self {
        let last = if address.is_v4() { u128::from(u32::MAX) } else { u128::MAX };
        Self { version: address.version(), first: 0, last }
    }

    /// The lowest of its addresses.
    pub fn first(&self) -> IpAddress {
        self.address(self.first)
    }

    /// The highest of its addresses.
    pub fn last(&self) -> IpAddress {
        self.address(self.last)
    }

    /// An address of the range by its number.
    fn address(&self, number: u128) -> IpAddress {
        // (It has one: it is not above `last`.)
        IpAddress::from_number(self.version, number).unwrap_or(IpAddress::UNSPECIFIED_V4)
    }

    /// The version of its addresses.
    pub const fn version(&self) -> IpVersion {
        self.version
    }

    /// Whether `address` is one of these.
    #[inline]
    pub fn contains(&self, address: IpAddress) -> bool {
        address.version() == self.version && (self.first..=self.last).contains(&address.to_number())
    }

    /// The address and the number of bits of the prefix that the range is, if it is one.
    pub fn as_prefix(&self) -> Option<(IpAddress, u8)> {
        let hosts = self.first ^ self.last;
        let bits = if self.version == IpVersion::V4 { 32 } else { 128 };
        // All addresses that share the first bits: zeros up to ones behind them.
        let is_prefix = hosts & hosts.wrapping_add(1) == 0 && self.first & hosts == 0;
        let length = u8::try_from(bits - (128 - hosts.leading_zeros())).ok()?;
        if is_prefix { Some((IpAddress::from_number(self.version, self.first)?, length)) } else { None }
    }

    /// The only address of the range, if it has just one.
    pub fn as_single(&self) -> Option<IpAddress> {
        (self.first == self.last).then(|| IpAddress::from_number(self.version, self.first)).flatten()
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first());
        }
        let hosts = self.first ^ self.last;
        let is_prefix = hosts & hosts.wrapping_add(1) == 0 && self.first & hosts == 0;
        if is_prefix {
            let bits = if self.version == IpVersion::V4 { 32 } else { 128 };
            write!(f, "{}/{}", self.first(), bits - (128 - hosts.leading_zeros()))
        } else {
            write!(f, "{}-{}", self.first(), self.last())
        }
    }
}

impl fmt::Debug for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl PortRange {
    /// Every port, and packets without ports.
    pub const ANY: Self = Self { first: 0, last: u16::MAX };

    /// Whether `port` is one of these. A packet without (readable) ports fits only [`PortRange::ANY`]: a policy for some ports must not catch, or let
    /// through, what may be something else.
    #[inline]
    pub fn contains(&self, port: Option<u16>) -> bool {
        match port {
            Some(port) => (self.first..=self.last).contains(&port),
            None => *self == Self::ANY,
        }
    }
}

/// A set of packets: those that fit every member. The default fits all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    /// Source addresses; `None` = any.
    pub source: Option<AddressRange>,
    /// Destination addresses; `None` = any.
    pub destination: Option<AddressRange>,
    /// Protocol; `None` = any.
    pub protocol: Option<IpProtocol>,
    /// Source ports.
    pub source_port: PortRange,
    /// Destination ports.
    pub destination_port: PortRange,
}

impl Selector {
    /// Every packet.
    pub const ANY: Self = Self { source: None, destination: None, protocol: None, source_port: PortRange::ANY, destination_port: PortRange::ANY };

    /// Packets from one address to another.
    pub fn between(source: IpAddress, destination: IpAddress) -> Self {
        Self { source: Some(AddressRange::single(source)), destination: Some(AddressRange::single(destination)), ..Self::ANY }
    }

    /// Whether a packet of `flow` is one of these.
    #[inline]
    pub fn matches(&self, flow: &Flow) -> bool {
        let (source_port, destination_port) = flow.ports.unzip();
        self.source.is_none_or(|range| range.contains(flow.source))
            && self.destination.is_none_or(|range| range.contains(flow.destination))
            && self.protocol.is_none_or(|protocol| protocol == flow.protocol)
            && self.source_port.contains(source_port)
            && self.destination_port.contains(destination_port)
    }

    /// The same packets on their way back: source and destination exchanged.
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

impl Default for Selector {
    fn default() -> Self {
        Self::ANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddress {
        text.parse().unwrap()
    }

    fn flow(source: &str, destination: &str, ports: Option<(u16, u16)>) -> Flow {
        Flow { source: address(source), destination: address(destination), protocol: IpProtocol::UDP, ports }
    }

    #[test]
    fn ranges_know_their_ends_and_their_version() {
        let range = AddressRange::new(address("10.0.2.0"), address("10.0.2.99")).unwrap();
        for (text, inside) in [("10.0.1.255", false), ("10.0.2.0", true), ("10.0.2.99", true), ("10.0.2.100", false), ("::a00:200", false)] {
            assert_eq!(range.contains(address(text)), inside, "{text}");
        }
        assert_eq!(AddressRange::new(address("10.0.0.2"), address("10.0.0.1")), None);
        assert_eq!(AddressRange::new(address("10.0.0.2"), address("::1")), None);
    }

    #[test]
    fn prefixes_are_ranges() {
        assert_eq!(AddressRange::prefix(address("10.0.1.0"), 24), AddressRange::new(address("10.0.1.0"), address("10.0.1.255")));
        assert_eq!(AddressRange::prefix(address("10.0.1.1"), 24), None, "bits after the prefix");
        assert_eq!(AddressRange::prefix(address("10.0.1.0"), 33), None);
        assert_eq!(AddressRange::prefix(address("::"), 129), None);
        assert!(AddressRange::prefix(address("::"), 0).unwrap().contains(address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")));
        assert!(AddressRange::prefix(address("0.0.0.0"), 0).unwrap().contains(address("255.255.255.255")));
    }

    #[test]
    fn ranges_print_in_their_shortest_form() {
        for (first, last, text) in [
            ("10.0.1.0", "10.0.1.255", "10.0.1.0/24"),
            ("10.0.1.7", "10.0.1.7", "10.0.1.7"),
            ("10.0.2.0", "10.0.2.99", "10.0.2.0-10.0.2.99"),
            ("10.0.1.1", "10.0.1.2", "10.0.1.1-10.0.1.2"),
            ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"),
            ("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64"),
        ] {
            assert_eq!(AddressRange::new(address(first), address(last)).unwrap().to_string(), text);
        }
    }

    #[test]
    fn prefixes_are_told_from_other_ranges() {
        for (first, last, length) in [
            ("10.0.1.0", "10.0.1.255", Some(24)),
            ("10.0.1.7", "10.0.1.7", Some(32)),
            ("0.0.0.0", "255.255.255.255", Some(0)),
            ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some(0)),
            ("2001:db8::", "2001:db8::1", Some(127)),
            ("10.0.1.1", "10.0.1.2", None),
            ("10.0.1.1", "10.0.1.255", None),
            ("10.0.1.128", "10.0.2.127", None),
        ] {
            let range = AddressRange::new(address(first), address(last)).unwrap();
            assert_eq!(range.as_prefix(), length.map(|length| (address(first), length)), "{range}");
        }
    }

    #[test]
    fn a_packet_without_ports_fits_only_any_port() {
        let https = Selector { destination_port: PortRange { first: 443, last: 443 }, ..Selector::ANY };
        assert!(https.matches(&flow("10.0.0.1", "10.0.0.2", Some((5, 443)))));
        assert!(!https.matches(&flow("10.0.0.1", "10.0.0.2", Some((443, 5)))));
        assert!(!https.matches(&flow("10.0.0.1", "10.0.0.2", None)));
        assert!(Selector::ANY.matches(&flow("10.0.0.1", "10.0.0.2", None)));
        assert!(https.reversed().matches(&flow("10.0.0.2", "10.0.0.1", Some((443, 5)))));
    }

    #[test]
    fn every_member_must_fit() {
        let selector = Selector { protocol: Some(IpProtocol::TCP), ..Selector::between(address("10.0.0.1"), address("10.0.0.2")) };
        let udp = flow("10.0.0.1", "10.0.0.2", None);
        assert!(!selector.matches(&udp));
        assert!(selector.matches(&Flow { protocol: IpProtocol::TCP, ..udp }));
        assert!(!selector.matches(&Flow { protocol: IpProtocol::TCP, ..flow("10.0.0.2", "10.0.0.1", None) }));
    }
}
