//! The checks on lists that ask for more than ESP alone: AH, AH over ESP, UDP encapsulation, transport over tunnel (OV2-OOB-1 to OV2-OOB-3, OV2-SEND-2,
//! OV2-SEND-3, OV2-SEND-8). What is wrong fails the list whole: nothing on the wire, its bytes untouched.

mod common;
#[path = "common/kinds.rs"]
mod kinds;

use common::{Link, Nic};
use kinds::{Built, CBC, GMAC, Kind, NULL, SHA1, SHA256};
use ndis::{Direction, HeaderTransmit, NetBufferList, OffloadHandle, SaExtension, Status, UdpEspType};
use packet::Buffer;

const IN: Direction = Direction::Inbound;
const OUT: Direction = Direction::Outbound;

fn add(nic: &mut Nic, kind: &Kind) -> OffloadHandle {
    nic.try_add(kind.bundle(OUT)).unwrap()
}

#[track_caller]
fn assert_failed_whole(nic: &mut Nic, list: NetBufferList, counter: &str) {
    let before = nic.counter(counter);
    let contents = |list: &NetBufferList| list.buffers().map(|buffer| buffer.as_slice().to_vec()).collect::<Vec<_>>();
    let (bytes, oob) = (contents(&list), list.oob);
    let (list, wire) = nic.send_one(list);
    assert_eq!((list.status, wire.len()), (Status::FAILURE, 0));
    assert_eq!(contents(&list), bytes);
    assert_eq!(list.oob, oob);
    assert_eq!(nic.counter(counter), before + 1, "{counter}: {:?}", nic.driver.counters());
}

/// A built packet, and what is to be made wrong with it.
struct Wrong {
    bytes: Vec<u8>,
    header: HeaderTransmit,
}

type Change = fn(&mut Wrong, &Built);

fn ah_at(built: &Built, layer: usize) -> usize {
    built.layers[layer].ah.unwrap()
}

fn esp_at(built: &Built, layer: usize) -> usize {
    built.layers[layer].esp.as_ref().unwrap().start
}

/// Where the trailer of a layer's ESP ends.
fn trailer_end(built: &Built, layer: usize) -> usize {
    let layer = &built.layers[layer];
    layer.esp.as_ref().unwrap().end - layer.kind.esp_oracle().unwrap().icv_length()
}

#[track_caller]
fn check(kinds: &[Kind], cases: &[(&str, Change)]) {
    for (ipv6, esn) in [(false, false), (true, true)] {
        let mut nic = Nic::new(Link::Bare);
        let kinds: Vec<_> = kinds.iter().map(|kind| Kind { ipv6, ..*kind }).map(|kind| if esn { kind.esn(3) } else { kind }).collect();
        let handles: Vec<_> = kinds.iter().map(|kind| add(&mut nic, kind)).collect();
        let good = match &kinds[..] {
            [kind] => kind.build(b"payload", 17, 1),
            [outer, inner] => outer.around(&inner.build_inner(b"payload", 17, 1), 1),
            _ => unreachable!(),
        };
        for (number, (counter, change)) in cases.iter().enumerate() {
            let mut wrong = Wrong { bytes: good.bytes.clone(), header: good.layers.last().unwrap().header };
            change(&mut wrong, &good);
            println!("{} case {number}", if ipv6 { "IPv6" } else { "IPv4" });
            let mut list = good.list(&handles);
            list.buffer = Buffer::copy_from(&wrong.bytes);
            list.oob.set_header_transmit(wrong.header);
            assert_failed_whole(&mut nic, list, counter);
            // As the second buffer of a list whose first one is good.
            if wrong.header == good.layers.last().unwrap().header {
                let mut list = good.list(&handles);
                list.more.push(Buffer::copy_from(&wrong.bytes));
                assert_failed_whole(&mut nic, list, counter);
            }
        }
        let (list, wire) = nic.send_one(good.list(&handles));
        assert_eq!((list.status, wire), (Status::SUCCESS, vec![good.sealed()]));
    }
}

