//! What other implementations found: the order of numbers on the wire, where dummies belong, and extended numbers without an ICV.

mod common;

use common::bundle::{Bundle, Half, Headers, gcm};
use common::{Host, inner, udp};
use ipsec::{AesKeySize, Authentication, Encryption};
use ndis::{Direction, LaneContext};
use packet::{Frame, FrameBatch};
use transport::{Mode, Selector, TrafficFlow};

const OUT: Direction = Direction::Outbound;
const IN: Direction = Direction::Inbound;
const WRAP: u64 = 1 << 32;
/// Who does the cryptography: the sender's NIC, the receiver's NIC.
const WAYS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

fn hosts(bundles: &[Bundle], (seals, opens): (bool, bool)) -> (Host, Host) {
    let (host, peer) = (Host::full(seals), Host::full(opens));
    host.put_all(bundles);
    peer.put_all(&bundles.iter().map(|bundle| bundle.toward(IN)).collect::<Vec<_>>());
    (host, peer)
}

#[test]
fn numbers_of_a_tunnel_are_in_the_order_of_the_wire_whatever_it_carries() {
    for way in WAYS {
        for dummy_every in [0, 2] {
            let (traffic_flow, selectors) = (TrafficFlow { pad_to: 0, dummy_every }, vec![Selector::ANY]);
            let tunnel = Bundle { traffic_flow, selectors, ..Bundle::of(OUT, Mode::Tunnel, Headers::AhEsp, 0x1001) };
            let bundle = Bundle::new(OUT, Mode::Transport, Some(gcm(0x2001)), None).between("10.0.1.1", "10.0.2.1").within(&tunnel);
            let (mut host, mut peer) = hosts(&[tunnel, bundle], way);
            // Every third packet has no bundle of its own.
            let sent: Vec<_> = (0..90).map(|number| if number % 3 == 0 { udp("10.0.1.7", "10.0.2.7", number) } else { inner(number) }).collect();
            let received = peer.receive(&host.send(&sent));
            assert_eq!(received.delivered, sent, "{way:?}");
            let count = if dummy_every == 0 { 90 } else { 135 };
            assert_eq!(received.sequences(), (1..=count).collect::<Vec<_>>(), "{way:?} {dummy_every}");
        }
    }
}

#[test]
fn dummies_belong_to_what_they_follow() {
    for offload in [false, true] {
        let flow = TrafficFlow { pad_to: 0, dummy_every: 1 };
        let mut host = Host::full(offload);
        host.put(&Bundle { traffic_flow: flow, ..Bundle::of(OUT, Mode::Tunnel, Headers::Esp, 0x1001) });
        let mut frames: FrameBatch = (0..5).map(|number| Frame { tag: 70 + u64::from(number), ..Frame::new(host.pool.copy_from(&inner(number))) }).collect();
        let mut wire = FrameBatch::new();
        host.lane.outbound(&mut LaneContext { now: host.now, pool: &mut host.pool }, &mut frames, &mut host.path, &mut wire);
        assert_eq!(wire.iter().map(|frame| frame.tag).collect::<Vec<_>>(), [70, 70, 71, 71, 72, 72, 73, 73, 74, 74]);
    }
}

#[test]
fn extended_numbers_without_an_icv_cross_the_wrap_whoever_opens() {
    let half = Half { encryption: Encryption::AesCbc(AesKeySize::Aes128), icv: 0, authentication: Authentication::None, ..gcm(0x1001) };
    for way in WAYS {
        for allow_unauthenticated in [true, false] {
            // Where AH is over it there is an ICV, of AH.
            let ah = (!allow_unauthenticated).then(|| common::bundle::sha256(0x1002));
            let bundle = Bundle { allow_unauthenticated, ..Bundle::new(OUT, Mode::Tunnel, Some(half), ah) }.extended(WRAP - 4);
            let (mut host, mut peer) = hosts(&[bundle], way);
            host.plain = true;
            let sent: Vec<_> = (0..40).map(inner).collect();
            let mut wire = host.send(&sent);
            // Those just before and just after the wrap arrive in another order.
            wire[1..8].reverse();
            let received = peer.receive(&wire);
            assert_eq!(received.words(), vec!["delivered"; 40], "{way:?} {allow_unauthenticated}");
            assert!(received.delivered.iter().all(|packet| sent.contains(packet)));
            let mut numbers = received.sequences();
            numbers.sort_unstable();
            assert_eq!(numbers, (WRAP - 3..WRAP + 37).collect::<Vec<_>>(), "{way:?}");
            assert_eq!(peer.receive(&wire).words(), vec!["replayed"; 40]);
        }
    }
}
