//! Reading an `esp_sa` table.

use ipsec::{Authentication, Encryption};
use ndis::{Direction, Operation};
use packet::{IpAddress, IpVersion, Spi};
use secret::SecretBytes;
use transport::{AssociationParameters, Mode, SaParameters};
use zeroize::Zeroizing;

use super::super::error::{FileError, Problem, quote_address, quote_word};
use super::super::reader::Source;
use super::super::sides::{self, Names};
use super::super::{Bundle, SaFileRules, checks};
use super::{AUTHENTICATIONS, ENCRYPTIONS, OPEN_GCM, OTHERS, SHA_256_96, UNCHECKED};

const COLUMNS: [&str; 10] = [
    "protocol",
    "source",
    "destination",
    "SPI",
    "encryption",
    "encryption key",
    "authentication",
    "authentication key",
    "sequence number length",
    "sequence number high half",
];
/// Columns that every version has.
const ALWAYS: usize = 8;

/// Reads a table.
pub(in super::super) fn parse(source: Source<'_>, rules: SaFileRules<'_>) -> Result<Vec<Bundle>, FileError> {
    let (mut bundles, mut names) = (Vec::new(), Names::default());
    let mut at = 0;
    for line in source.text.split_inclusive('\n') {
        let start = at + (line.len() - line.trim_start().len());
        at += line.len();
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            Row { source, start, columns: columns(source, start, line)? }.read(rules, &mut names, &mut bundles)?;
        }
    }
    if bundles.is_empty() {
        return Err(source.error(0, Problem::Missing { field: "SA", allowed: "a line for each SA".into() }));
    }
    Ok(bundles)
}

/// A column: where its value begins, and the value.
struct Column {
    at: usize,
    text: Zeroizing<String>,
}

/// Takes a line apart. Within the quotation marks a backslash stands before characters that could not stand there, as Wireshark writes and reads them.
fn columns(source: Source<'_>, start: usize, line: &str) -> Result<Vec<Column>, FileError> {
    let invalid =
        |at: usize, field, found: &str, allowed: &str| source.error(start + at, Problem::Invalid { field, found: found.into(), allowed: allowed.into() });
    let mut columns = Vec::with_capacity(COLUMNS.len());
    let mut rest = line;
    loop {
        let at = line.len() - rest.len();
        let Some(&name) = COLUMNS.get(columns.len()) else { return Err(invalid(at, "line", "an eleventh column", "8 to 10 allowed")) };
        let Some(inside) = rest.strip_prefix('"') else { return Err(invalid(at, name, "no quotation mark", "a text in quotation marks expected")) };
        // As long as what is there: one that grows would leave copies of keys behind.
        let mut text = Zeroizing::new(String::with_capacity(inside.len()));
        let mut characters = inside.chars();
        loop {
            match characters.next() {
                Some('"') => break,
                Some('\\') => match escaped(&mut characters) {
                    Some(character) => text.push(character),
                    None => return Err(invalid(at, name, "a backslash", "\\\\, \\\" or \\x and two hexadecimal digits expected")),
                },
                Some(character) => text.push(character),
                None => return Err(invalid(at, name, "the end of the line", "a quotation mark expected")),
            }
        }
        columns.push(Column { at: start + at, text });
        rest = characters.as_str().trim_start();
        if rest.is_empty() {
            return if columns.len() < ALWAYS {
                Err(invalid(line.len(), "line", &format!("{} columns", columns.len()), "8 to 10 allowed"))
            } else {
                Ok(columns)
            };
        }
        let Some(next) = rest.strip_prefix(',') else {
            return Err(invalid(line.len() - rest.len(), "line", "another character", "a comma or the end of the line expected"));
        };
        rest = next.trim_start();
    }
}

/// The character that an escape is; in hexadecimal only those of ASCII.
fn escaped(characters: &mut core::str::Chars<'_>) -> Option<char> {
    match characters.next()? {
        quoted @ ('"' | '\\') => Some(quoted),
        'x' => {
            let value = characters.next()?.to_digit(16)? * 16 + characters.next()?.to_digit(16)?;
            char::from_u32(value).filter(char::is_ascii)
        }
        _ => None,
    }
}

/// One line.
struct Row<'s> {
    source: Source<'s>,
    start: usize,
    columns: Vec<Column>,
}

