use packet::Ipv4Repr;

use super::*;

fn spread() -> Spread {
    Spread { medium: Medium::Ip, secret: 0x5eed, ports: vec![4600] }
}

/// An IPv4 packet with this payload; `fragment`: flags and offset.
fn packet(protocol: IpProtocol, source: &str, destination: &str, payload: &[u8], fragment: u16) -> Vec<u8> {
    let mut bytes = vec![0; 20 + payload.len()];
    Ipv4Repr::new(protocol, source.parse().unwrap(), destination.parse().unwrap(), payload.len()).emit(&mut bytes).unwrap();
    bytes[20..].copy_from_slice(payload);
    bytes[6..8].copy_from_slice(&fragment.to_be_bytes());
    // The checksum is not looked at here.
    bytes
}

fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes[..2].copy_from_slice(&source.to_be_bytes());
    bytes[2..4].copy_from_slice(&destination.to_be_bytes());
    bytes[4..6].copy_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn esp(spi: u32, sequence: u32) -> Vec<u8> {
    [&spi.to_be_bytes()[..], &sequence.to_be_bytes(), &[7; 40]].concat()
}

#[test]
fn packets_of_an_sa_stay_together_in_every_form() {
    let spread = spread();
    let of = |payload: &[u8], protocol, source| spread.inbound(&packet(protocol, source, "192.0.2.2", payload, 0));
    let bare = of(&esp(0x1001, 1), IpProtocol::ESP, "192.0.2.1");
    assert_eq!(bare, of(&esp(0x1001, 2), IpProtocol::ESP, "192.0.2.1"));
    assert_eq!(bare, of(&esp(0x1001, 3), IpProtocol::ESP, "192.0.2.9"), "a source that has moved");
    assert_eq!(bare, of(&udp(4500, 4500, &esp(0x1001, 4)), IpProtocol::UDP, "192.0.2.1"));
    assert_eq!(bare, of(&udp(1027, 4500, &esp(0x1001, 4)), IpProtocol::UDP, "192.0.2.1"), "behind a NAT");
    assert_eq!(bare, of(&udp(1027, 4600, &esp(0x1001, 4)), IpProtocol::UDP, "192.0.2.1"), "on a port of its own");
    let ah = [&[4, 4, 0, 0][..], &esp(0x1001, 5)].concat();
    assert_eq!(bare, of(&ah, IpProtocol::AH, "192.0.2.1"));
    assert_ne!(bare, of(&esp(0x1002, 1), IpProtocol::ESP, "192.0.2.1"));
    assert_ne!(bare, of(&udp(4500, 5000, &esp(0x1001, 4)), IpProtocol::UDP, "192.0.2.1"));
    let ike = udp(4500, 4500, &[0; 32]);
    assert_eq!(of(&ike, IpProtocol::UDP, "192.0.2.1"), spread.outbound(&packet(IpProtocol::UDP, "192.0.2.1", "192.0.2.2", &ike, 0)));
}

#[test]
fn packets_of_a_flow_stay_together_and_so_do_fragments() {
    let spread = spread();
    let flow = |ports: (u16, u16), fill: u8, fragment| {
        spread.outbound(&packet(IpProtocol::UDP, "10.0.1.1", "10.0.2.1", &udp(ports.0, ports.1, &[fill; 64]), fragment))
    };
    assert_eq!(flow((1, 2), 3, 0), flow((1, 2), 4, 0));
    assert_ne!(flow((1, 2), 3, 0), flow((2, 1), 3, 0));
    // The first one, later ones, and another datagram's.
    assert_eq!(flow((1, 2), 3, 0x2000), flow((9, 9), 9, 0x2001));
    assert_eq!(flow((1, 2), 3, 0x2000), flow((3, 4), 9, 0x0005));
}

#[test]
fn large_packets_are_where_their_flow_is() {
    let spread = spread();
    let small = packet(IpProtocol::UDP, "10.0.1.1", "10.0.2.1", &udp(1, 2, &[0; 8]), 0);
    let mut large = packet(IpProtocol::UDP, "10.0.1.1", "10.0.2.1", &udp(1, 2, &[0; 4000]), 0);
    large[2..4].fill(0); // no length (OV2-SEND-4)
    assert_eq!(spread.large(&large), spread.outbound(&small));
    assert_eq!(spread.large(&[]), spread.outbound(&[]));
}

#[test]
fn any_bytes_have_a_place() {
    for medium in [Medium::Ip, Medium::Ethernet] {
        let spread = Spread { medium, ..spread() };
        let whole = [&[2; 12][..], &[8, 0], &packet(IpProtocol::UDP, "10.0.1.1", "10.0.2.1", &udp(1, 4500, &esp(1, 1)), 0)].concat();
        for length in 0..whole.len() {
            assert_eq!(spread.inbound(&whole[..length]), spread.inbound(&whole[..length]));
            assert_eq!(spread.outbound(&whole[..length]), spread.outbound(&whole[..length]));
        }
    }
}

#[test]
fn flows_and_sas_are_spread_evenly() {
    let spread = spread();
    for workers in [2_u128, 3, 8] {
        let mut flows = vec![0; workers as usize];
        let mut sas = flows.clone();
        for number in 0..4000_u16 {
            let place = |hash: u64| ((u128::from(hash) * workers) >> 64) as usize;
            flows[place(spread.outbound(&packet(IpProtocol::UDP, "10.0.1.1", "10.0.2.1", &udp(1000 + number, 53, &[0; 8]), 0)))] += 1;
            sas[place(spread.inbound(&packet(IpProtocol::ESP, "192.0.2.1", "192.0.2.2", &esp(0x1000 + u32::from(number), 1), 0)))] += 1;
        }
        let fair = 4000 / workers as i32;
        for (worker, count) in flows.into_iter().chain(sas).enumerate() {
            assert!((count - fair).abs() < fair / 4, "worker {worker} of {workers}: {count} of 4000");
        }
    }
}
