//! Captures that real programs wrote, and the same packets under different link types.

mod common;

use std::path::Path;

use common::{Bytes, captures, frames, read, read_whole, testdata};
use link::capture::{CaptureReader, CaptureSource, LinkType, Network, Problem, is_same_file};
use link::{Link, Received};
use packet::{BufferPool, FrameBatch, IpVersion, Medium, ParseError, ParsedIp};

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(testdata(name)).unwrap()
}

#[test]
fn every_capture_is_read_to_its_end() {
    let mut pool = BufferPool::new();
    for path in captures() {
        let mut reader = CaptureReader::open(&path).unwrap();
        let (mut ip, mut cut) = (0, 0);
        while let Some(captured) = reader.next_frame(&mut pool).unwrap() {
            let name = path.display();
            cut += u32::from(captured.is_cut());
            if let Network::Ip { offset } = captured.network {
                ip += 1;
                match ParsedIp::parse(&captured.frame.buffer.as_slice()[offset..]) {
                    Ok(_) => {}
                    Err(ParseError::Truncated { .. }) if captured.is_cut() => {}
                    Err(error) => panic!("{name}: packet {}: {error}", captured.frame.tag),
                }
            } else {
                assert!(matches!(captured.network, Network::Other { .. }), "{name}: {captured:?}");
            }
            pool.give(captured.frame.buffer);
        }
        assert!(ip >= 14, "{}: {ip} IP packets", path.display());
        assert_eq!(cut > 0, path.ends_with("small-truncated.pcap"), "{}", path.display());
    }
    // Streaming: one buffer serves them all.
    assert!(pool.allocated() <= 2, "{}", pool.allocated());
}

#[test]
fn forms_of_the_same_packets_are_the_same() {
    let nanoseconds = read_whole(&bytes("small-nanosecond.pcap"));
    for (name, cut) in [("small-microsecond.pcap", false), ("small-big-endian.pcap", false), ("small-truncated.pcap", true)] {
        let other = read_whole(&bytes(name));
        assert_eq!(other.len(), nanoseconds.len(), "{name}");
        for (whole, packet) in nanoseconds.iter().zip(&other) {
            let unit = if cut { 1 } else { 1000 };
            assert_eq!(packet.timestamp.as_nanos() / unit, whole.timestamp.as_nanos() / unit, "{name}");
            assert_eq!(packet.original_length, whole.original_length, "{name}");
            let len = if cut { whole.data.len().min(70) } else { whole.data.len() };
            assert_eq!(packet.data, whole.data[..len], "{name}");
        }
    }
    let raw = read_whole(&bytes("small-raw.pcap"));
    let (null, pcapng) = (read_whole(&bytes("small-null.pcap")), read_whole(&bytes("small-big-endian.pcapng")));
    assert_eq!((raw.len(), raw.len()), (null.len(), pcapng.len()));
    for ((raw, null), pcapng) in raw.iter().zip(&null).zip(&pcapng) {
        assert_eq!(raw.data, null.data[4..]);
        assert_eq!((&raw.data, raw.timestamp), (&pcapng.data, pcapng.timestamp));
    }
    // What is in a VLAN is found behind its tags.
    let ip = |name: &str| -> Vec<Vec<u8>> {
        let all = frames(&bytes(name)).into_iter();
        all.filter_map(|captured| match captured.network {
            Network::Ip { offset } => Some(captured.frame.buffer.as_slice()[offset..].to_vec()),
            _ => None,
        })
        .collect()
    };
    assert_eq!(ip("small-vlan.pcap"), ip("small-nanosecond.pcap"));
    assert_eq!(ip("small-null.pcap"), ip("small-raw.pcap"));
}

#[test]
fn the_mixed_capture_keeps_its_interfaces_apart() {
    let packets = read_whole(&bytes("small-mixed.pcapng"));
    for link_type in [LinkType::ETHERNET, LinkType::RAW, LinkType::NULL] {
        assert!(packets.iter().any(|packet| packet.link_type == link_type), "{link_type}");
    }
    assert!(packets.iter().any(|packet| !packet.comments.is_empty()));
    let without_time = packets.iter().filter(|packet| packet.timestamp.as_nanos() == 0).count();
    assert_eq!(without_time, 1, "the simple packet block has no time, the others have");
}

