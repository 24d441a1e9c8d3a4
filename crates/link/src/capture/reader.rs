//! Reading captures of either format.

use core::ops::Range;
use std::borrow::Cow;
use std::io::Read;
use std::path::Path;

use packet::{BufferPool, Frame, Medium, Time};

use super::CaptureFormat;
use super::bytes::{ByteOrder, Fields};
use super::error::{CaptureError, Problem};
use super::input::{CaptureInput, Input};
use super::link_type::{LinkType, Network};
use super::options::{self, Options};
use super::pcap::PcapReader;
use super::pcapng::PcapngReader;

/// A pcap or pcapng file that is being read, from any `Read`, in constant memory.
///
/// A file that ends in the middle of a record gives every packet before it, and then the error. After an error other than an unknown link type there
/// are no more packets.
pub struct CaptureReader<R: Read = CaptureInput> {
    input: Input<R>,
    file: String,
    format: Format,
    /// The record or block that was read last.
    body: Vec<u8>,
    packets: u64,
    /// Where that record or block began.
    at: u64,
    ended: bool,
}

enum Format {
    Pcap(PcapReader),
    Pcapng(PcapngReader),
}

/// A packet's fields, and where in the reader's body the rest of it is.
pub(crate) struct Record {
    pub(crate) interface: u32,
    pub(crate) link_type: LinkType,
    pub(crate) order: ByteOrder,
    pub(crate) timestamp: Time,
    pub(crate) original_length: u32,
    pub(crate) fcs_length: u8,
    pub(crate) data: Range<usize>,
    pub(crate) options: Range<usize>,
}

/// A packet as it is in the file.
#[derive(Clone, Copy)]
pub struct CapturedPacket<'a> {
    /// Its number in the file, from 1.
    pub number: u64,
    /// The interface that it was captured on, counted from 0 in its section; 0 in a pcap file.
    pub interface: u32,
    /// What it begins with.
    pub link_type: LinkType,
    /// The byte order of its file or section.
    pub byte_order: ByteOrder,
    /// When it was captured, since the Unix epoch; [`Time::ZERO`] if the file does not say.
    pub timestamp: Time,
    /// The captured bytes.
    pub data: &'a [u8],
    /// Its length on the wire, in bytes; larger than `data` if it was cut.
    pub original_length: u32,
    /// How many bytes at its end on the wire are a frame check sequence.
    pub fcs_length: u8,
    options: &'a [u8],
}

impl<'a> CapturedPacket<'a> {
    /// Whether the snap length cut it.
    pub const fn is_cut(&self) -> bool {
        self.original_length as usize > self.data.len()
    }

    /// The comments on it (pcapng); what is not UTF-8 in them becomes U+FFFD.
    pub fn comments(&self) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
        Options(Fields::new(self.byte_order, self.options))
            .filter_map(|option| option.ok().filter(|&(code, _)| code == options::COMMENT).map(|(_, value)| options::text(value)))
    }

    /// Where the network layer begins in `data`; `None` if the link type is not understood.
    pub fn network(&self) -> Option<Network> {
        self.link_type.decapsulate(self.byte_order, self.data)
    }
}

/// A packet as a frame to be processed.
#[derive(Debug)]
pub struct CapturedFrame {
    /// Its bytes: an Ethernet frame without check sequence, or for every other link type what is behind the link header. The tag is the number of the
    /// packet in the file, from 1.
    pub frame: Frame,
    /// What the frame begins with.
    pub medium: Medium,
    /// Where in the frame the network layer begins.
    pub network: Network,
    /// Length of the frame on the wire, in bytes; larger than the frame if it was cut.
    pub original_length: u32,
}

impl CapturedFrame {
    /// Whether the snap length cut it.
    pub fn is_cut(&self) -> bool {
        self.original_length as usize > self.frame.buffer.len()
    }
}

impl CaptureReader {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// [`CaptureError`] if it cannot be opened, or does not begin like a capture.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let file = if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
        match CaptureInput::open(path) {
            Ok(input) => Self::new(input, file),
            Err(source) => Err(CaptureError { file, packet: None, offset: None, problem: Problem::Io { action: "open", source } }),
        }
    }
}

impl<R: Read> CaptureReader<R> {
    /// Reads the file header. `file` is the name of the input for errors. The reader buffers for itself.
    ///
    /// # Errors
    /// [`CaptureError`] if the input does not begin like a capture.
    pub fn new(input: R, file: impl Into<String>) -> Result<Self, CaptureError> {
        let (mut input, mut body) = (Input::new(input), Vec::new());
        match Self::recognise(&mut input, &mut body) {
            Ok(format) => Ok(Self { input, file: file.into(), format, body, packets: 0, at: 0, ended: false }),
            Err(problem) => Err(CaptureError { file: file.into(), packet: None, offset: Some(0), problem }),
        }
    }

