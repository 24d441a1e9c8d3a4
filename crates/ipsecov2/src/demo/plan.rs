//! The connections between the hosts: an SA in each direction, with random keys, for what the traffic holds.

use std::collections::{BTreeMap, HashSet};

use ipsec::{AesKeySize, Authentication, Encryption};
use ndis::{Direction, Operation};
use packet::{IpAddress, IpProtocol, IpVersion, Spi, checksum};
use secret::SecretBytes;
use transport::{AddressRange, AssociationParameters, Flow, Mode, SaParameters, Selector};

use super::traffic::{Packet, Side, Traffic};

/// One connection: an SA in each direction, or in one only.
pub(super) struct Connection {
    pub(super) name: String,
    /// What a sends, and what b sends. One of them is there.
    ways: [Option<Way>; 2],
}

/// One direction.
pub(super) struct Way {
    /// The SA as its sender has it.
    sa: SaParameters,
    /// Which packets policy puts under it, as they are sent. Empty: none, it carries what other SAs have protected.
    selectors: Vec<Selector>,
}

impl Way {
    pub(super) const fn new(sa: SaParameters, selectors: Vec<Selector>) -> Self {
        Self { sa, selectors }
    }

    /// The SA as its sender has it.
    pub(super) const fn sa(&self) -> &SaParameters {
        &self.sa
    }

    pub(super) fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    /// Whether policy puts a packet under it.
    pub(super) fn selects(&self, packet: &Packet) -> bool {
        let Some(ip) = &packet.ip else { return false };
        let parsed = &ip.parsed;
        let flow = Flow { source: parsed.src(), destination: parsed.dst(), protocol: parsed.protocol(), ports: parsed.ports() };
        self.selectors.iter().any(|selector| selector.matches(&flow))
    }
}

impl Connection {
    pub(super) const fn new(name: String, ways: [Option<Way>; 2]) -> Self {
        Self { name, ways }
    }

    fn of_shape(shape: &Shape, ends: [IpAddress; 2], selector: Selector, spis: &mut HashSet<u32>) -> Result<Self, getrandom::Error> {
        let mut way = |from: Side| -> Result<Option<Way>, getrandom::Error> {
            let selector = if from == Side::A { selector } else { selector.reversed() };
            let sa = SaParameters {
                selectors: vec![selector],
                iv_mask: getrandom::u64()?,
                ..SaParameters::new(
                    format!("{}-{}-to-{}", shape.name, from.name(), from.other().name()),
                    Direction::Outbound,
                    shape.mode,
                    (ends[from as usize], ends[from.other() as usize]),
                    vec![shape.association(spis)?],
                )
            };
            Ok(Some(Way::new(sa, vec![selector])))
        };
        Ok(Self::new(shape.name.to_owned(), [way(Side::A)?, way(Side::B)?]))
    }

    /// The direction of what `from` sends, if there is one.
    pub(super) const fn way(&self, from: Side) -> Option<&Way> {
        self.ways[from as usize].as_ref()
    }

    /// A direction that there is, and who sends in it.
    pub(super) fn first(&self) -> Option<(Side, &SaParameters)> {
        Side::BOTH.into_iter().find_map(|from| Some((from, self.way(from)?.sa())))
    }

    /// The SA of what `from` sends, as host `at` has it.
    pub(super) fn parameters(&self, from: Side, at: Side) -> Option<SaParameters> {
        let direction = if from == at { Direction::Outbound } else { Direction::Inbound };
        Some(copy(self.way(from)?.sa(), direction))
    }
}

/// A copy, keys and all, for the host that has it in this direction.
pub(super) fn copy(sa: &SaParameters, direction: Direction) -> SaParameters {
    let numbers = |association: &AssociationParameters| match (sa.direction, direction) {
        // What was used last, and what comes first.
        (Direction::Outbound, Direction::Inbound) => {
            let last = u64::from(association.sequence_number_high) << 32 | u64::from(association.sequence_number);
            let high = if association.extended_sequence_numbers { (last.saturating_add(1) >> 32) as u32 } else { 0 };
            (high, 0)
        }
        (Direction::Inbound, Direction::Outbound) => (association.sequence_number_high, 0),
        _ => (association.sequence_number_high, association.sequence_number),
    };
    let mut copy = SaParameters { direction, ..sa.duplicate() };
    for association in &mut copy.associations {
        (association.sequence_number_high, association.sequence_number) = numbers(association);
    }
    copy
}

