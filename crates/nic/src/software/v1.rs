//! SAs of IPsecOV1: which packets they are for (OV1-2). They have masks, protocols and ports where those of IPsecOV2 have addresses only, and no out-of-band
//! data beside the handle (OV1-3): where headers are is found by parsing.
//!
//! Addresses are looked at before anything is done. Protocol and ports of a received packet are behind the encryption; a packet that turns out to be none of
//! the SA's is made again what it was, and goes up as one that nobody has touched.

use core::net::{IpAddr, Ipv4Addr};

use ipsec::Provider;
use ndis::{Encapsulation, IpsecOffloadV1, Ipv4Ah, Ipv4Esp, V1Filter, V1Scope};
use packet::{IpProtocol, Ipv4Packet, ParsedIp};

use super::sa::Sa;

/// UDP-ESP types of IPsecOV1 that are not reserved.
const UDP_ESP_FLAGS: u32 = 0xf0;

/// All of IPsecOV1, for `capacity` SA bundles.
pub(super) fn capabilities(capacity: u32) -> IpsecOffloadV1 {
    IpsecOffloadV1 {
        encapsulation: Encapsulation::NULL | Encapsulation::IEEE_802_3 | Encapsulation::IEEE_802_3_P_AND_Q,
        ah_esp_combined: true,
        transport_tunnel_combined: true,
        ipv4_options: true,
        flags: UDP_ESP_FLAGS,
        ipv4_ah: Ipv4Ah { md5: true, sha_1: true, transport: true, tunnel: true, send: true, receive: true },
        ipv4_esp: Ipv4Esp { des: true, triple_des: true, null_esp: true, transport: true, tunnel: true, send: true, receive: true },
        ext_sa_capacity: capacity,
    }
}

/// Whether a packet between these can be one of the SA's.
#[cold]
pub(super) fn admits<P: Provider>(sa: &Sa<P>, source: IpAddr, destination: Option<Ipv4Addr>) -> bool {
    match (sa.scope(), source, destination) {
        (Some(scope), IpAddr::V4(source), Some(destination)) => scope.admits(source, destination),
        // IPsecOV1 is IPv4 only.
        (Some(_), ..) => false,
        (None, ..) => true,
    }
}

/// Whether an SA is for what one of its packets carries, by the next header of the last IPsec header. Every SA of IPsecOV2 is.
#[inline]
pub(super) fn carries<P: Provider>(sa: &Sa<P>, next_header: IpProtocol, payload: &[u8]) -> bool {
    sa.scope().is_none_or(|scope| is_for(scope, next_header, payload))
}

#[inline(never)]
fn is_for(scope: &V1Scope, next_header: IpProtocol, payload: &[u8]) -> bool {
    let V1Scope { filter, tunnel } = scope;
    match (tunnel, next_header) {
        // Dummies are nobody's (RFC 4303 section 2.6).
        (_, IpProtocol::NO_NEXT_HEADER) => true,
        (None, protocol) => !filter.looks_inside() || filter.matches_payload(protocol.0, ports(protocol, payload)),
        (Some(_), IpProtocol::IPV4) => {
            // One that is cut is none of anybody's.
            let Some(parsed) = Ipv4Packet::new(payload).ok().zip(ParsedIp::parse(payload).ok()) else { return *filter == V1Filter::ANY };
            let (view, parsed) = parsed;
            filter.matches_addresses(view.src(), view.dst()) && filter.matches_payload(parsed.protocol().0, parsed.ports())
        }
        // A filter for anything is for IPv6, too.
        (Some(_), IpProtocol::IPV6) => *filter == V1Filter::ANY,
        (Some(_), _) => false,
    }
}

fn ports(protocol: IpProtocol, payload: &[u8]) -> Option<(u16, u16)> {
    match payload {
        [a, b, c, d, ..] if protocol.has_ports() => Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ndis::{MaskedAddress, V1Tunnel};
    use packet::{Ipv4Repr, Ipv6Repr};

    use super::*;

    const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 7);
    const DESTINATION: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 7);

    fn ipv4(protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20];
        Ipv4Repr::new(protocol, SOURCE, DESTINATION, payload.len()).emit(&mut packet).unwrap();
        [&packet, payload].concat()
    }

    /// OV1-2: protocol and ports; 0 is any; what has no ports fits only a filter that does not ask for any.
    #[test]
    fn transport_mode_filters_protocol_and_ports() {
        let udp = [0, 53, 0, 67, 0, 8, 0, 0];
        for (protocol, source_port, destination_port, of_udp, of_icmp, of_short) in [
            (0, 0, 0, true, true, true),
            (17, 0, 0, true, false, true),
            (1, 0, 0, false, true, false),
            (17, 53, 0, true, false, false),
            (17, 53, 67, true, false, false),
            (17, 54, 67, false, false, false),
            (17, 53, 68, false, false, false),
            (0, 0, 67, true, false, false),
        ] {
            let scope = V1Scope { filter: V1Filter { protocol, source_port, destination_port, ..V1Filter::ANY }, tunnel: None };
            let found =
                [(IpProtocol::UDP, &udp[..]), (IpProtocol::ICMP, &udp[..]), (IpProtocol::UDP, &udp[..3])].map(|(next, bytes)| is_for(&scope, next, bytes));
            assert_eq!(found, [of_udp, of_icmp, of_short], "{scope:?}");
            assert!(is_for(&scope, IpProtocol::NO_NEXT_HEADER, &[]));
        }
    }

    /// OV1-2: in tunnel mode the filter is about the packet inside, masks and all.
    #[test]
    fn tunnel_mode_filters_what_is_inside() {
        let tunnel = Some(V1Tunnel { source: Ipv4Addr::new(192, 0, 2, 1), destination: Ipv4Addr::new(192, 0, 2, 2) });
        let net = |third: u8| MaskedAddress::prefix(Ipv4Addr::new(10, 0, third, 0), 24);
        let filter = V1Filter { source: net(1), destination: net(2), protocol: 17, destination_port: 67, ..V1Filter::ANY };
        let scope = V1Scope { filter, tunnel };
        let udp = ipv4(IpProtocol::UDP, &[0, 53, 0, 67, 0, 8, 0, 0]);
        assert!(is_for(&scope, IpProtocol::IPV4, &udp));
        assert!(!is_for(&scope, IpProtocol::IPV4, &ipv4(IpProtocol::UDP, &[0, 53, 0, 68, 0, 8, 0, 0])));
        assert!(!is_for(&scope, IpProtocol::IPV4, &udp[..19]) && !is_for(&scope, IpProtocol::UDP, &udp[20..]));
        let elsewhere = V1Scope { filter: V1Filter { destination: net(3), ..filter }, tunnel };
        assert!(!is_for(&elsewhere, IpProtocol::IPV4, &udp));
        let mut ipv6 = vec![0; 40];
        Ipv6Repr::new(IpProtocol::UDP, [1; 16].into(), [2; 16].into(), 0).emit(&mut ipv6).unwrap();
        assert!(!is_for(&scope, IpProtocol::IPV6, &ipv6) && is_for(&V1Scope { filter: V1Filter::ANY, tunnel }, IpProtocol::IPV6, &ipv6));
        // A later fragment shows no ports.
        let mut fragment = udp.clone();
        fragment[7] = 1;
        assert!(!is_for(&scope, IpProtocol::IPV4, &fragment));
        let portless = V1Scope { filter: V1Filter { destination_port: 0, ..filter }, tunnel };
        assert!(is_for(&portless, IpProtocol::IPV4, &fragment));
    }
}
