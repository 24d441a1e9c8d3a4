//! Every pairing of algorithms that IPsecOV2 allows (OV2-CAP-3, OV2-COMB-1, OV2-COMB-2) and the vendor extensions: sent by an engine on one cryptographic
//! library, received by an engine on another, and compared with a third set of transforms that made the packet by itself.

mod common;
#[path = "common/kinds.rs"]
mod kinds;

use common::{Link, Nic};
use kinds::{Built, CBC, GCM, GMAC, Kind, NULL, SHA1, SHA256};
use ndis::{AesKeySize, AuthenticationAlgorithm, CryptoStatus, Direction, EncryptionAlgorithm, OffloadHandle, SaExtension, Status, UdpEspType};
use nic::{NicParameters, SoftwareEngine};
use packet::Medium;

const IN: Direction = Direction::Inbound;
const OUT: Direction = Direction::Outbound;

fn on(crypto: ipsec::Crypto) -> Nic {
    let parameters = NicParameters { medium: Medium::Ip, ..NicParameters::new("test") };
    let mut nic = Nic::with(parameters, move || SoftwareEngine::new(crypto, 4096).unwrap());
    nic.activate();
    nic
}

/// Sends a packet under its bundles on one engine and receives it on the other.
struct Pair {
    sender: Nic,
    receiver: Nic,
}

impl Pair {
    fn new() -> Self {
        Self { sender: on(ipsec::Crypto::AwsLc), receiver: on(ipsec::Crypto::RustCrypto) }
    }

    /// The handles of the sender's bundles, in the order of `kinds`.
    fn add(&mut self, kinds: &[Kind]) -> Vec<OffloadHandle> {
        kinds
            .iter()
            .map(|kind| {
                self.receiver.try_add(kind.bundle(IN)).unwrap_or_else(|status| panic!("{status}: {kind:?}"));
                self.sender.try_add(kind.bundle(OUT)).unwrap_or_else(|status| panic!("{status}: {kind:?}"))
            })
            .collect()
    }

    fn carry(&mut self, packet: &Built, handles: &[OffloadHandle]) {
        let name = || format!("{:?}", packet.layers);
        let (list, wire) = self.sender.send_one(packet.list(handles));
        assert_eq!(list.status, Status::SUCCESS, "{:?} {}", self.sender.driver.counters(), name());
        assert!(list.buffer.is_empty());
        assert!(wire == [packet.sealed()], "{}", name());
        let list = self.receiver.receive_one(&wire[0]);
        let receive = list.oob.ipsec_receive();
        assert_eq!((receive.crypto_done, receive.crypto_status), (true, CryptoStatus::Success), "{}", name());
        assert_eq!(receive.next_crypto_done, packet.layers.len() == 2, "{}", name());
        assert!(!receive.sa_delete_request);
        assert!(list.buffer.as_slice() == packet.opened(&wire[0], packet.layers.len()), "{}", name());
        let innermost = packet.layers.iter().rev().find(|layer| layer.esp.is_some());
        let expected = innermost.map(|layer| (layer.header.next_header, layer.header.pad_length));
        assert_eq!(list.oob.header_receive().map(|header| (header.next_header, header.pad_length)), expected, "{}", name());
    }
}

/// Every suite of ESP: ciphers with separate authentication or none, null with GMAC, combined modes with each length of ICV.
fn suites() -> Vec<(EncryptionAlgorithm, Option<AuthenticationAlgorithm>, u32)> {
    let mut suites = Vec::new();
    for encryption in EncryptionAlgorithm::ALL {
        match encryption {
            EncryptionAlgorithm::AesGcm(_) => suites.extend([0, 8, 12, 16].map(|icv| (encryption, None, icv))),
            EncryptionAlgorithm::ChaCha20Poly1305 => suites.push((encryption, None, 16)),
            _ => {
                suites.push((encryption, None, 0));
                let fits = |algorithm: &AuthenticationAlgorithm| encryption == NULL || !matches!(algorithm, AuthenticationAlgorithm::AesGmac(_));
                suites.extend(AuthenticationAlgorithm::ALL.into_iter().filter(fits).map(|algorithm| (encryption, Some(algorithm), 0)));
            }
        }
    }
    suites
}

