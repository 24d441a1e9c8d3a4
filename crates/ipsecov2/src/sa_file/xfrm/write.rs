//! SA bundles to what `ip xfrm state` prints, and what that cannot say.

use core::fmt;

use ipsec::Authentication;
use ndis::{Direction, Operation};
use packet::{IpAddress, IpProtocol, IpVersion};
use transport::{AssociationParameters, Mode, OffloadPolicy, PortRange, SaParameters, Selector};

use super::super::format::{Loss, Written};
use super::super::write::{hexadecimal, render};
use super::algorithms::{authentication_name, encryption_name};

/// Linux keeps larger windows, and those of extended numbers, with a bitmap of their own.
pub(super) const SMALL_WINDOW: u32 = 32;

/// Writes SAs as states, and says what they cannot say of them.
pub(in super::super) fn write(bundles: &[SaParameters]) -> Written {
    let (written, losses) = prepare(bundles);
    let text = render(|out| {
        for state in &written {
            // Neither a string nor a counter can fail.
            let _ = state_lines(out, state);
        }
    });
    Written { text, losses }
}

/// One association as a state of its own.
pub(super) struct OneState<'a> {
    pub(super) parameters: &'a SaParameters,
    pub(super) association: &'a AssociationParameters,
    /// What ties the states of one bundle together; 0 for one alone.
    pub(super) reqid: u32,
    pub(super) sel: Sel,
}

impl OneState<'_> {
    /// AH over ESP is in transport mode, whatever the ESP under it does.
    pub(super) fn mode(&self) -> &'static str {
        match (self.parameters.mode, self.association.operation, self.reqid) {
            (Mode::Tunnel, Operation::Ah, 0) | (Mode::Tunnel, Operation::Esp, _) => "tunnel",
            (Mode::Transport, ..) | (Mode::Tunnel, Operation::Ah, _) => "transport",
        }
    }

    pub(super) fn proto(&self) -> &'static str {
        match self.association.operation {
            Operation::Ah => "ah",
            Operation::Esp => "esp",
        }
    }

    /// The flags, each with a space before it.
    pub(super) fn flags(&self) -> String {
        let mut flags = String::new();
        if self.sel.is_open {
            flags += " af-unspec";
        }
        let is_v4 = self.parameters.source.version() == IpVersion::V4;
        if self.association.operation == Operation::Ah && is_v4 && self.parameters.ah_alignment != Some(8) {
            flags += " align4";
        }
        if self.association.extended_sequence_numbers {
            flags += " esn";
        }
        flags
    }

    /// Whether Linux would have a bitmap of its own for the window.
    pub(super) fn has_large_window(&self) -> bool {
        self.association.extended_sequence_numbers || self.parameters.replay_window > SMALL_WINDOW
    }

    /// Received high and low, sent high and low.
    pub(super) fn numbers(&self) -> [u32; 4] {
        let (high, low) = (self.association.sequence_number_high, self.association.sequence_number);
        match self.parameters.direction {
            Direction::Inbound => [high, low, 0, 0],
            Direction::Outbound => [0, 0, high, low],
        }
    }

    /// The lines `auth-trunc`, `aead` and `enc`, each ended by `end`.
    pub(super) fn algorithms(&self, out: &mut dyn fmt::Write, begin: &str, end: &str, empty: &str) -> fmt::Result {
        let AssociationParameters { encryption, authentication, encryption_key, authentication_key, .. } = self.association;
        if let gmac @ Authentication::AesGmac(_) = *authentication {
            write!(out, "{begin}aead {} 0x", authentication_name(gmac))?;
            hexadecimal(out, authentication_key.expose())?;
            return write!(out, " 128{end}");
        }
        if encryption.is_combined() && self.association.operation == Operation::Esp {
            write!(out, "{begin}aead {} 0x", encryption_name(*encryption))?;
            hexadecimal(out, encryption_key.expose())?;
            return write!(out, " {}{end}", u32::from(self.association.icv_length) * 8);
        }
        if *authentication != Authentication::None {
            write!(out, "{begin}auth-trunc {} 0x", authentication_name(*authentication))?;
            hexadecimal(out, authentication_key.expose())?;
            write!(out, " {}{end}", authentication.icv_length() * 8)?;
        }
        if self.association.operation == Operation::Esp {
            write!(out, "{begin}enc {} ", encryption_name(*encryption))?;
            if encryption_key.is_empty() {
                write!(out, "{empty}")?;
            } else {
                write!(out, "0x")?;
                hexadecimal(out, encryption_key.expose())?;
            }
            write!(out, "{end}")?;
        }
        Ok(())
    }
}

