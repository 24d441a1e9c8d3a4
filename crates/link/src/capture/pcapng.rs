//! Reading the pcapng format (draft-ietf-opsawg-pcapng): blocks in sections, each section in its own byte order and with its own interfaces.
//!
//! ```text
//! block:  type 4 | total length 4 | body, padded to a multiple of 4 | total length 4
//! ```

use std::io::Read;

use packet::Time;

use super::bytes::{ByteOrder, Fields, padded};
use super::error::{Allowed, Problem};
use super::input::Input;
use super::link_type::LinkType;
use super::options::{EPB_FLAGS, IF_FCSLEN, IF_TSOFFSET, IF_TSRESOL, Options};
use super::reader::Record;
use super::{MAX_BLOCK_LEN, MAX_PACKET_LEN};

/// Section Header Block; reads the same in both byte orders.
pub(crate) const SECTION: u32 = 0x0a0d_0d0a;
/// Interface Description Block.
pub(crate) const INTERFACE: u32 = 1;
/// Packet Block, obsolete.
const OLD_PACKET: u32 = 2;
/// Simple Packet Block.
const SIMPLE_PACKET: u32 = 3;
/// Enhanced Packet Block.
pub(crate) const PACKET: u32 = 6;
/// Decryption Secrets Block.
pub(crate) const SECRETS: u32 = 10;

/// The section header's second field, which tells the byte order.
pub(crate) const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Length of a block without body.
const EMPTY_BLOCK_LEN: u32 = 12;
/// More than any machine has; what a file says is kept in memory while its section is read.
const MAX_INTERFACES: usize = 4096;
/// Microseconds, the unit of an interface that says none.
const DEFAULT_RESOLUTION: u8 = 6;

/// A pcapng file, at the start of a block.
pub(crate) struct PcapngReader {
    order: ByteOrder,
    interfaces: Vec<Interface>,
    /// The type of the first block, which was read to recognise the format.
    begun: Option<[u8; 4]>,
    secrets: u64,
}

/// What later blocks need to know of an interface.
struct Interface {
    link_type: LinkType,
    /// 0: no limit.
    snap_length: u32,
    resolution: u8,
    /// Seconds.
    offset: i64,
    fcs_length: u8,
}

/// A block whose header has been read.
struct Block {
    kind: u32,
    /// Total length.
    len: u32,
    /// Bytes of the body that were read to find out the byte order.
    known: Option<[u8; 4]>,
}

impl PcapngReader {
    /// Whether these are the first bytes of a pcapng file.
    pub(crate) fn recognise(magic: [u8; 4]) -> bool {
        magic == SECTION.to_le_bytes()
    }

    /// Reads the first section header, whose type has been read.
    pub(crate) fn open<R: Read>(input: &mut Input<R>, body: &mut Vec<u8>) -> Result<Self, Problem> {
        let mut reader = Self { order: ByteOrder::Little, interfaces: Vec::new(), begun: Some(SECTION.to_le_bytes()), secrets: 0 };
        let mut in_packet = false;
        reader.block(input, body, &mut in_packet)?;
        Ok(reader)
    }

    /// How many blocks with keys have been passed.
    pub(crate) const fn secrets(&self) -> u64 {
        self.secrets
    }

    /// Reads up to and including the next block with a packet, which is then in `body`. `in_packet` says, after an error, whether it is about a packet;
    /// `at` where the block began.
    pub(crate) fn next<R: Read>(&mut self, input: &mut Input<R>, body: &mut Vec<u8>, in_packet: &mut bool, at: &mut u64) -> Result<Option<Record>, Problem> {
        loop {
            *in_packet = false;
            *at = input.offset();
            match self.block(input, body, in_packet)? {
                Step::End => return Ok(None),
                Step::Packet(record) => return Ok(Some(record)),
                Step::Other => {}
            }
        }
    }

