//! Packets of the harness: made, read and told apart.

use std::net::IpAddr;

use packet::{
    EtherType, EthernetFrame, EthernetRepr, IcmpRepr, IpAddress, IpProtocol, IpVersion, Ipv4Repr, Ipv6Repr, MacAddress, ParsedIp, UdpEncapsulated, UdpRepr,
    checksum, icmpv4, icmpv6,
};

use crate::guest::GUEST_MAC;

/// Our end of the wire.
pub(crate) const OUR_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

/// Where UDP datagrams come back from, on both sides.
pub(crate) const ECHO_PORT: u16 = 7;
/// Where those of this side go out from.
pub(crate) const ASKING_PORT: u16 = 50_000;
/// Identifies this side's echo requests.
const ECHO_IDENTIFIER: u16 = 0x1bec;

/// What this side's payloads are made of; the guest's are made of the other.
pub(crate) const CANARIES: [&[u8]; 2] = [b"host canary ", b"guest canary "];

/// The two addresses of a packet, by who has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) ours: IpAddress,
    pub(crate) guests: IpAddress,
}

/// What goes between the IP header and its payload, or into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dress {
    #[default]
    Plain,
    /// IPv4 record route.
    RecordRoute,
    /// IPv4 record route, router alert and a kind that nobody knows.
    ManyOptions,
    /// IPv6 hop-by-hop options.
    HopByHop,
    /// IPv6 destination options.
    DestinationOptions,
    /// IPv6 hop-by-hop options, destination options, a routing header that has been followed to its end, and destination options again.
    Chain,
    /// An IPv6 fragment header of a packet that is whole (RFC 6946).
    Atomic,
}

/// An echo request, or a datagram to the echo port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Question {
    Ping { number: u16, size: usize },
    Udp { number: u16, size: usize },
}

impl Question {
    fn payload(self) -> Vec<u8> {
        let (Self::Ping { number, size } | Self::Udp { number, size }) = self;
        CANARIES[0].iter().cycle().take(size).map(|byte| byte.wrapping_add(if size < 32 { number as u8 } else { 0 })).collect()
    }

    /// The frame that asks.
    pub(crate) fn frame(self, ends: Ends, dress: Dress) -> Vec<u8> {
        let (Self::Ping { size, .. } | Self::Udp { size, .. }) = self;
        let mut segment = vec![0; 8 + size];
        let version = ends.ours.version();
        let protocol = match self {
            Self::Ping { number, .. } => {
                IcmpRepr::echo(version, false, ECHO_IDENTIFIER, number).emit(&mut segment).unwrap();
                if version == IpVersion::V4 { IpProtocol::ICMP } else { IpProtocol::ICMPV6 }
            }
            Self::Udp { number, .. } => {
                UdpRepr { src_port: ASKING_PORT + number, dst_port: ECHO_PORT, payload_len: size }.emit(&mut segment).unwrap();
                IpProtocol::UDP
            }
        };
        segment[8..].copy_from_slice(&self.payload());
        frame(ends.ours, ends.guests, protocol, segment, dress)
    }
}

/// What a packet in clear, come through the protection, is to this side.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It asks; this frame answers it.
    Question(Vec<u8>),
    /// It answers what was asked with this number; whether it says what it must is looked at by [`Heard::answers`].
    Answer { ping: bool, number: u16, payload: Vec<u8> },
    /// Something else.
    Other,
}

