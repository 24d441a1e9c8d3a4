//! Large sends (OV2-SEND-4, OV2-SEND-5, OV2-CAP-13, OV2-OOB-4): segment by segment what independent code makes of them, and everything that is refused.

mod common;
#[path = "common/kinds.rs"]
mod kinds;
#[path = "common/large.rs"]
mod large;

use common::{Link, Nic};
use kinds::{CBC, GCM, GMAC, Kind, NULL, SHA1, SHA256};
use large::{ETHERNET_V4, ETHERNET_V6, Large, VLAN_V4, Version};
use ndis::{
    AesKeySize, AuthenticationAlgorithm, CryptoStatus, Direction, EncryptionAlgorithm, HeaderTransmit, IpsecSetting, NetBufferList, Offload, OffloadParameters,
    Oid, Status, Switch, UdpEspType,
};
use nic::{NicParameters, SoftwareEngine, software_capabilities};
use packet::{FrameForm, IpVersion, TRAIN_BYTES, TRAIN_PACKETS, TcpFlags};
use proptest::prelude::*;

const OUT: Direction = Direction::Outbound;
const IN: Direction = Direction::Inbound;

fn link(large: &Large) -> Link {
    if large.link.is_empty() { Link::Bare } else { Link::Ethernet }
}

/// Sends it by a NIC of its own: the completed list, and the packets on the wire; trains are checked.
fn send(large: &Large) -> (NetBufferList, Vec<Vec<u8>>) {
    send_by(&mut Nic::new(link(large)), large)
}

fn send_by(nic: &mut Nic, large: &Large) -> (NetBufferList, Vec<Vec<u8>>) {
    let handle = large.protected.then(|| nic.try_add(large.kind.bundle(OUT)).unwrap());
    let mut list = large.list(handle);
    (list.tag, list.order) = (77, 5);
    let (mut done, wire) = nic.send(vec![list]);
    assert_eq!(done.len(), 1);
    let mut packets = Vec::new();
    for frame in &wire {
        assert_eq!((frame.tag, frame.order), (77, 5));
        match frame.train() {
            None => assert_eq!(frame.form, FrameForm::PACKET),
            Some(train) => assert!(train.count > 1 && train.count <= TRAIN_PACKETS && frame.buffer.len() <= TRAIN_BYTES),
        }
        packets.extend(frame.packets().map(<[u8]>::to_vec));
    }
    (done.remove(0), packets)
}

/// What goes out is what other code makes segment by segment; the receiving side opens all of it, and the payload is whole.
fn check(large: &Large) {
    let (list, wire) = send(large);
    assert_eq!(list.status, Status::SUCCESS, "{large:?}");
    assert!(list.buffer.is_empty());
    let reported = if large.version == Version::One { large.payload as u32 } else { 0 };
    assert_eq!(list.oob.large_send_completed(), reported, "OV2-OOB-4");
    let expected = large.expected();
    assert_eq!(wire.len(), expected.len(), "{large:?}");
    for (number, (found, expected)) in wire.iter().zip(&expected).enumerate() {
        assert!(found == expected, "segment {number} of {large:?}\n{found:02x?}\n{expected:02x?}");
    }
    if !large.protected {
        return;
    }
    let mut peer = Nic::new(link(large));
    peer.try_add(large.kind.bundle(IN)).unwrap();
    let at = large.payload_at();
    let mut payload = Vec::new();
    for (number, list) in peer.receive(&wire).iter().enumerate() {
        let receive = list.oob.ipsec_receive();
        assert_eq!((receive.crypto_done, receive.crypto_status), (true, CryptoStatus::Success), "segment {number} of {large:?}");
        let len = (large.mss as usize).min(large.payload - payload.len());
        payload.extend_from_slice(&list.buffer.as_slice()[at..at + len]);
    }
    assert!(payload.iter().enumerate().all(|(at, &byte)| byte == Large::byte(at)) && payload.len() == large.payload);
}

