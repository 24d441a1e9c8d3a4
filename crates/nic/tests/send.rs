//! The send path: what goes to the wire, what fails, and that a failure is whole (OV2-SEND-1 to OV2-SEND-8, OV2-OOB-1 to OV2-OOB-3).

mod common;

use common::{Link, Nic, Packet, Sa, Shape};
use ipsec::{AuthJob, Authentication, KeyError, KeyParameters, OpenJob, Provider, Scratch, SealJob, Verdict};
use ndis::{AesKeySize, Direction, HeaderTransmit, IpsecSetting, NetBufferList, OffloadHandle, Status};
use nic::{NicParameters, SoftwareEngine};
use packet::{Buffer, Time};

const OUT: Direction = Direction::Outbound;

/// The list failed whole: nothing on the wire, its bytes and words as they were.
#[track_caller]
fn assert_failed_whole(nic: &mut Nic, list: NetBufferList, counter: &str) {
    let before = nic.counter(counter);
    let (bytes, oob): (Vec<_>, _) = (list.buffers().map(|buffer| buffer.as_slice().to_vec()).collect(), list.oob);
    let (list, wire) = nic.send_one(list);
    assert_eq!(list.status, Status::FAILURE);
    assert!(wire.is_empty());
    assert_eq!(list.buffers().map(|buffer| buffer.as_slice().to_vec()).collect::<Vec<_>>(), bytes);
    assert_eq!(list.oob, oob);
    assert_eq!(nic.counter(counter), before + 1, "{counter}: {:?}", nic.driver.counters());
}

#[test]
fn every_shape_of_packet_is_sealed_as_another_library_does_it() {
    for link in [Link::Bare, Link::Ethernet, Link::Vlan, Link::DoubleVlan] {
        let mut nic = Nic::new(link);
        let mut spi = 0x1000;
        for key in [AesKeySize::Aes128, AesKeySize::Aes192, AesKeySize::Aes256] {
            for icv in [0, 8, 12, 16] {
                for (ipv6, esn, extras) in [(false, false, false), (false, true, true), (true, false, true), (true, true, false)] {
                    spi += 1;
                    let sa = Sa { ipv6, key, icv, esn, high: if esn { 7 } else { 0 }, iv_mask: 0x0123_4567_89ab_cdef, ..Sa::new(spi) };
                    let handle = nic.add(&sa, OUT);
                    for (low, len) in [(1, 0), (2, 1), (3, 64), (4, 1400), (5, 9000)] {
                        let payload: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
                        let packet = sa.unsealed(Shape { link, extras, next_header: 6 }, low, &payload);
                        let sequence = if esn { 7 << 32 | u64::from(low) } else { u64::from(low) };
                        let (list, wire) = nic.send_one(packet.list(Some(handle)));
                        assert_eq!(list.status, Status::SUCCESS, "{:?}", nic.driver.counters());
                        assert!(list.buffer.is_empty());
                        assert_eq!(wire, [sa.sealed(&packet, sequence)], "{link:?} {sa:?} {len}");
                        let iv = &wire[0][packet.esp.start + 8..][..8];
                        assert_eq!(iv, (sequence ^ sa.iv_mask).to_be_bytes(), "OV2-SEND-7");
                    }
                }
            }
        }
        assert_eq!(nic.counter("sent_offloaded"), 3 * 4 * 4 * 5);
    }
}

