//! Writing captures in either format.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use packet::{Frame, Medium, Time};

use super::bytes::padded;
use super::error::{Allowed, CaptureError, Problem};
use super::link_type::LinkType;
use super::options::{self, put};
use super::output::CaptureOutput;
use super::secrets::Secrets;
use super::{CaptureFormat, MAX_BLOCK_LEN, MAX_PACKET_LEN, pcap, pcapng};

/// What a capture is to be like. Comments, names and directions are for pcapng; a pcap file has no place for them and goes without.
#[derive(Debug)]
pub struct CaptureOptions {
    /// The format.
    pub format: CaptureFormat,
    /// The program that writes the file, as text.
    pub application: Option<String>,
    /// A comment on the whole file.
    pub comment: Option<String>,
    /// Keys with which viewers can decrypt the packets (pcapng). The file is then its owner's only.
    pub secrets: Option<Secrets>,
}

impl CaptureOptions {
    /// Nothing but the packets.
    pub const fn new(format: CaptureFormat) -> Self {
        Self { format, application: None, comment: None, secrets: None }
    }
}

/// An interface in a capture: what its packets begin with, and what people call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureInterface {
    /// What its packets begin with: written as link type ETHERNET or RAW.
    pub medium: Medium,
    /// Name, such as `eth0`.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
}

impl CaptureInterface {
    /// An interface without a name.
    pub const fn new(medium: Medium) -> Self {
        Self { medium, name: None, description: None }
    }
}

/// An interface of the writer that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InterfaceId(u32);

/// Which way a packet went, seen from its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Received.
    Inbound,
    /// Sent.
    Outbound,
}

/// A packet to be written.
#[derive(Clone, Copy, Debug)]
pub struct PacketToWrite<'a> {
    /// On which interface it was.
    pub interface: InterfaceId,
    /// When, since the Unix epoch. pcap ends in 2106.
    pub timestamp: Time,
    /// Its bytes, at most [`MAX_PACKET_LEN`].
    pub data: &'a [u8],
    /// Its length on the wire, in bytes, if more than that.
    pub original_length: u32,
    /// Comments on it, each at most 65535 bytes.
    pub comments: &'a [&'a str],
    /// Which way it went, if that is known.
    pub direction: Option<Direction>,
}

/// A pcap or pcapng file that is being written, to any `Write`, in little-endian order with timestamps in nanoseconds.
pub struct CaptureWriter<W: Write = CaptureOutput> {
    out: BufWriter<W>,
    file: String,
    format: CaptureFormat,
    /// The medium of each interface.
    interfaces: Vec<Medium>,
    /// The block that is being put together.
    block: Vec<u8>,
    packets: u64,
}

impl CaptureWriter {
    /// Creates a file; `-` is standard output. An ordinary file gets its name in [`Self::finish`]; until then one of that name stays as it is, and if the
    /// writer is dropped before, for good. With secrets, the file has mode 0600 from the start.
    ///
    /// # Errors
    /// [`CaptureError`] if it cannot be created, or the format cannot hold what the options ask for.
    pub fn create(path: &Path, options: &CaptureOptions) -> Result<Self, CaptureError> {
        let file = if path.as_os_str() == "-" { "standard output".to_owned() } else { path.display().to_string() };
        let failed = |problem| CaptureError { file: file.clone(), packet: None, offset: None, problem };
        check(options).map_err(failed)?;
        let out = CaptureOutput::create(path, options.secrets.is_some()).map_err(|source| failed(Problem::Io { action: "create", source }))?;
        Self::new(out, file, options)
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`CaptureError`] if it cannot be written.
    pub fn finish(self) -> Result<(), CaptureError> {
        let file = self.file.clone();
        let out = self.into_inner()?;
        out.finish().map_err(|source| CaptureError { file, packet: None, offset: None, problem: Problem::Io { action: "write", source } })
    }
}

impl<W: Write> CaptureWriter<W> {
    /// Begins a capture. `file` is the name of the output for errors. The writer buffers for itself.
    ///
    /// # Errors
    /// [`CaptureError`] if it cannot be written, or the format cannot hold what the options ask for.
    pub fn new(out: W, file: impl Into<String>, options: &CaptureOptions) -> Result<Self, CaptureError> {
        let mut writer = Self {
            out: BufWriter::with_capacity(64 * 1024, out),
            file: file.into(),
            format: options.format,
            interfaces: Vec::new(),
            block: Vec::new(),
            packets: 0,
        };
        check(options).and_then(|()| writer.begin(options)).map_err(|problem| writer.failed(problem))?;
        Ok(writer)
    }

