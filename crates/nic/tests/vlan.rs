//! 802.1Q tags out of band: inserted on send, stripped on receive, with IPsec and without (OV2-OOB-4, OV2-CAP-2, OV2-CAP-9).

mod common;

use common::{Link, Nic, Sa, Shape};
use ipsec::Crypto;
use ndis::{Direction, Encapsulation, NetBufferList, Offload, OffloadParameters, Oid, SetEncapsulation, Status, TagOutOfBand, TxRx};
use nic::{NicParameters, SoftwareEngine, software_capabilities};
use packet::Buffer;
use proptest::prelude::*;

const IN: Direction = Direction::Inbound;
const OUT: Direction = Direction::Outbound;
const APART: Encapsulation = Encapsulation::IEEE_802_3.union(Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB);

fn nic(encapsulation: Encapsulation, active: Encapsulation) -> Nic {
    let mut hardware = software_capabilities(64);
    hardware.ipsec_v2.encapsulation = encapsulation;
    let make = move || SoftwareEngine::with_hardware(Crypto::default(), &hardware).unwrap();
    let mut nic = Nic::with(NicParameters::new("test"), make);
    let on = SetEncapsulation::On { encapsulation: active, header_size: 14 };
    assert_eq!(nic.set_encapsulation(on, on), Status::SUCCESS);
    nic
}

fn everything() -> Encapsulation {
    software_capabilities(1).ipsec_v2.encapsulation
}

const fn tag(tci: u16) -> Option<TagOutOfBand> {
    TagOutOfBand::new(tci)
}

/// A frame with the tag of `tci` behind its addresses.
fn tagged(frame: &[u8], tci: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0], &tci.to_be_bytes(), &frame[12..]].concat()
}

fn shape(link: Link) -> Shape {
    Shape { link, ..Shape::BARE }
}

/// OV2-OOB-4: with priority, in clear and protected, in front of another tag.
#[test]
fn tags_go_in_front_of_all_others() {
    let mut nic = nic(everything(), Encapsulation::IEEE_802_3);
    let sa = Sa::new(0x1001);
    let handle = nic.add(&sa, OUT);
    for (number, link) in (1..).zip([Link::Ethernet, Link::Vlan]) {
        for tci in [1, 0xfff, 0xe000, 0xa123, 0x1000] {
            let unsealed = sa.unsealed(shape(link), number * 0x1_0000 + u32::from(tci), b"payload");
            let mut list = unsealed.list(Some(handle));
            list.oob.set_tag(tag(tci));
            let expected = sa.sealed(&unsealed, u64::from(number * 0x1_0000 + u32::from(tci)));
            let (done, wire) = nic.send_one(list);
            assert_eq!((done.status, wire), (Status::SUCCESS, vec![tagged(&expected, tci)]), "{link:?} {tci:#x}");
            // In clear, and not IP either.
            for ethertype in [[8, 0], [8, 6]] {
                let mut frame = unsealed.bytes.clone();
                frame[unsealed.l3 - 2..unsealed.l3].copy_from_slice(&ethertype);
                let mut list = NetBufferList::new(Buffer::copy_from(&frame), unsealed.l3 as u16);
                list.oob.set_tag(tag(tci));
                let (done, wire) = nic.send_one(list);
                assert_eq!((done.status, wire), (Status::SUCCESS, vec![tagged(&frame, tci)]));
            }
        }
    }
}

/// Lists of several buffers, and in the middle of a batch.
#[test]
fn every_frame_of_a_list_gets_the_tag_and_others_do_not() {
    let mut nic = nic(everything(), Encapsulation::IEEE_802_3);
    let sa = Sa::new(0x1001);
    let handle = nic.add(&sa, OUT);
    let packets: Vec<_> = (1..=4).map(|low| sa.unsealed(shape(Link::Ethernet), low, b"payload")).collect();
    let mut several = packets[1].list(Some(handle));
    several.more.push(Buffer::copy_from(&packets[2].bytes));
    several.oob.set_tag(tag(5));
    let (done, wire) = nic.send(vec![packets[0].list(Some(handle)), several, packets[3].list(Some(handle))]);
    assert!(done.iter().all(|list| list.status.is_success()));
    let wire: Vec<_> = wire.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect();
    let sealed: Vec<_> = (0..4).map(|at| sa.sealed(&packets[at], at as u64 + 1)).collect();
    assert_eq!(wire, [sealed[0].clone(), tagged(&sealed[1], 5), tagged(&sealed[2], 5), sealed[3].clone()]);
}

