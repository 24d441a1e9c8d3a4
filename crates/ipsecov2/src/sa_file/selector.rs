//! Selectors in SA files: ranges of addresses and ports, protocols.

use packet::{IpAddress, IpProtocol, IpVersion};
use transport::{AddressRange, PortRange, Selector};

use super::error::{FileError, quote_address, quote_word};
use super::reader::{Field, Fields, Source};

const SELECTOR_FIELDS: &[&str] = &["source", "destination", "protocol", "source-port", "destination-port"];
const ADDRESSES: &str = "an address, a prefix such as \"10.0.1.0/24\" or a range such as \"10.0.2.0-10.0.2.99\" expected";
const PORTS: &str = "a port such as 443 or a range such as \"1024-65535\" expected";
const PROTOCOL: &str = "a name such as \"tcp\" or a number from 0 to 255 expected";

/// Reads one selector. In transport mode, its addresses are of the SA's own version.
pub(super) fn read(source: Source<'_>, at: usize, table: toml::de::DeTable<'_>, own: Option<IpVersion>) -> Result<Selector, FileError> {
    let mut fields = Fields::new(source, at, table, SELECTOR_FIELDS)?;
    let mut wanted = own.map(|version| (version, "SA"));
    let mut side = |name, whose| {
        let Some(field) = fields.take(name) else { return Ok(None) };
        let (range, version) = addresses(&field)?;
        match wanted {
            Some((other, what)) if other != version => Err(field.invalid(format!("{range}, {version},"), format!("the {what} is {other}"))),
            _ => {
                wanted = wanted.or(Some((version, whose)));
                Ok(Some(range))
            }
        }
    };
    let from = side("source", "selector's source")?;
    let to = side("destination", "selector's destination")?;
    let protocol = fields.take("protocol").map(|field| protocol(&field)).transpose()?;
    let mut port = |name| match fields.take(name) {
        None => Ok(PortRange::ANY),
        Some(field) => {
            let range = ports(&field)?;
            match protocol {
                Some(protocol) if !protocol.has_ports() => {
                    Err(field.invalid(format!("ports of {}", protocol_text(protocol)), "only TCP, UDP, SCTP, DCCP and UDP-Lite have ports"))
                }
                _ => Ok(range),
            }
        }
    };
    Ok(Selector { source: from, destination: to, protocol, source_port: port("source-port")?, destination_port: port("destination-port")? })
}

/// Reads an address, a prefix or a range.
fn addresses(field: &Field<'_, '_>) -> Result<(AddressRange, IpVersion), FileError> {
    let text = field.text(ADDRESSES.trim_end_matches(" expected"))?;
    let wrong = || field.invalid(quote_address(text), ADDRESSES);
    let address = |text: &str| text.parse::<IpAddress>().map_err(|_| wrong());
    if let Some((prefix, length)) = text.split_once('/') {
        let prefix = address(prefix)?;
        let most = if prefix.is_v4() { 32 } else { 128 };
        let length = decimal::<u8>(length)
            .filter(|&length| length <= most)
            .ok_or_else(|| field.invalid(quote_address(text), format!("a prefix length of 0 to {most} allowed")))?;
        let range = AddressRange::prefix(prefix, length)
            .ok_or_else(|| field.invalid(quote_address(text), format!("the bits after the first {length} must be zero")))?;
        return Ok((range, prefix.version()));
    }
    if let Some((first, last)) = text.split_once('-') {
        let (first, last) = (address(first)?, address(last)?);
        let range =
            AddressRange::new(first, last).ok_or_else(|| field.invalid(quote_address(text), "two addresses of one version, the lower one first, allowed"))?;
        return Ok((range, first.version()));
    }
    let address = address(text)?;
    Ok((AddressRange::single(address), address.version()))
}

fn ports(field: &Field<'_, '_>) -> Result<PortRange, FileError> {
    if field.is_integer() {
        let port = field.integer(0, 65535, "0 to 65535")?;
        return Ok(PortRange { first: port, last: port });
    }
    let text = field.text(PORTS.trim_end_matches(" expected"))?;
    let wrong = || field.invalid(quote_word(text, |_| false), PORTS);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (decimal(first).ok_or_else(wrong)?, decimal(last).ok_or_else(wrong)?);
    if first > last {
        return Err(field.invalid(quote_word(text, |_| false), "the lower port comes first"));
    }
    Ok(PortRange { first, last })
}

fn protocol(field: &Field<'_, '_>) -> Result<IpProtocol, FileError> {
    if field.is_integer() {
        return field.integer(0, 255, "0 to 255").map(IpProtocol);
    }
    let text = field.text(PROTOCOL.trim_end_matches(" expected"))?;
    IpProtocol::from_name(text).or_else(|| decimal(text).map(IpProtocol)).ok_or_else(|| field.invalid(quote_word(text, |_| false), PROTOCOL))
}

/// A number in plain decimal digits; no sign, which Rust's own parser would take.
fn decimal<T: core::str::FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// A selector as an inline table.
pub(super) fn write(selector: &Selector) -> String {
    let mut fields = Vec::new();
    for (name, range) in [("source", selector.source), ("destination", selector.destination)] {
        if let Some(range) = range {
            fields.push(format!("{name} = \"{range}\""));
        }
    }
    if let Some(protocol) = selector.protocol {
        fields.push(format!("protocol = {}", protocol_text(protocol)));
    }
    for (name, range) in [("source-port", selector.source_port), ("destination-port", selector.destination_port)] {
        match range {
            PortRange::ANY => {}
            PortRange { first, last } if first == last => fields.push(format!("{name} = {first}")),
            PortRange { first, last } => fields.push(format!("{name} = \"{first}-{last}\"")),
        }
    }
    if fields.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", fields.join(", ")) }
}

/// A protocol as SA files say it: a quoted name, or a number.
fn protocol_text(protocol: IpProtocol) -> String {
    protocol.name().map_or_else(|| protocol.0.to_string(), |name| format!("\"{}\"", name.to_ascii_lowercase()))
}
