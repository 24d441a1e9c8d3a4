//! What the tests of captures share: files put together by hand, and files read whole.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::PathBuf;

use link::capture::{
    CaptureError, CaptureFormat, CaptureInterface, CaptureOptions, CaptureReader, CaptureWriter, CapturedFrame, Direction, LinkType, PacketToWrite,
};
use packet::{BufferPool, Time};

/// A packet as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) link_type: LinkType,
    pub(crate) interface: u32,
    pub(crate) timestamp: Time,
    pub(crate) data: Vec<u8>,
    pub(crate) original_length: u32,
    pub(crate) comments: Vec<String>,
}

pub(crate) fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name)
}

/// Every capture there is.
pub(crate) fn captures() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(testdata("")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|suffix| suffix == "pcap" || suffix == "pcapng")).collect();
    paths.sort();
    assert!(paths.len() >= 12, "{paths:?}");
    paths
}

/// The packets before the end or the first error, and that error.
pub(crate) fn read(bytes: &[u8]) -> (Vec<Packet>, Option<CaptureError>) {
    let mut packets = Vec::new();
    let mut reader = match CaptureReader::new(bytes, "test") {
        Ok(reader) => reader,
        Err(error) => return (packets, Some(error)),
    };
    loop {
        match reader.next_packet() {
            Ok(Some(packet)) => {
                assert_eq!(packet.number, packets.len() as u64 + 1);
                packets.push(Packet {
                    link_type: packet.link_type,
                    interface: packet.interface,
                    timestamp: packet.timestamp,
                    data: packet.data.to_vec(),
                    original_length: packet.original_length,
                    comments: packet.comments().map(std::borrow::Cow::into_owned).collect(),
                });
            }
            Ok(None) => return (packets, None),
            Err(error) => {
                assert!(matches!(reader.next_packet(), Ok(None)), "nothing comes behind an error");
                return (packets, Some(error));
            }
        }
    }
}

pub(crate) fn read_whole(bytes: &[u8]) -> Vec<Packet> {
    let (packets, error) = read(bytes);
    assert!(error.is_none(), "{}", error.unwrap());
    packets
}

pub(crate) fn frames(bytes: &[u8]) -> Vec<CapturedFrame> {
    let (mut pool, mut frames) = (BufferPool::new(), Vec::new());
    let mut reader = CaptureReader::new(bytes, "test").unwrap();
    while let Some(frame) = reader.next_frame(&mut pool).unwrap() {
        assert_eq!(frame.frame.tag, frames.len() as u64 + 1);
        frames.push(frame);
    }
    frames
}

/// A file in the byte order of `Big` or not, put together field by field.
#[derive(Clone)]
pub(crate) struct Bytes {
    pub(crate) big: bool,
    pub(crate) bytes: Vec<u8>,
}

impl Bytes {
    pub(crate) fn new(big: bool) -> Self {
        Self { big, bytes: Vec::new() }
    }

    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    pub(crate) fn pad(mut self) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    pub(crate) fn pcap_header(self, magic: u32, link_type: u32) -> Self {
        self.u32(magic).u16(2).u16(4).u32(0).u32(0).u32(262_144).u32(link_type)
    }

    pub(crate) fn pcap_record(self, seconds: u32, fraction: u32, original: u32, data: &[u8]) -> Self {
        self.u32(seconds).u32(fraction).u32(data.len() as u32).u32(original).raw(data)
    }

    /// A pcapng block around what `body` adds.
    pub(crate) fn block(self, kind: u32, body: impl FnOnce(Self) -> Self) -> Self {
        let inner = body(Self::new(self.big)).pad().bytes;
        let total = inner.len() as u32 + 12;
        self.u32(kind).u32(total).raw(&inner).u32(total)
    }

    pub(crate) fn section(self) -> Self {
        self.block(0x0a0d_0d0a, |body| body.u32(0x1a2b_3c4d).u16(1).u16(0).u64(u64::MAX))
    }

    pub(crate) fn option(self, code: u16, value: &[u8]) -> Self {
        self.u16(code).u16(value.len() as u16).raw(value).pad()
    }

    pub(crate) fn interface(self, link_type: u16, snap: u32, options: impl FnOnce(Self) -> Self) -> Self {
        self.block(1, |body| options(body.u16(link_type).u16(0).u32(snap)))
    }

    pub(crate) fn packet(self, interface: u32, time: u64, original: u32, data: &[u8], options: impl FnOnce(Self) -> Self) -> Self {
        self.block(6, |body| {
            let body = body.u32(interface).u32((time >> 32) as u32).u32(time as u32).u32(data.len() as u32).u32(original);
            options(body.raw(data).pad())
        })
    }
}

/// Writes packets of another capture, with a comment on each.
pub(crate) fn rewrite(bytes: &[u8], path: &std::path::Path, format: CaptureFormat) {
    let mut writer = CaptureWriter::create(path, &CaptureOptions::new(format)).unwrap();
    let interface = writer.add_interface(&CaptureInterface::new(packet::Medium::Ethernet)).unwrap();
    for (number, packet) in read_whole(bytes).iter().enumerate() {
        assert_eq!(packet.link_type, LinkType::ETHERNET);
        let comment = format!("number {number}");
        writer
            .write_packet(&PacketToWrite {
                interface,
                timestamp: packet.timestamp,
                data: &packet.data,
                original_length: packet.original_length,
                comments: &[&comment],
                direction: Some(if number % 2 == 0 { Direction::Inbound } else { Direction::Outbound }),
            })
            .unwrap();
    }
    writer.finish().unwrap();
}
