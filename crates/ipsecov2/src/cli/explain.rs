//! `ipsecov2 explain`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use ipsec::Crypto;
use serde::Serialize;

use super::output::{self, Failure};
use super::sa_file::SaArguments;
use crate::explain::{Explanation, SaExplanation, explain};
use crate::profile::Profile;

/// The name of the document's form.
const SCHEMA: &str = "ipsecov2-explain-1";

const EXAMPLES: &str = "\
Examples:
  ipsecov2 explain --sa sa.toml
  ipsecov2 explain --sa sa.toml --profile intel-82599 --profile chelsio-t6
  ip xfrm state | ipsecov2 explain --sa - --local 192.0.2.2 --json | jq '.profiles[].sas[] | select(.reason.code != \"offloaded\")'

Without --profile it shows the software NIC and all cards that the program knows. docs/profiles.md says how to write a profile, docs/json.md describes the
document.";

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The SAs: TOML, what ip xfrm state prints, or Wireshark's `esp_sa` table; - is standard input.
    #[arg(long, value_name = "SAFILE")]
    sa: PathBuf,
    /// A NIC: one that the program knows, or a profile's file. Can be given several times.
    #[arg(long, value_name = "NAME|FILE")]
    profile: Vec<String>,
    /// Writes a JSON document.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rules: SaArguments,
}

#[derive(Debug, Serialize)]
struct Document {
    schema: &'static str,
    profiles: Vec<Explanation>,
}

pub(super) fn run(arguments: &Arguments, crypto: Crypto) -> Result<(), Failure> {
    let profiles = if arguments.profile.is_empty() {
        Profile::built_in().to_vec()
    } else {
        arguments.profile.iter().map(|name| Profile::find(name)).collect::<Result<_, _>>().map_err(Failure::usage)?
    };
    let file = arguments.rules.read(&arguments.sa, None)?;
    let mut explained = Vec::with_capacity(profiles.len());
    for profile in &profiles {
        let sas = file.bundles.iter().map(|bundle| bundle.parameters.duplicate()).collect();
        explained.push(explain(sas, profile, crypto).map_err(|error| Failure::failed(format_args!("{}: {error}", profile.name)))?);
    }
    let document = Document { schema: SCHEMA, profiles: explained };
    if arguments.json { output::print_json(&document) } else { output::print(&text(&document.profiles)) }
}

/// SAs by profiles, and below it the reasons in words.
fn text(profiles: &[Explanation]) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    let names: Vec<&str> = profiles.first().map_or_else(Vec::new, |profile| profile.sas.iter().map(|sa| sa.name.as_str()).collect());
    let first = names.iter().map(|name| name.chars().count()).chain(["fit".len()]).max().unwrap_or(0);
    let fits: Vec<String> = profiles.iter().map(fit).collect();
    let verdict = |sa: &SaExplanation| if sa.reason.code == "offloaded" { "yes".to_owned() } else { sa.reason.code.to_owned() };
    let widths: Vec<usize> = profiles
        .iter()
        .zip(&fits)
        .map(|(profile, fit)| profile.sas.iter().map(|sa| verdict(sa).len()).chain([profile.profile.chars().count(), fit.len()]).max().unwrap_or(0))
        .collect();
    // As many NICs beside one another as a terminal is wide.
    let mut from = 0;
    while from < profiles.len() {
        let mut width = first;
        let to = (from..profiles.len()).find(|&at| {
            width += 2 + widths[at];
            width > 120 && at > from
        });
        let range = from..to.unwrap_or(profiles.len());
        from = range.end;
        let mut row = |title: &str, cells: &mut dyn Iterator<Item = String>| {
            let mut line = format!("{title:<first$}");
            for (cell, width) in cells.zip(&widths[range.clone()]) {
                let _ = write!(line, "  {cell:<width$}");
            }
            let _ = writeln!(text, "{}", line.trim_end());
        };
        row("SA", &mut profiles[range.clone()].iter().map(|profile| profile.profile.clone()));
        for (number, name) in names.iter().enumerate() {
            row(name, &mut profiles[range.clone()].iter().map(|profile| profile.sas.get(number).map_or_else(String::new, verdict)));
        }
        row("fit", &mut fits[range.clone()].iter().cloned());
        text.push('\n');
    }
    for profile in profiles {
        let _ = writeln!(text, "{}: {}", profile.profile, profile.title);
        for sa in profile.sas.iter().filter(|sa| sa.reason.code != "offloaded") {
            let sure = sa.confidence.map_or_else(String::new, |confidence| format!(" ({confidence})"));
            let _ = writeln!(text, "  {}: {}{sure}", sa.name, sa.text);
            if !sa.changes.is_empty() {
                let _ = writeln!(text, "    would be offloaded with: {}", sa.changes.join("; "));
            }
        }
        for note in &profile.notes {
            let _ = writeln!(text, "  note: {note}");
        }
    }
    text
}

fn fit(profile: &Explanation) -> String {
    let sure = profile.capacity_confidence.filter(|confidence| *confidence != "confirmed").map_or_else(String::new, |confidence| format!(", {confidence}"));
    format!("{} of {} (holds {}{sure})", profile.offloaded, profile.sas.len(), profile.capacity)
}