/// What a state says of selectors.
#[derive(Clone, Copy, Default)]
pub(super) struct Sel {
    /// Any version of IP goes.
    pub(super) is_open: bool,
    pub(super) selector: Option<SelLine>,
}

/// A selector that a state can have.
#[derive(Clone, Copy)]
pub(super) struct SelLine {
    source: (IpAddress, u8),
    destination: (IpAddress, u8),
    pub(super) protocol: Option<IpProtocol>,
    pub(super) ports: [Option<u16>; 2],
}

impl fmt::Display for SelLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src {}/{} dst {}/{}", self.source.0, self.source.1, self.destination.0, self.destination.1)?;
        if let Some(protocol) = self.protocol {
            match protocol {
                IpProtocol::TCP => write!(f, " proto tcp")?,
                IpProtocol::UDP => write!(f, " proto udp")?,
                IpProtocol::ICMP => write!(f, " proto icmp")?,
                IpProtocol::ICMPV6 => write!(f, " proto ipv6-icmp")?,
                IpProtocol::SCTP => write!(f, " proto sctp")?,
                IpProtocol::DCCP => write!(f, " proto dccp")?,
                other => write!(f, " proto {}", other.0)?,
            }
        }
        for (name, port) in ["sport", "dport"].into_iter().zip(self.ports) {
            if let Some(port) = port {
                write!(f, " {name} {port}")?;
            }
        }
        Ok(())
    }
}

/// The states of all bundles that can be said, and what is lost of the others.
pub(super) fn prepare(bundles: &[SaParameters]) -> (Vec<OneState<'_>>, Vec<Loss>) {
    let (mut written, mut losses) = (Vec::new(), Vec::new());
    let mut pairs = 0;
    for (bundle, parameters) in bundles.iter().enumerate() {
        let mut lose = |loss: Loss| losses.push(Loss { bundle, ..loss });
        if parameters
            .associations
            .iter()
            .any(|association| association.operation == Operation::Ah && matches!(association.authentication, Authentication::AesGmac(_)))
        {
            lose(Loss::whole("authentication", "Linux has no AES-GMAC in AH"));
            continue;
        }
        if parameters.inside.is_some() {
            lose(Loss::of("inside", "states of Linux do not say it; policies do"));
        }
        if parameters.traffic_flow.dummy_every != 0 {
            lose(Loss::of("traffic-flow", "Linux sends no dummy packets (dummy-every)"));
        }
        if parameters.offload != OffloadPolicy::Prefer {
            lose(Loss::of("offload", "states of Linux name a device to offload to, not whether that must be"));
        }
        let sel = match sel(parameters) {
            Ok(sel) => sel,
            Err(why) => {
                lose(Loss::of("selectors", why));
                Sel { is_open: parameters.mode == Mode::Tunnel, selector: None }
            }
        };
        let is_pair = parameters.associations.len() > 1;
        pairs += u32::from(is_pair);
        let reqid = if is_pair { pairs } else { 0 };
        written.extend(parameters.associations.iter().map(|association| OneState {
            parameters,
            association,
            reqid,
            // In a tunnel, AH sees the packet around it, whose addresses are the state's.
            sel: if is_pair && association.operation == Operation::Ah { Sel::default() } else { sel },
        }));
    }
    (written, losses)
}