fn kinds_of_esp() -> Vec<Kind> {
    let gcm = |size| EncryptionAlgorithm::AesGcm(size);
    vec![
        Kind::gcm(0x1001),
        Kind { icv: 8, ..Kind::gcm(0x1002) },
        Kind { icv: 12, ..Kind::esp(0x1003, gcm(AesKeySize::Aes256), None) },
        Kind::esp(0x1004, EncryptionAlgorithm::ChaCha20Poly1305, None),
        Kind::esp(0x1005, CBC, Some(SHA1)),
        Kind::esp(0x1006, EncryptionAlgorithm::TripleDesCbc, Some(AuthenticationAlgorithm::HmacMd5)),
        Kind::esp(0x1007, EncryptionAlgorithm::DesCbc, Some(AuthenticationAlgorithm::HmacSha512)),
        Kind::esp(0x1008, NULL, Some(SHA256)),
        Kind::esp(0x1009, NULL, Some(GMAC)),
    ]
}

fn all_kinds() -> Vec<Kind> {
    let mut all = kinds_of_esp();
    all.extend([
        Kind::ah(0x3001, SHA1),
        Kind::ah(0x3002, SHA256),
        Kind::ah(0x3003, GMAC),
        Kind::both(0x1010, GCM, None, 0x3004, SHA1),
        Kind::both(0x1011, CBC, None, 0x3005, SHA256),
        Kind::both(0x1012, NULL, Some(SHA1), 0x3006, GMAC),
        Kind::gcm(0x1013).udp(UdpEspType::Transport),
        Kind::esp(0x1014, CBC, Some(SHA256)).udp(UdpEspType::Transport),
    ]);
    all
}

/// OV2-SEND-4: every suite, ESP, AH and both, bare and in UDP, IPv4 and IPv6, with and without options or extension headers, 32-bit and extended numbers.
#[test]
fn every_kind_of_bundle() {
    for kind in all_kinds() {
        for ipv6 in [false, true] {
            for extras in [false, true] {
                let kind = Kind { extras, ..if ipv6 { kind.v6() } else { kind } };
                for version in [Version::One, Version::Two, Version::Udp] {
                    if version == Version::One && ipv6 {
                        continue;
                    }
                    let large = Large { version, options: 3, link: if ipv6 { ETHERNET_V6 } else { ETHERNET_V4 }, ..Large::new(kind) };
                    check(&large);
                    check(&Large { kind: kind.esn(3), ..large });
                }
            }
        }
    }
}

/// OV2-SEND-4: the extension of large sends through tunnels, whichever IP versions are inside and outside.
#[test]
fn tunnels() {
    for kind in all_kinds() {
        for outer_v6 in [false, true] {
            for inner in [IpVersion::V4, IpVersion::V6] {
                let kind = if outer_v6 { kind.v6() } else { kind };
                let kind = if kind.udp.is_some() { kind.udp(UdpEspType::Tunnel) } else { kind };
                for version in [Version::Two, Version::Udp] {
                    check(&Large { version, tunnel: Some(inner), low: 0xfffe, ..Large::new(kind) });
                }
            }
        }
    }
}

/// OV2-SEND-4: segments around the multiples of the segment size; more of them than a train or a buffer holds.
#[test]
fn lengths_around_multiples() {
    for mss in [1_u32, 2, 7, 536, 1400, 8960, 9000] {
        let whole = mss as usize;
        for payload in [whole + 1, 2 * whole - 1, 2 * whole, 2 * whole + 1, 63 * whole, 64 * whole, 64 * whole + 1, 130 * whole + 1] {
            if payload > 60_000 || payload.div_ceil(whole) < 2 {
                continue;
            }
            for kind in [Kind::gcm(0x1001), Kind::both(0x1012, CBC, Some(SHA1), 0x3006, SHA1)] {
                check(&Large { payload, mss, ..Large::new(kind) });
            }
        }
    }
    // More than an IPv4 length field can tell: version 2 does not need one.
    check(&Large { payload: 200_000, ..Large::new(Kind::gcm(0x1001)) });
    check(&Large { payload: 1 << 18, mss: 1441, ..Large::new(Kind::gcm(0x1001).v6()) });
}

