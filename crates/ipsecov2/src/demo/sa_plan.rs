//! The connections of an SA file: what its host sends goes under its outbound SAs, what comes to it under its inbound ones, which the other host has the
//! other way round.

use ndis::Direction;
use packet::{IpProtocol, IpVersion, checksum};
use transport::{Mode, SaParameters, Selector};

use super::plan::{self, Connection, Way};
use super::traffic::{Packet, Side, Traffic};

/// Makes connections of a file's SAs, and takes the packets that none of them can carry out of the traffic.
///
/// Which of the hosts is the file's own one is what fits more packets.
pub(super) fn connections(sas: &[SaParameters], traffic: &mut Traffic) -> Vec<Connection> {
    let carried = |own: Side| {
        let connections = lay_out(sas, own);
        let packets = plan::connections_of(traffic, &connections).into_iter().flatten().count();
        (packets, connections)
    };
    let ((from_a, as_a), (from_b, as_b)) = (carried(Side::A), carried(Side::B));
    let connections = if from_b > from_a { as_b } else { as_a };
    leave_out(traffic, &connections);
    connections
}

/// The connections if the file is host `own`'s.
///
/// An outbound SA and an inbound one that look like the two directions of one connection are shown as one, as far as that keeps the order of policies.
fn lay_out(sas: &[SaParameters], own: Side) -> Vec<Connection> {
    let of = |direction| sas.iter().filter(move |sa| sa.direction == direction);
    let mut inbound = of(Direction::Inbound).peekable();
    let mut connections = Vec::new();
    let way = |sa: &SaParameters| {
        // As its sender has it. Dummies would be packets that nobody sent.
        let mut copy = plan::copy(sa, Direction::Outbound);
        copy.traffic_flow.dummy_every = 0;
        Some(Way::new(copy, policy(sa, sas)))
    };
    let mut connect = |name: &str, from_own, from_other| {
        let ways = if own == Side::A { [from_own, from_other] } else { [from_other, from_own] };
        connections.push(Connection::new(name.to_owned(), ways));
    };
    for out in of(Direction::Outbound) {
        let partner = |sa: &SaParameters| {
            (sa.mode, sa.source, sa.destination) == (out.mode, out.destination, out.source) && plan::algorithms(sa) == plan::algorithms(out)
        };
        if inbound.clone().any(partner) {
            while let Some(single) = inbound.next_if(|sa| !partner(sa)) {
                connect(&single.name, None, way(single));
            }
        }
        let twin = inbound.next_if(|sa| partner(sa));
        connect(&out.name, way(out), twin.and_then(way));
    }
    for single in inbound {
        connect(&single.name, None, way(single));
    }
    connections
}

/// Which packets policy puts under an SA; none if it only carries what others have protected.
fn policy(sa: &SaParameters, all: &[SaParameters]) -> Vec<Selector> {
    if sa.selectors.is_empty() && all.iter().any(|other| other.direction == sa.direction && other.inside.as_ref() == Some(&sa.name)) {
        return Vec::new();
    }
    match sa.effective_selectors() {
        Ok(selectors) if selectors.is_empty() => vec![Selector::ANY],
        Ok(selectors) => selectors,
        // The hosts will refuse it, and say why.
        Err(_) => Vec::new(),
    }
}

/// Takes packets out of the traffic that would be dropped, or arrive changed, for good reasons.
fn leave_out(traffic: &mut Traffic, connections: &[Connection]) {
    let of = plan::connections_of(traffic, connections);
    let mut of = of.into_iter();
    let skipped = &mut traffic.skipped;
    traffic.packets.retain(|packet| {
        let connection = of.next().flatten();
        if packet.ip.is_none() {
            return true;
        }
        let Some(way) = connection.and_then(|at| connections.get(at)?.way(packet.from)) else {
            skipped.unselected += 1;
            return false;
        };
        let fits = fits(packet, way.sa());
        skipped.unfit += u64::from(!fits);
        fits
    });
}

