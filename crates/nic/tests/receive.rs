//! The receive path: verdicts, bytes, order (OV2-RECV-1 to OV2-RECV-6, OV2-OOB-3, OV2-OOB-5).

mod common;

use common::{Link, Nic, ON, Packet, Sa, Shape};
use ndis::{AesKeySize, CryptoStatus, Direction, HeaderReceive, IpsecReceive, IpsecSetting, NetBufferList, OutOfBand, SetEncapsulation};

const IN: Direction = Direction::Inbound;

/// A packet of the oracle's: as it was in clear, and as it is on the wire.
fn packet(sa: &Sa, shape: Shape, sequence: u64, payload: &[u8]) -> (Packet, Vec<u8>) {
    let packet = sa.unsealed(shape, sequence as u32, payload);
    let wire = sa.sealed(&packet, sequence);
    (packet, wire)
}

#[track_caller]
fn assert_untouched(list: &NetBufferList, wire: &[u8]) {
    assert_eq!(list.oob, OutOfBand::default());
    assert_eq!(list.buffer.as_slice(), wire);
}

#[track_caller]
fn assert_failed(list: &NetBufferList, wire: &[u8], status: CryptoStatus) {
    let expected = IpsecReceive { sa_delete_request: false, crypto_done: true, next_crypto_done: false, crypto_status: status };
    assert_eq!(list.oob.ipsec_receive(), expected);
    assert_eq!(list.oob.header_receive(), None);
    assert_eq!(list.buffer.as_slice(), wire, "the bytes as they arrived");
}

/// Headers stay, the payload is in clear where it was, and out-of-band data says what the trailer said.
#[track_caller]
fn assert_good(list: &NetBufferList, packet: &Packet, sa: &Sa) {
    let expected = IpsecReceive { sa_delete_request: false, crypto_done: true, next_crypto_done: false, crypto_status: CryptoStatus::Success };
    assert_eq!(list.oob.ipsec_receive(), expected);
    let header = HeaderReceive { next_header: packet.header.next_header, pad_length: packet.header.pad_length };
    assert_eq!(list.oob.header_receive(), Some(header));
    assert_eq!(list.oob.tunnel_bits(), 0);
    assert_eq!(usize::from(list.l3_offset), packet.l3);
    let text = sa.oracle().text(packet.esp.len()).unwrap();
    let text = packet.esp.start + text.start..packet.esp.start + text.end;
    assert_eq!(list.buffer.as_slice()[text.clone()], packet.bytes[text]);
    assert_eq!(list.buffer.as_slice()[..packet.esp.start + 8], packet.bytes[..packet.esp.start + 8]);
    assert_eq!(list.buffer.len(), packet.bytes.len());
}

#[test]
fn every_shape_of_packet_is_opened_in_place() {
    for link in [Link::Bare, Link::Ethernet, Link::Vlan, Link::DoubleVlan] {
        let mut nic = Nic::new(link);
        let mut spi = 0x1000;
        for key in [AesKeySize::Aes128, AesKeySize::Aes192, AesKeySize::Aes256] {
            for icv in [0, 8, 12, 16] {
                for (ipv6, esn, extras) in [(false, false, false), (false, true, true), (true, false, true), (true, true, false)] {
                    spi += 1;
                    let sa = Sa { ipv6, key, icv, esn, high: if esn { 7 } else { 0 }, iv_mask: u64::MAX, ..Sa::new(spi) };
                    nic.add(&sa, IN);
                    for (low, len) in [(1, 0), (2, 1), (3, 64), (4, 1400), (5, 9000)] {
                        let payload: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
                        let sequence = if esn { 7 << 32 | low } else { low };
                        let (packet, wire) = packet(&sa, Shape { link, extras, next_header: 6 }, sequence, &payload);
                        assert_good(&nic.receive_one(&wire), &packet, &sa);
                    }
                }
            }
        }
        assert_eq!(nic.counter("received_crypto_good"), 3 * 4 * 4 * 5);
    }
}

