//! What can be wrong with a capture, and where.

use core::fmt;
use std::io;

use super::link_type::LinkType;

/// A capture that cannot be read or written (further).
///
/// Displayed as `FILE: packet 17 at byte 1234: captured length: at most 262144 expected, 3735928559 found`.
#[derive(Debug)]
pub struct CaptureError {
    /// The file as the caller named it.
    pub file: String,
    /// The packet concerned, counted from 1; `None` if it is not about a packet.
    pub packet: Option<u64>,
    /// Where the record or block concerned begins, in bytes from the start of the input; `None` for output, and before there is anything.
    pub offset: Option<u64>,
    /// What is wrong.
    pub problem: Problem,
}

impl CaptureError {
    /// The kind of the system's error, if it is one: a broken pipe is usually none to the user.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match &self.problem {
            Problem::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match (self.packet, self.offset) {
            (Some(packet), Some(offset)) => write!(f, ": packet {packet} at byte {offset}")?,
            (Some(packet), None) => write!(f, ": packet {packet}")?,
            (None, Some(offset)) => write!(f, ": at byte {offset}")?,
            (None, None) => {}
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for CaptureError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// What is wrong with a capture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The system refused.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried: `open`, `read`, `create`, `write`.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The input is neither pcap nor pcapng.
    #[error("a pcap or pcapng file expected, {} found", Magic(.found))]
    Format {
        /// Its first four bytes.
        found: [u8; 4],
    },
    /// The input ends inside of a record.
    #[error("{what}: {needed} bytes expected, {found} found before the end of the file")]
    Truncated {
        /// The part that is not whole.
        what: &'static str,
        /// Its length in bytes.
        needed: u64,
        /// Bytes of it that there are.
        found: u64,
    },
    /// A field has a value that it cannot have.
    #[error("{field}: {allowed} expected, {found} found")]
    Field {
        /// The field, in the words of the format's specification.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What it can be.
        allowed: Allowed,
    },
    /// Packets of this link type are not understood.
    #[error("link type: {} expected, {found} found", LinkType::UNDERSTOOD_NAMES)]
    LinkType {
        /// The link type.
        found: LinkType,
    },
    /// A pcap file has one link type; a packet of another one was to be written.
    #[error("link type: a pcap file has one for all packets, {has} here, and cannot take {found}; pcapng can")]
    OtherLinkType {
        /// The link type of the file.
        has: LinkType,
        /// The link type of the packet.
        found: LinkType,
    },
    /// Keys were to be written into a pcap file.
    #[error("a pcap file has no place for keys; pcapng has")]
    SecretsInPcap,
}

/// The values that a field can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Allowed {
    /// This one.
    Exactly(u64),
    /// This one and those below it.
    AtMost(u64),
    /// This one and those above it.
    AtLeast(u64),
    /// Multiples of this one.
    MultipleOf(u64),
    /// In words.
    Words(&'static str),
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(value) => write!(f, "{value}"),
            Self::AtMost(value) => write!(f, "at most {value}"),
            Self::AtLeast(value) => write!(f, "at least {value}"),
            Self::MultipleOf(value) => write!(f, "a multiple of {value}"),
            Self::Words(words) => f.write_str(words),
        }
    }
}

/// Names what people mistake for captures.
struct Magic<'a>(&'a [u8; 4]);

impl fmt::Display for Magic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [0x1f, 0x8b, ..] => f.write_str("gzip data (decompress it first)"),
            [0x28, 0xb5, 0x2f, 0xfd] => f.write_str("zstd data (decompress it first)"),
            [0x04, 0x22, 0x4d, 0x18] => f.write_str("lz4 data (decompress it first)"),
            [0x34, 0xcd, 0xb2, 0xa1] | [0xa1, 0xb2, 0xcd, 0x34] => f.write_str("a modified pcap (magic a1b2cd34, which is not supported)"),
            bytes => write!(f, "{:08x} at the start", u32::from_be_bytes(*bytes)),
        }
    }
}
