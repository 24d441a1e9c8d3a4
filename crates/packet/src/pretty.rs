//! One line of text for a packet, for people: `IPv4 10.0.1.1 > 10.0.2.1 TCP 443 > 1024 len 52`.
//!
//! `len` is the length of the IP packet. A packet inside another, or quoted in an ICMP error, follows after `|`. What cannot be read is said, never left out.

use core::fmt;

use crate::ah::AhPacket;
use crate::error::ParseError;
use crate::esp::EspPacket;
use crate::ethernet::{EtherType, EthernetFrame, EthernetKind};
use crate::frame::Medium;
use crate::parsed::{FragmentState, ParsedIp, UpperLayer};
use crate::proto::IpProtocol;
use crate::udp::UdpPacket;
use crate::udp_esp::{UDP_ESP_PORT, UdpEncapsulated};

/// How many packets inside each other are shown.
const MAX_DEPTH: u8 = 4;

/// A packet to be formatted; made by [`ip`], [`ethernet`] and [`frame`].
#[derive(Clone, Copy)]
pub struct Pretty<'a> {
    medium: Medium,
    bytes: &'a [u8],
}

/// Formats an IP packet.
///
/// ```
/// let esp = [0x45, 0, 0, 32, 0, 0, 0, 0, 64, 50, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0, 0, 0x10, 1, 0, 0, 0, 7, 1, 2, 3, 4];
/// assert_eq!(packet::pretty::ip(&esp).to_string(), "IPv4 192.0.2.1 > 192.0.2.2 ESP spi 0x00001001 seq 7 len 32");
/// ```
pub const fn ip(packet: &[u8]) -> Pretty<'_> {
    Pretty { medium: Medium::Ip, bytes: packet }
}

/// Formats an Ethernet frame: an IP packet in it as [`ip`] does, with its VLAN tags before it; other types with their addresses.
pub const fn ethernet(frame: &[u8]) -> Pretty<'_> {
    Pretty { medium: Medium::Ethernet, bytes: frame }
}

/// Formats a frame of a link of that medium.
pub const fn frame(medium: Medium, bytes: &[u8]) -> Pretty<'_> {
    Pretty { medium, bytes }
}

impl fmt::Display for Pretty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.medium {
            Medium::Ip => write_ip(f, self.bytes, 0),
            Medium::Ethernet => write_ethernet(f, self.bytes),
        }
    }
}

impl fmt::Debug for Pretty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn malformed(f: &mut fmt::Formatter<'_>, error: ParseError, len: usize) -> fmt::Result {
    let what = if error.is_truncated() { "truncated" } else { "malformed" };
    write!(f, "{what} ({error}) len {len}")
}

fn write_ethernet(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let frame = match EthernetFrame::new(bytes) {
        Ok(frame) => frame,
        Err(error) => return malformed(f, error, bytes.len()),
    };
    for tag in frame.tags().iter().flatten() {
        write!(f, "vlan {} ", tag.vid())?;
    }
    if frame.ethertype().and_then(EtherType::ip_version).is_some() {
        return write_ip(f, frame.payload(), 0);
    }
    write!(f, "Ethernet {} > {} ", frame.src(), frame.dst())?;
    match frame.kind() {
        EthernetKind::Type(ethertype) | EthernetKind::Snap(ethertype) => write!(f, "{ethertype}")?,
        EthernetKind::Llc { dsap, ssap } => write!(f, "LLC {dsap:#04x} {ssap:#04x}")?,
    }
    write!(f, " len {}", bytes.len())
}

