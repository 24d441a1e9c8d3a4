//! Sequence numbers and modes of an SA, at the edges.

use core::net::Ipv4Addr;

use ipsec::Crypto;
use ndis::{AesKeySize, AhAssociation, Associations, AuthenticationAlgorithm, EncryptionAlgorithm, Endpoints, EspAssociation, Keyed, SaExtension};
use secret::SecretBytes;

use super::*;

const MAX: u32 = u32::MAX;
const SPI: Spi = Spi(0x1001);

const fn number(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

fn bundle(direction: Direction, extended: bool, high: u32, window: Option<u32>) -> SaBundle {
    SaBundle {
        direction,
        endpoints: Endpoints { ipv6: false, source: None, destination: Some(Ipv4Addr::LOCALHOST.into()) },
        udp_esp: None,
        associations: Associations::Esp(EspAssociation {
            spi: SPI,
            extended_sequence_numbers: extended,
            sequence_number_high: high,
            encryption: Keyed {
                algorithm: EncryptionAlgorithm::AesGcm(AesKeySize::Aes128),
                key: SecretBytes::from((0..20).collect::<Vec<u8>>()),
                additional_info: 0,
            },
            authentication: None,
        }),
        extension: SaExtension { iv_mask: 0, replay_window: window, ..SaExtension::default() },
    }
}

fn sa(direction: Direction, extended: bool, high: u32, window: Option<u32>) -> Sa<Crypto> {
    Sa::new(&Crypto::default(), &bundle(direction, extended, high, window)).unwrap()
}

#[test]
fn numbers_of_32_bits_are_as_they_stand() {
    let (out, inbound) = (sa(Direction::Outbound, false, 0, None), sa(Direction::Inbound, false, 0, Some(64)));
    for low in [0, 1, 1 << 31, MAX, 5] {
        assert_eq!(out.outbound_sequence(Operation::Esp, low), u64::from(low));
        assert_eq!(inbound.inbound_sequence(Operation::Esp, low), u64::from(low));
        inbound.authentic(Operation::Esp, u64::from(low));
    }
}

#[test]
fn the_first_high_half_is_taken_as_it_stands() {
    for direction in [Direction::Outbound, Direction::Inbound] {
        for window in [None, Some(64)] {
            for high in [0, 1, 7, MAX] {
                for low in [0, 1, (1 << 31) - 1, 1 << 31, MAX] {
                    let sa = sa(direction, true, high, window);
                    let sequence =
                        if direction == Direction::Outbound { sa.outbound_sequence(Operation::Esp, low) } else { sa.inbound_sequence(Operation::Esp, low) };
                    assert_eq!(sequence, number(high, low), "{direction:?} {high:#x} {low:#x}");
                }
            }
        }
    }
}

#[test]
fn outbound_numbers_go_over_the_wrap_in_any_order_of_lanes_and_updates() {
    // Lows around two wraps, out of order as lanes may make them, with an update before, in between, after, twice, or never.
    let sent = [
        (3, 0xffff_fff0),
        (3, MAX),
        (3, 0xffff_fffa),
        (4, 0),
        (3, 0xffff_fffe),
        (4, 2),
        (4, 1),
        (4, 0x7000_0000),
        (4, 0xe000_0000),
        (4, MAX),
        (5, 3),
        (4, 0xffff_fff0),
    ];
    for update_at in 0..=sent.len() {
        for again_at in 0..=sent.len() {
            let sa = sa(Direction::Outbound, true, 3, None);
            for (at, &(high, low)) in sent.iter().enumerate() {
                if (at == update_at || at == again_at) && at < 8 {
                    // From 1 on something near the wrap was sent.
                    assert_eq!(sa.update(Operation::Esp, SPI, 4), Ok(()), "{at}");
                }
                assert_eq!(sa.outbound_sequence(Operation::Esp, low), number(high, low), "update at {update_at} and {again_at}, packet {at}");
            }
            assert_eq!(sa.update(Operation::Esp, SPI, 5), Ok(()));
            assert_eq!(sa.update(Operation::Esp, SPI, 4), Err(Status::INVALID_PARAMETER), "high halves never go back");
        }
    }
}

#[test]
fn an_update_far_from_the_wrap_moves_the_reference_to_the_boundary() {
    let out = sa(Direction::Outbound, true, 0, None);
    assert_eq!(out.outbound_sequence(Operation::Esp, 100), 100);
    assert_eq!(out.update(Operation::Esp, SPI, 2), Ok(()));
    assert_eq!(out.outbound_sequence(Operation::Esp, 101), number(2, 101));
    assert_eq!(out.update(Operation::Esp, SPI, 1), Err(Status::INVALID_PARAMETER));

    let inbound = sa(Direction::Inbound, true, 0, Some(64));
    inbound.authentic(Operation::Esp, 100);
    assert_eq!(inbound.update(Operation::Esp, SPI, 2), Ok(()));
    assert_eq!(inbound.inbound_sequence(Operation::Esp, 101), number(2, 101));
    assert_eq!(inbound.inbound_sequence(Operation::Esp, MAX), number(1, MAX), "packets from before the boundary still work");
    inbound.authentic(Operation::Esp, number(2, 101));
    assert_eq!(inbound.update(Operation::Esp, SPI, 1), Ok(()), "late on an inbound SA: of no consequence");
    assert_eq!(inbound.inbound_sequence(Operation::Esp, 102), number(2, 102));
}

#[test]
fn inbound_numbers_follow_the_highest_verified_and_its_window() {
    let inbound = sa(Direction::Inbound, true, 5, Some(64));
    inbound.authentic(Operation::Esp, number(5, 100));
    assert_eq!(inbound.inbound_sequence(Operation::Esp, 37), number(5, 37), "the window's left edge");
    assert_eq!(inbound.inbound_sequence(Operation::Esp, 36), number(6, 36), "left of it: RFC 4303 appendix A2.2");
    let nearest = sa(Direction::Inbound, true, 5, None);
    nearest.authentic(Operation::Esp, number(5, 100));
    assert_eq!(nearest.inbound_sequence(Operation::Esp, 36), number(5, 36), "no window: nearest");
    assert_eq!(nearest.inbound_sequence(Operation::Esp, MAX), number(4, MAX));
}

#[test]
fn inbound_numbers_go_over_the_wrap_however_updates_are_timed() {
    let received = [(3, 0xffff_fff0), (3, MAX), (4, 0), (3, 0xffff_fffe), (4, 2), (4, 1), (4, 30), (4, 5)];
    for window in [None, Some(64)] {
        for update_at in 0..=received.len() {
            let sa = sa(Direction::Inbound, true, 3, window);
            for (at, &(high, low)) in received.iter().enumerate() {
                if at == update_at {
                    assert_eq!(sa.update(Operation::Esp, SPI, 4), Ok(()));
                }
                assert_eq!(sa.inbound_sequence(Operation::Esp, low), number(high, low), "window {window:?}, update at {update_at}, packet {at}");
                sa.authentic(Operation::Esp, number(high, low));
            }
        }
    }
}

#[test]
fn the_deletion_is_asked_for_once_by_a_good_packet() {
    let sa = sa(Direction::Inbound, false, 0, None);
    assert!(!sa.verified(Operation::Esp, 1, false));
    sa.ask_delete();
    assert!(sa.wants_delete(), "on packets that fail it may be overlooked");
    assert!(sa.wants_delete());
    assert!(sa.verified(Operation::Esp, 2, false));
    assert!(!sa.verified(Operation::Esp, 3, false) && !sa.wants_delete());
}

#[test]
fn the_end_of_the_sequence_space_asks_for_deletion() {
    for (extended, last) in [(false, u64::from(MAX)), (true, u64::MAX)] {
        let sa = sa(Direction::Inbound, extended, 0, None);
        assert!(!sa.verified(Operation::Esp, last - NEAR_END, false));
        assert!(sa.verified(Operation::Esp, last - NEAR_END + 1, false));
        assert!(!sa.verified(Operation::Esp, last, false));
    }
}

#[test]
fn an_sa_that_is_kept_to_the_end_asks_only_when_it_is_told_to() {
    let sa = sa(Direction::Inbound, false, 0, None);
    sa.keep_to_the_end();
    assert!(!sa.verified(Operation::Esp, u64::from(MAX), false));
    sa.ask_delete();
    assert!(sa.verified(Operation::Esp, u64::from(MAX), false));
}

#[test]
fn the_mode_is_that_of_the_packet_verified_last() {
    let sa = sa(Direction::Inbound, false, 0, None);
    assert!(!sa.probably_tunnel(Position::Outer));
    sa.verified(Operation::Esp, 1, true);
    assert!(sa.probably_tunnel(Position::Outer));
    sa.verified(Operation::Esp, 2, false);
    assert!(!sa.probably_tunnel(Position::Outer));
}

#[test]
fn what_packets_only_read_is_apart_from_what_they_change() {
    assert!(core::mem::offset_of!(Sa<Crypto>, state) % 64 == 0 && align_of::<Sa<Crypto>>() == 64);
    assert!(size_of::<Sa<Crypto>>() <= 128, "{}", size_of::<Sa<Crypto>>());
}

#[test]
fn keys_that_do_not_fit_are_refused() {
    type Change = fn(&mut EspAssociation);
    let provider = Crypto::default();
    let cases: [(Change, Status); 3] = [
        (|esp| esp.encryption.algorithm = EncryptionAlgorithm::ChaCha20Poly1305, Status::INVALID_DATA),
        (|esp| esp.encryption.key = SecretBytes::from(vec![0; 16]), Status::INVALID_DATA),
        (|esp| esp.encryption.additional_info = 10, Status::INVALID_DATA),
    ];
    for (change, status) in cases {
        let mut bundle = bundle(Direction::Inbound, false, 0, None);
        if let Associations::Esp(esp) = &mut bundle.associations {
            change(esp);
        }
        assert_eq!(Sa::new(&provider, &bundle).err(), Some(status));
    }
}

/// AH over ESP, each with numbers of its own.
fn both(direction: Direction, esp_high: Option<u32>, ah_high: Option<u32>) -> Sa<Crypto> {
    let mut bundle = bundle(direction, esp_high.is_some(), esp_high.unwrap_or(0), Some(64));
    let Associations::Esp(esp) = bundle.associations else { unreachable!() };
    let authentication = Keyed { algorithm: AuthenticationAlgorithm::HmacSha1, key: SecretBytes::from(vec![1; 20]), additional_info: 0 };
    let ah = AhAssociation { spi: Spi(0x2002), extended_sequence_numbers: ah_high.is_some(), sequence_number_high: ah_high.unwrap_or(0), authentication };
    bundle.associations = Associations::AhOverEsp { esp, ah };
    Sa::new(&Crypto::default(), &bundle).unwrap()
}

#[test]
fn associations_have_numbers_of_their_own() {
    let out = both(Direction::Outbound, Some(3), Some(9));
    assert_eq!(out.outbound_sequence(Operation::Esp, 5), number(3, 5));
    assert_eq!(out.outbound_sequence(Operation::Ah, 5), number(9, 5));
    assert_eq!(out.update(Operation::Ah, Spi(0x2002), 10), Ok(()));
    assert_eq!(out.outbound_sequence(Operation::Ah, 6), number(10, 6));
    assert_eq!(out.outbound_sequence(Operation::Esp, 6), number(3, 6));
    assert_eq!(out.update(Operation::Ah, Spi(0x2002), 9), Err(Status::INVALID_PARAMETER), "high halves never go back");
    for (operation, spi) in [(Operation::Ah, SPI), (Operation::Esp, Spi(0x2002)), (Operation::Esp, Spi(0)), (Operation::Esp, Spi(0x1002))] {
        assert_eq!(out.update(operation, spi, 20), Err(Status::INVALID_PARAMETER), "{operation:?} {spi}");
    }

    let inbound = both(Direction::Inbound, None, Some(9));
    assert_eq!(inbound.inbound_sequence(Operation::Esp, 5), 5);
    assert_eq!(inbound.inbound_sequence(Operation::Ah, 5), number(9, 5));
    assert!(inbound.is_unverified(Operation::Ah) && !inbound.is_unverified(Operation::Esp));
    inbound.authentic(Operation::Ah, number(9, 5));
    assert!(!inbound.is_unverified(Operation::Ah));
    assert_eq!(inbound.update(Operation::Esp, SPI, 1), Err(Status::INVALID_PARAMETER), "no extended numbers");
}

#[test]
fn either_association_near_its_end_asks_for_deletion() {
    let sa = both(Direction::Inbound, None, None);
    sa.authentic(Operation::Ah, u64::from(MAX) - 5);
    assert!(sa.verified(Operation::Esp, 7, false));
    assert!(!sa.verified(Operation::Esp, 8, false));
}

#[test]
fn the_mode_of_what_cannot_be_read() {
    use UdpEspType::{Transport, TransportOverUdpTunnel, Tunnel, UdpTransportOverTunnel};
    for (kind, outer) in [(Transport, false), (Tunnel, true), (TransportOverUdpTunnel, true), (UdpTransportOverTunnel, true)] {
        let sa = Sa::new(&Crypto::default(), &SaBundle { udp_esp: Some(kind), ..bundle(Direction::Inbound, false, 0, None) }).unwrap();
        for tunnel in [false, true] {
            sa.verified(Operation::Esp, 1, tunnel);
            assert_eq!(sa.probably_tunnel(Position::Outer), outer, "{kind:?}: the type goes before the mode");
            assert!(!sa.probably_tunnel(Position::Inner), "something is around it");
        }
    }
}

#[test]
fn operations_are_told_apart_by_kind_and_not_by_bits() {
    let sa = both(Direction::Inbound, None, None);
    assert_eq!(sa.operation(), Operation::Ah);
    assert!(sa.has(Operation::Esp, SPI) && sa.has(Operation::Ah, Spi(0x2002)));
    assert!(!sa.has(Operation::Ah, SPI) && !sa.has(Operation::Esp, Spi(0x2002)) && !sa.has(Operation::Esp, Spi(0)));
    let esp = self::sa(Direction::Inbound, false, 0, None);
    assert_eq!(esp.operation(), Operation::Esp);
    assert!(!esp.has(Operation::Ah, Spi(0)), "there is no AH, and no SPI 0");
}
