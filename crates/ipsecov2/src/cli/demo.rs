//! `ipsecov2 demo`.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use ipsec::Crypto;
use link::capture::{CaptureFormat, is_same_file};
use ndis::{Offload, TraceEvent, TraceSink};
use serde_json::{Value, json};

use super::caps::capabilities;
use super::output::{self, Failure};
use super::sa_file::SaArguments;
use crate::demo::{self, AdapterReport, Beginning, Observer, Options, PhaseReport, Rate, Report, Side, Tally, Traffic, WireFile, group};
use crate::profile::Profile;

/// The name of the document's form.
const SCHEMA: &str = "ipsecov2-demo-1";
/// Columns for what an adapter offers.
const WORDS_WIDTH: usize = 76;
/// How often progress is shown.
const PROGRESS: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Examples:
  ipsecov2 demo
  ipsecov2 demo --traffic my.pcapng --wire wire.pcapng
  ipsecov2 demo --wire wire.pcapng --decryption-secrets
  ipsecov2 demo --sa sa.toml --traffic my.pcapng
  ipsecov2 demo --repeat 100 --crypto rustcrypto
  ipsecov2 demo --profile intel-82599
  ipsecov2 demo --json | jq '.checks[] | select(.passed | not)'

It needs no privileges: hosts, adapters and wire are in memory. Every IP packet is protected; frames that are not IP are bypassed by policy and stay in \
clear. The exit code is 1 if a check fails. docs/json.md describes the document.";

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The capture whose packets the hosts exchange, pcap or pcapng, `-` for standard input; it is read into memory. By default one of real programs'
    /// traffic that comes with the program.
    #[arg(long, value_name = "FILE")]
    traffic: Option<PathBuf>,
    /// The SAs of host a or b, whichever fits the traffic, in place of random ones: outbound what it sends under, inbound what it gets; the other host has
    /// them the other way round. Packets that they do not carry do not travel. `-` is standard input.
    #[arg(long, value_name = "SAFILE")]
    sa: Option<PathBuf>,
    #[command(flatten)]
    rules: SaArguments,
    /// Writes what was on the wire (pcapng, or pcap by its suffix), `-` for standard output.
    #[arg(long, value_name = "FILE")]
    wire: Option<PathBuf>,
    /// Puts the ESP keys into that file, so that viewers can decrypt it; only its owner may read it then.
    #[arg(long, requires = "wire")]
    decryption_secrets: bool,
    /// Runs the capture through so many times, for a longer measurement.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    repeat: u32,
    /// Threads that do each host's work: a flow's packets are one's, received packets of an SA, too. With 1 the program does it itself.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    workers: u8,
    /// The NIC of both hosts: one that the program knows, or a profile's file. What it does not take is done in software.
    #[arg(long, value_name = "NAME|FILE", default_value = "software")]
    profile: String,
    /// Shows requests and statuses at both adapters, on standard error.
    #[arg(long)]
    trace: bool,
    /// Writes the results as a JSON document to standard output, at the end.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, crypto: Crypto) -> Result<(), Failure> {
    let to_stdout = arguments.wire.as_deref().is_some_and(|path| path.as_os_str() == "-");
    if to_stdout && arguments.json {
        return Err(Failure::usage("the wire and --json cannot both go to standard output"));
    }
    if let (Some(traffic), Some(wire)) = (&arguments.traffic, &arguments.wire)
        && is_same_file(traffic, wire).map_err(|error| Failure::failed(format_args!("{}: {error}", wire.display())))?
    {
        return Err(Failure::usage(format_args!("{}: the wire and the traffic are the same file", wire.display())));
    }
    if let Some(wire) = arguments.wire.as_deref().filter(|wire| arguments.decryption_secrets && CaptureFormat::from_path(wire) == CaptureFormat::Pcap) {
        return Err(Failure::usage(format_args!("{}: --decryption-secrets needs a pcapng file; this is pcap by its suffix", wire.display())));
    }
    let profile = (arguments.profile != "software").then(|| Profile::find(&arguments.profile)).transpose().map_err(Failure::usage)?;
    let traffic = match &arguments.traffic {
        Some(path) => Traffic::open(path),
        None => Traffic::shipped(),
    }
    .map_err(Failure::failed)?;
    let sas = match &arguments.sa {
        None => None,
        Some(path) => Some(arguments.rules.read(path, None)?.bundles.into_iter().map(|bundle| bundle.parameters).collect::<Vec<_>>()),
    };
    let options = Options {
        crypto,
        repeat: arguments.repeat,
        workers: usize::from(arguments.workers),
        profile,
        wire: arguments.wire.as_ref().map(|path| WireFile { path: path.clone(), secrets: arguments.decryption_secrets }),
        trace: arguments.trace.then(|| Side::BOTH.map(|side| Arc::new(Lines(side.name())) as Arc<dyn TraceSink>)),
    };
    let text = (!arguments.json).then(|| Text::new(to_stdout));
    let mut screen = Screen { text, progress: Progress::new(), failure: None };
    let result = match sas {
        None => demo::run(&traffic, &options, &mut screen),
        Some(sas) => demo::run_with(&sas, traffic, &options, &mut screen),
    };
    screen.progress.clear();
    if let Some(failure) = screen.failure {
        return Err(failure);
    }
    let report = result.map_err(Failure::failed)?;
    match &screen.text {
        None => output::print_json(&document(&report))?,
        Some(text) => text.print(&text.end(&report))?,
    }
    verdict(&report)
}

