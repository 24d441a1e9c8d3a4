//! The program `ipsecov2`: its command line.

mod bench;
mod caps;
mod demo;
mod explain;
mod output;
mod pcap;
mod sa;
mod sa_file;

use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use ipsec::Crypto;

use output::Failure;

const EXAMPLES: &str = "\
Examples:
  ipsecov2 demo                                            the main job, without privileges
  ipsecov2 caps                                            what the software NIC offers
  ipsecov2 explain --sa sa.toml                            which SAs which NIC takes, and why not
  ipsecov2 bench --quick                                   how fast it is on this machine
  ipsecov2 pcap protect --sa sa.toml clear.pcapng esp.pcap
  ipsecov2 pcap open --sa sa.toml esp.pcap clear.pcap
  ip xfrm state | ipsecov2 sa convert --to toml --local 192.0.2.2 - sa.toml

Exit codes: 0 success, 1 failure, 2 wrong usage.";

/// IPsec in user space, behind the contract of IPsec Offload Version 2 (NDIS): transports that offload ESP and AH to network adapters, and an adapter in
/// software.
#[derive(Debug, Parser)]
#[command(name = "ipsecov2", version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true, infer_long_args = false)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Clone, Copy, Debug, Args)]
struct Global {
    /// The cryptographic library; after a colon, the instructions that it uses.
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        default_value = ipsec::Provider::name(&Crypto::default()),
        value_parser = PossibleValuesParser::new(Crypto::names()).try_map(|name| name.parse::<Crypto>())
    )]
    crypto: Crypto,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs two hosts that offload IPsec to their adapters, over a wire in memory.
    Demo(demo::Arguments),
    /// Works on captures (pcap, pcapng).
    Pcap(pcap::Arguments),
    /// Converts SA files: TOML, what ip xfrm state prints, Wireshark's `esp_sa` table.
    Sa(sa::Arguments),
    /// Shows an adapter's offload capabilities as the contract reports them.
    Caps(caps::Arguments),
    /// Says which SAs a NIC takes, which not, and why.
    Explain(explain::Arguments),
    /// Measures cryptography, NIC and whole hosts, in memory.
    Bench(bench::Arguments),
}

/// Runs the program with the process's arguments.
pub fn run() -> ExitCode {
    let parsed = Cli::command().try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version come this way, too, and are no errors. If they cannot be shown, nobody is there to be told.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let result = match cli.command {
        Command::Demo(arguments) => demo::run(&arguments, cli.global.crypto),
        Command::Pcap(arguments) => pcap::run(arguments, cli.global.crypto),
        Command::Sa(arguments) => sa::run(&arguments),
        Command::Caps(arguments) => caps::run(&arguments, cli.global.crypto),
        Command::Explain(arguments) => explain::run(&arguments, cli.global.crypto),
        Command::Bench(arguments) => {
            let named = matches.value_source("crypto") == Some(ValueSource::CommandLine);
            bench::run(&arguments, cli.global.crypto, named)
        }
    };
    match result {
        Ok(()) | Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => {
            output::complain(&message);
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            output::complain(&message);
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_with_examples() {
        fn look(command: &mut clap::Command, path: &str) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Examples:\n  ipsecov2 "), "{path}: {help}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{path} {}", argument.get_id());
            }
            for child in command.get_subcommands_mut() {
                let path = format!("{path} {}", child.get_name());
                look(child, &path);
            }
        }
        let mut command = Cli::command();
        // Without the help command that clap adds.
        command = command.disable_help_subcommand(true);
        look(&mut command, "ipsecov2");
    }
}
