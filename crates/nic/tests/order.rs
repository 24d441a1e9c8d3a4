//! What a packet is reported as, and what it leaves behind, does not hang on how packets were put into batches: batches against one packet at a time.

mod common;
#[path = "common/kinds.rs"]
mod kinds;

use common::{Link, Nic};
use kinds::{Built, CBC, GMAC, Kind, NULL, SHA1, SHA256};
use ndis::{CryptoStatus, Direction, UdpEspType};
use packet::IpProtocol;
use proptest::prelude::*;

/// Numbers near the end of their space ask for the SA's deletion.
const END: u32 = u32::MAX - 50;

fn nic(kinds: &[Kind]) -> Nic {
    let mut nic = Nic::new(Link::Bare);
    for kind in kinds {
        nic.try_add(kind.bundle(Direction::Inbound)).unwrap();
    }
    nic
}

/// A packet without IPsec.
fn plain() -> Vec<u8> {
    [&Kind::gcm(1).net(9).ip_header(IpProtocol::TCP, 20)[..], &[0; 20]].concat()
}

fn last_flipped(mut wire: Vec<u8>) -> Vec<u8> {
    *wire.last_mut().unwrap() ^= 1;
    wire
}

/// ESP with an ICV that is not right, under an AH that is.
fn forged_under_good_ah(built: &Built) -> Vec<u8> {
    let layer = &built.layers[0];
    let mut wire = last_flipped(built.sealed());
    layer.kind.ah_oracle().unwrap().seal_packet(&ipsec::RustCrypto, &mut wire, layer.ah.unwrap(), layer.ah_sequence).unwrap();
    wire
}

/// Its IP packet is a byte shorter, and says so.
fn cut(mut wire: Vec<u8>) -> Vec<u8> {
    wire.pop();
    let len = wire.len() as u16;
    wire[2..4].copy_from_slice(&len.to_be_bytes());
    wire
}

/// Packets of one bundle: good ones of both modes, and all that can be wrong with one.
fn alone(kind: &Kind) -> Vec<Vec<u8>> {
    let transport = kind.build(b"payload", 6, 1);
    let mut all = vec![
        transport.sealed(),
        kind.build(&plain(), 4, 2).sealed(),
        last_flipped(transport.sealed()),
        // Authentic, and no IPv4 packet in it.
        kind.build(b"\x75", 4, 3).sealed(),
        kind.build(b"\x75", 4, END).sealed(),
        kind.build(b"payload", 6, END + 1).sealed(),
        kind.build(&plain(), 4, END + 2).sealed(),
        last_flipped(kind.build(b"payload", 6, END + 3).sealed()),
        cut(transport.sealed()),
    ];
    match (&kind.esp, &kind.ah) {
        (Some(_), None) => all.push(kind.place(b"payload", 6, 4, !kind.in_udp(false), Vec::new()).sealed()),
        (Some(_), Some(_)) => {
            all.push(Kind { ah: None, ..*kind }.build(b"payload", 6, 4).sealed());
            all.push(forged_under_good_ah(&transport));
            all.push(forged_under_good_ah(&kind.build(b"payload", 6, END + 4)));
        }
        _ => {}
    }
    all
}

/// Packets of the inner bundle in a tunnel of the outer one.
fn nested(outer: &Kind, inner: &Kind) -> Vec<Vec<u8>> {
    let built = |payload: &[u8], next_header, low| outer.around(&inner.build_inner(payload, next_header, low), low);
    let good = built(b"payload", 6, 5);
    let damaged = good.sealed_after(|number, bytes| {
        if number == 0 {
            *bytes[..good.layers[1].end].last_mut().unwrap() ^= 1;
        }
    });
    let mut all = vec![good.sealed(), built(&plain(), 4, 6).sealed(), damaged, last_flipped(good.sealed()), built(b"\x75", 4, 7).sealed()];
    all.push(built(b"payload", 6, END + 5).sealed());
    if inner.ah.is_none() {
        all.push(outer.around(&inner.place(b"payload", 6, 8, !inner.in_udp(true), Vec::new()), 8).sealed());
    }
    all
}