#[test]
fn ah_that_is_not_as_said_fails_whole() {
    check(
        &[Kind::ah(0x3001, GMAC)],
        &[
            ("send_header_mismatch", |w, _| w.header.ah_header_offset += 1),
            ("send_header_mismatch", |w, _| w.header.ah_header_offset = 0),
            ("send_header_mismatch", |w, _| w.header.esp_header_offset = w.header.ah_header_offset),
            ("send_header_mismatch", |w, b| w.bytes[ah_at(b, 0) + 4] ^= 1),
            ("send_header_mismatch", |w, b| w.bytes[if b.layers[0].kind.ipv6 { 6 } else { 9 }] = 50),
            ("send_header_mismatch", |w, b| w.bytes[if b.layers[0].kind.ipv6 { 6 } else { 9 }] = 17),
            ("send_lengths", |w, b| w.bytes[ah_at(b, 0) + 1] += 3),
            ("send_lengths", |w, b| w.bytes[ah_at(b, 0) + 1] -= 2),
            ("send_lengths", |w, b| w.bytes[ah_at(b, 0) + 1] = 255),
            ("send_lengths", |w, _| w.bytes.extend_from_slice(b"behind the packet")),
            ("send_malformed", |w, _| w.bytes.truncate(50)),
        ],
    );
}

#[test]
fn headers_that_ah_cannot_cover_fail_whole() {
    let mut nic = Nic::new(Link::Bare);
    let kind = Kind { extras: true, ..Kind::ah(0x3001, GMAC) };
    let handle = add(&mut nic, &kind);
    let mut bad = kind.build(b"payload", 17, 1);
    // An option that runs past the header.
    bad.bytes[25] = 200;
    assert_failed_whole(&mut nic, bad.list(&[handle]), "send_malformed");
}

#[test]
fn ah_over_esp_that_is_not_as_said_fails_whole() {
    check(
        &[Kind::both(0x1001, CBC, Some(SHA1), 0x3001, GMAC)],
        &[
            ("send_header_mismatch", |w, _| w.header.ah_header_offset = 0),
            ("send_header_mismatch", |w, _| w.header.esp_header_offset = 0),
            ("send_header_mismatch", |w, _| w.header.esp_header_offset -= 1),
            ("send_header_mismatch", |w, b| w.bytes[ah_at(b, 0)] = 17),
            ("send_header_mismatch", |w, b| w.bytes[ah_at(b, 0) + 7] ^= 1),
            ("send_header_mismatch", |w, b| w.bytes[esp_at(b, 0) + 3] ^= 1),
            ("send_trailer_mismatch", |w, _| w.header.next_header ^= 1),
            ("send_trailer_mismatch", |w, _| w.header.pad_length ^= 1),
            ("send_trailer_mismatch", |w, b| w.bytes[trailer_end(b, 0) - 1] ^= 1),
            ("send_lengths", |w, b| {
                w.bytes[trailer_end(b, 0) - 2] = 250;
                w.header.pad_length = 250;
            }),
        ],
    );
}

#[test]
fn udp_encapsulation_that_is_not_as_said_fails_whole() {
    check(
        &[Kind::gcm(0x1001).udp(UdpEspType::Tunnel)],
        &[
            ("send_header_mismatch", |w, b| w.bytes[if b.layers[0].kind.ipv6 { 6 } else { 9 }] = 50),
            ("send_header_mismatch", |w, _| w.header.esp_header_offset -= 2),
            ("send_header_mismatch", |w, b| w.bytes[esp_at(b, 0)..][..4].fill(0)),
            ("send_lengths", |w, b| w.bytes[esp_at(b, 0) - 3] -= 1),
            ("send_lengths", |w, b| w.bytes[esp_at(b, 0) - 3] += 1),
        ],
    );
    // And UDP where the SA has none.
    let mut nic = Nic::new(Link::Bare);
    let kind = Kind::gcm(0x1001);
    let handle = add(&mut nic, &kind);
    let packet = kind.place(b"payload", 17, 1, true, Vec::new());
    assert_failed_whole(&mut nic, packet.list(&[handle]), "send_header_mismatch");
}

