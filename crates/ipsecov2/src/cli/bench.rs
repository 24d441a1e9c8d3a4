//! `ipsecov2 bench`.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, value_parser};
use ipsec::{Crypto, Suite};

use super::output::{self, Failure};
use crate::bench::{self, Cell, Cores, Options, Shape, Table};
use crate::profile::Profile;

const EXAMPLES: &str = "\
Examples:
  ipsecov2 bench
  ipsecov2 bench --quick
  ipsecov2 bench --table provider,nic-send --bytes 64,1420 --batch 32
  ipsecov2 bench --suite aes-gcm-256 --workers 2
  ipsecov2 bench --profile chelsio-t6 --suite aes-gcm-128,aes-gcm-256
  ipsecov2 bench --table nic-receive,inbound --checksums
  ipsecov2 bench --json | jq -r '.[] | [.table, .operation, .bytes, .ns, .of_limit] | @tsv'

Tables:
  provider      the cryptographic libraries alone, as many bytes under the cipher as --bytes says
  nic-send      framed packets through stack and send engine to the wire
  nic-receive   sealed frames through the receive engine and the stack
  outbound      the whole way out: policy, SA, sequence numbers, headers, stack, NIC
  inbound       the whole way in: NIC, stack, replay, headers off, policy
  software-out  the whole way out with offload switched off
  software-in   the whole way in with offload switched off
  large-send    large packets that the NIC cuts; bytes and packets are those of segments

The limit of a figure is the fastest library at the same number of bytes under the cipher, with the same batch, in the same rounds. All that is measured \
takes turns; figures are medians over the rounds, the spread is the distance between quartiles; where that is large, ! marks it. With --suite, --bytes, --workers, --sas or --batch every \
combination is measured; without them, what docs/performance.md shows, within 5 minutes. With --profile the NIC is that card as far as capabilities go, not its \
speed; what it does not take is not measured, but refused, unless --table names only tables without a NIC. docs/json.md describes the JSON form.";

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// What is measured; by default all.
    #[arg(long, value_name = "TABLE", value_delimiter = ',', value_parser = PossibleValuesParser::new(Table::ALL.map(Table::name)).map(|name| table(&name)))]
    table: Vec<Table>,
    /// Algorithms: a combined mode or AES-GMAC alone, or a cipher and an HMAC with + between them, as SA files name them.
    #[arg(long, value_name = "SUITE", value_delimiter = ',', value_parser = bench::suite)]
    suite: Vec<Suite>,
    /// Bytes of inner IP packets, 20 to 65000.
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = value_parser!(u32).range(20..=65_000).map(|bytes| bytes as usize))]
    bytes: Vec<usize>,
    /// Workers, each with a thread and a core, 1 to 64. They share outbound SAs; each has inbound SAs of its own.
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = value_parser!(u32).range(1..=64).map(|workers| workers as usize))]
    workers: Vec<usize>,
    /// SAs, 1 to 65536; packets belong to them at random.
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = value_parser!(u32).range(1..=65_536))]
    sas: Vec<u32>,
    /// Packets in a batch, 1 to 1024.
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = value_parser!(u32).range(1..=1024).map(|batch| batch as usize))]
    batch: Vec<usize>,
    /// Turns of each way that count; by default 45, with --quick 75.
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// How long a turn is.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u64).range(1..=50))]
    milliseconds: u64,
    /// The NIC: one that the program knows, or a profile's file. By default the software NIC, with as many places as there are SAs.
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    /// Has the NIC do checksums, too: it verifies those of the packets that tunnels carry. Otherwise IPsec is measured alone.
    #[arg(long)]
    checksums: bool,
    /// The core of the first worker; others follow. By default they are on the last ones.
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// AES-128-GCM in three sizes, without the software tables, within 30 seconds.
    #[arg(long)]
    quick: bool,
    /// Writes the rows as a JSON array.
    #[arg(long)]
    json: bool,
}

/// The table of a name that the parser has let through.
fn table(name: &str) -> Table {
    Table::ALL.into_iter().find(|table| table.name() == name).unwrap_or(Table::Provider)
}