/// The four forms in which each suite is tried: IP version and numbering; with options or extension headers in two of them.
const FORMS: [(bool, Option<u32>, bool); 4] = [(false, None, false), (false, Some(7), true), (true, None, true), (true, Some(u32::MAX), false)];

fn formed(kind: Kind, (ipv6, esn, extras): (bool, Option<u32>, bool)) -> Kind {
    let kind = Kind { ipv6, extras, ..kind };
    esn.map_or(kind, |high| kind.esn(high))
}

#[test]
fn every_suite_of_esp() {
    let mut pair = Pair::new();
    let mut spi = 0x1000;
    let mut carried = 0;
    for (encryption, authentication, icv) in suites() {
        let unauthenticated = authentication.is_none() && !encryption.is_combined();
        if unauthenticated && encryption == NULL {
            continue;
        }
        for form in FORMS {
            spi += 2;
            let kind = formed(Kind { icv, ..Kind::esp(spi, encryption, authentication) }, form);
            let kind = Kind { extension: SaExtension { allow_unauthenticated: unauthenticated, ..kind.extension }, ..kind };
            let handles = pair.add(&[kind]);
            for (low, len) in [(1, 0), (2, 1), (3, 97), (u32::MAX / 3, 1400)] {
                let payload: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
                pair.carry(&kind.build(&payload, 6, low), &handles);
                carried += 1;
            }
        }
    }
    // 5 ciphers with 5 HMACs or none, null with 5 HMACs and 3 GMACs, 3 GCMs with 4 lengths, ChaCha20-Poly1305.
    assert_eq!(carried, (5 * 6 + 8 + 12 + 1) * 16);
}

#[test]
fn esp_without_authentication_only_where_the_owner_allows_it() {
    let mut nic = on(ipsec::Crypto::AwsLc);
    let kind = Kind::esp(0x1001, CBC, None);
    assert_eq!(nic.try_add(kind.bundle(IN)), Err(Status::INVALID_DATA));
    let null = Kind::esp(0x1002, NULL, None);
    for kind in [kind, null] {
        let allowed = Kind { extension: SaExtension { allow_unauthenticated: true, ..kind.extension }, ..kind };
        assert_eq!(nic.try_add(allowed.bundle(IN)).is_ok(), kind.esp.unwrap().algorithms.0 == CBC);
    }
}

#[test]
fn every_algorithm_of_ah_in_transport_and_tunnel_mode() {
    let mut pair = Pair::new();
    let mut spi = 0x1000;
    for authentication in AuthenticationAlgorithm::ALL {
        for form in FORMS {
            for alignment in [0, 8] {
                spi += 1;
                let kind = Kind { ah_alignment: alignment, ..formed(Kind::ah(spi, authentication), form) };
                let handles = pair.add(&[kind]);
                for (low, len) in [(1, 0), (2, 1), (3, 97), (4, 1400)] {
                    pair.carry(&kind.build(&vec![0x42; len], 17, low), &handles);
                }
                let inner = Kind::gcm(0x7777).net(9).ip_header(packet::IpProtocol::UDP, 64);
                pair.carry(&kind.build(&[&inner[..], &[0; 64]].concat(), 4, 5), &handles);
            }
        }
    }
}

/// OV2-COMB-1: each integrity algorithm over each, and over null and encryption without authentication.
#[test]
fn every_pairing_of_ah_over_esp() {
    let mut pair = Pair::new();
    let mut spi = 0x1000;
    for (number, (encryption, authentication, icv)) in suites().into_iter().enumerate() {
        for (turn, over) in AuthenticationAlgorithm::ALL.into_iter().enumerate() {
            spi += 4;
            let kind = formed(Kind { icv, ..Kind::both(spi, encryption, authentication, spi + 2, over) }, FORMS[(number + turn) % 4]);
            let handles = pair.add(&[kind]);
            for (low, len) in [(1, 0), (2, 333)] {
                pair.carry(&kind.build(&vec![0x42; len], 6, low), &handles);
            }
        }
    }
}