    /// Adds an interface for packets. A pcap file has one link type; any number of interfaces of that one can be added, and look the same in it.
    ///
    /// # Errors
    /// [`CaptureError`] if it cannot be written, or has another link type than the pcap file.
    pub fn add_interface(&mut self, interface: &CaptureInterface) -> Result<InterfaceId, CaptureError> {
        self.interface(interface).map_err(|problem| self.failed(problem))
    }

    /// Writes a packet.
    ///
    /// # Errors
    /// [`CaptureError`] if the packet cannot be in a capture; nothing of it is written then. Or if the output failed.
    pub fn write_packet(&mut self, packet: &PacketToWrite<'_>) -> Result<(), CaptureError> {
        match self.packet(packet) {
            Ok(()) => {
                self.packets += 1;
                Ok(())
            }
            Err(problem) => Err(CaptureError { file: self.file.clone(), packet: Some(self.packets + 1), offset: None, problem }),
        }
    }

    /// Writes a frame, on the first interface of its medium; if there is none yet, on a new one without a name. Of a train, each packet by itself.
    ///
    /// # Errors
    /// As [`Self::add_interface`] and [`Self::write_packet`].
    pub fn write_frame(&mut self, frame: &Frame, medium: Medium) -> Result<(), CaptureError> {
        let interface = match self.interfaces.iter().position(|&there| there == medium) {
            Some(number) => InterfaceId(number as u32),
            None => self.add_interface(&CaptureInterface::new(medium))?,
        };
        frame.packets().try_for_each(|data| {
            self.write_packet(&PacketToWrite { interface, timestamp: frame.timestamp, data, original_length: 0, comments: &[], direction: None })
        })
    }

    /// How many packets have been written.
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// Hands on everything that is buffered: for whoever reads along at the other end of a pipe.
    ///
    /// # Errors
    /// [`CaptureError`] if it cannot be written.
    pub fn flush(&mut self) -> Result<(), CaptureError> {
        self.out.flush().map_err(|error| self.failed(write_failed(error)))
    }

    /// Completes the capture and returns the output. (A file from [`CaptureWriter::create`] is completed with [`CaptureWriter::finish`].)
    ///
    /// # Errors
    /// [`CaptureError`] if it cannot be written.
    pub fn into_inner(mut self) -> Result<W, CaptureError> {
        if self.interfaces.is_empty() {
            // Also a capture without packets says what they would have been, and a pcap file has its header.
            self.add_interface(&CaptureInterface::new(Medium::Ip))?;
        }
        let file = self.file;
        self.out.into_inner().map_err(|error| CaptureError { file, packet: None, offset: None, problem: write_failed(error.into_error()) })
    }

    fn failed(&self, problem: Problem) -> CaptureError {
        CaptureError { file: self.file.clone(), packet: None, offset: None, problem }
    }

    fn begin(&mut self, options: &CaptureOptions) -> Result<(), Problem> {
        if self.format == CaptureFormat::Pcap {
            return Ok(());
        }
        start(&mut self.block, pcapng::SECTION);
        self.block.extend(pcapng::BYTE_ORDER_MAGIC.to_le_bytes());
        self.block.extend([1, 0, 0, 0]);
        // The length of the section: not known.
        self.block.extend([0xff; 8]);
        let list = self.block.len();
        if let Some(comment) = &options.comment {
            put(&mut self.block, "comment on the file", options::COMMENT, comment.as_bytes())?;
        }
        if let Some(application) = &options.application {
            put(&mut self.block, "application", options::SHB_USERAPPL, application.as_bytes())?;
        }
        options::end(&mut self.block, list);
        self.end_block()?;
        options.secrets.as_ref().map_or(Ok(()), |secrets| self.secrets(secrets))
    }

    /// Keys pass none of the buffers here, which nobody erases.
    fn secrets(&mut self, secrets: &Secrets) -> Result<(), Problem> {
        let data = secrets.data();
        let (len, padded) = (data.len(), padded(data.len()));
        let total = u32::try_from(padded + 20).ok().filter(|&total| total <= MAX_BLOCK_LEN).ok_or(Problem::Field {
            field: "length of the keys",
            found: len as u64,
            allowed: Allowed::AtMost(u64::from(MAX_BLOCK_LEN) - 20),
        })?;
        let mut header = [0; 16];
        for (at, value) in [pcapng::SECRETS, total, secrets.secrets_type(), len as u32].into_iter().enumerate() {
            header[4 * at..][..4].copy_from_slice(&value.to_le_bytes());
        }
        self.out.write_all(&header).map_err(write_failed)?;
        self.out.flush().map_err(write_failed)?;
        self.out.get_mut().write_all(data.expose()).map_err(write_failed)?;
        self.out.write_all(&[0; 3][..padded - len]).map_err(write_failed)?;
        self.out.write_all(&total.to_le_bytes()).map_err(write_failed)
    }

