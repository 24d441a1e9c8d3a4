//! Capture files: pcap and pcapng, read and written as a stream.
//!
//! Read are both byte orders; micro- and nanoseconds, and in pcapng any power of 10 or 2; several sections and interfaces with link types of their own;
//! [Ethernet, raw IP, loopback and Linux cooked](LinkType) packets. Written are little-endian files in nanoseconds with Ethernet and raw IP packets.
//!
//! Nothing that a file says makes the reader panic, loop, or take memory that the file's own bytes do not justify: packets have at most
//! [`MAX_PACKET_LEN`] bytes, blocks at most [`MAX_BLOCK_LEN`], and a malformed file is an [error](CaptureError) that names the place and the field.
//!
//! - [`CaptureReader`]: packets as they are in the file ([`CaptureReader::next_packet`]) or as frames to be processed ([`CaptureReader::next_frame`]).
//! - [`CaptureWriter`]: packets with comments, on named interfaces, and [keys](Secrets) for viewers of the file.
//! - [`CaptureSource`], [`CaptureSink`]: the two as [links](crate::Link).

use core::fmt;
use std::path::Path;

mod adapter;
mod bytes;
mod error;
mod input;
mod link_type;
mod options;
mod output;
mod pcap;
mod pcapng;
mod reader;
mod secrets;
mod writer;

pub use adapter::{CaptureSink, CaptureSource, SourceCounters};
pub use bytes::ByteOrder;
pub use error::{Allowed, CaptureError, Problem};
pub use input::CaptureInput;
pub use link_type::{LinkType, Network};
pub use output::{CaptureOutput, is_same_file};
pub use reader::{CaptureReader, CapturedFrame, CapturedPacket};
pub use secrets::{EspAuthentication, EspEncryption, EspSecret, Secrets};
pub use writer::{CaptureInterface, CaptureOptions, CaptureWriter, Direction, InterfaceId, PacketToWrite};

/// The longest packet that is read or written, in bytes (256 KiB): the largest snap length that capture programs use, and four times the largest IP packet.
pub const MAX_PACKET_LEN: u32 = 256 * 1024;

/// The longest pcapng block that is read or written, in bytes (16 MiB).
pub const MAX_BLOCK_LEN: u32 = 16 * 1024 * 1024;

/// The format of a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CaptureFormat {
    /// One link type; packets with their times, and nothing else. Every program reads it.
    Pcap,
    /// Several interfaces, comments, keys.
    Pcapng,
}

impl CaptureFormat {
    /// The format for a file of this name: pcap for the suffixes `.pcap`, `.cap` and `.dmp` in any case; pcapng for every other one, for none, and for
    /// standard output (`-`).
    pub fn from_path(path: &Path) -> Self {
        let pcap = path.extension().is_some_and(|suffix| ["pcap", "cap", "dmp"].iter().any(|known| suffix.eq_ignore_ascii_case(known)));
        if pcap { Self::Pcap } else { Self::Pcapng }
    }
}

impl fmt::Display for CaptureFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcap => "pcap",
            Self::Pcapng => "pcapng",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_by_name() {
        for (path, format) in [
            ("a.pcap", CaptureFormat::Pcap),
            ("b/a.CAP", CaptureFormat::Pcap),
            ("a.dmp", CaptureFormat::Pcap),
            ("a.pcapng", CaptureFormat::Pcapng),
            ("a.pcap.pcapng", CaptureFormat::Pcapng),
            ("a", CaptureFormat::Pcapng),
            (".pcap", CaptureFormat::Pcapng),
            ("-", CaptureFormat::Pcapng),
        ] {
            assert_eq!(CaptureFormat::from_path(Path::new(path)), format, "{path}");
        }
    }
}