impl Row<'_> {
    fn text(&self, column: usize) -> &str {
        self.columns.get(column).map_or("", |column| column.text.as_str())
    }

    fn invalid(&self, column: usize, found: impl Into<String>, allowed: impl Into<String>) -> FileError {
        let at = self.columns.get(column).map_or(self.start, |column| column.at);
        let field = COLUMNS.get(column).copied().unwrap_or("line");
        self.source.error(at, Problem::Invalid { field, found: found.into(), allowed: allowed.into() })
    }

    fn read(&self, rules: SaFileRules<'_>, names: &mut Names, bundles: &mut Vec<Bundle>) -> Result<(), FileError> {
        let version = match self.text(0) {
            "IPv4" => IpVersion::V4,
            "IPv6" => IpVersion::V6,
            other => return Err(self.invalid(0, quote_word(other, |_| false), "\"IPv4\" or \"IPv6\" allowed")),
        };
        let (from, to) = (self.address(1, version)?, self.address(2, version)?);
        let spi = self.spi(rules)?;
        let (encryption, encryption_key, icv_length, authentication) = self.algorithms(rules)?;
        let authentication_key = self.authentication_key(authentication)?;
        let (extended_sequence_numbers, sequence_number_high) = self.numbers()?;
        let mode = rules.esp_sa_mode.unwrap_or(Mode::Tunnel);
        let direction = sides::direction(from, to, rules.local).map_err(|problem| self.source.error(self.start, problem))?;
        for (from, to) in self.ends(from, to, version, direction, mode, rules.local)? {
            let parameters = SaParameters {
                allow_unauthenticated: authentication == Authentication::None && !encryption.is_combined(),
                allow_reserved_spi: rules.reserved_spi,
                ..SaParameters::new(
                    names.name(&[(Operation::Esp, spi)], to),
                    direction,
                    mode,
                    (from, to),
                    vec![AssociationParameters {
                        icv_length,
                        authentication,
                        authentication_key: authentication_key.duplicate(),
                        extended_sequence_numbers,
                        sequence_number_high,
                        ..AssociationParameters::esp(spi, encryption, encryption_key.duplicate())
                    }],
                )
            };
            bundles.push(Bundle { parameters, position: self.source.position(self.start) });
        }
        Ok(())
    }

    /// An address; `None` is any.
    fn address(&self, column: usize, version: IpVersion) -> Result<Option<IpAddress>, FileError> {
        let text = self.text(column);
        let any: &[&str] = match version {
            IpVersion::V4 => &["*", "*.*.*.*", "0.0.0.0/0"],
            IpVersion::V6 => &["*", "*:*:*:*:*:*:*:*", "::/0"],
        };
        if any.contains(&text) {
            return Ok(None);
        }
        let wrong = |allowed: &str| self.invalid(column, quote_address(text), allowed);
        let address: IpAddress = match text.parse() {
            Ok(address) => address,
            Err(_) if text.contains(['*', '/']) => return Err(wrong("one address or \"*\" allowed: an SA has one of each")),
            Err(_) => return Err(wrong("an address or \"*\" expected")),
        };
        if address.version() != version {
            return Err(self.invalid(column, format!("{address}, {},", address.version()), format!("the line's protocol is {version}")));
        }
        Ok((!address.is_unspecified()).then_some(address))
    }

    /// The ends of the SAs that a line stands for. A tunnel needs the addresses of its own ends; an end that is any is this host's, whose every address is
    /// one of an SA then.
    fn ends(
        &self,
        from: Option<IpAddress>,
        to: Option<IpAddress>,
        version: IpVersion,
        direction: Direction,
        mode: Mode,
        local: &[IpAddress],
    ) -> Result<Vec<(IpAddress, IpAddress)>, FileError> {
        let any = if version == IpVersion::V4 { IpAddress::UNSPECIFIED_V4 } else { IpAddress::UNSPECIFIED_V6 };
        if let (Mode::Tunnel, Direction::Outbound, None) = (mode, direction, to) {
            return Err(self.invalid(2, "any address", "the address of the tunnel's other end expected"));
        }
        if let (Mode::Tunnel, Direction::Inbound, None) = (mode, direction, to) {
            let ends: Vec<_> = local.iter().filter(|address| address.version() == version).map(|&to| (from.unwrap_or(any), to)).collect();
            return if ends.is_empty() {
                Err(self.invalid(2, "any address", format!("--local names no {version} address that it could be")))
            } else {
                Ok(ends)
            };
        }
        Ok(vec![(from.unwrap_or(any), to.unwrap_or(any))])
    }

    fn spi(&self, rules: SaFileRules<'_>) -> Result<Spi, FileError> {
        let text = self.text(3);
        if text.contains('*') {
            return Err(self.invalid(3, quote_word(text, |_| false), "one SPI allowed, such as \"0x00001001\": an SA has one"));
        }
        let number = text.strip_prefix("0x").and_then(|_| checks::number(text));
        let number = number.ok_or_else(|| self.invalid(3, quote_word(text, |_| false), "0x and up to 8 hexadecimal digits expected"))?;
        checks::spi(number, rules).map_err(|allowed| self.invalid(3, format!("{number:#010x}"), allowed))
    }

    fn algorithms(&self, rules: SaFileRules<'_>) -> Result<(Encryption, SecretBytes, u8, Authentication), FileError> {
        let (name, chosen) = (self.text(4), self.text(6));
        let Some(&(name, forms, icv_length)) = ENCRYPTIONS.iter().find(|(known, ..)| *known == name) else {
            let allowed = ENCRYPTIONS.map(|(name, ..)| format!("{name:?}")).join(", ");
            return Err(self.invalid(4, quote_algorithm(name), format!("allowed: {allowed}")));
        };
        let key = self.key(5)?;
        let encryption = checks::by_key_length(name, key.len(), forms).map_err(|takes| self.invalid(5, checks::bytes(key.len()), takes))?;
        let unchecked = UNCHECKED.iter().find(|(known, _)| *known == chosen).map(|(_, bytes)| *bytes);
        if encryption.is_combined() {
            return match (icv_length, unchecked) {
                (None, Some(bytes)) if encryption.icv_lengths().contains(&usize::from(bytes)) => Ok((encryption, key, bytes, Authentication::None)),
                _ if chosen == "NULL" => Ok((encryption, key, icv_length.unwrap_or(16), Authentication::None)),
                _ if name == OPEN_GCM => {
                    Err(self.invalid(6, quote_algorithm(chosen), format!("{name} takes \"NULL\" (16 bytes of ICV) or an unchecked ICV of 64, 96 or 128 bits")))
                }
                _ => Err(self.invalid(6, quote_algorithm(chosen), format!("{name} authenticates by itself and takes only \"NULL\""))),
            };
        }
        let Some(&(_, authentication)) = AUTHENTICATIONS.iter().find(|(known, _)| *known == chosen) else {
            let why = match chosen {
                _ if unchecked.is_some() => "nothing is taken unchecked; ",
                SHA_256_96 => "SHA-256 cut to 96 bits is not RFC 4868's; ",
                _ => "",
            };
            let allowed = AUTHENTICATIONS.map(|(name, _)| format!("{name:?}")).join(", ");
            return Err(self.invalid(6, quote_algorithm(chosen), format!("{why}allowed: {allowed}")));
        };
        if authentication == Authentication::None
            && let Some(why) = checks::unauthenticated_elsewhere(encryption, rules.allow_unauthenticated)
        {
            return Err(self.invalid(6, "\"NULL\"", why));
        }
        Ok((encryption, key, 0, authentication))
    }

    fn authentication_key(&self, authentication: Authentication) -> Result<SecretBytes, FileError> {
        let key = self.key(7)?;
        let name = AUTHENTICATIONS.iter().find(|(_, known)| *known == authentication).map_or("NULL", |(name, _)| *name);
        checks::by_key_length(name, key.len(), &[authentication]).map_err(|takes| self.invalid(7, checks::bytes(key.len()), takes))?;
        Ok(key)
    }

    /// A key: hexadecimal digits after `0x`, otherwise the text itself is the key, as Wireshark has it.
    fn key(&self, column: usize) -> Result<SecretBytes, FileError> {
        let text = self.text(column);
        if text.starts_with("0x") || text.starts_with("0X") {
            return checks::key_bytes(text).map_err(|found| self.invalid(column, found, checks::HEX_EXPECTED));
        }
        if !text.is_ascii() {
            return Err(self.invalid(column, "a text that is not ASCII", "0x and hexadecimal digits expected"));
        }
        Ok(SecretBytes::copy_from_slice(text.as_bytes()))
    }

    /// Whether sequence numbers are extended, and their high half.
    fn numbers(&self) -> Result<(bool, u32), FileError> {
        let extended = match self.columns.get(8).map(|column| column.text.as_str()) {
            None | Some("32-bit") => false,
            Some("64-bit") => true,
            Some(other) => return Err(self.invalid(8, quote_word(other, |_| false), "\"32-bit\" or \"64-bit\" allowed")),
        };
        let text = self.text(9);
        let high = if text.is_empty() { Some(0) } else { checks::hexadecimal(text.strip_prefix("0x").unwrap_or(text)) };
        match high {
            None => Err(self.invalid(9, quote_word(text, |_| false), "up to 8 hexadecimal digits expected")),
            // A viewer has one field for both kinds, and does not look at it without extended numbers.
            Some(high) => Ok((extended, if extended { high } else { 0 })),
        }
    }
}

/// Quotes the name of an algorithm; one that no table has only if it is short.
fn quote_algorithm(text: &str) -> String {
    let mut known = ENCRYPTIONS.iter().map(|(name, ..)| *name).chain(AUTHENTICATIONS.iter().map(|(name, _)| *name));
    if known.any(|name| name == text) || UNCHECKED.iter().any(|(name, _)| *name == text) || OTHERS.contains(&text) {
        format!("{text:?}")
    } else {
        quote_word(text, |_| false)
    }
}
