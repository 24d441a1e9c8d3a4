//! Replays the fuzz targets' seeds and what once crashed them (CONTRIBUTING.md, "Fuzzing"). Here and not among `tests/`, because the targets' provider is not
//! there for users of the crate.

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/checks/ah.rs"]
mod ah;
#[path = "../../../fuzz/checks/esp_open.rs"]
mod esp_open;
#[path = "../../../fuzz/checks/ipv6_chain.rs"]
mod ipv6_chain;

#[test]
fn ah() {
    assert!(replay("ah", ah::check) >= 20);
}

#[test]
fn esp_open() {
    assert!(replay("esp_open", esp_open::check) >= 8);
}

#[test]
fn ipv6_chain() {
    assert!(replay("ipv6_chain", ipv6_chain::check) >= 15);
}

/// Returns how many files there were.
fn replay(target: &str, check: fn(&[u8])) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut replayed = 0;
    for directory in ["fuzz/seeds", "testdata/crashes"] {
        // Crashes there are only when there have been some.
        let Ok(entries) = fs::read_dir(root.join(directory).join(target)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            check(&fs::read(&path).unwrap());
            replayed += 1;
        }
    }
    replayed
}