/// The packets of `small-raw.pcap` behind other link headers give the same frames.
#[test]
fn every_link_header_comes_off() {
    let raw = read_whole(&bytes("small-raw.pcap"));
    let version = |data: &[u8]| if data[0] >> 4 == 6 { IpVersion::V6 } else { IpVersion::V4 };
    for (link_type, big) in [(101, false), (12, true), (14, false), (0, false), (0, true), (108, false), (113, true), (113, false), (276, false), (276, true)] {
        let mut file = Bytes::new(big).pcap_header(0xa1b2_3c4d, link_type);
        for packet in &raw {
            let (ethertype, family) = match version(&packet.data) {
                IpVersion::V4 => (0x0800_u16, 2_u32),
                IpVersion::V6 => (0x86dd, 30),
            };
            let header = match link_type {
                0 => Bytes::new(big).u32(family).bytes,
                108 => family.to_be_bytes().to_vec(),
                113 => Bytes::new(true).u16(4).u16(1).u16(6).u64(7).u16(ethertype).bytes,
                276 => Bytes::new(true).u16(ethertype).u16(0).u32(3).u16(1).u16(0x0406).u64(7).bytes,
                _ => Vec::new(),
            };
            let data = [&header[..], &packet.data].concat();
            file = file.pcap_record(
                (packet.timestamp.as_nanos() / 1_000_000_000) as u32,
                (packet.timestamp.as_nanos() % 1_000_000_000) as u32,
                data.len() as u32,
                &data,
            );
        }
        let frames = frames(&file.bytes);
        assert_eq!(frames.len(), raw.len());
        for (frame, packet) in frames.iter().zip(&raw) {
            assert_eq!((frame.medium, frame.network), (Medium::Ip, Network::Ip { offset: 0 }), "{link_type}");
            assert_eq!((frame.frame.buffer.as_slice(), frame.frame.timestamp), (&packet.data[..], packet.timestamp), "{link_type}");
            assert_eq!(frame.original_length, packet.original_length, "{link_type}");
        }
    }
}

#[test]
fn a_check_sequence_is_not_part_of_the_frame() {
    let frame = [&[2; 12][..], &[0x08, 0x00], &[0x45; 20]].concat();
    let with = [&frame[..], &[0xfc; 4]].concat();
    // pcap says it in the header, pcapng in the interface or in the packet's flags.
    let pcap = Bytes::new(false).pcap_header(0xa1b2_c3d4, 0x2400_0001).pcap_record(1, 1, 38, &with).pcap_record(1, 1, 38, &with[..36]);
    let pcapng = Bytes::new(true)
        .section()
        .interface(1, 0, |options| options.option(13, &[4]))
        .packet(0, 1, 38, &with, |options| options)
        .packet(0, 1, 38, &with[..36], |options| options)
        .interface(1, 0, |options| options)
        .packet(1, 1, 38, &with, |options| options.option(2, &(4_u32 << 5).to_be_bytes()))
        .packet(1, 1, 34, &frame, |options| options.option(2, &1_u32.to_be_bytes()));
    for file in [pcap.bytes, pcapng.bytes] {
        for captured in frames(&file) {
            assert_eq!((captured.frame.buffer.as_slice(), captured.original_length, captured.is_cut()), (&frame[..], 34, false));
        }
    }
}

#[test]
fn a_link_type_that_is_not_understood_is_an_error_for_that_packet() {
    let file = Bytes::new(false)
        .section()
        .interface(105, 0, |options| options)
        .interface(101, 0, |options| options)
        .packet(1, 1, 20, &[0x45; 20], |options| options)
        .packet(0, 1, 20, &[0x45; 20], |options| options)
        .packet(1, 1, 20, &[0x45; 20], |options| options);
    let (mut reader, mut pool) = (CaptureReader::new(&file.bytes[..], "wlan.pcapng").unwrap(), BufferPool::new());
    assert_eq!(reader.next_frame(&mut pool).unwrap().unwrap().frame.tag, 1);
    let error = reader.next_frame(&mut pool).unwrap_err();
    assert_eq!(
        error.to_string(),
        "wlan.pcapng: packet 2 at byte 120: link type: ETHERNET, RAW, IPV4, IPV6, NULL, LOOP, LINUX_SLL or LINUX_SLL2 expected, 105 found"
    );
    assert_eq!(reader.next_frame(&mut pool).unwrap().unwrap().frame.tag, 3);
    assert!(reader.next_frame(&mut pool).unwrap().is_none());
}

