//! The pcap format (draft-ietf-opsawg-pcap).
//!
//! ```text
//! file header, 24 bytes:  magic 4 | major 2 | minor 2 | reserved 4 | reserved 4 | snap length 4 | FCS length and link type 4
//! record, 16 bytes:       seconds 4 | micro- or nanoseconds 4 | captured length 4 | original length 4 | then the packet
//! ```

use std::io::Read;

use packet::Time;

use super::MAX_PACKET_LEN;
use super::bytes::{ByteOrder, Fields};
use super::error::{Allowed, Problem};
use super::input::Input;
use super::link_type::LinkType;
use super::reader::Record;

const HEADER_LEN: usize = 24;
const RECORD_LEN: usize = 16;
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const VERSION: (u16, u16) = (2, 4);
/// The flag that says that the four bits above it are the length of the frame check sequence, in units of two bytes.
const FCS_PRESENT: u32 = 0x0400_0000;

/// A pcap file whose header has been read.
pub(crate) struct PcapReader {
    order: ByteOrder,
    /// Nanoseconds in a unit of the second timestamp field.
    unit: u64,
    link_type: LinkType,
    fcs_length: u8,
}

impl PcapReader {
    /// Byte order and unit, if these are the first bytes of a pcap file.
    pub(crate) fn recognise(magic: [u8; 4]) -> Option<(ByteOrder, u64)> {
        [ByteOrder::Little, ByteOrder::Big].into_iter().find_map(|order| match order.u32(magic) {
            MICROSECONDS => Some((order, 1000)),
            NANOSECONDS => Some((order, 1)),
            _ => None,
        })
    }

    /// Reads what comes after the magic.
    pub(crate) fn open<R: Read>(input: &mut Input<R>, (order, unit): (ByteOrder, u64)) -> Result<Self, Problem> {
        let mut bytes = [0; HEADER_LEN - 4];
        input.exact(&mut bytes, "rest of the pcap file header")?;
        let mut fields = Fields::new(order, &bytes);
        let (major, minor) = (fields.u16().unwrap_or_default(), fields.u16().unwrap_or_default());
        if major != VERSION.0 {
            return Err(Problem::Field { field: "major version", found: major.into(), allowed: Allowed::Exactly(VERSION.0.into()) });
        }
        // Before 2.4 the two length fields came in either order.
        if minor < VERSION.1 {
            return Err(Problem::Field { field: "minor version", found: minor.into(), allowed: Allowed::AtLeast(VERSION.1.into()) });
        }
        // Time zone, accuracy and snap length: the first two are always 0, and the last is only a promise about lengths that each record has itself.
        let _ = fields.take(12);
        let link = fields.u32().unwrap_or_default();
        let fcs_length = if link & FCS_PRESENT == 0 { 0 } else { (link >> 28) as u8 * 2 };
        Ok(Self { order, unit, link_type: LinkType(link as u16), fcs_length })
    }

    /// Reads the next record: its packet is then in `body`.
    pub(crate) fn next<R: Read>(&mut self, input: &mut Input<R>, body: &mut Vec<u8>) -> Result<Option<Record>, Problem> {
        let mut header = [0; RECORD_LEN];
        if !input.start(&mut header, "record header")? {
            return Ok(None);
        }
        let mut fields = Fields::new(self.order, &header);
        let mut field = || fields.u32().unwrap_or_default();
        let (seconds, fraction, captured, original) = (field(), field(), field(), field());
        if captured > MAX_PACKET_LEN {
            return Err(Problem::Field { field: "captured length", found: captured.into(), allowed: Allowed::AtMost(MAX_PACKET_LEN.into()) });
        }
        let len = captured as usize;
        input.body(body, len, "packet")?;
        Ok(Some(Record {
            interface: 0,
            link_type: self.link_type,
            order: self.order,
            timestamp: Time::from_nanos(u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.unit),
            original_length: original,
            fcs_length: self.fcs_length,
            data: 0..len,
            options: len..len,
        }))
    }
}

/// The file header of what is written here: little-endian, nanoseconds.
pub(crate) fn file_header(link_type: LinkType) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..4].copy_from_slice(&NANOSECONDS.to_le_bytes());
    bytes[4..6].copy_from_slice(&VERSION.0.to_le_bytes());
    bytes[6..8].copy_from_slice(&VERSION.1.to_le_bytes());
    bytes[16..20].copy_from_slice(&MAX_PACKET_LEN.to_le_bytes());
    bytes[20..].copy_from_slice(&u32::from(link_type.0).to_le_bytes());
    bytes
}

/// A record header of what is written here.
pub(crate) fn record_header(timestamp: Time, captured: u32, original: u32) -> Result<[u8; RECORD_LEN], Problem> {
    let nanos = timestamp.as_nanos();
    let seconds = u32::try_from(nanos / 1_000_000_000).map_err(|_| Problem::Field {
        field: "seconds of the timestamp",
        found: nanos / 1_000_000_000,
        allowed: Allowed::AtMost(u32::MAX.into()),
    })?;
    let mut bytes = [0; RECORD_LEN];
    for (at, value) in [seconds, (nanos % 1_000_000_000) as u32, captured, original].into_iter().enumerate() {
        bytes[4 * at..][..4].copy_from_slice(&value.to_le_bytes());
    }
    Ok(bytes)
}
