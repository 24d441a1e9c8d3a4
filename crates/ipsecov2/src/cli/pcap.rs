//! `ipsecov2 pcap`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ipsec::Crypto;
use link::capture::{CaptureFormat, is_same_file};
use ndis::{Direction, Operation};

use super::output::{self, Failure};
use super::sa_file::SaArguments;
use crate::pcap::open::{OpenOptions, open};
use crate::pcap::protect::{ProtectOptions, protect};
use crate::pcap::seed::IvSeed;
use crate::pcap::{Outcome, PcapError, PcapOptions};
use crate::profile::Profile;
use crate::sa_file::{SaFile, esp_secret};

const EXAMPLES: &str = "\
Examples:
  ipsecov2 pcap protect --sa sa.toml clear.pcapng esp.pcap
  ipsecov2 pcap open --sa sa.toml --report report.jsonl esp.pcap clear.pcap
  ip xfrm state | ipsecov2 pcap open --sa - --local 192.0.2.2 esp.pcap clear.pcap
  tcpdump -i eth0 -w - esp | ipsecov2 pcap open --sa sa.toml - - | tcpdump -r -";

const PROTECT_EXAMPLES: &str = "\
Examples:
  ipsecov2 pcap protect --sa sa.toml clear.pcapng esp.pcap
  ipsecov2 pcap protect --sa sa.toml --bypass --json clear.pcap wire.pcapng
  ipsecov2 pcap protect --sa sa.toml --decryption-secrets clear.pcap for-wireshark.pcapng
  ipsecov2 pcap protect --sa sa.toml --esp-sa esp_sa clear.pcap esp.pcap

SA files are for captures, not for traffic: with every run the sequence numbers begin anew where the file says.
docs/sa-file.md describes the file.";

const OPEN_EXAMPLES: &str = "\
Examples:
  ipsecov2 pcap open --sa sa.toml esp.pcap clear.pcap
  ipsecov2 pcap open --sa sa.toml --replay-window off --report - esp.pcap clear.pcap | grep dropped
  ipsecov2 pcap open --sa sa.toml --json esp.pcapng clear.pcapng
  ip xfrm state | ipsecov2 pcap open --sa - --local 192.0.2.2 esp.pcap clear.pcap
  ipsecov2 pcap open --sa ~/.config/wireshark/esp_sa --local 192.0.2.2 --mode transport esp.pcap clear.pcap

docs/sa-file.md describes the SA file, docs/json.md the report.";