/// A check that fails makes the command fail.
fn verdict(report: &Report) -> Result<(), Failure> {
    let failed = report.checks.iter().filter(|check| !check.passed).count();
    if failed == 0 { Ok(()) } else { Err(Failure::failed(format_args!("demo: {failed} of {} checks failed", report.checks.len()))) }
}

/// Shows what passes at an adapter.
struct Lines(&'static str);

impl TraceSink for Lines {
    fn trace(&self, event: TraceEvent) {
        output::inform(&format!("{}: {event}\n", self.0));
    }
}

/// What people see.
struct Screen {
    text: Option<Text>,
    progress: Progress,
    /// Standard output failed.
    failure: Option<Failure>,
}

impl Screen {
    fn show(&mut self, make: impl FnOnce(&Text) -> String) {
        if let (Some(text), None) = (&self.text, &self.failure) {
            self.progress.clear();
            if let Err(failure) = text.print(&make(text)) {
                self.failure = Some(failure);
            }
        }
    }
}

impl Observer for Screen {
    fn begun(&mut self, beginning: &Beginning) {
        self.show(|text| text.beginning(beginning));
    }

    fn progress(&mut self, sent: u64, all: u64) {
        self.progress.show(sent, all);
    }

    fn phase(&mut self, phase: &PhaseReport) {
        self.show(|_| phase_lines(phase));
    }
}

/// A line on the terminal that says how far it is; nothing where standard error is none.
struct Progress {
    terminal: bool,
    shown: bool,
    last: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), shown: false, last: Instant::now() }
    }

    fn show(&mut self, sent: u64, all: u64) {
        if self.terminal && self.last.elapsed() >= PROGRESS {
            (self.last, self.shown) = (Instant::now(), true);
            output::inform(&format!("\r{} of {} packets, {} %\x1b[K", group(sent), group(all), sent * 100 / all.max(1)));
        }
    }

    fn clear(&mut self) {
        if core::mem::take(&mut self.shown) {
            output::inform("\r\x1b[K");
        }
    }
}

/// The report for people, in 90 columns but for long names.
struct Text {
    /// Emphasis by escape sequences.
    styled: bool,
    /// Standard output is the wire's.
    on_stderr: bool,
}

impl Text {
    fn new(on_stderr: bool) -> Self {
        let terminal = if on_stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { styled: terminal && wanted, on_stderr }
    }

    fn print(&self, text: &str) -> Result<(), Failure> {
        if self.on_stderr {
            // Nobody reads it: nothing is lost, for the exit code says the same.
            let _ = io::stderr().lock().write_all(text.as_bytes());
            return Ok(());
        }
        output::print(text)
    }