#[test]
fn every_packet_comes_up_in_order_whatever_it_is() {
    let mut nic = Nic::new(Link::Ethernet);
    let sa = Sa::new(0x1001);
    nic.add(&sa, IN);
    let shape = Shape { link: Link::Ethernet, ..Shape::BARE };
    for count in [1, 63, 64, 65, 200] {
        let mut frames = Vec::new();
        for n in 0..count {
            let (_, mut wire) = packet(&sa, shape, n + 1, &n.to_be_bytes());
            match n % 5 {
                1 => wire[60] ^= 1,
                2 => wire = Sa::new(0x9999).unsealed(shape, 1, b"no SA").bytes,
                3 => wire.truncate(n as usize % 60),
                4 => wire[12] = 0x99,
                _ => {}
            }
            frames.push(wire);
        }
        let up = nic.receive(&frames);
        assert_eq!(up.len(), frames.len());
        for (n, (list, wire)) in up.iter().zip(&frames).enumerate() {
            let receive = list.oob.ipsec_receive();
            match n % 5 {
                0 => assert_eq!((receive.crypto_done, receive.crypto_status), (true, CryptoStatus::Success)),
                1 => assert_failed(list, wire, CryptoStatus::TransportEspAuthFailed),
                _ => assert_untouched(list, wire),
            }
            assert_eq!(list.buffer.len(), wire.len());
        }
    }
    assert_eq!(nic.driver.counters().receives(), 1 + 63 + 64 + 65 + 200);
}

#[test]
fn a_byte_changed_anywhere_under_the_icv_is_never_a_success() {
    for sa in [Sa::new(0x1001), Sa::new(0x1002).v6(), Sa::new(0x1003).esn(3), Sa { icv: 8, ..Sa::new(0x1004) }] {
        let mut nic = Nic::new(Link::Bare);
        nic.add(&sa, IN);
        let sequence = u64::from(sa.high) << 32 | 0x77;
        let (packet, wire) = packet(&sa, Shape::BARE, sequence, b"something to protect");
        for at in packet.esp.clone() {
            for bit in [0x01, 0x80] {
                let mut changed = wire.clone();
                changed[at] ^= bit;
                let list = nic.receive_one(&changed);
                if at < packet.esp.start + 4 {
                    // Another SPI, under which there is no SA.
                    assert_untouched(&list, &changed);
                } else {
                    assert_failed(&list, &changed, CryptoStatus::TransportEspAuthFailed);
                }
            }
        }
        assert_good(&nic.receive_one(&wire), &packet, &sa);
    }
}

#[test]
fn what_matches_no_sa_is_untouched() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa { source: true, ..Sa::new(0x1001) };
    nic.add(&sa, IN);
    let outbound = Sa::new(0x3001);
    nic.add(&outbound, Direction::Outbound);
    let (good, wire) = packet(&sa, Shape::BARE, 1, b"payload");

    let mut other_destination = wire.clone();
    other_destination[19] ^= 1;
    let mut other_source = wire.clone();
    other_source[15] ^= 1;
    let (_, other_spi) = packet(&Sa::new(0x1002), Shape::BARE, 1, b"payload");
    let (_, of_outbound) = packet(&outbound, Shape::BARE, 1, b"payload");
    let (_, mut spi_zero) = packet(&Sa::new(0x1002), Shape::BARE, 1, b"payload");
    spi_zero[20..24].fill(0);
    // The same SPI over IPv6.
    let (_, other_family) = packet(&sa.v6(), Shape::BARE, 1, b"payload");
    for wire in [other_destination, other_source, other_spi, of_outbound, spi_zero, other_family] {
        assert_untouched(&nic.receive_one(&wire), &wire);
    }
    assert_eq!(nic.counter("receive_no_sa"), 6, "one for each, the SPI that is never looked up included");
    assert_good(&nic.receive_one(&wire), &good, &sa);
}

#[test]
fn wildcards_match_any_address_of_their_family_and_exact_addresses_go_first() {
    let mut nic = Nic::new(Link::Bare);
    let any = Sa { destination: false, ..Sa::new(0x1001) };
    nic.add(&any, IN);
    let (clear, wire) = packet(&any, Shape::BARE, 1, b"payload");
    assert_good(&nic.receive_one(&wire), &clear, &any);
    let (_, wire6) = packet(&any.v6(), Shape::BARE, 1, b"payload");
    assert_untouched(&nic.receive_one(&wire6), &wire6);

    // One with the exact address and another key takes the packets from it.
    let exact = Sa { key: AesKeySize::Aes256, ..Sa::new(0x1001) };
    nic.add(&exact, IN);
    let (clear, wire) = packet(&exact, Shape::BARE, 2, b"payload");
    assert_good(&nic.receive_one(&wire), &clear, &exact);

    // One whose source filter does not let the packet in gives way to the wildcard.
    let mut nic = Nic::new(Link::Bare);
    nic.add(&any, IN);
    let filtered = Sa { source: true, key: AesKeySize::Aes256, ..Sa::new(0x1001) };
    nic.add(&filtered, IN);
    let (mut clear, _) = packet(&any, Shape::BARE, 3, b"payload");
    clear.bytes[15] ^= 9;
    let wire = any.sealed(&clear, 3);
    assert_good(&nic.receive_one(&wire), &clear, &any);
}

