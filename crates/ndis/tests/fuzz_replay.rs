//! Replays the fuzz target's seeds and what once crashed it (CONTRIBUTING.md, "Fuzzing").

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/checks/oid_buffers.rs"]
mod oid_buffers;

#[test]
fn oid_buffers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut replayed = 0;
    for directory in ["fuzz/seeds/oid_buffers", "testdata/crashes/oid_buffers"] {
        // Crashes there are only when there have been some.
        let Ok(entries) = fs::read_dir(root.join(directory)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            oid_buffers::check(&fs::read(&path).unwrap());
            replayed += 1;
        }
    }
    assert!(replayed >= 17, "{replayed} files");
}