/// Arguments of `pcap`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Protects the packets of a capture: sends them under the outbound SAs of a file.
    ///
    /// Each packet goes under the first SA, in the order of the file, whose selectors fit it. A packet that no SA selects, and what is not IP, is not
    /// written, nor are packets that the snap length has cut. Times are kept. Each SA begins with a random IV mask of its own.
    ///
    /// Record with segmentation offload off (ethtool -K DEVICE tso off gso off): what a host records with it on was never on the wire; packets with an
    /// IPv4 total length of 0 are malformed, and those for which IP has no room once they are protected are too big.
    #[command(after_help = PROTECT_EXAMPLES)]
    Protect {
        #[command(flatten)]
        common: Common,
        /// Writes what no outbound SA selects, and what is not IP, as it is.
        #[arg(long)]
        bypass: bool,
        /// Derives the IV masks from these 1 to 32 bytes, so that the same input gives the same output. For tests only: IVs repeat with every run.
        #[arg(long, value_name = "HEX")]
        iv_seed: Option<IvSeed>,
        /// Writes the keys into OUT, for viewers to decrypt it. Only in pcapng; the file is then readable by its owner only. A run that is interrupted
        /// leaves its temporary file (.OUT.*.part, as private) in OUT's directory, with the keys in it: remove it.
        #[arg(long)]
        decryption_secrets: bool,
        /// Writes the keys of the outbound ESP SAs into FILE as Wireshark's `esp_sa` table, which goes into its configuration directory; - is standard
        /// output. Only its owner can read it.
        #[arg(long, value_name = "FILE")]
        esp_sa: Option<PathBuf>,
    },
    /// Takes the protection off the packets of a capture: receives them under the inbound SAs of a file.
    ///
    /// OUT gets the packets that were delivered, in order, with their times. Packets that match no SA, and those that are dropped, are not written; that
    /// some are dropped is no failure.
    ///
    /// Record with segmentation and receive offload off (ethtool -K DEVICE tso off gso off gro off lro off): what a host records with them on was never on
    /// the wire; packets with an IPv4 total length of 0, for instance, are malformed.
    #[command(after_help = OPEN_EXAMPLES)]
    Open {
        #[command(flatten)]
        common: Common,
        /// Size of the replay window of every SA, in place of what the file says: 0 to 65536 packets, or off.
        #[arg(long, value_name = "N|off", value_parser = replay_window)]
        replay_window: Option<u32>,
        /// Writes a line of JSON for each packet of IN; - is standard output. The file appears when it is complete.
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// The SAs: TOML, what ip xfrm state prints, or Wireshark's `esp_sa` table; - is standard input.
    #[arg(long, value_name = "SAFILE")]
    sa: PathBuf,
    /// The capture to read (pcap or pcapng); - is standard input. If it is damaged, or ends within a packet, everything before that is worked through and
    /// written, and the exit code is 1.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The capture to write: pcap for the suffixes .pcap, .cap and .dmp, otherwise pcapng; - is standard output. Packets with and without Ethernet headers
    /// together need pcapng. A file appears when it is complete.
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Writes the counts as JSON to standard output, not as text to standard error.
    #[arg(long)]
    json: bool,
    /// Packets that go through the layers together.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    #[command(flatten)]
    file: SaArguments,
    /// The NIC: one that the program knows, or a profile's file.
    #[arg(long, value_name = "NAME|FILE", default_value = "software")]
    profile: String,
    /// Switches the adapter's IPsec offload off by its keyword, so that everything is done in software.
    #[arg(long)]
    no_offload: bool,
}

fn is_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Whether both are one place in the file system, whatever is there.
fn is_same_path(path: &Path, other: &Path) -> bool {
    let same = |path: &Path, other: &Path| path.canonicalize().is_ok_and(|path| other.canonicalize().is_ok_and(|other| path == other));
    !is_stream(path) && (path == other || same(path, other))
}

#[cfg(unix)]
fn is_character_device(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| std::os::unix::fs::FileTypeExt::is_char_device(&metadata.file_type()))
}

#[cfg(not(unix))]
fn is_character_device(_: &Path) -> bool {
    false
}

fn replay_window(text: &str) -> Result<u32, String> {
    const ALLOWED: &str = "0 to 65536, or off";
    if text == "off" {
        return Ok(0);
    }
    text.parse().ok().filter(|&size| size <= ipsec::ReplayWindow::MAX_SIZE).ok_or_else(|| format!("allowed: {ALLOWED}"))
}

pub(super) fn run(arguments: Arguments, crypto: Crypto) -> Result<(), Failure> {
    match arguments.command {
        Command::Protect { common, bypass, iv_seed, decryption_secrets, esp_sa } => {
            common.check(esp_sa.as_deref(), "the esp_sa table")?;
            if decryption_secrets && CaptureFormat::from_path(&common.output) == CaptureFormat::Pcap {
                return Err(Failure::usage(format_args!("{}: a pcap file has no place for keys; pcapng has", common.output.display())));
            }
            let file = common.sa_file(Direction::Outbound)?;
            if decryption_secrets || esp_sa.is_some() {
                common.warn_of_unseen(&file);
            }
            let special = ProtectOptions { bypass, iv_seed, decryption_secrets, esp_sa };
            common.conclude(protect(&common.options(crypto)?, &special, file, &common.sa))
        }
        Command::Open { common, replay_window, report } => {
            common.check(report.as_deref(), "the report")?;
            let file = common.sa_file(Direction::Inbound)?;
            let special = OpenOptions { replay_window, report };
            common.conclude(open(&common.options(crypto)?, &special, file, &common.sa))
        }
    }
}

