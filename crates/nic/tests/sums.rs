//! Checksums computed on send and verified on receive, with IPsec and without (OV2-SEND-9, OV2-CAP-4, OV2-OOB-4).

mod common;
#[path = "common/kinds.rs"]
mod kinds;

use core::net::IpAddr;

use common::{Link, Nic, all_sums, checksum_set};
use ipsec::Crypto;
use kinds::{CBC, GMAC, Kind, NULL, SHA1, SHA256};
use ndis::{
    ChecksumReport, ChecksumRequest, ChecksumSet, CryptoStatus, Direction, Encapsulation, IpsecReceive, NetBufferList, Offload, OffloadFlags, OffloadHandle,
    Oid, SetEncapsulation, Status, TxRx, UdpEspType,
};
use nic::{NicParameters, SoftwareEngine, software_capabilities};
use packet::{Buffer, IpAddress, IpProtocol, IpVersion, checksum};
use proptest::prelude::*;

const IN: Direction = Direction::Inbound;
const OUT: Direction = Direction::Outbound;

/// A NIC of these capabilities, on links without header or with, with everything configured.
fn nic(link: Link, hardware: Offload) -> Nic {
    let make = move || SoftwareEngine::with_hardware(Crypto::default(), &hardware).unwrap();
    let mut nic = Nic::with(NicParameters { medium: link.medium(), ..NicParameters::new("test") }, make);
    let encapsulation = if link == Link::Bare { Encapsulation::NULL } else { Encapsulation::IEEE_802_3 };
    let on = SetEncapsulation::On { encapsulation, header_size: if link == Link::Bare { 0 } else { 14 } };
    assert_eq!(nic.set(Oid::SetParameters(all_sums(TxRx::Both))), Status::SUCCESS);
    assert_eq!(nic.set_encapsulation(on, on), Status::SUCCESS);
    nic
}

fn everything() -> Offload {
    software_capabilities(64)
}

/// A TCP segment or UDP datagram with this payload, between the addresses of `kind`: its checksum seeded, and computed.
fn segment(kind: &Kind, protocol: IpProtocol, options: bool, payload: &[u8]) -> [Vec<u8>; 2] {
    let mut bytes = match protocol {
        IpProtocol::TCP => {
            let mut header = vec![0x12, 0x34, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0];
            if options {
                header[12] = 0x60;
                header.extend([1, 1, 1, 0]);
            }
            header
        }
        _ => [&[0x12, 0x34, 0x01, 0xbb][..], &((8 + payload.len()) as u16).to_be_bytes(), &[0, 0]].concat(),
    };
    bytes.extend_from_slice(payload);
    let (source, destination) = ends(kind);
    let (mut seeded, mut whole) = (bytes.clone(), bytes);
    assert!(checksum::seed_segment(source, destination, protocol, &mut seeded).unwrap());
    assert!(checksum::fill_segment(source, destination, protocol, &mut whole).unwrap());
    [seeded, whole]
}

fn ends(kind: &Kind) -> (IpAddress, IpAddress) {
    let (source, destination) = kind.addresses();
    (source.to_string().parse().unwrap(), destination.to_string().parse().unwrap())
}

/// The same within an IP packet of `inner`: for tunnels.
fn packet(inner: &Kind, protocol: IpProtocol, segment: &[u8]) -> Vec<u8> {
    let mut packet = [&inner.ip_header(protocol, segment.len())[..], segment].concat();
    fill_header(&mut packet);
    packet
}

fn fill_header(packet: &mut [u8]) {
    if packet[0] >> 4 == 4 {
        let header = usize::from(packet[0] & 0xf) * 4;
        let value = checksum::ipv4_header_checksum(&packet[..header]);
        packet[10..12].copy_from_slice(&value.to_be_bytes());
    }
}

/// The length of the headers of a packet of `kind` without IPsec.
fn header_len(kind: &Kind) -> usize {
    kind.ip_header(IpProtocol::UDP, 0).len()
}

fn version(kind: &Kind) -> IpVersion {
    if kind.ipv6 { IpVersion::V6 } else { IpVersion::V4 }
}

fn request(kind: &Kind, protocol: IpProtocol, at: usize) -> ChecksumRequest {
    let (tcp, udp) = (protocol == IpProtocol::TCP, protocol == IpProtocol::UDP);
    ChecksumRequest { version: version(kind), ip_header: !kind.ipv6, tcp, udp, tcp_header_offset: at as u16 }
}

fn list(link: Link, ipv6: bool, packet: &[u8], request: Option<ChecksumRequest>) -> NetBufferList {
    let header = link.header(ipv6);
    let mut list = NetBufferList::new(Buffer::copy_from(&[&header[..], packet].concat()), header.len() as u16);
    list.oob.set_checksum_request(request);
    list
}

