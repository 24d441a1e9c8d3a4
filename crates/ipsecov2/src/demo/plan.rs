//! The connections between the hosts: an SA in each direction, with random keys, for what the traffic holds.

use std::collections::{BTreeMap, HashSet};

use ipsec::{AesKeySize, Authentication, Encryption};
use link::capture::{EspAuthentication, EspEncryption, EspSecret};
use ndis::{Direction, Operation};
use packet::{IpAddress, IpProtocol, IpVersion, Spi, checksum};
use secret::SecretBytes;
use transport::{AddressRange, AssociationParameters, Limits, Mode, OffloadPolicy, SaParameters, Selector};

use super::traffic::{Packet, Side, Traffic};

/// One connection: what both of its SAs share, and their secrets.
pub(super) struct Connection {
    pub(super) name: &'static str,
    pub(super) mode: Mode,
    /// Version of what it carries.
    pub(super) inner: IpVersion,
    /// The addresses of the ESP packets: a's, b's.
    pub(super) ends: [IpAddress; 2],
    /// What a sends over it.
    pub(super) selector: Selector,
    pub(super) encryption: Encryption,
    pub(super) icv_length: u8,
    pub(super) esn: bool,
    /// The sequence number that both ends are taken to have used last.
    pub(super) last: u32,
    /// What a's packets have, and what b's.
    ways: [Way; 2],
}

/// What one direction has for itself.
struct Way {
    spi: Spi,
    key: SecretBytes,
    iv_mask: u64,
}

impl Connection {
    fn new(shape: &Shape, ends: [IpAddress; 2], selector: Selector, spis: &mut HashSet<u32>) -> Result<Self, getrandom::Error> {
        let encryption = Encryption::AesGcm(shape.key_size);
        let mut way = || -> Result<Way, getrandom::Error> {
            let mut key = SecretBytes::from(vec![0; encryption.key_length()]);
            getrandom::fill(key.expose_mut())?;
            Ok(Way { spi: fresh_spi(spis)?, key, iv_mask: getrandom::u64()? })
        };
        Ok(Self {
            name: shape.name,
            mode: shape.mode,
            inner: shape.inner,
            ends,
            selector,
            encryption,
            icv_length: shape.icv_length,
            esn: shape.esn,
            last: shape.last,
            ways: [way()?, way()?],
        })
    }

    /// SPI of what `from` sends.
    pub(super) fn spi(&self, from: Side) -> Spi {
        self.ways[from as usize].spi
    }

    /// Source and destination of the ESP packets that `from` sends.
    pub(super) fn addresses(&self, from: Side) -> (IpAddress, IpAddress) {
        (self.ends[from as usize], self.ends[from.other() as usize])
    }

    /// The SA of what `from` sends, as host `at` has it.
    pub(super) fn parameters(&self, from: Side, at: Side) -> SaParameters {
        let way = &self.ways[from as usize];
        let (source, destination) = self.addresses(from);
        SaParameters {
            name: format!("{}-{}-to-{}", self.name, from.name(), from.other().name()),
            direction: if from == at { Direction::Outbound } else { Direction::Inbound },
            mode: self.mode,
            source,
            destination,
            associations: vec![AssociationParameters {
                operation: Operation::Esp,
                spi: way.spi,
                encryption: self.encryption,
                encryption_key: way.key.duplicate(),
                icv_length: self.icv_length,
                authentication: Authentication::None,
                authentication_key: SecretBytes::default(),
                extended_sequence_numbers: self.esn,
                sequence_number_high: 0,
                sequence_number: self.last,
            }],
            selectors: vec![if from == Side::A { self.selector } else { self.selector.reversed() }],
            replay_window: SaParameters::DEFAULT_REPLAY_WINDOW,
            iv_mask: way.iv_mask,
            udp_encapsulation: None,
            inside: None,
            ah_alignment: None,
            traffic_flow: transport::TrafficFlow::NONE,
            allow_unauthenticated: false,
            allow_reserved_spi: false,
            soft_limits: Limits::NONE,
            hard_limits: Limits::NONE,
            offload: OffloadPolicy::Prefer,
        }
    }

    /// What a viewer needs to decrypt both directions.
    pub(super) fn secrets(&self) -> [EspSecret; 2] {
        Side::BOTH.map(|from| {
            let (source, destination) = self.addresses(from);
            EspSecret {
                source: Some(source.into()),
                destination: destination.into(),
                spi: self.spi(from),
                encryption: match self.icv_length {
                    8 => EspEncryption::AesGcm8,
                    12 => EspEncryption::AesGcm12,
                    _ => EspEncryption::AesGcm16,
                },
                encryption_key: self.ways[from as usize].key.duplicate(),
                authentication: EspAuthentication::Null,
                authentication_key: SecretBytes::default(),
                sequence_number_high: self.esn.then_some(0),
            }
        })
    }
}

/// What kinds of connections there are, in the order of the policies: what is special first.
struct Shape {
    name: &'static str,
    mode: Mode,
    inner: IpVersion,
    /// Version of a tunnel's outer header.
    outer: IpVersion,
    /// `None`: everything.
    protocol: Option<IpProtocol>,
    key_size: AesKeySize,
    icv_length: u8,
    esn: bool,
    last: u32,
}

