//! Whatever a NIC takes on or leaves to software, the capture that comes out is the same: each run of `pcap` in these tests that has files for input and
//! output is repeated under every profile.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use ipsecov2::profile::Profile;
use serde_json::Value;

use crate::tool::{Run, Tool, lines};

/// Runs that were repeated.
static REPEATED: AtomicUsize = AtomicUsize::new(0);

/// Repeats a run that has ended, and wants the same exit code, the same OUT, and the same verdict on every packet.
pub(crate) fn same_under_every_card(tool: &Tool, arguments: &[&str], run: &Run) {
    let is_pcap = matches!(arguments, ["pcap", "protect" | "open", ..]);
    // Streams are read once; what another test chooses it means.
    let kept = ["-", "--profile", "--esp-sa", "--help"];
    let (Some((&out, before)), Some(0 | 1)) = (arguments.split_last(), run.code) else { return };
    if !is_pcap || arguments.iter().any(|argument| kept.contains(argument)) || !tool.path(out).is_file() {
        return;
    }
    REPEATED.fetch_add(1, Ordering::Relaxed);
    // Masks are random unless a seed is given.
    let seed: &[&str] = if before.contains(&"protect") && !before.contains(&"--iv-seed") { &["--iv-seed", "5eed"] } else { &[] };
    let mut first: Option<Outcome> = None;
    for profile in Profile::built_in() {
        let card = profile.name.as_str();
        let beside = format!("card-{}", Path::new(out).file_name().unwrap().to_str().unwrap());
        let mut again: Vec<&str> = before.to_vec();
        if let Some(report) = again.iter().position(|argument| *argument == "--report") {
            again[report + 1] = "card-report.jsonl";
        }
        let again = [&again[..2], &["--profile", card], seed, &again[2..], &[&beside]].concat();
        let code = tool.command(&again).output().unwrap().status.code();
        let verdicts = fs::read(tool.path("card-report.jsonl")).map(|report| lines(&report).iter().map(verdict).collect()).unwrap_or_default();
        let outcome = Outcome { code, out: fs::read(tool.path(&beside)).ok(), verdicts };
        let _ = fs::remove_file(tool.path(&beside));
        if run.code == Some(1) && outcome.code == Some(0) {
            // It failed for where it was to write, which is another place here.
            return;
        }
        assert_eq!(outcome.code, run.code, "{card}: {again:?}");
        assert!(outcome.out.is_some() || run.code == Some(1), "{card}: {again:?}: no OUT");
        // Where nothing could be read OUT stays what it was.
        if seed.is_empty() && outcome.out.is_some() {
            assert!(outcome.out == Some(tool.read(out)), "{card}: {again:?}: another OUT");
        }
        let first = first.get_or_insert_with(|| outcome.clone());
        assert!(outcome.out == first.out, "{card}: {again:?}: another OUT than the first card's");
        assert_eq!(outcome.verdicts, first.verdicts, "{card}: {again:?}");
    }
    let _ = fs::remove_file(tool.path("card-report.jsonl"));
}

#[derive(Clone)]
struct Outcome {
    code: Option<i32>,
    out: Option<Vec<u8>>,
    verdicts: Vec<Value>,
}

/// What a line of a report says beside what the NIC has done.
fn verdict(line: &Value) -> Value {
    serde_json::json!([line["verdict"], line["reason"], line["associations"]])
}

/// Runs are repeated, and one that comes out otherwise is found.
#[test]
fn another_outcome_is_found() {
    let tool = Tool::new();
    let ends = ("192.0.2.1", "192.0.2.2");
    let selectors = "selectors = [ { source = \"0.0.0.0/0\" } ]";
    tool.write("sa.toml", crate::tool::sa("all", "outbound", "tunnel", ends, 0x1001, selectors, ""));
    tool.write_capture("in.pcap", &[crate::tool::Packet::raw(crate::tool::udp("10.0.0.1", "10.0.0.2", 100))]);
    let arguments = ["pcap", "protect", "--sa", "sa.toml", "--iv-seed", "01", "in.pcap", "out.pcap"];
    let before = REPEATED.load(Ordering::Relaxed);
    let run = tool.run(&arguments).succeeds();
    assert!(REPEATED.load(Ordering::Relaxed) > before);
    assert!(!tool.path("card-out.pcap").exists());
    let mut other = tool.read("out.pcap");
    *other.last_mut().unwrap() ^= 1;
    tool.write("out.pcap", other);
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| same_under_every_card(&tool, &arguments, &run)));
    assert!(found.is_err());
}
