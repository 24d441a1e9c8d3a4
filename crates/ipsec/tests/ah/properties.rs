//! What must hold for any packet.

use ipsec::{Authentication, Crypto, Provider};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::builder::{DESTINATION, Extension, HOP_BY_HOP, Packet, Piece, atomic, covered, ipv4, ipv6, option, options, routing, source_route, uncovered};

fn ipv4_option() -> impl Strategy<Value = Piece> {
    prop_oneof![
        Just(Piece::fixed(&[1])),
        (select(vec![130, 133, 134, 148, 149]), vec(any::<u8>(), 0..6)).prop_map(|(kind, data)| covered(kind, &data)),
        (select(vec![7, 68, 82, 136, 200, 255]), vec(any::<u8>(), 0..6)).prop_map(|(kind, data)| uncovered(kind, &data)),
    ]
}

/// Options that fit, at most one of them a source route.
fn ipv4_options() -> impl Strategy<Value = (Vec<Piece>, bool)> {
    let route = proptest::option::of((select(vec![131, 137]), 0..=2_usize, vec(any::<[u8; 4]>(), 2)));
    (vec(ipv4_option(), 0..4), route, any::<Index>()).prop_map(|(mut options, route, place)| {
        let routed = route.as_ref().is_some_and(|(_, used, _)| *used < 2);
        if let Some((kind, used, addresses)) = route {
            options.insert(place.index(options.len() + 1), source_route(kind, used, &addresses));
        }
        (options, routed)
    })
}

fn ipv6_options(kind: u8) -> impl Strategy<Value = Extension> {
    let kinds = (1..=255_u8).prop_filter("the home address option has one length", |&kind| kind != 0xc9);
    let one = prop_oneof![Just(Piece::fixed(&[0])), (kinds, vec(any::<u8>(), 0..20)).prop_map(|(kind, data)| option(kind, &data))];
    vec(one, 0..5).prop_map(move |all| options(kind, &all))
}

fn ipv6_chain() -> impl Strategy<Value = Vec<Extension>> {
    let routing = (select(vec![0, 2, 4]), any::<Index>(), vec(any::<[u8; 16]>(), 1..4)).prop_map(|(kind, left, mut addresses)| {
        let left = match kind {
            0 => left.index(addresses.len() + 1),
            2 => {
                addresses.truncate(1);
                left.index(2)
            }
            _ => 0,
        };
        routing(kind, left as u8, &addresses)
    });
    let home = any::<[u8; 16]>().prop_map(|address| options(DESTINATION, &[option(0xc9, &address)]));
    let hop_by_hop = proptest::option::of(ipv6_options(HOP_BY_HOP));
    let rest = vec(prop_oneof![ipv6_options(DESTINATION), routing, home, Just(atomic())], 0..4);
    (hop_by_hop, rest).prop_map(|(first, rest)| first.into_iter().chain(rest).collect())
}

#[derive(Clone, Debug)]
enum Shape {
    V4(Vec<Piece>, bool),
    V6(Vec<Extension>),
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![ipv4_options().prop_map(|(options, routed)| Shape::V4(options, routed)), ipv6_chain().prop_map(Shape::V6)]
}

fn build(shape: &Shape, length: usize, sequence: u32, payload: &[u8]) -> Packet {
    match shape {
        Shape::V4(options, routed) => ipv4(options, *routed, length, sequence, payload),
        Shape::V6(extensions) => ipv6(extensions, length, sequence, payload),
    }
}

fn authentication() -> impl Strategy<Value = Authentication> {
    select(crate::algorithms().collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Sealed by one library and opened by the other, after everything that may change has changed; and not when anything else has.
    #[test]
    fn what_may_change_may_and_nothing_else(
        shape in shape(), authentication in authentication(), extended: bool, wide: bool, sequence: u64,
        sealer in proptest::sample::select(Crypto::with_paths().collect::<Vec<_>>()), opener in proptest::sample::select(Crypto::with_paths().collect::<Vec<_>>()),
        payload in vec(any::<u8>(), 0..80), noise in vec(any::<u8>(), 16), victim: Index,
    ) {
        let sequence = if extended { sequence } else { sequence & 0xffff_ffff };
        let sa = crate::sa(sealer, authentication, extended);
        let length = sa.header_length(if wide { 8 } else { 4 });
        let Packet { piece, ah } = build(&shape, length, sequence as u32, &payload);
        let mut sealed = piece.bytes.clone();
        sa.seal_packet(&sealer, &mut sealed, ah, sequence).unwrap();
        let sa = crate::sa(opener, authentication, extended);
        prop_assert!(sa.open_packet(&opener, &sealed, ah, sequence));

        for (at, byte) in sealed.iter_mut().enumerate() {
            *byte ^= noise[at % noise.len()].rotate_left(at as u32) & piece.mutable[at];
        }
        prop_assert!(sa.open_packet(&opener, &sealed, ah, sequence));

        let covered: Vec<usize> = (0..8 * sealed.len()).filter(|bit| (piece.mutable[bit / 8] | piece.unjudged[bit / 8]) >> (bit % 8) & 1 == 0).collect();
        let bit = *victim.get(&covered);
        sealed[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!sa.open_packet(&opener, &sealed, ah, sequence), "bit {} of byte {}", bit % 8, bit / 8);
    }

    /// Any damage, cut and place: no panic, nothing left behind after an error.
    #[test]
    fn damage_does_no_harm(
        shape in shape(), authentication in authentication(), payload in vec(any::<u8>(), 0..20),
        damage in vec((any::<Index>(), any::<u8>()), 1..6), cut: Index, cut_it: bool, ah_off in -16_isize..=16, move_it: bool,
    ) {
        let crypto = Crypto::default();
        let sa = crate::sa(crypto, authentication, false);
        let Packet { piece, ah } = build(&shape, sa.header_length(8), 7, &payload);
        let mut bytes = piece.bytes;
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut_it {
            bytes.truncate(cut.index(bytes.len()));
        }
        let ah = if move_it { ah.saturating_add_signed(ah_off) } else { ah };
        let before = bytes.clone();
        let mut masked = vec![9; 3];
        let prepared = sa.prepare_open(&bytes, ah, 7, &mut masked);
        prop_assert_eq!(&masked[..3], &[9; 3]);
        match prepared {
            Err(_) => {
                prop_assert_eq!(masked.len(), 3);
                prop_assert!(sa.seal_packet(&crypto, &mut bytes, ah, 7).is_err());
                prop_assert_eq!(bytes, before);
            }
            Ok(part) => {
                let mut jobs = [sa.job(&bytes, &masked, &part)];
                crypto.authenticate(&mut jobs);
                // An AH and an IP header at least, and never more than was there.
                prop_assert!((32..=bytes.len()).contains(&jobs[0].parts[0].len()));
                prop_assert!(jobs[0].parts[1].len() + jobs[0].parts[0].len() <= bytes.len());
                let icv = jobs[0].icv;
                sa.write_icv(&mut bytes, &part, &icv);
                prop_assert!(sa.verify_icv(&bytes, &part, &icv));
            }
        }
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..200), ah in 0..220_usize, version in select(vec![0x40, 0x45, 0x4f, 0x60])) {
        let crypto = Crypto::default();
        let sa = crate::sa(crypto, Authentication::HmacSha256, true);
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = version;
        }
        prop_assert!(!sa.open_packet(&crypto, &bytes, ah, 7));
    }
}