impl Heard {
    /// What the packet in an Ethernet frame says.
    pub(crate) fn new(frame: &[u8], ends: Ends) -> Self {
        let Some(bytes) = ip(frame) else { return Self::Other };
        let Ok(parsed) = ParsedIp::parse(bytes) else { return Self::Other };
        if (parsed.src(), parsed.dst()) != (ends.guests, ends.ours) {
            return Self::Other;
        }
        let segment = parsed.payload(bytes);
        if checksum::verify_segment(parsed.src(), parsed.dst(), parsed.protocol(), segment) != Ok(Some(checksum::ChecksumVerdict::Good)) {
            return Self::Other;
        }
        let mut answer = segment.to_vec();
        let word = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
        match (parsed.protocol(), segment[0]) {
            (IpProtocol::ICMP, icmpv4::ECHO_REQUEST) => answer[0] = icmpv4::ECHO_REPLY,
            (IpProtocol::ICMPV6, icmpv6::ECHO_REQUEST) => answer[0] = icmpv6::ECHO_REPLY,
            (IpProtocol::UDP, _) if word(2) == ECHO_PORT => {
                answer[..2].copy_from_slice(&segment[2..4]);
                answer[2..4].copy_from_slice(&segment[..2]);
            }
            (IpProtocol::ICMP, icmpv4::ECHO_REPLY) | (IpProtocol::ICMPV6, icmpv6::ECHO_REPLY) if word(4) == ECHO_IDENTIFIER => {
                return Self::Answer { ping: true, number: word(6), payload: segment[8..].to_vec() };
            }
            (IpProtocol::UDP, _) if word(0) == ECHO_PORT && word(2) >= ASKING_PORT => {
                return Self::Answer { ping: false, number: word(2) - ASKING_PORT, payload: segment[8..].to_vec() };
            }
            _ => return Self::Other,
        }
        Self::Question(self::frame(ends.ours, ends.guests, parsed.protocol(), answer, Dress::Plain))
    }

    /// Whether it is the answer to this question.
    pub(crate) fn answers(&self, question: Question) -> bool {
        let Self::Answer { ping, number, payload } = self else { return false };
        match question {
            Question::Ping { number: asked, .. } => *ping && asked == *number && *payload == question.payload(),
            Question::Udp { number: asked, .. } => !*ping && asked == *number && *payload == question.payload(),
        }
    }
}

/// What a frame on the wire is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    /// ARP, or an IPv6 neighbour solicitation or advertisement: goes in clear.
    Neighbour,
    /// Protected, the outermost IPsec header being of this protocol; `in_udp`: in UDP to or from port 4500.
    Protected { protocol: IpProtocol, in_udp: bool },
    /// UDP to port 4500 that is not ESP.
    Ike,
    /// Anything else: clear text.
    Clear,
}

/// Tells frames on the wire apart.
pub(crate) fn seen(frame: &[u8]) -> Seen {
    let Ok(ethernet) = EthernetFrame::new(frame) else { return Seen::Clear };
    if ethernet.ethertype() == Some(EtherType::ARP) {
        return Seen::Neighbour;
    }
    let Some((bytes, parsed)) = ip(frame).and_then(|bytes| Some((bytes, ParsedIp::parse(bytes).ok()?))) else { return Seen::Clear };
    let payload = parsed.payload(bytes);
    match parsed.protocol() {
        protocol @ (IpProtocol::ESP | IpProtocol::AH) => Seen::Protected { protocol, in_udp: false },
        IpProtocol::UDP if parsed.ports().is_some_and(|(source, destination)| source == 4500 || destination == 4500) => {
            match UdpEncapsulated::parse(payload.get(8..).unwrap_or_default()) {
                Ok(UdpEncapsulated::Esp(_)) => Seen::Protected { protocol: IpProtocol::ESP, in_udp: true },
                Ok(UdpEncapsulated::Ike(_) | UdpEncapsulated::Keepalive) => Seen::Ike,
                Err(_) => Seen::Clear,
            }
        }
        IpProtocol::ICMPV6 if matches!(payload.first(), Some(&(icmpv6::NEIGHBOUR_SOLICITATION | icmpv6::NEIGHBOUR_ADVERTISEMENT))) => Seen::Neighbour,
        _ => Seen::Clear,
    }
}