#[test]
fn ah_to_an_esp_sa_is_an_invalid_protocol() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001);
    nic.add(&sa, IN);
    let ah = |spi: u32| [&[50, 4, 0, 0][..], &spi.to_be_bytes(), &[0, 0, 0, 1], &[0xAA; 12]].concat();
    for esp_spi in [0x1001, 0x2002] {
        let (_, inner) = packet(&Sa::new(esp_spi), Shape::BARE, 1, b"payload");
        let mut wire = [&inner[..20], &ah(0x1001), &inner[20..]].concat();
        wire[9] = 51;
        let total = wire.len() as u16;
        wire[2..4].copy_from_slice(&total.to_be_bytes());
        assert_failed(&nic.receive_one(&wire), &wire, CryptoStatus::InvalidProtocol);
        // Under another SPI it is none of this NIC's business, even if the ESP inside is under one of its SAs.
        wire[20..44].copy_from_slice(&ah(0x7777));
        assert_untouched(&nic.receive_one(&wire), &wire);
    }
}

#[test]
fn what_lies_outside_the_capabilities_is_untouched() {
    let mut nic = Nic::new(Link::Bare);
    let (sa, sa6) = (Sa::new(0x1001), Sa::new(0x1001).v6());
    nic.add(&sa, IN);
    nic.add(&sa6, IN);
    let (_, wire) = packet(&sa, Shape::BARE, 1, b"payload");
    for (at, bits) in [(6, 0x20), (7, 1), (6, 0x01)] {
        let mut fragment = wire.clone();
        fragment[at] |= bits;
        assert_untouched(&nic.receive_one(&fragment), &fragment);
    }
    assert_eq!(nic.counter("receive_outside_capabilities"), 3);

    // IPv6: a first fragment is one, an atomic fragment is not.
    let (clear, wire6) = packet(&sa6, Shape { extras: true, ..Shape::BARE }, 1, b"payload");
    for (fragment_word, part) in [([0, 0], false), ([0, 1], true), ([0, 8], true)] {
        let mut fragment = wire6.clone();
        fragment[6] = 44;
        fragment[40..48].copy_from_slice(&[50, 0, fragment_word[0], fragment_word[1], 0, 0, 0, 1]);
        let list = nic.receive_one(&fragment);
        if part {
            assert_untouched(&list, &fragment);
        } else {
            assert_eq!(list.oob.ipsec_receive().crypto_status, CryptoStatus::Success);
            assert!(list.oob.ipsec_receive().crypto_done);
        }
    }
    assert_good(&nic.receive_one(&wire6), &clear, &sa6);
}

