//! Sequence numbers through whole engines: extended numbers of each association across the wrap of the low half, and updates that come early, late, twice, or
//! out of order (OV2-SA-6, RFC 4304).

mod common;
#[path = "common/kinds.rs"]
mod kinds;

use common::{Link, Nic};
use kinds::{Built, CBC, GMAC, Half, Kind, NULL, SHA1, SHA256};
use ndis::{CryptoStatus, DirectOid, Direction, OffloadHandle, Operation, Status, UpdateSa};
use packet::Spi;

const IN: Direction = Direction::Inbound;
const OUT: Direction = Direction::Outbound;

/// One kind of each way in which a high half is authenticated: AAD of a combined mode and of GMAC, behind the data of HMAC in ESP and AH, both in one bundle.
fn kinds() -> Vec<Kind> {
    vec![
        Kind::gcm(0x1001),
        Kind::esp(0x1002, kinds::NULL, Some(GMAC)),
        Kind::esp(0x1003, CBC, Some(SHA256)).v6(),
        Kind::ah(0x3001, SHA1),
        Kind::ah(0x3002, GMAC).v6(),
        Kind::both(0x1005, CBC, None, 0x3005, SHA256),
        Kind::both(0x1006, NULL, Some(SHA1), 0x3006, GMAC),
    ]
}

/// A packet of which the associations' numbers have these high halves.
fn packet(kind: &Kind, esp_high: u32, ah_high: u32, low: u32) -> Built {
    let mut kind = *kind;
    kind.esp = kind.esp.map(|esp| Half { esn: Some(esp_high), ..esp });
    kind.ah = kind.ah.map(|ah| Half { esn: Some(ah_high), ..ah });
    kind.build(b"payload", 17, low)
}

/// The bundle, its numbers beginning there.
fn starting(kind: &Kind, esp_high: u32, ah_high: u32) -> Kind {
    let mut kind = *kind;
    kind.esp = kind.esp.map(|esp| Half { esn: Some(esp_high), ..esp });
    kind.ah = kind.ah.map(|ah| Half { esn: Some(ah_high), ..ah });
    kind
}

fn update(nic: &mut Nic, kind: &Kind, handle: OffloadHandle, esp_high: u32, ah_high: u32) -> Vec<Status> {
    let esp = kind.esp.map(|esp| (Operation::Esp, esp.spi, esp_high));
    let ah = kind.ah.map(|ah| (Operation::Ah, ah.spi, ah_high));
    esp.into_iter()
        .chain(ah)
        .map(|(operation, spi, high)| nic.done(DirectOid::UpdateSa(UpdateSa { handle, operation, spi: Spi(spi), sequence_number_high: high })).0)
        .collect()
}

/// the high half goes over the wrap by itself, and an update before, at or after it, repeated, or an old one, changes nothing. ESP and AH of one bundle
/// have numbers of their own.
#[test]
fn r_08_updates_early_late_repeated_and_reordered_change_nothing() {
    const MAX: u32 = u32::MAX;
    // Packets around the wrap, not in order: whether they are after it, and the low half.
    let numbers = [(0, MAX - 20), (0, MAX - 3), (0, MAX), (1, 0), (0, MAX - 1), (1, 3), (1, 2), (1, 40), (1, 5), (1, 1000)];
    for kind in kinds() {
        let (esp_high, ah_high) = (7, 90);
        for direction in [OUT, IN] {
            // The updates to the new half come before these packets; some twice; the old half again.
            for updates in [&[][..], &[1], &[3], &[4, 4], &[2, 8], &[9]] {
                let mut nic = Nic::new(Link::Bare);
                let handle = nic.try_add(starting(&kind, esp_high, ah_high).bundle(direction)).unwrap();
                for (at, &(after, low)) in numbers.iter().enumerate() {
                    for _ in updates.iter().filter(|update| **update == at) {
                        let statuses = update(&mut nic, &kind, handle, esp_high + 1, ah_high + 1);
                        assert!(statuses.iter().all(|status| status.is_success()), "{kind:?} {statuses:?}");
                        let stale = update(&mut nic, &kind, handle, esp_high, ah_high);
                        let expected = if direction == OUT { Status::INVALID_PARAMETER } else { Status::SUCCESS };
                        assert!(stale.iter().all(|status| *status == expected), "high halves never go back: {stale:?}");
                    }
                    let packet = packet(&kind, esp_high + after, ah_high + after, low);
                    let name = format!("{kind:?} {direction:?} updates {updates:?}, packet {at}");
                    if direction == OUT {
                        assert!(nic.send_one(packet.list(&[handle])).1 == [packet.sealed()], "{name}");
                    } else {
                        let list = nic.receive_one(&packet.sealed());
                        assert_eq!((list.oob.ipsec_receive().crypto_done, list.oob.ipsec_receive().crypto_status), (true, CryptoStatus::Success), "{name}");
                    }
                }
            }
        }
    }
}