#[test]
fn lists_go_out_in_order_with_their_marks_and_each_comes_back_once() {
    let mut nic = Nic::new(Link::Ethernet);
    let sas: Vec<Sa> = (0..3).map(|n| Sa::new(0x1001 + n)).collect();
    let handles: Vec<_> = sas.iter().map(|sa| nic.add(sa, OUT)).collect();
    let shape = Shape { link: Link::Ethernet, ..Shape::BARE };
    let mut batch = Vec::new();
    let mut expected = Vec::new();
    for n in 0..200_usize {
        let (sa, handle) = (&sas[n % 3], handles[n % 3]);
        let packet = sa.unsealed(shape, n as u32 + 1, &[n as u8; 40]);
        let mut list = match n % 5 {
            // In clear, one with two buffers, a stale handle, and protected ones with one and with two buffers.
            0 => packet.list(None),
            1 => NetBufferList { more: [Buffer::copy_from(&packet.bytes)].into_iter().collect(), ..packet.list(None) },
            2 => packet.list(OffloadHandle::from_bits(0xdead_beef)),
            _ => packet.list(Some(handle)),
        };
        list.tag = n as u64;
        list.timestamp = Time::from_nanos(n as u64 * 10);
        list.protocol_reserved = [n as u64, !(n as u64)];
        let mut wire = match n % 5 {
            0 => vec![packet.bytes.clone()],
            1 => vec![packet.bytes.clone(); 2],
            2 => vec![],
            _ => vec![sa.sealed(&packet, n as u64 + 1)],
        };
        if n % 5 == 4 {
            let second = sa.unsealed(shape, n as u32 + 1001, &[n as u8; 99]);
            // Buffers of one list share the out-of-band data, so their padding is equal.
            let second = if second.header == packet.header { second } else { sa.unsealed(shape, n as u32 + 1001, &[n as u8; 44]) };
            list.more.push(Buffer::copy_from(&second.bytes));
            wire.push(sa.sealed(&second, n as u64 + 1001));
        }
        expected.extend(wire.into_iter().map(|bytes| (bytes, n as u64)));
        batch.push(list);
    }
    let (done, wire) = nic.send(batch);
    assert_eq!(done.iter().map(|list| list.tag).collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
    for (n, list) in done.iter().enumerate() {
        assert_eq!(list.status, if n % 5 == 2 { Status::FAILURE } else { Status::SUCCESS }, "{n}");
        assert_eq!(list.protocol_reserved, [n as u64, !(n as u64)]);
    }
    let wire: Vec<_> = wire.iter().map(|frame| (frame.buffer.as_slice().to_vec(), frame.tag)).collect();
    assert!(wire == expected, "bytes or order differ");
    let counters = nic.driver.counters();
    assert_eq!((counters.sent_plain, counters.sent_offloaded, counters.send_failed, counters.sends()), (80, 80, 40, 200));
}

/// What is asked, and what counts its refusal.
type Request = (fn(&mut NetBufferList), &'static str);

#[test]
fn a_handle_that_cannot_be_served_fails_the_list_whole() {
    let mut nic = Nic::new(Link::Bare);
    let (out, inbound) = (Sa::new(0x1001), Sa::new(0x2001));
    let handle = nic.add(&out, OUT);
    let inbound_handle = nic.add(&inbound, Direction::Inbound);
    let packet = out.unsealed(Shape::BARE, 1, b"payload");

    assert_failed_whole(&mut nic, inbound.unsealed(Shape::BARE, 1, b"payload").list(Some(inbound_handle)), "send_inbound_handle");
    assert_failed_whole(&mut nic, packet.list(OffloadHandle::from_bits(handle.to_bits() ^ 1 << 40)), "send_stale_handle");
    assert_failed_whole(&mut nic, packet.list(OffloadHandle::from_bits(u64::MAX)), "send_stale_handle");
    let mut list = packet.list(Some(handle));
    list.oob.set_tunnel_handle(Some(handle));
    assert_failed_whole(&mut nic, list, "send_tunnel_handle");
    let mut list = packet.list(None);
    list.oob.set_tunnel_handle(Some(handle));
    assert_failed_whole(&mut nic, list, "send_tunnel_handle");
    // OV2-SEND-4: a segment size alone is no large send.
    let requests: [Request; 3] = [
        (|list| list.oob.large_send = 1400, "send_header_mismatch"),
        (|list| list.oob.checksum = 0b101, "send_unsupported_request"),
        (|list| list.oob.ieee8021q = 7, "send_unsupported_request"),
    ];
    for (change, counter) in requests {
        for handle in [None, Some(handle)] {
            let mut list = packet.list(handle);
            change(&mut list);
            assert_failed_whole(&mut nic, list, counter);
        }
    }

    // A flag that only says which version it is asks for nothing.
    let mut list = packet.list(Some(handle));
    list.oob.checksum = 0b01;
    assert_eq!(nic.send_one(list).0.status, Status::SUCCESS);

    nic.delete(handle);
    assert_failed_whole(&mut nic, packet.list(Some(handle)), "send_stale_handle");
    let again = nic.add(&out, OUT);
    assert_ne!(handle, again);
    assert_failed_whole(&mut nic, packet.list(Some(handle)), "send_stale_handle");

    // Not configured: the miniport itself stops it, and clear text still goes.
    nic.set_ipsec(IpsecSetting::Disabled);
    assert_failed_whole(&mut nic, packet.list(Some(again)), "send_not_configured");
    assert_failed_whole(&mut nic, packet.list(OffloadHandle::from_bits(3)), "send_not_configured");
    let (list, wire) = nic.send_one(packet.list(None));
    assert_eq!((list.status, wire), (Status::SUCCESS, vec![packet.bytes.clone()]));
}

type Change = fn(&mut Packet);

#[test]
fn out_of_band_data_that_does_not_match_the_packet_fails_the_list_whole() {
    let cases: &[(&str, Change)] = &[
        ("send_header_mismatch", |p| p.header.esp_header_offset += 1),
        ("send_header_mismatch", |p| p.header.esp_header_offset = 0),
        ("send_header_mismatch", |p| p.header.esp_header_offset = 255),
        ("send_header_mismatch", |p| p.header.ah_header_offset = 5),
        ("send_header_mismatch", |p| p.bytes[p.esp.start] ^= 1),
        ("send_header_mismatch", |p| p.bytes[p.l3 + 9] = 51),
        ("send_header_mismatch", |p| p.bytes[p.l3 + 9] = 17),
        ("send_trailer_mismatch", |p| p.header.next_header ^= 1),
        ("send_trailer_mismatch", |p| p.header.pad_length ^= 1),
        ("send_trailer_mismatch", |p| p.header = HeaderTransmit { esp_header_offset: p.header.esp_header_offset, ..HeaderTransmit::default() }),
        ("send_trailer_mismatch", |p| {
            let at = p.esp.end - 17;
            p.bytes[at] ^= 1;
        }),
        ("send_lengths", |p| {
            // A pad length of more than there is.
            let at = p.esp.end - 18;
            p.bytes[at] = 200;
            p.header.pad_length = 200;
        }),
        ("send_lengths", |p| p.bytes.push(0)),
        ("send_lengths", |p| p.bytes.extend_from_slice(b"clear text behind the packet")),
        ("send_lengths", |p| set_total_len(p, -1)),
        ("send_malformed", |p| set_total_len(p, 1)),
        ("send_malformed", |p| p.bytes.truncate(p.l3 + 19)),
        ("send_malformed", |p| p.bytes.clear()),
        ("send_malformed", |p| p.bytes[p.l3] = 0x75),
        ("send_malformed", |p| p.bytes[p.l3] = 0x44),
        ("send_malformed", |p| p.l3 += 1),
        ("send_malformed", |p| p.l3 = 60_000),
        ("send_fragment", |p| p.bytes[p.l3 + 6] |= 0x20),
        ("send_fragment", |p| p.bytes[p.l3 + 7] |= 1),
    ];
    for link in [Link::Bare, Link::Ethernet, Link::Vlan] {
        let mut nic = Nic::new(link);
        let sa = Sa::new(0x1001);
        let handle = nic.add(&sa, OUT);
        let shape = Shape { link, ..Shape::BARE };
        let good = sa.unsealed(shape, 1, b"0123456");
        for (number, (counter, change)) in cases.iter().enumerate() {
            let mut bad = good.clone();
            change(&mut bad);
            println!("{link:?} case {number}");
            assert_failed_whole(&mut nic, bad.list(Some(handle)), counter);
            // As the second buffer of a list whose first one is good.
            let mut list = good.list(Some(handle));
            let same_words = bad.header == good.header && bad.l3 == good.l3;
            if same_words {
                list.more.push(Buffer::copy_from(&bad.bytes));
                assert_failed_whole(&mut nic, list, counter);
            }
        }
        assert_eq!(nic.send_one(good.list(Some(handle))).0.status, Status::SUCCESS);
    }
}

fn set_total_len(packet: &mut Packet, difference: i16) {
    let at = packet.l3 + 2;
    let len = u16::from_be_bytes([packet.bytes[at], packet.bytes[at + 1]]).wrapping_add_signed(difference);
    packet.bytes[at..at + 2].copy_from_slice(&len.to_be_bytes());
}

#[test]
fn a_frame_that_does_not_announce_ip_fails() {
    let mut nic = Nic::new(Link::Ethernet);
    let sa = Sa::new(0x1001);
    let handle = nic.add(&sa, OUT);
    for ethertype in [[0x86, 0xdd], [0x08, 0x06], [0x81, 0x00], [0, 40]] {
        let mut packet = sa.unsealed(Shape { link: Link::Ethernet, ..Shape::BARE }, 1, b"payload");
        packet.bytes[12..14].copy_from_slice(&ethertype);
        assert_failed_whole(&mut nic, packet.list(Some(handle)), "send_malformed");
    }
}

#[test]
fn an_sa_of_one_ip_version_does_not_serve_the_other() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001);
    let handle = nic.add(&sa, OUT);
    assert_failed_whole(&mut nic, sa.v6().unsealed(Shape::BARE, 1, b"payload").list(Some(handle)), "send_header_mismatch");
}

