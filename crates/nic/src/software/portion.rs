//! One IP packet as a NIC looks at it: where its IPsec header is, and what keeps it from being processed.
//!
//! A packet on the wire is one portion, or the outer of two: the packet inside a tunnel is looked at in the same way.

use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use ndis::{Operation, UdpEspType};
use packet::{FragmentState, IpProtocol, IpVersion, Ipv4Packet, Ipv6Packet, NON_ESP_MARKER, ParsedIp, UDP_HEADER_LEN, UdpPacket};

/// Which of two nested portions: the packet on the wire, or the one inside its tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    Outer,
    Inner,
}

impl Position {
    /// Whether the ESP of a bundle of that type stands in UDP here (OV2-RECV-7).
    #[inline]
    pub(super) const fn in_udp(self, kind: Option<UdpEspType>) -> bool {
        match kind {
            None => false,
            Some(UdpEspType::Transport | UdpEspType::Tunnel) => true,
            Some(UdpEspType::TransportOverUdpTunnel) => matches!(self, Self::Outer),
            Some(UdpEspType::UdpTransportOverTunnel) => matches!(self, Self::Inner),
        }
    }
}

/// The outermost IPsec header of a portion, in one word, so that it stays in a register: what is put together in memory and copied from there stalls the copy.
///
/// ```text
/// bits 0-1: AH, ESP, ESP in UDP   2-19: offset   20-39: end   40-55: destination port of the datagram
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IpsecHeader(NonZeroU64);

impl IpsecHeader {
    const KIND: u64 = 3;
    const AH: u64 = 1;
    const ESP: u64 = 2;
    const ESP_IN_UDP: u64 = 3;
    const OFFSET: u32 = 2;
    const END: u32 = 20;
    const PORT: u32 = 40;

    /// Offsets are within an IP packet: below 2^17.
    #[inline(always)]
    const fn new(kind: u64, offset: usize, end: usize, port: u16) -> Option<Self> {
        match NonZeroU64::new(kind | (offset as u64) << Self::OFFSET | (end as u64) << Self::END | (port as u64) << Self::PORT) {
            Some(word) => Some(Self(word)),
            None => None,
        }
    }

    /// ESP at `offset` of a packet that ends at `end`; in UDP to `port`, if that is not `None`.
    #[inline(always)]
    pub(super) const fn esp(offset: usize, end: usize, port: Option<u16>) -> Option<Self> {
        match port {
            None => Self::new(Self::ESP, offset, end, 0),
            Some(port) => Self::new(Self::ESP_IN_UDP, offset, end, port),
        }
    }

    const fn kind(self) -> u64 {
        self.0.get() & Self::KIND
    }

    /// Which.
    #[inline]
    pub(super) const fn operation(self) -> Operation {
        if self.kind() == Self::AH { Operation::Ah } else { Operation::Esp }
    }

    /// Where it begins, in bytes from the start of the IP header.
    #[inline]
    pub(super) const fn offset(self) -> usize {
        (self.0.get() >> Self::OFFSET & 0x3_ffff) as usize
    }

    /// Where what it heads ends, in bytes from the start of the IP header: with the IP packet; after the SPI if it is in a datagram of another length.
    #[inline]
    pub(super) const fn end(self) -> usize {
        (self.0.get() >> Self::END & 0xf_ffff) as usize
    }

    /// The destination port, if it is in UDP.
    #[inline]
    pub(super) const fn udp_port(self) -> Option<u16> {
        if self.kind() == Self::ESP_IN_UDP { Some((self.0.get() >> Self::PORT) as u16) } else { None }
    }
}

/// What a NIC sees of an IP packet's headers, in two words. All of it lies within the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portion {
    /// The outermost IPsec header, if it can be found.
    pub(super) ipsec: Option<IpsecHeader>,
    /// Bits 0 to 3: [`Self::ALWAYS`], [`Self::V6`], [`Self::EXTRAS`], [`Self::FRAGMENT`]; above them the packet's length.
    shape: NonZeroU64,
}

impl Portion {
    const ALWAYS: u64 = 1;
    const V6: u64 = 1 << 1;
    const EXTRAS: u64 = 1 << 2;
    const FRAGMENT: u64 = 1 << 3;
    const TOTAL_LEN: u32 = 4;

    #[inline(always)]
    fn new(version: IpVersion, total_len: usize, ipsec: Option<IpsecHeader>, extras: bool, fragment: bool) -> Option<Self> {
        let mut shape = Self::ALWAYS | (total_len as u64) << Self::TOTAL_LEN;
        for (on, bit) in [(version == IpVersion::V6, Self::V6), (extras, Self::EXTRAS), (fragment, Self::FRAGMENT)] {
            shape |= if on { bit } else { 0 };
        }
        Some(Self { ipsec, shape: NonZeroU64::new(shape)? })
    }

    /// Length of the IP packet, in bytes.
    #[inline]
    pub(super) const fn total_len(self) -> usize {
        (self.shape.get() >> Self::TOTAL_LEN) as usize
    }