    fn style(&self, code: &str, text: &str) -> String {
        if self.styled { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn title(&self, text: &str) -> String {
        self.style("1", text)
    }

    fn beginning(&self, beginning: &Beginning) -> String {
        let mut out = String::new();
        let traffic = &beginning.traffic;
        let file = traffic.file.as_deref().unwrap_or("the capture that comes with the program");
        let rounds = if traffic.repeat == 1 { String::new() } else { format!(", {} times", group(traffic.repeat.into())) };
        let _ = writeln!(out, "{}  {file}: {} packets, {} kB{rounds}", self.title("Traffic"), group(traffic.packets), group(traffic.bytes.div_ceil(1000)));
        let _ = writeln!(
            out,
            "         {} protected, {} bypassed (not IP, stays in clear), {} skipped",
            group(traffic.protected),
            group(traffic.bypassed),
            group(traffic.skipped.total())
        );
        for (reason, count) in traffic.skipped.by_reason().into_iter().filter(|(_, count)| *count != 0) {
            let _ = writeln!(out, "         skipped: {} {reason}", group(count));
        }
        let [a, b] = &beginning.adapters;
        let medium = if traffic.medium == "ethernet" { "Ethernet" } else { "IP" };
        let nic = if beginning.profile == "software" { String::new() } else { format!(" as {}", beginning.profile) };
        let _ = writeln!(
            out,
            "\n{}    a and b, each with a software NIC{nic} (NDIS {}, {}), and {medium} in memory",
            self.title("Hosts"),
            a.version,
            beginning.crypto
        );
        for (names, adapter) in if same(a, b) { vec![("The adapters of a and b", a)] } else { vec![("The adapter of a", a), ("The adapter of b", b)] } {
            let _ = writeln!(out, "\n{}", self.title(names));
            let _ = writeln!(out, "  hardware   {}", offered(&adapter.hardware));
            let default = if adapter.default == adapter.hardware { "all of it".to_owned() } else { offered(&adapter.default) };
            let _ = writeln!(out, "  default    {default}");
            let _ = writeln!(out, "  activated  {}", adapter.activated);
            let current = if adapter.current == adapter.default { "the default".to_owned() } else { offered(&adapter.current) };
            let _ = writeln!(out, "  in force   {current}");
        }
        let origin = if beginning.from_file { "the SAs of the file, on b the other way round" } else { "an SA each way, with random keys, SPIs and IV masks" };
        let _ = writeln!(out, "\n{} {origin}", self.title("Connections:"));
        let width = beginning.connections.iter().map(|connection| connection.name.chars().count()).max().unwrap_or_default().max(6);
        let _ = writeln!(out, "  {:<width$} {:<16}  {:<24} NIC", "name", "mode", "carries");
        for connection in &beginning.connections {
            let version = |name: &str| if name == "IP" { name.to_owned() } else { name.trim_start_matches("IP").to_owned() };
            let mode = match connection.mode {
                "tunnel" => format!("tunnel, {} in {}", version(connection.inner), version(connection.outer)),
                mode => mode.to_owned(),
            };
            let [a, b] = &connection.offload;
            let offload = if a == b { format!("a, b: {a}") } else { format!("a: {a}; b: {b}") };
            let _ = writeln!(out, "  {:<width$} {mode:<16}  {:<24} {offload}", connection.name, connection.carries);
            let mut words = vec![connection.algorithms.clone(), format!("ICV {}", connection.icv_length)];
            words.extend(connection.extended_sequence_numbers.then(|| "ESN".to_owned()));
            words.extend(connection.udp_encapsulation.then(|| "in UDP".to_owned()));
            words.extend(connection.inside.as_ref().map(|tunnel| format!("inside {tunnel}")));
            let _ = writeln!(out, "  {:<width$} {}; {} - {}", "", words.join(", "), connection.ends[0], connection.ends[1]);
        }
        let _ = writeln!(out, "\n{} (b offloads all the time)", self.title("Phases of host a's adapter"));
        let _ = writeln!(out, "  {:<46} {:^19} {:^19}", "", "a sends", "a receives");
        let _ = writeln!(out, "    {:<44} {:>9} {:>9} {:>9} {:>9}", "", "offloaded", "software", "offloaded", "software");
        out
    }

    fn end(&self, report: &Report) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "\n{} {:>21} {:>21} {:>9} {:>9}", self.pad("Sums", 12), "offloaded", "software", "bypassed", "dropped");
        for (side, host) in Side::BOTH.into_iter().zip(&report.totals) {
            for (name, way) in [("sends", &host.sent), ("receives", &host.received)] {
                let dropped: u64 = way.dropped.values().sum();
                let _ = writeln!(
                    out,
                    "  {:<10} {:>21} {:>21} {:>9} {:>9}",
                    format!("{} {name}", side.name()),
                    packets_and_bytes(way.offloaded),
                    packets_and_bytes(way.software),
                    group(way.bypassed.packets),
                    group(dropped)
                );
                for (reason, count) in &way.software_because {
                    let _ = writeln!(out, "             in software: {} {reason}", group(*count));
                }
                for (reason, count) in &way.dropped {
                    let _ = writeln!(out, "             dropped: {} {reason}", group(*count));
                }
            }
        }
        for (side, requests) in Side::BOTH.into_iter().zip(&report.requests) {
            let _ = writeln!(
                out,
                "  requests of {}: ADD_SA {} ({} refused), DELETE_SA {}, UPDATE_SA {}",
                side.name(),
                requests.added + requests.refused,
                requests.refused,
                requests.deleted,
                requests.updated
            );
        }
        let _ = writeln!(out, "  both hosts: {} packets in {:.1} ms of one core: {}", group(report.packets), report.seconds * 1e3, rate(report.rate));
        let _ = writeln!(out, "\n{}", self.title("Checks"));
        for result in &report.checks {
            let verdict = if result.passed { self.style("32", "ok    ") } else { self.style("1;31", "FAILED") };
            let _ = writeln!(out, "  {verdict}  {}", result.check.title());
            let _ = writeln!(out, "          {}", result.looked_at);
            for failure in &result.first {
                let _ = writeln!(out, "          {failure}");
            }
            let more = result.failures - result.first.len() as u64;
            if more != 0 {
                let _ = writeln!(out, "          and {} more", group(more));
            }
        }
        if let Some(wire) = &report.wire {
            let _ = writeln!(out, "\n{}     {wire}", self.title("Wire"));
        }
        out
    }

