//! Replays the fuzz targets' seeds and what once crashed them (CONTRIBUTING.md, "Fuzzing").

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/checks/large_send.rs"]
mod large_send;
#[path = "../../../fuzz/checks/nbl.rs"]
mod nbl;
#[path = "../../../fuzz/checks/oid_v1.rs"]
mod oid_v1;

#[test]
fn nbl() {
    replay("nbl", nbl::check, 10);
}

#[test]
fn large_send() {
    replay("large_send", large_send::check, 10);
}

#[test]
fn oid_v1() {
    replay("oid_v1", oid_v1::check, 8);
}

fn replay(target: &str, check: impl Fn(&[u8]), least: usize) {
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
    assert!(replayed >= least, "{replayed} files");
}
