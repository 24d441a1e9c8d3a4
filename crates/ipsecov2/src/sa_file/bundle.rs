//! One `[[sa]]` with its associations: the grammar, and what its fields must have to do with one another.

use core::str::FromStr;

use ipsec::{Authentication, Encryption, ReplayWindow};
use ndis::{Direction, Operation};
use packet::{IpAddress, IpVersion, Spi};
use secret::SecretBytes;
use toml::de::DeTable;
use transport::{AssociationParameters, Mode, OffloadPolicy, SaParameters, TrafficFlow, UdpEncapsulation};

use super::checks;
use super::error::{FileError, quote, quote_address, quote_word};
use super::reader::{Field, Fields, Source};
use super::{Bundle, SaFileRules, selector};

const BUNDLE_FIELDS: &[&str] = &[
    "name",
    "direction",
    "mode",
    "source",
    "destination",
    "replay-window",
    "udp-encapsulation",
    "inside",
    "ah-alignment",
    "traffic-flow",
    "allow-unauthenticated",
    "offload",
    "selectors",
    "association",
];
const ESP_FIELDS: &[&str] = &[
    "operation",
    "spi",
    "encryption",
    "encryption-key",
    "icv-length",
    "authentication",
    "authentication-key",
    "extended-sequence-numbers",
    "sequence-number-high",
    "sequence-number",
];
const UDP_FIELDS: &[&str] = &["source-port", "destination-port"];
const FLOW_FIELDS: &[&str] = &["pad-to", "dummy-every"];
const OFFLOAD: &[(&str, OffloadPolicy)] = &[("require", OffloadPolicy::Require), ("prefer", OffloadPolicy::Prefer), ("forbid", OffloadPolicy::Forbid)];
const ASSOCIATIONS: &str = "one [[sa.association]], or two: ESP, then AH";

/// A bundle, and where those of its fields stand that are checked against other bundles.
pub(super) struct Read {
    pub(super) bundle: Bundle,
    pub(super) name_at: usize,
    pub(super) inside_at: usize,
}

/// Reads one `[[sa]]`.
pub(super) fn read(source: Source<'_>, at: usize, table: DeTable<'_>, rules: SaFileRules<'_>) -> Result<Read, FileError> {
    let mut fields = Fields::new(source, at, table, BUNDLE_FIELDS)?;
    let name = fields.require("name", "a name that no other SA of the file has")?;
    let name_at = name.at;
    let name = match name.text("a text")? {
        text if text.is_empty() || text.chars().any(char::is_control) => return Err(name.invalid(quote(text), "a name without control characters expected")),
        text => text.to_owned(),
    };
    let direction =
        one_of(&fields.require("direction", "\"inbound\" or \"outbound\"")?, &[("inbound", Direction::Inbound), ("outbound", Direction::Outbound)])?;
    let mode_field = fields.require("mode", "\"transport\" or \"tunnel\"")?;
    let mode = one_of(&mode_field, &[("transport", Mode::Transport), ("tunnel", Mode::Tunnel)])?;
    let (from, to) = endpoints(&mut fields, direction, mode)?;
    let replay_window = match fields.take("replay-window") {
        Some(field) => field.integer(0, i128::from(ReplayWindow::MAX_SIZE), "0 (off) to 65536")?,
        None => SaParameters::DEFAULT_REPLAY_WINDOW,
    };
    let selectors = match fields.take("selectors") {
        Some(field) => selectors(source, field, (mode == Mode::Transport).then(|| from.version()))?,
        None => Vec::new(),
    };
    let allow_unauthenticated = fields.take("allow-unauthenticated").map_or(Ok(false), |field| field.boolean())?;
    let offload = fields.take("offload").map_or(Ok(OffloadPolicy::Prefer), |field| one_of(&field, OFFLOAD))?;
    let inside = fields.take("inside");
    let inside_at = inside.as_ref().map_or(at, |field| field.at);
    let inside = inside.map(|field| inside_name(&field, mode)).transpose()?;
    let udp = fields.take("udp-encapsulation");
    let udp_at = udp.as_ref().map(|field| field.key_at);
    let udp_encapsulation = udp.map(|field| udp_encapsulation(source, field)).transpose()?;
    let alignment = fields.take("ah-alignment");
    let flow = fields.take("traffic-flow");
    let flow_at = flow.as_ref().map(|field| field.key_at);
    let traffic_flow = flow.map_or(Ok(TrafficFlow::NONE), |field| traffic_flow(source, field, mode))?;

    let associations = fields.require("association", ASSOCIATIONS)?;
    let associations_at = associations.at;
    let tables = associations.tables("an array of tables ([[sa.association]])")?;
    if tables.is_empty() || tables.len() > 2 {
        return Err(source.error(tables.get(2).map_or(associations_at, |(at, _)| *at), count(tables.len())));
    }
    let has_ah = tables.len() == 2;
    let associations = tables
        .into_iter()
        .enumerate()
        .map(|(number, (at, table))| association(source, at, table, rules, Place { number, has_ah, allow_unauthenticated }))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(at) = udp_at
        && associations.iter().any(|association| association.operation == Operation::Ah)
    {
        let problem = super::Problem::Invalid { field: "udp-encapsulation", found: "AH".into(), allowed: "only ESP alone goes in UDP".into() };
        return Err(source.error(at, problem));
    }
    let ah_alignment = alignment.map(|field| ah_alignment(&field, from.version(), &associations)).transpose()?;
    if let Some(at) = flow_at
        && associations.iter().all(|association| association.operation == Operation::Ah)
    {
        let problem = super::Problem::Invalid { field: "traffic-flow", found: "AH alone".into(), allowed: "only ESP hides lengths and numbers".into() };
        return Err(source.error(at, problem));
    }
    let parameters = SaParameters {
        selectors,
        replay_window,
        udp_encapsulation,
        inside,
        ah_alignment,
        traffic_flow,
        allow_unauthenticated,
        allow_reserved_spi: rules.reserved_spi,
        offload,
        ..SaParameters::new(name, direction, mode, (from, to), associations)
    };
    Ok(Read { bundle: Bundle { parameters, position: source.position(at) }, name_at, inside_at })
}

