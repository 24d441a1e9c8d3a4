//! What is written is read back, and what is put together by hand is read as it was meant.

mod common;

use common::{Bytes, Packet, read, read_whole};
use link::capture::{
    CaptureFormat, CaptureInterface, CaptureOptions, CaptureReader, CaptureSink, CaptureWriter, Direction, EspAuthentication, EspEncryption, EspSecret,
    LinkType, MAX_PACKET_LEN, PacketToWrite, Problem, Secrets,
};
use link::{Link, Received};
use packet::{BufferPool, Frame, FrameBatch, Medium, Spi, Time};
use proptest::collection::vec;
use proptest::prelude::*;
use secret::SecretBytes;

fn packet(formats: CaptureFormat) -> impl Strategy<Value = (Packet, bool)> {
    let nanos = match formats {
        CaptureFormat::Pcap => 0..(u64::from(u32::MAX) + 1) * 1_000_000_000,
        CaptureFormat::Pcapng => 0..u64::MAX,
    };
    let comments = vec("[^\0]{0,20}", if formats == CaptureFormat::Pcap { 0..1 } else { 0..3 });
    (nanos, vec(any::<u8>(), 0..200), 0u32..5, comments, any::<bool>()).prop_map(|(nanos, data, more, comments, ethernet)| {
        let link_type = if ethernet { LinkType::ETHERNET } else { LinkType::RAW };
        let original_length = data.len() as u32 + more * 1000;
        (Packet { link_type, interface: 0, timestamp: Time::from_nanos(nanos), data, original_length, comments }, ethernet)
    })
}

fn write(writer: &mut CaptureWriter<Vec<u8>>, interface: link::capture::InterfaceId, packet: &Packet) {
    let comments: Vec<&str> = packet.comments.iter().map(String::as_str).collect();
    writer
        .write_packet(&PacketToWrite {
            interface,
            timestamp: packet.timestamp,
            data: &packet.data,
            original_length: packet.original_length,
            comments: &comments,
            direction: packet.comments.first().map(|_| Direction::Inbound),
        })
        .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pcapng_comes_back(packets in vec(packet(CaptureFormat::Pcapng), 0..12), comment in proptest::option::of("[^\0]{0,40}"), name in proptest::option::of("[a-z0-9]{1,9}")) {
        let options = CaptureOptions { application: Some("test".into()), comment, ..CaptureOptions::new(CaptureFormat::Pcapng) };
        let mut writer = CaptureWriter::new(Vec::new(), "test", &options).unwrap();
        let ids = [Medium::Ip, Medium::Ethernet].map(|medium| {
            writer.add_interface(&CaptureInterface { medium, name: name.clone(), description: name.clone() }).unwrap()
        });
        let mut expected = Vec::new();
        for (mut packet, ethernet) in packets {
            write(&mut writer, ids[usize::from(ethernet)], &packet);
            packet.interface = ethernet.into();
            expected.push(packet);
        }
        prop_assert_eq!(writer.packets(), expected.len() as u64);
        prop_assert_eq!(read_whole(&writer.into_inner().unwrap()), expected);
    }

    #[test]
    fn pcap_comes_back(packets in vec(packet(CaptureFormat::Pcap), 0..12), ethernet in any::<bool>()) {
        let mut writer = CaptureWriter::new(Vec::new(), "test", &CaptureOptions::new(CaptureFormat::Pcap)).unwrap();
        let medium = if ethernet { Medium::Ethernet } else { Medium::Ip };
        let interface = writer.add_interface(&CaptureInterface::new(medium)).unwrap();
        let mut expected = Vec::new();
        for (mut packet, _) in packets {
            write(&mut writer, interface, &packet);
            packet.link_type = medium.into();
            expected.push(packet);
        }
        prop_assert_eq!(read_whole(&writer.into_inner().unwrap()), expected);
    }

    #[test]
    fn either_byte_order_is_read(
        packets in vec((any::<u32>(), 0u32..1_000_000, vec(any::<u8>(), 0..60), 0u32..9), 0..8),
        big in any::<bool>(),
        nanoseconds in any::<bool>(),
    ) {
        let (magic, unit) = if nanoseconds { (0xa1b2_3c4d, 1) } else { (0xa1b2_c3d4, 1000) };
        let mut pcap = Bytes::new(big).pcap_header(magic, 228);
        let mut pcapng = Bytes::new(big).section().interface(228, 0, |options| if nanoseconds { options.option(9, &[9]).option(0, &[]) } else { options });
        let mut expected = Vec::new();
        for (seconds, fraction, data, more) in packets {
            let original_length = data.len() as u32 + more;
            let ticks = u64::from(seconds) * (1_000_000_000 / unit) + u64::from(fraction);
            pcap = pcap.pcap_record(seconds, fraction, original_length, &data);
            pcapng = pcapng.packet(0, ticks, original_length, &data, |options| options);
            let timestamp = Time::from_nanos(ticks * unit);
            expected.push(Packet { link_type: LinkType::IPV4, interface: 0, timestamp, data, original_length, comments: vec![] });
        }
        prop_assert_eq!(&read_whole(&pcap.bytes), &expected);
        prop_assert_eq!(&read_whole(&pcapng.bytes), &expected);
    }
}

