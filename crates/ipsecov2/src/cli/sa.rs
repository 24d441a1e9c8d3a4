//! `ipsecov2 sa`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use link::capture::{CaptureOutput, is_same_file};

use super::output::{self, Failure};
use super::sa_file::SaArguments;
use crate::sa_file::{Bundle, Format, SaFile, Target, write};

const EXAMPLES: &str = "\
Examples:
  ipsecov2 sa convert --to toml --local 192.0.2.2 xfrm.txt sa.toml
  ip xfrm state | ipsecov2 sa convert --to esp-sa --lossy --local 192.0.2.2 - esp_sa
  ipsecov2 sa convert --to ip-batch sa.toml - | ip -batch -";

const CONVERT_EXAMPLES: &str = "\
Examples:
  ipsecov2 sa convert --to esp-sa --lossy sa.toml ~/.config/wireshark/esp_sa
  ip xfrm state | ipsecov2 sa convert --to toml --local 192.0.2.2 - sa.toml
  ipsecov2 sa convert --to xfrm --local 192.0.2.2 --mode transport esp_sa -
  ipsecov2 sa convert --to ip-batch sa.toml - | ip -batch -

docs/sa-file.md describes the formats, and what each cannot say.";

/// Arguments of `sa`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Converts an SA file into another format.
    ///
    /// Names of SAs are in TOML files only; elsewhere they are lost, and made anew from header, SPI and destination. An esp_sa table loses direction and mode,
    /// too. What else a format cannot say is an error that names it.
    #[command(after_help = CONVERT_EXAMPLES)]
    Convert(ConvertArguments),
}

#[derive(Debug, Args)]
struct ConvertArguments {
    /// Format of IN; by default its content says it.
    #[arg(long, value_name = "FORMAT")]
    from: Option<From>,
    /// Format of OUT.
    #[arg(long, value_name = "FORMAT")]
    to: To,
    /// Writes what the format can say, and warns of the rest.
    #[arg(long)]
    lossy: bool,
    /// Overwrites OUT if it is there.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    file: SaArguments,
    /// The SA file to read; - is standard input.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The SA file to write; - is standard output. It holds keys, and only its owner can read it.
    #[arg(value_name = "OUT")]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// TOML
    Toml,
    /// What ip xfrm state prints
    Xfrm,
    /// Wireshark's esp_sa table
    EspSa,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum To {
    /// TOML
    Toml,
    /// What ip xfrm state prints
    Xfrm,
    /// Wireshark's esp_sa table
    EspSa,
    /// Commands for ip -batch that add the states to a Linux kernel
    IpBatch,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Command::Convert(arguments) = &arguments.command;
    let (input, output) = (&arguments.input, &arguments.output);
    let is_stream = |path: &Path| path.as_os_str() == "-";
    if is_same_file(input, output).map_err(|error| Failure::failed(format_args!("{}: {error}", output.display())))? {
        return Err(Failure::usage(format_args!("{}: IN and OUT are the same file", output.display())));
    }
    // A link that leads nowhere is in the way, too.
    if !arguments.force && !is_stream(output) && output.symlink_metadata().is_ok_and(|there| !is_device(&there)) {
        return Err(Failure::failed(format_args!("{}: is there already; --force overwrites it", output.display())));
    }
    let format = arguments.from.map(|format| match format {
        From::Toml => Format::Toml,
        From::Xfrm => Format::Xfrm,
        From::EspSa => Format::EspSa,
    });
    let SaFile { bundles, .. } = arguments.file.read(input, format)?;
    let (parameters, positions): (Vec<_>, Vec<_>) = bundles.into_iter().map(|Bundle { parameters, position }| (parameters, position)).unzip();
    let written = write(
        &parameters,
        match arguments.to {
            To::Toml => Target::Toml,
            To::Xfrm => Target::Xfrm,
            To::EspSa => Target::EspSa,
            To::IpBatch => Target::IpBatch,
        },
    );
    for loss in &written.losses {
        let place = positions.get(loss.bundle).map_or(String::new(), |position| format!(":{position}"));
        let name = parameters.get(loss.bundle).map_or("", |parameters| parameters.name.as_str());
        let message = format!("{}{place}: SA {name:?}: {loss}", input.display());
        if !arguments.lossy {
            return Err(Failure::failed(format_args!("{message} (--lossy writes the rest)")));
        }
        output::warn(&message);
    }
    put(output, written.text.as_bytes()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
        _ => Failure::failed(format_args!("{}: {error}", output.display())),
    })
}

/// Writes a file that only its owner can read, and that appears when it is complete.
fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut output = CaptureOutput::create(path, true)?;
    output.write_all(content)?;
    output.finish()
}

#[cfg(unix)]
fn is_device(metadata: &std::fs::Metadata) -> bool {
    let kind = metadata.file_type();
    std::os::unix::fs::FileTypeExt::is_char_device(&kind) || std::os::unix::fs::FileTypeExt::is_fifo(&kind)
}

#[cfg(not(unix))]
fn is_device(_: &std::fs::Metadata) -> bool {
    false
}
