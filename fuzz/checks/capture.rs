//! What must hold of capture files for any bytes, beyond that nothing panics.
//!
//! Shared by the fuzz target and by the test that replays its seeds and crashes.

use link::capture::{
    CaptureFormat, CaptureInterface, CaptureOptions, CaptureReader, CaptureSource, CaptureWriter, Direction, MAX_PACKET_LEN, Network, PacketToWrite, Problem,
};
use link::{Link, Received};
use packet::{BufferPool, FrameBatch, Medium};

/// A packet, as far as both formats keep it.
type Kept = (u64, u32, Vec<u8>, Vec<String>);

/// Takes `data` for a capture file.
pub(crate) fn check(data: &[u8]) {
    let packets = packets(data);
    frames(data, packets.len());
    source(data, Medium::Ip);
    source(data, Medium::Ethernet);
    again(&packets, CaptureFormat::Pcapng);
    again(&packets, CaptureFormat::Pcap);
}

fn packets(data: &[u8]) -> Vec<Kept> {
    let mut packets = Vec::new();
    let mut reader = match CaptureReader::new(data, "fuzz") {
        Ok(reader) => reader,
        Err(error) => {
            assert!(error.offset == Some(0) && !error.to_string().is_empty());
            return packets;
        }
    };
    loop {
        match reader.next_packet() {
            Ok(Some(packet)) => {
                assert_eq!(packet.number, packets.len() as u64 + 1);
                assert!(packet.data.len() <= data.len().min(MAX_PACKET_LEN as usize));
                if let Some(Network::Ip { offset } | Network::Other { offset }) = packet.network() {
                    assert!(offset <= packet.data.len());
                }
                let comments = packet.comments().map(std::borrow::Cow::into_owned).collect();
                packets.push((packet.timestamp.as_nanos(), packet.original_length, packet.data.to_vec(), comments));
            }
            Ok(None) => break,
            Err(error) => {
                assert!(error.offset.is_some_and(|offset| offset <= data.len() as u64), "{error}");
                assert!(!error.to_string().contains('\n'));
                break;
            }
        }
    }
    assert!(matches!(reader.next_packet(), Ok(None)), "there is nothing behind the end");
    // The shortest record has 16 bytes.
    assert!(packets.len() <= data.len() / 16);
    packets
}

fn frames(data: &[u8], packets: usize) {
    let Ok(mut reader) = CaptureReader::new(data, "fuzz") else { return };
    let (mut pool, mut count) = (BufferPool::new(), 0);
    loop {
        match reader.next_frame(&mut pool) {
            Ok(Some(captured)) => {
                count += 1;
                assert_eq!(captured.frame.tag, count);
                let len = captured.frame.buffer.len();
                match captured.network {
                    Network::Ip { offset } | Network::Other { offset } => assert!(offset <= len),
                    Network::Short { needed, found } => assert!(found < needed),
                }
                pool.give(captured.frame.buffer);
            }
            Err(error) if matches!(error.problem, Problem::LinkType { .. }) => count += 1,
            Ok(None) | Err(_) => break,
        }
    }
    assert_eq!(count, packets as u64);
}

fn source(data: &[u8], medium: Medium) {
    let Ok(reader) = CaptureReader::new(data, "fuzz") else { return };
    let (mut source, mut pool, mut batch) = (CaptureSource::new(reader, medium), BufferPool::new(), FrameBatch::new());
    let mut delivered = 0;
    while let Ok(Received::Frames(count)) = source.receive(&mut pool, &mut batch, 5) {
        assert_eq!(count, batch.len());
        delivered += count as u64;
        batch.drain(..).for_each(|frame| pool.give(frame.buffer));
    }
    assert_eq!(source.counters().delivered, delivered);
}

/// What was read can be written, and is then read the same.
fn again(packets: &[Kept], format: CaptureFormat) {
    let mut writer = CaptureWriter::new(Vec::new(), "fuzz", &CaptureOptions::new(format)).expect("memory takes it");
    let interface = writer.add_interface(&CaptureInterface::new(Medium::Ip)).expect("it is the first");
    let mut expected = Vec::new();
    for (nanos, original_length, data, comments) in packets {
        let (original_length, timestamp) = (*original_length, packet::Time::from_nanos(*nanos));
        let texts: Vec<&str> = comments.iter().map(String::as_str).collect();
        let written =
            writer.write_packet(&PacketToWrite { interface, timestamp, data, original_length, comments: &texts, direction: Some(Direction::Outbound) });
        match written {
            Ok(()) => {
                let comments = if format == CaptureFormat::Pcap { Vec::new() } else { comments.clone() };
                expected.push((*nanos, original_length.max(data.len() as u32), data.clone(), comments));
            }
            // pcap ends in 2106; what was not UTF-8 in a comment is longer now.
            Err(error) => assert!(matches!(error.problem, Problem::Field { field: "seconds of the timestamp" | "comment on the packet", .. }), "{error}"),
        }
    }
    let file = writer.into_inner().expect("memory takes it");
    assert!(self::packets(&file) == expected);
}
