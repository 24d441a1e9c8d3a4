//! Replays the fuzz target's seeds and what once crashed it (CONTRIBUTING.md, "Fuzzing").

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/checks/nbl.rs"]
mod nbl;

#[test]
fn nbl() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut replayed = 0;
    for directory in ["fuzz/seeds/nbl", "testdata/crashes/nbl"] {
        // Crashes there are only when there have been some.
        let Ok(entries) = fs::read_dir(root.join(directory)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            nbl::check(&fs::read(&path).unwrap());
            replayed += 1;
        }
    }
    assert!(replayed >= 10, "{replayed} files");
}
