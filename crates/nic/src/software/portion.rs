//! One IP packet as a NIC looks at it: where its IPsec header is, and what keeps it from being processed.
//!
//! A packet on the wire is one portion, or the outer of two: the packet inside a tunnel is looked at in the same way.

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

/// What an IPsec header is, and whether it stands in UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum HeaderKind {
    Ah,
    Esp,
    EspInUdp,
}

/// The outermost IPsec header of a portion. Offsets are in bytes from the start of the IP header.
///
/// A word each: what is written in smaller pieces than it is copied in stalls the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IpsecHeader {
    kind: HeaderKind,
    /// Where it begins.
    pub(super) offset: usize,
    /// Where what it heads ends: with the IP packet, or with the UDP datagram that it is in.
    pub(super) end: usize,
    /// The datagram's destination port.
    port: usize,
}

impl IpsecHeader {
    /// Which.
    #[inline]
    pub(super) const fn operation(&self) -> Operation {
        match self.kind {
            HeaderKind::Ah => Operation::Ah,
            HeaderKind::Esp | HeaderKind::EspInUdp => Operation::Esp,
        }
    }

    /// The destination port, if it is in UDP.
    #[inline]
    pub(super) const fn udp_port(&self) -> Option<u16> {
        match self.kind {
            HeaderKind::EspInUdp => Some(self.port as u16),
            HeaderKind::Ah | HeaderKind::Esp => None,
        }
    }
}

/// What a NIC sees of an IP packet's headers. All of it lies within the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portion {
    pub(super) version: IpVersion,
    /// Length of the IP packet, in bytes.
    pub(super) total_len: usize,
    /// The outermost IPsec header, if it can be found.
    pub(super) ipsec: Option<IpsecHeader>,
    /// IPv4 options, or IPv6 extension headers before the IPsec header.
    pub(super) extras: bool,
    /// The packet is a fragment; an atomic one (RFC 6946) is none.
    pub(super) fragment: bool,
}

impl Portion {
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
        Some(Self { version: IpVersion::V4, total_len, ipsec, extras: offset > IpVersion::V4.header_len(), fragment })
    }

    #[inline]
    fn parse_v6(bytes: &[u8], carries_esp: impl Fn(u16) -> bool) -> Option<Self> {
        let packet = Ipv6Packet::new(bytes).ok()?;
        let (version, total_len) = (IpVersion::V6, packet.total_len());
        if packet.next_header() == IpProtocol::AH || !packet.next_header().is_ipv6_extension() {
            let ipsec = ipsec_header(packet.next_header(), bytes, version.header_len(), total_len, false, carries_esp);
            return Some(Self { version, total_len, ipsec, extras: false, fragment: false });
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
        Some(Self { version: IpVersion::V6, total_len: parsed.total_len(), ipsec, extras: parsed.has_options_or_extensions(), fragment })
    }
}

#[inline(always)]
fn ipsec_header(protocol: IpProtocol, bytes: &[u8], offset: usize, end: usize, fragment: bool, carries_esp: impl Fn(u16) -> bool) -> Option<IpsecHeader> {
    let kind = match protocol {
        IpProtocol::ESP => HeaderKind::Esp,
        IpProtocol::AH => HeaderKind::Ah,
        IpProtocol::UDP if !fragment => return esp_in_udp(bytes.get(offset..end)?, offset, carries_esp),
        _ => return None,
    };
    Some(IpsecHeader { kind, offset, end, port: 0 })
}

/// The ESP in a UDP datagram. IKE, keepalives, and what is too short for an SPI, are none (RFC 3948). The checksum is not looked at (RFC 6935).
fn esp_in_udp(datagram: &[u8], offset: usize, carries_esp: impl Fn(u16) -> bool) -> Option<IpsecHeader> {
    let udp = UdpPacket::new(datagram).ok()?;
    let port = udp.dst_port();
    if !carries_esp(port) {
        return None;
    }
    let spi = udp.payload().first_chunk::<4>()?;
    (*spi != NON_ESP_MARKER).then(|| IpsecHeader {
        kind: HeaderKind::EspInUdp,
        offset: offset + UDP_HEADER_LEN,
        end: offset + udp.total_len(),
        port: usize::from(port),
    })
}

/// The local UDP ports that are looked into for ESP: the adapter's, and those that single bundles brought.
///
/// A port stays when its bundles have gone: it costs a look-up that finds nothing.
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
        assert!(ports.contains(4500) && !ports.contains(0) && !ports.contains(4499) && !ports.contains(62));
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
        assert_eq!((found.operation(), found.offset, found.end, found.udp_port()), (Operation::Esp, 28, 36, Some(4500)));
        for payload in [&[][..], &[0xff], &[1, 2, 3], &[0, 0, 0, 0], &[0, 0, 0, 0, 1, 1, 1, 1]] {
            assert_eq!(header(&packet(payload)), None, "{payload:?}");
        }
        let mut other_port = packet(&[1; 8]);
        other_port[23] = 0x95;
        assert_eq!(header(&other_port), None);
        // What follows the datagram is not in it; a datagram longer than its packet is none.
        let mut short = packet(&[1; 8]);
        short[25] = 12;
        assert_eq!(header(&short).unwrap().end, 32);
        short[25] = 17;
        assert_eq!(header(&short), None);
    }
}