    /// A title, padded as it looks.
    fn pad(&self, text: &str, width: usize) -> String {
        format!("{}{}", self.title(text), " ".repeat(width.saturating_sub(text.len())))
    }
}

/// Whether two adapters said the same.
fn same(a: &AdapterReport, b: &AdapterReport) -> bool {
    (a.hardware, a.default, a.current, &a.activated) == (b.hardware, b.default, b.current, &b.activated)
}

/// What of IPsec a set offers, on a few lines that fit behind a name.
fn offered(offload: &Offload) -> String {
    let set = &offload.ipsec_v2;
    if !set.is_supported() {
        return "no IPsec offload".to_owned();
    }
    let mut words: Vec<String> = [
        (set.ah, "AH"),
        (set.esp, "ESP"),
        (set.ah_esp_combined, "AH over ESP"),
        (set.transport, "transport"),
        (set.tunnel, "tunnel"),
        (set.transport_tunnel_combined, "transport over tunnel"),
        (!set.udp_esp.is_empty(), "UDP-ESP"),
        (set.ipv6_supported, "IPv6"),
        (set.extended_sequence_numbers, "ESN"),
    ]
    .into_iter()
    .filter(|(there, _)| *there)
    .map(|(_, name)| name.to_owned())
    .collect();
    words.extend(short(set.encryption_algorithms.iter_names().map(|(name, _)| name.replace('_', "-"))));
    words.extend(short(set.authentication_algorithms.iter_names().map(|(name, _)| name.replace('_', "-").replace("GCM", "GMAC"))));
    words.push(format!("{} SAs", group(set.sa_offload_capacity.into())));
    let mut lines = vec![String::new()];
    for (at, word) in words.iter().enumerate() {
        let separator = if at + 1 == words.len() { "" } else { "," };
        match lines.last_mut() {
            Some(line) if line.is_empty() => *line = format!("{word}{separator}"),
            Some(line) if line.len() + word.len() + separator.len() < WORDS_WIDTH => line.extend([" ", word, separator]),
            _ => lines.push(format!("{word}{separator}")),
        }
    }
    lines.join("\n             ")
}

/// Names, of which those that differ in their last part only are put together: AES-GCM-128/192/256.
fn short(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for name in names {
        match (list.last_mut(), name.rsplit_once('-')) {
            (Some(last), Some((stem, end))) if last.rsplit_once('-').is_some_and(|(other, _)| other == stem) => {
                last.push('/');
                last.push_str(end);
            }
            _ => list.push(name),
        }
    }
    list
}