/// Payloads of even and odd lengths, of none, and one whose checksum is 0.
fn payloads(kind: &Kind, protocol: IpProtocol) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [0, 1, 2, 3, 7, 100, 999].map(|length| (0..length).map(|at: usize| (at * 7) as u8).collect()).into();
    // What makes the sum of all the rest come out as 0xffff.
    let [_, whole] = segment(kind, protocol, false, &[0; 4]);
    let at = checksum::checksum_offset(protocol).unwrap();
    all.push([&whole[at..at + 2], &[0, 0]].concat());
    all
}

#[test]
fn the_udp_checksum_that_comes_out_as_zero_is_sent_as_ffff_and_tcps_as_zero() {
    for kind in [Kind::gcm(1).net(9), Kind::gcm(1).net(9).v6()] {
        for (protocol, expected) in [(IpProtocol::UDP, [0xff, 0xff]), (IpProtocol::TCP, [0, 0])] {
            let payload = payloads(&kind, protocol).pop().unwrap();
            let [_, whole] = segment(&kind, protocol, false, &payload);
            let at = checksum::checksum_offset(protocol).unwrap();
            assert_eq!(whole[at..at + 2], expected);
        }
    }
}

/// OV2-OOB-4: without IPsec, in every link form that is offered.
#[test]
fn packets_in_clear_get_their_checksums() {
    for link in [Link::Bare, Link::Ethernet, Link::Vlan, Link::DoubleVlan] {
        let mut nic = nic(link, everything());
        for kind in
            [Kind::gcm(1).net(9), Kind::gcm(1).net(9).v6(), Kind { extras: true, ..Kind::gcm(1).net(9) }, Kind { extras: true, ..Kind::gcm(1).net(9).v6() }]
        {
            for protocol in [IpProtocol::TCP, IpProtocol::UDP] {
                for (number, payload) in payloads(&kind, protocol).iter().enumerate() {
                    let [seeded, whole] = segment(&kind, protocol, number % 2 == 1, payload);
                    let expected = packet(&kind, protocol, &whole);
                    let mut asked = packet(&kind, protocol, &seeded);
                    if !kind.ipv6 {
                        asked[10..12].copy_from_slice(&[0xde, 0xad]);
                    }
                    let at = link.header(false).len() + header_len(&kind);
                    let (done, wire) = nic.send_one(list(link, kind.ipv6, &asked, Some(request(&kind, protocol, at))));
                    assert_eq!(done.status, Status::SUCCESS, "{link:?} {kind:?} {protocol} {number}");
                    assert_eq!(wire, [[link.header(kind.ipv6), expected].concat()], "{link:?} {kind:?} {protocol} {number}");
                }
            }
        }
    }
}

/// Kinds of protection, and where in them what they protect stands.
fn kinds() -> Vec<Kind> {
    vec![
        Kind::gcm(0x1001),
        Kind::gcm(0x1002).v6(),
        Kind::gcm(0x1003).esn(3),
        Kind { extras: true, ..Kind::gcm(0x1004) },
        Kind { extras: true, ..Kind::gcm(0x1005).v6() },
        Kind::gcm(0x1006).udp(UdpEspType::Transport),
        Kind::gcm(0x1007).udp(UdpEspType::Tunnel).v6(),
        Kind::esp(0x1008, CBC, Some(SHA256)),
        Kind::esp(0x1009, NULL, Some(GMAC)),
        Kind::ah(0x3001, SHA1),
        Kind::ah(0x3002, SHA256).v6(),
        Kind::both(0x100a, CBC, Some(SHA1), 0x3003, SHA256),
    ]
}

/// A protected packet, with a checksum that is seeded and one that is computed; and where the segment is.
struct Protected {
    asked: kinds::Built,
    whole: kinds::Built,
    at: usize,
}

/// `inner`: in a tunnel, between its addresses.
fn protected(kind: &Kind, inner: Option<&Kind>, protocol: IpProtocol, payload: &[u8], low: u32) -> Protected {
    let [seeded, whole] = segment(inner.unwrap_or(kind), protocol, low % 2 == 1, payload);
    let build = |segment: &[u8]| match inner {
        Some(inner) => kind.build(&packet(inner, protocol, segment), if inner.ipv6 { 41 } else { 4 }, low),
        None => kind.build(segment, protocol.0, low),
    };
    let (asked, whole) = (build(&seeded), build(&whole));
    let at = asked.layers[0].payload + inner.map_or(0, header_len);
    Protected { asked, whole, at }
}

