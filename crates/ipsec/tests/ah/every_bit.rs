//! Every bit of every shape, changed alone: those that may change on the way do no harm, any other is found out.

use ipsec::{Authentication, Crypto};

use crate::builder::{self, DESTINATION, HOP_BY_HOP, Packet, Piece, address, atomic, covered, ipv4, ipv6, option, options, routing, source_route, uncovered};

const SEQUENCE: u64 = 0x0a0b_0c0d_4000_0007;

fn shapes(ah_length: usize) -> Vec<(&'static str, Packet)> {
    let payload: Vec<u8> = (0..21).collect();
    let no_operation = Piece::fixed(&[1]);
    let four = |options: &[Piece], routed| ipv4(options, routed, ah_length, SEQUENCE as u32, &payload);
    let six = |extensions: &[builder::Extension]| ipv6(extensions, ah_length, SEQUENCE as u32, &payload);
    let route = [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]];
    let some = [option(0x3e, &[1, 2, 3]), option(0x1e, &[4, 5, 6, 7]), Piece::fixed(&[0, 0]), option(0xe5, &[]), option(0x63, &[9; 11])];
    let home = option(0xc9, &address(9));
    let mut shapes = vec![
        ("IPv4", four(&[], false)),
        (
            "covered options",
            four(
                &[covered(0x94, &[0, 0]), covered(0x82, &[7; 9]), no_operation.clone(), covered(0x85, &[1]), covered(0x86, &[]), covered(0x95, &[1, 2])],
                false,
            ),
        ),
        (
            "uncovered options",
            four(&[uncovered(7, &[4, 0, 0, 0, 0]), no_operation.clone(), uncovered(0x44, &[5, 0]), uncovered(0xff, &[]), uncovered(0x88, &[1, 2])], false),
        ),
        ("both", four(&[covered(0x94, &[0, 0]), uncovered(0x12, &[3; 10]), no_operation, covered(0x82, &[1])], false)),
        ("route used up", four(&[source_route(0x83, 3, &route)], false)),
        ("route not begun", four(&[covered(0x94, &[0, 0]), source_route(0x89, 0, &route)], true)),
        ("route begun", four(&[source_route(0x83, 2, &route), uncovered(7, &[4, 1])], true)),
    ];
    if ah_length.is_multiple_of(8) {
        shapes.extend([
            ("IPv6", six(&[])),
            ("hop-by-hop", six(&[options(HOP_BY_HOP, &some)])),
            ("destination", six(&[options(DESTINATION, &some)])),
            ("home", six(&[options(DESTINATION, &[Piece::fixed(&[0]), home.clone()])])),
            ("routing 0 arrived", six(&[routing(0, 0, &[address(3), address(4)])])),
            ("routing 0", six(&[routing(0, 2, &[address(3), address(4), address(5)])])),
            ("routing 2", six(&[routing(2, 1, &[address(3)])])),
            ("routing 4 arrived", six(&[routing(4, 0, &[address(3)])])),
            ("atomic", six(&[atomic()])),
            (
                "everything",
                six(&[
                    options(HOP_BY_HOP, &some),
                    options(DESTINATION, &some),
                    routing(0, 1, &[address(3), address(4)]),
                    atomic(),
                    options(DESTINATION, &[home]),
                ]),
            ),
        ]);
    }
    shapes
}

fn check(authentication: Authentication, extended: bool) {
    let crypto = Crypto::default();
    let sa = crate::sa(crypto, authentication, extended);
    let sequence = if extended { SEQUENCE } else { SEQUENCE & 0xffff_ffff };
    let mut shapes_seen = 0;
    for alignment in [4, 8] {
        for (name, Packet { piece, ah }) in shapes(sa.header_length(alignment)) {
            let context = format!("{name}, {authentication}, aligned to {alignment}");
            let mut sealed = piece.bytes.clone();
            sa.seal_packet(&crypto, &mut sealed, ah, sequence).unwrap_or_else(|error| panic!("{context}: {error}"));
            let icv = ah + 12..ah + 12 + sa.icv_field_length();
            assert!((0..sealed.len()).all(|at| icv.contains(&at) || sealed[at] == piece.bytes[at]), "{context}: only the ICV field is written");
            assert!(sa.open_packet(&crypto, &sealed, ah, sequence), "{context}");
            for bit in 0..8 * sealed.len() {
                let (at, bit) = (bit / 8, 1 << (bit % 8));
                if piece.unjudged[at] & bit != 0 {
                    continue;
                }
                sealed[at] ^= bit;
                let good = sa.open_packet(&crypto, &sealed, ah, sequence);
                sealed[at] ^= bit;
                assert_eq!(good, piece.mutable[at] & bit != 0, "{context}: bit {bit:#04x} of byte {at}");
            }
            shapes_seen += 1;
        }
    }
    assert!(shapes_seen >= 17, "{shapes_seen} shapes");
}

#[test]
fn hmac_sha1() {
    check(Authentication::HmacSha1, false);
}

#[test]
fn hmac_sha256() {
    check(Authentication::HmacSha256, true);
}

#[test]
fn hmac_sha512() {
    check(Authentication::HmacSha512, false);
}

#[test]
fn aes_gmac() {
    check(Authentication::AesGmac(ipsec::AesKeySize::Aes256), true);
}