#[test]
fn packets_that_are_cut_or_malformed_are_untouched() {
    for (link, ipv6) in [(Link::Bare, false), (Link::Bare, true), (Link::Vlan, false), (Link::Ethernet, true)] {
        let mut nic = Nic::new(link);
        let sa = Sa { ipv6, ..Sa::new(0x1001) };
        nic.add(&sa, IN);
        let (_, wire) = packet(&sa, Shape { link, ..Shape::BARE }, 1, b"payload");
        for len in 0..wire.len() {
            assert_untouched(&nic.receive_one(&wire[..len]), &wire[..len]);
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_invalid_syntax() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001);
    nic.add(&sa, IN);
    let (clear, wire) = packet(&sa, Shape::BARE, 1, b"");
    // From just the SPI to one byte less than the smallest packet: 8 + 8 + 2 + 16.
    for esp_len in 4..34 {
        let mut short = wire[..20 + esp_len].to_vec();
        short[3] = short.len() as u8;
        assert_failed(&nic.receive_one(&short), &short, CryptoStatus::InvalidPacketSyntax);
    }
    for esp_len in 0..4 {
        let mut short = wire[..20 + esp_len].to_vec();
        short[3] = short.len() as u8;
        assert_untouched(&nic.receive_one(&short), &short);
    }
    assert_good(&nic.receive_one(&wire), &clear, &sa);
}

#[test]
fn link_padding_behind_the_packet_is_left_alone() {
    let mut nic = Nic::new(Link::Ethernet);
    let sa = Sa::new(0x1001);
    nic.add(&sa, IN);
    let (clear, wire) = packet(&sa, Shape { link: Link::Ethernet, ..Shape::BARE }, 1, b"payload");
    let padded = [&wire[..], &[0x55; 9]].concat();
    let mut list = nic.receive_one(&padded);
    assert_eq!(list.buffer.as_slice()[wire.len()..], [0x55; 9]);
    list.buffer.trim_back(9);
    assert_good(&list, &clear, &sa);
}

/// A packet whose text is as given, sealed by the oracle: what a peer with the key can send.
fn authentic(sa: &Sa, sequence: u32, text: &[u8]) -> Vec<u8> {
    let mut packet = sa.unsealed(Shape::BARE, sequence, &vec![0; text.len() - 2]);
    let range = packet.esp.start + 16..packet.esp.end - 16;
    assert_eq!(range.len(), text.len(), "a length without padding");
    packet.bytes[range].copy_from_slice(text);
    sa.sealed(&packet, u64::from(sequence))
}

#[test]
fn an_authentic_packet_with_senseless_content_fails_with_the_bytes_that_it_came_with() {
    let sa = Sa::new(0x1001);
    // Trailers: pad length 11 of 10 carried, 255 of 10; inner packets whose version is another, none, or that are not there.
    let cases: [(&[u8], CryptoStatus); 7] = [
        (&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11, 17], CryptoStatus::InvalidPacketSyntax),
        (&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 17], CryptoStatus::InvalidPacketSyntax),
        (&[1, 4], CryptoStatus::InvalidPacketSyntax),
        (&[0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4], CryptoStatus::GenericError),
        (&[0x45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 41], CryptoStatus::GenericError),
        (&[0xf5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4], CryptoStatus::GenericError),
        (&[0x45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 4], CryptoStatus::GenericError),
    ];
    let mut nic = Nic::new(Link::Bare);
    nic.add(&sa, IN);
    for (sequence, (text, status)) in (1..).zip(cases) {
        let wire = if text.len() == 2 {
            // Not a multiple of 4: some senders do not pad.
            let mut packet = sa.unsealed(Shape::BARE, sequence, &[]);
            packet.bytes.truncate(packet.bytes.len() - 2);
            packet.esp.end -= 2;
            packet.bytes[3] -= 2;
            let at = packet.esp.start + 16;
            packet.bytes[at..at + 2].copy_from_slice(text);
            unpadded(&sa, &packet, u64::from(sequence))
        } else {
            authentic(&sa, sequence, text)
        };
        assert_failed(&nic.receive_one(&wire), &wire, status);
    }
    for (sequence, text) in
        [(100, &[0x45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4]), (101, &[0x60, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 41]), (102, &[9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 10, 59])]
    {
        let list = nic.receive_one(&authentic(&sa, sequence, text));
        assert_eq!(list.oob.ipsec_receive().crypto_status, CryptoStatus::Success);
        assert_eq!(list.oob.header_receive(), Some(HeaderReceive { next_header: text[11], pad_length: text[10] }));
    }
}

/// Seals text that is not aligned, which the transforms refuse to send.
fn unpadded(sa: &Sa, packet: &Packet, sequence: u64) -> Vec<u8> {
    use ipsec::{Data, Provider, RustCrypto, SealJob};
    let mut bytes = packet.bytes.clone();
    let oracle = sa.oracle();
    let (esp, mut icv) = (packet.esp.clone(), [0; 16]);
    bytes[esp.start + 8..esp.start + 16].copy_from_slice(&sequence.to_be_bytes());
    // The job of opening knows key, nonce and AAD.
    let mut copy = bytes[esp.clone()].to_vec();
    let job = oracle.open_job(&mut copy, sequence).unwrap();
    let (key, nonce, aad) = (job.key, job.nonce, job.aad);
    RustCrypto.seal(&mut [SealJob::new(key, nonce, aad, Data::InPlace(&mut bytes[esp.start + 16..esp.end - 16]), &mut icv)]);
    bytes[esp.end - 16..esp.end].copy_from_slice(&icv);
    bytes
}

#[test]
fn a_failure_names_the_mode_that_was_verified_last() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001);
    nic.add(&sa, IN);
    let (_, mut forged) = packet(&sa, Shape::BARE, 9, b"payload");
    *forged.last_mut().unwrap() ^= 1;
    assert_failed(&nic.receive_one(&forged), &forged, CryptoStatus::TransportEspAuthFailed);
    for (sequence, text, status) in [
        (1, &[0x45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4], CryptoStatus::TunnelEspAuthFailed),
        (2, &[0x45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 17], CryptoStatus::TransportEspAuthFailed),
        (3, &[0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 41], CryptoStatus::TunnelEspAuthFailed),
    ] {
        nic.receive_one(&authentic(&sa, sequence, text));
        assert_failed(&nic.receive_one(&forged), &forged, status);
    }
}