/// OV2-SEND-9: before encryption, and the bytes on the wire are those of a packet whose checksum was there before.
#[test]
fn protected_packets_get_their_checksums_before_they_are_sealed() {
    let mut nic = nic(Link::Bare, everything());
    let (v4, v6) = (Kind::gcm(1).net(9), Kind::gcm(1).net(9).v6());
    for kind in kinds() {
        let handle = nic.try_add(kind.bundle(OUT)).unwrap();
        let mut low = 0;
        for inner in [None, Some(&v4), Some(&v6)] {
            for protocol in [IpProtocol::TCP, IpProtocol::UDP] {
                for payload in payloads(inner.unwrap_or(&kind), protocol) {
                    low += 1;
                    let Protected { mut asked, whole, at, .. } = protected(&kind, inner, protocol, &payload, low);
                    if !kind.ipv6 {
                        // The outermost header's checksum is asked for, too; that of an inner one is the transport's.
                        asked.bytes[10..12].copy_from_slice(&[0xde, 0xad]);
                    }
                    let mut list = asked.list(&[handle]);
                    list.oob.set_checksum_request(Some(request(&kind, protocol, at)));
                    let (done, wire) = nic.send_one(list);
                    assert_eq!(done.status, Status::SUCCESS, "{kind:?} {inner:?} {protocol}");
                    assert_eq!(wire, [whole.sealed()], "{kind:?} {inner:?} {protocol}");
                }
            }
        }
    }
}

/// OV2-SEND-3, OV2-SEND-9: transport over tunnel, where what is summed is innermost.
#[test]
fn nested_packets_get_their_checksums() {
    let mut nic = nic(Link::Bare, everything());
    for (tunnel, inside) in [
        (Kind::gcm(0x2001), Kind::gcm(0x2002).net(5)),
        (Kind::gcm(0x2003).v6(), Kind::ah(0x3004, SHA1).net(5)),
        (Kind::ah(0x3005, SHA256), Kind::esp(0x2004, CBC, Some(SHA1)).net(5).v6()),
    ] {
        let handles = [tunnel, inside].map(|kind| nic.try_add(kind.bundle(OUT)).unwrap());
        for protocol in [IpProtocol::TCP, IpProtocol::UDP] {
            let [seeded, whole] = segment(&inside, protocol, false, b"nested");
            let [asked, whole] = [seeded, whole].map(|segment| tunnel.around(&inside.build_inner(&segment, protocol.0, 1), 1));
            let mut list = asked.list(&handles);
            list.oob.set_checksum_request(Some(request(&tunnel, protocol, asked.layers[1].payload)));
            let (done, wire) = nic.send_one(list);
            assert_eq!((done.status, wire), (Status::SUCCESS, vec![whole.sealed()]), "{tunnel:?} {inside:?}");
        }
    }
}

/// A list that is refused is whole, and nothing of it is on the wire.
fn refused(nic: &mut Nic, list: NetBufferList, what: &str) {
    let before = list.buffer.as_slice().to_vec();
    let oob = list.oob;
    let (done, wire) = nic.send_one(list);
    assert_eq!((done.status, wire.len()), (Status::FAILURE, 0), "{what}");
    assert_eq!((done.buffer.as_slice(), done.oob), (&before[..], oob), "{what}");
}

/// OV2-SEND-9: a request that makes no sense fails, and changes nothing.
#[test]
fn what_cannot_be_computed_fails() {
    let mut nic = nic(Link::Bare, everything());
    let kind = Kind::gcm(0x1001);
    let handle = nic.try_add(kind.bundle(OUT)).unwrap();
    let v4 = Kind::gcm(1).net(9);
    let [seeded, _] = segment(&v4, IpProtocol::TCP, false, b"payload");
    let clear = packet(&v4, IpProtocol::TCP, &seeded);
    let good = request(&v4, IpProtocol::TCP, 20);
    for (what, request) in [
        ("the other version", ChecksumRequest { version: IpVersion::V6, ip_header: false, ..good }),
        ("another offset", ChecksumRequest { tcp_header_offset: 24, ..good }),
        ("no offset", ChecksumRequest { tcp_header_offset: 0, ..good }),
        ("another protocol", ChecksumRequest { tcp: false, udp: true, ..good }),
    ] {
        refused(&mut nic, list(Link::Bare, false, &clear, Some(request)), what);
        let Protected { asked, at, .. } = protected(&kind, None, IpProtocol::TCP, b"payload", 1);
        let shifted = if request.tcp_header_offset == 24 {
            at + 4
        } else if request.tcp_header_offset == 0 {
            0
        } else {
            at
        };
        let mut list = asked.list(&[handle]);
        list.oob.set_checksum_request(Some(ChecksumRequest { tcp_header_offset: shifted as u16, ..request }));
        refused(&mut nic, list, what);
    }
    // A fragment, a segment that is cut, and words that are no request.
    let mut fragment = clear.clone();
    fragment[6] = 0x20;
    refused(&mut nic, list(Link::Bare, false, &fragment, Some(good)), "fragment");
    let short = packet(&v4, IpProtocol::TCP, &seeded[..19]);
    refused(&mut nic, list(Link::Bare, false, &short, Some(good)), "cut");
    for bits in [0b0_1101_u32, 0b0_0111, 0b0_0100, 0b1_0010] {
        let mut list = list(Link::Bare, false, &clear, None);
        list.oob.checksum = bits;
        refused(&mut nic, list, "no request");
    }
    // What its tunnel carries was sealed before: there is no segment to be seen.
    let inner = Kind::gcm(0x4001).net(7).build(&seeded, 6, 1).sealed();
    let built = kind.build(&inner, 4, 2);
    let mut list = built.list(&[handle]);
    list.oob.set_checksum_request(Some(request(&kind, IpProtocol::TCP, built.layers[0].payload + 36)));
    refused(&mut nic, list, "sealed inside");
    assert_eq!(nic.counter("send_unsupported_request"), 0);
}