/// What this side says to an ARP request or a neighbour solicitation for one of its addresses.
pub(crate) fn neighbour_answer(frame: &[u8], is_ours: impl Fn(IpAddress) -> bool) -> Option<Vec<u8>> {
    let ethernet = EthernetFrame::new(frame).ok()?;
    if ethernet.ethertype() == Some(EtherType::ARP) {
        let arp = ethernet.payload().get(..28)?;
        let target = IpAddress::v4(arp[24..28].try_into().ok()?);
        if arp[..8] != [0, 1, 8, 0, 6, 4, 0, 1] || !is_ours(target) {
            return None;
        }
        let mut answer = arp.to_vec();
        answer[7] = 2;
        answer[8..14].copy_from_slice(&OUR_MAC.0);
        answer[14..18].copy_from_slice(&arp[24..28]);
        answer[18..28].copy_from_slice(&arp[8..18]);
        return Some(with_ethernet(EtherType::ARP, &answer));
    }
    let bytes = ip(frame)?;
    let parsed = ParsedIp::parse(bytes).ok()?;
    let segment = parsed.payload(bytes);
    let target = IpAddress::v6(segment.get(8..24)?.try_into().ok()?);
    if parsed.protocol() != IpProtocol::ICMPV6 || segment[0] != icmpv6::NEIGHBOUR_SOLICITATION || !is_ours(target) {
        return None;
    }
    let mut answer = vec![0; 32];
    answer[0] = icmpv6::NEIGHBOUR_ADVERTISEMENT;
    answer[4] = 0x60; // solicited, override
    answer[8..24].copy_from_slice(&segment[8..24]);
    answer[24..26].copy_from_slice(&[2, 1]); // target link-layer address
    answer[26..32].copy_from_slice(&OUR_MAC.0);
    let mut frame = self::frame(target, parsed.src(), IpProtocol::ICMPV6, answer, Dress::Plain);
    frame[14 + 7] = 255; // hop limit
    Some(frame)
}

/// The IP packet in an Ethernet frame.
pub(crate) fn ip(frame: &[u8]) -> Option<&[u8]> {
    let ethernet = EthernetFrame::new(frame).ok()?;
    ethernet.ethertype()?.ip_version()?;
    frame.get(ethernet.l3_offset()..)
}

/// An Ethernet frame to the guest with an IP packet that carries `segment`, whose checksum is made here.
pub(crate) fn frame(source: IpAddress, destination: IpAddress, protocol: IpProtocol, mut segment: Vec<u8>, dress: Dress) -> Vec<u8> {
    /// An option that nobody knows and everybody skips, padded.
    const OPTIONS: [u8; 6] = [0x1e, 4, b'i', b'p', b's', b'c'];
    checksum::fill_segment(source, destination, protocol, &mut segment).unwrap();
    let packet = match (source.into(), destination.into()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let options: &[u8] = match dress {
                Dress::RecordRoute => &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                Dress::ManyOptions => &[7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0, 0x5e, 6, 1, 2, 3, 4, 1, 1, 0],
                _ => &[],
            };
            let mut packet = vec![0; 20 + options.len()];
            Ipv4Repr::new(protocol, source, destination, segment.len()).emit_with_options(&mut packet, options).unwrap();
            packet.extend_from_slice(&segment);
            packet
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let kinds: &[IpProtocol] = match dress {
                Dress::HopByHop => &[IpProtocol::HOP_BY_HOP],
                Dress::DestinationOptions => &[IpProtocol::DESTINATION_OPTIONS],
                Dress::Chain => &[IpProtocol::HOP_BY_HOP, IpProtocol::DESTINATION_OPTIONS, IpProtocol::ROUTING, IpProtocol::DESTINATION_OPTIONS],
                Dress::Atomic => &[IpProtocol::FRAGMENT],
                _ => &[],
            };
            let mut headers = Vec::new();
            for (number, kind) in kinds.iter().enumerate() {
                headers.push(kinds.get(number + 1).unwrap_or(&protocol).0);
                match *kind {
                    // Type 0 with one address and no segment left: the packet has been where that says.
                    IpProtocol::ROUTING => {
                        headers.extend_from_slice(&[2, 0, 0, 0, 0, 0, 0]);
                        headers.extend_from_slice(&source.octets());
                    }
                    IpProtocol::FRAGMENT => headers.extend_from_slice(&[0, 0, 0, 0x12, 0x34, 0x56, 0x78]),
                    _ => {
                        headers.push(0);
                        headers.extend_from_slice(&OPTIONS);
                    }
                }
            }
            let mut packet = vec![0; 40];
            Ipv6Repr::new(*kinds.first().unwrap_or(&protocol), source, destination, headers.len() + segment.len()).emit(&mut packet).unwrap();
            packet.append(&mut headers);
            packet.append(&mut segment);
            packet
        }
        _ => panic!("{source} and {destination} are of different versions"),
    };
    with_ethernet(if source.is_v4() { EtherType::IPV4 } else { EtherType::IPV6 }, &packet)
}

fn with_ethernet(kind: EtherType, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 14];
    EthernetRepr::new(GUEST_MAC, OUR_MAC, kind).emit(&mut frame, payload.len()).unwrap();
    frame.extend_from_slice(payload);
    frame
}
