//! What SA files of every format have to keep to: key lengths, SPIs, authentication.

use core::fmt::Write as _;

use ipsec::{Authentication, Encryption};
use packet::Spi;
use secret::SecretBytes;

use super::SaFileRules;

pub(super) const HEX_EXPECTED: &str = "pairs of hexadecimal digits expected";

/// Reads a key in hexadecimal; an error says what was found instead, without the digits around it and without the character itself, which could be part of a
/// key in another notation.
pub(super) fn key_bytes(text: &str) -> Result<SecretBytes, String> {
    SecretBytes::from_hex(text).map_err(|error| match error.found {
        Some(_) => format!("no hexadecimal digit at character {}", text.char_indices().take_while(|(at, _)| *at < error.position).count() + 1),
        None => "an odd number of hexadecimal digits".to_owned(),
    })
}

/// A number of bytes.
pub(super) fn bytes(number: usize) -> String {
    format!("{number} byte{}", if number == 1 { "" } else { "s" })
}

/// What tells algorithms that share a name apart: the length of their keys.
pub(super) trait Keyed: Copy {
    /// Bytes of the key, salt included.
    fn key_length(self) -> usize;
    /// Bytes of salt at its end.
    fn salt_length(self) -> usize;
}

impl Keyed for Encryption {
    fn key_length(self) -> usize {
        Self::key_length(self)
    }
    fn salt_length(self) -> usize {
        Self::salt_length(self)
    }
}

impl Keyed for Authentication {
    fn key_length(self) -> usize {
        Self::key_length(self)
    }
    fn salt_length(self) -> usize {
        Self::salt_length(self)
    }
}

/// Which of `forms`, which share `name`, has a key of exactly `length` bytes; an error says which lengths there are.
pub(super) fn by_key_length<T: Keyed>(name: &str, length: usize, forms: &[T]) -> Result<T, String> {
    if let Some(form) = forms.iter().find(|form| form.key_length() == length) {
        return Ok(*form);
    }
    let list = |numbers: &[usize]| {
        let mut text = String::new();
        for (at, number) in numbers.iter().enumerate() {
            let between = if at == 0 {
                ""
            } else if at + 1 == numbers.len() {
                " or "
            } else {
                ", "
            };
            let _ = write!(text, "{between}{number}");
        }
        text
    };
    let all: Vec<usize> = forms.iter().map(|form| form.key_length()).collect();
    Err(match forms.first().map_or(0, |form| form.salt_length()) {
        _ if all == [0] => format!("{name} takes no key"),
        0 => format!("{name} takes {}", list(&all)),
        salt => format!("{name} takes {} ({} key, {salt} salt)", list(&all), list(&all.iter().map(|length| length - salt).collect::<Vec<_>>())),
    })
}

/// Why ESP with this encryption must have an authentication algorithm, if it must (OV2-COMB-2).
pub(super) fn unauthenticated(encryption: Encryption, has_ah: bool, is_allowed: bool) -> Option<&'static str> {
    match encryption {
        _ if encryption.is_combined() || has_ah => None,
        Encryption::Null => Some("null encryption needs an authentication algorithm, or AH over it"),
        _ if is_allowed => None,
        _ => Some("encryption needs an authentication algorithm, AH over it, or allow-unauthenticated = true"),
    }
}

/// The same for formats that have no field to allow it.
pub(super) fn unauthenticated_elsewhere(encryption: Encryption, is_allowed: bool) -> Option<&'static str> {
    unauthenticated(encryption, false, is_allowed)
        .map(|why| if encryption == Encryption::Null { why } else { "encryption needs an authentication algorithm, or --allow-unauthenticated" })
}

/// The SPI that `number` is, or which are allowed.
pub(super) fn spi(number: u32, rules: SaFileRules<'_>) -> Result<Spi, &'static str> {
    match (number, rules.reserved_spi) {
        (256.., _) | (1.., true) => Ok(Spi(number)),
        (_, true) => Err("1 to 0xffffffff allowed"),
        (_, false) => Err("0x100 to 0xffffffff allowed"),
    }
}

/// A number in decimal or, after `0x`, in hexadecimal digits; no sign, which Rust's own parser would take.
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => hexadecimal(digits),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// A number in hexadecimal digits.
pub(super) fn hexadecimal(digits: &str) -> Option<u32> {
    if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) { u32::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use ipsec::AesKeySize::{Aes128, Aes192, Aes256};

    use super::*;

    #[test]
    fn lengths_of_keys_tell_algorithms_apart() {
        let gcm = [Encryption::AesGcm(Aes128), Encryption::AesGcm(Aes192), Encryption::AesGcm(Aes256)];
        assert_eq!(by_key_length("gcm", 28, &gcm), Ok(Encryption::AesGcm(Aes192)));
        assert_eq!(by_key_length("gcm", 16, &gcm).unwrap_err(), "gcm takes 20, 28 or 36 (16, 24 or 32 key, 4 salt)");
        assert_eq!(by_key_length("md5", 15, &[Authentication::HmacMd5]).unwrap_err(), "md5 takes 16");
        assert_eq!(by_key_length("null", 1, &[Encryption::Null]).unwrap_err(), "null takes no key");
        assert_eq!(by_key_length("null", 0, &[Encryption::Null]), Ok(Encryption::Null));
    }

    #[test]
    fn numbers_have_digits_and_nothing_else() {
        for (text, value) in [
            ("0", Some(0)),
            ("4294967295", Some(u32::MAX)),
            ("0xfF", Some(255)),
            ("0x100000000", None),
            ("4294967296", None),
            ("", None),
            ("0x", None),
            ("+1", None),
            ("-1", None),
            ("0x+1", None),
            ("1 ", None),
            ("ff", None),
        ] {
            assert_eq!(number(text), value, "{text:?}");
        }
    }
}