/// the trailer's length comes from the real pad byte: segments with every padding that a cipher can need, and data with every pad length that
/// out-of-band data can tell, which is discarded; and single packets with every pad length, sent and received.
#[test]
fn r_38_trailers_of_every_pad_length() {
    for kind in kinds_of_esp() {
        for payload in 1400..1400 + 33 {
            check(&Large { payload, mss: 700, ..Large::new(kind) });
            check(&Large { payload, mss: 1 + payload as u32 / 2, ..Large::new(kind) });
        }
    }
    for padding in 0..=255 {
        check(&Large { padding, payload: 2900, ..Large::new(Kind::gcm(0x1001)) });
        check(&Large { padding, payload: 2900, version: Version::One, ..Large::new(Kind::esp(0x1005, CBC, Some(SHA1))) });
    }
    for kind in [Kind::gcm(0x1001), Kind::esp(0x1005, CBC, Some(SHA1)), Kind::esp(0x1008, NULL, Some(SHA256))] {
        let (mut nic, mut peer) = (Nic::new(Link::Bare), Nic::new(Link::Bare));
        let handle = nic.try_add(kind.bundle(OUT)).unwrap();
        peer.try_add(kind.bundle(IN)).unwrap();
        let alignment = kind.esp_oracle().unwrap().alignment();
        for pad in 0..=255_usize {
            // A payload that needs just this padding, or this and any number of blocks.
            let len = 300 - (300 + pad + 2) % alignment;
            let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let padding: Vec<u8> = (1..=pad).map(|at| at as u8).collect();
            // Payload and padding as if they were payload, and the trailer of the packet replaced.
            let mut built = kind.build(&[&payload[..], &padding, &[pad as u8, 17]].concat(), 17, pad as u32 + 1);
            let esp = built.layers[0].esp.clone().unwrap();
            let icv = kind.esp_oracle().unwrap().icv_length();
            let added = esp.end - icv - (built.layers[0].payload + len + pad + 2);
            built.bytes.truncate(built.bytes.len() - added);
            built.layers[0].esp = Some(esp.start..esp.end - added);
            built.layers[0].end -= added;
            let total = built.bytes.len() as u16;
            built.bytes[2..4].copy_from_slice(&total.to_be_bytes());
            packet::Ipv4Packet::new(&mut built.bytes[..]).unwrap().fill_checksum();
            built.layers[0].header = HeaderTransmit { next_header: 17, pad_length: pad as u8, ..built.layers[0].header };
            let (list, wire) = nic.send_one(built.list(&[handle]));
            assert_eq!((list.status, &wire[..]), (Status::SUCCESS, &[built.sealed()][..]), "pad length {pad}");
            let up = peer.receive_one(&wire[0]);
            assert_eq!(up.oob.ipsec_receive().crypto_status, CryptoStatus::Success, "pad length {pad}");
            let header = up.oob.header_receive().unwrap();
            assert_eq!((header.pad_length, header.next_header), (pad as u8, 17));
            assert_eq!(up.buffer.as_slice()[built.layers[0].payload..][..len], payload);
        }
    }
}