/// Packets of several SAs and shapes in one batch, masked into one buffer.
#[test]
fn a_batch_is_the_same_as_one_by_one() {
    let crypto = Crypto::default();
    let sas: Vec<_> = crate::algorithms().map(|algorithm| crate::sa(crypto, algorithm, true)).collect();
    let sequence = |at: usize| 0xffff_0000_0001 + at as u64;
    let packet = |at: usize| {
        let length = sas[at % sas.len()].header_length(8);
        match at % 3 {
            0 => ipv4(&[], false, length, sequence(at) as u32, &vec![1; at]),
            1 => ipv4(&[uncovered(7, &[4, 0, 0])], false, length, sequence(at) as u32, b"one"),
            _ => ipv6(&[options(HOP_BY_HOP, &[option(0x3e, b"data")]), atomic()], length, sequence(at) as u32, b"two"),
        }
    };
    let mut packets: Vec<Packet> = (0..40).map(packet).collect();
    let mut alone = packets.clone();
    let mut masked = Vec::new();
    let mut parts = Vec::new();
    for (at, Packet { piece, ah }) in packets.iter_mut().enumerate() {
        parts.push(sas[at % sas.len()].prepare_seal(&mut piece.bytes, *ah, sequence(at), &mut masked).unwrap());
    }
    let mut jobs: Vec<_> =
        packets.iter().zip(&parts).enumerate().map(|(at, (packet, part))| sas[at % sas.len()].job(&packet.piece.bytes, &masked, part)).collect();
    crypto.authenticate(&mut jobs);
    let icvs: Vec<_> = jobs.into_iter().map(|job| job.icv).collect();
    for (at, packet) in packets.iter_mut().enumerate() {
        sas[at % sas.len()].write_icv(&mut packet.piece.bytes, &parts[at], &icvs[at]);
        let Packet { piece, ah } = &mut alone[at];
        sas[at % sas.len()].seal_packet(&crypto, &mut piece.bytes, *ah, sequence(at)).unwrap();
        assert_eq!(packet.piece.bytes, piece.bytes);
    }
}

/// OV2-SEND-7: the IV is the number XOR the SA's mask, and only AES-GMAC has one.
#[test]
fn the_iv_is_made_from_the_sequence_number() {
    let crypto = Crypto::default();
    for algorithm in crate::algorithms() {
        let sa = crate::sa(crypto, algorithm, true);
        let Packet { piece, ah } = ipv4(&[], false, sa.header_length(4), 0x0000_0001, b"");
        let mut masked = Vec::new();
        let mut bytes = piece.bytes.clone();
        let part = sa.prepare_seal(&mut bytes, ah, 0xffff_ffff_0000_0001, &mut masked).unwrap();
        let iv = matches!(algorithm, Authentication::AesGmac(_));
        if iv {
            assert_eq!(bytes[32..40], (0xffff_ffff_0000_0001_u64 ^ 0x0123_4567_89ab_cdef).to_be_bytes());
        } else {
            assert_eq!(bytes, piece.bytes);
        }
        let job = sa.job(&bytes, &masked, &part);
        // All of the ICV field is zero, the IV too (RFC 4543 section 4).
        assert!(job.parts[0][32..].iter().all(|&byte| byte == 0));
        assert_eq!(job.nonce != [0; 12], iv);
        assert_eq!(job.parts[2], [0xff; 4]);
        // An ICV that nobody has computed is not written, and not believed.
        let nothing = ipsec::Icv::default();
        assert!(!sa.verify_icv(&bytes, &part, &nothing));
        sa.write_icv(&mut bytes, &part, &nothing);
        assert!(bytes[ah + 12 + 8 * usize::from(iv)..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn no_key_byte_is_shown() {
    for algorithm in crate::algorithms() {
        let shown = format!("{:?}", crate::sa(Crypto::default(), algorithm, false));
        assert_eq!(shown, format!("AhSa {{ authentication: {algorithm:?}, extended_sequence_numbers: false, .. }}"));
    }
}
