//! `ipsecov2 demo`.

use std::path::PathBuf;

use clap::Args;
use ipsec::Crypto;

use super::output::Failure;

const EXAMPLES: &str = "\
Examples:
  ipsecov2 demo
  ipsecov2 demo --traffic my.pcapng --wire wire.pcapng
  ipsecov2 demo --json";

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The capture whose packets the hosts exchange; by default one of real programs' traffic that comes with the program.
    #[arg(long, value_name = "FILE")]
    traffic: Option<PathBuf>,
    /// Writes what was on the wire (pcapng).
    #[arg(long, value_name = "FILE")]
    wire: Option<PathBuf>,
    /// Writes the results as JSON to standard output.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, crypto: Crypto) -> Result<(), Failure> {
    Err(Failure::failed(format_args!("demo {arguments:?} with {crypto} is not there yet")))
}