/// OV2-SEND-4: numbers are consecutive from the template's and carry into the high half of extended ones; 32-bit numbers do not wrap.
#[test]
fn numbers_carry_into_the_high_half() {
    for kind in [Kind::gcm(0x1001), Kind::ah(0x3001, SHA1), Kind::both(0x1010, CBC, Some(SHA1), 0x3004, GMAC)] {
        for back in 0..6 {
            let large = Large { low: u32::MAX - back, payload: 5 * 1400, ..Large::new(kind) };
            check(&Large { kind: kind.esn(7), ..large });
            if back >= 4 {
                check(&large);
            } else {
                let (list, wire) = send(&large);
                assert_eq!((list.status, wire.len()), (Status::FAILURE, 0), "32-bit numbers end");
            }
        }
        // What comes after is nearest to what was sent last.
        let mut nic = Nic::new(Link::Bare);
        let large = Large { kind: kind.esn(7), low: u32::MAX, payload: 2 * 1400, ..Large::new(kind) };
        let handle = nic.try_add(large.kind.bundle(OUT)).unwrap();
        let after = Large { low: 1, kind: kind.esn(8), ..large };
        let mut after_kind = after;
        after_kind.kind.ah = kind.esn(7).ah.map(|ah| kinds::Half { esn: ah.esn.map(|high| high + 1), ..ah });
        let (done, wire) = nic.send(vec![large.list(Some(handle)), after.list(Some(handle))]);
        assert!(done.iter().all(|list| list.status.is_success()));
        let wire: Vec<_> = wire.iter().flat_map(|frame| frame.packets().map(<[u8]>::to_vec)).collect();
        assert_eq!(wire, [large.expected(), after_kind.expected()].concat());
    }
}

/// OV2-SEND-4 without IPsec: a NIC that offers large sends cuts clear packets, too.
#[test]
fn clear_packets_are_cut() {
    for (kind, link) in [(Kind::gcm(1), ETHERNET_V4), (Kind::gcm(1), VLAN_V4), (Kind::gcm(1).v6(), ETHERNET_V6), (Kind::gcm(1), &[][..])] {
        for version in [Version::One, Version::Two, Version::Udp] {
            for extras in [false, true] {
                if version == Version::One && kind.ipv6 {
                    continue;
                }
                check(&Large { protected: false, version, link, options: 10, ..Large::new(Kind { extras, ..kind }) });
            }
        }
    }
}

/// OV2-SEND-4, OV2-OOB-4: every segment has the tag of the list's out-of-band data.
#[test]
fn every_segment_has_the_tag() {
    let tag = ndis::TagOutOfBand::new(0xb005).unwrap();
    for (kind, link) in [
        (Kind::gcm(0x1001), ETHERNET_V4),
        (Kind::gcm(0x1001).v6(), ETHERNET_V6),
        (Kind::both(0x1002, CBC, Some(SHA1), 0x3004, SHA1), ETHERNET_V4),
        (Kind::ah(0x3001, SHA1).v6(), ETHERNET_V6),
    ] {
        for protected in [true, false] {
            for payload in [4000, 100_000] {
                let large = Large { protected, payload, link, ..Large::new(kind) };
                let mut nic = Nic::new(Link::Ethernet);
                let handle = protected.then(|| nic.try_add(kind.bundle(OUT)).unwrap());
                let mut list = large.list(handle);
                list.oob.set_tag(Some(tag));
                let (done, wire) = nic.send(vec![list]);
                assert_eq!(done[0].status, Status::SUCCESS);
                let wire: Vec<_> = wire.iter().flat_map(packet::Frame::packets).collect();
                let expected: Vec<_> = large.expected().iter().map(|frame| [&frame[..12], &[0x81, 0, 0xb0, 5], &frame[12..]].concat()).collect();
                assert!(wire == expected, "{large:?}");
            }
        }
    }
    // No tag where none is offered: without a link header, or not out of band.
    let mut bare = Nic::new(Link::Bare);
    let mut list = Large { protected: false, ..Large::new(Kind::gcm(1)) }.list(None);
    list.oob.set_tag(Some(tag));
    refused(&mut bare, "send_unsupported_request", list);
    let in_data = ndis::Encapsulation::IEEE_802_3 | ndis::Encapsulation::IEEE_802_3_P_AND_Q;
    let mut hardware = software_capabilities(8);
    for set in [&mut hardware.lso_v1, &mut hardware.lso_v2.ipv4, &mut hardware.lso_v2.ipv6] {
        set.encapsulation = in_data;
    }
    let parameters = NicParameters { medium: packet::Medium::Ethernet, ..NicParameters::new("test") };
    let mut nic = Nic::with(parameters, move || SoftwareEngine::with_hardware(ipsec::Crypto::default(), &hardware).unwrap());
    nic.activate();
    let mut list = Large { protected: false, link: ETHERNET_V4, ..Large::new(Kind::gcm(1)) }.list(None);
    list.oob.set_tag(Some(tag));
    refused(&mut nic, "send_unsupported_request", list);
}

