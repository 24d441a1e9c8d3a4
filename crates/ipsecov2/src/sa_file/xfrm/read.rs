//! States to SA bundles.

use std::collections::HashMap;

use ipsec::{Authentication, Encryption};
use ndis::{Direction, Operation};
use packet::{IpAddress, IpVersion};
use secret::SecretBytes;
use transport::{AssociationParameters, Mode, SaParameters, Selector, TrafficFlow};

use super::super::error::{FileError, Problem};
use super::super::reader::Source;
use super::super::sides::{self, Names};
use super::super::{Bundle, Note, SaFileRules, checks};
use super::lines;
use super::state::State;

/// Reads all states. Two that Linux takes one after the other for the same packets, AH in transport mode over ESP, make one bundle; every other is one of its
/// own.
pub(in super::super) fn parse(source: Source<'_>, rules: SaFileRules<'_>) -> Result<(Vec<Bundle>, Vec<Note>), FileError> {
    let mut states: Vec<State> = Vec::new();
    for mut line in lines::lines(source) {
        let Some(word) = line.next() else { continue };
        match states.last_mut() {
            _ if word.text == "src" => states.push(State::begin(word, &mut line)?),
            Some(state) => state.line(word, &mut line, rules)?,
            None => return Err(line.invalid(word.at, "another word", "a state expected, which begins with src ADDRESS dst ADDRESS")),
        }
    }
    let (mut parts, mut notes) = (Vec::new(), Vec::new());
    for state in states {
        let note = |at: usize, text: String| Note { position: source.position(at), text };
        let Some(id_at) = state.id_at else {
            return Err(
                source.error(state.at, Problem::Missing { field: "proto", allowed: "a line such as proto esp spi 0x00001001 reqid 1 mode tunnel".into() })
            );
        };
        if state.algorithm_at.is_none() {
            notes.push(note(id_at, "a state without keys, which are being negotiated: left out".to_owned()));
            continue;
        }
        notes.extend(state.notes.iter().map(|(at, text)| note(*at, text.clone())));
        parts.push(Part::of(source, state, rules)?);
    }
    if parts.is_empty() {
        return Err(source.error(0, Problem::Missing { field: "SA", allowed: "a state with keys".into() }));
    }
    let mut names = Names::default();
    Ok((join(parts).into_iter().map(|part| part.bundle(source, rules, &mut names)).collect::<Result<_, _>>()?, notes))
}

/// A state, or two: everything of a bundle but its name.
struct Part {
    state: State,
    direction: Direction,
    association: AssociationParameters,
    ah: Option<(State, AssociationParameters)>,
}

impl Part {
    fn of(source: Source<'_>, mut state: State, rules: SaFileRules<'_>) -> Result<Self, FileError> {
        let error = |at: usize, field, found: String, allowed: &str| source.error(at, Problem::Invalid { field, found, allowed: allowed.into() });
        if let Err(allowed) = checks::spi(state.spi.0, rules) {
            return Err(error(state.spi_at, "spi", "0".into(), allowed));
        }
        let at = state.algorithm_at.unwrap_or(state.at);
        let authentication = state.authentication.take().filter(|(algorithm, _)| *algorithm != Authentication::None);
        let (encryption, encryption_key, icv_length) = match (state.operation, state.encryption.take()) {
            (Operation::Esp, Some(encryption)) => encryption,
            (Operation::Esp, None) => return Err(error(at, "enc", "no encryption".into(), "enc or aead expected, ecb(cipher_null) for none")),
            (Operation::Ah, None) => (Encryption::Null, SecretBytes::default(), 0),
            (Operation::Ah, Some((Encryption::Null, ..))) if authentication.is_some() => {
                return Err(error(at, "aead", "an algorithm of ESP".into(), "AH has auth or auth-trunc"));
            }
            (Operation::Ah, Some(_)) => return Err(error(at, "enc", "encryption".into(), "AH has none")),
        };
        if authentication.is_none() && state.operation == Operation::Ah {
            return Err(error(at, "auth", "no authentication".into(), "AH has auth or auth-trunc"));
        }
        let (authentication, authentication_key) = authentication.unwrap_or_default();
        if let Some((at, _)) = state.encap
            && state.operation == Operation::Ah
        {
            return Err(error(at, "encap", "AH".into(), "only ESP goes in UDP"));
        }
        if let Some((at, _)) = state.tfcpad
            && (state.operation, state.mode) != (Operation::Esp, Mode::Tunnel)
        {
            return Err(error(at, "tfcpad", "AH, or transport mode".into(), "only ESP in a tunnel pads packets"));
        }
        let direction = match state.direction {
            Some(direction) => direction,
            None => sides::direction(Some(state.source), Some(state.destination), rules.local).map_err(|problem| source.error(state.at, problem))?,
        };
        let open_end = match direction {
            _ if state.mode == Mode::Transport => None,
            _ if state.destination.is_unspecified() => Some(("dst", state.destination, "the address of the tunnel's other end expected")),
            Direction::Outbound if state.source.is_unspecified() => Some(("src", state.source, "the address of the tunnel's own end expected")),
            _ => None,
        };
        if let Some((field, address, allowed)) = open_end {
            return Err(error(state.at, field, address.to_string(), allowed));
        }
        let numbers = state.numbers;
        let (high, low) = match direction {
            Direction::Inbound => (numbers.received_high, numbers.received),
            Direction::Outbound => (numbers.sent_high, numbers.sent),
        };
        let association = AssociationParameters {
            operation: state.operation,
            spi: state.spi,
            encryption,
            encryption_key,
            icv_length,
            authentication,
            authentication_key,
            extended_sequence_numbers: state.flags.esn,
            sequence_number_high: if state.flags.esn { high } else { 0 },
            sequence_number: low,
        };
        Ok(Self { state, direction, association, ah: None })
    }