/// Two sections of different order; interfaces with times, snap lengths and link types of their own; every kind of block between the packets.
#[test]
fn all_that_pcapng_has() {
    let skipped = |file: Bytes| {
        file.block(4, |body| body.u16(1).u16(6).raw(&[10, 0, 0, 1, b'a', 0]).pad().u32(0))
            .block(5, |body| body.u32(0).u64(7))
            .block(10, |body| body.u32(0x544c_534b).u32(3).raw(b"key"))
            .block(0x0bad, |body| body.u32(32473).raw(b"custom"))
            .block(0x4000_0bad, |body| body.u32(32473))
            .block(0x8000_1234, |body| body)
    };
    let first =
        Bytes::new(true).section().interface(1, 0, |options| options.option(2, b"eth0").option(9, &[0x8a]).option(14, &1_000_u64.to_be_bytes()).option(0, &[]));
    let first = skipped(first)
        .packet(0, 1536, 61, &[1; 60], |options| options.option(1, b"one").option(2, &[0, 0, 0, 1]).option(1, b"two\0three").option(0, &[]).raw(&[0xff; 8]))
        .interface(101, 8, |options| options)
        .packet(1, 5_000_001, 9, &[2; 9], |options| options)
        .block(2, |body| body.u16(1).u16(3).u32(0).u32(7).u32(5).u32(6).raw(&[3; 5]).pad().option(1, b"old"));
    let mut second = Bytes::new(false).section().interface(229, 4, |options| options.option(9, &[3]));
    second = second.block(3, |body| body.u32(10).raw(&[4; 4])).block(3, |body| body.u32(3).raw(&[5; 3])).packet(0, 12, 1, &[6], |options| options);
    let file = [first.bytes, second.bytes].concat();
    let expected = |link_type, interface, nanos, data: &[u8], original_length, comments: &[&str]| Packet {
        link_type,
        interface,
        timestamp: Time::from_nanos(nanos),
        data: data.to_vec(),
        original_length,
        comments: comments.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(
        read_whole(&file),
        [
            expected(LinkType::ETHERNET, 0, 1_001_500_000_000, &[1; 60], 61, &["one", "two"]),
            expected(LinkType::RAW, 1, 5_000_001_000, &[2; 9], 9, &[]),
            expected(LinkType::RAW, 1, 7000, &[3; 5], 6, &["old"]),
            expected(LinkType::IPV6, 0, 0, &[4; 4], 10, &[]),
            expected(LinkType::IPV6, 0, 0, &[5; 3], 3, &[]),
            expected(LinkType::IPV6, 0, 12_000_000, &[6], 1, &[]),
        ]
    );
    let mut reader = CaptureReader::new(&file[..], "test").unwrap();
    while reader.next_packet().unwrap().is_some() {}
    assert_eq!((reader.packets(), reader.secrets()), (6, 1));
}

#[test]
fn a_sink_takes_frames_and_gives_their_buffers_back() {
    for format in [CaptureFormat::Pcap, CaptureFormat::Pcapng] {
        let mut pool = BufferPool::new();
        let mut sink = CaptureSink::new(CaptureWriter::new(Vec::new(), "test", &CaptureOptions::new(format)).unwrap(), Medium::Ethernet);
        assert_eq!(sink.medium(), Medium::Ethernet);
        let mut batch = FrameBatch::new();
        for round in 0..10u8 {
            batch.extend((0..32).map(|_| Frame { buffer: pool.copy_from(&[round; 60]), timestamp: Time::from_nanos(round.into()), ..Frame::default() }));
            sink.send(&mut pool, &mut batch).unwrap();
            assert!(batch.is_empty());
        }
        assert_eq!(pool.allocated(), 32);
        assert_eq!(sink.receive(&mut pool, &mut batch, 9).unwrap(), Received::End);
        let packets = read_whole(&sink.into_writer().into_inner().unwrap());
        assert_eq!(packets.len(), 320);
        assert!(packets.iter().all(|packet| packet.link_type == LinkType::ETHERNET && packet.data.len() == 60));
        // A frame that cannot be written stays with the caller, and those behind it.
        let mut sink = CaptureSink::new(CaptureWriter::new(Vec::new(), "test", &CaptureOptions::new(format)).unwrap(), Medium::Ip);
        batch.extend([1, MAX_PACKET_LEN as usize + 1, 1].map(|len| Frame::new(pool.take(len))));
        let error = sink.send(&mut pool, &mut batch).unwrap_err();
        assert_eq!(error.to_string(), "test: packet 2: captured length: at most 262144 expected, 262145 found");
        assert_eq!(batch.len(), 2);
        batch.clear();
    }
}

#[test]
fn what_a_format_cannot_hold_is_an_error_and_leaves_nothing_behind() {
    let mut writer = CaptureWriter::new(Vec::new(), "test", &CaptureOptions::new(CaptureFormat::Pcap)).unwrap();
    let mut pool = BufferPool::new();
    let mut frame = Frame::new(pool.copy_from(&[0x45; 20]));
    writer.write_frame(&frame, Medium::Ip).unwrap();
    assert!(matches!(writer.write_frame(&frame, Medium::Ethernet).unwrap_err().problem, Problem::OtherLinkType { .. }));
    frame.timestamp = Time::from_nanos((u64::from(u32::MAX) + 1) * 1_000_000_000);
    assert!(matches!(writer.write_frame(&frame, Medium::Ip).unwrap_err().problem, Problem::Field { field: "seconds of the timestamp", .. }));
    assert_eq!(read_whole(&writer.into_inner().unwrap()).len(), 1);

    let mut writer = CaptureWriter::new(Vec::new(), "test", &CaptureOptions::new(CaptureFormat::Pcapng)).unwrap();
    let interface = writer.add_interface(&CaptureInterface::new(Medium::Ip)).unwrap();
    let long = "x".repeat(65_536);
    let mut packet = PacketToWrite { interface, timestamp: Time::ZERO, data: &[1], original_length: 0, comments: &[&long], direction: None };
    let error = writer.write_packet(&packet).unwrap_err();
    assert_eq!(error.to_string(), "test: packet 1: comment on the packet: at most 65535 expected, 65536 found");
    let comment = [&long[1..]];
    packet.comments = &comment;
    writer.write_packet(&packet).unwrap();
    let packets = read_whole(&writer.into_inner().unwrap());
    assert_eq!(packets[0].comments, [&long[1..]]);

    // Also without packets a file is one.
    for format in [CaptureFormat::Pcap, CaptureFormat::Pcapng] {
        let file = CaptureWriter::new(Vec::new(), "test", &CaptureOptions::new(format)).unwrap().into_inner().unwrap();
        assert!(matches!(read(&file), (packets, None) if packets.is_empty()));
    }
}

fn secrets() -> Secrets {
    Secrets::Esp(vec![EspSecret {
        source: None,
        destination: "192.0.2.2".parse().unwrap(),
        spi: Spi(0x1001),
        encryption: EspEncryption::AesGcm16,
        encryption_key: SecretBytes::from(vec![0xa5; 20]),
        authentication: EspAuthentication::Null,
        authentication_key: SecretBytes::default(),
        sequence_number_high: None,
    }])
}

#[test]
fn keys_come_before_packets_and_only_into_private_pcapng_files() {
    let options = |format| CaptureOptions { secrets: Some(secrets()), ..CaptureOptions::new(format) };
    let mut writer = CaptureWriter::new(Vec::new(), "test", &options(CaptureFormat::Pcapng)).unwrap();
    writer.write_frame(&Frame::new(BufferPool::new().copy_from(&[0x45; 20])), Medium::Ip).unwrap();
    let file = writer.into_inner().unwrap();
    let data = secrets().data();
    // Directly behind the section header: type, length, secrets type, secrets length, the text, padding, length.
    let at = u32::from_le_bytes(file[4..8].try_into().unwrap()) as usize;
    let total = data.len().next_multiple_of(4) + 20;
    let expected = Bytes::new(false).block(10, |body| body.u32(0x4553_5053).u32(data.len() as u32).raw(data.expose()));
    assert_eq!(file[at..at + total], expected.bytes);
    let mut reader = CaptureReader::new(&file[..], "test").unwrap();
    assert!(reader.next_packet().unwrap().is_some() && reader.next_packet().unwrap().is_none());
    assert_eq!(reader.secrets(), 1);

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.pcapng");
    std::fs::write(&path, "readable by all").unwrap();
    CaptureWriter::create(&path, &options(CaptureFormat::Pcapng)).unwrap().finish().unwrap();
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions()) & 0o777, 0o600);
    let error = CaptureWriter::create(&path, &options(CaptureFormat::Pcap)).err().unwrap();
    assert!(matches!(error.problem, Problem::SecretsInPcap) && std::fs::metadata(&path).unwrap().len() > 100, "{error}");
}