/// What is taken away; packet; TCP options (an odd number); whether it still goes.
type Row = (&'static str, fn(&mut Offload), Kind, IpProtocol, u32, bool);

/// OV2-CAP-4, OV2-CAP-12: every member of the capability sets that a packet needs, taken away alone.
#[test]
fn what_is_not_offered_fails() {
    let kind = Kind::gcm(0x1001);
    let extras = Kind { extras: true, ..Kind::gcm(0x1002) };
    let v6 = Kind::gcm(0x1003).v6();
    let with = |change: fn(&mut Offload)| {
        let mut hardware = everything();
        change(&mut hardware);
        hardware
    };
    let table: [Row; 14] = [
        ("nothing", |_| {}, kind, IpProtocol::TCP, 1, true),
        ("TCP", |all| all.checksum.ipv4_transmit.tcp_checksum = false, kind, IpProtocol::TCP, 2, false),
        ("TCP, for UDP", |all| all.checksum.ipv4_transmit.tcp_checksum = false, kind, IpProtocol::UDP, 2, true),
        ("UDP", |all| all.checksum.ipv4_transmit.udp_checksum = false, kind, IpProtocol::UDP, 2, false),
        ("IP", |all| all.checksum.ipv4_transmit.ip_checksum = false, kind, IpProtocol::UDP, 2, false),
        ("IP, for IPv6", |all| all.checksum.ipv4_transmit.ip_checksum = false, v6, IpProtocol::UDP, 2, true),
        ("IPv4 for IPv6", |all| all.checksum.ipv4_transmit = ChecksumSet::default(), v6, IpProtocol::TCP, 2, true),
        ("IPv6", |all| all.checksum.ipv6_transmit = ChecksumSet::default(), v6, IpProtocol::TCP, 2, false),
        ("IP options", |all| all.checksum.ipv4_transmit.ip_options_supported = false, extras, IpProtocol::UDP, 2, false),
        ("TCP options", |all| all.checksum.ipv4_transmit.tcp_options_supported = false, kind, IpProtocol::TCP, 1, false),
        ("TCP options, without", |all| all.checksum.ipv4_transmit.tcp_options_supported = false, kind, IpProtocol::TCP, 2, true),
        ("encapsulation", |all| all.checksum.ipv4_transmit.encapsulation = Encapsulation::IEEE_802_3, kind, IpProtocol::TCP, 2, false),
        ("with TCP", |all| all.flags = OffloadFlags::IPSEC_V2_AND_UDP_CHECKSUM_COEXISTENCE, kind, IpProtocol::TCP, 2, false),
        ("with UDP", |all| all.flags = OffloadFlags::IPSEC_V2_AND_TCP_CHECKSUM_COEXISTENCE, kind, IpProtocol::UDP, 2, false),
    ];
    for (what, change, kind, protocol, low, goes) in table {
        let mut nic = nic(Link::Bare, with(change));
        let handle = nic.try_add(kind.bundle(OUT)).unwrap();
        let Protected { asked, whole, at, .. } = protected(&kind, None, protocol, b"payload", low);
        let mut list = asked.list(&[handle]);
        list.oob.set_checksum_request(Some(request(&kind, protocol, at)));
        if goes {
            let (done, wire) = nic.send_one(list);
            assert_eq!((done.status, wire), (Status::SUCCESS, vec![whole.sealed()]), "{what}");
        } else {
            refused(&mut nic, list, what);
            assert_eq!(nic.counter("send_unsupported_request"), 1, "{what}");
        }
    }
    // Without IPsec the flags do not matter.
    let mut nic = nic(Link::Bare, with(|all| all.flags = OffloadFlags::empty()));
    let v4 = Kind::gcm(1).net(9);
    let [seeded, whole] = segment(&v4, IpProtocol::TCP, false, b"payload");
    let (done, wire) = nic.send_one(list(Link::Bare, false, &packet(&v4, IpProtocol::TCP, &seeded), Some(request(&v4, IpProtocol::TCP, 20))));
    assert_eq!((done.status, wire), (Status::SUCCESS, vec![packet(&v4, IpProtocol::TCP, &whole)]));
}

/// OV2-CAP-8: the keywords decide, for each direction apart.
#[test]
fn settings_switch_each_direction() {
    let kind = Kind::gcm(0x1001);
    for setting in [TxRx::Disabled, TxRx::Transmit, TxRx::Receive, TxRx::Both] {
        let mut nic = nic(Link::Bare, everything());
        assert_eq!(nic.set(Oid::SetParameters(all_sums(setting))), Status::SUCCESS);
        let (out, _inward) = (nic.try_add(kind.bundle(OUT)).unwrap(), nic.try_add(kind.bundle(IN)).unwrap());
        let Protected { asked, whole, at, .. } = protected(&kind, None, IpProtocol::TCP, b"payload", 2);
        let mut list = asked.list(&[out]);
        list.oob.set_checksum_request(Some(request(&kind, IpProtocol::TCP, at)));
        if setting.transmit() {
            assert_eq!(nic.send_one(list).1, [whole.sealed()]);
        } else {
            refused(&mut nic, list, "off");
        }
        let report = nic.receive_one(&whole.sealed()).oob.checksum_report();
        let expected = setting.receive().then_some(true);
        assert_eq!(report, ChecksumReport { ip_header: expected, tcp: expected, udp: None }, "{setting:?}");
    }
}

fn verdict(list: &NetBufferList) -> (IpsecReceive, ChecksumReport) {
    (list.oob.ipsec_receive(), list.oob.checksum_report())
}

/// OV2-SEND-9: verified after decryption; right, wrong, and none; alone and nested.
#[test]
fn received_packets_are_verified_after_they_are_opened() {
    let mut nic = nic(Link::Bare, everything());
    let (v4, v6) = (Kind::gcm(1).net(9), Kind::gcm(1).net(9).v6());
    for kind in kinds() {
        nic.try_add(kind.bundle(IN)).unwrap();
        let mut low = 0;
        for inner in [None, Some(&v4), Some(&v6)] {
            for protocol in [IpProtocol::TCP, IpProtocol::UDP] {
                for payload in payloads(inner.unwrap_or(&kind), protocol) {
                    low += 1;
                    let Protected { whole, at, .. } = protected(&kind, inner, protocol, &payload, low);
                    let report = |right| match protocol {
                        IpProtocol::TCP => ChecksumReport { ip_header: (!kind.ipv6).then_some(true), tcp: right, udp: None },
                        _ => ChecksumReport { ip_header: (!kind.ipv6).then_some(true), tcp: None, udp: right },
                    };
                    let (ipsec, found) = verdict(&nic.receive_one(&whole.sealed()));
                    assert_eq!(ipsec.crypto_status, CryptoStatus::Success);
                    assert!(ipsec.crypto_done);
                    assert_eq!(found, report(Some(true)), "{kind:?} {inner:?} {protocol} {}", payload.len());
                    // Authentic, and wrong: the peer's stack has made it so. With options nobody can tell whether that is a source route's doing.
                    let spoilt = whole.sealed_after(|_, bytes| bytes[at] ^= 1);
                    let unsure = inner.unwrap_or(&kind).extras;
                    assert_eq!(verdict(&nic.receive_one(&spoilt)).1, report((!unsure).then_some(false)), "{kind:?} {inner:?} {protocol}");
                    if protocol == IpProtocol::UDP {
                        // None at all, which IPv6 does not allow.
                        let none = whole.sealed_after(|_, bytes| bytes[at + 6..at + 8].fill(0));
                        let wrong = inner.unwrap_or(&kind).ipv6 && !unsure;
                        assert_eq!(verdict(&nic.receive_one(&none)).1, report(wrong.then_some(false)), "{kind:?} {inner:?}");
                    }
                }
            }
        }
    }
    for (tunnel, inside) in [(Kind::gcm(0x2001), Kind::gcm(0x2002).net(5)), (Kind::gcm(0x2003).v6(), Kind::ah(0x3004, SHA1).net(5))] {
        for kind in [tunnel, inside] {
            nic.try_add(kind.bundle(IN)).unwrap();
        }
        let [_, whole] = segment(&inside, IpProtocol::TCP, false, b"nested");
        let built = tunnel.around(&inside.build_inner(&whole, 6, 1), 1);
        let (ipsec, found) = verdict(&nic.receive_one(&built.sealed()));
        assert!(ipsec.next_crypto_done);
        assert_eq!(found.tcp, Some(true));
    }
}

/// What was not opened shows no segment, and what is not to be looked at is not.
#[test]
fn nothing_is_said_of_what_was_not_opened() {
    let kind = Kind::gcm(0x1001);
    let Protected { whole, .. } = protected(&kind, None, IpProtocol::TCP, b"payload", 2);
    let header = ChecksumReport { ip_header: Some(true), ..ChecksumReport::default() };
    // Under no bundle; forged.
    let mut nic = nic(Link::Bare, everything());
    assert_eq!(verdict(&nic.receive_one(&whole.sealed())), (IpsecReceive::UNTOUCHED, header));
    nic.try_add(kind.bundle(IN)).unwrap();
    let mut forged = whole.sealed();
    *forged.last_mut().unwrap() ^= 1;
    let (ipsec, report) = verdict(&nic.receive_one(&forged));
    assert_eq!((ipsec.crypto_status, report), (CryptoStatus::TransportEspAuthFailed, header));
    // The header's own checksum is wrong: IPsec does not look at it.
    let mut spoilt = whole.sealed();
    spoilt[8] ^= 0x40;
    let (ipsec, report) = verdict(&nic.receive_one(&spoilt));
    assert_eq!((ipsec.crypto_done, report), (true, ChecksumReport { ip_header: Some(false), tcp: Some(true), udp: None }));
}

/// OV2-CAP-4, OV2-CAP-9: only where it may be combined, and not before the encapsulation is set.
#[test]
fn received_packets_are_verified_only_where_that_is_configured() {
    let kind = Kind::gcm(0x1001);
    let v4 = Kind::gcm(1).net(9);
    let Protected { whole, .. } = protected(&kind, None, IpProtocol::TCP, b"payload", 2);
    let [_, clear] = segment(&v4, IpProtocol::TCP, false, b"payload");
    let clear = packet(&v4, IpProtocol::TCP, &clear);
    let mut hardware = everything();
    hardware.flags = OffloadFlags::IPSEC_V2_AND_UDP_CHECKSUM_COEXISTENCE;
    let mut apart = nic(Link::Bare, hardware);
    apart.try_add(kind.bundle(IN)).unwrap();
    assert_eq!(apart.receive_one(&whole.sealed()).oob.checksum_report().tcp, None);
    assert_eq!(apart.receive_one(&clear).oob.checksum_report(), ChecksumReport { ip_header: Some(true), tcp: Some(true), udp: None });
    let make = || SoftwareEngine::with_hardware(Crypto::default(), &everything()).unwrap();
    let mut early = Nic::with(NicParameters { medium: packet::Medium::Ip, ..NicParameters::new("test") }, make);
    assert_eq!(early.set(Oid::SetParameters(all_sums(TxRx::Both))), Status::SUCCESS);
    assert_eq!(early.receive_one(&clear).oob.checksum_report(), ChecksumReport::default());
    early.activate_null();
    assert_eq!(early.receive_one(&clear).oob.checksum_report().tcp, Some(true));
}

/// OV2-CAP-9: under Ethernet without the tagged forms, tags in the data are none of this NIC's business.
#[test]
fn tagged_frames_are_summed_only_where_that_is_offered() {
    let mut hardware = everything();
    let Offload { checksum, .. } = &mut hardware;
    for set in [&mut checksum.ipv4_transmit, &mut checksum.ipv4_receive] {
        set.encapsulation = Encapsulation::IEEE_802_3;
    }
    let v4 = Kind::gcm(1).net(9);
    let [seeded, whole] = segment(&v4, IpProtocol::TCP, false, b"payload");
    let mut nic = nic(Link::Ethernet, hardware);
    for link in [Link::Ethernet, Link::Vlan] {
        let at = link.header(false).len();
        let list = list(link, false, &packet(&v4, IpProtocol::TCP, &seeded), Some(request(&v4, IpProtocol::TCP, at + 20)));
        let received = [link.header(false), packet(&v4, IpProtocol::TCP, &whole)].concat();
        let report = nic.receive_one(&received).oob.checksum_report();
        if link == Link::Ethernet {
            assert_eq!(nic.send_one(list).1, [received]);
            assert_eq!(report.tcp, Some(true));
        } else {
            refused(&mut nic, list, "tagged");
            assert_eq!(report, ChecksumReport::default());
        }
    }
}

fn capabilities() -> impl Strategy<Value = Offload> {
    let sets = (checksum_set(), checksum_set(), checksum_set(), checksum_set());
    let ipsec = (any::<[bool; 4]>(), 0_u32..16);
    (sets, 0_u32..8, ipsec).prop_map(|((a, b, c, d), flags, ([esp, ah, options, extensions], bits))| {
        let mut all = everything();
        (all.checksum.ipv4_transmit, all.checksum.ipv4_receive, all.checksum.ipv6_transmit, all.checksum.ipv6_receive) = (a, b, c, d);
        all.flags = OffloadFlags::from_bits_truncate(flags);
        let v2 = &mut all.ipsec_v2;
        (v2.esp, v2.ah, v2.ipv4_options, v2.ipv6_non_ipsec_extension_headers) = (esp, ah, options, extensions);
        v2.encapsulation = Encapsulation::from_bits_truncate(bits);
        all.normalized()
    })
}

/// A packet that may need anything.
#[derive(Clone, Copy, Debug)]
struct Traffic {
    ah: bool,
    protect: bool,
    ipv6: bool,
    extras: bool,
    udp: bool,
    tcp_options: bool,
    link: Link,
}

fn traffic() -> impl Strategy<Value = Traffic> {
    (any::<[bool; 6]>(), 0..3_usize).prop_map(|([ah, protect, ipv6, extras, udp, tcp_options], link)| Traffic {
        ah,
        protect,
        ipv6,
        extras,
        udp,
        tcp_options,
        link: [Link::Bare, Link::Ethernet, Link::Vlan][link],
    })
}

impl Traffic {
    fn kind(self) -> Kind {
        let kind = if self.ah { Kind::ah(0x3001, SHA1) } else { Kind::gcm(0x1001) };
        Kind { ipv6: self.ipv6, extras: self.extras, ..kind }
    }

    fn form(self) -> Encapsulation {
        match self.link {
            Link::Bare => Encapsulation::NULL,
            Link::Ethernet => Encapsulation::IEEE_802_3,
            Link::Vlan | Link::DoubleVlan => Encapsulation::IEEE_802_3_P_AND_Q,
        }
    }

    /// Whether a set has what the packet needs of it, written down once more. `base`: what was activated, if anything was.
    fn summed(self, set: &ChecksumSet, all: &Offload, base: Encapsulation) -> bool {
        let flag = if self.udp { OffloadFlags::IPSEC_V2_AND_UDP_CHECKSUM_COEXISTENCE } else { OffloadFlags::IPSEC_V2_AND_TCP_CHECKSUM_COEXISTENCE };
        set.encapsulation.contains(self.form() | base)
            && (if self.udp { set.udp_checksum } else { set.tcp_checksum })
            && (!self.extras || set.ip_options_supported)
            && (self.udp || !self.tcp_options || set.tcp_options_supported)
            && (!self.protect || all.flags.contains(flag))
    }

    fn sealed_by(self, all: &Offload, base: Encapsulation) -> bool {
        let v2 = &all.ipsec_v2;
        let extras = if self.ipv6 { v2.ipv6_non_ipsec_extension_headers } else { v2.ipv4_options };
        v2.encapsulation.contains(self.form() | base) && (if self.ah { v2.ah } else { v2.esp }) && (!self.extras || extras)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// OV2-CAP-12: over any capabilities a packet is done, on either path, if and only if they have all that it needs.
    #[test]
    fn everything_is_done_that_is_advertised_and_nothing_else(hardware in capabilities(), traffic in traffic()) {
        let make = move || SoftwareEngine::with_hardware(Crypto::default(), &hardware).unwrap();
        let mut nic = Nic::with(NicParameters { medium: traffic.link.medium(), ..NicParameters::new("test") }, make);
        let base = if traffic.link == Link::Bare { Encapsulation::NULL } else { Encapsulation::IEEE_802_3 };
        let on = SetEncapsulation::On { encapsulation: base, header_size: 0 };
        nic.set(Oid::SetParameters(all_sums(TxRx::Both)));
        let active = nic.set_encapsulation(on, on).is_success();
        let kind = traffic.kind();
        let protocol = if traffic.udp { IpProtocol::UDP } else { IpProtocol::TCP };
        let bare = Kind { net: 9, ..kind };
        let [seeded, whole] = segment(if traffic.protect { &kind } else { &bare }, protocol, traffic.tcp_options, b"payload");
        let built = |segment: &[u8]| if traffic.protect { kind.build(segment, protocol.0, 1).bytes } else { packet(&bare, protocol, segment) };
        let link = traffic.link.header(traffic.ipv6);
        let handles: Vec<OffloadHandle> = if traffic.protect { [IN, OUT].iter().filter_map(|&way| nic.try_add(kind.bundle(way)).ok()).collect() } else { vec![] };
        let (transmit, receive) = if traffic.ipv6 {
            (hardware.checksum.ipv6_transmit, hardware.checksum.ipv6_receive)
        } else {
            (hardware.checksum.ipv4_transmit, hardware.checksum.ipv4_receive)
        };
        // Until an encapsulation is set, what is configured is on for sends, and off for what is received (OV2-CAP-9).
        let base = if active { base } else { Encapsulation::empty() };
        let sealed = traffic.protect && traffic.sealed_by(&hardware, base);

        // Out: IPsec and the checksum, or the list comes back as it was.
        let asked = built(&seeded);
        let mut out = list(traffic.link, traffic.ipv6, &asked, None);
        if traffic.protect {
            let header = kind.build(&seeded, protocol.0, 1).layers[0].header;
            // What could not be added is asked for all the same, under a handle of nothing.
            out.oob.set_offload_handle(handles.get(1).copied().or(OffloadHandle::from_bits(0x7_0000_0007)));
            out.oob.set_header_transmit(header);
        }
        let at = link.len() + if traffic.protect { kind.build(&seeded, protocol.0, 1).layers[0].payload } else { header_len(&bare) };
        let kind_of = if traffic.protect { kind } else { bare };
        out.oob.set_checksum_request(Some(ChecksumRequest { ip_header: false, ..request(&kind_of, protocol, at) }));
        let summed = traffic.summed(&transmit, &hardware, base);
        let goes = summed && (!traffic.protect || sealed);
        let (done, wire) = nic.send_one(out);
        prop_assert_eq!(done.status.is_success(), goes);
        let expected = if traffic.protect { kind.build(&whole, protocol.0, 1).sealed() } else { built(&whole) };
        let expected = [link, expected].concat();
        if goes {
            prop_assert_eq!(&wire[..], std::slice::from_ref(&expected));
        } else {
            prop_assert!(wire.is_empty());
            prop_assert!(done.buffer.as_slice().ends_with(&asked));
        }

        // In: opened if that is advertised; verified if that is, and it is in clear.
        let list = nic.receive_one(&expected);
        let opened = active && sealed;
        prop_assert_eq!(list.oob.ipsec_receive().crypto_done, opened);
        let verified = active && traffic.summed(&receive, &hardware, base) && (!traffic.protect || opened);
        let report = list.oob.checksum_report();
        prop_assert_eq!(if traffic.udp { report.udp } else { report.tcp }, verified.then_some(true));
        if !opened {
            prop_assert_eq!(list.buffer.as_slice(), &expected[..]);
        }
    }
}

/// OV2-RECV-9: consecutive segments of one flow come up one by one, in order, each in a list of its own, protected or not; also of one SA.
#[test]
fn segments_of_a_flow_are_not_coalesced() {
    let mut nic = nic(Link::Bare, everything());
    let kind = Kind::gcm(0x1001);
    nic.try_add(kind.bundle(IN)).unwrap();
    let v4 = Kind::gcm(1).net(9);
    let segments = |ends: &Kind| -> Vec<Vec<u8>> {
        let numbered = |number: u32| {
            let [mut seeded, _] = segment(ends, IpProtocol::TCP, false, &[7; 100]);
            // The sequence numbers go on where the payload before ended, as those of segments that could be put together.
            seeded[4..8].copy_from_slice(&(number * 100).to_be_bytes());
            let (source, destination) = self::ends(ends);
            assert!(checksum::fill_segment(source, destination, IpProtocol::TCP, &mut seeded).unwrap());
            seeded
        };
        (0..100).map(numbered).collect()
    };
    let protected: Vec<_> = segments(&kind).iter().zip(1..).map(|(segment, low)| kind.build(segment, 6, low)).collect();
    let clear: Vec<_> = segments(&v4).iter().map(|segment| packet(&v4, IpProtocol::TCP, segment)).collect();
    let wire: Vec<_> = protected.iter().map(kinds::Built::sealed).chain(clear.iter().cloned()).collect();
    let up = nic.receive(&wire);
    assert_eq!(up.len(), wire.len());
    for (list, sent) in up.iter().zip(&wire) {
        assert_eq!((list.more.len(), list.buffer.len()), (0, sent.len()));
        assert_eq!(list.oob.checksum_report().tcp, Some(true));
    }
    for (list, (built, sent)) in up.iter().zip(protected.iter().zip(&wire)) {
        assert_eq!(list.buffer.as_slice(), built.opened(sent, 1));
    }
    assert!(up[100..].iter().zip(&clear).all(|(list, sent)| list.buffer.as_slice() == sent.as_slice()));
}

#[test]
fn addresses_are_those_of_the_kinds() {
    let (source, destination) = ends(&Kind::gcm(1).net(9));
    assert_eq!((IpAddr::from(source), IpAddr::from(destination)), Kind::gcm(1).net(9).addresses());
}