/// OV2-SEND-6: large lists and others keep their order; each completes once, and those that fail are whole.
#[test]
fn order_is_kept_and_failures_are_whole() {
    let mut nic = Nic::new(Link::Bare);
    let kinds = [Kind::gcm(0x1001), Kind::both(0x1012, NULL, Some(SHA1), 0x3006, GMAC), Kind::ah(0x3001, SHA1)];
    let handles = kinds.map(|kind| nic.try_add(kind.bundle(OUT)).unwrap());
    let (mut lists, mut expected, mut failing) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..150_u32 {
        let which = number as usize % 3;
        let (kind, handle) = (kinds[which], handles[which]);
        let mut list = match number % 5 {
            0 | 3 => {
                let large = Large { low: number * 10 + 1, payload: 3000 + number as usize, mss: 1000, ..Large::new(kind) };
                expected.extend(large.expected());
                large.list(Some(handle))
            }
            1 => {
                failing.push(number as usize);
                Large { flags: TcpFlags::SYN, ..Large::new(kind) }.list(Some(handle))
            }
            _ => {
                let built = kind.build(&[number as u8; 99], 17, number * 10 + 1);
                expected.push(built.sealed());
                built.list(&[handle])
            }
        };
        list.tag = number.into();
        lists.push(list);
    }
    let before: Vec<_> = lists.iter().map(|list| list.buffer.as_slice().to_vec()).collect();
    let (done, wire) = nic.send(lists);
    assert_eq!(done.iter().map(|list| list.tag).collect::<Vec<_>>(), (0..150).collect::<Vec<_>>());
    for (number, list) in done.iter().enumerate() {
        assert_eq!(list.status.is_success(), !failing.contains(&number));
        assert_eq!(list.buffer.as_slice(), if list.status.is_success() { &[][..] } else { &before[number] });
    }
    let wire: Vec<_> = wire.iter().flat_map(|frame| frame.packets().map(<[u8]>::to_vec)).collect();
    assert!(wire == expected, "{} packets, {} expected", wire.len(), expected.len());
    assert_eq!((nic.counter("large_sends"), nic.counter("large_send_segments")), (60, 60 * 4 - 1));
    assert_eq!(nic.counter("send_large_malformed"), 30);
}

/// What is refused, under which counter; the list is whole, nothing is on the wire.
fn refused(nic: &mut Nic, counter: &str, list: NetBufferList) {
    let (before, counted) = (list.buffer.as_slice().to_vec(), nic.counter(counter));
    let (list, wire) = nic.send_one(list);
    assert_eq!((list.status, wire.len()), (Status::FAILURE, 0), "{counter}");
    assert_eq!((nic.counter(counter), list.buffer.as_slice() == before), (counted + 1, true), "{counter}");
}