    fn block<R: Read>(&mut self, input: &mut Input<R>, body: &mut Vec<u8>, in_packet: &mut bool) -> Result<Step, Problem> {
        let Some(block) = self.header(input)? else { return Ok(Step::End) };
        *in_packet = matches!(block.kind, PACKET | SIMPLE_PACKET | OLD_PACKET);
        if block.len > MAX_BLOCK_LEN {
            return Err(Problem::Field { field: "block length", found: block.len.into(), allowed: Allowed::AtMost(MAX_BLOCK_LEN.into()) });
        }
        let least = if block.known.is_some() { EMPTY_BLOCK_LEN + 4 } else { EMPTY_BLOCK_LEN };
        if block.len < least {
            return Err(Problem::Field { field: "block length", found: block.len.into(), allowed: Allowed::AtLeast(least.into()) });
        }
        if !block.len.is_multiple_of(4) {
            return Err(Problem::Field { field: "block length", found: block.len.into(), allowed: Allowed::MultipleOf(4) });
        }
        let len = block.len - least;
        let wanted = *in_packet || matches!(block.kind, SECTION | INTERFACE);
        if wanted {
            input.body(body, len as usize, "block")?;
        } else {
            input.skip(len.into(), "block")?;
        }
        let mut trailer = [0; 4];
        input.exact(&mut trailer, "second length of a block")?;
        let second = self.order.u32(trailer);
        if second != block.len {
            return Err(Problem::Field { field: "second length of a block", found: second.into(), allowed: Allowed::Exactly(block.len.into()) });
        }
        let fields = Fields::new(self.order, body);
        Ok(match block.kind {
            SECTION => {
                section(fields)?;
                self.interfaces.clear();
                Step::Other
            }
            INTERFACE => {
                if self.interfaces.len() == MAX_INTERFACES {
                    let found = MAX_INTERFACES as u64 + 1;
                    return Err(Problem::Field { field: "interfaces of a section", found, allowed: Allowed::AtMost(MAX_INTERFACES as u64) });
                }
                self.interfaces.push(interface(self.order, fields).ok_or_else(|| short(body))??);
                Step::Other
            }
            PACKET | OLD_PACKET => Step::Packet(self.packet(body, block.kind == OLD_PACKET)?),
            SIMPLE_PACKET => Step::Packet(self.simple_packet(body)?),
            kind => {
                self.secrets += u64::from(kind == SECRETS);
                Step::Other
            }
        })
    }

    /// Reads type and length of a block, and for a section header the byte order; `None` at the end of the file.
    fn header<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<Block>, Problem> {
        let mut kind = [0; 4];
        match self.begun.take() {
            Some(begun) => kind = begun,
            None if !input.start(&mut kind, "block type")? => return Ok(None),
            None => {}
        }
        let mut len = [0; 4];
        input.exact(&mut len, "block length")?;
        if kind != SECTION.to_le_bytes() {
            return Ok(Some(Block { kind: self.order.u32(kind), len: self.order.u32(len), known: None }));
        }
        let mut magic = [0; 4];
        input.exact(&mut magic, "byte order magic")?;
        self.order = match magic {
            bytes if bytes == BYTE_ORDER_MAGIC.to_le_bytes() => ByteOrder::Little,
            bytes if bytes == BYTE_ORDER_MAGIC.to_be_bytes() => ByteOrder::Big,
            bytes => {
                let found = u32::from_be_bytes(bytes).into();
                return Err(Problem::Field { field: "byte order magic", found, allowed: Allowed::Words("0x1a2b3c4d or 0x4d3c2b1a") });
            }
        };
        Ok(Some(Block { kind: SECTION, len: self.order.u32(len), known: Some(magic) }))
    }

    /// An Enhanced Packet Block, or an (old) Packet Block, which differs in its first four bytes: a short interface number, and dropped packets.
    fn packet(&self, body: &[u8], old: bool) -> Result<Record, Problem> {
        let mut fields = Fields::new(self.order, body);
        let number = if old { fields.u16().and_then(|number| fields.u16().map(|_| u32::from(number))) } else { fields.u32() };
        let (Some(number), Some(high), Some(low), Some(captured), Some(original)) = (number, fields.u32(), fields.u32(), fields.u32(), fields.u32()) else {
            return Err(short(body));
        };
        let interface = self.interface(number)?;
        let at = body.len() - fields.rest().len();
        let data = packet_data(body, at, captured)?;
        let options = padded(data.end).min(body.len())..body.len();
        let mut fcs_length = interface.fcs_length;
        for option in Options(Fields::new(self.order, body.get(options.clone()).unwrap_or_default())) {
            let (code, value) = option?;
            if let (EPB_FLAGS, Some(flags)) = (code, Fields::new(self.order, value).u32())
                && flags >> 5 & 0xf != 0
            {
                fcs_length = (flags >> 5 & 0xf) as u8;
            }
        }
        Ok(Record {
            interface: number,
            link_type: interface.link_type,
            order: self.order,
            timestamp: time(u64::from(high) << 32 | u64::from(low), interface),
            original_length: original,
            fcs_length,
            data,
            options,
        })
    }

    /// A Simple Packet Block: of the first interface, without time, and how much was captured follows from the snap length.
    fn simple_packet(&self, body: &[u8]) -> Result<Record, Problem> {
        let mut fields = Fields::new(self.order, body);
        let original = fields.u32().ok_or_else(|| short(body))?;
        let interface = self.interface(0)?;
        let captured = if interface.snap_length == 0 { original } else { original.min(interface.snap_length) };
        let data = packet_data(body, 4, captured)?;
        Ok(Record {
            interface: 0,
            link_type: interface.link_type,
            order: self.order,
            timestamp: Time::ZERO,
            original_length: original,
            fcs_length: interface.fcs_length,
            data,
            options: body.len()..body.len(),
        })
    }