/// An SA's algorithms in a few words, outermost last: `aes-gcm-128`, `aes-cbc-256 hmac-sha-256-128`, `null aes-gmac-128, ah hmac-sha1-96`.
pub(super) fn algorithms(sa: &SaParameters) -> String {
    let words = sa.associations.iter().map(|association| match (association.operation, association.authentication) {
        (Operation::Ah, authentication) => format!("ah {authentication}"),
        (Operation::Esp, Authentication::None) => association.encryption.to_string(),
        (Operation::Esp, authentication) => format!("{} {authentication}", association.encryption),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Length of the ICV of an association, in bytes.
pub(super) fn icv_length(association: &AssociationParameters) -> usize {
    match association.authentication {
        Authentication::None => usize::from(association.icv_length),
        authentication => authentication.icv_length(),
    }
}

/// Bytes of IV after an ESP header.
pub(super) fn iv_length(association: &AssociationParameters) -> usize {
    association.encryption.iv_length().max(association.authentication.iv_length())
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
    encryption: Encryption,
    icv_length: u8,
    esn: bool,
    /// The sequence number that both ends are taken to have used last.
    last: u32,
}

impl Shape {
    const PLAIN: Self = Self {
        name: "",
        mode: Mode::Tunnel,
        inner: IpVersion::V4,
        outer: IpVersion::V4,
        protocol: None,
        encryption: Encryption::AesGcm(AesKeySize::Aes128),
        icv_length: 16,
        esn: false,
        last: 0,
    };

    /// Its association, with a key and an SPI that nothing else has.
    fn association(&self, spis: &mut HashSet<u32>) -> Result<AssociationParameters, getrandom::Error> {
        let mut key = SecretBytes::from(vec![0; self.encryption.key_length()]);
        getrandom::fill(key.expose_mut())?;
        Ok(AssociationParameters {
            icv_length: self.icv_length,
            extended_sequence_numbers: self.esn,
            sequence_number: self.last,
            ..AssociationParameters::esp(fresh_spi(spis)?, self.encryption, key)
        })
    }
}

const SHAPES: [Shape; 6] = [
    Shape { name: "host4", mode: Mode::Transport, ..Shape::PLAIN },
    Shape {
        name: "host6",
        mode: Mode::Transport,
        inner: IpVersion::V6,
        outer: IpVersion::V6,
        encryption: Encryption::AesGcm(AesKeySize::Aes256),
        esn: true,
        ..Shape::PLAIN
    },
    Shape { name: "tcp4", protocol: Some(IpProtocol::TCP), ..Shape::PLAIN },
    Shape {
        name: "tcp6",
        inner: IpVersion::V6,
        outer: IpVersion::V6,
        protocol: Some(IpProtocol::TCP),
        encryption: Encryption::AesGcm(AesKeySize::Aes256),
        esn: true,
        ..Shape::PLAIN
    },
    Shape { name: "rest4", outer: IpVersion::V6, encryption: Encryption::AesGcm(AesKeySize::Aes192), icv_length: 12, ..Shape::PLAIN },
    // Its numbers soon outgrow 32 bits: the high half changes, and the NIC is told (OV2-TRANS-5).
    Shape {
        name: "rest6",
        inner: IpVersion::V6,
        encryption: Encryption::AesGcm(AesKeySize::Aes256),
        icv_length: 8,
        esn: true,
        last: u32::MAX - 8,
        ..Shape::PLAIN
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
        let connection = Connection::of_shape(shape, ends, selector, &mut spis)?;
        let before = left.len();
        left.retain(|(from, packet)| !connection.way(*from).is_some_and(|way| way.selects(packet)));
        if left.len() < before {
            connections.push(connection);
        }
    }
    Ok(connections)
}

/// The connection that policy puts each packet under: the first that selects it.
pub(super) fn connections_of(traffic: &Traffic, connections: &[Connection]) -> Vec<Option<usize>> {
    let of = |packet: &Packet| connections.iter().position(|connection| connection.way(packet.from).is_some_and(|way| way.selects(packet)));
    traffic.packets.iter().map(of).collect()
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
        let names: Vec<_> = connections.iter().map(|connection| connection.name.as_str()).collect();
        assert_eq!(names, ["host4", "host6", "tcp4", "tcp6", "rest4", "rest6"]);
        let mut used = vec![0; connections.len()];
        for (packet, at) in traffic.packets.iter().zip(connections_of(&traffic, &connections)) {
            let Some(ip) = &packet.ip else {
                assert_eq!(at, None);
                continue;
            };
            let at = at.expect("a connection");
            used[at] += 1;
            let sa = connections[at].way(packet.from).unwrap().sa();
            if sa.mode == Mode::Transport {
                assert!(!ip.parsed.fragment().is_part());
                assert_eq!((ip.parsed.src(), ip.parsed.dst()), (sa.source, sa.destination));
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
                let [out, inward] = [from, from.other()].map(|at| connection.parameters(from, at).unwrap());
                assert_eq!((out.direction, inward.direction), (Direction::Outbound, Direction::Inbound));
                assert_eq!((out.iv_mask, out.source, out.destination), (inward.iv_mask, inward.source, inward.destination));
                for (out, inward) in out.associations.into_iter().zip(inward.associations) {
                    assert!(
                        out.spi == inward.spi && out.encryption_key.ct_eq(&inward.encryption_key) && out.authentication_key.ct_eq(&inward.authentication_key)
                    );
                    let key = if out.operation == Operation::Esp { out.encryption_key } else { out.authentication_key };
                    assert!(!seen.iter().any(|(spi, other)| *spi == out.spi || key.ct_eq(other)));
                    seen.push((out.spi, key));
                }
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