#[test]
fn transport_over_tunnel_that_is_not_as_said_fails_whole() {
    let outer = Kind::both(0x2001, CBC, Some(SHA256), 0x4001, GMAC);
    let inner = Kind::both(0x1001, CBC, Some(SHA1), 0x3001, SHA256).net(1);
    check(
        &[outer, inner],
        &[
            ("send_header_mismatch", |w, b| w.header = b.layers[0].header),
            ("send_header_mismatch", |w, _| w.header.esp_header_offset += 1),
            ("send_header_mismatch", |w, b| w.bytes[ah_at(b, 0) + 4] ^= 1),
            ("send_header_mismatch", |w, b| w.bytes[esp_at(b, 0)] ^= 1),
            ("send_header_mismatch", |w, b| w.bytes[ah_at(b, 1) + 4] ^= 1),
            ("send_header_mismatch", |w, b| w.bytes[esp_at(b, 1)] ^= 1),
            ("send_header_mismatch", |w, b| w.bytes[trailer_end(b, 0) - 1] = if b.layers[1].kind.ipv6 { 4 } else { 41 }),
            ("send_trailer_mismatch", |w, b| w.bytes[trailer_end(b, 1) - 1] ^= 1),
            ("send_lengths", |w, b| w.bytes[trailer_end(b, 0) - 2] = 255),
            ("send_lengths", |w, b| w.bytes[ah_at(b, 1) + 1] = 255),
            ("send_malformed", |w, b| w.bytes[b.layers[1].ip] = 0x75),
            ("send_malformed", |w, b| {
                // The inner packet says that it is longer than what the tunnel carries.
                let at = b.layers[1].ip + if b.layers[1].kind.ipv6 { 4 } else { 2 };
                w.bytes[at] = 0x7f;
            }),
        ],
    );
    // A fragment has no whole packet to protect.
    let mut nic = Nic::new(Link::Bare);
    let handles = [add(&mut nic, &outer), add(&mut nic, &inner)];
    let mut packet = outer.around(&inner.build_inner(b"payload", 17, 1), 1);
    let ip = packet.layers[1].ip;
    packet.bytes[ip + 6] |= 0x20;
    assert_failed_whole(&mut nic, packet.list(&handles), "send_fragment");
}

#[test]
fn handles_of_transport_over_tunnel_are_both_looked_at() {
    let mut nic = Nic::new(Link::Bare);
    let (outer, inner) = (Kind::gcm(0x2001), Kind::gcm(0x1001).net(1));
    let (tunnel, transport) = (add(&mut nic, &outer), add(&mut nic, &inner));
    let inbound = nic.try_add(outer.bundle(IN)).unwrap();
    let packet = outer.around(&inner.build_inner(b"payload", 6, 1), 1);
    let stale = OffloadHandle::from_bits(tunnel.to_bits() ^ 1 << 40).unwrap();
    for (handles, counter) in [
        ([tunnel, tunnel], "send_tunnel_handle"),
        ([transport, transport], "send_tunnel_handle"),
        ([stale, transport], "send_stale_handle"),
        ([tunnel, stale], "send_stale_handle"),
        ([inbound, transport], "send_inbound_handle"),
        ([tunnel, inbound], "send_inbound_handle"),
        // Crossed: the headers are not those of the bundles.
        ([transport, tunnel], "send_header_mismatch"),
    ] {
        assert_failed_whole(&mut nic, packet.list(&handles), counter);
    }
    let mut list = packet.list(&[tunnel, transport]);
    list.oob.set_offload_handle(None);
    assert_failed_whole(&mut nic, list, "send_tunnel_handle");
    assert_eq!(nic.send_one(packet.list(&[tunnel, transport])).0.status, Status::SUCCESS);
    nic.delete(tunnel);
    assert_failed_whole(&mut nic, packet.list(&[tunnel, transport]), "send_stale_handle");
}

/// No UDP over UDP (OV2-RECV-7).
#[test]
fn udp_does_not_go_over_udp() {
    let mut nic = Nic::new(Link::Bare);
    let (outer, inner) = (Kind::gcm(0x2001).udp(UdpEspType::Tunnel), Kind::gcm(0x1001).net(1).udp(UdpEspType::Transport));
    let handles = [add(&mut nic, &outer), add(&mut nic, &inner)];
    let packet = outer.around(&inner.build_inner(b"payload", 6, 1), 1);
    assert_failed_whole(&mut nic, packet.list(&handles), "send_header_mismatch");
    // Received, the outer portion is opened, and the inner one left alone.
    for kind in [outer, inner] {
        nic.try_add(kind.bundle(IN)).unwrap();
    }
    let wire = packet.sealed();
    let list = nic.receive_one(&wire);
    assert_eq!((list.oob.ipsec_receive().crypto_done, list.oob.ipsec_receive().next_crypto_done), (true, false));
    assert_eq!(list.buffer.as_slice(), packet.opened(&wire, 1));
}