fn count(found: usize) -> super::Problem {
    super::Problem::Invalid { field: "association", found: format!("{found} associations"), allowed: format!("{ASSOCIATIONS} allowed") }
}

/// A field that holds one of a few words.
fn one_of<T: Copy>(field: &Field<'_, '_>, words: &[(&str, T)]) -> Result<T, FileError> {
    let allowed = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
    let text = field.text(&allowed)?;
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| field.invalid(quote_word(text, is_algorithm), format!("{allowed} allowed")))
}

fn endpoints(fields: &mut Fields<'_, '_>, direction: Direction, mode: Mode) -> Result<(IpAddress, IpAddress), FileError> {
    let what = if mode == Mode::Tunnel { "the address in the outer header" } else { "an IP address" };
    let read = |field: &Field<'_, '_>| -> Result<IpAddress, FileError> {
        let text = field.text("an IP address")?;
        text.parse().map_err(|_| field.invalid(quote_address(text), "an IPv4 or IPv6 address expected"))
    };
    let source = fields.require("source", what)?;
    let destination = fields.require("destination", what)?;
    let (from, to) = (read(&source)?, read(&destination)?);
    if from.version() != to.version() {
        return Err(destination.invalid(format!("{to}, {},", to.version()), format!("the source {from} is {}", from.version())));
    }
    if mode == Mode::Tunnel {
        if to.is_unspecified() {
            return Err(destination.invalid(to.to_string(), "the address of the tunnel's other end expected"));
        }
        if from.is_unspecified() && direction == Direction::Outbound {
            return Err(source.invalid(from.to_string(), "the address of the tunnel's own end expected"));
        }
    }
    Ok((from, to))
}

fn selectors(source: Source<'_>, field: Field<'_, '_>, own: Option<IpVersion>) -> Result<Vec<transport::Selector>, FileError> {
    const EXPECTED: &str = "an array of tables such as [ { protocol = \"tcp\" } ]";
    let (key_at, name) = (field.at, field.name);
    let tables = field.tables(EXPECTED)?;
    if tables.is_empty() {
        let allowed = "leave the field out for the default, or write [ {} ] for everything".into();
        return Err(source.error(key_at, super::Problem::Invalid { field: name, found: "an empty array".into(), allowed }));
    }
    tables.into_iter().map(|(at, table)| selector::read(source, at, table, own)).collect()
}

fn inside_name(field: &Field<'_, '_>, mode: Mode) -> Result<String, FileError> {
    let text = field.text("the name of a tunnel bundle")?;
    if mode != Mode::Transport {
        return Err(field.invalid(quote(text), "only a transport bundle can be inside another"));
    }
    Ok(text.to_owned())
}

fn udp_encapsulation(source: Source<'_>, field: Field<'_, '_>) -> Result<UdpEncapsulation, FileError> {
    let (at, table) = field.table("a table such as { source-port = 4500, destination-port = 4500 }")?;
    let mut ports = Fields::new(source, at, table, UDP_FIELDS)?;
    let source_port = ports.require("source-port", "0 to 65535")?.integer(0, 65535, "0 to 65535")?;
    let destination_port = ports.require("destination-port", "1 to 65535")?.integer(1, 65535, "1 to 65535")?;
    Ok(UdpEncapsulation { source_port, destination_port })
}