/// OV2-SEND-4, OV2-OOB-3: what is no large send is refused.
#[test]
fn what_is_refused() {
    let mut nic = Nic::new(Link::Bare);
    let kind = Kind::both(0x1010, CBC, Some(SHA1), 0x3004, SHA1);
    let handle = nic.try_add(kind.bundle(OUT)).unwrap();
    let inbound = nic.try_add(Kind::gcm(0x2222).bundle(IN)).unwrap();
    let good = Large::new(kind);
    let changed = |change: &dyn Fn(&mut NetBufferList)| {
        let mut list = good.list(Some(handle));
        change(&mut list);
        list
    };
    for flags in [TcpFlags::URG, TcpFlags::RST, TcpFlags::SYN] {
        refused(&mut nic, "send_large_malformed", Large { flags: flags | TcpFlags::ACK, ..good }.list(Some(handle)));
    }
    refused(&mut nic, "send_large_malformed", Large { mss: 0, ..good }.list_with_mss(handle, 0));
    refused(&mut nic, "send_large_malformed", changed(&|list| list.oob.udp_segmentation = 5));
    refused(&mut nic, "send_large_malformed", changed(&|list| list.oob.large_send ^= 1 << 30));
    refused(&mut nic, "send_large_malformed", changed(&|list| list.buffer.as_mut_slice()[3] = 100));
    refused(&mut nic, "send_large_malformed", Large { payload: 0, ..good }.list(Some(handle)));
    refused(&mut nic, "send_fragment", changed(&|list| list.buffer.as_mut_slice()[6] = 0x20));
    refused(&mut nic, "send_fragment", changed(&|list| list.buffer.as_mut_slice()[7] = 1));
    refused(&mut nic, "send_header_mismatch", changed(&|list| list.oob.large_send += 1 << 20));
    refused(&mut nic, "send_header_mismatch", changed(&|list| list.oob.large_send ^= 1 << 31));
    refused(&mut nic, "send_header_mismatch", changed(&|list| list.buffer.as_mut_slice()[9] = 6));
    refused(&mut nic, "send_header_mismatch", changed(&|list| list.buffer.as_mut_slice()[24] ^= 1));
    for at in 0..4 {
        let mut header = good.list(Some(handle)).oob.header_bits().to_le_bytes();
        header[at] ^= 1;
        let [next_header, pad_length, ah_header_offset, esp_header_offset] = header;
        let list = changed(&|list| list.oob.set_header_transmit(HeaderTransmit { next_header, pad_length, ah_header_offset, esp_header_offset }));
        if at != 1 {
            refused(&mut nic, "send_header_mismatch", list);
        }
    }
    refused(&mut nic, "send_unsupported_request", changed(&|list| list.oob.checksum = 1 << 2));
    refused(&mut nic, "send_unsupported_request", changed(&|list| list.more.push(packet::Buffer::copy_from(&[1]))));
    refused(&mut nic, "send_inbound_handle", changed(&|list| list.oob.set_offload_handle(Some(inbound))));
    refused(&mut nic, "send_stale_handle", changed(&|list| list.oob.set_offload_handle(ndis::OffloadHandle::from_bits(handle.to_bits() + (1 << 40)))));
    refused(&mut nic, "send_tunnel_handle", changed(&|list| (list.oob.set_offload_handle(None), list.oob.set_tunnel_handle(Some(handle))).0));
    refused(&mut nic, "send_outside_capabilities", changed(&|list| list.oob.set_tunnel_handle(Some(handle))));
    refused(&mut nic, "send_malformed", changed(&|list| list.l3_offset = 1));
    for len in 0..good.list(Some(handle)).buffer.len() - good.payload {
        let mut list = good.list(Some(handle));
        list.buffer.truncate(len);
        let (list, wire) = nic.send_one(list);
        assert_eq!((list.status, wire.len()), (Status::FAILURE, 0), "{len}");
    }
    // OV2-SEND-4: the limits.
    refused(&mut nic, "send_large_limits", Large { payload: 1400, ..good }.list(Some(handle)));
    refused(&mut nic, "send_large_limits", Large { payload: (1 << 18) + 1, ..good }.list(Some(handle)));
    // OV2-SEND-4: no segment may be longer than IP can tell.
    refused(&mut nic, "send_large_malformed", Large { payload: 140_000, mss: 65_500, ..good }.list(Some(handle)));
    let (list, _) = nic.send_one(good.list(Some(handle)));
    assert!(list.status.is_success(), "after all that");
}