fn receive_all(link: &mut dyn Link) -> FrameBatch {
    let (mut pool, mut frames) = (BufferPool::new(), FrameBatch::new());
    while let Received::Frames(count) = link.receive(&mut pool, &mut frames, 7).unwrap() {
        assert!((1..=7).contains(&count));
    }
    frames
}

#[test]
fn a_capture_is_a_source_of_either_medium() {
    let open = || CaptureReader::open(&testdata("small-mixed.pcapng")).unwrap();
    let mut ip = CaptureSource::new(open(), Medium::Ip);
    let mut ethernet = CaptureSource::new(open(), Medium::Ethernet);
    let (packets, frames) = (receive_all(&mut ip), receive_all(&mut ethernet));
    for (counters, batch) in [(ip.counters(), &packets), (ethernet.counters(), &frames)] {
        assert_eq!(counters.delivered, batch.len() as u64);
        assert_eq!(counters.delivered + counters.left_out, read_whole(&bytes("small-mixed.pcapng")).len() as u64);
    }
    for packet in &packets {
        ParsedIp::parse(packet.buffer.as_slice()).unwrap();
        let frame = frames.iter().find(|frame| frame.tag == packet.tag).unwrap();
        assert!(packet::EthernetFrame::new(frame.buffer.as_slice()).unwrap().payload().starts_with(packet.buffer.as_slice()));
        assert_eq!(frame.timestamp, packet.timestamp);
    }
}

#[test]
fn a_source_delivers_what_is_before_an_error_and_then_the_error() {
    let whole = bytes("small-raw.pcap");
    let (packets, error) = read(&whole[..whole.len() - 1]);
    assert!(matches!(error.unwrap().problem, Problem::Truncated { .. }));
    let reader = CaptureReader::new(&whole[..whole.len() - 1], "test").unwrap();
    let (mut source, mut pool, mut batch) = (CaptureSource::new(reader, Medium::Ip), BufferPool::new(), FrameBatch::new());
    assert_eq!(source.receive(&mut pool, &mut batch, 1000).unwrap(), Received::Frames(packets.len()));
    let error = source.receive(&mut pool, &mut batch, 1000).unwrap_err();
    assert!(error.to_string().starts_with(&format!("test: packet {} at byte ", packets.len() + 1)), "{error}");
    assert_eq!(batch.len(), packets.len());
    assert_eq!(source.receive(&mut pool, &mut batch, 1000).unwrap(), Received::End);
    assert!(source.send(&mut pool, &mut batch).is_err());
}

#[test]
fn files_that_are_no_captures_are_named() {
    let missing = CaptureReader::open(Path::new("/nonexistent/a.pcap")).err().unwrap();
    assert_eq!(missing.io_kind(), Some(std::io::ErrorKind::NotFound));
    assert!(missing.to_string().starts_with("/nonexistent/a.pcap: cannot open: "), "{missing}");
    for (content, says) in [
        (&b""[..], "x: at byte 0: magic number of a pcap or pcapng file: 4 bytes expected, 0 found before the end of the file"),
        (b"\x1f\x8b\x08\x00rest", "x: at byte 0: a pcap or pcapng file expected, gzip data (decompress it first) found"),
        (b"#!/bin/sh", "x: at byte 0: a pcap or pcapng file expected, 23212f62 at the start found"),
        (b"\xd4\xc3\xb2\xa1\x02\x00", "x: at byte 0: rest of the pcap file header: 20 bytes expected, 2 found before the end of the file"),
    ] {
        assert_eq!(CaptureReader::new(content, "x").err().unwrap().to_string(), says);
    }
    assert!(is_same_file(&testdata("small-raw.pcap"), &testdata("../testdata/small-raw.pcap")).unwrap());
}