fn write_ip(f: &mut fmt::Formatter<'_>, bytes: &[u8], depth: u8) -> fmt::Result {
    let parsed = match ParsedIp::parse(bytes) {
        Ok(parsed) => parsed,
        Err(error) => return malformed(f, error, bytes.len()),
    };
    write!(f, "{} {} > {} {}", parsed.version(), parsed.src(), parsed.dst(), parsed.protocol())?;
    match parsed.fragment() {
        FragmentState::None => {}
        FragmentState::Atomic => f.write_str(" atomic-fragment")?,
        FragmentState::First => f.write_str(" first-fragment")?,
        FragmentState::Later => f.write_str(" later-fragment")?,
    }
    let payload = parsed.payload(bytes);
    let mut inner = None;
    match parsed.upper() {
        UpperLayer::Ports { src, dst } => {
            write!(f, " {src} > {dst}")?;
            if parsed.protocol() == IpProtocol::UDP && [src, dst].contains(&UDP_ESP_PORT) && !parsed.fragment().is_part() {
                write_udp_esp(f, payload)?;
            }
        }
        UpperLayer::Icmp { kind, code } => write!(f, " type {kind} code {code}")?,
        UpperLayer::Mobility { kind } => write!(f, " type {kind}")?,
        UpperLayer::Opaque if parsed.fragment() == FragmentState::Later => {}
        UpperLayer::Opaque => match parsed.protocol() {
            IpProtocol::ESP => write_esp(f, payload)?,
            IpProtocol::AH => match AhPacket::new(payload) {
                Ok(ah) => {
                    write!(f, " spi {} seq {} {}", ah.spi(), ah.sequence(), ah.next_header())?;
                    match ah.next_header() {
                        IpProtocol::ESP => write_esp(f, ah.payload())?,
                        IpProtocol::IPV4 | IpProtocol::IPV6 => inner = payload.get(ah.header_len()..),
                        _ => {}
                    }
                }
                Err(error) => write!(f, " ({error})")?,
            },
            IpProtocol::IPV4 | IpProtocol::IPV6 => inner = Some(payload),
            _ => {}
        },
    }
    write!(f, " len {}", parsed.total_len())?;
    // A first fragment's inner packet is cut by design.
    if let Some(inner) = inner.filter(|_| depth + 1 < MAX_DEPTH && !parsed.fragment().is_part()) {
        f.write_str(" | ")?;
        write_ip(f, inner, depth + 1)?;
    }
    Ok(())
}

fn write_esp(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    match EspPacket::new(bytes) {
        Ok(esp) => write!(f, " spi {} seq {}", esp.spi(), esp.sequence()),
        Err(error) => write!(f, " ({error})"),
    }
}