impl Large {
    fn list_with_mss(self, handle: ndis::OffloadHandle, mss: u32) -> NetBufferList {
        let mut list = Large { mss: 1, ..self }.list(Some(handle));
        list.oob.large_send = list.oob.large_send & !0xf_ffff | mss;
        list
    }
}

/// OV2-SEND-5: after large sends were turned off lists that ask for them fail; switched on again they are sent.
#[test]
fn lists_fail_after_lso_was_turned_off() {
    let mut nic = Nic::new(Link::Bare);
    let kind = Kind::gcm(0x1001);
    let handle = nic.try_add(kind.bundle(OUT)).unwrap();
    let handle6 = nic.try_add(Kind::gcm(0x1002).v6().bundle(OUT)).unwrap();
    let one = Large { version: Version::One, ..Large::new(kind) };
    let v6 = Large::new(Kind::gcm(0x1002).v6());
    let lists = |low| {
        let all = [(one, handle), (Large::new(kind), handle), (v6, handle6)];
        all.map(|(large, handle)| [Large { low, ..large }.list(Some(handle)), Large { protected: false, ..large }.list(None)])
    };
    let setting = |place: usize, switch| {
        let mut parameters = OffloadParameters::default();
        *[&mut parameters.lso_v1, &mut parameters.lso_v2_ipv4, &mut parameters.lso_v2_ipv6][place] = Some(switch);
        Oid::SetParameters(parameters)
    };
    for place in 0..3 {
        assert_eq!(nic.set(setting(place, Switch::Disabled)), Status::SUCCESS);
        for (number, lists) in lists(10 + 1000 * place as u32).into_iter().enumerate() {
            for list in lists {
                if number == place {
                    refused(&mut nic, "send_large_not_configured", list);
                } else {
                    assert!(nic.send_one(list).0.status.is_success());
                }
            }
        }
        assert_eq!(nic.set(setting(place, Switch::Enabled)), Status::SUCCESS);
        for list in lists(500 + 1000 * place as u32).into_iter().flatten() {
            assert!(nic.send_one(list).0.status.is_success());
        }
    }
    // OV2-SEND-1: IPsec turned off: clear packets are cut, what asks for protection fails.
    nic.set_ipsec(IpsecSetting::Disabled);
    let [[protected, clear], ..] = lists(9000);
    assert_eq!(nic.send_one(protected).0.status, Status::FAILURE);
    assert!(nic.send_one(clear).0.status.is_success());
}

/// A NIC with these hardware capabilities.
fn with(hardware: Offload) -> Nic {
    let parameters = NicParameters { medium: packet::Medium::Ip, ..NicParameters::new("test") };
    let mut nic = Nic::with(parameters, move || SoftwareEngine::with_hardware(ipsec::Crypto::default(), &hardware).unwrap());
    nic.activate_null();
    nic
}

type Change = fn(&mut Offload);