fn phase_lines(phase: &PhaseReport) -> String {
    let mut out = format!(
        "  {} {:<44} {:>9} {:>9} {:>9} {:>9}\n",
        phase.number,
        phase.event,
        group(phase.a.sent.offloaded.packets),
        group(phase.a.sent.software.packets),
        group(phase.a.received.offloaded.packets),
        group(phase.a.received.software.packets)
    );
    let indicated = if phase.indicated { "CURRENT_CONFIG indicated, " } else { "" };
    let sas = if phase.sas_offloaded == 0 { "no".to_owned() } else { phase.sas_offloaded.to_string() };
    let rate = Rate::new(phase.packets, phase.bytes, Duration::try_from_secs_f64(phase.seconds).unwrap_or_default());
    let _ = writeln!(out, "    {indicated}{sas} SAs in the NIC; {}", self::rate(rate));
    let mut notes = Vec::new();
    if phase.in_flight != 0 {
        notes.push(format!("{} packets were on the wire", group(phase.in_flight)));
    }
    if phase.a.sent.given_back != 0 {
        notes.push(format!("{} came back from the NIC", group(phase.a.sent.given_back)));
    }
    if phase.offload && phase.a.sent.software.packets != 0 {
        notes.push("software until UPDATE_SA tells the NIC of a new high half".to_owned());
    }
    if !notes.is_empty() {
        let _ = writeln!(out, "    {}", notes.join(", "));
    }
    out
}

fn packets_and_bytes(tally: Tally) -> String {
    format!("{} ({} kB)", group(tally.packets), group(tally.bytes.div_ceil(1000)))
}

fn rate(rate: Rate) -> String {
    format!("{:.2} million packets/s, {:.2} Gbit/s", rate.packets_per_second / 1e6, rate.gigabits_per_second)
}

fn document(report: &Report) -> Value {
    let beginning = &report.beginning;
    let host = |at: usize| {
        let adapter = &beginning.adapters[at];
        json!({
            "adapter": adapter.adapter,
            "ndis_version": adapter.version,
            "ipsec_service": adapter.service,
            "hardware": capabilities(&adapter.hardware),
            "default": capabilities(&adapter.default),
            "current": capabilities(&adapter.current),
            "activated": adapter.activated,
            "requests": report.requests[at],
            "totals": report.totals[at],
        })
    };
    let phases: Vec<Value> = report.phases.iter().map(phase).collect();
    json!({
        "schema": SCHEMA,
        "passed": report.passed(),
        "crypto": beginning.crypto,
        "profile": beginning.profile,
        "traffic": beginning.traffic,
        "hosts": { "a": host(0), "b": host(1) },
        "connections": beginning.connections,
        "phases": phases,
        "packets": report.packets,
        "bytes": report.bytes,
        "seconds": report.seconds,
        "rate": report.rate,
        "checks": report.checks,
        "wire": report.wire,
    })
}

fn phase(phase: &PhaseReport) -> Value {
    let mut value = json!(phase);
    let time = Duration::try_from_secs_f64(phase.seconds).unwrap_or_default();
    value["rate"] = json!(Rate::new(phase.packets, phase.bytes, time));
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_is_told_and_fails() {
        let mut report = demo::run(&Traffic::shipped().unwrap(), &Options::default(), &mut ()).unwrap();
        let text = Text { styled: false, on_stderr: false };
        assert!(verdict(&report).is_ok() && !text.end(&report).contains("FAILED") && document(&report)["passed"] == true);
        let check = &mut report.checks[1];
        (check.passed, check.failures, check.first) = (false, 7, vec!["packet 3: clear text at byte 5 of its ESP".to_owned()]);
        assert!(matches!(verdict(&report), Err(Failure::Failed(message)) if message == "demo: 1 of 6 checks failed"));
        let told = text.end(&report);
        for line in ["  FAILED  no clear text on the wire\n", "          packet 3: clear text at byte 5 of its ESP\n", "          and 6 more\n"] {
            assert!(told.contains(line), "{told}");
        }
        assert_eq!((&document(&report)["passed"], &document(&report)["checks"][1]["failures"]), (&json!(false), &json!(7)));
    }

    #[test]
    fn names_are_put_together() {
        let names = ["AES-GCM-128", "AES-GCM-256", "SHA-256", "NONE"];
        assert_eq!(short(names.into_iter().map(str::to_owned)), ["AES-GCM-128/256", "SHA-256", "NONE"]);
    }

    #[test]
    fn styles_only_where_they_are_wanted() {
        assert_eq!(Text { styled: false, on_stderr: false }.title("x"), "x");
        assert_eq!(Text { styled: true, on_stderr: false }.pad("x", 3), "\x1b[1mx\x1b[0m  ");
    }
}
