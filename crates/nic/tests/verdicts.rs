//! What becomes of damaged packets: one table of (damage, kind of SA, portion) and its CryptoStatus, CryptoDone, NextCryptoDone, and the bytes afterwards
//! (OV2-RECV-3, OV2-RECV-5, OV2-RECV-5a, OV2-OOB-5).

mod common;
#[path = "common/kinds.rs"]
mod kinds;

use common::{Link, Nic};
use kinds::{Built, CBC, GCM, GMAC, Kind, NULL, SHA1, SHA256};
use ndis::CryptoStatus::{
    GenericError, InvalidPacketSyntax, InvalidProtocol, Success, TransportAhAuthFailed, TransportEspAuthFailed, TunnelAhAuthFailed, TunnelEspAuthFailed,
};
use ndis::{CryptoStatus, Direction, OutOfBand, SaExtension, UdpEspType};

const IN: Direction = Direction::Inbound;

/// What is in a tunnel: an IPv4 packet of 28 bytes.
fn inner_ip() -> Vec<u8> {
    [&Kind::gcm(0x7777).net(9).ip_header(packet::IpProtocol::UDP, 8)[..], &[0; 8]].concat()
}

/// What the NIC has seen under the SA before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    Transport,
    Tunnel,
}

struct Case {
    name: &'static str,
    /// Bundles, the outermost first.
    kinds: Vec<Kind>,
    before: Before,
    wire: fn(&Built) -> Vec<u8>,
    status: CryptoStatus,
    next: bool,
    /// How many portions are in clear afterwards.
    opened: usize,
}

// Damage on the wire.

fn flip(bytes: &mut [u8], at: usize) {
    bytes[at] ^= 0x40;
}

fn damaged(built: &Built, at: usize) -> Vec<u8> {
    let mut wire = built.sealed();
    flip(&mut wire, at);
    wire
}

fn esp_icv(built: &Built) -> Vec<u8> {
    damaged(built, built.layers[0].esp.as_ref().unwrap().end - 1)
}

fn ciphertext(built: &Built) -> Vec<u8> {
    damaged(built, built.layers[0].payload)
}

fn esp_sequence(built: &Built) -> Vec<u8> {
    damaged(built, built.layers[0].esp.as_ref().unwrap().start + 7)
}

fn ah_icv(built: &Built) -> Vec<u8> {
    let layer = &built.layers[0];
    let icv = layer.kind.ah_oracle().unwrap().icv_field_length();
    damaged(built, layer.ah.unwrap() + 12 + icv - 1)
}

fn ah_reserved(built: &Built) -> Vec<u8> {
    damaged(built, built.layers[0].ah.unwrap() + 2)
}

fn last_byte(built: &Built) -> Vec<u8> {
    damaged(built, built.bytes.len() - 1)
}

/// The AH's next header says another protocol, which nobody has authenticated.
fn ah_next_header(built: &Built) -> Vec<u8> {
    let mut wire = built.sealed();
    let at = built.layers[0].ah.unwrap();
    wire[at] = if wire[at] == 4 { 17 } else { 4 };
    wire
}

fn ah_length(built: &Built) -> Vec<u8> {
    let mut wire = built.sealed();
    wire[built.layers[0].ah.unwrap() + 1] += 2;
    wire
}

fn ah_length_beyond_the_packet(built: &Built) -> Vec<u8> {
    let mut wire = built.sealed();
    wire[built.layers[0].ah.unwrap() + 1] = 255;
    wire
}

/// The packet ends after `len` bytes, and its headers say so.
fn cut(built: &Built, mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
    bytes.truncate(len);
    set_lengths(built, &mut bytes);
    bytes
}