#[test]
fn transport_over_tunnel_in_every_combination_of_kinds_and_versions() {
    let transports = [Kind::gcm(0x1001), Kind::esp(0x1101, CBC, Some(SHA256)), Kind::ah(0x1201, SHA1), Kind::both(0x1301, GCM, None, 0x1303, GMAC)];
    let tunnels = [Kind::gcm(0x2001), Kind::esp(0x2101, NULL, Some(GMAC)), Kind::ah(0x2201, SHA256), Kind::both(0x2301, CBC, None, 0x2303, SHA1)];
    for (inner_form, outer_form) in [(0, 0), (1, 3), (2, 1), (3, 2), (1, 1)] {
        let mut pair = Pair::new();
        let transports = transports.map(|kind| formed(kind.net(1), FORMS[inner_form]));
        let tunnels = tunnels.map(|kind| formed(kind, FORMS[outer_form]));
        let inner_handles = pair.add(&transports);
        let outer_handles = pair.add(&tunnels);
        let mut low = 0;
        for (transport, inner) in transports.iter().zip(&inner_handles) {
            for (tunnel, outer) in tunnels.iter().zip(&outer_handles) {
                for len in [0, 50, 1300] {
                    low += 1;
                    let packet = tunnel.around(&transport.build_inner(&vec![0x42; len], 6, low), low);
                    pair.carry(&packet, &[*outer, *inner]);
                }
            }
        }
        // All four layers of IPsec headers under both orders of handles: the transport bundle is the first slot's.
        let packet = tunnels[3].around(&transports[3].build_inner(b"payload", 6, low + 1), low + 1);
        let (list, wire) = pair.sender.send_one(packet.list(&[inner_handles[3], outer_handles[3]]));
        assert_eq!((list.status, wire.len()), (Status::FAILURE, 0));
        assert_eq!(list.buffer.as_slice(), packet.bytes);
    }
}

#[test]
fn all_four_types_of_udp_encapsulation() {
    for form in [0, 2, 3] {
        for (kind, nested) in [
            (UdpEspType::Transport, false),
            (UdpEspType::Tunnel, false),
            (UdpEspType::TransportOverUdpTunnel, true),
            (UdpEspType::UdpTransportOverTunnel, true),
        ] {
            let mut pair = Pair::new();
            let outer = formed(Kind::esp(0x2001, EncryptionAlgorithm::AesCbc(AesKeySize::Aes256), Some(SHA1)).udp(kind), FORMS[form]);
            // A NAT has changed the source port.
            let outer = Kind { ports: (40_123, 4500), ..outer };
            let inner = formed(Kind::gcm(0x1001).net(1).udp(kind), FORMS[(form + 1) % 4]);
            let handles = pair.add(&[outer, inner]);
            if nested {
                pair.carry(&outer.around(&inner.build_inner(b"transport over tunnel", 6, 1), 1), &handles);
            } else {
                let tunnelled = kind == UdpEspType::Tunnel;
                let payload = if tunnelled { [&outer.net(3).ip_header(packet::IpProtocol::TCP, 4)[..], b"data"].concat() } else { b"data".to_vec() };
                let next_header = if !tunnelled {
                    6
                } else if outer.ipv6 {
                    41
                } else {
                    4
                };
                pair.carry(&outer.build(&payload, next_header, 1), &handles[..1]);
            }
        }
    }
}

#[test]
fn udp_esp_on_a_port_of_the_bundles_own() {
    let mut pair = Pair::new();
    let kind = Kind { ports: (4500, 14_500), ..Kind::gcm(0x1001).udp(UdpEspType::Tunnel) };
    let kind = Kind { extension: SaExtension { udp_esp_port: Some(14_500), ..kind.extension }, ..kind };
    let handles = pair.add(&[kind]);
    pair.carry(&kind.build(b"payload", 17, 1), &handles);
    // On the adapter's port its packets are not what they should be; on any other port they are none.
    for (port, done) in [(4500, true), (14_501, false)] {
        let wire = Kind { ports: (4500, port), ..kind }.build(b"payload", 17, 2).sealed();
        let list = pair.receiver.receive_one(&wire);
        let status = if done { CryptoStatus::InvalidProtocol } else { CryptoStatus::Success };
        assert_eq!((list.oob.ipsec_receive().crypto_done, list.oob.ipsec_receive().crypto_status), (done, status), "{port}");
        assert_eq!(list.buffer.as_slice(), wire);
    }
}

