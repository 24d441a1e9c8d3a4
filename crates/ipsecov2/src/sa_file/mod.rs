//! SA files: security associations in TOML, as `pcap protect`, `pcap open` and tests take them. `docs/sa-file.md` describes the grammar for users.
//!
//! ```
//! use ipsecov2::sa_file::{SaFile, SaFileRules};
//!
//! let text = r#"
//!     [[sa]]
//!     name = "b-from-a"
//!     direction = "inbound"
//!     mode = "tunnel"
//!     source = "192.0.2.1"
//!     destination = "192.0.2.2"
//!     selectors = [ { source = "10.0.1.0/24", protocol = "tcp", destination-port = 443 } ]
//!     [[sa.association]]
//!     operation = "esp"
//!     spi = 0x00001001
//!     encryption = "aes-gcm-128"
//!     encryption-key = "000102030405060708090a0b0c0d0e0f10111213"
//! "#;
//! let file = SaFile::parse(text, "example.toml", SaFileRules::default())?;
//! assert_eq!(file.bundles[0].parameters.name, "b-from-a");
//!
//! let wrong = text.replace("10111213", "101112");
//! let error = SaFile::parse(&wrong, "example.toml", SaFileRules::default()).unwrap_err();
//! assert_eq!(error.to_string(), "example.toml:13:22: encryption-key: 19 bytes found, aes-gcm-128 takes 20 (16 key, 4 salt)");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Two formats that people already have are read as well, and recognised by their content: what `ip xfrm state` prints on Linux, and Wireshark's `esp_sa`
//! table. [`write()`] writes all three. Errors never hold a key: not the line that they are about, and nothing that could be a key in a wrong place.

mod bundle;
mod checks;
mod esp_sa;
mod format;
mod selector;
mod sides;
mod write;
mod xfrm;

use std::fs::File;
use std::path::Path;

use ndis::Direction;
use packet::IpAddress;
use toml::de::DeTable;
use transport::{Mode, SaParameters};
use zeroize::Zeroizing;

pub use error::{FileError as SaFileError, Position, Problem};
pub(crate) use esp_sa::secret as esp_secret;
pub use format::{Format, Loss, Target, Written, write};
pub use write::to_toml;

use error::{FileError, harmless, quote};
use reader::{Fields, Source};

use crate::text_file::{error, reader};

/// Which SA files are taken, and what is to be known of them beyond what they say; by default those with ordinary SPIs, in any format.
#[derive(Clone, Copy, Debug, Default)]
pub struct SaFileRules<'a> {
    /// Takes SPIs 1 to 255, which are reserved (RFC 4303 section 2.1). 0 is never taken.
    pub reserved_spi: bool,
    /// Takes encryption without any authentication (OV2-COMB-2) from formats that have no field to allow it; a TOML file says it for each SA.
    pub allow_unauthenticated: bool,
    /// This host's addresses: they decide between inbound and outbound where the file does not say.
    pub local: &'a [IpAddress],
    /// Mode of the SAs of an `esp_sa` table, which does not say it; `None` = tunnel.
    pub esp_sa_mode: Option<Mode>,
    /// The file's format; `None` = by its content.
    pub format: Option<Format>,
}

/// One SA bundle of an SA file.
#[derive(Debug)]
pub struct Bundle {
    /// What the transport takes; the IV mask is zero, and whoever sends under the SA sets it (OV2-SEND-7).
    pub parameters: SaParameters,
    /// Where it stands in the file.
    pub position: Position,
}

/// Something in an SA file that its reader should know, and that is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where it stands in the file.
    pub position: Position,
    /// What.
    pub text: String,
}

/// An SA file.
#[derive(Debug)]
pub struct SaFile {
    /// What it was read as.
    pub format: Format,
    /// Its SA bundles, in order.
    pub bundles: Vec<Bundle>,
    /// What was left out of it, or will not be done as it says.
    pub notes: Vec<Note>,
}

/// What is to be known about a file that holds keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileState {
    /// Others than its owner can read it.
    pub readable_by_others: bool,
}

impl SaFile {
    /// Reads `text`; `file` is its name in errors.
    ///
    /// # Errors
    /// [`SaFileError::At`], with what is wrong and where: the first problem found.
    pub fn parse(text: &str, file: &str, rules: SaFileRules<'_>) -> Result<Self, FileError> {
        // Editors on Windows begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let source = Source { file, text };
        let format = rules.format.unwrap_or_else(|| Format::of(text));
        let (bundles, notes) = match format {
            Format::Toml => (parse_toml(source, rules)?, Vec::new()),
            Format::Xfrm => xfrm::parse(source, rules)?,
            Format::EspSa => (esp_sa::parse(source, rules)?, Vec::new()),
        };
        Ok(Self { format, bundles, notes })
    }