/// OV2-CAP-12: a list that cannot have its tag fails, and is as it was.
#[test]
fn tags_that_cannot_go_in_fail_the_list() {
    let sa = Sa::new(0x1001);
    let plain = sa.unsealed(shape(Link::Ethernet), 1, b"payload");
    let refused = |nic: &mut Nic, mut list: NetBufferList, what: &str| {
        list.oob.set_tag(tag(5));
        let before = list.buffer.as_slice().to_vec();
        let (done, wire) = nic.send_one(list);
        assert_eq!((done.status, wire.len(), done.buffer.as_slice()), (Status::FAILURE, 0, &before[..]), "{what}");
        assert_eq!(done.oob.tag(), tag(5), "{what}");
    };
    // With IPsec only where IPsec has the form; without it where any service has.
    let mut in_data = nic(Encapsulation::IEEE_802_3 | Encapsulation::IEEE_802_3_P_AND_Q, Encapsulation::IEEE_802_3);
    let sums = OffloadParameters { udp_checksum_ipv4: Some(TxRx::Both), ..OffloadParameters::default() };
    assert_eq!(in_data.set(Oid::SetParameters(sums)), Status::SUCCESS);
    let handle = in_data.add(&sa, OUT);
    refused(&mut in_data, plain.list(Some(handle)), "IPsec does not know of it");
    let mut list = plain.list(None);
    list.oob.set_tag(tag(5));
    assert_eq!(in_data.send_one(list).1, [tagged(&plain.bytes, 5)], "the checksums do");
    // No room in front.
    let mut all = nic(everything(), Encapsulation::IEEE_802_3);
    let mut list = plain.list(None);
    list.buffer.reset(3, plain.bytes.len()).unwrap();
    refused(&mut all, list, "no room");
    // A link without headers.
    let make = || SoftwareEngine::with_hardware(Crypto::default(), &software_capabilities(64)).unwrap();
    let mut bare = Nic::with(NicParameters { medium: packet::Medium::Ip, ..NicParameters::new("test") }, make);
    bare.activate_null();
    refused(&mut bare, sa.unsealed(Shape::BARE, 1, b"payload").list(None), "bare IP");
    // Reserved bits are no tag.
    let mut list = plain.list(None);
    list.oob.ieee8021q = 0x1_0000;
    assert_eq!(all.send_one(list).0.status, Status::FAILURE);
}

/// OV2-CAP-9: tags come out where that was activated, before anything else is done.
#[test]
fn tags_come_out_where_that_is_activated() {
    let sa = Sa::new(0x1001);
    let packet = sa.unsealed(shape(Link::Ethernet), 1, b"payload");
    let wire = sa.sealed(&packet, 1);
    for (active, out) in [(Encapsulation::IEEE_802_3, false), (APART, true)] {
        let mut nic = nic(everything(), active);
        nic.add(&sa, IN);
        let list = nic.receive_one(&tagged(&wire, 0xa005));
        assert!(list.oob.ipsec_receive().crypto_done);
        assert_eq!((list.oob.tag(), list.l3_offset), if out { (tag(0xa005), 14) } else { (None, 18) });
        let opened = sa.opened(&wire, packet.esp.clone(), 1).unwrap();
        assert_eq!(list.buffer.as_slice(), if out { opened } else { tagged(&opened, 0xa005) });
        // One of nothing cannot be told; a service tag is none; of two of them the first comes out.
        let list = nic.receive_one(&tagged(&wire, 0));
        assert_eq!((list.oob.tag(), list.l3_offset), (None, 18));
        let service = [&wire[..12], &[0x88, 0xa8, 0, 9], &wire[12..]].concat();
        assert_eq!(nic.receive_one(&service).oob.tag(), None);
        let list = nic.receive_one(&tagged(&tagged(&wire, 7), 8));
        assert_eq!((list.oob.tag(), list.l3_offset), if out { (tag(8), 18) } else { (None, 22) });
        assert!(list.oob.ipsec_receive().crypto_done);
        // Also of what is not IP.
        let list = nic.receive_one(&tagged(&[&[1; 12][..], &[8, 6], &[0; 46]].concat(), 3));
        assert_eq!(list.oob.tag(), if out { tag(3) } else { None });
    }
}