    fn interface(&self, number: u32) -> Result<&Interface, Problem> {
        self.interfaces.get(number as usize).ok_or(Problem::Field {
            field: "interface of the packet",
            found: number.into(),
            allowed: Allowed::Words("the number of an interface that was described before in this section"),
        })
    }
}

enum Step {
    End,
    Packet(Record),
    Other,
}

/// A block whose body is shorter than its fixed fields.
fn short(body: &[u8]) -> Problem {
    Problem::Field { field: "block length", found: body.len() as u64 + 12, allowed: Allowed::Words("room for the fixed fields of the block") }
}

fn packet_data(body: &[u8], at: usize, captured: u32) -> Result<core::ops::Range<usize>, Problem> {
    let room = body.len().saturating_sub(at).min(MAX_PACKET_LEN as usize);
    if captured as usize > room {
        return Err(Problem::Field { field: "captured length", found: captured.into(), allowed: Allowed::AtMost(room as u64) });
    }
    Ok(at..at + captured as usize)
}

fn section(mut fields: Fields<'_>) -> Result<(), Problem> {
    let len = fields.rest().len() as u64 + 16;
    let (Some(major), Some(minor), Some(_)) = (fields.u16(), fields.u16(), fields.take(8)) else {
        return Err(Problem::Field { field: "block length", found: len, allowed: Allowed::AtLeast(28) });
    };
    if major != 1 {
        return Err(Problem::Field { field: "major version", found: major.into(), allowed: Allowed::Exactly(1) });
    }
    // 1.2 was written for a while and is the same as 1.0.
    if minor != 0 && minor != 2 {
        return Err(Problem::Field { field: "minor version", found: minor.into(), allowed: Allowed::Words("0 or 2") });
    }
    Ok(())
}

fn interface(order: ByteOrder, mut fields: Fields<'_>) -> Option<Result<Interface, Problem>> {
    let (link_type, _, snap_length) = (fields.u16()?, fields.u16()?, fields.u32()?);
    let mut interface = Interface { link_type: LinkType(link_type), snap_length, resolution: DEFAULT_RESOLUTION, offset: 0, fcs_length: 0 };
    for option in Options(fields) {
        match option {
            Err(problem) => return Some(Err(problem)),
            Ok((IF_TSRESOL, &[resolution, ..])) => interface.resolution = resolution,
            Ok((IF_FCSLEN, &[length, ..])) => interface.fcs_length = length,
            Ok((IF_TSOFFSET, value)) => {
                if let Some(&bytes) = value.first_chunk::<8>() {
                    interface.offset = order.u64(bytes).cast_signed();
                }
            }
            Ok(_) => {}
        }
    }
    Some(Ok(interface))
}

/// A timestamp in the interface's unit as nanoseconds since the epoch: what is finer is cut off, and what is before 1970 or after 2554 becomes that.
fn time(value: u64, interface: &Interface) -> Time {
    let value = u128::from(value);
    let power = u32::from(interface.resolution & 0x7f);
    let nanos = if interface.resolution & 0x80 != 0 {
        // At most 64 + 30 bits.
        (value * 1_000_000_000).checked_shr(power).unwrap_or_default()
    } else if power <= 9 {
        value * 10u128.pow(9 - power)
    } else {
        10u128.checked_pow(power - 9).map_or(0, |divisor| value / divisor)
    };
    let nanos = i128::try_from(nanos).unwrap_or(i128::MAX).saturating_add(i128::from(interface.offset) * 1_000_000_000);
    Time::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(value: u64, resolution: u8, offset: i64) -> u64 {
        time(value, &Interface { link_type: LinkType::RAW, snap_length: 0, resolution, offset, fcs_length: 0 }).as_nanos()
    }

    #[test]
    fn times_of_every_resolution() {
        assert_eq!(at(1_340_950_620_834_163, 6, 0), 1_340_950_620_834_163_000);
        assert_eq!(at(1_700_000_000_123_456_789, 9, 0), 1_700_000_000_123_456_789);
        assert_eq!(at(17, 0, 0), 17_000_000_000);
        assert_eq!(at(17_999, 12, 0), 17);
        assert_eq!(at(u64::MAX, 127, 0), 0);
        assert_eq!(at(3, 0x80, 0), 3_000_000_000);
        assert_eq!(at(3 << 20 | 1 << 19, 0x94, 0), 3_500_000_000);
        assert_eq!(at(u64::MAX, 0xc0, 0), 999_999_999);
        assert_eq!(at(u64::MAX, 0xff, 0), 0);
        assert_eq!(at(500, 3, 10), 10_500_000_000);
        assert_eq!(at(10_500, 3, -10), 500_000_000);
        assert_eq!(at(1, 3, -10), 0);
        assert_eq!(at(u64::MAX, 0, i64::MAX), u64::MAX);
        assert_eq!(at(u64::MAX, 0, i64::MIN), 9_223_372_036_854_775_807u128.saturating_mul(1_000_000_000).min(u64::MAX.into()) as u64);
    }
}