#[test]
fn an_icv_of_another_length_does_not_fit_the_trailer() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa { icv: 12, ..Sa::new(0x1001) };
    let handle = nic.add(&sa, OUT);
    let packet = Sa { icv: 16, ..sa }.unsealed(Shape::BARE, 1, &[9; 50]);
    // What stands in the trailer's place is the packet's ICV space.
    assert_failed_whole(&mut nic, packet.list(Some(handle)), "send_failed");
}

#[test]
fn the_packet_that_fills_a_batch_of_jobs_is_sent_like_the_others() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001);
    let handle = nic.add(&sa, OUT);
    for lists in [1, 63, 64, 65, 127, 128, 129] {
        // The last list has three buffers, which straddle the end of a batch of jobs.
        let packets: Vec<_> = (0..lists + 2).map(|n| sa.unsealed(Shape::BARE, n + 1, &n.to_be_bytes())).collect();
        let mut batch: Vec<_> = packets[..lists as usize].iter().map(|packet| packet.list(Some(handle))).collect();
        let last = batch.last_mut().unwrap();
        last.more.extend(packets[lists as usize..].iter().map(|packet| Buffer::copy_from(&packet.bytes)));
        let (done, wire) = nic.send(batch);
        assert!(done.iter().all(|list| list.status.is_success() && list.more.is_empty()));
        let expected: Vec<_> = packets.iter().zip(1..).map(|(packet, sequence)| sa.sealed(packet, sequence)).collect();
        assert!(wire.iter().map(|frame| frame.buffer.as_slice()).eq(expected.iter().map(Vec::as_slice)), "{lists}");
    }
}