const SHAPES: [Shape; 6] = [
    Shape {
        name: "host4",
        mode: Mode::Transport,
        inner: IpVersion::V4,
        outer: IpVersion::V4,
        protocol: None,
        key_size: AesKeySize::Aes128,
        icv_length: 16,
        esn: false,
        last: 0,
    },
    Shape {
        name: "host6",
        mode: Mode::Transport,
        inner: IpVersion::V6,
        outer: IpVersion::V6,
        protocol: None,
        key_size: AesKeySize::Aes256,
        icv_length: 16,
        esn: true,
        last: 0,
    },
    Shape {
        name: "tcp4",
        mode: Mode::Tunnel,
        inner: IpVersion::V4,
        outer: IpVersion::V4,
        protocol: Some(IpProtocol::TCP),
        key_size: AesKeySize::Aes128,
        icv_length: 16,
        esn: false,
        last: 0,
    },
    Shape {
        name: "tcp6",
        mode: Mode::Tunnel,
        inner: IpVersion::V6,
        outer: IpVersion::V6,
        protocol: Some(IpProtocol::TCP),
        key_size: AesKeySize::Aes256,
        icv_length: 16,
        esn: true,
        last: 0,
    },
    Shape {
        name: "rest4",
        mode: Mode::Tunnel,
        inner: IpVersion::V4,
        outer: IpVersion::V6,
        protocol: None,
        key_size: AesKeySize::Aes192,
        icv_length: 12,
        esn: false,
        last: 0,
    },
    Shape {
        name: "rest6",
        mode: Mode::Tunnel,
        inner: IpVersion::V6,
        outer: IpVersion::V4,
        protocol: None,
        key_size: AesKeySize::Aes256,
        icv_length: 8,
        esn: true,
        // Its numbers soon outgrow 32 bits: the high half changes, and the NIC is told (OV2-TRANS-5).
        last: u32::MAX - 8,
    },
];

/// The connections that the traffic needs, in the order of their policies; together they are about every IP packet of it.
pub(super) fn connections(traffic: &Traffic) -> Result<Vec<Connection>, getrandom::Error> {
    let mut left: Vec<(Side, &Packet)> = traffic.packets.iter().filter(|packet| packet.ip.is_some()).map(|packet| (packet.from, packet)).collect();
    let conversations = conversations(&left);
    let taken: HashSet<IpAddress> = left.iter().filter_map(|(_, packet)| packet.ip.as_ref()).flat_map(|ip| [ip.parsed.src(), ip.parsed.dst()]).collect();
    let mut spis = HashSet::new();
    let mut connections = Vec::new();
    for shape in &SHAPES {
        let (ends, selector) = match shape.mode {
            Mode::Transport => match conversations.iter().find(|found| found.ends[0].version() == shape.inner) {
                Some(found) => (found.ends, Selector { protocol: Some(found.protocol), ..Selector::between(found.ends[0], found.ends[1]) }),
                None => continue,
            },
            Mode::Tunnel => {
                let any = AddressRange::prefix(if shape.inner == IpVersion::V4 { IpAddress::UNSPECIFIED_V4 } else { IpAddress::UNSPECIFIED_V6 }, 0);
                (tunnel_ends(shape.outer, &taken), Selector { source: any, destination: any, protocol: shape.protocol, ..Selector::ANY })
            }
        };
        let before = left.len();
        left.retain(|(from, packet)| !selects(&selector, *from, packet));
        if left.len() < before {
            connections.push(Connection::new(shape, ends, selector, &mut spis)?);
        }
    }
    Ok(connections)
}

/// Whether `selector`, which says what a sends, is about a packet.
pub(super) fn selects(selector: &Selector, from: Side, packet: &Packet) -> bool {
    let Some(ip) = &packet.ip else { return false };
    let parsed = &ip.parsed;
    let flow = transport::Flow { source: parsed.src(), destination: parsed.dst(), protocol: parsed.protocol(), ports: parsed.ports() };
    if from == Side::A { selector.matches(&flow) } else { selector.reversed().matches(&flow) }
}

/// Packets of one protocol between two addresses.
struct Conversation {
    ends: [IpAddress; 2],
    protocol: IpProtocol,
}