    fn is(&self, operation: Operation) -> bool {
        self.association.operation == operation
    }

    /// What states have in common whose headers are in the same packets: one way between the same ends, asked for by one policy. `None`: by none.
    fn group(&self) -> Option<(bool, IpAddress, IpAddress, u32)> {
        let State { source, destination, reqid, .. } = self.state;
        (reqid != 0).then_some((self.direction == Direction::Inbound, source, destination, reqid))
    }

    fn bundle(self, source: Source<'_>, rules: SaFileRules<'_>, names: &mut Names) -> Result<Bundle, FileError> {
        let Self { state, direction, association, ah } = self;
        let has_ah = ah.is_some() || association.operation == Operation::Ah;
        if association.authentication == Authentication::None
            && !has_ah
            && let Some(why) = checks::unauthenticated_elsewhere(association.encryption, rules.allow_unauthenticated)
        {
            let problem = Problem::Invalid { field: "auth", found: "no authentication".into(), allowed: why.into() };
            return Err(source.error(state.algorithm_at.unwrap_or(state.at), problem));
        }
        let allow_unauthenticated = !has_ah && association.authentication == Authentication::None && !association.encryption.is_combined();
        // Linux aligns AH over IPv4 as over IPv6 unless it is told not to.
        let ah_state = ah.as_ref().map_or(&state, |(state, _)| state);
        let ah_alignment = (has_ah && !ah_state.flags.align4 && state.source.version() == IpVersion::V4).then_some(8);
        let windows = |state: &State| state.context_window.or(state.replay_window);
        // Of two the smaller one that is on decides: a bundle has one.
        let replay_window = match (windows(&state), ah.as_ref().and_then(|(state, _)| windows(state))) {
            (Some(one), Some(other)) if one != 0 && other != 0 => one.min(other),
            (one, other) => one.into_iter().chain(other).max().unwrap_or(0),
        };
        let selectors = selectors(source, &state)?;
        let mut headers = vec![(association.operation, association.spi)];
        headers.extend(ah.iter().map(|(_, association)| (association.operation, association.spi)));
        let parameters = SaParameters {
            selectors,
            replay_window,
            udp_encapsulation: state.encap.map(|(_, encapsulation)| encapsulation),
            ah_alignment,
            traffic_flow: TrafficFlow { pad_to: state.tfcpad.map_or(0, |(_, length)| length), ..TrafficFlow::NONE },
            allow_unauthenticated,
            allow_reserved_spi: rules.reserved_spi,
            ..SaParameters::new(
                names.name(&headers, state.destination),
                direction,
                state.mode,
                (state.source, state.destination),
                core::iter::once(association).chain(ah.map(|(_, association)| association)).collect(),
            )
        };
        Ok(Bundle { parameters, position: source.position(state.at) })
    }
}

/// Puts AH over its ESP. Where more than two states could go together (while keys change, old and new), nobody can say which: they stay alone, and packets are
/// opened header by header.
fn join(parts: Vec<Part>) -> Vec<Part> {
    let mut groups: HashMap<_, Vec<usize>> = HashMap::new();
    for (at, part) in parts.iter().enumerate() {
        if let Some(group) = part.group() {
            groups.entry(group).or_default().push(at);
        }
    }
    let mut joined: Vec<Option<Part>> = parts.into_iter().map(Some).collect();
    for group in groups.values() {
        let &[one, other] = group.as_slice() else { continue };
        let is_esp = |part: &Part| part.is(Operation::Esp) && part.state.encap.is_none();
        let is_over = |part: &Part| part.is(Operation::Ah) && part.state.mode == Mode::Transport;
        for (below, above) in [(one, other), (other, one)] {
            if joined[below].as_ref().is_some_and(is_esp)
                && joined[above].as_ref().is_some_and(is_over)
                && let Some(ah) = joined[above].take()
                && let Some(esp) = joined[below].as_mut()
            {
                esp.ah = Some((ah.state, ah.association));
            }
        }
    }
    joined.into_iter().flatten().collect()
}

fn selectors(source: Source<'_>, state: &State) -> Result<Vec<Selector>, FileError> {
    let Some(sel) = &state.sel else { return Ok(Vec::new()) };
    let version = sel.source.0.version();
    let is_transport = state.mode == Mode::Transport;
    let selector = sel.selector(is_transport || state.flags.af_unspec);
    let is_of_version = !state.flags.af_unspec || selector.source.is_some() || selector.destination.is_some();
    if is_transport && version != state.source.version() && is_of_version {
        let problem = Problem::Invalid { field: "sel", found: version.to_string(), allowed: format!("the SA is {}", state.source.version()) };
        return Err(source.error(sel.at, problem));
    }
    Ok(if selector == Selector::ANY { Vec::new() } else { vec![selector] })
}
