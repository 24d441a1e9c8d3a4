//! Replays the fuzz target's seeds and what once crashed it (CONTRIBUTING.md, "Fuzzing").

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/checks/large_send.rs"]
mod large_send;
#[path = "../../../fuzz/checks/nbl.rs"]
mod nbl;

#[test]
fn nbl() {
    replay("nbl", nbl::check);
}

#[test]
fn large_send() {
    replay("large_send", large_send::check);
}

fn replay(target: &str, check: fn(&[u8])) {
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
    assert!(replayed >= 10, "{replayed} files");
}
