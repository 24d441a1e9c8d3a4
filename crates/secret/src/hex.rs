//! Hexadecimal text to key bytes.

use zeroize::Zeroizing;

/// Hexadecimal text that could not be read.
///
/// It holds the offending character, which is not a hexadecimal digit, and nothing else of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hexadecimal digit expected at byte {position}, {} found", Found(.found))]
pub struct HexError {
    /// Byte offset into the text, a `0x` prefix included.
    pub position: usize,
    /// The character at that place; `None` is the end of the text, after an odd number of digits.
    pub found: Option<char>,
}

struct Found<'a>(&'a Option<char>);

impl core::fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some(character) => write!(f, "{character:?}"),
            None => f.write_str("the end of the text after an odd number of digits"),
        }
    }
}

pub(crate) fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, HexError> {
    let start = if text.starts_with("0x") || text.starts_with("0X") { 2 } else { 0 };
    // All the capacity at once: a vector that grows leaves copies of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity((text.len() - start).div_ceil(2)));
    let mut digits = text.char_indices().skip(start);
    while let Some((position, character)) = digits.next() {
        let high = digit(position, Some(character))?;
        let (position, character) = digits.next().map_or((text.len(), None), |(position, character)| (position, Some(character)));
        bytes.push(high << 4 | digit(position, character)?);
    }
    Ok(bytes)
}

fn digit(position: usize, found: Option<char>) -> Result<u8, HexError> {
    found.and_then(|character| character.to_digit(16)).map(|value| value as u8).ok_or(HexError { position, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_digits_of_either_case_and_a_prefix() {
        for (text, bytes) in
            [("", &[][..]), ("0x", &[]), ("00", &[0]), ("fF", &[0xff]), ("0x09aBcD", &[0x09, 0xab, 0xcd]), ("0Xdeadbeef", &[0xde, 0xad, 0xbe, 0xef])]
        {
            assert_eq!(decode(text).unwrap().as_slice(), bytes, "{text}");
        }
    }

    #[test]
    fn says_where_and_what_it_did_not_expect() {
        for (text, position, found) in [
            ("0", 1, None),
            ("0x123", 5, None),
            ("12 34", 2, Some(' ')),
            ("12:34", 2, Some(':')),
            ("1g", 1, Some('g')),
            ("0x0x", 3, Some('x')),
            ("x0", 0, Some('x')),
            ("ab\u{e9}0", 2, Some('\u{e9}')),
            ("\u{ff11}1", 0, Some('\u{ff11}')),
            (" 00", 0, Some(' ')),
            ("00\n", 2, Some('\n')),
        ] {
            assert_eq!(decode(text), Err(HexError { position, found }), "{text:?}");
        }
        assert_eq!(decode("1g").unwrap_err().to_string(), "hexadecimal digit expected at byte 1, 'g' found");
        assert_eq!(decode("1").unwrap_err().to_string(), "hexadecimal digit expected at byte 1, the end of the text after an odd number of digits found");
    }

    #[test]
    fn never_grows_its_vector() {
        for digits in [2, 8, 32, 40, 72, 200] {
            let bytes = decode(&"a5".repeat(digits / 2)).unwrap();
            assert_eq!(bytes.capacity(), digits / 2);
        }
    }
}
