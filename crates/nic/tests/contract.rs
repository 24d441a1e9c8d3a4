//! What the contract asks of lists and slots beside the cryptography: shared slots, whole packets.

mod common;

use common::{Link, Nic, Sa, Shape};
use ndis::{Direction, OutOfBand, Status, raw};

const IN: Direction = Direction::Inbound;

/// OV2-OOB-6: send and receive forms share slots. A received list that is sent on as it is asks for something that nobody offers, and fails whole; with its
/// slots cleared it goes out as it stands.
#[test]
fn a_received_list_is_sent_on_only_with_cleared_slots() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001);
    nic.add(&sa, IN);
    let packet = sa.unsealed(Shape::BARE, 1, b"payload");
    let good = sa.sealed(&packet, 1);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let strange = Sa::new(0x7777);
    let strange = strange.sealed(&strange.unsealed(Shape::BARE, 1, b"payload"), 1);
    for (wire, is_reported) in [(good, true), (forged, true), (strange, false)] {
        for clear in [false, true] {
            let mut list = nic.receive_one(&wire);
            let bytes = list.buffer.as_slice().to_vec();
            assert_eq!(list.oob != OutOfBand::default(), is_reported);
            if clear {
                list.oob.clear();
                let mut slots = [0; raw::oob::SLOTS];
                raw::oob::encode(&list.oob, &mut slots);
                assert_eq!(slots, [0; raw::oob::SLOTS]);
            }
            let (list, sent) = nic.send_one(list);
            if is_reported && !clear {
                assert_eq!((list.status, list.buffer.as_slice(), sent.len()), (Status::FAILURE, bytes.as_slice(), 0));
            } else {
                assert_eq!((list.status, sent), (Status::SUCCESS, vec![bytes]));
            }
        }
    }
}

/// OV2-RECV-8, OV2-RECV-9: segments of one flow that follow one another, which a NIC without IPsec would put together or split behind their headers, come
/// up one by one, each in one buffer, with nothing said of segments.
#[test]
fn received_packets_are_not_split_and_not_coalesced() {
    for link in [Link::Bare, Link::Ethernet, Link::Vlan] {
        let mut nic = Nic::new(link);
        for sa in [Sa::new(0x1001), Sa::new(0x1002).v6()] {
            nic.add(&sa, IN);
            for extras in [false, true] {
                let shape = Shape { link, extras, next_header: 6 };
                let segments: Vec<_> = (0..40_u32).map(|number| segment(1 + number * 1000, 1000)).collect();
                let packets: Vec<_> = (1..).zip(&segments).map(|(number, segment)| sa.unsealed(shape, number, segment)).collect();
                let wire: Vec<_> = (1..).zip(&packets).map(|(number, packet)| sa.sealed(packet, number)).collect();
                let up = nic.receive(&wire);
                assert_eq!(up.len(), wire.len());
                for ((list, wire), (packet, segment)) in up.iter().zip(&wire).zip(packets.iter().zip(&segments)) {
                    assert!(list.oob.ipsec_receive().crypto_done);
                    assert_eq!((list.buffers().count(), list.buffer.len(), list.oob.large_send), (1, wire.len(), 0));
                    assert_eq!(list.buffer.as_slice()[packet.esp.start + 16..][..segment.len()], **segment);
                }
            }
        }
    }
}

/// A TCP segment without options, with ACK alone.
fn segment(sequence: u32, payload: usize) -> Vec<u8> {
    let mut segment = vec![0; 20 + payload];
    segment[..4].copy_from_slice(&[0x9c, 0x40, 0, 80]);
    segment[4..8].copy_from_slice(&sequence.to_be_bytes());
    segment[12..16].copy_from_slice(&[0x50, 0x10, 0xff, 0xff]);
    segment[20..].fill(sequence as u8);
    segment
}
