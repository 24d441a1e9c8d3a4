//! Which member a packet goes by: a function of what its frame shows on the wire, so that the packets of an SA, and of a flow in clear, keep together.

use packet::{EthernetFrame, Medium};

use crate::MAX_MEMBERS;

/// Members of a team: one bit each.
pub(crate) type Team = u32;

/// The members of a team, in order.
pub(crate) fn members(team: Team) -> impl Iterator<Item = usize> {
    (0..MAX_MEMBERS).filter(move |member| team >> member & 1 != 0)
}

/// The member that a frame goes by.
pub(crate) fn pick(team: Team, medium: Medium, frame: &[u8]) -> Option<usize> {
    match team.count_ones() {
        0 => None,
        1 => Some(team.trailing_zeros() as usize),
        count => members(team).nth((hash(medium, frame) % count) as usize),
    }
}

/// Of the outermost addresses and what stands behind the IP header: ports, or SPI. Options and extension headers count as that, too, which spreads less and
/// keeps together what belongs together.
fn hash(medium: Medium, frame: &[u8]) -> u32 {
    let l3 = match medium {
        Medium::Ip => 0,
        Medium::Ethernet => EthernetFrame::new(frame).map_or(0, |frame| frame.l3_offset()),
    };
    let packet = frame.get(l3..).unwrap_or_default();
    let fields = match packet.first().map(|first| first >> 4) {
        Some(4) => 12..24,
        Some(6) => 8..44,
        _ => 0..14,
    };
    // FNV-1a, and its high half folded in: the choice needs few bits, and nobody gains by choosing them.
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = packet.get(fields).unwrap_or_default().iter().fold(0xcbf2_9ce4_8422_2325, step);
    (hash >> 32) as u32 ^ hash as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(destination: u8, spi: u32) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 44, 0, 1, 0, 0, 64, 50, 0, 0, 192, 0, 2, 1, 192, 0, 2, destination];
        packet.extend(spi.to_be_bytes());
        packet.resize(44, 0xEE);
        packet
    }

    #[test]
    fn packets_of_an_sa_keep_together_and_sas_are_spread() {
        let team = 0b1011;
        let mut seen = [0; MAX_MEMBERS];
        for spi in 0..300 {
            let member = pick(team, Medium::Ip, &packet(2, 0x1000 + spi)).unwrap();
            seen[member] += 1;
            let mut other = packet(2, 0x1000 + spi);
            other[30..].fill(7);
            assert_eq!(pick(team, Medium::Ip, &other), Some(member));
            let ethernet = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0][..], &other].concat();
            assert_eq!(pick(team, Medium::Ethernet, &ethernet), Some(member));
        }
        assert!(seen.iter().enumerate().all(|(member, &count)| if team >> member & 1 != 0 { count > 50 } else { count == 0 }), "{seen:?}");
    }

    #[test]
    fn whatever_a_frame_is_it_goes_by_a_member_if_there_is_one() {
        for length in 0..60 {
            let frame = vec![0x45; length];
            for medium in [Medium::Ip, Medium::Ethernet] {
                assert_eq!(pick(0, medium, &frame), None);
                assert_eq!(pick(0b100, medium, &frame), Some(2));
                assert!([1, 7].contains(&pick(0b1000_0010, medium, &frame).unwrap()));
            }
        }
    }
}