fn set_lengths(built: &Built, bytes: &mut [u8]) {
    let len = bytes.len();
    let (at, value) = if built.layers[0].kind.ipv6 { (4, len - 40) } else { (2, len) };
    bytes[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
    let layer = &built.layers[0];
    if layer.kind.in_udp(false) {
        let udp = layer.esp.as_ref().unwrap().start - 8;
        bytes[udp + 4..udp + 6].copy_from_slice(&((len - udp) as u16).to_be_bytes());
    }
}

fn esp_too_short(built: &Built) -> Vec<u8> {
    cut(built, built.sealed(), built.layers[0].payload + 1)
}

/// AH is good, and the ESP in it is too short.
fn esp_too_short_under_good_ah(built: &Built) -> Vec<u8> {
    let layer = &built.layers[0];
    let mut wire = cut(built, built.sealed(), layer.payload + 1);
    layer.kind.ah_oracle().unwrap().seal_packet(&ipsec::RustCrypto, &mut wire, layer.ah.unwrap(), layer.ah_sequence).unwrap();
    wire
}

/// The two bytes at the end of what ESP carries: pad length and next header.
fn trailer(built: &Built, number: usize) -> usize {
    let layer = &built.layers[number];
    layer.esp.as_ref().unwrap().end - layer.kind.esp_oracle().unwrap().icv_length() - 2
}

// Authentic, and wrong: made by somebody with the keys.

fn pad_length(built: &Built) -> Vec<u8> {
    built.sealed_after(|_, bytes| bytes[trailer(built, 0)] = 255)
}

fn says_ipv6(built: &Built) -> Vec<u8> {
    built.sealed_after(|_, bytes| bytes[trailer(built, 0) + 1] = 41)
}

fn says_ipv4(built: &Built) -> Vec<u8> {
    built.sealed_after(|_, bytes| bytes[trailer(built, 0) + 1] = 4)
}

fn ah_says_ipv6(built: &Built) -> Vec<u8> {
    built.sealed_after(|_, bytes| bytes[built.layers[0].ah.unwrap()] = 41)
}

fn inner_icv(built: &Built) -> Vec<u8> {
    inner(built, |layer, bytes| flip(bytes, layer.esp.as_ref().unwrap().end - 1))
}

fn inner_ah_icv(built: &Built) -> Vec<u8> {
    inner(built, |layer, bytes| flip(bytes, layer.ah.unwrap() + 12))
}

fn inner_ah_length(built: &Built) -> Vec<u8> {
    inner(built, |layer, bytes| bytes[layer.ah.unwrap() + 1] += 2)
}

/// Changes the inner portion after it was sealed, and before the outer one is.
fn inner(built: &Built, change: fn(&kinds::Layer, &mut [u8])) -> Vec<u8> {
    built.sealed_after(|number, bytes| {
        if number == 0 {
            change(&built.layers[1], bytes);
        }
    })
}

fn inner_pad_length(built: &Built) -> Vec<u8> {
    built.sealed_after(|number, bytes| {
        if number == 1 {
            bytes[trailer(built, 1)] = 255;
        }
    })
}

fn inner_says_ipv4(built: &Built) -> Vec<u8> {
    built.sealed_after(|number, bytes| {
        if number == 1 {
            bytes[trailer(built, 1) + 1] = 4;
            bytes[built.layers[1].payload] = 0x60;
        }
    })
}

fn both_icvs(built: &Built) -> Vec<u8> {
    let mut wire = inner_icv(built);
    let at = built.layers[0].esp.as_ref().unwrap().end - 1;
    flip(&mut wire, at);
    wire
}

// Headers that are not those of the SA.

/// The other way of what the SA says of UDP.
fn other_encapsulation(built: &Built) -> Vec<u8> {
    let kind = built.layers[0].kind;
    kind.place(b"data", 6, 1, !kind.in_udp(false), Vec::new()).sealed()
}

/// The bundle's ESP, without its AH.
fn without_ah(built: &Built) -> Vec<u8> {
    Kind { ah: None, ..built.layers[0].kind }.build(b"payload", 6, 1).sealed()
}

/// The bundle's AH, without its ESP.
fn without_esp(built: &Built) -> Vec<u8> {
    Kind { esp: None, ..built.layers[0].kind }.build(b"some payload", 6, 1).sealed()
}

/// The bundle's AH, over somebody else's ESP.
fn other_esp(built: &Built) -> Vec<u8> {
    let mut kind = built.layers[0].kind;
    kind.esp.as_mut().unwrap().spi += 0x100;
    kind.build(b"payload", 6, 1).sealed()
}

fn ah_under_the_spi_of_esp(built: &Built) -> Vec<u8> {
    let kind = built.layers[0].kind;
    let spi = kind.esp.unwrap().spi;
    Kind { udp: None, ipv6: kind.ipv6, net: kind.net, ..Kind::ah(spi, SHA1) }.build(b"payload", 6, 1).sealed()
}

fn esp_under_the_spi_of_ah(built: &Built) -> Vec<u8> {
    let kind = built.layers[0].kind;
    Kind { ipv6: kind.ipv6, net: kind.net, ..Kind::gcm(kind.ah.unwrap().spi) }.build(b"payload", 6, 1).sealed()
}

fn undamaged(built: &Built) -> Vec<u8> {
    built.sealed()
}

fn inner_without_ah(built: &Built) -> Vec<u8> {
    let (outer, inner) = (built.layers[0].kind, built.layers[1].kind);
    outer.around(&Kind { ah: None, ..inner }.build_inner(b"payload", 6, 1), 1).sealed()
}

fn cases() -> Vec<Case> {
    use Before::{Nothing, Transport, Tunnel};
    let esp = || vec![Kind::gcm(0x1001)];
    let cbc = || vec![Kind::esp(0x1001, CBC, Some(SHA256))];
    let null = || vec![Kind::esp(0x1001, NULL, Some(GMAC))];
    let ah = || vec![Kind::ah(0x3001, SHA1)];
    let gmac = || vec![Kind::ah(0x3001, GMAC)];
    let both = || vec![Kind::both(0x1001, CBC, Some(SHA1), 0x3001, SHA256)];
    let udp = |kind| vec![Kind::gcm(0x1001).udp(kind)];
    let nested = |outer: Kind, inner: Kind| vec![outer, inner.net(1)];
    let gcm_in_gcm = || nested(Kind::gcm(0x2001), Kind::gcm(0x1001));
    let both_in_both = || nested(Kind::both(0x2001, GCM, None, 0x4001, SHA1), Kind::both(0x1001, CBC, Some(SHA1), 0x3001, GMAC));
    let typed = |kind| nested(Kind::gcm(0x2001).udp(kind), Kind::gcm(0x1001).udp(kind));
    let (over_udp, udp_over) = (UdpEspType::TransportOverUdpTunnel, UdpEspType::UdpTransportOverTunnel);
    let unauthenticated = || vec![Kind { extension: SaExtension { allow_unauthenticated: true, ..Kind::gcm(1).extension }, ..Kind::esp(0x1001, CBC, None) }];
    let case = |name, kinds, before, wire, status, (next, opened)| Case { name, kinds, before, wire, status, next, opened };
    let one = (false, 0);
    let inner = (true, 1);
    vec![
        // A single portion.
        case("whole", esp(), Nothing, undamaged, Success, (false, 1)),
        case("whole", ah(), Nothing, undamaged, Success, (false, 1)),
        case("whole", both(), Nothing, undamaged, Success, (false, 1)),
        case("ESP ICV", esp(), Nothing, esp_icv, TransportEspAuthFailed, one),
        case("ESP ICV", esp(), Transport, esp_icv, TransportEspAuthFailed, one),
        case("ESP ICV", esp(), Tunnel, esp_icv, TunnelEspAuthFailed, one),
        case("ESP ICV", cbc(), Nothing, esp_icv, TransportEspAuthFailed, one),
        case("ESP ICV", null(), Tunnel, esp_icv, TunnelEspAuthFailed, one),
        case("ciphertext", esp(), Nothing, ciphertext, TransportEspAuthFailed, one),
        case("ciphertext", cbc(), Tunnel, ciphertext, TunnelEspAuthFailed, one),
        case("payload in clear", null(), Nothing, ciphertext, TransportEspAuthFailed, one),
        case("ESP sequence number", esp(), Nothing, esp_sequence, TransportEspAuthFailed, one),
        case("ESP sequence number", cbc(), Nothing, esp_sequence, TransportEspAuthFailed, one),
        case("AH ICV", ah(), Nothing, ah_icv, TransportAhAuthFailed, one),
        case("AH ICV", ah(), Transport, ah_icv, TransportAhAuthFailed, one),
        case("AH ICV", ah(), Tunnel, ah_icv, TunnelAhAuthFailed, one),
        case("AH ICV", gmac(), Nothing, ah_icv, TransportAhAuthFailed, one),
        case("AH reserved bytes", ah(), Nothing, ah_reserved, TransportAhAuthFailed, one),
        case("payload under AH", gmac(), Tunnel, last_byte, TunnelAhAuthFailed, one),
        // Not what it says now, but what was carried last.
        case("AH next header", ah(), Nothing, ah_next_header, TransportAhAuthFailed, one),
        case("AH next header", ah(), Tunnel, ah_next_header, TunnelAhAuthFailed, one),
        case("AH ICV", both(), Nothing, ah_icv, TransportAhAuthFailed, one),
        case("AH ICV", both(), Tunnel, ah_icv, TunnelAhAuthFailed, one),
        case("ESP ICV under AH", both(), Nothing, esp_icv, TransportAhAuthFailed, one),
        case("ciphertext under AH", both(), Tunnel, ciphertext, TunnelAhAuthFailed, one),
        case("ESP forged under good AH", both(), Nothing, esp_forged_under_good_ah, TransportEspAuthFailed, one),
        case("ESP forged under good AH", both(), Tunnel, esp_forged_under_good_ah, TunnelEspAuthFailed, one),
        // Syntax.
        case("AH length", ah(), Nothing, ah_length, InvalidPacketSyntax, one),
        case("AH length", both(), Tunnel, ah_length, InvalidPacketSyntax, one),
        case("AH beyond the packet", ah(), Nothing, ah_length_beyond_the_packet, InvalidPacketSyntax, one),
        case("ESP too short", esp(), Nothing, esp_too_short, InvalidPacketSyntax, one),
        case("ESP too short", cbc(), Tunnel, esp_too_short, InvalidPacketSyntax, one),
        case("ESP too short under AH", both(), Nothing, esp_too_short_under_good_ah, InvalidPacketSyntax, one),
        case("ESP too short in UDP", udp(UdpEspType::Tunnel), Nothing, esp_too_short, InvalidPacketSyntax, one),
        case("pad length", esp(), Nothing, pad_length, InvalidPacketSyntax, one),
        case("pad length", cbc(), Tunnel, pad_length, InvalidPacketSyntax, one),
        case("pad length", null(), Nothing, pad_length, InvalidPacketSyntax, one),
        case("pad length", both(), Nothing, pad_length, InvalidPacketSyntax, one),
        // Next header and what follows disagree.
        case("says IPv6", esp(), Nothing, says_ipv6, GenericError, one),
        case("says IPv4", cbc(), Nothing, says_ipv4, GenericError, one),
        case("says IPv6", null(), Tunnel, says_ipv6, GenericError, one),
        case("says IPv6", both(), Nothing, says_ipv6, GenericError, one),
        case("says IPv6", ah(), Nothing, ah_says_ipv6, GenericError, one),
        case("says IPv6", gmac(), Tunnel, ah_says_ipv6, GenericError, one),
        // Headers that are not the SA's.
        case("AH to an ESP SA", esp(), Nothing, ah_under_the_spi_of_esp, InvalidProtocol, one),
        case("AH to the ESP of AH over ESP", both(), Nothing, ah_under_the_spi_of_esp, InvalidProtocol, one),
        case("ESP to an AH SA", ah(), Nothing, esp_under_the_spi_of_ah, InvalidProtocol, one),
        case("ESP to the AH of AH over ESP", both(), Nothing, esp_under_the_spi_of_ah, InvalidProtocol, one),
        case("without its AH", both(), Nothing, without_ah, InvalidProtocol, one),
        case("without its ESP", both(), Tunnel, without_esp, InvalidProtocol, one),
        case("over another ESP", both(), Nothing, other_esp, InvalidProtocol, one),
        case("in UDP", esp(), Nothing, other_encapsulation, InvalidProtocol, one),
        case("bare", udp(UdpEspType::Transport), Nothing, other_encapsulation, InvalidProtocol, one),
        case("bare", udp(UdpEspType::Tunnel), Tunnel, other_encapsulation, InvalidProtocol, one),
        case("bare", udp(over_udp), Nothing, other_encapsulation, InvalidProtocol, one),
        case("in UDP", udp(udp_over), Nothing, other_encapsulation, InvalidProtocol, one),
        case("AH to a UDP-ESP SA", udp(UdpEspType::Transport), Nothing, ah_under_the_spi_of_esp, InvalidProtocol, one),
        // The type of encapsulation goes before the mode.
        case("ESP ICV", udp(UdpEspType::Transport), Tunnel, esp_icv, TransportEspAuthFailed, one),
        case("ESP ICV", udp(UdpEspType::Tunnel), Nothing, esp_icv, TunnelEspAuthFailed, one),
        case("ESP ICV", udp(UdpEspType::Tunnel), Transport, esp_icv, TunnelEspAuthFailed, one),
        case("ESP ICV", udp(over_udp), Nothing, esp_icv, TunnelEspAuthFailed, one),
        case("ESP ICV", udp(udp_over), Nothing, esp_icv, TunnelEspAuthFailed, one),
        // Nothing is verified, and still nothing is believed.
        case("whole", unauthenticated(), Nothing, undamaged, Success, (false, 1)),
        case("pad length", unauthenticated(), Nothing, pad_length, InvalidPacketSyntax, one),
        case("says IPv6", unauthenticated(), Nothing, says_ipv6, GenericError, one),
        case("not of whole blocks", cbc(), Nothing, |built| cut(built, built.sealed(), built.bytes.len() - 1), InvalidPacketSyntax, one),
        case("not of whole blocks", unauthenticated(), Nothing, |built| cut(built, built.sealed(), built.bytes.len() - 1), InvalidPacketSyntax, one),
        // Two portions.
        case("whole", gcm_in_gcm(), Nothing, undamaged, Success, (true, 2)),
        case("whole", both_in_both(), Nothing, undamaged, Success, (true, 2)),
        case("outer ESP ICV", gcm_in_gcm(), Nothing, esp_icv, TransportEspAuthFailed, one),
        case("outer ESP ICV", gcm_in_gcm(), Tunnel, esp_icv, TunnelEspAuthFailed, one),
        case("outer AH ICV", both_in_both(), Tunnel, ah_icv, TunnelAhAuthFailed, one),
        case("both ICVs", gcm_in_gcm(), Tunnel, both_icvs, TunnelEspAuthFailed, one),
        case("inner ESP ICV", gcm_in_gcm(), Nothing, inner_icv, TransportEspAuthFailed, inner),
        case("inner ESP ICV", gcm_in_gcm(), Tunnel, inner_icv, TransportEspAuthFailed, inner),
        case("inner ESP ICV under AH", both_in_both(), Tunnel, inner_icv, TransportAhAuthFailed, inner),
        case("inner AH ICV", both_in_both(), Nothing, inner_ah_icv, TransportAhAuthFailed, inner),
        case("inner AH length", both_in_both(), Nothing, inner_ah_length, InvalidPacketSyntax, inner),
        case("inner pad length", gcm_in_gcm(), Nothing, inner_pad_length, InvalidPacketSyntax, inner),
        case("inner says IPv4", gcm_in_gcm(), Nothing, inner_says_ipv4, GenericError, inner),
        case("inner without its AH", both_in_both(), Nothing, inner_without_ah, InvalidProtocol, inner),
        case("inner ESP ICV", typed(over_udp), Nothing, inner_icv, TransportEspAuthFailed, inner),
        case("inner ESP ICV", typed(udp_over), Nothing, inner_icv, TransportEspAuthFailed, inner),
        case("outer ESP ICV", typed(over_udp), Nothing, esp_icv, TunnelEspAuthFailed, one),
        case("outer ESP ICV", typed(udp_over), Nothing, esp_icv, TunnelEspAuthFailed, one),
        case("bare inner", nested(Kind::gcm(0x2001), Kind::gcm(0x1001).udp(udp_over)), Nothing, inner_bare, InvalidProtocol, inner),
        case("inner in UDP", nested(Kind::gcm(0x2001), Kind::gcm(0x1001)), Nothing, inner_in_udp, InvalidProtocol, inner),
    ]
}

fn esp_forged_under_good_ah(built: &Built) -> Vec<u8> {
    let layer = &built.layers[0];
    let mut wire = esp_icv(built);
    layer.kind.ah_oracle().unwrap().seal_packet(&ipsec::RustCrypto, &mut wire, layer.ah.unwrap(), layer.ah_sequence).unwrap();
    wire
}

fn inner_bare(built: &Built) -> Vec<u8> {
    let (outer, inner) = (built.layers[0].kind, built.layers[1].kind);
    outer.around(&inner.place(b"payload", 6, 1, false, Vec::new()), 1).sealed()
}

fn inner_in_udp(built: &Built) -> Vec<u8> {
    let (outer, inner) = (built.layers[0].kind, built.layers[1].kind);
    outer.around(&inner.place(b"payload", 6, 1, true, Vec::new()), 1).sealed()
}

/// No packet of either version.
const PAYLOAD: &[u8] = b"what is protected";

fn build(kinds: &[Kind], low: u32) -> Built {
    match kinds {
        [kind] => kind.build(PAYLOAD, 6, low),
        [outer, inner] => outer.around(&inner.build_inner(PAYLOAD, 6, low), low),
        _ => panic!("one or two"),
    }
}

/// What came up of a case's packet.
fn receive(case: &Case, kinds: &[Kind]) -> (Built, Vec<u8>, ndis::NetBufferList) {
    let mut nic = Nic::new(Link::Bare);
    for kind in kinds {
        nic.try_add(kind.bundle(IN)).unwrap();
    }
    if case.before != Before::Nothing {
        let first = match case.before {
            Before::Tunnel => kinds[0].build(&inner_ip(), 4, 1),
            _ => kinds[0].build(b"payload", 6, 1),
        };
        let list = nic.receive_one(&first.sealed());
        assert_eq!((list.oob.ipsec_receive().crypto_done, list.oob.ipsec_receive().crypto_status), (true, Success));
    }
    let built = build(kinds, 2);
    let wire = (case.wire)(&built);
    let list = nic.receive_one(&wire);
    (built, wire, list)
}

fn check(case: &Case, form: (bool, bool, bool)) {
    let (ipv6, esn, extras) = form;
    let kinds: Vec<_> = case.kinds.iter().map(|kind| Kind { ipv6, extras, ..*kind }).map(|kind| if esn { kind.esn(5) } else { kind }).collect();
    let (built, wire, list) = receive(case, &kinds);
    let name = format!("{} of {:?} after {:?}", case.name, kinds, case.before);
    let found = list.oob.ipsec_receive();
    assert_eq!((found.crypto_status, found.crypto_done, found.next_crypto_done), (case.status, true, case.next), "{name}");
    assert!(!found.sa_delete_request, "{name}");
    let expected = match case.opened {
        0 => wire.clone(),
        // What was not sealed in the usual way has no layers to open but the outer one.
        opened => built_like(&built, &wire).opened(&wire, opened),
    };
    assert!(list.buffer.as_slice() == expected, "{name}: the bytes as they were before the step that failed");
    let good_esp = built.layers[..case.opened].iter().any(|layer| layer.esp.is_some());
    assert_eq!(list.oob.header_receive().is_some(), good_esp, "{name}: a trailer of the innermost ESP that was good");
}

/// The layers of a packet whose outer ESP ends with `wire`.
fn built_like(built: &Built, wire: &[u8]) -> Built {
    let mut built = built.clone();
    let layer = &mut built.layers[0];
    if let Some(esp) = &mut layer.esp {
        let low = u32::from_be_bytes(wire[esp.start + 4..esp.start + 8].try_into().unwrap());
        layer.esp_sequence = layer.kind.esp.unwrap().sequence(low);
        esp.end = wire.len();
    }
    built
}

const FORMS: [(bool, bool, bool); 4] = [(false, false, false), (true, false, true), (false, true, true), (true, true, false)];

#[test]
fn every_damage_has_its_verdict_and_leaves_the_bytes_before_the_step_that_failed() {
    for case in cases() {
        for form in FORMS {
            check(&case, form);
        }
    }
}

/// the status is what the cryptography said. Each of the eight values occurs, and no damaged packet is ever a success.
#[test]
fn r_40_each_of_the_eight_statuses_and_never_a_success_for_a_damaged_packet() {
    let cases = cases();
    for status in CryptoStatus::ALL {
        let seen = cases.iter().filter(|case| case.status == status);
        assert!(seen.count() > 0, "{status:?}");
    }
    for case in &cases {
        let (.., list) = receive(case, &case.kinds);
        let receive = list.oob.ipsec_receive();
        let success = receive.crypto_done && receive.crypto_status == Success;
        assert_eq!(success, case.name == "whole", "{}", case.name);
        assert_eq!(OutOfBand::default().ipsec_receive().crypto_status, Success, "which is why CryptoDone is read first");
    }
}

/// R-40, the other way round: no byte of an AH or ESP packet can be changed without the verdict changing, but those that may change on the way.
#[test]
fn r_40_no_byte_under_authentication_can_change() {
    let kinds = [Kind::ah(0x3001, SHA256), Kind::ah(0x3002, GMAC).v6(), Kind::both(0x1003, NULL, None, 0x3003, SHA1), Kind::esp(0x1004, CBC, Some(SHA1)).v6()];
    for kind in kinds {
        let mut nic = Nic::new(Link::Bare);
        nic.try_add(kind.bundle(IN)).unwrap();
        let built = kind.build(b"a payload", 17, 1);
        let wire = built.sealed();
        let layer = &built.layers[0];
        let from = layer.ah.or(layer.esp.as_ref().map(|esp| esp.start)).unwrap();
        for at in from..wire.len() {
            for bit in [0x01, 0x80] {
                let mut changed = wire.clone();
                changed[at] ^= bit;
                let list = nic.receive_one(&changed);
                let receive = list.oob.ipsec_receive();
                assert!(!receive.crypto_done || receive.crypto_status != Success, "{kind:?} byte {at}");
                assert_eq!(list.buffer.as_slice(), changed, "{kind:?} byte {at}");
            }
        }
        assert_eq!(nic.receive_one(&wire).oob.ipsec_receive().crypto_status, Success);
    }
}

#[test]
fn ah_covers_the_ip_header_but_for_what_may_change_on_the_way() {
    // Bytes of the IPv4 header with options: type of service, flags, time to live, checksum, a recorded route; the others are covered.
    let mutable4 = [1, 6, 8, 10, 11, 26, 27, 28, 29, 30];
    let kind4 = Kind { extras: true, ..Kind::ah(0x3001, SHA1) };
    // Of the IPv6 header: traffic class and flow label, hop limit, and the data of an option that may change.
    let mutable6 = [1, 2, 3, 7, 44, 45, 46, 47];
    let kind6 = Kind { extras: true, ..Kind::ah(0x3001, SHA1).v6() };
    for (kind, mutable) in [(kind4, &mutable4[..]), (kind6, &mutable6)] {
        let mut nic = Nic::new(Link::Bare);
        nic.try_add(kind.bundle(IN)).unwrap();
        let built = kind.build(b"payload", 17, 1);
        let wire = built.sealed();
        for at in 0..built.layers[0].ah.unwrap() {
            // A bit that does not make a fragment, or an option of another length, of it.
            for bit in [0x01, 0x40] {
                if !kind.ipv6 && (at == 7 || at == 6 && bit == 0x01 || at == 24 || at == 25) {
                    continue;
                }
                let mut changed = wire.clone();
                changed[at] ^= bit;
                let receive = nic.receive_one(&changed).oob.ipsec_receive();
                let success = receive.crypto_done && receive.crypto_status == Success;
                // The version's byte has half of the traffic class.
                let may_change = mutable.contains(&at) || kind.ipv6 && at == 0 && bit == 0x01;
                assert_eq!(success, may_change, "{kind:?} byte {at} bit {bit:#x}: {receive:?}");
            }
        }
    }
}

/// the length of an AH is that of the SA's algorithm, padded to a multiple of 4 or of 8, and no other.
#[test]
fn r_20_other_lengths_of_ah_and_esp_icvs_fail() {
    for (kind, right) in [(Kind::ah(0x3001, SHA256), [28, 32]), (Kind::ah(0x3001, SHA1), [24, 24]), (Kind::ah(0x3001, GMAC), [36, 40])] {
        let mut nic = Nic::new(Link::Bare);
        nic.try_add(kind.bundle(IN)).unwrap();
        let wire = kind.build(&[0; 900], 17, 1).sealed();
        for words in 0..=255_u8 {
            let mut changed = wire.clone();
            changed[21] = words;
            let status = nic.receive_one(&changed).oob.ipsec_receive().crypto_status;
            let length = usize::from(words) * 4 + 8;
            if length == 28 && kind.ah.unwrap().algorithms == SHA256 || length == right[0] {
                assert_eq!(status, Success);
            } else {
                assert_eq!(status, if right.contains(&length) { TransportAhAuthFailed } else { InvalidPacketSyntax }, "{kind:?} {length}");
            }
        }
    }
    // HMAC-SHA-256 cut to 96 bits, as some peers take it, under an SA with 128.
    let kind = Kind::esp(0x1001, NULL, Some(SHA256));
    let mut nic = Nic::new(Link::Bare);
    nic.try_add(kind.bundle(IN)).unwrap();
    let built = kind.build(b"payload", 17, 1);
    let short = cut(&built, built.sealed(), built.bytes.len() - 4);
    assert_eq!(nic.receive_one(&short).oob.ipsec_receive().crypto_status, TransportEspAuthFailed);
}
