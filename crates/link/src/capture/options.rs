//! pcapng options: lists of code, length and value that end a block.

use std::borrow::Cow;

use super::bytes::{Fields, padded};
use super::error::{Allowed, Problem};

pub(crate) const END: u16 = 0;
pub(crate) const COMMENT: u16 = 1;
pub(crate) const SHB_USERAPPL: u16 = 4;
pub(crate) const IF_NAME: u16 = 2;
pub(crate) const IF_DESCRIPTION: u16 = 3;
pub(crate) const IF_TSRESOL: u16 = 9;
pub(crate) const IF_FCSLEN: u16 = 13;
pub(crate) const IF_TSOFFSET: u16 = 14;
pub(crate) const EPB_FLAGS: u16 = 2;

/// The options of a block, as they come. A list may end with its block or with an end option.
pub(crate) struct Options<'a>(pub(crate) Fields<'a>);

impl<'a> Iterator for Options<'a> {
    type Item = Result<(u16, &'a [u8]), Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.rest().len();
        if rest == 0 {
            return None;
        }
        let mut fields = self.0;
        let (Some(code), Some(len)) = (fields.u16(), fields.u16()) else {
            self.0 = Fields::new(super::ByteOrder::Little, &[]);
            return Some(Err(Problem::Field { field: "bytes left for an option", found: rest as u64, allowed: Allowed::AtLeast(4) }));
        };
        if code == END {
            return None;
        }
        let value = fields.take(len.into());
        let padding = fields.take(padded(len.into()) - usize::from(len));
        let (Some(value), Some(_)) = (value, padding) else {
            self.0 = Fields::new(super::ByteOrder::Little, &[]);
            return Some(Err(Problem::Field { field: "option length", found: len.into(), allowed: Allowed::AtMost(rest as u64 - 4) }));
        };
        self.0 = fields;
        Some(Ok((code, value)))
    }
}

/// A text option: up to a null byte if it has one; bytes that are not UTF-8 become U+FFFD.
pub(crate) fn text(value: &[u8]) -> Cow<'_, str> {
    let text = value.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text)
}

/// Appends an option, little-endian.
pub(crate) fn put(block: &mut Vec<u8>, field: &'static str, code: u16, value: &[u8]) -> Result<(), Problem> {
    let len = u16::try_from(value.len()).map_err(|_| Problem::Field { field, found: value.len() as u64, allowed: Allowed::AtMost(u16::MAX.into()) })?;
    block.extend(code.to_le_bytes());
    block.extend(len.to_le_bytes());
    block.extend(value);
    block.resize(padded(block.len()), 0);
    Ok(())
}

/// Ends a list of options that began at `start`, if there were any.
pub(crate) fn end(block: &mut Vec<u8>, start: usize) {
    if block.len() > start {
        block.extend([0; 4]);
    }
}