#[test]
fn associations_of_one_bundle_wrap_on_their_own() {
    let kind = Kind::both(0x1005, CBC, Some(SHA1), 0x3005, SHA256);
    let (mut sender, mut receiver) = (Nic::new(Link::Bare), Nic::new(Link::Bare));
    let handle = sender.try_add(starting(&kind, 1, 5).bundle(OUT)).unwrap();
    let inbound = receiver.try_add(starting(&kind, 1, 5).bundle(IN)).unwrap();
    let carry = |sender: &mut Nic, receiver: &mut Nic, esp_high, ah_high, low| {
        let packet = packet(&kind, esp_high, ah_high, low);
        let wire = sender.send_one(packet.list(&[handle])).1;
        assert!(wire == [packet.sealed()], "{esp_high} {ah_high} {low}");
        assert_eq!(receiver.receive_one(&wire[0]).oob.ipsec_receive().crypto_status, CryptoStatus::Success);
    };
    carry(&mut sender, &mut receiver, 1, 5, 100);
    // Only the AH's numbers are moved on.
    let moved = UpdateSa { handle, operation: Operation::Ah, spi: Spi(0x3005), sequence_number_high: 9 };
    assert_eq!(sender.done(DirectOid::UpdateSa(moved)).0, Status::SUCCESS);
    assert_eq!(receiver.done(DirectOid::UpdateSa(UpdateSa { handle: inbound, ..moved })).0, Status::SUCCESS);
    carry(&mut sender, &mut receiver, 1, 9, 101);
    carry(&mut sender, &mut receiver, 1, 9, 102);
    for (operation, spi) in [(Operation::Esp, 0x3005), (Operation::Ah, 0x1005), (Operation::Esp, 0x1006)] {
        let wrong = UpdateSa { handle, operation, spi: Spi(spi), sequence_number_high: 20 };
        assert_eq!(sender.done(DirectOid::UpdateSa(wrong)).0, Status::INVALID_PARAMETER, "{operation:?} {spi:#x}");
    }
}

/// R-08, many at once: packets of one chunk under an SA whose first packet is among them, forged ones too.
#[test]
fn r_08_a_chunk_that_begins_an_sa_and_wraps_is_read_as_packet_by_packet() {
    for kind in kinds() {
        let built: Vec<_> = (0..80_u32)
            .map(|n| (0xffff_ffd0_u32).wrapping_add(n))
            .map(|low| packet(&kind, 7 + u32::from(low < 0x1000), 8 + u32::from(low < 0x1000), low))
            .collect();
        let wire: Vec<_> = built
            .iter()
            .enumerate()
            .map(|(n, packet)| {
                let mut wire = packet.sealed();
                if n % 5 == 0 {
                    let last = wire.len() - 1;
                    wire[last] ^= 1;
                }
                wire
            })
            .collect();
        let mut nic = Nic::new(Link::Bare);
        nic.try_add(starting(&kind, 7, 8).bundle(IN)).unwrap();
        for (n, list) in nic.receive(&wire).iter().enumerate() {
            assert_eq!(list.oob.ipsec_receive().crypto_status == CryptoStatus::Success, n % 5 != 0, "{kind:?} {n}");
        }
    }
}