fn write_udp_esp(f: &mut fmt::Formatter<'_>, datagram: &[u8]) -> fmt::Result {
    let udp = match UdpPacket::new(datagram) {
        Ok(udp) => udp,
        Err(error) => return write!(f, " ({error})"),
    };
    match UdpEncapsulated::parse(udp.payload()) {
        Ok(UdpEncapsulated::Esp(esp)) => write!(f, " ESP spi {} seq {}", esp.spi(), esp.sequence()),
        Ok(UdpEncapsulated::Ike(_)) => f.write_str(" IKE"),
        Ok(UdpEncapsulated::Keepalive) => f.write_str(" keepalive"),
        Err(error) => write!(f, " ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AhRepr, EspRepr, EthernetRepr, IcmpRepr, IpVersion, Ipv4Repr, Ipv6Fragment, Ipv6Repr, MacAddress, Spi, TcpFlags, TcpRepr, UdpRepr, VlanTag};

    fn v4(protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        Ipv4Repr::new(protocol, [10, 0, 1, 1].into(), [10, 0, 2, 1].into(), payload.len()).emit(&mut bytes).unwrap();
        bytes.extend_from_slice(payload);
        bytes
    }

    fn v6(protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        Ipv6Repr::new(protocol, "2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap(), payload.len()).emit(&mut bytes).unwrap();
        bytes.extend_from_slice(payload);
        bytes
    }

    fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 8];
        UdpRepr { src_port: port, dst_port: UDP_ESP_PORT, payload_len: payload.len() }.emit(&mut bytes).unwrap();
        bytes.extend_from_slice(payload);
        bytes
    }

    fn esp() -> Vec<u8> {
        let mut bytes = vec![0; 40];
        EspRepr { spi: Spi(0x1001), sequence: 7 }.emit(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn one_line_for_every_kind_of_packet() {
        let mut tcp = vec![0; 32];
        let repr = TcpRepr { src_port: 443, dst_port: 1024, sequence: 1, acknowledgment: 2, flags: TcpFlags::ACK, window: 1, urgent: 0 };
        repr.emit(&mut tcp, &[1; 12]).unwrap();
        let mut ping = vec![0; 8];
        IcmpRepr::echo(IpVersion::V6, false, 1, 2).emit(&mut ping).unwrap();
        let mut ah = vec![0; 24];
        AhRepr { next_header: IpProtocol::ESP, icv_field_len: 12, spi: Spi(0x2002), sequence: 8 }.emit(&mut ah).unwrap();
        ah.extend(esp());
        let mut ah_tunnel = vec![0; 24];
        AhRepr { next_header: IpProtocol::IPV4, icv_field_len: 12, spi: Spi(0x2002), sequence: 8 }.emit(&mut ah_tunnel).unwrap();
        ah_tunnel.extend(v4(IpProtocol::GRE, &[]));
        let mut fragment = vec![0; 8];
        Ipv6Fragment { next_header: IpProtocol::UDP, offset: 8, more: false, identification: 1 }.emit(&mut fragment).unwrap();
        for (bytes, text) in [
            (v4(IpProtocol::TCP, &tcp), "IPv4 10.0.1.1 > 10.0.2.1 TCP 443 > 1024 len 52"),
            (v6(IpProtocol::ICMPV6, &ping), "IPv6 2001:db8::1 > 2001:db8::2 ICMPv6 type 128 code 0 len 48"),
            (v4(IpProtocol::ESP, &esp()), "IPv4 10.0.1.1 > 10.0.2.1 ESP spi 0x00001001 seq 7 len 60"),
            (v4(IpProtocol::AH, &ah), "IPv4 10.0.1.1 > 10.0.2.1 AH spi 0x00002002 seq 8 ESP spi 0x00001001 seq 7 len 84"),
            (v4(IpProtocol::AH, &ah_tunnel), "IPv4 10.0.1.1 > 10.0.2.1 AH spi 0x00002002 seq 8 IPv4 len 64 | IPv4 10.0.1.1 > 10.0.2.1 GRE len 20"),
            (v4(IpProtocol::UDP, &udp(9, &esp())), "IPv4 10.0.1.1 > 10.0.2.1 UDP 9 > 4500 ESP spi 0x00001001 seq 7 len 68"),
            (v4(IpProtocol::UDP, &udp(4500, &[0; 8])), "IPv4 10.0.1.1 > 10.0.2.1 UDP 4500 > 4500 IKE len 36"),
            (v4(IpProtocol::UDP, &udp(4500, &[0xff])), "IPv4 10.0.1.1 > 10.0.2.1 UDP 4500 > 4500 keepalive len 29"),
            (v6(IpProtocol::FRAGMENT, &fragment), "IPv6 2001:db8::1 > 2001:db8::2 UDP later-fragment len 48"),
            (v6(IpProtocol::IPV4, &v4(IpProtocol(200), &[])), "IPv6 2001:db8::1 > 2001:db8::2 IPv4 len 60 | IPv4 10.0.1.1 > 10.0.2.1 proto-200 len 20"),
            (v4(IpProtocol::ESP, &[1]), "IPv4 10.0.1.1 > 10.0.2.1 ESP (ESP: 8 bytes expected before the end of the packet, 1 found) len 21"),
            (v4(IpProtocol::TCP, &tcp)[..30].to_vec(), "truncated (IPv4: 52 bytes expected, 30 found) len 30"),
            (vec![0x51], "malformed (IP version 4 or 6 expected, 5 found) len 1"),
        ] {
            assert_eq!(ip(&bytes).to_string(), text);
        }
    }

    #[test]
    fn frames() {
        let mut repr = EthernetRepr::new(MacAddress::BROADCAST, MacAddress([2, 0, 0, 0, 0, 1]), EtherType::ARP);
        let mut arp = vec![0; 42];
        repr.emit(&mut arp, 28).unwrap();
        assert_eq!(ethernet(&arp).to_string(), "Ethernet 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff ARP len 42");
        repr.ethertype = EtherType::IPV4;
        repr.tags = [Some(VlanTag { tpid: EtherType::SERVICE_VLAN, tci: 7 }), Some(VlanTag { tpid: EtherType::VLAN, tci: 0xe008 })];
        let mut tagged = vec![0; 22];
        repr.emit(&mut tagged, 20).unwrap();
        tagged.extend(v4(IpProtocol::IGMP, &[]));
        tagged.extend([0; 18]);
        assert_eq!(ethernet(&tagged).to_string(), "vlan 7 vlan 8 IPv4 10.0.1.1 > 10.0.2.1 IGMP len 20");
        assert_eq!(frame(Medium::Ethernet, &tagged[..13]).to_string(), "truncated (Ethernet: 14 bytes expected, 13 found) len 13");
    }

    #[test]
    fn packets_in_packets_end_somewhere() {
        let mut bytes = v4(IpProtocol::NO_NEXT_HEADER, &[]);
        for _ in 0..1000 {
            bytes = v4(IpProtocol::IPV4, &bytes);
        }
        assert_eq!(ip(&bytes).to_string().matches('|').count(), 3);
    }
}