/// Conversations that transport mode can carry as they are, those with the most packets first.
///
/// Not TCP: that is what the tunnels show. No fragments, which cannot travel in transport mode, no header that would come back another (a checksum that is
/// wrong in the capture). If the capture holds ESP itself, none at all: the SAs of whoever made it may be between the same addresses.
fn conversations(packets: &[(Side, &Packet)]) -> Vec<Conversation> {
    let mut counts: BTreeMap<(IpAddress, IpAddress, u8), Option<u64>> = BTreeMap::new();
    for (from, packet) in packets {
        let Some(ip) = &packet.ip else { continue };
        let parsed = &ip.parsed;
        if parsed.protocol() == IpProtocol::ESP {
            return Vec::new();
        }
        let header = packet.bytes.get(ip.offset..ip.offset + parsed.header_len()).unwrap_or_default();
        let sound = !parsed.fragment().is_part()
            && !parsed.has_options_or_extensions()
            && parsed.protocol() != IpProtocol::TCP
            && !parsed.src().is_unspecified()
            && ![parsed.src(), parsed.dst()].iter().any(IpAddress::is_multicast)
            && (parsed.version() == IpVersion::V6 || checksum::checksum(header) == 0);
        let (a, b) = if *from == Side::A { (parsed.src(), parsed.dst()) } else { (parsed.dst(), parsed.src()) };
        let count = counts.entry((a, b, parsed.protocol().0)).or_insert(Some(0));
        *count = if sound { count.map(|count| count + 1) } else { None };
    }
    let mut found: Vec<_> = counts.into_iter().filter_map(|(key, count)| Some((count?, key))).collect();
    found.sort_by_key(|(count, _)| core::cmp::Reverse(*count));
    found.into_iter().map(|(_, (a, b, protocol))| Conversation { ends: [a, b], protocol: IpProtocol(protocol) }).collect()
}

/// Addresses for a tunnel's ends, out of those that are for documentation, that the traffic does not use.
fn tunnel_ends(version: IpVersion, taken: &HashSet<IpAddress>) -> [IpAddress; 2] {
    let candidate = |network: u16, host: u8| match version {
        IpVersion::V4 => IpAddress::v4(match network % 3 {
            0 => [192, 0, 2, host],
            1 => [198, 51, 100, host],
            _ => [203, 0, 113, host],
        }),
        IpVersion::V6 => {
            let [high, low] = network.to_be_bytes();
            IpAddress::v6([0x20, 1, 0x0d, 0xb8, high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
        }
    };
    let free = |ends: &[IpAddress; 2]| !ends.iter().any(|end| taken.contains(end));
    // If a capture used all of them, these would do as well: what is inside of a tunnel does not mind.
    (0..3)
        .flat_map(|network| (0..127).map(move |pair| [candidate(network, 2 * pair + 1), candidate(network, 2 * pair + 2)]))
        .find(free)
        .unwrap_or([candidate(0, 1), candidate(0, 2)])
}

/// An SPI that none of these is, and that is not reserved.
fn fresh_spi(spis: &mut HashSet<u32>) -> Result<Spi, getrandom::Error> {
    loop {
        let spi = getrandom::u32()?;
        if spi > 255 && spis.insert(spi) {
            return Ok(Spi(spi));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_has_a_connection_and_every_connection_packets() {
        let traffic = Traffic::shipped().unwrap();
        let connections = connections(&traffic).unwrap();
        let names: Vec<_> = connections.iter().map(|connection| connection.name).collect();
        assert_eq!(names, ["host4", "host6", "tcp4", "tcp6", "rest4", "rest6"]);
        let mut used = vec![0; connections.len()];
        for packet in traffic.packets.iter().filter(|packet| packet.ip.is_some()) {
            let at = connections.iter().position(|connection| selects(&connection.selector, packet.from, packet)).expect("a connection");
            used[at] += 1;
            let parsed = &packet.ip.as_ref().unwrap().parsed;
            if connections[at].mode == Mode::Transport {
                assert!(!parsed.fragment().is_part());
                assert_eq!((parsed.src(), parsed.dst()), connections[at].addresses(packet.from));
            }
        }
        assert!(used.iter().all(|&count| count > 0), "{used:?}");
    }

    #[test]
    fn the_ends_of_a_connection_have_the_same_secrets_and_no_two_ways_do() {
        let connections = connections(&Traffic::shipped().unwrap()).unwrap();
        let mut seen: Vec<(Spi, SecretBytes)> = Vec::new();
        for connection in &connections {
            for from in Side::BOTH {
                let [mut out, mut inward] = [from, from.other()].map(|at| connection.parameters(from, at));
                assert_eq!((out.direction, inward.direction), (Direction::Outbound, Direction::Inbound));
                assert_eq!((out.iv_mask, out.source, out.destination), (inward.iv_mask, inward.source, inward.destination));
                let (out, inward) = (out.associations.remove(0), inward.associations.remove(0));
                assert!(out.spi == inward.spi && out.encryption_key.ct_eq(&inward.encryption_key));
                assert!(!seen.iter().any(|(spi, key)| *spi == out.spi || key.ct_eq(&out.encryption_key)));
                seen.push((out.spi, out.encryption_key));
            }
        }
    }

    #[test]
    fn tunnels_keep_out_of_the_traffics_addresses() {
        let all: Vec<IpAddress> = (1..=6).map(|host| IpAddress::v4([192, 0, 2, host])).collect();
        assert_eq!(tunnel_ends(IpVersion::V4, &HashSet::new()), [all[0], all[1]]);
        assert_eq!(tunnel_ends(IpVersion::V4, &HashSet::from([all[1]])), [all[2], all[3]]);
        assert_eq!(tunnel_ends(IpVersion::V4, &HashSet::from([all[0], all[2]])), [all[4], all[5]]);
    }
}