/// RFC 4303 section 2.7: what hides a packet's length stands between it and the padding.
#[test]
fn a_tunnels_esp_may_carry_more_than_the_packet_and_ah_may_not() {
    let inner = Kind::gcm(0x1001).net(1);
    let mut padded = inner.build_inner(b"payload", 6, 1);
    padded.bytes.extend([0; 100]);
    for (tunnel, fits) in [(Kind::gcm(0x2001), true), (Kind::both(0x2002, NULL, None, 0x4002, SHA1), true), (Kind::ah(0x4001, SHA256), false)] {
        let (mut sender, mut receiver) = (Nic::new(Link::Bare), Nic::new(Link::Bare));
        let handles = [add(&mut sender, &tunnel), add(&mut sender, &inner)];
        let packet = tunnel.around(&padded, 1);
        if !fits {
            assert_failed_whole(&mut sender, packet.list(&handles), "send_lengths");
            continue;
        }
        let (list, wire) = sender.send_one(packet.list(&handles));
        assert_eq!((list.status, &wire), (Status::SUCCESS, &vec![packet.sealed()]));
        for kind in [tunnel, inner] {
            receiver.try_add(kind.bundle(IN)).unwrap();
        }
        let list = receiver.receive_one(&wire[0]);
        assert!(list.oob.ipsec_receive().next_crypto_done);
        assert_eq!(list.buffer.as_slice(), packet.opened(&wire[0], 2));
    }
}

#[test]
fn lists_with_several_buffers_go_through_all_stages() {
    let mut nic = Nic::new(Link::Bare);
    let (outer, inner) = (Kind::both(0x2001, CBC, Some(SHA256), 0x4001, GMAC), Kind::ah(0x3001, SHA1).net(1));
    let handles = [add(&mut nic, &outer), add(&mut nic, &inner)];
    let plain = Kind::gcm(0x5001);
    let plain_handle = add(&mut nic, &plain);
    let mut expected = Vec::new();
    let mut batch = Vec::new();
    for n in 0..70_u32 {
        if n % 3 == 0 {
            let packet = plain.build(&[n as u8; 33], 17, n + 1);
            expected.push(packet.sealed());
            batch.push(packet.list(&[plain_handle]));
            continue;
        }
        let packets: Vec<_> = (0..=n % 4).map(|m| outer.around(&inner.build_inner(&[m as u8; 20], 17, n * 10 + m + 1), n * 10 + m + 1)).collect();
        let mut list = packets[0].list(&handles);
        list.more = packets[1..].iter().map(|packet| Buffer::copy_from(&packet.bytes)).collect();
        expected.extend(packets.iter().map(Built::sealed));
        batch.push(list);
    }
    let (done, wire) = nic.send(batch);
    assert!(done.iter().all(|list| list.status.is_success()), "{:?}", nic.driver.counters());
    assert!(wire.iter().map(|frame| frame.buffer.as_slice()).eq(expected.iter().map(Vec::as_slice)), "bytes or order differ");
}

#[test]
fn combined_modes_only_while_they_are_configured() {
    let parameters = nic::NicParameters { medium: packet::Medium::Ip, ..nic::NicParameters::new("test") };
    let mut nic = Nic::with(parameters, common::software);
    nic.activate();
    let (esp, ah, both) = (Kind::gcm(0x1001), Kind::ah(0x3001, SHA1), Kind::both(0x1002, CBC, None, 0x3002, SHA256));
    let handles = [esp, ah, both].map(|kind| add(&mut nic, &kind));
    for kind in [esp, ah, both] {
        nic.try_add(kind.bundle(IN)).unwrap();
    }
    for (setting, works) in
        [(ndis::IpsecSetting::AhAndEsp, [true, true, true]), (ndis::IpsecSetting::Ah, [false, true, false]), (ndis::IpsecSetting::Esp, [true, false, false])]
    {
        nic.set_ipsec(setting);
        for ((kind, handle), works) in [esp, ah, both].iter().zip(&handles).zip(works) {
            let packet = kind.build(b"payload", 6, 1);
            let wire = packet.sealed();
            let list = nic.receive_one(&wire);
            assert_eq!(list.oob.ipsec_receive().crypto_done, works, "{setting:?} {kind:?}");
            if works {
                assert_eq!(nic.send_one(packet.list(&[*handle])).1, [wire]);
            } else {
                assert_eq!(list.buffer.as_slice(), wire);
                assert_failed_whole(&mut nic, packet.list(&[*handle]), "send_not_in_configuration");
            }
        }
    }
}

#[test]
fn an_unauthenticated_sa_is_sealed_as_it_is_asked_for() {
    let mut nic = Nic::new(Link::Bare);
    let kind = Kind::esp(0x1001, CBC, None);
    let kind = Kind { extension: SaExtension { allow_unauthenticated: true, ..kind.extension }, ..kind };
    let handle = add(&mut nic, &kind);
    let packet = kind.build(b"payload", 6, 1);
    assert_eq!(nic.send_one(packet.list(&[handle])).1, [packet.sealed()]);
}
