//! The wire, written into a capture file.

use std::path::{Path, PathBuf};

use link::capture::{CaptureError, CaptureFormat, CaptureInterface, CaptureOptions, CaptureWriter, InterfaceId, PacketToWrite, Secrets};
use packet::{Frame, Medium};

use super::plan::{Connection, Way};
use super::traffic::Side;
use crate::sa_file::esp_secret;

/// Where the wire is to be written to.
#[derive(Clone, Debug)]
pub struct WireFile {
    /// The file; `-` is standard output. By its suffix pcap or pcapng.
    pub path: PathBuf,
    /// Whether the keys go along (pcapng), so that viewers can decrypt it. The file is its owner's only then.
    pub secrets: bool,
}

/// The file that is being written.
pub(super) struct WireWriter {
    writer: CaptureWriter,
    interface: InterfaceId,
    path: PathBuf,
}

impl WireWriter {
    pub(super) fn create(file: &WireFile, medium: Medium, connections: &[Connection]) -> Result<Self, CaptureError> {
        let ways = || Side::BOTH.into_iter().flat_map(|from| connections.iter().filter_map(move |connection| connection.way(from)));
        let secrets = || Secrets::Esp(ways().map(Way::sa).filter_map(|sa| esp_secret(sa).ok()).collect());
        let options = CaptureOptions {
            application: Some(concat!("ipsecov2 ", env!("CARGO_PKG_VERSION")).to_owned()),
            comment: Some("The wire between the two hosts of a demonstration run. Timestamps are those of the clear packets' capture.".to_owned()),
            secrets: file.secrets.then(secrets),
            ..CaptureOptions::new(CaptureFormat::from_path(&file.path))
        };
        let mut writer = CaptureWriter::create(&file.path, &options)?;
        let interface = writer.add_interface(&CaptureInterface { name: Some("wire".to_owned()), ..CaptureInterface::new(medium) })?;
        Ok(Self { writer, interface, path: file.path.clone() })
    }

    pub(super) fn write(&mut self, frame: &Frame, comment: &str) -> Result<(), CaptureError> {
        self.writer.write_packet(&PacketToWrite {
            interface: self.interface,
            timestamp: frame.timestamp,
            data: frame.buffer.as_slice(),
            original_length: 0,
            comments: &[comment],
            direction: None,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn finish(self) -> Result<(), CaptureError> {
        self.writer.finish()
    }
}