/// What AH over IPv4 rounds its header's length to; over IPv6 there is no choice.
fn ah_alignment(field: &Field<'_, '_>, version: IpVersion, associations: &[AssociationParameters]) -> Result<u8, FileError> {
    let alignment: u8 = field.integer(4, 8, "4 or 8")?;
    if ![4, 8].contains(&alignment) {
        return Err(field.invalid(alignment.to_string(), "4 or 8 allowed"));
    }
    if associations.iter().all(|association| association.operation == Operation::Esp) {
        return Err(field.invalid(alignment.to_string(), "only AH has it"));
    }
    if version == IpVersion::V6 {
        return Err(field.invalid(alignment.to_string(), "only AH over IPv4 has it; over IPv6 it is always 8"));
    }
    Ok(alignment)
}

fn traffic_flow(source: Source<'_>, field: Field<'_, '_>, mode: Mode) -> Result<TrafficFlow, FileError> {
    let (at, table) = field.table("a table such as { pad-to = 1400, dummy-every = 10 }")?;
    let mut fields = Fields::new(source, at, table, FLOW_FIELDS)?;
    let pad_to = match fields.take("pad-to") {
        Some(field) if mode == Mode::Transport => return Err(field.invalid("transport mode", "only packets in a tunnel can be padded")),
        Some(field) => field.integer(0, 65535, "0 (off) to 65535")?,
        None => 0,
    };
    let dummy_every = fields.take("dummy-every").map_or(Ok(0), |field| field.integer(0, i128::from(u32::MAX), "0 (never) to 0xffffffff"))?;
    Ok(TrafficFlow { pad_to, dummy_every })
}

/// Where an association stands in its bundle.
#[derive(Clone, Copy)]
struct Place {
    /// 0 or 1.
    number: usize,
    /// Whether there are two.
    has_ah: bool,
    allow_unauthenticated: bool,
}

fn association(source: Source<'_>, at: usize, table: DeTable<'_>, rules: SaFileRules<'_>, place: Place) -> Result<AssociationParameters, FileError> {
    let mut fields = Fields::new(source, at, table, ESP_FIELDS)?;
    let operation_field = fields.require("operation", "\"esp\" or \"ah\"")?;
    let operation = one_of(&operation_field, &[("esp", Operation::Esp), ("ah", Operation::Ah)])?;
    if let (true, 0, Operation::Ah) | (true, 1, Operation::Esp) = (place.has_ah, place.number, operation) {
        let found = if operation == Operation::Ah { "\"ah\" as the first of two" } else { "\"esp\" as the second of two" };
        return Err(operation_field.invalid(found, "ESP comes first, then AH"));
    }
    let lowest: u32 = if rules.reserved_spi { 1 } else { 0x100 };
    let allowed = if rules.reserved_spi { "1 to 0xffffffff" } else { "0x100 to 0xffffffff" };
    let spi = Spi(fields.require("spi", allowed)?.integer(i128::from(lowest), i128::from(u32::MAX), allowed)?);
    let (encryption, encryption_key, icv_length) = if operation == Operation::Esp { esp_encryption(&mut fields)? } else { no_encryption(&mut fields)? };
    let authentication = authentication(&mut fields, operation, encryption, place)?;
    let authentication_key = key(&mut fields, "authentication-key", authentication.key_length(), authentication.salt_length(), authentication.name())?;
    let extended_sequence_numbers = fields.take("extended-sequence-numbers").map_or(Ok(false), |field| field.boolean())?;
    let sequence_number_high = match fields.take("sequence-number-high") {
        Some(field) if extended_sequence_numbers => field.integer(0, i128::from(u32::MAX), "0 to 0xffffffff")?,
        Some(field) => field.integer(0, 0, "only 0 without extended-sequence-numbers")?,
        None => 0,
    };
    let sequence_number = fields.take("sequence-number").map_or(Ok(0), |field| field.integer(0, i128::from(u32::MAX), "0 to 0xffffffff"))?;
    Ok(AssociationParameters {
        operation,
        spi,
        encryption,
        encryption_key,
        icv_length,
        authentication,
        authentication_key,
        extended_sequence_numbers,
        sequence_number_high,
        sequence_number,
    })
}

