//! Traffic flow confidentiality: dummies and padding.

mod common;

use common::bundle::{Bundle, Headers};
use common::exchange::{WAYS, exchange, nested, packets};
use common::{Host, NIC, address, inner, ip};
use ndis::Direction;
use packet::IpProtocol;
use transport::{DropReason, Mode, TrafficFlow};

const OUT: Direction = Direction::Outbound;

#[test]
fn dummies_go_between_packets_and_are_dropped_at_the_other_end() {
    for headers in [Headers::Esp, Headers::AhEsp, Headers::UdpEsp] {
        for mode in [Mode::Tunnel, Mode::Transport] {
            for every in [1, 3, 10] {
                for way in WAYS {
                    let flow = TrafficFlow { pad_to: 0, dummy_every: every };
                    let bundle = Bundle { traffic_flow: flow, ..Bundle::of(OUT, mode, headers, 0x1001) };
                    let bundle = if mode == Mode::Transport { bundle.between("10.0.1.1", "10.0.2.1") } else { bundle };
                    let sent = packets(false, 100);
                    let (host, peer, wire, received) = exchange(&[bundle], &sent, way);
                    let dummies = 100 / every;
                    assert_eq!(wire.len() as u32, 100 + dummies);
                    assert_eq!(received.delivered, sent);
                    let expected: Vec<_> =
                        (1..=100).flat_map(|number| [Some("delivered"), (number % every == 0).then_some("dummy")].into_iter().flatten()).collect();
                    assert_eq!(received.words(), expected, "{headers:?} {mode:?} {every} {way:?}");
                    let counts = host.transport.outbound();
                    assert_eq!((counts.seen.packets, counts.ended(), counts.dummies.packets), (100, 100, u64::from(dummies)));
                    assert_eq!(Host::dropped(&peer.transport.inbound()), [(DropReason::Dummy, u64::from(dummies))]);
                    // Numbers are in the order of the wire, and dummies look like what they follow.
                    assert!(received.sequences().is_sorted());
                    assert!(wire.iter().all(|packet| packet.len() == wire[0].len()));
                }
            }
        }
    }
}

#[test]
fn dummies_inside_and_around_nested_bundles() {
    for way in WAYS {
        let [mut tunnel, mut bundle] = nested(Headers::Esp, Headers::Esp, false, false);
        tunnel.traffic_flow.dummy_every = 2;
        bundle.traffic_flow.dummy_every = 3;
        let sent = packets(false, 60);
        let (host, _, wire, received) = exchange(&[tunnel, bundle], &sent, way);
        assert_eq!((wire.len(), host.transport.outbound().dummies.packets), (60 + 20 + 30, 50), "{way:?}");
        assert_eq!(received.delivered, sent);
        assert_eq!(received.words().iter().filter(|word| *word == "dummy").count(), 50);
    }
}

#[test]
fn dummies_that_a_nic_gives_back_are_sealed_or_forgotten() {
    let bundle = Bundle { traffic_flow: TrafficFlow { pad_to: 0, dummy_every: 1 }, ..Bundle::of(OUT, Mode::Tunnel, Headers::Esp, 0x1001) };
    let mut host = Host::full(true);
    host.put(&bundle);
    host.nic.script().fail_every = 2;
    let wire = host.send(&packets(false, 50));
    assert_eq!((wire.len(), host.transport.outbound().dummies.packets), (100 - 25 - host.transport.outbound().dropped_total().packets as usize, 25));
    host.nic.script().fail_every = 0;
    // The adapter does not run: packets wait, dummies do not.
    host.stack.reset_adapter(NIC).unwrap();
    assert!(host.send(&packets(false, 5)).is_empty());
    assert_eq!(host.lane.backlog(), 5);
}

#[test]
fn packets_of_a_tunnel_are_padded_to_one_length() {
    for headers in [Headers::Esp, Headers::AhEsp, Headers::UdpEsp] {
        for pad_to in [60, 100, 1400, 9000, 65_535] {
            for way in WAYS {
                let flow = TrafficFlow { pad_to, dummy_every: 4 };
                let bundle = Bundle { traffic_flow: flow, ..Bundle::of(OUT, Mode::Tunnel, headers, 0x1001) };
                let sent: Vec<_> = [0, 1, 20, 72, 500, 1300]
                    .iter()
                    .map(|&length| ip(address("10.0.1.1"), address("10.0.2.1"), IpProtocol::UDP, &vec![7; length]))
                    .chain([inner(7), inner(8)])
                    .collect();
                let (_, _, wire, received) = exchange(&[bundle], &sent, way);
                assert_eq!(received.delivered, sent, "{headers:?} {pad_to} {way:?}");
                assert_eq!(wire.len(), 10);
                if pad_to >= 1400 {
                    assert!(wire.iter().all(|packet| packet.len() == wire[0].len()), "{pad_to}: {:?}", wire.iter().map(Vec::len).collect::<Vec<_>>());
                    assert!(wire[0].len() >= usize::from(pad_to).min(65_000) && wire[0].len() <= 65_535);
                }
            }
        }
    }
}