/// OV2-CAP-2, OV2-RECV-4: the card of which the data sheet says that it does not recognise tagged frames.
#[test]
fn frames_with_tags_that_the_nic_does_not_know_come_up_unchanged_and_are_refused_on_send() {
    let sa = Sa::new(0x1001);
    for link in [Link::Vlan, Link::DoubleVlan] {
        let mut nic = nic(Encapsulation::IEEE_802_3, Encapsulation::IEEE_802_3);
        let handle = nic.add(&sa, OUT);
        nic.add(&sa, IN);
        let packet = sa.unsealed(shape(link), 1, b"payload");
        let (done, wire) = nic.send_one(packet.list(Some(handle)));
        assert_eq!((done.status, wire.len(), done.buffer.as_slice()), (Status::FAILURE, 0, &packet.bytes[..]));
        let sealed = sa.sealed(&packet, 1);
        let list = nic.receive_one(&sealed);
        assert!(!list.oob.ipsec_receive().crypto_done);
        assert_eq!(list.buffer.as_slice(), sealed);
        // Without tags it does them.
        let plain = sa.unsealed(shape(Link::Ethernet), 2, b"payload");
        assert_eq!(nic.send_one(plain.list(Some(handle))).1, [sa.sealed(&plain, 2)]);
        assert!(nic.receive_one(&sa.sealed(&plain, 2)).oob.ipsec_receive().crypto_done);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// OV2-CAP-12: over any encapsulations a tagged frame is done, either way, if and only if that form is advertised.
    #[test]
    fn a_form_is_done_that_is_advertised_and_no_other(bits in 0_u32..16, apart: bool, out_of_band: bool, data: bool, tci in 1_u16..) {
        let encapsulation = Encapsulation::from_bits_truncate(bits) | Encapsulation::IEEE_802_3;
        let mut hardware = Offload { ipsec_v2: software_capabilities(64).ipsec_v2, ..Offload::default() };
        hardware.ipsec_v2.encapsulation = encapsulation;
        let active = Encapsulation::IEEE_802_3 | if apart { Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB } else { Encapsulation::empty() };
        let make = move || SoftwareEngine::with_hardware(Crypto::default(), &hardware).unwrap();
        let mut nic = Nic::with(NicParameters::new("test"), make);
        let on = SetEncapsulation::On { encapsulation: active, header_size: 14 };
        let takes_apart = encapsulation.contains(Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB);
        let activated = nic.set_encapsulation(on, on).is_success();
        prop_assert_eq!(activated, takes_apart || !apart);
        let sa = Sa::new(0x1001);
        let (out, _inward) = (nic.add(&sa, OUT), nic.add(&sa, IN));
        let link = if data { Link::Vlan } else { Link::Ethernet };
        let packet = sa.unsealed(shape(link), 1, b"payload");
        let mut list = packet.list(Some(out));
        list.oob.set_tag(if out_of_band { tag(tci) } else { None });
        let takes_data = encapsulation.contains(Encapsulation::IEEE_802_3_P_AND_Q);
        let goes = (!out_of_band || takes_apart) && (!data || takes_data);
        let (done, wire) = nic.send_one(list);
        prop_assert_eq!(done.status.is_success(), goes);
        let sealed = sa.sealed(&packet, 1);
        let sealed = if out_of_band { tagged(&sealed, tci) } else { sealed };
        prop_assert_eq!(&wire, &if goes { vec![sealed.clone()] } else { vec![] });
        // In: what is left in the data must be a form that it takes.
        let list = nic.receive_one(&sealed);
        let strips = activated && apart;
        let tags = usize::from(out_of_band) + usize::from(data);
        let left = tags - usize::from(strips && tags != 0);
        prop_assert_eq!(list.oob.tag().is_some(), strips && tags != 0);
        prop_assert_eq!(list.oob.ipsec_receive().crypto_done, activated && (left == 0 || takes_data));
    }
}