/// The one selector that a state has.
fn sel(parameters: &SaParameters) -> Result<Sel, String> {
    let is_tunnel = parameters.mode == Mode::Tunnel;
    let selector = match parameters.selectors.as_slice() {
        [] => return Ok(Sel { is_open: is_tunnel, selector: None }),
        [selector] if *selector == Selector::ANY => return Ok(Sel { is_open: is_tunnel, selector: None }),
        [selector] => selector,
        more => return Err(format!("{} of them; a state of Linux has one", more.len())),
    };
    let prefix = |range: Option<transport::AddressRange>| match range {
        None => Ok(None),
        Some(range) => range.as_prefix().map(Some).ok_or_else(|| format!("{range} is no prefix")),
    };
    let (source, destination) = (prefix(selector.source)?, prefix(selector.destination)?);
    let port = |range: PortRange| match range {
        PortRange::ANY => Ok(None),
        PortRange { first, last } if first == last => Ok(Some(first)),
        PortRange { first, last } => Err(format!("ports {first} to {last}; a state of Linux has one")),
    };
    let ports = [port(selector.source_port)?, port(selector.destination_port)?];
    if selector.protocol.is_some_and(|protocol| protocol.0 == 0) {
        return Err("protocol 0, which means any in a state of Linux".to_owned());
    }
    let version = source.or(destination).map(|(address, _)| address.version());
    let any = match version.unwrap_or(parameters.source.version()) {
        IpVersion::V4 => (IpAddress::UNSPECIFIED_V4, 0),
        IpVersion::V6 => (IpAddress::UNSPECIFIED_V6, 0),
    };
    let line = SelLine { source: source.unwrap_or(any), destination: destination.unwrap_or(any), protocol: selector.protocol, ports };
    Ok(Sel { is_open: is_tunnel && version.is_none(), selector: Some(line) })
}

fn state_lines(out: &mut dyn fmt::Write, state: &OneState<'_>) -> fmt::Result {
    let (parameters, association) = (state.parameters, state.association);
    writeln!(out, "src {} dst {}", parameters.source, parameters.destination)?;
    writeln!(out, "\tproto {} spi {:#010x} reqid {} mode {}", state.proto(), association.spi.0, state.reqid, state.mode())?;
    let (flags, window) = (state.flags(), parameters.replay_window);
    let is_large = state.has_large_window();
    writeln!(out, "\treplay-window {}{}{flags}", if is_large { 0 } else { window }, if flags.is_empty() { "" } else { " flag" })?;
    state.algorithms(out, "\t", "\n", "")?;
    if let Some(udp) = parameters.udp_encapsulation {
        let any = if parameters.source.is_v4() { IpAddress::UNSPECIFIED_V4 } else { IpAddress::UNSPECIFIED_V6 };
        writeln!(out, "\tencap type espinudp sport {} dport {} addr {any}", udp.source_port, udp.destination_port)?;
    }
    let [received_high, received, sent_high, sent] = state.numbers();
    if is_large {
        let words = window.div_ceil(32);
        writeln!(out, "\tanti-replay esn context:\n\t seq-hi {received_high:#x}, seq {received:#x}, oseq-hi {sent_high:#x}, oseq {sent:#x}")?;
        write!(out, "\t replay_window {window}, bitmap-length {words}")?;
        for word in 0..words {
            write!(out, "{}00000000", if word % 8 == 0 { "\n\t " } else { " " })?;
        }
        writeln!(out)?;
    } else {
        writeln!(out, "\tanti-replay context: seq {received:#x}, oseq {sent:#x}, bitmap 0x00000000")?;
    }
    if let Some(selector) = state.sel.selector {
        writeln!(out, "\tsel {selector}")?;
    }
    if parameters.traffic_flow.pad_to != 0 && association.operation == Operation::Esp {
        writeln!(out, "\ttfcpad {}", parameters.traffic_flow.pad_to)?;
    }
    writeln!(out, "\tdir {}", if parameters.direction == Direction::Inbound { "in" } else { "out" })
}