impl Common {
    fn options(&self, crypto: Crypto) -> Result<PcapOptions, Failure> {
        Ok(PcapOptions {
            input: self.input.clone(),
            output: self.output.clone(),
            batch: usize::from(self.batch),
            crypto,
            offload: !self.no_offload,
            reserved_spi: self.file.reserved_spi(),
            profile: Profile::find(&self.profile).map_err(Failure::usage)?,
        })
    }

    /// No file is read and written at once, or twice; no stream has two uses.
    fn check(&self, second: Option<&Path>, second_name: &str) -> Result<(), Failure> {
        if is_stream(&self.input) && is_stream(&self.sa) {
            return Err(Failure::usage("IN and the SA file cannot both be standard input"));
        }
        let writes_stdout = [(is_stream(&self.output), "OUT"), (self.json, "--json"), (second.is_some_and(is_stream), second_name)];
        let mut users = writes_stdout.iter().filter(|(uses, _)| *uses).map(|(_, name)| *name);
        if let (Some(one), Some(other)) = (users.next(), users.next()) {
            return Err(Failure::usage(format_args!("{one} and {other} cannot both go to standard output")));
        }
        let written = [Some((self.output.as_path(), "OUT")), second.map(|path| (path, second_name))];
        for (number, (path, name)) in written.iter().enumerate().filter_map(|(number, written)| Some((number, (*written)?))) {
            let others = [(self.input.as_path(), "IN"), (self.sa.as_path(), "the SA file")].into_iter().chain(written[..number].iter().flatten().copied());
            for (other, other_name) in others {
                let is_same = is_same_file(path, other).map_err(|error| Failure::failed(format_args!("{}: {error}", path.display())))?;
                // Also one that is not there yet, and a pipe or device, out of which would come what went in. Two outputs can go to /dev/null.
                let is_written_twice = ["OUT", second_name].contains(&other_name);
                if is_same || (is_same_path(path, other) && !(is_written_twice && is_character_device(path))) {
                    return Err(Failure::usage(format_args!("{}: {name} and {other_name} are the same file", path.display())));
                }
            }
        }
        Ok(())
    }

    /// Warns of ESP SAs that viewers cannot decrypt.
    fn warn_of_unseen(&self, file: &SaFile) {
        let outbound = file.bundles.iter().filter(|bundle| bundle.parameters.direction == Direction::Outbound);
        for bundle in outbound.filter(|bundle| bundle.parameters.associations.iter().any(|association| association.operation == Operation::Esp)) {
            if let Err(loss) = esp_secret(&bundle.parameters) {
                output::warn(&format!("{}:{}: SA {:?}: {loss}", self.sa.display(), bundle.position, bundle.parameters.name));
            }
        }
    }

    fn sa_file(&self, direction: Direction) -> Result<SaFile, Failure> {
        let file = self.file.read(&self.sa, None)?;
        if file.bundles.iter().all(|bundle| bundle.parameters.direction != direction) {
            let direction = if direction == Direction::Inbound { "inbound" } else { "outbound" };
            output::warn(&format!("{}: no SA in it is {direction}: none will be used", self.sa.display()));
        }
        Ok(file)
    }

    fn conclude(&self, result: Result<Outcome, PcapError>) -> Result<(), Failure> {
        let show = |outcome: &Outcome| {
            if self.json {
                output::print_json(outcome)
            } else {
                output::inform(&outcome.to_string());
                Ok(())
            }
        };
        match result {
            Ok(outcome) => show(&outcome),
            Err(PcapError::Damaged { error, outcome }) => match show(&outcome) {
                // It stays a failure when nobody looks at the counts.
                Ok(()) | Err(Failure::BrokenPipe) => Err(Failure::failed(error)),
                failed => failed,
            },
            Err(error) if error.is_broken_pipe() => Err(Failure::BrokenPipe),
            Err(error) => Err(Failure::failed(error)),
        }
    }
}