/// Bundles, and packets of theirs.
fn sets() -> Vec<(Vec<Kind>, Vec<Vec<u8>>)> {
    use UdpEspType::{Transport, TransportOverUdpTunnel, Tunnel, UdpTransportOverTunnel};
    let both = Kind::both(0x1003, CBC, Some(SHA1), 0x3003, SHA256);
    let singles = [
        Kind::gcm(0x1001),
        Kind::esp(0x1002, CBC, Some(SHA256)),
        Kind::ah(0x3001, SHA1),
        Kind::ah(0x3002, GMAC),
        both,
        Kind::both(0x1004, NULL, None, 0x3004, SHA1),
        Kind::gcm(0x1005).udp(Transport),
        Kind::gcm(0x1006).udp(Tunnel),
        Kind::gcm(0x1007).udp(TransportOverUdpTunnel),
        Kind::gcm(0x1008).udp(UdpTransportOverTunnel),
    ];
    let pairs = [
        (Kind::gcm(0x2001), Kind::gcm(0x1101)),
        (Kind::gcm(0x2002), Kind::both(0x1102, CBC, None, 0x3102, SHA1)),
        (Kind::both(0x2003, CBC, Some(SHA1), 0x4003, SHA256), Kind::both(0x1103, CBC, Some(SHA1), 0x3103, SHA256)),
        (Kind::ah(0x4004, SHA1), Kind::gcm(0x1104)),
        (Kind::gcm(0x2005).udp(TransportOverUdpTunnel), Kind::gcm(0x1105).udp(TransportOverUdpTunnel)),
        (Kind::gcm(0x2006).udp(UdpTransportOverTunnel), Kind::gcm(0x1106).udp(UdpTransportOverTunnel)),
    ]
    .map(|(outer, inner)| (outer, inner.net(1)));
    let of_one = singles.into_iter().map(|kind| (vec![kind], alone(&kind)));
    let of_two = pairs.into_iter().map(|(outer, inner)| (vec![outer, inner], [alone(&outer), alone(&inner), nested(&outer, &inner)].concat()));
    of_one.chain(of_two).collect()
}

#[track_caller]
fn assert_same(batched: &mut Nic, single: &mut Nic, wires: &[Vec<u8>], name: impl Fn() -> String) {
    let up = batched.receive(wires);
    assert_eq!(up.len(), wires.len());
    for (number, (list, wire)) in up.iter().zip(wires).enumerate() {
        let alone = single.receive_one(wire);
        assert_eq!(list.oob, alone.oob, "{} packet {number}", name());
        assert!(list.buffer.as_slice() == alone.buffer.as_slice(), "{} packet {number}", name());
    }
}

/// Any three packets of the same bundles in one batch, a good one between two damaged ones and a damaged one between two good ones among them.
#[test]
fn r_07_three_packets_of_any_kind_are_reported_as_one_by_one() {
    for (kinds, wires) in sets() {
        for (a, first) in wires.iter().enumerate() {
            let (mut batched, mut single) = (nic(&kinds), nic(&kinds));
            for (b, second) in wires.iter().enumerate() {
                for (c, third) in wires.iter().enumerate() {
                    let three = [first.clone(), second.clone(), third.clone()];
                    assert_same(&mut batched, &mut single, &three, || format!("{kinds:?}: {a}, {b}, {c}"));
                }
            }
        }
    }
}

/// OV2-RECV-5a: the mode is that of the packets before, whichever header of theirs told it.
#[test]
fn r_07_the_mode_is_that_of_the_packets_before_in_the_same_batch() {
    let (both, transport, tunnel) =
        (Kind::both(0x1001, CBC, Some(SHA1), 0x3001, SHA256), CryptoStatus::TransportAhAuthFailed, CryptoStatus::TunnelAhAuthFailed);
    let good = |mode: bool| if mode { both.build(&plain(), 4, 1).sealed() } else { both.build(b"payload", 6, 1).sealed() };
    let damaged = last_flipped(both.build(&plain(), 4, 2).sealed());
    let batch = [damaged.clone(), good(true), damaged.clone(), good(false), damaged.clone(), good(true), good(true), damaged];
    let statuses: Vec<_> = nic(&[both]).receive(&batch).iter().map(|list| list.oob.ipsec_receive().crypto_status).collect();
    let success = CryptoStatus::Success;
    assert_eq!(statuses, [transport, success, tunnel, success, transport, success, success, tunnel]);

    // A bundle that is the inner one of the first packet and the only one of the second.
    let (outer, inner) = (Kind::gcm(0x2001), Kind::gcm(0x1001).net(1));
    let first = outer.around(&inner.build_inner(&plain(), 4, 1), 1).sealed();
    let second = last_flipped(inner.build(b"payload", 6, 2).sealed());
    let statuses: Vec<_> = nic(&[outer, inner]).receive(&[first, second]).iter().map(|list| list.oob.ipsec_receive().crypto_status).collect();
    assert_eq!(statuses, [success, CryptoStatus::TunnelEspAuthFailed]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn r_07_batches_of_everything_are_reported_as_one_by_one(picks in proptest::collection::vec((any::<u16>(), any::<u16>()), 1..200), few: bool) {
        let mut sets = sets();
        if few {
            sets.truncate(5);
        }
        let kinds: Vec<_> = sets.iter().flat_map(|(kinds, _)| kinds).copied().collect();
        let (mut batched, mut single) = (nic(&kinds), nic(&kinds));
        let wires: Vec<_> = picks
            .iter()
            .map(|&(set, wire)| {
                let wires = &sets[usize::from(set) % sets.len()].1;
                wires[usize::from(wire) % wires.len()].clone()
            })
            .collect();
        assert_same(&mut batched, &mut single, &wires, String::new);
    }
}
