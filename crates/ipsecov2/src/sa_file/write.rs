//! SA parameters to the text of an SA file.

use core::fmt::Write as _;

use ndis::{Direction, Operation};
use transport::{AssociationParameters, Mode, OffloadPolicy, SaParameters, TrafficFlow};
use zeroize::Zeroizing;

use super::selector;

/// Writes SA bundles as an SA file that [`SaFile::parse`](super::SaFile::parse) reads as the same bundles. Fields at their defaults are left out.
///
/// The text holds the keys, and is erased when it is dropped. Limits, IV masks and whether to offload have no place in SA files.
pub fn to_toml(bundles: &[SaParameters]) -> Zeroizing<String> {
    render(|out| write_all(out, bundles))
}

/// The text that `write` writes, which is called twice: so the text has its whole capacity from the start, and one that grows leaves copies of keys behind.
pub(super) fn render(write: impl Fn(&mut dyn core::fmt::Write)) -> Zeroizing<String> {
    let mut length = Counter(0);
    write(&mut length);
    let mut text = Zeroizing::new(String::with_capacity(length.0));
    write(&mut *text);
    text
}

struct Counter(usize);

impl core::fmt::Write for Counter {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

fn write_all(out: &mut dyn core::fmt::Write, bundles: &[SaParameters]) {
    for (number, parameters) in bundles.iter().enumerate() {
        // Neither a string nor the counter can fail.
        let _ = bundle(out, parameters, if number == 0 { "" } else { "\n" });
    }
}

fn bundle(out: &mut dyn core::fmt::Write, parameters: &SaParameters, before: &str) -> core::fmt::Result {
    let direction = match parameters.direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    };
    let mode = match parameters.mode {
        Mode::Transport => "transport",
        Mode::Tunnel => "tunnel",
    };
    writeln!(out, "{before}[[sa]]\nname = {}\ndirection = \"{direction}\"\nmode = \"{mode}\"", text(&parameters.name))?;
    writeln!(out, "source = \"{}\"\ndestination = \"{}\"", parameters.source, parameters.destination)?;
    if parameters.replay_window != SaParameters::DEFAULT_REPLAY_WINDOW {
        writeln!(out, "replay-window = {}", parameters.replay_window)?;
    }
    if let Some(udp) = parameters.udp_encapsulation {
        writeln!(out, "udp-encapsulation = {{ source-port = {}, destination-port = {} }}", udp.source_port, udp.destination_port)?;
    }
    if let Some(inside) = &parameters.inside {
        writeln!(out, "inside = {}", text(inside))?;
    }
    if let Some(alignment) = parameters.ah_alignment {
        writeln!(out, "ah-alignment = {alignment}")?;
    }
    match parameters.traffic_flow {
        TrafficFlow { pad_to: 0, dummy_every: 0 } => {}
        TrafficFlow { pad_to, dummy_every: 0 } => writeln!(out, "traffic-flow = {{ pad-to = {pad_to} }}")?,
        TrafficFlow { pad_to: 0, dummy_every } => writeln!(out, "traffic-flow = {{ dummy-every = {dummy_every} }}")?,
        TrafficFlow { pad_to, dummy_every } => writeln!(out, "traffic-flow = {{ pad-to = {pad_to}, dummy-every = {dummy_every} }}")?,
    }
    if parameters.allow_unauthenticated {
        writeln!(out, "allow-unauthenticated = true")?;
    }
    match parameters.offload {
        OffloadPolicy::Prefer => {}
        OffloadPolicy::Require => writeln!(out, "offload = \"require\"")?,
        OffloadPolicy::Forbid => writeln!(out, "offload = \"forbid\"")?,
    }
    if !parameters.selectors.is_empty() {
        writeln!(out, "selectors = [ {} ]", parameters.selectors.iter().map(selector::write).collect::<Vec<_>>().join(", "))?;
    }
    parameters.associations.iter().try_for_each(|association| self::association(out, association))
}

fn association(out: &mut dyn core::fmt::Write, association: &AssociationParameters) -> core::fmt::Result {
    writeln!(out, "[[sa.association]]")?;
    match association.operation {
        Operation::Ah => writeln!(out, "operation = \"ah\"\nspi = {:#010x}", association.spi.0)?,
        Operation::Esp => {
            writeln!(out, "operation = \"esp\"\nspi = {:#010x}\nencryption = \"{}\"", association.spi.0, association.encryption)?;
            key(out, "encryption-key", association.encryption_key.expose())?;
            let usual = association.encryption.icv_lengths().first().copied().unwrap_or(0);
            if usize::from(association.icv_length) != usual {
                writeln!(out, "icv-length = {}", association.icv_length)?;
            }
        }
    }
    if association.authentication != ipsec::Authentication::None {
        writeln!(out, "authentication = \"{}\"", association.authentication)?;
        key(out, "authentication-key", association.authentication_key.expose())?;
    }
    if association.extended_sequence_numbers {
        writeln!(out, "extended-sequence-numbers = true")?;
    }
    for (name, number) in [("sequence-number-high", association.sequence_number_high), ("sequence-number", association.sequence_number)] {
        if number != 0 {
            writeln!(out, "{name} = {number:#x}")?;
        }
    }
    Ok(())
}

fn key(out: &mut dyn core::fmt::Write, name: &str, bytes: &[u8]) -> core::fmt::Result {
    if bytes.is_empty() {
        return Ok(());
    }
    write!(out, "{name} = \"")?;
    hexadecimal(out, bytes)?;
    writeln!(out, "\"")
}

/// The digits of a key.
pub(super) fn hexadecimal(out: &mut dyn core::fmt::Write, bytes: &[u8]) -> core::fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

/// A TOML basic string.
fn text(value: &str) -> String {
    let mut quoted = String::from("\"");
    for character in value.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            character if character.is_control() => {
                let _ = write!(quoted, "\\U{:08x}", u32::from(character));
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}
