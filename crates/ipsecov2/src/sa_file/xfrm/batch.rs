//! SA bundles to commands for `ip -batch`, which add the states to a Linux kernel.

use core::fmt;

use ndis::{Direction, Operation};
use packet::{IpAddress, IpProtocol};
use transport::SaParameters;

use super::super::format::{Loss, Written};
use super::super::write::render;
use super::write::{OneState, prepare};

/// The largest window that the command takes: `XFRMA_REPLAY_ESN_MAX`.
const LARGEST_WINDOW: u32 = 4096;

/// Writes a line for each state, and says what it cannot say.
pub(in super::super) fn write(bundles: &[SaParameters]) -> Written {
    let (states, mut losses) = prepare(bundles);
    for (bundle, parameters) in bundles.iter().enumerate() {
        losses.extend(more_losses(parameters).into_iter().map(|loss| Loss { bundle, ..loss }));
    }
    let text = render(|out| {
        for state in &states {
            // Neither a string nor a counter can fail.
            let _ = command(out, state);
        }
    });
    Written { text, losses }
}

/// What a kernel can keep, and the command cannot say.
fn more_losses(parameters: &SaParameters) -> Vec<Loss> {
    let mut losses = Vec::new();
    if parameters.replay_window > LARGEST_WINDOW {
        losses.push(Loss::of("replay-window", format!("{}; ip xfrm state add takes up to {LARGEST_WINDOW}", parameters.replay_window)));
    }
    let is_extended = parameters.associations.iter().any(|association| association.extended_sequence_numbers);
    if is_extended && parameters.replay_window == 0 && parameters.direction == Direction::Inbound {
        losses.push(Loss::of("replay-window", "0; ip xfrm state add takes no extended sequence numbers without a window"));
    }
    for selector in &parameters.selectors {
        let names_ports = [IpProtocol::TCP, IpProtocol::UDP, IpProtocol::SCTP, IpProtocol::DCCP];
        let ports = [selector.source_port, selector.destination_port];
        if ports.iter().any(|ports| ports.first == 0 && ports.last == 0) {
            losses.push(Loss::of("selectors", "port 0, which means any to ip xfrm state add"));
        }
        if ports.iter().any(|ports| *ports != transport::PortRange::ANY) && selector.protocol.is_some_and(|protocol| !names_ports.contains(&protocol)) {
            losses.push(Loss::of("selectors", "ip xfrm state add takes ports only of TCP, UDP, SCTP and DCCP"));
        }
    }
    losses
}

fn command(out: &mut dyn fmt::Write, state: &OneState<'_>) -> fmt::Result {
    let (parameters, association) = (state.parameters, state.association);
    write!(out, "xfrm state add src {} dst {}", parameters.source, parameters.destination)?;
    write!(out, " proto {} spi {:#010x} reqid {} mode {}", state.proto(), association.spi.0, state.reqid, state.mode())?;
    // Of an outbound SA the window is of no matter, but extended numbers want one.
    let window = match parameters.replay_window.min(LARGEST_WINDOW) {
        0 if association.extended_sequence_numbers => 1,
        window => window,
    };
    write!(out, " replay-window {window}")?;
    for (name, number) in ["replay-seq-hi", "replay-seq", "replay-oseq-hi", "replay-oseq"].into_iter().zip(state.numbers()) {
        if number != 0 {
            write!(out, " {name} {number:#x}")?;
        }
    }
    let flags = state.flags();
    if !flags.is_empty() {
        write!(out, " flag{flags}")?;
    }
    state.algorithms(out, " ", "", "\"\"")?;
    if let Some(udp) = parameters.udp_encapsulation {
        let any = if parameters.source.is_v4() { IpAddress::UNSPECIFIED_V4 } else { IpAddress::UNSPECIFIED_V6 };
        write!(out, " encap espinudp {} {} {any}", udp.source_port, udp.destination_port)?;
    }
    if parameters.traffic_flow.pad_to != 0 && association.operation == Operation::Esp {
        write!(out, " tfcpad {}", parameters.traffic_flow.pad_to)?;
    }
    // Everything behind `sel` is taken for a part of it.
    if let Some(selector) = state.sel.selector {
        write!(out, " sel {selector}")?;
    }
    writeln!(out)
}
