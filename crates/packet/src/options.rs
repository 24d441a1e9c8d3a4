//! The options of IPv4 and TCP headers, which share one form.
//!
//! ```text
//! kind 0: end of the list   kind 1: no operation   any other:
//! +--------+--------+---------...
//! |  kind  | length | data        length counts kind and length too
//! +--------+--------+---------...
//! ```

use crate::error::{Layer, ParseError};

/// End of the option list.
pub const OPTION_END: u8 = 0;
/// One byte of padding.
pub const OPTION_NOP: u8 = 1;

/// One option of an IPv4 (RFC 791 section 3.1) or TCP (RFC 9293 section 3.1) header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderOption<'a> {
    /// The kind, all eight bits of it.
    pub kind: u8,
    /// Where the option's kind byte is, from the start of the options area.
    pub offset: usize,
    /// What follows the length byte; empty for a no operation.
    pub data: &'a [u8],
}

/// The options of a header in order, up to the end-of-list option, which is not given out.
///
/// An option whose length is below 2 or that runs past the end gives one error, and ends the iteration: every step takes at least one byte.
#[derive(Clone, Debug)]
pub struct HeaderOptions<'a> {
    layer: Layer,
    area: &'a [u8],
    offset: usize,
}

impl<'a> HeaderOptions<'a> {
    pub(crate) const fn new(layer: Layer, area: &'a [u8]) -> Self {
        Self { layer, area, offset: 0 }
    }

    fn fail(&mut self, error: ParseError) -> Result<HeaderOption<'a>, ParseError> {
        self.offset = self.area.len();
        Err(error)
    }
}

impl<'a> Iterator for HeaderOptions<'a> {
    type Item = Result<HeaderOption<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.offset;
        let rest = self.area.get(offset..)?;
        match *rest {
            [] | [OPTION_END, ..] => {
                self.offset = self.area.len();
                None
            }
            [OPTION_NOP, ..] => {
                self.offset += 1;
                Some(Ok(HeaderOption { kind: OPTION_NOP, offset, data: &[] }))
            }
            [_] => Some(self.fail(ParseError::overrun(self.layer, 2, 1))),
            [kind, length, ..] => {
                if length < 2 {
                    return Some(self.fail(ParseError::LengthTooSmall { layer: self.layer, min: 2, found: u32::from(length) }));
                }
                let Some(data) = rest.get(2..usize::from(length)) else {
                    return Some(self.fail(ParseError::overrun(self.layer, usize::from(length), rest.len())));
                };
                self.offset += usize::from(length);
                Some(Ok(HeaderOption { kind, offset, data }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(area: &[u8]) -> Vec<Result<(u8, usize, usize), ParseError>> {
        HeaderOptions::new(Layer::Ipv4, area).map(|option| option.map(|option| (option.kind, option.offset, option.data.len()))).collect()
    }

    #[test]
    fn gives_options_up_to_the_end_of_the_list() {
        assert_eq!(read(&[]), []);
        assert_eq!(read(&[0, 7, 3, 0]), []);
        assert_eq!(read(&[1, 1, 148, 4, 0, 0, 1, 0]), [Ok((1, 0, 0)), Ok((1, 1, 0)), Ok((148, 2, 2)), Ok((1, 6, 0))]);
        assert_eq!(read(&[7, 2, 7, 2]), [Ok((7, 0, 0)), Ok((7, 2, 0))]);
    }

    #[test]
    fn ends_on_a_length_that_cannot_be() {
        let small = |found| Err(ParseError::LengthTooSmall { layer: Layer::Ipv4, min: 2, found });
        assert_eq!(read(&[7, 0, 1, 1]), [small(0)]);
        assert_eq!(read(&[1, 7, 1, 1]), [Ok((1, 0, 0)), small(1)]);
        assert_eq!(read(&[7, 5, 0, 0]), [Err(ParseError::Overrun { layer: Layer::Ipv4, needed: 5, found: 4 })]);
        assert_eq!(read(&[1, 1, 1, 7]), [Ok((1, 0, 0)), Ok((1, 1, 0)), Ok((1, 2, 0)), Err(ParseError::Overrun { layer: Layer::Ipv4, needed: 2, found: 1 })]);
    }
}