    fn interface(&mut self, interface: &CaptureInterface) -> Result<InterfaceId, Problem> {
        let link_type = LinkType::from(interface.medium);
        match (self.format, self.interfaces.first()) {
            (CaptureFormat::Pcap, None) => self.out.write_all(&pcap::file_header(link_type)).map_err(write_failed)?,
            (CaptureFormat::Pcap, Some(&medium)) if medium != interface.medium => {
                return Err(Problem::OtherLinkType { has: medium.into(), found: link_type });
            }
            (CaptureFormat::Pcap, Some(_)) => {}
            (CaptureFormat::Pcapng, _) => {
                start(&mut self.block, pcapng::INTERFACE);
                self.block.extend(link_type.0.to_le_bytes());
                self.block.extend([0; 2]);
                self.block.extend(MAX_PACKET_LEN.to_le_bytes());
                let list = self.block.len();
                for (text, field, code) in
                    [(&interface.name, "interface name", options::IF_NAME), (&interface.description, "interface description", options::IF_DESCRIPTION)]
                {
                    if let Some(text) = text {
                        put(&mut self.block, field, code, text.as_bytes())?;
                    }
                }
                // Nanoseconds.
                put(&mut self.block, "if_tsresol", options::IF_TSRESOL, &[9])?;
                options::end(&mut self.block, list);
                self.end_block()?;
            }
        }
        self.interfaces.push(interface.medium);
        Ok(InterfaceId(self.interfaces.len() as u32 - 1))
    }

    fn packet(&mut self, packet: &PacketToWrite<'_>) -> Result<(), Problem> {
        let captured = u32::try_from(packet.data.len()).ok().filter(|&len| len <= MAX_PACKET_LEN).ok_or(Problem::Field {
            field: "captured length",
            found: packet.data.len() as u64,
            allowed: Allowed::AtMost(MAX_PACKET_LEN.into()),
        })?;
        if packet.interface.0 as usize >= self.interfaces.len() {
            let allowed = Allowed::Words("an interface of this writer");
            return Err(Problem::Field { field: "interface of the packet", found: packet.interface.0.into(), allowed });
        }
        let original = captured.max(packet.original_length);
        if self.format == CaptureFormat::Pcap {
            let header = pcap::record_header(packet.timestamp, captured, original)?;
            self.out.write_all(&header).map_err(write_failed)?;
            return self.out.write_all(packet.data).map_err(write_failed);
        }
        start(&mut self.block, pcapng::PACKET);
        let nanos = packet.timestamp.as_nanos();
        for value in [packet.interface.0, (nanos >> 32) as u32, nanos as u32, captured, original] {
            self.block.extend(value.to_le_bytes());
        }
        self.block.extend_from_slice(packet.data);
        self.block.resize(padded(self.block.len()), 0);
        let list = self.block.len();
        for comment in packet.comments {
            put(&mut self.block, "comment on the packet", options::COMMENT, comment.as_bytes())?;
        }
        if let Some(direction) = packet.direction {
            let flags: u32 = match direction {
                Direction::Inbound => 1,
                Direction::Outbound => 2,
            };
            put(&mut self.block, "flags", options::EPB_FLAGS, &flags.to_le_bytes())?;
        }
        options::end(&mut self.block, list);
        self.end_block()
    }

    /// Fills both lengths in, and writes the block.
    fn end_block(&mut self) -> Result<(), Problem> {
        let len = self.block.len() + 4;
        let total = u32::try_from(len).ok().filter(|&total| total <= MAX_BLOCK_LEN).ok_or(Problem::Field {
            field: "block length",
            found: len as u64,
            allowed: Allowed::AtMost(MAX_BLOCK_LEN.into()),
        })?;
        self.block.extend(total.to_le_bytes());
        self.block[4..8].copy_from_slice(&total.to_le_bytes());
        self.out.write_all(&self.block).map_err(write_failed)
    }
}

fn start(block: &mut Vec<u8>, kind: u32) {
    block.clear();
    block.extend(kind.to_le_bytes());
    block.extend([0; 4]);
}

fn check(options: &CaptureOptions) -> Result<(), Problem> {
    if options.format == CaptureFormat::Pcap && options.secrets.is_some() { Err(Problem::SecretsInPcap) } else { Ok(()) }
}

fn write_failed(source: io::Error) -> Problem {
    Problem::Io { action: "write", source }
}