/// A field that holds the name of an algorithm.
fn algorithm<T: FromStr<Err = ipsec::UnknownAlgorithm>>(field: &Field<'_, '_>) -> Result<T, FileError> {
    let text = field.text("the name of an algorithm")?;
    text.parse().map_err(|error: ipsec::UnknownAlgorithm| field.invalid(quote_word(text, is_algorithm), format!("allowed: {}", error.allowed.join(", "))))
}

/// Whether `text` names an algorithm of either kind: people write them into one another's fields.
fn is_algorithm(text: &str) -> bool {
    text.parse::<Encryption>().is_ok() || text.parse::<Authentication>().is_ok()
}

fn esp_encryption(fields: &mut Fields<'_, '_>) -> Result<(Encryption, SecretBytes, u8), FileError> {
    let field = fields.require("encryption", format!("allowed: {}", Encryption::ALL.map(Encryption::name).join(", ")))?;
    let encryption: Encryption = algorithm(&field)?;
    let key = key(fields, "encryption-key", encryption.key_length(), encryption.salt_length(), encryption.name())?;
    let lengths = encryption.icv_lengths();
    let icv_length = match fields.take("icv-length") {
        Some(field) => {
            let length: u8 = field.integer(0, 255, "8, 12 or 16")?;
            if !lengths.contains(&usize::from(length)) {
                let allowed = match lengths {
                    [] => "only combined algorithms have this field".to_owned(),
                    lengths => format!("{} takes {}", encryption.name(), lengths.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
                };
                return Err(field.invalid(length.to_string(), allowed));
            }
            length
        }
        None => lengths.first().map_or(0, |&length| length as u8),
    };
    Ok((encryption, key, icv_length))
}

fn no_encryption(fields: &mut Fields<'_, '_>) -> Result<(Encryption, SecretBytes, u8), FileError> {
    for name in ["encryption", "encryption-key", "icv-length"] {
        if let Some(field) = fields.take(name) {
            return Err(field.invalid("a value", "AH has no encryption fields"));
        }
    }
    Ok((Encryption::Null, SecretBytes::default(), 0))
}

fn authentication(fields: &mut Fields<'_, '_>, operation: Operation, encryption: Encryption, place: Place) -> Result<Authentication, FileError> {
    const EXPECTED: &str = "an authentication algorithm such as \"hmac-sha-256-128\"";
    let field = match fields.take("authentication") {
        Some(field) => field,
        None if operation == Operation::Ah => return fields.require("authentication", EXPECTED).and_then(|field| algorithm(&field)),
        None => match checks::unauthenticated(encryption, place.has_ah, place.allow_unauthenticated) {
            None => return Ok(Authentication::None),
            Some(allowed) => return fields.require("authentication", allowed).and_then(|field| algorithm(&field)),
        },
    };
    let authentication: Authentication = algorithm(&field)?;
    match authentication {
        Authentication::None if operation == Operation::Ah => return Err(field.invalid("\"none\"", format!("{EXPECTED} expected"))),
        Authentication::None => {
            if let Some(allowed) = checks::unauthenticated(encryption, place.has_ah, place.allow_unauthenticated) {
                return Err(field.invalid("\"none\"", allowed));
            }
        }
        other if encryption.is_combined() && operation == Operation::Esp => {
            return Err(field.invalid(format!("\"{other}\""), format!("{encryption} authenticates by itself and takes only \"none\"")));
        }
        Authentication::AesGmac(_) if encryption != Encryption::Null => {
            return Err(field.invalid(format!("\"{authentication}\""), "AES-GMAC goes only with encryption = \"null\""));
        }
        _ => {}
    }
    Ok(authentication)
}

/// A key of exactly `length` bytes, of which the last `salt` are salt. A field that is not there is an empty key.
fn key(fields: &mut Fields<'_, '_>, name: &'static str, length: usize, salt: usize, algorithm: &str) -> Result<SecretBytes, FileError> {
    let takes = match (length, salt) {
        (0, _) => format!("{algorithm} takes no key"),
        (_, 0) => format!("{algorithm} takes {length}"),
        _ => format!("{algorithm} takes {length} ({} key, {salt} salt)", length - salt),
    };
    let Some(field) = fields.take(name) else {
        return if length == 0 {
            Ok(SecretBytes::default())
        } else {
            fields.require(name, format!("{takes} bytes in hexadecimal")).map(|_| SecretBytes::default())
        };
    };
    let text = field.text("a text of hexadecimal digits")?;
    let key = checks::key_bytes(text).map_err(|found| field.invalid(found, checks::HEX_EXPECTED))?;
    if key.len() == length { Ok(key) } else { Err(field.invalid(checks::bytes(key.len()), takes)) }
}