/// the first packet's number is taken as it stands; an update is seen by the next packet; without extended numbers no high half is in any ICV.
#[test]
fn r_11_first_packet_next_packet_and_no_high_half_without_extended_numbers() {
    for kind in kinds() {
        let mut nic = Nic::new(Link::Bare);
        let handle = nic.try_add(starting(&kind, 0, 0).bundle(OUT)).unwrap();
        let first = packet(&kind, 0, 0, 1);
        assert!(nic.send_one(first.list(&[handle])).1 == [first.sealed()], "{kind:?}");
        assert!(update(&mut nic, &kind, handle, 3, 4).iter().all(|status| status.is_success()));
        let next = packet(&kind, 3, 4, 2);
        assert!(nic.send_one(next.list(&[handle])).1 == [next.sealed()], "{kind:?}: the next packet");

        // Without: the bundle has no high half to set, and its ICVs are those of 32-bit numbers, over the wrap too.
        let mut nic = Nic::new(Link::Bare);
        let handle = nic.try_add(kind.bundle(OUT)).unwrap();
        assert!(update(&mut nic, &kind, handle, 1, 1).iter().all(|status| *status == Status::INVALID_PARAMETER));
        let mut bundle = starting(&kind, 5, 5).bundle(OUT);
        match &mut bundle.associations {
            ndis::Associations::Esp(esp) | ndis::Associations::AhOverEsp { esp, .. } => esp.extended_sequence_numbers = false,
            ndis::Associations::Ah(ah) => ah.extended_sequence_numbers = false,
        }
        assert_eq!(nic.try_add(bundle), Err(Status::INVALID_DATA), "a high half without extended numbers");
        for low in [1, u32::MAX, 0, 2] {
            let packet = kind.build(b"payload", 17, low);
            assert!(nic.send_one(packet.list(&[handle])).1 == [packet.sealed()], "{kind:?} {low}");
        }
    }
}

/// IVs never repeat under a key for different numbers, those of CBC cannot be told from the number, and NIC and software make the same.
#[test]
fn r_16_ivs_differ_for_each_number_and_those_of_cbc_are_no_counter() {
    for (kind, iv_len) in
        [(Kind::esp(0x1001, CBC, Some(SHA1)), 16), (Kind::gcm(0x1002), 8), (Kind::esp(0x1003, ndis::EncryptionAlgorithm::TripleDesCbc, Some(SHA1)), 8)]
    {
        let mut nic = Nic::new(Link::Bare);
        let handle = nic.try_add(kind.bundle(OUT)).unwrap();
        let ivs: Vec<Vec<u8>> = (1..200)
            .map(|low| {
                let packet = kind.build(b"payload", 17, low);
                let wire = nic.send_one(packet.list(&[handle])).1.remove(0);
                let start = packet.layers[0].esp.as_ref().unwrap().start + 8;
                wire[start..start + iv_len].to_vec()
            })
            .collect();
        let distinct: std::collections::HashSet<_> = ivs.iter().collect();
        assert_eq!(distinct.len(), ivs.len());
        if kind.esp.unwrap().algorithms.0 != kinds::GCM {
            // Neighbours differ in about half of their bits: a counter's would in one or two.
            let differing: u32 = ivs.windows(2).map(|pair| pair[0].iter().zip(&pair[1]).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>()).sum();
            let (eighths, half) = (differing * 8 / (ivs.len() as u32 - 1), iv_len as u32 * 4);
            assert!(eighths.abs_diff(half * 8) < half, "{eighths} eighths of {half}");
        }
    }
}