/// Whether a packet comes out of an SA as it goes in: in transport mode fragments cannot travel, and checksums come back right if they were not.
fn fits(packet: &Packet, sa: &SaParameters) -> bool {
    let Some(ip) = &packet.ip else { return true };
    if sa.mode == Mode::Tunnel {
        return true;
    }
    let (parsed, bytes) = (&ip.parsed, packet.expected().get(ip.offset..).unwrap_or_default());
    let header = bytes.get(..parsed.header_len()).unwrap_or_default();
    let sound = !parsed.fragment().is_part() && (parsed.version() == IpVersion::V6 || checksum::checksum(header) == 0);
    let in_udp = sa.udp_encapsulation.is_some() && matches!(parsed.protocol(), IpProtocol::TCP | IpProtocol::UDP);
    let verified = || {
        let verdict = checksum::verify_segment(parsed.src(), parsed.dst(), parsed.protocol(), parsed.payload(bytes));
        matches!(verdict, Ok(Some(verdict)) if verdict != checksum::ChecksumVerdict::Bad)
    };
    sound && (!in_udp || verified())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::sa_file::{SaFile, SaFileRules};

    fn sas(entries: &[(&str, &str, &str, &str)]) -> Vec<SaParameters> {
        let mut text = String::new();
        for (number, (name, direction, ends, more)) in entries.iter().enumerate() {
            let (source, destination) = ends.split_once(' ').unwrap();
            let (encryption, key) = if name.ends_with("256") { ("aes-gcm-256", "ab".repeat(36)) } else { ("aes-gcm-128", "cd".repeat(20)) };
            let _ = write!(
                text,
                "[[sa]]\nname = \"{name}\"\ndirection = \"{direction}\"\nsource = \"{source}\"\ndestination = \"{destination}\"\n{more}\n\
                 [[sa.association]]\noperation = \"esp\"\nspi = {}\nencryption = \"{encryption}\"\nencryption-key = \"{key}\"\n",
                0x1000 + number
            );
        }
        let file = SaFile::parse(&text, "test", SaFileRules::default()).unwrap();
        file.bundles.into_iter().map(|bundle| bundle.parameters).collect()
    }

    const TUNNEL: &str = "mode = \"tunnel\"";
    const TRANSPORT: &str = "mode = \"transport\"";

    fn shape(connections: &[Connection]) -> Vec<(&str, [bool; 2])> {
        connections.iter().map(|connection| (connection.name.as_str(), Side::BOTH.map(|from| connection.way(from).is_some()))).collect()
    }

    #[test]
    fn two_directions_are_one_connection_where_that_keeps_the_order() {
        let (there, back) = ("192.0.2.1 192.0.2.2", "192.0.2.2 192.0.2.1");
        let sas = sas(&[
            ("out", "outbound", there, TUNNEL),
            ("out-256", "outbound", there, TUNNEL),
            ("in-256", "inbound", back, TUNNEL),
            ("in", "inbound", back, TUNNEL),
        ]);
        // "in" belongs to "out" but stands behind what belongs to nobody before it.
        assert_eq!(shape(&lay_out(&sas, Side::A)), [("in-256", [false, true]), ("out", [true, true]), ("out-256", [true, false])]);
        assert_eq!(shape(&lay_out(&sas, Side::B)), [("in-256", [true, false]), ("out", [true, true]), ("out-256", [false, true])]);
    }

    #[test]
    fn the_host_is_the_one_whose_packets_fit() {
        for (side, transport) in [(Side::A, true), (Side::B, false)] {
            let mut traffic = Traffic::shipped().unwrap();
            // A conversation of the capture, as host a or b has it.
            let first = traffic.packets.iter().find(|packet| packet.from == side && packet.ip.is_some_and(|ip| ip.parsed.src().is_v4())).unwrap();
            let parsed = &first.ip.as_ref().unwrap().parsed;
            let ends = format!("{} {}", parsed.src(), parsed.dst());
            let narrow = format!("{TUNNEL}\nselectors = [ {{ source = \"{}\" }} ]", parsed.src());
            let sas = sas(&[("own", "outbound", &ends, if transport { TRANSPORT } else { &narrow })]);
            let all = traffic.protected();
            let connections = connections(&sas, &mut traffic);
            assert!(connections[0].way(side).is_some() && connections[0].way(side.other()).is_none(), "{side:?}");
            assert!(traffic.packets.iter().all(|packet| packet.ip.is_none() || packet.from == side));
            assert!(traffic.protected() > 0 && traffic.skipped.unselected > 0);
            assert_eq!(traffic.protected() + traffic.skipped.unselected + traffic.skipped.unfit, all);
        }
    }

    #[test]
    fn numbers_go_on_where_the_file_says() {
        let mut sas = sas(&[("out", "outbound", "192.0.2.1 192.0.2.2", TUNNEL)]);
        let association = &mut sas[0].associations[0];
        (association.extended_sequence_numbers, association.sequence_number_high, association.sequence_number) = (true, 7, u32::MAX);
        let inbound = plan::copy(&sas[0], Direction::Inbound).associations.remove(0);
        assert_eq!((inbound.sequence_number_high, inbound.sequence_number), (8, 0), "the first number is 8 << 32");
        let outbound = plan::copy(&sas[0], Direction::Outbound).associations.remove(0);
        assert_eq!((outbound.sequence_number_high, outbound.sequence_number), (7, u32::MAX));
    }
}