    /// IP version.
    #[inline]
    pub(super) const fn version(self) -> IpVersion {
        if self.shape.get() & Self::V6 == 0 { IpVersion::V4 } else { IpVersion::V6 }
    }

    /// Whether there are IPv4 options, or IPv6 extension headers before the IPsec header.
    #[inline]
    pub(super) const fn extras(self) -> bool {
        self.shape.get() & Self::EXTRAS != 0
    }

    /// Whether the packet is a fragment; an atomic one (RFC 6946) is none.
    #[inline]
    pub(super) const fn fragment(self) -> bool {
        self.shape.get() & Self::FRAGMENT != 0
    }

    /// Reads the IP packet at the start of `bytes`; `None` if it is malformed or cut. `carries_esp`: whether UDP to that port is to be looked into for ESP.
    // Inlined whole, so that what was read goes from registers to where it is wanted: many small fields that are copied by wide loads stall on their stores.
    #[inline(always)]
    pub(super) fn parse(bytes: &[u8], carries_esp: impl Fn(u16) -> bool) -> Option<Self> {
        match IpVersion::of_first_byte(*bytes.first()?)? {
            IpVersion::V4 => Self::parse_v4(bytes, carries_esp),
            IpVersion::V6 => Self::parse_v6(bytes, carries_esp),
        }
    }

    #[inline(always)]
    fn parse_v4(bytes: &[u8], carries_esp: impl Fn(u16) -> bool) -> Option<Self> {
        let packet = Ipv4Packet::new(bytes).ok()?;
        let (offset, total_len, fragment) = (packet.header_len(), packet.total_len(), packet.is_fragment());
        let ipsec = ipsec_header(packet.protocol(), bytes, offset, total_len, fragment, carries_esp);
        Self::new(IpVersion::V4, total_len, ipsec, offset > IpVersion::V4.header_len(), fragment)
    }

    #[inline]
    fn parse_v6(bytes: &[u8], carries_esp: impl Fn(u16) -> bool) -> Option<Self> {
        let packet = Ipv6Packet::new(bytes).ok()?;
        let (version, total_len) = (IpVersion::V6, packet.total_len());
        if packet.next_header() == IpProtocol::AH || !packet.next_header().is_ipv6_extension() {
            let ipsec = ipsec_header(packet.next_header(), bytes, version.header_len(), total_len, false, carries_esp);
            return Self::new(version, total_len, ipsec, false, false);
        }
        Self::parse_v6_chain(bytes, carries_esp)
    }

    #[cold]
    fn parse_v6_chain(bytes: &[u8], carries_esp: impl Fn(u16) -> bool) -> Option<Self> {
        let parsed = ParsedIp::parse(bytes).ok()?;
        let fragment = parsed.fragment().is_part();
        let ipsec = if parsed.fragment() == FragmentState::Later {
            None
        } else {
            ipsec_header(parsed.protocol(), bytes, parsed.header_len(), parsed.total_len(), fragment, carries_esp)
        };
        Self::new(IpVersion::V6, parsed.total_len(), ipsec, parsed.has_options_or_extensions(), fragment)
    }
}

#[inline(always)]
fn ipsec_header(protocol: IpProtocol, bytes: &[u8], offset: usize, end: usize, fragment: bool, carries_esp: impl Fn(u16) -> bool) -> Option<IpsecHeader> {
    let kind = match protocol {
        IpProtocol::ESP => IpsecHeader::ESP,
        IpProtocol::AH => IpsecHeader::AH,
        IpProtocol::UDP if !fragment => return esp_in_udp(bytes.get(offset..end)?, offset, carries_esp),
        _ => return None,
    };
    IpsecHeader::new(kind, offset, end, 0)
}

/// The ESP in a UDP datagram. IKE, keepalives, and what is too short for an SPI, are none (RFC 3948). The checksum is not looked at (RFC 6935).
///
/// ESP ends with the IP packet. The datagram's length, which nobody authenticates, has to say the same: if it does not, all that there is of the ESP is the
/// SPI that its bundle is found by, and that is too short for any.
fn esp_in_udp(datagram: &[u8], offset: usize, carries_esp: impl Fn(u16) -> bool) -> Option<IpsecHeader> {
    let (header, payload) = datagram.split_first_chunk::<UDP_HEADER_LEN>()?;
    let [_, _, high, low, ..] = *header;
    let port = u16::from_be_bytes([high, low]);
    // There is no port 0; as an adapter's it stands for none.
    if port == 0 || !carries_esp(port) {
        return None;
    }
    let spi = payload.first_chunk::<4>()?;
    if *spi == NON_ESP_MARKER {
        return None;
    }
    let fits = UdpPacket::new(datagram).is_ok_and(|udp| udp.total_len() == datagram.len());
    let length = UDP_HEADER_LEN + if fits { payload.len() } else { spi.len() };
    IpsecHeader::new(IpsecHeader::ESP_IN_UDP, offset + UDP_HEADER_LEN, offset + length, port)
}

/// The local UDP ports that are looked into for ESP: the adapter's, and those that single bundles brought.
///
/// A port stays when its bundles have gone, unless it was released: it costs a look-up that finds nothing.
pub(super) struct Ports {
    adapter: AtomicU16,
    /// A bit each.
    others: Box<[AtomicU64]>,
}

