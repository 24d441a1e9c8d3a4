//! What can be wrong with an SA file or a NIC profile, and where. No error holds a key, or text that could be one.

use core::fmt;
use std::io;

/// A place in the text of a file.
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

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
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

/// What is wrong at a place of a file.
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
}

/// Characters of a word that a key in hexadecimal or Base64 has, and no word that belongs into an SA file: a quarter of an AES-128 key's.
const KEY_RUN: usize = 16;
/// The longest text that is quoted.
const LONGEST: usize = 64;
/// The longest text that is quoted where a word is expected.
const LONGEST_WORD: usize = 24;

/// Quotes free `text` of an SA file, such as a name, for an error. What could be a key that got into the wrong place, is long, or has control characters
/// (whose escapes are digits, too), is only described.
pub(crate) fn quote(text: &str) -> String {
    let shown = text.chars().count() <= LONGEST && !looks_like_key(text) && !text.chars().any(char::is_control);
    if shown { format!("{text:?}") } else { described(text) }
}

/// Quotes a text that is no address, or not the one that is allowed. No address has as many characters between its dots and colons as a key.
pub(crate) fn quote_address(text: &str) -> String {
    if longest_run(text) >= KEY_RUN { described(text) } else { quote(text) }
}

/// Quotes a text in place of one of a few words. `is_known` says whether it would be right in another place.
pub(crate) fn quote_word(text: &str, is_known: impl Fn(&str) -> bool) -> String {
    if text.chars().count() > LONGEST_WORD || (longest_run(text) >= KEY_RUN && !is_known(text)) { described(text) } else { quote(text) }
}

fn described(text: &str) -> String {
    format!("a text of {} characters", text.chars().count())
}

/// Makes a parser's own message fit to be shown.
pub(crate) fn harmless(message: &str) -> String {
    if looks_like_key(message) { "invalid text".to_owned() } else { message.split_whitespace().collect::<Vec<_>>().join(" ") }
}

/// Whether eight bytes or more in hexadecimal stand somewhere in `text`, with or without separators, or what looks like Base64. Addresses have no such
/// run: IPv6 addresses have at most four digits between colons, and the separators looked through here are others.
fn looks_like_key(text: &str) -> bool {
    let base64 = |run: &str| run.len() >= KEY_RUN && run.bytes().any(|byte| byte.is_ascii_uppercase()) && run.bytes().any(|byte| byte.is_ascii_lowercase());
    if runs(text).any(base64) {
        return true;
    }
    let mut run = 0;
    for character in text.chars() {
        match character {
            '_' | '-' | ' ' => {}
            character if character.is_ascii_hexdigit() => run += 1,
            _ => run = 0,
        }
        if run >= KEY_RUN {
            return true;
        }
    }
    false
}

/// The pieces of `text` of characters that Base64 has, in either alphabet.
fn runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !(character.is_ascii_alphanumeric() || "+/=_-".contains(character)))
}

fn longest_run(text: &str) -> usize {
    runs(text).map(str::len).max().unwrap_or(0)
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
        for text in ["00112233445566778899aabbccddeeff", "x00112233445566770", "00_11_22_33_44_55_66_77", "0011-2233-4455-6677", "a\0b", &"z".repeat(65)] {
            let quoted = quote(text);
            assert!(quoted.starts_with("a text of "), "{quoted}");
        }
        for text in ["aes-gcm-128", "2001:db8:1234:5678:9abc:def0:1234:5678", "2001:db8::1-2001:db8::ff", "10.0.2.0-10.0.2.99", "decade-facade", ""] {
            assert_eq!(quote(text), format!("{text:?}"));
        }
        for base64 in ["AAECAwQFBgcICQoLDA0ODxAREhM=", "wP/u0aVet5wBI0Vn", "key:wP_u0aVet5wBI0VniavN7", "AAAAAAAAAAAAAAAAAAAAaa=="] {
            assert!([quote(base64), quote_address(base64), quote_word(base64, |_| false)].iter().all(|quoted| quoted.starts_with("a text of ")), "{base64}");
        }
        assert_eq!(harmless("a\n  b 0011223344556677"), "invalid text");
        assert_eq!(harmless("a wP/u0aVet5wBI0VniavN7 b"), "invalid text");
        assert_eq!(harmless("a\n  b"), "a b");
    }

    #[test]
    fn words_and_addresses_are_quoted_only_if_they_are_short() {
        let known = |text: &str| text == "chacha20-poly1305";
        for word in ["aes-gcm-129", "AES-GCM-128", "chacha20-poly1305", "12345678-1234-5", "ein Wort", ""] {
            assert_eq!(quote_word(word, known), format!("{word:?}"));
        }
        // A run that is long enough, in whatever letters, and many short ones.
        for word in ["chacha20-poly1306", "abcdefghijklmnop", "ABCDEFGHIJKLMNOP", "abcdefghijklm/+=", "seven letters in each run"] {
            assert_eq!(quote_word(word, known), format!("a text of {} characters", word.len()));
        }
        assert_eq!(quote("a-name-of-many-words-and-16"), "\"a-name-of-many-words-and-16\"");
        for address in ["2001:db8:1234:5678:9abc:def0:1234:5678", "192.0.2.300", "2001:db8::1-2001:db8::ff", "example.com"] {
            assert_eq!(quote_address(address), format!("{address:?}"));
        }
        assert_eq!(quote_address("abcdefghijklmnop"), "a text of 16 characters");
    }
}