    /// Reads the file at `path`; `-` is standard input.
    ///
    /// # Errors
    /// [`SaFileError`]: it cannot be read, or what is wrong in it and where.
    pub fn read(path: &Path, rules: SaFileRules<'_>) -> Result<(Self, FileState), FileError> {
        let is_stdin = path.as_os_str() == "-";
        let file = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
        let failed = |error| FileError::Read { file: file.clone(), error };
        let (bytes, state) = if is_stdin {
            (read_all(std::io::stdin().lock(), 0).map_err(failed)?, FileState::default())
        } else {
            let opened = File::open(path).map_err(failed)?;
            let metadata = opened.metadata().map_err(failed)?;
            let state = FileState { readable_by_others: readable_by_others(&metadata) };
            (read_all(opened, usize::try_from(metadata.len()).unwrap_or(0)).map_err(failed)?, state)
        };
        let text = core::str::from_utf8(&bytes).map_err(|error| {
            let good = bytes.get(..error.valid_up_to()).and_then(|good| core::str::from_utf8(good).ok()).unwrap_or_default();
            FileError::At { file: file.clone(), position: Position::of(good, good.len()), problem: Problem::Utf8 }
        })?;
        Ok((Self::parse(text, &file, rules)?, state))
    }
}

fn parse_toml(source: Source<'_>, rules: SaFileRules<'_>) -> Result<Vec<Bundle>, FileError> {
    let document = DeTable::parse(source.text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        source.error(at, Problem::Syntax(harmless(error.message())))
    })?;
    let mut fields = Fields::new(source, 0, document.into_inner(), &["sa"])?;
    let tables = fields.require("sa", "at least one [[sa]] expected")?.tables("an array of tables ([[sa]])")?;
    let mut read = Vec::with_capacity(tables.len());
    for (at, table) in tables {
        read.push(bundle::read(source, at, table, rules)?);
    }
    check_names(source, &read)?;
    Ok(read.into_iter().map(|read| read.bundle).collect())
}

/// Reads everything, and leaves no copy behind: a vector that grows would.
fn read_all(mut input: impl std::io::Read, expected: usize) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity((expected + 1).max(4096)));
    loop {
        let (filled, capacity) = (bytes.len(), bytes.capacity());
        bytes.resize(capacity, 0);
        let read = input.read(&mut bytes[filled..]);
        bytes.truncate(filled + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => return Ok(bytes),
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        if bytes.len() == capacity {
            let mut larger = Zeroizing::new(Vec::with_capacity(2 * capacity));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
    }
}

#[cfg(unix)]
fn readable_by_others(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.is_file() && metadata.permissions().mode() & 0o044 != 0
}

#[cfg(not(unix))]
fn readable_by_others(_: &std::fs::Metadata) -> bool {
    false
}

/// Names are unique; `inside` names a tunnel bundle of the same direction, and only one of the two is in UDP (OV2-RECV-7).
fn check_names(source: Source<'_>, read: &[bundle::Read]) -> Result<(), FileError> {
    let mut names = std::collections::HashMap::with_capacity(read.len());
    for entry in read {
        let parameters = &entry.bundle.parameters;
        if let Some(first) = names.insert(parameters.name.as_str(), entry) {
            let allowed = format!("another SA has this name at {}", source.position(first.name_at));
            return Err(source.error(entry.name_at, Problem::Invalid { field: "name", found: quote(&parameters.name), allowed }));
        }
    }
    for entry in read {
        let parameters = &entry.bundle.parameters;
        let Some(inside) = &parameters.inside else { continue };
        let outer = names.get(inside.as_str()).map(|outer| &outer.bundle.parameters);
        let allowed = match outer {
            None => "no SA of the file has this name",
            Some(outer) if outer.mode != Mode::Tunnel => "that SA is no tunnel",
            Some(outer) if outer.direction != parameters.direction => match parameters.direction {
                Direction::Inbound => "that SA is outbound, this one inbound",
                Direction::Outbound => "that SA is inbound, this one outbound",
            },
            Some(outer) if outer.udp_encapsulation.is_some() && parameters.udp_encapsulation.is_some() => {
                "that SA has udp-encapsulation, too; it stands only on the one that has the UDP header"
            }
            Some(_) => continue,
        };
        return Err(source.error(entry.inside_at, Problem::Invalid { field: "inside", found: quote(inside), allowed: allowed.into() }));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