impl Default for Ports {
    fn default() -> Self {
        Self { adapter: AtomicU16::new(0), others: (0..1024).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Ports {
    /// The adapter's port.
    #[inline]
    pub(super) fn adapter(&self) -> u16 {
        self.adapter.load(Ordering::Relaxed)
    }

    pub(super) fn set_adapter(&self, port: u16) {
        self.adapter.store(port, Ordering::Relaxed);
    }

    /// Adds the port of a bundle.
    pub(super) fn add(&self, port: u16) {
        if let Some(word) = self.others.get(usize::from(port / 64)) {
            word.fetch_or(1 << (port % 64), Ordering::Relaxed);
        }
    }

    /// Takes it away again.
    pub(super) fn remove(&self, port: u16) {
        if let Some(word) = self.others.get(usize::from(port / 64)) {
            word.fetch_and(!(1 << (port % 64)), Ordering::Relaxed);
        }
    }

    /// Whether UDP to that port is to be looked into.
    #[inline]
    pub(super) fn contains(&self, port: u16) -> bool {
        port == self.adapter() || self.others.get(usize::from(port / 64)).is_some_and(|word| word.load(Ordering::Relaxed) >> (port % 64) & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_the_adapters_and_those_added() {
        let ports = Ports::default();
        ports.set_adapter(4500);
        for port in [1, 63, 64, 4501, u16::MAX] {
            assert!(!ports.contains(port));
            ports.add(port);
            assert!(ports.contains(port));
        }
        ports.remove(64);
        assert!(!ports.contains(64) && ports.contains(63));
        assert!(ports.contains(4500) && !ports.contains(0) && !ports.contains(4499) && !ports.contains(62));
    }

    #[test]
    fn the_words_hold_the_longest_packets() {
        for (kind, offset, end, port) in
            [(IpsecHeader::AH, 40, 65_575, 0), (IpsecHeader::ESP, 32_808, 65_575, 0), (IpsecHeader::ESP_IN_UDP, 28, 65_535, u16::MAX)]
        {
            let header = IpsecHeader::new(kind, offset, end, port).unwrap();
            let udp_port = (kind == IpsecHeader::ESP_IN_UDP).then_some(port);
            let operation = if kind == IpsecHeader::AH { Operation::Ah } else { Operation::Esp };
            assert_eq!((header.operation(), header.offset(), header.end(), header.udp_port()), (operation, offset, end, udp_port));
            for bits in 0..8 {
                let (v6, extras, fragment) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
                let portion = Portion::new(if v6 { IpVersion::V6 } else { IpVersion::V4 }, end, Some(header), extras, fragment).unwrap();
                assert_eq!((portion.total_len(), portion.version() == IpVersion::V6, portion.extras(), portion.fragment()), (end, v6, extras, fragment));
            }
        }
        assert_eq!(size_of::<Option<Portion>>(), 16);
    }

    #[test]
    fn types_and_positions() {
        use UdpEspType::{Transport, TransportOverUdpTunnel, Tunnel, UdpTransportOverTunnel};
        for (kind, outer, inner) in [
            (None, false, false),
            (Some(Transport), true, true),
            (Some(Tunnel), true, true),
            (Some(TransportOverUdpTunnel), true, false),
            (Some(UdpTransportOverTunnel), false, true),
        ] {
            assert_eq!((Position::Outer.in_udp(kind), Position::Inner.in_udp(kind)), (outer, inner), "{kind:?}");
        }
    }

    #[test]
    fn udp_is_looked_into_for_esp_and_nothing_else() {
        let packet = |payload: &[u8]| {
            let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0x11, 0x94, 0, 8, 0xab, 0xcd];
            bytes.extend_from_slice(payload);
            bytes[3] = bytes.len() as u8;
            bytes[25] = 8 + payload.len() as u8;
            bytes
        };
        let header = |bytes: &[u8]| Portion::parse(bytes, |port| port == 4500).unwrap().ipsec;
        let found = header(&packet(&[0, 0, 0, 1, 2, 3, 4, 5])).unwrap();
        assert_eq!((found.operation(), found.offset(), found.end(), found.udp_port()), (Operation::Esp, 28, 36, Some(4500)));
        for payload in [&[][..], &[0xff], &[1, 2, 3], &[0, 0, 0, 0], &[0, 0, 0, 0, 1, 1, 1, 1]] {
            assert_eq!(header(&packet(payload)), None, "{payload:?}");
        }
        let mut other_port = packet(&[1; 8]);
        other_port[23] = 0x95;
        assert_eq!(header(&other_port), None);
        // Of a datagram that is shorter or longer than its packet's payload there is no more than the SPI.
        for length in (0..=u8::MAX).filter(|&length| length != 16) {
            let mut other = packet(&[1; 8]);
            other[25] = length;
            let found = header(&other).unwrap();
            assert_eq!((found.offset(), found.end(), found.udp_port()), (28, 32, Some(4500)), "{length}");
        }
    }
}