/// A provider that breaks its promise: it takes every key and refuses every job.
struct Refusing;

impl Provider for Refusing {
    type Key = ();
    type AuthKey = ();

    fn name(&self) -> &'static str {
        "refusing"
    }

    fn key(&self, _: &KeyParameters<'_>) -> Result<(), KeyError> {
        Ok(())
    }

    fn auth_key(&self, _: Authentication, _: &[u8]) -> Result<(), KeyError> {
        Ok(())
    }

    fn seal(&self, jobs: &mut [SealJob<'_, ()>]) {
        for job in jobs {
            job.verdict = Verdict::Bad;
        }
    }

    fn open(&self, _: &mut [OpenJob<'_, ()>], _: &mut Scratch) {}

    fn authenticate(&self, _: &mut [AuthJob<'_, ()>]) {}
}

#[test]
fn what_a_provider_does_not_seal_does_not_leave() {
    let parameters = NicParameters { medium: packet::Medium::Ip, ..NicParameters::new("test") };
    let mut nic = Nic::with(parameters, || SoftwareEngine::new(Refusing, 4).unwrap());
    nic.activate();
    let sa = Sa::new(0x1001);
    let handle = nic.add(&sa, OUT);
    nic.add(&sa, Direction::Inbound);
    let packet = sa.unsealed(Shape::BARE, 1, b"payload");
    let mut list = packet.list(Some(handle));
    list.more.push(Buffer::copy_from(&packet.bytes));
    let (done, wire) = nic.send(vec![packet.list(None), list, packet.list(None)]);
    assert_eq!(done.iter().map(|list| list.status.is_success()).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(wire.len(), 2);
    assert!(done[1].buffers().all(Buffer::is_empty), "nobody sends it again");
    assert_eq!(nic.counter("send_provider"), 1);
    // A job that was not looked at is no success either.
    let wire = sa.sealed(&packet, 1);
    let list = nic.receive_one(&wire);
    assert_eq!(list.oob.ipsec_receive().crypto_status, ndis::CryptoStatus::TransportEspAuthFailed);
    assert_eq!(list.buffer.as_slice(), wire);
}

#[test]
fn without_the_typed_extension_the_iv_is_the_sequence_number() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001).esn(9);
    let mut bundle = sa.bundle(OUT);
    bundle.extension = ndis::SaExtension::default();
    let handle = nic.try_add(bundle).unwrap();
    let packet = sa.unsealed(Shape::BARE, 0x55, b"payload");
    let (_, wire) = nic.send_one(packet.list(Some(handle)));
    assert_eq!(wire[0][packet.esp.start + 8..][..8], [0, 0, 0, 9, 0, 0, 0, 0x55]);
}