/// Measures. `only` is the library that was asked for by name: the provider's table has all of them, unless one was.
pub(super) fn run(arguments: &Arguments, crypto: Crypto, only: bool) -> Result<(), Failure> {
    let cells = cells(arguments);
    let options = options(arguments, crypto, only)?;
    bench::check_profile(&cells, &options).map_err(Failure::failed)?;
    let workers = cells.iter().map(|cell| cell.workers).max().unwrap_or(1);
    let cores = Cores::choose(workers, options.core).map_err(|error| Failure::usage(format_args!("--{error}")))?;
    let mut progress = Progress { shown: false, all: cells.len() };
    let mut rows = Vec::new();
    for (number, cell) in (1..).zip(&cells) {
        progress.show(number, cell);
        rows.extend(bench::measure(cell, &options).map_err(|error| {
            progress.clear();
            Failure::failed(format_args!("{}: {error}", describe(cell)))
        })?);
    }
    progress.clear();
    if arguments.json { output::print_json(&rows) } else { output::print(&(heading(&options, &cores) + &bench::text(&rows))) }
}

fn cells(arguments: &Arguments) -> Vec<Cell> {
    let Arguments { suite, bytes, workers, sas, batch, quick, .. } = arguments;
    let shape = Shape { suites: suite.clone(), bytes: bytes.clone(), workers: workers.clone(), sas: sas.clone(), batches: batch.clone() };
    let asked = !(suite.is_empty() && bytes.is_empty() && workers.is_empty() && sas.is_empty() && batch.is_empty());
    match (asked, *quick) {
        (true, true) if bytes.is_empty() => bench::product(&Shape { bytes: bench::quick().iter().map(|cell| cell.bytes).collect(), ..shape }),
        (true, _) => bench::product(&shape),
        (false, true) => bench::quick(),
        (false, false) => bench::full(),
    }
}

fn options(arguments: &Arguments, crypto: Crypto, only: bool) -> Result<Options, Failure> {
    let usual = Options::default();
    let tables = match (&arguments.table[..], arguments.quick) {
        ([], true) => bench::QUICK_TABLES.to_vec(),
        ([], false) => usual.tables,
        (tables, _) => tables.to_vec(),
    };
    let rounds = arguments.rounds.map_or(if arguments.quick { 75 } else { usual.rounds }, |rounds| rounds as usize);
    let providers = if only { vec![crypto] } else { usual.providers };
    let profile = arguments.profile.as_deref().map(Profile::find).transpose().map_err(Failure::usage)?;
    let (turn, core, checksums) = (Duration::from_millis(arguments.milliseconds), arguments.core, arguments.checksums);
    Ok(Options { tables, crypto, providers, rounds, turn, core, profile, checksums })
}

fn heading(options: &Options, cores: &Cores) -> String {
    let pinned = match cores.chosen() {
        [] => "not pinned".to_owned(),
        [core] => format!("pinned to core {core}"),
        several => format!("pinned to cores {}", several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    };
    let path = options.crypto.path().map(|path| format!(" ({path})")).unwrap_or_default();
    let nic = options.profile.as_ref().map(|profile| format!("; the NIC is {}", profile.name)).unwrap_or_default();
    let (machine, Options { crypto, rounds, turn, .. }) = (bench::machine(), options);
    format!("{machine}; {pinned}\nmedians of {rounds} rounds of {turn:?}; NIC and transport by {crypto}{path}{nic}\n")
}

fn describe(cell: &Cell) -> String {
    let plural = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let (workers, sas) = (plural(cell.workers, "worker"), plural(cell.sas as usize, "SA"));
    format!("{}, {} bytes, {workers}, {sas}, batches of {}", bench::suite_name(cell.suite), cell.bytes, cell.batch)
}

/// On standard error, and only where somebody may be looking.
struct Progress {
    shown: bool,
    all: usize,
}

impl Progress {
    fn show(&mut self, number: usize, cell: &Cell) {
        if std::io::stderr().is_terminal() {
            self.shown = true;
            output::inform(&format!("\r{number} of {}: {}\x1b[K", self.all, describe(cell)));
        }
    }

    fn clear(&mut self) {
        if core::mem::take(&mut self.shown) {
            output::inform("\r\x1b[K");
        }
    }
}