/// what is far beyond an MTU, and SAs of all kinds in one batch.
#[test]
fn r_23_jumbo_packets_and_batches_of_mixed_sas() {
    let kinds = [
        Kind::gcm(0x1001),
        Kind::ah(0x1101, GMAC),
        Kind::both(0x1201, CBC, Some(SHA256), 0x1203, SHA1).v6(),
        Kind::esp(0x1301, EncryptionAlgorithm::ChaCha20Poly1305, None).v6(),
        Kind::gcm(0x1401).udp(UdpEspType::Transport),
    ];
    let mut pair = Pair::new();
    let handles = pair.add(&kinds);
    for round in 0..4_u32 {
        let packets: Vec<_> = (0..200_u32)
            .map(|n| {
                let len = if n % 7 == 3 { 9000 + n as usize * 3 } else { n as usize };
                kinds[n as usize % kinds.len()].build(&vec![n as u8; len], 17, round * 1000 + n + 1)
            })
            .collect();
        let batch = packets.iter().enumerate().map(|(n, packet)| packet.list(&handles[n % kinds.len()..][..1])).collect();
        let (done, wire) = pair.sender.send(batch);
        assert!(done.iter().all(|list| list.status.is_success()));
        let wire: Vec<_> = wire.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect();
        assert!(wire.iter().eq(&packets.iter().map(Built::sealed).collect::<Vec<_>>()));
        let up = pair.receiver.receive(&wire);
        for ((list, packet), wire) in up.iter().zip(&packets).zip(&wire) {
            assert_eq!((list.oob.ipsec_receive().crypto_done, list.oob.ipsec_receive().crypto_status), (true, CryptoStatus::Success));
            assert!(list.buffer.as_slice() == packet.opened(wire, 1));
        }
    }
}

#[test]
fn the_longest_packets_of_both_versions() {
    for (kind, whole) in [(Kind::both(0x1001, CBC, Some(SHA256), 0x1003, SHA256), 65_535), (Kind::both(0x1001, GCM, None, 0x1003, GMAC).v6(), 65_575)] {
        let mut pair = Pair::new();
        let handles = pair.add(&[kind]);
        let overhead = kind.build(&[], 17, 1).bytes.len();
        // As much as there is room for, block and all.
        let payload = (whole - overhead) / 16 * 16;
        pair.carry(&kind.build(&vec![0x33; payload], 17, 1), &handles);
    }
}

#[test]
fn link_headers_make_no_difference_to_ah() {
    for link in [Link::Ethernet, Link::DoubleVlan] {
        let (mut sender, mut receiver) = (Nic::new(link), Nic::new(link));
        let kind = Kind::both(0x1001, GCM, None, 0x1003, SHA256);
        let handle = sender.try_add(kind.bundle(OUT)).unwrap();
        receiver.try_add(kind.bundle(IN)).unwrap();
        let packet = kind.build(b"payload", 17, 1);
        let header = link.header(false);
        let mut list = packet.list(&[handle]);
        list.buffer = packet::Buffer::copy_from(&[&header[..], &packet.bytes].concat());
        list.l3_offset = header.len() as u16;
        let (list, wire) = sender.send_one(list);
        assert_eq!(list.status, Status::SUCCESS, "{:?}", sender.driver.counters());
        assert_eq!(wire[0][header.len()..], packet.sealed());
        // With padding of the link behind it.
        let list = receiver.receive_one(&[&wire[0][..], &[0; 7]].concat());
        assert_eq!(list.oob.ipsec_receive().crypto_status, CryptoStatus::Success);
        assert!(list.oob.ipsec_receive().crypto_done);
    }
}