    fn recognise(input: &mut Input<R>, body: &mut Vec<u8>) -> Result<Format, Problem> {
        let mut magic = [0; 4];
        input.exact(&mut magic, "magic number of a pcap or pcapng file")?;
        if let Some(order_and_unit) = PcapReader::recognise(magic) {
            return PcapReader::open(input, order_and_unit).map(Format::Pcap);
        }
        if PcapngReader::recognise(magic) {
            return PcapngReader::open(input, body).map(Format::Pcapng);
        }
        Err(Problem::Format { found: magic })
    }

    /// The next packet as it is in the file, of whatever link type; `None` at the end.
    ///
    /// # Errors
    /// [`CaptureError`] if the input cannot be read or is malformed. There is nothing behind the error.
    pub fn next_packet(&mut self) -> Result<Option<CapturedPacket<'_>>, CaptureError> {
        let Some(record) = self.next_record()? else { return Ok(None) };
        Ok(Some(CapturedPacket {
            number: self.packets,
            interface: record.interface,
            link_type: record.link_type,
            byte_order: record.order,
            timestamp: record.timestamp,
            data: self.body.get(record.data).unwrap_or_default(),
            original_length: record.original_length,
            fcs_length: record.fcs_length,
            options: self.body.get(record.options).unwrap_or_default(),
        }))
    }

    /// The next packet as a frame in a buffer from `pool`; `None` at the end.
    ///
    /// # Errors
    /// [`CaptureError`] as for [`Self::next_packet`], and for a packet whose link type is not understood: reading may go on behind that one.
    pub fn next_frame(&mut self, pool: &mut BufferPool) -> Result<Option<CapturedFrame>, CaptureError> {
        let Some(packet) = self.next_packet()? else { return Ok(None) };
        let (number, found) = (packet.number, packet.link_type);
        let Some(network) = packet.network() else {
            return Err(CaptureError { file: self.file.clone(), packet: Some(number), offset: Some(self.at), problem: Problem::LinkType { found } });
        };
        let medium = packet.link_type.medium();
        let (mut data, mut original) = (packet.data, packet.original_length);
        let network = match medium {
            Medium::Ethernet => {
                // A file may have a length on the wire that is below the captured one; then nothing is known to be a check sequence.
                if let Some(without) = original.checked_sub(packet.fcs_length.into())
                    && original as usize >= data.len()
                {
                    original = without;
                    data = data.get(..without as usize).unwrap_or(data);
                }
                // The check sequence of a frame that ends in its header was part of the header.
                packet.link_type.decapsulate(packet.byte_order, data).unwrap_or(network)
            }
            Medium::Ip => {
                original = original.saturating_sub(network.offset() as u32);
                data = data.get(network.offset()..).unwrap_or_default();
                network.without_header()
            }
        };
        let frame = Frame { buffer: pool.copy_from(data), timestamp: packet.timestamp, tag: number, ..Frame::default() };
        Ok(Some(CapturedFrame { frame, medium, network, original_length: original }))
    }

    /// The file's format. In a pcap file, all packets have the same link type.
    pub const fn format(&self) -> CaptureFormat {
        match &self.format {
            Format::Pcap(_) => CaptureFormat::Pcap,
            Format::Pcapng(_) => CaptureFormat::Pcapng,
        }
    }

    /// How many packets have been read.
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// How many blocks with decryption secrets have been passed; they are not read.
    pub const fn secrets(&self) -> u64 {
        match &self.format {
            Format::Pcap(_) => 0,
            Format::Pcapng(reader) => reader.secrets(),
        }
    }

    fn next_record(&mut self) -> Result<Option<Record>, CaptureError> {
        if self.ended {
            return Ok(None);
        }
        let mut in_packet = true;
        self.at = self.input.offset();
        let record = match &mut self.format {
            Format::Pcap(reader) => reader.next(&mut self.input, &mut self.body),
            Format::Pcapng(reader) => reader.next(&mut self.input, &mut self.body, &mut in_packet, &mut self.at),
        };
        match record {
            Ok(Some(record)) => {
                self.packets += 1;
                Ok(Some(record))
            }
            Ok(None) => {
                self.ended = true;
                Ok(None)
            }
            Err(problem) => {
                self.ended = true;
                Err(CaptureError { file: self.file.clone(), packet: in_packet.then_some(self.packets + 1), offset: Some(self.at), problem })
            }
        }
    }
}