#[test]
fn extended_numbers_are_inferred_from_verified_packets_only() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001).esn(2);
    nic.add(&sa, IN);
    let good = |nic: &mut Nic, high: u64, low: u64| {
        let sequence = high << 32 | low;
        let (clear, wire) = packet(&sa, Shape::BARE, sequence, b"payload");
        assert_good(&nic.receive_one(&wire), &clear, &sa);
    };
    good(&mut nic, 2, 0xffff_fff0);
    // A forged packet whose low half is far ahead does not move the reference.
    for low in [0x7000_0000, 0x1000_0000] {
        let (_, mut forged) = packet(&sa, Shape::BARE, 3 << 32 | low, b"payload");
        *forged.last_mut().unwrap() ^= 1;
        assert_failed(&nic.receive_one(&forged), &forged, CryptoStatus::TransportEspAuthFailed);
    }
    for (high, low) in [(2, 0xffff_ffff), (3, 0), (2, 0xffff_fff7), (3, 5), (2, 0xffff_ffff), (3, 0xffff_0000)] {
        good(&mut nic, high, low);
    }
    // A packet sealed under the number of another wrap does not pass.
    let (_, wrong) = packet(&sa, Shape::BARE, 5 << 32 | 0xffff_0001, b"payload");
    assert_failed(&nic.receive_one(&wrong), &wrong, CryptoStatus::TransportEspAuthFailed);
}

#[test]
fn the_nic_does_not_check_replay() {
    let mut nic = Nic::new(Link::Bare);
    let sa = Sa::new(0x1001);
    nic.add(&sa, IN);
    let (clear, wire) = packet(&sa, Shape::BARE, 1, b"payload");
    for _ in 0..3 {
        assert_good(&nic.receive_one(&wire), &clear, &sa);
    }
}

#[test]
fn nothing_is_done_before_encapsulation_is_set_per_family() {
    let mut nic = Nic::with(nic::NicParameters { medium: packet::Medium::Ip, ..nic::NicParameters::new("test") }, common::software);
    let (sa4, sa6) = (Sa::new(0x1001), Sa::new(0x1002).v6());
    nic.add(&sa4, IN);
    nic.add(&sa6, IN);
    let (clear4, wire4) = packet(&sa4, Shape::BARE, 1, b"payload");
    let (clear6, wire6) = packet(&sa6, Shape::BARE, 1, b"payload");
    let check = |nic: &mut Nic, on4: bool, on6: bool| {
        let up = nic.receive(&[wire4.clone(), wire6.clone()]);
        for (list, on, clear, sa, wire) in [(&up[0], on4, &clear4, &sa4, &wire4), (&up[1], on6, &clear6, &sa6, &wire6)] {
            if on { assert_good(list, clear, sa) } else { assert_untouched(list, wire) }
        }
    };
    check(&mut nic, false, false);
    nic.set_encapsulation(ON, SetEncapsulation::NoChange);
    check(&mut nic, true, false);
    nic.set_encapsulation(SetEncapsulation::NoChange, ON);
    check(&mut nic, true, true);
    nic.set_encapsulation(SetEncapsulation::Off, SetEncapsulation::NoChange);
    check(&mut nic, false, true);
    nic.set_encapsulation(SetEncapsulation::Off, SetEncapsulation::Off);
    check(&mut nic, false, false);
    nic.set_encapsulation(ON, ON);
    check(&mut nic, true, true);
    nic.set_ipsec(IpsecSetting::Disabled);
    check(&mut nic, false, false);
    nic.set_ipsec(IpsecSetting::Ah);
    check(&mut nic, false, false);
    nic.set_ipsec(IpsecSetting::Esp);
    check(&mut nic, true, true);
}

#[test]
fn where_ip_begins_is_said_for_frames_of_every_kind() {
    for (link, offset) in [(Link::Bare, 0), (Link::Ethernet, 14), (Link::Vlan, 18), (Link::DoubleVlan, 22)] {
        for active in [false, true] {
            let mut nic = Nic::with(nic::NicParameters { medium: link.medium(), ..nic::NicParameters::new("test") }, common::software);
            if active {
                nic.activate();
            }
            let (_, wire) = packet(&Sa::new(0x1001), Shape { link, ..Shape::BARE }, 1, b"payload");
            assert_eq!(nic.receive_one(&wire).l3_offset, offset);
        }
    }
}