/// OV2-CAP-13: without LsoSupported large sends and IPsec are for different packets; OV2-CAP-12: nothing beyond what is reported.
#[test]
fn only_what_is_reported_is_done() {
    let all = software_capabilities(16);
    let large = Large::new(Kind::gcm(0x1001));
    let tunnel = Large { tunnel: Some(IpVersion::V4), ..large };
    let udp = Large { version: Version::Udp, ..large };
    let options = Large { options: 1, ..large };
    let extras = Large { kind: Kind { extras: true, ..large.kind }, ..large };
    let v6 = Large { kind: large.kind.v6(), ..large };
    let one = Large { version: Version::One, ..large };
    let clear = |large| Large { protected: false, ..large };
    let cases: [(Change, &[Large], &[Large]); 9] = [
        (|_| {}, &[large, tunnel, udp, options, extras, v6, one], &[]),
        (|set| set.ipsec_v2.lso_supported = false, &[clear(large), clear(udp), clear(one)], &[large, tunnel, udp, one]),
        (|set| set.ipsec_v2.ext_lso_tunnel = false, &[large, one, udp], &[tunnel]),
        (|set| set.lso_v2.ipv4.ext_udp = false, &[large], &[udp, clear(udp)]),
        (|set| set.lso_v2.ipv6 = ndis::LargeSendSet::default(), &[large, one], &[v6, clear(v6)]),
        (|set| set.lso_v2.ipv4 = ndis::LargeSendSet::default(), &[one, v6], &[large, clear(large), udp]),
        (|set| set.lso_v1 = ndis::LargeSendSet::default(), &[large], &[one, clear(one)]),
        (
            |set| (set.lso_v1.tcp_options, set.lso_v1.ip_options) = (false, false),
            &[one, large, options, extras],
            &[Large { options: 1, ..one }, Large { kind: extras.kind, ..one }],
        ),
        (|set| set.lso_v2.ipv4.max_offload_size = 3999, &[Large { payload: 3999, ..large }, one], &[large, clear(large)]),
    ];
    for (number, (change, done, refused)) in cases.into_iter().enumerate() {
        let mut hardware = all;
        change(&mut hardware);
        for large in done {
            let (list, wire) = send_by(&mut with(hardware), large);
            assert_eq!((list.status, wire), (Status::SUCCESS, large.expected()), "case {number}: {large:?}");
        }
        for large in refused {
            let (list, wire) = send_by(&mut with(hardware), large);
            assert_eq!((list.status, wire.len()), (Status::FAILURE, 0), "case {number}: {large:?}");
        }
    }
}

fn any_large() -> impl Strategy<Value = Large> {
    let kind = (0..all_kinds().len(), any::<bool>(), any::<bool>(), prop::option::of(0_u32..0x1_0000), any::<bool>());
    let shape = (0_u8..3, 0_usize..=10, 0_u8..32, any::<u16>(), any::<u32>(), 0_u8..4, prop_oneof![Just(0_u8), any::<u8>()]);
    let mss = prop_oneof![1_u32..100, 100_u32..9001];
    let numbers = (mss, 2_usize..140, any::<prop::sample::Index>(), prop_oneof![0_u32..1000, 0x7fff_0000_u32..0x7fff_ffff, 0xffff_ff00..=u32::MAX]);
    (kind, shape, numbers).prop_map(|((kind, ipv6, extras, esn, protected), shape, (mss, segments, last, low))| {
        let (version, options, flags, identification, sequence, mode, padding) = shape;
        let tunnel = [None, None, Some(IpVersion::V4), Some(IpVersion::V6)][usize::from(mode)].filter(|_| protected);
        let version = match version {
            0 if !ipv6 && tunnel.is_none() => Version::One,
            1 => Version::Udp,
            _ => Version::Two,
        };
        let mut kind = Kind { extras, ..all_kinds()[kind] };
        if kind.udp.is_some() && tunnel.is_some() {
            kind = kind.udp(UdpEspType::Tunnel);
        }
        if ipv6 {
            kind = kind.v6();
        }
        if let Some(high) = esn {
            kind = kind.esn(high);
        }
        let bits = [0x01, 0x08, 0x10, 0x40, 0x80];
        let flags = TcpFlags(bits.iter().enumerate().map(|(number, bit)| (flags >> number & 1) * bit).sum());
        // At least two segments, the last of any length.
        let segments = segments.min(60_000 / mss as usize).max(2);
        let payload = (segments - 1) * mss as usize + 1 + last.index(mss as usize);
        let low = if esn.is_some() { low } else { low.min(u32::MAX - 200) };
        let padding = if protected && kind.esp.is_some() { padding } else { 0 };
        let link = [&[][..], if ipv6 { ETHERNET_V6 } else { ETHERNET_V4 }][usize::from(mode % 2)];
        Large { kind, protected, tunnel, version, options, flags, identification, sequence, payload, mss, low, padding, link }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// OV2-SEND-4: whatever large send it is, under whatever bundle, each segment is what independent code makes of it, and the receiving side opens all.
    #[test]
    fn any_large_send_is_its_segments(large in any_large()) {
        check(&large);
    }
}
