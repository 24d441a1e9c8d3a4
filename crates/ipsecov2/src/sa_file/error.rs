//! What can be wrong with an SA file, and where. No error holds a key, or text that could be one.

use core::fmt;
use std::io;

/// A place in the text of an SA file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// The place of the byte `offset` of `text`; beyond its end, the end.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
        let continuation = |byte: &u8| byte & 0xc0 == 0x80;
        let (mut line, mut last) = (0, before);
        for part in before.split(|&byte| byte == b'\n') {
            line += 1;
            last = part;
        }
        Self { line, column: last.iter().filter(|byte| !continuation(byte)).count() + 1 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// An SA file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SaFileError {
    /// It could not be read.
    #[error("{file}: {error}")]
    Read {
        /// The file's name.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// Something in it is wrong.
    #[error("{file}:{position}: {problem}")]
    At {
        /// The file's name.
        file: String,
        /// Where.
        position: Position,
        /// What.
        problem: Problem,
    },
}

/// What is wrong at a place of an SA file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// It is not UTF-8.
    #[error("not UTF-8 text")]
    Utf8,
    /// A field that there is not.
    #[error("unknown field {found}; allowed here: {}", .allowed.join(", "))]
    UnknownField {
        /// Its name.
        found: String,
        /// The fields that there are.
        allowed: &'static [&'static str],
    },
    /// A field is not there.
    #[error("{field} is missing; {allowed}")]
    Missing {
        /// The field.
        field: &'static str,
        /// What it may hold.
        allowed: String,
    },
    /// A field holds what it must not.
    #[error("{field}: {found} found, {allowed}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What it holds.
        found: String,
        /// What it may hold.
        allowed: String,
    },
    /// What the field asks for is known, but this version does not do it.
    #[error("{field}: {feature} is not supported yet")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// What it asks for.
        feature: String,
    },
}

/// Quotes `text` of an SA file for an error. What could be a key that got into the wrong field, or is long, is only described.
pub(crate) fn quote(text: &str) -> String {
    if text.chars().count() > 64 || looks_like_key(text) { format!("a text of {} characters", text.chars().count()) } else { format!("{text:?}") }
}

/// Makes a parser's own message fit to be shown.
pub(crate) fn harmless(message: &str) -> String {
    if looks_like_key(message) { "invalid text".to_owned() } else { message.split_whitespace().collect::<Vec<_>>().join(" ") }
}

/// Whether eight bytes or more in hexadecimal stand somewhere in `text`, with or without separators. Addresses have no such run: IPv6 addresses have at
/// most four digits between colons, and the separators looked through here are others.
fn looks_like_key(text: &str) -> bool {
    let mut run = 0;
    for character in text.chars() {
        match character {
            '_' | '-' | ' ' => {}
            character if character.is_ascii_hexdigit() => run += 1,
            _ => run = 0,
        }
        if run >= 16 {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters() {
        let text = "a\nb\u{e9}c\n\nd";
        for (offset, line, column) in [(0, 1, 1), (1, 1, 2), (2, 2, 1), (3, 2, 2), (5, 2, 3), (7, 3, 1), (8, 4, 1), (9, 4, 2), (100, 4, 2)] {
            assert_eq!(Position::of(text, offset), Position { line, column }, "{offset}");
        }
    }

    #[test]
    fn what_could_be_a_key_is_not_quoted() {
        for text in ["00112233445566778899aabbccddeeff", "x00112233445566770", "00_11_22_33_44_55_66_77", "0011-2233-4455-6677", &"z".repeat(65)] {
            let quoted = quote(text);
            assert!(quoted.starts_with("a text of "), "{quoted}");
        }
        for text in ["aes-gcm-128", "2001:db8:1234:5678:9abc:def0:1234:5678", "2001:db8::1-2001:db8::ff", "10.0.2.0-10.0.2.99", "decade-facade", ""] {
            assert_eq!(quote(text), format!("{text:?}"));
        }
        assert_eq!(harmless("a\n  b 0011223344556677"), "invalid text");
        assert_eq!(harmless("a\n  b"), "a b");
    }
}
