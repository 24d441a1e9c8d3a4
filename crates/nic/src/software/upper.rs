//! Where TCP or UDP is in a frame: behind the IP header, or in what its IPsec headers carry, which is in clear: before it is sealed, or after it was opened.

use core::ops::Range;

use ipsec::{Provider, read_trailer};
use packet::{AhPacket, IpAddress, IpProtocol, IpVersion, Ipv6ChainEnd, Ipv6ExtensionHeaders, ParsedIp, TcpPacket, UdpPacket};

use super::portion::{Portion, Position};
use super::sa::Sa;

/// A TCP segment or UDP datagram, all of which is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upper {
    pub(super) protocol: IpProtocol,
    /// Where it is in the frame.
    pub(super) range: Range<usize>,
    /// Of the IP header that it is behind.
    pub(super) version: IpVersion,
    pub(super) source: IpAddress,
    pub(super) destination: IpAddress,
    /// That header has options, or extension headers follow it.
    pub(super) ip_options: bool,
    pub(super) tcp_options: bool,
    /// IPsec headers are in front of it.
    pub(super) protected: bool,
}

/// Looks for it in the IP packet at `l3` of `frame`. `bundle`: the bundle whose headers the packet of that position, which begins the bytes, has, and is known
/// to have, and where the first of them is; `None` if it has none. `None`: it carries something else, a fragment, or nothing that can be read.
pub(super) fn find<'a, P: Provider>(frame: &[u8], l3: usize, mut bundle: impl FnMut(&[u8], Position) -> Option<(&'a Sa<P>, Portion)>) -> Option<Upper> {
    let (mut ip, mut end, mut protected) = (l3, frame.len(), false);
    for position in [Position::Outer, Position::Inner] {
        let packet = frame.get(ip..end)?;
        let Some((sa, portion)) = bundle(packet, position) else { break };
        let packet = packet.get(..portion.total_len())?;
        let (mut at, mut stop) = (portion.ipsec?.offset(), packet.len());
        let mut protocol = IpProtocol::ESP;
        protected = true;
        if sa.transforms.ah().is_some() {
            let header = AhPacket::new(packet.get(at..)?).ok()?;
            (at, protocol) = (at + header.header_len(), header.next_header());
        }
        if let Some(esp) = sa.transforms.esp() {
            let text = esp.text(stop.checked_sub(at)?).ok()?;
            let text = at + text.start..at + text.end;
            let (length, trailer) = read_trailer(packet.get(text.clone())?).ok()?;
            (at, stop, protocol) = (text.start, text.start + length, IpProtocol(trailer.next_header));
        }
        if protocol != IpProtocol::IPV4 && protocol != IpProtocol::IPV6 {
            return behind(packet, protocol, at..stop, ip, portion.extras());
        }
        (ip, end) = (ip + at, ip + stop);
    }
    let packet = frame.get(ip..end)?;
    let parsed = ParsedIp::parse(packet).ok()?;
    let range = parsed.header_len()..parsed.total_len();
    let upper = Upper { protected, ..segment(packet, &parsed, parsed.protocol(), range, ip)? };
    Some(Upper { ip_options: parsed.has_options_or_extensions(), ..upper })
}

/// What a packet in transport mode carries, in `range` of it: over IPv6 extension headers may come first. `extras`: it has some in front of its IPsec headers, or
/// options.
fn behind(packet: &[u8], protocol: IpProtocol, range: Range<usize>, ip: usize, extras: bool) -> Option<Upper> {
    let parsed = ParsedIp::parse(packet).ok()?;
    let (mut protocol, mut start) = (protocol, range.start);
    if parsed.version() == IpVersion::V6 && protocol.is_ipv6_extension() {
        let headers = Ipv6ExtensionHeaders::new(packet.get(..range.end)?, protocol, start, start);
        if headers.clone().any(|header| header.fragment.is_some()) {
            return None;
        }
        let Ipv6ChainEnd::Upper { protocol: last, offset, .. } = headers.end() else { return None };
        (protocol, start) = (last, offset);
    }
    let upper = segment(packet, &parsed, protocol, start..range.end, ip)?;
    Some(Upper { protected: true, ip_options: extras || start != range.start, ..upper })
}

fn segment(packet: &[u8], parsed: &ParsedIp, protocol: IpProtocol, range: Range<usize>, ip: usize) -> Option<Upper> {
    if parsed.fragment().is_part() {
        return None;
    }
    let bytes = packet.get(range.clone())?;
    let (length, tcp_options) = match protocol {
        IpProtocol::TCP => (bytes.len(), TcpPacket::new(bytes).ok()?.header_len() != packet::TCP_HEADER_LEN),
        // What follows the datagram is none of it.
        IpProtocol::UDP => (UdpPacket::new(bytes).ok()?.total_len(), false),
        _ => return None,
    };
    Some(Upper {
        protocol,
        range: ip + range.start..ip + range.start + length,
        version: parsed.version(),
        source: parsed.src(),
        destination: parsed.dst(),
        ip_options: false,
        tcp_options,
        protected: false,
    })
}
